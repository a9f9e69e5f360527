/* rope.c - tables of rotary position embedding: plain and YaRN frequencies
 * with the factor on cos and sin, and the query scale of Ministral 3
 * (mistral3.md 3.2 to 3.4). Called once per graph, in double.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/config.h"

#include <math.h>

/* Pair index at which a wave turns b times within the original context. */
static double ramp_edge(const bise_rope *r, int32_t n, double b)
{
    const double two_pi = 6.283185307179586;
    return n * log(r->original_max / (two_pi * b)) / (2 * log(r->theta));
}

/* g(S, m) of the YaRN paper, section 3.4: attention temperature. */
static double magnitude(double s, double m)
{
    return s <= 1 ? 1 : 0.1 * m * log(s) + 1;
}

/* The explicit factor, the ratio of the two magnitudes, or that of the factor
 * alone (mistral3.md 3.3). */
static double yarn_factor(const bise_rope *r)
{
    if (!isnan(r->attention_factor))
        return r->attention_factor;
    /* Comparisons with NaN are false: an absent key counts as zero. */
    if (fabs(r->mscale) > 0 && fabs(r->mscale_all_dim) > 0)
        return magnitude(r->factor, r->mscale) /
               magnitude(r->factor, r->mscale_all_dim);
    return magnitude(r->factor, 1);
}

/* Static at every position, short prompts included: the ramp belongs to the
 * trained model, not to the length of the input. */
void bise_rope_freqs(const bise_rope *r, int32_t n, double *freq,
                     double *factor)
{
    *factor = r->yarn ? yarn_factor(r) : 1;
    double low = 0, high = 0;
    if (r->yarn) {
        low = ramp_edge(r, n, r->beta_fast);
        high = ramp_edge(r, n, r->beta_slow);
        if (r->truncate) {
            low = floor(low);
            high = ceil(high);
        }
        low = fmax(low, 0);
        high = fmin(high, n - 1);
        if (low == high)
            high += 0.001;    /* as the reference: no division by zero */
    }
    for (int32_t i = 0; i < n / 2; i++) {
        const double extrap = pow(r->theta, -2.0 * i / n);
        if (!r->yarn) {
            freq[i] = extrap;
            continue;
        }
        /* Low pairs keep their wave, high pairs are stretched by F. */
        const double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
        freq[i] = extrap * (1 - ramp) + extrap / r->factor * ramp;
    }
}

/* NaN, the absent key, fails the comparison like zero. */
double bise_rope_mla_alpha(const bise_rope *r, int32_t D)
{
    double m = 1;
    if (r->yarn && fabs(r->mscale_all_dim) > 0)
        m = magnitude(r->factor, r->mscale_all_dim);
    return m * m / sqrt((double)D);
}

/* A step function: 1 below the original length, then slowly growing. */
double bise_rope_qscale(const bise_rope *r, int64_t position)
{
    if (r->qscale_beta == 0 || !(r->original_max > 0))
        return 1;
    return 1 + r->qscale_beta *
               log(1 + floor((double)position / r->original_max));
}
