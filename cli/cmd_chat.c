/* cmd_chat.c - `bise chat`: a conversation on the terminal. The whole
 * conversation is encoded each turn; what the cache holds of it stays.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/generate.h"

static const bise_option options[] = {
    { "system", BISE_OPT_STRING, "TEXT", "system message", NULL, 0 },
    { "tokens", BISE_OPT_INT, "N", "most tokens of an answer", "512", 'n' },
    { "ctx", BISE_OPT_INT, "N", "most tokens of the conversation", "4096",
      0 },
    BISE_SAMPLING_OPTIONS,
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* One question and its answer. */
static bise_status turn(bise_generator *g, bise_json *messages,
                        const char *line, size_t n, bise_error *err)
{
    bise_ids prompt = { 0 };
    bise_add_message(messages, "user", bise_json_new_stringn(line, n));
    bise_status s = bise_prompt_chat(&prompt, g, messages, err);
    const int32_t most = (int32_t)bise_opt_int(g->ctx->args, "tokens", 512);
    if (s == BISE_OK)
        s = bise_generator_run(g, &prompt, most, err);
    if (s == BISE_OK) {
        bise_print(g->ctx, "\n");
        bise_add_message(messages, "assistant", bise_generator_text(g));
    }
    bise_ids_fini(&prompt);
    return s;
}

/* Lines of stdin until its end, an empty line being skipped. */
static bise_status converse(bise_generator *g, bise_json *messages,
                            bise_error *err)
{
    const bool tty = isatty(STDIN_FILENO) && !g->ctx->json;
    char *line = NULL;
    size_t cap = 0;
    bise_status s = BISE_OK;
    for (;;) {
        if (tty) {
            fputs("> ", stderr);
            fflush(stderr);
        }
        /* A line of any length; the end of input ends the conversation. */
        const ssize_t n = getline(&line, &cap, stdin);
        if (n < 0)
            break;
        const size_t len = strcspn(line, "\r\n");
        if (len && (s = turn(g, messages, line, len, err)) != BISE_OK)
            break;
    }
    free(line);
    return s;
}

/* The context is what was asked for, but not more than the model's. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const struct bise_args *a = ctx->args;
    int64_t max_seq = bise_opt_int(a, "ctx", 4096);
    bise_generator g = { .ctx = ctx };
    bise_status s = bise_loaded_open(&g.model, ctx, bise_arg(a, 0), true, true,
                                     err);
    if (s == BISE_OK && g.model.c.config.max_position > 0 &&
        max_seq > g.model.c.config.max_position)
        max_seq = g.model.c.config.max_position;
    if (s == BISE_OK && (max_seq < 16 || max_seq > INT32_MAX / 2))
        s = bise_fail(err, BISE_EINVAL, "--ctx of %lld", (long long)max_seq);
    if (s == BISE_OK)
        s = bise_generator_open(&g, ctx, (int32_t)max_seq, err);
    if (s == BISE_OK) {
        bise_json *messages = bise_json_new_array();
        /* The format decides where a system message goes. */
        const char *system = bise_opt_str(a, "system", NULL);
        if (system)
            bise_add_message(messages, "system", bise_json_new_string(system));
        s = converse(&g, messages, err);
        bise_result_set(ctx, "messages", messages);
        bise_generator_report(&g);
    }
    bise_generator_close(&g);
    return s;
}

const bise_command bise_cmd_chat = {
    .name = "chat",
    .args = "MODEL",
    .help = "talk to a model on the terminal",
    .details = "Each line of standard input is a message.",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
