/* archive.h - archives of `bise pack`: a tar file of independent zstd frames
 * with a seek table at its end (zframe.h), so that GNU tar and zstd unpack it
 * and bise reads any part of any member without unpacking the rest.
 *   frame 0: manifest.json, stored raw | per member: one frame, or a frame with
 *   its header and frames of 4 MiB | end of tar | seek table
 * The manifest lists every file with size, place and sha256. Weights of 16 bits
 * may be stored as byte planes (planes.h), under NAME.planes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_ARCHIVE_H
#define BISE_FORMATS_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/pool.h"
#include "core/progress.h"
#include "core/strmap.h"
#include "formats/planes.h"
#include "formats/source.h"
#include "formats/zframe.h"

#define BISE_ARCHIVE_UNIT BISE_PLANES_CHUNK /* bytes unpacked at a time */
#define BISE_ARCHIVE_BATCH ((size_t)24 << 20) /* bytes collected, then packed */
#define BISE_MANIFEST "manifest.json"

/* One member. A name that ends in '/' is a folder. */
typedef struct bise_member {
    const char *path;     /* in the unpacked tree */
    const char *format;   /* "safetensors", "json", ... for people; NULL: as
                             the name says */
    uint64_t bytes;       /* of the file */
    unsigned mode;        /* 0644 or 0755 */
    bool planes;          /* stored as byte planes */
    uint8_t sha256[32];   /* of the file */
    /* Places, set by the writer and the reader. */
    uint64_t offset;      /* of the stored data after the manifest member */
    uint64_t stored;      /* bytes in the tar member */
    bise_planes map;      /* when planes */
} bise_member;

/* ------------------------------------------------------------- writing */
typedef struct bise_archive_writer bise_archive_writer;

typedef struct bise_archive_options {
    int level;            /* of zstd, 0 = 3 */
    bool force;           /* replace an existing archive */
    bise_pool *pool;
    const bise_progress *progress; /* of all members' bytes; NULL: silent */
} bise_archive_options;

/* Start an archive of n members in this order (sorted by the caller), whose
 * sizes and planes are known and whose data follows by bise_archive_write, one
 * after the other. members is borrowed until the end; sha256 and the places
 * are filled in. Peak memory: 32 MiB of data, for each thread 8 MiB, and at
 * most 64 MiB of what was packed. */
BISE_NODISCARD bise_status bise_archive_create(bise_archive_writer **out,
                                               const char *path,
                                               bise_member *members, size_t n,
                                               const bise_archive_options *o,
                                               bise_error *err);
/* The next bytes of the members' data; may span several members. Large pieces
 * of large members are packed from where they are, without a copy: a batch at
 * a time (BISE_ARCHIVE_BATCH) or more is fastest. */
BISE_NODISCARD bise_status bise_archive_write(bise_archive_writer *w,
                                              const void *data, size_t n,
                                              bise_error *err);
/* The same of a whole mapped file, of which little is resident at a time. */
BISE_NODISCARD bise_status bise_archive_write_map(bise_archive_writer *w,
                                                  const bise_map *m,
                                                  bise_error *err);
/* Complete the archive; fails when data is missing. Releases w always. */
BISE_NODISCARD bise_status bise_archive_finish(bise_archive_writer *w,
                                               bise_error *err);
/* Drop the partial archive and release w. NULL is fine. */
void bise_archive_abandon(bise_archive_writer *w);
/* Bytes written so far. */
uint64_t bise_archive_packed(const bise_archive_writer *w);

/* The manifest as text: the same length for any sha256. */
void bise_manifest_put(bise_str *out, const bise_member *members, size_t n,
                       int64_t mtime);

/* ------------------------------------------------------------- reading */
/* An opened archive; everything of the manifest has been checked against the
 * seek table, names are safe relative paths. */
typedef struct bise_archive {
    bise_map map;
    bise_frame *frames;
    size_t n_frames;
    uint64_t total;       /* bytes of the unpacked tar */
    uint64_t base;        /* end of the manifest member in it */
    int64_t mtime;
    bise_json *manifest;
    bise_member *members;
    size_t n;
    bise_strmap names;
    bise_arena arena;
} bise_archive;

/* True when the file starts like an archive (zstd magic). */
bool bise_archive_probe(const char *path);
/* Map and check an archive; see above for what is checked. */
BISE_NODISCARD bise_status bise_archive_open(bise_archive *a, const char *path,
                                             bise_error *err);
/* Release; safe on a zeroed object. */
void bise_archive_close(bise_archive *a);
/* Member of a path, NULL when there is none. */
const bise_member *bise_archive_find(const bise_archive *a, const char *path);
/* The first weights in it (.safetensors, .gguf), whose folder is the model's;
 * NULL when there are none. */
const bise_member *bise_archive_weights(const bise_archive *a);
/* Can a name leave the folder it is unpacked in? (absolute, "..", odd) */
bool bise_archive_safe_path(const char *path);

/* Scratch of one thread for unpacking. */
typedef struct bise_unpacker bise_unpacker;
/* NULL when out of memory. */
bise_unpacker *bise_unpacker_new(void);
/* NULL is fine. */
void bise_unpacker_free(bise_unpacker *u);
/* Packed bytes it has read so far: what a file system would have to fetch. */
uint64_t bise_unpacker_bytes(const bise_unpacker *u);
/* Unpack unit k (bytes [k, k + 1) * BISE_ARCHIVE_UNIT of the file, the last one
 * shorter) into out. Thread-safe with a scratch of its own. */
BISE_NODISCARD bise_status bise_archive_unit(const bise_archive *a,
                                             const bise_member *m, uint64_t k,
                                             void *out, bise_unpacker *u,
                                             bise_error *err);
/* Does the tar header before the member say what the manifest says? */
BISE_NODISCARD bise_status bise_archive_check_header(const bise_archive *a,
                                                     size_t i,
                                                     bise_unpacker *u,
                                                     bise_error *err);

/* The files of an archive as a source (source.h). */
BISE_NODISCARD bise_status bise_archive_source(bise_source **out,
                                               const char *path,
                                               bise_error *err);

#endif
