/* check_checkpoint.c - opening models: the golden ones, random ones of every
 * family in every layout and prefix scheme, FP8 scales, licences, and each way
 * in which weights and configuration can disagree, refused by name.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/checkpoint.h"

#include <math.h>
#include <string.h>

#include "tests/tiny_model.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/models/"

#define TEXT "\"hidden_size\":8,\"intermediate_size\":12," \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"head_dim\":6,\"vocab_size\":10," \
    "\"rms_norm_eps\":1e-5"
#define MISTRAL "{\"model_type\":\"mistral\"," TEXT "}"
#define WRAPPER "{\"architectures\":[\"Mistral3ForConditionalGeneration\"]," \
    "\"model_type\":\"mistral3\",\"text_config\":{\"model_type\":" \
    "\"mistral\"," TEXT "}}"
#define NATIVE "{\"dim\":8,\"hidden_dim\":12,\"n_layers\":2,\"n_heads\":4," \
    "\"n_kv_heads\":2,\"head_dim\":6,\"norm_eps\":1e-5"
#define MOE ",\"num_local_experts\":3,\"num_experts_per_tok\":2"
#define MLA "{\"model_type\":\"mistral4\",\"hidden_size\":8," \
    "\"intermediate_size\":12,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":2,\"vocab_size\":10,\"rms_norm_eps\":1e-6," \
    "\"q_lora_rank\":4,\"kv_lora_rank\":3,\"qk_nope_head_dim\":3," \
    "\"qk_rope_head_dim\":2,\"v_head_dim\":5,\"n_routed_experts\":3," \
    "\"num_experts_per_tok\":2,\"moe_intermediate_size\":4," \
    "\"n_shared_experts\":1,\"first_k_dense_replace\":1}"

static char dir[64];
static bise_error err;
static bise_checkpoint c;
static tiny *m;
static char said[1024];

static void say(void *ctx, const char *text)
{
    (void)ctx;
    strncat(said, text, sizeof said - strlen(said) - 1);
}

static const bise_progress progress = { .message = say };

static void setup(void)
{
    strcpy(dir, "/tmp/bise-ckpt-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    m = bise_alloc(sizeof *m);
    said[0] = 0;
}

static void teardown(void)
{
    tiny_free(m);
    bise_free(m);
    bise_remove_tree(dir);
}

/* Tensors of the configuration in text, in m. */
static void make(const char *text, bise_names names, const char *prefix)
{
    bise_config config;
    bise_json *v = NULL;
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    if (names == BISE_NAMES_NATIVE && bise_json_get(v, "dim"))
        ck_ok(bise_config_from_native(&config, v, &err));
    else
        ck_ok(bise_config_from_hf(&config, v, &err));
    if (config.V == 0)
        config.V = 10;
    tiny_fill(m, &config, names, prefix);
    bise_config_fini(&config);
    bise_json_free(v);
}

static bise_status open_hf(const char *text)
{
    tiny_save(m, dir, "model.safetensors", "config.json", text);
    bise_error_init(&err);
    return bise_checkpoint_open(&c, dir, &progress, &err);
}

static const struct { const char *name; size_t n; bool tied; } golden[] = {
    { "ministral3", 21, false }, { "ministral3-mscale", 21, false },
    { "ministral3-tied", 20, true }, { "mistral-nohd", 21, false },
    { "mistral-window", 21, false }, { "mixtral", 41, false } };

/* Counts, row orders and the parameter sum of files made by transformers. */
START_TEST(opens_golden_models)
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s", golden[_i].name);
    ck_ok(bise_checkpoint_open(&c, path, &progress, &err));
    ck_assert_uint_eq(c.n, golden[_i].n);
    ck_assert_int_eq(c.config.tied, golden[_i].tied);
    ck_assert_str_eq(c.base_name, golden[_i].name);
    ck_assert_ptr_nonnull(strstr(said, "licence"));
    const bise_weight *q = bise_checkpoint_get(&c, BISE_ROLE_Q, 1);
    ck_assert_ptr_nonnull(q);
    ck_assert_int_eq(q->rows, BISE_ROWS_HALF);
    ck_assert_int_eq(q->heads, 4);
    ck_assert_int_eq(bise_checkpoint_get(&c, BISE_ROLE_K, 0)->heads, 2);
    ck_assert_int_eq(bise_checkpoint_get(&c, BISE_ROLE_V, 0)->rows,
                     BISE_ROWS_PLAIN);
    ck_assert_ptr_null(bise_checkpoint_get(&c, BISE_ROLE_Q, 2));
    const bise_weight *head = bise_checkpoint_get(&c, BISE_ROLE_HEAD, -1);
    ck_assert(golden[_i].tied == (head == NULL));
    /* The parameters the config implies are those in the file. */
    uint64_t sum = 0;
    for (size_t i = 0; i < c.n; i++)
        sum += bise_tensor_count(c.weights[i].tensor);
    ck_assert_uint_eq(sum, bise_config_parameters(&c.config));
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(opens_both_prefix_schemes)
{
    static const char *const prefix[] = { "language_model.",
                                          "model.language_model." };
    const uint64_t d[2] = { 4, 4 };
    make(WRAPPER, BISE_NAMES_HF, prefix[_i]);
    tiny_add(m, _i ? "model.vision_tower.ln_pre.weight"
                   : "vision_tower.ln_pre.weight", BISE_DTYPE_F32, 1, d);
    tiny_add(m, _i ? "model.multi_modal_projector.linear_1.weight"
                   : "multi_modal_projector.linear_1.weight",
             BISE_DTYPE_F32, 2, d);
    ck_ok(open_hf(WRAPPER));
    ck_assert(c.config.wrapper);
    ck_assert_str_eq(c.prefix, prefix[_i]);
    ck_assert_uint_eq(c.n, 21 + 2);
    ck_assert_int_eq(c.weights[21].role.kind, BISE_ROLE_OPAQUE);
    /* Names go back in the scheme that was read. */
    for (size_t i = 0; i < 21; i++) {
        char name[256];
        ck_assert(bise_checkpoint_name(name, &c, c.weights[i].role));
        ck_assert_str_eq(name, c.weights[i].tensor->name);
    }
    bise_checkpoint_close(&c);
}
END_TEST

/* params.json without a vocabulary size, rows interleaved. */
START_TEST(opens_native)
{
    make(NATIVE "}", BISE_NAMES_NATIVE, "");
    tiny_save(m, dir, "consolidated.safetensors", "params.json", NATIVE "}");
    ck_ok(bise_checkpoint_open(&c, dir, &progress, &err));
    ck_assert_int_eq(c.names, BISE_NAMES_NATIVE);
    ck_assert_int_eq(c.config.V, 10);
    const bise_weight *k = bise_checkpoint_get(&c, BISE_ROLE_K, 0);
    ck_assert_int_eq(k->rows, BISE_ROWS_INTERLEAVED);
    ck_assert_str_eq(k->tensor->name, "layers.0.attention.wk.weight");
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(drops_a_head_stored_beside_tied_embeddings)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    tiny_find(m, "lm_head.weight")->data =
        tiny_find(m, "model.embed_tokens.weight")->data;
    ck_ok(open_hf("{\"model_type\":\"mistral\",\"tie_word_embeddings\":true,"
                  TEXT "}"));
    ck_assert_ptr_null(bise_checkpoint_get(&c, BISE_ROLE_HEAD, -1));
    ck_assert_uint_eq(c.n, 20);
    ck_assert_ptr_nonnull(strstr(said, "lm_head.weight"));
    bise_checkpoint_close(&c);
}
END_TEST

/* transformers 5 does the same, whose logits are the judge. */
START_TEST(keeps_a_head_that_differs_from_tied_embeddings)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    ck_ok(open_hf("{\"model_type\":\"mistral\",\"tie_word_embeddings\":true,"
                  TEXT "}"));
    ck_assert(!c.config.tied);
    ck_assert_ptr_nonnull(bise_checkpoint_get(&c, BISE_ROLE_HEAD, -1));
    ck_assert_ptr_nonnull(strstr(said, "it is kept, the tie is not"));
    bise_checkpoint_close(&c);
}
END_TEST

/* GGUF has no key for tied heads: the absence of output.weight tells. */
START_TEST(opens_gguf_and_ties_without_output)
{
    make(MISTRAL, BISE_NAMES_GGUF, "");
    static const struct { const char *key; uint32_t v; } t[] = {
        { "llama.block_count", 2 }, { "llama.embedding_length", 8 },
        { "llama.feed_forward_length", 12 },
        { "llama.attention.head_count", 4 },
        { "llama.attention.head_count_kv", 2 },
        { "llama.attention.key_length", 6 }, { "llama.vocab_size", 10 } };
    bise_gguf_meta meta = { 0 };
    char path[128];
    bise_gguf_set_str(&meta, "general.architecture", "llama");
    bise_gguf_set_str(&meta, "general.license", "apache-2.0");
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        bise_gguf_set_u32(&meta, t[i].key, t[i].v);
    bise_gguf_set_f32(&meta, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    snprintf(path, sizeof path, "%s/tiny.gguf", dir);
    for (int tied = 0; tied < 2; tied++) {
        if (tied)
            tiny_remove(m, "output.weight");
        ck_ok(bise_gguf_save(path, &meta, m->t, m->n, &err));
        ck_ok(bise_checkpoint_open(&c, path, &progress, &err));
        ck_assert_int_eq(c.config.tied, tied);
        ck_assert_str_eq(c.base_name, "tiny");
        ck_assert_str_eq(said, "");
        ck_assert_int_eq(bise_checkpoint_get(&c, BISE_ROLE_Q, 0)->rows,
                         BISE_ROWS_INTERLEAVED);
        bise_checkpoint_close(&c);
    }
    bise_gguf_meta_fini(&meta);
}
END_TEST

START_TEST(opens_experts_apart_and_fused)
{
    const char *text = "{\"model_type\":\"mixtral\"," TEXT MOE "}";
    make(text, BISE_NAMES_HF, "");
    ck_ok(open_hf(text));
    ck_assert_uint_eq(c.n, 3 + 2 * (6 + 1 + 9));
    const bise_role one = { BISE_ROLE_EXP_DOWN, 1, 2 };
    ck_assert_ptr_nonnull(bise_checkpoint_find(&c, one));
    bise_checkpoint_close(&c);
    /* One expert short. */
    tiny_remove(m, "model.layers.1.block_sparse_moe.experts.2.w2.weight");
    ck_fails(open_hf(text), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "experts.2.w2"));
    /* transformers 5's names, fused. */
    const uint64_t up[3] = { 3, 24, 8 }, down[3] = { 3, 8, 12 };
    make("{\"model_type\":\"mistral\"," TEXT "}", BISE_NAMES_HF, "");
    for (int i = 0; i < 2; i++) {
        char name[128];
        static const char *const old[] = { "gate_proj", "up_proj",
                                           "down_proj" };
        for (int j = 0; j < 3; j++) {
            snprintf(name, sizeof name, "model.layers.%d.mlp.%s.weight", i,
                     old[j]);
            tiny_remove(m, name);
        }
        snprintf(name, sizeof name, "model.layers.%d.mlp.gate.weight", i);
        tiny_add(m, name, BISE_DTYPE_F32, 2, (uint64_t[]){ 3, 8 });
        snprintf(name, sizeof name, "model.layers.%d.mlp.experts.gate_up_proj",
                 i);
        tiny_add(m, name, BISE_DTYPE_F32, 3, up);
        snprintf(name, sizeof name, "model.layers.%d.mlp.experts.down_proj",
                 i);
        tiny_add(m, name, BISE_DTYPE_F32, 3, down);
    }
    ck_ok(open_hf(text));
    const bise_weight *w = bise_checkpoint_get(&c, BISE_ROLE_EXP_GATE_UP, 1);
    ck_assert_ptr_nonnull(w);
    ck_assert_uint_eq(w->expert_stride, 24 * 8 * 4);
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(opens_latent_attention)
{
    make(MLA, BISE_NAMES_HF, "");
    ck_ok(open_hf(MLA));
    ck_assert_int_eq(bise_checkpoint_get(&c, BISE_ROLE_Q_B, 0)->rows,
                     BISE_ROWS_PLAIN);
    bise_checkpoint_close(&c);
    tiny_remove(m, "model.layers.1.self_attn.kv_b_proj.weight");
    ck_fails(open_hf(MLA), BISE_EFORMAT);
    ck_assert_str_eq(err.tensor, "model.layers.1.self_attn.kv_b_proj.weight");
}
END_TEST

/* Found and needed shape, and the file that holds the tensor. */
START_TEST(names_a_wrong_shape)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    tiny_find(m, "model.layers.1.self_attn.k_proj.weight")->dims[0] = 6;
    ck_fails(open_hf(MISTRAL), BISE_EFORMAT);
    ck_assert_str_eq(err.text, "shape of 'model.layers.1.self_attn.k_proj."
                     "weight' is 6x8, the config needs 12x8");
    ck_assert_ptr_nonnull(strstr(err.path, "model.safetensors"));
}
END_TEST

START_TEST(names_a_vocabulary_that_differs)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    static const float rows[12 * 8];
    bise_tensor *t = tiny_find(m, "model.embed_tokens.weight");
    t->dims[0] = 12;
    t->data = rows;
    ck_fails(open_hf(MISTRAL), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "12x8"));
    ck_assert_ptr_nonnull(strstr(err.hint, "\"vocab_size\": 12"));
}
END_TEST

START_TEST(names_a_missing_tensor)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    tiny_remove(m, "model.layers.0.mlp.up_proj.weight");
    ck_fails(open_hf(MISTRAL), BISE_EFORMAT);
    ck_assert_str_eq(err.text,
                     "tensor 'model.layers.0.mlp.up_proj.weight' is missing");
    /* A head that is neither stored nor tied. */
    make(MISTRAL, BISE_NAMES_HF, "");
    tiny_remove(m, "lm_head.weight");
    ck_fails(open_hf(MISTRAL), BISE_EFORMAT);
    ck_assert_str_eq(err.tensor, "lm_head.weight");
}
END_TEST

START_TEST(names_a_layer_too_many)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    tiny_add(m, "model.layers.2.mlp.up_proj.weight", BISE_DTYPE_F32, 2,
             (uint64_t[]){ 12, 8 });
    ck_fails(open_hf(MISTRAL), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "2 layers"));
}
END_TEST

START_TEST(refuses_one_tensor_under_two_names)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    tiny_add(m, "language_model.model.norm.weight", BISE_DTYPE_F32, 1,
             (uint64_t[]){ 8 });
    ck_fails(open_hf(MISTRAL), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "same tensor"));
}
END_TEST

/* Texts of the faults of a checkpoint that is opened to hear all of them. */
static bise_status hear(void *ctx, const bise_error *fault)
{
    bise_str_printf(ctx, "%s\n", fault->text);
    return BISE_OK;
}

START_TEST(every_doubled_tensor_is_told)
{
    bise_str heard = { 0 };
    const bise_fault_sink sink = { hear, &heard };
    make(MISTRAL, BISE_NAMES_HF, "");
    tiny_add(m, "language_model.model.norm.weight", BISE_DTYPE_F32, 1,
             (uint64_t[]){ 8 });
    tiny_add(m, "language_model.model.layers.1.input_layernorm.weight",
             BISE_DTYPE_F32, 1, (uint64_t[]){ 8 });
    tiny_save(m, dir, "model.safetensors", "config.json", MISTRAL);
    bise_error_init(&err);
    ck_ok(bise_checkpoint_inspect(&c, dir, &progress, &sink, &err));
    const char *text = bise_str_get(&heard), *one = strstr(text, "same tensor");
    ck_assert_ptr_nonnull(one);
    ck_assert_ptr_nonnull(strstr(one + 1, "same tensor"));
    bise_checkpoint_close(&c);
    bise_str_fini(&heard);
}
END_TEST

/* Walking the store in order meets every weight once, with its tensor; what is
 * no weight gives NULL and moves nothing. */
static void walk_meets_all_weights(void)
{
    size_t next = 0, met = 0, others = 0;
    for (size_t i = 0; i < bise_store_count(c.store); i++) {
        const bise_tensor *t = bise_store_at(c.store, i);
        const bise_weight *w = bise_checkpoint_next(&c, t, &next);
        const bise_weight *want = NULL;
        for (size_t k = 0; k < c.n; k++)
            if (c.weights[k].tensor == t)
                want = &c.weights[k];
        ck_assert_ptr_eq(w, want);
        met += w != NULL;
        others += w == NULL;
    }
    ck_assert_uint_eq(met, c.n);
    ck_assert_uint_gt(others, 0);
}

/* Old rotary buffers are silent; anything else is named once and counted. */
START_TEST(warns_of_unknown_tensors_and_skips_leftovers)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    const uint64_t d[1] = { 3 };
    tiny_add(m, "model.layers.0.self_attn.rotary_emb.inv_freq", BISE_DTYPE_F32,
             1, d);
    ck_ok(open_hf(MISTRAL));
    ck_assert_uint_eq(c.n, 21);
    ck_assert_ptr_null(strstr(said, "rotary"));
    bise_checkpoint_close(&c);
    tiny_add(m, "model.extra.weight", BISE_DTYPE_F32, 1, d);
    tiny_add(m, "model.extra2.weight", BISE_DTYPE_F32, 1, d);
    ck_ok(open_hf(MISTRAL));
    ck_assert_ptr_nonnull(strstr(said, "model.extra.weight"));
    ck_assert_ptr_nonnull(strstr(said, "1 more"));
    walk_meets_all_weights();
    bise_checkpoint_close(&c);
}
END_TEST

/* Integers are no weights, and packed tensors name their scheme. */
START_TEST(refuses_other_types_and_schemes)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    bise_tensor *t = tiny_find(m, "model.norm.weight");
    t->dtype = BISE_DTYPE_I32;
    ck_fails(open_hf(MISTRAL), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "I32"));
    t->dtype = BISE_DTYPE_F32;
    tiny_add(m, "model.layers.0.mlp.up_proj.weight_packed", BISE_DTYPE_U8, 1,
             (uint64_t[]){ 3 });
    ck_fails(open_hf(MISTRAL), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "weight_packed"));
}
END_TEST

/* Make one weight FP8 with a scale of n_dims dims. */
static float *make_fp8(const char *scale, int n_dims, const uint64_t *dims)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    bise_tensor *t = tiny_find(m, "model.layers.1.mlp.up_proj.weight");
    t->dtype = BISE_DTYPE_F8_E4M3;
    t->bytes = 12 * 8;
    tiny_add(m, scale, BISE_DTYPE_F32, n_dims, dims);
    float *v = bise_arena_alloc(&m->arena, 64);
    for (int i = 0; i < 16; i++)
        v[i] = 0.25f + (float)i;
    m->t[m->n - 1].data = v;
    return v;
}

#define UP "model.layers.1.mlp.up_proj."

/* All three suffixes, scalar and one-element shapes. */
START_TEST(attaches_fp8_scales)
{
    static const char *const suffix[] = { "weight_scale_inv", "weight_scale",
                                          "qscale_weight" };
    for (int i = 0; i < 3; i++) {
        char name[96];
        snprintf(name, sizeof name, UP "%s", suffix[i]);
        (void)make_fp8(name, i == 1 ? 1 : 0, (uint64_t[]){ 1 });
        tiny_add(m, UP "activation_scale", BISE_DTYPE_F32, 0, NULL);
        ck_ok(open_hf(MISTRAL));
        const bise_weight *w = bise_checkpoint_get(&c, BISE_ROLE_UP, 1);
        ck_assert_int_eq(w->n_scales, 1);
        ck_assert_int_eq(w->scale_block, 0);
        ck_assert(w->scales[0] == 0.25f);
        ck_assert_ptr_nonnull(w->act_scale);
        ck_assert_uint_eq(c.n, 21);
        walk_meets_all_weights();
        bise_checkpoint_close(&c);
    }
}
END_TEST

/* Blocks of the config's size; the same scales fail under another size. */
START_TEST(attaches_block_scales)
{
    (void)make_fp8(UP "weight_scale_inv", 2, (uint64_t[]){ 3, 2 });
    ck_ok(open_hf("{\"model_type\":\"mistral\"," TEXT
                  ",\"quantization_config\":{\"quant_method\":\"fp8\","
                  "\"weight_block_size\":[4,4]}}"));
    const bise_weight *w = bise_checkpoint_get(&c, BISE_ROLE_UP, 1);
    ck_assert_int_eq(w->n_scales, 6);
    ck_assert_int_eq(w->scale_block, 4);
    ck_assert(w->scales[5] == 5.25f);
    bise_checkpoint_close(&c);
    /* The same scales are no 128 x 128 blocks. */
    ck_fails(open_hf(MISTRAL), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "3x2"));
}
END_TEST

/* [out, 1] of compressed-tensors, [out] of others: one for each row; as many
 * for each column mean nothing. */
START_TEST(attaches_row_scales)
{
    static const char *const config =
        "{\"model_type\":\"mistral\"," TEXT ",\"quantization_config\":"
        "{\"quant_method\":\"%s\"}}";
    for (int dims = 1; dims <= 2; dims++) {
        char json[1024];
        snprintf(json, sizeof json, config, dims == 1 ? "fbgemm_fp8"
                                                      : "compressed-tensors");
        (void)make_fp8(UP "weight_scale", dims, (uint64_t[]){ 12, 1 });
        ck_ok(open_hf(json));
        const bise_weight *w = bise_checkpoint_get(&c, BISE_ROLE_UP, 1);
        ck_assert_int_eq(w->n_scales, 12);
        ck_assert_int_eq(w->scale_block, BISE_SCALE_ROWS);
        ck_assert(w->scales[11] == 11.25f);
        bise_checkpoint_close(&c);
    }
    (void)make_fp8(UP "weight_scale", 2, (uint64_t[]){ 1, 8 });
    ck_fails(open_hf(MISTRAL), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "1x8"));
}
END_TEST

/* Zero, negative, infinite, NaN, absent, and a scale without FP8. */
START_TEST(refuses_bad_scales)
{
    float *v = make_fp8(UP "weight_scale_inv", 0, NULL);
    static const float bad[] = { 0, -1, INFINITY, NAN };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        v[0] = bad[i];
        ck_fails(open_hf(MISTRAL), BISE_EFORMAT);
        ck_assert_str_eq(err.tensor, UP "weight_scale_inv");
    }
    m->n--;
    ck_fails(open_hf(MISTRAL), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "has no scale"));
    /* A scale whose weight is not FP8 is not dropped in silence. */
    make(MISTRAL, BISE_NAMES_HF, "");
    tiny_add(m, UP "weight_scale", BISE_DTYPE_F32, 0, NULL);
    ck_fails(open_hf(MISTRAL), BISE_EUNSUPPORTED);
}
END_TEST

/* String, list, "other" with a name, absent, and broken YAML. */
START_TEST(reads_the_licence_of_the_card)
{
    static const struct { const char *card, *licence; bool warned; } t[] = {
        { "---\nlicense: apache-2.0\n---\n# x\n", "apache-2.0", false },
        { "---\nlicense: other\nlicense_name: mrl\n---\n", "mrl", true },
        { "---\nlicense:\n- mit\n---\n", "mit", true },
        { "# no front matter\n", "", true },
        { "---\nlicense: [\n---\n", "", true } };
    make(MISTRAL, BISE_NAMES_HF, "");
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/README.md", dir);
        ck_ok(bise_file_write(path, t[i].card, strlen(t[i].card), &err));
        said[0] = 0;
        ck_ok(open_hf(MISTRAL));
        ck_assert_str_eq(c.licence, t[i].licence);
        ck_assert_msg((said[0] != 0) == t[i].warned, "%zu: %s", i, said);
        bise_checkpoint_close(&c);
    }
}
END_TEST

START_TEST(needs_a_config)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    tiny_save(m, dir, "model.safetensors", NULL, NULL);
    ck_fails(bise_checkpoint_open(&c, dir, &progress, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "config.json"));
    ck_fails(open_hf("{\"model_type\":\"qwen2\"}"), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.path, "config.json"));
    ck_fails(open_hf("{\"model_type\":"), BISE_EFORMAT);
}
END_TEST

/* The n-th allocation fails for every n: an error, no leak, no crash. */
START_TEST(survives_failing_allocations)
{
    make(MISTRAL, BISE_NAMES_HF, "");
    ck_ok(open_hf(MISTRAL));
    bise_checkpoint_close(&c);
    int failed = 0;
    for (uint64_t i = 1; i < 60; i++) {
        bise_error_init(&err);
        bise_alloc_fail_after(i);
        const bise_status s = bise_checkpoint_open(&c, dir, &progress, &err);
        bise_alloc_fail_after(0);
        failed += s != BISE_OK;
        if (s == BISE_OK)
            bise_checkpoint_close(&c);
    }
    ck_assert_int_gt(failed, 5);
}
END_TEST

/* Every test starts with an empty directory and an empty model. */
static Suite *suite(void)
{
    Suite *s = suite_create("checkpoint");
    TCase *t = tcase_create("checkpoint");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, opens_golden_models, 0,
                        sizeof golden / sizeof *golden);
    tcase_add_loop_test(t, opens_both_prefix_schemes, 0, 2);
    tcase_add_test(t, opens_native);
    tcase_add_test(t, drops_a_head_stored_beside_tied_embeddings);
    tcase_add_test(t, keeps_a_head_that_differs_from_tied_embeddings);
    tcase_add_test(t, opens_gguf_and_ties_without_output);
    tcase_add_test(t, opens_experts_apart_and_fused);
    tcase_add_test(t, opens_latent_attention);
    tcase_add_test(t, names_a_wrong_shape);
    tcase_add_test(t, names_a_vocabulary_that_differs);
    tcase_add_test(t, names_a_missing_tensor);
    tcase_add_test(t, names_a_layer_too_many);
    tcase_add_test(t, refuses_one_tensor_under_two_names);
    tcase_add_test(t, every_doubled_tensor_is_told);
    tcase_add_test(t, warns_of_unknown_tensors_and_skips_leftovers);
    tcase_add_test(t, refuses_other_types_and_schemes);
    tcase_add_test(t, attaches_fp8_scales);
    tcase_add_test(t, attaches_block_scales);
    tcase_add_test(t, attaches_row_scales);
    tcase_add_test(t, refuses_bad_scales);
    tcase_add_test(t, reads_the_licence_of_the_card);
    tcase_add_test(t, needs_a_config);
    tcase_add_test(t, survives_failing_allocations);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
