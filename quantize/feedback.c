/* feedback.c - see feedback.h. Matrices with the same input (q, k, v; gate, up)
 * share its statistics, which are taken at the first of them. When those of a
 * layer do not fit, it is run several times, always with its first weights, so
 * that the limit does not matter for the result.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "quantize/feedback.h"

#include <string.h>

#include "core/mem.h"
#include "pipeline/check.h"
#include "quantize/calibrate.h"
#include "quantize/gptq.h"

#define CHECKED (1u << 18) /* weights looked at together */

/* An input of a layer: that of a kind of linear, of one expert or -1. */
typedef struct input {
    bise_role_kind kind;
    int32_t expert, cols;
    bise_hessian h;
} input;

typedef struct walk {
    const bise_plan *plan;
    const bise_checkpoint *c;
    const bise_feedback_options *o;
    bise_graph *graph;
    uint8_t *codes;           /* of bise_feedback.codes */
    float *x;                 /* rows between layers, batch after batch */
    input *inputs;            /* of the layer */
    size_t n, cap;
    size_t first, last;       /* those that are summed now */
    uint64_t token;           /* first of the batch, for messages */
    int32_t layer;
} walk;

/* The first of the linears that share an input; COUNT: no feedback. */
static bise_role_kind input_of(bise_role_kind k)
{
    switch (k) {
    case BISE_ROLE_K: case BISE_ROLE_V:
        return BISE_ROLE_Q;
    case BISE_ROLE_UP:
        return BISE_ROLE_GATE;
    case BISE_ROLE_EXP_UP:
        return BISE_ROLE_EXP_GATE;
    case BISE_ROLE_SH_UP:
        return BISE_ROLE_SH_GATE;
    case BISE_ROLE_KV_A:
        return BISE_ROLE_Q_A;
    case BISE_ROLE_Q: case BISE_ROLE_O: case BISE_ROLE_GATE:
    case BISE_ROLE_DOWN: case BISE_ROLE_EXP_GATE: case BISE_ROLE_EXP_DOWN:
    case BISE_ROLE_SH_GATE: case BISE_ROLE_SH_DOWN: case BISE_ROLE_Q_A:
    case BISE_ROLE_Q_B:
        return k;
    default:
        return BISE_ROLE_COUNT;
    }
}

/* Does feedback make this tensor? */
static bool is_ours(const bise_plan_tensor *t)
{
    return t->role.layer >= 0 && input_of(t->role.kind) != BISE_ROLE_COUNT &&
           bise_grid_get(t->dtype) && !bise_plan_is_raw(t);
}

/* Matrices of a tensor: experts. */
static int32_t matrices(const bise_plan_tensor *t)
{
    return t->n_dims >= 3 ? (int32_t)t->dims[0] : 1;
}

/* The role of matrix k of a tensor. */
static bise_role role_at(const bise_plan_tensor *t, int32_t k)
{
    bise_role r = t->role;
    if (t->n_dims >= 3)
        r.expert = k;
    return r;
}

/* The list of inputs that a layer's tensors need. */
static bise_status list_inputs(walk *w, bise_error *err)
{
    w->n = 0;
    for (size_t i = 0; i < w->plan->n; i++) {
        const bise_plan_tensor *t = &w->plan->tensors[i];
        if (t->role.layer != w->layer || !is_ours(t))
            continue;
        for (int32_t k = 0; k < matrices(t); k++) {
            const bise_role r = role_at(t, k);
            const bise_role_kind kind = input_of(r.kind);
            size_t j = 0;
            while (j < w->n && (w->inputs[j].kind != kind ||
                                w->inputs[j].expert != r.expert))
                j++;
            if (j < w->n)
                continue;
            void *v = w->inputs;
            if (bise_grow(&v, &w->cap, w->n + 1, sizeof *w->inputs) != 0)
                return bise_fail_nomem(err);
            w->inputs = v;
            w->inputs[w->n++] = (input){
                .kind = kind, .expert = r.expert,
                .cols = (int32_t)bise_stream_cols(t->stream),
            };
        }
    }
    return BISE_OK;
}

/* The graph's tap: the first linear of a group gives the sums of all. */
static bise_status tap(void *ctx, bise_role role, const float *x, int32_t T,
                       int32_t in, bise_error *err)
{
    walk *w = ctx;
    bise_status s = bise_check_inputs(&w->c->config, role, x, T, in, w->token,
                                      err);
    for (size_t i = w->first; i < w->last && s == BISE_OK; i++) {
        input *p = &w->inputs[i];
        if (p->kind == role.kind && p->expert == role.expert && p->cols == in)
            bise_hessian_add(&p->h, x, T, w->o->pool);
    }
    return s;
}

/* Layers that are done, of all; remark: what is being done in this one. */
static bise_status step(const walk *w, const char *remark, bise_error *err)
{
    return bise_progress_step(w->o->progress, "gptq", (uint64_t)w->layer,
                              (uint64_t)w->c->config.L, "layers", remark, err);
}

/* Every batch through the layer; its rows are replaced by the result, or only
 * shown to the tap. */
static bise_status run_layer(walk *w, bool keep, bise_error *err)
{
    bise_status s = BISE_OK;
    float *x = w->x;
    w->token = 0;
    for (size_t i = 0; i < w->o->n_batches && s == BISE_OK; i++) {
        const bise_batch *b = &w->o->batches[i];
        s = bise_graph_layer(w->graph, w->layer, b, x, keep ? x : NULL, err);
        x += (size_t)b->T * (size_t)w->c->config.C;
        w->token += (uint64_t)b->T;
        if (s == BISE_OK)
            s = step(w, keep ? "outputs" : "inputs", err);
    }
    return s;
}

/* Where matrix k of a tensor is encoded, and its rows. What the runner only
 * reads is written to here. */
static uint8_t *place_of(const walk *w, const bise_plan_tensor *t, int32_t k,
                         uint64_t *rows)
{
    const uint64_t cols = bise_stream_cols(t->stream);
    *rows = bise_stream_rows(t->stream) / (uint64_t)matrices(t);
    return w->codes + (t->encoded - w->codes) +
           (uint64_t)k * *rows * bise_dtype_bytes(t->dtype, cols);
}

/* All matrices that read an input whose statistics are complete. */
static bise_status encode_input(const walk *w, const input *p,
                                bise_error *err)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < w->plan->n && s == BISE_OK; i++) {
        const bise_plan_tensor *t = &w->plan->tensors[i];
        if (t->role.layer != w->layer || !is_ours(t) ||
            input_of(t->role.kind) != p->kind)
            continue;
        for (int32_t k = 0; k < matrices(t) && s == BISE_OK; k++) {
            uint64_t rows;
            uint8_t *dst = place_of(w, t, k, &rows);
            if (role_at(t, k).expert != p->expert)
                continue;
            s = step(w, t->name, err);
            if (s == BISE_OK)
                s = bise_gptq_encode(dst, t->stream, (uint64_t)k * rows, rows,
                                     bise_grid_get(t->dtype), &p->h, t->name,
                                     w->o->pool, err);
        }
    }
    return s;
}

/* Bytes that statistics may take together. */
static uint64_t limit_of(const bise_feedback_options *o)
{
    return o->memory_bytes ? o->memory_bytes : bise_memory_available() / 4;
}

/* As many inputs from first on as fit, at least one. */
static size_t fitting(const walk *w, size_t first, uint64_t limit)
{
    uint64_t bytes = 0;
    size_t last = first;
    for (; last < w->n; last++) {
        bytes += bise_hessian_bytes(w->inputs[last].cols);
        if (last > first && bytes > limit)
            break;
    }
    return last;
}

/* The statistics of some inputs, then the matrices behind them. */
static bise_status run_pass(walk *w, bise_error *err)
{
    bise_status s = BISE_OK;
    for (size_t i = w->first; i < w->last && s == BISE_OK; i++)
        s = bise_hessian_init(&w->inputs[i].h, w->inputs[i].cols, err);
    if (s == BISE_OK)
        s = run_layer(w, false, err);
    for (size_t i = w->first; i < w->last; i++) {
        if (s == BISE_OK)
            s = step(w, "factors", err);
        if (s == BISE_OK)
            s = bise_hessian_factor(&w->inputs[i].h, err);
        if (s == BISE_OK)
            s = encode_input(w, &w->inputs[i], err);
        bise_hessian_fini(&w->inputs[i].h);
    }
    w->first = w->last;
    return s;
}

/* Rotated rows of a GGUF stand as its file had them, or interleaved. */
static bise_rows order_of(const walk *w, bise_role role)
{
    const bise_weight *q = bise_checkpoint_find(w->c, role);
    if (!q || q->rows == BISE_ROWS_PLAIN || w->c->names == BISE_NAMES_GGUF)
        return q ? q->rows : BISE_ROWS_PLAIN;
    return BISE_ROWS_INTERLEAVED;
}

/* The weights of a layer (-1: those outside) before they are computed with: a
 * bad one is named here, not the activations that it makes. */
static bise_status check_weights(const walk *w, int32_t layer,
                                 bise_error *err)
{
    bise_status s = BISE_OK;
    bise_scratch scratch = { 0 };
    for (size_t i = 0; i < w->plan->n && s == BISE_OK; i++) {
        const bise_plan_tensor *t = &w->plan->tensors[i];
        const uint64_t cols = bise_stream_cols(t->stream);
        const uint64_t rows = bise_stream_rows(t->stream);
        const uint64_t many = cols < CHECKED ? CHECKED / cols : 1;
        if (t->role.layer != layer || t->role.kind == BISE_ROLE_OPAQUE)
            continue;
        float *x = bise_alloc_array((size_t)many, (size_t)cols * sizeof *x);
        s = x ? BISE_OK : bise_fail_nomem(err);
        for (uint64_t r = 0; r < rows && s == BISE_OK; r += many) {
            const uint64_t n = rows - r < many ? rows - r : many;
            s = bise_stream_read(t->stream, x, r, n, &scratch, err);
            if (s == BISE_OK)
                s = bise_check_weights(x, r, n, cols, err);
        }
        bise_free(x);
        if (s != BISE_OK)
            s = bise_error_in(err, NULL, t->name);
    }
    bise_scratch_fini(&scratch);
    return s;
}

/* Let the graph compute with what was encoded. */
static bise_status replace_all(const walk *w, bise_error *err)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < w->plan->n && s == BISE_OK; i++) {
        const bise_plan_tensor *t = &w->plan->tensors[i];
        if (t->role.layer != w->layer || !is_ours(t))
            continue;
        for (int32_t k = 0; k < matrices(t) && s == BISE_OK; k++) {
            uint64_t rows;
            const bise_role role = role_at(t, k);
            const uint8_t *data = place_of(w, t, k, &rows);
            s = bise_graph_replace(w->graph, role, t->dtype, data,
                                   order_of(w, role), err);
        }
    }
    return s;
}

/* One layer after the other. What the last one gives is not needed. */
static bise_status run_all(walk *w, bise_error *err)
{
    const int32_t L = w->c->config.L;
    const uint64_t limit = limit_of(w->o);
    bise_status s = BISE_OK;
    for (w->layer = 0; w->layer < L && s == BISE_OK; w->layer++) {
        s = check_weights(w, w->layer, err);
        if (s == BISE_OK)
            s = list_inputs(w, err);
        w->first = 0;
        while (s == BISE_OK && w->first < w->n) {
            w->last = fitting(w, w->first, limit);
            s = run_pass(w, err);
        }
        w->first = w->last = 0;
        if (s == BISE_OK && w->layer + 1 < L)
            s = replace_all(w, err);
        if (s == BISE_OK && w->layer + 1 < L)
            s = run_layer(w, true, err);
    }
    return s == BISE_OK ? step(w, NULL, err) : s;
}

/* Room for the encoded matrices, one after another at cache lines. */
static bise_status place_tensors(walk *w, bise_plan *p, bise_feedback *f,
                                 bise_error *err)
{
    uint64_t at = 0;
    for (int pass = 0; pass < 2; pass++, at = 0) {
        for (size_t i = 0; i < p->n; i++) {
            bise_plan_tensor *t = &p->tensors[i];
            if (!is_ours(t)) {
                f->plain += pass && t->role.layer >= 0 &&
                            bise_dtype_is_quant(t->dtype);
                continue;
            }
            if (pass)
                t->encoded = w->codes + at;
            f->tensors += pass;
            at += (bise_plan_tensor_bytes(t) + 63) / 64 * 64;
        }
        const bise_status s = pass ? BISE_OK :
            bise_map_scratch(&f->codes, &w->codes, w->o->path, at, err);
        if (s != BISE_OK)
            return s;
    }
    return BISE_OK;
}

static bise_graph_options graph_options(const bise_feedback_options *o,
                                        walk *w)
{
    return (bise_graph_options){
        .max_tokens = o->max_tokens, .loras = o->loras,
        .n_loras = o->n_loras, .tap = tap, .tap_ctx = w, .pool = o->pool,
    };
}

/* Files, graph, embedding rows, layers. */
bise_status bise_feedback_run(bise_feedback *f, bise_plan *p,
                              const bise_checkpoint *c,
                              const bise_feedback_options *o, bise_error *err)
{
    walk w = { .plan = p, .c = c, .o = o };
    bise_map rows = { 0 };
    uint8_t *data = NULL;
    uint64_t tokens = 0;
    for (size_t i = 0; i < o->n_batches; i++)
        tokens += (uint64_t)o->batches[i].T;
    bise_status s = place_tensors(&w, p, f, err);
    if (s != BISE_OK || f->tensors == 0)
        return s;
    s = bise_map_scratch(&rows, &data, o->path,
                         tokens * (uint64_t)c->config.C * sizeof(float), err);
    const bise_graph_options g = graph_options(o, &w);
    if (s == BISE_OK)
        s = check_weights(&w, -1, err);
    if (s == BISE_OK)
        s = bise_graph_new(&w.graph, c, &g, err);
    w.x = (float *)(void *)data;
    float *x = w.x;
    for (size_t i = 0; i < o->n_batches && s == BISE_OK; i++) {
        s = bise_graph_embed(w.graph, &o->batches[i], x, err);
        x += (size_t)o->batches[i].T * (size_t)c->config.C;
    }
    if (s == BISE_OK)
        s = run_all(&w, err);
    bise_graph_free(w.graph);
    bise_free(w.inputs);
    bise_map_close(&rows);
    return s;
}

/* Of the layer with most, what its passes hold at once; and the lanes of the
 * encoder. */
bise_status bise_feedback_memory(uint64_t *bytes, const bise_plan *p,
                                 const bise_checkpoint *c,
                                 const bise_feedback_options *o,
                                 bise_error *err)
{
    const uint64_t limit = limit_of(o);
    walk w = { .plan = p, .c = c, .o = o };
    uint64_t most = 0, wide = 0;
    const bise_graph_options g = graph_options(o, &w);
    bise_status s = bise_graph_plan(bytes, c, &g, err);
    for (w.layer = 0; w.layer < c->config.L && s == BISE_OK; w.layer++) {
        s = list_inputs(&w, err);
        for (size_t first = 0, last; first < w.n && s == BISE_OK;
             first = last) {
            uint64_t sum = 0;
            last = fitting(&w, first, limit);
            for (size_t i = first; i < last; i++) {
                const uint64_t cols = (uint64_t)w.inputs[i].cols;
                sum += bise_hessian_bytes(w.inputs[i].cols);
                wide = cols > wide ? cols : wide;
            }
            most = sum > most ? sum : most;
        }
    }
    bise_free(w.inputs);
    *bytes += most + (uint64_t)bise_pool_threads(o->pool) * wide *
                         BISE_GPTQ_LANE_BYTES;
    return s;
}

/* A zeroed one is fine. */
void bise_feedback_close(bise_feedback *f)
{
    bise_map_close(&f->codes);
    *f = (bise_feedback){ 0 };
}
