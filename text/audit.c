/* audit.c - one pass over all rows for counts and examples; repetitions by
 * hashes that wait in a spool and are compared a slice of their values at a
 * time; a second, cheap pass that only cuts rows to write the cleaned file.
 * The bitmap of rows that do not belong into the cleaned file is the only
 * memory that grows with the data: 1.2 MB for ten million rows.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "text/rows.h"
#include "text/scan.h"
#include "text/spool.h"

#define SLICE (1u << 19) /* hashes compared at a time, about 20 MB */

/* A row's hash and place, as spooled. */
typedef struct mark {
    uint64_t hash, row, line;
    int32_t source;
} mark;

typedef struct auditor {
    const bise_audit_options *o;
    bise_audit *a;
    bise_spool *marks;
    uint64_t n_marks;
    uint8_t *drop;      /* one bit a row: not in the cleaned file */
    size_t cap_drop;
} auditor;

/* Set the row's bit. Bytes that the bitmap grows by start as zero; rows
 * beyond its end count as kept, so it grows only for rows that are
 * dropped. */
static bise_status drop_row(auditor *t, uint64_t row, bise_error *err)
{
    const size_t byte = (size_t)(row / 8), old = t->cap_drop;
    if (bise_grow((void **)&t->drop, &t->cap_drop, byte + 1, 1))
        return bise_fail_nomem(err);
    if (t->cap_drop > old)
        memset(t->drop + old, 0, t->cap_drop - old);
    t->drop[byte] |= (uint8_t)(1u << row % 8);
    return BISE_OK;
}

/* A row beyond the bitmap was never dropped. */
static bool is_dropped(const auditor *t, uint64_t row)
{
    return row / 8 < t->cap_drop && t->drop[row / 8] >> row % 8 & 1;
}

/* Keep the first examples of a finding. */
static void keep_place(bise_audit_place *v, int32_t *n,
                       const bise_audit_place *p)
{
    if (*n < BISE_AUDIT_PLACES)
        v[(*n)++] = *p;
}

/* Keep the longest samples, the earlier one where equal. */
static void keep_longest(bise_audit *a, const bise_audit_place *p)
{
    int32_t i = a->n_longest;
    if (i == BISE_AUDIT_PLACES && a->longest[i - 1].value >= p->value)
        return;
    if (i < BISE_AUDIT_PLACES)
        a->n_longest++;
    else
        i--;
    for (; i > 0 && a->longest[i - 1].value < p->value; i--)
        a->longest[i] = a->longest[i - 1];
    a->longest[i] = *p;
}

/* Count one sample as training would take it; true when it would be. */
static bool count_sample(auditor *t, bise_row s, bise_audit_place where)
{
    bise_audit *a = t->a;
    bise_dataset_stats *st = &a->stats;
    const bise_dataset_options *d = t->o->data;
    const int32_t over = BISE_AUDIT_LENGTHS;
    a->lengths[s.n < over ? s.n : over]++;
    where.value = s.n;
    keep_longest(a, &where);
    if (s.n > st->longest)
        st->longest = s.n;
    if (d->max_len > 0 && s.n > d->max_len) {
        if (d->too_long != BISE_TOO_LONG_CUT) {
            st->dropped++;
            return false;
        }
        st->truncated++;
        s.n = d->max_len;
    }
    const int32_t trained = bise_row_supervised(&s);
    where.value = trained;
    if (!trained) {
        st->no_target++;
        keep_place(a->no_target, &a->n_no_target, &where);
        return false;
    }
    if (trained < BISE_AUDIT_NEAR_EMPTY) {
        a->near_empty++;
        keep_place(a->short_answers, &a->n_short, &where);
    }
    st->samples++;
    st->tokens += (uint64_t)s.n;
    st->supervised += (uint64_t)trained;
    return true;
}

/* Count the keys that nobody reads; beyond the first few names they are left
 * out. */
static bise_status note_ignored(bise_audit *a, const char *keys,
                                bise_error *err)
{
    while (keys && *keys) {
        const size_t n = strcspn(keys, "\n");
        int32_t i = 0;
        while (i < a->n_ignored && (strncmp(a->ignored[i].name, keys, n) != 0 ||
                                    a->ignored[i].name[n]))
            i++;
        if (i == a->n_ignored && i < BISE_AUDIT_KEYS) {
            char *name = bise_strndup(keys, n);
            if (!name)
                return bise_fail_nomem(err);
            a->ignored[a->n_ignored++].name = name;
        }
        if (i < a->n_ignored)
            a->ignored[i].rows++;
        keys += n + (keys[n] == '\n');
    }
    return BISE_OK;
}

/* The scan's callback: count a row and spool its hash, or note it as bad. */
static bise_status audit_row(void *ctx, const bise_scan_row *row,
                             bise_error *err)
{
    auditor *t = ctx;
    bise_audit *a = t->a;
    const bise_audit_place where = { .source = row->source,
                                     .line = row->raw->line };
    const mark m = { row->hash, a->stats.rows++, row->raw->line, row->source };
    bool kept = false;
    if (row->reason) {
        a->stats.bad++;
        if (t->o->bad)
            t->o->bad(t->o->ctx, row->file, row->raw->line, row->reason);
        return drop_row(t, m.row, err);
    }
    bise_dataset_note_format(&a->stats, bise_schema_name(row->schema));
    for (size_t i = 0; i < row->n; i++)
        kept |= count_sample(t, bise_scan_sample(row, i), where);
    t->n_marks++;
    bise_status s = note_ignored(a, row->ignored, err);
    if (s == BISE_OK)
        s = bise_spool_add(t->marks, &m, sizeof m, err);
    return s == BISE_OK && !kept ? drop_row(t, m.row, err) : s;
}

/* By hash, then by row: the first of equal ones is the earliest in the
 * files. */
static int by_hash(const void *x, const void *y)
{
    const mark *a = x, *b = y;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return a->row < b->row ? -1 : 1;
}

/* Sort the marks of a slice; all but the first of equal ones repeat it. */
static bise_status find_equal(auditor *t, mark *v, size_t n, bise_error *err)
{
    size_t first = 0;
    bise_status s = BISE_OK;
    if (n)
        qsort(v, n, sizeof *v, by_hash);
    for (size_t i = 1; s == BISE_OK && i < n; i++) {
        if (v[i].hash != v[first].hash) {
            first = i;
            continue;
        }
        const bise_audit_place p = { v[i].source, v[i].line,
                                     (int64_t)v[first].line,
                                     v[first].source };
        t->a->duplicates++;
        keep_place(t->a->repeated, &t->a->n_repeated, &p);
        s = drop_row(t, v[i].row, err);
    }
    return s;
}

/* Gather the marks of slice k of the hash values. */
static bise_status load_slice(auditor *t, mark **v, size_t *cap, size_t *n,
                              uint64_t k, uint64_t slices, bise_error *err)
{
    mark buf[1024];
    size_t got = 1;
    *n = 0;
    bise_status s = bise_spool_rewind(t->marks, err);
    while (s == BISE_OK && got) {
        s = bise_spool_read(t->marks, buf, sizeof buf, &got, err);
        for (size_t i = 0; s == BISE_OK && i < got / sizeof *buf; i++) {
            if ((buf[i].hash >> 32) % slices != k)
                continue;
            if (bise_grow((void **)v, cap, *n + 1, sizeof **v))
                s = bise_fail_nomem(err);
            else
                (*v)[(*n)++] = buf[i];
        }
    }
    return s;
}

/* Each slice holds the hashes with one remainder, so equal hashes always
 * meet in the same slice; the spool is read once for every slice. Peak:
 * one slice. */
static bise_status find_duplicates(auditor *t, bise_error *err)
{
    const uint64_t slices = t->n_marks / SLICE + 1;
    mark *v = NULL;
    size_t cap = 0, n = 0;
    bise_status s = BISE_OK;
    for (uint64_t k = 0; s == BISE_OK && k < slices; k++) {
        s = load_slice(t, &v, &cap, &n, k, slices, err);
        if (s == BISE_OK)
            s = find_equal(t, v, n, err);
    }
    bise_free(v);
    return s;
}

/* A row as one line: blanks for the newlines between its tokens (a JSON
 * string cannot hold a bare one). */
static bise_status write_row(bise_out *out, const bise_raw_row *raw,
                             bise_str *line, bise_error *err)
{
    bise_str_clear(line);
    bise_str_add(line, raw->text, raw->n);
    while (line->len && strchr(" \t\r\n", line->data[line->len - 1]))
        line->len--;
    for (size_t i = 0; i < line->len; i++)
        if (line->data[i] == '\n' || line->data[i] == '\r')
            line->data[i] = ' ';
    bise_str_putc(line, '\n');
    return bise_str_ok(line) ?
               bise_out_write(out, line->data, line->len, err) :
               bise_fail_nomem(err);
}

/* Rows of one file that stay; row counts on over the files. */
static bise_status write_file(auditor *t, bise_out *out, const char *path,
                              uint64_t *row, bise_error *err)
{
    bise_row_reader *rows = NULL;
    bise_str line = { 0 };
    bise_status s = bise_rows_open(&rows, path, err);
    while (s == BISE_OK) {
        const bise_raw_row *v;
        size_t n;
        s = bise_rows_batch(rows, &v, &n, err);
        if (s != BISE_OK || !n)
            break;
        for (size_t i = 0; s == BISE_OK && i < n; i++) {
            if (is_dropped(t, (*row)++) || v[i].fault)
                continue;
            s = write_row(out, &v[i], &line, err);
            t->a->written++;
        }
    }
    bise_rows_close(rows);
    bise_str_fini(&line);
    return s;
}

/* The second pass cuts rows again but neither parses nor tokenizes them. */
static bise_status write_clean(auditor *t, const bise_sources *sources,
                               bise_error *err)
{
    bise_out *out = NULL;
    uint64_t row = 0;
    bise_status s = bise_out_open(&out, t->o->write, 0, t->o->force, err);
    for (int32_t i = 0; s == BISE_OK && i < sources->n; i++)
        s = write_file(t, out, sources->v[i].path, &row, err);
    if (s == BISE_OK)
        return bise_out_commit(out, err);
    bise_out_drop(out);
    return s;
}

/* Names of the files, for places; emptied from the sources. */
static bise_status take_names(bise_audit *a, const bise_sources *s,
                              bise_error *err)
{
    a->files = bise_alloc_array((size_t)s->n, sizeof *a->files);
    if (!a->files)
        return bise_fail_nomem(err);
    for (; a->n_files < s->n; a->n_files++) {
        a->files[a->n_files] = bise_strdup(s->v[a->n_files].path);
        if (!a->files[a->n_files])
            return bise_fail_nomem(err);
    }
    return BISE_OK;
}

/* Scan, then duplicates, then the cleaned file; nothing is handed out unless
 * all of it worked. */
bise_status bise_audit_run(bise_audit *out, const bise_audit_options *o,
                           bise_error *err)
{
    const bise_dataset_options *d = o->data;
    bise_sources sources = { 0 };
    bise_audit a = { 0 };
    auditor t = { .o = o, .a = &a };
    bise_status s = bise_sources_find(&sources, d->files, d->n_files, d->split,
                                      err);
    if (s == BISE_OK)
        s = take_names(&a, &sources, err);
    if (s == BISE_OK) {
        a.lengths =
            bise_alloc_array(BISE_AUDIT_LENGTHS + 1, sizeof *a.lengths);
        s = a.lengths ? BISE_OK : bise_fail_nomem(err);
    }
    if (s == BISE_OK)
        s = bise_spool_new(&t.marks, d->cache_dir, err);
    if (s == BISE_OK)
        s = bise_scan(&sources, d, audit_row, &t, err);
    if (s == BISE_OK)
        s = find_duplicates(&t, err);
    if (s == BISE_OK && o->write)
        s = write_clean(&t, &sources, err);
    bise_spool_close(t.marks);
    bise_free(t.drop);
    bise_sources_fini(&sources);
    if (s != BISE_OK) {
        bise_audit_fini(&a);
        return s;
    }
    *out = a;
    return BISE_OK;
}

/* Walk the counters up to the wanted share. The counter of all longer samples
 * has no length of its own: it answers with the longest. */
int32_t bise_audit_quantile(const bise_audit *a, double share)
{
    uint64_t total = 0, seen = 0;
    for (int32_t i = 0; i <= BISE_AUDIT_LENGTHS; i++)
        total += a->lengths[i];
    const uint64_t want = (uint64_t)((double)total * share + 0.5);
    for (int32_t i = 0; i < BISE_AUDIT_LENGTHS; i++) {
        seen += a->lengths[i];
        if (seen >= want && seen)
            return i;
    }
    return a->stats.longest;
}

/* Zeroed afterwards, so that a second call is harmless. */
void bise_audit_fini(bise_audit *a)
{
    for (int32_t i = 0; i < a->n_files; i++)
        bise_free(a->files[i]);
    for (int32_t i = 0; i < a->n_ignored; i++)
        bise_free(a->ignored[i].name);
    bise_free(a->files);
    bise_free(a->lengths);
    *a = (bise_audit) { 0 };
}
