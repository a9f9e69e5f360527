/* rows.c - cut a byte stream into JSON rows without parsing them. A stream
 * whose first visible byte is '[' is one array, cut at the commas of its first
 * level (strings and nesting are followed byte by byte); one whose first line
 * is '{' alone has objects over several lines, cut where they close; any other
 * stream is JSONL, cut at newlines. The buffer holds whole rows plus the start
 * of the next one, which moves to the front before the next read.
 *
 *   buf: | rows of this batch ... | row in progress | free |
 *        0                        start          len      cap
 * Lines count newlines of the file, so that the place in a message is the one
 * an editor shows, also for an array element that spans several lines.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/rows.h"

#include <stdbool.h>
#include <string.h>

#include "core/mem.h"

#define BATCH_BYTES (4u << 20)
#define BATCH_ROWS 32768u /* bounds what a batch of tiny rows costs */

typedef enum { START, LINES, OBJECTS, ARRAY, AFTER_ARRAY, BROKEN } rows_mode;

struct bise_row_reader {
    bise_inflate *in;
    char *buf;
    size_t len, cap;
    size_t start;       /* the row in progress */
    size_t at;          /* looked at up to here */
    uint64_t base;      /* file offset of buf[0] */
    uint64_t line;      /* line of buf[at] */
    uint64_t row_line;  /* line where the row in progress starts */
    rows_mode mode;
    int depth;          /* open brackets inside an array element */
    bool in_string, escaped, blank, any, eof;
    bise_raw_row *rows;
    size_t n_rows, cap_rows;
};

/* The four blanks of JSON (RFC 8259, section 2). */
static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* List the bytes from start up to end as a row. */
static bise_status push(bise_row_reader *r, size_t end, const char *fault,
                        bise_error *err)
{
    if (bise_grow((void **)&r->rows, &r->cap_rows, r->n_rows + 1,
                  sizeof *r->rows))
        return bise_fail_nomem(err);
    r->rows[r->n_rows++] = (bise_raw_row) {
        .text = r->buf + r->start,
        .n = end - r->start,
        .line = r->row_line,
        .offset = r->base + r->start,
        .fault = fault,
    };
    return BISE_OK;
}

/* The row in progress begins behind position end. */
static void begin_row(bise_row_reader *r, size_t end)
{
    r->start = end;
    r->at = end;
    r->row_line = r->line;
    r->blank = true;
    r->depth = 0;
}

/* The stream's structure is broken at the row in progress: say so once. */
static bise_status broken(bise_row_reader *r, const char *fault,
                          bise_error *err)
{
    const bise_status s = push(r, r->at < r->len ? r->at : r->len, fault, err);
    r->mode = BROKEN;
    return s;
}

/* What the stream is when it is not JSON at all; NULL when it may be. */
static const char *foreign(const char *p, size_t n)
{
    static const struct { const char *magic; size_t n; const char *what; }
    kinds[] = {
        { "\xff\xfe", 2, "the file is UTF-16, not UTF-8" },
        { "\xfe\xff", 2, "the file is UTF-16, not UTF-8" },
        { "PAR1", 4, "a Parquet file, not JSON lines" },
        { "ARROW1", 6, "an Arrow file, not JSON lines" },
        { "PK\3\4", 4, "a zip file, not JSON lines" },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (n >= kinds[i].n && !memcmp(p, kinds[i].magic, kinds[i].n))
            return kinds[i].what;
    return NULL;
}

/* Is '{' the only thing on its line? Then an object has several lines, as
 * json.dumps(indent=2) writes it. */
static bool is_spread(const bise_row_reader *r)
{
    size_t i = r->at + 1;
    while (i < r->len && (r->buf[i] == ' ' || r->buf[i] == '\t' ||
                          r->buf[i] == '\r'))
        i++;
    return r->buf[r->at] == '{' && i < r->len && r->buf[i] == '\n';
}

/* Skip a byte order mark and blanks; decide between lines, objects and an
 * array. */
static bise_status find_mode(bise_row_reader *r, bise_error *err)
{
    const bool first = r->base + r->at == 0;
    const char *what = first ? foreign(r->buf, r->len) : NULL;
    if (what)
        return broken(r, what, err);
    if (first && r->len >= 3 && !memcmp(r->buf, "\xef\xbb\xbf", 3))
        begin_row(r, 3);
    while (r->at < r->len && is_blank(r->buf[r->at])) {
        r->line += r->buf[r->at] == '\n';
        begin_row(r, r->at + 1);
    }
    if (r->at == r->len)
        return BISE_OK;
    r->mode = r->buf[r->at] == '[' ? ARRAY : is_spread(r) ? OBJECTS : LINES;
    if (r->mode == ARRAY)
        begin_row(r, r->at + 1);
    return BISE_OK;
}

/* True for a line that holds nothing: skipped, but counted. */
static bool all_blank(const char *p, size_t n)
{
    while (n && is_blank(*p))
        p++, n--;
    return !n;
}

/* Every newline ends a row; the last line needs none. A line whose end is not
 * in the buffer yet stays the row in progress, and the search goes on behind
 * what was looked at, so that a long line is not searched twice. */
static bise_status cut_lines(bise_row_reader *r, bise_error *err)
{
    /* the second condition is a last line without a newline */
    while ((r->at < r->len || (r->eof && r->start < r->len)) &&
           r->n_rows < BATCH_ROWS) {
        const char *nl = memchr(r->buf + r->at, '\n', r->len - r->at);
        if (!nl && !r->eof) {
            r->at = r->len;
            return BISE_OK;
        }
        const size_t end = nl ? (size_t)(nl - r->buf) : r->len;
        bise_status s = BISE_OK;
        if (!all_blank(r->buf + r->start, end - r->start))
            s = push(r, end, NULL, err);
        if (s != BISE_OK)
            return s;
        r->line++;
        begin_row(r, nl ? end + 1 : end);
    }
    return BISE_OK;
}

/* One byte of an array element: follow strings and nesting. */
static void element_byte(bise_row_reader *r, char c)
{
    if (r->blank && !is_blank(c)) {     /* blanks are not part of the row */
        r->blank = false;
        r->start = r->at;
        r->row_line = r->line;
    }
    if (r->in_string) {
        if (r->escaped)
            r->escaped = false;
        else if (c == '\\')
            r->escaped = true;
        else if (c == '"')
            r->in_string = false;
    } else if (c == '"') {
        r->in_string = true;
    } else if (c == '{' || c == '[') {
        r->depth++;
    } else if (c == '}' || c == ']') {
        r->depth--;
    }
    r->line += c == '\n';
}

/* Follow objects up to the bracket that closes each. */
static bise_status cut_objects(bise_row_reader *r, bise_error *err)
{
    while (r->at < r->len && r->n_rows < BATCH_ROWS) {
        element_byte(r, r->buf[r->at]);
        r->at++;
        if (r->blank) {
            begin_row(r, r->at);
            continue;
        }
        if (r->in_string || r->depth > 0)
            continue;
        const bise_status s = push(r, r->at, NULL, err);
        if (s != BISE_OK)
            return s;
        begin_row(r, r->at);
    }
    if (r->at == r->len && r->eof && !r->blank)
        return broken(r, "the object is not closed at the end of the file",
                      err);
    return BISE_OK;
}

/* Follow an array up to its closing bracket; a comma or that bracket at the
 * first level ends an element. */
static bise_status cut_array(bise_row_reader *r, bise_error *err)
{
    for (; r->at < r->len && r->n_rows < BATCH_ROWS; r->at++) {
        const char c = r->buf[r->at];
        const bool top = !r->in_string && r->depth == 0;
        if (!top || (c != ',' && c != ']')) {
            element_byte(r, c);
            continue;
        }
        bise_status s = BISE_OK;
        if (r->blank && (c == ',' || r->any))
            s = push(r, r->at, "an element of the array is missing", err);
        else if (!r->blank)
            s = push(r, r->at, NULL, err);
        if (s != BISE_OK)
            return s;
        r->any = true;
        begin_row(r, r->at + 1);
        r->at--;
        if (c == ']') {
            r->mode = AFTER_ARRAY;
            r->at++;
            return BISE_OK;
        }
    }
    if (r->at == r->len && r->eof)
        return broken(r, "the array is not closed at the end of the file",
                      err);
    return BISE_OK;
}

/* Cut what the buffer holds, by the layout of the stream. */
static bise_status cut(bise_row_reader *r, bise_error *err)
{
    bise_status s = BISE_OK;
    if (r->mode == START)
        s = find_mode(r, err);
    if (r->mode == LINES)
        s = cut_lines(r, err);
    else if (r->mode == OBJECTS)
        s = cut_objects(r, err);
    else if (r->mode == ARRAY)
        s = cut_array(r, err);
    if (s != BISE_OK || r->mode != AFTER_ARRAY)
        return s;
    while (r->at < r->len && is_blank(r->buf[r->at])) {
        r->line += r->buf[r->at] == '\n';
        begin_row(r, r->at + 1);
    }
    return r->at < r->len ?
               broken(r, "text after the end of the array", err) : BISE_OK;
}

/* Fill the free part of the buffer. */
static bise_status fill(bise_row_reader *r, bise_error *err)
{
    while (!r->eof && r->len < r->cap) {
        size_t got;
        const bise_status s =
            bise_inflate_read(r->in, r->buf + r->len, r->cap - r->len, &got,
                              err);
        if (s != BISE_OK)
            return s;
        r->len += got;
        r->eof = got == 0;
    }
    return BISE_OK;
}

/* Move the row in progress to the front, and double the buffer when that row
 * fills it. */
static bise_status make_room(bise_row_reader *r, bise_error *err)
{
    memmove(r->buf, r->buf + r->start, r->len - r->start);
    r->base += r->start;
    r->len -= r->start;
    r->at -= r->start;
    r->start = 0;
    if (r->len < r->cap)
        return BISE_OK;
    if (r->cap >= BISE_ROW_MAX_BYTES)
        return broken(r, "a row of more than 64 MiB", err);
    char *buf = bise_realloc_array(r->buf, r->cap * 2, 1);
    if (!buf)
        return bise_fail_nomem(err);
    r->buf = buf;
    r->cap *= 2;
    return BISE_OK;
}

/* Read and cut until there is at least one row. */
bise_status bise_rows_batch(bise_row_reader *r, const bise_raw_row **rows,
                            size_t *n, bise_error *err)
{
    bise_status s = BISE_OK;
    r->n_rows = 0;
    /* ends with a row, a fault, or the end of the stream */
    while (s == BISE_OK && r->n_rows == 0 && r->mode != BROKEN) {
        if (r->eof && r->start == r->len && r->mode != ARRAY)
            break;
        s = make_room(r, err);
        if (s == BISE_OK && r->mode != BROKEN)
            s = fill(r, err);
        if (s == BISE_OK && r->mode != BROKEN)
            s = cut(r, err);
    }
    *rows = r->rows;
    *n = r->n_rows;
    return s;
}

/* The buffer starts at the size that most files never outgrow. */
bise_status bise_rows_new_take(bise_row_reader **out, bise_inflate *in,
                               bise_error *err)
{
    bise_row_reader *r = bise_alloc(sizeof *r);
    if (r) {
        r->in = in;
        r->cap = BATCH_BYTES;
        r->line = r->row_line = 1;
        r->blank = true;
        r->buf = bise_alloc(r->cap);
    }
    if (!r || !r->buf) {
        bise_inflate_close(in);
        bise_free(r);
        return bise_fail_nomem(err);
    }
    *out = r;
    return BISE_OK;
}

/* A file by name, compressed or not. */
bise_status bise_rows_open(bise_row_reader **out, const char *path,
                           bise_error *err)
{
    bise_inflate *in = NULL;
    const bise_status s = bise_inflate_open(&in, path, err);
    return s == BISE_OK ? bise_rows_new_take(out, in, err) : s;
}

/* Of a compressed file the compressed bytes: comparable with its size. */
uint64_t bise_rows_consumed(const bise_row_reader *r)
{
    return bise_inflate_consumed(r->in);
}

/* The stream belongs to the reader. */
void bise_rows_close(bise_row_reader *r)
{
    if (!r)
        return;
    bise_inflate_close(r->in);
    bise_free(r->buf);
    bise_free(r->rows);
    bise_free(r);
}
