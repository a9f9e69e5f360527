/* vision.c - see vision.h. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "convert/vision.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/str.h"

#define HF_LAYER "vision_tower.transformer.layers.{i}."
#define NA_LAYER "vision_encoder.transformer.layers.{i}."
#define HF_PROJECTOR "multi_modal_projector."
#define NA_PROJECTOR "vision_language_adapter."

static const bise_vision_row rows[] = {
    { { "vision_tower.patch_conv.weight", "vision_encoder.patch_conv.weight",
        "v.patch_embd.weight" }, false, true },
    { { "vision_tower.ln_pre.weight", "vision_encoder.ln_pre.weight",
        "v.pre_ln.weight" }, false, false },
    { { HF_LAYER "attention.q_proj.weight", NA_LAYER "attention.wq.weight",
        "v.blk.{i}.attn_q.weight" }, true, false },
    { { HF_LAYER "attention.k_proj.weight", NA_LAYER "attention.wk.weight",
        "v.blk.{i}.attn_k.weight" }, true, false },
    { { HF_LAYER "attention.v_proj.weight", NA_LAYER "attention.wv.weight",
        "v.blk.{i}.attn_v.weight" }, false, false },
    { { HF_LAYER "attention.o_proj.weight", NA_LAYER "attention.wo.weight",
        "v.blk.{i}.attn_out.weight" }, false, false },
    { { HF_LAYER "attention_norm.weight", NA_LAYER "attention_norm.weight",
        "v.blk.{i}.ln1.weight" }, false, false },
    { { HF_LAYER "ffn_norm.weight", NA_LAYER "ffn_norm.weight",
        "v.blk.{i}.ln2.weight" }, false, false },
    { { HF_LAYER "feed_forward.gate_proj.weight",
        NA_LAYER "feed_forward.w1.weight", "v.blk.{i}.ffn_gate.weight" },
      false, false },
    { { HF_LAYER "feed_forward.up_proj.weight",
        NA_LAYER "feed_forward.w3.weight", "v.blk.{i}.ffn_up.weight" },
      false, false },
    { { HF_LAYER "feed_forward.down_proj.weight",
        NA_LAYER "feed_forward.w2.weight", "v.blk.{i}.ffn_down.weight" },
      false, false },
    { { HF_PROJECTOR "norm.weight", "pre_mm_projector_norm.weight",
        "mm.input_norm.weight" }, false, false },
    { { HF_PROJECTOR "patch_merger.merging_layer.weight",
        "patch_merger.merging_layer.weight", "mm.patch_merger.weight" },
      false, true },
    { { HF_PROJECTOR "linear_1.weight", NA_PROJECTOR "w_in.weight",
        "mm.1.weight" }, false, false },
    { { HF_PROJECTOR "linear_1.bias", NA_PROJECTOR "w_in.bias",
        "mm.1.bias" }, false, false },
    { { HF_PROJECTOR "linear_2.weight", NA_PROJECTOR "w_out.weight",
        "mm.2.weight" }, false, false },
    { { HF_PROJECTOR "linear_2.bias", NA_PROJECTOR "w_out.bias",
        "mm.2.bias" }, false, false },
};

#define ROWS (sizeof rows / sizeof *rows)

/* Does name follow the pattern? *layer gets the number at {i}, -1 without. */
static bool follows(const char *name, const char *pattern, int *layer)
{
    const char *hole = strstr(pattern, "{i}");
    *layer = -1;
    if (!hole)
        return strcmp(name, pattern) == 0;
    const size_t n = (size_t)(hole - pattern);
    char *end = NULL;
    if (strncmp(name, pattern, n) != 0)
        return false;
    const long v = strtol(name + n, &end, 10);
    *layer = (int)v;
    return end != name + n && v >= 0 && v < 1 << 16 &&
           strcmp(end, hole + 3) == 0;
}

/* Seventeen rows, some hundred tensors: linear. */
const bise_vision_row *bise_vision_find(const char *name, bise_names layout,
                                        int *layer)
{
    if (layout == BISE_NAMES_HF && bise_starts_with(name, "model."))
        name += 6;
    for (size_t i = 0; i < ROWS; i++)
        if (follows(name, rows[i].names[layout], layer))
            return &rows[i];
    return NULL;
}

/* Patterns are shorter than 64 bytes, so the buffer has room for a number. */
void bise_vision_name(char out[128], const bise_vision_row *row,
                      bise_names layout, int layer)
{
    const char *pattern = row->names[layout];
    const char *hole = strstr(pattern, "{i}");
    if (hole)
        snprintf(out, 128, "%.*s%d%s", (int)(hole - pattern), pattern, layer,
                 hole + 3);
    else
        snprintf(out, 128, "%s", pattern);
}

/* A GGUF of a text model has no JSON at all. */
const bise_json *bise_vision_config(const bise_checkpoint *c)
{
    return bise_json_get(c->config.json, c->names == BISE_NAMES_NATIVE
                                             ? "vision_encoder"
                                             : "vision_config");
}

/* Absent and not a number are the same here: the default holds. */
int64_t bise_vision_number(const bise_json *block, const char *key,
                           int64_t other)
{
    int64_t n;
    return bise_json_integer(bise_json_get(block, key), &n) ? n : other;
}

/* PixtralVisionConfig of transformers fills in "gelu" when the key is not
 * there; the files of the Hub say "silu". */
const char *bise_vision_act(const bise_checkpoint *c)
{
    if (c->names == BISE_NAMES_NATIVE)
        return "silu";
    const char *act = bise_json_string(
        bise_json_get(bise_vision_config(c), "hidden_act"), NULL);
    return act ? act : "gelu";
}

/* Stripped checkpoints keep the block and lose the tensors. */
bool bise_vision_stored(const bise_checkpoint *c)
{
    int layer;
    if (!c->config.wrapper || c->names == BISE_NAMES_GGUF)
        return false;
    for (size_t i = 0; i < c->n; i++)
        if (c->weights[i].role.kind == BISE_ROLE_OPAQUE &&
            bise_vision_find(c->weights[i].tensor->name, c->names, &layer))
            return true;
    return false;
}
