/* f8_e5m2.c - FP8 E5M2 (OCP OFP8 1.0): the upper byte of an IEEE binary16
 * value, infinities and NaN included. Decoded only.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec_ref.h"

#include "core/bytes.h"

/* F8_E5M2 decoder for bise_codec; y = code. */
void bise_decode_f8_e5m2_ref(float *dst, const void *src, size_t n)
{
    const uint8_t *in = src;
    for (size_t i = 0; i < n; i++)
        dst[i] = bise_f16_to_f32((uint16_t)(in[i] << 8));
}
