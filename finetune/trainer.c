/* trainer.c - the optimizer step. With S the sum of the token losses of all
 * micro-batches and W their targets, the gradient of S / W is clipped to the
 * largest norm and given to the optimizer (lora.md 10). Called by the run in
 * finetune.c and, with fixed batches, by the golden test.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/trainer.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"

/* The modules' arrays as spans: a, b, magnitude; the last does not decay. */
static bise_status make_spans(bise_span **out, size_t *n, const bise_lora *l,
                              bise_error *err)
{
    bise_span *spans = bise_alloc_array(l->n * 3, sizeof *spans);
    size_t at = 0;
    if (!spans)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < l->n; i++) {
        const bise_lora_module *m = &l->modules[i];
        const size_t na = (size_t)m->r * (size_t)m->in;
        const size_t nb = (size_t)m->r * (size_t)m->out;
        spans[at++] = (bise_span){ (size_t)(m->a - l->values), na, true };
        spans[at++] = (bise_span){ (size_t)(m->b - l->values), nb, true };
        if (m->magnitude)
            spans[at++] = (bise_span){ (size_t)(m->magnitude - l->values),
                                       (size_t)m->out, false };
    }
    *out = spans;
    *n = at;
    return BISE_OK;
}

/* Losses start as NaN, which the log and the state leave out until there is a
 * first one. */
bise_status bise_trainer_init(bise_trainer *t, const bise_trainer_options *o,
                              bise_error *err)
{
    bise_span *spans = NULL;
    size_t n = 0;
    memset(t, 0, sizeof *t);
    t->o = *o;
    t->state.loss_first = t->state.loss_last = NAN;
    t->state.eval_first = t->state.eval_last = NAN;
    if (make_spans(&spans, &n, o->lora, err))
        return err->status;
    const bise_status s = bise_optimizer_new(&t->optimizer, &o->optimizer,
                                             spans, n, err);
    bise_free(spans);
    return s;
}

/* The adapter and the graph are borrowed and stay. */
void bise_trainer_fini(bise_trainer *t)
{
    bise_optimizer_free(t->optimizer);
    t->optimizer = NULL;
}

/* Gradients are added to by the graph, so they start at zero here and nowhere
 * else. */
void bise_trainer_begin(bise_trainer *t)
{
    t->sum = 0;
    t->micro = t->tokens = t->supervised = t->rows = 0;
    memset(t->o.lora->grads, 0, t->o.lora->n_values * sizeof(float));
}

/* Tokens and rows are counted even for a batch without targets: they were
 * read. The step number and the micro-batch's position select the dropout
 * masks, so that a repeated step drops the same values. */
bise_status bise_trainer_add(bise_trainer *t, const bise_batch *b,
                             bise_error *err)
{
    if (bise_trainer_cancelled(t))
        return bise_fail(err, BISE_ECANCEL, "interrupted");
    uint64_t supervised = 0;
    for (int32_t i = 0; i < b->T; i++)
        supervised += b->targets[i] >= 0;
    t->tokens += (uint64_t)b->T;
    t->rows += (uint64_t)b->n_seg;
    if (!supervised)                    /* nothing to learn: no pass needed */
        return BISE_OK;
    bise_graph_set_step(t->o.graph, t->state.step, t->micro++);
    if (bise_graph_train(t->o.graph, b, &t->sum, err))
        return err->status;
    t->supervised += supervised;
    return BISE_OK;
}

/* Update the values unless the gradient is not finite; counts what is left
 * out and gives up after too many in a row. */
static bise_status update(bise_trainer *t, bise_step_report *r,
                          bise_error *err)
{
    const double mean = 1 / (double)t->supervised;
    r->grad_norm = bise_optimizer_norm(t->optimizer, t->o.lora->grads) * mean;
    if (!isfinite(r->grad_norm) || !isfinite(r->loss)) {
        r->skipped = true;
        t->state.skipped++;
        if (++t->skips_in_row < BISE_TRAINER_SKIPS_MAX)
            return BISE_OK;
        return bise_fail(err, BISE_EFORMAT, "loss or gradient is not finite "
                         "in %d steps in a row", BISE_TRAINER_SKIPS_MAX)
                   ? bise_error_hint(err, "try a smaller --lr") : BISE_OK;
    }
    t->skips_in_row = 0;
    double scale = mean;
    if (t->o.clip > 0 && r->grad_norm > t->o.clip)
        scale *= t->o.clip / (r->grad_norm + 1e-6);
    bise_optimizer_step(t->optimizer, t->o.lora->values, t->o.lora->grads,
                        (float)scale, r->lr);
    return BISE_OK;
}

/* A skipped step counts as a step: schedule, cursor and log go on as if it had
 * been taken. */
bise_status bise_trainer_finish(bise_trainer *t, bise_step_report *out,
                                bise_error *err)
{
    bise_train_state *s = &t->state;
    bise_step_report r = {
        .step = s->step + 1, .lr = bise_schedule_lr(&t->o.schedule, s->step),
        .tokens = t->tokens, .supervised = t->supervised,
    };
    if (!t->supervised)
        return bise_fail(err, BISE_EINVAL, "step %llu has no token to train",
                         (unsigned long long)r.step);
    r.loss = t->sum / (double)t->supervised;
    if (update(t, &r, err))
        return err->status;
    s->step = r.step;
    s->tokens += t->tokens;
    s->supervised += t->supervised;
    s->rows += t->rows;
    if (isnan(s->loss_first))
        s->loss_first = r.loss;
    s->loss_last = r.loss;
    *out = r;
    return BISE_OK;
}
