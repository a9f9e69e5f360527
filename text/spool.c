/* spool.c - a buffered unlinked file. Records are gathered in a buffer of
 * 64 KiB; reading uses pread, so nothing stays mapped or resident.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/spool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/str.h"

#define BUFFER 65536u

struct bise_spool {
    char *path;        /* for messages only: already unlinked */
    int fd;
    uint64_t size, at; /* bytes written to the file, position of reading */
    size_t n;          /* bytes waiting in buf */
    uint8_t buf[BUFFER];
};

/* The file loses its name at once, so that nothing can be left behind. */
bise_status bise_spool_new(bise_spool **out, const char *dir, bise_error *err)
{
    bise_spool *s = bise_alloc(sizeof *s);
    if (!dir)
        dir = getenv("TMPDIR");
    if (!s)
        return bise_fail_nomem(err);
    s->path = bise_path_join(dir && *dir ? dir : "/tmp", "bise-spool-XXXXXX");
    s->fd = s->path ? mkstemp(s->path) : -1;
    if (s->fd < 0) {
        const bise_status st = s->path ?
            bise_fail_errno(err, s->path, "cannot create") :
            bise_fail_nomem(err);
        bise_spool_close(s);
        return st;
    }
    unlink(s->path);
    *out = s;
    return BISE_OK;
}

/* Write the waiting bytes at the end of the file. */
static bise_status flush(bise_spool *s, bise_error *err)
{
    size_t done = 0;
    while (done < s->n) {
        const ssize_t w = pwrite(s->fd, s->buf + done, s->n - done,
                                 (off_t)s->size);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return bise_fail_errno(err, s->path, "cannot write");
        done += (size_t)w;
        s->size += (uint64_t)w;
    }
    s->n = 0;
    return BISE_OK;
}

/* Small records gather in the buffer; only full buffers are written. */
bise_status bise_spool_add(bise_spool *s, const void *data, size_t n,
                           bise_error *err)
{
    const uint8_t *p = data;
    while (n) {
        const size_t room = BUFFER - s->n, part = n < room ? n : room;
        memcpy(s->buf + s->n, p, part);
        s->n += part;
        p += part;
        n -= part;
        if (s->n == BUFFER) {
            const bise_status st = flush(s, err);
            if (st != BISE_OK)
                return st;
        }
    }
    return BISE_OK;
}

/* Bytes in the file and bytes still waiting. */
uint64_t bise_spool_size(const bise_spool *s)
{
    return s->size + s->n;
}

/* Waiting bytes must be in the file before they can be read. */
bise_status bise_spool_rewind(bise_spool *s, bise_error *err)
{
    s->at = 0;
    return flush(s, err);
}

/* pread: the position of writing is not touched. */
bise_status bise_spool_read(bise_spool *s, void *data, size_t n, size_t *got,
                            bise_error *err)
{
    *got = 0;
    while (*got < n) {
        const ssize_t r = pread(s->fd, (uint8_t *)data + *got, n - *got,
                                (off_t)s->at);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return bise_fail_errno(err, s->path, "cannot read");
        if (r == 0)
            break;
        *got += (size_t)r;
        s->at += (uint64_t)r;
    }
    return BISE_OK;
}

/* The last reference to the unnamed file. */
void bise_spool_close(bise_spool *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    bise_free(s->path);
    bise_free(s);
}
