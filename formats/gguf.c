/* gguf.c - the reader of one GGUF file, version 2 or 3 (gguf.md section 1).
 * One pass over the header with a cursor that never leaves the file; every
 * count is bounded by the bytes that are left before anything is allocated.
 * Values are not copied: a key-value points into the mapping, so that a
 * vocabulary of 131072 strings costs nothing to open. Strings in arrays are
 * walked once here to check their lengths; walking them later needs no checks.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/gguf.h"

#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/shape.h"

#define STRING_MAX (UINT64_C(1) << 30) /* bytes of a string, array elements */
#define KEY_MAX 65535
#define MIN_KV 14                      /* bytes of the shortest key-value */
#define MIN_TENSOR 25                  /* bytes of the shortest tensor info */

/* Read position. Invariant: pos <= size. */
typedef struct cursor {
    const uint8_t *data;
    uint64_t size, pos;
    bise_error *err;
} cursor;

/* The one check that keeps the cursor inside: n more bytes must be left.
 * what names the field for the message. */
static bise_status need(const cursor *c, uint64_t n, const char *what)
{
    if (n <= c->size - c->pos)
        return BISE_OK;
    return bise_fail_at(c->err, BISE_EFORMAT, (int64_t)c->pos,
                        "%s needs %" PRIu64 " bytes, the file has %" PRIu64
                        " left", what, n, c->size - c->pos);
}

/* Little-endian u32 at the cursor. */
static bise_status get_u32(cursor *c, uint32_t *v, const char *what)
{
    const bise_status s = need(c, 4, what);
    if (s == BISE_OK) {
        *v = bise_load_le32(c->data + c->pos);
        c->pos += 4;
    }
    return s;
}

/* Little-endian u64 at the cursor. */
static bise_status get_u64(cursor *c, uint64_t *v, const char *what)
{
    const bise_status s = need(c, 8, what);
    if (s == BISE_OK) {
        *v = bise_load_le64(c->data + c->pos);
        c->pos += 8;
    }
    return s;
}

/* A string: u64 length and bytes, at most max. *s points into the file. */
static bise_status get_string(cursor *c, const uint8_t **str, uint64_t *len,
                              uint64_t max, const char *what)
{
    const int64_t at = (int64_t)c->pos;
    bise_status s = get_u64(c, len, what);
    if (s != BISE_OK)
        return s;
    if (*len > max)
        return bise_fail_at(c->err, BISE_EFORMAT, at,
                            "%s of %" PRIu64 " bytes, at most %" PRIu64
                            " are allowed", what, *len, max);
    s = need(c, *len, what);
    if (s == BISE_OK) {
        *str = c->data + c->pos;
        c->pos += *len;
    }
    return s;
}

/* A name as a C string in the arena: not empty, no NUL inside. */
static bise_status get_name(cursor *c, bise_arena *arena, char **name,
                            uint64_t max, const char *what)
{
    const uint8_t *p = NULL;
    uint64_t n = 0;
    const int64_t at = (int64_t)c->pos;
    const bise_status s = get_string(c, &p, &n, max, what);
    if (s != BISE_OK)
        return s;
    if (!n || memchr(p, 0, (size_t)n))
        return bise_fail_at(c->err, BISE_EFORMAT, at, "%s is empty or holds "
                            "a NUL byte", what);
    *name = bise_arena_strndup(arena, (const char *)p, (size_t)n);
    return *name ? BISE_OK : bise_fail_nomem(c->err);
}

/* Bytes of a scalar type, 0 for strings and arrays, -1 for unknown ids. */
static int type_bytes(uint32_t t)
{
    static const int8_t bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return t < sizeof bytes ? bytes[t] : -1;
}

/* Array: element type, count, elements back to back. */
static bise_status get_array(cursor *c, bise_gguf_kv *kv)
{
    uint32_t elem = 0;
    const int64_t at = (int64_t)c->pos;
    bise_status s = get_u32(c, &elem, "array type");
    if (s == BISE_OK)
        s = get_u64(c, &kv->count, "array length");
    if (s != BISE_OK)
        return s;
    const int size = type_bytes(elem);
    if (size < 0 || elem == BISE_GGUF_ARRAY)
        return bise_fail_at(c->err, BISE_EFORMAT, at, "array of type %" PRIu32
                            " in key '%s'", elem, kv->key);
    const uint64_t least = size ? (uint64_t)size : 8;
    if (kv->count > STRING_MAX || kv->count > (c->size - c->pos) / least)
        return bise_fail_at(c->err, BISE_EFORMAT, at + 4,
                            "array of %" PRIu64 " elements in key '%s', the "
                            "file has %" PRIu64 " bytes left", kv->count,
                            kv->key, c->size - c->pos);
    kv->elem = (bise_gguf_type)elem;
    kv->data = c->data + c->pos;
    if (size) {
        c->pos += kv->count * (uint64_t)size;
    } else {
        const uint8_t *str;
        uint64_t n;
        for (uint64_t i = 0; i < kv->count && s == BISE_OK; i++)
            s = get_string(c, &str, &n, STRING_MAX, "string in array");
    }
    kv->bytes = (uint64_t)(c->data + c->pos - kv->data);
    return s;
}

/* One key-value. Scalars and strings stay where they are in the file; only
 * the key is copied, to have it as a C string. */
static bise_status get_kv(cursor *c, bise_gguf_meta *m, bise_gguf_kv *kv)
{
    bise_status s = get_name(c, &m->arena, &kv->key, KEY_MAX, "key");
    const int64_t at = (int64_t)c->pos;
    uint32_t type = 0;
    if (s == BISE_OK)
        s = get_u32(c, &type, "value type");
    if (s != BISE_OK)
        return s;
    const int size = type_bytes(type);
    if (size < 0)
        return bise_fail_at(c->err, BISE_EFORMAT, at,
                            "unknown value type %" PRIu32 " of key '%s'", type,
                            kv->key);
    kv->type = (bise_gguf_type)type;
    if (kv->type == BISE_GGUF_ARRAY)
        return get_array(c, kv);
    if (kv->type == BISE_GGUF_STR) {
        s = get_string(c, &kv->data, &kv->count, STRING_MAX, "string value");
        kv->bytes = kv->count;
        return s;
    }
    s = need(c, (uint64_t)size, "value");
    if (s != BISE_OK)
        return s;
    kv->data = c->data + c->pos;
    kv->count = 1;
    kv->bytes = (uint64_t)size;
    c->pos += (uint64_t)size;
    return BISE_OK;
}

/* All key-values; keys must be unique. */
static bise_status get_meta(cursor *c, bise_gguf_meta *m, uint64_t n)
{
    if (n > (c->size - c->pos) / MIN_KV)
        return bise_fail_at(c->err, BISE_EFORMAT, 16, "%" PRIu64
                            " key-values in a file of %" PRIu64 " bytes", n,
                            c->size);
    m->kv = bise_alloc_array((size_t)n + 1, sizeof *m->kv);
    bise_strmap keys = { 0 };
    if (!m->kv || bise_strmap_init(&keys, (size_t)n) != 0)
        return bise_fail_nomem(c->err);
    m->cap = (size_t)n + 1;
    bise_status s = BISE_OK;
    while (m->n < n && s == BISE_OK) {
        bise_gguf_kv *kv = &m->kv[m->n];
        const int64_t at = (int64_t)c->pos;
        s = get_kv(c, m, kv);
        if (s != BISE_OK)
            break;
        const int added = bise_strmap_add(&keys, kv->key, strlen(kv->key), 0);
        if (added < 0)
            s = bise_fail_nomem(c->err);
        else if (added > 0)
            s = bise_fail_at(c->err, BISE_EFORMAT, at, "key '%s' stands twice",
                             kv->key);
        m->n++;
    }
    bise_strmap_fini(&keys);
    return s;
}

/* Sizes of a tensor, fastest first in the file, reversed into dims. */
static bise_status get_dims(cursor *c, bise_tensor *t)
{
    const int64_t at = (int64_t)c->pos;
    uint32_t n = 0;
    bise_status s = get_u32(c, &n, "tensor rank");
    if (s != BISE_OK)
        return s;
    if (n > 4)
        return bise_fail_at(c->err, BISE_EFORMAT, at, "%" PRIu32
                            " dimensions, at most 4 are allowed", n);
    t->n_dims = (int)n;
    for (uint32_t i = 0; i < n && s == BISE_OK; i++) {
        uint64_t v = 0;
        s = get_u64(c, &v, "tensor size");
        if (s == BISE_OK && v > INT64_MAX)
            s = bise_fail_at(c->err, BISE_EFORMAT, (int64_t)c->pos - 8,
                             "negative size");
        t->dims[n - 1 - i] = v;
    }
    return s;
}

/* One tensor info; *next is the prescribed offset in the data section. */
static bise_status get_tensor(cursor *c, bise_gguf *g, bise_tensor *t,
                              uint64_t *next)
{
    char *name = NULL;
    uint32_t type = 0;
    bise_status s = get_name(c, &g->meta.arena, &name, BISE_GGUF_NAME_MAX,
                             "tensor name");
    t->name = name;
    if (s == BISE_OK)
        s = get_dims(c, t);
    if (s == BISE_OK)
        s = get_u32(c, &type, "tensor type");
    if (s == BISE_OK)
        s = get_u64(c, &t->offset, "tensor offset");
    if (s != BISE_OK)
        return s;
    t->dtype = bise_dtype_by_gguf((int32_t)type);
    if (t->dtype == BISE_DTYPE_NONE)
        return bise_fail_at(c->err, BISE_EUNSUPPORTED, (int64_t)c->pos - 12,
                            "unknown tensor type %" PRId32, (int32_t)type);
    s = bise_shape_size(t, (int64_t)c->pos - 12, c->err);
    if (s == BISE_OK && t->offset != *next)
        s = bise_fail_at(c->err, BISE_EFORMAT, (int64_t)c->pos - 8,
                         "data offset %" PRIu64 ", %" PRIu64 " is prescribed",
                         t->offset, *next);
    if (s == BISE_OK && t->bytes > (UINT64_MAX >> 2) - *next)
        s = bise_fail_at(c->err, BISE_EFORMAT, (int64_t)c->pos - 8,
                         "sizes add up to more than 2^62 bytes");
    *next += (t->bytes + g->alignment - 1) & ~(g->alignment - 1);
    return s;
}

/* All tensor infos. The count is bounded by what is left of the file before
 * memory is asked for, as 2^63 tensors are easily claimed. */
static bise_status get_tensors(cursor *c, bise_gguf *g, uint64_t n)
{
    if (n > (c->size - c->pos) / MIN_TENSOR)
        return bise_fail_at(c->err, BISE_EFORMAT, 8, "%" PRIu64
                            " tensors in a file of %" PRIu64 " bytes", n,
                            c->size);
    g->tensors = bise_alloc_array((size_t)n + 1, sizeof *g->tensors);
    if (!g->tensors || bise_strmap_init(&g->names, (size_t)n) != 0)
        return bise_fail_nomem(c->err);
    uint64_t next = 0;
    while (g->n_tensors < n) {
        bise_tensor *t = &g->tensors[g->n_tensors];
        const int64_t at = (int64_t)c->pos;
        bise_status s = get_tensor(c, g, t, &next);
        if (s != BISE_OK)
            return bise_error_in(c->err, NULL, t->name);
        const int added = bise_strmap_add(&g->names, t->name, strlen(t->name),
                                          (uint32_t)g->n_tensors);
        if (added < 0)
            return bise_fail_nomem(c->err);
        if (added > 0) {
            s = bise_fail_at(c->err, BISE_EFORMAT, at, "tensor stands twice");
            return s = bise_error_in(c->err, NULL, t->name);
        }
        g->n_tensors++;
    }
    return BISE_OK;
}

/* Place the data section and check each tensor's end against the file. */
static bise_status place_data(cursor *c, bise_gguf *g)
{
    const uint64_t mask = g->alignment - 1;
    g->data_offset = (c->pos + mask) & ~mask;
    for (size_t i = 0; i < g->n_tensors; i++) {
        bise_tensor *t = &g->tensors[i];
        t->offset += g->data_offset;
        if (t->offset + t->bytes > c->size) {
            bise_status s = bise_fail_at(
                c->err, BISE_EFORMAT, (int64_t)t->offset,
                "file truncated: need %" PRIu64 " bytes, have %" PRIu64,
                t->offset + t->bytes, c->size);
            return s = bise_error_in(c->err, NULL, t->name);
        }
        t->data = c->data + t->offset;
    }
    return BISE_OK;
}

/* general.alignment: u32, a power of two; 32 when absent. */
static bise_status get_alignment(cursor *c, bise_gguf *g)
{
    const bise_gguf_kv *kv = bise_gguf_get(&g->meta, "general.alignment");
    g->alignment = BISE_GGUF_ALIGNMENT;
    if (!kv)
        return BISE_OK;
    const uint32_t v = kv->type == BISE_GGUF_U32 ? bise_load_le32(kv->data) : 0;
    if (!v || (v & (v - 1)))
        return bise_fail_at(c->err, BISE_EFORMAT, kv->data - c->data,
                            "general.alignment is %" PRIu32
                            ", a power of two (u32) is needed", v);
    g->alignment = v;
    return BISE_OK;
}

/* Magic and version. Byte-swapped files have their version in the upper
 * half, which tells them apart from future versions. */
static bise_status get_version(cursor *c)
{
    uint32_t version = 0;
    bise_status s = need(c, 4, "magic");
    if (s != BISE_OK)
        return s;
    if (memcmp(c->data, "GGUF", 4) != 0)
        return bise_fail_at(c->err, BISE_EFORMAT, 0,
                            "not a GGUF file: wrong magic");
    c->pos = 4;
    s = get_u32(c, &version, "version");
    if (s != BISE_OK)
        return s;
    if (version && (version & 0xffff) == 0)
        return bise_fail_at(c->err, BISE_EUNSUPPORTED, 4,
                            "big-endian GGUF is not read");
    if (version != 2 && version != 3)
        return bise_fail_at(c->err, BISE_EUNSUPPORTED, 4,
                            "GGUF version %" PRIu32 ", 2 and 3 are read",
                            version);
    return BISE_OK;
}

/* The sections in file order; each one's counts were read by the one before.
 * On failure nothing stays allocated. */
bise_status bise_gguf_parse(bise_gguf *g, const void *data, uint64_t size,
                            bise_error *err)
{
    memset(g, 0, sizeof *g);
    cursor c = { .data = data, .size = size, .err = err };
    uint64_t n_tensors = 0, n_kv = 0;
    bise_status s = get_version(&c);
    if (s == BISE_OK)
        s = get_u64(&c, &n_tensors, "tensor count");
    if (s == BISE_OK)
        s = get_u64(&c, &n_kv, "key-value count");
    if (s == BISE_OK)
        s = get_meta(&c, &g->meta, n_kv);
    if (s == BISE_OK)
        s = get_alignment(&c, g);
    if (s == BISE_OK)
        s = get_tensors(&c, g, n_tensors);
    if (s == BISE_OK)
        s = place_data(&c, g);
    if (s != BISE_OK)
        bise_gguf_close(g);
    return s;
}

/* As _parse on a mapping, which then belongs to g. */
bise_status bise_gguf_open(bise_gguf *g, const char *path, bise_error *err)
{
    bise_map map;
    memset(g, 0, sizeof *g);
    bise_status s = bise_map_open(&map, path, err);
    if (s != BISE_OK)
        return s;
    s = bise_gguf_parse(g, map.data, map.size, err);
    if (s != BISE_OK) {
        bise_map_close(&map);
        return bise_error_in(err, path, NULL);
    }
    g->map = map;
    return BISE_OK;
}

/* Safe on a zeroed or half-filled object, and twice. */
void bise_gguf_close(bise_gguf *g)
{
    if (!g)
        return;
    bise_map_close(&g->map);
    bise_gguf_meta_fini(&g->meta);
    bise_free(g->tensors);
    bise_strmap_fini(&g->names);
    memset(g, 0, sizeof *g);
}

/* Through the hash map of names; models have up to some thousand tensors,
 * split ones more. */
const bise_tensor *bise_gguf_find(const bise_gguf *g, const char *name)
{
    const uint32_t i = bise_strmap_find(&g->names, name, strlen(name));
    return i == BISE_STRMAP_NONE ? NULL : &g->tensors[i];
}
