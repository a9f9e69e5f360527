/* split.c - the Tekken pattern by hand, everything else by PCRE2.
 * The pattern is an ordered alternation (mistral3.md 4.2), with U = Lu Lt,
 * L = Ll, B = Lm Lo (in both case classes), M = marks (also in both), N:
 *   1  [^\r\n L N]? [U B M]* [L B M]+        4  ' '? [^\s L N]+ [\r\n/]*
 *   2  [^\r\n L N]? [U B M]+ [L B M]*        5  \s* [\r\n]+
 *   3  N                                     6  \s+ (?!\S)      7  \s+
 * Classes come from PCRE2 itself, so both ways know the same Unicode.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/split.h"

#include <stdatomic.h>
#include <string.h>

#include "core/mem.h"
#include "core/str.h"
#include "text/vocab.h"

enum { OTHER, UPPER, LOWER, BOTH, MARK, NUMBER, BLANK, NEWLINE };

#define IN(class, set) ((1u << (class)) & (set))
#define WORD_HEAD (1u << UPPER | 1u << BOTH | 1u << MARK)
#define WORD_TAIL (1u << LOWER | 1u << BOTH | 1u << MARK)
#define LEAD (1u << OTHER | 1u << BLANK)
#define SYMBOL (1u << OTHER | 1u << MARK)
#define WHITE (1u << BLANK | 1u << NEWLINE)

/* Letters and marks end here: planes 4 to 13, 15 and 16 have none, plane 14
 * only the variation selectors (Unicode 16; check_split.c compares all). */
#define TABLE_END 0x40000u
#define SELECTORS 0xe0100u
#define SELECTORS_END 0xe01f0u
#define BLOCK 4096u /* characters classified at once */

/* Classes are asked of PCRE2 block by block when a text needs them: a program
 * that sees only English pays for one block. A block is filled under the lock
 * and then marked ready, after which it is only read. */
typedef struct class_table {
    uint8_t of[TABLE_END]; /* by code point */
    atomic_bool ready[TABLE_END / BLOCK];
    atomic_flag lock;
    bise_regex *re[6];
    bise_matcher *matcher[6];
} class_table;

struct bise_split {
    bise_regex *re;       /* NULL for the hand-written matcher */
    bool keep_gaps;
    class_table *classes;
};

const char bise_tekken_pattern[] =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
    "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* White space as Unicode defines it; PCRE2's \s also takes U+180E. */
#define SPACES "\\p{Z}\\x{9}-\\x{d}\\x{85}"

static const struct { const char *pattern; uint8_t class; } kinds[6] = {
    { "[\\p{Lu}\\p{Lt}]+", UPPER }, { "\\p{Ll}+", LOWER },
    { "[\\p{Lm}\\p{Lo}]+", BOTH }, { "\\p{M}+", MARK },
    { "\\p{N}+", NUMBER }, { "[" SPACES "]+", BLANK },
};

/* Accepts a table that was only half made. */
static void free_classes(class_table *t)
{
    for (int i = 0; t && i < 6; i++) {
        bise_matcher_free(t->matcher[i]);
        bise_regex_free(t->re[i]);
    }
    bise_free(t);
}

/* The expressions are compiled once here; which characters they cover is
 * asked later, block by block. */
static bise_status new_classes(class_table **out, bise_error *err)
{
    class_table *t = bise_alloc(sizeof *t);
    bise_status s = t ? BISE_OK : bise_fail_nomem(err);
    for (int i = 0; i < 6 && s == BISE_OK; i++) {
        s = bise_regex_new(&t->re[i], kinds[i].pattern,
                           strlen(kinds[i].pattern), err);
        if (s == BISE_OK)
            s = bise_matcher_new(&t->matcher[i], t->re[i], err);
    }
    if (s != BISE_OK) {
        free_classes(t);
        return s;
    }
    atomic_flag_clear(&t->lock);
    *out = t;
    return BISE_OK;
}

/* Classes of the characters of a block. All its text goes through each
 * expression; what a match covers is of its class. A match is a run of
 * characters, so ideographs and syllables pass by the thousand. */
static void classify(class_table *t, unsigned block)
{
    char text[BLOCK * 4];
    size_t n = 0, from, to;
    for (unsigned cp = block * BLOCK; cp < (block + 1) * BLOCK; cp++)
        if (cp < 0xd800 || cp > 0xdfff)
            n += (size_t)bise_utf8_put(text + n, cp);
    for (int i = 0; i < 6; i++)
        for (size_t at = 0; bise_regex_find(t->re[i], t->matcher[i], text, n,
                                            at, &from, &to) > 0;)
            for (at = from; at < to;) {
                unsigned cp = 0;
                const int len = bise_utf8_next(text + at, to - at, &cp);
                t->of[cp] = kinds[i].class;
                at += (size_t)len;
            }
    if (block == 0)
        t->of['\r'] = t->of['\n'] = NEWLINE;
}

/* Fill a block unless another thread has. Rare, so spinning is fine. The
 * store of the flag releases the classes to readers, which load it with
 * acquire; a reader that sees the flag needs no lock. */
static void fill_block(class_table *t, unsigned block)
{
    while (atomic_flag_test_and_set_explicit(&t->lock, memory_order_acquire))
        ;
    if (!atomic_load_explicit(&t->ready[block], memory_order_relaxed)) {
        classify(t, block);
        atomic_store_explicit(&t->ready[block], true, memory_order_release);
    }
    atomic_flag_clear_explicit(&t->lock, memory_order_release);
}

/* The pattern with \s and \S spelt as Unicode white space. Needed because
 * Rust's, Python's and Oniguruma's \s is White_Space, while PCRE2 adds
 * U+180E; inside of a class \S is left alone, no known pattern has it
 * there. */
static void spell_spaces(bise_str *out, const char *p, size_t n)
{
    bool inside = false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '\\' || i + 1 == n) {
            inside = p[i] == '[' ? true : p[i] == ']' ? false : inside;
            bise_str_putc(out, p[i]);
            continue;
        }
        i++;
        if (p[i] == 's' || (p[i] == 'S' && !inside)) {
            bise_str_puts(out, inside ? SPACES :
                          p[i] == 's' ? "[" SPACES "]" : "[^" SPACES "]");
        } else {
            bise_str_putc(out, '\\');
            bise_str_putc(out, p[i]);
        }
    }
}

/* The pattern is compared as text: the hand-written matcher is for this one
 * expression and no other that might mean the same. */
bise_status bise_split_new(bise_split **out, const char *pattern, size_t n,
                           bool keep_gaps, bool force_regex, bise_error *err)
{
    bise_split *s = bise_alloc(sizeof *s);
    if (!s)
        return bise_fail_nomem(err);
    s->keep_gaps = keep_gaps;
    bise_status status;
    if (!force_regex && n == strlen(bise_tekken_pattern) &&
        memcmp(pattern, bise_tekken_pattern, n) == 0) {
        status = new_classes(&s->classes, err);
        if (status == BISE_OK)
            fill_block(s->classes, 0);
    } else {
        bise_str p = { 0 };
        spell_spaces(&p, pattern, n);
        status = bise_str_ok(&p) ?
            bise_regex_new(&s->re, bise_str_get(&p), p.len, err) :
            bise_fail_nomem(err);
        bise_str_fini(&p);
    }
    if (status != BISE_OK) {
        bise_split_free(s);
        return status;
    }
    *out = s;
    return BISE_OK;
}

/* Accepts NULL and a splitter that failed half-way. */
void bise_split_free(bise_split *s)
{
    if (!s)
        return;
    bise_regex_free(s->re);
    free_classes(s->classes);
    bise_free(s);
}

/* The regular expression needs scratch of its own for every walk; the
 * hand-written matcher needs nothing. */
bise_status bise_split_begin(bise_split_cursor *c, const bise_split *s,
                             const char *text, size_t n, bise_error *err)
{
    *c = (bise_split_cursor){ .split = s, .text = text, .n = n };
    return s->re ? bise_matcher_new(&c->matcher, s->re, err) : BISE_OK;
}

/* Release the scratch of a walk; may be called twice. */
void bise_split_end(bise_split_cursor *c)
{
    bise_matcher_free(c->matcher);
    c->matcher = NULL;
}

/* A text for the hand-written matcher. */
typedef struct scan {
    class_table *classes;
    const uint8_t *s;
    size_t n;
} scan;

/* Class of a character beyond the first block, which is filled when it is
 * first asked for. */
static inline unsigned class_of(class_table *t, unsigned cp)
{
    if (cp >= TABLE_END)
        return cp >= SELECTORS && cp < SELECTORS_END ? MARK : OTHER;
    if (!atomic_load_explicit(&t->ready[cp / BLOCK], memory_order_acquire))
        fill_block(t, cp / BLOCK);
    return t->of[cp];
}

/* Class of the character at p < n; *end is the position behind it. The text
 * is valid UTF-8, so the lead byte tells the length. The first block, with all
 * characters of one and two bytes, is always there. */
static inline unsigned class_at(const scan *t, size_t p, size_t *end)
{
    const uint8_t *s = t->s + p;
    if (s[0] < 0x80) {
        *end = p + 1;
        return t->classes->of[s[0]];
    }
    if (s[0] < 0xe0) {
        *end = p + 2;
        return t->classes->of[(s[0] & 31u) << 6 | (s[1] & 63u)];
    }
    if (s[0] < 0xf0) {
        *end = p + 3;
        return class_of(t->classes, (s[0] & 15u) << 12 | (s[1] & 63u) << 6 |
                                    (s[2] & 63u));
    }
    *end = p + 4;
    return class_of(t->classes, (s[0] & 7u) << 18 | (s[1] & 63u) << 12 |
                                (s[2] & 63u) << 6 | (s[3] & 63u));
}

/* End of the run of characters of set that starts at p. Called for the runs
 * of letters, marks and symbols that most of a text consists of. */
static inline size_t run(const scan *t, size_t p, unsigned set)
{
    size_t end;
    while (p < t->n && IN(class_at(t, p, &end), set))
        p = end;
    return p;
}

/* The end of the word that starts at p, 0 when none does. Alternatives 1 and
 * 2 behind their optional lead: the head class runs on; a lower-case letter
 * behind it starts the tail. Without one alternative 1 gives back characters
 * up to the last that is in both classes; with none, alternative 2 takes the
 * whole run. Derived from backtracking: the head class is greedy, then one
 * character of the tail class must follow. */
static inline size_t word_end(const scan *t, size_t p)
{
    size_t q = p, end, last = 0;
    while (q < t->n) {
        const unsigned c = class_at(t, q, &end);
        if (!IN(c, WORD_HEAD)) {
            if (c == LOWER)
                return run(t, end, WORD_TAIL);
            break;
        }
        if (c != UPPER)
            last = end;
        q = end;
    }
    return last ? last : q > p ? q : 0;
}

/* Alternatives 5 to 7: white space that starts at p. A new line inside of
 * the run wins over all (5); else the last blank is left for the next word
 * (6), unless the text ends here or it is alone (7). */
static size_t blank_end(const scan *t, size_t p)
{
    size_t q = p, end, newline = 0, before = p;
    while (q < t->n) {
        const unsigned c = class_at(t, q, &end);
        if (!IN(c, WHITE))
            break;
        before = q;
        q = end;
        if (c == NEWLINE)
            newline = end;
    }
    if (newline)
        return newline;
    return q == t->n || before == p ? q : before;
}

/* End of the chunk that starts at p < n. A mark may be a lead too, but then
 * the word behind it ends where a word that starts with it does. The
 * alternatives are tried in their order: 1 and 2 for letters, with one
 * character in front; 3 for digits; 4 for symbols; 5 to 7 for blanks. */
static inline size_t chunk_end(const scan *t, size_t p)
{
    size_t next, end;
    const unsigned c = class_at(t, p, &next);
    if (IN(c, LEAD)) {
        end = word_end(t, next);
        if (end)
            return end;
    } else if (c != NUMBER && c != NEWLINE) {
        return word_end(t, p);
    }
    if (c == NUMBER)
        return next;
    size_t first = t->s[p] == ' ' ? next : p;
    end = run(t, first, SYMBOL);
    if (end == first)
        return blank_end(t, p);
    while (end < t->n && (t->s[end] == '\r' || t->s[end] == '\n' ||
                          t->s[end] == '/'))
        end++;
    return end;
}

/* The next match of the expression, with the gap before it when kept. An
 * empty match is skipped by one character, as every engine does that finds
 * all matches, or the walk would never end. */
static int regex_next(bise_split_cursor *c, size_t *from, size_t *to)
{
    size_t start = c->at;
    while (!c->hit) {
        const int rc = bise_regex_find(c->split->re, c->matcher, c->text, c->n,
                                       start, &c->hit_from, &c->hit_to);
        if (rc < 0)
            return -1;
        if (rc == 0) {
            c->hit_from = c->hit_to = c->n;
        } else if (c->hit_to == c->hit_from && c->hit_to < c->n) {
            unsigned cp;                /* an empty match: look further on */
            start = c->hit_to + (size_t)bise_utf8_next(c->text + c->hit_to,
                                                       c->n - c->hit_to, &cp);
            continue;
        }
        c->hit = true;
        if (c->hit_from > c->at && c->split->keep_gaps) {
            *from = c->at;
            *to = c->at = c->hit_from;
            return 1;
        }
    }
    c->hit = false;
    *from = c->hit_from;
    *to = c->at = c->hit_to;
    return *to > *from;
}

/* The positions are bytes; chunks come in order, and with keep_gaps they
 * cover the text without a hole. */
int bise_split_next(bise_split_cursor *c, size_t *from, size_t *to)
{
    if (c->at >= c->n)
        return 0;
    if (c->split->re)
        return regex_next(c, from, to);
    const scan t = { c->split->classes, (const uint8_t *)c->text, c->n };
    *from = c->at;
    *to = c->at = chunk_end(&t, c->at);
    return 1;
}
