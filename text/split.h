/* split.h - cuts a text into the chunks that are merged on their own. The one
 * pattern of all Tekken files has a hand-written matcher over a table of
 * Unicode classes; any other pattern runs through PCRE2. Both ways give the
 * same chunks (tests/check_split.c compares them on random text).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_SPLIT_H
#define BISE_TEXT_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/regex.h"

typedef struct bise_split bise_split; /* read-only, shareable */

/* A walk over one text of valid UTF-8. */
typedef struct bise_split_cursor {
    const bise_split *split;
    const char *text;
    size_t n, at, hit_from, hit_to;
    bool hit; /* a match found behind a gap that was returned first */
    bise_matcher *matcher;
} bise_split_cursor;

/* keep_gaps: text between matches is a chunk too (tokenizers) or is dropped
 * (tiktoken). force_regex: never the hand-written matcher (tests). */
BISE_NODISCARD bise_status bise_split_new(bise_split **out,
                                          const char *pattern, size_t n,
                                          bool keep_gaps, bool force_regex,
                                          bise_error *err);
void bise_split_free(bise_split *s);

BISE_NODISCARD bise_status bise_split_begin(bise_split_cursor *c,
                                            const bise_split *s,
                                            const char *text, size_t n,
                                            bise_error *err);
/* Next chunk [*from, *to): 1; 0 at the end; -1 when the pattern ran out of
 * its limits. */
int bise_split_next(bise_split_cursor *c, size_t *from, size_t *to);
void bise_split_end(bise_split_cursor *c);

#endif
