/* check_checkpoint_all.c - properties over every tensor of every family and
 * layout: what is written opens; each tensor taken away, misshapen or doubled is
 * named; a truncated file never opens; FP8 in native names; sharded and doubled
 * weights; and every configuration key taken away, one by one.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/str.h"
#include "model/family.h"
#include "tests/tiny_model.h"

#define DENSE "\"hidden_size\":8,\"intermediate_size\":12," \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4," \
    "\"num_key_value_heads\":2,\"head_dim\":6,\"vocab_size\":10," \
    "\"rms_norm_eps\":1e-5"
#define MLA "\"model_type\":\"mistral4\",\"hidden_size\":8," \
    "\"intermediate_size\":12,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":2,\"vocab_size\":10,\"rms_norm_eps\":1e-6," \
    "\"q_lora_rank\":4,\"kv_lora_rank\":3,\"qk_nope_head_dim\":3," \
    "\"qk_rope_head_dim\":2,\"v_head_dim\":5,\"n_routed_experts\":3," \
    "\"num_experts_per_tok\":2,\"moe_intermediate_size\":4"
#define NDENSE "\"dim\":8,\"hidden_dim\":12,\"n_layers\":2,\"n_heads\":4," \
    "\"n_kv_heads\":2,\"head_dim\":6,\"norm_eps\":1e-5,\"vocab_size\":10"
#define NMLA "\"dim\":8,\"hidden_dim\":12,\"n_layers\":2,\"n_heads\":2," \
    "\"norm_eps\":1e-6,\"vocab_size\":10,\"q_lora_rank\":4," \
    "\"kv_lora_rank\":3,\"qk_nope_head_dim\":3,\"qk_rope_head_dim\":2," \
    "\"v_head_dim\":5,\"moe\":{\"num_experts\":3," \
    "\"num_experts_per_tok\":2,\"expert_hidden_dim\":4," \
    "\"num_shared_experts\":1,\"first_k_dense_replace\":1}"

/* A model of each family in the layouts that its makers use. */
static const struct {
    const char *json;
    bise_names names;
    bise_family family;
} models[] = {
    { "{\"model_type\":\"mistral\"," DENSE "}", BISE_NAMES_HF,
      BISE_FAMILY_MISTRAL },
    { "{\"model_type\":\"ministral3\"," DENSE "}", BISE_NAMES_HF,
      BISE_FAMILY_MINISTRAL3 },
    { "{\"model_type\":\"mixtral\",\"num_local_experts\":3,"
      "\"num_experts_per_tok\":2," DENSE "}", BISE_NAMES_HF,
      BISE_FAMILY_MIXTRAL },
    { "{" MLA ",\"n_shared_experts\":1,\"first_k_dense_replace\":1}",
      BISE_NAMES_HF, BISE_FAMILY_MISTRAL4 },
    { "{" NDENSE "}", BISE_NAMES_NATIVE, BISE_FAMILY_MISTRAL },
    { "{" NDENSE ",\"moe\":{\"num_experts\":3,\"num_experts_per_tok\":2}}",
      BISE_NAMES_NATIVE, BISE_FAMILY_MIXTRAL },
    { "{" NMLA "}", BISE_NAMES_NATIVE, BISE_FAMILY_MISTRAL4 },
};
#define N_MODELS (sizeof models / sizeof *models)

static char dir[64];
static bise_error err;
static bise_checkpoint c;
static tiny *m;

static void setup(void)
{
    strcpy(dir, "/tmp/bise-all-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    m = bise_alloc(sizeof *m);
}

static void teardown(void)
{
    tiny_free(m);
    bise_free(m);
    bise_remove_tree(dir);
}

static bool is_native(int i)
{
    return models[i].names == BISE_NAMES_NATIVE;
}

/* Configuration of row i. */
static void configure(bise_config *config, int i)
{
    bise_json *v = NULL;
    ck_ok(bise_json_parse(&v, models[i].json, strlen(models[i].json), &err));
    ck_ok(is_native(i) ? bise_config_from_native(config, v, &err)
                       : bise_config_from_hf(config, v, &err));
    bise_json_free(v);
}

static void make(int i)
{
    bise_config config;
    configure(&config, i);
    ck_assert_int_eq(config.family, models[i].family);
    tiny_fill(m, &config, models[i].names, "");
    bise_config_fini(&config);
}

static bise_status open_model(int i)
{
    tiny_save(m, dir, is_native(i) ? "consolidated.safetensors"
                                   : "model.safetensors",
              is_native(i) ? "params.json" : "config.json", models[i].json);
    bise_error_init(&err);
    return bise_checkpoint_open(&c, dir, NULL, &err);
}

/* Every tensor written is found again under its role and its name. */
START_TEST(every_tensor_is_found)
{
    make(_i);
    ck_ok(open_model(_i));
    ck_assert_uint_eq(c.n, m->n);
    for (size_t k = 0; k < c.n; k++) {
        char name[256];
        ck_assert(bise_checkpoint_name(name, &c, c.weights[k].role));
        ck_assert_str_eq(name, c.weights[k].tensor->name);
        ck_assert(bise_checkpoint_find(&c, c.weights[k].role) ==
                  &c.weights[k]);
    }
    /* No role but these. */
    const bise_role absent = { BISE_ROLE_Q, 7, -1 };
    ck_assert_ptr_null(bise_checkpoint_find(&c, absent));
    bise_checkpoint_close(&c);
}
END_TEST

/* Taking any one tensor away is an error that names it. */
START_TEST(every_missing_tensor_is_named)
{
    make(_i);
    const size_t n = m->n;
    for (size_t k = 0; k < n; k += _i % 2 ? 3 : 2) {
        const bise_tensor kept = m->t[k];
        m->t[k] = m->t[n - 1];
        m->n = n - 1;
        const bise_status s = open_model(_i);
        ck_assert_msg(s == BISE_EFORMAT, "without %s: %d", kept.name, (int)s);
        ck_assert_msg(strstr(err.text, kept.name) != NULL, "'%s' for %s",
                      err.text, kept.name);
        m->t[k] = kept;
        m->n = n;
    }
}
END_TEST

/* A longer last dimension of any one tensor is an error with both shapes. */
START_TEST(every_wrong_shape_is_named)
{
    static const float room[4096];
    make(_i);
    for (size_t k = 0; k < m->n; k += _i % 2 ? 3 : 2) {
        const bise_tensor kept = m->t[k];
        m->t[k].dims[kept.n_dims - 1] += 1;
        m->t[k].data = room;
        ck_assert_uint_lt(bise_tensor_count(&m->t[k]), 4096);
        ck_assert_int_eq(open_model(_i), BISE_EFORMAT);
        ck_assert_str_eq(err.tensor, kept.name);
        ck_assert_ptr_nonnull(strstr(err.text, "the config needs"));
        m->t[k] = kept;
    }
}
END_TEST

/* Experts fused beside experts apart are two tensors for one role or a place
 * too many; never silently one of them. */
START_TEST(a_role_stored_twice_is_refused)
{
    make(2);
    const uint64_t down[3] = { 3, 8, 12 };
    tiny_add(m, "model.layers.0.mlp.gate.weight", BISE_DTYPE_F32, 2,
             (uint64_t[]){ 3, 8 });
    ck_assert_int_eq(open_model(2), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "same tensor"));
    ck_assert_ptr_nonnull(strstr(err.text, "block_sparse_moe.gate"));
    m->n--;
    tiny_add(m, "model.layers.0.mlp.experts.down_proj", BISE_DTYPE_F32, 3,
             down);
    ck_ok(open_model(2));  /* stacked and apart are different roles */
    bise_checkpoint_close(&c);
}
END_TEST

/* A model cut at any length is refused, and nothing is left open. */
START_TEST(every_truncation_is_refused)
{
    bise_str text = { 0 };
    char path[128];
    make(0);
    ck_ok(open_model(0));
    bise_checkpoint_close(&c);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_ok(bise_file_read(&text, path, &err));
    for (size_t n = 0; n < text.len; n += text.len / 40 + 1) {
        ck_ok(bise_file_write(path, bise_str_get(&text), n, &err));
        bise_error_init(&err);
        ck_assert_msg(bise_checkpoint_open(&c, dir, NULL, &err) != BISE_OK,
                      "cut to %zu of %zu", n, text.len);
        ck_assert_ptr_null(c.store);
    }
    bise_str_fini(&text);
}
END_TEST

/* Two shards with an index: the same tensor in both is refused by name. */
START_TEST(a_tensor_in_two_shards_is_refused)
{
    char path[128];
    bise_str index = { 0 };
    make(0);
    const size_t n = m->n, half = n / 2;
    for (int doubled = 0; doubled < 2; doubled++) {
        bise_str_clear(&index);
        bise_str_puts(&index, "{\"weight_map\":{");
        for (size_t i = 0; i < n; i++)
            bise_str_printf(&index, "%s\"%s\":\"model-0000%d-of-00002"
                            ".safetensors\"", i ? "," : "", m->t[i].name,
                            i < half ? 1 : 2);
        bise_str_puts(&index, "}}");
        snprintf(path, sizeof path, "%s/model-00001-of-00002.safetensors",
                 dir);
        ck_ok(bise_st_save(path, NULL, m->t, half + (size_t)doubled, &err));
        snprintf(path, sizeof path, "%s/model-00002-of-00002.safetensors",
                 dir);
        ck_ok(bise_st_save(path, NULL, m->t + half, n - half, &err));
        snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
        ck_ok(bise_file_write(path, index.data, index.len, &err));
        snprintf(path, sizeof path, "%s/config.json", dir);
        ck_ok(bise_file_write(path, models[0].json, strlen(models[0].json),
                              &err));
        bise_error_init(&err);
        const bise_status s = bise_checkpoint_open(&c, dir, NULL, &err);
        if (doubled) {
            ck_assert_int_eq(s, BISE_EFORMAT);
            ck_assert_msg(strstr(err.text, m->t[half].name) ||
                          strstr(err.tensor, m->t[half].name), "%s", err.text);
        } else {
            ck_assert_msg(s == BISE_OK, "%s", err.text);
            bise_checkpoint_close(&c);
        }
    }
    bise_str_fini(&index);
}
END_TEST

/* FP8 in the native layout: qscale_weight and qscale_act. */
START_TEST(native_fp8_scales_are_attached)
{
    static const float scale[1] = { 0.5f };
    make(4);
    bise_tensor *t = tiny_find(m, "layers.0.attention.wo.weight");
    t->dtype = BISE_DTYPE_F8_E4M3;
    tiny_add(m, "layers.0.attention.wo.qscale_weight", BISE_DTYPE_F32, 0,
             NULL);
    m->t[m->n - 1].data = scale;
    tiny_add(m, "layers.0.attention.wo.qscale_act", BISE_DTYPE_F32, 0, NULL);
    tiny_add(m, "layers.0.attention.wo.fake_quantizer.min", BISE_DTYPE_F32, 0,
             NULL);
    ck_ok(open_model(4));
    const bise_weight *w = bise_checkpoint_get(&c, BISE_ROLE_O, 0);
    ck_assert(w->n_scales == 1 && w->scales[0] == 0.5f);
    ck_assert_str_eq(w->scale->name, "layers.0.attention.wo.qscale_weight");
    ck_assert_ptr_nonnull(w->act_scale);
    bise_checkpoint_close(&c);
}
END_TEST

/* One scale for each expert of a stacked FP8 tensor (Small 4). */
START_TEST(stacked_fp8_has_a_scale_per_expert)
{
    static const float scale[3] = { 1, 2, 4 };
    make(3);
    char name[96];
    for (int e = 0; e < 3; e++) {
        snprintf(name, sizeof name,
                 "model.layers.1.mlp.experts.%d.down_proj.weight", e);
        tiny_remove(m, name);
    }
    tiny_add(m, "model.layers.1.mlp.experts.down_proj", BISE_DTYPE_F8_E4M3, 3,
             (uint64_t[]){ 3, 8, 4 });
    tiny_add(m, "model.layers.1.mlp.experts.down_proj_scale_inv",
             BISE_DTYPE_F32, 3, (uint64_t[]){ 3, 1, 1 });
    m->t[m->n - 1].data = scale;
    ck_ok(open_model(3));
    const bise_weight *w = bise_checkpoint_get(&c, BISE_ROLE_EXP_DOWN, 1);
    ck_assert_int_eq(w->n_scales, 3);
    ck_assert_int_eq(w->scale_block, 0);
    ck_assert(w->scales[2] == 4 && w->expert_stride == 32);
    bise_checkpoint_close(&c);
}
END_TEST

/* The vision tower of both layouts passes through without a role. */
START_TEST(vision_tensors_are_opaque)
{
    static const struct { int model; const char *name; } t[] = {
        { 0, "vision_tower.patch_conv.weight" },
        { 0, "model.multi_modal_projector.norm.weight" },
        { 4, "vision_encoder.patch_conv.weight" },
        { 4, "vision_language_adapter.w_in.weight" },
        { 4, "patch_merger.merging_layer.weight" },
        { 4, "pre_mm_projector_norm.weight" } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        make(t[i].model);
        tiny_add(m, t[i].name, BISE_DTYPE_F32, 1, (uint64_t[]){ 5 });
        ck_ok(open_model(t[i].model));
        ck_assert_int_eq(c.weights[c.n - 1].role.kind, BISE_ROLE_OPAQUE);
        bise_checkpoint_close(&c);
    }
}
END_TEST

/* Keys that a model cannot do without: removing one names it. */
START_TEST(every_required_key_is_named)
{
    static const char *const keys[][12] = {
        { "hidden_size", "intermediate_size", "num_hidden_layers",
          "num_attention_heads", "vocab_size", "rms_norm_eps", NULL },
        { "hidden_size", "rms_norm_eps", NULL },
        { "num_local_experts", "num_experts_per_tok", NULL },
        { "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim",
          "qk_rope_head_dim", "v_head_dim", "num_experts_per_tok",
          "moe_intermediate_size", NULL },
        { "dim", "n_layers", "n_heads", "hidden_dim", "norm_eps", NULL },
        { "dim", NULL }, { "n_heads", NULL } };
    for (int k = 0; keys[_i][k]; k++) {
        bise_json *v = NULL;
        bise_config config;
        ck_ok(bise_json_parse(&v, models[_i].json, strlen(models[_i].json),
                              &err));
        bise_json_remove(v, keys[_i][k]);
        bise_error_init(&err);
        const bise_status s = is_native(_i)
            ? bise_config_from_native(&config, v, &err)
            : bise_config_from_hf(&config, v, &err);
        ck_assert_msg(s == BISE_EFORMAT, "without %s", keys[_i][k]);
        ck_assert_msg(strstr(err.text, keys[_i][k]) != NULL, "%s", err.text);
        ck_assert_ptr_null(config.json);
        bise_json_free(v);
    }
}
END_TEST

/* Any number in place of any key: an error or a configuration in range. */
START_TEST(odd_numbers_never_get_through)
{
    static const double odd[] = { 0, -1, 0.5, 1e9, 1e18, 4294967296.0 };
    bise_json *v = NULL;
    ck_ok(bise_json_parse(&v, models[_i].json, strlen(models[_i].json), &err));
    for (void *it = bise_json_iter(v, NULL); it; it = bise_json_iter(v, it)) {
        const char *key = bise_json_iter_key(it);
        if (bise_json_typeof(bise_json_iter_value(it)) != BISE_JSON_INT)
            continue;
        for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
            bise_json *x = bise_json_copy(v);
            bise_config config;
            (void)bise_json_set(x, key, bise_json_new_real(odd[k]));
            bise_error_init(&err);
            const bise_status s = is_native(_i)
                ? bise_config_from_native(&config, x, &err)
                : bise_config_from_hf(&config, x, &err);
            if (s == BISE_OK) {
                ck_assert_msg(config.C > 0 && config.L > 0 && config.H > 0 &&
                              config.K > 0 && config.D > 0 && config.F > 0 &&
                              config.H % config.K == 0, "%s = %g", key,
                              odd[k]);
                bise_config_fini(&config);
            }
            bise_json_free(x);
        }
    }
    bise_json_free(v);
}
END_TEST

/* GGUF of latent attention: kv_b in two parts, experts stacked. */
START_TEST(gguf_of_latent_attention_opens)
{
    static const struct { const char *key; uint32_t v; } t[] = {
        { "block_count", 2 }, { "embedding_length", 8 },
        { "feed_forward_length", 12 }, { "attention.head_count", 2 },
        { "attention.head_count_kv", 1 }, { "vocab_size", 10 },
        { "expert_count", 3 }, { "expert_used_count", 2 },
        { "expert_feed_forward_length", 4 }, { "expert_shared_count", 1 },
        { "leading_dense_block_count", 1 }, { "attention.q_lora_rank", 4 },
        { "attention.kv_lora_rank", 3 }, { "rope.dimension_count", 2 },
        { "attention.key_length", 5 }, { "attention.value_length", 3 },
        { "attention.key_length_mla", 5 },
        { "attention.value_length_mla", 5 } };
    static const char *const archs[] = { "mistral4", "deepseek2" };
    char path[128], key[96];
    bise_config config;
    configure(&config, 3);
    tiny_fill(m, &config, BISE_NAMES_GGUF, "");
    bise_config_fini(&config);
    for (int split = 0; split < 2; split++) {
        bise_gguf_meta meta = { 0 };
        bise_gguf_set_str(&meta, "general.architecture", archs[split]);
        for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
            snprintf(key, sizeof key, "%s.%s", archs[split], t[i].key);
            bise_gguf_set_u32(&meta, key, t[i].v);
        }
        snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon",
                 archs[split]);
        bise_gguf_set_f32(&meta, key, 1e-6f);
        for (int i = 0; split && i < 2; i++) {
            snprintf(key, sizeof key, "blk.%d.attn_kv_b.weight", i);
            tiny_remove(m, key);
            snprintf(key, sizeof key, "blk.%d.attn_k_b.weight", i);
            tiny_add(m, key, BISE_DTYPE_F32, 3, (uint64_t[]){ 2, 3, 3 });
            snprintf(key, sizeof key, "blk.%d.attn_v_b.weight", i);
            tiny_add(m, key, BISE_DTYPE_F32, 3, (uint64_t[]){ 2, 5, 3 });
        }
        snprintf(path, sizeof path, "%s/mla.gguf", dir);
        ck_ok(bise_gguf_save(path, &meta, m->t, m->n, &err));
        ck_ok(bise_checkpoint_open(&c, path, NULL, &err));
        ck_assert_int_eq(c.config.family, BISE_FAMILY_MISTRAL4);
        ck_assert(c.config.D == 5 && c.config.qk_nope == 3);
        ck_assert((bise_checkpoint_get(&c, BISE_ROLE_K_B, 1) != NULL) ==
                  (split == 1));
        bise_checkpoint_close(&c);
        bise_gguf_meta_fini(&meta);
    }
}
END_TEST

/* Loops over all models; each run has an empty directory. */
static Suite *suite(void)
{
    Suite *s = suite_create("checkpoint_all");
    TCase *t = tcase_create("checkpoint_all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, every_tensor_is_found, 0, N_MODELS);
    tcase_add_loop_test(t, every_missing_tensor_is_named, 0, N_MODELS);
    tcase_add_loop_test(t, every_wrong_shape_is_named, 0, N_MODELS);
    tcase_add_test(t, a_role_stored_twice_is_refused);
    tcase_add_test(t, every_truncation_is_refused);
    tcase_add_test(t, a_tensor_in_two_shards_is_refused);
    tcase_add_test(t, native_fp8_scales_are_attached);
    tcase_add_test(t, stacked_fp8_has_a_scale_per_expert);
    tcase_add_test(t, vision_tensors_are_opaque);
    tcase_add_loop_test(t, every_required_key_is_named, 0, N_MODELS);
    tcase_add_loop_test(t, odd_numbers_never_get_through, 0, N_MODELS);
    tcase_add_test(t, gguf_of_latent_attention_opens);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
