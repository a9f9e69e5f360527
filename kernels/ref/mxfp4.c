/* mxfp4.c - MXFP4 (OCP MX 1.0): 32 E2M1 values under one E8M0 power of two
 * (gguf.md 4.2, 5.2).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/fp4.h"
#include "kernels/ref/search.h"

/* One block under a power of two. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    uint8_t L[32];
    bise_mxfp4 y;
    (void)qw;
    (void)sigma2;
    y.e = bise_mxfp4_exponent(fabsf(bise_signed_max(x, 32)));
    bise_e2m1_codes(L, x, 32, bise_e8m0_half(y.e));
    bise_pack_nibbles(y.qs, L, 16);
    memcpy(dst, &y, sizeof y);
}

/* MXFP4 encoder for bise_codec; importance is ignored. */
void bise_encode_mxfp4_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 32,
                       sizeof(bise_mxfp4), encode_block);
}

/* MXFP4 decoder for bise_codec; y = E[q] 2^(e - 128). */
void bise_decode_mxfp4_ref(float *dst, const void *src, size_t n)
{
    static const int8_t value[16] = BISE_E2M1_VALUES;
    const bise_mxfp4 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float s = bise_e8m0_half(y->e);
        for (int j = 0; j < 16; j++) {
            dst[j] = (float)value[y->qs[j] & 15] * s;
            dst[j + 16] = (float)value[y->qs[j] >> 4] * s;
        }
    }
}
