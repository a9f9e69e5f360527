/* mmproj.c - the plan of a vision file: tower and projector of a multimodal
 * checkpoint as a GGUF of architecture "clip" (mistral3.md 6.5), which the
 * runtime loads beside the text model. One table maps the Hugging Face and the
 * native names to those of the file.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert/convert.h"

/* {i} is the layer. NULL: the layout has no such tensor. */
static const struct vision_row {
    const char *hf, *native, *gguf;
    bool rotated;  /* rows of q and k: permuted when the source is HF */
    bool wide;     /* stays F32 unless F16 is asked for */
} vision_rows[] = {
    { "vision_tower.patch_conv.weight", "vision_encoder.patch_conv.weight",
      "v.patch_embd.weight", false, true },
    { "vision_tower.ln_pre.weight", "vision_encoder.ln_pre.weight",
      "v.pre_ln.weight", false, false },
#define HF_LAYER "vision_tower.transformer.layers.{i}."
#define NA_LAYER "vision_encoder.transformer.layers.{i}."
    { HF_LAYER "attention.q_proj.weight", NA_LAYER "attention.wq.weight",
      "v.blk.{i}.attn_q.weight", true, false },
    { HF_LAYER "attention.k_proj.weight", NA_LAYER "attention.wk.weight",
      "v.blk.{i}.attn_k.weight", true, false },
    { HF_LAYER "attention.v_proj.weight", NA_LAYER "attention.wv.weight",
      "v.blk.{i}.attn_v.weight", false, false },
    { HF_LAYER "attention.o_proj.weight", NA_LAYER "attention.wo.weight",
      "v.blk.{i}.attn_out.weight", false, false },
    { HF_LAYER "attention_norm.weight", NA_LAYER "attention_norm.weight",
      "v.blk.{i}.ln1.weight", false, false },
    { HF_LAYER "ffn_norm.weight", NA_LAYER "ffn_norm.weight",
      "v.blk.{i}.ln2.weight", false, false },
    { HF_LAYER "feed_forward.gate_proj.weight",
      NA_LAYER "feed_forward.w1.weight", "v.blk.{i}.ffn_gate.weight", false,
      false },
    { HF_LAYER "feed_forward.up_proj.weight", NA_LAYER "feed_forward.w3.weight",
      "v.blk.{i}.ffn_up.weight", false, false },
    { HF_LAYER "feed_forward.down_proj.weight",
      NA_LAYER "feed_forward.w2.weight", "v.blk.{i}.ffn_down.weight", false,
      false },
#undef HF_LAYER
#undef NA_LAYER
    { "multi_modal_projector.norm.weight", "pre_mm_projector_norm.weight",
      "mm.input_norm.weight", false, false },
    { "multi_modal_projector.patch_merger.merging_layer.weight",
      "patch_merger.merging_layer.weight", "mm.patch_merger.weight", false,
      true },
    { "multi_modal_projector.linear_1.weight",
      "vision_language_adapter.w_in.weight", "mm.1.weight", false, false },
    { "multi_modal_projector.linear_1.bias",
      "vision_language_adapter.w_in.bias", "mm.1.bias", false, false },
    { "multi_modal_projector.linear_2.weight",
      "vision_language_adapter.w_out.weight", "mm.2.weight", false, false },
    { "multi_modal_projector.linear_2.bias",
      "vision_language_adapter.w_out.bias", "mm.2.bias", false, false },
};

#define VISION_ROWS (sizeof vision_rows / sizeof *vision_rows)

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

/* What the configuration says of the vision part, from either layout. */
typedef struct vision {
    const bise_json *keys;  /* vision_config or vision_encoder */
    const bise_json *root;
    bool native;
    int32_t heads, layers;
    int64_t break_id;       /* token whose embedding ends a row of patches */
} vision;

static int64_t key(const vision *v, const char *hf, int64_t other)
{
    int64_t n;
    return bise_json_integer(bise_json_get(v->keys, hf), &n) ? n : other;
}

static bise_status read_vision(vision *v, const bise_checkpoint *c,
                               bise_error *err)
{
    v->root = c->config.json;
    v->native = c->names == BISE_NAMES_NATIVE;
    v->keys = bise_json_get(v->root, v->native ? "vision_encoder"
                                               : "vision_config");
    if (!v->keys) {
        bise_status s = bise_fail(err, BISE_EUNSUPPORTED, "the model has no "
                                  "vision part");
        s = bise_error_hint(err, "--mmproj is for multimodal checkpoints");
        s = bise_error_in(err, bise_store_path(c->store), NULL);
        return s;
    }
    v->heads = (int32_t)key(v, "num_attention_heads", 16);
    v->layers = (int32_t)key(v, "num_hidden_layers", 24);
    v->break_id = key(v, "image_break_token_id", 12);
    if (v->break_id < 0)    /* "look it up": 12 in every released file */
        v->break_id = 12;
    return BISE_OK;
}

/* Means and deviations of the pixel channels: the processor's, else CLIP's. */
static void pixel_keys(bise_gguf_meta *m, const bise_json *processor)
{
    static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
    static const float std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    static const struct { const char *from, *to; const float *other; } rows[] =
        { { "image_mean", "clip.vision.image_mean", mean },
          { "image_std", "clip.vision.image_std", std } };
    const bise_json *inner = bise_json_get(processor, "image_processor");
    for (size_t i = 0; i < 2; i++) {
        const bise_json *a = bise_json_get(inner ? inner : processor,
                                           rows[i].from);
        float v[3];
        for (size_t k = 0; k < 3; k++)
            v[k] = (float)bise_json_number(bise_json_at(a, k),
                                           rows[i].other[k]);
        bise_gguf_set_array(m, rows[i].to, BISE_GGUF_F32, v, 3);
    }
}

static bise_status vision_keys(bise_plan *p, bise_checkpoint *c,
                               const vision *v, int file_type,
                               bise_error *err)
{
    bise_gguf_meta *m = &p->meta;
    bise_json *processor = NULL;
    bise_status s = bise_store_json(c->store, "preprocessor_config.json",
                                    &processor, err);
    if (s == BISE_OK && !processor)
        s = bise_store_json(c->store, "processor_config.json", &processor,
                            err);
    int64_t merge = key(v, "spatial_merge_size", 2);
    (void)bise_json_integer(bise_json_get(v->root, "spatial_merge_size"),
                            &merge);
    bise_gguf_set_str(m, "general.architecture", "clip");
    bise_gguf_set_str(m, "general.type", "mmproj");
    bise_gguf_set_str(m, "general.name", c->base_name);
    if (c->licence[0])
        bise_gguf_set_str(m, "general.license", c->licence);
    bise_gguf_set_u32(m, "general.file_type", (uint32_t)file_type);
    bise_gguf_set_bool(m, "clip.has_vision_encoder", true);
    bise_gguf_set_u32(m, "clip.vision.projection_dim", (uint32_t)c->config.C);
    bise_gguf_set_str(m, "clip.projector_type", "pixtral");
    bise_gguf_set_u32(m, "clip.vision.image_size",
                      (uint32_t)key(v, "image_size", 1540));
    bise_gguf_set_u32(m, "clip.vision.patch_size",
                      (uint32_t)key(v, "patch_size", 14));
    bise_gguf_set_u32(m, "clip.vision.embedding_length",
                      (uint32_t)key(v, "hidden_size", 1024));
    bise_gguf_set_u32(m, "clip.vision.feed_forward_length",
                      (uint32_t)key(v, "intermediate_size", 4096));
    bise_gguf_set_u32(m, "clip.vision.block_count", (uint32_t)v->layers);
    bise_gguf_set_u32(m, "clip.vision.attention.head_count",
                      (uint32_t)v->heads);
    bise_gguf_set_f32(m, "clip.vision.attention.layer_norm_epsilon", 1e-5f);
    bise_gguf_set_u32(m, "clip.vision.spatial_merge_size", (uint32_t)merge);
    pixel_keys(m, processor);
    bise_gguf_set_bool(m, "clip.use_silu", true);
    bise_gguf_set_u32(m, "general.quantization_version", 2);
    bise_json_free(processor);
    return s == BISE_OK && m->failed ? bise_fail_nomem(err) : s;
}

/* Vectors are F32, convolution and merger too unless F16 is asked for. */
static bise_dtype vision_type(const bise_tensor *t, const struct vision_row *r,
                              bise_dtype want)
{
    if (t->n_dims < 2)
        return BISE_DTYPE_F32;
    if (r->wide)
        return want == BISE_DTYPE_F16 ? BISE_DTYPE_F16 : BISE_DTYPE_F32;
    const bise_dtype type = want == BISE_DTYPE_NONE ? t->dtype : want;
    return bise_tensor_cols(t) % bise_dtype_get(type)->block_len
               ? BISE_DTYPE_F16 : type;
}

/* Add the tensor when a row of the table knows it; *n counts. */
static bise_status add_vision(bise_plan *p, bise_checkpoint *c,
                              const vision *v, const bise_tensor *t,
                              bise_dtype want, size_t *n, bise_error *err)
{
    const char *name = bise_starts_with(t->name, "model.") ? t->name + 6
                                                           : t->name;
    for (size_t i = 0; i < VISION_ROWS; i++) {
        const struct vision_row *r = &vision_rows[i];
        int layer;
        char out[96];
        if (!follows(name, v->native ? r->native : r->hf, &layer))
            continue;
        const char *hole = strstr(r->gguf, "{i}");
        if (hole)
            snprintf(out, sizeof out, "%.*s%d%s", (int)(hole - r->gguf),
                     r->gguf, layer, hole + 3);
        else
            snprintf(out, sizeof out, "%s", r->gguf);
        bise_plan_tensor x = { .name = out, .n_dims = t->n_dims,
                               .dtype = vision_type(t, r, want),
                               .role = { BISE_ROLE_OPAQUE, layer, -1 } };
        memcpy(x.dims, t->dims, sizeof x.dims);
        x.stream = bise_stream_tensor(&p->arena, c->store, t);
        if (r->rotated && !v->native)
            x.stream = bise_stream_permute(&p->arena, x.stream, v->heads,
                                           BISE_ROWS_HALF,
                                           BISE_ROWS_INTERLEAVED);
        (*n)++;
        return bise_plan_add(p, &x, err);
    }
    return BISE_OK;
}

/* The embedding of [IMG_BREAK], a row of the text model's table. */
static bise_status add_break(bise_plan *p, bise_checkpoint *c,
                             const vision *v, bise_error *err)
{
    const bise_weight *embed = bise_checkpoint_get(c, BISE_ROLE_EMBED, -1);
    if (!embed || v->break_id >= c->config.V)
        return BISE_OK;
    const bise_stream *s = bise_stream_weight(&p->arena, c->store, embed);
    const bise_plan_tensor x = {
        .name = "v.token_embd.img_break", .dtype = BISE_DTYPE_F32,
        .n_dims = 1, .dims = { (uint64_t)c->config.C },
        .role = { BISE_ROLE_OPAQUE, -1, -1 },
        .stream = bise_stream_slice(&p->arena, s, (uint64_t)v->break_id, 1),
    };
    return bise_plan_add(p, &x, err);
}

/* The file type is that asked for, else of the stored matrices. */
bise_status bise_convert_plan_mmproj(bise_plan *p, bise_checkpoint *c,
                                     bise_dtype dtype, bise_error *err)
{
    vision v = { 0 };
    size_t n = 0;
    bise_plan_init(p, BISE_PLAN_GGUF);
    bise_status s = read_vision(&v, c, err);
    bise_dtype main_type = dtype;
    for (size_t i = 0; i < bise_store_count(c->store) && s == BISE_OK; i++) {
        const bise_tensor *t = bise_store_at(c->store, i);
        s = add_vision(p, c, &v, t, dtype, &n, err);
    }
    if (s == BISE_OK && n == 0) {
        s = bise_fail(err, BISE_EFORMAT, "the configuration has a vision part, "
                      "the weights have none");
        s = bise_error_in(err, bise_store_path(c->store), NULL);
    }
    for (size_t i = 0; i < p->n && main_type == BISE_DTYPE_NONE; i++)
        if (strstr(p->tensors[i].name, "attn_v"))
            main_type = p->tensors[i].dtype;
    if (main_type == BISE_DTYPE_NONE)
        main_type = BISE_DTYPE_F32;
    if (s == BISE_OK)
        s = add_break(p, c, &v, err);
    if (s == BISE_OK)
        s = vision_keys(p, c, &v, bise_dtype_get(main_type)->file_type, err);
    return s;
}
