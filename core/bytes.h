/* bytes.h - little-endian loads and stores at any address, and the 16-bit
 * float conversions of scalar code (IEEE binary16 and bfloat16, round to
 * nearest even, NaN kept quiet; gguf.md 4.1). Used by formats and kernels.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_BYTES_H
#define BISE_CORE_BYTES_H

#include <stdint.h>
#include <string.h>

/* Unaligned little-endian loads. */
static inline uint16_t bise_load_le16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t bise_load_le32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
           (uint32_t)b[3] << 24;
}

static inline uint64_t bise_load_le64(const void *p)
{
    const uint8_t *b = p;
    return (uint64_t)bise_load_le32(b) | (uint64_t)bise_load_le32(b + 4) << 32;
}

/* Unaligned little-endian stores. */
static inline void bise_store_le16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

static inline void bise_store_le32(void *p, uint32_t v)
{
    uint8_t *b = p;
    bise_store_le16(b, (uint16_t)v);
    bise_store_le16(b + 2, (uint16_t)(v >> 16));
}

static inline void bise_store_le64(void *p, uint64_t v)
{
    uint8_t *b = p;
    bise_store_le32(b, (uint32_t)v);
    bise_store_le32(b + 4, (uint32_t)(v >> 32));
}

static inline uint32_t bise_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float bise_bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* bfloat16 <-> float32; to bf16 rounds to nearest even, NaN stays NaN. */
static inline float bise_bf16_to_f32(uint16_t h)
{
    return bise_bits_f32((uint32_t)h << 16);
}

static inline uint16_t bise_f32_to_bf16(float f)
{
    const uint32_t u = bise_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

/* IEEE binary16 -> float32, subnormals kept. */
static inline float bise_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t e = h >> 10 & 31, m = h & 0x3ff;
    if (e == 31)
        return bise_bits_f32(sign | 0x7f800000u | m << 13);
    if (e)
        return bise_bits_f32(sign | (e + 112) << 23 | m << 13);
    const float v = (float)m * 0x1p-24f;        /* exact */
    return sign ? -v : v;
}

/* float32 -> IEEE binary16, round to nearest even; overflow gives infinity,
 * NaN gives sign | 0x7e00. */
static inline uint16_t bise_f32_to_f16(float f)
{
    const uint32_t u = bise_f32_bits(f), sign = u >> 16 & 0x8000;
    const uint32_t a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000u)                       /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    if (a >= 0x38800000u) {                     /* normal */
        const uint32_t r = a - 0x38000000u;
        return (uint16_t)(sign | (r + 0xfffu + (r >> 13 & 1)) >> 13);
    }
    if (a < 0x33000000u)                        /* below half of 2^-24 */
        return (uint16_t)sign;
    const uint32_t m = (a & 0x7fffffu) | 0x800000u;
    const uint32_t shift = 126 - (a >> 23);     /* 14..24 */
    const uint32_t half = 1u << (shift - 1), q = m >> shift;
    const uint32_t rest = m & ((1u << shift) - 1);
    return (uint16_t)(sign | (q + (rest > half || (rest == half && (q & 1)))));
}

#endif
