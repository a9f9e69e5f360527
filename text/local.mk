# text/ - tokenizers, chat formats, datasets, packing
libbise_a_SOURCES += %D%/chat.h %D%/dataset.h %D%/pack.h %D%/tokenizer.h
