/* cmd_finetune.c - `bise finetune`: settings from a YAML file and from flags,
 * the plan, the run, the result. The option table is the table of settings
 * (finetune/settings.def) plus what is not part of run.yaml.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/packed.h"
#include "cli/record.h"
#include "core/file.h"
#include "core/mem.h"
#include "finetune/finetune.h"
#include "formats/yaml.h"

/* Kinds of settings as kinds of options. MAP is given as text. */
#define OPT_INT BISE_OPT_INT
#define OPT_REAL BISE_OPT_FLOAT
#define OPT_FLAG BISE_OPT_FLAG
#define OPT_CHOICE BISE_OPT_CHOICE
#define OPT_TEXT BISE_OPT_STRING
#define OPT_LIST BISE_OPT_LIST
#define OPT_MAP BISE_OPT_LIST
#define OPT_SIZE BISE_OPT_SIZE

static const bise_option options[] = {
    { "output", BISE_OPT_STRING, "DIR",
      "output directory; NAME.tar.zst is packed", NULL, 'o' },
    { "config", BISE_OPT_STRING, "RUN.yaml",
      "settings from a file; flags win over it", NULL, 0 },
    { "resume", BISE_OPT_FLAG, NULL,
      "go on from the newest checkpoint of the output directory", NULL, 0 },
    { "require-licence", BISE_OPT_STRING, "ID",
      "fail unless the model has this licence", NULL, 0 },
    { "plan", BISE_OPT_FLAG, NULL,
      "print settings, memory, disk and time, and stop", NULL, 0 },
#define BISE_SETTINGS_FLAGS
#define BISE_SETTING(kind, field, name, def, low, high, value, hold, help) \
    { name, OPT_##kind, value, help, def, 0 },
#include "finetune/settings.def"
#undef BISE_SETTING
    { .name = NULL },
};

/* A list option as an array of texts. */
static bise_json *list_value(const struct bise_args *a, const char *name)
{
    int n = 0;
    const char *const *texts = bise_opt_list(a, name, &n);
    bise_json *list = bise_json_new_array();
    for (int i = 0; i < n; i++)
        (void)bise_json_append(list, bise_json_new_string(texts[i]));
    return list;
}

/* "NAME=N" of every value of a map option, joined by commas. */
static bise_status set_map(bise_settings *s, const struct bise_args *a,
                           const char *name, bise_error *err)
{
    int n = 0;
    const char *const *texts = bise_opt_list(a, name, &n);
    bise_str all = { 0 };
    for (int i = 0; i < n; i++)
        bise_str_printf(&all, "%s%s", i ? "," : "", texts[i]);
    const bise_status st = bise_settings_set(s, name, bise_str_get(&all), err);
    bise_str_fini(&all);
    return st;
}

/* Flags over what the file said. Only options that were given are taken: a
 * default must not win over the file. */
static bise_status set_flags(bise_settings *s, const struct bise_args *a,
                             bise_error *err)
{
    size_t n;
    const bise_setting_row *row = bise_settings_table(&n);
    bise_status st = BISE_OK;
    for (size_t i = 0; i < n && !st; i++) {
        const char *name = row[i].name;
        if (!bise_opt_given(a, name))
            continue;
        if (row[i].kind == BISE_SET_LIST)
            st = bise_settings_put(s, name, list_value(a, name), err);
        else if (row[i].kind == BISE_SET_MAP)
            st = set_map(s, a, name, err);
        else if (row[i].kind == BISE_SET_FLAG)
            st = bise_settings_put(s, name, bise_json_new_bool(true), err);
        else
            st = bise_settings_set(s, name, bise_opt_str(a, name, NULL), err);
    }
    if (!st && bise_arg_count(a))
        st = bise_settings_set(s, "model", bise_arg(a, 0), err);
    return st;
}

/* The file, the flags, the defaults. A resumed run without --config takes the
 * run.yaml of its directory. An archive as output is given to the caller
 * (borrowed), the settings get its folder. */
static bise_status make_settings(bise_settings *s, const struct bise_args *a,
                                 bool resume, const char **archive,
                                 bise_error *err)
{
    const char *config = bise_opt_str(a, "config", NULL);
    const char *out = bise_opt_str(a, "output", NULL);
    char *dir = bise_packed_folder(out), *kept = NULL;
    if (!config && resume && dir) {
        kept = bise_path_join(dir, "run.yaml");
        if (kept && bise_file_exists(kept))
            config = kept;
    }
    bise_status st = config ? bise_settings_load(s, config, err) : BISE_OK;
    bise_free(kept);
    if (!st)
        st = set_flags(s, a, err);
    if (!st && bise_packed_is(out)) {
        *archive = out;
        st = dir ? bise_settings_set(s, "output", dir, err)
                 : bise_fail_nomem(err);
    }
    bise_free(dir);
    return st ? st : bise_settings_resolve(s, err);
}

/* "2 h 05 min" of a number of seconds. */
static const char *format_seconds(char out[48], double s)
{
    if (s >= 3600)
        snprintf(out, 48, "%.0f h %02.0f min", floor(s / 3600),
                 floor(fmod(s, 3600) / 60));
    else if (s >= 60)
        snprintf(out, 48, "%.0f min %02.0f s", floor(s / 60), fmod(s, 60));
    else
        snprintf(out, 48, "%.1f s", s);
    return out;
}

/* One size of the plan, as a line and as a key. */
static void put_bytes(bise_context *ctx, bise_json *o, const char *key,
                      const char *title, uint64_t bytes)
{
    char text[32];
    (void)bise_json_set(o, key, bise_json_new_int((int64_t)bytes));
    bise_print(ctx, "%-18s %s\n", title, bise_format_bytes(text, bytes));
}

/* --plan: what would happen, and stop. */
static void print_plan(bise_context *ctx, const bise_settings *s,
                       const bise_finetune_plan *p)
{
    bise_json *o = bise_json_new_object();
    bise_str yaml = { 0 };
    char text[48];
    for (size_t i = 0, n; i < (bise_settings_table(&n), n); i++) {
        const char *name = bise_settings_table(&n)[i].name;
        const bise_json *v = bise_json_get(s->values, name);
        bise_json *one = bise_json_new_object();
        if (v && bise_json_set(one, name, bise_json_copy(v)) == 0)
            bise_yaml_dump(&yaml, one);
        bise_json_free(one);
    }
    bise_print(ctx, "%s\n", bise_str_get(&yaml));
    bise_str_fini(&yaml);
    bise_print(ctx, "%-18s %" PRIu64 " (warm-up %" PRIu64 ")\n", "steps",
               p->feed.steps, p->warmup);
    bise_print(ctx, "%-18s %" PRIu64 "\n", "trained values", p->parameters);
    if (p->feed.pack.packing)
        bise_print(ctx, "%-18s %.1f %% of the passes empty\n", "packing",
                   100 * p->feed.empty);
    bise_print(ctx, "%-18s %d\n", "tokens in a pass", (int)p->pass_tokens);
    put_bytes(ctx, o, "activation_bytes", "activations", p->activation_bytes);
    put_bytes(ctx, o, "adapter_bytes", "adapter", p->adapter_bytes);
    put_bytes(ctx, o, "optimizer_bytes", "optimizer", p->optimizer_bytes);
    if (p->base_bytes)
        put_bytes(ctx, o, "base_bytes", "quantized layers", p->base_bytes);
    put_bytes(ctx, o, "program_bytes", "program, data", p->program_bytes);
    put_bytes(ctx, o, "weights_bytes", "weights (mapped)", p->weights_bytes);
    put_bytes(ctx, o, "resident_bytes", p->streamed ? "  streamed, of them" :
              "  resident", p->resident_bytes);
    put_bytes(ctx, o, "memory_bytes", "memory peak", p->peak_bytes);
    put_bytes(ctx, o, "memory_limit", "memory allowed", p->memory_limit);
    put_bytes(ctx, o, "disk_bytes", "disk", p->disk_bytes);
    bise_print(ctx, "%-18s about %s, %.1f tokens a second\n", "time",
               format_seconds(text, p->seconds), p->tokens / p->seconds);
    (void)bise_json_set(o, "streamed", bise_json_new_bool(p->streamed));
    (void)bise_json_set(o, "tokens_per_second",
                        bise_json_new_real(p->tokens / p->seconds));
    (void)bise_json_set(o, "steps", bise_json_new_int((int64_t)p->feed.steps));
    (void)bise_json_set(o, "seconds", bise_json_new_real(p->seconds));
    (void)bise_json_set(o, "settings", bise_json_copy(s->values));
    bise_result_set(ctx, "plan", o);
}

/* Keys of cli.md 2, and a short text. */
static void give_result(bise_context *ctx, const char *output,
                        const char *report, const bise_train_state *st,
                        const bise_finetune_plan *plan)
{
    const double speed = st->seconds > 0 ? (double)st->tokens / st->seconds
                                         : 0;
    const double products = speed * plan->token_flops;
    bise_json *r = ctx->result;
    (void)bise_json_set(r, "steps", bise_json_new_int((int64_t)st->step));
    (void)bise_json_set(r, "tokens", bise_json_new_int((int64_t)st->tokens));
    (void)bise_json_set(r, "supervised_tokens",
                        bise_json_new_int((int64_t)st->supervised));
    (void)bise_json_set(r, "tokens_per_second", bise_json_new_real(speed));
    (void)bise_json_set(r, "loss_first", bise_json_new_real(st->loss_first));
    (void)bise_json_set(r, "loss_last", bise_json_new_real(st->loss_last));
    (void)bise_json_set(r, "eval_loss_first",
                        bise_json_new_real(st->eval_first));
    (void)bise_json_set(r, "eval_loss_last",
                        bise_json_new_real(st->eval_last));
    (void)bise_json_set(r, "adapter", bise_json_new_string(output));
    bise_print(ctx, "steps            %" PRIu64 "\n", st->step);
    bise_print(ctx, "tokens           %" PRIu64 " (%" PRIu64 " trained), %.0f "
               "a second\n", st->tokens, st->supervised, speed);
    bise_print(ctx, "products         %.0f Gflop/s, %.0f %% of the %.0f that "
               "they reach alone\n", products * 1e-9,
               100 * products / plan->product_speed,
               plan->product_speed * 1e-9);
    bise_print(ctx, "loss             %.4f -> %.4f\n", st->loss_first,
               st->loss_last);
    if (isfinite(st->eval_last))
        bise_print(ctx, "evaluation loss  %.4f -> %.4f\n", st->eval_first,
                   st->eval_last);
    bise_print(ctx, "adapter          %s\nreport           %s%s\n", output,
               report ? report : "in it: report.html",
               report ? "/report.html" : "");
}

/* --NAME KEY=VALUE for each entry, as the option takes them. */
static void put_map(bise_str *out, const char *name, const bise_json *map)
{
    for (void *it = bise_json_iter(map, NULL); it;
         it = bise_json_iter(map, it)) {
        bise_str entry = { 0 };
        bise_str_printf(&entry, "%s=", bise_json_iter_key(it));
        bise_json_dump(&entry, bise_json_iter_value(it), 0, true);
        bise_str_printf(out, " --%s ", name);
        bise_record_value(out, bise_str_get(&entry));
        bise_str_fini(&entry);
    }
}

/* What decides the result, where it is not the default: the same command line
 * whether settings came from a file or from flags, resumed or not. */
static char *make_command(const bise_settings *s, bise_error *err)
{
    bise_settings plain = { 0 };
    bise_str out = { 0 };
    size_t n;
    const bise_setting_row *row = bise_settings_table(&n);
    bise_status st = bise_settings_resolve(&plain, err);
    bise_str_puts(&out, "bise finetune");
    if (s->model) {
        bise_str_putc(&out, ' ');
        bise_record_value(&out, s->model);
    }
    for (size_t i = 0; i < n && st == BISE_OK; i++) {
        const bise_json *v = bise_json_get(s->values, row[i].name);
        const bool list = row[i].kind == BISE_SET_LIST;
        bise_str now = { 0 }, then = { 0 };
        bise_json_dump(&now, v, 0, true);
        bise_json_dump(&then, bise_json_get(plain.values, row[i].name), 0,
                       true);
        const bool usual = strcmp(bise_str_get(&now),
                                  bise_str_get(&then)) == 0;
        const bool used = list && strcmp(row[i].name, "data") == 0;
        for (size_t k = 0; used && k < bise_json_size(v); k++) {
            bise_str_printf(&out, " --%s ", row[i].name);
            bise_record_value(&out, bise_json_string(bise_json_at(v, k),
                                                     NULL));
        }
        if (row[i].fixed && !usual && row[i].kind == BISE_SET_MAP)
            put_map(&out, row[i].name, v);
        else if (row[i].fixed && !usual && !list) {
            const char *text = bise_json_string(v, NULL);
            bise_str_printf(&out, " --%s", row[i].name);
            if (row[i].kind != BISE_SET_FLAG) {
                bise_str_putc(&out, ' ');
                bise_record_value(&out, text ? text : bise_str_get(&now));
            }
        }
        bise_str_fini(&now);
        bise_str_fini(&then);
    }
    bise_settings_fini(&plain);
    bise_str_puts(&out, "  # bise " PACKAGE_VERSION);
    if (st == BISE_OK && bise_str_ok(&out))
        return bise_str_take(&out);
    bise_str_fini(&out);
    if (st == BISE_OK)
        st = bise_fail_nomem(err);
    return NULL;
}

/* Settings, then inputs and plan, then the run. Faults of usage show before
 * any file is read; --plan stops before the output directory is touched. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    bise_settings s = { 0 };
    bise_finetune f = { 0 };
    bise_train_state state;
    bise_finetune_options o = {
        .resume = bise_opt_given(ctx->args, "resume"), .force = ctx->force,
        .pool = ctx->pool, .progress = ctx->progress };
    const bool plan = bise_opt_given(ctx->args, "plan");
    const char *archive = NULL;
    bise_status st = make_settings(&s, ctx->args, o.resume, &archive, err);
    /* A missing output is told before the data is read. */
    if (!st && !plan && !s.output)
        st = bise_fail(err, BISE_EINVAL, "no output directory given")
                 ? bise_error_hint(err, "-o DIR") : BISE_OK;
    if (!st && archive && !plan)
        st = bise_packed_check(archive, ctx, err);
    char *command = st ? NULL : make_command(&s, err);
    o.command = command;
    if (!st && !command)
        st = err->status;
    if (!st)
        st = bise_finetune_open(&f, &s, &o, err);
    if (!st)
        st = bise_record_licence(ctx, s.model, f.base.licence, false, err);
    if (!st && plan)
        print_plan(ctx, &s, &f.plan);
    else if (!st)
        st = bise_finetune_train(&f, &state, err);
    if (!st && !plan && archive)
        st = bise_packed_run(archive, s.output, ctx, err);
    if (!st && !plan)
        give_result(ctx, archive ? archive : s.output,
                    archive ? NULL : s.output, &state, &f.plan);
    bise_finetune_close(&f);
    bise_free(command);
    bise_settings_fini(&s);
    return st;
}

const bise_command bise_cmd_finetune = {
    .name = "finetune",
    .args = "MODEL --data F... -o DIR",
    .help = "train a LoRA adapter",
    .details = "Settings come from flags and from a YAML file with the same "
               "names (--config); flags win. The resolved settings are "
               "written to DIR/run.yaml, which starts the same run again. "
               "DIR gets a PEFT adapter, a log, a report and checkpoints.",
    .options = options,
    .min_args = 0,
    .max_args = 1,
    .run = run,
};
