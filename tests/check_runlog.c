/* check_runlog.c - log.jsonl: written and read back, continued after a kill,
 * broken lines.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "finetune/runlog.h"

static bise_error err;
static char path[64];

static void set_up(void)
{
    snprintf(path, sizeof path, "/tmp/bise-runlog-%ld.jsonl", (long)getpid());
    unlink(path);
}

static void tear_down(void)
{
    unlink(path);
}

static void add(bise_runlog *l, uint64_t step, double loss, double eval)
{
    const bise_logline line = {
        .step = step, .loss = loss, .lr = 1e-4, .grad_norm = 0.5,
        .tokens_per_second = 12.5, .seconds = 3, .eval_loss = eval,
        .tokens = 100 * step, .supervised = 40 * step,
        .peak_rss_bytes = 1 << 20 };
    ck_ok(bise_runlog_add(l, &line, NULL, &err));
}

static void write_log(uint64_t steps, int64_t last)
{
    bise_runlog *l;
    ck_ok(bise_runlog_open(&l, path, last, &err));
    if (last < 0) {
        bise_json *run = bise_json_new_object();
        (void)bise_json_set(run, "model", bise_json_new_string("tiny"));
        const bise_logline first = { .loss = NAN, .lr = NAN, .grad_norm = NAN,
                                     .tokens_per_second = NAN, .seconds = 0,
                                     .eval_loss = 5.5 };
        ck_ok(bise_runlog_add(l, &first, run, &err));
        bise_json_free(run);
    }
    for (uint64_t i = (uint64_t)(last < 0 ? 0 : last) + 1; i <= steps; i++)
        add(l, i, 1.0 / (double)i, i % 2 ? NAN : 2.0);
    ck_ok(bise_runlog_close(l, &err));
}

START_TEST(what_is_written_reads_back)
{
    bise_runlog_data d = { 0 };
    write_log(3, -1);
    ck_ok(bise_runlog_read(&d, path, &err));
    ck_assert_uint_eq(d.n, 4);
    ck_assert(isnan(d.lines[0].loss));
    ck_assert_double_eq(d.lines[0].eval_loss, 5.5);
    ck_assert_str_eq(bise_json_string(bise_json_get(d.run, "model"), NULL),
                     "tiny");
    ck_assert_double_eq(d.lines[3].loss, 1.0 / 3);
    ck_assert(isnan(d.lines[3].eval_loss));
    ck_assert_double_eq(d.lines[2].eval_loss, 2);
    ck_assert_uint_eq(d.lines[3].tokens, 300);
    ck_assert_uint_eq(d.lines[3].supervised, 120);
    bise_runlog_data_fini(&d);
}
END_TEST

/* A resumed run from step 2 ends with the same log as an uninterrupted one,
 * though the killed run had got further and died inside a line. */
START_TEST(resume_continues_the_log)
{
    bise_str whole = { 0 }, again = { 0 };
    write_log(6, -1);
    ck_ok(bise_file_read(&whole, path, &err));
    write_log(4, -1);
    FILE *f = fopen(path, "a");
    fputs("{\"step\": 5, \"lo", f);
    fclose(f);
    write_log(6, 2);
    ck_ok(bise_file_read(&again, path, &err));
    ck_assert_str_eq(bise_str_get(&again), bise_str_get(&whole));
    bise_str_fini(&whole);
    bise_str_fini(&again);
}
END_TEST

START_TEST(a_cut_line_is_left_out)
{
    bise_runlog_data d = { 0 };
    write_log(2, -1);
    ck_assert_int_eq(truncate(path, (off_t)bise_file_size(path) - 3), 0);
    ck_ok(bise_runlog_read(&d, path, &err));
    ck_assert_uint_eq(d.n, 2);
    bise_runlog_data_fini(&d);
}
END_TEST

static const char *const broken[] = {
    "{\"step\": 1, \"loss\": }\n", "[1, 2]\n", "{\"loss\": 3}\n",
    "{\"step\": \"one\"}\n", "\n",
};

START_TEST(a_broken_line_is_refused)
{
    bise_runlog_data d = { 0 };
    ck_ok(bise_file_write(path, broken[_i], strlen(broken[_i]), &err));
    ck_fails(bise_runlog_read(&d, path, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.path, path);
    ck_assert_str_eq(err.hint, "line 1");
    ck_assert_ptr_null(d.lines);
}
END_TEST

START_TEST(a_missing_log_is_an_error)
{
    bise_runlog_data d = { 0 };
    ck_fails(bise_runlog_read(&d, path, &err), BISE_EIO);
}
END_TEST

START_TEST(writes_the_parts_of_a_step)
{
    bise_runlog *l;
    bise_runlog_data d = { 0 };
    bise_logline line = { .step = 1, .loss = 2, .lr = 1, .grad_norm = 1,
                          .tokens_per_second = 1, .seconds = 1,
                          .eval_loss = NAN, .tokens = 10 };
    ck_ok(bise_runlog_open(&l, path, -1, &err));
    ck_ok(bise_runlog_add(l, &line, NULL, &err));   /* no part, no object */
    for (int i = 0; i < BISE_TIME_PARTS; i++)
        line.time[i] = 0.5 + i;
    line.step = 2;
    line.tokens = 30;
    ck_ok(bise_runlog_add(l, &line, NULL, &err));
    ck_ok(bise_runlog_close(l, &err));
    ck_ok(bise_runlog_read(&d, path, &err));
    ck_assert_uint_eq(d.n, 2);
    ck_assert_uint_eq(d.n_parts, BISE_TIME_PARTS);
    ck_assert_uint_eq(d.part_tokens, 20);
    for (int i = 0; i < BISE_TIME_PARTS; i++) {
        ck_assert_str_eq(d.parts[i].name, bise_time_names[i]);
        ck_assert_double_eq_tol(d.parts[i].seconds, 0.5 + i, 1e-12);
    }
    bise_runlog_data_fini(&d);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("runlog");
    TCase *t = tcase_create("log");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, writes_the_parts_of_a_step);
    tcase_add_test(t, what_is_written_reads_back);
    tcase_add_test(t, resume_continues_the_log);
    tcase_add_test(t, a_cut_line_is_left_out);
    tcase_add_loop_test(t, a_broken_line_is_refused, 0,
                        sizeof broken / sizeof broken[0]);
    tcase_add_test(t, a_missing_log_is_an_error);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
