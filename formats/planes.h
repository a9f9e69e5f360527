/* planes.h - byte planes: a reversible reordering of 16-bit weights that lets
 * zstd see their exponents together. A file in this form is
 *   "BISEPLN1" | u32 chunk | u32 n | u64 size | n x (u64 start, u64 end,
 *   u64 kind) | size bytes, chunk by chunk
 * and is stored under NAME.planes. In each chunk come first the bytes outside
 * of the ranges, then the high bytes of all weights, then the low bytes; a
 * bfloat16 is rotated left by one bit before, which leaves the exponent alone
 * in the high byte. Sizes do not change, so any chunk is found at once.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_PLANES_H
#define BISE_FORMATS_PLANES_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"
#include "core/tensor.h"

#define BISE_PLANES_CHUNK (UINT32_C(4) << 20)

typedef enum { BISE_PLANES_F16 = 1, BISE_PLANES_BF16 = 2 } bise_planes_kind;

/* Bytes [start, end) of the file hold 16-bit weights. */
typedef struct bise_planes_range {
    uint64_t start, end;
    bise_planes_kind kind;
} bise_planes_range;

/* Ranges in rising order, not overlapping. Owns the array. */
typedef struct bise_planes {
    uint64_t size;
    bise_planes_range *ranges;
    size_t n;
} bise_planes;

/* Find the 16-bit weights of a safetensors or GGUF image; n stays 0 when there
 * are none worth it, or when the file is of another kind. */
BISE_NODISCARD bise_status bise_planes_find(bise_planes *p, const void *image,
                                            uint64_t size, bise_error *err);
/* The same of a file that is still to be written: its size, and its n tensors
 * in order with their types, absolute offsets and bytes. */
BISE_NODISCARD bise_status bise_planes_of(bise_planes *p,
                                          const bise_tensor *tensors, size_t n,
                                          uint64_t size, bise_error *err);
/* Release the ranges. */
void bise_planes_fini(bise_planes *p);
/* Size of the header, and the header itself. */
uint64_t bise_planes_head_bytes(const bise_planes *p);
/* Append the header to out. */
void bise_planes_put_head(bise_str *out, const bise_planes *p);
/* Parse a header within n bytes. */
BISE_NODISCARD bise_status bise_planes_get_head(bise_planes *p,
                                                const void *data, uint64_t n,
                                                bise_error *err);
/* Reorder the n bytes of the file at position at (a multiple of the chunk, n
 * at most a chunk) into out. Returns how many bytes come before the low
 * plane, which is the part not worth compressing. */
size_t bise_planes_split(uint8_t *out, const uint8_t *in, size_t n,
                         uint64_t at, const bise_planes *p);
/* The reverse. */
void bise_planes_join(uint8_t *out, const uint8_t *in, size_t n, uint64_t at,
                      const bise_planes *p);

#endif
