/* dataset.c - from data files to numbered samples: a key over content,
 * tokenizer and settings names the token cache; a cache that fits is mapped,
 * otherwise all rows are scanned into a new one. Called by the trainer and by
 * evaluation.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "formats/crypto.h"
#include "text/scan.h"
#include "text/token_cache.h"

#define CACHE_VERSION 2 /* raise when the same input gives other samples */
#define COPY_BYTES (8u << 20) /* of a token cache, resident at once */

struct bise_dataset {
    bise_token_cache cache;
    bise_dataset_source *sources;
    char digest[65];
};

/* State of writing the cache. */
typedef struct building {
    const bise_dataset_options *o;
    bise_token_writer *writer;
    bise_dataset_stats stats;
} building;

/* A name is in the list when it stands between separators, not as a part of
 * another name. */
void bise_dataset_note_format(bise_dataset_stats *st, const char *name)
{
    const size_t used = strlen(st->format), n = strlen(name);
    for (const char *p = st->format; (p = strstr(p, name)); p++)
        if ((p == st->format || p[-1] == ' ') && (!p[n] || p[n] == ','))
            return;
    if (used + n + 3 < sizeof st->format)
        snprintf(st->format + used, sizeof st->format - used, "%s%s",
                 used ? ", " : "", name);
}

/* Keep, cut or leave out one sample. */
static bise_status take_sample(building *b, const bise_scan_row *row,
                               bise_row sample, bise_error *err)
{
    const int32_t max = b->o->max_len;
    bise_dataset_stats *st = &b->stats;
    if (sample.n > st->longest)
        st->longest = sample.n;
    if (max > 0 && sample.n > max) {
        if (b->o->too_long == BISE_TOO_LONG_ERROR) {
            char text[120];
            snprintf(text, sizeof text,
                     "the row has %d tokens, at most %d are allowed",
                     (int)sample.n, (int)max);
            return bise_scan_fail(row, text, err);
        }
        if (b->o->too_long == BISE_TOO_LONG_DROP) {
            st->dropped++;
            return BISE_OK;
        }
        st->truncated++;
        sample.n = max;
    }
    const int32_t trained = bise_row_supervised(&sample);
    if (!trained) {
        st->no_target++;
        return BISE_OK;
    }
    st->samples++;
    st->tokens += (uint64_t)sample.n;
    st->supervised += (uint64_t)trained;
    return bise_token_writer_add(b->writer, row->source, &sample, err);
}

/* Both answers of a pair stay or none: the pair counts as one sample pair. */
static bise_status take_pair(building *b, const bise_scan_row *row,
                             bise_error *err)
{
    const int32_t max = b->o->max_len;
    for (size_t i = 0; i < row->n; i++) {
        bise_row s = bise_scan_sample(row, i);
        if (max > 0 && s.n > max && b->o->too_long == BISE_TOO_LONG_CUT)
            s.n = max;
        if (!bise_row_supervised(&s)) {
            b->stats.no_target++;
            return BISE_OK;
        }
        if (max > 0 && s.n > max && b->o->too_long == BISE_TOO_LONG_DROP) {
            b->stats.dropped++;
            return BISE_OK;
        }
    }
    bise_status st = BISE_OK;
    for (size_t i = 0; st == BISE_OK && i < row->n; i++)
        st = take_sample(b, row, bise_scan_sample(row, i), err);
    return st;
}

/* The scan's callback while a cache is made: the first fault ends it. */
static bise_status take_row(void *ctx, const bise_scan_row *row,
                            bise_error *err)
{
    building *b = ctx;
    b->stats.rows++;
    if (row->reason)
        return bise_scan_fail(row, row->reason, err);
    bise_dataset_note_format(&b->stats, bise_schema_name(row->schema));
    const bool pair = bise_schema_use_of(row->schema) == BISE_FOR_PAIRS;
    if (bise_schema_use_of(row->schema) == BISE_FOR_LABELS)
        return bise_scan_fail(row, "an answer labelled good or bad is not for "
                              "plain fine-tuning", err);
    if (pair && !b->o->pairs)
        return bise_scan_fail(row, "a pair of a chosen and a rejected answer "
                              "is not for plain fine-tuning", err);
    if (!pair && b->o->pairs)
        return bise_scan_fail(row, "not a pair of a chosen and a rejected "
                              "answer", err);
    if (pair)
        return take_pair(b, row, err);
    bise_status s = BISE_OK;
    for (size_t i = 0; s == BISE_OK && i < row->n; i++)
        s = take_sample(b, row, bise_scan_sample(row, i), err);
    return s;
}

/* Add one file's content to the key. */
static bise_status hash_source(bise_sha256 *sha, const bise_source *f,
                               bise_error *err)
{
    uint8_t digest[32];
    const bise_status s = bise_sha256_file(digest, f->path, err);
    if (s == BISE_OK)
        bise_sha256_add(sha, digest, sizeof digest);
    return s;
}

/* Key of the cache: everything that decides about the samples. Weights do not,
 * but they decide about their order, so they are part of the digest a resume
 * compares; both are the same number here. */
static bise_status make_key(char key[65], const bise_sources *sources,
                            const bise_dataset_options *o, bise_error *err)
{
    char text[256];
    uint8_t digest[32];
    bise_status s = BISE_OK;
    bise_sha256 *sha = bise_sha256_new();
    if (!sha)
        return bise_fail_nomem(err);
    snprintf(text, sizeof text, "tokens %d %s %s train %d max %d long %d "
             "pairs %d effort %s files %d\n", CACHE_VERSION,
             bise_tokenizer_digest(o->tokenizer), bise_chat_name(o->chat),
             (int)o->train_on, (int)o->max_len, (int)o->too_long,
             (int)o->pairs, o->effort ? o->effort : "-", (int)sources->n);
    bise_sha256_add(sha, text, strlen(text));
    for (int32_t i = 0; s == BISE_OK && i < sources->n; i++) {
        snprintf(text, sizeof text, "weight %.17g\n", sources->v[i].weight);
        bise_sha256_add(sha, text, strlen(text));
        s = hash_source(sha, &sources->v[i], err);
    }
    bise_sha256_finish(sha, digest);
    bise_hex32(key, digest);
    return s;
}

/* Scan all rows into a new cache file. */
static bise_status build(const char *path, const char *key,
                         const bise_sources *sources,
                         const bise_dataset_options *o, bise_error *err)
{
    building b = { .o = o };
    bise_status s =
        bise_token_writer_new(&b.writer, path, key, sources->n, err);
    if (s != BISE_OK)
        return s;
    s = bise_scan(sources, o, take_row, &b, err);
    if (s == BISE_OK && !b.stats.samples) {
        s = bise_fail(err, BISE_EFORMAT,
                      "no sample with a trained token in %llu rows",
                      (unsigned long long)b.stats.rows);
        s = bise_error_in(err, sources->v[0].path, NULL);
    }
    if (s != BISE_OK) {
        bise_token_writer_drop(b.writer);
        return s;
    }
    return bise_token_writer_finish(b.writer, &b.stats, err);
}

/* The cache's name in a folder where it stays. */
static char *kept_path(const char *dir, const char *key)
{
    char name[64];
    snprintf(name, sizeof name, "tokens-%.16s.bin", key);
    return bise_path_join(dir, name);
}

/* Where the cache goes; *temporary when it is not to stay. */
static char *cache_path(const bise_dataset_options *o, const char *key,
                        bool *temporary)
{
    char name[64];
    const char *tmp = getenv("TMPDIR");
    *temporary = !o->cache_dir;
    if (o->cache_dir)
        return kept_path(o->cache_dir, key);
    snprintf(name, sizeof name, "bise-tokens-%.16s-%ld", key, (long)getpid());
    return bise_path_join(tmp && *tmp ? tmp : "/tmp", name);
}

/* Map the cache at path, made anew when it is absent or damaged. */
static bise_status open_cache(bise_dataset *d, const char *path,
                              const bise_sources *sources,
                              const bise_dataset_options *o, bise_error *err)
{
    const int32_t vocab = bise_tokenizer_vocab(o->tokenizer);
    if (bise_file_exists(path)) {
        bise_error ignored;
        bise_error_init(&ignored);
        if (bise_token_cache_open(&d->cache, path, d->digest, vocab,
                                  &ignored) == BISE_OK)
            return BISE_OK;
        bise_progress_say(o->progress, "%s: %s; tokenizing again", path,
                          ignored.text);
    }
    const bise_status s = build(path, d->digest, sources, o, err);
    if (s != BISE_OK)
        return s;
    return bise_token_cache_open(&d->cache, path, d->digest, vocab, err);
}

/* Sample ranges of the files from the counts in the cache. */
static bise_status set_sources(bise_dataset *d, const bise_sources *sources,
                               bise_error *err)
{
    uint64_t first = 0;
    d->sources = bise_alloc_array((size_t)sources->n, sizeof *d->sources);
    if (!d->sources)
        return bise_fail_nomem(err);
    for (int32_t i = 0; i < sources->n; i++) {
        const uint64_t count = bise_token_cache_source(&d->cache, i);
        d->sources[i] = (bise_dataset_source) {
            .first = first, .count = count, .weight = sources->v[i].weight,
        };
        first += count;
        if (!count && sources->v[i].weight > 0)
            return bise_fail(err, BISE_EFORMAT,
                             "'%s' has a weight but no sample",
                             sources->v[i].path);
    }
    return BISE_OK;
}

/* Names, key, cache, ranges. A temporary cache loses its name at once: the
 * mapping keeps it alive until the dataset is closed, whatever happens. */
bise_status bise_dataset_open(bise_dataset **out,
                              const bise_dataset_options *o, bise_error *err)
{
    bise_sources sources = { 0 };
    char *path = NULL;
    bool temporary = false;
    bise_dataset *d = bise_alloc(sizeof *d);
    bise_status s = d ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK)
        s = bise_sources_find(&sources, o->files, o->n_files, o->split, err);
    if (s == BISE_OK && o->max_len == 1)
        s = bise_fail(err, BISE_EINVAL, "a sample of one token has no target");
    if (s == BISE_OK)
        s = make_key(d->digest, &sources, o, err);
    if (s == BISE_OK) {
        path = cache_path(o, d->digest, &temporary);
        s = path ? BISE_OK : bise_fail_nomem(err);
    }
    if (s == BISE_OK)
        s = open_cache(d, path, &sources, o, err);
    if (path && temporary)
        unlink(path);           /* the mapping keeps it alive */
    if (s == BISE_OK)
        s = set_sources(d, &sources, err);
    bise_free(path);
    bise_sources_fini(&sources);
    if (s != BISE_OK) {
        bise_dataset_close(d);
        return s;
    }
    *out = d;
    return BISE_OK;
}

/* Piece by piece, and pages are let go on the way: a copy of the whole mapping
 * at once would make all of it resident. */
static bise_status copy_map(bise_out *out, const bise_map *m, bise_error *err)
{
    bise_status s = BISE_OK;
    for (uint64_t at = 0; at < m->size && s == BISE_OK; at += COPY_BYTES) {
        const uint64_t left = m->size - at;
        const uint64_t n = left < COPY_BYTES ? left : COPY_BYTES;
        s = bise_out_write(out, m->data + at, n, err);
        bise_map_release(m->data + at, n);
    }
    return s;
}

/* The mapping is the file, whether it has a name or not. */
bise_status bise_dataset_keep(const bise_dataset *d, const char *dir,
                              bise_error *err)
{
    char *path = kept_path(dir, d->digest);
    bise_out *out = NULL;
    bise_status s = path ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && !bise_file_exists(path)) {
        s = bise_out_open(&out, path, d->cache.map.size, true, err);
        if (s == BISE_OK)
            s = copy_map(out, &d->cache.map, err);
        if (s == BISE_OK)
            s = bise_out_commit(out, err);
        else
            bise_out_drop(out);
    }
    bise_free(path);
    return s;
}

/* The mapping goes first; rows handed out die with it. */
void bise_dataset_close(bise_dataset *d)
{
    if (!d)
        return;
    bise_token_cache_close(&d->cache);
    bise_free(d->sources);
    bise_free(d);
}

/* Samples, not rows: a row may make several, or none. */
uint64_t bise_dataset_count(const bise_dataset *d)
{
    return d->cache.n;
}

/* As they stood when the cache was made; a reused cache tells the same. */
const bise_dataset_stats *bise_dataset_stats_of(const bise_dataset *d)
{
    return &d->cache.stats;
}

/* Straight out of the mapping: no copy, no lock. */
void bise_dataset_row(const bise_dataset *d, uint64_t i, bise_row *row)
{
    bise_token_cache_row(&d->cache, i, row);
}

/* From the index alone: packing never touches the samples themselves. */
int32_t bise_dataset_len(const bise_dataset *d, uint64_t i)
{
    return bise_token_cache_len(&d->cache, i);
}

/* Files, after directories were searched. */
int32_t bise_dataset_source_count(const bise_dataset *d)
{
    return d->cache.n_sources;
}

/* Valid until the dataset is closed. */
const bise_dataset_source *bise_dataset_source_at(const bise_dataset *d,
                                                  int32_t i)
{
    return &d->sources[i];
}

/* What a resumed run compares: other data, another tokenizer or other
 * settings give other digits. */
const char *bise_dataset_digest(const bise_dataset *d)
{
    return d->digest;
}
