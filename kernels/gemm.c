/* gemm.c - the three products of a linear layer over cblas_sgemm.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/gemm.h"

#include <cblas.h>
#include <f77blas.h>

/* Our pool makes the threads; a second pool below it would fight for the
 * cores and would cut sums by its own number of threads. */
void bise_gemm_setup(void)
{
    openblas_set_num_threads(1);
}

/* The forward shape: both operands are read along rows. */
void bise_gemm_nt(int32_t m, int32_t n, int32_t k, float alpha,
                  const float *a, int32_t lda, const float *b, int32_t ldb,
                  float beta, float *c, int32_t ldc)
{
    if (m > 0 && n > 0)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, alpha,
                    a, lda, b, ldb, beta, c, ldc);
}

/* The input gradient: b is the weight as it is stored. */
void bise_gemm_nn(int32_t m, int32_t n, int32_t k, float alpha,
                  const float *a, int32_t lda, const float *b, int32_t ldb,
                  float beta, float *c, int32_t ldc)
{
    if (m > 0 && n > 0)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, alpha,
                    a, lda, b, ldb, beta, c, ldc);
}

/* Weight gradients: sums over the tokens. */
void bise_gemm_tn(int32_t m, int32_t n, int32_t k, float alpha,
                  const float *a, int32_t lda, const float *b, int32_t ldb,
                  float beta, float *c, int32_t ldc)
{
    if (m > 0 && n > 0)
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, k, alpha,
                    a, lda, b, ldb, beta, c, ldc);
}

/* By columns, as LAPACK reads it, the lower triangle is the upper one. */
bool bise_gemm_cholesky(float *a, int32_t n)
{
    char upper = 'U';
    blasint size = n, info = 0;
    spotrf_(&upper, &size, a, &size, &info);
    return info == 0;
}
