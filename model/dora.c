/* dora.c - weight-decomposed adapters (Liu et al. 2024; lora.md 1): the row
 * norms of W + s B A are replaced by a trained magnitude m,
 *   y = g v,  v = x W^T + s (x A^T) B^T,  g = m / n,  n_o = |(W + s B A)_o|,
 * with n a constant in the backward pass (paper, section 4.3):
 *   dm_o = sum_t dy_to v_to / n_o;  dv = g dy;  then the rules of LoRA.
 * Neither W + s B A nor v is kept: norms come from products with A, and the
 * backward pass computes v again. Wraps the products of matmul.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>

#include "core/mem.h"
#include "model/linear_int.h"

#define ROWS 16  /* tokens of a task */
#define COLS 64  /* output columns of a task */

/* gain and norm share one allocation; the weight part of the norms is kept in
 * double because the sum below subtracts. */
bise_status bise_dora_attach(bise_linear *l, const bise_lora_module *m,
                             float dropout, bise_error *err)
{
    if (dropout > 0 && m->da)
        return bise_fail(err, BISE_EUNSUPPORTED,
                         "DoRA is trained without dropout");
    const size_t n = (size_t)l->out;
    l->gain = bise_alloc_array(n, 2 * sizeof *l->gain);
    l->row_sumsq = bise_alloc_array(n, sizeof *l->row_sumsq);
    if (!l->gain || !l->row_sumsq)
        return bise_fail_nomem(err);
    l->norm = l->gain + n;
    return BISE_OK;
}

/* Arguments of the tasks below. */
typedef struct job {
    const bise_exec *e;
    const bise_linear *l;
    const float *x, *v;
    float *y;
    float *aat;              /* [r, r]: A A^T */
    int32_t T;
    bool first, add;
} job;

/* n^2 = |W_o|^2 + 2 s (W A^T)_o . B_o + s^2 B_o (A A^T) B_o for COLS rows. The
 * first sum needs the weights only and is kept. */
static void norm_task(void *ctx, size_t block, int worker)
{
    const job *j = ctx;
    const bise_linear *l = j->l;
    const bise_lora_module *m = l->branches[0].m;
    const bise_kernels *k = j->e->k;
    float *row = j->e->scratch + (size_t)worker * j->e->scratch_floats;
    const int32_t o0 = (int32_t)block * COLS;
    for (int32_t o = o0; o < l->out && o < o0 + COLS; o++) {
        const float *b = m->b + (size_t)o * (size_t)m->r;
        double cross = 0, own = 0;
        bise_linear_part(l, k, o, 0, l->in, row);
        if (j->first)
            l->row_sumsq[o] = k->sumsq(row, (size_t)l->in);
        for (int32_t i = 0; i < m->r; i++) {
            cross += (double)b[i] *
                     (double)k->dot(row, m->a + (size_t)i * (size_t)l->in,
                                    (size_t)l->in);
            own += (double)b[i] * (double)k->dot(j->aat + i * m->r, b,
                                                 (size_t)m->r);
        }
        const double s = (double)m->scale;
        const double n = sqrt(l->row_sumsq[o] + 2 * s * cross + s * s * own);
        l->norm[o] = (float)n;
        l->gain[o] = n > 0 ? (float)((double)m->magnitude[o] / n) : 0;
    }
}

/* A A^T is r x r and cheap; the rest is one pass over the weight, as much
 * work as a forward of r tokens. */
void bise_dora_refresh(const bise_exec *e, const bise_linear *l, bool first,
                       float *aat)
{
    if (!l->gain)
        return;
    const bise_lora_module *m = l->branches[0].m;
    for (int32_t i = 0; i < m->r; i++)
        for (int32_t k = 0; k < m->r; k++)
            aat[i * m->r + k] = e->k->dot(m->a + (size_t)i * (size_t)l->in,
                                          m->a + (size_t)k * (size_t)l->in,
                                          (size_t)l->in);
    job j = { .e = e, .l = l, .aat = aat, .first = first };
    bise_pool_run(e->pool, (size_t)((l->out + COLS - 1) / COLS), norm_task,
                  &j);
}

/* y (= or +=) g v for a block of tokens. */
static void gain_task(void *ctx, size_t block, int worker)
{
    const job *j = ctx;
    const int32_t n = j->l->out, t0 = (int32_t)block * ROWS;
    const float *gain = j->l->gain;
    (void)worker;
    for (int32_t t = t0; t < j->T && t < t0 + ROWS; t++) {
        const float *v = j->v + (size_t)t * (size_t)n;
        float *y = j->y + (size_t)t * (size_t)n;
        for (int32_t o = 0; o < n; o++)
            y[o] = j->add ? y[o] + gain[o] * v[o] : gain[o] * v[o];
    }
}

/* Also used backward: dv = g dy has the same form. */
static void apply_gain(const bise_exec *e, const bise_linear *l, float *y,
                       const float *v, int32_t T, bool add)
{
    job j = { .e = e, .l = l, .y = y, .v = v, .T = T, .add = add };
    bise_pool_run(e->pool, (size_t)((T + ROWS - 1) / ROWS), gain_task, &j);
}

/* dm_o += sum_t dy_to v_to / n_o for COLS columns, tokens in order. */
static void magnitude_task(void *ctx, size_t block, int worker)
{
    const job *j = ctx;
    const bise_linear *l = j->l;
    const int32_t o0 = (int32_t)block * COLS;
    const int32_t cols = l->out - o0 < COLS ? l->out - o0 : COLS;
    double sum[COLS] = { 0 };
    (void)worker;
    for (int32_t t = 0; t < j->T; t++) {
        const size_t at = (size_t)t * (size_t)l->out + (size_t)o0;
        for (int32_t o = 0; o < cols; o++)
            sum[o] += (double)j->x[at + (size_t)o] *
                      (double)j->v[at + (size_t)o];
    }
    for (int32_t o = 0; o < cols; o++)
        if (l->norm[o0 + o] > 0)
            l->branches[0].m->dmagnitude[o0 + o] +=
                (float)(sum[o] / (double)l->norm[o0 + o]);
}

/* Most models have none: then the group stays one product. */
static bool any_gain(const bise_linear *l, int n)
{
    for (int i = 0; i < n; i++)
        if (l[i].gain)
            return true;
    return false;
}

/* Linears one by one: those with a magnitude make v first. */
void bise_linears_forward(const bise_exec *e, const bise_linear *l, int n,
                          float *const *y, const float *x, int32_t T,
                          float *h, bool add)
{
    if (!any_gain(l, n)) {
        bise_products_forward(e, l, n, y, x, T, h, add);
        return;
    }
    for (int i = 0; i < n; i++) {
        float *v = l[i].gain ? e->dora_v : y[i];
        bise_products_forward(e, &l[i], 1, &v, x, T, h,
                              add && !l[i].gain);
        if (l[i].gain)
            apply_gain(e, &l[i], y[i], v, T, add);
        h += (size_t)T * (size_t)l[i].rank;
    }
}

/* dh serves twice: as the place for h while v is made, then for the real dh.
 */
void bise_linears_backward(const bise_exec *e, const bise_linear *l, int n,
                           float *dx, float *const *dy, const float *x,
                           const float *h, float *dh, int32_t T, bool add)
{
    if (!any_gain(l, n)) {
        bise_products_backward(e, l, n, dx, dy, x, h, dh, T, add);
        return;
    }
    for (int i = 0; i < n; i++, add = true) {
        float *d = dy[i];
        if (l[i].gain) {
            /* v again (dh is free until below), dm from it, then dv. */
            bise_products_forward(e, &l[i], 1, &e->dora_v, x, T, dh, false);
            job j = { .e = e, .l = &l[i], .x = d, .v = e->dora_v, .T = T };
            if (l[i].branches[0].m->dmagnitude)
                bise_pool_run(e->pool, (size_t)((l[i].out + COLS - 1) / COLS),
                              magnitude_task, &j);
            apply_gain(e, &l[i], e->dora_v, d, T, false);
            d = e->dora_v;
        }
        bise_products_backward(e, &l[i], 1, dx, &d, x, h, dh, T, add);
        h += (size_t)T * (size_t)l[i].rank;
    }
}
