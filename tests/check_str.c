/* check_str.c - tests of core/str: growing, JSON and HTML escapes, paths,
 * UTF-8 for every code point, edit distance, sizes, byte texts.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "core/mem.h"
#include "core/str.h"
#include "tests/check_main.h"

START_TEST(empty_string_reads_as_empty_text)
{
    bise_str s = { 0 };
    ck_assert_str_eq(bise_str_get(&s), "");
    ck_assert(bise_str_ok(&s));
    char *p = bise_str_take(&s);
    ck_assert_str_eq(p, "");
    bise_free(p);
    bise_str_fini(&s);
}
END_TEST

START_TEST(appends_keep_the_terminator)
{
    bise_str s = { 0 };
    for (int i = 0; i < 1000; i++) {
        bise_str_putc(&s, (char)('a' + i % 26));
        ck_assert_uint_eq(s.len, (size_t)i + 1);
        ck_assert_int_eq(s.data[s.len], 0);
    }
    bise_str_add(&s, "\0x", 2);
    ck_assert_uint_eq(s.len, 1002);
    ck_assert_int_eq(s.data[1001], 'x');
    bise_str_clear(&s);
    ck_assert_uint_eq(s.len, 0);
    ck_assert_str_eq(bise_str_get(&s), "");
    bise_str_fini(&s);
}
END_TEST

START_TEST(printf_grows_as_needed)
{
    bise_str s = { 0 };
    char want[600];
    memset(want, 'z', sizeof want);
    want[sizeof want - 1] = 0;
    bise_str_printf(&s, "%d-%s-%5.2f", 42, want, 1.5);
    ck_assert(bise_starts_with(bise_str_get(&s), "42-zzz"));
    ck_assert(bise_ends_with(bise_str_get(&s), "zz- 1.50"));
    ck_assert_uint_eq(s.len, 3 + 599 + 1 + 5);
    bise_str_fini(&s);
}
END_TEST

START_TEST(failed_growth_is_remembered)
{
    bise_str s = { 0 };
    bise_str_puts(&s, "abc");
    bise_alloc_fail_after(1);
    for (int i = 0; i < 100; i++)
        bise_str_puts(&s, "0123456789");
    bise_alloc_fail_after(0);
    ck_assert(!bise_str_ok(&s));
    bise_str_puts(&s, "more");
    ck_assert(!bise_str_ok(&s));
    ck_assert_ptr_null(bise_str_take(&s));
    ck_assert(bise_str_ok(&s));
}
END_TEST

START_TEST(take_hands_the_buffer_over)
{
    bise_str s = { 0 };
    bise_str_puts(&s, "mine");
    char *p = bise_str_take(&s);
    ck_assert_str_eq(p, "mine");
    ck_assert_ptr_null(s.data);
    ck_assert_uint_eq(s.cap, 0);
    bise_free(p);
}
END_TEST

/* Input bytes and the JSON literal they make. */
static const struct {
    const char *in;
    size_t n;
    const char *out;
} escapes[] = {
    { "plain", 5, "\"plain\"" },
    { "", 0, "\"\"" },
    { "a\"b", 3, "\"a\\\"b\"" },
    { "a\\b", 3, "\"a\\\\b\"" },
    { "\n\r\t\b\f", 5, "\"\\n\\r\\t\\b\\f\"" },
    { "\x01\x1f", 2, "\"\\u0001\\u001f\"" },
    { "\0", 1, "\"\\u0000\"" },
    { "\xc3\xa9", 2, "\"\xc3\xa9\"" },
    { "\x7f", 1, "\"\x7f\"" },
    { "</script>", 9, "\"</script>\"" },
};

START_TEST(json_literals_escape_what_they_must)
{
    bise_str s = { 0 };
    bise_str_put_json(&s, escapes[_i].in, escapes[_i].n);
    ck_assert_str_eq(bise_str_get(&s), escapes[_i].out);
    bise_str_fini(&s);
}
END_TEST

START_TEST(html_escapes_markup)
{
    bise_str s = { 0 };
    bise_str_put_html(&s, "<a href=\"x\">1 & 2</a>");
    ck_assert_str_eq(bise_str_get(&s),
                     "&lt;a href=&quot;x&quot;&gt;1 &amp; 2&lt;/a&gt;");
    bise_str_fini(&s);
}
END_TEST

/* Directory, name, joined path. */
static const struct {
    const char *dir, *name, *path;
} joins[] = {
    { "a", "b", "a/b" },       { "a/", "b", "a/b" },
    { "/", "b", "/b" },        { "", "b", "b" },
    { "a/b", "c/d", "a/b/c/d" },
};

START_TEST(paths_join_with_one_slash)
{
    char *p = bise_path_join(joins[_i].dir, joins[_i].name);
    ck_assert_str_eq(p, joins[_i].path);
    ck_assert_str_eq(bise_path_base(p),
                     bise_path_base(joins[_i].name));
    bise_free(p);
}
END_TEST

START_TEST(base_is_what_follows_the_last_slash)
{
    ck_assert_str_eq(bise_path_base("a/b/c"), "c");
    ck_assert_str_eq(bise_path_base("c"), "c");
    ck_assert_str_eq(bise_path_base("a/"), "");
    ck_assert(bise_ends_with("model.gguf", ".gguf"));
    ck_assert(!bise_ends_with("gguf", "model.gguf"));
    ck_assert(bise_starts_with("model.gguf", "model"));
    ck_assert(!bise_starts_with("mod", "model"));
}
END_TEST

START_TEST(utf8_round_trips_every_code_point)
{
    for (unsigned cp = 0; cp <= 0x10ffff; cp++) {
        if (cp >= 0xd800 && cp <= 0xdfff)
            continue;
        char buf[4];
        unsigned back = 0;
        const int n = bise_utf8_put(buf, cp);
        if (bise_utf8_next(buf, (size_t)n, &back) != n || back != cp)
            ck_abort_msg("U+%04X became U+%04X", cp, back);
        if (n > 1 && bise_utf8_next(buf, (size_t)n - 1, &back) != 0)
            ck_abort_msg("U+%04X read from %d bytes", cp, n - 1);
    }
}
END_TEST

/* Byte sequences that are not UTF-8. */
static const char *const bad_utf8[] = {
    "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf",
    "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
    "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xfe", "\xc3(", "\xe2(\xa1",
    "\xe2\x82(", "\xf0(\x8c\xbc", "\xf0\x90(\xbc", "\xf0\x28\x8c\x28",
};

START_TEST(utf8_refuses_invalid_sequences)
{
    const char *s = bad_utf8[_i];
    ck_assert_int_eq(bise_utf8_next(s, strlen(s), NULL), 0);
}
END_TEST

START_TEST(utf8_of_nothing_is_nothing)
{
    ck_assert_int_eq(bise_utf8_next("a", 0, NULL), 0);
}
END_TEST

/* Words and their distance, transpositions counting one. */
static const struct {
    const char *a, *b;
    int d;
} distances[] = {
    { "", "", 0 },           { "a", "", 1 },        { "", "abc", 3 },
    { "quantize", "quantise", 1 },                  { "merge", "mereg", 1 },
    { "threads", "thread", 1 },                     { "kitten", "sitting", 3 },
    { "finetune", "fine-tune", 1 },                 { "eval", "gen", 4 },
    { "abcdef", "badcfe", 3 },
};

START_TEST(distance_is_symmetric_and_right)
{
    ck_assert_int_eq(bise_edit_distance(distances[_i].a, distances[_i].b),
                     distances[_i].d);
    ck_assert_int_eq(bise_edit_distance(distances[_i].b, distances[_i].a),
                     distances[_i].d);
}
END_TEST

START_TEST(distance_reads_at_most_64_bytes)
{
    char a[200], b[200];
    memset(a, 'a', sizeof a - 1);
    memset(b, 'b', sizeof b - 1);
    a[199] = b[199] = 0;
    ck_assert_int_eq(bise_edit_distance(a, b), 64);
}
END_TEST

/* Size texts; -1 marks what is refused. */
static const struct {
    const char *text;
    long long bytes;
} sizes[] = {
    { "0", 0 },             { "4096", 4096 },       { "1k", 1000 },
    { "1K", 1000 },         { "1Ki", 1024 },        { "1KiB", 1024 },
    { "5G", 5000000000 },   { "5GB", 5000000000 },  { "1.5M", 1500000 },
    { "2Mi", 2097152 },     { "1T", 1000000000000 }, { "300MB", 300000000 },
    { "", -1 },             { "G", -1 },            { "-1", -1 },
    { "1X", -1 },           { "1GiBx", -1 },        { "1e30", -1 },
    { "nan", -1 },          { "12 G", -1 },
};

START_TEST(sizes_are_read_or_refused)
{
    unsigned long long v = 77;
    const int rc = bise_parse_size(sizes[_i].text, &v);
    ck_assert_int_eq(rc, sizes[_i].bytes < 0 ? -1 : 0);
    if (rc == 0)
        ck_assert_uint_eq(v, (unsigned long long)sizes[_i].bytes);
}
END_TEST

/* Byte counts and how they are shown. */
static const struct {
    unsigned long long n;
    const char *text;
} shown[] = {
    { 0, "0 B" },               { 999, "999 B" },
    { 1000, "1.00 kB" },        { 12345, "12.3 kB" },
    { 4490000, "4.49 MB" },     { 999999, "1.00 MB" },
    { 5000000000, "5.00 GB" },  { 131000000000000, "131.0 TB" },
};

START_TEST(byte_counts_are_short)
{
    char buf[32];
    ck_assert_str_eq(bise_format_bytes(buf, shown[_i].n), shown[_i].text);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static Suite *suite(void)
{
    Suite *s = suite_create("str");
    TCase *t = tcase_create("str");
    tcase_add_test(t, empty_string_reads_as_empty_text);
    tcase_add_test(t, appends_keep_the_terminator);
    tcase_add_test(t, printf_grows_as_needed);
    tcase_add_test(t, failed_growth_is_remembered);
    tcase_add_test(t, take_hands_the_buffer_over);
    tcase_add_loop_test(t, json_literals_escape_what_they_must, 0,
                        COUNT(escapes));
    tcase_add_test(t, html_escapes_markup);
    tcase_add_loop_test(t, paths_join_with_one_slash, 0, COUNT(joins));
    tcase_add_test(t, base_is_what_follows_the_last_slash);
    tcase_add_test(t, utf8_round_trips_every_code_point);
    tcase_add_loop_test(t, utf8_refuses_invalid_sequences, 0,
                        COUNT(bad_utf8));
    tcase_add_test(t, utf8_of_nothing_is_nothing);
    tcase_add_loop_test(t, distance_is_symmetric_and_right, 0,
                        COUNT(distances));
    tcase_add_test(t, distance_reads_at_most_64_bytes);
    tcase_add_loop_test(t, sizes_are_read_or_refused, 0, COUNT(sizes));
    tcase_add_loop_test(t, byte_counts_are_short, 0, COUNT(shown));
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
