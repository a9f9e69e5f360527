/* direct.h - appending to a file past the page cache: no copy to find memory
 * for, nothing left for the sync at the end, and the disk is written while the
 * caller makes the next bytes. Where the file system cannot, the page cache
 * takes them.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_DIRECT_H
#define BISE_CORE_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes that bypass the cache are of multiples of this many bytes, from and to
 * such places. */
#define BISE_DIRECT_ALIGN 4096u

/* Have writes to fd bypass the page cache, or go through it again. Is it
 * bypassed now? */
bool bise_fd_direct(int fd, bool direct);
/* Write all n bytes at an offset; 0, or errno. */
int bise_fd_write(int fd, const void *data, size_t n, uint64_t offset);

typedef struct bise_direct bise_direct;

/* A stream to fd, which is borrowed, of bytes from offset start on; the file
 * may have bytes before it. It takes parts (2 to 8) times 4 MiB of memory and a
 * thread that waits for the disk. NULL when there is no memory, thread or way.
 */
bise_direct *bise_direct_new(int fd, uint64_t start, int parts);
/* Append, from one thread; 0, or the errno of this or an earlier write. */
int bise_direct_add(bise_direct *d, const void *data, size_t n);
/* The bytes of a place, instead of bise_direct_add: from any thread and in
 * any order, each byte once. Waits while what lies parts times 4 MiB before
 * their end is missing, so whoever puts what comes first never waits for
 * others. */
int bise_direct_put(bise_direct *d, uint64_t offset, const void *data,
                    size_t n);
/* The file is given up: nobody waits any longer, and nothing more is written.
 * For any thread. */
void bise_direct_cancel(bise_direct *d);
/* Write what is left, through the page cache, and free d; 0 or errno. From now
 * on fd does not bypass it. */
int bise_direct_end(bise_direct *d);

#endif
