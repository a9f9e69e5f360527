/* resolve.h - what the three ways of resolving a configuration share: typed
 * access to JSON keys with errors that name them, and the checks every
 * resolved configuration must pass. Private to model/config*.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_RESOLVE_H
#define BISE_MODEL_RESOLVE_H

#include "model/config.h"

/* Where a key may stand: the text configuration first, then the root. */
typedef struct bise_keys {
    const bise_json *text, *root;
} bise_keys;

/* Value of a key that is neither absent nor null; NULL otherwise. */
const bise_json *bise_key_get(const bise_keys *k, const char *key);
/* A whole number in [low, high] into *out. An absent key leaves *out as it is
 * and is an error when required. Strings that spell numbers count. */
BISE_NODISCARD bise_status bise_key_int(const bise_keys *k, const char *key,
                                        bool required, int64_t low,
                                        int64_t high, int64_t *out,
                                        bise_error *err);
/* As above for an int32_t field of 1..2^30 (a dimension). */
BISE_NODISCARD bise_status bise_key_dim(const bise_keys *k, const char *key,
                                        bool required, int32_t *out,
                                        bise_error *err);
/* A finite number of at least low. */
BISE_NODISCARD bise_status bise_key_num(const bise_keys *k, const char *key,
                                        bool required, double low, double *out,
                                        bise_error *err);
/* Token id: a number, or the first of a list; -1 when absent. */
int32_t bise_key_token(const bise_keys *k, const char *key);
/* Defaults of every field, before any key is read. */
void bise_config_defaults(bise_config *c);
/* Refuse a quantization_config that bise cannot read; copies the method. */
BISE_NODISCARD bise_status bise_config_quant(bise_config *c,
                                             const bise_json *q,
                                             bise_error *err);
/* Checks across fields: divisibility, ranges, MLA and expert completeness. */
BISE_NODISCARD bise_status bise_config_check(bise_config *c, bise_error *err);

#endif
