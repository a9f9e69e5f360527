/* moe.c - the expert layers (mistral3.md 3.6): a router picks top_k experts
 * for each token, y = sum_k w_k FFN_k(x), plus a shared expert without a gate.
 * Experts run one after another over the rows routed to them, so the sums have
 * a fixed order. Mixtral's weights are a softmax over the kept logits, which
 * equals softmax over all, top-k, renormalized; so one rule serves all.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "model/graph_int.h"

/* One expert's matrix: an own tensor, a slice of a stacked one, or half of a
 * slice of gate and up fused. */
static bise_status bind_expert(bise_graph *g, bise_linear *to,
                               bise_role_kind kind, int32_t l, int32_t e,
                               bise_error *err)
{
    const bise_config *f = g->f;
    const int32_t F = f->F_expert ? f->F_expert : f->F;
    const bise_role own = { kind, l, e };
    const bise_weight *w = bise_checkpoint_find(g->c, own);
    bise_status s;
    /* Tried in this order: own tensor, stack, fused stack (gate first). */
    if (w) {
        s = bise_linear_init(to, g->c, w, -1, 0, 0, err);
    } else if ((w = bise_checkpoint_get(g->c, kind, l))) {
        s = bise_linear_init(to, g->c, w, e, 0, 0, err);
    } else if (kind != BISE_ROLE_EXP_DOWN &&
               (w = bise_checkpoint_get(g->c, BISE_ROLE_EXP_GATE_UP, l))) {
        s = bise_linear_init(to, g->c, w, e,
                             kind == BISE_ROLE_EXP_UP ? F : 0, F, err);
    } else {
        s = bise_fail(err, BISE_EFORMAT, "layer %d has no expert %d", l, e);
    }
    to->role = own;
    if (s == BISE_OK)
        s = bise_linear_adapt(to, g->o.loras, g->o.n_loras, err);
    if (s == BISE_OK && bise_linear_scratch(to) > g->e.scratch_floats)
        g->e.scratch_floats = bise_linear_scratch(to);
    return s;
}

/* The router or a matrix of the shared expert. */
static bise_status bind_one(bise_graph *g, bise_linear *to,
                            bise_role_kind kind, int32_t l, bise_error *err)
{
    const bise_weight *w = bise_checkpoint_get(g->c, kind, l);
    bise_status s;
    if (!w)
        return bise_fail(err, BISE_EFORMAT, "layer %d lacks a tensor of its "
                         "experts", l);
    if ((s = bise_linear_init(to, g->c, w, -1, 0, 0, err)) == BISE_OK)
        s = bise_linear_adapt(to, g->o.loras, g->o.n_loras, err);
    if (s == BISE_OK && bise_linear_scratch(to) > g->e.scratch_floats)
        g->e.scratch_floats = bise_linear_scratch(to);
    return s;
}

/* All experts of layer i, whichever way the file stores them. */
bise_status graph_bind_moe(bise_graph *g, int32_t i, bise_error *err)
{
    graph_layer *l = &g->layers[i];
    const int32_t E = g->f->E;
    bise_status s = bind_one(g, &l->router, BISE_ROLE_ROUTER, i, err);
    l->exp_up = bise_alloc_array((size_t)E * 2, sizeof *l->exp_up);
    l->exp_down = bise_alloc_array((size_t)E, sizeof *l->exp_down);
    if (s == BISE_OK && (!l->exp_up || !l->exp_down))
        s = bise_fail_nomem(err);
    for (int32_t e = 0; s == BISE_OK && e < E; e++) {
        s = bind_expert(g, &l->exp_up[2 * e], BISE_ROLE_EXP_GATE, i, e, err);
        if (s == BISE_OK)
            s = bind_expert(g, &l->exp_up[2 * e + 1], BISE_ROLE_EXP_UP, i, e,
                            err);
        if (s == BISE_OK)
            s = bind_expert(g, &l->exp_down[e], BISE_ROLE_EXP_DOWN, i, e,
                            err);
    }
    /* One buffer of x A^T serves router, experts and shared expert in turn. */
    int32_t up = l->router.rank, down = 0;
    for (int32_t e = 0; s == BISE_OK && e < E; e++) {
        const int32_t pair = l->exp_up[2 * e].rank + l->exp_up[2 * e + 1].rank;
        up = pair > up ? pair : up;
        down = l->exp_down[e].rank > down ? l->exp_down[e].rank : down;
    }
    l->rank[STAGE_UP] = up;
    l->rank[STAGE_DOWN] = down;
    l->shared = g->f->shared_experts > 0;
    if (s == BISE_OK && l->shared)
        s = bind_one(g, &l->up[0], BISE_ROLE_SH_GATE, i, err);
    if (s == BISE_OK && l->shared)
        s = bind_one(g, &l->up[1], BISE_ROLE_SH_UP, i, err);
    if (s == BISE_OK && l->shared)
        s = bind_one(g, &l->down, BISE_ROLE_SH_DOWN, i, err);
    return s;
}

/* Top-k of E logits (lowest index on ties) and their softmax. */
static void route(const float *z, int32_t E, int32_t top_k, double scale,
                  int32_t *expert, float *w)
{
    double sum = 0;
    for (int32_t k = 0; k < top_k; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < E; e++) {
            bool taken = false;
            for (int32_t j = 0; j < k; j++)
                taken |= expert[j] == e;
            if (!taken && (best < 0 || z[e] > z[best]))
                best = e;
        }
        expert[k] = best;
        w[k] = expf(z[best] - z[expert[0]]);
        sum += (double)w[k];
    }
    for (int32_t k = 0; k < top_k; k++)
        w[k] = (float)((double)w[k] / sum * scale);
}

/* down(silu(gate x) up x) of n rows into y; h of the group of each stage stays
 * in acts for the backward pass, as do moe_gate, moe_up and moe_hidden. */
static bise_status expert_ffn(bise_graph *g, const graph_acts *a,
                              const bise_linear *up, const bise_linear *down,
                              const float *x, int32_t n, float *y,
                              bise_error *err)
{
    bise_status s = graph_tap(g, up, 2, x, n, err);
    if (s != BISE_OK)
        return s;
    bise_linears_forward(&g->e, up, 2, (float *[]){ g->moe_gate, g->moe_up },
                         x, n, a->h[STAGE_UP], false);
    graph_swiglu(g, g->moe_hidden, g->moe_gate, g->moe_up, n, up->out);
    if ((s = graph_tap(g, down, 1, g->moe_hidden, n, err)) != BISE_OK)
        return s;
    bise_linears_forward(&g->e, down, 1, &y, g->moe_hidden, n,
                         a->h[STAGE_DOWN], false);
    return BISE_OK;
}

/* Rows routed to expert e: indices into moe_rows, copies into moe_x. */
static int32_t gather(bise_graph *g, int32_t e)
{
    const int32_t top_k = g->f->top_k;
    const size_t C = (size_t)g->f->C;
    int32_t n = 0;
    for (int32_t t = 0; t < g->T; t++)
        for (int32_t k = 0; k < top_k; k++)
            if (g->moe_expert[t * top_k + k] == e) {
                memcpy(g->moe_x + (size_t)n * C, g->normed + (size_t)t * C,
                       C * sizeof *g->moe_x);
                g->moe_rows[n++] = t * top_k + k;
            }
    return n;
}

/* Routing of the normed rows into moe_expert and moe_w. */
static double route_all(bise_graph *g, int32_t i)
{
    const bise_config *f = g->f;
    const double scale = f->routed_scale > 0 ? f->routed_scale : 1;
    bise_linears_forward(&g->e, &g->layers[i].router, 1, &g->moe_logits,
                         g->normed, g->T, g->acts[i].h[STAGE_UP], false);
    for (int32_t t = 0; t < g->T; t++)
        route(g->moe_logits + (size_t)t * (size_t)f->E, f->E, f->top_k, scale,
              g->moe_expert + t * f->top_k, g->moe_w + t * f->top_k);
    return scale;
}

/* Route every token, then run the experts in order of their numbers. */
bise_status graph_moe_forward(bise_graph *g, int32_t i, float *x,
                              bise_error *err)
{
    const bise_config *f = g->f;
    const graph_layer *l = &g->layers[i];
    const graph_acts *a = &g->acts[i];
    const size_t C = (size_t)f->C;
    bise_status s = graph_tap(g, &l->router, 1, g->normed, g->T, err);
    if (s != BISE_OK)
        return s;
    route_all(g, i);
    graph_balance_count(g);
    /* Experts without a token are not touched: their pages stay on disk. */
    for (int32_t e = 0; e < f->E; e++) {
        const int32_t n = gather(g, e);
        if (!n)
            continue;
        s = expert_ffn(g, a, &l->exp_up[2 * e], &l->exp_down[e], g->moe_x, n,
                       g->moe_y, err);
        if (s != BISE_OK)
            return s;
        for (int32_t r = 0; r < n; r++)
            g->e.k->axpy(x + (size_t)(g->moe_rows[r] / f->top_k) * C,
                         g->moe_w[g->moe_rows[r]], g->moe_y + (size_t)r * C,
                         C);
    }
    /* The shared expert sees every token and has no weight of its own. */
    if (!l->shared)
        return BISE_OK;
    s = expert_ffn(g, a, l->up, &l->down, g->normed, g->T, g->moe_y, err);
    if (s == BISE_OK)
        g->e.k->axpy(x, 1, g->moe_y, (size_t)g->T * C);
    return s;
}

/* Backward through one expert whose forward was just run: moe_dy -> moe_dx. */
static void expert_bwd(bise_graph *g, const graph_acts *a,
                       const bise_linear *up, const bise_linear *down,
                       const float *x, int32_t n)
{
    bise_linears_backward(&g->e, down, 1, g->moe_dh, &g->moe_dy,
                          g->moe_hidden, a->h[STAGE_DOWN], g->dh, n, false);
    graph_swiglu_bwd(g, g->moe_gate, g->moe_up, g->moe_dh, n, up->out);
    bise_linears_backward(&g->e, up, 2, g->moe_dx,
                          (float *[]){ g->moe_gate, g->moe_up }, x,
                          a->h[STAGE_UP], g->dh, n, false);
}

/* Rows of an expert: dw = dy . y, then dy becomes w dy. */
static void weigh_rows(bise_graph *g, int32_t n)
{
    const size_t C = (size_t)g->f->C;
    for (int32_t r = 0; r < n; r++) {
        const int32_t at = g->moe_rows[r];
        float *dy = g->moe_dy + (size_t)r * C;
        memcpy(dy, g->dx + (size_t)(at / g->f->top_k) * C, C * sizeof *dy);
        g->moe_dw[at] = g->e.k->dot(dy, g->moe_y + (size_t)r * C, C);
        g->e.k->scale(dy, g->moe_w[at], C);
    }
}

/* Softmax over the kept logits, backward, with w = scale p:
 *   dl_k = w_k dw_k - w_k / scale sum_j w_j dw_j;  0 for the others;
 * and the auxiliary loss, which sees all logits. */
static void router_bwd(bise_graph *g, int32_t i, double scale)
{
    const bise_config *f = g->f;
    for (int32_t t = 0; t < g->T; t++) {
        const float *w = g->moe_w + t * f->top_k;
        const float *dw = g->moe_dw + t * f->top_k;
        float *z = g->moe_logits + (size_t)t * (size_t)f->E;
        double sum = 0;
        graph_balance_bwd(g, z);
        for (int32_t k = 0; k < f->top_k; k++)
            sum += (double)w[k] * (double)dw[k];
        for (int32_t k = 0; k < f->top_k; k++)
            z[g->moe_expert[t * f->top_k + k]] +=
                (float)((double)w[k] * ((double)dw[k] - sum / scale));
    }
    bise_linears_backward(&g->e, &g->layers[i].router, 1, g->dn,
                          &g->moe_logits, g->normed, g->acts[i].h[STAGE_UP],
                          g->dh, g->T, true);
}

/* dn = gradient of the normed rows, from dx; everything of the forward is made
 * again, expert by expert, so that nothing is kept for it. */
bise_status graph_moe_backward(bise_graph *g, int32_t i, bise_error *err)
{
    const bise_config *f = g->f;
    const graph_layer *l = &g->layers[i];
    const graph_acts *a = &g->acts[i];
    const size_t C = (size_t)f->C, all = (size_t)g->T * C;
    bise_status s = BISE_OK;
    const double scale = route_all(g, i);
    memset(g->dn, 0, all * sizeof *g->dn);
    for (int32_t e = 0; e < f->E; e++) {
        const bise_linear *up = &l->exp_up[2 * e], *down = &l->exp_down[e];
        const int32_t n = gather(g, e);
        if (!n)
            continue;
        s = expert_ffn(g, a, up, down, g->moe_x, n, g->moe_y, err);
        if (s != BISE_OK)
            return s;
        weigh_rows(g, n);
        expert_bwd(g, a, up, down, g->moe_x, n);
        for (int32_t r = 0; r < n; r++)
            g->e.k->axpy(g->dn + (size_t)(g->moe_rows[r] / f->top_k) * C, 1,
                         g->moe_dx + (size_t)r * C, C);
    }
    if (l->shared) {
        s = expert_ffn(g, a, l->up, &l->down, g->normed, g->T, g->moe_y, err);
        memcpy(g->moe_dy, g->dx, all * sizeof *g->dx);
        expert_bwd(g, a, l->up, &l->down, g->normed, g->T);
        g->e.k->axpy(g->dn, 1, g->moe_dx, all);
    }
    /* x A^T of a router's adapter was overwritten by the experts. */
    bise_linears_adapters(&g->e, &l->router, 1, g->normed, g->T,
                          a->h[STAGE_UP]);
    router_bwd(g, i, scale);
    return s;
}
