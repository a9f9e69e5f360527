/* dataset.h - training and evaluation rows: files in any accepted format to
 * samples of token ids and masks, in constant memory. Rows are read once,
 * tokenized into a cache file, and then served by number, so that order and
 * resume are a pure function of (seed, epoch, position).
 *   files -> sources.h (names, weights) -> rows.h (cut) -> scan.h (parallel)
 *         -> schema.h (format) -> chat.h (ids, mask) -> token_cache.h (file)
 *         -> order.h (shuffle) -> pack.h (what the graph takes)
 *
 * The cache is keyed by the content of the files, the tokenizer and the
 * settings that decide about samples; a run that finds a fitting one reads no
 * row again.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_DATASET_H
#define BISE_TEXT_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "core/progress.h"
#include "text/chat.h"
#include "text/tokenizer.h"

typedef struct bise_dataset bise_dataset;

typedef enum { BISE_TOO_LONG_CUT, BISE_TOO_LONG_DROP, BISE_TOO_LONG_ERROR }
    bise_too_long;

typedef struct bise_dataset_options {
    /* "rows.jsonl", "rows.jsonl:0.7" (share of an epoch), "rows.json.gz", or a
     * directory with <split>.jsonl. */
    const char *const *files;
    int32_t n_files;
    const char *split;          /* "train" when NULL, "valid" for evaluation */
    const bise_tokenizer *tokenizer;
    const bise_chat *chat;
    bise_train_on train_on;
    int32_t max_len;            /* tokens of a sample, BOS and EOS included;
                                 * 0 = no limit */
    bise_too_long too_long;
    const char *effort;         /* reasoning effort of rows that say none
                                 * (v15), NULL for the tokenizer's default */
    bool pairs;                 /* preference rows: sample 2i is the chosen
                                 * answer, 2i+1 the rejected one; no others */
    const char *cache_dir;      /* where the token cache goes and stays; NULL =
                                 * a file in TMPDIR that is gone at the end */
    bise_pool *pool;            /* tokenizes rows side by side; may be NULL */
    const bise_progress *progress;
} bise_dataset_options;

/* One sample: [n] ids and masks, borrowed from the mapped cache until the
 * dataset is closed. */
typedef struct bise_row {
    const int32_t *ids;
    const uint8_t *mask;
    int32_t n;
} bise_row;

/* What was found; figures for reports. */
typedef struct bise_dataset_stats {
    uint64_t rows;       /* rows read, the bad ones included */
    uint64_t bad;        /* rows with a fault (check only; open stops) */
    uint64_t no_target;  /* samples without a trained token: left out */
    uint64_t truncated;  /* samples cut at max_len */
    uint64_t dropped;    /* samples left out because too long */
    uint64_t samples;    /* samples kept; a row may make several */
    uint64_t tokens;     /* ids of the samples kept, BOS and EOS included */
    uint64_t supervised; /* of these the trained ones (targets) */
    int32_t longest;     /* tokens of the longest sample before cutting */
    char format[64];     /* "messages", or "messages, text" for two files */
} bise_dataset_stats;

/* Samples [first, first + count) come from one file; weight is its share of an
 * epoch before normalization, 0 when no file has a weight. */
typedef struct bise_dataset_source {
    uint64_t first, count;
    double weight;
} bise_dataset_source;

/* Read and tokenize all files (or reuse the cache). The first bad row is an
 * error "file:line: reason"; so is a set without any trained token. Peak
 * memory: a few MiB a thread, whatever the size of the files. */
BISE_NODISCARD bise_status bise_dataset_open(bise_dataset **out,
                                             const bise_dataset_options *o,
                                             bise_error *err);
/* Copy the token cache into a directory, where a later bise_dataset_open with
 * it as cache_dir finds it. Nothing happens when it is there already. */
BISE_NODISCARD bise_status bise_dataset_keep(const bise_dataset *d,
                                             const char *dir,
                                             bise_error *err);
void bise_dataset_close(bise_dataset *d);
/* Samples in file order. */
uint64_t bise_dataset_count(const bise_dataset *d);
const bise_dataset_stats *bise_dataset_stats_of(const bise_dataset *d);
/* Sample number i (below the count). Thread-safe. */
void bise_dataset_row(const bise_dataset *d, uint64_t i, bise_row *row);
/* Length of sample i in tokens; at least 2. */
int32_t bise_dataset_len(const bise_dataset *d, uint64_t i);
/* The files in the order given, after directories were searched. */
int32_t bise_dataset_source_count(const bise_dataset *d);
const bise_dataset_source *bise_dataset_source_at(const bise_dataset *d,
                                                  int32_t i);
/* Add a row's format to the list in the statistics, once. */
void bise_dataset_note_format(bise_dataset_stats *st, const char *name);
/* sha256 over files, tokenizer and settings: 64 hex digits. */
const char *bise_dataset_digest(const bise_dataset *d);

#endif
