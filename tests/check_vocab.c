/* check_vocab.c - the parts under the readers: the byte alphabet, the map from
 * bytes to ids, special names, merges derived from ranks, the merge table with
 * both ways to merge, and short-string comparison. Results are compared with
 * the plainest way to compute them.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "check_main.h"

#include <string.h>

#include "core/rng.h"
#include "core/str.h"
#include "text/encode.h"
#include "text/merge.h"
#include "text/vocab.h"

static bise_error err;

START_TEST(byte_alphabet_is_gpt2s)
{
    /* Python: the list that every byte-level tokenizer is built on. */
    static const struct { int byte; const char *text; } rows[] = {
        { 0, "\xc4\x80" }, { ' ', "\xc4\xa0" }, { '\n', "\xc4\x8a" },
        { '!', "!" }, { 'a', "a" }, { '~', "~" }, { 0x7f, "\xc4\xa1" },
        { 0xa0, "\xc5\x82" }, { 0xa1, "\xc2\xa1" }, { 0xac, "\xc2\xac" },
        { 0xad, "\xc5\x83" }, { 0xae, "\xc2\xae" }, { 0xff, "\xc3\xbf" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bise_str s = { 0 };
        const char c = (char)rows[i].byte;
        bise_bytelevel_spell(&s, &c, 1);
        ck_assert_str_eq(bise_str_get(&s), rows[i].text);
        bise_str_fini(&s);
    }
}
END_TEST

START_TEST(byte_alphabet_reads_back)
{
    bise_str spelt = { 0 }, back = { 0 };
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    bise_bytelevel_spell(&spelt, all, sizeof all);
    ck_assert(bise_bytelevel_read(&back, spelt.data, spelt.len));
    ck_assert_uint_eq(back.len, 256);
    ck_assert(memcmp(back.data, all, 256) == 0);
    /* No character stands for two bytes, and none is a blank. */
    ck_assert_ptr_null(memchr(spelt.data, ' ', spelt.len));
    bise_str_fini(&spelt);
    bise_str_fini(&back);
}
END_TEST

START_TEST(byte_alphabet_refuses_others)
{
    static const char *const no[] = { " ", "\n", "\xc2\xad", "\xc5\x84",
                                      "\xe2\x96\x81", "\xff", "a b", "\x7f" };
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        bise_str out = { 0 };
        ck_assert_msg(!bise_bytelevel_read(&out, no[i], strlen(no[i])),
                      "row %zu", i);
        bise_str_fini(&out);
    }
}
END_TEST

START_TEST(same_bytes_is_memcmp)
{
    char a[40], b[40];
    for (uint64_t seed = 0; seed < 2000; seed++) {
        const size_t n = (size_t)bise_rng_below(seed, 0, 0, 33);
        for (size_t i = 0; i < n; i++)
            a[i] = b[i] = (char)bise_rng_below(seed, 1, i, 256);
        ck_assert(bise_same_bytes(a, b, n));
        ck_assert_uint_eq(bise_hash_bytes(a, n), bise_hash_bytes(b, n));
        if (!n)
            continue;
        b[bise_rng_below(seed, 2, 0, n)] ^= 1;
        ck_assert_int_eq(bise_same_bytes(a, b, n), memcmp(a, b, n) == 0);
        ck_assert(!bise_same_bytes(a, b, n));
    }
}
END_TEST

START_TEST(hash_depends_on_every_byte_and_length)
{
    char a[32] = { 0 };
    uint32_t seen[33];
    for (size_t n = 0; n <= 32; n++) {
        seen[n] = bise_hash_bytes(a, n);
        for (size_t k = 0; k < n; k++)
            ck_assert_uint_ne(seen[n], seen[k]);
        for (size_t i = 0; i < n; i++) {
            a[i] = 1;
            ck_assert_uint_ne(bise_hash_bytes(a, n), seen[n]);
            a[i] = 0;
        }
    }
}
END_TEST

/* A vocabulary of the letters a to d and random words over them, ids in the
 * order of their ranks. */
static bise_tokenizer *random_vocab(uint64_t seed, int n, bise_error *e)
{
    bise_tokenizer *t = NULL;
    char words[64][8];
    int count = 0;
    for (int i = 0; i < 4; i++)
        snprintf(words[count++], 8, "%c", 'a' + i);
    for (uint64_t k = 0; count < n && k < 1000; k++) {
        const int len = 2 + (int)bise_rng_below(seed, k, 0, 4);
        bool known = false;
        for (int i = 0; i < len; i++)
            words[count][i] = (char)('a' + bise_rng_below(seed, k, 1 +
                                                          (uint64_t)i, 4));
        words[count][len] = 0;
        for (int i = 0; i < count; i++)
            known |= strcmp(words[i], words[count]) == 0;
        count += !known;
    }
    ck_assert_int_eq(bise_vocab_new(&t, BISE_TOKENIZER_TEKKEN, count, "x", e),
                     BISE_OK);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(bise_vocab_set(t, i, words[i], strlen(words[i]),
                                        BISE_PIECE_NORMAL, 0, e), BISE_OK);
    ck_assert_int_eq(bise_vocab_index(t, true, e), BISE_OK);
    return t;
}

START_TEST(pieces_are_found_by_their_bytes)
{
    bise_error_init(&err);
    for (uint64_t seed = 0; seed < 30; seed++) {
        bise_tokenizer *t = random_vocab(seed, 60, &err);
        for (int32_t id = 0; id < t->n; id++) {
            const bise_piece *p = &t->pieces[id];
            ck_assert_int_eq(bise_vocab_find(t, p->text, p->len, p->hash), id);
            ck_assert_int_eq(bise_vocab_find(t, p->text, p->len,
                                             p->hash ^ 1), -1);
        }
        ck_assert_int_eq(bise_vocab_find(t, "zz", 2,
                                         bise_hash_bytes("zz", 2)), -1);
        bise_tokenizer_free(t);
    }
}
END_TEST

/* tiktoken's rule in its plainest form: of all adjacent pairs whose union is
 * a token take the lowest rank, the leftmost of equals; repeat. */
static size_t merge_plainly(const bise_tokenizer *t, const char *s, size_t n,
                            int32_t *ids)
{
    size_t from[300], parts = n;
    for (size_t i = 0; i <= n; i++)
        from[i] = i;
    for (;;) {
        int32_t best = -1;
        size_t at = 0;
        for (size_t i = 0; i + 1 < parts; i++) {
            const size_t w = from[i + 2] - from[i];
            const int32_t id = bise_vocab_find(
                t, s + from[i], w, bise_hash_bytes(s + from[i], w));
            if (id >= 0 && (best < 0 || id < best)) {
                best = id;
                at = i;
            }
        }
        if (best < 0)
            break;
        memmove(from + at + 1, from + at + 2, (parts - at - 1) *
                sizeof *from);
        parts--;
    }
    for (size_t i = 0; i < parts; i++) {
        const size_t w = from[i + 1] - from[i];
        ids[i] = bise_vocab_find(t, s + from[i], w,
                                 bise_hash_bytes(s + from[i], w));
    }
    return parts;
}

START_TEST(derived_merges_equal_merging_by_rank)
{
    bise_error_init(&err);
    for (uint64_t seed = 0; seed < 40; seed++) {
        bise_tokenizer *t = random_vocab(seed, 50, &err);
        uint32_t rank[64];
        for (int32_t i = 0; i < t->n; i++)
            rank[i] = (uint32_t)i;
        ck_ok(bise_vocab_derive(t, rank, &err));
        for (uint64_t k = 0; k < 60; k++) {
            char text[256];
            int32_t want[256], got[256];
            /* Both short texts (scan) and long ones (heap). */
            size_t n = 1 + (size_t)bise_rng_below(seed, 500 + k, 0,
                                                  k % 3 ? 20 : 200);
            for (size_t i = 0; i < n; i++) {
                text[i] = (char)('a' + bise_rng_below(seed, 600 + k, i, 4));
                got[i] = text[i] - 'a';
            }
            const size_t m = merge_plainly(t, text, n, want);
            ck_ok(bise_merge(&t->merges, got, &n, &err));
            ck_assert_uint_eq(n, m);
            ck_assert(memcmp(got, want, n * sizeof *got) == 0);
        }
        bise_tokenizer_free(t);
    }
}
END_TEST

START_TEST(windows_merge_as_the_heap_does)
{
    bise_error_init(&err);
    for (uint64_t seed = 0; seed < 60; seed++) {
        bise_tokenizer *t = random_vocab(seed, 40, &err);
        uint32_t rank[64];
        for (int32_t i = 0; i < t->n; i++)
            rank[i] = (uint32_t)i;
        ck_ok(bise_vocab_derive(t, rank, &err));
        for (uint64_t k = 0; k < 30; k++) {
            int32_t a[600], b[600];
            size_t n = 1 + (size_t)bise_rng_below(seed, 700 + k, 0, 599);
            size_t m = n;
            const size_t window = 16 + (size_t)bise_rng_below(seed, 800, k,
                                                              80);
            /* Few letters make long runs in which everything may merge. */
            const uint64_t letters = 1 + bise_rng_below(seed, 801, k, 4);
            for (size_t i = 0; i < n; i++)
                a[i] = b[i] = (int32_t)bise_rng_below(seed, 900 + k, i,
                                                      letters);
            ck_ok(bise_merge_heap(&t->merges, a, &n, &err));
            ck_ok(bise_merge_windows(&t->merges, b, &m, window, &err));
            ck_assert_uint_eq(n, m);
            ck_assert(memcmp(a, b, n * sizeof *a) == 0);
        }
        bise_tokenizer_free(t);
    }
}
END_TEST

START_TEST(ranks_of_uint32_max_are_not_merged_into)
{
    bise_error_init(&err);
    bise_tokenizer *t = random_vocab(1, 20, &err);
    uint32_t rank[64];
    for (int32_t i = 0; i < t->n; i++)
        rank[i] = UINT32_MAX;
    ck_ok(bise_vocab_derive(t, rank, &err));
    ck_assert_uint_eq(t->merges.used, 0);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(merge_table_holds_what_it_is_given)
{
    bise_merges m = { 0 };
    ck_assert_int_eq(bise_merges_init(&m, 0), 0);
    ck_assert_ptr_null(bise_merges_find(&m, 1, 2));
    for (int32_t i = 0; i < 5000; i++)  /* grows several times */
        ck_assert_int_eq(bise_merges_add(&m, i, i * 7 % 5000, (uint32_t)i,
                                         i + 1), 0);
    for (int32_t i = 0; i < 5000; i++) {
        const bise_merge_slot *s = bise_merges_find(&m, i, i * 7 % 5000);
        ck_assert_ptr_nonnull(s);
        ck_assert_uint_eq(s->rank, (uint32_t)i);
        ck_assert_int_eq(s->id, i + 1);
    }
    ck_assert_ptr_null(bise_merges_find(&m, 5000, 0));
    /* The first of equal pairs counts. */
    ck_assert_int_eq(bise_merges_add(&m, 0, 0, 99, 99), 0);
    ck_assert_uint_eq(bise_merges_find(&m, 0, 0)->rank, 0);
    ck_assert_uint_eq(m.used, 5000);
    bise_merges_fini(&m);
    ck_assert_ptr_null(bise_merges_find(&m, 1, 2));
}
END_TEST

START_TEST(merging_handles_the_smallest_cases)
{
    bise_merges m = { 0 };
    int32_t ids[3] = { 1, 1, 1 };
    size_t n = 0;
    bise_error_init(&err);
    ck_assert_int_eq(bise_merges_init(&m, 4), 0);
    ck_assert_int_eq(bise_merges_add(&m, 1, 1, 0, 2), 0);
    ck_ok(bise_merge(&m, ids, &n, &err));
    ck_assert_uint_eq(n, 0);
    ck_ok(bise_merge_heap(&m, ids, &n, &err));
    ck_assert_uint_eq(n, 0);
    n = 1;
    ck_ok(bise_merge_heap(&m, ids, &n, &err));
    ck_assert_uint_eq(n, 1);
    n = 3;                      /* leftmost of the two equal pairs */
    ck_ok(bise_merge(&m, ids, &n, &err));
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(ids[0], 2);
    ck_assert_int_eq(ids[1], 1);
    bise_merges_fini(&m);
}
END_TEST

START_TEST(heap_reports_lack_of_memory)
{
    bise_merges m = { 0 };
    int32_t ids[100] = { 0 };
    size_t n = 100;
    ck_assert_int_eq(bise_merges_init(&m, 4), 0);
    bise_error_init(&err);
    bise_alloc_fail_after(1);
    const bise_status s = bise_merge_heap(&m, ids, &n, &err);
    bise_alloc_fail_after(0);
    ck_assert_int_eq(s, BISE_ENOMEM);
    ck_assert_uint_eq(n, 100);
    bise_merges_fini(&m);
}
END_TEST

START_TEST(counts_are_bounded)
{
    static const int64_t no[] = { 0, -1, BISE_VOCAB_MAX + 1, INT64_MAX };
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        bise_tokenizer *t = NULL;
        ck_fails(bise_vocab_new(&t, BISE_TOKENIZER_SPM, no[i], "x", &err),
                 BISE_EFORMAT);
        ck_assert_ptr_null(t);
    }
}
END_TEST

START_TEST(long_tokens_are_found_and_too_long_ones_refused)
{
    bise_tokenizer *t = NULL;
    char word[UINT16_MAX + 1];
    memset(word, 'w', sizeof word);
    ck_ok(bise_vocab_new(&t, BISE_TOKENIZER_TEKKEN, 8, "x", &err));
    ck_fails(bise_vocab_set(t, 0, word, sizeof word, BISE_PIECE_NORMAL, 0,
                            &err), BISE_EFORMAT);
    ck_assert_msg(strstr(err.text, "token 0 has 65536 bytes"), "%s", err.text);
    /* On both sides of what fits into a row of the map. */
    static const size_t lengths[] = { 22, 23, 24, 25, 254, 255, 256, 60000 };
    for (int32_t i = 0; i < 8; i++)
        ck_ok(bise_vocab_set(t, i, word, lengths[i], BISE_PIECE_NORMAL, 0,
                             &err));
    ck_ok(bise_vocab_index(t, true, &err));
    for (int32_t i = 0; i < 8; i++)
        ck_assert_int_eq(bise_vocab_find(t, word, lengths[i],
                                         bise_hash_bytes(word, lengths[i])),
                         i);
    ck_assert_int_eq(bise_vocab_find(t, word, 21, bise_hash_bytes(word, 21)),
                     -1);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(special_names_are_apart_from_text)
{
    bise_tokenizer *t = NULL;
    ck_ok(bise_vocab_new(&t, BISE_TOKENIZER_BPE, 5, "dir/x.json", &err));
    ck_ok(bise_vocab_set(t, 0, "<s>", 3, BISE_PIECE_CONTROL, 0, &err));
    ck_ok(bise_vocab_set(t, 1, "<unk>", 5, BISE_PIECE_UNKNOWN, 0, &err));
    ck_ok(bise_vocab_set(t, 2, "a", 1, BISE_PIECE_NORMAL, 0, &err));
    /* a part of a character would be cut out of the middle of one */
    static const bise_piece_type searched[] = {
        BISE_PIECE_CONTROL, BISE_PIECE_UNKNOWN, BISE_PIECE_USER };
    for (size_t k = 0; k < 3; k++)
        ck_fails(bise_vocab_set(t, 3, "\xe3\x81", 2, searched[k], 0, &err),
                 BISE_EFORMAT);
    bise_error_init(&err);
    ck_ok(bise_vocab_set(t, 3, "user", 4, BISE_PIECE_USER, 0, &err));
    ck_ok(bise_vocab_index(t, true, &err));
    ck_ok(bise_vocab_finish(t, &err));
    ck_assert_int_eq(bise_vocab_find(t, "<s>", 3, bise_hash_bytes("<s>", 3)),
                     -1);
    ck_assert_int_eq(bise_tokenizer_special(t, "<s>"), 0);
    ck_assert_int_eq(bise_tokenizer_special(t, "a"), -1);
    ck_assert_str_eq(bise_tokenizer_special_name(t, 1), "<unk>");
    ck_assert_ptr_null(bise_tokenizer_special_name(t, 2));
    ck_assert_ptr_null(bise_tokenizer_special_name(t, -1));
    ck_assert_ptr_null(bise_tokenizer_special_name(t, 5));
    ck_assert_int_eq(bise_tokenizer_bos(t), 0);
    ck_assert_int_eq(bise_tokenizer_unk(t), 1);
    ck_assert_str_eq(bise_tokenizer_source(t), "x.json");
    /* Id 4 was never set. */
    ck_assert_int_eq(t->pieces[4].type, BISE_PIECE_UNUSED);
    ck_assert_str_eq(t->pieces[4].text, "[PAD4]");
    size_t n = 0, len = 0;
    ck_assert_str_eq(bise_tokenizer_piece(t, 4, &n), "");
    ck_assert_str_eq(bise_tokenizer_piece(t, -1, &n), "");
    ck_assert_str_eq(bise_tokenizer_piece(t, 3, &n), "user");
    ck_assert_int_eq(bise_vocab_user(t, "users", 5, &len), 3);
    ck_assert_uint_eq(len, 4);
    ck_assert_int_eq(bise_vocab_user(t, "use", 3, &len), -1);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(twice_is_refused_or_the_first_counts)
{
    for (int unique = 0; unique < 2; unique++) {
        bise_tokenizer *t = NULL;
        ck_ok(bise_vocab_new(&t, BISE_TOKENIZER_BPE, 2, "x", &err));
        ck_ok(bise_vocab_set(t, 0, "a", 1, BISE_PIECE_NORMAL, 0, &err));
        ck_ok(bise_vocab_set(t, 1, "a", 1, BISE_PIECE_NORMAL, 0, &err));
        if (unique) {
            ck_fails(bise_vocab_index(t, true, &err), BISE_EFORMAT);
            ck_assert_msg(strstr(err.text, "0 and 1"), "%s", err.text);
        } else {
            ck_ok(bise_vocab_index(t, false, &err));
            ck_assert_int_eq(bise_vocab_find(t, "a", 1,
                                             bise_hash_bytes("a", 1)), 0);
        }
        bise_tokenizer_free(t);
    }
}
END_TEST

START_TEST(merges_must_give_tokens)
{
    bise_tokenizer *t = NULL;
    ck_ok(bise_vocab_new(&t, BISE_TOKENIZER_BPE, 3, "x", &err));
    ck_ok(bise_vocab_set(t, 0, "a", 1, BISE_PIECE_NORMAL, 0, &err));
    ck_ok(bise_vocab_set(t, 1, "b", 1, BISE_PIECE_NORMAL, 0, &err));
    ck_ok(bise_vocab_set(t, 2, "ab", 2, BISE_PIECE_NORMAL, 0, &err));
    ck_ok(bise_vocab_index(t, true, &err));
    int32_t good[1][2] = { { 0, 1 } }, bad[2][2] = { { 0, 1 }, { 1, 0 } };
    ck_fails(bise_vocab_merges(t, bad, 2, &err), BISE_EFORMAT);
    ck_assert_msg(strstr(err.text, "merge 1"), "%s", err.text);
    bise_merges_fini(&t->merges);
    ck_ok(bise_vocab_merges(t, good, 1, &err));
    ck_assert_int_eq(bise_merges_find(&t->merges, 0, 1)->id, 2);
    bise_tokenizer_free(t);
}
END_TEST

START_TEST(chunk_cache_copies_only_equal_chunks)
{
    static const char text[] = "hello world hello";
    bise_chunk_cache c;
    bise_ids out = { 0 };
    bise_chunks_init(&c, 10);   /* too short for a cache */
    ck_assert_ptr_null(c.rows);
    bise_chunks_init(&c, 1 << 20);
    ck_assert_ptr_nonnull(c.rows);
    ck_assert_int_eq(bise_ids_push(&out, 7), 0);
    ck_assert_int_eq(bise_ids_push(&out, 8), 0);
    const uint32_t h = bise_hash_bytes(text, 5);
    ck_assert_int_eq(bise_chunks_copy(&c, text, 5, h, &out), 0);
    bise_chunks_keep(&c, text, 5, h, 0, &out);
    ck_assert_int_eq(bise_chunks_copy(&c, text + 12, 5, h, &out), 1);
    ck_assert_uint_eq(out.n, 4);
    ck_assert_int_eq(out.v[2], 7);
    ck_assert_int_eq(out.v[3], 8);
    /* Same hash, other bytes: the row is not taken. */
    ck_assert_int_eq(bise_chunks_copy(&c, text + 6, 5, h, &out), 0);
    ck_assert_int_eq(bise_chunks_copy(&c, text, 4, h, &out), 0);
    bise_chunks_fini(&c);
    bise_ids_fini(&out);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("vocab");
    TCase *a = tcase_create("alphabet"), *v = tcase_create("vocabulary");
    TCase *m = tcase_create("merging");
    tcase_add_test(a, byte_alphabet_is_gpt2s);
    tcase_add_test(a, byte_alphabet_reads_back);
    tcase_add_test(a, byte_alphabet_refuses_others);
    tcase_add_test(a, same_bytes_is_memcmp);
    tcase_add_test(a, hash_depends_on_every_byte_and_length);
    suite_add_tcase(s, a);
    tcase_add_test(v, pieces_are_found_by_their_bytes);
    tcase_add_test(v, counts_are_bounded);
    tcase_add_test(v, long_tokens_are_found_and_too_long_ones_refused);
    tcase_add_test(v, special_names_are_apart_from_text);
    tcase_add_test(v, twice_is_refused_or_the_first_counts);
    tcase_add_test(v, chunk_cache_copies_only_equal_chunks);
    suite_add_tcase(s, v);
    tcase_add_test(m, derived_merges_equal_merging_by_rank);
    tcase_add_test(m, windows_merge_as_the_heap_does);
    tcase_add_test(m, ranks_of_uint32_max_are_not_merged_into);
    tcase_add_test(m, merge_table_holds_what_it_is_given);
    tcase_add_test(m, merging_handles_the_smallest_cases);
    tcase_add_test(m, heap_reports_lack_of_memory);
    tcase_add_test(m, merges_must_give_tokens);
    suite_add_tcase(s, m);
    return s;
}

BISE_CHECK_MAIN
