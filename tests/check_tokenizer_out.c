/* check_tokenizer_out.c - tokenizers written as tokenizer.json, tekken.json and
 * SentencePiece models read back to the same ids; vocabularies that a format
 * cannot tell are refused with the reason. The tools that load these files
 * judge them in tests/cli/tokenizer_files.sh.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "check_main.h"

#include <string.h>

#include "core/mem.h"
#include "core/str.h"
#include "spm_writer.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

static bise_error err;

#define TINY BISE_SRCDIR "/examples/tiny-mistral3/"
#define BLANK "\xe2\x96\x81"

static const char *const texts[] = {
    "", " ", "a", " ab  ba", "Hello World, it's 12345.\n\n\tx", "caf\xc3\xa9",
    "\xe6\x9d\xb1\xe4\xba\xac", "eBay mL NaOH", "[INST] \"quoted\" \\ back",
    "\x01\x7f", "abab [REF]ab",
};

/* The same ids for every text, and the same special tokens. */
static void same(const bise_tokenizer *a, const bise_tokenizer *b)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        bise_ids x = { 0 }, y = { 0 };
        const size_t n = strlen(texts[i]);
        ck_ok(bise_tokenizer_encode(a, texts[i], n, BISE_TOK_BOS, &x, &err));
        ck_ok(bise_tokenizer_encode(b, texts[i], n, BISE_TOK_BOS, &y, &err));
        ck_assert_msg(x.n == y.n && !memcmp(x.v, y.v, x.n * sizeof *x.v),
                      "'%s'", texts[i]);
        bise_ids_fini(&x);
        bise_ids_fini(&y);
    }
    ck_assert_int_eq(bise_tokenizer_bos(a), bise_tokenizer_bos(b));
    ck_assert_int_eq(bise_tokenizer_special(a, "[INST]"),
                     bise_tokenizer_special(b, "[INST]"));
}

/* Write, read back; the caller frees the result. */
typedef bise_status writer(const bise_tokenizer *t, bise_str *out,
                           bise_error *err);

static bise_tokenizer *again(const bise_tokenizer *t, writer *write,
                             const char *name)
{
    bise_str text = { 0 };
    bise_tokenizer *back = NULL;
    ck_ok(write(t, &text, &err));
    ck_ok(bise_tokenizer_parse(&back, name, text.data, text.len, &err));
    /* and once more: the same file */
    bise_str second = { 0 };
    ck_ok(write(back, &second, &err));
    ck_assert_uint_eq(text.len, second.len);
    ck_assert_mem_eq(text.data, second.data, text.len);
    bise_str_fini(&second);
    bise_str_fini(&text);
    return back;
}

/* The embedded tokenizer by way of a GGUF with a padded vocabulary. */
static bise_tokenizer *from_gguf(const char *file, int32_t more)
{
    bise_tokenizer *t = NULL, *out = NULL;
    bise_gguf_meta m = { 0 };
    ck_ok(bise_tokenizer_load(&t, file, &err));
    ck_ok(bise_tokenizer_to_gguf(t, bise_tokenizer_vocab(t) + more, &m, &err));
    ck_ok(bise_gguf_vocab(&out, "m.gguf", &m, &err));
    bise_gguf_meta_fini(&m);
    bise_tokenizer_free(t);
    return out;
}

START_TEST(tokenizer_json_reads_back)
{
    static const char *const files[] = { TINY "tekken.json",
                                         TINY "tokenizer.json" };
    bise_tokenizer *t = NULL;
    ck_ok(bise_tokenizer_load(&t, files[_i], &err));
    bise_tokenizer *back = again(t, bise_tokenizer_to_hf, "tokenizer.json");
    same(t, back);
    ck_assert_int_eq(bise_tokenizer_vocab(t), bise_tokenizer_vocab(back));
    bise_tokenizer_free(back);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(tekken_json_comes_back_out_of_a_gguf)
{
    bise_tokenizer *t = NULL;
    ck_ok(bise_tokenizer_load(&t, TINY "tekken.json", &err));
    for (int more = 0; more <= 64; more += 64) {
        bise_tokenizer *g = from_gguf(TINY "tekken.json", more);
        bise_tokenizer *back = again(g, bise_tokenizer_to_tekken,
                                     "tekken.json");
        same(t, back);
        ck_assert_int_eq(bise_tokenizer_vocab(back), bise_tokenizer_vocab(t));
        ck_assert_int_eq(bise_tokenizer_version(back),
                         bise_tokenizer_version(t));
        bise_tokenizer_free(back);
        back = again(g, bise_tokenizer_to_hf, "tokenizer.json");
        same(t, back);
        ck_assert_int_eq(bise_tokenizer_vocab(back), bise_tokenizer_vocab(t));
        bise_tokenizer_free(back);
        bise_tokenizer_free(g);
    }
    bise_tokenizer_free(t);
}
END_TEST

/* A SentencePiece tokenizer with bytes, control and user-defined pieces. */
static bise_tokenizer *small_spm(const spm_options *o)
{
    bise_str file = { 0 };
    bise_tokenizer *t = NULL;
    spm_begin(&file, !o->no_bytes);
    spm_piece(&file, "[INST]", 0, 3);
    spm_piece(&file, "[REF]", 0, 4);
    spm_piece(&file, BLANK "ab", -1, 0);
    spm_piece(&file, "abab", -1.5f, 0);
    spm_piece(&file, "ab", -2, 0);
    spm_piece(&file, BLANK "a", -2.5f, 0);
    spm_piece(&file, BLANK, -3, 0);
    spm_piece(&file, "a", -4, 0);
    spm_piece(&file, "b", -5, 0);
    spm_piece(&file, "\"", -6, 0);
    spm_specs(&file, o);
    ck_ok(bise_tokenizer_parse(&t, "x.model", file.data, file.len, &err));
    bise_str_fini(&file);
    return t;
}

START_TEST(sentencepiece_reads_back)
{
    static const spm_options options[] = { { 0 }, { .no_prefix = true },
                                           { .no_bytes = true } };
    bise_tokenizer *t = small_spm(&options[_i]);
    bise_tokenizer *back = again(t, bise_tokenizer_to_spm, "x.model");
    same(t, back);
    ck_assert_str_eq(bise_tokenizer_digest(t), bise_tokenizer_digest(back));
    bise_tokenizer_free(back);
    if (!options[_i].no_bytes) {
        back = again(t, bise_tokenizer_to_hf, "tokenizer.json");
        same(t, back);
        bise_tokenizer_free(back);
    }
    bise_tokenizer_free(t);
}
END_TEST

/* A tokenizer.json of the SentencePiece form has merges, a model scores. */
START_TEST(merges_become_scores)
{
    bise_tokenizer *t = small_spm(&(spm_options){ 0 });
    bise_tokenizer *hf = again(t, bise_tokenizer_to_hf, "tokenizer.json");
    bise_tokenizer *spm = again(hf, bise_tokenizer_to_spm, "x.model");
    same(t, spm);
    bise_tokenizer_free(spm);
    bise_tokenizer_free(hf);
    bise_tokenizer_free(t);
}
END_TEST

/* Blanks that Metaspace "first" adds stay as they were. */
START_TEST(metaspace_is_kept)
{
    bise_tokenizer *t = small_spm(&(spm_options){ 0 });
    t->prefix = BISE_PREFIX_UNLESS_BLANK;
    bise_tokenizer *back = again(t, bise_tokenizer_to_hf, "tokenizer.json");
    ck_assert_int_eq(back->prefix, BISE_PREFIX_UNLESS_BLANK);
    same(t, back);
    bise_tokenizer_free(back);
    bise_tokenizer_free(t);
}
END_TEST

/* The writer fails with this in its message. */
static void refused(const bise_tokenizer *t, writer *write, const char *words)
{
    bise_str text = { 0 };
    ck_fails(write(t, &text, &err), BISE_EUNSUPPORTED);
    ck_assert_msg(strstr(err.text, words), "'%s' in '%s'", words, err.text);
    bise_str_fini(&text);
}

START_TEST(says_what_a_format_cannot_tell)
{
    bise_tokenizer *spm = small_spm(&(spm_options){ .trims = true });
    refused(spm, bise_tokenizer_to_hf, "extra blanks");
    refused(spm, bise_tokenizer_to_tekken, "byte-level");
    bise_tokenizer_free(spm);
    bise_tokenizer *g = from_gguf(TINY "tekken.json", 0);
    refused(g, bise_tokenizer_to_spm, "SentencePiece");
    /* A special token behind the vocabulary's start, bytes out of order. */
    g->pieces[2000].type = BISE_PIECE_CONTROL;
    refused(g, bise_tokenizer_to_tekken, "token 2000");
    g->pieces[2000].type = BISE_PIECE_NORMAL;
    const bise_piece byte = g->pieces[40];
    g->pieces[40] = g->pieces[41];
    refused(g, bise_tokenizer_to_tekken, "is not the byte 8");
    g->pieces[40] = byte;
    bise_tokenizer_free(g);
}
END_TEST

/* A byte-level tokenizer.json with all bytes, then ab (259), bc, abc and what
 * else there shall be. */
static bise_tokenizer *small_bpe(const char *merges, bool ignore_merges,
                                 const char *more)
{
    bise_str file = { 0 };
    bise_tokenizer *t = NULL;
    bise_str_puts(&file, "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\","
                  "\"special\":true},{\"id\":1,\"content\":\"<s>\","
                  "\"special\":true},{\"id\":2,\"content\":\"</s>\","
                  "\"special\":true}],\"pre_tokenizer\":{\"type\":\"Sequence\","
                  "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                  "{\"Regex\":\"[a-z]+|\\\\s+\"},\"behavior\":\"Isolated\","
                  "\"invert\":false},{\"type\":\"ByteLevel\","
                  "\"add_prefix_space\":false,\"use_regex\":false}]},"
                  "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int b = 0; b < 256; b++) {
        const char byte = (char)b;
        bise_str_puts(&file, b == '"' || b == '\\' ? "\"\\" : "\"");
        bise_bytelevel_spell(&file, &byte, 1);
        bise_str_printf(&file, "\":%d,", b + 3);
    }
    bise_str_printf(&file, "\"ab\":259,\"bc\":260,\"abc\":261%s},"
                    "\"ignore_merges\":%s,\"merges\":[%s]}}", more,
                    ignore_merges ? "true" : "false", merges);
    ck_ok(bise_tokenizer_parse(&t, "tokenizer.json", file.data, file.len,
                               &err));
    bise_str_fini(&file);
    return t;
}

#define XYZ ",\"xyz\":262"

/* Lists of merges that tekken.json cannot tell (NULL: it can). */
static const struct {
    const char *merges;
    bool ignore_merges;
    const char *words, *more;
} lists[] = {
    { "\"a b\",\"b c\",\"a bc\",\"ab c\"", true, NULL, "" },
    { "\"a b\",\"b c\",\"ab c\",\"a bc\"", true, NULL, "" },
    { "\"a b\",\"b c\",\"a bc\",\"ab c\"", false, NULL, "" },
    { "\"b c\",\"a b\",\"ab c\"", true, "order of the tokens", "" },
    { "\"b c\",\"a b\",\"ab c\",\"a bc\"", true, "order of the tokens", "" },
    { "\"a b\",\"a bc\",\"b c\",\"ab c\"", true, "order of the tokens", "" },
    { "\"a b\",\"b c\",\"ab c\"", true, "merge the tokens 100 and 260", "" },
    { "\"b c\",\"ab c\",\"a bc\"", true, "merge the tokens 100 and 101", "" },
    { "", true, "merge the tokens 100 and 101", "" },
    /* a token that no two others make: only a text that is one gives it */
    { "\"a b\",\"b c\",\"a bc\",\"ab c\"", false, "token 262", XYZ },
    { "\"a b\",\"b c\",\"a bc\",\"ab c\"", true, NULL, XYZ },
};

/* What is written gives the ids of the list for all texts of a, b and c. */
START_TEST(tekken_json_merges_as_the_list)
{
    bise_tokenizer *t = small_bpe(lists[_i].merges, lists[_i].ignore_merges,
                                  lists[_i].more);
    if (lists[_i].words) {
        refused(t, bise_tokenizer_to_tekken, lists[_i].words);
        bise_tokenizer_free(t);
        return;
    }
    bise_tokenizer *back = again(t, bise_tokenizer_to_tekken, "tekken.json");
    for (int k = 0; k < 729; k++) {
        bise_ids x = { 0 }, y = { 0 };
        char text[6];
        for (int i = 0, v = k; i < 6; i++, v /= 3)
            text[i] = "abc"[v % 3];
        ck_ok(bise_tokenizer_encode(t, text, 6, 0, &x, &err));
        ck_ok(bise_tokenizer_encode(back, text, 6, 0, &y, &err));
        ck_assert_msg(x.n == y.n && !memcmp(x.v, y.v, x.n * sizeof *x.v),
                      "'%.6s'", text);
        bise_ids_fini(&x);
        bise_ids_fini(&y);
    }
    bise_tokenizer_free(back);
    bise_tokenizer_free(t);
}
END_TEST

/* Bytes, U+2581, "a", "x" of the type first, then the one given. */
static bise_tokenizer *spm_with(const char *text, bise_piece_type type,
                                bise_piece_type first)
{
    bise_str file = { 0 };
    bise_tokenizer *t = NULL;
    spm_begin(&file, true);
    spm_piece(&file, BLANK, -3, 0);
    spm_piece(&file, "a", -4, 0);
    spm_piece(&file, "x", -5, (int)first);
    spm_piece(&file, "y", -6, 0);
    spm_specs(&file, &(spm_options){ 0 });
    ck_ok(bise_tokenizer_parse(&t, "x.model", file.data, file.len, &err));
    bise_str_fini(&file);
    bise_piece *p = &t->pieces[t->n - 1];
    p->text = text;
    p->len = (uint32_t)strlen(text);
    p->hash = bise_hash_bytes(text, p->len);
    p->type = (uint8_t)type;
    p->shown = "A";
    return t;
}

/* Two tokens of one spelling would be one entry of a file of names. */
START_TEST(a_token_spelt_like_another_is_refused)
{
    static const struct {
        const char *text;
        bise_piece_type type, first;
    } rows[] = {
        { "a", BISE_PIECE_CONTROL, 0 }, { "</s>", BISE_PIECE_CONTROL, 0 },
        { "x", BISE_PIECE_CONTROL, BISE_PIECE_CONTROL },
        { "x", BISE_PIECE_UNKNOWN, 0 }, { "<0x41>", BISE_PIECE_BYTE, 0 },
        { "a", BISE_PIECE_BYTE, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bise_tokenizer *t = spm_with(rows[i].text, rows[i].type,
                                     rows[i].first);
        refused(t, bise_tokenizer_to_hf, "spelt like token");
        refused(t, bise_tokenizer_to_spm, "spelt like token");
        bise_tokenizer_free(t);
    }
    bise_tokenizer *t = spm_with("", BISE_PIECE_NORMAL, 0);
    refused(t, bise_tokenizer_to_spm, "has no text");
    for (int32_t id = 0; id < t->n; id++)
        t->pieces[id].type = BISE_PIECE_UNUSED;
    refused(t, bise_tokenizer_to_hf, "no token in use");
    refused(t, bise_tokenizer_to_spm, "with an unknown token");
    bise_tokenizer_free(t);
}
END_TEST

/* Failing allocations are told and nothing is lost. */
START_TEST(memory_failures_are_told)
{
    bise_tokenizer *t = small_spm(&(spm_options){ 0 });
    static writer *const write[] = { bise_tokenizer_to_hf,
                                     bise_tokenizer_to_spm };
    for (size_t w = 0; w < 2; w++) {
        bise_status s = BISE_ENOMEM;
        int failures = -1;
        for (uint64_t n = 1; n < 4000 && s != BISE_OK; n++) {
            bise_str text = { 0 };
            bise_error_init(&err);
            bise_alloc_fail_after(n);
            s = write[w](t, &text, &err);
            bise_alloc_fail_after(0);
            failures++;
            ck_assert(s == BISE_OK || s == BISE_ENOMEM);
            bise_str_fini(&text);
        }
        ck_assert_int_eq(s, BISE_OK);
        ck_assert_int_gt(failures, 3);
    }
    bise_tokenizer_free(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tokenizer_out");
    TCase *t = tcase_create("tokenizer_out");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, tokenizer_json_reads_back, 0, 2);
    tcase_add_test(t, tekken_json_comes_back_out_of_a_gguf);
    tcase_add_loop_test(t, sentencepiece_reads_back, 0, 3);
    tcase_add_test(t, merges_become_scores);
    tcase_add_test(t, metaspace_is_kept);
    tcase_add_test(t, says_what_a_format_cannot_tell);
    tcase_add_loop_test(t, tekken_json_merges_as_the_list, 0,
                        sizeof lists / sizeof *lists);
    tcase_add_test(t, a_token_spelt_like_another_is_refused);
    tcase_add_test(t, memory_failures_are_told);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
