/* linear.c - the weight view: rows of a stored matrix as float32, whatever its
 * type, row order or scale, and the adapters that sit on it. The products are
 * in matmul.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/linear.h"

#include <string.h>

#include "core/mem.h"
#include "model/linear_int.h"

/* The bytes behind a weight: its copy in memory, or the store's. */
static bise_status source_of(const uint8_t **data, uint64_t *bytes,
                             const bise_checkpoint *c, const bise_weight *w,
                             bise_error *err)
{
    const void *p = NULL;
    if (w->packed) {
        *data = w->packed->data;
        *bytes = w->packed->bytes;
        return BISE_OK;
    }
    if (bise_store_data(c->store, w->tensor, &p, err))
        return err->status;
    *data = p;
    *bytes = w->tensor->bytes;
    return BISE_OK;
}

/* How the rows of a type become float32; NF4 has its own way. */
static bise_status find_decoder(bise_linear *l, const bise_tensor *t,
                                bise_error *err)
{
    if (l->nf4 || l->row_scales || l->dtype == BISE_DTYPE_F32 ||
        l->dtype == BISE_DTYPE_BF16 || l->dtype == BISE_DTYPE_F16)
        return BISE_OK;
    const bise_codec *codec = bise_codec_get(l->dtype);
    if (!codec || !codec->decode)
        return bise_fail(err, BISE_EUNSUPPORTED,
                         "type %s of '%s' cannot be computed with",
                         bise_dtype_get(l->dtype)->name, t->name);
    l->decode = codec->decode;
    return BISE_OK;
}

/* Point into the store: the byte range is checked against the tensor, since
 * strides of stacked experts come from metadata. */
bise_status bise_linear_init(bise_linear *l, const bise_checkpoint *c,
                             const bise_weight *w, int32_t expert,
                             int32_t first_row, int32_t rows, bise_error *err)
{
    const bise_tensor *t = w->tensor;
    const int64_t in = (int64_t)bise_tensor_cols(t);
    int64_t out = t->n_dims > 1 ? (int64_t)t->dims[t->n_dims - 2] : 1;
    const bise_dtype dtype = w->packed ? w->packed->dtype : t->dtype;
    const uint8_t *data = NULL;
    uint64_t bytes = 0;
    if (source_of(&data, &bytes, c, w, err))
        return err->status;
    /* Stacked experts: skip whole matrices, then rows of the fused halves. */
    const uint64_t row_bytes = bise_dtype_bytes(dtype, (uint64_t)in);
    const uint64_t skip = expert > 0 ? (uint64_t)expert * (uint64_t)out : 0;
    const uint64_t row = skip + (rows ? (uint64_t)first_row : 0);
    const uint64_t stride = w->packed ? row_bytes * (uint64_t)out
                                      : w->expert_stride;
    const uint64_t at = (expert > 0 ? (uint64_t)expert * stride : 0) +
                        (rows ? (uint64_t)first_row * row_bytes : 0);
    if (rows)
        out = rows;
    if (in > INT32_MAX || out > INT32_MAX ||
        at + (uint64_t)out * row_bytes > bytes)
        return bise_fail(err, BISE_EFORMAT, "rows of '%s' end outside it",
                         t->name);
    *l = (bise_linear){
        .role = w->role, .in = (int32_t)in, .out = (int32_t)out,
        .dtype = dtype, .data = data + at, .row_bytes = row_bytes,
        .nf4_first = row * (uint64_t)in,
    };
    if (dtype == BISE_DTYPE_I8 && w->packed)
        l->row_scales = w->packed->row_scales + row;
    if (dtype == BISE_DTYPE_NF4)
        l->nf4 = w->packed ? &w->packed->nf4 : w->nf4;
    if (!w->packed) {
        l->mapped = bise_store_kind_of(c->store) != BISE_STORE_ARCHIVE;
        l->scales = w->scales;
        l->scale_block = w->scale_block;
        /* A stack has one scale, or one for each of its experts or rows. */
        if (expert > 0 && !w->scale_block && w->n_scales > 1)
            l->scales += expert;
        if (w->scale_block == BISE_SCALE_ROWS && w->scales)
            l->scales += row;
        if (w->scale_block > 0)
            l->scale_cols = (int32_t)((in + w->scale_block - 1) /
                                      w->scale_block);
    }
    /* Rows are put into half order when they are read, so everything above
     * (RoPE, adapters) knows one order only. */
    if (w->rows == BISE_ROWS_INTERLEAVED && w->heads > 0)
        l->pair_rows = l->out / w->heads;
    return find_decoder(l, t, err);
}

/* Tensors of modules_to_save, which live in the adapter. */
void bise_linear_init_f32(bise_linear *l, bise_role role, const float *w,
                          int32_t out, int32_t in)
{
    *l = (bise_linear){
        .role = role, .in = in, .out = out, .dtype = BISE_DTYPE_F32,
        .data = (const uint8_t *)w, .row_bytes = (uint64_t)in * 4,
    };
}

/* A number for each linear layer that names its dropout stream. */
static uint64_t stream_of(bise_role r, int32_t adapter)
{
    return ((uint64_t)(r.layer + 1) << 32 | (uint64_t)(r.expert + 1) << 16 |
            (uint64_t)r.kind << 8 | (uint64_t)adapter);
}

/* Modules of other roles are skipped; a module of the wrong shape is an error
 * although loading checked it, because the view may be a part. */
bise_status bise_linear_adapt(bise_linear *l, bise_lora *const *loras,
                              int32_t n, bise_error *err)
{
    if (n > 0 && !(l->branches = bise_alloc_array((size_t)n,
                                                  sizeof *l->branches)))
        return bise_fail_nomem(err);
    for (int32_t i = 0; i < n; i++) {
        const bise_lora_module *m = bise_lora_find(loras[i], l->role);
        if (!m)
            continue;
        if (m->in != l->in || m->out != l->out)
            return bise_fail(err, BISE_EINVAL, "adapter of %dx%d on a layer of"
                             " %dx%d", m->out, m->in, l->out, l->in);
        bise_status s = BISE_OK;
        if (l->gain || (m->magnitude && l->n_branches))
            s = bise_fail(err, BISE_EUNSUPPORTED, "a DoRA adapter and another "
                          "one on the same layer; merge one of them first");
        else if (m->magnitude)
            s = bise_dora_attach(l, m, loras[i]->dropout, err);
        if (s != BISE_OK)
            return s;
        l->branches[l->n_branches++] = (bise_branch){
            .m = m, .dropout = loras[i]->dropout,
            .stream = stream_of(l->role, i),
        };
        l->rank += m->r;
        l->trained |= m->da != NULL;
    }
    return BISE_OK;
}

/* The weight itself belongs to the store. */
void bise_linear_fini(bise_linear *l)
{
    bise_free(l->branches);
    bise_free(l->gain);
    bise_free(l->row_sumsq);
    l->branches = NULL;
    l->n_branches = 0;
    l->gain = NULL;
    l->row_sumsq = NULL;
}

/* Row of the file that holds row r in half order (mistral3.md 2.6):
 * half row h D + b D/2 + i is interleaved row h D + 2 i + b. */
int32_t bise_linear_file_row(const bise_linear *l, int32_t r)
{
    const int32_t D = l->pair_rows;
    if (!D)
        return r;
    const int32_t in_head = r % D, b = in_head / (D / 2);
    return r - in_head + 2 * (in_head % (D / 2)) + b;
}

bise_matrix bise_linear_matrix(const bise_linear *l)
{
    return (bise_matrix){
        .dtype = l->dtype, .data = l->data, .row_bytes = l->row_bytes,
        .N = l->out, .K = l->in, .pair_rows = l->pair_rows,
        .scales = l->scales, .block = l->scale_block, .nf4 = l->nf4,
        .nf4_first = l->nf4_first, .row_scales = l->row_scales,
    };
}

/* For dot products straight from the file. */
const void *bise_linear_stored(const bise_linear *l, int32_t r)
{
    return l->data + (uint64_t)bise_linear_file_row(l, r) * l->row_bytes;
}

/* Decode a part of one row. The decoders of block types work on whole blocks,
 * so callers cut at multiples of the block length. */
void bise_linear_part(const bise_linear *l, const bise_kernels *k, int32_t r,
                      int32_t first, int32_t n, float *out)
{
    const int32_t row = bise_linear_file_row(l, r);
    if (l->nf4) {
        bise_nf4_decode(l->nf4, l->nf4_first + (uint64_t)row *
                                    (uint64_t)l->in + (uint64_t)first,
                        (size_t)n, out);
        return;
    }
    const uint8_t *p = l->data + (uint64_t)row * l->row_bytes +
                       bise_dtype_bytes(l->dtype, (uint64_t)first);
    /* Tensor data starts at an even address in every format we map. */
    if (l->dtype == BISE_DTYPE_F32)
        memcpy(out, p, (size_t)n * sizeof *out);
    else if (l->dtype == BISE_DTYPE_BF16)
        k->bf16_to_f32(out, (const uint16_t *)(const void *)p, (size_t)n);
    else if (l->dtype == BISE_DTYPE_F16)
        k->f16_to_f32(out, (const uint16_t *)(const void *)p, (size_t)n);
    else if (l->row_scales)
        for (int32_t i = 0; i < n; i++)
            out[i] = ((const int8_t *)p)[i] * l->row_scales[row];
    else
        l->decode(out, p, (size_t)n);
    if (!l->scales)
        return;
    if (l->scale_block <= 0) {
        const int32_t at = l->scale_block == BISE_SCALE_ROWS ? row : 0;
        k->scale(out, l->scales[at], (size_t)n);
        return;
    }
    const float *s = l->scales + (int64_t)(row / l->scale_block) *
                                     l->scale_cols;
    for (int32_t i = 0; i < n; i++)
        out[i] *= s[(first + i) / l->scale_block];
}

/* Embedding lookups and norms: a whole row. */
void bise_linear_row(const bise_linear *l, int32_t r, float *out)
{
    bise_linear_part(l, bise_kernels_get(), r, 0, l->in, out);
}
