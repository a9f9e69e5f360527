/* chat_turns.h - a conversation read, checked and normalized, private to the
 * chat encoder: messages of one role in a row are one turn, texts of a message
 * are joined, arguments of tool calls are rewritten, results stand in the
 * order of their calls (mistral-common's normalizer and validator).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_CHAT_TURNS_H
#define BISE_TEXT_CHAT_TURNS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/json.h"
#include "core/mem.h"
#include "text/chat.h"

typedef enum { BISE_ROLE_SYSTEM, BISE_ROLE_USER, BISE_ROLE_ASSISTANT,
               BISE_ROLE_TOOL } bise_role;

/* Where the system prompt goes. */
typedef enum { BISE_SYSTEM_FIRST_USER, BISE_SYSTEM_LAST_USER,
               BISE_SYSTEM_BLOCK } bise_system_place;

/* Before which user turn the tool list stands. */
typedef enum { BISE_TOOLS_NEVER, BISE_TOOLS_LAST, BISE_TOOLS_FIRST }
    bise_tools_place;

/* How calls of tools are written: a JSON list without or with ids, or name
 * and arguments between control tokens with or without the id. */
typedef enum { BISE_CALLS_NONE, BISE_CALLS_LIST, BISE_CALLS_LIST_ID,
               BISE_CALLS_FIELDS_ID, BISE_CALLS_FIELDS } bise_calls_form;

/* How results are written. */
typedef enum { BISE_RESULT_NONE, BISE_RESULT_LIST, BISE_RESULT_OBJECT,
               BISE_RESULT_ID_CONTENT, BISE_RESULT_PLAIN } bise_result_form;

/* Which ids tool calls must have. */
typedef enum { BISE_IDS_FREE, BISE_IDS_NINE, BISE_IDS_ANY } bise_id_rule;

/* One row of the table of formats. */
struct bise_chat {
    const char *name;
    int version;
    bool tekken;
    bool inst_is_text;      /* [INST] and [/INST] are spelt, not control ids */
    bise_system_place system;
    bise_tools_place tools;
    bise_calls_form calls;
    bise_result_form results;
    bise_id_rule ids;
    bool keeps_history;     /* calls before the last user turn stay */
    bool text_with_calls;   /* a turn may have both */
    bool pairs_by_id;       /* results are matched to calls by their ids */
    bool thinks, thinks_in_system;
    bool settings;          /* [MODEL_SETTINGS] before the first user turn */
    const char *chunk_join; /* between texts of one message */
};

/* A text or a thought. */
typedef struct bise_part {
    const char *text;
    size_t len;
    bool think, open;       /* open: the thought is not closed */
} bise_part;

typedef struct bise_call {
    const char *name, *id;  /* id NULL when the message gives none */
    const char *args;       /* JSON as Python writes it, or any text */
    size_t args_len;
} bise_call;

typedef struct bise_turn {
    bise_role role;
    size_t message;         /* index of its first message */
    bise_part *parts;
    size_t n_parts, cap_parts;
    bise_call *calls;
    size_t n_calls, cap_calls;
    const char *call_id, *name; /* of a result, or NULL */
    double weight;          /* of an assistant turn, 1 when not given */
    bool prefix;            /* the answer goes on: no end token */
} bise_turn;

typedef struct bise_turns {
    bise_turn *v;
    size_t n, cap;
    bise_str system;        /* joined prompt of formats without a block */
    bool trains;            /* the last message is the assistant's */
    bise_arena arena;
} bise_turns;

/* Read, check and normalize messages for a format. */
BISE_NODISCARD bise_status bise_turns_read(bise_turns *t, const bise_chat *c,
                                           const bise_json *messages,
                                           bise_error *err);
void bise_turns_fini(bise_turns *t);

/* May this be the name of a function: 1 to 64 of a-z A-Z 0-9 _ -? */
bool bise_is_function_name(const char *s);

#endif
