/* balance.c - the auxiliary loss of a mixture of experts (Fedus et al. 2021,
 * equations 4 to 6), as transformers adds it to Mixtral's: over all N rows of
 * all expert layers, with f_e the share of rows that an expert gets and P_e
 * its mean probability,
 *   aux = E sum_e f_e P_e,   loss += coef aux,   daux/dp_e = E f_e / N.
 * The shares do not move with the weights. The forward pass counts, moe.c adds
 * the gradient where it goes through the router.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "model/graph_int.h"

/* Only a training pass counts: evaluation reports the plain loss. */
static bool active(const bise_graph *g)
{
    return g->balance.count && g->e.training;
}

/* Before the forward pass of a micro-batch. */
void graph_balance_start(bise_graph *g)
{
    const size_t E = (size_t)g->f->E;
    if (!g->balance.count)
        return;
    memset(g->balance.count, 0, E * sizeof *g->balance.count);
    memset(g->balance.p, 0, E * sizeof *g->balance.p);
    g->balance.rows = 0;
}

/* p = softmax(z) in double; returns nothing that depends on the others. */
static void softmax(const float *z, int32_t E, double *p)
{
    double max = (double)z[0], sum = 0;
    for (int32_t e = 1; e < E; e++)
        max = (double)z[e] > max ? (double)z[e] : max;
    for (int32_t e = 0; e < E; e++)
        sum += p[e] = exp((double)z[e] - max);
    for (int32_t e = 0; e < E; e++)
        p[e] /= sum;
}

/* The routed rows of one layer: moe_logits and moe_expert. */
void graph_balance_count(bise_graph *g)
{
    const int32_t E = g->f->E, top_k = g->f->top_k;
    if (!active(g))
        return;
    for (int32_t t = 0; t < g->T; t++) {
        softmax(g->moe_logits + (size_t)t * (size_t)E, E, g->balance.row);
        for (int32_t e = 0; e < E; e++)
            g->balance.p[e] += g->balance.row[e];
        for (int32_t k = 0; k < top_k; k++)
            g->balance.count[g->moe_expert[t * top_k + k]]++;
    }
    g->balance.rows += g->T;
}

/* The trainer divides sums by the supervised tokens, so the mean of the rows
 * counts as often. Leaves dloss/dp_e in p for the backward pass. */
double graph_balance_finish(bise_graph *g, const bise_batch *b)
{
    const int32_t E = g->f->E;
    double sum = 0, n = 0;
    if (!active(g) || !g->balance.rows)
        return 0;
    const double rows = (double)g->balance.rows;
    for (int32_t t = 0; t < b->T; t++)
        n += b->targets[t] >= 0;
    const double scale = g->o.router_aux * n * E;
    for (int32_t e = 0; e < E; e++) {
        const double share = g->balance.count[e] / rows;
        sum += share * g->balance.p[e] / rows;
        g->balance.p[e] = scale * share / rows;
    }
    return scale * sum;
}

/* A row of logits becomes its gradient: dz_e = p_e (g_e - sum_j p_j g_j). */
void graph_balance_bwd(bise_graph *g, float *z)
{
    const int32_t E = g->f->E;
    double sum = 0;
    if (!active(g)) {
        memset(z, 0, (size_t)E * sizeof *z);
        return;
    }
    softmax(z, E, g->balance.row);
    for (int32_t e = 0; e < E; e++)
        sum += g->balance.row[e] * g->balance.p[e];
    for (int32_t e = 0; e < E; e++)
        z[e] = (float)(g->balance.row[e] * (g->balance.p[e] - sum));
}
