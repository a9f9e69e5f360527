/* archive_walk.c - see archive_walk.h. Two batches of units alternate: while
 * the workers unpack one, task 0 hashes the other in order and task 1 hands it
 * to the sink. The hash of a file can only be computed in order and by one
 * thread at a time, and so can the file be written; beside each other they
 * keep two cores busy.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/archive_walk.h"

#include <string.h>

#include "formats/crypto.h"

#define MAX_UNITS 256
#define BATCH (UINT64_C(24) << 20)

/* One unit of a file, unpacked into the batch's buffer. */
typedef struct unit {
    const bise_member *member;
    uint64_t k;
    size_t at, n;
    bise_error err;      /* of unpacking; at the end of a file, of its hash */
} unit;

typedef struct batch {
    unit *units;
    size_t n, bytes;
    uint8_t *buffer;
} batch;

typedef struct walk {
    const bise_archive *a;
    const bise_walk_sink *sink;
    bise_unpacker **unpackers; /* one for each worker */
    batch half[2];
    int filling;               /* the half being unpacked into */
    bise_sha256 *hash;
    bise_error damage;         /* of the file in hand, the first one */
    bool no_memory;            /* while hashing */
    bise_error sink_error;     /* of delivering */
    uint64_t done;
} walk;

/* Does unit u end its file? */
static bool is_last(const unit *u)
{
    return u->k * BISE_ARCHIVE_UNIT + u->n == u->member->bytes;
}

/* One unit in file order: start the hash at the first, add the bytes, and
 * compare at the last. */
static void hash_unit(walk *w, unit *u, const uint8_t *data)
{
    uint8_t digest[32];
    if (u->k == 0)
        w->hash = bise_sha256_new();
    if (!w->hash) {
        w->no_memory = true;
        return;
    }
    bise_sha256_add(w->hash, data, u->n);
    if (!is_last(u))
        return;
    bise_sha256_finish(w->hash, digest);
    w->hash = NULL;
    if (u->err.status == BISE_OK && !bise_ends_with(u->member->path, "/") &&
        memcmp(digest, u->member->sha256, sizeof digest) != 0 &&
        bise_fail(&u->err, BISE_EFORMAT, "sha256 differs from the manifest"))
        return;
}

/* Task 0: all units of the half that was unpacked in the round before. */
static void hash_half(walk *w)
{
    const batch *b = &w->half[!w->filling];
    for (size_t i = 0; i < b->n && !w->no_memory; i++)
        hash_unit(w, &b->units[i], b->buffer + b->units[i].at);
}

/* Task 1: the same units to the sink. One that could not be unpacked is zeros
 * and is delivered too, so that sinks see every unit. */
static void deliver_half(walk *w)
{
    const batch *b = &w->half[!w->filling];
    for (size_t i = 0; i < b->n && w->sink_error.status == BISE_OK; i++) {
        const unit *u = &b->units[i];
        w->sink_error.status = w->sink->data(w->sink->ctx, u->member,
                                             b->buffer + u->at, u->n,
                                             u->k == 0, is_last(u),
                                             &w->sink_error);
    }
}

/* After the round: say which files have ended, whole or damaged. The first
 * fault of a file is the one that is told. */
static bise_status end_files(walk *w, bise_error *err)
{
    const batch *b = &w->half[!w->filling];
    bise_status s = BISE_OK;
    if (w->no_memory)
        return bise_fail_nomem(err);
    if (w->sink_error.status != BISE_OK) {
        *err = w->sink_error;
        return err->status;
    }
    for (size_t i = 0; i < b->n && s == BISE_OK; i++) {
        const unit *u = &b->units[i];
        if (u->k == 0)
            bise_error_init(&w->damage);
        if (w->damage.status == BISE_OK)
            w->damage = u->err;
        if (is_last(u))
            s = w->sink->end(w->sink->ctx, u->member,
                             w->damage.status ? &w->damage : NULL, err);
        w->done += u->n;
    }
    return s;
}

/* The others unpack one unit each into the half being filled. The two halves
 * never meet inside a round. */
static void walk_task(void *ctx, size_t index, int worker)
{
    walk *w = ctx;
    if (index == 0) {
        hash_half(w);
        return;
    }
    if (index == 1) {
        if (w->sink->data)
            deliver_half(w);
        return;
    }
    batch *b = &w->half[w->filling];
    unit *u = &b->units[index - 2];
    bise_error_init(&u->err);
    if (u->n && bise_archive_unit(w->a, u->member, u->k, b->buffer + u->at,
                                  w->unpackers[worker], &u->err) != BISE_OK)
        memset(b->buffer + u->at, 0, u->n);
}

/* Put units into the half to be filled; false when the archive is at its
 * end. Empty files and folders are units of no bytes. */
static bool next_batch(walk *w, size_t *member, uint64_t *k)
{
    batch *b = &w->half[w->filling];
    b->n = b->bytes = 0;
    while (*member < w->a->n && b->n < MAX_UNITS && b->bytes < BATCH) {
        const bise_member *m = &w->a->members[*member];
        const uint64_t left = m->bytes - *k * BISE_ARCHIVE_UNIT;
        unit *u = &b->units[b->n++];
        u->member = m;
        u->k = (*k)++;
        u->at = b->bytes;
        u->n = left < BISE_ARCHIVE_UNIT ? (size_t)left : BISE_ARCHIVE_UNIT;
        b->bytes += u->n;
        if (u->n == left) {
            (*member)++;
            *k = 0;
        }
    }
    return b->n > 0;
}

/* Buffers for two batches and one scratch for each worker, all at once:
 * nothing is allocated while the walk goes on. */
static bise_status alloc_walk(walk *w, size_t workers, bise_error *err)
{
    w->unpackers = bise_alloc_array(workers, sizeof *w->unpackers);
    if (!w->unpackers)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < workers; i++)
        if (!(w->unpackers[i] = bise_unpacker_new()))
            return bise_fail_nomem(err);
    for (int i = 0; i < 2; i++) {
        w->half[i].units = bise_alloc_array(MAX_UNITS, sizeof(unit));
        w->half[i].buffer = bise_alloc(BATCH + BISE_ARCHIVE_UNIT);
        if (!w->half[i].units || !w->half[i].buffer)
            return bise_fail_nomem(err);
    }
    return BISE_OK;
}

/* Release what alloc_walk made, in whatever state it stopped. */
static void free_walk(walk *w, size_t workers)
{
    for (size_t i = 0; w->unpackers && i < workers; i++)
        bise_unpacker_free(w->unpackers[i]);
    bise_free(w->unpackers);
    for (int i = 0; i < 2; i++) {
        bise_free(w->half[i].units);
        bise_free(w->half[i].buffer);
    }
    bise_sha256_free(w->hash);
}

/* Rounds of "unpack the next batch, deliver the last one" until both halves
 * are empty. The order of delivery is that of the manifest for any number of
 * threads. */
bise_status bise_archive_walk(const bise_archive *a, const bise_walk_sink *sink,
                              const char *stage, bise_pool *pool,
                              const bise_progress *progress, bise_error *err)
{
    const size_t workers = (size_t)bise_pool_threads(pool);
    walk w = { .a = a, .sink = sink };
    size_t member = 0;
    uint64_t k = 0, total = 0;
    for (size_t i = 0; i < a->n; i++)
        total += a->members[i].bytes;
    bise_error_init(&w.sink_error);
    bise_error_init(&w.damage);
    bise_map_random(&a->map, false);
    bise_status s = alloc_walk(&w, workers, err);
    while (s == BISE_OK) {
        const bool more = next_batch(&w, &member, &k);
        if (!more && !w.half[!w.filling].n)
            break;
        bise_pool_run(pool, w.half[w.filling].n + 2, walk_task, &w);
        s = end_files(&w, err);
        w.half[!w.filling].n = 0;
        w.filling = !w.filling;
        if (s == BISE_OK)
            s = bise_progress_step(progress, stage, w.done, total, "bytes",
                                   NULL, err);
    }
    free_walk(&w, workers);
    return s;
}
