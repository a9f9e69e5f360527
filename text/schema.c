/* schema.c - the table of row formats. Every conversational format becomes a
 * list of messages in the OpenAI form and goes through the one chat encoder,
 * so that a format adds no second way to tokens; rows of plain text, of ids
 * and of parts of a text bypass it. Keys and aliases follow lora.md 6; the
 * messages themselves are row_messages.c's business.
 * To add a format: a row in the table, an encode function, a test.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/schema.h"

#include <string.h>

#include "core/mem.h"
#include "text/row_messages.h"

/* What an encode function gets: the row, the settings, where to append. */
typedef struct encoding {
    const bise_schema *f;
    const bise_json *row;
    const bise_dataset_options *o;
    bise_samples *out;
} encoding;

struct bise_schema {
    const char *name;
    const char *keys[4];    /* all of these are there */
    bise_schema_use use;
    bise_status (*encode)(const encoding *e, bise_error *err);
    const char *reads;      /* further keys, each between blanks */
    bool (*is)(const bise_json *row); /* more to hold than keys, or NULL */
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

/* One sample out of a list of messages. */
static bise_status encode_chat(const encoding *e, const bise_json *list,
                               const bise_json *tools, bise_train_on on,
                               bise_error *err)
{
    const bise_chat_request r = {
        .messages = list, .tools = bise_json_size(tools) ? tools : NULL,
        .options = e->row, .effort = e->o->effort, .train_on = on,
    };
    bise_status s = bise_chat_encode_request(e->o->chat, e->o->tokenizer, &r,
                                             &e->out->all, err);
    return s == BISE_OK ? end_sample(e->out, err) : s;
}

/* Up to v11 the tool list moves with the last user turn, and the ids of calls
 * are part of the text. */
static bool tools_move(const bise_chat *chat)
{
    const char *name = bise_chat_name(chat);
    return strcmp(name, "v13") && strcmp(name, "v15");
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
    return bise_is_role(message, "assistant") &&
           (bise_json_is_null(w) || bise_json_number(w, 0) == 1);
}

/* The first n messages and a copy of the next as a list of their own. */
static bise_json *prefix_of(const bise_json *list, size_t n, bool keep_ids)
{
    bise_json *all = bise_json_new_array();
    bise_json *last = bise_json_copy(bise_json_at(list, n));
    int failed = !all || !last;
    for (size_t k = 0; !failed && k < n; k++)
        failed = bise_json_append(all, bise_json_ref(bise_json_at(list, k)));
    if (!keep_ids)
        remove_call_ids(last);
    if (failed) {
        bise_json_free(last);
        bise_json_free(all);
        return NULL;
    }
    if (bise_json_append(all, last)) {
        bise_json_free(all);
        return NULL;
    }
    return all;
}

/* mistral-finetune's way with tools (and only_last): each assistant message is
 * the end of a sample of its own, in which only it is trained, since the tool
 * list stands in another place for a longer conversation. */
static bise_status encode_turns(const encoding *e, const bise_json *list,
                                const bise_json *tools, bise_error *err)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; s == BISE_OK && i < bise_json_size(list); i++) {
        if (!is_trained(bise_json_at(list, i)))
            continue;
        bise_json *all = prefix_of(list, i, !tools_move(e->o->chat));
        s = all ? encode_chat(e, all, tools, BISE_TRAIN_LAST, err) :
                  bise_fail_nomem(err);
        bise_json_free(all);
    }
    return s;
}

/* A list made here, with what the row says beside it (tools, only_last):
 * check it, encode it, release it. */
static bise_status encode_take(const encoding *e, bise_json *list,
                               bise_status s, bise_error *err)
{
    const bool moves = tools_move(e->o->chat);
    const bool only_last =
        bise_json_bool(bise_json_get(e->row, "only_last"), false);
    bise_json *tools = NULL;
    if (s == BISE_OK)
        s = bise_fix_call_ids(list, moves, !moves, err);
    if (s == BISE_OK)
        s = bise_check_messages(list, err);
    if (s == BISE_OK)
        s = bise_row_tools(&tools, e->row, err);
    if (s != BISE_OK) {
        ;
    } else if (only_last || (bise_json_size(tools) && moves &&
                             e->o->train_on == BISE_TRAIN_ASSISTANT)) {
        s = encode_turns(e, list, tools, err);
    } else {
        if (moves)
            remove_call_ids(bise_json_at(list, bise_json_size(list) - 1));
        s = encode_chat(e, list, tools, e->o->train_on, err);
    }
    bise_json_free(tools);
    bise_json_free(list);
    return s;
}

/* Does a conversation bring its own system message? */
static bool has_system(const bise_json *turns)
{
    const bise_json *role =
        bise_row_either(bise_json_at(turns, 0), "role", "from");
    const char *s = bise_json_string(role, NULL);
    return s && (!strcmp(s, "system") || !strcmp(s, "developer"));
}

/* OpenAI's messages, mistral-finetune's interactions, and ShareGPT's
 * conversations. */
static bise_status encode_messages(const encoding *e, bise_error *err)
{
    const bise_json *turns = bise_json_get(e->row, e->f->keys[0]);
    const bool sharegpt = !strcmp(e->f->keys[0], "conversations");
    bise_json *list = bise_json_new_array();
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && !sharegpt &&
        bise_json_typeof(turns) != BISE_JSON_ARRAY)
        s = bise_fail(err, BISE_EFORMAT, "the messages are not an array");
    if (s == BISE_OK && !has_system(turns))
        s = bise_add_system(list, e->row, err);
    if (s == BISE_OK && sharegpt)
        s = bise_add_sharegpt(list, turns, err);
    else if (s == BISE_OK)
        s = bise_add_part(list, turns, "user", false, err);
    return encode_take(e, list, s, err);
}

/* --- instruction formats ----------------------------------------------- */

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
            const bise_status s = bise_add_text(list, k ? "assistant" : "user",
                                                text, n, err);
            if (s != BISE_OK)
                return s;
        }
    return BISE_OK;
}

/* System text, earlier turns, the instruction with its input (Dolly calls it
 * context), the answer under the format's second key. */
static bise_status encode_alpaca(const encoding *e, bise_error *err)
{
    bise_json *list = bise_json_new_array();
    bise_status s = list ? bise_add_system(list, e->row, err) :
                           bise_fail_nomem(err);
    if (s == BISE_OK)
        s = add_history(list, bise_json_get(e->row, "history"), err);
    if (s == BISE_OK)
        s = bise_add_instruction(list, e->row,
                                 bise_row_either(e->row, "input", "context"),
                                 err);
    if (s == BISE_OK)
        s = bise_add_member(list, "assistant", e->row, e->f->keys[1], err);
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
            s = bise_add_instruction(list, e->row,
                                     bise_json_get(one, "input"), err);
        if (s == BISE_OK)
            s = bise_add_member(list, "assistant", one, "output", err);
        s = encode_take(e, list, s, err);
    }
    return s;
}

/* User turn of a question: it and the context below it, when there is one. */
static bise_status add_question(bise_json *list, const encoding *e,
                                bise_error *err)
{
    const char *key = e->f->keys[0];
    size_t n = 0, m = 0;
    const char *text = bise_json_string(bise_json_get(e->row, key), &n);
    const char *more = bise_json_string(bise_json_get(e->row, "context"), &m);
    bise_str both = { 0 };
    if (!text || !m)
        return bise_add_member(list, "user", e->row, key, err);
    bise_str_add(&both, text, n);
    bise_str_putc(&both, '\n');
    bise_str_add(&both, more, m);
    const bise_status s =
        bise_str_ok(&both) ?
            bise_add_text(list, "user", bise_str_get(&both), both.len, err) :
            bise_fail_nomem(err);
    bise_str_fini(&both);
    return s;
}

/* A question and its answer under the two keys of the format. */
static bise_status encode_two(const encoding *e, bise_error *err)
{
    bise_json *list = bise_json_new_array();
    bise_status s = list ? bise_add_system(list, e->row, err) :
                           bise_fail_nomem(err);
    if (s == BISE_OK)
        s = add_question(list, e, err);
    if (s == BISE_OK)
        s = bise_add_member(list, "assistant", e->row, e->f->keys[1], err);
    return encode_take(e, list, s, err);
}

/* prompt and completion: strings (one turn each), or lists of messages. */
static bise_status encode_completion(const encoding *e, bise_error *err)
{
    const bise_json *prompt = bise_json_get(e->row, "prompt");
    bise_json *list = bise_json_new_array();
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && !has_system(prompt))
        s = bise_add_system(list, e->row, err);
    if (s == BISE_OK)
        s = bise_add_part(list, prompt, "user", true, err);
    if (s == BISE_OK)
        s = bise_add_part(list, bise_json_get(e->row, "completion"),
                          "assistant", false, err);
    return encode_take(e, list, s, err);
}

/* --- preference -------------------------------------------------------- */

/* Is this answer a whole conversation, its prompt included? */
static bool is_whole(const bise_json *answer)
{
    const bise_json *role =
        bise_row_either(bise_json_at(answer, 0), "role", "from");
    const char *s = bise_json_string(role, NULL);
    return s && (has_system(answer) || !strcmp(s, "user") ||
                 !strcmp(s, "human"));
}

/* The prompt of a preference row in any of its spellings. */
static bise_status add_prompt(bise_json *list, const bise_json *row,
                              bise_error *err)
{
    const bise_json *input = bise_json_get(row, "input");
    const bise_json *talk = bise_json_get(row, "conversations");
    const bise_json *v = bise_json_get(row, "prompt");
    if (bise_json_is_null(v))
        v = bise_json_get(input, "messages");
    if (bise_json_is_null(v))
        v = bise_row_either(row, "question", "messages");
    bise_status s = has_system(talk ? talk : v) ? BISE_OK :
                    bise_add_system(list, row, err);
    if (s != BISE_OK)
        return s;
    if (talk)
        return bise_add_sharegpt(list, talk, err);
    if (bise_json_get(row, "instruction"))
        return bise_add_instruction(list, row, input, err);
    return bise_json_is_null(v) ? BISE_OK :
           bise_add_part(list, v, "user", true, err);
}

/* One of the two answers after the prompt; only it is trained. */
static bise_status encode_choice(const encoding *e, const char *key,
                                 bise_error *err)
{
    const bise_json *answer = bise_json_get(e->row, key);
    const bool moves = tools_move(e->o->chat);
    bise_json *list = bise_json_new_array(), *tools = NULL;
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && !is_whole(answer))
        s = add_prompt(list, e->row, err);
    if (s == BISE_OK)
        s = bise_add_part(list, answer, "assistant", false, err);
    if (s == BISE_OK)
        s = bise_fix_call_ids(list, moves, !moves, err);
    if (s == BISE_OK)
        s = bise_check_messages(list, err);
    if (s == BISE_OK)
        s = bise_row_tools(&tools, e->row, err);
    if (s == BISE_OK)                   /* the answers differ at the end */
        s = encode_chat(e, list, tools, BISE_TRAIN_LAST, err);
    bise_json_free(tools);
    bise_json_free(list);
    return s;
}

/* The chosen answer first: sample 2i and 2i + 1 of a dataset of pairs. */
static bise_status encode_preference(const encoding *e, bise_error *err)
{
    bise_status s = encode_choice(e, e->f->keys[0], err);
    if (s == BISE_OK)
        s = encode_choice(e, e->f->keys[1], err);
    return s;
}

/* An answer that is called good or bad; the label is its last key. */
static bool has_label(const bise_json *row)
{
    return bise_json_typeof(bise_row_either(row, "label", "kto_tag")) ==
           BISE_JSON_BOOL;
}

/* --- without a chat format --------------------------------------------- */

/* Append text as tokens of one mask value, special tokens in it on request. */
static bise_status add_tokens(const encoding *e, const char *text, size_t n,
                              unsigned flags, bool trained, bise_error *err)
{
    bise_ids ids = { 0 };
    bise_status s = bise_tokenizer_encode(e->o->tokenizer, text, n, flags,
                                          &ids, err);
    if (s == BISE_OK)
        s = bise_sample_add(&e->out->all, ids.v, ids.n, trained, err);
    bise_ids_fini(&ids);
    return s;
}

/* The string member key, which may not hold a NUL. */
static const char *plain_string(const bise_json *row, const char *key)
{
    size_t n = 0;
    const char *s = bise_json_string(bise_json_get(row, key), &n);
    return s && strlen(s) == n ? s : NULL;
}

/* A text with a gap: [SUFFIX] and [PREFIX] as a request would have them, then
 * the trained middle, tokenized on its own as it is when a model writes it. */
static bise_status encode_fim(const encoding *e, bise_error *err)
{
    const char *const *k = e->f->keys;
    const char *part[3];
    for (int i = 0; i < 3; i++) {
        part[i] = plain_string(e->row, k[i]);
        if (!part[i])
            return bise_fail(err, BISE_EFORMAT, "'%s' is not a plain string",
                             k[i]);
    }
    bise_status s = bise_chat_fim(e->o->tokenizer, part[0], part[1],
                                  &e->out->all, err);
    if (s == BISE_OK)
        s = add_tokens(e, part[2], strlen(part[2]),
                       BISE_TOK_EOS | BISE_TOK_PLAIN_SPM, true, err);
    return s == BISE_OK ? end_sample(e->out, err) : s;
}

/* A prompt with something behind the gap; many tables have an empty column. */
static bool has_suffix(const bise_json *row)
{
    size_t n = 0;
    return bise_json_string(bise_json_get(row, "suffix"), &n) && n;
}

/* Axolotl's input_output: parts of a text that are trained or not, with the
 * special tokens written out. The start token is put where it is missing. */
static bise_status encode_segments(const encoding *e, bise_error *err)
{
    const bise_json *all = bise_json_get(e->row, "segments");
    const int32_t bos = bise_tokenizer_bos(e->o->tokenizer);
    const size_t start = e->out->all.ids.n, n = bise_json_size(all);
    bise_status s = n ? BISE_OK : bise_fail(err, BISE_EFORMAT,
                                            "'segments' has no elements");
    for (size_t i = 0; s == BISE_OK && i < n; i++) {
        const bise_json *one = bise_json_at(all, i);
        size_t len = 0;
        const char *text =
            bise_json_string(bise_json_get(one, "text"), &len);
        const bise_json *label = bise_json_get(one, "label");
        if (!text || bise_json_typeof(label) != BISE_JSON_BOOL)
            return bise_fail(err, BISE_EFORMAT, "segment %zu is not a 'text' "
                             "with a 'label' of true or false", i + 1);
        if (i == 0 && bos >= 0 && strncmp(text, "<s>", 3) != 0)
            s = bise_sample_add(&e->out->all, &bos, 1, false, err);
        if (s == BISE_OK)
            s = add_tokens(e, text, len, BISE_TOK_PARSE_SPECIAL |
                           (i ? BISE_TOK_PLAIN_SPM : 0),
                           bise_json_bool(label, false), err);
    }
    if (s == BISE_OK && e->out->all.ids.n > start)
        e->out->all.mask[start] = 0;
    return s == BISE_OK ? end_sample(e->out, err) : s;
}

/* BOS + text + EOS, all trained (BOS is never a target). */
static bise_status encode_text(const encoding *e, bise_error *err)
{
    size_t n;
    const char *text = bise_json_string(
        bise_row_either(e->row, "text", "content"), &n);
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

#define BESIDE " system system_prompt tools available_tools functions " \
               "only_last reasoning_effort response_format " \
               "parallel_tool_calls "
#define PROMPT BESIDE "prompt conversations instruction input question " \
               "messages "

/* In order: the first row whose keys are all there wins. */
static const struct bise_schema schemas[] = {
    { "preference", { "chosen", "rejected" }, BISE_FOR_PAIRS,
      encode_preference, PROMPT, NULL },
    { "preference", { "preferred_output", "non_preferred_output" },
      BISE_FOR_PAIRS, encode_preference, PROMPT, NULL },
    { "kto", { "prompt", "completion", "label" }, BISE_FOR_LABELS,
      encode_completion, BESIDE, has_label },
    { "kto", { "messages", "kto_tag" }, BISE_FOR_LABELS, encode_messages,
      BESIDE, has_label },
    { "kto", { "conversations", "kto_tag" }, BISE_FOR_LABELS,
      encode_messages, BESIDE, has_label },
    { "messages", { "messages" }, BISE_FOR_TUNING, encode_messages, BESIDE,
      NULL },
    { "interactions", { "interactions" }, BISE_FOR_TUNING, encode_messages,
      BESIDE, NULL },
    { "sharegpt", { "conversations" }, BISE_FOR_TUNING, encode_messages,
      BESIDE, NULL },
    { "segments", { "segments" }, BISE_FOR_TUNING, encode_segments, "",
      NULL },
    { "alpaca", { "instruction", "output" }, BISE_FOR_TUNING, encode_alpaca,
      BESIDE "history input context ", NULL },
    { "dolly", { "instruction", "response" }, BISE_FOR_TUNING, encode_alpaca,
      BESIDE "history input context ", NULL },
    { "instances", { "instruction", "instances" }, BISE_FOR_TUNING,
      encode_instances, "", NULL },
    { "fim", { "prefix", "suffix", "middle" }, BISE_FOR_TUNING, encode_fim,
      "", NULL },
    { "fim", { "prompt", "suffix", "completion" }, BISE_FOR_TUNING,
      encode_fim, "", has_suffix },
    { "prompt/completion", { "prompt", "completion" }, BISE_FOR_TUNING,
      encode_completion, BESIDE, NULL },
    { "question/answer", { "question", "answer" }, BISE_FOR_TUNING,
      encode_two, BESIDE "context ", NULL },
    { "question/response", { "question", "response" }, BISE_FOR_TUNING,
      encode_two, BESIDE "context ", NULL },
    { "query/response", { "query", "response" }, BISE_FOR_TUNING, encode_two,
      BESIDE "context ", NULL },
    { "prompt/response", { "prompt", "response" }, BISE_FOR_TUNING,
      encode_two, BESIDE "context ", NULL },
    { "problem/solution", { "problem", "solution" }, BISE_FOR_TUNING,
      encode_two, BESIDE "context ", NULL },
    { "inputs/targets", { "inputs", "targets" }, BISE_FOR_TUNING, encode_two,
      BESIDE "context ", NULL },
    { "input/output", { "input", "output" }, BISE_FOR_TUNING, encode_two,
      BESIDE "context ", NULL },
    { "tokens", { "input_ids" }, BISE_FOR_TUNING, encode_tokens,
      " labels attention_mask ", NULL },
    { "text", { "text" }, BISE_FOR_TUNING, encode_text, "", NULL },
    { "text", { "content" }, BISE_FOR_TUNING, encode_text, "", NULL },
};

/* Keys decide, and for a few formats one value: all else of the values is the
 * encode function's business. */
const bise_schema *bise_schema_of(const bise_json *row)
{
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        const char *const *k = schemas[i].keys;
        bool all = true;
        for (; *k && all; k++)
            all = bise_json_get(row, *k) != NULL;
        if (all && (!schemas[i].is || schemas[i].is(row)))
            return &schemas[i];
    }
    return NULL;
}

/* For reports and for the comparison of rows in a file. */
const char *bise_schema_name(const bise_schema *f)
{
    return f->name;
}

/* Rows of pairs make two samples that belong together. */
bise_schema_use bise_schema_use_of(const bise_schema *f)
{
    return f->use;
}

/* The keys that select the format, and those it reads beside them. */
bool bise_schema_reads(const bise_schema *f, const char *key)
{
    const size_t n = strlen(key);
    for (const char *const *k = f->keys; *k; k++)
        if (!strcmp(*k, key))
            return true;
    for (const char *at = strstr(f->reads, key); at;
         at = strstr(at + 1, key))
        if (n && at > f->reads && at[-1] == ' ' && at[n] == ' ')
            return true;
    return false;
}

/* The one way from a row to samples. */
bise_status bise_schema_encode(const bise_schema *f, const bise_json *row,
                               const bise_dataset_options *o,
                               bise_samples *out, bise_error *err)
{
    const encoding e = { .f = f, .row = row, .o = o, .out = out };
    return f->encode(&e, err);
}
