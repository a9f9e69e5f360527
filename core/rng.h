/* rng.h - a counter random generator: the value is a pure function of (seed,
 * stream, index), so nothing has to be saved to resume and any thread may draw
 * any value. The mixer is the finalizer of SplitMix64 (Steele, Lea, Flood
 * 2014) applied to a Weyl sequence per stream.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_RNG_H
#define BISE_CORE_RNG_H

#include <stdint.h>

/* SplitMix64 finalizer: a bijection that spreads every input bit. */
static inline uint64_t bise_mix64(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 64 random bits for an index of a stream of a seed. */
static inline uint64_t bise_rng_u64(uint64_t seed, uint64_t stream,
                                    uint64_t index)
{
    const uint64_t key = bise_mix64(seed + 0x9e3779b97f4a7c15u * (stream + 1));
    return bise_mix64(key + 0x9e3779b97f4a7c15u * (index + 1));
}

/* Uniform in [0, 1), 24 bits in float, 53 in double. */
static inline float bise_rng_f32(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (float)(bise_rng_u64(seed, stream, index) >> 40) * 0x1p-24f;
}

static inline double bise_rng_f64(uint64_t seed, uint64_t stream,
                                  uint64_t index)
{
    return (double)(bise_rng_u64(seed, stream, index) >> 11) * 0x1p-53;
}

/* Uniform whole number below n (n > 0) by multiply-shift. */
static inline uint64_t bise_rng_below(uint64_t seed, uint64_t stream,
                                      uint64_t index, uint64_t n)
{
    const double u = bise_rng_f64(seed, stream, index);
    const uint64_t v = (uint64_t)(u * (double)n);
    return v < n ? v : n - 1;
}

#endif
