/* store_hf.c - the Hugging Face layout: safetensors files beside config.json.
 * Sharded by model.safetensors.index.json, or model.safetensors, or an adapter
 * (adapter_model.safetensors), or any other *.safetensors; also one
 * safetensors file given by its own path. Preferred over the native layout.
 * File names out of an index are checked in bise_store_add_shard: an index is
 * input like any other and must not name files elsewhere.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/layout.h"

/* A safetensors file that is not of the native layout. */
static bool is_hf_file(const char *name)
{
    return bise_ends_with(name, ".safetensors") &&
           !bise_starts_with(name, "consolidated");
}

/* What transformers names the weights of a model: model.safetensors, its
 * numbered parts, and their index. */
static bool is_model_name(const char *name)
{
    return bise_starts_with(name, "model") &&
           (bise_ends_with(name, ".safetensors") ||
            bise_ends_with(name, ".safetensors.index.json"));
}

/* Does any name of the folder pass? */
static bool any_name(const bise_source *src, bool (*is)(const char *name))
{
    for (size_t i = 0; i < src->n_names; i++)
        if (is(src->names[i]))
            return true;
    return false;
}

static bool is_consolidated(const char *name)
{
    return bise_starts_with(name, "consolidated") &&
           bise_ends_with(name, ".safetensors");
}

/* One file by content: a header length that fits, then '{'. */
static bool single_safetensors(bise_source *src)
{
    uint8_t head[9];
    if (bise_source_head(src, src->names[0], head, sizeof head) == sizeof head)
        return bise_load_le64(head) <= UINT64_C(100000000) && head[8] == '{';
    return bise_ends_with(src->names[0], ".safetensors");
}

/* An index without its files counts too, so that the missing file is named
 * instead of "no model here". Beside consolidated weights only files with a
 * model's name make a Hugging Face folder: others (an adapter, a copy of the
 * tower) are extra files of a native one. */
static bool probe_hf(bise_source *src)
{
    if (src->single)
        return single_safetensors(src) ||
               bise_ends_with(src->names[0], ".safetensors");
    return any_name(src, is_model_name) ||
           (any_name(src, is_hf_file) && !any_name(src, is_consolidated));
}

/* Names of the form X-00002-of-00005.safetensors without an index: all parts
 * must be there. */
static bise_status check_parts(bise_store *s, const char *name, bise_error *err)
{
    unsigned part, parts;
    int used = 0;
    const char *dash = strstr(name, "-of-");
    if (!dash || dash - name < 6 ||
        sscanf(dash - 6, "-%5u-of-%5u.safetensors%n", &part, &parts,
               &used) != 2 || dash[-6 + used])
        return BISE_OK;
    for (unsigned i = 1; i <= parts; i++) {
        bise_str other = { 0 };
        bise_str_add(&other, name, (size_t)(dash - 6 - name));
        bise_str_printf(&other, "-%05u-of-%05u.safetensors", i, parts);
        bise_status st = bise_str_ok(&other) ? BISE_OK : bise_fail_nomem(err);
        if (st == BISE_OK && !bise_source_has(s->src, bise_str_get(&other))) {
            st = bise_fail(err, BISE_EIO, "missing weight file '%s'",
                           bise_str_get(&other));
            st = bise_error_hint(err, "download or copy all parts of the "
                                 "model");
        }
        bise_str_fini(&other);
        if (st != BISE_OK)
            return st;
    }
    return BISE_OK;
}

/* The order of transformers: one whole file wins over an index, a model over
 * an adapter; numbered parts without an index, then whatever else is there
 * come last. */
static bise_status open_hf(bise_store *s, bise_error *err)
{
    static const char *const whole[] = { "model.safetensors",
                                         "adapter_model.safetensors" };
    static const char index[] = "model.safetensors.index.json";
    bise_source *src = s->src;
    if (src->single)
        return bise_store_add_shard(s, src->names[0], err);
    if (bise_source_has(src, whole[0]))
        return bise_store_add_shard(s, whole[0], err);
    if (bise_source_has(src, index))
        return bise_store_add_index(s, index, err);
    const bool model = any_name(src, is_model_name);
    if (!model && bise_source_has(src, whole[1]))
        return bise_store_add_shard(s, whole[1], err);
    for (size_t i = 0; i < src->n_names; i++) {
        if (!is_hf_file(src->names[i]) ||
            (model && !is_model_name(src->names[i])))
            continue;
        bise_status st = check_parts(s, src->names[i], err);
        if (st == BISE_OK)
            st = bise_store_add_shard(s, src->names[i], err);
        if (st != BISE_OK)
            return st;
    }
    return BISE_OK;
}

const bise_format bise_format_hf = {
    .name = "safetensors", .kind = BISE_STORE_SAFETENSORS,
    .probe = probe_hf, .open = open_hf
};
