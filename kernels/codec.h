/* codec.h - block codecs: how float32 rows become the bytes of a tensor type
 * and back (gguf.md 4 and 5). One file per type in kernels/ref/, SIMD versions
 * in kernels/x86/ that give the same bytes. Codecs are stateless and run on
 * any number of threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_CODEC_H
#define BISE_KERNELS_CODEC_H

#include <stdbool.h>
#include <stddef.h>

#include "core/cpu.h"
#include "core/dtype.h"

/* Encode rows x cols weights (row major, contiguous) into dst. cols is a
 * multiple of the type's block length. imatrix: [cols] importance of each
 * column, shared by all rows, or NULL. Values must be finite. */
typedef void bise_encode_fn(void *dst, const float *src, size_t rows,
                            size_t cols, const float *imatrix);
/* Decode n weights (a multiple of the block length) to float32. */
typedef void bise_decode_fn(float *dst, const void *src, size_t n);

typedef struct bise_codec {
    bise_encode_fn *encode; /* NULL: bise does not write this type */
    bise_decode_fn *decode; /* NULL: bise does not read this type */
} bise_codec;

/* Codecs of every type for a CPU level: ref first, then overridden. Callers
 * keep the table; entries stay valid for ever. */
void bise_codecs_init(bise_codec table[BISE_DTYPE_COUNT], bise_cpu level);
/* The x86 part of it: replace slots by what the level allows. */
void bise_codecs_init_x86(bise_codec *table, bise_cpu level);
/* The table for bise_cpu_level(), made once. */
const bise_codec *bise_codec_get(bise_dtype t);

#endif
