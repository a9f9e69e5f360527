# text/ - tokenizers, chat formats, datasets, packing
libbise_a_SOURCES += %D%/chat.h %D%/tokenizer.h
libbise_a_SOURCES += %D%/dataset.c %D%/dataset.h %D%/order.c %D%/order.h \
  %D%/pack.c %D%/pack.h %D%/rows.c %D%/rows.h %D%/scan.c %D%/scan.h \
  %D%/schema.c %D%/schema.h %D%/sources.c %D%/sources.h %D%/spool.c \
  %D%/spool.h %D%/token_cache.c %D%/token_cache.h
