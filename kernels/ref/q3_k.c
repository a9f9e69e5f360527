/* q3_k.c - Q3_K: 16 sub-blocks of 16 weights, signed 3-bit codes, signed
 * 6-bit scales under one f16 factor (gguf.md 4.3, 5.4, 5.5).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <math.h>
#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/kquant.h"

/* Codes 0..63 (value + 32) of 16 signed scales; returns their factor. */
static float scale_codes(uint8_t *code, const float *scales)
{
    const float max = bise_signed_max(scales, 16);
    memset(code, 0, 16);
    if (max == 0)
        return 0;
    const float iscale = -32.0f / max;
    for (int b = 0; b < 16; b++) {
        const int l = bise_nearest_int(iscale * scales[b]);
        code[b] = (uint8_t)(bise_clamp_int(l, -32, 31) + 32);
    }
    return 1 / iscale;
}

/* Search every sub-block and quantize the scales. Returns the factor. */
static float find_scales(const float *x, const float *qw, uint8_t *L,
                         uint8_t *code)
{
    const float sigma2 = 2 * bise_sum_squares(x, BISE_QK) / BISE_QK;
    float w[16], sw[16], scales[16];
    for (int b = 0; b < 16; b++) {
        const float *xb = x + 16 * b;
        if (!qw) {
            scales[b] = bise_search_q3(16, 4, xb, L + 16 * b);
            continue;
        }
        bise_importance(w, xb, qw + 16 * b, sigma2, 16);
        sw[b] = bise_sum(w, 16);
        scales[b] = bise_search_qx(16, 4, xb, w, L + 16 * b);
    }
    return qw ? bise_search_qx(16, 32, scales, sw, code) :
                scale_codes(code, scales);
}

/* One superblock: search, code the scales, requantize, pack. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float row_sigma2)
{
    uint8_t L[BISE_QK], code[16];
    bise_q3_k y;
    (void)row_sigma2;
    bise_store_half(y.d, find_scales(x, qw, L, code));
    bise_pack_scales_q3(y.scales, code);
    /* codes under the rounded factor */
    const float d = bise_load_half(y.d);
    for (int b = 0; b < 16; b++)
        bise_requantize(L + 16 * b, x + 16 * b, 16, d * (float)(code[b] - 32),
                        0, -4, 3);
    bise_pack_q3_k(&y, L);
    memcpy(dst, &y, sizeof y);
}

/* Q3_K encoder for bise_codec; importance changes the search. */
void bise_encode_q3_k_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, BISE_QK,
                       sizeof(bise_q3_k), encode_block);
}

/* Q3_K decoder for bise_codec; y = (d s) q. */
void bise_decode_q3_k_ref(float *dst, const void *src, size_t n)
{
    const bise_q3_k *y = src;
    uint8_t code[16];
    for (; n; n -= BISE_QK, dst += BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        bise_unpack_scales_q3(code, y->scales);
        for (int i = 0; i < BISE_QK; i++) {
            const int lo = y->qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
            const int hi = y->hmask[i % 32] >> i / 32 & 1;
            dst[i] = d * (float)(code[i / 16] - 32) *
                     (float)(lo - (hi ? 0 : 4));
        }
    }
}
