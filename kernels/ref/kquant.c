/* kquant.c - the encoder shared by Q4_K and Q5_K: search eight sub-blocks,
 * quantize scales and minima to 6 bits, round, requantize (gguf.md 5.4, 5.5).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <math.h>

#include "kernels/block.h"
#include "kernels/ref/kquant.h"

/* Weights of 32 columns: by importance, or root mean square plus |x|. */
static void weights(float *w, const float *x, const float *qw, float sigma2)
{
    if (qw) {
        bise_importance(w, x, qw, sigma2, 32);
        return;
    }
    const float av = sqrtf(bise_mean_square(x, 32));
    for (int i = 0; i < 32; i++)
        w[i] = av + fabsf(x[i]);
}

/* gguf.md 5.4 and 5.5 for sub-blocks of 32. */
void bise_encode_k4(const bise_qkx *plain, uint8_t *d, uint8_t *dmin,
                    uint8_t *packed, uint8_t *L, const float *x,
                    const float *qw)
{
    const float sigma2 = 2 * bise_sum_squares(x, BISE_QK) / BISE_QK;
    const bise_qkx weighted = { 32, plain->nmax, -0.9f, 0.05f, 36, false };
    float w[32], sw[8], scales[8], mins[8];
    uint8_t sc[8], mn[8];
    for (int b = 0; b < 8; b++) {
        weights(w, x + 32 * b, qw ? qw + 32 * b : NULL, sigma2);
        sw[b] = bise_sum(w, 32);
        scales[b] = bise_search_qkx(qw ? &weighted : plain, x + 32 * b, w,
                                    &mins[b], L + 32 * b);
    }
    /* scales of scales */
    if (qw) {
        bise_store_half(d, bise_search_qp(8, 63, scales, sw, sc));
        bise_store_half(dmin, bise_search_qp(8, 63, mins, sw, mn));
    } else {
        bise_store_half(d, bise_linear_codes(sc, scales, 8, 63));
        bise_store_half(dmin, bise_linear_codes(mn, mins, 8, 63));
    }
    bise_pack_scales_k4(packed, sc, mn);
    const float fd = bise_load_half(d), fm = bise_load_half(dmin);
    for (int b = 0; b < 8; b++)
        bise_requantize(L + 32 * b, x + 32 * b, 32, fd * (float)sc[b],
                        fm * (float)mn[b], 0, plain->nmax);
}

/* y = (d sc) q - (dmin mn). */
void bise_decode_k4(float *dst, const uint8_t *d, const uint8_t *dmin,
                    const uint8_t *packed, const uint8_t *qh,
                    const uint8_t *qs)
{
    const float fd = bise_load_half(d), fm = bise_load_half(dmin);
    uint8_t sc[8], mn[8];
    bise_unpack_scales_k4(sc, mn, packed);
    for (int b = 0; b < 8; b++) {
        const float ds = fd * (float)sc[b], m = fm * (float)mn[b];
        for (int j = 0; j < 32; j++) {
            /* sub-blocks 2 c and 2 c + 1 share 32 bytes, low and high */
            int q = qs[b / 2 * 32 + j] >> b % 2 * 4 & 15;
            if (qh)
                q |= (qh[j] >> b & 1) << 4;
            dst[32 * b + j] = ds * (float)q - m;
        }
    }
}
