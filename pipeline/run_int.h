/* run_int.h - what run.c and run_pack.c share: the job in execution. Not for
 * others.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_PIPELINE_RUN_INT_H
#define BISE_PIPELINE_RUN_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/file.h"
#include "pipeline/run.h"

/* Buffers of one thread. */
typedef struct bise_run_lane {
    float *x, *y;           /* rows; decoded or base rows when measuring */
    uint8_t *out, *other;   /* encoded rows; encoded base rows */
    bise_scratch scratch;
} bise_run_lane;

typedef struct bise_run_job {
    const bise_plan *plan;
    const bise_run_options *o;
    uint64_t *starts;       /* [n + 1] first slab of each tensor */
    uint64_t *slab_rows;    /* [n] rows of a slab */
    bise_out **outs;        /* one for each file */
    uint32_t *file_of;      /* [n] */
    bise_run_lane *lanes;
    bise_run_stats *slabs;  /* one for each slab when measuring, else NULL */
    /* Packed as it is made: slabs from first_slab on go to a window over the
     * file, which begins at window_at. */
    uint8_t *window;
    uint64_t window_at, first_slab;
    pthread_mutex_t lock;
    _Atomic bool stop;
    _Atomic uint64_t done;  /* bytes written */
    uint64_t total;
    uint64_t bad_slab;      /* slab of the error, under lock */
    bise_error err;
} bise_run_job;

/* Make one slab, counted from first_slab; the pool's task. */
void bise_run_slab(void *ctx, size_t index, int worker);
/* Where a slab goes in its file, and its size. */
void bise_run_slab_place(const bise_run_job *j, uint64_t slab,
                         uint64_t *offset, uint64_t *bytes);
/* Path of weight file i below path (the directory, or the .gguf). NULL when
 * out of memory; bise_free. */
char *bise_run_file_path(const bise_plan *p, size_t i, const char *path);
/* Append model.safetensors.index.json, or a side file, to text. */
BISE_NODISCARD bise_status bise_run_index(bise_str *text, const bise_plan *p,
                                          bise_error *err);
BISE_NODISCARD bise_status bise_run_side(bise_str *text,
                                         const bise_plan_side *f,
                                         bise_error *err);
/* Note a file that was made. */
BISE_NODISCARD bise_status bise_run_add_output(bise_run_result *r,
                                               const char *path,
                                               uint64_t bytes,
                                               bise_error *err);
/* The plan into an archive of its options' path. */
BISE_NODISCARD bise_status bise_run_packed(bise_run_job *j, bise_run_result *r,
                                           bise_error *err);

#endif
