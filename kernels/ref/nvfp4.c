/* nvfp4.c - NVFP4: 64 E2M1 values, one unsigned E4M3 scale per 16
 * (gguf.md 4.2, 5.2). The scale of the tensor is stored apart.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include <string.h>

#include "kernels/block.h"
#include "kernels/ref/fp4.h"
#include "kernels/ref/search.h"

/* One block of four sub-blocks. */
static void encode_block(uint8_t *dst, const float *x, const float *qw,
                         float sigma2)
{
    uint8_t L[16];
    bise_nvfp4 y;
    (void)qw;
    (void)sigma2;
    /* each 16 weights: the largest becomes 6 under the rounded scale */
    for (int s = 0; s < 4; s++) {
        const float amax = fabsf(bise_signed_max(x + 16 * s, 16));
        y.d[s] = bise_f32_to_ue4m3(amax / 6.0f);
        bise_e2m1_codes(L, x + 16 * s, 16, bise_ue4m3_to_f32(y.d[s]) * 0.5f);
        bise_pack_nibbles(y.qs + 8 * s, L, 8);
    }
    memcpy(dst, &y, sizeof y);
}

/* NVFP4 encoder for bise_codec; importance is ignored. */
void bise_encode_nvfp4_ref(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_encode_blocks(dst, src, rows, cols, imatrix, 64,
                       sizeof(bise_nvfp4), encode_block);
}

/* NVFP4 decoder for bise_codec; y = E[q] (u / 2). */
void bise_decode_nvfp4_ref(float *dst, const void *src, size_t n)
{
    static const int8_t value[16] = BISE_E2M1_VALUES;
    const bise_nvfp4 *y = src;
    for (; n; n -= 64, dst += 64, y++) {
        for (int i = 0; i < 32; i++) {
            const float u = bise_ue4m3_to_f32(y->d[i / 8]) * 0.5f;
            float *out = dst + i / 8 * 16 + i % 8;
            out[0] = (float)value[y->qs[i] & 15] * u;
            out[8] = (float)value[y->qs[i] >> 4] * u;
        }
    }
}
