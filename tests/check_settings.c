/* check_settings.c - settings of a training run: YAML, flags, defaults, every
 * kind of wrong value, and the file that starts the same run again.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "finetune/settings.h"

static bise_error err;

static bise_status parse(bise_settings *s, const char *text)
{
    bise_error_init(&err);
    return bise_settings_parse(s, text, strlen(text), &err);
}

START_TEST(defaults_are_the_contract)
{
    bise_settings s = { 0 };
    ck_ok(bise_settings_resolve(&s, &err));
    ck_assert_int_eq(s.lora_r, 16);
    ck_assert_double_eq(s.lora_alpha, 32);
    ck_assert_double_eq(s.lora_dropout, 0);
    ck_assert_str_eq(s.target, "all-linear");
    ck_assert(!s.rslora);
    ck_assert_int_eq(s.max_len, 2048);
    ck_assert_str_eq(s.packing, "on");
    ck_assert_double_eq(s.lr, 2e-4);
    ck_assert_str_eq(s.schedule, "cosine");
    ck_assert_double_eq(s.warmup, 0.03);
    ck_assert_double_eq(s.clip, 1);
    ck_assert_str_eq(s.optimizer, "adamw");
    ck_assert_str_eq(s.train_on, "assistant");
    ck_assert_ptr_null(s.model);
    ck_assert_ptr_null(s.data);
    bise_settings_fini(&s);
}
END_TEST

START_TEST(yaml_then_flags)
{
    bise_settings s = { 0 };
    ck_ok(parse(&s, "lr: 1e-3\nlora_r: 8\nrslora: true\npacking: off\n"
                    "data: [a.jsonl, 'b.jsonl:0.5']\neval-data: c.jsonl\n"
                    "rank-pattern:\n  q_proj: 4\n  'layers.0.*': 2\n"
                    "memory: 16G\nbatch: 8\nseed: 7\n"));
    ck_ok(bise_settings_set(&s, "lr", "5e-5", &err));
    ck_ok(bise_settings_set(&s, "alpha-pattern", "v_proj=4,k_proj=2.5", &err));
    ck_ok(bise_settings_resolve(&s, &err));
    ck_assert_double_eq(s.lr, 5e-5);
    ck_assert_int_eq(s.lora_r, 8);
    ck_assert(s.rslora);
    ck_assert_str_eq(s.packing, "off");
    ck_assert_uint_eq(bise_json_size(s.data), 2);
    ck_assert_str_eq(bise_json_string(bise_json_at(s.data, 1), NULL),
                     "b.jsonl:0.5");
    ck_assert_uint_eq(bise_json_size(s.eval_data), 1);
    ck_assert_double_eq(bise_json_number(
        bise_json_get(s.rank_pattern, "layers.0.*"), 0), 2);
    ck_assert_double_eq(bise_json_number(
        bise_json_get(s.alpha_pattern, "k_proj"), 0), 2.5);
    ck_assert_uint_eq(s.memory, 16000000000u);
    ck_assert_str_eq(s.batch, "8");
    ck_assert_int_eq(s.seed, 7);
    bise_settings_fini(&s);
}
END_TEST

/* text, part of the message, part of the hint */
static const char *const wrong[][3] = {
    { "lorar: 8\n", "unknown setting 'lorar'", "'lora-r'" },
    { "learning_rat: 1\n", "unknown setting 'learning_rat'", "" },
    { "shedule: cosine\n", "unknown setting 'shedule'", "'schedule'" },
    { "weight_deca: 1\n", "unknown setting 'weight_deca'", "'weight-decay'" },
    { "lr: -1\n", "'lr' is -1, allowed is 0 to 10", "" },
    { "lr: fast\n", "expected a number", "" },
    { "lr: .nan\n", "'lr'", "" },
    { "lora-r: 0\n", "allowed is 1 to 4096", "" },
    { "lora-r: 2.5\n", "expected a whole number", "" },
    { "lora-r: [1]\n", "expected a number", "" },
    { "schedule: step\n", "allowed is cosine|linear|constant", "" },
    { "schedule: cos\n", "allowed is cosine|linear|constant", "" },
    { "rslora: maybe\n", "expected true or false", "" },
    { "data: 5\n", "'data'", "" },
    { "data: [1, 2]\n", "expected a list of texts", "" },
    { "rank-pattern: 8\n", "expected a map", "" },
    { "rank-pattern: {q_proj: 0}\n", "above 0", "" },
    { "memory: lots\n", "expected a size", "" },
    { "target: {a: 1}\n", "expected a text", "" },
    { "- lr\n", "not a map", "" },
    { "lr: 1\nlr: 2\n", "", "" },
    { "lr: [\n", "", "" },
};

START_TEST(a_wrong_file_is_refused)
{
    bise_settings s = { 0 };
    const bise_status st = parse(&s, wrong[_i][0]);
    ck_assert_msg(st != BISE_OK, "accepted: %s", wrong[_i][0]);
    ck_assert_msg(strstr(err.text, wrong[_i][1]) != NULL, "%s -> %s",
                  wrong[_i][0], err.text);
    ck_assert_msg(strstr(err.hint, wrong[_i][2]) != NULL, "%s -> hint %s",
                  wrong[_i][0], err.hint);
    bise_settings_fini(&s);
}
END_TEST

START_TEST(a_fault_names_the_file)
{
    bise_settings s = { 0 };
    char path[64];
    snprintf(path, sizeof path, "/tmp/bise-settings-%ld.yaml", (long)getpid());
    ck_ok(bise_file_write(path, "lorar: 8\n", 9, &err));
    ck_fails(bise_settings_load(&s, path, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.path, path);
    unlink(path);
    ck_fails(bise_settings_load(&s, path, &err), BISE_EIO);
    bise_settings_fini(&s);
}
END_TEST

/* What is written starts the same run: equal values, equal text. */
START_TEST(the_dump_reads_back)
{
    bise_settings a = { 0 }, b = { 0 };
    bise_str first = { 0 }, second = { 0 };
    ck_ok(parse(&a, "model: 'odd: name # x'\ndata: [a.jsonl]\nlr: 3e-4\n"
                    "rank-pattern: {q_proj: 4}\nrslora: true\nbatch: 4096\n"
                    "target: 'q_proj,v_proj'\nmemory: 1.5GiB\n"));
    ck_ok(bise_settings_resolve(&a, &err));
    ck_ok(bise_settings_dump(&first, &a, &err));
    ck_ok(parse(&b, bise_str_get(&first)));
    ck_ok(bise_settings_resolve(&b, &err));
    ck_ok(bise_settings_dump(&second, &b, &err));
    ck_assert_str_eq(bise_str_get(&first), bise_str_get(&second));
    ck_ok(bise_settings_same(&a, b.values, &err));
    ck_assert_str_eq(b.model, "odd: name # x");
    ck_assert_uint_eq(b.memory, 1610612736u);
    bise_str_fini(&first);
    bise_str_fini(&second);
    bise_settings_fini(&a);
    bise_settings_fini(&b);
}
END_TEST

START_TEST(only_fixed_settings_must_agree)
{
    bise_settings a = { 0 }, b = { 0 };
    ck_ok(parse(&a, "lr: 1e-3\n"));
    ck_ok(parse(&b, "lr: 1e-3\nkeep: 7\neval-every: 3\nmodel: elsewhere\n"));
    ck_ok(bise_settings_resolve(&a, &err));
    ck_ok(bise_settings_resolve(&b, &err));
    ck_ok(bise_settings_same(&a, b.values, &err));
    ck_ok(bise_settings_set(&b, "clip", "0.5", &err));
    ck_fails(bise_settings_same(&a, b.values, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "'clip' is 1.0"));
    ck_assert_ptr_nonnull(strstr(err.text, "made with 0.5"));
    bise_settings_fini(&a);
    bise_settings_fini(&b);
}
END_TEST

static const struct {
    const char *text;
    int64_t n;
    bool rows;
} amounts[] = {
    { "8", 8, true }, { "512", 512, true }, { "513", 513, false },
    { "16384", 16384, false }, { "16384rows", 16384, true },
    { "8tokens", 8, false }, { "4096 tokens", 4096, false },
    { "1 row", 1, true },
};

START_TEST(amounts_are_rows_or_tokens)
{
    bise_amount a = { 0 };
    ck_ok(bise_settings_amount(&a, "batch", amounts[_i].text, &err));
    ck_assert_int_eq(a.n, amounts[_i].n);
    ck_assert_int_eq(a.rows, amounts[_i].rows);
}
END_TEST

static const char *const no_amounts[] = { "", "0", "-3", "eight", "8 lines",
                                          "99999999999", "8rowsx" };

START_TEST(other_amounts_are_refused)
{
    bise_amount a = { 0 };
    ck_fails(bise_settings_amount(&a, "batch", no_amounts[_i], &err),
             BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.hint, "512"));
}
END_TEST

/* Every default passes its own check, every row has a help line. */
START_TEST(the_table_is_consistent)
{
    size_t n;
    const bise_setting_row *row = bise_settings_table(&n);
    bise_settings s = { 0 };
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(row[i].help && row[i].help[0], "%s", row[i].name);
        if (row[i].fallback)
            ck_ok(bise_settings_set(&s, row[i].name, row[i].fallback, &err));
        for (size_t j = 0; j < i; j++)
            ck_assert_str_ne(row[i].name, row[j].name);
    }
    bise_settings_fini(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("settings");
    TCase *t = tcase_create("read");
    tcase_add_test(t, defaults_are_the_contract);
    tcase_add_test(t, yaml_then_flags);
    tcase_add_loop_test(t, a_wrong_file_is_refused, 0,
                        sizeof wrong / sizeof wrong[0]);
    tcase_add_test(t, a_fault_names_the_file);
    tcase_add_test(t, the_table_is_consistent);
    suite_add_tcase(s, t);
    t = tcase_create("again");
    tcase_add_test(t, the_dump_reads_back);
    tcase_add_test(t, only_fixed_settings_must_agree);
    suite_add_tcase(s, t);
    t = tcase_create("amounts");
    tcase_add_loop_test(t, amounts_are_rows_or_tokens, 0,
                        sizeof amounts / sizeof amounts[0]);
    tcase_add_loop_test(t, other_amounts_are_refused, 0,
                        sizeof no_amounts / sizeof no_amounts[0]);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
