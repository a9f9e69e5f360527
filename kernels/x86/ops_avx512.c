/* ops_avx512.c - the graph's operations with AVX-512 (F, BW, DQ, VL): vectors
 * of sixteen floats for ops_simd.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/ops_x86.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "core/bytes.h"

#define FN(name) name##_avx512
#define VN 16
typedef __m512 V;

static inline V v_set(float a) { return _mm512_set1_ps(a); }
static inline V v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, V v) { _mm512_storeu_ps(p, v); }
static inline V v_add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V v_sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V v_mul(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V v_div(V a, V b) { return _mm512_div_ps(a, b); }
static inline V v_min(V a, V b) { return _mm512_min_ps(a, b); }
static inline V v_max(V a, V b) { return _mm512_max_ps(a, b); }
static inline V v_fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
/* To the nearest whole number, ties to even. */
static inline V v_round(V a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT |
                                       _MM_FROUND_NO_EXC);
}

/* Mask of the first n lanes, n < 16. */
static inline __mmask16 first_lanes(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

/* Lanes past n read nothing and become 0. */
static inline V v_loadn(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

/* Lanes past n are not written. */
static inline void v_storen(float *p, V v, size_t n)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
}

/* Halves are folded in a fixed order. */
static inline float v_sum(V v)
{
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v),
                                   _mm512_extractf32x8_ps(v, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(h),
                          _mm256_extractf128_ps(h, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

/* The order of maxima does not matter. */
static inline float v_hmax(V v) { return _mm512_reduce_max_ps(v); }

/* scalef handles the whole range of n at once. */
static inline V v_scale2(V p, V n) { return _mm512_scalef_ps(p, n); }

/* A bfloat16 is the upper half of a float32. */
static inline V v_load_bf16(const uint16_t *p)
{
    const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h),
                                                 16));
}

/* Widening is exact, subnormals too. */
static inline V v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(
        _mm256_loadu_si256((const __m256i *)(const void *)p));
}

/* Round to nearest even; NaN becomes quiet (core/bytes.h). */
static inline void v_store_bf16(uint16_t *p, V v)
{
    const __m512i u = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16),
                                         _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(
        u, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i r = _mm512_mask_or_epi32(up, nan, u,
                                           _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}

/* Eight doubles a step in two accumulators, folded in a fixed order. */
static double sumsq_avx512(const float *x, size_t n)
{
    __m512d a = _mm512_setzero_pd(), b = a;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512d lo = _mm512_cvtps_pd(_mm256_loadu_ps(x + i));
        const __m512d hi = _mm512_cvtps_pd(_mm256_loadu_ps(x + i + 8));
        a = _mm512_fmadd_pd(lo, lo, a);
        b = _mm512_fmadd_pd(hi, hi, b);
    }
    double sum = _mm512_reduce_add_pd(_mm512_add_pd(a, b));
    for (; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

#include "kernels/x86/ops_simd.h"

/* All slots of ops_simd.h at sixteen floats. */
void bise_ops_init_avx512(bise_kernels *k)
{
    fill_avx512(k);
}
