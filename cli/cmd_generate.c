/* cmd_generate.c - `bise generate`: continue a prompt; and the generation loop
 * that `bise chat` shares (generate.h). Text goes to stdout as it is made.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/generate.h"

#include <stdio.h>

#include "core/clock.h"
#include "core/mem.h"
#include "text/chat.h"

#define PROMPT_BATCH 512 /* prompt tokens computed at a time */

/* Sampler, graph, cache and logits for a context of max_seq tokens. */
bise_status bise_generator_open(bise_generator *g, bise_context *ctx,
                                int32_t max_seq, bise_error *err)
{
    const struct bise_args *a = ctx->args;
    const int32_t V = g->model.c.config.V;
    g->ctx = ctx;
    g->max_seq = max_seq;
    g->sampler = (bise_sampler){
        .temp = bise_opt_num(a, "temp", 0),
        .top_p = bise_opt_num(a, "top-p", 1),
        .min_p = bise_opt_num(a, "min-p", 0),
        .top_k = (int32_t)bise_opt_int(a, "top-k", 0),
        .seed = (uint64_t)bise_opt_int(a, "seed", 0),
    };
    bise_status s = bise_sampler_init(&g->sampler, V, err);
    if (s == BISE_OK)
        s = bise_loaded_graph(&g->graph, &g->model, ctx,
                              max_seq < PROMPT_BATCH ? max_seq : PROMPT_BATCH,
                              max_seq, err);
    if (s == BISE_OK)
        s = bise_cache_new(&g->cache, g->graph, max_seq, err);
    if (s == BISE_OK && !(g->logits = bise_alloc_array((size_t)V,
                                                       sizeof *g->logits)))
        s = bise_fail_nomem(err);
    return s;
}

/* In any state, also half opened. */
void bise_generator_close(bise_generator *g)
{
    bise_free(g->logits);
    bise_cache_free(g->cache);
    bise_graph_free(g->graph);
    bise_sampler_fini(&g->sampler);
    bise_ids_fini(&g->held);
    bise_str_fini(&g->text);
    bise_loaded_close(&g->model);
}

/* Keep what of the cache equals the prompt, compute the rest. */
static bise_status feed_prompt(bise_generator *g, const bise_ids *prompt,
                               bise_error *err)
{
    /* At least one token is fed: its logits are what we are after. */
    size_t same = 0;
    while (same < g->held.n && same + 1 < prompt->n &&
           g->held.v[same] == prompt->v[same])
        same++;
    if (prompt->n > (size_t)g->max_seq)
        return bise_fail(err, BISE_EINVAL, "prompt of %zu tokens in a context "
                         "of %d", prompt->n, g->max_seq);
    bise_cache_cut(g->cache, (int32_t)same);
    g->held.n = same;
    for (size_t i = same; i < prompt->n; i++)
        if (bise_ids_push(&g->held, prompt->v[i]) < 0)
            return bise_fail_nomem(err);
    g->prompt_tokens += prompt->n - same;
    return bise_graph_decode(g->graph, g->cache, prompt->v + same,
                             (int32_t)(prompt->n - same), g->logits, err);
}

/* Show a token and remember it. */
static bise_status emit(bise_generator *g, int32_t id, bise_error *err)
{
    size_t n = 0;
    const char *piece = bise_tokenizer_piece(g->model.tok, id, &n);
    bise_str_add(&g->text, piece, n);
    /* Flushed token by token, so that a reader sees it grow. */
    if (!g->ctx->json) {
        bise_print(g->ctx, "%.*s", (int)n, piece);
        fflush(stdout);
    }
    g->tokens++;
    if (!bise_str_ok(&g->text) || bise_ids_push(&g->held, id) < 0)
        return bise_fail_nomem(err);
    return BISE_OK;
}

/* The tokenizer's end token, or the one of the configuration. */
static bool ends(const bise_generator *g, int32_t id)
{
    return id == bise_tokenizer_eos(g->model.tok) ||
           (g->model.c.config.eos >= 0 && id == g->model.c.config.eos);
}

/* Feed the prompt, then draw, show and feed one token at a time. The last
 * token shown is not fed: nobody needs its logits. */
bise_status bise_generator_run(bise_generator *g, const bise_ids *prompt,
                               int32_t n, bise_error *err)
{
    const uint64_t start = bise_clock_ns();
    bise_str_clear(&g->text);
    bise_status s = feed_prompt(g, prompt, err);
    const uint64_t first = bise_clock_ns();
    g->prompt_ns += first - start;
    for (int32_t i = 0; s == BISE_OK && i < n; i++) {
        const int32_t id = bise_sampler_next(&g->sampler, g->logits);
        if (ends(g, id) && !g->ignore_eos)
            break;
        if ((s = emit(g, id, err)) != BISE_OK || i + 1 == n ||
            bise_cache_len(g->cache) >= g->max_seq)
            break;
        s = bise_graph_decode(g->graph, g->cache, &id, 1, g->logits, err);
        /* Ctrl-C ends the text where it is. */
        const bise_progress *p = g->ctx->progress;
        if (s == BISE_OK && p && p->cancel && *p->cancel)
            s = bise_fail(err, BISE_ECANCEL, "interrupted");
    }
    /* The last token shown is not in the cache. */
    if ((size_t)bise_cache_len(g->cache) < g->held.n)
        g->held.n = (size_t)bise_cache_len(g->cache);
    g->ns += bise_clock_ns() - first;
    return s;
}

/* Tokens per second. */
static double rate(uint64_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

/* Counts for --json, and one line for people. */
void bise_generator_report(const bise_generator *g)
{
    bise_context *ctx = g->ctx;
    const double in = rate(g->prompt_tokens, g->prompt_ns);
    const double out = rate(g->tokens, g->ns);
    bise_result_set(ctx, "prompt_tokens",
                    bise_json_new_int((int64_t)g->prompt_tokens));
    bise_result_set(ctx, "tokens", bise_json_new_int((int64_t)g->tokens));
    bise_result_set(ctx, "prompt_tokens_per_second", bise_json_new_real(in));
    bise_result_set(ctx, "tokens_per_second", bise_json_new_real(out));
    bise_progress_say(ctx->progress, "prompt %llu tokens, %.1f tokens/s; "
                      "generated %llu, %.1f tokens/s",
                      (unsigned long long)g->prompt_tokens, in,
                      (unsigned long long)g->tokens, out);
}

/* JSON wants valid UTF-8, but a token may end inside a character. */
bise_json *bise_generator_text(const bise_generator *g)
{
    bise_str clean = { 0 };
    const char *p = bise_str_get(&g->text);
    size_t left = g->text.len;
    while (left) {
        const int n = bise_utf8_next(p, left, NULL);
        bise_str_add(&clean, n ? p : "\xef\xbf\xbd", n ? (size_t)n : 3);
        p += n ? n : 1;
        left -= n ? (size_t)n : 1;
    }
    bise_json *v = bise_json_new_stringn(bise_str_get(&clean), clean.len);
    bise_str_fini(&clean);
    return v;
}

static const bise_option options[] = {
    { "prompt", BISE_OPT_STRING, "TEXT", "text to continue", NULL, 'p' },
    { "file", BISE_OPT_STRING, "F", "read the prompt from a file", NULL,
      'f' },
    { "tokens", BISE_OPT_INT, "N", "most tokens to generate", "128", 'n' },
    { "chat", BISE_OPT_FLAG, NULL, "the prompt is a user's message", NULL,
      0 },
    { "system", BISE_OPT_STRING, "TEXT", "system message for --chat", NULL,
      0 },
    { "ignore-eos", BISE_OPT_FLAG, NULL, "go on after the end token", NULL,
      0 },
    BISE_SAMPLING_OPTIONS,
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* The conversation in the format of the tokenizer's version. */
bise_status bise_prompt_chat(bise_ids *out, bise_generator *g,
                             const bise_json *messages, bise_error *err)
{
    const bise_tokenizer *tok = g->model.tok;
    const bise_chat_request r = {
        .messages = messages,
        .effort = bise_opt_str(g->ctx->args, "reasoning-effort", NULL),
    };
    const bise_chat *chat = NULL;
    bise_sample sample = { 0 };
    bise_status s = bise_chat_for(&chat, tok, NULL, err);
    if (s == BISE_OK)
        s = bise_chat_encode_request(chat, tok, &r, &sample, err);
    for (size_t i = 0; s == BISE_OK && i < sample.ids.n; i++)
        if (bise_ids_push(out, sample.ids.v[i]) < 0)
            s = bise_fail_nomem(err);
    bise_sample_fini(&sample);
    return s;
}

/* Failures of the setters show up later as an incomplete message, which the
 * chat encoder refuses. */
void bise_add_message(bise_json *messages, const char *role,
                      bise_json *content)
{
    bise_json *m = bise_json_new_object();
    (void)bise_json_set(m, "role", bise_json_new_string(role));
    (void)bise_json_set(m, "content", content);
    (void)bise_json_append(messages, m);
}

/* Ids of the prompt: plain text after BOS, or one user turn. */
static bise_status make_prompt(bise_generator *g, bise_ids *ids,
                               bise_error *err)
{
    const struct bise_args *a = g->ctx->args;
    const char *file = bise_opt_str(a, "file", NULL);
    bise_str text = { 0 };
    bise_status s = BISE_OK;
    if (file)
        s = bise_file_read(&text, file, err);
    else
        bise_str_puts(&text, bise_opt_str(a, "prompt", ""));
    /* User text never becomes a control token, in either form. */
    if (s == BISE_OK && !bise_opt_given(a, "chat")) {
        s = bise_tokenizer_encode(g->model.tok, bise_str_get(&text), text.len,
                                  BISE_TOK_BOS, ids, err);
    } else if (s == BISE_OK) {
        bise_json *messages = bise_json_new_array();
        const char *system = bise_opt_str(a, "system", NULL);
        if (system)
            bise_add_message(messages, "system", bise_json_new_string(system));
        bise_add_message(messages, "user",
                         bise_json_new_stringn(bise_str_get(&text),
                                               text.len));
        s = bise_prompt_chat(ids, g, messages, err);
        bise_json_free(messages);
    }
    bise_str_fini(&text);
    return s;
}

/* Prompt and answer must fit the context that is planned for them. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const struct bise_args *a = ctx->args;
    const int32_t n = (int32_t)bise_opt_int(a, "tokens", 128);
    bise_generator g = { .ctx = ctx };
    bise_ids prompt = { 0 };
    if (n < 0)
        return bise_fail(err, BISE_EINVAL, "-n of %d", n);
    bise_status s = bise_loaded_open(&g.model, ctx, bise_arg(a, 0), true, true,
                                     err);
    g.ignore_eos = bise_opt_given(a, "ignore-eos");
    if (s == BISE_OK)
        s = make_prompt(&g, &prompt, err);
    /* Tokenizers without BOS give nothing for an empty text. */
    if (s == BISE_OK && prompt.n == 0)
        s = bise_fail(err, BISE_EINVAL, "the prompt is empty");
    if (s == BISE_OK && prompt.n > (size_t)(INT32_MAX / 2 - n))
        s = bise_fail(err, BISE_EINVAL, "prompt of %zu tokens", prompt.n);
    if (s == BISE_OK)
        s = bise_generator_open(&g, ctx, (int32_t)prompt.n + n, err);
    if (s == BISE_OK)
        s = bise_generator_run(&g, &prompt, n, err);
    if (s == BISE_OK) {
        bise_print(ctx, "\n");
        bise_result_set(ctx, "text", bise_generator_text(&g));
        bise_generator_report(&g);
    }
    bise_ids_fini(&prompt);
    bise_generator_close(&g);
    return s;
}

const bise_command bise_cmd_generate = {
    .name = "generate",
    .args = "MODEL -p TEXT",
    .help = "continue a text, or answer a message with --chat",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
