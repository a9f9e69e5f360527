/* mmproj.c - the plan of a vision file: tower and projector of a multimodal
 * checkpoint as a GGUF of architecture "clip" (mistral3.md 6.5), which the
 * runtime loads beside the text model. Names come from the table of vision.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "convert/convert.h"
#include "convert/vision.h"
#include "model/lineage.h"

/* What the configuration says of the vision part, from either layout. */
typedef struct vision {
    const bise_json *keys;  /* vision_config or vision_encoder */
    const bise_json *root;
    bool native;
    int32_t heads, layers;
    const char *act;        /* "silu" or "gelu" */
    int64_t break_id;       /* token whose embedding ends a row of patches */
} vision;

/* A number of the tower's block. */
static int64_t key(const vision *v, const char *hf, int64_t other)
{
    return bise_vision_number(v->keys, hf, other);
}

/* The block and what is needed of it more than once. */
static bise_status read_vision(vision *v, const bise_checkpoint *c,
                               bise_error *err)
{
    v->root = c->config.json;
    v->native = c->names == BISE_NAMES_NATIVE;
    v->keys = bise_vision_config(c);
    v->act = bise_vision_act(c);
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
    if (strcmp(v->act, "silu") == 0 || strcmp(v->act, "gelu") == 0)
        return BISE_OK;
    err->status = bise_fail(err, BISE_EUNSUPPORTED, "hidden_act '%s' of the "
                            "vision tower is not silu or gelu", v->act);
    return bise_error_in(err, bise_store_path(c->store), NULL);
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
    bise_json *origin = bise_convert_lineage(c, NULL, 0);
    bise_lineage_to_gguf(m, origin);
    m->failed = m->failed || !origin;
    p->lineage = origin;
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
    bise_gguf_set_bool(m, "clip.use_silu", strcmp(v->act, "silu") == 0);
    if (strcmp(v->act, "gelu") == 0)
        bise_gguf_set_bool(m, "clip.use_gelu", true);
    bise_gguf_set_u32(m, "general.quantization_version", 2);
    bise_json_free(processor);
    return s == BISE_OK && m->failed ? bise_fail_nomem(err) : s;
}

/* Vectors are F32, convolution and merger too unless F16 is asked for. */
static bise_dtype vision_type(const bise_tensor *t, const bise_vision_row *r,
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
    int layer;
    char out[128];
    const bise_vision_row *r = bise_vision_find(t->name, c->names, &layer);
    if (!r)
        return BISE_OK;
    bise_vision_name(out, r, BISE_NAMES_GGUF, layer);
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
