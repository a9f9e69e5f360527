/* rows16.h - rows of activations stored as bfloat16, and the products of
 * linear layers that read them: the training path with bf16 computation keeps
 * its activations in this form, so nothing is rounded again before a product.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_ROWS16_H
#define BISE_MODEL_ROWS16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/linear.h"

/* Row t at data + t ld. Borrowed. */
typedef struct bise_rows16 {
    uint16_t *data;
    size_t ld;
} bise_rows16;

/* Values from one row of width values to the next, of bf16 or float32: room to
 * read an even count, and an odd multiple of 32, so that rows never lie a
 * multiple of the cache's set span apart. */
size_t bise_stride16(int32_t width);

/* Workspace of these products, one for all layers; see bise_adapters16_plan. */
typedef struct bise_adapters16 {
    uint16_t *packed;   /* adapters' matrices of a group as panels */
    float *dh;          /* [T, R] */
    uint16_t *ht, *dht; /* [R, ld]: h and dh transposed */
    size_t ld;
    const struct bise_rows8 *rows8; /* int8 computation, or NULL */
    uint16_t *low;      /* [T, r] of the branches: h or dh, ranks made even */
} bise_adapters16;

/* Values of w->packed, and rank R (each branch's made even), that a group of n
 * linears needs; both keep the larger. */
void bise_adapters16_plan(const bise_linear *l, int n, size_t *packed,
                          size_t *rank);
/* Bytes of scratch per worker that these products need beside the panels'. */
size_t bise_rows16_scratch(void);

/* y[i] (= or, with add, +=) x W_i^T + sum_b s (drop(x) A_b^T) B_b^T; see
 * bise_linears_forward. Two phases, so that their times can be told apart:
 * _adapters makes h, _forward uses it. x: [T, in]; y[i]: [T, out_i] f32. */
void bise_rows16_adapters(const bise_exec *e, const bise_adapters16 *w,
                          const bise_linear *l, int n, bise_rows16 x,
                          int32_t T, float *h);
void bise_rows16_forward(const bise_exec *e, const bise_adapters16 *w,
                         const bise_linear *l, int n,
                         float *const *y, bise_rows16 x, int32_t T,
                         const float *h, bool add);
/* Backward, likewise: _gradients makes w->dh from dy [T, out_i] and adds the
 * gradients of the trained branches to their modules; _backward then sets dx
 * [T, in] f32 = sum_i dy_i W_i + adapters' part. */
void bise_rows16_gradients(const bise_exec *e, const bise_adapters16 *w,
                           const bise_linear *l, int n, const bise_rows16 *dy,
                           bise_rows16 x, int32_t T, const float *h);
void bise_rows16_backward(const bise_exec *e, const bise_adapters16 *w,
                          const bise_linear *l, int n, float *dx,
                          const bise_rows16 *dy, int32_t T);

#endif
