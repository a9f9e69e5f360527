/* grid.h - the values that the weights of an encoded block may take: scale and
 * minimum of each run of weights, and the codes. For encoders that choose the
 * codes themselves and take only the scales of the usual search (GPTQ,
 * quantization.md 4). Layouts: gguf.md 4.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_GRID_H
#define BISE_KERNELS_GRID_H

#include <stdint.h>

#include "core/dtype.h"

enum { BISE_GRID_BLOCK = 256, BISE_GRID_RUNS = 16 }; /* most in a block */

/* One quantized type. A block holds block_len (core/dtype.h) weights in runs
 * of run weights each. Weight i with code L is
 *
 *   d[i / run] v(L) - m[i / run],   v(L) = values[L], or low + L
 *
 * in float32, exactly as the decoder of kernels/codec.h gives it. */
typedef struct bise_grid {
    bise_dtype dtype;
    int run;
    int low, codes;             /* L in [0, codes) */
    const int8_t *values;       /* [codes] ascending, or NULL */
    /* d and m of each run of a block, as they are stored. */
    void (*scales)(float *d, float *m, const void *block);
    /* Replace the codes of a block; its scales stay. */
    void (*pack)(void *block, const uint8_t *L);
} bise_grid;

/* The grid of a type, NULL when bise has none: floats, MXFP4, NVFP4 (whose
 * scales are not free), ternary types. */
const bise_grid *bise_grid_get(bise_dtype t);
/* Walk the table; NULL at its end. */
const bise_grid *bise_grid_at(int i);
/* The code whose value is nearest to w; d = 0: the code of no weight. */
uint8_t bise_grid_code(const bise_grid *g, float w, float d, float m);
/* The value of a code. */
static inline float bise_grid_value(const bise_grid *g, uint8_t code, float d,
                                    float m)
{
    const int v = g->values ? g->values[code] : g->low + code;
    return d * (float)v - m;
}

#endif
