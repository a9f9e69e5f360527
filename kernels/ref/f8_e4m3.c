/* f8_e4m3.c - FP8 E4M3 "fn" (OCP OFP8 1.0): no infinities, 0x7f and 0xff are
 * NaN, bias 7. Decodes the plain codes; scales per tensor or block are applied
 * by the reader of the checkpoint.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include "core/bytes.h"

/* The number a code stands for; subnormals are multiples of 2^-9. */
static float value(uint8_t code)
{
    const uint32_t sign = (uint32_t)(code & 0x80) << 24;
    const uint32_t e = code >> 3 & 15, m = code & 7;
    if ((code & 0x7f) == 0x7f)
        return bise_bits_f32(sign | 0x7fc00000u);
    if (e)
        return bise_bits_f32(sign | (e + 120) << 23 | m << 20);
    const float v = (float)m * 0x1p-9f;
    return sign ? -v : v;
}

/* F8_E4M3 decoder for bise_codec; y = code. */
void bise_decode_f8_e4m3_ref(float *dst, const void *src, size_t n)
{
    const uint8_t *in = src;
    for (size_t i = 0; i < n; i++)
        dst[i] = value(in[i]);
}
