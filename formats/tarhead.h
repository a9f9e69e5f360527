/* tarhead.h - the bytes before a member of a tar file: a ustar header, with a
 * pax header in front when the name or the size needs one. Always the same
 * bytes for the same facts, so that archives can be reproduced and compared.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_TARHEAD_H
#define BISE_FORMATS_TARHEAD_H

#include <stdint.h>

#include "core/str.h"

/* What is known of a member. A name that ends in '/' is a folder. */
typedef struct bise_tarhead {
    const char *name;
    uint64_t bytes;
    unsigned mode; /* permission bits */
    int64_t mtime; /* seconds since 1970 */
} bise_tarhead;

/* Append the header blocks (a multiple of 512 bytes). */
void bise_tarhead_put(bise_str *out, const bise_tarhead *h);
/* Bytes of zero padding after a member's data. */
static inline uint64_t bise_tar_padding(uint64_t bytes)
{
    return (512 - bytes % 512) % 512;
}

#endif
