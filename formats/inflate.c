/* inflate.c - byte streams out of plain, gzip and zstd files. Plain files are
 * read directly; the others pass libarchive's decompression filters with its
 * "raw" format, which treats the stream as one nameless entry. Called by the
 * row reader of text/.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/inflate.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"

#define BLOCK 65536 /* bytes libarchive reads at a time */

struct bise_inflate {
    char *path;          /* for messages; NULL for memory */
    int fd;              /* plain file, else -1 */
    struct archive *raw; /* compressed file, else NULL */
    const uint8_t *data; /* memory */
    size_t size;
    uint64_t done;       /* bytes handed out */
};

/* gzip and zstd by magic; everything else is taken as it is. */
static bool is_compressed(int fd)
{
    uint8_t head[4];
    const ssize_t n = pread(fd, head, sizeof head, 0);
    if (n >= 2 && head[0] == 0x1f && head[1] == 0x8b)
        return true;
    return n == 4 && head[0] == 0x28 && head[1] == 0xb5 && head[2] == 0x2f &&
           head[3] == 0xfd;
}

/* libarchive with its gzip and zstd filters and the "raw" format: the stream
 * is one entry without a name. The format "empty" catches a stream that holds
 * no byte at all, which "raw" would refuse. */
static bise_status open_raw(bise_inflate *in, bise_error *err)
{
    struct archive_entry *entry;
    int rc = ARCHIVE_FATAL;
    in->raw = archive_read_new();
    if (!in->raw)
        return bise_fail_nomem(err);
    if (archive_read_support_filter_gzip(in->raw) >= ARCHIVE_WARN &&
        archive_read_support_filter_zstd(in->raw) >= ARCHIVE_WARN &&
        archive_read_support_format_raw(in->raw) == ARCHIVE_OK &&
        archive_read_support_format_empty(in->raw) == ARCHIVE_OK &&
        archive_read_open_filename(in->raw, in->path, BLOCK) == ARCHIVE_OK)
        rc = archive_read_next_header(in->raw, &entry);
    if (rc == ARCHIVE_EOF) {            /* nothing inside: memory of size 0 */
        archive_read_free(in->raw);
        in->raw = NULL;
        return BISE_OK;
    }
    return rc == ARCHIVE_OK ? BISE_OK :
           bise_fail_at(err, BISE_EFORMAT, 0, "cannot decompress: %s",
                        archive_error_string(in->raw));
}

/* Plain files keep their descriptor; for compressed ones libarchive opens the
 * path again by itself. */
bise_status bise_inflate_open(bise_inflate **out, const char *path,
                              bise_error *err)
{
    bise_inflate *in = bise_alloc(sizeof *in);
    bise_status s = BISE_OK;
    if (!in)
        return bise_fail_nomem(err);
    in->fd = -1;
    in->path = bise_strdup(path);
    if (!in->path) {
        s = bise_fail_nomem(err);
        goto done;
    }
    in->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0) {
        s = bise_fail_errno(err, path, "cannot open");
        goto done;
    }
    if (is_compressed(in->fd)) {
        close(in->fd);
        in->fd = -1;
        s = open_raw(in, err);
    }
done:
    if (s != BISE_OK) {
        bise_inflate_close(in);
        return bise_error_in(err, path, NULL);
    }
    *out = in;
    return BISE_OK;
}

/* No copy is made: the reader walks the caller's bytes. */
bise_status bise_inflate_memory(bise_inflate **out, const void *data, size_t n,
                                bise_error *err)
{
    bise_inflate *in = bise_alloc(sizeof *in);
    if (!in)
        return bise_fail_nomem(err);
    in->fd = -1;
    in->data = data;
    in->size = n;
    *out = in;
    return BISE_OK;
}

/* libarchive reports a cut or damaged stream here, in the middle of the data:
 * the position told is the one in the decompressed stream. */
static bise_status read_raw(bise_inflate *in, void *buf, size_t cap,
                            size_t *got, bise_error *err)
{
    const la_ssize_t n = archive_read_data(in->raw, buf, cap);
    if (n < 0) {
        const bise_status s =
            bise_fail_at(err, BISE_EFORMAT, (int64_t)in->done,
                         "cannot decompress: %s",
                         archive_error_string(in->raw));
        return s == BISE_OK ? s : bise_error_in(err, in->path, NULL);
    }
    *got = (size_t)n;
    return BISE_OK;
}

/* One read of whichever source there is; interrupted system calls are
 * repeated. */
bise_status bise_inflate_read(bise_inflate *in, void *buf, size_t cap,
                              size_t *got, bise_error *err)
{
    bise_status s = BISE_OK;
    *got = 0;
    if (in->raw) {
        s = read_raw(in, buf, cap, got, err);
    } else if (in->fd >= 0) {
        ssize_t n;
        do
            n = read(in->fd, buf, cap);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            return bise_fail_errno(err, in->path, "cannot read");
        *got = (size_t)n;
    } else {
        const size_t left = in->size - (size_t)in->done;
        *got = left < cap ? left : cap;
        if (*got)
            memcpy(buf, in->data + in->done, *got);
    }
    in->done += *got;
    return s;
}

/* Of a compressed stream libarchive counts the bytes before the filter (-1). */
uint64_t bise_inflate_consumed(const bise_inflate *in)
{
    if (!in->raw)
        return in->done;
    const la_int64_t n = archive_filter_bytes(in->raw, -1);
    return n > 0 ? (uint64_t)n : 0;
}

/* Any state that _open can leave behind. */
void bise_inflate_close(bise_inflate *in)
{
    if (!in)
        return;
    if (in->raw)
        archive_read_free(in->raw);
    if (in->fd >= 0)
        close(in->fd);
    bise_free(in->path);
    bise_free(in);
}
