/* attention.h - causal attention inside samples, tiled with an online softmax:
 * no [T, T] matrix exists, and cost and memory follow the lengths of the
 * samples. Grouped heads, sliding window, forward and backward, and queries
 * that continue cached keys.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_ATTENTION_H
#define BISE_MODEL_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "model/linear.h"

/* A run of query rows of one sample: the unit of a forward task. */
typedef struct bise_attn_tile {
    int32_t row, n;    /* query rows [row, row + n) */
    int32_t start;     /* first row of their sample */
} bise_attn_tile;

/* q [T, H D] rotated and scaled, k [T, K D], v [T, K Dv], o [T, H Dv] with row
 * strides in floats; scores are alpha q.k. Query row t of a sample that starts
 * at row s stands at position past + t - s; key row j of that sample (counted
 * from s) at position j. past > 0 needs a single sample. */
typedef struct bise_attn {
    int32_t H, K, D, Dv, window;   /* window 0 = all */
    float alpha;
    const float *q, *k, *v;
    int32_t ldq, ldk, ldv, ldo;
    float *o, *lse;                /* lse: [T, H] */
    const bise_attn_tile *tiles;
    int32_t n_tiles;
    const int32_t *seg;
    int32_t n_seg, past;
} bise_attn;

/* Cut samples [seg[i], seg[i+1]) into tiles (room for T); returns how many. */
int32_t bise_attn_cut(bise_attn_tile *tiles, const int32_t *seg,
                      int32_t n_seg);
/* Floats of scratch per worker. */
size_t bise_attn_scratch(int32_t Dv);
/* o and lse from q, k, v. */
void bise_attn_forward(const bise_exec *e, const bise_attn *a);
/* dq, dk, dv (overwritten; strides as q, k, v) from d_o (stride ldo), o and
 * lse; past must be 0. */
void bise_attn_backward(const bise_exec *e, const bise_attn *a,
                        const float *d_o, float *dq, float *dk, float *dv);

#endif
