/* check_base.c - tests of the small parts of core/: memory and arena, maps of
 * strings, random numbers, bytes, tensors, types, pool, progress, clock, CPU,
 * regular expressions and errors.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/clock.h"
#include "core/cpu.h"
#include "core/dtype.h"
#include "core/mem.h"
#include "core/pool.h"
#include "core/progress.h"
#include "core/regex.h"
#include "core/rng.h"
#include "core/strmap.h"
#include "core/tensor.h"
#include "tests/check_main.h"

/* ---- memory ------------------------------------------------------------ */

START_TEST(allocations_are_zeroed)
{
    unsigned char *p = bise_alloc(1000);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(p[i], 0);
    bise_free(p);
    bise_free(bise_alloc(0));
    bise_free(NULL);
}
END_TEST

START_TEST(sizes_that_overflow_are_refused)
{
    ck_assert_ptr_null(bise_alloc_array(SIZE_MAX, 2));
    ck_assert_ptr_null(bise_realloc_array(NULL, SIZE_MAX / 3, 4));
    ck_assert_ptr_null(bise_alloc_aligned(SIZE_MAX - 10));
    void *p = NULL;
    size_t cap = 0;
    ck_assert_int_eq(bise_grow(&p, &cap, SIZE_MAX, 8), -1);
    ck_assert_uint_eq(cap, 0);
    ck_assert_ptr_null(p);
}
END_TEST

START_TEST(aligned_memory_is_aligned)
{
    for (size_t n = 1; n < 300; n += 37) {
        unsigned char *p = bise_alloc_aligned(n);
        ck_assert_uint_eq((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < n; i++)
            ck_assert_int_eq(p[i], 0);
        bise_free_aligned(p);
    }
}
END_TEST

START_TEST(grow_keeps_what_was_there)
{
    void *p = NULL;
    size_t cap = 0;
    for (size_t n = 1; n < 5000; n++) {
        ck_assert_int_eq(bise_grow(&p, &cap, n, sizeof(int)), 0);
        ck_assert_uint_ge(cap, n);
        ((int *)p)[n - 1] = (int)n;
    }
    for (size_t n = 1; n < 5000; n++)
        ck_assert_int_eq(((int *)p)[n - 1], (int)n);
    bise_free(p);
}
END_TEST

START_TEST(copies_of_strings)
{
    char *a = bise_strdup("text"), *b = bise_strndup("text", 2);
    ck_assert_str_eq(a, "text");
    ck_assert_str_eq(b, "te");
    bise_free(a);
    bise_free(b);
}
END_TEST

START_TEST(arena_objects_do_not_overlap)
{
    bise_arena a = { 0 };
    unsigned char *p[2000];
    size_t size[2000];
    for (size_t i = 0; i < 2000; i++) {
        size[i] = i % 97 == 0 ? 70000 : 1 + i % 50;
        p[i] = bise_arena_alloc(&a, size[i]);
        ck_assert_ptr_nonnull(p[i]);
        ck_assert_uint_eq((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)(i & 255), size[i]);
    }
    for (size_t i = 0; i < 2000; i++)
        for (size_t k = 0; k < size[i]; k += 13)
            ck_assert_int_eq(p[i][k], (int)(i & 255));
    ck_assert_str_eq(bise_arena_strdup(&a, "kept"), "kept");
    ck_assert_str_eq(bise_arena_strndup(&a, "kept", 3), "kep");
    ck_assert_ptr_null(bise_arena_alloc(&a, SIZE_MAX));
    bise_arena_fini(&a);
    bise_arena_fini(&a);
}
END_TEST

START_TEST(memory_figures_are_plausible)
{
    uint64_t anonymous = 0;
    const uint64_t rss = bise_rss_bytes(&anonymous);
    ck_assert_uint_gt(rss, 100000);
    ck_assert_uint_le(anonymous, rss);
    ck_assert_uint_ge(bise_peak_rss_bytes() + 4096, rss / 2);
    ck_assert_uint_gt(bise_memory_available(), 1000000);
}
END_TEST

/* ---- maps, numbers, bytes ---------------------------------------------- */

START_TEST(map_tells_keys_apart_by_every_byte)
{
    bise_strmap m = { 0 };
    ck_assert_uint_eq(bise_strmap_find(&m, "x", 1), BISE_STRMAP_NONE);
    static const char *const keys[] = { "", "a", "b", "aa", "ab", "a\0b",
                                        "12345678", "123456789",
                                        "12345678\0" };
    static const size_t len[] = { 0, 1, 1, 2, 2, 3, 8, 9, 9 };
    for (uint32_t i = 0; i < 9; i++)
        ck_assert_int_eq(bise_strmap_add(&m, keys[i], len[i], i), 0);
    for (uint32_t i = 0; i < 9; i++) {
        ck_assert_uint_eq(bise_strmap_find(&m, keys[i], len[i]), i);
        ck_assert_int_eq(bise_strmap_add(&m, keys[i], len[i], 99), 1);
    }
    bise_strmap_fini(&m);
    bise_strmap_fini(&m);
}
END_TEST

START_TEST(map_survives_a_failed_allocation)
{
    bise_strmap m = { 0 };
    static char keys[64][8];
    int failures = 0;
    for (uint32_t i = 0; i < 64; i++) {
        snprintf(keys[i], sizeof keys[i], "k%u", i);
        bise_alloc_fail_after(1);
        const int rc = bise_strmap_add(&m, keys[i], strlen(keys[i]), i);
        bise_alloc_fail_after(0);
        if (rc < 0) {
            failures++;
            ck_assert_int_eq(bise_strmap_add(&m, keys[i], strlen(keys[i]), i),
                             0);
        }
    }
    ck_assert_int_gt(failures, 1);
    for (uint32_t i = 0; i < 64; i++)
        ck_assert_uint_eq(bise_strmap_find(&m, keys[i], strlen(keys[i])), i);
    bise_strmap_fini(&m);
}
END_TEST

START_TEST(random_numbers_depend_on_all_three)
{
    ck_assert_uint_ne(bise_rng_u64(1, 2, 3), bise_rng_u64(2, 2, 3));
    ck_assert_uint_ne(bise_rng_u64(1, 2, 3), bise_rng_u64(1, 3, 3));
    ck_assert_uint_ne(bise_rng_u64(1, 2, 3), bise_rng_u64(1, 2, 4));
    ck_assert_uint_eq(bise_rng_u64(1, 2, 3), bise_rng_u64(1, 2, 3));
}
END_TEST

START_TEST(random_numbers_are_uniform)
{
    enum { N = 100000, BINS = 10 };
    int bins[BINS] = { 0 };
    double sum = 0, square = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double u = bise_rng_f64(7, 1, i);
        ck_assert(u >= 0 && u < 1);
        sum += u;
        square += u * u;
        bins[bise_rng_below(7, 2, i, BINS)]++;
    }
    ck_assert_double_eq_tol(sum / N, 0.5, 0.005);
    ck_assert_double_eq_tol(square / N, 1.0 / 3, 0.005);
    for (int b = 0; b < BINS; b++)
        ck_assert_int_le(abs(bins[b] - N / BINS), 500);
    for (uint64_t i = 0; i < 1000; i++) {
        ck_assert_uint_eq(bise_rng_below(1, 1, i, 1), 0);
        const float f = bise_rng_f32(3, 3, i);
        ck_assert(f >= 0 && f < 1);
    }
}
END_TEST

START_TEST(little_endian_words_round_trip)
{
    unsigned char b[16];
    for (int shift = 0; shift < 3; shift++) {
        bise_store_le64(b + shift, 0x0123456789abcdefu);
        ck_assert_int_eq(b[shift], 0xef);
        ck_assert_uint_eq(bise_load_le64(b + shift), 0x0123456789abcdefu);
        ck_assert_uint_eq(bise_load_le32(b + shift), 0x89abcdefu);
        ck_assert_uint_eq(bise_load_le16(b + shift), 0xcdefu);
        bise_store_le32(b + shift, 0xdeadbeefu);
        ck_assert_uint_eq(bise_load_le32(b + shift), 0xdeadbeefu);
        bise_store_le16(b + shift, 0x1234);
        ck_assert_uint_eq(bise_load_le16(b + shift), 0x1234);
    }
}
END_TEST

START_TEST(bf16_of_every_code_is_itself)
{
    for (unsigned h = 0; h < 0x10000; h++) {
        const float f = bise_bf16_to_f32((uint16_t)h);
        if (!isnan(f))
            ck_assert_uint_eq(bise_f32_to_bf16(f), h);
        else
            ck_assert(isnan(bise_bf16_to_f32(bise_f32_to_bf16(f))));
    }
}
END_TEST

START_TEST(f16_denormals_are_kept)
{
    ck_assert_float_eq(bise_f16_to_f32(1), 0x1p-24f);
    ck_assert_float_eq(bise_f16_to_f32(0x8001), -0x1p-24f);
    ck_assert_uint_eq(bise_f32_to_f16(0x1p-24f), 1);
    ck_assert_uint_eq(bise_f32_to_f16(0x1p-25f), 0);
    ck_assert_uint_eq(bise_f32_to_f16(nextafterf(0x1p-25f, 1)), 1);
    ck_assert_uint_eq(bise_f32_to_f16(-0.0f), 0x8000);
    ck_assert_uint_eq(bise_f32_to_f16(1e9f), 0x7c00);
    ck_assert_uint_eq(bise_f32_to_f16(-1e9f), 0xfc00);
}
END_TEST

START_TEST(tensor_counts)
{
    const bise_tensor t = { .n_dims = 3, .dims = { 2, 3, 4 } };
    ck_assert_uint_eq(bise_tensor_count(&t), 24);
    ck_assert_uint_eq(bise_tensor_rows(&t), 6);
    ck_assert_uint_eq(bise_tensor_cols(&t), 4);
    const bise_tensor scalar = { 0 };
    ck_assert_uint_eq(bise_tensor_count(&scalar), 1);
    ck_assert_uint_eq(bise_tensor_rows(&scalar), 1);
    ck_assert_uint_eq(bise_tensor_cols(&scalar), 1);
}
END_TEST

START_TEST(types_are_found_by_all_their_names)
{
    ck_assert_int_eq(bise_dtype_by_name("q4_k"), BISE_DTYPE_Q4_K);
    ck_assert_int_eq(bise_dtype_by_name("IQ4_xs"), BISE_DTYPE_IQ4_XS);
    ck_assert_int_eq(bise_dtype_by_name("q9"), BISE_DTYPE_NONE);
    ck_assert_int_eq(bise_dtype_by_safetensors("F8_E4M3"),
                     BISE_DTYPE_F8_E4M3);
    ck_assert_int_eq(bise_dtype_by_safetensors("bf16"), BISE_DTYPE_NONE);
    static const int removed[] = { 4, 5, 31, 32, 33, 36, 37, 38, -1, 99 };
    for (size_t i = 0; i < sizeof removed / sizeof *removed; i++)
        ck_assert_int_eq(bise_dtype_by_gguf(removed[i]), BISE_DTYPE_NONE);
    ck_assert(bise_dtype_is_quant(BISE_DTYPE_Q8_0));
    ck_assert(!bise_dtype_is_quant(BISE_DTYPE_F8_E4M3));
    ck_assert(bise_dtype_is_float(BISE_DTYPE_BF16));
    ck_assert(!bise_dtype_is_float(BISE_DTYPE_I32));
    ck_assert_uint_eq(bise_dtype_bytes(BISE_DTYPE_Q6_K, 512), 420);
}
END_TEST

/* ---- pool, progress, clock, cpu ---------------------------------------- */

/* Each task writes its own cell; worker numbers stay in range. */
typedef struct cells {
    int value[1000];
    int threads;
    int bad;
} cells;

static void mark(void *ctx, size_t i, int worker)
{
    cells *c = ctx;
    c->value[i]++;
    if (worker < 0 || worker >= c->threads)
        c->bad = 1;
}

START_TEST(pool_hands_out_every_index_once)
{
    bise_error err;
    bise_pool *p = NULL;
    ck_ok(bise_pool_new(&p, _i + 1, &err));
    ck_assert_int_eq(bise_pool_threads(p), _i + 1);
    static const size_t counts[] = { 0, 1, 2, 3, 999, 1000 };
    for (size_t k = 0; k < 6; k++) {
        cells c = { .threads = _i + 1 };
        bise_pool_run(p, counts[k], mark, &c);
        for (size_t i = 0; i < 1000; i++)
            ck_assert_int_eq(c.value[i], i < counts[k]);
        ck_assert(!c.bad);
    }
    bise_pool_free(p);
}
END_TEST

START_TEST(a_null_pool_works_here)
{
    cells c = { .threads = 1 };
    bise_pool_run(NULL, 10, mark, &c);
    ck_assert_int_eq(c.value[9], 1);
    ck_assert_int_eq(bise_pool_threads(NULL), 1);
    bise_pool_free(NULL);
}
END_TEST

START_TEST(pool_refuses_no_threads)
{
    bise_error err;
    bise_pool *p = NULL;
    ck_fails(bise_pool_new(&p, 0, &err), BISE_EINVAL);
    ck_fails(bise_pool_new(&p, 100000, &err), BISE_EINVAL);
    ck_assert_ptr_null(p);
}
END_TEST

/* What a progress callback saw. */
typedef struct seen {
    int reports, messages;
    uint64_t done, total;
    char text[64];
} seen;

static void on_report(void *ctx, const char *stage, uint64_t done,
                      uint64_t total, const char *unit, const char *remark)
{
    seen *s = ctx;
    (void)unit;
    (void)remark;
    s->reports++;
    s->done = done;
    s->total = total;
    snprintf(s->text, sizeof s->text, "%s", stage);
}

static void on_message(void *ctx, const char *text)
{
    seen *s = ctx;
    s->messages++;
    snprintf(s->text, sizeof s->text, "%s", text);
}

START_TEST(progress_reports_and_cancels)
{
    bise_error err;
    seen s = { 0 };
    volatile sig_atomic_t stop = 0;
    const bise_progress p = { on_report, on_message, &s, &stop };
    ck_ok(bise_progress_step(&p, "pack", 3, 10, "bytes", NULL, &err));
    ck_assert_int_eq(s.reports, 1);
    ck_assert_uint_eq(s.done, 3);
    ck_assert_uint_eq(s.total, 10);
    bise_progress_say(&p, "%d rows", 5);
    ck_assert_str_eq(s.text, "5 rows");
    stop = 1;
    ck_fails(bise_progress_step(&p, "pack", 4, 10, "bytes", NULL, &err),
             BISE_ECANCEL);
    ck_assert_int_eq(s.reports, 1);
}
END_TEST

START_TEST(no_progress_is_silent)
{
    bise_error err;
    ck_ok(bise_progress_step(NULL, "x", 0, 0, "bytes", NULL, &err));
    bise_progress_say(NULL, "nobody hears %d", 1);
    const bise_progress empty = { 0 };
    ck_ok(bise_progress_step(&empty, "x", 0, 0, "bytes", NULL, &err));
    bise_progress_say(&empty, "nobody");
}
END_TEST

START_TEST(dates_follow_the_environment)
{
    char buf[32];
    setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
    ck_assert_int_eq((int)bise_clock_epoch(), 1700000000);
    ck_assert_str_eq(bise_clock_iso(buf), "2023-11-14T22:13:20Z");
    unsetenv("SOURCE_DATE_EPOCH");
    ck_assert_int_gt((int)bise_clock_epoch(), 1700000000);
    const uint64_t a = bise_clock_ns(), b = bise_clock_ns();
    ck_assert_uint_ge(b, a);
}
END_TEST

START_TEST(cpu_level_can_be_capped)
{
    unsetenv("BISE_CPU");           /* the whole run may be capped */
    const bise_cpu best = bise_cpu_level();
    setenv("BISE_CPU", "ref", 1);
    ck_assert_int_eq(bise_cpu_level(), BISE_CPU_REF);
    setenv("BISE_CPU", "avx512bf16", 1);
    ck_assert_int_eq(bise_cpu_level(), best);
    setenv("BISE_CPU", "nonsense", 1);
    ck_assert_int_eq(bise_cpu_level(), best);
    unsetenv("BISE_CPU");
    for (int i = 0; i <= BISE_CPU_AVX512BF16; i++)
        ck_assert_int_eq(bise_cpu_by_name(bise_cpu_name((bise_cpu)i)), i);
    ck_assert_int_eq(bise_cpu_by_name("sse"), -1);
    ck_assert_int_ge(bise_cpu_cores(), 1);
    ck_assert_int_gt((int)strlen(bise_cpu_model()), 0);
}
END_TEST

/* ---- regular expressions, errors ---------------------------------------- */

/* Pattern, name, found somewhere, matches as a whole. */
static const struct {
    const char *pattern, *name;
    bool search, full;
} patterns[] = {
    { "attn_v", "blk.0.attn_v.weight", true, false },
    { "blk\\.\\d+\\.attn_v\\.weight", "blk.12.attn_v.weight", true, true },
    { "^blk", "blk.0", true, false },
    { "(.*\\.)?(v_proj)$", "model.layers.0.self_attn.v_proj", true, true },
    { "(.*\\.)?(v_proj)$", "model.layers.0.self_attn.v_proj2", false, false },
    { "ffn_(gate|up)", "blk.3.ffn_up.weight", true, false },
    { "", "anything", true, false },
};

START_TEST(patterns_search_and_match)
{
    bise_error err;
    bise_regex *re = NULL;
    const char *p = patterns[_i].pattern;
    ck_ok(bise_regex_new(&re, p, strlen(p), &err));
    ck_assert_int_eq(bise_regex_search(re, patterns[_i].name),
                     patterns[_i].search);
    ck_assert_int_eq(bise_regex_full(re, patterns[_i].name),
                     patterns[_i].full);
    bise_regex_free(re);
}
END_TEST

START_TEST(bad_patterns_say_where)
{
    bise_error err;
    bise_regex *re = NULL;
    ck_fails(bise_regex_new(&re, "ab[", 3, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "at character 3"));
    ck_assert_ptr_null(re);
    bise_regex_free(NULL);
    bise_matcher_free(NULL);
}
END_TEST

START_TEST(matches_follow_each_other)
{
    bise_error err;
    bise_regex *re = NULL;
    bise_matcher *m = NULL;
    ck_ok(bise_regex_new(&re, "\\p{L}+|\\p{N}", 12, &err));
    ck_ok(bise_matcher_new(&m, re, &err));
    const char *text = "ab 12 \xce\xb1\xce\xb2";
    static const size_t want[][2] = { { 0, 2 }, { 3, 4 }, { 4, 5 },
                                      { 6, 10 } };
    size_t at = 0, from, to;
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(bise_regex_find(re, m, text, strlen(text), at, &from,
                                         &to), 1);
        ck_assert_uint_eq(from, want[i][0]);
        ck_assert_uint_eq(to, want[i][1]);
        at = to;
    }
    ck_assert_int_eq(bise_regex_find(re, m, text, strlen(text), at, &from,
                                     &to), 0);
    bise_matcher_free(m);
    bise_regex_free(re);
}
END_TEST

START_TEST(errors_keep_their_place)
{
    bise_error err;
    bise_error_init(&err);
    ck_assert_int_eq(err.status, BISE_OK);
    ck_assert_int_eq((int)err.offset, -1);
    ck_assert_int_eq(bise_fail_at(&err, BISE_EFORMAT, 123, "found %d", 5),
                     BISE_EFORMAT);
    ck_assert_int_eq(bise_error_hint(&err, "try %s", "this"), BISE_EFORMAT);
    ck_assert_int_eq(bise_error_hint(&err, "or that"), BISE_EFORMAT);
    ck_assert_int_eq(bise_error_in(&err, "file", "tensor"), BISE_EFORMAT);
    ck_assert_str_eq(err.hint, "try this");
    ck_assert_int_eq((int)err.offset, 123);
    ck_assert_str_eq(err.path, "file");
    ck_assert_str_eq(err.tensor, "tensor");
}
END_TEST

START_TEST(long_texts_are_cut_not_overrun)
{
    bise_error err;
    bise_error_init(&err);
    char big[3000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    ck_assert_int_eq(bise_fail(&err, BISE_EINVAL, "%s", big), BISE_EINVAL);
    ck_assert_int_eq(bise_error_in(&err, big, big), BISE_EINVAL);
    ck_assert_uint_eq(strlen(err.text), sizeof err.text - 1);
    ck_assert_uint_eq(strlen(err.path), sizeof err.path - 1);
    ck_assert_uint_eq(strlen(err.tensor), sizeof err.tensor - 1);
}
END_TEST

START_TEST(every_status_has_a_name)
{
    static const char *const names[] = { "ok", "io", "format", "unsupported",
                                         "memory", "usage", "cancelled" };
    for (int i = BISE_OK; i <= BISE_ECANCEL; i++)
        ck_assert_str_eq(bise_status_name((bise_status)i), names[i]);
    bise_error err;
    bise_error_init(&err);
    ck_assert_int_eq(bise_fail_nomem(&err), BISE_ENOMEM);
    ck_assert_str_eq(err.text, "out of memory");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("base");
    TCase *t = tcase_create("base");
    tcase_add_test(t, allocations_are_zeroed);
    tcase_add_test(t, sizes_that_overflow_are_refused);
    tcase_add_test(t, aligned_memory_is_aligned);
    tcase_add_test(t, grow_keeps_what_was_there);
    tcase_add_test(t, copies_of_strings);
    tcase_add_test(t, arena_objects_do_not_overlap);
    tcase_add_test(t, memory_figures_are_plausible);
    tcase_add_test(t, map_tells_keys_apart_by_every_byte);
    tcase_add_test(t, map_survives_a_failed_allocation);
    tcase_add_test(t, random_numbers_depend_on_all_three);
    tcase_add_test(t, random_numbers_are_uniform);
    tcase_add_test(t, little_endian_words_round_trip);
    tcase_add_test(t, bf16_of_every_code_is_itself);
    tcase_add_test(t, f16_denormals_are_kept);
    tcase_add_test(t, tensor_counts);
    tcase_add_test(t, types_are_found_by_all_their_names);
    tcase_add_loop_test(t, pool_hands_out_every_index_once, 0, 5);
    tcase_add_test(t, a_null_pool_works_here);
    tcase_add_test(t, pool_refuses_no_threads);
    tcase_add_test(t, progress_reports_and_cancels);
    tcase_add_test(t, no_progress_is_silent);
    tcase_add_test(t, dates_follow_the_environment);
    tcase_add_test(t, cpu_level_can_be_capped);
    tcase_add_loop_test(t, patterns_search_and_match, 0,
                        (int)(sizeof patterns / sizeof *patterns));
    tcase_add_test(t, bad_patterns_say_where);
    tcase_add_test(t, matches_follow_each_other);
    tcase_add_test(t, errors_keep_their_place);
    tcase_add_test(t, long_texts_are_cut_not_overrun);
    tcase_add_test(t, every_status_has_a_name);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
