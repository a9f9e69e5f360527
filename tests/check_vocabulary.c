/* check_vocabulary.c - tests of convert/vocabulary.c: rows of zeros come, rows
 * at the end go, everything else stays; sizes that would cut ids in use, GGUF
 * inputs and nonsense are refused; heads stored beside tied embeddings.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "convert/convert.h"
#include "core/file.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "pipeline/run.h"
#include "tests/check_main.h"
#include "tests/same_weights.h"

#define GOLDEN BISE_SRCDIR "/tests/golden/models/"
#define TINY BISE_SRCDIR "/examples/tiny-mistral3"
#define EMBED "model.embed_tokens.weight"
#define HEAD "lm_head.weight"

static bise_error err;
static char dir[] = "/tmp/bise-voca-XXXXXX";
static char said[512];

static void say(void *ctx, const char *text)
{
    (void)ctx;
    strncat(said, text, sizeof said - strlen(said) - 1);
}

static const bise_progress progress = { .message = say };

static void setup(void)
{
    strcpy(dir + strlen(dir) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    said[0] = 0;
}

static void teardown(void)
{
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

/* Convert with another vocabulary, an adapter merged on the way or not. */
static void resize(const char *model, const char *adapter, const char *name,
                   bise_layout to, const char *size)
{
    bise_checkpoint c;
    bise_plan p;
    bise_lora lora;
    bise_lora *list[1] = { &lora };
    bise_run_result r = { 0 };
    bise_convert_options o = { .to = to, .dtype = BISE_DTYPE_NONE,
                               .loras = list,
                               .n_loras = adapter != NULL };
    ck_ok(bise_checkpoint_open(&c, model, NULL, &err));
    if (adapter)
        ck_ok(bise_lora_load(&lora, adapter, &c, &err));
    ck_ok(bise_vocabulary_settle(&o.vocab, &c, size, &progress, &err));
    ck_ok(bise_convert_plan(&p, &c, &o, &err));
    const bise_run_options run = { .path = at(name), .stage = "convert" };
    ck_ok(bise_run(&p, &run, &r, &err));
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
    if (adapter)
        bise_lora_fini(&lora);
    bise_checkpoint_close(&c);
}

/* Rows [0, rows) of a tensor equal those of another file; the rest is zero. */
static void same_then_zero(const char *tensor, const char *was, const char *is,
                           uint64_t rows, uint64_t all)
{
    bise_st a, b;
    ck_ok(bise_st_open(&a, was, &err));
    ck_ok(bise_st_open(&b, is, &err));
    const bise_tensor *x = bise_st_find(&a, tensor);
    const bise_tensor *y = bise_st_find(&b, tensor);
    ck_assert_uint_eq(y->dims[0], all);
    ck_assert_uint_eq(y->dims[1], x->dims[1]);
    ck_assert_int_eq(x->dtype, y->dtype);
    const size_t row = (size_t)(x->bytes / x->dims[0]);
    ck_assert_mem_eq(x->data, y->data, row * rows);
    const uint8_t *rest = (const uint8_t *)y->data + row * rows;
    for (size_t i = 0; i < row * (all - rows); i++)
        ck_assert_int_eq(rest[i], 0);
    bise_st_close(&a);
    bise_st_close(&b);
}

static int64_t config_number(const char *file, const char *key)
{
    bise_json *j = NULL;
    int64_t n = -1;
    ck_ok(bise_json_load(&j, file, &err));
    (void)bise_json_integer(bise_json_get(j, key), &n);
    bise_json_free(j);
    return n;
}

/* 160 rows become 170 and 160 again: the same tensors as before. */
START_TEST(rows_of_zeros_come_and_go)
{
    const char *was = GOLDEN "ministral3/model.safetensors";
    resize(GOLDEN "ministral3", NULL, "more", BISE_TO_SAME, "170");
    ck_assert_ptr_nonnull(strstr(said, "160 rows padded to 170 with zeros"));
    same_then_zero(EMBED, was, at("more/model.safetensors"), 160, 170);
    same_then_zero(HEAD, was, at("more/model.safetensors"), 160, 170);
    ck_assert_int_eq(config_number(at("more/config.json"), "vocab_size"), 170);
    said[0] = 0;
    resize(at("more"), NULL, "again", BISE_TO_SAME, "160");
    ck_assert_ptr_nonnull(strstr(said, "170 rows cut to 160"));
    same_tensors(was, at("again/model.safetensors"));
}
END_TEST

START_TEST(other_layouts_say_the_new_size)
{
    resize(GOLDEN "ministral3", NULL, "native", BISE_TO_NATIVE, "170");
    ck_assert_int_eq(config_number(at("native/params.json"), "vocab_size"),
                     170);
    bise_gguf g;
    resize(TINY, NULL, "m.gguf", BISE_TO_GGUF, "4160");
    ck_ok(bise_gguf_open(&g, at("m.gguf"), &err));
    ck_assert_int_eq(bise_gguf_int(&g.meta, "mistral3.vocab_size", -1), 4160);
    ck_assert_uint_eq(bise_gguf_get(&g.meta, "tokenizer.ggml.tokens")->count,
                      4160);
    ck_assert_uint_eq(bise_gguf_find(&g, "token_embd.weight")->dims[0], 4160);
    bise_gguf_close(&g);
}
END_TEST

/* A tied model has one table, of which an untouched type stays. */
START_TEST(a_tied_model_has_one_table)
{
    resize(TINY, NULL, "more", BISE_TO_SAME, "4100");
    same_then_zero(EMBED, TINY "/model.safetensors",
                   at("more/model.safetensors"), 4096, 4100);
    said[0] = 0;
    resize(at("more"), NULL, "less", BISE_TO_SAME, "tokenizer");
    ck_assert_ptr_nonnull(strstr(said, "4100 rows cut to 4096"));
    ck_assert_int_eq(config_number(at("less/config.json"), "vocab_size"),
                     4096);
}
END_TEST

/* The head of save-lm-head is a whole tensor of the adapter. */
START_TEST(merged_tables_are_padded_too)
{
    const char *adapter = BISE_SRCDIR "/tests/golden/lora/save-lm-head";
    resize(GOLDEN "ministral3", adapter, "plain", BISE_TO_SAME, NULL);
    resize(GOLDEN "ministral3", adapter, "more", BISE_TO_SAME, "192");
    same_then_zero(HEAD, at("plain/model.safetensors"),
                   at("more/model.safetensors"), 160, 192);
}
END_TEST

static const struct { const char *size, *says; } bad[] = {
    { "4095", "would cut off ids of the tokenizer, which has 4096" },
    { "0", "'0' is not a number of rows" },
    { "-5", "'-5' is not a number of rows" },
    { "many", "'many' is not a number of rows" },
    { "4100x", "'4100x' is not a number of rows" },
    { "", "'' is not a number of rows" },
    { "99999999", "'99999999' is not a number of rows" },
};

START_TEST(sizes_that_make_no_sense_are_refused)
{
    bise_checkpoint c;
    int32_t rows = 7;
    ck_ok(bise_checkpoint_open(&c, TINY, NULL, &err));
    ck_assert_int_eq(bise_vocabulary_settle(&rows, &c, bad[_i].size, NULL,
                                            &err), BISE_EINVAL);
    ck_assert_msg(strstr(err.text, bad[_i].says) != NULL, "%s", err.text);
    ck_assert_int_eq(rows, 0);
    bise_checkpoint_close(&c);
}
END_TEST

START_TEST(inputs_without_a_table_of_ids_are_refused)
{
    bise_checkpoint c;
    int32_t rows;
    ck_ok(bise_checkpoint_open(&c, GOLDEN "ministral3", NULL, &err));
    ck_assert_int_eq(bise_vocabulary_settle(&rows, &c, "tokenizer", NULL,
                                            &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "there is no tokenizer"));
    bise_checkpoint_close(&c);
    resize(GOLDEN "ministral3", NULL, "m.gguf", BISE_TO_GGUF, NULL);
    bise_error_init(&err);
    ck_ok(bise_checkpoint_open(&c, at("m.gguf"), NULL, &err));
    ck_assert_int_eq(bise_vocabulary_settle(&rows, &c, "170", NULL, &err),
                     BISE_EUNSUPPORTED);
    bise_checkpoint_close(&c);
}
END_TEST

/* ---- heads beside tied embeddings ---- */

/* Copy a tied golden model and store a head with it: the embedding itself, or
 * the embedding with one byte changed in its first row. */
static void store_head(const char *name, bool copy)
{
    bise_st st;
    bise_str header = { 0 }, bytes = { 0 }, file = { 0 };
    bise_tensor list[32];
    uint64_t data = 0;
    ck_ok(bise_st_open(&st, GOLDEN "ministral3-tied/model.safetensors", &err));
    const size_t n = st.n_tensors;
    ck_assert_uint_lt(n, 31);
    memcpy(list, st.tensors, n * sizeof *list);
    list[n] = *bise_st_find(&st, EMBED);
    list[n].name = HEAD;
    ck_ok(bise_st_header(&header, NULL, list, n + 1, &data, &err));
    bise_str_add(&file, bise_str_get(&header), header.len);
    for (size_t i = 0; i <= n; i++) {
        const size_t first = file.len;
        bise_str_add(&file, list[i].data, (size_t)list[i].bytes);
        if (i == n && !copy)
            file.data[first + 2] ^= 1;
    }
    char path[300];
    ck_ok(bise_mkdir(at(name), &err));
    snprintf(path, sizeof path, "%s/model.safetensors", at(name));
    ck_ok(bise_file_write(path, file.data, file.len, &err));
    ck_ok(bise_file_read(&bytes, GOLDEN "ministral3-tied/config.json", &err));
    snprintf(path, sizeof path, "%s/config.json", at(name));
    ck_ok(bise_file_write(path, bytes.data, bytes.len, &err));
    bise_str_fini(&header);
    bise_str_fini(&bytes);
    bise_str_fini(&file);
    bise_st_close(&st);
}

/* A copy is left out of every output, so that it cannot go stale; another head
 * is kept, and the output's config no longer ties. */
START_TEST(a_head_beside_a_tied_embedding)
{
    const bool copy = _i == 0;
    bise_checkpoint c;
    bise_json *config = NULL;
    store_head("model", copy);
    ck_ok(bise_checkpoint_open(&c, at("model"), &progress, &err));
    ck_assert_int_eq(c.config.tied, copy);
    ck_assert_ptr_nonnull(strstr(said, copy ? "is left out" : "it is kept"));
    bise_checkpoint_close(&c);
    resize(at("model"), NULL, "out", BISE_TO_SAME, NULL);
    bise_st st;
    ck_ok(bise_st_open(&st, at("out/model.safetensors"), &err));
    ck_assert((bise_st_find(&st, HEAD) == NULL) == copy);
    bise_st_close(&st);
    ck_ok(bise_json_load(&config, at("out/config.json"), &err));
    ck_assert_int_eq(bise_json_bool(bise_json_get(config,
                                                  "tie_word_embeddings"),
                                    !copy), copy);
    bise_json_free(config);
    bise_gguf g;
    resize(at("model"), NULL, "m.gguf", BISE_TO_GGUF, NULL);
    ck_ok(bise_gguf_open(&g, at("m.gguf"), &err));
    ck_assert((bise_gguf_find(&g, "output.weight") == NULL) == copy);
    bise_gguf_close(&g);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("vocabulary");
    TCase *t = tcase_create("vocabulary");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);   /* a busy disk syncs slowly */
    tcase_add_test(t, rows_of_zeros_come_and_go);
    tcase_add_test(t, other_layouts_say_the_new_size);
    tcase_add_test(t, a_tied_model_has_one_table);
    tcase_add_test(t, merged_tables_are_padded_too);
    tcase_add_loop_test(t, sizes_that_make_no_sense_are_refused, 0,
                        (int)(sizeof bad / sizeof *bad));
    tcase_add_test(t, inputs_without_a_table_of_ids_are_refused);
    tcase_add_loop_test(t, a_head_beside_a_tied_embedding, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
