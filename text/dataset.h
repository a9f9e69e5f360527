/* dataset.h - training and evaluation rows: files in any accepted format to
 * samples of token ids and masks, in constant memory. Rows are read once,
 * tokenized into a cache file, and then served by number, so that order and
 * resume are a pure function of (seed, epoch, position). */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_DATASET_H
#define BISE_TEXT_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/progress.h"
#include "text/chat.h"
#include "text/tokenizer.h"

typedef struct bise_dataset bise_dataset;

typedef enum { BISE_TOO_LONG_CUT, BISE_TOO_LONG_DROP, BISE_TOO_LONG_ERROR }
    bise_too_long;

typedef struct bise_dataset_options {
    const char *const *files;   /* "rows.jsonl", "rows.jsonl:0.7", ... */
    int32_t n_files;
    const bise_tokenizer *tokenizer;
    const bise_chat *chat;
    bise_train_on train_on;
    int32_t max_len;            /* tokens of a sample, BOS and EOS included */
    bise_too_long too_long;
    const char *cache_dir;      /* where the token cache goes; NULL = TMPDIR */
    const bise_progress *progress;
} bise_dataset_options;

/* One sample: [n] ids and masks, borrowed until the next call. */
typedef struct bise_row {
    const int32_t *ids;
    const uint8_t *mask;
    int32_t n;
} bise_row;

/* What was found; figures for reports. */
typedef struct bise_dataset_stats {
    uint64_t rows, bad, no_target, truncated, dropped;
    uint64_t tokens, supervised;
    int32_t longest;
    char format[64];
} bise_dataset_stats;

/* Read and tokenize all files (or reuse the cache). The first bad row is an
 * error "file:line: reason". */
BISE_NODISCARD bise_status bise_dataset_open(bise_dataset **out,
                                             const bise_dataset_options *o,
                                             bise_error *err);
void bise_dataset_close(bise_dataset *d);
uint64_t bise_dataset_count(const bise_dataset *d);
const bise_dataset_stats *bise_dataset_stats_of(const bise_dataset *d);
/* Sample number i. Thread-safe. */
void bise_dataset_row(const bise_dataset *d, uint64_t i, bise_row *row);
/* Length of sample i in tokens. */
int32_t bise_dataset_len(const bise_dataset *d, uint64_t i);
/* sha256 over files, tokenizer and settings: 64 hex digits. */
const char *bise_dataset_digest(const bise_dataset *d);

#endif
