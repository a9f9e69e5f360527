/* run.h - executes any plan. The output's size is known from the plan, so the
 * file is preallocated, the header is written first, and every slab of rows is
 * read, encoded and written to its place by whichever thread is free. Slabs
 * are cut by the problem only, so the bytes are the same for any number of
 * threads. Outputs appear under their name when complete (core/file.h).
 * Peak memory: bise_run_memory(), independent of the model.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_PIPELINE_RUN_H
#define BISE_PIPELINE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "core/progress.h"
#include "pipeline/plan.h"

/* How the work is cut. Tensor i has rows R of some bytes; a slab is as many
 * whole rows as make about 2^18 weights (2 MiB when bytes are only copied), so
 * one float32 slab fits the second-level cache of a core together with its
 * encoded form. Slab numbers run through all tensors:
 *
 *   tensor   0        1   2                3
 *   slabs    0 1 2 3  4   5 6 7 8 9 10 11  12
 *
 * and the pool hands them out in order. Neither the cut nor the place of a
 * slab's bytes depends on the number of threads. Rows are never divided: the
 * weights of Q4_0 with an importance matrix depend on the whole row.
 */
typedef struct bise_run_options {
    const char *path;        /* the .gguf or the directory to make */
    /* Pack as it is made: path is an archive (formats/archive.h), the same as
     * bise pack makes of the output. Of a GGUF it holds archive, its name
     * inside; side files stand beside it. Of a directory it says nothing but
     * that it is packed. NULL: no archive. */
    const char *archive;
    const char *stage;       /* "convert", for progress */
    bool force;              /* replace an existing output */
    bool allow_nonfinite;    /* keep NaN and infinity where the type can */
    bool measure;            /* rmse of each tensor: one more decode */
    bise_pool *pool;
    const bise_progress *progress;
} bise_run_options;

/* What happened to one tensor; sums in double, in row order. */
typedef struct bise_run_stats {
    double square_error;     /* sum (float row - decoded output)^2 */
    double delta_square;     /* sum (with - without adapters)^2 */
    double base_square;      /* sum of squares without adapters */
    uint64_t changed;        /* elements whose stored value an adapter moved */
    uint64_t flushed;        /* non-zero values that became 0 */
    uint64_t overflowed;     /* finite values that became infinite, which only
                                allow_nonfinite lets through */
    uint64_t weights;
} bise_run_stats;

typedef struct bise_run_output {
    char *path;
    uint64_t bytes;
} bise_run_output;

/* Zero-initialise, release with bise_run_result_fini. */
typedef struct bise_run_result {
    bise_run_output *outputs;
    size_t n_outputs;
    bise_run_stats *stats;   /* one for each tensor of the plan */
    size_t n_stats;
    uint64_t bytes_in, bytes_out;
} bise_run_result;

/* Execute a plan; lays it out first when that was not done. On failure nothing
 * is left under the output's name or its .part. */
BISE_NODISCARD bise_status bise_run(bise_plan *p, const bise_run_options *o,
                                    bise_run_result *result, bise_error *err);
void bise_run_result_fini(bise_run_result *r);
/* Bytes of buffers that bise_run takes with so many threads. */
uint64_t bise_run_memory(const bise_plan *p, int threads, bool measure);
/* sqrt(mean square error), and the share of changed elements. */
double bise_run_rmse(const bise_run_stats *s);

#endif
