/* xxh64.h - the 64-bit xxHash of a buffer, whose low 32 bits zstd stores as
 * the checksum of a frame and of each entry of a seek table.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_XXH64_H
#define BISE_FORMATS_XXH64_H

#include <stddef.h>
#include <stdint.h>

/* XXH64 of n bytes with seed 0. */
uint64_t bise_xxh64(const void *data, size_t n);

#endif
