/* token_cache.c - write and map the token cache (layout in token_cache.h). The
 * index grows with the number of samples, so it is spooled to disk while the
 * samples are written and appended at the end.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/token_cache.h"

#include <stddef.h>
#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "formats/crypto.h"
#include "text/spool.h"

#define HEADER 256u
#define ENTRY 16u
#define MAGIC "BISETOK1"

/* Offsets of the header's fields. */
enum {
    AT_MAGIC = 0, AT_KEY = 8, AT_SHA = 72, AT_COUNT = 104, AT_INDEX = 112,
    AT_SOURCES = 120, AT_LONGEST = 124, AT_STATS = 128, AT_FORMAT = 192
};

struct bise_token_writer {
    bise_out *out;
    bise_spool *index;
    bise_sha256 *sha;
    uint64_t *counts; /* samples of each source */
    int32_t n_sources;
    uint64_t n;
    char key[65];
};

/* Write bytes that the checksum covers. */
static bise_status put(bise_token_writer *w, const void *data, size_t n,
                       bise_error *err)
{
    bise_sha256_add(w->sha, data, n);
    return bise_out_write(w->out, data, n, err);
}

/* The header is written as zeros first, and for good when all is known: a file
 * without it is no cache. */
bise_status bise_token_writer_new(bise_token_writer **out, const char *path,
                                  const char *key, int32_t n_sources,
                                  bise_error *err)
{
    static const uint8_t zero[HEADER];
    bise_token_writer *w = bise_alloc(sizeof *w);
    bise_status s = w ? BISE_OK : bise_fail_nomem(err);
    if (s != BISE_OK)
        return s;
    w->n_sources = n_sources;
    memcpy(w->key, key, 64);
    w->sha = bise_sha256_new();
    w->counts = bise_alloc_array((size_t)n_sources, sizeof *w->counts);
    if (!w->sha || !w->counts)
        s = bise_fail_nomem(err);
    if (s == BISE_OK)
        s = bise_spool_new(&w->index, NULL, err);
    if (s == BISE_OK)
        s = bise_out_open(&w->out, path, 0, true, err);
    if (s == BISE_OK)
        s = bise_out_write(w->out, zero, HEADER, err);
    if (s != BISE_OK) {
        bise_token_writer_drop(w);
        return s;
    }
    *out = w;
    return BISE_OK;
}

/* The index entry waits in the spool; ids and mask go straight to the file. */
bise_status bise_token_writer_add(bise_token_writer *w, int32_t source,
                                  const bise_row *row, bise_error *err)
{
    static const uint8_t zero[4];
    const size_t n = (size_t)row->n;
    uint8_t entry[ENTRY];
    int32_t trained = 0;
    for (int32_t i = 1; i < row->n; i++)
        trained += row->mask[i] != 0;
    bise_store_le64(entry, bise_out_tell(w->out));
    bise_store_le32(entry + 8, (uint32_t)row->n);
    bise_store_le32(entry + 12, (uint32_t)trained);
    bise_status s = bise_spool_add(w->index, entry, ENTRY, err);
    if (s == BISE_OK)       /* little-endian hosts: as it stands in memory */
        s = put(w, row->ids, n * sizeof *row->ids, err);
    if (s == BISE_OK)
        s = put(w, row->mask, n, err);
    if (s == BISE_OK && n % 4)
        s = put(w, zero, 4 - n % 4, err);
    w->counts[source]++;
    w->n++;
    return s;
}

/* Index and source counts behind the samples. */
static bise_status put_tail(bise_token_writer *w, bise_error *err)
{
    uint8_t buf[4096];
    size_t got = 1;
    bise_status s = bise_spool_rewind(w->index, err);
    while (s == BISE_OK && got) {
        s = bise_spool_read(w->index, buf, sizeof buf, &got, err);
        if (s == BISE_OK && got)
            s = put(w, buf, got, err);
    }
    for (int32_t i = 0; s == BISE_OK && i < w->n_sources; i++) {
        bise_store_le64(buf, w->counts[i]);
        s = put(w, buf, 8, err);
    }
    return s;
}

/* Statistics lie in the header in this order, eight bytes each. */
static void put_stats(uint8_t *h, const bise_dataset_stats *st)
{
    const uint64_t v[] = { st->rows, st->bad, st->no_target, st->truncated,
                           st->dropped, st->samples, st->tokens,
                           st->supervised };
    bise_store_le32(h + AT_LONGEST, (uint32_t)st->longest);
    for (size_t i = 0; i < 8; i++)
        bise_store_le64(h + AT_STATS + 8 * i, v[i]);
    memcpy(h + AT_FORMAT, st->format, sizeof st->format);
}

/* The same order. The format's text is ended here in any case: the header is
 * not covered by the checksum. */
static void get_stats(bise_dataset_stats *st, const uint8_t *h)
{
    uint64_t *const v[] = { &st->rows, &st->bad, &st->no_target,
                            &st->truncated, &st->dropped, &st->samples,
                            &st->tokens, &st->supervised };
    st->longest = (int32_t)bise_load_le32(h + AT_LONGEST);
    for (size_t i = 0; i < 8; i++)
        *v[i] = bise_load_le64(h + AT_STATS + 8 * i);
    memcpy(st->format, h + AT_FORMAT, sizeof st->format);
    st->format[sizeof st->format - 1] = 0;
}

/* Index, counts, checksum, header, rename: in this order, so that the name
 * appears only on a whole file. */
bise_status bise_token_writer_finish(bise_token_writer *w,
                                     const bise_dataset_stats *stats,
                                     bise_error *err)
{
    uint8_t h[HEADER] = { 0 };
    bise_store_le64(h + AT_COUNT, w->n);
    bise_store_le64(h + AT_INDEX, bise_out_tell(w->out));
    bise_store_le32(h + AT_SOURCES, (uint32_t)w->n_sources);
    memcpy(h + AT_MAGIC, MAGIC, 8);
    memcpy(h + AT_KEY, w->key, 64);
    put_stats(h, stats);
    bise_status s = put_tail(w, err);
    bise_sha256_finish(w->sha, h + AT_SHA);
    w->sha = NULL;
    if (s == BISE_OK)
        s = bise_out_patch(w->out, 0, h, HEADER, err);
    if (s == BISE_OK) {
        bise_out *out = w->out;
        w->out = NULL;
        s = bise_out_commit(out, err);
    }
    bise_token_writer_drop(w);
    return s;
}

/* Unlinks what was not committed. */
void bise_token_writer_drop(bise_token_writer *w)
{
    if (!w)
        return;
    bise_out_drop(w->out);
    bise_spool_close(w->index);
    bise_sha256_free(w->sha);
    bise_free(w->counts);
    bise_free(w);
}

/* The body must hash to what the header says. Pages are let go on the way. */
static bise_status check_sum(const bise_map *m, bise_error *err)
{
    const uint64_t step = 4u << 20;
    uint8_t got[32];
    bise_sha256 *sha = bise_sha256_new();
    if (!sha)
        return bise_fail_nomem(err);
    for (uint64_t at = HEADER; at < m->size; at += step) {
        const uint64_t n = m->size - at < step ? m->size - at : step;
        bise_sha256_add(sha, m->data + at, (size_t)n);
        bise_map_release(m->data + at, n);
    }
    bise_sha256_finish(sha, got);
    if (memcmp(got, m->data + AT_SHA, 32))
        return bise_fail_at(err, BISE_EFORMAT, AT_SHA,
                            "checksum of the token cache differs");
    return BISE_OK;
}

/* Header fields against the length of the file. */
static bise_status check_header(bise_token_cache *c, const char *key,
                                bise_error *err)
{
    const uint8_t *h = c->map.data;
    if (c->map.size < HEADER || memcmp(h, MAGIC, 8))
        return bise_fail_at(err, BISE_EFORMAT, 0, "not a token cache");
    if (memcmp(h + AT_KEY, key, 64))
        return bise_fail_at(err, BISE_EFORMAT, AT_KEY,
                            "token cache of other data");
    c->n = bise_load_le64(h + AT_COUNT);
    c->index = bise_load_le64(h + AT_INDEX);
    c->n_sources = (int32_t)bise_load_le32(h + AT_SOURCES);
    const uint64_t size = c->map.size;
    if (c->index < HEADER || c->index > size || c->index % 4 ||
        c->n_sources < 0 || c->n > (size - c->index) / ENTRY ||
        size - c->index - c->n * ENTRY != (uint64_t)c->n_sources * 8)
        return bise_fail_at(err, BISE_EFORMAT, AT_COUNT,
                            "%llu samples with an index at %llu do not fit "
                            "the file of %llu bytes", (unsigned long long)c->n,
                            (unsigned long long)c->index,
                            (unsigned long long)size);
    get_stats(&c->stats, h);
    return BISE_OK;
}

/* Every sample inside the body, every id inside the vocabulary. */
static bise_status check_rows(const bise_token_cache *c, int32_t vocab,
                              bise_error *err)
{
    for (uint64_t i = 0; i < c->n; i++) {
        const uint8_t *e = c->map.data + c->index + i * ENTRY;
        const uint64_t at = bise_load_le64(e), n = bise_load_le32(e + 8);
        bise_row row;
        if (at < HEADER || at % 4 || at > c->index || n < 2 ||
            n > INT32_MAX || n * 5 > c->index - at)
            return bise_fail_at(err, BISE_EFORMAT,
                                (int64_t)(c->index + i * ENTRY),
                                "sample %llu lies outside the token cache",
                                (unsigned long long)i);
        bise_token_cache_row(c, i, &row);
        for (int32_t k = 0; k < row.n; k++)
            if (row.ids[k] < 0 || row.ids[k] >= vocab)
                return bise_fail_at(err, BISE_EFORMAT, (int64_t)at,
                                    "id %d in the token cache, the "
                                    "vocabulary has %d", (int)row.ids[k],
                                    (int)vocab);
        if (i % 4096 == 4095)           /* behind us */
            bise_map_release(c->map.data, at);
    }
    uint64_t sum = 0;
    for (int32_t i = 0; i < c->n_sources; i++)
        sum += bise_token_cache_source(c, i);
    return sum == c->n ? BISE_OK :
           bise_fail(err, BISE_EFORMAT, "counts of the token cache differ");
}

/* Trust nothing: header, checksum, every row and id are checked before the
 * first sample is handed out. */
bise_status bise_token_cache_open(bise_token_cache *c, const char *path,
                                  const char *key, int32_t vocab,
                                  bise_error *err)
{
    bise_token_cache t = { 0 };
    bise_status s = bise_map_open(&t.map, path, err);
    if (s == BISE_OK)
        s = check_header(&t, key, err);
    if (s == BISE_OK)
        s = check_sum(&t.map, err);
    if (s == BISE_OK)
        s = check_rows(&t, vocab, err);
    if (s != BISE_OK) {
        bise_token_cache_close(&t);
        return bise_error_in(err, path, NULL);
    }
    *c = t;
    return BISE_OK;
}

/* Rows handed out are gone after this. */
void bise_token_cache_close(bise_token_cache *c)
{
    bise_map_close(&c->map);
    *c = (bise_token_cache) { 0 };
}

/* The mask follows the ids. */
void bise_token_cache_row(const bise_token_cache *c, uint64_t i, bise_row *row)
{
    const uint8_t *e = c->map.data + c->index + i * ENTRY;
    const uint8_t *p = c->map.data + bise_load_le64(e);
    row->n = (int32_t)bise_load_le32(e + 8);
    row->ids = (const int32_t *)(const void *)p;
    row->mask = p + (size_t)row->n * sizeof *row->ids;
}

/* One load from the index. */
int32_t bise_token_cache_len(const bise_token_cache *c, uint64_t i)
{
    return (int32_t)bise_load_le32(c->map.data + c->index + i * ENTRY + 8);
}

/* The counts stand behind the index; the caller keeps s below n_sources. */
uint64_t bise_token_cache_source(const bise_token_cache *c, int32_t s)
{
    return bise_load_le64(c->map.data + c->index + c->n * ENTRY +
                          (uint64_t)s * 8);
}
