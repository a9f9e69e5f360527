/* optimizer.h - one update of all trained values from their gradients: AdamW
 * in PyTorch's order of operations, AdamW with 8-bit moments in the manner of
 * bitsandbytes, Lion, and the global gradient norm. Works
 * on the flat buffers of bise_lora; every value is updated on its own, so the
 * result does not depend on threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_OPTIMIZER_H
#define BISE_FINETUNE_OPTIMIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "core/tensor.h"

typedef enum {
    BISE_OPTIMIZER_ADAMW,
    BISE_OPTIMIZER_ADAMW8, /* spans of fewer than 4096 values stay float32 */
    BISE_OPTIMIZER_LION
} bise_optimizer_kind;

typedef struct bise_optimizer_options {
    bise_optimizer_kind kind;
    double beta1, beta2, eps, weight_decay;
    bise_pool *pool;       /* borrowed; NULL runs on the calling thread */
} bise_optimizer_options;

/* A part of the buffers that is one tensor. Borders matter in two ways: decay
 * may differ, and blocks of 8-bit moments start anew, so that a tensor's codes
 * do not depend on its neighbours. */
typedef struct bise_span {
    size_t first, n;
    bool decay;            /* weight decay applies (not to magnitudes) */
} bise_span;

typedef struct bise_optimizer bise_optimizer;

#define BISE_OPTIMIZER_STATES 6 /* most state arrays of any kind */

/* An optimizer for values cut into spans [n_spans], which follow one another
 * without gaps. The state starts at zero. */
BISE_NODISCARD bise_status bise_optimizer_new(bise_optimizer **out,
                                              const bise_optimizer_options *o,
                                              const bise_span *spans,
                                              size_t n_spans,
                                              bise_error *err);
void bise_optimizer_free(bise_optimizer *o);
/* Bytes of state for n values. */
uint64_t bise_optimizer_bytes(bise_optimizer_kind kind, uint64_t n);
/* sqrt(sum g^2) over all spans, in double, summed in fixed chunks. */
double bise_optimizer_norm(bise_optimizer *o, const float *grads);
/* values -= update, from scale * grads. */
void bise_optimizer_step(bise_optimizer *o, float *values, const float *grads,
                         float scale, double lr);
/* Updates done so far (the k of the bias correction). */
uint64_t bise_optimizer_count(const bise_optimizer *o);
void bise_optimizer_set_count(bise_optimizer *o, uint64_t k);
/* Views of the state arrays for saving and restoring; returns their number.
 * data points at the live arrays (cast away const to restore). */
size_t bise_optimizer_state(const bise_optimizer *o,
                            bise_tensor out[BISE_OPTIMIZER_STATES]);

#endif
