/* feed.c - the amounts of --batch and --micro-batch at work. Rows: a step is
 * one pack of that many rows, the last of an epoch may be smaller. Tokens: a
 * step is a fixed number of full packs, which may reach into the next epoch.
 * Called by the run for each step; no copy is made but of sample bounds.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/feed.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"

/* The smaller of two 64-bit numbers that is known to fit 32 bits. */
static int32_t smaller(int64_t a, int64_t b)
{
    return (int32_t)(a < b ? a : b);
}

/* Most tokens and rows of one pass. Rows have longest - 1 inputs at most. */
static bise_status plan_pass(bise_feed_plan *p, const bise_settings *s,
                             int32_t longest, bise_error *err)
{
    bise_amount micro = { .n = s->max_len };
    if (strcmp(s->micro_batch, "auto") != 0 &&
        bise_settings_amount(&micro, "micro-batch", s->micro_batch, err))
        return err->status;
    if (micro.rows) {
        p->pass_rows = (int32_t)micro.n;
        p->pass_tokens = smaller(micro.n * longest, INT32_MAX);
    } else {
        p->pass_tokens = (int32_t)micro.n;
    }
    if (strcmp(s->packing, "off") == 0) {
        p->pass_rows = 1;
        p->pass_tokens = longest;
    }
    /* A pass must hold the longest row at least. */
    if (p->pass_tokens < longest - 1) {
        return bise_fail(err, BISE_EINVAL, "setting 'micro-batch' is %d "
                         "tokens, the longest row has %d",
                         (int)p->pass_tokens, (int)longest - 1)
                   ? bise_error_hint(err, "a smaller --max-len cuts long rows")
                   : BISE_OK;
    }
    return BISE_OK;
}

/* Packs of all epochs of the run (a whole number of epochs and a share). */
static bise_status count_packs(double *packs, bise_feed_plan *p,
                               const bise_dataset *d, double epochs,
                               bise_error *err)
{
    bise_packer *k = NULL;
    uint64_t n = 0;
    bise_status s = bise_packer_new(&k, d, &p->pack, err);
    if (!s)
        s = bise_packer_count(k, 0, &n, &p->empty, err);
    bise_packer_free(k);
    *packs = epochs * (double)n;
    return s;
}

/* Three ways to fill a step: rows (one pack of that many samples), tokens with
 * packing (a fixed number of full packs), tokens without packing (rows one by
 * one until there are enough). */
bise_status bise_feed_plan_make(bise_feed_plan *plan, const bise_settings *s,
                                const bise_dataset *d, bise_error *err)
{
    const bise_dataset_stats *st = bise_dataset_stats_of(d);
    const int32_t longest = smaller(st->longest, s->max_len);
    const bool packing = strcmp(s->packing, "on") == 0;
    bise_feed_plan p = { 0 };
    bise_amount batch;
    double packs = 0;
    if (bise_settings_amount(&batch, "batch", s->batch, err) ||
        plan_pass(&p, s, longest, err))
        return err->status;
    p.pack = (bise_pack_options){ .shuffle = true, .seed = (uint64_t)s->seed };
    if (batch.rows) {
        p.pack.rows_per_pack = (int32_t)batch.n;
        p.pass_tokens = smaller(p.pass_tokens, batch.n * longest);
        p.step_packs = 1;
    } else if (packing) {
        p.pack.packing = true;
        p.pack.max_tokens = p.pass_tokens;
        p.step_packs = (uint64_t)((batch.n + p.pass_tokens - 1) /
                                  p.pass_tokens);
    } else {
        p.pack.rows_per_pack = 1;
        p.step_tokens = (uint64_t)batch.n;
    }
    if (count_packs(&packs, &p, d, s->epochs, err))
        return err->status;
    /* By tokens without packing the rows' mean length gives the number. */
    const double per_step = p.step_packs
        ? (double)p.step_packs
        : (double)p.step_tokens * (double)st->samples / (double)st->tokens;
    p.steps = s->steps ? (uint64_t)s->steps
                       : (uint64_t)ceil(packs / per_step - 1e-9);
    p.steps = p.steps ? p.steps : 1;
    *plan = p;
    return BISE_OK;
}

/* The packer shuffles by the seed of the plan; the feed itself has no state
 * that a checkpoint would need beyond the cursor. */
bise_status bise_feed_init(bise_feed *f, const bise_feed_plan *plan,
                           const bise_dataset *d, bise_error *err)
{
    memset(f, 0, sizeof *f);
    f->plan = *plan;
    return bise_packer_new(&f->packer, d, &plan->pack, err);
}

/* Safe on a zeroed feed: a run may fail before its feed is made. */
void bise_feed_fini(bise_feed *f)
{
    bise_packer_free(f->packer);
    bise_free(f->seg);
    memset(f, 0, sizeof *f);
}

/* A step always starts at a pack's first sample, so its cursor is enough to
 * repeat it. */
void bise_feed_begin(bise_feed *f, bise_cursor at)
{
    f->cursor = at;
    f->open = false;
    f->packs = f->tokens = 0;
}

/* Packs are counted where the plan fixes their number, tokens otherwise. */
static bool step_full(const bise_feed *f)
{
    return f->plan.step_packs ? f->packs >= f->plan.step_packs
                              : f->tokens >= f->plan.step_tokens;
}

/* Samples of the pack from f->at on that fit into one pass; at least one. */
static int32_t fit(const bise_feed *f)
{
    const bise_pack *p = &f->pack;
    const int32_t start = p->seg[f->at];
    int32_t n = 1;
    while (f->at + n < p->n_seg &&
           p->seg[f->at + n + 1] - start <= f->plan.pass_tokens &&
           (!f->plan.pass_rows || n < f->plan.pass_rows))
        n++;
    return n;
}

/* Hand out the rest of the open pack, cut where a pass is full; take the next
 * pack when it is used up, until the step has its share. */
bise_status bise_feed_next(bise_feed *f, bise_batch *b, bool *more,
                           bise_error *err)
{
    *more = false;
    if (!f->open || f->at >= f->pack.n_seg) {
        if (step_full(f))
            return BISE_OK;
        if (bise_packer_next(f->packer, &f->cursor, &f->pack, err))
            return err->status;
        f->open = true;
        f->at = 0;
        f->packs++;
        f->tokens += (uint64_t)f->pack.T;
    }
    const int32_t n = fit(f), start = f->pack.seg[f->at];
    if (bise_grow((void **)&f->seg, &f->seg_cap, (size_t)n + 1,
                  sizeof *f->seg))
        return bise_fail_nomem(err);
    /* Bounds count from the first token of the pass. */
    for (int32_t i = 0; i <= n; i++)
        f->seg[i] = f->pack.seg[f->at + i] - start;
    *b = (bise_batch){ .ids = f->pack.ids + start, .seg = f->seg,
                       .T = f->seg[n], .n_seg = n,
                       .targets = f->pack.targets + start };
    f->at += n;
    *more = true;
    return BISE_OK;
}
