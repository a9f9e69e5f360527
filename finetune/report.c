/* report.c - the page a user opens after a run: figures on top, five charts,
 * where the time went, then settings, data and machine as tables. All styles
 * are inline; the layout is one column that widens to two. Called at the end of
 * a run and by `bise report`.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "finetune/chart.h"
#include "finetune/settings.h"

/* The log as columns for charts. */
typedef struct columns {
    double *x, *loss, *smooth, *eval, *lr, *norm, *speed, *memory;
    size_t n;
} columns;

/* Pointers above; all share one allocation that starts at x. */
enum { COLUMNS = 8 };

/* Running mean of the loss over about a thirtieth of the run. */
static void smooth_loss(columns *c)
{
    const double keep = exp(-30.0 / ((double)c->n + 30));
    double mean = 0, weight = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->smooth[i] = NAN;
        if (!isfinite(c->loss[i]))
            continue;
        mean = keep * mean + (1 - keep) * c->loss[i];
        weight = keep * weight + (1 - keep);
        c->smooth[i] = mean / weight;
    }
}

/* One allocation for all columns. Step 0 has no training values; its memory is
 * left out because the model is not yet in use. */
static bise_status make_columns(columns *c, const bise_runlog_data *log,
                                bise_error *err)
{
    const size_t n = log->n;
    double *all = bise_alloc_array(n * COLUMNS + 1, sizeof *all);
    if (!all)
        return bise_fail_nomem(err);
    *c = (columns){ all, all + n, all + 2 * n, all + 3 * n, all + 4 * n,
                    all + 5 * n, all + 6 * n, all + 7 * n, n };
    for (size_t i = 0; i < n; i++) {
        const bise_logline *l = &log->lines[i];
        c->x[i] = (double)l->step;
        c->loss[i] = l->loss;
        c->eval[i] = l->eval_loss;
        c->lr[i] = l->lr;
        c->norm[i] = l->grad_norm;
        c->speed[i] = l->tokens_per_second;
        c->memory[i] = l->step ? (double)l->peak_rss_bytes / 1e9 : NAN;
    }
    smooth_loss(c);
    return BISE_OK;
}

/* Has a column any value? */
static bool any(const double *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i]))
            return true;
    return false;
}

/* Faint raw losses behind, the smooth line on them, evaluation on top; a run
 * without evaluation data has two series. */
static bise_chart loss_chart(const columns *c)
{
    bise_chart chart = { .title = "Loss by step", .unit = "" };
    chart.series[0] = (bise_series){ "loss of the step", c->x, c->loss, c->n,
                                     false, true };
    chart.series[1] = (bise_series){ "smoothed", c->x, c->smooth, c->n, false,
                                     false };
    chart.n = 2;
    if (any(c->eval, c->n))
        chart.series[chart.n++] = (bise_series){ "evaluation", c->x, c->eval,
                                                 c->n, true, false };
    return chart;
}

/* A chart of one line in the main colour. */
static void put_single(bise_str *out, const columns *c, const double *y,
                       const char *title, const char *unit, bool from_zero)
{
    bise_chart chart = { .title = title, .unit = unit, .n = 2,
                         .from_zero = from_zero };
    chart.series[0] = (bise_series){ "", c->x, y, 0, false, true };
    chart.series[1] = (bise_series){ title, c->x, y, c->n, false, false };
    if (!any(y, c->n))
        return;
    bise_str_puts(out, "<figure>");
    bise_chart_put(out, &chart, false);
    bise_str_puts(out, "</figure>\n");
}

/* The loss chart as a file of its own, for cards and issues. */
bise_status bise_report_svg(bise_str *out, const bise_runlog_data *log,
                            bise_error *err)
{
    columns c;
    if (make_columns(&c, log, err))
        return err->status;
    const bise_chart chart = loss_chart(&c);
    bise_chart_put(out, &chart, true);
    bise_free(c.x);
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}

/* First and last finite value of a column, NaN when there is none. */
static void ends(const double *v, size_t n, double *first, double *last)
{
    *first = *last = NAN;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(v[i]))
            continue;
        *first = isnan(*first) ? v[i] : *first;
        *last = v[i];
    }
}

/* One figure: name, value, and a note that explains it. */
static void put_tile(bise_str *out, const char *name, const char *value,
                     const char *note)
{
    bise_str_puts(out, "<div class=\"tile\"><span>");
    bise_str_put_html(out, name);
    bise_str_puts(out, "</span><b>");
    bise_str_put_html(out, value);
    bise_str_puts(out, "</b><small>");
    bise_str_put_html(out, note);
    bise_str_puts(out, "</small></div>\n");
}

/* "5.689 to 2.113" of a loss, with the perplexity below. */
static void put_loss_tile(bise_str *out, const char *name, const double *v,
                          size_t n)
{
    double first, last;
    char value[64], note[64];
    ends(v, n, &first, &last);
    if (isnan(last))
        return;
    snprintf(value, sizeof value, "%.3f \xe2\x86\x92 %.3f", first, last);
    snprintf(note, sizeof note, "perplexity %.1f \xe2\x86\x92 %.1f",
             exp(first), exp(last));
    put_tile(out, name, value, note);
}

/* 1234567 as "1 234 567" would break in cells: use "1.23 M" style. */
static char *format_count(char out[32], double n)
{
    if (n >= 1e9)
        snprintf(out, 32, "%.2f G", n / 1e9);
    else if (n >= 1e6)
        snprintf(out, 32, "%.2f M", n / 1e6);
    else if (n >= 1e4)
        snprintf(out, 32, "%.1f k", n / 1e3);
    else
        snprintf(out, 32, "%.0f", n);
    return out;
}

/* Two units at most: 3 h 05 min, 2 min 07 s, 4.2 s. */
static char *format_time(char out[32], double seconds)
{
    const long s = lround(seconds);
    if (s >= 3600)
        snprintf(out, 32, "%ld h %02ld min", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(out, 32, "%ld min %02ld s", s / 60, s % 60);
    else
        snprintf(out, 32, "%.1f s", seconds);
    return out;
}

/* The figures people ask for first. The last line of the log has the totals of
 * the run. */
static void put_tiles(bise_str *out, const columns *c,
                      const bise_runlog_data *log)
{
    const bise_logline *last = &log->lines[log->n - 1];
    char value[64], note[64], a[32], b[32];
    bise_str_puts(out, "<section class=\"tiles\">\n");
    put_loss_tile(out, "evaluation loss", c->eval, c->n);
    put_loss_tile(out, "training loss", c->smooth, c->n);
    snprintf(value, sizeof value, "%llu", (unsigned long long)last->step);
    snprintf(note, sizeof note, "%s tokens, %s trained",
             format_count(a, (double)last->tokens),
             format_count(b, (double)last->supervised));
    put_tile(out, "steps", value, note);
    const double seconds = isfinite(last->seconds) ? last->seconds : 0;
    snprintf(note, sizeof note, "%s tokens a second", format_count(
             a, seconds > 0 ? (double)last->tokens / seconds : 0));
    put_tile(out, "time", format_time(b, seconds), note);
    put_tile(out, "peak memory", bise_format_bytes(a, last->peak_rss_bytes),
             "resident set");
    bise_str_puts(out, "</section>\n");
}

/* "tokens_per_second" as "tokens per second". */
static void put_key(bise_str *out, const char *key)
{
    for (; *key; key++) {
        const char one[2] = { *key == '_' ? ' ' : *key, 0 };
        bise_str_put_html(out, one);
    }
}

/* Digits in groups of three: 6950000 as 6 950 000. */
static void put_digits(bise_str *out, const char *digits)
{
    const size_t n = strlen(digits);
    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0 && digits[i - 1] != '-')
            bise_str_puts(out, "&nbsp;");
        bise_str_putc(out, digits[i]);
    }
}

/* A value in a table cell: texts as they are, lists joined, else JSON. */
static void put_value(bise_str *out, const bise_json *v)
{
    const char *text = bise_json_string(v, NULL);
    bise_str plain = { 0 };
    if (text) {
        bise_str_put_html(out, text);
        return;
    }
    if (bise_json_typeof(v) == BISE_JSON_ARRAY) {
        for (size_t i = 0; i < bise_json_size(v); i++) {
            bise_str_puts(out, i ? ", " : "");
            const char *item = bise_json_string(bise_json_at(v, i), NULL);
            bise_str_put_html(out, item ? item : "?");
        }
        return;
    }
    bise_json_dump(&plain, v, 0, false);
    if (bise_json_typeof(v) == BISE_JSON_INT)
        put_digits(out, bise_str_get(&plain));
    else
        bise_str_put_html(out, bise_str_get(&plain));
    bise_str_fini(&plain);
}

/* An object as a two-column table with a heading. Long ones may break across
 * columns of the page. */
static void put_table(bise_str *out, const char *title, const bise_json *o)
{
    const size_t n = bise_json_size(o);
    if (!n)
        return;
    bise_str_printf(out, "<section%s><h2>", n > 16 ? " class=\"long\"" : "");
    put_key(out, title);
    bise_str_puts(out, "</h2><table>\n");
    for (void *it = bise_json_iter(o, NULL); it; it = bise_json_iter(o, it)) {
        bise_str_puts(out, "<tr><th>");
        put_key(out, bise_json_iter_key(it));
        bise_str_puts(out, "</th><td>");
        put_value(out, bise_json_iter_value(it));
        bise_str_puts(out, "</td></tr>\n");
    }
    bise_str_puts(out, "</table></section>\n");
}

/* What the names of "time" mean to a reader; others are shown as they are. */
static const char *const part_names[][2] = {
    { "matmul", "matrix products" }, { "lora", "adapter products" },
    { "attention", "attention" }, { "norms", "norms, rotation, SwiGLU" },
    { "loss", "head and loss" }, { "optimizer", "optimizer" },
    { "other", "other" },
};

static const char *part_name(const char *key)
{
    for (size_t i = 0; i < sizeof part_names / sizeof *part_names; i++)
        if (strcmp(key, part_names[i][0]) == 0)
            return part_names[i][1];
    return key;
}

/* Speed of the frozen products beside what the machine can do, where the run
 * noted both: run.model.product_flops_per_token, run.machine.product_gflops. */
static void put_limit(bise_str *out, const bise_runlog_data *log,
                      double seconds)
{
    const double flops = bise_json_number(
        bise_json_get(bise_json_get(log->run, "model"),
                      "product_flops_per_token"), NAN);
    const double limit = bise_json_number(
        bise_json_get(bise_json_get(log->run, "machine"), "product_gflops"),
        NAN);
    if (!(flops > 0) || !(seconds > 0))
        return;
    const double speed = flops * (double)log->part_tokens / seconds * 1e-9;
    bise_str_printf(out, "<p>Matrix products run at %.0f Gflop/s", speed);
    if (limit > 0)
        bise_str_printf(out, ", %.0f %% of the %.0f that this machine reached "
                        "in a trial", 100 * speed / limit, limit);
    bise_str_puts(out, ".</p>\n");
}

/* Where the time of a step goes: a bar for each part of it. */
static void put_time(bise_str *out, const bise_runlog_data *log)
{
    double all = 0, most = 0, matmul = 0;
    for (size_t i = 0; i < log->n_parts; i++) {
        const bise_runlog_part *p = &log->parts[i];
        all += p->seconds;
        most = p->seconds > most ? p->seconds : most;
        if (strcmp(p->name, "matmul") == 0)
            matmul = p->seconds;
    }
    if (!(all > 0))
        return;
    bise_str_puts(out, "<section class=\"where\"><h2>Where the time goes</h2>"
                       "<table>\n");
    for (size_t i = 0; i < log->n_parts; i++) {
        const bise_runlog_part *p = &log->parts[i];
        char time[32];
        bise_str_puts(out, "<tr><th>");
        put_key(out, part_name(p->name));
        bise_str_printf(out, "<i style=\"width:%.1f%%\"></i></th>"
                        "<td>%.1f&nbsp;%%</td><td>%s</td></tr>\n",
                        100 * p->seconds / most, 100 * p->seconds / all,
                        format_time(time, p->seconds));
    }
    bise_str_puts(out, "</table>\n");
    put_limit(out, log, matmul);
    bise_str_puts(out, "</section>\n");
}

/* The styles of the page. Grids with auto-fit give one column on a phone and
 * several on a desk without a rule for each width. */
static void put_head(bise_str *out, const char *name)
{
    bise_str_puts(out, "<!doctype html>\n<html lang=\"en\"><head>"
        "<meta charset=\"utf-8\">\n<meta name=\"viewport\" content="
        "\"width=device-width,initial-scale=1\">\n<title>Fine-tuning ");
    bise_str_put_html(out, name);
    bise_str_puts(out, "</title>\n<style>\n"
        ":root{color-scheme:light dark;--fg:#1b2027;--soft:#5b6470;"
        "--bg:#fff;--card:#f5f7f9;--line:#e2e6ea;--bar:#1f5fd0}\n"
        "@media(prefers-color-scheme:dark){:root{--fg:#e7eaee;--soft:#9aa4b2;"
        "--bg:#14171c;--card:#1c2128;--line:#2d343d;--bar:#7aa7ff}}\n"
        "*{box-sizing:border-box}body{margin:0;background:var(--bg);"
        "color:var(--fg);font:15px/1.5 system-ui,sans-serif}\n"
        "main{max-width:1100px;margin:0 auto;padding:20px 16px 48px}\n"
        "h1{font-size:1.5rem;line-height:1.25;margin:.2em 0;"
        "overflow-wrap:anywhere}h2{font-size:1rem;margin:0 0 .4em;"
        "text-transform:capitalize}\np{margin:.2em 0;color:var(--soft)}\n"
        ".tiles,.grid{display:grid;gap:12px;margin:16px 0}\n"
        ".tiles{grid-template-columns:repeat(auto-fit,minmax(158px,1fr))}\n"
        ".grid{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),"
        "1fr));align-items:start}\n"
        ".facts{columns:2 400px;column-gap:12px;margin:12px 0}"
        ".facts section{break-inside:avoid;margin:0 0 12px}"
        ".facts .long{break-inside:auto}\n"
        ".tile,figure,.facts section,.where{background:var(--card);"
        "border:1px solid var(--line);border-radius:10px;padding:12px;min-width:0}"
        ".tile,figure{margin:0}\n"
        ".tile span,.tile small{display:block;color:var(--soft)}"
        ".tile b{font-size:1.15rem;white-space:nowrap}\n"
        "figure{padding:8px}figure.wide{margin:16px 0}"
        "@media(min-width:700px){.wide .chart{font-size:8.5px}}\n"
        "svg{display:block;width:100%;height:auto}\n"
        "table{border-collapse:collapse;width:100%;font-size:.9rem}"
        "tr+tr{border-top:1px solid var(--line)}\n"
        "th{text-align:left;font-weight:400;color:var(--soft);"
        "padding:3px 12px 3px 0;vertical-align:top;width:38%}\n"
        "td{padding:3px 0;overflow-wrap:anywhere}\n"
        ".where h2{text-transform:none}.where th{width:auto}.where td{"
        "text-align:right;white-space:nowrap;padding-left:12px;"
        "vertical-align:top;font-variant-numeric:tabular-nums}\n"
        ".where i{display:block;height:6px;border-radius:3px;margin:2px 0 4px;"
        "background:var(--bar);min-width:2px}\n"
        "@media print{body{background:#fff}.facts section,figure"
        "{break-inside:avoid}}\n");
    bise_chart_css(out);
    bise_str_puts(out, "</style></head>\n<body><main>\n");
}

/* Sections of the run: its objects, with the scalars gathered in one. */
static void put_run(bise_str *out, const bise_json *run)
{
    for (void *it = bise_json_iter(run, NULL); it;
         it = bise_json_iter(run, it))
        if (bise_json_typeof(bise_json_iter_value(it)) == BISE_JSON_OBJECT)
            put_table(out, bise_json_iter_key(it), bise_json_iter_value(it));
}

/* Written top down in reading order: figures, the loss, the other curves, then
 * the tables of what ran where on which data. */
bise_status bise_report_html(bise_str *out, const bise_runlog_data *log,
                             const bise_json *settings, bise_error *err)
{
    columns c;
    if (!log->n)
        return bise_fail(err, BISE_EFORMAT, "the log has no line");
    if (make_columns(&c, log, err))
        return err->status;
    const bise_json *model = bise_json_get(log->run, "model");
    const char *name = bise_json_string(bise_json_get(model, "name"), NULL);
    const char *started = bise_json_string(bise_json_get(log->run, "started"),
                                           NULL);
    name = name ? name : "a model";
    put_head(out, name);
    bise_str_puts(out, "<h1>Fine-tuning ");
    bise_str_put_html(out, name);
    bise_str_puts(out, "</h1>\n<p>LoRA with bise");
    if (started) {
        bise_str_puts(out, ", started ");
        bise_str_put_html(out, started);
    }
    bise_str_puts(out, "</p>\n");
    put_tiles(out, &c, log);
    const bise_chart chart = loss_chart(&c);
    bise_str_puts(out, "<figure class=\"wide\">");
    bise_chart_put(out, &chart, false);
    bise_str_puts(out, "</figure>\n<div class=\"grid\">\n");
    put_single(out, &c, c.lr, "learning rate", "", true);
    put_single(out, &c, c.norm, "gradient norm", "before clipping", true);
    put_single(out, &c, c.speed, "tokens a second", "", true);
    put_single(out, &c, c.memory, "peak memory", "GB", true);
    bise_str_puts(out, "</div>\n");
    put_time(out, log);
    bise_str_puts(out, "<div class=\"facts\">\n");
    put_run(out, log->run);
    put_table(out, "settings", settings);
    bise_str_puts(out, "</div>\n</main></body></html>\n");
    bise_free(c.x);
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}

/* The settings of DIR/run.yaml as JSON; NULL when there is none. */
static bise_status read_settings(bise_settings *s, const char *dir,
                                 bise_error *err)
{
    char *path = bise_path_join(dir, "run.yaml");
    if (!path)
        return bise_fail_nomem(err);
    bise_status st = BISE_OK;
    if (bise_file_exists(path))
        st = bise_settings_load(s, path, err);
    bise_free(path);
    return st;
}

/* Replace DIR/name as a whole: a browser never loads half a page. */
static bise_status write_into(const char *dir, const char *name,
                              const bise_str *text, bise_error *err)
{
    char *path = bise_path_join(dir, name);
    if (!path)
        return bise_fail_nomem(err);
    const bise_status s = bise_file_write(path, bise_str_get(text), text->len,
                                          err);
    bise_free(path);
    return s;
}

/* Both documents are made before the first is written, so that a broken log
 * leaves the old report untouched. */
bise_status bise_report_write(const char *dir, bise_error *err)
{
    bise_runlog_data log = { 0 };
    bise_settings settings = { 0 };
    bise_str html = { 0 }, svg = { 0 };
    char *path = bise_path_join(dir, "log.jsonl");
    bise_status s = path ? BISE_OK : bise_fail_nomem(err);
    if (!s)
        s = bise_runlog_read(&log, path, err);
    if (!s)
        s = read_settings(&settings, dir, err);
    if (!s)
        s = bise_report_html(&html, &log, settings.values, err);
    if (!s)
        s = bise_report_svg(&svg, &log, err);
    if (!s)
        s = write_into(dir, "report.html", &html, err);
    if (!s)
        s = write_into(dir, "loss.svg", &svg, err);
    bise_str_fini(&html);
    bise_str_fini(&svg);
    bise_runlog_data_fini(&log);
    bise_settings_fini(&settings);
    bise_free(path);
    return s ? bise_error_in(err, dir, NULL) : BISE_OK;
}
