/* codec_iq4.c - encoders of IQ4_NL and IQ4_XS, one (super)block in each lane,
 * same bytes as kernels/ref. Compiled once per instruction set.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/codec_x86.h"

#include "kernels/x86/chunk.h"
#include "kernels/x86/iq4_vec.h"

/* Weights of 32 columns from off on: importance, or x^2. */
BISE_INLINE void iq4_weights(vf *w, const vf *x, const chunk *c, size_t off,
                             vf sigma2, int weighted)
{
    if (weighted) {
        v_importance(w, x, c, off, sigma2, 32);
        return;
    }
    for (int i = 0; i < 32; i++)
        w[i] = v_mul(x[i], x[i]);
}

/* W blocks of 32: search side by side, write one after the other. */
BISE_INLINE void chunk_iq4_nl(uint8_t *dst, const chunk *c, int weighted)
{
    const iq4_tables t = iq4_make_tables();
    bise_q4_0 *y = (bise_q4_0 *)(void *)dst;
    vf x[32], w[32];
    float d[W], id[W];
    v_load_columns(x, c->x, 0, 32);
    vf sigma2 = v_zero();
    if (weighted)
        sigma2 = v_mul(v_sum_squares(sigma2, x, 32), v_set(2.0f / 32));
    iq4_weights(w, x, c, 0, sigma2, weighted);
    const vf scale = v_search_iq4(x, w, &t);
    v_store(d, scale);
    v_store(id, v_inverse(scale));
    for (int l = 0; l < c->count; l++, y++) {
        bise_store_half(y->d, d[l]);
        iq4_write(y->qs, c->x[l], id[l], &t);
    }
}

/* Scales of the superblocks after rounding, a column per lane. */
typedef struct xs_coded {
    float d[W], idl[8][W];
    int32_t code[8][W];
} xs_coded;

/* Quantize 8 scales per lane to 6 signed bits. The codes of the weights use
 * the factor before it becomes f16. */
BISE_INLINE void code_xs(xs_coded *k, const vf *scale)
{
    const vf max = v_signed_max(scale, 8);
    const vf d = v_div(v_neg(max), v_set(32)), id = v_inverse(d);
    v_store(k->d, d);
    for (int j = 0; j < 8; j++) {
        const vi l = vi_clamp(v_nearest(v_mul(id, scale[j])), -32, 31);
        v_store(k->idl[j], v_inverse(v_mul(d, v_float(l))));
        vi_store(k->code[j], vi_add(l, vi_set(32)));
    }
}

/* W superblocks: eight searches, then the scales of scales. */
BISE_INLINE void chunk_iq4_xs(uint8_t *dst, const chunk *c, int weighted)
{
    const iq4_tables t = iq4_make_tables();
    bise_iq4_xs *y = (bise_iq4_xs *)(void *)dst;
    vf x[32], w[32], scale[8], sigma2 = v_zero();
    xs_coded k;
    if (weighted)
        sigma2 = v_mul(chunk_sum_squares(c, BISE_QK), v_set(2.0f / BISE_QK));
    for (int j = 0; j < 8; j++) {
        v_load_columns(x, c->x, (size_t)(32 * j), 32);
        chunk_prefetch(c, (size_t)(32 * (j + 1)), 32);
        iq4_weights(w, x, c, (size_t)(32 * j), sigma2, weighted);
        scale[j] = v_search_iq4(x, w, &t);
    }
    code_xs(&k, scale);
    for (int l = 0; l < c->count; l++, y++) {
        int code[8];
        bise_store_half(y->d, k.d[l]);
        for (int j = 0; j < 8; j++) {
            code[j] = k.code[j][l];
            iq4_write(y->qs + 16 * j, c->x[l] + 32 * j, k.idl[j][l], &t);
        }
        bise_pack_scales_xs(y, code);
    }
}

static void chunk_iq4_nl_plain(uint8_t *dst, const chunk *c)
{
    chunk_iq4_nl(dst, c, 0);
}

static void chunk_iq4_nl_weighted(uint8_t *dst, const chunk *c)
{
    chunk_iq4_nl(dst, c, 1);
}

static void chunk_iq4_xs_plain(uint8_t *dst, const chunk *c)
{
    chunk_iq4_xs(dst, c, 0);
}

static void chunk_iq4_xs_weighted(uint8_t *dst, const chunk *c)
{
    chunk_iq4_xs(dst, c, 1);
}

static void encode_iq4_nl(void *dst, const float *src, size_t rows,
                          size_t cols, const float *imatrix)
{
    encode_chunks(dst, src, rows, cols, imatrix, 32, sizeof(bise_q4_0), NULL,
                  imatrix ? chunk_iq4_nl_weighted : chunk_iq4_nl_plain);
}

static void encode_iq4_xs(void *dst, const float *src, size_t rows,
                          size_t cols, const float *imatrix)
{
    encode_chunks(dst, src, rows, cols, imatrix, BISE_QK, sizeof(bise_iq4_xs),
                  NULL, imatrix ? chunk_iq4_xs_weighted : chunk_iq4_xs_plain);
}

/* Install the IQ4 encoders of this instruction set. */
void BISE_ISA_NAME(bise_codecs_iq4)(bise_codec *table)
{
    table[BISE_DTYPE_IQ4_NL].encode = encode_iq4_nl;
    table[BISE_DTYPE_IQ4_XS].encode = encode_iq4_xs;
}
