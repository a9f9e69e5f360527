/* matmul.c - products of linear layers, float32 over OpenBLAS. Forward: a task
 * decodes a tile of weight rows and makes those columns of y for all T.
 * Backward: a task owns columns of dx (and of dA), walks down the weight in
 * row blocks and adds in that order. Each stored weight is decoded once per
 * pass. For a few tokens (generation) rows are used one at a time.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/activations.h"
#include "model/linear_int.h"

#include <string.h>

#include "core/rng.h"
#include "kernels/gemm.h"

#define PANEL (1 << 18) /* floats of a decoded tile: 1 MiB, fits L2 */
#define CHUNK 64        /* tokens of a task of the thin adapter products */
#define BACK_ROWS 256   /* weight rows decoded at a time going backward */
#define THIN_TOKENS 3   /* up to here rows are used without a panel */

/* Output columns of a forward task: the panel must fit, and there should be
 * several tasks also in small models. */
static int32_t forward_tile(const bise_linear *l)
{
    int32_t n = PANEL / l->in / 16 * 16;
    const int32_t share = (l->out / 8 + 15) / 16 * 16;
    n = n < share ? n : share;
    return n < 16 ? 16 : n > 512 ? 512 : n;
}

/* Input columns of a backward task, whole blocks of each linear's type. */
static int32_t backward_tile(const bise_linear *l, int n)
{
    int32_t cols = (l->in / 8 + 31) / 32 * 32;
    cols = cols < 32 ? 32 : cols > 256 ? 256 : cols;
    for (int i = 0; i < n; i++) {
        const int32_t b = (int32_t)bise_dtype_get(l[i].dtype)->block_len;
        cols = (cols + b - 1) / b * b;
    }
    return cols;
}

/* How many tiles cover n. */
static int32_t tiles_of(int32_t n, int32_t tile)
{
    return (n + tile - 1) / tile;
}

/* Last tiles are smaller. */
static int32_t min32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* The largest of what the products below put into scratch: a forward panel, a
 * backward panel, dropped rows. */
size_t bise_linear_scratch(const bise_linear *l)
{
    const size_t panel = (size_t)forward_tile(l) * (size_t)l->in;
    const size_t back = (size_t)BACK_ROWS * 256;
    const size_t drop = (size_t)CHUNK * (size_t)l->in;
    /* Tasks use one of them at a time. */
    size_t n = panel > back ? panel : back;
    n = n > drop ? n : drop;
    return (n + 63) / 64 * 64;
}

/* The worker's scratch. */
static float *scratch_of(const bise_exec *e, int worker)
{
    return e->scratch + (size_t)worker * e->scratch_floats;
}

/* Branch number b of a group, its linear's index in *li, and its place in h
 * in ranks before it. */
static const bise_branch *branch_at(const bise_linear *l, int n, int32_t b,
                                    int *li, int32_t *h_at)
{
    int32_t at = 0;
    for (int i = 0; i < n; i++)
        for (int32_t j = 0; j < l[i].n_branches; j++, b--) {
            if (b == 0) {
                *li = i;
                *h_at = at;
                return &l[i].branches[j];
            }
            at += l[i].branches[j].m->r;
        }
    return NULL;
}

/* Adapters on all linears of a group. */
static int32_t count_branches(const bise_linear *l, int n)
{
    int32_t b = 0;
    for (int i = 0; i < n; i++)
        b += l[i].n_branches;
    return b;
}

/* One group product: arguments of its tasks. */
typedef struct job {
    const bise_exec *e;
    const bise_linear *l;
    int n;
    float *const *y;        /* forward outputs */
    float *const *dy;
    const float *x;
    float *dx, *h, *dh;
    const float *h_saved;
    int32_t T, in, tile, chunks;
    bool add;
    bool base_done, low_done; /* dx holds the frozen, the adapters' part */
} job;

/* out [t, n] = dropout of x's columns [c0, c0 + n) for tokens t0.. : the same
 * mask wherever it is asked for, kept values times 1/(1 - p). */
static void drop_rows(const job *g, const bise_branch *b, const float *x,
                      int32_t ldx, int32_t t0, int32_t t, int32_t c0,
                      int32_t n, float *out)
{
    const uint64_t seed = bise_mix64(g->e->seed ^ bise_mix64(g->e->step) ^
                                     bise_mix64(~g->e->micro));
    /* Nothing is stored: any tile of the mask can be made again. */
    const float keep = 1.0f / (1.0f - b->dropout);
    for (int32_t i = 0; i < t; i++)
        for (int32_t j = 0; j < n; j++) {
            const uint64_t at = (uint64_t)(t0 + i) * (uint64_t)g->in +
                                (uint64_t)(c0 + j);
            const float u = bise_rng_f32(seed, b->stream, at);
            out[(size_t)i * (size_t)n + (size_t)j] =
                u < b->dropout ? 0 : x[(size_t)i * (size_t)ldx + (size_t)j] *
                                         keep;
        }
}

/* Dropout acts in training only. */
static bool drops(const job *g, const bise_branch *b)
{
    return g->e->training && b->dropout > 0;
}

/* Whether any branch of the group does. */
static bool any_drops(const job *g)
{
    for (int i = 0; i < g->n; i++)
        for (int32_t j = 0; j < g->l[i].n_branches; j++)
            if (drops(g, &g->l[i].branches[j]))
                return true;
    return false;
}

/* h[t, r] = drop(x) A^T for one branch and one chunk of tokens. */
static void adapter_down(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const int32_t b = (int32_t)index / g->chunks;
    const int32_t t0 = (int32_t)index % g->chunks * CHUNK;
    const int32_t t = min32(CHUNK, g->T - t0);
    int li;
    int32_t at;
    const bise_branch *br = branch_at(g->l, g->n, b, &li, &at);
    const int32_t r = br->m->r;
    const float *x = g->x + (size_t)t0 * (size_t)g->in;
    if (drops(g, br)) {
        float *dropped = scratch_of(g->e, worker);
        drop_rows(g, br, x, g->in, t0, t, 0, g->in, dropped);
        x = dropped;
    }
    bise_gemm_nt(t, r, g->in, 1, x, g->in, br->m->a, g->in, 0,
                 g->h + (size_t)g->T * (size_t)at + (size_t)t0 * (size_t)r,
                 r);
}

/* y tile for few tokens: dot products with stored rows. */
static void thin_tile(const job *g, const bise_linear *l, float *y,
                      int32_t o0, int32_t o, float *row)
{
    const bise_kernels *k = g->e->k;
    for (int32_t i = 0; i < o; i++) {
        const void *stored = bise_linear_stored(l, o0 + i);
        const bool plain = !l->scales;
        if (!(plain && (l->dtype == BISE_DTYPE_BF16 ||
                        l->dtype == BISE_DTYPE_F16)))
            bise_linear_part(l, k, o0 + i, 0, l->in, row);
        for (int32_t t = 0; t < g->T; t++) {
            const float *x = g->x + (size_t)t * (size_t)l->in;
            const size_t n = (size_t)l->in;
            float v;
            if (plain && l->dtype == BISE_DTYPE_BF16)
                v = k->dot_bf16(stored, x, n);
            else if (plain && l->dtype == BISE_DTYPE_F16)
                v = k->dot_f16(stored, x, n);
            else
                v = k->dot(row, x, n);
            float *to = y + (size_t)t * (size_t)l->out + (size_t)(o0 + i);
            *to = g->add ? *to + v : v;
        }
    }
}

/* Decode rows [o0, o0 + o) into a panel, or point at them where they already
 * are float32 in the right order. */
static const float *panel_of(const job *g, const bise_linear *l, int32_t o0,
                             int32_t o, float *scratch)
{
    if (l->dtype == BISE_DTYPE_F32 && !l->pair_rows && !l->scales)
        return bise_linear_stored(l, o0);
    for (int32_t i = 0; i < o; i++)
        bise_linear_part(l, g->e->k, o0 + i, 0, l->in,
                         scratch + (size_t)i * (size_t)l->in);
    return scratch;
}

/* Columns of one linear's y: base product, then each branch's s h B^T. */
static void forward_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    int32_t i = (int32_t)index, at = 0;
    int li = 0;
    for (;; li++) {
        const int32_t tiles = tiles_of(g->l[li].out, forward_tile(&g->l[li]));
        if (i < tiles)
            break;
        i -= tiles;
        at += g->l[li].rank;
    }
    const bise_linear *l = &g->l[li];
    const int32_t tile = forward_tile(l), o0 = i * tile;
    const int32_t o = min32(tile, l->out - o0);
    float *scratch = scratch_of(g->e, worker);
    if (g->T <= THIN_TOKENS)
        thin_tile(g, l, g->y[li], o0, o, scratch);
    else
        bise_gemm_nt(g->T, o, l->in, 1, g->x, l->in,
                     panel_of(g, l, o0, o, scratch), l->in, g->add ? 1 : 0,
                     g->y[li] + o0, l->out);
    /* Adapters while the tile of y is still in cache. */
    for (int32_t j = 0; j < l->n_branches; j++) {
        const bise_lora_module *m = l->branches[j].m;
        bise_gemm_nt(g->T, o, m->r, m->scale,
                     g->h + (size_t)g->T * (size_t)at, m->r,
                     m->b + (size_t)o0 * (size_t)m->r, m->r, 1,
                     g->y[li] + o0, l->out);
        at += m->r;
    }
}

/* Also called alone when a layer is run again for its activations: the
 * backward pass wants h, not y. */
void bise_linears_adapters(const bise_exec *e, const bise_linear *l, int n,
                           const float *x, int32_t T, float *h)
{
    job g = { .e = e, .l = l, .n = n, .x = x, .h = h, .T = T, .in = l->in,
              .chunks = tiles_of(T, CHUNK) };
    const int32_t branches = count_branches(l, n);
    if (branches)
        bise_pool_run(e->pool, (size_t)(branches * g.chunks), adapter_down,
                      &g);
}

/* The wide products, which also add s h B^T while their tile of y is in
 * cache. */
static void wide_forward(const bise_exec *e, const bise_linear *l, int n,
                         float *const *y, const float *x, int32_t T, float *h,
                         bool add)
{
    job g = { .e = e, .l = l, .n = n, .y = y, .x = x, .h = h, .T = T,
              .in = l->in, .add = add };
    if (bise_panels_used(e, T)) {
        bise_panels_forward(e, l, n, y, x, T, h, add);
        return;
    }
    size_t tasks = 0;
    for (int i = 0; i < n; i++)
        tasks += (size_t)tiles_of(l[i].out, forward_tile(&l[i]));
    bise_pool_run(e->pool, tasks, forward_task, &g);
}

/* Row t of the input as the weights' type would have it. */
static void round_row(void *ctx, size_t t, int worker)
{
    const job *g = ctx;
    const size_t in = (size_t)g->in;
    (void)worker;
    bise_round_activations(g->l->dtype, g->e->rounded + t * in,
                           g->x + t * in, in);
}

/* Two phases: the thin x A^T of all adapters, then the wide products. With
 * rounded inputs the linears go one by one, since their types may differ. */
void bise_products_forward(const bise_exec *e, const bise_linear *l, int n,
                           float *const *y, const float *x, int32_t T,
                           float *h, bool add)
{
    bise_linears_adapters(e, l, n, x, T, h);
    if (!e->rounded) {
        wide_forward(e, l, n, y, x, T, h, add);
        return;
    }
    for (int i = 0; i < n; i++) {
        job g = { .e = e, .l = &l[i], .x = x, .in = l->in };
        bise_pool_run(e->pool, (size_t)T, round_row, &g);
        wide_forward(e, &l[i], 1, &y[i], e->rounded, T, h, add);
        h = h ? h + (size_t)T * (size_t)l[i].rank : h;
    }
}

/* dh[t, r] = s dy B for one branch and one chunk of tokens. */
static void adapter_up_bwd(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const int32_t b = (int32_t)index / g->chunks;
    const int32_t t0 = (int32_t)index % g->chunks * CHUNK;
    int li;
    int32_t at;
    const bise_branch *br = branch_at(g->l, g->n, b, &li, &at);
    const int32_t r = br->m->r, out = g->l[li].out;
    (void)worker;
    bise_gemm_nn(min32(CHUNK, g->T - t0), r, out, br->m->scale,
                 g->dy[li] + (size_t)t0 * (size_t)out, out, br->m->b, r, 0,
                 g->dh + (size_t)g->T * (size_t)at + (size_t)t0 * (size_t)r,
                 r);
}

/* dA[:, c0..] += dh^T drop(x)[:, c0..], token chunks in order. */
static void adapter_da(const job *g, const bise_branch *br, const float *dh,
                       int32_t c0, int32_t n, float *scratch)
{
    const bise_lora_module *m = br->m;
    if (!drops(g, br)) {
        bise_gemm_tn(m->r, n, g->T, 1, dh, m->r, g->x + c0, g->in, 1,
                     m->da + c0, g->in);
        return;
    }
    for (int32_t t0 = 0; t0 < g->T; t0 += CHUNK) {
        const int32_t t = min32(CHUNK, g->T - t0);
        drop_rows(g, br, g->x + (size_t)t0 * (size_t)g->in + c0, g->in, t0, t,
                  c0, n, scratch);
        bise_gemm_tn(m->r, n, t, 1, dh + (size_t)t0 * (size_t)m->r, m->r,
                     scratch, n, 1, m->da + c0, g->in);
    }
}

/* dx[:, c0..] += undrop(dh A[:, c0..]): same mask, same 1/(1 - p). */
static void adapter_dx(const job *g, const bise_branch *br, const float *dh,
                       int32_t c0, int32_t n, float *scratch)
{
    const bise_lora_module *m = br->m;
    if (!drops(g, br)) {
        bise_gemm_nn(g->T, n, m->r, 1, dh, m->r, m->a + c0, g->in, 1,
                     g->dx + c0, g->in);
        return;
    }
    float *part = scratch, *masked = scratch + (size_t)CHUNK * (size_t)n;
    for (int32_t t0 = 0; t0 < g->T; t0 += CHUNK) {
        const int32_t t = min32(CHUNK, g->T - t0);
        bise_gemm_nn(t, n, m->r, 1, dh + (size_t)t0 * (size_t)m->r, m->r,
                     m->a + c0, g->in, 0, part, n);
        drop_rows(g, br, part, n, t0, t, c0, n, masked);
        for (int32_t i = 0; i < t; i++)
            g->e->k->axpy(g->dx + (size_t)(t0 + i) * (size_t)g->in + c0, 1,
                          masked + (size_t)i * (size_t)n, (size_t)n);
    }
}

/* Columns of dx from one linear's frozen weight, row block after row block. */
static void base_dx(const job *g, const bise_linear *l, const float *dy,
                    int32_t c0, int32_t n, bool add, float *scratch)
{
    const bool direct = l->dtype == BISE_DTYPE_F32 && !l->pair_rows &&
                        !l->scales;
    for (int32_t o0 = 0; o0 < l->out; o0 += BACK_ROWS) {
        const int32_t o = min32(BACK_ROWS, l->out - o0);
        const float *w = scratch;
        int32_t ldw = n;
        if (direct) {
            w = (const float *)bise_linear_stored(l, o0) + c0;
            ldw = l->in;
        } else {
            for (int32_t i = 0; i < o; i++)
                bise_linear_part(l, g->e->k, o0 + i, c0, n,
                                 scratch + (size_t)i * (size_t)n);
        }
        bise_gemm_nn(g->T, n, o, 1, dy + o0, l->out, w, ldw,
                     add || o0 ? 1 : 0, g->dx + c0, g->in);
    }
}

/* All gradients that end in columns [c0, c0 + n) of the input. */
static void backward_cols(const job *g, int32_t c0, int32_t n, float *scratch)
{
    /* Frozen weights first, adapters on top: a fixed order of sums. */
    bool add = g->add;
    int32_t at = 0;
    if (g->dx && !g->base_done)
        for (int i = 0; i < g->n; i++, add = true)
            base_dx(g, &g->l[i], g->dy[i], c0, n, add, scratch);
    for (int i = 0; i < g->n; i++)
        for (int32_t j = 0; j < g->l[i].n_branches; j++) {
            const bise_branch *br = &g->l[i].branches[j];
            const float *dh = g->dh + (size_t)g->T * (size_t)at;
            if (br->m->da)
                adapter_da(g, br, dh, c0, n, scratch);
            if (g->dx && !g->low_done)
                adapter_dx(g, br, dh, c0, n, scratch);
            at += br->m->r;
        }
}

/* dB += s dy^T h for one branch. */
static void backward_db(const job *g, int32_t b)
{
    int li;
    int32_t at;
    const bise_branch *br = branch_at(g->l, g->n, b, &li, &at);
    const bise_lora_module *m = br->m;
    if (m->db)
        bise_gemm_tn(m->out, m->r, g->T, m->scale, g->dy[li], m->out,
                     g->h_saved + (size_t)g->T * (size_t)at, m->r, 1, m->db,
                     m->r);
}

/* The first tasks own columns of dx and dA, the others own one dB each. */
static void backward_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const int32_t cols = tiles_of(g->in, g->tile), i = (int32_t)index;
    if (i < cols)
        backward_cols(g, i * g->tile, min32(g->tile, g->in - i * g->tile),
                      scratch_of(g->e, worker));
    else
        backward_db(g, i - cols);
}

/* Two phases again: dh of all adapters, then everything that needs it. */
void bise_products_backward(const bise_exec *e, const bise_linear *l, int n,
                            float *dx, float *const *dy, const float *x,
                            const float *h, float *dh, int32_t T, bool add)
{
    job g = { .e = e, .l = l, .n = n, .dy = dy, .x = x, .dx = dx,
              .h_saved = h, .dh = dh, .T = T, .in = l->in, .add = add,
              .chunks = tiles_of(T, CHUNK), .tile = backward_tile(l, n) };
    const int32_t branches = count_branches(l, n);
    if (branches)
        bise_pool_run(e->pool, (size_t)(branches * g.chunks), adapter_up_bwd,
                      &g);
    else if (!dx)
        return;
    if (dx && bise_panels_used(e, T)) {
        g.base_done = true;
        g.low_done = !any_drops(&g);
        bise_panels_backward(e, l, n, dx, dy,
                             branches && g.low_done ? dh : NULL, T, add);
        if (!branches)
            return;
    }
    bise_pool_run(e->pool, (size_t)(tiles_of(g.in, g.tile) + branches),
                  backward_task, &g);
}
