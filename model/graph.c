/* graph.c - makes a graph: binds a checkpoint's weights and the adapters to
 * layers, decides what the backward pass needs and keeps, and takes one block
 * of memory for all buffers (graph_plan.c).
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
#define LOGIT_ROWS 512           /* and as many rows */

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

/* How many layers of those left fit into the bytes from least to limit, when
 * one of them takes each. */
static int32_t layers_within(uint64_t least, uint64_t limit, uint64_t each,
                             int32_t left)
{
    if (least >= limit || !each)
        return least >= limit ? 0 : left;
    /* Rounding of their buffers costs a few cache lines. */
    const uint64_t n = (limit - least) / (each + 1024);
    return n < (uint64_t)left ? (int32_t)n : left;
}

/* How many layers keep their activations: all, none, or what the memory
 * allows; in bf16 those that do not may still keep their attention. */
static void choose_kept(bise_graph *g)
{
    const int32_t all = g->f->L - g->lowest;
    uint64_t limit = g->o.memory_bytes;
    g->n_full = all;
    if (g->o.checkpointing == BISE_CKPT_ON)
        g->n_full = 0;
    if (g->o.checkpointing != BISE_CKPT_AUTO || all <= 0)
        return;
    /* A quarter is left to the page cache, which holds the weights. */
    if (!limit)
        limit = bise_memory_available() / 4 * 3;
    const uint64_t full = graph_plan(g, NULL);
    if (full <= limit)
        return;
    g->n_full = 0;
    const uint64_t least = graph_plan(g, NULL);
    g->n_full = layers_within(least, limit, (full - least) / (uint64_t)all,
                              all);
    if (!g->rows16)
        return;
    const uint64_t now = graph_plan(g, NULL);
    const int32_t left = all - g->n_full;
    g->n_attn = left;
    const uint64_t more = graph_plan(g, NULL) - now;
    g->n_attn = layers_within(now, limit, more / (uint64_t)left, left);
}

/* True when activations are stored as bf16: training with rounded products of
 * dense layers. Taps want float32 rows, magnitudes the outputs of a product. */
static bool keeps_rows16(const bise_graph *g)
{
    return g->o.train && g->o.compute != BISE_COMPUTE_F32 && !g->o.tap &&
           !g->f->E && !g->dora_out;
}

/* Scratch of the bf16 path beside the panels'. */
static void need_scratch16(bise_graph *g)
{
    const bise_config *f = g->f;
    const size_t attention = bise_attn16_scratch(f->H, f->K, f->D);
    const size_t rows = bise_rows16_scratch() + (size_t)f->C * sizeof(float);
    const size_t need = (attention > rows ? attention : rows) / sizeof(float);
    if (g->e.scratch_floats < need)
        g->e.scratch_floats = need;
}

/* What this graph cannot do is refused before memory is taken. */
static bise_status check_options(const bise_graph *g, bise_error *err)
{
    const bise_config *f = g->f;
    /* Nothing has been allocated yet. */
    if (g->o.max_tokens < 1)
        return bise_fail(err, BISE_EINVAL, "a graph for %d tokens",
                         g->o.max_tokens);
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
    if (g->o.compute == BISE_COMPUTE_F32 && level < BISE_CPU_AVX512)
        return;
    bise_panel_ops_init(&g->panel, level);
    g->e.panel = &g->panel;
    size_t need = bise_panel_scratch(&g->panel);
    if (g->o.compute == BISE_COMPUTE_INT8) {
        bise_panel8_ops_init(&g->panel8, level);
        g->e.panel8 = &g->panel8;
        if (need < bise_panel8_scratch())
            need = bise_panel8_scratch();
    }
    need = (need + sizeof(float) - 1) / sizeof(float);
    if (g->e.scratch_floats < need)
        g->e.scratch_floats = need;
}

/* Rows of logits at a time: as many as fit the budget, or the rows of the
 * layers that lend their place (graph_plan.c), within reason. Each chunk packs
 * the whole head. */
static int32_t logit_rows(const bise_graph *g)
{
    const bise_config *f = g->f;
    const uint64_t V = (uint64_t)f->V, T = (uint64_t)g->o.max_tokens;
    const uint64_t wide = 4 * (uint64_t)(f->H * f->D + 2 * f->K * f->D) +
                          10 * (uint64_t)f->F;
    uint64_t rows = LOGIT_BYTES / sizeof(float) / V;
    if (g->rows16 && T * wide / (6 * V) > rows)
        rows = T * wide / (6 * V);
    rows = rows < 8 ? 8 : rows > LOGIT_ROWS ? LOGIT_ROWS : rows;
    return rows < T ? (int32_t)rows : (int32_t)T;
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
    find_lowest(g);
    each_linear(g, widest_dora);
    if ((g->rows16 = keeps_rows16(g)))
        need_scratch16(g);
    g->chunk = logit_rows(g);
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
        *bytes = graph_plan(g, NULL);
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
        g->bytes = graph_plan(g, NULL);
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
    graph_plan(g, g->memory);
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
bise_status graph_set_batch(bise_graph *g, const bise_batch *b,
                            bise_error *err)
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
    g->n_tiles = g->rows16 ? bise_attn16_cut(g->tiles, b->seg, b->n_seg) :
                             bise_attn_cut(g->tiles, b->seg, b->n_seg);
    g->T = b->T;
    g->n_loss = 0;
    return BISE_OK;
}

const double *bise_graph_seconds(const bise_graph *g)
{
    return g->seconds;
}

bise_status bise_graph_forward(bise_graph *g, const bise_batch *b,
                               bise_error *err)
{
    g->e.training = false;
    const bise_status s = graph_set_batch(g, b, err);
    return s == BISE_OK ? graph_run(g, b->ids, b->T, NULL, err) : s;
}
