/* graph_plan.c - cuts one block of memory into all buffers of a graph.
 * graph_plan() is the only list of them: it runs once to count and once to
 * place. Called from graph.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/graph_int.h"

/* Where graph_plan() stands: base NULL counts only. */
typedef struct carver {
    uint8_t *base;
    uint64_t at;
} carver;

/* The next n objects at a cache line; NULL while counting. */
static void *carve(carver *c, uint64_t n, uint64_t size)
{
    void *p = c->base ? c->base + c->at : NULL;
    c->at += (n * size + 63) / 64 * 64;
    return p;
}

/* A matrix of the arena. */
static float *floats(carver *c, uint64_t rows, uint64_t cols)
{
    return carve(c, rows * cols, sizeof(float));
}

/* The widest adapter branch of any group: size of shared h and dh. */
static uint64_t max_rank(const bise_graph *g)
{
    int32_t most = g->head.rank;
    for (int32_t l = 0; l < g->f->L; l++)
        for (int s = 0; s < STAGE_COUNT; s++)
            if (g->layers[l].rank[s] > most)
                most = g->layers[l].rank[s];
    return (uint64_t)most;
}

/* Activations a layer's backward pass reads; x alone stands in g->x. */
static void plan_acts(bise_graph *g, carver *c, graph_acts *a, int32_t l,
                      float *xm)
{
    const bise_config *f = g->f;
    const uint64_t T = (uint64_t)g->o.max_tokens;
    const uint64_t D = f->kv_lora ? 0 : (uint64_t)f->D;
    const uint64_t HD = (uint64_t)f->H * D, KD = (uint64_t)f->K * D;
    a->q = floats(c, T, HD);          /* none of these in latent attention */
    a->k = floats(c, T, KD);
    a->v = floats(c, T, KD);
    a->o = floats(c, T, HD);
    a->lse = floats(c, T, (uint64_t)f->H);
    a->xm = xm ? xm : floats(c, T, (uint64_t)f->C);
    a->gate = floats(c, T, (uint64_t)f->F);
    a->up = floats(c, T, (uint64_t)f->F);
    for (int s = 0; s < STAGE_COUNT; s++)
        a->h[s] = floats(c, T, l < 0 ? max_rank(g) :
                                       (uint64_t)g->layers[l].rank[s]);
}

/* The residual stream: one buffer up to the lowest trained layer, an own one
 * for every layer above; and the activations beside it. */
static void plan_layers(bise_graph *g, carver *c)
{
    const bise_config *f = g->f;
    const uint64_t T = (uint64_t)g->o.max_tokens, C = (uint64_t)f->C;
    /* The tables of pointers are in the arena too: a layer without an own
     * buffer points at a shared one, and nobody has to ask which. */
    float **x = carve(c, (uint64_t)f->L + 1, sizeof *x);
    graph_acts *acts = carve(c, (uint64_t)f->L, sizeof *acts);
    float *stream = floats(c, T, C);
    graph_acts shared, own;
    plan_acts(g, c, &shared, -1, NULL);
    for (int32_t l = 0; l <= f->L; l++) {
        /* Below the lowest trained layer the stream runs in place. */
        float *to = l <= g->lowest || l == 0 ? stream : floats(c, T, C);
        if (x)
            x[l] = to;
        if (l == f->L)
            break;
        /* The last n_full layers keep what they computed: their backward
         * pass comes first, when nothing has overwritten it. */
        if (l >= g->lowest && l >= f->L - g->n_full)
            plan_acts(g, c, &own, l, NULL);
        else
            own = shared;
        if (l < g->lowest)
            own.xm = stream;
        if (acts)
            acts[l] = own;
    }
    g->x = x;
    g->acts = acts;
}

/* Gradient buffers exist once: layers are visited one after another. Below dx
 * nothing is needed when no layer is trained. */
static void plan_backward(bise_graph *g, carver *c)
{
    const bise_config *f = g->f;
    const uint64_t T = (uint64_t)g->o.max_tokens, C = (uint64_t)f->C;
    const uint64_t HD = (uint64_t)f->H * (uint64_t)f->D;
    const uint64_t KD = (uint64_t)f->K * (uint64_t)f->D;
    const uint64_t rows = T > (uint64_t)g->chunk ? T : (uint64_t)g->chunk;
    /* The head's part is needed even when only the head is trained. */
    g->dxf = floats(c, T, C);
    g->rows_dx = floats(c, (uint64_t)g->chunk, C);
    g->dh = floats(c, rows, max_rank(g));
    if (g->lowest >= f->L)
        return;
    g->r = floats(c, T, 1);
    g->dx = floats(c, T, C);
    /* With rows16 the gradient of xf, which is read first, lends its place. */
    g->dn = g->rows16 ? g->dxf : floats(c, T, C);
    if (g->rows16)
        return;
    g->d_o = floats(c, T, HD);
    g->dq = floats(c, T, HD);
    g->dk = floats(c, T, KD);
    g->dv = floats(c, T, KD);
    g->dhidden = floats(c, T, (uint64_t)f->F);
}

/* Routing and the rows gathered for one expert, at most all T of them. */
static void plan_moe(bise_graph *g, carver *c)
{
    const bise_config *f = g->f;
    const uint64_t T = (uint64_t)g->o.max_tokens;
    const uint64_t one = (uint64_t)(f->F_expert ? f->F_expert : f->F);
    const uint64_t shared = (uint64_t)f->shared_experts;
    const uint64_t Fe = shared > 1 ? shared * one : one;
    if (!f->E)
        return;
    g->moe_logits = floats(c, T, (uint64_t)f->E);
    g->moe_w = floats(c, T, (uint64_t)f->top_k);
    g->moe_expert = carve(c, T * (uint64_t)f->top_k, sizeof(int32_t));
    g->moe_rows = carve(c, T, sizeof(int32_t));
    g->moe_x = floats(c, T, (uint64_t)f->C);
    g->moe_gate = floats(c, T, Fe);
    g->moe_up = floats(c, T, Fe);
    g->moe_y = floats(c, T, (uint64_t)f->C);
    g->moe_hidden = floats(c, T, Fe);
    if (!g->o.train)
        return;
    if (g->o.router_aux > 0) {
        g->balance.count = carve(c, (uint64_t)f->E, sizeof(double));
        g->balance.p = carve(c, (uint64_t)f->E, sizeof(double));
        g->balance.row = carve(c, (uint64_t)f->E, sizeof(double));
    }
    g->moe_dw = floats(c, T, (uint64_t)f->top_k);
    g->moe_dy = floats(c, T, (uint64_t)f->C);
    g->moe_dx = floats(c, T, (uint64_t)f->C);
    g->moe_dh = floats(c, T, Fe);
}

/* Widest input of a product: hidden states, heads, latents, or a feed-forward
 * layer. */
static int32_t widest_input(const bise_graph *g)
{
    const bise_config *f = g->f;
    const int32_t shared = f->F_expert * f->shared_experts;
    const int32_t widths[] = { f->F, f->H * f->D, f->H * f->v_dim, f->q_lora,
                               f->F_expert, shared, f->kv_lora };
    int32_t width = f->C;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        width = widths[i] > width ? widths[i] : width;
    return width;
}

/* Room for the widest operand of a product in the form the panels take: T rows
 * of a layer, or going backward a chunk of gradients of logits. */
static void plan_operand(bise_graph *g, carver *c)
{
    const int32_t T = g->o.max_tokens, head_rows = g->o.train ? g->chunk : 0;
    const int32_t width = widest_input(g), V = g->f->V;
    if (g->o.compute != BISE_COMPUTE_F32) {
        const uint64_t layer = (uint64_t)T * bise_stride16(width);
        const uint64_t head = (uint64_t)head_rows * bise_stride16(V);
        g->e.x16 = carve(c, layer > head ? layer : head, sizeof *g->e.x16);
    } else if (g->e.panel) {
        const uint64_t layer = bise_panel_tiled(T, width);
        const uint64_t head = bise_panel_tiled(head_rows, V);
        g->e.x32 = carve(c, layer > head ? layer : head, sizeof *g->e.x32);
    }
}

/* T rows of width values as bf16. */
static bise_rows16 rows16(const bise_graph *g, carver *c, int32_t width)
{
    const size_t ld = bise_stride16(width);
    const uint64_t n = (uint64_t)g->o.max_tokens * ld;
    return (bise_rows16){ carve(c, n, sizeof(uint16_t)), ld };
}

/* What a layer keeps of its attention, and of its feed-forward part. */
static void plan_attn16(bise_graph *g, carver *c, graph_acts16 *a)
{
    const bise_config *f = g->f;
    a->q = rows16(g, c, f->H * f->D);
    a->k = rows16(g, c, f->K * f->D);
    a->v = rows16(g, c, f->K * f->D);
    a->o = rows16(g, c, f->H * f->D);
    a->lse = floats(c, (uint64_t)g->o.max_tokens, (uint64_t)f->H);
}

static void plan_ffn16(bise_graph *g, carver *c, graph_acts16 *a)
{
    a->gate = rows16(g, c, g->f->F);
    a->up = rows16(g, c, g->f->F);
}

/* Layers that keep less share one set. Layers below the lowest trained one are
 * not visited again and share everything. */
static void plan_acts16(bise_graph *g, carver *c)
{
    const bise_config *f = g->f;
    graph_acts16 *acts = carve(c, (uint64_t)f->L, sizeof *acts);
    graph_acts16 shared = { 0 };
    shared.x = rows16(g, c, f->C);
    shared.xm = rows16(g, c, f->C);
    plan_attn16(g, c, &shared);
    plan_ffn16(g, c, &shared);
    for (int32_t l = 0; l < f->L; l++) {
        graph_acts16 own = shared;
        if (l >= g->lowest) {
            own.x = rows16(g, c, f->C);
            own.xm = rows16(g, c, f->C);
        }
        if (l >= g->lowest && l >= f->L - g->n_full - g->n_attn)
            plan_attn16(g, c, &own);
        if (l >= g->lowest && l >= f->L - g->n_full)
            plan_ffn16(g, c, &own);
        for (int s = 0; s < STAGE_COUNT; s++)
            own.h[s] = floats(c, (uint64_t)g->o.max_tokens,
                              (uint64_t)g->layers[l].rank[s]);
        if (acts)
            acts[l] = own;
    }
    g->acts16 = acts;
}

/* Room for packed adapters and their gradients: the largest of all groups. */
static void plan_adapters16(bise_graph *g, carver *c)
{
    size_t packed = 0, rank = 0;
    for (int32_t i = 0; i < g->f->L; i++) {
        const graph_layer *l = &g->layers[i];
        bise_adapters16_plan(l->qkv, 3, &packed, &rank);
        bise_adapters16_plan(&l->o, 1, &packed, &rank);
        bise_adapters16_plan(l->up, 2, &packed, &rank);
        bise_adapters16_plan(&l->down, 1, &packed, &rank);
    }
    g->ad16.ld = bise_stride16(g->o.max_tokens);
    g->ad16.packed = carve(c, packed, sizeof(uint16_t));
    g->ad16.dh = floats(c, (uint64_t)g->o.max_tokens, rank);
    g->ad16.ht = carve(c, rank * g->ad16.ld, sizeof(uint16_t));
    g->ad16.dht = carve(c, rank * g->ad16.ld, sizeof(uint16_t));
    g->ad16.low = carve(c, rank * (uint64_t)g->o.max_tokens, sizeof(uint16_t));
}

/* Rows as 8-bit integers: of the widest operand. */
static void plan_rows8(bise_graph *g, carver *c)
{
    const bise_config *f = g->f;
    int32_t width = f->C > f->F ? f->C : f->F;
    width = f->H * f->D > width ? f->H * f->D : width;
    g->rows8.x = carve(c, (uint64_t)g->o.max_tokens * bise_stride8(width), 1);
    g->rows8.scales = floats(c, (uint64_t)g->o.max_tokens, 1);
    g->rows8.fold = floats(c, (uint64_t)width, 1);
    g->ad16.rows8 = &g->rows8;
}

/* Everything of the bf16 path: what layers keep, then what they share. */
static void plan_rows16(bise_graph *g, carver *c)
{
    const bise_config *f = g->f;
    const uint64_t T = (uint64_t)g->o.max_tokens;
    const int32_t HD = f->H * f->D, KD = f->K * f->D;
    plan_acts16(g, c);
    plan_adapters16(g, c);
    if (g->o.compute == BISE_COMPUTE_INT8)
        plan_rows8(g, c);
    g->stream = floats(c, T, (uint64_t)f->C);
    /* The head works when no layer does: a chunk of logits and its operand lie
     * where the layers' widest rows are. */
    const uint64_t lent = c->at;
    plan_operand(g, c);
    g->logits = floats(c, (uint64_t)g->chunk, (uint64_t)f->V);
    const uint64_t logits_end = c->at;
    c->at = lent;
    g->fq = floats(c, T, (uint64_t)HD);
    g->fk = floats(c, T, (uint64_t)KD);
    g->fv = floats(c, T, (uint64_t)KD);
    g->fgate = floats(c, T, (uint64_t)f->F);
    g->hidden16 = rows16(g, c, f->F);
    /* fup is read by the SwiGLU only; going backward its place holds the
     * gradients of gate and up, two bytes a value each. */
    g->dgate16 = rows16(g, c, f->F);
    g->dup16 = rows16(g, c, f->F);
    g->fup = (float *)(void *)g->dgate16.data;
    c->at = c->at > logits_end ? c->at : logits_end;
    g->normed16 = rows16(g, c, f->C);
    g->dx16 = rows16(g, c, f->C);
    g->dq16 = rows16(g, c, HD);
    g->dk16 = rows16(g, c, KD);
    g->dv16 = rows16(g, c, KD);
    g->delta = floats(c, T, (uint64_t)f->H);
    g->kt = carve(c, bise_attn16_turned(f->K, f->D, g->o.max_tokens),
                  sizeof(uint16_t));
}

/* Every buffer of the graph. */
uint64_t graph_plan(bise_graph *g, void *base)
{
    const bise_config *f = g->f;
    const uint64_t T = (uint64_t)g->o.max_tokens, C = (uint64_t)f->C;
    const uint64_t S = (uint64_t)g->o.max_seq;
    const uint64_t half = (uint64_t)graph_rotated(f) / 2;
    carver c = { .base = base };
    /* One scratch area per worker, each starting at a cache line. */
    g->e.scratch = floats(&c, (uint64_t)bise_pool_threads(g->o.pool),
                          g->e.scratch_floats);
    const uint64_t width = (uint64_t)g->dora_out;
    if (width) {
        g->e.dora_v = floats(&c, T > (uint64_t)g->chunk ? T :
                                     (uint64_t)g->chunk, width);
        g->dora_aat = floats(&c, max_rank(g), max_rank(g));
    }
    if (g->o.round_inputs)
        g->e.rounded = floats(&c, T > (uint64_t)g->chunk ? T :
                                      (uint64_t)g->chunk,
                              (uint64_t)widest_input(g));
    if (g->rows16) {
        plan_rows16(g, &c);
    } else {
        plan_operand(g, &c);
        g->logits = floats(&c, (uint64_t)g->chunk, (uint64_t)f->V);
        plan_layers(g, &c);
        /* Rows that live for one operation, whatever the layer. */
        g->normed = floats(&c, T, C);
        g->hidden = floats(&c, T, (uint64_t)f->F);
    }
    g->xf = floats(&c, T, C);
    g->rows_x = floats(&c, (uint64_t)g->chunk, C);
    g->head_h = floats(&c, (uint64_t)g->chunk, (uint64_t)g->head.rank);
    /* Losses are added in row order after the parallel part. */
    g->row_nll = carve(&c, (uint64_t)g->chunk, sizeof(double));
    g->rows = carve(&c, T, sizeof(int32_t));
    g->pos = carve(&c, T, sizeof(int32_t));
    g->tiles = carve(&c, T, sizeof *g->tiles);
    /* Tables up to the longest sample or context, not to the model's
     * max_position, which may be a million. */
    g->cos = floats(&c, S, half);
    g->sin = floats(&c, S, half);
    g->nsin = floats(&c, S, half);
    g->qscale = floats(&c, S, 1);
    if (g->o.train)
        plan_backward(g, &c);
    plan_moe(g, &c);
    graph_plan_mla(g, floats(&c, 1, graph_plan_mla(g, NULL)));
    return c.at;
}
