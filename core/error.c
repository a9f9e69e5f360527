/* error.c - fill and complete the error object; see error.h for the rules.
 * Called by every module that can fail; printed by cli/ only.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/str.h"

void bise_error_init(bise_error *err)
{
    memset(err, 0, sizeof *err);
    err->offset = -1;
}

/* Names out of a broken file, or cut by the buffer's end, must not make the
 * message itself unreadable for a JSON reader: what is no UTF-8 becomes '?'. */
static void make_utf8(char *s)
{
    for (size_t n = strlen(s); n;) {
        const int len = bise_utf8_next(s, n, NULL);
        if (!len)
            *s = '?';
        s += len ? len : 1;
        n -= len ? (size_t)len : 1;
    }
}

/* The shared body of the public recorders: the first error wins. */
BISE_PRINTF(4, 0)
static bise_status record(bise_error *err, bise_status status, int64_t offset,
                          const char *fmt, va_list args)
{
    if (err->status != BISE_OK)
        return err->status;
    err->status = status;
    err->offset = offset;
    vsnprintf(err->text, sizeof err->text, fmt, args);
    make_utf8(err->text);
    return status;
}

bise_status bise_fail(bise_error *err, bise_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const bise_status s = record(err, status, -1, fmt, args);
    va_end(args);
    return s;
}

bise_status bise_fail_at(bise_error *err, bise_status status, int64_t offset,
                         const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const bise_status s = record(err, status, offset, fmt, args);
    va_end(args);
    return s;
}

/* errno is saved first: formatting may change it. */
bise_status bise_fail_errno(bise_error *err, const char *path, const char *what)
{
    const int saved = errno;
    if (err->status != BISE_OK)
        return err->status;
    const bise_status s =
        bise_fail(err, BISE_EIO, "%s: %s", what, strerror(saved));
    err->sys_errno = saved;
    return path ? bise_error_in(err, path, NULL) : s;
}

bise_status bise_fail_nomem(bise_error *err)
{
    return bise_fail(err, BISE_ENOMEM, "out of memory");
}

bise_status bise_error_in(bise_error *err, const char *path, const char *tensor)
{
    if (path && !err->path[0])
        snprintf(err->path, sizeof err->path, "%s", path);
    if (tensor && !err->tensor[0])
        snprintf(err->tensor, sizeof err->tensor, "%s", tensor);
    return err->status;
}

bise_status bise_error_hint(bise_error *err, const char *fmt, ...)
{
    if (!err->hint[0]) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->hint, sizeof err->hint, fmt, args);
        va_end(args);
    }
    return err->status;
}

const char *bise_status_name(bise_status status)
{
    switch (status) {
    case BISE_OK: return "ok";
    case BISE_EIO: return "io";
    case BISE_EFORMAT: return "format";
    case BISE_EUNSUPPORTED: return "unsupported";
    case BISE_ENOMEM: return "memory";
    case BISE_EINVAL: return "usage";
    case BISE_ECANCEL: return "cancelled";
    }
    return "unknown";
}
