/* crypto.c - SHA-256 through libcrypto's EVP interface, which picks the
 * fastest code for the machine. The only file that sees OpenSSL's headers.
 * Hashing is the slowest step of packing and verifying on machines without SHA
 * instructions; callers run it beside compression.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/crypto.h"

#include <openssl/evp.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"

struct bise_sha256 {
    EVP_MD_CTX *ctx;
};

/* NULL when memory is short or libcrypto has no SHA-256. */
bise_sha256 *bise_sha256_new(void)
{
    bise_sha256 *h = bise_alloc(sizeof *h);
    if (!h)
        return NULL;
    h->ctx = EVP_MD_CTX_new();
    if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        bise_sha256_free(h);
        return NULL;
    }
    return h;
}

/* Any number of bytes at a time; none is fine. */
void bise_sha256_add(bise_sha256 *h, const void *data, size_t n)
{
    if (n)
        EVP_DigestUpdate(h->ctx, data, n);
}

/* The object is gone afterwards, also when libcrypto fails, which gives a
 * digest of zeros that matches nothing. */
void bise_sha256_finish(bise_sha256 *h, uint8_t out[32])
{
    unsigned n = 32;
    if (EVP_DigestFinal_ex(h->ctx, out, &n) != 1)
        memset(out, 0, 32);
    bise_sha256_free(h);
}

/* For a hash that is not wanted any more; NULL is fine. */
void bise_sha256_free(bise_sha256 *h)
{
    if (h)
        EVP_MD_CTX_free(h->ctx);
    bise_free(h);
}

/* One call of libcrypto without an object of our own. */
void bise_sha256_of(uint8_t out[32], const void *data, size_t n)
{
    unsigned len = 32;
    if (EVP_Digest(n ? data : "", n, out, &len, EVP_sha256(), NULL) != 1)
        memset(out, 0, 32);
}

/* Lower case, as in sha256sum's output and the Hub's file lists. */
char *bise_hex32(char out[65], const uint8_t digest[32])
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        out[2 * i] = hex[digest[i] >> 4];
        out[2 * i + 1] = hex[digest[i] & 15];
    }
    out[64] = 0;
    return out;
}

/* Through a mapping in slabs whose pages are given back, so that hashing a
 * file larger than memory does not fill it. */
bise_status bise_sha256_file(uint8_t out[32], const char *path, bise_error *err)
{
    const uint64_t slab = UINT64_C(8) << 20;    /* resident at a time */
    bise_map map;
    const bise_status s = bise_map_open(&map, path, err);
    if (s != BISE_OK)
        return s;
    bise_sha256 *h = bise_sha256_new();
    for (uint64_t at = 0; h && at < map.size; at += slab) {
        const uint64_t n = map.size - at < slab ? map.size - at : slab;
        bise_sha256_add(h, map.data + at, (size_t)n);
        bise_map_release(map.data + at, n);
    }
    if (h)
        bise_sha256_finish(h, out);
    bise_map_close(&map);
    return h ? BISE_OK : bise_fail_nomem(err);
}
