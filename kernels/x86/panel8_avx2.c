/* panel8_avx2.c - the 8-bit micro-kernel for AVX2. vpmaddubsw saturates, so
 * bytes are widened to 16 bits and multiplied in pairs (vpmaddwd): exact, at
 * half the speed. 3 rows x 16 columns: a register holds the two half sums of
 * four columns. Packing and quantizing stay with the reference.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/panel8.h"

#define INLINE static inline __attribute__((always_inline))

/* Half sums of columns 0..3 and 4..7 to eight whole ones in order. */
INLINE __m256i join(__m256i low, __m256i high)
{
    /* hadd: low 01, high 01 | low 23, high 23 */
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
}

/* Eight sums of a row: start, scales, and set or add the first nc. */
INLINE void put8(float *y, __m256i sum, const bise_tile8 *t, int row, int c)
{
    const int n = t->nc - c;
    const __m256i mask = _mm256_cmpgt_epi32(
        _mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    sum = _mm256_add_epi32(
        sum, _mm256_loadu_si256((const void *)(t->start + c)));
    __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum),
                             _mm256_set1_ps(t->a_scales[row]));
    if (t->b_scales)
        v = _mm256_mul_ps(v, _mm256_loadu_ps(t->b_scales + c));
    if (t->add)
        v = _mm256_add_ps(_mm256_maskload_ps(y + c, mask), v);
    _mm256_maskstore_ps(y + c, mask, v);
}

/* Rows [i, i + m), m constant, and 16 columns from c on. */
INLINE void mul_block(const int m, float *y, size_t ldy, const bise_tile8 *t,
                      int i, int c)
{
    __m256i s[3][4];
    _Pragma("GCC unroll 3")
    for (int r = 0; r < m; r++)
        s[r][0] = s[r][1] = s[r][2] = s[r][3] = _mm256_setzero_si256();
    for (size_t q = 0; q < t->quads; q++) {
        const int8_t *b = t->b + q * 128 + (size_t)c * 4;
        __m256i w[4];
        _Pragma("GCC unroll 4")
        for (int k = 0; k < 4; k++)
            w[k] = _mm256_cvtepi8_epi16(
                _mm_loadu_si128((const void *)(b + k * 16)));
        _Pragma("GCC unroll 3")
        for (int r = 0; r < m; r++) {
            int quad;
            memcpy(&quad, t->a + (size_t)(i + r) * t->lda + 4 * q,
                   sizeof quad);
            const __m256i x = _mm256_broadcastq_epi64(
                _mm_cvtepu8_epi16(_mm_cvtsi32_si128(quad)));
            _Pragma("GCC unroll 4")
            for (int k = 0; k < 4; k++)
                s[r][k] = _mm256_add_epi32(s[r][k],
                                           _mm256_madd_epi16(x, w[k]));
        }
    }
    _Pragma("GCC unroll 3")
    for (int r = 0; r < m; r++) {
        float *row = y + (size_t)(i + r) * ldy;
        put8(row, join(s[r][0], s[r][1]), t, i + r, c);
        put8(row, join(s[r][2], s[r][3]), t, i + r, c + 8);
    }
}

static void mul_avx2(float *y, size_t ldy, const bise_tile8 *t)
{
    for (int c = 0; c < t->nc; c += 16)
        for (int i = 0; i < t->m; i += 3)
            switch (t->m - i) {
            case 1: mul_block(1, y, ldy, t, i, c); break;
            case 2: mul_block(2, y, ldy, t, i, c); break;
            default: mul_block(3, y, ldy, t, i, c); break;
            }
}

void bise_panel8_ops_avx2(bise_panel8_ops *o)
{
    o->mul = mul_avx2;
}
