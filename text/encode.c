/* encode.c - the byte-level encoder: cut the text into chunks, take a chunk
 * that is a token as it is, merge the bytes of any other. Called by
 * tokenizer.c with valid UTF-8.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/encode.h"

#include "core/mem.h"
#include "text/vocab.h"

#define CACHE_FROM 2048      /* bytes of text from which a cache pays */
#define CACHE_ROWS 16384u

/* The table is as large as the text can fill, up to 16,384 rows, which stay
 * in the second-level cache of the processor. */
void bise_chunks_init(bise_chunk_cache *c, size_t n)
{
    uint32_t rows = 256;
    *c = (bise_chunk_cache){ 0 };
    if (n < CACHE_FROM)
        return;
    while (rows < CACHE_ROWS && rows < n / 16)
        rows *= 2;
    /* Without memory there is no cache, and the ids are the same. */
    c->rows = bise_alloc_array(rows, sizeof *c->rows);
    c->mask = rows - 1;
}

/* Release the table; it points into the text and must not outlive the call
 * that made it. */
void bise_chunks_fini(bise_chunk_cache *c)
{
    bise_free(c->rows);
    c->rows = NULL;
}

/* Grows by doubling through bise_grow. The caller writes up to n ids there
 * and adds to ids->n what it really wrote. */
int32_t *bise_ids_room(bise_ids *ids, size_t n)
{
    if (ids->n + n > ids->cap) {
        void *v = ids->v;
        if (bise_grow(&v, &ids->cap, ids->n + n, sizeof *ids->v) != 0)
            return NULL;
        ids->v = v;
    }
    return ids->v + ids->n;
}

/* Bytes to ids; a vocabulary that lacks one gives its unknown id, if any.
 * Tekken files have all 256 bytes, so the unknown id appears only with
 * foreign vocabularies. */
static size_t bytes_to_ids(const bise_tokenizer *t, const char *text, size_t n,
                           int32_t *ids)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t id = t->byte_id[(uint8_t)text[i]];
        ids[count] = id >= 0 ? id : t->unk;
        count += id >= 0 || t->unk >= 0;
    }
    return count;
}

/* Merge the bytes of one chunk onto the end of out. Short chunks start from
 * the table of byte pairs, which saves a lookup in the large table for each
 * of their bytes. */
static bise_status merge_chunk(const bise_tokenizer *t, const char *text,
                               size_t n, bise_ids *out, bise_error *err)
{
    int32_t *ids = bise_ids_room(out, n);
    if (!ids)
        return bise_fail_nomem(err);
    size_t count = bytes_to_ids(t, text, n, ids);
    if (count == n && n <= BISE_MERGE_SHORT) {
        const uint8_t *s = (const uint8_t *)text;
        bise_merge_to to[BISE_MERGE_SHORT];
        for (size_t i = 0; i + 1 < n; i++)
            to[i] = t->byte_pairs[s[i] << 8 | s[i + 1]];
        out->n += bise_merge_scan(&t->merges, ids, to, n);
        return BISE_OK;
    }
    const bise_status s = bise_merge(&t->merges, ids, &count, err);
    if (s == BISE_OK)
        out->n += count;
    return s;
}

/* One chunk: seen before, a token as a whole, or merged. Most chunks of a
 * text are words seen before, then words that are tokens; only the rest is
 * merged. */
static inline bise_status encode_chunk(const bise_tokenizer *t,
                                       bise_chunk_cache *cache,
                                       const char *text, size_t n,
                                       bise_ids *out, bise_error *err)
{
    const uint32_t hash = bise_hash_bytes(text, n);
    const int rc = bise_chunks_copy(cache, text, n, hash, out);
    if (rc)
        return rc > 0 ? BISE_OK : bise_fail_nomem(err);
    const size_t at = out->n;
    const int32_t id = t->ignore_merges ? bise_vocab_find(t, text, n, hash)
                                        : -1;
    bise_status s = BISE_OK;
    if (id < 0)
        s = merge_chunk(t, text, n, out, err);
    else if (bise_ids_push(out, id) != 0)
        s = bise_fail_nomem(err);
    if (s == BISE_OK)
        bise_chunks_keep(cache, text, n, hash, at, out);
    return s;
}

/* Chunks are independent of each other: the ids of the text are those of its
 * chunks in a row. */
bise_status bise_bpe_encode(const bise_tokenizer *t, const char *text,
                            size_t n, bise_ids *out, bise_error *err)
{
    bise_split_cursor c;
    bise_chunk_cache cache;
    size_t from, to;
    int rc;
    bise_status s = bise_split_begin(&c, t->split, text, n, err);
    if (s != BISE_OK)
        return s;
    bise_chunks_init(&cache, n);
    while (s == BISE_OK && (rc = bise_split_next(&c, &from, &to)) != 0) {
        if (rc < 0)
            s = bise_fail_at(err, BISE_EUNSUPPORTED, (int64_t)c.at,
                             "split pattern exceeds its limits on this text");
        else
            s = encode_chunk(t, &cache, text + from, to - from, out, err);
    }
    bise_chunks_fini(&cache);
    bise_split_end(&c);
    return s;
}
