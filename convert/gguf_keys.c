/* gguf_keys.c - the key-values of a GGUF made from a checkpoint, in the order
 * of the reference converter (gguf.md 1.5): general.*, hyper-parameters of the
 * architecture (mistral3.md 6.2), then the tokenizer with its chat template.
 * Provenance comes from model/lineage.h (gguf.md 7).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "convert/convert.h"
#include "core/mem.h"
#include "model/lineage.h"
#include "text/template.h"
#include "text/tokenizer.h"

/* By the table of mistral3.md 6.1: the text model of a wrapper is mistral3
 * even when it is a plain Mistral. */
const char *bise_convert_gguf_arch(const bise_checkpoint *c)
{
    switch (c->config.family) {
    case BISE_FAMILY_MINISTRAL3: return "mistral3";
    case BISE_FAMILY_MISTRAL4:
        return c->names == BISE_NAMES_NATIVE ? "deepseek2" : "mistral4";
    case BISE_FAMILY_MISTRAL: return c->config.wrapper ? "mistral3" : "llama";
    default: return "llama";
    }
}

/* ---- general.* ---- */

/* generation_config.json to general.sampling.*: what the makers recommend. */
static void sampling_keys(bise_gguf_meta *m, const bise_json *g)
{
    static const struct { const char *from, *to; bool whole; } rows[] = {
        { "top_k", "general.sampling.top_k", true },
        { "top_p", "general.sampling.top_p", false },
        { "min_p", "general.sampling.min_p", false },
        { "temperature", "general.sampling.temp", false },
        { "repetition_penalty", "general.sampling.penalty_repeat", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double v = bise_json_number(bise_json_get(g, rows[i].from), NAN);
        if (isnan(v))
            continue;
        if (rows[i].whole)
            bise_gguf_set_i32(m, rows[i].to, (int32_t)v);
        else
            bise_gguf_set_f32(m, rows[i].to, (float)v);
    }
}

/* "8B", "350M", "8x7B": at least two digits. */
static void size_label(char out[32], const bise_config *g)
{
    double n = (double)bise_config_parameters(g);
    if (g->E > 0) {     /* weights of one expert and all that is shared */
        const double one = 3.0 * g->C * g->F_expert * (g->L - g->dense_layers);
        n -= one * (g->E - 1);
    }
    const char *unit = "K";
    double v = n * 1e-3;
    if (n > 1e12)
        v = n * 1e-12, unit = "T";
    else if (n > 1e9)
        v = n * 1e-9, unit = "B";
    else if (n > 1e6)
        v = n * 1e-6, unit = "M";
    const int digits = rint(v) >= 10 ? 0 : rint(v) >= 1 ? 1 : 2;
    if (g->E > 0)
        snprintf(out, 32, "%dx%.*f%s", (int)g->E, digits, v, unit);
    else
        snprintf(out, 32, "%.*f%s", digits, v, unit);
}

/* Without adapters the output is the model again. */
bise_json *bise_convert_lineage(const bise_checkpoint *c,
                                bise_lora *const *loras, int n)
{
    const bise_json **list = bise_alloc_array((size_t)n + 1, sizeof *list);
    bise_json *l = NULL;
    for (int i = 0; list && i < n; i++)
        list[i] = loras ? loras[i]->lineage : NULL;
    if (list)
        l = bise_lineage_made(c->lineage, c->base_name, list, n);
    bise_free(list);
    return l;
}

/* A generation_config.json that is broken is a reason to refuse a model, like
 * any file of it; a card is not. */
static bise_status general_keys(bise_gguf_meta *m, bise_checkpoint *c,
                                const bise_convert_options *o,
                                bise_error *err)
{
    bise_json *sampling = NULL;
    char label[32];
    const bise_status s = bise_store_json(c->store, "generation_config.json",
                                          &sampling, err);
    bise_json *origin = bise_convert_lineage(c, o->loras, o->n_loras);
    bise_gguf_set_str(m, "general.architecture", bise_convert_gguf_arch(c));
    bise_gguf_set_str(m, "general.type", "model");
    sampling_keys(m, sampling);
    bise_gguf_set_str(m, "general.name", c->base_name);
    size_label(label, &c->config);
    bise_gguf_set_str(m, "general.size_label", label);
    bise_lineage_to_gguf(m, origin);
    m->failed = m->failed || !origin;
    bise_json_free(origin);
    bise_json_free(sampling);
    return s;
}

/* ---- hyper-parameters ----
 *
 * Everything comes from the resolved configuration, never from the JSON, so
 * that a native checkpoint and a GGUF give the same keys as a Hugging Face
 * directory of the same model.
 */

typedef struct keys {
    bise_gguf_meta *m;
    const char *arch;
} keys;

/* ARCH.name as an unsigned number, the type every loader expects. */
static void put_u32(const keys *k, const char *name, int64_t v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    bise_gguf_set_u32(k->m, key, (uint32_t)v);
}

/* GGUF keeps float32; the readers of bise restore the shortest decimal. */
static void put_f32(const keys *k, const char *name, double v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    bise_gguf_set_f32(k->m, key, (float)v);
}

/* Neither absent nor zero: transformers treats both alike. */
static bool given(double v)
{
    return !isnan(v) && v != 0;
}

/* Frequencies of YaRN, common to all architectures. */
static void yarn_keys(const keys *k, const bise_rope *r)
{
    char key[96];
    if (!r->yarn)
        return;
    snprintf(key, sizeof key, "%s.rope.scaling.type", k->arch);
    bise_gguf_set_str(k->m, key, "yarn");
    put_f32(k, "rope.scaling.factor", r->factor);
    put_u32(k, "rope.scaling.original_context_length",
            (int64_t)r->original_max);
    put_f32(k, "rope.scaling.yarn_beta_fast", r->beta_fast);
    put_f32(k, "rope.scaling.yarn_beta_slow", r->beta_slow);
}

/* The factor on cos and sin. The runtime computes g(F,1) / g(F,log_mul) from
 * the log multiplier, which the llama architecture does not read; what that
 * cannot express goes into attn_factor, which multiplies (mistral3.md 6.2). */
static void dense_factor_keys(const keys *k, const bise_rope *r, double want)
{
    const double full = r->factor > 1 ? 1 + 0.1 * log(r->factor) : 1;
    const bool reads = strcmp(k->arch, "llama") != 0;
    double mul = 0;
    if (reads && fabs(want - 1) < 1e-6)
        mul = 1;                        /* no magnitude scaling */
    else if (reads && given(r->mscale_all_dim) && given(r->mscale))
        mul = r->mscale_all_dim;
    if (reads)
        put_f32(k, "rope.scaling.yarn_log_multiplier", mul);
    const double gives =
        mul > 0 && r->factor > 1 ? full / (1 + 0.1 * mul * log(r->factor))
                                 : full;
    if (fabs(gives / want - 1) > 1e-6)
        put_f32(k, "rope.scaling.attn_factor", want / gives);
}

/* Latent attention has two: a on cos and sin, and k on q.k, squared. The
 * runtime's deepseek2 graph takes k = a g(F, mul) and a from mul and
 * attn_factor; it stores a tenth of mul. Large 3 has k = a = 1, which the
 * reference converter does not write: it leaves k = g(F, 1) (3.5). */
static void latent_factor_keys(const keys *k, const bise_config *g, double a)
{
    const bise_rope *r = &g->rope;
    const double unit = r->factor > 1 ? 0.1 * log(r->factor) : 0;
    const double alpha = bise_rope_mla_alpha(r, g->D);
    const double want = sqrt(alpha * sqrt((double)g->D));
    double mul = unit > 0 ? (want / a - 1) / unit : 0;
    if (fabs(mul - rint(mul)) < 1e-9)
        mul = rint(mul);
    put_f32(k, "rope.scaling.yarn_log_multiplier", 0.1 * mul);
    double base = 1;
    if (mul == 0)
        base = 1 + unit;
    else if (strcmp(k->arch, "deepseek2") != 0 || mul == 1)
        base = (1 + unit) / (1 + mul * unit);
    if (fabs(a / base - 1) > 1e-6)
        put_f32(k, "rope.scaling.attn_factor", a / base);
}

/* Both from what the configuration resolves to, not from its keys. */
static void yarn_factor_keys(const keys *k, const bise_config *g)
{
    const int32_t n = g->qk_rope > 0 ? g->qk_rope : g->D;
    double *freq = bise_alloc_array((size_t)n, sizeof *freq), factor = 1;
    if (!freq) {
        k->m->failed = true;
        return;
    }
    bise_rope_freqs(&g->rope, n, freq, &factor);
    bise_free(freq);
    if (g->kv_lora > 0)
        latent_factor_keys(k, g, factor);
    else
        dense_factor_keys(k, &g->rope, factor);
}

/* Latent attention: lengths are those of the compressed key and value, the
 * _mla ones those of a head (mistral3.md 6.2). Groups of one make group
 * selection do nothing. */
static void mla_keys(const keys *k, const bise_config *g)
{
    char key[96];
    put_u32(k, "attention.q_lora_rank", g->q_lora);
    put_u32(k, "attention.kv_lora_rank", g->kv_lora);
    put_u32(k, "attention.key_length", g->kv_lora + g->qk_rope);
    put_u32(k, "attention.value_length", g->kv_lora);
    put_u32(k, "attention.key_length_mla", g->qk_nope + g->qk_rope);
    put_u32(k, "attention.value_length_mla", g->v_dim);
    put_u32(k, "leading_dense_block_count", g->dense_layers);
    put_u32(k, "expert_feed_forward_length", g->F_expert);
    put_u32(k, "expert_shared_count", g->shared_experts);
    put_f32(k, "expert_weights_scale", g->routed_scale);
    snprintf(key, sizeof key, "%s.expert_weights_norm", k->arch);
    bise_gguf_set_bool(k->m, key, true);
    put_u32(k, "expert_group_count", 1);
    put_u32(k, "expert_group_used_count", 1);
    put_u32(k, "expert_gating_func", 1);        /* softmax */
    if (g->rope.qscale_beta != 0)
        put_u32(k, "attention.temperature_length",
                (int64_t)g->rope.original_max);
}

/* In the order of the reference converter: base class, then what the model
 * class adds. */
static void arch_keys(bise_gguf_meta *m, const bise_checkpoint *c,
                      int file_type)
{
    const bise_config *g = &c->config;
    const keys k = { m, bise_convert_gguf_arch(c) };
    const bool mla = g->kv_lora > 0;
    put_u32(&k, "block_count", g->L);
    put_u32(&k, "context_length", g->max_position);
    put_u32(&k, "embedding_length", g->C);
    put_u32(&k, "feed_forward_length", g->F);
    put_u32(&k, "attention.head_count", g->H);
    put_u32(&k, "attention.head_count_kv", mla ? 1 : g->K);
    yarn_keys(&k, &g->rope);
    put_f32(&k, "rope.freq_base", g->rope.theta);
    put_f32(&k, "attention.layer_norm_rms_epsilon", g->eps);
    if (g->E > 0) {
        put_u32(&k, "expert_count", g->E);
        put_u32(&k, "expert_used_count", g->top_k);
    }
    if (mla) {
        mla_keys(&k, g);
    } else {
        put_u32(&k, "attention.key_length", g->D);
        put_u32(&k, "attention.value_length", g->D);
    }
    /* The reference writes no window for its llama graph, which ignores the
     * key; bise reads it back. */
    if (g->window > 0)
        put_u32(&k, "attention.sliding_window", g->window);
    if (g->n_windows)
        bise_gguf_set_array(m, "bise.sliding_windows", BISE_GGUF_I32,
                            g->windows, (uint64_t)g->n_windows);
    bise_gguf_set_u32(m, "general.file_type", (uint32_t)file_type);
    put_u32(&k, "vocab_size", g->V);
    put_u32(&k, "rope.dimension_count", mla ? g->qk_rope : g->D);
    if (g->rope.yarn)
        yarn_factor_keys(&k, g);
    if (g->rope.qscale_beta != 0)
        put_f32(&k, "attention.temperature_scale", g->rope.qscale_beta);
}

/* ---- tokenizer ----
 *
 * The vocabulary itself is text/'s; here stand the rules about its size and
 * the chat template, which the runtime wants as a Jinja text.
 */

/* The template of the checkpoint, if it has one. */
static bise_status template_keys(bise_gguf_meta *m, bise_checkpoint *c,
                                 bise_error *err)
{
    bise_str text = { 0 };
    const char *source = NULL;
    const bise_status s = bise_template_text(&text, &source, c->store, err);
    if (s == BISE_OK && source)
        bise_gguf_set_strn(m, "tokenizer.chat_template", text.data, text.len);
    bise_str_fini(&text);
    return s;
}

/* Every id of the tokenizer must have an embedding row. Rows beyond the
 * tokenizer are padded with unused tokens, because the loader sizes its
 * vocabulary by the token list. */
static bise_status tokenizer_keys(bise_gguf_meta *m, bise_checkpoint *c,
                                  const bise_progress *progress,
                                  bise_error *err)
{
    if (!bise_vocabulary_has_tokenizer(c->store)) {
        bise_progress_say(progress, "warning: no tokenizer beside the weights, "
                          "the GGUF has none");
        bise_gguf_set_str(m, "tokenizer.ggml.model", "none");
        return BISE_OK;
    }
    bise_tokenizer *t = NULL;
    bise_status s = bise_tokenizer_open(&t, c->store, progress, err);
    if (s != BISE_OK)
        return s;
    const int32_t have = bise_tokenizer_vocab(t), want = c->config.V;
    if (have > want) {
        s = bise_fail(err, BISE_EFORMAT, "the tokenizer has %d ids, the "
                      "embedding %d rows", (int)have, (int)want);
        s = bise_error_hint(err, "bise convert --vocab-size tokenizer pads the "
                            "embedding with zeros");
        s = bise_error_in(err, bise_store_path(c->store), NULL);
    } else {
        if (have < want)
            bise_progress_say(progress, "the embedding has %d rows, the "
                              "tokenizer %d ids: padded with unused tokens",
                              (int)want, (int)have);
        s = bise_tokenizer_to_gguf(t, want, m, err);
    }
    bise_tokenizer_free(t);
    return s == BISE_OK ? template_keys(m, c, err) : s;
}

/* quantization_version stands before the tokenizer and is always written,
 * as the reference does. */
bise_status bise_convert_gguf_meta(bise_gguf_meta *m, bise_checkpoint *c,
                                   const bise_convert_options *o,
                                   int file_type, bise_error *err)
{
    bise_status s = general_keys(m, c, o, err);
    if (s != BISE_OK)
        return s;
    if (c->config.kv_lora > 0 && c->config.eps_latent != c->config.eps)
        bise_progress_say(o->progress, "warning: the norms of the latents have "
                          "epsilon %g, others %g: a GGUF has one",
                          c->config.eps_latent, c->config.eps);
    arch_keys(m, c, file_type);
    bise_gguf_set_u32(m, "general.quantization_version", 2);
    s = tokenizer_keys(m, c, o->progress, err);
    return s == BISE_OK && m->failed ? bise_fail_nomem(err) : s;
}
