/* store.h - an opened collection of tensors with its side files: a Hugging
 * Face directory (one or many safetensors files), a Mistral native directory,
 * a GGUF file (or its splits), a single safetensors file, or an archive of
 * `bise pack`. What it is is found by content, not by name (formats.def).
 * Everything handed out is borrowed and lives until bise_store_close.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_STORE_H
#define BISE_FORMATS_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "core/str.h"
#include "core/tensor.h"

typedef struct bise_store bise_store;
struct bise_gguf_meta;

typedef enum {
    BISE_STORE_SAFETENSORS, /* HF directory or single file */
    BISE_STORE_NATIVE,      /* params.json + consolidated*.safetensors */
    BISE_STORE_GGUF,        /* one GGUF file or all of its splits */
    BISE_STORE_ARCHIVE      /* tar.zst; its inner layout via _inner_kind */
} bise_store_kind;

/* Open whatever path holds. A directory that has both the HF and the native
 * layout is opened as HF. Fails with path, offset, found and expected. */
BISE_NODISCARD bise_status bise_store_open(bise_store **out, const char *path,
                                           bise_error *err);
/* Release everything that was handed out. NULL is fine. */
void bise_store_close(bise_store *s);

/* What was opened, BISE_STORE_ARCHIVE included. */
bise_store_kind bise_store_kind_of(const bise_store *s);
/* For an archive the kind of model inside, else the same as _kind_of. */
bise_store_kind bise_store_inner_kind(const bise_store *s);
/* "safetensors", "native", "gguf", "archive". */
const char *bise_store_format(const bise_store *s);
/* The path given to _open, and the file that holds a tensor. */
const char *bise_store_path(const bise_store *s);
/* Path of the file that holds a tensor, for messages. */
const char *bise_store_tensor_file(const bise_store *s, const bise_tensor *t);

/* Tensors in file order (shards in order of their numbers). */
size_t bise_store_count(const bise_store *s);
/* Tensor i, below _count. Borrowed. */
const bise_tensor *bise_store_at(const bise_store *s, size_t i);
/* Tensor by its name in the file; NULL when there is none. */
const bise_tensor *bise_store_find(const bise_store *s, const char *name);

/* The whole tensor in memory: inside a mapping where possible, else (packed
 * archive members) unpacked once and kept. NULL *data never on BISE_OK unless
 * the tensor is empty. Thread-safe. */
BISE_NODISCARD bise_status bise_store_data(bise_store *s, const bise_tensor *t,
                                           const void **data, bise_error *err);
/* Bytes [first, first + n) of a tensor for streaming: *data points into the
 * mapping or to what was read ahead, until the calling thread releases them, or
 * into scratch (n bytes, the caller's). Thread-safe. */
BISE_NODISCARD bise_status bise_store_read(bise_store *s, const bise_tensor *t,
                                           uint64_t first, uint64_t n,
                                           void *scratch, const void **data,
                                           bise_error *err);
/* Will need soon / no longer needed: bytes of a tensor. Hints only. */
void bise_store_ahead(bise_store *s, const bise_tensor *t, uint64_t first,
                      uint64_t n);
/* These bytes are no longer needed; what is read later stays right. */
void bise_store_release(bise_store *s, const bise_tensor *t, uint64_t first,
                        uint64_t n);
/* Nothing of the weights that is mapped is needed for now: a kernel may map a
 * whole block of 2 MiB for one row that is touched. */
void bise_store_release_all(bise_store *s);

/* Side files (config.json, tekken.json, README.md, ...): relative names of
 * all files beside the weights; whether one is there; its content appended. */
size_t bise_store_file_count(const bise_store *s);
/* Name of side file i, below _file_count. */
const char *bise_store_file_at(const bise_store *s, size_t i);
/* Is this side file there? */
bool bise_store_has_file(const bise_store *s, const char *name);
/* Append the content of a side file to out. */
BISE_NODISCARD bise_status bise_store_file(bise_store *s, const char *name,
                                           bise_str *out, bise_error *err);
/* Parse a JSON side file; *out stays NULL (and BISE_OK) when it is absent. */
BISE_NODISCARD bise_status bise_store_json(bise_store *s, const char *name,
                                           bise_json **out, bise_error *err);

/* Value of a key in safetensors __metadata__ (first file), or NULL. */
const char *bise_store_meta(const bise_store *s, const char *key);
/* The whole __metadata__ object (first file), or NULL. Borrowed. */
const bise_json *bise_store_metadata(const bise_store *s);
/* Key-values of a GGUF, NULL for other kinds. */
const struct bise_gguf_meta *bise_store_gguf(const bise_store *s);

#endif
