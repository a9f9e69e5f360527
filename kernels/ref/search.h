/* search.h - the scale searches shared by the reference encoders (gguf.md
 * 5.3): QX symmetric, Q3 by coordinate descent, QKX with a minimum, QP for the
 * scales of scales, and the code book search of IQ4. Every sum runs in index
 * order in one float32 accumulator and every product associates as written:
 * the bytes of the files depend on it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_REF_SEARCH_H
#define BISE_KERNELS_REF_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/bytes.h"

/* Blocks whose largest weight is below this have scale 0. */
#define BISE_QUANT_EPS 1e-15f

/* Round half to even in the low 23 bits, as the format's reference does: out
 * of +-4194303 (or NaN) the value wraps, which files may depend on. */
static inline int bise_nearest_int(float v)
{
    const uint32_t bits = bise_f32_bits(v + 12582912.0f);
    return (int)(bits & 0x7fffff) - 0x400000;
}

static inline int bise_clamp_int(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* The constants of one asymmetric search. */
typedef struct bise_qkx {
    int n, nmax;          /* weights, largest code */
    float rmin, rdelta;   /* candidates nmax + rmin + rdelta * step */
    int nstep;            /* last candidate step, inclusive */
    bool mad;             /* error |v| instead of v v */
} bise_qkx;

/* Symmetric: x ~ scale (L - nmax), L in 0..2 nmax - 1. w NULL means x x.
 * Returns the scale. */
float bise_search_qx(int n, int nmax, const float *x, const float *w,
                     uint8_t *L);
/* Q3_K without importance: as qx with weights x x by coordinate descent. */
float bise_search_q3(int n, int nmax, const float *x, uint8_t *L);
/* Asymmetric: x ~ scale L - min. Returns the scale, *min >= 0. */
float bise_search_qkx(const bise_qkx *p, const float *x, const float *w,
                      float *min, uint8_t *L);
/* Positive scales: x ~ scale L with L in 0..nmax. */
float bise_search_qp(int n, int nmax, const float *x, const float *w,
                     uint8_t *L);

/* Index of the IQ4 value nearest to v. */
int bise_iq4_nearest(float v);
/* Scale of 32 weights for the IQ4 code book, weights w. */
float bise_search_iq4(const float *x, const float *w);

/* w[i] = qw[i] sqrt(sigma2 + x[i]^2): importance as the encoders use it. */
void bise_importance(float *w, const float *x, const float *qw, float sigma2,
                     int n);
/* The same for IQ4, or x^2 without importance. */
void bise_iq4_weights(float *w, const float *x, const float *qw, float sigma2,
                      int n);
/* Sum of n floats in order. */
float bise_sum(const float *x, int n);
/* Codes of positive scales without importance: d = max/nmax, 0 if none > 0. */
float bise_linear_codes(uint8_t *code, const float *x, int n, int nmax);
/* Entry of x with the largest magnitude, signed; the first of equals. */
float bise_signed_max(const float *x, int n);

#endif
