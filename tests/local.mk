# tests/ - each folder's local.mk adds its own check programs; here stand the
# shared helpers and the tests of core/.
noinst_HEADERS = tests/check_main.h
if HAVE_CHECK
check_PROGRAMS += tests/check_core
TESTS += tests/check_core
tests_check_core_SOURCES = tests/check_core.c
tests_check_core_CPPFLAGS = $(test_cppflags)
tests_check_core_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_str
TESTS += tests/check_str
tests_check_str_SOURCES = tests/check_str.c
tests_check_str_CPPFLAGS = $(test_cppflags)
tests_check_str_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_json
TESTS += tests/check_json
tests_check_json_SOURCES = tests/check_json.c
tests_check_json_CPPFLAGS = $(test_cppflags)
tests_check_json_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_file
TESTS += tests/check_file
tests_check_file_SOURCES = tests/check_file.c
tests_check_file_CPPFLAGS = $(test_cppflags)
tests_check_file_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_direct
TESTS += tests/check_direct
tests_check_direct_SOURCES = tests/check_direct.c
tests_check_direct_CPPFLAGS = $(test_cppflags)
tests_check_direct_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_base
TESTS += tests/check_base
tests_check_base_SOURCES = tests/check_base.c
tests_check_base_CPPFLAGS = $(test_cppflags)
tests_check_base_LDADD = $(test_ldadd)
endif
TESTS += tests/check_layers.sh
EXTRA_DIST += tests/check_layers.sh tests/check_all.sh
# Golden numbers of the reference libraries (golden/README.md).
EXTRA_DIST += %D%/golden/README.md %D%/golden/lora/dora/adapter_config.json \
  %D%/golden/lora/dora/adapter_model.safetensors \
  %D%/golden/lora/dora/expected.safetensors \
  %D%/golden/lora/plain/adapter_config.json \
  %D%/golden/lora/plain/adapter_model.safetensors \
  %D%/golden/lora/plain/expected.safetensors \
  %D%/golden/lora/qv-rank-pattern/adapter_config.json \
  %D%/golden/lora/qv-rank-pattern/adapter_model.safetensors \
  %D%/golden/lora/qv-rank-pattern/expected.safetensors \
  %D%/golden/lora/rslora/adapter_config.json \
  %D%/golden/lora/rslora/adapter_model.safetensors \
  %D%/golden/lora/rslora/expected.safetensors \
  %D%/golden/lora/save-lm-head/adapter_config.json \
  %D%/golden/lora/save-lm-head/adapter_model.safetensors \
  %D%/golden/lora/save-lm-head/expected.safetensors \
  %D%/golden/lora/tied/adapter_config.json \
  %D%/golden/lora/tied/adapter_model.safetensors \
  %D%/golden/lora/tied/expected.safetensors \
  %D%/golden/lora/window/adapter_config.json \
  %D%/golden/lora/window/adapter_model.safetensors \
  %D%/golden/lora/window/expected.safetensors \
  %D%/golden/models/ministral3-mscale/config.json \
  %D%/golden/models/ministral3-mscale/expected.safetensors \
  %D%/golden/models/ministral3-mscale/generation_config.json \
  %D%/golden/models/ministral3-mscale/model.safetensors \
  %D%/golden/models/ministral3-tied/config.json \
  %D%/golden/models/ministral3-tied/expected.safetensors \
  %D%/golden/models/ministral3-tied/generation_config.json \
  %D%/golden/models/ministral3-tied/model.safetensors \
  %D%/golden/models/ministral3/config.json \
  %D%/golden/models/ministral3/expected.safetensors \
  %D%/golden/models/ministral3/generation_config.json \
  %D%/golden/models/ministral3/model.safetensors \
  %D%/golden/models/mistral-nohd/config.json \
  %D%/golden/models/mistral-nohd/expected.safetensors \
  %D%/golden/models/mistral-nohd/generation_config.json \
  %D%/golden/models/mistral-nohd/model.safetensors \
  %D%/golden/models/mistral-window/config.json \
  %D%/golden/models/mistral-window/expected.safetensors \
  %D%/golden/models/mistral-window/generation_config.json \
  %D%/golden/models/mistral-window/model.safetensors \
  %D%/golden/models/mixtral/config.json \
  %D%/golden/models/mixtral/expected.safetensors \
  %D%/golden/models/mixtral/generation_config.json \
  %D%/golden/models/mixtral/model.safetensors
include tests/fuzz/local.mk
TESTS += tests/cli/usage.sh
EXTRA_DIST += tests/cli/usage.sh
