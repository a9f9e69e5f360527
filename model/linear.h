/* linear.h - y = x W^T plus LoRA branches, the one place where matrices of the
 * model are multiplied. The weight is a view of stored rows in any type; tiles
 * of it are decoded to float32 next to their use. Linears that read the same x
 * (q,k,v; gate,up) run as a group in one go. Work is cut by outputs into tiles
 * that depend on the shapes only.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_LINEAR_H
#define BISE_MODEL_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "kernels/codec.h"
#include "kernels/kernels.h"
#include "kernels/panel.h"
#include "kernels/panel8.h"
#include "model/checkpoint.h"
#include "model/lora.h"

#define BISE_GROUP_MAX 3 /* linears that share an input */

/* What every operation of a graph runs with. scratch holds scratch_floats for
 * each worker of the pool. Dropout draws from (seed, branch, step). */
typedef struct bise_exec {
    bise_pool *pool;
    const bise_kernels *k;
    float *scratch;
    size_t scratch_floats;
    /* Panel products (matmul_panel.c): NULL leaves float32 to OpenBLAS. The
     * inputs of a product are rounded to bf16 into x16, with rows bise_stride16
     * apart, or without it put into x32 as tiles (kernels/panel.h); each holds
     * T rows of the widest operand. */
    const bise_panel_ops *panel;
    const bise_panel8_ops *panel8; /* 8-bit products, with int8 computation */
    uint16_t *x16;
    float *x32;
    /* [T, widest input]: inputs of base products are rounded as llama.cpp
     * does (activations.h); NULL leaves them as they are. */
    float *rounded;
    float *dora_v;             /* [T, out]; planned when a linear has gains */
    bool training;             /* dropout is active */
    uint64_t seed, step, micro;
} bise_exec;

/* One LoRA module on a linear; stream names its dropout masks. */
typedef struct bise_branch {
    const bise_lora_module *m;
    float dropout;
    uint64_t stream;
} bise_branch;

typedef struct bise_linear {
    bise_role role;
    int32_t in, out;
    bise_dtype dtype;
    const uint8_t *data;       /* borrowed, rows in the file's order */
    uint64_t row_bytes;
    bise_decode_fn *decode;    /* NULL: float types */
    int32_t pair_rows;         /* D of a weight with interleaved rows, else 0 */
    const float *scales;       /* FP8, see bise_weight; NULL for none */
    int32_t scale_block, scale_cols;
    const bise_nf4 *nf4;       /* NF4: codes and scales instead of data */
    uint64_t nf4_first;        /* place of the first weight in them */
    const float *row_scales;   /* I8: weight = value * scale of the file row */
    bool mapped;               /* data is in the mapping of a file */
    bise_branch *branches;     /* owned */
    int32_t n_branches, rank;  /* rank: sum over branches */
    bool trained;              /* a branch wants gradients */
    float *gain, *norm;        /* DoRA: m/n and n [out], owned; else NULL */
    double *row_sumsq;         /* |W_o|^2 [out] */
} bise_linear;

/* View of a weight; expert >= 0 selects one matrix of a stacked tensor, and
 * first_row, rows a part of it (rows 0 = all). */
BISE_NODISCARD bise_status bise_linear_init(bise_linear *l,
                                            const bise_checkpoint *c,
                                            const bise_weight *w,
                                            int32_t expert, int32_t first_row,
                                            int32_t rows, bise_error *err);
/* View of a float32 matrix in memory [out, in]. */
void bise_linear_init_f32(bise_linear *l, bise_role role, const float *w,
                          int32_t out, int32_t in);
/* Attach the modules of the adapters that sit on l->role. */
BISE_NODISCARD bise_status bise_linear_adapt(bise_linear *l,
                                             bise_lora *const *loras,
                                             int32_t n, bise_error *err);
void bise_linear_fini(bise_linear *l);
/* Floats of scratch per worker that products with l need. */
size_t bise_linear_scratch(const bise_linear *l);
/* Gains of a DoRA linear from the adapter's present values; nothing for others.
 * first: also the norms of the weight's rows. aat: room for [r, r]. */
void bise_dora_refresh(const bise_exec *e, const bise_linear *l, bool first,
                       float *aat);
/* Row r (in HF half order) as float32 [in]. */
void bise_linear_row(const bise_linear *l, int32_t r, float *out);

/* y[i] (= or, with add, +=) x W_i^T + sum_b s (drop(x) A_b^T) B_b^T.
 * x: [T, in]; y[i]: [T, out_i]; h: [T, rank of the group], kept for the
 * backward pass: each branch's part [T, r] follows the one before,
 * in order of linears and branches. */
void bise_linears_forward(const bise_exec *e, const bise_linear *l, int n,
                          float *const *y, const float *x, int32_t T,
                          float *h, bool add);
/* Only h of the above. */
void bise_linears_adapters(const bise_exec *e, const bise_linear *l, int n,
                           const float *x, int32_t T, float *h);
/* From dy[i] [T, out_i]: gradients of the trained branches are added to their
 * modules; dx (= or, with add, +=) sum_i dy_i W_i + adapters' part, or NULL
 * when nothing below needs it. x, h as in the forward; dh: scratch like h. */
void bise_linears_backward(const bise_exec *e, const bise_linear *l, int n,
                           float *dx, float *const *dy, const float *x,
                           const float *h, float *dh, int32_t T, bool add);

#endif
