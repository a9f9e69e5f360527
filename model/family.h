/* family.h - the facts of families.def as a table, for the code of model/ that
 * resolves configurations and names. Families are data: no behaviour here.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_FAMILY_H
#define BISE_MODEL_FAMILY_H

#include <stdbool.h>

#include "model/config.h"

typedef struct bise_family_info {
    const char *model_type;   /* config.json, of the text model */
    const char *architecture; /* architectures[0] of a text-only model */
    const char *gguf;         /* general.architecture a converter writes */
    double theta;             /* rope_theta when the file has none */
    bool half;                /* HF files keep q/k rows in half layout */
    bool moe, mla;
} bise_family_info;

/* Facts of a family; never NULL. */
const bise_family_info *bise_family_get(bise_family f);
/* Family by model_type or by text class; -1 when unknown. */
int bise_family_by_name(const char *name);

#endif
