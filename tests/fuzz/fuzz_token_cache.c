/* fuzz_token_cache.c - any bytes as a token cache, with key and checksum made
 * to fit so that the checks behind them are reached: a file that opens has
 * every sample inside it, ids of the vocabulary, and counts that add up.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "formats/crypto.h"
#include "text/token_cache.h"

#define VOCAB 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char key[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/* Touch every sample of a cache that opened. */
static void walk(const bise_token_cache *c)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < c->n_sources; i++)
        sum += bise_token_cache_source(c, i);
    if (sum != c->n)
        abort();
    for (uint64_t i = 0; i < c->n; i++) {
        bise_row row;
        bise_token_cache_row(c, i, &row);
        const uint8_t *end = row.mask + row.n;
        if (row.n < 2 || row.n != bise_token_cache_len(c, i) ||
            (const uint8_t *)row.ids < c->map.data ||
            end > c->map.data + c->map.size)
            abort();
        for (int32_t k = 0; k < row.n; k++)
            if (row.ids[k] < 0 || row.ids[k] >= VOCAB)
                abort();
    }
    if (memchr(c->stats.format, 0, sizeof c->stats.format) == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bise_token_cache c;
    bise_error err;
    char path[64];
    uint8_t *image = bise_alloc(size + 1);
    if (!image)
        return 0;
    if (size)
        memcpy(image, data, size);
    if (size >= 256) {                  /* magic, key and checksum */
        memcpy(image, "BISETOK1", 8);
        memcpy(image + 8, key, 64);
        bise_sha256_of(image + 72, image + 256, size - 256);
    }
    snprintf(path, sizeof path, "/tmp/bise-fuzz-cache-%ld", (long)getpid());
    remove(path);
    FILE *f = fopen(path, "wb");
    if (f && fwrite(image, 1, size, f) == size && fclose(f) == 0) {
        bise_error_init(&err);
        if (bise_token_cache_open(&c, path, key, VOCAB, &err) == BISE_OK) {
            walk(&c);
            bise_token_cache_close(&c);
        } else if (!err.text[0]) {
            abort();
        }
    }
    remove(path);
    bise_free(image);
    return 0;
}
