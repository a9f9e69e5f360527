/* panel_int.h - what the panels of bfloat16 (panel.c) and of float32
 * (panel32.c) share: rows of frozen matrices, and the float32 products
 * themselves.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_PANEL_INT_H
#define BISE_KERNELS_PANEL_INT_H

#include "kernels/panel.h"

/* The bytes of row n from weight k0 on, which begins a block (not NF4). */
const uint8_t *bise_panel_stored(const bise_matrix *w, int32_t n, int32_t k0);
/* Where they begin for any type, and the bytes of k weights, for prefetching;
 * inside a block or byte its start. */
const uint8_t *bise_panel_row(const bise_matrix *w, int32_t n, int32_t k0);
size_t bise_panel_row_bytes(const bise_matrix *w, int32_t k);
/* Decode columns [k0, k0 + k) of row n into out as float32; reads the whole
 * blocks around them. line has room for them. */
void bise_panel_decode_row(float *out, const bise_matrix *w, int32_t n,
                           int32_t k0, int32_t k, float *line);

/* bise_panel_run and its scratch for a job with float32 x. */
size_t bise_panel32_scratch(void);
void bise_panel32_run(const bise_panel_ops *o, const bise_panel_job *j,
                      int32_t c0, int32_t n, void *memory);

#endif
