/* backprop_bf16.c - the backward pass of backprop.c over activations stored as
 * bf16 (layers_bf16.c): gradients are rounded where they are made and enter the
 * next product in that form; the gradient of the residual stream stays float32.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "model/graph_int.h"

#define PIECE 1024 /* values of a row that are widened at a time */

/* Arguments of a row operation; which are used depends on it. */
typedef struct row_job {
    const bise_graph *g;
    float *dx, *f;
    const float *dn, *w;
    bise_rows16 in, out, a, b, c;
    int32_t T, n, heads;
} row_job;

/* A worker's scratch: rows of float32 at hand. */
static float *row_scratch(const bise_graph *g, int worker)
{
    return g->e.scratch + (size_t)worker * g->e.scratch_floats;
}

static int32_t block_end(const row_job *j, size_t block)
{
    const int32_t end = (int32_t)(block + 1) * ROW_BLOCK;
    return end < j->T ? end : j->T;
}

/* dx += gradient through the norm of the kept rows, then dx rounded. */
static void norm_bwd_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    const bise_graph *g = j->g;
    const size_t n = (size_t)j->n;
    float *x = row_scratch(g, worker);
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block);
         t++) {
        const size_t at = (size_t)t * n;
        g->e.k->bf16_to_f32(x, graph_row16(j->in, t), n);
        g->e.k->rmsnorm_bwd(j->dx + at, NULL, j->dn + at, x, j->w, g->r[t], n);
        g->e.panel->round_bf16(graph_row16(j->out, t), j->dx + at, n);
    }
}

static void norm_bwd(bise_graph *g, bise_rows16 x, const float *w)
{
    row_job j = { .g = g, .dx = g->dx, .dn = g->dn, .in = x, .w = w,
                  .out = g->dx16, .T = g->T, .n = g->f->C };
    graph_rows(&g->e, g->T, norm_bwd_task, &j);
    graph_lap(g, BISE_STEP_ROWS);
}

/* hidden = silu(gate) up again, as the input of down. */
static void hidden_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    const bise_graph *g = j->g;
    float *gate = row_scratch(g, worker), *up = gate + PIECE;
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block); t++)
        for (int32_t i = 0; i < j->n; i += PIECE) {
            const size_t m = (size_t)(j->n - i < PIECE ? j->n - i : PIECE);
            g->e.k->bf16_to_f32(gate, graph_row16(j->a, t) + i, m);
            g->e.k->bf16_to_f32(up, graph_row16(j->b, t) + i, m);
            g->e.k->swiglu(gate, gate, up, m);
            g->e.panel->round_bf16(graph_row16(j->out, t) + i, gate, m);
        }
}

/* dgate and dup, rounded, from the gradient of hidden. */
static void swiglu_bwd_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    const bise_graph *g = j->g;
    float *gate = row_scratch(g, worker), *up = gate + PIECE;
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block); t++)
        for (int32_t i = 0; i < j->n; i += PIECE) {
            const size_t m = (size_t)(j->n - i < PIECE ? j->n - i : PIECE);
            g->e.k->bf16_to_f32(gate, graph_row16(j->a, t) + i, m);
            g->e.k->bf16_to_f32(up, graph_row16(j->b, t) + i, m);
            g->e.k->swiglu_bwd(gate, up, j->dn + (size_t)t * (size_t)j->n + i,
                               gate, up, m);
            g->e.panel->round_bf16(graph_row16(j->out, t) + i, gate, m);
            g->e.panel->round_bf16(graph_row16(j->c, t) + i, up, m);
        }
}

/* d_o rounded, and its product with o for every head. */
static void delta_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    const bise_graph *g = j->g;
    const size_t D = (size_t)g->f->D, n = (size_t)j->heads * D;
    float *o = row_scratch(g, worker);
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block);
         t++) {
        const float *d = j->dn + (size_t)t * n;
        g->e.k->bf16_to_f32(o, graph_row16(j->in, t), n);
        for (int32_t h = 0; h < j->heads; h++)
            g->delta[(size_t)t * (size_t)j->heads + (size_t)h] =
                g->e.k->dot(d + (size_t)h * D, o + (size_t)h * D, D);
        g->e.panel->round_bf16(graph_row16(j->out, t), d, n);
    }
}

/* True when nothing below stage s of layer l needs a gradient. */
static bool ends_at(const bise_graph *g, int32_t l, stage s)
{
    return l == g->lowest && s == g->lowest_stage;
}

/* Adapters' gradients of a group, then dx unless the pass ends here. */
static bool group_bwd(bise_graph *g, int32_t layer, stage s,
                      const bise_linear *l, int n, float *dx,
                      const bise_rows16 *dy, bise_rows16 x)
{
    const bool end = ends_at(g, layer, s);
    bise_rows16_gradients(&g->e, &g->ad16, l, n, dy, x, g->T,
                          g->acts16[layer].h[s]);
    graph_lap(g, BISE_STEP_ADAPTERS);
    if (!end)
        bise_rows16_backward(&g->e, &g->ad16, l, n, dx, dy, g->T);
    graph_lap(g, BISE_STEP_PRODUCTS);
    return end;
}

/* Through the feed-forward part. g->dx16 is g->dx rounded, here and after.
 * Returns true when the pass ends here. */
static bool ffn_bwd(bise_graph *g, int32_t l)
{
    graph_layer *w = &g->layers[l];
    graph_acts16 *a = &g->acts16[l];
    const int32_t T = g->T;
    row_job j = { .g = g, .a = a->gate, .b = a->up, .out = g->hidden16,
                  .T = T, .n = g->f->F };
    graph_rows(&g->e, T, hidden_task, &j);
    graph_lap(g, BISE_STEP_ROWS);
    if (group_bwd(g, l, STAGE_DOWN, &w->down, 1, g->fgate, &g->dx16,
                  g->hidden16))
        return true;
    j.dn = g->fgate;
    j.out = g->dgate16;
    j.c = g->dup16;
    graph_rows(&g->e, T, swiglu_bwd_task, &j);
    graph_norm16(g, NULL, a->xm, w->ffn_norm, g->r, g->normed16);
    graph_lap(g, BISE_STEP_ROWS);
    if (group_bwd(g, l, STAGE_UP, w->up, 2, g->dn,
                  (bise_rows16[]){ g->dgate16, g->dup16 }, g->normed16))
        return true;
    norm_bwd(g, a->xm, w->ffn_norm);
    return false;
}

/* dq, dk, dv through the attention, rounded. */
static void scores_bwd(bise_graph *g, int32_t l)
{
    const bise_config *f = g->f;
    const graph_acts16 *a = &g->acts16[l];
    const int32_t T = g->T;
    row_job d = { .g = g, .dn = g->fq, .in = a->o, .out = g->dq16, .T = T,
                  .heads = f->H };
    graph_rows(&g->e, T, delta_task, &d);
    graph_lap(g, BISE_STEP_ROWS);
    const bise_attn16 at = graph_attn16(g, l);
    bise_attn16_backward(&g->e, &at, g->dq16, g->delta, g->kt, g->fq, g->fk,
                         g->fv);
    graph_lap(g, BISE_STEP_ATTENTION);
    graph_heads16(g, g->nsin, g->dq16, g->dk16, g->dv16);
}

/* Through the attention part, likewise. */
static bool attention_bwd(bise_graph *g, int32_t l)
{
    graph_layer *w = &g->layers[l];
    graph_acts16 *a = &g->acts16[l];
    if (group_bwd(g, l, STAGE_O, &w->o, 1, g->fq, &g->dx16, a->o))
        return true;
    if (graph_narrows(g, l)) {
        const int32_t heads = g->f->H * g->f->D;
        graph_widen(g, g->dx, (size_t)g->f->C * sizeof *g->dx);
        graph_widen(g, g->fq, (size_t)heads * sizeof *g->fq);
        graph_widen(g, a->o.data, a->o.ld * sizeof *a->o.data);
    }
    scores_bwd(g, l);
    graph_norm16(g, NULL, a->x, w->attn_norm, g->r, g->normed16);
    graph_lap(g, BISE_STEP_ROWS);
    if (group_bwd(g, l, STAGE_QKV, w->qkv, 3, g->dn,
                  (bise_rows16[]){ g->dq16, g->dk16, g->dv16 }, g->normed16))
        return true;
    norm_bwd(g, a->x, w->attn_norm);
    return false;
}

void graph_backward16(bise_graph *g)
{
    const bise_config *f = g->f;
    const int32_t T = g->T;
    if (g->lowest >= f->L)
        return;
    memset(g->dx, 0, (size_t)T * (size_t)f->C * sizeof *g->dx);
    /* The stream still holds the last layer's output; xf takes the norm
     * again, for r. */
    graph_norm(g, g->xf, g->stream, g->norm, g->r, T, f->C, f->eps);
    graph_norm_bwd(g, g->dx, g->dxf, g->stream, g->norm, g->r, T, f->C);
    graph_round16(g, g->dx16, g->dx, f->C);
    graph_lap(g, BISE_STEP_ROWS);
    for (int32_t l = f->L - 1; l >= g->lowest; l--) {
        graph_pages_begin(g, l, -1);
        /* The shared activations still hold the layer that ran last. */
        if (l < f->L - g->n_full && l < f->L - 1)
            graph_layer_again16(g, l);
        const bool end = ffn_bwd(g, l) || attention_bwd(g, l);
        graph_pages_end(g, l);
        if (end)
            return;
    }
}
