/* sampler.c - next-token choice. Order of the filters: temperature, top-k,
 * top-p, min-p, then one draw from what is left. The draw of a step is a pure
 * function of (seed, step). Called by generate, chat and nothing else.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "core/mem.h"
#include "core/rng.h"

/* Below exp(-40) of the most likely token nothing is ever drawn: a vocabulary
 * of 2^17 such tokens has a share of 1e-12. Keeps the sort short. */
#define NEGLIGIBLE 40.0

typedef struct candidate {
    double p; /* first the scaled logit, then its weight exp(z - max) */
    int32_t id;
} candidate;

/* Refuse what has no meaning rather than clamp it. */
bise_status bise_sampler_init(bise_sampler *s, int32_t V, bise_error *err)
{
    if (s->temp < 0 || !isfinite(s->temp))
        return bise_fail(err, BISE_EINVAL, "temperature %g", s->temp);
    if (s->top_p < 0 || s->top_p > 1 || s->min_p < 0 || s->min_p > 1)
        return bise_fail(err, BISE_EINVAL, "top-p and min-p are shares from 0 "
                         "to 1, not %g and %g", s->top_p, s->min_p);
    if (s->top_k < 0)
        return bise_fail(err, BISE_EINVAL, "top-k of %d", s->top_k);
    s->V = V;
    s->scratch = bise_alloc_array((size_t)V, sizeof(candidate));
    return s->scratch ? BISE_OK : bise_fail_nomem(err);
}

/* May follow a failed init. */
void bise_sampler_fini(bise_sampler *s)
{
    bise_free(s->scratch);
    s->scratch = NULL;
}

/* Strictly greater: the lowest id wins a tie. */
static int32_t greedy(const float *z, int32_t V)
{
    int32_t best = 0;
    for (int32_t i = 1; i < V; i++)
        if (z[i] > z[best])
            best = i;
    return best;
}

/* Most likely first, lowest id on ties: a total order, so qsort's choice of
 * algorithm does not matter. */
static int by_weight(const void *pa, const void *pb)
{
    const candidate *a = pa, *b = pb;
    if (a->p != b->p)
        return a->p < b->p ? 1 : -1;
    return (a->id > b->id) - (a->id < b->id);
}

/* Candidates with their weights exp((z - max)/temp), sorted; returns n. */
static int32_t collect(const bise_sampler *s, const float *z, candidate *c)
{
    const double max = (double)z[greedy(z, s->V)];
    int32_t n = 0;
    for (int32_t i = 0; i < s->V; i++) {
        const double d = ((double)z[i] - max) / s->temp;
        if (d > -NEGLIGIBLE)
            c[n++] = (candidate){ .p = exp(d), .id = i };
    }
    qsort(c, (size_t)n, sizeof *c, by_weight);
    return n;
}

/* How many candidates stay. top_p 0 or 1 and min_p 0 keep everything. */
static int32_t filter(const bise_sampler *s, const candidate *c, int32_t n)
{
    if (s->top_k > 0 && n > s->top_k)
        n = s->top_k;
    double sum = 0, run = 0;
    for (int32_t i = 0; i < n; i++)
        sum += c[i].p;
    if (s->top_p > 0 && s->top_p < 1)
        for (int32_t i = 0; i < n; i++) {
            run += c[i].p;
            if (run >= s->top_p * sum)
                n = i + 1;
        }
    while (n > 1 && c[n - 1].p < s->min_p * c[0].p)
        n--;
    return n;
}

/* Walk down the sorted weights until the draw is used up. */
int32_t bise_sampler_next(bise_sampler *s, const float *logits)
{
    const uint64_t step = s->step++;
    if (s->temp <= 0)
        return greedy(logits, s->V);
    candidate *c = s->scratch;
    const int32_t n = filter(s, c, collect(s, logits, c));
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += c[i].p;
    double u = bise_rng_f64(s->seed, 0, step) * sum;
    for (int32_t i = 0; i < n; i++)
        if ((u -= c[i].p) < 0)
            return c[i].id;
    return n ? c[n - 1].id : 0; /* only NaN logits leave nothing */
}
