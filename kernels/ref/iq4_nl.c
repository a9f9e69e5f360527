/* iq4_nl.c - IQ4_NL: 32 weights, f16 scale, 4-bit indices into a fixed
 * non-linear code book (gguf.md 4.2, 5.6).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/rounding.h"
#include "kernels/ref/search.h"

/* One block: weights, scale, indices. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float row_sigma2)
{
    float w[32];
    uint8_t L[32];
    bise_q4_0 y;
    (void)row_sigma2;
    bise_iq4_weights(w, x, qw, bise_sum_squares(x, 32) * (2.0f / 32), 32);
    const float d = bise_search_iq4(x, w);
    const float id = bise_inverse(d);
    /* the scale before its rounding to f16 chooses the codes */
    for (int i = 0; i < 32; i++)
        L[i] = (uint8_t)bise_iq4_nearest(id * x[i]);
    bise_store_half(y.d, d);
    bise_pack_nibbles(y.qs, L, 16);
    memcpy(dst, &y, sizeof y);
}

/* IQ4_NL encoder for bise_codec; importance weighs the search. */
void bise_encode_iq4_nl_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 32,
                       sizeof(bise_q4_0), encode_block);
}

/* IQ4_NL decoder for bise_codec; y = d C[q]. */
void bise_decode_iq4_nl_ref(float *dst, const void *src, size_t n)
{
    static const int8_t value[16] = BISE_IQ4_VALUES;
    const bise_q4_0 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d);
        for (int j = 0; j < 16; j++) {
            dst[j] = d * (float)value[y->qs[j] & 15];
            dst[j + 16] = d * (float)value[y->qs[j] >> 4];
        }
    }
}
