/* check_gptq.c - tests of quantize/hessian.c and quantize/gptq.c: sums and
 * factor against sums in double, singular and empty statistics; error feedback
 * against the textbook's procedure in double (inverse, Cholesky factor of the
 * inverse, one column after another), a loss below that of plain rounding for
 * every type, no dependence on threads, and refused weights.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "kernels/codec.h"
#include "quantize/gptq.h"
#include "tests/check_main.h"

#define N 544        /* two panels and a part, whole blocks of 32 */
#define NK 512       /* whole superblocks */
#define T 700        /* inputs */
#define OUT 150      /* rows: two tasks and a part */

static bise_error err;
static bise_arena arena;
static float *x, *w;

/* Inputs with columns that go together, and a few that are large, as those of
 * language models are; weights like normal ones. */
static void setup(void)
{
    x = bise_alloc_array((size_t)T * N, sizeof *x);
    w = bise_alloc_array((size_t)OUT * N, sizeof *w);
    for (size_t t = 0; t < T; t++) {
        float common[8];
        for (size_t k = 0; k < 8; k++)
            common[k] = bise_rng_f32(1, t, k) - 0.5f;
        for (size_t i = 0; i < N; i++)
            x[t * N + i] = (common[i % 8] + common[i / 64 % 8] +
                            bise_rng_f32(2, t, i) - 0.5f) *
                           (i % 61 == 7 ? 6 : 1);
    }
    for (size_t i = 0; i < (size_t)OUT * N; i++)
        w[i] = bise_rng_f32(4, 0, 3 * i) + bise_rng_f32(4, 0, 3 * i + 1) +
               bise_rng_f32(4, 0, 3 * i + 2) - 1.5f;
}

static void teardown(void)
{
    bise_free(x);
    bise_free(w);
    bise_arena_fini(&arena);
}

/* The first n columns of the inputs, and of the weights, without gaps. */
static float *narrow(const float *from, size_t rows, size_t n)
{
    float *to = bise_alloc_array(rows * n, sizeof *to);
    for (size_t r = 0; r < rows; r++)
        memcpy(to + r * n, from + r * N, n * sizeof *to);
    return to;
}

/* sum x x^T in double, [n, n]. */
static double *moments(const float *rows, size_t count, size_t n)
{
    double *h = bise_alloc_array(n * n, sizeof *h);
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                h[i * n + j] += (double)rows[t * n + i] * rows[t * n + j];
    return h;
}

static double mean_diag(const double *h, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += h[i * n + i];
    return sum / (double)n;
}

/* Summed in parts of different length, factored. */
static bise_hessian factored(const float *rows, int32_t n, bise_pool *pool)
{
    bise_hessian h;
    ck_ok(bise_hessian_init(&h, n, &err));
    bise_hessian_add(&h, rows, 300, pool);
    bise_hessian_add(&h, rows + (size_t)300 * (size_t)n, T - 300, pool);
    ck_assert_uint_eq(h.rows, T);
    ck_ok(bise_hessian_factor(&h, &err));
    return h;
}

/* Entry of U from what the factor stores. */
static double entry(const bise_hessian *h, size_t i, size_t j)
{
    const size_t n = (size_t)h->n;
    return i > j ? 0 : i == j ? h->pivot[j] :
           (double)h->h[i * n + j] * h->pivot[j];
}

/* ---- statistics ---- */

START_TEST(sums_are_those_of_the_inputs)
{
    bise_hessian h;
    double *want = moments(x, T, N);
    ck_ok(bise_hessian_init(&h, N, &err));
    bise_hessian_add(&h, x, T, NULL);
    for (size_t i = 0; i < N; i++)
        for (size_t j = i; j < N; j++)
            ck_assert_double_eq_tol((double)h.h[i * N + j], want[i * N + j],
                                    1e-6 * sqrt(want[i * N + i] *
                                                want[j * N + j]));
    bise_hessian_fini(&h);
    bise_free(want);
}
END_TEST

START_TEST(factor_gives_the_damped_sums)
{
    bise_hessian h = factored(x, N, NULL);
    double *want = moments(x, T, N);
    const double add = 0.01 * mean_diag(want, N);
    ck_assert_double_eq_tol(h.damping, 0.01, 1e-12);
    for (size_t i = 0; i < N; i++)
        for (size_t j = i; j < N; j += 3) {
            double sum = 0;
            for (size_t k = j; k < N; k++)
                sum += entry(&h, i, k) * entry(&h, j, k);
            ck_assert_double_eq_tol(sum, want[i * N + j] + (i == j) * add,
                                    5e-3);
        }
    for (size_t i = 0; i < N; i++)
        ck_assert_double_eq_tol((double)h.diag[i], want[i * N + i] + add,
                                1e-2);
    bise_hessian_fini(&h);
    bise_free(want);
}
END_TEST

/* Tiles are cut by the shape: the same bits from any number of threads. */
START_TEST(factor_does_not_depend_on_threads)
{
    bise_pool *pool = NULL;
    bise_hessian one = factored(x, N, NULL);
    ck_ok(bise_pool_new(&pool, 3, &err));
    bise_hessian three = factored(x, N, pool);
    for (size_t i = 0; i < N; i++)
        ck_assert_mem_eq(one.h + i * N + i, three.h + i * N + i,
                         (N - i) * sizeof(float));
    ck_assert_mem_eq(one.pivot, three.pivot, N * sizeof(float));
    bise_hessian_fini(&one);
    bise_hessian_fini(&three);
    bise_pool_free(pool);
}
END_TEST

/* A column that is never used, two that are always equal, and one that is the
 * sum of others: still a factor, and no feedback for the dead one. */
START_TEST(singular_sums_are_factored)
{
    for (size_t t = 0; t < T; t++) {
        x[t * N + 5] = 0;
        x[t * N + 300] = 0;
        x[t * N + 10] = x[t * N + 20];
        x[t * N + 30] = 100 * x[t * N + 31];
    }
    bise_hessian h = factored(x, N, NULL);
    for (size_t j = 0; j < N; j++) {
        ck_assert(isfinite(h.pivot[j]) && h.pivot[j] > 0);
        ck_assert(h.diag[j] > 0);
        if (j > 5)
            ck_assert(h.h[5 * N + j] == 0);
        if (j < 300)
            ck_assert(h.h[j * N + 300] == 0);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t j = i + 1; j < N; j++)
            ck_assert(isfinite(h.h[i * N + j]));
    bise_hessian_fini(&h);
}
END_TEST

/* An input of huge columns beside tiny ones rounds to an indefinite matrix:
 * more damping, not failure. */
START_TEST(damping_is_raised_when_needed)
{
    bise_hessian h;
    ck_ok(bise_hessian_init(&h, 64, &err));
    h.rows = 1;
    for (size_t i = 0; i < 64; i++)
        for (size_t j = i; j < 64; j++)
            h.h[i * 64 + j] = i == j ? 1 : 1.2f; /* eigenvalue -0.2 */
    ck_ok(bise_hessian_factor(&h, &err));
    ck_assert_double_ge(h.damping, 0.2);
    ck_assert_double_le(h.damping, 0.7);
    for (size_t i = 0; i < 64; i++) /* of H as it was, not of the first try */
        ck_assert_float_eq_tol(h.diag[i], (float)(1 + h.damping), 1e-5f);
    bise_hessian_fini(&h);
}
END_TEST

START_TEST(no_inputs_weigh_all_columns_alike)
{
    bise_hessian h;
    ck_ok(bise_hessian_init(&h, 96, &err));
    ck_ok(bise_hessian_factor(&h, &err));
    for (size_t i = 0; i < 96; i++) {
        ck_assert(h.diag[i] == h.diag[0] && h.diag[i] > 0);
        for (size_t j = i + 1; j < 96; j++)
            ck_assert(h.h[i * 96 + j] == 0);
    }
    bise_hessian_fini(&h);
}
END_TEST

START_TEST(sums_that_overflow_are_told)
{
    bise_hessian h;
    ck_ok(bise_hessian_init(&h, 32, &err));
    for (size_t i = 0; i < 32; i++)
        x[i] = 1e25f;
    bise_hessian_add(&h, x, 1, NULL);
    ck_fails(bise_hessian_factor(&h, &err), BISE_EFORMAT);
    bise_hessian_fini(&h);
}
END_TEST

/* ---- feedback ---- */

/* tr (W - Q) H (W - Q)^T with H of the inputs, undamped. */
static double loss(const float *a, const float *q, const double *h, size_t n)
{
    double sum = 0;
    double *d = bise_alloc_array(n, sizeof *d);
    for (size_t r = 0; r < OUT; r++) {
        for (size_t i = 0; i < n; i++)
            d[i] = (double)a[r * n + i] - q[r * n + i];
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                sum += d[i] * h[i * n + j] * d[j];
    }
    bise_free(d);
    return sum;
}

/* Upper triangular V with H^-1 = V^T V, the factor of GPTQ's paper, by Gauss
 * and Cholesky in double. */
static double *inverse_factor(const double *sums, size_t n)
{
    double *a = bise_alloc_array(n * n, sizeof *a);
    double *inv = bise_alloc_array(n * n, sizeof *inv);
    memcpy(a, sums, n * n * sizeof *a);
    const double add = 0.01 * mean_diag(sums, n);
    for (size_t i = 0; i < n; i++) {
        a[i * n + i] += add;
        inv[i * n + i] = 1;
    }
    for (size_t p = 0; p < n; p++) {
        const double by = 1 / a[p * n + p];
        for (size_t j = 0; j < n; j++) {
            a[p * n + j] *= by;
            inv[p * n + j] *= by;
        }
        for (size_t i = 0; i < n; i++) {
            const double f = a[i * n + p];
            if (i == p || f == 0)
                continue;
            for (size_t j = 0; j < n; j++) {
                a[i * n + j] -= f * a[p * n + j];
                inv[i * n + j] -= f * inv[p * n + j];
            }
        }
    }
    /* rows of V one after another */
    for (size_t i = 0; i < n; i++) {
        const double d = sqrt(inv[i * n + i]);
        for (size_t j = i; j < n; j++)
            inv[i * n + j] /= d;
        for (size_t r = i + 1; r < n; r++)
            for (size_t j = r; j < n; j++)
                inv[r * n + j] -= inv[i * n + r] * inv[i * n + j];
    }
    bise_free(a);
    return inv;
}

/* The procedure of the paper: q = grid(w), e = (w - q) / V_jj, the columns
 * after j lose e V_jk; scales are searched on entering a block. */
static void textbook(float *out, const float *a, size_t n, const bise_grid *g,
                     const double *v, const float *importance)
{
    const bise_dtype_info *info = bise_dtype_get(g->dtype);
    const size_t len = info->block_len;
    float d[BISE_GRID_RUNS], m[BISE_GRID_RUNS], now[BISE_GRID_BLOCK];
    uint8_t block[512];
    double *row = bise_alloc_array(n, sizeof *row);
    for (size_t r = 0; r < OUT; r++) {
        for (size_t i = 0; i < n; i++)
            row[i] = a[r * n + i];
        for (size_t j = 0; j < n; j++) {
            if (j % len == 0) {
                for (size_t i = 0; i < len; i++)
                    now[i] = (float)row[j + i];
                bise_codec_get(g->dtype)->encode(block, now, 1, len,
                                                 importance + j);
                g->scales(d, m, block);
            }
            const size_t run = j % len / (size_t)g->run;
            const uint8_t code = bise_grid_code(g, (float)row[j], d[run],
                                                m[run]);
            const float q = bise_grid_value(g, code, d[run], m[run]);
            const double e = (row[j] - q) / v[j * n + j];
            out[r * n + j] = q;
            for (size_t k = j + 1; k < n; k++)
                row[k] -= e * v[j * n + k];
        }
    }
    bise_free(row);
}

/* The decoded result of bise_gptq_encode over weights a. */
static void feedback(float *out, const float *a, const bise_grid *g,
                     const bise_hessian *h, bise_pool *pool)
{
    const size_t n = (size_t)h->n;
    const size_t bytes = OUT * (size_t)bise_dtype_bytes(g->dtype, n);
    uint8_t *y = bise_alloc(bytes);
    const bise_stream *stream = bise_stream_memory(&arena, a, OUT, n);
    ck_ok(bise_gptq_encode(y, stream, 0, OUT, g, h, "blk.0.w", pool, &err));
    bise_codec_get(g->dtype)->decode(out, y, OUT * n);
    bise_free(y);
}

/* Rows on which two results agree everywhere. */
static int equal_rows(const float *a, const float *b, size_t n)
{
    int same = 0;
    for (size_t r = 0; r < OUT; r++)
        same += memcmp(a + r * n, b + r * n, n * sizeof *a) == 0;
    return same;
}

/* A weight between two codes may fall to either side in float32, and all after
 * it in its row moves: so four rows of five are equal, and the losses close. */
START_TEST(feedback_is_that_of_the_textbook)
{
    const bise_grid *g = bise_grid_at(_i);
    const size_t n = bise_dtype_get(g->dtype)->block_len == 32 ? N : NK;
    float *in = narrow(x, T, n), *a = narrow(w, OUT, n);
    float *want = bise_alloc_array(OUT * n, sizeof *want);
    float *got = bise_alloc_array(OUT * n, sizeof *got);
    double *sums = moments(in, T, n), *v = inverse_factor(sums, n);
    bise_hessian h = factored(in, (int32_t)n, NULL);
    textbook(want, a, n, g, v, h.diag);
    feedback(got, a, g, &h, NULL);
    const char *name = bise_dtype_get(g->dtype)->name;
    const int same = equal_rows(got, want, n);
    const double l1 = loss(a, got, sums, n), l2 = loss(a, want, sums, n);
    ck_assert_msg(same >= OUT * 8 / 10, "%s: %d of %d rows", name, same, OUT);
    ck_assert_msg(fabs(l1 / l2 - 1) < 0.01, "%s: loss %g, not %g", name, l1,
                  l2);
    bise_hessian_fini(&h);
    bise_free(in);
    bise_free(a);
    bise_free(want);
    bise_free(got);
    bise_free(sums);
    bise_free(v);
}
END_TEST

/* Below that of the plain encoder with the same importance. */
START_TEST(loss_is_below_that_of_plain_rounding)
{
    const bise_grid *g = bise_grid_at(_i);
    const size_t n = NK;
    float *in = narrow(x, T, n), *a = narrow(w, OUT, n);
    float *got = bise_alloc_array(OUT * n, sizeof *got);
    float *plain = bise_alloc_array(OUT * n, sizeof *plain);
    uint8_t *y = bise_alloc(OUT * (size_t)bise_dtype_bytes(g->dtype, n));
    double *sums = moments(in, T, n);
    bise_hessian h = factored(in, (int32_t)n, NULL);
    feedback(got, a, g, &h, NULL);
    bise_codec_get(g->dtype)->encode(y, a, OUT, n, h.diag);
    bise_codec_get(g->dtype)->decode(plain, y, OUT * n);
    const double with = loss(a, got, sums, n);
    const double without = loss(a, plain, sums, n);
    ck_assert_msg(with < 0.9 * without, "%s: %g with feedback, %g without",
                  bise_dtype_get(g->dtype)->name, with, without);
    bise_hessian_fini(&h);
    bise_free(in);
    bise_free(a);
    bise_free(got);
    bise_free(plain);
    bise_free(y);
    bise_free(sums);
}
END_TEST

/* Without correlations there is no feedback: the plain encoder's scales, and
 * codes nearest under them. */
START_TEST(without_inputs_it_is_plain_rounding)
{
    const bise_grid *g = bise_grid_get(BISE_DTYPE_Q4_K);
    float *a = narrow(w, OUT, NK);
    float *got = bise_alloc_array(OUT * NK, sizeof *got);
    float *plain = bise_alloc_array(OUT * NK, sizeof *plain);
    uint8_t *y = bise_alloc(OUT * (size_t)bise_dtype_bytes(g->dtype, NK));
    bise_hessian h;
    ck_ok(bise_hessian_init(&h, NK, &err));
    ck_ok(bise_hessian_factor(&h, &err));
    feedback(got, a, g, &h, NULL);
    bise_codec_get(g->dtype)->encode(y, a, OUT, NK, h.diag);
    bise_codec_get(g->dtype)->decode(plain, y, OUT * NK);
    ck_assert_int_eq(equal_rows(got, plain, NK), OUT);
    bise_hessian_fini(&h);
    bise_free(a);
    bise_free(got);
    bise_free(plain);
    bise_free(y);
}
END_TEST

START_TEST(feedback_does_not_depend_on_threads)
{
    const bise_grid *g = bise_grid_at(_i);
    bise_pool *pool = NULL;
    float *in = narrow(x, T, NK), *a = narrow(w, OUT, NK);
    float *one = bise_alloc_array(OUT * NK, sizeof *one);
    float *three = bise_alloc_array(OUT * NK, sizeof *three);
    bise_hessian h = factored(in, NK, NULL);
    ck_ok(bise_pool_new(&pool, 3, &err));
    feedback(one, a, g, &h, NULL);
    feedback(three, a, g, &h, pool);
    ck_assert_int_eq(equal_rows(one, three, NK), OUT);
    bise_pool_free(pool);
    bise_hessian_fini(&h);
    bise_free(in);
    bise_free(a);
    bise_free(one);
    bise_free(three);
}
END_TEST

/* ---- refusals ---- */

START_TEST(bad_weights_are_named)
{
    const bise_grid *g = bise_grid_get(BISE_DTYPE_Q8_0);
    uint8_t *y = bise_alloc(OUT * (size_t)bise_dtype_bytes(g->dtype, N));
    bise_hessian h = factored(x, N, NULL);
    bise_pool *pool = NULL;
    ck_ok(bise_pool_new(&pool, 2, &err));
    w[(size_t)140 * N + 9] = INFINITY;
    w[(size_t)70 * N + 33] = NAN;
    const bise_stream *stream = bise_stream_memory(&arena, w, OUT, N);
    ck_fails(bise_gptq_encode(y, stream, 0, OUT, g, &h, "blk.7.w", pool,
                              &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "row 70, column 33) is NaN"));
    ck_assert_str_eq(err.tensor, "blk.7.w");
    bise_pool_free(pool);
    bise_hessian_fini(&h);
    bise_free(y);
}
END_TEST

/* Weights beyond float16 make infinite scales; the block says so itself, and
 * nothing else becomes NaN on the way. */
START_TEST(scales_that_overflow_stay_in_their_block)
{
    const bise_grid *g = bise_grid_get(BISE_DTYPE_Q8_0);
    float *got = bise_alloc_array((size_t)OUT * N, sizeof *got);
    bise_hessian h = factored(x, N, NULL);
    w[40] = 3e8f;
    feedback(got, w, g, &h, NULL);
    for (size_t i = 0; i < (size_t)OUT * N; i++)
        ck_assert(i / 32 == 1 || isfinite(got[i]));
    bise_hessian_fini(&h);
    bise_free(got);
}
END_TEST

START_TEST(another_shape_is_refused)
{
    uint8_t y[64];
    bise_hessian h;
    ck_ok(bise_hessian_init(&h, 64, &err));
    ck_ok(bise_hessian_factor(&h, &err));
    const bise_stream *stream = bise_stream_memory(&arena, w, 1, 96);
    ck_fails(bise_gptq_encode(y, stream, 0, 1,
                              bise_grid_get(BISE_DTYPE_Q4_0), &h, "w", NULL,
                              &err), BISE_EINVAL);
    stream = bise_stream_memory(&arena, w, 1, 64);
    ck_fails(bise_gptq_encode(y, stream, 0, 1,
                              bise_grid_get(BISE_DTYPE_Q4_K), &h, "w", NULL,
                              &err), BISE_EINVAL);
    bise_hessian_fini(&h);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("gptq");
    TCase *t = tcase_create("gptq");
    int n = 0;
    while (bise_grid_at(n))
        n++;
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 300);
    tcase_add_test(t, sums_are_those_of_the_inputs);
    tcase_add_test(t, factor_gives_the_damped_sums);
    tcase_add_test(t, factor_does_not_depend_on_threads);
    tcase_add_test(t, singular_sums_are_factored);
    tcase_add_test(t, damping_is_raised_when_needed);
    tcase_add_test(t, no_inputs_weigh_all_columns_alike);
    tcase_add_test(t, sums_that_overflow_are_told);
    tcase_add_loop_test(t, feedback_is_that_of_the_textbook, 0, n);
    tcase_add_loop_test(t, loss_is_below_that_of_plain_rounding, 0, n);
    tcase_add_test(t, without_inputs_it_is_plain_rounding);
    tcase_add_loop_test(t, feedback_does_not_depend_on_threads, 0, n);
    tcase_add_test(t, bad_weights_are_named);
    tcase_add_test(t, scales_that_overflow_stay_in_their_block);
    tcase_add_test(t, another_shape_is_refused);
    suite_add_tcase(all, t);
    return all;
}

BISE_CHECK_MAIN
