/* row_messages.h - rows of training data as lists of messages in the OpenAI
 * form, private to schema.c: every spelling of roles, texts, tool calls and
 * results that data sets use becomes {"role", "content", "tool_calls", ...}.
 * Lists are made by the caller (bise_json_new_array) and grow at their end.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_ROW_MESSAGES_H
#define BISE_TEXT_ROW_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/json.h"

/* First of two names that is a member and not null; NULL when none is. */
const bise_json *bise_row_either(const bise_json *object, const char *a,
                                 const char *b);
/* Is the message spoken by this role? False without a role. */
bool bise_is_role(const bise_json *message, const char *role);

/* Append a message; or the string member key of the row as one. */
BISE_NODISCARD bise_status bise_add_text(bise_json *list, const char *role,
                                         const char *text, size_t n,
                                         bise_error *err);
BISE_NODISCARD bise_status bise_add_member(bise_json *list, const char *role,
                                           const bise_json *row,
                                           const char *key, bise_error *err);
/* Append the row's system text ("system" or "system_prompt"), if any. */
BISE_NODISCARD bise_status bise_add_system(bise_json *list,
                                           const bise_json *row,
                                           bise_error *err);
/* Append the user turn of an instruction: it and the input below it. */
BISE_NODISCARD bise_status bise_add_instruction(bise_json *list,
                                                const bise_json *row,
                                                const bise_json *input,
                                                bise_error *err);
/* Append what v holds: a list of messages, one message, or a string spoken by
 * role. Assistant turns of a context are masked (weight 0). */
BISE_NODISCARD bise_status bise_add_part(bise_json *list, const bise_json *v,
                                         const char *role, bool context,
                                         bise_error *err);
/* Append the turns of a ShareGPT list ({"from", "value"}). */
BISE_NODISCARD bise_status bise_add_sharegpt(bise_json *list,
                                             const bise_json *turns,
                                             bise_error *err);
/* Tool definitions of a row as a new array (bise_json_free): "tools" or one of
 * its other names, as an array or a JSON text of one, functions wrapped as
 * {"type", "function"}. Empty when the row has none. */
BISE_NODISCARD bise_status bise_row_tools(bise_json **out,
                                          const bise_json *row,
                                          bise_error *err);
/* Give tool calls and results the ids they lack, in order; with nine, also
 * other ids than nine letters and digits become such. Calls of the last
 * message get one only if last is set. */
BISE_NODISCARD bise_status bise_fix_call_ids(bise_json *list, bool nine,
                                             bool last, bise_error *err);
/* Faults that every chat format shares: no list, an unknown role, no text,
 * not the user's turn first, not the assistant's last. */
BISE_NODISCARD bise_status bise_check_messages(const bise_json *list,
                                               bise_error *err);

#endif
