/* fuzz_yaml.c - any bytes as YAML: what parses must dump to YAML that parses
 * to the same value, and the front matter reader must stay inside the text.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "formats/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bise_error err;
    bise_json *v = NULL, *again = NULL;
    bise_error_init(&err);
    if (bise_yaml_front_matter(&v, (const char *)data, size, &err) == BISE_OK)
        bise_json_free(v);
    bise_error_init(&err);
    v = NULL;
    if (bise_yaml_parse(&v, (const char *)data, size, &err) != BISE_OK) {
        if (!err.text[0])
            abort();
        return 0;
    }
    bise_str text = { 0 }, a = { 0 }, b = { 0 };
    bise_yaml_dump(&text, v);
    bise_json_dump(&a, v, 0, false);
    if (bise_yaml_parse(&again, bise_str_get(&text), text.len, &err) !=
        BISE_OK)
        abort();
    bise_json_dump(&b, again, 0, false);
    if (strcmp(bise_str_get(&a), bise_str_get(&b)) != 0)
        abort();
    bise_str_fini(&text);
    bise_str_fini(&a);
    bise_str_fini(&b);
    bise_json_free(v);
    bise_json_free(again);
    return 0;
}
