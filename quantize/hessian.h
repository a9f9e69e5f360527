/* hessian.h - the second moments of a linear layer's input and the factor that
 * error feedback needs of them. For y = W x the squared error of quantized
 * weights Q over the data is
 *
 *   tr (W - Q) H (W - Q)^T,   H = sum x x^T
 *
 * (quantization.md 3). With H = U U^T, U upper triangular, it is the sum of
 * squares of (W - Q) U, whose column j depends on columns 0..j of Q only:
 * columns can be rounded one after another, each making up for those before.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_QUANTIZE_HESSIAN_H
#define BISE_QUANTIZE_HESSIAN_H

#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"

typedef struct bise_hessian {
    int32_t n;          /* columns of the input */
    uint64_t rows;      /* inputs added */
    float *h;           /* [n, n]: upper triangle of H; factored: above the
                           diagonal U with column j divided by U_jj */
    float *diag, *pivot; /* [n] factored: diagonal of H, damped; that of U */
    double damping;     /* share of the mean of the diagonal that was added */
} bise_hessian;

/* Bytes that a Hessian of n columns takes. */
static inline uint64_t bise_hessian_bytes(int32_t n)
{
    return (uint64_t)n * (uint64_t)(n + 2) * sizeof(float);
}

BISE_NODISCARD bise_status bise_hessian_init(bise_hessian *h, int32_t n,
                                             bise_error *err);
void bise_hessian_fini(bise_hessian *h);
/* Add x^T x of rows x [T, n]. Tiles are cut by n only, so the sums do not
 * depend on threads. */
void bise_hessian_add(bise_hessian *h, const float *x, int32_t T,
                      bise_pool *pool);
/* Damp and factor in place. One hundredth of the mean of the diagonal is added
 * to it, and twice as much again until H is positive definite in float32.
 * Columns that were always 0 count as the mean of the others, without inputs
 * all count alike; neither gets feedback. BISE_EFORMAT when the sums left
 * float32. */
BISE_NODISCARD bise_status bise_hessian_factor(bise_hessian *h,
                                               bise_error *err);

#endif
