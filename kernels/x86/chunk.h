/* chunk.h - the loop of the SIMD block encoders: W (super)blocks at a time,
 * each in its own lane. Rows are contiguous, so chunks run across their ends;
 * the last chunk repeats its last block in the idle lanes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_X86_CHUNK_H
#define BISE_KERNELS_X86_CHUNK_H

#include "kernels/block.h"
#include "kernels/x86/vec.h"

typedef struct chunk {
    const float *x[W];  /* weights of the block in each lane */
    const float *qw[W]; /* importance of its columns, NULL without */
    float sigma2[W];    /* mean square of its row, where asked for */
    int count;          /* lanes that hold a block of their own */
} chunk;

/* Encode the blocks of a chunk into count blocks at dst. */
typedef void chunk_fn(uint8_t *dst, const chunk *c);

/* row_sigma2: mean squares of the rows, or NULL. */
BISE_INLINE void encode_chunks(void *dst, const float *src, size_t rows,
                               size_t cols, const float *imatrix,
                               size_t block_len, size_t block_bytes,
                               const float *row_sigma2, chunk_fn *fn)
{
    const size_t per_row = cols / block_len, total = rows * per_row;
    uint8_t *out = dst;
    chunk c;
    for (size_t b = 0; b < total; b += W, out += W * block_bytes) {
        c.count = total - b < W ? (int)(total - b) : W;
        for (int lane = 0; lane < W; lane++) {
            const int k = lane < c.count ? lane : c.count - 1;
            const size_t at = b + (size_t)k;
            c.x[lane] = src + at * block_len;
            c.qw[lane] = imatrix ? imatrix + at % per_row * block_len : NULL;
            if (row_sigma2)
                c.sigma2[lane] = row_sigma2[at / per_row];
        }
        fn(out, &c);
    }
}

/* Fetch columns off .. off + n into the cache: a chunk is W distant rows,
 * which the hardware does not foresee. Past the end it does nothing. */
BISE_INLINE void chunk_prefetch(const chunk *c, size_t off, int n)
{
    for (int l = 0; l < W; l++)
        for (int i = 0; i < n; i += 16)
            _mm_prefetch((const char *)(c->x[l] + off + i), _MM_HINT_T0);
}

/* w[i] = qw[i] sqrt(sigma2 + x[i]^2), as bise_importance. */
BISE_INLINE void v_importance(vf *w, const vf *x, const chunk *c, size_t off,
                              vf sigma2, int n)
{
    v_load_columns(w, c->qw, off, n);
    for (int i = 0; i < n; i++) {
        const vf power = v_add(sigma2, v_mul(x[i], x[i]));
        w[i] = v_mul(w[i], v_sqrt(power));
    }
}

/* Sum of x^2 over the n weights of each block, in order. */
BISE_INLINE vf chunk_sum_squares(const chunk *c, int n)
{
    vf sum = v_zero(), x[16];
    for (int off = 0; off < n; off += 16) {
        v_load_columns(x, c->x, (size_t)off, 16);
        for (int i = 0; i < 16; i++)
            sum = v_add(sum, v_mul(x[i], x[i]));
    }
    return sum;
}

#endif
