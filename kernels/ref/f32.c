/* f32.c - the F32 "codec": a copy, so that callers need no special
 * case for tensors that stay as they are.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

/* F32 encoder for bise_codec; a copy. */
void bise_encode_f32_ref(void *dst, const float *src, size_t rows, size_t cols,
                         const float *imatrix)
{
    (void)imatrix;
    memcpy(dst, src, rows * cols * sizeof *src);
}

/* F32 decoder for bise_codec; a copy. */
void bise_decode_f32_ref(float *dst, const void *src, size_t n)
{
    memcpy(dst, src, n * sizeof *dst);
}
