/* panel_decode.c - frozen weights of block types straight to bf16 for the
 * panels. Of a block of 4 or 5 bit codes with one scale there are only 16 or
 * 32 different weights: they are computed and rounded once and looked up, 32
 * codes an instruction. 6 and 8 bit codes are multiplied and rounded in pairs
 * of vectors. The same bits as decoding to float32 (codec_decode.c, operation
 * by operation) and rounding with AVX512_BF16.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/block.h"
#include "kernels/panel.h"
#include "kernels/x86/panel_avx512.h"

/* Codes 0..15 as floats, plus first. */
INLINE __m512 iota(float first)
{
    const __m512i n = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5,
                                       4, 3, 2, 1, 0);
    return _mm512_add_ps(_mm512_cvtepi32_ps(n), _mm512_set1_ps(first));
}

/* Sixteen floats rounded, twice: bit 4 of an index does not matter. */
INLINE __m512i table16(__m512 v)
{
    const __m256i half = (__m256i)_mm512_cvtneps_pbh(v);
    return _mm512_broadcast_i64x4(half);
}

/* Thirty-two floats rounded. */
INLINE __m512i table32(__m512 low, __m512 high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

INLINE void put(uint16_t *out, __m512i table, __m512i index)
{
    _mm512_storeu_si512(out, _mm512_permutexvar_epi16(index, table));
}

/* Words of 32 bytes. */
INLINE __m512i words(const uint8_t *p)
{
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
}

/* The low nibbles of 16 bytes, then the high ones; upper bits are left. */
INLINE __m512i halves(const uint8_t *p)
{
    const __m256i w = _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)p));
    return _mm512_inserti64x4(_mm512_castsi256_si512(w),
                              _mm256_srli_epi16(w, 4), 1);
}

/* Sixteen signed bytes as floats. */
INLINE __m512 floats(__m128i q)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
}

/* Up to 16 bytes of NF4, the first of two weights in the high nibble: each byte
 * becomes the low byte of two words, the first of them shifted. Bits above the
 * nibble of an index do not matter. */
INLINE __m512i nibble_pairs(__m128i codes)
{
    const __m512i twice = _mm512_set_epi64(
        (long long)0x800f800f800e800e, (long long)0x800d800d800c800c,
        (long long)0x800b800b800a800a, (long long)0x8009800980088008,
        (long long)0x8007800780068006, (long long)0x8005800580048004,
        (long long)0x8003800380028002, (long long)0x8001800180008000);
    const __m512i b = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(codes),
                                          twice);
    return _mm512_srlv_epi16(b, _mm512_set1_epi32(4));
}

/* Whole vectors, then what is left of the bytes. */
static void lookup_bf16(uint16_t *out, const uint8_t *codes, size_t bytes,
                        const float map[16], float scale)
{
    const __m512i t = table16(_mm512_mul_ps(_mm512_loadu_ps(map),
                                            _mm512_set1_ps(scale)));
    for (; bytes >= 16; bytes -= 16, out += 32, codes += 16)
        put(out, t, nibble_pairs(_mm_loadu_si128((const void *)codes)));
    if (!bytes)
        return;
    const __mmask16 m = (__mmask16)((1u << bytes) - 1);
    const __m512i index = nibble_pairs(_mm_maskz_loadu_epi8(m, codes));
    _mm512_mask_storeu_epi32(out, m, _mm512_permutexvar_epi16(index, t));
}

/* 32 weights of nibbles: 16 values times d, plus m where there is one. */
INLINE void put_nibbles(uint16_t *out, const uint8_t *qs, __m512 values,
                        float d)
{
    put(out, table16(_mm512_mul_ps(values, _mm512_set1_ps(d))), halves(qs));
}

static void decode_q4_0(uint16_t *out, const void *src, size_t n)
{
    const bise_q4_0 *y = src;
    for (; n; n -= 32, out += 32, y++)
        put_nibbles(out, y->qs, iota(-8), bise_load_half(y->d));
}

static void decode_q4_1(uint16_t *out, const void *src, size_t n)
{
    const bise_q4_1 *y = src;
    for (; n; n -= 32, out += 32, y++) {
        const __m512 d = _mm512_set1_ps(bise_load_half(y->d));
        const __m512 m = _mm512_set1_ps(bise_load_half(y->m));
        const __m512 v = _mm512_add_ps(_mm512_mul_ps(iota(0), d), m);
        put(out, table16(v), halves(y->qs));
    }
}

/* A table of 16 small integers. */
INLINE __m512 small(const int8_t *table)
{
    return floats(_mm_loadu_si128((const void *)table));
}

static const int8_t iq4_table[16] = BISE_IQ4_VALUES;
static const int8_t e2m1_table[16] = BISE_E2M1_VALUES;

static void decode_iq4_nl(uint16_t *out, const void *src, size_t n)
{
    const bise_q4_0 *y = src;
    for (; n; n -= 32, out += 32, y++)
        put_nibbles(out, y->qs, small(iq4_table), bise_load_half(y->d));
}

static void decode_mxfp4(uint16_t *out, const void *src, size_t n)
{
    const bise_mxfp4 *y = src;
    for (; n; n -= 32, out += 32, y++)
        put_nibbles(out, y->qs, small(e2m1_table), bise_e8m0_half(y->e));
}

static void decode_iq4_xs(uint16_t *out, const void *src, size_t n)
{
    const bise_iq4_xs *y = src;
    for (; n; n -= BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        const int high = bise_load_le16(y->scales_h);
        for (int b = 0; b < 8; b++, out += 32) {
            const int lo = y->scales_l[b / 2] >> b % 2 * 4 & 15;
            const float dl = d * (float)((lo | (high >> 2 * b & 3) << 4) - 32);
            put_nibbles(out, y->qs + 16 * b, small(iq4_table), dl);
        }
    }
}

/* Nibbles and a fifth bit each from the mask. */
INLINE __m512i five_bits(const uint8_t *qs, const uint8_t *qh)
{
    const __m512i low = _mm512_and_si512(halves(qs), _mm512_set1_epi16(15));
    const __mmask32 m = bise_load_le32(qh);
    return _mm512_or_si512(low, _mm512_maskz_set1_epi16(m, 16));
}

static void decode_q5_0(uint16_t *out, const void *src, size_t n)
{
    const bise_q5_0 *y = src;
    for (; n; n -= 32, out += 32, y++) {
        const __m512 d = _mm512_set1_ps(bise_load_half(y->d));
        put(out, table32(_mm512_mul_ps(iota(-16), d),
                         _mm512_mul_ps(iota(0), d)),
            five_bits(y->qs, y->qh));
    }
}

static void decode_q5_1(uint16_t *out, const void *src, size_t n)
{
    const bise_q5_1 *y = src;
    for (; n; n -= 32, out += 32, y++) {
        const __m512 d = _mm512_set1_ps(bise_load_half(y->d));
        const __m512 m = _mm512_set1_ps(bise_load_half(y->m));
        put(out, table32(_mm512_add_ps(_mm512_mul_ps(iota(0), d), m),
                         _mm512_add_ps(_mm512_mul_ps(iota(16), d), m)),
            five_bits(y->qs, y->qh));
    }
}

static void decode_q8_0(uint16_t *out, const void *src, size_t n)
{
    const bise_q8_0 *y = src;
    for (; n; n -= 32, out += 32, y++) {
        const __m512 d = _mm512_set1_ps(bise_load_half(y->d));
        const __m512 a = floats(_mm_loadu_si128((const void *)y->qs));
        const __m512 b = floats(_mm_loadu_si128((const void *)(y->qs + 16)));
        _mm512_storeu_si512(out, table32(_mm512_mul_ps(a, d),
                                         _mm512_mul_ps(b, d)));
    }
}

/* d q - m for codes first .. first + 15. */
INLINE __m512 affine(float first, float d, float m)
{
    return _mm512_sub_ps(_mm512_mul_ps(_mm512_set1_ps(d), iota(first)),
                         _mm512_set1_ps(m));
}

static void decode_q4_k(uint16_t *out, const void *src, size_t n)
{
    const bise_q4_k *y = src;
    for (; n; n -= BISE_QK, y++) {
        const float d = bise_load_half(y->d), dmin = bise_load_half(y->d + 2);
        uint8_t sc[8], mn[8];
        bise_unpack_scales_k4(sc, mn, y->scales);
        for (int b = 0; b < 8; b += 2, out += 64) {
            /* 32 bytes: sub-block b in the low nibbles, b + 1 in the high */
            const __m512i q = words(y->qs + b / 2 * 32);
            put(out, table16(affine(0, d * (float)sc[b],
                                    dmin * (float)mn[b])), q);
            put(out + 32, table16(affine(0, d * (float)sc[b + 1],
                                         dmin * (float)mn[b + 1])),
                _mm512_srli_epi16(q, 4));
        }
    }
}

static void decode_q5_k(uint16_t *out, const void *src, size_t n)
{
    const bise_q5_k *y = src;
    const __m512i low = _mm512_set1_epi16(15), bit = _mm512_set1_epi16(16);
    for (; n; n -= BISE_QK, y++) {
        const float d = bise_load_half(y->d), dmin = bise_load_half(y->d + 2);
        const __m512i high = _mm512_slli_epi16(words(y->qh), 4);
        uint8_t sc[8], mn[8];
        bise_unpack_scales_k4(sc, mn, y->scales);
        for (int b = 0; b < 8; b++, out += 32) {
            const float db = d * (float)sc[b], m = dmin * (float)mn[b];
            __m512i q = words(y->qs + b / 2 * 32);
            q = _mm512_and_si512(_mm512_srli_epi16(q, b % 2 * 4), low);
            const __m512i h = _mm512_srli_epi16(high, (unsigned)b);
            q = _mm512_or_si512(q, _mm512_and_si512(h, bit));
            put(out, table32(affine(0, db, m), affine(16, db, m)), q);
        }
    }
}

static void decode_q6_k(uint16_t *out, const void *src, size_t n)
{
    const bise_q6_k *y = src;
    const __m256i four = _mm256_set1_epi8(15), two = _mm256_set1_epi8(48);
    for (; n; n -= BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        for (int j = 0; j < 8; j++, out += 32) {
            /* half h, quarter g of it: 32 weights with two scales */
            const int h = j / 4, g = j % 4;
            __m256i lo = _mm256_loadu_si256(
                (const void *)(y->ql + 64 * h + 32 * (g & 1)));
            __m256i hi = _mm256_loadu_si256((const void *)(y->qh + 32 * h));
            lo = _mm256_and_si256(_mm256_srli_epi16(lo, g / 2 * 4), four);
            hi = _mm256_slli_epi16(_mm256_srli_epi16(hi, 2 * g), 4);
            const __m256i q = _mm256_sub_epi8(
                _mm256_or_si256(lo, _mm256_and_si256(hi, two)),
                _mm256_set1_epi8(32));
            const __m512 a = floats(_mm256_castsi256_si128(q));
            const __m512 b = floats(_mm256_extracti128_si256(q, 1));
            _mm512_storeu_si512(out, table32(
                _mm512_mul_ps(a, _mm512_set1_ps(d * (float)y->scales[2 * j])),
                _mm512_mul_ps(b, _mm512_set1_ps(d *
                                               (float)y->scales[2 * j + 1]))));
        }
    }
}

/* Install them. */
void bise_panel_decode_avx512bf16(bise_panel_ops *o)
{
    o->lookup_bf16 = lookup_bf16;
    o->decode_bf16[BISE_DTYPE_Q4_0] = decode_q4_0;
    o->decode_bf16[BISE_DTYPE_Q4_1] = decode_q4_1;
    o->decode_bf16[BISE_DTYPE_Q5_0] = decode_q5_0;
    o->decode_bf16[BISE_DTYPE_Q5_1] = decode_q5_1;
    o->decode_bf16[BISE_DTYPE_Q8_0] = decode_q8_0;
    o->decode_bf16[BISE_DTYPE_Q4_K] = decode_q4_k;
    o->decode_bf16[BISE_DTYPE_Q5_K] = decode_q5_k;
    o->decode_bf16[BISE_DTYPE_Q6_K] = decode_q6_k;
    o->decode_bf16[BISE_DTYPE_IQ4_NL] = decode_iq4_nl;
    o->decode_bf16[BISE_DTYPE_IQ4_XS] = decode_iq4_xs;
    o->decode_bf16[BISE_DTYPE_MXFP4] = decode_mxfp4;
}
