/* bf16.c - BF16: bfloat16, the upper half of float32, rounded to nearest even
 * (gguf.md 4.1), one value at a time at any alignment.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include "core/bytes.h"

/* BF16 encoder for bise_codec; importance is ignored. */
void bise_encode_bf16_ref(void *dst, const float *src, size_t rows, size_t cols,
                          const float *imatrix)
{
    uint8_t *out = dst;
    (void)imatrix;
    for (size_t i = 0; i < rows * cols; i++)
        bise_store_le16(out + 2 * i, bise_f32_to_bf16(src[i]));
}

/* BF16 decoder for bise_codec; exact. */
void bise_decode_bf16_ref(float *dst, const void *src, size_t n)
{
    const uint8_t *in = src;
    for (size_t i = 0; i < n; i++)
        dst[i] = bise_bf16_to_f32(bise_load_le16(in + 2 * i));
}
