/* check_term.c - tests of what users see: progress and messages off a
 * terminal, the text of errors and their JSON, tables of odd shapes, and the
 * helpers that read parsed options.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/help.h"
#include "cli/table.h"
#include "cli/term.h"
#include "core/file.h"
#include "tests/check_main.h"

static char captured[8192];
static int saved = -1;
static FILE *sink;

/* Send stderr to a file from here on. */
static void capture(void)
{
    fflush(stderr);
    sink = tmpfile();
    ck_assert_ptr_nonnull(sink);
    saved = dup(2);
    ck_assert_int_ge(dup2(fileno(sink), 2), 0);
}

/* Give stderr back; what was written stands in captured. */
static void release(void)
{
    fflush(stderr);
    ck_assert_int_ge(dup2(saved, 2), 0);
    close(saved);
    rewind(sink);
    const size_t n = fread(captured, 1, sizeof captured - 1, sink);
    captured[n] = 0;
    fclose(sink);
}

START_TEST(messages_are_lines_with_the_name)
{
    bise_term t;
    capture();
    bise_term_init(&t, false, false);
    bise_term_message(&t, "3 rows were cut");
    release();
    ck_assert_str_eq(captured, "bise: 3 rows were cut\n");
    ck_assert(!t.tty);
    ck_assert(!t.color);
}
END_TEST

START_TEST(quiet_says_nothing_but_errors)
{
    bise_term t;
    bise_error err;
    bise_error_init(&err);
    ck_assert_int_eq(bise_fail(&err, BISE_EFORMAT, "bad"), BISE_EFORMAT);
    capture();
    bise_term_init(&t, true, false);
    bise_term_message(&t, "not shown");
    bise_term_report(&t, "pack", 1, 1, "bytes", "remark");
    bise_term_error(&t, &err);
    release();
    ck_assert_str_eq(captured, "bise: error: bad\n");
}
END_TEST

/* A result on the terminal takes the place of the progress line. */
START_TEST(an_open_line_is_taken_away)
{
    bise_term t;
    capture();
    bise_term_init(&t, false, false);
    bise_term_clear(&t);                /* nothing open: nothing written */
    t.line_open = true;
    bise_term_clear(&t);
    bise_term_end(&t);
    release();
    ck_assert_str_eq(captured, "\r\033[K");
}
END_TEST

START_TEST(progress_off_a_terminal_is_rare)
{
    bise_term t;
    capture();
    bise_term_init(&t, false, false);
    for (uint64_t i = 0; i < 10000; i++)
        bise_term_report(&t, "quantize", i, 10000, "bytes", NULL);
    bise_term_end(&t);
    release();
    ck_assert_str_eq(captured, "");
}
END_TEST

START_TEST(the_last_report_with_a_remark_is_a_line)
{
    bise_term t;
    capture();
    bise_term_init(&t, false, false);
    bise_term_report(&t, "finetune", 0, 20, "steps", NULL);
    bise_term_report(&t, "finetune", 20, 20, "steps", "loss 2.31");
    release();
    ck_assert_ptr_nonnull(strstr(captured, "bise: finetune: 20/20 steps"));
    ck_assert_ptr_nonnull(strstr(captured, "loss 2.31\n"));
    ck_assert_ptr_null(strchr(captured, '\r'));
    ck_assert_ptr_null(strchr(captured, '\033'));
}
END_TEST

/* Place of an error and the second line it makes. */
static const struct {
    const char *path, *tensor;
    int64_t offset;
    const char *line;
} places[] = {
    { NULL, NULL, -1, NULL },
    { "m.gguf", NULL, -1, "bise: in 'm.gguf'\n" },
    { "m.gguf", NULL, 1048576, "bise: in 'm.gguf' at byte 1048576\n" },
    { "m.gguf", "blk.0.attn_q.weight", 8,
      "bise: in 'm.gguf', tensor 'blk.0.attn_q.weight' at byte 8\n" },
    { NULL, "lm_head.weight", -1, "bise: in tensor 'lm_head.weight'\n" },
};

START_TEST(errors_say_what_where_and_what_to_do)
{
    bise_error err;
    bise_error_init(&err);
    ck_assert_int_eq(bise_fail_at(&err, BISE_EFORMAT, places[_i].offset,
                                  "found 3, expected 4"), BISE_EFORMAT);
    ck_assert_int_eq(bise_error_in(&err, places[_i].path, places[_i].tensor),
                     BISE_EFORMAT);
    ck_assert_int_eq(bise_error_hint(&err, "download it again"),
                     BISE_EFORMAT);
    bise_term t;
    capture();
    bise_term_init(&t, false, false);
    bise_term_error(&t, &err);
    release();
    char want[512];
    snprintf(want, sizeof want, "bise: error: found 3, expected 4\n%s%s",
             places[_i].line ? places[_i].line : "",
             "bise: hint: download it again\n");
    ck_assert_str_eq(captured, want);
}
END_TEST

START_TEST(errors_as_json_have_every_key)
{
    static const char *const keys[] = { "status", "message", "path", "offset",
                                        "tensor", "hint" };
    bise_error err;
    bise_error_init(&err);
    ck_assert_int_eq(bise_fail(&err, BISE_EIO, "gone"), BISE_EIO);
    bise_json *v = bise_error_json(&err);
    const bise_json *e = bise_json_get(v, "error");
    ck_assert_uint_eq(bise_json_size(e), 6);
    for (int i = 0; i < 6; i++)
        ck_assert_int_ne(bise_json_typeof(bise_json_get(e, keys[i])),
                         BISE_JSON_ABSENT);
    ck_assert_str_eq(bise_json_string(bise_json_get(e, "message"), NULL),
                     "gone");
    ck_assert(bise_json_is_null(bise_json_get(e, "path")));
    ck_assert(bise_json_is_null(bise_json_get(e, "offset")));
    bise_json_free(v);
}
END_TEST

START_TEST(an_empty_table_is_its_heads)
{
    static const char *const heads[] = { "a", ">b" };
    bise_table t;
    bise_str s = { 0 };
    bise_table_init(&t, 2, heads);
    bise_table_put(&s, &t, 80);
    ck_assert_str_eq(bise_str_get(&s), "a  b\n");
    bise_str_fini(&s);
    bise_table_fini(&t);
}
END_TEST

START_TEST(table_width_counts_characters_not_bytes)
{
    static const char *const heads[] = { "name", ">n" };
    bise_table t;
    bise_str s = { 0 };
    bise_table_init(&t, 2, heads);
    bise_table_add(&t, "caf\xc3\xa9");
    bise_table_add(&t, "1");
    bise_table_add(&t, "cafes");
    bise_table_add(&t, "22");
    bise_table_put(&s, &t, 80);
    ck_assert_str_eq(bise_str_get(&s),
                     "name    n\ncaf\xc3\xa9    1\ncafes  22\n");
    bise_str_fini(&s);
    bise_table_fini(&t);
}
END_TEST

START_TEST(table_without_a_limit_is_not_cut)
{
    static const char *const heads[] = { "x" };
    char wide[300];
    memset(wide, 'w', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    bise_table t;
    bise_str s = { 0 };
    bise_table_init(&t, 1, heads);
    bise_table_add(&t, "%s", wide);
    bise_table_put(&s, &t, 0);
    ck_assert_ptr_nonnull(strstr(bise_str_get(&s), wide));
    bise_str_fini(&s);
    bise_table_fini(&t);
}
END_TEST

/* Parse words against the command named by the first. */
static bise_status parse(bise_args *a, int n, const char *const *words,
                         bise_error *err)
{
    static char copy[16][128];
    static char program[] = "bise";
    char *argv[17] = { program };
    for (int i = 0; i < n; i++) {
        snprintf(copy[i], sizeof copy[i], "%s", words[i]);
        argv[i + 1] = copy[i];
    }
    return bise_args_parse(a, n + 1, argv, err);
}

START_TEST(list_options_take_the_values_behind_them)
{
    static const char *const words[] = { "finetune", "MODEL", "--data", "a",
                                         "b", "c", "-o", "out" };
    bise_error err;
    bise_args a;
    ck_ok(parse(&a, 8, words, &err));
    int n = 0;
    const char *const *data = bise_opt_list(&a, "data", &n);
    ck_assert_int_eq(n, 3);
    ck_assert_str_eq(data[0], "a");
    ck_assert_str_eq(data[2], "c");
    ck_assert_int_eq(bise_arg_count(&a), 1);
    ck_assert_str_eq(bise_arg(&a, 0), "MODEL");
    ck_assert_ptr_null(bise_arg(&a, 1));
    ck_assert_str_eq(bise_opt_str(&a, "output", ""), "out");
    bise_args_fini(&a);
}
END_TEST

START_TEST(a_model_behind_a_list_stays_the_model)
{
    static const char *const words[] = { "finetune", "--data", "a", "MODEL",
                                         "-o", "out" };
    bise_error err;
    bise_args a;
    ck_ok(parse(&a, 6, words, &err));
    int n = 0;
    (void)bise_opt_list(&a, "data", &n);
    ck_assert_int_eq(n, 1);
    ck_assert_str_eq(bise_arg(&a, 0), "MODEL");
    bise_args_fini(&a);
}
END_TEST

START_TEST(options_not_given_read_as_the_default)
{
    static const char *const words[] = { "generate", "MODEL", "-p", "-5",
                                         "--seed", "7" };
    bise_error err;
    bise_args a;
    ck_ok(parse(&a, 6, words, &err));
    ck_assert_str_eq(bise_opt_str(&a, "prompt", ""), "-5");
    ck_assert_int_eq((int)bise_opt_int(&a, "seed", 1), 7);
    ck_assert(bise_opt_given(&a, "seed"));
    ck_assert(!bise_opt_given(&a, "temp"));
    ck_assert_double_eq(bise_opt_num(&a, "temp", 0.5), 0.5);
    ck_assert_uint_eq(bise_opt_size(&a, "no-such", 9), 9);
    int n = 3;
    ck_assert_ptr_null(bise_opt_list(&a, "no-such", &n));
    ck_assert_int_eq(n, 0);
    bise_args_fini(&a);
}
END_TEST

START_TEST(double_dash_ends_options)
{
    static const char *const words[] = { "inspect", "--", "--tensors" };
    bise_error err;
    bise_args a;
    ck_ok(parse(&a, 3, words, &err));
    ck_assert_str_eq(bise_arg(&a, 0), "--tensors");
    ck_assert(!bise_opt_given(&a, "tensors"));
    bise_args_fini(&a);
}
END_TEST

START_TEST(help_pages_name_their_options)
{
    bise_str s = { 0 };
    bise_help_overview(&s);
    ck_assert_ptr_nonnull(strstr(bise_str_get(&s), "commands:"));
    ck_assert_ptr_nonnull(strstr(bise_str_get(&s), "--threads N"));
    bise_str_clear(&s);
    bise_help_version(&s);
    ck_assert(bise_starts_with(bise_str_get(&s), "bise "));
    ck_assert_ptr_nonnull(strstr(bise_str_get(&s), "cpu level"));
    const bise_command *const *c = bise_commands();
    for (int i = 0; c[i]; i++) {
        bise_str_clear(&s);
        bise_help_command(&s, c[i]);
        for (const bise_option *o = c[i]->options; o && o->name; o++)
            ck_assert_msg(strstr(bise_str_get(&s), o->name) != NULL,
                          "%s --%s", c[i]->name, o->name);
    }
    bise_str_fini(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("term");
    TCase *t = tcase_create("term");
    tcase_add_test(t, messages_are_lines_with_the_name);
    tcase_add_test(t, quiet_says_nothing_but_errors);
    tcase_add_test(t, an_open_line_is_taken_away);
    tcase_add_test(t, progress_off_a_terminal_is_rare);
    tcase_add_test(t, the_last_report_with_a_remark_is_a_line);
    tcase_add_loop_test(t, errors_say_what_where_and_what_to_do, 0,
                        (int)(sizeof places / sizeof *places));
    tcase_add_test(t, errors_as_json_have_every_key);
    tcase_add_test(t, an_empty_table_is_its_heads);
    tcase_add_test(t, table_width_counts_characters_not_bytes);
    tcase_add_test(t, table_without_a_limit_is_not_cut);
    tcase_add_test(t, list_options_take_the_values_behind_them);
    tcase_add_test(t, a_model_behind_a_list_stays_the_model);
    tcase_add_test(t, options_not_given_read_as_the_default);
    tcase_add_test(t, double_dash_ends_options);
    tcase_add_test(t, help_pages_name_their_options);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
