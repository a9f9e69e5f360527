/* q5_0.c - Q5_0: 32 weights, one f16 scale, 5-bit codes around 16
 * (gguf.md 4.2, 5.2; with importance 5.5).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/rounding.h"
#include "kernels/ref/search.h"

/* Codes and scale into their fields. */
static void pack(bise_q5_0 *y, float d, const uint8_t *L)
{
    bise_store_half(y->d, d);
    bise_store_le32(y->qh, bise_pack_bit4(L));
    bise_pack_nibbles(y->qs, L, 16);
}

static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    uint8_t L[32];
    float w[32], d;
    if (qw) {
        bise_importance(w, x, qw, sigma2, 32);
        d = bise_search_qx(32, 16, x, w, L);
    } else {
        /* the largest weight lands on -16 exactly */
        d = bise_signed_max(x, 32) / -16.0f;
        const float id = bise_inverse(d);
        for (int i = 0; i < 32; i++) {
            const int q = bise_trunc_i8(x[i] * id + 16.5f);
            L[i] = (uint8_t)(q < 31 ? q : 31);
        }
    }
    bise_q5_0 y;
    pack(&y, d, L);
    memcpy(dst, &y, sizeof y);
}

/* Q5_0 encoder for bise_codec; importance changes the search. */
void bise_encode_q5_0_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 32,
                       sizeof(bise_q5_0), encode_block);
}

/* Q5_0 decoder for bise_codec; y = (q - 16) d. */
void bise_decode_q5_0_ref(float *dst, const void *src, size_t n)
{
    const bise_q5_0 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d);
        const uint32_t qh = bise_load_le32(y->qh);
        for (int j = 0; j < 16; j++) {
            const uint32_t h0 = (qh >> j & 1) << 4, h1 = (qh >> (j + 16) & 1) << 4;
            dst[j] = (float)((int)((y->qs[j] & 15) | h0) - 16) * d;
            dst[j + 16] = (float)((int)((y->qs[j] >> 4) | h1) - 16) * d;
        }
    }
}
