/* pool.c - worker threads that wait for a job, then take indices from a shared
 * counter until none is left. Jobs follow each other closely in training, so
 * a worker spins for a short while before it sleeps.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/mem.h"

#define SPIN 4000 /* polls of the job counter before a worker sleeps */

typedef struct worker {
    struct bise_pool *pool;
    pthread_t thread;
    int id;
} worker;

struct bise_pool {
    int threads;
    worker *workers; /* threads - 1 of them; ids from 1 */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic unsigned job;  /* number of the current job */
    _Atomic int busy;      /* workers that have not finished it */
    _Atomic size_t next;   /* next index to hand out */
    size_t n;
    bise_task_fn *fn;
    void *ctx;
    atomic_bool quit;
};

static void take_indices(bise_pool *p, int id)
{
    for (;;) {
        const size_t i = atomic_fetch_add(&p->next, 1);
        if (i >= p->n)
            return;
        p->fn(p->ctx, i, id);
    }
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Wait until the job number differs from seen; returns the new one. */
static unsigned next_job(bise_pool *p, unsigned seen)
{
    for (int i = 0; i < SPIN; i++) {
        const unsigned job = atomic_load(&p->job);
        if (job != seen)
            return job;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->job) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return atomic_load(&p->job);
}

static void *work(void *arg)
{
    const worker *w = arg;
    bise_pool *p = w->pool;
    unsigned seen = 0;
    for (;;) {
        seen = next_job(p, seen);
        if (atomic_load(&p->quit))
            return NULL;
        take_indices(p, w->id);
        atomic_fetch_sub(&p->busy, 1);
    }
}

/* Announce a job (or the end) to the workers. */
static void announce(bise_pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->job, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

/* Workers are started one by one; p->threads counts those that run, so a
 * failure half-way frees exactly these. */
bise_status bise_pool_new(bise_pool **out, int threads, bise_error *err)
{
    if (threads < 1 || threads > 4096)
        return bise_fail(err, BISE_EINVAL, "%d threads asked for", threads);
    bise_pool *p = bise_alloc(sizeof *p);
    if (!p || !(p->workers = bise_alloc_array((size_t)threads,
                                              sizeof *p->workers))) {
        bise_free(p);
        return bise_fail_nomem(err);
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->threads = 1;
    for (int i = 1; i < threads; i++) {
        worker *w = &p->workers[i - 1];
        *w = (worker){ .pool = p, .id = i };
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            bise_pool_free(p);
            return bise_fail(err, BISE_ENOMEM, "cannot start thread %d", i);
        }
        p->threads++;
    }
    *out = p;
    return BISE_OK;
}

/* The quit flag travels with an announced job, so sleepers wake up too. */
void bise_pool_free(bise_pool *p)
{
    if (!p)
        return;
    atomic_store(&p->quit, true);
    announce(p);
    for (int i = 0; i < p->threads - 1; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    bise_free(p->workers);
    bise_free(p);
}

/* A NULL pool is the calling thread alone. */
int bise_pool_threads(const bise_pool *p)
{
    return p ? p->threads : 1;
}

/* The job is published before the counter wakes anybody; the caller works too
 * and then spins for the tasks that others still hold. */
void bise_pool_run(bise_pool *p, size_t n, bise_task_fn *fn, void *ctx)
{
    if (!p || p->threads == 1 || n <= 1) {
        for (size_t i = 0; i < n; i++)
            fn(ctx, i, 0);
        return;
    }
    p->n = n;
    p->fn = fn;
    p->ctx = ctx;
    atomic_store(&p->next, 0);
    atomic_store(&p->busy, p->threads - 1);
    announce(p);
    take_indices(p, 0);
    while (atomic_load(&p->busy) > 0)           /* the last task of others */
        relax();
}
