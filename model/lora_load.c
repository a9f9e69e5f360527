/* lora_load.c - adapters from files into memory: PEFT directories, GGUF
 * adapters, mistral-finetune's native files and mlx-lm's (lora.md 2 and 3,
 * gguf.md 9). lora_file.c opens the file and recognizes its tensors; here they
 * become modules. Every module must have both parts and fit the base.
 *
 * Steps: open -> settings -> names to parts (role, A or B or magnitude or
 * whole tensor) -> sort -> pairs to modules (shape, rank, alpha, fit) -> one
 * allocation -> values. Nothing of the file is kept afterwards; a failure at
 * any step leaves an empty adapter.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/lora.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "model/family.h"
#include "model/lineage.h"
#include "model/lora_file.h"
#include "model/peft.h"

/* How the values of a module lie in the file. */
typedef struct layout {
    size_t first;      /* its parts */
    int32_t r;         /* rank there; mlx pads to one rank for all */
    float fold;        /* what B is multiplied by */
} layout;

/* Settings of PEFT that change the arithmetic in ways bise does not do. */
static bise_status check_peft(const bise_json *c, bise_error *err)
{
    static const char *const refused[] = {
        "fan_in_fan_out", "use_qalora", "use_bdlora", "lora_bias",
        "target_parameters", "arrow_config", "trainable_token_indices" };
    const char *type = bise_json_string(bise_json_get(c, "peft_type"), NULL);
    if (!type || strcmp(type, "LORA") != 0)
        return bise_fail(err, BISE_EUNSUPPORTED, "peft_type '%s' is not LORA",
                         type ? type : "");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const bise_json *v = bise_json_get(c, refused[i]);
        const bise_json_type t = bise_json_typeof(v);
        if (t == BISE_JSON_STRING || bise_json_size(v) ||
            bise_json_bool(v, false))
            return bise_fail(err, BISE_EUNSUPPORTED, "the adapter uses '%s', "
                             "which bise does not", refused[i]);
    }
    const char *bias = bise_json_string(bise_json_get(c, "bias"), NULL);
    if (bias && strcmp(bias, "none") != 0)
        return bise_fail(err, BISE_EUNSUPPORTED, "the adapter trains biases "
                         "('%s'), which models of Mistral do not have", bias);
    /* These train a changed base; PEFT changes it again on loading. */
    static const char *const based[] = { "pissa", "olora", "corda", "loftq" };
    const char *init = bise_json_string(bise_json_get(c, "init_lora_weights"),
                                        NULL);
    for (size_t i = 0; init && i < 4; i++)
        if (bise_starts_with(init, based[i])) {
            err->status = bise_fail(err, BISE_EUNSUPPORTED, "init_lora_weights "
                                    "'%s' needs its own changed base", init);
            return bise_error_hint(err, "save it with PEFT's "
                                   "path_initial_model_for_weight_conversion");
        }
    return BISE_OK;
}

/* PEFT's settings, or the copy of them inside another format. */
static bise_status find_peft(bise_lora_file *s, bise_error *err)
{
    const bise_json *in = s->config;
    if (s->format == BISE_LORA_GGUF) {
        size_t n = 0;
        const char *t = bise_gguf_str(&s->gguf.meta, "bise.lora.peft", &n);
        return t ? bise_json_parse(&s->peft, t, n, err) : BISE_OK;
    }
    if (s->format == BISE_LORA_NATIVE)
        in = bise_json_get(in, "lora");
    if (s->format != BISE_LORA_PEFT)
        in = bise_json_get(in, "peft");
    if (in && !(s->peft = bise_json_ref(in)))
        return bise_fail_nomem(err);
    return BISE_OK;
}

/* What holds for the whole adapter. */
static bise_status read_settings(bise_lora_file *s, bise_lora *l,
                                 bise_error *err)
{
    const bise_status st = find_peft(s, err);
    if (st != BISE_OK)
        return st;
    const bise_json *c = s->peft;
    const char *type = bise_json_string(
        bise_json_get(s->config, "fine_tune_type"), NULL);
    l->format = s->name;
    const char *name = bise_json_string(
        bise_json_get(c, "base_model_name_or_path"), NULL);
    if (!name && s->format == BISE_LORA_MLX)
        name = bise_json_string(bise_json_get(s->config, "model"), NULL);
    if (name)
        bise_lineage_name(l->base_name, sizeof l->base_name, name);
    l->wrapper = bise_json_bool(bise_json_get(c, "wrapper"), false);
    l->rslora = bise_json_bool(bise_json_get(c, "use_rslora"), false);
    l->dora = bise_json_bool(bise_json_get(c, "use_dora"), false) ||
              (s->format == BISE_LORA_MLX && type && strcmp(type, "dora") == 0);
    l->dropout = (float)bise_json_number(bise_json_get(c, "lora_dropout"), 0);
    if (!(l->dropout >= 0 && l->dropout < 1))
        return bise_fail(err, BISE_EFORMAT, "'lora_dropout' is %g",
                         l->dropout);
    if (s->format == BISE_LORA_GGUF) {
        size_t n = 0;
        const char *t = bise_gguf_str(&s->gguf.meta, "general.type", &n);
        if (!t || n != 7 || memcmp(t, "adapter", 7) != 0)
            return bise_fail(err, BISE_EFORMAT, "general.type is '%.*s', not "
                             "'adapter'", (int)(n < 40 ? n : 40), t ? t : "");
    }
    return c ? check_peft(c, err) : BISE_OK;
}

/* The scale a format other than PEFT says for a module of rank r. */
static double file_scale(const bise_lora_file *s, int32_t r)
{
    const bise_json *c = s->config;
    const double alpha = s->format == BISE_LORA_GGUF
        ? bise_gguf_float(&s->gguf.meta, "adapter.lora.alpha", 0) : 0;
    switch (s->format) {
    case BISE_LORA_GGUF:    /* alpha 0 or absent: the scale is 1 */
        return alpha == 0 ? 1 : alpha / r;
    case BISE_LORA_NATIVE:  /* 2 is mistral-finetune's default */
        return bise_json_number(bise_json_get(bise_json_get(c, "lora"),
                                              "scaling"), 2);
    default:      /* 20 is mlx-lm's */
        return bise_json_number(
            bise_json_get(bise_json_get(c, "lora_parameters"), "scale"), 20);
    }
}

/* Rank and alpha of a module, and how B in the file relates to them: a format
 * with one scale for all has the rest of it multiplied into B. */
static bise_status read_alpha(const bise_lora_file *s, const bise_lora *l,
                              const char *path, bise_lora_module *m,
                              layout *slot, bise_error *err)
{
    const bise_json *c = s->peft;
    double rank = 0;
    const double scale = s->format == BISE_LORA_PEFT ? 0 : file_scale(s, m->r);
    slot->r = m->r;
    slot->fold = 1;
    if (!c) {
        m->alpha = scale * m->r;
        return isfinite(m->alpha)
            ? BISE_OK : bise_fail(err, BISE_EFORMAT, "the scale is not finite");
    }
    /* 8 and 8 are PEFT's defaults for absent keys. */
    bise_status st = bise_peft_pattern(
        &rank, bise_json_get(c, "rank_pattern"), path,
        bise_json_number(bise_json_get(c, "r"), 8), err);
    if (st == BISE_OK)
        st = bise_peft_pattern(
            &m->alpha, bise_json_get(c, "alpha_pattern"), path,
            bise_json_number(bise_json_get(c, "lora_alpha"), 8), err);
    if (st != BISE_OK)
        return st;
    const bool padded = s->format == BISE_LORA_MLX && rank >= 1 && rank < m->r;
    if (rank != m->r && (!padded || rank != floor(rank)))
        return bise_fail(err, BISE_EFORMAT, "module '%s' has rank %d, "
                         "adapter_config.json says %g", path, (int)m->r, rank);
    m->r = (int32_t)rank;
    if (s->format != BISE_LORA_PEFT)
        slot->fold = (float)(scale /
                             bise_lora_scale(m->alpha, m->r, l->rslora));
    if (!isfinite(m->alpha) || !isfinite(slot->fold))
        return bise_fail(err, BISE_EFORMAT, "alpha of '%s' is %g", path,
                         m->alpha);
    if (fabsf(slot->fold - 1) < 1e-6f)  /* float32 of the key, not a fold */
        slot->fold = 1;
    return BISE_OK;
}

/* Which base the adapter names, for the hint of a misfit. */
static bise_status misfit(const bise_lora_file *s, const bise_lora *l,
                          const bise_tensor *t, bise_error *err)
{
    if (l->base_name[0])
        err->status = bise_error_hint(err, "the adapter was made for '%s'",
                                      l->base_name);
    return bise_lora_file_in(s, t, err);
}

/* Shapes of A and B against the base, each misfit with found and needed. */
static bise_status check_fit(const bise_lora_file *s, const bise_lora *l,
                             const bise_lora_part *a, const bise_lora_part *b,
                             const bise_lora_module *m, const char *path,
                             bise_error *err)
{
    uint64_t d[3];
    if (!s->base)
        return BISE_OK;
    if (bise_role_shape(s->base, m->role, d) != 2) {
        err->status = bise_fail(err, BISE_EFORMAT, "module '%s' does not exist "
                                "in the base, a %s model of %d layers", path,
                                bise_family_name(s->base->family),
                                (int)s->base->L);
        return misfit(s, l, a->t, err);
    }
    if (m->role.kind == BISE_ROLE_HEAD && s->base->tied) {
        err->status = bise_fail(err, BISE_EUNSUPPORTED, "lm_head of the base "
                                "is tied to the embedding, an adapter on it "
                                "would change both");
        return misfit(s, l, a->t, err);
    }
    if (d[1] != (uint64_t)m->in) {
        err->status = bise_fail(err, BISE_EFORMAT, "module '%s': lora_A is "
                                "%dx%d, the base needs %dx%" PRIu64, path,
                                (int)m->r, (int)m->in, (int)m->r, d[1]);
        return misfit(s, l, a->t, err);
    }
    if (d[0] != (uint64_t)m->out) {
        err->status = bise_fail(err, BISE_EFORMAT, "module '%s': lora_B is "
                                "%dx%d, the base needs %" PRIu64 "x%d", path,
                                (int)m->out, (int)m->r, d[0], (int)m->r);
        return misfit(s, l, b->t, err);
    }
    return BISE_OK;
}

/* Dimensions of A and B, whatever the orientation, into m. */
static bise_status read_shape(const bise_lora_file *s, const bise_lora_part *a,
                              const bise_lora_part *b, bise_lora_module *m,
                              bise_error *err)
{
    const bool tr = s->transposed;
    const bise_tensor *ta = a->t, *tb = b->t;
    const int skip = a->slice >= 0;   /* the experts' dimension */
    if (ta->n_dims != 2 + skip || tb->n_dims != 2 + skip) {
        err->status = bise_fail(err, BISE_EFORMAT, "'%s' has %d dimensions, a "
                                "LoRA part has 2", ta->name,
                                ta->n_dims != 2 ? ta->n_dims : tb->n_dims);
        return bise_lora_file_in(s, ta, err);
    }
    const uint64_t *da = ta->dims + skip, *db = tb->dims + skip;
    const uint64_t r = da[tr], in = da[!tr];
    const uint64_t out = db[tr], rb = db[!tr];
    if (r != rb || r < 1 || r > 4096 || in < 1 || in > INT32_MAX || out < 1 ||
        out > INT32_MAX) {
        err->status = bise_fail(err, BISE_EFORMAT, "A is %" PRIu64 "x%" PRIu64
                                " and B %" PRIu64 "x%" PRIu64 ": the ranks "
                                "must agree and be 1 to 4096", r, in, out, rb);
        return bise_lora_file_in(s, tb, err);
    }
    m->r = (int32_t)r;
    m->in = (int32_t)in;
    m->out = (int32_t)out;
    return BISE_OK;
}

/* The run of parts of one role starting at i: A, B and maybe M. */
static bise_status read_module(const bise_lora_file *s, const bise_lora *l,
                               size_t i, bise_lora_module *m, layout *slot,
                               size_t *used, bise_error *err)
{
    const bise_lora_part *p = &s->parts[i];
    const size_t left = s->n_parts - i;
    char path[256] = "";
    (void)bise_peft_path(path, p->role, s->base ? s->base->family
                                                : BISE_FAMILY_MIXTRAL,
                         l->wrapper);
    const bool pair = left >= 2 && p[0].kind == BISE_PART_A &&
                      p[1].kind == BISE_PART_B &&
                      bise_role_equal(p[0].role, p[1].role);
    if (!pair) {
        err->status = bise_fail(err, BISE_EFORMAT, "'%s' has no counterpart: A "
                                "and B come in pairs", p->t->name);
        return bise_lora_file_in(s, p->t, err);
    }
    const bool mag = left >= 3 && p[2].kind == BISE_PART_M &&
                     bise_role_equal(p[0].role, p[2].role);
    *m = (bise_lora_module){ .role = p->role };
    *used = mag ? 3 : 2;
    slot->first = i;
    bise_status st = read_shape(s, &p[0], &p[1], m, err);
    if (st == BISE_OK)
        st = read_alpha(s, l, path, m, slot, err);
    if (st == BISE_OK)
        st = check_fit(s, l, &p[0], &p[1], m, path, err);
    if (st == BISE_OK && (mag != l->dora ||
                          (mag && bise_tensor_count(p[2].t) !=
                                      (uint64_t)m->out)))
        st = bise_fail(err, BISE_EFORMAT, "module '%s': %s", path,
                       !mag ? "use_dora is true, but there is no magnitude"
                       : l->dora ? "the magnitude has another length than B"
                                 : "there is a magnitude, but use_dora is "
                                   "false");
    return st == BISE_OK ? st : bise_lora_file_in(s, p->t, err);
}

/* Numbers of a part as float32: of the tensor, or of its slice. */
static bise_status decode(const bise_lora_file *s, const bise_lora_part *from,
                          float *out, bise_error *err)
{
    const bise_tensor *t = from->t;
    const uint64_t pieces = from->slice >= 0 ? t->dims[0] : 1;
    const uint64_t n = bise_tensor_count(t) / pieces;
    const uint8_t *p = (const uint8_t *)t->data +
                       (from->slice > 0 ? (uint64_t)from->slice : 0) *
                           (t->bytes / pieces);
    for (uint64_t i = 0; i < n; i++) {
        switch (t->dtype) {
        case BISE_DTYPE_F32: out[i] = bise_bits_f32(bise_load_le32(p + 4 * i));
            break;
        case BISE_DTYPE_F16:
            out[i] = bise_f16_to_f32(bise_load_le16(p + 2 * i));
            break;
        case BISE_DTYPE_BF16:
            out[i] = bise_bf16_to_f32(bise_load_le16(p + 2 * i));
            break;
        default:
            err->status = bise_fail(err, BISE_EUNSUPPORTED, "'%s' is %s, LoRA "
                                    "parts are F32, F16 or BF16", t->name,
                                    bise_dtype_get(t->dtype)->name);
            return bise_lora_file_in(s, t, err);
        }
        if (!isfinite(out[i])) {
            err->status = bise_fail(err, BISE_EFORMAT, "element %" PRIu64
                                    " of '%s' is not finite", i, t->name);
            return bise_lora_file_in(s, t, err);
        }
    }
    return BISE_OK;
}

/* The first `keep` columns of rows x cols, as keep x rows. */
static void transpose(float *out, const float *in, size_t rows, size_t cols,
                      size_t keep)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < keep; j++)
            out[j * rows + i] = in[i * cols + j];
}

/* Padding of the rank holds zeros, or the rank is a wrong one. */
static bool is_padding(const float *a, const layout *slot, size_t r, size_t in)
{
    for (size_t i = 0; i < in; i++)
        for (size_t j = r; j < (size_t)slot->r; j++)
            if (a[i * (size_t)slot->r + j] != 0)
                return false;
    return true;
}

/* Head size of a rotated module, 0 for all others. Only the base knows. */
static bise_status head_size(const bise_lora_file *s, const bise_lora_module *m,
                             int32_t *D, bise_error *err)
{
    const bool rotated = m->role.kind == BISE_ROLE_Q ||
                         m->role.kind == BISE_ROLE_K;
    *D = 0;
    if (!rotated || !s->interleaved)
        return BISE_OK;
    if (!s->base) {
        err->status = bise_fail(err, BISE_EINVAL, "rows of q and k of a %s "
                                "adapter are interleaved; the head size to "
                                "order them is the base's",
                                s->name);
        return bise_error_hint(err, "name the base with --base MODEL");
    }
    *D = s->base->D;
    return BISE_OK;
}

/* Values of one module: decode, turn round, put rows of q and k in order, undo
 * a folded scale. scratch holds the larger part of the file. */
static bise_status fill_module(const bise_lora_file *s, bise_lora_module *m,
                               const layout *slot, float *scratch,
                               bise_error *err)
{
    const bise_lora_part *p = &s->parts[slot->first];
    const size_t r = (size_t)m->r, in = (size_t)m->in, out = (size_t)m->out;
    const bool tr = s->transposed;
    int32_t D = 0;
    bise_status st = head_size(s, m, &D, err);
    if (st == BISE_OK)
        st = decode(s, &p[0], tr ? scratch : m->a, err);
    if (st == BISE_OK && tr) {
        if (!is_padding(scratch, slot, r, in))
            return bise_fail(err, BISE_EFORMAT, "'%s' has more than the %d "
                             "ranks of its settings", p->t->name, (int)r);
        transpose(m->a, scratch, in, (size_t)slot->r, r);
    }
    if (st == BISE_OK)
        st = decode(s, &p[1], tr || D ? scratch : m->b, err);
    if (st == BISE_OK && tr)    /* [r, out]: padded ranks are rows at the end */
        transpose(m->b, scratch, r, out, out);
    for (size_t i = 0; st == BISE_OK && D && i < out; i++)
        memcpy(m->b + i * r,
               scratch + bise_rows_source(BISE_ROWS_INTERLEAVED,
                                          BISE_ROWS_HALF, i, D) * r,
               r * sizeof(float));
    for (size_t i = 0; st == BISE_OK && slot->fold != 1 && i < r * out; i++)
        m->b[i] *= slot->fold;
    if (st == BISE_OK && m->magnitude)
        st = decode(s, &p[2], m->magnitude, err);
    return st;
}

/* Found and needed shape of a whole tensor. Adapters trained with added tokens
 * bring an embedding with more rows; the base must be grown first. */
static bise_status saved_misfit(const bise_lora_file *s, const bise_lora *l,
                                const bise_tensor *t, const uint64_t d[3],
                                int n, bise_error *err)
{
    const bool matrix = n == 2 && t->n_dims == 2;
    if (!matrix)
        err->status = bise_fail(err, BISE_EFORMAT, "'%s' has %d dimensions, the "
                                "base's tensor %d", t->name, t->n_dims, n);
    else
        err->status = bise_fail(err, BISE_EFORMAT, "'%s' is %" PRIu64 "x%"
                                PRIu64 ", the base needs %" PRIu64 "x%" PRIu64,
                                t->name, t->dims[0], t->dims[1], d[0], d[1]);
    if (matrix && t->dims[1] == d[1] && d[0] == (uint64_t)s->base->V) {
        err->status = bise_error_hint(err, "the adapter has another vocabulary:"
                                      " bise convert BASE --vocab-size %" PRIu64,
                                      t->dims[0]);
        return bise_lora_file_in(s, t, err);
    }
    return misfit(s, l, t, err);
}

/* modules_to_save: a whole weight of the base. */
static bise_status fill_saved(const bise_lora_file *s, bise_lora *l,
                              const bise_lora_part *p, bise_error *err)
{
    uint64_t d[3];
    const bise_tensor *t = p->t;
    const bool tied = s->base && s->base->tied &&
                      p->role.kind == BISE_ROLE_HEAD;
    if (tied) {
        err->status = bise_fail(err, BISE_EFORMAT, "'%s' replaces a head that "
                                "is tied in the base", t->name);
        return misfit(s, l, t, err);
    }
    const int n = s->base ? bise_role_shape(s->base, p->role, d) : 0;
    if (s->base && (n != t->n_dims ||
                    memcmp(d, t->dims, (size_t)n * sizeof *d) != 0))
        return saved_misfit(s, l, t, d, n, err);
    bise_lora_saved *v = &l->saved[l->n_saved];
    v->role = p->role;
    v->n = bise_tensor_count(t);
    v->w = bise_alloc_array(v->n, sizeof(float));
    if (!v->w)
        return bise_fail_nomem(err);
    l->n_saved++;
    return decode(s, p, v->w, err);
}

/* Floats a module's larger part takes in the file. */
static size_t part_size(const bise_lora_module *m, const layout *slot)
{
    return (size_t)(m->in > m->out ? m->in : m->out) * (size_t)slot->r;
}

/* Sorted parts into modules (pass 1: shapes; pass 2: values) and saved. */
static bise_status assemble(const bise_lora_file *s, bise_lora *l,
                            bise_error *err)
{
    bise_lora_module *m = bise_alloc_array(s->n_parts, sizeof *m);
    layout *slots = bise_alloc_array(s->n_parts, sizeof *slots);
    float *scratch = NULL;
    size_t n = 0, used, largest = 1;
    l->saved = bise_alloc_array(s->n_parts, sizeof *l->saved);
    bise_status st = m && slots && l->saved ? BISE_OK : bise_fail_nomem(err);
    for (size_t i = 0; st == BISE_OK && i < s->n_parts; i += used) {
        used = 1;
        if (s->parts[i].kind == BISE_PART_SAVED) {
            st = fill_saved(s, l, &s->parts[i], err);
            continue;
        }
        st = read_module(s, l, i, &m[n], &slots[n], &used, err);
        if (st == BISE_OK && part_size(&m[n], &slots[n]) > largest)
            largest = part_size(&m[n], &slots[n]);
        n += st == BISE_OK;
    }
    if (st == BISE_OK)
        st = bise_lora_alloc(l, m, n, err);
    if (st == BISE_OK && !(scratch = bise_alloc_array(largest, sizeof(float))))
        st = bise_fail_nomem(err);
    for (size_t i = 0; st == BISE_OK && i < n; i++)
        st = fill_module(s, &l->modules[i], &slots[i], scratch, err);
    bise_free(m);
    bise_free(slots);
    bise_free(scratch);
    return st;
}

/* Cut ":SCALE" off a path that does not exist as it stands. */
static bise_status split_scale(const char *path, char **file, double *scale,
                               bise_error *err)
{
    const char *colon = strrchr(path, ':');
    char *end = NULL;
    *scale = 1;
    *file = NULL;
    if (colon && colon[1] && !bise_file_exists(path) && !bise_is_dir(path)) {
        *scale = strtod(colon + 1, &end);
        if (*end == 0 && isfinite(*scale))
            *file = bise_strndup(path, (size_t)(colon - path));
        else
            *scale = 1;
    }
    if (!*file)
        *file = bise_strdup(path);
    return *file ? BISE_OK : bise_fail_nomem(err);
}

/* The card beside the tensors, empty when there is none. */
static void read_card(const bise_lora_file *s, bise_str *out)
{
    bise_error ignored;
    bise_error_init(&ignored);
    char *path = bise_lora_file_beside(s, "README.md");
    bise_status st = BISE_OK;
    if (s->packed && bise_source_has(s->packed, "README.md"))
        st = bise_source_read(s->packed, "README.md", out, &ignored);
    else if (!s->packed && path && !s->is_gguf && bise_file_exists(path))
        st = bise_file_read(out, path, &ignored);
    if (st != BISE_OK)
        bise_str_clear(out);
    bise_free(path);
}

/* What the file and its card tell of its origin; the settings name the base
 * better than either. */
static bise_status read_lineage(const bise_lora_file *s, bise_lora *l,
                                bise_error *err)
{
    bise_str text = { 0 };
    l->lineage = s->is_gguf ? bise_lineage_of_gguf(&s->gguf.meta)
                            : bise_lineage_of_st(s->st.meta);
    if (!l->lineage)
        return bise_fail_nomem(err);
    read_card(s, &text);
    const int bad = bise_lineage_card(l->lineage, bise_str_get(&text),
                                      text.len);
    bise_str_fini(&text);
    if (bad)
        return bise_fail_nomem(err);
    if (!l->base_name[0])
        return BISE_OK;
    bise_json_remove(l->lineage, "base_model");
    return bise_lineage_add(l->lineage, "base_model", l->base_name) == 0
               ? BISE_OK : bise_fail_nomem(err);
}

/* Source, settings, names, then modules; on failure nothing is left. */
bise_status bise_lora_load_for(bise_lora *l, const char *path,
                               const bise_config *base, bise_error *err)
{
    char *file = NULL;
    double scale = 1;
    bise_lora_file s = { .base = base };
    memset(l, 0, sizeof *l);
    bise_status st = split_scale(path, &file, &scale, err);
    if (st == BISE_OK)
        st = bise_lora_file_open(&s, file, err);
    if (st == BISE_OK)
        st = read_settings(&s, l, err);
    if (st == BISE_OK)
        st = bise_lora_file_parts(&s, l, err);
    if (st == BISE_OK)
        st = assemble(&s, l, err);
    if (st == BISE_OK)
        st = read_lineage(&s, l, err);
    for (size_t i = 0; st == BISE_OK && scale != 1 && i < l->n; i++) {
        bise_lora_module *m = &l->modules[i];
        m->alpha *= scale;
        m->scale = bise_lora_scale(m->alpha, m->r, l->rslora);
    }
    bise_lora_file_close(&s);
    if (st != BISE_OK) {
        st = bise_error_in(err, file ? file : path, NULL);
        bise_lora_fini(l);
    }
    bise_free(file);
    return st;
}

/* Shapes are all that is asked of the base. */
bise_status bise_lora_load(bise_lora *l, const char *path,
                           const bise_checkpoint *base, bise_error *err)
{
    return bise_lora_load_for(l, path, &base->config, err);
}
