/* trainer.h - one training run in memory: adapter, moments, step, data cursor
 * and counters. A step depends on this state and on its batches only, so state
 * saved between two steps resumes bit for bit.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_TRAINER_H
#define BISE_FINETUNE_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "core/progress.h"
#include "finetune/optimizer.h"
#include "finetune/schedule.h"
#include "model/graph.h"
#include "model/lora.h"
#include "text/pack.h"

/* What a checkpoint holds besides the adapter and the moments. */
typedef struct bise_train_state {
    uint64_t step;            /* optimizer steps done */
    bise_cursor cursor;       /* next pack */
    uint64_t tokens;          /* inputs seen */
    uint64_t supervised;      /* targets seen */
    uint64_t rows;            /* samples seen */
    uint64_t skipped;         /* steps left out: gradient not finite */
    double seconds;           /* time of training, evaluation not counted */
    double loss_first, loss_last, eval_first, eval_last; /* NaN when none */
} bise_train_state;

/* What one step did. */
typedef struct bise_step_report {
    uint64_t step;            /* 1 for the first */
    double loss;              /* mean over supervised tokens */
    double lr, grad_norm;     /* norm before clipping */
    uint64_t tokens, supervised;
    bool skipped;             /* gradient not finite: nothing changed */
} bise_step_report;

typedef struct bise_trainer_options {
    bise_lora *lora;          /* borrowed; must have gradients */
    bise_graph *graph;        /* borrowed; made for this lora */
    bise_optimizer_options optimizer;
    bise_schedule schedule;
    double clip;              /* largest gradient norm, 0 = none */
    const bise_progress *progress; /* polled between micro-batches */
} bise_trainer_options;

typedef struct bise_trainer {
    bise_trainer_options o;
    bise_optimizer *optimizer;
    bise_train_state state;
    /* The step in the making. */
    double sum;
    uint64_t micro, tokens, supervised, rows;
    int skips_in_row;
} bise_trainer;

/* A single overflow is survivable, and mixed precision makes some; a run that
 * does nothing but overflow wastes a night, so it ends with a hint. */
#define BISE_TRAINER_SKIPS_MAX 10 /* steps left out in a row: give up */

BISE_NODISCARD bise_status bise_trainer_init(bise_trainer *t,
                                             const bise_trainer_options *o,
                                             bise_error *err);
void bise_trainer_fini(bise_trainer *t);
/* How a step runs, with micro-batches b = 1..n:
 *   begin    gradients and sums to zero
 *   add(b)   forward, loss, backward; the sum of its token losses and the
 *            gradient of that sum are added up
 *   finish   mean over the targets of all b, clip, update, counters
 * Dividing once at the end makes the result the same for any cut into
 * micro-batches (lora.md 10); means of means would weigh short ones too much.
 */
/* A step is begin, one add for each micro-batch, finish. Gradients of the sum
 * of token losses are added up and divided once by the targets of the step.
 * A failed or cancelled add leaves the state as it was after the last finish. */
void bise_trainer_begin(bise_trainer *t);
BISE_NODISCARD bise_status bise_trainer_add(bise_trainer *t,
                                            const bise_batch *b,
                                            bise_error *err);
BISE_NODISCARD bise_status bise_trainer_finish(bise_trainer *t,
                                               bise_step_report *out,
                                               bise_error *err);
/* Has the user asked to stop? */
static inline bool bise_trainer_cancelled(const bise_trainer *t)
{
    return t->o.progress && t->o.progress->cancel && *t->o.progress->cancel;
}
/* Mean loss over all samples of a dataset: in file order, packed up to
 * max_tokens, no dropout, weighted by tokens. */
BISE_NODISCARD bise_status bise_trainer_evaluate(bise_trainer *t,
                                                 const bise_dataset *d,
                                                 int32_t max_tokens,
                                                 double *loss,
                                                 bise_error *err);

#endif
