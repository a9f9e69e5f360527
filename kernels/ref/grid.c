/* grid.c - see grid.h. One row for each type; types with equal scales or equal
 * codes share the functions.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/grid.h"

#include <math.h>

#include "kernels/block.h"
#include "kernels/ref/search.h"

/* ---- scales ---- */

/* f16 scale in front: Q4_0, Q5_0, Q8_0, IQ4_NL. */
static void scales_d(float *d, float *m, const void *block)
{
    const bise_q4_0 *y = block;
    d[0] = bise_load_half(y->d);
    m[0] = 0;
}

/* f16 scale and minimum, which is added: Q4_1, Q5_1. */
static void scales_dm(float *d, float *m, const void *block)
{
    const bise_q4_1 *y = block;
    d[0] = bise_load_half(y->d);
    m[0] = -bise_load_half(y->m);
}

/* Two f16 factors and 6-bit scales and minima: Q4_K, Q5_K. */
static void scales_k4(float *d, float *m, const void *block)
{
    const bise_q4_k *y = block;
    uint8_t sc[8], mn[8];
    bise_unpack_scales_k4(sc, mn, y->scales);
    for (int b = 0; b < 8; b++) {
        d[b] = bise_load_half(y->d) * (float)sc[b];
        m[b] = bise_load_half(y->dmin) * (float)mn[b];
    }
}

static void scales_q2_k(float *d, float *m, const void *block)
{
    const bise_q2_k *y = block;
    for (int b = 0; b < 16; b++) {
        d[b] = bise_load_half(y->d) * (float)(y->scales[b] & 15);
        m[b] = bise_load_half(y->dmin) * (float)(y->scales[b] >> 4);
    }
}

static void scales_q3_k(float *d, float *m, const void *block)
{
    const bise_q3_k *y = block;
    uint8_t code[16];
    bise_unpack_scales_q3(code, y->scales);
    for (int b = 0; b < 16; b++) {
        d[b] = bise_load_half(y->d) * (float)(code[b] - 32);
        m[b] = 0;
    }
}

static void scales_q6_k(float *d, float *m, const void *block)
{
    const bise_q6_k *y = block;
    for (int b = 0; b < 16; b++) {
        d[b] = bise_load_half(y->d) * (float)y->scales[b];
        m[b] = 0;
    }
}

static void scales_iq4_xs(float *d, float *m, const void *block)
{
    const bise_iq4_xs *y = block;
    const uint16_t high = bise_load_le16(y->scales_h);
    for (int b = 0; b < 8; b++) {
        const int lo = y->scales_l[b / 2] >> b % 2 * 4 & 15;
        d[b] = bise_load_half(y->d) *
               (float)((lo | (high >> 2 * b & 3) << 4) - 32);
        m[b] = 0;
    }
}

/* ---- codes ---- */

/* Q4_0 and IQ4_NL, whose layouts are the same. */
static void pack_q4_0(void *block, const uint8_t *L)
{
    bise_pack_nibbles(((bise_q4_0 *)block)->qs, L, 16);
}

static void pack_q4_1(void *block, const uint8_t *L)
{
    bise_pack_nibbles(((bise_q4_1 *)block)->qs, L, 16);
}

static void pack_q5_0(void *block, const uint8_t *L)
{
    bise_q5_0 *y = block;
    bise_store_le32(y->qh, bise_pack_bit4(L));
    bise_pack_nibbles(y->qs, L, 16);
}

static void pack_q5_1(void *block, const uint8_t *L)
{
    bise_q5_1 *y = block;
    bise_store_le32(y->qh, bise_pack_bit4(L));
    bise_pack_nibbles(y->qs, L, 16);
}

static void pack_q8_0(void *block, const uint8_t *L)
{
    bise_q8_0 *y = block;
    for (int i = 0; i < 32; i++)
        y->qs[i] = (int8_t)((int)L[i] - 127);
}

static void pack_q2_k(void *block, const uint8_t *L)
{
    bise_q2_k *y = block;
    bise_pack_2bit(y->qs, L);
    bise_pack_2bit(y->qs + 32, L + 128);
}

static void pack_q3_k(void *block, const uint8_t *L)
{
    bise_pack_q3_k(block, L);
}

static void pack_q4_k(void *block, const uint8_t *L)
{
    bise_pack_q4_k(((bise_q4_k *)block)->qs, L);
}

static void pack_q5_k(void *block, const uint8_t *L)
{
    bise_pack_q5_k(block, L);
}

static void pack_q6_k(void *block, const uint8_t *L)
{
    bise_pack_q6_k(block, L);
}

static void pack_iq4_xs(void *block, const uint8_t *L)
{
    bise_iq4_xs *y = block;
    for (int b = 0; b < 8; b++)
        bise_pack_nibbles(y->qs + 16 * b, L + 32 * b, 16);
}

/* ---- the table ---- */

static const int8_t iq4[16] = BISE_IQ4_VALUES;

static const bise_grid grids[] = {
    { BISE_DTYPE_Q4_0, 32, -8, 16, NULL, scales_d, pack_q4_0 },
    { BISE_DTYPE_Q4_1, 32, 0, 16, NULL, scales_dm, pack_q4_1 },
    { BISE_DTYPE_Q5_0, 32, -16, 32, NULL, scales_d, pack_q5_0 },
    { BISE_DTYPE_Q5_1, 32, 0, 32, NULL, scales_dm, pack_q5_1 },
    { BISE_DTYPE_Q8_0, 32, -127, 255, NULL, scales_d, pack_q8_0 },
    { BISE_DTYPE_Q2_K, 16, 0, 4, NULL, scales_q2_k, pack_q2_k },
    { BISE_DTYPE_Q3_K, 16, -4, 8, NULL, scales_q3_k, pack_q3_k },
    { BISE_DTYPE_Q4_K, 32, 0, 16, NULL, scales_k4, pack_q4_k },
    { BISE_DTYPE_Q5_K, 32, 0, 32, NULL, scales_k4, pack_q5_k },
    { BISE_DTYPE_Q6_K, 16, -32, 64, NULL, scales_q6_k, pack_q6_k },
    { BISE_DTYPE_IQ4_NL, 32, 0, 16, iq4, scales_d, pack_q4_0 },
    { BISE_DTYPE_IQ4_XS, 32, 0, 16, iq4, scales_iq4_xs, pack_iq4_xs },
};

const bise_grid *bise_grid_at(int i)
{
    const int n = (int)(sizeof grids / sizeof *grids);
    return i >= 0 && i < n ? &grids[i] : NULL;
}

/* Linear: asked once for each tensor. */
const bise_grid *bise_grid_get(bise_dtype t)
{
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++)
        if (grids[i].dtype == t)
            return &grids[i];
    return NULL;
}

/* Clamped before it is rounded: a tiny scale makes the quotient infinite. */
uint8_t bise_grid_code(const bise_grid *g, float w, float d, float m)
{
    const float v = d != 0 ? (w + m) / d : 0;
    if (g->values)
        return (uint8_t)bise_iq4_nearest(v);
    const float top = (float)(g->codes - 1), q = v - (float)g->low;
    return (uint8_t)rintf(fminf(fmaxf(q, 0), top));
}
