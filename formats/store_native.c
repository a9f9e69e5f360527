/* store_native.c - Mistral's own layout: params.json beside
 * consolidated.safetensors, its numbered parts, or an index of them.
 * Mistral publishes most models in this layout beside Hugging Face's; names
 * and row order of q and k differ, which model/ knows.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "formats/layout.h"

/* consolidated.safetensors, consolidated.00.safetensors, ... */
static bool is_native_file(const char *name)
{
    return bise_starts_with(name, "consolidated") &&
           bise_ends_with(name, ".safetensors");
}

/* Tried after Hugging Face's layout: a repository with both is read once. */
static bool probe_native(bise_source *src)
{
    for (size_t i = 0; i < src->n_names && !src->single; i++)
        if (is_native_file(src->names[i]))
            return true;
    return false;
}

/* params.json is needed to make sense of the weights, so that its absence is
 * said here, where the file could still be copied. */
static bise_status open_native(bise_store *s, bise_error *err)
{
    static const char index[] = "consolidated.safetensors.index.json";
    if (!bise_source_has(s->src, "params.json")) {
        bise_status st = bise_fail(err, BISE_EFORMAT,
                                   "consolidated weights without params.json");
        return st = bise_error_hint(err, "copy params.json of the same "
                                    "checkpoint beside them");
    }
    if (bise_source_has(s->src, index))
        return bise_store_add_index(s, index, err);
    for (size_t i = 0; i < s->src->n_names; i++) {
        if (!is_native_file(s->src->names[i]))
            continue;
        const bise_status st = bise_store_add_shard(s, s->src->names[i], err);
        if (st != BISE_OK)
            return st;
    }
    return BISE_OK;
}

const bise_format bise_format_native = {
    .name = "native", .kind = BISE_STORE_NATIVE,
    .probe = probe_native, .open = open_native
};
