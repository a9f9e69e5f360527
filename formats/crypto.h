/* crypto.h - SHA-256 and ECDSA / Ed25519 signatures (libcrypto, reached only
 * from formats/crypto.c).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_CRYPTO_H
#define BISE_FORMATS_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/progress.h"
#include "core/str.h"

typedef struct bise_sha256 bise_sha256; /* a running hash */

bise_sha256 *bise_sha256_new(void);
/* Add n bytes. */
void bise_sha256_add(bise_sha256 *h, const void *data, size_t n);
/* Finish into 32 bytes and release h. */
void bise_sha256_finish(bise_sha256 *h, uint8_t out[32]);
/* Release a hash that is not wanted any more. NULL is fine. */
void bise_sha256_free(bise_sha256 *h);
/* One-shot hash of a buffer; lower-case hex of a digest (64 + NUL). */
void bise_sha256_of(uint8_t out[32], const void *data, size_t n);
/* Lower-case hex of a digest into out (64 digits and NUL). Returns out. */
char *bise_hex32(char out[65], const uint8_t digest[32]);
/* Hash a whole file. */
BISE_NODISCARD bise_status bise_sha256_file(uint8_t out[32], const char *path,
                                            bise_error *err);

/* An EC (P-256, P-384, P-521) or Ed25519 key out of a PEM file. */
typedef struct bise_key bise_key;

/* Load a private key, or a public one. */
BISE_NODISCARD bise_status bise_key_load(bise_key **out, const char *path,
                                         bool secret, bise_error *err);
/* NULL is fine. */
void bise_key_free(bise_key *k);
/* sha256 of the public key's PEM form in hex, by which signatures name it. */
BISE_NODISCARD bise_status bise_key_hint(char out[65], const bise_key *k,
                                         bise_error *err);
/* Append the signature of n bytes (ECDSA with the curve's hash, in DER form,
 * or Ed25519). */
BISE_NODISCARD bise_status bise_key_sign(bise_str *out, const bise_key *k,
                                         const void *data, size_t n,
                                         bise_error *err);
/* Is sig the key's signature of the n bytes? */
bool bise_key_check(const bise_key *k, const void *data, size_t n,
                    const void *sig, size_t sig_n);
/* Append the base64 form of n bytes. */
void bise_base64_put(bise_str *out, const void *data, size_t n);
/* Append what base64 text stands for; false when it is not base64. */
bool bise_base64_get(bise_str *out, const char *text, size_t n);

#endif
