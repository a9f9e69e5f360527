/* attention.c - tiles of attention (Dao et al. 2022, after Milakov and
 * Gimelshein 2018 for the online softmax; equations in mistral3.md 3.7).
 * Forward: a task owns 64 query rows of one head and walks over key tiles with
 * a running maximum and sum. Backward: a task owns a key head of a sample,
 * recomputes P = exp(S - lse) tile by tile and adds in fixed order.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/attention.h"

#include <math.h>
#include <string.h>

#include "kernels/gemm.h"

#define QT 64  /* query rows of a tile */
#define KT 128 /* key rows of a tile */

/* Tiles never cross a sample, so a task sees one block of the mask. */
int32_t bise_attn_cut(bise_attn_tile *tiles, const int32_t *seg, int32_t n_seg)
{
    int32_t n = 0;
    for (int32_t s = 0; s < n_seg; s++)
        for (int32_t r = seg[s]; r < seg[s + 1]; r += QT)
            tiles[n++] = (bise_attn_tile){
                .row = r, .start = seg[s],
                .n = seg[s + 1] - r < QT ? seg[s + 1] - r : QT,
            };
    return n;
}

/* Two score tiles for the backward pass, and a few rows of statistics. */
size_t bise_attn_scratch(int32_t Dv)
{
    (void)Dv;
    return 2 * (size_t)QT * KT + 4 * QT;
}

/* Windows and tiles both clip ranges of keys. */
static int32_t max32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* Bounds of the last tile. */
static int32_t min32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Keys a query at position p sees: [first, p]. */
static int32_t first_key(const bise_attn *a, int32_t p)
{
    return a->window ? max32(0, p - a->window + 1) : 0;
}

/* A tile of queries against a tile of keys: which keys of the tile, counted
 * from its first key j0, query position p sees: [*from, *to). */
static void visible(const bise_attn *a, int32_t p, int32_t j0, int32_t n,
                    int32_t *from, int32_t *to)
{
    *from = max32(0, first_key(a, p) - j0);
    *to = min32(n, p + 1 - j0);
}

/* Scores of m query rows with n key rows of head h: s [m, n], stride KT. A
 * single query uses dot products, which is faster than a product of matrices
 * with one row. */
static void scores(const bise_exec *e, const bise_attn *a, const float *q,
                   const float *k, int32_t m, int32_t n, float *s)
{
    if (m > 1) {
        bise_gemm_nt(m, n, a->D, a->alpha, q, a->ldq, k, a->ldk, 0, s, KT);
        return;
    }
    for (int32_t j = 0; j < n; j++)
        s[j] = a->alpha * e->k->dot(k + (size_t)j * (size_t)a->ldk, q,
                                    (size_t)a->D);
}

/* o [m, Dv] += p [m, n] v [n, Dv]. */
static void weigh(const bise_exec *e, const bise_attn *a, const float *p,
                  const float *v, int32_t m, int32_t n, float *o)
{
    if (m > 1) {
        bise_gemm_nn(m, a->Dv, n, 1, p, KT, v, a->ldv, 1, o, a->ldo);
        return;
    }
    for (int32_t j = 0; j < n; j++)
        e->k->axpy(o, p[j], v + (size_t)j * (size_t)a->ldv, (size_t)a->Dv);
}

/* Turn scores of one row into exp(s - m) with the running max and sum, and
 * rescale what o holds so far. */
static void online_row(const bise_exec *e, const bise_attn *a, int32_t p,
                       int32_t j0, int32_t n, float *s, float *o, float *max,
                       float *sum)
{
    int32_t from, to;
    visible(a, p, j0, n, &from, &to);
    if (to <= from) {
        memset(s, 0, (size_t)n * sizeof *s);
        return;
    }
    const size_t seen = (size_t)(to - from);
    const float tile_max = e->k->max(s + from, seen);
    const float m = tile_max > *max ? tile_max : *max;
    memset(s, 0, (size_t)from * sizeof *s);
    memset(s + to, 0, (size_t)(n - to) * sizeof *s);
    const float shrink = expf(*max - m); /* 0 at the first tile: max = -inf */
    *sum = *sum * shrink + e->k->exp_sub(s + from, seen, m);
    if (shrink != 1)
        e->k->scale(o, shrink, (size_t)a->Dv);
    *max = m;
}

typedef struct job {
    const bise_exec *e;
    const bise_attn *a;
    const float *d_o;
    float *dq, *dk, *dv;
} job;

/* One head of one tile of queries. */
static void forward_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const bise_attn *a = g->a;
    const int32_t h = (int32_t)index % a->H, kh = h / (a->H / a->K);
    const bise_attn_tile t = a->tiles[(int32_t)index / a->H];
    float *s = g->e->scratch + (size_t)worker * g->e->scratch_floats;
    float *max = s + 2 * QT * KT, *sum = max + QT;
    const int32_t p0 = a->past + t.row - t.start;
    const float *q = a->q + (size_t)t.row * (size_t)a->ldq +
                     (size_t)(h * a->D);
    const float *k = a->k + (size_t)t.start * (size_t)a->ldk +
                     (size_t)(kh * a->D);
    const float *v = a->v + (size_t)t.start * (size_t)a->ldv +
                     (size_t)(kh * a->Dv);
    float *o = a->o + (size_t)t.row * (size_t)a->ldo + (size_t)(h * a->Dv);
    for (int32_t i = 0; i < t.n; i++) {
        memset(o + (size_t)i * (size_t)a->ldo, 0,
               (size_t)a->Dv * sizeof *o);
        max[i] = -INFINITY;
        sum[i] = 0;
    }
    const int32_t end = p0 + t.n;
    for (int32_t j0 = first_key(a, p0); j0 < end; j0 += KT) {
        const int32_t n = min32(KT, end - j0);
        scores(g->e, a, q, k + (size_t)j0 * (size_t)a->ldk, t.n, n, s);
        for (int32_t i = 0; i < t.n; i++)
            online_row(g->e, a, p0 + i, j0, n, s + (size_t)i * KT,
                       o + (size_t)i * (size_t)a->ldo, &max[i], &sum[i]);
        weigh(g->e, a, s, v + (size_t)j0 * (size_t)a->ldv, t.n, n, o);
    }
    for (int32_t i = 0; i < t.n; i++) {
        g->e->k->scale(o + (size_t)i * (size_t)a->ldo, 1 / sum[i],
                       (size_t)a->Dv);
        if (a->lse)
            a->lse[(size_t)(t.row + i) * (size_t)a->H + (size_t)h] =
                max[i] + logf(sum[i]);
    }
}

/* Every (tile, head) is a task; outputs are disjoint rows and columns of o. */
void bise_attn_forward(const bise_exec *e, const bise_attn *a)
{
    job g = { .e = e, .a = a };
    bise_pool_run(e->pool, (size_t)a->n_tiles * (size_t)a->H, forward_task,
                  &g);
}

/* Gradients of a tile pair: queries rows [r, r + m) and keys [j0, j0 + n) of a
 * sample that starts at row s, query head h.
 *   P = exp(S - lse);  dV += P^T dO;  dP = dO V^T;  delta = dO . O
 *   dS = P (dP - delta) alpha;  dQ += dS K;  dK += dS^T Q. */
static void backward_pair(const job *g, int32_t s, int32_t r, int32_t m,
                          int32_t j0, int32_t n, int32_t h, float *scratch)
{
    const bise_attn *a = g->a;
    const bise_kernels *kn = g->e->k;
    const int32_t kh = h / (a->H / a->K);
    float *p = scratch, *dp = scratch + QT * KT;
    const float *delta = scratch + 2 * QT * KT;
    const size_t qrow = (size_t)r, krow = (size_t)(s + j0);
    const size_t qat = qrow * (size_t)a->ldq + (size_t)(h * a->D);
    const size_t kat = krow * (size_t)a->ldk + (size_t)(kh * a->D);
    const size_t vat = krow * (size_t)a->ldv + (size_t)(kh * a->Dv);
    const float *d_o = g->d_o + qrow * (size_t)a->ldo + (size_t)(h * a->Dv);
    bise_gemm_nt(m, n, a->D, a->alpha, a->q + qat, a->ldq, a->k + kat, a->ldk,
                 0, p, KT);
    bise_gemm_nt(m, n, a->Dv, 1, d_o, a->ldo, a->v + vat, a->ldv, 0, dp, KT);
    for (int32_t i = 0; i < m; i++) {
        float *pi = p + (size_t)i * KT;
        int32_t from, to;
        visible(a, r + i - s, j0, n, &from, &to);
        to = max32(from = min32(from, n), to);
        memset(pi, 0, (size_t)from * sizeof *pi);
        memset(pi + to, 0, (size_t)(n - to) * sizeof *pi);
        if (to > from)
            kn->exp_sub(pi + from, (size_t)(to - from),
                        a->lse[(qrow + (size_t)i) * (size_t)a->H +
                               (size_t)h]);
    }
    bise_gemm_tn(n, a->Dv, m, 1, p, KT, d_o, a->ldo, 1, g->dv + vat, a->ldv);
    for (int32_t i = 0; i < m; i++)
        kn->softmax_bwd(dp + (size_t)i * KT, p + (size_t)i * KT,
                        dp + (size_t)i * KT, delta[i], a->alpha, (size_t)n);
    bise_gemm_nn(m, a->D, n, 1, dp, KT, a->k + kat, a->ldk, 1, g->dq + qat,
                 a->ldq);
    bise_gemm_tn(n, a->D, m, 1, dp, KT, a->q + qat, a->ldq, 1, g->dk + kat,
                 a->ldk);
}

/* delta[i] = dO . O of m query rows of a head. */
static void row_deltas(const job *g, int32_t r, int32_t m, int32_t h,
                       float *delta)
{
    const bise_attn *a = g->a;
    for (int32_t i = 0; i < m; i++) {
        const size_t at = (size_t)(r + i) * (size_t)a->ldo +
                          (size_t)(h * a->Dv);
        delta[i] = g->e->k->dot(g->d_o + at, a->o + at, (size_t)a->Dv);
    }
}

/* Clear the columns of a head in the rows of a sample. */
static void zero_cols(float *p, int32_t ld, int32_t row, int32_t rows,
                      int32_t col, int32_t cols)
{
    for (int32_t i = 0; i < rows; i++)
        memset(p + (size_t)(row + i) * (size_t)ld + (size_t)col, 0,
               (size_t)cols * sizeof *p);
}

/* One key head of one sample with all query heads of its group: nobody else
 * writes these columns of these rows of dq, dk, dv. */
static void backward_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const bise_attn *a = g->a;
    const int32_t kh = (int32_t)index % a->K, group = a->H / a->K;
    const int32_t s = a->seg[(int32_t)index / a->K];
    const int32_t len = a->seg[(int32_t)index / a->K + 1] - s;
    float *scratch = g->e->scratch + (size_t)worker * g->e->scratch_floats;
    zero_cols(g->dk, a->ldk, s, len, kh * a->D, a->D);
    zero_cols(g->dv, a->ldv, s, len, kh * a->Dv, a->Dv);
    for (int32_t h = kh * group; h < (kh + 1) * group; h++) {
        zero_cols(g->dq, a->ldq, s, len, h * a->D, a->D);
        for (int32_t i = 0; i < len; i += QT) {
            const int32_t m = min32(QT, len - i);
            row_deltas(g, s + i, m, h, scratch + 2 * QT * KT);
            for (int32_t j = first_key(a, i); j < i + m; j += KT)
                backward_pair(g, s, s + i, m, j, min32(KT, i + m - j), h,
                              scratch);
        }
    }
}

/* A task for each key head of each sample: cost follows the squares of the
 * sample lengths, and nobody shares a sum. */
void bise_attn_backward(const bise_exec *e, const bise_attn *a,
                        const float *d_o, float *dq, float *dk, float *dv)
{
    job g = { .e = e, .a = a, .d_o = d_o, .dq = dq, .dk = dk, .dv = dv };
    bise_pool_run(e->pool, (size_t)a->n_seg * (size_t)a->K, backward_task,
                  &g);
}
