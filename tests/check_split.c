/* check_split.c - the hand-written Tekken matcher against PCRE2 on random
 * Unicode text of every class, and its table of classes over all characters.
 * The chunks must be the same both ways.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "check_main.h"

#include <string.h>

#include "core/rng.h"
#include "core/str.h"
#include "text/split.h"
#include "text/vocab.h"

static bise_error err;

/* Walk both splitters over text; every chunk must be equal. */
static void same_chunks(const bise_split *a, const bise_split *b,
                        const bise_str *text)
{
    bise_split_cursor x, y;
    size_t xf = 0, xt = 0, yf = 0, yt = 0;
    ck_ok(bise_split_begin(&x, a, bise_str_get(text), text->len, &err));
    ck_ok(bise_split_begin(&y, b, bise_str_get(text), text->len, &err));
    for (;;) {
        const int rx = bise_split_next(&x, &xf, &xt);
        const int ry = bise_split_next(&y, &yf, &yt);
        ck_assert_msg(rx == ry && (rx <= 0 || (xf == yf && xt == yt)),
                      "[%zu,%zu) is not [%zu,%zu) (%d %d) in '%s'", xf, xt,
                      yf, yt, rx, ry, bise_str_get(text));
        if (rx <= 0)
            break;
    }
    bise_split_end(&x);
    bise_split_end(&y);
}

static void open_both(bise_split **hand, bise_split **re)
{
    const char *p = bise_tekken_pattern;
    ck_ok(bise_split_new(hand, p, strlen(p), false, false, &err));
    ck_ok(bise_split_new(re, p, strlen(p), false, true, &err));
}

/* Characters of all classes, and some of every length in UTF-8. */
static const unsigned some[] = {
    'a', 'b', 'z', 'A', 'Q', '0', '7', ' ', ' ', '\t', '\n', '\r', '/', '.',
    ',', '\'', '"', '-', '_', 0x0b, 0x0c, 0x1c, 0x7f, 0x85, 0xa0, 0xaa, 0xb2,
    0xb5, 0xdf, 0xe9, 0xc9, 0x1c5, 0x1c8, 0x2b0, 0x2c6, 0x300, 0x301, 0x345,
    0x370, 0x3a9, 0x3c9, 0x429, 0x449, 0x5d0, 0x627, 0x64b, 0x661, 0x903,
    0x939, 0xe01, 0xe31, 0x10a0, 0x10d0, 0x1680, 0x180e, 0x1e9e, 0x2000,
    0x200b, 0x200d, 0x2028, 0x202f, 0x2160, 0x2603, 0x2c2f, 0x3000, 0x3042,
    0x4e00, 0xa640, 0xac00, 0xe000, 0xfb01, 0xfe0f, 0xfeff, 0xff21, 0xff41,
    0xffe6, 0x10400, 0x10428, 0x1d400, 0x1d41a, 0x1d7ce, 0x1f600, 0x1f3fd,
    0x20000, 0x2f800, 0x30000, 0xe0001, 0xe0100, 0xf0000, 0x10ffff
};

START_TEST(hand_matcher_equals_pcre2_on_random_text)
{
    bise_split *hand, *re;
    uint64_t draw = 0;
    bise_str text = { 0 };
    const size_t kinds = sizeof some / sizeof *some;
    open_both(&hand, &re);
    for (int i = 0; i < 20000; i++) {
        bise_str_clear(&text);
        const size_t len = bise_rng_u64(5, 0, draw++) % 24;
        /* Few different characters make long runs and many collisions. */
        const size_t few = 1 + bise_rng_u64(5, 0, draw++) % kinds;
        const size_t base = bise_rng_u64(5, 0, draw++) % kinds;
        for (size_t k = 0; k < len; k++) {
            char u[4];
            unsigned cp = some[(base + bise_rng_u64(5, 0, draw++) % few) % kinds];
            if (i % 3 == 0)
                cp = (unsigned)(bise_rng_u64(5, 0, draw++) % 0x110000);
            if (cp >= 0xd800 && cp <= 0xdfff)
                cp -= 0x800;
            bise_str_add(&text, u, (size_t)bise_utf8_put(u, cp));
        }
        same_chunks(hand, re, &text);
    }
    bise_str_fini(&text);
    bise_split_free(hand);
    bise_split_free(re);
}
END_TEST

/* Behind a letter, a word, a blank and a digit each character shows its
 * class by where the cuts fall. */
START_TEST(every_character_has_the_class_pcre2_gives_it)
{
    bise_split *hand, *re;
    bise_str text = { 0 };
    open_both(&hand, &re);
    for (unsigned cp = 1; cp < 0x110000; cp++) {
        char u[4];
        if (cp >= 0xd800 && cp <= 0xdfff)
            continue;
        if (cp >= 0x40000 && cp < 0xe0000 && cp % 61)
            continue;           /* nothing is assigned here: a sample */
        if (cp >= 0xf0000 && cp % 61)
            continue;
        const size_t n = (size_t)bise_utf8_put(u, cp);
        bise_str_puts(&text, "a");
        bise_str_add(&text, u, n);
        bise_str_puts(&text, "Aa,");
        bise_str_add(&text, u, n);
        bise_str_puts(&text, "A\n");
        if (text.len > 60000) {
            same_chunks(hand, re, &text);
            bise_str_clear(&text);
        }
    }
    same_chunks(hand, re, &text);
    bise_str_fini(&text);
    bise_split_free(hand);
    bise_split_free(re);
}
END_TEST

static size_t count_chunks(const char *pattern, bool gaps, const char *text)
{
    bise_split *s;
    bise_split_cursor c;
    size_t from, to, n = 0;
    ck_ok(bise_split_new(&s, pattern, strlen(pattern), gaps, false, &err));
    ck_ok(bise_split_begin(&c, s, text, strlen(text), &err));
    while (bise_split_next(&c, &from, &to) > 0)
        n++;
    bise_split_end(&c);
    bise_split_free(s);
    return n;
}

START_TEST(other_patterns_keep_or_drop_gaps)
{
    ck_assert_uint_eq(count_chunks("\\d+", true, "a1b22c"), 5);
    ck_assert_uint_eq(count_chunks("\\d+", false, "a1b22c"), 2);
    ck_assert_uint_eq(count_chunks("x*", true, "axxb"), 3);
    ck_assert_uint_eq(count_chunks("x*", false, "axxb"), 1);
    ck_assert_uint_eq(count_chunks(".+", false, "one\ntwo\n"), 2);
    ck_assert_uint_eq(count_chunks("[^\\s]+", false, "a\xe1\xa0\x8e" "b c"), 2);
}
END_TEST

START_TEST(rejects_invalid_pattern)
{
    bise_split *s;
    ck_fails(bise_split_new(&s, "[a", 2, true, false, &err), BISE_EINVAL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("split");
    TCase *t = tcase_create("split");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, hand_matcher_equals_pcre2_on_random_text);
    tcase_add_test(t, every_character_has_the_class_pcre2_gives_it);
    tcase_add_test(t, other_patterns_keep_or_drop_gaps);
    tcase_add_test(t, rejects_invalid_pattern);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
