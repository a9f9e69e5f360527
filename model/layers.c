/* layers.c - the forward pass, layer by layer (mistral3.md 3.1):
 *   x += Wo Attn(RoPE(Wq a), RoPE(Wk a), Wv a),   a = RMSNorm(x)
 *   x += Wdown( silu(Wgate b) (Wup b) ),           b = RMSNorm(x)
 * and the row operations that it shares with the backward pass.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/clock.h"
#include "model/graph_int.h"

/* Sixteen rows are work enough for a task, also in small models. */
void graph_rows(const bise_exec *e, int32_t T, bise_task_fn *fn, void *ctx)
{
    bise_pool_run(e->pool, (size_t)((T + ROW_BLOCK - 1) / ROW_BLOCK), fn, ctx);
}

/* Arguments of a row operation; which are used depends on it. */
typedef struct row_job {
    const bise_graph *g;
    float *y, *u, *r;
    const float *x, *w, *dy, *rc;
    int32_t T, n, heads;
    double eps;
    bool query, back;
} row_job;

/* First row after a block. */
static int32_t block_end(const row_job *j, size_t block)
{
    const int32_t end = (int32_t)(block + 1) * ROW_BLOCK;
    return end < j->T ? end : j->T;
}

/* A row operation as a part of the step: what ran before it were products. */
static void row_part(bise_graph *g, int32_t T, bise_task_fn *fn, void *ctx)
{
    graph_lap(g, BISE_STEP_PRODUCTS);
    graph_rows(&g->e, T, fn, ctx);
    graph_lap(g, BISE_STEP_ROWS);
}

/* One block of rows through RMSNorm; r is kept for the backward pass. */
static void norm_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    (void)worker;
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block);
         t++) {
        const size_t at = (size_t)t * (size_t)j->n;
        const float r = j->g->e.k->rmsnorm(j->y + at, j->x + at, j->w,
                                           (size_t)j->n, (float)j->eps);
        if (j->r)
            j->r[t] = r;
    }
}

/* Rows are independent: any number of threads gives the same values. */
void graph_norm(bise_graph *g, float *y, const float *x, const float *w,
                float *r, int32_t T, int32_t n, double eps)
{
    row_job j = { .g = g, .y = y, .x = x, .w = w, .r = r, .T = T, .n = n,
                  .eps = eps };
    row_part(g, T, norm_task, &j);
}

/* Gradients add to dx, which already holds the residual path. */
static void norm_bwd_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    (void)worker;
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block);
         t++) {
        const size_t at = (size_t)t * (size_t)j->n;
        j->g->e.k->rmsnorm_bwd(j->y + at, NULL, j->dy + at, j->x + at, j->w,
                               j->rc[t], (size_t)j->n);
    }
}

/* r was left by graph_norm of the same rows just before. */
void graph_norm_bwd(bise_graph *g, float *dx, const float *dy, const float *x,
                    const float *w, const float *r, int32_t T, int32_t n)
{
    row_job j = { .g = g, .y = dx, .dy = dy, .x = x, .w = w, .rc = r, .T = T,
                  .n = n };
    row_part(g, T, norm_bwd_task, &j);
}

/* A block of rows is contiguous, so it is one long vector. */
static void swiglu_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    const size_t n = (size_t)j->n, from = block * ROW_BLOCK * n;
    const size_t to = (size_t)block_end(j, block) * n;
    (void)worker;
    j->g->e.k->swiglu(j->y + from, j->x + from, j->w + from, to - from);
}

/* h may be gate: inference keeps no second buffer. */
void graph_swiglu(bise_graph *g, float *h, const float *gate, const float *up,
                  int32_t T, int32_t n)
{
    row_job j = { .g = g, .y = h, .x = gate, .w = up, .T = T, .n = n };
    row_part(g, T, swiglu_task, &j);
}

/* In place: gate and up are not needed after this. */
static void swiglu_bwd_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    const size_t n = (size_t)j->n, from = block * ROW_BLOCK * n;
    const size_t to = (size_t)block_end(j, block) * n;
    (void)worker;
    j->g->e.k->swiglu_bwd(j->y + from, j->u + from, j->dy + from,
                          j->y + from, j->u + from, to - from);
}

/* Needs gate and up as the forward left them. */
void graph_swiglu_bwd(bise_graph *g, float *gate, float *up, const float *dh,
                      int32_t T, int32_t n)
{
    row_job j = { .g = g, .y = gate, .u = up, .dy = dh, .T = T, .n = n };
    row_part(g, T, swiglu_bwd_task, &j);
}

/* Rotation and query scale commute with each other and are both diagonal over
 * positions, so the inverse needs only the sign of sin. */
static void rope_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    const bise_graph *g = j->g;
    const size_t D = (size_t)g->f->D;
    (void)worker;
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block);
         t++) {
        const size_t p = (size_t)g->pos[t], at = p * (D / 2);
        const float *sin = (j->back ? g->nsin : g->sin) + at;
        float *row = j->y + (size_t)t * (size_t)j->heads * D;
        for (int32_t h = 0; h < j->heads; h++)
            g->e.k->rope(row + (size_t)h * D, g->cos + at, sin, D);
        if (j->query && g->qscale[p] != 1)
            g->e.k->scale(row, g->qscale[p], (size_t)j->heads * D);
    }
}

/* Positions come from g->pos: batches restart them, caches go on. */
void graph_rope(bise_graph *g, float *x, int32_t heads, int32_t T, bool query,
                bool back)
{
    row_job j = { .g = g, .y = x, .heads = heads, .T = T, .query = query,
                  .back = back };
    row_part(g, T, rope_task, &j);
}

/* Every linear of the group sees the same input rows. */
bise_status graph_tap(bise_graph *g, const bise_linear *l, int n,
                      const float *x, int32_t T, bise_error *err)
{
    bise_status s = BISE_OK;
    for (int i = 0; g->o.tap && s == BISE_OK && i < n; i++)
        s = g->o.tap(g->o.tap_ctx, l[i].role, x, T, l[i].in, err);
    return s;
}

/* q k^T / sqrt(D); latent attention has its own in mla.c. The activations are
 * those of one layer in the list of all. */
bise_attn graph_attn(const bise_graph *g, const graph_acts *a,
                     const graph_kv *kv)
{
    const bise_config *f = g->f;
    const int32_t HD = f->H * f->D, KD = f->K * f->D;
    return (bise_attn){
        .H = f->H, .K = f->K, .D = f->D, .Dv = f->D,
        .window = bise_config_window(f, (int32_t)(a - g->acts)),
        .alpha = (float)(1.0 / sqrt((double)f->D)),
        .q = a->q, .k = kv ? kv->k : a->k, .v = kv ? kv->v : a->v,
        .ldq = HD, .ldk = KD, .ldv = KD, .ldo = HD, .o = a->o, .lse = a->lse,
        .tiles = g->tiles, .n_tiles = g->n_tiles, .seg = g->seg,
        .n_seg = g->n_seg, .past = kv ? kv->past : 0,
    };
}

/* Start a residual sum; the stream may run in place. */
static void copy_rows(float *to, const float *from, int32_t T, int32_t n)
{
    if (to != from)
        memcpy(to, from, (size_t)T * (size_t)n * sizeof *to);
}

/* xm = x + o Wo^T with o [T, n], from here on maybe for fewer rows. */
static void add_attention(bise_graph *g, int32_t l, float *o, int32_t n)
{
    graph_acts *a = &g->acts[l];
    copy_rows(a->xm, g->x[l], g->T, g->f->C);
    if (graph_narrows(g, l)) {
        graph_narrow(g, a->xm, (size_t)g->f->C * sizeof *a->xm);
        graph_narrow(g, o, (size_t)n * sizeof *o);
    }
    bise_linears_forward(&g->e, &g->layers[l].o, 1, &a->xm, o, g->T,
                         a->h[STAGE_O], true);
}

/* xm = x + attention over short rows. */
static bise_status latent_part(bise_graph *g, int32_t l, const graph_kv *kv,
                               bise_error *err)
{
    const bise_config *f = g->f;
    graph_layer *w = &g->layers[l];
    graph_norm(g, g->normed, g->x[l], w->attn_norm, NULL, g->T, f->C, f->eps);
    bise_status s = graph_mla_forward(g, l, kv, err);
    if (s == BISE_OK)
        s = graph_tap(g, &w->o, 1, g->mla.o, g->T, err);
    if (s != BISE_OK)
        return s;
    add_attention(g, l, g->mla.o, f->H * f->v_dim);
    return BISE_OK;
}

/* xm = x + attention. */
static bise_status attention_part(bise_graph *g, int32_t l, const graph_kv *kv,
                                  bise_error *err)
{
    const bise_config *f = g->f;
    graph_layer *w = &g->layers[l];
    graph_acts *a = &g->acts[l];
    const int32_t T = g->T;
    /* With a cache the new keys and values go straight to their place. */
    const size_t at = kv ? (size_t)kv->past * (size_t)(f->K * f->D) : 0;
    float *k = kv ? kv->k + at : a->k, *v = kv ? kv->v + at : a->v;
    graph_norm(g, g->normed, g->x[l], w->attn_norm, NULL, T, f->C, f->eps);
    bise_status s = graph_tap(g, w->qkv, 3, g->normed, T, err);
    if (s != BISE_OK)
        return s;
    bise_linears_forward(&g->e, w->qkv, 3, (float *[]){ a->q, k, v },
                         g->normed, T, a->h[STAGE_QKV], false);
    /* Query scale after the rotation, on queries only (mistral3.md 3.4). */
    graph_rope(g, a->q, f->H, T, true, false);
    graph_rope(g, k, f->K, T, false, false);
    const bise_attn at_all = graph_attn(g, a, kv);
    bise_attn_forward(&g->e, &at_all);
    graph_lap(g, BISE_STEP_ATTENTION);
    if ((s = graph_tap(g, &w->o, 1, a->o, T, err)) != BISE_OK)
        return s;
    add_attention(g, l, a->o, f->H * f->D);
    return BISE_OK;
}

/* Attention part, then the feed-forward part on its sum. Buffers for normed
 * rows and the hidden vector are shared by all layers. */
bise_status graph_layer_forward(bise_graph *g, int32_t l, float *out,
                                const graph_kv *kv, bise_error *err)
{
    const bise_config *f = g->f;
    graph_layer *w = &g->layers[l];
    graph_acts *a = &g->acts[l];
    bise_status s = f->kv_lora ? latent_part(g, l, kv, err)
                               : attention_part(g, l, kv, err);
    if (s != BISE_OK)
        return s;
    const int32_t T = g->T;
    graph_norm(g, g->normed, a->xm, w->ffn_norm, NULL, T, f->C, f->eps);
    /* Experts add to the sum themselves. */
    if (w->moe) {
        if (!out)           /* the backward pass makes it again itself */
            return BISE_OK;
        copy_rows(out, a->xm, T, f->C);
        return graph_moe_forward(g, l, out, err);
    }
    if ((s = graph_tap(g, w->up, 2, g->normed, T, err)) != BISE_OK)
        return s;
    bise_linears_forward(&g->e, w->up, 2, (float *[]){ a->gate, a->up },
                         g->normed, T, a->h[STAGE_UP], false);
    graph_swiglu(g, g->hidden, a->gate, a->up, T, f->F);
    if (!out) {
        bise_linears_adapters(&g->e, &w->down, 1, g->hidden, T,
                              a->h[STAGE_DOWN]);
        return BISE_OK;
    }
    if ((s = graph_tap(g, &w->down, 1, g->hidden, T, err)) != BISE_OK)
        return s;
    copy_rows(out, a->xm, T, f->C);
    bise_linears_forward(&g->e, &w->down, 1, &out, g->hidden, T,
                         a->h[STAGE_DOWN], true);
    return BISE_OK;
}

/* Ids are checked here because every caller passes through. */
bise_status graph_embed(bise_graph *g, const int32_t *ids, int32_t T,
                        float *x, bise_error *err)
{
    const bise_config *f = g->f;
    for (int32_t t = 0; t < T; t++) {
        if (ids[t] < 0 || ids[t] >= f->V)
            return bise_fail(err, BISE_EINVAL, "token id %d at position %d, "
                             "the model has %d", ids[t], t, f->V);
        bise_linear_row(&g->embed, ids[t], x + (size_t)t * (size_t)f->C);
        if (t % BISE_EMBED_ROWS == BISE_EMBED_ROWS - 1)
            graph_pages_end_embed(g);
    }
    graph_pages_end_embed(g);
    return BISE_OK;
}

/* Embedding rows, layers, final norm. */
bise_status graph_run(bise_graph *g, const int32_t *ids, int32_t T,
                      const graph_kv *kv, bise_error *err)
{
    const bise_config *f = g->f;
    g->T = T;
    g->lap_ns = bise_clock_ns();
    const bise_status embedded =
        graph_embed(g, ids, T, g->rows16 ? g->stream : g->x[0], err);
    if (embedded != BISE_OK)
        return embedded;
    if (g->rows16) {
        for (int32_t l = 0; l < f->L; l++) {
            graph_pages_begin(g, l, 1);
            graph_layer_forward16(g, l);
            graph_pages_end(g, l);
        }
        graph_norm(g, g->xf, g->stream, g->norm, NULL, g->T, f->C, f->eps);
        return BISE_OK;
    }
    for (int32_t l = 0; l < f->L; l++) {
        graph_pages_begin(g, l, 1);
        const bise_status s = graph_layer_forward(g, l, g->x[l + 1],
                                                  kv ? &kv[l] : NULL, err);
        graph_pages_end(g, l);
        if (s != BISE_OK)
            return s;
    }
    graph_norm(g, g->xf, g->x[f->L], g->norm, NULL, g->T, f->C, f->eps);
    return BISE_OK;
}
