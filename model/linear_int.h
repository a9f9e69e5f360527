/* linear_int.h - what linear.c, matmul.c and matmul_panel.c share: access to
 * stored rows, and the products through panels.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_LINEAR_INT_H
#define BISE_MODEL_LINEAR_INT_H

#include "model/linear.h"

/* Row of the file that holds row r in half order. */
int32_t bise_linear_file_row(const bise_linear *l, int32_t r);
/* The weight as the panels see it; borrows from l. */
bise_matrix bise_linear_matrix(const bise_linear *l);
/* Stored bytes of row r (half order). */
const void *bise_linear_stored(const bise_linear *l, int32_t r);
/* Columns [first, first + n) of row r as float32; first and n are multiples of
 * the type's block length. */
void bise_linear_part(const bise_linear *l, const bise_kernels *k, int32_t r,
                      int32_t first, int32_t n, float *out);

/* True when products of T tokens go through panels. */
bool bise_panels_used(const bise_exec *e, int32_t T);
/* bise_linears_forward and _backward without magnitudes (matmul.c). */
void bise_products_forward(const bise_exec *e, const bise_linear *l, int n,
                           float *const *y, const float *x, int32_t T,
                           float *h, bool add);
void bise_products_backward(const bise_exec *e, const bise_linear *l, int n,
                            float *dx, float *const *dy, const float *x,
                            const float *h, float *dh, int32_t T, bool add);
/* Room for gains and norms of a DoRA module, the only one on l (dora.c). */
BISE_NODISCARD bise_status bise_dora_attach(bise_linear *l,
                                            const bise_lora_module *m,
                                            float dropout, bise_error *err);
/* The forward of a group as bise_linears_forward, h already made. */
void bise_panels_forward(const bise_exec *e, const bise_linear *l, int n,
                         float *const *y, const float *x, int32_t T,
                         const float *h, bool add);
/* dx (+)= sum_i dy_i W_i and, unless dh is NULL, sum_b dh_b A_b. */
void bise_panels_backward(const bise_exec *e, const bise_linear *l, int n,
                          float *dx, float *const *dy, const float *dh,
                          int32_t T, bool add);

#endif
