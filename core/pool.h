/* pool.h - the only threads of bise. A pool runs a function for the indices
 * 0..n-1 on its workers and on the calling thread and returns when all are
 * done. Indices are handed out in order; which worker gets which is not fixed,
 * so results must depend on the index only, never on the worker.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_POOL_H
#define BISE_CORE_POOL_H

#include <stddef.h>

#include "core/error.h"

typedef struct bise_pool bise_pool;

/* One task; worker is 0..threads-1 and may select scratch memory. */
typedef void bise_task_fn(void *ctx, size_t index, int worker);

/* A pool of threads workers (>= 1, the caller counts as one). */
BISE_NODISCARD bise_status bise_pool_new(bise_pool **out, int threads,
                                         bise_error *err);
void bise_pool_free(bise_pool *p);
/* Number of workers; 1 for NULL. */
int bise_pool_threads(const bise_pool *p);
/* Run fn for every index below n. A NULL pool runs them here, in order.
 * Not to be called from inside a task. */
void bise_pool_run(bise_pool *p, size_t n, bise_task_fn *fn, void *ctx);

#endif
