# quantize/ - type mixtures, importance matrices, quantized plans
libbise_a_SOURCES += %D%/imatrix.c %D%/imatrix.h %D%/mixture.c \
  %D%/mixture.h %D%/mixtures.def %D%/quantize.c %D%/quantize.h
