/* check_partial.c - training parts of a model: whichever modules have
 * gradients, however many layers keep their activations and however much is
 * left out below them, each gradient equals the one of training everything.
 * Also: adapters that are stacked, and the memory that a plan promises. */

/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "model/graph.h"

#define MODEL BISE_SRCDIR "/tests/golden/models/"
#define LEN 37
#define VOC 160

static bise_error err;
static bise_checkpoint c;
static int32_t ids[LEN], targets[LEN];
static const int32_t seg[] = { 0, 9, LEN };
static float weights[LEN];

static void open_named(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, MODEL "%s", name);
    ck_ok(bise_checkpoint_open(&c, path, NULL, &err));
    for (int t = 0; t < LEN; t++) {
        ids[t] = (int32_t)bise_rng_below(1, 1, (uint64_t)t, VOC);
        targets[t] = t == 8 ? -1 : (int32_t)bise_rng_below(1, 2, (uint64_t)t,
                                                           VOC);
        weights[t] = 0.5f + bise_rng_f32(1, 3, (uint64_t)t);
    }
}

static void open_model(void)
{
    open_named("ministral3");
}

/* An adapter on every linear layer, B not zero. */
static void make_lora(bise_lora *l, uint64_t seed, bool train)
{
    const bise_lora_options o = { .r = 2, .alpha = 4, .seed = seed,
                                  .target = "all-linear" };
    ck_ok(bise_lora_new(l, &c.config, &o, train, &err));
    for (size_t i = 0; i < l->n; i++)
        for (int32_t k = 0; k < l->modules[i].out * l->modules[i].r; k++)
            l->modules[i].b[k] = 0.2f * (2 * bise_rng_f32(seed, i,
                                                          (uint64_t)k) - 1);
}

/* One pass; returns the loss. */
static double train(bise_lora *const *list, int32_t n, bise_ckpt_mode mode,
                    uint64_t memory, uint64_t *planned)
{
    bise_graph *g;
    double sum = 0;
    const bise_graph_options o = { .max_tokens = LEN, .train = true,
                                   .loras = list, .n_loras = n,
                                   .checkpointing = mode,
                                   .memory_bytes = memory };
    const bise_batch b = { .ids = ids, .targets = targets, .seg = seg,
                           .T = LEN, .n_seg = 2, .weights = weights };
    if (planned)
        ck_ok(bise_graph_plan(planned, &c, &o, &err));
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    ck_ok(bise_graph_train(g, &b, &sum, &err));
    bise_graph_free(g);
    return sum;
}

/* Gradients of everything: what the parts are held against. */
static float *all_gradients(bise_lora *l, double *loss)
{
    float *all = bise_alloc_array(l->n_values, sizeof *all);
    *loss = train((bise_lora *[]){ l }, 1, BISE_CKPT_OFF, 0, NULL);
    memcpy(all, l->grads, l->n_values * sizeof *all);
    memset(l->grads, 0, l->n_values * sizeof *all);
    return all;
}

static const bise_ckpt_mode modes[] = { BISE_CKPT_OFF, BISE_CKPT_ON };

START_TEST(each_module_alone_has_its_gradient)
{
    bise_lora l;
    double want, got;
    open_named(_i < 2 ? "ministral3" : "mixtral");
    make_lora(&l, 5, true);
    float *all = all_gradients(&l, &want);
    bise_lora_module *mods = bise_alloc_array(l.n, sizeof *mods);
    memcpy(mods, l.modules, l.n * sizeof *mods);
    for (size_t i = 0; i < l.n; i++) {
        /* Only module i is trained: the pass may end right above it. */
        for (size_t k = 0; k < l.n; k++) {
            l.modules[k].da = k == i ? mods[k].da : NULL;
            l.modules[k].db = k == i ? mods[k].db : NULL;
        }
        memset(l.grads, 0, l.n_values * sizeof *l.grads);
        got = train((bise_lora *[]){ &l }, 1, modes[_i % 2], 0, NULL);
        ck_assert(got == want);
        const size_t a = (size_t)(mods[i].da - l.grads);
        const size_t na = (size_t)(mods[i].r * mods[i].in);
        const size_t b = (size_t)(mods[i].db - l.grads);
        const size_t nb = (size_t)(mods[i].r * mods[i].out);
        ck_assert_msg(!memcmp(all + a, l.grads + a, na * sizeof *all) &&
                          !memcmp(all + b, l.grads + b, nb * sizeof *all),
                      "module %zu (%s of layer %d)", i,
                      bise_role_module(mods[i].role.kind),
                      mods[i].role.layer);
        for (size_t k = 0; k < l.n_values; k++)
            if (l.grads[k] != 0 && !(k >= a && k < a + na) &&
                !(k >= b && k < b + nb))
                ck_abort_msg("module %zu writes gradient %zu", i, k);
    }
    bise_free(mods);
    bise_free(all);
    bise_lora_fini(&l);
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(every_memory_limit_gives_the_same_gradients)
{
    bise_lora l;
    double want;
    uint64_t full, least, planned;
    open_model();
    make_lora(&l, 6, true);
    bise_lora *list[] = { &l };
    float *all = all_gradients(&l, &want);
    train(list, 1, BISE_CKPT_OFF, 0, &full);
    train(list, 1, BISE_CKPT_ON, 0, &least);
    ck_assert_uint_lt(least, full);
    for (int i = 0; i <= 8; i++) {
        const uint64_t limit = least + (full - least) * (uint64_t)i / 8;
        memset(l.grads, 0, l.n_values * sizeof *l.grads);
        ck_assert(train(list, 1, BISE_CKPT_AUTO, limit, &planned) == want);
        ck_assert_uint_le(planned, limit);
        ck_assert_mem_eq(all, l.grads, l.n_values * sizeof *all);
    }
    bise_free(all);
    bise_lora_fini(&l);
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(higher_layers_alone_keep_less)
{
    bise_lora l, top;
    uint64_t both, one;
    open_model();
    make_lora(&l, 7, true);
    const bise_lora_options o = { .r = 2, .alpha = 4, .seed = 7,
                                  .target = "all-linear", .layers_from = 1 };
    ck_ok(bise_lora_new(&top, &c.config, &o, true, &err));
    ck_assert_uint_eq(2 * top.n, l.n);
    train((bise_lora *[]){ &l }, 1, BISE_CKPT_OFF, 0, &both);
    train((bise_lora *[]){ &top }, 1, BISE_CKPT_OFF, 0, &one);
    ck_assert_uint_lt(one, both);
    bise_lora_fini(&top);
    bise_lora_fini(&l);
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(a_frozen_adapter_below_acts_but_is_not_trained)
{
    bise_lora frozen, l;
    double alone, stacked;
    open_model();
    make_lora(&frozen, 8, false);
    make_lora(&l, 9, true);
    ck_assert_ptr_null(frozen.modules[0].da);
    alone = train((bise_lora *[]){ &l }, 1, BISE_CKPT_OFF, 0, NULL);
    float *first = bise_alloc_array(l.n_values, sizeof *first);
    memcpy(first, l.grads, l.n_values * sizeof *first);
    memset(l.grads, 0, l.n_values * sizeof *first);
    stacked = train((bise_lora *[]){ &frozen, &l }, 2, BISE_CKPT_OFF, 0,
                    NULL);
    ck_assert(stacked != alone);
    ck_assert(memcmp(first, l.grads, l.n_values * sizeof *first) != 0);
    /* With scale 0 it is as if it were not there, whatever it holds. */
    for (size_t i = 0; i < frozen.n; i++)
        frozen.modules[i].scale = 0;
    memset(l.grads, 0, l.n_values * sizeof *first);
    stacked = train((bise_lora *[]){ &frozen, &l }, 2, BISE_CKPT_ON, 0, NULL);
    ck_assert_double_eq_tol(stacked, alone, 1e-9);
    for (size_t i = 0; i < l.n_values; i++)
        if (!(first[i] - l.grads[i] < 1e-6f && l.grads[i] - first[i] < 1e-6f))
            ck_abort_msg("gradient %zu: %g and %g", i, (double)first[i],
                         (double)l.grads[i]);
    bise_free(first);
    bise_lora_fini(&frozen);
    bise_lora_fini(&l);
    bise_checkpoint_close(&c);
}
END_TEST

/* Loss of the batch with the adapter's present values. */
static double loss_of(bise_graph *g)
{
    const bise_batch b = { .ids = ids, .targets = targets, .seg = seg,
                           .T = LEN, .n_seg = 2, .weights = weights };
    double sum = 0;
    ck_ok(bise_graph_loss(g, &b, &sum, NULL, &err));
    return sum;
}

START_TEST(adapters_on_experts_have_their_gradient)
{
    /* Router, and the three matrices of two experts, by hand: [r, in] and
     * [out, r] one after another. */
    static const struct { bise_role role; int32_t out, in; } parts[] = {
        { { BISE_ROLE_ROUTER, 0, -1 }, 4, 64 },
        { { BISE_ROLE_EXP_GATE, 0, 1 }, 96, 64 },
        { { BISE_ROLE_EXP_UP, 1, 2 }, 96, 64 },
        { { BISE_ROLE_EXP_DOWN, 1, 1 }, 64, 96 },
        { { BISE_ROLE_EXP_DOWN, 0, 3 }, 64, 96 },
    };
    enum { N_PARTS = sizeof parts / sizeof *parts, R = 2 };
    bise_lora_module mods[N_PARTS];
    static float values[4096], grads[4096];
    bise_lora l = { .modules = mods, .n = N_PARTS };
    size_t at = 0;
    memset(grads, 0, sizeof grads);
    for (size_t i = 0; i < 4096; i++)
        values[i] = 0.3f * (2 * bise_rng_f32(21, 0, i) - 1);
    for (size_t i = 0; i < N_PARTS; i++) {
        mods[i] = (bise_lora_module){
            .role = parts[i].role, .r = R, .in = parts[i].in,
            .out = parts[i].out, .scale = 1, .a = values + at,
            .da = grads + at, .b = values + at + R * parts[i].in,
            .db = grads + at + R * parts[i].in,
        };
        at += (size_t)(R * (parts[i].in + parts[i].out));
    }
    open_named("mixtral");
    bise_lora *list[] = { &l };
    bise_graph *g;
    const bise_graph_options o = { .max_tokens = LEN, .train = true,
                                   .loras = list, .n_loras = 1,
                                   .checkpointing = modes[_i] };
    const bise_batch b = { .ids = ids, .targets = targets, .seg = seg,
                           .T = LEN, .n_seg = 2, .weights = weights };
    double sum = 0, most = 0;
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    ck_ok(bise_graph_train(g, &b, &sum, &err));
    ck_assert(sum == loss_of(g));
    for (size_t i = 0; i < at; i++)
        most = grads[i] > (float)most ? (double)grads[i] : most;
    ck_assert(most > 0);
    for (size_t i = 0; i < at; i += 13) {
        const float keep = values[i], h = 0x1p-10f;
        values[i] = keep + h;
        const double up = loss_of(g);
        values[i] = keep - h;
        const double want = (up - loss_of(g)) / (2 * (double)h);
        values[i] = keep;
        const double d = (double)grads[i] - want;
        if (!(d < 0.01 * most + 0.01 && -d < 0.01 * most + 0.01))
            ck_abort_msg("value %zu: gradient %g, difference %g (most %g)", i,
                         (double)grads[i], want, most);
    }
    bise_graph_free(g);
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(steps_and_micros_have_their_own_masks)
{
    bise_lora l;
    bise_graph *g;
    double sums[4] = { 0 };
    open_model();
    make_lora(&l, 10, true);
    l.dropout = 0.4f;
    bise_lora *list[] = { &l };
    const bise_graph_options o = { .max_tokens = LEN, .train = true,
                                   .loras = list, .n_loras = 1,
                                   .dropout_seed = 3 };
    const bise_batch b = { .ids = ids, .targets = targets, .seg = seg,
                           .T = LEN, .n_seg = 2 };
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    const uint64_t keys[4][2] = { { 1, 0 }, { 2, 0 }, { 1, 1 }, { 1, 0 } };
    for (int i = 0; i < 4; i++) {
        bise_graph_set_step(g, keys[i][0], keys[i][1]);
        ck_ok(bise_graph_train(g, &b, &sums[i], &err));
    }
    ck_assert(sums[0] != sums[1] && sums[0] != sums[2] && sums[1] != sums[2]);
    ck_assert(sums[0] == sums[3]);
    /* Evaluation knows no dropout. */
    double a = 0, again = 0;
    ck_ok(bise_graph_loss(g, &b, &a, NULL, &err));
    bise_graph_set_step(g, 9, 9);
    ck_ok(bise_graph_loss(g, &b, &again, NULL, &err));
    ck_assert(a == again && a != sums[0]);
    bise_graph_free(g);
    bise_lora_fini(&l);
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(what_cannot_run_is_said_before_memory_is_taken)
{
    bise_graph *g = NULL;
    bise_graph_options o = { .max_tokens = 0 };
    open_model();
    ck_fails(bise_graph_new(&g, &c, &o, &err), BISE_EINVAL);
    ck_assert_ptr_null(g);
    bise_checkpoint_close(&c);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("partial");
    TCase *t = tcase_create("partial");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, each_module_alone_has_its_gradient, 0, 4);
    tcase_add_test(t, every_memory_limit_gives_the_same_gradients);
    tcase_add_test(t, higher_layers_alone_keep_less);
    tcase_add_test(t, a_frozen_adapter_below_acts_but_is_not_trained);
    tcase_add_loop_test(t, adapters_on_experts_have_their_gradient, 0, 2);
    tcase_add_test(t, steps_and_micros_have_their_own_masks);
    tcase_add_test(t, what_cannot_run_is_said_before_memory_is_taken);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
