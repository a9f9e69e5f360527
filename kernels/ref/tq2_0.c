/* tq2_0.c - TQ2_0: 256 ternary weights in 2 bits each, one f16 scale
 * (gguf.md 4.5). Importance is ignored.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/ternary.h"

/* One superblock of bit pairs. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    uint8_t L[BISE_QK];
    bise_tq2_0 y;
    (void)qw;
    (void)sigma2;
    bise_store_half(y.d, bise_ternary_codes(L, x));
    bise_pack_2bit(y.qs, L);
    bise_pack_2bit(y.qs + 32, L + 128);
    memcpy(dst, &y, sizeof y);
}

/* TQ2_0 encoder for bise_codec; importance is ignored. */
void bise_encode_tq2_0_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, BISE_QK,
                       sizeof(bise_tq2_0), encode_block);
}

/* TQ2_0 decoder for bise_codec; y = (q - 1) d. */
void bise_decode_tq2_0_ref(float *dst, const void *src, size_t n)
{
    const bise_tq2_0 *y = src;
    for (; n; n -= BISE_QK, dst += BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        for (int i = 0; i < BISE_QK; i++) {
            const int q = y->qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
            dst[i] = (float)(q - 1) * d;
        }
    }
}
