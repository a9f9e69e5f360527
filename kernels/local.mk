# kernels/ - compute kernels and block codecs: ref/ is the truth, x86/ is fast.
# Each instruction set is a convenience library with its own flags, linked into
# libbise.a by its objects.
EXTRA_libbise_a_DEPENDENCIES =
libbise_a_SOURCES += %D%/codec.h %D%/kernels.h
# Block codecs (codecs.def): one file per type.
libbise_a_SOURCES += %D%/grid.h %D%/ref/grid.c %D%/block.h %D%/codecs.c %D%/codec_ref.h %D%/codecs.def \
  %D%/ref/bf16.c %D%/ref/f16.c %D%/ref/f32.c \
  %D%/ref/f8_e4m3.c %D%/ref/f8_e5m2.c %D%/ref/fp4.h %D%/ref/iq4_nl.c \
  %D%/ref/iq4_xs.c %D%/ref/kquant.c %D%/ref/kquant.h %D%/ref/linear.h %D%/ref/mxfp4.c \
  %D%/ref/nvfp4.c %D%/ref/q1_0.c %D%/ref/q2_0.c %D%/ref/q2_k.c \
  %D%/ref/q3_k.c %D%/ref/q4_0.c %D%/ref/q4_1.c %D%/ref/q4_k.c \
  %D%/ref/q5_0.c %D%/ref/q5_1.c %D%/ref/q5_k.c %D%/ref/q6_k.c \
  %D%/ref/q8_0.c %D%/ref/rounding.h %D%/ref/search.c %D%/ref/search.h \
  %D%/dynmap.c %D%/dynmap.h %D%/nf4.h %D%/ref/nf4.c \
  %D%/ref/ternary.h %D%/ref/tq1_0.c %D%/ref/tq2_0.c
if X86
# SIMD codecs: the same sources once per instruction set. No FMA: the bytes of
# the encoders depend on the rounding of every product.
bise_codec_simd = %D%/x86/chunk.h %D%/x86/codec_decode.c %D%/x86/codec_float.c \
  %D%/x86/codec_iq4.c %D%/x86/codec_k.c %D%/x86/codec_nf4.c \
  %D%/x86/codec_simple.c %D%/x86/codec_ternary.c %D%/x86/codec_x86.h \
  %D%/x86/iq4_vec.h \
  %D%/x86/search_vec.h %D%/x86/vec.h
noinst_LIBRARIES += libcodecs_avx2.a libcodecs_avx512.a
libcodecs_avx2_a_SOURCES = $(bise_codec_simd)
libcodecs_avx2_a_CPPFLAGS = $(AM_CPPFLAGS) -DBISE_ISA=avx2
libcodecs_avx2_a_CFLAGS = $(AM_CFLAGS) -mavx2 -mf16c
libcodecs_avx512_a_SOURCES = $(bise_codec_simd)
libcodecs_avx512_a_CPPFLAGS = $(AM_CPPFLAGS) -DBISE_ISA=avx512
libcodecs_avx512_a_CFLAGS = $(AM_CFLAGS) -mavx512f \
  -mavx512bw -mavx512dq -mavx512vl -mf16c -mprefer-vector-width=512
libbise_a_SOURCES += %D%/x86/codecs_x86.c
libbise_a_LIBADD += $(libcodecs_avx2_a_OBJECTS) $(libcodecs_avx512_a_OBJECTS)
EXTRA_libbise_a_DEPENDENCIES += $(libcodecs_avx2_a_OBJECTS) \
  $(libcodecs_avx512_a_OBJECTS)
endif
check_PROGRAMS += tests/codec_tool
tests_codec_tool_SOURCES = tests/codec_tool.c
tests_codec_tool_LDADD = libbise.a $(BISE_LIBS)
check_PROGRAMS += tests/nf4_tool
tests_nf4_tool_SOURCES = tests/nf4_tool.c
tests_nf4_tool_LDADD = libbise.a $(BISE_LIBS)
EXTRA_DIST += tests/oracle_nf4.py tests/cli/nf4_oracle.sh
TESTS += tests/cli/nf4_oracle.sh
EXTRA_DIST += tests/oracle_codecs.py tests/cli/codecs_oracle.sh \
  tests/gguf_py_codecs.py tests/cli/codecs_gguf_py.sh \
  tests/cli/codec_tool.sh tests/quant_by_formula.py \
  tests/cli/quant_by_formula.sh
TESTS += tests/cli/quant_by_formula.sh tests/cli/codecs_oracle.sh tests/cli/codecs_gguf_py.sh \
  tests/cli/codec_tool.sh
# Operations of the graph, and matrix products.
libbise_a_SOURCES += %D%/gemm.c %D%/gemm.h %D%/kernels.c %D%/ref/ops_ref.c
if X86
libbise_a_SOURCES += %D%/x86/ops_simd.h %D%/x86/ops_x86.c %D%/x86/ops_x86.h
endif
if HAVE_CHECK
check_PROGRAMS += tests/check_codecs tests/check_grid tests/kernelcheck/codec_slots
TESTS += tests/check_codecs tests/check_grid tests/kernelcheck/codec_slots
tests_check_grid_SOURCES = tests/check_grid.c
tests_check_grid_CPPFLAGS = $(test_cppflags)
tests_check_grid_LDADD = $(test_ldadd)
if X86
# Vector code below the codecs, compiled for each set like them.
bise_vec_check = tests/kernelcheck/vec_check.c tests/kernelcheck/vec_check.h
check_LIBRARIES = libvec_avx2.a libvec_avx512.a
libvec_avx2_a_SOURCES = $(bise_vec_check)
libvec_avx2_a_CPPFLAGS = $(libcodecs_avx2_a_CPPFLAGS)
libvec_avx2_a_CFLAGS = $(libcodecs_avx2_a_CFLAGS)
libvec_avx512_a_SOURCES = $(bise_vec_check)
libvec_avx512_a_CPPFLAGS = $(libcodecs_avx512_a_CPPFLAGS)
libvec_avx512_a_CFLAGS = $(libcodecs_avx512_a_CFLAGS)
check_PROGRAMS += tests/kernelcheck/vec_slots
TESTS += tests/kernelcheck/vec_slots
tests_kernelcheck_vec_slots_SOURCES = tests/kernelcheck/vec_slots.c \
  tests/kernelcheck/inputs.c
tests_kernelcheck_vec_slots_CPPFLAGS = $(test_cppflags)
tests_kernelcheck_vec_slots_LDADD = libvec_avx2.a libvec_avx512.a \
  $(test_ldadd)
endif
check_PROGRAMS += tests/check_layouts
TESTS += tests/check_layouts
tests_check_layouts_SOURCES = tests/check_layouts.c
tests_check_layouts_CPPFLAGS = $(test_cppflags)
tests_check_layouts_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_search
TESTS += tests/check_search
tests_check_search_SOURCES = tests/check_search.c \
  tests/kernelcheck/inputs.c
tests_check_search_CPPFLAGS = $(test_cppflags)
tests_check_search_LDADD = $(test_ldadd)
tests_kernelcheck_codec_slots_SOURCES = tests/kernelcheck/codec_slots.c \
  tests/kernelcheck/inputs.c tests/kernelcheck/inputs.h
tests_kernelcheck_codec_slots_CPPFLAGS = $(test_cppflags)
tests_kernelcheck_codec_slots_LDADD = $(test_ldadd)
check_PROGRAMS += tests/kernelcheck/nf4_slots
TESTS += tests/kernelcheck/nf4_slots
tests_kernelcheck_nf4_slots_SOURCES = tests/kernelcheck/nf4_slots.c \
  tests/kernelcheck/inputs.c
tests_kernelcheck_nf4_slots_CPPFLAGS = $(test_cppflags)
tests_kernelcheck_nf4_slots_LDADD = $(test_ldadd)
tests_check_codecs_SOURCES = tests/check_codecs.c
tests_check_codecs_CPPFLAGS = $(test_cppflags)
tests_check_codecs_LDADD = $(test_ldadd)
endif

# Instruction sets: one library each, with its own flags; add sources to it.
if X86
noinst_LIBRARIES += libkern_avx2.a libkern_avx512.a libkern_avx512bf16.a
libkern_avx2_a_SOURCES = %D%/x86/panel_avx2.c %D%/x86/ops_avx2.c
libkern_avx2_a_SOURCES += %D%/x86/panel8_avx2.c
libkern_avx2_a_CFLAGS = $(AM_CFLAGS) -mavx2 -mfma -mf16c
libkern_avx512_a_SOURCES = %D%/x86/panel_avx512.c %D%/x86/panel_avx512.h \
  %D%/x86/ops_avx512.c
libkern_avx512_a_SOURCES += %D%/x86/panel8_avx512.c
avx512_flags = -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq \
  -mavx512vl -mavx512vnni
libkern_avx512_a_CFLAGS = $(AM_CFLAGS) $(avx512_flags)
libkern_avx512bf16_a_SOURCES = %D%/x86/panel_avx512bf16.c \
  %D%/x86/panel_decode.c
libkern_avx512bf16_a_CFLAGS = $(AM_CFLAGS) $(avx512_flags) -mavx512bf16
kern_objects = $(libkern_avx2_a_OBJECTS) $(libkern_avx512_a_OBJECTS) \
  $(libkern_avx512bf16_a_OBJECTS)
libbise_a_LIBADD += $(kern_objects)
libbise_a_DEPENDENCIES += $(kern_objects)
endif
# Matrix products with frozen weights of any type.
libbise_a_SOURCES += %D%/panel.c %D%/panel.h %D%/panel_int.h \
  %D%/panel32.c %D%/panel_packed.c %D%/ref/panel_ref.c
if HAVE_CHECK
check_PROGRAMS += tests/check_panel
TESTS += tests/check_panel
tests_check_panel_SOURCES = tests/check_panel.c
tests_check_panel_CPPFLAGS = $(test_cppflags)
tests_check_panel_LDADD = $(test_ldadd)
check_PROGRAMS += tests/check_packed
TESTS += tests/check_packed
tests_check_packed_SOURCES = tests/check_packed.c
tests_check_packed_CPPFLAGS = $(test_cppflags)
tests_check_packed_LDADD = $(test_ldadd)
endif
if HAVE_CHECK
check_PROGRAMS += tests/check_ops
TESTS += tests/check_ops
tests_check_ops_SOURCES = tests/check_ops.c
tests_check_ops_CPPFLAGS = $(test_cppflags)
tests_check_ops_LDADD = $(test_ldadd)
endif
# Matrix products in 8-bit integers.
libbise_a_SOURCES += %D%/panel8.c %D%/panel8.h %D%/ref/panel8_ref.c
if HAVE_CHECK
check_PROGRAMS += tests/check_panel8
TESTS += tests/check_panel8
tests_check_panel8_SOURCES = tests/check_panel8.c
tests_check_panel8_CPPFLAGS = $(test_cppflags)
tests_check_panel8_LDADD = $(test_ldadd)
endif
