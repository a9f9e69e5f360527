/* check_forward.c - the graph against a whole transformer written out in
 * double from the equations of mistral3.md 3: random small models in several
 * layouts (HF, native, experts apart and fused), types, head sizes, windows,
 * YaRN and query scaling. The checkpoints are written to a folder and opened
 * as any other.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"
#include "formats/safetensors.h"
#include "model/graph.h"

#define MOST_LAYERS 3
#define MOST_EXPERTS 4
#define LEN 45

static bise_error err;

/* A model as numbers; shapes in lower case so that they read as in dims.h. */
typedef struct net {
    const char *name;
    bool native, fused, tied;
    bise_dtype type;
    int c, f, l, h, k, d, v, e, top_k, window;
    double theta, factor, mscale, mscale_all, beta, l0;
} net;

static const net nets[] = {
    { .name = "plain", .type = BISE_DTYPE_F32, .c = 24, .f = 40, .l = 2,
      .h = 3, .k = 1, .d = 8, .v = 50, .theta = 1e4 },
    { .name = "wide heads, tied", .type = BISE_DTYPE_BF16, .tied = true,
      .c = 16, .f = 32, .l = 1, .h = 4, .k = 2, .d = 14, .v = 31,
      .theta = 1e6 },
    { .name = "window", .type = BISE_DTYPE_F16, .c = 20, .f = 24, .l = 3,
      .h = 2, .k = 2, .d = 10, .v = 40, .theta = 1e4, .window = 7 },
    { .name = "yarn and query scale", .type = BISE_DTYPE_F32, .c = 32,
      .f = 48, .l = 2, .h = 4, .k = 2, .d = 16, .v = 60, .theta = 1e6,
      .factor = 8, .mscale = 1, .mscale_all = 1, .beta = 0.3, .l0 = 16 },
    { .name = "yarn magnitude", .type = BISE_DTYPE_F32, .c = 32, .f = 48,
      .l = 2, .h = 4, .k = 1, .d = 12, .v = 60, .theta = 1e5, .factor = 16,
      .mscale = 1, .mscale_all = 0, .l0 = 32 },
    { .name = "native", .native = true, .type = BISE_DTYPE_BF16, .c = 24,
      .f = 40, .l = 2, .h = 3, .k = 3, .d = 8, .v = 50, .theta = 1e4 },
    { .name = "native, grouped", .native = true, .type = BISE_DTYPE_F32,
      .c = 16, .f = 24, .l = 2, .h = 4, .k = 2, .d = 6, .v = 33,
      .theta = 1e6 },
    { .name = "experts", .type = BISE_DTYPE_F32, .c = 16, .f = 24, .l = 2,
      .h = 2, .k = 1, .d = 8, .v = 33, .e = 4, .top_k = 2, .theta = 1e6 },
    { .name = "experts, fused", .fused = true, .type = BISE_DTYPE_BF16,
      .c = 16, .f = 24, .l = 2, .h = 2, .k = 2, .d = 8, .v = 33, .e = 3,
      .top_k = 1, .theta = 1e4 },
    { .name = "all experts", .fused = true, .type = BISE_DTYPE_F32, .c = 12,
      .f = 16, .l = 1, .h = 2, .k = 2, .d = 6, .v = 20, .e = 4, .top_k = 4,
      .theta = 1e4 },
};
#define N_NETS ((int)(sizeof nets / sizeof *nets))

typedef struct layer {
    float *n1, *n2, *q, *k, *v, *o, *router;
    float *gate[MOST_EXPERTS], *up[MOST_EXPERTS], *down[MOST_EXPERTS];
} layer;

typedef struct weights {
    const net *n;
    bise_arena arena;
    bise_tensor t[256];
    size_t n_t;
    uint64_t stream;
    float *embed, *head, *norm;
    layer l[MOST_LAYERS];
} weights;

/* ------------------------------------------------- writing the checkpoint --- */

/* Add a tensor of values, rounded to the type; values become what is stored. */
static void put(weights *w, const char *name, float *x, int rows, int cols,
                int experts, bise_dtype type)
{
    const size_t n = (size_t)rows * (size_t)cols *
                     (size_t)(experts ? experts : 1);
    uint8_t *data = bise_arena_alloc(&w->arena, bise_dtype_bytes(type, n));
    for (size_t i = 0; i < n; i++) {
        if (type == BISE_DTYPE_BF16) {
            bise_store_le16(data + 2 * i, bise_f32_to_bf16(x[i]));
            x[i] = bise_bf16_to_f32(bise_f32_to_bf16(x[i]));
        } else if (type == BISE_DTYPE_F16) {
            bise_store_le16(data + 2 * i, bise_f32_to_f16(x[i]));
            x[i] = bise_f16_to_f32(bise_f32_to_f16(x[i]));
        } else {
            bise_store_le32(data + 4 * i, bise_f32_bits(x[i]));
        }
    }
    bise_tensor *t = &w->t[w->n_t++];
    *t = (bise_tensor){ .name = bise_arena_strdup(&w->arena, name),
                        .dtype = type, .data = data,
                        .bytes = bise_dtype_bytes(type, n) };
    if (experts)
        t->dims[t->n_dims++] = (uint64_t)experts;
    if (rows > 1)
        t->dims[t->n_dims++] = (uint64_t)rows;
    t->dims[t->n_dims++] = (uint64_t)cols;
}

static float *values(weights *w, size_t n, float size, float middle)
{
    float *x = bise_arena_alloc(&w->arena, n * sizeof *x);
    w->stream++;
    for (size_t i = 0; i < n; i++)
        x[i] = middle + size * (2 * bise_rng_f32(9, w->stream, i) - 1);
    return x;
}

/* A matrix [out, in] of useful size under a name of layer i. */
static float *matrix(weights *w, int i, const char *hf, const char *native,
                     int out, int in)
{
    char name[192];
    float *x = values(w, (size_t)(out * in), 1.2f / sqrtf((float)in), 0);
    if (i < 0)
        snprintf(name, sizeof name, "%s", w->n->native ? native : hf);
    else if (w->n->native)
        snprintf(name, sizeof name, "layers.%d.%s.weight", i, native);
    else
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", i, hf);
    put(w, name, x, out, in, 0, w->n->type);
    return x;
}

static float *vector(weights *w, int i, const char *hf, const char *native)
{
    char name[192];
    float *x = values(w, (size_t)w->n->c, 0.3f, 1);
    if (i < 0)
        snprintf(name, sizeof name, "%s", w->n->native ? native : hf);
    else if (w->n->native)
        snprintf(name, sizeof name, "layers.%d.%s.weight", i, native);
    else
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", i, hf);
    put(w, name, x, 1, w->n->c, 0, w->n->type);
    return x;
}

/* The values as the equations want them (half order), from a stored matrix
 * whose rows are interleaved in native files. */
static float *half_rows(weights *w, float *x, int heads)
{
    const int d = w->n->d, c = w->n->c;
    if (!w->n->native)
        return x;
    float *y = bise_arena_alloc(&w->arena,
                                (size_t)(heads * d * c) * sizeof *y);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < d / 2; i++)
            for (int b = 0; b < 2; b++)
                memcpy(y + (h * d + b * (d / 2) + i) * c,
                       x + (h * d + 2 * i + b) * c, (size_t)c * sizeof *y);
    return y;
}

/* Experts apart (Mixtral's files) or stacked with gate and up fused. */
static void make_experts(weights *w, int i, layer *l)
{
    const net *n = w->n;
    char name[192];
    l->router = matrix(w, i, n->fused ? "mlp.gate" : "block_sparse_moe.gate",
                       "gate", n->e, n->c);
    if (!n->fused) {
        for (int e = 0; e < n->e; e++) {
            snprintf(name, sizeof name, "block_sparse_moe.experts.%d.w1", e);
            l->gate[e] = matrix(w, i, name, "", n->f, n->c);
            snprintf(name, sizeof name, "block_sparse_moe.experts.%d.w3", e);
            l->up[e] = matrix(w, i, name, "", n->f, n->c);
            snprintf(name, sizeof name, "block_sparse_moe.experts.%d.w2", e);
            l->down[e] = matrix(w, i, name, "", n->c, n->f);
        }
        return;
    }
    const int fc = n->f * n->c;
    float *gu = values(w, (size_t)(2 * fc * n->e), 0.3f, 0);
    float *dn = values(w, (size_t)(fc * n->e), 0.3f, 0);
    snprintf(name, sizeof name, "model.layers.%d.mlp.experts.gate_up_proj", i);
    put(w, name, gu, 2 * n->f, n->c, n->e, n->type);
    snprintf(name, sizeof name, "model.layers.%d.mlp.experts.down_proj", i);
    put(w, name, dn, n->c, n->f, n->e, n->type);
    for (int e = 0; e < n->e; e++) {
        l->gate[e] = gu + e * 2 * fc;
        l->up[e] = gu + e * 2 * fc + fc;
        l->down[e] = dn + e * fc;
    }
}

static void make_layer(weights *w, int i)
{
    const net *n = w->n;
    layer *l = &w->l[i];
    l->n1 = vector(w, i, "input_layernorm", "attention_norm");
    l->q = half_rows(w, matrix(w, i, "self_attn.q_proj", "attention.wq",
                               n->h * n->d, n->c), n->h);
    l->k = half_rows(w, matrix(w, i, "self_attn.k_proj", "attention.wk",
                               n->k * n->d, n->c), n->k);
    l->v = matrix(w, i, "self_attn.v_proj", "attention.wv", n->k * n->d,
                  n->c);
    l->o = matrix(w, i, "self_attn.o_proj", "attention.wo", n->c,
                  n->h * n->d);
    l->n2 = vector(w, i, "post_attention_layernorm", "ffn_norm");
    if (n->e) {
        make_experts(w, i, l);
        return;
    }
    l->gate[0] = matrix(w, i, "mlp.gate_proj", "feed_forward.w1", n->f, n->c);
    l->up[0] = matrix(w, i, "mlp.up_proj", "feed_forward.w3", n->f, n->c);
    l->down[0] = matrix(w, i, "mlp.down_proj", "feed_forward.w2", n->c, n->f);
}

/* config.json or params.json. */
static void make_config(const net *n, bise_str *s)
{
    if (n->native) {
        bise_str_printf(s, "{\"dim\":%d,\"n_layers\":%d,\"head_dim\":%d,"
                        "\"hidden_dim\":%d,\"n_heads\":%d,\"n_kv_heads\":%d,"
                        "\"norm_eps\":1e-5,\"vocab_size\":%d,"
                        "\"rope_theta\":%.1f}", n->c, n->l, n->d, n->f, n->h,
                        n->k, n->v, n->theta);
        return;
    }
    const char *kind = n->e ? "mixtral" : n->factor > 0 ? "ministral3" :
                                                          "mistral";
    bise_str_printf(s, "{\"model_type\":\"%s\",\"hidden_size\":%d,"
                    "\"intermediate_size\":%d,\"num_hidden_layers\":%d,"
                    "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,"
                    "\"head_dim\":%d,\"vocab_size\":%d,\"rms_norm_eps\":1e-5,"
                    "\"max_position_embeddings\":512,"
                    "\"tie_word_embeddings\":%s", kind, n->c, n->f, n->l,
                    n->h, n->k, n->d, n->v, n->tied ? "true" : "false");
    if (n->window)
        bise_str_printf(s, ",\"sliding_window\":%d", n->window);
    if (n->e)
        bise_str_printf(s, ",\"num_local_experts\":%d,"
                        "\"num_experts_per_tok\":%d", n->e, n->top_k);
    if (n->factor > 0)
        bise_str_printf(s, ",\"rope_parameters\":{\"rope_type\":\"yarn\","
                        "\"rope_theta\":%.1f,\"factor\":%.1f,"
                        "\"original_max_position_embeddings\":%.0f,"
                        "\"beta_fast\":32,\"beta_slow\":1,\"mscale\":%.1f,"
                        "\"mscale_all_dim\":%.1f,"
                        "\"llama_4_scaling_beta\":%.2f}}", n->theta,
                        n->factor, n->l0, n->mscale, n->mscale_all, n->beta);
    else
        bise_str_printf(s, ",\"rope_theta\":%.1f}", n->theta);
}

/* Write the whole checkpoint into dir. */
static void make_model(weights *w, const net *n, const char *dir)
{
    char path[512];
    bise_str config = { 0 };
    memset(w, 0, sizeof *w);
    w->n = n;
    w->embed = matrix(w, -1, "model.embed_tokens.weight",
                      "tok_embeddings.weight", n->v, n->c);
    for (int i = 0; i < n->l; i++)
        make_layer(w, i);
    w->norm = vector(w, -1, "model.norm.weight", "norm.weight");
    w->head = n->tied ? w->embed : matrix(w, -1, "lm_head.weight",
                                          "output.weight", n->v, n->c);
    make_config(n, &config);
    snprintf(path, sizeof path, "%s/%s", dir,
             n->native ? "params.json" : "config.json");
    ck_ok(bise_file_write(path, config.data, config.len, &err));
    snprintf(path, sizeof path, "%s/%s", dir,
             n->native ? "consolidated.safetensors" : "model.safetensors");
    ck_ok(bise_st_save(path, NULL, w->t, w->n_t, &err));
    bise_str_fini(&config);
}

/* ------------------------------------------------ the equations in double --- */

static void times(double *y, const float *w, const double *x, int out, int in)
{
    for (int o = 0; o < out; o++) {
        y[o] = 0;
        for (int i = 0; i < in; i++)
            y[o] += (double)w[o * in + i] * x[i];
    }
}

static void norm(double *y, const double *x, const float *w, int n)
{
    double ss = 0;
    for (int i = 0; i < n; i++)
        ss += x[i] * x[i];
    const double r = 1 / sqrt(ss / n + 1e-5);
    for (int i = 0; i < n; i++)
        y[i] = x[i] * r * (double)w[i];
}

/* Angle frequency of pair i and the factor on cos and sin (mistral3.md 3.3),
 * written again here so that rope.c is checked as well. */
static double frequency(const net *n, int i, double *m)
{
    const double base = pow(n->theta, -2.0 * i / n->d), pi = acos(-1);
    *m = 1;
    if (n->factor <= 0)
        return base;
    const double two = 2 * log(n->theta);
    double low = floor(n->d * log(n->l0 / (2 * pi * 32)) / two);
    double high = ceil(n->d * log(n->l0 / (2 * pi * 1)) / two);
    low = low < 0 ? 0 : low;
    high = high > n->d - 1 ? n->d - 1 : high;
    if (low == high)
        high += 0.001;
    double ramp = (i - low) / (high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    const double g = 0.1 * log(n->factor);
    if (n->mscale_all > 0)
        *m = (g * n->mscale + 1) / (g * n->mscale_all + 1);
    else
        *m = g + 1;
    return base * (1 - ramp) + base / n->factor * ramp;
}

static void rotate(const net *n, double *x, int heads, int pos)
{
    for (int i = 0; i < n->d / 2; i++) {
        double m;
        const double phi = pos * frequency(n, i, &m);
        const double c = cos(phi) * m, s = sin(phi) * m;
        for (int h = 0; h < heads; h++) {
            double *a = x + h * n->d + i, *b = a + n->d / 2;
            const double u = *a, v = *b;
            *a = u * c - v * s;
            *b = v * c + u * s;
        }
    }
}

static void expert(const net *n, const layer *l, int e, const double *b,
                   double weight, double *x)
{
    double g[64], u[64], y[64];
    times(g, l->gate[e], b, n->f, n->c);
    times(u, l->up[e], b, n->f, n->c);
    for (int i = 0; i < n->f; i++)
        g[i] = g[i] / (1 + exp(-g[i])) * u[i];
    times(y, l->down[e], g, n->c, n->f);
    for (int i = 0; i < n->c; i++)
        x[i] += weight * y[i];
}

/* Softmax over all, keep the top_k, renormalize. */
static void experts(const net *n, const layer *l, const double *b, double *x)
{
    double z[MOST_EXPERTS], sum = 0;
    bool kept[MOST_EXPERTS] = { false };
    times(z, l->router, b, n->e, n->c);
    for (int k = 0; k < n->top_k; k++) {
        int best = -1;
        for (int e = 0; e < n->e; e++)
            if (!kept[e] && (best < 0 || z[e] > z[best]))
                best = e;
        kept[best] = true;
        sum += exp(z[best]);
    }
    for (int e = 0; e < n->e; e++)
        if (kept[e])
            expert(n, l, e, b, exp(z[e]) / sum, x);
}

static double x[LEN][64], keys[LEN][64], vals[LEN][64], queries[LEN][64];

static void attention(const net *n, int t, double *o)
{
    const int d = n->d, from = n->window && t >= n->window ?
                                   t - n->window + 1 : 0;
    for (int h = 0; h < n->h; h++) {
        const int kh = h / (n->h / n->k);
        double p[LEN], sum = 0;
        for (int j = from; j <= t; j++) {
            double dot = 0;
            for (int i = 0; i < d; i++)
                dot += queries[t][h * d + i] * keys[j][kh * d + i];
            sum += p[j] = exp(dot / sqrt(d));
        }
        for (int i = 0; i < d; i++) {
            o[h * d + i] = 0;
            for (int j = from; j <= t; j++)
                o[h * d + i] += p[j] / sum * vals[j][kh * d + i];
        }
    }
}

static void run_layer(const weights *w, const layer *l)
{
    const net *n = w->n;
    double a[64], o[64], y[64];
    for (int t = 0; t < LEN; t++) {
        norm(a, x[t], l->n1, n->c);
        times(queries[t], l->q, a, n->h * n->d, n->c);
        times(keys[t], l->k, a, n->k * n->d, n->c);
        times(vals[t], l->v, a, n->k * n->d, n->c);
        rotate(n, queries[t], n->h, t);
        rotate(n, keys[t], n->k, t);
        if (n->beta > 0)
            for (int i = 0; i < n->h * n->d; i++)
                queries[t][i] *= 1 + n->beta * log(1 + floor(t / n->l0));
    }
    for (int t = 0; t < LEN; t++) {
        attention(n, t, o);
        times(y, l->o, o, n->c, n->h * n->d);
        for (int i = 0; i < n->c; i++)
            x[t][i] += y[i];
        norm(a, x[t], l->n2, n->c);
        if (n->e)
            experts(n, l, a, x[t]);
        else
            expert(n, l, 0, a, 1, x[t]);
    }
}

static void naive(const weights *w, const int32_t *ids, double *logits)
{
    const net *n = w->n;
    double a[64];
    for (int t = 0; t < LEN; t++)
        for (int i = 0; i < n->c; i++)
            x[t][i] = (double)w->embed[ids[t] * n->c + i];
    for (int i = 0; i < n->l; i++)
        run_layer(w, &w->l[i]);
    for (int t = 0; t < LEN; t++) {
        norm(a, x[t], w->norm, n->c);
        times(logits + t * n->v, w->head, a, n->v, n->c);
    }
}

/* ----------------------------------------------------------------- tests --- */

static weights w;
static int32_t ids[LEN], rows[LEN];
static double want[LEN * 64];
static float got[LEN * 64];
static char dir[64];

static void make_case(const net *n, bise_checkpoint *c)
{
    snprintf(dir, sizeof dir, "/tmp/bise-forward-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    make_model(&w, n, dir);
    for (int t = 0; t < LEN; t++) {
        rows[t] = t;
        ids[t] = (int32_t)bise_rng_below(3, 3, (uint64_t)t, (uint64_t)n->v);
    }
    naive(&w, ids, want);
    ck_ok(bise_checkpoint_open(c, dir, NULL, &err));
}

static void end_case(bise_checkpoint *c)
{
    bise_checkpoint_close(c);
    bise_arena_fini(&w.arena);
    bise_remove_tree(dir);
}

static void near_logits(const net *n, const float *z, int first, int count)
{
    for (int i = 0; i < count * n->v; i++) {
        const double d = (double)z[i] - want[first * n->v + i];
        if (!(fabs(d) < 3e-5))
            ck_abort_msg("%s: logit %d of row %d is off by %g", n->name,
                         i % n->v, first + i / n->v, d);
    }
}

START_TEST(logits_follow_the_equations)
{
    const net *n = &nets[_i];
    bise_checkpoint c;
    bise_graph *g;
    make_case(n, &c);
    const bise_graph_options o = { .max_tokens = LEN };
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    const int32_t seg[] = { 0, LEN };
    const bise_batch b = { .ids = ids, .seg = seg, .T = LEN, .n_seg = 1 };
    ck_ok(bise_graph_forward(g, &b, &err));
    ck_ok(bise_graph_logits(g, rows, LEN, got, &err));
    near_logits(n, got, 0, LEN);
    bise_graph_free(g);
    end_case(&c);
}
END_TEST

START_TEST(generation_follows_the_equations)
{
    /* Fed in parts of every size: any cut of the text gives its last row. */
    const net *n = &nets[_i];
    bise_checkpoint c;
    bise_graph *g;
    bise_cache *cache;
    make_case(n, &c);
    const bise_graph_options o = { .max_tokens = 8, .max_seq = LEN };
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    ck_ok(bise_cache_new(&cache, g, LEN, &err));
    for (int at = 0, part = 1; at < LEN; at += part, part++) {
        const int m = at + part > LEN ? LEN - at : part;
        ck_ok(bise_graph_decode(g, cache, ids + at, m, got, &err));
        near_logits(n, got, at + m - 1, 1);
        ck_assert_int_eq(bise_cache_len(cache), at + m);
    }
    /* Take tokens back and go on another way, then come back. */
    bise_cache_cut(cache, 10);
    ck_ok(bise_graph_decode(g, cache, ids + 20, 5, got, &err));
    bise_cache_cut(cache, 10);
    ck_ok(bise_graph_decode(g, cache, ids + 10, 7, got, &err));
    near_logits(n, got, 16, 1);
    bise_cache_cut(cache, 99);          /* beyond the end: nothing happens */
    ck_assert_int_eq(bise_cache_len(cache), 17);
    bise_cache_cut(cache, 0);
    ck_ok(bise_graph_decode(g, cache, ids, 1, got, &err));
    near_logits(n, got, 0, 1);
    bise_cache_free(cache);
    bise_graph_free(g);
    end_case(&c);
}
END_TEST

START_TEST(contexts_have_an_end)
{
    bise_checkpoint c;
    bise_graph *g;
    bise_cache *cache = NULL;
    make_case(&nets[0], &c);
    const bise_graph_options o = { .max_tokens = 8, .max_seq = 20 };
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    ck_fails(bise_cache_new(&cache, g, 21, &err), BISE_EINVAL);
    ck_fails(bise_cache_new(&cache, g, 0, &err), BISE_EINVAL);
    ck_assert_ptr_null(cache);
    ck_ok(bise_cache_new(&cache, g, 20, &err));
    ck_fails(bise_graph_decode(g, cache, ids, 21, got, &err), BISE_EINVAL);
    ck_fails(bise_graph_decode(g, cache, ids, 0, got, &err), BISE_EINVAL);
    ck_ok(bise_graph_decode(g, cache, ids, 20, got, &err));
    near_logits(&nets[0], got, 19, 1);
    ck_fails(bise_graph_decode(g, cache, ids, 1, got, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "1 tokens after 20"));
    bise_cache_free(cache);
    bise_graph_free(g);
    end_case(&c);
}
END_TEST

/* What a tap saw. */
static struct { int calls, seen[BISE_ROLE_COUNT]; double sum; } tapped;

static bise_status tap(void *ctx, bise_role role, const float *in, int32_t n,
                       int32_t width, bise_error *e)
{
    const int *stop = ctx;
    tapped.seen[role.kind] += n;
    for (int32_t i = 0; i < n * width; i++)
        tapped.sum += (double)in[i] * (double)in[i];
    if (tapped.calls++ == *stop)
        return bise_fail(e, BISE_ECANCEL, "enough");
    return BISE_OK;
}

START_TEST(taps_see_every_linear_input)
{
    const net *n = &nets[_i];
    int stop = -1;
    bise_checkpoint c;
    bise_graph *g;
    make_case(n, &c);
    const bise_graph_options o = { .max_tokens = LEN, .tap = tap,
                                   .tap_ctx = &stop };
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    const int32_t seg[] = { 0, LEN };
    const bise_batch b = { .ids = ids, .seg = seg, .T = LEN, .n_seg = 1 };
    memset(&tapped, 0, sizeof tapped);
    ck_ok(bise_graph_forward(g, &b, &err));
    const int all = LEN * n->l;
    ck_assert_int_eq(tapped.seen[BISE_ROLE_Q], all);
    ck_assert_int_eq(tapped.seen[BISE_ROLE_V], all);
    ck_assert_int_eq(tapped.seen[BISE_ROLE_O], all);
    ck_assert_int_eq(tapped.seen[BISE_ROLE_DOWN], n->e ? 0 : all);
    ck_assert_int_eq(tapped.seen[BISE_ROLE_ROUTER], n->e ? all : 0);
    /* Each token goes to top_k experts. */
    ck_assert_int_eq(tapped.seen[BISE_ROLE_EXP_DOWN], all * n->top_k);
    ck_assert_int_eq(tapped.seen[BISE_ROLE_EXP_UP], all * n->top_k);
    ck_assert(tapped.sum > 0);
    stop = tapped.calls + 4;            /* a tap may stop the run */
    ck_fails(bise_graph_forward(g, &b, &err), BISE_ECANCEL);
    bise_graph_free(g);
    end_case(&c);
}
END_TEST

START_TEST(memory_shortage_is_reported)
{
    bise_checkpoint c;
    bise_graph *g = NULL;
    make_case(&nets[7], &c);
    const bise_graph_options o = { .max_tokens = 16 };
    bise_status s = BISE_ENOMEM;
    int failed = 0;
    for (uint64_t i = 1; s != BISE_OK && i < 200; i++) {
        bise_error_init(&err);
        bise_alloc_fail_after(i);
        s = bise_graph_new(&g, &c, &o, &err);
        bise_alloc_fail_after(0);
        failed += s == BISE_ENOMEM;
        ck_assert(s == BISE_OK || s == BISE_ENOMEM);
    }
    ck_assert_int_eq(s, BISE_OK);
    ck_assert_int_gt(failed, 5);
    bise_graph_free(g);
    end_case(&c);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("forward");
    TCase *t = tcase_create("forward");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, logits_follow_the_equations, 0, N_NETS);
    tcase_add_loop_test(t, generation_follows_the_equations, 0, N_NETS);
    tcase_add_test(t, contexts_have_an_end);
    tcase_add_loop_test(t, taps_see_every_linear_input, 0, N_NETS);
    tcase_add_test(t, memory_shortage_is_reported);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
