/* optimizer.c - AdamW and Lion over flat buffers. With g the scaled gradient,
 * k = 1, 2, ... the update and wd the decay (lora.md 9):
 *   AdamW  p *= 1 - lr wd;  m += (g - m)(1 - b1);  v = b2 v + (1 - b2) g^2
 *          p -= lr/(1 - b1^k) m / (sqrt(v)/sqrt(1 - b2^k) + eps)
 *   Lion   p *= 1 - lr wd;  p -= lr sign(b1 m + (1 - b1) g)
 *          m = b2 m + (1 - b2) g
 * The work is cut into pieces of fixed size; the norm adds the pieces' sums in
 * index order. Called by the trainer once in a step. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/optimizer.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"

enum { PIECE = 65536 };

/* A piece of one span: the unit of work. */
typedef struct piece {
    size_t first, n;
    bool decay;
} piece;

struct bise_optimizer {
    bise_optimizer_options o;
    uint64_t count;
    size_t n;              /* values */
    piece *pieces;
    size_t n_pieces;
    double *sums;          /* [n_pieces] partial sums of the norm */
    float *m, *v;          /* [n]; v only for AdamW */
    /* Arguments of the step in flight, read by the tasks. */
    float *values;
    const float *grads;
    float scale;
    double lr;
};

/* Cut the spans into pieces. */
static void cut_spans(bise_optimizer *o, const bise_span *spans, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t done = 0; done < spans[i].n; done += PIECE) {
            const size_t rest = spans[i].n - done;
            o->pieces[at++] = (piece){
                .first = spans[i].first + done,
                .n = rest < PIECE ? rest : PIECE, .decay = spans[i].decay };
        }
    }
}

bise_status bise_optimizer_new(bise_optimizer **out,
                               const bise_optimizer_options *opts,
                               const bise_span *spans, size_t n_spans,
                               bise_error *err)
{
    bise_optimizer *o = bise_alloc(sizeof *o);
    if (!o)
        return bise_fail_nomem(err);
    o->o = *opts;
    for (size_t i = 0; i < n_spans; i++) {
        o->n += spans[i].n;
        o->n_pieces += (spans[i].n + PIECE - 1) / PIECE;
    }
    o->pieces = bise_alloc_array(o->n_pieces, sizeof *o->pieces);
    o->sums = bise_alloc_array(o->n_pieces, sizeof *o->sums);
    o->m = bise_alloc_aligned(o->n * sizeof *o->m);
    /* Lion keeps one moment only. */
    if (opts->kind == BISE_OPTIMIZER_ADAMW)
        o->v = bise_alloc_aligned(o->n * sizeof *o->v);
    if (!o->pieces || !o->sums || !o->m ||
        (opts->kind == BISE_OPTIMIZER_ADAMW && !o->v)) {
        bise_optimizer_free(o);
        return bise_fail_nomem(err);
    }
    cut_spans(o, spans, n_spans);
    *out = o;
    return BISE_OK;
}

void bise_optimizer_free(bise_optimizer *o)
{
    if (!o)
        return;
    bise_free_aligned(o->v);
    bise_free_aligned(o->m);
    bise_free(o->sums);
    bise_free(o->pieces);
    bise_free(o);
}

uint64_t bise_optimizer_bytes(bise_optimizer_kind kind, uint64_t n)
{
    return n * sizeof(float) * (kind == BISE_OPTIMIZER_ADAMW ? 2 : 1);
}

static void norm_task(void *ctx, size_t index, int worker)
{
    bise_optimizer *o = ctx;
    const piece *p = &o->pieces[index];
    const float *g = o->grads + p->first;
    /* Four running sums: fixed order, and the adds do not wait. */
    double s[4] = { 0 };
    size_t i = 0;
    for (; i + 4 <= p->n; i += 4)
        for (size_t j = 0; j < 4; j++)
            s[j] += (double)g[i + j] * g[i + j];
    for (; i < p->n; i++)
        s[0] += (double)g[i] * g[i];
    o->sums[index] = (s[0] + s[1]) + (s[2] + s[3]);
    (void)worker;
}

double bise_optimizer_norm(bise_optimizer *o, const float *grads)
{
    double sum = 0;
    o->grads = grads;
    bise_pool_run(o->o.pool, o->n_pieces, norm_task, o);
    for (size_t i = 0; i < o->n_pieces; i++)
        sum += o->sums[i];
    return sqrt(sum);
}

/* The scalars of one AdamW update, rounded to float once as PyTorch does. */
typedef struct adamw {
    float keep, lerp1, beta2, rest2, step, root, eps;
} adamw;

static adamw adamw_scalars(const bise_optimizer *o, bool decay)
{
    const bise_optimizer_options *p = &o->o;
    const double k = (double)o->count;
    return (adamw){
        .keep = (float)(decay ? 1 - o->lr * p->weight_decay : 1),
        .lerp1 = (float)(1 - p->beta1),
        .beta2 = (float)p->beta2,
        .rest2 = (float)(1 - p->beta2),
        .step = (float)(o->lr / (1 - pow(p->beta1, k))),
        .root = (float)sqrt(1 - pow(p->beta2, k)),
        .eps = (float)p->eps,
    };
}

/* p, m, v, g: [n]. See the top of the file for the formula. */
static void adamw_update(float *p, float *m, float *v, const float *g,
                         size_t n, float scale, const adamw *c)
{
    const adamw a = *c;
    for (size_t i = 0; i < n; i++) {
        const float gi = g[i] * scale;
        const float mi = m[i] + (gi - m[i]) * a.lerp1;
        const float vi = v[i] * a.beta2 + a.rest2 * gi * gi;
        m[i] = mi;
        v[i] = vi;
        p[i] = p[i] * a.keep - a.step * (mi / (sqrtf(vi) / a.root + a.eps));
    }
}

static void lion_update(float *p, float *m, const float *g, size_t n,
                        const bise_optimizer *o, bool decay)
{
    const float b1 = (float)o->o.beta1, b2 = (float)o->o.beta2;
    const float lr = (float)o->lr;
    const float keep = (float)(decay ? 1 - o->lr * o->o.weight_decay : 1);
    for (size_t i = 0; i < n; i++) {
        const float gi = g[i] * o->scale;
        const float c = b1 * m[i] + (1 - b1) * gi;
        const float sign = (float)((c > 0) - (c < 0));
        p[i] = p[i] * keep - lr * sign;
        m[i] = b2 * m[i] + (1 - b2) * gi;
    }
}

static void step_task(void *ctx, size_t index, int worker)
{
    bise_optimizer *o = ctx;
    const piece *p = &o->pieces[index];
    const size_t at = p->first;
    if (o->o.kind == BISE_OPTIMIZER_LION) {
        lion_update(o->values + at, o->m + at, o->grads + at, p->n, o,
                    p->decay);
    } else {
        const adamw c = adamw_scalars(o, p->decay);
        adamw_update(o->values + at, o->m + at, o->v + at, o->grads + at,
                     p->n, o->scale, &c);
    }
    (void)worker;
}

void bise_optimizer_step(bise_optimizer *o, float *values, const float *grads,
                         float scale, double lr)
{
    o->values = values;
    o->grads = grads;
    o->scale = scale;
    o->lr = lr;
    o->count++;
    bise_pool_run(o->o.pool, o->n_pieces, step_task, o);
}

uint64_t bise_optimizer_count(const bise_optimizer *o)
{
    return o->count;
}

void bise_optimizer_set_count(bise_optimizer *o, uint64_t k)
{
    o->count = k;
}

size_t bise_optimizer_state(const bise_optimizer *o,
                            bise_tensor out[BISE_OPTIMIZER_STATES])
{
    const float *arrays[2] = { o->m, o->v };
    static const char *const names[2] = { "exp_avg", "exp_avg_sq" };
    size_t n = 0;
    for (size_t i = 0; i < 2; i++) {
        if (!arrays[i])
            continue;
        out[n++] = (bise_tensor){
            .name = names[i], .dtype = BISE_DTYPE_F32, .n_dims = 1,
            .dims = { o->n }, .data = arrays[i],
            .bytes = o->n * sizeof(float) };
    }
    return n;
}
