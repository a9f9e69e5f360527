/* vocabulary.c - embeddings and heads with more or fewer rows: for tokens that
 * were added to a tokenizer, for adapters trained with such tokens, for padding
 * that another program needs or left behind. Only whole rows at the end come
 * and go; every id keeps its row.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "convert/convert.h"
#include "core/str.h"
#include "text/tokenizer.h"

/* Golden and speed-test checkpoints have none, which is allowed. */
bool bise_vocabulary_has_tokenizer(const bise_store *s)
{
    if (bise_store_has_file(s, "tekken.json") ||
        bise_store_has_file(s, "tokenizer.json"))
        return true;
    for (size_t i = 0; i < bise_store_file_count(s); i++)
        if (bise_starts_with(bise_store_file_at(s, i), "tokenizer.model"))
            return true;
    return false;
}

/* Ids of the tokenizer beside the weights; 0 when there is none. */
static bise_status count_ids(int32_t *ids, const bise_checkpoint *c,
                             const bise_progress *progress, bise_error *err)
{
    bise_tokenizer *t = NULL;
    *ids = 0;
    if (!bise_vocabulary_has_tokenizer(c->store))
        return BISE_OK;
    const bise_status s = bise_tokenizer_open(&t, c->store, progress, err);
    if (s == BISE_OK)
        *ids = bise_tokenizer_vocab(t);
    bise_tokenizer_free(t);
    return s;
}

/* A rounded-up number such as 131200 keeps tensor cores busy; a cut below the
 * tokenizer's would make texts that the model cannot look up. */
bise_status bise_vocabulary_settle(int32_t *rows, const bise_checkpoint *c,
                                   const char *text,
                                   const bise_progress *progress,
                                   bise_error *err)
{
    int32_t ids = 0;
    char *end = NULL;
    *rows = 0;
    if (!text)
        return BISE_OK;
    if (c->names == BISE_NAMES_GGUF) {
        err->status = bise_fail(err, BISE_EUNSUPPORTED, "the vocabulary of a "
                                "GGUF is not resized");
        return bise_error_hint(err, "convert it to a directory first");
    }
    const bise_status s = count_ids(&ids, c, progress, err);
    if (s != BISE_OK)
        return s;
    const bool named = strcmp(text, "tokenizer") == 0;
    const long n = named ? ids : strtol(text, &end, 10);
    if (named && ids == 0)
        return bise_fail(err, BISE_EINVAL, "--vocab-size tokenizer: there is "
                         "no tokenizer beside the weights");
    if (n < 1 || n > 1 << 24 || (!named && *end))
        return bise_fail(err, BISE_EINVAL, "--vocab-size '%s' is not a number "
                         "of rows (1 to %d) or 'tokenizer'", text, 1 << 24);
    if (n < ids) {
        err->status = bise_fail(err, BISE_EINVAL, "--vocab-size %ld would cut "
                                "off ids of the tokenizer, which has %d", n,
                                (int)ids);
        return bise_error_hint(err, "%d is the smallest size", (int)ids);
    }
    *rows = (int32_t)n;
    if (n != c->config.V)
        bise_progress_say(progress, "embedding and head: %d rows %s %ld%s",
                          (int)c->config.V,
                          n > c->config.V ? "padded to" : "cut to", n,
                          n > c->config.V ? " with zeros" : "");
    return BISE_OK;
}

/* One row of zeros, repeated: a stack of pointers to it, not of copies. */
static const bise_stream *padded(bise_plan *p, const bise_stream *s,
                                 uint64_t rows)
{
    const uint64_t cols = bise_stream_cols(s);
    const size_t n = (size_t)(rows - bise_stream_rows(s)) + 1;
    float *zeros = bise_arena_alloc(&p->arena, (size_t)cols * sizeof *zeros);
    const bise_stream **parts = bise_arena_alloc(&p->arena, n * sizeof *parts);
    if (!zeros || !parts)
        return NULL;
    memset(zeros, 0, (size_t)cols * sizeof *zeros);
    const bise_stream *row = bise_stream_memory(&p->arena, zeros, 1, cols);
    parts[0] = s;
    for (size_t i = 1; i < n; i++)
        parts[i] = row;
    return row ? bise_stream_stack(&p->arena, parts, n) : NULL;
}

/* The base for merge reports has other rows now, so it is dropped. */
bise_status bise_vocabulary_resize(bise_plan *p, int32_t rows, bise_error *err)
{
    for (size_t i = 0; rows > 0 && i < p->n; i++) {
        bise_plan_tensor *t = &p->tensors[i];
        const uint64_t want = (uint64_t)rows, have = t->dims[0];
        if ((t->role.kind != BISE_ROLE_EMBED &&
             t->role.kind != BISE_ROLE_HEAD) || have == want)
            continue;
        t->stream = have < want
                        ? padded(p, t->stream, want)
                        : bise_stream_slice(&p->arena, t->stream, 0, want);
        t->dims[0] = want;
        t->base = NULL;
        if (!t->stream)
            return bise_fail_nomem(err);
    }
    return BISE_OK;
}
