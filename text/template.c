/* template.c - what a chat template is, by the control tokens in its text
 * (mistral3.md 5). Each version added or removed some:
 *   v15  [MODEL_SETTINGS]              v13  [ARGS] without [CALL_ID]
 *   v11  [CALL_ID]                     v7   [SYSTEM_PROMPT]
 *   v3   "call_id" in tool results     v2   tools without it
 *   v1   blanks on both sides of the words in [INST] ... [/INST]
 * A template without tools may be of several versions, which write plain
 * conversations alike.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/template.h"

#include <stdio.h>
#include <string.h>

#include "core/json.h"
#include "text/chat_turns.h"

/* A template given as a string, or as a list of named ones: the default. */
static const char *template_of(const bise_json *v, size_t *n)
{
    if (bise_json_typeof(v) != BISE_JSON_ARRAY)
        return bise_json_string(v, n);
    for (size_t i = 0; i < bise_json_size(v); i++) {
        const bise_json *t = bise_json_at(v, i);
        const char *name = bise_json_string(bise_json_get(t, "name"), NULL);
        if (name && strcmp(name, "default") == 0)
            return bise_json_string(bise_json_get(t, "template"), n);
    }
    return NULL;
}

/* The template inside of a JSON side file; *found when it has one. */
static bise_status read_json(bise_str *out, bool *found, bise_store *store,
                             const char *name, bise_error *err)
{
    bise_json *config = NULL;
    size_t n = 0;
    const bise_status s = bise_store_json(store, name, &config, err);
    const char *t = template_of(bise_json_get(config, "chat_template"), &n);
    *found = t && n;
    if (*found)
        bise_str_add(out, t, n);
    bise_json_free(config);
    return s;
}

/* chat_template.jinja wins over the one inside tokenizer_config.json, as in
 * transformers; chat_template.json is the older place of processors. */
bise_status bise_template_text(bise_str *out, const char **source,
                               bise_store *store, bise_error *err)
{
    static const char jinja[] = "chat_template.jinja";
    static const char *const files[] = { "tokenizer_config.json",
                                         "chat_template.json" };
    static const char key[] = "tokenizer.chat_template";
    size_t n = 0;
    *source = NULL;
    if (bise_store_gguf(store)) {
        const char *t = bise_gguf_str(bise_store_gguf(store), key, &n);
        if (t && n) {
            bise_str_add(out, t, n);
            *source = key;
        }
        return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
    }
    bise_status s = BISE_OK;
    if (bise_store_has_file(store, jinja)) {
        const size_t start = out->len;
        s = bise_store_file(store, jinja, out, err);
        if (s == BISE_OK && out->len > start)
            *source = jinja;
    }
    for (size_t i = 0; i < 2 && s == BISE_OK && !*source; i++) {
        bool found = false;
        s = read_json(out, &found, store, files[i], err);
        if (found)
            *source = files[i];
    }
    if (s == BISE_OK && !bise_str_ok(out))
        s = bise_fail_nomem(err);
    return s;
}

/* Is the word in the text? */
static bool has(const char *text, size_t n, const char *word)
{
    const size_t len = strlen(word);
    for (const char *p = text; p && (size_t)(text + n - p) >= len;) {
        p = memchr(p, *word, (size_t)(text + n - p) - len + 1);
        if (p && memcmp(p, word, len) == 0)
            return true;
        p = p ? p + 1 : NULL;
    }
    return false;
}

/* Newest sign first, since later versions keep most of the older ones. */
void bise_template_read(bise_template_signs *out, const char *text, size_t n)
{
    const bool tools = has(text, n, "[TOOL_CALLS]");
    int low = 0, high = 0;
    if (has(text, n, "[MODEL_SETTINGS]"))
        low = high = 15;
    else if (has(text, n, "[ARGS]"))
        low = high = has(text, n, "[CALL_ID]") ? 11 : 13;
    else if (tools && !has(text, n, "[SYSTEM_PROMPT]"))
        low = high = has(text, n, "call_id") ? 3 : 2;
    else if (has(text, n, "[SYSTEM_PROMPT]"))
        low = 7;
    else if (has(text, n, "[INST]"))
        low = has(text, n, " [/INST]") ? 1 : 2;
    if (!high)
        high = low == 7 && !tools ? 13 : low == 2 ? 3 : low;
    *out = (bise_template_signs){
        .low = low, .high = high, .spaced = has(text, n, "[INST] "),
        .default_system = has(text, n, "default_system_message"),
    };
}

/* From v11 on there are no SentencePiece vocabularies, so that blanks mean
 * nothing there; v1 has them in any case. */
bool bise_template_fits(const bise_template_signs *s, const bise_chat *chat)
{
    if (chat->version < s->low || chat->version > s->high)
        return false;
    return chat->version == 1 || chat->version > 7 ||
           s->spaced != chat->tekken;
}

/* The names of the table of formats where there is one name. */
void bise_template_name(char out[32], const bise_template_signs *s)
{
    const char *kind = s->low > 2 && s->low <= 7 && !s->spaced ? "-tekken"
                                                               : "";
    if (!s->low)
        snprintf(out, 32, "another family's");
    else if (s->low == s->high)
        snprintf(out, 32, "v%d%s", s->low, kind);
    else
        snprintf(out, 32, "v%d%s to v%d", s->low, kind, s->high);
}
