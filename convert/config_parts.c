/* config_parts.c - see config_parts.h. Keys and defaults of the vision blocks
 * are those of transformers' PixtralVisionConfig and of mistral-common's
 * vision_encoder; the float8 blocks are those that vLLM and transformers read
 * from releases (mistral3.md 2.7).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "convert/config_parts.h"

#include <string.h>

#include "convert/vision.h"

/* Numbers that both layouts have under the same name, with their defaults. */
static const struct { const char *key; int64_t other; } shared[] = {
    { "hidden_size", 1024 },        { "image_size", 1540 },
    { "intermediate_size", 4096 },  { "num_attention_heads", 16 },
    { "num_channels", 3 },          { "num_hidden_layers", 24 },
    { "patch_size", 14 },
};
#define SHARED (sizeof shared / sizeof *shared)

/* Setting takes the value; memory running out shows when the text is made. */
static void put_int(bise_json *o, const char *key, int64_t v)
{
    bise_json_set(o, key, bise_json_new_int(v));
}

/* The text is copied. */
static void put_str(bise_json *o, const char *key, const char *v)
{
    bise_json_set(o, key, bise_json_new_string(v));
}

/* Both forms write it beside the other numbers, transformers 5 also inside
 * rope_parameters. */
static double vision_theta(const bise_json *block)
{
    const bise_json *v = bise_json_get(block, "rope_theta");
    if (!v)
        v = bise_json_get(bise_json_get(block, "rope_parameters"),
                          "rope_theta");
    return bise_json_number(v, 10000.0);
}

/* The native tower computes SiLU; transformers assumes GELU unless told. */
static bise_json *vision_config(const bise_json *block)
{
    bise_json *v = bise_json_new_object();
    bise_json *rope = bise_json_new_object();
    put_str(v, "model_type", "pixtral");
    bise_json_set(v, "attention_dropout", bise_json_new_real(0.0));
    for (size_t i = 0; i < SHARED; i++)
        put_int(v, shared[i].key, bise_vision_number(block, shared[i].key,
                                                     shared[i].other));
    const int64_t heads = bise_vision_number(block, "num_attention_heads", 16);
    const int64_t wide = bise_vision_number(block, "hidden_size", 1024);
    put_int(v, "head_dim", heads > 0 ? wide / heads : 64);
    put_str(v, "hidden_act", "silu");
    bise_json_set(v, "rope_theta", bise_json_new_real(vision_theta(block)));
    bise_json_set(rope, "rope_theta", bise_json_new_real(vision_theta(block)));
    put_str(rope, "rope_type", "default");
    bise_json_set(v, "rope_parameters", rope);
    return v;
}

/* dtype and the tie stand at the root of a wrapper, and are read there by
 * transformers 5; class names of the text part are not written. */
bise_json *bise_config_wrap(bise_json *text, const bise_checkpoint *c)
{
    const bise_json *block = bise_vision_config(c);
    bise_json *o = bise_json_new_object(), *list = bise_json_new_array();
    bise_json_append(list,
                     bise_json_new_string("Mistral3ForConditionalGeneration"));
    bise_json_set(o, "architectures", list);
    put_str(o, "model_type", "mistral3");
    put_str(o, "dtype", bise_json_string(bise_json_get(text, "dtype"), NULL));
    put_int(o, "image_token_index",
            bise_vision_number(block, "image_token_id", 10));
    put_int(o, "spatial_merge_size",
            bise_vision_number(block, "spatial_merge_size", 2));
    bise_json_set(o, "multimodal_projector_bias", bise_json_new_bool(
        bise_json_bool(bise_json_get(block, "adapter_bias"), false)));
    put_str(o, "projector_hidden_act", "gelu");
    put_int(o, "vision_feature_layer", -1);
    bise_json_set(o, "tie_word_embeddings", bise_json_new_bool(c->config.tied));
    bise_json_remove(text, "architectures");
    put_str(o, "transformers_version", bise_json_string(
        bise_json_get(text, "transformers_version"), NULL));
    bise_json_remove(text, "transformers_version");
    bise_json_set(o, "text_config", text);
    bise_json_set(o, "vision_config", vision_config(block));
    return o;
}

/* -1 for the two ids that config.json does not have: readers look them up in
 * tekken.json (mistral3.md 2.6). */
void bise_config_unwrap(bise_json *params, const bise_checkpoint *c)
{
    const bise_json *root = c->config.json, *block = bise_vision_config(c);
    bise_json *v = bise_json_new_object();
    for (size_t i = 0; i < SHARED; i++)
        put_int(v, shared[i].key, bise_vision_number(block, shared[i].key,
                                                     shared[i].other));
    put_int(v, "max_image_size", bise_vision_number(block, "image_size", 1540));
    bise_json_set(v, "rope_theta", bise_json_new_real(vision_theta(block)));
    const char *id = bise_json_get(root, "image_token_id")
                         ? "image_token_id" : "image_token_index";
    put_int(v, "image_token_id", bise_vision_number(root, id, 10));
    put_int(v, "image_break_token_id",
            bise_vision_number(root, "image_break_token_id", -1));
    put_int(v, "image_end_token_id",
            bise_vision_number(root, "image_end_token_id", -1));
    bise_json_set(v, "adapter_bias", bise_json_new_bool(bise_json_bool(
        bise_json_get(root, "multimodal_projector_bias"), false)));
    put_str(v, "mm_projector_id", "patch_merge");
    put_int(v, "spatial_merge_size",
            bise_vision_number(root, "spatial_merge_size", 2));
    bise_json_set(v, "add_pre_mm_projector_layer_norm",
                  bise_json_new_bool(true));
    bise_json_set(params, "vision_encoder", v);
}

/* ---- float8 ---- */

/* Matrices that a linear layer would quantize but this checkpoint did not,
 * under their Hugging Face module names, which both kinds of files use. */
static void list_plain(bise_json *list, const bise_checkpoint *c)
{
    char name[256];
    for (size_t i = 0; i < c->n; i++) {
        const bise_weight *w = &c->weights[i];
        if (w->scales || w->tensor->n_dims < 2 ||
            w->role.kind == BISE_ROLE_OPAQUE ||
            w->role.kind == BISE_ROLE_EMBED || w->role.kind == BISE_ROLE_HEAD ||
            !bise_role_name_in(name, w->role, BISE_NAMES_HF, c->config.family))
            continue;
        const size_t n = strlen(name);
        if (bise_ends_with(name, ".weight"))
            name[n - 7] = 0;
        bise_json_append(list, bise_json_new_string(name));
    }
}

/* Names of a fixed list, the rest follows. */
static bise_json *plain_modules(const bise_checkpoint *c,
                                const char *const *first, size_t n)
{
    bise_json *list = bise_json_new_array();
    for (size_t i = 0; i < n; i++)
        bise_json_append(list, bise_json_new_string(first[i]));
    list_plain(list, c);
    return list;
}

/* "weights" or "input_activations" of a compressed-tensors group: eight bits,
 * in square blocks or in groups of a row; with a scale a row, activations have
 * one a token, or one of all when it was measured (fixed). */
static bise_json *group_args(int32_t block, bool weights, bool fixed)
{
    bise_json *o = bise_json_new_object();
    const bool rows = block == BISE_SCALE_ROWS;
    put_int(o, "num_bits", 8);
    put_str(o, "type", "float");
    bise_json_set(o, "symmetric", bise_json_new_bool(true));
    bise_json_set(o, "dynamic", bise_json_new_bool(!weights && !fixed));
    if (rows) {
        put_str(o, "strategy", weights ? "channel" : fixed ? "tensor"
                                                           : "token");
        return o;
    }
    put_str(o, "strategy", weights ? "block" : "group");
    if (!weights) {
        put_int(o, "group_size", block);
        return o;
    }
    bise_json *list = bise_json_new_array();
    bise_json_append(list, bise_json_new_int(block));
    bise_json_append(list, bise_json_new_int(block));
    bise_json_set(o, "block_structure", list);
    return o;
}

/* Block scales in native files, and scales of rows in both, are described as
 * compressed-tensors do. */
static bise_json *group_scheme(const bise_checkpoint *c, const bise_weight *w)
{
    static const char *const plain[] = {
        "model.embed_tokens", "lm_head", "re:vision_encoder.*",
        "re:vision_language_adapter.*", "re:patch_merger.*",
        "re:.*vision_tower.*", "re:.*multi_modal_projector.*" };
    const int32_t block = w->scale_block;
    bise_json *o = bise_json_new_object(), *groups = bise_json_new_object();
    bise_json *group = bise_json_new_object();
    bise_json *targets = bise_json_new_array();
    bise_json_append(targets, bise_json_new_string("Linear"));
    bise_json_set(group, "targets", targets);
    const bool fixed = block == BISE_SCALE_ROWS && w->act_scale;
    bise_json_set(group, "weights", group_args(block, true, fixed));
    bise_json_set(group, "input_activations", group_args(block, false, fixed));
    bise_json_set(groups, "group_0", group);
    put_str(o, "quant_method", "compressed-tensors");
    put_str(o, "format", "float-quantized");
    put_str(o, "quantization_status", "compressed");
    bise_json_set(o, "config_groups", groups);
    bise_json_set(o, "ignore", plain_modules(c, plain, 7));
    return o;
}

/* transformers' FineGrainedFP8 reads both schemes from one entry. */
static bise_json *hf_scheme(const bise_checkpoint *c, const bise_weight *w)
{
    static const char *const plain[] = { "lm_head", "model.vision_tower",
                                         "model.multi_modal_projector" };
    bise_json *o = bise_json_new_object(), *size = bise_json_new_null();
    if (w->scale_block > 0) {
        bise_json_free(size);
        size = bise_json_new_array();
        bise_json_append(size, bise_json_new_int(w->scale_block));
        bise_json_append(size, bise_json_new_int(w->scale_block));
    }
    put_str(o, "quant_method", "fp8");
    put_str(o, "activation_scheme", w->act_scale ? "static" : "dynamic");
    bise_json_set(o, "weight_block_size", size);
    bise_json_set(o, "modules_to_not_convert",
                  plain_modules(c, plain, bise_vision_stored(c) ? 3 : 1));
    return o;
}

/* One float8 weight tells the scheme of all. */
void bise_config_float8(bise_json *o, const bise_checkpoint *c, bool hf)
{
    const bise_weight *w = NULL;
    for (size_t i = 0; i < c->n && !w; i++)
        if (c->weights[i].scales)
            w = &c->weights[i];
    if (!w)
        return;
    if (hf && w->scale_block != BISE_SCALE_ROWS) {
        bise_json_set(o, "quantization_config", hf_scheme(c, w));
        return;
    }
    if (w->scale_block) {
        bise_json_set(o, "quantization_config", group_scheme(c, w));
        return;
    }
    bise_json *q = bise_json_new_object();
    put_str(q, "qformat_weight", "fp8_e4m3");
    put_str(q, "qscheme_act", w->act_scale ? "TENSOR" : "NO_SCALES");
    bise_json_set(o, "quantization", q);
}
