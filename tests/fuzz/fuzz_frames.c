/* fuzz_frames.c - any bytes as a file with a seek table, as a single frame, and
 * as content: tables tile the file, frames unpack to exactly what was asked or
 * not at all, and content packed at any level comes back.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "formats/tarhead.h"
#include "formats/zframe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every frame of an accepted table lies inside the file, one after another. */
static void use_table(bise_zcoder *z, const uint8_t *data, size_t size)
{
    bise_error err;
    bise_frame *f = NULL;
    size_t n = 0;
    uint64_t at = 0, pos = 0;
    bise_error_init(&err);
    if (bise_zframe_get_table(&f, &n, data, size, &err) != BISE_OK) {
        if (!err.text[0] || f)
            abort();
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (f[i].at != at || f[i].pos != pos || at + f[i].packed > size)
            abort();
        at += f[i].packed;
        pos += f[i].bytes;
        if (f[i].bytes < 1 << 16) {
            uint8_t *out = malloc(f[i].bytes + 1);
            (void)bise_zframe_unpack(z, out, f[i].bytes, data + f[i].at,
                                     f[i].packed);
            free(out);
        }
    }
    bise_free(f);
}

/* Pack, unpack, compare; stored frames never grow beyond their bound. */
static void use_content(bise_zcoder *z, const uint8_t *data, size_t size)
{
    static const int levels[] = { BISE_ZFRAME_SYMBOLS, 1, 3 };
    uint8_t *out = malloc(bise_zframe_bound(size)), *back = malloc(size + 1);
    for (size_t i = 0; i < 3; i++) {
        const size_t n = bise_zframe_pack(z, out, data, size, levels[i]);
        if (!n || n > bise_zframe_bound(size) ||
            !bise_zframe_unpack(z, back, size, out, n) ||
            (size && memcmp(back, data, size) != 0))
            abort();
    }
    free(out);
    free(back);
}

/* A tar header of any name without NUL is whole blocks. */
static void use_name(const uint8_t *data, size_t size)
{
    bise_str head = { 0 };
    char *name = bise_strndup((const char *)data, size < 300 ? size : 300);
    bise_tarhead_put(&head, &(bise_tarhead){ .name = name, .bytes = size,
                                             .mode = 0644 });
    if (head.len % 512 || !head.len)
        abort();
    bise_free(name);
    bise_str_fini(&head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bise_zcoder *z = bise_zcoder_new();
    uint8_t out[512];
    if (size > 1 << 16)
        size = 1 << 16;
    use_table(z, data, size);
    (void)bise_zframe_unpack(z, out, sizeof out, data, size);
    use_content(z, data, size);
    use_name(data, size);
    bise_zcoder_free(z);
    return 0;
}
