/* dynmap.h - the 8-bit dynamic maps of bitsandbytes (Dettmers et al., "8-bit
 * Optimizers via Block-wise Quantization", 2022): 256 values from -1 to 1 (or
 * 0 to 1) that are dense near zero. A block of values is its largest magnitude
 * and a code for each value's share of it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_DYNMAP_H
#define BISE_KERNELS_DYNMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BISE_DYNMAP_BLOCK 256 /* values of a block */

typedef struct bise_dynmap {
    float value[256]; /* ascending */
    float middle[255]; /* between value[i] and value[i + 1] */
} bise_dynmap;

/* Build the map with both signs, or the one for values that are not
 * negative. */
void bise_dynmap_init(bise_dynmap *m, bool both_signs);
/* Nearest code; a value on a middle takes the lower one. */
uint8_t bise_dynmap_code(const bise_dynmap *m, float x);
/* The code of the nearest of 65,536 points from -1 to 1, x clamped to them: how
 * bitsandbytes quantizes blocks on a CPU (from 0.50). Near zero, where the map
 * is finer than the points, it is another code than _code's. */
uint8_t bise_dynmap_code_grid(const bise_dynmap *m, float x);
/* As _code, but never across zero: the sign of x is kept where the map has a
 * code for it. */
uint8_t bise_dynmap_code_signed(const bise_dynmap *m, float x);

#endif
