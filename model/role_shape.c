/* role_shape.c - what a configuration implies: the list of its tensors and
 * the shape of each, in the row-major order of dims.h, and the number of
 * parameters. The one place that knows shapes; checkpoint.c and the adapter
 * readers check files against it, converters plan their outputs with it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "model/checkpoint.h"
#include "model/family.h"

/* Shape [n]. */
static int vec(uint64_t dims[3], int64_t n)
{
    dims[0] = (uint64_t)n;
    return 1;
}

/* Shape [out, in]. */
static int mat(uint64_t dims[3], int64_t out, int64_t in)
{
    dims[0] = (uint64_t)out;
    dims[1] = (uint64_t)in;
    return 2;
}

/* Shape [n, out, in]. */
static int cube(uint64_t dims[3], int64_t n, int64_t out, int64_t in)
{
    dims[0] = (uint64_t)n;
    dims[1] = (uint64_t)out;
    dims[2] = (uint64_t)in;
    return 3;
}

/* Dense: q, k, v, o. Latent attention: down- and up-projections (mistral3.md
 * 2.5), with kv_b also in the two parts that GGUF stores. */
static int attention_shape(const bise_config *c, bise_role_kind kind,
                           uint64_t d[3])
{
    const bool mla = bise_family_get(c->family)->mla;
    const int64_t C = c->C, H = c->H, D = c->D;
    const int64_t value = mla ? c->v_dim : D, key = c->qk_nope + c->qk_rope;
    switch (kind) {
    case BISE_ROLE_O: return mat(d, C, H * value);
    case BISE_ROLE_Q: return mla ? 0 : mat(d, H * D, C);
    case BISE_ROLE_K:
    case BISE_ROLE_V: return mla ? 0 : mat(d, (int64_t)c->K * D, C);
    default: break;
    }
    if (!mla)
        return 0;
    switch (kind) {
    case BISE_ROLE_Q_A: return mat(d, c->q_lora, C);
    case BISE_ROLE_Q_A_NORM: return vec(d, c->q_lora);
    case BISE_ROLE_Q_B: return mat(d, H * key, c->q_lora);
    case BISE_ROLE_KV_A: return mat(d, (int64_t)c->kv_lora + c->qk_rope, C);
    case BISE_ROLE_KV_A_NORM: return vec(d, c->kv_lora);
    case BISE_ROLE_KV_B: return mat(d, H * (c->qk_nope + value), c->kv_lora);
    case BISE_ROLE_K_B: return cube(d, H, c->kv_lora, c->qk_nope);
    case BISE_ROLE_V_B: return cube(d, H, value, c->kv_lora);
    default: return 0;
    }
}

/* Dense layers come first in a mixture; the others have router and experts. */
static int ffn_shape(const bise_config *c, bise_role role, uint64_t d[3])
{
    const bool experts = bise_family_get(c->family)->moe &&
                         role.layer >= c->dense_layers;
    const int64_t C = c->C, F = c->F, Fe = c->F_expert, E = c->E;
    const int64_t Fs = Fe * c->shared_experts;
    const bool one = role.expert >= 0;
    if (!experts) {
        switch (role.kind) {
        case BISE_ROLE_GATE:
        case BISE_ROLE_UP: return mat(d, F, C);
        case BISE_ROLE_DOWN: return mat(d, C, F);
        default: return 0;
        }
    }
    if (role.expert >= E)
        return 0;
    switch (role.kind) {
    case BISE_ROLE_ROUTER: return mat(d, E, C);
    case BISE_ROLE_EXP_GATE:
    case BISE_ROLE_EXP_UP: return one ? mat(d, Fe, C) : cube(d, E, Fe, C);
    case BISE_ROLE_EXP_DOWN: return one ? mat(d, C, Fe) : cube(d, E, C, Fe);
    case BISE_ROLE_EXP_GATE_UP: return one ? 0 : cube(d, E, 2 * Fe, C);
    case BISE_ROLE_SH_GATE:
    case BISE_ROLE_SH_UP: return Fs ? mat(d, Fs, C) : 0;
    case BISE_ROLE_SH_DOWN: return Fs ? mat(d, C, Fs) : 0;
    default: return 0;
    }
}

/* Global tensors first, then what a layer of this kind has. */
int bise_role_shape(const bise_config *c, bise_role role, uint64_t dims[3])
{
    switch (role.kind) {
    case BISE_ROLE_EMBED:
    case BISE_ROLE_HEAD: return mat(dims, c->V, c->C);
    case BISE_ROLE_NORM: return vec(dims, c->C);
    default: break;
    }
    if (role.layer < 0 || role.layer >= c->L)
        return 0;
    if (role.kind == BISE_ROLE_ATTN_NORM || role.kind == BISE_ROLE_FFN_NORM)
        return vec(dims, c->C);
    const int n = attention_shape(c, role.kind, dims);
    return n ? n : ffn_shape(c, role, dims);
}

/* Counting goes on beyond cap, so a first call can size the array. */
size_t bise_config_roles(const bise_config *c, bise_role *out, size_t cap)
{
    /* Forward order of one layer; absent ones have no shape. */
    static const bise_role_kind layer[] = {
        BISE_ROLE_ATTN_NORM, BISE_ROLE_Q, BISE_ROLE_K, BISE_ROLE_V,
        BISE_ROLE_Q_A, BISE_ROLE_Q_A_NORM, BISE_ROLE_Q_B, BISE_ROLE_KV_A,
        BISE_ROLE_KV_A_NORM, BISE_ROLE_KV_B, BISE_ROLE_O, BISE_ROLE_FFN_NORM,
        BISE_ROLE_GATE, BISE_ROLE_UP, BISE_ROLE_DOWN, BISE_ROLE_ROUTER,
        BISE_ROLE_EXP_GATE, BISE_ROLE_EXP_UP, BISE_ROLE_EXP_DOWN,
        BISE_ROLE_SH_GATE, BISE_ROLE_SH_UP, BISE_ROLE_SH_DOWN,
    };
    const bise_role ends[3] = { { BISE_ROLE_EMBED, -1, -1 },
                                { BISE_ROLE_NORM, -1, -1 },
                                { BISE_ROLE_HEAD, -1, -1 } };
    size_t n = 0;
    uint64_t dims[3];
    if (n++ < cap)
        out[0] = ends[0];
    for (int32_t i = 0; i < c->L; i++)
        for (size_t j = 0; j < sizeof layer / sizeof *layer; j++) {
            const bise_role r = { layer[j], i, -1 };
            if (bise_role_shape(c, r, dims) && n++ < cap)
                out[n - 1] = r;
        }
    for (int i = 1; i < (c->tied ? 2 : 3); i++)
        if (n++ < cap)
            out[n - 1] = ends[i];
    return n;
}

/* Layers of one sort are alike: one dense and one expert layer are counted and
 * multiplied, which keeps this cheap for any number of layers. */
uint64_t bise_config_parameters(const bise_config *c)
{
    /* One layer of each sort stands for all of its sort. */
    bise_config one = *c;
    bise_role roles[64];
    uint64_t sum = 0;
    const int32_t dense = bise_family_get(c->family)->moe ? c->dense_layers
                                                          : c->L;
    one.L = c->L > 0 ? 1 : 0;
    for (int sort = 0; sort < 2; sort++) {
        const int32_t copies = sort ? c->L - dense : dense;
        one.dense_layers = sort ? 0 : 1;
        const size_t n = bise_config_roles(&one, roles, 64);
        for (size_t i = 0; i < n && copies > 0; i++) {
            uint64_t d[3] = { 1, 1, 1 };
            const int k = bise_role_shape(&one, roles[i], d);
            for (int j = k; j < 3; j++)
                d[j] = 1;
            if (roles[i].layer >= 0)
                sum += d[0] * d[1] * d[2] * (uint64_t)copies;
            else if (sort == (dense < c->L)) /* once, not per sort */
                sum += d[0] * d[1] * d[2];
        }
    }
    return sum;
}
