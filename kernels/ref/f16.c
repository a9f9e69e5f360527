/* f16.c - F16: IEEE binary16, rounded to nearest even, overflow to infinity
 * (gguf.md 4.1), one value at a time at any alignment.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include "core/bytes.h"

/* F16 encoder for bise_codec; importance is ignored. */
void bise_encode_f16_ref(void *dst, const float *src, size_t rows, size_t cols,
                          const float *imatrix)
{
    uint8_t *out = dst;
    (void)imatrix;
    for (size_t i = 0; i < rows * cols; i++)
        bise_store_le16(out + 2 * i, bise_f32_to_f16(src[i]));
}

/* F16 decoder for bise_codec; exact. */
void bise_decode_f16_ref(float *dst, const void *src, size_t n)
{
    const uint8_t *in = src;
    for (size_t i = 0; i < n; i++)
        dst[i] = bise_f16_to_f32(bise_load_le16(in + 2 * i));
}
