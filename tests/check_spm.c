/* check_spm.c - the SentencePiece encoder against the plainest statement of
 * its rule (scan all pairs, merge the best, repeat) on random vocabularies and
 * texts; bytes, unknown characters, user-defined pieces, blanks; the reader's
 * refusals. Models are made here (spm_writer.h); the real ones are in
 * check_tokenizer.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "check_main.h"

#include <string.h>

#include "core/rng.h"
#include "core/str.h"
#include "spm_writer.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

static bise_error err;

#define BLANK "\xe2\x96\x81"
#define FIRST 259 /* id of the first piece behind the bytes */

typedef struct entry {
    const char *text;
    float score;
    int type; /* 0: normal */
} entry;

/* A tokenizer of the given pieces; they have ids from FIRST on, or from 3 on
 * when there are no byte pieces. */
static bise_tokenizer *make(const entry *list, size_t n, spm_options o)
{
    bise_str file = { 0 };
    bise_tokenizer *t = NULL;
    spm_begin(&file, !o.no_bytes);
    for (size_t i = 0; i < n; i++)
        spm_piece(&file, list[i].text, list[i].score, list[i].type);
    spm_specs(&file, &o);
    ck_ok(bise_tokenizer_parse(&t, "test.model", file.data, file.len, &err));
    bise_str_fini(&file);
    return t;
}

#define MAKE(list, ...) \
    make(list, sizeof list / sizeof *list, (spm_options){ __VA_ARGS__ })

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

static void decodes(const bise_tokenizer *t, const char *want,
                    const int32_t *ids, size_t n)
{
    bise_str out = { 0 };
    ck_ok(bise_tokenizer_decode(t, ids, n, false, &out, &err));
    ck_assert_str_eq(bise_str_get(&out), want);
    bise_str_fini(&out);
}

START_TEST(highest_score_merges_first)
{
    static const entry list[] = {
        { "a", -9, 0 }, { "b", -9, 0 }, { "c", -9, 0 },
        { "ab", -2, 0 }, { "bc", -1, 0 }, { BLANK, -9, 0 },
    };
    bise_tokenizer *t = MAKE(list, .no_prefix = true);
    /* bc is better than ab, so a stays alone; ids count from FIRST. */
    IS_IDS(t, "abc", 0, FIRST, FIRST + 4);
    IS_IDS(t, "ab", 0, FIRST + 3);
    IS_IDS(t, "ab ab", 0, FIRST + 3, FIRST + 5, FIRST + 3);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(equal_scores_merge_from_the_left)
{
    static const entry list[] = {
        { "a", -9, 0 }, { "aa", -1, 0 }, { "b", -9, 0 }, { "ba", -1, 0 },
        { "ab", -1, 0 },
    };
    bise_tokenizer *t = MAKE(list, .no_prefix = true);
    IS_IDS(t, "aaa", 0, FIRST + 1, FIRST);
    IS_IDS(t, "aba", 0, FIRST + 4, FIRST);
    IS_IDS(t, "baa", 0, FIRST + 3, FIRST);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(blank_stands_before_every_text)
{
    static const entry list[] = {
        { BLANK, -5, 0 }, { "a", -5, 0 }, { BLANK "a", -1, 0 },
    };
    bise_tokenizer *t = MAKE(list, 0);
    IS_IDS(t, "a", 0, FIRST + 2);
    IS_IDS(t, "a a", 0, FIRST + 2, FIRST + 2);
    IS_IDS(t, " a", 0, FIRST, FIRST + 2);
    IS_IDS(t, "a", BISE_TOK_PLAIN_SPM, FIRST + 1);
    IS_IDS(t, "a", BISE_TOK_BOS | BISE_TOK_EOS, 1, FIRST + 2, 2);
    is_ids(t, "", 0, (const int32_t[]){ -1 });
    decodes(t, "a a", (const int32_t[]){ FIRST + 2, FIRST + 2 }, 2);
    decodes(t, " a", (const int32_t[]){ FIRST, FIRST + 2 }, 2);
    /* Each text between control tokens has lost its own blank. */
    decodes(t, "aa", (const int32_t[]){ 1, FIRST + 2, 2, FIRST + 2 }, 4);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(unknown_characters_become_bytes)
{
    static const entry list[] = { { "a", -1, 0 } };
    bise_tokenizer *t = MAKE(list, .no_prefix = true);
    IS_IDS(t, "a\xc3\xa9", 0, FIRST, 3 + 0xc3, 3 + 0xa9);
    IS_IDS(t, "\n", 0, 3 + '\n');
    decodes(t, "a\xc3\xa9", (const int32_t[]){ FIRST, 3 + 0xc3, 3 + 0xa9 }, 3);
    size_t n = 0;
    ck_assert_str_eq(bise_tokenizer_piece(t, 3 + 'x', &n), "x");
    ck_assert_uint_eq(n, 1);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(unknown_characters_fuse_without_bytes)
{
    static const entry list[] = { { "a", -1, 0 } };
    bise_tokenizer *t = MAKE(list, .no_prefix = true, .no_bytes = true);
    IS_IDS(t, "axyza", 0, 3, 0, 3);
    IS_IDS(t, "xy", 0, 0);
    ck_assert_int_eq(bise_tokenizer_unk(t), 0);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(pieces_of_characters_that_are_no_pieces)
{
    /* x and y are in no piece of one character, yet xy can be made; alone
     * they are spelt in bytes. */
    static const entry list[] = { { "xy", -1, 0 }, { "xyx", -2, 0 } };
    bise_tokenizer *t = MAKE(list, .no_prefix = true);
    IS_IDS(t, "xy", 0, FIRST);
    IS_IDS(t, "xyx", 0, FIRST + 1);
    IS_IDS(t, "yx", 0, 3 + 'y', 3 + 'x');
    IS_IDS(t, "xxy", 0, 3 + 'x', FIRST);
    bise_tokenizer_free(t);
    t = MAKE(list, .no_prefix = true, .no_bytes = true);
    IS_IDS(t, "yxxy", 0, 0, 3);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(user_defined_pieces_are_cut_out)
{
    static const entry list[] = {
        { "a", -1, 0 }, { "[X]", 0, 4 }, { "[X]a", 0, 4 }, { "[", -1, 0 },
        { "[a", -1, 0 },
    };
    bise_tokenizer *t = MAKE(list, .no_prefix = true);
    IS_IDS(t, "a[X]", 0, FIRST, FIRST + 1);
    IS_IDS(t, "[X]aa", 0, FIRST + 2, FIRST);
    IS_IDS(t, "[a[X", 0, FIRST + 4, FIRST + 3, 3 + 'X');
    decodes(t, "[X]a", (const int32_t[]){ FIRST + 2 }, 1);
    ck_assert_ptr_null(bise_tokenizer_special_name(t, FIRST + 1));
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(control_tokens_are_never_text)
{
    static const entry list[] = { { "[INST]", 0, 3 } };
    bise_tokenizer *t = MAKE(list, .no_prefix = true);
    IS_IDS(t, "[INST]", 0, 3 + '[', 3 + 'I', 3 + 'N', 3 + 'S', 3 + 'T',
           3 + ']');
    IS_IDS(t, "[INST]", BISE_TOK_PARSE_SPECIAL, FIRST);
    IS_IDS(t, "</s>", 0, 3 + '<', 3 + '/', 3 + 's', 3 + '>');
    ck_assert_int_eq(bise_tokenizer_special(t, "[INST]"), FIRST);
    ck_assert_int_eq(bise_tokenizer_version(t), 2);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(blanks_are_trimmed_when_the_file_says_so)
{
    static const entry list[] = { { BLANK, -5, 0 }, { "a", -5, 0 } };
    bise_tokenizer *t = MAKE(list, .trims = true);
    IS_IDS(t, "  a   a  ", 0, FIRST, FIRST + 1, FIRST, FIRST + 1);
    is_ids(t, "   ", 0, (const int32_t[]){ -1 });
    bise_tokenizer_free(t);
}
END_TEST

/* The rule as a sentence: of all adjacent pairs whose union is a piece take
 * the best score, the leftmost of equals; repeat. Parts are byte ranges. */
static size_t merge_plainly(const entry *list, size_t n, const char *text,
                            size_t *start)
{
    size_t parts = 0, len = strlen(text);
    for (size_t i = 0; i < len; i++)
        if (((uint8_t)text[i] & 0xc0) != 0x80)
            start[parts++] = i;
    start[parts] = len;
    for (;;) {
        size_t best = SIZE_MAX;
        float score = 0;
        for (size_t i = 0; i + 1 < parts; i++)
            for (size_t k = 0; k < n; k++) {
                const size_t w = start[i + 2] - start[i];
                if (strlen(list[k].text) == w &&
                    memcmp(list[k].text, text + start[i], w) == 0 &&
                    (best == SIZE_MAX || list[k].score > score)) {
                    best = i;
                    score = list[k].score;
                }
            }
        if (best == SIZE_MAX)
            return parts;
        memmove(start + best + 1, start + best + 2,
                (parts - best - 1) * sizeof *start);
        parts--;
    }
}

/* Ids of the parts: a piece, or the bytes of a character. */
static size_t plain_ids(const entry *list, size_t n, const char *text,
                        const size_t *start, size_t parts, int32_t *ids)
{
    size_t count = 0;
    for (size_t i = 0; i < parts; i++) {
        const size_t w = start[i + 1] - start[i];
        size_t k = 0;
        while (k < n && (strlen(list[k].text) != w ||
                         memcmp(list[k].text, text + start[i], w) != 0))
            k++;
        if (k < n)
            ids[count++] = FIRST + (int32_t)k;
        for (size_t b = 0; k == n && b < w; b++)
            ids[count++] = 3 + (uint8_t)text[start[i] + b];
    }
    return count;
}

static const char *const letters[] = { "a", "b", "c", "d", BLANK, "\xc3\xa9",
                                       "\xe6\x97\xa5", "\xf0\x9f\x98\x80" };

/* A random string of few characters into out; returns its length. */
static size_t random_word(char *out, uint64_t seed, uint64_t stream,
                          uint64_t most)
{
    const uint64_t n = 1 + bise_rng_below(seed, stream, 0, most);
    size_t len = 0;
    for (uint64_t i = 0; i < n; i++) {
        const char *c = letters[bise_rng_below(seed, stream, i + 1, 8)];
        memcpy(out + len, c, strlen(c));
        len += strlen(c);
    }
    out[len] = 0;
    return len;
}

/* Vocabularies of random words with few different scores, so that ties and
 * pieces over other pieces are common. Words of one character too. */
START_TEST(equals_the_plain_rule_on_random_vocabularies)
{
    char words[40][32];
    entry list[40];
    for (uint64_t v = 0; v < 60; v++) {
        size_t n = 0;
        for (uint64_t i = 0; i < 40; i++) {
            bool known = false;
            random_word(words[n], v, i, 4);
            for (size_t k = 0; k < n; k++)
                known |= strcmp(words[k], words[n]) == 0;
            if (known)
                continue;
            list[n].text = words[n];
            list[n].type = 0;
            list[n].score = -(float)bise_rng_below(v, 100, i, 6);
            n++;
        }
        bise_tokenizer *t = make(list, n, (spm_options){ .no_prefix = true });
        for (uint64_t i = 0; i < 40; i++) {
            char text[400];
            size_t start[400];
            int32_t want[400];
            bise_ids ids = { 0 };
            /* Long ones go through the heap, short ones through the scan. */
            const size_t len = random_word(text, v, 1000 + i,
                                           i % 4 ? 12 : 90);
            const size_t parts = merge_plainly(list, n, text, start);
            const size_t m = plain_ids(list, n, text, start, parts, want);
            ck_ok(bise_tokenizer_encode(t, text, len, 0, &ids, &err));
            ck_assert_msg(ids.n == m && memcmp(ids.v, want, m * 4) == 0,
                          "vocabulary %d text '%s'", (int)v, text);
            bise_ids_fini(&ids);
        }
        bise_tokenizer_free(t);
    }
}
END_TEST

START_TEST(repeated_text_gives_repeated_ids)
{
    /* Long enough for the cache of chunks: its copies must be the same. */
    static const entry list[] = {
        { BLANK, -9, 0 }, { "a", -9, 0 }, { "b", -9, 0 }, { "ab", -1, 0 },
        { BLANK "ab", -2, 0 },
    };
    bise_tokenizer *t = MAKE(list, 0);
    bise_str text = { 0 };
    bise_ids ids = { 0 };
    for (int i = 0; i < 4000; i++)
        bise_str_puts(&text, i ? " ab" : "ab");
    ck_ok(bise_tokenizer_encode(t, text.data, text.len, 0, &ids, &err));
    ck_assert_uint_eq(ids.n, 4000);
    for (size_t i = 0; i < ids.n; i++)
        ck_assert_int_eq(ids.v[i], FIRST + 4);
    bise_ids_fini(&ids);
    bise_str_fini(&text);
    bise_tokenizer_free(t);
}
END_TEST

static const struct { spm_options o; const char *want; } refused[] = {
    { { .model_type = 1 }, "'trainer_spec.model_type' is 1" },
    { { .no_trainer = true }, "'trainer_spec.model_type' is 1" },
    { { .suffix = true }, "'trainer_spec.treat_whitespace_as_suffix'" },
    { { .charmap = true }, "'normalizer_spec.precompiled_charsmap'" },
    { { .no_escape = true }, "'normalizer_spec.escape_whitespaces'" },
};

START_TEST(refuses_what_would_change_ids)
{
    bise_str file = { 0 };
    bise_tokenizer *t = NULL;
    spm_begin(&file, true);
    spm_specs(&file, &refused[_i].o);
    ck_fails(bise_tokenizer_parse(&t, "x.model", file.data, file.len, &err),
             BISE_EUNSUPPORTED);
    ck_assert_msg(strstr(err.text, refused[_i].want), "%s", err.text);
    ck_assert_str_eq(err.path, "x.model");
    bise_str_fini(&file);
}
END_TEST

/* Pieces that cannot be right: what is wrong is named. */
static const struct { const char *text; float score; int type;
                      const char *want; } bad_pieces[] = {
    { "", -1, 0, "'pieces[3].piece'" },
    { "a", -1, 7, "'pieces[3].type' is 7" },
    { "a", -1, -1, "'pieces[3].type' is -1" },
    { "\xff", -1, 0, "not valid UTF-8" },
    { "a", 1e30f * 1e30f, 0, "score of token 3" },
    { "byte", 0, 6, "must be '<0x00>' to '<0xFF>'" },
    { "<0xZZ>", 0, 6, "must be '<0x00>' to '<0xFF>'" },
};

START_TEST(broken_pieces_are_named)
{
    bise_str file = { 0 };
    bise_tokenizer *t = NULL;
    spm_begin(&file, false);
    spm_piece(&file, bad_pieces[_i].text, bad_pieces[_i].score,
              bad_pieces[_i].type);
    spm_specs(&file, &(spm_options){ .no_bytes = true });
    ck_fails(bise_tokenizer_parse(&t, "x.model", file.data, file.len, &err),
             BISE_EFORMAT);
    ck_assert_msg(strstr(err.text, bad_pieces[_i].want), "%s", err.text);
    bise_str_fini(&file);
}
END_TEST

START_TEST(refuses_a_piece_that_occurs_twice)
{
    bise_str file = { 0 };
    bise_tokenizer *t = NULL;
    spm_begin(&file, false);
    spm_piece(&file, "ab", -1, 0);
    spm_piece(&file, "ab", -2, 0);
    spm_specs(&file, &(spm_options){ 0 });
    ck_fails(bise_tokenizer_parse(&t, "x.model", file.data, file.len, &err),
             BISE_EFORMAT);
    ck_assert_msg(strstr(err.text, "'ab' has two ids: 3 and 4"), "%s",
                  err.text);
    bise_str_fini(&file);
}
END_TEST

START_TEST(every_truncation_is_refused_or_smaller)
{
    static const entry list[] = { { "a", -1, 0 }, { "ab", -2, 0 } };
    bise_str file = { 0 };
    spm_begin(&file, true);
    for (size_t i = 0; i < 2; i++)
        spm_piece(&file, list[i].text, list[i].score, 0);
    const size_t pieces = file.len;
    spm_specs(&file, &(spm_options){ 0 });
    for (size_t n = 0; n < file.len; n++) {
        bise_tokenizer *t = NULL;
        char *copy = malloc(n + 1);
        memcpy(copy, file.data, n);
        bise_error_init(&err);
        const bise_status s = bise_tokenizer_parse(&t, "cut", copy, n, &err);
        /* A cut between two messages is a valid protobuf without options. */
        if (s == BISE_OK)
            ck_assert_uint_gt(n, pieces);
        else
            ck_assert_msg(err.text[0] && !t, "cut at %zu", n);
        bise_tokenizer_free(t);
        free(copy);
    }
    bise_str_fini(&file);
}
END_TEST

/* Versions by the control tokens that each added. */
static const struct { const char *token; int version; } versions[] = {
    { "[other]", 1 }, { "[INST]", 2 }, { "[PREFIX]", 3 },
    { "[SYSTEM_PROMPT]", 7 },
};

START_TEST(control_tokens_tell_the_version)
{
    const entry list[] = { { versions[_i].token, 0, 3 } };
    bise_tokenizer *t = MAKE(list, 0);
    ck_assert_int_eq(bise_tokenizer_version(t), versions[_i].version);
    ck_assert_int_eq(bise_tokenizer_kind_of(t), BISE_TOKENIZER_SPM);
    ck_assert_int_eq(bise_tokenizer_pad(t), -1);
    ck_assert_int_eq(bise_tokenizer_bos(t), 1);
    ck_assert_int_eq(bise_tokenizer_eos(t), 2);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(memory_failures_leave_nothing_behind)
{
    static const entry list[] = { { "xy", -1, 0 }, { "a", -2, 0 } };
    bise_str file = { 0 };
    int failures = 0;
    spm_begin(&file, true);
    for (size_t i = 0; i < 2; i++)
        spm_piece(&file, list[i].text, list[i].score, 0);
    spm_specs(&file, &(spm_options){ 0 });
    /* Every 37th allocation of loading fails in turn until none does. */
    for (uint64_t n = 1;; n += 37) {
        bise_tokenizer *t = NULL;
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        const bise_status s = bise_tokenizer_parse(&t, "x", file.data,
                                                   file.len, &err);
        bise_alloc_fail_after(0);
        bise_tokenizer_free(t);
        if (s == BISE_OK)
            break;
        failures++;
    }
    ck_assert_int_gt(failures, 3);
    bise_str_fini(&file);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("spm");
    TCase *t = tcase_create("encoder"), *r = tcase_create("reader");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, highest_score_merges_first);
    tcase_add_test(t, equal_scores_merge_from_the_left);
    tcase_add_test(t, blank_stands_before_every_text);
    tcase_add_test(t, unknown_characters_become_bytes);
    tcase_add_test(t, unknown_characters_fuse_without_bytes);
    tcase_add_test(t, pieces_of_characters_that_are_no_pieces);
    tcase_add_test(t, user_defined_pieces_are_cut_out);
    tcase_add_test(t, control_tokens_are_never_text);
    tcase_add_test(t, blanks_are_trimmed_when_the_file_says_so);
    tcase_add_test(t, equals_the_plain_rule_on_random_vocabularies);
    tcase_add_test(t, repeated_text_gives_repeated_ids);
    suite_add_tcase(s, t);
    tcase_add_loop_test(r, refuses_what_would_change_ids, 0,
                        (int)(sizeof refused / sizeof *refused));
    tcase_add_loop_test(r, broken_pieces_are_named, 0,
                        (int)(sizeof bad_pieces / sizeof *bad_pieces));
    tcase_add_test(r, refuses_a_piece_that_occurs_twice);
    tcase_add_test(r, every_truncation_is_refused_or_smaller);
    tcase_add_loop_test(r, control_tokens_tell_the_version, 0, 4);
    tcase_add_test(r, memory_failures_leave_nothing_behind);
    suite_add_tcase(s, r);
    return s;
}

BISE_CHECK_MAIN
