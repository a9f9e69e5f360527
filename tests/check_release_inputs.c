/* check_release_inputs.c - deploy/release: every kind of input becomes the
 * files, card lines and provenance that it should; licences, relations, data
 * and figures are stated as given; private paths do not get out; hashes are
 * those of the bytes; lack of memory never makes another release.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "deploy/release.h"
#include "formats/crypto.h"
#include "tests/check_main.h"
#include "tests/tiny_model.h"

#define NATIVE "{\"dim\":8,\"hidden_dim\":12,\"n_layers\":2,\"n_heads\":4," \
    "\"n_kv_heads\":2,\"head_dim\":6,\"norm_eps\":1e-5}"
#define APACHE "general.license", "apache-2.0"
#define CARD "---\nlicense: apache-2.0\nbase_model: org/tiny\n---\n"

static char dir[64];
static bise_error err;
static bise_release_options opt;
static bise_release_result res;

static const char *at(const char *name)
{
    static char path[4][300];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/bise-release-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(setenv("SOURCE_DATE_EPOCH", "1700000000", 1), 0);
    opt = (bise_release_options){ .repo = "acme/tiny-GGUF",
                                  .base = "org/tiny" };
}

static void teardown(void)
{
    bise_release_fini(&res);
    bise_remove_tree(dir);
}

static void put(const char *name, const char *text)
{
    ck_ok(bise_file_write(at(name), text, strlen(text), &err));
}

/* A GGUF file of one tensor with 256 zeros. keys: key, text, ..., NULL. split
 * counts from 1, 0 is no split; later splits have no keys of their own. */
static void gguf(const char *name, bise_dtype dtype, int file_type, int split,
                 const char *const *keys)
{
    static float w[256];
    bise_gguf_meta m = { 0 };
    bise_tensor t = { .name = "t", .dtype = dtype, .n_dims = 1,
                      .dims = { 256 }, .data = w,
                      .bytes = bise_dtype_bytes(dtype, 256) };
    for (; keys && *keys; keys += 2)
        bise_gguf_set_str(&m, keys[0], keys[1]);
    if (file_type >= 0)
        bise_gguf_set_u32(&m, "general.file_type", (uint32_t)file_type);
    if (split > 0) {
        bise_gguf_set_u16(&m, "split.no", (uint16_t)(split - 1));
        bise_gguf_set_u16(&m, "split.count", 2);
        bise_gguf_set_i32(&m, "split.tensors.count", 2);
    }
    ck_ok(bise_gguf_save(at(name), &m, &t, 1, &err));
    bise_gguf_meta_fini(&m);
}

/* A Q8_0 model. */
static void model(const char *name)
{
    gguf(name, BISE_DTYPE_Q8_0, 7, 0, (const char *const []){
        "general.architecture", "llama", APACHE, NULL });
}

/* Release up to three inputs of dir into a new dir/out. */
static bise_status run(const char *a, const char *b, const char *c)
{
    char path[3][256];
    const char *const names[] = { a, b, c };
    const char *const paths[] = { path[0], path[1], path[2] };
    size_t n = 0;
    for (; n < 3 && names[n]; n++)
        snprintf(path[n], sizeof path[n], "%s/%s", dir, names[n]);
    bise_release_fini(&res);
    bise_remove_tree(at("out"));
    return bise_release(paths, n, at("out"), &opt, &res, &err);
}

/* Refused for what it holds (exit 1 by cli.md 1), or for another reason, with
 * this in the message; and nothing is left. */
#define refused(call, want) failed(call, BISE_EUNSUPPORTED, want)
#define failed(call, status, want) \
    do { \
        ck_fails(call, status); \
        ck_assert_msg(strstr(err.text, want) != NULL, "%s", err.text); \
        ck_assert(!bise_file_exists(at("out"))); \
        ck_assert(!bise_file_exists(at("out.part"))); \
    } while (0)

static bool holds(const char *file, const char *text)
{
    bise_str s = { 0 };
    ck_ok(bise_file_read(&s, at(file), &err));
    const bool found = s.len && memmem(s.data, s.len, text, strlen(text));
    bise_str_fini(&s);
    return found;
}

#define has(file, text) \
    ck_assert_msg(holds("out/" file, text), "no '%s' in " file, text)
#define hasnt(file, text) \
    ck_assert_msg(!holds("out/" file, text), "'%s' in " file, text)

/* sha256 of a file of dir in hex. */
static const char *sha(const char *name)
{
    static char hex[65];
    uint8_t d[32];
    ck_ok(bise_sha256_file(d, at(name), &err));
    return bise_hex32(hex, d);
}

static void same(const char *a, const char *b)
{
    char one[65];
    snprintf(one, sizeof one, "%s", sha(a));
    ck_assert_str_eq(one, sha(b));
}

/* Was the publisher told of it? */
static bool told(const char *text)
{
    for (size_t i = 0; i < bise_json_size(res.problems); i++)
        if (strstr(bise_json_string(bise_json_get(bise_json_at(
                res.problems, i), "message"), NULL), text))
            return true;
    return false;
}

/* A native model under dir/name with this card. */
static void native(const char *name, const char *card)
{
    static tiny m;
    bise_config config;
    bise_json *v = NULL;
    char file[128];
    memset(&m, 0, sizeof m);
    ck_ok(bise_mkdir(at(name), &err));
    ck_ok(bise_json_parse(&v, NATIVE, strlen(NATIVE), &err));
    ck_ok(bise_config_from_native(&config, v, &err));
    config.V = 10;
    tiny_fill(&m, &config, BISE_NAMES_NATIVE, "");
    tiny_save(&m, at(name), "consolidated.safetensors", "params.json", NATIVE);
    bise_config_fini(&config);
    bise_json_free(v);
    tiny_free(&m);
    snprintf(file, sizeof file, "%s/README.md", name);
    put(file, card);
}

/* A PEFT adapter in dir/ad that names paths wherever bise or PEFT do. */
static void adapter(void)
{
    static tiny m;
    memset(&m, 0, sizeof m);
    ck_ok(bise_mkdir(at("ad"), &err));
    tiny_add(&m, "lora_A.weight", BISE_DTYPE_F32, 2, (uint64_t[]){ 2, 4 });
    tiny_save(&m, at("ad"), "adapter_model.safetensors", "adapter_config.json",
              "{\"peft_type\":\"LORA\",\"r\":2,"
              "\"base_model_name_or_path\":\"/home/me/base\"}");
    tiny_free(&m);
    put("ad/README.md", CARD);
    put("ad/run.yaml", "model: /home/me/base\ndata:\n- /work/x/d.jsonl\n"
        "seed: 7\nlora-r: 2\n");
    put("ad/log.jsonl", "{\"step\":1,\"loss\":2.5,\"tokens\":8}\n"
        "{\"step\":2,\"loss\":1.25,\"tokens\":16}\n{\"step\":3,\"lo");
}

/* ---- kinds of inputs ---- */

START_TEST(takes_a_native_directory)
{
    native("n", CARD);
    put("n/tekken.json", "{}");
    put("n/notes.txt", "secret");
    opt.base = NULL;
    ck_ok(run("n", NULL, NULL));
    same("n/consolidated.safetensors", "out/consolidated.safetensors");
    same("n/params.json", "out/params.json");
    same("n/tekken.json", "out/tekken.json");
    ck_assert(!bise_file_exists(at("out/notes.txt")));
    ck_assert(told("left out: not a file"));
    has("README.md", "\nbase_model: org/tiny\n");
    has("README.md", "\nbase_model_relation: finetune\n");
    has("README.md", "\nlibrary_name: vllm\n");
    has("README.md", "\n- mistral-common\n");
    has("README.md", "--load-format mistral");
    hasnt("README.md", "AutoModelForCausalLM");
    ck_assert(!bise_file_exists(at("out/Modelfile")));
}
END_TEST

/* The second directory gets a folder, a folder of GGUF files does not. */
START_TEST(gives_folders_to_later_models)
{
    native("n", CARD);
    native("second", CARD);
    ck_ok(bise_mkdir(at("g"), &err));
    model("g/m-Q8_0.gguf");
    ck_ok(run("n", "second", "g"));
    same("n/params.json", "out/params.json");
    same("second/params.json", "out/second/params.json");
    same("g/m-Q8_0.gguf", "out/m-Q8_0.gguf");
    has("README.md", "`second/consolidated.safetensors` | F32 | 32.00 |");
    has("README.md", "`m-Q8_0.gguf` | Q8_0 | 8.50 |");
}
END_TEST

START_TEST(takes_importance_matrices)
{
    gguf("im.gguf", BISE_DTYPE_F32, -1, 0, (const char *const []){
        "general.type", "imatrix", NULL });
    put("old.dat", "an importance matrix");
    model("m-Q8_0.gguf");
    ck_ok(run("im.gguf", "old.dat", "m-Q8_0.gguf"));
    same("im.gguf", "out/im.gguf");
    same("old.dat", "out/old.dat");
    has("README.md", "| `im.gguf` | importance matrix | | 1.");
    has("README.md", "| `old.dat` | importance matrix | | 20 B |");
    has("README.md", "\n- imatrix\n");
    has("README.md", "\nbase_model_relation: quantized\n");
    has("Modelfile", "FROM ./m-Q8_0.gguf\n");
    has(".gitattributes", "*.dat filter=lfs");
    ck_assert(!told("no licence is known"));
}
END_TEST

/* Calibration data by its path, in both formats. */
START_TEST(refuses_paths_in_importance_matrices)
{
    static const char old[] = "\1\0\0\0\x10\0\0\0/home/me/cal.txt";
    gguf("im.gguf", BISE_DTYPE_F32, -1, 0, (const char *const []){
        "general.type", "imatrix", "imatrix.datasets", "/home/me/cal.txt",
        NULL });
    refused(run("im.gguf", NULL, NULL), "'imatrix.datasets' holds a path");
    ck_ok(bise_file_write(at("old.dat"), old, sizeof old - 1, &err));
    refused(run("old.dat", NULL, NULL), "path");
}
END_TEST

START_TEST(takes_a_vision_part)
{
    const char *const keys[] = { "general.type", "mmproj", APACHE, NULL };
    gguf("eye.gguf", BISE_DTYPE_F32, 0, 0, keys);
    gguf("mmproj-F32.gguf", BISE_DTYPE_F32, 0, 0, keys);
    model("m-Q8_0.gguf");
    ck_ok(run("eye.gguf", "m-Q8_0.gguf", NULL));
    same("eye.gguf", "out/mmproj-eye.gguf");
    has("README.md", "\npipeline_tag: image-text-to-text\n");
    has("README.md", "-m m-Q8_0.gguf --mmproj mmproj-eye.gguf\n");
    has("Modelfile", "FROM ./m-Q8_0.gguf\nFROM ./mmproj-eye.gguf\n");
    ck_ok(run("mmproj-F32.gguf", "m-Q8_0.gguf", NULL));
    same("mmproj-F32.gguf", "out/mmproj-F32.gguf");
    ck_ok(run("m-Q8_0.gguf", NULL, NULL));
    has("README.md", "\npipeline_tag: text-generation\n");
    hasnt("README.md", "--mmproj");
}
END_TEST

START_TEST(takes_a_gguf_adapter)
{
    gguf("lora.gguf", BISE_DTYPE_F32, -1, 0, (const char *const []){
        "general.type", "adapter", APACHE, "general.base_model.0.repo_url",
        "https://huggingface.co/org/from-key", NULL });
    opt.base = NULL;
    ck_ok(run("lora.gguf", NULL, NULL));
    same("lora.gguf", "out/lora.gguf");
    ck_assert_str_eq(res.relation, "adapter");
    has("README.md", "\nbase_model: org/from-key\n");
    has("README.md", "\nlibrary_name: gguf\n");
    has("README.md", "\n- lora\n");
    has("README.md", "--lora lora.gguf\n");
    ck_assert(!bise_file_exists(at("out/Modelfile")));
    ck_assert(!told("base model is not known"));
}
END_TEST

/* llama.cpp finds the other parts by the name of the first, so that all keep
 * one prefix; only the first one is named in commands. */
START_TEST(keeps_splits_together)
{
    const char *const keys[] = { "general.architecture", "llama", APACHE,
                                 NULL };
    ck_ok(bise_mkdir(at("s"), &err));
    gguf("s/m-Q4_K_M-00001-of-00002.gguf", BISE_DTYPE_Q4_K, 15, 1, keys);
    gguf("s/m-Q4_K_M-00002-of-00002.gguf", BISE_DTYPE_Q6_K, -1, 2, NULL);
    ck_ok(run("s", NULL, NULL));
    same("s/m-Q4_K_M-00001-of-00002.gguf",
         "out/m-Q4_K_M-00001-of-00002.gguf");
    same("s/m-Q4_K_M-00002-of-00002.gguf",
         "out/m-Q4_K_M-00002-of-00002.gguf");
    ck_assert(!bise_file_exists(at("out/Modelfile")));
    has("README.md", "Ollama takes no file in parts: join them first, with "
        "`bise convert m-Q4_K_M-00001-of-00002.gguf -o tiny-GGUF.gguf`");
    hasnt("README.md", "ollama create");
    model("m-Q8_0.gguf");
    ck_ok(run("s", "m-Q8_0.gguf", NULL));
    has("Modelfile", "FROM ./m-Q8_0.gguf\n");
    ck_ok(run("s", NULL, NULL));
    has("README.md", "-m m-Q4_K_M-00001-of-00002.gguf\n");
    hasnt("README.md", "-m m-Q4_K_M-00002");
    ck_assert(!told("no licence is known"));
    gguf("x-00001-of-00002.gguf", BISE_DTYPE_Q4_K, 15, 1, keys);
    gguf("x-00002-of-00002.gguf", BISE_DTYPE_Q4_K, -1, 2, NULL);
    ck_ok(run("x-00001-of-00002.gguf", "x-00002-of-00002.gguf", NULL));
    same("x-00001-of-00002.gguf", "out/x-00001-of-00002.gguf");
    same("x-00002-of-00002.gguf", "out/x-00002-of-00002.gguf");
}
END_TEST

/* ---- terms ---- */

START_TEST(carries_another_licence)
{
    native("n", "---\nlicense: mit\n---\n");
    put("n/LICENSE", "Permission is hereby granted");
    ck_ok(run("n", NULL, NULL));
    ck_assert_str_eq(res.licence, "mit");
    same("n/LICENSE", "out/LICENSE");
    has("README.md", "\nlicense: mit\n");
    has("README.md", "mit: not Apache-2.0");
    ck_assert(told("not Apache-2.0: its own duties"));
    native("o", "---\nlicense: other\nlicense_name: mrl\n"
           "license_link: https://a.b/mrl\n---\n");
    ck_ok(run("o", NULL, NULL));
    ck_assert_str_eq(res.licence, "mrl");
    has("README.md", "\nlicense: other\nlicense_name: mrl\n"
        "license_link: https://a.b/mrl\n");
    ck_assert(!bise_file_exists(at("out/LICENSE")));
    ck_assert(told("the text of the licence is missing"));
}
END_TEST

/* The text beside a card is of that card's licence: it is not published as the
 * text of another input's. */
START_TEST(takes_the_text_of_the_stated_licence)
{
    for (int i = 0; i < 2; i++) {
        const char *first = i ? "b" : "a", *second = i ? "a" : "b";
        native("a", CARD);
        put("a/LICENSE", "Apache License, Version 2.0");
        native("b", "---\nlicense: other\nlicense_name: mrl\n"
               "license_link: https://a.b/mrl\n---\n");
        put("b/LICENSE", "Research only");
        ck_ok(run(first, second, NULL));
        ck_assert_str_eq(res.licence, "mrl");
        same("b/LICENSE", "out/LICENSE");
        has("README.md", "\nlicense: other\nlicense_name: mrl\n"
            "license_link: https://a.b/mrl\n");
    }
}
END_TEST

/* The same names in a GGUF file's keys. */
START_TEST(names_a_licence_of_a_gguf)
{
    gguf("m-F16.gguf", BISE_DTYPE_F16, 1, 0, (const char *const []){
        "general.license", "other", "general.license.name", "mrl",
        "general.license.link", "https://a.b/mrl", NULL });
    ck_ok(run("m-F16.gguf", NULL, NULL));
    ck_assert_str_eq(res.licence, "mrl");
    has("README.md", "\nlicense: other\nlicense_name: mrl\n"
        "license_link: https://a.b/mrl\n");
    ck_assert(told("the text of the licence is missing"));
    opt.require_licence = "mrl";
    ck_ok(run("m-F16.gguf", NULL, NULL));
}
END_TEST

/* The adapter, with these pairs of key and text in __metadata__. */
static void adapter_with(const char *const (*keys)[2], size_t n)
{
    float w[4] = { 1 };
    bise_tensor t = { .name = "lora_A.weight", .dtype = BISE_DTYPE_F32,
                      .n_dims = 1, .dims = { 4 }, .data = w,
                      .bytes = sizeof w };
    bise_json *meta = bise_json_new_object();
    adapter();
    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(bise_json_set(meta, keys[i][0],
                                       bise_json_new_string(keys[i][1])), 0);
    ck_ok(bise_st_save(at("ad/adapter_model.safetensors"), meta, &t, 1, &err));
    bise_json_free(meta);
}

/* An adapter that lost its card still knows its terms, base and data. */
START_TEST(reads_an_adapter_without_a_card)
{
    static const char *const keys[][2] = { { "license", "apache-2.0" },
        { "base_model", "org/from-meta" }, { "datasets", "org/data" } };
    adapter_with(keys, 3);
    ck_assert_int_eq(unlink(at("ad/README.md")), 0);
    opt.base = NULL;
    opt.require_licence = "apache-2.0";
    ck_ok(run("ad", NULL, NULL));
    ck_assert_str_eq(res.licence, "apache-2.0");
    has("README.md", "\nbase_model: org/from-meta\n");
    has("README.md", "\ndatasets:\n- org/data\n");
    ck_assert_int_eq(unlink(at("ad/adapter_model.safetensors")), 0);
    put("ad/adapter_model.safetensors", "no weights");
    ck_fails(run("ad", NULL, NULL), BISE_EUNSUPPORTED);
}
END_TEST

/* Terms and attribution under their other usual names (Apache-2.0, 4 d). */
START_TEST(finds_terms_by_any_name)
{
    native("n", "---\nlicense: mit\n---\n");
    put("n/LICENCE.txt", "Permission is hereby granted");
    put("n/NOTICE.md", "Tiny, by its authors");
    ck_ok(run("n", NULL, NULL));
    same("n/LICENCE.txt", "out/LICENSE");
    has("NOTICE", "Tiny, by its authors");
    ck_assert(!told("the text of the licence is missing"));
}
END_TEST

/* A log that bise did not write costs figures, not the release. */
START_TEST(takes_logs_of_others)
{
    adapter();
    put("ad/log.jsonl", "{\"step\":1,\"loss\":2.5,\"run\":{\"data\":{"
        "\"files\":[1,\"d.jsonl\"],\"samples\":3}}}\n");
    ck_ok(run("ad", NULL, NULL));
    has("README.md", "`d.jsonl`, 3 samples");
    hasnt("README.md", "digest of the prepared set");
}
END_TEST

/* Figures of one run are not those of another. */
START_TEST(keeps_training_runs_apart)
{
    adapter();
    ck_ok(bise_mkdir(at("n"), &err));
    ck_assert_int_eq(rename(at("ad"), at("one")), 0);
    adapter();
    ck_assert_int_eq(rename(at("ad"), at("two")), 0);
    put("two/run.yaml", "seed: 9\nlora-r: 64\n");
    put("two/adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":64}");
    put("two/log.jsonl", "{\"step\":5,\"loss\":4.5,\"tokens\":80}\n");
    ck_ok(run("one", "two", NULL));
    has("README.md", "## Training\n\nlora-r 2, seed 7, 2 steps, 16 tokens.");
    has("README.md", "| training loss | 2.5000 | 1.2500 |");
    has("README.md", "## Training of `two`\n\nlora-r 64, seed 9, 5 steps, 80 "
        "tokens.");
    has("README.md", "| training loss | 4.5000 | 4.5000 |");
    has("README.md", "`two/run.yaml`, every report in `two/log.jsonl`");
    has("README.md", "--max-lora-rank 8 ");
    has("provenance.json", "\"bise finetune --config two/run.yaml\"");
    has("provenance.json", "\"two/run.yaml\": {");
    hasnt("provenance.json", "\n        \"seed\"");
}
END_TEST

/* What the weights were made from has a card; its attribution goes along. */
START_TEST(carries_the_card_of_the_base)
{
    native("n", CARD);
    put("n/BASE_README.md", "# Tiny, by its authors");
    ck_ok(run("n", NULL, NULL));
    same("n/BASE_README.md", "out/BASE_README.md");
    has("README.md", "- `BASE_README.md` is the card of the model");
    ck_assert(!told("left out"));
    put("n/BASE_README.md", "see /home/me/model");
    refused(run("n", NULL, NULL), "'BASE_README.md' would publish");
}
END_TEST

static volatile sig_atomic_t stop;
static uint64_t reported;

static void watch(void *ctx, const char *stage, uint64_t done, uint64_t total,
                  const char *unit, const char *remark)
{
    (void)ctx;
    (void)remark;
    ck_assert_str_eq(stage, "copy");
    ck_assert_str_eq(unit, "bytes");
    ck_assert_uint_le(done, total);
    reported = done;
    stop = stop == 2;
}

/* Copying reports, and an interruption leaves nothing. */
START_TEST(copies_with_progress)
{
    const bise_progress p = { .report = watch, .cancel = &stop };
    opt.progress = &p;
    model("m-Q8_0.gguf");
    stop = 0;
    ck_ok(run("m-Q8_0.gguf", NULL, NULL));
    ck_assert_uint_eq(reported, bise_file_size(at("m-Q8_0.gguf")));
    stop = 2;                                   /* after the first report */
    failed(run("m-Q8_0.gguf", NULL, NULL), BISE_ECANCEL, "interrupted");
}
END_TEST

/* Without a licence of its own, a part is not Apache-2.0 either. */
START_TEST(requires_a_licence)
{
    model("m-Q8_0.gguf");
    gguf("mit-F16.gguf", BISE_DTYPE_F16, 1, 0, (const char *const []){
        "general.license", "mit", NULL });
    gguf("bare-F16.gguf", BISE_DTYPE_F16, 1, 0, NULL);
    opt.require_licence = "Apache-2.0";
    ck_ok(run("m-Q8_0.gguf", NULL, NULL));
    refused(run("m-Q8_0.gguf", "mit-F16.gguf", NULL), "is mit, 'Apache-2.0'");
    refused(run("bare-F16.gguf", NULL, NULL), "is unknown, 'Apache-2.0'");
    opt.require_licence = "MIT";
    ck_ok(run("mit-F16.gguf", NULL, NULL));
    refused(run("m-Q8_0.gguf", NULL, NULL), "is apache-2.0, 'MIT'");
}
END_TEST

/* In any order of inputs, the one with more duties is stated. */
START_TEST(states_the_stricter_licence)
{
    model("m-Q8_0.gguf");
    gguf("mit-F16.gguf", BISE_DTYPE_F16, 1, 0, (const char *const []){
        "general.license", "mit", NULL });
    for (int i = 0; i < 2; i++) {
        ck_ok(run(i ? "mit-F16.gguf" : "m-Q8_0.gguf",
                  i ? "m-Q8_0.gguf" : "mit-F16.gguf", NULL));
        ck_assert_str_eq(res.licence, "mit");
        has("README.md", "\nlicense: mit\n");
        has("Modelfile", "LICENSE \"mit\"\n");
        ck_assert(told("another input has another one"));
        ck_assert(!bise_file_exists(at("out/LICENSE")));
    }
}
END_TEST

/* ---- what the user says ---- */

START_TEST(states_a_merge)
{
    native("n", CARD);
    opt.relation = "merge";
    ck_ok(run("n", NULL, NULL));
    ck_assert_str_eq(res.relation, "merge");
    has("README.md", "\nbase_model_relation: merge\n");
    has("provenance.json", "\"base_model_relation\": \"merge\"");
    /* How many adapters there were is not known: no number is claimed. */
    hasnt("README.md", "\n0 LoRA adapters");
    opt.relation = "quantized";
    ck_ok(run("n", NULL, NULL));
    has("README.md", "\nbase_model_relation: quantized\n");
    hasnt("README.md", "\nQuantized files (GGUF) of");
}
END_TEST

START_TEST(names_data)
{
    const char *const good[] = { "acme/sql", "org/extra" };
    const char *const bad[] = { "acme/sql", "/home/me/data" };
    native("n", "---\nlicense: apache-2.0\ndatasets:\n- acme/sql\n"
           "- org/first\n---\n");
    opt.datasets = good;
    opt.n_datasets = 2;
    opt.command = "bise release n --dataset acme/sql  # bise 0";
    ck_ok(run("n", NULL, NULL));
    has("README.md", "\ndatasets:\n- acme/sql\n- org/extra\n- org/first\n");
    has("README.md", "[org/extra](https://huggingface.co/datasets/org/extra)");
    has("provenance.json", "\"https://huggingface.co/datasets/acme/sql\"");
    has("provenance.json", "\"bise release n --dataset acme/sql  # bise 0\"");
    opt.datasets = bad;
    failed(run("n", NULL, NULL), BISE_EINVAL, "--dataset '/home/me/data' is");
}
END_TEST

/* The name that eval was given is not the name in the release. */
START_TEST(shows_figures)
{
    model("m.gguf");
    put("e.json", "{\"model\":\"m.gguf\",\"data\":\"v.txt\",\"tokens\":64,"
        "\"loss\":2.5,\"ppl\":12.1825,\"base_ppl\":12.0001,"
        "\"kld\":{\"mean\":0.015625},\"same_top\":0.75}");
    put("f.json", "{\"model\":\"other\",\"tokens\":1,\"loss\":9,\"ppl\":77}");
    ck_ok(run("m.gguf", "e.json", "f.json"));
    same("m.gguf", "out/tiny-Q8_0.gguf");
    has("README.md", "| `tiny-Q8_0.gguf` | Q8_0 | 8.50 | 4");
    has("README.md", "B | 12.1825 | 0.015625 |\n");
    has("README.md", "| m.gguf | v.txt | 64 | 2.5000 | 12.1825 | 12.0001 | "
        "0.015625 | 75.00 |\n");
    has("provenance.json", "\"ppl\": 12.1825");
    ck_assert(told("this evaluation is of none of the files"));
    refused(run("e.json", NULL, NULL), "evaluations only");
    put("g.json", "{\"model\":\"m.gguf\"}");
    refused(run("m.gguf", "g.json", NULL), "not a result");
}
END_TEST

/* ---- what is private ---- */

/* No file of the release may hold this. */
static void nowhere(const char *text)
{
    for (size_t i = 0; i < bise_json_size(res.files); i++) {
        char path[200];
        const char *name = bise_json_string(bise_json_get(
            bise_json_at(res.files, i), "path"), NULL);
        snprintf(path, sizeof path, "out/%s", name);
        ck_assert_msg(!holds(path, text), "'%s' in %s", text, name);
    }
}

START_TEST(replaces_private_paths)
{
    adapter();
    put("ad/tokenizer_config.json", "{\"name_or_path\":\"/work/me/tok\","
        "\"tokenizer_file\":\"/srv/me/t.json\",\"eos_token\":\"</s>\"}");
    ck_ok(run("ad", NULL, NULL));
    nowhere("/home/me");
    nowhere("/work/");
    nowhere(dir);
    has("adapter_config.json", "\"base_model_name_or_path\": \"org/tiny\"");
    has("adapter_config.json", "\"r\": 2");
    has("run.yaml", "\nmodel: base\n");
    has("run.yaml", "d.jsonl");
    has("tokenizer_config.json", "\"eos_token\": \"</s>\"");
    nowhere("/srv/");
    has("README.md", "- `tokenizer_config.json`: names of paths replaced");
    has("README.md", "| training loss | 2.5000 | 1.2500 |");
    has("README.md", "seed 7, 2 steps, 16 tokens.");
    has("README.md", "--max-lora-rank 8 ");
    put("ad/adapter_config.json", "{\"peft_type\":\"LORA\",\"r\":1,"
        "\"bias\":\"all\",\"use_dora\":true,\"modules_to_save\":[\"lm_head\"]}");
    ck_ok(run("ad", NULL, NULL));
    has("README.md", "--max-lora-rank 1 ");
    ck_assert(told("refuses adapters with biases"));
    ck_assert(told("refuses adapters with DoRA"));
    ck_assert(told("refuses adapters with modules_to_save"));
}
END_TEST

/* What cannot be replaced safely is refused, wherever it stands. */
START_TEST(refuses_private_paths)
{
    gguf("m-Q8_0.gguf", BISE_DTYPE_Q8_0, 7, 0, (const char *const []){
        APACHE, "general.source", "/srv/me/model", NULL });
    refused(run("m-Q8_0.gguf", NULL, NULL), "'general.source' holds a path");
    adapter();
    put("ad/tokenizer_config.json", "{\"cache\":\"/mnt/me/cache\"}");
    refused(run("ad", NULL, NULL), "'tokenizer_config.json' would publish");
    put("ad/tokenizer_config.json", "{}");
    put("ad/loss.svg", "<svg><title>/scratch/run</title></svg>");
    refused(run("ad", NULL, NULL), "'loss.svg' would publish");
    ck_assert_int_eq(unlink(at("ad/loss.svg")), 0);
    ck_ok(run("ad", NULL, NULL));
    model("m-Q8_0.gguf");
    put("e.json", "{\"model\":\"m-Q8_0.gguf\",\"data\":\"/home/me/v.txt\","
        "\"tokens\":64,\"loss\":2}");
    refused(run("m-Q8_0.gguf", "e.json", NULL), "would publish");
    put("e.json", "{\"model\":\"m-Q8_0.gguf\",\"log\":\"/home/me/log\","
        "\"tokens\":64,\"loss\":2}");
    refused(run("m-Q8_0.gguf", "e.json", NULL), "would publish");
}
END_TEST

/* Keys of __metadata__, which no reader of weights shows. */
START_TEST(refuses_paths_in_safetensors)
{
    static const char *const keys[][2] = { { "from", "/root/model" } };
    adapter_with(keys, 1);
    refused(run("ad", NULL, NULL), "__metadata__ holds a path");
}
END_TEST

/* As other writers make them: no __metadata__ at all. */
START_TEST(takes_safetensors_without_metadata)
{
    static const char text[] = "\x48\0\0\0\0\0\0\0{\"lora_A.weight\":{"
        "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}      "
        "\0\0\0";
    ck_assert_uint_eq(sizeof text, 8 + 0x48 + 4);
    adapter();
    ck_ok(bise_file_write(at("ad/adapter_model.safetensors"), text,
                          sizeof text, &err));
    ck_ok(run("ad", NULL, NULL));
    same("ad/adapter_model.safetensors", "out/adapter_model.safetensors");
}
END_TEST

/* ---- provenance ---- */

/* The sha256 that a list of the statement has for a name. */
static const char *stated(const bise_json *list, const char *name)
{
    for (size_t i = 0; i < bise_json_size(list); i++) {
        const bise_json *v = bise_json_at(list, i);
        const char *s = bise_json_string(bise_json_get(v, "name"), NULL);
        if (s && strcmp(s, name) == 0)
            return bise_json_string(bise_json_get(bise_json_get(v, "digest"),
                                                  "sha256"), NULL);
    }
    ck_abort_msg("no '%s' in the statement", name);
    return NULL;
}

/* Outputs are hashed as they lie in the folder, inputs as they were read: a
 * file that was rewritten has two different hashes. */
START_TEST(states_the_hash_of_every_file)
{
    static const char *const inputs[] = { "ad/adapter_config.json",
        "ad/adapter_model.safetensors", "ad/run.yaml", "ad/log.jsonl",
        "m-Q8_0.gguf" };
    bise_json *v = NULL;
    adapter();
    model("m-Q8_0.gguf");
    ck_ok(run("ad", "m-Q8_0.gguf", NULL));
    ck_ok(bise_json_load(&v, at("out/provenance.json"), &err));
    const bise_json *subjects = bise_json_get(v, "subject");
    const bise_json *build = bise_json_get(bise_json_get(v, "predicate"),
                                           "buildDefinition");
    const bise_json *deps = bise_json_get(build, "resolvedDependencies");
    const size_t n = bise_json_size(res.files);
    ck_assert_uint_eq(n, 10);
    ck_assert_uint_eq(bise_json_size(subjects), n - 1);
    for (size_t i = 0; i < n; i++) {
        const bise_json *f = bise_json_at(res.files, i);
        const char *name = bise_json_string(bise_json_get(f, "path"), NULL);
        char path[200];
        snprintf(path, sizeof path, "out/%s", name);
        ck_assert_str_eq(sha(path), bise_json_string(
            bise_json_get(f, "sha256"), NULL));
        ck_assert_uint_eq(bise_file_size(at(path)), (uint64_t)
            bise_json_number(bise_json_get(f, "bytes"), -1));
        if (strcmp(name, "provenance.json") != 0)
            ck_assert_str_eq(sha(path), stated(subjects, name));
    }
    /* The base follows the files. */
    ck_assert_uint_eq(bise_json_size(deps), 6);
    for (size_t i = 0; i < 5; i++)
        ck_assert_str_eq(sha(inputs[i]), stated(deps,
                                                bise_path_base(inputs[i])));
    ck_assert_str_ne(stated(subjects, "run.yaml"), stated(deps, "run.yaml"));
    ck_assert_str_eq(stated(subjects, "log.jsonl"), stated(deps, "log.jsonl"));
    bise_json_free(v);
}
END_TEST

START_TEST(states_how_it_was_made)
{
    bise_json *v = NULL;
    adapter();
    opt.command = "bise release ad --repo acme/tiny-GGUF  # bise 0.1.0";
    ck_ok(run("ad", NULL, NULL));
    ck_ok(bise_json_load(&v, at("out/provenance.json"), &err));
    const bise_json *p = bise_json_get(v, "predicate");
    const bise_json *build = bise_json_get(p, "buildDefinition");
    const bise_json *ext = bise_json_get(build, "externalParameters");
    const bise_json *commands = bise_json_get(ext, "commands");
    const bise_json *meta = bise_json_get(bise_json_get(p, "runDetails"),
                                          "metadata");
    ck_assert_str_eq(bise_json_string(bise_json_at(commands, 0), NULL),
                     "bise finetune --config run.yaml");
    ck_assert_str_eq(bise_json_string(bise_json_at(commands, 1), NULL),
                     opt.command);
    const bise_json *training = bise_json_get(ext, "training");
    ck_assert(bise_json_number(bise_json_get(bise_json_get(
        training, "run.yaml"), "lora-r"), 0) == 2);
    ck_assert(bise_json_number(bise_json_get(ext, "seed"), 0) == 7);
    ck_assert_str_eq(bise_json_string(bise_json_get(ext, "licence"), NULL),
                     "apache-2.0");
    ck_assert_str_eq(bise_json_string(bise_json_get(
        ext, "base_model_relation"), NULL), "adapter");
    ck_assert_str_eq(bise_json_string(bise_json_get(meta, "finishedOn"), NULL),
                     "2023-11-14T22:13:20Z");
    bise_json_free(v);
}
END_TEST

/* Each allocation fails once. A failure leaves nothing; what succeeds all the
 * same is the release that there is with enough memory, byte for byte. */
START_TEST(never_differs_for_lack_of_memory)
{
    char whole[65];
    int failed = 0;
    opt.base = _i ? "org/tiny" : NULL;
    adapter();
    put("ad/NOTICE", "Tiny, by its authors");
    model("m.gguf");
    put("e.json", "{\"model\":\"m.gguf\",\"tokens\":64,\"loss\":2,"
        "\"ppl\":7.5}");
    ck_ok(run("ad", "m.gguf", "e.json"));
    snprintf(whole, sizeof whole, "%s", sha("out/provenance.json"));
    for (int n = 1, good = 0; good < 8; n++) {
        const char *const paths[] = { at("ad"), at("m.gguf"), at("e.json") };
        char out[256];
        snprintf(out, sizeof out, "%s", at("out"));
        bise_release_fini(&res);
        bise_remove_tree(out);
        bise_error_init(&err);
        bise_alloc_fail_after((uint64_t)n);
        const bise_status s = bise_release(paths, 3, out, &opt, &res, &err);
        bise_alloc_fail_after(0);
        good = s == BISE_OK ? good + 1 : 0;
        failed += s != BISE_OK;
        ck_assert_msg(s == BISE_OK || s == BISE_ENOMEM, "%d: %s", n, err.text);
        ck_assert_msg((s == BISE_OK) == bise_file_exists(out), "%d", n);
        if (s == BISE_OK)
            ck_assert_msg(strcmp(sha("out/provenance.json"), whole) == 0,
                          "allocation %d: another release", n);
        ck_assert_int_lt(n, 2000);
    }
    ck_assert_int_gt(failed, 40);
}
END_TEST

/* Tests of inputs and terms, then of what is stated and left out. */
static Suite *suite(void)
{
    Suite *s = suite_create("release_inputs");
    TCase *t = tcase_create("release_inputs");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, takes_a_native_directory);
    tcase_add_test(t, gives_folders_to_later_models);
    tcase_add_test(t, takes_importance_matrices);
    tcase_add_test(t, refuses_paths_in_importance_matrices);
    tcase_add_test(t, takes_a_vision_part);
    tcase_add_test(t, takes_a_gguf_adapter);
    tcase_add_test(t, keeps_splits_together);
    tcase_add_test(t, carries_another_licence);
    tcase_add_test(t, takes_the_text_of_the_stated_licence);
    tcase_add_test(t, names_a_licence_of_a_gguf);
    tcase_add_test(t, reads_an_adapter_without_a_card);
    tcase_add_test(t, keeps_training_runs_apart);
    tcase_add_test(t, carries_the_card_of_the_base);
    tcase_add_test(t, copies_with_progress);
    tcase_add_test(t, finds_terms_by_any_name);
    tcase_add_test(t, takes_logs_of_others);
    tcase_add_test(t, requires_a_licence);
    tcase_add_test(t, states_the_stricter_licence);
    tcase_add_test(t, states_a_merge);
    tcase_add_test(t, names_data);
    tcase_add_test(t, shows_figures);
    tcase_add_test(t, replaces_private_paths);
    tcase_add_test(t, refuses_private_paths);
    tcase_add_test(t, refuses_paths_in_safetensors);
    tcase_add_test(t, takes_safetensors_without_metadata);
    tcase_add_test(t, states_the_hash_of_every_file);
    tcase_add_test(t, states_how_it_was_made);
    tcase_add_loop_test(t, never_differs_for_lack_of_memory, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
