/* mla.c - latent attention (mistral3.md 3.5), forward only. Keys and values of
 * all heads are products of one short row per token, [c | k_r], and only that
 * row is kept. The products move to the other side of the dot products:
 *   q_h . (Wk_h c) = (Wk_h^T q_h) . c     sum_j p_j Wv_h c_j = Wv_h sum_j p_j c_j
 * so attention runs over the short rows with one key head for all queries.
 * Called by graph.c to bind and place, by layers.c to run.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/gemm.h"
#include "model/graph_int.h"
#include "model/linear_int.h"

/* Scratch of one worker takes one head's part of kv_b in float32. */
static void need_scratch(bise_graph *g)
{
    const bise_config *f = g->f;
    const int32_t rows = f->qk_nope > f->v_dim ? f->qk_nope : f->v_dim;
    const size_t n = (size_t)rows * (size_t)f->kv_lora;
    if (g->e.scratch_floats < n)
        g->e.scratch_floats = n;
}

/* All heads of a stacked weight as one view of rows. Adapters are those of the
 * whole kv_b and are added where rows are decoded; DoRA would need its norms. */
static bise_status bind_stack(bise_graph *g, bise_linear *to,
                              const bise_weight *w, bise_error *err)
{
    const int32_t rows = (int32_t)bise_tensor_rows(w->tensor);
    const bise_role joined = { BISE_ROLE_KV_B, w->role.layer, -1 };
    for (int32_t i = 0; i < g->o.n_loras; i++) {
        const bise_lora_module *m = bise_lora_find(g->o.loras[i], joined);
        if (m && m->magnitude)
            return bise_fail(err, BISE_EUNSUPPORTED, "a DoRA adapter on "
                             "kv_b_proj of layer %d cannot be applied while "
                             "running; merge it first", (int)w->role.layer);
    }
    return bise_linear_init(to, g->c, w, -1, 0, rows, err);
}

/* Hugging Face and native files hold kv_b, GGUF its two parts. */
static bise_status bind_kv_b(bise_graph *g, int32_t i, bise_error *err)
{
    graph_layer *l = &g->layers[i];
    const bise_weight *all = bise_checkpoint_get(g->c, BISE_ROLE_KV_B, i);
    const bise_weight *k = bise_checkpoint_get(g->c, BISE_ROLE_K_B, i);
    const bise_weight *v = bise_checkpoint_get(g->c, BISE_ROLE_V_B, i);
    l->kv_joined = all != NULL;
    if (!all && (!k || !v))
        return bise_fail(err, BISE_EFORMAT, "layer %d has neither kv_b nor "
                         "k_b and v_b", (int)i);
    bise_status s = bind_stack(g, &l->kv_b[0], all ? all : k, err);
    if (s == BISE_OK)
        s = bind_stack(g, &l->kv_b[1], all ? all : v, err);
    return s;
}

/* The places of q, k and v take q_a, kv_a and q_b. */
bise_status graph_bind_mla(bise_graph *g, int32_t i, bise_error *err)
{
    graph_layer *l = &g->layers[i];
    const bise_config *f = g->f;
    bise_status s = graph_bind(g, &l->qkv[0], BISE_ROLE_Q_A, i, err);
    if (s == BISE_OK)
        s = graph_bind(g, &l->qkv[1], BISE_ROLE_KV_A, i, err);
    if (s == BISE_OK)
        s = graph_bind(g, &l->qkv[2], BISE_ROLE_Q_B, i, err);
    if (s == BISE_OK)
        s = graph_bind(g, &l->o, BISE_ROLE_O, i, err);
    if (s == BISE_OK)
        s = graph_bind_norm(g, &l->q_norm, BISE_ROLE_Q_A_NORM, i, f->q_lora,
                            err);
    if (s == BISE_OK)
        s = graph_bind_norm(g, &l->kv_norm, BISE_ROLE_KV_A_NORM, i,
                            f->kv_lora, err);
    if (s == BISE_OK)
        s = bind_kv_b(g, i, err);
    need_scratch(g);
    return s;
}

/* One list of buffers for counting and placing; p NULL counts. */
uint64_t graph_plan_mla(bise_graph *g, float *p)
{
    const bise_config *f = g->f;
    const uint64_t T = (uint64_t)g->o.max_tokens, H = (uint64_t)f->H;
    const uint64_t lora = (uint64_t)f->kv_lora;
    const uint64_t row = lora + (uint64_t)f->qk_rope;
    const uint64_t nope = (uint64_t)f->qk_nope;
    const uint64_t head = g->o.tap ? (nope > lora ? nope : lora) : 0;
    if (!f->kv_lora)
        return 0;
    const struct { float **to; uint64_t n; } rows[] = {
        { &g->mla.qa, (uint64_t)f->q_lora },
        { &g->mla.kv, row },
        { &g->mla.q, H * (nope + (uint64_t)f->qk_rope) },
        { &g->mla.q_short, H * row },
        { &g->mla.o_short, H * lora },
        { &g->mla.o, H * (uint64_t)f->v_dim },
        { &g->mla.head, head },
    };
    uint64_t at = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        *rows[i].to = p ? p + at : NULL;
        at += (T * rows[i].n + 15) / 16 * 16;
    }
    return at;
}

/* A layer's job: short rows stand in the batch or in the cache. */
typedef struct mla_job {
    const bise_graph *g;
    const graph_layer *l;
    float *kv;              /* [T, kv_lora + rope] of the new tokens */
} mla_job;

/* Neighbouring pairs, as these models store them (mistral3.md 3.2); to may be
 * x. */
static void rotate(float *to, const float *x, const float *cos,
                   const float *sin, int32_t n)
{
    for (int32_t i = 0; i < n / 2; i++) {
        const float a = x[2 * i], b = x[2 * i + 1];
        to[2 * i] = a * cos[i] - b * sin[i];
        to[2 * i + 1] = b * cos[i] + a * sin[i];
    }
}

/* Rows of a block, first and one past the last. */
static int32_t rows_of(const bise_graph *g, size_t block, int32_t *end)
{
    const int32_t from = (int32_t)block * ROW_BLOCK;
    *end = from + ROW_BLOCK < g->T ? from + ROW_BLOCK : g->T;
    return from;
}

/* [c | k_r]: the norm of c, the rotation of the key all heads share. */
static void latent_task(void *ctx, size_t block, int worker)
{
    const mla_job *j = ctx;
    const bise_graph *g = j->g;
    const bise_config *f = g->f;
    const size_t ld = (size_t)(f->kv_lora + f->qk_rope);
    const size_t half = (size_t)f->qk_rope / 2;
    int32_t end;
    (void)worker;
    for (int32_t t = rows_of(g, block, &end); t < end; t++) {
        float *c = j->kv + (size_t)t * ld, *k = c + f->kv_lora;
        const size_t at = (size_t)g->pos[t] * half;
        g->e.k->rmsnorm(c, c, j->l->kv_norm, (size_t)f->kv_lora,
                        (float)f->eps_latent);
        rotate(k, k, g->cos + at, g->sin + at, f->qk_rope);
    }
}

/* Scale the whole query, then put its rotated part behind the place of its
 * product with k_b. */
static void query_task(void *ctx, size_t block, int worker)
{
    const mla_job *j = ctx;
    const bise_graph *g = j->g;
    const bise_config *f = g->f;
    const size_t D = (size_t)f->D, H = (size_t)f->H;
    const size_t ld = (size_t)(f->kv_lora + f->qk_rope);
    const size_t half = (size_t)f->qk_rope / 2;
    int32_t end;
    (void)worker;
    for (int32_t t = rows_of(g, block, &end); t < end; t++) {
        float *q = g->mla.q + (size_t)t * H * D;
        float *to = g->mla.q_short + (size_t)t * H * ld + f->kv_lora;
        const size_t p = (size_t)g->pos[t];
        if (g->qscale[p] != 1)
            g->e.k->scale(q, g->qscale[p], H * D);
        for (size_t h = 0; h < H; h++)
            rotate(to + h * ld, q + h * D + f->qk_nope, g->cos + p * half,
                   g->sin + p * half, f->qk_rope);
    }
}

/* Rows of kv_b that a decoded part of it stands for: from row on, as rows of
 * the part, or as its columns when it is the transpose. */
typedef struct kv_part {
    int32_t row;
    bool transposed;
} kv_part;

/* out [n, in] += scale B A for the adapters of a layer's kv_b. */
static void add_adapters(const bise_graph *g, int32_t layer, kv_part p,
                         float *out, int32_t n, int32_t in)
{
    const bise_role role = { BISE_ROLE_KV_B, layer, -1 };
    for (int32_t i = 0; i < g->o.n_loras; i++) {
        const bise_lora_module *m = bise_lora_find(g->o.loras[i], role);
        if (!m)
            continue;
        const int32_t r = m->r;
        const float *b = m->b + (size_t)p.row * (size_t)r;
        if (p.transposed)       /* out [lora, nope] += scale A^T B^T */
            for (int32_t c = 0; c < n; c++)
                for (int32_t k = 0; k < in; k++)
                    for (int32_t x = 0; x < r; x++)
                        out[c * in + k] += m->scale * b[k * r + x] *
                                           m->a[x * m->in + c];
        else
            bise_gemm_nn(n, in, r, m->scale, b, r, m->a, m->in, 1, out, in);
    }
}

/* n rows of a view from row first on, as float32 in the worker's scratch. */
static const float *decode(const bise_graph *g, const bise_linear *w,
                           int32_t first, int32_t n, kv_part p, int worker)
{
    float *out = g->e.scratch + (size_t)worker * g->e.scratch_floats;
    for (int32_t i = 0; i < n; i++)
        bise_linear_part(w, g->e.k, first + i, 0, w->in,
                         out + (size_t)i * (size_t)w->in);
    add_adapters(g, w->role.layer, p, out, n, w->in);
    return out;
}

/* Wk_h^T q_h of one head: kv_b has Wk_h, k_b its transpose. */
static void keys_task(void *ctx, size_t index, int worker)
{
    const mla_job *j = ctx;
    const bise_graph *g = j->g;
    const bise_config *f = g->f;
    const int32_t h = (int32_t)index, lora = f->kv_lora, nope = f->qk_nope;
    const int32_t ld = lora + f->qk_rope;
    const float *q = g->mla.q + (size_t)h * (size_t)f->D;
    float *to = g->mla.q_short + (size_t)h * (size_t)ld;
    const kv_part p = { h * (nope + f->v_dim), !j->l->kv_joined };
    if (j->l->kv_joined)
        bise_gemm_nn(g->T, lora, nope, 1, q, f->H * f->D,
                     decode(g, &j->l->kv_b[0], p.row, nope, p, worker), lora,
                     0, to, f->H * ld);
    else
        bise_gemm_nt(g->T, lora, nope, 1, q, f->H * f->D,
                     decode(g, &j->l->kv_b[0], h * lora, lora, p, worker),
                     nope, 0, to, f->H * ld);
}

/* Wv_h times the weighted sum of short rows, for one head. */
static void values_task(void *ctx, size_t index, int worker)
{
    const mla_job *j = ctx;
    const bise_graph *g = j->g;
    const bise_config *f = g->f;
    const int32_t h = (int32_t)index, lora = f->kv_lora, v = f->v_dim;
    const kv_part p = { h * (f->qk_nope + v) + f->qk_nope, false };
    const int32_t first = j->l->kv_joined ? p.row : h * v;
    bise_gemm_nt(g->T, v, lora, 1, g->mla.o_short + (size_t)h * (size_t)lora,
                 f->H * lora, decode(g, &j->l->kv_b[1], first, v, p, worker),
                 lora, 0, g->mla.o + (size_t)h * (size_t)v, f->H * v);
}

/* The tap sees contiguous rows: those of each head are gathered. */
static bise_status tap_heads(bise_graph *g, bise_role_kind kind, int32_t l,
                             const float *x, int32_t ld, int32_t n,
                             bise_error *err)
{
    bise_status s = BISE_OK;
    for (int32_t h = 0; g->o.tap && s == BISE_OK && h < g->f->H; h++) {
        for (int32_t t = 0; t < g->T; t++)
            memcpy(g->mla.head + (size_t)t * (size_t)n,
                   x + ((size_t)t * (size_t)g->f->H + (size_t)h) * (size_t)ld,
                   (size_t)n * sizeof *x);
        s = g->o.tap(g->o.tap_ctx, (bise_role){ kind, l, h }, g->mla.head,
                     g->T, n, err);
    }
    return s;
}

/* One key head over the short rows; the values are their first part. */
static void attend(bise_graph *g, const float *kv, int32_t past)
{
    const bise_config *f = g->f;
    const int32_t ld = f->kv_lora + f->qk_rope;
    const bise_attn a = {
        .H = f->H, .K = 1, .D = ld, .Dv = f->kv_lora, .window = f->window,
        .alpha = (float)bise_rope_mla_alpha(&f->rope, f->D),
        .q = g->mla.q_short, .k = kv, .v = kv, .ldq = f->H * ld, .ldk = ld,
        .ldv = ld, .ldo = f->H * f->kv_lora, .o = g->mla.o_short,
        .tiles = g->tiles, .n_tiles = g->n_tiles, .seg = g->seg,
        .n_seg = g->n_seg, .past = past,
    };
    bise_attn_forward(&g->e, &a);
}

/* q [T, H D] and short rows of the batch from normed rows. */
static bise_status project(bise_graph *g, int32_t i, mla_job *j,
                           bise_error *err)
{
    const bise_config *f = g->f;
    graph_layer *l = &g->layers[i];
    float *h = g->acts[i].h[STAGE_QKV];
    bise_status s = graph_tap(g, l->qkv, 2, g->normed, g->T, err);
    if (s != BISE_OK)
        return s;
    bise_linears_forward(&g->e, l->qkv, 2, (float *[]){ g->mla.qa, j->kv },
                         g->normed, g->T, h, false);
    graph_norm(g, g->mla.qa, g->mla.qa, l->q_norm, NULL, g->T, f->q_lora,
               f->eps_latent);
    if ((s = graph_tap(g, &l->qkv[2], 1, g->mla.qa, g->T, err)) != BISE_OK)
        return s;
    bise_linears_forward(&g->e, &l->qkv[2], 1, &g->mla.q, g->mla.qa, g->T, h,
                         false);
    graph_rows(&g->e, g->T, latent_task, j);
    graph_rows(&g->e, g->T, query_task, j);
    return BISE_OK;
}

/* o of all heads, ready for the output product. */
bise_status graph_mla_forward(bise_graph *g, int32_t i, const graph_kv *kv,
                              bise_error *err)
{
    const bise_config *f = g->f;
    const int32_t past = kv ? kv->past : 0;
    float *rows = kv ? kv->k : g->mla.kv;
    mla_job j = {
        .g = g, .l = &g->layers[i],
        .kv = rows + (size_t)past * (size_t)(f->kv_lora + f->qk_rope),
    };
    bise_status s = project(g, i, &j, err);
    if (s == BISE_OK)
        s = tap_heads(g, BISE_ROLE_K_B, i, g->mla.q, f->D, f->qk_nope, err);
    if (s != BISE_OK)
        return s;
    bise_pool_run(g->e.pool, (size_t)f->H, keys_task, &j);
    attend(g, rows, past);
    s = tap_heads(g, BISE_ROLE_V_B, i, g->mla.o_short, f->kv_lora, f->kv_lora,
                  err);
    if (s != BISE_OK)
        return s;
    bise_pool_run(g->e.pool, (size_t)f->H, values_task, &j);
    return BISE_OK;
}
