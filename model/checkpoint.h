/* checkpoint.h - a store plus its resolved configuration, with a role for each
 * tensor and that tensor's quirks. The only place that knows tensor names.
 * Opening checks every tensor's shape against the configuration. */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_CHECKPOINT_H
#define BISE_MODEL_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/progress.h"
#include "formats/store.h"
#include "model/config.h"
#include "model/role.h"

/* How rows of a q or k weight are ordered inside each head. */
typedef enum {
    BISE_ROWS_PLAIN,       /* not a rotated tensor */
    BISE_ROWS_HALF,        /* HF: pairs (i, i + D/2) */
    BISE_ROWS_INTERLEAVED  /* native, GGUF: pairs (2i, 2i + 1) */
} bise_rows;

/* One weight of the model. */
typedef struct bise_weight {
    bise_role role;
    const bise_tensor *tensor;
    bise_rows rows;            /* order in the file */
    int32_t heads;             /* heads of a rotated tensor, else 0 */
    /* FP8: w = code * scale. scale_block 0: one scale for the tensor; else
     * [ceil(out/block), ceil(in/block)] scales in float32 (owned). */
    float *scales;
    int32_t n_scales, scale_block;
    uint64_t expert_stride;    /* bytes between experts of a stacked tensor */
} bise_weight;

typedef struct bise_checkpoint {
    bise_store *store;         /* owned */
    bise_config config;
    bise_weight *weights;      /* in file order; scales are not listed */
    size_t n;
    char prefix[64];           /* stripped from HF names, "" when none */
    bise_names names;          /* naming of the file */
    char licence[64];          /* "apache-2.0", ... or "" when unknown */
    char base_name[192];       /* name for outputs, from card or folder */
    void *index;               /* role -> weight, private */
} bise_checkpoint;

/* Open a MODEL. Warnings (extra tensors, licence) go to progress->message. */
BISE_NODISCARD bise_status bise_checkpoint_open(bise_checkpoint *c,
                                                const char *path,
                                                const bise_progress *progress,
                                                bise_error *err);
void bise_checkpoint_close(bise_checkpoint *c);
/* Weight of a role, NULL when the model has none (tied head: NULL). */
const bise_weight *bise_checkpoint_find(const bise_checkpoint *c,
                                        bise_role role);
/* The same by kind, layer. */
const bise_weight *bise_checkpoint_get(const bise_checkpoint *c,
                                       bise_role_kind kind, int32_t layer);
/* Expected shape of a role under a configuration: dims [2] (out, in), or (n)
 * for vectors; returns n_dims, 0 when the role does not exist in it. */
int bise_role_shape(const bise_config *c, bise_role role, uint64_t dims[3]);

#endif
