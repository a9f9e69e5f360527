/* archive_walk.c - see archive_walk.h. Two batches of units alternate: while
 * the workers unpack one, task 0 hashes and delivers the other in order.
 * The hash of a file can only be computed in order and by one thread at a
 * time; so one core hashes and writes while the others unpack, which on two
 * cores keeps both busy.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/archive_walk.h"

#include <string.h>

#include "formats/crypto.h"

#define MAX_UNITS 256
#define BATCH (UINT64_C(16) << 20)

/* One unit of a file, unpacked into the batch's buffer. */
typedef struct unit {
    const bise_member *member;
    uint64_t k;
    size_t at, n;
    bise_error err;      /* of unpacking */
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
    bool damaged;              /* the file in hand has been reported */
    bise_status status;        /* of delivering */
    bise_error *err;
    uint64_t done;
} walk;

/* Report the file in hand as damaged, once. */
static void report(walk *w, const bise_member *m, const bise_error *what)
{
    if (!w->damaged)
        w->status = w->sink->broken(w->sink->ctx, m, what, w->err);
    w->damaged = true;
}

/* Compare the finished hash with the manifest. */
static void check_hash(walk *w, const bise_member *m)
{
    uint8_t digest[32];
    bise_error what;
    bise_sha256_finish(w->hash, digest);
    w->hash = NULL;
    if (memcmp(digest, m->sha256, sizeof digest) == 0 || w->damaged)
        return;
    bise_error_init(&what);
    if (bise_fail(&what, BISE_EFORMAT, "sha256 differs from the manifest"))
        report(w, m, &what);
}

/* One unit in file order: start the hash at the first, add the bytes, and
 * compare at the last. A unit that could not be unpacked is reported once
 * for its file; its bytes are zeros then and are still delivered, so that
 * sinks see every unit. */
static void deliver_unit(walk *w, const unit *u, const uint8_t *data)
{
    const bise_member *m = u->member;
    const bool first = u->k == 0;
    const bool last = u->k * BISE_ARCHIVE_UNIT + u->n == m->bytes;
    if (first) {
        w->damaged = false;
        w->hash = bise_sha256_new();
    }
    if (!w->hash) {
        w->status = bise_fail_nomem(w->err);
        return;
    }
    if (u->err.status != BISE_OK)
        report(w, m, &u->err);
    else
        bise_sha256_add(w->hash, data, u->n);
    if (last && !bise_ends_with(m->path, "/"))
        check_hash(w, m);
    else if (last) {
        bise_sha256_free(w->hash);
        w->hash = NULL;
    }
    if (w->status == BISE_OK)
        w->status = w->sink->data(w->sink->ctx, m, data, u->n, first, last,
                                  w->err);
    w->done += u->n;
}

/* All units of the half that was unpacked in the round before, in order. */
static void deliver(walk *w)
{
    const batch *b = &w->half[!w->filling];
    for (size_t i = 0; i < b->n && w->status == BISE_OK; i++)
        deliver_unit(w, &b->units[i], b->buffer + b->units[i].at);
}

/* Task 0 delivers the full half, the others unpack one unit each into the
 * half being filled. The two halves never meet inside a round. */
static void walk_task(void *ctx, size_t index, int worker)
{
    walk *w = ctx;
    if (index == 0) {
        deliver(w);
        return;
    }
    batch *b = &w->half[w->filling];
    unit *u = &b->units[index - 1];
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
    walk w = { .a = a, .sink = sink, .err = err };
    size_t member = 0;
    uint64_t k = 0, total = 0;
    for (size_t i = 0; i < a->n; i++)
        total += a->members[i].bytes;
    bise_status s = alloc_walk(&w, workers, err);
    while (s == BISE_OK) {
        const bool more = next_batch(&w, &member, &k);
        if (!more && !w.half[!w.filling].n)
            break;
        bise_pool_run(pool, w.half[w.filling].n + 1, walk_task, &w);
        s = w.status;
        w.half[!w.filling].n = 0;
        w.filling = !w.filling;
        if (s == BISE_OK)
            s = bise_progress_step(progress, stage, w.done, total, "bytes",
                                   NULL, err);
    }
    free_walk(&w, workers);
    return s;
}
