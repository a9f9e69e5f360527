/* linear.h - scales and codes of the 32-weight types with evenly spaced values
 * (Q4_0, Q5_0: symmetric; Q4_1, Q5_1: with a minimum), without and with
 * importance (gguf.md 5.2 and 5.5).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_REF_LINEAR_H
#define BISE_KERNELS_REF_LINEAR_H

#include "kernels/ref/rounding.h"
#include "kernels/ref/search.h"

/* Codes 0 .. 2 half - 1 of x ~ d (L - half); returns d. */
static inline float bise_symmetric(uint8_t *L, const float *x, const float *qw,
                                   float sigma2, int half)
{
    float w[32];
    if (qw) {
        bise_importance(w, x, qw, sigma2, 32);
        return bise_search_qx(32, half, x, w, L);
    }
    /* the largest weight lands on -half exactly */
    const float d = bise_signed_max(x, 32) / (float)-half;
    const float id = bise_inverse(d);
    for (int i = 0; i < 32; i++) {
        const int q = bise_trunc_i8(x[i] * id + ((float)half + 0.5f));
        L[i] = (uint8_t)(q < 2 * half ? q : 2 * half - 1);
    }
    return d;
}

/* Codes 0 .. nmax of x ~ d L + min; returns d. */
static inline float bise_asymmetric(uint8_t *L, float *min, const float *x,
                                    const float *qw, float sigma2, int nmax)
{
    const bise_qkx search = { 32, nmax, -0.9f, 0.05f, 36, false };
    float w[32], lo = x[0], hi = x[0];
    if (qw) {
        bise_importance(w, x, qw, sigma2, 32);
        const float d = bise_search_qkx(&search, x, w, min, L);
        *min = -*min;
        return d;
    }
    for (int i = 1; i < 32; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    const float d = (hi - lo) / (float)nmax;
    const float id = bise_inverse(d);
    for (int i = 0; i < 32; i++) {
        const int q = bise_trunc_i8((x[i] - lo) * id + 0.5f);
        L[i] = (uint8_t)(q < nmax ? q : nmax);
    }
    *min = lo;
    return d;
}

#endif
