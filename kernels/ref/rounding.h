/* rounding.h - float to integer conversions of the reference quantizers, with
 * the results of x86 for values out of range (infinity from the inverse of a
 * subnormal scale), where C leaves them undefined.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_REF_ROUNDING_H
#define BISE_KERNELS_REF_ROUNDING_H

#include <math.h>
#include <stdint.h>

/* Truncate; what does not fit in 32 bits (or is NaN) becomes INT32_MIN. */
static inline int32_t bise_trunc_i32(float v)
{
    return fabsf(v) < 2147483648.0f ? (int32_t)v : INT32_MIN;
}

/* Truncate, then keep the low 8 bits as a signed value. */
static inline int bise_trunc_i8(float v)
{
    return (int8_t)(uint8_t)bise_trunc_i32(v);
}

/* 1/d, 0 for a zero scale. */
static inline float bise_inverse(float d)
{
    return d != 0 ? 1.0f / d : 0.0f;
}

#endif
