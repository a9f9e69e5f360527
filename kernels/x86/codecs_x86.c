/* codecs_x86.c - choose the SIMD codecs of x86-64 for a CPU level, weakest set
 * first so that a stronger one replaces it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/codec_x86.h"

/* Levels include the ones below. */
void bise_codecs_init_x86(bise_codec *table, bise_cpu level)
{
    if (level >= BISE_CPU_AVX2) {
        bise_codecs_k_avx2(table);
        bise_codecs_iq4_avx2(table);
        bise_codecs_float_avx2(table);
        bise_codecs_decode_avx2(table);
        bise_codecs_simple_avx2(table);
        bise_codecs_ternary_avx2(table);
    }
    if (level >= BISE_CPU_AVX512) {
        bise_codecs_k_avx512(table);
        bise_codecs_iq4_avx512(table);
        bise_codecs_float_avx512(table);
        bise_codecs_decode_avx512(table);
        bise_codecs_simple_avx512(table);
        bise_codecs_ternary_avx512(table);
    }
}
