/* family.c - look-ups in families.def: family by the model_type or class name
 * of a config.json, and the facts of a family. Called by config*.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/family.h"

#include <string.h>

static const bise_family_info table[] = {
#define BISE_FAMILY(id, type, arch, gguf, theta, half, moe, mla) \
    [BISE_FAMILY_##id] = { type, arch, gguf, theta, half, moe, mla },
#include "model/families.def"
#undef BISE_FAMILY
};

/* The enumerators index the table. */
const bise_family_info *bise_family_get(bise_family f)
{
    return &table[f];
}

/* model_type, as messages and reports show it. */
const char *bise_family_name(bise_family f)
{
    return table[f].model_type;
}

/* model_type and class names never coincide, so one search serves both. The
 * class "ministral" is Mistral's with windows that differ between layers. */
int bise_family_by_name(const char *name)
{
    if (strcmp(name, "ministral") == 0 ||
        strcmp(name, "MinistralForCausalLM") == 0)
        return BISE_FAMILY_MISTRAL;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(name, table[i].model_type) == 0 ||
            strcmp(name, table[i].architecture) == 0)
            return (int)i;
    return -1;
}
