/* source.c - files of a directory as a source (source.h), and the functions
 * common to all sources. Archives add theirs in archive_read.c.
 * A source hands out images (bytes with a length); what they are made of is
 * its own matter. Readers see no difference between a mapped file and a member
 * of an archive that is unpacked as it is read.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/ahead.h"
#include "core/file.h"

/* Regular files only, also behind links (the Hub's cache is made of links). */
static bool dir_has(const bise_source *s, const char *name)
{
    struct stat st;
    char path[4096];                            /* no memory that could fail */
    const int n = snprintf(path, sizeof path, "%s/%s", s->root, name);
    return n > 0 && (size_t)n < sizeof path && stat(path, &st) == 0 &&
           S_ISREG(st.st_mode);
}

/* The handles are the reader ahead, and the file in it. */
static bise_status dir_image(bise_source *s, const char *name, bise_image *img,
                             bise_error *err)
{
    bise_map map;
    char *path = bise_path_join(s->root, name);
    if (!path)
        return bise_fail_nomem(err);
    bise_status status = bise_map_open(&map, path, err);
    if (status == BISE_OK) {
        *img = (bise_image){ .data = map.data, .size = map.size,
                             .handle = bise_ahead_open(s->handle, path,
                                                       &map) };
        if (!img->handle) {
            bise_map_close(&map);
            *img = (bise_image){ 0 };
            status = bise_fail_nomem(err);
        }
    }
    bise_free(path);
    return status;
}

/* Hints and views go to the reader ahead. */
static void dir_ahead(bise_source *s, const bise_image *img, uint64_t first,
                      uint64_t n)
{
    (void)s;
    bise_ahead_ask(img->handle, first, n);
}

/* The mapping, or what was read ahead. */
static const void *dir_view(bise_source *s, const bise_image *img,
                            uint64_t first, uint64_t n, void *scratch)
{
    (void)s;
    return bise_ahead_get(img->handle, first, n, scratch);
}

/* Pages of a file mapping come back by themselves when read again. */
static void dir_release(bise_source *s, const bise_image *img, uint64_t first,
                        uint64_t n)
{
    (void)s;
    bise_ahead_done(img->handle, first, n);
    bise_map_release(img->data + first, n);
}

/* Unmap. */
static void dir_drop(bise_source *s, bise_image *img)
{
    (void)s;
    bise_ahead_close(img->handle);
    bise_map_close(&(bise_map){ .data = img->data, .size = img->size });
}

/* After the images. */
static void dir_close(bise_source *s)
{
    bise_ahead_free(s->handle);
}

static const bise_source_ops dir_ops = {
    .has = dir_has, .image = dir_image, .ahead = dir_ahead, .view = dir_view,
    .release = dir_release, .drop = dir_drop, .close = dir_close
};

/* Keep the regular files among the entries of a directory. */
static bise_status list_files(bise_source *s, bise_error *err)
{
    char **all = NULL;
    size_t n = 0;
    const bise_status status = bise_dir_list(&all, &n, s->root, err);
    if (status != BISE_OK)
        return status;
    s->names = bise_arena_alloc(&s->arena, (n + 1) * sizeof *s->names);
    for (size_t i = 0; s->names && i < n; i++) {
        if (!dir_has(s, all[i]))
            continue;
        char *copy = bise_arena_strdup(&s->arena, all[i]);
        if (!copy) {
            s->names = NULL;
            break;
        }
        s->names[s->n_names++] = copy;
    }
    bise_free(all);
    return s->names ? BISE_OK : bise_fail_nomem(err);
}

/* One file: the folder is the root, the file the only name. */
static bise_status list_single(bise_source *s, const char *path,
                               bise_error *err)
{
    const char *base = bise_path_base(path);
    const size_t dir = (size_t)(base - path);
    s->single = true;
    s->root = dir == 0 ? bise_arena_strdup(&s->arena, ".") :
        bise_arena_strndup(&s->arena, path, dir > 1 ? dir - 1 : 1);
    s->names = bise_arena_alloc(&s->arena, sizeof *s->names);
    if (!s->root || !s->names ||
        !(s->names[0] = bise_arena_strdup(&s->arena, base)))
        return bise_fail_nomem(err);
    s->n_names = 1;
    return BISE_OK;
}

/* A directory or one file; archives are opened by bise_archive_source
 * instead, as only the caller knows what it wants them to be. */
bise_status bise_source_open_path(bise_source **out, const char *path,
                                  bise_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return bise_fail_errno(err, path, "cannot open");
    bise_source *s = bise_alloc(sizeof *s);
    if (!s)
        return bise_fail_nomem(err);
    s->ops = &dir_ops;
    s->handle = bise_ahead_new();
    bise_status status;
    if (!s->handle) {
        status = bise_fail_nomem(err);
    } else if (S_ISDIR(st.st_mode)) {
        s->root = bise_arena_strdup(&s->arena, path);
        status = s->root ? list_files(s, err) : bise_fail_nomem(err);
    } else {
        status = list_single(s, path, err);
    }
    if (status != BISE_OK) {
        bise_source_close(s);
        return status;
    }
    *out = s;
    return BISE_OK;
}

/* After all images have been dropped; NULL is fine. */
void bise_source_close(bise_source *s)
{
    if (!s)
        return;
    if (s->ops->close)
        s->ops->close(s);
    bise_arena_fini(&s->arena);
    bise_free(s);
}

/* Never fails: what cannot be looked at is not there. */
bool bise_source_has(const bise_source *s, const char *name)
{
    return s->ops->has(s, name);
}

/* Lives as long as the source, so that messages may keep it. */
const char *bise_source_path(bise_source *s, const char *name)
{
    if (strcmp(s->root, ".") == 0)
        return name;
    char *joined = bise_path_join(s->root, name);
    char *kept = joined ? bise_arena_strdup(&s->arena, joined) : NULL;
    bise_free(joined);
    return kept ? kept : name;
}

/* On failure img is zero, which drop accepts. */
bise_status bise_source_image(bise_source *s, const char *name, bise_image *img,
                              bise_error *err)
{
    memset(img, 0, sizeof *img);
    return s->ops->image(s, name, img, err);
}

/* Nothing to do for mappings: the kernel reads on demand. */
bise_status bise_source_need(bise_source *s, const bise_image *img,
                             uint64_t first, uint64_t n, bise_error *err)
{
    return img->lazy && n ? s->ops->need(s, img, first, n, err) : BISE_OK;
}

/* first and n must lie inside the image; readers have checked that against
 * the file's own header. */
bise_status bise_source_copy(bise_source *s, const bise_image *img,
                             uint64_t first, uint64_t n, void *out,
                             bise_error *err)
{
    if (img->lazy)
        return s->ops->copy(s, img, first, n, out, err);
    if (n)
        memcpy(out, img->data + first, (size_t)n);
    return BISE_OK;
}

/* Packed bytes are not read ahead: unpacking takes longer than reading. */
void bise_source_ahead(bise_source *s, const bise_image *img, uint64_t first,
                       uint64_t n)
{
    if (n && s->ops->ahead)
        s->ops->ahead(s, img, first, n);
}

/* As copy, where nothing may have to be copied. */
bise_status bise_source_view(bise_source *s, const bise_image *img,
                             uint64_t first, uint64_t n, void *scratch,
                             const void **data, bise_error *err)
{
    *data = scratch;
    if (img->lazy)
        return s->ops->copy(s, img, first, n, scratch, err);
    *data = n && s->ops->view ? s->ops->view(s, img, first, n, scratch)
                              : img->data + first;
    return BISE_OK;
}

/* A hint; whether memory is really given back is the source's matter. */
void bise_source_release(bise_source *s, const bise_image *img,
                         uint64_t first, uint64_t n)
{
    if (n && s->ops->release)
        s->ops->release(s, img, first, n);
}

/* Leaves a zero image behind. */
void bise_source_drop(bise_source *s, bise_image *img)
{
    if (img->data || img->handle)
        s->ops->drop(s, img);
    memset(img, 0, sizeof *img);
}

/* For side files, which are small: whole content into a string. */
bise_status bise_source_read(bise_source *s, const char *name, bise_str *out,
                             bise_error *err)
{
    bise_image img;
    bise_status status = bise_source_image(s, name, &img, err);
    if (status != BISE_OK)
        return status;
    status = bise_source_need(s, &img, 0, img.size, err);
    if (status == BISE_OK) {
        bise_str_add(out, img.data ? (const char *)img.data : "",
                     (size_t)img.size);
        if (!bise_str_ok(out))
            status = bise_fail_nomem(err);
    }
    bise_source_drop(s, &img);
    return status;
}
