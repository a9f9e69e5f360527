/* str.h - a growable byte string, always NUL-terminated, for building text,
 * JSON, headers and file contents in memory. Zero-initialise, release with
 * bise_str_fini. Failed growth is remembered and reported once at the end by
 * bise_str_ok, so that building code stays straight.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_STR_H
#define BISE_CORE_STR_H

#include <stdbool.h>
#include <stddef.h>

#include "core/attr.h"

typedef struct bise_str {
    char *data;  /* NULL while empty; else data[len] == 0 */
    size_t len, cap;
    bool failed; /* an append ran out of memory */
} bise_str;

void bise_str_add(bise_str *s, const void *bytes, size_t n);
void bise_str_puts(bise_str *s, const char *text);
void bise_str_putc(bise_str *s, char c);
void bise_str_printf(bise_str *s, const char *fmt, ...) BISE_PRINTF(2, 3);
/* Append text as a JSON string literal with quotes (non-ASCII kept). */
void bise_str_put_json(bise_str *s, const char *text, size_t n);
/* Append text with & < > " replaced by HTML entities. */
void bise_str_put_html(bise_str *s, const char *text);
/* Empty the string but keep its memory. */
void bise_str_clear(bise_str *s);
/* True unless an append failed. */
bool bise_str_ok(const bise_str *s);
/* The text as a C string, "" while empty. Borrowed. */
const char *bise_str_get(const bise_str *s);
/* Hand the buffer to the caller (bise_free) and reset; NULL when failed. */
char *bise_str_take(bise_str *s);
void bise_str_fini(bise_str *s);

/* "%s/%s" without doubled slashes, into a new string (bise_free). */
char *bise_path_join(const char *dir, const char *name);
/* The part after the last slash. Borrowed. */
const char *bise_path_base(const char *path);
bool bise_ends_with(const char *s, const char *suffix);
bool bise_starts_with(const char *s, const char *prefix);
/* Length of the UTF-8 sequence at s (1..4) when valid within n bytes, else 0;
 * the code point goes to *cp when cp is not NULL. Rejects overlong forms,
 * surrogates and values above U+10FFFF. */
int bise_utf8_next(const char *s, size_t n, unsigned *cp);
/* Encode a code point; returns the number of bytes written to out (1..4). */
int bise_utf8_put(char out[4], unsigned cp);
/* Edit distance with transpositions, for "did you mean"; at most 64 bytes. */
int bise_edit_distance(const char *a, const char *b);
/* Parse "5G", "300M", "4096", "1.5GiB" into bytes (K M G T are powers of ten,
 * Ki Mi Gi Ti powers of two). Returns 0, or -1 when it is not a size. */
BISE_NODISCARD int bise_parse_size(const char *text, unsigned long long *out);
/* "1.23 GB" style text of a byte count into out. Returns out. */
char *bise_format_bytes(char out[32], unsigned long long bytes);

#endif
