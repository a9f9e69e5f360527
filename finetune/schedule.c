/* schedule.c - learning rates by formula: with k the step, w the warm-up and
 * K the length of the run, x = (k - w) / (K - w):
 *   cosine   lr (f + (1 - f) (1 + cos(pi x)) / 2)
 *   linear   lr (f + (1 - f) (1 - x))          f = floor as a share of lr
 *   constant lr
 * Called by the trainer once in a step and by the plan for its table.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* The first step of the warm-up has lr / w rather than 0: a step without any
 * effect would only cost time. */
double bise_schedule_lr(const bise_schedule *s, uint64_t step)
{
    if (step < s->warmup)
        return s->lr * (double)(step + 1) / (double)s->warmup;
    if (s->kind == BISE_SCHEDULE_CONSTANT || s->steps <= s->warmup)
        return s->lr;
    /* Past the end the rate stays at the floor. */
    double x = (double)(step - s->warmup) / (double)(s->steps - s->warmup);
    x = x > 1 ? 1 : x;
    const double fall = s->kind == BISE_SCHEDULE_LINEAR
                            ? 1 - x : 0.5 * (1 + cos(pi * x));
    return s->lr * (s->lr_min + (1 - s->lr_min) * fall);
}

/* Shares are rounded up, so a warm-up that is asked for has a step at least.
 */
uint64_t bise_schedule_warmup(double option, uint64_t steps)
{
    const double n = option < 1 ? ceil(option * (double)steps)
                                : floor(option);
    return n >= (double)steps ? steps : (uint64_t)n;
}
