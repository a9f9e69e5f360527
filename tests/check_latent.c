/* check_latent.c - latent attention and its experts: golden logits of
 * transformers from Hugging Face, native and GGUF files; cache, packing and
 * threads change nothing; what calibration sees; training is refused by name.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "convert/convert.h"
#include "core/file.h"
#include "core/mem.h"
#include "formats/safetensors.h"
#include "model/graph.h"
#include "pipeline/run.h"
#include "tests/check_main.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/latent/"

static bise_error err;
static char dir[] = "/tmp/bise-ltnt-XXXXXX";

/* The golden model, whichever file holds it, and its batch. */
typedef struct fixture {
    bise_checkpoint c;
    bise_st want;
    const float *logits;
    int32_t ids[64], targets[64], seg[2], rows[64], T;
    bise_batch b;
} fixture;

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

static void convert(const char *from, const char *to, bise_layout layout)
{
    bise_checkpoint c;
    bise_plan p;
    bise_run_result r = { 0 };
    ck_ok(bise_checkpoint_open(&c, from, NULL, &err));
    const bise_convert_options o = { .to = layout };
    ck_ok(bise_convert_plan(&p, &c, &o, &err));
    const bise_run_options run = { .path = to, .stage = "convert" };
    ck_ok(bise_run(&p, &run, &r, &err));
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
    bise_checkpoint_close(&c);
}

/* How a model may be stored: its own layout, the other one, GGUF. */
static const char *stored(const char *name, int way)
{
    static char own[256], path[300];
    snprintf(own, sizeof own, GOLDEN "%s", name);
    if (way == 0)
        return own;
    const bise_layout layout = way == 2 ? BISE_TO_GGUF :
        strcmp(name, "small4") == 0 ? BISE_TO_NATIVE : BISE_TO_HF;
    snprintf(path, sizeof path, "%s/%s-%d%s", dir, name, way,
             way == 2 ? ".gguf" : "");
    convert(own, path, layout);
    return path;
}

static void open_case(fixture *f, const char *name, int way)
{
    char path[300];
    memset(f, 0, sizeof *f);
    ck_ok(bise_checkpoint_open(&f->c, stored(name, way), NULL, &err));
    snprintf(path, sizeof path, GOLDEN "expected-%s.safetensors", name);
    ck_ok(bise_st_open(&f->want, path, &err));
    const bise_tensor *ids = bise_st_find(&f->want, "input_ids");
    const int64_t *id = ids->data;
    const int64_t *label = bise_st_find(&f->want, "labels")->data;
    f->logits = bise_st_find(&f->want, "logits")->data;
    f->T = (int32_t)bise_tensor_count(ids);
    for (int32_t t = 0; t < f->T; t++) {
        f->ids[t] = (int32_t)id[t];
        f->rows[t] = t;
        f->targets[t] = t + 1 < f->T && label[t + 1] >= 0
                            ? (int32_t)label[t + 1] : -1;
    }
    f->seg[1] = f->T;
    f->b = (bise_batch){ .ids = f->ids, .seg = f->seg, .T = f->T, .n_seg = 1,
                         .targets = f->targets };
}

static void close_case(fixture *f)
{
    bise_checkpoint_close(&f->c);
    bise_st_close(&f->want);
}

static double max_diff(const float *a, const float *b, size_t n)
{
    double d = 0;
    for (size_t i = 0; i < n; i++)
        d = fmax(d, fabs((double)a[i] - (double)b[i]));
    return d;
}

static float *logits_of(fixture *f, const bise_graph_options *o)
{
    const size_t V = (size_t)f->c.config.V;
    bise_graph *g;
    float *z = bise_alloc_array((size_t)f->T * V, sizeof *z);
    ck_ok(bise_graph_new(&g, &f->c, o, &err));
    ck_ok(bise_graph_forward(g, &f->b, &err));
    ck_ok(bise_graph_logits(g, f->rows, f->T, z, &err));
    bise_graph_free(g);
    return z;
}

/* Six ways: two models in three layouts. */
static const char *const models[] = { "small4", "large3" };

START_TEST(logits_and_loss_are_golden)
{
    fixture f;
    open_case(&f, models[_i % 2], _i / 2);
    const bise_graph_options o = { .max_tokens = f.T };
    float *z = logits_of(&f, &o);
    const size_t n = (size_t)f.T * (size_t)f.c.config.V;
    ck_assert_double_lt(max_diff(z, f.logits, n), 1e-5);
    double sum = 0, count = 0;
    bise_graph *g;
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    ck_ok(bise_graph_loss(g, &f.b, &sum, NULL, &err));
    for (int32_t t = 0; t < f.T; t++)
        count += f.targets[t] >= 0;
    const double want = strtod(bise_json_string(
        bise_json_get(f.want.meta, "loss"), NULL), NULL);
    ck_assert_double_eq_tol(sum / count, want, 1e-5);
    bise_graph_free(g);
    bise_free(z);
    close_case(&f);
}
END_TEST

START_TEST(models_differ_by_the_magnitude_of_yarn)
{
    fixture a, b;
    open_case(&a, "small4", 0);
    open_case(&b, "large3", 0);
    ck_assert_double_gt(max_diff(a.logits, b.logits, (size_t)a.T * 64), 1e-3);
    close_case(&a);
    close_case(&b);
}
END_TEST

START_TEST(cache_equals_forward)
{
    fixture f;
    open_case(&f, models[_i % 2], _i / 2);
    const size_t V = (size_t)f.c.config.V;
    bise_graph *g;
    bise_cache *c;
    const bise_graph_options o = { .max_tokens = 8, .max_seq = f.T };
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    ck_ok(bise_cache_new(&c, g, f.T, &err));
    float *z = bise_alloc_array(V, sizeof *z);
    for (int round = 0; round < 2; round++) {
        int32_t at = bise_cache_len(c);
        ck_ok(bise_graph_decode(g, c, f.ids + at, 21 - at, z, &err));
        for (int32_t t = 21; t < f.T; t++) {
            ck_ok(bise_graph_decode(g, c, f.ids + t, 1, z, &err));
            ck_assert_double_lt(max_diff(z, f.logits + (size_t)t * V, V),
                                1e-5);
        }
        ck_fails(bise_graph_decode(g, c, f.ids, 1, z, &err), BISE_EINVAL);
        bise_cache_cut(c, 5);
    }
    bise_cache_free(c);
    bise_graph_free(g);
    bise_free(z);
    close_case(&f);
}
END_TEST

START_TEST(packed_samples_equal_separate_ones)
{
    fixture f;
    open_case(&f, "small4", 0);
    bise_graph *g;
    const bise_graph_options o = { .max_tokens = f.T };
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    const int32_t seg[] = { 0, 1, 22, 40, f.T };
    bise_batch b = f.b;
    b.seg = seg;
    b.n_seg = 4;
    double packed = 0, separate = 0;
    ck_ok(bise_graph_loss(g, &b, &packed, NULL, &err));
    for (int s = 0; s < 4; s++) {
        const int32_t one[] = { 0, seg[s + 1] - seg[s] };
        const bise_batch part = {
            .ids = f.ids + seg[s], .targets = f.targets + seg[s], .seg = one,
            .n_seg = 1, .T = one[1],
        };
        ck_ok(bise_graph_loss(g, &part, &separate, NULL, &err));
    }
    ck_assert_double_eq_tol(packed, separate, 1e-4);
    bise_graph_free(g);
    close_case(&f);
}
END_TEST

START_TEST(threads_change_nothing)
{
    fixture f;
    bise_pool *pool;
    open_case(&f, "large3", 2);
    const size_t n = (size_t)f.T * (size_t)f.c.config.V;
    bise_graph_options o = { .max_tokens = f.T };
    float *one = logits_of(&f, &o);
    ck_ok(bise_pool_new(&pool, 5, &err));
    o.pool = pool;
    float *many = logits_of(&f, &o);
    ck_assert_mem_eq(one, many, n * sizeof *one);
    bise_free(many);
    o.compute = BISE_COMPUTE_BF16;      /* rounded, yet near */
    many = logits_of(&f, &o);
    const double d = max_diff(one, many, n);
    ck_assert_msg(d > 0 && d < 0.1, "%g", d);
    bise_free(many);
    bise_free(one);
    bise_pool_free(pool);
    close_case(&f);
}
END_TEST

START_TEST(training_is_refused_by_name)
{
    fixture f;
    bise_graph *g;
    bise_lora l;
    const bise_lora_options lo = { .target = "all-linear", .r = 4,
                                   .alpha = 8 };
    open_case(&f, "small4", 0);
    const bise_graph_options o = { .max_tokens = 8, .train = true };
    ck_fails(bise_graph_new(&g, &f.c, &o, &err), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "mistral4"));
    ck_fails(bise_lora_new(&l, &f.c.config, &lo, true, &err),
             BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "mistral4"));
    ck_assert_ptr_nonnull(strstr(err.hint, "eval"));
    close_case(&f);
}
END_TEST

/* Sums of squares by role; head is the number of one of a stack. */
typedef struct seen {
    int calls, heads_k, heads_v, q_b;
    int32_t in_k, in_v;
} seen;

static bise_status look(void *ctx, bise_role role, const float *x, int32_t T,
                        int32_t in, bise_error *e)
{
    seen *s = ctx;
    (void)e;
    ck_assert(isfinite(x[(size_t)T * (size_t)in - 1]));
    s->calls++;
    if (role.kind == BISE_ROLE_Q_B)
        s->q_b += in == 24 && role.expert < 0;
    if (role.kind == BISE_ROLE_K_B) {
        ck_assert_int_eq(role.expert, s->heads_k++ % 2);
        s->in_k = in;
    }
    if (role.kind == BISE_ROLE_V_B) {
        ck_assert_int_eq(role.expert, s->heads_v++ % 2);
        s->in_v = in;
    }
    return BISE_OK;
}

START_TEST(the_tap_sees_each_head)
{
    fixture f;
    seen s = { 0 };
    open_case(&f, "small4", _i * 2);
    const bise_graph_options o = { .max_tokens = f.T, .tap = look,
                                   .tap_ctx = &s };
    float *z = logits_of(&f, &o);
    /* two layers of two heads; keys of 8, the latent of 16 */
    ck_assert_int_eq(s.heads_k, 4);
    ck_assert_int_eq(s.heads_v, 4);
    ck_assert_int_eq(s.in_k, 8);
    ck_assert_int_eq(s.in_v, 16);
    ck_assert_int_eq(s.q_b, 2);
    ck_assert_int_gt(s.calls, 12);
    bise_free(z);
    close_case(&f);
}
END_TEST

/* Rotation keeps the length of each pair: no check of it here is needed, but
 * of the scale of q k, by the formula of mistral3.md 3.5. */
START_TEST(the_scale_follows_the_configuration)
{
    bise_rope r = { .theta = 1e4, .yarn = true, .factor = 36, .beta_fast = 32,
                    .beta_slow = 1, .original_max = 8192, .mscale = NAN,
                    .mscale_all_dim = NAN, .attention_factor = 1,
                    .truncate = true };
    double freq[32], factor;
    ck_assert_double_eq_tol(bise_rope_mla_alpha(&r, 192), 1 / sqrt(192.0),
                            1e-15);
    bise_rope_freqs(&r, 64, freq, &factor);
    ck_assert_double_eq(factor, 1);
    /* golden frequencies of Large 3, mistral3.md 3.3 */
    ck_assert_double_eq_tol(freq[12], 3.162277660e-2, 1e-11);
    ck_assert_double_eq_tol(freq[18], 3.100086793e-3, 1e-12);
    ck_assert_double_eq_tol(freq[31], 3.704226200e-6, 1e-15);
    r.factor = 128;
    r.mscale = r.mscale_all_dim = 1;
    r.attention_factor = NAN;
    ck_assert_double_eq_tol(bise_rope_mla_alpha(&r, 128) * sqrt(128.0),
                            1.4852030264 * 1.4852030264, 1e-8);
    r.yarn = false;
    ck_assert_double_eq_tol(bise_rope_mla_alpha(&r, 128), 1 / sqrt(128.0),
                            1e-15);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("latent");
    TCase *t = tcase_create("latent");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, logits_and_loss_are_golden, 0, 6);
    tcase_add_loop_test(t, cache_equals_forward, 0, 6);
    tcase_add_test(t, models_differ_by_the_magnitude_of_yarn);
    tcase_add_test(t, packed_samples_equal_separate_ones);
    tcase_add_test(t, threads_change_nothing);
    tcase_add_test(t, training_is_refused_by_name);
    tcase_add_loop_test(t, the_tap_sees_each_head, 0, 2);
    tcase_add_test(t, the_scale_follows_the_configuration);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
