/* iq4_xs.c - IQ4_XS: 8 sub-blocks of 32 weights, signed 6-bit scales under
 * one f16 factor, indices into the code book of IQ4_NL (gguf.md 4.3, 5.6).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/rounding.h"
#include "kernels/ref/search.h"

/* One superblock: eight scales, their codes, then the indices. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float row_sigma2)
{
    const float sigma2 = bise_sum_squares(x, BISE_QK) * (2.0f / BISE_QK);
    float w[BISE_QK], scales[8];
    int code[8];
    uint8_t L[32];
    bise_iq4_xs y;
    (void)row_sigma2;
    bise_iq4_weights(w, x, qw, sigma2, BISE_QK);
    for (int b = 0; b < 8; b++)
        scales[b] = bise_search_iq4(x + 32 * b, w + 32 * b);
    /* codes use the factor before its rounding to f16 */
    const float d = -bise_signed_max(scales, 8) / 32;
    const float id = bise_inverse(d);
    for (int b = 0; b < 8; b++) {
        const int l = bise_clamp_int(bise_nearest_int(id * scales[b]), -32, 31);
        const float idl = bise_inverse(d * (float)l);
        code[b] = l + 32;
        for (int i = 0; i < 32; i++)
            L[i] = (uint8_t)bise_iq4_nearest(idl * x[32 * b + i]);
        bise_pack_nibbles(y.qs + 16 * b, L, 16);
    }
    bise_store_half(y.d, d);
    bise_pack_scales_xs(&y, code);
    memcpy(dst, &y, sizeof y);
}

/* IQ4_XS encoder for bise_codec; importance weighs the search. */
void bise_encode_iq4_xs_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, BISE_QK,
                       sizeof(bise_iq4_xs), encode_block);
}

/* IQ4_XS decoder for bise_codec; y = (d s) C[q]. */
void bise_decode_iq4_xs_ref(float *dst, const void *src, size_t n)
{
    static const int8_t value[16] = BISE_IQ4_VALUES;
    const bise_iq4_xs *y = src;
    for (; n; n -= BISE_QK, dst += BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        const uint16_t high = bise_load_le16(y->scales_h);
        for (int b = 0; b < 8; b++) {
            const int lo = y->scales_l[b / 2] >> b % 2 * 4 & 15;
            const float dl = d * (float)((lo | (high >> 2 * b & 3) << 4) - 32);
            for (int j = 0; j < 16; j++) {
                const uint8_t q = y->qs[16 * b + j];
                dst[32 * b + j] = dl * (float)value[q & 15];
                dst[32 * b + j + 16] = dl * (float)value[q >> 4];
            }
        }
    }
}
