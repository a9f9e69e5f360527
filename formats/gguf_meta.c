/* gguf_meta.c - the ordered list of GGUF key-values: typed reads, building in
 * memory, replace, remove and move. Values are kept as their file bytes, so
 * that copying a list between files changes nothing.
 * The list keeps the order of insertion, because tools that compare files
 * expect the order of the reference converters (gguf.md 1.5).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "core/bytes.h"
#include "formats/gguf.h"

/* Bytes of a scalar of each type; 0 for strings and arrays. */
static unsigned scalar_bytes(bise_gguf_type t)
{
    static const uint8_t bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return (unsigned)t < sizeof bytes ? bytes[t] : 0;
}

/* Linear: lists are short, and order matters more than speed. */
static bise_gguf_kv *find(const bise_gguf_meta *m, const char *key)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->kv[i].key, key) == 0)
            return &m->kv[i];
    return NULL;
}

/* NULL for a NULL list too, so that stores of other kinds read as "no keys".
 */
const bise_gguf_kv *bise_gguf_get(const bise_gguf_meta *m, const char *key)
{
    return m ? find(m, key) : NULL;
}

/* Integer value of a scalar at p; false when it is not of an integer type. */
static bool load_int(bise_gguf_type t, const uint8_t *p, int64_t *out)
{
    switch (t) {
    case BISE_GGUF_U8:
    case BISE_GGUF_BOOL: *out = p[0]; return true;
    case BISE_GGUF_I8: *out = (int8_t)p[0]; return true;
    case BISE_GGUF_U16: *out = bise_load_le16(p); return true;
    case BISE_GGUF_I16: *out = (int16_t)bise_load_le16(p); return true;
    case BISE_GGUF_U32: *out = bise_load_le32(p); return true;
    case BISE_GGUF_I32: *out = (int32_t)bise_load_le32(p); return true;
    case BISE_GGUF_U64:
    case BISE_GGUF_I64: *out = (int64_t)bise_load_le64(p); return true;
    default: return false;
    }
}

/* Through memcpy, as the bytes may stand anywhere. */
static double load_f64(const uint8_t *p)
{
    const uint64_t bits = bise_load_le64(p);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

/* Any number at p as double; other when it is not a number. */
static double load_number(bise_gguf_type t, const uint8_t *p, double other)
{
    int64_t i;
    if (t == BISE_GGUF_U64)
        return (double)bise_load_le64(p);
    if (load_int(t, p, &i))
        return (double)i;
    if (t == BISE_GGUF_F32)
        return (double)bise_bits_f32(bise_load_le32(p));
    return t == BISE_GGUF_F64 ? load_f64(p) : other;
}

/* Floats convert when they are in range; strings and arrays never. */
int64_t bise_gguf_int(const bise_gguf_meta *m, const char *key, int64_t other)
{
    const bise_gguf_kv *kv = bise_gguf_get(m, key);
    int64_t v;
    if (!kv || !scalar_bytes(kv->type))
        return other;
    if (load_int(kv->type, kv->data, &v))
        return v;
    const double d = load_number(kv->type, kv->data, 0);
    return d > -9e15 && d < 9e15 ? (int64_t)d : other;
}

/* Any number as double; u64 above 2^53 loses low bits as usual. */
double bise_gguf_float(const bise_gguf_meta *m, const char *key, double other)
{
    const bise_gguf_kv *kv = bise_gguf_get(m, key);
    return kv ? load_number(kv->type, kv->data, other) : other;
}

/* Any number but zero is true, as writers differ in the type. */
bool bise_gguf_flag(const bise_gguf_meta *m, const char *key, bool other)
{
    return bise_gguf_int(m, key, other) != 0;
}

/* An empty string is "" and not NULL, which means absent. */
const char *bise_gguf_str(const bise_gguf_meta *m, const char *key, size_t *n)
{
    const bise_gguf_kv *kv = bise_gguf_get(m, key);
    if (!kv || kv->type != BISE_GGUF_STR)
        return NULL;
    if (n)
        *n = (size_t)kv->count;
    return kv->data ? (const char *)kv->data : "";
}

/* In the caller's arena, as values in the file have no NUL at the end. */
char *bise_gguf_strdup(const bise_gguf_meta *m, const char *key, bise_arena *a)
{
    size_t n;
    const char *s = bise_gguf_str(m, key, &n);
    return s ? bise_arena_strndup(a, s, n) : NULL;
}

/* The reader has checked every length against the array's bytes, so that
 * walking needs no check of its own. */
const char *bise_gguf_array_next(const bise_gguf_kv *kv, uint64_t *at,
                                 size_t *len)
{
    if (kv->type != BISE_GGUF_ARRAY || kv->elem != BISE_GGUF_STR ||
        *at >= kv->bytes)
        return NULL;
    const uint64_t n = bise_load_le64(kv->data + *at);
    const char *s = (const char *)kv->data + *at + 8;
    *len = (size_t)n;
    *at += 8 + n;
    return s;
}

/* 0 for an index past the end or an array of strings. */
double bise_gguf_array_number(const bise_gguf_kv *kv, uint64_t i)
{
    const unsigned size = scalar_bytes(kv->elem);
    if (kv->type != BISE_GGUF_ARRAY || !size || i >= kv->count)
        return 0;
    return load_number(kv->elem, kv->data + i * size, 0);
}

/* Put a value under key, its data copied; replaces the key in place. */
static void put(bise_gguf_meta *m, const char *key, const bise_gguf_kv *v)
{
    void *data = bise_arena_alloc(&m->arena, (size_t)v->bytes + 1);
    bise_gguf_kv *kv = find(m, key);
    if (!kv && data) {
        void *list = m->kv;
        if (bise_grow(&list, &m->cap, m->n + 1, sizeof *m->kv) == 0) {
            m->kv = list;
            char *name = bise_arena_strdup(&m->arena, key);
            if (name) {
                kv = &m->kv[m->n++];
                kv->key = name;
            }
        }
    }
    if (!kv || !data) {
        m->failed = true;
        return;
    }
    if (v->bytes)
        memcpy(data, v->data, (size_t)v->bytes);
    kv->type = v->type;
    kv->elem = v->elem;
    kv->count = v->count;
    kv->bytes = v->bytes;
    kv->data = data;
}

/* Put a scalar of the type's size from its low bytes. */
static void put_scalar(bise_gguf_meta *m, const char *key, bise_gguf_type t,
                       uint64_t bits)
{
    uint8_t data[8];
    bise_store_le64(data, bits);
    put(m, key, &(bise_gguf_kv){ .type = t, .count = 1, .data = data,
                                 .bytes = scalar_bytes(t) });
}

/* Used for split.no and split.count, which readers want as u16. */
void bise_gguf_set_u16(bise_gguf_meta *m, const char *key, uint16_t v)
{
    put_scalar(m, key, BISE_GGUF_U16, v);
}

/* The usual type of counts and sizes. */
void bise_gguf_set_u32(bise_gguf_meta *m, const char *key, uint32_t v)
{
    put_scalar(m, key, BISE_GGUF_U32, v);
}

/* For values that may be negative; stored as two's complement. */
void bise_gguf_set_i32(bise_gguf_meta *m, const char *key, int32_t v)
{
    put_scalar(m, key, BISE_GGUF_I32, (uint32_t)v);
}

/* For sizes above 4 GiB. */
void bise_gguf_set_u64(bise_gguf_meta *m, const char *key, uint64_t v)
{
    put_scalar(m, key, BISE_GGUF_U64, v);
}

/* Stored by its bits, NaN included. */
void bise_gguf_set_f32(bise_gguf_meta *m, const char *key, float v)
{
    put_scalar(m, key, BISE_GGUF_F32, bise_f32_bits(v));
}

/* One byte, 0 or 1. */
void bise_gguf_set_bool(bise_gguf_meta *m, const char *key, bool v)
{
    put_scalar(m, key, BISE_GGUF_BOOL, v);
}

/* Of a C string. */
void bise_gguf_set_str(bise_gguf_meta *m, const char *key, const char *v)
{
    bise_gguf_set_strn(m, key, v, strlen(v));
}

/* Of any bytes; GGUF strings may hold NULs. */
void bise_gguf_set_strn(bise_gguf_meta *m, const char *key, const char *v,
                        size_t n)
{
    put(m, key, &(bise_gguf_kv){ .type = BISE_GGUF_STR, .count = n,
                                 .data = (const uint8_t *)v, .bytes = n });
}

/* data may be NULL when n is 0. */
void bise_gguf_set_array(bise_gguf_meta *m, const char *key,
                         bise_gguf_type elem, const void *data, uint64_t n)
{
    put(m, key, &(bise_gguf_kv){ .type = BISE_GGUF_ARRAY, .elem = elem,
                                 .count = n, .data = data,
                                 .bytes = n * scalar_bytes(elem) });
}

/* The buffer may be used again for the next array. */
void bise_gguf_strings_begin(bise_str *buf)
{
    bise_str_clear(buf);
}

/* As in the file: length, then bytes. */
void bise_gguf_strings_add(bise_str *buf, const char *s, size_t n)
{
    uint8_t len[8];
    bise_store_le64(len, n);
    bise_str_add(buf, len, sizeof len);
    bise_str_add(buf, s, n);
}

/* A buffer that ran out of memory marks the list as failed, which the header
 * writer reports. */
void bise_gguf_set_strings(bise_gguf_meta *m, const char *key,
                           const bise_str *buf, uint64_t n)
{
    if (!bise_str_ok(buf))
        m->failed = true;
    put(m, key, &(bise_gguf_kv){ .type = BISE_GGUF_ARRAY,
                                 .elem = BISE_GGUF_STR, .count = n,
                                 .data = (const uint8_t *)buf->data,
                                 .bytes = buf->len });
}

/* The copy is independent of the list or file that kv is from. */
void bise_gguf_copy(bise_gguf_meta *m, const bise_gguf_kv *kv)
{
    put(m, kv->key, kv);
}

/* The value's memory stays in the arena until the list goes. */
void bise_gguf_remove(bise_gguf_meta *m, const char *key)
{
    bise_gguf_kv *kv = find(m, key);
    if (!kv)
        return;
    const size_t i = (size_t)(kv - m->kv);
    memmove(kv, kv + 1, (m->n - i - 1) * sizeof *kv);
    m->n--;
}

/* As llama-quantize reorders keys that it sets (gguf.md 1.5). */
void bise_gguf_to_end(bise_gguf_meta *m, const char *key)
{
    bise_gguf_kv *kv = find(m, key);
    if (!kv)
        return;
    const bise_gguf_kv copy = *kv;
    bise_gguf_remove(m, key);
    m->kv[m->n++] = copy;
}

/* Leaves an empty list that can be used again. */
void bise_gguf_meta_fini(bise_gguf_meta *m)
{
    bise_free(m->kv);
    bise_arena_fini(&m->arena);
    memset(m, 0, sizeof *m);
}
