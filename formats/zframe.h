/* zframe.h - independent zstd frames and the table that finds them (zstd's
 * seekable format, contrib/seekable_format): each frame holds up to a few MiB,
 * is compressed or, where that gains nothing, stored in raw blocks; the table
 * is a skippable frame at the end of the file.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_ZFRAME_H
#define BISE_FORMATS_ZFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

#define BISE_ZFRAME_MAX (UINT32_C(64) << 20) /* bytes in a frame we read */

/* State of one thread for packing and unpacking. */
typedef struct bise_zcoder bise_zcoder;

/* NULL when out of memory. */
bise_zcoder *bise_zcoder_new(void);
/* NULL is fine. */
void bise_zcoder_free(bise_zcoder *z);

/* Room that a frame of n bytes can take. */
size_t bise_zframe_bound(size_t n);
/* Store n bytes (below 4 GiB) in raw blocks; returns the frame's size. */
size_t bise_zframe_store(void *out, const void *data, size_t n);
/* Level for data without repetitions whose symbols are few (exponents): short
 * matches are not looked for, which is three times as fast as level 1, unpacks
 * twice as fast and is a tenth smaller. */
#define BISE_ZFRAME_SYMBOLS (-1)
/* Compress n bytes at level, or store them when that gains less than 2 %.
 * Returns the frame's size, 0 when zstd failed (memory). */
size_t bise_zframe_pack(bise_zcoder *z, void *out, const void *data, size_t n,
                        int level);
/* Low half of the XXH64 of what a frame of ours holds: it ends with that. */
uint32_t bise_zframe_check(const void *frame, size_t packed);
/* Unpack the frame at data into exactly n bytes; false when it is damaged. */
bool bise_zframe_unpack(bise_zcoder *z, void *out, size_t n, const void *data,
                        size_t packed);

/* One frame: where it stands in the file, and in the unpacked stream. */
typedef struct bise_frame {
    uint64_t at, pos;
    uint32_t packed, bytes, check;
} bise_frame;

/* Append the seek table of n frames to out. */
void bise_zframe_put_table(bise_str *out, const bise_frame *frames, size_t n);
/* Read the seek table at the end of a file of size bytes; *frames is an array
 * of *n (bise_free). Every frame is inside the file and they tile it. */
BISE_NODISCARD bise_status bise_zframe_get_table(bise_frame **frames,
                                                 size_t *n,
                                                 const uint8_t *file,
                                                 uint64_t size,
                                                 bise_error *err);

#endif
