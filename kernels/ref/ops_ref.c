/* ops_ref.c - the scalar reference of every elementwise and row operation of
 * the graph, forward and backward. It reads like the formulas of mistral3.md 3
 * and is what kernelcheck holds the SIMD versions against. Sums that decide a
 * row (norms, softmax denominators) run in double and are rounded once.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/kernels.h"

#include <math.h>

#include "core/bytes.h"

/* Sums in double, so that the reference is nearer to the exact value than any
 * SIMD order of float32 sums. */
static float dot_ref(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * y[i];
    return (float)sum;
}

/* A stored bfloat16 row against activations. */
static float dot_bf16_ref(const uint16_t *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)bise_bf16_to_f32(x[i]) * y[i];
    return (float)sum;
}

/* The same for binary16. */
static float dot_f16_ref(const uint16_t *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)bise_f16_to_f32(x[i]) * y[i];
    return (float)sum;
}

static double sumsq_ref(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

/* Product and sum round separately: no contraction anywhere. */
static void axpy_ref(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static void scale_ref(float *y, float a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] *= a;
}

static float max_ref(const float *x, size_t n)
{
    float m = x[0];
    for (size_t i = 1; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

/* RMSNorm (Zhang and Sennrich 2019): y = x r w, r = 1/sqrt(mean(x^2) + eps).
 * x, w, y: [n]. */
static float rmsnorm_ref(float *y, const float *x, const float *w, size_t n,
                         float eps)
{
    const double mean = sumsq_ref(x, n) / (double)n;
    const float r = (float)(1.0 / sqrt(mean + (double)eps));
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * r * w[i];
    return r;
}

/* RMSNorm, backward. With g = dy w and dr/dx_i = -r^3 x_i / n:
 *   dw += dy x r;   dx_i += r g_i + dr/dx_i sum(g x) = r (g_i - x_i r^2 m)
 * where m = mean(g x). Gradients accumulate: the caller zeroes them. */
static void rmsnorm_bwd_ref(float *dx, float *dw, const float *dy,
                            const float *x, const float *w, float r, size_t n)
{
    double dot = 0;
    for (size_t i = 0; i < n; i++)              /* pass 1: r^2 mean(g x) */
        dot += (double)dy[i] * w[i] * x[i];
    const float m = (float)(dot / (double)n) * r * r;
    for (size_t i = 0; i < n; i++) {            /* pass 2: both gradients */
        if (dw)
            dw[i] += dy[i] * x[i] * r;
        dx[i] += r * (dy[i] * w[i] - x[i] * m);
    }
}

/* SwiGLU (Shazeer 2020): h = silu(g) u, silu(g) = g / (1 + exp(-g)). */
static void swiglu_ref(float *h, const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h[i] = g[i] / (1.0f + expf(-g[i])) * u[i];
}

/* SwiGLU, backward. With s = 1/(1 + exp(-g)) and silu'(g) = s (1 + g (1 - s)):
 *   du = dh g s;   dg = dh u s (1 + g (1 - s)). */
static void swiglu_bwd_ref(float *dg, float *du, const float *dh,
                           const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float gi = g[i], ui = u[i];
        const float s = 1.0f / (1.0f + expf(-gi));
        du[i] = dh[i] * gi * s;
        dg[i] = dh[i] * ui * s * (1.0f + gi * (1.0f - s));
    }
}

/* RoPE (Su et al. 2021) on one head, pairs (i, i + n/2). The rotation is
 * orthogonal up to the factor m in cos and sin, so the backward pass is the
 * same call with -sin: dx = m R(-phi) dy. */
static void rope_ref(float *x, const float *cos, const float *sin, size_t n)
{
    const size_t half = n / 2;
    for (size_t i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

/* exp(-inf) is 0: masked entries vanish from the sum. */
static float exp_sub_ref(float *x, size_t n, float m)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - m);
        sum += (double)x[i];
    }
    return (float)sum;
}

/* Subtracting the maximum keeps every exponential at most 1. */
static float softmax_exp_ref(float *x, size_t n, float *max_out)
{
    *max_out = max_ref(x, n);
    return exp_sub_ref(x, n, *max_out);
}

/* The same without writing: x may be read again. */
static float sumexp_ref(const float *x, size_t n, float *max_out)
{
    const float m = max_ref(x, n);
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)expf(x[i] - m);
    *max_out = m;
    return (float)sum;
}

/* Softmax, backward. p_j = exp(s_j)/sum: dp_i/ds_j = p_i (1[i=j] - p_j), so
 * ds_j = p_j (dp_j - sum_i p_i dp_i) = p_j (dp_j - delta). In attention delta
 * = dO . O, which needs no row of P; a is the score scale of S = a q k. */
static void softmax_bwd_ref(float *ds, const float *p, const float *dp,
                            float delta, float a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ds[i] = p[i] * (dp[i] - delta) * a;
}

/* Round to nearest even (core/bytes.h). */
static void f32_to_bf16_ref(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = bise_f32_to_bf16(x[i]);
}

static void bf16_to_f32_ref(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = bise_bf16_to_f32(x[i]);
}

static void f16_to_f32_ref(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = bise_f16_to_f32(x[i]);
}

/* Every slot gets a function: nothing else has to check for NULL. */
void bise_kernels_init_ref(bise_kernels *k)
{
    *k = (bise_kernels){
        .level = BISE_CPU_REF,
        .dot = dot_ref,
        .dot_bf16 = dot_bf16_ref,
        .dot_f16 = dot_f16_ref,
        .sumsq = sumsq_ref,
        .axpy = axpy_ref,
        .scale = scale_ref,
        .max = max_ref,
        .rmsnorm = rmsnorm_ref,
        .rmsnorm_bwd = rmsnorm_bwd_ref,
        .swiglu = swiglu_ref,
        .swiglu_bwd = swiglu_bwd_ref,
        .rope = rope_ref,
        .exp_sub = exp_sub_ref,
        .softmax_exp = softmax_exp_ref,
        .sumexp = sumexp_ref,
        .softmax_bwd = softmax_bwd_ref,
        .f32_to_bf16 = f32_to_bf16_ref,
        .bf16_to_f32 = bf16_to_f32_ref,
        .f16_to_f32 = f16_to_f32_ref,
    };
}
