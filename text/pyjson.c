/* pyjson.c - a recursive reader that writes as it reads. Objects are written
 * when they end, because a repeated key replaces an earlier value. Called by
 * the chat encoder for arguments and results of tools.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/pyjson.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"

#define DEPTH_MAX 400   /* Python gives up near 1000 levels */

typedef struct reader {
    const char *s;
    size_t n, at;
    int depth;
} reader;

static bool value(reader *r, bise_str *out);

/* The four characters that JSON calls white space, no others. */
static void skip_blanks(reader *r)
{
    while (r->at < r->n && strchr(" \t\n\r", r->s[r->at]) && r->s[r->at])
        r->at++;
}

/* Take a word such as "null"; false when it does not stand here. Used for
 * punctuation too: one function to take a fixed text. */
static bool word(reader *r, const char *w)
{
    const size_t len = strlen(w);
    if (r->n - r->at < len || memcmp(r->s + r->at, w, len) != 0)
        return false;
    r->at += len;
    return true;
}

/* Four hex digits of either case, as they follow a \u. */
static bool hex4(reader *r, unsigned *out)
{
    *out = 0;
    if (r->n - r->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        const char c = r->s[r->at++];
        const char *digits = "0123456789abcdef0123456789ABCDEF";
        const char *p = c ? strchr(digits, c) : NULL;
        if (!p)
            return false;
        *out = *out << 4 | (unsigned)((p - digits) & 15);
    }
    return true;
}

/* Behind a backslash. A lone surrogate cannot be UTF-8: U+FFFD. A pair of
 * surrogates is one character; when the second half is missing the reader
 * goes back to what follows the first. */
static bool escape(reader *r, bise_str *raw)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char u[4];
    unsigned cp, low;
    if (r->at >= r->n)
        return false;
    const char c = r->s[r->at++];
    const char *p = c ? strchr(from, c) : NULL;
    if (p) {
        bise_str_putc(raw, to[p - from]);
        return true;
    }
    if (c != 'u' || !hex4(r, &cp))
        return false;
    if (cp >= 0xd800 && cp < 0xdc00 && r->n - r->at >= 6 &&
        r->s[r->at] == '\\' && r->s[r->at + 1] == 'u') {
        const size_t back = r->at;
        r->at += 2;
        if (!hex4(r, &low))
            return false;
        if (low >= 0xdc00 && low < 0xe000)
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
        else
            r->at = back;
    }
    if (cp >= 0xd800 && cp < 0xe000)
        cp = 0xfffd;
    bise_str_add(raw, u, (size_t)bise_utf8_put(u, cp));
    return true;
}

/* A string, behind its opening quote, unescaped into raw. Control characters
 * must be escaped in JSON; other bytes are taken as they are, since the text
 * around was checked to be UTF-8 when it was read. */
static bool string(reader *r, bise_str *raw)
{
    while (r->at < r->n) {
        const char c = r->s[r->at++];
        if (c == '"')
            return true;
        if ((unsigned char)c < 32)
            return false;
        if (c != '\\')
            bise_str_putc(raw, c);
        else if (!escape(r, raw))
            return false;
    }
    return false;
}

/* Take a run of digits; how many they were. */
static size_t digits(reader *r)
{
    const size_t from = r->at;
    while (r->at < r->n && r->s[r->at] >= '0' && r->s[r->at] <= '9')
        r->at++;
    return r->at - from;
}

/* A whole number is copied; anything with a point or an exponent is a double
 * and gets Python's shortest spelling. A fraction or exponent without digits
 * does not belong to the number; what is left behind it is then the error. */
static bool number(reader *r, bise_str *out)
{
    const size_t from = r->at;
    bool real = false;
    if (r->s[r->at] == '-')
        r->at++;
    const size_t first = r->at, whole = digits(r);
    if (!whole)
        return false;
    if (whole > 1 && r->s[first] == '0')
        r->at = first + 1;              /* the rest is an error behind it */
    size_t end = r->at;
    if (r->at < r->n && r->s[r->at] == '.') {
        r->at++;
        if (digits(r)) {
            end = r->at;
            real = true;
        }
        r->at = end;
    }
    if (r->at < r->n && (r->s[r->at] == 'e' || r->s[r->at] == 'E')) {
        r->at++;
        if (r->at < r->n && (r->s[r->at] == '+' || r->s[r->at] == '-'))
            r->at++;
        if (digits(r)) {
            end = r->at;
            real = true;
        }
        r->at = end;
    }
    if (!real) {
        const bool zero = end - from == 2 && r->s[from] == '-' &&
                          r->s[first] == '0';
        bise_str_add(out, zero ? "0" : r->s + from, zero ? 1 : end - from);
        return true;
    }
    char *copy = bise_strndup(r->s + from, end - from);
    const double v = copy ? strtod(copy, NULL) : 0;
    bise_json *j = bise_json_new_real(v);
    out->failed |= !copy || !j;
    if (v > 1.7976931348623157e308 || v < -1.7976931348623157e308)
        bise_str_puts(out, v > 0 ? "Infinity" : "-Infinity");
    else
        bise_json_dump_python(out, j);
    bise_json_free(j);
    bise_free(copy);
    return true;
}

/* An array, behind its bracket, written as it is read. */
static bool array(reader *r, bise_str *out)
{
    bise_str_putc(out, '[');
    skip_blanks(r);
    if (word(r, "]")) {
        bise_str_putc(out, ']');
        return true;
    }
    for (;;) {
        if (!value(r, out))
            return false;
        skip_blanks(r);
        if (word(r, "]"))
            break;
        if (!word(r, ","))
            return false;
        bise_str_puts(out, ", ");
    }
    bise_str_putc(out, ']');
    return true;
}

typedef struct member {
    bise_str key, value;
} member;

typedef struct members {
    member *v;
    size_t n, cap;
} members;

/* The member of a key, new at the end when there is none; NULL when out of
 * memory. Takes the key. Linear in the members, which arguments of tools
 * have few of. The first occurrence keeps its place, as in a Python dict. */
static member *member_of(members *m, bise_str *key)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->v[i].key.len == key->len &&
            memcmp(bise_str_get(&m->v[i].key), bise_str_get(key),
                   key->len) == 0) {
            bise_str_fini(key);
            bise_str_clear(&m->v[i].value);
            return &m->v[i];
        }
    void *v = m->v;
    if (bise_grow(&v, &m->cap, m->n + 1, sizeof *m->v) != 0) {
        bise_str_fini(key);
        return NULL;
    }
    m->v = v;
    m->v[m->n] = (member){ .key = *key };
    *key = (bise_str){ 0 };
    return &m->v[m->n++];
}

/* The members of an object, behind its brace. On failure the caller releases
 * what was read so far. */
static bool read_members(reader *r, members *m, bise_str *out)
{
    skip_blanks(r);
    if (word(r, "}"))
        return true;
    for (;;) {
        bise_str key = { 0 };
        skip_blanks(r);
        if (!word(r, "\"") || !string(r, &key)) {
            bise_str_fini(&key);
            return false;
        }
        out->failed |= key.failed;
        skip_blanks(r);
        member *to = member_of(m, &key);
        if (!to) {
            out->failed = true;
            return false;
        }
        if (!word(r, ":") || !value(r, &to->value))
            return false;
        out->failed |= to->value.failed;
        skip_blanks(r);
        if (word(r, "}"))
            return true;
        if (!word(r, ","))
            return false;
    }
}

/* An object, behind its brace: collected, then written and released, also
 * when it turned out to be broken. */
static bool object(reader *r, bise_str *out)
{
    members m = { 0 };
    const bool ok = read_members(r, &m, out);
    bise_str_putc(out, '{');
    for (size_t i = 0; i < m.n; i++) {
        if (i)
            bise_str_puts(out, ", ");
        bise_str_put_json(out, bise_str_get(&m.v[i].key), m.v[i].key.len);
        bise_str_puts(out, ": ");
        bise_str_add(out, bise_str_get(&m.v[i].value), m.v[i].value.len);
        bise_str_fini(&m.v[i].key);
        bise_str_fini(&m.v[i].value);
    }
    bise_str_putc(out, '}');
    bise_free(m.v);
    return ok;
}

/* Any value. The depth is limited because each level is a call of its own;
 * deeper input counts as no JSON, and stays text. */
static bool value(reader *r, bise_str *out)
{
    static const char *const words[] = { "true", "false", "null", "NaN",
                                         "Infinity", "-Infinity" };
    skip_blanks(r);
    if (r->at >= r->n || r->depth >= DEPTH_MAX)
        return false;
    bool ok = false;
    bise_str raw = { 0 };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (word(r, words[i])) {
            bise_str_puts(out, words[i]);
            return true;
        }
    r->depth++;
    switch (r->s[r->at]) {
    case '"':
        r->at++;
        ok = string(r, &raw);
        bise_str_put_json(out, bise_str_get(&raw), raw.len);
        out->failed |= raw.failed;
        bise_str_fini(&raw);
        break;
    case '[':
        r->at++;
        ok = array(r, out);
        break;
    case '{':
        r->at++;
        ok = object(r, out);
        break;
    default:
        ok = number(r, out);
    }
    r->depth--;
    return ok;
}

/* Writes to a buffer first: half a value must not reach out. */
bool bise_pyjson(bise_str *out, const char *s, size_t n)
{
    reader r = { .s = s, .n = n };
    bise_str text = { 0 };
    bool ok = value(&r, &text);
    skip_blanks(&r);
    ok = ok && r.at == n;
    if (ok)
        bise_str_add(out, bise_str_get(&text), text.len);
    out->failed |= text.failed;
    bise_str_fini(&text);
    return ok;
}
