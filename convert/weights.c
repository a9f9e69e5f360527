/* weights.c - see weights.h. Adapters are in the HF (half) row order, so an
 * interleaved weight that gets one is permuted before and after.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "convert/weights.h"

#include <string.h>

/* The same place in the model, another kind or expert. */
static bise_role with(bise_role r, bise_role_kind kind, int32_t expert)
{
    r.kind = kind;
    r.expert = expert;
    return r;
}

/* modules_to_save of an adapter replace the base's tensor; the last wins. */
static const float *saved_for(const bise_weights *w, bise_role role,
                              uint64_t *n)
{
    const float *found = NULL;
    for (int i = 0; i < w->n_loras; i++)
        for (size_t k = 0; k < w->loras[i]->n_saved; k++)
            if (bise_role_equal(w->loras[i]->saved[k].role, role)) {
                found = w->loras[i]->saved[k].w;
                *n = w->loras[i]->saved[k].n;
            }
    return found;
}

/* All adapters that train this role, in the order of the command line. */
static const bise_stream *add_role(const bise_weights *w, const bise_stream *s,
                                   bise_role role)
{
    for (int i = 0; i < w->n_loras; i++) {
        const bise_lora_module *m = bise_lora_find(w->loras[i], role);
        if (m)
            s = bise_stream_lora(w->arena, s, m);
    }
    return s;
}

/* Is there an adapter for the role? Untouched weights stay bytes. */
static bool touched(const bise_weights *w, bise_role role)
{
    for (int i = 0; i < w->n_loras; i++)
        if (bise_lora_find(w->loras[i], role))
            return true;
    return false;
}

/* modules_to_save replace the tensor and are in half order, like adapters.
 * The order of stages is: stored, to half order, adapters, to the wanted
 * order; permutations that are not needed drop out. */
bise_status bise_weights_of(bise_weight_rows *out, const bise_weights *w,
                            const bise_weight *weight, bise_rows to,
                            bise_error *err)
{
    const bise_tensor *t = weight->tensor;
    const bise_role role = weight->role;
    /* The head of a tied model is its embedding: adapters on either count. */
    const bise_role head = { BISE_ROLE_HEAD, -1, -1 };
    const bool tied_embed = role.kind == BISE_ROLE_EMBED && w->c->config.tied;
    bise_rows order = weight->rows;
    uint64_t n = 0;
    const float *saved = saved_for(w, role, &n);
    if (!saved && tied_embed)
        saved = saved_for(w, head, &n);
    const bise_stream *s;
    if (saved && n == bise_tensor_count(t)) {
        s = bise_stream_memory(w->arena, saved, bise_tensor_rows(t),
                               bise_tensor_cols(t));
        order = order == BISE_ROWS_PLAIN ? order : BISE_ROWS_HALF;
    } else {
        s = bise_stream_weight(w->arena, w->c->store, weight);
    }
    if (role.kind != BISE_ROLE_OPAQUE &&
        (touched(w, role) || (tied_embed && touched(w, head)))) {
        s = bise_stream_permute(w->arena, s, weight->heads, order,
                                BISE_ROWS_HALF);
        order = order == BISE_ROWS_PLAIN ? order : BISE_ROWS_HALF;
        s = add_role(w, s, role);
        if (tied_embed)
            s = add_role(w, s, head);
    }
    s = bise_stream_permute(w->arena, s, weight->heads, order, to);
    out->stream = s;
    out->stored = t->dtype;
    out->n_dims = t->n_dims;
    memcpy(out->dims, t->dims, sizeof t->dims);
    return s ? BISE_OK : bise_fail_nomem(err);
}

/* One expert's matrix of a stacked or fused weight. */
static const bise_stream *expert_slice(const bise_weights *w, bise_role role,
                                       bise_dtype *stored)
{
    const bise_config *g = &w->c->config;
    const bise_weight *q = bise_checkpoint_find(w->c, role);
    const bise_weight *all =
        bise_checkpoint_find(w->c, with(role, role.kind, -1));
    const bise_weight *fused =
        bise_checkpoint_find(w->c, with(role, BISE_ROLE_EXP_GATE_UP, -1));
    const bise_weight *from = q ? q : all ? all : fused;
    if (!from || g->E <= 0)
        return NULL;
    *stored = from->tensor->dtype;
    const bise_stream *s = bise_stream_weight(w->arena, w->c->store, from);
    if (!s || q)
        return s ? add_role(w, s, role) : NULL;
    const uint64_t rows = bise_stream_rows(s) / (uint64_t)g->E;
    const uint64_t first = rows * (uint64_t)role.expert;
    if (all)
        s = bise_stream_slice(w->arena, s, first, rows);
    else        /* gate rows first, then up rows */
        s = bise_stream_slice(w->arena, s, role.kind == BISE_ROLE_EXP_UP
                                               ? first + rows / 2 : first,
                              rows / 2);
    return s ? add_role(w, s, role) : NULL;
}

/* All experts one after another; gate and up of each for the fused role. */
static const bise_stream *expert_stack(const bise_weights *w, bise_role role,
                                       bise_dtype *stored)
{
    const int32_t E = w->c->config.E;
    const bool fused = role.kind == BISE_ROLE_EXP_GATE_UP;
    const size_t n = (size_t)E * (fused ? 2 : 1);
    const bise_stream **parts =
        E > 0 ? bise_arena_alloc(w->arena, n * sizeof *parts) : NULL;
    if (!parts)
        return NULL;
    for (int32_t e = 0; e < E; e++) {
        const bise_role one = with(role, role.kind, e);
        if (!fused) {
            parts[e] = expert_slice(w, one, stored);
            continue;
        }
        parts[2 * e] = expert_slice(w, with(one, BISE_ROLE_EXP_GATE, e),
                                    stored);
        parts[2 * e + 1] = expert_slice(w, with(one, BISE_ROLE_EXP_UP, e),
                                        stored);
    }
    for (size_t i = 0; i < n; i++)
        if (!parts[i])
            return NULL;
    return bise_stream_stack(w->arena, parts, n);
}

/* k_b and v_b back to one matrix: k_b transposed, head by head, then v_b. */
static const bise_stream *join_kv(const bise_weights *w, bise_role role,
                                  bise_dtype *stored)
{
    const bise_config *g = &w->c->config;
    const bise_weight *k =
        bise_checkpoint_find(w->c, with(role, BISE_ROLE_K_B, -1));
    const bise_weight *v =
        bise_checkpoint_find(w->c, with(role, BISE_ROLE_V_B, -1));
    const size_t n = 2 * (size_t)(g->H > 0 ? g->H : 0);
    const bise_stream **parts = bise_arena_alloc(w->arena, n * sizeof *parts);
    if (!k || !v || !parts || n == 0)
        return NULL;
    *stored = k->tensor->dtype;
    const bise_stream *ks = bise_stream_weight(w->arena, w->c->store, k);
    const bise_stream *vs = bise_stream_weight(w->arena, w->c->store, v);
    const uint64_t lora = (uint64_t)g->kv_lora, vd = (uint64_t)g->v_dim;
    for (int32_t h = 0; h < g->H; h++) {
        parts[2 * h] = bise_stream_transpose(
            w->arena,
            bise_stream_slice(w->arena, ks, (uint64_t)h * lora, lora), 1);
        parts[2 * h + 1] =
            bise_stream_slice(w->arena, vs, (uint64_t)h * vd, vd);
    }
    return bise_stream_stack(w->arena, parts, n);
}

/* kv_b, stored or of its parts, with its adapters. */
static const bise_stream *whole_kv(const bise_weights *w, bise_role role,
                                   bise_dtype *stored)
{
    const bise_role joined = with(role, BISE_ROLE_KV_B, -1);
    const bise_weight *q = bise_checkpoint_find(w->c, joined);
    const bise_stream *s;
    if (q) {
        *stored = q->tensor->dtype;
        s = bise_stream_weight(w->arena, w->c->store, q);
    } else {
        s = join_kv(w, role, stored);
    }
    return s ? add_role(w, s, joined) : NULL;
}

/* kv_b [H (nope + v), kv_lora] to k_b, per head transposed: [H, kv_lora, nope],
 * and v_b [H, v, kv_lora] (mistral3.md 6.3). */
static const bise_stream *split_kv(const bise_weights *w, bise_role role,
                                   bise_dtype *stored)
{
    const bise_config *g = &w->c->config;
    const uint64_t nope = (uint64_t)g->qk_nope, v = (uint64_t)g->v_dim;
    const bise_stream **parts =
        bise_arena_alloc(w->arena, (size_t)g->H * sizeof *parts);
    const bise_stream *all = parts && g->H > 0 ? whole_kv(w, role, stored)
                                               : NULL;
    for (int32_t h = 0; h < g->H && all; h++) {
        const uint64_t first = (uint64_t)h * (nope + v);
        if (role.kind == BISE_ROLE_K_B)
            parts[h] = bise_stream_transpose(
                w->arena, bise_stream_slice(w->arena, all, first, nope), 1);
        else
            parts[h] = bise_stream_slice(w->arena, all, first + nope, v);
    }
    return all ? bise_stream_stack(w->arena, parts, (size_t)g->H) : NULL;
}

/* Is the related role stored? */
static bool has(const bise_weights *w, bise_role role, bise_role_kind kind,
                int32_t expert)
{
    return bise_checkpoint_find(w->c, with(role, kind, expert)) != NULL;
}

/* Mirrors the cases of bise_weights_get without making streams. */
bool bise_weights_has(const bise_weights *w, bise_role role)
{
    if (bise_checkpoint_find(w->c, role))
        return true;
    switch (role.kind) {
    case BISE_ROLE_K_B:
    case BISE_ROLE_V_B:
        return has(w, role, BISE_ROLE_KV_B, -1);
    case BISE_ROLE_KV_B:
        return has(w, role, BISE_ROLE_K_B, -1) &&
               has(w, role, BISE_ROLE_V_B, -1);
    case BISE_ROLE_EXP_GATE_UP:
        return has(w, role, BISE_ROLE_EXP_GATE, 0) ||
               has(w, role, BISE_ROLE_EXP_GATE, -1);
    case BISE_ROLE_EXP_GATE:
    case BISE_ROLE_EXP_UP:
        if (has(w, role, BISE_ROLE_EXP_GATE_UP, -1))
            return true;
        return has(w, role, role.kind, -1) || has(w, role, role.kind, 0);
    case BISE_ROLE_EXP_DOWN:
        return has(w, role, role.kind, -1) || has(w, role, role.kind, 0);
    default:
        return false;
    }
}

/* The stored tensor itself when there is one. With adapters, experts are
 * taken apart even then, because adapters are per expert and a stacked
 * tensor has one stream; and the two parts of kv_b are put together, because
 * its adapters are those of the whole. */
bise_status bise_weights_get(bise_weight_rows *out, const bise_weights *w,
                             bise_role role, bise_rows to, bise_error *err)
{
    memset(out, 0, sizeof *out);
    const bise_weight *q = bise_checkpoint_find(w->c, role);
    const bool expert = role.kind == BISE_ROLE_EXP_GATE ||
                        role.kind == BISE_ROLE_EXP_UP ||
                        role.kind == BISE_ROLE_EXP_DOWN ||
                        role.kind == BISE_ROLE_EXP_GATE_UP;
    const bool part = role.kind == BISE_ROLE_K_B || role.kind == BISE_ROLE_V_B;
    if (q && !(expert && w->n_loras) &&
        !(part && touched(w, with(role, BISE_ROLE_KV_B, -1))))
        return bise_weights_of(out, w, q, to, err);
    const bise_stream *s = NULL;
    if (expert && role.expert >= 0)
        s = expert_slice(w, role, &out->stored);
    else if (expert)
        s = expert_stack(w, role, &out->stored);
    else if (part)
        s = split_kv(w, role, &out->stored);
    else if (role.kind == BISE_ROLE_KV_B)
        s = whole_kv(w, role, &out->stored);
    out->stream = s;
    out->n_dims = bise_role_shape(&w->c->config, role, out->dims);
    if (s && out->n_dims)
        return BISE_OK;
    char name[192] = "?";
    (void)bise_role_name(name, role, w->c->names);
    bise_status st = bise_fail(err, BISE_EFORMAT,
                               "the model needs '%s', the checkpoint has no "
                               "such tensor", name);
    st = bise_error_in(err, bise_store_path(w->c->store), name);
    return st;
}
