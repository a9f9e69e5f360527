/* key.c - signatures and base64 through libcrypto (crypto.h). Keys are read
 * without a passphrase: signing runs unattended, and a key that asks would
 * stop it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "formats/crypto.h"

struct bise_key {
    EVP_PKEY *key;
    const EVP_MD *md; /* NULL for Ed25519, which hashes itself */
};

/* No passphrase: an empty answer makes encrypted keys fail to load. */
static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return 0;
}

/* The hash that belongs to the key by its size (sigstore's rule); false for a
 * key of another kind. */
static bool choose_hash(bise_key *k)
{
    if (EVP_PKEY_base_id(k->key) == EVP_PKEY_ED25519)
        return true;
    if (EVP_PKEY_base_id(k->key) != EVP_PKEY_EC)
        return false;
    const int bits = EVP_PKEY_bits(k->key);
    k->md = bits == 256 ? EVP_sha256() : bits == 384 ? EVP_sha384() :
        bits == 521 ? EVP_sha512() : NULL;
    return k->md != NULL;
}

/* The PEM text is read through our own reader for its error messages. */
bise_status bise_key_load(bise_key **out, const char *path, bool secret,
                          bise_error *err)
{
    bise_str text = { 0 };
    bise_status s = bise_file_read(&text, path, err);
    bise_key *k = s == BISE_OK ? bise_alloc(sizeof *k) : NULL;
    BIO *bio = k ? BIO_new_mem_buf(bise_str_get(&text), (int)text.len) : NULL;
    if (s == BISE_OK && !bio)
        s = bise_fail_nomem(err);
    if (s == BISE_OK) {
        k->key = secret ?
            PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) :
            PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
        if (!k->key)
            s = bise_fail(err, BISE_EFORMAT, "no %s key in PEM form",
                          secret ? "private" : "public");
        else if (!choose_hash(k))
            s = bise_fail(err, BISE_EUNSUPPORTED, "neither an EC key (P-256, "
                          "P-384, P-521) nor Ed25519");
    }
    BIO_free(bio);
    if (text.data)
        memset(text.data, 0, text.len);         /* it may be a secret */
    bise_str_fini(&text);
    if (s != BISE_OK) {
        bise_key_free(k);
        return bise_error_in(err, path, NULL);
    }
    *out = k;
    return BISE_OK;
}

/* The key's memory is cleared by libcrypto. */
void bise_key_free(bise_key *k)
{
    if (k)
        EVP_PKEY_free(k->key);
    bise_free(k);
}

/* As model_signing does: the PEM text, newlines included, is hashed. */
bise_status bise_key_hint(char out[65], const bise_key *k, bise_error *err)
{
    uint8_t digest[32];
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    if (!bio || PEM_write_bio_PUBKEY(bio, k->key) != 1) {
        BIO_free(bio);
        return bise_fail_nomem(err);
    }
    const long n = BIO_get_mem_data(bio, &text);
    bise_sha256_of(digest, text, (size_t)n);
    bise_hex32(out, digest);
    BIO_free(bio);
    return BISE_OK;
}

/* Two calls of libcrypto: the largest size first, then the signature. */
bise_status bise_key_sign(bise_str *out, const bise_key *k, const void *data,
                          size_t n, bise_error *err)
{
    size_t len = 0;
    uint8_t *sig = NULL;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool ok = c && EVP_DigestSignInit(c, NULL, k->md, NULL, k->key) == 1 &&
              EVP_DigestSign(c, NULL, &len, data, n) == 1 &&
              (sig = bise_alloc(len)) != NULL &&
              EVP_DigestSign(c, sig, &len, data, n) == 1;
    if (ok)
        bise_str_add(out, sig, len);
    bise_free(sig);
    EVP_MD_CTX_free(c);
    return ok && bise_str_ok(out) ? BISE_OK :
        bise_fail(err, BISE_ENOMEM, "libcrypto could not sign");
}

/* Any failure, of memory too, counts as "not signed". */
bool bise_key_check(const bise_key *k, const void *data, size_t n,
                    const void *sig, size_t sig_n)
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    const bool ok = c &&
        EVP_DigestVerifyInit(c, NULL, k->md, NULL, k->key) == 1 &&
        EVP_DigestVerify(c, sig, sig_n, data, n) == 1;
    EVP_MD_CTX_free(c);
    return ok;
}

/* RFC 4648, with padding, without line breaks. */
void bise_base64_put(bise_str *out, const void *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
        "qrstuvwxyz0123456789+/";
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i += 3) {
        const size_t k = n - i < 3 ? n - i : 3;
        const uint32_t v = (uint32_t)p[i] << 16 |
            (uint32_t)(k > 1 ? p[i + 1] : 0) << 8 | (k > 2 ? p[i + 2] : 0);
        for (size_t j = 0; j < 4; j++)
            bise_str_putc(out, j <= k ? digits[v >> (18 - 6 * j) & 63] : '=');
    }
}

/* Value of a digit, -1 for others. */
static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Strict: whole groups of four, padding only at the end. */
bool bise_base64_get(bise_str *out, const char *text, size_t n)
{
    if (n % 4)
        return false;
    for (size_t i = 0; i < n; i += 4) {
        int pad = 0;
        uint32_t v = 0;
        for (size_t j = 0; j < 4; j++) {
            const char c = text[i + j];
            const int d = base64_value(c);
            if (c == '=' && i + 4 == n && j >= 2)
                pad++;
            else if (d < 0 || pad)
                return false;
            v = v << 6 | (uint32_t)(d < 0 ? 0 : d);
        }
        for (int j = 0; j < 3 - pad; j++)
            bise_str_putc(out, (char)(v >> (16 - 8 * j)));
    }
    return bise_str_ok(out);
}
