/* q6_k.c - Q6_K: 16 sub-blocks of 16 weights, signed 6-bit codes, 8-bit
 * scales under one f16 factor (gguf.md 4.3, 5.4). Importance is used raw.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <math.h>
#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/kquant.h"

/* Scale codes and the factor of 16 signed scales whose largest is max. */
static float scale_codes(int8_t *code, const float *scales, float max)
{
    const float iscale = -128.0f / max;
    for (int b = 0; b < 16; b++) {
        const int l = bise_nearest_int(iscale * scales[b]);
        code[b] = (int8_t)(l < 127 ? l : 127);
    }
    return 1 / iscale;
}

/* One superblock: search, code the scales, requantize, pack. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float row_sigma2)
{
    uint8_t L[BISE_QK];
    float scales[16];
    bise_q6_k y;
    (void)row_sigma2;
    for (int b = 0; b < 16; b++)
        scales[b] = bise_search_qx(16, 32, x + 16 * b,
                                   qw ? qw + 16 * b : NULL, L + 16 * b);
    /* a superblock of nothing is zero bytes */
    const float max = bise_signed_max(scales, 16);
    if (fabsf(max) < BISE_QUANT_EPS) {
        memset(dst, 0, sizeof y);
        return;
    }
    bise_store_half(y.d, scale_codes(y.scales, scales, max));
    const float d = bise_load_half(y.d);
    for (int b = 0; b < 16; b++)
        bise_requantize(L + 16 * b, x + 16 * b, 16, d * (float)y.scales[b], 0,
                        -32, 31);
    bise_pack_q6_k(&y, L);
    memcpy(dst, &y, sizeof y);
}

/* Q6_K encoder for bise_codec; importance weighs the search. */
void bise_encode_q6_k_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, BISE_QK,
                       sizeof(bise_q6_k), encode_block);
}

/* Q6_K decoder for bise_codec; y = (d s) q. */
void bise_decode_q6_k_ref(float *dst, const void *src, size_t n)
{
    const bise_q6_k *y = src;
    for (; n; n -= BISE_QK, dst += BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        for (int i = 0; i < BISE_QK; i++) {
            /* half h, quarter g, byte l: see the layout in gguf.md 4.3 */
            const int h = i / 128, g = i % 128 / 32, l = i % 32;
            const int lo = y->ql[64 * h + l + 32 * (g & 1)] >> g / 2 * 4 & 15;
            const int hi = y->qh[32 * h + l] >> 2 * g & 3;
            dst[i] = d * (float)y->scales[i / 16] * (float)((lo | hi << 4) - 32);
        }
    }
}
