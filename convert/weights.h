/* weights.h - the stream of any role of a model, whatever layout it is stored
 * in: rows in the wanted order, adapters added, experts stacked or taken
 * apart, fused and split matrices (gate_up, kv_b) made from each other. Both
 * plan makers of convert/ ask for roles; only this file knows how to get them.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CONVERT_WEIGHTS_H
#define BISE_CONVERT_WEIGHTS_H

#include "core/error.h"
#include "core/mem.h"
#include "model/checkpoint.h"
#include "model/lora.h"
#include "pipeline/stream.h"

/* Where weights come from. */
typedef struct bise_weights {
    const bise_checkpoint *c;
    bise_lora *const *loras;  /* added in this order */
    int n_loras;
    bise_arena *arena;        /* streams live here: the plan's */
} bise_weights;

/* A role ready for a plan. */
typedef struct bise_weight_rows {
    const bise_stream *stream;
    bise_dtype stored;        /* type in the file */
    int n_dims;
    uint64_t dims[BISE_MAX_DIMS];
} bise_weight_rows;

/* What is asked for, and what may be stored instead:
 *
 *   one expert's gate     itself | slice of gate_exps | slice of gate_up
 *   gate_exps             itself | all experts stacked | slices of gate_up
 *   gate_up               itself | gate 0, up 0, gate 1, up 1, ...
 *   k_b, v_b              itself | parts of kv_b per head, k transposed
 *   kv_b                  itself | k_b transposed back and v_b, per head
 */

/* Make the stream of a role with q and k rows in order to. Fails when the
 * checkpoint has no such weight in any form. */
BISE_NODISCARD bise_status bise_weights_get(bise_weight_rows *out,
                                            const bise_weights *w,
                                            bise_role role, bise_rows to,
                                            bise_error *err);
/* The stream of one weight of the checkpoint, in file order. */
BISE_NODISCARD bise_status bise_weights_of(bise_weight_rows *out,
                                           const bise_weights *w,
                                           const bise_weight *weight,
                                           bise_rows to, bise_error *err);
/* True when the checkpoint stores the role itself or what it is made from. */
bool bise_weights_has(const bise_weights *w, bise_role role);

#endif
