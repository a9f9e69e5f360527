/* panel_avx512.c - float32 micro-kernels of 12 x 32 outputs in 24 registers,
 * and the packers as 16 x 16 transposes of 32-bit words. AVX-512 F, BW, DQ, VL.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/panel.h"
#include "kernels/x86/panel_avx512.h"

#define AHEAD 32 /* rows fetched ahead while packing */

/* m is a constant at each call, so the sums stay in registers. */
INLINE void mul_rows(const int m, float *y, size_t ldy, const float *a,
                     size_t lda, const float *b, size_t ldb, size_t r, int nc,
                     bool add)
{
    __m512 s[BISE_PANEL_ROWS][2];
    const __mmask16 m1 = nc >= 32 ? 0xffff :
                         nc > 16 ? (__mmask16)((1u << (nc - 16)) - 1) : 0;
    const __mmask16 m0 = nc >= 16 ? 0xffff : (__mmask16)((1u << nc) - 1);
    if (r >= FAR)
        ask_rows(y, ldy, m);
    _Pragma("GCC unroll 12")
    for (int i = 0; i < m; i++)
        s[i][0] = s[i][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < r; k++) {
        /* b may be an array of the caller's with only nc columns */
        const __m512 b0 = _mm512_maskz_loadu_ps(m0, b + k * ldb);
        const __m512 b1 = _mm512_maskz_loadu_ps(m1, b + k * ldb + 16);
        _Pragma("GCC unroll 12")
        for (int i = 0; i < m; i++) {
            const __m512 x = _mm512_set1_ps(a[(size_t)i * lda + k]);
            s[i][0] = _mm512_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(x, b1, s[i][1]);
        }
    }
    put_rows(m, y, ldy, s, nc, add);
}

static void mul_f32_avx512(float *y, size_t ldy, const float *a, size_t lda,
                           const float *b, size_t ldb, size_t r, int m, int nc,
                           bool add)
{
    switch (m) {
#define CASE(n) \
    case n: mul_rows(n, y, ldy, a, lda, b, ldb, r, nc, add); break;
    CASE(12) CASE(11) CASE(10) CASE(9) CASE(8) CASE(7) CASE(6) CASE(5) CASE(4)
    CASE(3) CASE(2) CASE(1)
#undef CASE
    default: break;
    }
}

/* Step d of a tile: one row of the panel, twelve values of x. */
INLINE void tile_step(const int m, __m512 s[12][2], const float *a,
                      const float *b, const int d)
{
    const __m512 b0 = _mm512_loadu_ps(b + d * BISE_PANEL_COLS);
    const __m512 b1 = _mm512_loadu_ps(b + d * BISE_PANEL_COLS + 16);
    _Pragma("GCC unroll 12")
    for (int i = 0; i < m; i++) {
        const __m512 x = _mm512_set1_ps(a[d * BISE_PANEL_ROWS + i]);
        s[i][0] = _mm512_fmadd_ps(x, b0, s[i][0]);
        s[i][1] = _mm512_fmadd_ps(x, b1, s[i][1]);
    }
}

/* n times four steps. Each time lines are asked for, at near and at far: all
 * at once they would keep the loads of the panel waiting. The last steps (rows)
 * ask for a row of y instead, where it ends and where it begins. */
INLINE void tile_steps(const int m, __m512 s[12][2], const float **a,
                       const float **b, size_t n, const char *near,
                       size_t near_step, const char *far, size_t far_step,
                       const bool rows)
{
    for (; n > 0; n--, near += near_step, far += far_step) {
        if (rows) {
            __builtin_prefetch(near, 1);
            __builtin_prefetch(far, 1);
        } else {
            __builtin_prefetch(near);
            __builtin_prefetch(far, 0, 2);
        }
        _Pragma("GCC unroll 4")
        for (int d = 0; d < 4; d++)
            tile_step(m, s, *a, *b, d);
        *a += 4 * BISE_PANEL_ROWS;
        *b += 4 * BISE_PANEL_COLS;
        /* One pointer each: GCC would make one for every row and run out. */
        __asm__("" : "+r"(*a), "+r"(*b));
    }
}

/* m is a constant at each call. */
INLINE void mul_tile_rows(const int m, float *y, size_t ldy,
                          const bise_tile32 *t)
{
    __m512 s[BISE_PANEL_ROWS][2];
    const float *a = t->a, *b = t->b;
    const size_t n = t->r / 4, row = ldy * sizeof *y;
    const size_t last = n > BISE_PANEL_ROWS ? (size_t)m : 0;
    const char *yy = (const char *)y;
    _Pragma("GCC unroll 12")
    for (int i = 0; i < m; i++)
        s[i][0] = s[i][1] = _mm512_setzero_ps();
    tile_steps(m, s, &a, &b, n - last, t->soon,
               n > last ? t->soon_bytes / (n - last) : 0, t->far, t->far_step,
               false);
    tile_steps(m, s, &a, &b, last, yy, row, yy + 124, row, true);
    for (size_t k = n * 4; k < t->r; k++) {
        tile_step(m, s, a, b, 0);
        a += BISE_PANEL_ROWS;
        b += BISE_PANEL_COLS;
    }
    put_rows(m, y, ldy, s, t->nc, t->add);
}

static void mul_tile_avx512(float *y, size_t ldy, const bise_tile32 *t)
{
    switch (t->m) {
#define CASE(n) case n: mul_tile_rows(n, y, ldy, t); break;
    CASE(12) CASE(11) CASE(10) CASE(9) CASE(8) CASE(7) CASE(6) CASE(5) CASE(4)
    CASE(3) CASE(2) CASE(1)
#undef CASE
    default: break;
    }
}

/* Sixteen values of each row at a time, transposed. */
static void pack_tile_avx512(float *tile, const float *x, size_t ldx, int m,
                             size_t n)
{
    const __mmask16 rows = (1 << BISE_PANEL_ROWS) - 1;
    for (size_t k = 0; k < n; k += 16) {
        const size_t left = n - k < 16 ? n - k : 16;
        const __mmask16 mask = (__mmask16)((1u << left) - 1);
        __m512i v[16];
        _Pragma("GCC unroll 16")
        for (int i = 0; i < 16; i++)
            v[i] = i < m ? _mm512_maskz_loadu_epi32(
                               mask, x + (size_t)i * ldx + k) :
                           _mm512_setzero_si512();
        transpose16(v);
        float *to = tile + k * BISE_PANEL_ROWS;
        if (left < 16) {
            for (size_t i = 0; i < left; i++)
                _mm512_mask_storeu_epi32(to + i * BISE_PANEL_ROWS, rows,
                                         v[i]);
            continue;
        }
        _Pragma("GCC unroll 16")
        for (int i = 0; i < 16; i++)
            _mm512_mask_storeu_epi32(to + i * BISE_PANEL_ROWS, rows, v[i]);
    }
}

/* Sixteen rows, at most 32 values of each from k on: pairs are transposed as
 * words, then each half of a pair is widened. */
INLINE void widen_half(float *b, const uint16_t *const rows[16], size_t k,
                       size_t n)
{
    const __mmask32 mask = n >= 32 ? 0xffffffff : ((__mmask32)1 << n) - 1;
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    __m512i v[16];
    _Pragma("GCC unroll 16")
    for (int i = 0; i < 16; i++)
        v[i] = rows[i] ? _mm512_maskz_loadu_epi16(mask, rows[i] + k) :
                         _mm512_setzero_si512();
    transpose16(v);
    for (size_t i = 0; i < 16 && 2 * i < n; i++) {
        float *to = b + 2 * i * BISE_PANEL_COLS;
        _mm512_storeu_si512(to, _mm512_slli_epi32(v[i], 16));
        if (2 * i + 1 < n)
            _mm512_storeu_si512(to + BISE_PANEL_COLS,
                                _mm512_and_si512(v[i], high));
    }
}

static void widen_rows_avx512(float *b, const uint16_t *const rows[32],
                              size_t r)
{
    for (size_t k = 0; k < r; k += 32) {
        widen_half(b + k * BISE_PANEL_COLS, rows, k, r - k);
        widen_half(b + k * BISE_PANEL_COLS + 16, rows + 16, k, r - k);
    }
}

/* Half a panel at a time. */
static void widen_row_avx512(float *b, size_t panel, const uint16_t *row,
                             size_t n)
{
    for (size_t c = 0; c < (n + 31) / 32 * 32; c += 16) {
        const __mmask16 mask = n >= c + 16 ? 0xffff :
                               n > c ? (__mmask16)((1u << (n - c)) - 1) : 0;
        const __m512i v = _mm512_cvtepu16_epi32(
            _mm256_maskz_loadu_epi16(mask, row + c));
        _mm512_storeu_si512(b + c / 32 * panel + c % 32,
                            _mm512_slli_epi32(v, 16));
    }
}

/* bf16 pairs without AVX512_BF16: each half of a pair is widened by a shift or
 * a mask, which is exact, and multiplied in float32. Six rows, so that the
 * widened halves of b stay in registers too. */
INLINE void mul_pairs(const int m, float *y, size_t ldy, const uint16_t *a,
                      size_t lda, const uint16_t *b, size_t pairs, int nc,
                      bool add)
{
    __m512 s[6][2];
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    _Pragma("GCC unroll 6")
    for (int i = 0; i < m; i++)
        s[i][0] = s[i][1] = _mm512_setzero_ps();
    for (size_t p = 0; p < pairs; p++) {
        const __m512i v0 = _mm512_loadu_si512(b + p * 64);
        const __m512i v1 = _mm512_loadu_si512(b + p * 64 + 32);
        const __m512 e0 = _mm512_castsi512_ps(_mm512_slli_epi32(v0, 16));
        const __m512 e1 = _mm512_castsi512_ps(_mm512_slli_epi32(v1, 16));
        const __m512 o0 = _mm512_castsi512_ps(_mm512_and_si512(v0, high));
        const __m512 o1 = _mm512_castsi512_ps(_mm512_and_si512(v1, high));
        _Pragma("GCC unroll 6")
        for (int i = 0; i < m; i++) {
            uint32_t pair;
            memcpy(&pair, a + (size_t)i * lda + 2 * p, sizeof pair);
            const __m512i x = _mm512_set1_epi32((int)pair);
            const __m512 xe = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
            const __m512 xo = _mm512_castsi512_ps(_mm512_and_si512(x, high));
            s[i][0] = _mm512_fmadd_ps(xe, e0, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(xe, e1, s[i][1]);
            s[i][0] = _mm512_fmadd_ps(xo, o0, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(xo, o1, s[i][1]);
        }
    }
    put_rows(m, y, ldy, s, nc, add);
}

static void mul_bf16_avx512(float *y, size_t ldy, const uint16_t *a,
                            size_t lda, const uint16_t *b, size_t pairs, int m,
                            int nc, bool add, const bise_panel_tail *tail)
{
    for (int i = 0; i < m; i += 6) {
        float *yy = y + (size_t)i * ldy;
        const uint16_t *aa = a + (size_t)i * lda;
        switch (m - i) {
#define CASE(n) case n: mul_pairs(n, yy, ldy, aa, lda, b, pairs, nc, add); break;
        CASE(5) CASE(4) CASE(3) CASE(2) CASE(1)
#undef CASE
        default: mul_pairs(6, yy, ldy, aa, lda, b, pairs, nc, add); break;
        }
    }
    if (tail)
        mul_bf16_avx512(y, ldy, tail->a, tail->lda, tail->b, tail->p, m, nc,
                        true, NULL);
}

/* Round to nearest even by hand: the same bits as core/bytes.h for all values
 * but NaN, which activations are checked for. */
static void round_bf16_avx512(uint16_t *y, const float *x, size_t n)
{
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i bias = _mm512_set1_epi32(0x7fff);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m =
            n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        const __m512i u = _mm512_castps_si512(v);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
        __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(bias, odd));
        const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        r = _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
        _mm256_mask_storeu_epi16(
            y + i, m, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
    }
}

/* Sixteen rows of 16 words each, transposed into b with stride 32. */
INLINE void pack_words_full(uint32_t *b, const uint32_t *const rows[16],
                            size_t at)
{
    __m512i v[16];
    _Pragma("GCC unroll 16")
    for (int i = 0; i < 16; i++)
        v[i] = _mm512_loadu_si512(rows[i] + at);
    transpose16(v);
    _Pragma("GCC unroll 16")
    for (int i = 0; i < 16; i++)
        _mm512_storeu_si512(b + (size_t)i * 32, v[i]);
}

/* The same for n <= 16 words and missing rows (NULL = zeros). */
static void pack_words(uint32_t *b, const uint32_t *const rows[16], size_t at,
                       int n)
{
    __m512i v[16];
    const __mmask16 mask = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
    for (int i = 0; i < 16; i++)
        v[i] = rows[i] ? _mm512_maskz_loadu_epi32(mask, rows[i] + at) :
                         _mm512_setzero_si512();
    transpose16(v);
    for (int i = 0; i < n; i++)
        _mm512_storeu_si512(b + (size_t)i * 32, v[i]);
}

/* All words of 32 rows: whole tiles fast, the rest by pack_words. */
static void pack_tiles(uint32_t *b, const uint32_t *const rows[32],
                       size_t words)
{
    for (int h = 0; h < 2; h++) {
        const uint32_t *const *half = rows + h * 16;
        size_t k = 0;
        if (half[15])
            for (; k + 16 <= words; k += 16)
                pack_words_full(b + k * 32 + h * 16, half, k);
        for (; k < words; k += 16)
            pack_words(b + k * 32 + h * 16, half, k,
                       words - k < 16 ? (int)(words - k) : 16);
    }
}

static void pack_rows_f32_avx512(float *b, const float *const rows[32],
                                 size_t r)
{
    pack_tiles((uint32_t *)(void *)b,
               (const uint32_t *const *)(const void *)rows, r);
}

/* Pairs of bf16 are moved as one word; an odd last column is done by hand. */
static void pack_rows_bf16_avx512(uint16_t *b, const uint16_t *const rows[32],
                                  size_t r)
{
    const size_t words = r / 2;
    pack_tiles((uint32_t *)(void *)b,
               (const uint32_t *const *)(const void *)rows, words);
    if (r % 2)
        for (int c = 0; c < 32; c++) {
            b[words * 64 + (size_t)c * 2] = rows[c] ? rows[c][r - 1] : 0;
            b[words * 64 + (size_t)c * 2 + 1] = 0;
        }
}

/* Two rows to pairs, 32 columns at a time; a few panels per pass over the rows
 * so that each row's cache lines are used whole. */
static void pack_pairs_bf16_avx512(uint16_t *b, size_t panel_stride,
                                   const uint16_t *const *rows, size_t r,
                                   size_t cols)
{
    static const uint16_t order[64] = {
        0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39,
        8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47,
        16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
        24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63 };
    const __m512i lo = _mm512_loadu_si512(order);
    const __m512i hi = _mm512_loadu_si512(order + 32);
    for (size_t n = 0; n < r; n += 2) {
        const uint16_t *p = rows[n], *q = n + 1 < r ? rows[n + 1] : NULL;
        /* Rows lie pages apart, which no hardware prefetcher follows. */
        const uint16_t *soon = rows[n + AHEAD < r ? n + AHEAD : n];
        const uint16_t *next = rows[n + AHEAD + 1 < r ? n + AHEAD + 1 : n];
        for (size_t c = 0; c < cols; c += 32) {
            _mm_prefetch((const char *)(soon + c), _MM_HINT_T1);
            _mm_prefetch((const char *)(next + c), _MM_HINT_T1);
            const __m512i x = _mm512_loadu_si512(p + c);
            const __m512i y = q ? _mm512_loadu_si512(q + c) :
                                  _mm512_setzero_si512();
            uint16_t *to = b + c / 32 * panel_stride + n * 32;
            _mm512_storeu_si512(to, _mm512_permutex2var_epi16(x, lo, y));
            _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(x, hi, y));
        }
    }
}

void bise_panel_ops_avx512(bise_panel_ops *o)
{
    o->mul_f32 = mul_f32_avx512;
    o->mul_tile = mul_tile_avx512;
    o->pack_tile = pack_tile_avx512;
    o->widen_rows = widen_rows_avx512;
    o->widen_row = widen_row_avx512;
    o->pack_rows_f32 = pack_rows_f32_avx512;
    o->mul_bf16 = mul_bf16_avx512;
    o->round_bf16 = round_bf16_avx512;
    o->pack_rows_bf16 = pack_rows_bf16_avx512;
    o->pack_pairs_bf16 = pack_pairs_bf16_avx512;
}
