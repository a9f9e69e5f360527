/* gptq.c - see gptq.h. ROWS rows are a task. Columns go in panels: on entering
 * one, the errors of all columns before it reach its weights by one product;
 * inside it they are added column by column. With D = W - Q known for columns
 * before j and V = U with unit pivots the weight to round is
 *
 *   w_j + sum_{i<j} D_i V_ij
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "quantize/gptq.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/codec.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"
#include "pipeline/check.h"

#define ROWS BISE_GPTQ_ROWS
#define PANEL BISE_GRID_BLOCK /* columns; a multiple of every block */

/* Buffers of one thread. */
typedef struct lane {
    float *w;                /* [ROWS, cols] weights, moved */
    float *d;                /* [ROWS, cols] errors; of the panel's columns
                                that are not rounded yet the weights */
    float *x;                /* [ROWS, block] what the scales are to fit */
    uint8_t *blocks;         /* [ROWS] encoded */
    bise_scratch scratch;
} lane;

typedef struct job {
    uint8_t *dst;
    const bise_stream *stream;
    uint64_t first, rows;
    const bise_grid *grid;
    const bise_hessian *h;
    const char *name;
    const bise_kernels *k;
    bise_encode_fn *encode;
    size_t cols, block, block_bytes, row_bytes;
    lane *lanes;
    pthread_mutex_t lock;
    _Atomic bool stop;
    size_t bad;              /* task of the error, under lock */
    bise_error err;
} job;

/* Round the columns [c, c + block) of one row whose block has its scales, and
 * put the codes into it; end: of the panel. */
static void round_block(const job *j, float *w, float *d, size_t c, size_t end,
                        uint8_t *block)
{
    const bise_grid *g = j->grid;
    float scale[BISE_GRID_RUNS], min[BISE_GRID_RUNS];
    uint8_t L[BISE_GRID_BLOCK];
    g->scales(scale, min, block);
    for (size_t i = 0; i < j->block; i++) {
        const size_t at = c + i, run = i / (size_t)g->run;
        L[i] = bise_grid_code(g, w[at], scale[run], min[run]);
        d[at] -= bise_grid_value(g, L[i], scale[run], min[run]);
        /* a scale that left float16: the runner refuses the block */
        if (!isfinite(d[at]))
            d[at] = 0;
        j->k->axpy(w + at + 1, d[at], j->h->h + at * j->cols + at + 1,
                   end - at - 1);
    }
    g->pack(block, L);
}

/* The weights of a block that would cost least after the errors before it, if
 * nothing had to be rounded: what its scales should fit. Each moves those after
 * it like an error would. */
static void settle_block(const job *j, float *x, const float *w,
                         const float *d, size_t c)
{
    memcpy(x, w + c, j->block * sizeof *x);
    for (size_t i = 0; i + 1 < j->block; i++)
        j->k->axpy(x + i + 1, d[c + i] - x[i],
                   j->h->h + (c + i) * j->cols + c + i + 1, j->block - i - 1);
}

/* The blocks of n rows that start at column c: scales of all, then codes. */
static void round_column(const job *j, lane *l, uint64_t row, size_t n,
                         size_t c, size_t end)
{
    for (size_t r = 0; r < n; r++)
        settle_block(j, l->x + r * j->block, l->w + r * j->cols,
                     l->d + r * j->cols, c);
    j->encode(l->blocks, l->x, n, j->block, j->h->diag + c);
    for (size_t r = 0; r < n; r++) {
        uint8_t *block = l->blocks + r * j->block_bytes;
        round_block(j, l->w + r * j->cols, l->d + r * j->cols, c, end, block);
        memcpy(j->dst + (row + r) * j->row_bytes +
                   c / j->block * j->block_bytes, block, j->block_bytes);
    }
}

/* All columns of n rows whose weights are in l->w. */
static void round_rows(const job *j, lane *l, uint64_t row, size_t n)
{
    const size_t cols = j->cols;
    for (size_t c = 0; c < cols; c += PANEL) {
        const size_t end = c + PANEL < cols ? c + PANEL : cols;
        for (size_t r = 0; r < n; r++)
            memcpy(l->d + r * cols + c, l->w + r * cols + c,
                   (end - c) * sizeof *l->d);
        if (c)
            bise_gemm_nn((int32_t)n, (int32_t)(end - c), (int32_t)c, 1, l->d,
                         (int32_t)cols, j->h->h + c, (int32_t)cols, 1,
                         l->w + c, (int32_t)cols);
        for (size_t b = c; b < end; b += j->block)
            round_column(j, l, row, n, b, end);
    }
}

/* Keep the error of the first rows. */
static void record(job *j, size_t index, const bise_error *err)
{
    pthread_mutex_lock(&j->lock);
    if (j->err.status == BISE_OK || index < j->bad) {
        j->err = *err;
        j->bad = index;
    }
    pthread_mutex_unlock(&j->lock);
    atomic_store(&j->stop, true);
}

/* ROWS rows; the pool's task. */
static void rows_task(void *ctx, size_t index, int worker)
{
    job *j = ctx;
    lane *l = &j->lanes[worker];
    const uint64_t row = (uint64_t)index * ROWS, left = j->rows - row;
    const uint64_t n = left < ROWS ? left : ROWS, from = j->first + row;
    bise_error err;
    bise_error_init(&err);
    if (atomic_load(&j->stop))
        return;
    bise_status s = bise_stream_read(j->stream, l->w, from, n, &l->scratch,
                                     &err);
    if (s == BISE_OK)
        s = bise_check_weights(l->w, from, n, j->cols, &err);
    bise_stream_hint(j->stream, from, n, false);
    if (s == BISE_OK) {
        round_rows(j, l, row, (size_t)n);
        return;
    }
    s = bise_error_in(&err, NULL, j->name);
    record(j, index, &err);
}

static void free_lanes(job *j, int threads)
{
    for (int i = 0; j->lanes && i < threads; i++) {
        bise_free_aligned(j->lanes[i].w);
        bise_free_aligned(j->lanes[i].d);
        bise_free_aligned(j->lanes[i].x);
        bise_free_aligned(j->lanes[i].blocks);
        bise_scratch_fini(&j->lanes[i].scratch);
    }
    bise_free(j->lanes);
}

static bise_status make_lanes(job *j, int threads, bise_error *err)
{
    const size_t floats = ROWS * j->cols * sizeof(float);
    if (!(j->lanes = bise_alloc_array((size_t)threads, sizeof *j->lanes)))
        return bise_fail_nomem(err);
    for (int i = 0; i < threads; i++) {
        lane *l = &j->lanes[i];
        l->w = bise_alloc_aligned(floats);
        l->d = bise_alloc_aligned(floats);
        l->x = bise_alloc_aligned(ROWS * j->block * sizeof(float));
        l->blocks = bise_alloc_aligned(ROWS * j->block_bytes);
        if (!l->w || !l->d || !l->x || !l->blocks)
            return bise_fail_nomem(err);
    }
    return BISE_OK;
}

/* Buffers first, then all rows. */
bise_status bise_gptq_encode(uint8_t *dst, const bise_stream *rows_of,
                             uint64_t first, uint64_t rows,
                             const bise_grid *grid, const bise_hessian *h,
                             const char *name, bise_pool *pool,
                             bise_error *err)
{
    const bise_dtype_info *info = bise_dtype_get(grid->dtype);
    const int threads = bise_pool_threads(pool);
    job j = {
        .dst = dst, .stream = rows_of, .first = first, .rows = rows,
        .grid = grid, .h = h, .name = name, .k = bise_kernels_get(),
        .encode = bise_codec_get(grid->dtype)->encode, .cols = (size_t)h->n,
        .block = info->block_len, .block_bytes = info->block_bytes,
        .row_bytes = (size_t)bise_dtype_bytes(grid->dtype, (uint64_t)h->n),
    };
    if (bise_stream_cols(rows_of) != j.cols || j.cols % j.block)
        return bise_fail(err, BISE_EINVAL, "%zu columns of statistics for a "
                         "matrix of other shape", j.cols);
    pthread_mutex_init(&j.lock, NULL);
    bise_error_init(&j.err);
    bise_status s = make_lanes(&j, threads, err);
    if (s == BISE_OK) {
        bise_pool_run(pool, (size_t)((rows + ROWS - 1) / ROWS), rows_task, &j);
        s = j.err.status;
        if (s != BISE_OK)
            *err = j.err;
    }
    free_lanes(&j, threads);
    pthread_mutex_destroy(&j.lock);
    return s;
}
