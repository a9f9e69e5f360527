/* check_lora.c - adapters: PEFT's own files loaded (golden/lora) and written
 * back equal byte for byte, scales, patterns and targets, the other formats,
 * and every misfit with its base refused by name.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/lora.h"

#include <math.h>
#include <string.h>

#include "core/str.h"
#include "model/peft.h"
#include "tests/same_weights.h"
#include "tests/tiny_model.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/"

static char dir[64];
static bise_error err;
static bise_lora l;

static void setup(void)
{
    strcpy(dir, "/tmp/bise-lora-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

/* A dense model of two layers with D = 6. */
static bise_config small(bool wrapper)
{
    return (bise_config){ .family = BISE_FAMILY_MINISTRAL3, .C = 8, .F = 12,
                          .L = 2, .H = 4, .K = 2, .D = 6, .V = 10,
                          .wrapper = wrapper, .neox = true };
}

static const char *at(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    ck_ok(bise_file_write(at(name), text, strlen(text), &err));
}

static const struct {
    const char *name, *model;
    size_t n, saved;
    bool rslora, dora;
    float scale_q, scale_v;
    int r_v;
} golden[] = {
    { "plain", "ministral3", 14, 0, false, false, 2, 2, 4 },
    { "rslora", "ministral3", 14, 0, true, false, 4, 4, 4 },
    { "dora", "ministral3", 14, 0, false, true, 2, 2, 4 },
    { "tied", "ministral3-tied", 14, 0, false, false, 2, 2, 4 },
    { "window", "mistral-window", 14, 0, false, false, 2, 2, 4 },
    { "qv-rank-pattern", "ministral3", 4, 0, false, false, 2, 0.5f, 8 },
    { "save-lm-head", "ministral3", 14, 1, false, false, 2, 2, 4 },
};

static const bise_lora_module *module(bise_role_kind kind, int layer)
{
    const bise_lora_module *m = bise_lora_find(
        &l, (bise_role){ kind, layer, -1 });
    ck_assert_ptr_nonnull(m);
    return m;
}

/* The written tensors are PEFT's own, byte for byte. */
START_TEST(loads_peft_and_writes_it_back)
{
    char in[512], model[512];
    bise_checkpoint c;
    snprintf(in, sizeof in, GOLDEN "lora/%s", golden[_i].name);
    snprintf(model, sizeof model, GOLDEN "models/%s", golden[_i].model);
    ck_ok(bise_checkpoint_open(&c, model, NULL, &err));
    ck_ok(bise_lora_load(&l, in, &c, &err));
    ck_assert_uint_eq(l.n, golden[_i].n);
    ck_assert_uint_eq(l.n_saved, golden[_i].saved);
    ck_assert(l.rslora == golden[_i].rslora && l.dora == golden[_i].dora);
    ck_assert_str_eq(l.format, "peft");
    const bise_lora_module *q = module(BISE_ROLE_Q, 1);
    const bise_lora_module *v = module(BISE_ROLE_V, 0);
    ck_assert(q->scale == golden[_i].scale_q && q->r == 4);
    ck_assert(v->scale == golden[_i].scale_v && v->r == golden[_i].r_v);
    ck_assert((q->magnitude != NULL) == l.dora);
    ck_assert_ptr_null(q->da);
    ck_ok(bise_lora_save_peft(&l, &c, NULL, dir, &err));
    strncat(in, "/adapter_model.safetensors", sizeof in - strlen(in) - 1);
    same_tensors(in, at("adapter_model.safetensors"));
    bise_lora_fini(&l);
    /* What was written loads with the same scales. */
    ck_ok(bise_lora_load(&l, dir, &c, &err));
    ck_assert(module(BISE_ROLE_Q, 1)->scale == golden[_i].scale_q);
    ck_assert(module(BISE_ROLE_V, 1)->scale == golden[_i].scale_v);
    bise_lora_fini(&l);
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(scale_in_the_path_multiplies)
{
    char in[512];
    snprintf(in, sizeof in, GOLDEN "lora/plain:0.25");
    ck_ok(bise_lora_load_for(&l, in, NULL, &err));
    ck_assert(module(BISE_ROLE_Q, 0)->scale == 0.5f);
    bise_lora_fini(&l);
    ck_assert(bise_lora_load_for(&l, GOLDEN "lora/plain:x", NULL, &err) !=
              BISE_OK);
}
END_TEST

/* Bound and variance of the uniform distribution. */
START_TEST(new_adapter_has_kaiming_a_and_zero_b)
{
    const bise_config c = small(false);
    const bise_lora_options o = { .r = 4, .alpha = 8, .seed = 3 };
    ck_ok(bise_lora_new(&l, &c, &o, true, &err));
    ck_assert_uint_eq(l.n, 14);
    double sum = 0, most = 0;
    const bise_lora_module *m = module(BISE_ROLE_DOWN, 1);
    ck_assert(m->in == 12 && m->out == 8 && m->scale == 2);
    for (int i = 0; i < 4 * 12; i++) {
        sum += (double)m->a[i] * m->a[i];
        most = fmax(most, fabs((double)m->a[i]));
    }
    /* Uniform in +-b has variance b^2 / 3; here b = 1/sqrt(12). */
    ck_assert(most <= 1 / sqrt(12) && most > 0.9 / sqrt(12));
    ck_assert(fabs(sum / 48 - 1.0 / 36) < 0.01);
    for (int i = 0; i < 8 * 4; i++)
        ck_assert(m->b[i] == 0 && m->db[i] == 0);
    ck_assert_ptr_nonnull(l.grads);
    bise_lora_fini(&l);
}
END_TEST

START_TEST(values_of_a_module_do_not_depend_on_the_others)
{
    const bise_config c = small(false);
    bise_lora_options o = { .r = 4, .alpha = 8, .seed = 3 };
    bise_lora other;
    ck_ok(bise_lora_new(&l, &c, &o, false, &err));
    o.target = "v_proj";
    ck_ok(bise_lora_new(&other, &c, &o, false, &err));
    const bise_lora_module *a = module(BISE_ROLE_V, 1);
    const bise_lora_module *b = bise_lora_find(
        &other, (bise_role){ BISE_ROLE_V, 1, -1 });
    ck_assert(memcmp(a->a, b->a, 4 * 8 * sizeof(float)) == 0);
    bise_lora_fini(&other);
    bise_lora_fini(&l);
}
END_TEST

static const struct { const char *target; int from; size_t n; } targets[] = {
    { "all-linear", 0, 14 }, { "q_proj,v_proj", 0, 4 },
    { "q_proj, v_proj", 1, 2 }, { "layers.1.mlp.up_proj", 0, 1 },
    { "lm_head", 0, 1 }, { "model\\.layers\\.[01]\\.mlp\\..*", 0, 6 },
    { "self_attn.o_proj", 0, 2 },
};

/* Names, suffixes of paths, expressions, first layer. */
START_TEST(targets_select)
{
    const bise_config c = small(false);
    const bise_lora_options o = { .r = 2, .alpha = 2,
                                  .target = targets[_i].target,
                                  .layers_from = targets[_i].from };
    ck_ok(bise_lora_new(&l, &c, &o, false, &err));
    ck_assert_uint_eq(l.n, targets[_i].n);
    bise_lora_fini(&l);
}
END_TEST

/* Unknown names, patterns without a match, ranks, tied heads, families. */
START_TEST(wrong_targets_are_named)
{
    static const struct { const char *target, *word; } t[] = {
        { "q_proj,w_proj", "w_proj" }, { "proj", "proj" }, { "", "" },
        { "model\\.nothing.*", "nothing" }, { "(", "" } };
    bise_config c = small(false);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const bise_lora_options o = { .r = 2, .alpha = 2,
                                      .target = t[i].target };
        bise_error_init(&err);
        ck_assert(bise_lora_new(&l, &c, &o, false, &err) != BISE_OK);
        ck_assert_msg(strstr(err.text, t[i].word) != NULL, "%s", err.text);
    }
    bise_lora_options o = { .r = 0, .alpha = 2, .target = "q_proj" };
    ck_fails(bise_lora_new(&l, &c, &o, false, &err), BISE_EINVAL);
    o = (bise_lora_options){ .r = 2, .alpha = 2, .target = "lm_head" };
    c.tied = true;
    ck_fails(bise_lora_new(&l, &c, &o, false, &err), BISE_EUNSUPPORTED);
    c = (bise_config){ .family = BISE_FAMILY_MISTRAL4 };
    ck_fails(bise_lora_new(&l, &c, &o, false, &err), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "mistral4"));
}
END_TEST

/* Attention only by default; saved and loaded one by one. */
START_TEST(experts_are_targets_on_request)
{
    bise_config c = small(false);
    c.family = BISE_FAMILY_MIXTRAL;
    c.E = 3;
    c.F_expert = 12;
    bise_lora_options o = { .r = 2, .alpha = 2 };
    ck_ok(bise_lora_new(&l, &c, &o, false, &err));
    ck_assert_uint_eq(l.n, 8);    /* attention only */
    bise_lora_fini(&l);
    o.target = "w1,w2,w3";
    ck_ok(bise_lora_new(&l, &c, &o, false, &err));
    ck_assert_uint_eq(l.n, 2 * 9);
    ck_ok(bise_lora_save_for(&l, &c, false, NULL, dir, &err));
    bise_lora_fini(&l);
    ck_ok(bise_lora_load_for(&l, dir, &c, &err));
    ck_assert_uint_eq(l.n, 18);
    ck_assert_ptr_nonnull(bise_lora_find(
        &l, (bise_role){ BISE_ROLE_EXP_DOWN, 1, 2 }));
    bise_lora_fini(&l);
}
END_TEST

static bise_json *parse(const char *text)
{
    bise_json *v = NULL;
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    return v;
}

/* Whole components from a dot on; the first key wins. */
START_TEST(patterns_follow_pefts_rule)
{
    /* (.*\.)?(KEY)$: whole names from a dot on, the first match wins. */
    static const struct { const char *json, *path; double want; } t[] = {
        { "{\"v_proj\":3}", "model.layers.0.self_attn.v_proj", 3 },
        { "{\"proj\":3}", "model.layers.0.self_attn.v_proj", 8 },
        { "{\"layers.1.self_attn.v_proj\":3}",
          "model.layers.0.self_attn.v_proj", 8 },
        { "{\"layers.1.self_attn.v_proj\":3}",
          "model.layers.1.self_attn.v_proj", 3 },
        { "{\"layers.1.self_attn.v_proj\":3}",
          "model.layers.11.self_attn.v_proj", 8 },
        { "{\".*.v_proj\":4,\"v_proj\":3}",
          "model.layers.1.self_attn.v_proj", 4 },
        { "{\"layers\\\\.[0-3]\\\\..*_proj\":2}",
          "model.layers.3.self_attn.v_proj", 2 },
        { "{\"v_proj|q_proj\":2}", "model.layers.3.self_attn.q_proj", 2 },
        { "{}", "model.layers.3.self_attn.q_proj", 8 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        double v;
        bise_json *p = parse(t[i].json);
        ck_ok(bise_peft_pattern(&v, p, t[i].path, 8, &err));
        ck_assert_msg(v == t[i].want, "%zu: %g", i, v);
        bise_json_free(p);
    }
    bise_json *bad = parse("{\"(\":1}");
    double v;
    ck_assert(bise_peft_pattern(&v, bad, "x", 8, &err) != BISE_OK);
    bise_json_free(bad);
}
END_TEST

/* Per module, with rsLoRA, and back from the written file. */
START_TEST(patterns_set_rank_and_alpha)
{
    const bise_config c = small(false);
    bise_json *r = parse("{\"v_proj\":3}"), *a = parse("{\"layers.1.*\":9}");
    const bise_lora_options o = { .r = 2, .alpha = 4, .target = "q_proj,v_proj",
                                  .rslora = true, .rank_pattern = r,
                                  .alpha_pattern = a };
    ck_ok(bise_lora_new(&l, &c, &o, false, &err));
    ck_assert(module(BISE_ROLE_V, 0)->r == 3);
    ck_assert(module(BISE_ROLE_V, 1)->scale == (float)(9 / sqrt(3)));
    ck_ok(bise_lora_save_for(&l, &c, false, "org/base", dir, &err));
    bise_lora_fini(&l);
    ck_ok(bise_lora_load_for(&l, dir, &c, &err));
    ck_assert(module(BISE_ROLE_V, 1)->scale == (float)(9 / sqrt(3)));
    ck_assert(module(BISE_ROLE_Q, 0)->scale == (float)(4 / sqrt(2)));
    ck_assert_str_eq(l.base_name, "org/base");
    bise_lora_fini(&l);
    bise_json_free(r);
    bise_json_free(a);
}
END_TEST

/* transformers 4 and 5, with and without base_model. */
START_TEST(paths_are_read_under_every_prefix)
{
    static const struct { const char *path; bool wrapper; } t[] = {
        { "base_model.model.model.layers.1.mlp.up_proj", false },
        { "model.layers.1.mlp.up_proj", false },
        { "layers.1.mlp.up_proj", false },
        { "base_model.model.model.language_model.layers.1.mlp.up_proj", true },
        { "base_model.model.language_model.model.layers.1.mlp.up_proj", true },
        { "language_model.model.layers.1.mlp.up_proj", true } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        bool wrapper = false;
        const bise_role r = bise_peft_role(t[i].path, &wrapper);
        ck_assert_msg(r.kind == BISE_ROLE_UP && r.layer == 1, "%s", t[i].path);
        ck_assert_msg(wrapper == t[i].wrapper, "%s", t[i].path);
    }
    bool wrapper;
    ck_assert_int_eq(bise_peft_role("model.vision_tower.transformer.layers.0."
                                    "attention.q_proj", &wrapper).kind,
                     BISE_ROLE_COUNT);
}
END_TEST

/* The expression, the names, and the way back. */
START_TEST(wrapper_names_keep_off_the_vision_tower)
{
    const bise_config c = small(true);
    const bise_lora_options o = { .r = 2, .alpha = 4,
                                  .target = "q_proj,up_proj" };
    bise_str text = { 0 };
    ck_ok(bise_lora_new(&l, &c, &o, false, &err));
    ck_ok(bise_lora_save_for(&l, &c, true, NULL, dir, &err));
    bise_lora_fini(&l);
    ck_ok(bise_file_read(&text, at("adapter_config.json"), &err));
    ck_assert_ptr_nonnull(strstr(
        bise_str_get(&text), "\"target_modules\": \"model\\\\.language_model"
        "\\\\.layers\\\\.\\\\d+\\\\.(self_attn|mlp)\\\\.(q_proj|up_proj)\""));
    bise_str_clear(&text);
    ck_ok(bise_file_read(&text, at("adapter_model.safetensors"), &err));
    ck_assert_ptr_nonnull(strstr(bise_str_get(&text) + 8, "base_model.model."
        "model.language_model.layers.0.self_attn.q_proj.lora_A.weight"));
    bise_str_fini(&text);
    ck_ok(bise_lora_load_for(&l, dir, &c, &err));
    ck_assert(l.wrapper);
    bise_lora_fini(&l);
}
END_TEST

/* A PEFT adapter with one pair, named and shaped by the test. */
static void put_pair(const char *name, uint64_t r, uint64_t in, uint64_t out,
                     uint64_t rb, const char *config)
{
    tiny *m = bise_alloc(sizeof *m);
    char full[256];
    snprintf(full, sizeof full, "%s.lora_A.weight", name);
    tiny_add(m, full, BISE_DTYPE_F32, 2, (uint64_t[]){ r, in });
    snprintf(full, sizeof full, "%s.lora_B.weight", name);
    if (out)
        tiny_add(m, full, BISE_DTYPE_F32, 2, (uint64_t[]){ out, rb });
    tiny_save(m, dir, "adapter_model.safetensors", "adapter_config.json",
              config);
    tiny_free(m);
    bise_free(m);
}

#define Q0 "base_model.model.model.layers.0.self_attn.q_proj"
#define CFG(x) "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4," \
    "\"base_model_name_or_path\":\"org/other\"" x "}"

static const struct {
    const char *name;
    uint64_t r, in, out, rb;
    const char *config, *word;
} bad[] = {
    { Q0, 2, 9, 24, 2, CFG(""), "lora_A is 2x9, the base needs 2x8" },
    { Q0, 2, 8, 20, 2, CFG(""), "lora_B is 20x2, the base needs 24x2" },
    { Q0, 2, 8, 24, 3, CFG(""), "ranks" },
    { Q0, 3, 8, 24, 3, CFG(""), "rank 3, adapter_config.json says 2" },
    { Q0, 2, 8, 0, 0, CFG(""), "no counterpart" },
    { "base_model.model.model.layers.7.self_attn.q_proj", 2, 8, 24, 2, CFG(""),
      "ministral3 model of 2 layers" },
    { "base_model.model.transformer.h.0.attn.c_attn", 2, 8, 24, 2, CFG(""),
      "c_attn" },
    { "base_model.model.model.vision_tower.transformer.layers.0.attention."
      "q_proj", 2, 8, 24, 2, CFG(""), "vision_tower" },
    { "base_model.model.model.embed_tokens", 2, 8, 24, 2, CFG(""),
      "embed_tokens" },
    { Q0, 2, 8, 24, 2, "{\"peft_type\":\"IA3\"}", "IA3" },
    { Q0, 2, 8, 24, 2, "{}", "peft_type" },
    { Q0, 2, 8, 24, 2, CFG(",\"use_dora\":true"), "magnitude" },
    { Q0, 2, 8, 24, 2, CFG(",\"fan_in_fan_out\":true"), "fan_in_fan_out" },
    { Q0, 2, 8, 24, 2, CFG(",\"bias\":\"lora_only\""), "trains biases" },
    { Q0, 2, 8, 24, 2, CFG(",\"target_parameters\":[\"x\"]"),
      "target_parameters" },
    { Q0, 2, 8, 24, 2, CFG(",\"init_lora_weights\":\"pissa_niter_4\""),
      "pissa" },
    { Q0, 2, 8, 24, 2, CFG(",\"lora_dropout\":2"), "lora_dropout" },
};

/* One row, one message. */
START_TEST(misfits_are_named)
{
    const bise_config c = small(false);
    put_pair(bad[_i].name, bad[_i].r, bad[_i].in, bad[_i].out, bad[_i].rb,
             bad[_i].config);
    bise_error_init(&err);
    ck_assert(bise_lora_load_for(&l, dir, &c, &err) != BISE_OK);
    ck_assert_msg(strstr(err.text, bad[_i].word) != NULL, "'%s' lacks '%s'",
                  err.text, bad[_i].word);
    ck_assert_ptr_nonnull(strstr(err.path, dir));
    if (_i < 2)
        ck_assert_str_eq(err.hint, "the adapter was made for 'org/other'");
}
END_TEST

/* No file, no settings, no tensors. */
START_TEST(absent_and_empty_adapters_are_refused)
{
    const bise_config c = small(false);
    ck_fails(bise_lora_load_for(&l, dir, &c, &err), BISE_EFORMAT);
    ck_fails(bise_lora_load_for(&l, at("none"), &c, &err), BISE_EIO);
    put_pair(Q0, 2, 8, 24, 2, CFG(""));
    bise_remove_tree(at("adapter_config.json"));
    ck_fails(bise_lora_load_for(&l, dir, &c, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "adapter_config.json"));
    put("adapter_config.json", CFG(""));
    ck_ok(bise_st_save(at("adapter_model.safetensors"), NULL, NULL, 0, &err));
    ck_fails(bise_lora_load_for(&l, dir, &c, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "no module"));
}
END_TEST

/* The index of the element is in the message. */
START_TEST(values_must_be_finite)
{
    const bise_config c = small(false);
    static float a[16], b[48];
    a[5] = NAN;
    const bise_tensor t[2] = {
        { .name = Q0 ".lora_A.weight", .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { 2, 8 }, .data = a },
        { .name = Q0 ".lora_B.weight", .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { 24, 2 }, .data = b } };
    ck_ok(bise_st_save(at("adapter_model.safetensors"), NULL, t, 2, &err));
    put("adapter_config.json", CFG(""));
    ck_fails(bise_lora_load_for(&l, dir, &c, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "element 5"));
}
END_TEST

/* A real file of another family, when it is at hand. */
START_TEST(qwen_adapter_is_refused_for_a_mistral_base)
{
    const char *shared = getenv("BISE_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/data/adapters/qwen2.5-3b-r4",
             shared ? shared : BISE_SRCDIR "/../shared");
    if (!bise_is_dir(path)) {
        fprintf(stderr, "skipped: no real adapter at %s\n", path);
        return;
    }
    ck_ok(bise_lora_load_for(&l, path, NULL, &err));
    ck_assert_uint_eq(l.n, 72);
    bise_lora_fini(&l);
    bise_checkpoint c;
    ck_ok(bise_checkpoint_open(&c, GOLDEN "models/ministral3", NULL, &err));
    ck_fails(bise_lora_load(&l, path, &c, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.text, "module 'model.layers.0.self_attn.q_proj': "
                     "lora_A is 4x2048, the base needs 4x64");
    ck_assert_str_eq(err.hint,
                     "the adapter was made for 'Qwen/Qwen2.5-3B-Instruct'");
    bise_checkpoint_close(&c);
}
END_TEST

/* The n-th allocation fails for every n: an error, no leak, no crash. */
START_TEST(survives_failing_allocations)
{
    const bise_config c = small(false);
    put_pair(Q0, 2, 8, 24, 2, CFG(""));
    int failed = 0;
    for (uint64_t i = 1; i < 40; i++) {
        bise_error_init(&err);
        bise_alloc_fail_after(i);
        const bise_status s = bise_lora_load_for(&l, dir, &c, &err);
        bise_alloc_fail_after(0);
        failed += s != BISE_OK;
        bise_lora_fini(&l);
    }
    ck_assert_int_gt(failed, 8);
}
END_TEST

/* Every test has a directory of its own. */
static Suite *suite(void)
{
    Suite *s = suite_create("lora");
    TCase *t = tcase_create("lora");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, loads_peft_and_writes_it_back, 0,
                        sizeof golden / sizeof *golden);
    tcase_add_test(t, scale_in_the_path_multiplies);
    tcase_add_test(t, new_adapter_has_kaiming_a_and_zero_b);
    tcase_add_test(t, values_of_a_module_do_not_depend_on_the_others);
    tcase_add_loop_test(t, targets_select, 0,
                        sizeof targets / sizeof *targets);
    tcase_add_test(t, wrong_targets_are_named);
    tcase_add_test(t, experts_are_targets_on_request);
    tcase_add_test(t, patterns_follow_pefts_rule);
    tcase_add_test(t, patterns_set_rank_and_alpha);
    tcase_add_test(t, paths_are_read_under_every_prefix);
    tcase_add_test(t, wrapper_names_keep_off_the_vision_tower);
    tcase_add_loop_test(t, misfits_are_named, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, absent_and_empty_adapters_are_refused);
    tcase_add_test(t, values_must_be_finite);
    tcase_add_test(t, qwen_adapter_is_refused_for_a_mistral_base);
    tcase_add_test(t, survives_failing_allocations);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
