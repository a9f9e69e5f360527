/* runlog.c - log.jsonl, written line by line with one write() each, so that a
 * killed run leaves at most one broken line at the end, which the reader drops.
 * Called by the run for every step and by the report.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/runlog.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"

struct bise_runlog {
    int fd;
    char *path;
};

/* Text of the log up to and including step last. */
static bise_status kept_lines(bise_str *out, const char *path, int64_t last,
                              bise_error *err)
{
    bise_str text = { 0 };
    if (last < 0 || !bise_file_exists(path))
        return BISE_OK;
    if (bise_file_read(&text, path, err)) {
        bise_str_fini(&text);
        return err->status;
    }
    for (size_t at = 0; at < text.len;) {
        const char *line = text.data + at;
        const char *end = memchr(line, '\n', text.len - at);
        if (!end)
            break;                      /* cut off by a kill */
        const size_t n = (size_t)(end - line) + 1;
        bise_json *v = NULL;
        bise_error ignored;
        int64_t step;
        bise_error_init(&ignored);
        if (bise_json_parse(&v, line, n - 1, &ignored) == BISE_OK &&
            bise_json_integer(bise_json_get(v, "step"), &step) && step <= last)
            bise_str_add(out, line, n);
        bise_json_free(v);
        at += n;
    }
    bise_str_fini(&text);
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}

/* The lines to keep are rewritten first (atomically), then the file is opened
 * for appending: a kill between the two loses nothing. */
bise_status bise_runlog_open(bise_runlog **out, const char *path, int64_t last,
                             bise_error *err)
{
    bise_str keep = { 0 };
    bise_status s = kept_lines(&keep, path, last, err);
    if (!s)
        s = bise_file_write(path, bise_str_get(&keep), keep.len, err);
    bise_str_fini(&keep);
    if (s)
        return s;
    bise_runlog *l = bise_alloc(sizeof *l);
    char *copy = bise_strdup(path);
    if (!l || !copy) {
        bise_free(l);
        bise_free(copy);
        return bise_fail_nomem(err);
    }
    l->path = copy;
    l->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (l->fd < 0) {
        s = bise_fail_errno(err, path, "cannot open");
        bise_free(copy);
        bise_free(l);
        return s;
    }
    *out = l;
    return BISE_OK;
}

/* Set a real unless it is NaN. */
static void put_real(bise_json *o, const char *key, double v)
{
    if (!isnan(v))
        (void)bise_json_set(o, key, bise_json_new_real(v));
}

const char *const bise_time_names[BISE_TIME_PARTS] = {
    "matmul", "lora", "attention", "norms", "loss", "optimizer", "other",
};

/* "time": what was measured of the step, nothing for a line without. */
static void put_time(bise_json *o, const double *time)
{
    double sum = 0;
    for (int i = 0; i < BISE_TIME_PARTS; i++)
        sum += time[i];
    if (!(sum > 0))
        return;
    bise_json *t = bise_json_new_object();
    for (int i = 0; i < BISE_TIME_PARTS; i++)
        put_real(t, bise_time_names[i], time[i]);
    (void)bise_json_set(o, "time", t);
}

/* One write of one whole line, so that readers and a kill see whole lines.
 * Keys without a value are left out rather than null. */
bise_status bise_runlog_add(bise_runlog *l, const bise_logline *line,
                            const bise_json *run, bise_error *err)
{
    bise_json *o = bise_json_new_object();
    bise_str text = { 0 };
    (void)bise_json_set(o, "step", bise_json_new_int((int64_t)line->step));
    put_real(o, "loss", line->loss);
    put_real(o, "lr", line->lr);
    put_real(o, "grad_norm", line->grad_norm);
    (void)bise_json_set(o, "tokens", bise_json_new_int((int64_t)line->tokens));
    (void)bise_json_set(o, "supervised_tokens",
                        bise_json_new_int((int64_t)line->supervised));
    put_real(o, "tokens_per_second", line->tokens_per_second);
    put_real(o, "seconds", line->seconds);
    (void)bise_json_set(o, "peak_rss_bytes",
                        bise_json_new_int((int64_t)line->peak_rss_bytes));
    put_real(o, "eval_loss", line->eval_loss);
    put_time(o, line->time);
    if (run)
        (void)bise_json_set(o, "run", bise_json_copy(run));
    bise_json_dump(&text, o, 0, false);
    bise_str_putc(&text, '\n');
    bise_json_free(o);
    bise_status s = bise_str_ok(&text) ? BISE_OK : bise_fail_nomem(err);
    if (!s && write(l->fd, text.data, text.len) != (ssize_t)text.len) {
        errno = errno ? errno : ENOSPC;
        s = bise_fail_errno(err, l->path, "cannot write");
    }
    bise_str_fini(&text);
    return s;
}

/* Sync before closing: the report that is made next, and a crash after it,
 * find the whole log. */
bise_status bise_runlog_close(bise_runlog *l, bise_error *err)
{
    bise_status s = BISE_OK;
    if (!l)
        return BISE_OK;
    if (fsync(l->fd) != 0)
        s = bise_fail_errno(err, l->path, "cannot sync");
    close(l->fd);
    bise_free(l->path);
    bise_free(l);
    return s;
}

/* A number of a line; NaN when the key is absent. */
static double real_of(const bise_json *o, const char *key)
{
    return bise_json_number(bise_json_get(o, key), NAN);
}

/* A count of a line; 0 when absent, negative or no whole number. */
static uint64_t count_of(const bise_json *o, const char *key)
{
    int64_t v;
    return bise_json_integer(bise_json_get(o, key), &v) && v > 0 ? (uint64_t)v
                                                                 : 0;
}

/* The part of a name, made when it is new; NULL when there are too many. */
static bise_runlog_part *find_part(bise_runlog_data *d, const char *name)
{
    for (size_t i = 0; i < d->n_parts; i++)
        if (strncmp(d->parts[i].name, name, sizeof d->parts->name - 1) == 0)
            return &d->parts[i];
    if (d->n_parts == BISE_RUNLOG_PARTS)
        return NULL;
    bise_runlog_part *p = &d->parts[d->n_parts++];
    snprintf(p->name, sizeof p->name, "%s", name);
    return p;
}

/* Add the "time" of the last line. Values that are no seconds are skipped. */
static void take_time(bise_runlog_data *d, const bise_json *time)
{
    const bise_logline *last = &d->lines[d->n - 1];
    const uint64_t before = d->n > 1 ? last[-1].tokens : 0;
    if (bise_json_typeof(time) != BISE_JSON_OBJECT)
        return;
    for (void *it = bise_json_iter(time, NULL); it;
         it = bise_json_iter(time, it)) {
        const double v = bise_json_number(bise_json_iter_value(it), NAN);
        bise_runlog_part *p = NULL;
        if (isfinite(v) && v >= 0)
            p = find_part(d, bise_json_iter_key(it));
        if (p)
            p->seconds += v;
    }
    d->part_tokens += last->tokens > before ? last->tokens - before : 0;
}

/* Append one parsed line. */
static bise_status take_line(bise_runlog_data *d, const bise_json *o,
                             bise_error *err)
{
    if (bise_json_typeof(bise_json_get(o, "step")) != BISE_JSON_INT)
        return bise_fail(err, BISE_EFORMAT, "a line without 'step'");
    bise_logline *lines = d->lines;
    if (bise_grow((void **)&lines, &d->cap, d->n + 1, sizeof *lines))
        return bise_fail_nomem(err);
    d->lines = lines;
    d->lines[d->n++] = (bise_logline){
        .step = count_of(o, "step"), .loss = real_of(o, "loss"),
        .lr = real_of(o, "lr"), .grad_norm = real_of(o, "grad_norm"),
        .tokens_per_second = real_of(o, "tokens_per_second"),
        .seconds = real_of(o, "seconds"), .eval_loss = real_of(o, "eval_loss"),
        .tokens = count_of(o, "tokens"),
        .supervised = count_of(o, "supervised_tokens"),
        .peak_rss_bytes = count_of(o, "peak_rss_bytes"),
    };
    take_time(d, bise_json_get(o, "time"));
    if (!d->run && bise_json_get(o, "run"))
        d->run = bise_json_copy(bise_json_get(o, "run"));
    return BISE_OK;
}

/* Line by line; what follows the last newline is an unfinished write and no
 * error. Any other fault is the file's, with its line number. */
bise_status bise_runlog_read(bise_runlog_data *d, const char *path,
                             bise_error *err)
{
    bise_str text = { 0 };
    bise_status s = bise_file_read(&text, path, err);
    unsigned number = 0;
    for (size_t at = 0; at < text.len && !s;) {
        const char *line = text.data + at;
        const char *end = memchr(line, '\n', text.len - at);
        if (!end)
            break;
        bise_json *o = NULL;
        number++;
        s = bise_json_parse(&o, line, (size_t)(end - line), err);
        if (!s)
            s = take_line(d, o, err);
        bise_json_free(o);
        at += (size_t)(end - line) + 1;
    }
    bise_str_fini(&text);
    if (!s)
        return BISE_OK;
    bise_runlog_data_fini(d);
    return bise_error_hint(err, "line %u", number)
               ? bise_error_in(err, path, NULL) : BISE_OK;
}

/* Release the lines and the facts; a zeroed log is fine. */
void bise_runlog_data_fini(bise_runlog_data *d)
{
    bise_free(d->lines);
    bise_json_free(d->run);
    memset(d, 0, sizeof *d);
}
