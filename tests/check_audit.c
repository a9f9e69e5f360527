/* check_audit.c - tests of text/audit and cli/data_print: findings with their
 * places, the cleaned file, quantiles, the histogram, marked samples.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/data_print.h"
#include "tests/data_fixture.h"
#include "text/audit.h"

static void list_bad(void *ctx, const char *file, uint64_t line,
                     const char *reason)
{
    bise_str_printf(ctx, "%s:%d %.12s|", bise_path_base(file), (int)line,
                    reason);
}

/* Audit of files with an optional cleaned copy. */
static bise_status audit(bise_audit *a, const char *const *files, int32_t n,
                         const char *write, bise_str *bad, bise_error *err)
{
    const bise_dataset_options d = {
        .files = files, .n_files = n, .tokenizer = fixture_tok,
        .chat = fixture_chat, .max_len = 10,
    };
    const bise_audit_options o = { .data = &d, .write = write,
                                   .bad = list_bad, .ctx = bad };
    bise_error_init(err);
    return bise_audit_run(a, &o, err);
}

static const char first_file[] =
    "{\"input_ids\":[1,5,6,7,8]}\n"                     /* 1 good */
    "{\"input_ids\":[1,5\n"                             /* 2 invalid */
    "{\"input_ids\":[1,5,6,7,9]}\n"                     /* 3 good */
    "{ \"input_ids\" : [1, 5, 6, 7, 8] }\n"             /* 4 = 1 */
    "{\"input_ids\":[1,5,6],\"labels\":[1,-100,-100]}\n" /* 5 no target */
    "{\"input_ids\":[1,5]}\n"                           /* 6 near-empty */
    "{\"input_ids\":[1,2,3,4,5,6,7,8,9,10,11,12]}\n"    /* 7 too long */
    "{\"text\":\"x\"}\n";                               /* 8 mixture */
static const char second_file[] =
    "[{\"input_ids\":\n[1,5,6,7,9]},\n {\"input_ids\":[1,\n7,7,7]}]";

START_TEST(finds_what_is_odd)
{
    bise_error err;
    bise_audit a;
    bise_str bad = { 0 }, clean = { 0 };
    char *f1 = fixture_file("a.jsonl", first_file);
    char *f2 = fixture_file("b.json", second_file);
    char *out = bise_path_join(fixture_dir, "clean.jsonl");
    const char *files[] = { f1, f2 };
    ck_ok(audit(&a, files, 2, out, &bad, &err));
    ck_assert_str_eq(bise_str_get(&bad),
                     "a.jsonl:2 invalid JSON|a.jsonl:8 the row is '|");
    ck_assert_uint_eq(a.stats.rows, 10);
    ck_assert_uint_eq(a.stats.bad, 2);
    ck_assert_uint_eq(a.stats.no_target, 1);
    ck_assert_int_eq(a.no_target[0].line, 5);
    ck_assert_uint_eq(a.near_empty, 1);
    ck_assert_int_eq(a.short_answers[0].line, 6);
    ck_assert_uint_eq(a.stats.truncated, 1);
    ck_assert_int_eq(a.stats.longest, 12);
    ck_assert_int_eq(a.longest[0].value, 12);
    ck_assert_int_eq(a.longest[0].line, 7);
    ck_assert_int_eq(a.longest[1].line, 1);     /* the earlier of equals */
    ck_assert_uint_eq(a.duplicates, 2);
    ck_assert_int_eq(a.n_repeated, 2);
    for (int i = 0; i < 2; i++) {
        const bise_audit_place *p = &a.repeated[i];
        if (p->source == 0) {
            ck_assert_int_eq(p->line, 4);
            ck_assert_int_eq(p->value, 1);
        } else {
            ck_assert_int_eq(p->line, 1);
            ck_assert_int_eq(p->value, 3);
            ck_assert_int_eq(p->other, 0);
        }
    }
    /* good, new, trained rows, one a line, as they were */
    ck_assert_uint_eq(a.written, 5);
    ck_ok(bise_file_read(&clean, out, &err));
    ck_assert_str_eq(clean.data,
        "{\"input_ids\":[1,5,6,7,8]}\n{\"input_ids\":[1,5,6,7,9]}\n"
        "{\"input_ids\":[1,5]}\n"
        "{\"input_ids\":[1,2,3,4,5,6,7,8,9,10,11,12]}\n"
        "{\"input_ids\":[1, 7,7,7]}\n");
    bise_audit_fini(&a);
    /* the cleaned file has no findings but the long row */
    const char *again = out;
    bise_str_clear(&bad);
    ck_ok(audit(&a, &again, 1, NULL, &bad, &err));
    ck_assert_uint_eq(a.stats.bad + a.duplicates + a.stats.no_target, 0);
    ck_assert_uint_eq(a.stats.rows, 5);
    bise_audit_fini(&a);
    /* an existing file is not replaced unasked */
    ck_assert_int_ne(audit(&a, files, 2, out, &bad, &err), BISE_OK);
    ck_assert_ptr_nonnull(strstr(err.text, "exists"));
    bise_str_fini(&bad);
    bise_str_fini(&clean);
    bise_free(out);
    bise_free(f1);
    bise_free(f2);
}
END_TEST

/* More rows than one slice of hashes would need is too slow to write here;
 * many rows with few different contents still cross every branch. */
/* A column that no format reads may be the one that matters. */
START_TEST(keys_that_nobody_reads_are_told)
{
    bise_error err;
    bise_audit a;
    bise_str bad = { 0 };
    char *path = fixture_file("keys.jsonl",
        "{\"prompt\":\"q\",\"completion\":\"a\",\"id\":7,\"why\":\"x\"}\n"
        "{\"prompt\":\"q\",\"completion\":\"b\",\"id\":8,\"why\":null}\n"
        "{\"prompt\":\"q\",\"completion\":\"c\",\"id\":9,\"why\":\"\","
        "\"system\":\"s\"}\n{\"bad\":1}\n");
    const char *files[] = { path };
    ck_ok(audit(&a, files, 1, NULL, &bad, &err));
    ck_assert_int_eq(a.n_ignored, 2);
    ck_assert_str_eq(a.ignored[0].name, "id");
    ck_assert_uint_eq(a.ignored[0].rows, 3);
    ck_assert_str_eq(a.ignored[1].name, "why");
    ck_assert_uint_eq(a.ignored[1].rows, 1);
    bise_audit_fini(&a);
    bise_str_fini(&bad);
    bise_free(path);
}
END_TEST

START_TEST(counts_many_repetitions)
{
    bise_error err;
    bise_audit a;
    bise_str text = { 0 }, bad = { 0 };
    for (int i = 0; i < 20000; i++)
        bise_str_printf(&text, "{\"input_ids\":[1,%d,%d]}\n", i % 1000 + 5,
                        i % 7 + 5);
    char *path = fixture_file("many.jsonl", text.data);
    const char *file = path;
    ck_ok(audit(&a, &file, 1, NULL, &bad, &err));
    ck_assert_uint_eq(a.stats.rows, 20000);
    ck_assert_uint_eq(a.duplicates, 20000 - 7000);
    ck_assert_int_eq(a.n_repeated, BISE_AUDIT_PLACES);
    bise_audit_fini(&a);
    bise_str_fini(&text);
    bise_free(path);
}
END_TEST

/* Longer rows under each rule; the lengths told are those before cutting. */
START_TEST(long_rows_follow_the_rule)
{
    bise_error err;
    char *path = fixture_file("long.jsonl",
        "{\"input_ids\":[1,2,3,4,5,6,7,8]}\n{\"input_ids\":[1,2,3]}\n");
    const char *file = path;
    static const struct { int32_t max; bise_too_long rule;
                          uint64_t samples, truncated, dropped, tokens; }
    t[] = {
        { 0, BISE_TOO_LONG_CUT, 2, 0, 0, 11 },
        { 8, BISE_TOO_LONG_CUT, 2, 0, 0, 11 },
        { 7, BISE_TOO_LONG_CUT, 2, 1, 0, 10 },
        { 2, BISE_TOO_LONG_CUT, 2, 2, 0, 4 },
        { 7, BISE_TOO_LONG_DROP, 1, 0, 1, 3 },
        { 7, BISE_TOO_LONG_ERROR, 1, 0, 1, 3 },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const bise_dataset_options d = {
            .files = &file, .n_files = 1, .tokenizer = fixture_tok,
            .chat = fixture_chat, .max_len = t[i].max, .too_long = t[i].rule,
        };
        const bise_audit_options o = { .data = &d };
        bise_audit a;
        ck_ok(bise_audit_run(&a, &o, &err));
        ck_assert_uint_eq(a.stats.samples, t[i].samples);
        ck_assert_uint_eq(a.stats.truncated, t[i].truncated);
        ck_assert_uint_eq(a.stats.dropped, t[i].dropped);
        ck_assert_uint_eq(a.stats.tokens, t[i].tokens);
        ck_assert_int_eq(a.stats.longest, 8);
        ck_assert_uint_eq(a.lengths[8], 1);
        ck_assert_uint_eq(a.lengths[3], 1);
        bise_audit_fini(&a);
        bise_audit_fini(&a);                /* twice is fine */
    }
    bise_free(path);
}
END_TEST

/* Counts of the audit are those of the dataset that training would open. */
START_TEST(counts_agree_with_the_dataset)
{
    bise_error err;
    bise_audit a;
    bise_dataset *d = NULL;
    bise_str bad = { 0 };
    const char *file = BISE_SRCDIR "/examples/sql/valid.jsonl";
    ck_ok(audit(&a, &file, 1, NULL, &bad, &err));   /* max_len 10 */
    ck_ok(fixture_open(&d, file, 10, BISE_TOO_LONG_CUT, &err));
    const bise_dataset_stats *st = bise_dataset_stats_of(d);
    ck_assert_uint_eq(a.stats.rows, st->rows);
    ck_assert_uint_eq(a.stats.samples, st->samples);
    ck_assert_uint_eq(a.stats.tokens, st->tokens);
    ck_assert_uint_eq(a.stats.supervised, st->supervised);
    ck_assert_uint_eq(a.stats.truncated, st->truncated);
    ck_assert_int_eq(a.stats.longest, st->longest);
    ck_assert_str_eq(a.stats.format, st->format);
    bise_dataset_close(d);
    bise_audit_fini(&a);
}
END_TEST

/* Each allocation of an audit with a cleaned file fails once: an error, and
 * then no cleaned file, or the whole result. */
START_TEST(failing_memory_is_an_error)
{
    bise_error err;
    char *path = fixture_file("m.jsonl", first_file);
    char *out = bise_path_join(fixture_dir, "out.jsonl");
    const char *file = path;
    bool done = false;
    for (uint64_t n = 1; !done && n < 2000; n++) {
        bise_audit a = { 0 };
        const bise_dataset_options d = {
            .files = &file, .n_files = 1, .tokenizer = fixture_tok,
            .chat = fixture_chat,
        };
        const bise_audit_options o = { .data = &d, .write = out };
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        const bise_status s = bise_audit_run(&a, &o, &err);
        bise_alloc_fail_after(0);
        ck_assert_int_eq(bise_file_exists(out), s == BISE_OK);
        done = s == BISE_OK;
        if (done)
            ck_assert_uint_eq(a.stats.rows, 8);
        else
            ck_assert_int_eq(s, BISE_ENOMEM);
        bise_audit_fini(&a);
    }
    ck_assert(done);
    bise_free(path);
    bise_free(out);
}
END_TEST

START_TEST(broken_file_is_an_error)
{
    bise_error err;
    bise_audit a;
    bise_str bad = { 0 };
    const char *file = "/nonexistent/x.jsonl";
    ck_fails(audit(&a, &file, 1, NULL, &bad, &err), BISE_EIO);
    ck_assert_str_eq(err.path, file);
}
END_TEST

/* An audit with the given numbers of samples by length. */
static void lengths(bise_audit *a, const int (*v)[2], int n)
{
    *a = (bise_audit) { 0 };
    a->lengths = bise_alloc_array(BISE_AUDIT_LENGTHS + 1, sizeof *a->lengths);
    for (int i = 0; i < n; i++) {
        a->lengths[v[i][0]] = (uint64_t)v[i][1];
        if (v[i][0] > a->stats.longest)
            a->stats.longest = v[i][0];
    }
}

START_TEST(quantiles_count_samples)
{
    static const int v[][2] = { { 10, 50 }, { 20, 40 }, { 30, 9 },
                                { 4000, 1 } };
    bise_audit a;
    lengths(&a, v, 4);
    ck_assert_int_eq(bise_audit_quantile(&a, 0.5), 10);
    ck_assert_int_eq(bise_audit_quantile(&a, 0.9), 20);
    ck_assert_int_eq(bise_audit_quantile(&a, 0.99), 30);
    ck_assert_int_eq(bise_audit_quantile(&a, 1), 4000);
    bise_audit_fini(&a);
}
END_TEST

/* Every line at most 80 columns, every sample in one bar. */
static void check_histogram(const int (*v)[2], int n)
{
    bise_audit a;
    bise_str s = { 0 };
    int total = 0, shown = 0, lines = 0;
    lengths(&a, v, n);
    for (int i = 0; i < n; i++)
        total += v[i][1];
    bise_data_histogram(&s, &a);
    for (char *line = s.data, *end; (end = strchr(line, '\n')) != NULL;
         line = end + 1, lines++) {
        *end = 0;
        ck_assert_int_le((int)strlen(line), 80);
        const char *number = strrchr(line, ' ') + 1;
        int count = 0;
        for (; *number; number++)
            if (*number != ',')
                count = count * 10 + *number - '0';
        ck_assert_int_eq(count > 0, strchr(line, '#') != NULL);
        shown += count;
    }
    ck_assert_int_eq(shown, total);
    ck_assert_int_le(lines, 14);
    bise_str_fini(&s);
    bise_audit_fini(&a);
}

START_TEST(histogram_holds_every_sample)
{
    static const int one[][2] = { { 7, 3 } };
    static const int tail[][2] = { { 3, 500 }, { 120, 4000 }, { 131, 70 },
                                   { 9000, 2 } };
    static const int longer[][2] = { { 60000, 1 }, { BISE_AUDIT_LENGTHS, 5 } };
    static const int wide[][2] = { { 1, 1234567 }, { 64999, 3 },
                                   { 2048, 100000 } };
    check_histogram(one, 1);
    check_histogram(tail, 4);
    check_histogram(longer, 2);
    check_histogram(wide, 3);
}
END_TEST

START_TEST(trained_tokens_are_marked)
{
    bise_error err;
    bise_str s = { 0 };
    bise_ids ids = { 0 };
    ck_ok(bise_tokenizer_encode(fixture_tok, "ab", 2, BISE_TOK_BOS, &ids,
                                &err));
    const size_t question = ids.n;
    ck_ok(bise_tokenizer_encode(fixture_tok, "c\033[d", 4, BISE_TOK_EOS, &ids,
                                &err));
    uint8_t mask[32] = { 0 };
    ck_assert_uint_le(ids.n, 32);
    for (size_t i = question; i < ids.n; i++)
        mask[i] = 1;
    const bise_row row = { ids.v, mask, (int32_t)ids.n };
    bise_data_render(&s, &row, fixture_tok, false);
    ck_assert_str_eq(s.data, "<s>ab[[c\\x1b[d</s>]]\n");
    bise_str_clear(&s);
    bise_data_render(&s, &row, fixture_tok, true);
    ck_assert_str_eq(s.data, "<s>ab\033[1;32mc\\x1b[d</s>\033[0m\n");
    bise_str_fini(&s);
    bise_ids_fini(&ids);
}
END_TEST

/* A terminal obeys one-byte controls and, in UTF-8, those of U+0080..9F. */
START_TEST(controls_are_spelt_out)
{
    static const char text[] = "a\tb\n\x1b[1m\x7f\xc2\x9b" "2Jc\xc2\xa0\xc3\xa9";
    bise_str s = { 0 };
    bise_data_safe(&s, text, sizeof text - 1);
    ck_assert_str_eq(bise_str_get(&s), "a\tb\n\\x1b[1m\\x7f\\x9b" "2Jc"
                     "\xc2\xa0\xc3\xa9");
    bise_str_fini(&s);
}
END_TEST

START_TEST(numbers_have_commas)
{
    char out[32];
    ck_assert_str_eq(bise_data_number(out, 0), "0");
    ck_assert_str_eq(bise_data_number(out, 999), "999");
    ck_assert_str_eq(bise_data_number(out, 1000), "1,000");
    ck_assert_str_eq(bise_data_number(out, UINT64_MAX),
                     "18,446,744,073,709,551,615");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("audit");
    TCase *c = tcase_create("audit");
    tcase_set_timeout(c, 30);
    tcase_add_unchecked_fixture(c, fixture_tokenizer, fixture_no_tokenizer);
    tcase_add_checked_fixture(c, fixture_folder, fixture_no_folder);
    tcase_add_test(c, finds_what_is_odd);
    tcase_add_test(c, keys_that_nobody_reads_are_told);
    tcase_add_test(c, counts_many_repetitions);
    tcase_add_test(c, long_rows_follow_the_rule);
    tcase_add_test(c, counts_agree_with_the_dataset);
    tcase_add_test(c, failing_memory_is_an_error);
    tcase_add_test(c, broken_file_is_an_error);
    tcase_add_test(c, quantiles_count_samples);
    tcase_add_test(c, histogram_holds_every_sample);
    tcase_add_test(c, trained_tokens_are_marked);
    tcase_add_test(c, controls_are_spelt_out);
    tcase_add_test(c, numbers_have_commas);
    suite_add_tcase(s, c);
    return s;
}

BISE_CHECK_MAIN
