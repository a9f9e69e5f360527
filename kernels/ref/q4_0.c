/* q4_0.c - Q4_0: 32 weights, one f16 scale, 4-bit codes around 8
 * (gguf.md 4.2, 5.2; with importance 5.5).
 * Weights j and j + 16 share a byte; the searches are in linear.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/linear.h"

/* One block; importance and sigma2 only reach the search. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    uint8_t L[32];
    bise_q4_0 y;
    bise_store_half(y.d, bise_symmetric(L, x, qw, sigma2, 8));
    bise_pack_nibbles(y.qs, L, 16);
    memcpy(dst, &y, sizeof y);
}

/* Q4_0 encoder for bise_codec; importance changes the search. */
void bise_encode_q4_0_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 32,
                       sizeof(bise_q4_0), encode_block);
}

/* Q4_0 decoder for bise_codec; y = (q - 8) d. */
void bise_decode_q4_0_ref(float *dst, const void *src, size_t n)
{
    const bise_q4_0 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)((y->qs[j] & 15) - 8) * d;
            dst[j + 16] = (float)((y->qs[j] >> 4) - 8) * d;
        }
    }
}
