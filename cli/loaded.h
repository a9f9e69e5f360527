/* loaded.h - a MODEL argument with its --adapter options, opened for running:
 * what eval, generate, chat and calibrate start with; and the tokenizer alone,
 * for tokenize and data.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_LOADED_H
#define BISE_CLI_LOADED_H

#include "cli/command.h"
#include "model/checkpoint.h"
#include "model/graph.h"
#include "model/lora.h"
#include "text/tokenizer.h"

typedef struct bise_loaded {
    bise_checkpoint c;
    bise_lora *loras;      /* [n] */
    bise_lora **list;      /* pointers to them, as graphs take them */
    int32_t n;
    bise_tokenizer *tok;   /* NULL unless asked for */
} bise_loaded;

/* Open path; with adapters, those of the command line; with a tokenizer, the
 * model's. Close also after a failure. */
BISE_NODISCARD bise_status bise_loaded_open(bise_loaded *m, bise_context *ctx,
                                            const char *path, bool adapters,
                                            bool tokenizer, bise_error *err);
void bise_loaded_close(bise_loaded *m);
/* Open the tokenizer of a model, or of a tokenizer file by itself. *store is
 * the model, NULL for a file; the caller closes both, also after a failure. */
BISE_NODISCARD bise_status bise_loaded_tokenizer(bise_tokenizer **out,
                                                 bise_store **store,
                                                 bise_context *ctx,
                                                 const char *path,
                                                 bise_error *err);
/* A graph for inference over at most max_tokens at once and samples or
 * contexts of max_seq. */
BISE_NODISCARD bise_status bise_loaded_graph(bise_graph **g,
                                             const bise_loaded *m,
                                             bise_context *ctx,
                                             int32_t max_tokens,
                                             int32_t max_seq, bise_error *err);

/* Bytes of the buffers of such a graph, without making it. */
BISE_NODISCARD bise_status bise_loaded_plan(uint64_t *bytes,
                                            const bise_loaded *m,
                                            bise_context *ctx,
                                            int32_t max_tokens,
                                            int32_t max_seq, bise_error *err);
/* Bytes of the mapped weights that the graph reads. */
uint64_t bise_loaded_weight_bytes(const bise_loaded *m);

#endif
