/* merge.c - the merge loop of every tokenizer kind. Ids stand for symbols: a
 * byte or character at first, then whatever they were merged into. Callers
 * are the encoders in encode.c and spm.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/merge.h"

#include <stdbool.h>
#include <string.h>

#include "core/mem.h"

#define NO_RANK UINT32_MAX
#define WINDOW 16384 /* symbols of a window; its scratch fits the cache */

/* One is added so that 0 can stand for a free slot. */
static uint64_t pair_key(int32_t left, int32_t right)
{
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

/* Fibonacci hashing; the fold brings the good high bits down, where the mask
 * takes them. */
static uint64_t pair_hash(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return key ^ key >> 29;
}

/* A power of two with at least half of it free, so that a search for an
 * absent pair, the common case, ends soon. */
int bise_merges_init(bise_merges *m, size_t n)
{
    uint64_t size = 64;
    while (size < n * 2)
        size *= 2;
    m->slots = bise_alloc_array(size, sizeof *m->slots);
    m->mask = size - 1;
    m->used = 0;
    return m->slots ? 0 : -1;
}

/* Release the table; a zeroed table is empty and valid. */
void bise_merges_fini(bise_merges *m)
{
    bise_free(m->slots);
    *m = (bise_merges){ 0 };
}

/* The slot of a pair, or the free one where it belongs. Linear probing: the
 * next slots are in the same cache line. */
static inline bise_merge_slot *seek(const bise_merges *m, uint64_t key)
{
    uint64_t i = pair_hash(key) & m->mask;
    while (m->slots[i].key && m->slots[i].key != key)
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

/* The first of equal pairs counts: lists of merges are best first, and a
 * pair that stands twice must keep its better rank. */
int bise_merges_add(bise_merges *m, int32_t left, int32_t right, uint32_t rank,
                    int32_t id)
{
    if (m->used * 2 > m->mask) {                /* keep half of it free */
        bise_merges big;
        if (bise_merges_init(&big, m->mask + 1) != 0)
            return -1;
        for (uint64_t i = 0; i <= m->mask; i++)
            if (m->slots[i].key)
                *seek(&big, m->slots[i].key) = m->slots[i];
        big.used = m->used;
        bise_free(m->slots);
        *m = big;
    }
    const uint64_t key = pair_key(left, right);
    bise_merge_slot *s = seek(m, key);
    if (s->key)
        return 0;
    *s = (bise_merge_slot){ key, rank, id };
    m->used++;
    return 0;
}

/* The caller may not keep the pointer across an addition. */
const bise_merge_slot *bise_merges_find(const bise_merges *m, int32_t left,
                                        int32_t right)
{
    const bise_merge_slot *s = m->slots ? seek(m, pair_key(left, right)) : NULL;
    return s && s->key ? s : NULL;
}

/* Rank and result of a pair; NO_RANK when it does not merge. The id of a
 * free slot is 0 and means nothing. */
static inline uint32_t rank_of(const bise_merges *m, int32_t left,
                               int32_t right, int32_t *id)
{
    const bise_merge_slot *s = seek(m, pair_key(left, right));
    *id = s->id;
    return s->key ? s->rank : NO_RANK;
}

/* Find the best pair, merge it, look up its two new neighbours. The loop
 * runs over at most 40 numbers that lie side by side, which is faster than
 * any structure with pointers. Ties go to the left because only a strictly
 * lower rank replaces the best. */
size_t bise_merge_scan(const bise_merges *m, int32_t *ids, bise_merge_to *to,
                       size_t n)
{
    while (n > 1) {
        size_t best = 0;
        uint32_t least = to[0].rank;
        for (size_t i = 1; i + 1 < n; i++)
            if (to[i].rank < least) {
                least = to[i].rank;
                best = i;
            }
        if (least == NO_RANK)
            break;
        ids[best] = to[best].id;
        n--;
        for (size_t i = best + 1; i < n; i++)
            ids[i] = ids[i + 1];
        for (size_t i = best; i + 1 < n; i++)
            to[i] = to[i + 1];
        if (best + 1 < n)
            to[best].rank = rank_of(m, ids[best], ids[best + 1],
                                    &to[best].id);
        if (best > 0)
            to[best - 1].rank = rank_of(m, ids[best - 1], ids[best],
                                        &to[best - 1].id);
    }
    return n;
}

/* A binary min-heap of rank << 32 | position: one compare orders both. Moves
 * the hole instead of swapping: one store for each level. */
static void sift_down(uint64_t *heap, size_t n, size_t i)
{
    const uint64_t v = heap[i];
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n)
            break;
        if (c + 1 < n && heap[c + 1] < heap[c])
            c++;
        if (heap[c] >= v)
            break;
        heap[i] = heap[c];
        i = c;
    }
    heap[i] = v;
}

/* The mirror of sift_down for an entry added at the end. */
static void sift_up(uint64_t *heap, size_t i)
{
    const uint64_t v = heap[i];
    while (i && heap[(i - 1) / 2] > v) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = v;
}

/* Working state of one long sequence. A dead symbol has id -2. */
typedef struct chain {
    const bise_merges *m;
    int32_t *ids;
    uint32_t *next, *prev; /* positions; n = none */
    uint64_t *heap;
    size_t n, used;
} chain;

#define DEAD (-2)

/* Offer the pair that starts at left. Entries are never taken out when they
 * become stale; merge_best sees that when they come up. */
static void push_pair(chain *c, uint32_t left, uint32_t right)
{
    int32_t id;
    const uint32_t rank = rank_of(c->m, c->ids[left], c->ids[right], &id);
    if (rank == NO_RANK)
        return;
    c->heap[c->used] = (uint64_t)rank << 32 | left;
    sift_up(c->heap, c->used++);
}

/* Take the best entry; merge when it still describes the pair at its place
 * (an entry made before a neighbour changed does not). The rank is looked up
 * again rather than stored: an equal rank at the same place is the same
 * merge, whatever happened since. */
static void merge_best(chain *c)
{
    const uint64_t top = c->heap[0];
    c->heap[0] = c->heap[--c->used];
    if (c->used)
        sift_down(c->heap, c->used, 0);
    const uint32_t at = (uint32_t)top;
    if (c->ids[at] == DEAD)
        return;
    const uint32_t right = c->next[at];
    int32_t id;
    if (right == c->n ||
        rank_of(c->m, c->ids[at], c->ids[right], &id) != top >> 32)
        return;
    c->ids[at] = id;
    c->ids[right] = DEAD;
    c->next[at] = c->next[right];
    if (c->next[at] != c->n) {
        c->prev[c->next[at]] = at;
        push_pair(c, at, c->next[at]);
    }
    if (c->prev[at] != c->n)
        push_pair(c, c->prev[at], at);
}

/* Scratch for sequences of up to n symbols; 0, or -1 when out of memory. */
static int chain_init(chain *c, const bise_merges *m, size_t n)
{
    *c = (chain){ .m = m };
    /* Every merge takes one entry and adds at most two, n - 1 merges. */
    c->heap = bise_alloc_array(n * 2 + 1, sizeof *c->heap);
    c->next = bise_alloc_array(n * 2 + 1, sizeof *c->next);
    return c->heap && c->next ? 0 : -1;
}

/* Release the scratch of chain_init, also after it failed. */
static void chain_fini(chain *c)
{
    bise_free(c->heap);
    bise_free(c->next);
}

/* Merge ids[0..n) until nothing merges; next then links what is left. */
static void chain_run(chain *c, int32_t *ids, size_t n)
{
    c->ids = ids;
    c->n = n;
    c->used = 0;
    c->prev = c->next + n;
    for (size_t i = 0; i < n; i++) {
        c->next[i] = (uint32_t)(i + 1);
        c->prev[i] = (uint32_t)(i ? i - 1 : n);
    }
    for (size_t i = 0; i + 1 < n; i++)
        push_pair(c, (uint32_t)i, (uint32_t)(i + 1));
    while (c->used)
        merge_best(c);
}

/* Work is n log n in time and about 28 bytes a symbol in memory. Positions
 * are 32-bit, hence the bound. */
bise_status bise_merge_heap(const bise_merges *m, int32_t *ids, size_t *n,
                            bise_error *err)
{
    chain c;
    size_t out = 0;
    if (*n >= UINT32_MAX / 2)
        return bise_fail(err, BISE_EUNSUPPORTED,
                         "a run of %zu symbols without a boundary is too long",
                         *n);
    if (chain_init(&c, m, *n) != 0) {
        chain_fini(&c);
        return bise_fail_nomem(err);
    }
    chain_run(&c, ids, *n);
    for (size_t i = 0; i < c.n; i = c.next[i])
        ids[out++] = ids[i];
    *n = out;
    chain_fini(&c);
    return BISE_OK;
}

/* The tokens of one window: ids and where they start in the whole. */
typedef struct window_tokens {
    int32_t *ids;   /* as symbols before, tokens after */
    size_t *at;
    size_t n, end;  /* tokens; where the window ends in the whole */
} window_tokens;

/* Merge the window of the whole (n symbols) that starts at from. */
static void merge_window(chain *c, window_tokens *w, const int32_t *whole,
                         size_t n, size_t from, size_t window)
{
    const size_t count = n - from < window ? n - from : window;
    memcpy(w->ids, whole + from, count * sizeof *w->ids);
    chain_run(c, w->ids, count);
    w->n = 0;
    w->end = from + count;
    for (size_t i = 0; i < count; i = c->next[i]) {
        w->at[w->n] = from + i;
        w->ids[w->n++] = w->ids[i];
    }
}

/* The first token that a (from its token *i on) and b (from *j on) share:
 * same place, same id. True when there is one. */
static bool shared_token(const window_tokens *a, const window_tokens *b,
                         size_t *i, size_t *j)
{
    while (*i < a->n && *j < b->n) {
        if (a->at[*i] == b->at[*j] && a->ids[*i] == b->ids[*j])
            return true;
        *i += a->at[*i] <= b->at[*j];
        *j += *j < b->n && *i < a->n && b->at[*j] < a->at[*i];
    }
    return false;
}

/* Join windows into out; the number of tokens, or 0 when two windows share
 * none. Why the result is that of the whole: merging only ever looks at
 * neighbours, so (1) any run of tokens of a result is the result of its own
 * text, and (2) if A x and x B are results, so is A x B, since the first
 * merge that differed would differ in one of the two already. */
static size_t join_windows(chain *c, window_tokens w[2], const int32_t *whole,
                           size_t n, size_t window, int32_t *out)
{
    window_tokens *a = &w[0], *b = &w[1];
    size_t count = 0, first = 0;
    merge_window(c, a, whole, n, 0, window);
    while (a->end < n) {
        size_t i = first, j = 0;
        while (i < a->n && a->at[i] < a->end - window / 4)
            i++;
        if (i == first || i == a->n)
            return 0;
        merge_window(c, b, whole, n, a->at[i], window);
        if (!shared_token(a, b, &i, &j))
            return 0;
        memcpy(out + count, a->ids + first, (i - first) * sizeof *out);
        count += i - first;
        first = j;
        window_tokens *swap = a;
        a = b;
        b = swap;
    }
    memcpy(out + count, a->ids + first, (a->n - first) * sizeof *out);
    return count + a->n - first;
}

bise_status bise_merge_windows(const bise_merges *m, int32_t *ids, size_t *n,
                               size_t window, bise_error *err)
{
    chain c;
    window_tokens w[2] = { { 0 } };
    size_t count = 0;
    int32_t *out = bise_alloc_array(*n + 1, sizeof *out);
    bool ok = chain_init(&c, m, window) == 0 && out;
    for (int k = 0; k < 2; k++) {
        w[k].ids = bise_alloc_array(window, sizeof *w[k].ids);
        w[k].at = bise_alloc_array(window, sizeof *w[k].at);
        ok = ok && w[k].ids && w[k].at;
    }
    if (ok && *n)
        count = join_windows(&c, w, ids, *n, window, out);
    if (count)
        memcpy(ids, out, count * sizeof *ids);
    for (int k = 0; k < 2; k++) {
        bise_free(w[k].ids);
        bise_free(w[k].at);
    }
    chain_fini(&c);
    bise_free(out);
    if (!ok)
        return bise_fail_nomem(err);
    if (!count)         /* windows that nowhere agree: all at once */
        return bise_merge_heap(m, ids, n, err);
    *n = count;
    return BISE_OK;
}

/* Chooses by length. The short way needs no memory and is taken for nearly
 * all words. */
bise_status bise_merge(const bise_merges *m, int32_t *ids, size_t *n,
                       bise_error *err)
{
    if (*n < 2 || !m->slots)
        return BISE_OK;
    if (*n > WINDOW)
        return bise_merge_windows(m, ids, n, WINDOW, err);
    if (*n > BISE_MERGE_SHORT)
        return bise_merge_heap(m, ids, n, err);
    bise_merge_to to[BISE_MERGE_SHORT];
    for (size_t i = 0; i + 1 < *n; i++)
        to[i].rank = rank_of(m, ids[i], ids[i + 1], &to[i].id);
    *n = bise_merge_scan(m, ids, to, *n);
    return BISE_OK;
}
