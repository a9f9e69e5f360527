/* lora_save.c - writes an adapter as a PEFT directory (lora.md 2): F32 tensors
 * in byte order of their names, and adapter_config.json with the keys that
 * every version of PEFT, vLLM and llama.cpp's converter read. Called by the
 * trainer at every checkpoint, and by adapter convert.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/str.h"
#include "formats/safetensors.h"
#include "model/lineage.h"
#include "model/peft.h"

/* Everything the writer knows. */
typedef struct writer {
    const bise_lora *l;
    const bise_config *c; /* of the base, or NULL */
    bool wrapper;
    int32_t r;            /* of most modules */
    double alpha;
} writer;

/* Without a base the names of Mixtral serve: they contain the dense ones. */
static bise_family family_of(const writer *w)
{
    return w->c ? w->c->family : BISE_FAMILY_MIXTRAL;
}

/* Every module of an adapter has a path; the readers made sure. */
static void path_of(const writer *w, bise_role role, char out[256])
{
    if (!bise_peft_path(out, role, family_of(w), w->wrapper))
        out[0] = 0;
}

/* Bytewise, as the safetensors library sorts tensors of one type. */
static int by_name(const void *a, const void *b)
{
    return strcmp(((const bise_tensor *)a)->name,
                  ((const bise_tensor *)b)->name);
}

/* cols 0 stands for a vector. The data is borrowed until the write. */
static void add_tensor(bise_tensor *t, bise_arena *names, const char *path,
                       const char *suffix, const float *data, uint64_t rows,
                       uint64_t cols)
{
    char name[320];
    snprintf(name, sizeof name, "base_model.model.%s%s", path, suffix);
    *t = (bise_tensor){ .name = bise_arena_strdup(names, name),
                        .dtype = BISE_DTYPE_F32, .n_dims = cols ? 2 : 1,
                        .dims = { rows, cols }, .data = data,
                        .bytes = rows * (cols ? cols : 1) * sizeof(float) };
}

/* A saved tensor's shape: from the base, else one row per hidden value is not
 * known and it is written flat, which no reader accepts: refused earlier. */
static void add_saved(const writer *w, bise_tensor *t, bise_arena *names,
                      const bise_lora_saved *v)
{
    uint64_t d[3] = { v->n, 0, 0 };
    char path[256];
    path_of(w, v->role, path);
    if (w->c)
        (void)bise_role_shape(w->c, v->role, d);
    add_tensor(t, names, path, ".weight", v->w, d[0],
               v->n == d[0] ? 0 : v->n / d[0]);
}

/* All parts with PEFT's names, sorted as safetensors sorts equal types. */
static bise_status save_tensors(const writer *w, const char *dir,
                                bise_error *err)
{
    const bise_lora *l = w->l;
    bise_arena names = { 0 };
    bise_tensor *t = bise_alloc_array(3 * l->n + l->n_saved + 1, sizeof *t);
    char *path = bise_path_join(dir, "adapter_model.safetensors");
    bise_status s = t && path ? BISE_OK : bise_fail_nomem(err);
    size_t n = 0;
    for (size_t i = 0; s == BISE_OK && i < l->n; i++) {
        const bise_lora_module *m = &l->modules[i];
        char at[256];
        path_of(w, m->role, at);
        add_tensor(&t[n++], &names, at, ".lora_A.weight", m->a,
                   (uint64_t)m->r, (uint64_t)m->in);
        add_tensor(&t[n++], &names, at, ".lora_B.weight", m->b,
                   (uint64_t)m->out, (uint64_t)m->r);
        if (m->magnitude)
            add_tensor(&t[n++], &names, at, ".lora_magnitude_vector",
                       m->magnitude, (uint64_t)m->out, 0);
    }
    for (size_t i = 0; s == BISE_OK && i < l->n_saved; i++)
        add_saved(w, &t[n++], &names, &l->saved[i]);
    for (size_t i = 0; s == BISE_OK && i < n; i++)
        if (!t[i].name)
            s = bise_fail_nomem(err);
    if (s == BISE_OK) {
        qsort(t, n, sizeof *t, by_name);
        bise_json *meta = bise_lineage_to_st(l->lineage);
        s = meta ? bise_st_save(path, meta, t, n, err) : bise_fail_nomem(err);
        bise_json_free(meta);
    }
    bise_free(t);
    bise_free(path);
    bise_arena_fini(&names);
    return s;
}

/* Rank and alpha of the most modules (the first among equals). */
static void most_common(writer *w)
{
    size_t best = 0;
    for (size_t i = 0; i < w->l->n; i++) {
        const bise_lora_module *m = &w->l->modules[i];
        size_t same = 0;
        for (size_t j = 0; j < w->l->n; j++)
            same += w->l->modules[j].r == m->r &&
                    w->l->modules[j].alpha == m->alpha;
        if (same > best) {
            best = same;
            w->r = m->r;
            w->alpha = m->alpha;
        }
        if (best > w->l->n / 2)
            break;
    }
}

/* 32 rather than 32.0: vLLM and llama.cpp declare lora_alpha an integer. */
static bise_json *number(double v)
{
    return v == floor(v) && fabs(v) < 1e15 ? bise_json_new_int((int64_t)v)
                                           : bise_json_new_real(v);
}

/* Rank or alpha of a module, so that both patterns share their code. */
static double value_of(const bise_lora_module *m, bool alpha)
{
    return alpha ? m->alpha : m->r;
}

/* Do all modules of this kind agree? Then the short name is a good key. */
static bool same_in_kind(const bise_lora *l, const bise_lora_module *m,
                         bool alpha)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->modules[i].role.kind == m->role.kind &&
            value_of(&l->modules[i], alpha) != value_of(m, alpha))
            return false;
    return true;
}

/* rank_pattern or alpha_pattern: the modules that differ from the rest. */
static bise_json *make_pattern(const writer *w, bool alpha)
{
    bise_json *o = bise_json_new_object();
    const double usual = alpha ? w->alpha : w->r;
    for (size_t i = 0; i < w->l->n; i++) {
        const bise_lora_module *m = &w->l->modules[i];
        const double v = value_of(m, alpha);
        char path[256];
        if (v == usual)
            continue;
        path_of(w, m->role, path);
        (void)bise_json_set(o, same_in_kind(w->l, m, alpha)
                                   ? bise_role_module(m->role.kind) : path,
                            number(v));
    }
    return o;
}

/* Layers that have modules, and whether each has the same kinds, those of
 * experts for every expert. */
static bool is_regular(const writer *w, bool kinds[BISE_ROLE_COUNT],
                       size_t *layers)
{
    const bise_lora *l = w->l;
    size_t n_kinds = 0, in_layers = 0;
    int32_t last = -1;
    *layers = 0;
    for (size_t i = 0; i < l->n; i++) {
        const bise_role r = l->modules[i].role;
        if (r.expert >= 0 && !w->c)
            return false;
        if (r.layer >= 0 && !kinds[r.kind])
            n_kinds += r.expert >= 0 ? (size_t)w->c->E : 1;
        kinds[r.kind] = true;
        in_layers += r.layer >= 0;
        *layers += r.layer >= 0 && r.layer != last;
        last = r.layer;
    }
    return in_layers == n_kinds * *layers;
}

/* PEFT writes a set; sorted names make equal files. */
static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* target_modules: short names when every layer of the model has them; for a
 * wrapper an expression that cannot catch its vision tower, whose layers have
 * the same names (lora.md 2.1); full paths for anything irregular. */
static bise_json *make_targets(const writer *w)
{
    bool kinds[BISE_ROLE_COUNT] = { false };
    size_t layers, n = 0;
    const char *names[BISE_ROLE_COUNT];
    const bool regular = is_regular(w, kinds, &layers) &&
                         (!w->c || layers == (size_t)w->c->L);
    for (int k = 0; k < BISE_ROLE_COUNT; k++)
        if (kinds[k] && bise_role_module((bise_role_kind)k))
            names[n++] = bise_role_module((bise_role_kind)k);
    qsort(names, n, sizeof *names, by_text);
    if (regular && w->wrapper && layers && !kinds[BISE_ROLE_HEAD]) {
        bise_str re = { 0 };
        bise_str_puts(&re, "model\\.language_model\\.layers\\.\\d+\\."
                           "(self_attn|mlp)\\.(");
        for (size_t i = 0; i < n; i++)
            bise_str_printf(&re, "%s%s", i ? "|" : "", names[i]);
        bise_str_putc(&re, ')');
        bise_json *v = bise_json_new_string(bise_str_get(&re));
        bise_str_fini(&re);
        return v;
    }
    bise_json *list = bise_json_new_array();
    char path[256];
    if (regular && !w->wrapper) {
        for (size_t i = 0; i < n; i++)
            (void)bise_json_append(list, bise_json_new_string(names[i]));
        return list;
    }
    for (size_t i = 0; i < w->l->n; i++) {
        path_of(w, w->l->modules[i].role, path);
        (void)bise_json_append(list, bise_json_new_string(path));
    }
    return list;
}

/* The last component of the path, as PEFT wants it. */
static bise_json *make_saved(const writer *w)
{
    if (!w->l->n_saved)
        return bise_json_new_null();
    bise_json *list = bise_json_new_array();
    for (size_t i = 0; i < w->l->n_saved; i++) {
        char path[256];
        path_of(w, w->l->saved[i].role, path);
        const char *dot = strrchr(path, '.');
        (void)bise_json_append(list, bise_json_new_string(dot ? dot + 1
                                                              : path));
    }
    return list;
}

/* The keys of adapter_config.json, each value taken by the object. */
static bise_json *make_config(const writer *w, const char *base_name)
{
    const bise_lora *l = w->l;
    const struct { const char *key; bise_json *value; } t[] = {
        { "alpha_pattern", make_pattern(w, true) },
        { "base_model_name_or_path",
          base_name && *base_name ? bise_json_new_string(base_name)
                                  : bise_json_new_null() },
        { "bias", bise_json_new_string("none") },
        { "fan_in_fan_out", bise_json_new_bool(false) },
        { "inference_mode", bise_json_new_bool(true) },
        { "init_lora_weights", bise_json_new_bool(true) },
        { "layers_pattern", bise_json_new_null() },
        { "layers_to_transform", bise_json_new_null() },
        { "lora_alpha", number(w->alpha) },
        { "lora_dropout", bise_json_new_real(round(l->dropout * 1e6) / 1e6) },
        { "modules_to_save", make_saved(w) },
        { "peft_type", bise_json_new_string("LORA") },
        { "r", bise_json_new_int(w->r) },
        { "rank_pattern", make_pattern(w, false) },
        { "revision", bise_json_new_null() },
        { "target_modules", make_targets(w) },
        { "task_type", bise_json_new_string("CAUSAL_LM") },
        { "use_dora", bise_json_new_bool(l->dora) },
        { "use_rslora", bise_json_new_bool(l->rslora) },
    };
    bise_json *o = bise_json_new_object();
    int bad = !o;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        bad |= bise_json_set(o, t[i].key, t[i].value);
    if (!bad)
        return o;
    bise_json_free(o);
    return NULL;
}

/* 8 and 8 are PEFT's own defaults, for an adapter without modules. */
static writer make_writer(const bise_lora *l, const bise_config *base,
                          bool wrapper)
{
    writer w = { .l = l, .c = base, .wrapper = wrapper, .r = 8, .alpha = 8 };
    most_common(&w);
    return w;
}

/* The same object that _save writes. */
bise_json *bise_lora_peft_config(const bise_lora *l, const bise_config *base,
                                 bool wrapper, const char *base_name)
{
    const writer w = make_writer(l, base, wrapper);
    return make_config(&w, base_name);
}

/* Indent 2 and sorted keys, as PEFT writes it. */
static bise_status save_config(const writer *w, const char *base_name,
                               const char *dir, bise_error *err)
{
    bise_str text = { 0 };
    bise_json *o = make_config(w, base_name);
    bise_json_dump(&text, o, 2, true);
    char *path = bise_path_join(dir, "adapter_config.json");
    const bise_status s = !o || !path || !bise_str_ok(&text)
        ? bise_fail_nomem(err)
        : bise_file_write(path, bise_str_get(&text), text.len, err);
    bise_json_free(o);
    bise_free(path);
    bise_str_fini(&text);
    return s;
}

/* Tensors first: settings without tensors would look like an adapter. */
bise_status bise_lora_save_for(const bise_lora *l, const bise_config *base,
                               bool wrapper, const char *base_name,
                               const char *dir, bise_error *err)
{
    const writer w = make_writer(l, base, wrapper);
    if (l->n_saved && !base)
        return bise_fail(err, BISE_EINVAL, "modules_to_save need the base for "
                         "their shape");
    const bise_status s = save_tensors(&w, dir, err);
    return s == BISE_OK ? save_config(&w, base_name, dir, err) : s;
}

/* The class of the base decides the names (lora.md 2.2 a). */
bise_status bise_lora_save_peft(const bise_lora *l,
                                const bise_checkpoint *base,
                                const char *base_name, const char *dir,
                                bise_error *err)
{
    return bise_lora_save_for(l, base ? &base->config : NULL,
                              base ? base->config.wrapper : l->wrapper,
                              base_name, dir, err);
}
