/* settings.c - the table of settings.def at work: YAML and flags become one
 * JSON object of checked values; resolving fills the defaults and the typed
 * fields by their offsets in the struct. Called by cli/cmd_finetune and by the
 * resume check.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/settings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "formats/yaml.h"

#define FIXED true
#define FREE false
static const bise_setting_row table[] = {
#define BISE_SETTING(kind, field, name, def, low, high, value, hold, help) \
    { BISE_SET_##kind, name, def, low, high, value, hold, help, \
      offsetof(bise_settings, field) },
#include "finetune/settings.def"
#undef BISE_SETTING
};
#undef FIXED
#undef FREE

enum { ROWS = sizeof table / sizeof table[0] };

/* Handed out for the command line, which makes its options from it. */
const bise_setting_row *bise_settings_table(size_t *n)
{
    *n = ROWS;
    return table;
}

/* Equal but for '_' and '-', so that PEFT-style keys work as well. */
static bool same_key(const char *key, const char *name)
{
    for (; *key && *name; key++, name++)
        if (*key != *name && !(*key == '_' && *name == '-'))
            return false;
    return *key == *name;
}

/* A linear search: the table has some forty rows and is read a few times. */
static const bise_setting_row *find_row(const char *key)
{
    for (size_t i = 0; i < ROWS; i++)
        if (same_key(key, table[i].name))
            return &table[i];
    return NULL;
}

/* The row with the least edit distance; '_' counts as '-' here as well, so
 * that lora_rnk finds lora-r and not a shorter key. */
static bise_status unknown_key(const char *key, bise_error *err)
{
    const char *best = table[0].name;
    int least = 1 << 20;
    char plain[64];
    snprintf(plain, sizeof plain, "%s", key);
    for (char *p = plain; *p; p++)
        if (*p == '_')
            *p = '-';
    for (size_t i = 0; i < ROWS; i++) {
        const int d = bise_edit_distance(plain, table[i].name);
        if (d < least) {
            least = d;
            best = table[i].name;
        }
    }
    return bise_fail(err, BISE_EINVAL, "unknown setting '%s'", key)
               ? bise_error_hint(err, "the nearest known one is '%s'", best)
               : BISE_OK;
}

/* One of "a|b|c"? */
static bool is_choice(const char *choices, const char *text)
{
    const size_t n = strlen(text);
    for (const char *p = choices; *p;) {
        const size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, text, n) == 0)
            return true;
        p += len + (p[len] == '|');
    }
    return false;
}

/* Also refuses NaN, for which both comparisons are false. */
static bise_status check_number(const bise_setting_row *r, double v,
                                bise_error *err)
{
    if (!(v >= r->low && v <= r->high))
        return bise_fail(err, BISE_EINVAL,
                         "setting '%s' is %.10g, allowed is %.10g to %.10g",
                         r->name, v, r->low, r->high);
    return BISE_OK;
}

/* Shows the value as JSON, cut at 80 bytes: it may be a whole structure. */
static bise_status wrong_type(const bise_setting_row *r, const char *want,
                              const bise_json *v, bise_error *err)
{
    bise_str text = { 0 };
    bise_json_dump(&text, v, 0, false);
    const bise_status s = bise_fail(err, BISE_EINVAL,
                                    "setting '%s' is %.80s, expected %s",
                                    r->name, bise_str_get(&text), want);
    bise_str_fini(&text);
    return s;
}

/* The checked form of an INT or REAL. */
static bise_status norm_number(const bise_setting_row *r, const bise_json *v,
                               bise_json **out, bise_error *err)
{
    const double x = bise_json_number(v, NAN);
    int64_t n;
    if (isnan(x))
        return wrong_type(r, "a number", v, err);
    if (check_number(r, x, err))
        return err->status;
    if (r->kind == BISE_SET_REAL) {
        *out = bise_json_new_real(x);
        return BISE_OK;
    }
    if (!bise_json_integer(v, &n)) {
        if (x != floor(x))
            return wrong_type(r, "a whole number", v, err);
        n = (int64_t)x;
    }
    *out = bise_json_new_int(n);
    return BISE_OK;
}

/* A list: an array of texts, or one text alone. */
static bise_status norm_list(const bise_setting_row *r, const bise_json *v,
                             bise_json **out, bise_error *err)
{
    const bool alone = bise_json_typeof(v) == BISE_JSON_STRING;
    if (!alone && bise_json_typeof(v) != BISE_JSON_ARRAY)
        return wrong_type(r, "a list of texts", v, err);
    bise_json *list = bise_json_new_array();
    const size_t n = bise_json_size(v);
    if (alone)
        (void)bise_json_append(list, bise_json_copy(v));
    for (size_t i = 0; i < n; i++) {
        const bise_json *item = bise_json_at(v, i);
        if (bise_json_typeof(item) != BISE_JSON_STRING) {
            bise_json_free(list);
            return wrong_type(r, "a list of texts", v, err);
        }
        (void)bise_json_append(list, bise_json_copy(item));
    }
    *out = list;
    return BISE_OK;
}

/* A map of names to numbers. */
static bise_status norm_map(const bise_setting_row *r, const bise_json *v,
                            bise_json **out, bise_error *err)
{
    if (bise_json_typeof(v) != BISE_JSON_OBJECT)
        return wrong_type(r, "a map of names to numbers", v, err);
    for (void *it = bise_json_iter(v, NULL); it; it = bise_json_iter(v, it)) {
        const double x = bise_json_number(bise_json_iter_value(it), NAN);
        if (!(x > 0))
            return wrong_type(r, "a map of names to numbers above 0", v, err);
    }
    *out = bise_json_copy(v);
    return BISE_OK;
}

/* Kept as the text that was given (16G), so that run.yaml says it that way. */
static bise_status norm_size(const bise_setting_row *r, const bise_json *v,
                             bise_json **out, bise_error *err)
{
    const char *text = bise_json_string(v, NULL);
    unsigned long long bytes;
    int64_t n;
    if (!text && bise_json_integer(v, &n) && n >= 0) {
        *out = bise_json_new_int(n);
        return BISE_OK;
    }
    if (!text || bise_parse_size(text, &bytes))
        return wrong_type(r, "a size such as 16G", v, err);
    *out = bise_json_copy(v);
    return BISE_OK;
}

/* Text of a scalar: "on" and "off" also from a YAML 1.1 writer's booleans, and
 * numbers where a text may look like one (batch: 8). */
static bise_status norm_text(const bise_setting_row *r, const bise_json *v,
                             bise_json **out, bise_error *err)
{
    const char *text = bise_json_string(v, NULL);
    char number[32];
    int64_t n;
    if (!text && bise_json_typeof(v) == BISE_JSON_BOOL)
        text = bise_json_bool(v, false) ? "on" : "off";
    if (!text && bise_json_integer(v, &n)) {
        snprintf(number, sizeof number, "%lld", (long long)n);
        text = number;
    }
    if (!text)
        return wrong_type(r, "a text", v, err);
    if (r->kind == BISE_SET_CHOICE && !is_choice(r->value, text))
        return bise_fail(err, BISE_EINVAL,
                         "setting '%s' is '%.80s', allowed is %s", r->name,
                         text, r->value);
    *out = bise_json_new_string(text);
    return BISE_OK;
}

/* YAML's true and false, and the words that people write for them. */
static bise_status norm_flag(const bise_setting_row *r, const bise_json *v,
                             bise_json **out, bise_error *err)
{
    const char *text = bise_json_string(v, NULL);
    bool on = bise_json_bool(v, false);
    if (text && is_choice("true|on|yes", text))
        on = true;
    else if (!(text && is_choice("false|off|no", text)) &&
             bise_json_typeof(v) != BISE_JSON_BOOL)
        return wrong_type(r, "true or false", v, err);
    *out = bise_json_new_bool(on);
    return BISE_OK;
}

/* Check v (borrowed) against its row and make the value that is kept. */
static bise_status normalize(const bise_setting_row *r, const bise_json *v,
                             bise_json **out, bise_error *err)
{
    switch (r->kind) {
    case BISE_SET_INT:
    case BISE_SET_REAL:
        return norm_number(r, v, out, err);
    case BISE_SET_FLAG:
        return norm_flag(r, v, out, err);
    case BISE_SET_LIST:
        return norm_list(r, v, out, err);
    case BISE_SET_MAP:
        return norm_map(r, v, out, err);
    case BISE_SET_SIZE:
        return norm_size(r, v, out, err);
    default:
        return norm_text(r, v, out, err);
    }
}

/* The one door for values: file, flags and defaults all pass the same check,
 * so nothing unchecked gets into a run. */
bise_status bise_settings_put(bise_settings *s, const char *name, bise_json *v,
                              bise_error *err)
{
    const bise_setting_row *r = find_row(name);
    bise_json *value = NULL;
    bise_status st = BISE_OK;
    if (!r)
        st = unknown_key(name, err);
    else if (!bise_json_is_null(v))
        st = normalize(r, v, &value, err);
    bise_json_free(v);
    if (st)
        return st;
    if (!s->values)
        s->values = bise_json_new_object();
    if (!value) {                       /* null: back to the default */
        bise_json_remove(s->values, r->name);
        return BISE_OK;
    }
    if (bise_json_set(s->values, r->name, value))
        return bise_fail_nomem(err);
    return BISE_OK;
}

/* "NAME=N,NAME=N" into a map. */
static bise_json *parse_map(const char *text)
{
    bise_json *map = bise_json_new_object();
    while (*text) {
        const size_t len = strcspn(text, ",");
        char *item = bise_strndup(text, len);
        char *eq = item ? strrchr(item, '=') : NULL, *end = NULL;
        const double x = eq ? strtod(eq + 1, &end) : 0;
        if (!eq || end == eq + 1 || *end) {
            bise_free(item);
            bise_json_free(map);
            return bise_json_new_string(text); /* refused by its type */
        }
        *eq = 0;
        (void)bise_json_set(map, item,
                            x == floor(x) && fabs(x) < 1e15
                                ? bise_json_new_int((int64_t)x)
                                : bise_json_new_real(x));
        bise_free(item);
        text += len + (text[len] == ',');
    }
    return map;
}

/* Text of the command line. Maps have a form of their own there. */
bise_status bise_settings_set(bise_settings *s, const char *name,
                              const char *text, bise_error *err)
{
    const bise_setting_row *r = find_row(name);
    if (!r)
        return unknown_key(name, err);
    if (r->kind == BISE_SET_MAP)
        return bise_settings_put(s, name, parse_map(text), err);
    return bise_settings_put(s, name, bise_json_new_string(text), err);
}

/* Keys in the order of the file; the first fault ends it. An empty document is
 * valid and sets nothing. */
bise_status bise_settings_parse(bise_settings *s, const char *text, size_t len,
                                bise_error *err)
{
    bise_json *doc = NULL;
    if (bise_yaml_parse(&doc, text, len, err))
        return err->status;
    bise_status st = BISE_OK;
    if (!bise_json_is_null(doc) && bise_json_typeof(doc) != BISE_JSON_OBJECT)
        st = bise_fail(err, BISE_EFORMAT, "settings are not a map of keys");
    for (void *it = st ? NULL : bise_json_iter(doc, NULL); it && !st;
         it = bise_json_iter(doc, it))
        st = bise_settings_put(s, bise_json_iter_key(it),
                               bise_json_copy(bise_json_iter_value(it)), err);
    bise_json_free(doc);
    return st;
}

/* The same from a file; every fault carries its path. */
bise_status bise_settings_load(bise_settings *s, const char *path,
                               bise_error *err)
{
    bise_str text = { 0 };
    bise_status st = bise_file_read(&text, path, err);
    if (!st)
        st = bise_settings_parse(s, bise_str_get(&text), text.len, err);
    bise_str_fini(&text);
    if (!st)
        return BISE_OK;
    /* A fault in a file is the file's, not one of the command line. */
    err->status = err->status == BISE_EINVAL ? BISE_EFORMAT : err->status;
    return bise_error_in(err, path, NULL);
}

/* Write the kept value of a row into its field. */
static void fill_field(bise_settings *s, const bise_setting_row *r,
                       const bise_json *v)
{
    void *field = (char *)s + r->offset;
    unsigned long long bytes = 0;
    int64_t n = 0;
    switch (r->kind) {
    case BISE_SET_INT:
        (void)bise_json_integer(v, &n);
        *(int64_t *)field = n;
        break;
    case BISE_SET_REAL:
        *(double *)field = bise_json_number(v, 0);
        break;
    case BISE_SET_FLAG:
        *(bool *)field = bise_json_bool(v, false);
        break;
    case BISE_SET_SIZE:
        if (bise_json_string(v, NULL) &&
            bise_parse_size(bise_json_string(v, NULL), &bytes) == 0)
            n = (int64_t)bytes;
        else
            (void)bise_json_integer(v, &n);
        *(uint64_t *)field = (uint64_t)n;
        break;
    case BISE_SET_CHOICE:
    case BISE_SET_TEXT:
        *(const char **)field = bise_json_string(v, NULL);
        break;
    case BISE_SET_LIST:
    case BISE_SET_MAP:
        *(const bise_json **)field = v;
        break;
    }
}

/* Defaults go through the same parser as flags, which also checks the table
 * itself. Fields are filled last, from the complete values. */
bise_status bise_settings_resolve(bise_settings *s, bise_error *err)
{
    if (!s->values)
        s->values = bise_json_new_object();
    for (size_t i = 0; i < ROWS; i++) {
        const bise_setting_row *r = &table[i];
        if (!bise_json_get(s->values, r->name) && r->fallback &&
            bise_settings_set(s, r->name, r->fallback, err))
            return err->status;
        fill_field(s, r, bise_json_get(s->values, r->name));
    }
    return BISE_OK;
}

/* Not one YAML dump of the object: its order would be that of the user's file,
 * and the help lines would be lost. */
bise_status bise_settings_dump(bise_str *out, const bise_settings *s,
                               bise_error *err)
{
    for (size_t i = 0; i < ROWS; i++) {
        const bise_json *v = bise_json_get(s->values, table[i].name);
        if (!v)
            continue;
        /* One key at a time, so that the order is the table's. */
        bise_json *one = bise_json_new_object();
        if (!one || bise_json_set(one, table[i].name, bise_json_copy(v))) {
            bise_json_free(one);
            return bise_fail_nomem(err);
        }
        bise_str_printf(out, "# %s\n", table[i].help);
        bise_yaml_dump(out, one);
        bise_json_free(one);
    }
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}

/* Values are compared as JSON text, in which equal numbers look equal because
 * both sides went through the same normal form. */
bise_status bise_settings_same(const bise_settings *s, const bise_json *saved,
                               bise_error *err)
{
    bise_status st = BISE_OK;
    for (size_t i = 0; i < ROWS && !st; i++) {
        if (!table[i].fixed)
            continue;
        bise_str now = { 0 }, then = { 0 };
        const bise_json *a = bise_json_get(s->values, table[i].name);
        const bise_json *b = bise_json_get(saved, table[i].name);
        if (a)
            bise_json_dump(&now, a, 0, true);
        if (b)
            bise_json_dump(&then, b, 0, true);
        if (strcmp(bise_str_get(&now), bise_str_get(&then)) != 0)
            st = bise_fail(err, BISE_EINVAL,
                           "setting '%s' is %.80s, the checkpoint was made "
                           "with %.80s", table[i].name,
                           a ? bise_str_get(&now) : "not given",
                           b ? bise_str_get(&then) : "none");
        bise_str_fini(&now);
        bise_str_fini(&then);
    }
    return st ? bise_error_hint(err, "give the value of the checkpoint, or "
                                     "start again without --resume")
              : BISE_OK;
}

/* All texts and lists are borrowed from the values, which go here. */
void bise_settings_fini(bise_settings *s)
{
    bise_json_free(s->values);
    memset(s, 0, sizeof *s);
}

/* Digits, then nothing, 'rows' or 'tokens'. A bare number means rows up to the
 * limit: nobody wants steps of 8 tokens or of 4096 rows. */
bise_status bise_settings_amount(bise_amount *out, const char *name,
                                 const char *text, bise_error *err)
{
    char *end;
    const long long n = strtoll(text, &end, 10);
    while (*end == ' ')
        end++;
    const bool rows = strcmp(end, "rows") == 0 || strcmp(end, "row") == 0;
    const bool tokens = strcmp(end, "tokens") == 0;
    if (end == text || n < 1 || n > INT32_MAX || (*end && !rows && !tokens)) {
        return bise_fail(err, BISE_EINVAL, "setting '%s' is '%s'", name, text)
                   ? bise_error_hint(err, "a number up to %d means rows, a "
                                     "larger one tokens; or 8rows, 4096tokens",
                                     BISE_AMOUNT_ROWS_MAX)
                   : BISE_OK;
    }
    out->n = n;
    out->rows = rows || (!tokens && n <= BISE_AMOUNT_ROWS_MAX);
    return BISE_OK;
}
