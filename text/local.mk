# text/ - tokenizers, chat formats, datasets, packing
libbise_a_SOURCES += %D%/chat.c %D%/chat.h %D%/chat_turns.c \
  %D%/chat_turns.h %D%/pyjson.c %D%/pyjson.h %D%/encode.c %D%/encode.h %D%/gguf_vocab.c \
  %D%/hf_tokenizer.c %D%/merge.c %D%/merge.h %D%/split.c %D%/split.h \
  %D%/spm.c %D%/spm_model.c %D%/tekken.c %D%/tokenizer.c %D%/tokenizer.h \
  %D%/tokenizer_open.c %D%/vocab.c %D%/vocab.h
libbise_a_SOURCES += %D%/dataset.c %D%/dataset.h %D%/order.c %D%/order.h \
  %D%/pack.c %D%/pack.h %D%/rows.c %D%/rows.h %D%/scan.c %D%/scan.h \
  %D%/schema.c %D%/schema.h %D%/sources.c %D%/sources.h %D%/spool.c \
  %D%/spool.h %D%/token_cache.c %D%/token_cache.h
if HAVE_CHECK
check_PROGRAMS += tests/check_tokenizer tests/check_split
TESTS += tests/check_tokenizer tests/check_split
tests_check_tokenizer_SOURCES = tests/check_tokenizer.c
tests_check_tokenizer_CPPFLAGS = $(test_cppflags)
tests_check_tokenizer_LDADD = $(test_ldadd)
tests_check_split_SOURCES = tests/check_split.c
tests_check_split_CPPFLAGS = $(test_cppflags)
tests_check_split_LDADD = $(test_ldadd)
endif
