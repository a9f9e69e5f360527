/* check_attention.c - tiled attention against the plain formula in double:
 * forward, logsumexp and all gradients, for lengths 1..130, windows, grouped
 * heads, packed samples, and queries behind cached keys. The plain gradient is
 * itself checked by central differences.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "kernels/gemm.h"
#include "model/attention.h"

#define MOST 260  /* rows */
#define NH 4
#define NK 2
#define ND 10
#define NV 6      /* MLA has values of another size */

static bise_error err;

/* One problem and both answers. */
static struct {
    float q[MOST * NH * ND], k[MOST * NK * ND], v[MOST * NK * NV];
    float o[MOST * NH * NV], lse[MOST * NH], d_o[MOST * NH * NV];
    float dq[MOST * NH * ND], dk[MOST * NK * ND], dv[MOST * NK * NV];
    double wo[MOST * NH * NV], wlse[MOST * NH];
    double wdq[MOST * NH * ND], wdk[MOST * NK * ND], wdv[MOST * NK * NV];
    double p[MOST];
} w;

static void fill(float *x, size_t n, uint64_t stream)
{
    for (size_t i = 0; i < n; i++)
        x[i] = 2 * bise_rng_f32(3, stream, i) - 1;
}

/* Softmax of query row t (position past + t - s) of head h over the keys of
 * its sample that it sees: [*from, *to) counted from s; returns lse. */
static double naive_row(const bise_attn *a, int32_t s, int32_t t, int32_t h,
                        int32_t *from, int32_t *to)
{
    const int32_t pos = a->past + t - s, kh = h / (a->H / a->K);
    double max = -INFINITY, sum = 0;
    *from = a->window && pos >= a->window ? pos - a->window + 1 : 0;
    *to = pos + 1;
    for (int32_t j = *from; j < *to; j++) {
        double dot = 0;
        for (int32_t i = 0; i < ND; i++)
            dot += (double)a->q[t * a->ldq + h * ND + i] *
                   (double)a->k[(s + j) * a->ldk + kh * ND + i];
        w.p[j] = dot * (double)a->alpha;
        max = fmax(max, w.p[j]);
    }
    for (int32_t j = *from; j < *to; j++)
        sum += w.p[j] = exp(w.p[j] - max);
    for (int32_t j = *from; j < *to; j++)
        w.p[j] /= sum;
    return max + log(sum);
}

/* Forward of one sample, and gradients of sum(d_o o) when grads. */
static void naive(const bise_attn *a, int32_t s, int32_t e, bool grads)
{
    for (int32_t t = s; t < e; t++)
        for (int32_t h = 0; h < NH; h++) {
            const int32_t kh = h / (NH / NK);
            int32_t from, to;
            w.wlse[t * NH + h] = naive_row(a, s, t, h, &from, &to);
            double dp[MOST], delta = 0;
            double *o = w.wo + t * NH * NV + h * NV;
            const float *d_o = w.d_o + t * NH * NV + h * NV;
            memset(o, 0, NV * sizeof *o);
            for (int32_t j = from; j < to; j++) {
                const float *v = a->v + (s + j) * a->ldv + kh * NV;
                dp[j] = 0;
                for (int32_t i = 0; i < NV; i++) {
                    o[i] += w.p[j] * (double)v[i];
                    dp[j] += (double)d_o[i] * (double)v[i];
                    if (grads)
                        w.wdv[(s + j) * NK * NV + kh * NV + i] +=
                            w.p[j] * (double)d_o[i];
                }
                delta += w.p[j] * dp[j];
            }
            for (int32_t j = from; grads && j < to; j++) {
                const double ds = w.p[j] * (dp[j] - delta) *
                                  (double)a->alpha;
                for (int32_t i = 0; i < ND; i++) {
                    w.wdq[t * NH * ND + h * ND + i] +=
                        ds * (double)a->k[(s + j) * NK * ND + kh * ND + i];
                    w.wdk[(s + j) * NK * ND + kh * ND + i] +=
                        ds * (double)a->q[t * NH * ND + h * ND + i];
                }
            }
        }
}

static void near_all(const float *got, const double *want, size_t n,
                     const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) < 5e-6))
            ck_abort_msg("%s[%zu]: %.8g, want %.8g", what, i, (double)got[i],
                         want[i]);
}

static bise_attn problem(int32_t window)
{
    return (bise_attn){
        .H = NH, .K = NK, .D = ND, .Dv = NV, .window = window, .alpha = 0.4f,
        .q = w.q, .k = w.k, .v = w.v, .ldq = NH * ND, .ldk = NK * ND,
        .ldv = NK * NV, .ldo = NH * NV, .o = w.o, .lse = w.lse,
    };
}

/* Tiled against naive for samples with these boundaries. */
static void compare(const int32_t *seg, int32_t n_seg, int32_t window,
                    bise_pool *pool)
{
    const int32_t T = seg[n_seg];
    bise_attn_tile tiles[MOST];
    bise_attn a = problem(window);
    const bise_exec e = {
        .pool = pool, .k = bise_kernels_get(),
        .scratch_floats = bise_attn_scratch(NV),
        .scratch = bise_alloc_array((size_t)bise_pool_threads(pool),
                                    bise_attn_scratch(NV) * sizeof(float)),
    };
    a.seg = seg;
    a.n_seg = n_seg;
    a.tiles = tiles;
    a.n_tiles = bise_attn_cut(tiles, seg, n_seg);
    memset(w.wdq, 0, sizeof w.wdq);
    memset(w.wdk, 0, sizeof w.wdk);
    memset(w.wdv, 0, sizeof w.wdv);
    for (int32_t s = 0; s < n_seg; s++)
        naive(&a, seg[s], seg[s + 1], true);
    bise_attn_forward(&e, &a);
    near_all(w.o, w.wo, (size_t)(T * NH * NV), "o");
    near_all(w.lse, w.wlse, (size_t)(T * NH), "lse");
    bise_attn_backward(&e, &a, w.d_o, w.dq, w.dk, w.dv);
    near_all(w.dq, w.wdq, (size_t)(T * NH * ND), "dq");
    near_all(w.dk, w.wdk, (size_t)(T * NK * ND), "dk");
    near_all(w.dv, w.wdv, (size_t)(T * NK * NV), "dv");
    bise_free(e.scratch);
}

static void make_input(void)
{
    bise_gemm_setup();
    fill(w.q, MOST * NH * ND, 1);
    fill(w.k, MOST * NK * ND, 2);
    fill(w.v, MOST * NK * NV, 3);
    fill(w.d_o, MOST * NH * NV, 4);
}

static const int32_t windows[] = { 0, 1, 5, 16, 64, 100, 128 };

START_TEST(every_length_agrees)
{
    make_input();
    for (int32_t n = 1; n <= 130; n++) {
        const bool edge = n < 7 || (n > 61 && n < 68) || n > 126;
        if (!edge && n % 5)
            continue;
        const int32_t seg[] = { 0, n };
        compare(seg, 1, windows[_i], NULL);
    }
}
END_TEST

START_TEST(packed_samples_do_not_see_each_other)
{
    const int32_t seg[] = { 0, 1, 64, 65, 130, 133, MOST };
    bise_pool *pool;
    make_input();
    ck_ok(bise_pool_new(&pool, 3, &err));
    compare(seg, 6, windows[_i], pool);
    bise_pool_free(pool);
}
END_TEST

/* sum(d_o o) of the naive forward with one input value moved. */
static double moved(const bise_attn *a, int32_t n, float *x, float by)
{
    const float keep = *x;
    double sum = 0;
    *x = keep + by;
    naive(a, 0, n, false);
    *x = keep;
    for (int32_t i = 0; i < n * NH * NV; i++)
        sum += (double)w.d_o[i] * w.wo[i];
    return sum;
}

START_TEST(naive_gradient_is_the_derivative)
{
    const int32_t n = 9;
    const float h = 0x1p-9f;    /* exact in float32: the step is what we say */
    make_input();
    const bise_attn a = problem(windows[_i]);
    memset(w.wdq, 0, sizeof w.wdq);
    memset(w.wdk, 0, sizeof w.wdk);
    memset(w.wdv, 0, sizeof w.wdv);
    naive(&a, 0, n, true);
    const struct { float *x; const double *dx; int32_t n; } in[] = {
        { w.q, w.wdq, n * NH * ND }, { w.k, w.wdk, n * NK * ND },
        { w.v, w.wdv, n * NK * NV },
    };
    for (int i = 0; i < 3; i++)
        for (int32_t j = 0; j < in[i].n; j += 7) {
            const double up = moved(&a, n, in[i].x + j, h);
            const double down = moved(&a, n, in[i].x + j, -h);
            ck_assert_double_eq_tol((up - down) / (2 * (double)h),
                                    in[i].dx[j], 2e-5);
        }
}
END_TEST

START_TEST(queries_continue_cached_keys)
{
    /* Rows 200..(200 + n) of one sample, as a graph decodes them. */
    const bise_exec e = {
        .k = bise_kernels_get(), .scratch_floats = bise_attn_scratch(NV),
        .scratch = bise_alloc_array(bise_attn_scratch(NV), sizeof(float)),
    };
    make_input();
    for (int32_t n = 1; n < 60; n += 13) {
        const int32_t past = 200, seg[] = { 0, n };
        bise_attn_tile tiles[MOST];
        bise_attn a = problem(windows[_i]), whole = a;
        naive(&whole, 0, past + n, false);
        a.q = w.q + past * NH * ND;
        a.past = past;
        a.seg = seg;
        a.n_seg = 1;
        a.tiles = tiles;
        a.n_tiles = bise_attn_cut(tiles, seg, 1);
        a.lse = NULL;
        bise_attn_forward(&e, &a);
        near_all(w.o, w.wo + past * NH * NV, (size_t)(n * NH * NV), "o");
    }
    bise_free(e.scratch);
}
END_TEST

static Suite *suite(void)
{
    const int n = sizeof windows / sizeof *windows;
    Suite *s = suite_create("attention");
    TCase *t = tcase_create("attention");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_length_agrees, 0, n);
    tcase_add_loop_test(t, packed_samples_do_not_see_each_other, 0, n);
    tcase_add_loop_test(t, naive_gradient_is_the_derivative, 0, n);
    tcase_add_loop_test(t, queries_continue_cached_keys, 0, n);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
