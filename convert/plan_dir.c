/* plan_dir.c - the plan of a directory output, Hugging Face or native. When
 * the layout stays, every tensor keeps its name, order, prefix and (unless
 * asked otherwise) type, vision and unknown tensors included; otherwise the
 * tensors of the model, its vision tower among them, are written under the
 * names of the other layout, in the order of the safetensors library. Side
 * files go along; configuration is brought up to date.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert/convert.h"
#include "convert/float8.h"
#include "convert/tokenizer_files.h"
#include "convert/vision.h"
#include "convert/weights.h"
#include "core/strmap.h"
#include "model/lineage.h"
#include "text/template.h"

/* Names tell the layout: a directory and an archive of it are the same. */
bise_layout bise_convert_layout_of(const bise_checkpoint *c)
{
    switch (c->names) {
    case BISE_NAMES_NATIVE: return BISE_TO_NATIVE;
    case BISE_NAMES_GGUF: return BISE_TO_GGUF;
    default: return BISE_TO_HF;
    }
}

/* Types that safetensors can hold; others are decoded to BF16. */
static bise_dtype type_for(bise_dtype stored, const bise_convert_options *o)
{
    const bool fp8 = stored == BISE_DTYPE_F8_E4M3 ||
                     stored == BISE_DTYPE_F8_E5M2;
    if (fp8 && o->keep_fp8 && o->dtype == BISE_DTYPE_NONE)
        return stored;
    if (!fp8 && !bise_dtype_is_quant(stored) && !bise_dtype_is_float(stored))
        return stored;                          /* integers stay */
    if (o->dtype != BISE_DTYPE_NONE)
        return o->dtype;
    return fp8 || bise_dtype_is_quant(stored) ? BISE_DTYPE_BF16 : stored;
}

/* The names of all scales that belong to a weight. Without it they are dropped
 * or kept together. */
static bise_status list_scales(bise_strmap *names, const bise_checkpoint *c,
                               bise_error *err)
{
    if (bise_strmap_init(names, 2 * c->n) != 0)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < c->n; i++) {
        const bise_tensor *const t[2] = { c->weights[i].scale,
                                          c->weights[i].act_scale };
        for (int k = 0; k < 2; k++)
            if (t[k] && bise_strmap_add(names, t[k]->name, strlen(t[k]->name),
                                        0) < 0)
                return bise_fail_nomem(err);
    }
    return BISE_OK;
}

/* A copy of the embedding that nobody reads: left out, as opening said. It
 * would not follow when adapters or another type change the embedding. */
static bool is_tied_head(const bise_checkpoint *c, const bise_tensor *t)
{
    const char *const own = c->names == BISE_NAMES_NATIVE ? "output.weight"
                                                          : "lm_head.weight";
    char name[256];
    if (!c->config.tied || c->names == BISE_NAMES_GGUF)
        return false;
    snprintf(name, sizeof name, "%s%s", c->prefix, own);
    return strcmp(t->name, own) == 0 || strcmp(t->name, name) == 0;
}

/* A plan row from what weights.h found. */
static bise_status add_tensor(bise_plan *p, const char *name, bise_role role,
                              const bise_weight_rows *rows, bise_dtype type,
                              bise_error *err)
{
    bise_plan_tensor t = { .name = name, .role = role, .dtype = type,
                           .n_dims = rows->n_dims, .stream = rows->stream };
    memcpy(t.dims, rows->dims, sizeof t.dims);
    return bise_plan_add(p, &t, err);
}

/* Same layout: the store's tensors one by one. Float8 weights that are merged
 * or decoded lose their scales. */
static bise_status add_same(bise_plan *p, const bise_weights *w,
                            const bise_convert_options *o, bise_error *err)
{
    bise_store *store = w->c->store;
    bise_strmap scales = { 0 };
    size_t next = 0;
    bise_status s = list_scales(&scales, w->c, err);
    for (size_t i = 0; i < bise_store_count(store) && s == BISE_OK; i++) {
        const bise_tensor *t = bise_store_at(store, i);
        const bise_weight *q = bise_checkpoint_next(w->c, t, &next);
        bise_weight_rows rows = { .stored = t->dtype, .n_dims = t->n_dims };
        memcpy(rows.dims, t->dims, sizeof rows.dims);
        bise_role role = { BISE_ROLE_OPAQUE, -1, -1 };
        bise_dtype type = t->dtype;
        const bool scale = bise_strmap_find(&scales, t->name,
                                            strlen(t->name)) !=
                           BISE_STRMAP_NONE;
        if ((scale && !o->keep_fp8) || is_tied_head(w->c, t))
            continue;
        rows.stream = bise_stream_tensor(&p->arena, store, t);
        if (q) {
            role = q->role;
            /* Vision and other passed-on tensors keep their type. */
            type = role.kind == BISE_ROLE_OPAQUE && !q->scales
                       ? t->dtype : type_for(t->dtype, o);
            const bool plain = role.kind == BISE_ROLE_OPAQUE;
            if (type != t->dtype || !q->scales || o->n_loras)
                s = plain ? bise_weights_of(&rows, w, q, q->rows, err)
                          : bise_weights_get(&rows, w, role, q->rows, err);
        }
        if (s == BISE_OK)
            s = add_tensor(p, t->name, role, &rows, type, err);
    }
    bise_strmap_fini(&scales);
    return s;
}

/* The name of a role in the output. A wrapper's text model has the prefix that
 * the files of the Hub have (mistral3.md 2.3). */
static bool name_in(char out[256], const bise_checkpoint *c, bise_role role,
                    bise_names names)
{
    if (names == BISE_NAMES_HF)
        return bise_role_name_prefixed(out, role, c->config.family,
                                       bise_vision_stored(c)
                                           ? "language_model." : "");
    char name[192];
    if (!bise_role_name_in(name, role, names, c->config.family))
        return false;
    snprintf(out, 256, "%s", name);
    return true;
}

/* Stacked and fused experts have other scales than experts one by one. */
static bise_status refuse_keep(const bise_checkpoint *c, const char *name,
                               bise_error *err)
{
    err->status = bise_fail(err, BISE_EUNSUPPORTED, "'%s' is put together from "
                            "float8 tensors with scales of their own: float8 "
                            "cannot be kept in this layout", name);
    err->status = bise_error_hint(err, "leave out --dtype keep: they become "
                                  "BF16");
    return bise_error_in(err, bise_store_path(c->store), name);
}

/* A role in another layout. Experts are written one by one, except for the
 * families whose HF files stack them, gate and up of each fused. */
static bise_status add_role(bise_plan *p, const bise_weights *w,
                            bise_role role, bise_names names,
                            const bise_convert_options *o, bise_error *err)
{
    char name[256];
    const bise_config *g = &w->c->config;
    const bise_rows order =
        names == BISE_NAMES_HF ? BISE_ROWS_HALF : BISE_ROWS_INTERLEAVED;
    const bool expert = role.kind == BISE_ROLE_EXP_GATE ||
                        role.kind == BISE_ROLE_EXP_UP ||
                        role.kind == BISE_ROLE_EXP_DOWN;
    if (role.kind == BISE_ROLE_HEAD && g->tied)
        return BISE_OK;
    const bool stacked = expert && names == BISE_NAMES_HF &&
                         g->family == BISE_FAMILY_MISTRAL4;
    if (stacked && role.kind == BISE_ROLE_EXP_UP)
        return BISE_OK;                         /* inside gate_up */
    if (stacked && role.kind == BISE_ROLE_EXP_GATE)
        role.kind = BISE_ROLE_EXP_GATE_UP;
    if (expert && role.expert < 0 && !stacked) {
        bise_status s = BISE_OK;
        for (int32_t e = 0; e < g->E && s == BISE_OK; e++) {
            role.expert = e;
            s = add_role(p, w, role, names, o, err);
        }
        return s;
    }
    if (!name_in(name, w->c, role, names))
        return bise_fail(err, BISE_EUNSUPPORTED, "a tensor of kind %d has no "
                         "name in the output's layout", (int)role.kind);
    const bise_weight *q = bise_checkpoint_find(w->c, role);
    if (o->keep_fp8 && q && q->scales)
        return bise_float8_add(p, w->c, q, name, names, err);
    bise_weight_rows rows;
    bise_status s = bise_weights_get(&rows, w, role, order, err);
    if (s == BISE_OK && o->keep_fp8 && rows.stored == BISE_DTYPE_F8_E4M3)
        return refuse_keep(w->c, name, err);
    if (s == BISE_OK)
        s = add_tensor(p, name, role, &rows, type_for(rows.stored, o), err);
    return s;
}

/* The roles of a forward pass; sorting by name follows. */
static bise_status add_roles(bise_plan *p, const bise_weights *w,
                             bise_names names, const bise_convert_options *o,
                             bise_error *err)
{
    const bise_config *g = &w->c->config;
    const size_t n = bise_config_roles(g, NULL, 0);
    bise_role *roles = bise_alloc_array(n + 1, sizeof *roles);
    if (!roles)
        return bise_fail_nomem(err);
    bise_config_roles(g, roles, n);
    bise_status s = BISE_OK;
    for (size_t i = 0; i < n && s == BISE_OK; i++)
        s = add_role(p, w, roles[i], names, o, err);
    bise_free(roles);
    return s;
}

/* Native files say nothing of the tower's activation, it is SiLU there. */
static bise_status check_act(const bise_checkpoint *c, bise_names names,
                             bise_error *err)
{
    const char *act = bise_vision_act(c);
    if (names != BISE_NAMES_NATIVE || strcmp(act, "silu") == 0)
        return BISE_OK;
    err->status = bise_fail(err, BISE_EUNSUPPORTED, "the vision tower's "
                            "hidden_act is '%s', native files can only have "
                            "silu", act);
    return bise_error_in(err, bise_store_path(c->store), NULL);
}

/* Tower and projector under their names in the other layout, in their types;
 * q and k have the row orders of the text model's. */
static bise_status add_vision(bise_plan *p, const bise_weights *w,
                              bise_names names, bise_error *err)
{
    const bise_checkpoint *c = w->c;
    if (!bise_vision_stored(c))
        return BISE_OK;
    const int32_t heads = (int32_t)bise_vision_number(
        bise_vision_config(c), "num_attention_heads", 16);
    bise_status s = check_act(c, names, err);
    for (size_t i = 0; i < c->n && s == BISE_OK; i++) {
        const bise_tensor *t = c->weights[i].tensor;
        char name[128];
        int layer;
        if (c->weights[i].role.kind != BISE_ROLE_OPAQUE)
            continue;
        const bise_vision_row *r = bise_vision_find(t->name, c->names, &layer);
        if (!r || t->dtype == BISE_DTYPE_F8_E4M3) {
            s = bise_fail(err, BISE_EUNSUPPORTED, "'%s' (%s) of the vision "
                          "part has no place in the output's layout", t->name,
                          bise_dtype_get(t->dtype)->name);
            return bise_error_in(err, bise_store_path(c->store), t->name);
        }
        bise_vision_name(name, r, names, layer);
        bise_weight_rows rows = { .stored = t->dtype, .n_dims = t->n_dims };
        memcpy(rows.dims, t->dims, sizeof rows.dims);
        rows.stream = bise_stream_tensor(&p->arena, c->store, t);
        const bool hf = names == BISE_NAMES_HF;
        if (r->rotated)
            rows.stream = bise_stream_permute(
                &p->arena, rows.stream, heads,
                hf ? BISE_ROWS_INTERLEAVED : BISE_ROWS_HALF,
                hf ? BISE_ROWS_HALF : BISE_ROWS_INTERLEAVED);
        s = add_tensor(p, name, c->weights[i].role, &rows, t->dtype, err);
    }
    return s;
}

/* Files that belong to a model beside its weights and configuration. */
static bool is_model_file(const char *name)
{
    static const char *const ends[] = { ".json", ".jinja", ".md", ".model" };
    if (strchr(name, '/') || bise_ends_with(name, ".index.json"))
        return false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (bise_ends_with(name, ends[i]))
            return true;
    return bise_starts_with(name, "tokenizer.model") ||
           bise_lineage_is_licence(name) || bise_lineage_is_notice(name) ||
           strcmp(name, "merges.txt") == 0 || strcmp(name, "vocab.txt") == 0;
}

/* Written anew, never copied: it must agree with the weights. */
static bool is_config(const char *name)
{
    return strcmp(name, "config.json") == 0 ||
           strcmp(name, "params.json") == 0;
}

/* A GGUF has its chat template inside, a directory beside it. */
static bise_status add_template(bise_plan *p, bise_checkpoint *c,
                                bise_error *err)
{
    bise_str text = { 0 };
    const char *source = NULL;
    bise_status s = bise_template_text(&text, &source, c->store, err);
    if (s == BISE_OK && source)
        s = bise_plan_add_text(p, "chat_template.jinja", bise_str_get(&text),
                               text.len, err);
    bise_str_fini(&text);
    return s;
}

/* The configuration first, then the files of the model. Weights of another
 * layout in the same folder are not files of the model. */
static bise_status add_sides(bise_plan *p, bise_checkpoint *c,
                             const bise_convert_options *o, bise_layout to,
                             bise_dtype main_type, bise_error *err)
{
    bise_str text = { 0 };
    bise_status s = bise_convert_config(&text, c, to, main_type, o->keep_fp8,
                                        err);
    if (s == BISE_OK)
        s = bise_plan_add_text(p, to == BISE_TO_HF ? "config.json"
                                                   : "params.json",
                               bise_str_get(&text), text.len, err);
    bise_str_fini(&text);
    if (s == BISE_OK && bise_store_gguf(c->store) && to == BISE_TO_HF)
        s = add_template(p, c, err);
    for (size_t i = 0; i < bise_store_file_count(c->store) && s == BISE_OK;
         i++) {
        const char *name = bise_store_file_at(c->store, i);
        if (is_model_file(name) && !is_config(name))
            s = bise_plan_add_copy(p, c->store, name, err);
    }
    if (s == BISE_OK && to != bise_convert_layout_of(c))
        s = bise_tokenizer_files_add(p, c, to, o->progress, err);
    return s;
}

/* The type most weights have, for config.json's dtype. */
static bise_dtype main_type(const bise_plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->tensors[i].role.kind == BISE_ROLE_EMBED)
            return p->tensors[i].dtype;
    return BISE_DTYPE_BF16;
}

/* The order of the safetensors library: wider types first, then by name, so
 * that converting there and back gives the same file. */
static int by_name(const void *a, const void *b)
{
    const bise_plan_tensor *x = a, *y = b;
    const uint32_t bx = bise_dtype_get(x->dtype)->block_bytes;
    const uint32_t by = bise_dtype_get(y->dtype)->block_bytes;
    return bx != by ? (bx > by ? -1 : 1) : strcmp(x->name, y->name);
}

/* Same layout: tensor by tensor, nothing lost. Another layout: role by
 * role, in the order that the safetensors library would write. */
bise_status bise_convert_plan_dir(bise_plan *p, bise_checkpoint *c,
                                  const bise_convert_options *o,
                                  bise_error *err)
{
    bise_plan_init(p, BISE_PLAN_SAFETENSORS);
    p->split_bytes = o->split_bytes;
    if (o->to == BISE_TO_NATIVE)
        p->weights_name = "consolidated";
    if (o->dtype != BISE_DTYPE_NONE && !bise_dtype_get(o->dtype)->safetensors)
        return bise_fail(err, BISE_EINVAL, "type %s is not one of safetensors",
                         bise_dtype_get(o->dtype)->name);
    const bise_weights w = { .c = c, .loras = o->loras, .n_loras = o->n_loras,
                             .arena = &p->arena };
    const bool same = o->to == bise_convert_layout_of(c);
    const bise_names names = o->to == BISE_TO_HF ? BISE_NAMES_HF
                                                 : BISE_NAMES_NATIVE;
    bise_status s = o->keep_fp8 ? bise_float8_check(c, o->n_loras, err)
                                : BISE_OK;
    if (s != BISE_OK)
        return s;
    if (same)
        s = add_same(p, &w, o, err);
    else
        s = add_roles(p, &w, names, o, err);
    if (s == BISE_OK && !same)
        s = add_vision(p, &w, names, err);
    if (s == BISE_OK && !same)
        qsort(p->tensors, p->n, sizeof *p->tensors, by_name);
    if (s == BISE_OK)
        s = bise_vocabulary_resize(p, o->vocab, err);
    bise_checkpoint view = *c;                  /* as it will be */
    view.config.V = o->vocab > 0 ? o->vocab : c->config.V;
    if (s == BISE_OK)
        s = add_sides(p, &view, o, o->to, main_type(p), err);
    return s != BISE_OK ? s : bise_plan_origin(
        p, bise_convert_lineage(c, o->loras, o->n_loras), err);
}

/* SAME is resolved here, so that the plan makers see a layout. */
bise_status bise_convert_plan(bise_plan *p, bise_checkpoint *c,
                              const bise_convert_options *o, bise_error *err)
{
    bise_convert_options full = *o;
    if (full.to == BISE_TO_SAME)
        full.to = bise_convert_layout_of(c);
    if (full.to == BISE_TO_GGUF)
        return bise_convert_plan_gguf(p, c, &full, err);
    return bise_convert_plan_dir(p, c, &full, err);
}
