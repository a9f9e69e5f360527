/* quantize.h - turns a GGUF plan into a quantized one: a type for each tensor
 * (mixture.h), the importance of its columns, the tensor order and the keys of
 * llama-quantize. Execution is the runner's, as for every other job.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_QUANTIZE_QUANTIZE_H
#define BISE_QUANTIZE_QUANTIZE_H

#include "core/error.h"
#include "core/progress.h"
#include "model/config.h"
#include "pipeline/plan.h"
#include "quantize/imatrix.h"
#include "quantize/mixture.h"

/* --tensor-type REGEX=TYPE. */
typedef struct bise_type_rule {
    const char *pattern;
    bise_dtype dtype;
} bise_type_rule;

/* Who decides the type of a matrix, first answer wins (gguf.md 6.3):
 *
 *   1. --token-embedding-type, --output-tensor-type
 *   2. the first --tensor-type whose pattern is found in the name
 *   3. --pure: the mixture's default type
 *   4. the mixture's rules
 *
 * and then the shape: a row that the type's block does not divide gets the
 * next simpler type (6.5). Norms, routers and vectors are never asked.
 */
typedef struct bise_quantize_options {
    const bise_mixture *mixture;
    bool pure;                      /* the default type everywhere */
    bool allow_requantize;          /* quantized input may be encoded again */
    bise_dtype output_type;         /* NONE: by the rules */
    bise_dtype embedding_type;
    const bise_type_rule *rules;    /* first match wins */
    size_t n_rules;
    const bise_imatrix *imatrix;    /* NULL: none; outlives the plan */
    const char *imatrix_path;       /* for the metadata */
    const bise_progress *progress;
} bise_quantize_options;

/* Retype, reorder and label a plan made for GGUF. *fallbacks (may be NULL)
 * counts tensors whose shape forced another type. */
BISE_NODISCARD bise_status bise_quantize_plan(bise_plan *p,
                                              const bise_config *g,
                                              const bise_quantize_options *o,
                                              int *fallbacks,
                                              bise_error *err);
/* fixed[i] for each tensor of p: its type is not for the mixture to choose,
 * because an option names it or it is never quantized. */
BISE_NODISCARD bise_status bise_quantize_fixed(bool *fixed, const bise_plan *p,
                                               const bise_quantize_options *o,
                                               bise_error *err);
/* Parse "REGEX=TYPE" into r; the pattern is copied into a. */
BISE_NODISCARD bise_status bise_type_rule_parse(bise_type_rule *r,
                                                const char *text,
                                                bise_arena *a,
                                                bise_error *err);

#endif
