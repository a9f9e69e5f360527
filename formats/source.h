/* source.h - where a store's files come from: a directory, a single file, or
 * the members of an archive, behind one small table of functions. Names are
 * relative. Used only inside formats/ and by deploy/verify.
 * To add a kind: a file with a static bise_source_ops and an open function
 * that fills a bise_source; copy and need may stay NULL when no image is lazy,
 * and ahead, view and release where the image is all there is.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_SOURCE_H
#define BISE_FORMATS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/mem.h"
#include "core/str.h"

typedef struct bise_source bise_source;

/* One file as memory. Bytes may have to be asked for with bise_source_need
 * before they are read (lazy: packed members); of a mapping all are there. */
typedef struct bise_image {
    const uint8_t *data;
    uint64_t size;
    bool lazy;
    void *handle; /* the source's own */
} bise_image;

/* What a kind of source can do; see the functions of the same name. */
typedef struct bise_source_ops {
    bool (*has)(const bise_source *s, const char *name);
    bise_status (*image)(bise_source *s, const char *name, bise_image *img,
                         bise_error *err);
    bise_status (*need)(bise_source *s, const bise_image *img, uint64_t first,
                        uint64_t n, bise_error *err);
    bise_status (*copy)(bise_source *s, const bise_image *img, uint64_t first,
                        uint64_t n, void *out, bise_error *err);
    void (*ahead)(bise_source *s, const bise_image *img, uint64_t first,
                  uint64_t n);
    const void *(*view)(bise_source *s, const bise_image *img, uint64_t first,
                        uint64_t n, void *scratch);
    void (*release)(bise_source *s, const bise_image *img, uint64_t first,
                    uint64_t n);
    void (*drop)(bise_source *s, bise_image *img);
    void (*close)(bise_source *s);
} bise_source_ops;

struct bise_source {
    const bise_source_ops *ops;
    char *root;      /* directory of the names, or the archive */
    char **names;    /* regular files, sorted bytewise */
    size_t n_names;
    bool single;     /* opened as one file, not as a directory */
    bise_arena arena;
    void *handle;    /* the kind's own */
};

/* A directory (its regular files, not its folders), or one file of it. */
BISE_NODISCARD bise_status bise_source_open_path(bise_source **out,
                                                 const char *path,
                                                 bise_error *err);
/* Close after all images have been dropped. NULL is fine. */
void bise_source_close(bise_source *s);
/* Is there a file of this name? */
bool bise_source_has(const bise_source *s, const char *name);
/* Path for messages: "root/name" in arena memory of s. */
const char *bise_source_path(bise_source *s, const char *name);
/* Map one file; drop it before the source closes. */
BISE_NODISCARD bise_status bise_source_image(bise_source *s, const char *name,
                                             bise_image *img, bise_error *err);
/* Make bytes [first, first + n) of a lazy image readable. Thread-safe. */
BISE_NODISCARD bise_status bise_source_need(bise_source *s,
                                            const bise_image *img,
                                            uint64_t first, uint64_t n,
                                            bise_error *err);
/* Unpack bytes into out without keeping them. Thread-safe. */
BISE_NODISCARD bise_status bise_source_copy(bise_source *s,
                                            const bise_image *img,
                                            uint64_t first, uint64_t n,
                                            void *out, bise_error *err);
/* Bytes will be viewed soon: a hint. */
void bise_source_ahead(bise_source *s, const bise_image *img, uint64_t first,
                       uint64_t n);
/* Bytes for the calling thread, until it releases them: where the image has
 * them, or unpacked or copied to scratch (n bytes, the caller's). Thread-safe.
 */
BISE_NODISCARD bise_status bise_source_view(bise_source *s,
                                            const bise_image *img,
                                            uint64_t first, uint64_t n,
                                            void *scratch, const void **data,
                                            bise_error *err);
/* The calling thread needs these bytes no longer. */
void bise_source_release(bise_source *s, const bise_image *img,
                         uint64_t first, uint64_t n);
/* Give an image back. A zero image is fine. */
void bise_source_drop(bise_source *s, bise_image *img);
/* Append the whole file to out. */
BISE_NODISCARD bise_status bise_source_read(bise_source *s, const char *name,
                                            bise_str *out, bise_error *err);

#endif
