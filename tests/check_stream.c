/* check_stream.c - tests of pipeline/stream.c: every stage alone and stacked,
 * read whole and in pieces of every size, as floats and as bytes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "pipeline/check.h"
#include "pipeline/stream.h"
#include "tests/check_main.h"

#define ROWS 24
#define COLS 10

static bise_error err;
static bise_arena arena;
static bise_scratch scratch;
static float matrix[ROWS * COLS];

static void setup(void)
{
    for (uint64_t i = 0; i < ROWS * COLS; i++)
        matrix[i] = bise_rng_f32(1, 0, i) - 0.5f;
}

static void teardown(void)
{
    bise_arena_fini(&arena);
    bise_scratch_fini(&scratch);
}

static const bise_stream *source(void)
{
    return bise_stream_memory(&arena, matrix, ROWS, COLS);
}

/* Whole reads and reads in pieces of n rows give the same numbers; raw bytes,
 * where there are any, too. */
static void agrees_with(const bise_stream *s, const float *want)
{
    const uint64_t rows = bise_stream_rows(s), cols = bise_stream_cols(s);
    float out[ROWS * COLS * 2];
    ck_assert_uint_le(rows * cols, ROWS * COLS * 2);
    for (uint64_t step = 1; step <= rows; step++) {
        memset(out, 0xff, sizeof out);
        for (uint64_t r = 0; r < rows; r += step) {
            const uint64_t n = rows - r < step ? rows - r : step;
            ck_ok(bise_stream_read(s, out + r * cols, r, n, &scratch, &err));
            if (bise_stream_dtype(s) != BISE_DTYPE_F32)
                continue;
            const void *raw = NULL;
            ck_ok(bise_stream_raw(s, &raw, r, n, &scratch, &err));
            ck_assert_mem_eq(raw, want + r * cols, n * cols * sizeof *out);
        }
        ck_assert_mem_eq(out, want, rows * cols * sizeof *out);
    }
}

START_TEST(memory_gives_its_rows)
{
    agrees_with(source(), matrix);
}
END_TEST

START_TEST(permutation_follows_the_formula_and_inverts)
{
    enum { HEADS = 3, D = ROWS / HEADS };
    float half[ROWS * COLS];
    /* HF row h D + b D/2 + i = native row h D + 2 i + b */
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < D / 2; i++)
            for (int b = 0; b < 2; b++)
                memcpy(half + (h * D + b * (D / 2) + i) * COLS,
                       matrix + (h * D + 2 * i + b) * COLS,
                       COLS * sizeof *half);
    const bise_stream *s =
        bise_stream_permute(&arena, source(), HEADS, BISE_ROWS_INTERLEAVED,
                            BISE_ROWS_HALF);
    agrees_with(s, half);
    s = bise_stream_permute(&arena, s, HEADS, BISE_ROWS_HALF,
                            BISE_ROWS_INTERLEAVED);
    agrees_with(s, matrix);
    const bise_stream *back =
        bise_stream_permute(&arena, bise_stream_memory(&arena, half, ROWS,
                                                       COLS),
                            HEADS, BISE_ROWS_HALF, BISE_ROWS_INTERLEAVED);
    agrees_with(back, matrix);
}
END_TEST

START_TEST(plain_or_equal_orders_change_nothing)
{
    const bise_stream *s = source();
    ck_assert_ptr_eq(bise_stream_permute(&arena, s, 3, BISE_ROWS_PLAIN,
                                         BISE_ROWS_HALF), s);
    ck_assert_ptr_eq(bise_stream_permute(&arena, s, 3, BISE_ROWS_HALF,
                                         BISE_ROWS_HALF), s);
    /* 24 rows cannot be 5 heads */
    ck_assert_ptr_null(bise_stream_permute(&arena, s, 5, BISE_ROWS_HALF,
                                           BISE_ROWS_INTERLEAVED));
}
END_TEST

enum { R = 3 };

static void make_module(bise_lora_module *m, float *a, float *b)
{
    for (uint64_t i = 0; i < R * COLS; i++)
        a[i] = bise_rng_f32(2, 0, i) - 0.5f;
    for (uint64_t i = 0; i < ROWS * R; i++)
        b[i] = bise_rng_f32(3, 0, i) - 0.5f;
    *m = (bise_lora_module){ .r = R, .in = COLS, .out = ROWS, .scale = 0.75f,
                             .a = a, .b = b };
}

START_TEST(adapters_add_scale_b_a)
{
    float a[R * COLS], b[ROWS * R], out[ROWS * COLS];
    bise_lora_module m;
    make_module(&m, a, b);
    const bise_stream *s = bise_stream_lora(&arena, source(), &m);
    ck_assert_int_eq(bise_stream_dtype(s), BISE_DTYPE_NONE);
    ck_ok(bise_stream_read(s, out, 0, ROWS, &scratch, &err));
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++) {
            double sum = 0;
            for (int k = 0; k < R; k++)
                sum += (double)b[r * R + k] * a[k * COLS + c];
            ck_assert_float_eq_tol(out[r * COLS + c],
                                   (float)(matrix[r * COLS + c] + 0.75 * sum),
                                   1e-6);
        }
    float pieces[ROWS * COLS];
    for (int r = 0; r < ROWS; r++)
        ck_ok(bise_stream_read(s, pieces + r * COLS, (uint64_t)r, 1, &scratch,
                               &err));
    ck_assert_mem_eq(pieces, out, sizeof out);
}
END_TEST

START_TEST(dora_sets_the_length_of_each_row)
{
    float a[R * COLS], b[ROWS * R], mag[ROWS], out[ROWS * COLS];
    bise_lora_module m;
    make_module(&m, a, b);
    for (int r = 0; r < ROWS; r++)
        mag[r] = 1 + (float)r;
    m.magnitude = mag;
    const bise_stream *s = bise_stream_lora(&arena, source(), &m);
    ck_ok(bise_stream_read(s, out, 0, ROWS, &scratch, &err));
    for (int r = 0; r < ROWS; r++) {
        double sum = 0;
        for (int c = 0; c < COLS; c++)
            sum += (double)out[r * COLS + c] * out[r * COLS + c];
        ck_assert_double_eq_tol(sqrt(sum), mag[r], 1e-4);
    }
}
END_TEST

START_TEST(embedding_adapters_add_the_transpose)
{
    float a[R * ROWS], b[COLS * R], out[ROWS * COLS];
    for (uint64_t i = 0; i < R * ROWS; i++)
        a[i] = bise_rng_f32(4, 0, i);
    for (uint64_t i = 0; i < COLS * R; i++)
        b[i] = bise_rng_f32(5, 0, i);
    const bise_lora_module m = { .r = R, .in = ROWS, .out = COLS, .scale = 2,
                                 .a = a, .b = b };
    const bise_stream *s = bise_stream_lora(&arena, source(), &m);
    ck_ok(bise_stream_read(s, out, 0, ROWS, &scratch, &err));
    for (int v = 0; v < ROWS; v++)
        for (int c = 0; c < COLS; c++) {
            double sum = 0;
            for (int k = 0; k < R; k++)
                sum += (double)b[c * R + k] * a[k * ROWS + v];
            ck_assert_float_eq_tol(out[v * COLS + c],
                                   (float)(matrix[v * COLS + c] + 2 * sum),
                                   1e-5);
        }
}
END_TEST

START_TEST(the_base_of_a_stack_has_no_adapters)
{
    float a[R * COLS], b[ROWS * R];
    bise_lora_module m;
    make_module(&m, a, b);
    ck_assert_ptr_null(bise_stream_base(&arena, source()));
    const bise_stream *s =
        bise_stream_permute(&arena, source(), 3, BISE_ROWS_INTERLEAVED,
                            BISE_ROWS_HALF);
    s = bise_stream_lora(&arena, s, &m);
    s = bise_stream_permute(&arena, s, 3, BISE_ROWS_HALF,
                            BISE_ROWS_INTERLEAVED);
    agrees_with(bise_stream_base(&arena, s), matrix);
}
END_TEST

START_TEST(slices_and_stacks_rearrange_rows)
{
    const bise_stream *s = source();
    const bise_stream *parts[] = {
        bise_stream_slice(&arena, s, 20, 4), bise_stream_slice(&arena, s, 0, 1),
        bise_stream_slice(&arena, s, 5, 7),
    };
    float want[12 * COLS];
    memcpy(want, matrix + 20 * COLS, 4 * COLS * sizeof *want);
    memcpy(want + 4 * COLS, matrix, COLS * sizeof *want);
    memcpy(want + 5 * COLS, matrix + 5 * COLS, 7 * COLS * sizeof *want);
    agrees_with(bise_stream_stack(&arena, parts, 3), want);
    ck_assert_ptr_null(bise_stream_slice(&arena, s, 20, 5));
    ck_assert_ptr_null(bise_stream_slice(&arena, s, UINT64_MAX, 2));
}
END_TEST

START_TEST(transposes_each_group)
{
    float want[ROWS * COLS];
    enum { G = 2, TALL = ROWS / G };
    for (int g = 0; g < G; g++)
        for (int c = 0; c < COLS; c++)
            for (int r = 0; r < TALL; r++)
                want[(g * COLS + c) * TALL + r] =
                    matrix[(g * TALL + r) * COLS + c];
    const bise_stream *s = bise_stream_transpose(&arena, source(), G);
    ck_assert_uint_eq(bise_stream_rows(s), G * COLS);
    ck_assert_uint_eq(bise_stream_cols(s), TALL);
    agrees_with(s, want);
}
END_TEST

/* Adapters of a matrix that is held transposed: there, added to, and back. */
START_TEST(adapters_between_transposes)
{
    enum { G = 2, TALL = ROWS / G };
    float a[R * COLS], b[ROWS * R], plain[ROWS * COLS], want[ROWS * COLS];
    bise_lora_module m;
    make_module(&m, a, b);
    const bise_stream *there = bise_stream_transpose(&arena, source(), G);
    const bise_stream *back = bise_stream_transpose(&arena, there, G);
    agrees_with(back, matrix);
    const bise_stream *s = bise_stream_lora(&arena, source(), &m);
    ck_ok(bise_stream_read(s, plain, 0, ROWS, &scratch, &err));
    agrees_with(bise_stream_lora(&arena, back, &m), plain);
    for (int g = 0; g < G; g++)
        for (int c = 0; c < COLS; c++)
            for (int r = 0; r < TALL; r++)
                want[(g * COLS + c) * TALL + r] =
                    plain[(g * TALL + r) * COLS + c];
    agrees_with(bise_stream_transpose(&arena, s, G), want);
    s = bise_stream_lora(&arena, back, &m);
    agrees_with(bise_stream_transpose(&arena, s, G), want);
}
END_TEST

START_TEST(finds_the_first_bad_value)
{
    static float x[9000];
    ck_assert_uint_eq(bise_find_nonfinite(x, 9000), UINT64_MAX);
    static const size_t places[] = { 0, 1, 4095, 4096, 8999 };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        x[places[i]] = i % 2 ? NAN : -INFINITY;
        ck_assert_uint_eq(bise_find_nonfinite(x, 9000), places[i]);
        ck_assert_uint_eq(bise_find_bad_block(BISE_DTYPE_F32, x, 9000),
                          places[i]);
        x[places[i]] = 3e38f;
    }
}
END_TEST

START_TEST(finds_blocks_whose_scale_overflowed)
{
    uint8_t q8[34 * 5] = { 0 }, q4k[144 * 3] = { 0 };
    ck_assert_uint_eq(bise_find_bad_block(BISE_DTYPE_Q8_0, q8, 160),
                      UINT64_MAX);
    q8[34 * 3 + 1] = 0x7c;                      /* infinity */
    ck_assert_uint_eq(bise_find_bad_block(BISE_DTYPE_Q8_0, q8, 160), 96);
    q4k[144 + 3] = 0xfe;                        /* dmin of block 1 is NaN */
    ck_assert_uint_eq(bise_find_bad_block(BISE_DTYPE_Q4_K, q4k, 768), 256);
    uint16_t half[70] = { 0 };
    half[69] = 0xfc00;
    ck_assert_uint_eq(bise_find_bad_block(BISE_DTYPE_F16, half, 70), 69);
    half[69] = 0x7f80;                          /* a number in float16? no: */
    ck_assert_uint_eq(bise_find_bad_block(BISE_DTYPE_BF16, half, 70), 69);
    uint8_t mx[17 * 2] = { 0 };
    mx[17] = 255;
    ck_assert_uint_eq(bise_find_bad_block(BISE_DTYPE_MXFP4, mx, 64), 32);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("stream");
    TCase *t = tcase_create("stages");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, memory_gives_its_rows);
    tcase_add_test(t, permutation_follows_the_formula_and_inverts);
    tcase_add_test(t, plain_or_equal_orders_change_nothing);
    tcase_add_test(t, adapters_add_scale_b_a);
    tcase_add_test(t, dora_sets_the_length_of_each_row);
    tcase_add_test(t, embedding_adapters_add_the_transpose);
    tcase_add_test(t, the_base_of_a_stack_has_no_adapters);
    tcase_add_test(t, slices_and_stacks_rearrange_rows);
    tcase_add_test(t, transposes_each_group);
    tcase_add_test(t, adapters_between_transposes);
    tcase_add_test(t, finds_the_first_bad_value);
    tcase_add_test(t, finds_blocks_whose_scale_overflowed);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
