/* ops_avx2.c - the graph's operations with AVX2, FMA and F16C: vectors of
 * eight floats for ops_simd.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/ops_x86.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "core/bytes.h"

#define FN(name) name##_avx2
#define VN 8
typedef __m256 V;

static inline V v_set(float a) { return _mm256_set1_ps(a); }
static inline V v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, V v) { _mm256_storeu_ps(p, v); }
static inline V v_add(V a, V b) { return _mm256_add_ps(a, b); }
static inline V v_sub(V a, V b) { return _mm256_sub_ps(a, b); }
static inline V v_mul(V a, V b) { return _mm256_mul_ps(a, b); }
static inline V v_div(V a, V b) { return _mm256_div_ps(a, b); }
static inline V v_min(V a, V b) { return _mm256_min_ps(a, b); }
static inline V v_max(V a, V b) { return _mm256_max_ps(a, b); }
static inline V v_fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
/* To the nearest whole number, ties to even. */
static inline V v_round(V a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* Sign bits set in the first n lanes. */
static inline __m256i first_lanes(size_t n)
{
    const __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), at);
}

/* Lanes past n read nothing and become 0. */
static inline V v_loadn(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, first_lanes(n));
}

/* Lanes past n are not written. */
static inline void v_storen(float *p, V v, size_t n)
{
    _mm256_maskstore_ps(p, first_lanes(n), v);
}

/* Fold halves: (0..3)+(4..7), then pairs. */
static inline float v_sum(V v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v),
                          _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}

/* The largest lane. */
static inline float v_hmax(V v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v),
                          _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}

/* 2^n for whole n in [-126, 127]. */
static inline V v_pow2(__m256i n)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* p 2^n, in two steps because |n| may pass 127. */
static inline V v_scale2(V p, V n)
{
    const __m256i i = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(i, 1);
    return v_mul(v_mul(p, v_pow2(half)), v_pow2(_mm256_sub_epi32(i, half)));
}

/* A bfloat16 is the upper half of a float32. */
static inline V v_load_bf16(const uint16_t *p)
{
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h),
                                                 16));
}

/* F16C widens exactly, subnormals too. */
static inline V v_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* Round to nearest even; NaN becomes quiet (core/bytes.h). */
static inline void v_store_bf16(uint16_t *p, V v)
{
    const __m256i u = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16),
                                         _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(u, _mm256_add_epi32(
                                               _mm256_set1_epi32(0x7fff),
                                               odd));
    const __m256i nan = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    const __m256 is_nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    const __m256i r = _mm256_srli_epi32(
        _mm256_blendv_epi8(up, nan, _mm256_castps_si256(is_nan)), 16);
    const __m256i packed = _mm256_permute4x64_epi64(
        _mm256_packus_epi32(r, r), 0x08);
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_castsi256_si128(packed));
}

/* Four doubles a step in two accumulators, folded in a fixed order. */
static double sumsq_avx2(const float *x, size_t n)
{
    __m256d a = _mm256_setzero_pd(), b = a;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256d lo = _mm256_cvtps_pd(_mm_loadu_ps(x + i));
        const __m256d hi = _mm256_cvtps_pd(_mm_loadu_ps(x + i + 4));
        a = _mm256_fmadd_pd(lo, lo, a);
        b = _mm256_fmadd_pd(hi, hi, b);
    }
    a = _mm256_add_pd(a, b);
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a),
                           _mm256_extractf128_pd(a, 1));
    double sum = _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
    for (; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

#include "kernels/x86/ops_simd.h"

/* All slots of ops_simd.h at eight floats. */
void bise_ops_init_avx2(bise_kernels *k)
{
    fill_avx2(k);
}
