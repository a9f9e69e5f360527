/* schema.h - what one JSON row means: the accepted formats as a table, each
 * with the keys that give it away and the function that turns a row into
 * samples of ids and mask (lora.md 6). The rows of one file must agree.
 *   format             keys                                 becomes
 *   messages           messages (tools, only_last)          the conversation
 *   interactions       interactions (system_prompt, ...)    the conversation
 *   sharegpt           conversations (system, tools)        the conversation
 *   alpaca             instruction + output (input, ...)    one answered turn
 *   dolly              instruction + response (context)     one answered turn
 *   instances          instruction + instances              one each
 *   prompt/completion  prompt + completion                  one answered turn
 *   question/answer, question/response, query/response, prompt/response,
 *   problem/solution, inputs/targets, input/output          one answered turn
 *   fim                prefix + suffix + middle, or         <s>[SUFFIX]...
 *                      prompt + suffix + completion         [PREFIX]...middle
 *   segments           segments of text + label             the text as given
 *   tokens             input_ids (labels)                   the ids as given
 *   text               text, or content                     BOS + text + EOS
 *   preference         chosen + rejected (prompt, ...)      two conversations
 *   kto                a conversation and label or kto_tag  the conversation
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_SCHEMA_H
#define BISE_TEXT_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/json.h"
#include "text/chat.h"
#include "text/dataset.h"

/* Samples laid one after another: sample i is ids [end[i-1], end[i]). */
typedef struct bise_samples {
    bise_sample all;
    size_t *end;
    size_t n, cap;
} bise_samples;

/* Forget all samples but the first n. */
void bise_samples_truncate(bise_samples *s, size_t n);
void bise_samples_fini(bise_samples *s);

typedef struct bise_schema bise_schema;

/* Plain fine-tuning; pairs of a chosen and a rejected answer, two samples
 * each; answers with a label, good or bad. */
typedef enum { BISE_FOR_TUNING, BISE_FOR_PAIRS, BISE_FOR_LABELS }
    bise_schema_use;

/* The format of a row by its keys; NULL when it has none of them. */
const bise_schema *bise_schema_of(const bise_json *row);
/* "messages", "sharegpt", "alpaca", "prompt/completion", ... */
const char *bise_schema_name(const bise_schema *f);
/* What its rows are good for. */
bise_schema_use bise_schema_use_of(const bise_schema *f);
/* Does the format look at this key of a row? */
bool bise_schema_reads(const bise_schema *f, const char *key);
/* Append the samples of a row (one, or several for preference pairs and for
 * conversations that are trained turn by turn). On failure out may hold more
 * samples than before; the text says what is wrong with the row. */
BISE_NODISCARD bise_status bise_schema_encode(const bise_schema *f,
                                              const bise_json *row,
                                              const bise_dataset_options *o,
                                              bise_samples *out,
                                              bise_error *err);

#endif
