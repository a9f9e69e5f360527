/* safetensors.c - read, check and write safetensors files (safetensors.h has
 * the layout). The reader follows the format's own rules: the header is an
 * object, every tensor's byte range equals its shape times its type, and the
 * ranges cover the data section without gap or overlap.
 * The header is parsed with duplicate keys refused, because which of two
 * entries a reader takes differs between implementations: a file could be one
 * model for a scanner and another one for an engine.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "formats/shape.h"

/* The format's own limit for the length of a header. */
#define HEADER_MAX UINT64_C(100000000)

/* What parsing needs besides the result. */
typedef struct parse {
    const uint8_t *image;
    uint64_t header_bytes, data_bytes; /* JSON text; data section */
    bise_error *err;
} parse;

/* Byte offset of a tensor's entry in the file, for messages only: where its
 * quoted name stands in the header text. */
static int64_t entry_offset(const parse *p, const char *name)
{
    const char *text = (const char *)p->image + 8;
    const size_t n = strlen(name);
    for (uint64_t i = 0; i + n + 2 <= p->header_bytes; i++)
        if (text[i] == '"' && text[i + n + 1] == '"' &&
            memcmp(text + i + 1, name, n) == 0)
            return (int64_t)(8 + i);
    return 8;
}

/* Record a fault in the entry of a tensor. */
static bise_status bad_entry(const parse *p, const char *name,
                             bise_status status, const char *text)
{
    bise_status s = bise_fail_at(p->err, status, entry_offset(p, name), "%s",
                                 text);
    return s = bise_error_in(p->err, NULL, name);
}

/* A JSON integer that is not negative; false for anything else. */
static bool whole(const bise_json *v, uint64_t *out)
{
    int64_t n;
    if (bise_json_typeof(v) != BISE_JSON_INT || !bise_json_integer(v, &n) ||
        n < 0)
        return false;
    *out = (uint64_t)n;
    return true;
}

/* At most 8 dimensions, each a whole number that is not negative. Real
 * checkpoints have at most 5 (convolutions over time). */
static bise_status parse_shape(const parse *p, bise_tensor *t,
                               const bise_json *shape)
{
    if (bise_json_typeof(shape) != BISE_JSON_ARRAY)
        return bad_entry(p, t->name, BISE_EFORMAT, "'shape' is not a list");
    if (bise_json_size(shape) > BISE_MAX_DIMS)
        return bad_entry(p, t->name, BISE_EUNSUPPORTED,
                         "shape has more than 8 dimensions");
    t->n_dims = (int)bise_json_size(shape);
    for (int i = 0; i < t->n_dims; i++)
        if (!whole(bise_json_at(shape, (size_t)i), &t->dims[i]))
            return bad_entry(p, t->name, BISE_EFORMAT,
                             "'shape' holds something else than sizes");
    return BISE_OK;
}

/* data_offsets = [begin, end): inside the data and as long as the shape. */
static bise_status parse_range(const parse *p, bise_tensor *t,
                               const bise_json *range)
{
    uint64_t begin, end;
    if (bise_json_size(range) != 2 || !whole(bise_json_at(range, 0), &begin) ||
        !whole(bise_json_at(range, 1), &end))
        return bad_entry(p, t->name, BISE_EFORMAT,
                         "'data_offsets' is not a pair of sizes");
    const int64_t at = entry_offset(p, t->name);
    bise_status s = BISE_OK;
    if (begin > end || end > p->data_bytes)
        s = bise_fail_at(p->err, BISE_EFORMAT, at,
                         "data at bytes %" PRIu64 " to %" PRIu64
                         " of a data section of %" PRIu64, begin, end,
                         p->data_bytes);
    else if (end - begin != t->bytes) {
        bise_str shape = { 0 };
        bise_shape_print(&shape, t);
        s = bise_fail_at(p->err, BISE_EFORMAT, at,
                         "%" PRIu64 " bytes of data, shape %s of %s needs %"
                         PRIu64, end - begin, bise_str_get(&shape),
                         bise_dtype_get(t->dtype)->name, t->bytes);
        bise_str_fini(&shape);
    }
    if (s != BISE_OK)
        return bise_error_in(p->err, NULL, t->name);
    t->offset = 8 + p->header_bytes + begin;
    t->data = p->image + t->offset;
    return BISE_OK;
}

/* One entry: {"dtype": D, "shape": [...], "data_offsets": [b, e]}. */
static bise_status parse_entry(const parse *p, bise_tensor *t,
                               const char *name, const bise_json *v)
{
    *t = (bise_tensor){ .name = name };
    if (bise_json_typeof(v) != BISE_JSON_OBJECT)
        return bad_entry(p, name, BISE_EFORMAT, "entry is not an object");
    const char *dtype = bise_json_string(bise_json_get(v, "dtype"), NULL);
    if (!dtype)
        return bad_entry(p, name, BISE_EFORMAT, "'dtype' is not a string");
    t->dtype = bise_dtype_by_safetensors(dtype);
    if (t->dtype == BISE_DTYPE_NONE) {
        bise_status s = bise_fail_at(p->err, BISE_EUNSUPPORTED,
                                     entry_offset(p, name),
                                     "unknown dtype '%s'", dtype);
        return s = bise_error_in(p->err, NULL, name);
    }
    bise_status s = parse_shape(p, t, bise_json_get(v, "shape"));
    if (s == BISE_OK)
        s = bise_shape_size(t, -1, p->err);
    if (s == BISE_OK)
        s = parse_range(p, t, bise_json_get(v, "data_offsets"));
    else if (p->err->offset < 0)
        p->err->offset = entry_offset(p, name);
    return s;
}

/* __metadata__: an object of strings. */
static bise_status check_meta(const parse *p, const bise_json *meta)
{
    if (bise_json_typeof(meta) != BISE_JSON_OBJECT)
        return bad_entry(p, "__metadata__", BISE_EFORMAT,
                         "metadata is not an object");
    for (void *it = bise_json_iter(meta, NULL); it;
         it = bise_json_iter(meta, it))
        if (!bise_json_string(bise_json_iter_value(it), NULL))
            return bad_entry(p, "__metadata__", BISE_EFORMAT,
                             "metadata value is not a string");
    return BISE_OK;
}

/* Order of the data; empty tensors before the one that starts there. */
static int by_offset(const void *pa, const void *pb)
{
    const bise_tensor *a = pa, *b = pb;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->bytes != b->bytes)                   /* empty ones come first */
        return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* The ranges, in order, must tile the data section exactly. */
static bise_status check_tiling(const bise_st *st, const parse *p)
{
    uint64_t at = 8 + p->header_bytes;
    const uint64_t end = at + p->data_bytes;
    for (size_t i = 0; i < st->n_tensors; i++) {
        const bise_tensor *t = &st->tensors[i];
        if (t->offset != at) {
            bise_status s = bise_fail_at(
                p->err, BISE_EFORMAT, (int64_t)t->offset,
                "%s of %" PRIu64 " bytes before this tensor",
                t->offset < at ? "overlap" : "gap",
                t->offset < at ? at - t->offset : t->offset - at);
            return s = bise_error_in(p->err, NULL, t->name);
        }
        at += t->bytes;
    }
    if (at != end)
        return bise_fail_at(p->err, BISE_EFORMAT, (int64_t)at,
                            "%" PRIu64 " bytes after the last tensor",
                            end - at);
    return BISE_OK;
}

/* Turn the header's members into tensors, sorted by position. */
static bise_status parse_tensors(bise_st *st, const parse *p)
{
    const size_t n = bise_json_size(st->header);
    st->tensors = bise_alloc_array(n + 1, sizeof *st->tensors);
    if (!st->tensors)
        return bise_fail_nomem(p->err);
    for (void *it = bise_json_iter(st->header, NULL); it;
         it = bise_json_iter(st->header, it)) {
        const char *name = bise_json_iter_key(it);
        bise_status s;
        if (strcmp(name, "__metadata__") == 0) {
            st->meta = bise_json_iter_value(it);
            s = check_meta(p, st->meta);
        } else
            s = parse_entry(p, &st->tensors[st->n_tensors++], name,
                            bise_json_iter_value(it));
        if (s != BISE_OK)
            return s;
    }
    qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_offset);
    if (bise_strmap_init(&st->names, st->n_tensors) != 0)
        return bise_fail_nomem(p->err);
    for (size_t i = 0; i < st->n_tensors; i++)
        if (bise_strmap_add(&st->names, st->tensors[i].name,
                            strlen(st->tensors[i].name), (uint32_t)i) < 0)
            return bise_fail_nomem(p->err);
    return check_tiling(st, p);
}

/* The header's length word and its JSON text. */
static bise_status parse_image(bise_st *st, const uint8_t *data, uint64_t size,
                               bise_error *err)
{
    if (size < 8)
        return bise_fail_at(err, BISE_EFORMAT, 0,
                            "file of %" PRIu64 " bytes has no header", size);
    const uint64_t len = bise_load_le64(data);
    if (len > size - 8)
        return bise_fail_at(err, BISE_EFORMAT, 0,
                            "header of %" PRIu64 " bytes in a file of %" PRIu64,
                            len, size);
    if (len > HEADER_MAX)
        return bise_fail_at(err, BISE_EFORMAT, 0,
                            "header of %" PRIu64 " bytes, at most %" PRIu64
                            " are allowed", len, HEADER_MAX);
    if (len < 2 || data[8] != '{')
        return bise_fail_at(err, BISE_EFORMAT, 8,
                            "header does not start with '{'");
    const parse p = { data, len, size - 8 - len, err };
    bise_status s = bise_json_parse(&st->header, (const char *)data + 8,
                                    (size_t)len, err);
    if (s != BISE_OK) {
        if (err->offset >= 0)
            err->offset += 8;                   /* position in the file */
        return s;
    }
    return parse_tensors(st, &p);
}

/* Nothing stays allocated on failure. */
bise_status bise_st_parse(bise_st *st, const void *data, uint64_t size,
                          bise_error *err)
{
    memset(st, 0, sizeof *st);
    const bise_status s = parse_image(st, data, size, err);
    if (s != BISE_OK)
        bise_st_close(st);
    return s;
}

/* As _parse on a mapping, which then belongs to st. */
bise_status bise_st_open(bise_st *st, const char *path, bise_error *err)
{
    bise_map map;
    memset(st, 0, sizeof *st);
    bise_status s = bise_map_open(&map, path, err);
    if (s != BISE_OK)
        return s;
    s = bise_st_parse(st, map.data, map.size, err);
    if (s != BISE_OK) {
        bise_map_close(&map);
        return bise_error_in(err, path, NULL);
    }
    st->map = map;
    return BISE_OK;
}

/* Safe on a zeroed or half-filled object, and twice. */
void bise_st_close(bise_st *st)
{
    if (!st)
        return;
    bise_map_close(&st->map);
    bise_free(st->tensors);
    bise_strmap_fini(&st->names);
    bise_json_free(st->header);
    memset(st, 0, sizeof *st);
}

/* Through the hash map of names. */
const bise_tensor *bise_st_find(const bise_st *st, const char *name)
{
    const uint32_t i = bise_strmap_find(&st->names, name, strlen(name));
    return i == BISE_STRMAP_NONE ? NULL : &st->tensors[i];
}

/* "__metadata__":{...}, with "format" added when it is missing. */
static void put_meta(bise_str *out, const bise_json *meta)
{
    bise_str_puts(out, "\"__metadata__\":{");
    const char *comma = "";
    if (!bise_json_get(meta, "format")) {
        bise_str_puts(out, "\"format\":\"pt\"");
        comma = ",";
    }
    for (void *it = bise_json_iter(meta, NULL); it;
         it = bise_json_iter(meta, it)) {
        size_t n = 0;
        const char *key = bise_json_iter_key(it);
        const char *v = bise_json_string(bise_json_iter_value(it), &n);
        bise_str_puts(out, comma);
        bise_str_put_json(out, key, strlen(key));
        bise_str_putc(out, ':');
        bise_str_put_json(out, v ? v : "", n);
        comma = ",";
    }
    bise_str_putc(out, '}');
}

/* One tensor's entry, its data at bytes [begin, begin + t->bytes). */
static void put_entry(bise_str *out, const bise_tensor *t, uint64_t begin)
{
    bise_str_putc(out, ',');
    bise_str_put_json(out, t->name, strlen(t->name));
    bise_str_printf(out, ":{\"dtype\":\"%s\",\"shape\":[",
                    bise_dtype_get(t->dtype)->safetensors);
    for (int i = 0; i < t->n_dims; i++)
        bise_str_printf(out, "%s%" PRIu64, i ? "," : "", t->dims[i]);
    bise_str_printf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                    begin, begin + t->bytes);
}

/* The data must start at a multiple of 8, for which the header is filled
 * with blanks, as Python's safetensors does. */
bise_status bise_st_header(bise_str *out, const bise_json *meta,
                           bise_tensor *tensors, size_t n,
                           uint64_t *data_bytes, bise_error *err)
{
    static const char blank[8] = "       ";
    const size_t start = out->len;
    uint64_t at = 0;
    bise_str_add(out, blank, 8);                /* the length, filled below */
    bise_str_putc(out, '{');
    put_meta(out, meta);
    for (size_t i = 0; i < n; i++) {
        bise_tensor *t = &tensors[i];
        if (!bise_dtype_get(t->dtype)->safetensors) {
            bise_status s = bise_fail(err, BISE_EUNSUPPORTED,
                                      "safetensors has no type %s",
                                      bise_dtype_get(t->dtype)->name);
            return s = bise_error_in(err, NULL, t->name);
        }
        const bise_status s = bise_shape_size(t, -1, err);
        if (s != BISE_OK)
            return s;
        put_entry(out, t, at);
        t->offset = at;
        at += t->bytes;
    }
    bise_str_putc(out, '}');
    while ((out->len - start) % 8 && bise_str_ok(out))
        bise_str_putc(out, ' ');
    if (!bise_str_ok(out))
        return bise_fail_nomem(err);
    bise_store_le64(out->data + start, out->len - start - 8);
    *data_bytes = at;
    return BISE_OK;
}

/* Header and data through a partial file; for adapters, optimizer states and
 * other files whose tensors are in memory anyway. */
bise_status bise_st_save(const char *path, const bise_json *meta,
                         const bise_tensor *tensors, size_t n,
                         bise_error *err)
{
    bise_str head = { 0 };
    uint64_t bytes = 0;
    bise_out *o = NULL;
    bise_tensor *copy = bise_alloc_array(n + 1, sizeof *copy);
    if (!copy)
        return bise_fail_nomem(err);
    if (n)
        memcpy(copy, tensors, n * sizeof *copy);
    bise_status s = bise_st_header(&head, meta, copy, n, &bytes, err);
    if (s == BISE_OK)
        s = bise_out_open(&o, path, head.len + bytes, true, err);
    if (s == BISE_OK)
        s = bise_out_write(o, head.data, head.len, err);
    for (size_t i = 0; s == BISE_OK && i < n; i++)
        s = bise_out_write(o, tensors[i].data, (size_t)copy[i].bytes, err);
    if (s == BISE_OK)
        s = bise_out_commit(o, err);
    else
        bise_out_drop(o);
    bise_str_fini(&head);
    bise_free(copy);
    return s;
}
