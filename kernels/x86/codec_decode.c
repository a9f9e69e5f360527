/* codec_decode.c - decoders of the block types: 16 codes at a time become
 * signed bytes, then floats times the scale, in the operation order of
 * gguf.md 4, so the values equal the reference bit for bit. They feed the
 * matrix products. Compiled once per instruction set.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/codec_x86.h"

#include "kernels/block.h"
#include "kernels/x86/vec.h"

/* v taken from every byte. */
BISE_INLINE b16 b_less(b16 a, int v)
{
    return _mm_sub_epi8(a, _mm_set1_epi8((char)v));
}

/* Byte i is `set` where bit i of bits is 1, else 0. */
BISE_INLINE b16 b_bits(uint32_t bits, int set)
{
    const b16 pick = _mm_set_epi64x(0x0101010101010101, 0);
    const b16 bit = _mm_set1_epi64x((long long)0x8040201008040201);
    b16 v = _mm_shuffle_epi8(_mm_set1_epi16((short)bits), pick);
    v = _mm_cmpeq_epi8(_mm_and_si128(v, bit), bit);
    return _mm_and_si128(v, _mm_set1_epi8((char)set));
}

/* Signed bytes part * W .. as floats. */
BISE_INLINE vf b_float(b16 q, int part)
{
#ifdef __AVX512F__
    (void)part;
    return v_float(_mm512_cvtepi8_epi32(q));
#else
    return v_float(_mm256_cvtepi8_epi32(part ? _mm_srli_si128(q, 8) : q));
#endif
}

/* y[0..15] = q d */
BISE_INLINE void put(float *y, b16 q, float d)
{
    for (int k = 0; k < 16 / W; k++)
        v_store(y + k * W, v_mul(b_float(q, k), v_set(d)));
}

/* y[0..15] = q d + m */
BISE_INLINE void put_add(float *y, b16 q, float d, float m)
{
    for (int k = 0; k < 16 / W; k++)
        v_store(y + k * W, v_add(v_mul(b_float(q, k), v_set(d)), v_set(m)));
}

/* y[0..15] = d q - m */
BISE_INLINE void put_sub(float *y, b16 q, float d, float m)
{
    for (int k = 0; k < 16 / W; k++)
        v_store(y + k * W, v_sub(v_mul(v_set(d), b_float(q, k)), v_set(m)));
}

/* Q4_0: (q - 8) d, low nibbles first. */
static void decode_q4_0(float *dst, const void *src, size_t n)
{
    const bise_q4_0 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d);
        const b16 q = b_load(y->qs);
        put(dst, b_less(b_field(q, 0, 15), 8), d);
        put(dst + 16, b_less(b_field(q, 4, 15), 8), d);
    }
}

/* Q4_1: q d + m. */
static void decode_q4_1(float *dst, const void *src, size_t n)
{
    const bise_q4_1 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d), m = bise_load_half(y->m);
        const b16 q = b_load(y->qs);
        put_add(dst, b_field(q, 0, 15), d, m);
        put_add(dst + 16, b_field(q, 4, 15), d, m);
    }
}

/* Codes 0..31 of the half h (0, 1) of a 5-bit block. */
BISE_INLINE b16 codes_q5(const uint8_t *qs, const uint8_t *qh, int h)
{
    return _mm_or_si128(b_field(b_load(qs), 4 * h, 15),
                        b_bits(bise_load_le16(qh + 2 * h), 16));
}

/* Q5_0: (q - 16) d, the fifth bits from qh. */
static void decode_q5_0(float *dst, const void *src, size_t n)
{
    const bise_q5_0 *y = src;
    for (; n; n -= 32, dst += 32, y++)
        for (int h = 0; h < 2; h++)
            put(dst + 16 * h, b_less(codes_q5(y->qs, y->qh, h), 16),
                bise_load_half(y->d));
}

/* Q5_1: q d + m, the fifth bits from qh. */
static void decode_q5_1(float *dst, const void *src, size_t n)
{
    const bise_q5_1 *y = src;
    for (; n; n -= 32, dst += 32, y++)
        for (int h = 0; h < 2; h++)
            put_add(dst + 16 * h, codes_q5(y->qs, y->qh, h),
                    bise_load_half(y->d), bise_load_half(y->m));
}

/* Q8_0: q d. */
static void decode_q8_0(float *dst, const void *src, size_t n)
{
    const bise_q8_0 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d);
        put(dst, b_load(y->qs), d);
        put(dst + 16, b_load(y->qs + 16), d);
    }
}

/* Q2_K: (d sc) q - dmin mn, 16 weights a sub-block. */
static void decode_q2_k(float *dst, const void *src, size_t n)
{
    const bise_q2_k *y = src;
    for (; n; n -= BISE_QK, y++) {
        const float d = bise_load_half(y->d), dmin = bise_load_half(y->dmin);
        for (int j = 0; j < 16; j++, dst += 16) {
            /* sub-block j: half j/8, bit pair j/2%4, bytes 16 (j%2) .. */
            const b16 q = b_load(y->qs + j / 8 * 32 + j % 2 * 16);
            const int s = y->scales[j];
            put_sub(dst, b_field(q, j / 2 % 4 * 2, 3), d * (float)(s & 15),
                    dmin * (float)(s >> 4));
        }
    }
}

/* Q3_K: (d s) q with q in -4 .. 3. */
static void decode_q3_k(float *dst, const void *src, size_t n)
{
    const bise_q3_k *y = src;
    uint8_t code[16];
    for (; n; n -= BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        bise_unpack_scales_q3(code, y->scales);
        for (int j = 0; j < 16; j++, dst += 16) {
            /* low bits as in Q2_K, the high bit from bit j/2 of hmask */
            const b16 q = b_load(y->qs + j / 8 * 32 + j % 2 * 16);
            const b16 h = b_load(y->hmask + j % 2 * 16);
            const b16 low = b_field(q, j / 2 % 4 * 2, 3);
            const b16 high = _mm_slli_epi16(b_field(h, j / 2, 1), 2);
            put(dst, b_less(_mm_or_si128(low, high), 4),
                d * (float)(code[j] - 32));
        }
    }
}

/* Q4_K and Q5_K: qh NULL for 4-bit codes. */
BISE_INLINE void decode_k4(float *dst, const uint8_t *half, const uint8_t *s,
                           const uint8_t *qh, const uint8_t *qs)
{
    const float d = bise_load_half(half), dmin = bise_load_half(half + 2);
    uint8_t sc[8], mn[8];
    bise_unpack_scales_k4(sc, mn, s);
    for (int j = 0; j < 16; j++, dst += 16) {
        /* half a sub-block: sub-block j/2, 16 of its 32 bytes */
        const int b = j / 2, at = j % 2 * 16;
        b16 q = b_field(b_load(qs + b / 2 * 32 + at), b % 2 * 4, 15);
        if (qh)
            q = _mm_or_si128(q, _mm_slli_epi16(b_field(b_load(qh + at), b, 1),
                                               4));
        put_sub(dst, q, d * (float)sc[b], dmin * (float)mn[b]);
    }
}

/* Q4_K: Superblocks without a plane of fifth bits. */
static void decode_q4_k(float *dst, const void *src, size_t n)
{
    const bise_q4_k *y = src;
    for (; n; n -= BISE_QK, dst += BISE_QK, y++)
        decode_k4(dst, y->d, y->scales, NULL, y->qs);
}

/* Q5_K: Superblocks with one. */
static void decode_q5_k(float *dst, const void *src, size_t n)
{
    const bise_q5_k *y = src;
    for (; n; n -= BISE_QK, dst += BISE_QK, y++)
        decode_k4(dst, y->d, y->scales, y->qh, y->qs);
}

/* Q6_K: (d s) (q - 32). */
static void decode_q6_k(float *dst, const void *src, size_t n)
{
    const bise_q6_k *y = src;
    for (; n; n -= BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        for (int j = 0; j < 16; j++, dst += 16) {
            /* half h, quarter g of it, 16 of its 32 weights */
            const int h = j / 8, g = j / 2 % 4, at = j % 2 * 16;
            const b16 lo = b_load(y->ql + 64 * h + 32 * (g & 1) + at);
            const b16 hi = b_load(y->qh + 32 * h + at);
            const b16 top = _mm_slli_epi16(b_field(hi, 2 * g, 3), 4);
            const b16 q = _mm_or_si128(b_field(lo, g / 2 * 4, 15), top);
            put(dst, b_less(q, 32), d * (float)y->scales[j]);
        }
    }
}

/* The 16 nibbles of q at shift as values of a table. */
BISE_INLINE b16 b_lookup(b16 q, int shift, const int8_t *table)
{
    return _mm_shuffle_epi8(b_load(table), b_field(q, shift, 15));
}

static const int8_t iq4_table[16] = BISE_IQ4_VALUES;
static const int8_t e2m1_table[16] = BISE_E2M1_VALUES;

/* IQ4_NL: d times a code book entry. */
static void decode_iq4_nl(float *dst, const void *src, size_t n)
{
    const bise_q4_0 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float d = bise_load_half(y->d);
        put(dst, b_lookup(b_load(y->qs), 0, iq4_table), d);
        put(dst + 16, b_lookup(b_load(y->qs), 4, iq4_table), d);
    }
}

/* IQ4_XS: The same with a 6-bit scale for each 32 weights. */
static void decode_iq4_xs(float *dst, const void *src, size_t n)
{
    const bise_iq4_xs *y = src;
    for (; n; n -= BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        const int high = bise_load_le16(y->scales_h);
        /* one sub-block of 32 after the other */
        for (int b = 0; b < 8; b++, dst += 32) {
            const int lo = y->scales_l[b / 2] >> b % 2 * 4 & 15;
            const float dl = d * (float)((lo | (high >> 2 * b & 3) << 4) - 32);
            const b16 q = b_load(y->qs + 16 * b);
            put(dst, b_lookup(q, 0, iq4_table), dl);
            put(dst + 16, b_lookup(q, 4, iq4_table), dl);
        }
    }
}

/* MXFP4: E2M1 values under a power of two. */
static void decode_mxfp4(float *dst, const void *src, size_t n)
{
    const bise_mxfp4 *y = src;
    for (; n; n -= 32, dst += 32, y++) {
        const float s = bise_e8m0_half(y->e);
        put(dst, b_lookup(b_load(y->qs), 0, e2m1_table), s);
        put(dst + 16, b_lookup(b_load(y->qs), 4, e2m1_table), s);
    }
}

/* NVFP4: E2M1 values under a scale for each 16. */
static void decode_nvfp4(float *dst, const void *src, size_t n)
{
    const bise_nvfp4 *y = src;
    for (; n; n -= 64, y++)
        for (int s = 0; s < 4; s++, dst += 16) {
            /* 8 bytes: low nibbles are weights 0..7, high ones 8..15 */
            const b16 q = _mm_loadl_epi64((const b16 *)(y->qs + 8 * s));
            const b16 v = _mm_unpacklo_epi64(b_lookup(q, 0, e2m1_table),
                                             b_lookup(q, 4, e2m1_table));
            put(dst, v, bise_ue4m3_to_f32(y->d[s]) * 0.5f);
        }
}

/* -1, 0, 1: the first base-3 digit of each byte; moves on to the next. */
BISE_INLINE b16 next_digit(b16 *bytes)
{
    const b16 b = *bytes;
    const b16 ge1 = _mm_cmpeq_epi8(_mm_max_epu8(b, _mm_set1_epi8(86)), b);
    const b16 two = _mm_set1_epi8((char)171);
    const b16 ge2 = _mm_cmpeq_epi8(_mm_max_epu8(b, two), b);
    *bytes = _mm_add_epi8(b, _mm_add_epi8(b, b));
    /* the comparisons are -1 where true */
    return _mm_sub_epi8(_mm_sub_epi8(_mm_set1_epi8(-1), ge1), ge2);
}

/* TQ1_0: Digits of bytes in 5, 5 and 4 rounds. */
static void decode_tq1_0(float *dst, const void *src, size_t n)
{
    const bise_tq1_0 *y = src;
    for (; n; n -= BISE_QK, dst += BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        b16 a = b_load(y->qs), b = b_load(y->qs + 16), c = b_load(y->qs + 32);
        for (int k = 0; k < 5; k++) {
            put(dst + 32 * k, next_digit(&a), d);
            put(dst + 32 * k + 16, next_digit(&b), d);
            put(dst + 160 + 16 * k, next_digit(&c), d);
        }
        /* the last 16: four digits of four bytes */
        b16 h = _mm_cvtsi32_si128((int)bise_load_le32(y->qh));
        const b16 h0 = next_digit(&h), h1 = next_digit(&h);
        const b16 h2 = next_digit(&h), h3 = next_digit(&h);
        put(dst + 240, _mm_unpacklo_epi64(_mm_unpacklo_epi32(h0, h1),
                                          _mm_unpacklo_epi32(h2, h3)), d);
    }
}

/* TQ2_0: Bit pairs less 1. */
static void decode_tq2_0(float *dst, const void *src, size_t n)
{
    const bise_tq2_0 *y = src;
    for (; n; n -= BISE_QK, y++) {
        const float d = bise_load_half(y->d);
        for (int j = 0; j < 16; j++, dst += 16) {
            const b16 q = b_load(y->qs + j / 8 * 32 + j % 2 * 16);
            put(dst, b_less(b_field(q, j / 2 % 4 * 2, 3), 1), d);
        }
    }
}

/* Install the decoders of the block types. */
void BISE_ISA_NAME(bise_codecs_decode)(bise_codec *table)
{
    table[BISE_DTYPE_Q4_0].decode = decode_q4_0;
    table[BISE_DTYPE_Q4_1].decode = decode_q4_1;
    table[BISE_DTYPE_Q5_0].decode = decode_q5_0;
    table[BISE_DTYPE_Q5_1].decode = decode_q5_1;
    table[BISE_DTYPE_Q8_0].decode = decode_q8_0;
    table[BISE_DTYPE_Q2_K].decode = decode_q2_k;
    table[BISE_DTYPE_Q3_K].decode = decode_q3_k;
    table[BISE_DTYPE_Q4_K].decode = decode_q4_k;
    table[BISE_DTYPE_Q5_K].decode = decode_q5_k;
    table[BISE_DTYPE_Q6_K].decode = decode_q6_k;
    table[BISE_DTYPE_IQ4_NL].decode = decode_iq4_nl;
    table[BISE_DTYPE_IQ4_XS].decode = decode_iq4_xs;
    table[BISE_DTYPE_MXFP4].decode = decode_mxfp4;
    table[BISE_DTYPE_NVFP4].decode = decode_nvfp4;
    table[BISE_DTYPE_TQ1_0].decode = decode_tq1_0;
    table[BISE_DTYPE_TQ2_0].decode = decode_tq2_0;
}
