/* kquant.h - what the K-quant encoders share: the codes of a sub-block once its
 * scale and minimum are rounded (gguf.md 5.4, last paragraph).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_REF_KQUANT_H
#define BISE_KERNELS_REF_KQUANT_H

#include "kernels/ref/search.h"

/* L = clamp(round((x + m) / d), lo, hi) - lo with the rounded scale d and
 * minimum m; a zero scale keeps the codes of the search. Division, not
 * multiplication by the inverse, which rounds differently. */
static inline void bise_requantize(uint8_t *L, const float *x, int n, float d,
                                   float m, int lo, int hi)
{
    if (d == 0)
        return;
    for (int i = 0; i < n; i++) {
        const int l = bise_nearest_int((x[i] + m) / d);
        L[i] = (uint8_t)(bise_clamp_int(l, lo, hi) - lo);
    }
}

/* Q4_K and Q5_K: eight sub-blocks of 32 with scale and minimum. plain: the
 * search without importance. Writes d, dmin (f16) and the twelve scale bytes,
 * and the codes into L[256]. */
void bise_encode_k4(const bise_qkx *plain, uint8_t *d, uint8_t *dmin,
                    uint8_t *scales, uint8_t *L, const float *x,
                    const float *qw);
/* The weights of a Q4_K (qh NULL) or Q5_K superblock. */
void bise_decode_k4(float *dst, const uint8_t *d, const uint8_t *dmin,
                    const uint8_t *packed, const uint8_t *qh,
                    const uint8_t *qs);

#endif
