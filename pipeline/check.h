/* check.h - what may not be written: weights that are not finite, and encoded
 * blocks whose float16 scale overflowed (gguf.md 5.7). Called by the runner on
 * every slab, so both are plain scans that compilers turn into vectors.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_PIPELINE_CHECK_H
#define BISE_PIPELINE_CHECK_H

#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"

/* Index of the first NaN or infinity in x [n], UINT64_MAX when all is well. */
uint64_t bise_find_nonfinite(const float *x, uint64_t n);
/* BISE_EFORMAT when one of rows [first, first + n) of a matrix, x [n, cols], is
 * not finite, with its place. */
BISE_NODISCARD bise_status bise_check_weights(const float *x, uint64_t first,
                                              uint64_t n, uint64_t cols,
                                              bise_error *err);
/* Index of the first weight of the first block of n encoded weights that holds
 * a scale (or, for float types, a value) that is not finite; UINT64_MAX. */
uint64_t bise_find_bad_block(bise_dtype t, const void *bytes, uint64_t n);

#endif
