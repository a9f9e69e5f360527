/* check_ops.c - the row operations of the graph: backward kernels against
 * central differences of the formulas in double, and every CPU level of this
 * machine against the scalar reference for all tail lengths, at unaligned
 * addresses, with guard values around the outputs.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/rng.h"
#include "kernels/kernels.h"

#define MOST 1100           /* longest row tried */
#define GUARD 12345.678f

/* Uniform in [-a, a). */
static float noise(uint64_t stream, uint64_t i, float a)
{
    return (2 * bise_rng_f32(11, stream, i) - 1) * a;
}

static void fill(float *x, size_t n, uint64_t stream, float a)
{
    for (size_t i = 0; i < n; i++)
        x[i] = noise(stream, i, a);
}

/* ---- formulas in double, and their derivatives by central differences ---- */

static double silu(double g)
{
    return g / (1 + exp(-g));
}

/* sum_j dy_j rmsnorm(x)_j with x[i] moved by d. */
static double rmsnorm_dot(const float *x, const float *w, const float *dy,
                          size_t n, size_t i, double d, double eps)
{
    double ss = 0, sum = 0;
    for (size_t j = 0; j < n; j++) {
        const double v = (double)x[j] + (j == i ? d : 0);
        ss += v * v;
    }
    const double r = 1 / sqrt(ss / (double)n + eps);
    for (size_t j = 0; j < n; j++) {
        const double v = (double)x[j] + (j == i ? d : 0);
        sum += (double)dy[j] * v * r * (double)w[j];
    }
    return sum;
}

static const size_t odd[] = { 1, 2, 3, 7, 17, 33, 65 };
#define N_ODD ((int)(sizeof odd / sizeof *odd))

START_TEST(rmsnorm_backward_is_the_derivative)
{
    const size_t n = odd[_i];
    const double h = 1e-5, eps = 1e-5;
    float x[65], w[65], dy[65], y[65], dx[65], dw[65];
    bise_kernels k;
    bise_kernels_init_ref(&k);
    fill(x, n, 1, 2);
    fill(w, n, 2, 1.5f);
    fill(dy, n, 3, 1);
    const float r = k.rmsnorm(y, x, w, n, (float)eps);
    for (size_t i = 0; i < n; i++)
        dx[i] = dw[i] = 0.5f;                   /* gradients add up */
    k.rmsnorm_bwd(dx, dw, dy, x, w, r, n);
    for (size_t i = 0; i < n; i++) {
        const double want = (rmsnorm_dot(x, w, dy, n, i, h, eps) -
                             rmsnorm_dot(x, w, dy, n, i, -h, eps)) / (2 * h);
        ck_assert_double_eq_tol((double)dx[i] - 0.5, want, 2e-6);
        ck_assert_double_eq_tol((double)dw[i] - 0.5,
                                (double)dy[i] * (double)y[i] / (double)w[i],
                                2e-6);
    }
}
END_TEST

START_TEST(swiglu_backward_is_the_derivative)
{
    const size_t n = odd[_i];
    const double h = 1e-5;
    float g[65], u[65], dh[65], dg[65], du[65];
    bise_kernels k;
    bise_kernels_init_ref(&k);
    fill(g, n, 4, 6);
    fill(u, n, 5, 2);
    fill(dh, n, 6, 1);
    k.swiglu_bwd(dg, du, dh, g, u, n);
    for (size_t i = 0; i < n; i++) {
        const double gi = (double)g[i], ui = (double)u[i];
        const double want_g = (double)dh[i] * ui *
                              (silu(gi + h) - silu(gi - h)) / (2 * h);
        ck_assert_double_eq_tol((double)dg[i], want_g, 2e-6);
        ck_assert_double_eq_tol((double)du[i], (double)dh[i] * silu(gi),
                                2e-6);
    }
    k.swiglu_bwd(g, u, dh, g, u, n);            /* in place */
    ck_assert_mem_eq(g, dg, n * sizeof *g);
    ck_assert_mem_eq(u, du, n * sizeof *u);
}
END_TEST

/* Rotation y = R x in double, dotted with dy. */
static double rope_dot(const float *x, const float *c, const float *s,
                       const float *dy, size_t n, size_t at, double d)
{
    const size_t half = n / 2;
    double sum = 0;
    for (size_t i = 0; i < half; i++) {
        const double a = (double)x[i] + (at == i ? d : 0);
        const double b = (double)x[i + half] + (at == i + half ? d : 0);
        sum += (double)dy[i] * (a * (double)c[i] - b * (double)s[i]) +
               (double)dy[i + half] * (b * (double)c[i] + a * (double)s[i]);
    }
    return sum;
}

START_TEST(rope_with_negative_sine_is_the_derivative)
{
    const size_t n = 2 * odd[_i];
    float x[130], c[65], s[65], minus[65], dy[130], dx[130];
    bise_kernels k;
    bise_kernels_init_ref(&k);
    fill(x, n, 7, 2);
    fill(dy, n, 8, 1);
    for (size_t i = 0; i < n / 2; i++) {        /* factor 1.2 as of YaRN */
        c[i] = 1.2f * cosf(0.7f * (float)i);
        s[i] = 1.2f * sinf(0.7f * (float)i);
        minus[i] = -s[i];
    }
    memcpy(dx, dy, n * sizeof *dx);
    k.rope(dx, c, minus, n);
    for (size_t i = 0; i < n; i++) {
        const double want = (rope_dot(x, c, s, dy, n, i, 1e-3) -
                             rope_dot(x, c, s, dy, n, i, -1e-3)) / 2e-3;
        ck_assert_double_eq_tol((double)dx[i], want, 1e-6);
    }
}
END_TEST

/* sum_j dp_j softmax(a s)_j with s[at] moved by d. */
static double softmax_dot(const float *s, const float *dp, size_t n, double a,
                          size_t at, double d)
{
    double sum = 0, dot = 0;
    for (size_t j = 0; j < n; j++) {
        const double e = exp(a * ((double)s[j] + (j == at ? d : 0)));
        sum += e;
        dot += e * (double)dp[j];
    }
    return dot / sum;
}

START_TEST(softmax_backward_is_the_derivative)
{
    const size_t n = odd[_i];
    const float a = 0.37f;
    float s[65], p[65], dp[65], ds[65], max;
    bise_kernels k;
    bise_kernels_init_ref(&k);
    fill(s, n, 9, 5);
    fill(dp, n, 10, 1);
    for (size_t i = 0; i < n; i++)
        p[i] = s[i] * a;
    const float sum = k.softmax_exp(p, n, &max);
    double delta = 0;
    for (size_t i = 0; i < n; i++) {
        p[i] /= sum;
        delta += (double)p[i] * (double)dp[i];
    }
    k.softmax_bwd(ds, p, dp, (float)delta, a, n);
    for (size_t i = 0; i < n; i++) {
        const double want =
            (softmax_dot(s, dp, n, (double)a, i, 1e-5) -
             softmax_dot(s, dp, n, (double)a, i, -1e-5)) / 2e-5;
        ck_assert_double_eq_tol((double)ds[i], want, 1e-6);
    }
}
END_TEST

/* ------------------------- levels against the reference ------------------- */

/* A row with guards, one float off alignment. */
typedef struct row {
    float all[MOST + 8];
} row;

static float *begin(row *r, size_t n)
{
    for (size_t i = 0; i < MOST + 8; i++)
        r->all[i] = GUARD;
    (void)n;
    return r->all + 3;
}

static void guarded(const row *r, size_t n)
{
    for (size_t i = 0; i < MOST + 8; i++)
        if ((i < 3 || i >= n + 3) && r->all[i] != GUARD)
            ck_abort_msg("wrote at %d of %zu", (int)i - 3, n);
}

static void near_row(const float *got, const float *want, size_t n, double rel,
                     const char *what)
{
    for (size_t i = 0; i < n; i++) {
        const double tol = rel * (fabs((double)want[i]) + 1e-2);
        if (!(fabs((double)got[i] - (double)want[i]) <= tol))
            ck_abort_msg("%s[%zu of %zu]: %.9g, reference %.9g", what, i, n,
                         (double)got[i], (double)want[i]);
    }
}

static void near_one(double got, double want, double tol, const char *what,
                     size_t n)
{
    ck_assert_msg(fabs(got - want) <= tol, "%s of %zu: %.9g, reference %.9g",
                  what, n, got, want);
}

static row ra, rb, rc, rd, re, rf;

/* Sums and in-place operations on one row of n. */
static void compare_sums(const bise_kernels *k, const bise_kernels *ref,
                         size_t n)
{
    float *x = begin(&ra, n), *y = begin(&rb, n), *z = begin(&rc, n);
    uint16_t h[MOST + 1], f[MOST + 1];
    float m1 = 0, m2 = 0;
    fill(x, n, 20, 3);
    fill(y, n, 21, 3);
    for (size_t i = 0; i < n; i++) {
        h[i + 1] = bise_f32_to_bf16(x[i]);
        f[i + 1] = bise_f32_to_f16(x[i]);
    }
    const double tol = 6e-8 * 9 * (double)(n + 1);
    near_one((double)k->dot(x, y, n), (double)ref->dot(x, y, n), tol, "dot",
             n);
    near_one((double)k->dot_bf16(h + 1, y, n),
             (double)ref->dot_bf16(h + 1, y, n), tol, "dot_bf16", n);
    near_one((double)k->dot_f16(f + 1, y, n),
             (double)ref->dot_f16(f + 1, y, n), tol, "dot_f16", n);
    near_one(k->sumsq(x, n), ref->sumsq(x, n), 1e-12 * (double)(n + 1),
             "sumsq", n);
    if (n) {
        ck_assert(k->max(x, n) == ref->max(x, n));
        const double s = (double)k->sumexp(x, n, &m1);
        near_one(s, (double)ref->sumexp(x, n, &m2), 2e-6 * (double)n,
                 "sumexp", n);
        ck_assert(m1 == m2);
        memcpy(y, x, n * sizeof *x);
        memcpy(z, x, n * sizeof *x);
        near_one((double)k->softmax_exp(y, n, &m1),
                 (double)ref->softmax_exp(z, n, &m2), 2e-6 * (double)n,
                 "softmax_exp", n);
        near_row(y, z, n, 1e-6, "softmax_exp");
    }
    guarded(&ra, n);
    guarded(&rb, n);
}

static void compare_rows(const bise_kernels *k, const bise_kernels *ref,
                         size_t n)
{
    float *x = begin(&ra, n), *w = begin(&rb, n), *y = begin(&rc, n);
    float *got = begin(&rd, n), *got2 = begin(&re, n);
    float want[MOST], want2[MOST];
    (void)begin(&rf, n);
    fill(x, n, 30, 8);
    fill(w, n, 31, 2);
    fill(y, n, 32, 2);
    fill(got, n, 33, 2);
    memcpy(want, got, n * sizeof *got);
    k->axpy(got, 1.7f, x, n);
    ref->axpy(want, 1.7f, x, n);
    near_row(got, want, n, 1e-5, "axpy");
    memcpy(want, got, n * sizeof *got);
    k->scale(got, -0.3f, n);
    ref->scale(want, -0.3f, n);
    near_row(got, want, n, 0, "scale");
    k->swiglu(got, x, w, n);
    ref->swiglu(want, x, w, n);
    near_row(got, want, n, 1e-6, "swiglu");
    k->swiglu_bwd(got, got2, y, x, w, n);
    ref->swiglu_bwd(want, want2, y, x, w, n);
    near_row(got, want, n, 1e-5, "swiglu_bwd dg");
    near_row(got2, want2, n, 1e-6, "swiglu_bwd du");
    k->softmax_bwd(got, w, y, 0.2f, 0.5f, n);
    ref->softmax_bwd(want, w, y, 0.2f, 0.5f, n);
    near_row(got, want, n, 1e-5, "softmax_bwd");
    if (n) {
        const float r1 = k->rmsnorm(got, x, w, n, 1e-5f);
        const float r2 = ref->rmsnorm(want, x, w, n, 1e-5f);
        near_one((double)r1, (double)r2, 1e-6 * (double)r2, "rmsnorm r", n);
        near_row(got, want, n, 1e-6, "rmsnorm");
        fill(got, n, 34, 1);
        fill(got2, n, 35, 1);
        memcpy(want, got, n * sizeof *got);
        memcpy(want2, got2, n * sizeof *got);
        k->rmsnorm_bwd(got, got2, y, x, w, r2, n);
        ref->rmsnorm_bwd(want, want2, y, x, w, r2, n);
        near_row(got, want, n, 1e-5, "rmsnorm_bwd dx");
        near_row(got2, want2, n, 1e-5, "rmsnorm_bwd dw");
    }
    if (n % 2 == 0) {
        memcpy(got, x, n * sizeof *got);
        memcpy(want, x, n * sizeof *got);
        k->rope(got, w, y, n);
        ref->rope(want, w, y, n);
        near_row(got, want, n, 1e-5, "rope");
    }
    guarded(&ra, n);
    guarded(&rd, n);
    guarded(&re, n);
}

static void compare_conversions(const bise_kernels *k, const bise_kernels *ref,
                                size_t n)
{
    uint16_t h1[MOST + 1], h2[MOST + 1];
    float x[MOST], y1[MOST], y2[MOST];
    for (size_t i = 0; i < n; i++)              /* every kind of pattern */
        x[i] = bise_bits_f32((uint32_t)bise_rng_u64(12, n, i));
    h1[n] = h2[n] = 0x5aa5;
    k->f32_to_bf16(h1, x, n);
    ref->f32_to_bf16(h2, x, n);
    ck_assert_mem_eq(h1, h2, (n + 1) * sizeof *h1);
    k->bf16_to_f32(y1, h1, n);
    ref->bf16_to_f32(y2, h1, n);
    ck_assert_mem_eq(y1, y2, n * sizeof *y1);
    for (size_t i = 0; i < n; i++)              /* NaN payloads may differ */
        h1[i] = (uint16_t)bise_rng_below(13, n, i, 0x7c01) |
                (uint16_t)(i % 2 << 15);
    k->f16_to_f32(y1, h1, n);
    ref->f16_to_f32(y2, h1, n);
    ck_assert_mem_eq(y1, y2, n * sizeof *y1);
}

START_TEST(level_agrees_with_the_reference)
{
    const bise_cpu level = (bise_cpu)_i;
    bise_kernels k, ref;
    if (level > bise_cpu_level()) {
        printf("skipped: no %s here\n", bise_cpu_name(level));
        return;
    }
    bise_kernels_init_ref(&ref);
    bise_kernels_init(&k, level);
    for (size_t n = 0; n < 68; n++) {
        compare_sums(&k, &ref, n);
        compare_rows(&k, &ref, n);
        compare_conversions(&k, &ref, n);
    }
    for (size_t n = 1022; n < 1027; n++) {
        compare_sums(&k, &ref, n);
        compare_rows(&k, &ref, n);
        compare_conversions(&k, &ref, n);
    }
}
END_TEST

START_TEST(exponentials_hold_over_their_range)
{
    bise_kernels k;
    bise_kernels_init(&k, (bise_cpu)_i <= bise_cpu_level() ?
                              (bise_cpu)_i : BISE_CPU_REF);
    for (double x = -110; x < 89; x += 0.0137) {
        float e[3] = { (float)x, (float)x, (float)x };
        k.exp_sub(e, 3, 0);
        const double want = exp((double)(float)x);
        const double tol = 3e-7 * want + 3e-45;
        if (want < 3.4e38 && !(fabs((double)e[1] - want) <= tol))
            ck_abort_msg("exp(%g) = %.9g, want %.9g", x, (double)e[1], want);
    }
    float edge[5] = { -INFINITY, -1e30f, 0, -104.5f, -87.5f };
    ck_assert_float_ge(k.exp_sub(edge, 5, 0), 1);
    ck_assert(edge[0] == 0 && edge[1] == 0 && edge[2] == 1 && edge[4] > 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ops");
    TCase *t = tcase_create("derivatives");
    tcase_add_loop_test(t, rmsnorm_backward_is_the_derivative, 0, N_ODD);
    tcase_add_loop_test(t, swiglu_backward_is_the_derivative, 0, N_ODD);
    tcase_add_loop_test(t, rope_with_negative_sine_is_the_derivative, 0,
                        N_ODD);
    tcase_add_loop_test(t, softmax_backward_is_the_derivative, 0, N_ODD);
    suite_add_tcase(s, t);
    TCase *l = tcase_create("levels");
    tcase_add_loop_test(l, level_agrees_with_the_reference, BISE_CPU_REF,
                        BISE_CPU_AVX512BF16 + 1);
    tcase_add_loop_test(l, exponentials_hold_over_their_range, BISE_CPU_REF,
                        BISE_CPU_AVX512BF16 + 1);
    suite_add_tcase(s, l);
    return s;
}

BISE_CHECK_MAIN
