/* sign.h - OpenSSF model signing v1.0 with a key: model.sig in a folder is a
 * Sigstore bundle around an in-toto statement that lists every file with its
 * sha256. The model_signing tool verifies what is made here, and the reverse.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_SIGN_H
#define BISE_DEPLOY_SIGN_H

#include "core/error.h"
#include "core/json.h"
#include "core/pool.h"

#define BISE_SIGNATURE "model.sig"

/* Sign the files of dir with the private key of a PEM file; writes
 * dir/model.sig. *files gets their number. */
BISE_NODISCARD bise_status bise_sign(const char *dir, const char *key_path,
                                     bise_pool *pool, size_t *files,
                                     bise_error *err);
/* Check dir/model.sig with a public key, and every file against it. What is
 * wrong is appended to problems as {path, message}; fails only when checking
 * cannot go on (the key is unreadable, memory). */
BISE_NODISCARD bise_status bise_sign_check(const char *dir,
                                           const char *key_path,
                                           bise_pool *pool,
                                           bise_json *problems,
                                           bise_error *err);

#endif
