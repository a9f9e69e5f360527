/* tokenize_tool.c - ids for a stream of inputs, for oracle_tokenizers.py:
 *   tokenize_tool TOKENIZER < LINES
 * Each line is a JSON object: {"hex": bytes} or {"messages", "tools",
 * "format"?, "reasoning_effort"?, "response_format"?} or {"prefix", "suffix"}
 * or {"ids"}. Prints the ids of each on a line, or "error: why". With "back":
 * true also what the ids decode to, in hex.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/str.h"
#include "text/chat.h"
#include "text/tokenizer.h"

static void unhex(bise_str *out, const char *hex)
{
    unsigned v;
    for (; sscanf(hex, "%2x", &v) == 1; hex += 2)
        bise_str_putc(out, (char)v);
}

static bise_status encode(const bise_tokenizer *t, const bise_json *line,
                          bise_sample *out, bise_error *err)
{
    const char *hex = bise_json_string(bise_json_get(line, "hex"), NULL);
    const char *prefix = bise_json_string(bise_json_get(line, "prefix"), NULL);
    const bise_json *format = bise_json_get(line, "format");
    const bise_chat *chat = NULL;
    const bise_json *ids = bise_json_get(line, "ids");
    bise_str text = { 0 };
    bise_status s;
    for (size_t i = 0; i < bise_json_size(ids); i++)
        if (bise_ids_push(&out->ids, (int32_t)bise_json_number(
                              bise_json_at(ids, i), -1)))
            return bise_fail_nomem(err);
    if (ids)
        return BISE_OK;
    if (hex) {
        unhex(&text, hex);
        s = bise_tokenizer_encode(t, bise_str_get(&text), text.len, 0,
                                  &out->ids, err);
        bise_str_fini(&text);
        return s;
    }
    if (prefix)
        return bise_chat_fim(t, prefix,
                             bise_json_string(bise_json_get(line, "suffix"),
                                              NULL), out, err);
    s = bise_chat_for(&chat, t, bise_json_string(format, NULL), err);
    if (s != BISE_OK)
        return s;
    const bise_chat_request r = {
        .messages = bise_json_get(line, "messages"),
        .tools = bise_json_get(line, "tools"), .options = line,
    };
    return bise_chat_encode_request(chat, t, &r, out, err);
}

static void answer(const bise_tokenizer *t, const bise_json *line)
{
    bise_error err;
    bise_sample s = { 0 };
    bise_str back = { 0 };
    bise_error_init(&err);
    if (encode(t, line, &s, &err) != BISE_OK) {
        printf("error: %s\n", err.text);
        bise_sample_fini(&s);
        return;
    }
    for (size_t i = 0; i < s.ids.n; i++)
        printf(i ? " %d" : "%d", s.ids.v[i]);
    if (bise_json_bool(bise_json_get(line, "back"), false) &&
        bise_tokenizer_decode(t, s.ids.v, s.ids.n, false, &back, &err) ==
        BISE_OK) {
        fputs(" = ", stdout);
        for (size_t i = 0; i < back.len; i++)
            printf("%02x", (unsigned char)back.data[i]);
    }
    putchar('\n');
    bise_str_fini(&back);
    bise_sample_fini(&s);
}

int main(int argc, char **argv)
{
    bise_tokenizer *t = NULL;
    bise_error err;
    char *text = NULL;
    size_t cap = 0;
    ssize_t n;
    bise_error_init(&err);
    if (argc != 2 || bise_tokenizer_load(&t, argv[1], &err) != BISE_OK) {
        fprintf(stderr, "tokenize_tool: %s [%s]\n", err.text, err.path);
        return 1;
    }
    while ((n = getline(&text, &cap, stdin)) > 0) {
        bise_json *line = NULL;
        bise_error_init(&err);
        if (bise_json_parse(&line, text, (size_t)n, &err) != BISE_OK)
            printf("error: line: %s\n", err.text);
        else
            answer(t, line);
        bise_json_free(line);
    }
    free(text);
    bise_tokenizer_free(t);
    return 0;
}
