/* ahead.c - see ahead.h. A slot is asked for, read by one of two threads, used
 * and freed. What cannot be read so is always right in the mapping.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/ahead.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/direct.h"
#include "core/mem.h"

#define SLOTS 16
#define THREADS 2
#define ALIGN BISE_DIRECT_ALIGN
#define LEAST (128u << 10)      /* bytes of a part */
#define USUAL (2u << 20)
#define MOST (8u << 20)
#define LARGE (16u << 20)       /* bytes of a file */
#define TRIAL (64u << 20)       /* bytes after which the speed is judged */
#define SLOW 500e6              /* bytes a second, which the cache manages */

typedef enum slot_state { FREE, ASKED, READING, READY } slot_state;

typedef struct slot {
    slot_state state;
    bool used, unwanted;        /* used: by owner alone */
    pthread_t owner;
    const bise_ahead_file *file;
    uint64_t first, n, number;  /* range of the file; order of asking */
    uint8_t *data;              /* what begins at first */
} slot;

struct bise_ahead_file {
    bise_ahead *a;
    bise_map map;               /* borrowed */
    char *path;
    bool opened;
    int fd;                     /* past the page cache, or -1 */
};

struct bise_ahead {
    pthread_mutex_t lock;       /* of all that follows, and the files' fd */
    pthread_cond_t turn;
    int n_threads;
    bool started, off, stop;
    pthread_t threads[THREADS];
    slot slots[SLOTS];
    uint8_t *memory;            /* SLOTS times stride */
    size_t stride;
    uint64_t asked;
    double bytes, seconds;      /* read so far, of all threads */
};

bise_ahead *bise_ahead_new(void)
{
    bise_ahead *a = bise_alloc(sizeof *a);
    if (!a)
        return NULL;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->turn, NULL);
    return a;
}

bise_ahead_file *bise_ahead_open(bise_ahead *a, const char *path,
                                 const bise_map *m)
{
    bise_ahead_file *f = bise_alloc(sizeof *f);
    char *copy = bise_strdup(path);
    if (!f || !copy) {
        bise_free(f);
        bise_free(copy);
        return NULL;
    }
    *f = (bise_ahead_file){ .a = a, .map = *m, .path = copy, .fd = -1 };
    return f;
}

/* Read a slot; the last block of a file may be short. */
static bool fill(const slot *s)
{
    const uint64_t at = s->first - s->first % ALIGN;
    const uint64_t end = s->first + s->n;
    const uint64_t n = (end - at + ALIGN - 1) / ALIGN * ALIGN;
    const ssize_t got = pread(s->file->fd, s->data - s->first % ALIGN,
                              (size_t)n, (off_t)at);
    return got >= 0 && (uint64_t)got >= end - at;
}

/* What was asked for first. */
static slot *next_asked(bise_ahead *a)
{
    slot *best = NULL;
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &a->slots[i];
        if (s->state == ASKED && (!best || s->number < best->number))
            best = s;
    }
    return best;
}

/* Stop reading past the cache where it fails or gains nothing. */
static void judge(bise_ahead *a, bool good, uint64_t n, double seconds)
{
    a->bytes += (double)n;
    a->seconds += seconds;
    if (!good || (a->bytes > TRIAL &&
                  a->bytes * a->n_threads < SLOW * a->seconds))
        a->off = true;
}

static void *reader(void *ctx)
{
    bise_ahead *a = ctx;
    pthread_mutex_lock(&a->lock);
    while (!a->stop) {
        slot *s = next_asked(a);
        if (!s) {
            pthread_cond_wait(&a->turn, &a->lock);
            continue;
        }
        s->state = READING;
        pthread_mutex_unlock(&a->lock);
        const uint64_t start = bise_clock_ns();
        const bool good = fill(s);
        const uint64_t ns = bise_clock_ns() - start;
        pthread_mutex_lock(&a->lock);
        judge(a, good, s->n, 1e-9 * (double)ns);
        s->state = good && !s->unwanted ? READY : FREE;
        pthread_cond_broadcast(&a->turn);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* At the first question that can be answered, which is for n bytes. */
static void start(bise_ahead *a, uint64_t n)
{
    a->started = true;
    a->stride = (size_t)(n > USUAL ? n : USUAL) + 2 * ALIGN;
    a->memory = bise_alloc_transfer(SLOTS * a->stride);
    while (a->memory && a->n_threads < THREADS &&
           pthread_create(&a->threads[a->n_threads], NULL, reader, a) == 0)
        a->n_threads++;
    a->off = a->n_threads == 0;
}

/* Can the file be read past the page cache? */
static bool is_open(bise_ahead_file *f)
{
    if (!f->opened)
        f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (!f->opened && f->fd >= 0 && !bise_fd_direct(f->fd, true)) {
        close(f->fd);
        f->fd = -1;
    }
    f->opened = true;
    return f->fd >= 0;
}

/* Is more than half of a range in memory? Also true when it cannot be told. */
static bool in_memory(const bise_ahead_file *f, uint64_t first, uint64_t n)
{
    unsigned char pages[MOST / ALIGN + 2];
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t at = (uintptr_t)(f->map.data + first) / page * page;
    const uintptr_t end = (uintptr_t)(f->map.data + first + n);
    const size_t count = (end - at + page - 1) / page;
    size_t in = 0;
    if (count > sizeof pages || mincore((void *)at, end - at, pages) != 0)
        return true;
    for (size_t i = 0; i < count; i++)
        in += pages[i] & 1;
    return in > count / 2;
}

/* Take a free slot for a range, if there is one. */
static bool take_slot(const bise_ahead_file *f, uint64_t first, uint64_t n)
{
    bise_ahead *a = f->a;
    int i = 0;
    while (i < SLOTS && a->slots[i].state != FREE)
        i++;
    if (i == SLOTS || n + 2 * ALIGN > a->stride)
        return false;
    a->slots[i] = (slot){ .state = ASKED, .file = f, .first = first, .n = n,
                          .number = a->asked++, .data = a->memory +
                          (size_t)i * a->stride + first % ALIGN };
    pthread_cond_broadcast(&a->turn);
    return true;
}

void bise_ahead_ask(bise_ahead_file *f, uint64_t first, uint64_t n)
{
    bise_ahead *a = f->a;
    bool held = false;
    if (f->map.size >= LARGE && n >= LEAST && n <= MOST &&
        !in_memory(f, first, n)) {
        pthread_mutex_lock(&a->lock);
        if (is_open(f) && !a->started)
            start(a, n);
        held = f->fd >= 0 && !a->off && take_slot(f, first, n);
        pthread_mutex_unlock(&a->lock);
    }
    if (!held)
        bise_map_ahead(f->map.data + first, n);
}

/* Has another thread this slot to itself? */
static bool taken(const slot *s)
{
    return s->used && !pthread_equal(s->owner, pthread_self());
}

/* A slot with a range, if there is one. */
static slot *slot_with(const bise_ahead_file *f, uint64_t first, uint64_t n)
{
    bise_ahead *a = f->a;
    for (slot *s = a->slots; s < a->slots + SLOTS; s++)
        if (s->state != FREE && !s->unwanted && !taken(s) && s->file == f &&
            s->first <= first && first + n <= s->first + s->n)
            return s;
    return NULL;
}

const void *bise_ahead_get(bise_ahead_file *f, uint64_t first, uint64_t n,
                           void *scratch)
{
    bise_ahead *a = f->a;
    const void *data = f->map.data + first;
    pthread_mutex_lock(&a->lock);
    slot *s = slot_with(f, first, n);
    while (s && s->state != READY) {    /* it may be another's meanwhile */
        pthread_cond_wait(&a->turn, &a->lock);
        s = slot_with(f, first, n);
    }
    if (s && s->first == first && s->n == n) {
        s->used = true;
        s->owner = pthread_self();
        data = s->data;
    } else if (s) {
        data = memcpy(scratch, s->data + (first - s->first), (size_t)n);
    }
    pthread_mutex_unlock(&a->lock);
    return data;
}

void bise_ahead_done(bise_ahead_file *f, uint64_t first, uint64_t n)
{
    bise_ahead *a = f->a;
    pthread_mutex_lock(&a->lock);
    for (slot *s = a->slots; s < a->slots + SLOTS; s++) {
        if (s->state == FREE || taken(s) || s->file != f ||
            s->first < first || s->first + s->n > first + n)
            continue;
        if (s->state == READING)
            s->unwanted = true;
        else
            s->state = FREE;
    }
    pthread_mutex_unlock(&a->lock);
}

/* What is being read must come to its end first. */
void bise_ahead_close(bise_ahead_file *f)
{
    if (!f)
        return;
    bise_ahead *a = f->a;
    pthread_mutex_lock(&a->lock);
    for (slot *s = a->slots; s < a->slots + SLOTS; s++) {
        while (s->file == f && s->state == READING)
            pthread_cond_wait(&a->turn, &a->lock);
        if (s->file == f)
            *s = (slot){ 0 };
    }
    pthread_mutex_unlock(&a->lock);
    if (f->fd >= 0)
        close(f->fd);
    bise_free(f->path);
    bise_free(f);
}

void bise_ahead_free(bise_ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->stop = true;
    pthread_cond_broadcast(&a->turn);
    pthread_mutex_unlock(&a->lock);
    for (int i = 0; i < a->n_threads; i++)
        pthread_join(a->threads[i], NULL);
    bise_free_aligned(a->memory);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->turn);
    bise_free(a);
}
