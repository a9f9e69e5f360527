/* q5_k.c - Q5_K: 8 sub-blocks of 32 weights, 5-bit codes, 6-bit scales and
 * minima under two f16 factors (gguf.md 4.3). The search is in kquant.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/kquant.h"

/* One superblock; kquant.c does the work. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float row_sigma2)
{
    static const bise_qkx plain = { 32, 31, -0.5f, 0.1f, 15, false };
    uint8_t L[BISE_QK];
    bise_q5_k y;
    (void)row_sigma2;
    bise_encode_k4(&plain, y.d, y.dmin, y.scales, L, x, qw);
    bise_pack_q5_k(&y, L);
    memcpy(dst, &y, sizeof y);
}

/* Q5_K encoder for bise_codec; importance changes the search. */
void bise_encode_q5_k_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, BISE_QK,
                       sizeof(bise_q5_k), encode_block);
}

/* Q5_K decoder for bise_codec; y = (d sc) q - (dmin mn). */
void bise_decode_q5_k_ref(float *dst, const void *src, size_t n)
{
    const bise_q5_k *y = src;
    for (; n; n -= BISE_QK, dst += BISE_QK, y++)
        bise_decode_k4(dst, y->d, y->dmin, y->scales, y->qh, y->qs);
}
