# formats/ - safetensors, GGUF, archives, YAML, hashes behind one store
libbise_a_SOURCES += %D%/crypto.c %D%/crypto.h %D%/formats.def %D%/gguf.c \
  %D%/gguf.h %D%/gguf_meta.c %D%/gguf_write.c %D%/layout.h \
  %D%/safetensors.c %D%/safetensors.h %D%/shape.c %D%/shape.h \
  %D%/source.c %D%/source.h %D%/store.c %D%/store.h %D%/store_gguf.c \
  %D%/store_hf.c %D%/store_native.c %D%/yaml.c %D%/yaml.h
libbise_a_SOURCES += %D%/inflate.c %D%/inflate.h
