/* mem.h - every allocation of bise: overflow-checked arrays, aligned buffers
 * for kernels, an arena for many small objects with one life, and a counter
 * by which tests make the n-th allocation fail.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_MEM_H
#define BISE_CORE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "core/attr.h"

/* Zeroed memory for size bytes; NULL when there is none. size 0 gives a
 * pointer that may be freed. Free with bise_free. */
void *bise_alloc(size_t size);

/* Zeroed memory for n objects of size bytes; NULL on overflow as well. */
void *bise_alloc_array(size_t n, size_t size);

/* Resize to n objects; new bytes are not cleared. NULL leaves p as it was. */
void *bise_realloc_array(void *p, size_t n, size_t size);

/* Grow *p (capacity *cap, counted in objects) to hold at least need objects.
 * Returns 0, or -1 with *p and *cap unchanged. */
BISE_NODISCARD int bise_grow(void **p, size_t *cap, size_t need, size_t size);

/* 64-byte aligned memory for kernels, zeroed. Free with bise_free_aligned. */
void *bise_alloc_aligned(size_t size);
void bise_free_aligned(void *p);

/* Memory for whole transfers past the page cache, not zeroed: in huge pages
 * where there are any, since a virtual disk takes every run of pages that lie
 * together as a request of its own. Free with bise_free_aligned. */
void *bise_alloc_transfer(size_t size);

/* Copy of a string, or of its first n bytes; NULL when out of memory. */
char *bise_strdup(const char *s);
char *bise_strndup(const char *s, size_t n);

/* Release memory; NULL is fine. */
void bise_free(void *p);

/* Tests: let the n-th allocation from now on fail (0 turns this off). */
void bise_alloc_fail_after(uint64_t n);

/* Peak resident set of this process in bytes, 0 where it cannot be read. */
uint64_t bise_peak_rss_bytes(void);

/* Current resident set in bytes, and the part that is not file-backed. */
uint64_t bise_rss_bytes(uint64_t *anonymous);

/* Memory this process may still use: the least of what is free on the machine
 * and what its cgroup leaves, in bytes. */
uint64_t bise_memory_available(void);

/* Many small objects freed together. Zero-initialise; fini with _fini. */
typedef struct bise_arena {
    struct bise_arena_block *head;
} bise_arena;

/* Zeroed, 16-byte aligned memory that lives until bise_arena_fini. */
void *bise_arena_alloc(bise_arena *a, size_t size);
char *bise_arena_strdup(bise_arena *a, const char *s);
char *bise_arena_strndup(bise_arena *a, const char *s, size_t n);
void bise_arena_fini(bise_arena *a);

#endif
