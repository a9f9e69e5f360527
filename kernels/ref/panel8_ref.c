/* panel8_ref.c - the slots of panel8.h in plain C: what the others must equal
 * bit by bit.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/panel8.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"

#define COLS BISE_PANEL8_COLS
#define INFINITE_BITS 0x7f800000u
#define TINY_BITS 0x0d800000u /* 2^-100 */

/* Scale of a row from the bits of its largest magnitude; a row that has none
 * is filled. Returns false when there is nothing to quantize. */
static bool row_scale(float *scale, uint8_t *out, uint32_t largest, size_t n)
{
    if (largest >= TINY_BITS && largest < INFINITE_BITS) {
        *scale = bise_bits_f32(largest) / 127.0f;
        return true;
    }
    memset(out, 128, n);
    *scale = largest < TINY_BITS ? 0 : NAN;
    return false;
}

static uint32_t magnitude(float v)
{
    return bise_f32_bits(v) & 0x7fffffffu;
}

static float quantize_ref(uint8_t *out, const float *x, const float *fold,
                          size_t n)
{
    uint32_t largest = 0;
    float scale;
    for (size_t i = 0; i < n; i++) {            /* pass 1: max |v| */
        const uint32_t m = magnitude(fold ? x[i] * fold[i] : x[i]);
        largest = m > largest ? m : largest;
    }
    if (!row_scale(&scale, out, largest, n))
        return scale;
    const float inverse = 127.0f / bise_bits_f32(largest);
    for (size_t i = 0; i < n; i++) {            /* pass 2: nearest even */
        const float v = fold ? x[i] * fold[i] : x[i];
        out[i] = (uint8_t)(128 + lrintf(v * inverse));
    }
    return scale;
}

static float quantize_bf16_ref(uint8_t *out, const uint16_t *x,
                               const float *fold, size_t n)
{
    uint32_t largest = 0;
    float scale;
    for (size_t i = 0; i < n; i++) {
        const float v = bise_bf16_to_f32(x[i]);
        const uint32_t m = magnitude(fold ? v * fold[i] : v);
        largest = m > largest ? m : largest;
    }
    if (!row_scale(&scale, out, largest, n))
        return scale;
    const float inverse = 127.0f / bise_bits_f32(largest);
    for (size_t i = 0; i < n; i++) {
        const float v = bise_bf16_to_f32(x[i]);
        out[i] = (uint8_t)(128 + lrintf((fold ? v * fold[i] : v) * inverse));
    }
    return scale;
}

/* b[k / 4][c][k % 4] = rows[c][k] */
static void pack_rows_ref(int8_t *b, const int8_t *const rows[32], size_t r)
{
    for (size_t k = 0; k < (r + 3) / 4 * 4; k++)
        for (size_t c = 0; c < COLS; c++)
            b[k / 4 * 4 * COLS + c * 4 + k % 4] =
                rows[c] && k < r ? rows[c][k] : 0;
}

/* panel c / 32: b[k / 4][c % 32][k % 4] = rows[k][c] */
static void pack_columns_ref(int8_t *b, const int8_t *const *rows, size_t r,
                             size_t cols)
{
    const size_t steps = (r + 3) / 4 * 4;
    for (size_t k = 0; k < steps; k++)
        for (size_t c = 0; c < (cols + COLS - 1) / COLS * COLS; c++)
            b[c / COLS * COLS * steps + k / 4 * 4 * COLS + c % COLS * 4 +
              k % 4] = k < r && c < cols ? rows[k][c] : 0;
}

static void sum_columns_ref(int32_t start[32], const int8_t *b, size_t quads)
{
    memset(start, 0, COLS * sizeof *start);
    for (size_t q = 0; q < quads; q++)
        for (size_t i = 0; i < 4 * COLS; i++)
            start[i / 4] -= 128 * b[q * 4 * COLS + i];
}

static void mul_ref(float *y, size_t ldy, const bise_tile8 *t)
{
    for (int i = 0; i < t->m; i++)
        for (int c = 0; c < t->nc; c++) {
            int32_t sum = t->start[c];
            for (size_t k = 0; k < t->quads * 4; k++)
                sum += t->a[(size_t)i * t->lda + k] *
                       t->b[k / 4 * 4 * COLS + (size_t)c * 4 + k % 4];
            float v = (float)sum * t->a_scales[i];
            if (t->b_scales)
                v *= t->b_scales[c];
            float *to = y + (size_t)i * ldy + c;
            *to = t->add ? *to + v : v;
        }
}

void bise_panel8_ops_ref(bise_panel8_ops *o)
{
    *o = (bise_panel8_ops){
        .quantize = quantize_ref, .quantize_bf16 = quantize_bf16_ref,
        .pack_rows = pack_rows_ref, .pack_columns = pack_columns_ref,
        .sum_columns = sum_columns_ref, .mul = mul_ref,
    };
}
