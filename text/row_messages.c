/* row_messages.c - the many spellings of a conversation in training data; see
 * row_messages.h. The finer order of roles is the chat encoder's to judge.
 *   OpenAI      {"role", "content", "tool_calls"}, and the older
 *               {"function_call"} with role "function"
 *   Mistral     content may be called text
 *   ShareGPT    {"from": "human", "value"}, calls and results as texts
 *   masks       "weight": 0 (Mistral, OpenAI), "train": false (axolotl),
 *               "loss": false (SWIFT)
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/row_messages.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

/* A null counts as absent: tables exported from Arrow have all columns in all
 * rows. */
const bise_json *bise_row_either(const bise_json *object, const char *a,
                                 const char *b)
{
    const bise_json *v = bise_json_get(object, a);
    return bise_json_is_null(v) ? bise_json_get(object, b) : v;
}

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

/* One more message at the end. */
bise_status bise_add_text(bise_json *list, const char *role, const char *text,
                          size_t n, bise_error *err)
{
    bise_json *m = new_message(role, text, n);
    return m && !bise_json_append(list, m) ? BISE_OK : bise_fail_nomem(err);
}

/* The text of a column. */
bise_status bise_add_member(bise_json *list, const char *role,
                            const bise_json *row, const char *key,
                            bise_error *err)
{
    size_t n;
    const char *text = bise_json_string(bise_json_get(row, key), &n);
    if (!text)
        return bise_fail(err, BISE_EFORMAT, "'%s' is not a string", key);
    return bise_add_text(list, role, text, n, err);
}

/* An empty system text is none: many tables have an empty column. */
bise_status bise_add_system(bise_json *list, const bise_json *row,
                            bise_error *err)
{
    const bise_json *v = bise_row_either(row, "system", "system_prompt");
    size_t n = 0;
    const char *text = bise_json_string(v, &n);
    if (!text && !bise_json_is_null(v))
        return bise_fail(err, BISE_EFORMAT, "'system' is not a string");
    return n ? bise_add_text(list, "system", text, n, err) : BISE_OK;
}

/* False as well for a message without a role. */
bool bise_is_role(const bise_json *message, const char *role)
{
    const char *r = bise_json_string(bise_json_get(message, "role"), NULL);
    return r && !strcmp(r, role);
}

/* --- checks ------------------------------------------------------------ */

/* One message: its shape, its role, its text. */
static bise_status check_message(const bise_json *m, size_t number,
                                 bise_error *err)
{
    if (bise_json_typeof(m) != BISE_JSON_OBJECT)
        return bise_fail(err, BISE_EFORMAT, "message %zu is not an object",
                         number);
    const char *role = bise_json_string(bise_json_get(m, "role"), NULL);
    if (!role)
        return bise_fail(err, BISE_EFORMAT, "message %zu has no 'role'",
                         number);
    if (strcmp(role, "system") && strcmp(role, "user") &&
        strcmp(role, "assistant") && strcmp(role, "tool"))
        return bise_fail(err, BISE_EFORMAT, "message %zu has the role "
                         "'%.40s', not system, user, assistant or tool",
                         number, role);
    if (bise_json_is_null(bise_json_get(m, "content")) &&
        !bise_json_size(bise_json_get(m, "tool_calls")))
        return bise_fail(err, BISE_EFORMAT, "message %zu (%s) has no "
                         "'content'", number, role);
    return BISE_OK;
}

/* The user speaks first, the assistant last: a row without an answer trains
 * nothing, and one that begins with an answer trains it without a question. */
bise_status bise_check_messages(const bise_json *list, bise_error *err)
{
    const size_t n = bise_json_size(list);
    size_t first = 0;
    if (bise_json_typeof(list) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT, "the messages are not an array");
    if (!n)
        return bise_fail(err, BISE_EFORMAT, "the message list is empty");
    for (size_t i = 0; i < n; i++) {
        const bise_status s = check_message(bise_json_at(list, i), i + 1, err);
        if (s != BISE_OK)
            return s;
    }
    while (first < n && bise_is_role(bise_json_at(list, first), "system"))
        first++;
    if (first < n && !bise_is_role(bise_json_at(list, first), "user"))
        return bise_fail(err, BISE_EFORMAT,
                         "message %zu is the %s's, but the user speaks first",
                         first + 1,
                         bise_json_string(bise_json_get(
                             bise_json_at(list, first), "role"), NULL));
    if (!bise_is_role(bise_json_at(list, n - 1), "assistant"))
        return bise_fail(err, BISE_EFORMAT,
                         "the last message is not the assistant's: nothing "
                         "to train after it");
    return BISE_OK;
}

/* --- ids of tool calls ------------------------------------------------- */

/* A call met so far: the id in the row (NULL for none) and the new one. */
typedef struct known_call {
    const char *old;
    char made[16];      /* "" when the old one stays */
    bool answered;
} known_call;

typedef struct call_list {
    known_call *v;
    size_t n, cap;
    bool nine;
} call_list;

/* Nine letters and digits, as Mistral's call ids are. */
static void make_id(char id[16], size_t number)
{
    snprintf(id, 16, "call%05u", (unsigned)(number % 100000));
}

/* The string of an id; NULL for those that mean none. */
static const char *id_of(const bise_json *object, const char *key)
{
    const char *s = bise_json_string(bise_json_get(object, key), NULL);
    return s && *s && strcmp(s, "null") != 0 ? s : NULL;
}

/* Is it nine ASCII letters and digits? */
static bool is_nine(const char *s)
{
    size_t n = 0;
    while (n < 10 && isalnum((unsigned char)s[n]))
        n++;
    return n == 9 && !s[9];
}

/* Remember the calls of a message, with a new id where one is needed. */
static bise_status note_calls(call_list *k, const bise_json *message,
                              bool fill, bise_error *err)
{
    const bise_json *calls = bise_json_get(message, "tool_calls");
    for (size_t i = 0; i < bise_json_size(calls); i++) {
        bise_json *call = bise_json_at(calls, i);
        known_call c = { .old = id_of(call, "id") };
        if (!c.old && !fill)
            continue;
        if (bise_grow((void **)&k->v, &k->cap, k->n + 1, sizeof *k->v))
            return bise_fail_nomem(err);
        if (!c.old || (k->nine && !is_nine(c.old)))
            make_id(c.made, k->n + 1);
        k->v[k->n++] = c;
    }
    return BISE_OK;
}

/* The call that a result answers: by its id the latest, else the oldest that
 * waits. NULL when there is none, which the chat encoder will tell. */
static known_call *find_call(const call_list *k, const char *id)
{
    for (size_t i = k->n; id && i-- > 0;)
        if (k->v[i].old && !strcmp(k->v[i].old, id))
            return &k->v[i];
    for (size_t i = 0; !id && i < k->n; i++)
        if (!k->v[i].answered)
            return &k->v[i];
    return NULL;
}

/* Give a result the id of its call. */
static bise_status note_result(call_list *k, bise_json *message,
                               bise_error *err)
{
    const char *id = id_of(message, "tool_call_id");
    known_call *c = find_call(k, id);
    if (!c)
        return BISE_OK;
    c->answered = true;
    if (id && !c->made[0])
        return BISE_OK;
    const char *text = c->made[0] ? c->made : c->old;
    return bise_json_set(message, "tool_call_id", bise_json_new_string(text)) ?
               bise_fail_nomem(err) : BISE_OK;
}

/* Write the new ids into the calls, in the order they were noted. */
static bise_status write_ids(const call_list *k, const bise_json *list,
                             bool last, bise_error *err)
{
    const size_t n = bise_json_size(list);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const bise_json *m = bise_json_at(list, i);
        const bise_json *calls = bise_is_role(m, "assistant") ?
                                 bise_json_get(m, "tool_calls") : NULL;
        for (size_t c = 0; c < bise_json_size(calls); c++) {
            bise_json *call = bise_json_at(calls, c);
            if (!id_of(call, "id") && i + 1 == n && !last)
                continue;
            const char *made = k->v[at++].made;
            if (*made && bise_json_typeof(call) == BISE_JSON_OBJECT &&
                bise_json_set(call, "id", bise_json_new_string(made)))
                return bise_fail_nomem(err);
        }
    }
    return BISE_OK;
}

/* The ids only tie results to calls, so that other ids say the same. Old ones
 * are borrowed from the list until all results were matched. */
bise_status bise_fix_call_ids(bise_json *list, bool nine, bool last,
                              bise_error *err)
{
    call_list k = { .nine = nine };
    bise_status s = BISE_OK;
    const size_t n = bise_json_size(list);
    for (size_t i = 0; s == BISE_OK && i < n; i++) {
        bise_json *m = bise_json_at(list, i);
        if (bise_is_role(m, "assistant"))
            s = note_calls(&k, m, last || i + 1 < n, err);
        else if (bise_is_role(m, "tool"))
            s = note_result(&k, m, err);
    }
    if (s == BISE_OK && k.n)
        s = write_ids(&k, list, last, err);
    bise_free(k.v);
    return s;
}

/* --- ShareGPT ---------------------------------------------------------- */

/* A function_call's value is {"name", "arguments"} or a list of them; the ids
 * follow later (bise_fix_call_ids). */
static bise_status add_calls(bise_json *list, const char *value, size_t n,
                             bise_error *err)
{
    bise_json *parsed = NULL, *message = new_message("assistant", "", 0);
    bise_json *out = bise_json_new_array();
    bise_status s = message && out ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK)
        s = bise_json_parse(&parsed, value, n, err);
    const bool many = bise_json_typeof(parsed) == BISE_JSON_ARRAY;
    const size_t calls = s != BISE_OK ? 0 : many ? bise_json_size(parsed) : 1;
    for (size_t i = 0; i < calls; i++) {
        const bise_json *call = many ? bise_json_at(parsed, i) : parsed;
        bise_json *c = bise_json_new_object();
        if (bise_json_set(c, "function", bise_json_copy(call)) ||
            bise_json_set(c, "type", bise_json_new_string("function")) ||
            bise_json_append(out, bise_json_ref(c)))
            s = bise_fail_nomem(err);
        bise_json_free(c);
    }
    if (s == BISE_OK &&
        (bise_json_set(message, "tool_calls", bise_json_ref(out)) ||
         bise_json_append(list, bise_json_ref(message))))
        s = bise_fail_nomem(err);
    bise_json_free(parsed);
    bise_json_free(out);
    bise_json_free(message);
    return s;
}

/* A message that must not be trained by any of the names for that. */
static bool is_masked(const bise_json *m)
{
    return !bise_json_bool(bise_json_get(m, "train"), true) ||
           !bise_json_bool(bise_json_get(m, "loss"), true);
}

/* Copy the weight of a turn to the message made of it, the list's last. */
static bise_status copy_weight(bise_json *list, const bise_json *turn,
                               bise_error *err)
{
    const bise_json *w = bise_json_get(turn, "weight");
    const size_t n = bise_json_size(list);
    if (!n || (bise_json_is_null(w) && !is_masked(turn)))
        return BISE_OK;
    return bise_json_set(bise_json_at(list, n - 1), "weight",
                         is_masked(turn) ? bise_json_new_int(0)
                                         : bise_json_ref(w)) ?
               bise_fail_nomem(err) : BISE_OK;
}

/* One {"from", "value"} of a ShareGPT conversation. */
static bise_status add_turn(bise_json *list, const bise_json *turn,
                            size_t number, bise_error *err)
{
    static const char *const roles[][2] = {
        { "human", "user" }, { "user", "user" }, { "prompter", "user" },
        { "gpt", "assistant" }, { "assistant", "assistant" },
        { "model", "assistant" }, { "chatgpt", "assistant" },
        { "bot", "assistant" }, { "bing", "assistant" },
        { "bard", "assistant" }, { "system", "system" },
        { "observation", "tool" }, { "tool", "tool" },
        { "function_response", "tool" }, { "tool_response", "tool" },
    };
    size_t n = 0;
    const char *from =
        bise_json_string(bise_row_either(turn, "from", "role"), NULL);
    const char *value =
        bise_json_string(bise_row_either(turn, "value", "content"), &n);
    const char *role = NULL;
    if (!from || !value)
        return bise_fail(err, BISE_EFORMAT, "turn %zu has no '%s' string",
                         number, from ? "value" : "from");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(from, roles[i][0]))
            role = roles[i][1];
    bise_status s;
    if (role)
        s = bise_add_text(list, role, value, n, err);
    else if (!strcmp(from, "function_call") || !strcmp(from, "tool_call"))
        s = add_calls(list, value, n, err);
    else
        return bise_fail(err, BISE_EFORMAT, "turn %zu is from '%.40s', not "
                         "human, gpt, system, function_call or observation",
                         number, from);
    return s == BISE_OK ? copy_weight(list, turn, err) : s;
}

/* In their order. */
bise_status bise_add_sharegpt(bise_json *list, const bise_json *turns,
                              bise_error *err)
{
    bise_status s = BISE_OK;
    if (bise_json_typeof(turns) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT, "'conversations' is not an array");
    for (size_t i = 0; s == BISE_OK && i < bise_json_size(turns); i++)
        s = add_turn(list, bise_json_at(turns, i), i + 1, err);
    return s;
}

/* --- messages ---------------------------------------------------------- */

/* OpenAI's older form of a call, {"name", "arguments"} beside the content. */
static int convert_function_call(bise_json *m)
{
    const bise_json *f = bise_json_get(m, "function_call");
    bise_json *call, *list;
    if (bise_json_typeof(f) != BISE_JSON_OBJECT ||
        bise_json_size(bise_json_get(m, "tool_calls")))
        return 0;
    call = bise_json_new_object();
    list = bise_json_new_array();
    int failed = bise_json_set(call, "function", bise_json_copy(f)) |
                 bise_json_set(call, "type",
                               bise_json_new_string("function"));
    failed |= bise_json_append(list, call);
    failed |= bise_json_set(m, "tool_calls", list);
    bise_json_remove(m, "function_call");
    return failed;
}

/* Give one message the names of the OpenAI form: text -> content, developer ->
 * system, function -> tool, and its other spellings. */
static bise_status rename_aliases(bise_json *m, bise_error *err)
{
    bise_json *text = bise_json_get(m, "text");
    int failed = 0;
    if (bise_json_typeof(m) != BISE_JSON_OBJECT)
        return BISE_OK;                 /* bise_check_messages says so */
    if (text && !bise_json_get(m, "content"))
        failed = bise_json_set(m, "content", bise_json_ref(text));
    if (bise_is_role(m, "developer"))
        failed |= bise_json_set(m, "role", bise_json_new_string("system"));
    if (bise_is_role(m, "function"))
        failed |= bise_json_set(m, "role", bise_json_new_string("tool"));
    if (is_masked(m))
        failed |= bise_json_set(m, "weight", bise_json_new_int(0));
    failed |= convert_function_call(m);
    return failed ? bise_fail_nomem(err) : BISE_OK;
}

/* A message of any spelling onto the list. */
static bise_status add_message(bise_json *list, const bise_json *given,
                               size_t number, bise_error *err)
{
    if (bise_json_get(given, "from") && !bise_json_get(given, "role"))
        return add_turn(list, given, number, err);
    bise_json *m = bise_json_copy(given);
    if (!m)
        return bise_fail_nomem(err);
    const bise_status s = rename_aliases(m, err);
    if (bise_json_append(list, m) && s == BISE_OK)
        return bise_fail_nomem(err);
    return s;
}

/* Mask the assistant's messages from number first on. */
static bise_status mask_context(bise_json *list, size_t first,
                                bise_error *err)
{
    for (size_t i = first; i < bise_json_size(list); i++) {
        bise_json *m = bise_json_at(list, i);
        if (bise_is_role(m, "assistant") &&
            bise_json_set(m, "weight", bise_json_new_int(0)))
            return bise_fail_nomem(err);
    }
    return BISE_OK;
}

/* Strings, single messages and lists of them look alike to the caller. */
bise_status bise_add_part(bise_json *list, const bise_json *v,
                          const char *role, bool context, bise_error *err)
{
    const size_t first = bise_json_size(list);
    size_t n;
    const char *text = bise_json_string(v, &n);
    bise_status s = BISE_OK;
    if (text)
        return bise_add_text(list, role, text, n, err);
    if (bise_json_typeof(v) == BISE_JSON_OBJECT)
        s = add_message(list, v, 1, err);
    else if (bise_json_typeof(v) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT,
                         "the %s's part is neither a string nor messages",
                         role);
    for (size_t i = 0; s == BISE_OK &&
         bise_json_typeof(v) == BISE_JSON_ARRAY && i < bise_json_size(v); i++)
        s = add_message(list, bise_json_at(v, i), i + 1, err);
    return s == BISE_OK && context ? mask_context(list, first, err) : s;
}

/* User turn of an instruction: instruction + "\n" + input when there is one. */
bise_status bise_add_instruction(bise_json *list, const bise_json *row,
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
            bise_add_text(list, "user", bise_str_get(&both), both.len, err) :
            bise_fail_nomem(err);
    bise_str_fini(&both);
    return s;
}

/* --- tools ------------------------------------------------------------- */

/* One definition onto the list, wrapped unless it is already. */
static bise_status add_tool(bise_json *list, bise_json *f, bise_error *err)
{
    bise_json *w = NULL;
    if (bise_json_get(f, "function")) {
        w = bise_json_ref(f);
    } else {
        w = bise_json_new_object();
        if (!w || bise_json_set(w, "type", bise_json_new_string("function")) ||
            bise_json_set(w, "function", bise_json_ref(f))) {
            bise_json_free(w);
            return bise_fail_nomem(err);
        }
    }
    return bise_json_append(list, w) ? bise_fail_nomem(err) : BISE_OK;
}

/* Tables cannot hold schemas of many shapes, so that "tools" is often a JSON
 * text there. */
bise_status bise_row_tools(bise_json **out, const bise_json *row,
                           bise_error *err)
{
    const bise_json *v = bise_row_either(row, "tools", "available_tools");
    size_t n = 0;
    bise_json *list = NULL, *wrapped = bise_json_new_array();
    bise_status s = wrapped ? BISE_OK : bise_fail_nomem(err);
    if (bise_json_is_null(v))
        v = bise_json_get(row, "functions");
    const char *text = bise_json_string(v, &n);
    if (s == BISE_OK && text && n)
        s = bise_json_parse(&list, text, n, err);
    else if (s == BISE_OK && !text && !bise_json_is_null(v))
        list = bise_json_ref(v);
    if (s == BISE_OK && !bise_json_is_null(list) &&
        bise_json_typeof(list) != BISE_JSON_ARRAY)
        s = bise_fail(err, BISE_EFORMAT, "'tools' is not an array");
    for (size_t i = 0; s == BISE_OK && i < bise_json_size(list); i++)
        s = add_tool(wrapped, bise_json_at(list, i), err);
    bise_json_free(list);
    if (s != BISE_OK) {
        bise_json_free(wrapped);
        return s;
    }
    *out = wrapped;
    return BISE_OK;
}
