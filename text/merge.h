/* merge.h - byte-pair merging: a table from a pair of ids to (rank, merged id)
 * and the loop that merges the best pair of a sequence until none is left.
 * Best is the lowest rank, then the leftmost. Short sequences scan an array,
 * long ones use a heap over a linked list: n log n, never quadratic.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_MERGE_H
#define BISE_TEXT_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct bise_merge_slot {
    uint64_t key;  /* left << 32 | right, plus one; 0 = free */
    uint32_t rank;
    int32_t id;
} bise_merge_slot;

/* What a pair becomes: UINT32_MAX is no merge. */
typedef struct bise_merge_to {
    uint32_t rank;
    int32_t id;
} bise_merge_to;

#define BISE_MERGE_SHORT 40 /* symbols up to which scanning beats a heap */

typedef struct bise_merges {
    bise_merge_slot *slots;
    uint64_t mask;
    size_t used;
} bise_merges;

/* Prepare for n pairs; add one (the first of equal pairs counts); both return
 * 0, or -1 when out of memory. */
BISE_NODISCARD int bise_merges_init(bise_merges *m, size_t n);
BISE_NODISCARD int bise_merges_add(bise_merges *m, int32_t left, int32_t right,
                                   uint32_t rank, int32_t id);
/* The entry of a pair, NULL when it does not merge. */
const bise_merge_slot *bise_merges_find(const bise_merges *m, int32_t left,
                                        int32_t right);
void bise_merges_fini(bise_merges *m);

/* Merge ids[0..*n) in place and set *n. Ids that are in no pair stay. */
BISE_NODISCARD bise_status bise_merge(const bise_merges *m, int32_t *ids,
                                      size_t *n, bise_error *err);
/* The scan for n <= BISE_MERGE_SHORT symbols whose first lookups are done:
 * to[i] is what ids[i], ids[i + 1] becomes. Returns the new n. */
size_t bise_merge_scan(const bise_merges *m, int32_t *ids, bise_merge_to *to,
                       size_t n);
/* The heap variant for any length; bise_merge uses it for long sequences. */
BISE_NODISCARD bise_status bise_merge_heap(const bise_merges *m, int32_t *ids,
                                           size_t *n, bise_error *err);

/* The variant for very long sequences: windows of `window` symbols (>= 16)
 * that overlap, merged one by one and joined at a token that both sides have.
 * Time and scratch in proportion to n; the ids are those of the heap. */
BISE_NODISCARD bise_status bise_merge_windows(const bise_merges *m,
                                              int32_t *ids, size_t *n,
                                              size_t window, bise_error *err);

#endif
