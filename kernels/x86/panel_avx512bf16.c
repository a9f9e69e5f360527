/* panel_avx512bf16.c - the bf16 micro-kernel: 12 x 32 float32 sums in 24
 * registers, each step multiplies pairs of bf16 (AVX512_BF16 dpbf16ps, which
 * flushes denormals and rounds its two products' sum to nearest even). Panels
 * of at most 16 columns, such as adapters of rank 16, cost half.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/panel.h"
#include "kernels/x86/panel_avx512.h"

#define LATE 40 /* steps before the last one at which y is asked for: asked for
                   at the start, operands would push it out again */

/* A pair of reduction steps: b [32][2] against the pairs at a. */
INLINE void step(const int m, const bool wide, __m512 s[][2],
                 const uint16_t *a, size_t lda, const uint16_t *b)
{
    const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b);
    const __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + (wide ? 32 : 0));
    _Pragma("GCC unroll 12")
    for (int i = 0; i < m; i++) {
        int pair;
        memcpy(&pair, a + (size_t)i * lda, sizeof pair);
        const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
        s[i][0] = _mm512_dpbf16_ps(s[i][0], x, b0);
        if (wide)
            s[i][1] = _mm512_dpbf16_ps(s[i][1], x, b1);
    }
}

/* m and wide are constants at each call, so the sums stay in registers. */
INLINE void mul_rows(const int m, const bool wide, float *y, size_t ldy,
                     const uint16_t *a, size_t lda, const uint16_t *b,
                     size_t pairs, int nc, bool add,
                     const bise_panel_tail *tail)
{
    __m512 s[BISE_PANEL_ROWS][2];
    _Pragma("GCC unroll 12")
    for (int i = 0; i < m; i++)
        s[i][0] = s[i][1] = _mm512_setzero_ps();
    size_t p = 0;
    if (pairs >= FAR) {
        for (; p < pairs - LATE; p++)
            step(m, wide, s, a + 2 * p, lda, b + p * 64);
        ask_rows(y, ldy, m);
    }
    for (; p < pairs; p++)
        step(m, wide, s, a + 2 * p, lda, b + p * 64);
    for (size_t q = 0; tail && q < tail->p; q++)
        step(m, wide, s, tail->a + 2 * q, tail->lda, tail->b + q * 64);
    put_rows(m, y, ldy, s, nc, add);
}

static void mul_bf16_avx512bf16(float *y, size_t ldy, const uint16_t *a,
                                size_t lda, const uint16_t *b, size_t pairs,
                                int m, int nc, bool add,
                                const bise_panel_tail *tail)
{
    switch (m + (nc > 16 ? 0 : BISE_PANEL_ROWS)) {
#define CASE(n) \
    case n: \
        mul_rows(n, true, y, ldy, a, lda, b, pairs, nc, add, tail); break; \
    case n + BISE_PANEL_ROWS: \
        mul_rows(n, false, y, ldy, a, lda, b, pairs, nc, add, tail); break;
    CASE(12) CASE(11) CASE(10) CASE(9) CASE(8) CASE(7) CASE(6) CASE(5) CASE(4)
    CASE(3) CASE(2) CASE(1)
#undef CASE
    default: break;
    }
}

static void round_bf16_avx512bf16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m =
            n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        const __m256bh h = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(m, x + i));
        _mm256_mask_storeu_epi16(y + i, m, (__m256i)h);
    }
}

void bise_panel_ops_avx512bf16(bise_panel_ops *o)
{
    o->has_bf16 = true;
    o->mul_bf16 = mul_bf16_avx512bf16;
    o->round_bf16 = round_bf16_avx512bf16;
    bise_panel_decode_avx512bf16(o);
}
