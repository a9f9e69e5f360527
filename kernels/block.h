/* block.h - byte layouts of the quantized types (gguf.md 4) and the packing of
 * codes into them; shared by the reference and the SIMD codecs. Members are
 * byte arrays, so a block may stand at any address. K-quant superblocks hold
 * 256 weights; L below is one code per weight in weight order.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_BLOCK_H
#define BISE_KERNELS_BLOCK_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "core/bytes.h"

enum { BISE_QK = 256 };

typedef struct { uint8_t d[2], qs[16]; } bise_q4_0;      /* also IQ4_NL */
typedef struct { uint8_t d[2], m[2], qs[16]; } bise_q4_1;
typedef struct { uint8_t d[2], qh[4], qs[16]; } bise_q5_0;
typedef struct { uint8_t d[2], m[2], qh[4], qs[16]; } bise_q5_1;
typedef struct { uint8_t d[2]; int8_t qs[32]; } bise_q8_0;
typedef struct { uint8_t scales[16], qs[64], d[2], dmin[2]; } bise_q2_k;
typedef struct { uint8_t hmask[32], qs[64], scales[12], d[2]; } bise_q3_k;
typedef struct { uint8_t d[2], dmin[2], scales[12], qs[128]; } bise_q4_k;
typedef struct { uint8_t d[2], dmin[2], scales[12], qh[32], qs[128]; } bise_q5_k;
typedef struct {
    uint8_t ql[128], qh[64];
    int8_t scales[16];
    uint8_t d[2];
} bise_q6_k;
typedef struct { uint8_t d[2], scales_h[2], scales_l[4], qs[128]; } bise_iq4_xs;
typedef struct { uint8_t e, qs[16]; } bise_mxfp4;
typedef struct { uint8_t d[4], qs[32]; } bise_nvfp4;
typedef struct { uint8_t qs[48], qh[4], d[2]; } bise_tq1_0;
typedef struct { uint8_t qs[64], d[2]; } bise_tq2_0;
typedef struct { uint8_t d[2], qs[16]; } bise_q1_0;
typedef struct { uint8_t d[2], qs[16]; } bise_q2_0;

static_assert(sizeof(bise_q4_0) == 18 && sizeof(bise_q4_1) == 20, "layout");
static_assert(sizeof(bise_q5_0) == 22 && sizeof(bise_q5_1) == 24, "layout");
static_assert(sizeof(bise_q8_0) == 34 && sizeof(bise_q2_k) == 84, "layout");
static_assert(sizeof(bise_q3_k) == 110 && sizeof(bise_q4_k) == 144, "layout");
static_assert(sizeof(bise_q5_k) == 176 && sizeof(bise_q6_k) == 210, "layout");
static_assert(sizeof(bise_iq4_xs) == 136 && sizeof(bise_mxfp4) == 17, "layout");
static_assert(sizeof(bise_nvfp4) == 36 && sizeof(bise_tq1_0) == 54, "layout");
static_assert(sizeof(bise_tq2_0) == 66 && sizeof(bise_q1_0) == 18, "layout");

/* The code book of IQ4_NL and IQ4_XS. */
#define BISE_IQ4_VALUES \
    { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 }
/* E2M1 values, doubled so that they are whole (OCP MX 1.0, 5.3.3). */
#define BISE_E2M1_VALUES \
    { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 }

static inline float bise_load_half(const uint8_t *p)
{
    return bise_f16_to_f32(bise_load_le16(p));
}

static inline void bise_store_half(uint8_t *p, float v)
{
    bise_store_le16(p, bise_f32_to_f16(v));
}

/* MXFP4 block scale for doubled values: 2^(e - 128), subnormal below e = 2. */
static inline float bise_e8m0_half(uint8_t e)
{
    return bise_bits_f32(e < 2 ? 0x200000u << e : (uint32_t)(e - 1) << 23);
}

/* NVFP4 scale: unsigned E4M3, 0x7f counts as 0. */
static inline float bise_ue4m3_to_f32(uint8_t u)
{
    const int e = u >> 3 & 15, m = u & 7;
    if (u == 0x7f || u == 0xff)
        return 0;
    if (e == 0)
        return (float)m * 0x1p-9f;
    return bise_bits_f32((uint32_t)(e + 120) << 23 | (uint32_t)m << 20);
}

/* qs[j] = code j | code j + half << 4, for half = 16 (32-weight blocks), 32
 * (64-weight chunks of Q4_K and Q5_K) or 8 (NVFP4). Takes the low 4 bits. */
static inline void bise_pack_nibbles(uint8_t *qs, const uint8_t *L, int half)
{
    for (int j = 0; j < half; j++)
        qs[j] = (uint8_t)((L[j] & 15) | (L[j + half] & 15) << 4);
}

/* Bit 4 of 32 codes as one word, bit j from code j. */
static inline uint32_t bise_pack_bit4(const uint8_t *L)
{
    uint32_t qh = 0;
    for (int j = 0; j < 32; j++)
        qh |= (uint32_t)(L[j] >> 4 & 1) << j;
    return qh;
}

/* Code of weight j (0..31) of a block of 5-bit codes. */
static inline int bise_code_q5(const uint8_t *qs, uint32_t qh, int j)
{
    const int low = qs[j % 16] >> j / 16 * 4 & 15;
    return low | (int)(qh >> j & 1) << 4;
}

/* 128 2-bit codes into 32 bytes: byte l holds codes l, l+32, l+64, l+96. */
static inline void bise_pack_2bit(uint8_t *qs, const uint8_t *L)
{
    for (int l = 0; l < 32; l++)
        qs[l] = (uint8_t)((L[l] & 3) | (L[l + 32] & 3) << 2 |
                          (L[l + 64] & 3) << 4 | (L[l + 96] & 3) << 6);
}

/* Q4_K and Q5_K: eight 6-bit scales and mins in 12 bytes. */
static inline void bise_pack_scales_k4(uint8_t *s, const uint8_t *sc,
                                       const uint8_t *mn)
{
    for (int b = 0; b < 4; b++) {
        s[b] = (uint8_t)(sc[b] | (sc[b + 4] >> 4) << 6);
        s[b + 4] = (uint8_t)(mn[b] | (mn[b + 4] >> 4) << 6);
        s[b + 8] = (uint8_t)((sc[b + 4] & 15) | (mn[b + 4] & 15) << 4);
    }
}

static inline void bise_unpack_scales_k4(uint8_t *sc, uint8_t *mn,
                                         const uint8_t *s)
{
    for (int b = 0; b < 4; b++) {
        sc[b] = s[b] & 63;
        mn[b] = s[b + 4] & 63;
        sc[b + 4] = (uint8_t)((s[b + 8] & 15) | (s[b] >> 6) << 4);
        mn[b + 4] = (uint8_t)(s[b + 8] >> 4 | (s[b + 4] >> 6) << 4);
    }
}

/* Q3_K: sixteen 6-bit scale codes (value + 32) in 12 bytes. */
static inline void bise_pack_scales_q3(uint8_t *s, const uint8_t *code)
{
    memset(s, 0, 12);
    for (int b = 0; b < 16; b++) {
        s[b % 8] |= (uint8_t)((code[b] & 15) << (b < 8 ? 0 : 4));
        s[8 + b % 4] |= (uint8_t)((code[b] >> 4) << 2 * (b / 4));
    }
}

static inline void bise_unpack_scales_q3(uint8_t *code, const uint8_t *s)
{
    for (int b = 0; b < 16; b++) {
        const int lo = s[b % 8] >> (b < 8 ? 0 : 4) & 15;
        code[b] = (uint8_t)(lo | (s[8 + b % 4] >> 2 * (b / 4) & 3) << 4);
    }
}

/* IQ4_XS: eight 6-bit scale codes (value + 32) into their two fields. */
static inline void bise_pack_scales_xs(bise_iq4_xs *y, const int *code)
{
    uint16_t high = 0;
    memset(y->scales_l, 0, sizeof y->scales_l);
    for (int b = 0; b < 8; b++) {
        y->scales_l[b / 2] |= (uint8_t)((code[b] & 15) << b % 2 * 4);
        high |= (uint16_t)((code[b] >> 4) << 2 * b);
    }
    bise_store_le16(y->scales_h, high);
}

/* One bit of 256 codes into 32 bytes: bit i/32 of byte i%32 from code i. */
static inline void bise_pack_plane(uint8_t *plane, const uint8_t *L, int bit)
{
    memset(plane, 0, 32);
    for (int k = 0; k < 8; k++)
        for (int l = 0; l < 32; l++)
            plane[l] |= (uint8_t)((L[32 * k + l] >> bit & 1) << k);
}

static inline void bise_pack_q3_k(bise_q3_k *y, const uint8_t *L)
{
    /* codes 0..7: the top bit goes to hmask */
    bise_pack_plane(y->hmask, L, 2);
    bise_pack_2bit(y->qs, L);
    bise_pack_2bit(y->qs + 32, L + 128);
}

static inline void bise_pack_q4_k(uint8_t *qs, const uint8_t *L)
{
    for (int c = 0; c < 4; c++)
        bise_pack_nibbles(qs + 32 * c, L + 64 * c, 32);
}

static inline void bise_pack_q5_k(bise_q5_k *y, const uint8_t *L)
{
    bise_pack_plane(y->qh, L, 4);
    bise_pack_q4_k(y->qs, L);
}

static inline void bise_pack_q6_k(bise_q6_k *y, const uint8_t *L)
{
    /* codes 0..63 of each half: low nibbles of quarters 0, 2 and 1, 3 share
     * bytes; the four high pairs share qh */
    for (int h = 0; h < 2; h++) {
        const uint8_t *q = L + 128 * h;
        bise_pack_nibbles(y->ql + 64 * h, q, 64);
        for (int l = 0; l < 32; l++)
            y->qh[32 * h + l] =
                (uint8_t)(q[l] >> 4 | (q[l + 32] >> 4) << 2 |
                          (q[l + 64] >> 4) << 4 | (q[l + 96] >> 4) << 6);
    }
}

#endif
