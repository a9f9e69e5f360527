/* attention_bf16.c - tiles of 96 queries and 96 keys (whole rows and columns of
 * the 12 x 32 micro-kernel). Forward: a task owns a tile of queries of a few
 * heads that share keys, packs each tile of keys and values once for all of
 * them and keeps a running maximum and sum (Milakov and Gimelshein 2018).
 * Backward (mistral3.md 3.7): a task owns a key head of a sample. Scores are
 * made transposed, S^T = K Q^T, so that P^T and dS^T are rows for dV += P^T dO
 * and dK += dS^T Q; dQ comes as its transpose, dQ^T += K^T dS^T, from keys that
 * were turned once.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/attention_bf16.h"

#include <math.h>
#include <string.h>

#define TILE 96
#define LDT (TILE + 32) /* row stride of bf16 tiles */
#define HEADS 4         /* heads of a forward task at most */
#define LINE 16         /* values of float32 in a cache line */

int32_t bise_attn16_cut(bise_attn_tile *tiles, const int32_t *seg,
                        int32_t n_seg)
{
    int32_t n = 0;
    for (int32_t s = 0; s < n_seg; s++)
        for (int32_t r = seg[s]; r < seg[s + 1]; r += TILE)
            tiles[n++] = (bise_attn_tile){
                .row = r, .start = seg[s],
                .n = seg[s + 1] - r < TILE ? seg[s + 1] - r : TILE,
            };
    return n;
}

/* Heads of a forward task: as many of a group as divide it. */
static int32_t heads_of(int32_t H, int32_t K)
{
    int32_t n = H / K < HEADS ? H / K : HEADS;
    while (H / K % n)
        n--;
    return n;
}

/* The buffers of a worker. Forward uses s, p, packed[0..1] and o; backward
 * all but o. */
typedef struct scratch {
    float *s, *dp, *o, *max, *sum, *lse, *delta;
    uint16_t *p, *ds, *packed[4], *packed_ds;
} scratch;

/* Cut base into the buffers; returns the bytes. With NULL only counts. */
static size_t carve(scratch *w, void *base, int32_t heads, int32_t D)
{
    uint8_t *at = base;
    size_t used = 0;
    const size_t tile = (size_t)TILE * TILE;
    const size_t rows = (size_t)TILE * (size_t)D;
    /* A tile of rows as columns, or as the reduced side. */
    const size_t turned = bise_panel_packed(TILE, D);
    const size_t pairs = bise_panel_packed(D, TILE);
    const size_t wide = turned > pairs ? turned : pairs;
    /* o of the forward and dQ^T of the backward share a place. */
    const struct { void *to; size_t bytes; } parts[] = {
        { &w->s, tile * 4 }, { &w->dp, tile * 4 },
        { &w->o, (size_t)heads * rows * 4 },
        { &w->max, (size_t)heads * TILE * 4 },
        { &w->sum, (size_t)heads * TILE * 4 },
        { &w->lse, TILE * 4 }, { &w->delta, TILE * 4 },
        { &w->p, (size_t)TILE * LDT * 2 }, { &w->ds, (size_t)TILE * LDT * 2 },
        { &w->packed[0], wide * 2 }, { &w->packed[1], wide * 2 },
        { &w->packed[2], wide * 2 }, { &w->packed[3], wide * 2 },
        { &w->packed_ds, bise_panel_packed(TILE, TILE) * 2 },
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (base) {
            void *p = at + used;
            memcpy(parts[i].to, &p, sizeof p);
        }
        used += (parts[i].bytes + 63) / 64 * 64;
    }
    return used;
}

size_t bise_attn16_scratch(int32_t H, int32_t K, int32_t D)
{
    scratch w;
    return carve(&w, NULL, heads_of(H, K), D);
}

/* Each sample gets a column of its own behind its last key, which stays zero:
 * an odd tile's last key is paired with it. */
static size_t turned_ld(int32_t T)
{
    return 2 * (size_t)T + 32;
}

size_t bise_attn16_turned(int32_t K, int32_t D, int32_t T)
{
    return (size_t)(K * D) * turned_ld(T);
}

static int32_t max32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t min32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

typedef struct job {
    const bise_exec *e;
    const bise_attn16 *a;
    int32_t heads;
    bise_rows16 d_o;
    const float *delta;
    uint16_t *kt;
    float *dq, *dk, *dv;
} job;

static void *worker_scratch(const bise_exec *e, int worker)
{
    return e->scratch + (size_t)worker * e->scratch_floats;
}

/* First tile of keys that a query at position p sees. */
static int32_t first_tile(const bise_attn16 *a, int32_t p)
{
    return a->window ? max32(0, p - a->window + 1) / TILE * TILE : 0;
}

/* Rows of one head. */
static const uint16_t *head_rows(bise_rows16 r, int32_t row, int32_t h,
                                 int32_t D)
{
    return r.data + (size_t)row * r.ld + (size_t)(h * D);
}

/* Which values of a square tile of pairs on the diagonal there are to make or
 * to add: none of a query before the key. The bounds move in steps of PART. */
typedef enum part {
    ALL,
    Y_LOWER, /* of y, the columns up to the row */
    Y_UPPER, /* of y, the columns from the row on */
    A_LOWER, /* of a, likewise: others are zeros */
    A_UPPER,
    B_UPPER, /* of b, the steps up to the column: others are zeros */
} part;

#define PART BISE_PANEL_COLS

/* A product as bise_panel_mul takes it. */
typedef struct product {
    float *y;
    size_t ldy;
    const uint16_t *a;
    size_t lda;
    const uint16_t *b;
    int32_t m, n, r;
    bool add;
} product;

/* Make a part of it. */
static void multiply(const bise_panel_ops *o, const product *p, part which)
{
    const size_t panel = (size_t)(p->r + p->r % 2);
    if (which == ALL) {
        bise_panel_mul(o, p->y, p->ldy, p->a, p->lda, p->b, p->m, p->n, p->r,
                       p->add);
        return;
    }
    for (int32_t c = 0; c < p->n; c += PART)
        for (int32_t i = 0; i < p->m; i += PART) {
            const int32_t from = which == A_UPPER ? i : 0;
            const int32_t to = which == A_LOWER ? min32(p->r, i + PART) :
                               which == B_UPPER ? min32(p->r, c + PART) : p->r;
            if ((which == Y_LOWER && c > i) || (which == Y_UPPER && c < i))
                continue;
            bise_panel_mul(o, p->y + (size_t)i * p->ldy + c, p->ldy,
                           p->a + (size_t)i * p->lda + from, p->lda,
                           p->b + (size_t)c * panel + (size_t)from * PART,
                           min32(PART, p->m - i), min32(PART, p->n - c),
                           to - from, p->add);
        }
}

/* Scores of the query at position p with keys [j0, j0 + n) become bf16
 * weights exp(s - max) under a running max and sum; o is rescaled. */
static void online_row(const bise_exec *e, const bise_attn16 *a, int32_t p,
                       int32_t j0, int32_t n, float *s, uint16_t *w, float *o,
                       float *max, float *sum)
{
    const int32_t first = a->window ? max32(0, p - a->window + 1) : 0;
    const int32_t from = max32(0, first - j0), to = min32(n, p + 1 - j0);
    const size_t pad = (size_t)(n + n % 2);
    if (to <= from) {
        memset(w, 0, pad * sizeof *w);
        return;
    }
    const size_t seen = (size_t)(to - from);
    const float tile_max = e->k->max(s + from, seen);
    const float m = tile_max > *max ? tile_max : *max;
    const float shrink = expf(*max - m); /* 0 at the first tile: max = -inf */
    *sum = *sum * shrink + e->k->exp_sub(s + from, seen, m);
    e->panel->round_bf16(w + from, s + from, seen);
    memset(w, 0, (size_t)from * sizeof *w);
    memset(w + to, 0, (pad - (size_t)to) * sizeof *w);
    if (shrink != 1)
        e->k->scale(o, shrink, (size_t)a->D);
    *max = m;
}

/* One head of a tile of queries against one packed tile of keys. */
static void forward_pair(const job *g, const scratch *w, bise_attn_tile t,
                         int32_t h, int32_t slot, int32_t j0, int32_t n)
{
    const bise_attn16 *a = g->a;
    const int32_t D = a->D, p0 = t.row - t.start;
    const bool diagonal = j0 == p0;
    float *o = w->o + (size_t)slot * TILE * (size_t)D;
    const product scores = {
        .y = w->s, .ldy = TILE, .a = head_rows(a->q, t.row, h, D),
        .lda = a->q.ld, .b = w->packed[0], .m = t.n, .n = n, .r = D };
    multiply(g->e->panel, &scores, diagonal ? Y_LOWER : ALL);
    for (int32_t i = 0; i < t.n; i++)
        online_row(g->e, a, p0 + i, j0, n, w->s + (size_t)i * TILE,
                   w->p + (size_t)i * LDT, o + (size_t)i * (size_t)D,
                   &w->max[slot * TILE + i], &w->sum[slot * TILE + i]);
    const product out = {
        .y = o, .ldy = (size_t)D, .a = w->p, .lda = LDT, .b = w->packed[1],
        .m = t.n, .n = D, .r = n, .add = true };
    multiply(g->e->panel, &out, diagonal ? A_LOWER : ALL);
}

/* A few heads of one tile of queries. */
static void forward_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const bise_attn16 *a = g->a;
    const int32_t D = a->D, sets = a->H / g->heads;
    /* Late tiles see more keys: they come first. */
    const int32_t ti = a->n_tiles - 1 - (int32_t)index / sets;
    const int32_t h0 = (int32_t)index % sets * g->heads;
    const int32_t kh = h0 / (a->H / a->K);
    const bise_attn_tile t = a->tiles[ti];
    scratch w;
    carve(&w, worker_scratch(g->e, worker), g->heads, D);
    memset(w.o, 0, (size_t)g->heads * TILE * (size_t)D * sizeof *w.o);
    for (int32_t i = 0; i < g->heads * TILE; i++) {
        w.max[i] = -INFINITY;
        w.sum[i] = 0;
    }
    const int32_t p0 = t.row - t.start, end = p0 + t.n;
    for (int32_t j0 = first_tile(a, p0); j0 < end; j0 += TILE) {
        const int32_t n = min32(TILE, end - j0);
        bise_panel_pack_rows(g->e->panel, w.packed[0],
                             head_rows(a->k, t.start + j0, kh, D), a->k.ld, n,
                             D);
        bise_panel_pack_pairs(g->e->panel, w.packed[1],
                              head_rows(a->v, t.start + j0, kh, D), a->v.ld, n,
                              D);
        for (int32_t i = 0; i < g->heads; i++)
            forward_pair(g, &w, t, h0 + i, i, j0, n);
    }
    for (int32_t q = 0; q < g->heads * TILE; q++) {
        const int32_t i = q % TILE, h = h0 + q / TILE;
        if (i >= t.n)
            continue;
        float *o = w.o + (size_t)q * (size_t)D;
        g->e->k->scale(o, 1 / w.sum[q], (size_t)D);
        g->e->panel->round_bf16(a->o.data + (size_t)(t.row + i) * a->o.ld +
                                (size_t)(h * D), o, (size_t)D);
        a->lse[(size_t)(t.row + i) * (size_t)a->H + (size_t)h] =
            w.max[q] + logf(w.sum[q]);
    }
}

void bise_attn16_forward(const bise_exec *e, const bise_attn16 *a)
{
    job g = { .e = e, .a = a, .heads = heads_of(a->H, a->K) };
    bise_pool_run(e->pool, (size_t)a->n_tiles * (size_t)(a->H / g.heads),
                  forward_task, &g);
}

/* P^T and dS^T of a pair of tiles, a row for each key: S^T and dP^T are in s
 * and dp; p0 is the position of the first query, j0 of the first key. */
static void turn_scores(const job *g, const scratch *w, int32_t p0, int32_t m,
                        int32_t j0, int32_t n)
{
    const bise_kernels *k = g->e->k;
    const int32_t window = g->a->window;
    for (int32_t j = 0; j < n; j++) {
        float *s = w->s + (size_t)j * TILE, *dp = w->dp + (size_t)j * TILE;
        uint16_t *p = w->p + (size_t)j * LDT, *ds = w->ds + (size_t)j * LDT;
        const int32_t from = min32(m, max32(0, j0 + j - p0));
        int32_t to = window ? min32(m, j0 + j + window - p0) : m;
        to = max32(from, to);
        const size_t seen = (size_t)(to - from);
        const size_t pad = (size_t)(m + m % 2);
        memset(p, 0, (size_t)from * sizeof *p);
        memset(ds, 0, (size_t)from * sizeof *ds);
        memset(p + to, 0, (pad - (size_t)to) * sizeof *p);
        memset(ds + to, 0, (pad - (size_t)to) * sizeof *ds);
        if (!seen)
            continue;
        k->axpy(s + from, -1, w->lse + from, seen);
        (void)k->exp_sub(s + from, seen, 0);
        g->e->panel->round_bf16(p + from, s + from, seen);
        k->axpy(dp + from, -1, w->delta + from, seen);
        k->softmax_bwd(dp + from, s + from, dp + from, 0, 1, seen);
        g->e->panel->round_bf16(ds + from, dp + from, seen);
    }
}

/* A tile of queries of one head, packed, against a tile of keys. */
static void backward_pair(const job *g, const scratch *w, int32_t si,
                          int32_t p0, int32_t m, int32_t j0, int32_t kh)
{
    const bise_attn16 *a = g->a;
    const bise_panel_ops *o = g->e->panel;
    const int32_t D = a->D, row = a->seg[si] + j0;
    const int32_t n = min32(TILE, p0 + m - j0);
    const bool diagonal = j0 == p0;
    const size_t ld = (size_t)(a->K * D);
    const size_t at = (size_t)row * ld + (size_t)(kh * D);
    const size_t turned = turned_ld(a->seg[a->n_seg]);
    product s = { .y = w->s, .ldy = TILE, .a = head_rows(a->k, row, kh, D),
                  .lda = a->k.ld, .b = w->packed[0], .m = n, .n = m, .r = D };
    multiply(o, &s, diagonal ? Y_UPPER : ALL);
    s.y = w->dp;
    s.a = head_rows(a->v, row, kh, D);
    s.lda = a->v.ld;
    s.b = w->packed[1];
    multiply(o, &s, diagonal ? Y_UPPER : ALL);
    turn_scores(g, w, p0, m, j0, n);
    product d = { .y = g->dk + at, .ldy = ld, .a = w->ds, .lda = LDT,
                  .b = w->packed[2], .m = n, .n = D, .r = m, .add = true };
    multiply(o, &d, diagonal ? A_UPPER : ALL);
    d.y = g->dv + at;
    d.a = w->p;
    d.b = w->packed[3];
    multiply(o, &d, diagonal ? A_UPPER : ALL);
    bise_panel_pack_pairs(o, w->packed_ds, w->ds, LDT, n, m);
    const product q = {
        .y = w->o, .ldy = TILE, .lda = turned, .b = w->packed_ds, .m = D,
        .a = g->kt + (size_t)(kh * D) * turned + (size_t)(row + si), .n = m,
        .r = n, .add = true };
    multiply(o, &q, diagonal ? B_UPPER : ALL);
}

/* rows x cols of the transpose at from, at most a cache line of each. */
static void put_block(float *to, size_t ld, const float *from, int32_t rows,
                      int32_t cols)
{
    for (int32_t i = 0; i < rows; i++)
        for (int32_t d = 0; d < cols; d++)
            to[(size_t)i * ld + (size_t)d] = from[(size_t)d * TILE +
                                                  (size_t)i];
}

/* dq of a tile from its transpose in w->o. */
static void put_dq(const job *g, const scratch *w, int32_t row, int32_t m,
                   int32_t h)
{
    const int32_t D = g->a->D;
    const size_t ld = (size_t)(g->a->H * D);
    float *to = g->dq + (size_t)row * ld + (size_t)(h * D);
    for (int32_t i = 0; i < m; i += LINE)
        for (int32_t d = 0; d < D; d += LINE)
            put_block(to + (size_t)i * ld + d, ld, w->o + (size_t)d * TILE + i,
                      min32(LINE, m - i), min32(LINE, D - d));
}

/* All keys before one tile of queries of one head. */
static void backward_tile(const job *g, const scratch *w, int32_t si,
                          int32_t p0, int32_t m, int32_t h)
{
    const bise_attn16 *a = g->a;
    const bise_panel_ops *o = g->e->panel;
    const int32_t D = a->D, row = a->seg[si] + p0, kh = h / (a->H / a->K);
    const uint16_t *q = head_rows(a->q, row, h, D);
    const uint16_t *d_o = head_rows(g->d_o, row, h, D);
    bise_panel_pack_rows(o, w->packed[0], q, a->q.ld, m, D);
    bise_panel_pack_rows(o, w->packed[1], d_o, g->d_o.ld, m, D);
    bise_panel_pack_pairs(o, w->packed[2], q, a->q.ld, m, D);
    bise_panel_pack_pairs(o, w->packed[3], d_o, g->d_o.ld, m, D);
    for (int32_t i = 0; i < m; i++) {
        const size_t at = (size_t)(row + i) * (size_t)a->H + (size_t)h;
        w->lse[i] = a->lse[at];
        w->delta[i] = g->delta[at];
    }
    memset(w->o, 0, (size_t)TILE * (size_t)D * sizeof *w->o);
    for (int32_t j0 = first_tile(a, p0); j0 < p0 + m; j0 += TILE)
        backward_pair(g, w, si, p0, m, j0, kh);
    put_dq(g, w, row, m, h);
}

/* Keys of a sample and head as [D, len], with a zero behind the last. */
static void turn_keys(const job *g, int32_t si, int32_t kh)
{
    const bise_attn16 *a = g->a;
    const int32_t D = a->D, start = a->seg[si], len = a->seg[si + 1] - start;
    const size_t turned = turned_ld(a->seg[a->n_seg]);
    uint16_t *to = g->kt + (size_t)(kh * D) * turned + (size_t)(start + si);
    /* A few rows at a time: the lines of to that they fill stay at hand. */
    for (int32_t t0 = 0; t0 < len; t0 += LINE)
        for (int32_t d = 0; d < D; d++)
            for (int32_t t = t0; t < min32(len, t0 + LINE); t++)
                to[(size_t)d * turned + (size_t)t] =
                    head_rows(a->k, start + t, kh, D)[d];
    for (int32_t d = 0; d < D; d++)
        to[(size_t)d * turned + (size_t)len] = 0;
}

/* One key head of one sample with all query heads of its group: nobody else
 * writes these columns of these rows of dq, dk, dv. */
static void backward_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const bise_attn16 *a = g->a;
    const int32_t D = a->D, group = a->H / a->K;
    const int32_t kh = (int32_t)index % a->K, si = (int32_t)index / a->K;
    const int32_t start = a->seg[si], len = a->seg[si + 1] - start;
    scratch w;
    carve(&w, worker_scratch(g->e, worker), g->heads, D);
    turn_keys(g, si, kh);
    for (int32_t t = start; t < start + len; t++) {
        const size_t at = (size_t)t * (size_t)(a->K * D) + (size_t)(kh * D);
        memset(g->dk + at, 0, (size_t)D * sizeof *g->dk);
        memset(g->dv + at, 0, (size_t)D * sizeof *g->dv);
    }
    for (int32_t h = kh * group; h < (kh + 1) * group; h++)
        for (int32_t p0 = 0; p0 < len; p0 += TILE)
            backward_tile(g, &w, si, p0, min32(TILE, len - p0), h);
}

void bise_attn16_backward(const bise_exec *e, const bise_attn16 *a,
                          bise_rows16 d_o, const float *delta, uint16_t *kt,
                          float *dq, float *dk, float *dv)
{
    job g = { .e = e, .a = a, .heads = heads_of(a->H, a->K), .d_o = d_o,
              .delta = delta, .kt = kt, .dq = dq, .dk = dk, .dv = dv };
    bise_pool_run(e->pool, (size_t)a->n_seg * (size_t)a->K, backward_task,
                  &g);
}
