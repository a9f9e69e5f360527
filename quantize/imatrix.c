/* imatrix.c - see imatrix.h. GGUF form: tensors W.in_sum2 [ne0, n_mat] and
 * W.counts [1, n_mat] in F32, sorted by name, and three imatrix.* keys. Legacy
 * form: i32 n; per entry i32 length, name, i32 calls, i32 n, n floats (mean
 * times calls); then i32 chunks, i32 length, dataset.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "quantize/imatrix.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/file.h"
#include "formats/gguf.h"

#define SUMS ".in_sum2"
#define COUNTS ".counts"

/* Sizes come from files: the product is bounded before it is multiplied.
 * The list may move, so earlier entry pointers die. */
bise_imatrix_entry *bise_imatrix_add(bise_imatrix *m, const char *name,
                                     uint64_t cols, uint64_t n_mat)
{
    void *v = m->entries;
    if (cols == 0 || n_mat == 0 || cols > SIZE_MAX / 4 / n_mat ||
        bise_grow(&v, &m->cap, m->n + 1, sizeof *m->entries) != 0)
        return NULL;
    m->entries = v;
    bise_imatrix_entry *e = &m->entries[m->n];
    *e = (bise_imatrix_entry){
        .name = bise_arena_strdup(&m->arena, name),
        .cols = cols, .n_mat = n_mat,
        .sums = bise_arena_alloc(&m->arena, (size_t)(cols * n_mat) * 4),
        .counts = bise_arena_alloc(&m->arena, (size_t)n_mat * 4),
    };
    if (!e->name || !e->sums || !e->counts)
        return NULL;
    m->n++;
    return e;
}

/* The old list stays in the arena: there are few texts. */
int bise_imatrix_add_dataset(bise_imatrix *m, const char *name, size_t n)
{
    char **list = bise_arena_alloc(&m->arena,
                                   (m->n_datasets + 1) * sizeof *list);
    char *copy = bise_arena_strndup(&m->arena, name, n);
    if (!list || !copy)
        return -1;
    if (m->n_datasets)
        memcpy(list, m->datasets, m->n_datasets * sizeof *list);
    list[m->n_datasets] = copy;
    m->datasets = list;
    m->n_datasets++;
    return 0;
}

/* Linear; asked once for each tensor of a model. */
const bise_imatrix_entry *bise_imatrix_find(const bise_imatrix *m,
                                            const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->entries[i].name, name) == 0)
            return &m->entries[i];
    return NULL;
}

/* An expert that saw no token counts every column alike. */
const float *bise_imatrix_weights(const bise_imatrix_entry *e, bise_arena *a)
{
    float *w = bise_arena_alloc(a, (size_t)(e->cols * e->n_mat) * sizeof *w);
    for (uint64_t k = 0; w && k < e->n_mat; k++)
        for (uint64_t i = 0; i < e->cols; i++)
            w[k * e->cols + i] = e->counts[k] > 0
                                     ? e->sums[k * e->cols + i] / e->counts[k]
                                     : 1.0f;
    return w;
}

/* Values live in the arena. */
void bise_imatrix_fini(bise_imatrix *m)
{
    bise_free(m->entries);
    bise_arena_fini(&m->arena);
    memset(m, 0, sizeof *m);
}

/* A negative or non-finite sum would poison every block of its tensor:
 * refused, as the reference does. */
static bise_status check_values(const bise_imatrix *m, bise_error *err)
{
    for (size_t i = 0; i < m->n; i++) {
        const bise_imatrix_entry *e = &m->entries[i];
        for (uint64_t k = 0; k < e->cols * e->n_mat; k++) {
            if (isfinite(e->sums[k]) && e->sums[k] >= 0)
                continue;
            bise_status s = bise_fail(err, BISE_EFORMAT,
                                      "importance of column %" PRIu64
                                      " is %g, not a finite sum of squares",
                                      k % e->cols, (double)e->sums[k]);
            s = bise_error_in(err, NULL, e->name);
            return s;
        }
    }
    return BISE_OK;
}

/* ---- GGUF ---- */

/* A pair of tensors of one weight. */
static bise_status read_pair(bise_imatrix *m, const bise_gguf *g,
                             const bise_tensor *sums, bise_error *err)
{
    char name[256], counts_name[256];
    const size_t n = strlen(sums->name) - strlen(SUMS);
    if (n == 0 || n >= sizeof name - sizeof COUNTS)
        return bise_fail(err, BISE_EFORMAT, "name of %zu bytes", n);
    memcpy(name, sums->name, n);
    name[n] = 0;
    memcpy(counts_name, name, n);
    memcpy(counts_name + n, COUNTS, sizeof COUNTS);
    const bise_tensor *counts = bise_gguf_find(g, counts_name);
    const uint64_t cols = bise_tensor_cols(sums);
    const uint64_t n_mat = bise_tensor_rows(sums);
    if (!counts || sums->dtype != BISE_DTYPE_F32 ||
        counts->dtype != BISE_DTYPE_F32 || bise_tensor_count(counts) != n_mat) {
        bise_status s = bise_fail_at(err, BISE_EFORMAT, (int64_t)sums->offset,
                                     "'%s' must be F32 with one value for "
                                     "each of %" PRIu64 " matrices",
                                     counts_name, n_mat);
        s = bise_error_in(err, NULL, name);
        return s;
    }
    bise_imatrix_entry *e = bise_imatrix_add(m, name, cols, n_mat);
    if (!e)
        return bise_fail_nomem(err);
    memcpy(e->sums, sums->data, (size_t)(cols * n_mat) * 4);
    for (uint64_t k = 0; k < n_mat; k++) {
        memcpy(&e->counts[k], (const uint8_t *)counts->data + 4 * k, 4);
        e->counts[k] = rintf(e->counts[k]);
    }
    return BISE_OK;
}

/* All three keys must be there, else llama-quantize refuses the file too.
 * Tensors that are not sums are looked up through their sums. */
static bise_status read_gguf(bise_imatrix *m, const char *path,
                             bise_error *err)
{
    bise_gguf g;
    bise_status s = bise_gguf_open(&g, path, err);
    if (s != BISE_OK)
        return s;
    const bise_gguf_kv *sets = bise_gguf_get(&g.meta, "imatrix.datasets");
    const int64_t chunks = bise_gguf_int(&g.meta, "imatrix.chunk_count", -1);
    const int64_t size = bise_gguf_int(&g.meta, "imatrix.chunk_size", -1);
    if (!sets || chunks < 0 || size < 0)
        s = bise_fail(err, BISE_EFORMAT, "not an imatrix: key '%s' is missing",
                      !sets ? "imatrix.datasets"
                      : chunks < 0 ? "imatrix.chunk_count"
                                   : "imatrix.chunk_size");
    m->chunks = (uint32_t)chunks;
    m->chunk_size = (uint32_t)size;
    uint64_t at = 0;
    size_t len = 0;
    const char *name;
    while (s == BISE_OK && sets->type == BISE_GGUF_ARRAY &&
           sets->elem == BISE_GGUF_STR &&
           (name = bise_gguf_array_next(sets, &at, &len)) != NULL)
        if (bise_imatrix_add_dataset(m, name, len) != 0)
            s = bise_fail_nomem(err);
    for (size_t i = 0; i < g.n_tensors && s == BISE_OK; i++)
        if (bise_ends_with(g.tensors[i].name, SUMS))
            s = read_pair(m, &g, &g.tensors[i], err);
    bise_gguf_close(&g);
    return s;
}

/* Bytewise, as the reference writer sorts. */
static int by_name(const void *a, const void *b)
{
    const bise_imatrix_entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Pointers, because entries are borrowed. */
static const bise_imatrix_entry **sorted(const bise_imatrix *m)
{
    const bise_imatrix_entry **list =
        bise_alloc_array(m->n + 1, sizeof *list);
    for (size_t i = 0; list && i < m->n; i++)
        list[i] = &m->entries[i];
    if (list)
        qsort(list, m->n, sizeof *list, by_name);
    return list;
}

/* No general.architecture: an imatrix is not a model. */
static void gguf_keys(bise_gguf_meta *meta, const bise_imatrix *m)
{
    bise_str sets = { 0 };
    bise_gguf_set_str(meta, "general.type", "imatrix");
    bise_gguf_strings_begin(&sets);
    for (size_t i = 0; i < m->n_datasets; i++)
        bise_gguf_strings_add(&sets, m->datasets[i], strlen(m->datasets[i]));
    bise_gguf_set_strings(meta, "imatrix.datasets", &sets, m->n_datasets);
    bise_gguf_set_u32(meta, "imatrix.chunk_count", m->chunks);
    bise_gguf_set_u32(meta, "imatrix.chunk_size", m->chunk_size);
    bise_str_fini(&sets);
}

/* Names of both tensors of each entry: ".counts" sorts before ".in_sum2". */
static bise_status gguf_tensors(bise_tensor *t, bise_arena *a,
                                const bise_imatrix_entry *const *list,
                                size_t n, bise_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const bise_imatrix_entry *e = list[i];
        const size_t len = strlen(e->name) + sizeof SUMS;
        char *counts = bise_arena_alloc(a, len), *sums = bise_arena_alloc(a,
                                                                          len);
        if (!counts || !sums)
            return bise_fail_nomem(err);
        snprintf(counts, len, "%s" COUNTS, e->name);
        snprintf(sums, len, "%s" SUMS, e->name);
        t[2 * i] = (bise_tensor){ .name = counts, .dtype = BISE_DTYPE_F32,
                                  .n_dims = 2, .dims = { e->n_mat, 1 },
                                  .data = e->counts };
        t[2 * i + 1] = (bise_tensor){ .name = sums, .dtype = BISE_DTYPE_F32,
                                      .n_dims = 2,
                                      .dims = { e->n_mat, e->cols },
                                      .data = e->sums };
    }
    return BISE_OK;
}

/* Through the common header writer, which places and pads; the data follows
 * in the same order. */
static bise_status write_gguf(const bise_imatrix *m, bise_out *o,
                              bise_error *err)
{
    bise_gguf_meta meta = { 0 };
    bise_arena names = { 0 };
    bise_str head = { 0 };
    uint64_t data = 0;
    const bise_imatrix_entry **list = sorted(m);
    bise_tensor *t = bise_alloc_array(2 * m->n + 1, sizeof *t);
    bise_status s = !list || !t ? bise_fail_nomem(err)
                                : gguf_tensors(t, &names, list, m->n, err);
    gguf_keys(&meta, m);
    if (s == BISE_OK)
        s = meta.failed ? bise_fail_nomem(err)
                        : bise_gguf_header(&head, &meta, t, 2 * m->n, &data,
                                           err);
    if (s == BISE_OK)
        s = bise_out_write(o, head.data, head.len, err);
    for (size_t i = 0; i < 2 * m->n && s == BISE_OK; i++) {
        s = bise_out_write(o, t[i].data, (size_t)t[i].bytes, err);
        if (s == BISE_OK)
            s = bise_out_pad(o, BISE_GGUF_ALIGNMENT, err);
    }
    bise_str_fini(&head);
    bise_gguf_meta_fini(&meta);
    bise_arena_fini(&names);
    bise_free(list);
    bise_free(t);
    return s;
}

/* ---- legacy .dat ---- */

typedef struct cursor {
    const uint8_t *data;
    uint64_t size, at;
} cursor;

/* Take a little-endian i32; false at the end of the file. */
static bool take_i32(cursor *c, int32_t *v)
{
    if (c->size - c->at < 4)
        return false;
    *v = (int32_t)bise_load_le32(c->data + c->at);
    c->at += 4;
    return true;
}

/* The old form has no magic, so every fault means "this is something else". */
static bise_status dat_fault(const cursor *c, const char *what,
                             bise_error *err)
{
    return bise_fail_at(err, BISE_EFORMAT, (int64_t)c->at,
                        "not an imatrix: %s", what);
}

/* Every length is checked against the rest of the file before it is used.
 * Values are means times calls; calls are kept as the count, so that
 * weights come out as the mean. */
static bise_status read_dat_entry(bise_imatrix *m, cursor *c, bise_error *err)
{
    int32_t len, calls, n;
    char name[256];
    if (!take_i32(c, &len) || len <= 0 || len >= (int32_t)sizeof name ||
        c->size - c->at < (uint64_t)len ||
        memchr(c->data + c->at, 0, (size_t)len))
        return dat_fault(c, "length of a name", err);
    memcpy(name, c->data + c->at, (size_t)len);
    name[len] = 0;
    c->at += (uint64_t)len;
    if (!take_i32(c, &calls) || !take_i32(c, &n) || n <= 0 ||
        (c->size - c->at) / 4 < (uint64_t)n)
        return dat_fault(c, "number of values", err);
    bise_imatrix_entry *e = bise_imatrix_add(m, name, (uint64_t)n, 1);
    if (!e)
        return bise_fail_nomem(err);
    memcpy(e->sums, c->data + c->at, (size_t)n * 4);
    e->counts[0] = calls > 0 ? (float)calls : 1.0f;
    c->at += (uint64_t)n * 4;
    return BISE_OK;
}

/* An entry takes at least 16 bytes, which bounds the number of entries. */
static bise_status read_dat(bise_imatrix *m, const char *path, bise_error *err)
{
    bise_map map;
    bise_status s = bise_map_open(&map, path, err);
    if (s != BISE_OK)
        return s;
    cursor c = { map.data, map.size, 0 };
    int32_t n = 0, chunks = 0, len = 0;
    if (!take_i32(&c, &n) || n < 1 || (uint64_t)n > map.size / 16)
        s = dat_fault(&c, "neither GGUF nor a number of entries", err);
    for (int32_t i = 0; i < n && s == BISE_OK; i++)
        s = read_dat_entry(m, &c, err);
    /* The trailer came later: old files end here. */
    if (s == BISE_OK && take_i32(&c, &chunks) && take_i32(&c, &len) &&
        len > 0 && map.size - c.at >= (uint64_t)len &&
        bise_imatrix_add_dataset(m, (const char *)c.data + c.at,
                                 (size_t)len) != 0)
        s = bise_fail_nomem(err);
    m->chunks = chunks > 0 ? (uint32_t)chunks : 0;
    m->chunk_size = 512;
    bise_map_close(&map);
    return s;
}

/* Little-endian, as the format's only readers assume. */
static bise_status put_i32(bise_out *o, int64_t v, bise_error *err)
{
    uint8_t b[4];
    bise_store_le32(b, (uint32_t)v);
    return bise_out_write(o, b, sizeof b, err);
}

/* calls = ceil(most rows / chunk size), the reference's rule; columns of an
 * expert without rows become calls, whose mean is 1. */
static bise_status write_dat_entry(bise_out *o, const bise_imatrix_entry *e,
                                   uint32_t chunk_size, bise_error *err)
{
    float most = 0;
    for (uint64_t k = 0; k < e->n_mat; k++)
        most = e->counts[k] > most ? e->counts[k] : most;
    const float calls = ceilf(most / (float)(chunk_size ? chunk_size : 512));
    const size_t len = strlen(e->name);
    bise_status s = put_i32(o, (int64_t)len, err);
    if (s == BISE_OK)
        s = bise_out_write(o, e->name, len, err);
    if (s == BISE_OK)
        s = put_i32(o, (int64_t)calls, err);
    if (s == BISE_OK)
        s = put_i32(o, (int64_t)(e->cols * e->n_mat), err);
    for (uint64_t i = 0; i < e->cols * e->n_mat && s == BISE_OK; i++) {
        const float count = e->counts[i / e->cols];
        const float v = count > 0 ? e->sums[i] / count * calls : calls;
        s = bise_out_write(o, &v, sizeof v, err);
    }
    return s;
}

/* The trailer has room for one data set: the first. */
static bise_status write_dat(const bise_imatrix *m, bise_out *o,
                             bise_error *err)
{
    const bise_imatrix_entry **list = sorted(m);
    bise_status s = list ? put_i32(o, (int64_t)m->n, err)
                         : bise_fail_nomem(err);
    for (size_t i = 0; i < m->n && s == BISE_OK; i++)
        s = write_dat_entry(o, list[i], m->chunk_size, err);
    const char *set = m->n_datasets ? m->datasets[0] : "";
    if (s == BISE_OK)
        s = put_i32(o, m->chunks, err);
    if (s == BISE_OK)
        s = put_i32(o, (int64_t)strlen(set), err);
    if (s == BISE_OK)
        s = bise_out_write(o, set, strlen(set), err);
    bise_free(list);
    return s;
}

/* ---- both ---- */

/* The form is told by the first four bytes; a wrong guess cannot happen,
 * because an old file that began with "GGUF" would hold 1.2 billion
 * entries. */
bise_status bise_imatrix_load(bise_imatrix *m, const char *path,
                              bise_error *err)
{
    char magic[4] = { 0 };
    bise_map map;
    bise_status s = bise_map_open(&map, path, err);
    if (s != BISE_OK)
        return s;
    if (map.size >= 4)
        memcpy(magic, map.data, 4);
    bise_map_close(&map);
    s = memcmp(magic, "GGUF", 4) == 0 ? read_gguf(m, path, err)
                                      : read_dat(m, path, err);
    if (s == BISE_OK)
        s = check_values(m, err);
    if (s == BISE_OK && m->n == 0)
        s = bise_fail(err, BISE_EFORMAT, "the imatrix has no entries");
    if (s != BISE_OK) {
        s = bise_error_in(err, path, NULL);
        bise_imatrix_fini(m);
    }
    return s;
}

/* Through .part and rename like every output. */
bise_status bise_imatrix_save(const bise_imatrix *m, const char *path,
                              bool force, bise_error *err)
{
    bise_out *o = NULL;
    bise_status s = bise_out_open(&o, path, 0, force, err);
    if (s != BISE_OK)
        return s;
    s = bise_ends_with(path, ".dat") ? write_dat(m, o, err)
                                     : write_gguf(m, o, err);
    if (s != BISE_OK) {
        bise_out_drop(o);
        return s;
    }
    return bise_out_commit(o, err);
}
