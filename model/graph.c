/* graph.c - makes a graph: binds a checkpoint's weights and the adapters to
 * layers, decides what the backward pass needs and keeps, and cuts one block
 * of memory into all buffers. plan() is the only list of them: it runs once to
 * count and once to place.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/graph.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/gemm.h"
#include "model/graph_int.h"

#define LOGIT_BYTES (64u << 20) /* a chunk of logits at most */

/* Where plan() stands: base NULL counts only. */
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
    g->dn = floats(c, T, C);
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
    g->moe_dw = floats(c, T, (uint64_t)f->top_k);
    g->moe_dy = floats(c, T, (uint64_t)f->C);
    g->moe_dx = floats(c, T, (uint64_t)f->C);
    g->moe_dh = floats(c, T, Fe);
}

/* Room for the widest operand of a product as bf16: T rows of a layer, or a
 * chunk of gradients of logits. */
static uint16_t *plan_bf16(const bise_graph *g, carver *c)
{
    const bise_config *f = g->f;
    int32_t width = f->C > f->F ? f->C : f->F;
    width = f->H * f->D > width ? f->H * f->D : width;
    width = f->H * f->v_dim > width ? f->H * f->v_dim : width;
    width = f->q_lora > width ? f->q_lora : width;
    const uint64_t layer = (uint64_t)g->o.max_tokens * (uint64_t)(width + 32);
    const uint64_t head = (uint64_t)g->chunk * (uint64_t)(f->V + 32);
    return carve(c, layer > head ? layer : head, sizeof(uint16_t));
}

/* Run fn for every linear layer that may carry an adapter. */
static void each_linear(bise_graph *g, void (*fn)(bise_graph *, bise_linear *))
{
    const int32_t E = g->f->E;
    fn(g, &g->head);
    for (int32_t i = 0; i < g->f->L; i++) {
        graph_layer *l = &g->layers[i];
        for (int k = 0; k < 3; k++)
            fn(g, &l->qkv[k]);
        fn(g, &l->o);
        fn(g, &l->up[0]);
        fn(g, &l->up[1]);
        fn(g, &l->down);
        for (int32_t k = 0; l->moe && k < 2 * E; k++)
            fn(g, &l->exp_up[k]);
        for (int32_t k = 0; l->moe && k < E; k++)
            fn(g, &l->exp_down[k]);
    }
}

/* One buffer of v serves all linears in turn. */
static void widest_dora(bise_graph *g, bise_linear *l)
{
    if (l->gain && l->out > g->dora_out)
        g->dora_out = l->out;
}

/* The widest output with a magnitude, 0 when there is none. */
static int32_t dora_width(bise_graph *g)
{
    g->dora_out = 0;
    each_linear(g, widest_dora);
    return g->dora_out;
}

/* Once per graph: reads every weight that carries a magnitude. */
static void refresh_first(bise_graph *g, bise_linear *l)
{
    bise_dora_refresh(&g->e, l, true, g->dora_aat);
}

/* Norms of the weight rows stay, only the adapter has moved. */
static void refresh(bise_graph *g, bise_linear *l)
{
    bise_dora_refresh(&g->e, l, false, g->dora_aat);
}

/* Every buffer of the graph. */
static uint64_t plan(bise_graph *g, void *base)
{
    const bise_config *f = g->f;
    const uint64_t T = (uint64_t)g->o.max_tokens, C = (uint64_t)f->C;
    const uint64_t S = (uint64_t)g->o.max_seq;
    const uint64_t half = (uint64_t)graph_rotated(f) / 2;
    carver c = { .base = base };
    /* One scratch area per worker, each starting at a cache line. */
    g->e.scratch = floats(&c, (uint64_t)bise_pool_threads(g->o.pool),
                          g->e.scratch_floats);
    const uint64_t width = (uint64_t)dora_width(g);
    if (width) {
        g->e.dora_v = floats(&c, T > (uint64_t)g->chunk ? T :
                                     (uint64_t)g->chunk, width);
        g->dora_aat = floats(&c, max_rank(g), max_rank(g));
    }
    if (g->o.compute == BISE_COMPUTE_BF16)
        g->e.x16 = plan_bf16(g, &c);
    plan_layers(g, &c);
    /* Rows that live for one operation, whatever the layer. */
    g->normed = floats(&c, T, C);
    g->hidden = floats(&c, T, (uint64_t)f->F);
    g->xf = floats(&c, T, C);
    g->rows_x = floats(&c, (uint64_t)g->chunk, C);
    g->logits = floats(&c, (uint64_t)g->chunk, (uint64_t)f->V);
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

/* Tables of cos, sin and query scale for positions 0..max_seq-1. */
static void fill_tables(bise_graph *g)
{
    const bise_config *f = g->f;
    const int32_t half = graph_rotated(f) / 2;
    double *freq = (double *)(void *)g->e.scratch, factor;
    /* YaRN changes the frequencies at every position, also in short text. */
    bise_rope_freqs(&f->rope, 2 * half, freq, &factor);
    for (int32_t p = 0; p < g->o.max_seq; p++) {
        const size_t at = (size_t)p * (size_t)half;
        for (int32_t i = 0; i < half; i++) {
            g->cos[at + (size_t)i] = (float)(cos(p * freq[i]) * factor);
            g->sin[at + (size_t)i] = (float)(sin(p * freq[i]) * factor);
            g->nsin[at + (size_t)i] = -g->sin[at + (size_t)i];
        }
        g->qscale[p] = (float)bise_rope_qscale(&f->rope, p);
    }
}

/* A saved tensor of an adapter (modules_to_save) wins over the file's. */
static const float *saved_weight(const bise_graph_options *o, bise_role role)
{
    for (int32_t i = 0; i < o->n_loras; i++)
        for (size_t j = 0; j < o->loras[i]->n_saved; j++)
            if (bise_role_equal(o->loras[i]->saved[j].role, role))
                return o->loras[i]->saved[j].w;
    return NULL;
}

/* The weight of a role, which must be there. */
static bise_status need(const bise_weight **w, const bise_checkpoint *c,
                        bise_role_kind kind, int32_t l, bise_error *err)
{
    *w = bise_checkpoint_get(c, kind, l);
    if (*w)
        return BISE_OK;
    char name[192];
    if (!bise_role_name(name, (bise_role){ kind, l, -1 }, c->names))
        name[0] = 0;
    return bise_fail(err, BISE_EFORMAT, "the model has no '%s'", name);
}

/* Bind one matrix with its adapters, and make scratch large enough for it. */
bise_status graph_bind(bise_graph *g, bise_linear *l, bise_role_kind kind,
                       int32_t layer, bise_error *err)
{
    const bise_role role = { kind, layer, -1 };
    /* The file's tensor is opened even when it is replaced: its shape is the
     * one that was checked against the configuration. */
    const float *saved = saved_weight(&g->o, role);
    const bise_weight *w = NULL;
    bise_status s = BISE_OK;
    if ((s = need(&w, g->c, kind, layer, err)) == BISE_OK)
        s = bise_linear_init(l, g->c, w, -1, 0, 0, err);
    if (s == BISE_OK && saved)
        bise_linear_init_f32(l, role, saved, l->out, l->in);
    if (s == BISE_OK)
        s = bise_linear_adapt(l, g->o.loras, g->o.n_loras, err);
    if (s == BISE_OK && bise_linear_scratch(l) > g->e.scratch_floats)
        g->e.scratch_floats = bise_linear_scratch(l);
    return s;
}

/* A vector [n] as float32, owned. */
bise_status graph_bind_norm(bise_graph *g, float **out, bise_role_kind kind,
                            int32_t layer, int32_t n, bise_error *err)
{
    const bise_weight *w = NULL;
    bise_linear row;
    bise_status s = need(&w, g->c, kind, layer, err);
    if (s == BISE_OK)
        s = bise_linear_init(&row, g->c, w, -1, 0, 0, err);
    if (s != BISE_OK)
        return s;
    /* A vector is a matrix of one row to the view. */
    if (row.in != n)
        return bise_fail(err, BISE_EFORMAT, "norm of %d values, the config "
                         "needs %d", row.in, n);
    if (!(*out = bise_alloc_array((size_t)row.in, sizeof **out)))
        return bise_fail_nomem(err);
    bise_linear_row(&row, 0, *out);
    const float *saved = saved_weight(&g->o, (bise_role){ kind, layer, -1 });
    if (saved)
        memcpy(*out, saved, (size_t)row.in * sizeof **out);
    return BISE_OK;
}

/* All weights of layer i. An expert layer has no dense feed-forward part. */
static bise_status bind_layer(bise_graph *g, int32_t i, bise_error *err)
{
    graph_layer *l = &g->layers[i];
    const struct { bise_linear *to; bise_role_kind kind; } dense[] = {
        { &l->qkv[0], BISE_ROLE_Q }, { &l->qkv[1], BISE_ROLE_K },
        { &l->qkv[2], BISE_ROLE_V }, { &l->o, BISE_ROLE_O },
        { &l->up[0], BISE_ROLE_GATE }, { &l->up[1], BISE_ROLE_UP },
        { &l->down, BISE_ROLE_DOWN },
    };
    bise_status s = graph_bind_norm(g, &l->attn_norm, BISE_ROLE_ATTN_NORM, i,
                                    g->f->C, err);
    if (s == BISE_OK)
        s = graph_bind_norm(g, &l->ffn_norm, BISE_ROLE_FFN_NORM, i, g->f->C,
                            err);
    /* The first dense_layers of a mixed model have no experts. */
    l->moe = g->f->E > 0 && i >= g->f->dense_layers;
    const size_t n = l->moe ? 4 : sizeof dense / sizeof *dense;
    if (s == BISE_OK && g->f->kv_lora)
        s = graph_bind_mla(g, i, err);
    for (size_t k = g->f->kv_lora ? 4 : 0; s == BISE_OK && k < n; k++)
        s = graph_bind(g, dense[k].to, dense[k].kind, i, err);
    if (s == BISE_OK && l->moe)
        s = graph_bind_moe(g, i, err);
    for (int k = 0; k < 3; k++)
        l->rank[STAGE_QKV] += l->qkv[k].rank;
    l->rank[STAGE_O] = l->o.rank;
    /* A layer of experts has set its own; the shared expert may be wider. */
    const int32_t up = l->up[0].rank + l->up[1].rank;
    if (up > l->rank[STAGE_UP])
        l->rank[STAGE_UP] = up;
    if (l->down.rank > l->rank[STAGE_DOWN])
        l->rank[STAGE_DOWN] = l->down.rank;
    return s;
}

/* Embedding, head and layers. A tied head is the same view of the embedding,
 * but takes its own adapters and its own saved weight. */
static bise_status bind_all(bise_graph *g, bise_error *err)
{
    const bise_config *f = g->f;
    g->layers = bise_alloc_array((size_t)f->L, sizeof *g->layers);
    if (!g->layers)
        return bise_fail_nomem(err);
    bise_status s = graph_bind(g, &g->embed, BISE_ROLE_EMBED, -1, err);
    if (s == BISE_OK)
        s = graph_bind_norm(g, &g->norm, BISE_ROLE_NORM, -1, f->C, err);
    if (s != BISE_OK)
        return s;
    /* GGUF leaves the head out when it is tied, without saying so. */
    if (f->tied || !bise_checkpoint_get(g->c, BISE_ROLE_HEAD, -1)) {
        const bise_role role = { BISE_ROLE_HEAD, -1, -1 };
        const float *saved = saved_weight(&g->o, role);
        g->head = g->embed;
        g->head.branches = NULL;
        g->head.n_branches = g->head.rank = 0;
        g->head.gain = NULL;
        g->head.row_sumsq = NULL;
        g->head.role = role;
        if (saved)
            bise_linear_init_f32(&g->head, role, saved, f->V, f->C);
        s = bise_linear_adapt(&g->head, g->o.loras, g->o.n_loras, err);
    } else {
        s = graph_bind(g, &g->head, BISE_ROLE_HEAD, -1, err);
    }
    for (int32_t i = 0; s == BISE_OK && i < f->L; i++)
        s = bind_layer(g, i, err);
    return s;
}

/* True when the router or an expert of a layer has gradients. */
static bool experts_trained(const graph_layer *l, int32_t E)
{
    bool any = l->router.trained;
    for (int32_t e = 0; l->moe && e < E; e++)
        any |= l->exp_up[2 * e].trained || l->exp_up[2 * e + 1].trained ||
               l->exp_down[e].trained;
    return any;
}

/* The lowest place that has gradients: nothing below is run backward. */
static void find_lowest(bise_graph *g)
{
    /* Walk down; the last one met is the lowest. */
    g->lowest = g->f->L;
    for (int32_t i = g->f->L - 1; g->o.train && i >= 0; i--) {
        const graph_layer *l = &g->layers[i];
        const bool has[STAGE_COUNT] = {
            l->qkv[0].trained || l->qkv[1].trained || l->qkv[2].trained,
            l->o.trained,
            l->up[0].trained || l->up[1].trained ||
                experts_trained(l, g->f->E),
            l->down.trained,
        };
        for (int s = STAGE_COUNT - 1; s >= 0; s--)
            if (has[s]) {
                g->lowest = i;
                g->lowest_stage = (stage)s;
            }
    }
}

/* How many layers keep their activations: all, none, or what the memory
 * allows. */
static void choose_kept(bise_graph *g)
{
    const int32_t all = g->f->L - g->lowest;
    uint64_t limit = g->o.memory_bytes;
    g->n_full = all;
    if (g->o.checkpointing == BISE_CKPT_ON)
        g->n_full = 0;
    if (g->o.checkpointing != BISE_CKPT_AUTO)
        return;
    /* A quarter is left to the page cache, which holds the weights. */
    if (!limit)
        limit = bise_memory_available() / 4 * 3;
    const uint64_t full = plan(g, NULL);
    g->n_full = 0;
    const uint64_t least = plan(g, NULL);
    if (all <= 0 || full <= limit) {
        g->n_full = all;
        return;
    }
    /* Layers are alike; rounding of their buffers costs a cache line. */
    const uint64_t each = (full - least) / (uint64_t)all;
    if (least < limit && each)
        g->n_full = (int32_t)((limit - least) / (each + 64));
    if (g->n_full > all)
        g->n_full = all;
}

/* What this graph cannot do is refused before memory is taken. */
static bise_status check_options(const bise_graph *g, bise_error *err)
{
    const bise_config *f = g->f;
    /* Nothing has been allocated yet. */
    if (g->o.max_tokens < 1)
        return bise_fail(err, BISE_EINVAL, "a graph for %d tokens",
                         g->o.max_tokens);
    if (g->o.compute != BISE_COMPUTE_F32 && g->o.compute != BISE_COMPUTE_BF16)
        return bise_fail(err, BISE_EUNSUPPORTED,
                         "int8 computation is not built");
    if (f->kv_lora && g->o.train)
        return bise_fail(err, BISE_EUNSUPPORTED, "training of %s models "
                         "(latent attention) is not supported",
                         bise_family_name(f->family));
    return BISE_OK;
}

/* bf16 always goes through panels; float32 where they beat OpenBLAS. */
static void use_panels(bise_graph *g)
{
    const bise_cpu level = g->e.k->level;
    if (g->o.compute != BISE_COMPUTE_BF16 && level < BISE_CPU_AVX512)
        return;
    bise_panel_ops_init(&g->panel, level);
    g->e.panel = &g->panel;
    const size_t need = bise_panel_scratch(&g->panel) / sizeof(float);
    if (g->e.scratch_floats < need)
        g->e.scratch_floats = need;
}

/* A graph without its memory. */
static bise_status prepare(bise_graph **out, const bise_checkpoint *c,
                           const bise_graph_options *o, bise_error *err)
{
    bise_graph *g = bise_alloc(sizeof *g);
    if (!g)
        return bise_fail_nomem(err);
    *out = g;
    g->c = c;
    g->f = &c->config;
    g->o = *o;
    if (g->o.max_seq < 1)
        g->o.max_seq = g->o.max_tokens;
    g->e = (bise_exec){
        .pool = o->pool, .k = o->kernels ? o->kernels : bise_kernels_get(),
        .seed = o->dropout_seed,
        .scratch_floats = bise_attn_scratch(g->f->D),
    };
    bise_status s = check_options(g, err);
    if (s == BISE_OK)
        s = bind_all(g, err);
    if (s != BISE_OK)
        return s;
    use_panels(g);
    /* As many rows of logits as fit the budget, within reason. */
    const uint64_t rows = LOGIT_BYTES / sizeof(float) / (uint64_t)g->f->V;
    g->chunk = rows < 8 ? 8 : rows > 256 ? 256 : (int32_t)rows;
    if (g->chunk > o->max_tokens)
        g->chunk = o->max_tokens;
    find_lowest(g);
    choose_kept(g);
    return BISE_OK;
}

/* The same preparation without the memory. */
bise_status bise_graph_plan(uint64_t *bytes, const bise_checkpoint *c,
                            const bise_graph_options *o, bise_error *err)
{
    bise_graph *g = NULL;
    const bise_status s = prepare(&g, c, o, err);
    if (s == BISE_OK)
        *bytes = plan(g, NULL);
    bise_graph_free(g);
    return s;
}

/* Plan, compare with the limit, allocate once, place, fill the tables. */
bise_status bise_graph_new(bise_graph **out, const bise_checkpoint *c,
                           const bise_graph_options *o, bise_error *err)
{
    bise_graph *g = NULL;
    bise_gemm_setup();
    bise_status s = prepare(&g, c, o, err);
    if (s == BISE_OK) {
        g->bytes = plan(g, NULL);
        if (o->memory_bytes && g->bytes > o->memory_bytes)
            s = bise_fail(err, BISE_ENOMEM, "%llu bytes of activations are "
                          "needed, %llu allowed", (unsigned long long)g->bytes,
                          (unsigned long long)o->memory_bytes);
        else if (!(g->memory = bise_alloc_aligned(g->bytes)))
            s = bise_fail_nomem(err);
    }
    if (s != BISE_OK) {
        bise_graph_free(g);
        return s;
    }
    plan(g, g->memory);
    fill_tables(g);
    if (g->dora_out)
        each_linear(g, refresh_first);
    *out = g;
    return BISE_OK;
}

/* Works on half-bound layers too: everything starts zeroed. */
static void free_layer(graph_layer *l, int32_t experts)
{
    bise_free(l->attn_norm);
    bise_free(l->ffn_norm);
    bise_free(l->q_norm);
    bise_free(l->kv_norm);
    for (int i = 0; i < 3; i++)
        bise_linear_fini(&l->qkv[i]);
    bise_linear_fini(&l->o);
    bise_linear_fini(&l->up[0]);
    bise_linear_fini(&l->up[1]);
    bise_linear_fini(&l->down);
    bise_linear_fini(&l->router);
    for (int32_t e = 0; e < experts; e++) {
        if (l->exp_up) {
            bise_linear_fini(&l->exp_up[2 * e]);
            bise_linear_fini(&l->exp_up[2 * e + 1]);
        }
        if (l->exp_down)
            bise_linear_fini(&l->exp_down[e]);
    }
    bise_free(l->exp_up);
    bise_free(l->exp_down);
}

/* Also after a failed prepare: what was not reached is zero. */
void bise_graph_free(bise_graph *g)
{
    if (!g)
        return;
    for (int32_t i = 0; g->layers && i < g->f->L; i++)
        free_layer(&g->layers[i], g->f->E);
    bise_free(g->layers);
    bise_linear_fini(&g->embed);
    bise_linear_fini(&g->head);
    bise_free(g->norm);
    bise_free_aligned(g->memory);
    bise_free(g);
}

/* The step is part of the key of every dropout mask. */
void bise_graph_set_step(bise_graph *g, uint64_t step, uint64_t micro)
{
    g->e.step = step;
    g->e.micro = micro;
}

/* Check the batch against the plan; positions restart in each sample. */
bise_status graph_batch(bise_graph *g, const bise_batch *b, bise_error *err)
{
    /* Buffers are sized by the plan: a longer batch would write past them. */
    if (b->T < 1 || b->T > g->o.max_tokens || b->n_seg < 1 ||
        b->seg[0] != 0 || b->seg[b->n_seg] != b->T)
        return bise_fail(err, BISE_EINVAL, "batch of %d tokens in a graph for "
                         "%d", b->T, g->o.max_tokens);
    for (int32_t s = 0; s < b->n_seg; s++) {
        const int32_t n = b->seg[s + 1] - b->seg[s];
        if (n < 1 || n > g->o.max_seq)
            return bise_fail(err, BISE_EINVAL, "sample of %d tokens in a graph"
                             " for %d", n, g->o.max_seq);
        for (int32_t t = 0; t < n; t++)
            g->pos[b->seg[s] + t] = t;
    }
    /* A trainer moves the adapters between calls. */
    if (g->o.train && g->dora_out)
        each_linear(g, refresh);
    g->seg = b->seg;
    g->n_seg = b->n_seg;
    g->n_tiles = bise_attn_cut(g->tiles, b->seg, b->n_seg);
    return graph_run(g, b->ids, b->T, NULL, err);
}

bise_status bise_graph_forward(bise_graph *g, const bise_batch *b,
                               bise_error *err)
{
    g->e.training = false;
    return graph_batch(g, b, err);
}
