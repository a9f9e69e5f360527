/* budget.c - see budget.h. Measure all types of all tensors, then solve: the
 * errors are taken to add up, so this is the knapsack problem with one choice
 * of each item, whose greedy solution over convex hulls is exact up to one
 * step. Files have headers and padding, so the plan is laid out and the limit
 * lowered until the files fit.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "quantize/budget.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "kernels/codec.h"

#define SAMPLE (1u << 20) /* weights read of a tensor */
#define PART (1u << 15)   /* of them measured at a time */

/* ---- choices ---- */

/* Insertion into a short sorted list, from which what is beaten goes. */
void bise_budget_add(bise_budget_item *item, bise_dtype type, uint64_t bytes,
                     double error)
{
    size_t at = 0, keep;
    while (at < item->n && item->bytes[at] <= bytes) {
        if (item->error[at] <= error)   /* smaller and no worse */
            return;
        at++;
    }
    /* of equal size, or larger and no better */
    while (at > 0 && item->bytes[at - 1] == bytes)
        at--;
    for (keep = at; keep < item->n && item->error[keep] >= error;)
        keep++;
    const size_t tail = item->n - keep;
    memmove(item->bytes + at + 1, item->bytes + keep, tail * sizeof(uint64_t));
    memmove(item->error + at + 1, item->error + keep, tail * sizeof(double));
    memmove(item->type + at + 1, item->type + keep, tail * sizeof(bise_dtype));
    item->bytes[at] = bytes;
    item->error[at] = error;
    item->type[at] = type;
    item->n = at + 1 + tail;
}

/* ---- the solver ---- */

/* A step along the hull of an item, from one choice to a better one. */
typedef struct step {
    double gain;        /* error it takes away for each byte */
    size_t item;
    uint8_t from, to;
} step;

/* Error saved for each byte on the way from choice a to b. */
static double gain_of(const bise_budget_item *t, size_t a, size_t b)
{
    return (t->error[a] - t->error[b]) / (double)(t->bytes[b] - t->bytes[a]);
}

/* Most gain first; of equals the first item, then its first step. */
static int by_gain(const void *a, const void *b)
{
    const step *x = a, *y = b;
    if (x->gain != y->gain)
        return x->gain > y->gain ? -1 : 1;
    if (x->item != y->item)
        return x->item < y->item ? -1 : 1;
    return (int)x->from - (int)y->from;
}

/* Steps of the lower convex hull: each goes to the choice of most gain, so
 * gains fall along the hull. Returns how many. */
static size_t hull_steps(step *out, const bise_budget_item *t, size_t item)
{
    size_t n = 0;
    for (size_t at = 0; at + 1 < t->n;) {
        size_t best = at + 1;
        for (size_t k = at + 2; k < t->n; k++)
            if (gain_of(t, at, k) >= gain_of(t, at, best))
                best = k;
        out[n++] = (step){ gain_of(t, at, best), item, (uint8_t)at,
                           (uint8_t)best };
        at = best;
    }
    return n;
}

/* The best change of one item that fits into left bytes; false when none. */
static bool best_change(step *out, const uint8_t *pick,
                        const bise_budget_item *items, size_t n, uint64_t left)
{
    bool found = false;
    for (size_t i = 0; i < n; i++)
        for (size_t k = pick[i] + 1u; k < items[i].n; k++) {
            const bise_budget_item *t = &items[i];
            if (t->bytes[k] - t->bytes[pick[i]] > left)
                continue;
            const step s = { gain_of(t, pick[i], k), i, pick[i], (uint8_t)k };
            if (!found || s.gain > out->gain)
                *out = s;
            found = true;
        }
    return found;
}

/* Hull steps in the order of their gain while they fit; an item whose step
 * does not fit waits. Then what is left is filled with single changes. */
bise_status bise_budget_pick(uint64_t *used, uint8_t *pick,
                             const bise_budget_item *items, size_t n,
                             uint64_t limit)
{
    size_t count = 0;
    *used = 0;
    for (size_t i = 0; i < n; i++) {
        pick[i] = 0;
        *used += items[i].bytes[0];
    }
    if (*used > limit)
        return BISE_EINVAL;
    step *steps = bise_alloc_array(n * BISE_BUDGET_CHOICES + 1, sizeof *steps);
    if (!steps)
        return BISE_ENOMEM;
    for (size_t i = 0; i < n; i++)
        count += hull_steps(steps + count, &items[i], i);
    qsort(steps, count, sizeof *steps, by_gain);
    for (size_t k = 0; k < count; k++) {
        const bise_budget_item *t = &items[steps[k].item];
        const uint64_t more = t->bytes[steps[k].to] - t->bytes[steps[k].from];
        if (pick[steps[k].item] != steps[k].from || more > limit - *used)
            continue;           /* it waits for an earlier step */
        pick[steps[k].item] = steps[k].to;
        *used += more;
    }
    while (best_change(&steps[0], pick, items, n, limit - *used)) {
        const bise_budget_item *t = &items[steps[0].item];
        *used += t->bytes[steps[0].to] - t->bytes[steps[0].from];
        pick[steps[0].item] = steps[0].to;
    }
    bise_free(steps);
    return BISE_OK;
}

/* ---- measuring ---- */

/* Errors of each candidate over one part of a tensor's sample. */
typedef struct part {
    size_t tensor;
    uint64_t first, n;          /* of the sampled rows */
    double power, error[BISE_BUDGET_CHOICES];
} part;

/* Buffers of one thread. */
typedef struct lane {
    float *x, *y;
    uint8_t *out;
    bise_scratch scratch;
} lane;

typedef struct job {
    const bise_plan *plan;
    const bise_quantize_options *o;
    const bise_budget *b;
    bise_dtype (*types)[BISE_BUDGET_CHOICES];   /* [n] candidates */
    uint8_t *n_types;                           /* [n] 0: not chosen */
    part *parts;
    size_t n_parts;
    lane *lanes;
    bise_error *errors;                         /* of each thread */
} job;

/* Can a tensor be written as this type, and the loss be measured? */
static bool usable(bise_dtype type, bise_dtype stored)
{
    if (type == BISE_DTYPE_NONE || bise_dtype_get(type)->gguf_id < 0)
        return false;
    const bise_codec *c = bise_codec_get(type);
    return c && c->decode && (c->encode || type == stored);
}

/* Candidates for a tensor: those its rows can hold, each once. What is
 * quantized already stays as it is without permission. */
static size_t candidates(bise_dtype *out, const bise_plan_tensor *t,
                         bool requantize)
{
    const bise_dtype stored = bise_stream_dtype(t->stream);
    const bise_dtype all[BISE_BUDGET_CHOICES] = {
        BISE_DTYPE_Q2_K, BISE_DTYPE_Q3_K, BISE_DTYPE_IQ4_XS, BISE_DTYPE_Q4_K,
        BISE_DTYPE_Q5_K, BISE_DTYPE_Q6_K, BISE_DTYPE_Q8_0, BISE_DTYPE_BF16,
        stored,
    };
    size_t n = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const uint64_t cols = bise_stream_cols(t->stream);
        const bise_dtype type = all[i] == BISE_DTYPE_NONE ?
            all[i] : bise_mixture_fallback(all[i], cols);
        bool known = !usable(type, stored) ||
                     (type != stored && stored != BISE_DTYPE_NONE &&
                      bise_dtype_is_quant(stored) && !requantize);
        for (size_t k = 0; k < n; k++)
            known = known || out[k] == type;
        if (!known)
            out[n++] = type;
    }
    return n;
}

/* Rows sampled of a tensor; row i of them is row i * rows / n. */
static uint64_t sample_rows(const bise_plan_tensor *t)
{
    const uint64_t rows = bise_stream_rows(t->stream);
    const uint64_t n = SAMPLE / (bise_stream_cols(t->stream) + 1) + 1;
    return n < rows ? n : rows;
}

static uint64_t part_rows(const bise_plan_tensor *t)
{
    const uint64_t cols = bise_stream_cols(t->stream);
    const uint64_t n = cols ? PART / cols : 1, rows = sample_rows(t);
    return n == 0 ? 1 : n < rows ? n : rows;
}

/* A number of a bell-shaped distribution, for plans without weights. */
static float nearly_normal(uint64_t row, uint64_t i)
{
    float sum = -2;
    for (uint64_t k = 0; k < 4; k++)
        sum += bise_rng_f32(1, row, 4 * i + k);
    return sum;
}

/* One sampled row; numbers that are none are the runner's to refuse. */
static bise_status read_row(const job *j, const bise_plan_tensor *t, float *x,
                            uint64_t row, lane *l, bise_error *err)
{
    const uint64_t cols = bise_stream_cols(t->stream);
    bise_status s = BISE_OK;
    if (j->b->headers_only)
        for (uint64_t i = 0; i < cols; i++)
            x[i] = nearly_normal(row, i);
    else
        s = bise_stream_read(t->stream, x, row, 1, &l->scratch, err);
    for (uint64_t i = 0; i < cols && s == BISE_OK; i++)
        x[i] = isfinite(x[i]) ? x[i] : 0;
    return s;
}

/* Importance of a row's columns: that of its expert. NULL without. */
static const float *row_importance(const bise_plan_tensor *t, uint64_t row)
{
    if (!t->imatrix)
        return NULL;
    const uint64_t per = bise_stream_rows(t->stream) / t->imatrix_n;
    return t->imatrix + (per ? row / per : 0) * bise_stream_cols(t->stream);
}

/* Add what encoding x as type loses. */
static void add_error(part *p, size_t k, bise_dtype type, const float *x,
                      const float *a, uint64_t cols, lane *l)
{
    const bise_codec *c = bise_codec_get(type);
    if (!c->encode)             /* the stored type, which is only copied */
        return;
    c->encode(l->out, x, 1, (size_t)cols, bise_dtype_is_quant(type) ? a : NULL);
    c->decode(l->y, l->out, (size_t)cols);
    double sum = 0;
    for (uint64_t i = 0; i < cols; i++) {
        const double d = (double)x[i] - l->y[i];
        sum += (a ? a[i] : 1) * d * d;
    }
    p->error[k] += isfinite(sum) ? sum : 1e100; /* a scale that overflowed */
}

/* All candidates over the rows of one part; the pool's task. */
static void measure(void *ctx, size_t index, int worker)
{
    job *j = ctx;
    part *p = &j->parts[index];
    lane *l = &j->lanes[worker];
    const bise_plan_tensor *t = &j->plan->tensors[p->tensor];
    const uint64_t rows = bise_stream_rows(t->stream);
    const uint64_t cols = bise_stream_cols(t->stream), of = sample_rows(t);
    for (uint64_t r = p->first; r < p->first + p->n; r++) {
        const uint64_t row = r * rows / of;
        if (j->errors[worker].status != BISE_OK ||
            read_row(j, t, l->x, row, l, &j->errors[worker]) != BISE_OK)
            return;
        const float *a = row_importance(t, row);
        for (uint64_t i = 0; i < cols; i++)
            p->power += (a ? a[i] : 1) * (double)l->x[i] * l->x[i];
        for (size_t k = 0; k < j->n_types[p->tensor]; k++)
            add_error(p, k, j->types[p->tensor][k], l->x, a, cols, l);
    }
    if (!j->b->headers_only)
        bise_stream_hint(t->stream, 0, rows, false);
}

/* ---- setting up ---- */

static void free_job(job *j)
{
    for (int i = 0; j->lanes && i < bise_pool_threads(j->b->pool); i++) {
        bise_free_aligned(j->lanes[i].x);
        bise_free_aligned(j->lanes[i].y);
        bise_free_aligned(j->lanes[i].out);
        bise_scratch_fini(&j->lanes[i].scratch);
    }
    bise_free(j->lanes);
    bise_free(j->errors);
    bise_free(j->parts);
    bise_free(j->types);
    bise_free(j->n_types);
}

/* Buffers for a row of the longest kind; float32 is the largest type. */
static bise_status make_lanes(job *j, bise_error *err)
{
    const int threads = bise_pool_threads(j->b->pool);
    size_t bytes = 4096;
    for (size_t i = 0; i < j->plan->n; i++) {
        const size_t row = 4 * bise_stream_cols(j->plan->tensors[i].stream);
        bytes = row > bytes ? row : bytes;
    }
    j->lanes = bise_alloc_array((size_t)threads, sizeof *j->lanes);
    j->errors = bise_alloc_array((size_t)threads, sizeof *j->errors);
    if (!j->lanes || !j->errors)
        return bise_fail_nomem(err);
    for (int i = 0; i < threads; i++) {
        lane *l = &j->lanes[i];
        bise_error_init(&j->errors[i]);
        l->x = bise_alloc_aligned(bytes);
        l->y = bise_alloc_aligned(bytes);
        l->out = bise_alloc_aligned(bytes);
        if (!l->x || !l->y || !l->out)
            return bise_fail_nomem(err);
    }
    return BISE_OK;
}

/* Candidates of every tensor that is free, and its sample cut into parts. */
static bise_status make_job(job *j, const bool *fixed, bise_error *err)
{
    const bise_plan *p = j->plan;
    j->types = bise_alloc_array(p->n + 1, sizeof *j->types);
    j->n_types = bise_alloc_array(p->n + 1, 1);
    if (!j->types || !j->n_types)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < p->n; i++) {
        const bise_plan_tensor *t = &p->tensors[i];
        if (fixed[i])
            continue;
        j->n_types[i] = (uint8_t)candidates(j->types[i], t,
                                            j->o->allow_requantize);
        j->n_parts += (size_t)((sample_rows(t) + part_rows(t) - 1) /
                               part_rows(t));
    }
    j->parts = bise_alloc_array(j->n_parts + 1, sizeof *j->parts);
    if (!j->parts)
        return bise_fail_nomem(err);
    part *out = j->parts;
    for (size_t i = 0; i < p->n; i++) {
        const bise_plan_tensor *t = &p->tensors[i];
        const uint64_t rows = sample_rows(t), each = part_rows(t);
        for (uint64_t r = 0; !fixed[i] && r < rows; r += each)
            *out++ = (part){ .tensor = i, .first = r,
                             .n = rows - r < each ? rows - r : each };
    }
    return make_lanes(j, err);
}

/* What a relative error of 1 counts: each output of the matrix is an equal
 * source of noise, and those of the last one are the logits. Found to lose
 * less than the mixtures do; the errors alone leave small matrices too good. */
static double noise_sources(const bise_plan *p, const bise_plan_tensor *t)
{
    const bool logits = strcmp(t->name, "output.weight") == 0 ||
                        (strcmp(t->name, "token_embd.weight") == 0 &&
                         !bise_plan_find(p, "output.weight"));
    return (double)bise_stream_rows(t->stream) * (logits ? 3 : 1);
}

/* Sums of the parts, in their order, as choices. A tensor that is fixed has
 * one. */
static void make_items(bise_budget_item *items, const job *j)
{
    const bise_plan *p = j->plan;
    size_t at = 0;
    for (size_t i = 0; i < p->n; i++) {
        bise_plan_tensor t = p->tensors[i];
        double power = 0, error[BISE_BUDGET_CHOICES] = { 0 };
        const double sources = noise_sources(p, &t);
        for (; at < j->n_parts && j->parts[at].tensor == i; at++) {
            power += j->parts[at].power;
            for (size_t k = 0; k < j->n_types[i]; k++)
                error[k] += j->parts[at].error[k];
        }
        if (j->n_types[i] == 0)
            bise_budget_add(&items[i], t.dtype, bise_plan_tensor_bytes(&t), 0);
        for (size_t k = 0; k < j->n_types[i]; k++) {
            t.dtype = j->types[i][k];
            bise_budget_add(&items[i], t.dtype, bise_plan_tensor_bytes(&t),
                            power > 0 ? sources * error[k] / power : 0);
        }
    }
}

/* Run the measurements in slices, between which the user may stop. */
static bise_status run_job(job *j, bise_error *err)
{
    enum { SLICE = 64 };
    part *const all = j->parts;
    bise_status s = BISE_OK;
    for (size_t at = 0; at < j->n_parts && s == BISE_OK; at += SLICE) {
        const size_t n = j->n_parts - at < SLICE ? j->n_parts - at : SLICE;
        j->parts = all + at;
        bise_pool_run(j->b->pool, n, measure, j);
        for (int i = 0; i < bise_pool_threads(j->b->pool); i++)
            if (j->errors[i].status != BISE_OK && s == BISE_OK) {
                *err = j->errors[i];
                s = err->status;
            }
        if (s == BISE_OK)
            s = bise_progress_step(j->b->progress, "measure", at + n,
                                   j->n_parts, "parts", NULL, err);
    }
    j->parts = all;
    return s;
}

/* ---- fitting ---- */

/* Which tensors are not for the budget to decide. */
static bise_status find_fixed(bool **out, const bise_plan *p,
                              const bise_quantize_options *o, bise_error *err)
{
    bool *fixed = bise_alloc_array(p->n + 1, sizeof *fixed);
    *out = fixed;
    if (!fixed)
        return bise_fail_nomem(err);
    return bise_quantize_fixed(fixed, p, o, err);
}

/* The mixture named after the type that most weights have. */
static void label(bise_plan *p)
{
    uint64_t weights[BISE_DTYPE_COUNT] = { 0 };
    int most = 0;
    for (size_t i = 0; i < p->n; i++) {
        const bise_plan_tensor *t = &p->tensors[i];
        weights[t->dtype] += bise_stream_rows(t->stream) *
                             bise_stream_cols(t->stream);
        if (weights[t->dtype] > weights[most])
            most = (int)t->dtype;
    }
    const bise_mixture *m =
        bise_mixture_find(bise_dtype_get((bise_dtype)most)->name);
    if (m)
        bise_gguf_set_u32(&p->meta, "general.file_type",
                          (uint32_t)m->file_type);
}

/* Bytes that count against the limit: files, or tensors alone. */
static uint64_t size_of(const bise_plan *p, const bise_budget *b)
{
    uint64_t sum = 0;
    if (b->bytes)
        return bise_plan_bytes_out(p);
    for (size_t i = 0; i < p->n; i++)
        sum += bise_plan_tensor_bytes(&p->tensors[i]);
    return sum;
}

static bise_status too_small(uint64_t least, uint64_t limit, bise_error *err)
{
    bise_status s = bise_fail(err, BISE_EINVAL, "the smallest types need %"
                              PRIu64 " bytes, the target allows %" PRIu64,
                              least, limit);
    s = bise_error_hint(err, "raise the target; IQ1 and IQ2 are not built");
    return s;
}

/* Pick, lay out and compare. Headers and padding are found by laying out with
 * the types there are; they change the sum by a few bytes at most, so a few
 * rounds end. */
static bise_status fit(bise_plan *p, const bise_budget *b,
                       const bise_budget_item *items, uint8_t *pick,
                       bise_error *err)
{
    const double bits = b->bits < 64 ? b->bits : 64; /* no type has more */
    const uint64_t limit = b->bytes ? b->bytes :
        (uint64_t)(bits * (double)bise_plan_weights(p) / 8);
    uint64_t over = 0;          /* what is not in the items' bytes */
    for (;;) {
        uint64_t used;
        const bise_status picked = bise_budget_pick(
            &used, pick, items, p->n, over < limit ? limit - over : 0);
        if (picked == BISE_ENOMEM)
            return bise_fail_nomem(err);
        for (size_t i = 0; i < p->n; i++)
            p->tensors[i].dtype = items[i].type[pick[i]];
        if (!b->keep_label)
            label(p);
        const bise_status s = bise_plan_layout(p, err);
        if (s != BISE_OK)
            return s;
        const uint64_t size = size_of(p, b);
        if (size <= limit)
            return BISE_OK;
        if (picked != BISE_OK)
            return too_small(size, limit, err);
        over = size - used > over ? size - used : over + 1;
    }
}

/* The importance belongs to types that encode with it. */
static void drop_importance(bise_plan *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (!bise_dtype_is_quant(p->tensors[i].dtype))
            p->tensors[i].imatrix = NULL;
}

bise_status bise_budget_fit(bise_plan *p, const bise_quantize_options *o,
                            const bise_budget *b, bise_error *err)
{
    job j = { .plan = p, .o = o, .b = b };
    bool *fixed = NULL;
    bise_budget_item *items = bise_alloc_array(p->n + 1, sizeof *items);
    uint8_t *pick = bise_alloc_array(p->n + 1, 1);
    bise_status s = items && pick ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK)
        s = find_fixed(&fixed, p, o, err);
    if (s == BISE_OK)
        s = make_job(&j, fixed, err);
    if (s == BISE_OK)
        s = run_job(&j, err);
    if (s == BISE_OK) {
        make_items(items, &j);
        s = fit(p, b, items, pick, err);
    }
    if (s == BISE_OK)
        drop_importance(p);
    free_job(&j);
    bise_free(fixed);
    bise_free(items);
    bise_free(pick);
    return s;
}
