/* override.c - edits of a GGUF's key-values on the way out: KEY=TYPE:VALUE as
 * llama.cpp's --override-kv writes it, and removal. A key that exists keeps its
 * type and its place; a new one is appended. Keys that the writer or the
 * runtime derive from the tensors are not edited.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert/convert.h"
#include "core/bytes.h"
#include "core/str.h"

/* Whole numbers: type, bytes, and the range as doubles hold it exactly. */
static const struct { bise_gguf_type type; unsigned bytes; double low, high; }
ints[] = {
    { BISE_GGUF_U8, 1, 0, 255 },          { BISE_GGUF_I8, 1, -128, 127 },
    { BISE_GGUF_U16, 2, 0, 65535 },       { BISE_GGUF_I16, 2, -32768, 32767 },
    { BISE_GGUF_U32, 4, 0, 4294967295.0 },
    { BISE_GGUF_I32, 4, -2147483648.0, 2147483647.0 },
    { BISE_GGUF_U64, 8, 0, 9223372036854775807.0 },
    { BISE_GGUF_I64, 8, -9223372036854775808.0, 9223372036854775807.0 },
};
#define INTS (sizeof ints / sizeof *ints)

/* The alignment and the cut are the layout's, the architecture names keys and
 * tensors: another word there makes the file unreadable. */
static bise_status refuse_derived(const char *key, bise_error *err)
{
    static const char *const derived[] = { "general.alignment",
                                           "general.architecture" };
    bool bad = bise_starts_with(key, "split.") ||
               bise_starts_with(key, "GGUF.");
    for (size_t i = 0; i < 2; i++)
        bad |= strcmp(key, derived[i]) == 0;
    if (!bad)
        return BISE_OK;
    return bise_fail(err, BISE_EINVAL, "key '%s' follows from the tensors and "
                     "is not edited", key);
}

/* A scalar under key, in little-endian bytes. */
static void put(bise_gguf_meta *m, char *key, bise_gguf_type type,
                unsigned bytes, uint64_t bits)
{
    uint8_t data[8];
    bise_store_le64(data, bits);
    const bise_gguf_kv kv = { .key = key, .type = type, .count = 1,
                              .data = data, .bytes = bytes };
    bise_gguf_copy(m, &kv);
}

/* In the type of the key that is there; a new one is u32, i32 when negative,
 * or 64 bits wide. */
static bise_status put_int(bise_gguf_meta *m, char *key, const char *text,
                           bise_error *err)
{
    const bise_gguf_kv *old = bise_gguf_get(m, key);
    char *end = NULL;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return bise_fail(err, BISE_EINVAL, "value '%s' of '%s' is not a whole "
                         "number", text, key);
    bise_gguf_type type = old ? old->type
                          : v < INT32_MIN || v > UINT32_MAX ? BISE_GGUF_I64
                          : v < 0 ? BISE_GGUF_I32 : BISE_GGUF_U32;
    for (size_t i = 0; i < INTS; i++) {
        if (ints[i].type != type)
            continue;
        if ((double)v < ints[i].low || (double)v > ints[i].high)
            return bise_fail(err, BISE_EINVAL, "%lld does not fit the type of "
                             "'%s' (%.0f to %.0f)", v, key, ints[i].low,
                             ints[i].high);
        put(m, key, type, ints[i].bytes, (uint64_t)v);
        return BISE_OK;
    }
    return bise_fail(err, BISE_EINVAL, "key '%s' is not a whole number", key);
}

/* float32 unless the key is a double. */
static bise_status put_float(bise_gguf_meta *m, char *key, const char *text,
                             bise_error *err)
{
    const bise_gguf_kv *old = bise_gguf_get(m, key);
    char *end = NULL;
    const double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v))
        return bise_fail(err, BISE_EINVAL, "value '%s' of '%s' is not a finite "
                         "number", text, key);
    if (!old || old->type == BISE_GGUF_F32) {
        bise_gguf_set_f32(m, key, (float)v);
        return BISE_OK;
    }
    if (old->type != BISE_GGUF_F64)
        return bise_fail(err, BISE_EINVAL, "key '%s' is not a float", key);
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put(m, key, BISE_GGUF_F64, 8, bits);
    return BISE_OK;
}

/* true or false, nothing else. */
static bise_status put_bool(bise_gguf_meta *m, const char *key,
                            const char *text, bise_error *err)
{
    const bise_gguf_kv *old = bise_gguf_get(m, key);
    const bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0)
        return bise_fail(err, BISE_EINVAL, "value '%s' of '%s' is not true or "
                         "false", text, key);
    if (old && old->type != BISE_GGUF_BOOL)
        return bise_fail(err, BISE_EINVAL, "key '%s' is not true or false",
                         key);
    bise_gguf_set_bool(m, key, yes);
    return BISE_OK;
}

/* The text after "str:" as it is. */
static bise_status put_text(bise_gguf_meta *m, const char *key,
                            const char *text, bise_error *err)
{
    const bise_gguf_kv *old = bise_gguf_get(m, key);
    if (old && old->type != BISE_GGUF_STR)
        return bise_fail(err, BISE_EINVAL, "key '%s' is not a text", key);
    bise_gguf_set_str(m, key, text);
    return BISE_OK;
}

/* The type is named even for keys that exist, so that a typing error in a
 * number does not become a text. */
static bise_status put_value(bise_gguf_meta *m, char *key, const char *typed,
                             bise_error *err)
{
    const bise_gguf_kv *old = bise_gguf_get(m, key);
    const char *colon = strchr(typed, ':');
    const size_t n = colon ? (size_t)(colon - typed) : 0;
    if (old && old->type == BISE_GGUF_ARRAY)
        return bise_fail(err, BISE_EINVAL, "key '%s' is an array and is not "
                         "edited", key);
    if (n == 3 && memcmp(typed, "int", 3) == 0)
        return put_int(m, key, colon + 1, err);
    if (n == 5 && memcmp(typed, "float", 5) == 0)
        return put_float(m, key, colon + 1, err);
    if (n == 4 && memcmp(typed, "bool", 4) == 0)
        return put_bool(m, key, colon + 1, err);
    if (n == 3 && memcmp(typed, "str", 3) == 0)
        return put_text(m, key, colon + 1, err);
    err->status = bise_fail(err, BISE_EINVAL, "'%s' of key '%s' does not start "
                            "with a type", typed, key);
    return bise_error_hint(err, "KEY=int:N, float:X, bool:true or str:TEXT");
}

/* One KEY=TYPE:VALUE. */
bise_status bise_convert_override(bise_gguf_meta *m, const char *text,
                                  bise_error *err)
{
    const char *equal = strchr(text, '=');
    char key[128];
    const size_t n = equal ? (size_t)(equal - text) : 0;
    if (n == 0 || n >= sizeof key) {
        err->status = bise_fail(err, BISE_EINVAL, "'%s' is not KEY=TYPE:VALUE",
                                text);
        return bise_error_hint(err, "for example general.name=str:Tuned");
    }
    memcpy(key, text, n);
    key[n] = 0;
    bise_status s = refuse_derived(key, err);
    if (s == BISE_OK)
        s = put_value(m, key, equal + 1, err);
    return s == BISE_OK && m->failed ? bise_fail_nomem(err) : s;
}

/* A key that is not there is a typing error more often than not. */
bise_status bise_convert_remove_key(bise_gguf_meta *m, const char *key,
                                    bise_error *err)
{
    const bise_status s = refuse_derived(key, err);
    if (s != BISE_OK)
        return s;
    if (!bise_gguf_get(m, key))
        return bise_fail(err, BISE_EINVAL, "there is no key '%s' to remove",
                         key);
    bise_gguf_remove(m, key);
    return BISE_OK;
}
