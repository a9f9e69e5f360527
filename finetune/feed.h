/* feed.h - packs of rows to the micro-batches of a step. A step takes whole
 * packs from the packer; a pack longer than a pass is cut between samples.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_FEED_H
#define BISE_FINETUNE_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "finetune/settings.h"
#include "model/graph.h"
#include "text/pack.h"

/* How much data goes where; made by bise_feed_plan_make. Two amounts rule it:
 *   --batch        data of an optimizer step; rows or tokens
 *   --micro-batch  data of one pass through the graph, which sets the memory
 * Rows are what other trainers call batch size and accumulation; tokens give
 * steps of equal work when rows differ much in length. */
typedef struct bise_feed_plan {
    bise_pack_options pack;
    int32_t pass_tokens;      /* most tokens in one pass */
    int32_t pass_rows;        /* most samples in one pass, 0 = any */
    uint64_t step_packs;      /* packs of a step, 0: until step_tokens */
    uint64_t step_tokens;
    uint64_t steps;           /* optimizer steps of the run */
    double empty;             /* share of the packs' capacity without a
                               * token; packs of rows have no capacity */
} bise_feed_plan;

/* Work out packs, passes and steps from the settings and the data. */
BISE_NODISCARD bise_status bise_feed_plan_make(bise_feed_plan *plan,
                                               const bise_settings *s,
                                               const bise_dataset *d,
                                               bise_error *err);

typedef struct bise_feed {
    bise_feed_plan plan;
    bise_packer *packer;
    bise_cursor cursor;       /* after the packs taken so far */
    bise_pack pack;           /* the pack being handed out */
    int32_t at;               /* its next sample */
    bool open;                /* a pack is being handed out */
    uint64_t packs, tokens;   /* taken in this step */
    int32_t *seg;             /* bounds of the pass, from 0 */
    size_t seg_cap;
} bise_feed;

BISE_NODISCARD bise_status bise_feed_init(bise_feed *f,
                                          const bise_feed_plan *plan,
                                          const bise_dataset *d,
                                          bise_error *err);
void bise_feed_fini(bise_feed *f);
/* Start a step at a cursor. */
void bise_feed_begin(bise_feed *f, bise_cursor at);
/* The next micro-batch of the step: *more is false when the step has all of
 * its data and *b is not set. Borrowed until the next call. */
BISE_NODISCARD bise_status bise_feed_next(bise_feed *f, bise_batch *b,
                                          bool *more, bise_error *err);

#endif
