/* token_cache.h - the file that holds a tokenized dataset, written once and
 * mapped afterwards. Little-endian:
 *   header (256 bytes) | samples | index | source counts
 *   header  "BISETOK1", key (64 hex digits), sha256 of all after the header,
 *           number of samples, offset of the index, sources, statistics
 *   sample  ids [n] i32, mask [n] u8, zeros to a multiple of 4
 *   index   per sample: offset u64, length u32, trained tokens u32
 *   source  number of samples of each file, u64
 * Called by dataset.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_TOKEN_CACHE_H
#define BISE_TEXT_TOKEN_CACHE_H

#include <stdint.h>

#include "core/error.h"
#include "core/file.h"
#include "text/dataset.h"

typedef struct bise_token_cache {
    bise_map map;
    uint64_t n, index; /* samples, offset of the index */
    int32_t n_sources;
    bise_dataset_stats stats;
} bise_token_cache;

typedef struct bise_token_writer bise_token_writer;

/* Begin the file path for n_sources files; key is 64 hex digits. Appears under
 * its name only when finished. */
BISE_NODISCARD bise_status bise_token_writer_new(bise_token_writer **out,
                                                 const char *path,
                                                 const char *key,
                                                 int32_t n_sources,
                                                 bise_error *err);
/* Append a sample of a source; sources come in order. */
BISE_NODISCARD bise_status bise_token_writer_add(bise_token_writer *w,
                                                 int32_t source,
                                                 const bise_row *row,
                                                 bise_error *err);
/* Complete and release w (also on failure). */
BISE_NODISCARD bise_status bise_token_writer_finish(
    bise_token_writer *w, const bise_dataset_stats *stats, bise_error *err);
/* Throw the partial file away; NULL is fine. */
void bise_token_writer_drop(bise_token_writer *w);

/* Map a finished file. Every field, the checksum and the ids (below vocab) are
 * checked; BISE_EFORMAT when something does not hold or the key differs. */
BISE_NODISCARD bise_status bise_token_cache_open(bise_token_cache *c,
                                                 const char *path,
                                                 const char *key,
                                                 int32_t vocab,
                                                 bise_error *err);
void bise_token_cache_close(bise_token_cache *c);
/* Sample i; samples of source s. */
void bise_token_cache_row(const bise_token_cache *c, uint64_t i,
                          bise_row *row);
int32_t bise_token_cache_len(const bise_token_cache *c, uint64_t i);
uint64_t bise_token_cache_source(const bise_token_cache *c, int32_t s);

#endif
