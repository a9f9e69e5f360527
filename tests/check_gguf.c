/* check_gguf.c - the GGUF reader against every truncation and wrong field, the
 * key-value list, and the writer: write, read, write again is equal, trailing
 * dimensions trimmed, data offsets prescribed.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "formats/gguf.h"
#include "tests/check_main.h"

/* Key-values of every type, with fixed values. */
static void fill_meta(bise_gguf_meta *m)
{
    static const int32_t numbers[] = { 1, -2, 3 };
    bise_str words = { 0 };
    bise_gguf_set_str(m, "general.architecture", "mistral3");
    bise_gguf_set_u16(m, "a.u16", 65535);
    bise_gguf_set_u32(m, "a.u32", 7);
    bise_gguf_set_i32(m, "a.i32", -7);
    bise_gguf_set_u64(m, "a.u64", UINT64_C(1) << 40);
    bise_gguf_set_f32(m, "a.f32", 0.5f);
    bise_gguf_set_bool(m, "a.bool", true);
    bise_gguf_set_array(m, "a.list", BISE_GGUF_I32, numbers, 3);
    bise_gguf_strings_begin(&words);
    bise_gguf_strings_add(&words, "one", 3);
    bise_gguf_strings_add(&words, "", 0);
    bise_gguf_strings_add(&words, "three", 5);
    bise_gguf_set_strings(m, "a.words", &words, 3);
    bise_str_fini(&words);
}

/* Three tensors: 2-D F32, Q8_0, and one with a leading size-1 dimension. */
static void fill_tensors(bise_tensor t[3], const void *data)
{
    t[0] = (bise_tensor){ .name = "a", .dtype = BISE_DTYPE_F32, .n_dims = 2,
                          .dims = { 2, 3 }, .data = data };
    t[1] = (bise_tensor){ .name = "q", .dtype = BISE_DTYPE_Q8_0, .n_dims = 2,
                          .dims = { 3, 32 }, .data = data };
    t[2] = (bise_tensor){ .name = "v", .dtype = BISE_DTYPE_BF16, .n_dims = 2,
                          .dims = { 1, 5 }, .data = data };
}

/* A whole image in memory from the writer; data bytes count up. */
static void make_image(bise_str *out, bise_gguf_meta *m, bise_tensor *t,
                       size_t n)
{
    bise_error err;
    uint64_t bytes = 0;
    bise_str_clear(out);
    ck_ok(bise_gguf_header(out, m, t, n, &bytes, &err));
    for (uint64_t i = 0; i < bytes; i++)
        bise_str_putc(out, (char)i);
}

static void good_image(bise_str *out)
{
    bise_gguf_meta m = { 0 };
    bise_tensor t[3];
    fill_meta(&m);
    fill_tensors(t, NULL);
    make_image(out, &m, t, 3);
    bise_gguf_meta_fini(&m);
}

START_TEST(reads_what_the_writer_wrote)
{
    bise_error err;
    bise_str img = { 0 };
    bise_gguf g;
    good_image(&img);
    ck_ok(bise_gguf_parse(&g, img.data, img.len, &err));
    ck_assert_uint_eq(g.n_tensors, 3);
    ck_assert_uint_eq(g.meta.n, 9);
    ck_assert_uint_eq(g.data_offset % 32, 0);
    const bise_tensor *q = bise_gguf_find(&g, "q");
    ck_assert_int_eq(q->dtype, BISE_DTYPE_Q8_0);
    ck_assert_uint_eq(q->dims[0], 3);
    ck_assert_uint_eq(q->dims[1], 32);
    ck_assert_uint_eq(q->bytes, 102);
    ck_assert_uint_eq(q->offset, g.data_offset + 32);
    const bise_tensor *v = bise_gguf_find(&g, "v");
    ck_assert_int_eq(v->n_dims, 1);             /* [1, 5] trimmed to [5] */
    ck_assert_uint_eq(v->dims[0], 5);
    ck_assert_ptr_null(bise_gguf_find(&g, "x"));
    bise_gguf_close(&g);
    bise_str_fini(&img);
}
END_TEST

START_TEST(typed_reads_convert)
{
    bise_gguf_meta m = { 0 };
    bise_arena a = { 0 };
    size_t n = 0;
    fill_meta(&m);
    ck_assert_int_eq(bise_gguf_int(&m, "a.u16", 0), 65535);
    ck_assert_int_eq(bise_gguf_int(&m, "a.i32", 0), -7);
    ck_assert(bise_gguf_int(&m, "a.u64", 0) == INT64_C(1) << 40);
    ck_assert(bise_gguf_float(&m, "a.f32", 0) == 0.5);
    ck_assert(bise_gguf_float(&m, "a.u32", 0) == 7);
    ck_assert_int_eq(bise_gguf_int(&m, "a.f32", 3), 0);
    ck_assert(bise_gguf_flag(&m, "a.bool", false));
    ck_assert(bise_gguf_flag(&m, "absent", true));
    ck_assert_int_eq(bise_gguf_int(&m, "a.words", 42), 42);
    ck_assert_ptr_null(bise_gguf_str(&m, "a.u32", NULL));
    ck_assert_int_eq(memcmp(bise_gguf_str(&m, "general.architecture", &n),
                            "mistral3", 8), 0);
    ck_assert_uint_eq(n, 8);
    ck_assert_str_eq(bise_gguf_strdup(&m, "general.architecture", &a),
                     "mistral3");
    const bise_gguf_kv *list = bise_gguf_get(&m, "a.list");
    ck_assert(bise_gguf_array_number(list, 1) == -2);
    ck_assert(bise_gguf_array_number(list, 3) == 0);
    bise_arena_fini(&a);
    bise_gguf_meta_fini(&m);
}
END_TEST

START_TEST(string_arrays_walk_to_their_end)
{
    static const char *const want[] = { "one", "", "three" };
    bise_gguf_meta m = { 0 };
    fill_meta(&m);
    const bise_gguf_kv *kv = bise_gguf_get(&m, "a.words");
    uint64_t at = 0;
    size_t len = 0;
    for (int i = 0; i < 3; i++) {
        const char *s = bise_gguf_array_next(kv, &at, &len);
        ck_assert_ptr_nonnull(s);
        ck_assert_uint_eq(len, strlen(want[i]));
        ck_assert_int_eq(memcmp(s, want[i], len), 0);
    }
    ck_assert_ptr_null(bise_gguf_array_next(kv, &at, &len));
    bise_gguf_meta_fini(&m);
}
END_TEST

START_TEST(list_replaces_in_place_removes_and_moves)
{
    bise_gguf_meta m = { 0 }, other = { 0 };
    fill_meta(&m);
    bise_gguf_set_str(&m, "a.u16", "now text");
    ck_assert_str_eq(m.kv[1].key, "a.u16");
    ck_assert_int_eq(m.kv[1].type, BISE_GGUF_STR);
    ck_assert_uint_eq(m.n, 9);
    bise_gguf_to_end(&m, "general.architecture");
    ck_assert_str_eq(m.kv[8].key, "general.architecture");
    ck_assert_str_eq(m.kv[0].key, "a.u16");
    bise_gguf_remove(&m, "a.u32");
    bise_gguf_remove(&m, "absent");
    ck_assert_uint_eq(m.n, 8);
    ck_assert_ptr_null(bise_gguf_get(&m, "a.u32"));
    bise_gguf_copy(&other, bise_gguf_get(&m, "a.words"));
    bise_gguf_meta_fini(&m);                    /* the copy is its own */
    ck_assert_uint_eq(bise_gguf_get(&other, "a.words")->count, 3);
    ck_assert(!other.failed);
    bise_gguf_meta_fini(&other);
}
END_TEST

START_TEST(refuses_every_truncation)
{
    bise_error err;
    bise_str img = { 0 };
    bise_gguf g;
    good_image(&img);
    ck_ok(bise_gguf_parse(&g, img.data, img.len, &err));
    const bise_tensor *last = &g.tensors[2];
    const size_t end = (size_t)(last->offset + last->bytes);
    bise_gguf_close(&g);
    for (size_t n = 0; n < end; n++) {          /* the padding may be missing */
        char *copy = malloc(n ? n : 1);
        memcpy(copy, img.data, n);
        ck_fails(bise_gguf_parse(&g, copy, n, &err), BISE_EFORMAT);
        free(copy);
    }
    ck_ok(bise_gguf_parse(&g, img.data, end, &err));
    bise_gguf_close(&g);
    bise_str_fini(&img);
}
END_TEST

/* Patches of a small image: at byte, value (size bytes), wanted failure. The
 * image: header 24 | key "k" u32 (17) at 24 | info "t" at 41: name 9, rank 4
 * at 50, size 8 at 54, type 4 at 62, offset 8 at 66 | pad to 96 | data. */
static const struct {
    size_t at;
    unsigned size;
    uint64_t value;
    bise_status status;
    const char *text;
} patches[] = {
    { 0, 1, 'g', BISE_EFORMAT, "wrong magic" },
    { 4, 4, 1, BISE_EUNSUPPORTED, "version 1" },
    { 4, 4, 4, BISE_EUNSUPPORTED, "version 4" },
    { 4, 4, 3u << 24, BISE_EUNSUPPORTED, "big-endian" },
    { 8, 8, 2, BISE_EFORMAT, "" },
    { 8, 8, UINT64_MAX, BISE_EFORMAT, "tensors in a file" },
    { 16, 8, UINT64_C(1) << 62, BISE_EFORMAT, "key-values in a file" },
    { 24, 8, 0, BISE_EFORMAT, "empty" },
    { 24, 8, 65536, BISE_EFORMAT, "at most 65535" },
    { 24, 8, 60000, BISE_EFORMAT, "left" },
    { 32, 1, 0, BISE_EFORMAT, "NUL" },
    { 33, 4, 13, BISE_EFORMAT, "unknown value type 13" },
    { 33, 4, UINT32_MAX, BISE_EFORMAT, "unknown value type" },
    { 33, 4, 9, BISE_EFORMAT, "" },
    { 41, 8, 0, BISE_EFORMAT, "empty" },
    { 41, 8, 64, BISE_EFORMAT, "at most 63" },
    { 50, 4, 5, BISE_EFORMAT, "5 dimensions" },
    { 54, 8, UINT64_MAX, BISE_EFORMAT, "negative" },
    { 54, 8, INT64_MAX, BISE_EFORMAT, "too many" },
    { 54, 8, 1000, BISE_EFORMAT, "truncated: need 4096 bytes, have" },
    { 62, 4, 4, BISE_EUNSUPPORTED, "tensor type 4" },
    { 62, 4, UINT32_MAX, BISE_EUNSUPPORTED, "tensor type -1" },
    { 62, 4, 8, BISE_EFORMAT, "multiple of 32" },
    { 66, 8, 32, BISE_EFORMAT, "data offset 32, 0 is prescribed" },
    { 66, 8, UINT64_MAX, BISE_EFORMAT, "prescribed" },
};

static void small_image(bise_str *img)
{
    bise_gguf_meta m = { 0 };
    bise_tensor t = { .name = "t", .dtype = BISE_DTYPE_F32, .n_dims = 1,
                      .dims = { 8 } };
    bise_gguf_set_u32(&m, "k", 1);
    make_image(img, &m, &t, 1);
    bise_gguf_meta_fini(&m);
}

START_TEST(refuses_wrong_field)
{
    bise_error err;
    bise_str img = { 0 };
    bise_gguf g;
    small_image(&img);
    ck_ok(bise_gguf_parse(&g, img.data, img.len, &err));
    ck_assert_uint_eq(g.data_offset, 96);
    bise_gguf_close(&g);
    for (unsigned i = 0; i < patches[_i].size; i++)
        img.data[patches[_i].at + i] = (char)(patches[_i].value >> 8 * i);
    ck_fails(bise_gguf_parse(&g, img.data, img.len, &err), patches[_i].status);
    ck_assert_msg(strstr(err.text, patches[_i].text) != NULL, "'%s'", err.text);
    ck_assert_int_ge((int)err.offset, 0);
    bise_str_fini(&img);
}
END_TEST

START_TEST(refuses_double_keys_and_tensors)
{
    bise_error err;
    bise_str img = { 0 };
    bise_gguf g;
    bise_gguf_meta m = { 0 };
    bise_tensor t[2] = { { .name = "t", .n_dims = 1, .dims = { 1 } },
                         { .name = "u", .n_dims = 1, .dims = { 1 } } };
    bise_gguf_set_u32(&m, "k", 1);
    bise_gguf_set_u32(&m, "j", 1);
    make_image(&img, &m, t, 2);
    img.data[49] = 'k';                         /* the second key */
    ck_fails(bise_gguf_parse(&g, img.data, img.len, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "key 'k' stands twice"));
    img.data[49] = 'j';
    char *second = memchr(img.data, 'u', img.len);
    ck_assert_ptr_nonnull(second);
    *second = 't';
    ck_fails(bise_gguf_parse(&g, img.data, img.len, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "tensor stands twice"));
    ck_assert_str_eq(err.tensor, "t");
    bise_gguf_meta_fini(&m);
    bise_str_fini(&img);
}
END_TEST

START_TEST(honours_alignment)
{
    static const uint32_t bad[] = { 0, 3, 48 };
    bise_error err;
    bise_str img = { 0 };
    bise_gguf g;
    bise_gguf_meta m = { 0 };
    bise_tensor t[3];
    uint64_t bytes;
    fill_tensors(t, NULL);
    bise_gguf_set_u32(&m, "general.alignment", 128);
    make_image(&img, &m, t, 3);
    ck_ok(bise_gguf_parse(&g, img.data, img.len, &err));
    ck_assert_uint_eq(g.alignment, 128);
    ck_assert_uint_eq(g.tensors[1].offset % 128, 0);
    const size_t at = (size_t)(g.meta.kv[0].data - (uint8_t *)img.data);
    bise_gguf_close(&g);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bise_store_le32(img.data + at, bad[i]);
        ck_fails(bise_gguf_parse(&g, img.data, img.len, &err), BISE_EFORMAT);
        ck_assert_int_eq((int)err.offset, (int)at);
    }
    bise_gguf_set_u32(&m, "general.alignment", 33);
    bise_str_clear(&img);
    ck_fails(bise_gguf_header(&img, &m, t, 3, &bytes, &err), BISE_EINVAL);
    bise_gguf_meta_fini(&m);
    bise_str_fini(&img);
}
END_TEST

START_TEST(refuses_bad_arrays)
{
    /* k: array, element type at 37, count at 41 */
    static const struct { uint32_t elem; uint64_t count; } bad[] = {
        { 9, 1 }, { 13, 1 }, { 8, 1000 }, { 0, UINT64_MAX },
        { 12, UINT64_C(1) << 61 }, { 4, (UINT64_C(1) << 30) + 1 }
    };
    static const uint32_t two[] = { 1, 2 };
    bise_error err;
    bise_str img = { 0 };
    bise_gguf g;
    bise_gguf_meta m = { 0 };
    bise_gguf_set_array(&m, "k", BISE_GGUF_U32, two, 2);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        make_image(&img, &m, NULL, 0);
        bise_store_le32(img.data + 37, bad[i].elem);
        bise_store_le64(img.data + 41, bad[i].count);
        ck_fails(bise_gguf_parse(&g, img.data, img.len, &err), BISE_EFORMAT);
        ck_assert_ptr_nonnull(strstr(err.text, "array"));
    }
    bise_gguf_meta_fini(&m);
    bise_str_fini(&img);
}
END_TEST

START_TEST(write_read_write_is_equal)
{
    bise_error err;
    uint8_t data[128];
    bise_gguf_meta m = { 0 };
    bise_tensor t[3];
    char dir[] = "/tmp/bise-gguf-XXXXXX";
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    char *p1 = bise_path_join(dir, "1"), *p2 = bise_path_join(dir, "2");
    fill_meta(&m);
    fill_tensors(t, data);
    ck_ok(bise_gguf_save(p1, &m, t, 3, &err));
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, p1, &err));
    ck_ok(bise_gguf_save(p2, &g.meta, g.tensors, g.n_tensors, &err));
    bise_str a = { 0 }, b = { 0 };
    ck_ok(bise_file_read(&a, p1, &err));
    ck_ok(bise_file_read(&b, p2, &err));
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_uint_eq(a.len % 32, 0);           /* the last one padded too */
    ck_assert_int_eq(memcmp(a.data, b.data, a.len), 0);
    bise_gguf_close(&g);
    bise_gguf_meta_fini(&m);
    bise_str_fini(&a);
    bise_str_fini(&b);
    bise_remove_tree(dir);
    bise_free(p1);
    bise_free(p2);
}
END_TEST

START_TEST(writer_refuses_what_the_format_lacks)
{
    char longest[65];
    bise_error err;
    bise_str out = { 0 };
    bise_gguf_meta m = { 0 };
    uint64_t bytes;
    memset(longest, 'n', 64);
    longest[64] = 0;
    bise_tensor t = { .name = longest, .n_dims = 1, .dims = { 1 } };
    ck_fails(bise_gguf_header(&out, &m, &t, 1, &bytes, &err), BISE_EINVAL);
    longest[63] = 0;
    ck_ok(bise_gguf_header(&out, &m, &t, 1, &bytes, &err));
    t = (bise_tensor){ .name = "f8", .dtype = BISE_DTYPE_F8_E4M3, .n_dims = 1,
                       .dims = { 1 } };
    ck_fails(bise_gguf_header(&out, &m, &t, 1, &bytes, &err),
             BISE_EUNSUPPORTED);
    t = (bise_tensor){ .name = "d5", .n_dims = 5, .dims = { 2, 2, 2, 2, 2 } };
    ck_fails(bise_gguf_header(&out, &m, &t, 1, &bytes, &err),
             BISE_EUNSUPPORTED);
    t = (bise_tensor){ .name = "row", .dtype = BISE_DTYPE_Q4_K, .n_dims = 1,
                       .dims = { 255 } };
    ck_fails(bise_gguf_header(&out, &m, &t, 1, &bytes, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "multiple of 256"));
    bise_str_fini(&out);
}
END_TEST

START_TEST(reads_the_shared_models)
{
    const char *shared = getenv("BISE_SHARED");
    bise_error err;
    bise_gguf g;
    bise_str path = { 0 };
    bise_str_printf(&path, "%s/data/models/stories260k/stories260Ktok512.gguf",
                    shared ? shared : BISE_SRCDIR "/../shared");
    if (!bise_file_exists(bise_str_get(&path))) {
        printf("skipped: no %s\n", bise_str_get(&path));
        bise_str_fini(&path);
        return;
    }
    ck_ok(bise_gguf_open(&g, bise_str_get(&path), &err));
    ck_assert_uint_eq(g.n_tensors, 48);
    ck_assert_int_eq(bise_gguf_int(&g.meta, "llama.block_count", 0), 5);
    ck_assert_ptr_nonnull(bise_gguf_find(&g, "token_embd.weight"));
    bise_gguf_close(&g);
    bise_str_fini(&path);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gguf");
    TCase *t = tcase_create("gguf");
    tcase_add_test(t, reads_what_the_writer_wrote);
    tcase_add_test(t, typed_reads_convert);
    tcase_add_test(t, string_arrays_walk_to_their_end);
    tcase_add_test(t, list_replaces_in_place_removes_and_moves);
    tcase_add_test(t, refuses_every_truncation);
    tcase_add_loop_test(t, refuses_wrong_field, 0,
                        sizeof patches / sizeof *patches);
    tcase_add_test(t, refuses_double_keys_and_tensors);
    tcase_add_test(t, honours_alignment);
    tcase_add_test(t, refuses_bad_arrays);
    tcase_add_test(t, write_read_write_is_equal);
    tcase_add_test(t, writer_refuses_what_the_format_lacks);
    tcase_add_test(t, reads_the_shared_models);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
