/* basequant.c - quantizes the layers of a model in memory: a task decodes a
 * slab of stored rows to float32, encodes it and releases the slab's pages.
 * Slabs are cut by the shape only. NF4's second quantization needs the mean of
 * all absmax, so it follows when a tensor is done.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/basequant.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "kernels/codec.h"
#include "kernels/dynmap.h"
#include "model/linear_int.h"

#define SLAB (1 << 17) /* weights of a task: 512 KiB of float32 */

struct bise_basequant {
    bise_checkpoint *c;
    bise_packed *packed;    /* [n], data of each owned */
    size_t n;
    bise_dynmap map;        /* of the second quantization */
};

/* One tensor on its way. */
typedef struct job {
    bise_linear view;       /* all rows in the file's order */
    bise_packed *to;
    float *absmax;          /* NF4: [blocks] */
    float *row_scales;      /* I8: [rows] */
    bise_panel8_ops panel8;
    float *slabs;           /* [workers, slab_rows * in] */
    int32_t slab_rows;
    _Atomic uint64_t bad;   /* first weight that is not finite */
} job;

bool bise_basequant_takes(bise_role role)
{
    switch (role.kind) {
    case BISE_ROLE_Q: case BISE_ROLE_K: case BISE_ROLE_V: case BISE_ROLE_O:
    case BISE_ROLE_GATE: case BISE_ROLE_UP: case BISE_ROLE_DOWN:
    case BISE_ROLE_EXP_GATE: case BISE_ROLE_EXP_UP: case BISE_ROLE_EXP_DOWN:
    case BISE_ROLE_EXP_GATE_UP:
    case BISE_ROLE_SH_GATE: case BISE_ROLE_SH_UP: case BISE_ROLE_SH_DOWN:
    case BISE_ROLE_Q_A: case BISE_ROLE_Q_B: case BISE_ROLE_KV_A:
        return true;
    default:
        return false;
    }
}

/* The parts of one packed weight: codes, then absmax codes, then nested. */
typedef struct layout {
    uint64_t codes, absmax8, nested, all; /* nested: of I8 its row scales */
} layout;

/* Sizes in bytes; block types have codes only. */
static layout layout_of(bise_dtype t, uint64_t n, uint64_t rows)
{
    layout l = { .codes = t == BISE_DTYPE_NF4 ? (n + 1) / 2
                                              : bise_dtype_bytes(t, n) };
    if (t == BISE_DTYPE_NF4) {
        l.absmax8 = bise_nf4_blocks(n, BISE_NF4_BLOCK);
        l.nested = bise_nf4_blocks(l.absmax8, BISE_NF4_NESTED) *
                   sizeof(float);
    }
    if (t == BISE_DTYPE_I8)
        l.nested = rows * sizeof(float);
    /* each part at a cache line */
    l.all = (l.codes + 63) / 64 * 64 + (l.absmax8 + 63) / 64 * 64 + l.nested;
    return l;
}

/* What can be done with one weight. */
static bise_status check_one(const bise_checkpoint *c, const bise_weight *w,
                             bise_dtype t, bise_error *err)
{
    const char *name = bise_dtype_get(t)->name;
    const bise_tensor *from = w->tensor;
    const uint32_t block = bise_dtype_get(t)->block_len;
    bise_status s = BISE_OK;
    if (t != BISE_DTYPE_I8 && bise_dtype_is_quant(from->dtype)) {
        s = bise_fail(err, BISE_EUNSUPPORTED, "the base is quantized already: "
                      "'%s' is %s", from->name,
                      bise_dtype_get(from->dtype)->name);
        s = bise_error_hint(err, "leave out --quantize-base: the adapter is "
                            "trained on the blocks as they are stored");
    } else if (w->scales && from->n_dims > 2) {
        s = bise_fail(err, BISE_EUNSUPPORTED, "stacked FP8 experts ('%s') "
                      "cannot be quantized in memory", from->name);
    } else if (t != BISE_DTYPE_NF4 && bise_tensor_cols(from) % block) {
        s = bise_fail(err, BISE_EUNSUPPORTED, "rows of '%s' have %" PRIu64
                      " weights, %s needs multiples of %u", from->name,
                      bise_tensor_cols(from), name, block);
        s = bise_error_hint(err, "--quantize-base nf4 takes any shape%s",
                            block > 32 ? ", q8_0 multiples of 32" : "");
    }
    return s ? bise_error_in(err, bise_store_tensor_file(c->store, from),
                             from->name) : BISE_OK;
}

bise_status bise_basequant_plan(uint64_t *bytes, uint64_t *source,
                                const bise_checkpoint *c, bise_dtype t,
                                bise_error *err)
{
    uint64_t to = 0, from = 0;
    if (t != BISE_DTYPE_NF4 && t != BISE_DTYPE_I8 &&
        (!bise_dtype_is_quant(t) || !bise_codec_get(t)->encode))
        return bise_fail(err, BISE_EUNSUPPORTED, "bise does not quantize to "
                         "%s", bise_dtype_get(t)->name);
    for (size_t i = 0; i < c->n; i++) {
        const bise_weight *w = &c->weights[i];
        if (!bise_basequant_takes(w->role))
            continue;
        if (check_one(c, w, t, err))
            return err->status;
        to += layout_of(t, bise_tensor_count(w->tensor),
                        bise_tensor_rows(w->tensor)).all;
        from += w->tensor->bytes;
    }
    *bytes = to;
    if (source)
        *source = from;
    return BISE_OK;
}

/* Remember the first weight that is not finite, whatever the order of tasks. */
static void note_bad(job *j, uint64_t at)
{
    uint64_t seen = atomic_load(&j->bad);
    while (at < seen && !atomic_compare_exchange_weak(&j->bad, &seen, at))
        ;
}

/* True when all n are finite: exponents that are not all ones. */
static bool all_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t e = bise_f32_bits(x[i]) & 0x7f800000u;
        bad |= e == 0x7f800000u;
    }
    return !bad;
}

/* Rows of one slab: read, check, encode, release. */
static void slab_task(void *ctx, size_t index, int worker)
{
    job *j = ctx;
    const bise_linear *l = &j->view;
    const int32_t r0 = (int32_t)index * j->slab_rows;
    const int32_t left = l->out - r0;
    const int32_t rows = left < j->slab_rows ? left : j->slab_rows;
    const size_t in = (size_t)l->in, n = (size_t)rows * in;
    float *x = j->slabs + (size_t)worker * (size_t)j->slab_rows * in;
    const uint64_t first = (uint64_t)r0 * in;
    for (int32_t r = 0; r < rows; r++)
        bise_linear_part(l, bise_kernels_get(), r0 + r, 0, l->in,
                         x + (size_t)r * in);
    if (!all_finite(x, n)) {
        size_t at = 0;
        while (all_finite(x + at, 1))
            at++;
        note_bad(j, first + at);
    } else if (j->to->dtype == BISE_DTYPE_NF4) {
        (void)bise_nf4_encode(j->to->data + first / 2,
                              j->absmax + first / BISE_NF4_BLOCK, x, n);
    } else if (j->to->dtype == BISE_DTYPE_I8) {
        int8_t *to = (int8_t *)j->to->data + first;
        for (int32_t r = 0; r < rows; r++)
            j->row_scales[r0 + r] = bise_panel8_encode(
                &j->panel8, to + (size_t)r * in, x + (size_t)r * in, in);
    } else {
        bise_codec_get(j->to->dtype)->encode(
            j->to->data + bise_dtype_bytes(j->to->dtype, first), x,
            (size_t)rows, in, NULL);
    }
    bise_map_release(l->data + (uint64_t)r0 * l->row_bytes,
                     (uint64_t)rows * l->row_bytes);
}

/* Greatest common divisor of n and 64. */
static int32_t common64(int32_t n)
{
    int32_t d = 64;
    while (n % d)
        d /= 2;
    return d;
}

/* Rows of a task: whole NF4 blocks, so that slabs share no byte. */
static int32_t rows_of_slab(int32_t in)
{
    const int32_t unit = 64 / common64(in);
    const int32_t rows = SLAB / in / unit * unit;
    return rows < unit ? unit : rows;
}

/* Memory of the copy, and for NF4 the view of it. */
static bise_status make_room(bise_packed *p, bise_dtype t,
                             const bise_tensor *from, const bise_dynmap *map,
                             bise_error *err)
{
    const uint64_t n = bise_tensor_count(from);
    const layout l = layout_of(t, n, bise_tensor_rows(from));
    uint8_t *data = bise_alloc_aligned(l.all);
    if (!data)
        return bise_fail_nomem(err);
    *p = (bise_packed){ .dtype = t, .data = data, .bytes = l.codes };
    if (t == BISE_DTYPE_I8)
        p->row_scales = (const float *)(const void *)(data + (l.codes + 63) /
                                                             64 * 64);
    if (t != BISE_DTYPE_NF4)
        return BISE_OK;
    uint8_t *absmax8 = data + (l.codes + 63) / 64 * 64;
    p->nf4 = (bise_nf4){
        .n = n, .block = BISE_NF4_BLOCK, .nested_block = BISE_NF4_NESTED,
        .codes = data, .map = bise_nf4_map, .absmax8 = absmax8,
        .absmax = (const float *)(const void *)(absmax8 + (l.absmax8 + 63) /
                                                          64 * 64),
        .nested_map = map->value };
    return BISE_OK;
}

/* The second quantization of a finished tensor. */
static void nest(bise_packed *p, float *absmax, const bise_dynmap *map)
{
    const layout l = layout_of(p->dtype, p->nf4.n, 0);
    uint8_t *absmax8 = p->data + (l.codes + 63) / 64 * 64;
    float *nested = (float *)(void *)(absmax8 + (l.absmax8 + 63) / 64 * 64);
    p->nf4.offset = bise_nf4_nest(absmax8, nested, absmax, l.absmax8, map);
}

/* All rows of a weight as one matrix in the file's order, experts stacked. */
static bise_status view_of(bise_linear *l, const bise_checkpoint *c,
                           const bise_weight *w, bise_error *err)
{
    const uint64_t rows = bise_tensor_rows(w->tensor);
    if (rows > INT32_MAX)
        return bise_fail(err, BISE_EUNSUPPORTED, "'%s' has %" PRIu64 " rows",
                         w->tensor->name, rows);
    const bise_status s = bise_linear_init(l, c, w, -1, 0, (int32_t)rows, err);
    l->pair_rows = 0;
    return s;
}

/* All slabs of a weight; what the tasks left of its pages goes too. */
static bise_status run_slabs(const bise_basequant *b, const bise_weight *w,
                             job *j, bise_pool *pool, bise_error *err)
{
    const int32_t slabs = (j->view.out + j->slab_rows - 1) / j->slab_rows;
    bise_pool_run(pool, (size_t)slabs, slab_task, j);
    bise_store_release(b->c->store, w->tensor, 0, w->tensor->bytes);
    const uint64_t bad = atomic_load(&j->bad);
    if (bad == UINT64_MAX)
        return BISE_OK;
    const bise_status s = bise_fail(err, BISE_EFORMAT, "weight %" PRIu64
                                    " of '%s' is not finite", bad,
                                    w->tensor->name);
    return s ? bise_error_in(err, bise_store_tensor_file(b->c->store,
                                                         w->tensor),
                             w->tensor->name) : s;
}

/* One weight. */
static bise_status quantize_one(bise_basequant *b, bise_weight *w,
                                bise_packed *p, bise_pool *pool,
                                bise_error *err)
{
    job j = { .to = p, .bad = UINT64_MAX };
    const uint64_t n = bise_tensor_count(w->tensor);
    if (view_of(&j.view, b->c, w, err))
        return err->status;
    j.slab_rows = rows_of_slab(j.view.in);
    const size_t slab = (size_t)j.slab_rows * (size_t)j.view.in;
    j.slabs = bise_alloc_array(slab * (size_t)bise_pool_threads(pool),
                               sizeof(float));
    if (p->dtype == BISE_DTYPE_I8) {
        j.row_scales = (float *)(void *)(p->data + (n + 63) / 64 * 64);
        bise_panel8_ops_init(&j.panel8, bise_cpu_level());
    }
    if (p->dtype == BISE_DTYPE_NF4)
        j.absmax = bise_alloc_array(bise_nf4_blocks(n, BISE_NF4_BLOCK),
                                    sizeof(float));
    bise_status s = BISE_OK;
    if (!j.slabs || (p->dtype == BISE_DTYPE_NF4 && !j.absmax))
        s = bise_fail_nomem(err);
    else
        s = run_slabs(b, w, &j, pool, err);
    if (s == BISE_OK && j.absmax)
        nest(p, j.absmax, &b->map);
    bise_free(j.slabs);
    bise_free(j.absmax);
    return s;
}

/* Weights in the file's order, which is that of reading. */
static bise_status quantize_all(bise_basequant *b, bise_dtype t,
                                bise_pool *pool, const bise_progress *progress,
                                uint64_t total, bise_error *err)
{
    uint64_t done = 0;
    for (size_t i = 0; i < b->c->n; i++) {
        bise_weight *w = &b->c->weights[i];
        if (!bise_basequant_takes(w->role))
            continue;
        bise_packed *p = &b->packed[b->n];
        if (make_room(p, t, w->tensor, &b->map, err))
            return err->status;
        b->n++;
        if (quantize_one(b, w, p, pool, err))
            return err->status;
        w->packed = p;
        done += w->tensor->bytes;
        if (bise_progress_step(progress, "quantize base", done, total, "bytes",
                               NULL, err))
            return err->status;
    }
    return BISE_OK;
}

bise_status bise_basequant_new(bise_basequant **out, bise_checkpoint *c,
                               bise_dtype t, bise_pool *pool,
                               const bise_progress *progress, bise_error *err)
{
    uint64_t bytes, source;
    if (bise_basequant_plan(&bytes, &source, c, t, err))
        return err->status;
    bise_basequant *b = bise_alloc(sizeof *b);
    if (!b)
        return bise_fail_nomem(err);
    b->c = c;
    b->packed = bise_alloc_array(c->n, sizeof *b->packed);
    bise_dynmap_init(&b->map, true);
    const bise_status s = b->packed
        ? quantize_all(b, t, pool, progress, source, err)
        : bise_fail_nomem(err);
    if (s != BISE_OK)
        bise_basequant_free(b);
    else
        *out = b;
    return s;
}

/* The checkpoint reads its file again. */
void bise_basequant_free(bise_basequant *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->c->n; i++)
        b->c->weights[i].packed = NULL;
    for (size_t i = 0; b->packed && i < b->n; i++)
        bise_free_aligned(b->packed[i].data);
    bise_free(b->packed);
    bise_free(b);
}
