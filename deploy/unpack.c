/* unpack.c - write the files of an archive into NAME.part/ and give the folder
 * its name when all are there and right. Names were checked when the archive
 * was opened; files are created anew, never through links.
 * Peak memory is that of the walk, about 80 MiB, whatever the archive holds.
 * Files get 0644 or 0755 less the umask; nothing else of a tar header is
 * honoured.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "core/direct.h"
#include "core/file.h"
#include "deploy/archive_walk.h"
#include "deploy/pack.h"
#include "formats/crypto.h"

#define FREE_BYTES (UINT64_C(1) << 30) /* always allowed */
#define RATIO 1000                     /* and this many times the archive */
#define MANY_FILES 256
#define SETTLE (UINT64_C(4) << 20)     /* bytes given to the disk at once */
#define LARGE (UINT64_C(16) << 20)     /* files that bypass the page cache */

typedef struct writer {
    const char *root;
    char *path;          /* of the open file */
    int fd;
    bise_direct *direct; /* past the page cache, or NULL */
    uint64_t at, settled; /* bytes written, and given to the disk */
    bise_json *files;
} writer;

/* A file is complete: close it, which may be where a full disk shows, and
 * list it in the result. */
static bise_status close_file(writer *w, const bise_member *m, bise_error *err)
{
    char hex[65];
    const int r = close(w->fd);
    w->fd = -1;
    if (r != 0)
        return bise_fail_errno(err, w->path, "cannot close");
    bise_free(w->path);
    w->path = NULL;
    bise_json *v = bise_json_new_object();
    int bad = bise_json_set(v, "path", bise_json_new_string(m->path));
    bad |= bise_json_set(v, "bytes", bise_json_new_int((int64_t)m->bytes));
    bad |= bise_json_set(v, "sha256", bise_json_new_string(
                             bise_hex32(hex, m->sha256)));
    bad |= bise_json_append(w->files, v);
    return bad ? bise_fail_nomem(err) : BISE_OK;
}

/* Create a file with its folders; nothing may be there. */
static bise_status open_file(writer *w, const bise_member *m, bise_error *err)
{
    bise_status s = BISE_OK;
    w->path = bise_path_join(w->root, m->path);
    if (!w->path)
        return bise_fail_nomem(err);
    char *slash = strrchr(w->path, '/');
    if (strchr(m->path, '/')) {
        *slash = 0;
        if (!bise_is_dir(w->path))
            s = bise_mkdir(w->path, err);
        *slash = '/';
    }
    if (s != BISE_OK || bise_ends_with(m->path, "/"))
        return s;
    w->at = w->settled = 0;
    w->fd = open(w->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                 m->mode);
    if (w->fd < 0)
        return bise_fail_errno(err, w->path, "cannot create");
    w->direct = m->bytes >= LARGE ? bise_direct_new(w->fd, 0, 2) : NULL;
    return BISE_OK;
}

/* What of a file is still on its way. */
static int end_stream(writer *w)
{
    const int e = w->direct ? bise_direct_end(w->direct) : 0;
    w->direct = NULL;
    return e;
}

/* Have the disk start on what is complete, so that the sync at the end has
 * little left to wait for. */
static void settle(writer *w)
{
    const uint64_t end = w->direct ? 0 : w->at & ~(SETTLE - 1);
    if (end > w->settled)
        bise_fd_settle(w->fd, w->settled, end - w->settled);
    w->settled = end;
}

/* Write the next bytes of a file; the first call opens it, the last one
 * closes it. */
static bise_status put_data(void *ctx, const bise_member *m, const void *data,
                            size_t n, bool first, bool last, bise_error *err)
{
    writer *w = ctx;
    bise_status s = first ? open_file(w, m, err) : BISE_OK;
    if (s != BISE_OK)
        return s;
    if (w->fd >= 0) {
        errno = w->direct ? bise_direct_add(w->direct, data, n)
                          : bise_fd_write(w->fd, data, n, w->at);
        if (!errno && last)
            errno = end_stream(w);
        if (errno)
            return bise_fail_errno(err, w->path, "cannot write");
        w->at += n;
        settle(w);
    }
    if (last && w->fd >= 0)
        s = close_file(w, m, err);
    else if (last) {
        bise_free(w->path);                     /* a folder */
        w->path = NULL;
    }
    return s;
}

/* A damaged file ends unpacking. */
static bise_status stop(void *ctx, const bise_member *m, const bise_error *what,
                        bise_error *err)
{
    (void)ctx;
    if (!what)
        return BISE_OK;
    *err = *what;
    err->path[0] = 0;
    return bise_error_in(err, m->path, NULL);
}

/* Bombs: more than a plausible multiple of the archive. */
static bise_status check_size(const bise_archive *a, const char *dir,
                              uint64_t max_bytes, bise_error *err)
{
    uint64_t total = 0, limit = max_bytes;
    for (size_t i = 0; i < a->n; i++)
        total += a->members[i].bytes;           /* each is below 2^63 / n */
    if (!limit) {
        limit = a->map.size > UINT64_MAX / RATIO ? UINT64_MAX :
            a->map.size * RATIO;
        if (limit < FREE_BYTES)
            limit = FREE_BYTES;
    }
    if (total > limit) {
        bise_status s = bise_fail(err, BISE_EFORMAT, "%" PRIu64 " bytes out of "
                                  "an archive of %" PRIu64 ", at most %" PRIu64
                                  " are unpacked", total, a->map.size, limit);
        return s = bise_error_hint(err, "give --max-size when you trust it");
    }
    return bise_disk_check(dir, total, err);
}

/* The tar view of the archive must agree with the manifest's. */
static bise_status check_headers(const bise_archive *a, bise_error *err)
{
    bise_unpacker *u = bise_unpacker_new();
    bise_status s = u ? BISE_OK : bise_fail_nomem(err);
    for (size_t i = 0; i < a->n && s == BISE_OK; i++)
        s = bise_archive_check_header(a, i, u, err);
    bise_unpacker_free(u);
    return s;
}

/* Files and folders that must be on disk before the folder gets its name. */
typedef struct syncing {
    const bise_archive *a;
    const char *root;
    bise_error *errs;        /* one for each member */
} syncing;

/* Put one file or folder on disk. */
static void sync_task(void *ctx, size_t index, int worker)
{
    const syncing *y = ctx;
    bise_error *err = &y->errs[index];
    (void)worker;
    bise_error_init(err);
    char *path = bise_path_join(y->root, y->a->members[index].path);
    const int fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (!path)
        err->status = bise_fail_nomem(err);
    else if (fd >= 0 && fsync(fd) != 0)
        err->status = bise_fail_errno(err, path, "cannot sync");
    if (fd >= 0)
        close(fd);
    bise_free(path);
}

/* A model's files each by itself: syncfs would also wait for what other
 * programs write to the same disk. What was written has been on its way since
 * settle(), so that little is left to wait for. Thousands of small files are
 * synced by one call for all, which is ten times as fast. */
static bise_status sync_files(const bise_archive *a, const char *root,
                              bise_pool *pool, bise_error *err)
{
#ifdef __linux__
    if (a->n > MANY_FILES) {
        const int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const bool bad = fd < 0 || syncfs(fd) != 0;
        bise_status all = bad ? bise_fail_errno(err, root, "cannot sync")
                              : BISE_OK;
        if (fd >= 0)
            close(fd);
        return all;
    }
#endif
    syncing y = { a, root, bise_alloc_array(a->n + 1, sizeof *y.errs) };
    bise_status s = y.errs ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK)
        bise_pool_run(pool, a->n, sync_task, &y);
    for (size_t i = 0; s == BISE_OK && i < a->n; i++)
        if (y.errs[i].status != BISE_OK) {
            *err = y.errs[i];
            s = err->status;
        }
    bise_free(y.errs);
    return s;
}

/* Let the walk write all files below the partial folder, then wait until they
 * are on disk. */
static bise_status unpack_into(const bise_archive *a, bise_outdir *d,
                               const bise_unpack_options *o,
                               bise_pack_result *result, bise_error *err)
{
    writer w = { .root = d->part_path, .fd = -1 };
    const bise_walk_sink sink = { put_data, stop, &w };
    w.files = bise_json_new_array();
    bise_status s = bise_archive_walk(a, &sink, "unpack", o->pool, o->progress,
                                      err);
    if (w.direct)
        bise_direct_cancel(w.direct);
    (void)end_stream(&w);
    if (w.fd >= 0)
        close(w.fd);
    bise_free(w.path);
    if (s != BISE_OK) {
        bise_json_free(w.files);
        return s;
    }
    s = sync_files(a, d->part_path, o->pool, err);
    if (s != BISE_OK) {
        bise_json_free(w.files);
        return s;
    }
    for (size_t i = 0; i < a->n; i++) {
        result->bytes += a->members[i].bytes;
        result->planes += a->members[i].planes;
    }
    result->files = w.files;
    result->n = bise_json_size(w.files);
    return s;
}

/* Everything that can be refused from the manifest alone (size, names, tar
 * headers that disagree) is refused before a folder is made. */
bise_status bise_unpack(const char *archive, const char *dir,
                        const bise_unpack_options *o, bise_pack_result *result,
                        bise_error *err)
{
    bise_archive a;
    bise_outdir d = { 0 };
    memset(result, 0, sizeof *result);
    bise_status s = bise_archive_open(&a, archive, err);
    if (s != BISE_OK)
        return s;
    result->packed = a.map.size;
    s = check_size(&a, dir, o->max_bytes, err);
    if (s == BISE_OK)
        s = check_headers(&a, err);
    if (s == BISE_OK)
        s = bise_outdir_open(&d, dir, o->force, err);
    if (s == BISE_OK) {
        s = unpack_into(&a, &d, o, result, err);
        if (s == BISE_OK)
            s = bise_outdir_commit(&d, err);
        else
            bise_outdir_drop(&d);
    }
    bise_archive_close(&a);
    if (s != BISE_OK) {
        bise_json_free(result->files);
        result->files = NULL;
        return bise_error_in(err, archive, NULL);
    }
    return BISE_OK;
}
