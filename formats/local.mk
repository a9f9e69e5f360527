# formats/ - safetensors, GGUF, archives, YAML, hashes behind one store
libbise_a_SOURCES += %D%/crypto.h %D%/gguf.h %D%/safetensors.h %D%/store.h \
  %D%/yaml.h
