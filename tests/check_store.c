/* check_store.c - opening whatever a path holds: each layout is found by
 * content, missing and mixed-up shards are named, GGUF splits are checked, and
 * side files are listed and read. Every directory is made in /tmp.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/store.h"
#include "tests/check_main.h"

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/bise-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

/* dir/name in a static buffer, good until the next call but one. */
static const char *at(const char *name)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void put_text(const char *name, const char *text)
{
    bise_error err;
    ck_ok(bise_file_write(at(name), text, strlen(text), &err));
}

/* A safetensors file with one F32 tensor [2] = { value, value }. */
static void put_st(const char *name, const char *tensor, float value)
{
    bise_error err;
    const float data[2] = { value, value };
    const bise_tensor t = { .name = tensor, .dtype = BISE_DTYPE_F32,
                            .n_dims = 1, .dims = { 2 }, .data = data };
    ck_ok(bise_st_save(at(name), NULL, &t, 1, &err));
}

/* A GGUF with one tensor; split numbers when count > 0. */
static void put_gguf(const char *name, const char *tensor, int no, int count,
                     int total)
{
    bise_error err;
    const float data[2] = { (float)no, 1 };
    const bise_tensor t = { .name = tensor, .dtype = BISE_DTYPE_F32,
                            .n_dims = 1, .dims = { 2 }, .data = data };
    bise_gguf_meta m = { 0 };
    if (no == 0)
        bise_gguf_set_str(&m, "general.architecture", "mistral3");
    if (count) {
        bise_gguf_set_u16(&m, "split.no", (uint16_t)no);
        bise_gguf_set_u16(&m, "split.count", (uint16_t)count);
        bise_gguf_set_i32(&m, "split.tensors.count", total);
    }
    ck_ok(bise_gguf_save(at(name), &m, &t, 1, &err));
    bise_gguf_meta_fini(&m);
}

/* First float of a tensor. */
static float first(bise_store *s, const char *name)
{
    bise_error err;
    const void *data = NULL;
    float v;
    const bise_tensor *t = bise_store_find(s, name);
    ck_assert_msg(t != NULL, "no tensor %s", name);
    ck_ok(bise_store_data(s, t, &data, &err));
    memcpy(&v, data, sizeof v);
    return v;
}

START_TEST(opens_a_single_directory)
{
    bise_error err;
    bise_store *s = NULL;
    put_st("model.safetensors", "w", 3);
    put_text("config.json", "{\"model_type\": \"mistral\"}");
    put_text("README.md", "card");
    put_st("expected.safetensors", "other", 4);
    ck_ok(bise_store_open(&s, dir, &err));
    ck_assert_str_eq(bise_store_format(s), "safetensors");
    ck_assert_int_eq(bise_store_kind_of(s), BISE_STORE_SAFETENSORS);
    ck_assert_uint_eq(bise_store_count(s), 1);
    ck_assert(first(s, "w") == 3);
    ck_assert_str_eq(bise_store_tensor_file(s, bise_store_at(s, 0)),
                     at("model.safetensors"));
    ck_assert_uint_eq(bise_store_file_count(s), 2);
    ck_assert_str_eq(bise_store_file_at(s, 0), "README.md");
    ck_assert(bise_store_has_file(s, "config.json"));
    ck_assert(!bise_store_has_file(s, "params.json"));
    ck_assert_str_eq(bise_store_meta(s, "format"), "pt");
    bise_json *v = NULL;
    ck_ok(bise_store_json(s, "config.json", &v, &err));
    ck_assert_str_eq(bise_json_string(bise_json_get(v, "model_type"), NULL),
                     "mistral");
    bise_json_free(v);
    ck_ok(bise_store_json(s, "absent.json", &v, &err));
    ck_assert_ptr_null(v);
    bise_store_close(s);
}
END_TEST

START_TEST(names_the_invalid_side_file)
{
    bise_error err;
    bise_store *s = NULL;
    bise_json *v = NULL;
    put_st("model.safetensors", "w", 3);
    put_text("config.json", "{\"a\": }");
    ck_ok(bise_store_open(&s, dir, &err));
    ck_fails(bise_store_json(s, "config.json", &v, &err), BISE_EFORMAT);
    ck_assert_str_eq(err.path, at("config.json"));
    bise_store_close(s);
}
END_TEST

START_TEST(opens_shards_by_index)
{
    bise_error err;
    bise_store *s = NULL;
    put_st("model-00002-of-00002.safetensors", "b", 2);
    put_st("model-00001-of-00002.safetensors", "a", 1);
    put_text("model.safetensors.index.json",
             "{\"weight_map\": {\"b\": \"model-00002-of-00002.safetensors\","
             " \"a\": \"model-00001-of-00002.safetensors\"}}");
    ck_ok(bise_store_open(&s, dir, &err));
    ck_assert_uint_eq(bise_store_count(s), 2);
    ck_assert_str_eq(bise_store_at(s, 0)->name, "a");
    ck_assert(first(s, "b") == 2);
    ck_assert_uint_eq(bise_store_file_count(s), 0);
    bise_store_close(s);
}
END_TEST

/* weight_map values that must be refused, and what is said. */
static const struct {
    const char *index;
    bise_status status;
    const char *text;
} bad_index[] = {
    { "{\"weight_map\": {\"a\": \"gone.safetensors\"}}", BISE_EIO,
      "missing weight file 'gone.safetensors'" },
    { "{\"weight_map\": {\"a\": \"../1.safetensors\"}}", BISE_EFORMAT,
      "not a plain file name" },
    { "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", BISE_EFORMAT,
      "not a plain file name" },
    { "{\"weight_map\": {\"a\": \"..\"}}", BISE_EFORMAT, "plain" },
    { "{\"weight_map\": {\"a\": \"\"}}", BISE_EFORMAT, "empty" },
    { "{\"weight_map\": {\"a\": 1}}", BISE_EFORMAT, "not a file name" },
    { "{\"weight_map\": {\"z\": \"1.safetensors\"}}", BISE_EFORMAT,
      "does not hold it" },
    { "{\"weight_map\": {}}", BISE_EFORMAT, "no 'weight_map'" },
    { "{}", BISE_EFORMAT, "no 'weight_map'" },
    { "[", BISE_EFORMAT, "invalid JSON" },
};

START_TEST(refuses_bad_index)
{
    bise_error err;
    bise_store *s = NULL;
    put_st("1.safetensors", "a", 1);
    put_text("model.safetensors.index.json", bad_index[_i].index);
    ck_fails(bise_store_open(&s, dir, &err), bad_index[_i].status);
    ck_assert_msg(strstr(err.text, bad_index[_i].text) != NULL, "%s", err.text);
    ck_assert_ptr_nonnull(strstr(err.path, dir));
    ck_assert_ptr_null(s);
}
END_TEST

START_TEST(opens_parts_without_index)
{
    bise_error err;
    bise_store *s = NULL;
    put_st("model-00001-of-00002.safetensors", "a", 1);
    ck_fails(bise_store_open(&s, dir, &err), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "model-00002-of-00002"));
    put_st("model-00002-of-00002.safetensors", "b", 2);
    ck_ok(bise_store_open(&s, dir, &err));
    ck_assert_uint_eq(bise_store_count(s), 2);
    bise_store_close(s);
    put_st("model-00002-of-00002.safetensors", "a", 2);
    ck_fails(bise_store_open(&s, dir, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "two files"));
    ck_assert_str_eq(err.tensor, "a");
}
END_TEST

START_TEST(opens_native_and_prefers_hf)
{
    bise_error err;
    bise_store *s = NULL;
    put_st("consolidated.safetensors", "tok_embeddings.weight", 5);
    ck_fails(bise_store_open(&s, dir, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "params.json"));
    put_text("params.json", "{}");
    ck_ok(bise_store_open(&s, dir, &err));
    ck_assert_str_eq(bise_store_format(s), "native");
    ck_assert(first(s, "tok_embeddings.weight") == 5);
    bise_store_close(s);
    /* Other safetensors files beside it change nothing. */
    put_st("adapter_model.safetensors", "a", 1);
    put_st("extra.safetensors", "b", 2);
    ck_ok(bise_store_open(&s, dir, &err));
    ck_assert_str_eq(bise_store_format(s), "native");
    ck_assert_uint_eq(bise_store_count(s), 1);
    bise_store_close(s);
    put_st("model.safetensors", "model.embed_tokens.weight", 6);
    ck_ok(bise_store_open(&s, dir, &err));
    ck_assert_str_eq(bise_store_format(s), "safetensors");
    ck_assert_uint_eq(bise_store_count(s), 1);
    bise_store_close(s);
}
END_TEST

/* Parts without an index are the model, whatever else lies beside them. */
START_TEST(parts_of_a_model_win_over_other_files)
{
    bise_error err;
    bise_store *s = NULL;
    put_st("model-00001-of-00002.safetensors", "a", 1);
    put_st("model-00002-of-00002.safetensors", "b", 2);
    put_st("adapter_model.safetensors", "c", 3);
    put_st("extra.safetensors", "d", 4);
    ck_ok(bise_store_open(&s, dir, &err));
    ck_assert_uint_eq(bise_store_count(s), 2);
    ck_assert(first(s, "a") == 1 && first(s, "b") == 2);
    bise_store_close(s);
}
END_TEST

START_TEST(opens_native_shards_by_index)
{
    bise_error err;
    bise_store *s = NULL;
    put_text("params.json", "{}");
    put_st("consolidated-00001-of-00002.safetensors", "a", 1);
    put_st("consolidated-00002-of-00002.safetensors", "b", 2);
    put_text("consolidated.safetensors.index.json", "{\"weight_map\": {"
             "\"a\": \"consolidated-00001-of-00002.safetensors\","
             "\"b\": \"consolidated-00002-of-00002.safetensors\"}}");
    ck_ok(bise_store_open(&s, dir, &err));
    ck_assert_int_eq(bise_store_kind_of(s), BISE_STORE_NATIVE);
    ck_assert_uint_eq(bise_store_count(s), 2);
    bise_store_close(s);
}
END_TEST

START_TEST(opens_adapters_and_single_files)
{
    bise_error err;
    bise_store *s = NULL;
    put_st("adapter_model.safetensors", "x.lora_A.weight", 7);
    put_text("adapter_config.json", "{\"r\": 4}");
    ck_ok(bise_store_open(&s, dir, &err));
    ck_assert(first(s, "x.lora_A.weight") == 7);
    bise_store_close(s);
    ck_ok(bise_store_open(&s, at("adapter_model.safetensors"), &err));
    ck_assert_uint_eq(bise_store_count(s), 1);
    ck_assert_uint_eq(bise_store_file_count(s), 0);
    ck_assert(bise_store_has_file(s, "adapter_config.json"));
    ck_assert_str_eq(bise_store_path(s), at("adapter_model.safetensors"));
    bise_store_close(s);
}
END_TEST

START_TEST(finds_formats_by_content)
{
    bise_error err;
    bise_store *s = NULL;
    put_gguf("weights.data", "t", 0, 0, 0);
    ck_ok(bise_store_open(&s, at("weights.data"), &err));
    ck_assert_str_eq(bise_store_format(s), "gguf");
    ck_assert_ptr_nonnull(bise_store_gguf(s));
    ck_assert(!bise_store_has_file(s, "weights.data"));
    bise_store_close(s);
    put_st("weights.data", "t", 1);
    ck_ok(bise_store_open(&s, at("weights.data"), &err));
    ck_assert_str_eq(bise_store_format(s), "safetensors");
    ck_assert_ptr_null(bise_store_gguf(s));
    bise_store_close(s);
    put_text("weights.data", "hello, I am not a model");
    ck_fails(bise_store_open(&s, at("weights.data"), &err), BISE_EFORMAT);
    ck_fails(bise_store_open(&s, dir, &err), BISE_EFORMAT);
    put_text("pytorch_model.bin", "PK");
    ck_fails(bise_store_open(&s, dir, &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.hint, "pickle"));
    ck_fails(bise_store_open(&s, at("nothing"), &err), BISE_EIO);
    put_text("x.gguf", "GGU");
    ck_fails(bise_store_open(&s, at("x.gguf"), &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "magic"));
}
END_TEST

START_TEST(opens_gguf_splits)
{
    bise_error err;
    bise_store *s = NULL;
    put_gguf("m-00001-of-00003.gguf", "a", 0, 3, 3);
    put_gguf("m-00002-of-00003.gguf", "b", 1, 3, 3);
    ck_fails(bise_store_open(&s, at("m-00001-of-00003.gguf"), &err), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "'m-00003-of-00003.gguf'"));
    put_gguf("m-00003-of-00003.gguf", "c", 2, 3, 3);
    ck_ok(bise_store_open(&s, at("m-00001-of-00003.gguf"), &err));
    ck_assert_uint_eq(bise_store_count(s), 3);
    ck_assert(first(s, "c") == 2);
    ck_assert_str_eq(bise_store_tensor_file(s, bise_store_at(s, 2)),
                     at("m-00003-of-00003.gguf"));
    bise_store_close(s);
    ck_ok(bise_store_open(&s, dir, &err));      /* the folder holds one model */
    ck_assert_uint_eq(bise_store_count(s), 3);
    bise_store_close(s);
    ck_fails(bise_store_open(&s, at("m-00002-of-00003.gguf"), &err),
             BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.hint, "first file"));
}
END_TEST

START_TEST(refuses_mixed_up_splits)
{
    bise_error err;
    bise_store *s = NULL;
    put_gguf("m-00001-of-00002.gguf", "a", 0, 2, 2);
    put_gguf("m-00002-of-00002.gguf", "b", 0, 2, 2);
    ck_fails(bise_store_open(&s, at("m-00001-of-00002.gguf"), &err),
             BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "split.no is 0, 1 is needed"));
    put_gguf("m-00002-of-00002.gguf", "b", 1, 3, 2);
    ck_fails(bise_store_open(&s, at("m-00001-of-00002.gguf"), &err),
             BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "split.count"));
    put_gguf("m-00001-of-00002.gguf", "a", 0, 2, 5);
    put_gguf("m-00002-of-00002.gguf", "b", 1, 2, 5);
    ck_fails(bise_store_open(&s, at("m-00001-of-00002.gguf"), &err),
             BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "split.tensors.count"));
    put_gguf("other.gguf", "a", 0, 2, 2);
    ck_fails(bise_store_open(&s, at("other.gguf"), &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "the name"));
}
END_TEST

START_TEST(reads_slices_in_place)
{
    bise_error err;
    bise_store *s = NULL;
    const void *part = NULL;
    float v;
    put_st("model.safetensors", "w", 3);
    ck_ok(bise_store_open(&s, dir, &err));
    const bise_tensor *t = bise_store_at(s, 0);
    bise_store_ahead(s, t, 0, t->bytes);
    ck_ok(bise_store_read(s, t, 4, 4, NULL, &part, &err));
    memcpy(&v, part, sizeof v);
    ck_assert(v == 3);
    bise_store_release(s, t, 0, t->bytes);
    ck_assert(first(s, "w") == 3);              /* pages come back */
    bise_store_close(s);
}
END_TEST

/* Kilobytes of a mapped file that are resident. */
static long resident_kb(const char *file)
{
    char line[512];
    long kb = 0, n;
    bool inside = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (strstr(line, file))
            inside = true;
        if (inside && sscanf(line, "Rss: %ld kB", &n) == 1) {
            kb += n;
            inside = false;
        }
    }
    if (f)
        fclose(f);
    return kb;
}

/* One value that is read may map a large part of a file. A page at the end
 * may stay. */
START_TEST(releases_all_that_is_mapped)
{
    enum { N = 1 << 20 };
    bise_error err;
    bise_store *s;
    float *data = calloc(N, sizeof *data);
    data[0] = 3;
    const bise_tensor t = { .name = "w", .dtype = BISE_DTYPE_F32, .n_dims = 1,
                            .dims = { N }, .data = data };
    ck_ok(bise_st_save(at("model.safetensors"), NULL, &t, 1, &err));
    free(data);
    ck_ok(bise_store_open(&s, dir, &err));
    const void *v;
    ck_ok(bise_store_data(s, bise_store_at(s, 0), &v, &err));
    float sum = 0;
    for (int i = 0; i < N; i++)
        sum += ((const float *)v)[i];
    ck_assert(sum == 3);
    ck_assert_int_ge(resident_kb("model.safetensors"), 4096);
    bise_store_release_all(s);
    ck_assert_int_le(resident_kb("model.safetensors"), 64);
    ck_assert(first(s, "w") == 3);
    bise_store_close(s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("store");
    TCase *t = tcase_create("store");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, opens_a_single_directory);
    tcase_add_test(t, names_the_invalid_side_file);
    tcase_add_test(t, opens_shards_by_index);
    tcase_add_loop_test(t, refuses_bad_index, 0,
                        sizeof bad_index / sizeof *bad_index);
    tcase_add_test(t, opens_parts_without_index);
    tcase_add_test(t, opens_native_and_prefers_hf);
    tcase_add_test(t, parts_of_a_model_win_over_other_files);
    tcase_add_test(t, opens_native_shards_by_index);
    tcase_add_test(t, opens_adapters_and_single_files);
    tcase_add_test(t, finds_formats_by_content);
    tcase_add_test(t, opens_gguf_splits);
    tcase_add_test(t, refuses_mixed_up_splits);
    tcase_add_test(t, reads_slices_in_place);
    tcase_add_test(t, releases_all_that_is_mapped);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
