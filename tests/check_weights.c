/* check_weights.c - tests of convert/weights.c and of the conversions that
 * need it: experts stacked, apart and fused, latent attention split and
 * joined, float8 with one scale and with blocks, wrappers with a vision tower.
 * Small checkpoints are written here with weights that say where they belong.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "convert/convert.h"
#include "convert/weights.h"
#include "core/bytes.h"
#include "core/file.h"
#include "core/rng.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "pipeline/run.h"
#include "tests/check_main.h"
#include "tests/same_weights.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/"
#define MOST 64

static bise_error err;
static char dir[] = "/tmp/bise-wght-XXXXXX";
static bise_tensor tensors[MOST];
static size_t n_tensors;
static char names[MOST][96];

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    n_tensors = 0;
}

static void teardown(void)
{
    for (size_t i = 0; i < n_tensors; i++) {
        union { const void *in; void *out; } u = { tensors[i].data };
        bise_free(u.out);
    }
    bise_remove_tree(dir);
}

static const char *at(const char *name)
{
    static char paths[8][256];
    static int next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

/* A float32 tensor of random weights, its own stream of numbers. */
static void add(const char *name, int n_dims, uint64_t a, uint64_t b,
                uint64_t c)
{
    const uint64_t dims[3] = { a, b, c };
    uint64_t n = 1;
    for (int i = 0; i < n_dims; i++)
        n *= dims[i];
    ck_assert_uint_lt(n_tensors, MOST);
    float *x = bise_alloc_array(n, sizeof *x);
    for (uint64_t i = 0; i < n; i++)
        x[i] = bise_rng_f32(11, n_tensors, i) - 0.5f;
    snprintf(names[n_tensors], sizeof names[0], "%s", name);
    bise_tensor *t = &tensors[n_tensors];
    *t = (bise_tensor){ .name = names[n_tensors], .dtype = BISE_DTYPE_F32,
                        .n_dims = n_dims, .data = x, .bytes = n * 4 };
    memcpy(t->dims, dims, sizeof dims);
    n_tensors++;
}

static void add_layer(const char *name, int layer, int n_dims, uint64_t a,
                      uint64_t b, uint64_t c)
{
    char full[96];
    snprintf(full, sizeof full, "model.layers.%d.%s", layer, name);
    add(full, n_dims, a, b, c);
}

/* Save what was added as a checkpoint named name. */
static void save(const char *name, const char *config)
{
    ck_ok(bise_mkdir(at(name), &err));
    char path[256];
    snprintf(path, sizeof path, "%s/config.json", at(name));
    ck_ok(bise_file_write(path, config, strlen(config), &err));
    snprintf(path, sizeof path, "%s/model.safetensors", at(name));
    ck_ok(bise_st_save(path, NULL, tensors, n_tensors, &err));
}

static void convert(const char *from, const char *to_name, bise_layout to,
                    bise_dtype dtype, bool keep_fp8)
{
    bise_checkpoint c;
    bise_plan p;
    bise_run_result r = { 0 };
    ck_ok(bise_checkpoint_open(&c, from, NULL, &err));
    const bise_convert_options o = { .to = to, .dtype = dtype,
                                     .keep_fp8 = keep_fp8 };
    ck_ok(bise_convert_plan(&p, &c, &o, &err));
    const bise_run_options run = { .path = at(to_name), .stage = "convert" };
    ck_ok(bise_run(&p, &run, &r, &err));
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
    bise_checkpoint_close(&c);
}

static void same_weights(const char *a, const char *b)
{
    bise_st x, y;
    ck_ok(bise_st_open(&x, a, &err));
    ck_ok(bise_st_open(&y, b, &err));
    ck_assert_uint_eq(x.n_tensors, y.n_tensors);
    for (size_t i = 0; i < x.n_tensors; i++) {
        const bise_tensor *t = &x.tensors[i];
        const bise_tensor *u = bise_st_find(&y, t->name);
        ck_assert_msg(u != NULL, "%s", t->name);
        ck_assert_uint_eq(u->bytes, t->bytes);
        ck_assert_msg(memcmp(t->data, u->data, t->bytes) == 0, "%s", t->name);
    }
    bise_st_close(&x);
    bise_st_close(&y);
}

/* ---- latent attention and fused experts: mistral4 ---- */

enum { C = 32, H = 2, NOPE = 8, ROPE = 4, VD = 6, QL = 16, KVL = 12, FE = 8,
       E = 4, V = 20 };

static const char mla_config[] =
    "{\"architectures\": [\"Mistral4ForCausalLM\"], \"model_type\": "
    "\"mistral4\", \"hidden_size\": 32, \"intermediate_size\": 24, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 2, "
    "\"num_key_value_heads\": 2, \"q_lora_rank\": 16, \"kv_lora_rank\": 12, "
    "\"qk_nope_head_dim\": 8, \"qk_rope_head_dim\": 4, \"v_head_dim\": 6, "
    "\"n_routed_experts\": 4, \"num_experts_per_tok\": 2, "
    "\"n_shared_experts\": 1, \"moe_intermediate_size\": 8, "
    "\"first_k_dense_replace\": 1, \"routed_scaling_factor\": 1.0, "
    "\"n_group\": 1, \"topk_group\": 1, \"norm_topk_prob\": true, "
    "\"rms_norm_eps\": 1e-06, \"vocab_size\": 20, "
    "\"max_position_embeddings\": 1024, \"tie_word_embeddings\": false, "
    "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10000.0, "
    "\"factor\": 8.0, \"original_max_position_embeddings\": 128, "
    "\"beta_fast\": 32.0, \"beta_slow\": 1.0, \"mscale\": 1.0, "
    "\"mscale_all_dim\": 1.0, \"llama_4_scaling_beta\": 0.1}}";

/* One dense layer, one with experts, as transformers stores them. */
static void make_mla(void)
{
    add("model.embed_tokens.weight", 2, V, C, 0);
    for (int i = 0; i < 2; i++) {
        add_layer("input_layernorm.weight", i, 1, C, 0, 0);
        add_layer("self_attn.q_a_proj.weight", i, 2, QL, C, 0);
        add_layer("self_attn.q_a_layernorm.weight", i, 1, QL, 0, 0);
        add_layer("self_attn.q_b_proj.weight", i, 2, H * (NOPE + ROPE), QL, 0);
        add_layer("self_attn.kv_a_proj_with_mqa.weight", i, 2, KVL + ROPE, C,
                  0);
        add_layer("self_attn.kv_a_layernorm.weight", i, 1, KVL, 0, 0);
        add_layer("self_attn.kv_b_proj.weight", i, 2, H * (NOPE + VD), KVL, 0);
        add_layer("self_attn.o_proj.weight", i, 2, C, H * VD, 0);
        add_layer("post_attention_layernorm.weight", i, 1, C, 0, 0);
    }
    add_layer("mlp.gate_proj.weight", 0, 2, 24, C, 0);
    add_layer("mlp.up_proj.weight", 0, 2, 24, C, 0);
    add_layer("mlp.down_proj.weight", 0, 2, C, 24, 0);
    add_layer("mlp.gate.weight", 1, 2, E, C, 0);
    add_layer("mlp.experts.gate_up_proj", 1, 3, E, 2 * FE, C);
    add_layer("mlp.experts.down_proj", 1, 3, E, C, FE);
    add_layer("mlp.shared_experts.gate_proj.weight", 1, 2, FE, C, 0);
    add_layer("mlp.shared_experts.up_proj.weight", 1, 2, FE, C, 0);
    add_layer("mlp.shared_experts.down_proj.weight", 1, 2, C, FE, 0);
    add("model.norm.weight", 1, C, 0, 0);
    add("lm_head.weight", 2, V, C, 0);
    save("mla", mla_config);
}

static const float *data_of(const char *name)
{
    for (size_t i = 0; i < n_tensors; i++)
        if (strcmp(tensors[i].name, name) == 0)
            return tensors[i].data;
    ck_abort_msg("%s", name);
    return NULL;
}

START_TEST(kv_b_is_split_per_head_and_k_transposed)
{
    make_mla();
    convert(at("mla"), "m.gguf", BISE_TO_GGUF, BISE_DTYPE_F32, false);
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, at("m.gguf"), &err));
    const float *kv = data_of("model.layers.0.self_attn.kv_b_proj.weight");
    const bise_tensor *k = bise_gguf_find(&g, "blk.0.attn_k_b.weight");
    const bise_tensor *v = bise_gguf_find(&g, "blk.0.attn_v_b.weight");
    ck_assert_ptr_nonnull(k);
    ck_assert_ptr_nonnull(v);
    ck_assert_ptr_null(bise_gguf_find(&g, "blk.0.attn_kv_b.weight"));
    ck_assert_uint_eq(k->dims[0], H);
    ck_assert_uint_eq(k->dims[1], KVL);
    ck_assert_uint_eq(k->dims[2], NOPE);
    for (int h = 0; h < H; h++)
        for (int r = 0; r < KVL; r++)
            for (int i = 0; i < NOPE; i++) {
                float got;
                memcpy(&got, (const char *)k->data +
                       4 * ((h * KVL + r) * NOPE + i), 4);
                ck_assert_float_eq(got, kv[(h * (NOPE + VD) + i) * KVL + r]);
            }
    for (int h = 0; h < H; h++)
        ck_assert_mem_eq((const char *)v->data + 4 * h * VD * KVL,
                         kv + (h * (NOPE + VD) + NOPE) * KVL, 4 * VD * KVL);
    ck_assert_double_eq(bise_gguf_int(&g.meta, "mistral4.attention."
                                      "head_count_kv", -1), 1);
    ck_assert_double_eq(bise_gguf_int(&g.meta, "mistral4.attention."
                                      "key_length", -1), KVL + ROPE);
    ck_assert_double_eq(bise_gguf_int(&g.meta, "mistral4.attention."
                                      "key_length_mla", -1), NOPE + ROPE);
    ck_assert_double_eq(bise_gguf_int(&g.meta, "mistral4.attention."
                                      "value_length_mla", -1), VD);
    ck_assert_double_eq(bise_gguf_int(&g.meta, "mistral4.leading_dense_block_"
                                      "count", -1), 1);
    ck_assert_double_eq_tol(bise_gguf_float(&g.meta, "mistral4.rope.scaling."
                                            "yarn_log_multiplier", -1), 0.1,
                            1e-6);
    bise_gguf_close(&g);
}
END_TEST

START_TEST(latent_models_return_from_gguf_unchanged)
{
    make_mla();
    convert(at("mla"), "m.gguf", BISE_TO_GGUF, BISE_DTYPE_F32, false);
    convert(at("m.gguf"), "back", BISE_TO_HF, BISE_DTYPE_NONE, false);
    same_weights(at("mla/model.safetensors"), at("back/model.safetensors"));
}
END_TEST

START_TEST(latent_models_return_from_native_unchanged)
{
    make_mla();
    convert(at("mla"), "native", BISE_TO_NATIVE, BISE_DTYPE_NONE, false);
    bise_st st;
    ck_ok(bise_st_open(&st, at("native/consolidated.safetensors"), &err));
    /* every expert on its own there, gate and up apart */
    const float *fused = data_of("model.layers.1.mlp.experts.gate_up_proj");
    for (int e = 0; e < E; e++) {
        char name[64];
        snprintf(name, sizeof name, "layers.1.experts.%d.w1.weight", e);
        const bise_tensor *t = bise_st_find(&st, name);
        ck_assert_ptr_nonnull(t);
        ck_assert_mem_eq(t->data, fused + e * 2 * FE * C, 4 * FE * C);
        snprintf(name, sizeof name, "layers.1.experts.%d.w3.weight", e);
        t = bise_st_find(&st, name);
        ck_assert_ptr_nonnull(t);
        ck_assert_mem_eq(t->data, fused + (e * 2 + 1) * FE * C, 4 * FE * C);
    }
    bise_st_close(&st);
    convert(at("native"), "back", BISE_TO_HF, BISE_DTYPE_NONE, false);
    same_weights(at("mla/model.safetensors"), at("back/model.safetensors"));
}
END_TEST

START_TEST(roles_are_found_in_any_form)
{
    bise_checkpoint c;
    bise_arena a = { 0 };
    make_mla();
    ck_ok(bise_checkpoint_open(&c, at("mla"), NULL, &err));
    const bise_weights w = { .c = &c, .arena = &a };
    static const struct { bise_role role; bool has; int dims; } rows[] = {
        { { BISE_ROLE_KV_B, 0, -1 }, true, 2 },
        { { BISE_ROLE_K_B, 0, -1 }, true, 3 },
        { { BISE_ROLE_V_B, 1, -1 }, true, 3 },
        { { BISE_ROLE_EXP_GATE, 1, -1 }, true, 3 },
        { { BISE_ROLE_EXP_UP, 1, 2 }, true, 2 },
        { { BISE_ROLE_EXP_DOWN, 1, 3 }, true, 2 },
        { { BISE_ROLE_EXP_GATE_UP, 1, -1 }, true, 3 },
        { { BISE_ROLE_Q, 0, -1 }, false, 0 },
        { { BISE_ROLE_EXP_GATE, 0, -1 }, false, 0 },
        { { BISE_ROLE_GATE, 1, -1 }, false, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bise_weight_rows r;
        ck_assert_msg(bise_weights_has(&w, rows[i].role) == rows[i].has, "%d",
                      (int)i);
        bise_error_init(&err);
        const bise_status s = bise_weights_get(&r, &w, rows[i].role,
                                               BISE_ROWS_HALF, &err);
        ck_assert_int_eq(s == BISE_OK, rows[i].has);
        if (s == BISE_OK) {
            ck_assert_int_eq(r.n_dims, rows[i].dims);
            ck_assert_int_eq(r.stored, BISE_DTYPE_F32);
        } else {
            ck_assert_ptr_nonnull(strstr(err.text, "no such tensor"));
        }
    }
    bise_arena_fini(&a);
    bise_checkpoint_close(&c);
}
END_TEST

/* ---- float8 ---- */

START_TEST(float8_becomes_the_expected_bf16)
{
    convert(GOLDEN "fp8", "bf16", BISE_TO_SAME, BISE_DTYPE_NONE, false);
    same_weights(GOLDEN "fp8/expected-bf16.safetensors",
                 at("bf16/model.safetensors"));
    bise_json *config = NULL;
    ck_ok(bise_json_load(&config, at("bf16/config.json"), &err));
    ck_assert_ptr_null(bise_json_get(config, "quantization_config"));
    bise_json_free(config);
}
END_TEST

START_TEST(float8_is_kept_on_request)
{
    convert(GOLDEN "fp8", "kept", BISE_TO_SAME, BISE_DTYPE_NONE, true);
    same_tensors(GOLDEN "fp8/model.safetensors", at("kept/model.safetensors"));
    bise_json *config = NULL;
    ck_ok(bise_json_load(&config, at("kept/config.json"), &err));
    ck_assert_ptr_nonnull(bise_json_get(config, "quantization_config"));
    bise_json_free(config);
}
END_TEST

START_TEST(float8_goes_through_native_and_gguf)
{
    convert(GOLDEN "fp8", "native", BISE_TO_NATIVE, BISE_DTYPE_NONE, false);
    convert(at("native"), "hf", BISE_TO_HF, BISE_DTYPE_NONE, false);
    same_weights(GOLDEN "fp8/expected-bf16.safetensors",
                 at("hf/model.safetensors"));
    convert(GOLDEN "fp8", "m.gguf", BISE_TO_GGUF, BISE_DTYPE_BF16, false);
    convert(at("m.gguf"), "hf2", BISE_TO_HF, BISE_DTYPE_BF16, false);
    same_weights(GOLDEN "fp8/expected-bf16.safetensors",
                 at("hf2/model.safetensors"));
}
END_TEST

/* Blocks of 2 x 2 scales over a 3 x 5 matrix of ones. */

START_TEST(float8_codes_go_through_native_unchanged)
{
    bise_json *params = NULL;
    bise_st st;
    convert(GOLDEN "fp8", "native", BISE_TO_NATIVE, BISE_DTYPE_NONE, true);
    convert(at("native"), "hf", BISE_TO_HF, BISE_DTYPE_NONE, true);
    same_weights(GOLDEN "fp8/model.safetensors", at("hf/model.safetensors"));
    ck_ok(bise_json_load(&params, at("native/params.json"), &err));
    ck_assert_str_eq(bise_json_string(bise_json_get(bise_json_get(
        params, "quantization"), "qscheme_act"), NULL), "TENSOR");
    bise_json_free(params);
    ck_ok(bise_st_open(&st, at("native/consolidated.safetensors"), &err));
    static const char *const want[] = {
        "layers.0.attention.wq.weight", "layers.0.attention.wq.qscale_weight",
        "layers.1.feed_forward.w2.qscale_act" };
    for (size_t i = 0; i < 3; i++)
        ck_assert_ptr_nonnull(bise_st_find(&st, want[i]));
    ck_assert_int_eq(bise_st_find(&st, want[0])->dtype, BISE_DTYPE_F8_E4M3);
    bise_st_close(&st);
}
END_TEST

START_TEST(block_scales_follow_rows_and_columns)
{
    uint8_t codes[15];
    memset(codes, 0x38, sizeof codes);          /* 1.0 */
    const bise_tensor t = { .name = "w", .dtype = BISE_DTYPE_F8_E4M3,
                            .n_dims = 2, .dims = { 3, 5 }, .data = codes,
                            .bytes = 15 };
    char path[256];
    snprintf(path, sizeof path, "%s", at("one.safetensors"));
    ck_ok(bise_st_save(path, NULL, &t, 1, &err));
    bise_store *store = NULL;
    ck_ok(bise_store_open(&store, path, &err));
    float scales[6] = { 1, 2, 3, 4, 5, 6 };
    const bise_weight w = { .tensor = bise_store_at(store, 0),
                            .scales = scales, .n_scales = 6,
                            .scale_block = 2 };
    bise_arena a = { 0 };
    bise_scratch scratch = { 0 };
    const bise_stream *s = bise_stream_weight(&a, store, &w);
    static const float want[15] = { 1, 1, 2, 2, 3, 1, 1, 2, 2, 3,
                                    4, 4, 5, 5, 6 };
    float out[15];
    ck_assert_int_eq(bise_stream_dtype(s), BISE_DTYPE_NONE);
    ck_ok(bise_stream_read(s, out, 0, 3, &scratch, &err));
    ck_assert_mem_eq(out, want, sizeof want);
    ck_ok(bise_stream_read(s, out, 2, 1, &scratch, &err));
    ck_assert_mem_eq(out, want + 10, 5 * sizeof *out);
    bise_scratch_fini(&scratch);
    bise_arena_fini(&a);
    bise_store_close(store);
}
END_TEST

/* Rows of a matrix, and of a stack, each with its own scale. */
START_TEST(each_row_can_have_its_scale)
{
    uint8_t codes[12];
    memset(codes, 0x38, sizeof codes);
    for (int dims = 2; dims <= 3; dims++) {
        bise_tensor t = { .name = "w", .dtype = BISE_DTYPE_F8_E4M3,
                          .n_dims = 3, .dims = { 2, 2, 3 }, .data = codes,
                          .bytes = 12 };
        if (dims == 2) {
            t.n_dims = 2;
            t.dims[0] = 4;
            t.dims[1] = 3;
        }
        char path[256];
        snprintf(path, sizeof path, "%s", at("rows.safetensors"));
        ck_ok(bise_st_save(path, NULL, &t, 1, &err));
        bise_store *store = NULL;
        ck_ok(bise_store_open(&store, path, &err));
        float scales[4] = { 0.5f, 3, 5, 7 };
        const bise_weight w = { .tensor = bise_store_at(store, 0),
                                .scales = scales, .n_scales = 4,
                                .scale_block = BISE_SCALE_ROWS };
        bise_arena a = { 0 };
        bise_scratch scratch = { 0 };
        const bise_stream *s = bise_stream_weight(&a, store, &w);
        float out[12];
        ck_ok(bise_stream_read(s, out, 0, 4, &scratch, &err));
        for (int i = 0; i < 12; i++)
            ck_assert_float_eq(out[i], scales[i / 3]);
        ck_ok(bise_stream_read(s, out, 1, 2, &scratch, &err));
        ck_assert_float_eq(out[0], 3);
        ck_assert_float_eq(out[5], 5);
        bise_scratch_fini(&scratch);
        bise_arena_fini(&a);
        bise_store_close(store);
    }
}
END_TEST

/* A stack of two experts of two rows, each with its own scale. */
START_TEST(each_expert_of_a_stack_has_its_scale)
{
    uint8_t codes[12];
    memset(codes, 0x38, sizeof codes);
    const bise_tensor t = { .name = "w", .dtype = BISE_DTYPE_F8_E4M3,
                            .n_dims = 3, .dims = { 2, 2, 3 }, .data = codes,
                            .bytes = 12 };
    char path[256];
    snprintf(path, sizeof path, "%s", at("stack.safetensors"));
    ck_ok(bise_st_save(path, NULL, &t, 1, &err));
    bise_store *store = NULL;
    ck_ok(bise_store_open(&store, path, &err));
    float scales[2] = { 0.5f, 3 };
    const bise_weight w = { .tensor = bise_store_at(store, 0),
                            .scales = scales, .n_scales = 2 };
    bise_arena a = { 0 };
    bise_scratch scratch = { 0 };
    const bise_stream *s = bise_stream_weight(&a, store, &w);
    float out[12];
    ck_ok(bise_stream_read(s, out, 0, 4, &scratch, &err));
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq(out[i], i < 6 ? 0.5f : 3);
    ck_ok(bise_stream_read(s, out, 1, 2, &scratch, &err));
    ck_assert_float_eq(out[0], 0.5f);
    ck_assert_float_eq(out[3], 3);
    bise_scratch_fini(&scratch);
    bise_arena_fini(&a);
    bise_store_close(store);
}
END_TEST

/* ---- wrappers ---- */

START_TEST(a_wrapper_keeps_every_tensor)
{
    convert(GOLDEN "multimodal", "same", BISE_TO_SAME, BISE_DTYPE_NONE, false);
    same_tensors(GOLDEN "multimodal/model.safetensors",
                 at("same/model.safetensors"));
}
END_TEST

/* The golden wrapper with the activation that native towers have. */
static void silu_wrapper(const char *name)
{
    char file[300];
    bise_str bytes = { 0 };
    bise_json *config = NULL;
    ck_ok(bise_mkdir(at(name), &err));
    ck_ok(bise_file_read(&bytes, GOLDEN "multimodal/model.safetensors", &err));
    snprintf(file, sizeof file, "%s/model.safetensors", at(name));
    ck_ok(bise_file_write(file, bytes.data, bytes.len, &err));
    ck_ok(bise_json_load(&config, GOLDEN "multimodal/config.json", &err));
    bise_json_set(bise_json_get(config, "vision_config"), "hidden_act",
                  bise_json_new_string("silu"));
    bise_str_clear(&bytes);
    bise_json_dump(&bytes, config, 0, false);
    snprintf(file, sizeof file, "%s/config.json", at(name));
    ck_ok(bise_file_write(file, bytes.data, bytes.len, &err));
    bise_json_free(config);
    bise_str_fini(&bytes);
}

START_TEST(vision_goes_through_native_unchanged)
{
    bise_json *config = NULL;
    silu_wrapper("silu");
    convert(at("silu"), "native", BISE_TO_NATIVE, BISE_DTYPE_NONE, false);
    convert(at("native"), "hf", BISE_TO_HF, BISE_DTYPE_NONE, false);
    same_tensors(GOLDEN "multimodal/model.safetensors",
              at("hf/model.safetensors"));
    ck_ok(bise_json_load(&config, at("hf/config.json"), &err));
    ck_assert_str_eq(bise_json_string(bise_json_get(config, "model_type"),
                                      NULL), "mistral3");
    ck_assert_str_eq(bise_json_string(bise_json_get(bise_json_get(
        config, "vision_config"), "hidden_act"), NULL), "silu");
    bise_json_free(config);
}
END_TEST

/* A native file has no key for it: the tower would compute something else. */
START_TEST(a_gelu_tower_has_no_native_form)
{
    bise_checkpoint c;
    bise_plan p;
    const bise_convert_options o = { .to = BISE_TO_NATIVE };
    ck_ok(bise_checkpoint_open(&c, GOLDEN "multimodal", NULL, &err));
    ck_assert_int_eq(bise_convert_plan(&p, &c, &o, &err), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "'gelu'"));
    bise_plan_fini(&p);
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(vision_keeps_its_type_when_text_changes)
{
    convert(GOLDEN "multimodal", "half", BISE_TO_SAME, BISE_DTYPE_BF16, false);
    bise_st st;
    ck_ok(bise_st_open(&st, at("half/model.safetensors"), &err));
    for (size_t i = 0; i < st.n_tensors; i++) {
        const bool text = strncmp(st.tensors[i].name, "language_model.", 15) ==
                          0;
        ck_assert_msg(st.tensors[i].dtype == (text ? BISE_DTYPE_BF16
                                                   : BISE_DTYPE_F32),
                      "%s", st.tensors[i].name);
    }
    bise_st_close(&st);
}
END_TEST

START_TEST(the_text_model_of_a_wrapper_becomes_gguf)
{
    convert(GOLDEN "multimodal", "m.gguf", BISE_TO_GGUF, BISE_DTYPE_NONE,
            false);
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, at("m.gguf"), &err));
    size_t n = 0;
    const char *arch = bise_gguf_str(&g.meta, "general.architecture", &n);
    ck_assert(n == 8 && memcmp(arch, "mistral3", 8) == 0);
    for (size_t i = 0; i < g.n_tensors; i++)
        ck_assert_ptr_null(strstr(g.tensors[i].name, "vision"));
    ck_assert_ptr_nonnull(bise_gguf_find(&g, "token_embd.weight"));
    bise_gguf_close(&g);
}
END_TEST

/* Plan and write the vision file of a checkpoint. */
static bise_status write_mmproj(const char *from, const char *name,
                                bise_dtype dtype)
{
    bise_checkpoint c;
    bise_plan p;
    bise_run_result r = { 0 };
    ck_ok(bise_checkpoint_open(&c, from, NULL, &err));
    bise_error_init(&err);
    bise_status s = bise_convert_plan_mmproj(&p, &c, dtype, &err);
    const bise_run_options run = { .path = at(name), .stage = "mmproj" };
    if (s == BISE_OK)
        s = bise_run(&p, &run, &r, &err);
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
    bise_checkpoint_close(&c);
    return s;
}

START_TEST(the_vision_file_has_every_tensor_and_key)
{
    static const char *const keys[] = {
        "clip.has_vision_encoder", "clip.projector_type",
        "clip.vision.image_size", "clip.vision.patch_size",
        "clip.vision.embedding_length", "clip.vision.feed_forward_length",
        "clip.vision.block_count", "clip.vision.projection_dim",
        "clip.vision.spatial_merge_size", "clip.vision.attention.head_count",
        "clip.vision.attention.layer_norm_epsilon", "clip.vision.image_mean",
        "clip.vision.image_std", "clip.use_silu", "general.file_type",
    };
    static const char *const wanted[] = {
        "v.patch_embd.weight", "v.pre_ln.weight", "v.blk.0.attn_q.weight",
        "v.blk.0.attn_k.weight", "v.blk.0.attn_v.weight",
        "v.blk.0.attn_out.weight", "v.blk.0.ln1.weight", "v.blk.0.ln2.weight",
        "v.blk.0.ffn_gate.weight", "v.blk.0.ffn_up.weight",
        "v.blk.0.ffn_down.weight", "mm.input_norm.weight",
        "mm.patch_merger.weight", "mm.1.weight", "mm.2.weight",
        "v.token_embd.img_break",
    };
    ck_assert_int_eq(write_mmproj(GOLDEN "multimodal", "v.gguf",
                                  BISE_DTYPE_NONE), BISE_OK);
    bise_gguf g;
    bise_st st;
    ck_ok(bise_gguf_open(&g, at("v.gguf"), &err));
    ck_ok(bise_st_open(&st, GOLDEN "multimodal/model.safetensors", &err));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ck_assert_msg(bise_gguf_get(&g.meta, keys[i]) != NULL, "%s", keys[i]);
    ck_assert_uint_eq(g.n_tensors, sizeof wanted / sizeof *wanted);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        ck_assert_msg(bise_gguf_find(&g, wanted[i]) != NULL, "%s", wanted[i]);
    /* row 12 of the embedding */
    const bise_tensor *e = bise_st_find(
        &st, "language_model.model.embed_tokens.weight");
    const bise_tensor *b = bise_gguf_find(&g, "v.token_embd.img_break");
    ck_assert_mem_eq(b->data, (const char *)e->data + 12 * 64 * 4, 64 * 4);
    /* q rows in pairs: row 1 of a head is row D/2 of the source */
    const bise_tensor *q = bise_st_find(
        &st, "vision_tower.transformer.layers.0.attention.q_proj.weight");
    const bise_tensor *p = bise_gguf_find(&g, "v.blk.0.attn_q.weight");
    ck_assert_mem_eq((const char *)p->data + 32 * 4,
                     (const char *)q->data + 8 * 32 * 4, 32 * 4);
    /* v is not touched */
    q = bise_st_find(
        &st, "vision_tower.transformer.layers.0.attention.v_proj.weight");
    p = bise_gguf_find(&g, "v.blk.0.attn_v.weight");
    ck_assert_mem_eq(p->data, q->data, q->bytes);
    bise_gguf_close(&g);
    bise_st_close(&st);
}
END_TEST

START_TEST(types_of_the_vision_file)
{
    static const struct { bise_dtype want, conv, matrix; int file_type; }
        rows[] = {
        { BISE_DTYPE_F16, BISE_DTYPE_F16, BISE_DTYPE_F16, 1 },
        { BISE_DTYPE_BF16, BISE_DTYPE_F32, BISE_DTYPE_BF16, 32 },
        { BISE_DTYPE_Q8_0, BISE_DTYPE_F32, BISE_DTYPE_Q8_0, 7 },
        { BISE_DTYPE_F32, BISE_DTYPE_F32, BISE_DTYPE_F32, 0 },
    };
    ck_assert_int_eq(write_mmproj(GOLDEN "multimodal", "v.gguf",
                                  rows[_i].want), BISE_OK);
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, at("v.gguf"), &err));
    ck_assert_int_eq(bise_gguf_find(&g, "v.patch_embd.weight")->dtype,
                     rows[_i].conv);
    ck_assert_int_eq(bise_gguf_find(&g, "mm.patch_merger.weight")->dtype,
                     rows[_i].conv);
    ck_assert_int_eq(bise_gguf_find(&g, "v.blk.0.ffn_up.weight")->dtype,
                     rows[_i].matrix);
    ck_assert_int_eq(bise_gguf_find(&g, "v.blk.0.ln1.weight")->dtype,
                     BISE_DTYPE_F32);
    ck_assert_int_eq(bise_gguf_int(&g.meta, "general.file_type", -1),
                     rows[_i].file_type);
    bise_gguf_close(&g);
}
END_TEST

START_TEST(a_text_model_has_no_vision_file)
{
    ck_assert_int_eq(write_mmproj(GOLDEN "models/ministral3", "v.gguf",
                                  BISE_DTYPE_NONE), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "vision"));
    ck_assert(!bise_file_exists(at("v.gguf")));
}
END_TEST

START_TEST(types_that_safetensors_lacks_are_refused)
{
    bise_checkpoint c;
    bise_plan p;
    ck_ok(bise_checkpoint_open(&c, GOLDEN "models/ministral3", NULL, &err));
    const bise_convert_options o = { .to = BISE_TO_HF,
                                     .dtype = BISE_DTYPE_Q8_0 };
    ck_fails(bise_convert_plan(&p, &c, &o, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "Q8_0"));
    bise_plan_fini(&p);
    bise_checkpoint_close(&c);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("weights");
    TCase *t = tcase_create("latent");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_test(t, kv_b_is_split_per_head_and_k_transposed);
    tcase_add_test(t, latent_models_return_from_gguf_unchanged);
    tcase_add_test(t, latent_models_return_from_native_unchanged);
    tcase_add_test(t, roles_are_found_in_any_form);
    suite_add_tcase(s, t);
    t = tcase_create("float8");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_test(t, float8_becomes_the_expected_bf16);
    tcase_add_test(t, float8_is_kept_on_request);
    tcase_add_test(t, float8_goes_through_native_and_gguf);
    tcase_add_test(t, float8_codes_go_through_native_unchanged);
    tcase_add_test(t, block_scales_follow_rows_and_columns);
    tcase_add_test(t, each_expert_of_a_stack_has_its_scale);
    tcase_add_test(t, each_row_can_have_its_scale);
    suite_add_tcase(s, t);
    t = tcase_create("wrapper");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_test(t, a_wrapper_keeps_every_tensor);
    tcase_add_test(t, vision_goes_through_native_unchanged);
    tcase_add_test(t, a_gelu_tower_has_no_native_form);
    tcase_add_test(t, vision_keeps_its_type_when_text_changes);
    tcase_add_test(t, the_text_model_of_a_wrapper_becomes_gguf);
    tcase_add_test(t, the_vision_file_has_every_tensor_and_key);
    tcase_add_loop_test(t, types_of_the_vision_file, 0, 4);
    tcase_add_test(t, a_text_model_has_no_vision_file);
    tcase_add_test(t, types_that_safetensors_lacks_are_refused);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
