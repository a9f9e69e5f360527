/* check_memplan.c - the arithmetic of finetune/plan.c: every part of the peak,
 * when layers stay resident and when they are streamed, what a limit does to
 * activations, the messages of a plan that does not fit, and the time.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "finetune/finetune.h"

#define MODEL BISE_SRCDIR "/examples/tiny-mistral3"

/* Bytes of the model: 6 layers, an embedding that is also the head, norms. */
enum { C = 256, HD = 512, KD = 256, F = 768, V = 4096, L = 6,
       LAYER = (2 * C * HD + 2 * C * KD + 3 * C * F + 2 * C) * 2,
       HEAD = V * C * 2, NORM = C * 2 };

static bise_error err;
static char dir[64], rows[96];
/* What the program takes; it differs by allocator and sanitizer. */
static uint64_t program = 20000000;

static void set_up(void)
{
    bise_str text = { 0 };
    snprintf(dir, sizeof dir, "/tmp/bise-memplan-%ld", (long)getpid());
    bise_remove_tree(dir);
    ck_ok(bise_mkdir(dir, &err));
    snprintf(rows, sizeof rows, "%s/rows.jsonl", dir);
    for (int i = 0; i < 20; i++)
        bise_str_printf(&text, "{\"text\": \"%d one two three four five six "
                        "seven eight nine ten and so it went on\"}\n", i);
    ck_ok(bise_file_write(rows, bise_str_get(&text), text.len, &err));
    bise_str_fini(&text);
}

static void tear_down(void)
{
    bise_remove_tree(dir);
}

/* The plan of a run with some settings, pairs of name and value. */
static bise_status plan(bise_finetune_plan *out, size_t n,
                        const char *const (*more)[2])
{
    static const char *const base[][2] = {
        { "model", MODEL }, { "lora-r", "4" }, { "steps", "10" },
        { "batch", "256tokens" }, { "max-len", "256" },
        { "compute", "bf16" } };
    bise_settings s = { 0 };
    bise_finetune f = { 0 };
    bise_pool *pool = NULL;
    ck_ok(bise_pool_new(&pool, 2, &err));
    const bise_finetune_options o = { .pool = pool,
                                      .program_bytes = program };
    for (size_t i = 0; i < sizeof base / sizeof *base; i++)
        ck_ok(bise_settings_set(&s, base[i][0], base[i][1], &err));
    bise_json *list = bise_json_new_array();
    (void)bise_json_append(list, bise_json_new_string(rows));
    ck_ok(bise_settings_put(&s, "data", list, &err));
    for (size_t i = 0; i < n; i++)
        ck_ok(bise_settings_set(&s, more[i][0], more[i][1], &err));
    ck_ok(bise_settings_resolve(&s, &err));
    bise_error_init(&err);
    const bise_status status = bise_finetune_open(&f, &s, &o, &err);
    *out = f.plan;
    if (status == BISE_OK)
        ck_assert(f.graph_options.stream_weights == out->streamed);
    bise_finetune_close(&f);
    bise_settings_fini(&s);
    bise_pool_free(pool);
    return status;
}

/* The plan of one setting, which must be possible. */
static bise_finetune_plan plan_of(const char *name, const char *value)
{
    const char *const one[][2] = { { name, value } };
    bise_finetune_plan p;
    ck_assert_msg(plan(&p, name ? 1 : 0, one) == BISE_OK, "%s: %s",
                  name ? name : "", err.text);
    return p;
}

/* The sum that is compared with the limit. */
static void check_sum(const bise_finetune_plan *p)
{
    ck_assert_uint_eq(p->peak_bytes,
                      p->program_bytes + p->adapter_bytes +
                      p->optimizer_bytes + p->base_bytes +
                      p->activation_bytes + p->resident_bytes);
    ck_assert_uint_le(p->peak_bytes, p->memory_limit);
}

START_TEST(all_weights_are_resident_when_they_fit)
{
    const bise_finetune_plan p = plan_of(NULL, NULL);
    check_sum(&p);
    ck_assert(!p.streamed);
    /* the head is the embedding, all of which is read */
    ck_assert_uint_eq(p.resident_bytes, L * LAYER + HEAD);
    ck_assert_uint_eq(p.weights_bytes, L * LAYER + HEAD + NORM);
    ck_assert_uint_eq(p.base_bytes, 0);
    ck_assert_uint_eq(p.program_bytes, program);
    ck_assert_int_eq(p.pass_tokens, 256);
    program = 0;
    const bise_finetune_plan measured = plan_of(NULL, NULL);
    check_sum(&measured);
    ck_assert_uint_gt(measured.program_bytes, 1 << 20);
    program = p.program_bytes;
}
END_TEST

/* Of quantized layers the norms stay in the file. */
START_TEST(quantized_layers_replace_stored_ones)
{
    static const struct { const char *type; int bits; } t[] = {
        { "nf4", 413 }, { "q8_0", 850 }, { "q4_k", 450 }, { "Q6_K", 656 } };
    const bise_finetune_plan p = plan_of("quantize-base", t[_i].type);
    const double weights = (double)(L * (LAYER / 2 - 2 * C));
    check_sum(&p);
    ck_assert_uint_eq(p.weights_bytes, L * 2 * C * 2 + HEAD + NORM);
    ck_assert_double_eq_tol((double)p.base_bytes * 800 / weights, t[_i].bits,
                            3);
}
END_TEST

START_TEST(moments_depend_on_the_optimizer)
{
    const bise_finetune_plan a = plan_of("optimizer", "adamw");
    const bise_finetune_plan b = plan_of("optimizer", "adamw8");
    const bise_finetune_plan c = plan_of("optimizer", "lion");
    ck_assert_uint_eq(a.optimizer_bytes, a.parameters * 8);
    ck_assert_uint_eq(c.optimizer_bytes, a.parameters * 4);
    ck_assert_uint_lt(b.optimizer_bytes, a.parameters * 8);
    ck_assert_uint_eq(a.adapter_bytes, a.parameters * 8);
}
END_TEST

/* Tighter and tighter: activations are given up first, then residency, then
 * the plan is refused. */
START_TEST(a_limit_takes_activations_then_weights_then_all)
{
    const bise_finetune_plan whole = plan_of("checkpointing", "off");
    const bise_finetune_plan least = plan_of("checkpointing", "on");
    char memory[32];
    bise_finetune_plan p;
    const char *one[][2] = { { "memory", memory } };
    ck_assert_uint_lt(least.activation_bytes, whole.activation_bytes);
    bool streamed = false, refused = false;
    const uint64_t step = 1 << 20;
    for (uint64_t m = whole.peak_bytes + (4 << 20); !refused; m -= step) {
        snprintf(memory, sizeof memory, "%llu", (unsigned long long)m);
        const bise_status s = plan(&p, 1, (const char *const (*)[2])one);
        refused = s != BISE_OK;
        if (refused)
            break;
        check_sum(&p);
        ck_assert_uint_eq(p.memory_limit, m);
        /* Weights are streamed exactly when they do not fit beside the least
         * activations, and stay so when the limit falls. */
        ck_assert(!streamed || p.streamed);
        streamed = p.streamed;
        ck_assert(streamed == (p.peak_bytes - p.activation_bytes -
                                   p.resident_bytes + L * LAYER + HEAD +
                                   least.activation_bytes > m));
        ck_assert_uint_ge(p.activation_bytes, least.activation_bytes);
        if (!streamed)
            ck_assert_uint_eq(p.resident_bytes, L * LAYER + HEAD);
        else
            ck_assert_uint_eq(p.resident_bytes, HEAD > LAYER ? HEAD : LAYER);
        ck_assert_uint_gt(m, 4 << 20);
    }
    ck_assert(streamed);
    ck_assert_int_eq(err.status, BISE_ENOMEM);
    ck_assert_ptr_nonnull(strstr(err.text, "may be used"));
    ck_assert_ptr_nonnull(strstr(err.hint, "--checkpointing on"));
    ck_assert_ptr_nonnull(strstr(err.hint, "adamw8"));
}
END_TEST

START_TEST(a_type_that_is_none_is_named)
{
    static const char *const bad[] = { "q5", "", "bf16x", "int4" };
    const char *const one[][2] = { { "quantize-base", bad[_i] } };
    bise_finetune_plan p;
    ck_assert_int_eq(plan(&p, 1, one), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "no type"));
    ck_assert_ptr_nonnull(strstr(err.hint, "nf4"));
}
END_TEST

/* Types without an encoder, and those that are no quantization. */
START_TEST(a_type_that_cannot_be_made_is_refused)
{
    static const char *const bad[] = { "bf16", "iq2_xs", "i8", "f8_e4m3" };
    const char *const one[][2] = { { "quantize-base", bad[_i] } };
    bise_finetune_plan p;
    ck_assert_int_eq(plan(&p, 1, one), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "does not quantize"));
}
END_TEST

START_TEST(time_grows_with_the_work)
{
    const bise_finetune_plan a = plan_of("steps", "10");
    const bise_finetune_plan b = plan_of("steps", "1000");
    ck_assert_double_eq_tol(b.tokens, 100 * a.tokens, 1e-6 * b.tokens);
    /* the speed is measured anew: only the order of size is sure */
    ck_assert_double_gt(b.seconds, 5 * a.seconds);
    ck_assert_double_gt(a.seconds, 0);
    ck_assert_double_gt(a.product_speed, 1e8);
}
END_TEST

/* Four operations for each weight of a layer and token, six where the forward
 * pass is run again; four for each weight of the head, all tokens trained. */
START_TEST(products_of_a_token_are_counted)
{
    const double layers = (double)(L * (LAYER / 2 - 2 * C));
    const double head = (double)(HEAD / 2);
    const bise_finetune_plan off = plan_of("checkpointing", "off");
    const bise_finetune_plan on = plan_of("checkpointing", "on");
    /* the first token of each row of about twenty is not trained */
    ck_assert_double_lt(off.token_flops, 4 * (layers + 0.96 * head));
    ck_assert_double_gt(off.token_flops, 4 * (layers + 0.94 * head));
    ck_assert_double_eq_tol(on.token_flops - off.token_flops, 2 * layers,
                            1e-6 * layers);
}
END_TEST

START_TEST(speed_is_measured_in_each_precision)
{
    bise_pool *pool = NULL;
    ck_ok(bise_pool_new(&pool, 2, &err));
    ck_assert_double_ge(bise_finetune_speed(pool, BISE_COMPUTE_F32), 1e8);
    ck_assert_double_ge(bise_finetune_speed(pool, BISE_COMPUTE_BF16), 1e8);
    ck_assert_double_ge(bise_finetune_speed(pool, BISE_COMPUTE_INT8), 1e8);
    ck_assert_double_ge(bise_finetune_speed(NULL, BISE_COMPUTE_F32), 1e8);
    ck_assert_double_ge(bise_finetune_speed(NULL, BISE_COMPUTE_INT8), 1e8);
    bise_pool_free(pool);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("memplan");
    TCase *t = tcase_create("memplan");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, all_weights_are_resident_when_they_fit);
    tcase_add_loop_test(t, quantized_layers_replace_stored_ones, 0, 4);
    tcase_add_test(t, moments_depend_on_the_optimizer);
    tcase_add_test(t, a_limit_takes_activations_then_weights_then_all);
    tcase_add_loop_test(t, a_type_that_is_none_is_named, 0, 4);
    tcase_add_loop_test(t, a_type_that_cannot_be_made_is_refused, 0, 4);
    tcase_add_test(t, time_grows_with_the_work);
    tcase_add_test(t, speed_is_measured_in_each_precision);
    tcase_add_test(t, products_of_a_token_are_counted);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
