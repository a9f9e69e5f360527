/* check_linear.c - linear layers against the plain formulas in double: every
 * stored type, row order and scale; groups; adapters with and without dropout;
 * input and adapter gradients; token counts on both sides of every tile; and
 * the same values for any number of threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "core/rng.h"
#include "kernels/gemm.h"
#include "model/linear_int.h"

static bise_error err;

/* A deterministic value in [-1, 1). */
static float noise(uint64_t stream, uint64_t i)
{
    return 2 * bise_rng_f32(77, stream, i) - 1;
}

static float *random_rows(uint64_t stream, size_t n)
{
    float *x = bise_alloc_array(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = noise(stream, i);
    return x;
}

/* ------------------------------------------------------------- a weight --- */

/* A stored matrix, its view, and the float32 values that the view means. */
typedef struct weight {
    bise_linear l;
    void *stored;
    float *w;       /* [out, in] in half order */
    float *scales;
} weight;

/* Store random values as a type; w gets what decoding gives back. */
static void make_weight(weight *m, bise_dtype type, int32_t out, int32_t in,
                        uint64_t stream)
{
    const size_t n = (size_t)out * (size_t)in;
    memset(m, 0, sizeof *m);
    const bise_codec *codec = bise_codec_get(type);
    m->w = random_rows(stream, n);
    m->stored = bise_alloc_aligned(bise_dtype_bytes(type, n));
    if (codec->encode)
        codec->encode(m->stored, m->w, (size_t)out, (size_t)in, NULL);
    else                        /* FP8: codes of small numbers, no NaN */
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)m->stored)[i] =
                (uint8_t)(bise_rng_below(78, stream, i, 0x38) |
                          (i % 3 ? 0 : 0x80));
    codec->decode(m->w, m->stored, n);
    m->l = (bise_linear){
        .role = { BISE_ROLE_Q, 0, -1 }, .in = in, .out = out, .dtype = type,
        .data = m->stored, .row_bytes = bise_dtype_bytes(type, (uint64_t)in),
    };
    if (type != BISE_DTYPE_F32 && type != BISE_DTYPE_BF16 &&
        type != BISE_DTYPE_F16)
        m->l.decode = codec->decode;
}

/* Reorder w as if the stored rows were interleaved in heads of D. */
static void interleave(weight *m, int32_t D)
{
    const size_t in = (size_t)m->l.in, bytes = in * sizeof *m->w;
    float *file = bise_alloc_array((size_t)m->l.out, bytes);
    memcpy(file, m->w, (size_t)m->l.out * bytes);
    for (int32_t h = 0; h < m->l.out / D; h++)
        for (int32_t i = 0; i < D / 2; i++)
            for (int32_t b = 0; b < 2; b++)
                memcpy(m->w + (size_t)(h * D + b * (D / 2) + i) * in,
                       file + (size_t)(h * D + 2 * i + b) * in, bytes);
    m->l.pair_rows = D;
    bise_free(file);
}

/* One scale for the tensor (block 0), for each row (BISE_SCALE_ROWS), or for
 * each block x block. */
static void add_scales(weight *m, int32_t block)
{
    const bool each = block == BISE_SCALE_ROWS;
    const int32_t rows = each    ? m->l.out
                         : block ? (m->l.out + block - 1) / block : 1;
    const int32_t cols = block > 0 ? (m->l.in + block - 1) / block : 1;
    m->scales = bise_alloc_array((size_t)rows * (size_t)cols,
                                 sizeof *m->scales);
    for (int32_t i = 0; i < rows * cols; i++)
        m->scales[i] = 0.25f + 0.5f * (float)i;
    m->l.scales = m->scales;
    m->l.scale_block = block;
    m->l.scale_cols = block > 0 ? cols : 0;
    for (int32_t o = 0; o < m->l.out; o++)
        for (int32_t i = 0; i < m->l.in; i++)
            m->w[(size_t)o * (size_t)m->l.in + (size_t)i] *=
                m->scales[each        ? o
                          : block > 0 ? o / block * cols + i / block : 0];
}

static void free_weight(weight *m)
{
    bise_linear_fini(&m->l);
    bise_free_aligned(m->stored);
    bise_free(m->w);
    bise_free(m->scales);
}

/* ----------------------------------------------------------- an adapter --- */

/* Adapter modules for roles Q, K, V of layer 0, in one set. */
typedef struct adapter {
    bise_lora lora;
    bise_lora_module mod[BISE_GROUP_MAX];
    float *values, *grads;
} adapter;

static void make_adapter(adapter *a, const weight *w, int n, int32_t r,
                         bool trained)
{
    size_t total = 0, at = 0;
    memset(a, 0, sizeof *a);
    for (int i = 0; i < n; i++)
        total += (size_t)(r + i) * (size_t)(w[i].l.in + w[i].l.out);
    a->values = random_rows(500, total);
    a->grads = bise_alloc_array(total, sizeof *a->grads);
    for (int i = 0; i < n; i++) {
        const size_t ri = (size_t)(r + i);
        bise_lora_module *m = &a->mod[i];
        *m = (bise_lora_module){
            .role = w[i].l.role, .r = r + i, .in = w[i].l.in,
            .out = w[i].l.out, .scale = 0.5f + (float)i,
            .a = a->values + at, .da = trained ? a->grads + at : NULL,
        };
        at += ri * (size_t)m->in;
        m->b = a->values + at;
        m->db = trained ? a->grads + at : NULL;
        at += ri * (size_t)m->out;
    }
    a->lora.modules = a->mod;
    a->lora.n = (size_t)n;
}

static void free_adapter(adapter *a)
{
    bise_free(a->values);
    bise_free(a->grads);
}

/* ------------------------------------------------------------- an exec --- */

static bise_exec make_exec(bise_pool *pool, const weight *w, int n)
{
    bise_exec e = { .pool = pool, .k = bise_kernels_get(), .seed = 5,
                    .step = 2, .micro = 1 };
    bise_gemm_setup();
    for (int i = 0; i < n; i++)
        if (bise_linear_scratch(&w[i].l) > e.scratch_floats)
            e.scratch_floats = bise_linear_scratch(&w[i].l);
    e.scratch = bise_alloc_aligned((size_t)bise_pool_threads(pool) *
                                   e.scratch_floats * sizeof(float));
    return e;
}

/* y = x W^T in double, rounded to float at the end. */
static void naive_forward(float *y, const float *x, const weight *w, int32_t T)
{
    for (int32_t t = 0; t < T; t++)
        for (int32_t o = 0; o < w->l.out; o++) {
            double sum = 0;
            for (int32_t i = 0; i < w->l.in; i++)
                sum += (double)x[t * w->l.in + i] *
                       (double)w->w[o * w->l.in + i];
            y[t * w->l.out + o] = (float)sum;
        }
}

static void near_all(const float *got, const float *want, size_t n, double tol,
                     const char *what)
{
    double most = 1;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)want[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tol * most))
            ck_abort_msg("%s[%zu of %zu]: %.8g, want %.8g", what, i, n,
                         (double)got[i], (double)want[i]);
}

/* ----------------------------------------------------------------- tests --- */

static const bise_dtype types[] = {
    BISE_DTYPE_F32, BISE_DTYPE_F16, BISE_DTYPE_BF16, BISE_DTYPE_Q8_0,
    BISE_DTYPE_Q4_0, BISE_DTYPE_Q4_1, BISE_DTYPE_Q5_0, BISE_DTYPE_Q5_1,
    BISE_DTYPE_Q2_K, BISE_DTYPE_Q3_K, BISE_DTYPE_Q4_K, BISE_DTYPE_Q5_K,
    BISE_DTYPE_Q6_K, BISE_DTYPE_IQ4_NL, BISE_DTYPE_IQ4_XS,
};
#define N_TYPES ((int)(sizeof types / sizeof *types))

/* Forward and input gradient of one weight for a few token counts. */
static void both_ways(const weight *w, int32_t T)
{
    const size_t in = (size_t)w->l.in, out = (size_t)w->l.out, t = (size_t)T;
    const bise_exec e = make_exec(NULL, w, 1);
    float *x = random_rows(20, t * in), *dy = random_rows(21, t * out);
    float *y = random_rows(22, t * out), *want = random_rows(22, t * out);
    float *dx = random_rows(23, t * in), *wantx = random_rows(23, t * in);
    float *sum = bise_alloc_array(t * out, sizeof *sum);
    naive_forward(sum, x, w, T);
    bise_linears_forward(&e, &w->l, 1, &y, x, T, NULL, true);
    for (size_t i = 0; i < t * out; i++)
        want[i] += sum[i];                      /* add keeps what was there */
    near_all(y, want, t * out, 2e-6, "y +=");
    bise_linears_forward(&e, &w->l, 1, &y, x, T, NULL, false);
    near_all(y, sum, t * out, 2e-6, "y");
    for (size_t a = 0; a < t; a++)
        for (size_t i = 0; i < in; i++) {
            double d = 0;
            for (size_t o = 0; o < out; o++)
                d += (double)dy[a * out + o] * (double)w->w[o * in + i];
            wantx[a * in + i] = (float)d;
        }
    bise_linears_backward(&e, &w->l, 1, dx, &dy, x, NULL, NULL, T, false);
    near_all(dx, wantx, t * in, 2e-6, "dx");
    bise_linears_backward(&e, &w->l, 1, dx, &dy, x, NULL, NULL, T, true);
    for (size_t i = 0; i < t * in; i++)
        wantx[i] *= 2;
    near_all(dx, wantx, t * in, 4e-6, "dx +=");
    bise_free(x);
    bise_free(dy);
    bise_free(y);
    bise_free(want);
    bise_free(dx);
    bise_free(wantx);
    bise_free(sum);
    bise_free_aligned(e.scratch);
}

START_TEST(every_type_multiplies)
{
    const bise_dtype type = types[_i];
    const int32_t block = (int32_t)bise_dtype_get(type)->block_len;
    const int32_t in = block == 1 ? 37 : block == 32 ? 96 : 512;
    weight w;
    make_weight(&w, type, 53, in, 30);
    for (int32_t T = 1; T <= 70; T += T < 6 ? 1 : 21)
        both_ways(&w, T);
    float row[512];
    bise_linear_row(&w.l, 52, row);
    ck_assert_mem_eq(row, w.w + 52 * in, (size_t)in * sizeof *row);
    free_weight(&w);
}
END_TEST

START_TEST(interleaved_rows_come_out_in_half_order)
{
    const bise_dtype kinds[] = { BISE_DTYPE_F32, BISE_DTYPE_BF16,
                                 BISE_DTYPE_Q8_0 };
    weight w;
    make_weight(&w, kinds[_i], 3 * 10, 64, 31);
    interleave(&w, 10);
    both_ways(&w, 1);
    both_ways(&w, 9);
    free_weight(&w);
}
END_TEST

START_TEST(scales_are_multiplied)
{
    const int32_t blocks[] = { 0, 16, 128, BISE_SCALE_ROWS };
    weight w;
    make_weight(&w, BISE_DTYPE_F8_E4M3, 40, 72, 32);
    add_scales(&w, blocks[_i]);
    both_ways(&w, 2);
    both_ways(&w, 33);
    free_weight(&w);
}
END_TEST

/* drop(x) of one branch as lora.md 11 wants it: a function of the seed, the
 * step, the branch and the place. */
static void naive_drop(float *out, const float *x, const bise_exec *e,
                       const bise_branch *b, size_t n)
{
    const uint64_t seed = bise_mix64(e->seed ^ bise_mix64(e->step) ^
                                     bise_mix64(~e->micro));
    for (size_t i = 0; i < n; i++)
        out[i] = bise_rng_f32(seed, b->stream, i) < b->dropout ?
                     0 : x[i] / (1 - b->dropout);
}

/* Formulas of lora.md 1 for one linear with one branch. */
static void naive_adapter(const bise_exec *e, const weight *w, const float *x,
                          const float *dy, int32_t T, float *y, float *dx,
                          float *da, float *db)
{
    const bise_branch *br = &w->l.branches[0];
    const bise_lora_module *m = br->m;
    const int32_t in = m->in, out = m->out, r = m->r;
    float *d = bise_alloc_array((size_t)T * (size_t)in, sizeof *d);
    float *one = bise_alloc_array((size_t)T * (size_t)in, sizeof *one);
    float *mask = bise_alloc_array((size_t)T * (size_t)in, sizeof *mask);
    const size_t n = (size_t)T * (size_t)in;
    for (size_t i = 0; i < n; i++)
        one[i] = 1;
    if (e->training && br->dropout > 0) {
        naive_drop(d, x, e, br, n);
        naive_drop(mask, one, e, br, n);
    } else {
        memcpy(d, x, n * sizeof *d);
        memcpy(mask, one, n * sizeof *d);
    }
    for (int32_t t = 0; t < T; t++)
        for (int32_t k = 0; k < r; k++) {
            double h = 0, dh = 0;
            for (int32_t i = 0; i < in; i++)
                h += (double)d[t * in + i] * (double)m->a[k * in + i];
            for (int32_t o = 0; o < out; o++) {
                const double g = (double)m->scale * (double)dy[t * out + o];
                y[t * out + o] += (float)((double)m->scale * h *
                                          (double)m->b[o * r + k]);
                db[o * r + k] += (float)(g * h);
                dh += g * (double)m->b[o * r + k];
            }
            for (int32_t i = 0; i < in; i++) {
                da[k * in + i] += (float)(dh * (double)d[t * in + i]);
                dx[t * in + i] += (float)(dh * (double)m->a[k * in + i] *
                                          (double)mask[t * in + i]);
            }
        }
    bise_free(d);
    bise_free(one);
    bise_free(mask);
}

/* A group of three linears on one x with adapters on all, or on the second
 * only; everything against the formulas. */
static void check_group(float dropout, int32_t T, bise_pool *pool,
                        bise_dtype type)
{
    const int32_t in = 64, outs[] = { 48, 20, 33 };
    weight w[3];
    adapter a;
    float *y[3], *wy[3], *dy[3];
    const size_t t = (size_t)T;
    for (int i = 0; i < 3; i++) {
        make_weight(&w[i], type, outs[i], in, 40 + (uint64_t)i);
        w[i].l.role.kind = (bise_role_kind)(BISE_ROLE_Q + i);
        y[i] = random_rows(50 + (uint64_t)i, t * (size_t)outs[i]);
        wy[i] = random_rows(50 + (uint64_t)i, t * (size_t)outs[i]);
        dy[i] = random_rows(60 + (uint64_t)i, t * (size_t)outs[i]);
    }
    make_adapter(&a, w, 3, 4, true);
    a.lora.dropout = dropout;
    bise_lora *list[] = { &a.lora };
    for (int i = 0; i < 3; i++) {
        ck_ok(bise_linear_adapt(&w[i].l, list, 1, &err));
        ck_assert(w[i].l.trained);
    }
    bise_exec e = make_exec(pool, w, 3);
    e.training = dropout > 0;
    const bise_linear group[] = { w[0].l, w[1].l, w[2].l };
    float *x = random_rows(70, t * (size_t)in);
    float *dx = random_rows(71, t * (size_t)in);
    float *h = bise_alloc_array(t * (4 + 5 + 6), sizeof *h);
    float *dh = bise_alloc_array(t * (4 + 5 + 6), sizeof *dh);
    bise_linears_forward(&e, group, 3, y, x, T, h, false);
    bise_linears_backward(&e, group, 3, dx, dy, x, h, dh, T, false);
    /* The same by formulas: base first, then each adapter on top. */
    float *wdx = bise_alloc_array(t * (size_t)in, sizeof *wdx);
    for (int i = 0; i < 3; i++) {
        const bise_lora_module *m = &a.mod[i];
        float *da = bise_alloc_array((size_t)(m->r * in), sizeof *da);
        float *db = bise_alloc_array((size_t)(m->r * m->out), sizeof *db);
        naive_forward(wy[i], x, &w[i], T);
        for (int32_t s = 0; s < T; s++)
            for (int32_t c = 0; c < in; c++)
                for (int32_t o = 0; o < outs[i]; o++)
                    wdx[s * in + c] += dy[i][s * outs[i] + o] *
                                       w[i].w[o * in + c];
        naive_adapter(&e, &w[i], x, dy[i], T, wy[i], wdx, da, db);
        near_all(y[i], wy[i], t * (size_t)outs[i], 1e-5, "y");
        near_all(m->da, da, (size_t)(m->r * in), 1e-5, "dA");
        near_all(m->db, db, (size_t)(m->r * m->out), 1e-5, "dB");
        bise_free(da);
        bise_free(db);
    }
    near_all(dx, wdx, t * (size_t)in, 1e-5, "dx");
    for (int i = 0; i < 3; i++) {
        bise_free(y[i]);
        bise_free(wy[i]);
        bise_free(dy[i]);
        free_weight(&w[i]);
    }
    bise_free(x);
    bise_free(dx);
    bise_free(h);
    bise_free(dh);
    bise_free(wdx);
    bise_free_aligned(e.scratch);
    free_adapter(&a);
}

START_TEST(groups_with_adapters_follow_the_formulas)
{
    const int32_t tokens[] = { 1, 3, 4, 63, 64, 65, 150 };
    check_group(0, tokens[_i], NULL, BISE_DTYPE_F32);
    check_group(0, tokens[_i], NULL, BISE_DTYPE_Q8_0);
}
END_TEST

START_TEST(dropout_masks_both_directions)
{
    const int32_t tokens[] = { 1, 5, 64, 65, 130 };
    check_group(0.3f, tokens[_i], NULL, BISE_DTYPE_F32);
}
END_TEST

START_TEST(workers_share_nothing)
{
    bise_pool *pool;
    ck_ok(bise_pool_new(&pool, 4, &err));
    check_group(0, 150, pool, BISE_DTYPE_BF16);
    check_group(0.5f, 70, pool, BISE_DTYPE_F32);
    bise_pool_free(pool);
}
END_TEST

/* y, dx, dA, dB of one configuration, to be compared bit for bit. */
static float *all_bits(int threads, size_t *n)
{
    const int32_t T = 130, in = 96, out = 200;
    weight w;
    adapter a;
    bise_pool *pool;
    make_weight(&w, BISE_DTYPE_Q4_0, out, in, 80);
    make_adapter(&a, &w, 1, 8, true);
    a.lora.dropout = 0.1f;
    bise_lora *list[] = { &a.lora };
    ck_ok(bise_linear_adapt(&w.l, list, 1, &err));
    ck_ok(bise_pool_new(&pool, threads, &err));
    bise_exec e = make_exec(pool, &w, 1);
    e.training = true;
    const size_t ny = (size_t)(T * out), nx = (size_t)(T * in);
    const size_t ng = (size_t)(8 * (in + out));
    float *all = bise_alloc_array(ny + nx + ng, sizeof *all), *y = all;
    float *x = random_rows(81, nx), *dy = random_rows(82, ny);
    float *h = bise_alloc_array((size_t)T * 8, sizeof *h);
    float *dh = bise_alloc_array((size_t)T * 8, sizeof *dh);
    bise_linears_forward(&e, &w.l, 1, &y, x, T, h, false);
    bise_linears_backward(&e, &w.l, 1, all + ny, &dy, x, h, dh, T, false);
    memcpy(all + ny + nx, a.grads, ng * sizeof *all);
    *n = ny + nx + ng;
    bise_free(x);
    bise_free(dy);
    bise_free(h);
    bise_free(dh);
    bise_free_aligned(e.scratch);
    bise_pool_free(pool);
    free_adapter(&a);
    free_weight(&w);
    return all;
}

START_TEST(threads_change_no_bit)
{
    const int threads[] = { 2, 3, 5 };
    size_t n, m;
    float *one = all_bits(1, &n), *other = all_bits(threads[_i], &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(one, other, n * sizeof *one);
    bise_free(one);
    bise_free(other);
}
END_TEST

START_TEST(frozen_adapters_get_no_gradient)
{
    weight w;
    adapter a;
    make_weight(&w, BISE_DTYPE_F32, 24, 16, 90);
    make_adapter(&a, &w, 1, 3, false);
    bise_lora *list[] = { &a.lora };
    ck_ok(bise_linear_adapt(&w.l, list, 1, &err));
    ck_assert(!w.l.trained);
    const bise_exec e = make_exec(NULL, &w, 1);
    float x[5 * 16], dy[5 * 24], dx[5 * 16], h[15], dh[15], *d = dy;
    for (int i = 0; i < 5 * 16; i++)
        x[i] = noise(91, (uint64_t)i);
    for (int i = 0; i < 5 * 24; i++)
        dy[i] = noise(92, (uint64_t)i);
    bise_linears_adapters(&e, &w.l, 1, x, 5, h);
    bise_linears_backward(&e, &w.l, 1, dx, &d, x, h, dh, 5, false);
    for (int i = 0; i < 3 * (16 + 24); i++)
        ck_assert(a.grads[i] == 0);
    bise_free_aligned(e.scratch);
    free_adapter(&a);
    free_weight(&w);
}
END_TEST

START_TEST(modules_must_fit)
{
    weight w;
    adapter a;
    make_weight(&w, BISE_DTYPE_F32, 24, 16, 93);
    make_adapter(&a, &w, 1, 3, true);
    a.mod[0].in = 15;
    bise_lora *list[] = { &a.lora };
    ck_fails(bise_linear_adapt(&w.l, list, 1, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "24x15"));
    bise_linear_fini(&w.l);
    a.mod[0].in = 16;
    a.mod[0].role.layer = 1;    /* another layer's module is not ours */
    ck_ok(bise_linear_adapt(&w.l, list, 1, &err));
    ck_assert_int_eq(w.l.n_branches, 0);
    free_adapter(&a);
    free_weight(&w);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("linear");
    TCase *t = tcase_create("linear");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_type_multiplies, 0, N_TYPES);
    tcase_add_loop_test(t, interleaved_rows_come_out_in_half_order, 0, 3);
    tcase_add_loop_test(t, scales_are_multiplied, 0, 4);
    tcase_add_loop_test(t, groups_with_adapters_follow_the_formulas, 0, 7);
    tcase_add_loop_test(t, dropout_masks_both_directions, 0, 5);
    tcase_add_test(t, workers_share_nothing);
    tcase_add_loop_test(t, threads_change_no_bit, 0, 3);
    tcase_add_test(t, frozen_adapters_get_no_gradient);
    tcase_add_test(t, modules_must_fit);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
