/* codec_x86.h - what the SIMD codec files offer to codecs_x86.c. Each of them
 * is compiled once per instruction set, with the set's name in BISE_ISA, and
 * installs its encoders and decoders over those of the table.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_X86_CODEC_X86_H
#define BISE_KERNELS_X86_CODEC_X86_H

#include "kernels/codec.h"

#define BISE_CODEC_SETS(isa) \
    void bise_codecs_k_##isa(bise_codec *table); \
    void bise_codecs_iq4_##isa(bise_codec *table); \
    void bise_codecs_float_##isa(bise_codec *table); \
    void bise_codecs_decode_##isa(bise_codec *table); \
    void bise_codecs_simple_##isa(bise_codec *table); \
    void bise_codecs_ternary_##isa(bise_codec *table)
BISE_CODEC_SETS(avx2);
BISE_CODEC_SETS(avx512);

#endif
