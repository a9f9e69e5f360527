/* chat_turns.c - messages to turns: the rules of mistral-common's validator
 * (order of roles, ids, pairs of calls and results, what a version can
 * express), then its normalizer. Errors number messages from 1.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/chat_turns.h"

#include <stdlib.h>
#include <string.h>

#include "core/strmap.h"
#include "text/pyjson.h"

static const char *const role_names[] = { "system", "user", "assistant",
                                          "tool" };

/* Release everything of a conversation; the parts and calls of a turn are
 * arrays of their own, their texts live in the arena. */
void bise_turns_fini(bise_turns *t)
{
    for (size_t i = 0; i < t->n; i++) {
        bise_free(t->v[i].parts);
        bise_free(t->v[i].calls);
    }
    bise_free(t->v);
    bise_str_fini(&t->system);
    bise_arena_fini(&t->arena);
    *t = (bise_turns){ 0 };
}

/* ASCII letters and digits only: Python's pattern names them, no locale may
 * change that. */
static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9');
}

/* ^[a-zA-Z0-9_-]{1,64}$ of mistral-common, for tools, calls and results. */
bool bise_is_function_name(const char *s)
{
    size_t n = 0;
    while (is_word_char(s[n]) || s[n] == '_' || s[n] == '-')
        n++;
    return !s[n] && n >= 1 && n <= 64;
}

/* Ids of v3 to v11: nine letters or digits. Mistral's own API makes them so,
 * and up to v11 the model sees them. */
static bool is_nine(const char *s)
{
    size_t n = 0;
    while (is_word_char(s[n]))
        n++;
    return !s[n] && n == 9;
}

/* A fault of message i (counted from 1 for people). */
#define fail_message(err, status, i, role, fmt, ...) \
    bise_fail(err, status, "message %zu (%s): " fmt, (i) + 1, \
              role_names[role], __VA_ARGS__)

/* What is walked: the list, the format, and the role of every message. */
typedef struct walk {
    const bise_chat *c;
    const bise_json *messages;
    size_t n;
    bise_role *roles;
    bool trains;
} walk;

/* A member that must be a text, NULL otherwise. JSON texts are
 * NUL-terminated; one with a NUL inside ends there, which no name or id has.
 */
static const char *text_of(const bise_json *object, const char *key)
{
    return bise_json_string(bise_json_get(object, key), NULL);
}

/* The role of every message. OpenAI's newer name `developer` is the system.
 * Anything else is named in the error, because a wrong key (`from`, `human`)
 * is the most common fault of a data set. */
static bise_status read_roles(walk *w, bise_error *err)
{
    for (size_t i = 0; i < w->n; i++) {
        const char *role = text_of(bise_json_at(w->messages, i), "role");
        int found = -1;
        for (int r = 0; role && r < 4; r++)
            if (strcmp(role, role_names[r]) == 0)
                found = r;
        if (role && strcmp(role, "developer") == 0)
            found = BISE_ROLE_SYSTEM;
        if (found < 0)
            return bise_fail(err, BISE_EFORMAT, "message %zu has the role "
                             "'%.40s', not system, user, assistant or tool",
                             i + 1, role ? role : "(none)");
        w->roles[i] = (bise_role)found;
    }
    return BISE_OK;
}

/* Which roles may follow which. The table is mistral-common's: after a
 * result the assistant or the user speaks, the system never interrupts an
 * answer. */
static bise_status check_order(const walk *w, bise_error *err)
{
    static const bool may[4][4] = { /* [before][after]: system user asst tool */
        { true, true, true, false }, { true, true, true, false },
        { false, true, true, true }, { false, true, true, true },
    };
    if (w->n == 1 && w->roles[0] > BISE_ROLE_USER)
        return fail_message(err, BISE_EFORMAT, (size_t)0, w->roles[0],
                            "%s", "a conversation starts with the system or "
                            "the user");
    for (size_t i = 1; i < w->n; i++)
        if (!may[w->roles[i - 1]][w->roles[i]])
            return fail_message(err, BISE_EFORMAT, i, w->roles[i],
                                "may not follow the role '%s'",
                                role_names[w->roles[i - 1]]);
    return BISE_OK;
}

/* Does the message say anything: a text, or chunks, or a thought beside? An
 * empty list counts as nothing, a list with an empty text as something, as
 * Python's truth has it. */
static bool has_content(const bise_json *m)
{
    const bise_json *content = bise_json_get(m, "content");
    size_t n = 0;
    if (bise_json_string(content, &n))
        return n > 0 || text_of(m, "reasoning_content") ||
               text_of(m, "reasoning");
    return bise_json_size(content) > 0 || text_of(m, "reasoning_content") ||
           text_of(m, "reasoning");
}

/* Types of a content list: text for all, thoughts where the format has them.
 * Text only otherwise: images and audio have no place in a text model, and
 * dropping them silently would train on questions without their subject. */
static bise_status check_chunks(const walk *w, size_t i, bise_error *err)
{
    const bise_json *m = bise_json_at(w->messages, i);
    const bise_json *content = bise_json_get(m, "content");
    const bise_role role = w->roles[i];
    const bise_json_type type = bise_json_typeof(content);
    if (type != BISE_JSON_STRING && type != BISE_JSON_ARRAY &&
        !(bise_json_is_null(content) && role == BISE_ROLE_ASSISTANT))
        return fail_message(err, BISE_EFORMAT, i, role, "%s",
                            "'content' is neither a text nor a list");
    const bool thinks = role == BISE_ROLE_ASSISTANT ? w->c->thinks :
        role == BISE_ROLE_SYSTEM && w->c->thinks_in_system;
    for (size_t k = 0; type == BISE_JSON_ARRAY && k < bise_json_size(content);
         k++) {
        const bise_json *chunk = bise_json_at(content, k);
        const char *t = text_of(chunk, "type");
        if (t && strcmp(t, "text") == 0 && text_of(chunk, "text"))
            continue;
        if (t && strcmp(t, "thinking") == 0 && thinks)
            continue;
        return fail_message(err, BISE_EUNSUPPORTED, i, role, "content chunk "
                            "%zu of type '%.40s' cannot be expressed in %s",
                            k + 1, t ? t : "(none)", w->c->name);
    }
    if (!thinks && role == BISE_ROLE_ASSISTANT &&
        (text_of(m, "reasoning_content") || text_of(m, "reasoning")))
        return fail_message(err, BISE_EUNSUPPORTED, i, role, "thoughts cannot "
                            "be expressed in %s", w->c->name);
    return BISE_OK;
}

/* The id of a call: "null" stands for none, as in mistral-common. Up to v11
 * only the last message of a training sample may go without: its id would be
 * random text to learn. */
static bise_status check_call_id(const walk *w, size_t i, const char *id,
                                 bise_error *err)
{
    const bool none = !id || !*id || strcmp(id, "null") == 0;
    if (w->c->ids == BISE_IDS_ANY && none)
        return fail_message(err, BISE_EFORMAT, i, w->roles[i], "%s",
                            "a tool call has no 'id'");
    if (w->c->ids != BISE_IDS_NINE)
        return BISE_OK;
    if ((!id || strcmp(id, "null") == 0) && w->trains && i + 1 == w->n)
        return BISE_OK;
    if (none || !is_nine(id))
        return fail_message(err, BISE_EFORMAT, i, w->roles[i], "the id '%.40s' "
                            "of a tool call is not 9 letters or digits",
                            id ? id : "null");
    return BISE_OK;
}

/* What one assistant message may hold: text, calls, or both where the format
 * allows it, names that are valid, a weight of 0 or 1, and a prefix only at
 * the very end. */
static bise_status check_assistant(const walk *w, size_t i, bise_error *err)
{
    const bise_json *m = bise_json_at(w->messages, i);
    const bise_json *calls = bise_json_get(m, "tool_calls");
    const bool says = has_content(m), acts = bise_json_size(calls) > 0;
    const bise_role role = BISE_ROLE_ASSISTANT;
    if (acts && w->c->calls == BISE_CALLS_NONE)
        return fail_message(err, BISE_EUNSUPPORTED, i, role,
                            "%s has no tool calls", w->c->name);
    if (says && acts && !w->c->text_with_calls)
        return fail_message(err, BISE_EUNSUPPORTED, i, role, "%s cannot have "
                            "a text and tool calls together", w->c->name);
    /* From v7 on an empty message may join a turn that says something. */
    if (!says && !acts && !w->c->text_with_calls)
        return fail_message(err, BISE_EFORMAT, i, role, "%s",
                            "neither a text nor tool calls");
    for (size_t k = 0; k < bise_json_size(calls); k++) {
        const bise_json *call = bise_json_at(calls, k);
        const bise_json *f = bise_json_get(call, "function");
        const char *name = text_of(f, "name");
        if (!name || !bise_is_function_name(name))
            return fail_message(err, BISE_EFORMAT, i, role, "tool call %zu has "
                                "the function name '%.40s', not 1 to 64 of "
                                "a-z A-Z 0-9 _ -", k + 1,
                                name ? name : "(none)");
        const bise_status s = check_call_id(w, i, text_of(call, "id"), err);
        if (s != BISE_OK)
            return s;
    }
    const bise_json *weight = bise_json_get(m, "weight");
    const double v = bise_json_number(weight, -1);
    if (!bise_json_is_null(weight) && v != 0 && v != 1)
        return fail_message(err, BISE_EFORMAT, i, role, "%s",
                            "'weight' is neither 0 nor 1");
    if (bise_json_bool(bise_json_get(m, "prefix"), false) && i + 1 < w->n)
        return fail_message(err, BISE_EFORMAT, i, role, "%s",
                            "only the last message may be a prefix");
    return BISE_OK;
}

/* What a result must have: formats before v13 spell the id, so it has their
 * form; later ones only match it to its call. */
static bise_status check_tool(const walk *w, size_t i, bise_error *err)
{
    const bise_json *m = bise_json_at(w->messages, i);
    const char *id = text_of(m, "tool_call_id"), *name = text_of(m, "name");
    if (w->c->results == BISE_RESULT_NONE)
        return fail_message(err, BISE_EUNSUPPORTED, i, BISE_ROLE_TOOL,
                            "%s has no tool results", w->c->name);
    if (name && !bise_is_function_name(name))
        return fail_message(err, BISE_EFORMAT, i, BISE_ROLE_TOOL, "'name' is "
                            "'%.40s', not 1 to 64 of a-z A-Z 0-9 _ -", name);
    if (w->c->ids == BISE_IDS_NINE && !(id && is_nine(id)))
        return fail_message(err, BISE_EFORMAT, i, BISE_ROLE_TOOL,
                            "'tool_call_id' is '%.40s', not 9 letters or "
                            "digits", id ? id : "(none)");
    if (w->c->ids == BISE_IDS_ANY && (!id || !*id || !strcmp(id, "null")))
        return fail_message(err, BISE_EFORMAT, i, BISE_ROLE_TOOL, "%s",
                            "'tool_call_id' is missing");
    return BISE_OK;
}

/* As many results as calls before the assistant speaks again. Missing
 * results at the end are fine, the conversation may stop there. */
static bise_status check_counts(const walk *w, bise_error *err)
{
    int64_t open = 0;
    for (size_t i = 1; i < w->n; i++) {
        const bise_json *m = bise_json_at(w->messages, i);
        const bise_json *calls = bise_json_get(m, "tool_calls");
        if (w->roles[i] == BISE_ROLE_TOOL)
            open--;
        if (w->roles[i] != BISE_ROLE_ASSISTANT)
            continue;
        if (open)
            return fail_message(err, BISE_EFORMAT, i, w->roles[i], "%s",
                                "not as many results as tool calls before it");
        if (!bise_json_is_null(calls))
            open = (int64_t)bise_json_size(calls);
    }
    return BISE_OK;
}

/* The calls that wait for a result, and those that have one. */
typedef struct pending {
    bise_strmap ids;
    bool *done;
    size_t n, n_done, cap;
} pending;

/* Start to wait for the calls of message i. Ids must differ, or a result
 * could not be told which call it answers. */
static bise_status expect_calls(pending *p, const walk *w, size_t i,
                                bise_error *err)
{
    const bise_json *calls = bise_json_get(bise_json_at(w->messages, i),
                                           "tool_calls");
    bise_strmap_fini(&p->ids);
    p->n = p->n_done = 0;
    for (size_t k = 0; k < bise_json_size(calls); k++) {
        const char *id = text_of(bise_json_at(calls, k), "id");
        void *v = p->done;
        if (!id)
            id = "null";
        if (bise_grow(&v, &p->cap, p->n + 1, sizeof *p->done) != 0)
            return bise_fail_nomem(err);
        p->done = v;
        const int rc = bise_strmap_add(&p->ids, id, strlen(id),
                                       (uint32_t)p->n);
        if (rc < 0)
            return bise_fail_nomem(err);
        if (rc > 0)
            return fail_message(err, BISE_EFORMAT, i, w->roles[i], "two tool "
                                "calls have the id '%.40s'", id);
        p->done[p->n++] = false;
    }
    return BISE_OK;
}

/* From v11 on every result names a call that waits for it. Results may come
 * in any order; order_results sorts them later. */
static bise_status check_pairs(const walk *w, bise_error *err)
{
    pending p = { 0 };
    bise_status s = BISE_OK;
    for (size_t i = 1; i < w->n && s == BISE_OK; i++) {
        const char *id = text_of(bise_json_at(w->messages, i), "tool_call_id");
        if (w->roles[i] == BISE_ROLE_TOOL) {
            const uint32_t k = id ? bise_strmap_find(&p.ids, id, strlen(id))
                                  : BISE_STRMAP_NONE;
            if (k == BISE_STRMAP_NONE || p.done[k]) {
                s = fail_message(err, BISE_EFORMAT, i, w->roles[i],
                                 "'tool_call_id' '%.40s' is not that of an "
                                 "open call", id ? id : "(none)");
            } else {
                p.done[k] = true;
                p.n_done++;
            }
        } else if (w->roles[i] == BISE_ROLE_ASSISTANT) {
            if (p.n != p.n_done)
                s = fail_message(err, BISE_EFORMAT, i, w->roles[i], "%s", "not "
                                 "as many results as tool calls before it");
            else
                s = expect_calls(&p, w, i, err);
        }
    }
    bise_strmap_fini(&p.ids);
    bise_free(p.done);
    return s;
}

/* All rules, in mistral-common's order, so that a conversation with two
 * faults is told the same one first. */
static bise_status check_all(walk *w, bise_error *err)
{
    bise_status s = read_roles(w, err);
    if (s != BISE_OK)
        return s;
    const bise_json *last = bise_json_at(w->messages, w->n - 1);
    w->trains = w->roles[w->n - 1] == BISE_ROLE_ASSISTANT &&
                !bise_json_bool(bise_json_get(last, "prefix"), false);
    s = check_order(w, err);
    if (s == BISE_OK)
        s = w->c->pairs_by_id ? check_pairs(w, err) : check_counts(w, err);
    for (size_t i = 0; i < w->n && s == BISE_OK; i++) {
        s = check_chunks(w, i, err);
        if (s == BISE_OK && w->roles[i] == BISE_ROLE_ASSISTANT)
            s = check_assistant(w, i, err);
        if (s == BISE_OK && w->roles[i] == BISE_ROLE_TOOL)
            s = check_tool(w, i, err);
    }
    return s;
}

/* Append a text or thought to a turn. The text is copied: it may come from a
 * buffer that the next message overwrites. */
static bise_status add_part(bise_turns *t, bise_turn *turn, const char *text,
                            size_t len, bool think, bool open, bise_error *err)
{
    void *v = turn->parts;
    if (bise_grow(&v, &turn->cap_parts, turn->n_parts + 1,
                  sizeof *turn->parts) != 0)
        return bise_fail_nomem(err);
    turn->parts = v;
    char *copy = bise_arena_strndup(&t->arena, text, len);
    if (!copy)
        return bise_fail_nomem(err);
    turn->parts[turn->n_parts++] = (bise_part){ copy, len, think, open };
    return BISE_OK;
}

/* Joining of texts: between messages a blank line, between the texts of one
 * message what the format says. */
typedef struct joiner {
    bise_turns *t;
    bise_turn *turn;
    const bise_chat *c;
    bise_str text;      /* not yet a part */
    bool new_message;   /* the next text is the first of its message */
} joiner;

/* Add a text to the one that is being joined. Empty texts leave no trace,
 * not even a separator. */
static void join_text(joiner *j, const char *s, size_t n)
{
    if (!n)
        return;
    if (j->text.len)
        bise_str_puts(&j->text, j->new_message ? "\n\n" : j->c->chunk_join);
    bise_str_add(&j->text, s, n);
    j->new_message = false;
}

/* End the text being joined: it becomes a part of the turn. */
static bise_status flush_text(joiner *j, bise_error *err)
{
    bise_status s = BISE_OK;
    if (!bise_str_ok(&j->text))
        return bise_fail_nomem(err);
    if (j->text.len)
        s = add_part(j->t, j->turn, j->text.data, j->text.len, false, false,
                     err);
    bise_str_clear(&j->text);
    return s;
}

/* A thought: a text, or a list of texts as Mistral's API gives it. The text
 * before it ends here, since a thought is a part of its own between [THINK]
 * and [/THINK]. */
static bise_status join_thought(joiner *j, const bise_json *thinking,
                                bool closed, bise_error *err)
{
    bise_str all = { 0 };
    size_t n = 0;
    const char *one = bise_json_string(thinking, &n);
    bise_status s = flush_text(j, err);
    if (one)
        bise_str_add(&all, one, n);
    for (size_t i = 0; i < bise_json_size(thinking); i++) {
        one = bise_json_string(bise_json_get(bise_json_at(thinking, i),
                                             "text"), &n);
        if (one)
            bise_str_add(&all, one, n);
    }
    if (s == BISE_OK && !bise_str_ok(&all))
        s = bise_fail_nomem(err);
    if (s == BISE_OK)
        s = add_part(j->t, j->turn, bise_str_get(&all), all.len, true, !closed,
                     err);
    bise_str_fini(&all);
    return s;
}

/* The content of one message onto the turn. A thought that stands beside the
 * content (reasoning_content of other engines) comes first, as the model
 * thinks before it answers. */
static bise_status join_message(joiner *j, const bise_json *m, bise_error *err)
{
    const bise_json *content = bise_json_get(m, "content");
    const bise_json *beside = bise_json_get(m, "reasoning_content");
    size_t n = 0;
    const char *text = bise_json_string(content, &n);
    bise_status s = BISE_OK;
    if (bise_json_is_null(beside))
        beside = bise_json_get(m, "reasoning");
    j->new_message = true;
    if (j->turn->role == BISE_ROLE_ASSISTANT && bise_json_string(beside, NULL))
        s = join_thought(j, beside, true, err);
    if (text)
        join_text(j, text, n);
    for (size_t k = 0; !text && k < bise_json_size(content) && s == BISE_OK;
         k++) {
        const bise_json *chunk = bise_json_at(content, k);
        const bise_json *thinking = bise_json_get(chunk, "thinking");
        text = bise_json_string(bise_json_get(chunk, "text"), &n);
        if (thinking)
            s = join_thought(j, thinking,
                             bise_json_bool(bise_json_get(chunk, "closed"),
                                            true), err);
        else if (text)
            join_text(j, text, n);
        text = NULL;
    }
    return s;
}

/* Arguments as Python writes them again; text that is no JSON stays. No
 * arguments at all are an empty object. An object instead of the text that
 * OpenAI has is accepted and written in the same way. */
static bise_status add_call(bise_turns *t, bise_turn *turn,
                            const bise_json *call, bise_error *err)
{
    const bise_json *f = bise_json_get(call, "function");
    const bise_json *args = bise_json_get(f, "arguments");
    size_t n = 0;
    const char *text = bise_json_string(args, &n);
    bise_str buf = { 0 };
    void *v = turn->calls;
    if (bise_grow(&v, &turn->cap_calls, turn->n_calls + 1,
                  sizeof *turn->calls) != 0)
        return bise_fail_nomem(err);
    turn->calls = v;
    if (text ? n == 0 : bise_json_is_null(args))
        bise_str_puts(&buf, "{}");
    else if (!text)
        bise_json_dump_python(&buf, args);
    else if (!bise_pyjson(&buf, text, n))
        bise_str_put_json(&buf, text, n);
    const char *id = text_of(call, "id");
    bise_call *c = &turn->calls[turn->n_calls];
    *c = (bise_call){
        .name = text_of(f, "name"),
        .id = id && *id && strcmp(id, "null") != 0 ? id : NULL,
        .args = bise_arena_strndup(&t->arena, bise_str_get(&buf), buf.len),
        .args_len = buf.len
    };
    const bool ok = bise_str_ok(&buf) && c->args;
    bise_str_fini(&buf);
    turn->n_calls += ok;
    return ok ? BISE_OK : bise_fail_nomem(err);
}

/* A turn at the end of the list; NULL when out of memory. Pointers to turns
 * die with the next call. */
static bise_turn *new_turn(bise_turns *t, bise_role role, size_t message)
{
    void *v = t->v;
    if (bise_grow(&v, &t->cap, t->n + 1, sizeof *t->v) != 0)
        return NULL;
    t->v = v;
    t->v[t->n] = (bise_turn){ .role = role, .message = message, .weight = 1 };
    return &t->v[t->n++];
}

/* Messages [from, to) of one role as one turn. Results and system messages
 * come alone, so from + 1 == to for them and their ids and names are those
 * of the one message. */
static bise_status add_turn(bise_turns *t, const walk *w, size_t from,
                            size_t to, bise_error *err)
{
    bise_turn *turn = new_turn(t, w->roles[from], from);
    if (!turn)
        return bise_fail_nomem(err);
    joiner j = { .t = t, .turn = turn, .c = w->c };
    bise_status s = BISE_OK;
    for (size_t i = from; i < to && s == BISE_OK; i++) {
        const bise_json *m = bise_json_at(w->messages, i);
        const bise_json *calls = bise_json_get(m, "tool_calls");
        s = join_message(&j, m, err);
        if (turn->role != BISE_ROLE_ASSISTANT)
            continue;
        for (size_t k = 0; k < bise_json_size(calls) && s == BISE_OK; k++)
            s = add_call(t, turn, bise_json_at(calls, k), err);
        turn->weight = bise_json_number(bise_json_get(m, "weight"), 1);
        turn->prefix |= bise_json_bool(bise_json_get(m, "prefix"), false);
    }
    if (s == BISE_OK)
        s = flush_text(&j, err);
    bise_str_fini(&j.text);
    const bise_json *first = bise_json_at(w->messages, from);
    turn->call_id = text_of(first, "tool_call_id");
    turn->name = text_of(first, "name");
    return s;
}

/* The system messages joined, for formats without a block of their own.
 * Chunks are joined as in any message, messages by a blank line; empty ones
 * are skipped. */
static bise_status join_system(bise_turns *t, const walk *w, bise_error *err)
{
    bise_turn turn = { .role = BISE_ROLE_SYSTEM };
    bise_status s = BISE_OK;
    for (size_t i = 0; i < w->n && s == BISE_OK; i++) {
        const bise_json *m = bise_json_at(w->messages, i);
        if (w->roles[i] != BISE_ROLE_SYSTEM || !has_content(m))
            continue;
        joiner j = { .t = t, .turn = &turn, .c = w->c };
        turn.n_parts = 0;
        s = join_message(&j, m, err);
        if (t->system.len)
            bise_str_puts(&t->system, "\n\n");
        bise_str_add(&t->system, bise_str_get(&j.text), j.text.len);
        bise_str_fini(&j.text);
    }
    bise_free(turn.parts);
    if (s == BISE_OK && !bise_str_ok(&t->system))
        s = bise_fail_nomem(err);
    return s;
}

/* Where a result belongs: behind the last call with its id, results without
 * a call behind all, equals in the order of their last occurrence. Sorting
 * by both keys is what mistral-common does; with unique ids, which
 * check_pairs has made sure of, the first decides. */
static size_t place_of(const bise_turns *t, size_t first_call, size_t from,
                       size_t to, size_t k, size_t *second)
{
    const char *id = t->v[k].call_id ? t->v[k].call_id : "null";
    size_t place = SIZE_MAX, at = 0;
    for (size_t i = first_call; i < from; i++)
        for (size_t c = 0; c < t->v[i].n_calls; c++, at++)
            if (t->v[i].calls[c].id && strcmp(t->v[i].calls[c].id, id) == 0)
                place = at;
    for (size_t i = from; i < to; i++)
        if (t->v[i].call_id && strcmp(t->v[i].call_id, id) == 0)
            *second = i;
    return place;
}

/* Stable insertion sort of results [from, to) by their calls. Runs are a
 * handful of messages, so the quadratic sort is the short one. */
static void sort_results(bise_turns *t, size_t first_call, size_t from,
                         size_t to)
{
    for (size_t i = from + 1; i < to; i++)
        for (size_t k = i; k > from; k--) {
            size_t sa = 0, sb = 0;
            const size_t a = place_of(t, first_call, from, to, k - 1, &sa);
            const size_t b = place_of(t, first_call, from, to, k, &sb);
            if (a < b || (a == b && sa <= sb))
                break;
            const bise_turn swap = t->v[k];
            t->v[k] = t->v[k - 1];
            t->v[k - 1] = swap;
        }
}

/* Put runs of results into the order of the calls since the run before.
 * Calls of several turns in a row count together, in their order. */
static void order_results(bise_turns *t)
{
    size_t first_call = 0;
    for (size_t i = 0; i < t->n;) {
        size_t to = i;
        while (to < t->n && t->v[to].role == BISE_ROLE_TOOL)
            to++;
        if (to == i) {
            i++;
            continue;
        }
        sort_results(t, first_call, i, to);
        first_call = i = to;
    }
}

/* The weight of a message, -1 for none: mistral-common does not merge a
 * message with weight 1 with one that has none. */
static double weight_of(const bise_json *m)
{
    const bise_json *v = bise_json_get(m, "weight");
    return bise_json_is_null(v) ? -1 : bise_json_number(v, -1);
}

/* Runs of one role and weight become turns; a result stays alone. A system
 * message breaks a run even where it leaves no turn: two user messages
 * around it stay two turns. */
static bise_status collect(bise_turns *t, const walk *w, bise_error *err)
{
    const bool block = w->c->system == BISE_SYSTEM_BLOCK;
    bise_status s = BISE_OK;
    for (size_t i = 0, to; i < w->n && s == BISE_OK; i = to) {
        const bise_role role = w->roles[i];
        for (to = i + 1; to < w->n && w->roles[to] == role; to++)
            if (role == BISE_ROLE_TOOL || role == BISE_ROLE_SYSTEM ||
                weight_of(bise_json_at(w->messages, i)) !=
                weight_of(bise_json_at(w->messages, to)))
                break;
        if (role == BISE_ROLE_SYSTEM && !block)
            continue;
        /* Formats without a block start with a user turn, if empty. */
        if (!block && !t->n && role != BISE_ROLE_USER &&
            !new_turn(t, BISE_ROLE_USER, i))
            return bise_fail_nomem(err);
        s = add_turn(t, w, i, to, err);
    }
    if (s == BISE_OK && !t->n && !new_turn(t, BISE_ROLE_USER, 0))
        s = bise_fail_nomem(err);
    return s;
}

/* On failure t is empty again and needs no bise_turns_fini. */
bise_status bise_turns_read(bise_turns *t, const bise_chat *c,
                            const bise_json *messages, bise_error *err)
{
    walk w = { .c = c, .messages = messages, .n = bise_json_size(messages) };
    if (bise_json_typeof(messages) != BISE_JSON_ARRAY || !w.n)
        return bise_fail(err, BISE_EFORMAT, "the list of messages is empty");
    w.roles = bise_alloc_array(w.n, sizeof *w.roles);
    if (!w.roles)
        return bise_fail_nomem(err);
    bise_status s = check_all(&w, err);
    if (s == BISE_OK && c->system != BISE_SYSTEM_BLOCK)
        s = join_system(t, &w, err);
    if (s == BISE_OK)
        s = collect(t, &w, err);
    if (s == BISE_OK && c->pairs_by_id)
        order_results(t);
    t->trains = w.trains;
    bise_free(w.roles);
    if (s != BISE_OK)
        bise_turns_fini(t);
    return s;
}
