# kernels/ - compute kernels and block codecs: ref/ is the truth, x86/ is fast.
# Each instruction set is a convenience library with its own flags, linked into
# libbise.a by its objects.
libbise_a_SOURCES += %D%/codec.h %D%/kernels.h
# Block codecs (codecs.def): one file per type.
libbise_a_SOURCES += %D%/block.h %D%/codecs.c %D%/codec_ref.h %D%/codecs.def \
  %D%/ref/bf16.c %D%/ref/f16.c %D%/ref/f32.c \
  %D%/ref/f8_e4m3.c %D%/ref/f8_e5m2.c %D%/ref/fp4.h %D%/ref/iq4_nl.c \
  %D%/ref/iq4_xs.c %D%/ref/kquant.c %D%/ref/kquant.h %D%/ref/mxfp4.c \
  %D%/ref/nvfp4.c %D%/ref/q1_0.c %D%/ref/q2_0.c %D%/ref/q2_k.c \
  %D%/ref/q3_k.c %D%/ref/q4_0.c %D%/ref/q4_1.c %D%/ref/q4_k.c \
  %D%/ref/q5_0.c %D%/ref/q5_1.c %D%/ref/q5_k.c %D%/ref/q6_k.c \
  %D%/ref/q8_0.c %D%/ref/rounding.h %D%/ref/search.c %D%/ref/search.h \
  %D%/ref/ternary.h %D%/ref/tq1_0.c %D%/ref/tq2_0.c
if X86
libbise_a_SOURCES += %D%/x86/codecs_x86.c
endif
check_PROGRAMS += tests/codec_tool
tests_codec_tool_SOURCES = tests/codec_tool.c
tests_codec_tool_LDADD = libbise.a $(BISE_LIBS)
EXTRA_DIST += tests/oracle_codecs.py tests/cli/codecs_oracle.sh
TESTS += tests/cli/codecs_oracle.sh
if HAVE_CHECK
check_PROGRAMS += tests/check_codecs
TESTS += tests/check_codecs
tests_check_codecs_SOURCES = tests/check_codecs.c
tests_check_codecs_CPPFLAGS = $(test_cppflags)
tests_check_codecs_LDADD = $(test_ldadd)
endif
