/* layout.h - private to formats/: what store.c and the layouts of formats.def
 * share. A layout recognizes itself in a source and names the weight files;
 * store.c opens them and joins their tensors.
 * A layout must not read tensors or side files it does not need to tell what
 * it has: opening a model must stay cheap.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_LAYOUT_H
#define BISE_FORMATS_LAYOUT_H

#include "core/strmap.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/source.h"
#include "formats/store.h"

/* One weight file of a store. */
typedef struct bise_shard {
    const char *name, *path; /* relative; for messages */
    bise_image img;
    bise_st st;              /* one of the two is open */
    bise_gguf gguf;
} bise_shard;

typedef struct bise_format bise_format;

struct bise_store {
    const bise_format *format;
    bise_store_kind kind;
    bise_source *src;
    char *path;
    bise_shard *shards;
    size_t n_shards;
    bise_tensor *tensors;
    size_t n_tensors;
    bise_strmap names;
    const char **side;       /* names of the side files */
    size_t n_side;
};

struct bise_format {
    const char *name;        /* as bise_store_format tells it */
    bise_store_kind kind;
    /* Does the source hold this layout? */
    bool (*probe)(bise_source *src);
    /* Open the weight files with bise_store_add_shard and check the set. */
    bise_status (*open)(bise_store *s, bise_error *err);
};

#define BISE_FORMAT(name) extern const bise_format bise_format_##name;
#include "formats/formats.def"
#undef BISE_FORMAT

/* Open one safetensors or GGUF file of the source as the next shard. Its name
 * must be a plain file name (checked here: it may come from a file). */
BISE_NODISCARD bise_status bise_store_add_shard(bise_store *s,
                                                const char *name,
                                                bise_error *err);
/* Open the shards that an index JSON names, in name order, and check that each
 * tensor of its weight_map is in the shard it names. */
BISE_NODISCARD bise_status bise_store_add_index(bise_store *s,
                                                const char *index,
                                                bise_error *err);
/* As bise_store_open, from a source that is taken (closed on failure too). */
BISE_NODISCARD bise_status bise_store_take_source(bise_store **out,
                                                  bise_source *src,
                                                  const char *path,
                                                  bise_error *err);
/* First bytes of a file of the source; returns how many (0 on failure). */
size_t bise_source_head(bise_source *src, const char *name, void *out,
                        size_t n);

#endif
