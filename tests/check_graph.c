/* check_graph.c - the graph against golden numbers of transformers and PEFT:
 * logits, loss and adapter gradients; equal results for any number of threads;
 * packed samples against separate ones; the KV cache against a forward.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"
#include "formats/safetensors.h"
#include "model/graph.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/"

static bise_error err;

/* A golden case: model, expectations, and a batch made from them. */
typedef struct fixture {
    bise_checkpoint c;
    bise_st want;
    int32_t *ids, *targets, seg[2];
    int32_t T, supervised;
    bise_batch b;
} fixture;

static const float *want_floats(const fixture *f, const char *name, size_t *n)
{
    const bise_tensor *t = bise_st_find(&f->want, name);
    ck_assert_msg(t != NULL, "no %s", name);
    ck_assert_int_eq(t->dtype, BISE_DTYPE_F32);
    *n = (size_t)bise_tensor_count(t);
    return t->data;
}

/* labels are not shifted: position t predicts label t + 1. */
static void open_case(fixture *f, const char *model, const char *expected)
{
    char path[512];
    memset(f, 0, sizeof *f);
    snprintf(path, sizeof path, GOLDEN "%s", model);
    ck_ok(bise_checkpoint_open(&f->c, path, NULL, &err));
    snprintf(path, sizeof path, GOLDEN "%s/expected.safetensors", expected);
    ck_ok(bise_st_open(&f->want, path, &err));
    const bise_tensor *ids = bise_st_find(&f->want, "input_ids");
    const bise_tensor *labels = bise_st_find(&f->want, "labels");
    f->T = (int32_t)bise_tensor_count(ids);
    f->ids = bise_alloc_array((size_t)f->T, sizeof *f->ids);
    f->targets = bise_alloc_array((size_t)f->T, sizeof *f->targets);
    const int64_t *id = ids->data, *label = labels->data;
    for (int32_t t = 0; t < f->T; t++) {
        f->ids[t] = (int32_t)id[t];
        f->targets[t] = t + 1 < f->T && label[t + 1] >= 0 ?
                            (int32_t)label[t + 1] : -1;
        f->supervised += f->targets[t] >= 0;
    }
    f->seg[1] = f->T;
    f->b = (bise_batch){ .ids = f->ids, .seg = f->seg, .T = f->T, .n_seg = 1,
                         .targets = f->targets };
}

static void close_case(fixture *f)
{
    bise_checkpoint_close(&f->c);
    bise_st_close(&f->want);
    bise_free(f->ids);
    bise_free(f->targets);
}

static double golden_loss(const fixture *f)
{
    return bise_json_number(bise_json_get(f->want.meta, "loss"), NAN);
}

static double max_diff(const float *a, const float *b, size_t n)
{
    double d = 0;
    for (size_t i = 0; i < n; i++)
        d = fmax(d, fabs((double)a[i] - (double)b[i]));
    return d;
}

static const char *const models[] = {
    "ministral3", "ministral3-tied", "ministral3-mscale", "mistral-window",
    "mistral-nohd", "mixtral",
};

static float *all_logits(bise_graph *g, const fixture *f)
{
    const size_t V = (size_t)f->c.config.V;
    int32_t *rows = bise_alloc_array((size_t)f->T, sizeof *rows);
    float *z = bise_alloc_array((size_t)f->T * V, sizeof *z);
    for (int32_t t = 0; t < f->T; t++)
        rows[t] = t;
    ck_ok(bise_graph_forward(g, &f->b, &err));
    ck_ok(bise_graph_logits(g, rows, f->T, z, &err));
    bise_free(rows);
    return z;
}

START_TEST(logits_and_loss_are_golden)
{
    fixture f;
    char name[64];
    snprintf(name, sizeof name, "models/%s", models[_i]);
    open_case(&f, name, name);
    bise_graph *g;
    const bise_graph_options o = { .max_tokens = f.T };
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    size_t n;
    const float *want = want_floats(&f, "logits", &n);
    float *z = all_logits(g, &f);
    const double d = max_diff(z, want, n);
    ck_assert_msg(d < 2e-4, "%s: logits differ by %g", name, d);
    double sum = 0;
    ck_ok(bise_graph_loss(g, &f.b, &sum, NULL, &err));
    ck_assert_double_eq_tol(sum / f.supervised, golden_loss(&f), 1e-5);
    bise_free(z);
    bise_graph_free(g);
    close_case(&f);
}
END_TEST

static const struct { const char *name, *model; } loras[] = {
    { "plain", "ministral3" }, { "rslora", "ministral3" },
    { "tied", "ministral3-tied" }, { "window", "mistral-window" },
    { "qv-rank-pattern", "ministral3" }, { "dora", "ministral3" },
};

/* Open a LoRA case with its adapter, trainable. */
static void open_lora(fixture *f, bise_lora *l, int i)
{
    char model[64], name[64], path[512];
    snprintf(model, sizeof model, "models/%s", loras[i].model);
    snprintf(name, sizeof name, "lora/%s", loras[i].name);
    open_case(f, model, name);
    snprintf(path, sizeof path, GOLDEN "%s", name);
    ck_ok(bise_lora_load(l, path, &f->c, &err));
    ck_ok(bise_lora_train(l, &err));
}

/* Largest error of one gradient against the largest entry of the golden one,
 * after division by the supervised tokens. */
static void check_grad(const fixture *f, const bise_lora_module *m,
                       const char *part, const float *got)
{
    char hf[192], name[320];
    ck_assert(bise_role_name(hf, m->role, BISE_NAMES_HF));
    hf[strlen(hf) - strlen(".weight")] = 0;
    snprintf(name, sizeof name, "grad.base_model.model.%s.lora_%s.weight", hf,
             part);
    size_t n;
    const float *want = want_floats(f, name, &n);
    double most = 0, diff = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)want[i]));
        diff = fmax(diff, fabs((double)got[i] / f->supervised -
                               (double)want[i]));
    }
    ck_assert_msg(diff <= 1e-4 * most, "%s: off by %g of %g", name, diff,
                  most);
}

static const bise_ckpt_mode modes[] = { BISE_CKPT_OFF, BISE_CKPT_ON };

/* dW [out, in] of a module's weight, from golden tensors in the names of
 * transformers, which fuses experts: gate rows, then up rows. */
static const float *weight_grad(const bise_st *st, const bise_lora_module *m)
{
    static const char *const of[BISE_ROLE_COUNT] = {
        [BISE_ROLE_Q] = "self_attn.q_proj.weight",
        [BISE_ROLE_K] = "self_attn.k_proj.weight",
        [BISE_ROLE_V] = "self_attn.v_proj.weight",
        [BISE_ROLE_O] = "self_attn.o_proj.weight",
        [BISE_ROLE_EXP_GATE] = "mlp.experts.gate_up_proj",
        [BISE_ROLE_EXP_UP] = "mlp.experts.gate_up_proj",
        [BISE_ROLE_EXP_DOWN] = "mlp.experts.down_proj",
    };
    char name[192];
    snprintf(name, sizeof name, "grad.model.layers.%d.%s",
             (int)m->role.layer, of[m->role.kind]);
    const bise_tensor *t = bise_st_find(st, name);
    if (!t)
        return NULL;
    const size_t each = (size_t)m->out * (size_t)m->in;
    size_t at = 0;
    if (m->role.kind == BISE_ROLE_EXP_DOWN)
        at = (size_t)m->role.expert;
    else if (m->role.expert >= 0)
        at = 2 * (size_t)m->role.expert +
             (m->role.kind == BISE_ROLE_EXP_UP);
    return (const float *)t->data + at * each;
}

/* With B = 0 the model is the base, and dB = s dW A^T; returns whether there
 * was a golden dW. */
static bool check_by_weight(const bise_st *st, const bise_lora_module *m,
                            int32_t supervised)
{
    const float *dw = weight_grad(st, m);
    double most = 0, diff = 0;
    for (int32_t o = 0; dw && o < m->out; o++)
        for (int32_t r = 0; r < m->r; r++) {
            double want = 0;
            for (int32_t i = 0; i < m->in; i++)
                want += (double)m->scale * (double)dw[o * m->in + i] *
                        (double)m->a[r * m->in + i];
            most = fmax(most, fabs(want));
            diff = fmax(diff, fabs(want - (double)m->db[o * m->r + r] /
                                              supervised));
        }
    ck_assert_msg(diff <= 1e-4 * most, "layer %d kind %d expert %d: off by %g "
                  "of %g", (int)m->role.layer, (int)m->role.kind,
                  (int)m->role.expert, diff, most);
    return dw != NULL;
}

/* Attention and every expert of Mixtral, without the auxiliary loss and with
 * it, with kept and with recomputed activations. */
START_TEST(mixtral_gradients_are_golden)
{
    fixture f;
    bise_lora l;
    bise_st aux;
    const bool with = _i % 2;
    const bise_lora_options lo = {
        .r = 4, .alpha = 6, .seed = 5,
        .target = "q_proj,k_proj,v_proj,o_proj,w1,w2,w3" };
    open_case(&f, "models/mixtral", "models/mixtral");
    ck_ok(bise_st_open(&aux, GOLDEN "mixtral-aux.safetensors", &err));
    ck_ok(bise_lora_new(&l, &f.c.config, &lo, true, &err));
    ck_assert_uint_eq(l.n, 2 * (4 + 3 * 4));
    bise_lora *list[] = { &l };
    bise_graph *g;
    const bise_graph_options o = { .max_tokens = f.T, .train = true,
                                   .loras = list, .n_loras = 1,
                                   .router_aux = with ? 0.5 : 0,
                                   .checkpointing = modes[_i / 2] };
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    double sum = 0, plain = 0;
    ck_ok(bise_graph_train(g, &f.b, &sum, &err));
    const char *text = bise_json_string(bise_json_get(aux.meta, "loss"), NULL);
    ck_assert_double_eq_tol(sum / f.supervised,
                            with ? strtod(text, NULL) : golden_loss(&f), 2e-5);
    int32_t checked = 0;
    for (size_t i = 0; i < l.n; i++)
        checked += check_by_weight(with ? &aux : &f.want, &l.modules[i],
                                   f.supervised);
    ck_assert_int_eq(checked, with ? 2 * (4 + 4) : (int)l.n);
    /* evaluation in the same graph has no such part */
    ck_ok(bise_graph_loss(g, &f.b, &plain, NULL, &err));
    ck_assert_double_eq_tol(plain / f.supervised, golden_loss(&f), 2e-5);
    bise_graph_free(g);
    bise_lora_fini(&l);
    bise_st_close(&aux);
    close_case(&f);
}
END_TEST

START_TEST(adapter_gradients_are_golden)
{
    fixture f;
    bise_lora l;
    open_lora(&f, &l, _i / 2);
    bise_lora *list[] = { &l };
    bise_graph *g;
    const bise_graph_options o = { .max_tokens = f.T, .train = true,
                                   .loras = list, .n_loras = 1,
                                   .checkpointing = modes[_i % 2] };
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    size_t n;
    const float *want = want_floats(&f, "logits", &n);
    float *z = all_logits(g, &f);
    ck_assert_double_lt(max_diff(z, want, n), 2e-4);
    double sum = 0;
    ck_ok(bise_graph_train(g, &f.b, &sum, &err));
    ck_assert_double_eq_tol(sum / f.supervised, golden_loss(&f), 1e-5);
    for (size_t i = 0; i < l.n; i++) {
        const bise_lora_module *m = &l.modules[i];
        check_grad(&f, m, "A", m->da);
        check_grad(&f, m, "B", m->db);
        if (m->magnitude)
            check_grad(&f, m, "magnitude_vector", m->dmagnitude);
    }
    bise_free(z);
    bise_graph_free(g);
    bise_lora_fini(&l);
    close_case(&f);
}
END_TEST

/* Logits of a text through a checkpoint, [T, V]; free with bise_free. */
static float *text_logits(const char *path, const int32_t *ids, int32_t n,
                          int32_t *V)
{
    bise_checkpoint c;
    bise_graph *g;
    int32_t rows[256];
    const int32_t seg[] = { 0, n };
    const bise_batch b = { .ids = ids, .seg = seg, .T = n, .n_seg = 1 };
    const bise_graph_options o = { .max_tokens = n };
    ck_ok(bise_checkpoint_open(&c, path, NULL, &err));
    ck_ok(bise_graph_new(&g, &c, &o, &err));
    *V = c.config.V;
    float *z = bise_alloc_array((size_t)n * (size_t)*V, sizeof *z);
    for (int32_t t = 0; t < n; t++)
        rows[t] = t;
    ck_ok(bise_graph_forward(g, &b, &err));
    ck_ok(bise_graph_logits(g, rows, n, z, &err));
    bise_graph_free(g);
    bise_checkpoint_close(&c);
    return z;
}

START_TEST(text_part_of_a_vision_model_is_golden)
{
    bise_st want;
    int32_t ids[256], V;
    ck_ok(bise_st_open(&want, GOLDEN "multimodal/expected.safetensors", &err));
    const bise_tensor *t = bise_st_find(&want, "input_ids");
    const int32_t n = (int32_t)bise_tensor_count(t);
    ck_assert_int_le(n, 256);
    for (int32_t i = 0; i < n; i++)
        ids[i] = (int32_t)((const int64_t *)t->data)[i];
    float *z = text_logits(GOLDEN "multimodal", ids, n, &V);
    t = bise_st_find(&want, "logits");
    ck_assert_uint_eq(bise_tensor_count(t), (uint64_t)n * (uint64_t)V);
    ck_assert_double_lt(max_diff(z, t->data, (size_t)n * (size_t)V), 2e-4);
    bise_free(z);
    bise_st_close(&want);
}
END_TEST

START_TEST(fp8_weights_compute_as_their_values)
{
    /* The same model with every weight stored as its bf16 value: dequantizing
     * rounds once to bf16 there and not at all here, so logits are near, not
     * equal. */
    char dir[64] = "/tmp/bise-fp8-XXXXXX", to[128];
    int32_t ids[40], V;
    bise_str bytes = { 0 };
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_ok(bise_file_read(&bytes, GOLDEN "fp8/expected-bf16.safetensors",
                         &err));
    snprintf(to, sizeof to, "%s/model.safetensors", dir);
    ck_ok(bise_file_write(to, bytes.data, bytes.len, &err));
    bise_json *config;
    ck_ok(bise_json_load(&config, GOLDEN "fp8/config.json", &err));
    bise_json_remove(config, "quantization_config");
    bise_str_clear(&bytes);
    bise_json_dump(&bytes, config, 0, false);
    snprintf(to, sizeof to, "%s/config.json", dir);
    ck_ok(bise_file_write(to, bytes.data, bytes.len, &err));
    for (int i = 0; i < 40; i++)
        ids[i] = (int32_t)bise_rng_below(2, 2, (uint64_t)i, 100);
    float *fp8 = text_logits(GOLDEN "fp8", ids, 40, &V);
    float *bf16 = text_logits(dir, ids, 40, &V);
    double most = 0;
    for (int32_t i = 0; i < 40 * V; i++)
        most = fmax(most, fabs((double)bf16[i]));
    const double d = max_diff(fp8, bf16, (size_t)(40 * V));
    ck_assert_msg(d < 0.02 * most, "off by %g of %g", d, most);
    bise_free(fp8);
    bise_free(bf16);
    bise_json_free(config);
    bise_str_fini(&bytes);
    bise_remove_tree(dir);
}
END_TEST

START_TEST(saved_tensors_replace_the_base)
{
    fixture f;
    bise_lora l;
    open_case(&f, "models/ministral3", "lora/save-lm-head");
    ck_ok(bise_lora_load(&l, GOLDEN "lora/save-lm-head", &f.c, &err));
    bise_lora *list[] = { &l };
    bise_graph *g;
    const bise_graph_options o = { .max_tokens = f.T, .loras = list,
                                   .n_loras = 1 };
    ck_assert_uint_eq(l.n_saved, 1);
    for (uint64_t i = 0; i < l.saved[0].n; i++)
        l.saved[0].w[i] *= 0.5f;    /* the golden one equals the base's */
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    size_t n;
    const float *want = want_floats(&f, "logits", &n);
    float *z = all_logits(g, &f);
    for (size_t i = 0; i < n; i++)
        z[i] *= 2;
    ck_assert_double_lt(max_diff(z, want, n), 2e-4);
    bise_free(z);
    bise_graph_free(g);
    bise_lora_fini(&l);
    close_case(&f);
}
END_TEST

/* One training pass with a number of threads; copies the gradients out. */
static double train_once(int threads, float dropout, bise_ckpt_mode mode,
                         float **grads, size_t *n)
{
    fixture f;
    bise_lora l;
    bise_pool *pool;
    bise_graph *g;
    double sum = 0;
    open_lora(&f, &l, 0);
    l.dropout = dropout;
    ck_ok(bise_pool_new(&pool, threads, &err));
    bise_lora *list[] = { &l };
    const bise_graph_options o = { .max_tokens = f.T, .train = true,
                                   .loras = list, .n_loras = 1, .pool = pool,
                                   .checkpointing = mode,
                                   .dropout_seed = 7 };
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    bise_graph_set_step(g, 3, 1);
    ck_ok(bise_graph_train(g, &f.b, &sum, &err));
    *n = l.n_values;
    *grads = bise_alloc_array(l.n_values, sizeof **grads);
    memcpy(*grads, l.grads, l.n_values * sizeof **grads);
    bise_graph_free(g);
    bise_pool_free(pool);
    bise_lora_fini(&l);
    close_case(&f);
    return sum;
}

START_TEST(threads_and_checkpointing_change_nothing)
{
    const int threads[] = { 2, 5 };
    float *one, *other;
    size_t n, m;
    const double want = train_once(1, 0.25f, BISE_CKPT_OFF, &one, &n);
    for (int i = 0; i < 4; i++) {
        const double got = train_once(threads[i % 2], 0.25f, modes[i / 2],
                                      &other, &m);
        ck_assert(got == want);
        ck_assert_uint_eq(n, m);
        ck_assert_mem_eq(one, other, n * sizeof *one);
        bise_free(other);
    }
    bise_free(one);
}
END_TEST

START_TEST(dropout_changes_the_gradients)
{
    float *with, *without;
    size_t n;
    const double a = train_once(1, 0.25f, BISE_CKPT_OFF, &with, &n);
    const double b = train_once(1, 0, BISE_CKPT_OFF, &without, &n);
    ck_assert(a != b);
    ck_assert_double_gt(max_diff(with, without, n), 1e-6);
    bise_free(with);
    bise_free(without);
}
END_TEST

START_TEST(packed_samples_equal_separate_ones)
{
    fixture f;
    bise_lora l;
    open_lora(&f, &l, 0);
    bise_lora *list[] = { &l };
    bise_graph *g;
    const bise_graph_options o = { .max_tokens = f.T, .train = true,
                                   .loras = list, .n_loras = 1 };
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    /* Four samples of odd lengths, together, then one by one. */
    const int32_t seg[] = { 0, 1, 38, 71, f.T };
    bise_batch b = f.b;
    b.seg = seg;
    b.n_seg = 4;
    double packed = 0, separate = 0;
    ck_ok(bise_graph_train(g, &b, &packed, &err));
    float *grads = bise_alloc_array(l.n_values, sizeof *grads);
    memcpy(grads, l.grads, l.n_values * sizeof *grads);
    memset(l.grads, 0, l.n_values * sizeof *grads);
    for (int s = 0; s < 4; s++) {
        const int32_t one[] = { 0, seg[s + 1] - seg[s] };
        const bise_batch part = {
            .ids = f.ids + seg[s], .targets = f.targets + seg[s], .seg = one,
            .n_seg = 1, .T = one[1],
        };
        ck_ok(bise_graph_train(g, &part, &separate, &err));
    }
    ck_assert_double_eq_tol(packed, separate, 1e-4);
    ck_assert_double_lt(max_diff(grads, l.grads, l.n_values), 2e-4);
    bise_free(grads);
    bise_graph_free(g);
    bise_lora_fini(&l);
    close_case(&f);
}
END_TEST

START_TEST(cache_equals_forward)
{
    fixture f;
    char name[64];
    snprintf(name, sizeof name, "models/%s", models[_i]);
    open_case(&f, name, name);
    const size_t V = (size_t)f.c.config.V;
    size_t n;
    const float *want = want_floats(&f, "logits", &n);
    bise_graph *g;
    const bise_graph_options o = { .max_tokens = 32, .max_seq = f.T };
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    bise_cache *c;
    ck_ok(bise_cache_new(&c, g, f.T, &err));
    float *z = bise_alloc_array(V, sizeof *z);
    /* A prompt in parts, then token by token, a cut, and again. */
    const int32_t prompt = f.T > 70 ? 70 : f.T - 5;
    for (int round = 0; round < 2; round++) {
        int32_t at = bise_cache_len(c);
        ck_ok(bise_graph_decode(g, c, f.ids + at, prompt - at, z, &err));
        for (int32_t t = prompt; t < f.T; t++) {
            ck_ok(bise_graph_decode(g, c, f.ids + t, 1, z, &err));
            ck_assert_double_lt(max_diff(z, want + (size_t)t * V, V), 2e-4);
        }
        ck_fails(bise_graph_decode(g, c, f.ids, 1, z, &err), BISE_EINVAL);
        bise_cache_cut(c, prompt - 11);
    }
    bise_cache_free(c);
    bise_graph_free(g);
    bise_free(z);
    close_case(&f);
}
END_TEST

START_TEST(bad_batches_are_refused)
{
    fixture f;
    open_case(&f, "models/ministral3", "models/ministral3");
    bise_graph *g;
    const bise_graph_options o = { .max_tokens = f.T - 1 };
    ck_ok(bise_graph_new(&g, &f.c, &o, &err));
    ck_fails(bise_graph_forward(g, &f.b, &err), BISE_EINVAL);
    int32_t seg[] = { 0, 4 }, bad[] = { 1, 2, 3, f.c.config.V };
    const bise_batch b = { .ids = bad, .seg = seg, .T = 4, .n_seg = 1 };
    ck_fails(bise_graph_forward(g, &b, &err), BISE_EINVAL);
    double sum;
    ck_fails(bise_graph_train(g, &b, &sum, &err), BISE_EINVAL);
    bise_graph_free(g);
    close_case(&f);
}
END_TEST

START_TEST(planned_bytes_are_what_is_taken)
{
    fixture f;
    bise_lora l;
    open_lora(&f, &l, 0);
    bise_lora *list[] = { &l };
    bise_graph_options o = { .max_tokens = f.T, .train = true, .loras = list,
                             .n_loras = 1, .checkpointing = BISE_CKPT_OFF };
    uint64_t full, least, middle;
    ck_ok(bise_graph_plan(&full, &f.c, &o, &err));
    o.checkpointing = BISE_CKPT_ON;
    ck_ok(bise_graph_plan(&least, &f.c, &o, &err));
    ck_assert_uint_lt(least, full);
    o.checkpointing = BISE_CKPT_AUTO;
    o.memory_bytes = (least + full) / 2 + 4096;
    ck_ok(bise_graph_plan(&middle, &f.c, &o, &err));
    ck_assert_uint_le(middle, o.memory_bytes);
    o.memory_bytes = least - 1;
    bise_graph *g = NULL;
    ck_fails(bise_graph_new(&g, &f.c, &o, &err), BISE_ENOMEM);
    bise_lora_fini(&l);
    close_case(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("graph");
    TCase *t = tcase_create("golden");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, logits_and_loss_are_golden, 0,
                        sizeof models / sizeof *models);
    tcase_add_loop_test(t, adapter_gradients_are_golden, 0,
                        2 * sizeof loras / sizeof *loras);
    tcase_add_loop_test(t, cache_equals_forward, 0,
                        sizeof models / sizeof *models);
    tcase_add_loop_test(t, mixtral_gradients_are_golden, 0, 4);
    tcase_add_test(t, text_part_of_a_vision_model_is_golden);
    tcase_add_test(t, fp8_weights_compute_as_their_values);
    tcase_add_test(t, saved_tensors_replace_the_base);
    suite_add_tcase(s, t);
    TCase *u = tcase_create("properties");
    tcase_set_timeout(u, 60);
    tcase_add_test(u, threads_and_checkpointing_change_nothing);
    tcase_add_test(u, dropout_changes_the_gradients);
    tcase_add_test(u, packed_samples_equal_separate_ones);
    tcase_add_test(u, bad_batches_are_refused);
    tcase_add_test(u, planned_bytes_are_what_is_taken);
    suite_add_tcase(s, u);
    return s;
}

BISE_CHECK_MAIN
