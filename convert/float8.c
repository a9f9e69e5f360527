/* float8.c - see float8.h. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "convert/float8.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Reordering rows inside heads leaves block scales valid only while every row
 * stays in its block of rows: heads must divide blocks, or blocks be so large
 * that they hold whole heads. Both are so with heads and blocks of 128. */
static bise_status check_blocks(const bise_checkpoint *c, const bise_weight *q,
                                bise_rows to, bise_error *err)
{
    const uint64_t rows = bise_tensor_rows(q->tensor);
    const uint64_t block = q->scale_block > 0 ? (uint64_t)q->scale_block : 0;
    const int32_t D = c->config.D;
    if (q->rows == to || q->heads <= 0 || block == 0)
        return BISE_OK;
    for (uint64_t r = 0; r < rows; r++) {
        const uint64_t from = bise_rows_source(q->rows, to, r, D);
        if (from / block == r / block)
            continue;
        err->status = bise_fail(err, BISE_EUNSUPPORTED, "row %" PRIu64 " of "
                                "'%s' comes from row %" PRIu64 ", which has "
                                "another scale: heads of %d in blocks of %d",
                                r, q->tensor->name, from, (int)D,
                                (int)q->scale_block);
        err->status = bise_error_hint(err, "leave out --dtype keep: the "
                                      "weights become BF16");
        return bise_error_in(err, bise_store_path(c->store), q->tensor->name);
    }
    return BISE_OK;
}

/* Name of a scale in the output: that of the weight with another end. Schemes
 * that only compressed-tensors describes have its names. */
static void scale_name(char out[256], const char *weight, bise_names to,
                       int32_t block, bool act)
{
    static const char *const ends[3][2] = {
        { ".weight_scale_inv", ".activation_scale" },
        { ".qscale_weight", ".qscale_act" },
        { ".weight_scale", ".input_scale" } };
    const int row = block == BISE_SCALE_ROWS ? 2
                    : to == BISE_NAMES_HF    ? 0
                    : block > 0              ? 2
                                             : 1;
    const size_t n = strlen(weight);
    const size_t cut = n > 7 && strcmp(weight + n - 7, ".weight") == 0 ? 7 : 0;
    snprintf(out, 256, "%.*s%s", (int)(n - cut), weight, ends[row][act]);
}

/* A tensor of the store under another name, bytes and shape as they are. */
static bise_status add_stored(bise_plan *p, const bise_checkpoint *c,
                              const bise_tensor *t, const char *name,
                              bise_error *err)
{
    bise_plan_tensor x = { .name = name, .dtype = t->dtype,
                           .n_dims = t->n_dims,
                           .role = { BISE_ROLE_OPAQUE, -1, -1 },
                           .stream = bise_stream_tensor(&p->arena, c->store,
                                                        t) };
    memcpy(x.dims, t->dims, sizeof x.dims);
    return bise_plan_add(p, &x, err);
}

/* Scales of rows [out, 1] move as their rows do. */
static bise_status add_row_scales(bise_plan *p, const bise_checkpoint *c,
                                  const bise_weight *q, bise_rows to,
                                  const char *name, bise_error *err)
{
    const bise_tensor *t = q->scale;
    bise_tensor *column = bise_arena_alloc(&p->arena, sizeof *column);
    if (!column)
        return bise_fail_nomem(err);
    *column = *t;               /* [out] read as [out, 1] */
    column->n_dims = 2;
    column->dims[0] = bise_tensor_count(t);
    column->dims[1] = 1;
    bise_plan_tensor x = { .name = name, .dtype = t->dtype, .n_dims = 2,
                           .role = { BISE_ROLE_OPAQUE, -1, -1 } };
    memcpy(x.dims, column->dims, sizeof x.dims);
    x.stream = bise_stream_permute(
        &p->arena, bise_stream_tensor(&p->arena, c->store, column), q->heads,
        q->rows, to);
    return bise_plan_add(p, &x, err);
}

/* Codes move as bytes: the stream of the plain tensor has the float8 type,
 * and reordering gathers rows without decoding them. */
bise_status bise_float8_add(bise_plan *p, const bise_checkpoint *c,
                            const bise_weight *q, const char *name,
                            bise_names to, bise_error *err)
{
    const bise_tensor *t = q->tensor;
    const bise_rows order = q->rows == BISE_ROWS_PLAIN ? BISE_ROWS_PLAIN
                            : to == BISE_NAMES_HF      ? BISE_ROWS_HALF
                                                       : BISE_ROWS_INTERLEAVED;
    char scale[256];
    bise_status s = check_blocks(c, q, order, err);
    bise_plan_tensor x = { .name = name, .dtype = t->dtype, .role = q->role,
                           .n_dims = t->n_dims };
    memcpy(x.dims, t->dims, sizeof x.dims);
    x.stream = bise_stream_permute(
        &p->arena, bise_stream_tensor(&p->arena, c->store, t), q->heads,
        q->rows, order);
    if (s == BISE_OK)
        s = bise_plan_add(p, &x, err);
    if (s == BISE_OK) {
        scale_name(scale, name, to, q->scale_block, false);
        s = q->scale_block == BISE_SCALE_ROWS
                ? add_row_scales(p, c, q, order, scale, err)
                : add_stored(p, c, q->scale, scale, err);
    }
    if (s == BISE_OK && q->act_scale) {
        scale_name(scale, name, to, q->scale_block, true);
        s = add_stored(p, c, q->act_scale, scale, err);
    }
    return s;
}

/* Sums of codes and adapters would need new scales, and the scales of the
 * activations were measured for the old weights. */
bise_status bise_float8_check(const bise_checkpoint *c, int n_loras,
                              bise_error *err)
{
    for (size_t i = 0; n_loras && i < c->n; i++) {
        if (!c->weights[i].scales)
            continue;
        err->status = bise_fail(err, BISE_EUNSUPPORTED, "'%s' is float8: "
                                "adapters cannot be merged into weights whose "
                                "codes are kept", c->weights[i].tensor->name);
        err->status = bise_error_hint(err, "leave out --dtype keep: merged "
                                      "weights become BF16");
        return bise_error_in(err, bise_store_path(c->store),
                             c->weights[i].tensor->name);
    }
    return BISE_OK;
}
