/* check_gemm.c - the three float32 products against loops in double, over odd
 * shapes, strides wider than the rows, both values of beta, and empty sizes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>

#include "core/rng.h"
#include "kernels/gemm.h"

#define MOST 80
#define LD 83       /* stride of every matrix: wider than any row */
#define UNTOUCHED 777.0f

static float a[MOST * LD], b[MOST * LD], c[MOST * LD], before[MOST * LD];

static void fill(void)
{
    for (uint64_t i = 0; i < MOST * LD; i++) {
        a[i] = 2 * bise_rng_f32(1, 1, i) - 1;
        b[i] = 2 * bise_rng_f32(1, 2, i) - 1;
        before[i] = 2 * bise_rng_f32(1, 3, i) - 1;
    }
    bise_gemm_setup();
}

typedef enum { NT, NN, TN } kind;

static double at(kind which, int32_t i, int32_t j, int32_t l)
{
    const double x = (double)(which == TN ? a[l * LD + i] : a[i * LD + l]);
    return x * (double)(which == NT ? b[j * LD + l] : b[l * LD + j]);
}

/* One product into c, whose other places must stay as they were. */
static void run(kind which, int32_t m, int32_t n, int32_t k, float alpha,
                float beta)
{
    for (int32_t i = 0; i < MOST * LD; i++)
        c[i] = i % LD < n && i / LD < m ? before[i] : UNTOUCHED;
    if (which == NT)
        bise_gemm_nt(m, n, k, alpha, a, LD, b, LD, beta, c, LD);
    else if (which == NN)
        bise_gemm_nn(m, n, k, alpha, a, LD, b, LD, beta, c, LD);
    else
        bise_gemm_tn(m, n, k, alpha, a, LD, b, LD, beta, c, LD);
}

static void check(kind which, int32_t m, int32_t n, int32_t k, float alpha,
                  float beta)
{
    run(which, m, n, k, alpha, beta);
    for (int32_t i = 0; i < MOST; i++)
        for (int32_t j = 0; j < LD; j++) {
            const float got = c[i * LD + j];
            if (i >= m || j >= n) {
                if (got != UNTOUCHED)
                    ck_abort_msg("product %d of %dx%dx%d wrote at %d, %d",
                                 (int)which, m, n, k, i, j);
                continue;
            }
            double want = beta != 0 ? (double)before[i * LD + j] : 0;
            for (int32_t l = 0; l < k; l++)
                want += (double)alpha * at(which, i, j, l);
            if (!(fabs((double)got - want) < 1e-5))
                ck_abort_msg("product %d of %dx%dx%d at %d, %d: %g not %g",
                             (int)which, m, n, k, i, j, (double)got, want);
        }
}

static const int32_t sizes[][3] = {
    { 1, 1, 1 }, { 1, 7, 64 }, { 5, 1, 33 }, { 3, 16, 17 }, { 64, 64, 24 },
    { 16, 80, 80 }, { 80, 16, 3 }, { 63, 65, 79 }, { 80, 80, 80 },
    { 2, 31, 2 },
};

START_TEST(products_follow_the_formula)
{
    const int32_t *s = sizes[_i];
    fill();
    for (int which = NT; which <= TN; which++) {
        check((kind)which, s[0], s[1], s[2], 1, 0);
        check((kind)which, s[0], s[1], s[2], 1, 1);
        check((kind)which, s[0], s[1], s[2], -0.5f, 1);
    }
}
END_TEST

START_TEST(empty_products_touch_nothing)
{
    fill();
    for (int which = NT; which <= TN; which++) {
        check((kind)which, 0, 5, 5, 1, 0);
        check((kind)which, 5, 0, 5, 1, 0);
    }
}
END_TEST

START_TEST(beta_zero_ignores_what_was_there)
{
    fill();
    for (int32_t i = 0; i < MOST * LD; i++)
        before[i] = NAN;
    for (int which = NT; which <= TN; which++) {
        run((kind)which, 9, 9, 9, 1, 0);
        for (int32_t i = 0; i < 9 * LD; i++)
            ck_assert(!isnan(c[i]));
    }
}
END_TEST

START_TEST(the_same_call_gives_the_same_bits)
{
    static float first[MOST * LD];
    fill();
    for (int which = NT; which <= TN; which++) {
        run((kind)which, 65, 63, 77, 1, 1);
        for (int32_t i = 0; i < MOST * LD; i++)
            first[i] = c[i];
        run((kind)which, 65, 63, 77, 1, 1);
        ck_assert_mem_eq(first, c, sizeof c);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gemm");
    TCase *t = tcase_create("gemm");
    tcase_add_loop_test(t, products_follow_the_formula, 0,
                        sizeof sizes / sizeof *sizes);
    tcase_add_test(t, empty_products_touch_nothing);
    tcase_add_test(t, beta_zero_ignores_what_was_there);
    tcase_add_test(t, the_same_call_gives_the_same_bits);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
