/* vec_check.c - the vector vocabulary (vec.h) and the searches built on it
 * (search_vec.h, iq4_vec.h) of one instruction set against scalar code, lane
 * by lane. Compiled once per set and called by vec_slots.c; each check returns
 * NULL or what is wrong.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/kernelcheck/vec_check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/rng.h"
#include "kernels/ref/rounding.h"
#include "kernels/x86/chunk.h"
#include "kernels/x86/iq4_vec.h"
#include "kernels/x86/search_vec.h"
#include "tests/kernelcheck/inputs.h"

enum { ROUNDS = 48 };

/* A message with up to four numbers, in the caller's buffer. */
static const char *wrong(char *text, const char *what, double a, double b,
                         double c, double d)
{
    snprintf(text, VEC_CHECK_TEXT, "%s: %.9g %.9g %.9g %.9g", what, a, b, c,
             d);
    return text;
}

/* Values at which roundings differ, and the edges of the types. */
static float edge(int i)
{
    static const float values[] = {
        0, -0.0f, 0.5f, -0.5f, 1.5f, -1.5f, 2.5f, 0.49999997f, -0.49999997f,
        8388607.5f, -4194303, 4194304, 4194305, 1e9f, -1e9f, 3e38f, -3e38f,
        INFINITY, -INFINITY, 1e-40f, -1e-40f, 127.5f, -128.5f, 31.5f, 65504
    };
    const int n = sizeof values / sizeof values[0];
    return i < n ? values[i] : 40 * (bise_rng_f32(8, 8, (uint64_t)i) - 0.5f);
}

/* v_nearest, v_round, vi_trunc, v_inverse and v_neg in every lane. */
static const char *check_rounding(char *text)
{
    float x[W], r[W], inv[W], neg[W];
    int32_t n[W], t[W];
    for (int i = 0; i < 512; i += W) {
        for (int l = 0; l < W; l++)
            x[l] = edge(i + l);
        const vf v = v_load(x);
        vi_store(n, v_nearest(v));
        vi_store(t, vi_trunc(v));
        v_store(r, v_round(v));
        v_store(inv, v_inverse(v));
        v_store(neg, v_neg(v));
        for (int l = 0; l < W; l++) {
            if (n[l] != bise_nearest_int(x[l]))
                return wrong(text, "nearest", x[l], n[l], 0, 0);
            if (t[l] != bise_trunc_i32(x[l]))
                return wrong(text, "trunc", x[l], t[l], 0, 0);
            if (fabsf(x[l]) < 4e6f && r[l] != (float)n[l])
                return wrong(text, "round", x[l], r[l], n[l], 0);
            if (inv[l] != bise_inverse(x[l]))
                return wrong(text, "inverse", x[l], inv[l], 0, 0);
            if (neg[l] != -x[l] || signbit(neg[l]) == signbit(x[l]))
                return wrong(text, "neg", x[l], neg[l], 0, 0);
        }
    }
    return NULL;
}

/* Clamping by bits is clamping by value. */
static const char *check_clamps(char *text)
{
    float x[W], up[W], both[W];
    for (int i = 0; i < 512; i += W) {
        for (int l = 0; l < W; l++)
            x[l] = edge(i + l);
        v_store(up, v_clamp_up(v_load(x), 15));
        v_store(both, v_clamp(v_load(x), -32, 31));
        for (int l = 0; l < W; l++) {
            const float a = x[l] < 0 ? 0 : x[l] > 15 ? 15 : x[l];
            const float b = x[l] < -32 ? -32 : x[l] > 31 ? 31 : x[l];
            if (up[l] != a || both[l] != b)
                return wrong(text, "clamp", x[l], up[l], both[l], 0);
        }
    }
    return NULL;
}

/* Masks: comparisons, their combinations, counting and selecting. */
static const char *check_masks(char *text)
{
    float a[W], b[W], s[W];
    int32_t n[W];
    for (int l = 0; l < W; l++) {
        a[l] = (float)(l % 3);
        b[l] = (float)(l % 2);
    }
    const vf va = v_load(a), vb = v_load(b);
    const vm lt = v_lt(va, vb), ge = v_ge(va, vb), eq = v_eq(va, vb);
    if (m_any(m_and(lt, ge)) || !m_all(m_or(lt, ge)) ||
        m_bits(m_not(lt)) != m_bits(ge))
        return wrong(text, "masks", m_bits(lt), m_bits(ge), 0, 0);
    v_store(s, v_sel(lt, va, vb));
    vi_store(n, vi_count(vi_set(5), eq));
    for (int l = 0; l < W; l++) {
        const float want = a[l] < b[l] ? a[l] : b[l];
        if (s[l] != want || n[l] != 5 + (a[l] == b[l]) ||
            (m_bits(v_gt(va, vb)) >> l & 1) != (a[l] > b[l]))
            return wrong(text, "lane", l, s[l], n[l], 0);
    }
    const vf nan = v_set(NAN);
    if (m_any(v_lt(nan, va)) || m_any(v_ge(nan, va)) || m_any(v_eq(nan, nan)))
        return wrong(text, "NaN compares", 0, 0, 0, 0);
    return NULL;
}

/* Transposes, reductions and narrowing. */
static const char *check_moves(char *text)
{
    static float rows[W][40];
    const float *row[W];
    float got[W], low[W];
    uint8_t bytes[16];
    int32_t ints[16];
    vf cols[16], v[W];
    for (int r = 0; r < W; r++) {
        row[r] = rows[r];
        for (int c = 0; c < 40; c++)
            rows[r][c] = (float)((r * 41 + c * 17) % 101 - 50);
    }
    v_load_columns(cols, row, 3, 16);
    for (int c = 0; c < 16; c++) {
        v_store(got, cols[c]);
        for (int r = 0; r < W; r++)
            if (got[r] != rows[r][c + 3])
                return wrong(text, "columns", r, c, got[r], 0);
    }
    for (int largest = 0; largest < 2; largest++) {
        for (int r = 0; r < W; r++)
            v[r] = v_load(rows[r]);
        v_store(low, v_reduce(v, largest));
        for (int r = 0; r < W; r++) {
            float want = rows[r][0];
            for (int c = 1; c < W; c++)
                want = largest ? fmaxf(want, rows[r][c]) :
                                 fminf(want, rows[r][c]);
            if (low[r] != want)
                return wrong(text, "reduce", r, low[r], want, largest);
        }
    }
    for (int i = 0; i < 16; i++)
        ints[i] = i % 4 == 3 ? INT32_MIN : i * 37 - 200;
    vi q[2] = { vi_bits(v_load(ints)), vi_bits(v_load(ints + 16 - W)) };
    v_store_bytes16(bytes, q);
    for (int i = 0; i < 16; i++)
        if (bytes[i] != (uint8_t)ints[i])
            return wrong(text, "bytes", i, bytes[i], ints[i], 0);
    return NULL;
}

/* Nearest code book entries over the whole range and around every midpoint. */
static const char *check_iq4(char *text)
{
    static const int8_t C[16] = BISE_IQ4_VALUES;
    const iq4_tables t = iq4_make_tables();
    float x[W], value[W];
    int32_t index[W];
    for (int i = 0; i < 30000; i += W) {
        for (int l = 0; l < W; l++) {
            const int m = (i + l) % 15, step = (i + l) / 15 % 9 - 4;
            x[l] = (float)(i + l - 15000) / 100;
            if (i % (4 * W) == 0) {    /* some ulps beside a midpoint */
                x[l] = (float)(C[m] + C[m + 1]) / 2;
                for (int k = 0; k < (step < 0 ? -step : step); k++)
                    x[l] = nextafterf(x[l], step < 0 ? -1e9f : 1e9f);
            }
        }
        v_store(value, iq4_value(v_load(x), &t));
        vi_store(index, iq4_index(v_load(x), &t));
        for (int l = 0; l < W; l++) {
            const int want = bise_iq4_nearest(x[l]);
            if (index[l] != want || value[l] != C[want])
                return wrong(text, "iq4", x[l], index[l], value[l], want);
        }
    }
    for (int l = 0; l < W; l++)
        x[l] = l % 2 ? 1e30f : -1e30f;
    vi_store(index, iq4_index(v_load(x), &t));
    return index[0] != 0 || index[1] != 15 ?
               wrong(text, "iq4 far", index[0], index[1], 0, 0) : NULL;
}

/* Blocks of n weights, one in each lane, of all kinds of input. */
typedef struct blocks {
    float x[W][32], w[W][32];
    vf vx[32], vw[32];
} blocks;

static void make_blocks(blocks *b, int n, int round)
{
    const float *rx[W], *rw[W];
    for (int l = 0; l < W; l++) {
        const int kind = (l + round) % INPUT_KINDS;
        input_fill(b->x[l], (size_t)n, kind, (uint64_t)(round * W + l));
        for (int i = 0; i < n; i++)
            b->w[l][i] = bise_rng_f32(3, (uint64_t)l, (uint64_t)i) + 0.01f;
        rx[l] = b->x[l];
        rw[l] = b->w[l];
    }
    v_load_columns(b->vx, rx, 0, n);
    v_load_columns(b->vw, rw, 0, n);
}

static const char *check_qx(char *text)
{
    blocks b;
    uint8_t L[32];
    float scale[W], iscale[W], max[W];
    for (int round = 0; round < ROUNDS; round++) {
        make_blocks(&b, 16, round);
        const found f = v_search_qx(16, 32, b.vx, b.vw);
        v_store(scale, f.scale);
        v_store(iscale, f.iscale);
        v_store(max, v_signed_max(b.vx, 16));
        for (int l = 0; l < W; l++) {
            const float want = bise_search_qx(16, 32, b.x[l], b.w[l], L);
            if (scale[l] != want)
                return wrong(text, "qx scale", l, round, scale[l], want);
            if (max[l] != bise_signed_max(b.x[l], 16))
                return wrong(text, "signed max", l, round, max[l], 0);
            for (int i = 0; i < 16 && iscale[l] != 0; i++) {
                const int q = bise_nearest_int(iscale[l] * b.x[l][i]);
                if (bise_clamp_int(q, -32, 31) + 32 != L[i])
                    return wrong(text, "qx code", l, i, q, L[i]);
            }
        }
    }
    return NULL;
}

/* Both error measures, from one group to as
 * many as run side by side, each with its own data. */
static const char *check_qkx(char *text)
{
    static const bise_qkx kinds[2] = { { 32, 15, -1, 0.1f, 20, false },
                                       { 16, 3, -0.5f, 0.1f, 15, true } };
    blocks b[Q];
    uint8_t L[32];
    found f[Q];
    vf sw[Q], *x[Q], *w[Q];
    float scale[W], min[W], iscale[W], from[W], sum[W];
    for (int round = 0; round < 2 * ROUNDS; round++) {
        const bise_qkx *p = &kinds[round % 2];
        const int groups = round % 3 ? Q : 1;
        for (int g = 0; g < groups; g++) {
            make_blocks(&b[g], p->n, round + 1000 * g);
            x[g] = b[g].vx;
            w[g] = b[g].vw;
        }
        if (groups == Q)
            v_search_qkx(p, Q, x, w, f, sw);
        else
            v_search_qkx(p, 1, x, w, f, sw);
        for (int g = 0; g < groups; g++) {
            v_store(scale, f[g].scale);
            v_store(min, f[g].min);
            v_store(iscale, f[g].iscale);
            v_store(from, f[g].from);
            v_store(sum, sw[g]);
            for (int l = 0; l < W; l++) {
                float m;
                const float d = bise_search_qkx(p, b[g].x[l], b[g].w[l], &m,
                                                L);
                if (scale[l] != d || min[l] != m ||
                    sum[l] != bise_sum(b[g].w[l], p->n))
                    return wrong(text, "qkx", l, round, scale[l], d);
                for (int i = 0; i < p->n; i++) {
                    const float v = iscale[l] * (b[g].x[l][i] - from[l]);
                    const int q = bise_clamp_int(bise_nearest_int(v), 0,
                                                 p->nmax);
                    if (iscale[l] == 0 ? L[i] != 0 : q != L[i])
                        return wrong(text, "qkx code", l, i, q, L[i]);
                }
            }
        }
    }
    return NULL;
}

static const char *check_q3(char *text)
{
    blocks b[G];
    uint8_t L[32];
    found f[G];
    float scale[W];
    for (int round = 0; round < ROUNDS; round++) {
        for (int g = 0; g < G; g++)
            make_blocks(&b[g], 16, round + 500 * g);
        vf *const x[G] = { b[0].vx, b[1].vx };
        v_search_q3(16, 4, x, f);
        for (int g = 0; g < G; g++) {
            v_store(scale, f[g].scale);
            for (int l = 0; l < W; l++) {
                const float want = bise_search_q3(16, 4, b[g].x[l], L);
                if (scale[l] != want)
                    return wrong(text, "q3", l, round, scale[l], want);
            }
        }
    }
    return NULL;
}

/* Scales of scales: also all kinds, though callers pass few negatives. */
static const char *check_codes(char *text)
{
    blocks b;
    uint8_t L[32];
    vi code[16];
    float d[W];
    int32_t c[W];
    for (int round = 0; round < 2 * ROUNDS; round++) {
        const int linear = round % 2;
        make_blocks(&b, 16, round);
        v_store(d, linear ? v_linear_codes(16, 63, b.vx, code) :
                            v_search_qp(16, 15, b.vx, b.vw, code));
        for (int l = 0; l < W; l++) {
            const float want = linear ?
                bise_linear_codes(L, b.x[l], 16, 63) :
                bise_search_qp(16, 15, b.x[l], b.w[l], L);
            if (d[l] != want)
                return wrong(text, linear ? "linear" : "qp", l, round, d[l],
                             want);
            for (int j = 0; j < 16; j++) {
                vi_store(c, code[j]);
                if (c[l] != L[j])
                    return wrong(text, "code", l, j, c[l], L[j]);
            }
        }
    }
    return NULL;
}

static const char *check_iq4_search(char *text)
{
    const iq4_tables t = iq4_make_tables();
    blocks b;
    float d[W];
    for (int round = 0; round < ROUNDS; round++) {
        make_blocks(&b, 32, round);
        v_store(d, v_search_iq4(b.vx, b.vw, &t));
        for (int l = 0; l < W; l++) {
            const float want = bise_search_iq4(b.x[l], b.w[l]);
            if (d[l] != want)
                return wrong(text, "iq4 search", l, round, d[l], want);
        }
    }
    return NULL;
}

/* The checks by number; NULL past the last. */
vec_check_fn *BISE_ISA_NAME(vec_check)(int i)
{
    static vec_check_fn *const checks[] = {
        check_rounding, check_clamps, check_masks, check_moves, check_iq4,
        check_qx, check_qkx, check_q3, check_codes, check_iq4_search
    };
    return i < VEC_CHECKS ? checks[i] : NULL;
}
