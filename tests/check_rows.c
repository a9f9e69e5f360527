/* check_rows.c - tests of formats/inflate and text/rows: plain and compressed
 * streams, lines and arrays, buffers that end inside a row, broken files.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "formats/inflate.h"
#include "tests/check_main.h"
#include "text/rows.h"

/* All rows of a text as "line@offset:text|", faults as "line!fault|". */
static char *cut(const char *text, size_t n)
{
    bise_error err;
    bise_inflate *in = NULL;
    bise_row_reader *r = NULL;
    bise_str out = { 0 };
    ck_ok(bise_inflate_memory(&in, text, n, &err));
    ck_ok(bise_rows_new_take(&r, in, &err));
    for (;;) {
        const bise_raw_row *rows;
        size_t count;
        ck_ok(bise_rows_batch(r, &rows, &count, &err));
        if (!count)
            break;
        for (size_t i = 0; i < count; i++) {
            bise_str_printf(&out, "%d", (int)rows[i].line);
            if (rows[i].fault)
                bise_str_printf(&out, "!%s|", rows[i].fault);
            else
                bise_str_printf(&out, "@%d:%.*s|", (int)rows[i].offset,
                                (int)rows[i].n, rows[i].text);
        }
    }
    bise_rows_close(r);
    return out.data ? bise_str_take(&out) : bise_strdup("");
}

static const struct { const char *text, *rows; } cuts[] = {
    { "", "" },
    { " \n\t\r\n", "" },
    { "{}", "1@0:{}|" },
    { "{}\n", "1@0:{}|" },
    { "{\"a\":1}\n\n  \n{\"b\":2}\n", "1@0:{\"a\":1}|4@12:{\"b\":2}|" },
    { "\xef\xbb\xbf{}\r\n{}", "1@3:{}\r|2@7:{}|" },
    { "[]", "" },
    { " [ ] \n", "" },
    { "[1,2]", "1@1:1|1@3:2|" },
    { "[\n {\"a\":[1,2]},\n {\"b\":\"],\\\"\"}\n]\n",
      "2@3:{\"a\":[1,2]}|3@17:{\"b\":\"],\\\"\"}\n|" },
    { "[1,,2]", "1@1:1|1!an element of the array is missing|1@4:2|" },
    { "[1,]", "1@1:1|1!an element of the array is missing|" },
    { "[1", "1!the array is not closed at the end of the file|" },
    { "[", "1!the array is not closed at the end of the file|" },
    { "[1]\n\n x", "1@1:1|3!text after the end of the array|" },
    /* objects over several lines, one after another */
    { "{\n \"a\": [1]\n}\n", "1@0:{\n \"a\": [1]\n}|" },
    { "\n{ \r\n \"a\": \"}\"\n}\n{\n}{\"b\":2}\n",
      "2@1:{ \r\n \"a\": \"}\"\n}|5@17:{\n}|6@20:{\"b\":2}|" },
    { "{\n \"a\": 1\n", "1!the object is not closed at the end of the file|" },
    { "{\n}, x", "1@0:{\n}|2@3:,|2@5:x|" },
    /* not JSON at all */
    { "\xff\xfe{", "1!the file is UTF-16, not UTF-8|" },
    { "PAR1xxxx", "1!a Parquet file, not JSON lines|" },
    { "[\"a]\n", "1!the array is not closed at the end of the file|" },
};

START_TEST(cuts_lines_and_arrays)
{
    char *got = cut(cuts[_i].text, strlen(cuts[_i].text));
    ck_assert_str_eq(got, cuts[_i].rows);
    bise_free(got);
}
END_TEST

/* More than one buffer, in both layouts: every row must come out once, with
 * its line, although buffers end inside rows. */
START_TEST(rows_cross_buffers)
{
    const bool array = _i;
    const int rows = 140000;
    bise_str text = { 0 };
    bise_error err;
    bise_inflate *in = NULL;
    bise_row_reader *r = NULL;
    bise_str_puts(&text, array ? "[\n" : "\n");
    for (int i = 0; i < rows; i++)
        bise_str_printf(&text, "{\"n\":%d,\"pad\":\"%*s\"}%s\n", i, i % 97, "",
                        array && i + 1 < rows ? "," : "");
    if (array)
        bise_str_puts(&text, "]");
    ck_assert_uint_gt(text.len, 8u << 20);
    ck_ok(bise_inflate_memory(&in, text.data, text.len, &err));
    ck_ok(bise_rows_new_take(&r, in, &err));
    int seen = 0;
    for (;;) {
        const bise_raw_row *v;
        size_t n;
        ck_ok(bise_rows_batch(r, &v, &n, &err));
        if (!n)
            break;
        for (size_t i = 0; i < n; i++, seen++) {
            char want[32];
            const int len = snprintf(want, sizeof want, "{\"n\":%d,", seen);
            ck_assert_int_eq(memcmp(v[i].text, want, (size_t)len), 0);
            ck_assert_int_eq((int)v[i].line, seen + 2);
            ck_assert_ptr_null(v[i].fault);
            ck_assert_int_eq(memcmp(text.data + v[i].offset, v[i].text,
                                    v[i].n), 0);
        }
    }
    ck_assert_int_eq(seen, rows);
    bise_rows_close(r);
    bise_str_fini(&text);
}
END_TEST

/* The same for objects of three lines each. */
START_TEST(objects_cross_buffers)
{
    const int rows = 100000;
    bise_str text = { 0 };
    bise_error err;
    bise_inflate *in = NULL;
    bise_row_reader *r = NULL;
    for (int i = 0; i < rows; i++)
        bise_str_printf(&text, "{\n\"n\":%d,\"pad\":\"%*s\"\n}\n", i, i % 97, "");
    ck_assert_uint_gt(text.len, 4u << 20);
    ck_ok(bise_inflate_memory(&in, text.data, text.len, &err));
    ck_ok(bise_rows_new_take(&r, in, &err));
    int seen = 0;
    for (;;) {
        const bise_raw_row *v;
        size_t n;
        ck_ok(bise_rows_batch(r, &v, &n, &err));
        if (!n)
            break;
        for (size_t i = 0; i < n; i++, seen++) {
            char want[32];
            const int len = snprintf(want, sizeof want, "{\n\"n\":%d,", seen);
            ck_assert_int_eq(memcmp(v[i].text, want, (size_t)len), 0);
            ck_assert_int_eq((int)v[i].line, seen * 3 + 1);
            ck_assert_int_eq(v[i].text[v[i].n - 1], '}');
        }
    }
    ck_assert_int_eq(seen, rows);
    bise_rows_close(r);
    bise_str_fini(&text);
}
END_TEST

/* A row larger than the buffer grows it; one over the limit is a fault. */
START_TEST(long_rows_grow_the_buffer)
{
    const size_t n = _i ? BISE_ROW_MAX_BYTES + 100 : 10u << 20;
    char *text = bise_alloc(n + 1);
    memset(text, 'x', n);
    text[n - 2] = '\n';
    bise_error err;
    bise_inflate *in = NULL;
    bise_row_reader *r = NULL;
    const bise_raw_row *v;
    size_t count;
    ck_ok(bise_inflate_memory(&in, text, n, &err));
    ck_ok(bise_rows_new_take(&r, in, &err));
    ck_ok(bise_rows_batch(r, &v, &count, &err));
    ck_assert_uint_ge(count, 1);
    if (_i) {
        ck_assert_ptr_nonnull(v[0].fault);
        ck_ok(bise_rows_batch(r, &v, &count, &err));
        ck_assert_uint_eq(count, 0);
    } else {
        ck_assert_ptr_null(v[0].fault);
        ck_assert_uint_eq(v[0].n, n - 2);
    }
    bise_rows_close(r);
    bise_free(text);
}
END_TEST

/* Write text to path through a libarchive filter. */
static void compress_to(const char *path, const char *text, size_t n, bool gz)
{
    struct archive *a = archive_write_new();
    struct archive_entry *e = archive_entry_new();
    archive_write_set_format_raw(a);
    if (gz)
        archive_write_add_filter_gzip(a);
    else
        archive_write_add_filter_zstd(a);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_pathname(e, "x");
    ck_assert_int_eq(archive_write_open_filename(a, path), ARCHIVE_OK);
    ck_assert_int_eq(archive_write_header(a, e), ARCHIVE_OK);
    ck_assert_int_eq((int)archive_write_data(a, text, n), (int)n);
    archive_entry_free(e);
    ck_assert_int_eq(archive_write_free(a), ARCHIVE_OK);
}

/* Whole content of a stream. */
static bise_status read_all(bise_str *out, const char *path, bise_error *err)
{
    bise_inflate *in = NULL;
    bise_status s = bise_inflate_open(&in, path, err);
    size_t got = 1;
    while (s == BISE_OK && got) {
        char buf[1000];
        s = bise_inflate_read(in, buf, sizeof buf, &got, err);
        if (s == BISE_OK)
            bise_str_add(out, buf, got);
    }
    bise_inflate_close(in);
    return s;
}

START_TEST(compressed_files_read_the_same)
{
    char dir[] = "/tmp/bise-rows-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    char *path = bise_path_join(dir, "rows.bin");   /* the name tells nothing */
    bise_str text = { 0 }, got = { 0 };
    bise_error err;
    for (int i = 0; i < 20000; i++)
        bise_str_printf(&text, "{\"text\":\"row %d\"}\n", i * 7919 % 10007);
    compress_to(path, text.data, text.len, _i);
    ck_assert_uint_lt(bise_file_size(path), text.len / 2);
    ck_ok(read_all(&got, path, &err));
    ck_assert_uint_eq(got.len, text.len);
    ck_assert_int_eq(memcmp(got.data, text.data, text.len), 0);
    /* cut in the middle: an error with the path, not a shorter file */
    ck_assert_int_eq(truncate(path, (off_t)(bise_file_size(path) / 2)), 0);
    bise_str_clear(&got);
    ck_fails(read_all(&got, path, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.path, path);
    /* nothing inside */
    compress_to(path, "", 0, _i);
    bise_str_clear(&got);
    ck_ok(read_all(&got, path, &err));
    ck_assert_uint_eq(got.len, 0);
    bise_str_fini(&text);
    bise_str_fini(&got);
    bise_free(path);
    bise_remove_tree(dir);
}
END_TEST

START_TEST(absent_file_is_named)
{
    bise_error err;
    bise_row_reader *r = NULL;
    ck_fails(bise_rows_open(&r, "/nonexistent/rows.jsonl", &err), BISE_EIO);
    ck_assert_str_eq(err.path, "/nonexistent/rows.jsonl");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rows");
    TCase *c = tcase_create("rows");
    tcase_set_timeout(c, 30);
    tcase_add_loop_test(c, cuts_lines_and_arrays, 0,
                        sizeof cuts / sizeof *cuts);
    tcase_add_loop_test(c, rows_cross_buffers, 0, 2);
    tcase_add_test(c, objects_cross_buffers);
    tcase_add_loop_test(c, long_rows_grow_the_buffer, 0, 2);
    tcase_add_loop_test(c, compressed_files_read_the_same, 0, 2);
    tcase_add_test(c, absent_file_is_named);
    suite_add_tcase(s, c);
    return s;
}

BISE_CHECK_MAIN
