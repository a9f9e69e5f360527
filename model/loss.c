/* loss.c - logits and cross entropy at the rows that need them, in chunks, so
 * that [T, V] never exists. Training turns a chunk of logits into its gradient
 * in place and through the head at once: since the head is frozen its input
 * gradient is complete after the chunk (lora.md 8).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "model/graph_int.h"

/* rows_x = final hidden rows[0..n), then logits of them. */
static void chunk_logits(bise_graph *g, const int32_t *rows, int32_t n,
                         float *out)
{
    const size_t C = (size_t)g->f->C;
    for (int32_t i = 0; i < n; i++)
        memcpy(g->rows_x + (size_t)i * C, g->xf + (size_t)rows[i] * C,
               C * sizeof *g->rows_x);
    bise_linears_forward(&g->e, &g->head, 1, &out, g->rows_x, n, g->head_h,
                         false);
}

/* Any rows of the last forward; in chunks because rows_x is a chunk. */
bise_status bise_graph_logits(bise_graph *g, const int32_t *rows, int32_t n,
                              float *out, bise_error *err)
{
    for (int32_t i = 0; i < n; i++)
        if (rows[i] < 0 || rows[i] >= g->T)
            return bise_fail(err, BISE_EINVAL, "logits of row %d of %d",
                             rows[i], g->T);
    for (int32_t i = 0; i < n; i += g->chunk) {
        const int32_t m = n - i < g->chunk ? n - i : g->chunk;
        chunk_logits(g, rows + i, m, out + (size_t)i * (size_t)g->f->V);
    }
    return BISE_OK;
}

typedef struct loss_job {
    bise_graph *g;
    const bise_batch *b;
    const int32_t *rows;
    bool grad;
} loss_job;

/* Cross entropy of one row of logits z with target y and weight w:
 *   nll = lse(z) - z_y;   dz = w (softmax(z) - onehot(y)), in place. */
static void loss_task(void *ctx, size_t i, int worker)
{
    const loss_job *j = ctx;
    const bise_graph *g = j->g;
    const size_t V = (size_t)g->f->V;
    float *z = g->logits + i * V;
    const int32_t t = j->rows[i], y = j->b->targets[t];
    const float at = z[y];
    float max;
    (void)worker;
    if (!j->grad) {
        const double sum = (double)g->e.k->sumexp(z, V, &max);
        g->row_nll[i] = (double)max + log(sum) - (double)at;
        return;
    }
    /* The weight may be negative: preference losses push tokens down. */
    const float w = j->b->weights ? j->b->weights[t] : 1;
    const float sum = g->e.k->softmax_exp(z, V, &max);
    g->row_nll[i] = (double)max + log((double)sum) - (double)at;
    g->e.k->scale(z, w / sum, V);
    z[y] -= w;
}

/* Rows with a target, in order; also checks the targets. */
static bise_status target_rows(bise_graph *g, const bise_batch *b, int32_t *n,
                               bise_error *err)
{
    *n = 0;
    for (int32_t t = 0; t < b->T; t++) {
        if (b->targets[t] >= g->f->V)
            return bise_fail(err, BISE_EINVAL, "target %d at position %d, the "
                             "model has %d tokens", b->targets[t], t, g->f->V);
        if (b->targets[t] >= 0)
            g->rows[(*n)++] = t;
    }
    return BISE_OK;
}

/* One chunk of rows with its losses added in row order. */
static void loss_chunk(bise_graph *g, const bise_batch *b, const int32_t *rows,
                       int32_t n, bool grad, double *sum, float *nll)
{
    loss_job j = { .g = g, .b = b, .rows = rows, .grad = grad };
    chunk_logits(g, rows, n, g->logits);
    bise_pool_run(g->e.pool, (size_t)n, loss_task, &j);
    for (int32_t i = 0; i < n; i++) {
        const double w = b->weights ? (double)b->weights[rows[i]] : 1;
        *sum += w * g->row_nll[i];
        if (nll)
            nll[rows[i]] = (float)g->row_nll[i];
    }
    if (!grad)
        return;
    const size_t C = (size_t)g->f->C;
    bise_linears_backward(&g->e, &g->head, 1, g->rows_dx, &g->logits,
                          g->rows_x, g->head_h, g->dh, n, false);
    for (int32_t i = 0; i < n; i++)
        memcpy(g->dxf + (size_t)rows[i] * C, g->rows_dx + (size_t)i * C,
               C * sizeof *g->dxf);
}

/* Forward once, then the head chunk by chunk. The gradient of the hidden rows
 * without a target stays zero. */
static bise_status loss_all(bise_graph *g, const bise_batch *b, bool grad,
                            double *sum, float *nll, bise_error *err)
{
    int32_t n = 0;
    bise_status s;
    if (!b->targets)
        return bise_fail(err, BISE_EINVAL, "a batch without targets has no "
                         "loss");
    if ((s = graph_set_batch(g, b, err)) != BISE_OK ||
        (s = target_rows(g, b, &n, err)) != BISE_OK)
        return s;
    /* Taps and the auxiliary loss of experts look at all rows. */
    if (n < b->T && !g->o.tap && !g->balance.count)
        g->n_loss = n;
    if ((s = graph_run(g, b->ids, b->T, NULL, err)) != BISE_OK)
        return s;
    const size_t row = (size_t)g->f->C * sizeof *g->xf;
    graph_widen(g, g->xf, row);
    /* Rows without a target have no gradient; the norm may read them. */
    if (grad)
        memset(g->dxf, 0, (size_t)b->T * row);
    if (nll)
        memset(nll, 0, (size_t)b->T * sizeof *nll);
    for (int32_t i = 0; i < n; i += g->chunk)
        loss_chunk(g, b, g->rows + i, n - i < g->chunk ? n - i : g->chunk,
                   grad, sum, nll);
    if (grad)
        graph_narrow(g, g->dxf, row);
    graph_lap(g, BISE_STEP_LOSS);
    graph_pages_end_head(g);
    return BISE_OK;
}

/* Evaluation: no dropout, no gradients. */
bise_status bise_graph_loss(bise_graph *g, const bise_batch *b, double *sum,
                            float *nll, bise_error *err)
{
    g->e.training = false;
    return loss_all(g, b, false, sum, nll, err);
}

/* Training: the head and the layers go backward in the same call. */
bise_status bise_graph_train(bise_graph *g, const bise_batch *b, double *sum,
                             bise_error *err)
{
    if (!g->o.train)
        return bise_fail(err, BISE_EINVAL, "this graph was planned without "
                         "gradients");
    g->e.training = true;
    graph_balance_start(g);
    bise_status s = loss_all(g, b, true, sum, NULL, err);
    if (s == BISE_OK) {
        *sum += graph_balance_finish(g, b);
        s = graph_backward(g, err);
    }
    graph_lap(g, BISE_STEP_PRODUCTS);
    return s;
}
