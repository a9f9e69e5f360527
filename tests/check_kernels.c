/* check_kernels.c - the kernel table itself: every slot of every level is
 * filled, levels build on each other, the shared table is one, and operations
 * keep their algebra (identities that no tolerance hides). */

/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "kernels/kernels.h"

#define N 203

static float x[N], y[N], z[N];

static void fill(void)
{
    for (uint64_t i = 0; i < N; i++) {
        x[i] = 4 * bise_rng_f32(2, 1, i) - 2;
        y[i] = 4 * bise_rng_f32(2, 2, i) - 2;
    }
}

/* Levels of this machine, REF first. */
static int usable(int level)
{
    return level <= (int)bise_cpu_level();
}

START_TEST(every_slot_is_filled)
{
    bise_kernels k;
    memset(&k, 0, sizeof k);
    bise_kernels_init(&k, usable(_i) ? (bise_cpu)_i : BISE_CPU_REF);
    /* The slots are the pointers that follow the level. */
    void (*const none)(void) = NULL;
    const size_t first = offsetof(bise_kernels, dot);
    for (size_t at = first; at < sizeof k; at += sizeof none)
        ck_assert_msg(memcmp((const char *)&k + at, &none, sizeof none) != 0,
                      "slot %zu of %s is empty", (at - first) / sizeof none,
                      bise_cpu_name((bise_cpu)_i));
    if (usable(_i))
        ck_assert_int_eq((int)k.level, _i);
}
END_TEST

START_TEST(the_table_is_made_once)
{
    const bise_kernels *a = bise_kernels_get(), *b = bise_kernels_get();
    ck_assert_ptr_eq(a, b);
    ck_assert_int_eq((int)a->level, (int)bise_cpu_level());
}
END_TEST

START_TEST(levels_replace_the_reference)
{
    bise_kernels ref, k;
    bise_kernels_init(&ref, BISE_CPU_REF);
    if (bise_cpu_level() == BISE_CPU_REF)
        return;
    bise_kernels_init(&k, BISE_CPU_AVX2);
    ck_assert(k.dot != ref.dot && k.swiglu != ref.swiglu);
    if (bise_cpu_level() >= BISE_CPU_AVX512) {
        bise_kernels wide;
        bise_kernels_init(&wide, BISE_CPU_AVX512);
        ck_assert(wide.dot != k.dot && wide.exp_sub != k.exp_sub);
    }
}
END_TEST

START_TEST(rotations_undo_themselves)
{
    bise_kernels k;
    float c[N / 2], s[N / 2], minus[N / 2];
    const size_t n = N / 2 * 2;
    fill();
    bise_kernels_init(&k, usable(_i) ? (bise_cpu)_i : BISE_CPU_REF);
    for (size_t i = 0; i < n / 2; i++) {
        c[i] = cosf((float)i);
        s[i] = sinf((float)i);
        minus[i] = -s[i];
    }
    memcpy(z, x, sizeof z);
    k.rope(z, c, s, n);
    /* Lengths of pairs stay; the inverse brings the row back. */
    ck_assert_double_eq_tol(k.sumsq(z, n), k.sumsq(x, n), 1e-4);
    ck_assert(fabsf(z[1] - x[1]) > 1e-3f);
    k.rope(z, c, minus, n);
    for (size_t i = 0; i < n; i++)
        ck_assert_float_eq_tol(z[i], x[i], 1e-6f);
}
END_TEST

START_TEST(softmax_ignores_a_shift)
{
    bise_kernels k;
    float max, shifted;
    fill();
    bise_kernels_init(&k, usable(_i) ? (bise_cpu)_i : BISE_CPU_REF);
    memcpy(z, x, sizeof z);
    const float sum = k.softmax_exp(z, N, &max);
    for (int i = 0; i < N; i++)
        y[i] = x[i] + 64;                       /* exact in float32 steps */
    const float other = k.softmax_exp(y, N, &shifted);
    ck_assert_float_eq_tol(shifted, max + 64, 1e-5f);
    for (int i = 0; i < N; i++)
        ck_assert_float_eq_tol(y[i] / other, z[i] / sum, 1e-6f);
    /* Very large scores do not overflow, -inf counts as nothing. */
    float edge[3] = { 3e38f, 3e38f, -INFINITY };
    ck_assert_float_eq(k.softmax_exp(edge, 3, &max), 2);
    ck_assert(edge[2] == 0 && max == 3e38f);
}
END_TEST

START_TEST(norms_have_unit_mean_square)
{
    bise_kernels k;
    float ones[N];
    fill();
    bise_kernels_init(&k, usable(_i) ? (bise_cpu)_i : BISE_CPU_REF);
    for (int i = 0; i < N; i++)
        ones[i] = 1;
    const float r = k.rmsnorm(z, x, ones, N, 0);
    ck_assert_double_eq_tol(k.sumsq(z, N) / N, 1, 1e-6);
    ck_assert_float_eq_tol(z[3], x[3] * r, 1e-6f);
    /* The gradient along x itself is zero: the norm forgets the length. */
    float dx[N] = { 0 };
    k.rmsnorm_bwd(dx, NULL, x, x, ones, r, N);
    for (int i = 0; i < N; i++)
        ck_assert_float_eq_tol(dx[i], 0, 2e-6f);
    /* A row of zeros stays a row of zeros. */
    memset(z, 0, sizeof z);
    k.rmsnorm(z, z, ones, N, 1e-5f);
    ck_assert(z[0] == 0 && z[N - 1] == 0);
}
END_TEST

START_TEST(swiglu_has_its_limits)
{
    bise_kernels k;
    float g[5] = { -200, -30, 0, 30, 200 }, u[5] = { 2, 2, 2, 2, 2 }, h[5];
    float dg[5], du[5], one[5] = { 1, 1, 1, 1, 1 };
    bise_kernels_init(&k, usable(_i) ? (bise_cpu)_i : BISE_CPU_REF);
    k.swiglu(h, g, u, 5);
    ck_assert(h[0] == 0 && h[2] == 0 && fabsf(h[1]) < 1e-10f);
    ck_assert_float_eq_tol(h[3], 60, 1e-5f);
    ck_assert_float_eq_tol(h[4], 400, 1e-4f);
    k.swiglu_bwd(dg, du, one, g, u, 5);
    for (int i = 0; i < 5; i++)
        ck_assert(isfinite(dg[i]) && isfinite(du[i]));
    ck_assert_float_eq_tol(dg[2], 1, 1e-6f);    /* silu'(0) = 1/2, times u */
    ck_assert_float_eq_tol(dg[4], 2, 1e-6f);
    ck_assert_float_eq_tol(du[4], 200, 1e-4f);
}
END_TEST

START_TEST(empty_rows_are_nothing)
{
    bise_kernels k;
    uint16_t h = 7;
    float f = 7;
    bise_kernels_init(&k, usable(_i) ? (bise_cpu)_i : BISE_CPU_REF);
    ck_assert(k.dot(&f, &f, 0) == 0 && k.sumsq(&f, 0) == 0);
    ck_assert(k.dot_bf16(&h, &f, 0) == 0 && k.dot_f16(&h, &f, 0) == 0);
    k.axpy(&f, 2, &f, 0);
    k.scale(&f, 2, 0);
    k.swiglu(&f, &f, &f, 0);
    k.rope(&f, &f, &f, 0);
    k.softmax_bwd(&f, &f, &f, 1, 1, 0);
    k.f32_to_bf16(&h, &f, 0);
    k.bf16_to_f32(&f, &h, 0);
    k.f16_to_f32(&f, &h, 0);
    ck_assert(k.exp_sub(&f, 0, 0) == 0);
    ck_assert(f == 7 && h == 7);
}
END_TEST

static Suite *suite(void)
{
    const int levels = BISE_CPU_AVX512BF16 + 1;
    Suite *s = suite_create("kernels");
    TCase *t = tcase_create("kernels");
    tcase_add_loop_test(t, every_slot_is_filled, 0, levels);
    tcase_add_test(t, the_table_is_made_once);
    tcase_add_test(t, levels_replace_the_reference);
    tcase_add_loop_test(t, rotations_undo_themselves, 0, levels);
    tcase_add_loop_test(t, softmax_ignores_a_shift, 0, levels);
    tcase_add_loop_test(t, norms_have_unit_mean_square, 0, levels);
    tcase_add_loop_test(t, swiglu_has_its_limits, 0, levels);
    tcase_add_loop_test(t, empty_rows_are_nothing, 0, levels);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
