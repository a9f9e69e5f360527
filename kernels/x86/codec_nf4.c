/* codec_nf4.c - 4-bit weights of bitsandbytes (kernels/nf4.h): 16 codes at a
 * time by counting the midpoints below a value, and back by a look-up in
 * registers. Equal to kernels/ref/nf4.c bit for bit; compiled once per
 * instruction set, installed by its bise_nf4_ops_init.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/nf4.h"
#include "kernels/x86/vec.h"

/* Entries of a table of 16 floats for codes 0..15. */
typedef struct table16 {
#ifdef __AVX512F__
    vf all;
#else
    vf low, high;
#endif
} table16;

BISE_INLINE table16 t_scaled(const float *map, float scale)
{
    table16 t;
#ifdef __AVX512F__
    t.all = v_mul(v_load(map), v_set(scale));
#else
    t.low = v_mul(v_load(map), v_set(scale));
    t.high = v_mul(v_load(map + 8), v_set(scale));
#endif
    return t;
}

BISE_INLINE vf t_get(const table16 *t, vi code)
{
#ifdef __AVX512F__
    return _mm512_permutexvar_ps(code, t->all);
#else
    const vf low = _mm256_permutevar8x32_ps(t->low, code);
    const vf high = _mm256_permutevar8x32_ps(t->high, code);
    /* bit 3 of the code as the sign that blendv looks at */
    return _mm256_blendv_ps(low, high, v_bits(_mm256_slli_epi32(code, 28)));
#endif
}

/* W bytes at p, one a lane. */
BISE_INLINE vi vi_bytes(const uint8_t *p)
{
#ifdef __AVX512F__
    return _mm512_cvtepu8_epi32(b_load(p));
#else
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#endif
}

/* out[2i] = even[i], out[2i + 1] = odd[i]. */
BISE_INLINE void v_store_pairs(float *out, vf even, vf odd)
{
    const vf a = VOP(unpacklo_ps)(even, odd), b = VOP(unpackhi_ps)(even, odd);
    /* a and b hold four of every eight: put the 128-bit parts in order */
#ifdef __AVX512F__
    const vi x = vi_bits(a), y = vi_bits(b);
    const __m512i first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
    const __m512i last = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    v_store(out, v_bits(_mm512_permutex2var_epi64(x, first, y)));
    v_store(out + W, v_bits(_mm512_permutex2var_epi64(x, last, y)));
#else
    v_store(out, _mm256_permute2f128_ps(a, b, 0x20));
    v_store(out + W, _mm256_permute2f128_ps(a, b, 0x31));
#endif
}

/* 2 W weights of W bytes at a time. */
static void lookup(float *out, const uint8_t *codes, size_t bytes,
                   const float map[16], float scale)
{
    const table16 t = t_scaled(map, scale);
    size_t i = 0;
    for (; i + W <= bytes; i += W) {
        const vi b = vi_bytes(codes + i);
        v_store_pairs(out + 2 * i, t_get(&t, VOP(srli_epi32)(b, 4)),
                      t_get(&t, vi_and(b, vi_set(15))));
    }
    for (; i < bytes; i++) {
        out[2 * i] = map[codes[i] >> 4] * scale;
        out[2 * i + 1] = map[codes[i] & 15] * scale;
    }
}

/* Sixteen bytes of pairs: code 2i in the high nibble, 2i + 1 in the low. */
BISE_INLINE b16 b_nibbles(b16 a, b16 b)
{
    const b16 weight = _mm_set1_epi16(0x0110);
    return _mm_packus_epi16(_mm_maddubs_epi16(a, weight),
                            _mm_maddubs_epi16(b, weight));
}

/* Number of midpoints below v in every lane. */
BISE_INLINE vi v_code(vf v, const float *middle)
{
    vi code = vi_set(0);
    v = v_max(v_min(v, v_set(1)), v_set(-1));
    for (int i = 0; i < 15; i++)
        code = vi_count(code, v_lt(v_set(middle[i]), v));
    return code;
}

/* The largest magnitude by the order of its bits, in which infinity and NaN
 * come last. */
static float absmax_of(const float *x)
{
    vi most = vi_set(0);
    int32_t lane[W], m = 0;
    for (int i = 0; i < BISE_NF4_BLOCK; i += W)
        most = vi_max(most, vi_bits(v_abs(v_load(x + i))));
    vi_store(lane, most);
    for (int i = 0; i < W; i++)
        m = lane[i] > m ? lane[i] : m;
    union { int32_t i; float f; } bits = { m };
    return bits.f;
}

/* One block of 64. */
static float encode(uint8_t *codes, const float *x)
{
    float middle[15];
    const float most = absmax_of(x);
    const vf inverse = v_set(1.0f / (most > 1e-38f ? most : 1e-38f));
    for (int i = 0; i < 15; i++)
        middle[i] = (bise_nf4_map[i] + bise_nf4_map[i + 1]) / 2;
    for (int i = 0; i < BISE_NF4_BLOCK; i += 32) {
        vi q[32 / W];
        for (int k = 0; k < 32 / W; k++)
            q[k] = v_code(v_mul(v_load(x + i + k * W), inverse), middle);
        b_store(codes + i / 2, b_nibbles(v_bytes16(q),
                                         v_bytes16(q + 16 / W)));
    }
    return most;
}

/* Install both. */
void BISE_ISA_NAME(bise_nf4_ops)(bise_nf4_ops *o)
{
    o->lookup = lookup;
    o->encode = encode;
}
