/* check_convert.c - tests of convert/ on the golden checkpoints: merging gives
 * PEFT's weights, layouts round trip byte for byte, keys and names of GGUF.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "convert/convert.h"
#include "core/file.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "pipeline/run.h"
#include "tests/check_main.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/"

static bise_error err;
static char dir[] = "/tmp/bise-conv-XXXXXX";

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

/* Convert model into dir/name with an optional adapter. */
static void convert(const char *model, const char *adapter, const char *name,
                    bise_layout to, bise_dtype dtype, uint64_t split)
{
    bise_checkpoint c;
    bise_lora lora;
    bise_lora *list[1] = { &lora };
    bise_plan p;
    bise_run_result r = { 0 };
    char out[200];
    snprintf(out, sizeof out, "%s/%s", dir, name);
    ck_ok(bise_checkpoint_open(&c, model, NULL, &err));
    if (adapter)
        ck_ok(bise_lora_load(&lora, adapter, &c, &err));
    const bise_convert_options o = { .to = to, .dtype = dtype, .loras = list,
                                     .n_loras = adapter != NULL,
                                     .split_bytes = split };
    ck_ok(bise_convert_plan(&p, &c, &o, &err));
    const bise_run_options run = { .path = out, .stage = "convert" };
    ck_ok(bise_run(&p, &run, &r, &err));
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
    if (adapter)
        bise_lora_fini(&lora);
    bise_checkpoint_close(&c);
}

static const char *at(const char *name)
{
    static char paths[8][256];
    static int next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static const struct { const char *name, *model; } cases[] = {
    { "plain", "ministral3" }, { "rslora", "ministral3" },
    { "dora", "ministral3" }, { "tied", "ministral3-tied" },
    { "window", "mistral-window" }, { "qv-rank-pattern", "ministral3" },
    { "save-lm-head", "ministral3" },
};

START_TEST(merging_gives_the_weights_of_peft)
{
    char model[256], adapter[256], want_path[300];
    const char *name = cases[_i].name;
    snprintf(model, sizeof model, GOLDEN "models/%s", cases[_i].model);
    snprintf(adapter, sizeof adapter, GOLDEN "lora/%s", name);
    snprintf(want_path, sizeof want_path, "%s/expected.safetensors", adapter);
    convert(model, adapter, "merged", BISE_TO_SAME, BISE_DTYPE_NONE, 0);
    bise_st want, got;
    ck_ok(bise_st_open(&want, want_path, &err));
    ck_ok(bise_st_open(&got, at("merged/model.safetensors"), &err));
    int compared = 0;
    for (size_t i = 0; i < want.n_tensors; i++) {
        const bise_tensor *t = &want.tensors[i];
        if (strncmp(t->name, "merged.", 7) != 0)
            continue;
        const bise_tensor *g = bise_st_find(&got, t->name + 7);
        if (!g && strcmp(cases[_i].model, "ministral3-tied") == 0)
            continue;                           /* the tied head */
        ck_assert_msg(g != NULL, "%s", t->name);
        ck_assert_uint_eq(g->bytes, t->bytes);
        for (uint64_t k = 0; k < t->bytes / 4; k++) {
            float a, b;
            memcpy(&a, (const char *)t->data + 4 * k, 4);
            memcpy(&b, (const char *)g->data + 4 * k, 4);
            ck_assert_msg(fabsf(a - b) <= 1e-6f, "%s[%d]: %g %g", t->name,
                          (int)k, (double)a, (double)b);
        }
        compared++;
    }
    ck_assert_int_ge(compared, 14);
    bise_st_close(&want);
    bise_st_close(&got);
}
END_TEST

static const char *const models[] = { "ministral3", "ministral3-tied",
                                      "mistral-window", "mistral-nohd",
                                      "ministral3-mscale", "mixtral" };

/* Every tensor of a equals the tensor of that name of b, byte for byte. */
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
        ck_assert_int_eq(u->dtype, t->dtype);
        ck_assert_uint_eq(u->bytes, t->bytes);
        ck_assert_msg(memcmp(t->data, u->data, t->bytes) == 0, "%s", t->name);
    }
    bise_st_close(&x);
    bise_st_close(&y);
}

START_TEST(hf_to_gguf_and_back_is_exact)
{
    char model[256], weights[300];
    snprintf(model, sizeof model, GOLDEN "models/%s", models[_i]);
    snprintf(weights, sizeof weights, "%s/model.safetensors", model);
    convert(model, NULL, "m.gguf", BISE_TO_GGUF, BISE_DTYPE_NONE, 0);
    convert(at("m.gguf"), NULL, "back", BISE_TO_HF, BISE_DTYPE_NONE, 0);
    same_weights(weights, at("back/model.safetensors"));
    bise_checkpoint a, b;                       /* and so is the config */
    ck_ok(bise_checkpoint_open(&a, model, NULL, &err));
    ck_ok(bise_checkpoint_open(&b, at("back"), NULL, &err));
    ck_assert_int_eq(a.config.family, b.config.family);
    ck_assert_int_eq(a.config.D, b.config.D);
    ck_assert_int_eq(a.config.tied, b.config.tied);
    ck_assert_double_eq(a.config.rope.theta, b.config.rope.theta);
    ck_assert_double_eq(a.config.rope.qscale_beta, b.config.rope.qscale_beta);
    double freq[64], fa = 0, fb = 0;
    bise_rope_freqs(&a.config.rope, a.config.D, freq, &fa);
    bise_rope_freqs(&b.config.rope, b.config.D, freq, &fb);
    ck_assert_double_eq_tol(fa, fb, 1e-6);
    bise_checkpoint_close(&a);
    bise_checkpoint_close(&b);
}
END_TEST

START_TEST(hf_to_native_and_back_is_exact)
{
    char model[256], weights[300];
    snprintf(model, sizeof model, GOLDEN "models/%s", models[_i]);
    snprintf(weights, sizeof weights, "%s/model.safetensors", model);
    convert(model, NULL, "native", BISE_TO_NATIVE, BISE_DTYPE_NONE, 0);
    ck_assert(bise_file_exists(at("native/params.json")));
    ck_assert(bise_file_exists(at("native/consolidated.safetensors")));
    convert(at("native"), NULL, "back", BISE_TO_HF, BISE_DTYPE_NONE, 0);
    same_weights(weights, at("back/model.safetensors"));
}
END_TEST

START_TEST(split_gguf_merges_to_the_same_file)
{
    convert(GOLDEN "models/ministral3", NULL, "one.gguf", BISE_TO_GGUF,
            BISE_DTYPE_F32, 0);
    convert(at("one.gguf"), NULL, "parts.gguf", BISE_TO_GGUF, BISE_DTYPE_NONE,
            60000);
    ck_assert(!bise_file_exists(at("parts.gguf")));
    char **names = NULL, first[64] = "";
    size_t n = 0;
    ck_ok(bise_dir_list(&names, &n, dir, &err));
    for (size_t i = 0; i < n; i++)
        if (strncmp(names[i], "parts-00001-of-", 15) == 0)
            snprintf(first, sizeof first, "%s", names[i]);
    bise_free(names);
    ck_assert(first[0]);
    convert(at(first), NULL, "again.gguf", BISE_TO_GGUF, BISE_DTYPE_NONE, 0);
    bise_str a = { 0 }, b = { 0 };
    ck_ok(bise_file_read(&a, at("one.gguf"), &err));
    ck_ok(bise_file_read(&b, at("again.gguf"), &err));
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_mem_eq(a.data, b.data, a.len);
    bise_str_fini(&a);
    bise_str_fini(&b);
}
END_TEST

START_TEST(sharded_output_holds_the_same_weights)
{
    convert(GOLDEN "models/ministral3", NULL, "shards", BISE_TO_HF,
            BISE_DTYPE_NONE, 100000);
    ck_assert(bise_file_exists(at("shards/model.safetensors.index.json")));
    convert(at("shards"), NULL, "one", BISE_TO_HF, BISE_DTYPE_NONE, 1 << 30);
    same_weights(GOLDEN "models/ministral3/model.safetensors",
                 at("one/model.safetensors"));
}
END_TEST

START_TEST(gguf_has_the_keys_of_the_architecture)
{
    convert(GOLDEN "models/ministral3", NULL, "m.gguf", BISE_TO_GGUF,
            BISE_DTYPE_BF16, 0);
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, at("m.gguf"), &err));
    size_t n = 0;
    const char *arch = bise_gguf_str(&g.meta, "general.architecture", &n);
    ck_assert(n == 8 && memcmp(arch, "mistral3", 8) == 0);
    ck_assert_str_eq(g.meta.kv[0].key, "general.architecture");
    ck_assert_str_eq(g.meta.kv[1].key, "general.type");
    ck_assert_int_eq(bise_gguf_int(&g.meta, "general.file_type", -1), 32);
    ck_assert_int_eq(bise_gguf_int(&g.meta, "mistral3.attention.key_length",
                                   -1), 24);
    ck_assert_double_eq(bise_gguf_float(&g.meta, "mistral3.rope.scaling."
                                        "yarn_log_multiplier", -1), 1);
    ck_assert_double_gt(bise_gguf_float(&g.meta, "mistral3.attention."
                                        "temperature_scale", -1), 0.05);
    const bise_tensor *t = bise_gguf_find(&g, "blk.0.attn_norm.weight");
    ck_assert_int_eq(t->dtype, BISE_DTYPE_F32);
    t = bise_gguf_find(&g, "blk.0.attn_q.weight");
    ck_assert_int_eq(t->dtype, BISE_DTYPE_BF16);
    bise_gguf_close(&g);
}
END_TEST

START_TEST(mixtral_experts_are_stacked)
{
    convert(GOLDEN "models/mixtral", NULL, "m.gguf", BISE_TO_GGUF,
            BISE_DTYPE_F32, 0);
    bise_gguf g;
    ck_ok(bise_gguf_open(&g, at("m.gguf"), &err));
    const bise_tensor *t = bise_gguf_find(&g, "blk.0.ffn_down_exps.weight");
    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(t->n_dims, 3);
    ck_assert_uint_eq(t->dims[0], 4);
    ck_assert_int_eq(bise_gguf_int(&g.meta, "llama.expert_count", -1), 4);
    bise_gguf_close(&g);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("convert");
    TCase *t = tcase_create("golden");
    const int n = (int)(sizeof models / sizeof *models);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_loop_test(t, merging_gives_the_weights_of_peft, 0,
                        (int)(sizeof cases / sizeof *cases));
    tcase_add_loop_test(t, hf_to_gguf_and_back_is_exact, 0, n);
    tcase_add_loop_test(t, hf_to_native_and_back_is_exact, 0, n);
    tcase_add_test(t, split_gguf_merges_to_the_same_file);
    tcase_add_test(t, sharded_output_holds_the_same_weights);
    tcase_add_test(t, gguf_has_the_keys_of_the_architecture);
    tcase_add_test(t, mixtral_experts_are_stacked);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
