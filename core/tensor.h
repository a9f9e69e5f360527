/* tensor.h - a view of a named array in a file or in memory. Owns nothing.
 * Dimensions are in row-major order, slowest first ([out, in] for a weight),
 * whatever order the file writes them in; the last one is the row length.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_TENSOR_H
#define BISE_CORE_TENSOR_H

#include <stdint.h>

#include "core/dtype.h"

#define BISE_MAX_DIMS 8

typedef struct bise_tensor {
    const char *name;
    bise_dtype dtype;
    int n_dims;                    /* 0 for a scalar */
    uint64_t dims[BISE_MAX_DIMS];
    const void *data;              /* bytes, usually inside a file mapping */
    uint64_t bytes;
    uint64_t offset;               /* absolute position of data in its file */
    int file;                      /* which file of the store */
} bise_tensor;

/* Number of weights. */
static inline uint64_t bise_tensor_count(const bise_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->dims[i];
    return n;
}

/* Length of a row (last dimension), 1 for a scalar; and how many rows. */
static inline uint64_t bise_tensor_cols(const bise_tensor *t)
{
    return t->n_dims ? t->dims[t->n_dims - 1] : 1;
}

static inline uint64_t bise_tensor_rows(const bise_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i + 1 < t->n_dims; i++)
        n *= t->dims[i];
    return n;
}

#endif
