/* yaml.c - YAML documents as JSON values through libyaml's event parser, and
 * a block-style writer. Only what settings and model cards need: one document,
 * no aliases, no tags beyond the core schema.
 * Aliases are refused because nested ones grow without bound (the "billion
 * laughs"); a second document because it would be ignored silently.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/mem.h"

#define MAX_DEPTH 100

/* Parser and the event in hand. */
typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bise_error *err;
} reader;

/* Line and column count from 1, as editors do. */
static bise_status fail_here(const reader *r, const char *text,
                             const char *subject)
{
    const yaml_mark_t m = r->event.start_mark;
    return bise_fail_at(r->err, BISE_EFORMAT, (int64_t)m.index,
                        "line %zu, column %zu: %s%s%s%s", m.line + 1,
                        m.column + 1, text, subject ? " '" : "",
                        subject ? subject : "", subject ? "'" : "");
}

/* Replace the event in hand by the next one. */
static bise_status advance(reader *r)
{
    yaml_event_delete(&r->event);
    if (yaml_parser_parse(&r->parser, &r->event))
        return BISE_OK;
    memset(&r->event, 0, sizeof r->event);
    if (r->parser.error == YAML_MEMORY_ERROR)
        return bise_fail_nomem(r->err);
    const yaml_mark_t m = r->parser.problem_mark;
    return bise_fail_at(r->err, BISE_EFORMAT, (int64_t)m.index,
                        "invalid YAML at line %zu, column %zu: %s",
                        m.line + 1, m.column + 1,
                        r->parser.problem ? r->parser.problem : "unreadable");
}

/* list ends with NULL. */
static bool is_one_of(const char *s, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(s, *list) == 0)
            return true;
    return false;
}

/* [-+]?[0-9]+, or 0x / 0o forms of the core schema. */
static bool is_int(const char *s, int64_t *out)
{
    char *end;
    int base = 10;
    const char *digits = s + (*s == '-' || *s == '+');
    if (digits == s && s[0] == '0' && (s[1] == 'x' || s[1] == 'o')) {
        base = s[1] == 'x' ? 16 : 8;
        digits = s + 2;
    }
    if (!*digits || strspn(digits, base == 16 ? "0123456789abcdefABCDEF" :
                           base == 8 ? "01234567" : "0123456789") !=
        strlen(digits) || strlen(digits) > 18)
        return false;
    *out = strtoll(base == 10 ? s : digits, &end, base);
    return !*end;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool is_real(const char *s, double *out)
{
    const char *p = s + (*s == '-' || *s == '+');
    size_t whole = strspn(p, "0123456789"), part = 0;
    p += whole;
    if (*p == '.') {
        p++;
        part = strspn(p, "0123456789");
        p += part;
    }
    if (!whole && !part)
        return false;
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '-' || *p == '+';
        const size_t digits = strspn(p, "0123456789");
        if (!digits)
            return false;
        p += digits;
    }
    if (*p)
        return false;
    *out = strtod(s, NULL);
    return true;
}

/* A plain scalar by the core schema of YAML 1.2. */
static bise_json *plain_scalar(const char *s)
{
    static const char *const nulls[] = { "", "~", "null", "Null", "NULL",
                                         NULL };
    static const char *const trues[] = { "true", "True", "TRUE", NULL };
    static const char *const falses[] = { "false", "False", "FALSE", NULL };
    int64_t i;
    double d;
    if (is_one_of(s, nulls))
        return bise_json_new_null();
    if (is_one_of(s, trues) || is_one_of(s, falses))
        return bise_json_new_bool(is_one_of(s, trues));
    if (is_int(s, &i))
        return bise_json_new_int(i);
    if (is_real(s, &d))
        return bise_json_new_real(d);
    return bise_json_new_string(s);
}

static bise_status read_node(reader *r, bise_json **out, int depth);

/* Only plain scalars without a tag have a type; quoted ones are strings
 * whatever they look like. */
static bise_status read_scalar(reader *r, bise_json **out)
{
    const char *s = (const char *)r->event.data.scalar.value;
    const size_t n = r->event.data.scalar.length;
    const bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                       !r->event.data.scalar.tag;
    if (strlen(s) != n)
        return fail_here(r, "NUL byte in a value", NULL);
    *out = plain ? plain_scalar(s) : bise_json_new_stringn(s, n);
    return *out ? BISE_OK : fail_here(r, "invalid UTF-8", NULL);
}

/* On return the event in hand is the end of the sequence; the caller moves
 * on. The child is taken by the list also when appending fails. */
static bise_status read_sequence(reader *r, bise_json **out, int depth)
{
    bise_json *list = bise_json_new_array();
    bise_status s = list ? advance(r) : bise_fail_nomem(r->err);
    while (s == BISE_OK && r->event.type != YAML_SEQUENCE_END_EVENT) {
        bise_json *v = NULL;
        s = read_node(r, &v, depth + 1);
        if (s == BISE_OK && bise_json_append(list, v) != 0)
            s = bise_fail_nomem(r->err);
        if (s == BISE_OK)
            s = advance(r);
    }
    if (s != BISE_OK) {
        bise_json_free(list);
        return s;
    }
    *out = list;
    return BISE_OK;
}

/* One "key: value" pair; on return the event in hand is the value's last. */
static bise_status read_pair(reader *r, bise_json *map, int depth)
{
    if (r->event.type != YAML_SCALAR_EVENT)
        return fail_here(r, "a key must be a plain value", NULL);
    const char *text = (const char *)r->event.data.scalar.value;
    if (strlen(text) != r->event.data.scalar.length)
        return fail_here(r, "NUL byte in a key", NULL);
    if (bise_json_get(map, text))
        return fail_here(r, "this key stands twice:", text);
    char *key = bise_strdup(text);
    bise_json *v = NULL;
    bise_status s = key ? advance(r) : bise_fail_nomem(r->err);
    if (s == BISE_OK)
        s = read_node(r, &v, depth + 1);
    if (s == BISE_OK && bise_json_set(map, key, v) != 0)
        s = fail_here(r, "invalid UTF-8 in a key", NULL);
    bise_free(key);
    return s;
}

/* As read_sequence; keys are checked for duplicates in read_pair. */
static bise_status read_mapping(reader *r, bise_json **out, int depth)
{
    bise_json *map = bise_json_new_object();
    bise_status s = map ? advance(r) : bise_fail_nomem(r->err);
    while (s == BISE_OK && r->event.type != YAML_MAPPING_END_EVENT) {
        s = read_pair(r, map, depth);
        if (s == BISE_OK)
            s = advance(r);
    }
    if (s != BISE_OK) {
        bise_json_free(map);
        return s;
    }
    *out = map;
    return BISE_OK;
}

/* The node that starts with the event in hand. */
static bise_status read_node(reader *r, bise_json **out, int depth)
{
    if (depth > MAX_DEPTH)
        return fail_here(r, "nested too deeply", NULL);
    switch (r->event.type) {
    case YAML_SCALAR_EVENT: return read_scalar(r, out);
    case YAML_SEQUENCE_START_EVENT: return read_sequence(r, out, depth);
    case YAML_MAPPING_START_EVENT: return read_mapping(r, out, depth);
    case YAML_ALIAS_EVENT:
        return fail_here(r, "aliases (*name) are not read", NULL);
    default: return fail_here(r, "unexpected end", NULL);
    }
}

/* Stream start, one document, stream end. */
static bise_status read_stream(reader *r, bise_json **out)
{
    bise_json *v = NULL;
    bise_status s = advance(r);                 /* stream start */
    if (s == BISE_OK)
        s = advance(r);
    if (s == BISE_OK && r->event.type == YAML_STREAM_END_EVENT) {
        *out = bise_json_new_null();            /* an empty file */
        return *out ? BISE_OK : bise_fail_nomem(r->err);
    }
    if (s == BISE_OK)
        s = advance(r);                         /* past document start */
    if (s == BISE_OK)
        s = read_node(r, &v, 0);
    if (s == BISE_OK)
        s = advance(r);                         /* document end */
    if (s == BISE_OK)
        s = advance(r);
    if (s == BISE_OK && r->event.type != YAML_STREAM_END_EVENT)
        s = fail_here(r, "a second document is not read", NULL);
    if (s != BISE_OK) {
        bise_json_free(v);
        return s;
    }
    *out = v;
    return BISE_OK;
}

/* The parser's memory is bounded by the text; depth by MAX_DEPTH. */
bise_status bise_yaml_parse(bise_json **out, const char *text, size_t len,
                            bise_error *err)
{
    reader r = { .err = err };
    if (!yaml_parser_initialize(&r.parser))
        return bise_fail_nomem(err);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    const bise_status s = read_stream(&r, out);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return s;
}

/* Length of the line at text including its newline. */
static size_t line_length(const char *text, size_t len)
{
    const char *nl = len ? memchr(text, '\n', len) : NULL;
    return nl ? (size_t)(nl - text) + 1 : len;
}

/* "---" with optional blanks and CR after it. */
static bool is_fence(const char *line, size_t n)
{
    if (n < 3 || memcmp(line, "---", 3) != 0)
        return false;
    for (size_t i = 3; i < n; i++)
        if (!strchr(" \t\r\n", line[i]) || !line[i])
            return false;
    return true;
}

/* The fences are lines of their own; a card without a closing one has no
 * front matter. A byte order mark and CRLF are accepted, as cards are
 * written in browsers. */
bise_status bise_yaml_front_matter(bise_json **out, const char *text,
                                   size_t len, bise_error *err)
{
    *out = NULL;
    size_t at = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    size_t n = line_length(text + at, len - at);
    if (!is_fence(text + at, n))
        return BISE_OK;
    const size_t start = at += n;
    while (at < len) {
        n = line_length(text + at, len - at);
        if (is_fence(text + at, n)) {
            bise_json *v = NULL;
            const bise_status s = bise_yaml_parse(&v, text + start, at - start,
                                                  err);
            if (s == BISE_OK && bise_json_typeof(v) == BISE_JSON_OBJECT)
                *out = v;
            else
                bise_json_free(v);
            return s;
        }
        at += n;
    }
    return BISE_OK;
}

/* Can s stand as a plain scalar and read back as the same string? */
static bool plain_ok(const char *s)
{
    if (!*s || strchr("-?:,[]{}#&*!|>'\"%@` \t", *s))
        return false;
    bise_json *v = plain_scalar(s);
    const bool text = bise_json_typeof(v) == BISE_JSON_STRING;
    bise_json_free(v);
    if (!text || s[strlen(s) - 1] == ' ' || s[strlen(s) - 1] == ':')
        return false;
    for (const char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f ||
            (*p == ':' && p[1] == ' ') || (*p == '#' && p[-1] == ' '))
            return false;
    return !strpbrk(s, "[]{},");
}

/* JSON's literals are valid YAML, so that whatever cannot stand plainly is
 * written as JSON. */
static void put_scalar(bise_str *out, const bise_json *v)
{
    const char *s = bise_json_string(v, NULL);
    if (s && plain_ok(s))
        bise_str_puts(out, s);
    else
        bise_json_dump(out, v, 0, false);       /* JSON is YAML's flow style */
}

/* Two blanks a level. */
static void put_indent(bise_str *out, int depth)
{
    for (int i = 0; i < depth; i++)
        bise_str_puts(out, "  ");
}

static void put_node(bise_str *out, const bise_json *v, int depth,
                     bool indented);

/* "key: scalar" or "key:" and the nested block below. */
static void put_map(bise_str *out, const bise_json *v, int depth, bool indented)
{
    for (void *it = bise_json_iter(v, NULL); it; it = bise_json_iter(v, it)) {
        const bise_json *child = bise_json_iter_value(it);
        const char *key = bise_json_iter_key(it);
        if (!indented)
            put_indent(out, depth);
        indented = false;
        if (plain_ok(key))
            bise_str_puts(out, key);
        else
            bise_str_put_json(out, key, strlen(key));
        bise_str_putc(out, ':');
        if (bise_json_size(child)) {
            bise_str_putc(out, '\n');
            const bool list = bise_json_typeof(child) == BISE_JSON_ARRAY;
            put_node(out, child, list ? depth : depth + 1, false);
        } else {
            bise_str_putc(out, ' ');
            put_node(out, child, depth, true);
        }
    }
}

/* indented: the cursor stands already where the node begins. */
static void put_node(bise_str *out, const bise_json *v, int depth,
                     bool indented)
{
    const bise_json_type type = bise_json_typeof(v);
    if (type == BISE_JSON_OBJECT && bise_json_size(v)) {
        put_map(out, v, depth, indented);
        return;
    }
    if (type == BISE_JSON_ARRAY && bise_json_size(v)) {
        for (size_t i = 0; i < bise_json_size(v); i++) {
            if (!indented)
                put_indent(out, depth);
            indented = false;
            bise_str_puts(out, "- ");
            put_node(out, bise_json_at(v, i), depth + 1, true);
        }
        return;
    }
    if (!indented)
        put_indent(out, depth);
    put_scalar(out, v);
    bise_str_putc(out, '\n');
}

/* Lists stand at the indent of their key, as the Hub's tools write. */
void bise_yaml_dump(bise_str *out, const bise_json *v)
{
    put_node(out, v, 0, false);
}
