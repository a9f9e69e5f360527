/* check_rows16_linear.c - linear layers over rows of bf16 (rows16.h) against
 * the plain formulas in double and against the float32 path of matmul.c with
 * the same dropout masks: groups, frozen and trained adapters together, odd
 * sizes; and the same bits for any number of threads.
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
#include "model/rows16.h"

#define POISON 0x7fc1 /* a NaN: what must not be read */
#define START 0.25f   /* gradients are added to what is there */

static bise_error err;

static float draw(uint64_t stream, size_t i)
{
    return 2 * bise_rng_f32(21, stream, i) - 1;
}

static float *draw_all(uint64_t stream, size_t n, float times)
{
    float *x = bise_alloc_array(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = times * draw(stream, i);
    return x;
}

/* What a test asks for. */
typedef struct setup {
    bise_dtype type;
    int32_t n, in, out[3], T;
    int32_t r[2];         /* ranks of the frozen and the trained adapter */
    float dropout;        /* of the trained one */
    int only;             /* the frozen one sits on this linear, -1: on all */
    bool add;
} setup;

/* An adapter for the linears of a group. */
typedef struct adapter {
    bise_lora lora;
    bise_lora_module mod[3];
    float *values, *grads;
    size_t n_values;
} adapter;

/* The group, its inputs as bf16 and as the float32 they stand for. */
typedef struct group {
    setup s;
    bise_linear l[3];
    void *stored[3];
    float *w[3];          /* decoded and rounded to bf16 */
    adapter ad[2];
    bise_rows16 x16, dy16[3];
    float *x, *dy[3];
    size_t rank, n_all;   /* values of all results, see place_of */
} group;

/* Results in one array: h, y of each linear, dx, trained gradients. */
typedef struct results {
    float *all, *h, *y[3], *dx, *grads;
} results;

/* A copy in bf16; what may be read beyond a row is finite, the rest NaN. */
static bise_rows16 rows_of(const float *x, int32_t T, int32_t width)
{
    const size_t ld = bise_stride16(width);
    bise_rows16 to = { bise_alloc_array((size_t)T * ld, sizeof(uint16_t)), ld };
    for (size_t t = 0; t < (size_t)T; t++)
        for (size_t c = 0; c < ld; c++)
            to.data[t * ld + c] =
                c < (size_t)width ?
                    bise_f32_to_bf16(x[t * (size_t)width + c]) :
                c == (size_t)width && width % 2 ? 0x4640 : POISON;
    return to;
}

/* Values that bf16 holds. */
static float *draw_rounded(uint64_t stream, size_t n)
{
    float *x = draw_all(stream, n, 1);
    for (size_t i = 0; i < n; i++)
        x[i] = bise_bf16_to_f32(bise_f32_to_bf16(x[i]));
    return x;
}

/* Random modules of rank r, r + 1, ... on the linears; number 1 is trained. */
static void make_adapter(adapter *a, const group *g, int which)
{
    const size_t r = (size_t)g->s.r[which];
    size_t at = 0;
    for (int i = 0; i < g->s.n; i++)
        a->n_values += (r + (size_t)i) * (size_t)(g->s.in + g->s.out[i]);
    a->values = draw_all(30 + (uint64_t)which, a->n_values, 0.5f);
    a->grads = bise_alloc_array(a->n_values, sizeof *a->grads);
    for (int i = 0; i < g->s.n; i++) {
        if (which == 0 && g->s.only >= 0 && i != g->s.only)
            continue;
        bise_lora_module *m = &a->mod[a->lora.n++];
        *m = (bise_lora_module){
            .role = g->l[i].role, .r = g->s.r[which] + i, .in = g->s.in,
            .out = g->s.out[i], .scale = 0.75f + (float)i,
            .a = a->values + at, .da = which ? a->grads + at : NULL,
        };
        at += (size_t)m->r * (size_t)m->in;
        m->b = a->values + at;
        m->db = which ? a->grads + at : NULL;
        at += (size_t)m->r * (size_t)m->out;
    }
    a->lora.modules = a->mod;
    a->lora.dropout = which ? g->s.dropout : 0;
}

/* Weight i: random values in the type, and what the product sees of them. */
static void make_weight(group *g, int i)
{
    const size_t n = (size_t)g->s.out[i] * (size_t)g->s.in;
    const bise_codec *codec = bise_codec_get(g->s.type);
    g->w[i] = draw_all(40 + (uint64_t)i, n, 1);
    g->stored[i] = bise_alloc_aligned(bise_dtype_bytes(g->s.type, n));
    codec->encode(g->stored[i], g->w[i], (size_t)g->s.out[i],
                  (size_t)g->s.in, NULL);
    codec->decode(g->w[i], g->stored[i], n);
    for (size_t k = 0; k < n; k++)
        g->w[i][k] = bise_bf16_to_f32(bise_f32_to_bf16(g->w[i][k]));
    g->l[i] = (bise_linear){
        .role = { (bise_role_kind)(BISE_ROLE_Q + i), 0, -1 }, .in = g->s.in,
        .out = g->s.out[i], .dtype = g->s.type, .data = g->stored[i],
        .row_bytes = bise_dtype_bytes(g->s.type, (uint64_t)g->s.in),
    };
    if (g->s.type != BISE_DTYPE_F32 && g->s.type != BISE_DTYPE_BF16)
        g->l[i].decode = codec->decode;
}

/* Weights, inputs and both adapters of a setup. */
static void make_group(group *g, const setup *s)
{
    const size_t T = (size_t)s->T;
    *g = (group){ .s = *s };
    g->x = draw_rounded(50, T * (size_t)s->in);
    g->x16 = rows_of(g->x, s->T, s->in);
    for (int i = 0; i < s->n; i++) {
        make_weight(g, i);
        g->dy[i] = draw_rounded(60 + (uint64_t)i, T * (size_t)s->out[i]);
        g->dy16[i] = rows_of(g->dy[i], s->T, s->out[i]);
        g->n_all += T * (size_t)s->out[i];
    }
    bise_lora *list[] = { &g->ad[0].lora, &g->ad[1].lora };
    make_adapter(&g->ad[0], g, 0);
    make_adapter(&g->ad[1], g, 1);
    for (int i = 0; i < s->n; i++) {
        ck_ok(bise_linear_adapt(&g->l[i], list, 2, &err));
        g->rank += (size_t)g->l[i].rank;
    }
    g->n_all += T * (g->rank + (size_t)s->in) + g->ad[1].n_values;
}

/* Everything that make_group made. */
static void free_group(group *g)
{
    for (int i = 0; i < g->s.n; i++) {
        bise_linear_fini(&g->l[i]);
        bise_free_aligned(g->stored[i]);
        bise_free(g->w[i]);
        bise_free(g->dy[i]);
        bise_free(g->dy16[i].data);
    }
    for (int k = 0; k < 2; k++) {
        bise_free(g->ad[k].values);
        bise_free(g->ad[k].grads);
    }
    bise_free(g->x);
    bise_free(g->x16.data);
}

/* Results with y as add finds it and NaN where all is to be set. */
static results new_results(const group *g)
{
    results r = { .all = bise_alloc_array(g->n_all, sizeof(float)) };
    const size_t T = (size_t)g->s.T;
    memset(r.all, 0xff, g->n_all * sizeof *r.all);
    float *at = r.h = r.all;
    at += T * g->rank;
    for (int i = 0; i < g->s.n; at += T * (size_t)g->s.out[i++]) {
        r.y[i] = at;
        for (size_t k = 0; g->s.add && k < T * (size_t)g->s.out[i]; k++)
            at[k] = draw(70 + (uint64_t)i, k);
    }
    r.dx = at;
    r.grads = at + T * (size_t)g->s.in;
    for (size_t k = 0; k < g->ad[1].n_values; k++)
        g->ad[1].grads[k] = START;
    return r;
}

static void *poisoned(size_t bytes)
{
    void *p = bise_alloc_aligned(bytes + 64);
    memset(p, 0xff, bytes + 64);
    return p;
}

/* Scratch for either path; ops NULL is float32 through OpenBLAS. */
static bise_exec make_exec(const group *g, bise_pool *pool,
                           const bise_panel_ops *ops)
{
    bise_exec e = { .pool = pool, .k = bise_kernels_get(), .panel = ops,
                    .training = true, .seed = 8, .step = 3, .micro = 1 };
    e.scratch_floats = (bise_rows16_scratch() + 63) / 64 * 16;
    if (ops && bise_panel_scratch(ops) / 4 > e.scratch_floats)
        e.scratch_floats = (bise_panel_scratch(ops) + 63) / 64 * 16;
    for (int i = 0; i < g->s.n; i++)
        if (bise_linear_scratch(&g->l[i]) > e.scratch_floats)
            e.scratch_floats = bise_linear_scratch(&g->l[i]);
    e.scratch = poisoned((size_t)bise_pool_threads(pool) * e.scratch_floats *
                         sizeof(float));
    return e;
}

/* Both directions over bf16, all workspaces as large as planned. */
static results run_rows16(const group *g, bise_pool *pool)
{
    const setup *s = &g->s;
    results r = new_results(g);
    bise_panel_ops ops;
    bise_panel_ops_init(&ops, bise_cpu_level());
    bise_exec e = make_exec(g, pool, &ops);
    size_t packed = 0, rank = 0;
    bise_adapters16_plan(g->l, s->n, &packed, &rank);
    bise_adapters16 w = { .ld = bise_stride16(s->T) };
    w.packed = poisoned(packed * 2);
    w.dh = poisoned(rank * (size_t)s->T * 4);
    w.ht = poisoned(rank * w.ld * 2);
    w.dht = poisoned(rank * w.ld * 2);
    w.low = poisoned(rank * (size_t)s->T * 2);
    bise_rows16_adapters(&e, &w, g->l, s->n, g->x16, s->T, r.h);
    bise_rows16_forward(&e, &w, g->l, s->n, r.y, g->x16, s->T, r.h, s->add);
    bise_rows16_gradients(&e, &w, g->l, s->n, g->dy16, g->x16, s->T, r.h);
    bise_rows16_backward(&e, &w, g->l, s->n, r.dx, g->dy16, s->T);
    memcpy(r.grads, g->ad[1].grads, g->ad[1].n_values * sizeof(float));
    bise_free_aligned(w.packed);
    bise_free_aligned(w.dh);
    bise_free_aligned(w.ht);
    bise_free_aligned(w.dht);
    bise_free_aligned(w.low);
    bise_free_aligned(e.scratch);
    return r;
}

/* The same in float32. */
static results run_float32(const group *g)
{
    results r = new_results(g);
    const bise_exec e = make_exec(g, NULL, NULL);
    float *dh = poisoned(g->rank * (size_t)g->s.T * sizeof *dh);
    bise_gemm_setup();
    bise_linears_forward(&e, g->l, g->s.n, r.y, g->x, g->s.T, r.h, g->s.add);
    bise_linears_backward(&e, g->l, g->s.n, r.dx, (float *const *)g->dy, g->x,
                          r.h, dh, g->s.T, false);
    memcpy(r.grads, g->ad[1].grads, g->ad[1].n_values * sizeof(float));
    bise_free_aligned(dh);
    bise_free_aligned(e.scratch);
    return r;
}

/* ---------------------------------------------------------- in double --- */

/* The mask of a branch at (t, c), lora.md 11: seed 8, step 3, micro 1. */
static double mask(const bise_branch *b, size_t at)
{
    const uint64_t seed = bise_mix64(8 ^ bise_mix64(3) ^ bise_mix64(~1ULL));
    if (b->dropout <= 0)
        return 1;
    return bise_rng_f32(seed, b->stream, at) < b->dropout ?
               0 : 1 / (1 - (double)b->dropout);
}

/* One token of one branch: h to *to; y, dx, and the gradients when wanted. */
static void naive_token(const group *g, int li, const bise_branch *b,
                        size_t t, double *to, double *y, double *dx,
                        double *da, double *db)
{
    const bise_lora_module *m = b->m;
    const size_t in = (size_t)m->in, out = (size_t)m->out, r = (size_t)m->r;
    const float *x = g->x + t * in, *dy = g->dy[li] + t * out;
    for (size_t k = 0; k < r; k++) {
        double h = 0, dh = 0;
        for (size_t c = 0; c < in; c++)
            h += (double)x[c] * mask(b, t * in + c) * (double)m->a[k * in + c];
        for (size_t o = 0; o < out; o++) {
            const double up = (double)m->scale * (double)m->b[o * r + k];
            y[o] += h * up;
            dh += (double)dy[o] * up;
            if (db)
                db[o * r + k] += (double)m->scale * (double)dy[o] * h;
        }
        for (size_t c = 0; c < in; c++) {
            const double keep = mask(b, t * in + c);
            dx[c] += dh * keep * (double)m->a[k * in + c];
            if (da)
                da[k * in + c] += dh * keep * (double)x[c];
        }
        to[k] = h;
    }
}

/* All results by the formulas, laid out like results.all. */
static double *naive(const group *g, const results *at)
{
    const size_t T = (size_t)g->s.T, in = (size_t)g->s.in;
    double *all = bise_alloc_array(g->n_all, sizeof *all), *h = all;
    double *dx = all + (at->dx - at->all), *grads = all + (at->grads - at->all);
    for (size_t i = 0; i < g->ad[1].n_values; i++)
        grads[i] = (double)START;
    for (int i = 0; i < g->s.n; i++) {
        const size_t out = (size_t)g->s.out[i];
        double *y = all + (at->y[i] - at->all);
        for (size_t k = 0; k < T * out; k++) {
            const float *w = g->w[i] + k % out * in, *x = g->x + k / out * in;
            y[k] = g->s.add ? (double)draw(70 + (uint64_t)i, k) : 0;
            for (size_t c = 0; c < in; c++) {
                y[k] += (double)x[c] * (double)w[c];
                dx[k / out * in + c] += (double)g->dy[i][k] * (double)w[c];
            }
        }
        for (int32_t j = 0; j < g->l[i].n_branches; j++) {
            const bise_branch *b = &g->l[i].branches[j];
            const bise_lora_module *m = b->m;
            double *da = m->da ? grads + (m->da - g->ad[1].grads) : NULL;
            double *db = m->db ? grads + (m->db - g->ad[1].grads) : NULL;
            for (size_t t = 0; t < T; t++, h += m->r)
                naive_token(g, i, b, t, h, y + t * out, dx + t * in, da, db);
        }
    }
    return all;
}

/* No value is farther from want than tol times the largest one. */
static void near(const char *what, const float *got, const double *want,
                 size_t n, double tol)
{
    double most = 1e-9;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(want[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tol * most))
            ck_abort_msg("%s[%zu of %zu]: %.8g, not %.8g (largest %g)", what, i,
                         n, (double)got[i], want[i], most);
}

/* Every part of the results by its own largest value. */
static void compare(const char *who, const group *g, const results *r,
                    const double *want, double tol)
{
    const size_t T = (size_t)g->s.T;
    char what[40];
#define NEAR(name, part, n) \
    (snprintf(what, sizeof what, "%s %s", who, name), \
     near(what, r->part, want + (r->part - r->all), n, tol))
    NEAR("h", h, T * g->rank);
    for (int i = 0; i < g->s.n; i++)
        NEAR("y", y[i], T * (size_t)g->s.out[i]);
    NEAR("dx", dx, T * (size_t)g->s.in);
    for (size_t k = 0; k < g->ad[1].lora.n; k++) {
        const bise_lora_module *m = &g->ad[1].mod[k];
        const float *da = r->grads + (m->da - g->ad[1].grads);
        const float *db = r->grads + (m->db - g->ad[1].grads);
        snprintf(what, sizeof what, "%s dA %zu", who, k);
        near(what, da, want + (da - r->all), (size_t)(m->r * m->in), tol);
        snprintf(what, sizeof what, "%s dB %zu", who, k);
        near(what, db, want + (db - r->all), (size_t)(m->r * m->out), tol);
    }
#undef NEAR
}

/* One setup: the formulas; the float32 path; 1, 2 and 3 threads. */
static void check(const setup *s)
{
    group g;
    make_group(&g, s);
    results one = run_rows16(&g, NULL), wide = run_float32(&g);
    double *want = naive(&g, &one);
    compare("bf16", &g, &one, want, 0.006);
    compare("float32", &g, &wide, want, 0.003); /* its weights: not rounded */
    for (size_t i = 0; i < g.ad[0].n_values; i++)
        if (g.ad[0].grads[i] != 0)
            ck_abort_msg("a frozen adapter has a gradient");
    for (int threads = 1; threads <= 3; threads++) {
        bise_pool *pool;
        ck_ok(bise_pool_new(&pool, threads, &err));
        results more = run_rows16(&g, pool);
        ck_assert_mem_eq(more.all, one.all, g.n_all * sizeof *one.all);
        bise_free(more.all);
        bise_pool_free(pool);
    }
    bise_free(one.all);
    bise_free(wide.all);
    bise_free(want);
    free_group(&g);
}

/* --------------------------------------------------------------- tests --- */

static const struct {
    bise_dtype type;
    int32_t in;
} types[] = {
    { BISE_DTYPE_F32, 67 }, { BISE_DTYPE_BF16, 131 },
    { BISE_DTYPE_Q8_0, 96 }, { BISE_DTYPE_Q4_K, 768 },
};

static setup typed(int type, int32_t n, int32_t T)
{
    return (setup){ .type = types[type].type, .in = types[type].in, .n = n,
                    .out = { 45, 130, 33 }, .T = T, .r = { 3, 5 },
                    .only = -1 };
}

START_TEST(groups_of_every_size)
{
    for (int32_t n = 1; n <= 3; n++) {
        setup s = typed(_i, n, 40 + 9 * n);
        s.add = n == 2;
        check(&s);
        s.dropout = 0.3f;
        s.only = n - 1; /* others have the trained adapter alone */
        check(&s);
    }
}
END_TEST

START_TEST(ranks_of_both_adapters)
{
    static const int32_t ranks[][2] = {
        { 1, 1 }, { 33, 5 }, { 5, 33 }, { 1, 33 }, { 64, 1 }, { 7, 65 },
    };
    for (int k = 0; k < 6; k++) {
        setup s = typed(_i, 2, 29 + k);
        memcpy(s.r, ranks[k], sizeof s.r);
        s.dropout = k % 2 ? 0.25f : 0;
        check(&s);
    }
}
END_TEST

START_TEST(token_counts_around_the_tiles)
{
    static const int32_t tokens[] = { 1, 2, 3, 11, 12, 13, 47, 48, 49, 97 };
    for (int k = 0; k < 10; k++) {
        setup s = typed(_i % 2, 2, tokens[k]);
        s.dropout = _i / 2 ? 0.5f : 0;
        check(&s);
    }
}
END_TEST

/* Gradients over more than 512 tokens, products over more than 2048. */
START_TEST(many_tokens)
{
    setup s = typed(0, 1, _i ? 2051 : 515);
    s.in = 37;
    s.dropout = _i ? 0 : 0.1f;
    check(&s);
}
END_TEST

/* The cache's sets repeat every 4096 bytes. */
START_TEST(rows_do_not_share_sets)
{
    for (int32_t width = 1; width < 40000; width++) {
        const size_t ld = bise_stride16(width);
        ck_assert_uint_ge(ld, (size_t)width + (size_t)(width & 1));
        ck_assert_uint_ne(ld * sizeof(uint16_t) % 4096, 0);
        ck_assert_uint_ne(ld * sizeof(float) % 4096, 0);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rows16 linear");
    TCase *t = tcase_create("rows16 linear");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, groups_of_every_size, 0, 4);
    tcase_add_loop_test(t, ranks_of_both_adapters, 0, 4);
    tcase_add_loop_test(t, token_counts_around_the_tiles, 0, 4);
    tcase_add_loop_test(t, many_tokens, 0, 2);
    tcase_add_test(t, rows_do_not_share_sets);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
