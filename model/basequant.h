/* basequant.h - a quantized copy, in memory, of the frozen linear layers of a
 * model (QLoRA: Dettmers et al. 2023; lora.md 12). Embedding, norms, head and
 * routers stay as they are stored. The copy is made once, slab by slab on all
 * threads; of the source only the slabs being read are resident. Block types
 * get the bytes that `bise quantize --pure` without an importance matrix gives
 * their rows; NF4 those of bitsandbytes, with double quantization. I8, for int8
 * computation, has a scale per row (kernels/panel8.h) and is made of any type.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_BASEQUANT_H
#define BISE_MODEL_BASEQUANT_H

#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "core/progress.h"
#include "model/checkpoint.h"

typedef struct bise_basequant bise_basequant;

/* True for the weights that are quantized: matrices of layers, not routers. */
bool bise_basequant_takes(bise_role role);
/* Bytes of the copy in type t (NF4, I8 or a block type with an encoder), and of
 * the stored weights that it replaces (source may be NULL). Refuses a base
 * that is quantized already, and rows that t cannot cut into blocks. */
BISE_NODISCARD bise_status bise_basequant_plan(uint64_t *bytes,
                                               uint64_t *source,
                                               const bise_checkpoint *c,
                                               bise_dtype t, bise_error *err);
/* Make the copy and point c's weights at it (bise_weight.packed): linears made
 * from now on read it. Refuses weights that are not finite. Free before c is
 * closed, after everything that uses its linears. */
BISE_NODISCARD bise_status bise_basequant_new(bise_basequant **out,
                                              bise_checkpoint *c, bise_dtype t,
                                              bise_pool *pool,
                                              const bise_progress *progress,
                                              bise_error *err);
void bise_basequant_free(bise_basequant *b);

#endif
