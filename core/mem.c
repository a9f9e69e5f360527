/* mem.c - allocation with overflow checks, failure injection for tests, an
 * arena, and the process's memory figures from /proc. Used everywhere.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define ARENA_BLOCK 65536
#define HUGE_PAGE (2u << 20)

struct bise_arena_block {
    struct bise_arena_block *next;
    size_t used, size;
};

/* Allocations left until one fails; 0 = never. Tests only. */
static _Atomic uint64_t fail_countdown;

/* True when the test hook wants this allocation to fail. */
static int injected_failure(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) == 0)
        return 0;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

void bise_alloc_fail_after(uint64_t n)
{
    atomic_store(&fail_countdown, n);
}

/* calloc gives the zeroes for nothing on fresh pages. */
void *bise_alloc(size_t size)
{
    if (injected_failure())
        return NULL;
    return calloc(1, size ? size : 1);
}

void *bise_alloc_array(size_t n, size_t size)
{
    if (size && n > SIZE_MAX / size)
        return NULL;
    return bise_alloc(n * size);
}

void *bise_realloc_array(void *p, size_t n, size_t size)
{
    if ((size && n > SIZE_MAX / size) || injected_failure())
        return NULL;
    const size_t bytes = n * size;
    return realloc(p, bytes ? bytes : 1);
}

/* Half as much again each time: appends cost amortized constant time. */
int bise_grow(void **p, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap)
        return 0;
    size_t n = *cap ? *cap : 16;
    while (n < need) {
        if (n > SIZE_MAX / 2)
            return -1;
        n += n / 2 + 8;
    }
    void *q = bise_realloc_array(*p, n, size);
    if (!q)
        return -1;
    *p = q;
    *cap = n;
    return 0;
}

/* size bytes that begin at a multiple of align; in huge pages, as far as there
 * are whole ones, where align is that of huge pages. */
static void *alloc_at(size_t align, size_t size)
{
    void *p = NULL;
    if (posix_memalign(&p, align, size) != 0)
        return NULL;
#ifdef MADV_HUGEPAGE
    if (align == HUGE_PAGE)
        madvise(p, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
    return p;
}

/* 64 bytes more than asked for, so that kernels may read a whole vector at
 * the end. All of it is touched here, so huge pages cost no memory but save
 * the kernels from looking up a page for every row of a matrix. */
void *bise_alloc_aligned(size_t size)
{
    if (injected_failure() || size > SIZE_MAX - 128)
        return NULL;
    const size_t padded = (size + 63) / 64 * 64 + 64;
    void *p = alloc_at(padded < HUGE_PAGE ? 64 : HUGE_PAGE, padded);
    return p ? memset(p, 0, padded) : NULL;
}

/* Whole huge pages, or the rest of the last one would come in small ones. */
void *bise_alloc_transfer(size_t size)
{
    if (injected_failure() || size > SIZE_MAX - HUGE_PAGE)
        return NULL;
    return alloc_at(HUGE_PAGE, (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
}

/* From posix_memalign, so plain free does; kept apart for other systems. */
void bise_free_aligned(void *p)
{
    free(p);
}

/* Copies exactly n bytes: s need not end there. */
char *bise_strndup(const char *s, size_t n)
{
    char *p = bise_alloc(n + 1);
    if (p)
        memcpy(p, s, n);
    return p;
}

char *bise_strdup(const char *s)
{
    return bise_strndup(s, strlen(s));
}

void bise_free(void *p)
{
    free(p);
}

/* Linux counts kilobytes, macOS bytes. */
uint64_t bise_peak_rss_bytes(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0)
        return 0;
#ifdef __APPLE__
    return (uint64_t)u.ru_maxrss;
#else
    return (uint64_t)u.ru_maxrss * 1024;
#endif
}

/* The number after "key:" in a /proc file of "key:   n kB" lines, in bytes. */
static uint64_t proc_field(const char *file, const char *key)
{
    FILE *f = fopen(file, "r");
    if (!f)
        return 0;
    char line[256];
    unsigned long long kb = 0;
    const size_t n = strlen(key);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && line[n] == ':') {
            kb = strtoull(line + n + 1, NULL, 10);
            break;
        }
    fclose(f);
    return (uint64_t)kb * 1024;
}

uint64_t bise_rss_bytes(uint64_t *anonymous)
{
    if (anonymous)
        *anonymous = proc_field("/proc/self/status", "RssAnon");
    return proc_field("/proc/self/status", "VmRSS");
}

/* One unsigned number from a file; UINT64_MAX when absent or "max". */
static uint64_t file_number(const char *file)
{
    FILE *f = fopen(file, "r");
    if (!f)
        return UINT64_MAX;
    unsigned long long v = 0;
    const int got = fscanf(f, "%llu", &v);
    fclose(f);
    return got == 1 ? (uint64_t)v : UINT64_MAX;
}

/* Inside a container the cgroup may leave less than the machine has free. */
uint64_t bise_memory_available(void)
{
    uint64_t avail = proc_field("/proc/meminfo", "MemAvailable");
    if (!avail) {
        const long pages = sysconf(_SC_PHYS_PAGES);
        const long size = sysconf(_SC_PAGESIZE);
        avail = pages > 0 ? (uint64_t)pages * (uint64_t)size : 0;
    }
    const uint64_t max = file_number("/sys/fs/cgroup/memory.max");
    const uint64_t cur = file_number("/sys/fs/cgroup/memory.current");
    if (max != UINT64_MAX && cur != UINT64_MAX) {
        const uint64_t left = max > cur ? max - cur : 0;
        if (left < avail)
            avail = left;
    }
    return avail;
}

/* Objects larger than a block get one of their own. */
void *bise_arena_alloc(bise_arena *a, size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    const size_t head = (sizeof(struct bise_arena_block) + 15) / 16 * 16;
    const size_t need = (size + 15) / 16 * 16;
    struct bise_arena_block *b = a->head;
    if (!b || b->size - b->used < need) {
        const size_t room = need > ARENA_BLOCK ? need : ARENA_BLOCK;
        b = bise_alloc(head + room);
        if (!b)
            return NULL;
        b->size = room;
        b->next = a->head;
        a->head = b;
    }
    void *p = (char *)b + head + b->used;
    b->used += need;
    return p;
}

/* The text ends with the arena. */
char *bise_arena_strndup(bise_arena *a, const char *s, size_t n)
{
    char *p = bise_arena_alloc(a, n + 1);
    if (p)
        memcpy(p, s, n);
    return p;
}

/* The text ends with the arena. */
char *bise_arena_strdup(bise_arena *a, const char *s)
{
    return bise_arena_strndup(a, s, strlen(s));
}

/* Blocks are chained, newest first. */
void bise_arena_fini(bise_arena *a)
{
    struct bise_arena_block *b = a->head;
    while (b) {
        struct bise_arena_block *next = b->next;
        bise_free(b);
        b = next;
    }
    a->head = NULL;
}
