/* spool.h - a long list of small records kept on disk instead of in memory:
 * append all, then read back in order as often as needed. The file has no
 * name; it is gone when closed, or when the process dies.
 * The disk must hold it: 16 bytes a sample for the index of a cache, 32 bytes a
 * row for the duplicates of an audit.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_SPOOL_H
#define BISE_TEXT_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct bise_spool bise_spool;

/* dir is where the file lives; NULL = TMPDIR or /tmp. */
BISE_NODISCARD bise_status bise_spool_new(bise_spool **out, const char *dir,
                                          bise_error *err);
BISE_NODISCARD bise_status bise_spool_add(bise_spool *s, const void *data,
                                          size_t n, bise_error *err);
/* Bytes added so far. */
uint64_t bise_spool_size(const bise_spool *s);
/* Start over at the first byte, to read. */
BISE_NODISCARD bise_status bise_spool_rewind(bise_spool *s, bise_error *err);
/* Read up to n bytes; *got is less only at the end. */
BISE_NODISCARD bise_status bise_spool_read(bise_spool *s, void *data, size_t n,
                                           size_t *got, bise_error *err);
void bise_spool_close(bise_spool *s);

#endif
