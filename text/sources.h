/* sources.h - the data files a user named: "rows.jsonl", "rows.jsonl:0.7" with
 * a weight, or a directory with train.jsonl and valid.jsonl.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_SOURCES_H
#define BISE_TEXT_SOURCES_H

#include <stdint.h>

#include "core/error.h"

typedef struct bise_source {
    char *path;
    double weight;   /* 1 where none was given but another file has one; 0
                      * when no file has a weight */
    uint64_t bytes;  /* size of the file as it stands */
} bise_source;

typedef struct bise_sources {
    bise_source *v;
    int32_t n;
    uint64_t bytes;  /* of all */
} bise_sources;

/* Resolve the names. In a directory <split>.jsonl is taken (also .json, and
 * .gz or .zst of both); for the split "train" without such a file all .jsonl
 * files that are not named as valid or test data. */
BISE_NODISCARD bise_status bise_sources_find(bise_sources *out,
                                             const char *const *names,
                                             int32_t n, const char *split,
                                             bise_error *err);
void bise_sources_fini(bise_sources *s);

#endif
