/* nf4.c - 4-bit weights of bitsandbytes: the scalar reference of its slots, and
 * what all instruction sets share: ragged ends, the second quantization, and
 * PyTorch's order of adding up a mean, on which the offset's bits depend.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/nf4.h"

#include <math.h>
#include <string.h>

#include "kernels/dynmap.h"

/* Normal quantiles with offset 0.9677083, normalised (lora.md 12). */
const float bise_nf4_map[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f,
    0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
    0.7229568362236023f, 1.0f };

#define LEAST 1e-38f /* bitsandbytes' lower bound of a divisor */

/* One table entry for each nibble. */
static void lookup_ref(float *out, const uint8_t *codes, size_t bytes,
                       const float map[16], float scale)
{
    for (size_t i = 0; i < bytes; i++) {
        out[2 * i] = map[codes[i] >> 4] * scale;
        out[2 * i + 1] = map[codes[i] & 15] * scale;
    }
}

/* The number of midpoints below v: a value on a midpoint goes down. */
static int code_of(float v)
{
    int code = 0;
    v = v < -1 ? -1 : v > 1 ? 1 : v;
    for (int i = 0; i < 15; i++)
        code += (bise_nf4_map[i] + bise_nf4_map[i + 1]) / 2 < v;
    return code;
}

/* Largest magnitude; a NaN stays. */
static float absmax_of(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) <= most))
            most = isnan(most) ? most : fabsf(x[i]);
    return most;
}

/* Whole blocks are multiplied by the inverse of their absmax. */
static float encode_ref(uint8_t *codes, const float *x)
{
    const float most = absmax_of(x, BISE_NF4_BLOCK);
    const float inverse = 1.0f / (most > LEAST ? most : LEAST);
    for (int i = 0; i < BISE_NF4_BLOCK; i += 2)
        codes[i / 2] = (uint8_t)(code_of(x[i] * inverse) << 4 |
                                 code_of(x[i + 1] * inverse));
    return most;
}

/* A short last block is divided; an odd end is padded by a zero. */
static float encode_short(uint8_t *codes, const float *x, size_t n)
{
    float most = absmax_of(x, n);
    most = most < LEAST ? LEAST : most;
    for (size_t i = 0; i < n; i += 2) {
        const float next = i + 1 < n ? x[i + 1] / most : 0;
        codes[i / 2] = (uint8_t)(code_of(x[i] / most) << 4 | code_of(next));
    }
    return most;
}

/* Reference first, then what is faster. */
void bise_nf4_ops_init(bise_nf4_ops *o, bise_cpu level)
{
    *o = (bise_nf4_ops){ lookup_ref, encode_ref };
#if BISE_X86
    if (level >= BISE_CPU_AVX2)
        bise_nf4_ops_avx2(o);
    if (level >= BISE_CPU_AVX512)
        bise_nf4_ops_avx512(o);
#else
    (void)level;
#endif
}

/* Product and sum are rounded apart, as PyTorch does. */
float bise_nf4_scale(const bise_nf4 *q, uint64_t b)
{
    if (!q->absmax8)
        return q->absmax[b];
    const float part = q->nested_map[q->absmax8[b]] *
                       q->absmax[b / q->nested_block];
    return part + q->offset;
}

/* Block by block; a range may start and end inside a byte. */
void bise_nf4_decode(const bise_nf4 *q, uint64_t first, size_t n, float *out)
{
    const bise_nf4_ops *o = bise_nf4_ops_get();
    const uint64_t end = first + n;
    while (first < end) {
        const uint64_t b = first / q->block;
        uint64_t stop = (b + 1) * q->block;
        const float scale = bise_nf4_scale(q, b);
        stop = stop < end ? stop : end;
        if (first % 2) {
            *out++ = q->map[q->codes[first / 2] & 15] * scale;
            first++;
        }
        const size_t pairs = (size_t)(stop - first) / 2;
        o->lookup(out, q->codes + first / 2, pairs, q->map, scale);
        out += 2 * pairs;
        first += 2 * pairs;
        if (first < stop)
            *out++ = q->map[q->codes[first++ / 2] >> 4] * scale;
    }
}

uint64_t bise_nf4_encode(uint8_t *codes, float *absmax, const float *x,
                         size_t n)
{
    const bise_nf4_ops *o = bise_nf4_ops_get();
    uint64_t b = 0;
    for (; n >= BISE_NF4_BLOCK; n -= BISE_NF4_BLOCK, b++) {
        absmax[b] = o->encode(codes, x);
        if (!isfinite(absmax[b]))
            return b;
        codes += BISE_NF4_BLOCK / 2;
        x += BISE_NF4_BLOCK;
    }
    if (n) {
        absmax[b] = encode_short(codes, x, n);
        b += isfinite(absmax[b]) != 0;
    }
    return b;
}

enum { LANES = 8, ROWS = 4, LEVELS = 4 }; /* of PyTorch's sum */

/* acc += v, a vector of lanes. */
static void add_lanes(float *acc, const float *v, int lanes)
{
    for (int i = 0; i < lanes; i++)
        acc[i] += v[i];
}

/* Sums of ROWS interleaved rows of n vectors of lanes floats, in a cascade:
 * every 2^power additions the level above takes the sum, so that the error
 * grows with the logarithm of n (ATen/native/cpu/SumKernel.cpp,
 * multi_row_sum). */
static void row_sums(float out[ROWS * LANES], const float *x, uint64_t n,
                     int lanes)
{
    float acc[LEVELS][ROWS * LANES] = { { 0 } };
    const int wide = ROWS * lanes;
    int power = 0;
    while (power < 63 && (uint64_t)1 << power < n)
        power++;                        /* ceil(log2 n) */
    power = power / LEVELS > 4 ? power / LEVELS : 4;
    const uint64_t step = (uint64_t)1 << power;
    uint64_t i = 0;
    while (i + step <= n) {
        for (uint64_t j = 0; j < step; j++, i++)
            add_lanes(acc[0], x + i * (uint64_t)wide, wide);
        for (int k = 1; k < LEVELS; k++) {
            add_lanes(acc[k], acc[k - 1], wide);
            memset(acc[k - 1], 0, sizeof acc[k - 1]);
            if (i & (step - 1) << (k * power))
                break;
        }
    }
    for (; i < n; i++)
        add_lanes(acc[0], x + i * (uint64_t)wide, wide);
    for (int k = 1; k < LEVELS; k++)
        add_lanes(acc[0], acc[k], wide);
    memcpy(out, acc[0], sizeof acc[0]);
}

/* The sum of n floats as PyTorch makes it with AVX2 or AVX-512 and one
 * thread: vectors of 8 lanes, fewer than 8 values one by one. */
static float torch_sum(const float *x, uint64_t n)
{
    float part[ROWS * LANES];
    const int lanes = n < LANES ? 1 : LANES;
    const uint64_t vectors = n / (uint64_t)lanes, rows = vectors / ROWS;
    row_sums(part, x, rows, lanes);
    for (uint64_t v = rows * ROWS; v < vectors; v++)
        add_lanes(part, x + v * (uint64_t)lanes, lanes);
    for (int k = 1; k < ROWS; k++)
        add_lanes(part, part + k * lanes, lanes);
    if (lanes == 1)
        return part[0];
    float sum = 0;
    for (uint64_t i = vectors * LANES; i < n; i++)
        sum += x[i];
    for (int i = 0; i < LANES; i++)
        sum += part[i];
    return sum;
}

/* One nested block: its largest magnitude and the nearest codes. */
static float nest_block(uint8_t *codes8, const float *x, size_t n,
                        const bise_dynmap *map)
{
    const float most = absmax_of(x, n), inverse = 1.0f / most;
    for (size_t i = 0; i < n; i++)
        codes8[i] = most > 0 ? bise_dynmap_code_grid(map, x[i] * inverse) : 0;
    return most;
}

float bise_nf4_nest(uint8_t *codes8, float *nested, float *absmax,
                    uint64_t blocks, const bise_dynmap *map)
{
    const float offset = torch_sum(absmax, blocks) / (float)blocks;
    for (uint64_t b = 0; b < blocks; b++)
        absmax[b] -= offset;
    for (uint64_t b = 0; b < blocks; b += BISE_NF4_NESTED) {
        const uint64_t left = blocks - b;
        const size_t n = left < BISE_NF4_NESTED ? left : BISE_NF4_NESTED;
        nested[b / BISE_NF4_NESTED] = nest_block(codes8 + b, absmax + b, n,
                                                 map);
    }
    return offset;
}
