/* check_optimizer.c - the update rules against values of torch 2.13, the norm,
 * the independence of threads, and the learning rate schedules.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "kernels/dynmap.h"
#include "finetune/optimizer.h"
#include "finetune/schedule.h"

static bise_error err;

/* torch.optim.AdamW(p, lr=0.05, betas=(0.9, 0.99), weight_decay=0.1) with
 * grad[j] = (-1)^k 0.1 (k + 1) (j - 2) + 0.01 j in step k: values after it. */
static const float adamw_start[5] = { 0.5f, -1.25f, 3.0f, 1e-3f, -2e-2f };
static const float adamw_want[5][5] = {
    { 0.547500014f, -1.19375002f, 2.93500018f, -0.0490049943f, -0.0698999986f },
    { 0.526482105f, -1.20875788f, 2.87032533f, -0.0395493507f, -0.057176169f },
    { 0.540967584f, -1.18770349f, 2.80597377f, -0.0622197762f, -0.0779412985f },
    { 0.526679277f, -1.19506788f, 2.74194407f, -0.0556895547f, -0.0695162863f },
    { 0.535132766f, -1.17945611f, 2.67823434f, -0.0706851408f, -0.0830772519f },
};

START_TEST(adamw_follows_torch)
{
    const bise_optimizer_options o = {
        .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1 };
    const bise_span spans[2] = { { 0, 2, true }, { 2, 3, true } };
    bise_optimizer *opt;
    float p[5], g[5];
    memcpy(p, adamw_start, sizeof p);
    ck_ok(bise_optimizer_new(&opt, &o, spans, 2, &err));
    for (int k = 0; k < 5; k++) {
        /* The gradient is handed over doubled, with scale one half. */
        for (int j = 0; j < 5; j++)
            g[j] = 2 * ((k % 2 ? -0.1f : 0.1f) * (float)(k + 1) *
                        (float)(j - 2) + 0.01f * (float)j);
        bise_optimizer_step(opt, p, g, 0.5f, 0.05);
        for (int j = 0; j < 5; j++)
            ck_assert_msg(fabsf(p[j] - adamw_want[k][j]) < 2e-7f,
                          "step %d, value %d: %.9g, torch %.9g", k, j,
                          (double)p[j], (double)adamw_want[k][j]);
    }
    ck_assert_uint_eq(bise_optimizer_count(opt), 5);
    bise_optimizer_free(opt);
}
END_TEST

START_TEST(decay_spares_marked_spans)
{
    const bise_optimizer_options o = {
        .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.5 };
    const bise_span spans[2] = { { 0, 1, true }, { 1, 1, false } };
    bise_optimizer *opt;
    float p[2] = { 2, 2 };
    const float g[2] = { 0, 0 };
    ck_ok(bise_optimizer_new(&opt, &o, spans, 2, &err));
    bise_optimizer_step(opt, p, g, 1, 0.1);
    ck_assert_float_eq_tol(p[0], 1.9f, 1e-6f);
    ck_assert_float_eq(p[1], 2);
    bise_optimizer_free(opt);
}
END_TEST

START_TEST(lion_moves_by_sign)
{
    const bise_optimizer_options o = { .kind = BISE_OPTIMIZER_LION,
                                       .beta1 = 0.9, .beta2 = 0.99 };
    const bise_span spans[1] = { { 0, 3, true } };
    bise_optimizer *opt;
    bise_tensor state[BISE_OPTIMIZER_STATES];
    float p[3] = { 1, 1, 1 };
    const float g[3] = { 5, -0.001f, 0 };
    ck_ok(bise_optimizer_new(&opt, &o, spans, 1, &err));
    bise_optimizer_step(opt, p, g, 1, 0.25);
    ck_assert_float_eq(p[0], 0.75f);
    ck_assert_float_eq(p[1], 1.25f);
    ck_assert_float_eq(p[2], 1);
    /* One moment only, m = (1 - b2) g. */
    ck_assert_uint_eq(bise_optimizer_state(opt, state), 1);
    ck_assert_float_eq_tol(((const float *)state[0].data)[0], 0.05f, 1e-6f);
    bise_optimizer_free(opt);
}
END_TEST

/* Three AdamW steps over two spans larger than a piece. */
static void run_steps(float *p, double *norm, int threads)
{
    enum { N = 150001 };
    bise_pool *pool = NULL;
    ck_ok(bise_pool_new(&pool, threads, &err));
    const bise_optimizer_options o = { .beta1 = 0.9, .beta2 = 0.95,
                                       .eps = 1e-8, .weight_decay = 0.01,
                                       .pool = pool };
    const bise_span spans[2] = { { 0, 70001, true }, { 70001, 80000, false } };
    float *g = bise_alloc_array(N, sizeof *g);
    bise_optimizer *opt;
    ck_ok(bise_optimizer_new(&opt, &o, spans, 2, &err));
    for (int k = 0; k < 3; k++) {
        for (size_t i = 0; i < N; i++)
            g[i] = bise_rng_f32(1, (uint64_t)k, i) - 0.5f;
        norm[k] = bise_optimizer_norm(opt, g);
        bise_optimizer_step(opt, p, g, 0.3f, 1e-2);
    }
    bise_optimizer_free(opt);
    bise_free(g);
    bise_pool_free(pool);
}

START_TEST(threads_change_nothing)
{
    enum { N = 150001 };
    float *a = bise_alloc_array(N, sizeof *a);
    float *b = bise_alloc_array(N, sizeof *b);
    double na[3], nb[3];
    run_steps(a, na, 1);
    run_steps(b, nb, _i);
    ck_assert_mem_eq(a, b, N * sizeof *a);
    ck_assert_mem_eq(na, nb, sizeof na);
    /* Uniform in [-1/2, 1/2): mean square 1/12. */
    ck_assert_double_eq_tol(na[0], sqrt(N / 12.0), 0.5);
    bise_free(a);
    bise_free(b);
}
END_TEST

START_TEST(norm_sees_what_is_not_finite)
{
    const bise_optimizer_options o = { .beta1 = 0.9, .beta2 = 0.95 };
    const bise_span spans[1] = { { 0, 7, true } };
    float g[7] = { 3, 0, 0, 0, 4, 0, 0 };
    bise_optimizer *opt;
    ck_ok(bise_optimizer_new(&opt, &o, spans, 1, &err));
    ck_assert_double_eq(bise_optimizer_norm(opt, g), 5);
    g[6] = INFINITY;
    ck_assert(!isfinite(bise_optimizer_norm(opt, g)));
    g[6] = NAN;
    ck_assert(!isfinite(bise_optimizer_norm(opt, g)));
    bise_optimizer_free(opt);
}
END_TEST

START_TEST(no_memory_is_reported)
{
    const bise_optimizer_options o = { .beta1 = 0.9, .beta2 = 0.95 };
    const bise_span spans[1] = { { 0, 7, true } };
    bise_optimizer *opt = NULL;
    bise_alloc_fail_after((uint64_t)_i);
    ck_fails(bise_optimizer_new(&opt, &o, spans, 1, &err), BISE_ENOMEM);
    bise_alloc_fail_after(0);
    ck_assert_ptr_null(opt);
}
END_TEST

/* The golden runs' schedule: 4 steps up, then cosine to 10 %. */
START_TEST(cosine_has_its_corners)
{
    const bise_schedule s = { .kind = BISE_SCHEDULE_COSINE, .lr = 2e-3,
                              .lr_min = 0.1, .steps = 24, .warmup = 4 };
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 0), 5e-4, 1e-12);
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 3), 2e-3, 1e-12);
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 4), 2e-3, 1e-12);
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 14), 2e-3 * 0.55, 1e-12);
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 24), 2e-4, 1e-12);
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 99), 2e-4, 1e-12);
}
END_TEST

START_TEST(linear_and_constant)
{
    bise_schedule s = { .kind = BISE_SCHEDULE_LINEAR, .lr = 1, .steps = 10 };
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 0), 1, 1e-12);
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 5), 0.5, 1e-12);
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 9), 0.1, 1e-12);
    s.kind = BISE_SCHEDULE_CONSTANT;
    s.warmup = 5;
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 1), 0.4, 1e-12);
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 9), 1, 1e-12);
    /* Warm-up over the whole run never divides by zero. */
    s.kind = BISE_SCHEDULE_COSINE;
    s.warmup = 10;
    ck_assert_double_eq_tol(bise_schedule_lr(&s, 10), 1, 1e-12);
}
END_TEST

START_TEST(warmup_is_a_share_or_steps)
{
    ck_assert_uint_eq(bise_schedule_warmup(0, 100), 0);
    ck_assert_uint_eq(bise_schedule_warmup(0.03, 200), 6);
    ck_assert_uint_eq(bise_schedule_warmup(0.03, 10), 1);
    ck_assert_uint_eq(bise_schedule_warmup(1, 10), 1);
    ck_assert_uint_eq(bise_schedule_warmup(6, 200), 6);
    ck_assert_uint_eq(bise_schedule_warmup(500, 200), 200);
}
END_TEST

/* Values of bitsandbytes 0.4x's create_dynamic_map: the nine around zero, and
 * sums over all 256. */
START_TEST(maps_are_those_of_bitsandbytes)
{
    static const float around[9] = {
        -2.12499981e-05f, -7.7499999e-06f, -3.25000019e-06f, -5.50000038e-07f,
        0, 5.50000038e-07f, 3.25000019e-06f, 7.7499999e-06f, 2.12499981e-05f };
    bise_dynmap m;
    for (int k = 0; k < 2; k++) {
        double sum = 0, moment = 0;
        bise_dynmap_init(&m, k == 0);
        for (int i = 0; i < 256; i++) {
            sum += fabs((double)m.value[i]);
            moment += (double)m.value[i] * m.value[i] * (i + 1);
        }
        ck_assert_double_eq_tol(sum, 75.1052632, 1e-6);
        ck_assert_double_eq_tol(moment, k ? 10702.9932 : 6348.26722, 1e-4);
        for (int i = 0; i < 9 && k == 0; i++)
            ck_assert_float_eq(m.value[123 + i], around[i]);
    }
}
END_TEST

/* Every value has its own code, what lies between goes to the nearer one. */
START_TEST(codes_are_nearest)
{
    bise_dynmap m;
    bise_dynmap_init(&m, _i == 0);
    for (int i = 0; i < 256; i++) {
        ck_assert_uint_eq(bise_dynmap_code(&m, m.value[i]), (unsigned)i);
        if (i == 255)
            break;
        const float gap = m.value[i + 1] - m.value[i];
        ck_assert_uint_eq(bise_dynmap_code(&m, m.value[i] + 0.4f * gap),
                          (unsigned)i);
        ck_assert_uint_eq(bise_dynmap_code(&m, m.value[i] + 0.6f * gap),
                          (unsigned)i + 1);
    }
    ck_assert_uint_eq(bise_dynmap_code(&m, 7), 255);
    ck_assert_uint_eq(bise_dynmap_code(&m, -7), 0);
    /* A tiny negative value keeps its sign. */
    bise_dynmap_init(&m, true);
    ck_assert_float_lt(m.value[bise_dynmap_code_signed(&m, -1e-9f)], 0);
    ck_assert_float_ge(m.value[bise_dynmap_code_signed(&m, 1e-9f)], 0);
}
END_TEST

/* bitsandbytes.optim.AdamW8bit(lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
 * on 4608 values p = sin(0.37 i) / 2 with the gradient
 * cos(0.11 i + k) exp(-(i mod 97) / 20) in step k: five values and the sum. */
static const int adamw8_at[5] = { 0, 1, 5, 300, 4607 };
static const double adamw8_want[6][6] = {
    { -0.010000001, 0.17062689, 0.470157, -0.42184344, 0.49059749, 2.0385005 },
    { -0.019434851, 0.16123961, 0.46273613, -0.41389194, 0.49143353,
      2.1926233 },
    { -0.024054013, 0.15739648, 0.46288642, -0.40484196, 0.48632389,
      2.3241821 },
    { -0.023277348, 0.15863392, 0.46636823, -0.39672703, 0.47971722,
      2.4083609 },
    { -0.020573366, 0.16144943, 0.46980098, -0.3936606, 0.4751828, 2.3988953 },
    { -0.019144692, 0.16257986, 0.47004288, -0.39421871, 0.47469598,
      2.3594793 },
};

START_TEST(adamw8_follows_bitsandbytes)
{
    enum { N = 4608 };
    const bise_optimizer_options o = {
        .kind = BISE_OPTIMIZER_ADAMW8, .beta1 = 0.9, .beta2 = 0.99,
        .eps = 1e-8, .weight_decay = 0.1 };
    const bise_span spans[1] = { { 0, N, true } };
    float *p = bise_alloc_array(N, sizeof *p);
    float *g = bise_alloc_array(N, sizeof *g);
    bise_optimizer *opt;
    bise_tensor state[BISE_OPTIMIZER_STATES];
    ck_ok(bise_optimizer_new(&opt, &o, spans, 1, &err));
    for (int i = 0; i < N; i++)
        p[i] = (float)(sin(i * 0.37) * 0.5);
    for (int k = 0; k < 6; k++) {
        double sum = 0;
        for (int i = 0; i < N; i++)
            g[i] = (float)(cos(i * 0.11 + k) * exp(-(i % 97) / 20.0));
        bise_optimizer_step(opt, p, g, 1, 1e-2);
        for (int i = 0; i < N; i++)
            sum += p[i];
        for (int j = 0; j < 5; j++)
            ck_assert_double_eq_tol(p[adamw8_at[j]], adamw8_want[k][j], 1e-5);
        /* Its CPU encoder takes a neighbour of the nearest code for some small
         * values, ours the nearest: 744 of 4608 codes differ by one or a few,
         * 1e-5 a value on average. */
        ck_assert_double_eq_tol(sum, adamw8_want[k][5], k ? N * 1e-5 : 1e-5);
    }
    /* Codes and maxima of both moments are the state, 2 bytes a value. */
    ck_assert_uint_eq(bise_optimizer_state(opt, state), 4);
    ck_assert_str_eq(state[0].name, "exp_avg_codes");
    ck_assert_uint_eq(state[0].bytes, N);
    ck_assert_uint_eq(state[1].bytes, N / 256 * sizeof(float));
    ck_assert_float_eq_tol(((const float *)state[1].data)[0], 0.0581f, 1e-4f);
    bise_optimizer_free(opt);
    bise_free(p);
    bise_free(g);
}
END_TEST

/* Small spans stay float32 and are those of plain AdamW bit for bit. */
START_TEST(small_spans_stay_float32)
{
    const bise_span spans[2] = { { 0, 5000, true }, { 5000, 5, true } };
    bise_optimizer_options o = { .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8,
                                 .weight_decay = 0 };
    float *p[2], g[5005];
    bise_tensor state[BISE_OPTIMIZER_STATES];
    for (int k = 0; k < 2; k++) {
        bise_optimizer *opt;
        o.kind = k ? BISE_OPTIMIZER_ADAMW8 : BISE_OPTIMIZER_ADAMW;
        p[k] = bise_alloc_array(5005, sizeof **p);
        ck_ok(bise_optimizer_new(&opt, &o, spans, 2, &err));
        for (int step = 0; step < 3; step++) {
            for (size_t i = 0; i < 5005; i++)
                g[i] = bise_rng_f32(3, (uint64_t)step, i) - 0.5f;
            bise_optimizer_step(opt, p[k], g, 1, 1e-2);
        }
        ck_assert_uint_eq(bise_optimizer_state(opt, state), k ? 6 : 2);
        bise_optimizer_free(opt);
    }
    ck_assert_mem_eq(p[0] + 5000, p[1] + 5000, 5 * sizeof **p);
    for (int i = 0; i < 5000; i++)
        ck_assert_float_eq_tol(p[0][i], p[1][i], 2e-2f);
    bise_free(p[0]);
    bise_free(p[1]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("optimizer");
    TCase *t = tcase_create("update");
    tcase_add_test(t, adamw_follows_torch);
    tcase_add_test(t, decay_spares_marked_spans);
    tcase_add_test(t, lion_moves_by_sign);
    tcase_add_test(t, maps_are_those_of_bitsandbytes);
    tcase_add_loop_test(t, codes_are_nearest, 0, 2);
    tcase_add_test(t, adamw8_follows_bitsandbytes);
    tcase_add_test(t, small_spans_stay_float32);
    tcase_add_loop_test(t, threads_change_nothing, 2, 6);
    tcase_add_test(t, norm_sees_what_is_not_finite);
    tcase_add_loop_test(t, no_memory_is_reported, 1, 10);
    suite_add_tcase(s, t);
    t = tcase_create("schedule");
    tcase_add_test(t, cosine_has_its_corners);
    tcase_add_test(t, linear_and_constant);
    tcase_add_test(t, warmup_is_a_share_or_steps);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
