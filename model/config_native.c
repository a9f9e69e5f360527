/* config_native.c - configuration of Mistral's own layout, params.json
 * (mistral3.md 2.6). The file names no family: latent attention and experts
 * make it mistral4, experts alone mixtral, YaRN or query scaling ministral3,
 * anything else mistral. Old files lack head_dim, max length, vocabulary.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/config.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "model/family.h"
#include "model/resolve.h"

/* Sizes by key. Without head_dim (files before Nemo) it is width / heads. */
static bise_status read_dims(bise_config *c, const bise_keys *k,
                             bise_error *err)
{
    const struct { const char *key; bool need; int32_t *out; } t[] = {
        { "dim", true, &c->C },
        { "n_layers", true, &c->L },
        { "n_heads", true, &c->H },
        { "hidden_dim", true, &c->F },
        { "n_kv_heads", false, &c->K },
        { "head_dim", false, &c->D },
        { "q_lora_rank", false, &c->q_lora },
        { "kv_lora_rank", false, &c->kv_lora },
        { "qk_nope_head_dim", false, &c->qk_nope },
        { "qk_rope_head_dim", false, &c->qk_rope },
        { "v_head_dim", false, &c->v_dim },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const bise_status s = bise_key_dim(k, t[i].key, t[i].need, t[i].out,
                                           err);
        if (s != BISE_OK)
            return s;
    }
    /* Llama's first releases wrote -1: the embedding's rows tell then. */
    int64_t vocab = 0;
    const bise_status s = bise_key_int(k, "vocab_size", false, -1, 1 << 24,
                                       &vocab, err);
    if (s != BISE_OK)
        return s;
    c->V = vocab > 0 ? (int32_t)vocab : 0;
    if (!c->K)
        c->K = c->H;
    if (c->kv_lora)
        c->D = c->qk_nope + c->qk_rope;
    if (!c->D && c->C % c->H)
        return bise_fail(err, BISE_EFORMAT, "dim %d does not divide over %d "
                         "heads, and there is no 'head_dim'", (int)c->C,
                         (int)c->H);
    if (!c->D)
        c->D = c->C / c->H;
    return BISE_OK;
}

/* Experts of one size; groups and skipped layers are refused by value. */
static bise_status read_experts(bise_config *c, const bise_keys *k,
                                bise_error *err)
{
    const bise_json *moe = bise_key_get(k, "moe");
    if (!moe)
        return BISE_OK;
    const bise_keys m = { moe, NULL };
    int64_t shared = 0, dense = 0, every = 1, groups = 1;
    const struct { const char *key; int64_t low, high, *out; } t[] = {
        { "num_shared_experts", 0, 64, &shared },
        { "first_k_dense_replace", 0, 1 << 14, &dense },
        { "route_every_n", 1, 1, &every },
        { "num_expert_groups", 1, 1, &groups },
    };
    c->F_expert = c->F;
    bise_status s = bise_key_dim(&m, "num_experts", true, &c->E, err);
    if (s == BISE_OK)
        s = bise_key_dim(&m, "num_experts_per_tok", true, &c->top_k, err);
    if (s == BISE_OK)
        s = bise_key_dim(&m, "expert_hidden_dim", false, &c->F_expert, err);
    for (size_t i = 0; s == BISE_OK && i < sizeof t / sizeof *t; i++)
        s = bise_key_int(&m, t[i].key, false, t[i].low, t[i].high, t[i].out,
                         err);
    if (s == BISE_OK)
        s = bise_key_num(&m, "routed_scale", false, 0, &c->routed_scale, err);
    c->shared_experts = (int32_t)shared;
    c->dense_layers = (int32_t)dense;
    return s;
}

/* yarn's beta and alpha are beta_fast and beta_slow; apply_scale true (or
 * absent, as vLLM reads it) gives cos and sin the factor 1 + 0.1 ln F, which
 * mscale_all_dim 0 expresses in Hugging Face terms. Latent attention has the
 * factor squared on q.k instead, and none on cos and sin (mistral3.md 3.5). */
static bise_status read_rope(bise_config *c, const bise_keys *k,
                             bise_error *err)
{
    bise_rope *r = &c->rope;
    bise_status s = bise_key_num(k, "rope_theta", false, 1, &r->theta, err);
    const bise_keys y = { bise_key_get(k, "yarn"), NULL };
    const bise_keys q = { bise_key_get(k, "llama_4_scaling"), NULL };
    if (s == BISE_OK && y.text) {
        r->yarn = true;
        const bool scale =
            bise_json_bool(bise_key_get(&y, "apply_scale"), true);
        if (c->kv_lora && !scale)
            r->attention_factor = 1;
        else
            r->mscale = 1;
        if (!c->kv_lora || scale)
            r->mscale_all_dim = !c->kv_lora && scale ? 0 : 1;
        s = bise_key_num(&y, "factor", true, 1, &r->factor, err);
        if (s == BISE_OK)
            s = bise_key_num(&y, "original_max_position_embeddings", true, 1,
                             &r->original_max, err);
        if (s == BISE_OK)
            s = bise_key_num(&y, "beta", false, 0, &r->beta_fast, err);
        if (s == BISE_OK)
            s = bise_key_num(&y, "alpha", false, 0, &r->beta_slow, err);
    }
    if (s == BISE_OK && q.text) {
        s = bise_key_num(&q, "beta", true, 0, &r->qscale_beta, err);
        if (s == BISE_OK)
            s = bise_key_num(&q, "original_max_position_embeddings", true, 1,
                             &r->original_max, err);
    }
    return s;
}

/* One window, or a list: a pattern that repeats over the layers, null for those
 * that see everything. */
static bise_status read_window(bise_config *c, const bise_keys *k,
                               bise_error *err)
{
    const bise_json *v = bise_key_get(k, "sliding_window");
    const bool list = bise_json_typeof(v) == BISE_JSON_ARRAY;
    const size_t n = list ? bise_json_size(v) : 1;
    bise_status s = BISE_OK;
    if (n > 1 << 14)
        return bise_fail(err, BISE_EUNSUPPORTED, "'sliding_window' has %zu "
                         "entries", n);
    int32_t *each = bise_alloc_array(n + 1, sizeof *each);
    if (!each)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        const double w = bise_json_number(list ? bise_json_at(v, i) : v, 0);
        if (!(w >= 0 && w <= INT32_MAX))
            s = bise_fail(err, BISE_EFORMAT, "'sliding_window' is %g", w);
        else
            each[i] = (int32_t)w;
    }
    if (s == BISE_OK)
        s = bise_config_windows(c, each, (int32_t)n, err);
    bise_free(each);
    return s;
}

/* The older "quantization" entry names FP8 directly. */
static bise_status read_quant(bise_config *c, const bise_keys *k,
                              bise_error *err)
{
    const bise_json *q = bise_key_get(k, "quantization");
    if (!q)
        return bise_config_quant(c, bise_key_get(k, "quantization_config"),
                                 err);
    const char *format = bise_json_string(bise_json_get(q, "qformat_weight"),
                                          NULL);
    if (!format || strcmp(format, "fp8_e4m3") != 0)
        return bise_fail(err, BISE_EUNSUPPORTED, "qformat_weight '%s' is not "
                         "one bise reads (fp8_e4m3)", format ? format : "");
    snprintf(c->quant_method, sizeof c->quant_method, "fp8");
    return BISE_OK;
}

/* What the file's blocks imply, most specific first. */
static bise_family family_of(const bise_config *c)
{
    if (c->kv_lora)
        return BISE_FAMILY_MISTRAL4;
    if (c->E)
        return BISE_FAMILY_MIXTRAL;
    return c->rope.yarn || c->rope.qscale_beta != 0 ? BISE_FAMILY_MINISTRAL3
                                                    : BISE_FAMILY_MISTRAL;
}

/* Multimodal files have one flat params.json with a vision_encoder block, so
 * there is no text part to look into. */
bise_status bise_config_from_native(bise_config *c, const bise_json *params,
                                    bise_error *err)
{
    const bise_keys k = { params, NULL };
    bise_config_defaults(c);
    if (bise_json_typeof(params) != BISE_JSON_OBJECT)
        return bise_fail(err, BISE_EFORMAT, "params.json is not an object");
    bise_status s = read_dims(c, &k, err);
    if (s == BISE_OK)
        s = read_experts(c, &k, err);
    if (s == BISE_OK)
        s = read_rope(c, &k, err);
    if (s == BISE_OK)
        s = read_window(c, &k, err);
    if (s == BISE_OK)
        s = bise_key_num(&k, "norm_eps", true, 0, &c->eps, err);
    if (s == BISE_OK)
        s = read_quant(c, &k, err);
    c->eps_latent = c->eps;
    /* The length a model was made for; old files say nothing. */
    c->max_position = c->rope.yarn
        ? (int64_t)(c->rope.factor * c->rope.original_max) : 32768;
    const char *longest = bise_key_get(&k, "max_position_embeddings")
                              ? "max_position_embeddings" : "max_seq_len";
    if (s == BISE_OK)
        s = bise_key_int(&k, longest, false, 1, (int64_t)1 << 40,
                         &c->max_position, err);
    c->family = family_of(c);
    c->wrapper = bise_key_get(&k, "vision_encoder") != NULL;
    c->tied = bise_json_bool(bise_key_get(&k, "tied_embeddings"), false);
    c->bos = 1;
    c->eos = 2;
    c->neox = false;
    snprintf(c->architecture, sizeof c->architecture, "%s",
             c->wrapper ? "Mistral3ForConditionalGeneration"
                        : bise_family_get(c->family)->architecture);
    if (s == BISE_OK)
        s = bise_config_check(c, err);
    if (s == BISE_OK && !(c->json = bise_json_ref(params)))
        s = bise_fail_nomem(err);
    if (s != BISE_OK)
        bise_config_fini(c);
    return s;
}
