/* linear_int.h - what linear.c and matmul.c share: access to stored rows. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_LINEAR_INT_H
#define BISE_MODEL_LINEAR_INT_H

#include "model/linear.h"

/* Stored bytes of row r (half order). */
const void *bise_linear_stored(const bise_linear *l, int32_t r);
/* Columns [first, first + n) of row r as float32; first and n are multiples of
 * the type's block length. */
void bise_linear_part(const bise_linear *l, const bise_kernels *k, int32_t r,
                      int32_t first, int32_t n, float *out);

#endif
