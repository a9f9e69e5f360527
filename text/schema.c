/* schema.c - the table of row formats. Every conversational format becomes a
 * list of messages in the OpenAI form and goes through the one chat encoder,
 * so that a format adds no second way to tokens; "text" and "tokens" rows
 * bypass it. Keys and aliases follow lora.md 6.
 * To add a format: a row in the table, an encode function, a test.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/schema.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"

/* What an encode function gets: the row, the settings, where to append. */
typedef struct encoding {
    const bise_json *row;
    const bise_dataset_options *o;
    bise_samples *out;
} encoding;

struct bise_schema {
    const char *name;
    const char *keys[3];    /* all of these are there */
    bool pair;
    bise_status (*encode)(const encoding *e, bise_error *err);
};

/* Also drops ids of a sample that was begun but not ended. */
void bise_samples_truncate(bise_samples *s, size_t n)
{
    if (n < s->n)
        s->n = n;
    s->all.ids.n = s->n ? s->end[s->n - 1] : 0;
}

/* Zeroed afterwards, ready for use again. */
void bise_samples_fini(bise_samples *s)
{
    bise_sample_fini(&s->all);
    bise_free(s->end);
    *s = (bise_samples) { 0 };
}

/* What was appended to out->all since the last sample is one sample. */
static bise_status end_sample(bise_samples *out, bise_error *err)
{
    if (bise_grow((void **)&out->end, &out->cap, out->n + 1,
                  sizeof *out->end))
        return bise_fail_nomem(err);
    out->end[out->n++] = out->all.ids.n;
    return BISE_OK;
}

/* First of two names that is a member, for keys with an alias. */
static const bise_json *either(const bise_json *object, const char *a,
                               const char *b)
{
    const bise_json *v = bise_json_get(object, a);
    return v ? v : bise_json_get(object, b);
}

/* --- messages ---------------------------------------------------------- */

/* {"role", "content"} as the chat encoder takes it; NULL when out of memory.
 * The builders take their children, so one check at the end is enough. */
static bise_json *new_message(const char *role, const char *text, size_t n)
{
    bise_json *m = bise_json_new_object();
    if (m && (bise_json_set(m, "role", bise_json_new_string(role)) ||
              bise_json_set(m, "content", bise_json_new_stringn(text, n)))) {
        bise_json_free(m);
        return NULL;
    }
    return m;
}

/* Append a message to a list. */
static bise_status add_text(bise_json *list, const char *role,
                            const char *text, size_t n, bise_error *err)
{
    bise_json *m = new_message(role, text, n);
    return m && !bise_json_append(list, m) ? BISE_OK : bise_fail_nomem(err);
}

/* Append the string member key of the row as a message. */
static bise_status add_member(bise_json *list, const char *role,
                              const bise_json *row, const char *key,
                              bise_error *err)
{
    size_t n;
    const char *text = bise_json_string(bise_json_get(row, key), &n);
    if (!text)
        return bise_fail(err, BISE_EFORMAT, "'%s' is not a string", key);
    return add_text(list, role, text, n, err);
}

/* False as well for a message without a role. */
static bool is_role(const bise_json *message, const char *role)
{
    const char *r = bise_json_string(bise_json_get(message, "role"), NULL);
    return r && !strcmp(r, role);
}

/* Faults every chat format shares; the finer order of roles is the chat
 * encoder's to judge. */
static bise_status check_messages(const bise_json *list, bise_error *err)
{
    const size_t n = bise_json_size(list);
    if (bise_json_typeof(list) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT, "the messages are not an array");
    if (!n)
        return bise_fail(err, BISE_EFORMAT, "the message list is empty");
    for (size_t i = 0; i < n; i++) {
        const bise_json *m = bise_json_at(list, i);
        if (bise_json_typeof(m) != BISE_JSON_OBJECT)
            return bise_fail(err, BISE_EFORMAT,
                             "message %zu is not an object", i + 1);
        const char *role = bise_json_string(bise_json_get(m, "role"), NULL);
        if (!role)
            return bise_fail(err, BISE_EFORMAT, "message %zu has no 'role'",
                             i + 1);
        if (strcmp(role, "system") && strcmp(role, "user") &&
            strcmp(role, "assistant") && strcmp(role, "tool"))
            return bise_fail(err, BISE_EFORMAT,
                             "message %zu has the role '%.40s', not system, "
                             "user, assistant or tool", i + 1, role);
        const bise_json *content = bise_json_get(m, "content");
        if (bise_json_is_null(content) &&
            !bise_json_size(bise_json_get(m, "tool_calls")))
            return bise_fail(err, BISE_EFORMAT,
                             "message %zu (%s) has no 'content'", i + 1, role);
    }
    size_t first = 0;
    while (first < n && is_role(bise_json_at(list, first), "system"))
        first++;
    if (first < n && !is_role(bise_json_at(list, first), "user"))
        return bise_fail(err, BISE_EFORMAT,
                         "message %zu is the %s's, but the user speaks first",
                         first + 1,
                         bise_json_string(bise_json_get(
                             bise_json_at(list, first), "role"), NULL));
    if (!is_role(bise_json_at(list, n - 1), "assistant"))
        return bise_fail(err, BISE_EFORMAT,
                         "the last message is not the assistant's: nothing "
                         "to train after it");
    return BISE_OK;
}

/* One sample out of a list of messages. */
static bise_status encode_chat(const encoding *e, const bise_json *list,
                               const bise_json *tools, bise_train_on on,
                               bise_error *err)
{
    bise_status s = bise_chat_encode(e->o->chat, e->o->tokenizer, list, tools,
                                     on, &e->out->all, err);
    return s == BISE_OK ? end_sample(e->out, err) : s;
}

/* A list made here: check it, encode it, release it. */
static bise_status encode_take(const encoding *e, bise_json *list,
                               bise_status s, bise_error *err)
{
    if (s == BISE_OK)
        s = check_messages(list, err);
    if (s == BISE_OK)
        s = encode_chat(e, list, NULL, e->o->train_on, err);
    bise_json_free(list);
    return s;
}

/* Give one message the names of the OpenAI form: text -> content, developer ->
 * system. */
static bise_status rename_aliases(bise_json *m, bise_error *err)
{
    bise_json *text = bise_json_get(m, "text");
    int failed = 0;
    if (bise_json_typeof(m) != BISE_JSON_OBJECT)
        return BISE_OK;                 /* check_messages says so */
    if (text && !bise_json_get(m, "content"))
        failed = bise_json_set(m, "content", bise_json_ref(text));
    if (is_role(m, "developer"))
        failed |= bise_json_set(m, "role", bise_json_new_string("system"));
    return failed ? bise_fail_nomem(err) : BISE_OK;
}

/* The messages of a row as a list of our own (bise_json_free): aliases
 * renamed, a system_prompt beside them put first. */
static bise_status own_messages(bise_json **out, const bise_json *row,
                                const bise_json *given, bise_error *err)
{
    size_t len = 0;
    const char *sys =
        bise_json_string(bise_json_get(row, "system_prompt"), &len);
    bise_json *list = bise_json_new_array();
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && bise_json_typeof(given) != BISE_JSON_ARRAY)
        s = bise_fail(err, BISE_EFORMAT, "the messages are not an array");
    if (s == BISE_OK && sys)
        s = add_text(list, "system", sys, len, err);
    for (size_t i = 0; s == BISE_OK && i < bise_json_size(given); i++) {
        bise_json *m = bise_json_copy(bise_json_at(given, i));
        s = m ? rename_aliases(m, err) : bise_fail_nomem(err);
        if (m && bise_json_append(list, m) && s == BISE_OK)
            s = bise_fail_nomem(err);
    }
    if (s != BISE_OK) {
        bise_json_free(list);
        return s;
    }
    *out = list;
    return BISE_OK;
}

/* The id of a call that is about to be trained is random: not to be learnt. */
static void remove_call_ids(bise_json *message)
{
    const bise_json *calls = bise_json_get(message, "tool_calls");
    for (size_t i = 0; i < bise_json_size(calls); i++)
        bise_json_remove(bise_json_at(calls, i), "id");
}

/* Whether this message may be trained: weight absent, null or 1. */
static bool is_trained(const bise_json *message)
{
    const bise_json *w = bise_json_get(message, "weight");
    return is_role(message, "assistant") &&
           (bise_json_is_null(w) || bise_json_number(w, 0) == 1);
}

/* mistral-finetune's way with tools (and only_last): each assistant message is
 * the end of a sample of its own, in which only it is trained, since the tool
 * list stands in another place for a longer conversation. */
static bise_status encode_turns(const encoding *e, const bise_json *list,
                                const bise_json *tools, bise_error *err)
{
    bise_status s = BISE_OK;
    bise_json *prefix = bise_json_new_array();
    if (!prefix)
        return bise_fail_nomem(err);
    for (size_t i = 0; s == BISE_OK && i < bise_json_size(list); i++) {
        bise_json *m = bise_json_at(list, i);
        if (is_trained(m)) {
            bise_json *last = bise_json_copy(m), *all = bise_json_new_array();
            for (size_t k = 0; all && k < i; k++)
                if (bise_json_append(all, bise_json_ref(
                                              bise_json_at(prefix, k))))
                    s = bise_fail_nomem(err);
            remove_call_ids(last);
            if (!all || !last || bise_json_append(all, last))
                s = bise_fail_nomem(err);
            if (s == BISE_OK)
                s = encode_chat(e, all, tools, BISE_TRAIN_LAST, err);
            bise_json_free(all);
        }
        if (bise_json_append(prefix, bise_json_ref(m)) && s == BISE_OK)
            s = bise_fail_nomem(err);
    }
    bise_json_free(prefix);
    return s;
}

/* Up to v11 the tool list moves with the last user turn. */
static bool tools_move(const bise_chat *chat)
{
    const char *name = bise_chat_name(chat);
    return strcmp(name, "v13") && strcmp(name, "v15");
}

/* OpenAI's messages and mistral-finetune's interactions. */
static bise_status encode_messages(const encoding *e, bise_error *err)
{
    const bise_json *tools = either(e->row, "tools", "available_tools");
    const bool has_tools = bise_json_size(tools) > 0;
    bise_json *list = NULL;
    if (!bise_json_is_null(tools) &&
        bise_json_typeof(tools) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT, "'tools' is not an array");
    bise_status s = own_messages(&list, e->row,
                                 either(e->row, "messages", "interactions"),
                                 err);
    if (s != BISE_OK)
        return s;
    s = check_messages(list, err);
    if (s != BISE_OK) {
        ;
    } else if (bise_json_bool(bise_json_get(e->row, "only_last"), false) ||
               (has_tools && tools_move(e->o->chat) &&
                e->o->train_on == BISE_TRAIN_ASSISTANT)) {
        s = encode_turns(e, list, has_tools ? tools : NULL, err);
    } else {
        s = encode_chat(e, list, has_tools ? tools : NULL, e->o->train_on,
                        err);
    }
    bise_json_free(list);
    return s;
}

/* --- ShareGPT ---------------------------------------------------------- */

/* Nine letters and digits, as Mistral's call ids are. */
static void call_id(char id[16], unsigned number)
{
    snprintf(id, 16, "call%05u", number % 100000);
}

/* A function_call's value is {"name", "arguments"} or a list of them. */
static bise_status add_calls(bise_json *list, const char *value, size_t n,
                             unsigned *calls, bise_error *err)
{
    bise_json *parsed = NULL, *message = new_message("assistant", "", 0);
    bise_json *out = bise_json_new_array();
    bise_status s = BISE_OK;
    if (!message || !out) {
        s = bise_fail_nomem(err);
        goto done;
    }
    s = bise_json_parse(&parsed, value, n, err);
    if (s != BISE_OK)
        goto done;
    const bool many = bise_json_typeof(parsed) == BISE_JSON_ARRAY;
    for (size_t i = 0; i < (many ? bise_json_size(parsed) : 1); i++) {
        const bise_json *call = many ? bise_json_at(parsed, i) : parsed;
        bise_json *c = bise_json_new_object(), *f = bise_json_copy(call);
        char id[16];
        call_id(id, ++*calls);
        if (bise_json_set(c, "function", f) ||
            bise_json_set(c, "type", bise_json_new_string("function")) ||
            bise_json_set(c, "id", bise_json_new_string(id)) ||
            bise_json_append(out, bise_json_ref(c)))
            s = bise_fail_nomem(err);
        bise_json_free(c);
    }
    if (s == BISE_OK &&
        (bise_json_set(message, "tool_calls", bise_json_ref(out)) ||
         bise_json_append(list, bise_json_ref(message))))
        s = bise_fail_nomem(err);
done:
    bise_json_free(parsed);
    bise_json_free(out);
    bise_json_free(message);
    return s;
}

/* The result of the oldest call without one. */
static bise_status add_result(bise_json *list, const char *value, size_t n,
                              unsigned *results, bise_error *err)
{
    bise_json *m = new_message("tool", value, n);
    char id[16];
    call_id(id, ++*results);
    if (!m || bise_json_set(m, "tool_call_id", bise_json_new_string(id))) {
        bise_json_free(m);
        return bise_fail_nomem(err);
    }
    return bise_json_append(list, m) ? bise_fail_nomem(err) : BISE_OK;
}

/* One {"from", "value"} of a ShareGPT conversation. */
static bise_status add_sharegpt(bise_json *list, const bise_json *turn,
                                size_t number, unsigned calls[2],
                                bise_error *err)
{
    static const char *const roles[][2] = {
        { "human", "user" }, { "user", "user" }, { "gpt", "assistant" },
        { "assistant", "assistant" }, { "chatgpt", "assistant" },
        { "bard", "assistant" }, { "system", "system" },
    };
    size_t n = 0;
    const char *from =
        bise_json_string(either(turn, "from", "role"), NULL);
    const char *value =
        bise_json_string(either(turn, "value", "content"), &n);
    if (!from || !value)
        return bise_fail(err, BISE_EFORMAT,
                         "turn %zu has no '%s' string", number,
                         from ? "value" : "from");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(from, roles[i][0]))
            return add_text(list, roles[i][1], value, n, err);
    if (!strcmp(from, "function_call"))
        return add_calls(list, value, n, &calls[0], err);
    if (!strcmp(from, "observation") || !strcmp(from, "tool"))
        return add_result(list, value, n, &calls[1], err);
    return bise_fail(err, BISE_EFORMAT,
                     "turn %zu is from '%.40s', not human, gpt, system, "
                     "function_call or observation", number, from);
}

/* "tools" of ShareGPT is often a JSON text; give an array (bise_json_free),
 * each function wrapped as {"type", "function"}. */
static bise_status sharegpt_tools(bise_json **out, const bise_json *tools,
                                  bise_error *err)
{
    size_t n;
    const char *text = bise_json_string(tools, &n);
    bise_json *list = NULL, *wrapped = bise_json_new_array();
    bise_status s = wrapped ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && text && n)
        s = bise_json_parse(&list, text, n, err);
    else if (s == BISE_OK && !text && tools)
        list = bise_json_ref(tools);
    for (size_t i = 0; s == BISE_OK && i < bise_json_size(list); i++) {
        bise_json *f = bise_json_at(list, i), *w = bise_json_new_object();
        if (bise_json_get(f, "function")) {
            bise_json_free(w);
            w = bise_json_ref(f);
        } else if (!w ||
                   bise_json_set(w, "type", bise_json_new_string("function"))
                   || bise_json_set(w, "function", bise_json_ref(f))) {
            s = bise_fail_nomem(err);
        }
        if (bise_json_append(wrapped, w))
            s = bise_fail_nomem(err);
    }
    bise_json_free(list);
    if (s != BISE_OK) {
        bise_json_free(wrapped);
        return s;
    }
    *out = wrapped;
    return BISE_OK;
}

/* Turns of a ShareGPT list as messages, "system" beside it first. */
static bise_status from_sharegpt(bise_json *list, const bise_json *row,
                                 const bise_json *turns, bise_error *err)
{
    unsigned calls[2] = { 0, 0 };       /* made, answered */
    bise_status s = BISE_OK;
    if (bise_json_typeof(turns) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT, "'conversations' is not an array");
    if (bise_json_string(bise_json_get(row, "system"), NULL))
        s = add_member(list, "system", row, "system", err);
    for (size_t i = 0; s == BISE_OK && i < bise_json_size(turns); i++)
        s = add_sharegpt(list, bise_json_at(turns, i), i + 1, calls, err);
    return s;
}

/* Turns under other names, calls and results as texts; trained as messages
 * are. */
static bise_status encode_sharegpt(const encoding *e, bise_error *err)
{
    bise_json *list = bise_json_new_array(), *tools = NULL;
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK)
        s = from_sharegpt(list, e->row, bise_json_get(e->row, "conversations"),
                          err);
    if (s == BISE_OK)
        s = check_messages(list, err);
    if (s == BISE_OK)
        s = sharegpt_tools(&tools, bise_json_get(e->row, "tools"), err);
    if (s == BISE_OK && bise_json_size(tools) && tools_move(e->o->chat) &&
        e->o->train_on == BISE_TRAIN_ASSISTANT)
        s = encode_turns(e, list, tools, err);
    else if (s == BISE_OK)
        s = encode_chat(e, list, bise_json_size(tools) ? tools : NULL,
                        e->o->train_on, err);
    bise_json_free(tools);
    bise_json_free(list);
    return s;
}

/* --- instruction formats ----------------------------------------------- */

/* User turn of an instruction: instruction + "\n" + input when there is one. */
static bise_status add_instruction(bise_json *list, const bise_json *row,
                                   const bise_json *input, bise_error *err)
{
    size_t n = 0, m = 0;
    const char *text =
        bise_json_string(bise_json_get(row, "instruction"), &n);
    const char *more = bise_json_string(input, &m);
    bise_str both = { 0 };
    if (!text)
        return bise_fail(err, BISE_EFORMAT, "'instruction' is not a string");
    if (!more && !bise_json_is_null(input))
        return bise_fail(err, BISE_EFORMAT, "'input' is not a string");
    bise_str_add(&both, text, n);
    if (m) {
        bise_str_putc(&both, '\n');
        bise_str_add(&both, more, m);
    }
    const bise_status s =
        bise_str_ok(&both) ?
            add_text(list, "user", bise_str_get(&both), both.len, err) :
            bise_fail_nomem(err);
    bise_str_fini(&both);
    return s;
}

/* Earlier turns of an alpaca row: [[question, answer], ...]. */
static bise_status add_history(bise_json *list, const bise_json *history,
                               bise_error *err)
{
    for (size_t i = 0; i < bise_json_size(history); i++)
        for (size_t k = 0; k < 2; k++) {
            size_t n;
            const char *text = bise_json_string(
                bise_json_at(bise_json_at(history, i), k), &n);
            if (!text)
                return bise_fail(err, BISE_EFORMAT,
                                 "turn %zu of 'history' is not a pair of "
                                 "strings", i + 1);
            const bise_status s = add_text(list, k ? "assistant" : "user",
                                           text, n, err);
            if (s != BISE_OK)
                return s;
        }
    return BISE_OK;
}

/* System text, earlier turns, the instruction, the answer. */
static bise_status encode_alpaca(const encoding *e, bise_error *err)
{
    const bise_json *sys = bise_json_get(e->row, "system");
    bise_json *list = bise_json_new_array();
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && !bise_json_is_null(sys))
        s = add_member(list, "system", e->row, "system", err);
    if (s == BISE_OK)
        s = add_history(list, bise_json_get(e->row, "history"), err);
    if (s == BISE_OK)
        s = add_instruction(list, e->row, bise_json_get(e->row, "input"),
                            err);
    if (s == BISE_OK)
        s = add_member(list, "assistant", e->row, "output", err);
    return encode_take(e, list, s, err);
}

/* Self-instruct seeds: one instruction, several {"input", "output"}. */
static bise_status encode_instances(const encoding *e, bise_error *err)
{
    const bise_json *all = bise_json_get(e->row, "instances");
    bise_status s = BISE_OK;
    if (!bise_json_size(all))
        return bise_fail(err, BISE_EFORMAT, "'instances' has no elements");
    for (size_t i = 0; s == BISE_OK && i < bise_json_size(all); i++) {
        const bise_json *one = bise_json_at(all, i);
        bise_json *list = bise_json_new_array();
        s = list ? BISE_OK : bise_fail_nomem(err);
        if (s == BISE_OK)
            s = add_instruction(list, e->row, bise_json_get(one, "input"),
                                err);
        if (s == BISE_OK)
            s = add_member(list, "assistant", one, "output", err);
        s = encode_take(e, list, s, err);
    }
    return s;
}

/* A question and its answer under the two keys of the format. */
static bise_status encode_two(const encoding *e, const char *question,
                              const char *answer, bise_error *err)
{
    const bise_json *sys = bise_json_get(e->row, "system");
    bise_json *list = bise_json_new_array();
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && bise_json_string(sys, NULL))
        s = add_member(list, "system", e->row, "system", err);
    if (s == BISE_OK)
        s = add_member(list, "user", e->row, question, err);
    if (s == BISE_OK)
        s = add_member(list, "assistant", e->row, answer, err);
    return encode_take(e, list, s, err);
}

/* Append the messages of v: a list of them, or a string spoken by role.
 * Assistant turns of a prompt are context: masked by weight 0. */
static bise_status add_part(bise_json *list, const bise_json *v,
                            const char *role, bool context, bise_error *err)
{
    size_t n;
    const char *text = bise_json_string(v, &n);
    if (text)
        return add_text(list, role, text, n, err);
    if (bise_json_typeof(v) == BISE_JSON_OBJECT) {  /* one message */
        if (bise_json_get(v, "from")) {
            unsigned calls[2] = { 0, 0 };
            return add_sharegpt(list, v, 1, calls, err);
        }
        return bise_json_append(list, bise_json_copy(v)) ?
                   bise_fail_nomem(err) : BISE_OK;
    }
    if (bise_json_typeof(v) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT,
                         "the %s's part is neither a string nor messages",
                         role);
    for (size_t i = 0; i < bise_json_size(v); i++) {
        bise_json *m = bise_json_copy(bise_json_at(v, i));
        if (!m)
            return bise_fail_nomem(err);
        bise_status s = rename_aliases(m, err);
        if (context && is_role(m, "assistant") &&
            bise_json_set(m, "weight", bise_json_new_int(0)))
            s = bise_fail_nomem(err);
        if (bise_json_append(list, m) || s != BISE_OK)
            return s == BISE_OK ? bise_fail_nomem(err) : s;
    }
    return BISE_OK;
}

/* prompt and completion: strings (one turn each), or lists of messages. */
static bise_status encode_completion(const encoding *e, bise_error *err)
{
    bise_json *list = bise_json_new_array();
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK)
        s = add_part(list, bise_json_get(e->row, "prompt"), "user", true,
                     err);
    if (s == BISE_OK)
        s = add_part(list, bise_json_get(e->row, "completion"), "assistant",
                     false, err);
    return encode_take(e, list, s, err);
}

/* The form of gsm8k and of many question sets. */
static bise_status encode_question(const encoding *e, bise_error *err)
{
    return encode_two(e, "question", "answer", err);
}

/* The plainest instruction form. */
static bise_status encode_input(const encoding *e, bise_error *err)
{
    return encode_two(e, "input", "output", err);
}

/* --- preference -------------------------------------------------------- */

/* The prompt of a preference row in any of its spellings; without one the
 * answers are whole conversations. */
static bise_status add_prompt(bise_json *list, const bise_json *row,
                              bise_error *err)
{
    const bise_json *input = bise_json_get(row, "input");
    const bise_json *v = bise_json_get(row, "prompt");
    if (bise_json_get(row, "conversations"))
        return from_sharegpt(list, row, bise_json_get(row, "conversations"),
                             err);
    if (bise_json_get(row, "instruction"))
        return add_instruction(list, row, input, err);
    if (!v)
        v = bise_json_get(input, "messages");
    if (!v)
        v = either(row, "question", "messages");
    return v ? add_part(list, v, "user", true, err) : BISE_OK;
}

/* One of the two answers after the prompt. */
static bise_status encode_choice(const encoding *e, const char *a,
                                 const char *b, bise_error *err)
{
    bise_json *list = bise_json_new_array();
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK)
        s = add_prompt(list, e->row, err);
    if (s == BISE_OK)
        s = add_part(list, either(e->row, a, b), "assistant", false, err);
    if (s == BISE_OK)
        s = check_messages(list, err);
    if (s == BISE_OK)                   /* the answers differ at the end */
        s = encode_chat(e, list, NULL, BISE_TRAIN_LAST, err);
    bise_json_free(list);
    return s;
}

/* The chosen answer first: sample 2i and 2i + 1 of a dataset of pairs. */
static bise_status encode_preference(const encoding *e, bise_error *err)
{
    bise_status s = encode_choice(e, "chosen", "preferred_output", err);
    if (s == BISE_OK)
        s = encode_choice(e, "rejected", "non_preferred_output", err);
    return s;
}

/* --- without a chat format --------------------------------------------- */

/* BOS + text + EOS, all trained (BOS is never a target). */
static bise_status encode_text(const encoding *e, bise_error *err)
{
    size_t n;
    const char *text = bise_json_string(either(e->row, "text", "content"), &n);
    bise_ids ids = { 0 };
    if (!text)
        return bise_fail(err, BISE_EFORMAT, "'text' is not a string");
    bise_status s = bise_tokenizer_encode(e->o->tokenizer, text, n,
                                          BISE_TOK_BOS | BISE_TOK_EOS, &ids,
                                          err);
    if (s == BISE_OK && ids.n)
        s = bise_sample_add(&e->out->all, ids.v, 1, false, err);
    if (s == BISE_OK && ids.n > 1)
        s = bise_sample_add(&e->out->all, ids.v + 1, ids.n - 1, true, err);
    bise_ids_fini(&ids);
    return s == BISE_OK ? end_sample(e->out, err) : s;
}

/* Ids made elsewhere: input_ids, and labels with -100 where not trained. */
static bise_status encode_tokens(const encoding *e, bise_error *err)
{
    const bise_json *ids = bise_json_get(e->row, "input_ids");
    const bise_json *labels = bise_json_get(e->row, "labels");
    const int32_t vocab = bise_tokenizer_vocab(e->o->tokenizer);
    const size_t n = bise_json_size(ids);
    if (bise_json_typeof(ids) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT, "'input_ids' is not an array");
    if (labels && bise_json_size(labels) != n)
        return bise_fail(err, BISE_EFORMAT, "%zu labels for %zu input_ids",
                         bise_json_size(labels), n);
    for (size_t i = 0; i < n; i++) {
        int64_t id, label = 0;
        if (!bise_json_integer(bise_json_at(ids, i), &id) || id < 0 ||
            id >= vocab)
            return bise_fail(err, BISE_EFORMAT,
                             "input_ids[%zu] is not an id of this "
                             "tokenizer (0..%d)", i, (int)vocab - 1);
        if (labels && !bise_json_integer(bise_json_at(labels, i), &label))
            return bise_fail(err, BISE_EFORMAT, "labels[%zu] is no number", i);
        const int32_t v = (int32_t)id;
        const bise_status s = bise_sample_add(&e->out->all, &v, 1,
                                              i > 0 && label >= 0, err);
        if (s != BISE_OK)
            return s;
    }
    return end_sample(e->out, err);
}

/* --- the table --------------------------------------------------------- */

/* In order: the first row whose keys are all there wins. */
static const struct bise_schema schemas[] = {
    { "preference", { "chosen", "rejected" }, true, encode_preference },
    { "preference", { "preferred_output", "non_preferred_output" }, true,
      encode_preference },
    { "messages", { "messages" }, false, encode_messages },
    { "interactions", { "interactions" }, false, encode_messages },
    { "sharegpt", { "conversations" }, false, encode_sharegpt },
    { "alpaca", { "instruction", "output" }, false, encode_alpaca },
    { "instances", { "instruction", "instances" }, false, encode_instances },
    { "prompt/completion", { "prompt", "completion" }, false,
      encode_completion },
    { "question/answer", { "question", "answer" }, false, encode_question },
    { "input/output", { "input", "output" }, false, encode_input },
    { "tokens", { "input_ids" }, false, encode_tokens },
    { "text", { "text" }, false, encode_text },
    { "text", { "content" }, false, encode_text },
};

/* By keys alone: values are the encode function's business. */
const bise_schema *bise_schema_of(const bise_json *row)
{
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        const char *const *k = schemas[i].keys;
        bool all = true;
        for (; *k && all; k++)
            all = bise_json_get(row, *k) != NULL;
        if (all)
            return &schemas[i];
    }
    return NULL;
}

/* For reports and for the comparison of rows in a file. */
const char *bise_schema_name(const bise_schema *f)
{
    return f->name;
}

/* Rows of this format make two samples that belong together. */
bool bise_schema_is_pair(const bise_schema *f)
{
    return f->pair;
}

/* The one way from a row to samples. */
bise_status bise_schema_encode(const bise_schema *f, const bise_json *row,
                               const bise_dataset_options *o,
                               bise_samples *out, bise_error *err)
{
    const encoding e = { .row = row, .o = o, .out = out };
    return f->encode(&e, err);
}
