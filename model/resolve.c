/* resolve.c - helpers of the configuration readers: keys of JSON objects with
 * fall-back from the text part to the root, errors that name key, value and
 * what is allowed, and the checks across fields at the end.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/resolve.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/family.h"

/* null counts as absent: transformers writes it for defaults. */
const bise_json *bise_key_get(const bise_keys *k, const char *key)
{
    const bise_json *v = bise_json_get(k->text, key);
    if (bise_json_is_null(v))
        v = bise_json_get(k->root, key);
    return bise_json_is_null(v) ? NULL : v;
}

/* A number that may be written 4096, 4096.0 or "4096"; NaN otherwise. */
static double number_of(const bise_json *v)
{
    return bise_json_number(v, NAN);
}

/* 4096, 4096.0 and "4096" all occur in released files. */
bise_status bise_key_int(const bise_keys *k, const char *key, bool required,
                         int64_t low, int64_t high, int64_t *out,
                         bise_error *err)
{
    const bise_json *v = bise_key_get(k, key);
    if (!v && required)
        return bise_fail(err, BISE_EFORMAT, "key '%s' is missing", key);
    if (!v)
        return BISE_OK;
    const double d = number_of(v);
    if (!(d >= (double)low && d <= (double)high) || d != floor(d))
        return bise_fail(err, BISE_EFORMAT, "key '%s' must be a whole number "
                         "from %" PRId64 " to %" PRId64, key, low, high);
    *out = (int64_t)d;
    return BISE_OK;
}

/* 2^30 keeps products of two dimensions inside 64 bits. */
bise_status bise_key_dim(const bise_keys *k, const char *key, bool required,
                         int32_t *out, bise_error *err)
{
    int64_t v = *out;
    const bise_status s = bise_key_int(k, key, required, 1, 1 << 30, &v, err);
    if (s == BISE_OK)
        *out = (int32_t)v;
    return s;
}

/* NaN fails the comparison with low, so it is refused like a word. */
bise_status bise_key_num(const bise_keys *k, const char *key, bool required,
                         double low, double *out, bise_error *err)
{
    const bise_json *v = bise_key_get(k, key);
    if (!v && required)
        return bise_fail(err, BISE_EFORMAT, "key '%s' is missing", key);
    if (!v)
        return BISE_OK;
    const double d = number_of(v);
    if (!(d >= low) || isinf(d))
        return bise_fail(err, BISE_EFORMAT, "key '%s' must be a number of at "
                         "least %g", key, low);
    *out = d;
    return BISE_OK;
}

/* eos_token_id may be a list; its first entry ends a turn. */
int32_t bise_key_token(const bise_keys *k, const char *key)
{
    const bise_json *v = bise_key_get(k, key);
    if (bise_json_typeof(v) == BISE_JSON_ARRAY)
        v = bise_json_at(v, 0);
    const double d = number_of(v);
    return d >= 0 && d < 1 << 30 ? (int32_t)d : -1;
}

/* NaN marks magnitudes that no key gave. */
void bise_config_defaults(bise_config *c)
{
    memset(c, 0, sizeof *c);
    c->rope = (bise_rope){ .theta = 1e4, .factor = 1, .beta_fast = 32,
                           .beta_slow = 1, .mscale = NAN,
                           .mscale_all_dim = NAN, .attention_factor = NAN,
                           .truncate = true };
    c->routed_scale = 1;
    c->router_aux_coef = 0.001;         /* the default of transformers */
    c->bos = c->eos = c->pad = -1;
}

/* Only schemes whose tensors checkpoint.c attaches pass; guessing at others
 * would read packed integers as weights. */
bise_status bise_config_quant(bise_config *c, const bise_json *q,
                              bise_error *err)
{
    if (bise_json_is_null(q))
        return BISE_OK;
    const char *method = bise_json_string(bise_json_get(q, "quant_method"),
                                          NULL);
    if (!method)
        return bise_fail(err, BISE_EFORMAT,
                         "quantization_config has no 'quant_method'");
    const char *format = bise_json_string(bise_json_get(q, "format"), NULL);
    const bool packed = strcmp(method, "compressed-tensors") == 0;
    if (strcmp(method, "fp8") != 0 && strcmp(method, "fbgemm_fp8") != 0 &&
        !packed) {
        err->status =
            bise_fail(err, BISE_EUNSUPPORTED, "quant_method '%s' is not one "
                        "bise reads (fp8, fbgemm_fp8, compressed-tensors)",
                        method);
        return bise_error_hint(err, "use the bf16 checkpoint of this model");
    }
    if (packed && format && strcmp(format, "float-quantized") != 0 &&
        strcmp(format, "naive-quantized") != 0) {
        err->status =
            bise_fail(err, BISE_EUNSUPPORTED, "compressed-tensors format "
                        "'%s' is not one bise reads (float-quantized)",
                        format);
        return bise_error_hint(err, "use the bf16 or FP8 checkpoint");
    }
    snprintf(c->quant_method, sizeof c->quant_method, "%s", method);
    return BISE_OK;
}

/* Do the first p entries give the same as all n, each repeated over layers? */
static bool repeats(const int32_t *list, int32_t n, int32_t layers, int32_t p)
{
    for (int32_t l = 0; l < layers; l++)
        if (list[l % n] != list[l % p % n])
            return false;
    return true;
}

bise_status bise_config_windows(bise_config *c, const int32_t *list, int32_t n,
                                bise_error *err)
{
    const int32_t most = (int32_t)(sizeof c->windows / sizeof *c->windows);
    /* both lists start again together after n times the period */
    const int32_t all = n > c->L ? n : c->L;
    const int32_t layers = all / most < n ? all : n * most;
    int32_t period = 1;
    c->window = c->n_windows = 0;
    while (n > 0 && period <= most && !repeats(list, n, layers, period))
        period++;
    if (period > most)
        return bise_fail(err, BISE_EUNSUPPORTED, "the windows of the layers "
                         "do not repeat within %d", (int)most);
    for (int32_t i = 0; i < period && n > 0; i++) {
        c->windows[i] = list[i % n];
        if (list[i % n] && (!c->window || list[i % n] < c->window))
            c->window = list[i % n];
    }
    c->n_windows = period > 1 ? period : 0;
    return BISE_OK;
}

/* A router over no experts, or more kept than there are, cannot be computed. */
static bise_status check_experts(const bise_config *c, bise_error *err)
{
    if (c->E < 1 || c->top_k < 1 || c->top_k > c->E)
        return bise_fail(err, BISE_EFORMAT, "%d of %d experts a token make no "
                         "mixture", (int)c->top_k, (int)c->E);
    if (c->dense_layers > c->L)
        return bise_fail(err, BISE_EFORMAT, "first_k_dense_replace is %d of %d "
                         "layers", (int)c->dense_layers, (int)c->L);
    return BISE_OK;
}

/* All five sizes are needed; the rotated part consists of pairs. */
static bise_status check_mla(const bise_config *c, bise_error *err)
{
    if (c->q_lora < 1 || c->kv_lora < 1 || c->qk_nope < 1 || c->qk_rope < 2 ||
        c->qk_rope % 2 || c->v_dim < 1)
        return bise_fail(err, BISE_EFORMAT, "latent attention with q_lora_rank "
                         "%d, kv_lora_rank %d, qk_nope_head_dim %d, "
                         "qk_rope_head_dim %d, v_head_dim %d", (int)c->q_lora,
                         (int)c->kv_lora, (int)c->qk_nope, (int)c->qk_rope,
                         (int)c->v_dim);
    if (c->n_windows)
        return bise_fail(err, BISE_EUNSUPPORTED, "latent attention with windows "
                         "that differ between layers");
    return BISE_OK;
}

/* Products such as H D and E F must stay far below 2^63 with everything else
 * multiplied in; the limits are 16 times beyond any released model. */
static bise_status check_ranges(const bise_config *c, bise_error *err)
{
    const struct { const char *name; int32_t v, low, high; } t[] = {
        { "hidden size", c->C, 1, 1 << 20 },
        { "feed-forward size", c->F, 1, 1 << 22 },
        { "number of layers", c->L, 1, 1 << 14 },
        { "number of heads", c->H, 1, 1 << 14 },
        { "number of key heads", c->K, 1, 1 << 14 },
        { "head size", c->D, 1, 1 << 14 },
        { "vocabulary size", c->V, 0, 1 << 24 }, /* 0: not known yet */
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        if (t[i].v < t[i].low || t[i].v > t[i].high)
            return bise_fail(err, BISE_EFORMAT, "%s is %d, allowed are %d to "
                             "%d", t[i].name, (int)t[i].v, (int)t[i].low,
                             (int)t[i].high);
    if (c->E < 0 || c->E > 4096 || c->shared_experts < 0 ||
        c->shared_experts > 64 || c->F_expert > 1 << 20)
        return bise_fail(err, BISE_EFORMAT, "%d experts of size %d with %d "
                         "shared ones are beyond what bise accepts",
                         (int)c->E, (int)c->F_expert, (int)c->shared_experts);
    return BISE_OK;
}

/* What no single key shows: divisibility, pairs, sensible rope numbers. */
bise_status bise_config_check(bise_config *c, bise_error *err)
{
    const bise_family_info *f = bise_family_get(c->family);
    bise_status s = check_ranges(c, err);
    if (s == BISE_OK && f->mla)
        s = check_mla(c, err);
    if (s == BISE_OK && f->moe)
        s = check_experts(c, err);
    if (s != BISE_OK)
        return s;
    if (c->H % c->K)
        return bise_fail(err, BISE_EFORMAT, "%d query heads do not divide over "
                         "%d key heads", (int)c->H, (int)c->K);
    if (!f->mla && c->D % 2)
        return bise_fail(err, BISE_EFORMAT, "head size %d is odd, rotation "
                         "needs pairs", (int)c->D);
    if (!(c->eps > 0))
        return bise_fail(err, BISE_EFORMAT, "the epsilon of the norms is %g",
                         c->eps);
    const bise_rope *r = &c->rope;
    if (!(r->theta > 1))
        return bise_fail(err, BISE_EFORMAT, "rope_theta is %g", r->theta);
    if (r->yarn && (!(r->factor >= 1) || !(r->original_max >= 1) ||
                    !(r->beta_fast > 0) || !(r->beta_slow > 0)))
        return bise_fail(err, BISE_EFORMAT, "yarn with factor %g and original "
                         "length %g makes no sense", r->factor,
                         r->original_max);
    if (r->qscale_beta != 0 && !(r->original_max >= 1))
        return bise_fail(err, BISE_EFORMAT, "query scaling (beta %g) needs "
                         "'original_max_position_embeddings'", r->qscale_beta);
    return BISE_OK;
}
