/* runlog.h - log.jsonl of a training run: one JSON object a line, flushed as
 * it is written. Keys: step, loss, lr, grad_norm, tokens, supervised_tokens,
 * tokens_per_second, seconds, peak_rss_bytes, eval_loss, time (an object: the
 * step's seconds by part); the line of step 0 has "run" as well: model, data,
 * machine, version.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_RUNLOG_H
#define BISE_FINETUNE_RUNLOG_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"

/* Parts of a step's time, as in model/graph.h and the two that the trainer
 * adds. */
enum {
    BISE_TIME_MATMUL, BISE_TIME_LORA, BISE_TIME_ATTENTION, BISE_TIME_NORMS,
    BISE_TIME_LOSS, BISE_TIME_OPTIMIZER, BISE_TIME_OTHER, BISE_TIME_PARTS
};

/* Totals rather than differences: tokens, supervised and seconds count from the
 * start of training, so that a reader may skip lines and a resumed run goes on
 * where the killed one was. */
/* One line; NaN (or 0 for counts past step 0) leaves a key out. */
typedef struct bise_logline {
    uint64_t step;
    double loss, lr, grad_norm, tokens_per_second, seconds, eval_loss;
    uint64_t tokens, supervised, peak_rss_bytes; /* tokens since the start */
    /* Seconds of this step by part, in the order of bise_time_names; not
     * written when all are 0. Ignored when read: see bise_runlog_data. */
    double time[BISE_TIME_PARTS];
} bise_logline;

/* "matmul", "lora", ... of BISE_TIME_*. */
extern const char *const bise_time_names[BISE_TIME_PARTS];

typedef struct bise_runlog bise_runlog;

/* Open path for appending, after dropping all lines of a step above last
 * (a resumed run writes them again); last < 0 starts an empty file. */
BISE_NODISCARD bise_status bise_runlog_open(bise_runlog **out,
                                            const char *path, int64_t last,
                                            bise_error *err);
/* Append a line; run (borrowed, may be NULL) becomes its "run". */
BISE_NODISCARD bise_status bise_runlog_add(bise_runlog *l,
                                           const bise_logline *line,
                                           const bise_json *run,
                                           bise_error *err);
/* Sync and close. NULL is fine. */
BISE_NODISCARD bise_status bise_runlog_close(bise_runlog *l, bise_error *err);

#define BISE_RUNLOG_PARTS 16

/* A key of "time", and its seconds over all lines that have the object. */
typedef struct bise_runlog_part {
    char name[24];
    double seconds;
} bise_runlog_part;

/* A log read back. Zero-initialise, release with _fini. */
typedef struct bise_runlog_data {
    bise_logline *lines;
    size_t n, cap;
    bise_runlog_part parts[BISE_RUNLOG_PARTS]; /* in the order of the file */
    size_t n_parts;
    uint64_t part_tokens; /* tokens of the steps that parts are the time of */
    bise_json *run;       /* of the first line that has one, or NULL */
} bise_runlog_data;

/* Read a log. A last line without its end (the writer was killed) is left
 * out; any other bad line is an error with its number. */
BISE_NODISCARD bise_status bise_runlog_read(bise_runlog_data *d,
                                            const char *path,
                                            bise_error *err);
void bise_runlog_data_fini(bise_runlog_data *d);

#endif
