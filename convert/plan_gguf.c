/* plan_gguf.c - the plan of a GGUF output: which tensors, under which names,
 * in which type (mistral3.md 6.3). Norms, vectors and routers are F32; a tied
 * head is left out; experts are stacked; a GGUF input keeps its own tensors
 * and keys. Quantization retypes this plan afterwards (quantize/).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "convert/convert.h"
#include "convert/weights.h"

/* Kept in float32 by every converter. */
static bool always_f32(const char *name, int n_dims)
{
    return n_dims < 2 || bise_ends_with(name, "_norm.weight") ||
           strstr(name, "ffn_gate_inp.weight") ||
           !bise_ends_with(name, ".weight");
}

/* The type of a tensor: the one asked for, else the stored one, where float8
 * becomes BF16. Rows that a block type cannot hold are F16, as the reference
 * converter does. */
static bise_dtype type_for(const char *name, int n_dims, uint64_t cols,
                           bise_dtype stored, bise_dtype want)
{
    if (always_f32(name, n_dims))
        return BISE_DTYPE_F32;
    bise_dtype t = want == BISE_DTYPE_NONE ? stored : want;
    if (bise_dtype_get(t)->gguf_id < 0)
        t = BISE_DTYPE_BF16;
    if (cols % bise_dtype_get(t)->block_len)
        t = BISE_DTYPE_F16;
    return t;
}

/* A plan row; the type rule needs the final name and rank. */
static bise_status add(bise_plan *p, const bise_weights *w, bise_role role,
                       const char *name, const bise_weight_rows *rows,
                       bise_dtype want, bise_error *err)
{
    (void)w;
    bise_plan_tensor t = { .name = name, .role = role, .stream = rows->stream,
                           .n_dims = rows->n_dims };
    memcpy(t.dims, rows->dims, sizeof t.dims);
    t.dtype = type_for(name, rows->n_dims, bise_stream_cols(rows->stream),
                       rows->stored, want);
    return bise_plan_add(p, &t, err);
}

/* A role under its GGUF name. kv_b is split and fused experts are taken apart
 * where the architecture's loader wants that. */
static bise_status add_role(bise_plan *p, const bise_weights *w,
                            bise_role role, bise_dtype want, bise_error *err)
{
    const bise_family family = w->c->config.family;
    char name[192];
    bise_weight_rows rows;
    if (role.kind == BISE_ROLE_HEAD && w->c->config.tied)
        return BISE_OK;
    if (role.kind == BISE_ROLE_KV_B) {          /* split for the runtime */
        bise_role part = role;
        part.kind = BISE_ROLE_K_B;
        bise_status s = add_role(p, w, part, want, err);
        part.kind = BISE_ROLE_V_B;
        return s == BISE_OK ? add_role(p, w, part, want, err) : s;
    }
    bise_status s = bise_weights_get(&rows, w, role, BISE_ROWS_INTERLEAVED,
                                     err);
    if (s != BISE_OK)
        return s;
    if (!bise_role_name_in(name, role, BISE_NAMES_GGUF, family))
        return bise_fail(err, BISE_EUNSUPPORTED,
                         "a tensor of kind %d has no GGUF name",
                         (int)role.kind);
    return add(p, w, role, name, &rows, want, err);
}

/* Forward order, which is also the order of checkpoints on the Hub. */
static bise_status add_roles(bise_plan *p, const bise_weights *w,
                             bise_dtype want, bise_error *err)
{
    const bise_config *g = &w->c->config;
    const size_t n = bise_config_roles(g, NULL, 0);
    bise_role *roles = bise_alloc_array(n + 1, sizeof *roles);
    if (!roles)
        return bise_fail_nomem(err);
    bise_config_roles(g, roles, n);
    bise_status s = BISE_OK;
    for (size_t i = 0; i < n && s == BISE_OK; i++)
        s = add_role(p, w, roles[i], want, err);
    bise_free(roles);
    return s;
}

/* A GGUF input keeps its tensors, order and names, known to bise or not. */
static bise_status add_stored(bise_plan *p, const bise_weights *w,
                              bise_dtype want, bise_error *err)
{
    bise_store *store = w->c->store;
    bise_status s = BISE_OK;
    size_t next = 0;
    for (size_t i = 0; i < bise_store_count(store) && s == BISE_OK; i++) {
        const bise_tensor *t = bise_store_at(store, i);
        const bise_weight *q = bise_checkpoint_next(w->c, t, &next);
        bise_plan_tensor out = { .name = t->name, .n_dims = t->n_dims,
                                 .dtype = t->dtype,
                                 .role = { BISE_ROLE_OPAQUE, -1, -1 } };
        memcpy(out.dims, t->dims, sizeof out.dims);
        out.stream = bise_stream_tensor(&p->arena, store, t);
        if (q) {
            bise_weight_rows rows;
            s = q->role.kind == BISE_ROLE_OPAQUE
                    ? bise_weights_of(&rows, w, q, q->rows, err)
                    : bise_weights_get(&rows, w, q->role, q->rows, err);
            out.stream = rows.stream;
            out.role = q->role;
        }
        if (want != BISE_DTYPE_NONE && !always_f32(t->name, t->n_dims))
            out.dtype = type_for(t->name, t->n_dims, bise_tensor_cols(t),
                                 t->dtype, want);
        if (s == BISE_OK)
            s = bise_plan_add(p, &out, err);
    }
    return s;
}

/* general.file_type: of the type asked for, else of the first matrix. */
static int file_type(const bise_plan *p, bise_dtype want)
{
    bise_dtype t = want;
    for (size_t i = 0; i < p->n && t == BISE_DTYPE_NONE; i++)
        if (p->tensors[i].n_dims > 1 && p->tensors[i].role.layer >= 0)
            t = p->tensors[i].dtype;
    return t == BISE_DTYPE_NONE ? 0 : bise_dtype_get(t)->file_type;
}

/* A GGUF input keeps its keys; split.* are made anew by the layout. */
bise_status bise_convert_plan_gguf(bise_plan *p, bise_checkpoint *c,
                                   const bise_convert_options *o,
                                   bise_error *err)
{
    bise_plan_init(p, BISE_PLAN_GGUF);
    p->split_bytes = o->split_bytes;
    const bise_weights w = { .c = c, .loras = o->loras, .n_loras = o->n_loras,
                             .arena = &p->arena };
    const bise_gguf_meta *old = bise_store_gguf(c->store);
    bise_status s = old ? add_stored(p, &w, o->dtype, err)
                        : add_roles(p, &w, o->dtype, err);
    if (s == BISE_OK)
        s = bise_vocabulary_resize(p, o->vocab, err);
    bise_checkpoint view = *c;                  /* as it will be */
    view.config.V = o->vocab > 0 ? o->vocab : c->config.V;
    if (s == BISE_OK && !old)
        s = bise_convert_gguf_meta(&p->meta, &view, o, file_type(p, o->dtype),
                                   err);
    /* keys of the input */
    for (size_t i = 0; s == BISE_OK && old && i < old->n; i++)
        if (!bise_starts_with(old->kv[i].key, "split."))
            bise_gguf_copy(&p->meta, &old->kv[i]);
    if (old && o->dtype != BISE_DTYPE_NONE)
        bise_gguf_set_u32(&p->meta, "general.file_type",
                          (uint32_t)file_type(p, o->dtype));
    return s != BISE_OK ? s : bise_plan_origin(
        p, bise_convert_lineage(c, o->loras, o->n_loras), err);
}
