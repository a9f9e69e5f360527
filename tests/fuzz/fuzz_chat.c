/* fuzz_chat.c - any bytes as {"messages", "tools"} for every chat format: the
 * encoder must refuse with a reason or give ids with a mask, and the same
 * conversation twice must give the same ids. Also JSON rewritten as Python
 * does: what is rewritten must rewrite to itself; and the bytes as a template.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "text/chat.h"
#include "text/pyjson.h"
#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A tokenizer of bytes with all control tokens; made once and kept, which
 * leak checkers see as reachable. */
static const bise_tokenizer *tokenizer(void)
{
    static bise_tokenizer *t;
    static const char *const names[] = {
        "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
        "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
        "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]",
        "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]", "[PREFIX]", "[SUFFIX]"
    };
    const size_t n = sizeof names / sizeof *names;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr"
                                 "stuvwxyz0123456789+/";
    bise_str text = { 0 };
    bise_error err;
    if (t)
        return t;
    bise_str_printf(&text, "{\"config\":{\"pattern\":\"[^x]+|x\",\"version\":"
                    "\"v13\",\"default_vocab_size\":%zu,"
                    "\"default_num_special_tokens\":%zu},\"vocab\":[",
                    256 + n, n);
    for (int b = 0; b < 256; b++)
        bise_str_printf(&text, "%s{\"rank\":%d,\"token_bytes\":\"%c%c==\"}",
                        b ? "," : "", b, digits[b >> 2], digits[(b & 3) << 4]);
    bise_str_puts(&text, "],\"special_tokens\":[");
    for (size_t i = 0; i < n; i++)
        bise_str_printf(&text, "%s{\"rank\":%zu,\"token_str\":\"%s\"}",
                        i ? "," : "", i, names[i]);
    bise_str_puts(&text, "],\"model_settings_builder\":{\"reasoning_effort\":{"
                         "\"values\":[\"none\",\"high\"],\"default\":\"high\"},"
                         "\"json_schema\":{}}}");
    bise_error_init(&err);
    if (bise_tokenizer_parse(&t, "bytes", text.data, text.len, &err) !=
        BISE_OK) {
        fprintf(stderr, "fuzz_chat: %s\n", err.text);
        abort();
    }
    bise_str_fini(&text);
    return t;
}

/* One format and one way to train. */
static void encode(const char *format, const bise_json *row,
                   bise_train_on on)
{
    bise_error err;
    bise_sample a = { 0 }, b = { 0 };
    const bise_chat *chat;
    const bise_tokenizer *t = tokenizer();
    const bise_chat_request r = {
        .messages = bise_json_get(row, "messages"),
        .tools = bise_json_get(row, "tools"), .options = row, .train_on = on,
    };
    bise_error_init(&err);
    if (bise_chat_for(&chat, t, format, &err) != BISE_OK)
        abort();
    const bise_status s = bise_chat_encode_request(chat, t, &r, &a, &err);
    if (s != BISE_OK) {
        if (!err.text[0] || a.ids.n)
            abort();
    } else {
        if (bise_chat_encode_request(chat, t, &r, &b, &err) != BISE_OK || a.ids.n != b.ids.n ||
            memcmp(a.ids.v, b.ids.v, a.ids.n * sizeof *a.ids.v) != 0 ||
            memcmp(a.mask, b.mask, a.ids.n) != 0)
            abort();
        if (a.ids.v[0] != bise_tokenizer_bos(t) || a.mask[0])
            abort();
    }
    bise_sample_fini(&a);
    bise_sample_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = { "v1", "v2", "v3-tekken",
                                           "v7-tekken", "v11", "v13", "v15" };
    bise_error err;
    bise_json *row = NULL;
    bise_str once = { 0 }, twice = { 0 };
    if (bise_pyjson(&once, (const char *)data, size)) {
        if (!bise_pyjson(&twice, bise_str_get(&once), once.len) ||
            strcmp(bise_str_get(&once), bise_str_get(&twice)) != 0)
            abort();
    }
    bise_str_fini(&once);
    bise_str_fini(&twice);
    bise_template_signs signs;
    char name[32];
    bise_template_read(&signs, (const char *)data, size);
    bise_template_name(name, &signs);
    if (signs.low > signs.high || !name[0])
        abort();
    bise_error_init(&err);
    if (bise_json_parse(&row, (const char *)data, size, &err) != BISE_OK)
        return 0;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        encode(formats[i], row, (bise_train_on)(i % 3));
    bise_json_free(row);
    return 0;
}
