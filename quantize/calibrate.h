/* calibrate.h - collects what an importance matrix needs while a model runs:
 * for every linear layer inside the blocks the sum of squares of each input
 * column and the number of rows, per expert (gguf.md 8.3). Install
 * bise_collector_tap in a graph's options. Sums are kept in double and in
 * token order, so they do not depend on threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_QUANTIZE_CALIBRATE_H
#define BISE_QUANTIZE_CALIBRATE_H

#include "core/error.h"
#include "core/pool.h"
#include "model/config.h"
#include "model/role.h"
#include "quantize/imatrix.h"

/* Memory: 8 bytes for each input column of each linear layer (and expert),
 * about 10 MB for a model of 8 B parameters. Time: two operations for each
 * input, against two for each weight and input of the layer itself.
 */
typedef struct bise_collector bise_collector;

BISE_NODISCARD bise_status bise_collector_new(bise_collector **out,
                                              const bise_config *g,
                                              bise_pool *pool,
                                              bise_error *err);
void bise_collector_free(bise_collector *c);
/* The tap: ctx is the collector. A value that is not finite is an error that
 * names tensor and token. */
BISE_NODISCARD bise_status bise_collector_tap(void *ctx, bise_role role,
                                              const float *x, int32_t T,
                                              int32_t in, bise_error *err);
/* Number of the first token of the next forward, for such errors. */
void bise_collector_at(bise_collector *c, uint64_t token);
/* BISE_EFORMAT when one of the inputs x [T, in] of a linear layer is not finite:
 * names layer, tensor and token; token: number of the first. */
BISE_NODISCARD bise_status bise_check_inputs(const bise_config *g,
                                             bise_role role, const float *x,
                                             int32_t T, int32_t in,
                                             uint64_t token, bise_error *err);
/* The sums as entries of m; entries that m has already (an earlier part of the
 * same run) are added to. */
BISE_NODISCARD bise_status bise_collector_take(const bise_collector *c,
                                               bise_imatrix *m,
                                               bise_error *err);

#endif
