/* archive_source.c - an archive as the files of a store: a packed model is a
 * MODEL. Whole tensors are unpacked once into a reserved image of the member;
 * streamed slices go through a small cache of units and are not kept.
 * Locks: image_lock covers images, lock covers the cache; neither is held
 * while the other is taken. Unpacking for the cache happens outside of the
 * lock, so that several threads unpack different units at the same time.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "formats/archive.h"

#define CACHE 8 /* units kept for slices, of 4 MiB */

/* One unit in the cache. loading or users > 0: not to be replaced. */
typedef struct cached {
    const bise_member *member;
    uint64_t unit, used;     /* last use, for replacement */
    int users;
    bool loading;
    uint8_t *data;
    bise_unpacker *unpacker;
} cached;

typedef struct packed_source {
    bise_archive archive;
    const char *prefix;      /* folder of the model inside, or "" */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    cached cache[CACHE];
    uint64_t clock;
    bise_unpacker *unpacker; /* for images, under image_lock */
    pthread_mutex_t image_lock;
} packed_source;

/* A member's image: which units are unpacked. */
typedef struct packed_image {
    const bise_member *member;
    uint8_t *data;
    uint8_t *have;           /* one byte for each unit */
} packed_image;

/* A name relative to the model's folder in the archive. */
static const bise_member *find(const bise_source *s, const char *name)
{
    const packed_source *p = s->handle;
    char full[4096];                            /* names are shorter */
    const int n = snprintf(full, sizeof full, "%s%s", p->prefix, name);
    return n > 0 && (size_t)n < sizeof full ?
        bise_archive_find(&p->archive, full) : NULL;
}

/* No unpacking: the manifest knows. */
static bool packed_has(const bise_source *s, const char *name)
{
    return find(s, name) != NULL;
}

/* Reserve address space for the whole member. Untouched pages cost nothing,
 * so that a member of many GiB can be "mapped" although it is packed. */
static bise_status packed_open(bise_source *s, const char *name,
                               bise_image *img, bise_error *err)
{
    const bise_member *m = find(s, name);
    if (!m)
        return bise_fail(err, BISE_EIO, "no '%s' in the archive", name);
    const size_t units = (size_t)(m->bytes / BISE_ARCHIVE_UNIT) + 1;
    packed_image *pi = bise_alloc(sizeof *pi);
    if (!pi || !(pi->have = bise_alloc(units))) {
        bise_free(pi);
        return bise_fail_nomem(err);
    }
    pi->member = m;
    /* address space only; pages come when units are unpacked into them */
    void *data = mmap(NULL, (size_t)m->bytes + 1, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
        bise_free(pi->have);
        bise_free(pi);
        return bise_fail_nomem(err);
    }
    pi->data = data;
    *img = (bise_image){ .data = data, .size = m->bytes, .lazy = true,
                         .handle = pi };
    return BISE_OK;
}

/* Return the address space and what was unpacked into it. */
static void packed_drop(bise_source *s, bise_image *img)
{
    packed_image *pi = img->handle;
    (void)s;
    munmap(pi->data, (size_t)pi->member->bytes + 1);
    bise_free(pi->have);
    bise_free(pi);
}

/* Unpack the units of a range that are not there yet. One at a time under
 * the lock: callers want whole tensors once, at the start. */
static bise_status packed_need(bise_source *s, const bise_image *img,
                               uint64_t first, uint64_t n, bise_error *err)
{
    packed_source *p = s->handle;
    packed_image *pi = img->handle;
    const uint64_t last = (first + n - 1) / BISE_ARCHIVE_UNIT;
    bise_status st = BISE_OK;
    pthread_mutex_lock(&p->image_lock);
    if (!p->unpacker && !(p->unpacker = bise_unpacker_new()))
        st = bise_fail_nomem(err);
    for (uint64_t k = first / BISE_ARCHIVE_UNIT; k <= last && st == BISE_OK;
         k++) {
        if (pi->have[k])
            continue;
        st = bise_archive_unit(&p->archive, pi->member, k,
                               pi->data + k * BISE_ARCHIVE_UNIT, p->unpacker,
                               err);
        pi->have[k] = st == BISE_OK;
    }
    pthread_mutex_unlock(&p->image_lock);
    return st;
}

/* A cache entry for a unit: the one that holds it, or the one used longest ago
 * that is free. NULL when all are busy. Called with the lock held. */
static cached *pick(packed_source *p, const bise_member *m, uint64_t unit)
{
    cached *oldest = NULL;
    for (int i = 0; i < CACHE; i++) {
        cached *c = &p->cache[i];
        if (c->member == m && c->unit == unit)
            return c;
        if (!c->users && !c->loading && (!oldest || c->used < oldest->used))
            oldest = c;
    }
    return oldest;
}

/* Unpack a unit into an entry (lock not held). */
static bise_status load(const packed_source *p, cached *c, const bise_member *m,
                        uint64_t unit, bise_error *err)
{
    if (!c->data)
        c->data = bise_alloc(BISE_ARCHIVE_UNIT);
    if (!c->unpacker)
        c->unpacker = bise_unpacker_new();
    if (!c->data || !c->unpacker)
        return bise_fail_nomem(err);
    return bise_archive_unit(&p->archive, m, unit, c->data, c->unpacker, err);
}

/* Hold a unit in the cache, unpacking it when it is not there. */
static bise_status acquire(packed_source *p, const bise_member *m,
                           uint64_t unit, cached **out, bise_error *err)
{
    bise_status st = BISE_OK;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        cached *c = pick(p, m, unit);
        if (!c || c->loading) {                 /* all busy, or on its way */
            pthread_cond_wait(&p->ready, &p->lock);
            continue;
        }
        if (c->member != m || c->unit != unit) {
            c->member = m;
            c->unit = unit;
            c->loading = true;
            pthread_mutex_unlock(&p->lock);
            st = load(p, c, m, unit, err);
            pthread_mutex_lock(&p->lock);
            c->loading = false;
            if (st != BISE_OK)
                c->member = NULL;
            pthread_cond_broadcast(&p->ready);
        }
        if (st == BISE_OK) {
            c->users++;
            c->used = ++p->clock;
            *out = c;
        }
        break;
    }
    pthread_mutex_unlock(&p->lock);
    return st;
}

/* A unit may be replaced again when its last user has copied from it. */
static void give_back(packed_source *p, cached *c)
{
    pthread_mutex_lock(&p->lock);
    if (--c->users == 0)
        pthread_cond_broadcast(&p->ready);
    pthread_mutex_unlock(&p->lock);
}

/* Copy a range out of cached units, which neighbours of a streaming reader
 * will want next; nothing stays in memory beyond the cache. */
static bise_status packed_copy(bise_source *s, const bise_image *img,
                               uint64_t first, uint64_t n, void *out,
                               bise_error *err)
{
    packed_source *p = s->handle;
    const packed_image *pi = img->handle;
    uint8_t *to = out;
    while (n) {
        const uint64_t unit = first / BISE_ARCHIVE_UNIT;
        const uint64_t skip = first % BISE_ARCHIVE_UNIT;
        const uint64_t k = BISE_ARCHIVE_UNIT - skip < n ?
            BISE_ARCHIVE_UNIT - skip : n;
        cached *c = NULL;
        const bise_status st = acquire(p, pi->member, unit, &c, err);
        if (st != BISE_OK)
            return st;
        memcpy(to, c->data + skip, (size_t)k);
        give_back(p, c);
        to += k;
        first += k;
        n -= k;
    }
    return BISE_OK;
}

/* The cache's buffers are the only memory that grows while it is open. */
static void packed_close(bise_source *s)
{
    packed_source *p = s->handle;
    for (int i = 0; i < CACHE; i++) {
        bise_free(p->cache[i].data);
        bise_unpacker_free(p->cache[i].unpacker);
    }
    bise_unpacker_free(p->unpacker);
    bise_archive_close(&p->archive);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->image_lock);
    pthread_cond_destroy(&p->ready);
    bise_free(p);
}

static const bise_source_ops packed_ops = {
    .has = packed_has, .image = packed_open, .need = packed_need,
    .copy = packed_copy, .drop = packed_drop, .close = packed_close
};

/* The folder of the model: where the first weights stand. */
static const char *model_folder(packed_source *p)
{
    const bise_member *m = bise_archive_weights(&p->archive);
    return m ? bise_arena_strndup(&p->archive.arena, m->path, (size_t)
                                  (bise_path_base(m->path) - m->path)) : "";
}

/* Files directly inside the model's folder, without it. */
static bise_status list_names(bise_source *s, packed_source *p, bise_error *err)
{
    const size_t skip = strlen(p->prefix);
    s->names = bise_arena_alloc(&s->arena, (p->archive.n + 1) *
                                sizeof *s->names);
    for (size_t i = 0; s->names && i < p->archive.n; i++) {
        const char *path = p->archive.members[i].path;
        if (!bise_starts_with(path, p->prefix) || !path[skip] ||
            strchr(path + skip, '/'))
            continue;
        char *name = bise_arena_strdup(&s->arena, path + skip);
        if (!name)
            return bise_fail_nomem(err);
        s->names[s->n_names++] = name;
    }
    return s->names ? BISE_OK : bise_fail_nomem(err);
}

/* Open the archive and present the files of the one folder that holds the
 * weights. On failure everything goes through the source's own close. */
bise_status bise_archive_source(bise_source **out, const char *path,
                                bise_error *err)
{
    bise_source *s = bise_alloc(sizeof *s);
    packed_source *p = bise_alloc(sizeof *p);
    if (!s || !p) {
        bise_free(s);
        bise_free(p);
        return bise_fail_nomem(err);
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->image_lock, NULL);
    pthread_cond_init(&p->ready, NULL);
    s->ops = &packed_ops;
    s->handle = p;
    bise_status st = bise_archive_open(&p->archive, path, err);
    if (st == BISE_OK) {
        p->prefix = model_folder(p);
        s->root = bise_arena_strdup(&s->arena, path);
        st = p->prefix && s->root ? list_names(s, p, err) :
            bise_fail_nomem(err);
    }
    if (st != BISE_OK) {
        bise_source_close(s);
        return st;
    }
    *out = s;
    return BISE_OK;
}
