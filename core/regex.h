/* regex.h - Perl-compatible regular expressions (PCRE2 with JIT, reached only
 * from core/regex.c), for tokenizer split patterns, --tensor-type and PEFT's
 * module patterns. Patterns and texts are UTF-8.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_REGEX_H
#define BISE_CORE_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

typedef struct bise_regex bise_regex;     /* compiled, read-only, shareable */
typedef struct bise_matcher bise_matcher; /* scratch of one thread */

/* Compile pattern (n bytes) with Unicode character classes. */
BISE_NODISCARD bise_status bise_regex_new(bise_regex **out, const char *pattern,
                                          size_t n, bise_error *err);
void bise_regex_free(bise_regex *re);
/* Scratch for matching re, one for each thread. */
BISE_NODISCARD bise_status bise_matcher_new(bise_matcher **out,
                                            const bise_regex *re,
                                            bise_error *err);
void bise_matcher_free(bise_matcher *m);
/* Leftmost match at or after start in text (n bytes of valid UTF-8): sets
 * [*from, *to) and returns 1; 0 when there is none; -1 when a limit was hit. */
int bise_regex_find(const bise_regex *re, bise_matcher *m, const char *text,
                    size_t n, size_t start, size_t *from, size_t *to);
/* Does text match somewhere (search) or as a whole (full)? Slow path with its
 * own scratch, for names. */
bool bise_regex_search(const bise_regex *re, const char *text);
bool bise_regex_full(const bise_regex *re, const char *text);

#endif
