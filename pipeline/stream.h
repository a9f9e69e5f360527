/* stream.h - rows of one output tensor on demand. A stream is a short stack of
 * stages, each with one method: stored rows (decoded, FP8 scales applied) ->
 * rows permuted inside heads -> + s B A of each adapter -> float32 rows; or
 * the stored bytes themselves while no stage changes a value. Streams are made
 * in an arena from headers only, hold no buffers, and are read by any number
 * of threads, each with its own scratch. Nothing here knows target types.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_PIPELINE_STREAM_H
#define BISE_PIPELINE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/mem.h"
#include "core/tensor.h"
#include "formats/store.h"
#include "model/checkpoint.h"
#include "model/lora.h"

/* An example: q_proj of a Hugging Face checkpoint with one adapter, on its way
 * to GGUF, is the stack
 *
 *   permute half -> interleaved     rows(first, n): row i of a head is row ...
 *   lora                            row += s * (b A)
 *   stored F8_E4M3 [4096, 4096]     decode(bytes) * scale
 *
 * Without the adapter and with BF16 weights the stack is permute over stored,
 * its type is BF16, and an output of type BF16 gets gathered bytes: no weight
 * is ever decoded. With equal row orders there is one stage, and the bytes
 * handed out are those of the mapping.
 */
typedef struct bise_stream bise_stream;

/* Buffers of one thread, grown on first use. Zero-initialise. */
typedef struct bise_scratch {
    uint8_t *raw, *bytes; /* unpacked rows; gathered rows */
    float *delta;         /* one row of B A */
    float *line;          /* one row of a group to be transposed */
    size_t raw_cap, bytes_cap, delta_cap, line_cap;
} bise_scratch;

void bise_scratch_fini(bise_scratch *w);

/* Stages. All return NULL when the arena is out of memory; what they point to
 * is borrowed. */

/* Rows of a stored tensor as they are. */
const bise_stream *bise_stream_tensor(bise_arena *a, bise_store *s,
                                      const bise_tensor *t);
/* Rows of a model's weight: its FP8 scales are applied. */
const bise_stream *bise_stream_weight(bise_arena *a, bise_store *s,
                                      const bise_weight *w);
/* Rows of a float32 matrix in memory. */
const bise_stream *bise_stream_memory(bise_arena *a, const float *data,
                                      uint64_t rows, uint64_t cols);
/* Reorder rows inside each of heads heads from one layout to another: half row
 * b D/2 + i is interleaved row 2i + b (mistral3.md 2.6). */
const bise_stream *bise_stream_permute(bise_arena *a, const bise_stream *below,
                                       int32_t heads, bise_rows from,
                                       bise_rows to);
/* Add s B A of an adapter, then its DoRA norm. below is in half row order.
 * A module whose input is the number of rows adds (B A)^T: an embedding. */
const bise_stream *bise_stream_lora(bise_arena *a, const bise_stream *below,
                                    const bise_lora_module *m);
/* Parts one after another along the rows; all have the same columns. */
const bise_stream *bise_stream_stack(bise_arena *a,
                                     const bise_stream *const *parts,
                                     size_t n);
/* Rows [first, first + n) of below. */
const bise_stream *bise_stream_slice(bise_arena *a, const bise_stream *below,
                                     uint64_t first, uint64_t n);
/* The transpose of each of n equal groups of rows of below: group g of r rows
 * by c columns becomes c rows of r. For small matrices: a row costs r reads. */
const bise_stream *bise_stream_transpose(bise_arena *a,
                                         const bise_stream *below, uint64_t n);

uint64_t bise_stream_rows(const bise_stream *s);
uint64_t bise_stream_cols(const bise_stream *s);
/* Type of the bytes that bise_stream_raw gives, BISE_DTYPE_NONE when a stage
 * changes values and only float32 rows can be had. */
bise_dtype bise_stream_dtype(const bise_stream *s);
/* Stored bytes of the whole stream, for reports; 0 for memory. */
uint64_t bise_stream_bytes(const bise_stream *s);
/* The stream below all adapters: what stood there before merging. NULL when
 * the stream has none. */
const bise_stream *bise_stream_base(bise_arena *a, const bise_stream *s);

/* Rows [first, first + n) as float32 into out [n, cols]. */
BISE_NODISCARD bise_status bise_stream_read(const bise_stream *s, float *out,
                                            uint64_t first, uint64_t n,
                                            bise_scratch *w, bise_error *err);
/* The stored bytes of those rows: *data points into the mapping or into w and
 * is valid until w is used again. Only when bise_stream_dtype is a type. */
BISE_NODISCARD bise_status bise_stream_raw(const bise_stream *s,
                                           const void **data, uint64_t first,
                                           uint64_t n, bise_scratch *w,
                                           bise_error *err);
/* Rows will be needed soon (ahead), or are no longer. */
void bise_stream_hint(const bise_stream *s, uint64_t first, uint64_t n,
                      bool ahead);

#endif
