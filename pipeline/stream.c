/* stream.c - the stages of stream.h. Each is a row of the table `kinds`: how
 * to give float rows, how to give stored bytes (or not), and where its rows
 * come from for read-ahead. A stage calls the one below it and knows nothing
 * else; all state is read-only after construction.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pipeline/stream.h"

#include <math.h>
#include <string.h>

#include "kernels/codec.h"
#include "kernels/kernels.h"

typedef struct stage_ops {
    bise_status (*read)(const bise_stream *s, float *out, uint64_t first,
                        uint64_t n, bise_scratch *w, bise_error *err);
    bise_status (*raw)(const bise_stream *s, const void **data, uint64_t first,
                       uint64_t n, bise_scratch *w, bise_error *err);
    void (*hint)(const bise_stream *s, uint64_t first, uint64_t n, bool ahead);
} stage_ops;

struct bise_stream {
    const stage_ops *ops;
    uint64_t rows, cols;
    bise_dtype dtype;
    const bise_stream *below;
    /* stored */
    bise_store *store;
    const bise_tensor *tensor;
    const bise_weight *weight;
    uint64_t row_bytes;
    /* memory */
    const float *data;
    /* permute */
    int32_t heads;
    bool to_half;
    /* lora */
    const bise_lora_module *module;
    /* stack: parts[i] starts at row starts[i] */
    const bise_stream *const *parts;
    const uint64_t *starts;
    size_t n_parts;
    /* slice: first row of below; transpose: number of groups */
    uint64_t first;
};

/* The scratch is zeroed, so that it may be used again. */
void bise_scratch_fini(bise_scratch *w)
{
    bise_free(w->raw);
    bise_free(w->bytes);
    bise_free(w->delta);
    bise_free(w->line);
    memset(w, 0, sizeof *w);
}

/* Make *p hold at least n objects of size bytes. */
static bise_status room(void **p, size_t *cap, uint64_t n, size_t size,
                        bise_error *err)
{
    if (n > SIZE_MAX / 2 / size || bise_grow(p, cap, (size_t)n, size) != 0)
        return bise_fail_nomem(err);
    return BISE_OK;
}

/* The byte-buffer form of room: C has no way to pass any pointer type by
 * reference. */
static bise_status room_bytes(uint8_t **p, size_t *cap, uint64_t n,
                              bise_error *err)
{
    void *v = *p;
    const bise_status s = room(&v, cap, n, 1, err);
    *p = v;
    return s;
}

/* A zeroed stage with the shape of the one below it. Its type is NONE until
 * the constructor knows better: floats can always be had, bytes only where
 * nothing changes. */
static bise_stream *stage(bise_arena *a, const stage_ops *ops,
                          const bise_stream *below)
{
    bise_stream *s = bise_arena_alloc(a, sizeof *s);
    if (!s)
        return NULL;
    s->ops = ops;
    s->below = below;
    s->dtype = BISE_DTYPE_NONE;
    if (below) {
        s->rows = below->rows;
        s->cols = below->cols;
    }
    return s;
}

/* ---- stored rows ----
 *
 * Raw rows are pointers to where the store has them: in the mapping of a file
 * or in memory that was read ahead. Members of an archive are unpacked into the
 * scratch instead.
 */

/* Bytes of rows [first, first + n), the store's or in w. */
static bise_status stored_raw(const bise_stream *s, const void **data,
                              uint64_t first, uint64_t n, bise_scratch *w,
                              bise_error *err)
{
    const uint64_t bytes = n * s->row_bytes;
    bise_status st = room_bytes(&w->raw, &w->raw_cap, bytes, err);
    if (st == BISE_OK)
        st = bise_store_read(s->store, s->tensor, first * s->row_bytes, bytes,
                             w->raw, data, err);
    return st;
}

/* FP8: w = code * scale, per tensor, per expert of a stack, per row, or per
 * square block (mistral3.md 2.7). first is the row of the file that out starts
 * with; rows is how many the tensor has.
 */
static void apply_scales(const bise_weight *q, float *out, uint64_t first,
                         uint64_t n, uint64_t cols, uint64_t rows)
{
    const uint64_t block = q->scale_block > 0 ? (uint64_t)q->scale_block : cols;
    const uint64_t wide = (cols + block - 1) / block;
    const uint64_t each = q->n_scales > 0 ? rows / (uint64_t)q->n_scales : rows;
    for (uint64_t r = 0; r < n; r++) {
        const float *sc = q->scale_block > 0
                              ? q->scales + (first + r) / block * wide
                              : q->scales + (each ? (first + r) / each : 0);
        for (uint64_t c = 0; c < cols; c++)
            out[r * cols + c] *= sc[c / block];
    }
}

/* Decoding is the only place where a stored type matters. The scales of
 * float8 are applied here, before any row is moved, because their blocks
 * follow the order of the file. */
static bise_status stored_read(const bise_stream *s, float *out,
                               uint64_t first, uint64_t n, bise_scratch *w,
                               bise_error *err)
{
    const bise_codec *codec = bise_codec_get(s->tensor->dtype);
    if (!codec || !codec->decode) {
        bise_status st = bise_fail(err, BISE_EUNSUPPORTED,
                                   "type %s cannot be decoded",
                                   bise_dtype_get(s->tensor->dtype)->name);
        st = bise_error_in(err, bise_store_tensor_file(s->store, s->tensor),
                           s->tensor->name);
        return st;
    }
    const void *data = NULL;
    const bise_status st = stored_raw(s, &data, first, n, w, err);
    if (st != BISE_OK)
        return st;
    codec->decode(out, data, (size_t)(n * s->cols));
    if (s->weight && s->weight->scales)
        apply_scales(s->weight, out, first, n, s->cols, s->rows);
    return BISE_OK;
}

/* Releasing reaches back by one page of any architecture: the page that two
 * slabs share was still in use when the earlier one was done. */
static void stored_hint(const bise_stream *s, uint64_t first, uint64_t n,
                        bool ahead)
{
    uint64_t at = first * s->row_bytes, bytes = n * s->row_bytes;
    if (ahead) {
        bise_store_ahead(s->store, s->tensor, at, bytes);
        return;
    }
    /* A page shared with the previous slab goes with the later one. */
    const uint64_t edge = at < 65536 ? at : 65536;
    bise_store_release(s->store, s->tensor, at - edge, bytes + edge);
}

static const stage_ops stored_ops = { stored_read, stored_raw, stored_hint };

/* Without quirks: for tensors that the model does not know, and for float8
 * codes that stay codes. */
const bise_stream *bise_stream_tensor(bise_arena *a, bise_store *st,
                                      const bise_tensor *t)
{
    bise_stream *s = stage(a, &stored_ops, NULL);
    if (!s)
        return NULL;
    s->store = st;
    s->tensor = t;
    s->rows = bise_tensor_rows(t);
    s->cols = bise_tensor_cols(t);
    s->dtype = t->dtype;
    s->row_bytes = bise_dtype_bytes(t->dtype, s->cols);
    return s;
}

/* Scales make the stored bytes unusable as they are, so the type is NONE
 * for them. */
const bise_stream *bise_stream_weight(bise_arena *a, bise_store *st,
                                      const bise_weight *w)
{
    bise_stream *s = stage(a, &stored_ops, NULL);
    if (!s)
        return NULL;
    s->store = st;
    s->tensor = w->tensor;
    s->weight = w;
    s->rows = bise_tensor_rows(w->tensor);
    s->cols = bise_tensor_cols(w->tensor);
    s->row_bytes = bise_dtype_bytes(w->tensor->dtype, s->cols);
    s->dtype = w->scales ? BISE_DTYPE_NONE : w->tensor->dtype;
    return s;
}

/* ---- a matrix in memory ---- */

/* Adapters that replace whole tensors (modules_to_save) and tests use this. */
static bise_status memory_read(const bise_stream *s, float *out,
                               uint64_t first, uint64_t n, bise_scratch *w,
                               bise_error *err)
{
    (void)w;
    (void)err;
    memcpy(out, s->data + first * s->cols, n * s->cols * sizeof *out);
    return BISE_OK;
}

/* Float32 in memory is what an F32 output wants: no copy. */
static bise_status memory_raw(const bise_stream *s, const void **data,
                              uint64_t first, uint64_t n, bise_scratch *w,
                              bise_error *err)
{
    (void)n;
    (void)w;
    (void)err;
    *data = s->data + first * s->cols;
    return BISE_OK;
}

/* Nothing to read ahead: the rows are in memory, or scattered. */
static void no_hint(const bise_stream *s, uint64_t first, uint64_t n,
                    bool ahead)
{
    (void)s;
    (void)first;
    (void)n;
    (void)ahead;
}

static const stage_ops memory_ops = { memory_read, memory_raw, no_hint };

/* The matrix is borrowed for the life of the plan. */
const bise_stream *bise_stream_memory(bise_arena *a, const float *data,
                                      uint64_t rows, uint64_t cols)
{
    bise_stream *s = stage(a, &memory_ops, NULL);
    if (!s)
        return NULL;
    s->data = data;
    s->rows = rows;
    s->cols = cols;
    s->dtype = BISE_DTYPE_F32;
    return s;
}

/* ---- row order inside heads ----
 *
 * RoPE turns pairs of rows. Hugging Face puts the first members of all pairs
 * before the second ones (half), Mistral and GGUF put pairs side by side
 * (interleaved). For a head of D = 6 rows:
 *
 *   half          a0 a1 a2 b0 b1 b2
 *   interleaved   a0 b0 a1 b1 a2 b2
 *
 * Keys have fewer heads than queries; each is permuted with its own number
 * (mistral3.md 7, trap 4).
 */

/* Stages that keep rows within the same head pass the range on: it names
 * the same bytes, give or take a head. */
static void below_hint(const bise_stream *s, uint64_t first, uint64_t n,
                       bool ahead)
{
    s->below->ops->hint(s->below, first, n, ahead);
}

/* Row of below that output row r is. */
static uint64_t permuted(const bise_stream *s, uint64_t r)
{
    const uint64_t size = s->rows / (uint64_t)s->heads, half = size / 2;
    const uint64_t head = r / size * size, k = r % size;
    if (s->to_half)                     /* out b D/2 + i <- in 2i + b */
        return head + 2 * (k % half) + k / half;
    return head + k % 2 * half + k / 2; /* out 2i + b <- in b D/2 + i */
}

/* Row by row: source rows of neighbours are D/2 rows apart, and one row is
 * long enough for the decoder to be fast. */
static bise_status permute_read(const bise_stream *s, float *out,
                                uint64_t first, uint64_t n, bise_scratch *w,
                                bise_error *err)
{
    bise_status st = BISE_OK;
    for (uint64_t r = 0; r < n && st == BISE_OK; r++)
        st = s->below->ops->read(s->below, out + r * s->cols,
                                 permuted(s, first + r), 1, w, err);
    return st;
}

/* Gathered through the scratch's second buffer, since the first one may
 * hold the row that an archive unpacked. */
static bise_status permute_raw(const bise_stream *s, const void **data,
                               uint64_t first, uint64_t n, bise_scratch *w,
                               bise_error *err)
{
    const uint64_t bytes = bise_dtype_bytes(s->dtype, s->cols);
    bise_status st = room_bytes(&w->bytes, &w->bytes_cap, n * bytes + 1, err);
    for (uint64_t r = 0; r < n && st == BISE_OK; r++) {
        const void *row = NULL;
        st = s->below->ops->raw(s->below, &row, permuted(s, first + r), 1, w,
                                err);
        if (st == BISE_OK)
            memcpy(w->bytes + r * bytes, row, bytes);
    }
    *data = w->bytes;
    return st;
}

static const stage_ops permute_ops = { permute_read, permute_raw, below_hint };

/* Stacking the inverse on a permutation gives back what is below, so that
 * base streams of merge reports can be copied as bytes. */
const bise_stream *bise_stream_permute(bise_arena *a, const bise_stream *below,
                                       int32_t heads, bise_rows from,
                                       bise_rows to)
{
    if (!below || from == to || heads <= 0 || from == BISE_ROWS_PLAIN ||
        to == BISE_ROWS_PLAIN)
        return below;
    const bool to_half = to == BISE_ROWS_HALF;
    if (below->ops == &permute_ops && below->heads == heads &&
        below->to_half != to_half)      /* there and back */
        return below->below;
    bise_stream *s = stage(a, &permute_ops, below);
    if (!s)
        return NULL;
    s->heads = heads;
    s->to_half = to_half;
    s->dtype = below->dtype;
    /* Rows that no head size divides cannot be reordered. */
    return s->rows % (2 * (uint64_t)heads) ? NULL : s;
}

/* ---- LoRA ----
 *
 * W' = W + s B A with A [R, cols], B [rows, R] (Hu et al. 2021). Row i of the
 * product needs row i of B and all of A, which stays in the cache from row to
 * row. Everything is float32 in a fixed order; the only rounding of the result
 * is the encoder's.
 */

/* out += scale * sum_r b[r] A[r], with the sum kept apart in delta. */
static void add_delta(float *out, float *delta, const bise_lora_module *m,
                      uint64_t row, uint64_t cols, const bise_kernels *k)
{
    memset(delta, 0, cols * sizeof *delta);
    const float *b = m->b + row * (uint64_t)m->r;
    for (int32_t j = 0; j < m->r; j++)
        k->axpy(delta, b[j], m->a + (uint64_t)j * cols, cols);
    k->axpy(out, m->scale, delta, cols);
}

/* Embedding row v: out[c] += scale * sum_r B[c, r] A[r, v]. */
static void add_embedding(float *out, const bise_lora_module *m, uint64_t row,
                          uint64_t cols)
{
    for (uint64_t c = 0; c < cols; c++) {
        float sum = 0;
        for (int32_t j = 0; j < m->r; j++)
            sum += m->b[c * (uint64_t)m->r + (uint64_t)j] *
                   m->a[(uint64_t)j * (uint64_t)m->in + row];
        out[c] += m->scale * sum;
    }
}

/* W + s (B A), the sum in its own row first: PEFT multiplies before it
 * scales, and small updates would lose bits if added term by term. DoRA
 * then divides the row by its length and multiplies by the trained one. */
static bise_status lora_read(const bise_stream *s, float *out, uint64_t first,
                             uint64_t n, bise_scratch *w, bise_error *err)
{
    const bise_lora_module *m = s->module;
    const bise_kernels *k = bise_kernels_get();
    const bool embedding = (uint64_t)m->out != s->rows;
    bise_status st = s->below->ops->read(s->below, out, first, n, w, err);
    if (st == BISE_OK) {
        void *v = w->delta;
        st = room(&v, &w->delta_cap, s->cols, sizeof *w->delta, err);
        w->delta = v;
    }
    for (uint64_t i = 0; i < n && st == BISE_OK; i++) {
        float *row = out + i * s->cols;
        if (embedding)
            add_embedding(row, m, first + i, s->cols);
        else
            add_delta(row, w->delta, m, first + i, s->cols, k);
        if (m->magnitude) {             /* DoRA: row length becomes m */
            const double norm = sqrt(k->sumsq(row, s->cols));
            const float f = (float)(m->magnitude[first + i] / norm);
            for (uint64_t c = 0; c < s->cols; c++)
                row[c] *= f;
        }
    }
    return st;
}

static const stage_ops lora_ops = { lora_read, NULL, below_hint };

/* Adapters stack: several are added in the order of construction. */
const bise_stream *bise_stream_lora(bise_arena *a, const bise_stream *below,
                                    const bise_lora_module *m)
{
    bise_stream *s = below ? stage(a, &lora_ops, below) : NULL;
    if (s)
        s->module = m;
    return s;
}

/* ---- parts one after another ---- */

/* The part that holds a row, by bisection of the start rows. */
static size_t part_of(const bise_stream *s, uint64_t row)
{
    size_t lo = 0, hi = s->n_parts - 1;
    while (lo < hi) {
        const size_t mid = (lo + hi + 1) / 2;
        if (s->starts[mid] <= row)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

/* A request may span parts; each gives its share of the rows. */
static bise_status stack_read(const bise_stream *s, float *out, uint64_t first,
                              uint64_t n, bise_scratch *w, bise_error *err)
{
    bise_status st = BISE_OK;
    while (n && st == BISE_OK) {
        const size_t p = part_of(s, first);
        const uint64_t at = first - s->starts[p];
        const uint64_t left = s->parts[p]->rows - at, m = n < left ? n : left;
        st = s->parts[p]->ops->read(s->parts[p], out, at, m, w, err);
        out += m * s->cols;
        first += m;
        n -= m;
    }
    return st;
}

/* The usual request lies inside one part and costs nothing; only one that
 * spans two is gathered row by row. */
static bise_status stack_raw(const bise_stream *s, const void **data,
                             uint64_t first, uint64_t n, bise_scratch *w,
                             bise_error *err)
{
    const size_t p = part_of(s, first);
    const uint64_t at = first - s->starts[p];
    if (at + n <= s->parts[p]->rows)
        return s->parts[p]->ops->raw(s->parts[p], data, at, n, w, err);
    const uint64_t bytes = bise_dtype_bytes(s->dtype, s->cols);
    bise_status st = room_bytes(&w->bytes, &w->bytes_cap, n * bytes, err);
    for (uint64_t r = 0; r < n && st == BISE_OK; r++) {
        const void *row = NULL;
        const size_t q = part_of(s, first + r);
        st = s->parts[q]->ops->raw(s->parts[q], &row,
                                   first + r - s->starts[q], 1, w, err);
        if (st == BISE_OK)
            memcpy(w->bytes + r * bytes, row, bytes);
    }
    *data = w->bytes;
    return st;
}

/* The same walk over parts as reading. */
static void stack_hint(const bise_stream *s, uint64_t first, uint64_t n,
                       bool ahead)
{
    while (n) {
        const size_t p = part_of(s, first);
        const uint64_t at = first - s->starts[p];
        const uint64_t left = s->parts[p]->rows - at, m = n < left ? n : left;
        s->parts[p]->ops->hint(s->parts[p], at, m, ahead);
        first += m;
        n -= m;
    }
}

static const stage_ops stack_ops = { stack_read, stack_raw, stack_hint };

/* Parts that gather their own bytes cannot be gathered again through the
 * same buffer: such a stack gives floats only. */
const bise_stream *bise_stream_stack(bise_arena *a,
                                     const bise_stream *const *parts,
                                     size_t n)
{
    if (n == 0)
        return NULL;
    bise_stream *s = stage(a, &stack_ops, parts[0]);
    const bise_stream **list = bise_arena_alloc(a, n * sizeof *list);
    uint64_t *starts = bise_arena_alloc(a, n * sizeof *starts);
    if (!s || !list || !starts)
        return NULL;
    s->rows = 0;
    s->dtype = parts[0]->dtype;
    for (size_t i = 0; i < n; i++) {
        if (!parts[i] || parts[i]->cols != s->cols)
            return NULL;
        list[i] = parts[i];
        starts[i] = s->rows;
        s->rows += parts[i]->rows;
        /* Bytes only when all agree and none gathers in the same buffer. */
        if (parts[i]->dtype != s->dtype || parts[i]->ops == &permute_ops)
            s->dtype = BISE_DTYPE_NONE;
    }
    s->parts = list;
    s->starts = starts;
    s->n_parts = n;
    return s;
}

/* ---- some of the rows ---- */

/* A slice is an offset; its end was checked by the constructor. */
static bise_status slice_read(const bise_stream *s, float *out, uint64_t first,
                              uint64_t n, bise_scratch *w, bise_error *err)
{
    return s->below->ops->read(s->below, out, s->first + first, n, w, err);
}

/* Bytes of a slice are bytes of what it was cut from. */
static bise_status slice_raw(const bise_stream *s, const void **data,
                             uint64_t first, uint64_t n, bise_scratch *w,
                             bise_error *err)
{
    return s->below->ops->raw(s->below, data, s->first + first, n, w, err);
}

/* In rows of the stage below. */
static void slice_hint(const bise_stream *s, uint64_t first, uint64_t n,
                       bool ahead)
{
    s->below->ops->hint(s->below, s->first + first, n, ahead);
}

static const stage_ops slice_ops = { slice_read, slice_raw, slice_hint };

/* Written so that first + n cannot overflow. */
const bise_stream *bise_stream_slice(bise_arena *a, const bise_stream *below,
                                     uint64_t first, uint64_t n)
{
    if (!below || first > below->rows || n > below->rows - first)
        return NULL;
    bise_stream *s = stage(a, &slice_ops, below);
    if (!s)
        return NULL;
    s->rows = n;
    s->first = first;
    s->dtype = below->dtype;
    return s;
}

/* ---- transposed groups ---- */

/* Reads each row of the group once per request and scatters it down a
 * column. Used for the small matrices of latent attention only. The line is
 * taken out of the scratch for the while: there may be another transposed
 * stage below (merging into the two parts of kv_b). */
static bise_status transpose_read(const bise_stream *s, float *out,
                                  uint64_t first, uint64_t n, bise_scratch *w,
                                  bise_error *err)
{
    const uint64_t wide = s->below->cols, tall = s->cols;
    void *v = w->line;
    size_t cap = w->line_cap;
    bise_status st = room(&v, &cap, wide, sizeof *w->line, err);
    float *line = v;
    w->line = NULL;
    w->line_cap = 0;
    /* One row of below fills a column of every requested row of its group. */
    for (uint64_t r = 0; r < n && st == BISE_OK;) {
        const uint64_t group = (first + r) / wide, at = (first + r) % wide;
        const uint64_t m = n - r < wide - at ? n - r : wide - at;
        for (uint64_t j = 0; j < tall && st == BISE_OK; j++) {
            st = s->below->ops->read(s->below, line, group * tall + j, 1, w,
                                     err);
            for (uint64_t i = 0; i < m && st == BISE_OK; i++)
                out[(r + i) * tall + j] = line[at + i];
        }
        r += m;
    }
    bise_free(w->line);         /* that of a stage below */
    w->line = line;
    w->line_cap = cap;
    return st;
}

static const stage_ops transpose_ops = { transpose_read, NULL, no_hint };

/* first holds the number of groups here. */
const bise_stream *bise_stream_transpose(bise_arena *a,
                                         const bise_stream *below, uint64_t n)
{
    if (!below || n == 0 || below->rows % n)
        return NULL;
    bise_stream *s = stage(a, &transpose_ops, below);
    if (!s)
        return NULL;
    s->cols = below->rows / n;
    s->rows = n * below->cols;
    s->first = n;
    return s;
}

/* ---- reading ---- */

/* All dimensions but the last, multiplied. */
uint64_t bise_stream_rows(const bise_stream *s)
{
    return s->rows;
}

/* The last dimension: what blocks and importance run along. */
uint64_t bise_stream_cols(const bise_stream *s)
{
    return s->cols;
}

/* NONE once a stage changed a value. */
bise_dtype bise_stream_dtype(const bise_stream *s)
{
    return s->dtype;
}

/* A slice counts its share, so that experts taken from one stack add up to
 * the stack. */
uint64_t bise_stream_bytes(const bise_stream *s)
{
    if (s->ops == &stored_ops)
        return s->tensor->bytes;
    if (s->ops == &stack_ops) {
        uint64_t sum = 0;
        for (size_t i = 0; i < s->n_parts; i++)
            sum += bise_stream_bytes(s->parts[i]);
        return sum;
    }
    if (s->ops == &slice_ops && s->below->rows)
        return (uint64_t)((double)bise_stream_bytes(s->below) *
                          ((double)s->rows / (double)s->below->rows));
    return s->below ? bise_stream_bytes(s->below) : 0;
}

/* Does an adapter stand anywhere in the stack? */
static bool has_lora(const bise_stream *s)
{
    for (; s; s = s->below) {
        if (s->ops == &lora_ops)
            return true;
        if (s->ops == &stack_ops) {
            for (size_t i = 0; i < s->n_parts; i++)
                if (has_lora(s->parts[i]))
                    return true;
            return false;
        }
    }
    return false;
}

/* A copy of the stack without its adapters. */
static const bise_stream *without_lora(bise_arena *a, const bise_stream *s)
{
    if (!s || !has_lora(s))
        return s;
    if (s->ops == &lora_ops)
        return without_lora(a, s->below);
    if (s->ops == &stack_ops) {
        const bise_stream **list =
            bise_arena_alloc(a, s->n_parts * sizeof *list);
        for (size_t i = 0; list && i < s->n_parts; i++)
            list[i] = without_lora(a, s->parts[i]);
        return list ? bise_stream_stack(a, list, s->n_parts) : NULL;
    }
    if (s->ops == &permute_ops)
        return bise_stream_permute(
            a, without_lora(a, s->below), s->heads,
            s->to_half ? BISE_ROWS_INTERLEAVED : BISE_ROWS_HALF,
            s->to_half ? BISE_ROWS_HALF : BISE_ROWS_INTERLEAVED);
    bise_stream *copy = bise_arena_alloc(a, sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *s;
    copy->below = without_lora(a, s->below);
    return copy->below ? copy : NULL;
}

/* NULL tells merge reports that no adapter touches the tensor. */
const bise_stream *bise_stream_base(bise_arena *a, const bise_stream *s)
{
    return has_lora(s) ? without_lora(a, s) : NULL;
}

/* The caller's range must lie inside: first + n <= rows. */
bise_status bise_stream_read(const bise_stream *s, float *out, uint64_t first,
                             uint64_t n, bise_scratch *w, bise_error *err)
{
    return s->ops->read(s, out, first, n, w, err);
}

/* Only for streams whose type is not NONE. */
bise_status bise_stream_raw(const bise_stream *s, const void **data,
                            uint64_t first, uint64_t n, bise_scratch *w,
                            bise_error *err)
{
    return s->ops->raw(s, data, first, n, w, err);
}

/* Hints never fail and never change what is read. */
void bise_stream_hint(const bise_stream *s, uint64_t first, uint64_t n,
                      bool ahead)
{
    s->ops->hint(s, first, n, ahead);
}
