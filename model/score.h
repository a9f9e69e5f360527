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

/* Quantiles in the result, ascending: minimum, 0.1, 1, 5, 10, 25, 50, 75, 90,
 * 95, 99, 99.9 %, maximum. */
enum { BISE_Q_MIN, BISE_Q_MEDIAN = 6, BISE_Q_P99 = 10, BISE_Q_MAX = 12,
       BISE_Q_COUNT };
extern const double bise_score_quantiles[BISE_Q_COUNT]; /* in [0, 1] */

/* Means over the scored tokens; base_nll and what follows only with a base.
 * Errors are standard errors as llama-perplexity (llama.cpp,
 * tools/perplexity) estimates them, from a variance over n (n - 1). */
typedef struct bise_score_result {
    uint64_t tokens, windows;
    double nll, nll_error;          /* mean, its standard error */
    double base_nll, base_nll_error;
    double nll_correlation; /* of both nlls by token; 0 if one is constant */
    double ln_ratio_error;  /* of nll - base_nll, with their covariance */
    double ppl_diff_error;  /* of exp(nll) - exp(base_nll), likewise */
    double kld_mean, kld_error, kld_q[BISE_Q_COUNT];
    double same_top, same_top_error; /* share of equal argmax */
    /* p(model) - p(base) of the right token */
    double dp_mean, dp_error, dp_rms, dp_rms_error, dp_q[BISE_Q_COUNT];
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
