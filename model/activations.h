/* activations.h - inputs of matrix products as llama.cpp's CPU backend sees
 * them: it multiplies quantized weights with activations that it has rounded
 * to 8 bits first (ggml's vec_dot_type), so that figures measured there hold
 * this rounding too. bise computes with the float32 values unless asked.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_ACTIVATIONS_H
#define BISE_MODEL_ACTIVATIONS_H

#include <stddef.h>

#include "core/dtype.h"

/* x [n] rounded as an input of weights of this type, into y [n]:
 *   32-weight types      Q8_0: amax / 127 stored as f16, per 32 values
 *   256-weight types     Q8_K: signed maximum / -127 in f32, per 256 values
 *   F16, BF16            the type itself
 *   others               unchanged
 * n is a multiple of the weight type's block length. */
void bise_round_activations(bise_dtype weight, float *y, const float *x,
                            size_t n);

#endif
