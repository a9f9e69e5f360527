/* file.h - files: whole reads, read-only mappings, and outputs that appear
 * under their name only when complete. An output is written to NAME.part,
 * synced, renamed, and its folder synced; a dropped one is unlinked.
 * An output directory is built the same way as NAME.part/.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_FILE_H
#define BISE_CORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

/* Append the whole file to out. */
BISE_NODISCARD bise_status bise_file_read(bise_str *out, const char *path,
                                          bise_error *err);
/* Write a small file completely: .part, fsync, rename. Replaces path. */
BISE_NODISCARD bise_status bise_file_write(const char *path, const void *data,
                                           size_t n, bise_error *err);
bool bise_file_exists(const char *path);
bool bise_is_dir(const char *path);
/* Size in bytes; 0 when there is no such file. */
uint64_t bise_file_size(const char *path);
/* Make a directory and its parents; existing is fine. */
BISE_NODISCARD bise_status bise_mkdir(const char *path, bise_error *err);
/* Remove a file or a whole tree; absent is fine. Never follows links. */
void bise_remove_tree(const char *path);
/* Bytes free for this user on the file system of path (or its parent). */
uint64_t bise_disk_free(const char *path);
/* Refuse an output that exists, unless it may be replaced. */
BISE_NODISCARD bise_status bise_out_check(const char *path, bool force,
                                          bise_error *err);
/* Refuse, with both figures, when fewer than bytes are. */
BISE_NODISCARD bise_status bise_disk_check(const char *path, uint64_t bytes,
                                           bise_error *err);
/* The name by which a file or folder is known: the last part of path as it is
 * given, also of a link; of "." and the like that of the folder they stand for.
 * To free; NULL when out of memory. */
char *bise_path_name(const char *path);
/* Names in a directory, sorted bytewise, without . and ..; the array and its
 * strings are one allocation, release with bise_free(*names). */
BISE_NODISCARD bise_status bise_dir_list(char ***names, size_t *n,
                                         const char *path, bise_error *err);
/* Flush a directory's entries to disk; errors are ignored where unsupported. */
void bise_dir_sync(const char *path);

/* A read-only mapping of a whole file. */
typedef struct bise_map {
    const uint8_t *data; /* NULL for an empty file */
    uint64_t size;
} bise_map;

BISE_NODISCARD bise_status bise_map_open(bise_map *m, const char *path,
                                         bise_error *err);
void bise_map_close(bise_map *m);
/* With random nothing is read ahead of what is touched or asked for with
 * bise_map_ahead; without, as the kernel likes: that suits reading in order. */
void bise_map_random(const bise_map *m, bool random);
/* Tell the kernel that [data, data+n) will be read soon. */
void bise_map_ahead(const void *data, uint64_t n);
/* Drop the whole pages inside [data, data+n) from this process's resident set;
 * later reads fetch them again. Only for file mappings. */
void bise_map_release(const void *data, uint64_t n);

/* Zeroed memory of size bytes that is kept on disk: a file without a name in
 * the folder of path, mapped. Its pages can leave memory, and it is gone when
 * closed or when the process dies. *data is m's, to be written to. The whole
 * space is taken here: a full disk is an error now, not a signal later. */
BISE_NODISCARD bise_status bise_map_scratch(bise_map *m, uint8_t **data,
                                            const char *path, uint64_t size,
                                            bise_error *err);

/* An output file in the making. */
typedef struct bise_out bise_out;

/* Open path.part for writing. Refuses an existing path unless force. When
 * expect > 0, checks the free space first and preallocates. */
BISE_NODISCARD bise_status bise_out_open(bise_out **out, const char *path,
                                         uint64_t expect, bool force,
                                         bise_error *err);
/* For a long file that is appended to piece by piece: until the first
 * bise_out_patch it is written past the page cache (direct.h) where that can be
 * done. Only before anything is written. */
void bise_out_stream(bise_out *o);
/* Append n bytes. */
BISE_NODISCARD bise_status bise_out_write(bise_out *o, const void *data,
                                          size_t n, bise_error *err);
/* Overwrite n bytes at a position already written. */
BISE_NODISCARD bise_status bise_out_patch(bise_out *o, uint64_t offset,
                                          const void *data, size_t n,
                                          bise_error *err);
/* Give the file its final size: what is not written yet reads as zero, until
 * every byte of it is put. */
BISE_NODISCARD bise_status bise_out_resize(bise_out *o, uint64_t size,
                                           bise_error *err);
/* Bytes of a place behind what was written when the file got its size, each
 * once; for any number of threads, which fill the file from front to back but
 * not in strict order: far ahead of a gap a put waits. Where it can be done,
 * large files are written past the page cache (direct.h). */
BISE_NODISCARD bise_status bise_out_put(bise_out *o, uint64_t offset,
                                        const void *data, size_t n,
                                        bise_error *err);
/* No more is wanted: puts return at once, waiting ones too. For any thread;
 * the file is to be dropped. */
void bise_out_cancel(bise_out *o);
/* Start writing a finished range to disk now, so that the final sync has less
 * left to wait for. A hint. */
void bise_out_settle(const bise_out *o, uint64_t offset, uint64_t n);
/* The same for a file that was opened in another way. A page that is still to
 * be written to is better left out: the write would wait for the disk. */
void bise_fd_settle(int fd, uint64_t offset, uint64_t n);
/* Append zero bytes up to a multiple of align. */
BISE_NODISCARD bise_status bise_out_pad(bise_out *o, uint64_t align,
                                        bise_error *err);
uint64_t bise_out_tell(const bise_out *o);
/* Sync, rename to the final name, release o (also on failure). */
BISE_NODISCARD bise_status bise_out_commit(bise_out *o, bise_error *err);
/* Throw the partial file away. NULL is fine. */
void bise_out_drop(bise_out *o);

/* An output directory in the making: path.part/ until committed. part_path is
 * where to create its files (plain bise_out_open with force inside). */
typedef struct bise_outdir {
    char *path, *part_path;
    bool force;
} bise_outdir;

BISE_NODISCARD bise_status bise_outdir_open(bise_outdir *d, const char *path,
                                            bool force, bise_error *err);
/* Sync and rename into place (an existing directory is replaced under force). */
BISE_NODISCARD bise_status bise_outdir_commit(bise_outdir *d, bise_error *err);
void bise_outdir_drop(bise_outdir *d);

#endif
