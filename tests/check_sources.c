/* check_sources.c - tests of text/sources: names of the command line to files,
 * weights and splits, in every spelling, and what is refused.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/data_fixture.h"
#include "text/sources.h"

/* Make empty files "a b c" in the folder. */
static void touch(const char *names)
{
    char name[64];
    int used;
    for (const char *p = names; sscanf(p, "%63s%n", name, &used) == 1;
         p += used)
        bise_free(fixture_file(name, "{}\n"));
}

/* The sources of names ("$" = the folder) for a split as
 * "name*weight name*weight". */
static char *found(const char *const *names, int32_t n, const char *split,
                   bise_status want)
{
    bise_error err;
    bise_sources s = { 0 };
    bise_str out = { 0 }, paths[4] = { { 0 } };
    const char *full[4];
    for (int32_t i = 0; i < n; i++) {
        bise_str_printf(&paths[i], "%s%s", fixture_dir, names[i] + 1);
        full[i] = bise_str_get(&paths[i]);
    }
    bise_error_init(&err);
    const bise_status st = bise_sources_find(&s, full, n, split, &err);
    ck_assert_msg(st == want, "status %d: %s", (int)st, err.text);
    for (int32_t i = 0; i < s.n; i++)
        bise_str_printf(&out, "%s%s*%g", i ? " " : "",
                        bise_path_base(s.v[i].path), s.v[i].weight);
    if (st != BISE_OK)
        bise_str_puts(&out, err.text);
    bise_sources_fini(&s);
    bise_sources_fini(&s);                  /* twice is fine */
    for (int32_t i = 0; i < n; i++)
        bise_str_fini(&paths[i]);
    return bise_str_take(&out);
}

/* Files in the folder, names asked for, split, what is found. */
static const struct {
    const char *files, *names[3];
    int32_t n;
    const char *split, *want;
} cases[] = {
    { "a.jsonl", { "$/a.jsonl" }, 1, NULL, "a.jsonl*0" },
    { "a.jsonl b.json", { "$/b.json", "$/a.jsonl" }, 2, NULL,
      "b.json*0 a.jsonl*0" },
    { "a.jsonl b.jsonl", { "$/a.jsonl:0.7", "$/b.jsonl:0.3" }, 2, NULL,
      "a.jsonl*0.7 b.jsonl*0.3" },
    /* one weight gives the others 1 */
    { "a.jsonl b.jsonl", { "$/a.jsonl:3", "$/b.jsonl" }, 2, NULL,
      "a.jsonl*3 b.jsonl*1" },
    { "a.jsonl", { "$/a.jsonl:2e-1" }, 1, NULL, "a.jsonl*0.2" },
    /* a colon that is part of an existing name */
    { "a:0.5", { "$/a:0.5" }, 1, NULL, "a:0.5*0" },
    { "a:0.5", { "$/a:0.5:2" }, 1, NULL, "a:0.5*2" },
    /* not a number: left to the file system to refuse */
    { "a.jsonl", { "$/a.jsonl:x" }, 1, NULL, "a.jsonl:x*0" },
    { "a.jsonl", { "$/a.jsonl:" }, 1, NULL, "a.jsonl:*0" },
    /* directories */
    { "train.jsonl valid.jsonl other.jsonl", { "$" }, 1, NULL,
      "train.jsonl*0" },
    { "train.jsonl valid.jsonl", { "$" }, 1, "valid", "valid.jsonl*0" },
    { "train.jsonl.zst train.json", { "$" }, 1, "train",
      "train.jsonl.zst*0" },
    { "train.json.gz", { "$" }, 1, NULL, "train.json.gz*0" },
    { "validation.jsonl test.jsonl", { "$" }, 1, "valid",
      "validation.jsonl*0" },
    { "dev.json test.jsonl", { "$" }, 1, "valid", "dev.json*0" },
    { "test.jsonl", { "$" }, 1, "valid", "test.jsonl*0" },
    { "test.jsonl valid.jsonl", { "$" }, 1, "test", "test.jsonl*0" },
    { "train.jsonl", { "$:0.5" }, 1, NULL, "train.jsonl*0.5" },
    { "train.jsonl b.jsonl", { "$:0.5", "$/b.jsonl:2" }, 2, NULL,
      "train.jsonl*0.5 b.jsonl*2" },
    /* without train.*: all JSONL files that are not for evaluation */
    { "z.jsonl a.jsonl.gz m.jsonl.zst valid.jsonl eval.jsonl dev-1.jsonl "
      "test.jsonl notes.json notes.txt", { "$" }, 1, NULL,
      "a.jsonl.gz*0 m.jsonl.zst*0 z.jsonl*0" },
    { "a.jsonl b.jsonl", { "$:3" }, 1, NULL, "a.jsonl*3 b.jsonl*3" },
};

START_TEST(names_become_files)
{
    touch(cases[_i].files);
    char *got = found(cases[_i].names, cases[_i].n, cases[_i].split, BISE_OK);
    ck_assert_str_eq(got, cases[_i].want);
    bise_free(got);
}
END_TEST

static const struct { const char *name, *split, *words; } refused[] = {
    { "$/a.jsonl:0", NULL, "weight '0' of" },
    { "$/a.jsonl:-1", NULL, "is not above 0" },
    { "$/a.jsonl:nan", NULL, "is not above 0" },
    { "$/a.jsonl:inf", NULL, "is not above 0" },
    { "$", "valid", "no valid.jsonl in the directory" },
    { "$", "holdout", "no holdout.jsonl in the directory" },
};

START_TEST(wrong_names_are_refused)
{
    touch("a.jsonl");
    char *got = found(&refused[_i].name, 1, refused[_i].split, BISE_EINVAL);
    ck_assert_msg(strstr(got, refused[_i].words) != NULL, "%s", got);
    bise_free(got);
}
END_TEST

START_TEST(no_names_are_refused)
{
    char *got = found(NULL, 0, NULL, BISE_EINVAL);
    ck_assert_str_eq(got, "no data file was given");
    bise_free(got);
    touch("readme.txt");                    /* a folder without data */
    const char *name = "$";
    got = found(&name, 1, NULL, BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(got, "no train.jsonl"));
    bise_free(got);
}
END_TEST

START_TEST(sizes_are_counted)
{
    bise_error err;
    bise_sources s;
    char *a = fixture_file("a.jsonl", "{\"text\":\"x\"}\n");
    char *b = fixture_file("b.jsonl", "");
    const char *names[] = { a, b };
    ck_ok(bise_sources_find(&s, names, 2, NULL, &err));
    ck_assert_uint_eq(s.v[0].bytes, 13);
    ck_assert_uint_eq(s.v[1].bytes, 0);
    ck_assert_uint_eq(s.bytes, 13);
    bise_sources_fini(&s);
    bise_free(a);
    bise_free(b);
}
END_TEST

START_TEST(failing_memory_is_an_error)
{
    bise_error err;
    touch("a.jsonl b.jsonl");
    bise_str name = { 0 };
    bise_str_printf(&name, "%s:2", fixture_dir);
    const char *names[] = { name.data, name.data };
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        bise_sources s = { 0 };
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        const bise_status st = bise_sources_find(&s, names, 2, NULL, &err);
        bise_alloc_fail_after(0);
        done = st == BISE_OK;
        ck_assert_int_eq(s.n, done ? 4 : 0);
        if (!done)
            ck_assert_int_eq(st, BISE_ENOMEM);
        bise_sources_fini(&s);
    }
    bise_str_fini(&name);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sources");
    TCase *c = tcase_create("sources");
    tcase_add_checked_fixture(c, fixture_folder, fixture_no_folder);
    tcase_add_loop_test(c, names_become_files, 0,
                        sizeof cases / sizeof *cases);
    tcase_add_loop_test(c, wrong_names_are_refused, 0,
                        sizeof refused / sizeof *refused);
    tcase_add_test(c, no_names_are_refused);
    tcase_add_test(c, sizes_are_counted);
    tcase_add_test(c, failing_memory_is_an_error);
    suite_add_tcase(s, c);
    return s;
}

BISE_CHECK_MAIN
