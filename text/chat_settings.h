/* chat_settings.h - the model settings of v15, private to the chat encoder: the
 * JSON text between [MODEL_SETTINGS] and [/MODEL_SETTINGS], made of what a
 * conversation asks for and of the rules in tekken.json
 * (mistral-common's ModelSettingsBuilder).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_CHAT_SETTINGS_H
#define BISE_TEXT_CHAT_SETTINGS_H

#include "core/error.h"
#include "core/json.h"
#include "core/str.h"
#include "text/chat_turns.h"

/* The settings of a conversation for format c into out, which is empty and
 * stays so when there are none. rules is "model_settings_builder" of the
 * tokenizer file or NULL, options the row (reasoning_effort, response_format)
 * or NULL, effort what counts where the row has no reasoning_effort, or NULL.
 */
BISE_NODISCARD bise_status bise_chat_settings(bise_str *out,
                                              const bise_chat *c,
                                              const bise_json *rules,
                                              const bise_json *options,
                                              const char *effort,
                                              bise_error *err);
/* Check the rules of a tokenizer file; errors name the field. */
BISE_NODISCARD bise_status bise_chat_settings_check(const bise_json *rules,
                                                    bise_error *err);

#endif
