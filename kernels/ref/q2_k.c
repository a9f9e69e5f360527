/* q2_k.c - Q2_K: 16 sub-blocks of 16 weights, 2-bit codes, 4-bit scales and
 * minima under two f16 factors (gguf.md 4.3, 5.4, 5.5).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <math.h>
#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/kquant.h"

/* Search every sub-block and quantize scales and minima. */
static void find_scales(const float *x, const float *qw, uint8_t *L,
                        uint8_t *sc, uint8_t *mn, float *d, float *dmin)
{
    static const bise_qkx plain = { 16, 3, -0.5f, 0.1f, 15, true };
    static const bise_qkx weighted = { 16, 3, -0.9f, 0.05f, 36, false };
    const float sigma2 = bise_mean_square(x, BISE_QK);
    float w[16], sw[16], scales[16], mins[16];
    for (int b = 0; b < 16; b++) {
        const float *xb = x + 16 * b;
        if (qw)
            bise_importance(w, xb, qw + 16 * b, sigma2, 16);
        else
            for (int i = 0; i < 16; i++)
                w[i] = fabsf(xb[i]);
        sw[b] = bise_sum(w, 16);
        scales[b] = bise_search_qkx(qw ? &weighted : &plain, xb, w, &mins[b],
                                    L + 16 * b);
    }
    if (qw) {
        *d = bise_search_qp(16, 15, scales, sw, sc);
        *dmin = bise_search_qp(16, 15, mins, sw, mn);
    } else {
        *d = bise_linear_codes(sc, scales, 16, 15);
        *dmin = bise_linear_codes(mn, mins, 16, 15);
    }
}

/* One superblock: search, code the scales, requantize, pack. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float row_sigma2)
{
    uint8_t L[BISE_QK], sc[16], mn[16];
    float d, dmin;
    bise_q2_k y;
    (void)row_sigma2;
    find_scales(x, qw, L, sc, mn, &d, &dmin);
    bise_store_half(y.d, d);
    bise_store_half(y.dmin, dmin);
    /* codes under the rounded factors */
    d = bise_load_half(y.d);
    dmin = bise_load_half(y.dmin);
    for (int b = 0; b < 16; b++) {
        y.scales[b] = (uint8_t)(sc[b] | mn[b] << 4);
        bise_requantize(L + 16 * b, x + 16 * b, 16, d * (float)sc[b],
                        dmin * (float)mn[b], 0, 3);
    }
    bise_pack_2bit(y.qs, L);
    bise_pack_2bit(y.qs + 32, L + 128);
    memcpy(dst, &y, sizeof y);
}

/* Q2_K encoder for bise_codec; importance changes the search. */
void bise_encode_q2_k_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, BISE_QK,
                       sizeof(bise_q2_k), encode_block);
}

/* Q2_K decoder for bise_codec; y = (d sc) q - dmin mn. */
void bise_decode_q2_k_ref(float *dst, const void *src, size_t n)
{
    const bise_q2_k *y = src;
    for (; n; n -= BISE_QK, dst += BISE_QK, y++) {
        const float d = bise_load_half(y->d), dmin = bise_load_half(y->dmin);
        for (int i = 0; i < BISE_QK; i++) {
            const int q = y->qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
            const uint8_t s = y->scales[i / 16];
            dst[i] = d * (float)(s & 15) * (float)q - dmin * (float)(s >> 4);
        }
    }
}
