/* q4_0.c - Q4_0: 32 weights, one f16 scale, 4-bit codes around 8
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
static void pack(bise_q4_0 *y, float d, const uint8_t *L)
{
    bise_store_half(y->d, d);
    bise_pack_nibbles(y->qs, L, 16);
}

static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    uint8_t L[32];
    float w[32], d;
    if (qw) {
        bise_importance(w, x, qw, sigma2, 32);
        d = bise_search_qx(32, 8, x, w, L);
    } else {
        /* the largest weight lands on -8 exactly */
        d = bise_signed_max(x, 32) / -8.0f;
        const float id = bise_inverse(d);
        for (int i = 0; i < 32; i++) {
            const int q = bise_trunc_i8(x[i] * id + 8.5f);
            L[i] = (uint8_t)(q < 15 ? q : 15);
        }
    }
    bise_q4_0 y;
    pack(&y, d, L);
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
