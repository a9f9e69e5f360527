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

/* bise_search_iq4 of 32 weights in each lane; the scale. */
BISE_INLINE vf v_search_iq4(const vf *x, const vf *w, const iq4_tables *t)
{
    const vf max = v_signed_max(x, 32), zero = v_zero();
    v_best b = { zero, zero, zero };
    for (int c = 0; c < 16; c += 2) {
        /* candidate 0 maps the largest weight to -127, then -134 .. -120 */
        vf id[2], sqx[2] = { zero, zero }, sq2[2] = { zero, zero };
        id[0] = v_div(v_set((float)(c - 8 - 127)), max);
        id[1] = v_div(v_set((float)(c - 7 - 127)), max);
        if (c == 0)
            id[0] = v_div(v_set(1), v_div(v_neg(max), v_set(-127)));
        for (int i = 0; i < 32; i++)
            EACH(k) {
                const vf q = iq4_value(v_mul(id[k], x[i]), t);
                const vf wq = v_mul(w[i], q);
                sqx[k] = v_add(sqx[k], v_mul(wq, x[i]));
                sq2[k] = v_add(sq2[k], v_mul(wq, q));
            }
        if (c == 0)
            v_keep_first(&b, sqx[0], sq2[0], v_gt(sq2[0], zero), id[0]);
        else
            v_keep_better(&b, sqx[0], sq2[0], id[0]);
        v_keep_better(&b, sqx[1], sq2[1], id[1]);
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
