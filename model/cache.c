/* cache.c - generation: the keys and values of one sequence kept per layer, so
 * that each token is computed once. Prompts longer than the graph's batch are
 * fed in parts.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/mem.h"
#include "model/graph_int.h"

struct bise_cache {
    int32_t len, max_seq;
    float *memory;
    graph_kv *kv; /* [L] */
    int32_t L;
};

/* Floats of a key; latent attention keeps one short row for key and value. */
static size_t row_floats(const bise_config *f)
{
    return f->kv_lora ? (size_t)(f->kv_lora + f->qk_rope)
                      : (size_t)f->K * (size_t)f->D;
}

/* One block for all layers: K and V of layer l stand side by side. The size
 * is 2 L max_seq K D floats, L max_seq (kv_lora + rope) in latent attention. */
bise_status bise_cache_new(bise_cache **out, const bise_graph *g,
                           int32_t max_seq, bise_error *err)
{
    const bise_config *f = g->f;
    const size_t row = row_floats(f), sides = f->kv_lora ? 1 : 2;
    if (g->rows16)
        return bise_fail(err, BISE_EINVAL, "a graph that trains in bf16 does "
                         "not generate");
    if (max_seq < 1 || max_seq > g->o.max_seq)
        return bise_fail(err, BISE_EINVAL, "cache of %d tokens for a graph of "
                         "%d", max_seq, g->o.max_seq);
    bise_cache *c = bise_alloc(sizeof *c);
    if (!c)
        return bise_fail_nomem(err);
    c->max_seq = max_seq;
    c->L = f->L;
    c->kv = bise_alloc_array((size_t)f->L, sizeof *c->kv);
    const size_t per = row * (size_t)max_seq;
    c->memory = bise_alloc_array(per * sides, (size_t)f->L * sizeof(float));
    if (!c->kv || !c->memory) {
        bise_cache_free(c);
        return bise_fail_nomem(err);
    }
    for (int32_t l = 0; l < f->L; l++) {
        c->kv[l].k = c->memory + (size_t)l * sides * per;
        c->kv[l].v = c->kv[l].k + (sides - 1) * per;
    }
    *out = c;
    return BISE_OK;
}

/* NULL and half-made caches are fine. */
void bise_cache_free(bise_cache *c)
{
    if (!c)
        return;
    bise_free(c->kv);
    bise_free(c->memory);
    bise_free(c);
}

/* Tokens whose keys are held: also the position of the next one. */
int32_t bise_cache_len(const bise_cache *c)
{
    return c->len;
}

/* Rows past len stay as they are; they are overwritten before being read. */
void bise_cache_cut(bise_cache *c, int32_t len)
{
    if (len >= 0 && len < c->len)
        c->len = len;
}

/* At most max_tokens tokens after those in the cache. */
static bise_status feed(bise_graph *g, bise_cache *c, const int32_t *ids,
                        int32_t n, bise_error *err)
{
    for (int32_t i = 0; i < n; i++)
        g->pos[i] = c->len + i;
    for (int32_t l = 0; l < c->L; l++)
        c->kv[l].past = c->len;
    g->seg1[0] = 0;
    g->seg1[1] = n;
    g->seg = g->seg1;
    g->n_seg = 1;
    g->n_tiles = bise_attn_cut(g->tiles, g->seg, 1);
    g->n_loss = 0;
    g->e.training = false;
    return graph_run(g, ids, n, c->kv, err);
}

/* Only the last part of a long prompt needs logits, and of it the last row. */
bise_status bise_graph_decode(bise_graph *g, bise_cache *c, const int32_t *ids,
                              int32_t n, float *logits, bise_error *err)
{
    if (n < 1 || n > c->max_seq - c->len)
        return bise_fail(err, BISE_EINVAL, "%d tokens after %d in a context "
                         "of %d", n, c->len, c->max_seq);
    for (int32_t done = 0; done < n;) {
        const int32_t m = n - done < g->o.max_tokens ? n - done :
                                                       g->o.max_tokens;
        const bise_status s = feed(g, c, ids + done, m, err);
        if (s != BISE_OK)
            return s;
        c->len += m;
        done += m;
    }
    const int32_t last = g->T - 1;
    return bise_graph_logits(g, &last, 1, logits, err);
}
