/* budget.h - a type for each tensor so that a model fits a size: every type's
 * error is measured on rows of the tensor, weighted by the importance matrix
 * where there is one, and the bytes go where they take away most error.
 * Deterministic: the same for any number of threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_QUANTIZE_BUDGET_H
#define BISE_QUANTIZE_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "core/progress.h"
#include "pipeline/plan.h"
#include "quantize/quantize.h"

/* What a tensor may become: choices in order of growing size and shrinking
 * error. */
enum { BISE_BUDGET_CHOICES = 10 };
typedef struct bise_budget_item {
    size_t n;
    uint64_t bytes[BISE_BUDGET_CHOICES];
    double error[BISE_BUDGET_CHOICES];
    bise_dtype type[BISE_BUDGET_CHOICES];
} bise_budget_item;

/* Add a choice. One that another beats in size and error is dropped; the
 * order is kept. An item takes BISE_BUDGET_CHOICES of them. */
void bise_budget_add(bise_budget_item *item, bise_dtype type, uint64_t bytes,
                     double error);
/* pick[i]: the choice of item i, with a sum of bytes at most limit and no
 * single better choice that would still fit. Minimizes the sum of errors over
 * the lower convex hulls (quantization.md 8): the error exceeds the least
 * possible by no more than one step of one item. *used gets the bytes.
 * BISE_EINVAL when the smallest choices exceed limit: pick and *used are
 * theirs. BISE_ENOMEM. */
BISE_NODISCARD bise_status bise_budget_pick(uint64_t *used, uint8_t *pick,
                                            const bise_budget_item *items,
                                            size_t n, uint64_t limit);

typedef struct bise_budget {
    uint64_t bytes;          /* of all files of the output together, or 0 */
    double bits;             /* per weight of all tensors, when bytes is 0 */
    bool keep_label;         /* general.file_type stays the mixture's */
    bool headers_only;       /* read no weights: errors of normal numbers */
    bise_pool *pool;
    const bise_progress *progress;
} bise_budget;

/* Choose types for a plan that bise_quantize_plan made with the same options,
 * then lay it out: the output is as large as allowed or smaller by less than
 * the next step. Tensors whose type an option names keep it. Candidates are
 * Q2_K Q3_K IQ4_XS Q4_K Q5_K Q6_K Q8_0 BF16 and the type stored, or what their
 * shapes fall back to. The error of a type is
 *
 *     rows sum a_j (w - q)^2 / sum a_j w^2
 *
 * (three times that for the matrix that makes the logits) with a_j the
 * importance of column j, 1 without, over rows spread evenly; about a million
 * weights of a tensor are read. general.file_type becomes that
 * of the type most weights have. BISE_EINVAL when nothing fits. */
BISE_NODISCARD bise_status bise_budget_fit(bise_plan *p,
                                           const bise_quantize_options *o,
                                           const bise_budget *b,
                                           bise_error *err);

#endif
