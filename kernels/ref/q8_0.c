/* q8_0.c - Q8_0: 32 weights, f16 scale, signed bytes rounded half away
 * from zero (gguf.md 5.2). Importance is ignored.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <math.h>
#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/rounding.h"
#include "kernels/ref/search.h"

/* One block; half away from zero, not to even. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    (void)qw;
    (void)sigma2;
    bise_q8_0 y;
    const float d = fabsf(bise_signed_max(x, 32)) / 127.0f;
    const float id = bise_inverse(d);
    bise_store_half(y.d, d);
    for (int i = 0; i < 32; i++)
        y.qs[i] = (int8_t)bise_trunc_i8(roundf(x[i] * id));
    memcpy(dst, &y, sizeof y);
}

/* Q8_0 encoder for bise_codec; importance is ignored. */
void bise_encode_q8_0_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 32,
                       sizeof(bise_q8_0), encode_block);
}

/* Q8_0 decoder for bise_codec; y = q d. */
void bise_decode_q8_0_ref(float *dst, const void *src, size_t n)
{
    const bise_q8_0 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d);
        for (int j = 0; j < 32; j++)
            dst[j] = (float)y->qs[j] * d;
    }
}
