/* file.c - see file.h: reads, mappings, and outputs that are never half there.
 * Written for Linux and other POSIX systems; preallocation and read-ahead are
 * used where the system has them.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/direct.h"
#include "core/mem.h"

#define STREAM_PARTS 2          /* memory of a stream, see direct.h */
#define PUT_PARTS 4             /* the same when several threads put */
#define PUT_DIRECT (16u << 20)  /* bytes of a file that is put so */

struct bise_out {
    int fd;
    uint64_t pos, allocated;
    char *path, *part;
    bise_direct *direct;  /* takes what is appended or put, or NULL */
    uint64_t to_put;      /* bytes that are still to be put, of all */
    uint64_t all_put;
    bool putting, cancelled;
    pthread_mutex_t lock; /* of the five above, while several threads put */
};

/* Works for pipes as well as files: the size is not asked for. */
bise_status bise_file_read(bise_str *out, const char *path, bise_error *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return bise_fail_errno(err, path, "cannot open");
    char buf[65536];
    bise_status s = BISE_OK;
    for (;;) {
        const ssize_t n = read(fd, buf, sizeof buf);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            s = bise_fail_errno(err, path, "cannot read");
        if (n <= 0)
            break;
        bise_str_add(out, buf, (size_t)n);
    }
    close(fd);
    if (s == BISE_OK && !bise_str_ok(out))
        s = bise_fail_nomem(err);
    return s;
}

/* The same way as large outputs: never half a file under the name. */
bise_status bise_file_write(const char *path, const void *data, size_t n,
                            bise_error *err)
{
    bise_out *o = NULL;
    bise_status s = bise_out_open(&o, path, 0, true, err);
    if (s != BISE_OK)
        return s;
    s = bise_out_write(o, data, n, err);
    if (s != BISE_OK) {
        bise_out_drop(o);
        return s;
    }
    return bise_out_commit(o, err);
}

/* lstat, so that a dangling link counts as present. */
bool bise_file_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* stat, so that a link to a folder counts as one. */
bool bise_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

uint64_t bise_file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

bise_status bise_mkdir(const char *path, bise_error *err)
{
    char *copy = bise_strdup(path);
    if (!copy)
        return bise_fail_nomem(err);
    for (char *p = copy + 1; *p; p++)           /* every parent in turn */
        if (*p == '/') {
            *p = 0;
            mkdir(copy, 0777);
            *p = '/';
        }
    bise_status s = BISE_OK;
    if (mkdir(copy, 0777) != 0 && !(errno == EEXIST && bise_is_dir(path)))
        s = bise_fail_errno(err, path, "cannot make directory");
    bise_free(copy);
    return s;
}

/* unlink first: a link to a folder is removed, never entered. */
void bise_remove_tree(const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return;
    DIR *d = opendir(path);
    if (d) {
        const struct dirent *e;
        while ((e = readdir(d)) != NULL) {
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                continue;
            char *p = bise_path_join(path, e->d_name);
            if (p)
                bise_remove_tree(p);
            bise_free(p);
        }
        closedir(d);
    }
    rmdir(path);
}

/* The directory part of path in a new string, "." when it has none. */
static char *parent_dir(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n ? bise_strndup(path, n) : bise_strdup(".");
}

/* An output that does not exist yet is measured at its parent. */
uint64_t bise_disk_free(const char *path)
{
    struct statvfs v;
    if (statvfs(path, &v) == 0)
        return (uint64_t)v.f_bavail * v.f_frsize;
    char *dir = parent_dir(path);
    const int ok = dir && statvfs(dir, &v) == 0;
    bise_free(dir);
    return ok ? (uint64_t)v.f_bavail * v.f_frsize : UINT64_MAX;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char *bise_path_name(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *name = bise_strndup(path, n);
    const char *base = name ? bise_path_base(name) : "";
    char *real = NULL;
    if (!*base || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
        real = realpath(path, NULL);
    char *out = bise_strdup(bise_path_base(real ? real : base));
    free(real);
    bise_free(name);
    return out;
}

/* Two passes over one buffer: names are gathered back to back, then pointed
 * at from an array in the same allocation. */
bise_status bise_dir_list(char ***names, size_t *n, const char *path,
                          bise_error *err)
{
    DIR *d = opendir(path);
    if (!d)
        return bise_fail_errno(err, path, "cannot open directory");
    bise_str all = { 0 };
    size_t count = 0;
    const struct dirent *e;
    while ((e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            bise_str_add(&all, e->d_name, strlen(e->d_name) + 1);
            count++;
        }
    closedir(d);
    const size_t head = (count + 1) * sizeof(char *);
    char **list = bise_str_ok(&all) ? bise_alloc(head + all.len) : NULL;
    if (list) {
        char *p = (char *)list + head;
        if (all.len)
            memcpy(p, all.data, all.len);
        for (size_t i = 0; i < count; i++, p += strlen(p) + 1)
            list[i] = p;
        qsort(list, count, sizeof *list, by_name);
        *names = list;
        *n = count;
    }
    bise_str_fini(&all);
    return list ? BISE_OK : bise_fail_nomem(err);
}

void bise_dir_sync(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

/* The descriptor is closed at once: a mapping lives without it. */
bise_status bise_map_open(bise_map *m, const char *path, bise_error *err)
{
    memset(m, 0, sizeof *m);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return bise_fail_errno(err, path, "cannot open");
    struct stat st;
    bise_status s = BISE_OK;
    if (fstat(fd, &st) != 0)
        s = bise_fail_errno(err, path, "cannot stat");
    else if (!S_ISREG(st.st_mode)) {
        s = bise_fail(err, BISE_EIO, "not a regular file");
        s = bise_error_in(err, path, NULL);
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            s = bise_fail_errno(err, path, "cannot map");
        else
            *m = (bise_map){ .data = p, .size = (uint64_t)st.st_size };
    }
    close(fd);
    return s;
}

/* Zeroing makes a second close harmless. */
void bise_map_close(bise_map *m)
{
    if (m->data) {
        union { const uint8_t *in; void *out; } u = { m->data };
        munmap(u.out, (size_t)m->size);
    }
    memset(m, 0, sizeof *m);
}

/* Apply madvise to pages touched by (grow) or wholly inside a byte range. */
static void advise(const void *data, uint64_t n, int advice, bool grow)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t a = (uintptr_t)data, b = a + n;
    a = grow ? a / page * page : (a + page - 1) / page * page;
    if (!grow)
        b = b / page * page;
    if (b > a)
        madvise((void *)a, b - a, advice);
}

void bise_map_random(const bise_map *m, bool random)
{
    if (m->data)
        advise(m->data, m->size, random ? MADV_RANDOM : MADV_NORMAL, true);
}

void bise_map_ahead(const void *data, uint64_t n)
{
    advise(data, n, MADV_WILLNEED, true);
}

void bise_map_release(const void *data, uint64_t n)
{
    advise(data, n, MADV_DONTNEED, false);
}

/* Asked before the work starts. */
bise_status bise_disk_check(const char *path, uint64_t bytes, bise_error *err)
{
    const uint64_t room = bise_disk_free(path);
    if (bytes <= room)
        return BISE_OK;
    bise_status s = bise_fail(err, BISE_EIO,
                              "disk full: %" PRIu64 " bytes needed, %" PRIu64
                              " free", bytes, room);
    err->sys_errno = ENOSPC;
    s = bise_error_in(err, path, NULL);
    return s;
}

/* NAME.XXXXXX loses its name at once. posix_fallocate and not ftruncate: a
 * page that the disk has no room for would end the process. */
bise_status bise_map_scratch(bise_map *m, uint8_t **data, const char *path,
                             uint64_t size, bise_error *err)
{
    *m = (bise_map){ 0 };
    *data = NULL;
    if (size == 0)
        return BISE_OK;
    bise_status s = bise_disk_check(path, size, err);
    if (s != BISE_OK)
        return s;
    bise_str name = { 0 };
    bise_str_printf(&name, "%s.XXXXXX", path);
    if (!bise_str_ok(&name))
        return bise_fail_nomem(err);
    const int fd = mkostemp(name.data, O_CLOEXEC);
    if (fd >= 0)
        unlink(name.data);
    bise_str_fini(&name);
    void *p = MAP_FAILED;
    if (fd >= 0 && (errno = posix_fallocate(fd, 0, (off_t)size)) == 0)
        p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        s = bise_fail_errno(err, path, "cannot make a scratch file beside");
    if (fd >= 0)
        close(fd);
    if (s != BISE_OK)
        return s;
    *m = (bise_map){ p, size };
    *data = p;
    return BISE_OK;
}

bise_status bise_out_check(const char *path, bool force, bise_error *err)
{
    if (force || !bise_file_exists(path))
        return BISE_OK;
    bise_status s = bise_fail(err, BISE_EIO, "output exists already");
    err->sys_errno = EEXIST;
    s = bise_error_hint(err, "use --force to replace it");
    s = bise_error_in(err, path, NULL);
    return s;
}

/* The space check comes before anything is created; preallocation is only a
 * hint, since not every file system offers it. */
bise_status bise_out_open(bise_out **out, const char *path, uint64_t expect,
                          bool force, bise_error *err)
{
    bise_status s = bise_out_check(path, force, err);
    if (s == BISE_OK)
        s = bise_disk_check(path, expect, err);
    if (s != BISE_OK)
        return s;
    bise_out *o = bise_alloc(sizeof *o);
    bise_str part = { 0 };
    bise_str_printf(&part, "%s.part", path);
    if (!o || !(o->part = bise_str_take(&part)) ||
        !(o->path = bise_strdup(path))) {
        if (o)
            bise_free(o->part);
        bise_str_fini(&part);
        bise_free(o);
        return bise_fail_nomem(err);
    }
    o->fd = open(o->part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (o->fd < 0) {
        s = bise_fail_errno(err, path, "cannot create");
        bise_free(o->part);
        bise_free(o->path);
        bise_free(o);
        return s;
    }
    pthread_mutex_init(&o->lock, NULL);
#ifdef __linux__
    if (expect && fallocate(o->fd, 0, 0, (off_t)expect) == 0)
        o->allocated = expect;
#endif
    *out = o;
    return BISE_OK;
}

/* Report a failed write; a full disk is said with needed and free bytes. */
static bise_status write_failed(bise_out *o, size_t n, bise_error *err)
{
    if (errno != ENOSPC && errno != EDQUOT)
        return bise_fail_errno(err, o->path, "cannot write");
    bise_status s = bise_fail_at(err, BISE_EIO, (int64_t)o->pos,
                                 "disk full: %zu more bytes needed, %" PRIu64
                                 " free", n, bise_disk_free(o->path));
    err->sys_errno = ENOSPC;
    s = bise_error_in(err, o->path, NULL);
    return s;
}

/* The result of writing n bytes. */
static bise_status written(bise_out *o, int e, size_t n, bise_error *err)
{
    errno = e;
    return e ? write_failed(o, n, err) : BISE_OK;
}

void bise_out_stream(bise_out *o)
{
    if (o->pos == 0 && !o->direct)
        o->direct = bise_direct_new(o->fd, 0, STREAM_PARTS);
}

/* What is written from now on goes through the page cache. */
static bise_status end_stream(bise_out *o, bise_error *err)
{
    pthread_mutex_lock(&o->lock);
    bise_direct *d = o->direct;
    o->direct = NULL;
    pthread_mutex_unlock(&o->lock);
    return d ? written(o, bise_direct_end(d), 1, err) : BISE_OK;
}

bise_status bise_out_patch(bise_out *o, uint64_t offset, const void *data,
                           size_t n, bise_error *err)
{
    const bise_status s = end_stream(o, err);
    return s == BISE_OK ? written(o, bise_fd_write(o->fd, data, n, offset), n,
                                  err) : s;
}

bise_status bise_out_write(bise_out *o, const void *data, size_t n,
                           bise_error *err)
{
    const int e = o->direct ? bise_direct_add(o->direct, data, n)
                            : bise_fd_write(o->fd, data, n, o->pos);
    if (!e)
        o->pos += n;
    return written(o, e, n, err);
}

bise_status bise_out_resize(bise_out *o, uint64_t size, bise_error *err)
{
    if (ftruncate(o->fd, (off_t)size) != 0)
        return bise_fail_errno(err, o->path, "cannot resize");
    o->to_put = o->all_put = size > o->pos ? size - o->pos : 0;
    o->pos = o->allocated = size;
    return BISE_OK;
}

/* Where to put the next bytes: NULL is the page cache. A stream is made for
 * the first ones, since not all files of a model are filled at once. */
static bise_direct *stream_of(bise_out *o)
{
    pthread_mutex_lock(&o->lock);
    if (o->all_put >= PUT_DIRECT && !o->putting && !o->cancelled)
        o->direct = bise_direct_new(o->fd, o->pos - o->all_put, PUT_PARTS);
    o->putting = true;
    bise_direct *d = o->direct;
    pthread_mutex_unlock(&o->lock);
    return d;
}

/* Through the page cache. A file system lets one thread at a time write to a
 * file and makes the others spin; here they sleep. */
static int put_cached(bise_out *o, uint64_t offset, const void *data, size_t n)
{
    pthread_mutex_lock(&o->lock);
    const int e = bise_fd_write(o->fd, data, n, offset);
    if (!e)
        bise_out_settle(o, offset, n);
    pthread_mutex_unlock(&o->lock);
    return e;
}

bise_status bise_out_put(bise_out *o, uint64_t offset, const void *data,
                         size_t n, bise_error *err)
{
    bise_direct *d = stream_of(o);
    const bise_status s = written(o, d ? bise_direct_put(d, offset, data, n) :
                                  put_cached(o, offset, data, n), n, err);
    pthread_mutex_lock(&o->lock);
    o->to_put -= s == BISE_OK ? n : 0;
    const bool last = o->to_put == 0 && !o->cancelled;
    pthread_mutex_unlock(&o->lock);
    return s == BISE_OK && last ? end_stream(o, err) : s;
}

void bise_out_cancel(bise_out *o)
{
    pthread_mutex_lock(&o->lock);
    o->cancelled = true;
    if (o->direct)
        bise_direct_cancel(o->direct);
    pthread_mutex_unlock(&o->lock);
}

void bise_fd_settle(int fd, uint64_t offset, uint64_t n)
{
#ifdef SYNC_FILE_RANGE_WRITE
    sync_file_range(fd, (off_t)offset, (off_t)n, SYNC_FILE_RANGE_WRITE);
#else
    (void)fd;
    (void)offset;
    (void)n;
#endif
}

void bise_out_settle(const bise_out *o, uint64_t offset, uint64_t n)
{
    bise_fd_settle(o->fd, offset, n);
}

/* In blocks of a page, whatever the alignment. */
bise_status bise_out_pad(bise_out *o, uint64_t align, bise_error *err)
{
    static const char zero[4096];
    uint64_t n = (align - o->pos % align) % align;
    bise_status s = BISE_OK;
    while (n && s == BISE_OK) {
        const size_t k = n < sizeof zero ? (size_t)n : sizeof zero;
        s = bise_out_write(o, zero, k, err);
        n -= k;
    }
    return s;
}

/* Patches do not move the position. */
uint64_t bise_out_tell(const bise_out *o)
{
    return o->pos;
}

static void out_free(bise_out *o)
{
    pthread_mutex_destroy(&o->lock);
    bise_free(o->path);
    bise_free(o->part);
    bise_free(o);
}

/* Truncate what was preallocated, sync the data, rename, sync the folder: in
 * this order a crash leaves the old file or the new one, never a mixture. */
bise_status bise_out_commit(bise_out *o, bise_error *err)
{
    bise_status s = end_stream(o, err);
    if (s == BISE_OK && o->allocated > o->pos &&
        ftruncate(o->fd, (off_t)o->pos) != 0)
        s = bise_fail_errno(err, o->path, "cannot truncate");
    if (s == BISE_OK && fsync(o->fd) != 0)
        s = bise_fail_errno(err, o->path, "cannot sync");
    if (close(o->fd) != 0 && s == BISE_OK)
        s = bise_fail_errno(err, o->path, "cannot close");
    if (s == BISE_OK && rename(o->part, o->path) != 0)
        s = bise_fail_errno(err, o->path, "cannot rename");
    if (s != BISE_OK)
        unlink(o->part);
    char *dir = parent_dir(o->path);
    if (dir && s == BISE_OK)
        bise_dir_sync(dir);
    bise_free(dir);
    out_free(o);
    return s;
}

void bise_out_drop(bise_out *o)
{
    if (!o)
        return;
    if (o->direct)
        (void)bise_direct_end(o->direct);
    close(o->fd);
    unlink(o->part);
    out_free(o);
}

/* A .part folder left by a crash is removed first: it was never whole. */
bise_status bise_outdir_open(bise_outdir *d, const char *path, bool force,
                             bise_error *err)
{
    memset(d, 0, sizeof *d);
    bise_status s = bise_out_check(path, force, err);
    if (s != BISE_OK)
        return s;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    bise_str part = { 0 };
    bise_str_add(&part, path, n);
    bise_str_puts(&part, ".part");
    d->part_path = bise_str_take(&part);
    d->path = bise_strndup(path, n);
    d->force = force;
    if (!d->part_path || !d->path) {
        bise_outdir_drop(d);
        return bise_fail_nomem(err);
    }
    bise_remove_tree(d->part_path);             /* left by an earlier crash */
    s = bise_mkdir(d->part_path, err);
    if (s != BISE_OK)
        bise_outdir_drop(d);
    return s;
}

/* Give the new folder its name. rename cannot replace a folder that is not
 * empty: both change names in one step, so that a kill leaves one of them
 * whole, and the old one is removed as NAME.part. Where that is not supported
 * the old one is removed first. */
static int take_name(const char *part, const char *path)
{
#ifdef RENAME_EXCHANGE
    if (renameat2(AT_FDCWD, part, AT_FDCWD, path, RENAME_EXCHANGE) == 0) {
        bise_remove_tree(part);
        return 0;
    }
#endif
    bise_remove_tree(path);
    return rename(part, path);
}

/* Only a forced output may replace what is there. */
bise_status bise_outdir_commit(bise_outdir *d, bise_error *err)
{
    bise_status s = BISE_OK;
    bise_dir_sync(d->part_path);
    const bool replace = d->force && bise_file_exists(d->path);
    if ((replace ? take_name(d->part_path, d->path) :
                   rename(d->part_path, d->path)) != 0)
        s = bise_fail_errno(err, d->path, "cannot rename");
    char *dir = parent_dir(d->path);
    if (dir && s == BISE_OK)
        bise_dir_sync(dir);
    bise_free(dir);
    bise_outdir_drop(d);
    return s;
}

/* Safe on a zeroed or committed object. */
void bise_outdir_drop(bise_outdir *d)
{
    if (d->part_path)
        bise_remove_tree(d->part_path);
    bise_free(d->part_path);
    bise_free(d->path);
    memset(d, 0, sizeof *d);
}
