/* iq4_vec.h - nearest entry of the IQ4 code book for a vector of values. Next
 * to the midpoint of two entries both distances are exact, so comparing with
 * the midpoint (upper entry on a tie) gives the reference's choice.
 *
 * AVX-512: buckets of width 10.25 around multiples of it hold at most one
 * midpoint, 0.6 or more from the bucket's ends: one look-up of 32 entries
 * gives the midpoint, a second the value of this bucket or of the next. AVX2: a search tree of four
 * levels, whose nodes 1..7 and 8..15 fit look-ups of 8 entries.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_X86_IQ4_VEC_H
#define BISE_KERNELS_X86_IQ4_VEC_H

#include <math.h>

#include "kernels/x86/search_vec.h"

/* Candidates of a search side by side: a divisor of 15. */
#ifdef __AVX512F__
enum { PACK = 5 };
#else
enum { PACK = 3 };
#endif
#define PACKED(k) _Pragma("GCC unroll 5") for (int k = 0; k < PACK; k++)

#ifdef __AVX512F__
typedef struct iq4_tables {
    vf mid[2];      /* midpoint inside each bucket, infinity without one */
    vf value[2];    /* value at the lower end of each bucket */
    vi index[2];    /* its index */
} iq4_tables;

BISE_INLINE iq4_tables iq4_make_tables(void)
{
    static const int8_t C[16] = BISE_IQ4_VALUES;
    float mid[32], value[32];
    int32_t index[32];
    for (int b = 0, i = 0; b < 32; b++) {
        /* i: midpoints below the bucket's lower end */
        const float from = 10.25f * ((float)(b - 16) - 0.5f);
        while (i < 15 && (float)(C[i] + C[i + 1]) / 2 < from)
            i++;
        const float m = i < 15 ? (float)(C[i] + C[i + 1]) / 2 : INFINITY;
        mid[b] = m < from + 10.25f ? m : INFINITY;
        value[b] = C[i];
        index[b] = i;
    }
    iq4_tables t;
    for (int k = 0; k < 2; k++) {
        t.mid[k] = v_load(mid + 16 * k);
        t.value[k] = v_load(value + 16 * k);
        t.index[k] = vi_bits(v_load(index + 16 * k));
    }
    return t;
}

/* Bucket of each v, |v| < 150, in the low 5 bits, or the next one above the
 * bucket's midpoint: that one's lower end has the nearest value. */
BISE_INLINE vi iq4_bucket(vf v, const iq4_tables *t)
{
    const vf scaled = v_mul(v, v_set(1 / 10.25f));
    const vi b = vi_bits(v_add(scaled, v_set(12582912.0f + 16)));
    const vf mid = _mm512_permutex2var_ps(t->mid[0], b, t->mid[1]);
    return vi_count(b, v_nlt(v, mid));
}

/* Code book value nearest to v, |v| < 150. */
BISE_INLINE vf iq4_value(vf v, const iq4_tables *t)
{
    return _mm512_permutex2var_ps(t->value[0], iq4_bucket(v, t), t->value[1]);
}

/* Index of the value nearest to any v. */
BISE_INLINE vi iq4_index(vf v, const iq4_tables *t)
{
    v = v_max(v_min(v, v_set(140)), v_set(-140));
    return _mm512_permutex2var_epi32(t->index[0], iq4_bucket(v, t),
                                     t->index[1]);
}
#else
typedef struct iq4_tables {
    vf upper, leaf;     /* midpoints of nodes 0..7 and of nodes 8..15 */
    vf even, odd;       /* values at the two ends of a leaf */
} iq4_tables;

BISE_INLINE iq4_tables iq4_make_tables(void)
{
    static const int8_t C[16] = BISE_IQ4_VALUES;
    static const uint8_t order[8] = { 0, 7, 3, 11, 1, 5, 9, 13 };
    float upper[8], leaf[8], even[8], odd[8];
    for (int i = 0; i < 8; i++) {
        const int m = order[i];
        upper[i] = (float)(C[m] + C[m + 1]) / 2;
        leaf[i] = (float)(C[2 * i] + C[2 * i + 1]) / 2;
        even[i] = C[2 * i];
        odd[i] = C[2 * i + 1];
    }
    return (iq4_tables){ v_load(upper), v_load(leaf), v_load(even),
                         v_load(odd) };
}

/* Children of nodes n: 2 n, plus 1 where v is not below the midpoint. */
BISE_INLINE vi iq4_step(vf v, vi n, vf mid)
{
    return vi_sub(vi_add(n, n), vi_bits(v_nlt(v, mid)));
}

/* Leaf 8..15 of each v, and whether its upper end is nearest. */
BISE_INLINE vi iq4_leaf(vf v, const iq4_tables *t, vm *high)
{
    vi n = iq4_step(v, vi_set(1), v_set(-4.5f));
    n = iq4_step(v, n, _mm256_permutevar8x32_ps(t->upper, n));
    n = iq4_step(v, n, _mm256_permutevar8x32_ps(t->upper, n));
    *high = v_nlt(v, _mm256_permutevar8x32_ps(t->leaf, n));
    return n;
}

/* Code book value nearest to v. */
BISE_INLINE vf iq4_value(vf v, const iq4_tables *t)
{
    vm high;
    const vi n = iq4_leaf(v, t, &high);
    return v_sel(high, _mm256_permutevar8x32_ps(t->odd, n),
                 _mm256_permutevar8x32_ps(t->even, n));
}

/* Index of the value nearest to v. */
BISE_INLINE vi iq4_index(vf v, const iq4_tables *t)
{
    vm high;
    const vi n = iq4_leaf(v, t, &high);
    return vi_sub(vi_sub(vi_add(n, n), vi_set(16)), vi_bits(high));
}
#endif

/* What a weight adds to the two sums of a candidate: its terms below the
 * midpoint mid and from it on. */
typedef struct iq4_terms {
    vf mid, qx[2], q2[2];
} iq4_terms;

/* The candidates -134 .. -120 scale a weight by factors that differ by less
 * than 12 %, and midpoints of one sign by more than 23 %: a weight takes at
 * most two neighbouring values in all of them, and changes from one to the
 * other at their midpoint. */
BISE_INLINE void iq4_make_terms(iq4_terms *e, vf x, vf w, vf id0, vf id1,
                                const iq4_tables *t)
{
    const vf a = iq4_value(v_mul(id0, x), t), b = iq4_value(v_mul(id1, x), t);
    const vf q[2] = { v_min(a, b), v_max(a, b) };
    e->mid = v_mul(v_add(a, b), v_set(0.5f));
    for (int k = 0; k < 2; k++) {
        const vf wq = v_mul(w, q[k]);
        e->qx[k] = v_mul(wq, x);
        e->q2[k] = v_mul(wq, q[k]);
    }
}

/* Sums of candidate 0, which maps the largest weight to 127. */
BISE_INLINE void iq4_first(v_best *b, const vf *x, const vf *w, vf max,
                           const iq4_tables *t)
{
    const vf id = v_div(v_set(1), v_div(v_neg(max), v_set(-127)));
    vf sqx = v_zero(), sq2 = v_zero();
    for (int i = 0; i < 32; i++) {
        const vf q = iq4_value(v_mul(id, x[i]), t);
        const vf wq = v_mul(w[i], q);
        sqx = v_add(sqx, v_mul(wq, x[i]));
        sq2 = v_add(sq2, v_mul(wq, q));
    }
    v_keep_first(b, sqx, sq2, v_gt(sq2, v_zero()), id);
}

/* bise_search_iq4 of 32 weights in each lane; the scale. */
BISE_INLINE vf v_search_iq4(const vf *x, const vf *w, const iq4_tables *t)
{
    const vf max = v_signed_max(x, 32), zero = v_zero();
    const vf id0 = v_div(v_set(-134), max), id1 = v_div(v_set(-120), max);
    iq4_terms e[32];
    v_best b;
    iq4_first(&b, x, w, max, t);
    for (int i = 0; i < 32; i++)
        iq4_make_terms(&e[i], x[i], w[i], id0, id1, t);
    for (int c = -134; c <= -120; c += PACK) {
        vf id[PACK], sqx[PACK], sq2[PACK];
        PACKED(k) {
            id[k] = v_div(v_set((float)(c + k)), max);
            sqx[k] = sq2[k] = zero;
        }
        for (int i = 0; i < 32; i++) {
            const iq4_terms m = e[i];
            const vf lx = v_held(m.qx[0]), hx = v_held(m.qx[1]);
            const vf l2 = v_held(m.q2[0]), h2 = v_held(m.q2[1]);
            PACKED(k) {
                const vm up = v_nlt(v_mul(id[k], x[i]), m.mid);
                sqx[k] = v_add(sqx[k], v_sel(up, hx, lx));
                sq2[k] = v_add(sq2[k], v_sel(up, h2, l2));
            }
        }
        PACKED(k)
            v_keep_better(&b, sqx[k], sq2[k], id[k]);
    }
    return v_sel(v_negligible(max), zero, b.scale);
}

/* Nibbles of 32 weights: indices of id x. */
BISE_INLINE void iq4_write(uint8_t *qs, const float *x, float id,
                           const iq4_tables *t)
{
    uint8_t L[32];
    vi q[2];
    for (int i = 0; i < 32; i += 16) {
        for (int k = 0; k < 16 / W; k++)
            q[k] = iq4_index(v_mul(v_set(id), v_load(x + i + k * W)), t);
        v_store_bytes16(L + i, q);
    }
    bise_pack_nibbles(qs, L, 16);
}

#endif
