/* store.c - open whatever a path holds (store.h): find the layout, open its
 * weight files, join their tensors under one name map, list the side files.
 * Layouts only name files; every check of a file is in its reader.
 * Order of tensors: shards by name, tensors by position in their file, which
 * is the order of reading at the speed of the disk.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/store.h"

#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "formats/archive.h"
#include "formats/layout.h"

#define MAX_SHARDS 100000

static const bise_format *const formats[] = {
#define BISE_FORMAT(name) &bise_format_##name,
#include "formats/formats.def"
#undef BISE_FORMAT
};

/* Without an error object: only used to guess what a file is. */
size_t bise_source_head(bise_source *src, const char *name, void *out, size_t n)
{
    bise_image img;
    bise_error err;
    bise_error_init(&err);
    if (bise_source_image(src, name, &img, &err) != BISE_OK)
        return 0;
    if (n > img.size)
        n = (size_t)img.size;
    if (bise_source_copy(src, &img, 0, n, out, &err) != BISE_OK)
        n = 0;
    bise_source_drop(src, &img);
    return n;
}

/* A header may be longer than what is unpacked at first: of a lazy image,
 * unpack more and more until the whole header was there to be read. */
static bise_status parse_gguf(bise_store *s, bise_shard *sh, bise_error *err)
{
    uint64_t have = sh->img.lazy ? UINT64_C(1) << 20 : sh->img.size;
    for (;;) {
        if (have > sh->img.size)
            have = sh->img.size;
        bise_status st = bise_source_need(s->src, &sh->img, 0, have, err);
        if (st != BISE_OK)
            return st;
        st = bise_gguf_parse(&sh->gguf, sh->img.data, sh->img.size, err);
        if (have == sh->img.size ||
            (st == BISE_OK && sh->gguf.data_offset <= have))
            return st;
        bise_gguf_close(&sh->gguf);
        bise_error_init(err);
        have *= 4;
    }
}

/* The header's length stands in the first 8 bytes, which says how much of a
 * packed member must be unpacked before parsing. */
static bise_status parse_st(bise_store *s, bise_shard *sh, bise_error *err)
{
    const uint64_t size = sh->img.size;
    bise_status st = bise_source_need(s->src, &sh->img, 0, size < 8 ? size : 8,
                                      err);
    if (st == BISE_OK && size >= 8) {
        const uint64_t len = bise_load_le64(sh->img.data);
        st = bise_source_need(s->src, &sh->img, 0,
                              len > size - 8 ? 8 : 8 + len, err);
    }
    if (st == BISE_OK)
        st = bise_st_parse(&sh->st, sh->img.data, size, err);
    return st;
}

/* File names out of an index must not lead anywhere else. */
static bool plain_name(const char *name)
{
    return name[0] && name[0] != '.' && !strchr(name, '/') &&
           !strchr(name, '\\');
}

/* The array may move when it grows, so that nothing keeps a pointer to a
 * shard while others are added. What was opened so far is closed with the
 * store, whatever fails here. */
bise_status bise_store_add_shard(bise_store *s, const char *name,
                                 bise_error *err)
{
    if (!plain_name(name))
        return bise_fail(err, BISE_EFORMAT, "weight file name '%s' is not a "
                         "plain file name", name);
    if (s->n_shards >= MAX_SHARDS)
        return bise_fail(err, BISE_EFORMAT, "more than %d weight files",
                         MAX_SHARDS);
    bise_shard *grown = bise_realloc_array(s->shards, s->n_shards + 1,
                                           sizeof *grown);
    if (!grown)
        return bise_fail_nomem(err);
    s->shards = grown;
    bise_shard *sh = &s->shards[s->n_shards];
    memset(sh, 0, sizeof *sh);
    sh->name = bise_arena_strdup(&s->src->arena, name);
    if (!sh->name)
        return bise_fail_nomem(err);
    sh->path = s->src->single && s->n_shards == 0 ? s->path :
        bise_source_path(s->src, name);
    if (!bise_source_has(s->src, name)) {
        bise_status st = bise_fail(err, BISE_EIO, "missing weight file '%s'",
                                   name);
        st = bise_error_hint(err, "download or copy all parts of the model");
        return st = bise_error_in(err, sh->path, NULL);
    }
    s->n_shards++;                              /* closed with the store */
    bise_status st = bise_source_image(s->src, name, &sh->img, err);
    uint8_t magic[4] = { 0 };
    if (st == BISE_OK && sh->img.size >= 4)
        st = bise_source_copy(s->src, &sh->img, 0, 4, magic, err);
    if (st == BISE_OK)
        st = memcmp(magic, "GGUF", 4) == 0 || bise_ends_with(name, ".gguf") ?
            parse_gguf(s, sh, err) : parse_st(s, sh, err);
    return st == BISE_OK ? st : bise_error_in(err, sh->path, NULL);
}

/* Every tensor of weight_map must be in the shard that the map names. */
static bise_status check_map(bise_store *s, const bise_json *map,
                             const char *index, bise_error *err)
{
    for (void *it = bise_json_iter(map, NULL); it;
         it = bise_json_iter(map, it)) {
        const char *file = bise_json_string(bise_json_iter_value(it), NULL);
        const char *tensor = bise_json_iter_key(it);
        bool found = false;
        for (size_t i = 0; file && i < s->n_shards && !found; i++)
            found = strcmp(s->shards[i].name, file) == 0 &&
                    bise_st_find(&s->shards[i].st, tensor);
        if (!found) {
            bise_status st = bise_fail(err, BISE_EFORMAT,
                                       "the index places this tensor in '%s', "
                                       "which does not hold it",
                                       file ? file : "?");
            return st = bise_error_in(err, bise_source_path(s->src, index),
                                      tensor);
        }
    }
    return BISE_OK;
}

/* Quadratic in the number of files, which is small; needs no memory. */
static bise_status add_mapped(bise_store *s, const bise_json *map,
                              bise_error *err)
{
    /* Distinct files in byte order: each round takes the next higher name. */
    const char *last = "";
    for (;;) {
        const char *next = NULL;
        for (void *it = bise_json_iter(map, NULL); it;
             it = bise_json_iter(map, it)) {
            const char *f = bise_json_string(bise_json_iter_value(it), NULL);
            if (!f)
                return bise_fail(err, BISE_EFORMAT, "weight_map of '%s' is not "
                                 "a file name", bise_json_iter_key(it));
            if (strcmp(f, last) > 0 && (!next || strcmp(f, next) < 0))
                next = f;
            else if (!*f)
                return bise_fail(err, BISE_EFORMAT,
                                 "weight_map of '%s' is empty",
                                 bise_json_iter_key(it));
        }
        if (!next)
            return BISE_OK;
        const bise_status st = bise_store_add_shard(s, next, err);
        if (st != BISE_OK)
            return st;
        last = next;
    }
}

/* The JSON may name any number of files and tensors: files are opened first,
 * each checked by its reader, then every entry is looked up. */
bise_status bise_store_add_index(bise_store *s, const char *index,
                                 bise_error *err)
{
    bise_json *v = NULL;
    bise_status st = bise_store_json(s, index, &v, err);
    if (st != BISE_OK)
        return st;
    const bise_json *map = bise_json_get(v, "weight_map");
    if (bise_json_typeof(map) != BISE_JSON_OBJECT || !bise_json_size(map))
        st = bise_fail(err, BISE_EFORMAT, "index has no 'weight_map'");
    if (st == BISE_OK)
        st = add_mapped(s, map, err);
    if (st == BISE_OK)
        st = check_map(s, map, index, err);
    bise_json_free(v);
    return st == BISE_OK ? st :
        bise_error_in(err, bise_source_path(s->src, index), NULL);
}

/* Found in the shard of t after another one. */
static bise_status doubled(const bise_store *s, const bise_tensor *t,
                           bise_error *err)
{
    const uint32_t first = bise_strmap_find(&s->names, t->name,
                                            strlen(t->name));
    const char *other = s->shards[s->tensors[first].file].path;
    const char *slash = strrchr(other, '/');
    err->status = bise_fail(err, BISE_EFORMAT, "tensor stands in two files, "
                            "also in '%s'", slash ? slash + 1 : other);
    return bise_error_in(err, s->shards[t->file].path, t->name);
}

/* Join the shards' tensors; a name may stand only once. */
static bise_status join_tensors(bise_store *s, bise_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_shards; i++)
        n += s->shards[i].st.n_tensors + s->shards[i].gguf.n_tensors;
    s->tensors = bise_alloc_array(n + 1, sizeof *s->tensors);
    if (!s->tensors || bise_strmap_init(&s->names, n) != 0)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < s->n_shards; i++) {
        const bise_shard *sh = &s->shards[i];
        const size_t count = sh->st.n_tensors + sh->gguf.n_tensors;
        const bise_tensor *from = sh->st.n_tensors ? sh->st.tensors :
            sh->gguf.tensors;
        for (size_t j = 0; j < count; j++) {
            bise_tensor *t = &s->tensors[s->n_tensors];
            *t = from[j];
            t->file = (int)i;
            if (sh->img.lazy)
                t->data = NULL;                 /* bise_store_data only */
            const int added = bise_strmap_add(&s->names, t->name,
                                              strlen(t->name),
                                              (uint32_t)s->n_tensors);
            if (added < 0)
                return bise_fail_nomem(err);
            if (added > 0)
                return doubled(s, t, err);
            s->n_tensors++;
        }
    }
    return BISE_OK;
}

/* Weights in any format are not side files. */
static bool is_weights(const char *name)
{
    static const char *const ends[] = {
        ".safetensors", ".safetensors.index.json", ".gguf", ".bin", ".pth",
        ".pt", ".h5", ".msgpack", ".bin.index.json", ".part"
    };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (bise_ends_with(name, ends[i]))
            return true;
    return false;
}

/* Not for single files: their folder may hold anything. */
static bise_status list_side(bise_store *s, bise_error *err)
{
    const bise_source *src = s->src;
    s->side = bise_alloc_array(src->n_names + 1, sizeof *s->side);
    if (!s->side)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < src->n_names && !src->single; i++)
        if (!is_weights(src->names[i]))
            s->side[s->n_side++] = src->names[i];
    return BISE_OK;
}

/* Nothing matched: say what was found instead. */
static bise_status no_layout(bise_store *s, bise_error *err)
{
    bise_status st = bise_fail(err, BISE_EFORMAT,
                               s->src->single ?
                               "not a safetensors, GGUF or archive file" :
                               "no model here: neither *.safetensors nor "
                               "*.gguf files");
    for (size_t i = 0; i < s->src->n_names; i++)
        if (bise_ends_with(s->src->names[i], ".bin") ||
            bise_ends_with(s->src->names[i], ".pth"))
            st = bise_error_hint(err, "'%s' is a pickle file, which can run "
                                 "code and is not read; get the safetensors "
                                 "version", s->src->names[i]);
    return st = bise_error_in(err, s->path, NULL);
}

/* The first layout that recognizes the source opens it; its errors are
 * final, as they say more than "not recognized" would. */
static bise_status find_layout(bise_store *s, bise_error *err)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i]->probe(s->src)) {
            s->format = formats[i];
            bise_status st = s->format->open(s, err);
            if (st == BISE_OK)
                st = join_tensors(s, err);
            return st == BISE_OK ? list_side(s, err) : st;
        }
    return no_layout(s, err);
}

/* Shared by paths, archives and tests with sources in memory. */
bise_status bise_store_take_source(bise_store **out, bise_source *src,
                                   const char *path, bise_error *err)
{
    bise_store *s = bise_alloc(sizeof *s);
    if (!s || !(s->path = bise_strdup(path))) {
        bise_free(s);
        bise_source_close(src);
        return bise_fail_nomem(err);
    }
    s->src = src;
    const bise_status st = find_layout(s, err);
    if (st != BISE_OK) {
        bise_store_close(s);
        return bise_error_in(err, path, NULL);
    }
    s->kind = s->format->kind;
    *out = s;
    return BISE_OK;
}

/* Archives are told by their magic, everything else by layout. */
bise_status bise_store_open(bise_store **out, const char *path, bise_error *err)
{
    bise_source *src = NULL;
    const bool packed = bise_archive_probe(path);
    bise_status st = packed ? bise_archive_source(&src, path, err) :
        bise_source_open_path(&src, path, err);
    if (st == BISE_OK)
        st = bise_store_take_source(out, src, path, err);
    if (st == BISE_OK && packed)
        (*out)->kind = BISE_STORE_ARCHIVE;
    return st;
}

/* Shards before the source whose images they use; NULL is fine. */
void bise_store_close(bise_store *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_shards; i++) {
        bise_st_close(&s->shards[i].st);
        bise_gguf_close(&s->shards[i].gguf);
        bise_source_drop(s->src, &s->shards[i].img);
    }
    bise_free(s->shards);
    bise_free(s->tensors);
    bise_strmap_fini(&s->names);
    bise_free(s->side);
    bise_source_close(s->src);
    bise_free(s->path);
    bise_free(s);
}

/* How it was opened, the archive included. */
bise_store_kind bise_store_kind_of(const bise_store *s)
{
    return s->kind;
}

/* What names and quirks its tensors have. */
bise_store_kind bise_store_inner_kind(const bise_store *s)
{
    return s->format->kind;
}

/* For people and for JSON results. */
const char *bise_store_format(const bise_store *s)
{
    return s->kind == BISE_STORE_ARCHIVE ? "archive" : s->format->name;
}

/* As the user gave it, for messages and names. */
const char *bise_store_path(const bise_store *s)
{
    return s->path;
}

/* For an archive "archive/member". */
const char *bise_store_tensor_file(const bise_store *s, const bise_tensor *t)
{
    return s->shards[t->file].path;
}

/* Tensors of all files together. */
size_t bise_store_count(const bise_store *s)
{
    return s->n_tensors;
}

/* i below _count. */
const bise_tensor *bise_store_at(const bise_store *s, size_t i)
{
    return &s->tensors[i];
}

/* By its name in the file, not by role. */
const bise_tensor *bise_store_find(const bise_store *s, const char *name)
{
    const uint32_t i = bise_strmap_find(&s->names, name, strlen(name));
    return i == BISE_STRMAP_NONE ? NULL : &s->tensors[i];
}

/* For a mapping this is only an addition; packed members are unpacked into
 * their image, where they stay until the store closes. */
bise_status bise_store_data(bise_store *s, const bise_tensor *t,
                            const void **data, bise_error *err)
{
    const bise_shard *sh = &s->shards[t->file];
    const bise_status st = bise_source_need(s->src, &sh->img, t->offset,
                                            t->bytes, err);
    if (st != BISE_OK)
        return bise_error_in(err, sh->path, t->name);
    *data = sh->img.data + t->offset;
    return BISE_OK;
}

/* first and n inside the tensor. Packed members go through a small cache of
 * units, so that reading on row by row unpacks each unit once. */
bise_status bise_store_read(bise_store *s, const bise_tensor *t,
                            uint64_t first, uint64_t n, void *scratch,
                            const void **data, bise_error *err)
{
    const bise_shard *sh = &s->shards[t->file];
    const bise_status st = bise_source_view(s->src, &sh->img, t->offset + first,
                                            n, scratch, data, err);
    return st == BISE_OK ? st : bise_error_in(err, sh->path, t->name);
}

/* first and n inside the tensor. */
void bise_store_ahead(bise_store *s, const bise_tensor *t, uint64_t first,
                      uint64_t n)
{
    bise_source_ahead(s->src, &s->shards[t->file].img, t->offset + first, n);
}

/* Never changes what later reads return. */
void bise_store_release(bise_store *s, const bise_tensor *t, uint64_t first,
                        uint64_t n)
{
    bise_source_release(s->src, &s->shards[t->file].img, t->offset + first, n);
}

/* What an archive has unpacked is kept: it would have to be unpacked again. */
void bise_store_release_all(bise_store *s)
{
    for (size_t i = 0; i < s->n_shards; i++) {
        bise_image *img = &s->shards[i].img;
        if (!img->lazy)
            bise_source_release(s->src, img, 0, img->size);
    }
}

/* Weights in other formats are not counted. */
size_t bise_store_file_count(const bise_store *s)
{
    return s->n_side;
}

/* i below _file_count. */
const char *bise_store_file_at(const bise_store *s, size_t i)
{
    return s->side[i];
}

/* Of a single safetensors file the folder is looked at, so that config.json
 * beside it is found. */
bool bise_store_has_file(const bise_store *s, const char *name)
{
    /* A GGUF stands alone; its folder is no part of it. */
    if (s->src->single && s->format->kind == BISE_STORE_GGUF)
        return false;
    return bise_source_has(s->src, name);
}

/* out may hold something already; the content is appended. */
bise_status bise_store_file(bise_store *s, const char *name, bise_str *out,
                            bise_error *err)
{
    const bise_status st = bise_source_read(s->src, name, out, err);
    return st == BISE_OK ? st :
        bise_error_in(err, bise_source_path(s->src, name), NULL);
}

/* Absent is no error: callers decide which files they need. */
bise_status bise_store_json(bise_store *s, const char *name, bise_json **out,
                            bise_error *err)
{
    *out = NULL;
    if (!bise_store_has_file(s, name))
        return BISE_OK;
    bise_str text = { 0 };
    bise_status st = bise_store_file(s, name, &text, err);
    if (st == BISE_OK)
        st = bise_json_parse(out, bise_str_get(&text), text.len, err);
    bise_str_fini(&text);
    return st == BISE_OK ? st :
        bise_error_in(err, bise_source_path(s->src, name), NULL);
}

/* Of the first file only: writers repeat it in every shard. */
const char *bise_store_meta(const bise_store *s, const char *key)
{
    if (!s->n_shards)
        return NULL;
    return bise_json_string(bise_json_get(s->shards[0].st.meta, key), NULL);
}

const bise_json *bise_store_metadata(const bise_store *s)
{
    return s->n_shards ? s->shards[0].st.meta : NULL;
}

/* Of the first split, which carries all keys. */
const struct bise_gguf_meta *bise_store_gguf(const bise_store *s)
{
    return s->n_shards && s->format->kind == BISE_STORE_GGUF ?
        &s->shards[0].gguf.meta : NULL;
}
