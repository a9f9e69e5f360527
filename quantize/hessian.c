/* hessian.c - see hessian.h. H = U U^T with U upper triangular is the Cholesky
 * factorization of H read backwards, from its last element to its first, so
 * that no inverse is needed. The lower triangle keeps H for another try with
 * more damping.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "quantize/hessian.h"

#include <math.h>
#include <stdbool.h>

#include "core/mem.h"
#include "kernels/gemm.h"

#define TILE 256 /* columns of a tile of sums */

/* What the tasks that sum work on. */
typedef struct work {
    float *h;
    size_t n;
    const float *x;         /* [T, n] */
    int32_t T;
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

/* The elements of a [n] in the other order. */
static void reverse(float *a, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        const float v = a[i];
        a[i] = a[n - 1 - i];
        a[n - 1 - i] = v;
    }
}

/* U in place of the upper triangle; false when a square of a pivot is below
 * least_square. No less than the damping can be left, but for rounding. */
static bool factor(bise_hessian *h, double least_square)
{
    const size_t n = (size_t)h->n;
    reverse(h->h, n * n);
    const bool done = bise_gemm_cholesky(h->h, h->n);
    reverse(h->h, n * n);
    for (size_t j = 0; done && j < n; j++) {
        const double d = h->h[j * n + j];
        if (!(d * d >= least_square) || !isfinite(d))
            return false;
    }
    return done;
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
bise_status bise_hessian_factor(bise_hessian *h, bise_error *err)
{
    const size_t n = (size_t)h->n;
    const double mean = diagonal(h);
    keep(h, false);
    for (h->damping = 0.01; h->damping < 1e4; h->damping *= 2) {
        const double add = h->damping * mean;
        for (size_t j = 0; j < n; j++)
            h->h[j * n + j] = (float)(h->diag[j] + add);
        if (factor(h, add / 2)) {
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
