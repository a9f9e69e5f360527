/* error.h - the one error type: a status to branch on, and a text that is
 * filled once where the fault is found, completed on the way up and printed
 * once by cli/. The object is the caller's; the first error wins.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_ERROR_H
#define BISE_CORE_ERROR_H

#include <stdarg.h>
#include <stdint.h>

#include "core/attr.h"

typedef enum {
    BISE_OK,
    BISE_EIO,          /* a system call failed; sys_errno says which way */
    BISE_EFORMAT,      /* the input breaks its format */
    BISE_EUNSUPPORTED, /* the input is valid, but bise does not do this */
    BISE_ENOMEM,       /* out of memory, or over the memory plan */
    BISE_EINVAL,       /* an option or argument is wrong */
    BISE_ECANCEL       /* the user stopped the work */
} bise_status;

typedef struct bise_error {
    bise_status status;
    int sys_errno;     /* 0 unless a system call failed */
    int64_t offset;    /* byte in the file, -1 when unknown */
    char path[512];    /* file, or "" */
    char tensor[192];  /* tensor, or "" */
    char text[512];    /* what is wrong: lower case, no full stop */
    char hint[256];    /* what to do about it, or "" */
} bise_error;

/* Reset err to "no error". Call before the object's first use. */
void bise_error_init(bise_error *err);

/* Record a fault and return its status. Does nothing but return the earlier
 * status when err already holds an error. */
BISE_NODISCARD bise_status bise_fail(bise_error *err, bise_status status,
                                     const char *fmt, ...) BISE_PRINTF(3, 4);

/* As bise_fail, with the byte offset in the file where the fault was found. */
BISE_NODISCARD bise_status bise_fail_at(bise_error *err, bise_status status,
                                        int64_t offset, const char *fmt, ...)
    BISE_PRINTF(4, 5);

/* Record a failed system call on path: BISE_EIO, errno and its text. */
BISE_NODISCARD bise_status bise_fail_errno(bise_error *err, const char *path,
                                           const char *what);

/* Record that memory could not be had. */
BISE_NODISCARD bise_status bise_fail_nomem(bise_error *err);

/* Complete an error on the way up: fills path and tensor where still empty
 * (either may be NULL) and returns err->status. */
BISE_NODISCARD bise_status bise_error_in(bise_error *err, const char *path,
                                         const char *tensor);

/* Add a hint where none stands yet; returns err->status. */
BISE_NODISCARD bise_status bise_error_hint(bise_error *err, const char *fmt,
                                           ...) BISE_PRINTF(2, 3);

/* Short name of a status for --json: "io", "format", ... Never NULL. */
const char *bise_status_name(bise_status status);

#endif
