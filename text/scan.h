/* scan.h - all rows of some files in order: cut, parsed and tokenized by many
 * threads, handed to one callback one after another. Training stops at the
 * first bad row, `data check` counts them; both read through here.
 * Peak memory: one batch of rows (4 MiB of text) and its tokens.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_SCAN_H
#define BISE_TEXT_SCAN_H

#include <stdint.h>

#include "core/error.h"
#include "text/dataset.h"
#include "text/rows.h"
#include "text/schema.h"
#include "text/sources.h"

/* One row, borrowed for the call. A bad row has a reason and no samples. */
typedef struct bise_scan_row {
    int32_t source;             /* index into the sources */
    const char *file;
    const bise_raw_row *raw;    /* text, line, offset */
    const bise_schema *schema;  /* NULL when unknown */
    const char *reason;         /* what is wrong, or NULL */
    const bise_samples *samples;
    size_t first, n;            /* its samples, none cut */
    const char *ignored;        /* keys that the format does not read, each
                                 * ended by a newline, or NULL */
    uint64_t hash;              /* of the tokens: equal rows have equal ones */
} bise_scan_row;

/* Return anything but BISE_OK to stop. */
typedef bise_status bise_scan_fn(void *ctx, const bise_scan_row *row,
                                 bise_error *err);

/* Walk all rows. Only faults of files fail; those of rows go to fn. */
BISE_NODISCARD bise_status bise_scan(const bise_sources *sources,
                                     const bise_dataset_options *o,
                                     bise_scan_fn *fn, void *ctx,
                                     bise_error *err);
/* Walk the rows of one stream (fuzzing, tests); takes in. */
BISE_NODISCARD bise_status bise_scan_stream_take(bise_inflate *in,
                                                 const char *name,
                                                 const bise_dataset_options *o,
                                                 bise_scan_fn *fn, void *ctx,
                                                 bise_error *err);
/* Sample i of a row: ids, mask and length. */
bise_row bise_scan_sample(const bise_scan_row *row, size_t i);
/* Trained tokens of a sample: targets, so its first token never counts. */
int32_t bise_row_supervised(const bise_row *row);
/* Record the reason of a bad row as "file:line: reason". */
BISE_NODISCARD bise_status bise_scan_fail(const bise_scan_row *row,
                                          const char *reason,
                                          bise_error *err);

#endif
