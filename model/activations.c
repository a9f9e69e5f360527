/* activations.c - see activations.h. Values, not bytes: what the blocks would
 * decode to.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/activations.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"

/* ggml's quantize_row_q8_0 on x86: the inverse scale from the exact maximum,
 * half to even, the scale as f16. */
static void round_q8_0(float *y, const float *x)
{
    float amax = 0;
    for (int i = 0; i < 32; i++)
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    const float d = bise_f16_to_f32(bise_f32_to_f16(amax / 127.0f));
    const float id = amax != 0 ? 127.0f / amax : 0.0f;
    for (int i = 0; i < 32; i++)
        y[i] = rintf(x[i] * id) * d;
}

/* ggml's quantize_row_q8_K: the largest value becomes -127, the codes stop
 * at 127. */
static void round_q8_k(float *y, const float *x)
{
    float max = 0, amax = 0;
    for (int i = 0; i < 256; i++)
        if (fabsf(x[i]) > amax) {
            amax = fabsf(x[i]);
            max = x[i];
        }
    if (amax == 0) {
        memset(y, 0, 256 * sizeof *y);
        return;
    }
    const float id = -127.0f / max, d = 1 / id;
    for (int i = 0; i < 256; i++) {
        const float q = rintf(id * x[i]);
        y[i] = (q < 127 ? q : 127) * d;
    }
}

/* One value as a 16-bit float. */
static float half_of(bise_dtype t, float x)
{
    return t == BISE_DTYPE_F16 ? bise_f16_to_f32(bise_f32_to_f16(x)) :
                                 bise_bf16_to_f32(bise_f32_to_bf16(x));
}

/* The block length of the weight decides between the two 8-bit forms. */
void bise_round_activations(bise_dtype weight, float *y, const float *x,
                            size_t n)
{
    const uint32_t block = bise_dtype_get(weight)->block_len;
    if (block == 256) {
        for (size_t i = 0; i < n; i += 256)
            round_q8_k(y + i, x + i);
    } else if (block >= 32) {
        for (size_t i = 0; i < n; i += 32)
            round_q8_0(y + i, x + i);
    } else if (weight == BISE_DTYPE_F16 || weight == BISE_DTYPE_BF16) {
        for (size_t i = 0; i < n; i++)
            y[i] = half_of(weight, x[i]);
    } else {
        memcpy(y, x, n * sizeof *y);
    }
}
