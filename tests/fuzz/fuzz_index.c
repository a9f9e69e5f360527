/* fuzz_index.c - any bytes as model.safetensors.index.json of a directory that
 * holds two small shards: the store opens or refuses, and whatever it opens
 * came from these two files. The directory is a source in memory.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "formats/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The three files; the handle of the source. */
typedef struct memory {
    const char *name[3];
    const uint8_t *data[3];
    size_t size[3];
} memory;

static int find(const bise_source *s, const char *name)
{
    const memory *m = s->handle;
    for (int i = 0; i < 3; i++)
        if (strcmp(m->name[i], name) == 0)
            return i;
    return -1;
}

static bool mem_has(const bise_source *s, const char *name)
{
    return find(s, name) >= 0;
}

static bise_status mem_image(bise_source *s, const char *name, bise_image *img,
                             bise_error *err)
{
    const memory *m = s->handle;
    const int i = find(s, name);
    if (i < 0)
        return bise_fail(err, BISE_EIO, "no such file");
    *img = (bise_image){ .data = m->data[i], .size = m->size[i] };
    return BISE_OK;
}

static void mem_drop(bise_source *s, bise_image *img)
{
    (void)s;
    (void)img;
}

/* A safetensors image with one F32 of the given name. */
static size_t make_shard(uint8_t out[128], const char *name)
{
    const int n = snprintf((char *)out + 8, 112, "{\"%s\":{\"dtype\":\"F32\","
                           "\"shape\":[1],\"data_offsets\":[0,4]}}", name);
    bise_store_le64(out, (uint64_t)n);
    memset(out + 8 + n, 0, 4);
    return (size_t)n + 12;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const bise_source_ops ops = {
        .has = mem_has, .image = mem_image, .drop = mem_drop
    };
    uint8_t a[128], b[128];
    memory m = { { "model.safetensors.index.json", "a.safetensors",
                   "b.safetensors" }, { data, a, b }, { size, 0, 0 } };
    m.size[1] = make_shard(a, "x");
    m.size[2] = make_shard(b, "y");
    bise_source *src = bise_alloc(sizeof *src);
    src->ops = &ops;
    src->handle = &m;
    src->root = bise_arena_strdup(&src->arena, "dir");
    src->names = bise_arena_alloc(&src->arena, 3 * sizeof *src->names);
    for (int i = 0; i < 3; i++)
        src->names[i] = bise_arena_strdup(&src->arena, m.name[i]);
    src->n_names = 3;
    bise_error err;
    bise_store *s = NULL;
    bise_error_init(&err);
    const bise_status st = bise_store_take_source(&s, src, "dir", &err);
    if (st != BISE_OK ? !err.text[0] : bise_store_count(s) > 2)
        abort();
    bise_store_close(s);
    return 0;
}
