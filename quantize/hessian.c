/* hessian.c - see hessian.h. The factorization is the blocked Cholesky method
 * from the last column to the first (H = U U^T instead of L L^T), so that no
 * inverse is needed. While it runs the lower triangle keeps H for another try
 * with more damping.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "quantize/hessian.h"

#include <math.h>
#include <stdbool.h>

#include "core/mem.h"
#include "kernels/gemm.h"

#define TILE 256 /* columns of a tile of sums */
#define STEP 128 /* columns factored at a time */

/* What the tasks work on. */
typedef struct work {
    float *h;
    size_t n;
    const float *x;         /* sums: [T, n] */
    int32_t T;
    size_t from, width;     /* factor: columns of this step */
    double floor;           /* least square of a pivot */
} work;

bise_status bise_hessian_init(bise_hessian *h, int32_t n, bise_error *err)
{
    *h = (bise_hessian){ .n = n };
    if ((uint64_t)n * (uint64_t)n > SIZE_MAX / sizeof(float))
        return bise_fail_nomem(err);
    h->h = bise_alloc_aligned((size_t)n * (size_t)n * sizeof(float));
    h->diag = bise_alloc_array((size_t)n, sizeof *h->diag);
    h->pivot = bise_alloc_array((size_t)n, sizeof *h->pivot);
    return h->h && h->diag && h->pivot ? BISE_OK : bise_fail_nomem(err);
}

/* Zeroed ones as well. */
void bise_hessian_fini(bise_hessian *h)
{
    bise_free_aligned(h->h);
    bise_free(h->diag);
    bise_free(h->pivot);
    *h = (bise_hessian){ 0 };
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Row and column of the k-th tile of an upper triangle. */
static void tile_at(size_t k, size_t *row, size_t *col)
{
    size_t c = 0;
    while (k > c)
        k -= ++c;
    *row = k;
    *col = c;
}

static size_t tiles_in(size_t n)
{
    const size_t t = (n + TILE - 1) / TILE;
    return t * (t + 1) / 2;
}

/* One tile of x^T x. */
static void sum_task(void *ctx, size_t index, int worker)
{
    const work *w = ctx;
    size_t i, j;
    (void)worker;
    tile_at(index, &i, &j);
    i *= TILE;
    j *= TILE;
    bise_gemm_tn((int32_t)least(TILE, w->n - i), (int32_t)least(TILE, w->n - j),
                 w->T, 1, w->x + i, (int32_t)w->n, w->x + j, (int32_t)w->n, 1,
                 w->h + i * w->n + j, (int32_t)w->n);
}

void bise_hessian_add(bise_hessian *h, const float *x, int32_t T,
                      bise_pool *pool)
{
    work w = { .h = h->h, .n = (size_t)h->n, .x = x, .T = T };
    bise_pool_run(pool, tiles_in(w.n), sum_task, &w);
    h->rows += (uint64_t)T;
}

/* The diagonal block of the step; false when it is not positive definite. The
 * block is a sum of squares less what the columns behind explain: what is left
 * may be small, so it is made in double. */
static bool factor_block(const work *w)
{
    const size_t n = w->n, end = w->from + w->width;
    for (size_t j = end; j-- > w->from;) {
        double sum = w->h[j * n + j];
        for (size_t k = j + 1; k < end; k++)
            sum -= (double)w->h[j * n + k] * w->h[j * n + k];
        /* no less than the damping, but for rounding */
        if (!(sum >= w->floor) || !isfinite(sum))
            return false;
        const double d = sqrt(sum);
        w->h[j * n + j] = (float)d;
        for (size_t i = w->from; i < j; i++) {
            double s = w->h[i * n + j];
            for (size_t k = j + 1; k < end; k++)
                s -= (double)w->h[i * n + k] * w->h[j * n + k];
            w->h[i * n + j] = (float)(s / d);
        }
    }
    return true;
}

/* Rows above the block: P U_kk^T = A, solved from the last column on. */
static void panel_task(void *ctx, size_t index, int worker)
{
    const work *w = ctx;
    const size_t n = w->n, end = w->from + w->width;
    (void)worker;
    for (size_t i = index * 16; i < least(index * 16 + 16, w->from); i++) {
        float *row = w->h + i * n;
        for (size_t j = end; j-- > w->from;) {
            const float *u = w->h + j * n;
            double s = row[j];
            for (size_t k = j + 1; k < end; k++)
                s -= (double)row[k] * u[k];
            row[j] = (float)(s / u[j]);
        }
    }
}

/* Rows [i, i + rows) by columns [j, j + cols) of what is left: A -= P P^T. */
static void subtract(const work *w, size_t i, size_t rows, size_t j,
                     size_t cols)
{
    const size_t n = w->n;
    bise_gemm_nt((int32_t)rows, (int32_t)cols, (int32_t)w->width, -1,
                 w->h + i * n + w->from, (int32_t)n, w->h + j * n + w->from,
                 (int32_t)n, 1, w->h + i * n + j, (int32_t)n);
}

/* One tile of it. On the diagonal what lies below is the copy of H: there rows
 * go one by one, and 16 of them together right of their own triangle. */
static void trail_task(void *ctx, size_t index, int worker)
{
    const work *w = ctx;
    size_t i, j;
    (void)worker;
    tile_at(index, &i, &j);
    i *= TILE;
    j *= TILE;
    const size_t end = least(i + TILE, w->from), last = least(j + TILE,
                                                              w->from);
    if (i != j) {
        subtract(w, i, end - i, j, last - j);
        return;
    }
    for (; i < end; i += 16) {
        const size_t rows = least(16, end - i);
        for (size_t r = 0; r < rows; r++)
            subtract(w, i + r, 1, i + r, rows - r);
        subtract(w, i, rows, i + rows, last - i - rows);
    }
}

/* All steps, the last columns first. */
static bool factor(work *w, bise_pool *pool)
{
    for (size_t end = w->n; end > 0; end = w->from) {
        w->width = least(STEP, end);
        w->from = end - w->width;
        if (!factor_block(w))
            return false;
        bise_pool_run(pool, (w->from + 15) / 16, panel_task, w);
        bise_pool_run(pool, tiles_in(w->from), trail_task, w);
    }
    return true;
}

/* H into the lower triangle, or back from there; the diagonal is in diag. */
static void keep(bise_hessian *h, bool back)
{
    const size_t n = (size_t)h->n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            if (back)
                h->h[i * n + j] = h->h[j * n + i];
            else
                h->h[j * n + i] = h->h[i * n + j];
}

/* Column j by U_jj, which stays. */
static void normalize(bise_hessian *h)
{
    const size_t n = (size_t)h->n;
    for (size_t j = 0; j < n; j++)
        h->pivot[j] = h->h[j * n + j];
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            h->h[i * n + j] /= h->pivot[j];
}

/* The diagonal of H, where columns that were always 0 get the mean of the
 * others; that mean. Without inputs H is the identity. */
static double diagonal(bise_hessian *h)
{
    const size_t n = (size_t)h->n;
    double sum = 0, alive = 0;
    for (size_t j = 0; j < n; j++) {
        h->diag[j] = h->h[j * n + j];
        sum += h->diag[j];
        alive += h->diag[j] > 0;
    }
    const double mean = sum > 0 ? sum / alive : 1;
    for (size_t j = 0; j < n; j++)
        if (!(h->diag[j] > 0))
            h->diag[j] = (float)mean;
    return mean;
}

/* More damping until it works; beyond a few times the mean of the diagonal
 * only sums that are not numbers fail. */
bise_status bise_hessian_factor(bise_hessian *h, bise_pool *pool,
                                bise_error *err)
{
    const size_t n = (size_t)h->n;
    work w = { .h = h->h, .n = n };
    const double mean = diagonal(h);
    keep(h, false);
    for (h->damping = 0.01; h->damping < 1e4; h->damping *= 2) {
        const double add = h->damping * mean;
        for (size_t j = 0; j < n; j++)
            h->h[j * n + j] = (float)(h->diag[j] + add);
        w.floor = add / 2;
        if (factor(&w, pool)) {
            for (size_t j = 0; j < n; j++)
                h->diag[j] += (float)add;
            normalize(h);
            return BISE_OK;
        }
        keep(h, true);
    }
    return bise_fail(err, BISE_EFORMAT, "the squares of the inputs of a layer "
                     "overflow float32");
}
