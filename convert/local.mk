# convert/ - plans from layout to layout, adapters between formats
libbise_a_SOURCES += %D%/config_out.c %D%/convert.h %D%/gguf_keys.c \
  %D%/plan_dir.c %D%/plan_gguf.c %D%/weights.c %D%/weights.h
