/* check_hf_tokenizer.c - tokenizer.json in small: both forms (byte-level and
 * SentencePiece-style) written here, what they encode, how blanks, added
 * tokens, unknown characters and ignore_merges work, and what each broken or
 * unknown field is told. The real files are in check_tokenizer.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "check_main.h"

#include <string.h>

#include "core/str.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

static bise_error err;

/* The parts of a tokenizer.json; NULL takes the default of the form. */
typedef struct parts {
    const char *added, *normalizer, *pre, *vocab, *merges, *model;
} parts;

#define SPLIT_PRE \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\"," \
    "\"pattern\":{\"Regex\":\"[a-z]+|\\\\s+\"},\"behavior\":\"Isolated\"," \
    "\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false," \
    "\"use_regex\":false}]}"

#define META_PRE(scheme) \
    "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"," \
    "\"prepend_scheme\":\"" scheme "\",\"split\":false}"

#define LEGACY_NORM \
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\"," \
    "\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":" \
    "{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]}"

static const char *or(const char *s, const char *other)
{
    return s ? s : other;
}

/* Byte-level: <s> 0, letters, merges; \u0120 spells the blank. */
static void byte_form(bise_str *out, const parts *p)
{
    bise_str_printf(out, "{\"added_tokens\":%s,\"normalizer\":%s,"
                    "\"pre_tokenizer\":%s,\"model\":{\"type\":\"BPE\",%s"
                    "\"vocab\":%s,\"merges\":%s}}",
                    or(p->added, "[{\"id\":0,\"content\":\"<s>\",\"special\":"
                       "true},{\"id\":9,\"content\":\"<x>\",\"special\":"
                       "false}]"),
                    or(p->normalizer, "null"), or(p->pre, SPLIT_PRE),
                    or(p->model, "\"byte_fallback\":false,"),
                    or(p->vocab, "{\"<s>\":0,\"a\":1,\"b\":2,\"c\":3,\"ab\":4,"
                       "\"bc\":5,\"abc\":6,\"\xc4\xa0\":7,\"cab\":8}"),
                    or(p->merges, "[\"b c\",\"a b\",\"ab c\"]"));
}

/* SentencePiece form: <unk> 0, <s> 1, bytes by name, letters, merges. */
static void spm_form(bise_str *out, const parts *p)
{
    bise_str vocab = { 0 };
    bise_str_puts(&vocab, "{\"<unk>\":0,\"<s>\":1");
    for (int b = 0; b < 256; b++)
        bise_str_printf(&vocab, ",\"<0x%02X>\":%d", (unsigned)b, b + 2);
    bise_str_puts(&vocab, ",\"a\":258,\"b\":259,\"ab\":260,\"\xe2\x96\x81\":"
                          "261,\"\xe2\x96\x81" "ab\":262}");
    bise_str_printf(out, "{\"added_tokens\":%s,\"normalizer\":%s,"
                    "\"pre_tokenizer\":%s,\"model\":{\"type\":\"BPE\",%s"
                    "\"vocab\":%s,\"merges\":%s}}",
                    or(p->added, "[{\"id\":1,\"content\":\"<s>\",\"special\":"
                       "true}]"),
                    or(p->normalizer, "null"),
                    or(p->pre, META_PRE("first")),
                    or(p->model, "\"byte_fallback\":true,\"fuse_unk\":true,"
                       "\"unk_token\":\"<unk>\","),
                    or(p->vocab, bise_str_get(&vocab)),
                    or(p->merges, "[[\"a\",\"b\"],[\"\xe2\x96\x81\",\"ab\"]]"));
    bise_str_fini(&vocab);
}

typedef void form_fn(bise_str *out, const parts *p);

static bise_status parse(bise_tokenizer **t, form_fn *form, const parts *p)
{
    bise_str text = { 0 };
    form(&text, p);
    ck_assert(bise_str_ok(&text));
    *t = NULL;
    bise_error_init(&err);
    const bise_status s = bise_tokenizer_parse(t, "tokenizer.json", text.data,
                                               text.len, &err);
    bise_str_fini(&text);
    return s;
}

static bise_tokenizer *make(form_fn *form, parts p)
{
    bise_tokenizer *t;
    const bise_status s = parse(&t, form, &p);
    ck_assert_msg(s == BISE_OK, "%s", err.text);
    return t;
}

static void is_ids(const bise_tokenizer *t, const char *text, unsigned flags,
                   const int32_t *want)
{
    bise_ids ids = { 0 };
    size_t n = 0;
    ck_ok(bise_tokenizer_encode(t, text, strlen(text), flags, &ids, &err));
    while (want[n] >= 0)
        n++;
    for (size_t i = 0; i < n && i < ids.n; i++)
        ck_assert_msg(ids.v[i] == want[i], "id %zu of '%s' is %d, not %d", i,
                      text, ids.v[i], want[i]);
    ck_assert_msg(ids.n == n, "'%s' gives %zu ids, not %zu", text, ids.n, n);
    bise_ids_fini(&ids);
}

#define IS_IDS(t, text, flags, ...) \
    is_ids(t, text, flags, (const int32_t[]){ __VA_ARGS__, -1 })

START_TEST(merges_apply_in_their_order)
{
    bise_tokenizer *t = make(byte_form, (parts){ 0 });
    ck_assert_int_eq(bise_tokenizer_kind_of(t), BISE_TOKENIZER_BPE);
    ck_assert_int_eq(bise_tokenizer_vocab(t), 10);
    ck_assert_int_eq(bise_tokenizer_bos(t), 0);
    IS_IDS(t, "ab", 0, 4);
    /* b c is the best pair, so a b never meets. */
    IS_IDS(t, "abc", 0, 1, 5);
    IS_IDS(t, "a b", 0, 1, 7, 2);
    /* cab is a token, but no merge leads to it. */
    IS_IDS(t, "cab", 0, 3, 4);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(ignore_merges_takes_whole_chunks)
{
    bise_tokenizer *t = make(byte_form, (parts){
        .model = "\"byte_fallback\":false,\"ignore_merges\":true," });
    IS_IDS(t, "cab", 0, 8);
    IS_IDS(t, "abc", 0, 6);
    IS_IDS(t, "abca", 0, 1, 5, 1);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(added_tokens_are_cut_out_unless_special)
{
    bise_tokenizer *t = make(byte_form, (parts){ 0 });
    IS_IDS(t, "a<x>b", 0, 1, 9, 2);
    IS_IDS(t, "<s>a", BISE_TOK_PARSE_SPECIAL, 0, 1);
    /* As text the letters of <s> are no tokens here and there is no unk. */
    IS_IDS(t, "<s>a", 0, 1);
    size_t n;
    ck_assert_str_eq(bise_tokenizer_piece(t, 9, &n), "<x>");
    ck_assert_str_eq(bise_tokenizer_special_name(t, 0), "<s>");
    ck_assert_int_eq(bise_tokenizer_special(t, "<x>"), -1);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(holes_become_unused_tokens)
{
    bise_tokenizer *t = make(byte_form, (parts){
        .vocab = "{\"a\":2,\"b\":5,\"ab\":6}", .merges = "[\"a b\"]",
        .added = "[]" });
    ck_assert_int_eq(bise_tokenizer_vocab(t), 7);
    IS_IDS(t, "ab", 0, 6);
    ck_assert_int_eq(bise_tokenizer_bos(t), -1);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(metaspace_prepends_unless_there_is_a_blank)
{
    bise_tokenizer *t = make(spm_form, (parts){ 0 });
    ck_assert_int_eq(bise_tokenizer_kind_of(t), BISE_TOKENIZER_SPM);
    IS_IDS(t, "ab", 0, 262);
    IS_IDS(t, " ab", 0, 262);
    IS_IDS(t, "  ab", 0, 261, 262);
    IS_IDS(t, "ab", BISE_TOK_PLAIN_SPM, 260);
    bise_tokenizer_free(t);
    t = make(spm_form, (parts){ .pre = META_PRE("never") });
    IS_IDS(t, "ab", 0, 260);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(legacy_normalizers_always_prepend)
{
    bise_tokenizer *t = make(spm_form, (parts){ .normalizer = LEGACY_NORM,
                                                .pre = "null" });
    IS_IDS(t, "ab", 0, 262);
    IS_IDS(t, " ab", 0, 261, 262);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(unknown_characters_fall_back_to_bytes)
{
    bise_tokenizer *t = make(spm_form, (parts){ .pre = META_PRE("never") });
    IS_IDS(t, "a\xc3\xa9", 0, 258, 2 + 0xc3, 2 + 0xa9);
    IS_IDS(t, "<unk>", 0, 2 + '<', 2 + 'u', 2 + 'n', 2 + 'k', 2 + '>');
    ck_assert_int_eq(bise_tokenizer_unk(t), 0);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(decoding_gives_the_text_back)
{
    static const char *const texts[] = { "ab", "a b ab", "b", "\xc3\xa9 a",
                                         "a\n\nb" };
    bise_tokenizer *t = make(spm_form, (parts){ 0 });
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        bise_ids ids = { 0 };
        bise_str out = { 0 };
        ck_ok(bise_tokenizer_encode(t, texts[i], strlen(texts[i]), 0, &ids,
                                    &err));
        ck_ok(bise_tokenizer_decode(t, ids.v, ids.n, false, &out, &err));
        ck_assert_str_eq(bise_str_get(&out), texts[i]);
        bise_str_fini(&out);
        bise_ids_fini(&ids);
    }
    bise_tokenizer_free(t);
}
END_TEST

/* Faults of the byte-level form, and what the message must name. */
static const struct { parts p; bise_status status; const char *want; }
    faults[] = {
    { { .vocab = "[]" }, BISE_EFORMAT, "'model.vocab'" },
    { { .vocab = "{\"a\":-1}" }, BISE_EFORMAT, "'model.vocab.a'" },
    { { .vocab = "{\"a\":\"x\"}" }, BISE_EFORMAT, "'model.vocab.a'" },
    { { .vocab = "{\"a\":99999999}" }, BISE_EFORMAT, "'model.vocab.a'" },
    { { .vocab = "{\"a\":1,\"b\":1}", .merges = "[]" }, BISE_EFORMAT,
      "the id of another token" },
    { { .vocab = "{}", .added = "[]", .merges = "[]" }, BISE_EFORMAT,
      "vocabulary of 0 ids" },
    { { .merges = "{}" }, BISE_EFORMAT, "'model.merges'" },
    { { .merges = "null" }, BISE_EFORMAT, "'model.merges'" },
    { { .merges = "[\"ab\"]" }, BISE_EFORMAT, "'model.merges[0]'" },
    { { .merges = "[\"a b\",7]" }, BISE_EFORMAT, "'model.merges[1]'" },
    { { .merges = "[[\"a\"]]" }, BISE_EFORMAT, "'model.merges[0]'" },
    { { .merges = "[\"a z\"]" }, BISE_EFORMAT, "'z'" },
    { { .merges = "[\"c c\"]" }, BISE_EFORMAT, "merge 0" },
    { { .added = "[{\"content\":\"y\"}]" }, BISE_EFORMAT,
      "'added_tokens[0].id'" },
    { { .added = "[{\"id\":1}]" }, BISE_EFORMAT,
      "'added_tokens[0].content'" },
    { { .pre = "null" }, BISE_EUNSUPPORTED, "'pre_tokenizer'" },
    { { .pre = "{\"type\":\"Whitespace\"}" }, BISE_EUNSUPPORTED,
      "'Whitespace'" },
    { { .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
               "\"Digits\"}]}" }, BISE_EUNSUPPORTED, "'Digits'" },
    { { .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
               "\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":"
               "\"Removed\"}]}" }, BISE_EUNSUPPORTED, "isolated split" },
    { { .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
               "\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":"
               "\"Isolated\"}]}" }, BISE_EUNSUPPORTED, "isolated split" },
    { { .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
               "\"Split\",\"pattern\":{\"Regex\":\"[a\"},\"behavior\":"
               "\"Isolated\"}]}" }, BISE_EFORMAT,
      "field 'pre_tokenizer.pattern.Regex': invalid regular expression" },
    { { .normalizer = "{\"type\":\"NFKC\"}" }, BISE_EUNSUPPORTED,
      "field 'normalizer' is 'NFKC'" },
    { { .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
               "\"ByteLevel\",\"add_prefix_space\":true}]}" },
      BISE_EUNSUPPORTED, "'ByteLevel'" },
    { { .model = "\"dropout\":0.1," }, BISE_EUNSUPPORTED, "'model.dropout'" },
    { { .model = "\"end_of_word_suffix\":\"</w>\"," }, BISE_EUNSUPPORTED,
      "'model.end_of_word_suffix'" },
    { { .model = "\"continuing_subword_prefix\":\"##\"," },
      BISE_EUNSUPPORTED, "'model.continuing_subword_prefix'" },
};

START_TEST(byte_level_faults_are_named)
{
    bise_tokenizer *t;
    const bise_status s = parse(&t, byte_form, &faults[_i].p);
    ck_assert_msg(s == faults[_i].status, "row %d: %d '%s'", _i, (int)s,
                  err.text);
    ck_assert_msg(strstr(err.text, faults[_i].want), "row %d: '%s'", _i,
                  err.text);
    ck_assert_str_eq(err.path, "tokenizer.json");
    ck_assert_ptr_null(t);
}
END_TEST

/* Faults of the SentencePiece form. */
static const struct { parts p; const char *want; } spm_faults[] = {
    { { .pre = "null" }, "'pre_tokenizer'" },
    { { .pre = "{\"type\":\"Metaspace\",\"split\":true}" },
      "'pre_tokenizer.split'" },
    { { .pre = "{\"type\":\"Metaspace\"}" }, "'pre_tokenizer.split'" },
    { { .normalizer = "{\"type\":\"NFKC\"}" }, "'NFKC'" },
    { { .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
                      "\"Lowercase\"}]}" }, "'Lowercase'" },
    { { .normalizer = "{\"type\":\"Prepend\",\"prepend\":\"x\"}" },
      "'Prepend'" },
    { { .normalizer = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
                      "\"content\":\"b\"}" }, "'Replace'" },
    { { .normalizer = LEGACY_NORM }, "'pre_tokenizer'" },
};

START_TEST(sentencepiece_faults_are_named)
{
    bise_tokenizer *t;
    const bise_status s = parse(&t, spm_form, &spm_faults[_i].p);
    ck_assert_msg(s == BISE_EUNSUPPORTED, "row %d: %d '%s'", _i, (int)s,
                  err.text);
    ck_assert_msg(strstr(err.text, spm_faults[_i].want), "row %d: '%s'", _i,
                  err.text);
}
END_TEST

START_TEST(other_models_are_refused)
{
    static const struct { const char *text, *want; } rows[] = {
        { "{\"model\":{\"type\":\"Unigram\"}}", "'Unigram'" },
        { "{\"model\":{\"type\":\"WordPiece\"}}", "'WordPiece'" },
        { "{\"model\":{}}", "'(none)'" },
        { "{\"other\":1}", "neither field 'config'" },
        { "{\"model\":", "" },
        { "{\"model\":{\"type\":\"BPE\"}}", "'model.vocab'" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bise_tokenizer *t = NULL;
        bise_error_init(&err);
        ck_assert_int_ne(bise_tokenizer_parse(&t, "x.json", rows[i].text,
                                              strlen(rows[i].text), &err),
                         BISE_OK);
        ck_assert_msg(strstr(err.text, rows[i].want), "row %zu: %s", i,
                      err.text);
        ck_assert_str_eq(err.path, "x.json");
    }
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    bise_str text = { 0 };
    byte_form(&text, &(parts){ 0 });
    for (size_t n = 0; n < text.len; n++) {
        bise_tokenizer *t = NULL;
        bise_error_init(&err);
        char *copy = malloc(n + 1);
        memcpy(copy, text.data, n);
        ck_assert_int_ne(bise_tokenizer_parse(&t, "cut", copy, n, &err),
                         BISE_OK);
        ck_assert_msg(err.text[0], "cut at %zu", n);
        free(copy);
    }
    bise_str_fini(&text);
}
END_TEST

START_TEST(digest_tells_tokenizers_apart)
{
    bise_tokenizer *a = make(byte_form, (parts){ 0 });
    bise_tokenizer *b = make(byte_form, (parts){ 0 });
    bise_tokenizer *c = make(byte_form, (parts){
        .merges = "[\"a b\",\"b c\",\"ab c\"]" });
    bise_tokenizer *d = make(byte_form, (parts){
        .model = "\"byte_fallback\":false,\"ignore_merges\":true," });
    ck_assert_uint_eq(strlen(bise_tokenizer_digest(a)), 64);
    ck_assert_str_eq(bise_tokenizer_digest(a), bise_tokenizer_digest(b));
    ck_assert_str_ne(bise_tokenizer_digest(a), bise_tokenizer_digest(c));
    ck_assert_str_ne(bise_tokenizer_digest(a), bise_tokenizer_digest(d));
    ck_assert_str_eq(bise_tokenizer_source(a), "tokenizer.json");
    bise_tokenizer_free(a);
    bise_tokenizer_free(b);
    bise_tokenizer_free(c);
    bise_tokenizer_free(d);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hf_tokenizer");
    TCase *t = tcase_create("forms"), *f = tcase_create("faults");
    tcase_add_test(t, merges_apply_in_their_order);
    tcase_add_test(t, ignore_merges_takes_whole_chunks);
    tcase_add_test(t, added_tokens_are_cut_out_unless_special);
    tcase_add_test(t, holes_become_unused_tokens);
    tcase_add_test(t, metaspace_prepends_unless_there_is_a_blank);
    tcase_add_test(t, legacy_normalizers_always_prepend);
    tcase_add_test(t, unknown_characters_fall_back_to_bytes);
    tcase_add_test(t, decoding_gives_the_text_back);
    tcase_add_test(t, digest_tells_tokenizers_apart);
    suite_add_tcase(s, t);
    tcase_add_loop_test(f, byte_level_faults_are_named, 0,
                        (int)(sizeof faults / sizeof *faults));
    tcase_add_loop_test(f, sentencepiece_faults_are_named, 0,
                        (int)(sizeof spm_faults / sizeof *spm_faults));
    tcase_add_test(f, other_models_are_refused);
    tcase_add_test(f, every_truncation_is_refused);
    suite_add_tcase(s, f);
    return s;
}

BISE_CHECK_MAIN
