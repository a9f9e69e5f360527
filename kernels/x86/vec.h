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
/* Not a < b: also true for a NaN. */
BISE_INLINE vm v_nlt(vf a, vf b) { return VCMP(a, b, _CMP_NLT_UQ); }
BISE_INLINE vm v_eq(vf a, vf b) { return VCMP(a, b, _CMP_EQ_OQ); }

/* a, kept in a register where there are 32 of them: the compiler would load
 * it again for every use, and 64-byte loads are few. */
BISE_INLINE vf v_held(vf a)
{
#ifdef __AVX512F__
    __asm__("" : "+v"(a));
#endif
    return a;
}

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
/* Floats clamped to 0..hi and to lo..hi (lo < 0 < hi) by their bits: integer
 * comparisons leave the pipes of the additions free. */
BISE_INLINE vf v_clamp_up(vf a, float hi)
{
    const vi bits = VOP(max_epi32)(vi_bits(a), vi_set(0));
    return v_bits(VOP(min_epi32)(bits, vi_bits(v_set(hi))));
}
BISE_INLINE vf v_clamp(vf a, float lo, float hi)
{
    /* below 0 a larger magnitude is a larger unsigned number */
    const vi bits = VOP(min_epu32)(vi_bits(a), vi_bits(v_set(lo)));
    return v_bits(VOP(min_epi32)(bits, vi_bits(v_set(hi))));
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

/* n + 1 in the lanes of m. */
BISE_INLINE vi vi_count(vi n, vm m)
{
#ifdef __AVX512F__
    return _mm512_mask_add_epi32(n, m, n, vi_set(1));
#else
    return vi_sub(n, vi_bits(m));
#endif
}

typedef __m128i b16; /* 16 bytes */

BISE_INLINE b16 b_load(const void *p)
{
    return _mm_loadu_si128(p);
}

BISE_INLINE void b_store(void *p, b16 a)
{
    _mm_storeu_si128(p, a);
}

/* (a >> shift) & mask in every byte, shift + bits of mask <= 8. */
BISE_INLINE b16 b_field(b16 a, int shift, int mask)
{
    return _mm_and_si128(_mm_srli_epi16(a, shift), _mm_set1_epi8((char)mask));
}

/* The low 8 bits of 16 ints. */
BISE_INLINE b16 v_bytes16(const vi *q)
{
#ifdef __AVX512F__
    return _mm512_cvtepi32_epi8(q[0]);
#else
    const vi low = vi_set(255);
    const vi a = _mm256_packs_epi32(vi_and(q[0], low), vi_and(q[1], low));
    const b16 even = _mm256_castsi256_si128(a);
    const b16 odd = _mm256_extracti128_si256(a, 1);
    const b16 b = _mm_packus_epi16(even, odd);
    return _mm_shuffle_epi32(b, 0xd8);
#endif
}

BISE_INLINE void v_store_bytes16(uint8_t *p, const vi *q)
{
    b_store(p, v_bytes16(q));
}

/* Lane l: the least or largest lane of v[l]. The v are overwritten. */
BISE_INLINE vf v_reduce(vf *v, int largest)
{
#define V_PICK(a, b) (largest ? v_max(a, b) : v_min(a, b))
    for (int i = 0; i < W; i += 2)
        v[i / 2] = V_PICK(VOP(unpacklo_ps)(v[i], v[i + 1]),
                          VOP(unpackhi_ps)(v[i], v[i + 1]));
    for (int i = 0; i < W / 2; i += 2)
        v[i / 2] = V_PICK(v_unpack_pd(v[i], v[i + 1], 0),
                          v_unpack_pd(v[i], v[i + 1], 1));
    /* v[i]: four results in each 128-bit part, to be joined over the parts */
#ifdef __AVX512F__
    for (int i = 0; i < 2; i++)
        v[i] = V_PICK(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x88),
                      _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xdd));
    return V_PICK(_mm512_shuffle_f32x4(v[0], v[1], 0x88),
                  _mm512_shuffle_f32x4(v[0], v[1], 0xdd));
#else
    return V_PICK(_mm256_permute2f128_ps(v[0], v[1], 0x20),
                  _mm256_permute2f128_ps(v[0], v[1], 0x31));
#endif
#undef V_PICK
}

#endif
