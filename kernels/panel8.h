/* panel8.h - matrix products in 8-bit integers with a frozen matrix W [N, K],
 * in both directions from the one copy of W:
 *   forward          y [T, N] (+)= x [T, K] W^T
 *   input gradient   y [T, K] (+)= x [T, N] W
 * W has one scale per row, x one per token (row of x). Products of 8-bit values
 * are summed exactly in 32 bits over at most BISE_PANEL8_DEPTH steps; the sums
 * are scaled and added in float32 in the order of the depth, so every
 * instruction set and any number of threads gives the same bits. Forward, the
 * scales of W multiply the columns of y. In the gradient they lie along the
 * reduction: the caller folds them into x before it is quantized.
 * Activations are unsigned with 128 as zero, as VNNI (vpdpbusd) wants them; the
 * sums start at -128 times the sum of the weights.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_PANEL8_H
#define BISE_KERNELS_PANEL8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/cpu.h"
#include "kernels/panel.h"

#define BISE_PANEL8_COLS 32   /* output columns of a panel */
#define BISE_PANEL8_ROWS 12   /* rows of x in one call of a micro-kernel */
#define BISE_PANEL8_GROUP BISE_PANEL_GROUP /* output columns of a task */
#define BISE_PANEL8_DEPTH 1024 /* reduction steps packed at a time; exact up to
                                  2^31 / (255 * 127) = 66311 */

/* A frozen matrix [N, K] of values in -127..127; weight = value scales[row]. */
typedef struct bise_matrix8 {
    const int8_t *data;
    const float *scales;    /* [N], in the order of data's rows */
    int32_t N, K;
    int32_t pair_rows;      /* see bise_matrix (panel.h) */
} bise_matrix8;

/* What one micro-kernel call multiplies: sums of m <= BISE_PANEL8_ROWS rows and
 * nc <= 32 columns over 4 quads steps. */
typedef struct bise_tile8 {
    const uint8_t *a;       /* rows of x, lda bytes apart, 4 quads readable */
    size_t lda;
    const float *a_scales;  /* [m] */
    const int8_t *b;        /* panel [quads][32][4] */
    const int32_t *start;   /* [32]: -128 times the sums of b's columns */
    const float *b_scales;  /* [32], NULL for ones */
    size_t quads;
    int m, nc;
    bool add;               /* add to y instead of setting it */
} bise_tile8;

/* Slots of an instruction set; all give the same bits. */
typedef struct bise_panel8_ops {
    bool fast;              /* 8-bit products have instructions of their own */
    /* Quantize a row: out[i] = 128 + round(v[i] / s) with v[i] = x[i] (times
     * fold[i] if given) and s = max |v| / 127, which is returned. A row with a
     * value that is not finite returns NaN, one of nearly zeros (below 2^-100)
     * returns 0; both are all 128. */
    float (*quantize)(uint8_t *out, const float *x, const float *fold,
                      size_t n);
    float (*quantize_bf16)(uint8_t *out, const uint16_t *x, const float *fold,
                           size_t n);
    /* Pack 32 rows of r values (NULL = zeros) into [(r + 3) / 4][32][4]. */
    void (*pack_rows)(int8_t *b, const int8_t *const rows[32], size_t r);
    /* Pack cols columns of r rows, reduced along the rows, into panels of
     * [(r + 3) / 4][32][4] for each 32 columns; b has room for a multiple of 64
     * columns. */
    void (*pack_columns)(int8_t *b, const int8_t *const *rows, size_t r,
                         size_t cols);
    /* start[i] = -128 times the sum of column i of a panel. */
    void (*sum_columns)(int32_t start[32], const int8_t *b, size_t quads);
    /* y [m, nc] (+)= (start + a b) a_scales b_scales; row stride ldy */
    void (*mul)(float *y, size_t ldy, const bise_tile8 *t);
} bise_panel8_ops;

/* The slots for a level: reference first, then overridden. */
void bise_panel8_ops_init(bise_panel8_ops *o, bise_cpu level);
void bise_panel8_ops_ref(bise_panel8_ops *o);
void bise_panel8_ops_avx2(bise_panel8_ops *o);
void bise_panel8_ops_avx512(bise_panel8_ops *o);

/* A row of weights as signed values; returns its scale as quantize does. */
float bise_panel8_encode(const bise_panel8_ops *o, int8_t *out, const float *w,
                         size_t n);

/* One product. Rows of x must be readable up to a multiple of 4 values, and
 * should not be a multiple of 4096 bytes apart (cache sets). */
typedef struct bise_panel8_job {
    const bise_matrix8 *w;
    bool transposed;        /* false: x W^T, true: x W with folded scales */
    const uint8_t *x;       /* [T, ldx] from quantize */
    const float *x_scales;  /* [T] */
    size_t ldx;
    float *y;
    size_t ldy;
    int32_t T;
    bool add;
} bise_panel8_job;

/* Bytes of scratch that bise_panel8_run needs for one worker. */
size_t bise_panel8_scratch(void);
/* Compute columns [c0, c0 + n) of the job as bise_panel_run. Thread-safe with
 * a scratch per thread (64-byte aligned). */
void bise_panel8_run(const bise_panel8_ops *o, const bise_panel8_job *j,
                     int32_t c0, int32_t n, void *scratch);

#endif
