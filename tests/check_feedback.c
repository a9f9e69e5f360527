/* check_feedback.c - tests of quantize/feedback.c and model/layerwise.c on the
 * golden checkpoints (rotated rows, experts): layer by layer is the forward
 * pass; replaced weights compute as the GGUF that is written; the bytes do not
 * depend on threads or on the memory for statistics; what has no feedback
 * stays; faults are named.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "convert/convert.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"
#include "formats/safetensors.h"
#include "pipeline/run.h"
#include "quantize/feedback.h"
#include "quantize/quantize.h"
#include "tests/check_main.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/models/"
#define BATCHES 5
#define LEN 40

static bise_error err;
static char dir[] = "/tmp/bise-feed-XXXXXX";
static int32_t ids[BATCHES][LEN];
static const int32_t seg[2][3] = { { 0, LEN }, { 0, 11, LEN } };
static bise_batch batches[BATCHES];

/* Random tokens; every other batch is of two samples. */
static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    for (int b = 0; b < BATCHES; b++) {
        for (int t = 0; t < LEN; t++)
            ids[b][t] = (int32_t)bise_rng_below(7, (uint64_t)b, (uint64_t)t,
                                                150);
        batches[b] = (bise_batch){ .ids = ids[b], .seg = seg[b % 2], .T = LEN,
                                   .n_seg = 1 + b % 2 };
    }
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

static const char *at(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* ---- what a graph feeds its linears ---- */

/* All inputs one after another. */
typedef struct record {
    float *v;
    size_t n;
    size_t cap;
} record;

static bise_status take(void *ctx, bise_role role, const float *x, int32_t T,
                        int32_t in, bise_error *e)
{
    record *r = ctx;
    void *v = r->v;
    const size_t n = (size_t)T * (size_t)in;
    (void)role;
    (void)e;
    ck_assert_int_eq(bise_grow(&v, &r->cap, r->n + n, sizeof *r->v), 0);
    r->v = v;
    memcpy(r->v + r->n, x, n * sizeof *x);
    r->n += n;
    return BISE_OK;
}

static bise_graph *graph_of(const bise_checkpoint *c, record *r)
{
    bise_graph *g = NULL;
    const bise_graph_options o = { .max_tokens = LEN, .tap = take,
                                   .tap_ctx = r };
    ck_ok(bise_graph_new(&g, c, &o, &err));
    return g;
}

/* One batch through the layers, one call each. */
static void walk(bise_graph *g, const bise_checkpoint *c, const bise_batch *b)
{
    float *x = bise_alloc_array((size_t)LEN * (size_t)c->config.C, sizeof *x);
    ck_ok(bise_graph_embed(g, b, x, &err));
    for (int32_t l = 0; l < c->config.L; l++)
        ck_ok(bise_graph_layer(g, l, b, x, x, &err));
    bise_free(x);
}

static const char *const models[] = { "ministral3", "mixtral",
                                      "mistral-window" };

START_TEST(layers_one_by_one_are_the_forward_pass)
{
    bise_checkpoint c;
    char path[256];
    record whole = { 0 }, parts = { 0 };
    snprintf(path, sizeof path, GOLDEN "%s", models[_i]);
    ck_ok(bise_checkpoint_open(&c, path, NULL, &err));
    bise_graph *a = graph_of(&c, &whole), *b = graph_of(&c, &parts);
    for (int i = 0; i < 2; i++) {
        ck_ok(bise_graph_forward(a, &batches[i], &err));
        walk(b, &c, &batches[i]);
    }
    ck_assert_uint_gt(whole.n, 0);
    ck_assert_uint_eq(parts.n, whole.n);
    ck_assert_mem_eq(parts.v, whole.v, whole.n * sizeof(float));
    bise_graph_free(a);
    bise_graph_free(b);
    bise_free(whole.v);
    bise_free(parts.v);
    bise_checkpoint_close(&c);
}
END_TEST

/* Without a place for the result only the tap sees it; a wrong token and a
 * batch that is too long are errors. */
START_TEST(layers_can_be_shown_to_the_tap_alone)
{
    bise_checkpoint c;
    record r = { 0 };
    ck_ok(bise_checkpoint_open(&c, GOLDEN "ministral3", NULL, &err));
    const size_t n = (size_t)LEN * (size_t)c.config.C;
    float *x = bise_alloc_array(n, sizeof *x);
    float *same = bise_alloc_array(n, sizeof *x);
    bise_graph *g = graph_of(&c, &r);
    ck_ok(bise_graph_embed(g, &batches[0], x, &err));
    memcpy(same, x, n * sizeof *x);
    ck_ok(bise_graph_layer(g, 1, &batches[0], x, NULL, &err));
    ck_assert_mem_eq(same, x, n * sizeof *x);
    ck_assert_uint_gt(r.n, 0);
    ids[0][3] = c.config.V;
    ck_fails(bise_graph_embed(g, &batches[0], x, &err), BISE_EINVAL);
    const int32_t more[2] = { 0, LEN + 1 };
    const bise_batch b = { .ids = ids[1], .seg = more, .T = LEN + 1,
                           .n_seg = 1 };
    ck_fails(bise_graph_layer(g, 0, &b, x, x, &err), BISE_EINVAL);
    bise_graph_free(g);
    bise_free(x);
    bise_free(same);
    bise_free(r.v);
    bise_checkpoint_close(&c);
}
END_TEST

/* ---- whole models ---- */

typedef struct fixture {
    bise_checkpoint c;
    bise_plan p;
    bise_feedback f;
} fixture;

/* Plan a model as type, and encode it with feedback. */
static bise_status make(fixture *x, const char *path, const char *type,
                        bise_pool *pool, uint64_t memory)
{
    const bise_convert_options o = { .to = BISE_TO_GGUF,
                                     .dtype = BISE_DTYPE_NONE };
    const bise_quantize_options q = { .mixture = bise_mixture_find(type),
                                      .embedding_type = BISE_DTYPE_F32,
                                      .output_type = BISE_DTYPE_F32 };
    const bise_feedback_options fo = {
        .batches = batches, .n_batches = BATCHES, .max_tokens = LEN,
        .path = at("out.gguf"), .memory_bytes = memory, .pool = pool,
    };
    memset(x, 0, sizeof *x);
    ck_ok(bise_checkpoint_open(&x->c, path, NULL, &err));
    ck_ok(bise_convert_plan(&x->p, &x->c, &o, &err));
    ck_ok(bise_quantize_plan(&x->p, &x->c.config, &q, NULL, &err));
    bise_error_init(&err);
    return bise_feedback_run(&x->f, &x->p, &x->c, &fo, &err);
}

static void done(fixture *x)
{
    bise_feedback_close(&x->f);
    bise_plan_fini(&x->p);
    bise_checkpoint_close(&x->c);
}

/* Compute with the encoded matrices in the place of the model's. */
static void replace_all(bise_graph *g, const fixture *x)
{
    for (size_t i = 0; i < x->p.n; i++) {
        const bise_plan_tensor *t = &x->p.tensors[i];
        const uint64_t n = t->n_dims >= 3 ? t->dims[0] : 1;
        const bool rotated = t->role.kind == BISE_ROLE_Q ||
                             t->role.kind == BISE_ROLE_K;
        for (uint64_t k = 0; t->encoded && k < n; k++) {
            bise_role role = t->role;
            role.expert = n > 1 ? (int32_t)k : -1;
            ck_ok(bise_graph_replace(
                g, role, t->dtype,
                t->encoded + k * bise_plan_tensor_bytes(t) / n,
                rotated ? BISE_ROWS_INTERLEAVED : BISE_ROWS_PLAIN, &err));
        }
    }
}

/* The file that the runner writes computes the same as the graph with the
 * matrices replaced: codes, experts and the order of rotated rows are right. */
START_TEST(replaced_weights_are_those_of_the_file)
{
    fixture x;
    bise_checkpoint q;
    bise_run_result result = { 0 };
    record file = { 0 }, inside = { 0 };
    char path[256];
    snprintf(path, sizeof path, GOLDEN "%s", models[_i]);
    ck_ok(make(&x, path, "Q5_1", NULL, 0));
    ck_assert_uint_gt(x.f.tensors, 10);
    const bise_run_options run = { .path = at("out.gguf"), .stage = "test",
                                   .measure = true };
    bise_graph *g = graph_of(&x.c, &inside);
    replace_all(g, &x);
    ck_ok(bise_run(&x.p, &run, &result, &err));
    for (size_t i = 0; i < x.p.n; i++)
        if (x.p.tensors[i].encoded)
            ck_assert_double_gt(bise_run_rmse(&result.stats[i]), 0);
    ck_ok(bise_checkpoint_open(&q, at("out.gguf"), NULL, &err));
    bise_graph *h = graph_of(&q, &file);
    walk(g, &x.c, &batches[1]);
    walk(h, &q, &batches[1]);
    ck_assert_uint_eq(file.n, inside.n);
    for (size_t i = 0; i < file.n; i++)
        ck_assert_float_eq_tol(file.v[i], inside.v[i], 1e-4f);
    bise_graph_free(g);
    bise_graph_free(h);
    bise_free(file.v);
    bise_free(inside.v);
    bise_run_result_fini(&result);
    bise_checkpoint_close(&q);
    done(&x);
}
END_TEST

/* One input at a time, all at once, three threads: the same bytes. */
START_TEST(bytes_do_not_depend_on_memory_or_threads)
{
    fixture a, b, c;
    bise_pool *pool = NULL;
    char path[256];
    snprintf(path, sizeof path, GOLDEN "%s", models[_i]);
    ck_ok(bise_pool_new(&pool, 3, &err));
    ck_ok(make(&a, path, "Q4_0", NULL, 0));
    ck_ok(make(&b, path, "Q4_0", NULL, 1));
    ck_ok(make(&c, path, "Q4_0", pool, 40000));
    ck_assert_uint_eq(a.f.codes.size, b.f.codes.size);
    ck_assert_uint_eq(a.f.codes.size, c.f.codes.size);
    ck_assert_mem_eq(a.f.codes.data, b.f.codes.data, a.f.codes.size);
    ck_assert_mem_eq(a.f.codes.data, c.f.codes.data, a.f.codes.size);
    bise_pool_free(pool);
    done(&a);
    done(&b);
    done(&c);
}
END_TEST

/* The embedding, routers and norms are not for feedback, nor types without a
 * grid; then nothing is computed at all. */
START_TEST(what_has_no_grid_stays_plain)
{
    fixture x;
    ck_ok(make(&x, GOLDEN "mixtral", "Q8_0", NULL, 0));
    for (size_t i = 0; i < x.p.n; i++) {
        const bise_plan_tensor *t = &x.p.tensors[i];
        const bool matrix = t->role.layer >= 0 && t->n_dims >= 2 &&
                            t->role.kind != BISE_ROLE_ROUTER;
        ck_assert_msg(matrix == (t->encoded != NULL), "%s", t->name);
    }
    ck_assert_uint_eq(x.f.plain, 0);
    done(&x);
    ck_ok(make(&x, GOLDEN "mixtral", "MXFP4_MOE", NULL, 0));
    ck_assert_uint_gt(x.f.plain, 0);
    done(&x);
    ck_ok(make(&x, GOLDEN "ministral3", "BF16", NULL, 0));
    ck_assert_uint_eq(x.f.tensors, 0);
    ck_assert_uint_eq(x.f.plain, 0);
    ck_assert_ptr_null(x.f.codes.data);
    done(&x);
}
END_TEST

START_TEST(memory_is_told_before)
{
    fixture x;
    uint64_t little = 0, much = 0;
    bise_feedback_options o = { .max_tokens = LEN, .memory_bytes = 1 };
    ck_ok(make(&x, GOLDEN "mixtral", "Q8_0", NULL, 0));
    ck_ok(bise_feedback_memory(&little, &x.p, &x.c, &o, &err));
    o.memory_bytes = 1 << 30;
    ck_ok(bise_feedback_memory(&much, &x.p, &x.c, &o, &err));
    /* four experts with two inputs of 64 and 96 columns, q and o */
    ck_assert_uint_ge(much - little, 4 * (64 * 64 + 96 * 96));
    done(&x);
}
END_TEST

/* ---- faults ---- */

/* A copy of a golden model with one value of a tensor changed. */
static const char *changed(const char *tensor, float value)
{
    static const char *const files[] = { "config.json", "model.safetensors" };
    bise_str text = { 0 };
    bise_st st;
    for (int i = 0; i < 2; i++) {
        char from[256];
        snprintf(from, sizeof from, GOLDEN "ministral3/%s", files[i]);
        bise_str_clear(&text);
        ck_ok(bise_file_read(&text, from, &err));
        if (i == 1) {
            ck_ok(bise_st_open(&st, from, &err));
            const bise_tensor *t = bise_st_find(&st, tensor);
            ck_assert_ptr_nonnull(t);
            ck_assert_int_eq(t->dtype, BISE_DTYPE_F32);
            memcpy(text.data + t->offset + 4 * 3, &value, 4);
            bise_st_close(&st);
        }
        ck_ok(bise_file_write(at(files[i]), text.data, text.len, &err));
    }
    bise_str_fini(&text);
    return dir;
}

START_TEST(bad_activations_name_layer_and_token)
{
    fixture x;
    const char *path = changed("model.layers.1.input_layernorm.weight", 3e38f);
    ck_assert_int_eq(make(&x, path, "Q8_0", NULL, 0), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "the input of layer 1 at token "));
    ck_assert_ptr_nonnull(strstr(err.tensor, "blk.1."));
    done(&x);
}
END_TEST

START_TEST(bad_weights_name_their_place)
{
    static const struct { const char *tensor, *gguf; } cases[] = {
        { "model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight" },
        { "model.layers.0.post_attention_layernorm.weight",
          "blk.0.ffn_norm.weight" },
        { "model.embed_tokens.weight", "token_embd.weight" },
    };
    fixture x;
    const char *path = changed(cases[_i].tensor, NAN);
    ck_assert_int_eq(make(&x, path, "Q8_0", NULL, 0), BISE_EFORMAT);
    ck_assert_str_eq(err.tensor, cases[_i].gguf);
    ck_assert_ptr_nonnull(strstr(err.text, "row 0, column 3"));
    done(&x);
}
END_TEST

START_TEST(other_roles_cannot_be_replaced)
{
    static const bise_role roles[] = {
        { BISE_ROLE_EMBED, -1, -1 }, { BISE_ROLE_Q, 99, -1 },
        { BISE_ROLE_EXP_UP, 0, 1 }, { BISE_ROLE_ATTN_NORM, 0, -1 },
    };
    bise_checkpoint c;
    record r = { 0 };
    const uint8_t none[4] = { 0 };
    ck_ok(bise_checkpoint_open(&c, GOLDEN "ministral3", NULL, &err));
    bise_graph *g = graph_of(&c, &r);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        ck_fails(bise_graph_replace(g, roles[i], BISE_DTYPE_Q8_0, none,
                                    BISE_ROWS_PLAIN, &err), BISE_EINVAL);
    bise_graph_free(g);
    bise_checkpoint_close(&c);
}
END_TEST

/* A scratch file has no name; its memory is zero and may be written to. */
START_TEST(scratch_memory_leaves_nothing)
{
    bise_map m;
    uint8_t *data = NULL;
    char **names = NULL;
    size_t n = 1;
    ck_ok(bise_map_scratch(&m, &data, at("x"), 100000, &err));
    for (size_t i = 0; i < 100000; i += 999)
        ck_assert_uint_eq(data[i], 0);
    memset(data, 7, 100000);
    ck_assert_uint_eq(m.data[99999], 7);
    ck_ok(bise_dir_list(&names, &n, dir, &err));
    ck_assert_uint_eq(n, 0);
    bise_free(names);
    bise_map_close(&m);
    ck_ok(bise_map_scratch(&m, &data, at("x"), 0, &err));
    ck_assert_ptr_null(data);
    ck_fails(bise_map_scratch(&m, &data, at("none/x"), 10, &err), BISE_EIO);
    ck_fails(bise_map_scratch(&m, &data, at("x"), UINT64_MAX / 4, &err),
             BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "disk full"));
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("feedback");
    TCase *t = tcase_create("feedback");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, layers_one_by_one_are_the_forward_pass, 0, 3);
    tcase_add_test(t, layers_can_be_shown_to_the_tap_alone);
    tcase_add_loop_test(t, replaced_weights_are_those_of_the_file, 0, 3);
    tcase_add_loop_test(t, bytes_do_not_depend_on_memory_or_threads, 0, 3);
    tcase_add_test(t, what_has_no_grid_stays_plain);
    tcase_add_test(t, memory_is_told_before);
    tcase_add_test(t, bad_activations_name_layer_and_token);
    tcase_add_loop_test(t, bad_weights_name_their_place, 0, 3);
    tcase_add_test(t, other_roles_cannot_be_replaced);
    tcase_add_test(t, scratch_memory_leaves_nothing);
    suite_add_tcase(all, t);
    return all;
}

BISE_CHECK_MAIN
