/* check_budget.c - tests of quantize/budget.c: the solver against all possible
 * picks of small problems, and plans that must fit their size to the byte,
 * spend it where the errors are, and not depend on threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/rng.h"
#include "kernels/codec.h"
#include "pipeline/run.h"
#include "quantize/budget.h"
#include "tests/check_main.h"

enum { COLS = 512, ROWS = 96, LAYERS = 3 };

static bise_error err;
static float *matrix, *harsh;
static char dir[] = "/tmp/bise-budg-XXXXXX";

/* matrix: even numbers; harsh: a few huge ones among small, which types of
 * few bits hold badly. */
static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    matrix = bise_alloc_array(ROWS * COLS, sizeof *matrix);
    harsh = bise_alloc_array(ROWS * COLS, sizeof *harsh);
    for (uint64_t i = 0; i < ROWS * COLS; i++) {
        matrix[i] = bise_rng_f32(1, 0, i) - 0.5f;
        harsh[i] = (bise_rng_f32(2, 0, i) - 0.5f) * (i % 16 ? 0.01f : 1);
    }
}

static void teardown(void)
{
    bise_free(matrix);
    bise_free(harsh);
    bise_remove_tree(dir);
}

/* ---- choices ---- */

START_TEST(choices_are_kept_in_order_without_what_is_beaten)
{
    bise_budget_item t = { 0 };
    bise_budget_add(&t, BISE_DTYPE_Q4_K, 40, 4);
    bise_budget_add(&t, BISE_DTYPE_Q2_K, 20, 9);
    bise_budget_add(&t, BISE_DTYPE_Q8_0, 80, 1);
    bise_budget_add(&t, BISE_DTYPE_Q3_K, 30, 9.5);  /* larger and worse */
    bise_budget_add(&t, BISE_DTYPE_Q5_0, 40, 5);    /* as large and worse */
    bise_budget_add(&t, BISE_DTYPE_Q5_K, 60, 4);    /* larger, no better */
    ck_assert_uint_eq(t.n, 3);
    ck_assert_int_eq(t.type[0], BISE_DTYPE_Q2_K);
    ck_assert_int_eq(t.type[1], BISE_DTYPE_Q4_K);
    ck_assert_int_eq(t.type[2], BISE_DTYPE_Q8_0);
    /* one that beats two replaces both */
    bise_budget_add(&t, BISE_DTYPE_IQ4_XS, 35, 0.5);
    ck_assert_uint_eq(t.n, 2);
    ck_assert_int_eq(t.type[1], BISE_DTYPE_IQ4_XS);
    ck_assert_uint_eq(t.bytes[1], 35);
    /* as large and better replaces */
    bise_budget_add(&t, BISE_DTYPE_Q4_0, 35, 0.25);
    ck_assert_uint_eq(t.n, 2);
    ck_assert_int_eq(t.type[1], BISE_DTYPE_Q4_0);
    ck_assert_double_eq(t.error[1], 0.25);
}
END_TEST

/* ---- the solver ---- */

/* n items of up to four random choices. */
static void random_items(bise_budget_item *items, size_t n, uint64_t seed)
{
    memset(items, 0, n * sizeof *items);
    for (size_t i = 0; i < n; i++)
        for (uint64_t k = 0; k < 4; k++) {
            const uint64_t at = 16 * i + 4 * k;
            bise_budget_add(&items[i], BISE_DTYPE_Q4_K,
                            1 + bise_rng_below(seed, 1, at, 50),
                            bise_rng_f32(seed, 2, at) * 100);
        }
}

/* The least error of all picks within limit, by trying every one. */
static double least_error(const bise_budget_item *items, size_t n,
                          uint64_t limit)
{
    if (n == 0)
        return 0;
    double best = INFINITY;
    for (size_t k = 0; k < items[0].n; k++)
        if (items[0].bytes[k] <= limit) {
            const double e = items[0].error[k] +
                least_error(items + 1, n - 1, limit - items[0].bytes[k]);
            best = e < best ? e : best;
        }
    return best;
}

/* Bytes and error of a pick, and its largest possible single step. */
static uint64_t weigh(const uint8_t *pick, const bise_budget_item *items,
                      size_t n, double *error, double *step)
{
    uint64_t bytes = 0;
    *error = *step = 0;
    for (size_t i = 0; i < n; i++) {
        const bise_budget_item *t = &items[i];
        ck_assert_uint_lt(pick[i], t->n);
        bytes += t->bytes[pick[i]];
        *error += t->error[pick[i]];
        for (size_t k = 0; k + 1 < t->n; k++)
            if (t->error[k] - t->error[t->n - 1] > *step)
                *step = t->error[k] - t->error[t->n - 1];
    }
    return bytes;
}

START_TEST(picks_are_within_a_step_of_the_best)
{
    enum { N = 6 };
    bise_budget_item items[N];
    uint8_t pick[N];
    random_items(items, N, (uint64_t)_i);
    uint64_t least = 0, most = 0;
    for (size_t i = 0; i < N; i++) {
        least += items[i].bytes[0];
        most += items[i].bytes[items[i].n - 1];
    }
    for (uint64_t limit = least; limit <= most + 3; limit++) {
        double error, step;
        uint64_t used;
        ck_assert_int_eq(bise_budget_pick(&used, pick, items, N, limit),
                         BISE_OK);
        ck_assert_uint_eq(used, weigh(pick, items, N, &error, &step));
        ck_assert_uint_le(used, limit);
        const double best = least_error(items, N, limit);
        ck_assert_msg(error <= best + step + 1e-9, "%g, best %g", error, best);
        ck_assert_double_ge(error, best - 1e-9);
        /* nothing better fits into what is left */
        for (size_t i = 0; i < N; i++)
            for (size_t k = pick[i] + 1u; k < items[i].n; k++)
                ck_assert_uint_gt(used - items[i].bytes[pick[i]] +
                                  items[i].bytes[k], limit);
    }
    uint64_t used;
    ck_assert_int_eq(bise_budget_pick(&used, pick, items, N, most), BISE_OK);
    ck_assert_uint_eq(used, most);
    ck_assert_int_eq(bise_budget_pick(&used, pick, items, N, least - 1),
                     BISE_EINVAL);
    ck_assert_uint_eq(used, least);
    bise_alloc_fail_after(1);
    ck_assert_int_eq(bise_budget_pick(&used, pick, items, N, most),
                     BISE_ENOMEM);
    bise_alloc_fail_after(0);
}
END_TEST

START_TEST(the_hull_is_followed_past_poor_choices)
{
    /* the middle choice gains less than going on to the last */
    bise_budget_item t[2] = { { 0 }, { 0 } };
    uint8_t pick[2];
    bise_budget_add(&t[0], BISE_DTYPE_Q2_K, 10, 100);
    bise_budget_add(&t[0], BISE_DTYPE_Q4_K, 20, 95);
    bise_budget_add(&t[0], BISE_DTYPE_Q8_0, 30, 0);
    bise_budget_add(&t[1], BISE_DTYPE_Q2_K, 10, 40);
    bise_budget_add(&t[1], BISE_DTYPE_Q8_0, 30, 0);
    uint64_t used;
    ck_assert_int_eq(bise_budget_pick(&used, pick, t, 2, 40), BISE_OK);
    ck_assert_uint_eq(used, 40);
    ck_assert_int_eq(pick[0], 2);
    ck_assert_int_eq(pick[1], 0);
    /* what the hull skips fills a small rest */
    ck_assert_int_eq(bise_budget_pick(&used, pick, t, 2, 30), BISE_OK);
    ck_assert_uint_eq(used, 30);
    ck_assert_int_eq(pick[0], 1);
}
END_TEST

/* ---- plans ---- */

static const bise_config config = { .family = BISE_FAMILY_MINISTRAL3,
                                    .L = LAYERS, .H = 4, .K = 2 };

static void add(bise_plan *p, const char *name, uint64_t rows, uint64_t cols,
                const float *data)
{
    bise_plan_tensor t = { .name = name, .dtype = BISE_DTYPE_F32, .n_dims = 2,
                           .dims = { rows, cols },
                           .stream = bise_stream_memory(&p->arena, data, rows,
                                                        cols) };
    if (rows == 1) {
        t.n_dims = 1;
        t.dims[0] = cols;
    }
    ck_ok(bise_plan_add(p, &t, &err));
}

/* Layers of four matrices; ffn_down of block 1 is the harsh one. */
static void make(bise_plan *p, const bise_quantize_options *o)
{
    static const char *const kinds[] = { "attn_q", "attn_v", "ffn_up",
                                         "ffn_down" };
    bise_plan_init(p, BISE_PLAN_GGUF);
    bise_gguf_set_str(&p->meta, "general.architecture", "mistral3");
    add(p, "token_embd.weight", ROWS, COLS, matrix);
    add(p, "output.weight", ROWS, COLS, matrix);
    add(p, "output_norm.weight", 1, COLS, matrix);
    for (int i = 0; i < LAYERS; i++)
        for (size_t k = 0; k < 4; k++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.%s.weight", i, kinds[k]);
            add(p, name, k == 1 ? 32 : ROWS, COLS,
                i == 1 && k == 3 ? harsh : matrix);
        }
    ck_ok(bise_quantize_plan(p, &config, o, NULL, &err));
}

static bise_quantize_options options(void)
{
    return (bise_quantize_options){ .mixture = bise_mixture_find("Q4_K_M"),
                                    .output_type = BISE_DTYPE_NONE,
                                    .embedding_type = BISE_DTYPE_NONE };
}

static bise_dtype type_of(const bise_plan *p, const char *name)
{
    const bise_plan_tensor *t = bise_plan_find(p, name);
    ck_assert_msg(t != NULL, "%s", name);
    return t->dtype;
}

static const double targets[] = { 2.7, 3, 3.4375, 4, 4.25, 4.5, 5.1, 6,
                                  6.5625, 7.7, 8.5, 12, 20, 32, 40 };

START_TEST(bits_are_never_exceeded_and_nearly_reached)
{
    const bise_quantize_options o = options();
    const bise_budget b = { .bits = targets[_i] };
    bise_plan p;
    make(&p, &o);
    ck_ok(bise_budget_fit(&p, &o, &b, &err));
    ck_assert_double_le(bise_plan_bits(&p), targets[_i]);
    /* the last step, from BF16 to F32, takes 16 bits a weight of a matrix
     * that is 8 % of all */
    if (targets[_i] <= 32)
        ck_assert_double_ge(bise_plan_bits(&p),
                            targets[_i] * (targets[_i] > 16 ? 0.92 : 0.97));
    else
        for (size_t i = 0; i < p.n; i++)    /* everything as it is */
            ck_assert_int_eq(p.tensors[i].dtype, BISE_DTYPE_F32);
    ck_assert_uint_gt(p.n_files, 0);        /* laid out */
    bise_plan_fini(&p);
}
END_TEST

START_TEST(files_are_never_larger_than_the_target)
{
    char path[160];
    bise_quantize_options o = options();
    for (uint64_t bytes = 300000; bytes < 1200000; bytes += 90001) {
        const bise_budget b = { .bytes = bytes };
        bise_plan p;
        bise_run_result r = { 0 };
        make(&p, &o);
        p.split_bytes = bytes % 2 ? 0 : 200000; /* several files as well */
        ck_ok(bise_budget_fit(&p, &o, &b, &err));
        snprintf(path, sizeof path, "%s/%llu.gguf", dir,
                 (unsigned long long)bytes);
        const bise_run_options run = { .path = path, .stage = "quantize" };
        ck_ok(bise_run(&p, &run, &r, &err));
        uint64_t sum = 0;
        for (size_t i = 0; i < r.n_outputs; i++)
            sum += bise_file_size(r.outputs[i].path);
        ck_assert_uint_le(sum, bytes);
        ck_assert_uint_ge(sum, bytes - bytes / 20);
        bise_run_result_fini(&r);
        bise_plan_fini(&p);
    }
}
END_TEST

START_TEST(bytes_go_where_the_errors_are)
{
    const bise_quantize_options o = options();
    const bise_budget b = { .bits = 4.5 };
    bise_plan p;
    make(&p, &o);
    ck_ok(bise_budget_fit(&p, &o, &b, &err));
    const bise_dtype hard = type_of(&p, "blk.1.ffn_down.weight");
    const bise_dtype easy = type_of(&p, "blk.0.ffn_down.weight");
    const bise_dtype logits = type_of(&p, "output.weight");
    /* the same numbers in another role: logits count three times */
    ck_assert(bise_dtype_bytes(logits, COLS) >= bise_dtype_bytes(easy, COLS));
    ck_assert(bise_dtype_bytes(hard, COLS) != bise_dtype_bytes(easy, COLS));
    ck_assert_int_eq(type_of(&p, "output_norm.weight"), BISE_DTYPE_F32);
    bise_plan_fini(&p);
}
END_TEST

/* Columns that matter only where the matrix is smooth make it an easy one. */
START_TEST(importance_decides_what_an_error_is)
{
    bise_quantize_options o = options();
    bise_imatrix m = { 0 };
    bise_imatrix_entry *e = bise_imatrix_add(&m, "blk.1.ffn_down.weight", COLS,
                                             1);
    for (uint64_t i = 0; i < COLS; i++)
        e->sums[i] = i % 16 ? 1e-6f : 1;
    e->counts[0] = 1;
    const bise_budget b = { .bits = 4 };
    bise_plan p, q;
    make(&p, &o);
    ck_ok(bise_budget_fit(&p, &o, &b, &err));
    o.imatrix = &m;
    make(&q, &o);
    ck_ok(bise_budget_fit(&q, &o, &b, &err));
    size_t differ = 0;
    for (size_t i = 0; i < p.n; i++)
        differ += p.tensors[i].dtype != q.tensors[i].dtype;
    ck_assert_uint_gt(differ, 0);
    ck_assert_ptr_nonnull(
        bise_plan_find(&q, "blk.1.ffn_down.weight")->imatrix);
    bise_plan_fini(&p);
    bise_plan_fini(&q);
    /* a type that encodes without it does not keep it */
    const bise_budget all = { .bits = 33 };
    make(&q, &o);
    ck_ok(bise_budget_fit(&q, &o, &all, &err));
    ck_assert_ptr_null(bise_plan_find(&q, "blk.1.ffn_down.weight")->imatrix);
    bise_plan_fini(&q);
    bise_imatrix_fini(&m);
}
END_TEST

START_TEST(experts_have_their_own_importance)
{
    bise_quantize_options o = options();
    bise_imatrix m = { 0 };
    bise_config moe = config;
    bise_plan p;
    moe.E = 2;
    bise_plan_init(&p, BISE_PLAN_GGUF);
    const bise_plan_tensor t = {
        .name = "blk.0.ffn_up_exps.weight", .dtype = BISE_DTYPE_F32,
        .n_dims = 3, .dims = { 2, ROWS / 2, COLS },
        .stream = bise_stream_memory(&p.arena, matrix, ROWS, COLS),
    };
    ck_ok(bise_plan_add(&p, &t, &err));
    bise_imatrix_entry *e = bise_imatrix_add(&m, t.name, COLS, 2);
    for (uint64_t i = 0; i < 2 * COLS; i++)
        e->sums[i] = i < COLS ? 1 : 2;
    e->counts[0] = e->counts[1] = 1;
    o.imatrix = &m;
    ck_ok(bise_quantize_plan(&p, &moe, &o, NULL, &err));
    const bise_budget b = { .bits = 4.6 };
    ck_ok(bise_budget_fit(&p, &o, &b, &err));
    ck_assert_double_le(bise_plan_bits(&p), 4.6);
    ck_assert_uint_eq(p.tensors[0].imatrix_n, 2);
    bise_plan_fini(&p);
    bise_imatrix_fini(&m);
}
END_TEST

START_TEST(named_tensors_keep_their_type)
{
    const bise_type_rule rules[] = { { "attn_v", BISE_DTYPE_Q8_0 } };
    bise_quantize_options o = options();
    const bise_budget b = { .bits = 4 };
    bise_plan p;
    o.rules = rules;
    o.n_rules = 1;
    o.output_type = BISE_DTYPE_Q6_K;
    o.embedding_type = BISE_DTYPE_Q4_0;
    make(&p, &o);
    ck_ok(bise_budget_fit(&p, &o, &b, &err));
    ck_assert_int_eq(type_of(&p, "blk.0.attn_v.weight"), BISE_DTYPE_Q8_0);
    ck_assert_int_eq(type_of(&p, "blk.2.attn_v.weight"), BISE_DTYPE_Q8_0);
    ck_assert_int_eq(type_of(&p, "output.weight"), BISE_DTYPE_Q6_K);
    ck_assert_int_eq(type_of(&p, "token_embd.weight"), BISE_DTYPE_Q4_0);
    ck_assert_double_le(bise_plan_bits(&p), 4);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(threads_do_not_change_the_choice)
{
    const bise_quantize_options o = options();
    bise_plan one, many;
    make(&one, &o);
    make(&many, &o);
    bise_budget b = { .bits = 4.7 };
    ck_ok(bise_budget_fit(&one, &o, &b, &err));
    ck_ok(bise_pool_new(&b.pool, 5, &err));
    ck_ok(bise_budget_fit(&many, &o, &b, &err));
    for (size_t i = 0; i < one.n; i++)
        ck_assert_int_eq(one.tensors[i].dtype, many.tensors[i].dtype);
    bise_pool_free(b.pool);
    bise_plan_fini(&one);
    bise_plan_fini(&many);
}
END_TEST

START_TEST(shapes_fall_back_and_labels_follow)
{
    const bise_quantize_options o = options();
    bise_budget b = { .bits = 8.6 };
    bise_plan p;
    bise_plan_init(&p, BISE_PLAN_GGUF);
    add(&p, "blk.0.attn_q.weight", ROWS, 96, matrix);   /* no K-quant fits */
    add(&p, "blk.0.ffn_up.weight", ROWS, COLS, matrix);
    add(&p, "blk.0.ffn_down.weight", ROWS, 20, matrix); /* no block at all */
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    ck_ok(bise_budget_fit(&p, &o, &b, &err));
    ck_assert_double_le(bise_plan_bits(&p), 8.6);
    ck_assert(bise_dtype_get(type_of(&p, "blk.0.attn_q.weight"))->block_len <=
              32);
    /* most weights are in ffn_up */
    const char *most =
        bise_dtype_get(type_of(&p, "blk.0.ffn_up.weight"))->name;
    ck_assert_int_eq(bise_gguf_int(&p.meta, "general.file_type", -1),
                     bise_mixture_find(most)->file_type);
    /* --type keeps its label */
    b.keep_label = true;
    ck_ok(bise_quantize_plan(&p, &config, &o, NULL, &err));
    ck_ok(bise_budget_fit(&p, &o, &b, &err));
    ck_assert_int_eq(bise_gguf_int(&p.meta, "general.file_type", -1), 15);
    bise_plan_fini(&p);
}
END_TEST

START_TEST(what_cannot_fit_is_said)
{
    const bise_quantize_options o = options();
    const bise_budget bits = { .bits = 2 }, bytes = { .bytes = 5000 };
    bise_plan p;
    make(&p, &o);
    ck_fails(bise_budget_fit(&p, &o, &bits, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "smallest"));
    ck_assert(err.hint[0]);
    ck_fails(bise_budget_fit(&p, &o, &bytes, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "5000"));
    bise_plan_fini(&p);
}
END_TEST

/* NaN and infinity are the runner's to refuse, with their place. */
START_TEST(bad_numbers_and_plans_without_weights)
{
    const bise_quantize_options o = options();
    bise_budget b = { .bits = 4.5 };
    bise_plan p, q;
    make(&p, &o);
    ck_ok(bise_budget_fit(&p, &o, &b, &err));
    matrix[17] = NAN;
    matrix[3 * COLS] = INFINITY;
    matrix[7 * COLS + 5] = 3e38f;           /* no float16 scale holds it */
    make(&q, &o);
    ck_ok(bise_budget_fit(&q, &o, &b, &err));
    ck_assert_double_le(bise_plan_bits(&q), 4.5);
    bise_plan_fini(&q);
    /* headers only: the same size from weights that are not looked at */
    b.headers_only = true;
    for (uint64_t i = 0; i < ROWS * COLS; i++)
        matrix[i] = NAN;
    make(&q, &o);
    ck_ok(bise_budget_fit(&q, &o, &b, &err));
    ck_assert_double_le(bise_plan_bits(&q), 4.5);
    ck_assert_double_ge(bise_plan_bits(&q), 4.5 * 0.97);
    bise_plan_fini(&p);
    bise_plan_fini(&q);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("budget");
    TCase *t = tcase_create("solver");
    tcase_add_test(t, choices_are_kept_in_order_without_what_is_beaten);
    tcase_add_loop_test(t, picks_are_within_a_step_of_the_best, 1, 40);
    tcase_add_test(t, the_hull_is_followed_past_poor_choices);
    suite_add_tcase(s, t);
    t = tcase_create("plans");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, bits_are_never_exceeded_and_nearly_reached, 0,
                        (int)(sizeof targets / sizeof *targets));
    tcase_add_test(t, files_are_never_larger_than_the_target);
    tcase_add_test(t, bytes_go_where_the_errors_are);
    tcase_add_test(t, importance_decides_what_an_error_is);
    tcase_add_test(t, experts_have_their_own_importance);
    tcase_add_test(t, named_tensors_keep_their_type);
    tcase_add_test(t, threads_do_not_change_the_choice);
    tcase_add_test(t, shapes_fall_back_and_labels_follow);
    tcase_add_test(t, what_cannot_fit_is_said);
    tcase_add_test(t, bad_numbers_and_plans_without_weights);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
