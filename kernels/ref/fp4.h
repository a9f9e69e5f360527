/* fp4.h - scalar pieces of the FP4 encoders MXFP4 and NVFP4: block scales and
 * nearest E2M1 codes (gguf.md 5.2).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_REF_FP4_H
#define BISE_KERNELS_REF_FP4_H

#include <math.h>
#include <stdint.h>

#include "kernels/block.h"

/* E8M0 exponent of a block: the largest magnitude lands in [4, 8). Wraps to 8
 * bits as the reference does for subnormal blocks. */
static inline uint8_t bise_mxfp4_exponent(float amax)
{
    if (!(amax > 0))
        return 0;
    return (uint8_t)((int)floorf(log2f(amax)) - 2 + 127);
}

/* UE4M3 code of a scale, half rounds up; what rounds to 256 or more becomes
 * 448, as ggml has it (found by tests/oracle_codecs.py). */
static inline uint8_t bise_f32_to_ue4m3(float v)
{
    if (!(v > 0))
        return 0;
    v = v > 448.0f ? 448.0f : v;
    const uint32_t bits = bise_f32_bits(v);
    const int e = (int)(bits >> 23) - 120;
    if (e <= 0) {
        const int m = (int)(v * 512.0f + 0.5f);
        return (uint8_t)(m < 7 ? m : 7);
    }
    /* the carry of the rounded mantissa moves into the exponent */
    const uint32_t m = (bits >> 20 & 7) + (bits >> 19 & 1);
    const uint32_t code = ((uint32_t)e << 3) + m;
    return (uint8_t)(code < 0x78 ? code : 0x7e);
}

/* Codes of n weights under scale s: the entry with the smallest error, the
 * first of equals. */
static inline void bise_e2m1_codes(uint8_t *L, const float *x, int n, float s)
{
    static const int8_t value[16] = BISE_E2M1_VALUES;
    for (int i = 0; i < n; i++) {
        float best = fabsf((float)value[0] * s - x[i]);
        L[i] = 0;
        for (int c = 1; c < 16; c++) {
            const float err = fabsf((float)value[c] * s - x[i]);
            if (err < best) {
                best = err;
                L[i] = (uint8_t)c;
            }
        }
    }
}

#endif
