/* check_lora_load.c - the adapter readers on files made by hand: 16-bit types,
 * the scale each format says, names the formats allow, pairs that are broken,
 * files cut at every length, and settings that contradict the tensors.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/str.h"
#include "model/lora.h"
#include "tests/tiny_model.h"

static char dir[64];
static bise_error err;
static bise_lora l;
static bise_config base;

static void setup(void)
{
    strcpy(dir, "/tmp/bise-load-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    base = (bise_config){ .family = BISE_FAMILY_MINISTRAL3, .C = 8, .F = 12,
                          .L = 2, .H = 4, .K = 2, .D = 6, .V = 10 };
}

static void teardown(void)
{
    bise_lora_fini(&l);
    bise_remove_tree(dir);
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

/* A and B of v_proj of layer 1 under any names, counting values. */
static float counted_a[16], counted_b[24];

static void put_pair(const char *file, const char *a, const char *b, bool tr)
{
    for (int i = 0; i < 16; i++)
        counted_a[i] = (float)i / 4;
    for (int i = 0; i < 24; i++)
        counted_b[i] = (float)(24 - i) / 8;
    const bise_tensor t[2] = {
        { .name = a, .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { tr ? 8 : 2, tr ? 2 : 8 }, .data = counted_a },
        { .name = b, .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { tr ? 2 : 12, tr ? 12 : 2 }, .data = counted_b } };
    ck_ok(bise_st_save(at(file), NULL, t, 2, &err));
}

#define V1 "base_model.model.model.layers.1.self_attn.v_proj"
#define PEFT(x) "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":6" x "}"

static bise_status load(void)
{
    bise_error_init(&err);
    return bise_lora_load_for(&l, dir, &base, &err);
}

/* The suffixes that PEFT has written over the years. */
START_TEST(reads_names_with_and_without_default)
{
    static const char *const suffix[][2] = {
        { V1 ".lora_A.weight", V1 ".lora_B.weight" },
        { V1 ".lora_A.default.weight", V1 ".lora_B.default.weight" },
        { "model.layers.1.self_attn.v_proj.lora_A.weight",
          "model.layers.1.self_attn.v_proj.lora_B.weight" } };
    for (size_t i = 0; i < 3; i++) {
        put_pair("adapter_model.safetensors", suffix[i][0], suffix[i][1],
                 false);
        put("adapter_config.json", PEFT(""));
        ck_ok(load());
        ck_assert_uint_eq(l.n, 1);
        ck_assert_int_eq(l.modules[0].role.kind, BISE_ROLE_V);
        ck_assert_int_eq(l.modules[0].role.layer, 1);
        ck_assert(l.modules[0].scale == 3);
        ck_assert(l.modules[0].b[5] == counted_b[5]);
        bise_lora_fini(&l);
    }
}
END_TEST

/* Absent r and lora_alpha are 8 and 8 in PEFT, whatever the tensors say. */
START_TEST(absent_rank_is_pefts_default)
{
    put_pair("adapter_model.safetensors", V1 ".lora_A.weight",
             V1 ".lora_B.weight", false);
    put("adapter_config.json", "{\"peft_type\":\"LORA\"}");
    ck_fails(load(), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "says 8"));
    put("adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":2}");
    ck_ok(load());
    ck_assert(l.modules[0].alpha == 8 && l.modules[0].scale == 4);
}
END_TEST

/* F16 and BF16 values come out as float32; 8-bit types are refused. */
START_TEST(reads_16_bit_types)
{
    static const bise_dtype types[] = { BISE_DTYPE_F16, BISE_DTYPE_BF16,
                                        BISE_DTYPE_I8 };
    uint8_t a[32], b[48];
    put("adapter_config.json", PEFT(""));
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 24; i++) {
            const float v = (float)i / 4 - 2;
            const uint16_t h = k ? bise_f32_to_bf16(v) : bise_f32_to_f16(v);
            bise_store_le16(b + 2 * i, h);
            if (i < 16)
                bise_store_le16(a + 2 * i, h);
        }
        const bise_tensor t[2] = {
            { .name = V1 ".lora_A.weight", .dtype = types[k], .n_dims = 2,
              .dims = { 2, 8 }, .data = a },
            { .name = V1 ".lora_B.weight", .dtype = types[k], .n_dims = 2,
              .dims = { 12, 2 }, .data = b } };
        ck_ok(bise_st_save(at("adapter_model.safetensors"), NULL, t, 2, &err));
        if (k == 2) {
            ck_fails(load(), BISE_EUNSUPPORTED);
            ck_assert_ptr_nonnull(strstr(err.text, "I8"));
            break;
        }
        ck_ok(load());
        for (int i = 0; i < 24; i++)
            ck_assert(l.modules[0].b[i] == (float)i / 4 - 2);
        bise_lora_fini(&l);
    }
}
END_TEST

/* mlx-lm: transposed, a plain factor, defaults of its own. */
START_TEST(reads_mlx)
{
    static const struct { const char *config; float scale; } t[] = {
        { "{\"lora_parameters\":{\"rank\":2,\"scale\":0.5}}", 0.5f },
        { "{\"fine_tune_type\":\"lora\",\"model\":\"org/m\"}", 20 } };
    put_pair("adapters.safetensors", "model.layers.1.self_attn.v_proj.lora_a",
             "model.layers.1.self_attn.v_proj.lora_b", true);
    for (size_t i = 0; i < 2; i++) {
        put("adapter_config.json", t[i].config);
        ck_ok(load());
        ck_assert_str_eq(l.format, "mlx");
        ck_assert(l.modules[0].scale == t[i].scale);
        ck_assert(l.modules[0].a[8 + 3] == counted_a[3 * 2 + 1]);
        ck_assert(l.modules[0].b[7 * 2 + 1] == counted_b[12 + 7]);
        ck_assert_str_eq(l.base_name, i ? "org/m" : "");
        bise_lora_fini(&l);
    }
}
END_TEST

/* mistral-finetune: native names, "scaling", settings may be missing. */
START_TEST(reads_native)
{
    put_pair("lora.safetensors", "layers.1.attention.wv.lora_A.weight",
             "layers.1.attention.wv.lora_B.weight", false);
    ck_ok(load());
    ck_assert_str_eq(l.format, "native");
    ck_assert(l.modules[0].scale == 2); /* its default */
    ck_assert(l.modules[0].b[5] == counted_b[5]); /* v is not permuted */
    bise_lora_fini(&l);
    put("params.json", "{\"dim\":8,\"lora\":{\"rank\":2,\"scaling\":0.25}}");
    ck_ok(load());
    ck_assert(l.modules[0].scale == 0.25f);
    bise_lora_fini(&l);
    put("params.json", "{\"lora\":{\"scaling\":1e400}}");
    ck_assert(load() != BISE_OK);
}
END_TEST

/* Rows of q in native files pair 2i and 2i + 1; only a base can undo that. */
START_TEST(native_q_needs_a_base)
{
    float a[16] = { 0 }, b[48];
    for (int i = 0; i < 48; i++)
        b[i] = (float)i;
    const bise_tensor t[2] = {
        { .name = "layers.0.attention.wq.lora_A.weight",
          .dtype = BISE_DTYPE_F32, .n_dims = 2, .dims = { 2, 8 }, .data = a },
        { .name = "layers.0.attention.wq.lora_B.weight",
          .dtype = BISE_DTYPE_F32, .n_dims = 2, .dims = { 24, 2 },
          .data = b } };
    ck_ok(bise_st_save(at("lora.safetensors"), NULL, t, 2, &err));
    ck_ok(load());
    for (int h = 0; h < 4; h++)
        for (int i = 0; i < 3; i++)
            for (int k = 0; k < 2; k++)
                ck_assert(l.modules[0].b[(h * 6 + k * 3 + i) * 2] ==
                          (float)((h * 6 + 2 * i + k) * 2));
    bise_lora_fini(&l);
    ck_fails(bise_lora_load_for(&l, dir, NULL, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.hint, "--base"));
}
END_TEST

/* A GGUF that is a model, and names that no runtime would accept. */
START_TEST(refuses_gguf_that_is_no_adapter)
{
    static const float v[24];
    bise_tensor t = { .name = "blk.0.attn_v.weight.lora_a",
                      .dtype = BISE_DTYPE_F32, .n_dims = 2, .dims = { 2, 8 },
                      .data = v };
    bise_gguf_meta m = { 0 };
    char path[96];
    snprintf(path, sizeof path, "%s/x.gguf", dir);
    bise_gguf_set_str(&m, "general.architecture", "mistral3");
    bise_gguf_set_str(&m, "general.type", "model");
    ck_ok(bise_gguf_save(path, &m, &t, 1, &err));
    ck_fails(bise_lora_load_for(&l, path, &base, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "general.type is 'model'"));
    bise_gguf_set_str(&m, "general.type", "adapter");
    ck_ok(bise_gguf_save(path, &m, &t, 1, &err));
    ck_fails(bise_lora_load_for(&l, path, &base, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "no counterpart"));
    t.name = "blk.0.attn_v.weight.scale";
    ck_ok(bise_gguf_save(path, &m, &t, 1, &err));
    ck_fails(bise_lora_load_for(&l, path, &base, &err), BISE_EUNSUPPORTED);
    /* The copy of PEFT's settings is read like any hostile text. */
    t.name = "blk.0.attn_v.weight.lora_a";
    bise_gguf_set_str(&m, "bise.lora.peft", "{\"r\":");
    ck_ok(bise_gguf_save(path, &m, &t, 1, &err));
    ck_fails(bise_lora_load_for(&l, path, &base, &err), BISE_EFORMAT);
    bise_gguf_meta_fini(&m);
}
END_TEST

/* Settings inside other formats that contradict the tensors. */
START_TEST(refuses_contradicting_copies)
{
    static const struct { const char *config, *word; } t[] = {
        { "{\"peft\":{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":2}}",
          "more than the 1 ranks" },
        { "{\"peft\":{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":2}}",
          "says 3" },
        { "{\"peft\":{\"peft_type\":\"LORA\",\"r\":1.5,\"lora_alpha\":2}}",
          "says 1.5" },
        { "{\"peft\":{\"peft_type\":\"IA3\"}}", "IA3" },
        { "{\"peft\":{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":0}}",
          "alpha" } };
    put_pair("adapters.safetensors", "model.layers.1.self_attn.v_proj.lora_a",
             "model.layers.1.self_attn.v_proj.lora_b", true);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        put("adapter_config.json", t[i].config);
        ck_assert(load() != BISE_OK);
        ck_assert_msg(strstr(err.text, t[i].word) != NULL, "%zu: %s", i,
                      err.text);
        ck_assert_ptr_null(l.modules);
    }
}
END_TEST

/* Every proper prefix of the tensor file and of the settings is an error. */
START_TEST(refuses_every_truncation)
{
    static const char *const files[] = { "adapter_model.safetensors",
                                         "adapter_config.json" };
    put_pair(files[0], V1 ".lora_A.weight", V1 ".lora_B.weight", false);
    put(files[1], PEFT(""));
    for (int f = 0; f < 2; f++) {
        bise_str text = { 0 };
        ck_ok(bise_file_read(&text, at(files[f]), &err));
        for (size_t n = 0; n < text.len; n += n < 64 ? 1 : 7) {
            ck_ok(bise_file_write(at(files[f]), bise_str_get(&text), n, &err));
            ck_assert_msg(load() != BISE_OK, "%s cut to %zu", files[f], n);
            ck_assert(err.text[0] && err.path[0]);
        }
        ck_ok(bise_file_write(at(files[f]), text.data, text.len, &err));
        bise_str_fini(&text);
    }
    ck_ok(load());
}
END_TEST

/* modules_to_save must be a tensor of the base, in its shape. */
START_TEST(checks_whole_tensors)
{
    static const struct { const char *name; uint64_t rows; bool ok; } t[] = {
        { "base_model.model.lm_head.weight", 10, true },
        { "base_model.model.lm_head.modules_to_save.weight", 10, true },
        { "base_model.model.lm_head.weight", 12, false },
        { "base_model.model.score.weight", 10, false } };
    const float v[96] = { 1 };
    put("adapter_config.json", PEFT(",\"modules_to_save\":[\"lm_head\"]"));
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        const bise_tensor w = { .name = t[i].name, .dtype = BISE_DTYPE_F32,
                                .n_dims = 2, .dims = { t[i].rows, 8 },
                                .data = v };
        ck_ok(bise_st_save(at("adapter_model.safetensors"), NULL, &w, 1,
                           &err));
        ck_assert_msg((load() == BISE_OK) == t[i].ok, "row %zu: %s", i,
                      err.text);
        if (t[i].ok)
            ck_assert(l.n == 0 && l.n_saved == 1 && l.saved[0].n == 80);
        bise_lora_fini(&l);
    }
    base.tied = true;
    const bise_tensor w = { .name = t[0].name, .dtype = BISE_DTYPE_F32,
                            .n_dims = 2, .dims = { 10, 8 }, .data = v };
    ck_ok(bise_st_save(at("adapter_model.safetensors"), NULL, &w, 1, &err));
    ck_fails(load(), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "tied"));
}
END_TEST

/* A DoRA magnitude goes with its module, and only under use_dora. */
START_TEST(checks_magnitudes)
{
    const float v[24] = { 1, 2, 3 };
    bise_tensor t[3] = {
        { .name = V1 ".lora_A.weight", .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { 2, 8 }, .data = v },
        { .name = V1 ".lora_B.weight", .dtype = BISE_DTYPE_F32, .n_dims = 2,
          .dims = { 12, 2 }, .data = v },
        { .name = V1 ".lora_magnitude_vector", .dtype = BISE_DTYPE_F32,
          .n_dims = 1, .dims = { 12 }, .data = v } };
    ck_ok(bise_st_save(at("adapter_model.safetensors"), NULL, t, 3, &err));
    put("adapter_config.json", PEFT(",\"use_dora\":true"));
    ck_ok(load());
    ck_assert(l.modules[0].magnitude[2] == 3);
    bise_lora_fini(&l);
    put("adapter_config.json", PEFT(""));
    ck_fails(load(), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "use_dora is false"));
    put("adapter_config.json", PEFT(",\"use_dora\":true"));
    t[2].dims[0] = 11;
    ck_ok(bise_st_save(at("adapter_model.safetensors"), NULL, t, 3, &err));
    ck_fails(load(), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "another length"));
}
END_TEST

/* ":SCALE" is cut off only where no such file exists. */
START_TEST(scale_suffix_is_a_number)
{
    char path[128];
    put_pair("adapter_model.safetensors", V1 ".lora_A.weight",
             V1 ".lora_B.weight", false);
    put("adapter_config.json", PEFT(""));
    static const struct { const char *tail; float scale; } t[] = {
        { ":2", 6 }, { ":-0.5", -1.5f }, { ":0", 0 }, { "", 3 },
        { "/adapter_model.safetensors:1e1", 30 } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        snprintf(path, sizeof path, "%s%s", dir, t[i].tail);
        ck_ok(bise_lora_load_for(&l, path, &base, &err));
        ck_assert_msg(l.modules[0].scale == t[i].scale, "%s: %g", t[i].tail,
                      l.modules[0].scale);
        bise_lora_fini(&l);
    }
    static const char *const bad[] = { ":", ":x", ":1x", ":nan", ":inf" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(path, sizeof path, "%s%s", dir, bad[i]);
        bise_error_init(&err);
        ck_assert(bise_lora_load_for(&l, path, &base, &err) != BISE_OK);
    }
}
END_TEST

/* Every test has a directory and a dense base with D = 6. */
static Suite *suite(void)
{
    Suite *s = suite_create("lora_load");
    TCase *t = tcase_create("lora_load");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, reads_names_with_and_without_default);
    tcase_add_test(t, absent_rank_is_pefts_default);
    tcase_add_test(t, reads_16_bit_types);
    tcase_add_test(t, reads_mlx);
    tcase_add_test(t, reads_native);
    tcase_add_test(t, native_q_needs_a_base);
    tcase_add_test(t, refuses_gguf_that_is_no_adapter);
    tcase_add_test(t, refuses_contradicting_copies);
    tcase_add_test(t, refuses_every_truncation);
    tcase_add_test(t, checks_whole_tensors);
    tcase_add_test(t, checks_magnitudes);
    tcase_add_test(t, scale_suffix_is_a_number);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
