/* panel_ref.c - the plain versions of the micro-kernels and packers of
 * panel.h: one accumulator per output, increasing reduction index.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/bytes.h"
#include "kernels/panel.h"

#define COLS BISE_PANEL_COLS

/* y[i][c] (+)= sum_k a[i][k] b[k][c] */
static void mul_f32_ref(float *y, size_t ldy, const float *a, size_t lda,
                        const float *b, size_t ldb, size_t r, int m, int nc,
                        bool add)
{
    for (int i = 0; i < m; i++)
        for (int c = 0; c < nc; c++) {
            float sum = 0;
            for (size_t k = 0; k < r; k++)
                sum += a[(size_t)i * lda + k] * b[k * ldb + (size_t)c];
            float *out = &y[(size_t)i * ldy + (size_t)c];
            *out = add ? *out + sum : sum;
        }
}

/* The same over packed operands; nothing is asked for. */
static void mul_tile_ref(float *y, size_t ldy, const bise_tile32 *t)
{
    for (int i = 0; i < t->m; i++)
        for (int c = 0; c < t->nc; c++) {
            float sum = 0;
            for (size_t k = 0; k < t->r; k++)
                sum += t->a[k * BISE_PANEL_ROWS + (size_t)i] *
                       t->b[k * COLS + (size_t)c];
            float *out = &y[(size_t)i * ldy + (size_t)c];
            *out = t->add ? *out + sum : sum;
        }
}

static void pack_tile_ref(float *tile, const float *x, size_t ldx, int m,
                          size_t n)
{
    for (size_t k = 0; k < n; k++)
        for (int i = 0; i < m; i++)
            tile[k * BISE_PANEL_ROWS + (size_t)i] = x[(size_t)i * ldx + k];
}

static void widen_rows_ref(float *b, const uint16_t *const rows[32], size_t r)
{
    for (size_t k = 0; k < r; k++)
        for (int c = 0; c < COLS; c++)
            b[k * COLS + (size_t)c] =
                rows[c] ? bise_bf16_to_f32(rows[c][k]) : 0;
}

/* Columns of the last panel that the row does not have are zeros. */
static void widen_row_ref(float *b, size_t panel, const uint16_t *row,
                          size_t n)
{
    for (size_t c = 0; c < (n + COLS - 1) / COLS * COLS; c++)
        b[c / COLS * panel + c % COLS] = c < n ? bise_bf16_to_f32(row[c]) : 0;
}

/* sum + the products of 2 p values of a row with column c of a panel */
static float add_pairs(float sum, const uint16_t *a, const uint16_t *b,
                       size_t p, int c)
{
    for (size_t k = 0; k < 2 * p; k++)
        sum += bise_bf16_to_f32(a[k]) *
               bise_bf16_to_f32(b[k / 2 * 64 + (size_t)c * 2 + k % 2]);
    return sum;
}

/* mul_f32 over bf16 pairs; products and sums in float32. */
static void mul_bf16_ref(float *y, size_t ldy, const uint16_t *a, size_t lda,
                         const uint16_t *b, size_t p, int m, int nc, bool add,
                         const bise_panel_tail *tail)
{
    for (int i = 0; i < m; i++)
        for (int c = 0; c < nc; c++) {
            float sum = add_pairs(0, a + (size_t)i * lda, b, p, c);
            if (tail)
                sum = add_pairs(sum, tail->a + (size_t)i * tail->lda, tail->b,
                                tail->p, c);
            float *out = &y[(size_t)i * ldy + (size_t)c];
            *out = add ? *out + sum : sum;
        }
}

static void pack_rows_f32_ref(float *b, const float *const rows[32], size_t r)
{
    for (size_t k = 0; k < r; k++)
        for (int c = 0; c < COLS; c++)
            b[k * COLS + (size_t)c] = rows[c] ? rows[c][k] : 0;
}

static void pack_rows_bf16_ref(uint16_t *b, const uint16_t *const rows[32],
                               size_t r)
{
    for (size_t k = 0; k < (r + 1) / 2 * 2; k++)
        for (int c = 0; c < COLS; c++)
            b[k / 2 * 64 + (size_t)c * 2 + k % 2] =
                rows[c] && k < r ? rows[c][k] : 0;
}

static void pack_pairs_bf16_ref(uint16_t *b, size_t panel_stride,
                                const uint16_t *const *rows, size_t r,
                                size_t cols)
{
    for (size_t n = 0; n < (r + 1) / 2 * 2; n++)
        for (size_t c = 0; c < cols; c++)
            b[c / COLS * panel_stride + n / 2 * 64 + c % COLS * 2 + n % 2] =
                n < r ? rows[n][c] : 0;
}

static void round_bf16_ref(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = bise_f32_to_bf16(x[i]);
}

void bise_panel_ops_ref(bise_panel_ops *o)
{
    *o = (bise_panel_ops){
        .has_bf16 = false,
        .mul_f32 = mul_f32_ref, .mul_bf16 = mul_bf16_ref,
        .mul_tile = mul_tile_ref, .pack_tile = pack_tile_ref,
        .widen_rows = widen_rows_ref, .widen_row = widen_row_ref,
        .pack_rows_f32 = pack_rows_f32_ref,
        .pack_rows_bf16 = pack_rows_bf16_ref,
        .pack_pairs_bf16 = pack_pairs_bf16_ref,
        .round_bf16 = round_bf16_ref,
    };
}
