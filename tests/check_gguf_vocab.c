/* check_gguf_vocab.c - tokenizers as GGUF key-values: what is written for each
 * kind, that it reads back to the same ids, padding up to the embedding, and
 * what missing or wrong keys are told.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "check_main.h"

#include <string.h>

#include "core/str.h"
#include "spm_writer.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

static bise_error err;

#define TINY BISE_SRCDIR "/examples/tiny-mistral3/"
#define BLANK "\xe2\x96\x81"
#define KEY(name) "tokenizer.ggml." name

/* A SentencePiece tokenizer with bytes, a control and a user-defined piece. */
static bise_tokenizer *small_spm(void)
{
    bise_str file = { 0 };
    bise_tokenizer *t = NULL;
    spm_begin(&file, true);
    spm_piece(&file, "[INST]", 0, 3);
    spm_piece(&file, "[REF]", 0, 4);
    spm_piece(&file, BLANK "ab", -1, 0);
    spm_piece(&file, "ab", -2, 0);
    spm_piece(&file, BLANK, -3, 0);
    spm_piece(&file, "a", -4, 0);
    spm_piece(&file, "b", -5, 0);
    spm_specs(&file, &(spm_options){ 0 });
    ck_ok(bise_tokenizer_parse(&t, "x.model", file.data, file.len, &err));
    bise_str_fini(&file);
    return t;
}

static void same_ids(const bise_tokenizer *a, const bise_tokenizer *b,
                     const char *text)
{
    bise_ids x = { 0 }, y = { 0 };
    ck_ok(bise_tokenizer_encode(a, text, strlen(text), BISE_TOK_BOS, &x,
                                &err));
    ck_ok(bise_tokenizer_encode(b, text, strlen(text), BISE_TOK_BOS, &y,
                                &err));
    ck_assert_uint_eq(x.n, y.n);
    ck_assert_msg(memcmp(x.v, y.v, x.n * sizeof *x.v) == 0, "'%s'", text);
    bise_ids_fini(&x);
    bise_ids_fini(&y);
}

static void is_text(const bise_gguf_meta *m, const char *key, const char *want)
{
    size_t n = 0;
    const char *s = bise_gguf_str(m, key, &n);
    ck_assert_ptr_nonnull(s);
    ck_assert_uint_eq(n, strlen(want));
    ck_assert(memcmp(s, want, n) == 0);
}

/* Element i of an array of strings. */
static void is_token(const bise_gguf_meta *m, const char *key, int i,
                     const char *want)
{
    const bise_gguf_kv *kv = bise_gguf_get(m, key);
    uint64_t at = 0;
    size_t n = 0;
    const char *s = NULL;
    ck_assert_ptr_nonnull(kv);
    for (int k = 0; k <= i; k++)
        s = bise_gguf_array_next(kv, &at, &n);
    ck_assert_ptr_nonnull(s);
    ck_assert_msg(n == strlen(want) && memcmp(s, want, n) == 0,
                  "%s[%d] is '%.*s'", key, i, (int)n, s);
}

START_TEST(spm_writes_the_keys_of_llama)
{
    bise_tokenizer *t = small_spm();
    bise_gguf_meta m = { 0 };
    ck_ok(bise_tokenizer_to_gguf(t, t->n + 2, &m, &err));
    is_text(&m, KEY("model"), "llama");
    is_text(&m, KEY("pre"), "default");
    is_token(&m, KEY("tokens"), 0, "<unk>");
    is_token(&m, KEY("tokens"), 3, "<0x00>");
    is_token(&m, KEY("tokens"), 259, "[INST]");
    is_token(&m, KEY("tokens"), 261, BLANK "ab");
    is_token(&m, KEY("tokens"), t->n + 1, "[PAD267]");
    const bise_gguf_kv *types = bise_gguf_get(&m, KEY("token_type"));
    static const struct { uint64_t id; int type; } want[] = {
        { 0, 2 }, { 1, 3 }, { 3, 6 }, { 259, 3 }, { 260, 4 }, { 261, 1 },
        { 266, 5 }, { 267, 5 },
    };
    ck_assert_uint_eq(types->count, 268);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_int_eq((int)bise_gguf_array_number(types, want[i].id),
                         want[i].type);
    const bise_gguf_kv *scores = bise_gguf_get(&m, KEY("scores"));
    ck_assert_double_eq(bise_gguf_array_number(scores, 262), -2);
    ck_assert_ptr_null(bise_gguf_get(&m, KEY("merges")));
    ck_assert_ptr_null(bise_gguf_get(&m, KEY("padding_token_id")));
    ck_assert_int_eq(bise_gguf_int(&m, KEY("bos_token_id"), -1), 1);
    ck_assert_int_eq(bise_gguf_int(&m, KEY("eos_token_id"), -1), 2);
    ck_assert_int_eq(bise_gguf_int(&m, KEY("unknown_token_id"), -1), 0);
    ck_assert(bise_gguf_flag(&m, KEY("add_bos_token"), false));
    ck_assert(!bise_gguf_flag(&m, KEY("add_eos_token"), true));
    ck_assert(bise_gguf_flag(&m, KEY("add_space_prefix"), false));
    bise_gguf_meta_fini(&m);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(spm_reads_back)
{
    static const char *const texts[] = { "ab ab", "", " a\xc3\xa9", "[REF]ab",
                                         "[INST]", "b\nb" };
    bise_tokenizer *t = small_spm(), *back = NULL;
    bise_gguf_meta m = { 0 };
    ck_ok(bise_tokenizer_to_gguf(t, t->n, &m, &err));
    ck_ok(bise_gguf_vocab(&back, "memory", &m, &err));
    ck_assert_int_eq(bise_tokenizer_kind_of(back), BISE_TOKENIZER_SPM);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        same_ids(t, back, texts[i]);
    bise_gguf_meta_fini(&m);
    bise_tokenizer_free(t);
    bise_tokenizer_free(back);
}
END_TEST

START_TEST(tekken_writes_the_keys_of_gpt2)
{
    bise_tokenizer *t = NULL;
    bise_gguf_meta m = { 0 };
    ck_ok(bise_tokenizer_load(&t, TINY "tekken.json", &err));
    ck_ok(bise_tokenizer_to_gguf(t, 4096, &m, &err));
    is_text(&m, KEY("model"), "gpt2");
    is_text(&m, KEY("pre"), "tekken");
    is_token(&m, KEY("tokens"), 3, "[INST]");
    is_token(&m, KEY("tokens"), 32 + ' ', "\xc4\xa0");
    is_token(&m, KEY("merges"), 0, "\xc4\xa0 t");
    ck_assert_ptr_null(bise_gguf_get(&m, KEY("scores")));
    const bise_gguf_kv *types = bise_gguf_get(&m, KEY("token_type"));
    ck_assert_int_eq((int)bise_gguf_array_number(types, 31), 3);
    ck_assert_int_eq((int)bise_gguf_array_number(types, 32), 1);
    ck_assert_int_eq(bise_gguf_int(&m, KEY("padding_token_id"), -1), 11);
    ck_assert_ptr_null(bise_gguf_get(&m, KEY("add_space_prefix")));
    bise_gguf_meta_fini(&m);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(every_source_gives_the_same_ids)
{
    static const char *const texts[] = {
        "The whale, the whale! said Ahab.", "x = (1 + 2) * 30;\n\treturn x;",
        "na\xc3\xafve caf\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x98\x80",
        "   leading and trailing   ", "\r\n\r\n", "[INST] no token </s>"
    };
    bise_tokenizer *a = NULL, *b = NULL, *c = NULL, *d = NULL;
    bise_gguf_meta m = { 0 }, k = { 0 };
    ck_ok(bise_tokenizer_load(&a, TINY "tekken.json", &err));
    ck_ok(bise_tokenizer_load(&b, TINY "tokenizer.json", &err));
    ck_ok(bise_tokenizer_to_gguf(a, 4096, &m, &err));
    ck_ok(bise_tokenizer_to_gguf(b, 4096, &k, &err));
    ck_ok(bise_gguf_vocab(&c, "from tekken", &m, &err));
    ck_ok(bise_gguf_vocab(&d, "from tokenizer", &k, &err));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        same_ids(a, b, texts[i]);
        same_ids(a, c, texts[i]);
        same_ids(a, d, texts[i]);
    }
    ck_assert_int_eq(bise_tokenizer_pad(c), 11);
    ck_assert_str_eq(bise_tokenizer_special_name(d, 22), "[THINK]");
    bise_gguf_meta_fini(&m);
    bise_gguf_meta_fini(&k);
    bise_tokenizer_free(a);
    bise_tokenizer_free(b);
    bise_tokenizer_free(c);
    bise_tokenizer_free(d);
}
END_TEST

START_TEST(embedding_must_have_a_row_for_every_id)
{
    bise_tokenizer *t = small_spm();
    bise_gguf_meta m = { 0 };
    ck_fails(bise_tokenizer_to_gguf(t, t->n - 1, &m, &err), BISE_EFORMAT);
    ck_assert_msg(strstr(err.text, "has 266 ids, the embedding only 265"),
                  "%s", err.text);
    bise_gguf_meta_fini(&m);
    bise_tokenizer_free(t);
}
END_TEST

/* Break one key of a good vocabulary. */
static void set_scores_short(bise_gguf_meta *m)
{
    const float v[3] = { 0 };
    bise_gguf_set_array(m, KEY("scores"), BISE_GGUF_F32, v, 3);
}

static void set_types_text(bise_gguf_meta *m)
{
    bise_gguf_set_str(m, KEY("token_type"), "normal");
}

static void set_model_other(bise_gguf_meta *m)
{
    bise_gguf_set_str(m, KEY("model"), "bert");
}

static void set_model_gpt2(bise_gguf_meta *m)
{
    bise_gguf_set_str(m, KEY("model"), "gpt2");
}

static void set_gpt2_without_merges(bise_gguf_meta *m)
{
    bise_gguf_set_str(m, KEY("model"), "gpt2");
    bise_gguf_set_str(m, KEY("pre"), "tekken");
}

static void set_gpt2_wrong_merge(bise_gguf_meta *m)
{
    bise_str list = { 0 };
    set_gpt2_without_merges(m);
    bise_gguf_strings_begin(&list);
    bise_gguf_strings_add(&list, "a b", 3);
    bise_gguf_strings_add(&list, "a", 1);
    bise_gguf_set_strings(m, KEY("merges"), &list, 2);
    bise_str_fini(&list);
}

static void remove_tokens(bise_gguf_meta *m)
{
    bise_gguf_remove(m, KEY("tokens"));
}

static void set_tokens_number(bise_gguf_meta *m)
{
    bise_gguf_set_u32(m, KEY("tokens"), 7);
}

static void remove_model(bise_gguf_meta *m)
{
    bise_gguf_remove(m, KEY("model"));
}

static const struct { void (*change)(bise_gguf_meta *m);
                      bise_status status; const char *want; } faults[] = {
    { set_scores_short, BISE_EFORMAT, KEY("scores") },
    { set_types_text, BISE_EFORMAT, KEY("token_type") },
    { set_model_other, BISE_EUNSUPPORTED, KEY("model") },
    { set_model_gpt2, BISE_EUNSUPPORTED, KEY("pre") },
    { set_gpt2_without_merges, BISE_EFORMAT, KEY("merges") },
    { set_gpt2_wrong_merge, BISE_EFORMAT, "merge 1" },
    { remove_tokens, BISE_EFORMAT, KEY("tokens") },
    { set_tokens_number, BISE_EFORMAT, KEY("tokens") },
    { remove_model, BISE_EUNSUPPORTED, KEY("model") },
};

START_TEST(wrong_keys_are_named)
{
    bise_tokenizer *t = small_spm(), *back = NULL;
    bise_gguf_meta m = { 0 };
    ck_ok(bise_tokenizer_to_gguf(t, t->n, &m, &err));
    faults[_i].change(&m);
    ck_fails(bise_gguf_vocab(&back, "memory", &m, &err), faults[_i].status);
    ck_assert_msg(strstr(err.text, faults[_i].want), "%s", err.text);
    ck_assert_ptr_null(back);
    bise_gguf_meta_fini(&m);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(ids_out_of_range_count_as_absent)
{
    bise_tokenizer *t = small_spm(), *back = NULL;
    bise_gguf_meta m = { 0 };
    ck_ok(bise_tokenizer_to_gguf(t, t->n, &m, &err));
    /* llama.cpp's old converters wrote -1 as an unsigned number. */
    bise_gguf_set_u32(&m, KEY("padding_token_id"), UINT32_MAX);
    bise_gguf_set_u32(&m, KEY("eos_token_id"), 100000);
    ck_ok(bise_gguf_vocab(&back, "memory", &m, &err));
    ck_assert_int_eq(bise_tokenizer_pad(back), -1);
    ck_assert_int_eq(bise_tokenizer_eos(back), 2); /* by its name */
    bise_gguf_meta_fini(&m);
    bise_tokenizer_free(t);
    bise_tokenizer_free(back);
}
END_TEST

START_TEST(space_prefix_follows_its_key)
{
    bise_tokenizer *t = small_spm(), *back = NULL;
    bise_gguf_meta m = { 0 };
    bise_ids ids = { 0 };
    ck_ok(bise_tokenizer_to_gguf(t, t->n, &m, &err));
    bise_gguf_set_bool(&m, KEY("add_space_prefix"), false);
    ck_ok(bise_gguf_vocab(&back, "memory", &m, &err));
    ck_ok(bise_tokenizer_encode(back, "ab", 2, 0, &ids, &err));
    ck_assert_uint_eq(ids.n, 1);
    ck_assert_int_eq(ids.v[0], 262);
    bise_ids_fini(&ids);
    bise_gguf_meta_fini(&m);
    bise_tokenizer_free(t);
    bise_tokenizer_free(back);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gguf_vocab");
    TCase *t = tcase_create("gguf_vocab");
    tcase_add_test(t, spm_writes_the_keys_of_llama);
    tcase_add_test(t, spm_reads_back);
    tcase_add_test(t, tekken_writes_the_keys_of_gpt2);
    tcase_add_test(t, every_source_gives_the_same_ids);
    tcase_add_test(t, embedding_must_have_a_row_for_every_id);
    tcase_add_loop_test(t, wrong_keys_are_named, 0,
                        (int)(sizeof faults / sizeof *faults));
    tcase_add_test(t, ids_out_of_range_count_as_absent);
    tcase_add_test(t, space_prefix_follows_its_key);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
