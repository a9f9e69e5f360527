/* inputs.c - the kinds of weights of inputs.h: normal, heavy tails, zeros,
 * subnormals, outliers, constants, ties and values near the ends of float32.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/kernelcheck/inputs.h"

#include <math.h>

#include "core/bytes.h"
#include "core/rng.h"

static const char *const names[INPUT_KINDS] = {
    "normal", "heavy tails", "mostly zeros", "zero groups", "subnormal",
    "one outlier", "constant", "powers of two", "alternating signs", "tiny",
    "huge", "positive", "negative", "ties", "bf16 steps", "mixed scales"
};

const char *input_name(int kind)
{
    return names[kind];
}

/* Standard normal by Box and Muller. */
static double normal(uint64_t seed, uint64_t i)
{
    const double u = bise_rng_f64(seed, 1, i), v = bise_rng_f64(seed, 2, i);
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

static double value(int kind, uint64_t seed, uint64_t i)
{
    const double z = normal(seed, i), u = bise_rng_f64(seed, 3, i);
    const uint64_t r = bise_rng_u64(seed, 4, i);
    switch (kind) {
    case 1: return 0.02 * z / (0.01 + u);
    case 2: return u < 0.9 ? 0 : z;
    case 3: return bise_rng_u64(seed, 5, i / 16) & 1 ? 0 : z;
    case 4: return z * 1e-40;
    case 5: return i % 509 == 77 ? 50 : 0.01 * z;
    case 6: return normal(seed, i / 256);
    case 7: return ldexp(z < 0 ? -1 : 1, (int)(r % 15) - 12);
    case 8: return i & 1 ? fabs(z) : -fabs(z);
    case 9: return z * 1e-17;
    case 10: return z * 1e6;
    case 11: return fabs(z) + 0.1;
    case 12: return -fabs(z) - 3;
    case 13: return ((int)(r % 17) - 8) / 8.0;
    case 15: return ldexp(z, (int)(r % 50) - 40);
    default: return z * 0.02;
    }
}

void input_fill(float *x, size_t n, int kind, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)value(kind, seed, i);
        if (kind == 14)     /* as weights of a bf16 checkpoint */
            x[i] = bise_bf16_to_f32(bise_f32_to_bf16(x[i]));
    }
}
