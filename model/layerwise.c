/* layerwise.c - a forward pass in pieces: one layer at a time over rows that
 * the caller keeps, and weights that are replaced on the way.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "core/clock.h"
#include "model/graph_int.h"

bise_status bise_graph_embed(bise_graph *g, const bise_batch *b, float *x,
                             bise_error *err)
{
    return graph_embed(g, b->ids, b->T, x, err);
}

/* Without training all layers work in one buffer, that of x[0]. */
bise_status bise_graph_layer(bise_graph *g, int32_t l, const bise_batch *b,
                             const float *x, float *out, bise_error *err)
{
    const size_t bytes = (size_t)b->T * (size_t)g->f->C * sizeof *x;
    g->e.training = false;
    g->lap_ns = bise_clock_ns();
    bise_status s = graph_set_batch(g, b, err);
    if (s != BISE_OK)
        return s;
    memcpy(g->x[l], x, bytes);
    s = graph_layer_forward(g, l, g->x[l + 1], NULL, err);
    if (s == BISE_OK && out)
        memcpy(out, g->x[l + 1], bytes);
    return s;
}

/* The linear of a role among n. */
static bise_linear *among(bise_linear *l, int32_t n, bise_role role)
{
    for (int32_t i = 0; l && i < n; i++)
        if (l[i].in && bise_role_equal(l[i].role, role))
            return &l[i];
    return NULL;
}

/* Groups in the order of the layer; those that it has not are empty. */
static bise_linear *find_linear(bise_graph *g, bise_role role)
{
    if (role.layer < 0 || role.layer >= g->f->L)
        return NULL;
    graph_layer *l = &g->layers[role.layer];
    const struct { bise_linear *at; int32_t n; } groups[] = {
        { l->qkv, 3 }, { &l->o, 1 }, { l->up, 2 }, { &l->down, 1 },
        { l->exp_up, 2 * g->f->E }, { l->exp_down, g->f->E },
    };
    bise_linear *found = NULL;
    for (size_t i = 0; i < sizeof groups / sizeof *groups && !found; i++)
        found = among(groups[i].at, groups[i].n, role);
    return found;
}

bise_status bise_graph_replace(bise_graph *g, bise_role role, bise_dtype dtype,
                               const uint8_t *data, bise_rows order,
                               bise_error *err)
{
    bise_linear *l = find_linear(g, role);
    const bise_codec *codec = bise_codec_get(dtype);
    if (!l || !codec->decode)
        return bise_fail(err, BISE_EINVAL, "layer %d: no linear layer of kind "
                         "%d to replace", (int)role.layer, (int)role.kind);
    const int32_t heads = role.kind == BISE_ROLE_Q ? g->f->H : g->f->K;
    const bise_linear with = {
        .role = role, .in = l->in, .out = l->out, .dtype = dtype,
        .data = data, .decode = codec->decode,
        .row_bytes = bise_dtype_bytes(dtype, (uint64_t)l->in),
        .pair_rows = order == BISE_ROWS_INTERLEAVED ? l->out / heads : 0,
    };
    bise_linear_fini(l);
    *l = with;
    return BISE_OK;
}
