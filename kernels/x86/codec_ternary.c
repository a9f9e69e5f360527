/* codec_ternary.c - encoders of TQ1_0 and TQ2_0, one block of 256 after the
 * other: the largest magnitude, codes by two comparisons a weight, bytes of
 * codes joined 16 at a time. Same bytes as kernels/ref. Compiled once per
 * instruction set.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/codec_x86.h"

#include <math.h>

#include "kernels/block.h"
#include "kernels/ref/rounding.h"
#include "kernels/x86/vec.h"

/* Largest magnitude of a block. */
BISE_INLINE float ternary_scale(const float *x)
{
    vf m[4] = { v_zero(), v_zero(), v_zero(), v_zero() };
    float lane[W], d = 0;
    for (int i = 0; i < BISE_QK; i += 4 * W)
        for (int k = 0; k < 4; k++)
            m[k] = v_max(v_abs(v_load(x + i + k * W)), m[k]);
    v_store(lane, v_max(v_max(m[0], m[1]), v_max(m[2], m[3])));
    for (int l = 0; l < W; l++)
        d = lane[l] > d ? lane[l] : d;
    return d;
}

/* bise_ternary_codes: |x id| is at most 1, so rounding half away from zero is
 * a comparison with each half. An infinite id makes all codes 1. */
BISE_INLINE float ternary_codes(b16 L[16], const float *x)
{
    const float d = ternary_scale(x), id = bise_inverse(d);
    const vf scale = v_set(isinf(id) ? 0 : id);
    for (int i = 0; i < 16; i++) {
        vi q[2];
        for (int k = 0; k < 16 / W; k++) {
            const vf v = v_mul(v_load(x + 16 * i + k * W), scale);
            q[k] = vi_count(vi_set(0), v_gt(v, v_set(-0.5f)));
            q[k] = vi_count(q[k], v_ge(v, v_set(0.5f)));
        }
        L[i] = v_bytes16(q);
    }
    return d;
}

static void encode_tq2_0(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_tq2_0 *y = dst;
    (void)imatrix;
    for (size_t n = rows * (cols / BISE_QK); n; n--, y++, src += BISE_QK) {
        b16 L[16];
        bise_store_half(y->d, ternary_codes(L, src));
        /* byte l of a half: codes l, l + 32, l + 64, l + 96 */
        for (int i = 0; i < 4; i++) {
            const b16 *q = L + i / 2 * 8 + i % 2;
            const b16 low = _mm_or_si128(q[0], _mm_slli_epi16(q[2], 2));
            const b16 high = _mm_or_si128(_mm_slli_epi16(q[4], 4),
                                          _mm_slli_epi16(q[6], 6));
            b_store(y->qs + 16 * i, _mm_or_si128(low, high));
        }
    }
}

/* 3 v + digit in every byte; the caller keeps it below 256. */
BISE_INLINE b16 b_digit(b16 v, b16 digit)
{
    return _mm_add_epi8(_mm_add_epi8(v, v), _mm_add_epi8(v, digit));
}

/* ceil(v 256 / 243) of every byte v < 243, which is v + ceil(13 v / 243). The
 * division is exact for its range: 2158 / 2^19 is 1 / 243 plus 8.3e-7, and
 * 13 v + 242 < 3389. */
BISE_INLINE b16 b_scale_digits(b16 v)
{
    const b16 zero = _mm_setzero_si128();
    b16 half[2] = { _mm_unpacklo_epi8(v, zero), _mm_unpackhi_epi8(v, zero) };
    for (int k = 0; k < 2; k++) {
        const b16 n = _mm_add_epi16(_mm_mullo_epi16(half[k],
                                                    _mm_set1_epi16(13)),
                                    _mm_set1_epi16(242));
        const b16 q = _mm_mulhi_epu16(n, _mm_set1_epi16(2158));
        half[k] = _mm_srli_epi16(q, 3);
    }
    return _mm_add_epi8(v, _mm_packus_epi16(half[0], half[1]));
}

/* Five digits in every byte, stride vectors apart, most significant first. */
BISE_INLINE b16 b_pack_digits(const b16 *L, int stride)
{
    b16 v = L[0];
    for (int k = 1; k < 5; k++)
        v = b_digit(v, L[k * stride]);
    return b_scale_digits(v);
}

static void encode_tq1_0(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_tq1_0 *y = dst;
    (void)imatrix;
    for (size_t n = rows * (cols / BISE_QK); n; n--, y++, src += BISE_QK) {
        b16 L[16];
        bise_store_half(y->d, ternary_codes(L, src));
        b_store(y->qs, b_pack_digits(L, 2));
        b_store(y->qs + 16, b_pack_digits(L + 1, 2));
        b_store(y->qs + 32, b_pack_digits(L + 10, 1));
        /* the last 16: four digits in each of four bytes, the fifth is 0 */
        b16 v = L[15];
        v = b_digit(v, _mm_srli_si128(L[15], 4));
        v = b_digit(v, _mm_srli_si128(L[15], 8));
        v = b_digit(v, _mm_srli_si128(L[15], 12));
        v = b_scale_digits(b_digit(v, _mm_setzero_si128()));
        bise_store_le32(y->qh, (uint32_t)_mm_cvtsi128_si32(v));
    }
}

/* Install the ternary encoders of this instruction set. */
void BISE_ISA_NAME(bise_codecs_ternary)(bise_codec *table)
{
    table[BISE_DTYPE_TQ1_0].encode = encode_tq1_0;
    table[BISE_DTYPE_TQ2_0].encode = encode_tq2_0;
}
