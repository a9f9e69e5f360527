/* dtype.h - tensor types: names, block shapes and file ids, from the one table
 * dtypes.def. A type with block length n stores n weights in block_bytes
 * bytes; a row must be a whole number of blocks.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_DTYPE_H
#define BISE_CORE_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
#define BISE_DTYPE(id, name, block, bytes, gguf, st, ftype) BISE_DTYPE_##id,
#include "core/dtypes.def"
#undef BISE_DTYPE
    BISE_DTYPE_COUNT,
    BISE_DTYPE_NONE = -1
} bise_dtype;

typedef struct bise_dtype_info {
    const char *name;        /* "Q4_K" */
    uint32_t block_len;      /* weights in a block */
    uint32_t block_bytes;    /* bytes of a block */
    int gguf_id;             /* ggml type id, -1 when GGUF has none */
    const char *safetensors; /* dtype in safetensors headers, or NULL */
    int file_type;           /* general.file_type of a file of it, or -1 */
} bise_dtype_info;

/* In place of the block length of float8 scales: a scale for each row
 * (strategy "channel" of compressed-tensors; FBGEMM). */
#define BISE_SCALE_ROWS (-1)

/* Facts about a type; t must be below BISE_DTYPE_COUNT. */
const bise_dtype_info *bise_dtype_get(bise_dtype t);
/* Types by name (any case), ggml id or safetensors name; else
 * BISE_DTYPE_NONE. */
bise_dtype bise_dtype_by_name(const char *name);
bise_dtype bise_dtype_by_gguf(int64_t id);
bise_dtype bise_dtype_by_safetensors(const char *name);
/* Bytes of n weights (n a multiple of the block length), no overflow check:
 * callers bound n by the file's length first. */
uint64_t bise_dtype_bytes(bise_dtype t, uint64_t n);
/* True for types whose blocks hold more than one weight. */
bool bise_dtype_is_quant(bise_dtype t);
/* True for F32, F16, BF16, F64. */
bool bise_dtype_is_float(bise_dtype t);

#endif
