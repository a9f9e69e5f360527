/* json.h - JSON values behind our own names (jansson inside, reached only from
 * core/json.c). Readers borrow; builders transfer ownership downwards: setting
 * or appending a child takes it, also when that fails. Duplicate keys, invalid
 * UTF-8 and nesting beyond the parser's limit are refused.
 * A NULL value is allowed wherever a value is read and counts as absent.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_JSON_H
#define BISE_CORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

typedef struct bise_json bise_json;

typedef enum {
    BISE_JSON_ABSENT, BISE_JSON_NULL, BISE_JSON_BOOL, BISE_JSON_INT,
    BISE_JSON_REAL, BISE_JSON_STRING, BISE_JSON_ARRAY, BISE_JSON_OBJECT
} bise_json_type;

/* Parse len bytes of text into *out (free with bise_json_free). Fails with
 * BISE_EFORMAT, the byte offset and the parser's reason. */
BISE_NODISCARD bise_status bise_json_parse(bise_json **out, const char *text,
                                           size_t len, bise_error *err);
/* Read and parse a whole file; the error carries its path. */
BISE_NODISCARD bise_status bise_json_load(bise_json **out, const char *path,
                                          bise_error *err);
void bise_json_free(bise_json *v);
/* Another owner of the same value (free both). */
bise_json *bise_json_ref(const bise_json *v);

bise_json_type bise_json_typeof(const bise_json *v);
/* Member of an object, element of an array; NULL when absent. Borrowed. */
bise_json *bise_json_get(const bise_json *object, const char *key);
bise_json *bise_json_at(const bise_json *array, size_t i);
/* Number of elements or members, 0 for other types. */
size_t bise_json_size(const bise_json *v);
/* Walk an object in input order: it = NULL starts; returns NULL at the end. */
void *bise_json_iter(const bise_json *object, void *it);
const char *bise_json_iter_key(void *it);
bise_json *bise_json_iter_value(void *it);

/* Text of a string value and its length (n may be NULL); NULL when v is not a
 * string. Borrowed. May hold NUL bytes. */
const char *bise_json_string(const bise_json *v, size_t *n);
/* Number of an int or real value (or a string that spells one), else other. */
double bise_json_number(const bise_json *v, double other);
/* As a whole number: true when v is an int, or a real without a fraction. */
bool bise_json_integer(const bise_json *v, int64_t *out);
/* Truth of a bool value, else other. */
bool bise_json_bool(const bise_json *v, bool other);
bool bise_json_is_null(const bise_json *v); /* null or absent */

bise_json *bise_json_new_object(void);
bise_json *bise_json_new_array(void);
bise_json *bise_json_new_string(const char *s);
bise_json *bise_json_new_stringn(const char *s, size_t n);
bise_json *bise_json_new_int(int64_t v);
bise_json *bise_json_new_real(double v); /* null for a non-finite number */
bise_json *bise_json_new_bool(bool v);
bise_json *bise_json_new_null(void);
/* Set a member, append an element: take the child. Return 0 or -1. */
int bise_json_set(bise_json *object, const char *key, bise_json *child);
int bise_json_append(bise_json *array, bise_json *child);
/* Remove a member; absent is fine. */
void bise_json_remove(bise_json *object, const char *key);
/* Copy of the whole tree (NULL when out of memory). */
bise_json *bise_json_copy(const bise_json *v);

/* Write v to out: indent 0 is compact, else that many blanks a level. Reals
 * are written with the fewest digits that read back equal, and always with a
 * point or exponent. sorted orders keys bytewise. NULL writes nothing. */
void bise_json_dump(bise_str *out, const bise_json *v, int indent, bool sorted);
/* As Python's json.dumps(v, ensure_ascii=False): ", " and ": ", input order. */
void bise_json_dump_python(bise_str *out, const bise_json *v);

#endif
