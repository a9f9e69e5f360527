/* ahead.h - parts of a mapped file, read before they are needed and past the
 * page cache: a page that the kernel first has to find and then to map costs
 * more than a fast disk takes to deliver it. Parts that are in memory already,
 * or come from a slow disk, are left to the mapping.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_AHEAD_H
#define BISE_CORE_AHEAD_H

#include <stdint.h>

#include "core/file.h"

/* A reader, and a file that it reads. */
typedef struct bise_ahead bise_ahead;
typedef struct bise_ahead_file bise_ahead_file;

/* Starts nothing before it is asked. NULL when out of memory. */
bise_ahead *bise_ahead_new(void);
/* The mapping m of path, which is borrowed. NULL when out of memory. */
bise_ahead_file *bise_ahead_open(bise_ahead *a, const char *path,
                                 const bise_map *m);
/* Bytes [first, first + n) will be needed soon. A hint: at most 16 parts are
 * held of all files, none of less than 128 KiB nor of more than the first one
 * and 2 MiB, none of a file below 16 MiB; the kernel is asked for the rest. */
void bise_ahead_ask(bise_ahead_file *f, uint64_t first, uint64_t n);
/* Bytes [first, first + n), once they are there. When just these were asked for
 * they are where they were read to, until the calling thread is done with them;
 * part of what was asked for is copied to scratch (n bytes, the caller's); all
 * else is in the mapping. */
const void *bise_ahead_get(bise_ahead_file *f, uint64_t first, uint64_t n,
                           void *scratch);
/* The calling thread is done with what lies in [first, first + n). */
void bise_ahead_done(bise_ahead_file *f, uint64_t first, uint64_t n);
/* While nobody uses the file; then while no file is open. NULL is fine. */
void bise_ahead_close(bise_ahead_file *f);
void bise_ahead_free(bise_ahead *a);

#endif
