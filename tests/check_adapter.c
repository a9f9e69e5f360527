/* check_adapter.c - adapters written in each format: names, shapes, every value
 * in its place, the scale that the format states times B equal to the one that
 * went in; what has no place refused; and the rules of adapter_rules.def, each
 * made to fire and to stay silent.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "convert/adapter.h"

#include <math.h>
#include <string.h>

#include "core/str.h"
#include "tests/tiny_model.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/"

static char dir[64];
static bise_error err;
static bise_checkpoint base; /* only its configuration is used */
static bise_lora l;

/* A directory, and a dense base with D = 6 in memory. */
static void setup(void)
{
    strcpy(dir, "/tmp/bise-adapter-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    memset(&base, 0, sizeof base);
    base.config = (bise_config){ .family = BISE_FAMILY_MINISTRAL3, .C = 8,
                                 .F = 12, .L = 2, .H = 4, .K = 2, .D = 6,
                                 .V = 10, .neox = true, .eps = 1e-5,
                                 .max_position = 64,
                                 .rope = { .theta = 1e4, .factor = 1 } };
    strcpy(base.base_name, "tiny");
}

static void teardown(void)
{
    bise_lora_fini(&l);
    bise_remove_tree(dir);
}

static const char *at(const char *name)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* An adapter whose B counts 1, 2, 3, ... so that every place is known. */
static void make(const char *target, int r, double alpha)
{
    const bise_lora_options o = { .r = r, .alpha = alpha, .target = target,
                                  .seed = 1 };
    ck_ok(bise_lora_new(&l, &base.config, &o, false, &err));
    for (size_t i = 0; i < l.n; i++)
        for (int j = 0; j < l.modules[i].out * l.modules[i].r; j++)
            l.modules[i].b[j] = (float)(j + 1);
}

static bise_status write_as(bise_adapter_format to, const char *name)
{
    const bise_adapter_options o = { .to = to, .base = &base, .wrapper = -1 };
    bise_error_init(&err);
    return bise_adapter_write(&l, at(name), &o, &err);
}

static const float *values(const bise_tensor *t, int n_dims, uint64_t d0,
                           uint64_t d1)
{
    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(t->n_dims, n_dims);
    ck_assert_uint_eq(t->dims[n_dims - 2], d0);
    ck_assert_uint_eq(t->dims[n_dims - 1], d1);
    ck_assert_int_eq(t->dtype, BISE_DTYPE_F32);
    return t->data;
}

/* gguf.md 9: output row h D + 2 i + k = HF row h D + k D/2 + i, B of q and k
 * only; A is never touched. */
START_TEST(gguf_permutes_rows_of_q_and_k)
{
    bise_gguf g;
    make("q_proj,k_proj,v_proj", 2, 4);
    ck_ok(write_as(BISE_ADAPTER_GGUF, "a.gguf"));
    ck_ok(bise_gguf_open(&g, at("a.gguf"), &err));
    ck_assert_uint_eq(g.n_tensors, 12);
    static const struct { const char *name; int rows; bool moved; } t[] = {
        { "blk.1.attn_q.weight.lora_b", 24, true },
        { "blk.1.attn_k.weight.lora_b", 12, true },
        { "blk.1.attn_v.weight.lora_b", 12, false } };
    for (size_t i = 0; i < 3; i++) {
        const float *b = values(bise_gguf_find(&g, t[i].name), 2,
                                (uint64_t)t[i].rows, 2);
        for (int row = 0; row < t[i].rows; row++) {
            const int h = row / 6, j = row % 6;
            const int from = t[i].moved ? h * 6 + j % 2 * 3 + j / 2 : row;
            ck_assert_msg(b[row * 2] == (float)(from * 2 + 1),
                          "%s row %d: %g", t[i].name, row, b[row * 2]);
        }
    }
    const float *a = values(bise_gguf_find(&g, "blk.0.attn_q.weight.lora_a"),
                            2, 2, 8);
    const bise_role q0 = { BISE_ROLE_Q, 0, -1 };
    ck_assert(memcmp(a, bise_lora_find(&l, q0)->a, 16 * sizeof *a) == 0);
    bise_gguf_close(&g);
}
END_TEST

/* The keys llama.cpp reads, and pairs with a before b. */
START_TEST(gguf_states_what_the_loader_checks)
{
    bise_gguf g;
    make("q_proj,down_proj", 2, 6);
    ck_ok(write_as(BISE_ADAPTER_GGUF, "a.gguf"));
    ck_ok(bise_gguf_open(&g, at("a.gguf"), &err));
    static const struct { const char *key, *value; } t[] = {
        { "general.architecture", "mistral3" }, { "general.type", "adapter" },
        { "adapter.type", "lora" }, { "general.base_model.0.name", "tiny" } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        size_t n = 0;
        const char *v = bise_gguf_str(&g.meta, t[i].key, &n);
        ck_assert_msg(v && n == strlen(t[i].value) &&
                      memcmp(v, t[i].value, n) == 0, "%s", t[i].key);
    }
    ck_assert(bise_gguf_float(&g.meta, "adapter.lora.alpha", 0) == 6);
    for (size_t i = 0; i < g.n_tensors; i += 2) {
        ck_assert(bise_ends_with(g.tensors[i].name, ".lora_a"));
        ck_assert(bise_ends_with(g.tensors[i + 1].name, ".lora_b"));
    }
    bise_gguf_close(&g);
}
END_TEST

/* alpha / r must come out as rsLoRA's alpha / sqrt(r). */
START_TEST(gguf_alpha_holds_rslora)
{
    bise_gguf g;
    make("v_proj", 4, 6);
    l.rslora = true;
    for (size_t i = 0; i < l.n; i++)
        l.modules[i].scale = bise_lora_scale(6, 4, true);
    ck_ok(write_as(BISE_ADAPTER_GGUF, "a.gguf"));
    ck_ok(bise_gguf_open(&g, at("a.gguf"), &err));
    ck_assert(bise_gguf_float(&g.meta, "adapter.lora.alpha", 0) == 12);
    bise_gguf_close(&g);
    /* The way back knows that it was rsLoRA. */
    bise_lora back;
    ck_ok(bise_lora_load_for(&back, at("a.gguf"), &base.config, &err));
    ck_assert(back.rslora && back.modules[0].alpha == 6);
    bise_lora_fini(&back);
}
END_TEST

/* Different scales: alpha 0 (the runtime then uses 1) and scale inside B. */
START_TEST(gguf_folds_scales_that_differ)
{
    bise_gguf g;
    make("v_proj,o_proj", 2, 4);
    l.modules[0].alpha = 10;
    l.modules[0].scale = 5;
    ck_ok(write_as(BISE_ADAPTER_GGUF, "a.gguf"));
    ck_ok(bise_gguf_open(&g, at("a.gguf"), &err));
    ck_assert(bise_gguf_float(&g.meta, "adapter.lora.alpha", -1) == 0);
    const float *v0 = bise_gguf_find(&g, "blk.0.attn_v.weight.lora_b")->data;
    const float *v1 = bise_gguf_find(&g, "blk.1.attn_v.weight.lora_b")->data;
    ck_assert(v0[3] == 20 && v1[3] == 8);
    bise_gguf_close(&g);
}
END_TEST

/* A file from another hand: no copy of PEFT's settings, alpha absent. */
START_TEST(gguf_without_our_key_is_read_by_its_alpha)
{
    const float a[16] = { 1 }, b[24] = { 2 };
    const bise_tensor t[2] = {
        { .name = "blk.0.attn_v.weight.lora_a", .dtype = BISE_DTYPE_F32,
          .n_dims = 2, .dims = { 2, 8 }, .data = a },
        { .name = "blk.0.attn_v.weight.lora_b", .dtype = BISE_DTYPE_F32,
          .n_dims = 2, .dims = { 12, 2 }, .data = b } };
    for (int with = 0; with < 2; with++) {
        bise_gguf_meta m = { 0 };
        bise_gguf_set_str(&m, "general.architecture", "mistral3");
        bise_gguf_set_str(&m, "general.type", "adapter");
        if (with)
            bise_gguf_set_f32(&m, "adapter.lora.alpha", 5);
        ck_ok(bise_gguf_save(at("f.gguf"), &m, t, 2, &err));
        ck_ok(bise_lora_load_for(&l, at("f.gguf"), &base.config, &err));
        ck_assert(l.modules[0].scale == (with ? 2.5f : 1.0f));
        ck_assert(!l.rslora && l.modules[0].b[0] == 2);
        bise_lora_fini(&l);
        bise_gguf_meta_fini(&m);
    }
}
END_TEST

/* lora.md 3.1: names and row order of the native layout, one factor. */
START_TEST(native_has_mistrals_names_and_rows)
{
    bise_st st;
    bise_json *p = NULL;
    make("q_proj,up_proj,down_proj", 2, 4);
    ck_ok(write_as(BISE_ADAPTER_NATIVE, "n"));
    ck_ok(bise_st_open(&st, at("n/lora.safetensors"), &err));
    ck_assert_uint_eq(st.n_tensors, 12);
    const float *b = values(
        bise_st_find(&st, "layers.1.attention.wq.lora_B.weight"), 2, 24, 2);
    for (int row = 0; row < 24; row++) {
        const int from = row / 6 * 6 + row % 6 % 2 * 3 + row % 6 / 2;
        ck_assert(b[row * 2 + 1] == (float)(from * 2 + 2));
    }
    /* w2 is down, w3 is up. */
    (void)values(bise_st_find(&st, "layers.0.feed_forward.w2.lora_A.weight"),
                 2, 2, 12);
    (void)values(bise_st_find(&st, "layers.0.feed_forward.w3.lora_A.weight"),
                 2, 2, 8);
    bise_st_close(&st);
    ck_ok(bise_json_load(&p, at("n/params.json"), &err));
    const bise_json *lora = bise_json_get(p, "lora");
    ck_assert(bise_json_number(bise_json_get(lora, "scaling"), 0) == 2);
    ck_assert(bise_json_number(bise_json_get(lora, "rank"), 0) == 2);
    ck_assert(bise_json_number(bise_json_get(p, "dim"), 0) == 8);
    bise_json_free(p);
}
END_TEST

/* lora.md 3.2: transposed, rows of q as in Hugging Face files. */
START_TEST(mlx_is_transposed)
{
    bise_st st;
    bise_json *p = NULL;
    make("q_proj", 2, 6);
    ck_ok(write_as(BISE_ADAPTER_MLX, "m"));
    ck_ok(bise_st_open(&st, at("m/adapters.safetensors"), &err));
    const float *a = values(
        bise_st_find(&st, "model.layers.1.self_attn.q_proj.lora_a"), 2, 8, 2);
    const float *b = values(
        bise_st_find(&st, "model.layers.1.self_attn.q_proj.lora_b"), 2, 2, 24);
    const bise_lora_module *m = &l.modules[1];
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 2; j++)
            ck_assert(a[i * 2 + j] == m->a[j * 8 + i]);
    for (int i = 0; i < 24; i++)
        for (int j = 0; j < 2; j++)
            ck_assert(b[j * 24 + i] == m->b[i * 2 + j]);
    bise_st_close(&st);
    ck_ok(bise_json_load(&p, at("m/adapter_config.json"), &err));
    const bise_json *q = bise_json_get(p, "lora_parameters");
    ck_assert(bise_json_number(bise_json_get(q, "scale"), 0) == 3);
    ck_assert(bise_json_number(bise_json_get(p, "num_layers"), 0) == 2);
    ck_assert_str_eq(bise_json_string(bise_json_at(
        bise_json_get(q, "keys"), 0), NULL), "self_attn.q_proj");
    ck_assert_str_eq(bise_json_string(bise_json_get(p, "fine_tune_type"),
                                      NULL), "lora");
    bise_json_free(p);
}
END_TEST

/* mlx-lm has one rank: smaller ones get zeros, and lose them on the way back. */
START_TEST(mlx_pads_ranks)
{
    bise_json *r = NULL;
    const char *text = "{\"v_proj\":4}";
    ck_ok(bise_json_parse(&r, text, strlen(text), &err));
    const bise_lora_options o = { .r = 2, .alpha = 4, .rank_pattern = r,
                                  .target = "q_proj,v_proj" };
    ck_ok(bise_lora_new(&l, &base.config, &o, false, &err));
    bise_json_free(r);
    ck_ok(write_as(BISE_ADAPTER_MLX, "m"));
    bise_st st;
    ck_ok(bise_st_open(&st, at("m/adapters.safetensors"), &err));
    const float *a = values(
        bise_st_find(&st, "model.layers.0.self_attn.q_proj.lora_a"), 2, 8, 4);
    for (int i = 0; i < 8; i++)
        ck_assert(a[i * 4 + 2] == 0 && a[i * 4 + 3] == 0);
    bise_st_close(&st);
    bise_lora back;
    ck_ok(bise_lora_load_for(&back, at("m"), &base.config, &err));
    ck_assert(back.modules[0].r == 2 && back.modules[1].r == 4);
    ck_assert(memcmp(back.modules[0].a, l.modules[0].a, 16 * 4) == 0);
    bise_lora_fini(&back);
}
END_TEST

/* All E experts in one tensor; those without an adapter are zero. */
START_TEST(gguf_stacks_experts)
{
    bise_gguf g;
    base.config.family = BISE_FAMILY_MIXTRAL;
    base.config.E = 3;
    base.config.top_k = 2;
    base.config.F_expert = 12;
    make("layers.1.block_sparse_moe.experts.2.w1,experts.0.w2", 2, 4);
    ck_ok(write_as(BISE_ADAPTER_GGUF, "x.gguf"));
    ck_ok(bise_gguf_open(&g, at("x.gguf"), &err));
    const bise_tensor *t = bise_gguf_find(&g,
                                          "blk.1.ffn_gate_exps.weight.lora_b");
    const float *b = values(t, 3, 12, 2);
    ck_assert_uint_eq(t->dims[0], 3);
    for (int i = 0; i < 24; i++)
        ck_assert(b[i] == 0 && b[24 + i] == 0 &&
                  b[48 + i] == (float)(i + 1));
    bise_gguf_close(&g);
    bise_lora back;
    ck_ok(bise_lora_load_for(&back, at("x.gguf"), &base.config, &err));
    const bise_lora_module *m = bise_lora_find(
        &back, (bise_role){ BISE_ROLE_EXP_GATE, 1, 2 });
    ck_assert_ptr_nonnull(m);
    ck_assert(m->b[5] == 6 && m->scale == 2);
    bise_lora_fini(&back);
}
END_TEST

/* The class of the base decides the names, --prefix overrules it. */
START_TEST(peft_names_follow_class_and_option)
{
    static const struct { bool base; int asked; bool wrapper; } t[] = {
        { false, -1, false }, { true, -1, true }, { true, 0, false },
        { false, 1, true } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        base.config.wrapper = t[i].base;
        make("q_proj", 2, 4);
        const bise_adapter_options o = { .to = BISE_ADAPTER_PEFT,
                                         .base = &base, .force = true,
                                         .wrapper = t[i].asked };
        ck_ok(bise_adapter_write(&l, at("p"), &o, &err));
        bise_lora_fini(&l);
        ck_ok(bise_lora_load_for(&l, at("p"), &base.config, &err));
        ck_assert_msg(l.wrapper == t[i].wrapper, "row %zu", i);
        bise_lora_fini(&l);
    }
}
END_TEST

/* What a format has no place for, and outputs that exist. */
START_TEST(refusals_leave_nothing)
{
    make("q_proj", 2, 4);
    l.dora = true;
    ck_fails(write_as(BISE_ADAPTER_GGUF, "d.gguf"), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "DoRA"));
    ck_assert_ptr_nonnull(strstr(err.hint, "merge"));
    ck_fails(write_as(BISE_ADAPTER_NATIVE, "d"), BISE_EUNSUPPORTED);
    l.dora = false;
    ck_assert(!bise_file_exists(at("d.gguf")) && !bise_is_dir(at("d")));
    ck_assert(!bise_is_dir(at("d.part")));
    const bise_adapter_options o = { .to = BISE_ADAPTER_GGUF, .wrapper = -1 };
    ck_fails(bise_adapter_write(&l, at("n.gguf"), &o, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.hint, "--base"));
    ck_ok(write_as(BISE_ADAPTER_GGUF, "e.gguf"));
    ck_assert(write_as(BISE_ADAPTER_GGUF, "e.gguf") != BISE_OK);
    ck_ok(write_as(BISE_ADAPTER_MLX, "e"));
    ck_assert(write_as(BISE_ADAPTER_MLX, "e") != BISE_OK);
    ck_assert_ptr_nonnull(strstr(err.hint, "--force"));
}
END_TEST

/* The same adapter gives the same bytes, in every format. */
START_TEST(writing_is_repeatable)
{
    static const char *const file[] = { "adapter_model.safetensors", "",
                                        "lora.safetensors",
                                        "adapters.safetensors" };
    make("all-linear", 2, 4);
    for (int f = 0; f < 4; f++) {
        bise_str text[2] = { { 0 }, { 0 } };
        for (int i = 0; i < 2; i++) {
            char out[32], path[96];
            snprintf(out, sizeof out, "r%d%d", f, i);
            ck_ok(write_as((bise_adapter_format)f, out));
            snprintf(path, sizeof path, "%s%s%s", out, file[f][0] ? "/" : "",
                     file[f]);
            ck_ok(bise_file_read(&text[i], at(path), &err));
        }
        ck_assert(text[0].len == text[1].len &&
                  memcmp(text[0].data, text[1].data, text[0].len) == 0);
        bise_str_fini(&text[0]);
        bise_str_fini(&text[1]);
    }
}
END_TEST

/* scale B A before and after, element by element. */
START_TEST(uniform_keeps_the_product)
{
    bise_lora one;
    ck_ok(bise_lora_load_for(&l, GOLDEN "lora/qv-rank-pattern", NULL, &err));
    ck_ok(bise_adapter_uniform(&one, &l, &err));
    ck_assert_uint_eq(one.n, l.n);
    for (size_t i = 0; i < l.n; i++) {
        const bise_lora_module *x = &l.modules[i], *y = &one.modules[i];
        ck_assert(y->r == 8 && y->alpha == one.modules[0].alpha);
        for (int row = 0; row < x->out; row += 7)
            for (int col = 0; col < x->in; col += 5) {
                double p = 0, q = 0;
                for (int j = 0; j < x->r; j++)
                    p += (double)x->b[row * x->r + j] * x->a[j * x->in + col];
                for (int j = 0; j < y->r; j++)
                    q += (double)y->b[row * y->r + j] * y->a[j * y->in + col];
                ck_assert(fabs(p * x->scale - q * y->scale) < 1e-12);
            }
    }
    ck_assert(!one.rslora);
    bise_lora_fini(&one);
}
END_TEST

/* Whole tensors and magnitudes are copied, not shared. */
START_TEST(uniform_copies_everything)
{
    static const char *const cases[] = { "dora", "save-lm-head" };
    for (int i = 0; i < 2; i++) {
        char path[512];
        bise_lora one;
        snprintf(path, sizeof path, GOLDEN "lora/%s", cases[i]);
        ck_ok(bise_lora_load_for(&l, path, NULL, &err));
        ck_ok(bise_adapter_uniform(&one, &l, &err));
        ck_assert_uint_eq(one.n_saved, l.n_saved);
        if (l.n_saved)
            ck_assert(one.saved[0].w != l.saved[0].w &&
                      one.saved[0].w[7] == l.saved[0].w[7]);
        if (l.dora)
            ck_assert(one.modules[0].magnitude != l.modules[0].magnitude &&
                      one.modules[0].magnitude[3] ==
                          l.modules[0].magnitude[3]);
        bise_lora_fini(&one);
        bise_lora_fini(&l);
    }
}
END_TEST

/* An adapter, a target, and the word of the rule that must fire. */
static const struct {
    const char *adapter, *target, *word;
    bool blocks;
} rules[] = {
    { "plain", "vllm", NULL, false },
    { "dora", "vllm", "DoRA", true },
    { "save-lm-head", "vllm", "modules_to_save", true },
    { "qv-rank-pattern", "vllm", "--uniform", true },
    { "rslora", "vllm", NULL, false },
    { "plain", "llama.cpp", "--to gguf", true },
    { "rslora", "llama.cpp", "sqrt r", false },
    { "plain", "ollama", "--to gguf", true },
    { "plain", "transformers", NULL, false },
    { "dora", "transformers", NULL, false },
    { "plain", "mlx", "--to mlx", true },
    { "save-lm-head", "mlx", "whole tensors", true },
    { "plain", "fireworks", NULL, false },
    { "rslora", "fireworks", "use_rslora", true },
    { "dora", "fireworks", "DoRA", true },
    { "plain", "together", "dedicated endpoints", false },
};

START_TEST(rules_fire)
{
    char path[512];
    bise_adapter_report r = { 0 };
    snprintf(path, sizeof path, GOLDEN "lora/%s", rules[_i].adapter);
    ck_ok(bise_lora_load_for(&l, path, NULL, &err));
    ck_ok(bise_adapter_check(&r, &l, NULL, rules[_i].target, &err));
    bool found = false;
    for (size_t i = 0; i < r.n; i++) {
        ck_assert_str_eq(r.list[i].target, rules[_i].target);
        ck_assert(strlen(r.list[i].source) > 5);
        if (!rules[_i].word)
            ck_assert_msg(!r.list[i].blocks, "%s", r.list[i].text);
        else if (strstr(r.list[i].text, rules[_i].word))
            found = r.list[i].blocks == rules[_i].blocks;
    }
    ck_assert(found == (rules[_i].word != NULL));
    bise_adapter_report_fini(&r);
}
END_TEST

/* Ollama hands some architectures to an engine that takes no adapters. */
START_TEST(ollama_rule_goes_by_the_architecture)
{
    static const struct { const char *base; bool blocks; } t[] = {
        { "ministral3", true }, { "mistral-nohd", false },
        { "mixtral", false } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char path[512];
        bise_checkpoint model = { 0 };
        bise_adapter_report r = { 0 };
        snprintf(path, sizeof path, GOLDEN "models/%s", t[i].base);
        ck_ok(bise_checkpoint_open(&model, path, NULL, &err));
        make("q_proj", 4, 4);
        l.format = "gguf";
        ck_ok(bise_adapter_check(&r, &l, &model, "ollama", &err));
        ck_assert_uint_eq(r.n, t[i].blocks);
        if (r.n)
            ck_assert(r.list[0].blocks &&
                      strstr(r.list[0].text, "not yet implemented"));
        bise_adapter_report_fini(&r);
        bise_lora_fini(&l);
        bise_checkpoint_close(&model);
    }
}
END_TEST

/* The two parts of kv_b in a GGUF take no adapter, in llama.cpp or Ollama. */
START_TEST(latent_rule_needs_kv_b)
{
    static const char *const targets[] = { "llama.cpp", "ollama" };
    for (size_t i = 0; i < 4; i++) {
        bise_adapter_report r = { 0 };
        make("q_proj", 4, 4);
        l.format = "gguf";
        if (i < 2)
            l.modules[0].role.kind = BISE_ROLE_KV_B;
        ck_ok(bise_adapter_check(&r, &l, NULL, targets[i % 2], &err));
        ck_assert_uint_eq(r.n, i < 2);
        if (r.n)
            ck_assert(r.list[0].blocks && strstr(r.list[0].text, "kv_b_proj"));
        bise_adapter_report_fini(&r);
        bise_lora_fini(&l);
    }
}
END_TEST

/* Limits of ranks, with the number in the text. */
START_TEST(rank_rules_have_edges)
{
    static const struct { const char *target; int r; const char *word; } t[] = {
        { "vllm", 16, NULL }, { "vllm", 17, "--max-lora-rank 32" },
        { "vllm", 512, "--max-lora-rank 512" }, { "vllm", 513, "above 512" },
        { "fireworks", 3, "at least 4" }, { "fireworks", 4, NULL },
        { "fireworks", 64, NULL }, { "fireworks", 65, "at most 64" } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        bise_adapter_report r = { 0 };
        make("q_proj", t[i].r, 4);
        l.format = "peft";
        ck_ok(bise_adapter_check(&r, &l, NULL, t[i].target, &err));
        ck_assert_msg((r.n == 0) == (t[i].word == NULL), "row %zu", i);
        if (t[i].word)
            ck_assert_ptr_nonnull(strstr(r.list[0].text, t[i].word));
        bise_adapter_report_fini(&r);
        bise_lora_fini(&l);
    }
}
END_TEST

/* The sizes that the server offers. */
START_TEST(ranks_of_vllm)
{
    static const int t[][2] = { { 1, 1 }, { 2, 8 }, { 8, 8 }, { 9, 16 },
        { 33, 64 }, { 257, 320 }, { 321, 512 }, { 512, 512 }, { 600, 600 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        ck_assert_int_eq(bise_lora_vllm_rank(t[i][0]), t[i][1]);
}
END_TEST

/* Names of the text class on a wrapper, or the reverse: silently without effect
 * there. A GGUF base is of no class. */
START_TEST(prefix_rule_needs_another_class)
{
    static const char *const targets[] = { "vllm", "transformers" };
    make("q_proj", 4, 4);
    l.format = "peft";
    for (int wrapper = 0; wrapper < 2; wrapper++)
        for (int names = 0; names < 2; names++) {
            bise_adapter_report r = { 0 };
            base.config.wrapper = wrapper;
            l.wrapper = names;
            for (int i = 0; i < 4; i++) {
                base.names = i < 2 ? BISE_NAMES_HF : BISE_NAMES_GGUF;
                ck_ok(bise_adapter_check(&r, &l, &base, targets[i % 2],
                                         &err));
                ck_assert_int_eq((int)r.n, i < 2 && wrapper != names);
                bise_adapter_report_fini(&r);
            }
        }
    base.names = BISE_NAMES_HF;
}
END_TEST

/* All targets at once, and an unknown one. */
START_TEST(targets_are_listed)
{
    bise_adapter_report r = { 0 };
    make("lm_head", 4, 4);
    l.format = "peft";
    ck_ok(bise_adapter_check(&r, &l, NULL, NULL, &err));
    char names[128];
    int seen = 0;
    strcpy(names, bise_adapter_targets());
    for (char *p = strtok(names, "|"); p; p = strtok(NULL, "|")) {
        bise_adapter_report one = { 0 };
        ck_ok(bise_adapter_check(&one, &l, NULL, p, &err));
        bise_adapter_report_fini(&one);
        seen++;
    }
    ck_assert_int_eq(seen, 7);
    bool head = false;
    for (size_t i = 0; i < r.n; i++)
        head |= strcmp(r.list[i].target, "fireworks") == 0 &&
                strstr(r.list[i].text, "lm_head");
    ck_assert(head);
    bise_adapter_report_fini(&r);
    ck_fails(bise_adapter_check(&r, &l, NULL, "tgi", &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.hint, "transformers"));
}
END_TEST

/* Groups: one for each file of convert/adapter*.c. */
static Suite *suite(void)
{
    Suite *s = suite_create("adapter");
    TCase *t = tcase_create("adapter");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, gguf_permutes_rows_of_q_and_k);
    tcase_add_test(t, gguf_states_what_the_loader_checks);
    tcase_add_test(t, gguf_alpha_holds_rslora);
    tcase_add_test(t, gguf_folds_scales_that_differ);
    tcase_add_test(t, gguf_without_our_key_is_read_by_its_alpha);
    tcase_add_test(t, native_has_mistrals_names_and_rows);
    tcase_add_test(t, mlx_is_transposed);
    tcase_add_test(t, mlx_pads_ranks);
    tcase_add_test(t, gguf_stacks_experts);
    tcase_add_test(t, peft_names_follow_class_and_option);
    tcase_add_test(t, refusals_leave_nothing);
    tcase_add_test(t, writing_is_repeatable);
    tcase_add_test(t, uniform_keeps_the_product);
    tcase_add_test(t, uniform_copies_everything);
    tcase_add_loop_test(t, rules_fire, 0, sizeof rules / sizeof *rules);
    tcase_add_test(t, rank_rules_have_edges);
    tcase_add_test(t, ollama_rule_goes_by_the_architecture);
    tcase_add_test(t, latent_rule_needs_kv_b);
    tcase_add_test(t, ranks_of_vllm);
    tcase_add_test(t, prefix_rule_needs_another_class);
    tcase_add_test(t, targets_are_listed);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
