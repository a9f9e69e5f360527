/* kernels.h - the table of compute kernels. bise_kernels_init fills every slot
 * with the scalar reference, then each instruction set replaces what it does
 * better; afterwards the table is const and passed down. Float kernels may
 * differ between levels by rounding; each slot says its bound. Sums inside a
 * slot have a fixed order for a level, so results do not depend on threads.
 * All pointers are float32 arrays unless said otherwise; no aliasing between
 * outputs and inputs unless said.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_KERNELS_H
#define BISE_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "core/cpu.h"

/* Bounds between levels (e = 2^-24, relative unless said): sums n e of the sum
 * of magnitudes; exp and what uses it 8 e; conversions are exact. */
typedef struct bise_kernels {
    bise_cpu level;
    /* sum of x[i] y[i] */
    float (*dot)(const float *x, const float *y, size_t n);
    /* the same with x in bfloat16 or binary16: rows of a stored weight */
    float (*dot_bf16)(const uint16_t *x, const float *y, size_t n);
    float (*dot_f16)(const uint16_t *x, const float *y, size_t n);
    /* sum of squares in double */
    double (*sumsq)(const float *x, size_t n);
    /* y += a x;  y = a y;  largest value (n > 0) */
    void (*axpy)(float *y, float a, const float *x, size_t n);
    void (*scale)(float *y, float a, size_t n);
    float (*max)(const float *x, size_t n);
    /* y = x r w with r = 1/sqrt(mean(x^2) + eps); returns r. y may be x. */
    float (*rmsnorm)(float *y, const float *x, const float *w, size_t n,
                     float eps);
    /* dx += gradient, from dy, x, w and the r of the forward; dw may be NULL,
     * else dw += gradient. */
    void (*rmsnorm_bwd)(float *dx, float *dw, const float *dy, const float *x,
                        const float *w, float r, size_t n);
    /* h = silu(g) u; h may be g or u */
    void (*swiglu)(float *h, const float *g, const float *u, size_t n);
    /* dg, du from dh (overwritten, not added); may alias g and u */
    void (*swiglu_bwd)(float *dg, float *du, const float *dh, const float *g,
                       const float *u, size_t n);
    /* Rotate one head in place, half layout: pairs (i, i + n/2); cos and sin
     * hold n/2 values each, already times the YaRN factor. Pass -sin for the
     * inverse. */
    void (*rope)(float *x, const float *cos, const float *sin, size_t n);
    /* In place: x = exp(x - m); returns the sum. x = -inf gives 0. */
    float (*exp_sub)(float *x, size_t n, float m);
    /* In place: x = exp(x - max) ; returns the sum; *max_out gets the max. */
    float (*softmax_exp)(float *x, size_t n, float *max_out);
    /* Max and sum of exp(x - max) without writing: for logsumexp. */
    float (*sumexp)(const float *x, size_t n, float *max_out);
    /* ds = p (dp - delta) a, where p = softmax(s): the gradient of scores
     * scaled by a. ds may be dp. */
    void (*softmax_bwd)(float *ds, const float *p, const float *dp,
                        float delta, float a, size_t n);
    /* Conversions of n values. */
    void (*f32_to_bf16)(uint16_t *y, const float *x, size_t n);
    void (*bf16_to_f32)(float *y, const uint16_t *x, size_t n);
    void (*f16_to_f32)(float *y, const uint16_t *x, size_t n);
} bise_kernels;

/* Fill the table for a level. */
void bise_kernels_init(bise_kernels *k, bise_cpu level);
void bise_kernels_init_ref(bise_kernels *k);
void bise_kernels_init_x86(bise_kernels *k, bise_cpu level);
/* The table of bise_cpu_level(), made once. */
const bise_kernels *bise_kernels_get(void);

#endif
