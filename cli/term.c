/* term.c - draw progress: on a terminal one redrawn line with bar, rate and
 * time left, elsewhere a plain line every ten seconds; print messages and
 * errors. Only cli/ writes to stderr.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/term.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/str.h"

#define REDRAW_NS 100000000u     /* terminal: ten times a second */
#define PLAIN_NS 10000000000u    /* elsewhere: every ten seconds */

/* Colour and redrawing need a terminal that is not "dumb". */
void bise_term_init(bise_term *t, bool quiet, bool verbose)
{
    memset(t, 0, sizeof *t);
    t->quiet = quiet;
    t->verbose = verbose;
    const char *term = getenv("TERM");
    t->tty = isatty(2) && !(term && strcmp(term, "dumb") == 0);
    t->color = t->tty && !getenv("NO_COLOR");
}

/* Columns of the terminal, 80 when unknown. */
static int columns(void)
{
    struct winsize w;
    if (ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20)
        return w.ws_col;
    return 80;
}

/* "12.3 MB" for bytes, "1,234 tokens"-style counts otherwise. */
static void put_amount(bise_str *s, double v, const char *unit)
{
    char buf[32];
    if (strcmp(unit, "bytes") == 0)
        bise_str_puts(s, bise_format_bytes(buf, (unsigned long long)v));
    else if (v >= 1e6)
        bise_str_printf(s, "%.2fM", v / 1e6);
    else if (v >= 1e4)
        bise_str_printf(s, "%.1fk", v / 1e3);
    else
        bise_str_printf(s, v < 10 && v != (double)(long)v ? "%.2f" : "%.0f", v);
}

static void put_time(bise_str *s, double seconds)
{
    const long t = (long)(seconds + 0.5);
    if (t >= 3600)
        bise_str_printf(s, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else
        bise_str_printf(s, "%ld:%02ld", t / 60, t % 60);
}

/* The text behind the bar: done/total, rate, time left, remark. */
static void put_numbers(bise_str *s, const bise_term *t, uint64_t done,
                        uint64_t total, const char *unit, const char *remark)
{
    const double seconds = (double)(bise_clock_ns() - t->start_ns) * 1e-9;
    const double made = (double)(done - t->first_done);
    const double rate = seconds > 0.05 ? made / seconds : 0;
    put_amount(s, (double)done, unit);
    if (total) {
        bise_str_putc(s, '/');
        put_amount(s, (double)total, unit);
    }
    if (strcmp(unit, "bytes") != 0)
        bise_str_printf(s, " %s", unit);
    if (rate > 0) {
        bise_str_puts(s, "  ");
        put_amount(s, rate, unit);
        bise_str_puts(s, "/s");
    }
    if (rate > 0 && total > done) {
        bise_str_puts(s, "  ");
        put_time(s, (double)(total - done) / rate);
        bise_str_puts(s, " left");
    }
    if (remark)
        bise_str_printf(s, "  %s", remark);
}

/* Redraw the one line: stage, bar, numbers, cut to the terminal's width. */
static void draw_line(bise_term *t, const bise_str *numbers, uint64_t done,
                      uint64_t total)
{
    const int width = columns() - 1;
    bise_str s = { 0 };
    bise_str_printf(&s, "%-10s ", t->stage);
    const int bar = total && width >= 70 ? 20 : 0;
    if (bar) {
        const int full = (int)((double)done / (double)total * bar + 0.5);
        bise_str_putc(&s, '[');
        for (int i = 0; i < bar; i++)
            bise_str_putc(&s, i < full ? '=' : i == full ? '>' : ' ');
        bise_str_puts(&s, "] ");
    }
    bise_str_puts(&s, bise_str_get(numbers));
    fprintf(stderr, "\r\033[K%.*s", width, bise_str_get(&s));
    fflush(stderr);
    t->line_open = true;
    bise_str_fini(&s);
}

/* Restarts the clock when the stage changes; draws at most ten times a second
 * on a terminal and once in ten seconds elsewhere. */
void bise_term_report(void *ctx, const char *stage, uint64_t done,
                      uint64_t total, const char *unit, const char *remark)
{
    bise_term *t = ctx;
    if (t->quiet)
        return;
    const uint64_t now = bise_clock_ns();
    if (strncmp(stage, t->stage, sizeof t->stage - 1) != 0) {
        bise_term_end(t);
        snprintf(t->stage, sizeof t->stage, "%s", stage);
        t->start_ns = t->drawn_ns = now;
        t->first_done = done;
    }
    const bool last = total && done >= total;
    const uint64_t wait = t->tty ? REDRAW_NS : PLAIN_NS;
    if (now - t->drawn_ns < wait && !(last && (t->tty || remark)))
        return;
    t->drawn_ns = now;
    bise_str numbers = { 0 };
    put_numbers(&numbers, t, done, total, unit, remark);
    if (t->tty)
        draw_line(t, &numbers, done, total);
    else
        fprintf(stderr, "bise: %s: %s\n", t->stage, bise_str_get(&numbers));
    bise_str_fini(&numbers);
}

/* The next report starts a new stage. */
void bise_term_end(bise_term *t)
{
    if (t->line_open)
        fputc('\n', stderr);
    t->line_open = false;
    t->stage[0] = 0;
}

/* What stands there is overwritten by blanks to the end of the line. */
void bise_term_clear(bise_term *t)
{
    if (t->line_open)
        fputs("\r\033[K", stderr);
    t->line_open = false;
}

/* Erases an open progress line first; the next report draws it again. */
void bise_term_message(void *ctx, const char *text)
{
    bise_term *t = ctx;
    if (t->quiet)
        return;
    bise_term_clear(t);
    fprintf(stderr, "bise: %s\n", text);
}

/* Three lines at most: what, where, what to do. */
void bise_term_error(bise_term *t, const bise_error *err)
{
    bise_term_end(t);
    const char *on = t->color ? "\033[1;31m" : "";
    const char *off = t->color ? "\033[0m" : "";
    fprintf(stderr, "bise: %serror:%s %s\n", on, off, err->text);
    if (err->path[0] || err->tensor[0] || err->offset >= 0) {
        fputs("bise: in", stderr);
        if (err->path[0])
            fprintf(stderr, " '%s'", err->path);
        if (err->tensor[0])
            fprintf(stderr, "%s tensor '%s'", err->path[0] ? "," : "",
                    err->tensor);
        if (err->offset >= 0)
            fprintf(stderr, " at byte %" PRId64, err->offset);
        fputc('\n', stderr);
    }
    if (err->hint[0])
        fprintf(stderr, "bise: hint: %s\n", err->hint);
}

/* A string member, null when empty. */
static void set_text(bise_json *o, const char *key, const char *text)
{
    bise_json *v = text[0] ? bise_json_new_string(text) : NULL;
    (void)bise_json_set(o, key, v ? v : bise_json_new_null());
}

bise_json *bise_error_json(const bise_error *err)
{
    bise_json *o = bise_json_new_object(), *e = bise_json_new_object();
    set_text(e, "status", bise_status_name(err->status));
    set_text(e, "message", err->text);
    set_text(e, "path", err->path);
    (void)bise_json_set(e, "offset", err->offset >= 0 ?
                        bise_json_new_int(err->offset) : bise_json_new_null());
    set_text(e, "tensor", err->tensor);
    set_text(e, "hint", err->hint);
    (void)bise_json_set(o, "error", e);
    return o;
}
