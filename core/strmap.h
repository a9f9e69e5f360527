/* strmap.h - byte string -> index (uint32_t) hash map with open addressing,
 * for tensor names and vocabularies. Keys are borrowed: they must outlive the
 * map. Zero-initialise, release with bise_strmap_fini.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_STRMAP_H
#define BISE_CORE_STRMAP_H

#include <stddef.h>
#include <stdint.h>

#include "core/attr.h"

#define BISE_STRMAP_NONE UINT32_MAX

typedef struct bise_strmap_slot {
    const char *key;
    uint32_t len, value, hash;
} bise_strmap_slot;

typedef struct bise_strmap {
    bise_strmap_slot *slots;
    size_t mask, used; /* slots is a power of two: mask + 1 */
} bise_strmap;

/* Prepare for n keys. Returns 0, or -1 when out of memory. */
BISE_NODISCARD int bise_strmap_init(bise_strmap *m, size_t n);
/* Add key -> value. Returns 0 added, 1 when the key was there (unchanged), -1
 * out of memory. */
BISE_NODISCARD int bise_strmap_add(bise_strmap *m, const char *key, size_t len,
                                   uint32_t value);
/* Value of a key, BISE_STRMAP_NONE when absent. */
uint32_t bise_strmap_find(const bise_strmap *m, const char *key, size_t len);
void bise_strmap_fini(bise_strmap *m);

#endif
