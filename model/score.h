/* score.h - how well a model predicts token ids: negative log-likelihood over
 * windows of a text or over batches with targets, and against a base model the
 * Kullback-Leibler divergence of its predictions. Both models go over the same
 * batch, logits exist for a few rows at a time. Used by eval.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_SCORE_H
#define BISE_MODEL_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "core/progress.h"
#include "model/graph.h"

typedef struct bise_score bise_score;

/* Which tokens of a text are scored.
 * PLAIN: windows of BOS and ctx - 1 ids that do not overlap; every id counts
 *   (without BOS all but the first of a window). With stride < ctx windows
 *   overlap and only the last stride ids of each count.
 * HALVES: as llama-perplexity: whole windows of ctx ids, the first replaced by
 *   BOS, predictions from position ctx/2 on count. */
typedef enum { BISE_WINDOWS_PLAIN, BISE_WINDOWS_HALVES } bise_windows;

typedef struct bise_window_options {
    bise_windows rule;
    int32_t ctx, stride;    /* stride 0: ctx */
    int32_t bos;            /* -1: none */
    int64_t chunks;         /* most windows, 0 = all */
    const bise_progress *progress;
} bise_window_options;

/* Means over the scored tokens; kld and what follows only with a base. */
typedef struct bise_score_result {
    uint64_t tokens, windows;
    double nll, nll_error;          /* mean, its standard error */
    double base_nll;
    double kld_mean, kld_error, kld_median, kld_p99, kld_p999, kld_max;
    double same_top, same_top_error; /* share of equal argmax */
    double dp_mean, dp_rms;         /* p(model) - p(base) of the right token */
} bise_score_result;

/* base may be NULL. Graphs are borrowed and must take the batches' lengths;
 * their vocabularies must be equal. */
BISE_NODISCARD bise_status bise_score_new(bise_score **out, bise_graph *model,
                                          bise_graph *base, int32_t V,
                                          bise_pool *pool, bise_error *err);
void bise_score_free(bise_score *s);
/* Score the targets of a batch (weights are not used). */
BISE_NODISCARD bise_status bise_score_batch(bise_score *s, const bise_batch *b,
                                            bise_error *err);
/* Score a text of n ids, without BOS, by windows. */
BISE_NODISCARD bise_status bise_score_text(bise_score *s, const int32_t *ids,
                                           size_t n,
                                           const bise_window_options *o,
                                           bise_error *err);
/* Windows that bise_score_text would make of n ids. */
uint64_t bise_score_windows(size_t n, const bise_window_options *o);
void bise_score_get(bise_score *s, bise_score_result *r);

#endif
