/* chunks.h - the data of calibrate and of quantize --method gptq: the files of
 * --data in chunks of --ctx tokens, at most --chunks of them. Texts are joined;
 * JSONL rows become conversations, packed.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_CHUNKS_H
#define BISE_CLI_CHUNKS_H

#include "cli/command.h"
#include "model/graph.h"
#include "text/dataset.h"
#include "text/pack.h"
#include "text/tokenizer.h"

/* Rows of an option table for it. */
#define BISE_CHUNK_OPTIONS \
    { "data", BISE_OPT_LIST, "FILE...", "text files, or JSONL rows", NULL, \
      0 }, \
    { "ctx", BISE_OPT_INT, "N", "tokens of a chunk", "512", 0 }, \
    { "chunks", BISE_OPT_INT, "N", "stop after this many chunks", "all", 0 }

typedef struct bise_chunks {
    const bise_tokenizer *tok;
    bise_ids ids;            /* text data */
    bise_dataset *data;      /* JSONL data */
    bise_packer *packer;
    bise_cursor at;
    int32_t T;               /* tokens of a chunk; packs may have fewer */
    uint64_t n, next;        /* chunks; the one that comes next */
    int32_t seg[2];          /* of a text chunk */
} bise_chunks;

/* Read --ctx, and see that --data is there: before a model is opened.
 * Zero-initialise. */
BISE_NODISCARD bise_status bise_chunks_options(bise_chunks *k,
                                               const bise_context *ctx,
                                               bise_error *err);
/* Read the files; tok is borrowed. */
BISE_NODISCARD bise_status bise_chunks_open(bise_chunks *k, bise_context *ctx,
                                            const bise_tokenizer *tok,
                                            bise_error *err);
void bise_chunks_close(bise_chunks *k);
/* The next of the n chunks, valid until the one after. */
BISE_NODISCARD bise_status bise_chunks_next(bise_chunks *k, bise_batch *b,
                                            bise_error *err);
/* Go to chunk i, forward only. */
BISE_NODISCARD bise_status bise_chunks_skip(bise_chunks *k, uint64_t i,
                                            bise_error *err);

#endif
