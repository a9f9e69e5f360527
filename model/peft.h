/* peft.h - PEFT's naming and pattern rules (lora.md 2): module paths of roles,
 * target_modules, rank_pattern and alpha_pattern. Private to model/ and to the
 * adapter converter.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_PEFT_H
#define BISE_MODEL_PEFT_H

#include <stdbool.h>

#include "core/json.h"
#include "model/config.h"
#include "model/role.h"

/* Prefix of module paths in the class of a wrapper, as transformers >= 4.52
 * builds it; files of the Hub store other names (lora.md 2.2). */
#define BISE_PEFT_WRAPPER "model.language_model."

/* Path of a role's module in the model class, "model.layers.3.mlp.up_proj";
 * false for roles that are no module of their own. */
bool bise_peft_path(char out[256], bise_role role, bise_family family,
                    bool wrapper);
/* Role of a module path under any prefix scheme, "base_model.model." or not;
 * kind BISE_ROLE_COUNT when none. *wrapper is set for a wrapper's path. */
bise_role bise_peft_role(const char *path, bool *wrapper);
/* Value of the first key of a pattern object that matches the path, by the rule
 * (.*\.)?(KEY)$; other when none does or the object is absent. */
BISE_NODISCARD bise_status bise_peft_pattern(double *out,
                                             const bise_json *pattern,
                                             const char *path, double other,
                                             bise_error *err);

#endif
