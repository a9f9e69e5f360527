/* direct.c - see direct.h. The memory is a ring of parts of the file: callers
 * fill those from base on while a thread writes base itself once it is full.
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

#define PART (4u << 20)
#define PARTS_MAX 8
#define WRITE_BYTES (512u << 10)

struct bise_direct {
    int fd, parts;
    bool direct;            /* still; the thread's own */
    uint8_t *data;          /* parts * PART bytes */
    uint64_t start;         /* offset of part 0 */
    uint64_t pos;           /* of what is added */
    pthread_t thread;
    pthread_mutex_t lock;   /* of what follows */
    pthread_cond_t turn;
    uint64_t base;          /* the part to be written next */
    size_t filled[PARTS_MAX];
    bool stop, cancelled;
    int error;
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

/* The memory of a part. */
static uint8_t *part_at(const bise_direct *d, uint64_t part)
{
    return d->data + part % (uint64_t)d->parts * PART;
}

/* The full part base; through the page cache what cannot bypass it. */
static int write_base(bise_direct *d)
{
    const uint64_t at = d->start + d->base * PART;
    const uint8_t *from = part_at(d, d->base);
    if (d->direct && pwrite(d->fd, from, PART, (off_t)at) == (ssize_t)PART)
        return 0;
    d->direct = bise_fd_direct(d->fd, false);
    return bise_fd_write(d->fd, from, PART, at);
}

/* Writes parts as they become full. */
static void *writer(void *ctx)
{
    bise_direct *d = ctx;
    pthread_mutex_lock(&d->lock);
    while (!d->cancelled) {
        size_t *have = &d->filled[d->base % (uint64_t)d->parts];
        if (*have < PART) {
            if (d->stop)
                break;
            pthread_cond_wait(&d->turn, &d->lock);
            continue;
        }
        pthread_mutex_unlock(&d->lock);
        const int e = write_base(d);
        pthread_mutex_lock(&d->lock);
        d->error = d->error ? d->error : e;
        *have = 0;
        d->base++;
        pthread_cond_broadcast(&d->turn);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* Blocks are written whole: what stands before start in its block. */
static bool keep_before(bise_direct *d, uint64_t start)
{
    d->pos = start;
    d->start = start - start % BISE_DIRECT_ALIGN;
    d->filled[0] = (size_t)(start - d->start);
    return !d->filled[0] ||
           pread(d->fd, d->data, d->filled[0], (off_t)d->start) ==
               (ssize_t)d->filled[0];
}

/* Memory and thread are there, or nothing is. */
bise_direct *bise_direct_new(int fd, uint64_t start, int parts)
{
    bise_direct *d = bise_alloc(sizeof *d);
    uint8_t *data = bise_alloc_transfer((size_t)parts * PART);
    if (d && data) {
        *d = (bise_direct){ .fd = fd, .parts = parts, .direct = true,
                            .data = data };
        pthread_mutex_init(&d->lock, NULL);
        pthread_cond_init(&d->turn, NULL);
        if (keep_before(d, start) && bise_fd_direct(fd, true) &&
            pthread_create(&d->thread, NULL, writer, d) == 0)
            return d;
        pthread_mutex_destroy(&d->lock);
        pthread_cond_destroy(&d->turn);
        (void)bise_fd_direct(fd, false);
    }
    bise_free_aligned(data);
    bise_free(d);
    return NULL;
}

/* Wait for the memory of a part. Is it still wanted? */
static bool wait_for(bise_direct *d, uint64_t part)
{
    pthread_mutex_lock(&d->lock);
    while (part >= d->base + (uint64_t)d->parts && !d->error && !d->cancelled)
        pthread_cond_wait(&d->turn, &d->lock);
    const bool wanted = !d->error && !d->cancelled;
    pthread_mutex_unlock(&d->lock);
    return wanted;
}

/* n more bytes of a part are there; the errno so far. */
static int count(bise_direct *d, uint64_t part, size_t n)
{
    pthread_mutex_lock(&d->lock);
    size_t *have = &d->filled[part % (uint64_t)d->parts];
    *have += n;
    if (*have == PART)
        pthread_cond_broadcast(&d->turn);
    const int e = d->error;
    pthread_mutex_unlock(&d->lock);
    return e;
}

int bise_direct_put(bise_direct *d, uint64_t offset, const void *data, size_t n)
{
    const uint8_t *p = data;
    int e = 0;
    for (uint64_t at = offset - d->start; n && !e;) {
        const uint64_t part = at / PART;
        const size_t in = (size_t)(at % PART), left = PART - in;
        const size_t k = n < left ? n : left;
        const bool wanted = wait_for(d, part);
        if (wanted)
            memcpy(part_at(d, part) + in, p, k);
        e = count(d, part, wanted ? k : 0);
        p += k;
        at += k;
        n -= k;
    }
    return e;
}

int bise_direct_add(bise_direct *d, const void *data, size_t n)
{
    const uint64_t at = d->pos;
    d->pos += n;
    return bise_direct_put(d, at, data, n);
}

void bise_direct_cancel(bise_direct *d)
{
    pthread_mutex_lock(&d->lock);
    d->cancelled = true;
    pthread_cond_broadcast(&d->turn);
    pthread_mutex_unlock(&d->lock);
}

int bise_direct_end(bise_direct *d)
{
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_broadcast(&d->turn);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    (void)bise_fd_direct(d->fd, false);
    int e = d->error;
    if (!e && !d->cancelled)
        e = bise_fd_write(d->fd, part_at(d, d->base),
                          d->filled[d->base % (uint64_t)d->parts],
                          d->start + d->base * PART);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->turn);
    bise_free_aligned(d->data);
    bise_free(d);
    return e;
}
