/* search.c - scalar scale searches (gguf.md 5.3 and 5.6), the truth for the
 * SIMD encoders. Plain loops: do not reorder sums or merge products.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/ref/search.h"

#include <math.h>
#include <string.h>

#include "kernels/block.h"

/* The first of equal magnitudes counts. */
float bise_signed_max(const float *x, int n)
{
    float amax = 0, max = 0;
    for (int i = 0; i < n; i++) {
        const float a = fabsf(x[i]);
        if (a > amax) {
            amax = a;
            max = x[i];
        }
    }
    return max;
}

/* In index order. */
float bise_sum(const float *x, int n)
{
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* Importance of a column grows with the magnitude of the weight. */
void bise_importance(float *w, const float *x, const float *qw, float sigma2,
                     int n)
{
    for (int i = 0; i < n; i++)
        w[i] = qw[i] * sqrtf(sigma2 + x[i] * x[i]);
}

/* Squares stand in for importance. */
void bise_iq4_weights(float *w, const float *x, const float *qw, float sigma2,
                      int n)
{
    if (qw) {
        bise_importance(w, x, qw, sigma2, n);
        return;
    }
    for (int i = 0; i < n; i++)
        w[i] = x[i] * x[i];
}

/* The largest scale gets nmax; a negative one wraps as a byte. */
float bise_linear_codes(uint8_t *code, const float *x, int n, int nmax)
{
    float max = 0;
    for (int i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    if (!(max > 0)) {
        memset(code, 0, (size_t)n);
        return 0;
    }
    const float iscale = (float)nmax / max;
    for (int i = 0; i < n; i++) {
        const uint8_t l = (uint8_t)bise_nearest_int(iscale * x[i]);
        code[i] = l < nmax ? l : (uint8_t)nmax;
    }
    return max / (float)nmax;
}

/* One candidate of QX: codes and the two sums of the least squares fit. */
static void qx_sums(int n, int nmax, const float *x, const float *w,
                    float iscale, uint8_t *L, float *sumlx, float *suml2)
{
    float slx = 0, sl2 = 0;
    for (int i = 0; i < n; i++) {
        int l = bise_nearest_int(iscale * x[i]);
        l = bise_clamp_int(l, -nmax, nmax - 1);
        L[i] = (uint8_t)(l + nmax);
        const float wi = w ? w[i] : x[i] * x[i];
        slx += wi * x[i] * (float)l;
        sl2 += wi * (float)l * (float)l;
    }
    *sumlx = slx;
    *suml2 = sl2;
}

/* gguf.md 5.3, QX. */
float bise_search_qx(int n, int nmax, const float *x, const float *w,
                     uint8_t *L)
{
    const float max = bise_signed_max(x, n);
    uint8_t cand[32];
    float sumlx, suml2;
    if (fabsf(max) < BISE_QUANT_EPS) {
        memset(L, 0, (size_t)n);
        return 0;
    }
    qx_sums(n, nmax, x, w, (float)-nmax / max, L, &sumlx, &suml2);
    float scale = suml2 != 0 ? sumlx / suml2 : 0;
    float best = scale * sumlx;
    /* 18 scales around the first; keep what raises the explained power */
    for (int is = -9; is <= 9; is++) {
        if (is == 0)
            continue;
        const float iscale = -((float)nmax + 0.1f * (float)is) / max;
        qx_sums(n, nmax, x, w, iscale, cand, &sumlx, &suml2);
        if (suml2 > 0 && sumlx * sumlx > best * suml2) {
            memcpy(L, cand, (size_t)n);
            scale = sumlx / suml2;
            best = scale * sumlx;
        }
    }
    return scale;
}

/* gguf.md 5.3, Q3. */
float bise_search_q3(int n, int nmax, const float *x, uint8_t *L)
{
    const float max = bise_signed_max(x, n);
    float sumlx = 0, suml2 = 0;
    int q[32];
    if (fabsf(max) < BISE_QUANT_EPS) {
        memset(L, 0, (size_t)n);
        return 0;
    }
    const float iscale = (float)-nmax / max;
    for (int i = 0; i < n; i++) {
        const int l = bise_nearest_int(iscale * x[i]);
        q[i] = bise_clamp_int(l, -nmax, nmax - 1);
        const float w = x[i] * x[i];
        sumlx += w * x[i] * (float)q[i];
        suml2 += w * (float)q[i] * (float)q[i];
    }
    /* coordinate descent: move one code to the best value given the others */
    for (int sweep = 0, changed = 1; sweep < 5 && changed; sweep++) {
        changed = 0;
        for (int i = 0; i < n; i++) {
            const float w = x[i] * x[i], l = (float)q[i];
            float slx = sumlx - w * x[i] * l, sl2 = suml2 - w * l * l;
            if (!(slx > 0))
                continue;
            int nl = bise_nearest_int(x[i] * sl2 / slx);
            nl = bise_clamp_int(nl, -nmax, nmax - 1);
            slx += w * x[i] * (float)nl;
            sl2 += w * (float)nl * (float)nl;
            if (nl != q[i] && sl2 > 0 &&
                slx * slx * suml2 > sumlx * sumlx * sl2) {
                q[i] = nl;
                sumlx = slx;
                suml2 = sl2;
                changed++;
            }
        }
    }
    for (int i = 0; i < n; i++)
        L[i] = (uint8_t)(q[i] + nmax);
    return suml2 > 0 ? sumlx / suml2 : 0;
}

/* Codes of one QKX candidate, x ~ L / iscale + min. */
static void qkx_codes(const bise_qkx *p, const float *x, float iscale,
                      float min, uint8_t *L)
{
    for (int i = 0; i < p->n; i++) {
        const int l = bise_nearest_int(iscale * (x[i] - min));
        L[i] = (uint8_t)bise_clamp_int(l, 0, p->nmax);
    }
}

static float qkx_error(const bise_qkx *p, const float *x, const float *w,
                       const uint8_t *L, float scale, float min)
{
    float sum = 0;
    for (int i = 0; i < p->n; i++) {
        const float diff = scale * (float)L[i] + min - x[i];
        sum += w[i] * (p->mad ? fabsf(diff) : diff * diff);
    }
    return sum;
}

/* Weighted least squares fit of x by scale L + min with min <= 0. False when
 * the system is singular. sw, sx: sums of w and w x. */
static bool qkx_fit(const bise_qkx *p, const float *x, const float *w,
                    const uint8_t *L, float sw, float sx, float *scale,
                    float *min)
{
    float sl = 0, sl2 = 0, sxl = 0;
    for (int i = 0; i < p->n; i++) {
        const float l = (float)L[i];
        sl += w[i] * l;
        sl2 += w[i] * l * l;
        sxl += w[i] * l * x[i];
    }
    const float det = sw * sl2 - sl * sl;
    if (!(det > 0))
        return false;
    *scale = (sw * sxl - sx * sl) / det;
    *min = (sl2 * sx - sl * sxl) / det;
    if (*min > 0) {
        *min = 0;
        *scale = sxl / sl2;
    }
    return true;
}

/* gguf.md 5.3, QKX. */
float bise_search_qkx(const bise_qkx *p, const float *x, const float *w,
                      float *the_min, uint8_t *L)
{
    float min = x[0], max = x[0], sw = w[0], sx = w[0] * x[0];
    uint8_t cand[32];
    for (int i = 1; i < p->n; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
        sw += w[i];
        sx += w[i] * x[i];
    }
    min = min > 0 ? 0 : min;
    *the_min = -min;
    if (max <= min) {
        memset(L, 0, (size_t)p->n);
        return 0;
    }
    const float nmax = (float)p->nmax, first = nmax / (max - min);
    float scale = 1 / first, cs, cm;
    qkx_codes(p, x, first, min, L);
    float best = qkx_error(p, x, w, L, scale, min);
    /* each candidate starts from the best minimum so far */
    for (int is = 0; is <= p->nstep; is++) {
        const float r = p->rmin + p->rdelta * (float)is + nmax;
        qkx_codes(p, x, r / (max - min), min, cand);
        if (!qkx_fit(p, x, w, cand, sw, sx, &cs, &cm))
            continue;
        const float err = qkx_error(p, x, w, cand, cs, cm);
        if (err < best) {
            memcpy(L, cand, (size_t)p->n);
            best = err;
            scale = cs;
            min = cm;
        }
    }
    *the_min = -min;
    return scale;
}

/* The inverse scale of smallest weighted error among nine around nmax/max. */
static float qp_iscale(int n, int nmax, const float *x, const float *w,
                       float max)
{
    float iscale = (float)nmax / max, best = 0;
    const float first = 1 / iscale;
    for (int i = 0; i < n; i++) {
        const uint8_t l = (uint8_t)bise_nearest_int(iscale * x[i]);
        const float diff = x[i] - first * (float)l;
        best += w[i] * diff * diff;
    }
    for (int is = -4; is <= 4; is++) {
        if (is == 0)
            continue;
        const float isc = (0.1f * (float)is + (float)nmax) / max;
        const float sc = 1 / isc;
        float mse = 0;
        for (int i = 0; i < n; i++) {
            int l = bise_nearest_int(isc * x[i]);
            l = l < nmax ? l : nmax;
            const float diff = x[i] - sc * (float)l;
            mse += w[i] * diff * diff;
        }
        if (mse < best) {
            best = mse;
            iscale = isc;
        }
    }
    return iscale;
}

/* gguf.md 5.3, QP. */
float bise_search_qp(int n, int nmax, const float *x, const float *w,
                     uint8_t *L)
{
    float max = 0, sumlx = 0, suml2 = 0;
    for (int i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    if (max < BISE_QUANT_EPS) {
        memset(L, 0, (size_t)n);
        return 0;
    }
    const float iscale = qp_iscale(n, nmax, x, w, max);
    for (int i = 0; i < n; i++) {
        int l = bise_nearest_int(iscale * x[i]);
        l = l < nmax ? l : nmax;
        L[i] = (uint8_t)l;
        sumlx += w[i] * x[i] * (float)l;
        suml2 += w[i] * (float)l * (float)l;
    }
    for (int sweep = 0, changed = 1; sweep < 5 && changed; sweep++) {
        changed = 0;
        for (int i = 0; i < n; i++) {
            const float l = (float)L[i];
            float slx = sumlx - w[i] * x[i] * l, sl2 = suml2 - w[i] * l * l;
            if (!(slx > 0 && sl2 > 0))
                continue;
            int nl = bise_nearest_int(x[i] * sl2 / slx);
            nl = nl < nmax ? nl : nmax;
            slx += w[i] * x[i] * (float)nl;
            sl2 += w[i] * (float)nl * (float)nl;
            if (nl != L[i] && slx * slx * suml2 > sumlx * sumlx * sl2) {
                L[i] = (uint8_t)nl;
                sumlx = slx;
                suml2 = sl2;
                changed++;
            }
        }
    }
    return suml2 > 0 ? sumlx / suml2 : 0;
}

static const int8_t iq4_values[16] = BISE_IQ4_VALUES;

/* The upper of two equally near values. */
int bise_iq4_nearest(float v)
{
    int lo = 0, hi = 15;
    if (v <= (float)iq4_values[0])
        return 0;
    if (v >= (float)iq4_values[15])
        return 15;
    while (hi - lo > 1) {
        const int mid = (lo + hi) / 2;
        if (v < (float)iq4_values[mid])
            hi = mid;
        else
            lo = mid;
    }
    return v - (float)iq4_values[lo] < (float)iq4_values[hi] - v ? lo : hi;
}

/* Sums of the fit of x by a multiple of the code book values of id x. */
static void iq4_sums(const float *x, const float *w, float id, float *sumqx,
                     float *sumq2)
{
    *sumqx = *sumq2 = 0;
    for (int i = 0; i < 32; i++) {
        const float q = (float)iq4_values[bise_iq4_nearest(id * x[i])];
        *sumqx += w[i] * q * x[i];
        *sumq2 += w[i] * q * q;
    }
}

/* gguf.md 5.6: 16 scales around -127 for the largest weight. */
float bise_search_iq4(const float *x, const float *w)
{
    const float max = bise_signed_max(x, 32);
    float qx, q2;
    if (fabsf(max) < BISE_QUANT_EPS)
        return 0;
    iq4_sums(x, w, 1 / (-max / (float)iq4_values[0]), &qx, &q2);
    float d = q2 > 0 ? qx / q2 : 0;
    float best = d * qx;
    for (int t = -7; t <= 7; t++) {
        iq4_sums(x, w, (float)(t + iq4_values[0]) / max, &qx, &q2);
        if (q2 > 0 && qx * qx > best * q2) {
            d = qx / q2;
            best = d * qx;
        }
    }
    return d;
}
