/* checkpoint.c - from an opened store to a model: resolve the configuration,
 * give each tensor its role, check its shape and type, attach FP8 scales, drop
 * what a saver must not repeat (a head stored beside tied embeddings), and make
 * sure that nothing is missing or there twice. Every command that reads a MODEL
 * starts here.
 *
 * A tensor name is looked at in this order; the first that fits decides:
 *   1. left-overs without weights (rotary buffers, fake quantizers): ignored;
 *   2. scales: taken with the FP8 weight they belong to, else refused;
 *   3. vision tower and projector: opaque, copied through by converters;
 *   4. parts of packed schemes (NVFP4, GPTQ, bitsandbytes): refused by name;
 *   5. roles.def, after a wrapper's prefix is stripped: checked and kept;
 *   6. anything else: left out with a warning.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/checkpoint.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "model/card.h"
#include "model/family.h"

/* One entry of the index: role packed into a key, sorted. */
typedef struct entry {
    uint64_t key;
    uint32_t at;
} entry;

/* Kind, layer and expert in one number; -1 becomes 0 in its field. */
static uint64_t key_of(bise_role r)
{
    return (uint64_t)r.kind << 56 | (uint64_t)(uint32_t)(r.layer + 1) << 24 |
           (uint64_t)(uint32_t)((r.expert + 1) & 0xffffff);
}

/* File order among equal keys: of a double, the later one is reported. */
static int by_key(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* "1024x512" of a shape, into out. */
static const char *shape_text(char out[96], const uint64_t *dims, int n)
{
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < n && at < 70; i++)
        at += (size_t)snprintf(out + at, 96 - at, "%s%" PRIu64, i ? "x" : "",
                               dims[i]);
    return n ? out : "a scalar";
}

/* A fault in one tensor: adds the file that holds it. */
static bise_status in_tensor(const bise_checkpoint *c, const bise_tensor *t,
                             bise_error *err)
{
    return bise_error_in(err, bise_store_tensor_file(c->store, t), t->name);
}

/* Names of wrappers: remove the first "language_model." and note the scheme
 * (mistral3.md 2.3). Returns the text model's name. */
static const char *strip_prefix(bise_checkpoint *c, char buf[256],
                                const char *name)
{
    static const char part[] = "language_model.";
    const char *at = strstr(name, part);
    const size_t head = at ? (size_t)(at - name) : 0;
    if (!at || strlen(name) >= 256 || (head && strncmp(name, "model.", head)))
        return name;
    snprintf(buf, 256, "%.*s%s", (int)head, name, at + sizeof part - 1);
    if (!c->prefix[0])
        snprintf(c->prefix, sizeof c->prefix, "%.*s%s", (int)head, name, part);
    return buf;
}

/* Tensors of the tower and the projector, passed on without a look inside. */
static bool is_vision(const char *name, bise_names layout)
{
    static const char *const t[3][5] = {
        [BISE_NAMES_HF] = { "vision_tower.", "multi_modal_projector.",
                            "model.vision_tower.",
                            "model.multi_modal_projector.", NULL },
        [BISE_NAMES_NATIVE] = { "vision_encoder.", "vision_language_adapter.",
                                "patch_merger.", "pre_mm_projector_norm.",
                                NULL },
        [BISE_NAMES_GGUF] = { "v.", "mm.", NULL } };
    for (int i = 0; i < 5 && t[layout][i]; i++)
        if (bise_starts_with(name, t[layout][i]))
            return true;
    return false;
}

/* Left-overs of training and old savers that hold no weights. */
static bool is_ignored(const char *name)
{
    return bise_ends_with(name, "rotary_emb.inv_freq") ||
           strstr(name, "fake_quantizer");
}

/* Suffixes of scales: what to cut, and what to put there to name the weight. */
static const struct { const char *scale, *weight; bool act; } scale_names[] = {
    { ".weight_scale_inv", ".weight", false },
    { ".weight_scale", ".weight", false },
    { ".qscale_weight", ".weight", false },
    { ".activation_scale", ".weight", true },
    { ".qscale_act", ".weight", true },
    { ".input_scale", ".weight", true },
    { "_activation_scale", "", true },
    { "_scale_inv", "", false },
};
#define N_SCALES (sizeof scale_names / sizeof *scale_names)

/* The weight that a scale tensor belongs to; NULL when it is no scale. *known
 * tells whether the name is one, *act whether it is of the activations. */
static const bise_tensor *scaled_weight(const bise_store *s, const char *name,
                                        bool *known, bool *act)
{
    char buf[256];
    *known = false;
    for (size_t i = 0; i < N_SCALES; i++) {
        if (!bise_ends_with(name, scale_names[i].scale))
            continue;
        *known = true;
        *act = scale_names[i].act;
        const size_t cut = strlen(name) - strlen(scale_names[i].scale);
        if (cut > 200)
            return NULL;
        snprintf(buf, sizeof buf, "%.*s%s", (int)cut, name,
                 scale_names[i].weight);
        return bise_store_find(s, buf);
    }
    return NULL;
}

/* The scale tensor of a weight by trying each suffix. */
static const bise_tensor *scale_of(const bise_store *s, const char *weight,
                                   bool act)
{
    char buf[256];
    for (size_t i = 0; i < N_SCALES; i++) {
        if (scale_names[i].act != act ||
            !bise_ends_with(weight, scale_names[i].weight))
            continue;
        const size_t cut = strlen(weight) - strlen(scale_names[i].weight);
        if (cut > 200)
            return NULL;
        snprintf(buf, sizeof buf, "%.*s%s", (int)cut, weight,
                 scale_names[i].scale);
        const bise_tensor *t = bise_store_find(s, buf);
        if (t)
            return t;
    }
    return NULL;
}

/* Element i of a scale of any of the three types that releases use. */
static float scale_value(const bise_tensor *t, const void *data, uint64_t i)
{
    const uint8_t *p = data;
    if (t->dtype == BISE_DTYPE_F32)
        return bise_bits_f32(bise_load_le32(p + 4 * i));
    if (t->dtype == BISE_DTYPE_F16)
        return bise_f16_to_f32(bise_load_le16(p + 2 * i));
    return bise_bf16_to_f32(bise_load_le16(p + 2 * i));
}

/* Block length of the scales: from the config, either as transformers or as
 * compressed-tensors say it, else 128 as all releases. */
static int32_t block_of(const bise_config *c)
{
    const bise_json *q = bise_json_get(c->json, "quantization_config");
    int64_t v = 0;
    if (!q)
        q = bise_json_get(bise_json_get(c->json, "text_config"),
                          "quantization_config");
    const bise_json *b = bise_json_at(bise_json_get(q, "weight_block_size"), 0);
    const bise_json *groups = bise_json_get(q, "config_groups");
    void *first = bise_json_iter(groups, NULL);
    if (!b && first)
        b = bise_json_at(bise_json_get(bise_json_get(
            bise_json_iter_value(first), "weights"), "block_structure"), 0);
    return bise_json_integer(b, &v) && v > 0 && v < 1 << 16 ? (int32_t)v : 128;
}

#define NO_SCHEME (-2)

/* Which scale_block the scale's shape means; NO_SCHEME when it fits none. */
static int32_t scale_scheme(const bise_config *c, const bise_tensor *w,
                            const bise_tensor *t)
{
    const uint64_t n = bise_tensor_count(t);
    if (n == 1 || (w->n_dims == 3 && n == w->dims[0]))
        return 0;
    /* [out] or [out, 1]; of a stack [E, out] or [E, out, 1]. */
    if (n == bise_tensor_rows(w) &&
        (t->n_dims == w->n_dims - 1 || t->dims[t->n_dims - 1] == 1))
        return BISE_SCALE_ROWS;
    const uint64_t b = (uint64_t)block_of(c);
    if (w->n_dims == 2 && t->n_dims == 2 &&
        t->dims[0] == (w->dims[0] + b - 1) / b &&
        t->dims[1] == (w->dims[1] + b - 1) / b)
        return (int32_t)b;
    return NO_SCHEME;
}

/* Scales of an FP8 weight in float32: w = code * scale, whatever the name says
 * (mistral3.md 2.7). A zero or NaN would make the weight vanish: an error. */
static bise_status attach_scales(bise_checkpoint *c, bise_weight *w,
                                 bise_error *err)
{
    char shape[96];
    const bise_tensor *t = scale_of(c->store, w->tensor->name, false);
    if (!t) {
        err->status =
            bise_fail(err, BISE_EFORMAT, "FP8 weight '%s' has no scale",
                        w->tensor->name);
        return in_tensor(c, w->tensor, err);
    }
    const int32_t scheme = scale_scheme(&c->config, w->tensor, t);
    const uint64_t n = bise_tensor_count(t);
    if (scheme == NO_SCHEME || n > INT32_MAX ||
        (t->dtype != BISE_DTYPE_F32 && t->dtype != BISE_DTYPE_BF16 &&
         t->dtype != BISE_DTYPE_F16)) {
        err->status =
            bise_fail(err, BISE_EUNSUPPORTED, "scale '%s' is %s of %s, bise "
                        "reads one a tensor, a row or a block of %d", t->name,
                        shape_text(shape, t->dims, t->n_dims),
                        bise_dtype_get(t->dtype)->name,
                        (int)block_of(&c->config));
        return in_tensor(c, t, err);
    }
    const void *data = NULL;
    const bise_status s = bise_store_data(c->store, t, &data, err);
    if (s != BISE_OK)
        return s;
    w->scales = bise_alloc_array(n, sizeof(float));
    if (!w->scales)
        return bise_fail_nomem(err);
    for (uint64_t i = 0; i < n; i++) {
        w->scales[i] = scale_value(t, data, i);
        if (!(w->scales[i] > 0) || isinf(w->scales[i])) {
            err->status =
                bise_fail(err, BISE_EFORMAT, "scale %" PRIu64 " of '%s' is "
                            "%g, it must be positive and finite", i, t->name,
                            w->scales[i]);
            return in_tensor(c, t, err);
        }
    }
    w->n_scales = (int32_t)n;
    w->scale_block = scheme;
    w->scale = t;
    w->act_scale = scale_of(c->store, w->tensor->name, true);
    return BISE_OK;
}

/* A scale is taken with its weight; one without an FP8 weight would change the
 * meaning of the file if it were dropped (mistral3.md 7, trap 20). */
static bise_status check_scale(const bise_checkpoint *c, const bise_tensor *t,
                               const bise_tensor *w, bool act, bise_error *err)
{
    if (w && (w->dtype == BISE_DTYPE_F8_E4M3 || act))
        return BISE_OK;
    err->status =
        bise_fail(err, BISE_EUNSUPPORTED, "scale '%s' belongs to no FP8 "
                    "weight of this checkpoint", t->name);
    return in_tensor(c, t, err);
}

/* Packed formats have a weight under another name; leaving their tensors out
 * with a warning would end in a "missing tensor" that hides the reason. */
static bise_status refuse_packed(const bise_checkpoint *c,
                                 const bise_tensor *t, bise_error *err)
{
    static const char *const bad[] = {
        ".weight_packed", ".weight_global_scale", ".input_global_scale",
        ".qweight", ".absmax", ".quant_map", "rope_freqs.weight" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (bise_ends_with(t->name, bad[i])) {
            err->status =
                bise_fail(err, BISE_EUNSUPPORTED, "tensor '%s' belongs to a "
                            "scheme bise does not read", t->name);
            err->status =
                bise_error_hint(err, "use the bf16 or FP8 checkpoint of "
                                  "this model");
            return in_tensor(c, t, err);
        }
    return BISE_OK;
}

/* Shape and type of one text tensor against the configuration. */
static bise_status check_weight(const bise_checkpoint *c, bise_role role,
                                const bise_tensor *t, bise_error *err)
{
    uint64_t want[3];
    char a[96], b[96];
    const int n = bise_role_shape(&c->config, role, want);
    if (!n) {
        err->status =
            bise_fail(err, BISE_EFORMAT, "tensor '%s' has no place in a %s "
                        "model of %d layers", t->name,
                        bise_family_name(c->config.family), (int)c->config.L);
        return in_tensor(c, t, err);
    }
    if (n != t->n_dims || memcmp(want, t->dims, (size_t)n * sizeof *want)) {
        err->status =
            bise_fail(err, BISE_EFORMAT, "shape of '%s' is %s, the config "
                        "needs %s", t->name, shape_text(a, t->dims, t->n_dims),
                        shape_text(b, want, n));
        const bool ids = role.kind == BISE_ROLE_EMBED ||
                         role.kind == BISE_ROLE_HEAD;
        if (ids && n == t->n_dims && want[1] == t->dims[1])
            err->status =
                bise_error_hint(err, "a resized vocabulary stands in the "
                                  "config too: \"vocab_size\": %" PRIu64,
                                  t->dims[0]);
        else
            err->status =
                bise_error_hint(err, "config and weights must be of the same "
                                  "checkpoint");
        return in_tensor(c, t, err);
    }
    if (bise_dtype_is_float(t->dtype) || bise_dtype_is_quant(t->dtype) ||
        t->dtype == BISE_DTYPE_F8_E4M3)
        return BISE_OK;
    err->status =
        bise_fail(err, BISE_EUNSUPPORTED, "type of '%s' is %s, which is not "
                    "one of weights", t->name, bise_dtype_get(t->dtype)->name);
    return in_tensor(c, t, err);
}

/* Only q and k of rotated attention have an order; it depends on the layout of
 * the file, not on the tensor. */
static void set_rows(bise_checkpoint *c, bise_weight *w)
{
    const bise_config *m = &c->config;
    const bool q = w->role.kind == BISE_ROLE_Q;
    if (bise_family_get(m->family)->mla || (!q && w->role.kind != BISE_ROLE_K))
        return;
    w->rows = m->neox ? BISE_ROWS_HALF : BISE_ROWS_INTERLEAVED;
    w->heads = q ? m->H : m->K;
}

/* Append a tensor with its role; the array has room for all of the store. */
static bise_status add_weight(bise_checkpoint *c, bise_role role,
                              const bise_tensor *t, bise_error *err)
{
    bise_weight *w = &c->weights[c->n];
    *w = (bise_weight){ .role = role, .tensor = t };
    if (role.kind != BISE_ROLE_OPAQUE) {
        bise_status s = check_weight(c, role, t, err);
        c->n++;  /* from here on close releases its scales */
        if (s == BISE_OK && t->dtype == BISE_DTYPE_F8_E4M3)
            s = attach_scales(c, w, err);
        if (s != BISE_OK)
            return s;
        set_rows(c, w);
    } else {
        c->n++;
    }
    if (t->n_dims == 3 && t->dims[0])
        w->expert_stride = t->bytes / t->dims[0];
    return BISE_OK;
}

/* What one tensor of the store is, and where it goes. */
static bise_status take_tensor(bise_checkpoint *c, const bise_tensor *t,
                               size_t *extra, const bise_progress *progress,
                               bise_error *err)
{
    char buf[256];
    bool known, act;
    if (is_ignored(t->name))
        return BISE_OK;
    const bise_tensor *weight = scaled_weight(c->store, t->name, &known, &act);
    if (known && c->names != BISE_NAMES_GGUF)
        return check_scale(c, t, weight, act, err);
    if (is_vision(t->name, c->names))
        return add_weight(c, (bise_role){ BISE_ROLE_OPAQUE, -1, -1 }, t, err);
    const bise_status s = refuse_packed(c, t, err);
    if (s != BISE_OK)
        return s;
    const char *name = c->names == BISE_NAMES_HF
                           ? strip_prefix(c, buf, t->name) : t->name;
    const bise_role role = bise_role_of(name, c->names);
    if (role.kind == BISE_ROLE_COUNT) {
        if ((*extra)++ == 0)
            bise_progress_say(progress, "warning: tensor '%s' is none of a %s "
                              "model and is left out", t->name,
                              bise_family_name(c->config.family));
        return BISE_OK;
    }
    if (role.kind == BISE_ROLE_HEAD && c->config.tied) {
        bise_progress_say(progress, "note: '%s' is left out, the head is tied "
                          "to the embedding", t->name);
        return BISE_OK;
    }
    return add_weight(c, role, t, err);
}

/* Hand a fault to the sink and go on; without one it ends the opening, as does
 * what is no fault of the file. */
static bise_status tell(const bise_fault_sink *sink, bise_status s,
                        bise_error *err)
{
    if (s == BISE_OK || !sink || s == BISE_ENOMEM || s == BISE_ECANCEL)
        return s;
    const bise_error what = *err;
    bise_error_init(err);
    return sink->fault(sink->ctx, &what);
}

/* Sort the roles, and refuse two tensors for one: the sink gets each pair. */
static bise_status build_index(bise_checkpoint *c, const bise_fault_sink *sink,
                               bise_error *err)
{
    bise_status s = BISE_OK;
    entry *index = bise_alloc_array(c->n + 1, sizeof *index);
    if (!index)
        return bise_fail_nomem(err);
    c->index = index;
    for (size_t i = 0; i < c->n; i++) {
        index[i].key = key_of(c->weights[i].role);
        index[i].at = (uint32_t)i;
    }
    qsort(index, c->n, sizeof *index, by_key);
    for (size_t i = 1; i < c->n && s == BISE_OK; i++) {
        const bise_weight *a = &c->weights[index[i - 1].at];
        const bise_weight *b = &c->weights[index[i].at];
        if (index[i].key != index[i - 1].key ||
            a->role.kind == BISE_ROLE_OPAQUE)
            continue;
        err->status =
            bise_fail(err, BISE_EFORMAT, "'%s' and '%s' are the same tensor "
                        "of the model", a->tensor->name, b->tensor->name);
        s = tell(sink, in_tensor(c, b->tensor, err), err);
    }
    return s;
}

/* Is there a tensor for these three? */
static bool has(const bise_checkpoint *c, bise_role_kind kind, int32_t layer,
                int32_t expert)
{
    return bise_checkpoint_find(c, (bise_role){ kind, layer, expert }) != NULL;
}

/* Roles that may be stored in another form: stacked, fused or one by one; MLA's
 * kv_b in two parts. A missing one is reported under *missing. */
static bool is_there(const bise_checkpoint *c, bise_role r, bise_role *missing)
{
    *missing = r;
    if (bise_checkpoint_find(c, r))
        return true;
    switch (r.kind) {
    case BISE_ROLE_KV_B:
        return has(c, BISE_ROLE_K_B, r.layer, -1) &&
               has(c, BISE_ROLE_V_B, r.layer, -1);
    case BISE_ROLE_EXP_GATE:
    case BISE_ROLE_EXP_UP:
        if (has(c, BISE_ROLE_EXP_GATE_UP, r.layer, -1))
            return true;
        break;
    case BISE_ROLE_EXP_DOWN:
        break;
    default:
        return false;
    }
    /* One by one: the first absent expert, when there are any others. */
    int32_t found = 0, absent = -1;
    for (int32_t e = 0; e < c->config.E; e++) {
        const bool there = has(c, r.kind, r.layer, e);
        found += there;
        absent = !there && absent < 0 ? e : absent;
    }
    if (absent < 0)
        return true;
    missing->expert = found ? absent : -1;
    return false;
}

/* Every role of the configuration, stored in one of its forms. */
static bise_status check_complete(const bise_checkpoint *c,
                                  const bise_fault_sink *sink, bise_error *err)
{
    const size_t n = bise_config_roles(&c->config, NULL, 0);
    bise_role *roles = bise_alloc_array(n, sizeof *roles), missing;
    bise_status s = BISE_OK;
    if (!roles)
        return bise_fail_nomem(err);
    (void)bise_config_roles(&c->config, roles, n);
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        if (is_there(c, roles[i], &missing))
            continue;
        char name[256] = "";
        if (!bise_checkpoint_name(name, c, missing)) {
            missing.expert = 0; /* stacked has no name: name the first */
            (void)bise_checkpoint_name(name, c, missing);
        }
        err->status =
            bise_fail(err, BISE_EFORMAT, "tensor '%s' is missing", name);
        err->status =
            bise_error_hint(err, "is a shard absent, or the config of "
                              "another model?");
        s = tell(sink, bise_error_in(err, bise_store_path(c->store), name),
                 err);
    }
    bise_free(roles);
    return s;
}

/* The stored tensor of a role, by name only: before anything is checked. */
static const bise_tensor *named(bise_checkpoint *c, bise_role_kind kind)
{
    char buf[256];
    for (size_t i = 0; i < bise_store_count(c->store); i++) {
        const bise_tensor *t = bise_store_at(c->store, i);
        const char *name = c->names == BISE_NAMES_HF
                               ? strip_prefix(c, buf, t->name) : t->name;
        if (bise_role_of(name, c->names).kind == kind)
            return t;
    }
    return NULL;
}

/* Are 256 rows of two tensors, spread over the whole, the same bytes? A head
 * that was trained on its own differs in every row, and opening a model must
 * not read a gigabyte. */
static bise_status same_rows(const bise_checkpoint *c, const bise_tensor *a,
                             const bise_tensor *b, bool *same, bise_error *err)
{
    const uint64_t rows = bise_tensor_rows(a);
    const uint64_t step = rows > 256 ? rows / 256 : 1;
    *same = a->dtype == b->dtype && a->bytes == b->bytes && rows > 0;
    if (!*same)
        return BISE_OK;
    const uint64_t size = a->bytes / rows;
    uint8_t *scratch = bise_alloc_array(2, size + 1);
    if (!scratch)
        return bise_fail_nomem(err);
    bise_status s = BISE_OK;
    for (uint64_t r = 0; r < rows && *same && s == BISE_OK; r += step) {
        const void *x = NULL, *y = NULL;
        s = bise_store_read(c->store, a, r * size, size, scratch, &x, err);
        if (s == BISE_OK)
            s = bise_store_read(c->store, b, r * size, size, scratch + size,
                                &y, err);
        *same = s != BISE_OK || memcmp(x, y, (size_t)size) == 0;
    }
    bise_free(scratch);
    return s;
}

/* A head stored although the configuration ties it: a copy of the embedding is
 * left out; one that differs is what the model was trained with, so it stays
 * and the tie does not, as transformers 5 decides (tie_weights). */
static bise_status settle_head(bise_checkpoint *c,
                               const bise_progress *progress, bise_error *err)
{
    if (!c->config.tied || c->names == BISE_NAMES_GGUF)
        return BISE_OK;
    const bise_tensor *head = named(c, BISE_ROLE_HEAD);
    const bise_tensor *embed = named(c, BISE_ROLE_EMBED);
    bool same = true;
    if (!head || !embed)
        return BISE_OK;
    const bise_status s = same_rows(c, embed, head, &same, err);
    if (s != BISE_OK || same)
        return s;
    c->config.tied = false;
    bise_progress_say(progress, "warning: the config ties the head to the "
                      "embedding, but '%s' differs from it: it is kept, the "
                      "tie is not", head->name);
    return BISE_OK;
}

/* Every tensor of the store in file order; the first unknown one is named. */
static bise_status take_all(bise_checkpoint *c, const bise_progress *progress,
                            const bise_fault_sink *sink, bise_error *err)
{
    const size_t n = bise_store_count(c->store);
    size_t extra = 0;
    c->weights = bise_alloc_array(n + 1, sizeof *c->weights);
    if (!c->weights)
        return bise_fail_nomem(err);
    bise_status s = settle_head(c, progress, err);
    for (size_t i = 0; i < n && s == BISE_OK; i++)
        s = tell(sink, take_tensor(c, bise_store_at(c->store, i), &extra,
                                   progress, err), err);
    if (s == BISE_OK && extra > 1)
        bise_progress_say(progress, "warning: and %zu more tensors are left "
                          "out", extra - 1);
    return s;
}

/* Faults of single tensors are for those who inspect. */
bise_status bise_checkpoint_open(bise_checkpoint *c, const char *path,
                                 const bise_progress *progress,
                                 bise_error *err)
{
    return bise_checkpoint_inspect(c, path, progress, NULL, err);
}

/* Everything is checked here once, so that no user of a checkpoint has to. */
bise_status bise_checkpoint_inspect(bise_checkpoint *c, const char *path,
                                    const bise_progress *progress,
                                    const bise_fault_sink *sink,
                                    bise_error *err)
{
    memset(c, 0, sizeof *c);
    bise_status s = bise_store_open(&c->store, path, err);
    if (s != BISE_OK)
        return s;
    const bise_store_kind kind = bise_store_inner_kind(c->store);
    c->names = kind == BISE_STORE_GGUF ? BISE_NAMES_GGUF
               : kind == BISE_STORE_NATIVE ? BISE_NAMES_NATIVE
                                           : BISE_NAMES_HF;
    s = bise_config_resolve(&c->config, c->store, err);
    if (s == BISE_OK)
        s = take_all(c, progress, sink, err);
    if (s == BISE_OK)
        s = build_index(c, sink, err);
    if (s == BISE_OK)
        s = check_complete(c, sink, err);
    if (s == BISE_OK)
        bise_card_read(c, progress);
    else
        bise_checkpoint_close(c);
    return s;
}

/* Weights point into the store: it goes last. */
void bise_checkpoint_close(bise_checkpoint *c)
{
    for (size_t i = 0; i < c->n; i++)
        bise_free(c->weights[i].scales);
    bise_free(c->weights);
    bise_free(c->index);
    bise_config_fini(&c->config);
    bise_json_free(c->lineage);
    bise_store_close(c->store);
    memset(c, 0, sizeof *c);
}

/* Lower bound in the sorted index. */
const bise_weight *bise_checkpoint_find(const bise_checkpoint *c,
                                        bise_role role)
{
    const uint64_t key = key_of(role);
    const entry *index = c->index;
    size_t low = 0, high = index ? c->n : 0;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (index[mid].key < key)
            low = mid + 1;
        else
            high = mid;
    }
    return index && low < c->n && index[low].key == key
               ? &c->weights[index[low].at] : NULL;
}

/* Roles outside experts, which is what most callers ask for. */
const bise_weight *bise_checkpoint_get(const bise_checkpoint *c,
                                       bise_role_kind kind, int32_t layer)
{
    return bise_checkpoint_find(c, (bise_role){ kind, layer, -1 });
}

/* take_all appended at most one weight for each tensor, in this order. */
const bise_weight *bise_checkpoint_next(const bise_checkpoint *c,
                                        const bise_tensor *t, size_t *next)
{
    return *next < c->n && c->weights[*next].tensor == t
               ? &c->weights[(*next)++] : NULL;
}

/* "language_model." stands before everything, the head included;
 * "model.language_model." replaces "model." and leaves the head alone. */
bool bise_role_name_prefixed(char out[256], bise_role role, bise_family family,
                             const char *prefix)
{
    char name[192];
    if (!bise_role_name_in(name, role, BISE_NAMES_HF, family))
        return false;
    /* The newer scheme sits inside "model.", where the head is not. */
    const bool inner = bise_starts_with(prefix, "model.");
    if (!inner)
        snprintf(out, 256, "%s%s", prefix, name);
    else if (bise_starts_with(name, "model."))
        snprintf(out, 256, "%s%s", prefix, name + 6);
    else
        snprintf(out, 256, "%s", name);
    return true;
}

/* Savers write back the scheme that was read (mistral3.md 2.3). */
bool bise_checkpoint_name(char out[256], const bise_checkpoint *c,
                          bise_role role)
{
    char name[192];
    const bise_family family = c->config.family;
    if (c->names == BISE_NAMES_HF)
        return bise_role_name_prefixed(out, role, family, c->prefix);
    if (!bise_role_name_in(name, role, c->names, family))
        return false;
    snprintf(out, 256, "%s", name);
    return true;
}
