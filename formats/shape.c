/* shape.c - see shape.h. Sizes come from files, so every product is checked
 * before it is formed; a zero dimension does not hide an overflow of others.
 * Both containers and all writers use these, so that "too large" means the
 * same everywhere.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/shape.h"

#include <inttypes.h>

/* Weights are limited to 2^60, so that counts in bits and bytes of any type
 * stay below 2^63. The row must be whole blocks, because rows are what
 * kernels, streams and splits work on. */
bise_status bise_shape_size(bise_tensor *t, int64_t at, bise_error *err)
{
    const bise_dtype_info *d = bise_dtype_get(t->dtype);
    const uint64_t limit = INT64_MAX / 8;       /* of weights, of bytes */
    uint64_t n = 1;
    bool empty = false;
    for (int i = 0; i < t->n_dims; i++) {
        const uint64_t dim = t->dims[i] ? t->dims[i] : 1;
        empty = empty || !t->dims[i];
        if (dim > limit / n) {
            bise_status s = bise_fail_at(err, BISE_EFORMAT, at,
                                         "shape has too many weights");
            return s = bise_error_in(err, NULL, t->name);
        }
        n *= dim;
    }
    const uint64_t row = bise_tensor_cols(t);
    if (row % d->block_len) {
        bise_status s = bise_fail_at(err, BISE_EFORMAT, at,
                                     "row of %" PRIu64 " weights, %s needs a "
                                     "multiple of %" PRIu32, row, d->name,
                                     d->block_len);
        return s = bise_error_in(err, NULL, t->name);
    }
    t->bytes = empty ? 0 : bise_dtype_bytes(t->dtype, n);
    return BISE_OK;
}

/* Row-major, as in PyTorch and in our messages; GGUF's own order is the
 * reverse. */
void bise_shape_print(bise_str *out, const bise_tensor *t)
{
    if (!t->n_dims)
        bise_str_puts(out, "scalar");
    for (int i = 0; i < t->n_dims; i++)
        bise_str_printf(out, "%s%" PRIu64, i ? "x" : "", t->dims[i]);
}
