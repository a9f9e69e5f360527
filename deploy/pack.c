/* pack.c - decide which files are stored as byte planes, and feed them to the
 * archive writer.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/pack.h"

#include <string.h>

#include "core/file.h"
#include "deploy/tree.h"

/* Find the 16-bit weights of one file. */
static bise_status find_planes(bise_tree_file *f, bise_error *err)
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
static bise_status feed(bise_archive_writer *w, const bise_tree_file *f,
                        bise_error *err)
{
    bise_map map;
    bise_status s = bise_map_open(&map, f->disk, err);
    if (s != BISE_OK)
        return s;
    if (map.size != f->member.bytes) {
        s = bise_fail(err, BISE_EIO, "size changed while packing");
        s = bise_error_in(err, f->disk, NULL);
    } else
        s = bise_archive_write_map(w, &map, err);
    bise_map_close(&map);
    return s;
}

/* Two passes over the files: the first only looks at headers for 16-bit
 * weights, because the places of all members must be known before the first
 * byte is written; the second feeds the data once. */
static bise_status pack_tree(bise_tree *t, const char *out,
                             const bise_pack_options *o,
                             bise_pack_result *result, bise_error *err)
{
    bise_archive_writer *w = NULL;
    bise_status s = BISE_OK;
    bise_member *members = bise_alloc_array(t->n + 1, sizeof *members);
    if (!members)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < t->n && s == BISE_OK; i++) {
        if (!o->plain)
            s = find_planes(&t->list[i], err);
        members[i] = t->list[i].member;
    }
    const bise_archive_options ao = { .level = o->level, .force = o->force,
                                      .pool = o->pool,
                                      .progress = o->progress };
    if (s == BISE_OK)
        s = bise_archive_create(&w, out, members, t->n, &ao, err);
    for (size_t i = 0; i < t->n && s == BISE_OK; i++)
        if (members[i].bytes)
            s = feed(w, &t->list[i], err);
    if (s == BISE_OK)
        s = bise_archive_finish(w, err);
    else
        bise_archive_abandon(w);
    for (size_t i = 0; i < t->n; i++)
        memcpy(t->list[i].member.sha256, members[i].sha256, 32);
    if (s == BISE_OK)
        s = bise_tree_result(result, t, bise_file_size(out), err);
    bise_free(members);
    return s;
}

/* Collect, pack, release. The tree owns the names and byte plane tables that
 * the members borrow, so that it goes last. */
bise_status bise_pack(const char *const *paths, size_t n, const char *out,
                      const bise_pack_options *o, bise_pack_result *result,
                      bise_error *err)
{
    bise_tree t = { 0 };
    bise_status s = bise_tree_collect(&t, paths, n, out, err);
    if (s == BISE_OK && !t.n)
        s = bise_fail(err, BISE_EINVAL, "nothing to pack");
    if (s == BISE_OK)
        s = pack_tree(&t, out, o, result, err);
    bise_tree_fini(&t);
    return s;
}
