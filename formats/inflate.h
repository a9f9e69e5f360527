/* inflate.h - any file as a stream of bytes: plain, .gz or .zst, recognized by
 * its first bytes, never by its name (libarchive's filters inside). A buffer
 * in memory reads the same way, which is how fuzz targets feed the readers.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_INFLATE_H
#define BISE_FORMATS_INFLATE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef struct bise_inflate bise_inflate;

/* Open a file. Errors carry its path. */
BISE_NODISCARD bise_status bise_inflate_open(bise_inflate **out,
                                             const char *path,
                                             bise_error *err);
/* Read from memory as it is; data must outlive the object. */
BISE_NODISCARD bise_status bise_inflate_memory(bise_inflate **out,
                                               const void *data, size_t n,
                                               bise_error *err);
/* Read up to cap bytes; *got is 0 only at the end. A damaged or cut stream is
 * an error with the position in the decompressed data. */
BISE_NODISCARD bise_status bise_inflate_read(bise_inflate *in, void *buf,
                                             size_t cap, size_t *got,
                                             bise_error *err);
/* Bytes of the file consumed so far, compressed as they stand, for progress. */
uint64_t bise_inflate_consumed(const bise_inflate *in);
void bise_inflate_close(bise_inflate *in);

#endif
