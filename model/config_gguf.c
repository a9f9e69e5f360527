/* config_gguf.c - configuration from GGUF key-values (mistral3.md 6.2) for the
 * architectures llama, mistral3, mistral4 and deepseek2 (Large 3). Numbers are
 * stored as float32; the shortest decimal that reads back equal is taken, so
 * that 1e-05 stays 1e-05 on the way to a config.json.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "model/family.h"
#include "model/resolve.h"

/* Reader of the keys of one architecture. */
typedef struct keys {
    const bise_gguf_meta *m;
    const char *arch;
    bise_error *err;
    bise_status status; /* first failure */
} keys;

/* The key of this architecture, "mistral3.block_count". */
static const bise_gguf_kv *find(const keys *k, const char *name)
{
    char key[160];
    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    return bise_gguf_get(k->m, key);
}

/* 0.1f is 0.100000001490116 as a double; the shortest text that reads back to
 * the same float is what the writer meant. */
static double short_decimal(double v)
{
    char text[40];
    for (int digits = 6; digits < 10; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        const double d = strtod(text, NULL);
        if ((float)d == (float)v)
            return d;
    }
    return v;
}

/* Floats by their decimal, whole numbers as they are. */
static double get_num(const keys *k, const char *name, double other)
{
    char key[160];
    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    const bise_gguf_kv *kv = bise_gguf_get(k->m, key);
    if (!kv)
        return other;
    const double v = bise_gguf_float(k->m, key, other);
    return kv->type == BISE_GGUF_F32 ? short_decimal(v) : v;
}

/* A dimension; llama.cpp may write one value per layer, which must agree. */
static int32_t get_dim(keys *k, const char *name, int32_t other, bool need)
{
    const bise_gguf_kv *kv = find(k, name);
    char key[160];
    snprintf(key, sizeof key, "%s.%s", k->arch, name);
    if (!kv && need && k->status == BISE_OK)
        k->status = bise_fail(k->err, BISE_EFORMAT, "key '%s' is missing", key);
    if (!kv)
        return other;
    double v = 0;
    if (kv->type == BISE_GGUF_ARRAY && kv->elem != BISE_GGUF_STR &&
        kv->elem != BISE_GGUF_ARRAY && kv->count) {
        v = bise_gguf_array_number(kv, 0);
        for (uint64_t i = 1; i < kv->count; i++)
            if (bise_gguf_array_number(kv, i) != v)
                v = -1;
    } else {
        v = bise_gguf_float(k->m, key, -1);
    }
    if (v >= 0 && v <= 1 << 30 && v == floor(v))
        return (int32_t)v;
    if (k->status == BISE_OK)
        k->status = bise_fail(k->err, BISE_EFORMAT, "key '%s' must be one "
                              "whole number below 2^30", key);
    return other;
}

/* A plain name for llama files: they hold Mistral as well as Llama models, and
 * only the general.* texts may tell. */
static bool names_llama(const bise_gguf_meta *m)
{
    static const char *const in[] = { "general.name", "general.basename" };
    for (size_t i = 0; i < 2; i++) {
        size_t n = 0;
        const char *s = bise_gguf_str(m, in[i], &n);
        for (size_t j = 0; s && j + 5 <= n; j++)
            if (strncasecmp(s + j, "llama", 5) == 0)
                return true;
    }
    return false;
}

/* Architecture and keys to a family; llama stands for three of them. */
static bise_status find_family(bise_config *c, const keys *k)
{
    const bool experts = find(k, "expert_count") &&
                         get_num(k, "expert_count", 0) > 0;
    if (strcmp(k->arch, "mistral3") == 0)
        c->family = BISE_FAMILY_MINISTRAL3;
    else if (strcmp(k->arch, "mistral4") == 0 ||
             strcmp(k->arch, "deepseek2") == 0)
        c->family = BISE_FAMILY_MISTRAL4;
    else if (strcmp(k->arch, "llama") == 0 && experts)
        c->family = BISE_FAMILY_MIXTRAL;
    else if (strcmp(k->arch, "llama") == 0)
        c->family = names_llama(k->m) ? BISE_FAMILY_LLAMA
                                      : BISE_FAMILY_MISTRAL;
    else {
        k->err->status =
            bise_fail(k->err, BISE_EUNSUPPORTED, "general.architecture '%s' "
                        "is not one bise knows", k->arch);
        return bise_error_hint(k->err, "known are llama, mistral3, mistral4 "
                               "and deepseek2");
    }
    /* mistral3 also carries plain Mistral text models of wrappers. */
    if (c->family == BISE_FAMILY_MINISTRAL3 && !find(k, "rope.scaling.type") &&
        !find(k, "attention.temperature_scale"))
        c->family = BISE_FAMILY_MISTRAL;
    return BISE_OK;
}

/* Head sizes of latent attention are in the _mla keys; key_length and
 * head_count_kv describe the cache of the runtime instead (mistral3.md 6.2). */
static void read_mla(bise_config *c, keys *k)
{
    c->q_lora = get_dim(k, "attention.q_lora_rank", 0, true);
    c->kv_lora = get_dim(k, "attention.kv_lora_rank", 0, true);
    c->qk_rope = get_dim(k, "rope.dimension_count", 0, true);
    const int32_t key = get_dim(k, "attention.key_length_mla", 0, true);
    c->v_dim = get_dim(k, "attention.value_length_mla", 0, true);
    c->qk_nope = key - c->qk_rope;
    c->D = key;
    c->K = c->H;  /* head_count_kv is 1 there: the latent vector is shared */
    if (k->status == BISE_OK && bise_gguf_int(k->m, "deepseek2.expert_gating_"
                                              "func", 1) != 1)
        k->status = bise_fail(k->err, BISE_EUNSUPPORTED, "expert_gating_func "
                              "is not softmax: not a Mistral model");
}

/* Absent sizes follow from others as in llama.cpp: key heads = heads, head
 * size = width / heads, vocabulary = tokens. */
static void read_dims(bise_config *c, keys *k)
{
    c->C = get_dim(k, "embedding_length", 0, true);
    c->L = get_dim(k, "block_count", 0, true);
    c->F = get_dim(k, "feed_forward_length", 0, true);
    c->H = get_dim(k, "attention.head_count", 0, true);
    c->K = get_dim(k, "attention.head_count_kv", c->H, false);
    c->V = get_dim(k, "vocab_size", 0, false);
    const bise_gguf_kv *tokens = bise_gguf_get(k->m, "tokenizer.ggml.tokens");
    if (!c->V && tokens && tokens->type == BISE_GGUF_ARRAY &&
        tokens->count < 1 << 24)
        c->V = (int32_t)tokens->count;
    c->E = get_dim(k, "expert_count", 0, false);
    c->top_k = get_dim(k, "expert_used_count", 0, c->E > 0);
    c->F_expert = get_dim(k, "expert_feed_forward_length", c->F, false);
    c->shared_experts = get_dim(k, "expert_shared_count", 0, false);
    c->dense_layers = get_dim(k, "leading_dense_block_count", 0, false);
    c->routed_scale = get_num(k, "expert_weights_scale", 1);
    if (c->family == BISE_FAMILY_MISTRAL4) {
        read_mla(c, k);
        return;
    }
    const int32_t plain = c->H > 0 ? c->C / c->H : 0;
    c->D = get_dim(k, "attention.key_length", plain, false);
    const int32_t v = get_dim(k, "attention.value_length", c->D, false);
    const int32_t rot = get_dim(k, "rope.dimension_count", c->D, false);
    if (k->status == BISE_OK && (v != c->D || rot != c->D))
        k->status = bise_fail(k->err, BISE_EUNSUPPORTED, "keys of %d, values "
                              "of %d and %d rotated dimensions differ",
                              (int)c->D, (int)v, (int)rot);
}

/* The deepseek2 graph of the runtime has two factors, a on cos and sin and k on
 * q.k, squared, with k = a g(F, mul); a tenth of mul is stored. Put in terms of
 * Hugging Face: what Small 4 has, what Large 3 has, or numbers. */
static void latent_magnitudes(bise_rope *r, const keys *k)
{
    const double unit = 0.1 * log(r->factor > 1 ? r->factor : 1);
    const double mul = short_decimal(
        get_num(k, "rope.scaling.yarn_log_multiplier", 0) * 10);
    const bool deepseek = strcmp(k->arch, "deepseek2") == 0;
    double a = get_num(k, "rope.scaling.attn_factor", 1);
    if (!(fabs(mul) > 0))
        a *= 1 + unit;
    else if (!deepseek || mul == 1)
        a *= (1 + unit) / (1 + mul * unit);
    const double more = a * (1 + mul * unit) - 1;
    if (!(unit > 0))
        return;
    if (fabs(more) > 1e-6)
        r->mscale_all_dim = short_decimal(more / unit);
    if (fabs(a - 1) < 1e-6 && r->mscale_all_dim == 1)
        r->mscale = 1;
    else
        r->attention_factor = fabs(a - 1) < 1e-6 ? 1 : a;
}

/* yarn_log_multiplier is mscale_all_dim (mistral3.md 6.2); the runtime's net
 * factor is that of mscale 1, times attn_factor. */
static void dense_magnitudes(bise_rope *r, const keys *k)
{
    const double more = get_num(k, "rope.scaling.attn_factor", 1);
    const double unit = 0.1 * log(r->factor > 1 ? r->factor : 1);
    r->mscale = 1;
    r->mscale_all_dim = get_num(k, "rope.scaling.yarn_log_multiplier", 0);
    if (strcmp(k->arch, "llama") == 0)
        r->mscale_all_dim = 0;          /* not read by that graph */
    if (fabs(more - 1) > 1e-6)
        r->attention_factor =
            more * (1 + unit) / (1 + r->mscale_all_dim * unit);
}

/* Frequencies and scales; types other than YaRN do not occur. */
static void read_rope(bise_config *c, keys *k)
{
    bise_rope *r = &c->rope;
    size_t n = 0;
    char key[160];
    r->theta = get_num(k, "rope.freq_base", 1e4);
    r->qscale_beta = get_num(k, "attention.temperature_scale", 0);
    r->original_max = get_num(k, "rope.scaling.original_context_length", 0);
    if (!(r->original_max > 0))
        r->original_max = get_num(k, "attention.temperature_length", 0);
    snprintf(key, sizeof key, "%s.rope.scaling.type", k->arch);
    const char *type = bise_gguf_str(k->m, key, &n);
    if (!type || (n == 4 && memcmp(type, "none", 4) == 0))
        return;
    r->factor = get_num(k, "rope.scaling.factor", 1);
    if (n == 6 && memcmp(type, "linear", 6) == 0 && r->factor == 1)
        return;
    if (n != 4 || memcmp(type, "yarn", 4) != 0) {
        if (k->status == BISE_OK)
            k->status = bise_fail(k->err, BISE_EUNSUPPORTED, "'%s' of '%.*s' "
                                  "is not one bise computes (none, yarn)", key,
                                  (int)(n < 40 ? n : 40), type);
        return;
    }
    r->yarn = true;
    r->beta_fast = get_num(k, "rope.scaling.yarn_beta_fast", 32);
    r->beta_slow = get_num(k, "rope.scaling.yarn_beta_slow", 1);
    if (c->family == BISE_FAMILY_MISTRAL4)
        latent_magnitudes(r, k);
    else
        dense_magnitudes(r, k);
}

/* Some old files write 0xffffffff for "none". */
static int32_t token_id(const bise_gguf_meta *m, const char *key)
{
    const int64_t v = bise_gguf_int(m, key, -1);
    return v >= 0 && v < 1 << 30 ? (int32_t)v : -1;
}

/* Windows that differ between layers, under a key of bise: the architecture has
 * none for them. */
static bise_status read_windows(bise_config *c, const bise_gguf_meta *m,
                                bise_error *err)
{
    const bise_gguf_kv *kv = bise_gguf_get(m, "bise.sliding_windows");
    int32_t each[16];
    if (!kv)
        return BISE_OK;
    if (kv->type != BISE_GGUF_ARRAY || kv->elem != BISE_GGUF_I32 ||
        kv->count < 1 || kv->count > 16)
        return bise_fail(err, BISE_EFORMAT, "key 'bise.sliding_windows' is not "
                         "a list of 1 to 16 numbers");
    for (uint64_t i = 0; i < kv->count; i++) {
        const double w = bise_gguf_array_number(kv, i);
        if (!(w >= 0))
            return bise_fail(err, BISE_EFORMAT, "a window is %g", w);
        each[i] = (int32_t)w;
    }
    return bise_config_windows(c, each, (int32_t)kv->count, err);
}

/* There is no JSON to keep: c->json stays NULL. */
bise_status bise_config_from_gguf(bise_config *c, const bise_gguf_meta *m,
                                  bise_error *err)
{
    bise_config_defaults(c);
    char arch[64];
    size_t n = 0;
    const char *name = m ? bise_gguf_str(m, "general.architecture", &n) : NULL;
    if (!name)
        return bise_fail(err, BISE_EFORMAT,
                         "key 'general.architecture' is missing");
    snprintf(arch, sizeof arch, "%.*s", (int)(n < 63 ? n : 63), name);
    keys k = { m, arch, err, BISE_OK };
    bise_status s = find_family(c, &k);
    if (s != BISE_OK)
        return s;
    read_dims(c, &k);
    read_rope(c, &k);
    if (k.status != BISE_OK)
        return k.status;
    snprintf(c->architecture, sizeof c->architecture, "%s", arch);
    c->eps = get_num(&k, "attention.layer_norm_rms_epsilon", 0);
    c->eps_latent = c->eps;
    /* No llama.cpp converter writes a window for these; bise's own key. */
    c->window = get_dim(&k, "attention.sliding_window", 0, false);
    if (k.status == BISE_OK)
        k.status = read_windows(c, m, err);
    c->max_position = (int64_t)get_num(&k, "context_length", 32768);
    c->bos = token_id(m, "tokenizer.ggml.bos_token_id");
    c->eos = token_id(m, "tokenizer.ggml.eos_token_id");
    c->pad = token_id(m, "tokenizer.ggml.padding_token_id");
    c->neox = false;
    return k.status != BISE_OK ? k.status : bise_config_check(c, err);
}
