/* matmul_bf16.c - products of linear layers over activations stored as bf16
 * (rows16.h). The frozen weights go through the panels of kernels/panel.h; the
 * thin matrices of adapters are rounded to bf16 once per product, packed like
 * panels, and multiplied by the same micro-kernel, so that they read x and dy
 * from the form the wide products use. Gradients of adapters are sums over the
 * tokens: both operands are packed along them.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/rows16.h"

#include <string.h>

#include "core/bytes.h"
#include "core/rng.h"
#include "model/linear_int.h"
#include "model/matmul_int8.h"

#define COLS BISE_PANEL_COLS
#define WIDE BISE_PANEL_GROUP /* columns of a task */
#define CHUNK 48          /* tokens of a task of the thin products */
#define DEPTH 512         /* tokens packed together in a gradient */
#define TOKEN_BLOCK 2048  /* tokens of a task of the wide products */

size_t bise_stride16(int32_t width)
{
    return ((size_t)(width + 31) / 32 | 1) * 32;
}

/* One call: the arguments of its tasks. */
typedef struct job {
    const bise_exec *e;
    const bise_adapters16 *w;
    const bise_linear *l;
    int n;
    bise_rows16 x;
    const bise_rows16 *dy;
    float *const *y;
    float *dx, *h;
    const float *h_saved;
    int32_t T, blocks, x_tasks;
    bise_panel_split split; /* columns, of all linears or of dx */
    int first, end; /* backward: the linears of this pass */
    bool add;
} job;

/* A branch of a group: its linear, and where its parts begin. */
typedef struct place {
    const bise_branch *b;
    int li;
    int32_t at;        /* ranks before it: rows of ht, columns of h */
    size_t low_at;     /* the same with even ranks: columns of low */
    size_t packed_at;  /* values before it in packed, forward or backward */
} place;

/* A rank or a depth in pairs. */
static size_t even(int32_t n)
{
    return ((size_t)n + 1) / 2 * 2;
}

/* Values of one branch's packed matrix: A [r, in] or B [out, r]. */
static size_t packed_size(const bise_linear *l, const bise_branch *b,
                          bool back)
{
    return bise_panel_packed(b->m->r, back ? l->out : l->in);
}

/* Step to the next branch; p starts zeroed with li = 0, b NULL. The index of
 * the branch in its linear is kept in *j. */
static bool next_branch(const job *g, place *p, int *j, bool back)
{
    if (p->b) {
        p->at += p->b->m->r;
        p->low_at += even(p->b->m->r);
        p->packed_at += packed_size(&g->l[p->li], p->b, back);
        (*j)++;
    }
    while (p->li < g->n && *j >= g->l[p->li].n_branches) {
        p->li++;
        *j = 0;
    }
    p->b = p->li < g->n ? &g->l[p->li].branches[*j] : NULL;
    return p->b != NULL;
}

/* Branch number b of the group. */
static place branch_at(const job *g, size_t b, bool back)
{
    place p = { 0 };
    int j = 0;
    while (next_branch(g, &p, &j, back) && b > 0)
        b--;
    return p;
}

static size_t count_branches(const bise_linear *l, int n)
{
    size_t b = 0;
    for (int i = 0; i < n; i++)
        b += (size_t)l[i].n_branches;
    return b;
}

void bise_adapters16_plan(const bise_linear *l, int n, size_t *packed,
                          size_t *rank)
{
    size_t forward = 0, back = 0, r = 0;
    for (int i = 0; i < n; i++)
        for (int32_t j = 0; j < l[i].n_branches; j++) {
            forward += packed_size(&l[i], &l[i].branches[j], false);
            back += packed_size(&l[i], &l[i].branches[j], true);
            r += even(l[i].branches[j].m->r);
        }
    forward = forward > back ? forward : back;
    *packed = *packed > forward ? *packed : forward;
    *rank = *rank > r ? *rank : r;
}

/* A packed chunk of tokens, and a tile of dropped rows. */
size_t bise_rows16_scratch(void)
{
    return 2 * (size_t)DEPTH * (WIDE + 32) * sizeof(uint16_t);
}

static float *scratch_of(const bise_exec *e, int worker)
{
    return e->scratch + (size_t)worker * e->scratch_floats;
}

/* Dropout acts in training only. */
static bool drops(const job *g, const bise_branch *b)
{
    return g->e->training && b->dropout > 0;
}

/* True when the mask of branch b keeps element (t, c) of its input: the same
 * function as in matmul.c, so nothing is stored. */
static bool kept(const job *g, const bise_branch *b, int32_t t, int32_t c)
{
    const uint64_t seed = bise_mix64(g->e->seed ^ bise_mix64(g->e->step) ^
                                     bise_mix64(~g->e->micro));
    const uint64_t at = (uint64_t)t * (uint64_t)g->l->in + (uint64_t)c;
    return bise_rng_f32(seed, b->stream, at) >= b->dropout;
}

/* Dropped copy of rows [t0, t0 + t), columns [c0, c0 + n) of x. */
static void drop_rows(const job *g, const bise_branch *b, int32_t t0,
                      int32_t t, int32_t c0, int32_t n, bise_rows16 out)
{
    const float keep = 1.0f / (1.0f - b->dropout);
    for (int32_t i = 0; i < t; i++) {
        const uint16_t *x = g->x.data + (size_t)(t0 + i) * g->x.ld + c0;
        uint16_t *to = out.data + (size_t)i * out.ld;
        for (int32_t c = 0; c < n; c++)
            to[c] = kept(g, b, t0 + i, c0 + c)
                        ? bise_f32_to_bf16(bise_bf16_to_f32(x[c]) * keep) : 0;
    }
}

/* Round A of a branch and pack its rows. */
static void pack_a(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const place p = branch_at(g, index, false);
    const bise_lora_module *m = p.b->m;
    const size_t ld = even(m->in);
    uint16_t *rows = (uint16_t *)(void *)scratch_of(g->e, worker);
    for (int32_t i = 0; i < m->r; i += COLS) {
        const int32_t n = m->r - i < COLS ? m->r - i : COLS;
        for (int32_t k = 0; k < m->in; k += DEPTH) {
            const int32_t kn = m->in - k < DEPTH ? m->in - k : DEPTH;
            for (int32_t c = 0; c < n; c++)
                g->e->panel->round_bf16(
                    rows + (size_t)c * DEPTH,
                    m->a + (size_t)(i + c) * (size_t)m->in + k, (size_t)kn);
            bise_panel_pack_rows(g->e->panel, g->w->packed + p.packed_at +
                                 (size_t)i * ld + (size_t)k * COLS, rows,
                                 DEPTH, n, kn);
        }
    }
}

/* Round B of a branch, times its scale, and pack it so that its rows are
 * reduced. */
static void pack_b(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const place p = branch_at(g, index, true);
    const bise_lora_module *m = p.b->m;
    uint16_t *to = g->w->packed + p.packed_at;
    (void)worker;
    memset(to, 0, bise_panel_packed(m->r, m->out) * sizeof *to);
    for (int32_t o = 0; o < m->out; o++)
        for (int32_t i = 0; i < m->r; i++)
            to[(size_t)(i / COLS) * COLS * even(m->out) +
               (size_t)(o / 2) * 2 * COLS + (size_t)(i % COLS * 2 + o % 2)] =
                bise_f32_to_bf16(m->scale * m->b[(size_t)o * (size_t)m->r +
                                                 (size_t)i]);
}

/* Rows [t0, t0 + t) of a branch's h or dh [T, r] as bf16 for the addition. */
static void round_low(const job *g, const place *p, const float *h, int32_t t0,
                      int32_t t)
{
    const size_t r = (size_t)p->b->m->r, ld = even(p->b->m->r);
    uint16_t *to = g->w->low + (size_t)g->T * p->low_at + (size_t)t0 * ld;
    for (size_t i = 0; i < (size_t)t; i++) {
        g->e->panel->round_bf16(to + i * ld, h + i * r, r);
        if (ld > r)
            to[i * ld + r] = 0;
    }
}

/* The rounded addition of a branch for rows from t0 on. */
static void set_low(const job *g, const place *p, int32_t t0,
                    bise_panel_job *j)
{
    j->lde16 = even(p->b->m->r);
    j->e16 = g->w->low + (size_t)g->T * p->low_at + (size_t)t0 * j->lde16;
}

/* h rows of one branch and a chunk of tokens. */
static void down_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const place p = branch_at(g, index / (size_t)g->blocks, false);
    const int32_t r = p.b->m->r, in = g->l->in;
    const int32_t t0 = (int32_t)(index % (size_t)g->blocks) * CHUNK;
    const int32_t t = g->T - t0 < CHUNK ? g->T - t0 : CHUNK;
    float *h = g->h + (size_t)g->T * (size_t)p.at + (size_t)t0 * (size_t)r;
    const uint16_t *packed = g->w->packed + p.packed_at;
    if (!drops(g, p.b)) {
        bise_panel_mul(g->e->panel, h, (size_t)r,
                       g->x.data + (size_t)t0 * g->x.ld, g->x.ld, packed, t, r,
                       in, false);
        round_low(g, &p, h, t0, t);
        return;
    }
    bise_rows16 rows = { (uint16_t *)(void *)scratch_of(g->e, worker), DEPTH };
    for (int32_t k = 0; k < in; k += DEPTH) {
        const int32_t n = in - k < DEPTH ? in - k : DEPTH;
        memset(rows.data, 0, CHUNK * DEPTH * sizeof *rows.data);
        drop_rows(g, p.b, t0, t, k, n, rows);
        for (int32_t c = 0; c < r; c += COLS)
            bise_panel_mul(g->e->panel, h + c, (size_t)r, rows.data, rows.ld,
                           packed + (size_t)c * even(in) + (size_t)k * COLS, t,
                           r - c < COLS ? r - c : COLS, n, k > 0);
    }
    round_low(g, &p, h, t0, t);
}

void bise_rows16_adapters(const bise_exec *e, const bise_adapters16 *w,
                          const bise_linear *l, int n, bise_rows16 x,
                          int32_t T, float *h)
{
    job g = { .e = e, .w = w, .l = l, .n = n, .x = x, .h = h, .T = T,
              .blocks = (T + CHUNK - 1) / CHUNK };
    const size_t branches = count_branches(l, n);
    if (!branches)
        return;
    bise_pool_run(e->pool, branches, pack_a, &g);
    bise_pool_run(e->pool, branches * (size_t)g.blocks, down_task, &g);
}

/* Output columns of a product. */
typedef struct columns {
    int32_t first, n;
} columns;

/* How dx is split: whole blocks of every weight's type. */
static bise_panel_split split_dx(const job *g)
{
    int32_t width = WIDE;
    for (int i = 0; i < g->n; i++) {
        const bise_matrix w = bise_linear_matrix(&g->l[i]);
        const int32_t own = bise_panel_width(&w, true);
        width = own > width ? own : width;
    }
    return (bise_panel_split){
        .groups = ((size_t)g->l->in + (size_t)width - 1) / (size_t)width,
        .width = width };
}

/* Column groups of a linear in one direction. */
static size_t groups_of(const bise_linear *l, bool back)
{
    return (size_t)((back ? l->in : l->out) + WIDE - 1) / WIDE;
}

/* 8-bit products of a linear? */
static bool in_int8(const job *g, const bise_linear *l)
{
    return g->w->rows8 && l->row_scales;
}

/* The frozen weights' product of j, in the linear's way of computing. */
static void run_base(const job *g, const bise_linear *l,
                     const bise_panel_job *j, int32_t t0, int32_t c0,
                     int32_t n, void *scratch)
{
    if (in_int8(g, l))
        bise_int8_run(g->e, g->w->rows8, l, j, t0, c0, n, scratch);
    else
        bise_panel_run(g->e->panel, j, c0, n, scratch);
}

/* Rows of a block of tokens. */
static int32_t block_rows(const job *g, int32_t t0)
{
    return g->T - t0 < TOKEN_BLOCK ? g->T - t0 : TOKEN_BLOCK;
}

/* Hand out columns times blocks of tokens. */
static void run_tasks(job *g, bise_task_fn *fn)
{
    g->split.threads = bise_pool_threads(g->e->pool);
    bise_pool_run(g->e->pool, bise_panel_tasks(&g->split) * (size_t)g->blocks,
                  fn, g);
}

/* The columns of a task. */
static bise_panel_task task_of(const job *g, size_t index)
{
    return bise_panel_task_at(&g->split, index / (size_t)g->blocks);
}

/* Columns of one linear's y for a block of tokens. */
static void forward_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const int32_t t0 = (int32_t)(index % (size_t)g->blocks) * TOKEN_BLOCK;
    const bise_panel_task task = task_of(g, index);
    size_t group = task.group;
    int li = 0;
    while (group >= groups_of(&g->l[li], false))
        group -= groups_of(&g->l[li++], false);
    const int32_t c0 = (int32_t)group * WIDE + task.first;
    if (c0 >= g->l[li].out)
        return;
    const bise_linear *l = &g->l[li];
    const bise_matrix w = bise_linear_matrix(l);
    float *scratch = scratch_of(g->e, worker);
    bise_panel_job j = {
        .w = &w, .x_bf16 = g->x.data + (size_t)t0 * g->x.ld, .ldx = g->x.ld,
        .y = g->y[li] + (size_t)t0 * (size_t)l->out, .ldy = (size_t)l->out,
        .T = block_rows(g, t0), .add = g->add,
    };
    if (!l->n_branches) {
        run_base(g, l, &j, t0, c0, task.n, scratch);
        return;
    }
    place p = { 0 };
    int k = 0;
    bool base = false;
    while (next_branch(g, &p, &k, false)) {
        const bise_lora_module *m = p.b->m;
        if (p.li != li)
            continue;
        j.e = g->h_saved + (size_t)g->T * (size_t)p.at +
              (size_t)t0 * (size_t)m->r;
        j.lde = (size_t)m->r;
        j.f = m->b;
        j.f_scale = m->scale;
        j.r = m->r;
        set_low(g, &p, t0, &j);
        /* The first one with the frozen weights, others on top. */
        if (!base)
            run_base(g, l, &j, t0, c0, task.n, scratch);
        else
            bise_panel_low_rank(g->e->panel, &j, c0, task.n, scratch);
        base = true;
    }
}

void bise_rows16_forward(const bise_exec *e, const bise_adapters16 *w,
                         const bise_linear *l, int n, float *const *y,
                         bise_rows16 x, int32_t T, const float *h, bool add)
{
    job g = { .e = e, .w = w, .l = l, .n = n, .y = y, .x = x, .h_saved = h,
              .T = T, .add = add, .blocks = (T + TOKEN_BLOCK - 1) / TOKEN_BLOCK };
    for (int i = 0; i < n; i++)
        g.split.groups += groups_of(&l[i], false);
    g.split.width = WIDE;
    if (in_int8(&g, l))
        bise_int8_input(e, w->rows8, l, x, T);
    run_tasks(&g, forward_task);
}

/* dh rows of one branch and a chunk of tokens; their transpose and h's as
 * bf16 for the sums over tokens. */
static void up_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const place p = branch_at(g, index / (size_t)g->blocks, true);
    const bise_rows16 dy = g->dy[p.li];
    const int32_t r = p.b->m->r;
    const int32_t t0 = (int32_t)(index % (size_t)g->blocks) * CHUNK;
    const int32_t t = g->T - t0 < CHUNK ? g->T - t0 : CHUNK;
    const size_t at = (size_t)g->T * (size_t)p.at + (size_t)t0 * (size_t)r;
    (void)worker;
    bise_panel_mul(g->e->panel, g->w->dh + at, (size_t)r,
                   dy.data + (size_t)t0 * dy.ld, dy.ld,
                   g->w->packed + p.packed_at, t, r, g->l[p.li].out, false);
    round_low(g, &p, g->w->dh + at, t0, t);
    for (int32_t i = 0; i < r; i++) {
        const size_t row = (size_t)(p.at + i) * g->w->ld + (size_t)t0;
        for (int32_t k = 0; k < t; k++) {
            const size_t from = at + (size_t)k * (size_t)r + (size_t)i;
            g->w->dht[row + (size_t)k] = bise_f32_to_bf16(g->w->dh[from]);
            g->w->ht[row + (size_t)k] = bise_f32_to_bf16(g->h_saved[from]);
        }
        /* An odd last token is paired with a zero. */
        if (t0 + t == g->T && g->T % 2)
            g->w->dht[row + (size_t)t] = g->w->ht[row + (size_t)t] = 0;
    }
}

/* dA[:, c0..] += dh^T drop(x)[:, c0..] of every trained branch. */
static void da_task(const job *g, int32_t c0, float *scratch)
{
    const int32_t in = g->l->in, n = in - c0 < WIDE ? in - c0 : WIDE;
    uint16_t *packed = (uint16_t *)(void *)scratch;
    const bise_rows16 tile = { packed + (size_t)DEPTH * WIDE, WIDE + 32 };
    for (int32_t t0 = 0; t0 < g->T; t0 += DEPTH) {
        const int32_t t = g->T - t0 < DEPTH ? g->T - t0 : DEPTH;
        bool plain = false;
        place p = { 0 };
        int j = 0;
        while (next_branch(g, &p, &j, true)) {
            const bise_lora_module *m = p.b->m;
            if (!m->da)
                continue;
            if (drops(g, p.b)) {
                drop_rows(g, p.b, t0, t, c0, n, tile);
                bise_panel_pack_pairs(g->e->panel, packed, tile.data, tile.ld,
                                      t, n);
            } else if (!plain) {
                bise_panel_pack_pairs(g->e->panel, packed, g->x.data +
                                      (size_t)t0 * g->x.ld + c0, g->x.ld, t,
                                      n);
            }
            plain = !drops(g, p.b);
            bise_panel_mul(g->e->panel, m->da + c0, (size_t)in, g->w->dht +
                           (size_t)p.at * g->w->ld + t0, g->w->ld, packed,
                           m->r, n, t, true);
        }
    }
}

/* One branch's dB[c0.., :] += s (dy^T h)[c0.., :] from packed dy. */
static void add_db(const job *g, const place *p, int32_t t0, int32_t t,
                   int32_t c0, int32_t n, const uint16_t *packed)
{
    const bise_lora_module *m = p->b->m;
    float part[BISE_PANEL_ROWS * COLS];
    for (int32_t c = 0; c < n; c += COLS) {
        const int32_t nc = n - c < COLS ? n - c : COLS;
        for (int32_t i = 0; i < m->r; i += BISE_PANEL_ROWS) {
            const int32_t rows = m->r - i < BISE_PANEL_ROWS ? m->r - i :
                                                              BISE_PANEL_ROWS;
            bise_panel_mul(g->e->panel, part, COLS, g->w->ht +
                           (size_t)(p->at + i) * g->w->ld + t0, g->w->ld,
                           packed + (size_t)c * even(t), rows, nc, t,
                           false);
            for (int32_t k = 0; k < nc; k++)
                for (int32_t q = 0; q < rows; q++)
                    m->db[(size_t)(c0 + c + k) * (size_t)m->r +
                          (size_t)(i + q)] += m->scale * part[q * COLS + k];
        }
    }
}

/* Columns [c0, ...) of one linear's dy against h of its branches. */
static void db_task(const job *g, int li, int32_t c0, float *scratch)
{
    const bise_rows16 dy = g->dy[li];
    const int32_t out = g->l[li].out, n = out - c0 < WIDE ? out - c0 : WIDE;
    uint16_t *packed = (uint16_t *)(void *)scratch;
    for (int32_t t0 = 0; t0 < g->T; t0 += DEPTH) {
        const int32_t t = g->T - t0 < DEPTH ? g->T - t0 : DEPTH;
        place p = { 0 };
        int j = 0;
        bise_panel_pack_pairs(g->e->panel, packed,
                              dy.data + (size_t)t0 * dy.ld + c0, dy.ld, t, n);
        while (next_branch(g, &p, &j, true))
            if (p.li == li && p.b->m->db)
                add_db(g, &p, t0, t, c0, n, packed);
    }
}

/* The first tasks own columns of dA, the others rows of a dB. */
static void gradient_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    float *scratch = scratch_of(g->e, worker);
    if (index < (size_t)g->x_tasks) {
        da_task(g, (int32_t)index * WIDE, scratch);
        return;
    }
    size_t i = index - (size_t)g->x_tasks;
    int li = 0;
    while (i >= groups_of(&g->l[li], false))
        i -= groups_of(&g->l[li++], false);
    if (g->l[li].trained)
        db_task(g, li, (int32_t)i * WIDE, scratch);
}

void bise_rows16_gradients(const bise_exec *e, const bise_adapters16 *w,
                           const bise_linear *l, int n, const bise_rows16 *dy,
                           bise_rows16 x, int32_t T, const float *h)
{
    job g = { .e = e, .w = w, .l = l, .n = n, .x = x, .dy = dy, .h_saved = h,
              .T = T, .blocks = (T + CHUNK - 1) / CHUNK };
    const size_t branches = count_branches(l, n);
    if (!branches)
        return;
    bise_pool_run(e->pool, branches, pack_b, &g);
    bise_pool_run(e->pool, branches * (size_t)g.blocks, up_task, &g);
    g.x_tasks = (int32_t)groups_of(l, true);
    size_t tasks = (size_t)g.x_tasks;
    for (int i = 0; i < n; i++)
        tasks += groups_of(&l[i], false);
    bise_pool_run(e->pool, tasks, gradient_task, &g);
}

/* dx columns [c0, c0 + n) += undrop(dh A): a small block at a time, each value
 * through the mask of the forward. */
static void dropped_dx(const job *g, const bise_branch *b, const float *dh,
                       int32_t t0, int32_t t, int32_t c0, int32_t n)
{
    const bise_lora_module *m = b->m;
    const float keep = 1.0f / (1.0f - b->dropout);
    float part[BISE_PANEL_ROWS * COLS];
    for (int32_t i = t0; i < t0 + t; i += BISE_PANEL_ROWS)
        for (int32_t c = c0; c < c0 + n; c += COLS) {
            const int rows = t0 + t - i < BISE_PANEL_ROWS ? t0 + t - i :
                                                            BISE_PANEL_ROWS;
            const int nc = c0 + n - c < COLS ? c0 + n - c : COLS;
            g->e->panel->mul_f32(part, COLS, dh + (size_t)i * (size_t)m->r,
                                 (size_t)m->r, m->a + c, (size_t)m->in,
                                 (size_t)m->r, rows, nc, false);
            for (int q = 0; q < rows; q++)
                for (int k = 0; k < nc; k++)
                    if (kept(g, b, i + q, c + k))
                        g->dx[(size_t)(i + q) * (size_t)m->in +
                              (size_t)(c + k)] += keep * part[q * COLS + k];
        }
}

/* The adapters of one linear on top of dx; skip says that the first one was
 * added with the frozen weights. */
static void more_dx(const job *g, int li, bise_panel_job *j, int32_t t0,
                    columns c, bool skip, float *scratch)
{
    place p = { 0 };
    int k = 0;
    while (next_branch(g, &p, &k, true)) {
        const bise_lora_module *m = p.b->m;
        const float *dh = g->w->dh + (size_t)g->T * (size_t)p.at;
        const int32_t left = g->l->in - c.first;
        if (p.li != li || (skip && k == 0))
            continue;
        if (drops(g, p.b)) {
            dropped_dx(g, p.b, dh, t0, j->T, c.first,
                       left < c.n ? left : c.n);
            continue;
        }
        j->e = dh + (size_t)t0 * (size_t)m->r;
        j->lde = (size_t)m->r;
        j->f = m->a;
        j->f_scale = 1;
        j->r = m->r;
        bise_panel_low_rank(g->e->panel, j, c.first, c.n, scratch);
    }
}

/* The first adapter of a linear rides on the product of the weights, unless
 * dropout masks it. */
static bool first_dx(const job *g, int li, int32_t t0, bise_panel_job *j)
{
    place p = { 0 };
    int k = 0;
    j->e = NULL;
    j->e16 = NULL;
    while (next_branch(g, &p, &k, true)) {
        const bise_lora_module *m = p.b->m;
        if (p.li != li)
            continue;
        if (drops(g, p.b))
            return false;
        j->e = g->w->dh + (size_t)g->T * (size_t)p.at +
               (size_t)t0 * (size_t)m->r;
        j->lde = (size_t)m->r;
        j->f = m->a;
        j->f_scale = 1;
        j->r = m->r;
        set_low(g, &p, t0, j);
        return true;
    }
    return false;
}

/* Columns of dx for a block of tokens: each linear's frozen weights and
 * adapters in order. */
static void backward_task(void *ctx, size_t index, int worker)
{
    const job *g = ctx;
    const int32_t t0 = (int32_t)(index % (size_t)g->blocks) * TOKEN_BLOCK;
    const bise_panel_task task = task_of(g, index);
    const int32_t c0 = (int32_t)task.group * g->split.width + task.first;
    const int32_t in = g->l->in;
    if (c0 >= in)
        return;
    float *scratch = scratch_of(g->e, worker);
    for (int i = g->first; i < g->end; i++) {
        const bise_matrix w = bise_linear_matrix(&g->l[i]);
        bise_panel_job j = {
            .w = &w, .transposed = true, .ldy = (size_t)in,
            .T = block_rows(g, t0), .y = g->dx + (size_t)t0 * (size_t)in,
            .x_bf16 = g->dy[i].data + (size_t)t0 * g->dy[i].ld,
            .ldx = g->dy[i].ld, .add = i > 0,
        };
        const bool first = first_dx(g, i, t0, &j);
        run_base(g, &g->l[i], &j, t0, c0, task.n, scratch);
        more_dx(g, i, &j, t0, (columns){ c0, task.n }, first, scratch);
    }
}

void bise_rows16_backward(const bise_exec *e, const bise_adapters16 *w,
                          const bise_linear *l, int n, float *dx,
                          const bise_rows16 *dy, int32_t T)
{
    job g = { .e = e, .w = w, .l = l, .n = n, .dx = dx, .dy = dy, .T = T,
              .blocks = (T + TOKEN_BLOCK - 1) / TOKEN_BLOCK };
    g.split = split_dx(&g);
    /* Quantized rows of one linear at a time; else all in one task. */
    for (; g.first < n; g.first = g.end) {
        const bool int8 = in_int8(&g, &l[g.first]);
        g.end = int8 ? g.first + 1 : n;
        if (int8)
            bise_int8_gradient(e, w->rows8, &l[g.first], dy[g.first], T);
        run_tasks(&g, backward_task);
    }
}
