/* q5_1.c - Q5_1: 32 weights, f16 scale and minimum, 5-bit codes
 * (gguf.md 4.2, 5.2; with importance 5.5).
 * Weights j and j + 16 share a byte; the searches are in linear.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/linear.h"

/* One block; bit 4 of the codes goes to qh. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    uint8_t L[32];
    float m;
    bise_q5_1 y;
    bise_store_half(y.d, bise_asymmetric(L, &m, x, qw, sigma2, 31));
    bise_store_half(y.m, m);
    bise_store_le32(y.qh, bise_pack_bit4(L));
    bise_pack_nibbles(y.qs, L, 16);
    memcpy(dst, &y, sizeof y);
}

/* Q5_1 encoder for bise_codec; importance changes the search. */
void bise_encode_q5_1_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 32,
                       sizeof(bise_q5_1), encode_block);
}

/* Q5_1 decoder for bise_codec; y = q d + m. */
void bise_decode_q5_1_ref(float *dst, const void *src, size_t n)
{
    const bise_q5_1 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d), m = bise_load_half(y->m);
        const uint32_t qh = bise_load_le32(y->qh);
        for (int j = 0; j < 32; j++)
            dst[j] = (float)bise_code_q5(y->qs, qh, j) * d + m;
    }
}
