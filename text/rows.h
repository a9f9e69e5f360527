/* rows.h - a data file cut into JSON rows: one object a line (JSONL), or the
 * elements of one array (.json), compressed or not. Only the cutting happens
 * here; rows are parsed by many threads later (scan.h).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_ROWS_H
#define BISE_TEXT_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "formats/inflate.h"

/* A row longer than this is refused: no training sample is. */
#define BISE_ROW_MAX_BYTES (64u << 20)

/* The text of one row and where it stands. */
typedef struct bise_raw_row {
    const char *text;
    size_t n;
    uint64_t line;     /* counted from 1 */
    uint64_t offset;   /* byte in the (decompressed) file */
    const char *fault; /* the file's structure breaks here, or NULL */
} bise_raw_row;

typedef struct bise_row_reader bise_row_reader;

/* Cut the stream in; takes it, also on failure. */
BISE_NODISCARD bise_status bise_rows_new_take(bise_row_reader **out,
                                              bise_inflate *in,
                                              bise_error *err);
BISE_NODISCARD bise_status bise_rows_open(bise_row_reader **out,
                                          const char *path,
                                          bise_error *err);
void bise_rows_close(bise_row_reader *r);
/* The next rows, as many as fit the buffer of a few MiB; *n is 0 at the end.
 * Borrowed until the next call. Blank lines are skipped. */
BISE_NODISCARD bise_status bise_rows_batch(bise_row_reader *r,
                                           const bise_raw_row **rows,
                                           size_t *n, bise_error *err);
/* Bytes of the file consumed so far. */
uint64_t bise_rows_consumed(const bise_row_reader *r);

#endif
