/* check_loss.c - cross entropy through the graph: single values, weights of
 * any sign, additivity over calls, gradients against central differences of
 * the whole model, and what is refused.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "model/graph.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/models/"
#define LEN 40
#define VOC 160

static bise_error err;
static bise_checkpoint c;
static bise_lora lora;
static bise_graph *g;
static int32_t ids[LEN], targets[LEN];
static float weights[LEN];

/* A graph that trains a fresh adapter (B is not zero) on the golden model. */
static void open_all(const char *model, const char *target, bool dora)
{
    char path[512];
    bise_lora *list[] = { &lora };
    snprintf(path, sizeof path, GOLDEN "%s", model);
    ck_ok(bise_checkpoint_open(&c, path, NULL, &err));
    const bise_lora_options lo = { .r = 3, .alpha = 6, .target = target,
                                   .seed = 4, .dora = dora };
    ck_ok(bise_lora_new(&lora, &c.config, &lo, true, &err));
    for (size_t i = 0; i < lora.n; i++) {
        const bise_lora_module *m = &lora.modules[i];
        for (int32_t k = 0; k < m->out * m->r; k++)
            m->b[k] = 0.3f * (2 * bise_rng_f32(5, i, (uint64_t)k) - 1);
        for (int32_t k = 0; m->magnitude && k < m->out; k++)
            m->magnitude[k] = 0.2f + bise_rng_f32(6, i, (uint64_t)k);
    }
    const bise_graph_options o = { .max_tokens = LEN, .train = true,
                                   .loras = list, .n_loras = 1 };
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    for (int t = 0; t < LEN; t++) {
        ids[t] = (int32_t)bise_rng_below(7, 1, (uint64_t)t, VOC);
        targets[t] = t % 3 == 1 ? -1 :
                                  (int32_t)bise_rng_below(7, 2, (uint64_t)t,
                                                          VOC);
        weights[t] = 2 * bise_rng_f32(7, 3, (uint64_t)t) - 0.5f;
    }
}

static void close_all(void)
{
    bise_graph_free(g);
    bise_lora_fini(&lora);
    bise_checkpoint_close(&c);
}

static const int32_t one_sample[] = { 0, LEN };

static bise_batch batch(const float *w)
{
    return (bise_batch){ .ids = ids, .seg = one_sample, .T = LEN, .n_seg = 1,
                         .targets = targets, .weights = w };
}

START_TEST(values_are_the_log_likelihoods)
{
    float nll[LEN], z[LEN * VOC];
    int32_t rows[LEN];
    double sum = 0, want = 0;
    open_all("ministral3", "all-linear", false);
    const bise_batch b = batch(NULL);
    ck_ok(bise_graph_loss(g, &b, &sum, nll, &err));
    for (int t = 0; t < LEN; t++)
        rows[t] = t;
    ck_ok(bise_graph_logits(g, rows, LEN, z, &err));
    for (int t = 0; t < LEN; t++) {
        double e = 0;
        for (int v = 0; v < VOC; v++)
            e += exp((double)z[t * VOC + v]);
        const double one = targets[t] < 0 ? 0 : log(e) -
                                   (double)z[t * VOC + targets[t]];
        ck_assert_double_eq_tol((double)nll[t], one, 2e-6);
        want += one;
    }
    ck_assert_double_eq_tol(sum, want, 1e-5);
    close_all();
}
END_TEST

START_TEST(weights_scale_values_not_the_report)
{
    float nll[LEN];
    double sum = 0, want = 0;
    open_all("ministral3", "all-linear", false);
    const bise_batch b = batch(weights);
    ck_ok(bise_graph_loss(g, &b, &sum, nll, &err));
    for (int t = 0; t < LEN; t++)
        want += (double)weights[t] * (double)nll[t];
    ck_assert_double_eq_tol(sum, want, 1e-5);
    close_all();
}
END_TEST

START_TEST(sums_are_added_to)
{
    double sum = 100, once = 0;
    open_all("ministral3", "q_proj,v_proj", false);
    const bise_batch b = batch(NULL);
    ck_ok(bise_graph_loss(g, &b, &once, NULL, &err));
    ck_ok(bise_graph_loss(g, &b, &sum, NULL, &err));
    ck_assert_double_eq_tol(sum, 100 + once, 1e-9);
    /* Gradients of two calls add, too. */
    double s = 0;
    ck_ok(bise_graph_train(g, &b, &s, &err));
    float *first = bise_alloc_array(lora.n_values, sizeof *first);
    memcpy(first, lora.grads, lora.n_values * sizeof *first);
    ck_ok(bise_graph_train(g, &b, &s, &err));
    for (size_t i = 0; i < lora.n_values; i++)
        if (fabs((double)lora.grads[i] - 2 * (double)first[i]) >
            1e-5 * (1 + fabs((double)first[i])))
            ck_abort_msg("gradient %zu: %g after %g", i,
                         (double)lora.grads[i], (double)first[i]);
    ck_assert_double_eq_tol(s, 2 * once, 1e-4);
    bise_free(first);
    close_all();
}
END_TEST

/* The loss as a function of the adapter's values. */
static double loss_now(const bise_batch *b)
{
    double sum = 0;
    ck_ok(bise_graph_loss(g, b, &sum, NULL, &err));
    return sum;
}

/* Which values the graph's gradient is the full derivative of: with DoRA the
 * row norms count as constants, so only the magnitudes. */
static bool differentiable(size_t i)
{
    if (!lora.dora)
        return true;
    for (size_t k = 0; k < lora.n; k++) {
        const float *m = lora.modules[k].magnitude;
        if (lora.values + i >= m && lora.values + i < m + lora.modules[k].out)
            return true;
    }
    return false;
}

/* A sample of the values against central differences. */
static void check_derivatives(const bise_batch *b, size_t every)
{
    double sum = 0, most = 0;
    ck_ok(bise_graph_train(g, b, &sum, &err));
    for (size_t i = 0; i < lora.n_values; i++)
        most = fmax(most, fabs((double)lora.grads[i]));
    for (size_t i = 0; i < lora.n_values; i += every) {
        /* Experts: a small step, so that no token changes its route. */
        const float keep = lora.values[i];
        const float h = c.config.E ? 0x1p-11f : 0x1p-6f;
        if (!differentiable(i))
            continue;
        lora.values[i] = keep + h;
        const double up = loss_now(b);
        lora.values[i] = keep - h;
        const double down = loss_now(b);
        lora.values[i] = keep;
        const double want = (up - down) / (2 * (double)h);
        /* float32 forward: about 1e-5 of noise in the difference quotient,
         * and the curvature term h^2. */
        if (!(fabs((double)lora.grads[i] - want) < 4e-3 * most + 2e-3))
            ck_abort_msg("value %zu: gradient %g, difference %g (most %g)", i,
                         (double)lora.grads[i], want, most);
    }
}

static const struct { const char *model, *target; bool dora; } nets[] = {
    { "ministral3", "all-linear", false },
    { "ministral3", "all-linear", true },
    { "ministral3-mscale", "q_proj,k_proj", false },
    { "mistral-window", "o_proj,down_proj", false },
    { "ministral3-tied", "gate_proj,up_proj", false },
    { "mistral-nohd", "v_proj,o_proj", true },
    { "mixtral", "q_proj,v_proj", false },
    { "mixtral", "all-linear", false },
};

START_TEST(gradients_are_the_derivative_of_the_loss)
{
    open_all(nets[_i].model, nets[_i].target, nets[_i].dora);
    const bise_batch b = batch(weights);
    check_derivatives(&b, 97);
    close_all();
}
END_TEST

START_TEST(packed_gradients_are_the_derivative)
{
    static const int32_t seg[] = { 0, 7, 8, 30, LEN };
    open_all("ministral3", "all-linear", false);
    bise_batch b = batch(NULL);
    b.seg = seg;
    b.n_seg = 4;
    check_derivatives(&b, 131);
    close_all();
}
END_TEST

START_TEST(nothing_supervised_is_no_loss)
{
    double sum = 0;
    open_all("ministral3", "all-linear", false);
    bise_batch b = batch(NULL);
    for (int t = 0; t < LEN; t++)
        targets[t] = -1;
    ck_ok(bise_graph_train(g, &b, &sum, &err));
    ck_assert(sum == 0);
    for (size_t i = 0; i < lora.n_values; i++)
        if (lora.grads[i] != 0)
            ck_abort_msg("gradient %zu is %g", i, (double)lora.grads[i]);
    close_all();
}
END_TEST

START_TEST(wrong_batches_are_refused)
{
    double sum = 0;
    open_all("ministral3", "q_proj", false);
    bise_batch b = batch(NULL);
    targets[3] = VOC;
    ck_fails(bise_graph_loss(g, &b, &sum, NULL, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "target 160 at position 3"));
    targets[3] = 1;
    b.targets = NULL;
    ck_fails(bise_graph_loss(g, &b, &sum, NULL, &err), BISE_EINVAL);
    b = batch(NULL);
    ids[5] = -1;
    ck_fails(bise_graph_train(g, &b, &sum, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "id -1 at position 5"));
    ids[5] = 1;
    static const int32_t hole[] = { 0, 20, 20, LEN };
    b.seg = hole;
    b.n_seg = 3;
    ck_fails(bise_graph_loss(g, &b, &sum, NULL, &err), BISE_EINVAL);
    static const int32_t late[] = { 1, LEN };
    b.seg = late;
    b.n_seg = 1;
    ck_fails(bise_graph_loss(g, &b, &sum, NULL, &err), BISE_EINVAL);
    b = batch(NULL);
    b.T = 0;
    ck_fails(bise_graph_loss(g, &b, &sum, NULL, &err), BISE_EINVAL);
    const int32_t row = LEN;
    float z[VOC];
    b = batch(NULL);
    ck_ok(bise_graph_forward(g, &b, &err));
    ck_fails(bise_graph_logits(g, &row, 1, z, &err), BISE_EINVAL);
    ck_assert(sum == 0);
    close_all();
}
END_TEST

START_TEST(dora_wants_no_dropout_and_no_company)
{
    bise_lora *list[] = { &lora, &lora };
    bise_graph *other = NULL;
    bise_graph_options o = { .max_tokens = 8, .train = true, .loras = list,
                             .n_loras = 2 };
    open_all("ministral3", "all-linear", true);
    ck_fails(bise_graph_new(&other, &c, &o, &err), BISE_EUNSUPPORTED);
    o.n_loras = 1;
    lora.dropout = 0.1f;
    ck_fails(bise_graph_new(&other, &c, &o, &err), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "dropout"));
    close_all();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("loss");
    TCase *t = tcase_create("loss");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, values_are_the_log_likelihoods);
    tcase_add_test(t, weights_scale_values_not_the_report);
    tcase_add_test(t, sums_are_added_to);
    tcase_add_loop_test(t, gradients_are_the_derivative_of_the_loss, 0,
                        sizeof nets / sizeof *nets);
    tcase_add_test(t, packed_gradients_are_the_derivative);
    tcase_add_test(t, nothing_supervised_is_no_loss);
    tcase_add_test(t, wrong_batches_are_refused);
    tcase_add_test(t, dora_wants_no_dropout_and_no_company);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
