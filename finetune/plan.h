/* plan.h - what a run will take: peak memory, disk, time. Filled before weights
 * are read; `bise finetune --plan` prints it, and the run stays within it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_PLAN_H
#define BISE_FINETUNE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "finetune/feed.h"
#include "model/graph.h"

/* What a run needs. The peak is a resident set: own memory and those pages of
 * mapped weights that are resident at the same time. */
typedef struct bise_finetune_plan {
    bise_feed_plan feed;
    uint64_t warmup;          /* steps */
    uint64_t parameters;      /* trained values */
    uint64_t program_bytes;   /* code, tokenizer, data, before the rest */
    uint64_t activation_bytes, adapter_bytes, optimizer_bytes;
    uint64_t base_bytes;      /* quantized copy of the layers, 0 none */
    uint64_t weights_bytes;   /* weights that are read from the file */
    uint64_t resident_bytes;  /* most of them in memory at a time */
    bool streamed;            /* layer by layer: they do not all fit */
    uint64_t peak_bytes;      /* sum of what is in memory */
    uint64_t memory_limit;    /* what the run may take */
    uint64_t disk_bytes;      /* checkpoints and adapter at the most */
    int32_t pass_tokens;      /* most tokens of any pass, evaluation too */
    uint64_t eval_every, save_every;
    double tokens;            /* inputs of all steps */
    double token_flops;       /* products with frozen weights, for a token */
    double product_speed;     /* flop/s of such products in a short trial */
    double seconds;           /* estimate of the run, evaluation not counted */
} bise_finetune_plan;

struct bise_finetune;

/* Decide where the weights live and what the activations may take, and add it
 * up. Needs adapter, passes and graph_options of f; refuses a run that does not
 * fit under the limit. */
BISE_NODISCARD bise_status bise_finetune_plan_memory(struct bise_finetune *f,
                                                     bise_error *err);
/* Fill seconds from the work of the run and product_speed. */
BISE_NODISCARD bise_status bise_finetune_plan_time(struct bise_finetune *f,
                                                   bise_error *err);
/* Floating point operations a second in matrix products of all threads in a
 * precision: the best of a few short trials. */
double bise_finetune_speed(bise_pool *pool, bise_compute compute);

#endif
