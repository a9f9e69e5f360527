/* archive_write.c - the writing half of archive.h. Data is collected in slots
 * of at most 4 MiB; whole units of large files are not copied but packed from
 * the caller's memory. Each thread of the pool then takes the step that is due:
 * write what was packed, hash or pack the next slot, until all are written. The
 * manifest stands first although the hashes in it are known last: its frame is
 * stored raw, has a fixed size, and is patched.
 * Results do not depend on the number of threads: slots are cut by position
 * only, packed independently of each other and written in order.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "formats/archive.h"
#include "formats/crypto.h"
#include "formats/tarhead.h"

#define MAX_SLOTS 256
#define MAX_ROOMS 16                /* packed slots that wait to be written */
#define SLACK (64u << 10)           /* tar headers beside the data */

/* One slot: [prefix | content | padding] of a frame, or of two when the low
 * plane is split off. Content is hashed as it is and may be reordered. */
typedef struct slot {
    const uint8_t *data;                 /* in the buffer, or the caller's */
    size_t prefix, content, padding;
    size_t member;
    uint64_t file_at;                    /* position of content in its file */
    uint8_t *out;                        /* the room with its packed frames */
    size_t out_n[2], in_n[2];            /* packed frames, bytes in them */
    uint32_t check[2];
    int steps;                           /* of hashing and packing, done */
    bool mapped;                         /* data is part of a mapped file */
} slot;

/* What a thread does next. Hashing and writing go in order, each in one thread
 * at a time; any number of slots are packed at once. */
typedef enum { WAIT, WRITE, HASH, PACK, LEAVE } step;

struct bise_archive_writer {
    bise_out *out;
    bise_member *members;
    size_t n;
    int level;
    int64_t mtime;
    bise_pool *pool;
    const bise_progress *progress;
    uint64_t done, total;   /* bytes of members */
    bise_zcoder **coders;   /* one for each worker */
    uint8_t **scratch;      /* the same: a reordered chunk */
    uint8_t *in;            /* prefixes and what was copied */
    size_t in_n, in_cap;
    uint8_t *rooms[MAX_ROOMS];
    size_t n_rooms;
    slot slots[MAX_SLOTS];
    size_t n_slots;
    size_t packing, hashing, writing; /* slots each step has begun with */
    bool hash_busy, write_busy;
    pthread_mutex_t lock;   /* of the steps' progress */
    pthread_cond_t turn;    /* a step is complete */
    bise_error task_error;  /* of a step; the others stop */
    bool borrowed;          /* a slot points to the caller's memory */
    bool mapped;            /* that is a mapped file */
    uint64_t settled;       /* bytes the disk was told to write */
    bise_sha256 *hash;      /* of the member being hashed */
    bise_frame *frames;
    size_t n_frames, cap_frames;
    size_t member;          /* whose data comes next */
    uint64_t member_at;     /* how much of it is in closed slots */
    bool open;              /* the last slot is being filled: */
    size_t filled;          /* so far */
    bise_str manifest;      /* member as written first */
};

/* A word for people about what a file is. */
static const char *format_of(const char *name)
{
    static const struct { const char *end, *format; } table[] = {
        { ".safetensors", "safetensors" }, { ".gguf", "gguf" },
        { ".json", "json" }, { ".jsonl", "jsonl" }, { ".yaml", "yaml" },
        { ".yml", "yaml" }, { ".md", "markdown" }, { ".txt", "text" },
        { ".jinja", "jinja" }, { ".html", "html" }, { ".svg", "svg" },
        { ".dat", "imatrix" }
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (bise_ends_with(name, table[i].end))
            return table[i].format;
    return NULL;
}

/* Written by hand instead of through bise_json: the text must have the same
 * length before and after the hashes are known, one line for each file, so
 * that a diff of two manifests shows the files that changed. */
void bise_manifest_put(bise_str *out, const bise_member *members, size_t n,
                       int64_t mtime)
{
    char hex[65];
    bise_str_printf(out, "{\n  \"bise_archive\": 1,\n  \"mtime\": %" PRId64
                    ",\n  \"files\": [", mtime);
    for (size_t i = 0; i < n; i++) {
        const bise_member *m = &members[i];
        bise_str_puts(out, i ? ",\n    {\"path\": " : "\n    {\"path\": ");
        bise_str_put_json(out, m->path, strlen(m->path));
        bise_str_printf(out, ", \"bytes\": %" PRIu64, m->bytes);
        if (!bise_ends_with(m->path, "/"))
            bise_str_printf(out, ", \"sha256\": \"%s\"",
                            bise_hex32(hex, m->sha256));
        if (m->format) {
            bise_str_puts(out, ", \"format\": ");
            bise_str_put_json(out, m->format, strlen(m->format));
        }
        bise_str_printf(out, ", \"mode\": \"%04o\", \"offset\": %" PRIu64,
                        m->mode, m->offset);
        if (m->planes)
            bise_str_printf(out, ", \"planes\": true, \"stored\": %" PRIu64,
                            m->stored);
        bise_str_putc(out, '}');
    }
    bise_str_puts(out, "\n  ]\n}\n");
}

/* The tar header of a member, and of byte planes their header, into out. */
static void put_prefix(bise_str *out, const bise_member *m, int64_t mtime)
{
    bise_str name = { 0 };
    bise_str_printf(&name, "%s%s", m->path, m->planes ? ".planes" : "");
    if (!bise_str_ok(&name))
        out->failed = true;
    bise_tarhead_put(out, &(bise_tarhead){ .name = bise_str_get(&name),
                                           .bytes = m->stored,
                                           .mode = m->mode, .mtime = mtime });
    if (m->planes)
        bise_planes_put_head(out, &m->map);
    bise_str_fini(&name);
}

/* Where each member's data will stand after the manifest member. */
static bise_status place_members(bise_archive_writer *w, bise_error *err)
{
    uint64_t at = 0;
    for (size_t i = 0; i < w->n; i++) {
        bise_member *m = &w->members[i];
        if (!m->format)
            m->format = format_of(m->path);
        const uint64_t head = m->planes ? bise_planes_head_bytes(&m->map) : 0;
        bise_str prefix = { 0 };
        m->stored = head + m->bytes;
        put_prefix(&prefix, m, w->mtime);
        const bool ok = bise_str_ok(&prefix);
        at += prefix.len - head;
        bise_str_fini(&prefix);
        if (!ok)
            return bise_fail_nomem(err);
        m->offset = at;
        at += m->stored + bise_tar_padding(m->stored);
    }
    return BISE_OK;
}

/* The manifest member: header, text, padding. */
static void build_manifest(bise_str *out, const bise_archive_writer *w)
{
    bise_str text = { 0 };
    bise_manifest_put(&text, w->members, w->n, w->mtime);
    bise_tarhead_put(out, &(bise_tarhead){ .name = BISE_MANIFEST,
                                           .bytes = text.len, .mode = 0644,
                                           .mtime = w->mtime });
    bise_str_add(out, bise_str_get(&text), text.len);
    while (out->len % 512 && bise_str_ok(out))
        bise_str_putc(out, 0);
    if (!bise_str_ok(&text))
        out->failed = true;
    bise_str_fini(&text);
}

/* Remember a frame that was written. */
static bise_status add_frame(bise_archive_writer *w, size_t packed,
                             size_t bytes, uint32_t check, bise_error *err)
{
    void *list = w->frames;
    if (bise_grow(&list, &w->cap_frames, w->n_frames + 1, sizeof *w->frames))
        return bise_fail_nomem(err);
    w->frames = list;
    w->frames[w->n_frames++] = (bise_frame){ .packed = (uint32_t)packed,
                                             .bytes = (uint32_t)bytes,
                                             .check = check };
    return BISE_OK;
}

/* Write a frame that is stored raw, at once. The manifest may be larger than
 * what one frame should hold: it is cut into several. */
static bise_status write_stored(bise_archive_writer *w, const char *data,
                                size_t n, bise_error *err)
{
    bise_status s = BISE_OK;
    uint8_t *frame = bise_alloc(bise_zframe_bound(BISE_ARCHIVE_UNIT));
    if (!frame)
        return bise_fail_nomem(err);
    for (size_t at = 0; at < n && s == BISE_OK; at += BISE_ARCHIVE_UNIT) {
        const size_t k = n - at < BISE_ARCHIVE_UNIT ? n - at :
            BISE_ARCHIVE_UNIT;
        const size_t packed = bise_zframe_store(frame, data + at, k);
        s = bise_out_write(w->out, frame, packed, err);
        if (s == BISE_OK)
            s = add_frame(w, packed, k, bise_zframe_check(frame, packed), err);
    }
    bise_free(frame);
    return s;
}

/* All memory of the writer, once: a buffer for data, rooms for packed slots
 * (never larger than their bound), one zstd state and one chunk for each
 * worker. */
static bise_status alloc_writer(bise_archive_writer *w, bise_error *err)
{
    const size_t workers = (size_t)bise_pool_threads(w->pool);
    w->in_cap = BISE_ARCHIVE_BATCH + BISE_ARCHIVE_UNIT + MAX_SLOTS * SLACK / 16;
    w->n_rooms = workers + 4 < MAX_ROOMS ? workers + 4 : MAX_ROOMS;
    w->in = bise_alloc(w->in_cap);
    w->coders = bise_alloc_array(workers, sizeof *w->coders);
    w->scratch = bise_alloc_array(workers, sizeof *w->scratch);
    bool ok = w->in && w->coders && w->scratch;
    for (size_t i = 0; ok && i < workers; i++) {
        w->coders[i] = bise_zcoder_new();
        w->scratch[i] = bise_alloc(BISE_ARCHIVE_UNIT + SLACK);
        ok = w->coders[i] && w->scratch[i];
    }
    for (size_t i = 0; ok && i < w->n_rooms; i++) {
        w->rooms[i] = bise_alloc(2 * bise_zframe_bound(0) +
                                 bise_zframe_bound(BISE_ARCHIVE_UNIT + SLACK));
        ok = w->rooms[i];
    }
    return ok ? BISE_OK : bise_fail_nomem(err);
}

/* Places first, then the manifest with hashes of zeros, which the end of the
 * archive replaces. The free space is not checked beforehand: how small the
 * data gets is not known. */
bise_status bise_archive_create(bise_archive_writer **out, const char *path,
                                bise_member *members, size_t n,
                                const bise_archive_options *o, bise_error *err)
{
    bise_archive_writer *w = bise_alloc(sizeof *w);
    if (!w)
        return bise_fail_nomem(err);
    w->members = members;
    w->n = n;
    w->level = o->level ? o->level : 3;
    w->pool = o->pool;
    w->progress = o->progress;
    for (size_t i = 0; i < n; i++)
        w->total += members[i].bytes;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->turn, NULL);
    bise_error_init(&w->task_error);
    w->mtime = getenv("SOURCE_DATE_EPOCH") ? bise_clock_epoch() : 0;
    if (w->mtime < 0)
        w->mtime = 0;
    bise_status s = alloc_writer(w, err);
    if (s == BISE_OK)
        s = place_members(w, err);
    if (s == BISE_OK)
        s = bise_out_open(&w->out, path, 0, o->force, err);
    if (s == BISE_OK) {
        bise_out_stream(w->out);
        build_manifest(&w->manifest, w);
        s = bise_str_ok(&w->manifest) ?
            write_stored(w, w->manifest.data, w->manifest.len, err) :
            bise_fail_nomem(err);
    }
    if (s != BISE_OK) {
        bise_archive_abandon(w);
        return s;
    }
    *out = w;
    return BISE_OK;
}

/* Drops the partial file; also the end of a finished writer, whose file has
 * been taken out of it. */
void bise_archive_abandon(bise_archive_writer *w)
{
    if (!w)
        return;
    bise_out_drop(w->out);
    for (int i = 0; i < bise_pool_threads(w->pool); i++) {
        if (w->coders)
            bise_zcoder_free(w->coders[i]);
        if (w->scratch)
            bise_free(w->scratch[i]);
    }
    bise_free(w->coders);
    bise_free(w->scratch);
    bise_free(w->in);
    for (size_t i = 0; i < w->n_rooms; i++)
        bise_free(w->rooms[i]);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->turn);
    bise_free(w->frames);
    bise_sha256_free(w->hash);
    bise_str_fini(&w->manifest);
    bise_free(w);
}

/* Hash a slot's content: the slots come in order. */
static bise_status hash_slot(bise_archive_writer *w, const slot *s,
                             bise_error *err)
{
    bise_member *m = &w->members[s->member];
    if (s->file_at == 0 && !w->hash)
        w->hash = bise_sha256_new();
    if (!w->hash)
        return bise_fail_nomem(err);
    bise_sha256_add(w->hash, s->data + s->prefix, s->content);
    if (s->content == m->bytes - s->file_at) {
        bise_sha256_finish(w->hash, m->sha256);
        w->hash = NULL;
    }
    return BISE_OK;
}

/* Write a slot's frames, and have the disk start on them, so that the sync at
 * the end has little left to wait for. The page that the next write goes on in
 * is left out: it would have to wait. */
static bise_status write_slot(bise_archive_writer *w, const slot *s,
                              bise_error *err)
{
    bise_status st = bise_out_write(w->out, s->out, s->out_n[0] + s->out_n[1],
                                    err);
    for (int f = 0; f < 2 && st == BISE_OK; f++)
        if (s->out_n[f])
            st = add_frame(w, s->out_n[f], s->in_n[f], s->check[f], err);
    const uint64_t end = bise_out_tell(w->out) & ~UINT64_C(0xfffff);
    if (st == BISE_OK && end > w->settled) {
        bise_out_settle(w->out, w->settled, end - w->settled);
        w->settled = end;
    }
    return st;
}

/* Pack one piece of a slot as its frame number f, after the one before. */
static bise_status pack_piece(bise_archive_writer *w, slot *s, int f,
                              const uint8_t *data, size_t n, int level,
                              int worker, bise_error *err)
{
    uint8_t *to = s->out + (f ? s->out_n[0] : 0);
    s->in_n[f] = n;
    s->out_n[f] = level ? bise_zframe_pack(w->coders[worker], to, data, n,
                                           level) :
        bise_zframe_store(to, data, n);
    if (!s->out_n[f])
        return bise_fail_nomem(err);
    s->check[f] = bise_zframe_check(to, s->out_n[f]);
    return BISE_OK;
}

/* Pack a slot; of byte planes the low one goes into a frame of its own, stored
 * raw: its bits look random, so that trying would only cost time. */
static bise_status pack_slot(bise_archive_writer *w, slot *s, int worker,
                             bise_error *err)
{
    const bise_member *m = &w->members[s->member];
    const slot *later = s + w->n_rooms;
    if (later < w->slots + w->n_slots && later->mapped)
        bise_map_ahead(later->data, later->content);
    const size_t total = s->prefix + s->content + s->padding;
    uint8_t *tmp = w->scratch[worker];
    if (!m->planes || !s->content)
        return pack_piece(w, s, 0, s->data, total, w->level, worker, err);
    if (s->prefix)
        memcpy(tmp, s->data, s->prefix);
    const size_t head = s->prefix +
        bise_planes_split(tmp + s->prefix, s->data + s->prefix, s->content,
                          s->file_at, &m->map);
    memset(tmp + s->prefix + s->content, 0, s->padding);
    bise_status st = pack_piece(w, s, 0, tmp, head, w->level > 3 ? w->level :
                                BISE_ZFRAME_SYMBOLS, worker, err);
    if (st == BISE_OK && total > head)
        st = pack_piece(w, s, 1, tmp + head, total - head, 0, worker, err);
    return st;
}

/* ------------------------------------------------------------- steps */
/* The step that is due, with its slot; called with the lock held. Writing
 * comes first, as it makes room; hashing stays close to packing, so that both
 * find the data in the processor's cache. */
static step pick(bise_archive_writer *w, slot **s)
{
    const size_t n = w->n_slots;
    step todo = WAIT;
    if (w->task_error.status != BISE_OK || w->writing == n)
        return LEAVE;
    const bool can_hash = !w->hash_busy && w->hashing < n;
    if (!w->write_busy && w->slots[w->writing].steps == 2) {
        w->write_busy = true;
        *s = &w->slots[w->writing];
        return WRITE;
    }
    if (can_hash && w->hashing <= w->packing)
        todo = HASH;
    else if (w->packing < n && w->packing < w->writing + w->n_rooms)
        todo = PACK;
    else if (can_hash)
        todo = HASH;
    if (todo == HASH) {
        w->hash_busy = true;
        *s = &w->slots[w->hashing];
    } else if (todo == PACK) {
        *s = &w->slots[w->packing];
        (*s)->out = w->rooms[w->packing++ % w->n_rooms];
    }
    return todo;
}

/* Note a step as done; called with the lock held. Pages of a mapping are given
 * back when the slot was hashed and packed, or only hashed, when packing is far
 * behind, as it waits for a slow disk: it finds them in the page cache. */
static void complete(bise_archive_writer *w, slot *s, step did)
{
    if (did == WRITE) {
        w->write_busy = false;
        w->writing++;
        w->done += s->content;
    } else if (did == HASH) {
        w->hash_busy = false;
        w->hashing++;
    }
    const bool far = did == HASH && w->hashing > w->packing + w->n_rooms;
    if (did != WRITE && (++s->steps == 2 || far) && s->mapped)
        bise_map_release(s->data, s->content);
    pthread_cond_broadcast(&w->turn);
}

/* One thread of the pool: step after step until all slots are written. The
 * caller's own thread is worker 0, which reports. */
static void steps_task(void *ctx, size_t index, int worker)
{
    bise_archive_writer *w = ctx;
    bise_error err;
    slot *s = NULL;
    step todo;
    (void)index;
    bise_error_init(&err);
    pthread_mutex_lock(&w->lock);
    while ((todo = pick(w, &s)) != LEAVE) {
        if (todo == WAIT) {
            pthread_cond_wait(&w->turn, &w->lock);
            continue;
        }
        const uint64_t done = w->done + (todo == WRITE ? s->content : 0);
        pthread_mutex_unlock(&w->lock);
        bise_status st = todo == WRITE ? write_slot(w, s, &err)
                       : todo == HASH ? hash_slot(w, s, &err)
                                      : pack_slot(w, s, worker, &err);
        if (st == BISE_OK && worker == 0)
            st = bise_progress_step(w->progress, "pack", done, w->total,
                                    "bytes", NULL, &err);
        pthread_mutex_lock(&w->lock);
        if (st != BISE_OK && w->task_error.status == BISE_OK)
            w->task_error = err;
        complete(w, s, todo);
    }
    pthread_mutex_unlock(&w->lock);
}

/* Hash, pack and write the slots collected so far. */
static bise_status flush(bise_archive_writer *w, bise_error *err)
{
    w->packing = w->hashing = w->writing = 0;
    if (w->n_slots)
        bise_pool_run(w->pool, (size_t)bise_pool_threads(w->pool), steps_task,
                      w);
    w->n_slots = w->in_n = 0;
    w->borrowed = false;
    if (w->task_error.status == BISE_OK)
        return BISE_OK;
    *err = w->task_error;
    return err->status;
}

/* ------------------------------------------------------------- slots */
/* Content of the slot that comes next, and what follows it in the tar. */
static size_t next_piece(const bise_archive_writer *w, size_t *padding)
{
    const bise_member *m = &w->members[w->member];
    const uint64_t left = m->bytes - w->member_at;
    *padding = left > BISE_ARCHIVE_UNIT ? 0 :
        (size_t)bise_tar_padding(m->stored);
    return left < BISE_ARCHIVE_UNIT ? (size_t)left : BISE_ARCHIVE_UNIT;
}

/* A new slot whose bytes begin with a prefix in the buffer, or are the
 * caller's. */
static slot *add_slot(bise_archive_writer *w, const bise_str *prefix,
                      const uint8_t *data)
{
    slot *s = &w->slots[w->n_slots++];
    *s = (slot){ .data = data ? data : w->in + w->in_n, .prefix = prefix->len,
                 .member = w->member, .file_at = w->member_at,
                 .mapped = data && w->mapped };
    if (prefix->len)
        memcpy(w->in + w->in_n, prefix->data, prefix->len);
    return s;
}

/* Account for a slot whose content is complete. */
static void close_slot(bise_archive_writer *w, const slot *s)
{
    if (s->data == w->in + w->in_n)
        w->in_n += s->prefix + s->content + s->padding;
    w->member_at += s->content;
    if (w->member_at == w->members[w->member].bytes) {
        w->member++;
        w->member_at = 0;
    }
}

/* Open a slot for the next piece of the current member: its header alone when
 * the member is large, else header and data together. data: the whole piece,
 * to be packed from there; NULL when it will be copied. */
static bise_status open_slot(bise_archive_writer *w, const uint8_t *data,
                             slot **out, bise_error *err)
{
    const bise_member *m = &w->members[w->member];
    bise_str prefix = { 0 };
    if (w->member_at == 0)
        put_prefix(&prefix, m, w->mtime);
    const size_t room = prefix.len + BISE_ARCHIVE_UNIT + 512;
    bise_status s = bise_str_ok(&prefix) ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && prefix.len + 512 > SLACK)
        s = bise_fail(err, BISE_EUNSUPPORTED, "header of '%s' is too long",
                      m->path);
    if (s == BISE_OK && (w->n_slots + 2 > MAX_SLOTS ||
                         w->in_n + room > w->in_cap))
        s = flush(w, err);
    if (s == BISE_OK && prefix.len && m->bytes > BISE_ARCHIVE_UNIT) {
        close_slot(w, add_slot(w, &prefix, NULL));
        prefix.len = 0;
    }
    if (s == BISE_OK) {
        slot *n = add_slot(w, &prefix, data);
        n->content = next_piece(w, &n->padding);
        if (!data)
            memset(w->in + w->in_n + n->prefix + n->content, 0, n->padding);
        *out = n;
    }
    bise_str_fini(&prefix);
    return s;
}

/* Members without data (empty files, folders) need no write call. */
static bise_status put_empty(bise_archive_writer *w, bise_error *err)
{
    while (w->member < w->n && w->members[w->member].bytes == 0) {
        slot *s = NULL;
        const bise_status st = open_slot(w, NULL, &s, err);
        if (st != BISE_OK)
            return st;
        close_slot(w, s);
    }
    return BISE_OK;
}

/* Can the next n bytes be packed from where they are? A slot must be one
 * piece of memory: not when something stands before or after its content. */
static bool can_borrow(const bise_archive_writer *w, size_t n)
{
    size_t padding;
    return w->members[w->member].bytes > BISE_ARCHIVE_UNIT &&
           next_piece(w, &padding) <= n && !padding;
}

/* Open the slot for what comes next; *from is moved on when the caller's
 * memory serves as it is. */
static bise_status next_slot(bise_archive_writer *w, const uint8_t **from,
                             size_t *n, bise_error *err)
{
    slot *s = NULL;
    bise_status st = put_empty(w, err);
    if (st == BISE_OK && w->member == w->n)
        return bise_fail(err, BISE_EINVAL, "%zu bytes after the last member "
                         "of an archive", *n);
    const bool borrow = st == BISE_OK && can_borrow(w, *n);
    if (st == BISE_OK && !borrow && w->borrowed)
        st = flush(w, err);                 /* it will be filled later */
    if (st == BISE_OK)
        st = open_slot(w, borrow ? *from : NULL, &s, err);
    w->open = st == BISE_OK && !borrow;
    w->filled = 0;
    if (st == BISE_OK && borrow) {
        w->borrowed = true;
        *from += s->content;
        *n -= s->content;
        close_slot(w, s);
    }
    return st;
}

/* Copy into the open slot until it is full, then close it and open the next
 * one; a full batch is packed when the next slot is opened. The caller's
 * memory is not looked at after the return. */
bise_status bise_archive_write(bise_archive_writer *w, const void *data,
                               size_t n, bise_error *err)
{
    const uint8_t *p = data;
    while (n) {
        if (!w->open) {
            const bise_status st = next_slot(w, &p, &n, err);
            if (st != BISE_OK)
                return st;
            continue;
        }
        const slot *s = &w->slots[w->n_slots - 1];
        const size_t room = s->content - w->filled, k = n < room ? n : room;
        memcpy(w->in + w->in_n + s->prefix + w->filled, p, k);
        w->filled += k;
        p += k;
        n -= k;
        if (w->filled == s->content) {
            close_slot(w, s);
            w->open = false;
        }
    }
    return w->borrowed ? flush(w, err) : BISE_OK;
}

/* As any data; the pages are given back while it is packed. */
bise_status bise_archive_write_map(bise_archive_writer *w, const bise_map *m,
                                   bise_error *err)
{
    w->mapped = true;
    const bise_status s = bise_archive_write(w, m->data, m->size, err);
    w->mapped = false;
    return s;
}

/* The manifest again, now with the hashes, over the first one. */
static bise_status patch_manifest(bise_archive_writer *w, bise_error *err)
{
    bise_str text = { 0 };
    build_manifest(&text, w);
    bise_status s = bise_str_ok(&text) && text.len == w->manifest.len ?
        BISE_OK : bise_fail_nomem(err);
    uint8_t *frame = bise_alloc(bise_zframe_bound(BISE_ARCHIVE_UNIT));
    if (!frame)
        s = bise_fail_nomem(err);
    uint64_t to = 0;
    for (size_t at = 0, i = 0; s == BISE_OK && at < text.len;
         at += BISE_ARCHIVE_UNIT, i++) {
        const size_t k = w->frames[i].bytes;
        const size_t packed = bise_zframe_store(frame, text.data + at, k);
        w->frames[i].check = bise_zframe_check(frame, packed);
        s = bise_out_patch(w->out, to, frame, packed, err);
        to += packed;
    }
    bise_free(frame);
    bise_str_fini(&text);
    return s;
}

/* The end of tar, the hashes into the manifest, the seek table; then the
 * file gets its name. Missing data fails before any of it. */
bise_status bise_archive_finish(bise_archive_writer *w, bise_error *err)
{
    static const char end[1024];                /* two zero blocks */
    bise_str table = { 0 };
    bise_status s = w->open ? BISE_OK : put_empty(w, err);
    if (s == BISE_OK && w->member < w->n)
        s = bise_fail(err, BISE_EINVAL, "data of '%s' is missing",
                      w->members[w->member].path);
    if (s == BISE_OK)
        s = flush(w, err);
    if (s == BISE_OK)
        s = write_stored(w, end, sizeof end, err);
    if (s == BISE_OK)
        s = patch_manifest(w, err);
    if (s == BISE_OK) {
        bise_zframe_put_table(&table, w->frames, w->n_frames);
        s = bise_str_ok(&table) ?
            bise_out_write(w->out, table.data, table.len, err) :
            bise_fail_nomem(err);
        bise_str_fini(&table);
    }
    if (s == BISE_OK) {
        bise_out *out = w->out;
        w->out = NULL;
        s = bise_out_commit(out, err);
    }
    bise_archive_abandon(w);
    return s;
}

/* For progress reports only. */
uint64_t bise_archive_packed(const bise_archive_writer *w)
{
    return bise_out_tell(w->out);
}
