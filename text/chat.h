/* chat.h - conversations to token ids with a training mask, by the tokenizer
 * version's format (mistral3.md 5): a table of formats that produce segments,
 * each a control token or a text that is tokenized on its own. No template
 * text is ever rendered and re-read.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_CHAT_H
#define BISE_TEXT_CHAT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "text/tokenizer.h"

typedef struct bise_chat bise_chat; /* a format; static, never freed */

/* Tokens and, for each, whether it is trained (1) or not (0). */
typedef struct bise_sample {
    bise_ids ids;
    uint8_t *mask;    /* [ids.n] */
    size_t mask_cap;
    int32_t turns;    /* assistant turns trained */
} bise_sample;

typedef enum { BISE_TRAIN_ASSISTANT, BISE_TRAIN_ALL, BISE_TRAIN_LAST }
    bise_train_on;

/* Append ids with one mask value. */
BISE_NODISCARD bise_status bise_sample_add(bise_sample *s, const int32_t *ids,
                                           size_t n, bool trained,
                                           bise_error *err);
void bise_sample_clear(bise_sample *s);
void bise_sample_fini(bise_sample *s);

/* The version of a tokenizer's control tokens: 1, 2, 3, 7, 11, 13 or 15; the
 * file's own, else by which of them there are. */
int bise_chat_version(const bise_tokenizer *t);

/* The format for a tokenizer's version and kind; or by name: "v1", "v2", "v3",
 * "v3-tekken", "v7", "v7-tekken", "v11", "v13", "v15". */
BISE_NODISCARD bise_status bise_chat_for(const bise_chat **out,
                                         const bise_tokenizer *t,
                                         const char *name, bise_error *err);
const char *bise_chat_name(const bise_chat *c);
/* A conversation and what is asked of it. */
typedef struct bise_chat_request {
    const bise_json *messages; /* array of {role, content, ...} */
    const bise_json *tools;    /* array, or NULL */
    const bise_json *options;  /* object whose reasoning_effort and
                                * response_format count (v15), or NULL */
    const char *effort;        /* reasoning effort where options has none, NULL
                                * for the tokenizer file's default */
    bise_train_on train_on;
} bise_chat_request;

/* Encode messages (array of {role, content, ...} as in the OpenAI format) and
 * tools (array or NULL). Ends ready for the assistant to speak when the last
 * message is the user's or a tool's; else it is a training sample. Appends to
 * out. Errors say which message and why. */
BISE_NODISCARD bise_status bise_chat_encode(const bise_chat *c,
                                            const bise_tokenizer *t,
                                            const bise_json *messages,
                                            const bise_json *tools,
                                            bise_train_on train_on,
                                            bise_sample *out, bise_error *err);
/* The same for a request with model settings. */
BISE_NODISCARD bise_status bise_chat_encode_request(const bise_chat *c,
                                                    const bise_tokenizer *t,
                                                    const bise_chat_request *r,
                                                    bise_sample *out,
                                                    bise_error *err);
/* Fill in the middle: <s>[SUFFIX]suffix[PREFIX]prefix (v2 and later). */
BISE_NODISCARD bise_status bise_chat_fim(const bise_tokenizer *t,
                                         const char *prefix,
                                         const char *suffix, bise_sample *out,
                                         bise_error *err);

#endif
