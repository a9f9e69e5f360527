/* adapter.c - writes a loaded adapter as PEFT, GGUF, native or mlx. The formats
 * differ in names, row order of q and k, orientation, and in how the scale is
 * said. What one number cannot say goes into B.
 *
 *   format  names of q_proj, layer 3                A, B          scale
 *   PEFT    base_model.model.model.layers.3         [r,in]        alpha / r or
 *           .self_attn.q_proj.lora_{A,B}.weight     [out,r]       / sqrt r, each
 *   GGUF    blk.3.attn_q.weight.lora_{a,b}          same; rows of alpha / r, one
 *                                                   q, k paired   alpha; 0: 1
 *   native  layers.3.attention.wq                   same; rows of scaling, one
 *           .lora_{A,B}.weight                      q, k paired
 *   mlx     model.layers.3.self_attn.q_proj         [in,r]        scale, one
 *           .lora_{a,b}                             [r,out]
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "convert/adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "convert/convert.h"
#include "core/file.h"
#include "core/mem.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "model/family.h"
#include "model/lineage.h"
#include "model/peft.h"

/* Tensors in the making; names and changed values live in the arena. */
typedef struct output {
    const bise_lora *l;
    const bise_adapter_options *o;
    bise_tensor *t;
    size_t n;
    bise_arena arena;
    bise_json *lineage;    /* facts of the output */
    bool nomem;
} output;

/* The user's word, then the file's, then the base's folder: never a path. */
static const char *base_name(const output *x)
{
    const bise_adapter_options *o = x->o;
    return o->base_name ? o->base_name
           : x->l->base_name[0] ? x->l->base_name
           : o->base ? o->base->base_name : "";
}

/* The adapter's own facts, the base by the name in its settings, and this
 * command. An adapter that does not say its licence has that of its base. */
static bise_json *make_lineage(const output *x)
{
    const bise_json *l = x->l->lineage;
    bise_json *v = bise_lineage_made(l, "", NULL, 0);
    int bad = v ? 0 : -1;
    if (base_name(x)[0]) {
        bise_json_remove(v, "base_model");
        bad |= bise_lineage_add(v, "base_model", base_name(x));
    }
    if (x->o->base && !*bise_lineage_licence(v) && x->o->base->licence[0]) {
        bad |= bise_json_set(v, "license", bise_json_new_string(
            x->o->base->licence));
        bise_json *full = bise_lineage_made(v, "", NULL, 0);
        bise_json_free(v);
        v = full;
    }
    if (x->o->command)
        bad |= bise_lineage_add(v, "history", x->o->command);
    if (!bad)
        return v;
    bise_json_free(v);
    return NULL;
}

/* Three tensors a module at most: A, B and the magnitude. */
static bise_status output_init(output *x, const bise_lora *l,
                               const bise_adapter_options *o, bise_error *err)
{
    *x = (output){ .l = l, .o = o };
    x->t = bise_alloc_array(3 * l->n + 1, sizeof *x->t);
    x->lineage = make_lineage(x);
    return x->t && x->lineage ? BISE_OK : bise_fail_nomem(err);
}

/* The values in x->t are the adapter's or the arena's: nothing to free one by
 * one. */
static void output_fini(output *x)
{
    bise_free(x->t);
    bise_json_free(x->lineage);
    bise_arena_fini(&x->arena);
}

/* Add a tensor with values of its own (zeroed) or those given; the data. */
static float *add(output *x, const char *name, int n_dims,
                  const uint64_t *dims, const float *data)
{
    bise_tensor *t = &x->t[x->n];
    *t = (bise_tensor){ .name = bise_arena_strdup(&x->arena, name),
                        .dtype = BISE_DTYPE_F32, .n_dims = n_dims };
    memcpy(t->dims, dims, (size_t)n_dims * sizeof *dims);
    t->bytes = bise_tensor_count(t) * sizeof(float);
    float *own = data ? NULL : bise_arena_alloc(&x->arena, t->bytes);
    t->data = data ? data : own;
    if (!t->name || !t->data)
        x->nomem = true;
    else
        x->n++;
    return own;
}

/* Do all modules have one value of what a format says once? */
static bool uniform(const bise_lora *l,
                    double (*value)(const bise_lora_module *))
{
    for (size_t i = 1; i < l->n; i++)
        if (value(&l->modules[i]) != value(&l->modules[0]))
            return false;
    return true;
}

/* What native and mlx say once for the whole adapter. */
static double scale_of(const bise_lora_module *m)
{
    return m->scale;
}

/* alpha over the rank is GGUF's scale: rsLoRA's becomes alpha sqrt(r). */
static double gguf_alpha(const bise_lora_module *m)
{
    return (float)((double)m->scale * m->r);
}

/* B with its rows in the order of the file and times factor. */
static void write_b(float *out, const bise_lora_module *m, float factor,
                    int32_t D)
{
    const size_t r = (size_t)m->r;
    for (size_t i = 0; i < (size_t)m->out; i++) {
        const size_t from = D ? (size_t)bise_rows_source(
                                    BISE_ROWS_HALF, BISE_ROWS_INTERLEAVED, i, D)
                              : i;
        for (size_t j = 0; j < r; j++)
            out[i * r + j] = factor == 1 ? m->b[from * r + j]
                                         : m->b[from * r + j] * factor;
    }
}

/* Head size where rows must be interleaved, 0 where they stay: latent attention
 * keeps one order everywhere (mistral3.md 2.6). */
static int32_t rotated(const output *x, const bise_lora_module *m)
{
    const bise_config *c = &x->o->base->config;
    const bool qk = m->role.kind == BISE_ROLE_Q || m->role.kind == BISE_ROLE_K;
    return qk && !bise_family_get(c->family)->mla ? c->D : 0;
}

/* Refuse what a format has no place for. */
static bise_status check_plain(const bise_lora *l, const char *format,
                               bool dora_fits, bise_error *err)
{
    if ((l->dora && !dora_fits) || l->n_saved) {
        err->status = bise_fail(err, BISE_EUNSUPPORTED, "a %s adapter cannot "
                                "hold %s", format, l->n_saved
                                ? "whole tensors (modules_to_save)"
                                : "DoRA magnitudes");
        return bise_error_hint(err, "merge it instead: bise merge MODEL "
                               "--adapter A -o OUT");
    }
    return BISE_OK;
}

/* Architecture, heads and params.json are not in an adapter. */
static bise_status need_base(const output *x, const char *format,
                             bise_error *err)
{
    if (x->o->base)
        return BISE_OK;
    err->status = bise_fail(err, BISE_EINVAL, "a %s adapter depends on its "
                            "base", format);
    return bise_error_hint(err, "name it with --base MODEL");
}

/* Names follow the base's class, not the file's names (lora.md 2.2). */
static bool wrapper_of(const output *x)
{
    const bise_adapter_options *o = x->o;
    return o->wrapper >= 0 ? o->wrapper > 0
           : o->base ? o->base->config.wrapper : x->l->wrapper;
}

/* The copy of PEFT's settings that other formats carry. */
static bise_json *settings(const output *x)
{
    const bise_config *c = x->o->base ? &x->o->base->config : NULL;
    bise_json *v = bise_lora_peft_config(x->l, c, wrapper_of(x), base_name(x));
    if (v && wrapper_of(x))
        (void)bise_json_set(v, "wrapper", bise_json_new_bool(true));
    return v;
}

/* ---- GGUF ---- */

/* Experts i.. of one kind and layer as a stack of all E; absent ones stay
 * zero, smaller ranks are padded with zeros: both change nothing. */
static bise_status add_stack(output *x, size_t i, size_t n, bool fold,
                             bise_error *err)
{
    const bise_lora_module *m = &x->l->modules[i];
    const bise_role all = { m->role.kind, m->role.layer, -1 };
    const uint64_t E = (uint64_t)x->o->base->config.E;
    const size_t in = (size_t)m->in, out = (size_t)m->out;
    char name[192], full[224];
    int32_t r = 1;
    for (size_t k = 0; k < n; k++)
        r = m[k].r > r ? m[k].r : r;
    if (!bise_role_name(name, all, BISE_NAMES_GGUF))
        return bise_fail(err, BISE_EUNSUPPORTED, "GGUF has no experts here");
    snprintf(full, sizeof full, "%s.lora_a", name);
    float *a = add(x, full, 3, (uint64_t[]){ E, (uint64_t)r, in }, NULL);
    snprintf(full, sizeof full, "%s.lora_b", name);
    float *b = add(x, full, 3, (uint64_t[]){ E, out, (uint64_t)r }, NULL);
    for (size_t k = 0; a && b && k < n; k++) {
        const size_t e = (size_t)m[k].role.expert, rk = (size_t)m[k].r;
        memcpy(a + e * (size_t)r * in, m[k].a, rk * in * sizeof *a);
        for (size_t row = 0; row < out; row++)
            for (size_t j = 0; j < rk; j++)
                b[(e * out + row) * (size_t)r + j] =
                    m[k].b[row * rk + j] * (fold ? m[k].scale : 1);
    }
    return BISE_OK;
}

/* llama.cpp holds kv_b in two parts, one of them transposed, and multiplies them
 * without adapters. */
static bise_status refuse_kv_b(int32_t layer, bise_error *err)
{
    err->status = bise_fail(err, BISE_EUNSUPPORTED, "the adapter trains "
                            "kv_b_proj (layer %d), which GGUF models hold in "
                            "two parts that take no adapter", (int)layer);
    return bise_error_hint(err, "bise merge makes a model of base and adapter");
}

/* One pair of tensors a module, a before b as the runtime lists them; modules
 * of one expert layer follow each other and become one stack. */
static bise_status add_gguf(output *x, bool fold, bise_error *err)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < x->l->n && s == BISE_OK; i++) {
        const bise_lora_module *m = &x->l->modules[i];
        char name[192], full[224];
        size_t n = 1;
        if (m->role.expert >= 0) {
            while (i + n < x->l->n && m[n].role.kind == m->role.kind &&
                   m[n].role.layer == m->role.layer)
                n++;
            s = add_stack(x, i, n, fold, err);
            i += n - 1;
            continue;
        }
        if (!bise_role_name(name, m->role, BISE_NAMES_GGUF))
            return bise_fail(err, BISE_EUNSUPPORTED, "GGUF has no name for a "
                             "module of the adapter");
        if (m->role.kind == BISE_ROLE_KV_B)
            return refuse_kv_b(m->role.layer, err);
        const uint64_t r = (uint64_t)m->r;
        snprintf(full, sizeof full, "%s.lora_a", name);
        (void)add(x, full, 2, (uint64_t[]){ r, (uint64_t)m->in }, m->a);
        snprintf(full, sizeof full, "%s.lora_b", name);
        float *b = add(x, full, 2, (uint64_t[]){ (uint64_t)m->out, r }, NULL);
        if (b)
            write_b(b, m, fold ? m->scale : 1, rotated(x, m));
    }
    return s;
}

/* The base's architecture: a mismatch is fatal in llama.cpp. */
static const char *arch_of(const bise_checkpoint *base)
{
    return base->names == BISE_NAMES_GGUF ? base->config.architecture
                                          : bise_convert_gguf_arch(base);
}

/* Keys in the order of gguf.md 9; ours comes last, and llama.cpp ignores keys
 * it does not know. */
static bise_status write_gguf(output *x, const char *path, bise_error *err)
{
    bise_status s = need_base(x, "GGUF", err);
    if (s == BISE_OK)
        s = check_plain(x->l, "GGUF", false, err);
    const bool fold = !uniform(x->l, gguf_alpha);
    if (s == BISE_OK)
        s = add_gguf(x, fold, err);
    if (s != BISE_OK)
        return s;
    bise_gguf_meta m = { 0 };
    bise_str text = { 0 };
    bise_json *peft = settings(x);
    bise_json_dump(&text, peft, 0, true);
    bise_json_free(peft);
    bise_gguf_set_str(&m, "general.architecture", arch_of(x->o->base));
    bise_gguf_set_str(&m, "general.type", "adapter");
    bise_gguf_set_str(&m, "adapter.type", "lora");
    /* alpha 0 tells the runtime that the scale is 1, here inside B. */
    bise_gguf_set_f32(&m, "adapter.lora.alpha",
                      fold || !x->l->n ? 0
                                       : (float)gguf_alpha(x->l->modules));
    bise_lineage_to_gguf(&m, x->lineage);
    bise_gguf_set_str(&m, "bise.lora.peft", bise_str_get(&text));
    s = x->nomem || m.failed || !bise_str_ok(&text)
            ? bise_fail_nomem(err)
            : bise_gguf_save(path, &m, x->t, x->n, err);
    bise_str_fini(&text);
    bise_gguf_meta_fini(&m);
    return s;
}

/* ---- native and mlx ---- */

/* Four blanks as both tools write it, keys sorted for equal bytes. */
static bise_status put_json(const char *dir, const char *name,
                            const bise_json *v, bise_error *err)
{
    bise_str text = { 0 };
    bise_json_dump(&text, v, 4, true);
    char *path = bise_path_join(dir, name);
    const bise_status s = path && v && bise_str_ok(&text)
        ? bise_file_write(path, bise_str_get(&text), text.len, err)
        : bise_fail_nomem(err);
    bise_free(path);
    bise_str_fini(&text);
    return s;
}

/* A file inside the directory in the making. */
static bise_status put_tensors(const output *x, const char *dir,
                               const char *name, bise_error *err)
{
    char *path = bise_path_join(dir, name);
    bise_json *meta = bise_lineage_to_st(x->lineage);
    const bise_status s = path && meta && !x->nomem
        ? bise_st_save(path, meta, x->t, x->n, err) : bise_fail_nomem(err);
    bise_json_free(meta);
    bise_free(path);
    return s;
}

/* The rank that native and mlx state for the whole adapter. */
static int32_t largest_rank(const bise_lora *l)
{
    int32_t r = 1;
    for (size_t i = 0; i < l->n; i++)
        r = l->modules[i].r > r ? l->modules[i].r : r;
    return r;
}

/* params.json of the base with the block that mistral-finetune adds. */
static bise_status native_params(const output *x, const char *dir,
                                 double scaling, bise_error *err)
{
    bise_str text = { 0 };
    bise_json *v = NULL, *lora = bise_json_new_object();
    bise_status s = bise_convert_config(&text, x->o->base, BISE_TO_NATIVE,
                                        BISE_DTYPE_BF16, false, err);
    if (s == BISE_OK)
        s = bise_json_parse(&v, bise_str_get(&text), text.len, err);
    (void)bise_json_set(lora, "enable", bise_json_new_bool(true));
    (void)bise_json_set(lora, "rank", bise_json_new_int(largest_rank(x->l)));
    (void)bise_json_set(lora, "dropout", bise_json_new_real(x->l->dropout));
    (void)bise_json_set(lora, "scaling", bise_json_new_real(scaling));
    (void)bise_json_set(lora, "peft", settings(x));
    if (s == BISE_OK && bise_json_set(v, "lora", lora))
        s = bise_fail_nomem(err);
    else if (s != BISE_OK)
        bise_json_free(lora);
    if (s == BISE_OK)
        s = put_json(dir, "params.json", v, err);
    bise_json_free(v);
    bise_str_fini(&text);
    return s;
}

/* lora.safetensors under Mistral's names, q and k in native row order, and
 * params.json with the one factor that mistral-finetune knows. */
static bise_status write_native(output *x, const char *dir, bise_error *err)
{
    const bise_lora *l = x->l;
    bise_status s = need_base(x, "native", err);
    if (s == BISE_OK)
        s = check_plain(l, "native", false, err);
    if (s != BISE_OK)
        return s;
    const bool same = uniform(l, scale_of);
    const float scale = same && l->n ? l->modules[0].scale : 1;
    for (size_t i = 0; i < l->n; i++) {
        const bise_lora_module *m = &l->modules[i];
        char name[192], full[240];
        if (!bise_role_name_in(name, m->role, BISE_NAMES_NATIVE,
                               x->o->base->config.family))
            return bise_fail(err, BISE_EUNSUPPORTED, "the native layout has no "
                             "name for a module of the adapter");
        const int stem = (int)(strlen(name) - strlen(".weight"));
        const uint64_t r = (uint64_t)m->r;
        snprintf(full, sizeof full, "%.*s.lora_A.weight", stem, name);
        (void)add(x, full, 2, (uint64_t[]){ r, (uint64_t)m->in }, m->a);
        snprintf(full, sizeof full, "%.*s.lora_B.weight", stem, name);
        float *b = add(x, full, 2, (uint64_t[]){ (uint64_t)m->out, r }, NULL);
        if (b)
            write_b(b, m, same ? 1 : m->scale, rotated(x, m));
    }
    s = put_tensors(x, dir, "lora.safetensors", err);
    return s == BISE_OK ? native_params(x, dir, scale, err) : s;
}

/* adapter_config.json as mlx-lm's loader wants it. Its adapters sit on the
 * last num_layers layers. */
static bise_status mlx_config(const output *x, const char *dir, double scale,
                              bise_error *err)
{
    const bise_lora *l = x->l;
    bise_json *v = bise_json_new_object(), *p = bise_json_new_object();
    bise_json *keys = bise_json_new_array();
    bool seen[BISE_ROLE_COUNT] = { false };
    int32_t first = INT32_MAX, last = -1;
    for (size_t i = 0; i < l->n; i++) {
        const bise_role r = l->modules[i].role;
        char path[256];
        if (r.layer >= 0 && r.layer < first)
            first = r.layer;
        last = r.layer > last ? r.layer : last;
        if (seen[r.kind] || r.layer < 0 || r.expert >= 0)
            continue;
        seen[r.kind] = true;
        (void)bise_peft_path(path, r, BISE_FAMILY_MISTRAL, false);
        const char *at = strstr(path, "layers.") + strlen("layers.");
        (void)bise_json_append(keys, bise_json_new_string(strchr(at, '.') + 1));
    }
    if (x->o->base)
        last = x->o->base->config.L - 1;
    (void)bise_json_set(p, "rank", bise_json_new_int(largest_rank(l)));
    (void)bise_json_set(p, "scale", bise_json_new_real(scale));
    (void)bise_json_set(p, "dropout", bise_json_new_real(l->dropout));
    (void)bise_json_set(p, "keys", keys);
    (void)bise_json_set(v, "model", bise_json_new_string(base_name(x)));
    (void)bise_json_set(v, "fine_tune_type",
                        bise_json_new_string(l->dora ? "dora" : "lora"));
    (void)bise_json_set(v, "num_layers",
                        bise_json_new_int(last < 0 ? 0 : last - first + 1));
    (void)bise_json_set(v, "lora_parameters", p);
    const int bad = bise_json_set(v, "peft", settings(x));
    const bise_status s = bad ? bise_fail_nomem(err)
                              : put_json(dir, "adapter_config.json", v, err);
    bise_json_free(v);
    return s;
}

/* A [in, r] and B [r, out], all of one rank: mlx-lm builds its layers with one
 * rank, so smaller ones are padded with zeros. */
static void add_mlx(output *x, const bise_lora_module *m, int32_t rank,
                    float factor, const char *path)
{
    const size_t in = (size_t)m->in, out = (size_t)m->out;
    const size_t r = (size_t)rank, have = (size_t)m->r;
    char full[288];
    snprintf(full, sizeof full, "%s.lora_a", path);
    float *a = add(x, full, 2, (uint64_t[]){ in, r }, NULL);
    snprintf(full, sizeof full, "%s.lora_b", path);
    float *b = add(x, full, 2, (uint64_t[]){ r, out }, NULL);
    for (size_t j = 0; a && b && j < have; j++) {
        for (size_t i = 0; i < in; i++)
            a[i * r + j] = m->a[j * in + i];
        for (size_t i = 0; i < out; i++)
            b[j * out + i] = factor == 1 ? m->b[i * have + j]
                                         : m->b[i * have + j] * factor;
    }
    snprintf(full, sizeof full, "%s.m", path);
    if (m->magnitude)
        (void)add(x, full, 1, (uint64_t[]){ out }, m->magnitude);
}

/* adapters.safetensors beside adapter_config.json; experts are refused because
 * mlx-lm keeps them stacked in layers of its own. */
static bise_status write_mlx(output *x, const char *dir, bise_error *err)
{
    const bise_lora *l = x->l;
    bise_status s = check_plain(l, "mlx", true, err);
    if (s != BISE_OK)
        return s;
    const bool same = uniform(l, scale_of);
    const float scale = same && l->n ? l->modules[0].scale : 1;
    for (size_t i = 0; i < l->n; i++) {
        const bise_lora_module *m = &l->modules[i];
        char path[256], full[280];
        const bise_family f = x->o->base ? x->o->base->config.family
                                         : BISE_FAMILY_MIXTRAL;
        if (m->role.expert >= 0)
            return bise_fail(err, BISE_EUNSUPPORTED, "mlx-lm stacks experts in "
                             "a form bise does not write");
        (void)bise_peft_path(path, m->role, f, false);
        /* mlx-lm's wrapper keeps the names of the Hub's files. */
        snprintf(full, sizeof full, "%s%s",
                 wrapper_of(x) ? "language_model." : "", path);
        add_mlx(x, m, largest_rank(l), same ? 1 : m->scale, full);
    }
    s = put_tensors(x, dir, "adapters.safetensors", err);
    return s == BISE_OK ? mlx_config(x, dir, scale, err) : s;
}

/* ---- all ---- */

/* The adapter as it is, with the facts of the output. */
static bise_status save_peft(const output *x, const char *dir, bise_error *err)
{
    bise_lora l = *x->l;
    l.lineage = x->lineage;
    return bise_lora_save_for(&l, x->o->base ? &x->o->base->config : NULL,
                              wrapper_of(x), base_name(x), dir, err);
}

/* A directory appears under its name only when all of its files are there. */
static bise_status write_dir(output *x, const char *out, bise_error *err)
{
    bise_outdir d = { 0 };
    bise_status s = bise_outdir_open(&d, out, x->o->force, err);
    if (s != BISE_OK)
        return s;
    if (x->o->to == BISE_ADAPTER_NATIVE)
        s = write_native(x, d.part_path, err);
    else if (x->o->to == BISE_ADAPTER_MLX)
        s = write_mlx(x, d.part_path, err);
    else
        s = save_peft(x, d.part_path, err);
    if (s == BISE_OK)
        return bise_outdir_commit(&d, err);
    bise_outdir_drop(&d);
    return s;
}

/* GGUF is one file, everything else a directory. */
bise_status bise_adapter_write(const bise_lora *l, const char *out,
                               const bise_adapter_options *o, bise_error *err)
{
    output x;
    bise_status s = output_init(&x, l, o, err);
    if (s != BISE_OK) {
        output_fini(&x);
        return s;
    }
    if (o->to != BISE_ADAPTER_GGUF)
        s = write_dir(&x, out, err);
    else if (!o->force && bise_file_exists(out))
        s = bise_fail(err, BISE_EINVAL, "'%s' exists", out);
    else
        s = write_gguf(&x, out, err);
    output_fini(&x);
    return s;
}
