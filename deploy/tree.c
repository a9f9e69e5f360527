/* tree.c - collect the files of folders in byte order of their paths. The walk
 * follows links to files (the Hub's cache is made of them) but not to folders,
 * which could lead anywhere or in circles. Modes are reduced to "executable or
 * not", times and owners are dropped: they would make equal trees into
 * different archives.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/tree.h"

#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "formats/crypto.h"

#define MAX_FILES 1000000
#define MAX_DEPTH 64

/* Remember one file or empty folder. Its name must be one that unpack
 * accepts: what could not be unpacked is refused here already, where the
 * user can still rename it. */
static bise_status add(bise_tree *t, const char *disk, const char *path,
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
    bise_tree_file *f = &t->list[t->n];
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

static bise_status walk_path(bise_tree *t, const char *disk, const char *path,
                             int depth, bise_error *err);

/* The entries of a folder; an empty one becomes a member of its own. */
static bise_status walk_folder(bise_tree *t, const char *disk, const char *path,
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
static bise_status walk_path(bise_tree *t, const char *disk, const char *path,
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
    return strcmp(((const bise_tree_file *)a)->member.path,
                  ((const bise_tree_file *)b)->member.path);
}

/* Base name without trailing slashes, in the arena. */
static char *base_name(bise_tree *t, const char *path)
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
bise_status bise_tree_collect(bise_tree *t, const char *const *paths,
                              size_t n, const char *out, bise_error *err)
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

/* What was packed, for the caller's report. */
bise_status bise_tree_result(bise_pack_result *r, const bise_tree *t,
                             uint64_t packed, bise_error *err)
{
    int failed = 0;
    memset(r, 0, sizeof *r);
    r->files = bise_json_new_array();
    r->packed = packed;
    for (size_t i = 0; i < t->n; i++) {
        const bise_member *m = &t->list[i].member;
        r->bytes += m->bytes;
        r->n += !bise_ends_with(m->path, "/");
        r->planes += m->planes;
        failed |= list_member(r->files, m);
    }
    return failed ? bise_fail_nomem(err) : BISE_OK;
}

/* The tree owns the names and the tables of byte planes. */
void bise_tree_fini(bise_tree *t)
{
    for (size_t i = 0; i < t->n; i++)
        bise_planes_fini(&t->list[i].member.map);
    bise_free(t->list);
    bise_arena_fini(&t->arena);
}
