/* fuzz_gguf.c - any bytes as a GGUF file: tensors lie inside the image, arrays
 * can be walked to their end, typed reads never leave their value, and the
 * header written from what was read parses to the same list.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "formats/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Touch every byte of every value. */
static void walk(const bise_gguf *g)
{
    volatile double sink = 0;
    for (size_t i = 0; i < g->meta.n; i++) {
        const bise_gguf_kv *kv = &g->meta.kv[i];
        uint64_t at = 0, n = 0;
        size_t len = 0;
        for (const char *s; (s = bise_gguf_array_next(kv, &at, &len)); n++)
            if (len)
                sink += s[0] + s[len - 1];
        if (kv->type == BISE_GGUF_ARRAY && kv->elem == BISE_GGUF_STR &&
            (n != kv->count || at != kv->bytes))
            abort();
        for (uint64_t j = 0; kv->type == BISE_GGUF_ARRAY && j < kv->count &&
             j < 1000; j++)
            sink += bise_gguf_array_number(kv, j);
        sink += (double)bise_gguf_int(&g->meta, kv->key, 0);
        sink += bise_gguf_float(&g->meta, kv->key, 0);
    }
    (void)sink;
}

/* Header of what was read, with its data: the same keys and tensors. */
static void write_again(const bise_gguf *g)
{
    bise_error err;
    bise_str out = { 0 };
    uint64_t bytes = 0;
    bise_gguf again;
    bise_error_init(&err);
    bise_tensor *copy = bise_alloc_array(g->n_tensors + 1, sizeof *copy);
    if (g->n_tensors)
        memcpy(copy, g->tensors, g->n_tensors * sizeof *copy);
    if (bise_gguf_header(&out, &g->meta, copy, g->n_tensors, &bytes, &err) ==
        BISE_OK && bytes < 1u << 20) {
        const size_t head = out.len;
        while (out.len < head + bytes)
            bise_str_putc(&out, 0);
        if (bise_gguf_parse(&again, out.data, out.len, &err) != BISE_OK ||
            again.n_tensors != g->n_tensors || again.meta.n != g->meta.n)
            abort();
        for (size_t i = 0; i < g->meta.n; i++)
            if (again.meta.kv[i].bytes != g->meta.kv[i].bytes ||
                strcmp(again.meta.kv[i].key, g->meta.kv[i].key) != 0)
                abort();
        bise_gguf_close(&again);
    }
    bise_free(copy);
    bise_str_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bise_error err;
    bise_gguf g;
    bise_error_init(&err);
    if (bise_gguf_parse(&g, data, size, &err) != BISE_OK) {
        if (!err.text[0])
            abort();
        return 0;
    }
    for (size_t i = 0; i < g.n_tensors; i++) {
        const bise_tensor *t = &g.tensors[i];
        if (t->offset > size || t->bytes > size - t->offset)
            abort();
    }
    walk(&g);
    write_again(&g);
    bise_gguf_close(&g);
    return 0;
}
