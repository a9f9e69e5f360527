/* codec_simple.c - encoders of the 32- and 64-weight types Q4_0 Q4_1 Q5_0 Q5_1
 * Q8_0 MXFP4 NVFP4. Without importance a block is a range and a rounding: the
 * ranges of W blocks are reduced together, then each block is rounded in
 * weight order. With importance W blocks are searched side by side. Same
 * bytes as kernels/ref. Compiled once per instruction set.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/codec_x86.h"

#include <math.h>

#include "kernels/codec_ref.h"
#include "kernels/ref/fp4.h"
#include "kernels/x86/chunk.h"
#include "kernels/x86/search_vec.h"

/* Largest magnitude of the n weights of each block. */
BISE_INLINE vf block_amax(const chunk *c, int n)
{
    vf v[W];
    for (int l = 0; l < W; l++) {
        v[l] = v_abs(v_load(c->x[l]));
        for (int i = W; i < n; i += W)
            v[l] = v_max(v[l], v_abs(v_load(c->x[l] + i)));
    }
    return v_reduce(v, 1);
}

/* Least or largest of the 32 weights of each block. */
BISE_INLINE vf block_end(const chunk *c, int largest)
{
    vf v[W];
    for (int l = 0; l < W; l++) {
        v[l] = v_load(c->x[l]);
        for (int i = W; i < 32; i += W) {
            const vf x = v_load(c->x[l] + i);
            v[l] = largest ? v_max(v[l], x) : v_min(v[l], x);
        }
    }
    return v_reduce(v, largest);
}

/* bise_signed_max of each block of 32 into max. */
BISE_INLINE void block_signed_max(float *max, const chunk *c)
{
    const vf hi = block_end(c, 1), lo = block_end(c, 0), neg = v_neg(lo);
    v_store(max, v_sel(v_gt(hi, neg), hi, lo));
    /* of equal magnitudes the first counts; all zero is +0 */
    const int tie = m_bits(v_eq(hi, neg));
    for (int l = 0; tie && l < W; l++)
        if (tie >> l & 1)
            max[l] = max[l] == 0 ? 0 : bise_signed_max(c->x[l], 32);
}

/* Nibbles of 32 codes below 16. */
BISE_INLINE b16 b_nibbles(b16 lo, b16 hi)
{
    return _mm_or_si128(lo, _mm_slli_epi16(hi, 4));
}

/* Bits of 16 codes below 32 without bit 4 joined, and the bits apart. */
BISE_INLINE void put_q5(uint8_t *qs, uint8_t *qh, b16 lo, b16 hi)
{
    bise_store_le16(qh, (uint16_t)_mm_movemask_epi8(_mm_slli_epi16(lo, 3)));
    bise_store_le16(qh + 2,
                    (uint16_t)_mm_movemask_epi8(_mm_slli_epi16(hi, 3)));
    b_store(qs, b_nibbles(b_field(lo, 0, 15), b_field(hi, 0, 15)));
}

/* 16 codes: truncated (x - from) id + bias, at most nmax. A result outside of
 * an int is code 0, as in scalar x86 code. */
BISE_INLINE b16 linear_codes(const float *x, float from, float id, float bias,
                             int nmax)
{
    vi q[2];
    for (int k = 0; k < 16 / W; k++) {
        vf v = v_load(x + k * W);
        if (from != 0)
            v = v_sub(v, v_set(from));
        v = v_add(v_mul(v, v_set(id)), v_set(bias));
        q[k] = vi_min(vi_and(vi_trunc(v), vi_set(63)), vi_set(nmax));
    }
    return v_bytes16(q);
}

/* Q4_0 (nmax 15) and Q5_0 (31): the largest weight lands on -(nmax + 1)/2. */
BISE_INLINE void chunk_symmetric(uint8_t *dst, const chunk *c, int nmax)
{
    const float half = (float)(nmax + 1) / 2;
    float max[W], d[W], id[W];
    block_signed_max(max, c);
    const vf vd = v_div(v_load(max), v_set(-half));
    v_store(d, vd);
    v_store(id, v_inverse(vd));
    for (int l = 0; l < c->count; l++) {
        const b16 lo = linear_codes(c->x[l], 0, id[l], half + 0.5f, nmax);
        const b16 hi = linear_codes(c->x[l] + 16, 0, id[l], half + 0.5f, nmax);
        bise_store_half(dst, d[l]);
        if (nmax == 15) {
            b_store(dst + 2, b_nibbles(lo, hi));
            dst += sizeof(bise_q4_0);
        } else {
            put_q5(dst + 6, dst + 2, lo, hi);
            dst += sizeof(bise_q5_0);
        }
    }
}

/* The zero that comes first in a block whose minimum is 0: its sign is kept. */
static float first_zero(const float *x)
{
    while (*x != 0)
        x++;
    return *x;
}

/* Q4_1 (nmax 15) and Q5_1 (31): the range in nmax steps. */
BISE_INLINE void chunk_asymmetric(uint8_t *dst, const chunk *c, int nmax)
{
    const vf lo = block_end(c, 0), hi = block_end(c, 1);
    const vf vd = v_div(v_sub(hi, lo), v_set((float)nmax));
    float d[W], id[W], min[W];
    v_store(d, vd);
    v_store(id, v_inverse(vd));
    v_store(min, lo);
    for (int l = 0; l < c->count; l++) {
        const float m = min[l] == 0 ? first_zero(c->x[l]) : min[l];
        const b16 a = linear_codes(c->x[l], m, id[l], 0.5f, nmax);
        const b16 b = linear_codes(c->x[l] + 16, m, id[l], 0.5f, nmax);
        bise_store_half(dst, d[l]);
        bise_store_half(dst + 2, m);
        if (nmax == 15) {
            b_store(dst + 4, b_nibbles(a, b));
            dst += sizeof(bise_q4_1);
        } else {
            put_q5(dst + 8, dst + 4, a, b);
            dst += sizeof(bise_q5_1);
        }
    }
}

/* Q8_0: largest magnitude to 127, half away from zero. */
static void chunk_q8_0(uint8_t *dst, const chunk *c)
{
    bise_q8_0 *y = (bise_q8_0 *)(void *)dst;
    const vf vd = v_div(block_amax(c, 32), v_set(127));
    const vi sign = vi_set(INT32_MIN);
    float d[W], id[W];
    v_store(d, vd);
    v_store(id, v_inverse(vd));
    for (int l = 0; l < c->count; l++, y++) {
        bise_store_half(y->d, d[l]);
        for (int i = 0; i < 32; i += 16) {
            vi q[2];
            for (int k = 0; k < 16 / W; k++) {
                const vf v = v_mul(v_load(c->x[l] + i + k * W), v_set(id[l]));
                /* half away from zero: the largest float below 1/2 with the
                 * sign of v, then truncate */
                const vi s = vi_and(vi_bits(v), sign);
                const vf half = v_bits(vi_or(s, vi_bits(v_set(0x1.fffffep-2f))));
                q[k] = vi_trunc(v_add(v, half));
            }
            b_store(y->qs + i, v_bytes16(q));
        }
    }
}

/* 16 E2M1 codes under scale s: how many midpoints lie below |x|. */
BISE_INLINE b16 e2m1_codes(const float *x, float s)
{
    static const float mid[7] = { 0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10 };
    vi q[2];
    for (int k = 0; k < 16 / W; k++) {
        const vf v = v_load(x + k * W), a = v_abs(v);
        vi n = vi_set(0);
        for (int i = 0; i < 7; i++)
            n = vi_count(n, v_gt(a, v_set(mid[i] * s)));
        /* zero has no negative code */
        const vm minus = m_and(v_lt(v, v_zero()), v_gt(a, v_set(mid[0] * s)));
        q[k] = vi_sel(minus, vi_or(n, vi_set(8)), n);
    }
    return v_bytes16(q);
}

/* The same where a weight may be so large that its distances to all values
 * round to one number, and the reference takes the first. */
static b16 e2m1_far(const float *x, float s)
{
    uint8_t L[16];
    bise_e2m1_codes(L, x, 16, s);
    return b_load(L);
}

/* MXFP4: the exponent of the largest magnitude gives the scale. */
static void chunk_mxfp4(uint8_t *dst, const chunk *c)
{
    bise_mxfp4 *y = (bise_mxfp4 *)(void *)dst;
    float amax[W];
    v_store(amax, block_amax(c, 32));
    for (int l = 0; l < c->count; l++, y++) {
        /* log2f rounds up just below a power of two; subnormals are apart */
        const uint32_t bits = bise_f32_bits(amax[l]);
        const int plain = bits >= 0x00800000u && (bits & 0x7fffff) < 0x7fff00;
        y->e = plain ? (uint8_t)((bits >> 23) - 2) :
                       bise_mxfp4_exponent(amax[l]);
        const float s = bise_e8m0_half(y->e);
        b_store(y->qs, b_nibbles(e2m1_codes(c->x[l], s),
                                 e2m1_codes(c->x[l] + 16, s)));
    }
}

/* NVFP4: the lanes are sub-blocks of 16, four of them a block. */
static void encode_nvfp4(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    bise_nvfp4 *y = dst;
    const size_t subs = rows * cols / 16;
    (void)imatrix;
    for (size_t b = 0; b < subs; b += W) {
        chunk c = { .count = subs - b < W ? (int)(subs - b) : W };
        float amax[W];
        for (int l = 0; l < W; l++)
            c.x[l] = src + 16 * (b + (size_t)(l < c.count ? l : 0));
        v_store(amax, v_div(block_amax(&c, 16), v_set(6)));
        for (int l = 0; l < c.count; l++) {
            const int s = l % 4;
            y->d[s] = bise_f32_to_ue4m3(amax[l]);
            const float u = bise_ue4m3_to_f32(y->d[s]) * 0.5f;
            b16 q = _mm_setzero_si128();
            if (amax[l] > 1e5f)     /* far above the largest scale, 448 */
                q = e2m1_far(c.x[l], u);
            else if (u != 0)
                q = e2m1_codes(c.x[l], u);
            /* weights 0..7 in the low nibbles, 8..15 in the high ones */
            q = b_nibbles(q, _mm_srli_si128(q, 8));
            _mm_storel_epi64((b16 *)(void *)(y->qs + 8 * s), q);
            y += s == 3;
        }
    }
}

/* Codes of a searched block: 32 of them, rounded and clamped. */
BISE_INLINE void searched_codes(b16 *out, const float *x, float iscale,
                                float from, int lo, int hi)
{
    vi q[2];
    for (int h = 0; h < 2; h++) {
        for (int k = 0; k < 16 / W; k++) {
            const vf v = v_sub(v_load(x + 16 * h + k * W), v_set(from));
            const vi l = v_nearest(v_mul(v_set(iscale), v));
            q[k] = vi_sub(vi_clamp(l, lo, hi), vi_set(lo));
        }
        out[h] = iscale == 0 ? _mm_setzero_si128() : v_bytes16(q);
    }
}

/* W blocks with importance: weights, search, then block after block. */
BISE_INLINE void chunk_weighted(uint8_t *dst, const chunk *c, int nmax,
                                int with_min)
{
    const bise_qkx p = { 32, nmax, -0.9f, 0.05f, 36, false };
    const int half = with_min ? 0 : (nmax + 1) / 2;
    vf x0[32], w0[32], sw[1];
    found f[1];
    float d[W], m[W], iscale[W], from[W];
    v_load_columns(x0, c->x, 0, 32);
    v_importance(w0, x0, c, 0, v_load(c->sigma2), 32);
    if (with_min) {
        vf *const x[1] = { x0 }, *const w[1] = { w0 };
        v_search_qkx(&p, 1, x, w, f, sw);
    } else {
        f[0] = v_search_qx(32, half, x0, w0);
    }
    v_store(d, f[0].scale);
    v_store(m, v_neg(f[0].min));
    v_store(iscale, f[0].iscale);
    v_store(from, f[0].from);
    for (int l = 0; l < c->count; l++) {
        b16 q[2];
        searched_codes(q, c->x[l], iscale[l], from[l], -half, nmax - half);
        bise_store_half(dst, d[l]);
        dst += 2;
        if (with_min) {
            bise_store_half(dst, m[l]);
            dst += 2;
        }
        if (nmax == 15) {
            b_store(dst, b_nibbles(q[0], q[1]));
        } else {
            put_q5(dst + 4, dst, q[0], q[1]);
            dst += 4;
        }
        dst += 16;
    }
}

/* Rows with importance: W rows at a time for their mean squares. */
BISE_INLINE void encode_weighted(void *dst, const float *src, size_t rows,
                                 size_t cols, const float *imatrix,
                                 size_t block_bytes, chunk_fn *fn)
{
    uint8_t *out = dst;
    for (size_t r = 0; r < rows; r += W) {
        const size_t n = rows - r < W ? rows - r : W;
        chunk c;
        float sigma2[W];
        for (size_t l = 0; l < W; l++)
            c.x[l] = src + (r + (l < n ? l : 0)) * cols;
        const vf sum = chunk_sum_squares(&c, (int)cols);
        v_store(sigma2, v_div(sum, v_set((float)cols)));
        encode_chunks(out, src + r * cols, n, cols, imatrix, 32, block_bytes,
                      sigma2, fn);
        out += n * cols / 32 * block_bytes;
    }
}

/* bise_encode_fn and chunk functions of a type with both ways. */
#define ENCODER(name, plain, nmax, with_min) \
    static void chunk_##name##_plain(uint8_t *dst, const chunk *c) \
    { \
        plain(dst, c, nmax); \
    } \
    static void chunk_##name##_weighted(uint8_t *dst, const chunk *c) \
    { \
        chunk_weighted(dst, c, nmax, with_min); \
    } \
    static void encode_##name(void *dst, const float *src, size_t rows, \
                              size_t cols, const float *imatrix) \
    { \
        if (imatrix) \
            encode_weighted(dst, src, rows, cols, imatrix, \
                            sizeof(bise_##name), chunk_##name##_weighted); \
        else \
            encode_chunks(dst, src, rows, cols, NULL, 32, \
                          sizeof(bise_##name), NULL, chunk_##name##_plain); \
    }

ENCODER(q4_0, chunk_symmetric, 15, 0)
ENCODER(q5_0, chunk_symmetric, 31, 0)
ENCODER(q4_1, chunk_asymmetric, 15, 1)
ENCODER(q5_1, chunk_asymmetric, 31, 1)

/* Importance does not change Q8_0. */
static void encode_q8_0(void *dst, const float *src, size_t rows, size_t cols,
                        const float *imatrix)
{
    (void)imatrix;
    encode_chunks(dst, src, rows, cols, NULL, 32, sizeof(bise_q8_0), NULL,
                  chunk_q8_0);
}

/* Importance does not change MXFP4. */
static void encode_mxfp4(void *dst, const float *src, size_t rows,
                         size_t cols, const float *imatrix)
{
    (void)imatrix;
    encode_chunks(dst, src, rows, cols, NULL, 32, sizeof(bise_mxfp4), NULL,
                  chunk_mxfp4);
}

/* Install the encoders of the simple types of this instruction set. */
void BISE_ISA_NAME(bise_codecs_simple)(bise_codec *table)
{
    table[BISE_DTYPE_Q4_0].encode = encode_q4_0;
    table[BISE_DTYPE_Q5_0].encode = encode_q5_0;
    table[BISE_DTYPE_Q4_1].encode = encode_q4_1;
    table[BISE_DTYPE_Q5_1].encode = encode_q5_1;
    table[BISE_DTYPE_Q8_0].encode = encode_q8_0;
    table[BISE_DTYPE_MXFP4].encode = encode_mxfp4;
    table[BISE_DTYPE_NVFP4].encode = encode_nvfp4;
}
