/* codec_ref.h - the scalar reference codecs, one file per type, declared from
 * codecs.def; also the loop over blocks that their encoders share. Called
 * through the table of kernels/codecs.c; x86 encoders fall back on single
 * functions of it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_CODEC_REF_H
#define BISE_KERNELS_CODEC_REF_H

#include <stddef.h>
#include <stdint.h>

/* Prototypes bise_encode_<name>_ref and bise_decode_<name>_ref as bise_encode_fn
 * and bise_decode_fn of kernels/codec.h. */
#define BISE_DECODER(id, name) \
    void bise_decode_##name##_ref(float *dst, const void *src, size_t n);
#define BISE_CODEC(id, name) \
    void bise_encode_##name##_ref(void *dst, const float *src, size_t rows, \
                                  size_t cols, const float *imatrix); \
    BISE_DECODER(id, name)
#include "kernels/codecs.def"
#undef BISE_CODEC
#undef BISE_DECODER

/* Encode one block. x: its weights; qw: importance of its columns or NULL;
 * sigma2: mean of x^2 over the whole row, only valid with qw. */
typedef void bise_block_fn(uint8_t *dst, const float *x, const float *qw,
                           float sigma2);

/* Sum and mean of x^2, added in index order: the bytes depend on it. */
static inline float bise_sum_squares(const float *x, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

static inline float bise_mean_square(const float *x, size_t n)
{
    return bise_sum_squares(x, n) / (float)n;
}

/* Encode rows x cols weights block by block with fn. */
static inline void bise_encode_blocks(void *dst, const float *src, size_t rows,
                                      size_t cols, const float *imatrix,
                                      size_t block_len, size_t block_bytes,
                                      bise_block_fn *fn)
{
    uint8_t *out = dst;
    for (size_t r = 0; r < rows; r++, src += cols) {
        const float sigma2 = imatrix ? bise_mean_square(src, cols) : 0;
        for (size_t c = 0; c < cols; c += block_len, out += block_bytes)
            fn(out, src + c, imatrix ? imatrix + c : NULL, sigma2);
    }
}

#endif
