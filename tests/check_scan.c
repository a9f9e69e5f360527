/* check_scan.c - tests of text/scan: rows come in order with their place,
 * whatever the number of threads and the size of rows; faults stay with their
 * row; hashes follow the tokens; progress rises; callers can stop.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <signal.h>

#include "core/rng.h"
#include "tests/data_fixture.h"
#include "text/scan.h"

/* What a scan found, one line a row: "line format n hash-class reason". */
typedef struct scan_log {
    bise_str text;
    uint64_t hash[64];   /* of the first rows */
    size_t rows;
    size_t stop_after;   /* 0: never */
} scan_log;

static bise_status note(void *ctx, const bise_scan_row *row, bise_error *err)
{
    scan_log *l = ctx;
    if (l->rows < 64)
        l->hash[l->rows] = row->hash;
    l->rows++;
    bise_str_printf(&l->text, "%d %s %d%s%s\n", (int)row->raw->line,
                    row->schema ? bise_schema_name(row->schema) : "-",
                    (int)row->n, row->reason ? " " : "",
                    row->reason ? row->reason : "");
    return l->rows == l->stop_after ?
               bise_fail(err, BISE_ECANCEL, "seen enough") : BISE_OK;
}

static bise_status scan_text(scan_log *l, const char *text,
                             const bise_dataset_options *more,
                             bise_error *err)
{
    bise_inflate *in = NULL;
    bise_dataset_options o = { .tokenizer = fixture_tok,
                               .chat = fixture_chat };
    if (more) {
        o.pool = more->pool;
        o.progress = more->progress;
    }
    bise_error_init(err);
    const bise_status s = bise_inflate_memory(&in, text, strlen(text), err);
    return s == BISE_OK ?
               bise_scan_stream_take(in, "rows", &o, note, l, err) : s;
}

static const struct { const char *text, *want; } logs[] = {
    { "", "" },
    { "{\"text\":\"a\"}\n{\"text\":\"b\"}", "1 text 1\n2 text 1\n" },
    { "\n\n{\"text\":\"a\"}\n", "3 text 1\n" },
    { "[{\"text\":\"a\"},\n\n{\"text\":\"b\"}]", "1 text 1\n3 text 1\n" },
    { "{\"instruction\":\"i\",\"instances\":[{\"input\":\"\",\"output\":"
      "\"a\"},{\"input\":\"\",\"output\":\"b\"}]}", "1 instances 2\n" },
    { "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\"}",
      "1 preference 2\n" },
    /* a fault stays with its row */
    { "{\"text\":1}\n{\"text\":\"a\"}",
      "1 text 0 'text' is not a string\n2 text 1\n" },
    { "{}\n7\n{\"text\":\"a\"}",
      "1 - 0 no known format in the keys (none): needed are messages, "
      "conversations, instruction + output, prompt + completion, "
      "input + output, question + answer, text, chosen + rejected, ...\n"
      "2 - 0 the row is not an object\n3 text 1\n" },
    { "{\"data\":[],\"n\":1}",
      "1 - 0 no known format in the keys 'data', 'n': needed are messages, "
      "conversations, instruction + output, prompt + completion, "
      "input + output, question + answer, text, chosen + rejected, ...\n" },
    { "a,b,c\n\xc3\x28\n",
      "1 - 0 not JSON: the line begins with 'a,b,c', not with '{'\n"
      "2 - 0 not JSON: the line begins with '', not with '{'\n" },
    /* the first good row decides about mixtures, not the first row */
    { "{\"text\":1}\n{\"input_ids\":[1,2]}\n{\"text\":\"a\"}\n",
      "1 text 0 'text' is not a string\n2 tokens 1\n"
      "3 text 0 the row is 'text', but the file began with 'tokens' in line "
      "2\n" },
    /* text and content are one format */
    { "{\"text\":\"a\"}\n{\"content\":\"b\"}\n", "1 text 1\n2 text 1\n" },
    /* messages and interactions are two */
    { "{\"text\":\"\xc3\x28\"}\n",
      "1 - 0 invalid UTF-8 at column 9: unable to decode byte 0xc3 near "
      "'\"'\n" },
    { "[{\"text\":\"a\"}",
      "1 - 0 the array is not closed at the end of the file\n" },
};

START_TEST(rows_are_reported_in_order)
{
    bise_error err;
    scan_log l = { .rows = 0 };
    ck_ok(scan_text(&l, logs[_i].text, NULL, &err));
    /* jansson's own words may differ between versions: compare up to them */
    const char *want = logs[_i].want, *cut = strstr(want, ": unable");
    const size_t n = cut ? (size_t)(cut - want) : strlen(want) + 1;
    ck_assert_msg(!strncmp(bise_str_get(&l.text), want, n), "%s",
                  bise_str_get(&l.text));
    bise_str_fini(&l.text);
}
END_TEST

START_TEST(hashes_follow_the_tokens)
{
    static const char text[] =
        "{\"input_ids\":[1,5,6]}\n"
        "{ \"input_ids\": [1, 5, 6], \"id\": 7 }\n"     /* same tokens */
        "{\"input_ids\":[1,5,7]}\n"
        "{\"input_ids\":[1,5,6],\"labels\":[1,-100,6]}\n" /* other mask */
        "{\"input_ids\":[1,5]}\n"
        "{\"input_ids\":[5,1,6]}\n";
    bise_error err;
    scan_log l = { .rows = 0 };
    ck_ok(scan_text(&l, text, NULL, &err));
    ck_assert_uint_eq(l.rows, 6);
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < i; k++)
            ck_assert_int_eq(l.hash[i] == l.hash[k], i == 1 && k == 0);
    bise_str_fini(&l.text);
}
END_TEST

/* Rows of very different sizes, some of them bad. */
static char *many_rows(void)
{
    bise_str s = { 0 };
    for (uint64_t i = 0; i < 3000; i++) {
        const int n = (int)bise_rng_below(5, 0, i, i % 97 ? 40 : 4000);
        if (i % 53 == 7)
            bise_str_puts(&s, "{\"text\":\n");
        else
            bise_str_printf(&s, "{\"text\":\"%d %0*d\"}\n", (int)i, n, (int)i);
    }
    return bise_str_take(&s);
}

START_TEST(threads_change_nothing)
{
    bise_error err;
    char *text = many_rows();
    scan_log first = { .rows = 0 };
    ck_ok(scan_text(&first, text, NULL, &err));
    ck_assert_uint_eq(first.rows, 3000);
    for (int threads = 1; threads <= 5; threads += 2) {
        bise_dataset_options o = { .pool = NULL };
        scan_log l = { .rows = 0 };
        ck_ok(bise_pool_new(&o.pool, threads, &err));
        ck_ok(scan_text(&l, text, &o, &err));
        ck_assert_str_eq(l.text.data, first.text.data);
        ck_assert_int_eq(memcmp(l.hash, first.hash, sizeof l.hash), 0);
        bise_str_fini(&l.text);
        bise_pool_free(o.pool);
    }
    bise_str_fini(&first.text);
    bise_free(text);
}
END_TEST

START_TEST(the_callback_can_stop)
{
    bise_error err;
    char *text = many_rows();
    scan_log l = { .stop_after = 10 };
    ck_fails(scan_text(&l, text, NULL, &err), BISE_ECANCEL);
    ck_assert_str_eq(err.text, "seen enough");
    ck_assert_uint_eq(l.rows, 10);
    bise_str_fini(&l.text);
    bise_free(text);
}
END_TEST

/* Progress of several files: bytes that only rise, up to their sum. */
typedef struct meter {
    uint64_t done, total, calls;
} meter;

static void rises(void *ctx, const char *stage, uint64_t done, uint64_t total,
                  const char *unit, const char *remark)
{
    meter *m = ctx;
    (void)remark;
    ck_assert_str_eq(stage, "tokenize");
    ck_assert_str_eq(unit, "bytes");
    ck_assert_uint_ge(done, m->done);
    ck_assert_uint_le(done, total);
    m->done = done;
    m->total = total;
    m->calls++;
}

/* Two files of many rows each; gives their names (bise_free both). */
static void two_files(char *names[2])
{
    char *text = many_rows();
    names[0] = fixture_file("one.jsonl", text);
    names[1] = fixture_file("two.jsonl", text);
    bise_free(text);
}

START_TEST(progress_covers_all_files)
{
    bise_error err;
    char *names[2];
    bise_sources s;
    meter m = { 0 };
    scan_log l = { .rows = 0 };
    const bise_progress progress = { .report = rises, .ctx = &m };
    const bise_dataset_options o = { .tokenizer = fixture_tok,
                                     .chat = fixture_chat,
                                     .progress = &progress };
    two_files(names);
    ck_ok(bise_sources_find(&s, (const char *const *)names, 2, NULL, &err));
    ck_ok(bise_scan(&s, &o, note, &l, &err));
    ck_assert_uint_eq(l.rows, 6000);
    ck_assert_uint_ge(m.calls, 2);
    ck_assert_uint_eq(m.total, s.bytes);
    ck_assert_uint_eq(m.done, s.bytes);
    bise_str_fini(&l.text);
    bise_sources_fini(&s);
    bise_free(names[0]);
    bise_free(names[1]);
}
END_TEST

START_TEST(a_signal_stops_the_scan)
{
    bise_error err;
    char *text = many_rows();
    volatile sig_atomic_t cancel = 1;
    const bise_progress progress = { .cancel = &cancel };
    const bise_dataset_options o = { .progress = &progress };
    scan_log l = { .rows = 0 };
    ck_fails(scan_text(&l, text, &o, &err), BISE_ECANCEL);
    bise_str_fini(&l.text);
    bise_free(text);
}
END_TEST

/* A file's format does not bind the next file. */
static bise_status count_good(void *ctx, const bise_scan_row *row,
                              bise_error *err)
{
    int *good = ctx;
    (void)err;
    good[row->source] += !row->reason;
    ck_assert_str_eq(bise_path_base(row->file),
                     row->source ? "b.jsonl" : "a.jsonl");
    return BISE_OK;
}

START_TEST(files_may_have_formats_of_their_own)
{
    bise_error err;
    bise_sources s;
    int good[2] = { 0, 0 };
    char *a = fixture_file("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n");
    char *b = fixture_file("b.jsonl", "{\"question\":\"q\",\"answer\":\"a\"}");
    const char *names[] = { a, b };
    const bise_dataset_options o = { .tokenizer = fixture_tok,
                                     .chat = fixture_chat };
    ck_ok(bise_sources_find(&s, names, 2, NULL, &err));
    ck_ok(bise_scan(&s, &o, count_good, good, &err));
    ck_assert_int_eq(good[0], 2);
    ck_assert_int_eq(good[1], 1);
    bise_sources_fini(&s);
    bise_free(a);
    bise_free(b);
}
END_TEST

/* "file:line: reason" with path and offset of the row. */
static bise_status fail_at_bad(void *ctx, const bise_scan_row *row,
                               bise_error *err)
{
    (void)ctx;
    return row->reason ? bise_scan_fail(row, row->reason, err) : BISE_OK;
}

START_TEST(a_bad_row_is_a_full_error)
{
    bise_error err;
    bise_sources s;
    char want[160];
    char *path = fixture_file("x.jsonl",
                              "{\"text\":\"a\"}\n\n{\"text\":0}\n");
    const char *name = path;
    const bise_dataset_options o = { .tokenizer = fixture_tok,
                                     .chat = fixture_chat };
    ck_ok(bise_sources_find(&s, &name, 1, NULL, &err));
    ck_fails(bise_scan(&s, &o, fail_at_bad, NULL, &err), BISE_EFORMAT);
    snprintf(want, sizeof want, "%s:3: 'text' is not a string", path);
    ck_assert_str_eq(err.text, want);
    ck_assert_str_eq(err.path, path);
    ck_assert_int_eq((int)err.offset, 14);
    bise_sources_fini(&s);
    bise_free(path);
}
END_TEST

START_TEST(supervised_tokens_are_targets)
{
    const int32_t ids[4] = { 1, 2, 3, 4 };
    static const struct { uint8_t mask[4]; int32_t n, want; } t[] = {
        { { 1, 1, 1, 1 }, 4, 3 },           /* the first is no target */
        { { 1, 0, 0, 0 }, 4, 0 },
        { { 0, 0, 0, 1 }, 4, 1 },
        { { 0, 0, 0, 1 }, 3, 0 },           /* cut before it */
        { { 1, 1, 1, 1 }, 1, 0 },
        { { 1, 1, 1, 1 }, 0, 0 },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const bise_row row = { ids, t[i].mask, t[i].n };
        ck_assert_int_eq(bise_row_supervised(&row), t[i].want);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("scan");
    TCase *c = tcase_create("scan");
    tcase_set_timeout(c, 30);
    tcase_add_unchecked_fixture(c, fixture_tokenizer, fixture_no_tokenizer);
    tcase_add_checked_fixture(c, fixture_folder, fixture_no_folder);
    tcase_add_loop_test(c, rows_are_reported_in_order, 0,
                        sizeof logs / sizeof *logs);
    tcase_add_test(c, hashes_follow_the_tokens);
    tcase_add_test(c, threads_change_nothing);
    tcase_add_test(c, the_callback_can_stop);
    tcase_add_test(c, progress_covers_all_files);
    tcase_add_test(c, a_signal_stops_the_scan);
    tcase_add_test(c, files_may_have_formats_of_their_own);
    tcase_add_test(c, a_bad_row_is_a_full_error);
    tcase_add_test(c, supervised_tokens_are_targets);
    suite_add_tcase(s, c);
    return s;
}

BISE_CHECK_MAIN
