/* panel_packed.c - products with operands that the caller packs once and uses
 * several times: tiles of keys and values in attention, adapters' matrices.
 * The layout is that of panel.h: panels of 32 columns, [r / 2][32][2].
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/panel.h"

#define COLS BISE_PANEL_COLS
#define MOST_ROWS 64 /* rows handed to the packer at a time */

/* Reduction steps are padded to pairs. */
static size_t even(int32_t r)
{
    return ((size_t)r + 1) / 2 * 2;
}

size_t bise_panel_packed(int32_t n, int32_t r)
{
    return ((size_t)n + COLS - 1) / COLS * COLS * even(r);
}

void bise_panel_pack_rows(const bise_panel_ops *o, uint16_t *b,
                          const uint16_t *rows, size_t ld, int32_t n,
                          int32_t r)
{
    for (int32_t c = 0; c < n; c += COLS) {
        const uint16_t *at[COLS];
        for (int i = 0; i < COLS; i++)
            at[i] = c + i < n ? rows + (size_t)(c + i) * ld : NULL;
        o->pack_rows_bf16(b + (size_t)c * even(r), at, (size_t)r);
    }
}

/* The last n % 32 columns: one value at a time, zeros beyond. */
static void pack_tail(uint16_t *b, const uint16_t *rows, size_t ld, int32_t r,
                      int32_t n)
{
    for (size_t k = 0; k < even(r); k++)
        for (int32_t c = 0; c < COLS; c++)
            b[k / 2 * 2 * COLS + (size_t)c * 2 + k % 2] =
                k < (size_t)r && c < n ? rows[k * ld + (size_t)c] : 0;
}

void bise_panel_pack_pairs(const bise_panel_ops *o, uint16_t *b,
                           const uint16_t *rows, size_t ld, int32_t r,
                           int32_t n)
{
    const int32_t whole = n / COLS * COLS;
    const size_t stride = COLS * even(r);
    for (int32_t k = 0; whole && k < r; k += MOST_ROWS) {
        const int32_t m = r - k < MOST_ROWS ? r - k : MOST_ROWS;
        const uint16_t *at[MOST_ROWS];
        for (int32_t i = 0; i < m; i++)
            at[i] = rows + (size_t)(k + i) * ld;
        o->pack_pairs_bf16(b + (size_t)k * COLS, stride, at, (size_t)m,
                           (size_t)whole);
    }
    if (whole < n)
        pack_tail(b + (size_t)whole * even(r), rows + whole, ld, r, n - whole);
}

void bise_panel_mul(const bise_panel_ops *o, float *y, size_t ldy,
                    const uint16_t *a, size_t lda, const uint16_t *b,
                    int32_t m, int32_t n, int32_t r, bool add)
{
    /* A panel stays in the first cache while the rows pass over it, in equal
     * blocks: few rows at a time cost more than their share. */
    const int32_t blocks = (m + BISE_PANEL_ROWS - 1) / BISE_PANEL_ROWS;
    for (int32_t c = 0; c < n; c += COLS) {
        const int nc = n - c < COLS ? n - c : COLS;
        for (int32_t k = 0; k < blocks; k++) {
            const int32_t i = m * k / blocks;
            const int rows = m * (k + 1) / blocks - i;
            o->mul_bf16(y + (size_t)i * ldy + c, ldy, a + (size_t)i * lda,
                        lda, b + (size_t)c * even(r), even(r) / 2, rows, nc,
                        add, NULL);
        }
    }
}
