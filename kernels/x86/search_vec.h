/* search_vec.h - the scale searches of kernels/ref/search.c for W blocks at a
 * time, one block in each lane, so that every sum keeps the reference's order
 * and the bytes are equal. x[i], w[i] hold weight i of the W blocks. Two
 * searches advance together to hide the latency of the sums.
 *
 * Codes are not kept: the caller gets the inverse scale (and minimum) they
 * came from and makes them again for the few blocks that need them.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_X86_SEARCH_VEC_H
#define BISE_KERNELS_X86_SEARCH_VEC_H

#include "kernels/ref/search.h"
#include "kernels/x86/vec.h"

enum { G = 2 }; /* searches side by side */
/* A loop over them, unrolled so that their sums stay in registers. */
#define EACH(g) _Pragma("GCC unroll 2") for (int g = 0; g < G; g++)
/* QKX has long dependent steps between its passes: Q groups in pairs, so that
 * the steps of a pair run under the passes of the next. n is a constant after
 * inlining. */
enum { Q = 4, PAIR = 2 };
#define EACH_OF(n, g) _Pragma("GCC unroll 4") for (int g = 0; g < n; g++)
#define EACH_PAIR(n, g) \
    _Pragma("GCC unroll 4") for (int g = 0; g < n; g += PAIR)

/* What a search found. iscale 0: all codes are 0. */
typedef struct found {
    vf scale, min;      /* x ~ scale L - min, min as the file stores it */
    vf iscale, from;    /* L = round(iscale (x - from)), clamped */
} found;

/* Entry of largest magnitude of each lane, signed, the first of equals. */
BISE_INLINE vf v_signed_max(const vf *x, int n)
{
    vf amax = v_zero(), max = v_zero();
    for (int i = 0; i < n; i++) {
        const vf a = v_abs(x[i]);
        max = v_sel(v_gt(a, amax), x[i], max);
        amax = v_max(a, amax);
    }
    return max;
}

BISE_INLINE vf v_sum(const vf *x, int n)
{
    vf sum = v_zero();
    for (int i = 0; i < n; i++)
        sum = v_add(sum, x[i]);
    return sum;
}

BISE_INLINE vf v_sum_squares(vf sum, const vf *x, int n)
{
    for (int i = 0; i < n; i++)
        sum = v_add(sum, v_mul(x[i], x[i]));
    return sum;
}

/* Lanes whose blocks count as zero. */
BISE_INLINE vm v_negligible(vf max)
{
    return v_lt(v_abs(max), v_set(BISE_QUANT_EPS));
}

/* Sums of two QX candidates. wx[i] = w[i] x[i]. The codes cannot leave the
 * range of an int, so plain rounding is enough. */
BISE_INLINE void v_qx_sums(int n, int nmax, const vf *x, const vf *w,
                           const vf *wx, const vf *iscale, vf *slx, vf *sl2)
{
    EACH(k)
        slx[k] = sl2[k] = v_zero();
    for (int i = 0; i < n; i++)
        EACH(k) {
            vf l = v_round(v_mul(iscale[k], x[i]));
            l = v_clamp(l, (float)-nmax, (float)(nmax - 1));
            slx[k] = v_add(slx[k], v_mul(wx[i], l));
            sl2[k] = v_add(sl2[k], v_mul(v_mul(w[i], l), l));
        }
}

/* State of a search for the largest sumlx^2 / suml2. */
typedef struct v_best {
    vf scale, best, iscale;
} v_best;

/* Keep a candidate where it explains more than the best. */
BISE_INLINE void v_keep_better(v_best *b, vf slx, vf sl2, vf iscale)
{
    const vm more = v_gt(v_mul(slx, slx), v_mul(b->best, sl2));
    const vm take = m_and(v_gt(sl2, v_zero()), more);
    const vf scale = v_div(slx, sl2);
    b->scale = v_sel(take, scale, b->scale);
    b->best = v_sel(take, v_mul(scale, slx), b->best);
    b->iscale = v_sel(take, iscale, b->iscale);
}

/* Start from the first candidate, which counts whatever it explains. */
BISE_INLINE void v_keep_first(v_best *b, vf slx, vf sl2, vm usable, vf iscale)
{
    b->scale = v_sel(usable, v_div(slx, sl2), v_zero());
    b->best = v_mul(b->scale, slx);
    b->iscale = iscale;
}

/* bise_search_qx. */
BISE_INLINE found v_search_qx(int n, int nmax, const vf *x, const vf *w)
{
    const vf max = v_signed_max(x, n);
    /* candidates in the reference's order; the last one again to make pairs,
     * which changes nothing */
    static const int8_t order[20] = { 0, -9, -8, -7, -6, -5, -4, -3, -2, -1,
                                      1, 2,  3,  4,  5,  6,  7,  8,  9,  9 };
    vf wx[32], isc[2], slx[2], sl2[2];
    v_best b = { v_zero(), v_zero(), v_zero() };
    for (int i = 0; i < n; i++)
        wx[i] = v_mul(w[i], x[i]);
    for (int c = 0; c < 20; c += 2) {
        EACH(k) {
            const float r = (float)nmax + 0.1f * (float)order[c + k];
            isc[k] = v_div(v_set(-r), max);
        }
        v_qx_sums(n, nmax, x, w, wx, isc, slx, sl2);
        if (c == 0)
            v_keep_first(&b, slx[0], sl2[0],
                         m_not(v_eq(sl2[0], v_zero())), isc[0]);
        else
            v_keep_better(&b, slx[0], sl2[0], isc[0]);
        v_keep_better(&b, slx[1], sl2[1], isc[1]);
    }
    const vm none = v_negligible(max);
    const vf zero = v_zero();
    return (found){ v_sel(none, zero, b.scale), zero,
                    v_sel(none, zero, b.iscale), zero };
}

/* How a candidate's codes must be clamped to 0..nmax. */
typedef enum {
    CLAMP_LOW,  /* the largest weight cannot round above nmax */
    CLAMP_BOTH,
    CLAMP_WRAP  /* arguments may leave the range of bise_nearest_int, whose
                   wrapping must be repeated */
} clamping;

/* One QKX code. */
BISE_INLINE vf v_qkx_code(vf v, int nmax, clamping how)
{
    if (how == CLAMP_WRAP)
        return v_float(vi_clamp(v_nearest(v), 0, nmax));
    v = v_round(v);
    if (how == CLAMP_BOTH)
        return v_clamp_up(v, (float)nmax);
    return v_bits(vi_max(vi_bits(v), vi_set(0)));
}

/* Running state of one QKX search. */
typedef struct qkx_state {
    vf min, max, low;   /* best minimum, range of x */
    vf sw, sx;          /* sums of w and w x */
    vm active;          /* lanes with more than one value */
    vf best, scale, iscale, from;
} qkx_state;

/* Codes and the three sums of a candidate. */
BISE_INLINE void v_qkx_sums(const bise_qkx *p, int groups, vf (*l)[32],
                            vf *const *x, vf *const *w, const qkx_state *s,
                            const vf *isc, vf (*sums)[3], clamping how)
{
    EACH_OF(groups, g)
        sums[g][0] = sums[g][1] = sums[g][2] = v_zero();
    for (int i = 0; i < p->n; i++)
        EACH_OF(groups, g) {
            const vf xi = v_held(x[g][i]);
            const vf v = v_mul(isc[g], v_sub(xi, s[g].min));
            const vf q = v_qkx_code(v, p->nmax, how);
            const vf wl = v_mul(w[g][i], q);
            l[g][i] = q;
            sums[g][0] = v_add(sums[g][0], wl);
            sums[g][1] = v_add(sums[g][1], v_mul(wl, q));
            sums[g][2] = v_add(sums[g][2], v_mul(wl, xi));
        }
}

/* Weighted errors of codes l under scale and minimum. */
BISE_INLINE void v_qkx_errors(const bise_qkx *p, int groups, vf (*l)[32],
                              vf *const *x, vf *const *w, const vf *scale,
                              const vf *min, vf *err)
{
    EACH_OF(groups, g)
        err[g] = v_zero();
    for (int i = 0; i < p->n; i++)
        EACH_OF(groups, g) {
            vf d = v_add(v_mul(scale[g], l[g][i]), min[g]);
            d = v_sub(d, x[g][i]);
            d = p->mad ? v_abs(d) : v_mul(d, d);
            err[g] = v_add(err[g], v_mul(w[g][i], d));
        }
}

/* Range and sums of x, and the error of the plain linear scale. */
BISE_INLINE void v_qkx_start(const bise_qkx *p, int groups, vf l[Q][32],
                             vf *const *x, vf *const *w, qkx_state *s)
{
    vf scale[Q], min[Q], err[Q];
    EACH_OF(groups, g) {
        vf lo = x[g][0], hi = x[g][0], sw = w[g][0];
        vf sx = v_mul(w[g][0], x[g][0]);
        for (int i = 1; i < p->n; i++) {
            lo = v_min(x[g][i], lo);
            hi = v_max(x[g][i], hi);
            sw = v_add(sw, w[g][i]);
            sx = v_add(sx, v_mul(w[g][i], x[g][i]));
        }
        lo = v_sel(v_gt(lo, v_zero()), v_zero(), lo);
        const vm active = v_gt(hi, lo);
        const vf range = v_sel(active, v_sub(hi, lo), v_set(1));
        const vf first = v_div(v_set((float)p->nmax), range);
        s[g] = (qkx_state){ .min = lo, .max = hi, .low = lo, .sw = sw,
                            .sx = sx, .active = active, .iscale = first,
                            .scale = v_div(v_set(1), first), .from = lo };
        for (int i = 0; i < p->n; i++)
            l[g][i] = v_qkx_code(v_mul(first, v_sub(x[g][i], lo)), p->nmax,
                                 CLAMP_WRAP);
        scale[g] = s[g].scale;
        min[g] = lo;
    }
    v_qkx_errors(p, groups, l, x, w, scale, min, err);
    EACH_OF(groups, g)
        s[g].best = err[g];
}

/* True when no code of a candidate can leave the range of an int. */
BISE_INLINE int v_qkx_in_range(const qkx_state *s, vf isc)
{
    const vf up = v_abs(v_sub(s->max, s->min));
    const vf down = v_abs(v_sub(s->low, s->min));
    const vf reach = v_mul(v_abs(isc), v_max(up, down));
    return m_all(v_lt(reach, v_set(4e6f)));
}

/* A candidate of a pair up to its sums: r / range is its inverse scale. */
BISE_INLINE void v_qkx_try(const bise_qkx *p, int groups, vf (*l)[32],
                           vf *const *x, vf *const *w, const qkx_state *s,
                           float r, vf *isc, vf (*sums)[3])
{
    int in_range = 1;
    EACH_OF(groups, g) {
        const vf range = v_sub(s[g].max, s[g].min);
        isc[g] = v_div(v_set(r), v_sel(s[g].active, range, v_set(1)));
        in_range &= v_qkx_in_range(&s[g], isc[g]);
    }
    if (!in_range)
        v_qkx_sums(p, groups, l, x, w, s, isc, sums, CLAMP_WRAP);
    else if (r < (float)p->nmax + 0.49f)
        v_qkx_sums(p, groups, l, x, w, s, isc, sums, CLAMP_LOW);
    else
        v_qkx_sums(p, groups, l, x, w, s, isc, sums, CLAMP_BOTH);
}

/* Least squares for the sums, with the minimum at most 0; true where there is
 * a solution. */
BISE_INLINE vm v_qkx_solve(const qkx_state *s, const vf *sums, vf *scale,
                           vf *min)
{
    const vf sl = sums[0], sl2 = sums[1], sxl = sums[2];
    const vf det = v_sub(v_mul(s->sw, sl2), v_mul(sl, sl));
    const vf a = v_sub(v_mul(s->sw, sxl), v_mul(s->sx, sl));
    const vf b = v_sub(v_mul(sl2, s->sx), v_mul(sl, sxl));
    const vf m = v_div(b, det);
    const vm above = v_gt(m, v_zero());
    *min = v_sel(above, v_zero(), m);
    *scale = v_div(v_sel(above, sxl, a), v_sel(above, sl2, det));
    return v_gt(det, v_zero());
}

/* Keep a candidate in the lanes of fit where its error is smaller. */
BISE_INLINE void v_qkx_keep(qkx_state *s, vm fit, vf err, vf scale, vf min,
                            vf isc)
{
    const vm take = m_and(fit, v_lt(err, s->best));
    s->best = v_sel(take, err, s->best);
    s->scale = v_sel(take, scale, s->scale);
    s->iscale = v_sel(take, isc, s->iscale);
    s->from = v_sel(take, s->min, s->from);
    s->min = v_sel(take, min, s->min);
}

/* bise_search_qkx for groups (1 or Q) of W blocks; sums of w in sw. */
BISE_INLINE void v_search_qkx(const bise_qkx *p, int groups, vf *const *x,
                              vf *const *w, found *f, vf *sw)
{
    const int n = groups < PAIR ? groups : PAIR;
    qkx_state s[Q];
    vf l[Q][32], sums[Q][3], isc[Q], scale[Q], min[Q], err[Q];
    vm fit[Q];
    v_qkx_start(p, groups, l, x, w, s);
    for (int is = 0; is <= p->nstep; is++) {
        const float r = p->rmin + p->rdelta * (float)is + (float)p->nmax;
        EACH_PAIR(groups, h) {
            v_qkx_try(p, n, l + h, x + h, w + h, s + h, r, isc + h, sums + h);
            EACH_OF(n, g)
                fit[h + g] = v_qkx_solve(&s[h + g], sums[h + g],
                                         &scale[h + g], &min[h + g]);
        }
        EACH_PAIR(groups, h) {
            v_qkx_errors(p, n, l + h, x + h, w + h, scale + h, min + h,
                         err + h);
            EACH_OF(n, g)
                v_qkx_keep(&s[h + g], fit[h + g], err[h + g], scale[h + g],
                           min[h + g], isc[h + g]);
        }
    }
    EACH_OF(groups, g) {
        const vm on = s[g].active;
        const vf zero = v_zero();
        f[g] = (found){ v_sel(on, s[g].scale, zero), v_neg(s[g].min),
                        v_sel(on, s[g].iscale, zero), s[g].from };
        /* an inactive lane keeps its first minimum */
        f[g].min = v_sel(on, f[g].min, v_neg(s[g].low));
        sw[g] = s[g].sw;
    }
}

/* One step of coordinate descent for the code q of weight x: what the sums
 * become without it, the best other code, accepted where it explains more. */
typedef struct v_descent {
    vf slx, sl2;
} v_descent;

BISE_INLINE vm v_descend(v_descent *s, vf *q, vf x, vf wx, vf w, int lo,
                         int hi, int both)
{
    const vf zero = v_zero();
    vf slx = v_sub(s->slx, v_mul(wx, *q));
    vf sl2 = v_sub(s->sl2, v_mul(v_mul(w, *q), *q));
    vm ok = v_gt(slx, zero);
    if (both)
        ok = m_and(ok, v_gt(sl2, zero));
    vi n = v_nearest(v_div(v_mul(x, sl2), slx));
    n = vi_min(n, vi_set(hi));
    if (!both)
        n = vi_max(n, vi_set(lo));
    const vf nl = v_float(n);
    ok = m_and(ok, m_not(v_eq(nl, *q)));
    slx = v_add(slx, v_mul(wx, nl));
    sl2 = v_add(sl2, v_mul(v_mul(w, nl), nl));
    if (!both)
        ok = m_and(ok, v_gt(sl2, zero));
    const vf now = v_mul(v_mul(slx, slx), s->sl2);
    const vf before = v_mul(v_mul(s->slx, s->slx), sl2);
    ok = m_and(ok, v_gt(now, before));
    s->slx = v_sel(ok, slx, s->slx);
    s->sl2 = v_sel(ok, sl2, s->sl2);
    /* positive scales keep their codes in a byte */
    const vf kept = both ? v_float(vi_and(n, vi_set(255))) : nl;
    *q = v_sel(ok, kept, *q);
    return ok;
}

/* bise_search_q3 for G groups; only the scales. */
BISE_INLINE void v_search_q3(int n, int nmax, vf *const *x, found *f)
{
    vf q[G][32], w[G][32], wx[G][32], max[G];
    v_descent s[G];
    EACH(g) {
        max[g] = v_signed_max(x[g], n);
        const vf iscale = v_div(v_set((float)-nmax), max[g]);
        s[g].slx = s[g].sl2 = v_zero();
        for (int i = 0; i < n; i++) {
            vf l = v_round(v_mul(iscale, x[g][i]));
            l = v_clamp(l, (float)-nmax, (float)(nmax - 1));
            q[g][i] = l;
            w[g][i] = v_mul(x[g][i], x[g][i]);
            wx[g][i] = v_mul(w[g][i], x[g][i]);
            s[g].slx = v_add(s[g].slx, v_mul(wx[g][i], l));
            s[g].sl2 = v_add(s[g].sl2, v_mul(v_mul(w[g][i], l), l));
        }
    }
    for (int sweep = 0, changed = 1; sweep < 5 && changed; sweep++) {
        vm any[G];
        EACH(g)
            any[g] = v_lt(v_zero(), v_zero());
        for (int i = 0; i < n; i++)
            EACH(g)
                any[g] = m_or(any[g],
                              v_descend(&s[g], &q[g][i], x[g][i], wx[g][i],
                                        w[g][i], -nmax, nmax - 1, 0));
        changed = 0;
        EACH(g)
            changed |= m_any(any[g]);
    }
    EACH(g) {
        const vf zero = v_zero();
        const vm on = m_and(m_not(v_negligible(max[g])), v_gt(s[g].sl2, zero));
        f[g] = (found){ v_sel(on, v_div(s[g].slx, s[g].sl2), zero), zero, zero,
                        zero };
    }
}

/* The inverse scale of bise_search_qp with the smallest error. */
BISE_INLINE vf v_qp_iscale(int n, int nmax, const vf *x, const vf *w, vf max)
{
    vf iscale = v_div(v_set((float)nmax), max), best = v_zero();
    const vf first = v_div(v_set(1), iscale);
    for (int i = 0; i < n; i++) {
        const vi l = vi_and(v_nearest(v_mul(iscale, x[i])), vi_set(255));
        const vf d = v_sub(x[i], v_mul(first, v_float(l)));
        best = v_add(best, v_mul(v_mul(w[i], d), d));
    }
    for (int is = -4; is <= 4; is++) {
        if (is == 0)
            continue;
        const vf isc = v_div(v_set(0.1f * (float)is + (float)nmax), max);
        const vf sc = v_div(v_set(1), isc);
        vf mse = v_zero();
        for (int i = 0; i < n; i++) {
            const vi l = vi_min(v_nearest(v_mul(isc, x[i])), vi_set(nmax));
            const vf d = v_sub(x[i], v_mul(sc, v_float(l)));
            mse = v_add(mse, v_mul(v_mul(w[i], d), d));
        }
        const vm less = v_lt(mse, best);
        best = v_sel(less, mse, best);
        iscale = v_sel(less, isc, iscale);
    }
    return iscale;
}

/* bise_search_qp: codes (0..255) of each lane's scales; returns d. */
BISE_INLINE vf v_search_qp(int n, int nmax, const vf *x, const vf *w, vi *code)
{
    vf max = v_zero(), q[16], wx[16];
    v_descent s = { v_zero(), v_zero() };
    for (int i = 0; i < n; i++)
        max = v_max(x[i], max);
    const vm none = v_lt(max, v_set(BISE_QUANT_EPS));
    const vf iscale = v_qp_iscale(n, nmax, x, w, max);
    for (int i = 0; i < n; i++) {
        const vi l = vi_min(v_nearest(v_mul(iscale, x[i])), vi_set(nmax));
        const vf fl = v_float(l);
        wx[i] = v_mul(w[i], x[i]);
        s.slx = v_add(s.slx, v_mul(wx[i], fl));
        s.sl2 = v_add(s.sl2, v_mul(v_mul(w[i], fl), fl));
        q[i] = v_float(vi_and(l, vi_set(255)));
    }
    for (int sweep = 0; sweep < 5; sweep++) {
        vm any = v_lt(v_zero(), v_zero());
        for (int i = 0; i < n; i++)
            any = m_or(any, v_descend(&s, &q[i], x[i], wx[i], w[i], 0, nmax,
                                      1));
        if (!m_any(any))
            break;
    }
    for (int i = 0; i < n; i++)
        code[i] = vi_sel(none, vi_set(0), vi_trunc(q[i]));
    const vm off = m_or(none, m_not(v_gt(s.sl2, v_zero())));
    return v_sel(off, v_zero(), v_div(s.slx, s.sl2));
}

/* bise_linear_codes: codes of each lane's scales without importance. */
BISE_INLINE vf v_linear_codes(int n, int nmax, const vf *x, vi *code)
{
    vf max = v_zero();
    for (int i = 0; i < n; i++)
        max = v_max(x[i], max);
    const vm on = v_gt(max, v_zero());
    const vf iscale = v_div(v_set((float)nmax), max);
    for (int i = 0; i < n; i++) {
        vi l = vi_and(v_nearest(v_mul(iscale, x[i])), vi_set(255));
        code[i] = vi_sel(on, vi_min(l, vi_set(nmax)), vi_set(0));
    }
    return v_sel(on, v_div(max, v_set((float)nmax)), v_zero());
}

#endif
