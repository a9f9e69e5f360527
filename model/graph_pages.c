/* graph_pages.c - which pages of the mapped weights are resident (layer
 * streaming): the next layer is read ahead while this one computes, and a layer
 * that is done leaves memory; each is read once per direction. Embedding rows
 * leave after every look-up of a training pass: they are few, but the kernel
 * maps the pages around them too. Copies in memory are never touched.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/file.h"
#include "model/graph_int.h"

/* One linear's rows, when they are in a file. */
static void advise(const bise_linear *l, bool ahead)
{
    const uint64_t n = (uint64_t)l->out * l->row_bytes;
    if (!l->mapped)
        return;
    if (ahead)
        bise_map_ahead(l->data, n);
    else
        bise_map_release(l->data, n);
}

/* All matrices of a layer. */
static void advise_layer(const bise_graph *g, int32_t i, bool ahead)
{
    const graph_layer *l = &g->layers[i];
    const bise_linear *const dense[] = { &l->qkv[0], &l->qkv[1], &l->qkv[2],
                                         &l->o, &l->up[0], &l->up[1],
                                         &l->down };
    for (size_t k = 0; k < sizeof dense / sizeof *dense; k++)
        advise(dense[k], ahead);
    for (int32_t e = 0; l->moe && e < g->f->E; e++) {
        advise(&l->exp_up[2 * e], ahead);
        advise(&l->exp_up[2 * e + 1], ahead);
        advise(&l->exp_down[e], ahead);
    }
}

/* Called at the start of a layer's work; step: +1 forward, -1 backward. */
void graph_pages_begin(const bise_graph *g, int32_t l, int32_t step)
{
    const int32_t next = l + step;
    if (g->o.stream_weights && next >= 0 && next < g->f->L)
        advise_layer(g, next, true);
}

void graph_pages_end(const bise_graph *g, int32_t l)
{
    if (g->o.stream_weights)
        advise_layer(g, l, false);
}

/* The head is as large as several layers. */
void graph_pages_end_head(const bise_graph *g)
{
    if (g->o.stream_weights)
        advise(&g->head, false);
}

void graph_pages_end_embed(const bise_graph *g)
{
    if (g->o.train)
        advise(&g->embed, false);
}
