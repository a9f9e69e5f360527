/* check_panel8.c - 8-bit products: the reference against the formula in double
 * precision, every CPU level against the reference bit by bit: quantizers,
 * packers, both directions, all tails, extreme values, guard bytes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "core/rng.h"
#include "kernels/panel8.h"
#include "tests/check_main.h"

#define GUARD 7.25f
#define LEVELS (BISE_CPU_AVX512BF16 + 1)

/* A level that this machine has, else false. */
static bool slots_of(bise_panel8_ops *o, int level)
{
    if ((int)bise_cpu_level() < level)
        return false;
    bise_panel8_ops_init(o, (bise_cpu)level);
    return true;
}

static float draw(uint64_t stream, size_t i)
{
    return bise_rng_f32(1, stream, i) * 2 - 1;
}

/* A product: W [N, K], x as it leaves quantize, y with guards around rows. */
typedef struct product {
    bise_matrix8 w;
    int8_t *data;
    float *scales;
    uint8_t *x;
    float *x_scales, *y;
    bise_panel8_job job;
    int32_t out, red;
} product;

/* extreme: all values at their limits, where sums are largest. */
static void make_product(product *p, int32_t T, int32_t N, int32_t K,
                         bool transposed, bool extreme)
{
    const size_t n = (size_t)N * (size_t)K;
    memset(p, 0, sizeof *p);
    p->out = transposed ? K : N;
    p->red = transposed ? N : K;
    const size_t ldx = ((size_t)p->red + 3) / 4 * 4 + 4;
    const size_t ldy = (size_t)p->out + 3;
    p->data = bise_alloc(n);
    p->scales = bise_alloc_array((size_t)N, sizeof *p->scales);
    p->x = bise_alloc((size_t)T * ldx);
    p->x_scales = bise_alloc_array((size_t)T, sizeof *p->x_scales);
    p->y = bise_alloc_array((size_t)T * ldy, sizeof *p->y);
    for (size_t i = 0; i < n; i++)
        p->data[i] = extreme ? (int8_t)(i % 7 ? 127 : -127)
                             : (int8_t)lrintf(draw(1, i) * 127);
    for (size_t i = 0; i < (size_t)T * ldx; i++)
        p->x[i] = extreme ? 255 : (uint8_t)(128 + lrintf(draw(2, i) * 127));
    for (int32_t i = 0; i < N; i++)
        p->scales[i] = 0.01f * (draw(3, (size_t)i) + 2);
    for (int32_t i = 0; i < T; i++)
        p->x_scales[i] = 0.1f * (draw(4, (size_t)i) + 2);
    for (size_t i = 0; i < (size_t)T * ldy; i++)
        p->y[i] = GUARD;
    p->w = (bise_matrix8){ p->data, p->scales, N, K, 0 };
    p->job = (bise_panel8_job){ .w = &p->w, .transposed = transposed,
                                .x = p->x, .x_scales = p->x_scales,
                                .ldx = ldx, .y = p->y, .ldy = ldy, .T = T };
}

static void free_product(product *p)
{
    bise_free(p->data);
    bise_free(p->scales);
    bise_free(p->x);
    bise_free(p->x_scales);
    bise_free(p->y);
}

static void run(const bise_panel8_ops *o, product *p)
{
    void *scratch = bise_alloc_aligned(bise_panel8_scratch());
    bise_panel8_run(o, &p->job, 0, INT32_MAX, scratch);
    bise_free_aligned(scratch);
}

/* y[t, i] by the formula; n, k are rows in half order. */
static double expected(const product *p, int32_t t, int32_t i, double *size)
{
    const int32_t D = p->w.pair_rows;
    double sum = 0;
    *size = 0;
    for (int32_t d = 0; d < p->red; d++) {
        int32_t n = p->job.transposed ? d : i;
        const int32_t k = p->job.transposed ? i : d;
        if (D)
            n = n - n % D + 2 * (n % D % (D / 2)) + n % D / (D / 2);
        const double v = (p->x[(size_t)t * p->job.ldx + (size_t)d] - 128) *
                         (double)p->data[(size_t)n * (size_t)p->w.K +
                                         (size_t)k] * p->x_scales[t] *
                         (p->job.transposed ? 1 : p->scales[n]);
        sum += v;
        *size += fabs(v);
    }
    return sum;
}

static void check_formula(const product *p, float base)
{
    for (int32_t t = 0; t < p->job.T; t++) {
        for (int32_t i = 0; i < p->out; i++) {
            double size;
            const double want = expected(p, t, i, &size) + base;
            ck_assert_double_eq_tol(p->y[(size_t)t * p->job.ldy + (size_t)i],
                                    want, 1e-6 * (size + fabs(base)) + 1e-30);
        }
        for (size_t i = (size_t)p->out; i < p->job.ldy; i++)
            ck_assert(p->y[(size_t)t * p->job.ldy + i] == GUARD);
    }
}

/* Shapes with tails in every dimension, and more than one depth and group. */
static const int32_t shapes[][3] = {
    { 1, 1, 1 }, { 3, 5, 7 }, { 12, 32, 64 }, { 13, 33, 66 }, { 25, 65, 130 },
    { 2, 300, 1027 }, { 5, 1030, 290 }, { 100, 40, 24 }, { 7, 256, 2050 },
};
#define SHAPES (sizeof shapes / sizeof *shapes)

START_TEST(reference_follows_the_formula)
{
    const int32_t *s = shapes[_i / 2];
    bise_panel8_ops o;
    product p;
    bise_panel8_ops_ref(&o);
    make_product(&p, s[0], s[1], s[2], _i % 2, false);
    run(&o, &p);
    check_formula(&p, 0);
    free_product(&p);
    make_product(&p, s[0], s[1], s[2], _i % 2, false);
    p.job.add = true;
    run(&o, &p);
    check_formula(&p, GUARD);
    free_product(&p);
}
END_TEST

START_TEST(rows_of_pairs_are_found)
{
    bise_panel8_ops o;
    product p;
    bise_panel8_ops_ref(&o);
    make_product(&p, 5, 48, 20, _i, false);
    p.w.pair_rows = 12;
    run(&o, &p);
    check_formula(&p, 0);
    free_product(&p);
}
END_TEST

START_TEST(every_level_has_the_same_bits)
{
    bise_panel8_ops o, ref;
    bise_panel8_ops_ref(&ref);
    for (int level = 1; level < LEVELS; level++)
        for (size_t i = 0; i < SHAPES * 4; i++) {
            const int32_t *s = shapes[i / 4];
            product a, b;
            if (!slots_of(&o, level))
                return;
            make_product(&a, s[0], s[1], s[2], i % 2, i / 2 % 2);
            make_product(&b, s[0], s[1], s[2], i % 2, i / 2 % 2);
            a.job.add = b.job.add = _i;
            run(&ref, &a);
            run(&o, &b);
            ck_assert_mem_eq(a.y, b.y, (size_t)s[0] * a.job.ldy *
                                           sizeof *a.y);
            free_product(&a);
            free_product(&b);
        }
}
END_TEST

/* Rows that quantize must tell apart. */
static void fill_row(float *x, size_t n, int kind)
{
    for (size_t i = 0; i < n; i++)
        x[i] = kind == 1 ? 0 : kind == 2 ? 1e-38f * draw(5, i)
               : kind == 5 ? 1e38f * draw(5, i) : draw(5, i);
    if (kind == 3)
        x[n / 2] = NAN;
    if (kind == 4)
        x[n - 1] = -INFINITY;
    if (kind == 6)                      /* halves: ties to even */
        for (size_t i = 0; i < n; i++)
            x[i] = i ? (float)((int)(i % 253) - 126) + 0.5f : 127;
}

START_TEST(quantizers_agree_and_invert)
{
    enum { MOST = 70 };
    bise_panel8_ops o, ref;
    float x[MOST], fold[MOST];
    uint16_t x16[MOST];
    bise_panel8_ops_ref(&ref);
    for (size_t n = 1; n <= MOST; n++)
        for (int level = 0; level < LEVELS && slots_of(&o, level); level++)
            for (int way = 0; way < 4; way++) {
                uint8_t a[MOST + 1], b[MOST + 1];
                const float *f = way & 1 ? fold : NULL;
                memset(a, 3, sizeof a);
                memset(b, 3, sizeof b);
                fill_row(x, n, _i);
                for (size_t i = 0; i < n; i++) {
                    fold[i] = draw(6, i) + 1.5f;
                    x16[i] = bise_f32_to_bf16(x[i]);
                    if (way & 2)
                        x[i] = bise_bf16_to_f32(x16[i]);
                }
                const float s = way & 2 ? ref.quantize_bf16(a, x16, f, n)
                                        : ref.quantize(a, x, f, n);
                const float t = way & 2 ? o.quantize_bf16(b, x16, f, n)
                                        : o.quantize(b, x, f, n);
                ck_assert(bise_f32_bits(s) == bise_f32_bits(t) ||
                          (isnan(s) && isnan(t)));
                ck_assert_mem_eq(a, b, sizeof a);
                ck_assert(a[n] == 3);
                for (size_t i = 0; i < n && isfinite(s) && s > 0; i++)
                    ck_assert_double_le(fabs((a[i] - 128) * (double)s -
                                             x[i] * (f ? f[i] : 1.0)),
                                        0.5001 * s);
                if (_i == 3 || _i == 4)
                    ck_assert(isnan(s));
                if (_i == 1 || _i == 2)
                    ck_assert(s == 0);
            }
}
END_TEST

START_TEST(weights_are_signed)
{
    bise_panel8_ops o;
    const float w[5] = { 1, -2, 0, 0.5f, 2 };
    int8_t q[5];
    bise_panel8_ops_init(&o, bise_cpu_level());
    const float s = bise_panel8_encode(&o, q, w, 5);
    ck_assert_float_eq(s, 2 / 127.0f);
    ck_assert(q[0] == 64 && q[1] == -127 && q[2] == 0 && q[4] == 127);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("panel8");
    TCase *t = tcase_create("panel8");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, reference_follows_the_formula, 0, 2 * SHAPES);
    tcase_add_loop_test(t, rows_of_pairs_are_found, 0, 2);
    tcase_add_loop_test(t, every_level_has_the_same_bits, 0, 2);
    tcase_add_loop_test(t, quantizers_agree_and_invert, 0, 7);
    tcase_add_test(t, weights_are_signed);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
