# convert/ - plans from layout to layout, adapters between formats
libbise_a_SOURCES += %D%/config_parts.c %D%/config_parts.h %D%/config_out.c \
  %D%/convert.h %D%/float8.c %D%/float8.h %D%/gguf_keys.c %D%/vision.c \
  %D%/vision.h %D%/tokenizer_files.c %D%/tokenizer_files.h %D%/vocabulary.c %D%/override.c \
  %D%/mmproj.c %D%/plan_dir.c %D%/plan_gguf.c %D%/weights.c %D%/weights.h
if HAVE_CHECK
check_PROGRAMS += tests/check_convert tests/check_gguf_keys tests/check_weights \
  tests/check_latent
TESTS += tests/check_convert tests/check_gguf_keys tests/check_weights \
  tests/check_latent
tests_check_latent_SOURCES = tests/check_latent.c
tests_check_latent_CPPFLAGS = $(test_cppflags)
tests_check_latent_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_float8
TESTS += tests/check_float8
tests_check_float8_SOURCES = tests/check_float8.c
tests_check_float8_CPPFLAGS = $(test_cppflags)
tests_check_float8_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_vocabulary
TESTS += tests/check_vocabulary
tests_check_vocabulary_SOURCES = tests/check_vocabulary.c
tests_check_vocabulary_CPPFLAGS = $(test_cppflags)
tests_check_vocabulary_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_override
TESTS += tests/check_override
tests_check_override_SOURCES = tests/check_override.c
tests_check_override_CPPFLAGS = $(test_cppflags)
tests_check_override_LDADD = $(test_ldadd)
tests_check_gguf_keys_SOURCES = tests/check_gguf_keys.c
tests_check_gguf_keys_CPPFLAGS = $(test_cppflags)
tests_check_gguf_keys_LDADD = $(test_ldadd)
tests_check_weights_SOURCES = tests/check_weights.c
tests_check_weights_CPPFLAGS = $(test_cppflags)
tests_check_weights_LDADD = $(test_ldadd)
tests_check_convert_SOURCES = tests/check_convert.c
tests_check_convert_CPPFLAGS = $(test_cppflags)
tests_check_convert_LDADD = $(test_ldadd)
endif
TESTS += tests/cli/convert.sh tests/cli/lineage.sh \
  tests/cli/merge.sh tests/cli/engine.sh \
  tests/cli/wrapper.sh tests/cli/families.sh tests/cli/across.sh \
  tests/cli/adapters8.sh
EXTRA_DIST += tests/cli/convert.sh tests/cli/lineage.sh \
  tests/cli/merge.sh tests/cli/engine.sh \
  tests/cli/wrapper.sh tests/judge_outputs.py tests/judge_wrapper.py \
  tests/cli/families.sh tests/judge_families.py tests/exact_engine.py \
  tests/make_latent.py tests/cli/across.sh tests/judge_across.py tests/st_bytes.py \
  tests/cli/adapters8.sh tests/judge_adapters.py
check_PROGRAMS += tests/logits_tool
tests_logits_tool_SOURCES = tests/logits_tool.c
tests_logits_tool_LDADD = libbise.a $(BISE_LIBS)
TESTS += tests/cli/memory.sh tests/cli/real_configs.sh tests/cli/half.sh \
  tests/cli/mmproj.sh \
  tests/cli/float8_base.sh tests/cli/vocabulary.sh
EXTRA_DIST += tests/cli/real_configs.sh tests/make_real.py tests/cli/half.sh \
  tests/cli/mmproj.sh \
  tests/cli/float8_base.sh tests/cli/vocabulary.sh
EXTRA_DIST += tests/cli/memory.sh tests/make_fp8_wrapper.py tests/anon_peak.py
# adapters between formats
libbise_a_SOURCES += %D%/adapter.c %D%/adapter.h %D%/adapter_check.c \
  %D%/adapter_fold.c %D%/adapter_rules.def
if HAVE_CHECK
check_PROGRAMS += tests/check_adapter
TESTS += tests/check_adapter
tests_check_adapter_SOURCES = tests/check_adapter.c
tests_check_adapter_CPPFLAGS = $(test_cppflags)
tests_check_adapter_LDADD = $(test_ldadd)
endif
EXTRA_DIST += tests/golden/fp8 tests/golden/multimodal tests/golden/latent \
  tests/golden/mixtral-aux.py tests/golden/mixtral-aux.safetensors
