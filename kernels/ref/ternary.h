/* ternary.h - codes 0, 1, 2 for -d, 0, d shared by TQ1_0, TQ2_0 and (with a
 * fourth code) Q2_0; gguf.md 4.5 and 5.2.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_REF_TERNARY_H
#define BISE_KERNELS_REF_TERNARY_H

#include <math.h>
#include <stdint.h>

#include "kernels/block.h"
#include "kernels/ref/rounding.h"
#include "kernels/ref/search.h"

/* round(x / d), half away from zero, plus 1, for d = max |x|. Returns d. */
static inline float bise_ternary_codes_n(uint8_t *L, const float *x, int n)
{
    const float d = fabsf(bise_signed_max(x, n));
    const float id = bise_inverse(d);
    for (int i = 0; i < n; i++) {
        const int q = bise_trunc_i32(roundf(x[i] * id));
        L[i] = (uint8_t)(q + 1);
    }
    return d;
}

static inline float bise_ternary_codes(uint8_t *L, const float *x)
{
    return bise_ternary_codes_n(L, x, BISE_QK);
}

#endif
