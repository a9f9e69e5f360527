/* feedback.h - GPTQ over a whole model: takes calibration data through it layer
 * by layer, and encodes a layer's matrices with error feedback (gptq.h) by the
 * statistics of their inputs, before the layer is run once more with what was
 * encoded: later layers see the inputs that they will have in the quantized
 * model (quantization.md 3).
 * Resident are the graph's buffers for one chunk and the statistics of a layer,
 * or of as many of its inputs as the limit allows; rows between the layers and
 * encoded matrices are in files (bise_map_scratch).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_QUANTIZE_FEEDBACK_H
#define BISE_QUANTIZE_FEEDBACK_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/file.h"
#include "core/pool.h"
#include "core/progress.h"
#include "model/graph.h"
#include "pipeline/plan.h"

typedef struct bise_feedback_options {
    const bise_batch *batches;   /* [n_batches] the data, in chunks */
    size_t n_batches;
    int32_t max_tokens;          /* of a chunk */
    bise_lora *const *loras;     /* that the plan merges; [n_loras] */
    int32_t n_loras;
    const char *path;            /* of the output: files lie beside it */
    uint64_t memory_bytes;       /* for statistics; 0: a quarter of what is
                                    free. Does not change the result. */
    bise_pool *pool;
    const bise_progress *progress;
} bise_feedback_options;

/* Zero-initialise. Lives as long as the plan is run. */
typedef struct bise_feedback {
    bise_map codes;
    size_t tensors;              /* encoded with feedback */
    size_t plain;                /* quantized matrices of layers that are not */
} bise_feedback;

/* Encode the plan's matrices: the runner then writes them as they are. Left to
 * the plain encoder are embedding and output, types without a grid (grid.h),
 * rows stored as the type already, and the heads of latent attention. p is of
 * bise_quantize_plan for model c. Same bytes for any number of threads and any
 * memory. Errors name the tensor; one of an activation also the layer and the
 * token. */
BISE_NODISCARD bise_status bise_feedback_run(bise_feedback *f, bise_plan *p,
                                             const bise_checkpoint *c,
                                             const bise_feedback_options *o,
                                             bise_error *err);
/* Most bytes of memory that bise_feedback_run takes beside the weights; of o
 * the data is not looked at. */
BISE_NODISCARD bise_status bise_feedback_memory(uint64_t *bytes,
                                                const bise_plan *p,
                                                const bise_checkpoint *c,
                                                const bise_feedback_options *o,
                                                bise_error *err);
void bise_feedback_close(bise_feedback *f);

#endif
