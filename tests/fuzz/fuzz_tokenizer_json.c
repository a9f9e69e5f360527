/* fuzz_tokenizer_json.c - any bytes as tokenizer.json (fuzz_tokenizer.h says what must
 * hold). Seeds are made by tokenizer_seeds.py.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_parse("tokenizer.json", data, size);
}
