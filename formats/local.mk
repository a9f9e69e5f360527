# formats/ - safetensors, GGUF, archives, YAML, hashes behind one store
libbise_a_SOURCES += %D%/crypto.c %D%/crypto.h %D%/formats.def %D%/key.c %D%/gguf.c \
  %D%/gguf.h %D%/gguf_meta.c %D%/gguf_write.c %D%/layout.h \
  %D%/safetensors.c %D%/safetensors.h %D%/shape.c %D%/shape.h \
  %D%/source.c %D%/source.h %D%/store.c %D%/store.h %D%/store_gguf.c \
  %D%/store_hf.c %D%/store_native.c %D%/yaml.c %D%/yaml.h
libbise_a_SOURCES += %D%/archive.h %D%/archive_read.c \
  %D%/archive_source.c %D%/archive_write.c %D%/planes.c %D%/planes.h \
  %D%/tarhead.c %D%/tarhead.h %D%/xxh64.c %D%/xxh64.h %D%/zframe.c \
  %D%/zframe.h
libbise_a_SOURCES += %D%/inflate.c %D%/inflate.h
if HAVE_CHECK
check_PROGRAMS += tests/check_safetensors tests/check_gguf \
  tests/check_store tests/check_yaml
TESTS += tests/check_safetensors tests/check_gguf tests/check_store \
  tests/check_yaml
tests_check_safetensors_SOURCES = tests/check_safetensors.c
tests_check_safetensors_CPPFLAGS = $(test_cppflags)
tests_check_safetensors_LDADD = $(test_ldadd)
tests_check_gguf_SOURCES = tests/check_gguf.c
tests_check_gguf_CPPFLAGS = $(test_cppflags)
tests_check_gguf_LDADD = $(test_ldadd)
tests_check_store_SOURCES = tests/check_store.c
tests_check_store_CPPFLAGS = $(test_cppflags)
tests_check_store_LDADD = $(test_ldadd)
tests_check_yaml_SOURCES = tests/check_yaml.c
tests_check_yaml_CPPFLAGS = $(test_cppflags)
tests_check_yaml_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_frames
TESTS += tests/check_frames
tests_check_frames_SOURCES = tests/check_frames.c
tests_check_frames_CPPFLAGS = $(test_cppflags)
tests_check_frames_LDADD = $(test_ldadd)
endif
