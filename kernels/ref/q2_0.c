/* q2_0.c - Q2_0: 64 codes -1, 0, 1 (2 is decoded too) in 2 bits under one
 * f16 scale (gguf.md 4.2, 5.2). Importance is ignored.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/ternary.h"

/* One block; the encoder never writes code 3. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    uint8_t L[64];
    bise_q2_0 y;
    (void)qw;
    (void)sigma2;
    bise_store_half(y.d, bise_ternary_codes_n(L, x, 64));
    for (int i = 0; i < 16; i++)
        y.qs[i] = (uint8_t)((L[4 * i] & 3) | (L[4 * i + 1] & 3) << 2 |
                            (L[4 * i + 2] & 3) << 4 | (L[4 * i + 3] & 3) << 6);
    memcpy(dst, &y, sizeof y);
}

/* Q2_0 encoder for bise_codec; importance is ignored. */
void bise_encode_q2_0_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 64,
                       sizeof(bise_q2_0), encode_block);
}

/* Q2_0 decoder for bise_codec; y = (q - 1) d. */
void bise_decode_q2_0_ref(float *dst, const void *src, size_t n)
{
    const bise_q2_0 *y = src;
    for (; n; n -= 64, dst += 64, y++) {
        const float d = bise_load_half(y->d);
        for (int i = 0; i < 64; i++)
            dst[i] = (float)((y->qs[i / 4] >> i % 4 * 2 & 3) - 1) * d;
    }
}
