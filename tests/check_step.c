/* check_step.c - a training step allocates nothing, whatever the options: with
 * the next allocation set to fail, a step still succeeds and the failure is
 * still pending after it. And the adapter after two steps is the same for any
 * number of threads and with streamed weights.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <string.h>

#include "core/mem.h"
#include "core/rng.h"
#include "finetune/trainer.h"
#include "model/basequant.h"

#define MODEL BISE_SRCDIR "/examples/tiny-mistral3"

enum { T = 48, SAMPLES = 3 };

/* The options of a run that a step depends on. */
typedef struct variant {
    const char *name;
    bise_compute compute;
    bise_optimizer_kind optimizer;
    bise_ckpt_mode checkpointing;
    bise_dtype base;
    float dropout;
    bool stream;
} variant;

static const variant variants[] = {
    { "f32", BISE_COMPUTE_F32, BISE_OPTIMIZER_ADAMW, BISE_CKPT_OFF,
      BISE_DTYPE_NONE, 0, false },
    { "bf16, adamw8", BISE_COMPUTE_BF16, BISE_OPTIMIZER_ADAMW8, BISE_CKPT_ON,
      BISE_DTYPE_NONE, 0.1f, false },
    { "bf16, lion", BISE_COMPUTE_BF16, BISE_OPTIMIZER_LION, BISE_CKPT_OFF,
      BISE_DTYPE_NONE, 0, false },
    { "streamed", BISE_COMPUTE_BF16, BISE_OPTIMIZER_ADAMW, BISE_CKPT_ON,
      BISE_DTYPE_NONE, 0, true },
    { "nf4", BISE_COMPUTE_BF16, BISE_OPTIMIZER_ADAMW, BISE_CKPT_OFF,
      BISE_DTYPE_NF4, 0, false },
    { "nf4, f32, streamed head", BISE_COMPUTE_F32, BISE_OPTIMIZER_ADAMW8,
      BISE_CKPT_ON, BISE_DTYPE_NF4, 0.2f, true },
    { "q4_k", BISE_COMPUTE_BF16, BISE_OPTIMIZER_ADAMW8, BISE_CKPT_ON,
      BISE_DTYPE_Q4_K, 0, false },
    { "q8_0", BISE_COMPUTE_BF16, BISE_OPTIMIZER_ADAMW, BISE_CKPT_ON,
      BISE_DTYPE_Q8_0, 0, false },
};

enum { VARIANTS = sizeof variants / sizeof variants[0] };

static bise_error err;
static int32_t ids[T], targets[T];
static const int32_t seg[SAMPLES + 1] = { 0, 7, 31, T };

/* One step over two micro-batches. */
static bise_status one_step(bise_trainer *t)
{
    const bise_batch b = { .ids = ids, .seg = seg, .T = T, .n_seg = SAMPLES,
                           .targets = targets };
    bise_step_report r;
    bise_trainer_begin(t);
    if (bise_trainer_add(t, &b, &err) || bise_trainer_add(t, &b, &err))
        return err.status;
    return bise_trainer_finish(t, &r, &err);
}

/* Two steps of a variant; the adapter's values, [*n] owned by the caller. */
static float *run(const variant *v, int threads, bool stream, size_t *n)
{
    bise_checkpoint c;
    bise_pool *pool = NULL;
    bise_lora l = { 0 };
    bise_basequant *base = NULL;
    bise_graph *g = NULL;
    bise_trainer t;
    const bise_lora_options lo = { .r = 8, .alpha = 16, .dropout = v->dropout,
                                   .target = "all-linear" };
    ck_ok(bise_checkpoint_open(&c, MODEL, NULL, &err));
    ck_ok(bise_pool_new(&pool, threads, &err));
    ck_ok(bise_lora_new(&l, &c.config, &lo, true, &err));
    if (v->base != BISE_DTYPE_NONE)
        ck_ok(bise_basequant_new(&base, &c, v->base, pool, NULL, &err));
    for (int i = 0; i < T; i++) {
        ids[i] = (int32_t)bise_rng_below(1, 1, (uint64_t)i, 4096);
        targets[i] = i % 5 ? (int32_t)bise_rng_below(1, 2, (uint64_t)i, 4096)
                           : -1;
    }
    bise_lora *loras[] = { &l };
    const bise_graph_options go = {
        .max_tokens = T, .train = true, .compute = v->compute,
        .checkpointing = v->checkpointing, .loras = loras, .n_loras = 1,
        .pool = pool, .stream_weights = stream };
    ck_ok(bise_graph_new(&g, &c, &go, &err));
    const bise_trainer_options to = {
        .lora = &l, .graph = g, .clip = 1,
        .optimizer = { .kind = v->optimizer, .beta1 = 0.9, .beta2 = 0.99,
                       .eps = 1e-8, .pool = pool },
        .schedule = { .kind = BISE_SCHEDULE_CONSTANT, .lr = 1e-3,
                      .steps = 2 } };
    ck_ok(bise_trainer_init(&t, &to, &err));
    ck_ok(one_step(&t));
    /* The second step is like every later one. */
    bise_alloc_fail_after(1);
    const bise_status s = one_step(&t);
    void *p = bise_alloc(1);
    bise_alloc_fail_after(0);
    ck_assert_msg(s == BISE_OK, "%s: %s", v->name, err.text);
    ck_assert_msg(p == NULL, "%s: a step allocates", v->name);
    *n = (size_t)l.n_values;
    float *values = bise_alloc_array(*n, sizeof *values);
    memcpy(values, l.values, *n * sizeof *values);
    bise_trainer_fini(&t);
    bise_graph_free(g);
    bise_basequant_free(base);
    bise_lora_fini(&l);
    bise_pool_free(pool);
    bise_checkpoint_close(&c);
    return values;
}

START_TEST(a_step_allocates_nothing_and_ignores_threads)
{
    const variant *v = &variants[_i];
    size_t n = 0;
    float *one = run(v, 1, v->stream, &n);
    for (int threads = 2; threads <= 5; threads += 3) {
        float *more = run(v, threads, v->stream, &n);
        ck_assert_msg(memcmp(one, more, n * sizeof *one) == 0,
                      "%s: %d threads differ", v->name, threads);
        bise_free(more);
    }
    /* Where the weights stay changes nothing either. */
    float *other = run(v, 2, !v->stream, &n);
    ck_assert_msg(memcmp(one, other, n * sizeof *one) == 0,
                  "%s: streaming differs", v->name);
    bise_free(other);
    bise_free(one);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("step");
    TCase *t = tcase_create("step");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_step_allocates_nothing_and_ignores_threads, 0,
                        VARIANTS);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
