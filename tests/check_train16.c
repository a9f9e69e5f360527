/* check_train16.c - what a trainer relies on when activations are stored as
 * bf16: packed samples do not see each other, gradients add up over calls, the
 * loss of training is that of scoring, a frozen adapter below changes the
 * values but takes no gradient, leaving out lower layers changes nothing above,
 * more memory keeps more, and the parts of a step's time are its time.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "core/rng.h"
#include "model/graph.h"

#define ROWS 96

static bise_error err;

/* A golden model with one new adapter, and random ids to train on. */
static struct {
    bise_checkpoint c;
    bise_lora l, frozen;
    bise_lora *list[2];
    int32_t n_list;
    int32_t ids[ROWS], targets[ROWS];
} w;

/* B of a new adapter is zero; give it values so that A has gradients too. */
static void move(bise_lora *l, uint64_t stream)
{
    for (size_t i = 0; i < l->n_values; i++)
        if (l->values[i] == 0)
            l->values[i] = (bise_rng_f32(11, stream, i) - 0.5f) * 0.2f;
}

static void set_up(void)
{
    const bise_lora_options o = { .r = 4, .alpha = 8, .target = "all-linear" };
    memset(&w, 0, sizeof w);
    ck_ok(bise_checkpoint_open(&w.c, BISE_SRCDIR
                               "/tests/golden/models/ministral3", NULL, &err));
    ck_ok(bise_lora_new(&w.l, &w.c.config, &o, true, &err));
    ck_ok(bise_lora_new(&w.frozen, &w.c.config, &o, false, &err));
    move(&w.l, 1);
    move(&w.frozen, 2);
    w.list[0] = &w.l;
    w.n_list = 1;
    for (int32_t i = 0; i < ROWS; i++) {
        w.ids[i] = (int32_t)bise_rng_below(11, 3, (uint64_t)i,
                                           (uint64_t)w.c.config.V);
        w.targets[i] = (int32_t)bise_rng_below(11, 4, (uint64_t)i,
                                               (uint64_t)w.c.config.V);
    }
}

static void tear_down(void)
{
    bise_lora_fini(&w.frozen);
    bise_lora_fini(&w.l);
    bise_checkpoint_close(&w.c);
}

static bise_graph_options options(void)
{
    return (bise_graph_options){
        .max_tokens = ROWS, .train = true, .loras = w.list,
        .n_loras = w.n_list, .compute = BISE_COMPUTE_BF16,
        .checkpointing = BISE_CKPT_OFF,
    };
}

static bise_graph *graph(void)
{
    bise_graph *g = NULL;
    const bise_graph_options o = options();
    ck_ok(bise_graph_new(&g, &w.c, &o, &err));
    return g;
}

/* Train on rows [from, to) as samples cut at at (0 = one sample); gradients
 * start at zero unless more. Returns the loss. */
static double train(bise_graph *g, int32_t from, int32_t to, int32_t at,
                    bool more)
{
    const int32_t seg[] = { 0, at ? at - from : to - from, to - from };
    const bise_batch b = { .ids = w.ids + from, .targets = w.targets + from,
                           .seg = seg, .T = to - from, .n_seg = at ? 2 : 1 };
    double sum = 0;
    if (!more)
        memset(w.l.grads, 0, w.l.n_values * sizeof *w.l.grads);
    ck_ok(bise_graph_train(g, &b, &sum, &err));
    return sum;
}

static float *copy_grads(void)
{
    float *p = bise_alloc_array(w.l.n_values, sizeof *p);
    memcpy(p, w.l.grads, w.l.n_values * sizeof *p);
    return p;
}

/* Norm of a - b relative to that of b. */
static double distance(const float *a, const float *b, size_t n)
{
    double d = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return sqrt(d / norm);
}

START_TEST(packed_samples_equal_separate_ones)
{
    bise_graph *g = graph();
    const double packed = train(g, 0, ROWS, 37, false);
    float *want = copy_grads();
    double apart = train(g, 0, 37, 0, false);
    apart += train(g, 37, ROWS, 0, true);
    ck_assert_double_eq_tol(packed, apart, 1e-4 * packed);
    /* Adapters' gradients are sums over tokens in another grouping. */
    ck_assert_double_lt(distance(w.l.grads, want, w.l.n_values), 1e-3);
    bise_free(want);
    bise_graph_free(g);
}
END_TEST

START_TEST(gradients_add_over_calls)
{
    bise_graph *g = graph();
    train(g, 0, 60, 0, false);
    float *once = copy_grads();
    train(g, 0, 60, 0, true);
    for (size_t i = 0; i < w.l.n_values; i++)
        ck_assert_double_eq_tol((double)w.l.grads[i], 2.0 * (double)once[i],
                                1e-5 + 1e-4 * fabs((double)once[i]));
    bise_free(once);
    bise_graph_free(g);
}
END_TEST

START_TEST(training_and_scoring_have_one_loss)
{
    bise_graph *g = graph();
    const int32_t seg[] = { 0, 50, ROWS };
    const bise_batch b = { .ids = w.ids, .targets = w.targets, .seg = seg,
                           .T = ROWS, .n_seg = 2 };
    float nll[ROWS];
    double train_sum = 0, score_sum = 0, rows = 0;
    ck_ok(bise_graph_loss(g, &b, &score_sum, nll, &err));
    ck_ok(bise_graph_train(g, &b, &train_sum, &err));
    for (int32_t t = 0; t < ROWS; t++)
        rows += (double)nll[t];
    ck_assert_double_eq_tol(train_sum, score_sum, 1e-4);
    ck_assert_double_eq_tol(rows, score_sum, 1e-3);
    bise_graph_free(g);
}
END_TEST

START_TEST(weights_scale_losses_and_gradients)
{
    bise_graph *g = graph();
    const int32_t seg[] = { 0, ROWS };
    float weights[ROWS];
    double sum = 0;
    const double plain = train(g, 0, ROWS, 0, false);
    float *want = copy_grads();
    for (int32_t t = 0; t < ROWS; t++)
        weights[t] = 0.5f;
    const bise_batch b = { .ids = w.ids, .targets = w.targets, .seg = seg,
                           .T = ROWS, .n_seg = 1, .weights = weights };
    memset(w.l.grads, 0, w.l.n_values * sizeof *w.l.grads);
    ck_ok(bise_graph_train(g, &b, &sum, &err));
    ck_assert_double_eq_tol(sum, plain / 2, 1e-4 * plain);
    for (size_t i = 0; i < w.l.n_values; i++) /* halves are exact */
        ck_assert(w.l.grads[i] * 2 == want[i]);
    bise_free(want);
    bise_graph_free(g);
}
END_TEST

START_TEST(a_frozen_adapter_counts_but_does_not_learn)
{
    bise_graph *g = graph();
    const double alone = train(g, 0, ROWS, 0, false);
    float *before = copy_grads();
    bise_graph_free(g);
    /* The frozen one first: the trained one is the second on each linear. */
    w.list[0] = &w.frozen;
    w.list[1] = &w.l;
    w.n_list = 2;
    g = graph();
    const double both = train(g, 0, ROWS, 0, false);
    ck_assert_double_gt(fabs(both - alone), 1e-3);
    ck_assert_ptr_null(w.frozen.grads);
    /* The same through float32. */
    float *got = copy_grads();
    bise_graph_free(g);
    bise_graph_options o = options();
    o.compute = BISE_COMPUTE_F32;
    ck_ok(bise_graph_new(&g, &w.c, &o, &err));
    const double exact = train(g, 0, ROWS, 0, false);
    ck_assert_double_eq_tol(both, exact, 2e-3 * exact);
    ck_assert_double_lt(distance(got, w.l.grads, w.l.n_values), 0.05);
    ck_assert_double_gt(distance(before, w.l.grads, w.l.n_values), 0.01);
    bise_free(before);
    bise_free(got);
    bise_graph_free(g);
}
END_TEST

START_TEST(lower_layers_left_out_change_nothing_above)
{
    bise_graph *g = graph();
    bise_lora part = { 0 };
    const bise_lora_options o = { .r = 4, .alpha = 8, .target = "all-linear",
                                  .layers_from = w.c.config.L - 1 };
    ck_ok(bise_lora_new(&part, &w.c.config, &o, true, &err));
    /* Only the last layer carries values, in both. */
    for (size_t i = 0; i < w.l.n; i++) {
        const bise_lora_module *m = &w.l.modules[i];
        const bise_lora_module *p = bise_lora_find(&part, m->role);
        const size_t na = (size_t)m->r * (size_t)m->in;
        const size_t nb = (size_t)m->r * (size_t)m->out;
        if (!p) {
            memset(m->b, 0, nb * sizeof *m->b);
            continue;
        }
        memcpy(p->a, m->a, na * sizeof *p->a);
        memcpy(p->b, m->b, nb * sizeof *p->b);
    }
    const double whole = train(g, 0, ROWS, 0, false);
    bise_graph_free(g);
    bise_lora *list[] = { &part };
    bise_graph_options go = options();
    go.loras = list;
    ck_ok(bise_graph_new(&g, &w.c, &go, &err));
    /* more: the gradients of the first run must stay to be compared. */
    ck_assert_double_eq_tol(train(g, 0, ROWS, 0, true), whole, 1e-9 * whole);
    for (size_t i = 0; i < part.n; i++) {
        const bise_lora_module *p = &part.modules[i];
        const bise_lora_module *m = bise_lora_find(&w.l, p->role);
        ck_assert_mem_eq(p->da, m->da, (size_t)p->r * (size_t)p->in *
                                           sizeof *p->da);
        ck_assert_mem_eq(p->db, m->db, (size_t)p->r * (size_t)p->out *
                                           sizeof *p->db);
    }
    bise_graph_free(g);
    bise_lora_fini(&part);
}
END_TEST

START_TEST(more_memory_keeps_more)
{
    bise_graph_options o = options();
    uint64_t all, none, last = 0;
    ck_ok(bise_graph_plan(&all, &w.c, &o, &err));
    o.checkpointing = BISE_CKPT_ON;
    ck_ok(bise_graph_plan(&none, &w.c, &o, &err));
    ck_assert_uint_lt(none, all);
    o.checkpointing = BISE_CKPT_AUTO;
    for (int i = 0; i <= 8; i++) {
        uint64_t now;
        o.memory_bytes = none + (all - none) * (uint64_t)i / 8;
        ck_ok(bise_graph_plan(&now, &w.c, &o, &err));
        ck_assert_uint_le(now, o.memory_bytes);
        ck_assert_uint_ge(now, last);
        last = now;
    }
    ck_assert_uint_eq(last, all);
}
END_TEST

/* In float32 the thin products of adapters are among the products. */
START_TEST(parts_of_a_step_are_its_time)
{
    bise_graph_options o = options();
    o.compute = _i ? BISE_COMPUTE_F32 : BISE_COMPUTE_BF16;
    bise_graph *g = NULL;
    ck_ok(bise_graph_new(&g, &w.c, &o, &err));
    const uint64_t start = bise_clock_ns();
    double sum = 0;
    for (int i = 0; i < 5; i++)
        train(g, 0, ROWS, 0, false);
    const double all = (double)(bise_clock_ns() - start) * 1e-9;
    for (int i = 0; i < BISE_STEP_PARTS; i++) {
        if (_i && i == BISE_STEP_ADAPTERS)
            ck_assert_double_eq(bise_graph_seconds(g)[i], 0);
        else
            ck_assert_double_gt(bise_graph_seconds(g)[i], 0);
        sum += bise_graph_seconds(g)[i];
    }
    ck_assert_double_le(sum, all);
    bise_graph_free(g);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("train16");
    TCase *t = tcase_create("train16");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, packed_samples_equal_separate_ones);
    tcase_add_test(t, gradients_add_over_calls);
    tcase_add_test(t, training_and_scoring_have_one_loss);
    tcase_add_test(t, weights_scale_losses_and_gradients);
    tcase_add_test(t, a_frozen_adapter_counts_but_does_not_learn);
    tcase_add_test(t, lower_layers_left_out_change_nothing_above);
    tcase_add_test(t, more_memory_keeps_more);
    tcase_add_loop_test(t, parts_of_a_step_are_its_time, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
