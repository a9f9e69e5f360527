/* optimizer.c - AdamW, 8-bit AdamW and Lion over flat buffers. With g the scaled gradient,
 * k = 1, 2, ... the update and wd the decay (lora.md 9):
 *   AdamW  p *= 1 - lr wd;  m += (g - m)(1 - b1);  v = b2 v + (1 - b2) g^2
 *          p -= lr/(1 - b1^k) m / (sqrt(v)/sqrt(1 - b2^k) + eps)
 *   8-bit  p *= 1 - lr wd;  m, v as in AdamW from decoded codes;
 *          p -= lr sqrt(1 - b2^k)/(1 - b1^k) m / (sqrt(v) + eps sqrt(1 - b2^k))
 *          then new codes, by blocks of 256 values
 *   Lion   p *= 1 - lr wd;  p -= lr sign(b1 m + (1 - b1) g)
 *          m = b2 m + (1 - b2) g
 * The work is cut into pieces of fixed size; the norm adds the pieces' sums in
 * index order. Called by the trainer once in a step.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/optimizer.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/dynmap.h"

enum { PIECE = 65536, BLOCK = BISE_DYNMAP_BLOCK, LEAST_PACKED = 4096 };

/* A piece of one span: the unit of work. */
typedef struct piece {
    size_t first, n;
    size_t at;             /* first value in m and v, or code when packed */
    size_t block;          /* first block when packed */
    bool decay, packed;
} piece;

/* One moment: float32 for plain spans, codes and block maxima for packed. */
typedef struct moment {
    float *f;              /* [n_plain] */
    uint8_t *code;         /* [n_packed] */
    float *absmax;         /* [n_blocks] */
} moment;

struct bise_optimizer {
    bise_optimizer_options o;
    uint64_t count;
    size_t n;              /* values */
    piece *pieces;
    size_t n_pieces;
    double *sums;          /* [n_pieces] partial sums of the norm */
    size_t n_plain, n_packed, n_blocks;
    moment m, v;           /* v only for AdamW */
    bise_dynmap *maps;     /* [2], with signs and without; 8 bit only */
    /* Arguments of the step in flight, read by the tasks. */
    float *values;
    const float *grads;
    float scale;
    double lr;
};

/* Cut the spans into pieces and give each its place in the state. */
static void cut_spans(bise_optimizer *o, const bise_span *spans, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const bool packed = o->o.kind == BISE_OPTIMIZER_ADAMW8 &&
                            spans[i].n >= LEAST_PACKED;
        size_t *at = packed ? &o->n_packed : &o->n_plain;
        for (size_t done = 0; done < spans[i].n; done += PIECE) {
            const size_t rest = spans[i].n - done;
            const size_t size = rest < PIECE ? rest : PIECE;
            o->pieces[count++] = (piece){
                .first = spans[i].first + done, .n = size, .at = *at,
                .block = o->n_blocks, .decay = spans[i].decay,
                .packed = packed };
            *at += size;
            o->n_blocks += packed ? (size + BLOCK - 1) / BLOCK : 0;
        }
    }
}

/* Memory of one moment. */
static bool make_moment(moment *m, const bise_optimizer *o)
{
    m->f = bise_alloc_aligned(o->n_plain * sizeof *m->f);
    m->code = bise_alloc_aligned(o->n_packed);
    m->absmax = bise_alloc_aligned(o->n_blocks * sizeof *m->absmax);
    return m->f && m->code && m->absmax;
}

/* Release one moment; unset pointers are fine. */
static void free_moment(moment *m)
{
    bise_free_aligned(m->f);
    bise_free_aligned(m->code);
    bise_free_aligned(m->absmax);
}

/* State of the kind: two moments for AdamW, one for Lion, maps for 8 bit. */
static bool make_state(bise_optimizer *o)
{
    if (!make_moment(&o->m, o))
        return false;
    if (o->o.kind == BISE_OPTIMIZER_LION)
        return true;
    if (o->o.kind == BISE_OPTIMIZER_ADAMW8) {
        o->maps = bise_alloc_array(2, sizeof *o->maps);
        if (!o->maps)
            return false;
        bise_dynmap_init(&o->maps[0], true);
        bise_dynmap_init(&o->maps[1], false);
    }
    return make_moment(&o->v, o);
}

/* Pieces first, since cutting them gives each its place in the state and the
 * sizes of the arrays. */
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
    if (o->pieces && o->sums) {
        cut_spans(o, spans, n_spans);
        if (make_state(o)) {
            *out = o;
            return BISE_OK;
        }
    }
    bise_optimizer_free(o);
    return bise_fail_nomem(err);
}

/* Release all; also a half-made optimizer whose arrays are still NULL. */
void bise_optimizer_free(bise_optimizer *o)
{
    if (!o)
        return;
    free_moment(&o->v);
    free_moment(&o->m);
    bise_free(o->maps);
    bise_free(o->sums);
    bise_free(o->pieces);
    bise_free(o);
}

/* An estimate for the plan: the 8-bit kind counts all spans as packed. */
uint64_t bise_optimizer_bytes(bise_optimizer_kind kind, uint64_t n)
{
    if (kind == BISE_OPTIMIZER_ADAMW8)
        return 2 * (n + n / BLOCK * sizeof(float));
    return n * sizeof(float) * (kind == BISE_OPTIMIZER_ADAMW ? 2 : 1);
}

/* One piece of the norm into its own slot. */
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

/* Pieces are of fixed size and added in index order, so the sum has the same
 * bits for any number of threads. Infinity and NaN pass through. */
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

/* torch computes the bias corrections in double and rounds where they meet the
 * tensor: so do we. */
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

/* p, m, g: [n]. sign(0) is 0: a value without any gradient stays. */
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

/* The scalars of an 8-bit update. */
typedef struct adamw8 {
    float beta1, rest1, beta2, rest2, step, eps, keep;
} adamw8;

/* bitsandbytes folds both corrections into the step and scales eps alike; the
 * value is that of AdamW. */
static adamw8 adamw8_scalars(const bise_optimizer *o, bool decay)
{
    const bise_optimizer_options *p = &o->o;
    const double k = (double)o->count;
    const double root = sqrt(1 - pow(p->beta2, k));
    return (adamw8){
        .beta1 = (float)p->beta1, .rest1 = (float)(1 - p->beta1),
        .beta2 = (float)p->beta2, .rest2 = (float)(1 - p->beta2),
        .step = (float)(o->lr * root / (1 - pow(p->beta1, k))),
        .eps = (float)(p->eps * root),
        .keep = (float)(decay ? 1 - o->lr * p->weight_decay : 1),
    };
}

/* One block of n <= 256 values: decode, update, encode with new maxima. */
static void adamw8_block(bise_optimizer *o, const adamw8 *a, size_t first,
                         size_t at, size_t block, size_t n)
{
    float m[BLOCK], v[BLOCK], m_max = 0, v_max = 0;
    float *p = o->values + first;
    const float *g = o->grads + first;
    uint8_t *mc = o->m.code + at, *vc = o->v.code + at;
    const bise_dynmap *signs = &o->maps[0], *plain = &o->maps[1];
    for (size_t i = 0; i < n; i++) {
        const float gi = g[i] * o->scale;
        m[i] = signs->value[mc[i]] * o->m.absmax[block] * a->beta1 +
               a->rest1 * gi;
        v[i] = plain->value[vc[i]] * o->v.absmax[block] * a->beta2 +
               a->rest2 * gi * gi;
        m_max = fmaxf(m_max, fabsf(m[i]));
        v_max = fmaxf(v_max, v[i]);
        p[i] = p[i] * a->keep - a->step * (m[i] / (sqrtf(v[i]) + a->eps));
    }
    o->m.absmax[block] = m_max;
    o->v.absmax[block] = v_max;
    for (size_t i = 0; i < n; i++) {
        mc[i] = bise_dynmap_code_signed(signs, m_max > 0 ? m[i] / m_max : 0);
        vc[i] = bise_dynmap_code(plain, v_max > 0 ? v[i] / v_max : 0);
    }
}

/* Whole blocks, the last one of a span may be short. Pieces are multiples of
 * the block, so a block never spans two tasks. */
static void adamw8_update(bise_optimizer *o, const piece *p)
{
    const adamw8 a = adamw8_scalars(o, p->decay);
    for (size_t i = 0; i < p->n; i += BLOCK) {
        const size_t n = p->n - i < BLOCK ? p->n - i : BLOCK;
        adamw8_block(o, &a, p->first + i, p->at + i, p->block + i / BLOCK, n);
    }
}

/* Update one piece; pieces touch disjoint values and state, in any order. */
static void step_task(void *ctx, size_t index, int worker)
{
    bise_optimizer *o = ctx;
    const piece *p = &o->pieces[index];
    float *values = o->values + p->first;
    const float *grads = o->grads + p->first;
    if (p->packed) {
        adamw8_update(o, p);
    } else if (o->o.kind == BISE_OPTIMIZER_LION) {
        lion_update(values, o->m.f + p->at, grads, p->n, o, p->decay);
    } else {
        const adamw c = adamw_scalars(o, p->decay);
        adamw_update(values, o->m.f + p->at, o->v.f + p->at, grads, p->n,
                     o->scale, &c);
    }
    (void)worker;
}

/* The arguments are kept in the object for the tasks; the count moves before
 * them because the corrections of the first update use k = 1. */
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

/* The k of the last update. */
uint64_t bise_optimizer_count(const bise_optimizer *o)
{
    return o->count;
}

/* Restore k with the moments: both together make a resumed run exact. */
void bise_optimizer_set_count(bise_optimizer *o, uint64_t k)
{
    o->count = k;
}

/* Arrays as named tensors, the same list for saving and for restoring. */
size_t bise_optimizer_state(const bise_optimizer *o,
                            bise_tensor out[BISE_OPTIMIZER_STATES])
{
    const struct {
        const char *name;
        const void *data;
        size_t n;
        bise_dtype dtype;
    } all[BISE_OPTIMIZER_STATES] = {
        { "exp_avg", o->m.f, o->n_plain, BISE_DTYPE_F32 },
        { "exp_avg_codes", o->m.code, o->n_packed, BISE_DTYPE_U8 },
        { "exp_avg_absmax", o->m.absmax, o->n_blocks, BISE_DTYPE_F32 },
        { "exp_avg_sq", o->v.f, o->n_plain, BISE_DTYPE_F32 },
        { "exp_avg_sq_codes", o->v.code, o->n_packed, BISE_DTYPE_U8 },
        { "exp_avg_sq_absmax", o->v.absmax, o->n_blocks, BISE_DTYPE_F32 },
    };
    size_t n = 0;
    /* Parts that are not there or empty are left out. */
    for (size_t i = 0; i < BISE_OPTIMIZER_STATES; i++) {
        if (!all[i].data || !all[i].n)
            continue;
        out[n++] = (bise_tensor){
            .name = all[i].name, .dtype = all[i].dtype, .n_dims = 1,
            .dims = { all[i].n }, .data = all[i].data,
            .bytes = bise_dtype_bytes(all[i].dtype, all[i].n) };
    }
    return n;
}
