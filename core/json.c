/* json.c - the only file that sees jansson: parse with duplicate keys refused,
 * walk, build, and our own writer (shortest round-trip reals, Python layout
 * for chat templates). bise_json is jansson's json_t under another name.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"

/* jansson's reading functions take json_t without const in places. */
static json_t *raw(const bise_json *v)
{
    union { const bise_json *in; json_t *out; } u = { v };
    return u.out;
}

static bise_json *wrap(json_t *v)
{
    return (bise_json *)v;
}

bise_status bise_json_parse(bise_json **out, const char *text, size_t len,
                            bise_error *err)
{
    json_error_t e;
    const size_t flags =
        JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *v = json_loadb(text, len, flags, &e);
    if (!v)
        return bise_fail_at(err, BISE_EFORMAT, e.position,
                            "invalid JSON at line %d, column %d: %s", e.line,
                            e.column, e.text);
    *out = wrap(v);
    return BISE_OK;
}

bise_status bise_json_load(bise_json **out, const char *path, bise_error *err)
{
    bise_str text = { 0 };
    bise_status s = bise_file_read(&text, path, err);
    if (s == BISE_OK)
        s = bise_json_parse(out, bise_str_get(&text), text.len, err);
    bise_str_fini(&text);
    return s == BISE_OK ? s : bise_error_in(err, path, NULL);
}

/* NULL is fine; the last owner frees the tree. */
void bise_json_free(bise_json *v)
{
    json_decref(raw(v));
}

bise_json *bise_json_ref(const bise_json *v)
{
    return wrap(json_incref(raw(v)));
}

/* jansson keeps true and false as types of their own; we see one. */
bise_json_type bise_json_typeof(const bise_json *v)
{
    if (!v)
        return BISE_JSON_ABSENT;
    switch (json_typeof(raw(v))) {
    case JSON_OBJECT: return BISE_JSON_OBJECT;
    case JSON_ARRAY: return BISE_JSON_ARRAY;
    case JSON_STRING: return BISE_JSON_STRING;
    case JSON_INTEGER: return BISE_JSON_INT;
    case JSON_REAL: return BISE_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return BISE_JSON_BOOL;
    case JSON_NULL: return BISE_JSON_NULL;
    }
    return BISE_JSON_ABSENT;
}

/* NULL for anything that is not an object with this key. */
bise_json *bise_json_get(const bise_json *object, const char *key)
{
    return wrap(json_object_get(raw(object), key));
}

/* NULL beyond the end, as for anything that is not an array. */
bise_json *bise_json_at(const bise_json *array, size_t i)
{
    return wrap(json_array_get(raw(array), i));
}

/* Elements of an array or members of an object. */
size_t bise_json_size(const bise_json *v)
{
    if (bise_json_typeof(v) == BISE_JSON_ARRAY)
        return json_array_size(raw(v));
    return json_object_size(raw(v));
}

void *bise_json_iter(const bise_json *object, void *it)
{
    return it ? json_object_iter_next(raw(object), it) :
                json_object_iter(raw(object));
}

/* Borrowed from the object. */
const char *bise_json_iter_key(void *it)
{
    return json_object_iter_key(it);
}

/* Borrowed from the object. */
bise_json *bise_json_iter_value(void *it)
{
    return wrap(json_object_iter_value(it));
}

const char *bise_json_string(const bise_json *v, size_t *n)
{
    const char *s = json_string_value(raw(v));
    if (s && n)
        *n = json_string_length(raw(v));
    return s;
}

/* Some configurations quote their numbers: "4096" is read as one. */
double bise_json_number(const bise_json *v, double other)
{
    const json_t *j = raw(v);
    if (json_is_number(j))
        return json_number_value(j);
    const char *s = json_string_value(j);
    if (s && *s) {
        char *end;
        const double d = strtod(s, &end);
        if (!*end)
            return d;
    }
    return other;
}

/* Configurations write 1000000.0 for 1000000: accepted up to 9e15, where a
 * double still holds every whole number. */
bool bise_json_integer(const bise_json *v, int64_t *out)
{
    const json_t *j = raw(v);
    if (json_is_integer(j)) {
        *out = (int64_t)json_integer_value(j);
        return true;
    }
    if (!json_is_real(j))
        return false;
    const double d = json_real_value(j);
    if (d != floor(d) || fabs(d) > 9e15)
        return false;
    *out = (int64_t)d;
    return true;
}

bool bise_json_bool(const bise_json *v, bool other)
{
    const json_t *j = raw(v);
    return json_is_boolean(j) ? json_is_true(j) : other;
}

/* Absent counts as null: optional keys read the same both ways. */
bool bise_json_is_null(const bise_json *v)
{
    return !v || json_is_null(raw(v));
}

bise_json *bise_json_new_object(void)
{
    return wrap(json_object());
}

/* Empty; NULL when out of memory. */
bise_json *bise_json_new_array(void)
{
    return wrap(json_array());
}

/* NULL when the text is not valid UTF-8. */
bise_json *bise_json_new_string(const char *s)
{
    return bise_json_new_stringn(s, strlen(s));
}

/* The text may hold NUL bytes. */
bise_json *bise_json_new_stringn(const char *s, size_t n)
{
    return wrap(json_stringn(s, n));
}

/* NULL when out of memory. */
bise_json *bise_json_new_int(int64_t v)
{
    return wrap(json_integer(v));
}

/* JSON has no NaN and no infinity. */
bise_json *bise_json_new_real(double v)
{
    return wrap(isfinite(v) ? json_real(v) : json_null());
}

bise_json *bise_json_new_bool(bool v)
{
    return wrap(json_boolean(v));
}

/* A shared constant inside jansson; free it all the same. */
bise_json *bise_json_new_null(void)
{
    return wrap(json_null());
}

int bise_json_set(bise_json *object, const char *key, bise_json *child)
{
    return json_object_set_new(raw(object), key, raw(child));
}

/* Takes the child also when it fails. */
int bise_json_append(bise_json *array, bise_json *child)
{
    return json_array_append_new(raw(array), raw(child));
}

void bise_json_remove(bise_json *object, const char *key)
{
    json_object_del(raw(object), key);
}

bise_json *bise_json_copy(const bise_json *v)
{
    return wrap(json_deep_copy(raw(v)));
}

/* Layout of one dump. */
typedef struct dump_style {
    const char *comma, *colon;
    int indent;
    bool sorted;
} dump_style;

/* Shortest decimal that reads back as the same double, as Python's repr. */
static void put_real(bise_str *out, double v)
{
    char buf[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(buf, sizeof buf, "%.*e", digits - 1, v);
        if (strtod(buf, NULL) == v)
            break;
    }
    char *e = strchr(buf, 'e');
    const int exponent = atoi(e + 1);
    *e = 0;
    const bool negative = buf[0] == '-';
    char *digit = buf + negative, mantissa[24];
    size_t n = 0;
    for (const char *p = digit; *p && n < sizeof mantissa - 1; p++)
        if (*p != '.')
            mantissa[n++] = *p;
    mantissa[n] = 0;
    if (negative)
        bise_str_putc(out, '-');
    if (exponent < -4 || exponent >= 16) {      /* Python's repr limits */
        bise_str_putc(out, mantissa[0]);
        if (n > 1)
            bise_str_printf(out, ".%s", mantissa + 1);
        bise_str_printf(out, "e%c%02d", exponent < 0 ? '-' : '+',
                        abs(exponent));
        return;
    }
    if (exponent < 0) {
        bise_str_puts(out, "0.");
        for (int i = -1; i > exponent; i--)
            bise_str_putc(out, '0');
        bise_str_puts(out, mantissa);
        return;
    }
    for (int i = 0; i <= exponent; i++)
        bise_str_putc(out, (size_t)i < n ? mantissa[i] : '0');
    bise_str_putc(out, '.');
    bise_str_puts(out, n > (size_t)exponent + 1 ? mantissa + exponent + 1 :
                                                  "0");
}

static void newline(bise_str *out, const dump_style *st, int depth)
{
    if (!st->indent)
        return;
    bise_str_putc(out, '\n');
    for (int i = 0; i < depth * st->indent; i++)
        bise_str_putc(out, ' ');
}

static void dump(bise_str *out, const json_t *v, const dump_style *st,
                 int depth);

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Object: gather the keys (in input order, or sorted), then write each. */
static void dump_object(bise_str *out, json_t *v, const dump_style *st,
                        int depth)
{
    const size_t n = json_object_size(v);
    const char **keys = bise_alloc_array(n + 1, sizeof *keys);
    if (!keys) {
        out->failed = true;
        return;
    }
    size_t i = 0;
    for (void *it = json_object_iter(v); it; it = json_object_iter_next(v, it))
        keys[i++] = json_object_iter_key(it);
    if (st->sorted)
        qsort(keys, n, sizeof *keys, by_key);
    bise_str_putc(out, '{');
    for (i = 0; i < n; i++) {
        if (i)
            bise_str_puts(out, st->comma);
        newline(out, st, depth + 1);
        bise_str_put_json(out, keys[i], strlen(keys[i]));
        bise_str_puts(out, st->colon);
        dump(out, json_object_get(v, keys[i]), st, depth + 1);
    }
    if (n)
        newline(out, st, depth);
    bise_str_putc(out, '}');
    bise_free(keys);
}

/* Elements in order, one a line when indented. */
static void dump_array(bise_str *out, json_t *v, const dump_style *st,
                       int depth)
{
    const size_t n = json_array_size(v);
    bise_str_putc(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            bise_str_puts(out, st->comma);
        newline(out, st, depth + 1);
        dump(out, json_array_get(v, i), st, depth + 1);
    }
    if (n)
        newline(out, st, depth);
    bise_str_putc(out, ']');
}

/* Dispatch on the type; containers call back with one more level. */
static void dump(bise_str *out, const json_t *v, const dump_style *st,
                 int depth)
{
    json_t *w = raw((const bise_json *)v);
    switch (json_typeof(v)) {
    case JSON_OBJECT: dump_object(out, w, st, depth); break;
    case JSON_ARRAY: dump_array(out, w, st, depth); break;
    case JSON_STRING:
        bise_str_put_json(out, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        bise_str_printf(out, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL: put_real(out, json_real_value(v)); break;
    case JSON_TRUE: bise_str_puts(out, "true"); break;
    case JSON_FALSE: bise_str_puts(out, "false"); break;
    case JSON_NULL: bise_str_puts(out, "null"); break;
    }
}

void bise_json_dump(bise_str *out, const bise_json *v, int indent, bool sorted)
{
    if (!v)
        return;
    const dump_style st = { .comma = ",", .colon = indent ? ": " : ":",
                            .indent = indent, .sorted = sorted };
    dump(out, raw(v), &st, 0);
}

void bise_json_dump_python(bise_str *out, const bise_json *v)
{
    if (!v)
        return;
    const dump_style st = { .comma = ", ", .colon = ": " };
    dump(out, raw(v), &st, 0);
}
