/* direct.c - see direct.h. Two halves: one is filled while a thread writes the
 * other. What it could not write is written again through the page cache.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"

#define HALF (4u << 20)
#define WRITE_BYTES (512u << 10)

struct bise_direct {
    int fd;
    bool direct;            /* still */
    uint8_t *room, *half[2];
    int filling;            /* half of the caller, which has n bytes */
    size_t n;
    uint64_t at;            /* offset of that half */
    pthread_t thread;
    pthread_mutex_t lock;   /* of what follows */
    pthread_cond_t turn;
    bool full, failed, stop; /* the other half is to be written */
};

bool bise_fd_direct(int fd, bool direct)
{
#ifdef O_DIRECT
    const int flags = fcntl(fd, F_GETFL);
    const int want = direct ? flags | O_DIRECT : flags & ~O_DIRECT;
    return flags >= 0 && fcntl(fd, F_SETFL, want) == 0 && direct;
#else
    (void)fd;
    (void)direct;
    return false;
#endif
}

/* Writes may be short or interrupted. Pieces of WRITE_BYTES: for larger ones
 * Linux looks for page cache folios so large that free memory seldom has them,
 * which took up to twice the time of the copy itself. */
int bise_fd_write(int fd, const void *data, size_t n, uint64_t offset)
{
    const char *p = data;
    while (n) {
        const size_t ask = n < WRITE_BYTES ? n : WRITE_BYTES;
        const ssize_t w = pwrite(fd, p, ask, (off_t)offset);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return errno;
        p += w;
        offset += (uint64_t)w;
        n -= (size_t)w;
    }
    return 0;
}

/* Writes halves as they become full. */
static void *writer(void *ctx)
{
    bise_direct *d = ctx;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        while (!d->full && !d->stop)
            pthread_cond_wait(&d->turn, &d->lock);
        if (!d->full)
            break;
        const uint8_t *from = d->half[!d->filling];
        const uint64_t at = d->at - HALF;
        pthread_mutex_unlock(&d->lock);
        const ssize_t w = pwrite(d->fd, from, HALF, (off_t)at);
        pthread_mutex_lock(&d->lock);
        d->failed = w != (ssize_t)HALF;
        d->full = false;
        pthread_cond_broadcast(&d->turn);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* Buffers and thread are there, or nothing is. */
bise_direct *bise_direct_new(int fd)
{
    if (!bise_fd_direct(fd, true))
        return NULL;
    bise_direct *d = bise_alloc(sizeof *d);
    uint8_t *room = bise_alloc(2 * HALF + BISE_DIRECT_ALIGN);
    if (d && room) {
        *d = (bise_direct){ .fd = fd, .direct = true, .room = room };
        d->half[0] = room + -(uintptr_t)room % BISE_DIRECT_ALIGN;
        d->half[1] = d->half[0] + HALF;
        pthread_mutex_init(&d->lock, NULL);
        pthread_cond_init(&d->turn, NULL);
        if (pthread_create(&d->thread, NULL, writer, d) == 0)
            return d;
        pthread_mutex_destroy(&d->lock);
        pthread_cond_destroy(&d->turn);
    }
    bise_free(room);
    bise_free(d);
    (void)bise_fd_direct(fd, false);
    return NULL;
}

/* Until the other half is written. */
static int drain(bise_direct *d)
{
    pthread_mutex_lock(&d->lock);
    while (d->full)
        pthread_cond_wait(&d->turn, &d->lock);
    const bool failed = d->failed;
    d->failed = false;
    pthread_mutex_unlock(&d->lock);
    if (!failed)
        return 0;
    d->direct = bise_fd_direct(d->fd, false);
    return bise_fd_write(d->fd, d->half[!d->filling], HALF, d->at - HALF);
}

/* The filled half: to the thread, or through the cache. */
static int pass_on(bise_direct *d)
{
    const int e = drain(d);
    if (e || !d->direct) {
        const int f = e ? e : bise_fd_write(d->fd, d->half[d->filling], d->n,
                                            d->at);
        d->at += d->n;
        d->n = 0;
        return f;
    }
    pthread_mutex_lock(&d->lock);
    d->filling = !d->filling;
    d->at += HALF;
    d->n = 0;
    d->full = true;
    pthread_cond_broadcast(&d->turn);
    pthread_mutex_unlock(&d->lock);
    return 0;
}

int bise_direct_add(bise_direct *d, const void *data, size_t n)
{
    const uint8_t *p = data;
    int e = 0;
    while (n && !e) {
        const size_t room = HALF - d->n, k = n < room ? n : room;
        memcpy(d->half[d->filling] + d->n, p, k);
        d->n += k;
        p += k;
        n -= k;
        if (d->n == HALF)
            e = pass_on(d);
    }
    return e;
}

int bise_direct_end(bise_direct *d)
{
    int e = drain(d);
    (void)bise_fd_direct(d->fd, false);
    if (!e)
        e = bise_fd_write(d->fd, d->half[d->filling], d->n, d->at);
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_broadcast(&d->turn);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->turn);
    bise_free(d->room);
    bise_free(d);
    return e;
}
