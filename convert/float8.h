/* float8.h - float8 weights that stay float8 in another layout: the codes as
 * they are, rows of q and k in the new order, and the scale tensors under the
 * names of that layout (mistral3.md 2.6 and 2.7):
 *
 *   Hugging Face             native, per tensor    native, per block
 *   X.weight                 X.weight              X.weight
 *   X.weight_scale_inv       X.qscale_weight       X.weight_scale
 *   X.activation_scale       X.qscale_act          X.input_scale
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CONVERT_FLOAT8_H
#define BISE_CONVERT_FLOAT8_H

#include "core/error.h"
#include "model/checkpoint.h"
#include "pipeline/plan.h"

/* Add the codes of q under name and its scale tensors beside it. Fails when a
 * head's new row order would move rows to another block of scales. */
BISE_NODISCARD bise_status bise_float8_add(bise_plan *p,
                                           const bise_checkpoint *c,
                                           const bise_weight *q,
                                           const char *name, bise_names to,
                                           bise_error *err);

/* Can float8 be kept at all with these weights and n_loras adapters? A merged
 * weight is no longer made of the codes. Names the first tensor that cannot. */
BISE_NODISCARD bise_status bise_float8_check(const bise_checkpoint *c,
                                             int n_loras, bise_error *err);

#endif
