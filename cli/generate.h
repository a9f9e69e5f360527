/* generate.h - the generation loop of `bise generate` and `bise chat`.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_GENERATE_H
#define BISE_CLI_GENERATE_H

#include "cli/loaded.h"
#include "core/file.h"
#include "model/sampler.h"

/* Rows of an option table that both commands have. */
#define BISE_SAMPLING_OPTIONS \
    { "temp", BISE_OPT_FLOAT, "T", "temperature, 0 takes the likeliest", "0", \
      0 }, \
    { "top-p", BISE_OPT_FLOAT, "P", "keep the likeliest up to this share", \
      "1", 0 }, \
    { "top-k", BISE_OPT_INT, "K", "keep the K likeliest", "all", 0 }, \
    { "min-p", BISE_OPT_FLOAT, "P", \
      "drop tokens below this share of the likeliest", "0", 0 }, \
    { "seed", BISE_OPT_INT, "S", "seed of the choice", "0", 0 }, \
    { "compute", BISE_OPT_CHOICE, "f32|bf16", \
      "precision of matrix products", "f32", 0 }, \
    { "reasoning-effort", BISE_OPT_STRING, "E", \
      "effort of thinking in a chat, for v15: none, ..., max", NULL, 0 }, \
    { "adapter", BISE_OPT_LIST, "A[:SCALE]", "LoRA adapter on MODEL", NULL, \
      0 }

/* Open model first (bise_loaded_open), then the rest. */
typedef struct bise_generator {
    bise_context *ctx;
    bise_loaded model;
    bise_graph *graph;
    bise_cache *cache;
    bise_sampler sampler;
    float *logits;          /* [V] */
    int32_t max_seq;
    bool ignore_eos;
    bise_ids held;          /* ids in the cache */
    bise_str text;          /* of the last run */
    uint64_t prompt_tokens, tokens, prompt_ns, ns;
} bise_generator;

BISE_NODISCARD bise_status bise_generator_open(bise_generator *g,
                                               bise_context *ctx,
                                               int32_t max_seq,
                                               bise_error *err);
void bise_generator_close(bise_generator *g);
/* Print up to n tokens that follow the prompt. What the cache already holds of
 * it is not computed again. */
BISE_NODISCARD bise_status bise_generator_run(bise_generator *g,
                                              const bise_ids *prompt,
                                              int32_t n, bise_error *err);
/* Counts and rates into the result and, as a line, to stderr. */
void bise_generator_report(const bise_generator *g);
/* Text of the last run; bytes that are not UTF-8 replaced. */
bise_json *bise_generator_text(const bise_generator *g);
/* Append {role, content} to messages; takes content. */
void bise_add_message(bise_json *messages, const char *role,
                      bise_json *content);
/* Ids of a conversation in the tokenizer's chat format, with the effort of
 * --reasoning-effort. */
BISE_NODISCARD bise_status bise_prompt_chat(bise_ids *out, bise_generator *g,
                                            const bise_json *messages,
                                            bise_error *err);

#endif
