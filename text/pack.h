/* pack.h - samples to batches: a pack is a list of whole samples laid one
 * after another with at most max_tokens tokens (bins filled best-fit
 * decreasing inside windows of the shuffled order), no padding. The order is a
 * pure function of (seed, epoch); a cursor of two numbers resumes it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_PACK_H
#define BISE_TEXT_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "text/dataset.h"

typedef struct bise_packer bise_packer;

typedef struct bise_pack_options {
    int32_t max_tokens;   /* capacity of a pack in inputs (sample length - 1
                           * each); used with packing only */
    bool packing;         /* fill packs up to max_tokens; else by rows */
    int32_t rows_per_pack; /* without packing: samples of a pack, laid out in
                            * order (0 = 1); the last of an epoch may be
                            * smaller */
    bool shuffle;         /* false: rows in file order, for evaluation and for
                           * comparison with other trainers */
    uint64_t seed;
} bise_pack_options;

/* A pack as the graph takes it: inputs are tokens 0..n-2 of each sample,
 * targets the tokens 1..n-1 where the mask says so, else -1. Borrowed until
 * the next call. */
typedef struct bise_pack {
    const int32_t *ids, *targets, *seg; /* seg [n_seg + 1] */
    int32_t T, n_seg;
    int32_t supervised;   /* targets >= 0 */
    int32_t rows;         /* samples in it */
} bise_pack;

/* Position in the endless sequence of packs: save and restore as a whole. */
typedef struct bise_cursor {
    uint64_t epoch, pack;
} bise_cursor;

BISE_NODISCARD bise_status bise_packer_new(bise_packer **out,
                                           const bise_dataset *d,
                                           const bise_pack_options *o,
                                           bise_error *err);
void bise_packer_free(bise_packer *p);
/* Packs of one epoch (the same for every epoch up to order effects of the
 * shuffle: asks for the epoch), and the share of capacity left empty. */
BISE_NODISCARD bise_status bise_packer_count(bise_packer *p, uint64_t epoch,
                                             uint64_t *packs, double *empty,
                                             bise_error *err);
/* The pack at the cursor; moves the cursor on, into the next epoch at the
 * end. */
BISE_NODISCARD bise_status bise_packer_next(bise_packer *p, bise_cursor *at,
                                            bise_pack *out, bise_error *err);

#endif
