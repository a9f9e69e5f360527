/* cmd_tokenize.c - `bise tokenize`: text or a conversation to token ids, and
 * ids back to text. MODEL may be a tokenizer file by itself. Ids go to stdout
 * on one line; --pieces shows each with its text, and with --chat whether it
 * is trained.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/loaded.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "formats/store.h"
#include "text/chat.h"
#include "text/tokenizer.h"

static const bise_option options[] = {
    { "file", BISE_OPT_STRING, "F", "read the text from a file, - for stdin",
      NULL, 'f' },
    { "chat", BISE_OPT_STRING, "F.json",
      "encode a conversation: messages, or {messages, tools}", NULL, 0 },
    { "chat-format", BISE_OPT_STRING, "NAME",
      "v1 v2 v3 v3-tekken v7 v7-tekken v11 v13 v15 (default: the tokenizer's)",
      NULL, 0 },
    { "reasoning-effort", BISE_OPT_STRING, "E",
      "effort of a --chat that says none, for v15: none, ..., max", NULL, 0 },
    { "suffix", BISE_OPT_STRING, "TEXT",
      "fill in the middle: TEXT follows the gap, the text precedes it", NULL,
      0 },
    { "train-on", BISE_OPT_CHOICE, "assistant|all|last",
      "what the mask of --chat marks", "assistant", 0 },
    { "decode", BISE_OPT_FLAG, NULL, "the text is ids; print their text", NULL,
      0 },
    { "pieces", BISE_OPT_FLAG, NULL, "one token a line with its text", NULL,
      0 },
    { "parse-special", BISE_OPT_FLAG, NULL,
      "take special tokens written in the text as such", NULL, 0 },
    { "bos", BISE_OPT_FLAG, NULL, "put the start token first", NULL, 0 },
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* The text to work on: the argument, a file, or stdin. Exactly one source: a
 * forgotten TEXT beside --file would otherwise be ignored silently. */
static bise_status read_text(bise_str *text, bise_context *ctx,
                             bise_error *err)
{
    const char *file = bise_opt_str(ctx->args, "file", NULL);
    const char *arg = bise_arg(ctx->args, 1);
    if (!file == !arg)
        return bise_fail(err, BISE_EINVAL, "one of TEXT, --file and --chat is "
                         "needed");
    if (arg)
        bise_str_puts(text, arg);
    else if (strcmp(file, "-") != 0)
        return bise_file_read(text, file, err);
    else {
        char buf[65536];
        size_t n;
        while ((n = fread(buf, 1, sizeof buf, stdin)) > 0)
            bise_str_add(text, buf, n);
        if (ferror(stdin))
            return bise_fail_errno(err, "-", "read");
    }
    return bise_str_ok(text) ? BISE_OK : bise_fail_nomem(err);
}

/* Ids between blanks, commas or brackets. What `bise tokenize` prints, and
 * lists as Python or JSON print them, can be pasted. */
static bise_status read_ids(bise_ids *ids, const char *s, bise_error *err)
{
    const char *start = s;
    for (;;) {
        char *end;
        s += strspn(s, " ,\t\r\n[]");
        if (!*s)
            return BISE_OK;
        errno = 0;
        const long v = strtol(s, &end, 10);
        if (end == s || errno || v < 0 || v > INT32_MAX)
            return bise_fail(err, BISE_EINVAL, "'%.20s' at byte %zu is not an "
                             "id", s, (size_t)(s - start));
        if (bise_ids_push(ids, (int32_t)v) != 0)
            return bise_fail_nomem(err);
        s = end;
    }
}

/* A conversation: a list of messages, or an object with messages and tools.
 * Faults name the file and the message. */
static bise_status encode_chat(bise_sample *out, bise_context *ctx,
                               const bise_tokenizer *t, bise_error *err)
{
    const char *path = bise_opt_str(ctx->args, "chat", NULL);
    const char *on = bise_opt_str(ctx->args, "train-on", "assistant");
    const bise_chat *chat = NULL;
    bise_json *root = NULL;
    bise_status s = bise_chat_for(
        &chat, t, bise_opt_str(ctx->args, "chat-format", NULL), err);
    if (s == BISE_OK)
        s = bise_json_load(&root, path, err);
    if (s != BISE_OK)
        return s;
    const bise_json *messages = bise_json_get(root, "messages");
    const bise_chat_request r = {
        .messages = messages ? messages : root,
        .tools = bise_json_get(root, "tools"),
        .options = messages ? root : NULL,
        .effort = bise_opt_str(ctx->args, "reasoning-effort", NULL),
        .train_on = !strcmp(on, "all") ? BISE_TRAIN_ALL :
                    !strcmp(on, "last") ? BISE_TRAIN_LAST :
                    BISE_TRAIN_ASSISTANT,
    };
    s = bise_chat_encode_request(chat, t, &r, out, err);
    bise_json_free(root);
    return s == BISE_OK ? s : bise_error_in(err, path, NULL);
}

/* Text of one id as valid UTF-8: its name when it is special. Parts of a
 * character show as U+FFFD here; --decode shows the bytes. */
static void piece_text(bise_str *out, const bise_tokenizer *t, int32_t id)
{
    size_t n = 0;
    const char *name = bise_tokenizer_special_name(t, id);
    const char *piece = bise_tokenizer_piece(t, id, &n);
    bise_str_clear(out);
    if (name)
        bise_str_puts(out, name);
    else
        bise_utf8_repair(out, piece, n);
}

/* One line for each token: id, with --chat whether it is trained, and the
 * text as a JSON string so that blanks and line ends can be seen. */
static void print_pieces(bise_context *ctx, const bise_tokenizer *t,
                         const bise_sample *s, bool masked)
{
    bise_str piece = { 0 }, line = { 0 };
    for (size_t i = 0; i < s->ids.n; i++) {
        piece_text(&piece, t, s->ids.v[i]);
        bise_str_clear(&line);
        bise_str_put_json(&line, bise_str_get(&piece), piece.len);
        bise_print(ctx, "%d\t%s%s\n", s->ids.v[i],
                   !masked ? "" : s->mask[i] ? "1\t" : "0\t",
                   bise_str_get(&line));
    }
    bise_str_fini(&piece);
    bise_str_fini(&line);
}

/* The keys of --json. mask is empty unless a conversation was encoded. */
static void set_result(bise_context *ctx, const bise_tokenizer *t,
                       const bise_sample *s, bool masked, const bise_str *text)
{
    bise_json *ids = bise_json_new_array(), *pieces = bise_json_new_array();
    bise_json *mask = bise_json_new_array();
    bise_str buf = { 0 };
    for (size_t i = 0; i < s->ids.n; i++) {
        piece_text(&buf, t, s->ids.v[i]);
        (void)bise_json_append(ids, bise_json_new_int(s->ids.v[i]));
        (void)bise_json_append(pieces, bise_json_new_stringn(
            bise_str_get(&buf), buf.len));
        if (masked)
            (void)bise_json_append(mask, bise_json_new_int(s->mask[i]));
    }
    bise_str_clear(&buf);
    bise_utf8_repair(&buf, bise_str_get(text), text->len);
    bise_result_set(ctx, "ids", ids);
    bise_result_set(ctx, "pieces", pieces);
    bise_result_set(ctx, "mask", mask);
    bise_result_set(ctx, "text", bise_json_new_stringn(bise_str_get(&buf),
                                                       buf.len));
    bise_str_fini(&buf);
}

/* The tokens asked for: of a conversation, of ids, or of a text. Options
 * that exclude each other are refused rather than ranked. */
static bise_status make_tokens(bise_sample *out, bise_context *ctx,
                               const bise_tokenizer *t, bise_error *err)
{
    const struct bise_args *a = ctx->args;
    bise_str text = { 0 };
    unsigned flags = 0;
    if (bise_opt_given(a, "chat")) {
        if (bise_arg(a, 1) || bise_opt_given(a, "file") ||
            bise_opt_given(a, "decode"))
            return bise_fail(err, BISE_EINVAL, "--chat excludes TEXT, --file "
                             "and --decode");
        return encode_chat(out, ctx, t, err);
    }
    if (bise_opt_given(a, "parse-special"))
        flags |= BISE_TOK_PARSE_SPECIAL;
    if (bise_opt_given(a, "bos"))
        flags |= BISE_TOK_BOS;
    bise_status s = read_text(&text, ctx, err);
    if (s == BISE_OK && bise_opt_given(a, "decode"))
        s = read_ids(&out->ids, bise_str_get(&text), err);
    else if (s == BISE_OK && bise_opt_given(a, "suffix"))
        s = bise_chat_fim(t, bise_str_get(&text),
                          bise_opt_str(a, "suffix", ""), out, err);
    else if (s == BISE_OK)
        s = bise_tokenizer_encode(t, bise_str_get(&text), text.len, flags,
                                  &out->ids, err);
    bise_str_fini(&text);
    return s;
}

/* One line, blanks between: it pipes into --decode and into scripts. */
static void print_ids(bise_context *ctx, const bise_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++)
        bise_print(ctx, i ? " %d" : "%d", ids->v[i]);
    bise_print(ctx, "\n");
}

/* The text of the result is decoded from the ids, special tokens shown, so
 * that it tells what the model sees and not what was typed. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const bool decode = bise_opt_given(ctx->args, "decode");
    const bool masked = bise_opt_given(ctx->args, "chat");
    bise_tokenizer *t = NULL;
    bise_store *store = NULL;
    bise_sample sample = { 0 };
    bise_str text = { 0 };
    bise_status s = bise_loaded_tokenizer(&t, &store, ctx,
                                          bise_arg(ctx->args, 0), err);
    if (s == BISE_OK)
        s = make_tokens(&sample, ctx, t, err);
    if (s == BISE_OK)
        s = bise_tokenizer_decode(t, sample.ids.v, sample.ids.n, true, &text,
                                  err);
    if (s == BISE_OK) {
        if (bise_opt_given(ctx->args, "pieces"))
            print_pieces(ctx, t, &sample, masked);
        else if (decode && !ctx->json)
            fwrite(bise_str_get(&text), 1, text.len, stdout);
        else
            print_ids(ctx, &sample.ids);
        if (decode && !bise_opt_given(ctx->args, "pieces"))
            bise_print(ctx, "\n");
        if (ctx->json)
            set_result(ctx, t, &sample, masked, &text);
    }
    bise_str_fini(&text);
    bise_sample_fini(&sample);
    bise_tokenizer_free(t);
    bise_store_close(store);
    return s;
}

const bise_command bise_cmd_tokenize = {
    .name = "tokenize",
    .args = "MODEL_OR_TOKENIZER_FILE (TEXT | --file F | --chat F.json)",
    .help = "text or a conversation to token ids, and back",
    .details = "Takes a model, or a tokenizer file: tekken.json, "
               "tokenizer.json, a SentencePiece model or a GGUF. Special "
               "tokens in the text stay text unless --parse-special is given; "
               "--chat puts them where the chat format wants them.",
    .options = options,
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
