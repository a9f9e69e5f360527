/* score.c - sums over scored tokens. With p the base's and q the model's
 * distribution at a position: nll = -log q(right token),
 * kld = sum_v p(v) (log p(v) - log q(v)), in double from float32 logits.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define ROWS 32 /* rows of logits at a time */

typedef struct row_score {
    double nll, base_nll, kld, dp;
    bool same_top;
} row_score;

struct bise_score {
    bise_graph *model, *base;
    bise_pool *pool;
    const bise_kernels *k;
    int32_t V;
    float *z, *zb;          /* [ROWS, V] */
    int32_t row[ROWS], target[ROWS];
    row_score out[ROWS];
    uint64_t n, windows, same;
    double nll, nll2, base_nll, base_nll2, nll_base; /* nll_base: products */
    double kld, kld2, dp, dp2, dp4;
    float *klds, *dps;      /* [n] */
    size_t kld_cap, dp_cap;
    int32_t *ids, *targets; /* a window */
    size_t ids_cap, targets_cap;
};

/* Buffers for ROWS rows of logits of each model. */
bise_status bise_score_new(bise_score **out, bise_graph *model,
                           bise_graph *base, int32_t V, bise_pool *pool,
                           bise_error *err)
{
    bise_score *s = bise_alloc(sizeof *s);
    if (!s)
        return bise_fail_nomem(err);
    s->model = model;
    s->base = base;
    s->V = V;
    s->pool = pool;
    s->k = bise_kernels_get();
    /* ROWS rows of each model: 16 MiB at 131072 tokens of vocabulary. */
    s->z = bise_alloc_array((size_t)V, ROWS * sizeof *s->z);
    s->zb = base ? bise_alloc_array((size_t)V, ROWS * sizeof *s->zb) : NULL;
    if (!s->z || (base && !s->zb)) {
        bise_score_free(s);
        return bise_fail_nomem(err);
    }
    *out = s;
    return BISE_OK;
}

/* The graphs stay with their owner. */
void bise_score_free(bise_score *s)
{
    if (!s)
        return;
    bise_free(s->z);
    bise_free(s->zb);
    bise_free(s->klds);
    bise_free(s->dps);
    bise_free(s->ids);
    bise_free(s->targets);
    bise_free(s);
}

/* Index of the largest entry, the lowest one on ties. */
static int32_t top_of(const float *z, int32_t V)
{
    int32_t top = 0;
    for (int32_t i = 1; i < V; i++)
        if (z[i] > z[top])
            top = i;
    return top;
}

/* Log of the sum of exponentials of a row. */
static double log_sum(const bise_score *s, const float *z)
{
    float max;
    const double sum = (double)s->k->sumexp(z, (size_t)s->V, &max);
    return (double)max + log(sum);
}

/* Compare with the base: with z, zb the logits of both,
 *   kld = sum_v p_v (zb_v - z_v) - (lse_b - lse).
 * Differences are formed before they are weighed, so that nearly equal models
 * do not cancel to noise. Uses up both rows. */
static void score_against(const bise_score *s, float *z, float *zb, double lse,
                          int32_t y, row_score *out)
{
    const int32_t V = s->V;
    const double base_lse = log_sum(s, zb);
    float max;
    double kld = 0;
    out->same_top = top_of(z, V) == top_of(zb, V);
    out->base_nll = base_lse - (double)zb[y];
    for (int32_t v = 0; v < V; v++)
        z[v] = zb[v] - z[v];
    const double sum = (double)s->k->softmax_exp(zb, (size_t)V, &max);
    for (int32_t v = 0; v < V; v++)
        kld += (double)zb[v] * (double)z[v];
    out->kld = kld / sum - (base_lse - lse);
    out->dp = exp(-out->nll) - exp(-out->base_nll);
}

/* One row is one task; the results are added later in row order. */
static void score_row(void *ctx, size_t i, int worker)
{
    bise_score *s = ctx;
    const size_t at = i * (size_t)s->V;
    const int32_t y = s->target[i];
    (void)worker;
    const double lse = log_sum(s, s->z + at);
    s->out[i] = (row_score){ .nll = lse - (double)s->z[at + (size_t)y] };
    if (s->base)
        score_against(s, s->z + at, s->zb + at, lse, y, &s->out[i]);
}

/* Room for n more values of what the quantiles are of. */
static bise_status grow_values(bise_score *s, int32_t n, bise_error *err)
{
    const size_t need = (size_t)s->n + (size_t)n;
    void *a = s->klds, *b = s->dps;
    const int grown = bise_grow(&a, &s->kld_cap, need, sizeof *s->klds) |
                      bise_grow(&b, &s->dp_cap, need, sizeof *s->dps);
    s->klds = a;
    s->dps = b;
    return grown < 0 ? bise_fail_nomem(err) : BISE_OK;
}

/* Add rows [0, n) in order. */
static bise_status add_rows(bise_score *s, int32_t n, bise_error *err)
{
    if (s->base && grow_values(s, n, err) != BISE_OK)
        return BISE_ENOMEM;
    for (int32_t i = 0; i < n; i++) {
        const row_score *r = &s->out[i];
        s->nll += r->nll;
        s->nll2 += r->nll * r->nll;
        s->base_nll += r->base_nll;
        s->base_nll2 += r->base_nll * r->base_nll;
        s->nll_base += r->nll * r->base_nll;
        s->kld += r->kld;
        s->kld2 += r->kld * r->kld;
        s->dp += r->dp;
        s->dp2 += r->dp * r->dp;
        s->dp4 += r->dp * r->dp * r->dp * r->dp;
        s->same += r->same_top;
        if (s->base) {
            s->klds[s->n] = (float)r->kld;
            s->dps[s->n] = (float)r->dp;
        }
        s->n++;
    }
    return BISE_OK;
}

/* Logits of the collected rows of both models, and their scores. */
static bise_status flush_rows(bise_score *s, int32_t n, bise_error *err)
{
    bise_status st = bise_graph_logits(s->model, s->row, n, s->z, err);
    if (st == BISE_OK && s->base)
        st = bise_graph_logits(s->base, s->row, n, s->zb, err);
    if (st != BISE_OK)
        return st;
    bise_pool_run(s->pool, (size_t)n, score_row, s);
    return add_rows(s, n, err);
}

/* Forward both models, then collect target rows and score them ROWS at a
 * time. */
bise_status bise_score_batch(bise_score *s, const bise_batch *b,
                             bise_error *err)
{
    bise_status st = bise_graph_forward(s->model, b, err);
    if (st == BISE_OK && s->base)
        st = bise_graph_forward(s->base, b, err);
    int32_t n = 0;
    for (int32_t t = 0; st == BISE_OK && t < b->T; t++) {
        if (b->targets[t] < 0)
            continue;
        if (b->targets[t] >= s->V)
            return bise_fail(err, BISE_EINVAL, "target %d, the model has %d "
                             "tokens", b->targets[t], s->V);
        /* Positions without a target cost no logits. */
        s->row[n] = t;
        s->target[n++] = b->targets[t];
        if (n == ROWS) {
            st = flush_rows(s, n, err);
            n = 0;
        }
    }
    if (st == BISE_OK && n)
        st = flush_rows(s, n, err);
    s->windows++;
    return st;
}

/* One window of a text: ids [first, first + n), of which the last fresh ids
 * are scored. */
typedef struct window {
    size_t first;
    int32_t n, fresh;
    bool bos_over_first; /* BOS replaces the first id, else it goes before */
} window;

/* Ids of a plain window: one place goes to BOS. */
static int32_t plain_ids(const bise_window_options *o)
{
    return o->ctx - (o->bos >= 0);
}

/* Steps longer than a window would skip text. */
static int32_t stride_of(const bise_window_options *o)
{
    const int32_t most = plain_ids(o);
    return o->stride > 0 && o->stride < most ? o->stride : most;
}

uint64_t bise_score_windows(size_t n, const bise_window_options *o)
{
    uint64_t w;
    if (o->rule == BISE_WINDOWS_HALVES)
        w = n / (size_t)o->ctx;
    else if (n < 2)
        w = 0;
    else if (o->stride > 0) /* a last single id has context */
        w = (n - 1) / (size_t)stride_of(o) + 1;
    else /* starts 0, step, ... below n - 1: one id alone is no window */
        w = (n - 2) / (size_t)stride_of(o) + 1;
    return o->chunks > 0 && w > (uint64_t)o->chunks ? (uint64_t)o->chunks : w;
}

/* Window number i. With a stride the window ends where the i-th step ends and
 * reaches back as far as the context allows. */
static window window_at(size_t n, const bise_window_options *o, uint64_t i)
{
    if (o->rule == BISE_WINDOWS_HALVES)
        return (window){ .first = (size_t)i * (size_t)o->ctx, .n = o->ctx,
                         .fresh = o->ctx - 1 - o->ctx / 2,
                         .bos_over_first = o->bos >= 0 };
    const size_t step = (size_t)stride_of(o), start = (size_t)i * step;
    const size_t end = start + step < n ? start + step : n;
    const size_t most = (size_t)plain_ids(o);
    const size_t first = end > most ? end - most : 0;
    /* Windows that do not overlap start afresh, also the short last one. */
    const size_t from = o->stride > 0 ? first : start;
    return (window){ .first = from, .n = (int32_t)(end - from),
                     .fresh = (int32_t)(end - start) };
}

/* Lay the window out: inputs, and targets where something is scored. */
static int32_t lay_out(bise_score *s, const int32_t *ids,
                       const bise_window_options *o, const window *w)
{
    int32_t T = 0;
    if (o->bos >= 0 && !w->bos_over_first)
        s->ids[T++] = o->bos;
    for (int32_t i = 0; i < w->n; i++)
        s->ids[T++] = ids[w->first + (size_t)i];
    if (w->bos_over_first)
        s->ids[0] = o->bos;
    for (int32_t t = 0; t < T; t++)
        s->targets[t] = t + 1 < T && t + 1 >= T - w->fresh ? s->ids[t + 1] :
                                                             -1;
    return T - 1; /* the last id is only predicted */
}

/* Windows one after another; the last id of a window is only predicted. */
bise_status bise_score_text(bise_score *s, const int32_t *ids, size_t n,
                            const bise_window_options *o, bise_error *err)
{
    if (o->ctx < 2 || (o->bos >= 0 && o->ctx < 3))
        return bise_fail(err, BISE_EINVAL, "context of %d tokens", o->ctx);
    /* Known beforehand, so that progress can tell what is left. */
    const uint64_t windows = bise_score_windows(n, o);
    if (!windows)
        return bise_fail(err, BISE_EFORMAT, "%zu tokens are too few for a "
                         "context of %d", n, o->ctx);
    void *a = s->ids, *b = s->targets;
    const int grown = bise_grow(&a, &s->ids_cap, (size_t)o->ctx, 4) |
                      bise_grow(&b, &s->targets_cap, (size_t)o->ctx, 4);
    s->ids = a;
    s->targets = b;
    if (grown < 0)
        return bise_fail_nomem(err);
    for (uint64_t i = 0; i < windows; i++) {
        const window w = window_at(n, o, i);
        const int32_t T = lay_out(s, ids, o, &w), seg[] = { 0, T };
        const bise_batch batch = { .ids = s->ids, .seg = seg, .T = T,
                                   .n_seg = 1, .targets = s->targets };
        if (T < 1)
            continue;
        bise_status st = bise_score_batch(s, &batch, err);
        if (st == BISE_OK)
            st = bise_progress_step(o->progress, "eval", i + 1, windows,
                                    "windows", NULL, err);
        if (st != BISE_OK)
            return st;
    }
    return BISE_OK;
}

/* Order for the quantiles. */
static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Quantile of sorted values by linear interpolation. */
static double quantile(const float *v, uint64_t n, double q)
{
    const double at = q * (double)(n - 1);
    const size_t i = (size_t)at;
    const double f = at - (double)i;
    return i + 1 < n ? (1 - f) * (double)v[i] + f * (double)v[i + 1] :
                       (double)v[i];
}

const double bise_score_quantiles[BISE_Q_COUNT] = {
    0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1,
};

/* Sort n values and take all quantiles of them. */
static void quantiles(double q[BISE_Q_COUNT], float *v, uint64_t n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    for (int i = 0; i < BISE_Q_COUNT; i++)
        q[i] = quantile(v, n, bise_score_quantiles[i]);
}

/* Covariance of two means from the sums of x, y and their products. */
static double mean_cov(double x, double y, double products, double n)
{
    return n > 1 ? (products / n - x / n * (y / n)) / (n - 1) : 0;
}

/* Root of what is not negative but for rounding. */
static double root(double v)
{
    return v > 0 ? sqrt(v) : 0;
}

/* Standard error of a mean from sums of values and squares. */
static double mean_error(double sum, double squares, double n)
{
    return root(mean_cov(sum, sum, squares, n));
}

/* Both models saw the same tokens, so the error of what lies between their
 * perplexities is far smaller than that of either. */
static void compare_nll(const bise_score *s, bise_score_result *r)
{
    const double n = (double)s->n;
    const double a = mean_cov(s->nll, s->nll, s->nll2, n);
    const double b = mean_cov(s->base_nll, s->base_nll, s->base_nll2, n);
    const double ab = mean_cov(s->nll, s->base_nll, s->nll_base, n);
    r->base_nll = s->base_nll / n;
    r->base_nll_error = root(b);
    r->nll_correlation = a > 0 && b > 0 ? ab / (sqrt(a) * sqrt(b)) : 0;
    r->ln_ratio_error = root(a + b - 2 * ab);
    /* Errors of exp(nll) to first order. */
    const double p = exp(r->nll), pb = exp(r->base_nll);
    r->ppl_diff_error = root(p * p * a + pb * pb * b - 2 * p * pb * ab);
}

/* Means and quantiles. Sorting the values does not disturb later
 * additions. */
void bise_score_get(bise_score *s, bise_score_result *r)
{
    const double n = (double)s->n;
    *r = (bise_score_result){ .tokens = s->n, .windows = s->windows };
    if (!s->n)
        return;
    r->nll = s->nll / n;
    r->nll_error = mean_error(s->nll, s->nll2, n);
    if (!s->base)
        return;
    compare_nll(s, r);
    r->kld_mean = s->kld / n;
    r->kld_error = mean_error(s->kld, s->kld2, n);
    quantiles(r->kld_q, s->klds, s->n);
    r->same_top = (double)s->same / n;
    r->same_top_error = n > 1 ?
        sqrt(r->same_top * (1 - r->same_top) / (n - 1)) : 0;
    r->dp_mean = s->dp / n;
    r->dp_error = mean_error(s->dp, s->dp2, n);
    r->dp_rms = sqrt(s->dp2 / n);
    r->dp_rms_error = r->dp_rms > 0 ?
        mean_error(s->dp2, s->dp4, n) / (2 * r->dp_rms) : 0;
    quantiles(r->dp_q, s->dps, s->n);
}
