/* pack.c - collect the files of folders in byte order of their paths, decide
 * which are stored as byte planes, and feed them to the archive writer.
 * The walk follows links to files (the Hub's cache is made of them) but not to
 * folders, which could lead anywhere or in circles. Modes are reduced to
 * "executable or not", times and owners are dropped: they would make equal
 * trees into different archives.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/pack.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "formats/archive.h"
#include "formats/crypto.h"

#define SLAB ((uint64_t)BISE_ARCHIVE_BATCH)
#define MAX_FILES 1000000
#define MAX_DEPTH 64

/* One file found: its member and where it is on disk. */
typedef struct found {
    bise_member member;
    const char *disk;
} found;

typedef struct tree {
    found *list;
    size_t n, cap;
    bise_arena arena;
    struct stat out;         /* the archive itself, when it exists */
    bool has_out;
} tree;

/* Remember one file or empty folder. Its name must be one that unpack
 * accepts: what could not be unpacked is refused here already, where the
 * user can still rename it. */
static bise_status add(tree *t, const char *disk, const char *path,
                       const struct stat *st, bise_error *err)
{
    void *list = t->list;
    if (t->n >= MAX_FILES)
        return bise_fail(err, BISE_EUNSUPPORTED, "more than %d files",
                         MAX_FILES);
    if (!bise_archive_safe_path(path)) {
        bise_status s = bise_fail(err, BISE_EINVAL, "this name cannot stand in "
                                  "an archive");
        return s = bise_error_in(err, disk, NULL);
    }
    if (bise_grow(&list, &t->cap, t->n + 1, sizeof *t->list) != 0)
        return bise_fail_nomem(err);
    t->list = list;
    found *f = &t->list[t->n];
    memset(f, 0, sizeof *f);
    f->disk = bise_arena_strdup(&t->arena, disk);
    f->member.path = bise_arena_strdup(&t->arena, path);
    if (!f->disk || !f->member.path)
        return bise_fail_nomem(err);
    if (S_ISREG(st->st_mode))
        f->member.bytes = (uint64_t)st->st_size;
    f->member.mode = S_ISDIR(st->st_mode) || (st->st_mode & 0111) ? 0755 :
        0644;
    t->n++;
    return BISE_OK;
}

static bise_status walk_path(tree *t, const char *disk, const char *path,
                             int depth, bise_error *err);

/* The entries of a folder; an empty one becomes a member of its own. */
static bise_status walk_folder(tree *t, const char *disk, const char *path,
                               int depth, bise_error *err)
{
    char **names = NULL;
    size_t n = 0;
    bise_status s = bise_dir_list(&names, &n, disk, err);
    if (s != BISE_OK)
        return s;
    if (!n && *path) {
        struct stat st = { .st_mode = S_IFDIR | 0755 };
        bise_str folder = { 0 };
        bise_str_printf(&folder, "%s/", path);
        s = add(t, disk, bise_str_get(&folder), &st, err);
        bise_str_fini(&folder);
    }
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        char *d = bise_path_join(disk, names[i]);
        char *p = *path ? bise_path_join(path, names[i]) :
            bise_strdup(names[i]);
        s = d && p ? walk_path(t, d, p, depth + 1, err) : bise_fail_nomem(err);
        bise_free(d);
        bise_free(p);
    }
    bise_free(names);
    return s;
}

/* Special files have no content that an archive could give back. */
static bise_status refuse(const char *disk, const char *what, bise_error *err)
{
    bise_status s = bise_fail(err, BISE_EUNSUPPORTED, "%s cannot be packed",
                              what);
    return s = bise_error_in(err, disk, NULL);
}

/* A file, a link to a file, or a folder. The archive being written and its
 * partial form are left out, in case they stand in the same folder. */
static bise_status walk_path(tree *t, const char *disk, const char *path,
                             int depth, bise_error *err)
{
    struct stat link, st;
    if (lstat(disk, &link) != 0 || stat(disk, &st) != 0)
        return bise_fail_errno(err, disk, "cannot read");
    if (t->has_out && st.st_dev == t->out.st_dev && st.st_ino == t->out.st_ino)
        return BISE_OK;
    if (S_ISREG(st.st_mode))
        return add(t, disk, path, &st, err);
    if (!S_ISDIR(st.st_mode))
        return refuse(disk, "a device, pipe or socket", err);
    if (S_ISLNK(link.st_mode) && depth)
        return refuse(disk, "a link to a folder", err);
    if (depth > MAX_DEPTH)
        return refuse(disk, "a folder nested so deeply", err);
    return walk_folder(t, disk, path, depth, err);
}

/* Byte order of the paths in the archive, the same in any locale. */
static int by_path(const void *a, const void *b)
{
    return strcmp(((const found *)a)->member.path,
                  ((const found *)b)->member.path);
}

/* Base name without trailing slashes, in the arena. */
static char *base_name(tree *t, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    return bise_arena_strndup(&t->arena, path + from, n - from);
}

/* Walk all inputs and sort what was found. Names must differ after sorting,
 * which is where two inputs with the same base name meet. */
static bise_status collect(tree *t, const char *const *paths, size_t n,
                           const char *out, bise_error *err)
{
    bise_status s = BISE_OK;
    t->has_out = stat(out, &t->out) == 0;
    if (n == 1 && bise_is_dir(paths[0]))
        s = walk_path(t, paths[0], "", 0, err);
    else
        for (size_t i = 0; i < n && s == BISE_OK; i++) {
            const char *name = base_name(t, paths[i]);
            s = name ? walk_path(t, paths[i], name, 0, err) :
                bise_fail_nomem(err);
        }
    if (s != BISE_OK)
        return s;
    if (t->n)
        qsort(t->list, t->n, sizeof *t->list, by_path);
    for (size_t i = 1; i < t->n; i++)
        if (by_path(&t->list[i - 1], &t->list[i]) == 0) {
            s = bise_fail(err, BISE_EINVAL, "two inputs are named '%s'",
                          t->list[i].member.path);
            return s = bise_error_in(err, t->list[i].disk, NULL);
        }
    return BISE_OK;
}

/* Find the 16-bit weights of one file. */
static bise_status find_planes(found *f, bise_error *err)
{
    const char *name = f->member.path;
    bise_map map;
    if (!bise_ends_with(name, ".safetensors") && !bise_ends_with(name, ".gguf"))
        return BISE_OK;
    bise_status s = bise_map_open(&map, f->disk, err);
    if (s != BISE_OK)
        return s;
    s = bise_planes_find(&f->member.map, map.data, map.size, err);
    f->member.planes = f->member.map.n > 0;
    bise_map_close(&map);
    return s;
}

/* All bytes of one file into the writer. */
static bise_status feed(bise_archive_writer *w, const found *f,
                        const bise_pack_options *o, uint64_t *done,
                        uint64_t total, bise_error *err)
{
    bise_map map;
    bise_status s = bise_map_open(&map, f->disk, err);
    if (s != BISE_OK)
        return s;
    if (map.size != f->member.bytes) {
        s = bise_fail(err, BISE_EIO, "size changed while packing");
        s = bise_error_in(err, f->disk, NULL);
    }
    for (uint64_t at = 0; at < map.size && s == BISE_OK; at += SLAB) {
        const uint64_t n = map.size - at < SLAB ? map.size - at : SLAB;
        bise_map_ahead(map.data + at, n);
        s = bise_archive_write(w, map.data + at, (size_t)n, err);
        bise_map_release(map.data + at, n);
        *done += n;
        if (s == BISE_OK)
            s = bise_progress_step(o->progress, "pack", *done, total, "bytes",
                                   NULL, err);
    }
    bise_map_close(&map);
    return s;
}

/* {path, bytes, sha256} of a member for the result. */
static int list_member(bise_json *files, const bise_member *m)
{
    char hex[65];
    bise_json *v = bise_json_new_object();
    int r = bise_json_set(v, "path", bise_json_new_string(m->path));
    r |= bise_json_set(v, "bytes", bise_json_new_int((int64_t)m->bytes));
    if (!bise_ends_with(m->path, "/"))
        r |= bise_json_set(v, "sha256", bise_json_new_string(
                               bise_hex32(hex, m->sha256)));
    return r | bise_json_append(files, v);
}

/* Sizes and hashes as the writer found them, for the caller's report. */
static bise_status fill_result(bise_pack_result *r, const bise_member *members,
                               size_t n, const char *archive, bise_error *err)
{
    int failed = 0;
    memset(r, 0, sizeof *r);
    r->files = bise_json_new_array();
    r->packed = bise_file_size(archive);
    for (size_t i = 0; i < n; i++) {
        r->bytes += members[i].bytes;
        r->n += !bise_ends_with(members[i].path, "/");
        r->planes += members[i].planes;
        failed |= list_member(r->files, &members[i]);
    }
    return failed ? bise_fail_nomem(err) : BISE_OK;
}

/* Two passes over the files: the first only looks at headers for 16-bit
 * weights, because the places of all members must be known before the first
 * byte is written; the second feeds the data once. */
static bise_status pack_tree(tree *t, const char *out,
                             const bise_pack_options *o,
                             bise_pack_result *result, bise_error *err)
{
    uint64_t total = 0, done = 0;
    bise_archive_writer *w = NULL;
    bise_status s = BISE_OK;
    bise_member *members = bise_alloc_array(t->n + 1, sizeof *members);
    if (!members)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < t->n && s == BISE_OK; i++) {
        if (!o->plain)
            s = find_planes(&t->list[i], err);
        members[i] = t->list[i].member;
        total += members[i].bytes;
    }
    const bise_archive_options ao = { .level = o->level, .force = o->force,
                                      .pool = o->pool };
    if (s == BISE_OK)
        s = bise_archive_create(&w, out, members, t->n, &ao, err);
    for (size_t i = 0; i < t->n && s == BISE_OK; i++)
        if (members[i].bytes)
            s = feed(w, &t->list[i], o, &done, total, err);
    if (s == BISE_OK)
        s = bise_archive_finish(w, err);
    else
        bise_archive_abandon(w);
    if (s == BISE_OK)
        s = fill_result(result, members, t->n, out, err);
    bise_free(members);
    return s;
}

/* Collect, pack, release. The tree owns the names and byte plane tables that
 * the members borrow, so that it goes last. */
bise_status bise_pack(const char *const *paths, size_t n, const char *out,
                      const bise_pack_options *o, bise_pack_result *result,
                      bise_error *err)
{
    tree t = { 0 };
    bise_status s = collect(&t, paths, n, out, err);
    if (s == BISE_OK && !t.n)
        s = bise_fail(err, BISE_EINVAL, "nothing to pack");
    if (s == BISE_OK)
        s = pack_tree(&t, out, o, result, err);
    for (size_t i = 0; i < t.n; i++)
        bise_planes_fini(&t.list[i].member.map);
    bise_free(t.list);
    bise_arena_fini(&t.arena);
    return s;
}
