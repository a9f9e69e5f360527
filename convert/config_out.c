/* config_out.c - config.json and params.json of an output. The input's own
 * file is kept when the layout stays: only dtype and quantization entries are
 * brought up to date. Otherwise it is written from the resolved configuration
 * (mistral3.md 2.1b and 2.6), with every key a reader of that layout needs.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "convert/config_parts.h"
#include "convert/convert.h"
#include "convert/vision.h"

/* Setting takes the value; memory running out shows when the text is
 * dumped. */
static void put_int(bise_json *o, const char *key, int64_t v)
{
    bise_json_set(o, key, bise_json_new_int(v));
}

/* NaN stands for "the input had no such key" and is left out. */
static void put_real(bise_json *o, const char *key, double v)
{
    if (!isnan(v))
        bise_json_set(o, key, bise_json_new_real(v));
}

/* The text is copied. */
static void put_str(bise_json *o, const char *key, const char *v)
{
    bise_json_set(o, key, bise_json_new_string(v));
}

/* Names of torch dtypes as config.json has them; quantized inputs come out
 * as BF16. */
static const char *torch_name(bise_dtype t)
{
    switch (t) {
    case BISE_DTYPE_F32: return "float32";
    case BISE_DTYPE_F16: return "float16";
    default: return "bfloat16";
    }
}

/* The text-only class of a family: wrappers keep their own file. */
static const char *class_of(bise_family f)
{
    switch (f) {
    case BISE_FAMILY_MINISTRAL3: return "Ministral3ForCausalLM";
    case BISE_FAMILY_MIXTRAL: return "MixtralForCausalLM";
    case BISE_FAMILY_MISTRAL4: return "Mistral4ForCausalLM";
    case BISE_FAMILY_LLAMA: return "LlamaForCausalLM";
    default: return "MistralForCausalLM";
    }
}

/* rope_parameters as transformers 5 writes them. Its class of latent attention
 * scales queries whatever the keys say and needs them, beta 0 too. */
static bise_json *rope_object(const bise_config *g)
{
    const bise_rope *r = &g->rope;
    bise_json *o = bise_json_new_object();
    put_real(o, "rope_theta", r->theta);
    put_str(o, "rope_type", r->yarn ? "yarn" : "default");
    if (r->yarn) {
        put_str(o, "type", "yarn");
        put_real(o, "factor", r->factor);
        put_real(o, "beta_fast", r->beta_fast);
        put_real(o, "beta_slow", r->beta_slow);
        put_real(o, "mscale", r->mscale);
        put_real(o, "mscale_all_dim", r->mscale_all_dim);
        put_real(o, "attention_factor", r->attention_factor);
        put_int(o, "original_max_position_embeddings",
                (int64_t)r->original_max);
    }
    if (r->qscale_beta != 0 || g->kv_lora > 0) {
        put_real(o, "llama_4_scaling_beta", r->qscale_beta);
        put_int(o, "original_max_position_embeddings",
                r->original_max >= 1 ? (int64_t)r->original_max
                                     : g->max_position);
    }
    return o;
}

/* Mixtral and the later families name the same things differently. */
static void hf_experts(bise_json *o, const bise_config *g)
{
    if (g->E <= 0)
        return;
    if (g->family == BISE_FAMILY_MIXTRAL) {
        put_int(o, "num_local_experts", g->E);
        put_int(o, "num_experts_per_tok", g->top_k);
        put_real(o, "router_aux_loss_coef", g->router_aux_coef);
        return;
    }
    put_int(o, "n_routed_experts", g->E);
    put_int(o, "num_experts_per_tok", g->top_k);
    put_int(o, "n_shared_experts", g->shared_experts);
    put_int(o, "moe_intermediate_size", g->F_expert);
    put_int(o, "first_k_dense_replace", g->dense_layers);
    put_real(o, "routed_scaling_factor", g->routed_scale);
    put_int(o, "n_group", 1);
    put_int(o, "topk_group", 1);
    bise_json_set(o, "norm_topk_prob", bise_json_new_bool(true));
}

/* Only those the input knew: a wrong id is worse than none. */
static void hf_ids(bise_json *o, const bise_config *g)
{
    if (g->bos >= 0)
        put_int(o, "bos_token_id", g->bos);
    if (g->eos >= 0)
        put_int(o, "eos_token_id", g->eos);
    if (g->pad >= 0)
        put_int(o, "pad_token_id", g->pad);
}

/* transformers' class "ministral" tells layers with the window from others. */
static bise_json *layer_types(const bise_config *g)
{
    bise_json *list = bise_json_new_array();
    for (int32_t l = 0; l < g->L; l++)
        bise_json_append(list, bise_json_new_string(
            bise_config_window(g, l) ? "sliding_attention"
                                     : "full_attention"));
    return list;
}

/* Keys in the order of transformers' own files. Both places of rope_theta
 * are written, because transformers 4 reads the outer one. */
static bise_json *hf_config(const bise_config *g, bise_dtype dtype)
{
    bise_json *o = bise_json_new_object(), *list = bise_json_new_array();
    bise_json_append(list, bise_json_new_string(
        g->n_windows ? "MinistralForCausalLM" : class_of(g->family)));
    bise_json_set(o, "architectures", list);
    put_str(o, "model_type", g->n_windows ? "ministral"
                                          : bise_family_name(g->family));
    put_str(o, "dtype", torch_name(dtype));
    put_int(o, "hidden_size", g->C);
    put_int(o, "intermediate_size", g->F);
    put_int(o, "num_hidden_layers", g->L);
    put_int(o, "num_attention_heads", g->H);
    put_int(o, "num_key_value_heads", g->K);
    if (g->kv_lora > 0) {
        put_int(o, "q_lora_rank", g->q_lora);
        put_int(o, "kv_lora_rank", g->kv_lora);
        put_int(o, "qk_nope_head_dim", g->qk_nope);
        put_int(o, "qk_rope_head_dim", g->qk_rope);
        put_int(o, "v_head_dim", g->v_dim);
        bise_json_set(o, "rope_interleave", bise_json_new_bool(true));
    } else {
        put_int(o, "head_dim", g->D);
    }
    put_int(o, "vocab_size", g->V);
    put_str(o, "hidden_act", "silu");
    put_real(o, "rms_norm_eps", g->eps);
    put_int(o, "max_position_embeddings", g->max_position);
    bise_json_set(o, "rope_parameters", rope_object(g));
    if (!g->rope.yarn)          /* where transformers 4 looks */
        put_real(o, "rope_theta", g->rope.theta);
    bise_json_set(o, "sliding_window", g->window > 0
                      ? bise_json_new_int(g->window) : bise_json_new_null());
    if (g->n_windows)
        bise_json_set(o, "layer_types", layer_types(g));
    bise_json_set(o, "tie_word_embeddings", bise_json_new_bool(g->tied));
    put_real(o, "attention_dropout", 0.0);
    hf_experts(o, g);
    hf_ids(o, g);
    bise_json_set(o, "use_cache", bise_json_new_bool(true));
    /* The version whose keys these are: it tells transformers that the split
     * pattern of the tokenizer is the mended one (mistral3.md 7, trap 10). */
    put_str(o, "transformers_version", "5.0.0");
    return o;
}

/* Mistral's own names; Mixtral files stop after the first two. */
static void native_experts(bise_json *o, const bise_config *g)
{
    if (g->E <= 0)
        return;
    bise_json *m = bise_json_new_object();
    put_int(m, "num_experts", g->E);
    put_int(m, "num_experts_per_tok", g->top_k);
    if (g->family != BISE_FAMILY_MIXTRAL) {
        put_int(m, "expert_hidden_dim", g->F_expert);
        put_int(m, "first_k_dense_replace", g->dense_layers);
        put_int(m, "num_shared_experts", g->shared_experts);
        put_real(m, "routed_scale", g->routed_scale);
    }
    bise_json_set(o, "moe", m);
}

/* The pattern of the layers, or all of them where it does not come out even;
 * null sees everything. */
static bise_json *window_list(const bise_config *g)
{
    bise_json *list = bise_json_new_array();
    const int32_t n = g->L % g->n_windows ? g->L : g->n_windows;
    for (int32_t i = 0; i < n; i++) {
        const int32_t w = bise_config_window(g, i);
        bise_json_append(list, w ? bise_json_new_int(w)
                                 : bise_json_new_null());
    }
    return list;
}

/* params.json; beta is beta_fast and alpha beta_slow there. */
static bise_json *native_params(const bise_config *g)
{
    const bise_rope *r = &g->rope;
    bise_json *o = bise_json_new_object();
    put_int(o, "dim", g->C);
    put_int(o, "n_layers", g->L);
    put_int(o, "head_dim", g->D);
    put_int(o, "hidden_dim", g->F);
    put_int(o, "n_heads", g->H);
    put_int(o, "n_kv_heads", g->K);
    put_real(o, "norm_eps", g->eps);
    put_int(o, "vocab_size", g->V);
    put_real(o, "rope_theta", r->theta);
    bise_json_set(o, "tied_embeddings", bise_json_new_bool(g->tied));
    put_int(o, "max_position_embeddings", g->max_position);
    if (g->n_windows)
        bise_json_set(o, "sliding_window", window_list(g));
    else if (g->window > 0)
        put_int(o, "sliding_window", g->window);
    if (g->kv_lora > 0) {
        put_int(o, "q_lora_rank", g->q_lora);
        put_int(o, "kv_lora_rank", g->kv_lora);
        put_int(o, "qk_nope_head_dim", g->qk_nope);
        put_int(o, "qk_rope_head_dim", g->qk_rope);
        put_int(o, "v_head_dim", g->v_dim);
    }
    native_experts(o, g);
    if (r->yarn) {
        double freq[4096], factor = 1;
        const int32_t n = g->qk_rope > 0 ? g->qk_rope : g->D;
        if (n <= 8192)
            bise_rope_freqs(r, n, freq, &factor);
        /* On q.k in latent attention, on cos and sin in the others. */
        const bool scaled = g->kv_lora > 0 ? r->mscale_all_dim > 0
                                           : fabs(factor - 1) > 1e-9;
        bise_json *y = bise_json_new_object();
        put_real(y, "factor", r->factor);
        put_int(y, "original_max_position_embeddings",
                (int64_t)r->original_max);
        put_real(y, "beta", r->beta_fast);
        put_real(y, "alpha", r->beta_slow);
        bise_json_set(y, "apply_scale",
                      bise_json_new_bool(scaled));
        bise_json_set(o, "yarn", y);
    }
    if (r->qscale_beta != 0) {
        bise_json *q = bise_json_new_object();
        put_real(q, "beta", r->qscale_beta);
        put_int(q, "original_max_position_embeddings",
                (int64_t)r->original_max);
        bise_json_set(o, "llama_4_scaling", q);
    }
    return o;
}

/* Rows of the embedding and the tie of the head, where the file says
 * otherwise: the vocabulary was resized, a stored head was found to differ. */
static void update_vocabulary(bise_json *o, const bise_config *g)
{
    bise_json *text = bise_json_get(o, "text_config");
    bise_json *parts[2] = { text ? text : o, o };
    static const char *const ties[] = { "tie_word_embeddings",
                                        "tied_embeddings" };
    for (size_t i = 0; i < 2; i++) {
        int64_t n;
        const bise_json *v = bise_json_get(parts[i], "vocab_size");
        if (bise_json_integer(v, &n) && n > 0 && n != g->V)
            put_int(parts[i], "vocab_size", g->V);
    }
    for (size_t i = 0; i < 2; i++) {
        const bise_json *v = bise_json_get(parts[0], ties[i]);
        const bool tied = bise_json_bool(v ? v : bise_json_get(o, ties[i]),
                                         false);
        if (tied && !g->tied) {
            bise_json_set(parts[0], ties[i], bise_json_new_bool(false));
            bise_json_set(o, ties[i], bise_json_new_bool(false));
        }
    }
}

/* The input's own JSON: what the conversion changed is changed in it. */
static bise_json *updated(const bise_checkpoint *c, bise_layout to,
                          bise_dtype dtype, bool keep_fp8)
{
    bise_json *o = bise_json_copy(c->config.json);
    if (o)
        update_vocabulary(o, &c->config);
    if (!o || keep_fp8)
        return o;
    bise_json *text = bise_json_get(o, "text_config");
    bise_json_remove(o, "quantization_config");
    bise_json_remove(o, "quantization");
    if (text)
        bise_json_remove(text, "quantization_config");
    if (to != BISE_TO_HF)
        return o;
    static const char *const names[] = { "dtype", "torch_dtype" };
    for (size_t i = 0; i < 2; i++) {
        if (bise_json_get(o, names[i]))
            put_str(o, names[i], torch_name(dtype));
        if (text && bise_json_get(text, names[i]))
            put_str(text, names[i], torch_name(dtype));
    }
    return o;
}

/* Only the class "ministral" has windows for some layers, and one width. */
static bise_status check_windows(const bise_config *g, bise_error *err)
{
    if (g->n_windows && g->family != BISE_FAMILY_MISTRAL)
        return bise_fail(err, BISE_EUNSUPPORTED, "a config.json of %s cannot "
                         "hold windows that differ between layers",
                         bise_family_name(g->family));
    for (int32_t l = 0; l < g->n_windows; l++)
        if (g->windows[l] && g->windows[l] != g->window)
            return bise_fail(err, BISE_EUNSUPPORTED, "a config.json cannot "
                             "hold layers with a window of %d and others of "
                             "%d", (int)g->window, (int)g->windows[l]);
    return BISE_OK;
}

/* The checkpoint's own file wins where the layout stays: it holds keys that
 * bise does not know. */
bise_status bise_convert_config(bise_str *out, const bise_checkpoint *c,
                                bise_layout to, bise_dtype dtype,
                                bool keep_fp8, bise_error *err)
{
    bise_json *o;
    const bool other = to != bise_convert_layout_of(c) || !c->config.json;
    if (other && to == BISE_TO_HF && check_windows(&c->config, err))
        return err->status;
    if (!other)
        o = updated(c, to, dtype, keep_fp8);
    else
        o = to == BISE_TO_HF ? hf_config(&c->config, dtype)
                             : native_params(&c->config);
    if (o && other && bise_vision_stored(c)) {
        if (to == BISE_TO_HF)
            o = bise_config_wrap(o, c);
        else
            bise_config_unwrap(o, c);
    }
    if (o && other && keep_fp8)
        bise_config_float8(o, c, to == BISE_TO_HF);
    if (!o)
        return bise_fail_nomem(err);
    bise_json_dump(out, o, 2, false);
    bise_str_putc(out, '\n');
    bise_json_free(o);
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}
