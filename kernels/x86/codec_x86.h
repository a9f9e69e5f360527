/* codec_x86.h - what the SIMD codec files offer to codecs_x86.c. Each of them
 * is compiled once per instruction set, with the set's name in BISE_ISA, and
 * installs its encoders and decoders over those of the table.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_X86_CODEC_X86_H
#define BISE_KERNELS_X86_CODEC_X86_H

#include "kernels/codec.h"

/* K-quant encoders (codec_k.c). */
void bise_codecs_k_avx2(bise_codec *table);
void bise_codecs_k_avx512(bise_codec *table);
/* IQ4_NL and IQ4_XS encoders (codec_iq4.c). */
void bise_codecs_iq4_avx2(bise_codec *table);
void bise_codecs_iq4_avx512(bise_codec *table);

#endif
