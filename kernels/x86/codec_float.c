/* codec_float.c - conversions between float32 and the 16-bit and 8-bit float
 * types, W values at a time, the rest by the reference. Bits as in gguf.md
 * 4.1; a NaN stays a NaN. Compiled once per instruction set.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/codec_x86.h"

#include "kernels/codec_ref.h"
#include "kernels/x86/vec.h"

/* W values of 16 bits, and W bytes widened to ints. */
#ifdef __AVX512F__
typedef __m256i half_bits;
BISE_INLINE half_bits h_load(const void *p) { return _mm256_loadu_si256(p); }
BISE_INLINE void h_store(void *p, half_bits h) { _mm256_storeu_si256(p, h); }
BISE_INLINE vi h_widen(half_bits h) { return _mm512_cvtepu16_epi32(h); }
BISE_INLINE half_bits h_narrow(vi a) { return _mm512_cvtepi32_epi16(a); }
BISE_INLINE vi v_load_bytes(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
}
#else
typedef __m128i half_bits;
BISE_INLINE half_bits h_load(const void *p) { return _mm_loadu_si128(p); }
BISE_INLINE void h_store(void *p, half_bits h) { _mm_storeu_si128(p, h); }
BISE_INLINE vi h_widen(half_bits h) { return _mm256_cvtepu16_epi32(h); }
BISE_INLINE half_bits h_narrow(vi a)
{
    return _mm_packus_epi32(_mm256_castsi256_si128(a),
                            _mm256_extracti128_si256(a, 1));
}
BISE_INLINE vi v_load_bytes(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
}
#endif

/* NaN lanes. */
BISE_INLINE vm v_is_nan(vf a)
{
    return m_not(v_eq(a, a));
}

/* a with one NaN for each sign: 0x7fc00000 and 0xffc00000. */
BISE_INLINE vf v_canonical_nan(vf a)
{
    const vi sign = vi_and(vi_bits(a), vi_set(INT32_MIN));
    return v_sel(v_is_nan(a), v_bits(vi_or(sign, vi_set(0x7fc00000))), a);
}

/* To nearest even by the F16C instruction. */
static void encode_f16(void *dst, const float *src, size_t rows, size_t cols,
                       const float *imatrix)
{
    uint8_t *out = dst;
    size_t n = rows * cols;
    for (; n >= W; n -= W, src += W, out += 2 * W) {
        const vf v = v_canonical_nan(v_load(src));
        h_store(out, VOP(cvtps_ph)(v, _MM_FROUND_TO_NEAREST_INT |
                                          _MM_FROUND_NO_EXC));
    }
    bise_encode_f16_ref(out, src, 1, n, imatrix);
}

/* Exact; a signalling NaN becomes quiet. */
static void decode_f16(float *dst, const void *src, size_t n)
{
    const uint8_t *in = src;
    for (; n >= W; n -= W, in += 2 * W, dst += W)
        v_store(dst, VOP(cvtph_ps)(h_load(in)));
    bise_decode_f16_ref(dst, in, n);
}

/* To nearest even by integers; NaN keeps its upper bits. */
static void encode_bf16(void *dst, const float *src, size_t rows, size_t cols,
                        const float *imatrix)
{
    uint8_t *out = dst;
    size_t n = rows * cols;
    for (; n >= W; n -= W, src += W, out += 2 * W) {
        const vf v = v_load(src);
        const vi bits = vi_bits(v), top = VOP(srli_epi32)(bits, 16);
        /* to nearest even: add half, and one more where the kept part is odd */
        const vi half = vi_add(vi_and(top, vi_set(1)), vi_set(0x7fff));
        const vi even = VOP(srli_epi32)(vi_add(bits, half), 16);
        const vi nan = vi_or(top, vi_set(0x40));
        h_store(out, h_narrow(vi_sel(v_is_nan(v), nan, even)));
    }
    bise_encode_bf16_ref(out, src, 1, n, imatrix);
}

/* The bits move up, nothing is rounded. */
static void decode_bf16(float *dst, const void *src, size_t n)
{
    const uint8_t *in = src;
    for (; n >= W; n -= W, in += 2 * W, dst += W)
        v_store(dst, v_bits(VOP(slli_epi32)(h_widen(h_load(in)), 16)));
    bise_decode_bf16_ref(dst, in, n);
}

/* Bits shifted into place, then scaled by a power of two. */
static void decode_f8_e4m3(float *dst, const void *src, size_t n)
{
    const uint8_t *in = src;
    for (; n >= W; n -= W, in += W, dst += W) {
        const vi c = v_load_bytes(in), low = vi_and(c, vi_set(0x7f));
        const vi sign = VOP(slli_epi32)(vi_sub(c, low), 24);
        /* the code as a float is 2^-120 of its value, subnormals included */
        vf v = v_bits(VOP(slli_epi32)(low, 20));
        v = v_mul(v, v_set(0x1p120f));
        v = v_sel(vi_eq(low, vi_set(0x7f)), v_bits(vi_set(0x7fc00000)), v);
        v_store(dst, v_bits(vi_or(vi_bits(v), sign)));
    }
    bise_decode_f8_e4m3_ref(dst, in, n);
}

/* The upper byte of an f16. */
static void decode_f8_e5m2(float *dst, const void *src, size_t n)
{
    const uint8_t *in = src;
    for (; n >= W; n -= W, in += W, dst += W) {
        const vi half = VOP(slli_epi32)(v_load_bytes(in), 8);
        v_store(dst, VOP(cvtph_ps)(h_narrow(half)));
    }
    bise_decode_f8_e5m2_ref(dst, in, n);
}

/* Install the float conversions of this instruction set. */
void BISE_ISA_NAME(bise_codecs_float)(bise_codec *table)
{
    table[BISE_DTYPE_F16] = (bise_codec){ encode_f16, decode_f16 };
    table[BISE_DTYPE_BF16] = (bise_codec){ encode_bf16, decode_bf16 };
    table[BISE_DTYPE_F8_E4M3].decode = decode_f8_e4m3;
    table[BISE_DTYPE_F8_E5M2].decode = decode_f8_e5m2;
}
