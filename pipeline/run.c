/* run.c - the executor of run.h. All slabs of all tensors form one list of
 * indices; the pool hands them out in order, so the threads walk the file
 * together, small tensors stall nobody, and a failure is always that of the
 * first bad slab. A slab is decoded, checked and encoded piece by piece (or
 * pointed to in the mapping), written, and its source pages are given back.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pipeline/run_int.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/file.h"
#include "kernels/codec.h"
#include "pipeline/check.h"

#define SLAB_WEIGHTS (1u << 20) /* float32 weights of a slab: 4 MiB */
#define SLAB_BYTES (2u << 20)   /* bytes of a slab that is copied */
#define PIECE_WEIGHTS (1u << 16) /* weights of a piece: 256 KiB of cache */
#define CHUNK_WEIGHTS (1u << 12) /* 16 superblocks: the widest encoder's step */
#define AHEAD 6                 /* slabs read ahead */

/* Rows of a slab: a function of the tensor alone. */
static uint64_t rows_per_slab(const bise_plan_tensor *t)
{
    const uint64_t cols = bise_stream_cols(t->stream);
    const uint64_t rows = bise_stream_rows(t->stream);
    uint64_t n;
    if (bise_plan_is_raw(t)) {
        const uint64_t bytes = bise_dtype_bytes(t->dtype, cols);
        n = bytes ? SLAB_BYTES / bytes : rows;
    } else {
        n = cols ? SLAB_WEIGHTS / cols : rows;
    }
    n = n ? n : 1;
    return n < rows || rows == 0 ? n : rows;
}

/* Rows of a piece: what is decoded, checked and encoded while it is in the
 * second level cache; whole steps of the encoders where a piece can have them.
 */
static uint64_t rows_per_piece(const bise_plan_tensor *t)
{
    const uint64_t cols = bise_stream_cols(t->stream);
    const uint64_t slab = rows_per_slab(t);
    uint64_t n = cols ? PIECE_WEIGHTS / cols : slab, step = 1;
    while (step < n && step * cols % CHUNK_WEIGHTS)
        step++;
    n = n > step ? n - n % step : n;
    n = n ? n : 1;
    return n < slab ? n : slab;
}

/* What one thread needs for the largest piece, and for the encoded bytes of
 * the largest slab. */
static void lane_sizes(const bise_plan *p, bool measure, uint64_t *weights,
                       uint64_t *bytes)
{
    *weights = *bytes = 1;
    for (size_t i = 0; i < p->n; i++) {
        const bise_plan_tensor *t = &p->tensors[i];
        const bool raw = bise_plan_is_raw(t) && !(measure && t->base);
        if (raw)
            continue;
        const uint64_t cols = bise_stream_cols(t->stream);
        const uint64_t x = rows_per_piece(t) * cols;
        const uint64_t b = rows_per_slab(t) * bise_dtype_bytes(t->dtype, cols);
        *weights = x > *weights ? x : *weights;
        *bytes = b > *bytes ? b : *bytes;
    }
}

/* Measuring needs all of it twice. */
uint64_t bise_run_memory(const bise_plan *p, int threads, bool measure)
{
    uint64_t weights, bytes;
    lane_sizes(p, measure, &weights, &bytes);
    const uint64_t lane_bytes = weights * sizeof(float) + bytes;
    return (uint64_t)threads * lane_bytes * (measure ? 2 : 1);
}

/* Keep the error of the lowest slab; later ones are skipped, and none waits
 * for one that will not come. */
static void record(bise_run_job *j, uint64_t slab, const bise_error *err)
{
    pthread_mutex_lock(&j->lock);
    if (j->err.status == BISE_OK || slab < j->bad_slab) {
        j->err = *err;
        j->bad_slab = slab;
    }
    pthread_mutex_unlock(&j->lock);
    atomic_store(&j->stop, true);
    for (size_t i = 0; i < j->plan->n_files; i++)
        if (j->outs[i])
            bise_out_cancel(j->outs[i]);
}

/* Tensor of a slab, by bisection. */
static size_t tensor_of(const bise_run_job *j, uint64_t slab)
{
    size_t lo = 0, hi = j->plan->n - 1;
    while (lo < hi) {
        const size_t mid = (lo + hi + 1) / 2;
        if (j->starts[mid] <= slab)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

/* Have a slab read that will be made soon. */
static void read_ahead(const bise_run_job *j, uint64_t slab)
{
    if (slab >= j->starts[j->plan->n])
        return;
    const size_t i = tensor_of(j, slab);
    const bise_plan_tensor *t = &j->plan->tensors[i];
    const uint64_t rows = bise_stream_rows(t->stream);
    const uint64_t first = (slab - j->starts[i]) * j->slab_rows[i];
    const uint64_t left = rows - first;
    bise_stream_hint(t->stream, first,
                     left < j->slab_rows[i] ? left : j->slab_rows[i], true);
}

/* Encode rows, each expert's with its own importance. */
static void encode(const bise_plan_tensor *t, void *dst, const float *x,
                   uint64_t first, uint64_t n)
{
    const bise_codec *codec = bise_codec_get(t->dtype);
    const uint64_t cols = bise_stream_cols(t->stream);
    const uint64_t row_bytes = bise_dtype_bytes(t->dtype, cols);
    if (!t->imatrix || t->imatrix_n <= 1) {
        codec->encode(dst, x, (size_t)n, (size_t)cols, t->imatrix);
        return;
    }
    const uint64_t per = bise_stream_rows(t->stream) / t->imatrix_n;
    uint8_t *out = dst;
    while (n) {
        const uint64_t e = first / per, left = (e + 1) * per - first;
        const uint64_t m = n < left ? n : left;
        codec->encode(out, x, (size_t)m, (size_t)cols, t->imatrix + e * cols);
        out += m * row_bytes;
        x += m * cols;
        first += m;
        n -= m;
    }
}

/* Encode rows, unless that was done already. */
static void make_bytes(const bise_plan_tensor *t, void *dst, const float *x,
                       uint64_t first, uint64_t n)
{
    const uint64_t row_bytes =
        bise_dtype_bytes(t->dtype, bise_stream_cols(t->stream));
    if (t->encoded)
        memcpy(dst, t->encoded + first * row_bytes, (size_t)(n * row_bytes));
    else
        encode(t, dst, x, first, n);
}

/* The user may keep NaN and infinity where the type can hold them. */
static bool may_be_bad(const bise_run_job *j, bise_dtype t)
{
    return j->o->allow_nonfinite && bise_dtype_is_float(t);
}

/* Refuse weights that are not numbers, and blocks whose scale left float16. */
static bise_status check_rows(const bise_run_job *j, const bise_plan_tensor *t,
                              const float *x, uint64_t first, uint64_t n,
                              bise_error *err)
{
    if (may_be_bad(j, t->dtype))
        return BISE_OK;
    const bise_status s = bise_check_weights(
        x, first, n, bise_stream_cols(t->stream), err);
    return s == BISE_OK ? s : bise_error_in(err, NULL, t->name);
}

/* The message gives the first weight of the block: with a block type no
 * single weight is to blame for its scale. */
static bise_status check_encoded(const bise_run_job *j,
                                 const bise_plan_tensor *t, const void *bytes,
                                 uint64_t first, uint64_t n, bise_error *err)
{
    const uint64_t cols = bise_stream_cols(t->stream);
    if (may_be_bad(j, t->dtype))
        return BISE_OK;
    const uint64_t i = bise_find_bad_block(t->dtype, bytes, n * cols);
    if (i == UINT64_MAX)
        return BISE_OK;
    bise_status s = bise_fail(err, BISE_EFORMAT, "weights at %" PRIu64
                              " (row %" PRIu64 ", column %" PRIu64
                              ") overflow the float16 range of type %s",
                              first * cols + i, first + i / cols, i % cols,
                              bise_dtype_get(t->dtype)->name);
    s = bise_error_hint(err, "use BF16 or F32%s", bise_dtype_is_float(t->dtype)
                        ? "; --allow-nonfinite makes them infinite" : "");
    s = bise_error_in(err, NULL, t->name);
    return s;
}

/* Add what was lost of a piece, and what the adapters changed. */
static bise_status measure(bise_run_lane *l, const bise_plan_tensor *t,
                           const uint8_t *out, uint64_t first, uint64_t n,
                           bise_run_stats *st, bise_error *err)
{
    const uint64_t count = n * bise_stream_cols(t->stream);
    const bise_codec *codec = bise_codec_get(t->dtype);
    st->weights += count;
    if (codec->decode) {
        codec->decode(l->y, out, (size_t)count);
        for (uint64_t i = 0; i < count; i++) {
            const double d = (double)l->x[i] - l->y[i];
            const bool over = isinf(l->y[i]) && isfinite(l->x[i]);
            st->square_error += over ? 0 : d * d;
            st->flushed += l->y[i] == 0 && l->x[i] != 0;
            st->overflowed += over;
        }
    }
    if (!t->base)
        return BISE_OK;
    const bise_status s = bise_stream_read(t->base, l->y, first, n,
                                           &l->scratch, err);
    if (s != BISE_OK)
        return s;
    for (uint64_t i = 0; i < count; i++) {
        const double b = l->y[i], d = (double)l->x[i] - b;
        st->base_square += b * b;
        st->delta_square += d * d;
    }
    encode(t, l->other, l->y, first, n);
    const bise_dtype_info *info = bise_dtype_get(t->dtype);
    for (uint64_t i = 0; i < count / info->block_len; i++)
        if (memcmp(out + i * info->block_bytes,
                   l->other + i * info->block_bytes, info->block_bytes) != 0)
            st->changed += info->block_len;
    return BISE_OK;
}

/* Decode, check and encode rows [first, first + n) to out. */
static bise_status make_piece(const bise_run_job *j, bise_run_lane *l,
                              const bise_plan_tensor *t, uint8_t *out,
                              uint64_t first, uint64_t n, bise_run_stats *st,
                              bise_error *err)
{
    bise_status s = bise_stream_read(t->stream, l->x, first, n, &l->scratch,
                                     err);
    if (s == BISE_OK)
        s = check_rows(j, t, l->x, first, n, err);
    if (s != BISE_OK)
        return s;
    make_bytes(t, out, l->x, first, n);
    s = check_encoded(j, t, out, first, n, err);
    if (s == BISE_OK && st)
        s = measure(l, t, out, first, n, st, err);
    return s;
}

/* Make the bytes of rows [first, first + n): *data, in l or in the mapping. */
static bise_status make_rows(const bise_run_job *j, bise_run_lane *l,
                             const bise_plan_tensor *t, uint64_t first,
                             uint64_t n, const void **data, bise_run_stats *st,
                             bise_error *err)
{
    const uint64_t cols = bise_stream_cols(t->stream);
    bise_status s = BISE_OK;
    if (bise_plan_is_raw(t)) {
        s = bise_stream_raw(t->stream, data, first, n, &l->scratch, err);
        if (st)
            st->weights = n * cols;
        if (s == BISE_OK && j->plan->check_finite)
            s = check_encoded(j, t, *data, first, n, err);
        return s;
    }
    const uint64_t row_bytes = bise_dtype_bytes(t->dtype, cols);
    const uint64_t step = rows_per_piece(t);
    *data = l->out;
    for (uint64_t r = 0; r < n && s == BISE_OK; r += step)
        s = make_piece(j, l, t, l->out + r * row_bytes, first + r,
                       n - r < step ? n - r : step, st, err);
    return s;
}

/* Report from whichever thread gets the lock; nobody waits for it. */
static void report(bise_run_job *j, uint64_t slab)
{
    const bise_progress *p = j->o->progress;
    if (!p || pthread_mutex_trylock(&j->lock) != 0)
        return;
    bise_error err;
    bise_error_init(&err);
    const bise_status s = bise_progress_step(p, j->o->stage,
                                             atomic_load(&j->done), j->total,
                                             "bytes", NULL, &err);
    pthread_mutex_unlock(&j->lock);
    if (s != BISE_OK)
        record(j, slab, &err);
}

/* For what must know the place before the slab is made. */
void bise_run_slab_place(const bise_run_job *j, uint64_t slab,
                         uint64_t *offset, uint64_t *bytes)
{
    const size_t i = tensor_of(j, slab);
    const bise_plan_tensor *t = &j->plan->tensors[i];
    const bise_plan_file *f = &j->plan->files[j->file_of[i]];
    const uint64_t first = (slab - j->starts[i]) * j->slab_rows[i];
    const uint64_t left = bise_stream_rows(t->stream) - first;
    const uint64_t n = left < j->slab_rows[i] ? left : j->slab_rows[i];
    const uint64_t row_bytes = bise_dtype_bytes(t->dtype,
                                                bise_stream_cols(t->stream));
    *offset = f->offsets[i - f->first] + first * row_bytes;
    *bytes = n * row_bytes;
}

/* Where the bytes after tensor i begin: behind its padding. */
static uint64_t end_of(const bise_run_job *j, size_t i)
{
    const bise_plan_file *f = &j->plan->files[j->file_of[i]];
    const size_t next = i + 1 - f->first;
    return next < f->n ? f->offsets[next] : f->bytes;
}

/* Rows made: to their place in the file, or in the window of one that is
 * packed as it is made; the last rows of a tensor with its padding. */
static bise_status put_rows(bise_run_job *j, size_t i, uint64_t offset,
                            const void *data, size_t n, bool last,
                            bise_error *err)
{
    static const uint8_t zero[64];
    if (j->window) {
        memcpy(j->window + (offset - j->window_at), data, n);
        return BISE_OK;
    }
    bise_out *o = j->outs[j->file_of[i]];
    bise_status s = bise_out_put(o, offset, data, n, err);
    uint64_t pad = last ? end_of(j, i) - (offset + n) : 0;
    for (offset += n; pad && s == BISE_OK;) {
        const size_t k = pad < sizeof zero ? (size_t)pad : sizeof zero;
        s = bise_out_put(o, offset, zero, k, err);
        offset += k;
        pad -= k;
    }
    return s;
}

/* One slab; the pool's task. */
void bise_run_slab(void *ctx, size_t index, int worker)
{
    bise_run_job *j = ctx;
    index += j->first_slab;
    if (atomic_load(&j->stop))
        return;
    bise_run_lane *l = &j->lanes[worker];
    const size_t i = tensor_of(j, index);
    const bise_plan_tensor *t = &j->plan->tensors[i];
    const uint64_t cols = bise_stream_cols(t->stream);
    const uint64_t first = (index - j->starts[i]) * j->slab_rows[i];
    const uint64_t left = bise_stream_rows(t->stream) - first;
    const uint64_t n = left < j->slab_rows[i] ? left : j->slab_rows[i];
    const uint64_t row_bytes = bise_dtype_bytes(t->dtype, cols);
    const bise_plan_file *f = &j->plan->files[j->file_of[i]];
    bise_error err;
    bise_error_init(&err);
    read_ahead(j, index + AHEAD);
    const void *data = NULL;
    bise_status s = make_rows(j, l, t, first, n, &data,
                              j->slabs ? &j->slabs[index] : NULL, &err);
    if (s == BISE_OK)
        s = put_rows(j, i, f->offsets[i - f->first] + first * row_bytes, data,
                     (size_t)(n * row_bytes), n == left, &err);
    bise_stream_hint(t->stream, first, n, false);
    if (s != BISE_OK) {
        s = bise_error_in(&err, NULL, t->name);
        record(j, index, &err);
        return;
    }
    atomic_fetch_add(&j->done, n * row_bytes);
    report(j, index);
}

/* ---- setting up ----
 *
 * Everything that can fail for a reason other than the weights and the disk
 * fails here: types without encoder, memory for the lanes, the tables. Only
 * then outputs are created.
 */

/* Found before the output is created: a type without an encoder must not
 * leave a preallocated file behind, even for a moment. */
static bise_status check_types(const bise_plan *p, bise_error *err)
{
    for (size_t i = 0; i < p->n; i++) {
        const bise_plan_tensor *t = &p->tensors[i];
        const bise_codec *c = bise_codec_get(t->dtype);
        if (bise_plan_is_raw(t) || (c && c->encode))
            continue;
        bise_status s = bise_fail(err, BISE_EUNSUPPORTED,
                                  "type %s cannot be written",
                                  bise_dtype_get(t->dtype)->name);
        s = bise_error_in(err, NULL, t->name);
        return s;
    }
    return BISE_OK;
}

/* Outputs are not released here: they were committed or dropped by execute. */
static void free_job(bise_run_job *j)
{
    const int threads = bise_pool_threads(j->o->pool);
    for (int i = 0; j->lanes && i < threads; i++) {
        bise_free_aligned(j->lanes[i].x);
        bise_free_aligned(j->lanes[i].y);
        bise_free_aligned(j->lanes[i].out);
        bise_free_aligned(j->lanes[i].other);
        bise_scratch_fini(&j->lanes[i].scratch);
    }
    bise_free(j->lanes);
    bise_free(j->starts);
    bise_free(j->slab_rows);
    bise_free(j->file_of);
    bise_free(j->slabs);
    bise_free(j->outs);
    pthread_mutex_destroy(&j->lock);
}

/* All buffers are taken before the first slab, so that running out of
 * memory is found before anything is written. Aligned for the encoders'
 * vector loads. */
static bise_status make_lanes(bise_run_job *j, bise_error *err)
{
    const int threads = bise_pool_threads(j->o->pool);
    uint64_t weights, bytes;
    lane_sizes(j->plan, j->o->measure, &weights, &bytes);
    j->lanes = bise_alloc_array((size_t)threads, sizeof *j->lanes);
    if (!j->lanes || weights > SIZE_MAX / 8)
        return bise_fail_nomem(err);
    for (int i = 0; i < threads; i++) {
        bise_run_lane *l = &j->lanes[i];
        l->x = bise_alloc_aligned((size_t)weights * sizeof(float));
        l->out = bise_alloc_aligned((size_t)bytes);
        if (!l->x || !l->out)
            return bise_fail_nomem(err);
        if (!j->o->measure)
            continue;
        l->y = bise_alloc_aligned((size_t)weights * sizeof(float));
        l->other = bise_alloc_aligned((size_t)bytes);
        if (!l->y || !l->other)
            return bise_fail_nomem(err);
    }
    return BISE_OK;
}

/* starts[i] is the running number of the first slab of tensor i; the pool's
 * index is searched in it. Slabs never cross tensors, and their sizes are
 * functions of the tensor alone. */
static bise_status make_job(bise_run_job *j, bise_error *err)
{
    const bise_plan *p = j->plan;
    j->starts = bise_alloc_array(p->n + 1, sizeof *j->starts);
    j->slab_rows = bise_alloc_array(p->n + 1, sizeof *j->slab_rows);
    j->file_of = bise_alloc_array(p->n + 1, sizeof *j->file_of);
    j->outs = bise_alloc_array(p->n_files, sizeof *j->outs);
    if (!j->starts || !j->slab_rows || !j->file_of || !j->outs)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < p->n; i++) {
        const bise_plan_tensor *t = &p->tensors[i];
        const uint64_t rows = bise_stream_rows(t->stream);
        j->slab_rows[i] = rows_per_slab(t);
        j->starts[i + 1] = j->starts[i] +
                           (rows + j->slab_rows[i] - 1) / j->slab_rows[i];
        j->total += bise_plan_tensor_bytes(t);
    }
    for (size_t f = 0; f < p->n_files; f++)
        for (size_t i = 0; i < p->files[f].n; i++)
            j->file_of[p->files[f].first + i] = (uint32_t)f;
    if (j->o->measure) {
        j->slabs = bise_alloc_array((size_t)j->starts[p->n] + 1,
                                    sizeof *j->slabs);
        if (!j->slabs)
            return bise_fail_nomem(err);
    }
    return make_lanes(j, err);
}

/* Add the slabs' figures in index order. */
static bise_status collect(const bise_run_job *j, bise_run_result *r,
                           bise_error *err)
{
    const bise_plan *p = j->plan;
    r->stats = bise_alloc_array(p->n + 1, sizeof *r->stats);
    if (!r->stats)
        return bise_fail_nomem(err);
    r->n_stats = p->n;
    for (size_t i = 0; i < p->n && j->slabs; i++)
        for (uint64_t k = j->starts[i]; k < j->starts[i + 1]; k++) {
            const bise_run_stats *a = &j->slabs[k];
            r->stats[i].square_error += a->square_error;
            r->stats[i].delta_square += a->delta_square;
            r->stats[i].base_square += a->base_square;
            r->stats[i].changed += a->changed;
            r->stats[i].flushed += a->flushed;
            r->stats[i].overflowed += a->overflowed;
            r->stats[i].weights += a->weights;
        }
    r->bytes_in = bise_plan_bytes_in(p);
    r->bytes_out = bise_plan_bytes_out(p);
    return BISE_OK;
}

/* Grown one by one: an output has few files. */
bise_status bise_run_add_output(bise_run_result *r, const char *path,
                              uint64_t bytes, bise_error *err)
{
    void *v = r->outputs;
    size_t cap = r->n_outputs;
    if (bise_grow(&v, &cap, r->n_outputs + 1, sizeof *r->outputs) != 0)
        return bise_fail_nomem(err);
    r->outputs = v;
    bise_run_output *o = &r->outputs[r->n_outputs];
    o->path = bise_strdup(path);
    o->bytes = bytes;
    if (!o->path)
        return bise_fail_nomem(err);
    r->n_outputs++;
    return BISE_OK;
}

/* Also right for a result that was never filled. */
void bise_run_result_fini(bise_run_result *r)
{
    for (size_t i = 0; i < r->n_outputs; i++)
        bise_free(r->outputs[i].path);
    bise_free(r->outputs);
    bise_free(r->stats);
    memset(r, 0, sizeof *r);
}

/* Over all weights of the tensor; 0 for one that was only copied. */
double bise_run_rmse(const bise_run_stats *s)
{
    return s->weights ? sqrt(s->square_error / (double)s->weights) : 0;
}

/* ---- outputs ----
 *
 * A GGUF:        out.gguf.part -> out.gguf
 * A split GGUF:  out-00001-of-00003.gguf.part, ... ; the first one is renamed
 *                last, because readers start from it
 * A directory:   out.part/model.safetensors.part -> out.part/model.safetensors,
 *                side files, then out.part -> out
 */

/* Path of weight file i: in dir, or beside a split GGUF's prefix. */
char *bise_run_file_path(const bise_plan *p, size_t i, const char *path)
{
    if (p->kind == BISE_PLAN_SAFETENSORS)
        return bise_path_join(path, p->files[i].name);
    bise_str s = { 0 };
    size_t n = strlen(path);
    if (p->n_files > 1 && bise_ends_with(path, ".gguf"))
        n -= 5;
    bise_str_add(&s, path, n);
    if (p->n_files > 1)
        bise_str_printf(&s, "%s.gguf", p->files[i].name);
    return bise_str_take(&s);
}

/* Open weight files with their final sizes and write their headers. */
static bise_status open_outputs(bise_run_job *j, const char *path, bool force,
                                bise_run_result *r, bise_error *err)
{
    const bise_plan *p = j->plan;
    bise_status s = bise_disk_check(j->o->path, bise_plan_bytes_out(p), err);
    for (size_t i = 0; i < p->n_files && s == BISE_OK; i++) {
        const bise_plan_file *f = &p->files[i];
        char *name = bise_run_file_path(p, i, path);
        char *shown = bise_run_file_path(p, i, j->o->path);
        if (!name || !shown)
            s = bise_fail_nomem(err);
        else
            s = bise_out_open(&j->outs[i], name, f->bytes, force, err);
        if (s == BISE_OK)
            s = bise_out_write(j->outs[i], f->header.data, f->header.len, err);
        if (s == BISE_OK)
            s = bise_out_resize(j->outs[i], f->bytes, err);
        if (s == BISE_OK)
            s = bise_run_add_output(r, shown, f->bytes, err);
        bise_free(name);
        bise_free(shown);
    }
    return s;
}

/* The index of sharded safetensors. */
bise_status bise_run_index(bise_str *text, const bise_plan *p, bise_error *err)
{
    uint64_t total = 0;
    bise_json *map = bise_json_new_object(), *root = bise_json_new_object();
    for (size_t i = 0; i < p->n_files; i++)
        for (size_t k = 0; k < p->files[i].n; k++) {
            const bise_plan_tensor *t = &p->tensors[p->files[i].first + k];
            total += bise_plan_tensor_bytes(t);
            bise_json_set(map, t->name,
                          bise_json_new_string(p->files[i].name));
        }
    bise_json *meta = bise_json_new_object();
    bise_json_set(meta, "total_size", bise_json_new_int((int64_t)total));
    bise_json_set(root, "metadata", meta);
    bise_json_set(root, "weight_map", map);
    bise_json_dump(text, root, 2, false);
    bise_str_putc(text, '\n');
    bise_json_free(root);
    return bise_str_ok(text) ? BISE_OK : bise_fail_nomem(err);
}

/* Side files are small and held whole. */
bise_status bise_run_side(bise_str *text, const bise_plan_side *f,
                          bise_error *err)
{
    if (f->store)
        return bise_store_file(f->store, f->name, text, err);
    bise_str_add(text, f->data, f->len);
    return bise_str_ok(text) ? BISE_OK : bise_fail_nomem(err);
}

/* A file of the directory. A name with folders gets its folders first; names
 * come from the store, which has refused absolute paths and "..". */
static bise_status write_text(const char *dir, const char *name,
                              const bise_str *text, bise_error *err)
{
    bise_status s = BISE_OK;
    char *path = bise_path_join(dir, name);
    if (!path)
        return bise_fail_nomem(err);
    if (strchr(name, '/')) {
        char *slash = strrchr(path, '/');
        *slash = 0;
        s = bise_mkdir(path, err);
        *slash = '/';
    }
    if (s == BISE_OK)
        s = bise_file_write(path, bise_str_get(text), text->len, err);
    bise_free(path);
    return s;
}

/* Everything beside the weights. */
static bise_status write_sides(const bise_plan *p, const char *dir,
                               bise_error *err)
{
    bise_status s = BISE_OK;
    bise_str text = { 0 };
    for (size_t i = 0; i < p->n_sides && s == BISE_OK; i++) {
        s = bise_run_side(&text, &p->sides[i], err);
        if (s == BISE_OK)
            s = write_text(dir, p->sides[i].name, &text, err);
        bise_str_fini(&text);
    }
    if (s == BISE_OK && p->n_files > 1) {
        bise_str name = { 0 };
        bise_str_printf(&name, "%s.safetensors.index.json", p->weights_name);
        s = bise_run_index(&text, p, err);
        if (s == BISE_OK)
            s = bise_str_ok(&name) ? write_text(dir, name.data, &text, err)
                                   : bise_fail_nomem(err);
        bise_str_fini(&name);
        bise_str_fini(&text);
    }
    return s;
}

/* Copy every slab; then give the files their names, the first one last, since
 * readers start from it. On failure all are dropped. */
static bise_status fill(bise_run_job *j, bise_error *err)
{
    const bise_plan *p = j->plan;
    for (uint64_t slab = 0; slab < AHEAD; slab++)
        read_ahead(j, slab);
    bise_pool_run(j->o->pool, (size_t)j->starts[p->n], bise_run_slab, j);
    bise_status s = j->err.status;
    if (s != BISE_OK)
        *err = j->err;
    else
        s = bise_progress_step(j->o->progress, j->o->stage, j->total, j->total,
                               "bytes", NULL, err);
    for (size_t k = p->n_files; k-- > 0 && s == BISE_OK;) {
        bise_out *o = j->outs[k];
        j->outs[k] = NULL;
        s = bise_out_commit(o, err);
    }
    return s;
}

/* The plan into an opened place. */
static bise_status execute(bise_run_job *j, const char *path, bool force,
                           bise_run_result *r, bise_error *err)
{
    bise_status s = open_outputs(j, path, force, r, err);
    if (s == BISE_OK)
        s = fill(j, err);
    for (size_t i = 0; i < j->plan->n_files; i++)
        bise_out_drop(j->outs[i]);
    return s;
}

/* A GGUF is one file (or numbered ones) beside its neighbours, a directory
 * is built as NAME.part and renamed as a whole; either way nothing has the
 * final name before everything is synced. */
bise_status bise_run(bise_plan *p, const bise_run_options *o,
                     bise_run_result *result, bise_error *err)
{
    bise_status s = p->n_files ? BISE_OK : bise_plan_layout(p, err);
    if (s == BISE_OK)
        s = check_types(p, err);
    if (s != BISE_OK)
        return s;
    bise_run_job j = { .plan = p, .o = o };
    pthread_mutex_init(&j.lock, NULL);
    bise_error_init(&j.err);
    s = make_job(&j, err);
    if (s == BISE_OK && o->archive) {
        s = bise_run_packed(&j, result, err);
    } else if (s == BISE_OK && p->kind == BISE_PLAN_GGUF) {
        s = execute(&j, o->path, o->force, result, err);
    } else if (s == BISE_OK) {
        bise_outdir dir;
        s = bise_outdir_open(&dir, o->path, o->force, err);
        if (s == BISE_OK) {
            s = execute(&j, dir.part_path, true, result, err);
            if (s == BISE_OK)
                s = write_sides(p, dir.part_path, err);
            if (s == BISE_OK)
                s = bise_outdir_commit(&dir, err);
            else
                bise_outdir_drop(&dir);
        }
    }
    if (s == BISE_OK)
        s = collect(&j, result, err);
    free_job(&j);
    if (s != BISE_OK)
        bise_run_result_fini(result);
    return s;
}
