/* q4_1.c - Q4_1: 32 weights, f16 scale and minimum, 4-bit codes
 * (gguf.md 4.2, 5.2; with importance 5.5).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/rounding.h"
#include "kernels/ref/search.h"

/* Scale, minimum and codes without importance: the range in 15 steps. */
static float linear(const float *x, float *min_out, uint8_t *L)
{
    float min = x[0], max = x[0];
    for (int i = 1; i < 32; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    const float d = (max - min) / 15.0f;
    const float id = bise_inverse(d);
    for (int i = 0; i < 32; i++) {
        const int q = bise_trunc_i8((x[i] - min) * id + 0.5f);
        L[i] = (uint8_t)(q < 15 ? q : 15);
    }
    *min_out = min;
    return d;
}

static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    static const bise_qkx search = { 32, 15, -0.9f, 0.05f, 36, false };
    uint8_t L[32];
    float w[32], d, m;
    bise_q4_1 y;
    if (qw) {
        bise_importance(w, x, qw, sigma2, 32);
        d = bise_search_qkx(&search, x, w, &m, L);
        m = -m;
    } else {
        d = linear(x, &m, L);
    }
    bise_store_half(y.d, d);
    bise_store_half(y.m, m);
    bise_pack_nibbles(y.qs, L, 16);
    memcpy(dst, &y, sizeof y);
}

/* Q4_1 encoder for bise_codec; importance changes the search. */
void bise_encode_q4_1_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 32,
                       sizeof(bise_q4_1), encode_block);
}

/* Q4_1 decoder for bise_codec; y = q d + m. */
void bise_decode_q4_1_ref(float *dst, const void *src, size_t n)
{
    const bise_q4_1 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d), m = bise_load_half(y->m);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)(y->qs[j] & 15) * d + m;
            dst[j + 16] = (float)(y->qs[j] >> 4) * d + m;
        }
    }
}
