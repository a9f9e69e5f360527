/* encode.h - the parts of encoding that byte-level and SentencePiece kinds
 * share, private to text/: a cache of chunks already encoded in this call,
 * and the byte-level encoder. A cache is of one call, so threads share
 * nothing and the ids do not depend on it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_ENCODE_H
#define BISE_TEXT_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

#define BISE_CHUNK_MAX 48 /* longer chunks are not kept */

/* A chunk seen before: where it stands in the text, and where its ids stand
 * in the output. */
typedef struct bise_chunk {
    const char *text;
    uint32_t len, hash;
    size_t at;
    uint32_t count;
} bise_chunk;

typedef struct bise_chunk_cache {
    bise_chunk *rows;  /* NULL: off */
    uint32_t mask;
} bise_chunk_cache;

/* A cache fit for n bytes of text; short texts go without. */
void bise_chunks_init(bise_chunk_cache *c, size_t n);
void bise_chunks_fini(bise_chunk_cache *c);

/* Copy the ids of a chunk seen before to the end of out: 1; 0 when it was
 * not; -1 when out of memory. */
static inline int bise_chunks_copy(const bise_chunk_cache *c, const char *text,
                                   size_t n, uint32_t hash, bise_ids *out);
/* Remember that the ids of a chunk stand at out->v[at..out->n). */
static inline void bise_chunks_keep(bise_chunk_cache *c, const char *text,
                                    size_t n, uint32_t hash, size_t at,
                                    const bise_ids *out);

/* Room for n more ids at the end of the list; NULL when out of memory. */
int32_t *bise_ids_room(bise_ids *ids, size_t n);

/* Append the ids of text (valid UTF-8) for the byte-level kinds. */
BISE_NODISCARD bise_status bise_bpe_encode(const bise_tokenizer *t,
                                           const char *text, size_t n,
                                           bise_ids *out, bise_error *err);

static inline int bise_chunks_copy(const bise_chunk_cache *c, const char *text,
                                   size_t n, uint32_t hash, bise_ids *out)
{
    if (!c->rows || n > BISE_CHUNK_MAX)
        return 0;
    const bise_chunk *r = &c->rows[hash & c->mask];
    if (r->hash != hash || r->len != n || !bise_same_bytes(r->text, text, n))
        return 0;
    /* Room first: it may move the list that the row points into. */
    int32_t *to = bise_ids_room(out, r->count);
    if (!to)
        return -1;
    const int32_t *from = out->v + r->at;
    for (uint32_t i = 0; i < r->count; i++)
        to[i] = from[i];
    out->n += r->count;
    return 1;
}

static inline void bise_chunks_keep(bise_chunk_cache *c, const char *text,
                                    size_t n, uint32_t hash, size_t at,
                                    const bise_ids *out)
{
    if (!c->rows || n > BISE_CHUNK_MAX)
        return;
    c->rows[hash & c->mask] = (bise_chunk){ text, (uint32_t)n, hash, at,
                                            (uint32_t)(out->n - at) };
}

#endif
