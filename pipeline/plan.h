/* plan.h - a job as data: the output tensors, each with the stream that gives
 * its rows and the type to write, the metadata, and the side files. Made from
 * headers only by convert and quantize, printed by --plan and --dry-run,
 * executed by run.h, which is the only thing that copies tensors.
 * Everything a plan points to lives in its arena or is borrowed for its life:
 * stores, adapters, importance matrices.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_PIPELINE_PLAN_H
#define BISE_PIPELINE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "core/mem.h"
#include "formats/gguf.h"
#include "model/role.h"
#include "pipeline/stream.h"

typedef enum {
    BISE_PLAN_GGUF,       /* one .gguf, or PREFIX-0000i-of-0000N.gguf */
    BISE_PLAN_SAFETENSORS /* a directory: weights, index, side files */
} bise_plan_kind;

typedef struct bise_plan_tensor {
    const char *name;
    bise_role role;
    bise_dtype dtype;
    int n_dims;
    uint64_t dims[BISE_MAX_DIMS];  /* row major; rows x cols = the stream's */
    const bise_stream *stream;
    const bise_stream *base;       /* before adapters; NULL: no adapter */
    /* Importance of each column, [imatrix_n, cols]: one row for the tensor or
     * one for each expert; NULL when there is none. */
    const float *imatrix;
    uint64_t imatrix_n;
    /* All rows encoded as dtype, to be written as they are (only where the
     * stream is of another type); NULL: the runner encodes. */
    const uint8_t *encoded;
} bise_plan_tensor;

/* A file beside the weights: bytes, or a copy of the store's when data is
 * NULL. */
typedef struct bise_plan_side {
    const char *name;
    const char *data;
    size_t len;
    bise_store *store;
} bise_plan_side;

/* One weight file of the output:
 *
 *   0            header.len                                      bytes
 *   | header ... | tensor first | tensor first + 1 | ... | padding |
 *                ^ offsets[0]   ^ offsets[1]
 *
 * The header is complete before a weight is read, since all sizes follow from
 * types and shapes; the runner writes it first and fills in the rest in any
 * order.
 */
typedef struct bise_plan_file {
    const char *name;              /* in the directory; "" : the output path */
    size_t first, n;               /* plan tensors [first, first + n) */
    bise_str header;               /* everything before the tensor data */
    uint64_t *offsets;             /* [n] absolute positions in the file */
    uint64_t bytes;                /* of the whole file */
} bise_plan_file;

typedef struct bise_plan {
    bise_plan_kind kind;
    bise_arena arena;
    bise_plan_tensor *tensors;
    size_t n, cap;
    bise_gguf_meta meta;           /* GGUF key-values */
    bise_json *st_meta;            /* safetensors __metadata__, or NULL */
    bise_json *lineage;            /* facts of model/lineage.h, or NULL */
    const char *weights_name;      /* "model" or "consolidated" */
    bise_plan_side *sides;
    size_t n_sides, cap_sides;
    uint64_t split_bytes;          /* largest file, 0 = one file */
    bool check_finite;             /* refuse NaN and infinity in any tensor */
    bise_plan_file *files;         /* made by bise_plan_layout */
    size_t n_files;
} bise_plan;

void bise_plan_init(bise_plan *p, bise_plan_kind kind);
void bise_plan_fini(bise_plan *p);

/* Add a tensor (copied; its name too). The stream's rows times columns must be
 * the product of dims. */
BISE_NODISCARD bise_status bise_plan_add(bise_plan *p,
                                         const bise_plan_tensor *t,
                                         bise_error *err);
/* Add a side file with this content (copied), or as the store has it. */
BISE_NODISCARD bise_status bise_plan_add_text(bise_plan *p, const char *name,
                                              const char *data, size_t len,
                                              bise_error *err);
BISE_NODISCARD bise_status bise_plan_add_copy(bise_plan *p, bise_store *s,
                                              const char *name,
                                              bise_error *err);
/* Say where the weights come from: facts of model/lineage.h (taken, also on
 * failure; NULL counts as out of memory), written into the metadata. */
BISE_NODISCARD bise_status bise_plan_origin(bise_plan *p, bise_json *lineage,
                                            bise_error *err);
/* Add the command that makes the output to the history. */
BISE_NODISCARD bise_status bise_plan_record(bise_plan *p, const char *command,
                                            bise_error *err);
const bise_plan_tensor *bise_plan_find(const bise_plan *p, const char *name);

/* Distribute the tensors over files and make their headers. Call once all
 * types, names and metadata are final; again after changing them. */
BISE_NODISCARD bise_status bise_plan_layout(bise_plan *p, bise_error *err);
/* Sizes: stored bytes read, bytes written (after layout), weights, and bits
 * per weight of the tensors. */
uint64_t bise_plan_bytes_in(const bise_plan *p);
uint64_t bise_plan_bytes_out(const bise_plan *p);
uint64_t bise_plan_weights(const bise_plan *p);
double bise_plan_bits(const bise_plan *p);
uint64_t bise_plan_tensor_bytes(const bise_plan_tensor *t);
/* True when the tensor's bytes are written as they are stored. */
bool bise_plan_is_raw(const bise_plan_tensor *t);

#endif
