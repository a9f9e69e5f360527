/* xxh64.c - XXH64 written from its specification (xxhash_spec.md, "XXH64
 * algorithm"): four accumulators over 32-byte stripes, merged, then the tail.
 * libzstd has the same inside but does not export it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "formats/xxh64.h"

#include "core/bytes.h"

static const uint64_t P1 = 0x9e3779b185ebca87u, P2 = 0xc2b2ae3d27d4eb4fu,
    P3 = 0x165667b19e3779f9u, P4 = 0x85ebca77c2b2ae63u,
    P5 = 0x27d4eb2f165667c5u;

/* Compilers turn this into one instruction. */
static uint64_t rotl(uint64_t v, int n)
{
    return v << n | v >> (64 - n);
}

/* One lane into its accumulator. */
static uint64_t round64(uint64_t acc, uint64_t lane)
{
    return rotl(acc + lane * P2, 31) * P1;
}

/* Steps 2 and 3 of the specification: stripes, then convergence. */
static uint64_t stripes(const uint8_t **p, const uint8_t *end)
{
    uint64_t a = P1 + P2, b = P2, c = 0, d = 0 - P1;
    do {
        a = round64(a, bise_load_le64(*p));
        b = round64(b, bise_load_le64(*p + 8));
        c = round64(c, bise_load_le64(*p + 16));
        d = round64(d, bise_load_le64(*p + 24));
        *p += 32;
    } while (end - *p >= 32);
    uint64_t h = rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18);
    h = (h ^ round64(0, a)) * P1 + P4;
    h = (h ^ round64(0, b)) * P1 + P4;
    h = (h ^ round64(0, c)) * P1 + P4;
    return (h ^ round64(0, d)) * P1 + P4;
}

/* Short inputs start from P5 instead of the stripes. */
uint64_t bise_xxh64(const void *data, size_t n)
{
    const uint8_t *p = data, *end = p + n;
    uint64_t h = n >= 32 ? stripes(&p, end) : P5;
    h += n;
    for (; end - p >= 8; p += 8)                /* step 5: the tail */
        h = rotl(h ^ round64(0, bise_load_le64(p)), 27) * P1 + P4;
    if (end - p >= 4) {
        h = rotl(h ^ (uint64_t)bise_load_le32(p) * P1, 23) * P2 + P3;
        p += 4;
    }
    for (; p < end; p++)
        h = rotl(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;                     /* step 6: mix */
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}
