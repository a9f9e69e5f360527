/* template.h - the Jinja template of a checkpoint: where its text is, and by
 * which control tokens it writes, so that it can be compared with the format
 * that conversations are encoded in. The text itself is never run.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_TEMPLATE_H
#define BISE_TEXT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/str.h"
#include "formats/store.h"
#include "text/chat.h"

/* What a template's text tells. */
typedef struct bise_template_signs {
    int low, high;       /* versions it can be of; 0, 0 when it is no
                          * template of Mistral's */
    bool spaced;         /* a blank behind [INST]: for SentencePiece */
    bool default_system; /* it has a system prompt of its own for
                          * conversations without one */
} bise_template_signs;

/* Append the template's text and tell its source ("chat_template.jinja",
 * "tokenizer_config.json", "chat_template.json", "tokenizer.chat_template");
 * *source is NULL when the model has none. */
BISE_NODISCARD bise_status bise_template_text(bise_str *out,
                                              const char **source,
                                              bise_store *store,
                                              bise_error *err);
void bise_template_read(bise_template_signs *out, const char *text, size_t n);
/* Does a conversation without tools and thoughts look the same in both? */
bool bise_template_fits(const bise_template_signs *s, const bise_chat *chat);
/* "v13", "v7-tekken", "v7 to v13", or "another family's". */
void bise_template_name(char out[32], const bise_template_signs *s);

#endif
