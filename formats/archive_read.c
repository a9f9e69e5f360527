/* archive_read.c - the reading half of archive.h: the seek table and the
 * manifest are checked against each other before anything is handed out, and
 * units are unpacked on demand from the mapped file.
 * Trust: the seek table is checked against the file's length, the manifest
 * against the seek table, each file against its sha256. Frames carry checksums
 * of their own, so that a damaged one is named by its byte offset.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/archive.h"
#include "formats/tarhead.h"

#define MAX_MANIFEST (UINT64_C(256) << 20)
#define MAX_PATH 4000

struct bise_unpacker {
    bise_zcoder *z;
    uint8_t *frame;      /* a frame that is needed in part */
    size_t frame_cap;
    uint8_t *chunk;      /* a unit before its planes are joined */
    uint64_t bytes;      /* packed bytes read */
};

/* One for each thread: zstd's state and a chunk. The buffer for partly used
 * frames is made when the first one is met. */
bise_unpacker *bise_unpacker_new(void)
{
    bise_unpacker *u = bise_alloc(sizeof *u);
    if (!u)
        return NULL;
    u->z = bise_zcoder_new();
    u->chunk = bise_alloc(BISE_ARCHIVE_UNIT);
    if (!u->z || !u->chunk) {
        bise_unpacker_free(u);
        return NULL;
    }
    return u;
}

/* NULL is fine, as is an object that _new could not complete. */
void bise_unpacker_free(bise_unpacker *u)
{
    if (!u)
        return;
    bise_zcoder_free(u->z);
    bise_free(u->frame);
    bise_free(u->chunk);
    bise_free(u);
}

uint64_t bise_unpacker_bytes(const bise_unpacker *u)
{
    return u->bytes;
}

/* Part by part: no empty part (which an absolute path begins with), no "."
 * or "..", no control characters, no backslash that Windows would split at.
 * A single slash at the end marks a folder. */
bool bise_archive_safe_path(const char *path)
{
    const size_t n = strlen(path);
    if (!n || n > MAX_PATH || path[0] == '/' || strchr(path, '\\'))
        return false;
    for (const char *p = path; *p;) {
        const char *slash = strchr(p, '/');
        const size_t k = slash ? (size_t)(slash - p) : strlen(p);
        if (k == 0 || (k == 1 && p[0] == '.') ||
            (k == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        for (size_t i = 0; i < k; i++)
            if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
                return false;
        p += k + (slash != NULL);
    }
    return true;
}

/* Index of the frame that holds byte pos of the tar stream. */
static size_t frame_at(const bise_archive *a, uint64_t pos)
{
    size_t lo = 0, hi = a->n_frames;
    while (hi - lo > 1) {                       /* frames[lo].pos <= pos */
        const size_t mid = (lo + hi) / 2;
        if (a->frames[mid].pos <= pos)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* Unpack frame i into out (its whole size). */
static bise_status get_frame(const bise_archive *a, size_t i, void *out,
                             bise_unpacker *u, bise_error *err)
{
    const bise_frame *f = &a->frames[i];
    u->bytes += f->packed;
    if (bise_zframe_unpack(u->z, out, f->bytes, a->map.data + f->at,
                           f->packed))
        return BISE_OK;
    return bise_fail_at(err, BISE_EFORMAT, (int64_t)f->at,
                        "damaged frame of %" PRIu32 " bytes", f->packed);
}

/* Bytes [pos, pos + n) of the tar stream. */
static bise_status get_bytes(const bise_archive *a, uint64_t pos, uint64_t n,
                             uint8_t *out, bise_unpacker *u, bise_error *err)
{
    if (pos > a->total || n > a->total - pos)
        return bise_fail(err, BISE_EFORMAT, "bytes past the end of the tar "
                         "stream");
    size_t i = frame_at(a, pos);
    const uint8_t *start = a->map.data + a->frames[i].at;
    if (n) {
        const bise_frame *end = &a->frames[frame_at(a, pos + n - 1)];
        bise_map_ahead(start, end->at + end->packed - a->frames[i].at);
    }
    for (; n; i++) {
        const bise_frame *f = &a->frames[i];
        const uint64_t skip = pos - f->pos;
        const uint64_t k = f->bytes - skip < n ? f->bytes - skip : n;
        bise_status s;
        if (skip == 0 && k == f->bytes)
            s = get_frame(a, i, out, u, err);
        else {
            void *room = u->frame;
            if (bise_grow(&room, &u->frame_cap, f->bytes, 1) != 0)
                return bise_fail_nomem(err);
            u->frame = room;
            s = get_frame(a, i, u->frame, u, err);
            if (s == BISE_OK)
                memcpy(out, u->frame + skip, (size_t)k);
        }
        if (s != BISE_OK)
            return s;
        out += k;
        pos += k;
        n -= k;
    }
    /* keep the resident set small: packed bytes are rarely wanted twice */
    if (i && a->map.data + a->frames[i - 1].at >= start) {
        const bise_frame *last = &a->frames[i - 1];
        bise_map_release(start, (uint64_t)(a->map.data + last->at +
                                           last->packed - start));
    }
    return BISE_OK;
}

/* Units of byte planes are unpacked beside and joined into out; others are
 * unpacked straight into it. */
bise_status bise_archive_unit(const bise_archive *a, const bise_member *m,
                              uint64_t k, void *out, bise_unpacker *u,
                              bise_error *err)
{
    const uint64_t at = k * BISE_ARCHIVE_UNIT;
    const uint64_t left = m->bytes - at;
    const uint64_t n = left < BISE_ARCHIVE_UNIT ? left : BISE_ARCHIVE_UNIT;
    const uint64_t pos = a->base + m->offset + (m->stored - m->bytes) + at;
    bise_status s = get_bytes(a, pos, n, m->planes ? u->chunk : out, u, err);
    if (s == BISE_OK && m->planes)
        bise_planes_join(out, u->chunk, (size_t)n, at, &m->map);
    return s == BISE_OK ? s : bise_error_in(err, m->path, NULL);
}

/* Four bytes decide; everything else is checked by _open, which can say what
 * is wrong. */
bool bise_archive_probe(const char *path)
{
    bise_map map;
    bise_error err;
    bise_error_init(&err);
    if (bise_is_dir(path) || bise_map_open(&map, path, &err) != BISE_OK)
        return false;
    const bool ok = map.size >= 4 && bise_load_le32(map.data) == 0xfd2fb528u;
    bise_map_close(&map);
    return ok;
}

/* Octal number of a tar field. */
static uint64_t octal(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        v = v << 3 | (uint64_t)(p[i] - '0');
    return v;
}

/* Read the first member, which must be the manifest; sets base. */
static bise_status get_manifest(bise_archive *a, bise_unpacker *u,
                                bise_error *err)
{
    uint8_t head[512];
    bise_status s = get_bytes(a, 0, sizeof head, head, u, err);
    if (s != BISE_OK)
        return s;
    if (strcmp((const char *)head, BISE_MANIFEST) != 0)
        return bise_fail_at(err, BISE_EFORMAT, 0, "the first member is not "
                            "'" BISE_MANIFEST "'");
    const uint64_t n = octal(head + 124, 11);
    if (n > MAX_MANIFEST || n > a->total - sizeof head)
        return bise_fail_at(err, BISE_EFORMAT, 0, "manifest of %" PRIu64
                            " bytes in a tar stream of %" PRIu64, n, a->total);
    uint8_t *text = bise_alloc((size_t)n + 1);
    if (!text)
        return bise_fail_nomem(err);
    s = get_bytes(a, sizeof head, n, text, u, err);
    if (s == BISE_OK)
        s = bise_json_parse(&a->manifest, (const char *)text, (size_t)n, err);
    bise_free(text);
    a->base = sizeof head + n + bise_tar_padding(n);
    return s == BISE_OK ? s : bise_error_in(err, BISE_MANIFEST, NULL);
}

/* A whole number of the manifest that is not negative. */
static bool whole(const bise_json *v, const char *key, uint64_t *out)
{
    int64_t n;
    if (!bise_json_integer(bise_json_get(v, key), &n) || n < 0)
        return false;
    *out = (uint64_t)n;
    return true;
}

/* Exactly 64 lower-case hexadecimal digits. */
static bool get_digest(uint8_t out[32], const char *hex)
{
    if (!hex || strlen(hex) != 64)
        return false;
    for (int i = 0; i < 64; i++) {
        const char *at = strchr("0123456789abcdef", hex[i]);
        if (!at)
            return false;
        const int v = (int)(at - "0123456789abcdef");
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
    }
    return true;
}

/* Facts of one file; places must follow one another inside the stream. */
static bise_status get_member(bise_archive *a, bise_member *m,
                              const bise_json *v, uint64_t *end,
                              bise_error *err)
{
    m->path = bise_json_string(bise_json_get(v, "path"), NULL);
    if (!m->path || !bise_archive_safe_path(m->path))
        return bise_fail(err, BISE_EFORMAT, "path '%s' could leave the folder "
                         "it is unpacked in", m->path ? m->path : "?");
    const bool folder = bise_ends_with(m->path, "/");
    const char *mode = bise_json_string(bise_json_get(v, "mode"), NULL);
    m->mode = mode && strcmp(mode, "0755") == 0 ? 0755 : 0644;
    m->format = bise_json_string(bise_json_get(v, "format"), NULL);
    m->planes = bise_json_bool(bise_json_get(v, "planes"), false);
    bise_status s = BISE_OK;
    if (!whole(v, "bytes", &m->bytes) || !whole(v, "offset", &m->offset) ||
        (folder && m->bytes) ||
        (!folder && !get_digest(m->sha256, bise_json_string(
                                    bise_json_get(v, "sha256"), NULL))))
        s = bise_fail(err, BISE_EFORMAT, "the manifest lacks size, place or "
                      "sha256");
    m->stored = m->bytes;
    if (s == BISE_OK && m->planes && !whole(v, "stored", &m->stored))
        s = bise_fail(err, BISE_EFORMAT, "the manifest lacks the stored size");
    const uint64_t room = a->total - a->base;
    if (s == BISE_OK && (m->offset < *end || m->stored < m->bytes ||
                         m->offset > room || m->stored > room - m->offset))
        s = bise_fail(err, BISE_EFORMAT, "%" PRIu64 " bytes at %" PRIu64
                      " of a tar stream with %" PRIu64 " bytes after %" PRIu64,
                      m->stored, m->offset, room, *end);
    *end = m->offset + m->stored;
    return s == BISE_OK ? s : bise_error_in(err, m->path, NULL);
}

/* Header of the byte planes of a member. */
static bise_status get_planes(const bise_archive *a, bise_member *m,
                              bise_unpacker *u, bise_error *err)
{
    const uint64_t n = m->stored - m->bytes;
    if (n > BISE_ARCHIVE_UNIT)
        return bise_fail(err, BISE_EFORMAT, "byte plane header of %" PRIu64
                         " bytes", n);
    bise_status s = get_bytes(a, a->base + m->offset, n, u->chunk, u, err);
    if (s == BISE_OK)
        s = bise_planes_get_head(&m->map, u->chunk, n, err);
    if (s == BISE_OK && (m->map.size != m->bytes ||
                         bise_planes_head_bytes(&m->map) != n))
        s = bise_fail(err, BISE_EFORMAT, "byte plane header does not fit the "
                      "manifest");
    return s == BISE_OK ? s : bise_error_in(err, m->path, NULL);
}

/* No file may stand where another one needs a folder. */
static bise_status check_folders(const bise_archive *a, bise_error *err)
{
    for (size_t i = 0; i < a->n; i++) {
        const char *path = a->members[i].path;
        for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/'))
            if (bise_strmap_find(&a->names, path, (size_t)(p - path)) !=
                BISE_STRMAP_NONE)
                return bise_fail(err, BISE_EFORMAT, "'%.*s' is a file and a "
                                 "folder", (int)(p - path), path);
    }
    return BISE_OK;
}

/* The list of files: version, then each entry. Places must rise, which
 * get_member checks against the end of the one before; names must differ. */
static bise_status get_members(bise_archive *a, bise_unpacker *u,
                               bise_error *err)
{
    const bise_json *files = bise_json_get(a->manifest, "files");
    int64_t version = 0;
    if (!bise_json_integer(bise_json_get(a->manifest, "bise_archive"),
                           &version) || version != 1 ||
        bise_json_typeof(files) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EUNSUPPORTED, "not a manifest of version 1");
    if (!bise_json_integer(bise_json_get(a->manifest, "mtime"), &a->mtime) ||
        a->mtime < 0)
        a->mtime = 0;
    const size_t n = bise_json_size(files);
    a->members = bise_alloc_array(n + 1, sizeof *a->members);
    if (!a->members || bise_strmap_init(&a->names, n) != 0)
        return bise_fail_nomem(err);
    uint64_t end = 0;
    bise_status s = BISE_OK;
    while (a->n < n && s == BISE_OK) {
        bise_member *m = &a->members[a->n];
        s = get_member(a, m, bise_json_at(files, a->n), &end, err);
        if (s == BISE_OK && m->planes)
            s = get_planes(a, m, u, err);
        if (s != BISE_OK)
            break;
        const int added = bise_strmap_add(&a->names, m->path, strlen(m->path),
                                          (uint32_t)a->n);
        if (added < 0)
            s = bise_fail_nomem(err);
        else if (added > 0)
            s = bise_fail(err, BISE_EFORMAT, "'%s' stands twice", m->path);
        a->n++;
    }
    return s == BISE_OK ? check_folders(a, err) : s;
}

/* From the outside in: table, manifest, members. Nothing of the file's data
 * is unpacked but the manifest and headers of byte planes. */
bise_status bise_archive_open(bise_archive *a, const char *path,
                              bise_error *err)
{
    memset(a, 0, sizeof *a);
    bise_status s = bise_map_open(&a->map, path, err);
    bise_map_random(&a->map, true);
    bise_unpacker *u = s == BISE_OK ? bise_unpacker_new() : NULL;
    if (s == BISE_OK && !u)
        s = bise_fail_nomem(err);
    if (s == BISE_OK)
        s = bise_zframe_get_table(&a->frames, &a->n_frames, a->map.data,
                                  a->map.size, err);
    if (s == BISE_OK && !a->n_frames)
        s = bise_fail(err, BISE_EFORMAT, "an archive without frames");
    if (s == BISE_OK) {
        const bise_frame *last = &a->frames[a->n_frames - 1];
        a->total = last->pos + last->bytes;
        s = get_manifest(a, u, err);
    }
    if (s == BISE_OK && a->base > a->total)
        s = bise_fail(err, BISE_EFORMAT, "the manifest is cut off");
    if (s == BISE_OK)
        s = get_members(a, u, err);
    bise_unpacker_free(u);
    if (s != BISE_OK) {
        bise_archive_close(a);
        if (err->path[0] && strcmp(err->path, path) != 0) {
            /* a member's name stands there: say the archive too */
            bise_str full = { 0 };
            bise_str_printf(&full, "%s: %s", path, err->path);
            err->path[0] = 0;
            s = bise_error_in(err, bise_str_get(&full), NULL);
            bise_str_fini(&full);
        }
        return bise_error_in(err, path, NULL);
    }
    return BISE_OK;
}

/* Also used by _open for what it had when it failed. */
void bise_archive_close(bise_archive *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n; i++)
        bise_planes_fini(&a->members[i].map);
    bise_map_close(&a->map);
    bise_free(a->frames);
    bise_json_free(a->manifest);
    bise_free(a->members);
    bise_strmap_fini(&a->names);
    bise_arena_fini(&a->arena);
    memset(a, 0, sizeof *a);
}

/* By the exact path; folders end in '/'. */
const bise_member *bise_archive_find(const bise_archive *a, const char *path)
{
    const uint32_t i = bise_strmap_find(&a->names, path, strlen(path));
    return i == BISE_STRMAP_NONE ? NULL : &a->members[i];
}

/* Members are sorted, so that it is the same one in any archive of a tree. */
const bise_member *bise_archive_weights(const bise_archive *a)
{
    for (size_t i = 0; i < a->n; i++)
        if (bise_ends_with(a->members[i].path, ".safetensors") ||
            bise_ends_with(a->members[i].path, ".gguf"))
            return &a->members[i];
    return NULL;
}

/* The header that our writer would make of the manifest's facts must stand
 * in the stream byte for byte. So a header with another name, size or kind
 * (a link) cannot hide behind a harmless manifest, and tar and bise unpack
 * the same tree. */
bise_status bise_archive_check_header(const bise_archive *a, size_t i,
                                      bise_unpacker *u, bise_error *err)
{
    const bise_member *m = &a->members[i], *before = i ? m - 1 : NULL;
    bise_str name = { 0 }, want = { 0 };
    const uint64_t start = before ? before->offset + before->stored +
        bise_tar_padding(before->stored) : 0;
    bise_str_printf(&name, "%s%s", m->path, m->planes ? ".planes" : "");
    bise_tarhead_put(&want, &(bise_tarhead){ .name = bise_str_get(&name),
                                             .bytes = m->stored,
                                             .mode = m->mode,
                                             .mtime = a->mtime });
    bise_status s = bise_str_ok(&name) && bise_str_ok(&want) ? BISE_OK :
        bise_fail_nomem(err);
    if (s == BISE_OK && m->offset != start + want.len)
        s = bise_fail(err, BISE_EFORMAT, "tar header is not where the manifest "
                      "says");
    uint8_t *got = s == BISE_OK ? bise_alloc(want.len + 1) : NULL;
    if (s == BISE_OK)
        s = got ? get_bytes(a, a->base + start, want.len, got, u, err) :
            bise_fail_nomem(err);
    if (s == BISE_OK && memcmp(got, want.data, want.len) != 0)
        s = bise_fail(err, BISE_EFORMAT, "tar header differs from the "
                      "manifest");
    bise_free(got);
    bise_str_fini(&name);
    bise_str_fini(&want);
    return s == BISE_OK ? s : bise_error_in(err, m->path, NULL);
}
