/* audit.h - what `data check` finds out about data files before a step is
 * spent on them: bad rows, lengths, duplicates, near-empty answers; and a
 * cleaned copy. Memory does not grow with the files: hashes wait on disk, one
 * bit a row stays in memory.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_AUDIT_H
#define BISE_TEXT_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "text/dataset.h"

#define BISE_AUDIT_LENGTHS 65536 /* lengths counted one by one */
#define BISE_AUDIT_PLACES 5      /* examples kept of each finding */
#define BISE_AUDIT_KEYS 16       /* ignored keys told apart */
#define BISE_AUDIT_NEAR_EMPTY 3  /* fewer trained tokens, the end included */

/* Where a row stands, and a figure about it. */
typedef struct bise_audit_place {
    int32_t source;  /* index into the files */
    uint64_t line;
    int64_t value;   /* tokens; for a duplicate the line it repeats */
    int32_t other;   /* for a duplicate the file it repeats */
} bise_audit_place;

/* A key that no format of its rows reads. */
typedef struct bise_audit_key {
    char *name;
    uint64_t rows;
} bise_audit_key;

typedef struct bise_audit_options {
    const bise_dataset_options *data;
    const char *write;   /* cleaned JSONL file, or NULL */
    bool force;          /* replace it */
    /* Called for every bad row in order; may be NULL. */
    void (*bad)(void *ctx, const char *file, uint64_t line,
                const char *reason);
    void *ctx;
} bise_audit_options;

typedef struct bise_audit {
    bise_dataset_stats stats; /* of the good rows as training would take
                               * them; bad counts the bad ones */
    uint64_t duplicates, near_empty;
    uint64_t written;         /* rows of the cleaned file */
    uint64_t *lengths;        /* [BISE_AUDIT_LENGTHS + 1] samples of n tokens
                               * before cutting; the last: all longer ones */
    bise_audit_place longest[BISE_AUDIT_PLACES];   /* falling */
    bise_audit_place repeated[BISE_AUDIT_PLACES];
    bise_audit_place short_answers[BISE_AUDIT_PLACES];
    bise_audit_place no_target[BISE_AUDIT_PLACES];
    int32_t n_longest, n_repeated, n_short, n_no_target;
    bise_audit_key ignored[BISE_AUDIT_KEYS]; /* in the order met */
    int32_t n_ignored;
    char **files;             /* names by source */
    int32_t n_files;
} bise_audit;

/* Read all rows. Bad rows are findings; only broken files are errors. The
 * cleaned file holds the good rows in order, one a line, without repetitions
 * and without rows that have nothing to train. */
BISE_NODISCARD bise_status bise_audit_run(bise_audit *out,
                                          const bise_audit_options *o,
                                          bise_error *err);
/* Length that a share (0..1) of the samples does not exceed. */
int32_t bise_audit_quantile(const bise_audit *a, double share);
void bise_audit_fini(bise_audit *a);

#endif
