/* role.h - what a tensor is in the model, independent of any file's names, and
 * the one table (roles.def) that maps roles to HF, native and GGUF names.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_ROLE_H
#define BISE_MODEL_ROLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/config.h"

typedef enum {
    /* Outside the layers. */
    BISE_ROLE_EMBED, BISE_ROLE_NORM, BISE_ROLE_HEAD,
    /* Dense attention: q [H D, C], k and v [K D, C], o [C, H D]. */
    BISE_ROLE_ATTN_NORM, BISE_ROLE_Q, BISE_ROLE_K, BISE_ROLE_V, BISE_ROLE_O,
    /* Dense feed-forward: gate and up [F, C], down [C, F]. */
    BISE_ROLE_FFN_NORM, BISE_ROLE_GATE, BISE_ROLE_UP, BISE_ROLE_DOWN,
    /* Experts: router [E, C]; one expert's own matrix (expert >= 0), or all of
     * a layer in one array, expert first (expert -1). */
    BISE_ROLE_ROUTER,
    BISE_ROLE_EXP_GATE, BISE_ROLE_EXP_UP, BISE_ROLE_EXP_DOWN,
    BISE_ROLE_EXP_GATE_UP,                 /* fused in one 3-D tensor */
    /* Shared experts, which every token passes. */
    BISE_ROLE_SH_GATE, BISE_ROLE_SH_UP, BISE_ROLE_SH_DOWN,
    /* Latent attention (mistral3.md 2.5): down, norm, up, for q and for kv. */
    BISE_ROLE_Q_A, BISE_ROLE_Q_A_NORM, BISE_ROLE_Q_B,
    BISE_ROLE_KV_A, BISE_ROLE_KV_A_NORM, BISE_ROLE_KV_B,
    BISE_ROLE_K_B, BISE_ROLE_V_B,          /* GGUF's split of KV_B */
    BISE_ROLE_OPAQUE,                      /* vision, projector: passed on */
    BISE_ROLE_COUNT
} bise_role_kind;

typedef struct bise_role {
    bise_role_kind kind;
    int32_t layer;  /* -1 outside layers */
    int32_t expert; /* -1 unless one expert's own tensor */
} bise_role;

typedef enum { BISE_NAMES_HF, BISE_NAMES_NATIVE, BISE_NAMES_GGUF } bise_names;

/* Name of a role's weight in a layout into out (with ".weight", without any
 * wrapper prefix); returns false when the layout has no such name. */
bool bise_role_name(char out[192], bise_role role, bise_names layout);
/* The same for a model of a family: where families name a role differently
 * (router, experts), that family's name. bise_role_name takes Mixtral's. */
bool bise_role_name_in(char out[192], bise_role role, bise_names layout,
                       bise_family family);
/* Role of a name (wrapper prefixes already stripped); kind BISE_ROLE_COUNT when
 * it is none. */
bise_role bise_role_of(const char *name, bise_names layout);
/* Short module name as in PEFT's target_modules: "q_proj", "gate_proj". NULL
 * for roles that are not linear layers. */
const char *bise_role_module(bise_role_kind kind);
/* Kind from such a name; BISE_ROLE_COUNT when unknown. */
bise_role_kind bise_role_by_module(const char *module);
/* The same kind, layer and expert? */
static inline bool bise_role_equal(bise_role a, bise_role b)
{
    return a.kind == b.kind && a.layer == b.layer && a.expert == b.expert;
}

#endif
