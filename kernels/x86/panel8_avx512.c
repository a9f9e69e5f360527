/* panel8_avx512.c - the 8-bit micro-kernel with VNNI: 12 x 32 sums of 32 bits
 * in 24 registers, each step multiplies four unsigned by four signed bytes
 * (vpdpbusd, which does not saturate); packers and quantizers beside it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/panel8.h"
#include "kernels/x86/panel_avx512.h"

#define INFINITE_BITS 0x7f800000u
#define TINY_BITS 0x0d800000u /* 2^-100 */

/* The first n of 16 lanes. */
INLINE __mmask16 lanes(size_t n)
{
    return n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
}

/* Sixteen sums to floats, scaled in the order of the reference. */
INLINE __m512 scaled(__m512i sum, __m512 a, const float *b)
{
    const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), a);
    return b ? _mm512_mul_ps(v, _mm512_loadu_ps(b)) : v;
}

/* sum += four bytes of x times four of w, in place. The intrinsic makes GCC 12
 * copy every sum at each step, which runs out of registers. */
INLINE void dot4(__m512i *sum, __m512i x, __m512i w)
{
    __asm__("vpdpbusd\t%2, %1, %0" : "+v"(*sum) : "v"(x), "v"(w));
}

/* m is a constant at each call, so the sums stay in registers. */
INLINE void mul_rows(const int m, float *y, size_t ldy, const bise_tile8 *t)
{
    __m512i s[BISE_PANEL8_ROWS][2];
    const __m512i start0 = _mm512_loadu_si512(t->start);
    const __m512i start1 = _mm512_loadu_si512(t->start + 16);
    const uint8_t *a = t->a;
    const int8_t *b = t->b;
    const size_t lda = t->lda, quads = t->quads;
    _Pragma("GCC unroll 12")
    for (int i = 0; i < m; i++) {
        s[i][0] = start0;
        s[i][1] = start1;
    }
    for (size_t q = 0; q < quads; q++) {
        const __m512i b0 = _mm512_loadu_si512(b + q * 128);
        const __m512i b1 = _mm512_loadu_si512(b + q * 128 + 64);
        _Pragma("GCC unroll 12")
        for (int i = 0; i < m; i++) {
            int quad;
            memcpy(&quad, a + (size_t)i * lda + 4 * q, sizeof quad);
            const __m512i x = _mm512_set1_epi32(quad);
            dot4(&s[i][0], x, b0);
            dot4(&s[i][1], x, b1);
        }
    }
    _Pragma("GCC unroll 12")
    for (int i = 0; i < m; i++) {
        const __m512 scale = _mm512_set1_ps(t->a_scales[i]);
        put_row(y + (size_t)i * ldy, scaled(s[i][0], scale, t->b_scales),
                scaled(s[i][1], scale, t->b_scales ? t->b_scales + 16 : NULL),
                t->nc, t->add);
    }
}

static void mul_avx512(float *y, size_t ldy, const bise_tile8 *t)
{
    switch (t->m) {
#define CASE(n) case n: mul_rows(n, y, ldy, t); break;
    CASE(12) CASE(11) CASE(10) CASE(9) CASE(8) CASE(7) CASE(6) CASE(5) CASE(4)
    CASE(3) CASE(2) CASE(1)
#undef CASE
    default: break;
    }
}

/* Sums of all bytes of each word, times -128. */
static void sum_columns_avx512(int32_t start[32], const int8_t *b,
                               size_t quads)
{
    const __m512i u = _mm512_set1_epi8((char)128);
    __m512i s0 = _mm512_setzero_si512(), s1 = s0;
    for (size_t q = 0; q < quads; q++) {
        s0 = _mm512_dpbusd_epi32(s0, u, _mm512_loadu_si512(b + q * 128));
        s1 = _mm512_dpbusd_epi32(s1, u, _mm512_loadu_si512(b + q * 128 + 64));
    }
    const __m512i zero = _mm512_setzero_si512();
    _mm512_storeu_si512(start, _mm512_sub_epi32(zero, s0));
    _mm512_storeu_si512(start + 16, _mm512_sub_epi32(zero, s1));
}

/* Sixteen rows, at most 64 values of each from k on, as words transposed into
 * b with stride 32 words. */
INLINE void pack_half(int8_t *b, const int8_t *const rows[16], size_t k,
                      size_t n)
{
    const __mmask64 mask = n >= 64 ? ~(__mmask64)0 :
                                     ((__mmask64)1 << n) - 1;
    __m512i v[16];
    _Pragma("GCC unroll 16")
    for (int i = 0; i < 16; i++)
        v[i] = rows[i] ? _mm512_maskz_loadu_epi8(mask, rows[i] + k) :
                         _mm512_setzero_si512();
    transpose16(v);
    const size_t words = n >= 64 ? 16 : (n + 3) / 4;
    for (size_t i = 0; i < words; i++)
        _mm512_storeu_si512(b + i * 128, v[i]);
}

static void pack_rows_avx512(int8_t *b, const int8_t *const rows[32], size_t r)
{
    for (size_t k = 0; k < r; k += 64) {
        pack_half(b + k * 32, rows, k, r - k);
        pack_half(b + k * 32 + 64, rows + 16, k, r - k);
    }
}

/* Four rows of 64 columns to quads: bytes are interleaved within lanes of 128
 * bits, then the lanes are put in order. */
INLINE void put_quads(int8_t *b, size_t panel, const __m512i row[4])
{
    const __m512i a0 = _mm512_unpacklo_epi8(row[0], row[1]);
    const __m512i a1 = _mm512_unpackhi_epi8(row[0], row[1]);
    const __m512i c0 = _mm512_unpacklo_epi8(row[2], row[3]);
    const __m512i c1 = _mm512_unpackhi_epi8(row[2], row[3]);
    const __m512i e0 = _mm512_unpacklo_epi16(a0, c0);
    const __m512i e1 = _mm512_unpackhi_epi16(a0, c0);
    const __m512i e2 = _mm512_unpacklo_epi16(a1, c1);
    const __m512i e3 = _mm512_unpackhi_epi16(a1, c1);
    const __m512i t0 = _mm512_shuffle_i32x4(e0, e1, 0x44);
    const __m512i t1 = _mm512_shuffle_i32x4(e0, e1, 0xee);
    const __m512i t2 = _mm512_shuffle_i32x4(e2, e3, 0x44);
    const __m512i t3 = _mm512_shuffle_i32x4(e2, e3, 0xee);
    _mm512_storeu_si512(b, _mm512_shuffle_i32x4(t0, t2, 0x88));
    _mm512_storeu_si512(b + 64, _mm512_shuffle_i32x4(t0, t2, 0xdd));
    _mm512_storeu_si512(b + panel, _mm512_shuffle_i32x4(t1, t3, 0x88));
    _mm512_storeu_si512(b + panel + 64, _mm512_shuffle_i32x4(t1, t3, 0xdd));
}

static void pack_columns_avx512(int8_t *b, const int8_t *const *rows, size_t r,
                                size_t cols)
{
    const size_t panel = (r + 3) / 4 * 128;
    for (size_t k = 0; k < r; k += 4)
        for (size_t c = 0; c < cols; c += 64) {
            const size_t n = cols - c;
            const __mmask64 mask = n >= 64 ? ~(__mmask64)0 :
                                             ((__mmask64)1 << n) - 1;
            __m512i v[4];
            _Pragma("GCC unroll 4")
            for (size_t i = 0; i < 4; i++)
                v[i] = k + i < r ?
                           _mm512_maskz_loadu_epi8(mask, rows[k + i] + c) :
                           _mm512_setzero_si512();
            put_quads(b + c / 32 * panel + k * 32, panel, v);
        }
}

/* Sixteen values of a row in either type, times fold. */
INLINE __m512 values(const bool bf16, const void *x, const float *fold,
                     size_t i, __mmask16 m)
{
    __m512 v;
    if (bf16) {
        const __m512i w = _mm512_cvtepu16_epi32(
            _mm256_maskz_loadu_epi16(m, (const uint16_t *)x + i));
        v = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
    } else {
        v = _mm512_maskz_loadu_ps(m, (const float *)x + i);
    }
    return fold ? _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, fold + i)) : v;
}

/* Bits of the largest magnitude: those of finite values sort as integers. */
INLINE uint32_t largest_bits(const bool bf16, const void *x, const float *fold,
                             size_t n)
{
    __m512i top = _mm512_setzero_si512();
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    for (size_t i = 0; i < n; i += 16) {
        const __m512 v = values(bf16, x, fold, i, lanes(n - i));
        top = _mm512_max_epu32(top, _mm512_and_si512(_mm512_castps_si512(v),
                                                     magnitude));
    }
    return _mm512_reduce_max_epu32(top);
}

INLINE float quantize_any(const bool bf16, uint8_t *out, const void *x,
                          const float *fold, size_t n)
{
    const uint32_t bits = largest_bits(bf16, x, fold, n);
    if (bits < TINY_BITS || bits >= INFINITE_BITS) {
        memset(out, 128, n);
        return bits < TINY_BITS ? 0 : NAN;
    }
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    const __m512 inverse = _mm512_set1_ps(127.0f / largest);
    const __m512i zero = _mm512_set1_epi32(128);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = lanes(n - i);
        const __m512 v = values(bf16, x, fold, i, m);
        const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse));
        _mm_mask_storeu_epi8(out + i, m, _mm512_cvtepi32_epi8(
                                             _mm512_add_epi32(q, zero)));
    }
    return largest / 127.0f;
}

static float quantize_avx512(uint8_t *out, const float *x, const float *fold,
                             size_t n)
{
    return quantize_any(false, out, x, fold, n);
}

static float quantize_bf16_avx512(uint8_t *out, const uint16_t *x,
                                  const float *fold, size_t n)
{
    return quantize_any(true, out, x, fold, n);
}

void bise_panel8_ops_avx512(bise_panel8_ops *o)
{
    *o = (bise_panel8_ops){
        .fast = true,
        .quantize = quantize_avx512, .quantize_bf16 = quantize_bf16_avx512,
        .pack_rows = pack_rows_avx512, .pack_columns = pack_columns_avx512,
        .sum_columns = sum_columns_avx512, .mul = mul_avx512,
    };
}
