/* packed.c - see packed.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/packed.h"

#include <errno.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "deploy/pack.h"

bool bise_packed_is(const char *path)
{
    return path && bise_ends_with(path, ".tar.zst");
}

/* Folder of a run, bise_free; NULL when out of memory or out is NULL. */
char *bise_packed_folder(const char *out)
{
    bise_str s = { 0 };
    if (!out)
        return NULL;
    if (!bise_packed_is(out))
        return bise_strdup(out);
    bise_str_add(&s, out, strlen(out) - strlen(".tar.zst"));
    bise_str_puts(&s, ".run");
    return bise_str_take(&s);
}

/* What a run leaves, without the checkpoints, into the archive. */
bise_status bise_packed_run(const char *archive, const char *dir,
                            const bise_context *ctx, bise_error *err)
{
    const bise_pack_options o = { .force = ctx->force, .pool = ctx->pool,
                                  .progress = ctx->progress };
    bise_pack_result r = { 0 };
    char **names = NULL;
    size_t n = 0, used = 0;
    bise_status st = bise_dir_list(&names, &n, dir, err);
    char **paths = bise_alloc_array(n + 1, sizeof *paths);
    if (!st && !paths)
        st = bise_fail_nomem(err);
    for (size_t i = 0; i < n && !st; i++) {
        if (strcmp(names[i], "checkpoints") == 0)
            continue;
        paths[used] = bise_path_join(dir, names[i]);
        if (!paths[used++])
            st = bise_fail_nomem(err);
    }
    if (!st)
        st = bise_pack((const char *const *)paths, used, archive, &o, &r, err);
    if (!st)
        bise_remove_tree(dir);
    for (size_t i = 0; i < used; i++)
        bise_free(paths[i]);
    bise_free(paths);
    bise_free(names);
    bise_json_free(r.files);
    return st;
}

/* Found before the training, not after it. */
bise_status bise_packed_check(const char *archive, const bise_context *ctx,
                                 bise_error *err)
{
    if (ctx->force || !bise_file_exists(archive))
        return BISE_OK;
    bise_status st = bise_fail(err, BISE_EIO, "output exists already");
    st = bise_error_hint(err, "use --force to replace it");
    st = bise_error_in(err, archive, NULL);
    return st;
}
