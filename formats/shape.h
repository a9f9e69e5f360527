/* shape.h - the byte size of a tensor from its type and dimensions, checked
 * for overflow and whole blocks; shared by the readers and writers here.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_SHAPE_H
#define BISE_FORMATS_SHAPE_H

#include "core/error.h"
#include "core/str.h"
#include "core/tensor.h"

/* Set t->bytes from dtype, n_dims and dims. Fails with BISE_EFORMAT, the
 * tensor's name and byte offset at (may be -1) when the product overflows or a
 * row is not a whole number of blocks. */
BISE_NODISCARD bise_status bise_shape_size(bise_tensor *t, int64_t at,
                                           bise_error *err);
/* Append "1024x512" (row-major), "scalar" without dimensions. */
void bise_shape_print(bise_str *out, const bise_tensor *t);

#endif
