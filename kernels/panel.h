/* panel.h - matrix products with a frozen matrix W [N, K] of any tensor type,
 * in both directions from the one copy of W in its file's type:
 *   forward          y [T, N] (+)= x [T, K] W^T
 *   input gradient   y [T, K] (+)= x [T, N] W
 * Tiles of W are decoded and packed into panels of 32 output columns that stay
 * in cache while all T rows pass; nothing of W is kept. Two precisions: float32
 * panels (FMA) and bfloat16 panels (bf16 pairs into float32 sums). The order of
 * every sum depends on the shapes only, so any split of the output columns
 * over threads gives the same bits (columns are cut at multiples of 32).
 * After Goto and van de Geijn, "Anatomy of high-performance matrix
 * multiplication" (2008): the panel is the part that stays in cache.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_PANEL_H
#define BISE_KERNELS_PANEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/cpu.h"
#include "core/dtype.h"
#include "kernels/nf4.h"

#define BISE_PANEL_COLS 32  /* output columns of a panel */
#define BISE_PANEL_ROWS 12  /* rows of x in one call of a micro-kernel */
#define BISE_PANEL_GROUP 128 /* output columns packed together */
#define BISE_PANEL_LOW 64   /* rank of an addition made with the sums */
#define BISE_PANEL_DEPTH 2048 /* reduction steps packed at a time in bf16 */
#define BISE_PANEL32_GROUP 256 /* columns and steps of the same in float32 */
#define BISE_PANEL32_DEPTH 512

/* A frozen matrix [N, K], row major in blocks of its type. */
typedef struct bise_matrix {
    bise_dtype dtype;
    const void *data;
    size_t row_bytes;       /* from one row to the next */
    int32_t N, K;
    int32_t pair_rows;      /* head size D of a q or k weight whose stored rows
                               are interleaved (mistral3.md 2.6), else 0: row
                               h D + b D/2 + i is stored as h D + 2 i + b */
    /* FP8: weight times scale; scales [ceil(N/block), ceil(K/block)], one
     * scale for all when block is 0, one for each stored row when it is
     * BISE_SCALE_ROWS. NULL for other types. */
    const float *scales;
    int32_t block;
    /* NF4: the tensor's codes and scales; W [0, 0] is its weight nf4_first.
     * data and row_bytes are not used. NULL for other types. */
    const bise_nf4 *nf4;
    uint64_t nf4_first;
    /* I8: weight = value row_scales[stored row]. NULL for other types. */
    const float *row_scales;
} bise_matrix;

/* More reduction steps of the sums at hand, from an adapter's rows and packed
 * factors: a [m, 2 p], b [p][32][2]. */
typedef struct bise_panel_tail {
    const uint16_t *a, *b;
    size_t lda, p;
} bise_panel_tail;

/* A call of the float32 micro-kernel over packed operands: y [m, nc] (+)= a b
 * with a [r][12], a tile of x, and b [r][32], a panel of W. While it runs it
 * asks for what is needed next: soon_bytes from soon on, spread evenly, and at
 * every fourth step for a line from far on, far_step bytes after the last one
 * (both may be a with a step of 0). */
typedef struct bise_tile32 {
    const float *a, *b;
    size_t r;
    int m, nc;
    bool add;
    const void *soon, *far;
    size_t soon_bytes, far_step;
} bise_tile32;
#define BISE_TILE32_LINES(r) ((r) / 4 - BISE_PANEL_ROWS) /* that far asks for */

/* Slots of an instruction set. m <= BISE_PANEL_ROWS rows, nc <= 32 columns. */
typedef struct bise_panel_ops {
    bool has_bf16;   /* mul_bf16 is faster than mul_f32 */
    /* y [m, nc] (+)= a [m, r] b [r, 32], row strides ldy, lda, ldb */
    void (*mul_f32)(float *y, size_t ldy, const float *a, size_t lda,
                    const float *b, size_t ldb, size_t r, int m, int nc,
                    bool add);
    /* the same with bf16 pairs, a [m, 2 p], b [p][32][2], and then those of
     * tail unless it is NULL */
    void (*mul_bf16)(float *y, size_t ldy, const uint16_t *a, size_t lda,
                     const uint16_t *b, size_t p, int m, int nc, bool add,
                     const bise_panel_tail *tail);
    void (*mul_tile)(float *y, size_t ldy, const bise_tile32 *t);
    /* Pack m rows of n values, ldx apart, into a tile [n][12]; what is behind
     * row m is not set. */
    void (*pack_tile)(float *tile, const float *x, size_t ldx, int m,
                      size_t n);
    /* bf16 weights to float32 panels: 32 rows of r values (NULL = zeros) to
     * [r][32]; a row of n values to a row of each of several panels, which are
     * panel values apart. */
    void (*widen_rows)(float *b, const uint16_t *const rows[32], size_t r);
    void (*widen_row)(float *b, size_t panel, const uint16_t *row, size_t n);
    /* Pack 32 rows of r values (pointers, NULL = zeros) into [r][32] or, as
     * pairs along r (r even), [r/2][32][2]. */
    void (*pack_rows_f32)(float *b, const float *const rows[32], size_t r);
    void (*pack_rows_bf16)(uint16_t *b, const uint16_t *const rows[32],
                           size_t r);
    /* Round n values to bf16 (nearest even; denormals may become zero). */
    void (*round_bf16)(uint16_t *y, const float *x, size_t n);
    /* Interleave rows 2i and 2i+1 (rows[2i+1] NULL = zeros) of cols values
     * (a multiple of 32) into panels [r/2][32][2], panel_stride values apart. */
    void (*pack_pairs_bf16)(uint16_t *b, size_t panel_stride,
                            const uint16_t *const *rows, size_t r,
                            size_t cols);
    /* Decode n weights of a block type to bf16: the bits of round_bf16 of
     * their float32 values. NULL: go through float32. */
    void (*decode_bf16[BISE_DTYPE_COUNT])(uint16_t *out, const void *src,
                                          size_t n);
    /* The same for codes of NF4, 2 bytes of out for each nibble, or NULL. */
    void (*lookup_bf16)(uint16_t *out, const uint8_t *codes, size_t bytes,
                        const float map[16], float scale);
} bise_panel_ops;

/* The slots for a level: reference first, then overridden. */
void bise_panel_ops_init(bise_panel_ops *o, bise_cpu level);
void bise_panel_ops_ref(bise_panel_ops *o);
void bise_panel_ops_avx2(bise_panel_ops *o);
void bise_panel_ops_avx512(bise_panel_ops *o);
void bise_panel_ops_avx512bf16(bise_panel_ops *o);

/* One product. x is float32 in tiles (x, see bise_panel_tile) or rows of
 * bfloat16 (x_bf16), whichever is not NULL; ldx in values, rows must be
 * readable up to an even count, and should not be a multiple of 4096 bytes
 * apart (cache sets). */
typedef struct bise_panel_job {
    const bise_matrix *w;
    bool transposed;       /* false: x W^T, true: x W */
    const float *x;
    const uint16_t *x_bf16;
    size_t ldx;
    float *y;
    size_t ldy;
    int32_t T;
    bool add;              /* add to y instead of setting it */
    /* Float32: columns of the same direction from next_column on in next will
     * probably be asked of this thread after these, or NULL. */
    const bise_matrix *next;
    int32_t next_column;
    /* A float32 addition y += e f with e [T, r] and f given by rows: for the
     * forward f[j] row n = b[n, r] (LoRA B), for the gradient rows of A
     * [r, K]; f is multiplied by f_scale. NULL e: none. */
    const float *e, *f;
    float f_scale;
    size_t lde;
    int32_t r;
    /* The same e rounded to bf16 (row stride lde16, readable to an even count
     * with a zero there): with bf16 rows of x and r <= BISE_PANEL_LOW the
     * addition is then made in bf16 while the sums of y are at hand. */
    const uint16_t *e16;
    size_t lde16;
} bise_panel_job;

/* Float32 rows of x go into tiles of 12 rows: value k of row t stands at
 * (t / 12 * K + k) * 12 + t % 12, so that a product reads them in one run. */
size_t bise_panel_tiled(int32_t T, int32_t n); /* values of T rows of n */
/* Put rows [t0, t1) of x, ldx values apart, in their places; t0 begins a tile,
 * and t1 ends one or is the number of rows. */
void bise_panel_tile(const bise_panel_ops *o, float *tiles, const float *x,
                     size_t ldx, int32_t n, int32_t t0, int32_t t1);

/* Bytes of scratch that bise_panel_run needs for one worker. */
size_t bise_panel_scratch(const bise_panel_ops *o);
/* Output columns of a job. */
int32_t bise_panel_columns(const bise_panel_job *j);
/* Columns of W that are best computed together in bf16: blocks of 256 weights
 * of a row are decoded once when the gradient takes whole ones, NF4 in longer
 * runs. */
int32_t bise_panel_width(const bise_matrix *w, bool transposed);
/* Compute columns [c0, c0 + n) of the job; c0 is a multiple of 32, columns
 * behind the last one are left out. Sums do not depend on where columns are
 * cut. Thread-safe with a scratch per thread (64-byte aligned). */
void bise_panel_run(const bise_panel_ops *o, const bise_panel_job *j,
                    int32_t c0, int32_t n, void *scratch);
/* Only the low-rank addition of these columns: for a second adapter. */
void bise_panel_low_rank(const bise_panel_ops *o, const bise_panel_job *j,
                         int32_t c0, int32_t n, void *scratch);

/* Groups of columns, of one product or of several in a row, as tasks: the last
 * ones are cut into panels, so that no thread waits long for another. Groups
 * wider than BISE_PANEL_GROUP hold blocks and stay whole, unless part says how
 * wide to cut them. */
typedef struct bise_panel_split {
    size_t groups;
    int32_t width;  /* columns of a group: see bise_panel_width */
    int threads;
    int32_t part;   /* columns of a part, or 0 for the rule above */
} bise_panel_split;

typedef struct bise_panel_task {
    size_t group;
    int32_t first, n; /* columns of the group */
} bise_panel_task;

size_t bise_panel_tasks(const bise_panel_split *s);
/* Task number index. A part may lie behind the last column of its matrix. */
bise_panel_task bise_panel_task_at(const bise_panel_split *s, size_t index);

/* out [r, n] += u^T v for u [T, r], v [T, n] (float32, strides ldu, ldv): the
 * gradients of LoRA matrices. Columns [c0, c1) only, c0 a multiple of 32; ut
 * is u transposed, [r, T]. */
void bise_panel_outer(const bise_panel_ops *o, float *out, size_t ldo,
                      const float *ut, int32_t r, const float *v, size_t ldv,
                      int32_t T, int32_t c0, int32_t c1);

/* Products of operands that are packed by the caller, all of bfloat16 with
 * float32 sums: for attention and for the thin matrices of adapters. */

/* Values of a packed operand of n columns and r reduction steps. */
size_t bise_panel_packed(int32_t n, int32_t r);
/* Pack n rows of r values, row i at rows + i ld, as columns of b. */
void bise_panel_pack_rows(const bise_panel_ops *o, uint16_t *b,
                          const uint16_t *rows, size_t ld, int32_t n,
                          int32_t r);
/* Pack r rows of n values so that the rows are reduced; ld as above. */
void bise_panel_pack_pairs(const bise_panel_ops *o, uint16_t *b,
                           const uint16_t *rows, size_t ld, int32_t r,
                           int32_t n);
/* y [m, n] (+)= a [m, r] b, with b packed from n columns of r steps. Rows of a
 * must be readable up to an even count; when r is odd the value after it must
 * be finite. */
void bise_panel_mul(const bise_panel_ops *o, float *y, size_t ldy,
                    const uint16_t *a, size_t lda, const uint16_t *b,
                    int32_t m, int32_t n, int32_t r, bool add);

#endif
