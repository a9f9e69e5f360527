/* check_loss_rows.c - rows without a target are left out after the attention
 * of the last layer: loss and gradients must be those of all rows, which a
 * batch gets that has targets everywhere and weights of zero in their place.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "model/basequant.h"
#include "model/graph_int.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/"
#define ROWS 90
#define THIN 3      /* products of so few rows are made in float32, */
#define THIN_MOE 16 /* and so few may leave an expert with as few */

static bise_error err;
static const int32_t seg[] = { 0, 1, 40, ROWS };

/* Which rows have targets. */
typedef enum { NONE, ALL, ONE, FIRST, LAST, THIRD, ANSWERS, MASKS } mask;

static bool in_mask(int m, int32_t t)
{
    switch (m) {
    case ALL:
        return true;
    case ONE:
        return t == 44;
    case FIRST:
        return t < THIN_MOE;
    case LAST:
        return t >= ROWS - THIN_MOE;
    case THIRD:
        return t % 3 == 1;
    case ANSWERS:
        return (t >= 20 && t < 39) || (t >= 70 && t < ROWS - 1);
    default:
        return false;
    }
}

/* A model and how it is trained. */
typedef struct way {
    const char *model;
    bise_compute compute;
    bool dora;
    double aux;
} way;

static const way ways[] = {
    { "models/ministral3", BISE_COMPUTE_F32, false, 0 },
    { "models/mistral-window", BISE_COMPUTE_F32, true, 0 },
    { "models/mixtral", BISE_COMPUTE_F32, false, 0 },
    { "models/mixtral", BISE_COMPUTE_F32, false, 0.5 },
    { "models/ministral3-tied", BISE_COMPUTE_BF16, false, 0 },
    { "models/mistral-window", BISE_COMPUTE_BF16, false, 0 },
    { "models/mixtral", BISE_COMPUTE_BF16, false, 0 },
    { "models/ministral3", BISE_COMPUTE_INT8, false, 0 },
};
#define WAYS (int)(sizeof ways / sizeof *ways)

static const bise_ckpt_mode modes[] = { BISE_CKPT_OFF, BISE_CKPT_ON };
static bise_checkpoint c;
static bise_basequant *quant;
static bise_lora lora;
static int32_t ids[ROWS], targets[ROWS];
static float weights[ROWS];

static void open_model(const char *model)
{
    ck_ok(bise_checkpoint_open(&c, model, NULL, &err));
    for (int32_t t = 0; t < ROWS; t++)
        ids[t] = (int32_t)bise_rng_below(3, 1, (uint64_t)t,
                                         (uint64_t)c.config.V);
}

/* With adapters on everything, B not zero. */
static void open_way(const way *w, double dropout)
{
    const bise_lora_options o = { .r = 3, .alpha = 6, .target = "all-linear",
                                  .dora = w->dora, .dropout = dropout };
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", w->model);
    open_model(path);
    if (w->compute == BISE_COMPUTE_INT8)
        ck_ok(bise_basequant_new(&quant, &c, BISE_DTYPE_I8, NULL, NULL,
                                 &err));
    ck_ok(bise_lora_new(&lora, &c.config, &o, true, &err));
    for (size_t i = 0; i < lora.n_values; i++)
        if (lora.values[i] == 0)
            lora.values[i] = 0.4f * (bise_rng_f32(3, 2, i) - 0.5f);
}

static void close_way(void)
{
    bise_lora_fini(&lora);
    bise_basequant_free(quant);
    quant = NULL;
    bise_checkpoint_close(&c);
}

/* Targets on the rows of m, or everywhere with weights instead; returns how
 * many rows of m there are. */
static int32_t set_targets(int m, bool everywhere)
{
    int32_t n = 0;
    for (int32_t t = 0; t < ROWS; t++) {
        const bool in = in_mask(m, t);
        targets[t] = in || everywhere ? ids[(t * 7 + 3) % ROWS] : -1;
        weights[t] = in ? 0.5f + bise_rng_f32(3, 4, (uint64_t)t) : 0;
        n += in;
    }
    return n;
}

static bise_batch batch(void)
{
    return (bise_batch){ .ids = ids, .seg = seg, .T = ROWS, .n_seg = 3,
                         .targets = targets, .weights = weights };
}

/* Loss of one pass in a new graph that leaves out rows as expected; gradients
 * are left in the adapter. */
static double train(const way *w, double aux, bise_ckpt_mode mode,
                    int32_t n_loss)
{
    bise_lora *list[] = { &lora };
    const bise_graph_options o = {
        .max_tokens = ROWS, .train = true, .loras = list, .n_loras = 1,
        .compute = w->compute, .checkpointing = mode, .router_aux = aux,
        .dropout_seed = 3 };
    const bise_batch b = batch();
    bise_graph *g;
    double sum = 0;
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    memset(lora.grads, 0, lora.n_values * sizeof *lora.grads);
    ck_ok(bise_graph_train(g, &b, &sum, &err));
    ck_assert_int_eq(g->n_loss, n_loss);
    bise_graph_free(g);
    return sum;
}

/* Norm of a - b, relative to that of b unless it is zero. */
static double distance(const float *a, const float *b, size_t n)
{
    double d = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return norm > 0 ? sqrt(d / norm) : sqrt(d);
}

/* Only the order of sums over rows differs. */
START_TEST(gradients_are_those_of_all_rows)
{
    const way *w = &ways[_i / MASKS];
    const int m = _i % MASKS;
    open_way(w, 0);
    float *want = bise_alloc_array(lora.n_values, sizeof *want);
    const int32_t n = set_targets(m, true);
    /* The auxiliary loss counts targets, whatever their weight. */
    const double loss = train(w, w->aux * n / ROWS, BISE_CKPT_OFF, 0);
    memcpy(want, lora.grads, lora.n_values * sizeof *want);
    const bool all = n == ROWS || w->aux > 0;
    const bool thin = n <= (c.config.E ? THIN_MOE : THIN);
    const double most = thin && w->compute != BISE_COMPUTE_F32 ? 0.02 : 1e-6;
    set_targets(m, false);
    for (int k = 0; k < 2; k++) {
        const double got = train(w, w->aux, modes[k], all ? 0 : n);
        const double d = distance(lora.grads, want, lora.n_values);
        ck_assert_double_le(fabs(got - loss), most * fabs(loss));
        ck_assert_msg(d <= most, "%s, mask %d: gradients are off by %g",
                      w->model, m, d);
    }
    bise_free(want);
    close_way();
}
END_TEST

/* Along the gradient the loss grows by its squared norm: masks of dropout are
 * the same ones in both directions. */
START_TEST(dropout_has_one_mask)
{
    const way w = { .model = "models/ministral3" };
    open_way(&w, 0.3);
    const int32_t n = set_targets(ANSWERS, false);
    train(&w, 0, modes[_i], n);
    double norm = 0, step = 1e-3;
    float *at = bise_alloc_array(lora.n_values, sizeof *at);
    float *along = bise_alloc_array(lora.n_values, sizeof *along);
    memcpy(at, lora.values, lora.n_values * sizeof *at);
    memcpy(along, lora.grads, lora.n_values * sizeof *along);
    for (size_t i = 0; i < lora.n_values; i++)
        norm += (double)along[i] * (double)along[i];
    double change = 0;
    for (int sign = 1; sign >= -1; sign -= 2) {
        const float by = (float)(sign * step / sqrt(norm));
        for (size_t i = 0; i < lora.n_values; i++)
            lora.values[i] = at[i] + by * along[i];
        change += sign * train(&w, 0, modes[_i], n);
    }
    ck_assert_double_eq_tol(change / (2 * step), sqrt(norm),
                            1e-3 * sqrt(norm));
    bise_free(at);
    bise_free(along);
    close_way();
}
END_TEST

static const char *const scored[] = {
    "models/ministral3", "models/mixtral", "latent/small4",
};

/* Also in latent attention, where the stream runs in one buffer. */
START_TEST(values_are_those_of_all_rows)
{
    char path[512];
    float want[ROWS], got[ROWS];
    bise_graph *g;
    snprintf(path, sizeof path, GOLDEN "%s", scored[_i / MASKS]);
    open_model(path);
    const bise_graph_options o = { .max_tokens = ROWS };
    const bise_batch b = batch();
    double sum = 0;
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    set_targets(_i % MASKS, true);
    ck_ok(bise_graph_loss(g, &b, &sum, want, &err));
    const int32_t n = set_targets(_i % MASKS, false);
    ck_ok(bise_graph_loss(g, &b, &sum, got, &err));
    ck_assert_int_eq(g->n_loss, n == ROWS ? 0 : n);
    for (int32_t t = 0; t < ROWS; t++)
        ck_assert_double_eq_tol((double)got[t],
                                targets[t] < 0 ? 0 : (double)want[t], 1e-5);
    bise_graph_free(g);
    bise_checkpoint_close(&c);
}
END_TEST

/* Rows that the linear layers of the last layer were given. */
static bise_status count_rows(void *ctx, bise_role role, const float *x,
                              int32_t T, int32_t in, bise_error *e)
{
    int32_t *n = ctx;
    (void)x, (void)in, (void)e;
    if (role.layer == c.config.L - 1)
        *n += T;
    return BISE_OK;
}

START_TEST(a_tap_sees_all_rows)
{
    int32_t n = 0;
    double sum = 0;
    bise_graph *g;
    open_model(GOLDEN "models/ministral3");
    const bise_graph_options o = { .max_tokens = ROWS, .tap = count_rows,
                                   .tap_ctx = &n };
    const bise_batch b = batch();
    set_targets(THIRD, false);
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    ck_ok(bise_graph_loss(g, &b, &sum, NULL, &err));
    ck_assert_int_eq(n, 7 * ROWS);
    bise_graph_free(g);
    bise_checkpoint_close(&c);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("loss_rows");
    TCase *t = tcase_create("loss_rows");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, gradients_are_those_of_all_rows, 0, WAYS * MASKS);
    tcase_add_loop_test(t, dropout_has_one_mask, 0, 2);
    tcase_add_loop_test(t, values_are_those_of_all_rows, 0, 3 * MASKS);
    tcase_add_test(t, a_tap_sees_all_rows);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
