/* gemm.c - the three products of a linear layer over cblas_sgemm. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/gemm.h"

#include <cblas.h>

void bise_gemm_setup(void)
{
    openblas_set_num_threads(1);
}

void bise_gemm_nt(int32_t m, int32_t n, int32_t k, float alpha,
                  const float *a, int32_t lda, const float *b, int32_t ldb,
                  float beta, float *c, int32_t ldc)
{
    if (m > 0 && n > 0)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, alpha,
                    a, lda, b, ldb, beta, c, ldc);
}

void bise_gemm_nn(int32_t m, int32_t n, int32_t k, float alpha,
                  const float *a, int32_t lda, const float *b, int32_t ldb,
                  float beta, float *c, int32_t ldc)
{
    if (m > 0 && n > 0)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, alpha,
                    a, lda, b, ldb, beta, c, ldc);
}

void bise_gemm_tn(int32_t m, int32_t n, int32_t k, float alpha,
                  const float *a, int32_t lda, const float *b, int32_t ldb,
                  float beta, float *c, int32_t ldc)
{
    if (m > 0 && n > 0)
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, k, alpha,
                    a, lda, b, ldb, beta, c, ldc);
}
