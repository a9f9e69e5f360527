# deploy/ - sources, headers and tests of this folder
libbise_a_SOURCES += %D%/archive_walk.c %D%/archive_walk.h %D%/pack.c \
  %D%/pack.h %D%/unpack.c %D%/verify.c %D%/verify.h
