/* panel_avx512.h - what the AVX-512 panel kernels share: writing rows of sums,
 * and the transpose of 16 x 16 words in registers. Only for files compiled with
 * AVX-512 flags.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_X86_PANEL_AVX512_H
#define BISE_KERNELS_X86_PANEL_AVX512_H

#include <immintrin.h>
#include <stdbool.h>

#define INLINE static inline __attribute__((always_inline))

struct bise_panel_ops;
/* Decoders to bf16 (panel_decode.c), part of the AVX512_BF16 set. */
void bise_panel_decode_avx512bf16(struct bise_panel_ops *o);

#define FAR 64 /* steps from which asking for y pays */

/* m rows of y are far away from each other: ask for them while their sums are
 * made. */
INLINE void ask_rows(const float *y, size_t ldy, int m)
{
    for (int i = 0; i < m; i++) {
        __builtin_prefetch(y + (size_t)i * ldy, 1);
        __builtin_prefetch(y + (size_t)i * ldy + 31, 1);
    }
}

/* Write one row of 32 sums, all or the first nc, set or added. */
INLINE void put_row(float *y, __m512 s0, __m512 s1, int nc, bool add)
{
    const __mmask16 m0 = nc >= 16 ? 0xffff : (__mmask16)((1u << nc) - 1);
    const __mmask16 m1 = nc >= 32 ? 0xffff :
                         nc > 16 ? (__mmask16)((1u << (nc - 16)) - 1) : 0;
    if (add) {
        s0 = _mm512_add_ps(_mm512_maskz_loadu_ps(m0, y), s0);
        s1 = _mm512_add_ps(_mm512_maskz_loadu_ps(m1, y + 16), s1);
    }
    _mm512_mask_storeu_ps(y, m0, s0);
    _mm512_mask_storeu_ps(y + 16, m1, s1);
}

/* All m rows; m is a constant at each call. Whole rows go without masks. */
INLINE void put_rows(const int m, float *y, size_t ldy, __m512 s[][2], int nc,
                     bool add)
{
    if (nc == 32) {
        _Pragma("GCC unroll 12")
        for (int i = 0; i < m; i++)
            put_row(y + (size_t)i * ldy, s[i][0], s[i][1], 32, add);
        return;
    }
    _Pragma("GCC unroll 12")
    for (int i = 0; i < m; i++)
        put_row(y + (size_t)i * ldy, s[i][0], s[i][1], nc, add);
}

/* v[i] word j becomes v[j] word i: pairs of rows are merged by words, then by
 * double words, then by 128-bit lanes. */
INLINE void transpose16(__m512i v[16])
{
    __m512i t[16];
    _Pragma("GCC unroll 8")
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    _Pragma("GCC unroll 4")
    for (int i = 0; i < 4; i++) {
        v[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        v[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        v[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        v[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    _Pragma("GCC unroll 4")
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xdd);
    }
    _Pragma("GCC unroll 4")
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        v[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        v[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        v[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

#endif
