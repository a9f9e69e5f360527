/* matmul_int8.h - products of linear layers whose frozen weights were quantized
 * to 8 bits with a scale per row (basequant.h, type I8): rows of activations
 * are quantized per token and multiplied as integers (kernels/panel8.h).
 * Adapters stay as they are. Called from matmul_bf16.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_MATMUL_INT8_H
#define BISE_MODEL_MATMUL_INT8_H

#include "model/rows16.h"

/* Room for quantized rows, one for all layers; stride_x8 bytes apart. */
typedef struct bise_rows8 {
    uint8_t *x;       /* [T, bise_stride8(width)] */
    float *scales;    /* [T] */
    float *fold;      /* [width]: scales of W's rows in half order */
} bise_rows8;

/* Bytes from one quantized row of width values to the next. */
size_t bise_stride8(int32_t width);
/* Quantize x [T, l->in], the input of the forward product with l. */
void bise_int8_input(const bise_exec *e, const bise_rows8 *r,
                     const bise_linear *l, bise_rows16 x, int32_t T);
/* Quantize dy [T, l->out] times the scales of l's rows. */
void bise_int8_gradient(const bise_exec *e, const bise_rows8 *r,
                        const bise_linear *l, bise_rows16 dy, int32_t T);
/* The product of rows [t0, t0 + j->T) quantized last with l, and the first
 * adapter of j: columns as in bise_panel_run, of which this takes the place.
 * scratch: of the worker. */
void bise_int8_run(const bise_exec *e, const bise_rows8 *r,
                   const bise_linear *l, const bise_panel_job *j, int32_t t0,
                   int32_t c0, int32_t n, void *scratch);

#endif
