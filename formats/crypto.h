/* crypto.h - SHA-256 and ECDSA / Ed25519 signatures (libcrypto, reached only
 * from formats/crypto.c).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_CRYPTO_H
#define BISE_FORMATS_CRYPTO_H

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

#endif
