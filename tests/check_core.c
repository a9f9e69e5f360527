/* check_core.c - tests of core/: 16-bit floats, strings, JSON, maps, pool,
 * files, regular expressions, error texts.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/dtype.h"
#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/pool.h"
#include "core/regex.h"
#include "core/rng.h"
#include "core/str.h"
#include "core/strmap.h"
#include "tests/check_main.h"

START_TEST(f16_round_trips_every_code)
{
    for (unsigned h = 0; h < 0x10000; h++) {
        const float f = bise_f16_to_f32((uint16_t)h);
        if (isnan(f))
            continue;
        ck_assert_uint_eq(bise_f32_to_f16(f), h);
    }
}
END_TEST

START_TEST(f16_rounds_to_nearest_even)
{
    /* between two neighbours the even code wins; beyond 65520 is infinity */
    for (unsigned h = 0; h < 0x7bff; h++) {
        const float a = bise_f16_to_f32((uint16_t)h);
        const float b = bise_f16_to_f32((uint16_t)(h + 1));
        const float mid = (a + b) / 2;
        ck_assert_uint_eq(bise_f32_to_f16(mid), h & 1 ? h + 1 : h);
        ck_assert_uint_eq(bise_f32_to_f16(nextafterf(mid, 0)), h);
        ck_assert_uint_eq(bise_f32_to_f16(nextafterf(mid, 1e9f)), h + 1);
    }
    ck_assert_uint_eq(bise_f32_to_f16(65519.99f), 0x7bff);
    ck_assert_uint_eq(bise_f32_to_f16(65520.0f), 0x7c00);
    ck_assert_uint_eq(bise_f32_to_f16(NAN) & 0x7fff, 0x7e00);
}
END_TEST

START_TEST(bf16_rounds_to_nearest_even)
{
    ck_assert_uint_eq(bise_f32_to_bf16(1.0f), 0x3f80);
    ck_assert_uint_eq(bise_f32_to_bf16(bise_bits_f32(0x3f808000)), 0x3f80);
    ck_assert_uint_eq(bise_f32_to_bf16(bise_bits_f32(0x3f818000)), 0x3f82);
    ck_assert_uint_eq(bise_f32_to_bf16(bise_bits_f32(0x7f800001)), 0x7fc0);
    ck_assert_uint_eq(bise_f32_to_bf16(-INFINITY), 0xff80);
}
END_TEST

START_TEST(json_refuses_duplicate_keys)
{
    bise_error err;
    bise_json *v = NULL;
    const char *text = "{\"a\": 1, \"a\": 2}";
    ck_fails(bise_json_parse(&v, text, strlen(text), &err), BISE_EFORMAT);
    ck_assert_int_gt((int)err.offset, 0);
}
END_TEST

START_TEST(json_dumps_like_python)
{
    bise_error err;
    bise_json *v = NULL;
    const char *text = "{\"b\":[1,2.50,1e22,0.0001,1e-7,true,null],"
                       "\"a\":\"\\u00e9\\n\"}";
    const char *want = "{\"b\": [1, 2.5, 1e+22, 0.0001, 1e-07, true, null], "
                       "\"a\": \"\xc3\xa9\\n\"}";
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    bise_str s = { 0 };
    bise_json_dump_python(&s, v);
    ck_assert_str_eq(bise_str_get(&s), want);
    bise_str_clear(&s);
    bise_json_dump(&s, bise_json_at(bise_json_get(v, "b"), 2), 0, false);
    ck_assert_str_eq(bise_str_get(&s), "1e+22");
    bise_str_fini(&s);
    bise_json_free(v);
}
END_TEST

START_TEST(sizes_parse_with_units)
{
    unsigned long long n;
    ck_assert_int_eq(bise_parse_size("5G", &n), 0);
    ck_assert_uint_eq(n, 5000000000u);
    ck_assert_int_eq(bise_parse_size("1.5KiB", &n), 0);
    ck_assert_uint_eq(n, 1536);
    ck_assert_int_eq(bise_parse_size("x", &n), -1);
    ck_assert_int_eq(bise_parse_size("5Q", &n), -1);
}
END_TEST

START_TEST(utf8_rejects_overlong_and_surrogates)
{
    unsigned cp;
    ck_assert_int_eq(bise_utf8_next("\xc3\xa9", 2, &cp), 2);
    ck_assert_uint_eq(cp, 0xe9);
    ck_assert_int_eq(bise_utf8_next("\xc0\x80", 2, &cp), 0);
    ck_assert_int_eq(bise_utf8_next("\xed\xa0\x80", 3, &cp), 0);
    ck_assert_int_eq(bise_utf8_next("\xf4\x90\x80\x80", 4, &cp), 0);
    ck_assert_int_eq(bise_utf8_next("\xe2\x82", 2, &cp), 0);
}
END_TEST

START_TEST(strmap_finds_what_was_added)
{
    bise_strmap m = { 0 };
    static char keys[5000][12];
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(keys[i], sizeof keys[i], "key%u", i);
        ck_assert_int_eq(bise_strmap_add(&m, keys[i], strlen(keys[i]), i), 0);
    }
    for (unsigned i = 0; i < 5000; i++)
        ck_assert_uint_eq(bise_strmap_find(&m, keys[i], strlen(keys[i])), i);
    ck_assert_int_eq(bise_strmap_add(&m, "key7", 4, 9), 1);
    ck_assert_uint_eq(bise_strmap_find(&m, "nokey", 5), BISE_STRMAP_NONE);
    bise_strmap_fini(&m);
}
END_TEST

static void add_index(void *ctx, size_t index, int worker)
{
    (void)worker;
    atomic_fetch_add((_Atomic size_t *)ctx, index);
}

START_TEST(pool_runs_each_index_once)
{
    bise_error err;
    for (int threads = 1; threads <= 5; threads += 2) {
        bise_pool *p = NULL;
        ck_ok(bise_pool_new(&p, threads, &err));
        for (int round = 0; round < 200; round++) {
            _Atomic size_t sum = 0;
            bise_pool_run(p, 100, add_index, &sum);
            ck_assert_uint_eq(sum, 4950);
        }
        bise_pool_free(p);
    }
}
END_TEST

START_TEST(output_appears_only_when_complete)
{
    bise_error err;
    char dir[] = "/tmp/bise-core-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    char *path = bise_path_join(dir, "out.bin");
    bise_out *o = NULL;
    ck_ok(bise_out_open(&o, path, 100, false, &err));
    ck_ok(bise_out_write(o, "abc", 3, &err));
    ck_ok(bise_out_pad(o, 32, &err));
    ck_assert(!bise_file_exists(path));
    ck_ok(bise_out_commit(o, &err));
    ck_assert_uint_eq(bise_file_size(path), 32);
    ck_fails(bise_out_open(&o, path, 0, false, &err), BISE_EIO);
    ck_ok(bise_out_open(&o, path, 0, true, &err));
    bise_out_drop(o);
    ck_assert_uint_eq(bise_file_size(path), 32);
    ck_fails(bise_out_open(&o, path, UINT64_MAX / 2, true, &err), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "disk full"));
    bise_free(path);
    bise_remove_tree(dir);
    ck_assert(!bise_file_exists(dir));
}
END_TEST

START_TEST(regex_matches_unicode_classes)
{
    bise_error err;
    bise_regex *re = NULL;
    const char *p = "\\p{Lu}+\\s";
    ck_ok(bise_regex_new(&re, p, strlen(p), &err));
    bise_matcher *m = NULL;
    ck_ok(bise_matcher_new(&m, re, &err));
    size_t from, to;
    const char *text = "ab \xc3\x89\xc3\x89 x";
    ck_assert_int_eq(bise_regex_find(re, m, text, strlen(text), 0, &from, &to),
                     1);
    ck_assert_uint_eq(from, 3);
    ck_assert_uint_eq(to, 8);
    bise_matcher_free(m);
    bise_regex_free(re);
    ck_fails(bise_regex_new(&re, "(", 1, &err), BISE_EINVAL);
}
END_TEST

START_TEST(first_error_wins)
{
    bise_error err;
    bise_error_init(&err);
    ck_assert_int_eq(bise_fail_at(&err, BISE_EFORMAT, 7, "first %d", 1),
                     BISE_EFORMAT);
    ck_assert_int_eq(bise_fail(&err, BISE_EIO, "second"), BISE_EFORMAT);
    ck_assert_int_eq(bise_error_in(&err, "a", NULL), BISE_EFORMAT);
    ck_assert_int_eq(bise_error_in(&err, "b", "t"), BISE_EFORMAT);
    ck_assert_str_eq(err.text, "first 1");
    ck_assert_str_eq(err.path, "a");
    ck_assert_str_eq(err.tensor, "t");
}
END_TEST

START_TEST(dtype_table_is_consistent)
{
    for (int i = 0; i < BISE_DTYPE_COUNT; i++) {
        const bise_dtype t = (bise_dtype)i;
        const bise_dtype_info *d = bise_dtype_get(t);
        ck_assert_int_eq(bise_dtype_by_name(d->name), t);
        if (d->gguf_id >= 0)
            ck_assert_int_eq(bise_dtype_by_gguf(d->gguf_id), t);
        ck_assert_uint_eq(bise_dtype_bytes(t, d->block_len), d->block_bytes);
    }
    ck_assert_int_eq(bise_dtype_by_gguf(4), BISE_DTYPE_NONE);
}
END_TEST

START_TEST(edit_distance_counts_transpositions)
{
    ck_assert_int_eq(bise_edit_distance("quantize", "quantise"), 1);
    ck_assert_int_eq(bise_edit_distance("mereg", "merge"), 1);
    ck_assert_int_eq(bise_edit_distance("", "abc"), 3);
}
END_TEST

START_TEST(alloc_failure_can_be_injected)
{
    bise_alloc_fail_after(2);
    void *a = bise_alloc(8), *b = bise_alloc(8), *c = bise_alloc(8);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_null(b);
    ck_assert_ptr_nonnull(c);
    bise_free(a);
    bise_free(c);
    ck_assert_ptr_null(bise_alloc_array(SIZE_MAX / 2, 4));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core");
    TCase *t = tcase_create("core");
    tcase_add_test(t, f16_round_trips_every_code);
    tcase_add_test(t, f16_rounds_to_nearest_even);
    tcase_add_test(t, bf16_rounds_to_nearest_even);
    tcase_add_test(t, json_refuses_duplicate_keys);
    tcase_add_test(t, json_dumps_like_python);
    tcase_add_test(t, sizes_parse_with_units);
    tcase_add_test(t, utf8_rejects_overlong_and_surrogates);
    tcase_add_test(t, strmap_finds_what_was_added);
    tcase_add_test(t, pool_runs_each_index_once);
    tcase_add_test(t, output_appears_only_when_complete);
    tcase_add_test(t, regex_matches_unicode_classes);
    tcase_add_test(t, first_error_wins);
    tcase_add_test(t, dtype_table_is_consistent);
    tcase_add_test(t, edit_distance_counts_transpositions);
    tcase_add_test(t, alloc_failure_can_be_injected);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
