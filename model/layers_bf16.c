/* layers_bf16.c - the forward pass of layers.c for training with bf16
 * computation: what the backward pass reads is stored as bf16 where it is made,
 * in the form in which the next product takes it. The residual stream runs on
 * in float32; a layer computes from its rounded copy, so that a layer whose
 * activations were not kept gives the same bits when it is run again.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/clock.h"
#include "model/graph_int.h"

/* Arguments of a row operation; which are used depends on it. */
typedef struct row_job {
    const bise_graph *g;
    const float *x, *w, *y;
    float *f, *r;
    bise_rows16 in, out, a, b;
    int32_t T, n;
} row_job;

/* A worker's scratch: rows of float32 at hand. */
static float *row_scratch(const bise_graph *g, int worker)
{
    return g->e.scratch + (size_t)worker * g->e.scratch_floats;
}

/* First row after a block. */
static int32_t block_end(const row_job *j, size_t block)
{
    const int32_t end = (int32_t)(block + 1) * ROW_BLOCK;
    return end < j->T ? end : j->T;
}

void graph_lap(bise_graph *g, bise_step_part part)
{
    const uint64_t now = bise_clock_ns();
    g->seconds[part] += (double)(now - g->lap_ns) * 1e-9;
    g->lap_ns = now;
}

uint16_t *graph_row16(bise_rows16 r, int32_t t)
{
    return r.data + (size_t)t * r.ld;
}

/* Round x into its stored copy when x is given, then normalize the copy. */
static void norm_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    const bise_graph *g = j->g;
    const size_t n = (size_t)j->n;
    float *row = row_scratch(g, worker);
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block);
         t++) {
        uint16_t *kept = graph_row16(j->in, t);
        if (j->x)
            g->e.panel->round_bf16(kept, j->x + (size_t)t * n, n);
        g->e.k->bf16_to_f32(row, kept, n);
        const float r = g->e.k->rmsnorm(row, row, j->w, n, (float)g->f->eps);
        g->e.panel->round_bf16(graph_row16(j->out, t), row, n);
        if (j->r)
            j->r[t] = r;
    }
}

void graph_norm16(bise_graph *g, const float *x, bise_rows16 kept,
                  const float *w, float *r, bise_rows16 out)
{
    row_job j = { .g = g, .x = x, .in = kept, .w = w, .r = r, .out = out,
                  .T = g->T, .n = g->f->C };
    graph_rows(&g->e, g->T, norm_task, &j);
}

/* Queries, keys and values of a layer, to be rotated and rounded. */
typedef struct heads_job {
    const bise_graph *g;
    const float *sin;
    bise_rows16 q, k, v;
    int32_t T;
} heads_job;

/* Rotate row t of n heads, multiply it by scale unless that is 0, round it. */
static void turn_row(const heads_job *j, float *rows, int32_t heads,
                     float scale, bise_rows16 out, int32_t t)
{
    const bise_graph *g = j->g;
    const size_t D = (size_t)g->f->D, n = (size_t)heads * D;
    const size_t at = (size_t)g->pos[t] * (D / 2);
    float *row = rows + (size_t)t * n;
    for (int32_t h = 0; h < heads; h++)
        g->e.k->rope(row + (size_t)h * D, g->cos + at, j->sin + at, D);
    if (scale != 0)
        g->e.k->scale(row, scale, n);
    g->e.panel->round_bf16(graph_row16(out, t), row, n);
}

static void heads_task(void *ctx, size_t block, int worker)
{
    const heads_job *j = ctx;
    const bise_graph *g = j->g;
    const float alpha = (float)(1.0 / sqrt((double)g->f->D));
    const size_t n = (size_t)(g->f->K * g->f->D);
    const int32_t t0 = (int32_t)block * ROW_BLOCK;
    const int32_t t1 = j->T - t0 < ROW_BLOCK ? j->T : t0 + ROW_BLOCK;
    (void)worker;
    for (int32_t t = t0; t < t1; t++)
        turn_row(j, g->fq, g->f->H, alpha * g->qscale[g->pos[t]], j->q, t);
    for (int32_t t = t0; t < t1; t++)
        turn_row(j, g->fk, g->f->K, 0, j->k, t);
    for (int32_t t = t0; t < t1; t++)
        g->e.panel->round_bf16(graph_row16(j->v, t), g->fv + (size_t)t * n, n);
}

void graph_heads16(bise_graph *g, const float *sin, bise_rows16 q,
                   bise_rows16 k, bise_rows16 v)
{
    heads_job j = { .g = g, .sin = sin, .q = q, .k = k, .v = v, .T = g->T };
    graph_rows(&g->e, g->T, heads_task, &j);
}

static void round_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    (void)worker;
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block);
         t++)
        j->g->e.panel->round_bf16(graph_row16(j->out, t),
                                  j->x + (size_t)t * (size_t)j->n,
                                  (size_t)j->n);
}

void graph_round16(bise_graph *g, bise_rows16 out, const float *x, int32_t n)
{
    row_job j = { .g = g, .x = x, .out = out, .T = g->T, .n = n };
    graph_rows(&g->e, g->T, round_task, &j);
}

/* h = silu(gate) up; both are kept as bf16. The float32 rows end here. */
static void swiglu_task(void *ctx, size_t block, int worker)
{
    const row_job *j = ctx;
    const bise_graph *g = j->g;
    const size_t n = (size_t)j->n;
    (void)worker;
    for (int32_t t = (int32_t)block * ROW_BLOCK; t < block_end(j, block);
         t++) {
        float *gate = j->f + (size_t)t * n;
        const float *up = j->y + (size_t)t * n;
        g->e.panel->round_bf16(graph_row16(j->a, t), gate, n);
        g->e.panel->round_bf16(graph_row16(j->b, t), up, n);
        if (!j->out.data)
            continue;
        g->e.k->swiglu(gate, gate, up, n);
        g->e.panel->round_bf16(graph_row16(j->out, t), gate, n);
    }
}

/* Queries, keys, values and their attention, from the kept rows of x. */
static void attention_part(bise_graph *g, int32_t l)
{
    graph_layer *w = &g->layers[l];
    graph_acts16 *a = &g->acts16[l];
    const int32_t T = g->T;
    bise_rows16_adapters(&g->e, &g->ad16, w->qkv, 3, g->normed16, T,
                         a->h[STAGE_QKV]);
    graph_lap(g, BISE_STEP_ADAPTERS);
    bise_rows16_forward(&g->e, &g->ad16, w->qkv, 3,
                        (float *[]){ g->fq, g->fk, g->fv }, g->normed16, T,
                        a->h[STAGE_QKV], false);
    graph_lap(g, BISE_STEP_PRODUCTS);
    graph_heads16(g, g->sin, a->q, a->k, a->v);
    graph_lap(g, BISE_STEP_ROWS);
    const bise_attn16 at = graph_attn16(g, l);
    bise_attn16_forward(&g->e, &at);
    graph_lap(g, BISE_STEP_ATTENTION);
}

bise_attn16 graph_attn16(const bise_graph *g, int32_t l)
{
    const bise_config *f = g->f;
    const graph_acts16 *a = &g->acts16[l];
    return (bise_attn16){
        .H = f->H, .K = f->K, .D = f->D, .window = bise_config_window(f, l),
        .q = a->q, .k = a->k, .v = a->v, .o = a->o, .lse = a->lse,
        .tiles = g->tiles, .n_tiles = g->n_tiles, .seg = g->seg, .n_seg = g->n_seg,
    };
}

/* Gate and up from the kept rows of xm; with hidden also its product. */
static void ffn_part(bise_graph *g, int32_t l, bool hidden)
{
    const bise_config *f = g->f;
    graph_layer *w = &g->layers[l];
    graph_acts16 *a = &g->acts16[l];
    const int32_t T = g->T;
    bise_rows16_adapters(&g->e, &g->ad16, w->up, 2, g->normed16, T,
                         a->h[STAGE_UP]);
    graph_lap(g, BISE_STEP_ADAPTERS);
    bise_rows16_forward(&g->e, &g->ad16, w->up, 2,
                        (float *[]){ g->fgate, g->fup }, g->normed16, T,
                        a->h[STAGE_UP], false);
    graph_lap(g, BISE_STEP_PRODUCTS);
    row_job j = { .g = g, .f = g->fgate, .y = g->fup, .a = a->gate,
                  .b = a->up, .T = T, .n = f->F };
    if (hidden)
        j.out = g->hidden16;
    graph_rows(&g->e, T, swiglu_task, &j);
    graph_lap(g, BISE_STEP_ROWS);
}

/* stream += rows W^T with the adapters of one linear. */
static void add_product(bise_graph *g, const bise_linear *l, bise_rows16 rows,
                        float *h)
{
    bise_rows16_adapters(&g->e, &g->ad16, l, 1, rows, g->T, h);
    graph_lap(g, BISE_STEP_ADAPTERS);
    bise_rows16_forward(&g->e, &g->ad16, l, 1, &g->stream, rows, g->T, h,
                        true);
    graph_lap(g, BISE_STEP_PRODUCTS);
}

void graph_layer_forward16(bise_graph *g, int32_t l)
{
    graph_layer *w = &g->layers[l];
    graph_acts16 *a = &g->acts16[l];
    graph_norm16(g, g->stream, a->x, w->attn_norm, NULL, g->normed16);
    graph_lap(g, BISE_STEP_ROWS);
    attention_part(g, l);
    if (graph_narrows(g, l)) {
        graph_narrow(g, g->stream, (size_t)g->f->C * sizeof *g->stream);
        graph_narrow(g, a->o.data, a->o.ld * sizeof *a->o.data);
    }
    add_product(g, &w->o, a->o, a->h[STAGE_O]);
    graph_norm16(g, g->stream, a->xm, w->ffn_norm, NULL, g->normed16);
    graph_lap(g, BISE_STEP_ROWS);
    ffn_part(g, l, true);
    add_product(g, &w->down, g->hidden16, a->h[STAGE_DOWN]);
}

void graph_layer_again16(bise_graph *g, int32_t l)
{
    graph_layer *w = &g->layers[l];
    graph_acts16 *a = &g->acts16[l];
    const int32_t kept_all = g->f->L - g->n_full;
    if (l < kept_all - g->n_attn) {
        graph_norm16(g, NULL, a->x, w->attn_norm, NULL, g->normed16);
        graph_lap(g, BISE_STEP_ROWS);
        attention_part(g, l);
    }
    graph_norm16(g, NULL, a->xm, w->ffn_norm, NULL, g->normed16);
    graph_lap(g, BISE_STEP_ROWS);
    ffn_part(g, l, false);
}
