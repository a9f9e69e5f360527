/* check_config_ways.c - one model said in three ways: a configuration read from
 * config.json, written by the converters as GGUF keys or as params.json, and
 * read back, must be the same in every field that the target can express. And
 * GGUF keys by themselves: each required one named, each wrong type refused.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "convert/convert.h"
#include "core/str.h"
#include "tests/tiny_model.h"

#define DENSE "\"hidden_size\":8,\"intermediate_size\":12," \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"head_dim\":6,\"vocab_size\":10," \
    "\"rms_norm_eps\":1e-5,\"max_position_embeddings\":256," \
    "\"bos_token_id\":1,\"eos_token_id\":2"
#define YARN(beta, all) "\"rope_parameters\":{\"rope_type\":\"yarn\"," \
    "\"rope_theta\":1000000.0,\"factor\":4.0,\"beta_fast\":32.0," \
    "\"beta_slow\":1.0,\"mscale\":1.0,\"mscale_all_dim\":" all "," \
    "\"original_max_position_embeddings\":64,\"llama_4_scaling_beta\":" \
    beta "}"

static const struct { const char *json; bise_family family; } models[] = {
    { "{\"model_type\":\"mistral\",\"rope_theta\":1e6," DENSE "}",
      BISE_FAMILY_MISTRAL },
    { "{\"model_type\":\"mistral\",\"rope_theta\":10000.0," DENSE
      ",\"tie_word_embeddings\":true}", BISE_FAMILY_MISTRAL },
    { "{\"model_type\":\"ministral3\"," DENSE "," YARN("0.1", "1.0") "}",
      BISE_FAMILY_MINISTRAL3 },
    { "{\"model_type\":\"ministral3\"," DENSE "," YARN("0.0", "0.0") "}",
      BISE_FAMILY_MINISTRAL3 },
    { "{\"model_type\":\"mixtral\",\"rope_theta\":1e6,"
      "\"num_local_experts\":3,\"num_experts_per_tok\":2," DENSE "}",
      BISE_FAMILY_MIXTRAL },
};
#define N_MODELS (sizeof models / sizeof *models)

static char dir[64];
static bise_error err;
static bise_checkpoint c;
static tiny *m;

/* Each test opens one random model of its row. */
static void setup(void)
{
    strcpy(dir, "/tmp/bise-ways-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    m = bise_alloc(sizeof *m);
}

static void teardown(void)
{
    bise_checkpoint_close(&c);
    tiny_free(m);
    bise_free(m);
    bise_remove_tree(dir);
}

static void open_row(int i)
{
    bise_config config;
    bise_json *v = NULL;
    const char *text = models[i].json;
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    ck_ok(bise_config_from_hf(&config, v, &err));
    tiny_fill(m, &config, BISE_NAMES_HF, "");
    tiny_save(m, dir, "model.safetensors", "config.json", text);
    bise_config_fini(&config);
    bise_json_free(v);
    ck_ok(bise_checkpoint_open(&c, dir, NULL, &err));
}

static void same_dims(const bise_config *a, const bise_config *b)
{
    ck_assert_int_eq(a->C, b->C);
    ck_assert_int_eq(a->F, b->F);
    ck_assert_int_eq(a->L, b->L);
    ck_assert_int_eq(a->H, b->H);
    ck_assert_int_eq(a->K, b->K);
    ck_assert_int_eq(a->D, b->D);
    ck_assert_int_eq(a->V, b->V);
    ck_assert_int_eq(a->E, b->E);
    ck_assert_int_eq(a->top_k, b->top_k);
    ck_assert(a->eps == b->eps);
    ck_assert(a->max_position == b->max_position);
    ck_assert_uint_eq(bise_config_parameters(a), bise_config_parameters(b));
}

/* Tables are what the model computes with: equal bits, also after float32. */
static void same_rope(const bise_config *a, const bise_config *b)
{
    double fa[3], fb[3], ma, mb;
    bise_rope_freqs(&a->rope, 6, fa, &ma);
    bise_rope_freqs(&b->rope, 6, fb, &mb);
    for (int i = 0; i < 3; i++)
        ck_assert_msg(fa[i] == fb[i], "pair %d: %.17g and %.17g", i, fa[i],
                      fb[i]);
    ck_assert_msg(fabs(ma - mb) < 1e-12, "factor %.17g and %.17g", ma, mb);
    for (int p = 0; p < 400; p += 37)
        ck_assert(bise_rope_qscale(&a->rope, p) ==
                  bise_rope_qscale(&b->rope, p));
}

/* HF -> GGUF keys -> configuration. The tied head is not a key: _resolve sets
 * it by the tensors, so the copy is told here. */
START_TEST(gguf_keys_say_the_same)
{
    bise_gguf_meta meta = { 0 };
    bise_config back;
    const bise_convert_options o = { .to = BISE_TO_GGUF,
                                     .dtype = BISE_DTYPE_F32 };
    open_row(_i);
    ck_ok(bise_convert_gguf_meta(&meta, &c, &o, 0, &err));
    ck_ok(bise_config_from_gguf(&back, &meta, &err));
    back.tied = c.config.tied;
    ck_assert_int_eq(back.family, models[_i].family);
    same_dims(&c.config, &back);
    same_rope(&c.config, &back);
    ck_assert(!back.neox);
    bise_gguf_meta_fini(&meta);
}
END_TEST

/* HF -> params.json -> configuration. */
START_TEST(native_params_say_the_same)
{
    bise_str text = { 0 };
    bise_json *v = NULL;
    bise_config back;
    open_row(_i);
    ck_ok(bise_convert_config(&text, &c, BISE_TO_NATIVE, BISE_DTYPE_F32, false,
                              &err));
    ck_ok(bise_json_parse(&v, bise_str_get(&text), text.len, &err));
    ck_ok(bise_config_from_native(&back, v, &err));
    ck_assert_int_eq(back.family, models[_i].family);
    ck_assert_int_eq(back.tied, c.config.tied);
    same_dims(&c.config, &back);
    same_rope(&c.config, &back);
    bise_config_fini(&back);
    bise_json_free(v);
    bise_str_fini(&text);
}
END_TEST

/* HF -> config.json as a converter writes it -> configuration. */
START_TEST(rewritten_config_says_the_same)
{
    bise_str text = { 0 };
    bise_json *v = NULL;
    bise_config back;
    open_row(_i);
    ck_ok(bise_convert_config(&text, &c, BISE_TO_HF, BISE_DTYPE_BF16, false,
                              &err));
    ck_ok(bise_json_parse(&v, bise_str_get(&text), text.len, &err));
    ck_ok(bise_config_from_hf(&back, v, &err));
    same_dims(&c.config, &back);
    same_rope(&c.config, &back);
    ck_assert(back.bos == c.config.bos && back.eos == c.config.eos);
    bise_config_fini(&back);
    bise_json_free(v);
    bise_str_fini(&text);
}
END_TEST

/* Keys without which nothing can be computed. */
static const char *const required[] = {
    "mistral3.block_count", "mistral3.embedding_length",
    "mistral3.feed_forward_length", "mistral3.attention.head_count" };

/* Keys of the Ministral 3 row, to take apart. */
static void mistral3_keys(bise_gguf_meta *meta)
{
    const bise_convert_options o = { .to = BISE_TO_GGUF,
                                     .dtype = BISE_DTYPE_F32 };
    open_row(2);
    ck_ok(bise_convert_gguf_meta(meta, &c, &o, 0, &err));
}

START_TEST(each_required_key_is_named)
{
    bise_gguf_meta meta = { 0 };
    bise_config back;
    mistral3_keys(&meta);
    bise_gguf_remove(&meta, required[_i]);
    ck_fails(bise_config_from_gguf(&back, &meta, &err), BISE_EFORMAT);
    ck_assert_msg(strstr(err.text, required[_i]) != NULL, "%s", err.text);
    /* Not a number, not whole, not positive, one value per layer. */
    bise_gguf_set_str(&meta, required[_i], "many");
    ck_assert(bise_config_from_gguf(&back, &meta, &err) != BISE_OK);
    bise_gguf_set_f32(&meta, required[_i], 2.5f);
    bise_error_init(&err);
    ck_assert(bise_config_from_gguf(&back, &meta, &err) != BISE_OK);
    bise_gguf_set_i32(&meta, required[_i], -2);
    bise_error_init(&err);
    ck_assert(bise_config_from_gguf(&back, &meta, &err) != BISE_OK);
    const uint32_t differ[2] = { 4, 8 };
    bise_gguf_set_array(&meta, required[_i], BISE_GGUF_U32, differ, 2);
    bise_error_init(&err);
    ck_assert(bise_config_from_gguf(&back, &meta, &err) != BISE_OK);
    bise_gguf_meta_fini(&meta);
}
END_TEST

/* llama.cpp writes head counts as arrays for some models; equal entries are
 * one value. */
START_TEST(equal_array_is_one_value)
{
    bise_gguf_meta meta = { 0 };
    bise_config back;
    const uint32_t heads[2] = { 2, 2 };
    mistral3_keys(&meta);
    bise_gguf_set_array(&meta, "mistral3.attention.head_count_kv",
                        BISE_GGUF_U32, heads, 2);
    ck_ok(bise_config_from_gguf(&back, &meta, &err));
    ck_assert_int_eq(back.K, 2);
    bise_gguf_meta_fini(&meta);
}
END_TEST

/* Without vocab_size the tokens are counted; absent lengths follow. */
START_TEST(absent_keys_follow_from_others)
{
    bise_gguf_meta meta = { 0 };
    bise_config back;
    bise_str words = { 0 };
    mistral3_keys(&meta);
    bise_gguf_remove(&meta, "mistral3.vocab_size");
    bise_gguf_strings_begin(&words);
    for (int i = 0; i < 7; i++)
        bise_gguf_strings_add(&words, "w", 1);
    bise_gguf_set_strings(&meta, "tokenizer.ggml.tokens", &words, 7);
    bise_gguf_remove(&meta, "mistral3.attention.key_length");
    bise_gguf_remove(&meta, "mistral3.attention.value_length");
    bise_gguf_remove(&meta, "mistral3.rope.dimension_count");
    bise_gguf_remove(&meta, "mistral3.attention.head_count_kv");
    ck_ok(bise_config_from_gguf(&back, &meta, &err));
    ck_assert_int_eq(back.V, 7);
    ck_assert_int_eq(back.D, 2);   /* 8 / 4 */
    ck_assert_int_eq(back.K, 4);   /* as many as heads */
    bise_str_fini(&words);
    bise_gguf_meta_fini(&meta);
}
END_TEST

/* A family is told by architecture, experts, name and rope keys. */
START_TEST(families_of_gguf)
{
    static const struct {
        const char *arch, *name;
        bool experts, yarn;
        bise_family family;
    } t[] = {
        { "llama", "Mistral 7B", false, false, BISE_FAMILY_MISTRAL },
        { "llama", "TinyLlama", false, false, BISE_FAMILY_LLAMA },
        { "llama", "Mixtral", true, false, BISE_FAMILY_MIXTRAL },
        { "mistral3", "Small 3.2", false, false, BISE_FAMILY_MISTRAL },
        { "mistral3", "Ministral", false, true, BISE_FAMILY_MINISTRAL3 } };
    static const struct { const char *key; uint32_t v; } keys[] = {
        { "block_count", 1 }, { "embedding_length", 8 },
        { "feed_forward_length", 12 }, { "attention.head_count", 2 },
        { "vocab_size", 10 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        bise_gguf_meta meta = { 0 };
        bise_config back;
        char key[96];
        bise_gguf_set_str(&meta, "general.architecture", t[i].arch);
        bise_gguf_set_str(&meta, "general.name", t[i].name);
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            snprintf(key, sizeof key, "%s.%s", t[i].arch, keys[k].key);
            bise_gguf_set_u32(&meta, key, keys[k].v);
        }
        snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon",
                 t[i].arch);
        bise_gguf_set_f32(&meta, key, 1e-5f);
        if (t[i].experts) {
            bise_gguf_set_u32(&meta, "llama.expert_count", 4);
            bise_gguf_set_u32(&meta, "llama.expert_used_count", 2);
        }
        if (t[i].yarn) {
            bise_gguf_set_str(&meta, "mistral3.rope.scaling.type", "yarn");
            bise_gguf_set_f32(&meta, "mistral3.rope.scaling.factor", 4);
            bise_gguf_set_u32(
                &meta, "mistral3.rope.scaling.original_context_length", 64);
        }
        ck_ok(bise_config_from_gguf(&back, &meta, &err));
        ck_assert_msg(back.family == t[i].family, "row %zu: %s", i,
                      bise_family_name(back.family));
        bise_gguf_meta_fini(&meta);
    }
}
END_TEST

/* Rows of models[] three ways, then the keys one by one. */
static Suite *suite(void)
{
    Suite *s = suite_create("config_ways");
    TCase *t = tcase_create("config_ways");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, gguf_keys_say_the_same, 0, N_MODELS);
    tcase_add_loop_test(t, native_params_say_the_same, 0, N_MODELS);
    tcase_add_loop_test(t, rewritten_config_says_the_same, 0, N_MODELS);
    tcase_add_loop_test(t, each_required_key_is_named, 0,
                        sizeof required / sizeof *required);
    tcase_add_test(t, equal_array_is_one_value);
    tcase_add_test(t, absent_keys_follow_from_others);
    tcase_add_test(t, families_of_gguf);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
