/* check_config.c - configurations from config.json, params.json and GGUF keys:
 * every field of the released shapes, fall-backs and defaults, and each wrong
 * or unknown key refused by name. Rope tables against mistral3.md 3.3, 3.4.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/config.h"

#include <math.h>
#include <string.h>

#include "model/checkpoint.h"
#include "model/family.h"
#include "tests/check_main.h"

static bise_error err;

#define DIMS "\"hidden_size\":4096,\"intermediate_size\":14336," \
    "\"num_hidden_layers\":34,\"num_attention_heads\":32," \
    "\"num_key_value_heads\":8,\"head_dim\":128,\"vocab_size\":131072," \
    "\"rms_norm_eps\":1e-05,\"max_position_embeddings\":262144"
#define DIMS3 "\"hidden_size\":64,\"intermediate_size\":128," \
    "\"num_hidden_layers\":3,\"num_attention_heads\":4,\"head_dim\":16," \
    "\"vocab_size\":128,\"rms_norm_eps\":1e-05"
#define YARN "\"rope_parameters\":{\"rope_type\":\"yarn\",\"type\":\"yarn\"," \
    "\"rope_theta\":1000000.0,\"factor\":16.0,\"beta_fast\":32.0," \
    "\"beta_slow\":1.0,\"mscale\":1.0,\"mscale_all_dim\":1.0," \
    "\"original_max_position_embeddings\":16384," \
    "\"llama_4_scaling_beta\":0.1}"
#define TEXT "\"model_type\":\"ministral3\",\"tie_word_embeddings\":false," \
    DIMS "," YARN

static bise_json *parse(const char *text)
{
    bise_json *v = NULL;
    ck_ok(bise_json_parse(&v, text, strlen(text), &err));
    return v;
}

static bise_status from_hf(bise_config *c, const char *text)
{
    bise_json *v = parse(text);
    bise_error_init(&err);
    const bise_status s = bise_config_from_hf(c, v, &err);
    bise_json_free(v);
    return s;
}

static bise_status from_native(bise_config *c, const char *text)
{
    bise_json *v = parse(text);
    bise_error_init(&err);
    const bise_status s = bise_config_from_native(c, v, &err);
    bise_json_free(v);
    return s;
}

/* All keys of the 8B release; parameters as published. */
START_TEST(reads_ministral3_8b)
{
    bise_config c;
    ck_ok(from_hf(&c, "{\"architectures\":[\"Ministral3ForCausalLM\"]," TEXT
                  ",\"bos_token_id\":1,\"eos_token_id\":[2,7]}"));
    ck_assert_int_eq(c.family, BISE_FAMILY_MINISTRAL3);
    ck_assert(!c.wrapper && !c.tied && c.neox);
    ck_assert_int_eq(c.C, 4096);
    ck_assert_int_eq(c.D, 128);
    ck_assert_int_eq(c.K, 8);
    ck_assert_int_eq(c.window, 0);
    ck_assert_int_eq(c.eos, 2);
    ck_assert_int_eq(c.pad, -1);
    ck_assert(c.max_position == 262144 && c.rope.yarn);
    ck_assert(c.rope.qscale_beta == 0.1 && c.rope.original_max == 16384);
    /* mistral3.md 1.5 */
    ck_assert_uint_eq(bise_config_parameters(&c), 8489553920u);
    bise_config_fini(&c);
}
END_TEST

/* Text part before root, quantization from the root. */
START_TEST(reads_wrapper_text_part_first)
{
    bise_config c;
    ck_ok(from_hf(&c, "{\"architectures\":[\"Mistral3ForConditionalGeneration"
                  "\"],\"model_type\":\"mistral3\",\"tie_word_embeddings\":"
                  "true,\"vocab_size\":5,\"text_config\":{" TEXT "},"
                  "\"vision_config\":{},\"quantization_config\":{"
                  "\"quant_method\":\"fp8\"}}"));
    ck_assert(c.wrapper && !c.tied);
    ck_assert_int_eq(c.V, 131072);
    ck_assert_str_eq(c.quant_method, "fp8");
    bise_config_fini(&c);
}
END_TEST

/* Numbers as floats and strings, rope_theta at top level, null head_dim. */
START_TEST(reads_transformers_4_keys)
{
    bise_config c;
    ck_ok(from_hf(&c, "{\"architectures\":[\"MistralForCausalLM\"],"
                  "\"model_type\":\"mistral\",\"hidden_size\":4096.0,"
                  "\"intermediate_size\":14336,\"num_hidden_layers\":32,"
                  "\"num_attention_heads\":32,\"num_key_value_heads\":8,"
                  "\"vocab_size\":32000,\"rms_norm_eps\":1e-5,"
                  "\"rope_theta\":10000,\"sliding_window\":\"4096\","
                  "\"head_dim\":null,\"rope_scaling\":null}"));
    ck_assert_int_eq(c.D, 128);
    ck_assert_int_eq(c.window, 4096);
    ck_assert(c.rope.theta == 10000 && !c.rope.yarn);
    ck_assert_uint_eq(bise_config_parameters(&c), 7241732096u);
    bise_config_fini(&c);
}
END_TEST

/* Experts of the dense size. */
START_TEST(reads_mixtral)
{
    bise_config c;
    ck_ok(from_hf(&c, "{\"model_type\":\"mixtral\",\"hidden_size\":4096,"
                  "\"intermediate_size\":14336,\"num_hidden_layers\":32,"
                  "\"num_attention_heads\":32,\"num_key_value_heads\":8,"
                  "\"vocab_size\":32000,\"rms_norm_eps\":1e-5,"
                  "\"num_local_experts\":8,\"num_experts_per_tok\":2,"
                  "\"router_aux_loss_coef\":0.02,\"rope_theta\":1e6}"));
    ck_assert_int_eq(c.E, 8);
    ck_assert_int_eq(c.top_k, 2);
    ck_assert_int_eq(c.F_expert, 14336);
    ck_assert_uint_eq(bise_config_parameters(&c), 46702792704u);
    bise_config_fini(&c);
}
END_TEST

#define SMALL4 "\"model_type\":\"mistral4\",\"hidden_size\":4096," \
    "\"intermediate_size\":12288,\"num_hidden_layers\":36," \
    "\"num_attention_heads\":32,\"num_key_value_heads\":32," \
    "\"vocab_size\":131072,\"rms_norm_eps\":1e-6,\"q_lora_rank\":1024," \
    "\"kv_lora_rank\":256,\"qk_nope_head_dim\":64,\"qk_rope_head_dim\":64," \
    "\"v_head_dim\":128,\"n_routed_experts\":128," \
    "\"num_experts_per_tok\":4,\"moe_intermediate_size\":2048," \
    "\"n_shared_experts\":1"

/* Small 4: the published total, and a missing rank named. */
START_TEST(reads_latent_attention)
{
    bise_config c;
    ck_ok(from_hf(&c, "{" SMALL4 ",\"first_k_dense_replace\":0}"));
    ck_assert_int_eq(c.D, 128);
    ck_assert_int_eq(c.q_lora, 1024);
    ck_assert(!c.neox);
    const double billions = (double)bise_config_parameters(&c) / 1e9;
    ck_assert_msg(fabs(billions - 118.97) < 0.01, "%g", billions);
    bise_config_fini(&c);
    ck_fails(from_hf(&c, "{\"model_type\":\"mistral4\"," DIMS "}"),
             BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "q_lora_rank"));
}
END_TEST

/* What must be refused, and the word the message must contain. */
static const struct { const char *json, *word; } refused[] = {
    { "{}", "model_type" },
    { "[]", "object" },
    { "{\"model_type\":\"qwen2\",\"architectures\":[\"Qwen2ForCausalLM\"]," DIMS
      "}", "qwen2" },
    { "{\"architectures\":[\"LlavaForConditionalGeneration\"],\"text_config\":{"
      TEXT "}}", "Llava" },
    { "{\"model_type\":\"mistral\"}", "hidden_size" },
    { "{\"model_type\":\"mistral\",\"hidden_size\":\"big\"}", "hidden_size" },
    { "{\"model_type\":\"mistral\",\"hidden_size\":-4}", "hidden_size" },
    { "{\"model_type\":\"mistral\",\"hidden_size\":4.5}", "hidden_size" },
    { "{\"model_type\":\"mistral\",\"hidden_size\":1e300}", "hidden_size" },
    { "{" TEXT ",\"hidden_act\":\"gelu\"}", "gelu" },
    { "{" TEXT ",\"attention_bias\":true}", "attention_bias" },
    { "{" TEXT ",\"quantization_config\":{\"quant_method\":\"gptq\"}}",
      "gptq" },
    { "{" TEXT ",\"quantization_config\":{\"bits\":4}}", "quant_method" },
    { "{" TEXT ",\"quantization_config\":{\"quant_method\":"
      "\"compressed-tensors\",\"format\":\"nvfp4-pack-quantized\"}}", "nvfp4" },
    { "{\"model_type\":\"mistral\"," DIMS ",\"rope_scaling\":{\"type\":"
      "\"linear\",\"factor\":2}}", "linear" },
    { "{\"model_type\":\"mistral\"," DIMS ",\"rope_scaling\":{\"type\":"
      "\"yarn\",\"factor\":2}}", "original_max_position_embeddings" },
    { "{\"model_type\":\"mistral\"," DIMS ",\"rope_scaling\":{\"type\":"
      "\"yarn\",\"original_max_position_embeddings\":2}}", "factor" },
    { "{\"model_type\":\"mistral\"," DIMS ",\"rope_theta\":-1}", "rope_theta" },
    { "{\"model_type\":\"mistral\"," DIMS ",\"sliding_window\":-2}",
      "sliding_window" },
    { "{\"model_type\":\"mixtral\"," DIMS "}", "num_local_experts" },
    { "{" SMALL4 ",\"n_group\":8}", "n_group" },
    { "{" SMALL4 ",\"topk_group\":4}", "topk_group" },
    { "{" SMALL4 ",\"norm_topk_prob\":false}", "norm_topk_prob" },
    { "{" SMALL4 ",\"rope_interleave\":false}", "rope_interleave" },
    { "{\"model_type\":\"mixtral\"," DIMS ",\"num_local_experts\":4,"
      "\"num_experts_per_tok\":5}", "experts" },
};

START_TEST(refuses_bad_config)
{
    bise_config c;
    bise_json *v = parse(refused[_i].json);
    bise_error_init(&err);
    ck_assert(bise_config_from_hf(&c, v, &err) != BISE_OK);
    ck_assert_msg(strstr(err.text, refused[_i].word) != NULL, "'%s' lacks '%s'",
                  err.text, refused[_i].word);
    bise_json_free(v);
}
END_TEST

/* Width over heads, heads over key heads, odd head size. */
START_TEST(refuses_heads_that_do_not_divide)
{
    bise_config c;
    ck_fails(from_hf(&c, "{\"model_type\":\"mistral\",\"hidden_size\":64,"
                     "\"intermediate_size\":96,\"num_hidden_layers\":1,"
                     "\"num_attention_heads\":5,\"vocab_size\":9,"
                     "\"rms_norm_eps\":1e-5}"), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "head_dim"));
    ck_fails(from_hf(&c, "{\"model_type\":\"mistral\",\"hidden_size\":64,"
                     "\"intermediate_size\":96,\"num_hidden_layers\":1,"
                     "\"num_attention_heads\":6,\"head_dim\":8,"
                     "\"num_key_value_heads\":4,\"vocab_size\":9,"
                     "\"rms_norm_eps\":1e-5}"), BISE_EFORMAT);
    ck_fails(from_hf(&c, "{\"model_type\":\"mistral\",\"hidden_size\":64,"
                     "\"intermediate_size\":96,\"num_hidden_layers\":1,"
                     "\"num_attention_heads\":4,\"head_dim\":7,"
                     "\"vocab_size\":9,\"rms_norm_eps\":1e-5}"), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "odd"));
}
END_TEST

#define NATIVE "\"dim\":4096,\"n_layers\":34,\"hidden_dim\":14336," \
    "\"n_heads\":32,\"n_kv_heads\":8,\"norm_eps\":1e-5"

/* yarn beta and alpha are beta_fast and beta_slow. */
START_TEST(reads_native_ministral3)
{
    bise_config c;
    ck_ok(from_native(&c, "{" NATIVE ",\"head_dim\":128,\"vocab_size\":131072,"
                      "\"rope_theta\":1000000.0,\"max_position_embeddings\":"
                      "262144,\"tied_embeddings\":false,\"yarn\":{\"factor\":"
                      "16,\"original_max_position_embeddings\":16384,\"beta\":"
                      "32,\"alpha\":1,\"apply_scale\":false},"
                      "\"llama_4_scaling\":{\"beta\":0.1,"
                      "\"original_max_position_embeddings\":16384},"
                      "\"vision_encoder\":{}}"));
    ck_assert_int_eq(c.family, BISE_FAMILY_MINISTRAL3);
    ck_assert(c.wrapper && !c.neox && c.rope.yarn);
    ck_assert(c.rope.mscale_all_dim == 1 && c.rope.beta_slow == 1);
    ck_assert_int_eq(c.D, 128);
    bise_config_fini(&c);
}
END_TEST

/* vocab_size -1, a window list of equal entries. */
START_TEST(reads_old_native_without_head_dim)
{
    bise_config c;
    ck_ok(from_native(&c, "{" NATIVE ",\"vocab_size\":-1,"
                      "\"sliding_window\":[4096,4096]}"));
    ck_assert_int_eq(c.family, BISE_FAMILY_MISTRAL);
    ck_assert_int_eq(c.D, 128);
    ck_assert_int_eq(c.V, 0);        /* the embedding tells */
    ck_assert_int_eq(c.window, 4096);
    ck_assert(c.rope.theta == 1e4 && !c.tied);
    bise_config_fini(&c);
}
END_TEST

/* A list is a pattern over the layers, null sees everything; the shortest one
 * that repeats is kept. */
START_TEST(reads_windows_of_layers)
{
    bise_config c;
    bise_str text = { 0 };
    ck_ok(from_native(&c, "{" NATIVE ",\"vocab_size\":-1,\"sliding_window\":"
                      "[null,32768,32768,32768,null,32768,32768,32768]}"));
    ck_assert_int_eq(c.window, 32768);
    ck_assert_int_eq(c.n_windows, 4);
    ck_assert_int_eq(bise_config_window(&c, 0), 0);
    ck_assert_int_eq(bise_config_window(&c, 3), 32768);
    ck_assert_int_eq(bise_config_window(&c, 8), 0);
    bise_config_fini(&c);
    /* a list repeats by its own length, also where layers are left over */
    static const char aba[] = "[null,8,null]", aaba[] = "[8,8,null,8]";
    ck_ok(from_native(&c, (bise_str_clear(&text), bise_str_printf(
        &text, "{" NATIVE ",\"vocab_size\":-1,\"sliding_window\":%s}", aba),
        bise_str_get(&text))));
    ck_assert_int_eq(c.n_windows, 3);
    for (int32_t l = 0; l < c.L; l++)
        ck_assert_int_eq(bise_config_window(&c, l), l % 3 == 1 ? 8 : 0);
    bise_config_fini(&c);
    ck_ok(from_native(&c, (bise_str_clear(&text), bise_str_printf(
        &text, "{" NATIVE ",\"vocab_size\":-1,\"sliding_window\":%s}", aaba),
        bise_str_get(&text))));
    ck_assert_int_eq(c.n_windows, 4);
    for (int32_t l = 0; l < c.L; l++)
        ck_assert_int_eq(bise_config_window(&c, l), l % 4 == 2 ? 0 : 8);
    bise_config_fini(&c);
    /* one for each layer: full, sliding, full, again and again */
    bise_str_clear(&text);
    bise_str_puts(&text, "{" NATIVE ",\"vocab_size\":-1,\"sliding_window\":[");
    for (int l = 0; l < 34; l++)
        bise_str_puts(&text, l % 3 == 1 ? ",8" : l ? ",null" : "null");
    bise_str_puts(&text, "]}");
    ck_ok(from_native(&c, bise_str_get(&text)));
    ck_assert_int_eq(c.n_windows, 3);
    bise_config_fini(&c);
    bise_str_fini(&text);
    /* transformers' class of such models */
    ck_ok(from_hf(&c, "{\"model_type\":\"ministral\"," DIMS3
                  ",\"sliding_window\":8,\"layer_types\":["
                  "\"full_attention\",\"sliding_attention\","
                  "\"full_attention\"]}"));
    ck_assert_int_eq(c.family, BISE_FAMILY_MISTRAL);
    ck_assert_int_eq(c.n_windows, 2);
    ck_assert_int_eq(bise_config_window(&c, 1), 8);
    ck_assert_int_eq(bise_config_window(&c, 2), 0);
    bise_config_fini(&c);
    ck_ok(from_hf(&c, "{\"model_type\":\"ministral\"," DIMS3
                  ",\"sliding_window\":8,\"layer_types\":["
                  "\"sliding_attention\",\"sliding_attention\","
                  "\"sliding_attention\"]}"));
    ck_assert_int_eq(c.n_windows, 0);
    ck_assert_int_eq(c.window, 8);
    bise_config_fini(&c);
    ck_fails(from_hf(&c, "{\"model_type\":\"ministral\"," DIMS3
                     ",\"sliding_window\":8,\"layer_types\":["
                     "\"full_attention\"]}"), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "3 layers"));
    ck_fails(from_hf(&c, "{\"model_type\":\"ministral\"," DIMS3
                     ",\"sliding_window\":8,\"layer_types\":["
                     "\"full_attention\",\"chunked\",\"chunked\"]}"),
             BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "chunked"));
}
END_TEST

/* Mixtral by its moe block; Large 3 by latent attention. */
START_TEST(reads_native_experts_and_quantization)
{
    bise_config c;
    ck_ok(from_native(&c, "{" NATIVE ",\"vocab_size\":32000,\"moe\":{"
                      "\"num_experts\":8,\"num_experts_per_tok\":2},"
                      "\"quantization\":{\"qformat_weight\":\"fp8_e4m3\","
                      "\"qscheme_act\":\"TENSOR\"}}"));
    ck_assert_int_eq(c.family, BISE_FAMILY_MIXTRAL);
    ck_assert_int_eq(c.F_expert, 14336);
    ck_assert_str_eq(c.quant_method, "fp8");
    bise_config_fini(&c);
    /* Mistral Large 3, numbers of mistral3.md 1.3. */
    ck_ok(from_native(&c, "{\"dim\":7168,\"n_layers\":61,\"hidden_dim\":16384,"
                      "\"n_heads\":128,\"n_kv_heads\":128,\"norm_eps\":1e-6,"
                      "\"vocab_size\":131072,\"rope_theta\":10000,"
                      "\"q_lora_rank\":1536,\"kv_lora_rank\":512,"
                      "\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,"
                      "\"v_head_dim\":128,\"moe\":{\"expert_hidden_dim\":4096,"
                      "\"first_k_dense_replace\":3,\"num_experts\":128,"
                      "\"num_experts_per_tok\":4,\"num_shared_experts\":1,"
                      "\"num_expert_groups\":1,\"routed_scale\":1.0,"
                      "\"route_every_n\":1,\"expert_parallel\":1},"
                      "\"llama_4_scaling\":{\"beta\":0.1,"
                      "\"original_max_position_embeddings\":8192}}"));
    ck_assert_int_eq(c.family, BISE_FAMILY_MISTRAL4);
    ck_assert_int_eq(c.dense_layers, 3);
    const double billions = (double)bise_config_parameters(&c) / 1e9;
    ck_assert_msg(fabs(billions - 673.42) < 0.05, "%g", billions);
    bise_config_fini(&c);
}
END_TEST

static const struct { const char *json, *word; } native_refused[] = {
    { "{}", "dim" },
    { "{\"dim\":64,\"n_layers\":2,\"n_heads\":4}", "hidden_dim" },
    { "{" NATIVE ",\"quantization\":{\"qformat_weight\":\"nvfp4\"}}", "nvfp4" },
    { "{" NATIVE ",\"sliding_window\":[4096,-1]}", "sliding_window" },
    { "{" NATIVE ",\"sliding_window\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,"
      "17]}", "windows of the layers" },
    { "{" NATIVE ",\"moe\":{\"num_experts\":8}}", "num_experts_per_tok" },
    { "{" NATIVE ",\"moe\":{\"num_experts\":8,\"num_experts_per_tok\":2,"
      "\"num_expert_groups\":4}}", "num_expert_groups" },
    { "{" NATIVE ",\"yarn\":{\"factor\":16}}",
      "original_max_position_embeddings" },
    { "{" NATIVE ",\"llama_4_scaling\":{\"beta\":0.1}}",
      "original_max_position_embeddings" },
};

START_TEST(refuses_bad_native)
{
    bise_config c;
    ck_assert(from_native(&c, native_refused[_i].json) != BISE_OK);
    ck_assert_msg(strstr(err.text, native_refused[_i].word) != NULL,
                  "'%s' lacks '%s'", err.text, native_refused[_i].word);
}
END_TEST

/* The keys every dense architecture needs. */
static void put_dims(bise_gguf_meta *m, const char *arch)
{
    static const struct { const char *key; uint32_t v; } t[] = {
        { "block_count", 2 }, { "context_length", 256 },
        { "embedding_length", 64 }, { "feed_forward_length", 96 },
        { "attention.head_count", 4 }, { "attention.head_count_kv", 2 },
        { "rope.dimension_count", 24 }, { "attention.key_length", 24 },
        { "attention.value_length", 24 }, { "vocab_size", 160 } };
    char key[96];
    bise_gguf_set_str(m, "general.architecture", arch);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, t[i].key);
        bise_gguf_set_u32(m, key, t[i].v);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    bise_gguf_set_f32(m, key, 1e-5f);
}

/* YaRN keys, and the cos/sin factor that the log multiplier means. */
START_TEST(reads_gguf_mistral3)
{
    bise_config c;
    bise_gguf_meta m = { 0 };
    put_dims(&m, "mistral3");
    bise_gguf_set_f32(&m, "mistral3.rope.freq_base", 1e6f);
    bise_gguf_set_str(&m, "mistral3.rope.scaling.type", "yarn");
    bise_gguf_set_f32(&m, "mistral3.rope.scaling.factor", 4);
    bise_gguf_set_u32(&m, "mistral3.rope.scaling.original_context_length", 64);
    bise_gguf_set_f32(&m, "mistral3.rope.scaling.yarn_log_multiplier", 1);
    bise_gguf_set_f32(&m, "mistral3.attention.temperature_scale", 0.1f);
    ck_ok(bise_config_from_gguf(&c, &m, &err));
    ck_assert_int_eq(c.family, BISE_FAMILY_MINISTRAL3);
    ck_assert(c.D == 24 && c.K == 2 && c.V == 160 && !c.neox);
    /* float32 keys come back as the decimals that were meant. */
    ck_assert(c.eps == 1e-5 && c.rope.qscale_beta == 0.1);
    ck_assert(c.rope.yarn && c.rope.original_max == 64);
    double freq[12], factor;
    bise_rope_freqs(&c.rope, 24, freq, &factor);
    ck_assert(factor == 1);
    bise_gguf_set_f32(&m, "mistral3.rope.scaling.yarn_log_multiplier", 0);
    ck_ok(bise_config_from_gguf(&c, &m, &err));
    bise_rope_freqs(&c.rope, 24, freq, &factor);
    ck_assert(fabs(factor - (1 + 0.1 * log(4))) < 1e-12);
    bise_gguf_meta_fini(&m);
}
END_TEST

/* Missing, unknown, and contradicting keys, each by its full name. */
START_TEST(refuses_bad_gguf)
{
    bise_config c;
    bise_gguf_meta m = { 0 };
    ck_fails(bise_config_from_gguf(&c, &m, &err), BISE_EFORMAT);
    put_dims(&m, "qwen2");
    ck_fails(bise_config_from_gguf(&c, &m, &err), BISE_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "qwen2"));
    bise_gguf_meta_fini(&m);
    m = (bise_gguf_meta){ 0 };
    put_dims(&m, "llama");
    bise_gguf_remove(&m, "llama.block_count");
    ck_fails(bise_config_from_gguf(&c, &m, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "llama.block_count"));
    bise_gguf_set_u32(&m, "llama.block_count", 2);
    bise_gguf_set_str(&m, "llama.rope.scaling.type", "longrope");
    ck_fails(bise_config_from_gguf(&c, &m, &err), BISE_EUNSUPPORTED);
    bise_gguf_set_str(&m, "llama.rope.scaling.type", "none");
    bise_gguf_set_u32(&m, "llama.rope.dimension_count", 12);
    ck_fails(bise_config_from_gguf(&c, &m, &err), BISE_EUNSUPPORTED);
    bise_gguf_set_str(&m, "llama.block_count", "two");
    ck_assert(bise_config_from_gguf(&c, &m, &err) != BISE_OK);
    bise_gguf_meta_fini(&m);
}
END_TEST

/* Golden frequencies of mistral3.md 3.3. */
static const struct {
    double theta, factor, l0;
    int n, i;
    double freq;
} golden[] = {
    { 1e6, 16, 16384, 128, 1, 0.8058421878 },
    { 1e6, 16, 16384, 128, 20, 1.333521432e-2 },
    { 1e6, 16, 16384, 128, 28, 1.325179424e-3 },
    { 1e6, 16, 16384, 128, 36, 4.961135334e-5 },
    { 1e6, 16, 16384, 128, 37, 2.123880206e-5 },
    { 1e6, 16, 16384, 128, 63, 7.755861005e-8 },
    { 1e9, 16, 16384, 128, 1, 0.7233941627 },
    { 1e9, 16, 16384, 128, 13, 1.485508017e-2 },
    { 1e9, 16, 16384, 128, 19, 1.130899320e-3 },
    { 1e9, 16, 16384, 128, 25, 1.906579931e-5 },
    { 1e9, 16, 16384, 128, 63, 8.639826421e-11 },
    { 1e4, 36, 8192, 64, 12, 3.162277660e-2 },
    { 1e4, 36, 8192, 64, 18, 3.100086793e-3 },
    { 1e4, 36, 8192, 64, 31, 3.704226200e-6 },
};

START_TEST(yarn_frequencies_are_golden)
{
    const bise_rope r = { .theta = golden[_i].theta, .yarn = true,
                          .factor = golden[_i].factor, .beta_fast = 32,
                          .beta_slow = 1, .mscale = 1, .mscale_all_dim = 1,
                          .attention_factor = NAN, .truncate = true,
                          .original_max = golden[_i].l0 };
    double freq[64], factor;
    bise_rope_freqs(&r, golden[_i].n, freq, &factor);
    ck_assert(factor == 1);
    ck_assert_msg(fabs(freq[golden[_i].i] / golden[_i].freq - 1) < 1e-9,
                  "%.12g, not %.12g", freq[golden[_i].i], golden[_i].freq);
}
END_TEST

/* Devstral 2, defaults, Ministral 3, and an explicit factor. */
START_TEST(yarn_factor_follows_the_keys)
{
    static const struct { double f, m, all, att, want; } t[] = {
        { 64, 1, 0, NAN, 1.4158883083 }, { 16, NAN, NAN, NAN, 1.2772588722 },
        { 16, 1, 1, NAN, 1 }, { 48, 1, NAN, NAN, 1.3871201011 },
        { 16, 1, 1, 1.5, 1.5 }, { 16, 0.5, 1, NAN, 0.8914633211 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const bise_rope r = { .theta = 1e6, .yarn = true, .factor = t[i].f,
                              .beta_fast = 4, .beta_slow = 1, .mscale = t[i].m,
                              .mscale_all_dim = t[i].all, .truncate = true,
                              .attention_factor = t[i].att,
                              .original_max = 4096 };
        double freq[64], factor;
        bise_rope_freqs(&r, 128, freq, &factor);
        ck_assert_msg(fabs(factor - t[i].want) < 1e-9, "%zu: %.10g", i, factor);
    }
}
END_TEST

START_TEST(plain_rope_has_no_ramp)
{
    const bise_rope r = { .theta = 1e4 };
    double freq[8], factor;
    bise_rope_freqs(&r, 16, freq, &factor);
    for (int i = 0; i < 8; i++)
        ck_assert(fabs(freq[i] - pow(1e4, -i / 8.0)) < 1e-15);
    ck_assert(factor == 1);
}
END_TEST

START_TEST(query_scale_is_golden)
{
    const bise_rope r = { .qscale_beta = 0.1, .original_max = 16384 };
    const bise_rope none = { .original_max = 16384 };
    ck_assert(bise_rope_qscale(&r, 0) == 1);
    ck_assert(bise_rope_qscale(&r, 16383) == 1);
    ck_assert(fabs(bise_rope_qscale(&r, 16384) - 1.0693147) < 5e-8);
    ck_assert(fabs(bise_rope_qscale(&r, 32768) - 1.1098612) < 5e-8);
    ck_assert(fabs(bise_rope_qscale(&r, 262143) - 1.2772589) < 5e-8);
    ck_assert(bise_rope_qscale(&none, 262143) == 1);
}
END_TEST

START_TEST(families_are_found_by_both_names)
{
    ck_assert_int_eq(bise_family_by_name("ministral3"), BISE_FAMILY_MINISTRAL3);
    ck_assert_int_eq(bise_family_by_name("MixtralForCausalLM"),
                     BISE_FAMILY_MIXTRAL);
    ck_assert_int_eq(bise_family_by_name("gpt2"), -1);
    ck_assert_str_eq(bise_family_name(BISE_FAMILY_MISTRAL4), "mistral4");
}
END_TEST

/* Loops run over the tables above. */
static Suite *suite(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    tcase_add_test(t, reads_ministral3_8b);
    tcase_add_test(t, reads_wrapper_text_part_first);
    tcase_add_test(t, reads_transformers_4_keys);
    tcase_add_test(t, reads_mixtral);
    tcase_add_test(t, reads_latent_attention);
    tcase_add_loop_test(t, refuses_bad_config, 0,
                        sizeof refused / sizeof *refused);
    tcase_add_test(t, refuses_heads_that_do_not_divide);
    tcase_add_test(t, reads_native_ministral3);
    tcase_add_test(t, reads_old_native_without_head_dim);
    tcase_add_test(t, reads_windows_of_layers);
    tcase_add_test(t, reads_native_experts_and_quantization);
    tcase_add_loop_test(t, refuses_bad_native, 0,
                        sizeof native_refused / sizeof *native_refused);
    tcase_add_test(t, reads_gguf_mistral3);
    tcase_add_test(t, refuses_bad_gguf);
    tcase_add_loop_test(t, yarn_frequencies_are_golden, 0,
                        sizeof golden / sizeof *golden);
    tcase_add_test(t, yarn_factor_follows_the_keys);
    tcase_add_test(t, plain_rope_has_no_ramp);
    tcase_add_test(t, query_scale_is_golden);
    tcase_add_test(t, families_are_found_by_both_names);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
