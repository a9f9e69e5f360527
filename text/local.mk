# text/ - tokenizers, chat formats, datasets, packing
libbise_a_SOURCES += %D%/chat.c %D%/chat.h %D%/chat_turns.c \
  %D%/chat_turns.h %D%/chat_settings.c %D%/chat_settings.h %D%/template.c %D%/template.h %D%/pyjson.c %D%/pyjson.h %D%/encode.c %D%/encode.h %D%/gguf_vocab.c \
  %D%/hf_tokenizer.c %D%/merge.c %D%/merge.h %D%/split.c %D%/split.h \
  %D%/spm.c %D%/spm_model.c %D%/tekken.c %D%/tokenizer.c %D%/tokenizer.h \
  %D%/tokenizer_open.c %D%/tokenizer_out.c %D%/vocab.c %D%/vocab.h
libbise_a_SOURCES += %D%/audit.c %D%/audit.h %D%/dataset.c %D%/dataset.h \
  %D%/order.c %D%/order.h %D%/pack.c %D%/pack.h %D%/row_messages.c %D%/row_messages.h %D%/rows.c %D%/rows.h \
  %D%/scan.c %D%/scan.h %D%/schema.c %D%/schema.h %D%/sources.c \
  %D%/sources.h %D%/spool.c %D%/spool.h %D%/token_cache.c \
  %D%/token_cache.h
nodist_libbise_a_SOURCES = %D%/spm_model.pb-c.c %D%/spm_model.pb-c.h
EXTRA_DIST += %D%/spm_model.proto tests/golden/chat/mistral-common.jsonl \
  tests/golden/chat/tiny.jsonl tests/golden/chat/make_tiny.py
BUILT_SOURCES += %D%/spm_model.pb-c.h
CLEANFILES += %D%/spm_model.pb-c.c %D%/spm_model.pb-c.h
# Runs where the .proto is, so that the names inside have no path.
%D%/spm_model.pb-c.c: %D%/spm_model.proto
	$(AM_V_GEN)$(MKDIR_P) %D% && out=`cd %D% && pwd` && \
	  cd $(srcdir)/%D% && $(PROTOC_C) --c_out="$$out" spm_model.proto
%D%/spm_model.pb-c.h: %D%/spm_model.pb-c.c
	@:
check_PROGRAMS += tests/tokenize_tool
tests_tokenize_tool_SOURCES = tests/tokenize_tool.c
tests_tokenize_tool_LDADD = libbise.a $(BISE_LIBS)
TESTS += tests/cli/tokenize_oracle.sh tests/cli/tokenizer_files.sh
EXTRA_DIST += tests/cli/tokenizer_files.sh tests/judge_tokenizer_files.py
EXTRA_DIST += tests/cli/tokenize_oracle.sh tests/oracle_tokenizers.py
if HAVE_CHECK
check_PROGRAMS += tests/check_tokenizer tests/check_split tests/check_chat \
  tests/check_tokenizer_out
TESTS += tests/check_tokenizer tests/check_split tests/check_chat \
  tests/check_tokenizer_out
tests_check_tokenizer_out_SOURCES = tests/check_tokenizer_out.c \
  tests/spm_writer.h
tests_check_tokenizer_out_CPPFLAGS = $(test_cppflags)
tests_check_tokenizer_out_LDADD = $(test_ldadd)
tests_check_chat_SOURCES = tests/check_chat.c
tests_check_chat_CPPFLAGS = $(test_cppflags)
tests_check_chat_LDADD = $(test_ldadd)
tests_check_tokenizer_SOURCES = tests/check_tokenizer.c
tests_check_tokenizer_CPPFLAGS = $(test_cppflags)
tests_check_tokenizer_LDADD = $(test_ldadd)
tests_check_split_SOURCES = tests/check_split.c
tests_check_split_CPPFLAGS = $(test_cppflags)
tests_check_split_LDADD = $(test_ldadd)
endif
EXTRA_DIST += tests/cli/data.sh tests/cli/data_counts.py \
  tests/cli/data_formats.py
TESTS += tests/cli/data.sh
if HAVE_CHECK
check_PROGRAMS += tests/check_schema tests/check_scan tests/check_token_cache \
  tests/check_sources
TESTS += tests/check_schema tests/check_scan tests/check_token_cache \
  tests/check_sources
tests_check_schema_SOURCES = tests/check_schema.c tests/data_fixture.h
tests_check_schema_CPPFLAGS = $(test_cppflags)
tests_check_schema_LDADD = $(test_ldadd)
tests_check_scan_SOURCES = tests/check_scan.c tests/data_fixture.h
tests_check_scan_CPPFLAGS = $(test_cppflags)
tests_check_scan_LDADD = $(test_ldadd)
tests_check_token_cache_SOURCES = tests/check_token_cache.c tests/data_fixture.h
tests_check_token_cache_CPPFLAGS = $(test_cppflags)
tests_check_token_cache_LDADD = $(test_ldadd)
tests_check_sources_SOURCES = tests/check_sources.c tests/data_fixture.h
tests_check_sources_CPPFLAGS = $(test_cppflags)
tests_check_sources_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_rows tests/check_dataset tests/check_pack \
  tests/check_audit
TESTS += tests/check_rows tests/check_dataset tests/check_pack \
  tests/check_audit
tests_check_rows_SOURCES = tests/check_rows.c
tests_check_rows_CPPFLAGS = $(test_cppflags)
tests_check_rows_LDADD = $(test_ldadd)
tests_check_dataset_SOURCES = tests/check_dataset.c tests/data_fixture.h
tests_check_dataset_CPPFLAGS = $(test_cppflags)
tests_check_dataset_LDADD = $(test_ldadd)
tests_check_pack_SOURCES = tests/check_pack.c tests/data_fixture.h
tests_check_pack_CPPFLAGS = $(test_cppflags)
tests_check_pack_LDADD = $(test_ldadd)
tests_check_audit_SOURCES = tests/check_audit.c tests/data_fixture.h
tests_check_audit_CPPFLAGS = $(test_cppflags)
tests_check_audit_LDADD = libcli.a $(test_ldadd)
check_PROGRAMS += tests/check_spm
TESTS += tests/check_spm
tests_check_spm_SOURCES = tests/check_spm.c tests/spm_writer.h
tests_check_spm_CPPFLAGS = $(test_cppflags)
tests_check_spm_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_hf_tokenizer
TESTS += tests/check_hf_tokenizer
tests_check_hf_tokenizer_SOURCES = tests/check_hf_tokenizer.c
tests_check_hf_tokenizer_CPPFLAGS = $(test_cppflags)
tests_check_hf_tokenizer_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_vocab
TESTS += tests/check_vocab
tests_check_vocab_SOURCES = tests/check_vocab.c
tests_check_vocab_CPPFLAGS = $(test_cppflags)
tests_check_vocab_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_gguf_vocab
TESTS += tests/check_gguf_vocab
tests_check_gguf_vocab_SOURCES = tests/check_gguf_vocab.c tests/spm_writer.h
tests_check_gguf_vocab_CPPFLAGS = $(test_cppflags)
tests_check_gguf_vocab_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_tokenizer_open
TESTS += tests/check_tokenizer_open
tests_check_tokenizer_open_SOURCES = tests/check_tokenizer_open.c tests/spm_writer.h
tests_check_tokenizer_open_CPPFLAGS = $(test_cppflags)
tests_check_tokenizer_open_LDADD = $(test_ldadd)
endif
TESTS += tests/cli/template_judges.sh
EXTRA_DIST += tests/cli/template_judges.sh tests/judge_templates.py
if HAVE_CHECK
check_PROGRAMS += tests/check_template
TESTS += tests/check_template
tests_check_template_SOURCES = tests/check_template.c
tests_check_template_CPPFLAGS = $(test_cppflags)
tests_check_template_LDADD = $(test_ldadd)
endif
