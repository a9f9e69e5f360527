/* check_args.c - tests of the command line parser, help pages and tables. Uses
 * a command that is always there.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "cli/args.h"
#include "cli/help.h"
#include "cli/table.h"
#include "cli/term.h"
#include "tests/check_main.h"

/* Parse a line of words separated by single blanks. */
static bise_status parse(bise_args *a, const char *line, bise_error *err)
{
    static char copy[512], program[] = "bise";
    char *argv[32] = { program };
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
        argv[argc++] = w;
    return bise_args_parse(a, argc, argv, err);
}

START_TEST(unknown_command_names_the_nearest)
{
    bise_error err;
    bise_args a;
    ck_fails(parse(&a, "verion", &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "unknown command 'verion'"));
    bise_args_fini(&a);
}
END_TEST

START_TEST(global_options_stand_anywhere)
{
    bise_error err;
    bise_args a;
    ck_ok(parse(&a, "--json --threads 3 --quiet", &err));
    ck_assert(a.json && a.quiet && a.threads == 3);
    bise_args_fini(&a);
    ck_ok(parse(&a, "--threads=5 --help", &err));
    ck_assert(a.help && a.threads == 5);
    bise_args_fini(&a);
}
END_TEST

START_TEST(unknown_option_names_the_nearest)
{
    bise_error err;
    bise_args a;
    ck_fails(parse(&a, "--thread 3", &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.hint, "--threads"));
    bise_args_fini(&a);
    ck_fails(parse(&a, "--threads many", &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "whole number"));
    bise_args_fini(&a);
    ck_fails(parse(&a, "--threads 0", &err), BISE_EINVAL);
    bise_args_fini(&a);
    ck_fails(parse(&a, "--threads", &err), BISE_EINVAL);
    bise_args_fini(&a);
    ck_fails(parse(&a, "--json=1", &err), BISE_EINVAL);
    bise_args_fini(&a);
}
END_TEST

START_TEST(json_is_known_even_when_parsing_fails)
{
    bise_error err;
    bise_args a;
    ck_fails(parse(&a, "--nonsense --json", &err), BISE_EINVAL);
    ck_assert(a.json);
    bise_json *v = bise_error_json(&err);
    const bise_json *e = bise_json_get(v, "error");
    ck_assert_str_eq(bise_json_string(bise_json_get(e, "status"), NULL),
                     "usage");
    bise_json_free(v);
    bise_args_fini(&a);
}
END_TEST

START_TEST(every_command_is_complete)
{
    const bise_command *const *c = bise_commands();
    for (int i = 0; c[i]; i++) {
        ck_assert_ptr_nonnull(c[i]->run);
        ck_assert_ptr_nonnull(c[i]->help);
        ck_assert_ptr_eq(bise_command_find(c[i]->name), c[i]);
        for (const bise_option *o = c[i]->options; o && o->name; o++) {
            ck_assert_ptr_nonnull(o->help);
            ck_assert_msg(o->type == BISE_OPT_FLAG || o->value,
                          "%s --%s has no value name", c[i]->name, o->name);
        }
        bise_str s = { 0 };
        bise_help_command(&s, c[i]);
        for (const char *p = bise_str_get(&s), *e; *p; p = e + (*e == '\n')) {
            e = p + strcspn(p, "\n");
            ck_assert_msg(e - p <= 80, "help line too wide: %.*s",
                          (int)(e - p), p);
        }
        bise_str_fini(&s);
    }
}
END_TEST

START_TEST(tables_align_and_fit)
{
    const char *const heads[] = { "name", ">size" };
    bise_table t;
    bise_table_init(&t, 2, heads);
    bise_table_add(&t, "a");
    bise_table_add(&t, "%d", 12345);
    bise_table_add(&t, "%s", "a-very-long-name-that-has-to-be-cut");
    bise_table_add(&t, "1");
    bise_str s = { 0 };
    bise_table_put(&s, &t, 30);
    ck_assert_str_eq(bise_str_get(&s),
                     "name                      size\n"
                     "a                        12345\n"
                     "a-very-long-name-that..      1\n");
    bise_str_fini(&s);
    bise_table_fini(&t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("args");
    TCase *t = tcase_create("args");
    tcase_add_test(t, unknown_command_names_the_nearest);
    tcase_add_test(t, global_options_stand_anywhere);
    tcase_add_test(t, unknown_option_names_the_nearest);
    tcase_add_test(t, json_is_known_even_when_parsing_fails);
    tcase_add_test(t, every_command_is_complete);
    tcase_add_test(t, tables_align_and_fit);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
