# tests/fuzz/ - one program fuzz_<target> each, from fuzz_<target>.c, with seeds
# in seeds/<target>/. Plain builds link replay.c, which runs and mutates the
# seeds under `make check`; --enable-fuzzers links libFuzzer instead (clang):
#   build/tests/fuzz/fuzz_gguf -max_total_time=60 tests/fuzz/seeds/gguf
# To add one: three lines below, the .c file, at least one seed.
EXTRA_DIST += tests/fuzz/make_seeds.py tests/fuzz/model_seeds.py \
  tests/fuzz/seeds tests/fuzz/replay.c
if FUZZERS
fuzz_main =
fuzz_ldadd = libbise.a $(BISE_LIBS) $(LIB_FUZZING_ENGINE)
else
fuzz_main = tests/fuzz/replay.c
fuzz_ldadd = libbise.a $(BISE_LIBS)
endif
fuzz_targets =

fuzz_targets += tests/fuzz/fuzz_safetensors
tests_fuzz_fuzz_safetensors_SOURCES = tests/fuzz/fuzz_safetensors.c $(fuzz_main)
tests_fuzz_fuzz_safetensors_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_gguf
tests_fuzz_fuzz_gguf_SOURCES = tests/fuzz/fuzz_gguf.c $(fuzz_main)
tests_fuzz_fuzz_gguf_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_yaml
tests_fuzz_fuzz_yaml_SOURCES = tests/fuzz/fuzz_yaml.c $(fuzz_main)
tests_fuzz_fuzz_yaml_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_index
tests_fuzz_fuzz_index_SOURCES = tests/fuzz/fuzz_index.c $(fuzz_main)
tests_fuzz_fuzz_index_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_config
tests_fuzz_fuzz_config_SOURCES = tests/fuzz/fuzz_config.c $(fuzz_main)
tests_fuzz_fuzz_config_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_adapter
tests_fuzz_fuzz_adapter_SOURCES = tests/fuzz/fuzz_adapter.c $(fuzz_main)
tests_fuzz_fuzz_adapter_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_rows
tests_fuzz_fuzz_rows_SOURCES = tests/fuzz/fuzz_rows.c $(fuzz_main)
tests_fuzz_fuzz_rows_CPPFLAGS = $(test_cppflags)
tests_fuzz_fuzz_rows_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_archive
tests_fuzz_fuzz_archive_SOURCES = tests/fuzz/fuzz_archive.c $(fuzz_main)
tests_fuzz_fuzz_archive_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_tekken
tests_fuzz_fuzz_tekken_SOURCES = tests/fuzz/fuzz_tekken.c tests/fuzz/fuzz_tokenizer.h $(fuzz_main)
tests_fuzz_fuzz_tekken_CPPFLAGS = $(test_cppflags)
tests_fuzz_fuzz_tekken_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_tokenizer_json
tests_fuzz_fuzz_tokenizer_json_SOURCES = tests/fuzz/fuzz_tokenizer_json.c tests/fuzz/fuzz_tokenizer.h $(fuzz_main)
tests_fuzz_fuzz_tokenizer_json_CPPFLAGS = $(test_cppflags)
tests_fuzz_fuzz_tokenizer_json_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_spm
tests_fuzz_fuzz_spm_SOURCES = tests/fuzz/fuzz_spm.c tests/fuzz/fuzz_tokenizer.h $(fuzz_main)
tests_fuzz_fuzz_spm_CPPFLAGS = $(test_cppflags)
tests_fuzz_fuzz_spm_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_chat
tests_fuzz_fuzz_chat_SOURCES = tests/fuzz/fuzz_chat.c $(fuzz_main)
tests_fuzz_fuzz_chat_CPPFLAGS = $(test_cppflags)
tests_fuzz_fuzz_chat_LDADD = $(fuzz_ldadd)

EXTRA_DIST += tests/fuzz/tokenizer_seeds.py

fuzz_targets += tests/fuzz/fuzz_settings
tests_fuzz_fuzz_settings_SOURCES = tests/fuzz/fuzz_settings.c $(fuzz_main)
tests_fuzz_fuzz_settings_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_runlog
tests_fuzz_fuzz_runlog_SOURCES = tests/fuzz/fuzz_runlog.c $(fuzz_main)
tests_fuzz_fuzz_runlog_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_codecs
tests_fuzz_fuzz_codecs_SOURCES = tests/fuzz/fuzz_codecs.c $(fuzz_main)
tests_fuzz_fuzz_codecs_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_token_cache
tests_fuzz_fuzz_token_cache_SOURCES = tests/fuzz/fuzz_token_cache.c $(fuzz_main)
tests_fuzz_fuzz_token_cache_LDADD = $(fuzz_ldadd)
fuzz_targets += tests/fuzz/fuzz_imatrix
tests_fuzz_fuzz_imatrix_SOURCES = tests/fuzz/fuzz_imatrix.c $(fuzz_main)
tests_fuzz_fuzz_imatrix_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_planes
tests_fuzz_fuzz_planes_SOURCES = tests/fuzz/fuzz_planes.c $(fuzz_main)
tests_fuzz_fuzz_planes_LDADD = $(fuzz_ldadd)

fuzz_targets += tests/fuzz/fuzz_frames
tests_fuzz_fuzz_frames_SOURCES = tests/fuzz/fuzz_frames.c $(fuzz_main)
tests_fuzz_fuzz_frames_LDADD = $(fuzz_ldadd)

check_PROGRAMS += $(fuzz_targets)
if !FUZZERS
TESTS += $(fuzz_targets)
endif

# what ./quickstart check runs under libFuzzer
fuzzers: $(fuzz_targets)
.PHONY: fuzzers
