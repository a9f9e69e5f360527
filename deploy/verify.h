/* verify.h - is this archive, folder, model file or adapter whole and right?
 * Lists every problem found instead of stopping at the first: hashes,
 * structure, weights that are not finite, configuration against tensors,
 * tokenizer against embedding, terms of use. Called by bise verify and release.
 * Weights are scanned by a function of the caller, because deploy/ does not
 * see the codecs.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_VERIFY_H
#define BISE_DEPLOY_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"
#include "core/error.h"
#include "core/json.h"
#include "core/pool.h"
#include "core/progress.h"

/* Index of the first weight of n encoded weights that is not finite, or whose
 * block's scale is not; UINT64_MAX when all are. */
typedef uint64_t bise_find_bad_fn(bise_dtype t, const void *data, uint64_t n);

typedef struct bise_verify_options {
    bise_find_bad_fn *find_bad;
    const char *require_licence; /* "apache-2.0", or NULL: any, only warn */
    bise_pool *pool;
    const bise_progress *progress;
} bise_verify_options;

typedef struct bise_verify_result {
    bise_json *files;      /* [{path, bytes, sha256}], their sha256 checked */
    bise_json *problems;   /* [{path, message, tensor?, offset?}] */
    bise_json *warnings;   /* ["..."]: nothing is wrong, but know it */
    const char *format;    /* "archive", "safetensors", ..., "folder" */
    uint64_t tensors, bytes;
} bise_verify_result;

/* Check path. Fails only when checking itself cannot go on (memory, Ctrl-C, no
 * such path); what is wrong with the input is in result->problems. */
BISE_NODISCARD bise_status bise_verify(const char *path,
                                       const bise_verify_options *o,
                                       bise_verify_result *result,
                                       bise_error *err);
/* Release the lists. Safe on a zeroed result. */
void bise_verify_fini(bise_verify_result *result);

#endif
