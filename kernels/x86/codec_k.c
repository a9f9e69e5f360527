/* codec_k.c - encoders of the K-quants Q2_K Q3_K Q4_K Q5_K Q6_K for W
 * superblocks at a time, one in each lane: search the sub-blocks side by side,
 * quantize the scales across the lanes, then write superblock after superblock
 * in weight order. Same bytes as kernels/ref. Compiled once per instruction
 * set.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/codec_x86.h"

#include <math.h>

#include "kernels/x86/chunk.h"
#include "kernels/x86/search_vec.h"

/* How the weights of a search come from x and the importance. */
typedef enum { W_ABS, W_RMS_ABS, W_SQUARE, W_IMPORTANCE, W_RAW } weighting;

/* Searches of a chunk: sub-block j of the superblock in each lane. */
typedef struct search {
    found f[16];
    vf sw[16];          /* sums of the weights */
} search;

/* The same after scale quantization, as arrays for the writers. */
typedef struct coded {
    float d[W], dmin[W];
    int32_t sc[16][W], mn[16][W];
    float iscale[16][W], from[16][W];
} coded;

/* Weights of the n columns from off on. */
BISE_INLINE void fill_weights(weighting kind, vf *w, const vf *x,
                              const chunk *c, size_t off, vf sigma2, int n)
{
    vf av = v_zero();
    if (kind == W_IMPORTANCE) {
        v_importance(w, x, c, off, sigma2, n);
        return;
    }
    if (kind == W_RAW) {
        v_load_columns(w, c->qw, off, n);
        return;
    }
    if (kind == W_RMS_ABS)
        av = v_sqrt(v_div(v_sum_squares(v_zero(), x, n), v_set((float)n)));
    for (int i = 0; i < n; i++) {
        if (kind == W_SQUARE)
            w[i] = v_mul(x[i], x[i]);
        else
            w[i] = kind == W_ABS ? v_abs(x[i]) : v_add(av, v_abs(x[i]));
    }
}

/* Asymmetric search of all sub-blocks. */
BISE_INLINE void search_asymmetric(search *s, const chunk *c,
                                   const bise_qkx *p, weighting kind,
                                   vf sigma2)
{
    vf xs[Q][32], ws[Q][32], *x[Q], *w[Q];
    EACH_OF(Q, g) {
        x[g] = xs[g];
        w[g] = ws[g];
    }
    for (int j = 0; j < BISE_QK / p->n; j += Q) {
        for (int g = 0; g < Q; g++) {
            const size_t off = (size_t)(p->n * (j + g));
            v_load_columns(x[g], c->x, off, p->n);
            fill_weights(kind, w[g], x[g], c, off, sigma2, p->n);
        }
        chunk_prefetch(c, (size_t)(p->n * (j + Q)), p->n * Q);
        v_search_qkx(p, Q, x, w, s->f + j, s->sw + j);
    }
}

/* Symmetric search of the 16 sub-blocks of 16. */
BISE_INLINE void search_symmetric(search *s, const chunk *c, int nmax,
                                  weighting kind, vf sigma2)
{
    vf x[16], w[16];
    for (int j = 0; j < 16; j++) {
        v_load_columns(x, c->x, (size_t)(16 * j), 16);
        chunk_prefetch(c, (size_t)(16 * (j + 1)), 16);
        fill_weights(kind, w, x, c, (size_t)(16 * j), sigma2, 16);
        s->sw[j] = v_sum(w, 16);
        s->f[j] = v_search_qx(16, nmax, x, w);
    }
}

/* Scale codes, and what the codes of each sub-block came from. */
BISE_INLINE void store_search(coded *k, const search *s, const vi *sc,
                              const vi *mn, int n)
{
    for (int j = 0; j < n; j++) {
        vi_store(k->sc[j], sc[j]);
        if (mn)
            vi_store(k->mn[j], mn[j]);
        v_store(k->iscale[j], s->f[j].iscale);
        v_store(k->from[j], s->f[j].from);
    }
}

/* Quantize n scales and minima of each superblock to 0..nmax. */
BISE_INLINE void code_scales(coded *k, const search *s, int n, int nmax,
                             int weighted)
{
    vf scale[16], min[16], d, dmin;
    vi sc[16], mn[16];
    for (int j = 0; j < n; j++) {
        scale[j] = s->f[j].scale;
        min[j] = s->f[j].min;
    }
    if (weighted) {
        d = v_search_qp(n, nmax, scale, s->sw, sc);
        dmin = v_search_qp(n, nmax, min, s->sw, mn);
    } else {
        d = v_linear_codes(n, nmax, scale, sc);
        dmin = v_linear_codes(n, nmax, min, mn);
    }
    v_store(k->d, d);
    v_store(k->dmin, dmin);
    store_search(k, s, sc, mn, n);
}

/* Codes 0..255 of scale bytes of lane l. */
BISE_INLINE void lane_bytes(uint8_t *out, const int32_t (*code)[W], int lane,
                            int n)
{
    for (int j = 0; j < n; j++)
        out[j] = (uint8_t)code[j][lane];
}

/* The codes a search had, for sub-blocks whose scale became 0. */
static void kept_codes(uint8_t *L, const float *x, int n, float iscale,
                       float from, int lo, int hi)
{
    if (iscale == 0) {
        memset(L, 0, (size_t)n);
        return;
    }
    for (int i = 0; i < n; i++) {
        const int l = bise_nearest_int(iscale * (x[i] - from));
        L[i] = (uint8_t)(bise_clamp_int(l, lo, hi) - lo);
    }
}

/* bise_requantize: codes of n weights under the rounded scale and minimum. */
BISE_INLINE void requantize(uint8_t *L, const float *x, int n, float d,
                            float m, int lo, int hi)
{
    const vf vd = v_set(d), vm_ = v_set(m);
    vi q[2];
    for (int i = 0; i < n; i += 16) {
        for (int k = 0; k < 16 / W; k++) {
            const vf v = v_add(v_load(x + i + k * W), vm_);
            q[k] = vi_clamp(v_nearest(v_div(v, vd)), lo, hi);
            q[k] = vi_sub(q[k], vi_set(lo));
        }
        v_store_bytes16(L + i, q);
    }
}

/* Codes of sub-block j, kept from the search where the scale became 0. */
BISE_INLINE void codes_of(uint8_t *L, const float *x, int n, float d, float m,
                          int lo, int hi, const coded *k, int j, int lane)
{
    if (d != 0)
        requantize(L, x, n, d, m, lo, hi);
    else
        kept_codes(L, x, n, k->iscale[j][lane], k->from[j][lane], lo, hi);
}

static const bise_qkx plain_q2 = { 16, 3, -0.5f, 0.1f, 15, true };
static const bise_qkx weighted_q2 = { 16, 3, -0.9f, 0.05f, 36, false };
static const bise_qkx plain_q4 = { 32, 15, -1.0f, 0.1f, 20, false };
static const bise_qkx weighted_q4 = { 32, 15, -0.9f, 0.05f, 36, false };
static const bise_qkx plain_q5 = { 32, 31, -0.5f, 0.1f, 15, false };
static const bise_qkx weighted_q5 = { 32, 31, -0.9f, 0.05f, 36, false };

/* Mean square of each superblock, times factor. */
BISE_INLINE vf sigma2_of(const chunk *c, float factor)
{
    const vf sum = chunk_sum_squares(c, BISE_QK);
    return v_div(v_mul(v_set(factor), sum), v_set(BISE_QK));
}

/* One superblock from the scales of its lane. */
static void write_q2_k(bise_q2_k *y, const float *x, const coded *k, int lane)
{
    uint8_t L[BISE_QK];
    bise_store_half(y->d, k->d[lane]);
    bise_store_half(y->dmin, k->dmin[lane]);
    const float d = bise_load_half(y->d), dmin = bise_load_half(y->dmin);
    for (int j = 0; j < 16; j++) {
        const int sc = k->sc[j][lane] & 255, mn = k->mn[j][lane] & 255;
        y->scales[j] = (uint8_t)(sc | mn << 4);
        codes_of(L + 16 * j, x + 16 * j, 16, d * (float)sc, dmin * (float)mn, 0,
                 3, k, j, lane);
    }
    bise_pack_2bit(y->qs, L);
    bise_pack_2bit(y->qs + 32, L + 128);
}

/* Search, code and write W superblocks of Q2_K. */
BISE_INLINE void chunk_q2_k(uint8_t *dst, const chunk *c, int weighted)
{
    search s;
    coded k;
    if (weighted)
        search_asymmetric(&s, c, &weighted_q2, W_IMPORTANCE, sigma2_of(c, 1));
    else
        search_asymmetric(&s, c, &plain_q2, W_ABS, v_zero());
    code_scales(&k, &s, 16, 15, weighted);
    for (int l = 0; l < c->count; l++)
        write_q2_k((bise_q2_k *)(void *)dst + l, c->x[l], &k, l);
}

/* The common part of Q4_K and Q5_K: scales and the codes in weight order. */
BISE_INLINE void write_k4(uint8_t *d, uint8_t *dmin, uint8_t *packed,
                          uint8_t *L, const float *x, const coded *k, int lane,
                          int nmax)
{
    uint8_t sc[8], mn[8];
    bise_store_half(d, k->d[lane]);
    bise_store_half(dmin, k->dmin[lane]);
    lane_bytes(sc, k->sc, lane, 8);
    lane_bytes(mn, k->mn, lane, 8);
    bise_pack_scales_k4(packed, sc, mn);
    const float fd = bise_load_half(d), fm = bise_load_half(dmin);
    for (int j = 0; j < 8; j++)
        codes_of(L + 32 * j, x + 32 * j, 32, fd * (float)sc[j],
                 fm * (float)mn[j], 0, nmax, k, j, lane);
}

/* Search and quantize the eight scales and minima of Q4_K or Q5_K. */
BISE_INLINE void code_k4(coded *k, const chunk *c, const bise_qkx *plain,
                         const bise_qkx *with, int weighted)
{
    search s;
    if (weighted)
        search_asymmetric(&s, c, with, W_IMPORTANCE, sigma2_of(c, 2));
    else
        search_asymmetric(&s, c, plain, W_RMS_ABS, v_zero());
    code_scales(k, &s, 8, 63, weighted);
}

/* W superblocks of Q4_K. */
BISE_INLINE void chunk_q4_k(uint8_t *dst, const chunk *c, int weighted)
{
    bise_q4_k *y = (bise_q4_k *)(void *)dst;
    uint8_t L[BISE_QK];
    coded k;
    code_k4(&k, c, &plain_q4, &weighted_q4, weighted);
    for (int l = 0; l < c->count; l++, y++) {
        write_k4(y->d, y->dmin, y->scales, L, c->x[l], &k, l, 15);
        bise_pack_q4_k(y->qs, L);
    }
}

/* W superblocks of Q5_K. */
BISE_INLINE void chunk_q5_k(uint8_t *dst, const chunk *c, int weighted)
{
    bise_q5_k *y = (bise_q5_k *)(void *)dst;
    uint8_t L[BISE_QK];
    coded k;
    code_k4(&k, c, &plain_q5, &weighted_q5, weighted);
    for (int l = 0; l < c->count; l++, y++) {
        write_k4(y->d, y->dmin, y->scales, L, c->x[l], &k, l, 31);
        bise_pack_q5_k(y, L);
    }
}

/* Codes of 16 signed scales: iscale = -nmax / (largest), clamped to hi; the
 * factor is 0 with all codes 0 (before the offset) where all are zero. */
BISE_INLINE void code_signed(coded *k, const search *s, int nmax, int hi,
                             int offset)
{
    vf scale[16];
    vi sc[16];
    for (int j = 0; j < 16; j++)
        scale[j] = s->f[j].scale;
    const vf max = v_signed_max(scale, 16);
    const vm off = v_eq(max, v_zero());
    const vf iscale = v_div(v_set((float)-nmax), max);
    for (int j = 0; j < 16; j++) {
        vi l = v_nearest(v_mul(iscale, scale[j]));
        l = vi_add(vi_clamp(l, -nmax, hi), vi_set(offset));
        sc[j] = vi_sel(off, vi_set(0), l);
    }
    v_store(k->d, v_sel(off, v_zero(), v_div(v_set(1), iscale)));
    v_store(k->dmin, max);
    store_search(k, s, sc, NULL, 16);
}

/* Writes the codes of Q3_K. plain: codes of zero scales come from descent. */
BISE_INLINE void write_q3_k(bise_q3_k *y, const float *x, const coded *k,
                            int lane, int plain)
{
    uint8_t L[BISE_QK], code[16];
    bise_store_half(y->d, k->d[lane]);
    lane_bytes(code, k->sc, lane, 16);
    bise_pack_scales_q3(y->scales, code);
    const float d = bise_load_half(y->d);
    for (int j = 0; j < 16; j++) {
        const float dj = d * (float)(code[j] - 32);
        if (plain && dj == 0)
            bise_search_q3(16, 4, x + 16 * j, L + 16 * j);
        else
            codes_of(L + 16 * j, x + 16 * j, 16, dj, 0, -4, 3, k, j, lane);
    }
    bise_pack_q3_k(y, L);
}

/* Q3_K without importance: descent, then scales by their largest. */
BISE_INLINE void code_q3_k_plain(coded *k, const chunk *c)
{
    search s;
    vf x0[16], x1[16];
    vf *const x[G] = { x0, x1 };
    for (int j = 0; j < 16; j += G) {
        EACH(g)
            v_load_columns(x[g], c->x, (size_t)(16 * (j + g)), 16);
        chunk_prefetch(c, (size_t)(16 * (j + G)), 16 * G);
        v_search_q3(16, 4, x, s.f + j);
    }
    code_signed(k, &s, 32, 31, 32);
}

/* Q3_K with importance: the scales are searched like weights, weighted by
 * their sub-blocks. */
BISE_INLINE void code_q3_k_weighted(coded *k, const chunk *c)
{
    search s;
    vf scale[16];
    vi sc[16];
    search_symmetric(&s, c, 4, W_IMPORTANCE, sigma2_of(c, 2));
    for (int j = 0; j < 16; j++)
        scale[j] = s.f[j].scale;
    const found f = v_search_qx(16, 32, scale, s.sw);
    const vm none = v_eq(f.iscale, v_zero());
    for (int j = 0; j < 16; j++) {
        const vi l = vi_clamp(v_nearest(v_mul(f.iscale, scale[j])), -32, 31);
        sc[j] = vi_sel(none, vi_set(0), vi_add(l, vi_set(32)));
    }
    v_store(k->d, f.scale);
    store_search(k, &s, sc, NULL, 16);
}

/* W superblocks of Q3_K. */
BISE_INLINE void chunk_q3_k(uint8_t *dst, const chunk *c, int weighted)
{
    coded k;
    if (weighted)
        code_q3_k_weighted(&k, c);
    else
        code_q3_k_plain(&k, c);
    for (int l = 0; l < c->count; l++)
        write_q3_k((bise_q3_k *)(void *)dst + l, c->x[l], &k, l, !weighted);
}

/* Quantize the scales of Q6_K and write the superblocks. */
BISE_INLINE void finish_q6_k(uint8_t *dst, const chunk *c, const search *s)
{
    bise_q6_k *y = (bise_q6_k *)(void *)dst;
    uint8_t L[BISE_QK];
    coded k;
    code_signed(&k, s, 128, 127, 0);
    for (int l = 0; l < c->count; l++, y++) {
        if (fabsf(k.dmin[l]) < BISE_QUANT_EPS) {
            memset(y, 0, sizeof *y);
            continue;
        }
        bise_store_half(y->d, k.d[l]);
        const float d = bise_load_half(y->d);
        for (int j = 0; j < 16; j++) {
            y->scales[j] = (int8_t)k.sc[j][l];
            codes_of(L + 16 * j, c->x[l] + 16 * j, 16, d * (float)y->scales[j],
                     0, -32, 31, &k, j, l);
        }
        bise_pack_q6_k(y, L);
    }
}

/* W superblocks of Q6_K; importance weighs the search as it is. */
BISE_INLINE void chunk_q6_k(uint8_t *dst, const chunk *c, int weighted)
{
    search s;
    search_symmetric(&s, c, 32, weighted ? W_RAW : W_SQUARE, v_zero());
    finish_q6_k(dst, c, &s);
}

/* The encoder of a type, and its chunk function without and with importance:
 * two copies, each with the choice made. */
#define ENCODER(name) \
    static void chunk_##name##_plain(uint8_t *dst, const chunk *c) \
    { \
        chunk_##name(dst, c, 0); \
    } \
    static void chunk_##name##_weighted(uint8_t *dst, const chunk *c) \
    { \
        chunk_##name(dst, c, 1); \
    } \
    static void encode_##name(void *dst, const float *src, size_t rows, \
                              size_t cols, const float *imatrix) \
    { \
        encode_chunks(dst, src, rows, cols, imatrix, BISE_QK, \
                      sizeof(bise_##name), NULL, \
                      imatrix ? chunk_##name##_weighted : \
                                chunk_##name##_plain); \
    }

ENCODER(q2_k)
ENCODER(q3_k)
ENCODER(q4_k)
ENCODER(q5_k)
ENCODER(q6_k)

/* Install the K-quant encoders of this instruction set. */
void BISE_ISA_NAME(bise_codecs_k)(bise_codec *table)
{
    table[BISE_DTYPE_Q2_K].encode = encode_q2_k;
    table[BISE_DTYPE_Q3_K].encode = encode_q3_k;
    table[BISE_DTYPE_Q4_K].encode = encode_q4_k;
    table[BISE_DTYPE_Q5_K].encode = encode_q5_k;
    table[BISE_DTYPE_Q6_K].encode = encode_q6_k;
}
