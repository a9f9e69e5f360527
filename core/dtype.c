/* dtype.c - look-ups in the table of dtypes.def; used by every reader and
 * writer of tensors.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/dtype.h"

#include <string.h>
#include <strings.h>

static const bise_dtype_info table[BISE_DTYPE_COUNT] = {
#define BISE_DTYPE(id, name, block, bytes, gguf, st, ftype) \
    [BISE_DTYPE_##id] = { name, block, bytes, gguf, st, ftype },
#include "core/dtypes.def"
#undef BISE_DTYPE
};

const bise_dtype_info *bise_dtype_get(bise_dtype t)
{
    return &table[t];
}

bise_dtype bise_dtype_by_name(const char *name)
{
    for (int i = 0; i < BISE_DTYPE_COUNT; i++)
        if (strcasecmp(name, table[i].name) == 0)
            return (bise_dtype)i;
    return BISE_DTYPE_NONE;
}

/* Ids that ggml has removed have no row and are not found. */
bise_dtype bise_dtype_by_gguf(int64_t id)
{
    for (int i = 0; i < BISE_DTYPE_COUNT; i++)
        if (table[i].gguf_id >= 0 && table[i].gguf_id == id)
            return (bise_dtype)i;
    return BISE_DTYPE_NONE;
}

/* Names are compared exactly: the container is case-sensitive. */
bise_dtype bise_dtype_by_safetensors(const char *name)
{
    for (int i = 0; i < BISE_DTYPE_COUNT; i++)
        if (table[i].safetensors && strcmp(name, table[i].safetensors) == 0)
            return (bise_dtype)i;
    return BISE_DTYPE_NONE;
}

/* Whole blocks only: callers have checked that n is a multiple. */
uint64_t bise_dtype_bytes(bise_dtype t, uint64_t n)
{
    return n / table[t].block_len * table[t].block_bytes;
}

bool bise_dtype_is_quant(bise_dtype t)
{
    return table[t].block_len > 1;
}

bool bise_dtype_is_float(bise_dtype t)
{
    return t == BISE_DTYPE_F32 || t == BISE_DTYPE_F16 ||
           t == BISE_DTYPE_BF16 || t == BISE_DTYPE_F64;
}
