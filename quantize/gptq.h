/* gptq.h - quantization with error feedback on the grids of GGUF (GPTQ, Frantar
 * et al. 2022, in the form of LDLQ; quantization.md 3 and 4). A block's scales
 * are those of the type's search over the weights as the errors before have
 * moved them; then its columns are rounded one after another, and each error
 * moves the weights of the columns after it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_QUANTIZE_GPTQ_H
#define BISE_QUANTIZE_GPTQ_H

#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "kernels/grid.h"
#include "pipeline/stream.h"
#include "quantize/hessian.h"

/* Memory of a thread for each column: two floats of each of its rows. */
enum { BISE_GPTQ_ROWS = 64, BISE_GPTQ_LANE_BYTES = 2 * 4 * BISE_GPTQ_ROWS };

/* Encode rows [first, first + rows) of a stream into dst, rows of encoded bytes
 * one after another, by a factored Hessian of their input. name stands in
 * errors: BISE_EFORMAT for a weight that is not finite. Rows are independent
 * and are shared among the threads. */
BISE_NODISCARD bise_status bise_gptq_encode(uint8_t *dst,
                                            const bise_stream *rows_of,
                                            uint64_t first, uint64_t rows,
                                            const bise_grid *grid,
                                            const bise_hessian *h,
                                            const char *name, bise_pool *pool,
                                            bise_error *err);

#endif
