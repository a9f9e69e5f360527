/* cmd_data.c - `bise data check`: every bad row, counts, lengths, repetitions,
 * the steps and time a run would take, a cleaned copy; `bise data show`: the
 * samples as the trainer sees them, the trained part marked.
 * Exit codes: 0 all rows are good (or were cleaned with --write), 1 some are
 * bad or a file cannot be read, 2 wrong use. Under --json the result is
 * printed in either of the first two cases.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/data_print.h"
#include "cli/loaded.h"
#include "core/mem.h"
#include "finetune/finetune.h"
#include "text/scan.h"

#define BAD_KEPT 100000 /* bad rows listed under --json */

static const bise_option options[] = {
    { "model", BISE_OPT_STRING, "MODEL",
      "model, or tokenizer file, whose tokens are counted", NULL, 0 },
    { "write", BISE_OPT_STRING, "CLEAN",
      "check: save the rows worth training on", NULL, 0 },
    { "n", BISE_OPT_INT, "N", "show: number of samples", "5", 0 },
    { "max-len", BISE_OPT_INT, "N", "longest row in tokens, 0 is any", "2048",
      0 },
    { "too-long", BISE_OPT_CHOICE, "cut|drop|error",
      "what training would do with longer rows", "cut", 0 },
    { "train-on", BISE_OPT_CHOICE, "assistant|all|last",
      "which tokens carry the loss", "assistant", 0 },
    { "chat-format", BISE_OPT_STRING, "NAME",
      "v1, v2, v3, ... in place of the tokenizer's own", NULL, 0 },
    { "reasoning-effort", BISE_OPT_STRING, "E",
      "effort of rows that say none, for v15: none, ..., max", NULL, 0 },
    { "line", BISE_OPT_INT, "N", "show: begin with the row in this line", "1",
      0 },
    { "batch", BISE_OPT_STRING, "N",
      "data of a step, as in finetune, for the estimate", "8", 0 },
    { "epochs", BISE_OPT_FLOAT, "N", "passes over the data, for the estimate",
      "1", 0 },
    { .name = NULL },
};

/* What both subcommands need. */
typedef struct data_job {
    bise_context *ctx;
    bise_store *store;         /* NULL for a tokenizer file */
    bise_tokenizer *tokenizer;
    const bise_chat *chat;
    const char **files;
    bise_dataset_options o;
    bise_json *list;           /* bad rows, or samples */
    int64_t left;              /* samples still to show */
} data_job;

/* Position of a choice in "a|b|c". */
static int choice(const struct bise_args *a, const char *name,
                  const char *first, const char *second)
{
    const char *v = bise_opt_str(a, name, first);
    return !strcmp(v, first) ? 0 : !strcmp(v, second) ? 1 : 2;
}

/* The tokenizer, which must fit the model where there is one that we can
 * train: finetune would refuse it, too. */
static bise_status open_tokenizer(data_job *j, const char *path,
                                  bise_error *err)
{
    bise_config c = { 0 };
    bise_error other;
    if (!path)
        return bise_fail(err, BISE_EINVAL, "data needs --model: a model or a "
                         "tokenizer file");
    bise_status s = bise_loaded_tokenizer(&j->tokenizer, &j->store, j->ctx,
                                          path, err);
    bise_error_init(&other);
    if (s == BISE_OK && j->store &&
        bise_config_resolve(&c, j->store, &other) == BISE_OK)
        s = bise_tokenizer_fits(j->tokenizer, c.V, err);
    bise_config_fini(&c);
    return s;
}

/* Files, tokenizer, chat format and dataset options from the command line. */
static bise_status job_init(data_job *j, bise_context *ctx, bise_error *err)
{
    const struct bise_args *a = ctx->args;
    const int n = bise_arg_count(a) - 1;
    *j = (data_job) { .ctx = ctx, .list = bise_json_new_array() };
    j->files = bise_alloc_array((size_t)n, sizeof *j->files);
    if (!j->files)
        return bise_fail_nomem(err);
    for (int i = 0; i < n; i++)
        j->files[i] = bise_arg(a, i + 1);
    bise_status s = open_tokenizer(j, bise_opt_str(a, "model", NULL), err);
    if (s == BISE_OK)
        s = bise_chat_for(&j->chat, j->tokenizer,
                          bise_opt_str(a, "chat-format", NULL), err);
    j->o = (bise_dataset_options) {
        .files = j->files, .n_files = n, .tokenizer = j->tokenizer,
        .chat = j->chat, .pool = ctx->pool, .progress = ctx->progress,
        .max_len = (int32_t)bise_opt_int(a, "max-len", 2048),
        .effort = bise_opt_str(a, "reasoning-effort", NULL),
        .too_long = (bise_too_long)choice(a, "too-long", "cut", "drop"),
        .train_on =
            (bise_train_on)choice(a, "train-on", "assistant", "all"),
    };
    return s;
}

/* Any state that job_init can leave behind; the tokenizer goes before its
 * store. */
static void job_fini(data_job *j)
{
    bise_json_free(j->list);
    bise_tokenizer_free(j->tokenizer);
    bise_store_close(j->store);
    bise_free(j->files);
}

/* --- check -------------------------------------------------------------- */

/* One bad row: a line of text as soon as it is found, an entry under --json. */
static void on_bad(void *ctx, const char *file, uint64_t line,
                   const char *reason)
{
    data_job *j = ctx;
    bise_print(j->ctx, "%s:%llu: %s\n", file, (unsigned long long)line,
               reason);
    if (!j->ctx->json || bise_json_size(j->list) >= BAD_KEPT)
        return;
    bise_json *o = bise_json_new_object();
    (void)bise_json_set(o, "file", bise_json_new_string(file));
    (void)bise_json_set(o, "line", bise_json_new_int((int64_t)line));
    (void)bise_json_set(o, "reason", bise_json_new_string(reason));
    (void)bise_json_append(j->list, o);
}

/* Weights of the model, for the time; 0 when only a tokenizer was given. */
static double count_parameters(const bise_store *store)
{
    double n = 0;
    for (size_t i = 0; store && i < bise_store_count(store); i++)
        n += (double)bise_tensor_count(bise_store_at(store, i));
    return n;
}

typedef struct run_estimate {
    uint64_t steps;
    double seconds; /* NAN without a model */
} run_estimate;

/* Steps of a run over the good rows, and its time: a token costs 2 operations
 * a weight forward and 2 for the input gradient (lora.md 1; as `finetune
 * --plan` has it), at the measured speed of matrix products. */
static bise_status estimate(run_estimate *e, const data_job *j,
                            const bise_audit *a, bise_error *err)
{
    const struct bise_args *args = j->ctx->args;
    const double epochs = bise_opt_num(args, "epochs", 1);
    const double inputs = (double)(a->stats.tokens - a->stats.samples);
    const double weights = count_parameters(j->store);
    bise_amount batch;
    const bise_status s = bise_settings_amount(
        &batch, "batch", bise_opt_str(args, "batch", "8"), err);
    if (s != BISE_OK)
        return s;
    const double all = batch.rows ? (double)a->stats.samples : inputs;
    e->steps = (uint64_t)ceil(all * epochs / (double)batch.n);
    e->seconds = NAN;
    if (weights > 0)
        e->seconds = inputs * epochs * weights * 4 /
                     bise_finetune_speed(j->ctx->pool, BISE_COMPUTE_F32);
    return BISE_OK;
}

/* Rows found odd, with the first few places. */
static void print_places(bise_context *ctx, const bise_audit *a,
                         const char *title, uint64_t count,
                         const bise_audit_place *v, int32_t n,
                         const char *what)
{
    char number[32];
    if (!count)
        return;
    bise_print(ctx, "%-18s %s\n", title, bise_data_number(number, count));
    for (int32_t i = 0; i < n; i++) {
        if (!strcmp(what, "repeats"))
            bise_print(ctx, "  %s:%llu repeats %s:%lld\n",
                       a->files[v[i].source], (unsigned long long)v[i].line,
                       a->files[v[i].other], (long long)v[i].value);
        else
            bise_print(ctx, "  %s:%llu  %lld %s\n", a->files[v[i].source],
                       (unsigned long long)v[i].line, (long long)v[i].value,
                       what);
    }
}

/* A line of the report with one figure. */
static void print_number(bise_context *ctx, const char *title, uint64_t n)
{
    char number[32];
    bise_print(ctx, "%-18s %s\n", title, bise_data_number(number, n));
}

/* Quantiles, the histogram, and where the longest rows stand. */
static void print_lengths(bise_context *ctx, const bise_audit *a)
{
    bise_str s = { 0 };
    bise_print(ctx, "%-18s median %d, 90 %% %d, 99 %% %d, longest %d\n",
               "tokens of a row", (int)bise_audit_quantile(a, 0.5),
               (int)bise_audit_quantile(a, 0.9),
               (int)bise_audit_quantile(a, 0.99), (int)a->stats.longest);
    bise_data_histogram(&s, a);
    bise_print(ctx, "\n%s\n", bise_str_get(&s));
    bise_str_fini(&s);
    print_places(ctx, a, "longest rows", (uint64_t)a->n_longest, a->longest,
                 a->n_longest, "tokens");
}

/* Columns that training would not see: one of them may be the answer. */
static void print_ignored(bise_context *ctx, const bise_audit *a)
{
    char number[32];
    bise_str name = { 0 };
    for (int32_t i = 0; i < a->n_ignored; i++) {
        bise_str_clear(&name);
        bise_data_safe(&name, a->ignored[i].name,
                       strlen(a->ignored[i].name));
        bise_print(ctx, "%-18s %-24s in %s rows\n",
                   i ? "" : "keys not used", bise_str_get(&name),
                   bise_data_number(number, a->ignored[i].rows));
    }
    bise_str_fini(&name);
}

/* Steps, and the time in the unit that fits it. */
static void print_time(bise_context *ctx, const run_estimate *e)
{
    char number[32];
    bise_print(ctx, "%-18s %s", "steps of a run",
               bise_data_number(number, e->steps));
    if (isfinite(e->seconds) && e->seconds >= 7200)
        bise_print(ctx, ", about %.1f hours on this machine",
                   e->seconds / 3600);
    else if (isfinite(e->seconds) && e->seconds >= 120)
        bise_print(ctx, ", about %.0f minutes on this machine",
                   e->seconds / 60);
    else if (isfinite(e->seconds))
        bise_print(ctx, ", about %.0f seconds on this machine",
                   ceil(e->seconds));
    bise_print(ctx, "\n");
}

/* The report of `data check`: what there is, then what is odd, then the run. */
static void print_audit(const data_job *j, const bise_audit *a,
                        const run_estimate *e)
{
    bise_context *ctx = j->ctx;
    const bise_dataset_stats *st = &a->stats;
    char n1[32], n2[32];
    if (st->bad)
        bise_print(ctx, "\n");
    bise_print(ctx, "%-18s %s (%s, %s)\n", "format",
               st->format[0] ? st->format : "none", bise_chat_name(j->chat),
               bise_tokenizer_source(j->tokenizer));
    bise_print(ctx, "%-18s %s (%s bad)\n", "rows",
               bise_data_number(n1, st->rows), bise_data_number(n2, st->bad));
    print_number(ctx, "samples", st->samples);
    bise_print(ctx, "%-18s %s, %s trained (%.1f %%)\n", "tokens",
               bise_data_number(n1, st->tokens),
               bise_data_number(n2, st->supervised),
               st->tokens ? 100.0 * (double)st->supervised /
                                (double)st->tokens : 0.0);
    if (st->samples)
        print_lengths(ctx, a);
    if (st->truncated)
        print_number(ctx, "cut at --max-len", st->truncated);
    if (st->dropped)
        print_number(ctx, "longer (left out)", st->dropped);
    print_places(ctx, a, "nothing to train", st->no_target, a->no_target,
                 a->n_no_target, "trained tokens");
    print_places(ctx, a, "near-empty answers", a->near_empty,
                 a->short_answers, a->n_short, "trained tokens");
    print_places(ctx, a, "repeated rows", a->duplicates, a->repeated,
                 a->n_repeated, "repeats");
    print_ignored(ctx, a);
    if (st->samples)
        print_time(ctx, e);
    else
        bise_print(ctx, "%-18s no row has anything to train\n", "problem");
    if (bise_opt_given(ctx->args, "write"))
        bise_print(ctx, "%-18s %s rows in %s\n", "written",
                   bise_data_number(n1, a->written),
                   bise_opt_str(ctx->args, "write", ""));
}

/* Counts fit a JSON integer: rows and tokens stay far below 2^63. */
static void set_int(bise_context *ctx, const char *key, uint64_t n)
{
    bise_result_set(ctx, key, bise_json_new_int((int64_t)n));
}

/* The keys of cli.md 2, and the further findings. */
static void set_result(data_job *j, const bise_audit *a, const run_estimate *e)
{
    bise_context *ctx = j->ctx;
    const bise_dataset_stats *st = &a->stats;
    bise_result_set(ctx, "format", bise_json_new_string(st->format));
    set_int(ctx, "rows", st->rows);
    bise_result_set(ctx, "bad", bise_json_ref(j->list));
    set_int(ctx, "bad_rows", st->bad);
    set_int(ctx, "samples", st->samples);
    set_int(ctx, "tokens", st->tokens);
    set_int(ctx, "supervised_tokens", st->supervised);
    set_int(ctx, "longest", (uint64_t)st->longest);
    set_int(ctx, "truncated", st->truncated);
    set_int(ctx, "dropped", st->dropped);
    set_int(ctx, "no_target", st->no_target);
    set_int(ctx, "near_empty", a->near_empty);
    set_int(ctx, "duplicates", a->duplicates);
    bise_json *ignored = bise_json_new_object();
    for (int32_t i = 0; i < a->n_ignored; i++)
        (void)bise_json_set(ignored, a->ignored[i].name, bise_json_new_int(
            (int64_t)a->ignored[i].rows));
    bise_result_set(ctx, "ignored_keys", ignored);
    set_int(ctx, "steps", e->steps);
    bise_result_set(ctx, "estimated_seconds", bise_json_new_real(e->seconds));
    if (bise_opt_given(ctx->args, "write"))
        set_int(ctx, "written", a->written);
}

/* Bad rows are printed while the scan runs; the report follows. With --write
 * they were dealt with, so the exit code is 0 then. */
static bise_status run_check(data_job *j, bise_error *err)
{
    bise_context *ctx = j->ctx;
    const bise_audit_options o = {
        .data = &j->o, .write = bise_opt_str(ctx->args, "write", NULL),
        .force = ctx->force, .bad = on_bad, .ctx = j,
    };
    bise_audit a = { 0 };
    run_estimate e = { 0 };
    bise_status s = bise_audit_run(&a, &o, err);
    if (s == BISE_OK)
        s = estimate(&e, j, &a, err);
    if (s == BISE_OK) {
        print_audit(j, &a, &e);
        set_result(j, &a, &e);
        /* the result stands, but a script must notice */
        ctx->problems = (a.stats.bad > 0 && !o.write) || !a.stats.samples;
    }
    bise_audit_fini(&a);
    return s;
}

/* --- show --------------------------------------------------------------- */

/* One sample as text, and under --json also its ids and mask, which is what
 * tests compare with other encoders. */
static void show_sample(data_job *j, const bise_scan_row *row,
                        const bise_row *s)
{
    const bool color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    const int32_t trained = bise_row_supervised(s);
    bise_str text = { 0 };
    bise_data_render(&text, s, j->tokenizer, color && !j->ctx->json);
    bise_print(j->ctx, "%s--- %s:%llu, %s, %d tokens, %d trained\n%s",
               bise_json_size(j->list) ? "\n" : "", row->file,
               (unsigned long long)row->raw->line,
               bise_schema_name(row->schema), (int)s->n, (int)trained,
               bise_str_get(&text));
    bise_json *o = bise_json_new_object(), *ids = bise_json_new_array();
    bise_json *mask = bise_json_new_array();
    for (int32_t i = 0; i < s->n && j->ctx->json; i++) {
        (void)bise_json_append(ids, bise_json_new_int(s->ids[i]));
        (void)bise_json_append(mask, bise_json_new_int(i && s->mask[i]));
    }
    if (text.len)
        text.len--;                     /* without the newline */
    (void)bise_json_set(o, "file", bise_json_new_string(row->file));
    (void)bise_json_set(o, "line",
                        bise_json_new_int((int64_t)row->raw->line));
    (void)bise_json_set(o, "tokens", bise_json_new_int(s->n));
    (void)bise_json_set(o, "supervised_tokens", bise_json_new_int(trained));
    (void)bise_json_set(o, "text",
                        bise_json_new_stringn(bise_str_get(&text), text.len));
    (void)bise_json_set(o, "ids", ids);
    (void)bise_json_set(o, "mask", mask);
    (void)bise_json_append(j->list, o);
    bise_str_fini(&text);
}

/* Show samples until there are enough; then stop the scan by cancelling it. A
 * bad row is told and passed over: the good ones are what one came to see. */
static bise_status on_row(void *ctx, const bise_scan_row *row, bise_error *err)
{
    data_job *j = ctx;
    if ((int64_t)row->raw->line < bise_opt_int(j->ctx->args, "line", 1))
        return BISE_OK;
    if (row->reason)
        bise_progress_say(j->ctx->progress, "%s:%llu: %s", row->file,
                          (unsigned long long)row->raw->line, row->reason);
    for (size_t i = 0; i < row->n && j->left > 0; i++, j->left--) {
        bise_row s = bise_scan_sample(row, i);
        if (j->o.max_len > 0 && s.n > j->o.max_len)
            s.n = j->o.max_len;
        show_sample(j, row, &s);
    }
    return j->left > 0 ? BISE_OK :
           bise_fail(err, BISE_ECANCEL, "enough samples");
}

/* Scan until enough samples were shown. */
static bise_status run_show(data_job *j, bise_error *err)
{
    bise_sources sources = { 0 };
    j->left = bise_opt_int(j->ctx->args, "n", 5);
    if (j->left < 1)
        return bise_fail(err, BISE_EINVAL, "-n must be at least 1");
    bise_status s = bise_sources_find(&sources, j->files, j->o.n_files, NULL,
                                      err);
    if (s == BISE_OK)
        s = bise_scan(&sources, &j->o, on_row, j, err);
    if (s == BISE_ECANCEL && j->left == 0) {
        bise_error_init(err);
        s = BISE_OK;
    }
    if (s == BISE_OK && !bise_json_size(j->list)) {
        s = bise_fail(err, BISE_EFORMAT, "no row to show");
        s = bise_error_in(err, j->files[0], NULL);
    }
    bise_result_set(j->ctx, "samples", bise_json_ref(j->list));
    bise_sources_fini(&sources);
    return s;
}

/* The first positional argument is the verb. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    data_job j;
    const char *what = bise_arg(ctx->args, 0);
    const bool check = !strcmp(what, "check");
    if (!check && strcmp(what, "show"))
        return bise_fail(err, BISE_EINVAL,
                         "'data %s' is not known, but check and show are",
                         what);
    bise_status s = job_init(&j, ctx, err);
    if (s == BISE_OK)
        s = check ? run_check(&j, err) : run_show(&j, err);
    job_fini(&j);
    return s;
}

const bise_command bise_cmd_data = {
    .name = "data",
    .args = "check|show F... --model M",
    .help = "check training rows, or show them as the trainer sees them",
    .details = "F is JSONL (or a JSON array, or objects over several lines; "
               ".gz or .zst of them) or a directory with train.jsonl. "
               "Accepted rows: messages, conversations, instruction + output "
               "(or response), prompt + completion, input + output, question "
               "+ answer, prefix + suffix + middle, segments, text, "
               "preference pairs. check lists every bad row and exits with 1 "
               "when there is one or nothing to train; --write saves the "
               "good rows without repetitions. show marks the trained part "
               "by color, or by [[ ]] in a pipe, and passes over bad rows.",
    .options = options,
    .min_args = 2,
    .max_args = -1,
    .run = run,
};
