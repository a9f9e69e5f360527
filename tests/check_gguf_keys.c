/* check_gguf_keys.c - tests of convert/gguf_keys.c: provenance from the model
 * card, sampling values, size labels, hyper-parameters of every family, chat
 * templates, and what happens without a tokenizer or with one that does not
 * fit. Models are golden checkpoints with other side files put beside them.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "convert/convert.h"
#include "core/file.h"
#include "formats/gguf.h"
#include "tests/check_main.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/models/"
#define TINY BISE_SRCDIR "/examples/tiny-mistral3/"

static bise_error err;
static char dir[] = "/tmp/bise-keys-XXXXXX";
static bise_checkpoint c;
static bise_gguf_meta m;
static bise_arena arena;

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    memset(&m, 0, sizeof m);
    memset(&c, 0, sizeof c);
}

static void teardown(void)
{
    bise_gguf_meta_fini(&m);
    bise_checkpoint_close(&c);
    bise_arena_fini(&arena);
    bise_remove_tree(dir);
}

/* Write a file into the model's folder. */
static void put(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_ok(bise_file_write(path, text, strlen(text), &err));
}

/* Take a file of another folder along by a link. */
static void take(const char *from, const char *name)
{
    char old[300], new[200];
    snprintf(old, sizeof old, "%s/%s", from, name);
    snprintf(new, sizeof new, "%s/%s", dir, name);
    ck_assert_int_eq(symlink(old, new), 0);
}

static void take_model(const char *from)
{
    take(from, "config.json");
    take(from, "model.safetensors");
}

/* Keys of the model in dir. */
static void make_keys(int n_loras)
{
    const bise_convert_options o = { .to = BISE_TO_GGUF, .n_loras = n_loras };
    ck_ok(bise_checkpoint_open(&c, dir, NULL, &err));
    ck_ok(bise_convert_gguf_meta(&m, &c, &o, 32, &err));
    ck_assert(!m.failed);
}

static const char *text_of(const char *key)
{
    const char *s = bise_gguf_strdup(&m, key, &arena);
    return s ? s : "(absent)";
}

static double num(const char *key)
{
    return bise_gguf_float(&m, key, -77);
}

START_TEST(card_gives_licence_bases_tags_and_languages)
{
    take_model(GOLDEN "ministral3");
    put("README.md",
        "---\nlicense: apache-2.0\nbase_model:\n- mistralai/Ministral-3-8B\n"
        "- other/thing\ndatasets: squad\ntags: [text-generation, lora]\n"
        "language:\n- en\n- fr\n---\n# Card\n");
    make_keys(0);
    ck_assert_str_eq(text_of("general.license"), "apache-2.0");
    ck_assert_ptr_null(bise_gguf_get(&m, "bise.license.warning"));
    ck_assert_double_eq(num("general.base_model.count"), 2);
    ck_assert_str_eq(text_of("general.base_model.0.name"), "Ministral 3 8B");
    ck_assert_str_eq(text_of("general.base_model.0.organization"),
                     "mistralai");
    ck_assert_str_eq(text_of("general.base_model.0.repo_url"),
                     "https://huggingface.co/mistralai/Ministral-3-8B");
    ck_assert_str_eq(text_of("general.base_model.1.name"), "thing");
    ck_assert_double_eq(num("general.dataset.count"), 1);
    ck_assert_str_eq(text_of("general.dataset.0.name"), "squad");
    ck_assert_uint_eq(bise_gguf_get(&m, "general.tags")->count, 2);
    ck_assert_uint_eq(bise_gguf_get(&m, "general.languages")->count, 2);
}
END_TEST

START_TEST(another_licence_is_said_in_the_file)
{
    take_model(GOLDEN "ministral3");
    put("README.md", "---\nlicense: other\nlicense_name: mnpl\n"
                     "license_link: https://example.org/l\n---\n");
    make_keys(0);
    ck_assert_str_eq(text_of("bise.license.warning"), "not Apache-2.0");
    ck_assert_str_eq(text_of("general.license.name"), "mnpl");
    ck_assert_str_eq(text_of("general.license.link"),
                     "https://example.org/l");
}
END_TEST

START_TEST(an_unknown_licence_is_said_in_the_file)
{
    take_model(GOLDEN "ministral3");
    put("README.md", "no front matter at all\n");
    make_keys(0);
    ck_assert_ptr_null(bise_gguf_get(&m, "general.license"));
    ck_assert_str_eq(text_of("bise.license.warning"), "unknown");
    ck_assert_ptr_null(bise_gguf_get(&m, "general.base_model.count"));
    ck_assert_ptr_null(bise_gguf_get(&m, "general.tags"));
}
END_TEST

START_TEST(a_broken_card_is_no_reason_to_refuse)
{
    take_model(GOLDEN "ministral3");
    put("README.md", "---\nlicense: [\n---\n");
    make_keys(0);
    ck_assert_str_eq(text_of("general.architecture"), "mistral3");
}
END_TEST

START_TEST(a_merged_model_names_its_base)
{
    take_model(GOLDEN "ministral3");
    put("README.md", "---\nlicense: apache-2.0\nbase_model: x/older\n---\n");
    make_keys(1);
    ck_assert_double_eq(num("general.base_model.count"), 1);
    ck_assert_str_ne(text_of("general.base_model.0.name"), "older");
}
END_TEST

START_TEST(generation_config_becomes_sampling_keys)
{
    take_model(GOLDEN "ministral3");
    put("generation_config.json",
        "{\"temperature\": 0.15, \"top_k\": 40, \"top_p\": 0.9, "
        "\"min_p\": 0.05, \"repetition_penalty\": 1.1, \"bos_token_id\": 1}");
    make_keys(0);
    ck_assert_double_eq_tol(num("general.sampling.temp"), 0.15, 1e-6);
    ck_assert_int_eq(bise_gguf_get(&m, "general.sampling.top_k")->type,
                     BISE_GGUF_I32);
    ck_assert_double_eq(num("general.sampling.top_k"), 40);
    ck_assert_double_eq_tol(num("general.sampling.top_p"), 0.9, 1e-6);
    ck_assert_double_eq_tol(num("general.sampling.min_p"), 0.05, 1e-6);
    ck_assert_double_eq_tol(num("general.sampling.penalty_repeat"), 1.1, 1e-6);
    /* the order of the reference converter */
    ck_assert_str_eq(m.kv[0].key, "general.architecture");
    ck_assert_str_eq(m.kv[1].key, "general.type");
    ck_assert_int_eq(strncmp(m.kv[2].key, "general.sampling.", 17), 0);
    ck_assert_str_eq(m.kv[7].key, "general.name");
}
END_TEST

START_TEST(a_broken_generation_config_is_an_error)
{
    const bise_convert_options o = { .to = BISE_TO_GGUF };
    take_model(GOLDEN "ministral3");
    put("generation_config.json", "{\"temperature\": ");
    ck_ok(bise_checkpoint_open(&c, dir, NULL, &err));
    ck_fails(bise_convert_gguf_meta(&m, &c, &o, 32, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.path, "generation_config.json"));
}
END_TEST

/* Which golden model has which hyper-parameters. */
static const struct {
    const char *model, *arch;
    double heads, kv_heads, key_length, experts, scale;
} families[] = {
    { "ministral3", "mistral3", 4, 2, 24, -77, 0.1 },
    { "ministral3-tied", "mistral3", 4, 2, 24, -77, 0.1 },
    { "ministral3-mscale", "mistral3", 4, 2, 24, -77, -77 },
    { "mistral-window", "llama", 4, 2, 16, -77, -77 },
    { "mistral-nohd", "llama", 4, 2, 16, -77, -77 },
    { "mixtral", "llama", 4, 2, 24, 4, -77 },
};

static double arch_num(const char *arch, const char *name)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", arch, name);
    return num(key);
}

START_TEST(hyper_parameters_of_every_family)
{
    char path[256];
    const char *arch = families[_i].arch;
    snprintf(path, sizeof path, GOLDEN "%s", families[_i].model);
    take_model(path);
    make_keys(0);
    ck_assert_str_eq(text_of("general.architecture"), arch);
    ck_assert_str_eq(bise_convert_gguf_arch(&c), arch);
    ck_assert_double_eq(arch_num(arch, "embedding_length"), c.config.C);
    ck_assert_double_eq(arch_num(arch, "block_count"), c.config.L);
    ck_assert_double_eq(arch_num(arch, "feed_forward_length"), c.config.F);
    ck_assert_double_eq(arch_num(arch, "vocab_size"), c.config.V);
    ck_assert_double_eq(arch_num(arch, "context_length"),
                        (double)c.config.max_position);
    ck_assert_double_eq(arch_num(arch, "attention.head_count"),
                        families[_i].heads);
    ck_assert_double_eq(arch_num(arch, "attention.head_count_kv"),
                        families[_i].kv_heads);
    ck_assert_double_eq(arch_num(arch, "attention.key_length"), c.config.D);
    ck_assert_double_eq(arch_num(arch, "attention.value_length"), c.config.D);
    ck_assert_double_eq(arch_num(arch, "rope.dimension_count"), c.config.D);
    ck_assert_double_eq(arch_num(arch, "expert_count"), families[_i].experts);
    ck_assert_double_eq_tol(arch_num(arch, "attention.temperature_scale"),
                            families[_i].scale, 1e-6);
    ck_assert_double_eq_tol(arch_num(arch, "attention."
                                           "layer_norm_rms_epsilon"),
                            c.config.eps, 1e-9);
    ck_assert_double_eq(num("general.file_type"), 32);
    ck_assert_double_eq(num("general.quantization_version"), 2);
    /* the reader of bise gets the same model back */
    bise_config back;
    ck_ok(bise_config_from_gguf(&back, &m, &err));
    ck_assert_int_eq(back.C, c.config.C);
    ck_assert_int_eq(back.D, c.config.D);
    ck_assert_int_eq(back.E, c.config.E);
    ck_assert_int_eq(back.top_k, c.config.top_k);
    ck_assert_int_eq(back.window, c.config.window);
    ck_assert_double_eq(back.rope.theta, c.config.rope.theta);
    ck_assert_double_eq(back.rope.yarn, c.config.rope.yarn);
    bise_config_fini(&back);
}
END_TEST

/* What the runtime makes of the keys: g(F,1)/g(F,mul) times attn_factor. */
static double runtime_factor(const char *arch)
{
    const double F = arch_num(arch, "rope.scaling.factor");
    const double mul = arch_num(arch, "rope.scaling.yarn_log_multiplier");
    const double extra = arch_num(arch, "rope.scaling.attn_factor");
    const double full = 1 + 0.1 * log(F);
    const double f = mul > 0 ? full / (1 + 0.1 * mul * log(F)) : full;
    return extra > 0 ? f * extra : f;
}

START_TEST(yarn_keys_give_the_factor_of_the_model)
{
    static const char *const models[] = { "ministral3", "ministral3-mscale" };
    char path[256];
    double freq[64], want = 0;
    snprintf(path, sizeof path, GOLDEN "%s", models[_i]);
    take_model(path);
    make_keys(0);
    bise_rope_freqs(&c.config.rope, c.config.D, freq, &want);
    ck_assert_double_eq_tol(runtime_factor("mistral3"), want, 1e-6);
    ck_assert_str_eq(text_of("mistral3.rope.scaling.type"), "yarn");
    ck_assert_double_eq(num("mistral3.rope.scaling.original_context_length"),
                        c.config.rope.original_max);
    ck_assert_double_eq(num("mistral3.rope.scaling.yarn_beta_fast"), 32);
    ck_assert_double_eq(num("mistral3.rope.scaling.yarn_beta_slow"), 1);
}
END_TEST

START_TEST(the_window_is_kept)
{
    take_model(GOLDEN "mistral-window");
    make_keys(0);
    ck_assert_double_eq(num("llama.attention.sliding_window"), 16);
    ck_assert_ptr_null(bise_gguf_get(&m, "llama.rope.scaling.type"));
}
END_TEST

START_TEST(without_a_tokenizer_the_model_is_none)
{
    take_model(GOLDEN "ministral3");
    make_keys(0);
    ck_assert_str_eq(text_of("tokenizer.ggml.model"), "none");
    ck_assert_ptr_null(bise_gguf_get(&m, "tokenizer.ggml.tokens"));
}
END_TEST

START_TEST(the_embedded_tokenizer_and_template_are_written)
{
    take_model(TINY);
    take(TINY, "tekken.json");
    take(TINY, "chat_template.jinja");
    make_keys(0);
    ck_assert_str_eq(text_of("tokenizer.ggml.model"), "gpt2");
    ck_assert_str_eq(text_of("tokenizer.ggml.pre"), "tekken");
    ck_assert_uint_eq(bise_gguf_get(&m, "tokenizer.ggml.tokens")->count, 4096);
    bise_str text = { 0 };
    ck_ok(bise_file_read(&text, TINY "chat_template.jinja", &err));
    ck_assert_str_eq(text_of("tokenizer.chat_template"), bise_str_get(&text));
    bise_str_fini(&text);
    ck_assert_str_eq(text_of("general.size_label"), "7.0M");
}
END_TEST

START_TEST(templates_inside_tokenizer_config_are_found)
{
    static const struct { const char *json, *want; } rows[] = {
        { "{\"chat_template\": \"plain\"}", "plain" },
        { "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"no\"}, "
          "{\"name\": \"default\", \"template\": \"yes\"}]}", "yes" },
        { "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"no\"}]}",
          "(absent)" },
        { "{}", "(absent)" },
    };
    take_model(TINY);
    take(TINY, "tekken.json");
    put("tokenizer_config.json", rows[_i].json);
    make_keys(0);
    ck_assert_str_eq(text_of("tokenizer.chat_template"), rows[_i].want);
}
END_TEST

START_TEST(the_jinja_file_wins)
{
    take_model(TINY);
    take(TINY, "tekken.json");
    put("chat_template.jinja", "file");
    put("tokenizer_config.json", "{\"chat_template\": \"config\"}");
    make_keys(0);
    ck_assert_str_eq(text_of("tokenizer.chat_template"), "file");
}
END_TEST

START_TEST(a_tokenizer_larger_than_the_embedding_is_refused)
{
    const bise_convert_options o = { .to = BISE_TO_GGUF };
    take_model(GOLDEN "ministral3");            /* 160 rows */
    take(TINY, "tekken.json");                  /* 4096 ids */
    ck_ok(bise_checkpoint_open(&c, dir, NULL, &err));
    ck_fails(bise_convert_gguf_meta(&m, &c, &o, 32, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "4096"));
    ck_assert_ptr_nonnull(strstr(err.text, "160"));
    ck_assert(err.hint[0]);
}
END_TEST

/* ---- config.json and params.json ---- */

/* The configuration read back from what bise wrote for a layout. */
static void read_back(bise_config *back, bise_layout to)
{
    bise_str text = { 0 };
    bise_json *v = NULL;
    ck_ok(bise_convert_config(&text, &c, to, BISE_DTYPE_BF16, false, &err));
    ck_ok(bise_json_parse(&v, bise_str_get(&text), text.len, &err));
    if (to == BISE_TO_HF)
        ck_ok(bise_config_from_hf(back, v, &err));
    else
        ck_ok(bise_config_from_native(back, v, &err));
    bise_json_free(v);
    bise_str_fini(&text);
}

static void same_config(const bise_config *a, const bise_config *b)
{
    ck_assert_int_eq(a->family, b->family);
    ck_assert_int_eq(a->C, b->C);
    ck_assert_int_eq(a->F, b->F);
    ck_assert_int_eq(a->L, b->L);
    ck_assert_int_eq(a->H, b->H);
    ck_assert_int_eq(a->K, b->K);
    ck_assert_int_eq(a->D, b->D);
    ck_assert_int_eq(a->V, b->V);
    ck_assert_int_eq(a->E, b->E);
    ck_assert_int_eq(a->top_k, b->top_k);
    ck_assert_int_eq(a->window, b->window);
    ck_assert_int_eq(a->tied, b->tied);
    ck_assert_double_eq(a->eps, b->eps);
    ck_assert_double_eq(a->rope.theta, b->rope.theta);
    ck_assert_double_eq(a->rope.qscale_beta, b->rope.qscale_beta);
    ck_assert_int_eq(a->rope.yarn, b->rope.yarn);
    double fa[64], fb[64], ga = 0, gb = 0;
    bise_rope_freqs(&a->rope, a->D, fa, &ga);
    bise_rope_freqs(&b->rope, b->D, fb, &gb);
    for (int i = 0; i < a->D / 2; i++)
        ck_assert_double_eq_tol(fa[i], fb[i], 1e-12);
}

/* config.json made from nothing (as for a GGUF input) and params.json, both
 * read by bise's own readers. */
START_TEST(written_configurations_resolve_to_the_same_model)
{
    char path[256];
    bise_config back;
    snprintf(path, sizeof path, GOLDEN "%s", families[_i].model);
    take_model(path);
    ck_ok(bise_checkpoint_open(&c, dir, NULL, &err));
    read_back(&back, BISE_TO_HF);
    same_config(&c.config, &back);
    bise_config_fini(&back);
    c.names = BISE_NAMES_GGUF;                  /* no file of its own */
    read_back(&back, BISE_TO_HF);
    same_config(&c.config, &back);
    double fa[64], ga = 0, gb = 0;
    bise_rope_freqs(&c.config.rope, c.config.D, fa, &ga);
    bise_rope_freqs(&back.rope, back.D, fa, &gb);
    ck_assert_double_eq_tol(ga, gb, 1e-12);
    bise_config_fini(&back);
    c.names = BISE_NAMES_HF;
    if (c.config.rope.yarn && families[_i].scale < 0)
        return;         /* params.json cannot express mscale 0.7 or so */
    read_back(&back, BISE_TO_NATIVE);
    same_config(&c.config, &back);
    bise_config_fini(&back);
}
END_TEST

START_TEST(unknown_keys_of_the_input_survive)
{
    bise_str text = { 0 };
    take(GOLDEN "ministral3", "model.safetensors");
    bise_json *v = NULL;
    ck_ok(bise_json_load(&v, GOLDEN "ministral3/config.json", &err));
    bise_json_set(v, "my_own_key", bise_json_new_int(42));
    bise_json_set(v, "torch_dtype", bise_json_new_string("float32"));
    bise_json_dump(&text, v, 1, false);
    put("config.json", bise_str_get(&text));
    bise_json_free(v);
    bise_str_fini(&text);
    ck_ok(bise_checkpoint_open(&c, dir, NULL, &err));
    ck_ok(bise_convert_config(&text, &c, BISE_TO_HF, BISE_DTYPE_F16, false,
                              &err));
    ck_ok(bise_json_parse(&v, bise_str_get(&text), text.len, &err));
    ck_assert_double_eq(bise_json_number(bise_json_get(v, "my_own_key"), 0),
                        42);
    ck_assert_str_eq(bise_json_string(bise_json_get(v, "torch_dtype"), NULL),
                     "float16");
    bise_json_free(v);
    bise_str_fini(&text);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gguf_keys");
    TCase *t = tcase_create("general");
    const int n = (int)(sizeof families / sizeof *families);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_test(t, card_gives_licence_bases_tags_and_languages);
    tcase_add_test(t, another_licence_is_said_in_the_file);
    tcase_add_test(t, an_unknown_licence_is_said_in_the_file);
    tcase_add_test(t, a_broken_card_is_no_reason_to_refuse);
    tcase_add_test(t, a_merged_model_names_its_base);
    tcase_add_test(t, generation_config_becomes_sampling_keys);
    tcase_add_test(t, a_broken_generation_config_is_an_error);
    suite_add_tcase(s, t);
    t = tcase_create("model");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_loop_test(t, hyper_parameters_of_every_family, 0, n);
    tcase_add_loop_test(t, yarn_keys_give_the_factor_of_the_model, 0, 2);
    tcase_add_test(t, the_window_is_kept);
    suite_add_tcase(s, t);
    t = tcase_create("tokenizer");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_test(t, without_a_tokenizer_the_model_is_none);
    tcase_add_test(t, the_embedded_tokenizer_and_template_are_written);
    tcase_add_loop_test(t, templates_inside_tokenizer_config_are_found, 0, 4);
    tcase_add_test(t, the_jinja_file_wins);
    tcase_add_test(t, a_tokenizer_larger_than_the_embedding_is_refused);
    suite_add_tcase(s, t);
    t = tcase_create("config");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_loop_test(t, written_configurations_resolve_to_the_same_model,
                        0, n);
    tcase_add_test(t, unknown_keys_of_the_input_survive);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
