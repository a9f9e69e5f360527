/* pack.h - make an archive (formats/archive.h) of files and folders, and put
 * one back on disk. Called by bise pack and bise unpack.
 * Both directions are refused rather than guessed at: an output that exists, a
 * name that could leave its folder, a size that cannot be meant.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_PACK_H
#define BISE_DEPLOY_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "core/pool.h"
#include "core/progress.h"

typedef struct bise_pack_options {
    int level;       /* of zstd, 0 = 3 */
    bool plain;      /* no byte planes */
    bool force;
    bise_pool *pool;
    const bise_progress *progress;
} bise_pack_options;

/* What was packed or unpacked. */
typedef struct bise_pack_result {
    bise_json *files;        /* [{path, bytes, sha256}], taken by the caller */
    uint64_t bytes, packed;  /* of all files; of the archive */
    size_t n, planes;        /* files; those stored as byte planes */
} bise_pack_result;

/* Pack paths into out. One folder: its content stands at the top of the
 * archive; otherwise each path under its own name. Links to files are
 * followed, other special files refused. Equal input gives equal bytes. */
BISE_NODISCARD bise_status bise_pack(const char *const *paths, size_t n,
                                     const char *out,
                                     const bise_pack_options *o,
                                     bise_pack_result *result,
                                     bise_error *err);

typedef struct bise_unpack_options {
    bool force;
    uint64_t max_bytes;  /* refuse to write more; 0: 1 GiB, or 1000 times the
                            archive, whichever is more */
    bise_pool *pool;
    const bise_progress *progress;
} bise_unpack_options;

/* Unpack an archive into a new folder, which appears when every file is there
 * and has the sha256 of the manifest. */
BISE_NODISCARD bise_status bise_unpack(const char *archive, const char *dir,
                                       const bise_unpack_options *o,
                                       bise_pack_result *result,
                                       bise_error *err);

#endif
