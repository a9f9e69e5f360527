/* attention_bf16.h - the attention of attention.h over activations stored as
 * bf16: products through the bf16 micro-kernel, softmax and sums in float32.
 * Causal inside samples, grouped heads, sliding window; no [T, T] matrix.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_ATTENTION_BF16_H
#define BISE_MODEL_ATTENTION_BF16_H

#include <stddef.h>
#include <stdint.h>

#include "model/attention.h"
#include "model/rows16.h"

/* q [T, H D] rotated and times the score scale (so scores are q.k), k and v
 * [T, K D]; samples [seg[s], seg[s+1]). */
typedef struct bise_attn16 {
    int32_t H, K, D, window;       /* window 0 = all */
    bise_rows16 q, k, v, o;        /* o: [T, H D], written by the forward */
    float *lse;                    /* [T, H], written by the forward */
    const bise_attn_tile *tiles;   /* of bise_attn16_cut */
    int32_t n_tiles;
    const int32_t *seg;
    int32_t n_seg;
} bise_attn16;

/* As bise_attn_cut, for the tiles of this file. */
int32_t bise_attn16_cut(bise_attn_tile *tiles, const int32_t *seg,
                        int32_t n_seg);
/* Bytes of scratch per worker; values of the room for turned keys kt below. */
size_t bise_attn16_scratch(int32_t H, int32_t K, int32_t D);
size_t bise_attn16_turned(int32_t K, int32_t D, int32_t T);
/* o and lse. */
void bise_attn16_forward(const bise_exec *e, const bise_attn16 *a);
/* dq [T, H D], dk, dv [T, K D] (float32, overwritten) from d_o [T, H D] and
 * delta [T, H] = the sum of d_o o of each head. */
void bise_attn16_backward(const bise_exec *e, const bise_attn16 *a,
                          bise_rows16 d_o, const float *delta, uint16_t *kt,
                          float *dq, float *dk, float *dv);

#endif
