/* vec.h - one vocabulary of vector operations for both instruction sets: W
 * float lanes (16 with AVX-512, 8 with AVX2), int lanes and lane masks. The
 * codec files written with it are compiled once per set. Nothing here fuses
 * multiply and add: each operation rounds like the scalar one.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_X86_VEC_H
#define BISE_KERNELS_X86_VEC_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define BISE_INLINE static inline __attribute__((always_inline))
/* name_avx2 or name_avx512, for what a file exports. */
#define BISE_ISA_NAME2(name, isa) name##_##isa
#define BISE_ISA_NAME1(name, isa) BISE_ISA_NAME2(name, isa)
#define BISE_ISA_NAME(name) BISE_ISA_NAME1(name, BISE_ISA)

#ifdef __AVX512F__
enum { W = 16 };
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
#define VOP(name) _mm512_##name
#define VCMP(a, b, op) _mm512_cmp_ps_mask(a, b, op)
BISE_INLINE vf v_sel(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
BISE_INLINE vi vi_sel(vm m, vi a, vi b)
{
    return _mm512_mask_blend_epi32(m, b, a);
}
BISE_INLINE vf v_bits(vi a) { return _mm512_castsi512_ps(a); }
BISE_INLINE vi vi_bits(vf a) { return _mm512_castps_si512(a); }
BISE_INLINE vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
BISE_INLINE vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
BISE_INLINE vm m_and(vm a, vm b) { return (vm)(a & b); }
BISE_INLINE vm m_or(vm a, vm b) { return (vm)(a | b); }
BISE_INLINE vm m_not(vm a) { return (vm)~a; }
BISE_INLINE int m_bits(vm a) { return a; }
BISE_INLINE vm vi_eq(vi a, vi b) { return _mm512_cmpeq_epi32_mask(a, b); }
BISE_INLINE vf v_round(vf a) { return _mm512_roundscale_ps(a, 8); }
#else
enum { W = 8 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;
#define VOP(name) _mm256_##name
#define VCMP(a, b, op) _mm256_cmp_ps(a, b, op)
BISE_INLINE vf v_sel(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }
BISE_INLINE vf v_bits(vi a) { return _mm256_castsi256_ps(a); }
BISE_INLINE vi vi_bits(vf a) { return _mm256_castps_si256(a); }
BISE_INLINE vi vi_sel(vm m, vi a, vi b)
{
    return vi_bits(v_sel(m, v_bits(a), v_bits(b)));
}
BISE_INLINE vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
BISE_INLINE vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
BISE_INLINE vm m_and(vm a, vm b) { return _mm256_and_ps(a, b); }
BISE_INLINE vm m_or(vm a, vm b) { return _mm256_or_ps(a, b); }
BISE_INLINE vm m_not(vm a)
{
    return _mm256_xor_ps(a, v_bits(_mm256_set1_epi32(-1)));
}
BISE_INLINE int m_bits(vm a) { return _mm256_movemask_ps(a); }
BISE_INLINE vm vi_eq(vi a, vi b) { return v_bits(_mm256_cmpeq_epi32(a, b)); }
BISE_INLINE vf v_round(vf a) { return _mm256_round_ps(a, 8); }
#endif

BISE_INLINE vf v_load(const void *p) { return VOP(loadu_ps)(p); }
BISE_INLINE void v_store(float *p, vf a) { VOP(storeu_ps)(p, a); }
BISE_INLINE void vi_store(int32_t *p, vi a) { v_store((float *)p, v_bits(a)); }
BISE_INLINE vf v_set(float a) { return VOP(set1_ps)(a); }
BISE_INLINE vf v_zero(void) { return VOP(setzero_ps)(); }
BISE_INLINE vi vi_set(int a) { return VOP(set1_epi32)(a); }
BISE_INLINE vf v_add(vf a, vf b) { return VOP(add_ps)(a, b); }
BISE_INLINE vf v_sub(vf a, vf b) { return VOP(sub_ps)(a, b); }
BISE_INLINE vf v_mul(vf a, vf b) { return VOP(mul_ps)(a, b); }
BISE_INLINE vf v_div(vf a, vf b) { return VOP(div_ps)(a, b); }
BISE_INLINE vf v_sqrt(vf a) { return VOP(sqrt_ps)(a); }
/* a < b ? a : b and a > b ? a : b, the second when unordered or equal. */
BISE_INLINE vf v_min(vf a, vf b) { return VOP(min_ps)(a, b); }
BISE_INLINE vf v_max(vf a, vf b) { return VOP(max_ps)(a, b); }
BISE_INLINE vi vi_add(vi a, vi b) { return VOP(add_epi32)(a, b); }
BISE_INLINE vi vi_sub(vi a, vi b) { return VOP(sub_epi32)(a, b); }
BISE_INLINE vi vi_min(vi a, vi b) { return VOP(min_epi32)(a, b); }
BISE_INLINE vi vi_max(vi a, vi b) { return VOP(max_epi32)(a, b); }
BISE_INLINE vf v_float(vi a) { return VOP(cvtepi32_ps)(a); }
/* Truncate; out of range gives INT32_MIN, as in scalar x86 code. */
BISE_INLINE vi vi_trunc(vf a) { return VOP(cvttps_epi32)(a); }
BISE_INLINE vm v_lt(vf a, vf b) { return VCMP(a, b, _CMP_LT_OQ); }
BISE_INLINE vm v_gt(vf a, vf b) { return VCMP(a, b, _CMP_GT_OQ); }
BISE_INLINE vm v_ge(vf a, vf b) { return VCMP(a, b, _CMP_GE_OQ); }
BISE_INLINE vm v_eq(vf a, vf b) { return VCMP(a, b, _CMP_EQ_OQ); }

BISE_INLINE int m_any(vm a) { return m_bits(a) != 0; }
BISE_INLINE int m_all(vm a) { return m_bits(a) == (1 << W) - 1; }
BISE_INLINE vf v_abs(vf a)
{
    return v_bits(vi_and(vi_bits(a), vi_set(0x7fffffff)));
}
/* -a by the sign bit, also for zero. */
BISE_INLINE vf v_neg(vf a)
{
    return v_bits(vi_add(vi_bits(a), vi_set(INT32_MIN)));
}
/* bise_nearest_int of search.h in every lane, wrapping like it. */
BISE_INLINE vi v_nearest(vf a)
{
    const vi bits = vi_bits(v_add(a, v_set(12582912.0f)));
    return vi_sub(vi_and(bits, vi_set(0x7fffff)), vi_set(0x400000));
}
BISE_INLINE vi vi_clamp(vi a, int lo, int hi)
{
    return vi_min(vi_max(a, vi_set(lo)), vi_set(hi));
}
/* 1/a, 0 for zero lanes. */
BISE_INLINE vf v_inverse(vf a)
{
    const vf zero = v_zero();
    return v_sel(v_eq(a, zero), zero, v_div(v_set(1), a));
}

/* Rows r, r + 4 (, r + 8, r + 12), four floats each, side by side. */
BISE_INLINE vf v_load_quads(const float *const *row, int r, size_t off)
{
#ifdef __AVX512F__
    vf v = _mm512_castps128_ps512(_mm_loadu_ps(row[r] + off));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[r + 4] + off), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(row[r + 8] + off), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps(row[r + 12] + off), 3);
#else
    const vf v = _mm256_castps128_ps256(_mm_loadu_ps(row[r] + off));
    return _mm256_insertf128_ps(v, _mm_loadu_ps(row[r + 4] + off), 1);
#endif
}

BISE_INLINE vf v_unpack_pd(vf a, vf b, int high)
{
    const __typeof__(VOP(castps_pd)(a)) x = VOP(castps_pd)(a),
                                        y = VOP(castps_pd)(b);
    return VOP(castpd_ps)(high ? VOP(unpackhi_pd)(x, y) :
                                 VOP(unpacklo_pd)(x, y));
}

/* Columns off .. off + n of W rows: out[c] lane r = row[r][off + c]. */
BISE_INLINE void v_load_columns(vf *out, const float *const *row, size_t off,
                                int n)
{
    for (int c = 0; c < n; c += 4, off += 4) {
        /* 4x4 transposes inside the 128-bit parts */
        const vf a = v_load_quads(row, 0, off), b = v_load_quads(row, 1, off);
        const vf d = v_load_quads(row, 2, off), e = v_load_quads(row, 3, off);
        const vf ab0 = VOP(unpacklo_ps)(a, b), ab1 = VOP(unpackhi_ps)(a, b);
        const vf de0 = VOP(unpacklo_ps)(d, e), de1 = VOP(unpackhi_ps)(d, e);
        out[c] = v_unpack_pd(ab0, de0, 0);
        out[c + 1] = v_unpack_pd(ab0, de0, 1);
        out[c + 2] = v_unpack_pd(ab1, de1, 0);
        out[c + 3] = v_unpack_pd(ab1, de1, 1);
    }
}

/* 16 int codes as bytes (their low 8 bits, values must fit). */
BISE_INLINE void v_store_bytes16(uint8_t *p, const vi *q)
{
#ifdef __AVX512F__
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(q[0]));
#else
    __m256i a = _mm256_packs_epi32(q[0], q[1]);
    a = _mm256_permute4x64_epi64(a, 0xd8);
    a = _mm256_packus_epi16(a, a);
    a = _mm256_permute4x64_epi64(a, 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_castsi256_si128(a));
#endif
}

#endif
