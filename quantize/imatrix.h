/* imatrix.h - importance matrices: for each weight matrix the sum of squares
 * of every input column, and the number of rows summed, per expert. Read and
 * written as GGUF or legacy .dat (gguf.md 8), used by the encoders and made
 * by calibrate.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_QUANTIZE_IMATRIX_H
#define BISE_QUANTIZE_IMATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/mem.h"

/* What the numbers mean. For y = W x the squared error of a quantized W is, to
 * first order and with inputs uncorrelated, sum over columns j of
 * (W - Q)_j^2 E[x_j^2]. sums / counts estimates E[x_j^2]; the encoders weight
 * each column's error by it. One row of weights serves all rows of W.
 */
typedef struct bise_imatrix_entry {
    const char *name;         /* GGUF name of the weight */
    uint64_t cols, n_mat;     /* n_mat: experts, 1 for a dense weight */
    float *sums;              /* [n_mat, cols] sums of squares */
    float *counts;            /* [n_mat] rows summed */
} bise_imatrix_entry;

typedef struct bise_imatrix {
    bise_imatrix_entry *entries;
    size_t n, cap;
    char **datasets;          /* names of the texts */
    size_t n_datasets;
    uint32_t chunks, chunk_size;
    bise_arena arena;
} bise_imatrix;

/* Read a file of either form; GGUF is tried first. Zero-initialise m. Fails on
 * broken fields and on values that are not finite. */
BISE_NODISCARD bise_status bise_imatrix_load(bise_imatrix *m, const char *path,
                                             bise_error *err);
/* Write as .dat when the name ends so, else as GGUF; entries are sorted by
 * name. force replaces an existing file. */
BISE_NODISCARD bise_status bise_imatrix_save(const bise_imatrix *m,
                                             const char *path, bool force,
                                             bise_error *err);
/* Entry by name, NULL when absent. */
const bise_imatrix_entry *bise_imatrix_find(const bise_imatrix *m,
                                            const char *name);
/* Add an empty entry; the result lives until the next addition. NULL when out
 * of memory. */
bise_imatrix_entry *bise_imatrix_add(bise_imatrix *m, const char *name,
                                     uint64_t cols, uint64_t n_mat);
/* Remember the name of a text. Returns 0, or -1 when out of memory. */
BISE_NODISCARD int bise_imatrix_add_dataset(bise_imatrix *m, const char *name,
                                            size_t n);
/* Column weights [n_mat, cols] as the encoders want them: sums / counts, 1
 * where nothing was counted. In arena; NULL when out of memory. */
const float *bise_imatrix_weights(const bise_imatrix_entry *e, bise_arena *a);
void bise_imatrix_fini(bise_imatrix *m);

#endif
