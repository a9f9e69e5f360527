/* pyjson.h - JSON text rewritten as Python does by json.dumps(json.loads(x),
 * ensure_ascii=False): what mistral-common puts between control tokens. Unlike
 * core/json.h it takes what Python takes: repeated keys (the last value
 * counts), whole numbers of any length, NaN and Infinity.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_PYJSON_H
#define BISE_TEXT_PYJSON_H

#include <stdbool.h>
#include <stddef.h>

#include "core/str.h"

/* Append the JSON text s rewritten; false, with out unchanged, when it is not
 * JSON. */
bool bise_pyjson(bise_str *out, const char *s, size_t n);

#endif
