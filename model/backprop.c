/* backprop.c - the backward pass over the layers, in reverse, only as far down
 * as a trained adapter needs it. The base is frozen: of each linear only the
 * input gradient and its adapters' gradients exist (mistral3.md 3.7,
 * lora.md 1). Layers whose activations were not kept are run again first.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "model/graph_int.h"

/* True when nothing below stage s of layer l needs a gradient. */
static bool ends_at(const bise_graph *g, int32_t l, stage s)
{
    return l == g->lowest && s == g->lowest_stage;
}

/* Through the feed-forward part: dx += d(b) through the norm. Returns true
 * when the pass ends here. */
static bool ffn_bwd(bise_graph *g, int32_t l)
{
    const bise_config *f = g->f;
    graph_layer *w = &g->layers[l];
    graph_acts *a = &g->acts[l];
    const int32_t T = g->T;
    /* g->hidden is the input of down; the scratch was used by other layers. */
    graph_swiglu(g, g->hidden, a->gate, a->up, T, f->F);
    bise_linears_backward(&g->e, &w->down, 1,
                          ends_at(g, l, STAGE_DOWN) ? NULL : g->dhidden,
                          &g->dx, g->hidden, a->h[STAGE_DOWN], g->dh, T,
                          false);
    if (ends_at(g, l, STAGE_DOWN))
        return true;
    graph_swiglu_bwd(g, a->gate, a->up, g->dhidden, T, f->F);
    graph_norm(g, g->normed, a->xm, w->ffn_norm, g->r, T, f->C, f->eps);
    const bool end = ends_at(g, l, STAGE_UP);
    bise_linears_backward(&g->e, w->up, 2, end ? NULL : g->dn,
                          (float *[]){ a->gate, a->up }, g->normed,
                          a->h[STAGE_UP], g->dh, T, false);
    if (!end)
        graph_norm_bwd(g, g->dx, g->dn, a->xm, w->ffn_norm, g->r, T, f->C);
    return end;
}

/* Through the attention part, likewise. */
static bool attention_bwd(bise_graph *g, int32_t l)
{
    const bise_config *f = g->f;
    graph_layer *w = &g->layers[l];
    graph_acts *a = &g->acts[l];
    bool end = ends_at(g, l, STAGE_O);
    bise_linears_backward(&g->e, &w->o, 1, end ? NULL : g->d_o, &g->dx, a->o,
                          a->h[STAGE_O], g->dh, g->T, false);
    if (end)
        return true;
    if (graph_narrows(g, l)) {
        const size_t heads = (size_t)(f->H * f->D) * sizeof *g->d_o;
        graph_widen(g, g->dx, (size_t)f->C * sizeof *g->dx);
        graph_widen(g, g->d_o, heads);
        graph_widen(g, a->o, heads);
    }
    const int32_t T = g->T;
    graph_lap(g, BISE_STEP_PRODUCTS);
    const bise_attn at = graph_attn(g, a, NULL);
    bise_attn_backward(&g->e, &at, g->d_o, g->dq, g->dk, g->dv);
    graph_lap(g, BISE_STEP_ATTENTION);
    graph_rope(g, g->dq, f->H, T, true, true);
    graph_rope(g, g->dk, f->K, T, false, true);
    graph_norm(g, g->normed, g->x[l], w->attn_norm, g->r, T, f->C, f->eps);
    end = ends_at(g, l, STAGE_QKV);
    bise_linears_backward(&g->e, w->qkv, 3, end ? NULL : g->dn,
                          (float *[]){ g->dq, g->dk, g->dv }, g->normed,
                          a->h[STAGE_QKV], g->dh, T, false);
    if (!end)
        graph_norm_bwd(g, g->dx, g->dn, g->x[l], w->attn_norm, g->r, T, f->C);
    return end;
}

/* The same through a layer of experts, which has no stages of its own: when
 * the pass ends inside, the gradient of its input is merely not used. */
static bise_status moe_bwd(bise_graph *g, int32_t l, bool *end,
                           bise_error *err)
{
    const bise_config *f = g->f;
    graph_layer *w = &g->layers[l];
    graph_acts *a = &g->acts[l];
    graph_norm(g, g->normed, a->xm, w->ffn_norm, g->r, g->T, f->C, f->eps);
    const bise_status s = graph_moe_backward(g, l, err);
    graph_norm_bwd(g, g->dx, g->dn, a->xm, w->ffn_norm, g->r, g->T, f->C);
    *end = l == g->lowest && g->lowest_stage >= STAGE_UP;
    return s;
}

/* Layers in reverse. g->dx is the gradient of the residual stream at the
 * point reached; every part adds to it through its norm. */
bise_status graph_backward(bise_graph *g, bise_error *err)
{
    const bise_config *f = g->f;
    const int32_t T = g->T;
    if (g->rows16) {
        graph_backward16(g);
        return BISE_OK;
    }
    if (g->lowest >= f->L)
        return BISE_OK;
    memset(g->dx, 0, (size_t)T * (size_t)f->C * sizeof *g->dx);
    /* xf is no longer needed: it takes the norm again, for r. */
    graph_norm(g, g->xf, g->x[f->L], g->norm, g->r, T, f->C, f->eps);
    graph_norm_bwd(g, g->dx, g->dxf, g->x[f->L], g->norm, g->r, T, f->C);
    for (int32_t l = f->L - 1; l >= g->lowest; l--) {
        graph_pages_begin(g, l, -1);
        /* The shared activations still hold the layer that ran last. */
        if (l < f->L - g->n_full && l < f->L - 1) {
            const bise_status s = graph_layer_forward(g, l, NULL, NULL, err);
            if (s != BISE_OK)
                return s;
        }
        bool end = false;
        if (g->layers[l].moe) {
            const bise_status s = moe_bwd(g, l, &end, err);
            if (s != BISE_OK)
                return s;
        } else {
            end = ffn_bwd(g, l);
        }
        end = end || attention_bwd(g, l);
        graph_pages_end(g, l);
        if (end)
            break;
    }
    return BISE_OK;
}
