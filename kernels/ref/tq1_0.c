/* tq1_0.c - TQ1_0: 256 ternary weights, five base-3 digits a byte, one f16
 * scale (gguf.md 4.5). Importance is ignored.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/ternary.h"

/* count digits of weights stride apart, most significant first, scaled so that
 * a multiplication by 3 shifts the next digit above 8 bits. */
static uint8_t pack_digits(const uint8_t *L, int stride, int count)
{
    int v = 0;
    for (int k = 0; k < 5; k++)
        v = 3 * v + (k < count ? L[k * stride] : 0);
    return (uint8_t)((v * 256 + 242) / 243);
}

/* Digit k of a byte: 0, 1 or 2. */
static int digit(uint8_t byte, int k)
{
    static const uint8_t pow3[5] = { 1, 3, 9, 27, 81 };
    return (uint8_t)(byte * pow3[k]) * 3 >> 8;
}

/* One superblock of base-3 digits. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    uint8_t L[BISE_QK];
    bise_tq1_0 y;
    (void)qw;
    (void)sigma2;
    /* 5 x 32, 5 x 16 and 4 x 4 weights */
    bise_store_half(y.d, bise_ternary_codes(L, x));
    for (int m = 0; m < 32; m++)
        y.qs[m] = pack_digits(L + m, 32, 5);
    for (int m = 0; m < 16; m++)
        y.qs[32 + m] = pack_digits(L + 160 + m, 16, 5);
    for (int j = 0; j < 4; j++)
        y.qh[j] = pack_digits(L + 240 + j, 4, 4);
    memcpy(dst, &y, sizeof y);
}

/* TQ1_0 encoder for bise_codec; importance is ignored. */
void bise_encode_tq1_0_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, BISE_QK,
                       sizeof(bise_tq1_0), encode_block);
}

/* TQ1_0 decoder for bise_codec; y = (digit - 1) d. */
void bise_decode_tq1_0_ref(float *dst, const void *src, size_t n)
{
    const bise_tq1_0 *y = src;
    for (; n; n -= BISE_QK, dst += BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        for (int i = 0; i < 160; i++)
            dst[i] = (float)(digit(y->qs[i % 32], i / 32) - 1) * d;
        for (int i = 0; i < 80; i++)
            dst[160 + i] = (float)(digit(y->qs[32 + i % 16], i / 16) - 1) * d;
        for (int i = 0; i < 16; i++)
            dst[240 + i] = (float)(digit(y->qh[i % 4], i / 4) - 1) * d;
    }
}
