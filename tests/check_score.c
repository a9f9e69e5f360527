/* check_score.c - window rules on counts and on a real model, and divergence
 * against formulas in double over full logits.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "model/score.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/models/"
#define N 61

static bise_error err;
static bise_checkpoint c1, c2;
static bise_graph *g1, *g2;
static int32_t ids[N];

static void open_models(void)
{
    const bise_graph_options o = { .max_tokens = 64 };
    ck_ok(bise_checkpoint_open(&c1, GOLDEN "ministral3", NULL, &err));
    ck_ok(bise_checkpoint_open(&c2, GOLDEN "ministral3-tied", NULL, &err));
    ck_ok(bise_graph_new(&g1, &c1, &o, &err));
    ck_ok(bise_graph_new(&g2, &c2, &o, &err));
    for (int i = 0; i < N; i++)
        ids[i] = (int32_t)bise_rng_below(1, 2, (uint64_t)i, 160);
}

static void close_models(void)
{
    bise_graph_free(g1);
    bise_graph_free(g2);
    bise_checkpoint_close(&c1);
    bise_checkpoint_close(&c2);
}

static bise_score_result score(bise_graph *base, bise_window_options o,
                               size_t n)
{
    bise_score *s;
    bise_score_result r;
    ck_ok(bise_score_new(&s, g1, base, c1.config.V, NULL, &err));
    ck_ok(bise_score_text(s, ids, n, &o, &err));
    bise_score_get(s, &r);
    ck_assert_uint_eq(r.windows, bise_score_windows(n, &o));
    bise_score_free(s);
    return r;
}

/* Log probabilities [V] after ids[0..n) with first in front (or not: -1). */
static double *log_probs(bise_graph *g, int32_t first, const int32_t *text,
                         int32_t n)
{
    static double lp[160];
    int32_t in[64], T = 0;
    float z[160];
    if (first >= 0)
        in[T++] = first;
    for (int32_t i = 0; i < n; i++)
        in[T++] = text[i];
    const int32_t seg[] = { 0, T }, last = T - 1;
    const bise_batch b = { .ids = in, .seg = seg, .T = T, .n_seg = 1 };
    double sum = 0;
    ck_ok(bise_graph_forward(g, &b, &err));
    ck_ok(bise_graph_logits(g, &last, 1, z, &err));
    for (int i = 0; i < 160; i++)
        sum += exp((double)z[i]);
    for (int i = 0; i < 160; i++)
        lp[i] = (double)z[i] - log(sum);
    return lp;
}

START_TEST(windows_are_counted_as_documented)
{
    const bise_window_options plain = { .ctx = 10, .bos = 1 };
    const bise_window_options no_bos = { .ctx = 10, .bos = -1 };
    const bise_window_options halves = { .rule = BISE_WINDOWS_HALVES,
                                         .ctx = 10, .bos = 1 };
    const bise_window_options few = { .ctx = 10, .bos = 1, .chunks = 2 };
    open_models();
    /* 61 ids in steps of 9: starts 0, 9, ..., 54 */
    ck_assert_uint_eq(bise_score_windows(N, &plain), 7);
    ck_assert_uint_eq(score(NULL, plain, N).tokens, N);
    /* a last window of one id is left out, as engine.py does */
    ck_assert_uint_eq(bise_score_windows(55, &plain), 6);
    ck_assert_uint_eq(score(NULL, plain, 55).tokens, 54);
    /* steps of 10, the first id of each is not scored; the 7th has one id */
    ck_assert_uint_eq(score(NULL, no_bos, N).tokens, 6 * 9);
    /* six whole windows, of each the last ctx - 1 - ctx/2 predictions */
    ck_assert_uint_eq(score(NULL, halves, N).tokens, 6 * 4);
    ck_assert_uint_eq(score(NULL, few, N).tokens, 18);
    close_models();
}
END_TEST

START_TEST(plain_loss_is_the_mean_of_single_predictions)
{
    open_models();
    const bise_window_options o = { .ctx = 8, .bos = 1 };
    double want = 0;
    for (int i = 0; i < N; i++) {
        const int32_t start = i / 7 * 7;
        want -= log_probs(g1, 1, ids + start, i - start)[ids[i]];
    }
    ck_assert_double_eq_tol(score(NULL, o, N).nll, want / N, 1e-5);
    close_models();
}
END_TEST

START_TEST(halves_score_the_second_half_after_bos)
{
    open_models();
    const bise_window_options o = { .rule = BISE_WINDOWS_HALVES, .ctx = 8,
                                    .bos = 1 };
    double want = 0;
    for (int c = 0; c < N / 8; c++)
        for (int p = 4; p < 7; p++)     /* BOS stands for the first id */
            want -= log_probs(g1, 1, ids + 8 * c + 1, p)[ids[8 * c + p + 1]];
    ck_assert_double_eq_tol(score(NULL, o, N).nll, want / (N / 8 * 3), 1e-5);
    close_models();
}
END_TEST

START_TEST(stride_gives_every_id_context)
{
    open_models();
    const bise_window_options o = { .ctx = 16, .stride = 3, .bos = 1 };
    const bise_score_result r = score(NULL, o, N);
    ck_assert_uint_eq(r.tokens, N);
    double want = 0;
    for (int i = 0; i < N; i++) {
        const int32_t end = i / 3 * 3 + 3 < N ? i / 3 * 3 + 3 : N;
        const int32_t start = end > 15 ? end - 15 : 0;
        want -= log_probs(g1, 1, ids + start, i - start)[ids[i]];
    }
    ck_assert_double_eq_tol(r.nll, want / N, 1e-5);
    close_models();
}
END_TEST

START_TEST(divergence_is_the_formula)
{
    open_models();
    const bise_window_options o = { .ctx = 64, .bos = 1 };
    double kld = 0, most = 0, base_nll = 0, dp = 0;
    int same = 0;
    for (int i = 0; i < N; i++) {
        double p[160], one = 0;
        const double *q = log_probs(g2, 1, ids, i);
        memcpy(p, q, sizeof p);
        q = log_probs(g1, 1, ids, i);
        int top_p = 0, top_q = 0;
        for (int v = 0; v < 160; v++) {
            one += exp(p[v]) * (p[v] - q[v]);
            top_p = p[v] > p[top_p] ? v : top_p;
            top_q = q[v] > q[top_q] ? v : top_q;
        }
        kld += one;
        most = fmax(most, one);
        base_nll -= p[ids[i]];
        dp += exp(q[ids[i]]) - exp(p[ids[i]]);
        same += top_p == top_q;
    }
    const bise_score_result r = score(g2, o, N);
    ck_assert_double_eq_tol(r.kld_mean, kld / N, 1e-5);
    ck_assert_double_eq_tol(r.kld_q[BISE_Q_MAX], most, 1e-5);
    ck_assert_double_eq_tol(r.base_nll, base_nll / N, 1e-5);
    ck_assert_double_eq_tol(r.dp_mean, dp / N, 1e-6);
    ck_assert_double_eq_tol(r.same_top, (double)same / N, 1e-9);
    for (int i = 1; i < BISE_Q_COUNT; i++)
        ck_assert(r.kld_q[i - 1] <= r.kld_q[i]);
    close_models();
}
END_TEST

/* Value by value over the N ids in one window from BOS. */
typedef struct by_token {
    double q[N], p[N], kld[N], dp[N]; /* q, p: negative log-likelihoods */
    int same;
} by_token;

static void score_by_token(by_token *b)
{
    *b = (by_token){ 0 };
    for (int i = 0; i < N; i++) {
        double p[160];
        int top_p = 0, top_q = 0;
        memcpy(p, log_probs(g2, 1, ids, i), sizeof p);
        const double *q = log_probs(g1, 1, ids, i);
        for (int v = 0; v < 160; v++) {
            b->kld[i] += exp(p[v]) * (p[v] - q[v]);
            top_p = p[v] > p[top_p] ? v : top_p;
            top_q = q[v] > q[top_q] ? v : top_q;
        }
        b->q[i] = -q[ids[i]];
        b->p[i] = -p[ids[i]];
        b->dp[i] = exp(q[ids[i]]) - exp(p[ids[i]]);
        b->same += top_p == top_q;
    }
}

static double mean_of(const double *x)
{
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += x[i];
    return sum / N;
}

/* Covariance of the means of x and y: deviations, not sums of products. */
static double cov_of(const double *x, const double *y)
{
    const double mx = mean_of(x), my = mean_of(y);
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += (x[i] - mx) * (y[i] - my);
    return sum / N / (N - 1);
}

/* The share f of the way through the values in ascending order: the value
 * that has exactly k smaller ones (or equal ones before it) stands at k. */
static double quantile_of(const double *x, double f)
{
    double at[N] = { 0 };
    for (int i = 0; i < N; i++) {
        int k = 0;
        for (int j = 0; j < N; j++)
            k += x[j] < x[i] || (j < i && !(x[i] < x[j]));
        at[k] = x[i];
    }
    const double place = f * (N - 1);
    const int low = (int)floor(place), high = (int)ceil(place);
    return at[low] + (place - low) * (at[high] - at[low]);
}

START_TEST(ratio_of_perplexities_has_an_error_with_covariance)
{
    static by_token b;
    double diff[N], shift[N];
    open_models();
    score_by_token(&b);
    const bise_window_options o = { .ctx = 64, .bos = 1 };
    const bise_score_result r = score(g2, o, N);
    const double ppl = exp(mean_of(b.q)), base = exp(mean_of(b.p));
    for (int i = 0; i < N; i++) {
        diff[i] = b.q[i] - b.p[i];
        shift[i] = ppl * b.q[i] - base * b.p[i];
    }
    /* var(x - y) is what var x + var y - 2 cov is */
    ck_assert_double_eq_tol(r.ln_ratio_error, sqrt(cov_of(diff, diff)), 1e-5);
    ck_assert_double_eq_tol(r.ppl_diff_error / sqrt(cov_of(shift, shift)), 1,
                            1e-4);
    ck_assert_double_eq_tol(r.nll_error, sqrt(cov_of(b.q, b.q)), 1e-5);
    ck_assert_double_eq_tol(r.base_nll_error, sqrt(cov_of(b.p, b.p)), 1e-5);
    ck_assert_double_eq_tol(r.nll_correlation, cov_of(b.q, b.p) /
                            sqrt(cov_of(b.q, b.q) * cov_of(b.p, b.p)), 1e-5);
    ck_assert(fabs(r.nll_correlation) < 0.999 && r.ln_ratio_error > 0);
    close_models();
}
END_TEST

START_TEST(quantiles_are_between_ordered_values)
{
    static const double shares[] = { 0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5,
                                     0.75, 0.9, 0.95, 0.99, 0.999, 1 };
    static by_token b;
    double squares[N];
    open_models();
    score_by_token(&b);
    const bise_window_options o = { .ctx = 64, .bos = 1 };
    const bise_score_result r = score(g2, o, N);
    for (int i = 0; i < BISE_Q_COUNT; i++) {
        ck_assert_double_eq(bise_score_quantiles[i], shares[i]);
        ck_assert_double_eq_tol(r.kld_q[i], quantile_of(b.kld, shares[i]),
                                1e-5);
        ck_assert_double_eq_tol(r.dp_q[i], quantile_of(b.dp, shares[i]),
                                1e-6);
    }
    for (int i = 0; i < N; i++)
        squares[i] = b.dp[i] * b.dp[i];
    const double rms = sqrt(mean_of(squares)), same = (double)b.same / N;
    ck_assert_double_eq_tol(r.kld_error, sqrt(cov_of(b.kld, b.kld)), 1e-5);
    ck_assert_double_eq_tol(r.dp_error, sqrt(cov_of(b.dp, b.dp)), 1e-6);
    ck_assert_double_eq_tol(r.dp_rms, rms, 1e-6);
    ck_assert_double_eq_tol(r.dp_rms_error, sqrt(cov_of(squares, squares)) /
                            (2 * rms), 1e-6);
    ck_assert_double_eq_tol(r.same_top_error,
                            sqrt(same * (1 - same) / (N - 1)), 1e-12);
    close_models();
}
END_TEST

START_TEST(a_model_does_not_differ_from_itself)
{
    open_models();
    const bise_window_options o = { .ctx = 32, .bos = 1 };
    const bise_score_result r = score(g1, o, N);
    ck_assert_double_eq_tol(r.kld_q[BISE_Q_MAX], 0, 1e-9);
    ck_assert_double_eq(r.same_top, 1);
    ck_assert_double_eq(r.nll, r.base_nll);
    ck_assert_double_eq_tol(r.nll_correlation, 1, 1e-12);
    ck_assert_double_eq(r.ln_ratio_error, 0);
    ck_assert_double_eq_tol(r.ppl_diff_error, 0, 1e-9);
    ck_assert_double_eq(r.dp_q[BISE_Q_MIN], 0);
    ck_assert_double_eq(r.dp_q[BISE_Q_MAX], 0);
    ck_assert(r.dp_rms == 0 && r.dp_rms_error == 0);
    close_models();
}
END_TEST

START_TEST(texts_add_up)
{
    open_models();
    const bise_window_options o = { .ctx = 16, .bos = 1 };
    bise_score *s;
    bise_score_result a, b, both;
    ck_ok(bise_score_new(&s, g1, g2, c1.config.V, NULL, &err));
    ck_ok(bise_score_text(s, ids, 30, &o, &err));
    bise_score_get(s, &a);
    ck_ok(bise_score_text(s, ids + 30, N - 30, &o, &err));
    bise_score_get(s, &both);
    bise_score_free(s);
    ck_ok(bise_score_new(&s, g1, g2, c1.config.V, NULL, &err));
    ck_ok(bise_score_text(s, ids + 30, N - 30, &o, &err));
    bise_score_get(s, &b);
    bise_score_free(s);
    const double na = (double)a.tokens, nb = (double)b.tokens;
    ck_assert_uint_eq(both.tokens, a.tokens + b.tokens);
    ck_assert_double_eq_tol(both.nll * (na + nb), a.nll * na + b.nll * nb,
                            1e-9);
    ck_assert_double_eq_tol(both.kld_mean * (na + nb),
                            a.kld_mean * na + b.kld_mean * nb, 1e-9);
    ck_assert(both.kld_q[BISE_Q_MAX] ==
              fmax(a.kld_q[BISE_Q_MAX], b.kld_q[BISE_Q_MAX]));
    ck_assert(both.nll_error > 0 && both.nll_error < both.nll);
    close_models();
}
END_TEST

START_TEST(batches_score_their_targets_only)
{
    open_models();
    bise_score *s;
    bise_score_result r;
    int32_t targets[N];
    float nll[N];
    double sum = 0;
    const int32_t seg[] = { 0, 5, 6, 33, N };
    for (int i = 0; i < N; i++)
        targets[i] = i % 4 == 2 ? ids[(i * 7) % N] : -1;
    bise_batch b = { .ids = ids, .targets = targets, .seg = seg, .T = N,
                     .n_seg = 4 };
    ck_ok(bise_score_new(&s, g1, NULL, c1.config.V, NULL, &err));
    ck_ok(bise_score_batch(s, &b, &err));
    bise_score_get(s, &r);
    ck_ok(bise_graph_loss(g1, &b, &sum, nll, &err));
    ck_assert_uint_eq(r.tokens, 15);
    ck_assert_uint_eq(r.windows, 1);
    ck_assert_double_eq_tol(r.nll * 15, sum, 1e-6);
    targets[2] = c1.config.V;
    ck_fails(bise_score_batch(s, &b, &err), BISE_EINVAL);
    bise_score_free(s);
    close_models();
}
END_TEST

START_TEST(threads_do_not_change_a_score)
{
    const bise_window_options o = { .ctx = 30, .bos = 1 };
    bise_score_result one, r;
    open_models();
    one = score(g2, o, N);
    for (int threads = 2; threads <= 5; threads += 3) {
        bise_pool *pool;
        bise_score *s;
        ck_ok(bise_pool_new(&pool, threads, &err));
        ck_ok(bise_score_new(&s, g1, g2, c1.config.V, pool, &err));
        ck_ok(bise_score_text(s, ids, N, &o, &err));
        bise_score_get(s, &r);
        ck_assert(r.nll == one.nll && r.kld_mean == one.kld_mean);
        ck_assert(memcmp(r.kld_q, one.kld_q, sizeof r.kld_q) == 0);
        ck_assert(memcmp(r.dp_q, one.dp_q, sizeof r.dp_q) == 0);
        ck_assert(r.ln_ratio_error == one.ln_ratio_error);
        ck_assert(r.dp_rms == one.dp_rms);
        bise_score_free(s);
        bise_pool_free(pool);
    }
    close_models();
}
END_TEST

START_TEST(nothing_scored_is_no_number)
{
    bise_score *s;
    bise_score_result r;
    open_models();
    ck_ok(bise_score_new(&s, g1, NULL, c1.config.V, NULL, &err));
    bise_score_get(s, &r);
    ck_assert(r.tokens == 0 && r.nll == 0 && r.kld_mean == 0);
    bise_score_free(s);
    bise_score_free(NULL);
    close_models();
}
END_TEST

START_TEST(too_little_text_is_an_error)
{
    open_models();
    bise_score *s;
    const bise_window_options halves = { .rule = BISE_WINDOWS_HALVES,
                                         .ctx = 62, .bos = 1 };
    const bise_window_options tiny = { .ctx = 1, .bos = -1 };
    ck_ok(bise_score_new(&s, g1, NULL, c1.config.V, NULL, &err));
    ck_fails(bise_score_text(s, ids, N, &halves, &err), BISE_EFORMAT);
    ck_fails(bise_score_text(s, ids, N, &tiny, &err), BISE_EINVAL);
    bise_score_free(s);
    close_models();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("score");
    TCase *t = tcase_create("score");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, windows_are_counted_as_documented);
    tcase_add_test(t, plain_loss_is_the_mean_of_single_predictions);
    tcase_add_test(t, halves_score_the_second_half_after_bos);
    tcase_add_test(t, stride_gives_every_id_context);
    tcase_add_test(t, divergence_is_the_formula);
    tcase_add_test(t, ratio_of_perplexities_has_an_error_with_covariance);
    tcase_add_test(t, quantiles_are_between_ordered_values);
    tcase_add_test(t, a_model_does_not_differ_from_itself);
    tcase_add_test(t, texts_add_up);
    tcase_add_test(t, batches_score_their_targets_only);
    tcase_add_test(t, threads_do_not_change_a_score);
    tcase_add_test(t, nothing_scored_is_no_number);
    tcase_add_test(t, too_little_text_is_an_error);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
