/* ops_simd.h - the graph's row operations on vectors of VN floats, included
 * once per instruction set by a file that defines the vector primitives below
 * (V, VN, v_*) and FN(name). Partial vectors at the end are loaded with zeros
 * and stored masked, so there are no scalar tails. The formulas stand in
 * kernels/ref/ops_ref.c. Sums run in four accumulators that are added in a
 * fixed order.
 */
/* SPDX-License-Identifier: Apache-2.0 */
/* No include guard: each including file has its own copy. */

/* exp(x): x = n ln 2 + r with |r| <= ln 2 / 2, exp(r) by its Taylor polynomial
 * of degree 7 (remainder 2e-8 relative to the last bit kept), times 2^n in two
 * steps so that results fade into denormals and 0. Error below 2 ulp. */
static inline V v_exp(V x)
{
    x = v_min(v_max(x, v_set(-104.0f)), v_set(89.0f));
    const V n = v_round(v_mul(x, v_set(1.44269504088896341f)));
    V r = v_fma(n, v_set(-0.693145751953125f), x);
    r = v_fma(n, v_set(-1.42860682030941723e-6f), r);
    V p = v_set(1.0f / 5040);
    p = v_fma(p, r, v_set(1.0f / 720));
    p = v_fma(p, r, v_set(1.0f / 120));
    p = v_fma(p, r, v_set(1.0f / 24));
    p = v_fma(p, r, v_set(1.0f / 6));
    p = v_fma(p, r, v_set(0.5f));
    p = v_fma(p, r, v_set(1.0f));
    p = v_fma(p, r, v_set(1.0f));
    return v_scale2(p, n);
}

/* Vector at x[i]: whole, or the n - i values that are left. */
static inline V v_at(const float *x, size_t i, size_t n)
{
    return i + VN <= n ? v_load(x + i) : v_loadn(x + i, n - i);
}

static inline void v_put(float *y, size_t i, size_t n, V v)
{
    if (i + VN <= n)
        v_store(y + i, v);
    else
        v_storen(y + i, v, n - i);
}

/* Four accumulators hide the latency of the fused multiply-add. */
static float FN(dot)(const float *x, const float *y, size_t n)
{
    V a = v_set(0), b = a, c = a, d = a;
    size_t i = 0;
    for (; i + 4 * VN <= n; i += 4 * VN) {
        a = v_fma(v_load(x + i), v_load(y + i), a);
        b = v_fma(v_load(x + i + VN), v_load(y + i + VN), b);
        c = v_fma(v_load(x + i + 2 * VN), v_load(y + i + 2 * VN), c);
        d = v_fma(v_load(x + i + 3 * VN), v_load(y + i + 3 * VN), d);
    }
    for (; i < n; i += VN)
        a = v_fma(v_at(x, i, n), v_at(y, i, n), a);
    return v_sum(v_add(v_add(a, b), v_add(c, d)));
}

/* Rows of 16-bit weights; load widens VN of them. */
#define DOT16(name, load) \
    static float FN(name)(const uint16_t *x, const float *y, size_t n) \
    { \
        V a = v_set(0), b = a, c = a, d = a; \
        size_t i = 0; \
        for (; i + 4 * VN <= n; i += 4 * VN) { \
            a = v_fma(load(x + i), v_load(y + i), a); \
            b = v_fma(load(x + i + VN), v_load(y + i + VN), b); \
            c = v_fma(load(x + i + 2 * VN), v_load(y + i + 2 * VN), c); \
            d = v_fma(load(x + i + 3 * VN), v_load(y + i + 3 * VN), d); \
        } \
        uint16_t rest[VN] = { 0 }; \
        for (; i < n; i += VN) { \
            const size_t m = n - i < VN ? n - i : VN; \
            memcpy(rest, x + i, m * sizeof *rest); \
            memset(rest + m, 0, (VN - m) * sizeof *rest); \
            a = v_fma(load(rest), v_at(y, i, n), a); \
        } \
        return v_sum(v_add(v_add(a, b), v_add(c, d))); \
    }
DOT16(dot_bf16, v_load_bf16)
DOT16(dot_f16, v_load_f16)

/* One rounding for product and sum, unlike the reference. */
static void FN(axpy)(float *y, float a, const float *x, size_t n)
{
    const V va = v_set(a);
    for (size_t i = 0; i < n; i += VN)
        v_put(y, i, n, v_fma(va, v_at(x, i, n), v_at(y, i, n)));
}

/* Used to rescale attention outputs and to finish softmax rows. */
static void FN(scale)(float *y, float a, size_t n)
{
    const V va = v_set(a);
    for (size_t i = 0; i < n; i += VN)
        v_put(y, i, n, v_mul(va, v_at(y, i, n)));
}

/* NaN is not expected here: activations are checked by the trainer. */
static float FN(max)(const float *x, size_t n)
{
    float m = x[0];
    size_t i = 0;
    if (n >= VN) {
        V v = v_load(x);
        for (i = VN; i + VN <= n; i += VN)
            v = v_max(v, v_load(x + i));
        m = v_hmax(v);
    }
    for (; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

/* The mean is formed in double, as in the reference. */
static float FN(rmsnorm)(float *y, const float *x, const float *w, size_t n,
                         float eps)
{
    const double mean = FN(sumsq)(x, n) / (double)n;
    const float r = (float)(1.0 / sqrt(mean + (double)eps));
    const V vr = v_set(r);
    for (size_t i = 0; i < n; i += VN)
        v_put(y, i, n, v_mul(v_mul(v_at(x, i, n), vr), v_at(w, i, n)));
    return r;
}

/* Two passes as in the reference; the mean runs in float32. */
static void FN(rmsnorm_bwd)(float *dx, float *dw, const float *dy,
                            const float *x, const float *w, float r, size_t n)
{
    V a = v_set(0);
    for (size_t i = 0; i < n; i += VN)          /* pass 1: r^2 mean(g x) */
        a = v_fma(v_mul(v_at(dy, i, n), v_at(w, i, n)), v_at(x, i, n), a);
    const float m = v_sum(a) / (float)n * r * r;
    const V vm = v_set(-m), vr = v_set(r);
    for (size_t i = 0; i < n; i += VN) {        /* pass 2: both gradients */
        const V xi = v_at(x, i, n), d = v_at(dy, i, n);
        const V g = v_fma(xi, vm, v_mul(d, v_at(w, i, n)));
        v_put(dx, i, n, v_fma(vr, g, v_at(dx, i, n)));
        if (dw)
            v_put(dw, i, n, v_fma(v_mul(d, xi), vr, v_at(dw, i, n)));
    }
}

/* 1 / (1 + exp(-g)) */
static inline V v_sigmoid(V g)
{
    const V one = v_set(1);
    return v_div(one, v_add(one, v_exp(v_sub(v_set(0), g))));
}

/* h may be g or u: a vector is read before it is written. */
static void FN(swiglu)(float *h, const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i += VN) {
        const V gi = v_at(g, i, n);
        v_put(h, i, n, v_mul(v_mul(gi, v_sigmoid(gi)), v_at(u, i, n)));
    }
}

/* May run in place for the same reason. */
static void FN(swiglu_bwd)(float *dg, float *du, const float *dh,
                           const float *g, const float *u, size_t n)
{
    const V one = v_set(1);
    for (size_t i = 0; i < n; i += VN) {
        const V gi = v_at(g, i, n), ui = v_at(u, i, n), s = v_sigmoid(gi);
        const V ds = v_mul(v_at(dh, i, n), s);
        const V f = v_fma(gi, v_sub(one, s), one);
        v_put(du, i, n, v_mul(ds, gi));
        v_put(dg, i, n, v_mul(v_mul(ds, ui), f));
    }
}

/* Both halves of the head stream side by side. */
static void FN(rope)(float *x, const float *cos, const float *sin, size_t n)
{
    const size_t half = n / 2;
    for (size_t i = 0; i < half; i += VN) {
        const V a = v_at(x, i, half), b = v_at(x + half, i, half);
        const V c = v_at(cos, i, half), s = v_at(sin, i, half);
        v_put(x, i, half, v_sub(v_mul(a, c), v_mul(b, s)));
        v_put(x + half, i, half, v_add(v_mul(b, c), v_mul(a, s)));
    }
}

/* Lanes past the end must not count: they are loaded as -inf below. */
static inline V v_at_or(const float *x, size_t i, size_t n, float other)
{
    float rest[VN];
    if (i + VN <= n)
        return v_load(x + i);
    for (size_t j = 0; j < VN; j++)
        rest[j] = i + j < n ? x[i + j] : other;
    return v_load(rest);
}

/* Lanes past the end are exp(-inf) = 0 in the sum. */
static float FN(exp_sub)(float *x, size_t n, float m)
{
    const V vm = v_set(m);
    V sum = v_set(0);
    for (size_t i = 0; i < n; i += VN) {
        const V e = v_exp(v_sub(v_at_or(x, i, n, -INFINITY), vm));
        v_put(x, i, n, e);
        sum = v_add(sum, e);
    }
    return v_sum(sum);
}

/* Two passes: the maximum first. */
static float FN(softmax_exp)(float *x, size_t n, float *max_out)
{
    *max_out = FN(max)(x, n);
    return FN(exp_sub)(x, n, *max_out);
}

/* As exp_sub, but nothing is written. */
static float FN(sumexp)(const float *x, size_t n, float *max_out)
{
    const float m = FN(max)(x, n);
    const V vm = v_set(m);
    V sum = v_set(0);
    for (size_t i = 0; i < n; i += VN)
        sum = v_add(sum, v_exp(v_sub(v_at_or(x, i, n, -INFINITY), vm)));
    *max_out = m;
    return v_sum(sum);
}

/* Rows outside the mask have p = 0 and so ds = 0. */
static void FN(softmax_bwd)(float *ds, const float *p, const float *dp,
                            float delta, float a, size_t n)
{
    const V vd = v_set(delta), va = v_set(a);
    for (size_t i = 0; i < n; i += VN)
        v_put(ds, i, n, v_mul(v_mul(v_at(p, i, n),
                                    v_sub(v_at(dp, i, n), vd)), va));
}

/* Exact. */
static void FN(bf16_to_f32)(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + VN <= n; i += VN)
        v_store(y + i, v_load_bf16(x + i));
    for (; i < n; i++)
        y[i] = bise_bf16_to_f32(x[i]);
}

/* Exact; NaN payloads may differ from the scalar code. */
static void FN(f16_to_f32)(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; i + VN <= n; i += VN)
        v_store(y + i, v_load_f16(x + i));
    for (; i < n; i++)
        y[i] = bise_f16_to_f32(x[i]);
}

/* The tail goes through the scalar conversion: same bits. */
static void FN(f32_to_bf16)(uint16_t *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + VN <= n; i += VN)
        v_store_bf16(y + i, v_load(x + i));
    for (; i < n; i++)
        y[i] = bise_f32_to_bf16(x[i]);
}

/* Put every operation of this file into its slot. */
static void FN(fill)(bise_kernels *k)
{
    k->dot = FN(dot);
    k->dot_bf16 = FN(dot_bf16);
    k->dot_f16 = FN(dot_f16);
    k->sumsq = FN(sumsq);
    k->axpy = FN(axpy);
    k->scale = FN(scale);
    k->max = FN(max);
    k->rmsnorm = FN(rmsnorm);
    k->rmsnorm_bwd = FN(rmsnorm_bwd);
    k->swiglu = FN(swiglu);
    k->swiglu_bwd = FN(swiglu_bwd);
    k->rope = FN(rope);
    k->exp_sub = FN(exp_sub);
    k->softmax_exp = FN(softmax_exp);
    k->sumexp = FN(sumexp);
    k->softmax_bwd = FN(softmax_bwd);
    k->f32_to_bf16 = FN(f32_to_bf16);
    k->bf16_to_f32 = FN(bf16_to_f32);
    k->f16_to_f32 = FN(f16_to_f32);
}
