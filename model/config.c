/* config.c - the configuration of an opened store, and the reader of Hugging
 * Face config.json, by the rules of mistral3.md 2.1b: keys of the text part
 * first, then of the root, rope keys of transformers 4 and 5. Weights decide
 * where keys are silent: tied heads and the vocabulary of native files.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/config.h"

#include <stdio.h>
#include <string.h>

#include "model/family.h"
#include "model/resolve.h"

/* A string value, or NULL for any other. */
static const char *text_of(const bise_json *v)
{
    return bise_json_string(v, NULL);
}

/* Family from the text part's model_type, else from architectures[0]. */
static bise_status find_family(bise_config *c, const bise_keys *k,
                               bise_error *err)
{
    const char *type = text_of(bise_json_get(k->text, "model_type"));
    const char *arch = text_of(
        bise_json_at(bise_json_get(k->root, "architectures"), 0));
    snprintf(c->architecture, sizeof c->architecture, "%s", arch ? arch : "");
    int f = type ? bise_family_by_name(type) : -1;
    if (f < 0 && !type && arch)
        f = bise_family_by_name(arch);
    const bool other_wrapper = c->wrapper && arch &&
        strcmp(arch, "Mistral3ForConditionalGeneration") != 0;
    if (f < 0 || f == BISE_FAMILY_LLAMA || other_wrapper) {
        err->status = bise_fail(err, BISE_EUNSUPPORTED,
                        "model_type '%s' with architecture '%s' is not one "
                        "bise knows", type ? type : "", arch ? arch : "");
        return bise_error_hint(err, "known are mistral, ministral3, mixtral, "
                               "mistral4, also inside mistral3");
    }
    c->family = (bise_family)f;
    return BISE_OK;
}

/* Sizes by key; head_dim must be read where it stands, because H D is not the
 * width in Nemo, Small and Ministral 3 (mistral3.md 1.1). */
static bise_status read_dims(bise_config *c, const bise_keys *k,
                             bise_error *err)
{
    const bool mla = bise_family_get(c->family)->mla;
    const struct { const char *key; bool need; int32_t *out; } t[] = {
        { "hidden_size", true, &c->C },
        { "intermediate_size", true, &c->F },
        { "num_hidden_layers", true, &c->L },
        { "num_attention_heads", true, &c->H },
        { "num_key_value_heads", false, &c->K },
        { "head_dim", false, &c->D },
        { "vocab_size", true, &c->V },
        { "q_lora_rank", mla, &c->q_lora },
        { "kv_lora_rank", mla, &c->kv_lora },
        { "qk_nope_head_dim", mla, &c->qk_nope },
        { "qk_rope_head_dim", mla, &c->qk_rope },
        { "v_head_dim", mla, &c->v_dim },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        if (strstr(t[i].key, "lora") && !mla)
            break;                      /* rows of latent attention only */
        const bise_status s = bise_key_dim(k, t[i].key, t[i].need, t[i].out,
                                           err);
        if (s != BISE_OK)
            return s;
    }
    if (!c->K)
        c->K = c->H;
    if (mla)
        c->D = c->qk_nope + c->qk_rope;
    if (!c->D && c->C % c->H)
        return bise_fail(err, BISE_EFORMAT, "hidden_size %d does not divide "
                         "over %d heads, and there is no 'head_dim'",
                         (int)c->C, (int)c->H);
    if (!c->D)
        c->D = c->C / c->H;
    return BISE_OK;
}

/* DeepSeek's other ways of routing and rotating share the keys of mistral4; the
 * released models use none of them, and bise computes none of them. */
static bise_status refuse_routing(const bise_keys *k, bise_error *err)
{
    static const char *const ones[] = { "n_group", "topk_group" };
    static const char *const trues[] = { "norm_topk_prob", "rope_interleave" };
    for (size_t i = 0; i < 2; i++) {
        if (bise_json_number(bise_key_get(k, ones[i]), 1) != 1)
            return bise_fail(err, BISE_EUNSUPPORTED, "'%s' is not 1: experts "
                             "in groups are not computed", ones[i]);
        if (!bise_json_bool(bise_key_get(k, trues[i]), true))
            return bise_fail(err, BISE_EUNSUPPORTED, "'%s' is false, bise "
                             "computes the released models' way only",
                             trues[i]);
    }
    return BISE_OK;
}

/* Mixtral says num_local_experts and has one size for all; mistral4 has
 * n_routed_experts of their own size, shared ones and dense first layers. */
static bise_status read_experts(bise_config *c, const bise_keys *k,
                                bise_error *err)
{
    if (!bise_family_get(c->family)->moe)
        return BISE_OK;
    int64_t dense = 0, shared = 0;
    const bool mla = bise_family_get(c->family)->mla;
    bise_status s = bise_key_dim(k, mla && bise_key_get(k, "n_routed_experts")
                                 ? "n_routed_experts" : "num_local_experts",
                                 true, &c->E, err);
    if (s == BISE_OK)
        s = bise_key_dim(k, "num_experts_per_tok", true, &c->top_k, err);
    c->F_expert = c->F;
    if (s == BISE_OK)
        s = bise_key_dim(k, "moe_intermediate_size", mla, &c->F_expert, err);
    if (s == BISE_OK)
        s = bise_key_int(k, "n_shared_experts", false, 0, 64, &shared, err);
    if (s == BISE_OK)
        s = bise_key_int(k, "first_k_dense_replace", false, 0, 1 << 14, &dense,
                         err);
    if (s == BISE_OK)
        s = bise_key_num(k, "routed_scaling_factor", false, 0,
                         &c->routed_scale, err);
    if (s == BISE_OK)
        s = bise_key_num(k, "router_aux_loss_coef", false, 0,
                         &c->router_aux_coef, err);
    c->router_aux = bise_json_bool(bise_key_get(k, "output_router_logits"),
                                   false);
    c->dense_layers = (int32_t)dense;
    c->shared_experts = (int32_t)shared;
    return s == BISE_OK && mla ? refuse_routing(k, err) : s;
}

/* Absent magnitudes stay NaN: "absent" and 0 mean different factors. */
static bise_status read_yarn(bise_rope *r, const bise_keys *k, bise_error *err)
{
    const struct { const char *key; bool need; double *out; } t[] = {
        { "factor", true, &r->factor },
        { "original_max_position_embeddings", true, &r->original_max },
        { "beta_fast", false, &r->beta_fast },
        { "beta_slow", false, &r->beta_slow },
        { "mscale", false, &r->mscale },
        { "mscale_all_dim", false, &r->mscale_all_dim },
        { "attention_factor", false, &r->attention_factor },
    };
    r->yarn = true;
    r->truncate = bise_json_bool(bise_key_get(k, "truncate"), true);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const bise_status s = bise_key_num(k, t[i].key, t[i].need, 0, t[i].out,
                                           err);
        if (s != BISE_OK)
            return s;
    }
    return BISE_OK;
}

/* Rope keys: transformers 5 keeps all in rope_parameters, 4.x has rope_theta
 * at top level and the scaling in rope_scaling. */
static bise_status read_rope(bise_config *c, const bise_keys *k,
                             bise_error *err)
{
    bise_rope *r = &c->rope;
    const bise_json *params = bise_key_get(k, "rope_parameters");
    if (!params)
        params = bise_key_get(k, "rope_scaling");
    const bise_keys in = { params, NULL };
    const bise_keys any = { params, k->text };
    r->theta = bise_family_get(c->family)->theta;
    double part = 1;
    bise_status s = bise_key_num(&any, "rope_theta", false, 1, &r->theta, err);
    if (s == BISE_OK)
        s = bise_key_num(&any, "partial_rotary_factor", false, 0, &part, err);
    if (s != BISE_OK)
        return s;
    if (part != 1 && !bise_family_get(c->family)->mla)
        return bise_fail(err, BISE_EUNSUPPORTED, "partial_rotary_factor %g is "
                         "not 1", part);
    const bise_json *type = bise_key_get(&in, "rope_type");
    if (!type)
        type = bise_key_get(&in, "type");
    const char *name = type ? text_of(type) : "default";
    if (name && strcmp(name, "yarn") == 0)
        s = read_yarn(r, &in, err);
    else if (!name || strcmp(name, "default") != 0)
        return bise_fail(err, BISE_EUNSUPPORTED, "rope_type '%s' is not one "
                         "bise computes (default, yarn)", name ? name : "");
    if (s != BISE_OK)
        return s;
    /* Query scaling may stand beside the rope keys or on its own. */
    s = bise_key_num(&in, "llama_4_scaling_beta", false, 0, &r->qscale_beta,
                     err);
    const bise_keys l4 = { bise_key_get(k, "llama_4_scaling"), NULL };
    if (s == BISE_OK && l4.text && r->qscale_beta == 0) {
        s = bise_key_num(&l4, "beta", false, 0, &r->qscale_beta, err);
        if (s == BISE_OK)
            s = bise_key_num(&l4, "original_max_position_embeddings", false, 1,
                             &r->original_max, err);
    } else if (s == BISE_OK && r->qscale_beta != 0) {
        s = bise_key_num(&in, "original_max_position_embeddings", true, 1,
                         &r->original_max, err);
    }
    return s;
}

/* What bise would compute wrongly if it ignored the key. */
static bise_status refuse_variants(const bise_keys *k, bise_error *err)
{
    const bise_json *act = bise_key_get(k, "hidden_act");
    const char *name = text_of(act);
    if (act && (!name || (strcmp(name, "silu") && strcmp(name, "swish"))))
        return bise_fail(err, BISE_EUNSUPPORTED, "hidden_act '%s' is not silu",
                         name ? name : "");
    static const char *const off[] = { "attention_bias", "mlp_bias" };
    for (size_t i = 0; i < 2; i++)
        if (bise_json_bool(bise_key_get(k, off[i]), false))
            return bise_fail(err, BISE_EUNSUPPORTED, "'%s' is true, Mistral "
                             "models have no biases", off[i]);
    return BISE_OK;
}

/* sliding_window, and layer_types of the class "ministral", which tells the
 * layers it holds for. */
static bise_status read_window(bise_config *c, const bise_keys *k,
                               bise_error *err)
{
    const bise_json *types = bise_key_get(k, "layer_types");
    int64_t window = 0;
    bise_status s = bise_key_int(k, "sliding_window", false, 0, INT32_MAX,
                                 &window, err);
    c->window = (int32_t)window;
    if (s != BISE_OK || !window || bise_json_typeof(types) != BISE_JSON_ARRAY)
        return s;
    if (bise_json_size(types) != (size_t)c->L)
        return bise_fail(err, BISE_EFORMAT, "'layer_types' has %zu entries, "
                         "there are %d layers", bise_json_size(types),
                         (int)c->L);
    int32_t *each = bise_alloc_array((size_t)c->L, sizeof *each);
    if (!each)
        return bise_fail_nomem(err);
    for (int32_t l = 0; l < c->L && s == BISE_OK; l++) {
        const char *t = text_of(bise_json_at(types, (size_t)l));
        const bool full = t && strcmp(t, "full_attention") == 0;
        if (!full && !(t && strcmp(t, "sliding_attention") == 0))
            s = bise_fail(err, BISE_EUNSUPPORTED, "'layer_types' has '%.40s'",
                          t ? t : "");
        each[l] = full ? 0 : (int32_t)window;
    }
    if (s == BISE_OK)
        s = bise_config_windows(c, each, c->L, err);
    bise_free(each);
    return s;
}

/* The rules of mistral3.md 2.1b in their order; the first fault ends it. */
bise_status bise_config_from_hf(bise_config *c, const bise_json *config,
                                bise_error *err)
{
    bise_config_defaults(c);
    if (bise_json_typeof(config) != BISE_JSON_OBJECT)
        return bise_fail(err, BISE_EFORMAT, "config.json is not an object");
    const bise_json *text = bise_json_get(config, "text_config");
    c->wrapper = bise_json_typeof(text) == BISE_JSON_OBJECT;
    const bise_keys k = { c->wrapper ? text : config, config };
    int64_t longest = 131072;
    bise_status s = find_family(c, &k, err);
    if (s == BISE_OK)
        s = refuse_variants(&k, err);
    if (s == BISE_OK)
        s = read_dims(c, &k, err);
    if (s == BISE_OK)
        s = read_experts(c, &k, err);
    if (s == BISE_OK)
        s = bise_key_num(&k, "rms_norm_eps", true, 0, &c->eps, err);
    if (s == BISE_OK)
        s = read_rope(c, &k, err);
    if (s == BISE_OK)
        s = read_window(c, &k, err);
    if (s == BISE_OK)
        s = bise_key_int(&k, "max_position_embeddings", false, 1,
                         (int64_t)1 << 40, &longest, err);
    if (s == BISE_OK)
        s = bise_config_quant(c, bise_key_get(&k, "quantization_config"), err);
    c->eps_latent = 1e-6;
    c->max_position = longest;
    c->tied = bise_json_bool(bise_key_get(&k, "tie_word_embeddings"), false);
    c->bos = bise_key_token(&k, "bos_token_id");
    c->eos = bise_key_token(&k, "eos_token_id");
    c->pad = bise_key_token(&k, "pad_token_id");
    c->neox = bise_family_get(c->family)->half;
    if (s == BISE_OK)
        s = bise_config_check(c, err);
    if (s == BISE_OK && !(c->json = bise_json_ref(config)))
        s = bise_fail_nomem(err);
    if (s != BISE_OK)
        bise_config_fini(c);
    return s;
}

/* True when the store holds a tensor under one of the names. */
static bool has_any(const bise_store *s, const char *const *names)
{
    for (; *names; names++)
        if (bise_store_find(s, *names))
            return true;
    return false;
}

/* The files decide whether the head is tied where the configuration is silent
 * or, in multimodal files, says two things (mistral3.md 2.1b rule 7). */
static void settle_tied(bise_config *c, const bise_store *s)
{
    static const char *const heads[] = {
        "lm_head.weight", "language_model.lm_head.weight", "output.weight",
        NULL };
    if (bise_store_inner_kind(s) == BISE_STORE_GGUF)
        c->tied = !has_any(s, heads);
    else if (c->wrapper && !c->tied && !has_any(s, heads))
        c->tied = bise_json_bool(bise_json_get(c->json, "tie_word_embeddings"),
                                 true);
}

/* Files without a vocabulary size have it in the embedding's rows. */
static void settle_vocabulary(bise_config *c, const bise_store *s)
{
    static const char *const names[] = { "tok_embeddings.weight",
                                         "token_embd.weight" };
    for (size_t i = 0; i < 2 && c->V <= 0; i++) {
        const bise_tensor *t = bise_store_find(s, names[i]);
        if (t && t->n_dims == 2 && t->dims[0] <= INT32_MAX)
            c->V = (int32_t)t->dims[0];
    }
}

/* Parse a JSON side file that must be there. */
static bise_status need_json(bise_store *s, const char *name, bise_json **out,
                             bise_error *err)
{
    bise_status st = bise_store_json(s, name, out, err);
    if (st == BISE_OK && !*out) {
        err->status =
            bise_fail(err, BISE_EFORMAT, "there is no %s beside the weights",
                        name);
        err->status = bise_error_hint(err, "give the checkpoint's directory");
        st = bise_error_in(err, bise_store_path(s), NULL);
    }
    return st;
}

/* Which file speaks depends on the layout; an error carries its path. */
bise_status bise_config_resolve(bise_config *c, bise_store *s, bise_error *err)
{
    bise_json *json = NULL;
    bise_status st;
    const char *file = "";
    bise_config_defaults(c);
    switch (bise_store_inner_kind(s)) {
    case BISE_STORE_GGUF:
        st = bise_config_from_gguf(c, bise_store_gguf(s), err);
        break;
    case BISE_STORE_NATIVE:
        file = "/params.json";
        st = need_json(s, "params.json", &json, err);
        if (st == BISE_OK)
            st = bise_config_from_native(c, json, err);
        break;
    default:
        file = "/config.json";
        st = need_json(s, "config.json", &json, err);
        if (st == BISE_OK)
            st = bise_config_from_hf(c, json, err);
    }
    if (st == BISE_OK) {
        settle_tied(c, s);
        settle_vocabulary(c, s);
        if (c->V < 1)
            st = bise_fail(err, BISE_EFORMAT, "neither a key nor an embedding "
                           "tells the vocabulary size");
    }
    bise_json_free(json);
    if (st == BISE_OK)
        return st;
    bise_config_fini(c);
    char path[512];
    snprintf(path, sizeof path, "%.490s%s", bise_store_path(s), file);
    return bise_error_in(err, path, NULL);
}

/* The JSON is shared with nobody else once it was referenced. */
void bise_config_fini(bise_config *c)
{
    bise_json_free(c->json);
    c->json = NULL;
}
