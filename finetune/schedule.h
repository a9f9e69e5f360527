/* schedule.h - the learning rate of each step: a rise over the warm-up steps,
 * then constant, a line, or half a cosine down to a floor. A pure function of
 * the step, so a resumed run needs nothing saved (lora.md 9).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_SCHEDULE_H
#define BISE_FINETUNE_SCHEDULE_H

#include <stdint.h>

typedef enum {
    BISE_SCHEDULE_COSINE, BISE_SCHEDULE_LINEAR, BISE_SCHEDULE_CONSTANT
} bise_schedule_kind;

typedef struct bise_schedule {
    bise_schedule_kind kind;
    double lr;        /* peak */
    double lr_min;    /* floor as a share of the peak, 0..1 */
    uint64_t steps;   /* of the whole run */
    uint64_t warmup;  /* steps of the rise, see bise_schedule_warmup */
} bise_schedule;

/* Learning rate of step k = 0, 1, ... steps - 1. Warm-up step k has
 * lr (k + 1) / warmup, so that the first step already moves. */
double bise_schedule_lr(const bise_schedule *s, uint64_t step);
/* Warm-up steps from the option: below 1 a share of the run (rounded up), else
 * a number of steps; never more than the run has. */
uint64_t bise_schedule_warmup(double option, uint64_t steps);

#endif
