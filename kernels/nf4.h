/* nf4.h - 4-bit weights as bitsandbytes stores them (Dettmers et al., "QLoRA",
 * 2023; lora.md 12). The tensor is one row-major line of n weights, cut into
 * blocks of 64 that may run across its rows; a weight is an entry of a table
 * of 16 times the block's largest magnitude (absmax):
 *
 *   codes    2 weights a byte, the first one in the high nibble
 *   absmax   float32 for each block, or, quantized a second time, a byte for
 *            each: map[byte] * nested absmax of its 256 blocks + offset
 *
 * NF4's table are quantiles of the normal distribution; any other table (FP4)
 * is read the same way. Encoding gives the bytes of bitsandbytes 0.50 on a CPU.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_NF4_H
#define BISE_KERNELS_NF4_H

#include <stddef.h>
#include <stdint.h>

#include "core/cpu.h"

#define BISE_NF4_BLOCK 64   /* weights with one absmax */
#define BISE_NF4_NESTED 256 /* blocks whose absmax share a nested one */

/* A view; everything is borrowed. */
typedef struct bise_nf4 {
    uint64_t n;                 /* weights of the tensor */
    uint32_t block;             /* weights of a block, even */
    uint32_t nested_block;      /* blocks of a nested one */
    const uint8_t *codes;       /* [(n + 1) / 2] */
    const float *map;           /* [16] */
    const float *absmax;        /* [blocks], or [ceil(blocks/nested_block)] */
    const uint8_t *absmax8;     /* [blocks]; NULL: absmax is not nested */
    const float *nested_map;    /* [256] */
    float offset;
} bise_nf4;

/* Slots of an instruction set; all give the same bits. */
typedef struct bise_nf4_ops {
    /* out[2i], out[2i + 1] = map[high, low nibble of codes[i]] * scale */
    void (*lookup)(float *out, const uint8_t *codes, size_t bytes,
                   const float map[16], float scale);
    /* Codes of 64 weights (32 bytes) in NF4; returns their absmax, which is
     * not finite when a weight is not (the codes mean nothing then). */
    float (*encode)(uint8_t *codes, const float *x);
} bise_nf4_ops;

extern const float bise_nf4_map[16]; /* ascending, -1 to 1 */

/* The slots for a level: reference first, then overridden. */
void bise_nf4_ops_init(bise_nf4_ops *o, bise_cpu level);
void bise_nf4_ops_avx2(bise_nf4_ops *o);
void bise_nf4_ops_avx512(bise_nf4_ops *o);
/* Those of bise_cpu_level(), made once. */
const bise_nf4_ops *bise_nf4_ops_get(void);

/* Blocks of n weights. */
static inline uint64_t bise_nf4_blocks(uint64_t n, uint32_t block)
{
    return (n + block - 1) / block;
}

/* The factor of block b. */
float bise_nf4_scale(const bise_nf4 *q, uint64_t b);
/* Weights [first, first + n) of the tensor as float32. */
void bise_nf4_decode(const bise_nf4 *q, uint64_t first, size_t n, float *out);

/* Encode n weights: codes [(n + 1) / 2], absmax [blocks of 64]. Parts of a
 * tensor may be encoded apart, cut at multiples of 64. The short last block is
 * divided, not multiplied by the inverse, and its absmax is at least 1e-38, as
 * in bitsandbytes. Returns the number of blocks before the first that is not
 * finite: all of them when the weights are. */
uint64_t bise_nf4_encode(uint8_t *codes, float *absmax, const float *x,
                         size_t n);
/* The second quantization of absmax [blocks]: codes8 [blocks], nested
 * [ceil(blocks / 256)], and the offset, their mean as PyTorch adds it up on
 * one thread. absmax is overwritten. map is the signed map of dynmap.h. */
struct bise_dynmap;
float bise_nf4_nest(uint8_t *codes8, float *nested, float *absmax,
                    uint64_t blocks, const struct bise_dynmap *map);

#endif
