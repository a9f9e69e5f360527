/* str.c - growable strings and the small text helpers shared by all folders:
 * paths, UTF-8, edit distance for hints, sizes with unit suffixes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

/* Make room for n more bytes and the terminator. */
static bool reserve(bise_str *s, size_t n)
{
    if (s->failed)
        return false;
    void *p = s->data;
    if (bise_grow(&p, &s->cap, s->len + n + 1, 1) != 0) {
        s->failed = true;
        return false;
    }
    s->data = p;
    return true;
}

/* n may be 0 with bytes NULL. */
void bise_str_add(bise_str *s, const void *bytes, size_t n)
{
    if (!reserve(s, n))
        return;
    if (n)
        memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = 0;
}

/* Up to the terminator. */
void bise_str_puts(bise_str *s, const char *text)
{
    bise_str_add(s, text, strlen(text));
}

/* Any byte, NUL included. */
void bise_str_putc(bise_str *s, char c)
{
    bise_str_add(s, &c, 1);
}

/* Formatted twice: once to learn the length, once into place. */
void bise_str_printf(bise_str *s, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n >= 0 && reserve(s, (size_t)n)) {
        vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
}

/* Short escapes where JSON has them, \u for other control bytes; bytes above
 * 0x7f pass as they are (UTF-8). */
void bise_str_put_json(bise_str *s, const char *text, size_t n)
{
    bise_str_putc(s, '"');
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        switch (c) {
        case '"': bise_str_puts(s, "\\\""); break;
        case '\\': bise_str_puts(s, "\\\\"); break;
        case '\n': bise_str_puts(s, "\\n"); break;
        case '\r': bise_str_puts(s, "\\r"); break;
        case '\t': bise_str_puts(s, "\\t"); break;
        case '\b': bise_str_puts(s, "\\b"); break;
        case '\f': bise_str_puts(s, "\\f"); break;
        default:
            if (c < 32)
                bise_str_printf(s, "\\u%04x", c);
            else
                bise_str_putc(s, (char)c);
        }
    }
    bise_str_putc(s, '"');
}

void bise_str_put_html(bise_str *s, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '&': bise_str_puts(s, "&amp;"); break;
        case '<': bise_str_puts(s, "&lt;"); break;
        case '>': bise_str_puts(s, "&gt;"); break;
        case '"': bise_str_puts(s, "&quot;"); break;
        default: bise_str_putc(s, *text);
        }
}

void bise_str_clear(bise_str *s)
{
    s->len = 0;
    if (s->data)
        s->data[0] = 0;
}

bool bise_str_ok(const bise_str *s)
{
    return !s->failed;
}

const char *bise_str_get(const bise_str *s)
{
    return s->data ? s->data : "";
}

/* A failed string hands out nothing, so that no truncated text is used. */
char *bise_str_take(bise_str *s)
{
    char *p = s->failed ? NULL : s->data ? s->data : bise_strdup("");
    if (s->failed)
        bise_free(s->data);
    memset(s, 0, sizeof *s);
    return p;
}

/* Also forgets an earlier failure, so the object can be used again. */
void bise_str_fini(bise_str *s)
{
    bise_free(s->data);
    memset(s, 0, sizeof *s);
}

char *bise_path_join(const char *dir, const char *name)
{
    bise_str s = { 0 };
    bise_str_puts(&s, dir);
    if (s.len && s.data[s.len - 1] != '/')
        bise_str_putc(&s, '/');
    bise_str_puts(&s, name);
    return bise_str_take(&s);
}

const char *bise_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Compared bytewise. */
bool bise_ends_with(const char *s, const char *suffix)
{
    const size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

/* Compared bytewise. */
bool bise_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* Length from the lead byte, then continuation bytes, then the ranges that
 * are encodable but not allowed (Unicode 15, table 3-7). */
int bise_utf8_next(const char *s, size_t n, unsigned *cp)
{
    static const unsigned least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (n == 0)
        return 0;
    const unsigned char c = (unsigned char)s[0];
    const int len = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 :
                    c >> 3 == 30 ? 4 : 0;
    if (len == 0 || (size_t)len > n)
        return 0;
    unsigned v = len == 1 ? c : c & (0x7fu >> len);
    for (int i = 1; i < len; i++) {
        const unsigned char d = (unsigned char)s[i];
        if (d >> 6 != 2)
            return 0;
        v = v << 6 | (d & 0x3f);
    }
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return 0;
    if (cp)
        *cp = v;
    return len;
}

/* The caller has checked that cp is a scalar value. */
int bise_utf8_put(char out[4], unsigned cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    const int len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    for (int i = len - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)(lead[len] | cp);
    return len;
}

int bise_edit_distance(const char *a, const char *b)
{
    int d[3][66];
    const int n = (int)strnlen(a, 64), m = (int)strnlen(b, 64);
    for (int j = 0; j <= m; j++)
        d[0][j] = j;
    for (int i = 1; i <= n; i++) {              /* three rolling rows */
        int *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int v = up[j - 1] + (a[i - 1] != b[j - 1]);
            v = up[j] + 1 < v ? up[j] + 1 : v;
            v = row[j - 1] + 1 < v ? row[j - 1] + 1 : v;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                v = up2[j - 2] + 1 < v ? up2[j - 2] + 1 : v;
            row[j] = v;
        }
    }
    return d[n % 3][m];
}

/* K M G T powers of ten, with "i" powers of two, an optional B behind. */
int bise_parse_size(const char *text, unsigned long long *out)
{
    char *end;
    const double v = strtod(text, &end);
    if (end == text || !(v >= 0))
        return -1;
    static const char units[] = "KMGT";
    double mul = 1;
    const char *u = *end ? strchr(units, *end & ~32) : NULL;
    if (u) {
        const int power = (int)(u - units) + 1;
        const int binary = end[1] == 'i';
        for (int i = 0; i < power; i++)
            mul *= binary ? 1024 : 1000;
        end += 1 + binary;
    }
    if (*end == 'B' || *end == 'b')
        end++;
    if (*end || v * mul >= 1.8e19)
        return -1;
    *out = (unsigned long long)(v * mul);
    return 0;
}

/* Powers of ten; three digits, so that columns stay narrow. */
char *bise_format_bytes(char out[32], unsigned long long bytes)
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    double v = (double)bytes;
    int u = 0;
    while (v >= 999.5 && u < 4) {
        v /= 1000;
        u++;
    }
    snprintf(out, 32, u == 0 ? "%.0f %s" : v < 10 ? "%.2f %s" : "%.1f %s", v,
             units[u]);
    return out;
}
