/* gemm.h - float32 matrix products, and a factorization, of one thread: the only
 * door to OpenBLAS.
 * Callers cut the work into tiles whose sizes depend on the problem only and
 * give each tile to one thread, so results do not depend on threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_GEMM_H
#define BISE_KERNELS_GEMM_H

#include <stdbool.h>
#include <stdint.h>

/* Tell the library to use the calling thread only. Call before the first
 * product (cheap, may be repeated). */
void bise_gemm_setup(void);

/* Row-major with leading dimensions in floats; c = a op(b) beta:
 *   _nt  c[m,n] = alpha a[m,k] b[n,k]^T + beta c     (y = x W^T)
 *   _nn  c[m,n] = alpha a[m,k] b[k,n]   + beta c     (dx = dy W)
 *   _tn  c[m,n] = alpha a[k,m]^T b[k,n] + beta c     (dW = dy^T x)
 * beta is 0 (c need not be set) or 1. Nothing happens when m or n is 0. */
void bise_gemm_nt(int32_t m, int32_t n, int32_t k, float alpha,
                  const float *a, int32_t lda, const float *b, int32_t ldb,
                  float beta, float *c, int32_t ldc);
void bise_gemm_nn(int32_t m, int32_t n, int32_t k, float alpha,
                  const float *a, int32_t lda, const float *b, int32_t ldb,
                  float beta, float *c, int32_t ldc);
void bise_gemm_tn(int32_t m, int32_t n, int32_t k, float alpha,
                  const float *a, int32_t lda, const float *b, int32_t ldb,
                  float beta, float *c, int32_t ldc);

/* A = L L^T of a symmetric a [n, n] in place of its lower triangle; what is
 * above the diagonal is neither read nor changed (LAPACK's spotrf). False when
 * A is not positive definite in float32; the triangle is then undefined. */
bool bise_gemm_cholesky(float *a, int32_t n);

#endif
