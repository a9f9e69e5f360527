/* fuzz_archive.c - any bytes as an archive: whatever opens has safe names and
 * places inside the stream, and every unit unpacks or is refused. Fuzzing the
 * parts that are not under a checksum: seek table, manifest, planes header.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "formats/archive.h"
#include "formats/tarhead.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Open the archive at path and read the first units of each member. */
static void use(const char *path)
{
    bise_archive a;
    bise_error err;
    static uint8_t unit[BISE_ARCHIVE_UNIT];
    bise_error_init(&err);
    if (bise_archive_open(&a, path, &err) != BISE_OK) {
        if (!err.text[0])
            abort();
        return;
    }
    bise_unpacker *u = bise_unpacker_new();
    for (size_t i = 0; i < a.n; i++) {
        const bise_member *m = &a.members[i];
        if (!bise_archive_safe_path(m->path) ||
            m->offset + m->stored > a.total - a.base)
            abort();
        for (uint64_t k = 0; k < 2 && k * BISE_ARCHIVE_UNIT < m->bytes; k++) {
            bise_error_init(&err);
            if (bise_archive_unit(&a, m, k, unit, u, &err) != BISE_OK &&
                !err.text[0])
                abort();
        }
        bise_error_init(&err);
        if (bise_archive_check_header(&a, i, u, &err) != BISE_OK &&
            !err.text[0])
            abort();
    }
    bise_unpacker_free(u);
    bise_archive_close(&a);
}

/* Put bytes into an anonymous file and use it under its /proc name. */
static void use_bytes(const void *data, size_t n)
{
    char path[64];
    const int fd = memfd_create("fuzz", 0);
    if (fd < 0)
        return;
    if (write(fd, data, n) == (ssize_t)n) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        use(path);
    }
    close(fd);
}

/* The input as the tar stream of an otherwise sound archive: fuzzes what
 * checksums would hide, the manifest and the planes. */
static void use_stream(const uint8_t *data, size_t n)
{
    bise_str out = { 0 };
    uint8_t *frame = malloc(bise_zframe_bound(n));
    const size_t k = bise_zframe_store(frame, data, n);
    const bise_frame f = { .packed = (uint32_t)k, .bytes = (uint32_t)n };
    bise_str_add(&out, frame, k);
    bise_zframe_put_table(&out, &f, 1);
    use_bytes(out.data, out.len);
    free(frame);
    bise_str_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 20)
        return 0;
    use_bytes(data, size);
    use_stream(data, size);
    return 0;
}
