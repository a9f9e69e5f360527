/* safetensors.h - the safetensors container.
 * Layout: u64 LE header length | JSON header | data. The header maps tensor
 * name -> {dtype, shape, data_offsets [begin, end)} relative to the data, plus
 * "__metadata__" (string -> string). Reading maps the file and checks every
 * field: types, shapes against byte ranges, overlaps, gaps, duplicate keys.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_SAFETENSORS_H
#define BISE_FORMATS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/str.h"
#include "core/strmap.h"
#include "core/tensor.h"

/* One opened file; tensors in order of their data offsets. */
typedef struct bise_st {
    bise_map map;
    bise_json *meta;      /* __metadata__ object or NULL */
    bise_tensor *tensors;
    size_t n_tensors;
    bise_strmap names;
    bise_json *header;
} bise_st;

BISE_NODISCARD bise_status bise_st_open(bise_st *st, const char *path,
                                        bise_error *err);
/* Parse an image in memory (borrowed). */
BISE_NODISCARD bise_status bise_st_parse(bise_st *st, const void *data,
                                         uint64_t size, bise_error *err);
/* Unmap and release; safe on a zeroed object. */
void bise_st_close(bise_st *st);
/* Tensor by name, NULL when there is none. Borrowed. */
const bise_tensor *bise_st_find(const bise_st *st, const char *name);

/* Serialise the header (length word included, padded with blanks so that the
 * data starts at a multiple of 8) for tensors in this order; fills bytes and
 * sets offset relative to the data. meta: object of strings or NULL;
 * {"format":"pt"} is added when it has no "format". */
BISE_NODISCARD bise_status bise_st_header(bise_str *out, const bise_json *meta,
                                          bise_tensor *tensors, size_t n,
                                          uint64_t *data_bytes,
                                          bise_error *err);
/* Write a whole small file at once: each tensor's data is in memory. */
BISE_NODISCARD bise_status bise_st_save(const char *path, const bise_json *meta,
                                        const bise_tensor *tensors, size_t n,
                                        bise_error *err);

#endif
