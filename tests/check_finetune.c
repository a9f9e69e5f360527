/* check_finetune.c - a whole run through the library: the plan, what the output
 * directory holds, stopping after any step and going on, two optimizers and two
 * precisions, memory and inputs that do not fit.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "finetune/finetune.h"
#include "finetune/rundir.h"
#include "finetune/runlog.h"

#define MODEL BISE_SRCDIR "/examples/tiny-mistral3"

static bise_error err;
static char dir[64], rows[96];
static volatile sig_atomic_t cancel;
static uint64_t cancel_at;     /* step after which the user stops, 0 = never */
static int messages;

/* The user: counts messages and presses Ctrl-C after a step. */
static void report(void *ctx, const char *stage, uint64_t done, uint64_t total,
                   const char *unit, const char *remark)
{
    if (strcmp(stage, "finetune") != 0) /* reading the data */
        return;
    ck_assert_str_eq(unit, "steps");
    ck_assert_uint_le(done, total);
    ck_assert_ptr_nonnull(strstr(remark, "loss "));
    if (cancel_at && done >= cancel_at)
        cancel = 1;
    (void)ctx;
}

static void message(void *ctx, const char *text)
{
    ck_assert_uint_gt(strlen(text), 0);
    messages++;
    (void)ctx;
}

static const bise_progress progress = { report, message, NULL, &cancel };

static void set_up(void)
{
    static const char text[] =
        "{\"text\": \"one two three four five\"}\n"
        "{\"text\": \"The old man went down to the sea again\"}\n"
        "{\"text\": \"a b c d e f g h i j k l m n o p\"}\n"
        "{\"text\": \"SELECT name FROM table WHERE id = 5\"}\n"
        "{\"text\": \"and so it went on and on and on\"}\n";
    snprintf(dir, sizeof dir, "/tmp/bise-finetune-%ld", (long)getpid());
    bise_remove_tree(dir);
    ck_ok(bise_mkdir(dir, &err));
    snprintf(rows, sizeof rows, "%s/rows.jsonl", dir);
    ck_ok(bise_file_write(rows, text, sizeof text - 1, &err));
    cancel = 0;
    cancel_at = 0;
    messages = 0;
}

static void tear_down(void)
{
    bise_remove_tree(dir);
}

/* Settings from pairs of name and text, ending with NULL, over small ones. */
static void settings(bise_settings *s, const char *out, ...)
{
    static const char *const base[][2] = {
        { "lora-r", "2" }, { "target", "q_proj,down_proj" }, { "steps", "4" },
        { "batch", "2" }, { "lr", "1e-2" }, { "eval-every", "2" },
        { "save-every", "2" }, { "lora-dropout", "0.2" } };
    char path[128];
    va_list args;
    const char *name;
    memset(s, 0, sizeof *s);
    snprintf(path, sizeof path, "%s/%s", dir, out);
    ck_ok(bise_settings_set(s, "model", MODEL, &err));
    ck_ok(bise_settings_set(s, "output", path, &err));
    ck_ok(bise_settings_set(s, "data", rows, &err));
    ck_ok(bise_settings_set(s, "eval-data", rows, &err));
    for (size_t i = 0; i < sizeof base / sizeof base[0]; i++)
        ck_ok(bise_settings_set(s, base[i][0], base[i][1], &err));
    va_start(args, out);
    while ((name = va_arg(args, const char *)) != NULL)
        ck_ok(bise_settings_set(s, name, va_arg(args, const char *), &err));
    va_end(args);
    ck_ok(bise_settings_resolve(s, &err));
}

/* What the program takes differs by allocator and sanitizer: plans count this.
 */
enum { PROGRAM = 20000000 };

/* Open and train; the status of the first that fails. */
static bise_status train(const bise_settings *s, bool resume, bool force,
                         bise_train_state *state)
{
    bise_finetune f = { 0 };
    const bise_finetune_options o = { .resume = resume, .force = force,
                                      .program_bytes = PROGRAM,
                                      .progress = &progress };
    bise_error_init(&err);
    bise_status st = bise_finetune_open(&f, s, &o, &err);
    if (!st)
        st = bise_finetune_train(&f, state, &err);
    bise_finetune_close(&f);
    return st;
}

/* Content of OUT/NAME. */
static void slurp(bise_str *out, const char *run, const char *name)
{
    char path[192];
    snprintf(path, sizeof path, "%s/%s/%s", dir, run, name);
    ck_ok(bise_file_read(out, path, &err));
}

static bool there(const char *run, const char *name)
{
    char path[192];
    snprintf(path, sizeof path, "%s/%s/%s", dir, run, name);
    return bise_file_exists(path);
}

static void same_adapter(const char *a, const char *b)
{
    bise_str x = { 0 }, y = { 0 };
    slurp(&x, a, "adapter_model.safetensors");
    slurp(&y, b, "adapter_model.safetensors");
    ck_assert_uint_eq(x.len, y.len);
    ck_assert_mem_eq(x.data, y.data, x.len);
    bise_str_fini(&x);
    bise_str_fini(&y);
}

START_TEST(a_run_learns_and_leaves_everything)
{
    static const char *const files[] = {
        "adapter_model.safetensors", "adapter_config.json", "run.yaml",
        "log.jsonl", "report.html", "loss.svg", "README.md",
        "checkpoints/4/trainer_state.json", "checkpoints/2/optimizer.safetensors"
    };
    bise_settings s;
    bise_train_state st;
    settings(&s, "run", "steps", "12", "keep", "99", NULL);
    ck_ok(train(&s, false, false, &st));
    ck_assert_uint_eq(st.step, 12);
    ck_assert_uint_eq(st.skipped, 0);
    ck_assert_double_lt(st.eval_last, st.eval_first - 0.3);
    ck_assert_uint_gt(st.tokens, 100);
    ck_assert_uint_ge(st.tokens, st.supervised);
    ck_assert_int_gt(messages, 2);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        ck_assert_msg(there("run", files[i]), "%s is missing", files[i]);
    bise_settings_fini(&s);
}
END_TEST

/* Facts for the report: no path of this machine. */
START_TEST(log_and_card_tell_no_paths)
{
    bise_settings s;
    bise_train_state st;
    bise_str log = { 0 }, card = { 0 };
    settings(&s, "run", NULL);
    ck_ok(train(&s, false, false, &st));
    slurp(&log, "run", "log.jsonl");
    slurp(&card, "run", "README.md");
    ck_assert_ptr_null(strstr(bise_str_get(&log), dir));
    ck_assert_ptr_null(strstr(bise_str_get(&card), dir));
    ck_assert_ptr_nonnull(strstr(bise_str_get(&card), "rows.jsonl"));
    ck_assert_int_eq(strncmp(bise_str_get(&card), "---\nbase_model: ", 16), 0);
    ck_assert_ptr_nonnull(strstr(bise_str_get(&log), "\"tiny-mistral3\""));
    bise_str_fini(&log);
    bise_str_fini(&card);
    bise_settings_fini(&s);
}
END_TEST

static const char *const variants[][2] = {
    { "optimizer", "adamw" }, { "optimizer", "adamw8" },
    { "optimizer", "lion" },  { "compute", "bf16" },
    { "checkpointing", "on" }, { "rslora", "true" },
    { "batch", "40tokens" },  { "packing", "off" },
};

/* Stopped after the first or third of four steps, then resumed: the adapter of
 * a run that was never stopped, byte for byte, with every option. */
START_TEST(stopping_changes_nothing)
{
    bise_settings whole, cut;
    bise_train_state st;
    const char *name = variants[_i][0], *value = variants[_i][1];
    settings(&whole, "whole", name, value, NULL);
    ck_ok(train(&whole, false, false, &st));
    settings(&cut, "cut", name, value, "save-every", "100", NULL);
    cancel_at = _i % 2 ? 1 : 3;
    ck_assert_int_eq(train(&cut, false, false, &st), BISE_ECANCEL);
    ck_assert_uint_eq(st.step, cancel_at);
    ck_assert_ptr_nonnull(strstr(err.hint, "--resume"));
    ck_assert(!there("cut", "adapter_model.safetensors"));
    ck_assert(there("cut", _i % 2 ? "checkpoints/1" : "checkpoints/3"));
    cancel = 0;
    cancel_at = 0;
    ck_ok(train(&cut, true, false, &st));
    ck_assert_uint_eq(st.step, 4);
    same_adapter("whole", "cut");
    bise_settings_fini(&whole);
    bise_settings_fini(&cut);
}
END_TEST

/* A finished run that is resumed has nothing to do and stays as it is; one that
 * never came to a checkpoint starts at the first step. */
START_TEST(resuming_at_both_ends)
{
    bise_settings s;
    bise_train_state st;
    settings(&s, "run", NULL);
    ck_ok(train(&s, true, false, &st));
    ck_assert_uint_eq(st.step, 4);
    bise_str before = { 0 }, after = { 0 };
    slurp(&before, "run", "log.jsonl");
    ck_ok(train(&s, true, false, &st));
    slurp(&after, "run", "log.jsonl");
    ck_assert_str_eq(bise_str_get(&before), bise_str_get(&after));
    bise_str_fini(&before);
    bise_str_fini(&after);
    bise_settings_fini(&s);
}
END_TEST

/* The log has every step once, evaluations where they are due, rising sums. */
START_TEST(the_log_is_complete)
{
    bise_settings s;
    bise_train_state st;
    bise_runlog_data d = { 0 };
    char path[128];
    settings(&s, "run", "steps", "5", NULL);
    cancel_at = 3;
    ck_assert_int_eq(train(&s, false, false, &st), BISE_ECANCEL);
    cancel = 0;
    cancel_at = 0;
    ck_ok(train(&s, true, false, &st));
    snprintf(path, sizeof path, "%s/run/log.jsonl", dir);
    ck_ok(bise_runlog_read(&d, path, &err));
    ck_assert_uint_eq(d.n, 6);
    for (size_t i = 0; i < d.n; i++) {
        const bise_logline *l = &d.lines[i];
        ck_assert_uint_eq(l->step, i);
        ck_assert_int_eq(isnan(l->loss), i == 0);
        ck_assert_int_eq(isfinite(l->eval_loss), i % 2 == 0 || i == 5);
        ck_assert(i == 0 || l->tokens > d.lines[i - 1].tokens);
        ck_assert(i == 0 || l->seconds >= d.lines[i - 1].seconds);
    }
    ck_assert_double_eq(d.lines[5].loss, st.loss_last);
    ck_assert_double_eq(d.lines[0].eval_loss, st.eval_first);
    ck_assert_uint_eq(d.lines[5].tokens, st.tokens);
    bise_runlog_data_fini(&d);
    bise_settings_fini(&s);
}
END_TEST

START_TEST(an_existing_run_is_safe)
{
    bise_settings s, other;
    bise_train_state st;
    settings(&s, "run", NULL);
    ck_ok(train(&s, false, false, &st));
    ck_assert_int_eq(train(&s, false, false, &st), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "exists"));
    ck_assert(there("run", "adapter_model.safetensors"));
    /* Other settings or other data do not continue it. */
    settings(&other, "run", "seed", "9", NULL);
    ck_assert_int_eq(train(&other, true, false, &st), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "'seed'"));
    ck_ok(bise_file_write(rows, "{\"text\": \"something else\"}\n", 27, &err));
    ck_assert_int_eq(train(&s, true, false, &st), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "other training data"));
    ck_ok(train(&other, false, true, &st));
    bise_settings_fini(&s);
    bise_settings_fini(&other);
}
END_TEST

START_TEST(the_output_may_not_be_a_file)
{
    bise_settings s;
    bise_train_state st;
    settings(&s, "rows.jsonl", NULL);
    ck_assert_int_eq(train(&s, false, true, &st), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "not a directory"));
    bise_settings_fini(&s);
}
END_TEST

/* name, value, status, part of the message */
static const struct {
    const char *name, *value;
    bise_status status;
    const char *text;
} wrong[] = {
    { "memory", "1000", BISE_ENOMEM, "may be used" },
    { "target", "no_proj", BISE_EINVAL, "no_proj" },
    { "model", "/nonexistent/model", BISE_EIO, "" },
    { "data", "/nonexistent/rows.jsonl", BISE_EIO, "" },
    { "eval-data", "/nonexistent/rows.jsonl", BISE_EIO, "" },
    { "micro-batch", "3tokens", BISE_EINVAL, "'micro-batch'" },
};

START_TEST(what_cannot_be_done_is_told_first)
{
    bise_settings s;
    bise_train_state st;
    settings(&s, "run", wrong[_i].name, wrong[_i].value, NULL);
    ck_assert_int_eq(train(&s, false, false, &st), wrong[_i].status);
    ck_assert_msg(strstr(err.text, wrong[_i].text) != NULL, "%s", err.text);
    ck_assert(!there("run", ""));
    bise_settings_fini(&s);
}
END_TEST

START_TEST(the_plan_adds_up)
{
    bise_settings s;
    bise_finetune f = { 0 };
    const bise_finetune_options o = { .progress = &progress };
    settings(&s, "run", "steps", "50", "warmup", "0.1", "save-every", "0",
             "eval-every", "0", NULL);
    ck_ok(bise_finetune_open(&f, &s, &o, &err));
    const bise_finetune_plan *p = &f.plan;
    ck_assert_uint_eq(p->feed.steps, 50);
    ck_assert_uint_eq(p->warmup, 5);
    ck_assert_uint_eq(p->save_every, 5);
    ck_assert_uint_ge(p->eval_every, 5);
    /* q: 256 -> 512, down: 768 -> 256, six layers, rank 2 */
    ck_assert_uint_eq(p->parameters, 6 * 2 * (256 + 512 + 768 + 256));
    ck_assert_uint_eq(p->adapter_bytes, p->parameters * 8);
    ck_assert_uint_eq(p->optimizer_bytes, p->parameters * 8);
    ck_assert_uint_gt(p->activation_bytes, 100000);
    ck_assert_uint_eq(p->weights_bytes, 6950144 * 2);
    ck_assert_double_gt(p->seconds, 0);
    /* Head and embedding are one; all of it is resident. */
    ck_assert(!p->streamed);
    ck_assert_uint_le(p->resident_bytes, p->weights_bytes);
    ck_assert_uint_gt(p->resident_bytes, p->weights_bytes - 8192);
    ck_assert_uint_eq(p->peak_bytes, p->program_bytes + p->adapter_bytes +
                      p->optimizer_bytes + p->activation_bytes +
                      p->resident_bytes);
    ck_assert(!there("run", ""));
    /* Facts are those of the inputs. */
    bise_json *facts = bise_finetune_facts(&f);
    int64_t n = 0;
    ck_assert(bise_json_integer(bise_json_get(bise_json_get(facts, "data"),
                                              "samples"), &n) && n == 5);
    ck_assert(bise_json_integer(bise_json_get(bise_json_get(facts, "model"),
                                              "product_flops_per_token"), &n));
    ck_assert_int_eq(n, (int64_t)p->token_flops);
    ck_assert(bise_json_integer(bise_json_get(bise_json_get(facts, "machine"),
                                              "product_gflops"), &n));
    ck_assert_int_eq(n, (int64_t)(p->product_speed * 1e-9));
    bise_json_free(facts);
    bise_finetune_close(&f);
    bise_settings_fini(&s);
}
END_TEST

/* Weights that do not fit are read layer by layer, with the same result; also
 * when the run is stopped and resumed. */
START_TEST(streamed_weights_train_the_same_adapter)
{
    bise_settings s;
    bise_train_state st;
    bise_finetune f = { 0 };
    const bise_finetune_options o = { .progress = &progress,
                                      .program_bytes = PROGRAM };
    char memory[32];
    settings(&s, "whole", "compute", "bf16", "checkpointing", "on", NULL);
    ck_ok(train(&s, false, false, &st));
    ck_ok(bise_finetune_open(&f, &s, &o, &err));
    const uint64_t peak = f.plan.peak_bytes;
    ck_assert(!f.plan.streamed);
    bise_finetune_close(&f);
    bise_settings_fini(&s);
    snprintf(memory, sizeof memory, "%llu",
             (unsigned long long)peak - 4000000);
    settings(&s, "streamed", "compute", "bf16", "checkpointing", "on",
             "memory", memory, NULL);
    ck_ok(bise_finetune_open(&f, &s, &o, &err));
    ck_assert(f.plan.streamed && f.graph_options.stream_weights);
    ck_assert_uint_le(f.plan.peak_bytes, peak - 4000000);
    bise_finetune_close(&f);
    cancel_at = 2;
    ck_assert_int_eq(train(&s, false, false, &st), BISE_ECANCEL);
    cancel = cancel_at = 0;
    ck_ok(train(&s, true, false, &st));
    bise_settings_fini(&s);
    same_adapter("whole", "streamed");
}
END_TEST

/* The lock of a run keeps a second one out, also with --resume or --force. */
START_TEST(two_runs_do_not_share_a_directory)
{
    bise_rundir r;
    bise_settings s;
    bise_train_state st;
    settings(&s, "run", NULL);
    ck_ok(bise_rundir_open(&r, s.output, false, false, &err));
    ck_assert_int_eq(train(&s, true, false, &st), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "another run"));
    bise_rundir_close(&r);
    ck_ok(train(&s, true, false, &st));
    bise_settings_fini(&s);
}
END_TEST

/* More rank, longer rows, more of everything: more memory in the plan. */
START_TEST(the_plan_grows_with_its_settings)
{
    static const char *const more[][2] = {
        { "lora-r", "8" }, { "batch", "5" }, { "keep", "9" } };
    uint64_t base[2] = { 0 };
    for (int i = -1; i < 3; i++) {
        bise_settings s;
        bise_finetune f = { 0 };
        const bise_finetune_options o = { .progress = &progress };
        settings(&s, "run", i < 0 ? "keep" : more[i][0],
                 i < 0 ? "2" : more[i][1], NULL);
        ck_ok(bise_finetune_open(&f, &s, &o, &err));
        const uint64_t memory = f.plan.activation_bytes +
                                f.plan.adapter_bytes + f.plan.optimizer_bytes;
        if (i < 0) {
            base[0] = memory;
            base[1] = f.plan.disk_bytes;
        } else if (i < 2) {
            ck_assert_uint_gt(memory, base[0]);
        } else {
            ck_assert_uint_gt(f.plan.disk_bytes, base[1]);
        }
        bise_finetune_close(&f);
        bise_settings_fini(&s);
    }
}
END_TEST

/* A directory that cannot be written stops the run before the first step. */
START_TEST(a_disk_that_refuses)
{
    bise_settings s;
    bise_train_state st;
    settings(&s, "rows.jsonl/run", NULL);
    ck_assert_int_eq(train(&s, false, false, &st), BISE_EIO);
    ck_assert_uint_gt(strlen(err.path), 0);
    bise_settings_fini(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("finetune");
    TCase *t = tcase_create("run");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_run_learns_and_leaves_everything);
    tcase_add_test(t, log_and_card_tell_no_paths);
    tcase_add_loop_test(t, stopping_changes_nothing, 0,
                        sizeof variants / sizeof variants[0]);
    tcase_add_test(t, resuming_at_both_ends);
    tcase_add_test(t, the_log_is_complete);
    tcase_add_test(t, an_existing_run_is_safe);
    suite_add_tcase(s, t);
    t = tcase_create("plan");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_output_may_not_be_a_file);
    tcase_add_loop_test(t, what_cannot_be_done_is_told_first, 0,
                        sizeof wrong / sizeof wrong[0]);
    tcase_add_test(t, two_runs_do_not_share_a_directory);
    tcase_add_test(t, the_plan_adds_up);
    tcase_add_test(t, streamed_weights_train_the_same_adapter);
    tcase_add_test(t, the_plan_grows_with_its_settings);
    tcase_add_test(t, a_disk_that_refuses);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
