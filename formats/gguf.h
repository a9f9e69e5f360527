/* gguf.h - GGUF v3: key-values as an ordered list that can be read from a file
 * or built in memory, the reader of one file, and the header writer.
 * Layout: magic, version, counts | key-values | tensor infos | padding to the
 * alignment | tensor data, each padded (gguf.md 1). Little endian only.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_GGUF_H
#define BISE_FORMATS_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "core/strmap.h"
#include "core/tensor.h"

#define BISE_GGUF_ALIGNMENT 32
#define BISE_GGUF_NAME_MAX 63

typedef enum {
    BISE_GGUF_U8, BISE_GGUF_I8, BISE_GGUF_U16, BISE_GGUF_I16, BISE_GGUF_U32,
    BISE_GGUF_I32, BISE_GGUF_F32, BISE_GGUF_BOOL, BISE_GGUF_STR,
    BISE_GGUF_ARRAY, BISE_GGUF_U64, BISE_GGUF_I64, BISE_GGUF_F64
} bise_gguf_type;

/* One key-value. data holds the value as in the file: a little-endian scalar,
 * the bytes of a string (count = length), or the elements of an array back to
 * back (strings each with their u64 length). */
typedef struct bise_gguf_kv {
    char *key;
    bise_gguf_type type, elem; /* elem only for arrays */
    uint64_t count;            /* elements, or bytes of a string, or 1 */
    const uint8_t *data;
    uint64_t bytes;            /* size of data */
} bise_gguf_kv;

/* An ordered list of key-values. Zero-initialise, release with _fini. */
typedef struct bise_gguf_meta {
    bise_gguf_kv *kv;
    size_t n, cap;
    bool failed;               /* an addition ran out of memory */
    bise_arena arena;
} bise_gguf_meta;

const bise_gguf_kv *bise_gguf_get(const bise_gguf_meta *m, const char *key);
/* Typed reads: any integer (or float) type converts; other when absent. */
int64_t bise_gguf_int(const bise_gguf_meta *m, const char *key, int64_t other);
/* Any number as double. */
double bise_gguf_float(const bise_gguf_meta *m, const char *key, double other);
/* Any number but zero is true. */
bool bise_gguf_flag(const bise_gguf_meta *m, const char *key, bool other);
/* String value and its length (n may be NULL); NULL when absent. Borrowed, not
 * NUL-terminated in general. */
const char *bise_gguf_str(const bise_gguf_meta *m, const char *key, size_t *n);
/* As a NUL-terminated copy in arena; NULL when absent. */
char *bise_gguf_strdup(const bise_gguf_meta *m, const char *key, bise_arena *a);
/* Walk an array of strings: *at starts at 0 (byte position in kv->data);
 * returns the next string and its length, NULL at the end. */
const char *bise_gguf_array_next(const bise_gguf_kv *kv, uint64_t *at,
                                 size_t *len);
/* Element i of a numeric array as double. i < kv->count. */
double bise_gguf_array_number(const bise_gguf_kv *kv, uint64_t i);

/* Set a key: replaces in place, or appends. Failures show in m->failed. */
void bise_gguf_set_u16(bise_gguf_meta *m, const char *key, uint16_t v);
/* u32, the usual type of counts and sizes. */
void bise_gguf_set_u32(bise_gguf_meta *m, const char *key, uint32_t v);
/* i32, for values that may be negative. */
void bise_gguf_set_i32(bise_gguf_meta *m, const char *key, int32_t v);
/* u64. */
void bise_gguf_set_u64(bise_gguf_meta *m, const char *key, uint64_t v);
/* f32, by its bits. */
void bise_gguf_set_f32(bise_gguf_meta *m, const char *key, float v);
/* bool, one byte. */
void bise_gguf_set_bool(bise_gguf_meta *m, const char *key, bool v);
/* A C string, copied. */
void bise_gguf_set_str(bise_gguf_meta *m, const char *key, const char *v);
/* A string of n bytes, copied; NUL bytes are fine. */
void bise_gguf_set_strn(bise_gguf_meta *m, const char *key, const char *v,
                        size_t n);
/* Numeric array: n elements of type elem, copied. */
void bise_gguf_set_array(bise_gguf_meta *m, const char *key,
                         bise_gguf_type elem, const void *data, uint64_t n);
/* Array of strings, built with _begin, any number of _add, _end. */
void bise_gguf_strings_begin(bise_str *buf);
/* Add one string of n bytes. */
void bise_gguf_strings_add(bise_str *buf, const char *s, size_t n);
/* Set the array of the n strings added to buf. */
void bise_gguf_set_strings(bise_gguf_meta *m, const char *key,
                           const bise_str *buf, uint64_t n);
/* Copy one key-value; remove a key; move a key to the end of the list. */
void bise_gguf_copy(bise_gguf_meta *m, const bise_gguf_kv *kv);
/* Remove a key; absent is fine. */
void bise_gguf_remove(bise_gguf_meta *m, const char *key);
/* Move a key to the end of the list; absent is fine. */
void bise_gguf_to_end(bise_gguf_meta *m, const char *key);
/* Release the list and the copies it holds. */
void bise_gguf_meta_fini(bise_gguf_meta *m);

/* One opened file: mapping, key-values, tensors in file order with row-major
 * dims (reversed from the file). Every field is checked (gguf.md 1.3). */
typedef struct bise_gguf {
    bise_map map;
    bise_gguf_meta meta;
    bise_tensor *tensors;
    size_t n_tensors;
    bise_strmap names;
    uint64_t data_offset, alignment;
} bise_gguf;

BISE_NODISCARD bise_status bise_gguf_open(bise_gguf *g, const char *path,
                                          bise_error *err);
/* Parse an image in memory (borrowed; not unmapped by _close). */
BISE_NODISCARD bise_status bise_gguf_parse(bise_gguf *g, const void *data,
                                           uint64_t size, bise_error *err);
/* Unmap and release; safe on a zeroed object. */
void bise_gguf_close(bise_gguf *g);
/* Tensor by name, NULL when there is none. Borrowed. */
const bise_tensor *bise_gguf_find(const bise_gguf *g, const char *name);

/* Serialise the header for tensors (name, dtype, dims row-major; bytes is
 * filled in, offset is set to the position in the data section) into out,
 * padded to the alignment. *data_bytes gets the size of the data section.
 * Trailing size-1 dimensions are trimmed as ggml's own writer does. */
BISE_NODISCARD bise_status bise_gguf_header(bise_str *out,
                                            const bise_gguf_meta *m,
                                            bise_tensor *tensors, size_t n,
                                            uint64_t *data_bytes,
                                            bise_error *err);
/* Write a whole small file at once: each tensor's data is in memory. */
BISE_NODISCARD bise_status bise_gguf_save(const char *path,
                                          const bise_gguf_meta *m,
                                          const bise_tensor *tensors, size_t n,
                                          bise_error *err);

#endif
