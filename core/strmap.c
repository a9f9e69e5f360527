/* strmap.c - linear probing over a power-of-two table, at most half full;
 * hashes eight bytes at a time with the mixer of rng.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/strmap.h"

#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "core/rng.h"

static uint32_t hash_bytes(const char *s, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u, v;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&v, s, 8);
        h = (h ^ v) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    v = 0;
    memcpy(&v, s, n);
    return (uint32_t)(bise_mix64(h ^ v) >> 32);
}

/* Twice as many slots as keys, rounded up to a power of two. */
int bise_strmap_init(bise_strmap *m, size_t n)
{
    size_t size = 16;
    while (size < n * 2)
        size *= 2;
    m->slots = bise_alloc_array(size, sizeof *m->slots);
    m->mask = size - 1;
    m->used = 0;
    return m->slots ? 0 : -1;
}

/* The slot of a key, or the free one where it belongs. */
static bise_strmap_slot *seek(const bise_strmap *m, const char *key, size_t len,
                              uint32_t hash)
{
    size_t i = hash & m->mask;
    for (;; i = (i + 1) & m->mask) {
        bise_strmap_slot *s = &m->slots[i];
        if (!s->key)
            return s;
        if (s->hash == hash && s->len == len && memcmp(s->key, key, len) == 0)
            return s;
    }
}

/* Double the table. */
static int enlarge(bise_strmap *m)
{
    bise_strmap big;
    if (bise_strmap_init(&big, m->mask + 1) != 0)
        return -1;
    for (size_t i = 0; i <= m->mask; i++) {
        const bise_strmap_slot *s = &m->slots[i];
        if (s->key)
            *seek(&big, s->key, s->len, s->hash) = *s;
    }
    big.used = m->used;
    bise_free(m->slots);
    *m = big;
    return 0;
}

/* Half full is the limit: probes stay short without tombstones. */
int bise_strmap_add(bise_strmap *m, const char *key, size_t len, uint32_t value)
{
    if (!m->slots && bise_strmap_init(m, 0) != 0)
        return -1;
    if (m->used * 2 > m->mask && enlarge(m) != 0)
        return -1;
    const uint32_t hash = hash_bytes(key, len);
    bise_strmap_slot *s = seek(m, key, len, hash);
    if (s->key)
        return 1;
    *s = (bise_strmap_slot){ key, (uint32_t)len, value, hash };
    m->used++;
    return 0;
}

/* A map that was never filled has no table and finds nothing. */
uint32_t bise_strmap_find(const bise_strmap *m, const char *key, size_t len)
{
    if (!m->slots)
        return BISE_STRMAP_NONE;
    const bise_strmap_slot *s = seek(m, key, len, hash_bytes(key, len));
    return s->key ? s->value : BISE_STRMAP_NONE;
}

/* Keys are borrowed, so only the table is released. */
void bise_strmap_fini(bise_strmap *m)
{
    bise_free(m->slots);
    memset(m, 0, sizeof *m);
}
