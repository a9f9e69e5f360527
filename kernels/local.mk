# kernels/ - compute kernels and block codecs: ref/ is the truth, x86/ is fast.
# Each instruction set is a convenience library with its own flags, linked into
# libbise.a by its objects.
libbise_a_SOURCES += %D%/codec.h %D%/kernels.h
