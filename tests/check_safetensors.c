/* check_safetensors.c - the safetensors reader against every truncation and
 * every wrong field, and the writer against the reader: write, read, write
 * again gives the same bytes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "formats/safetensors.h"
#include "tests/check_main.h"

/* length word + header text + n data bytes 0, 1, 2, ... */
static void make_image(bise_str *out, const char *header, size_t n)
{
    uint8_t len[8];
    bise_store_le64(len, strlen(header));
    bise_str_clear(out);
    bise_str_add(out, len, 8);
    bise_str_puts(out, header);
    for (size_t i = 0; i < n; i++)
        bise_str_putc(out, (char)i);
}

#define ENTRY(dtype, shape, range) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}"

static const char good[] =
    "{\"b\":" ENTRY("BF16", "[4]", "[24,32]")
    ",\"__metadata__\":{\"format\":\"pt\",\"x\":\"y\"}"
    ",\"a\":" ENTRY("F32", "[2,3]", "[0,24]")
    ",\"e\":" ENTRY("F16", "[0]", "[32,32]") "}";

START_TEST(reads_tensors_in_file_order)
{
    bise_error err;
    bise_str img = { 0 };
    bise_st st;
    make_image(&img, good, 32);
    ck_ok(bise_st_parse(&st, img.data, img.len, &err));
    ck_assert_uint_eq(st.n_tensors, 3);
    ck_assert_str_eq(st.tensors[0].name, "a");
    ck_assert_str_eq(st.tensors[1].name, "b");
    ck_assert_int_eq(st.tensors[0].n_dims, 2);
    ck_assert_uint_eq(st.tensors[0].dims[1], 3);
    ck_assert_uint_eq(st.tensors[1].bytes, 8);
    ck_assert_int_eq(((const uint8_t *)st.tensors[1].data)[0], 24);
    ck_assert_uint_eq(st.tensors[1].offset, img.len - 8);
    ck_assert_ptr_eq(bise_st_find(&st, "b"), &st.tensors[1]);
    ck_assert_ptr_null(bise_st_find(&st, "nothing"));
    ck_assert_str_eq(bise_json_string(bise_json_get(st.meta, "x"), NULL), "y");
    bise_st_close(&st);
    bise_str_fini(&img);
}
END_TEST

START_TEST(refuses_every_truncation)
{
    bise_error err;
    bise_str img = { 0 };
    bise_st st;
    make_image(&img, good, 32);
    for (size_t n = 0; n < img.len; n++) {
        char *copy = malloc(n ? n : 1); /* exact, for the sanitizer */
        memcpy(copy, img.data, n);
        ck_fails(bise_st_parse(&st, copy, n, &err), BISE_EFORMAT);
        ck_assert_ptr_null(st.tensors);
        free(copy);
    }
    bise_str_putc(&img, 0);                     /* and one byte too many */
    ck_fails(bise_st_parse(&st, img.data, img.len, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "after the last tensor"));
    bise_str_fini(&img);
}
END_TEST

/* Wrong headers: the text, data bytes, status and a part of the message. */
static const struct {
    const char *header;
    size_t n;
    bise_status status;
    const char *text;
} wrong[] = {
    { "{\"a\":" ENTRY("F32", "[2]", "[0,4]") "}", 4, BISE_EFORMAT,
      "4 bytes of data, shape 2 of F32 needs 8" },
    { "{\"a\":" ENTRY("F32", "[1]", "[0,8]") "}", 8, BISE_EFORMAT, "needs 4" },
    { "{\"a\":" ENTRY("F32", "[1]", "[4,0]") "}", 4, BISE_EFORMAT,
      "bytes 4 to 0" },
    { "{\"a\":" ENTRY("F32", "[1]", "[4,8]") "}", 4, BISE_EFORMAT,
      "bytes 4 to 8 of a data section of 4" },
    { "{\"a\":" ENTRY("F32", "[1]", "[4,8]") "}", 8, BISE_EFORMAT, "gap of 4" },
    { "{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"b\":"
      ENTRY("F32", "[1]", "[2,6]") "}", 6, BISE_EFORMAT, "overlap of 2" },
    { "{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"b\":"
      ENTRY("F32", "[1]", "[0,4]") "}", 4, BISE_EFORMAT, "overlap of 4" },
    { "{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"a\":"
      ENTRY("F32", "[1]", "[4,8]") "}", 8, BISE_EFORMAT, "duplicate" },
    { "{\"a\":" ENTRY("F31", "[1]", "[0,4]") "}", 4, BISE_EUNSUPPORTED,
      "unknown dtype 'F31'" },
    { "{\"a\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
      BISE_EFORMAT, "'dtype' is not a string" },
    { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, BISE_EFORMAT,
      "'dtype'" },
    { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, BISE_EFORMAT,
      "'shape' is not a list" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, BISE_EFORMAT,
      "'data_offsets'" },
    { "{\"a\":" ENTRY("F32", "[-1]", "[0,4]") "}", 4, BISE_EFORMAT,
      "something else than sizes" },
    { "{\"a\":" ENTRY("F32", "[1.5]", "[0,4]") "}", 4, BISE_EFORMAT, "sizes" },
    { "{\"a\":" ENTRY("F32", "[\"1\"]", "[0,4]") "}", 4, BISE_EFORMAT,
      "sizes" },
    { "{\"a\":" ENTRY("F32", "[1]", "[0]") "}", 4, BISE_EFORMAT, "pair" },
    { "{\"a\":" ENTRY("F32", "[1]", "[-4,0]") "}", 4, BISE_EFORMAT, "pair" },
    { "{\"a\":" ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4,
      BISE_EUNSUPPORTED, "more than 8" },
    { "{\"a\":" ENTRY("F32", "[4294967296,4294967296]", "[0,4]") "}", 4,
      BISE_EFORMAT, "too many" },
    { "{\"a\":" ENTRY("F32", "[0,4294967296,4294967296,2]", "[0,0]") "}", 0,
      BISE_EFORMAT, "too many" },
    { "{\"a\":[1]}", 0, BISE_EFORMAT, "not an object" },
    { "{\"__metadata__\":[]}", 0, BISE_EFORMAT, "not an object" },
    { "{\"__metadata__\":{\"a\":1}}", 0, BISE_EFORMAT, "not a string" },
    { "[1,2]", 0, BISE_EFORMAT, "start with '{'" },
    { "{\"a\":}", 0, BISE_EFORMAT, "invalid JSON" },
    { "{} x", 0, BISE_EFORMAT, "invalid JSON" },
    { "{\"a\\u0000b\":" ENTRY("F32", "[1]", "[0,4]") "}", 4, BISE_EFORMAT,
      "invalid JSON" },
    { "", 0, BISE_EFORMAT, "start with '{'" },
};

START_TEST(refuses_wrong_field)
{
    bise_error err;
    bise_str img = { 0 };
    bise_st st;
    make_image(&img, wrong[_i].header, wrong[_i].n);
    ck_fails(bise_st_parse(&st, img.data, img.len, &err), wrong[_i].status);
    ck_assert_msg(strstr(err.text, wrong[_i].text) != NULL, "'%s'", err.text);
    ck_assert_int_ge((int)err.offset, 0);       /* every message says where */
    bise_str_fini(&img);
}
END_TEST

START_TEST(names_tensor_and_offset_in_errors)
{
    bise_error err;
    bise_str img = { 0 };
    bise_st st;
    make_image(&img, "{\"x\":" ENTRY("F32", "[1]", "[0,4]") ",\"wrong\":"
               ENTRY("F32", "[1]", "[4,9]") "}", 9);
    ck_fails(bise_st_parse(&st, img.data, img.len, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.tensor, "wrong");
    ck_assert_int_eq(memcmp(img.data + err.offset, "\"wrong\"", 7), 0);
    bise_str_fini(&img);
}
END_TEST

START_TEST(refuses_header_longer_than_file)
{
    static const uint64_t lengths[] = { 3, 100, UINT64_MAX, UINT64_MAX - 7,
                                        UINT64_C(1) << 63 };
    bise_error err;
    bise_str img = { 0 };
    bise_st st;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        make_image(&img, "{}", 0);
        bise_store_le64(img.data, lengths[i]);
        ck_fails(bise_st_parse(&st, img.data, img.len, &err), BISE_EFORMAT);
        ck_assert_int_eq((int)err.offset, 0);
    }
    bise_str_fini(&img);
}
END_TEST

/* Two tensors in memory, as a caller of the writer has them. */
static void two_tensors(bise_tensor t[2], const float *data)
{
    t[0] = (bise_tensor){ .name = "first.\"quoted\"", .dtype = BISE_DTYPE_F32,
                          .n_dims = 2, .dims = { 2, 3 }, .data = data };
    t[1] = (bise_tensor){ .name = "second", .dtype = BISE_DTYPE_BF16,
                          .n_dims = 1, .dims = { 5 }, .data = data };
}

START_TEST(write_read_write_is_equal)
{
    bise_error err;
    const float data[6] = { 1, 2, 3, 4, 5, 6 };
    bise_tensor t[2];
    char dir[] = "/tmp/bise-st-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    char *p1 = bise_path_join(dir, "1"), *p2 = bise_path_join(dir, "2");
    two_tensors(t, data);
    bise_json *meta = bise_json_new_object();
    bise_json_set(meta, "licence", bise_json_new_string("apache-2.0"));
    ck_ok(bise_st_save(p1, meta, t, 2, &err));
    bise_st st;
    ck_ok(bise_st_open(&st, p1, &err));
    ck_assert_uint_eq(st.n_tensors, 2);
    ck_assert_str_eq(st.tensors[0].name, t[0].name);
    ck_assert_int_eq(memcmp(st.tensors[0].data, data, 24), 0);
    ck_assert_uint_eq(st.tensors[0].offset % 8, 0);
    ck_assert_str_eq(bise_json_string(bise_json_get(st.meta, "format"), NULL),
                     "pt");
    ck_ok(bise_st_save(p2, st.meta, st.tensors, 2, &err));
    bise_str a = { 0 }, b = { 0 };
    ck_ok(bise_file_read(&a, p1, &err));
    ck_ok(bise_file_read(&b, p2, &err));
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_int_eq(memcmp(a.data, b.data, a.len), 0);
    bise_str_fini(&a);
    bise_str_fini(&b);
    bise_st_close(&st);
    bise_json_free(meta);
    bise_remove_tree(dir);
    bise_free(p1);
    bise_free(p2);
}
END_TEST

START_TEST(writer_refuses_what_the_format_lacks)
{
    bise_error err;
    bise_str out = { 0 };
    uint64_t bytes;
    bise_tensor t = { .name = "q", .dtype = BISE_DTYPE_Q4_K, .n_dims = 1,
                      .dims = { 256 } };
    ck_fails(bise_st_header(&out, NULL, &t, 1, &bytes, &err),
             BISE_EUNSUPPORTED);
    ck_assert_str_eq(err.tensor, "q");
    bise_str_fini(&out);
}
END_TEST

START_TEST(open_names_the_file)
{
    bise_error err;
    bise_st st;
    ck_fails(bise_st_open(&st, "/nonexistent/x", &err), BISE_EIO);
    ck_assert_str_eq(err.path, "/nonexistent/x");
    char path[] = "/tmp/bise-st-XXXXXX";
    close(mkstemp(path));
    ck_fails(bise_st_open(&st, path, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.path, path);
    unlink(path);
}
END_TEST

START_TEST(survives_failing_allocations)
{
    bise_error err;
    bise_str img = { 0 };
    bise_st st;
    make_image(&img, good, 32);
    for (uint64_t n = 1; n < 20; n++) {
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        const bise_status s = bise_st_parse(&st, img.data, img.len, &err);
        bise_alloc_fail_after(0);
        ck_assert(s == BISE_OK || s == BISE_ENOMEM);
        bise_st_close(&st);
    }
    bise_str_fini(&img);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");
    tcase_add_test(t, reads_tensors_in_file_order);
    tcase_add_test(t, refuses_every_truncation);
    tcase_add_loop_test(t, refuses_wrong_field, 0,
                        sizeof wrong / sizeof *wrong);
    tcase_add_test(t, names_tensor_and_offset_in_errors);
    tcase_add_test(t, refuses_header_longer_than_file);
    tcase_add_test(t, write_read_write_is_equal);
    tcase_add_test(t, writer_refuses_what_the_format_lacks);
    tcase_add_test(t, open_names_the_file);
    tcase_add_test(t, survives_failing_allocations);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
