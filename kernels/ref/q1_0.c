/* q1_0.c - Q1_0: 128 signs under one f16 magnitude (gguf.md 4.2, 5.2).
 * Importance is ignored.
 * Read and written for completeness; no common file uses it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <math.h>
#include <string.h>

#include "kernels/block.h"

/* One block; zero counts as positive. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    bise_q1_0 y;
    float sum = 0;
    (void)qw;
    (void)sigma2;
    memset(y.qs, 0, sizeof y.qs);
    /* the mean magnitude, summed in order, and the signs */
    for (int i = 0; i < 128; i++) {
        sum += fabsf(x[i]);
        y.qs[i / 8] |= (uint8_t)((x[i] >= 0) << i % 8);
    }
    bise_store_half(y.d, sum / 128);
    memcpy(dst, &y, sizeof y);
}

/* Q1_0 encoder for bise_codec; importance is ignored. */
void bise_encode_q1_0_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 128,
                       sizeof(bise_q1_0), encode_block);
}

/* Q1_0 decoder for bise_codec; y = d or -d. */
void bise_decode_q1_0_ref(float *dst, const void *src, size_t n)
{
    const bise_q1_0 *y = src;
    for (; n; n -= 128, dst += 128, y++) {
        const float d = bise_load_half(y->d);
        for (int i = 0; i < 128; i++)
            dst[i] = y->qs[i / 8] >> i % 8 & 1 ? d : -d;
    }
}
