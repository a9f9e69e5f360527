/* archive_walk.h - unpack every file of an archive in order, on all cores, and
 * hand its bytes to a sink while the next ones are being unpacked; each file's
 * sha256 is compared with the manifest. Used by unpack and verify.
 * Memory and order do not depend on the number of threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_ARCHIVE_WALK_H
#define BISE_DEPLOY_ARCHIVE_WALK_H

#include "formats/archive.h"

/* Called in the order of the archive. A status other than BISE_OK ends the
 * walk. */
typedef struct bise_walk_sink {
    /* The next n bytes of a file; first and last mark its ends (a folder and
     * an empty file come once with n = 0). From one thread at a time, beside
     * the one that hashes. NULL: the bytes are not wanted. */
    bise_status (*data)(void *ctx, const bise_member *m, const void *data,
                        size_t n, bool first, bool last, bise_error *err);
    /* All of a file has passed, by the thread that walks. what says how it is
     * damaged, NULL: it is whole. Return BISE_OK to go on. */
    bise_status (*end)(void *ctx, const bise_member *m, const bise_error *what,
                       bise_error *err);
    void *ctx;
} bise_walk_sink;

/* Peak memory: about 80 MiB. stage names the work in progress reports. */
BISE_NODISCARD bise_status bise_archive_walk(const bise_archive *a,
                                             const bise_walk_sink *sink,
                                             const char *stage,
                                             bise_pool *pool,
                                             const bise_progress *progress,
                                             bise_error *err);

#endif
