/* sampler.h - next-token choice from logits: temperature, top-k, top-p, min-p;
 * deterministic for a seed. Temperature 0 is greedy (lowest id on ties).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_SAMPLER_H
#define BISE_MODEL_SAMPLER_H

#include <stdint.h>

#include "core/error.h"

typedef struct bise_sampler {
    double temp, top_p, min_p;
    int32_t top_k;
    uint64_t seed, step;  /* step counts the tokens drawn */
    void *scratch;        /* private */
    int32_t V;
} bise_sampler;

BISE_NODISCARD bise_status bise_sampler_init(bise_sampler *s, int32_t V,
                                             bise_error *err);
/* Choose from logits [V]. */
int32_t bise_sampler_next(bise_sampler *s, const float *logits);
void bise_sampler_fini(bise_sampler *s);

#endif
