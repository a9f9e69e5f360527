/* scan.c - the parallel walk over rows. A batch of cut rows is divided into
 * chunks of fixed size; a task parses and tokenizes one chunk into its own
 * buffers; then the chunks are handed out in order on the calling thread. What
 * is found depends on the rows only, never on threads.
 *   rows_batch ->  | row row row row row row row row | row row row ... |
 *                    chunk 0 (one task)                chunk 1
 *                    parse, find the format, tokenize into own buffers
 *   emit       ->    row 0, row 1, ...  in order, on the calling thread
 *
 * A row's JSON tree lives only inside its task. Chunks keep their buffers from
 * batch to batch, so that a scan settles on a fixed amount of memory.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/scan.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"

#define CHUNK 8          /* rows of a task */
#define KEEP_IDS 65536u  /* larger buffers of a chunk are not kept */

/* What became of one row. */
typedef struct parsed {
    const bise_schema *schema;
    size_t first, n;    /* samples in the chunk's buffer */
    char *reason;       /* bise_free; NULL when good */
    char *ignored;      /* bise_free; NULL when all keys are read */
    uint64_t hash;
} parsed;

typedef struct chunk {
    bise_samples samples;
    parsed rows[CHUNK];
    bise_status status; /* not BISE_OK: no fault of a row (memory) */
} chunk;

typedef struct scan {
    const bise_dataset_options *o;
    const bise_raw_row *raw; /* the batch */
    size_t n_raw;
    chunk *chunks;
    size_t n_chunks, cap_chunks;
    const bise_schema *schema; /* of the file's first good row */
    uint64_t schema_line;
    bise_scan_fn *fn;
    void *ctx;
} scan;

/* Ends are positions in the chunk's buffer; a sample begins where the one
 * before it ends. */
bise_row bise_scan_sample(const bise_scan_row *row, size_t i)
{
    const size_t k = row->first + i;
    const size_t from = k ? row->samples->end[k - 1] : 0;
    return (bise_row) {
        .ids = row->samples->all.ids.v + from,
        .mask = row->samples->all.mask + from,
        .n = (int32_t)(row->samples->end[k] - from),
    };
}

/* Position 0 is never predicted, whatever its mask says. */
int32_t bise_row_supervised(const bise_row *row)
{
    int32_t n = 0;
    for (int32_t i = 1; i < row->n; i++)
        n += row->mask[i] != 0;
    return n;
}

/* The offset is that of the row: what is wrong inside it is in the reason. */
bise_status bise_scan_fail(const bise_scan_row *row, const char *reason,
                           bise_error *err)
{
    const bise_status s =
        bise_fail_at(err, BISE_EFORMAT, (int64_t)row->raw->offset,
                     "%s:%llu: %s", row->file,
                     (unsigned long long)row->raw->line, reason);
    return s == BISE_OK ? s : bise_error_in(err, row->file, NULL);
}

/* The reason as a copy (bise_free). The JSON parser counts lines within the
 * row, whose line in the file stands before it already; and it has words of
 * its own for invalid UTF-8. */
static char *reason_of(const bise_error *e)
{
    static const char in[] = "invalid JSON at line 1, ";
    const bool json = bise_starts_with(e->text, in);
    const char *rest = json ? e->text + sizeof in - 1 : e->text;
    bise_str s = { 0 };
    if (json)
        bise_str_printf(&s, "invalid %s at ",
                        strstr(rest, "unable to decode byte") ? "UTF-8" :
                                                                "JSON");
    bise_str_puts(&s, rest);
    return bise_str_take(&s);
}

/* Hash of the tokens and masks of a row's samples. */
static uint64_t hash_of(const bise_samples *s, size_t from)
{
    uint64_t h = 0x9e3779b97f4a7c15u + (s->all.ids.n - from);
    for (size_t i = from; i < s->all.ids.n; i++)
        h = bise_mix64(h ^ ((uint64_t)(uint32_t)s->all.ids.v[i] << 1 |
                            s->all.mask[i]));
    return h;
}

/* Keys with a value that the format does not read, each ended by a newline;
 * NULL when there are none. Short of memory the report lacks some, no more. */
static char *ignored_keys(const bise_schema *f, const bise_json *row)
{
    bise_str s = { 0 };
    for (void *it = bise_json_iter(row, NULL); it;
         it = bise_json_iter(row, it)) {
        const bise_json *v = bise_json_iter_value(it);
        size_t n = 1;
        const bool empty = bise_json_is_null(v) ||
                           (bise_json_string(v, &n) && !n);
        if (empty || bise_schema_reads(f, bise_json_iter_key(it)))
            continue;
        bise_str_puts(&s, bise_json_iter_key(it));
        bise_str_putc(&s, '\n');
    }
    return s.len ? bise_str_take(&s) : NULL;
}

/* "no known format" with the row's first keys, so that one sees at once what
 * was misspelt or nested. */
static bise_status fail_unknown(const bise_json *row, bise_error *err)
{
    bise_str keys = { 0 };
    for (void *it = bise_json_iter(row, NULL); it && keys.len < 60;
         it = bise_json_iter(row, it))
        bise_str_printf(&keys, "%s'%.30s'", keys.len ? ", " : "",
                        bise_json_iter_key(it));
    const bise_status s =
        bise_fail(err, BISE_EFORMAT, "no known format in the keys %s: needed "
                  "are messages, conversations, instruction + output, "
                  "prompt + completion, input + output, question + answer, "
                  "text, chosen + rejected, ...",
                  keys.len ? bise_str_get(&keys) : "(none)");
    bise_str_fini(&keys);
    return s;
}

/* Can JSON begin like this? Text of another kind gets plainer words than the
 * parser has. */
static bise_status check_start(const bise_raw_row *raw, bise_error *err)
{
    size_t at = 0;
    while (at < raw->n && strchr(" \t\r\n", raw->text[at]))
        at++;
    const char c = at < raw->n ? raw->text[at] : 0;
    if (strchr("{[\"-0123456789tfn", c))
        return BISE_OK;
    return bise_fail(err, BISE_EFORMAT, "not JSON: the line begins with "
                     "'%.*s', not with '{'",
                     (int)(raw->n - at < 16 ? bise_utf8_valid(raw->text + at,
                                                              raw->n - at)
                           : bise_utf8_valid(raw->text + at, 16)),
                     raw->text + at);
}

/* A row's text to samples; leaves the reason in err. */
static bise_status parse_row(const bise_dataset_options *o,
                             const bise_raw_row *raw, bise_samples *out,
                             parsed *p, bise_error *err)
{
    bise_json *v = NULL;
    bise_status s = raw->fault ?
                    bise_fail(err, BISE_EFORMAT, "%s", raw->fault) :
                    check_start(raw, err);
    if (s == BISE_OK)
        s = bise_json_parse(&v, raw->text, raw->n, err);
    if (s == BISE_OK && bise_json_typeof(v) != BISE_JSON_OBJECT)
        s = bise_fail(err, BISE_EFORMAT, "the row is not an object");
    if (s == BISE_OK) {
        p->schema = bise_schema_of(v);
        if (!p->schema)
            s = fail_unknown(v, err);
    }
    if (s == BISE_OK)
        s = bise_schema_encode(p->schema, v, o, out, err);
    if (s == BISE_OK && out->n == p->first)
        s = bise_fail(err, BISE_EFORMAT, "the row makes no sample");
    if (s == BISE_OK)
        p->ignored = ignored_keys(p->schema, v);
    bise_json_free(v);
    return s;
}

/* The task: one chunk of rows into its own buffers. A row's failure is a
 * result; only a lack of memory fails the scan. */
static void parse_chunk(void *ctx, size_t index, int worker)
{
    scan *sc = ctx;
    chunk *c = &sc->chunks[index];
    const size_t from = index * CHUNK;
    (void)worker;
    for (size_t i = 0; i < CHUNK && from + i < sc->n_raw; i++) {
        parsed *p = &c->rows[i];
        bise_error err;
        bise_error_init(&err);
        *p = (parsed) { .first = c->samples.n };
        const size_t ids = c->samples.all.ids.n;
        const bise_status s =
            parse_row(sc->o, &sc->raw[from + i], &c->samples, p, &err);
        if (s == BISE_ENOMEM)
            c->status = s;
        if (s != BISE_OK) {
            bise_samples_truncate(&c->samples, p->first);
            p->reason = reason_of(&err);
            if (!p->reason)         /* a bad row must not pass as a good one */
                c->status = BISE_ENOMEM;
        } else {
            p->n = c->samples.n - p->first;
            p->hash = hash_of(&c->samples, ids);
        }
    }
}

/* Forget what the chunks hold, keep their memory. */
static void clear_chunks(scan *sc)
{
    for (size_t i = 0; i < sc->n_chunks; i++) {
        chunk *c = &sc->chunks[i];
        for (size_t k = 0; k < CHUNK; k++) {
            bise_free(c->rows[k].reason);
            c->rows[k].reason = NULL;
            bise_free(c->rows[k].ignored);
            c->rows[k].ignored = NULL;
        }
        bise_samples_truncate(&c->samples, 0);
        if (c->samples.all.ids.cap > KEEP_IDS)
            bise_samples_fini(&c->samples);
        c->status = BISE_OK;
    }
    sc->n_chunks = 0;
}

/* Run the tasks of a batch; chunks keep their buffers from batch to batch. */
static bise_status tokenize_batch(scan *sc, bise_error *err)
{
    const size_t n = (sc->n_raw + CHUNK - 1) / CHUNK, old = sc->cap_chunks;
    if (bise_grow((void **)&sc->chunks, &sc->cap_chunks, n,
                  sizeof *sc->chunks))
        return bise_fail_nomem(err);
    if (sc->cap_chunks > old)
        memset(sc->chunks + old, 0, (sc->cap_chunks - old) *
                                        sizeof *sc->chunks);
    sc->n_chunks = n;
    bise_pool_run(sc->o->pool, n, parse_chunk, sc);
    for (size_t i = 0; i < n; i++)
        if (sc->chunks[i].status != BISE_OK)
            return bise_fail_nomem(err);
    return BISE_OK;
}

/* Hand one row out; a row of another format than the file's first is bad. */
static bise_status emit(scan *sc, bise_scan_row *row, const parsed *p,
                        bise_error *err)
{
    char text[160];
    if (!row->reason && !sc->schema) {
        sc->schema = p->schema;
        sc->schema_line = row->raw->line;
    }
    if (!row->reason && strcmp(bise_schema_name(sc->schema),
                               bise_schema_name(p->schema))) {
        snprintf(text, sizeof text,
                 "the row is '%s', but the file began with '%s' in line %llu",
                 bise_schema_name(p->schema), bise_schema_name(sc->schema),
                 (unsigned long long)sc->schema_line);
        row->reason = text;
    }
    if (row->reason)
        row->n = 0;
    return sc->fn(sc->ctx, row, err);
}

/* Hand out the rows of a batch in their order. */
static bise_status emit_batch(scan *sc, int32_t source, const char *file,
                              bise_error *err)
{
    for (size_t i = 0; i < sc->n_raw; i++) {
        const chunk *c = &sc->chunks[i / CHUNK];
        const parsed *p = &c->rows[i % CHUNK];
        bise_scan_row row = {
            .source = source, .file = file, .raw = &sc->raw[i],
            .schema = p->schema, .reason = p->reason,
            .samples = &c->samples, .first = p->first, .n = p->n,
            .hash = p->hash, .ignored = p->ignored,
        };
        const bise_status s = emit(sc, &row, p, err);
        if (s != BISE_OK)
            return s;
    }
    return BISE_OK;
}

/* One file; done counts the bytes of the files before it. Takes rows. */
static bise_status scan_file_take(scan *sc, bise_row_reader *rows,
                                  int32_t source, const char *file,
                                  uint64_t done, uint64_t total,
                                  bise_error *err)
{
    bise_status s = BISE_OK;
    sc->schema = NULL;
    for (;;) {
        s = bise_rows_batch(rows, &sc->raw, &sc->n_raw, err);
        if (s != BISE_OK || !sc->n_raw)
            break;
        s = tokenize_batch(sc, err);
        if (s == BISE_OK)
            s = emit_batch(sc, source, file, err);
        clear_chunks(sc);
        if (s == BISE_OK)
            s = bise_progress_step(sc->o->progress, "tokenize",
                                   done + bise_rows_consumed(rows), total,
                                   "bytes", NULL, err);
        if (s != BISE_OK)
            break;
    }
    bise_rows_close(rows);
    return s == BISE_OK ? s : bise_error_in(err, file, NULL);
}

/* Chunks beyond those of the last batch have buffers as well. */
static void scan_fini(scan *sc)
{
    for (size_t i = 0; i < sc->cap_chunks; i++)
        bise_samples_fini(&sc->chunks[i].samples);
    bise_free(sc->chunks);
}

/* File after file; progress counts bytes of all of them. */
bise_status bise_scan(const bise_sources *sources,
                      const bise_dataset_options *o, bise_scan_fn *fn,
                      void *ctx, bise_error *err)
{
    scan sc = { .o = o, .fn = fn, .ctx = ctx };
    bise_status s = BISE_OK;
    uint64_t done = 0;
    for (int32_t i = 0; s == BISE_OK && i < sources->n; i++) {
        bise_row_reader *rows = NULL;
        const bise_source *f = &sources->v[i];
        s = bise_rows_open(&rows, f->path, err);
        if (s == BISE_OK)
            s = scan_file_take(&sc, rows, i, f->path, done, sources->bytes,
                               err);
        done += f->bytes;
    }
    scan_fini(&sc);
    return s;
}

/* As one file, without a size for the progress. */
bise_status bise_scan_stream_take(bise_inflate *in, const char *name,
                                  const bise_dataset_options *o,
                                  bise_scan_fn *fn, void *ctx, bise_error *err)
{
    scan sc = { .o = o, .fn = fn, .ctx = ctx };
    bise_row_reader *rows = NULL;
    bise_status s = bise_rows_new_take(&rows, in, err);
    if (s == BISE_OK)
        s = scan_file_take(&sc, rows, 0, name, 0, 0, err);
    scan_fini(&sc);
    return s;
}
