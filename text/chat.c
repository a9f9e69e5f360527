/* chat.c - the table of chat formats and the encoder that walks it. A turn is
 * a list of segments: a control token, or a text tokenized on its own. Nothing
 * is rendered and read again, so text that looks like a control token stays
 * text. The mask is made while encoding (lora.md 7).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/chat.h"

#include <stdio.h>
#include <string.h>

#include "text/chat_settings.h"
#include "text/chat_turns.h"
#include "text/pyjson.h"

/* mistral3.md 5. To add a version: a row here, lines in tests/golden/chat. */
#define V2(NAME, TEKKEN) \
    .name = NAME, .version = 2, .tekken = TEKKEN, \
    .system = BISE_SYSTEM_LAST_USER, .tools = BISE_TOOLS_LAST, \
    .calls = BISE_CALLS_LIST, .results = BISE_RESULT_LIST, \
    .chunk_join = "\n\n"
#define V3(NAME, TEKKEN) \
    .name = NAME, .version = 3, .tekken = TEKKEN, \
    .system = BISE_SYSTEM_LAST_USER, .tools = BISE_TOOLS_LAST, \
    .calls = BISE_CALLS_LIST_ID, .results = BISE_RESULT_OBJECT, \
    .ids = BISE_IDS_NINE, .keeps_history = true, .chunk_join = "\n\n"
#define V7(NAME, TEKKEN) \
    .name = NAME, .version = 7, .tekken = TEKKEN, \
    .system = BISE_SYSTEM_BLOCK, .tools = BISE_TOOLS_LAST, \
    .calls = BISE_CALLS_LIST_ID, .results = BISE_RESULT_ID_CONTENT, \
    .ids = BISE_IDS_NINE, .keeps_history = true, .text_with_calls = true, \
    .chunk_join = "\n\n"

static const bise_chat formats[] = {
    { .name = "v1", .version = 1, .inst_is_text = true,
      .system = BISE_SYSTEM_FIRST_USER, .chunk_join = "\n\n" },
    { V2("v2", false) },
    { V3("v3", false) },
    { V3("v3-tekken", true) },
    { V7("v7", false) },
    { V7("v7-tekken", true) },
    { .name = "v11", .version = 11, .tekken = true,
      .system = BISE_SYSTEM_BLOCK, .tools = BISE_TOOLS_LAST,
      .calls = BISE_CALLS_FIELDS_ID, .results = BISE_RESULT_ID_CONTENT,
      .ids = BISE_IDS_NINE, .keeps_history = true, .text_with_calls = true,
      .pairs_by_id = true, .chunk_join = "\n\n" },
    { .name = "v13", .version = 13, .tekken = true,
      .system = BISE_SYSTEM_BLOCK, .tools = BISE_TOOLS_FIRST,
      .calls = BISE_CALLS_FIELDS, .results = BISE_RESULT_PLAIN,
      .ids = BISE_IDS_ANY, .keeps_history = true, .text_with_calls = true,
      .pairs_by_id = true, .thinks = true, .thinks_in_system = true,
      .chunk_join = "\n\n" },
    { .name = "v15", .version = 15, .tekken = true,
      .system = BISE_SYSTEM_BLOCK, .tools = BISE_TOOLS_FIRST,
      .calls = BISE_CALLS_FIELDS, .results = BISE_RESULT_PLAIN,
      .ids = BISE_IDS_ANY, .keeps_history = true, .text_with_calls = true,
      .pairs_by_id = true, .thinks = true, .settings = true,
      .chunk_join = "" },
};
#define N_FORMATS (sizeof formats / sizeof *formats)

/* Ids and masks grow together: one cannot be longer than the other, because
 * the mask has room before the first id is pushed. */
bise_status bise_sample_add(bise_sample *s, const int32_t *ids, size_t n,
                            bool trained, bise_error *err)
{
    void *mask = s->mask;
    if (bise_grow(&mask, &s->mask_cap, s->ids.n + n, 1) != 0)
        return bise_fail_nomem(err);
    s->mask = mask;
    for (size_t i = 0; i < n; i++) {
        if (bise_ids_push(&s->ids, ids[i]) != 0)
            return bise_fail_nomem(err);
        s->mask[s->ids.n - 1] = trained;
    }
    return BISE_OK;
}

/* Empty the sample for the next row; its memory stays, so that a walk over a
 * data set allocates only for longer and longer rows. */
void bise_sample_clear(bise_sample *s)
{
    s->ids.n = 0;
    s->turns = 0;
}

/* Release ids and mask; the zeroed sample may be used again. */
void bise_sample_fini(bise_sample *s)
{
    bise_ids_fini(&s->ids);
    bise_free(s->mask);
    *s = (bise_sample){ 0 };
}

/* The version whose control tokens a vocabulary has, for files that do not
 * say: each version added some. The order matters: a vocabulary of v13 has
 * all signs of the older versions too, so the newest is asked for first. */
static int guess_version(const bise_tokenizer *t)
{
    static const struct { const char *token; int version; } signs[] = {
        { "[MODEL_SETTINGS]", 15 }, { "[THINK]", 13 }, { "[ARGS]", 11 },
        { "[SYSTEM_PROMPT]", 7 }, { "[PREFIX]", 3 }, { "[INST]", 2 },
    };
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (bise_tokenizer_special(t, signs[i].token) >= 0)
            return signs[i].version;
    return 1;
}

/* What the file says wins. */
int bise_chat_version(const bise_tokenizer *t)
{
    const int version = bise_tokenizer_version(t);
    return version ? version : guess_version(t);
}

/* Names are matched exactly; without one the version and the kind of the
 * vocabulary decide. A tokenizer that lacks [INST] can only speak v1,
 * whatever it is told, because the other formats have no way to spell a
 * turn. */
bise_status bise_chat_for(const bise_chat **out, const bise_tokenizer *t,
                          const char *name, bise_error *err)
{
    const bool tekken = bise_tokenizer_kind_of(t) != BISE_TOKENIZER_SPM;
    const int version = bise_chat_version(t);
    for (size_t i = 0; i < N_FORMATS; i++) {
        const bise_chat *c = &formats[i];
        if (name ? strcmp(name, c->name) != 0
                 : c->version != version || c->tekken != tekken)
            continue;
        if (!c->inst_is_text && bise_tokenizer_special(t, "[INST]") < 0)
            return bise_fail(err, BISE_EINVAL, "chat format %s needs the "
                             "token '[INST]', '%s' has none", c->name,
                             bise_tokenizer_source(t));
        *out = c;
        return BISE_OK;
    }
    if (name)
        return bise_fail(err, BISE_EINVAL, "unknown chat format '%.40s', "
                         "there are v1 v2 v3 v3-tekken v7 v7-tekken v11 v13 "
                         "v15", name);
    return bise_fail(err, BISE_EUNSUPPORTED, "no chat format for version %d of "
                     "'%s'", version, bise_tokenizer_source(t));
}

/* The name identifies the format in cache keys and run settings, so the
 * names of the table never change. */
const char *bise_chat_name(const bise_chat *c)
{
    return c->name;
}

/* State of encoding one conversation. */
typedef struct job {
    const bise_chat *c;
    const bise_tokenizer *t;
    bise_sample *out;
    bise_error *err;
    bise_status status; /* the first failure; later steps do nothing */
    bool trained;       /* of the segments that follow */
    bise_str settings;  /* [MODEL_SETTINGS], empty for none */
    bise_ids ids;       /* scratch */
} job;

/* Segment: a control token. A missing token is an error and never text: text
 * that looks like a control token would be tokenized as ordinary words and
 * train the model on a format it does not have. */
static void control(job *j, const char *name)
{
    if (j->status != BISE_OK)
        return;
    const int32_t id = bise_tokenizer_special(j->t, name);
    if (id < 0)
        j->status = bise_fail(j->err, BISE_EUNSUPPORTED, "chat format %s needs "
                              "the token '%s', '%s' has none", j->c->name,
                              name, bise_tokenizer_source(j->t));
    else
        j->status = bise_sample_add(j->out, &id, 1, j->trained, j->err);
}

/* Segment: a text, tokenized on its own. Nothing may be merged across two
 * segments, since the deployed model sees the same cuts. */
static void text(job *j, const char *s, size_t n)
{
    if (j->status != BISE_OK)
        return;
    j->ids.n = 0;
    j->status = bise_tokenizer_encode(j->t, s, n, 0, &j->ids, j->err);
    if (j->status == BISE_OK)
        j->status = bise_sample_add(j->out, j->ids.v, j->ids.n, j->trained,
                                    j->err);
}

/* Segment: a text built here. Releases s in any case, so that callers can
 * hand over and forget. */
static void text_str(job *j, bise_str *s)
{
    if (j->status == BISE_OK && !bise_str_ok(s))
        j->status = bise_fail_nomem(j->err);
    text(j, bise_str_get(s), s->len);
    bise_str_fini(s);
}

/* Every tool must be sound, also where the format has no place for them.
 * mistral-common validates them before it looks at the version, and so do
 * we: the same file is good or bad for all. */
static bise_status check_tools(const bise_json *tools, bise_error *err)
{
    for (size_t i = 0; i < bise_json_size(tools); i++) {
        const bise_json *f = bise_json_get(bise_json_at(tools, i), "function");
        const bise_json *parameters = bise_json_get(f, "parameters");
        const char *name = bise_json_string(bise_json_get(f, "name"), NULL);
        if (!name || !bise_is_function_name(name))
            return bise_fail(err, BISE_EFORMAT, "tool %zu has the function "
                             "name '%.40s', not 1 to 64 of a-z A-Z 0-9 _ -",
                             i + 1, name ? name : "(none)");
        if (!bise_json_is_null(parameters) &&
            bise_json_typeof(parameters) != BISE_JSON_OBJECT)
            return bise_fail(err, BISE_EFORMAT, "tool %zu: 'parameters' is not "
                             "an object", i + 1);
    }
    return BISE_OK;
}

/* A tool as mistral-common dumps it: type, function {name, description,
 * parameters} and nothing else. The keys stand in this order whatever the
 * input's order was; `strict` and unknown keys are left out, a missing
 * description is an empty one. check_tools has made sure that there is a
 * name. */
static void put_tool(bise_str *out, const bise_json *tool)
{
    const bise_json *f = bise_json_get(tool, "function");
    const bise_json *parameters = bise_json_get(f, "parameters");
    size_t n_name = 0, n_about = 0;
    const char *name = bise_json_string(bise_json_get(f, "name"), &n_name);
    const char *about = bise_json_string(bise_json_get(f, "description"),
                                         &n_about);
    bise_str_puts(out, "{\"type\": \"function\", \"function\": "
                       "{\"name\": ");
    bise_str_put_json(out, name, n_name);
    bise_str_puts(out, ", \"description\": ");
    bise_str_put_json(out, about ? about : "", n_about);
    bise_str_puts(out, ", \"parameters\": ");
    if (bise_json_is_null(parameters))
        bise_str_puts(out, "{}");
    else
        bise_json_dump_python(out, parameters);
    bise_str_puts(out, "}}");
}

/* The list of tools as one JSON text between its two control tokens. It
 * stands directly before [INST] of the user turn that the format names. */
static void put_tools(job *j, const bise_json *tools)
{
    bise_str list = { 0 };
    bise_str_putc(&list, '[');
    for (size_t i = 0; i < bise_json_size(tools); i++) {
        if (i)
            bise_str_puts(&list, ", ");
        put_tool(&list, bise_json_at(tools, i));
    }
    bise_str_putc(&list, ']');
    control(j, "[AVAILABLE_TOOLS]");
    text_str(j, &list);
    control(j, "[/AVAILABLE_TOOLS]");
}

/* [MODEL_SETTINGS], when the conversation has any. */
static void put_settings(job *j)
{
    if (!j->settings.len)
        return;
    control(j, "[MODEL_SETTINGS]");
    text(j, j->settings.data, j->settings.len);
    control(j, "[/MODEL_SETTINGS]");
}

/* The parts of a system or assistant turn. Blanks at the end of an answer
 * are cut (v2 to v7 and later, only for a plain text): they would teach the
 * model to stop after a blank that the template never has. */
static void put_parts(job *j, const bise_turn *turn, bool trim)
{
    for (size_t i = 0; i < turn->n_parts; i++) {
        const bise_part *p = &turn->parts[i];
        size_t n = p->len;
        while (trim && turn->n_parts == 1 && !p->think && n &&
               p->text[n - 1] == ' ')
            n--;
        if (p->think)
            control(j, "[THINK]");
        text(j, p->text, n);
        if (p->think && !p->open)
            control(j, "[/THINK]");
    }
}

/* Position of a turn among the user turns. */
typedef struct place {
    size_t first, last; /* user turns; SIZE_MAX when there is none */
} place;

/* One user turn: tools and settings before it where the format wants them,
 * the system prompt glued in front of the text where the format has no block
 * for it. In v1 the markers are part of the text and its blanks count. */
static void put_user(job *j, const bise_turn *turn, const bise_turns *all,
                     size_t i, const place *p, const bise_json *tools)
{
    const bool here = (j->c->tools == BISE_TOOLS_FIRST && i == p->first) ||
                      (j->c->tools == BISE_TOOLS_LAST && i == p->last);
    const bool system = (j->c->system == BISE_SYSTEM_FIRST_USER &&
                         i == p->first) ||
                        (j->c->system == BISE_SYSTEM_LAST_USER &&
                         i == p->last);
    bise_str s = { 0 };
    if (here && bise_json_size(tools))
        put_tools(j, tools);
    if (here && j->c->settings)
        put_settings(j);
    if (j->c->inst_is_text)
        bise_str_puts(&s, "[INST] ");
    else
        control(j, "[INST]");
    if (system && all->system.len) {
        bise_str_add(&s, all->system.data, all->system.len);
        bise_str_puts(&s, "\n\n");
    }
    for (size_t k = 0; k < turn->n_parts; k++)
        bise_str_add(&s, turn->parts[k].text, turn->parts[k].len);
    if (j->c->inst_is_text)
        bise_str_puts(&s, " [/INST]");
    text_str(j, &s);
    if (!j->c->inst_is_text)
        control(j, "[/INST]");
}

/* One JSON list of all calls (v2 to v7). The id comes last in v3 and is left
 * out in v2, or when the message has none; the arguments are JSON already. */
static void put_call_list(job *j, const bise_turn *turn)
{
    bise_str s = { 0 };
    bise_str_putc(&s, '[');
    for (size_t i = 0; i < turn->n_calls; i++) {
        const bise_call *c = &turn->calls[i];
        bise_str_puts(&s, i ? ", {\"name\": " : "{\"name\": ");
        bise_str_put_json(&s, c->name, strlen(c->name));
        bise_str_puts(&s, ", \"arguments\": ");
        bise_str_add(&s, c->args, c->args_len);
        if (c->id && j->c->calls == BISE_CALLS_LIST_ID) {
            bise_str_puts(&s, ", \"id\": ");
            bise_str_put_json(&s, c->id, strlen(c->id));
        }
        bise_str_putc(&s, '}');
    }
    bise_str_putc(&s, ']');
    control(j, "[TOOL_CALLS]");
    text_str(j, &s);
}

/* Calls of one turn. From v11 on each call has its own control tokens, and
 * the id is a segment between them or, from v13 on, gone. */
static void put_calls(job *j, const bise_turn *turn)
{
    if (!turn->n_calls)
        return;
    if (j->c->calls == BISE_CALLS_LIST || j->c->calls == BISE_CALLS_LIST_ID) {
        put_call_list(j, turn);
        return;
    }
    for (size_t i = 0; i < turn->n_calls; i++) {
        const bise_call *c = &turn->calls[i];
        control(j, "[TOOL_CALLS]");
        text(j, c->name, strlen(c->name));
        if (c->id && j->c->calls == BISE_CALLS_FIELDS_ID) {
            control(j, "[CALL_ID]");
            text(j, c->id, strlen(c->id));
        }
        control(j, "[ARGS]");
        text(j, c->args, c->args_len);
    }
}

/* The answer and its end token are what the model must learn to say: both
 * are trained together or not at all. A prefix has no end token, because the
 * text goes on. */
static void put_assistant(job *j, const bise_turn *turn, bool old, bool trains)
{
    if (turn->n_calls && !j->c->keeps_history && old)
        return;                 /* v2 forgets calls before the last user */
    if ((turn->n_calls && turn->n_parts && !j->c->text_with_calls) ||
        (!turn->n_calls && !turn->n_parts)) {
        if (j->status == BISE_OK)
            j->status = bise_fail(j->err, BISE_EUNSUPPORTED, "message %zu "
                                  "(assistant): %s in %s", turn->message + 1,
                                  turn->n_calls ? "a text and tool calls "
                                  "cannot stand together"
                                  : "neither a text nor tool calls",
                                  j->c->name);
        return;
    }
    const bool before = j->trained;
    j->trained |= trains;
    put_parts(j, turn, !j->c->inst_is_text);
    put_calls(j, turn);
    if (!turn->prefix)
        control(j, "</s>");
    j->out->turns += trains;
    j->trained = before;
}

/* The content of a result inside of JSON: JSON again, or a string. Empty is
 * an empty object, as the normalizer has it. Python reads the content as
 * JSON when it can: a number or an object is embedded, any other text
 * becomes a JSON string. */
static void put_result_json(bise_str *s, const bise_turn *turn)
{
    const char *body = turn->n_parts ? turn->parts[0].text : "{}";
    const size_t n = turn->n_parts ? turn->parts[0].len : 2;
    if (!bise_pyjson(s, body, n))
        bise_str_put_json(s, body, n);
}

/* One result of a tool. In v2 it disappears once a later user turn exists;
 * from v7 on the text stands as it is, from v13 on without the id. */
static void put_result(job *j, const bise_turn *turn, bool old)
{
    const char *id = turn->call_id ? turn->call_id : "";
    bise_str s = { 0 };
    if (!j->c->keeps_history && old)
        return;
    control(j, "[TOOL_RESULTS]");
    switch (j->c->results) {
    case BISE_RESULT_LIST:
        bise_str_puts(&s, "[{\"name\": ");
        if (turn->name)
            bise_str_put_json(&s, turn->name, strlen(turn->name));
        else
            bise_str_puts(&s, "null");
        bise_str_puts(&s, ", \"content\": ");
        put_result_json(&s, turn);
        bise_str_puts(&s, "}]");
        break;
    case BISE_RESULT_OBJECT:
        bise_str_puts(&s, "{\"content\": ");
        put_result_json(&s, turn);
        bise_str_puts(&s, ", \"call_id\": ");
        bise_str_put_json(&s, id, strlen(id));
        bise_str_putc(&s, '}');
        break;
    case BISE_RESULT_ID_CONTENT:
        text(j, id, strlen(id));
        control(j, "[TOOL_CONTENT]");
        /* fall through */
    default:
        if (turn->n_parts)
            bise_str_add(&s, turn->parts[0].text, turn->parts[0].len);
    }
    text_str(j, &s);
    control(j, "[/TOOL_RESULTS]");
}

/* v2 has room for one result behind a turn with calls. The list that v2
 * writes would have one entry for each result in its own block, which the
 * model has never seen. */
static void check_single_results(job *j, const bise_turns *all, size_t last)
{
    size_t results = 0;
    bool calls = false;
    for (size_t i = last == SIZE_MAX ? 0 : last; i < all->n; i++) {
        const bise_turn *turn = &all->v[i];
        if (turn->role == BISE_ROLE_TOOL && calls && ++results > 1) {
            j->status = bise_fail(j->err, BISE_EUNSUPPORTED, "message %zu "
                                  "(tool): v2 has one result for a turn of "
                                  "the assistant", turn->message + 1);
            return;
        }
        if (turn->role != BISE_ROLE_TOOL) {
            calls = turn->role == BISE_ROLE_ASSISTANT && turn->n_calls;
            results = 0;
        }
    }
}

/* Does assistant turn i count for the loss? A weight of 0 wins over
 * everything; with `last` only the last turn of the assistant is left. */
static bool is_trained(const bise_turns *all, size_t i, bise_train_on on)
{
    if (all->v[i].weight == 0)
        return false;
    if (on != BISE_TRAIN_LAST)
        return true;
    for (size_t k = i + 1; k < all->n; k++)
        if (all->v[k].role == BISE_ROLE_ASSISTANT)
            return false;
    return true;
}

/* The whole conversation. <s> is never trained: it is no target, since
 * nothing stands before it. `old` marks what lies before the last user turn,
 * which v2 forgets. */
static void put_turns(job *j, const bise_turns *all, const bise_json *tools,
                      bise_train_on on)
{
    place p = { SIZE_MAX, SIZE_MAX };
    for (size_t i = 0; i < all->n; i++)
        if (all->v[i].role == BISE_ROLE_USER) {
            p.first = p.first == SIZE_MAX ? i : p.first;
            p.last = i;
        }
    if (j->c->results == BISE_RESULT_LIST)
        check_single_results(j, all, p.last);
    control(j, "<s>");
    j->trained = on == BISE_TRAIN_ALL;
    for (size_t i = 0; i < all->n && j->status == BISE_OK; i++) {
        const bise_turn *turn = &all->v[i];
        const bool old = p.last != SIZE_MAX && i < p.last;
        switch (turn->role) {
        case BISE_ROLE_SYSTEM:
            control(j, "[SYSTEM_PROMPT]");
            put_parts(j, turn, false);
            control(j, "[/SYSTEM_PROMPT]");
            break;
        case BISE_ROLE_USER:
            put_user(j, turn, all, i, &p, tools);
            break;
        case BISE_ROLE_ASSISTANT:
            put_assistant(j, turn, old, is_trained(all, i, on));
            break;
        case BISE_ROLE_TOOL:
            put_result(j, turn, old);
            break;
        }
    }
}

/* Reads and checks first, then writes: a fault in the last message leaves
 * nothing behind in out. Tokens already in out stay as they were. */
bise_status bise_chat_encode_request(const bise_chat *c,
                                     const bise_tokenizer *t,
                                     const bise_chat_request *r,
                                     bise_sample *out, bise_error *err)
{
    bise_turns all = { 0 };
    const size_t start = out->ids.n;
    const int32_t turns = out->turns;
    job j = { .c = c, .t = t, .out = out, .err = err };
    j.status = check_tools(r->tools, err);
    if (j.status == BISE_OK)
        j.status = bise_chat_settings(&j.settings, c, bise_tokenizer_rules(t),
                                      r->options, r->effort, err);
    if (j.status == BISE_OK)
        j.status = bise_turns_read(&all, c, r->messages, err);
    if (j.status == BISE_OK) {
        put_turns(&j, &all, r->tools, r->train_on);
        bise_turns_fini(&all);
    }
    bise_ids_fini(&j.ids);
    bise_str_fini(&j.settings);
    if (j.status != BISE_OK) {
        out->ids.n = start;
        out->turns = turns;
    }
    return j.status;
}

/* Without settings of its own a conversation has the file's defaults. */
bise_status bise_chat_encode(const bise_chat *c, const bise_tokenizer *t,
                             const bise_json *messages, const bise_json *tools,
                             bise_train_on train_on, bise_sample *out,
                             bise_error *err)
{
    const bise_chat_request r = { .messages = messages, .tools = tools,
                                  .train_on = train_on };
    return bise_chat_encode_request(c, t, &r, out, err);
}

/* The suffix continues a text: it is encoded behind a character whose ids,
 * two in all real vocabularies, are dropped again, as mistral-common does. */
static void put_suffix(job *j, const char *suffix)
{
    static const char before[] = "\xe2\x98\xba";
    bise_str s = { 0 };
    bise_str_puts(&s, before);
    bise_str_puts(&s, suffix);
    if (j->status == BISE_OK)
        j->status = bise_tokenizer_encode(j->t, before, strlen(before), 0,
                                          &j->ids, j->err);
    const size_t drop = j->ids.n;
    j->ids.n = 0;
    if (j->status == BISE_OK)
        j->status = bise_str_ok(&s) ?
            bise_tokenizer_encode(j->t, s.data, s.len, 0, &j->ids, j->err) :
            bise_fail_nomem(j->err);
    if (j->status == BISE_OK && j->ids.n > drop)
        j->status = bise_sample_add(j->out, j->ids.v + drop, j->ids.n - drop,
                                    false, j->err);
    bise_str_fini(&s);
}

/* Suffix before prefix, so that the model goes on from the prefix. Nothing
 * is trained here; callers that train on the middle append it themselves. */
bise_status bise_chat_fim(const bise_tokenizer *t, const char *prefix,
                          const char *suffix, bise_sample *out,
                          bise_error *err)
{
    static const bise_chat fim = { .name = "fill-in-the-middle" };
    job j = { .c = &fim, .t = t, .out = out, .err = err };
    const size_t start = out->ids.n;
    control(&j, "<s>");
    control(&j, "[SUFFIX]");
    if (suffix && *suffix)
        put_suffix(&j, suffix);
    control(&j, "[PREFIX]");
    text(&j, prefix, strlen(prefix));
    bise_ids_fini(&j.ids);
    if (j.status != BISE_OK)
        out->ids.n = start;
    return j.status;
}
