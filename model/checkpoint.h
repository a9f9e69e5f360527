/* checkpoint.h - a store plus its resolved configuration, with a role for each
 * tensor and that tensor's quirks. The only place that knows tensor names.
 * Opening checks every tensor's shape against the configuration.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_CHECKPOINT_H
#define BISE_MODEL_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/json.h"
#include "core/progress.h"
#include "formats/store.h"
#include "kernels/nf4.h"
#include "model/config.h"
#include "model/role.h"

/* How rows of a q or k weight are ordered inside each head. */
typedef enum {
    BISE_ROWS_PLAIN,       /* not a rotated tensor */
    BISE_ROWS_HALF,        /* HF: pairs (i, i + D/2) */
    BISE_ROWS_INTERLEAVED  /* native, GGUF: pairs (2i, 2i + 1) */
} bise_rows;

/* A weight's copy in memory in another type (basequant.h). */
typedef struct bise_packed {
    bise_dtype dtype;
    uint8_t *data;             /* rows in the order of the file */
    uint64_t bytes;
    bise_nf4 nf4;              /* dtype NF4: the view of data */
    const float *row_scales;   /* dtype I8: one for each row, behind data */
} bise_packed;

/* One weight of the model. Its bytes come from bise_store_data or
 * bise_store_read with tensor; rows and scales say how to read them. */
typedef struct bise_weight {
    bise_role role;
    const bise_tensor *tensor;
    bise_rows rows;            /* order in the file */
    int32_t heads;             /* heads of a rotated tensor, else 0 */
    /* FP8: w = code * scale. scale_block 0: one scale for the tensor, or one
     * per expert of a stacked tensor; BISE_SCALE_ROWS: one per row of the file;
     * else [ceil(out/block), ceil(in/block)] scales, rows in file order.
     * float32, owned. */
    float *scales;
    int32_t n_scales, scale_block;
    const bise_tensor *scale, *act_scale; /* the tensors they came from, for
                                             --dtype keep; else NULL */
    uint64_t expert_stride;    /* bytes between experts of a stacked tensor */
    const bise_packed *packed; /* read by linears instead of the store, or
                                  NULL */
    const bise_nf4 *nf4;       /* NF4 in the file: codes and scales, owned */
} bise_weight;

/* An opened model. Weights borrow from the store; nothing here changes after
 * bise_checkpoint_open, so threads may share it. */
typedef struct bise_checkpoint {
    bise_store *store;         /* owned */
    bise_config config;
    bise_weight *weights;      /* in file order; scales are not listed */
    size_t n;
    /* Scheme of a wrapper's names: "" (text model), "language_model." (files of
     * the Hub) or "model.language_model." (transformers 5). */
    char prefix[64];
    bise_names names;          /* naming of the file */
    char licence[64];          /* "apache-2.0", ... or "" when unknown */
    bise_json *lineage;        /* facts of lineage.h, owned; NULL: no memory */
    char base_name[192];       /* name for outputs, from card or folder */
    void *index;               /* role -> weight, private */
} bise_checkpoint;

/* Open a MODEL. Warnings (extra tensors, licence) go to progress->message. */
BISE_NODISCARD bise_status bise_checkpoint_open(bise_checkpoint *c,
                                                const char *path,
                                                const bise_progress *progress,
                                                bise_error *err);
/* Who is told of a fault that belongs to one tensor (its shape, type, scale, its
 * absence). Returning BISE_OK goes on with the next. */
typedef struct bise_fault_sink {
    bise_status (*fault)(void *ctx, const bise_error *what);
    void *ctx;
} bise_fault_sink;

/* The same for checking a model: faults of tensors are told one by one instead
 * of ending it (sink NULL: the first ends it, as above). With faults told the
 * checkpoint is not fit to compute with. */
BISE_NODISCARD bise_status bise_checkpoint_inspect(
    bise_checkpoint *c, const char *path, const bise_progress *progress,
    const bise_fault_sink *sink, bise_error *err);
/* Release everything, the store included; a zeroed one is fine. */
void bise_checkpoint_close(bise_checkpoint *c);
/* Weight of a role, NULL when the model has none (tied head: NULL). */
const bise_weight *bise_checkpoint_find(const bise_checkpoint *c,
                                        bise_role role);
/* The same by kind, layer. */
const bise_weight *bise_checkpoint_get(const bise_checkpoint *c,
                                       bise_role_kind kind, int32_t layer);
/* The weight that tensor t of the store became, NULL for none, while walking
 * the store from its first tensor on: as weights are in its order, *next, 0 at
 * first, tells where to look. */
const bise_weight *bise_checkpoint_next(const bise_checkpoint *c,
                                        const bise_tensor *t, size_t *next);
/* Name of a text tensor in the checkpoint's own layout and prefix scheme, as a
 * saver must write it; false when the layout has no such name. */
bool bise_checkpoint_name(char out[256], const bise_checkpoint *c,
                          bise_role role);
/* The same for a Hugging Face name under a prefix scheme (see prefix). */
bool bise_role_name_prefixed(char out[256], bise_role role, bise_family family,
                             const char *prefix);

/* Where row `row` of a q or k weight in order `to` stands in order `from`:
 * destination row -> source row, D rows a head (mistral3.md 2.6). Identity for
 * PLAIN or equal orders. */
static inline uint64_t bise_rows_source(bise_rows from, bise_rows to,
                                        uint64_t row, int32_t D)
{
    if (from == to || from == BISE_ROWS_PLAIN || to == BISE_ROWS_PLAIN)
        return row;
    const uint64_t d = (uint64_t)D, base = row - row % d, j = row % d;
    if (from == BISE_ROWS_INTERLEAVED)        /* half row b D/2 + i wants */
        return base + 2 * (j % (d / 2)) + j / (d / 2);
    return base + j % 2 * (d / 2) + j / 2;    /* interleaved 2 i + b wants */
}

/* The roles a configuration implies, in the order of a forward pass: embedding,
 * layers, norm, head (none when tied). Experts as stacked roles (expert -1,
 * GATE, UP, DOWN). Returns their number; fills at most cap. */
size_t bise_config_roles(const bise_config *c, bise_role *out, size_t cap);

/* Expected shape of a role under a configuration: (out, in), (n) for vectors,
 * (E, out, in) for stacked experts (expert -1); returns n_dims, 0 when the role
 * does not exist in it (a tied head has the embedding's shape). */
int bise_role_shape(const bise_config *c, bise_role role, uint64_t dims[3]);

#endif
