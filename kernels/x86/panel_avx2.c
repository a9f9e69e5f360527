/* panel_avx2.c - float32 micro-kernel for AVX2 + FMA: 6 x 16 outputs in twelve
 * registers, two halves for the 32 columns of a panel.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <immintrin.h>

#include "kernels/panel.h"

#define INLINE static inline __attribute__((always_inline))

/* Lane masks for the first n of 8 columns. */
INLINE __m256i mask8(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* m (constant) rows, 16 columns of which nc count. */
INLINE void mul_half(const int m, float *y, size_t ldy, const float *a,
                     size_t lda, const float *b, size_t ldb, size_t r, int nc,
                     bool add)
{
    __m256 s[6][2];
    const __m256i m0 = mask8(nc), m1 = mask8(nc - 8);
    _Pragma("GCC unroll 6")
    for (int i = 0; i < m; i++)
        s[i][0] = s[i][1] = _mm256_setzero_ps();
    for (size_t k = 0; k < r; k++) {
        const __m256 b0 = nc >= 16 ? _mm256_loadu_ps(b + k * ldb) :
                                     _mm256_maskload_ps(b + k * ldb, m0);
        const __m256 b1 = nc >= 16 ? _mm256_loadu_ps(b + k * ldb + 8) :
                                     _mm256_maskload_ps(b + k * ldb + 8, m1);
        _Pragma("GCC unroll 6")
        for (int i = 0; i < m; i++) {
            const __m256 x = _mm256_broadcast_ss(a + (size_t)i * lda + k);
            s[i][0] = _mm256_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm256_fmadd_ps(x, b1, s[i][1]);
        }
    }
    _Pragma("GCC unroll 6")
    for (int i = 0; i < m; i++) {
        float *row = y + (size_t)i * ldy;
        if (add) {
            s[i][0] = _mm256_add_ps(_mm256_maskload_ps(row, m0), s[i][0]);
            s[i][1] = _mm256_add_ps(_mm256_maskload_ps(row + 8, m1), s[i][1]);
        }
        _mm256_maskstore_ps(row, m0, s[i][0]);
        _mm256_maskstore_ps(row + 8, m1, s[i][1]);
    }
}

static void mul_f32_avx2(float *y, size_t ldy, const float *a, size_t lda,
                         const float *b, size_t ldb, size_t r, int m, int nc,
                         bool add)
{
    for (int i = 0; i < m; i += 6)
        for (int c = 0; c < nc; c += 16) {
            float *yy = y + (size_t)i * ldy + c;
            const float *aa = a + (size_t)i * lda, *bb = b + c;
            const int n = nc - c < 16 ? nc - c : 16;
            switch (m - i) {
#define CASE(k) case k: mul_half(k, yy, ldy, aa, lda, bb, ldb, r, n, add); break;
            CASE(5) CASE(4) CASE(3) CASE(2) CASE(1)
#undef CASE
            default: mul_half(6, yy, ldy, aa, lda, bb, ldb, r, n, add); break;
            }
        }
}

void bise_panel_ops_avx2(bise_panel_ops *o)
{
    o->mul_f32 = mul_f32_avx2;
}
