/* panel_avx2.c - float32 micro-kernel for AVX2 + FMA: 6 x 16 outputs in twelve
 * registers, two halves for the 32 columns of a panel.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <immintrin.h>
#include <string.h>

#include "core/bytes.h"
#include "kernels/panel.h"

#define INLINE static inline __attribute__((always_inline))

/* Lane masks for the first n of 8 columns. */
INLINE __m256i mask8(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* m (constant) rows, 16 columns of which nc count; a has lda from row to row
 * and step from one k to the next. */
INLINE void mul_half(const int m, float *y, size_t ldy, const float *a,
                     size_t lda, size_t step, const float *b, size_t ldb,
                     size_t r, int nc, bool add)
{
    __m256 s[6][2];
    const __m256i m0 = mask8(nc), m1 = mask8(nc - 8);
    _Pragma("GCC unroll 6")
    for (int i = 0; i < m; i++)
        s[i][0] = s[i][1] = _mm256_setzero_ps();
    for (size_t k = 0; k < r; k++) {
        const __m256 b0 = nc >= 16 ? _mm256_loadu_ps(b + k * ldb) :
                                     _mm256_maskload_ps(b + k * ldb, m0);
        const __m256 b1 = nc >= 16 ? _mm256_loadu_ps(b + k * ldb + 8) :
                                     _mm256_maskload_ps(b + k * ldb + 8, m1);
        _Pragma("GCC unroll 6")
        for (int i = 0; i < m; i++) {
            const __m256 x = _mm256_broadcast_ss(a + (size_t)i * lda +
                                                 k * step);
            s[i][0] = _mm256_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm256_fmadd_ps(x, b1, s[i][1]);
        }
    }
    _Pragma("GCC unroll 6")
    for (int i = 0; i < m; i++) {
        float *row = y + (size_t)i * ldy;
        if (add) {
            s[i][0] = _mm256_add_ps(_mm256_maskload_ps(row, m0), s[i][0]);
            s[i][1] = _mm256_add_ps(_mm256_maskload_ps(row + 8, m1), s[i][1]);
        }
        _mm256_maskstore_ps(row, m0, s[i][0]);
        _mm256_maskstore_ps(row + 8, m1, s[i][1]);
    }
}

/* m <= 12 rows, nc <= 32 columns. */
INLINE void mul_any(float *y, size_t ldy, const float *a, size_t lda,
                    size_t step, const float *b, size_t ldb, size_t r, int m,
                    int nc, bool add)
{
    for (int i = 0; i < m; i += 6)
        for (int c = 0; c < nc; c += 16) {
            float *yy = y + (size_t)i * ldy + c;
            const float *aa = a + (size_t)i * lda, *bb = b + c;
            const int n = nc - c < 16 ? nc - c : 16;
            switch (m - i) {
#define CASE(k) \
    case k: mul_half(k, yy, ldy, aa, lda, step, bb, ldb, r, n, add); break;
            CASE(5) CASE(4) CASE(3) CASE(2) CASE(1)
#undef CASE
            default:
                mul_half(6, yy, ldy, aa, lda, step, bb, ldb, r, n, add);
                break;
            }
        }
}

static void mul_f32_avx2(float *y, size_t ldy, const float *a, size_t lda,
                         const float *b, size_t ldb, size_t r, int m, int nc,
                         bool add)
{
    mul_any(y, ldy, a, lda, 1, b, ldb, r, m, nc, add);
}

static void mul_tile_avx2(float *y, size_t ldy, const bise_tile32 *t)
{
    mul_any(y, ldy, t->a, 1, BISE_PANEL_ROWS, t->b, BISE_PANEL_COLS, t->r,
            t->m, t->nc, t->add);
}

/* Whole panels eight values at a time, the rest by hand. */
static void widen_row_avx2(float *b, size_t panel, const uint16_t *row,
                           size_t n)
{
    const size_t whole = n / BISE_PANEL_COLS * BISE_PANEL_COLS;
    const size_t end = (n + BISE_PANEL_COLS - 1) / BISE_PANEL_COLS *
                       BISE_PANEL_COLS;
    for (size_t c = 0; c < whole; c += 8) {
        const __m128i v = _mm_loadu_si128((const void *)(row + c));
        _mm256_storeu_si256(
            (void *)(b + c / BISE_PANEL_COLS * panel + c % BISE_PANEL_COLS),
            _mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
    }
    for (size_t c = whole; c < end; c++)
        b[c / BISE_PANEL_COLS * panel + c % BISE_PANEL_COLS] =
            c < n ? bise_bf16_to_f32(row[c]) : 0;
}

/* bf16 pairs: the halves of each pair are widened by a shift or a mask, which
 * is exact. m (constant) rows, 16 columns of which nc count. */
INLINE void pair_half(const int m, float *y, size_t ldy, const uint16_t *a,
                      size_t lda, const uint16_t *b, size_t pairs, int nc,
                      bool add)
{
    __m256 s[4][2];
    const __m256i high = _mm256_set1_epi32((int)0xffff0000u);
    _Pragma("GCC unroll 4")
    for (int i = 0; i < m; i++)
        s[i][0] = s[i][1] = _mm256_setzero_ps();
    for (size_t p = 0; p < pairs; p++) {
        const __m256i *at = (const __m256i *)(const void *)(b + p * 64);
        const __m256i v0 = _mm256_loadu_si256(at);
        const __m256i v1 = _mm256_loadu_si256(at + 1);
        const __m256 e0 = _mm256_castsi256_ps(_mm256_slli_epi32(v0, 16));
        const __m256 e1 = _mm256_castsi256_ps(_mm256_slli_epi32(v1, 16));
        const __m256 o0 = _mm256_castsi256_ps(_mm256_and_si256(v0, high));
        const __m256 o1 = _mm256_castsi256_ps(_mm256_and_si256(v1, high));
        _Pragma("GCC unroll 4")
        for (int i = 0; i < m; i++) {
            uint32_t pair;
            memcpy(&pair, a + (size_t)i * lda + 2 * p, sizeof pair);
            const __m256i x = _mm256_set1_epi32((int)pair);
            const __m256 xe = _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
            const __m256 xo = _mm256_castsi256_ps(_mm256_and_si256(x, high));
            s[i][0] = _mm256_fmadd_ps(xe, e0, s[i][0]);
            s[i][1] = _mm256_fmadd_ps(xe, e1, s[i][1]);
            s[i][0] = _mm256_fmadd_ps(xo, o0, s[i][0]);
            s[i][1] = _mm256_fmadd_ps(xo, o1, s[i][1]);
        }
    }
    const __m256i m0 = mask8(nc), m1 = mask8(nc - 8);
    _Pragma("GCC unroll 4")
    for (int i = 0; i < m; i++) {
        float *row = y + (size_t)i * ldy;
        if (add) {
            s[i][0] = _mm256_add_ps(_mm256_maskload_ps(row, m0), s[i][0]);
            s[i][1] = _mm256_add_ps(_mm256_maskload_ps(row + 8, m1), s[i][1]);
        }
        _mm256_maskstore_ps(row, m0, s[i][0]);
        _mm256_maskstore_ps(row + 8, m1, s[i][1]);
    }
}

static void mul_bf16_avx2(float *y, size_t ldy, const uint16_t *a, size_t lda,
                          const uint16_t *b, size_t pairs, int m, int nc,
                          bool add, const bise_panel_tail *tail)
{
    for (int c = 0; c < nc; c += 16)
        for (int i = 0; i < m; i += 4) {
            float *yy = y + (size_t)i * ldy + c;
            const uint16_t *aa = a + (size_t)i * lda, *bb = b + c * 2;
            const int n = nc - c < 16 ? nc - c : 16;
            switch (m - i) {
#define CASE(k) case k: pair_half(k, yy, ldy, aa, lda, bb, pairs, n, add); break;
            CASE(3) CASE(2) CASE(1)
#undef CASE
            default: pair_half(4, yy, ldy, aa, lda, bb, pairs, n, add); break;
            }
        }
    if (tail)
        mul_bf16_avx2(y, ldy, tail->a, tail->lda, tail->b, tail->p, m, nc,
                      true, NULL);
}

/* Round to nearest even by hand (core/bytes.h); the tail in scalar code. */
static void round_bf16_avx2(uint16_t *y, const float *x, size_t n)
{
    const __m256i one = _mm256_set1_epi32(1);
    const __m256i bias = _mm256_set1_epi32(0x7fff);
    const __m256i quiet = _mm256_set1_epi32(0x400000);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        const __m256i u = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
        __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(bias, odd));
        const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
        r = _mm256_blendv_epi8(r, _mm256_or_si256(u, quiet),
                               _mm256_castps_si256(nan));
        r = _mm256_srli_epi32(r, 16);
        const __m128i p = _mm_packus_epi32(_mm256_castsi256_si128(r),
                                           _mm256_extracti128_si256(r, 1));
        _mm_storeu_si128((__m128i *)(void *)(y + i), p);
    }
    for (; i < n; i++)
        y[i] = bise_f32_to_bf16(x[i]);
}

/* Two rows interleaved, sixteen columns at a time. */
static void pack_pairs_bf16_avx2(uint16_t *b, size_t panel_stride,
                                 const uint16_t *const *rows, size_t r,
                                 size_t cols)
{
    const __m256i zero = _mm256_setzero_si256();
    for (size_t n = 0; n < r; n += 2)
        for (size_t c = 0; c < cols; c += 16) {
            const __m256i u =
                _mm256_loadu_si256((const __m256i *)(const void *)
                                   (rows[n] + c));
            const __m256i v = n + 1 < r ?
                _mm256_loadu_si256((const __m256i *)(const void *)
                                   (rows[n + 1] + c)) : zero;
            const __m256i lo = _mm256_unpacklo_epi16(u, v);
            const __m256i hi = _mm256_unpackhi_epi16(u, v);
            __m256i *to = (__m256i *)(void *)
                (b + c / 32 * panel_stride + n / 2 * 64 + c % 32 * 2);
            _mm256_storeu_si256(to, _mm256_permute2x128_si256(lo, hi, 0x20));
            _mm256_storeu_si256(to + 1,
                                _mm256_permute2x128_si256(lo, hi, 0x31));
        }
}

void bise_panel_ops_avx2(bise_panel_ops *o)
{
    o->mul_f32 = mul_f32_avx2;
    o->mul_tile = mul_tile_avx2;
    o->widen_row = widen_row_avx2;
    o->mul_bf16 = mul_bf16_avx2;
    o->round_bf16 = round_bf16_avx2;
    o->pack_pairs_bf16 = pack_pairs_bf16_avx2;
}
