/* matmul_panel.c - products of linear layers through the panels of
 * kernels/panel.h, in bf16 or float32: a task is a group of output columns of
 * one linear for a block of tokens; the weight's tile is decoded and packed
 * where it is used. Called from matmul.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/linear_int.h"
#include "model/rows16.h"

#define THIN_TOKENS 3     /* up to here rows of W are used directly */
#define INPUT_ROWS BISE_PANEL_ROWS  /* rows of x that a task prepares */
#define TOKEN_BLOCK (170 * INPUT_ROWS) /* tokens of a task */
#define PART 64           /* columns of a part of a group in float32 */

/* The products of one call: a job for each linear. */
typedef struct panel_run {
    const bise_exec *e;
    bise_panel_job jobs[BISE_GROUP_MAX];
    bise_matrix w[BISE_GROUP_MAX];
    int32_t groups[BISE_GROUP_MAX]; /* column groups of each */
    bise_panel_split split;
    const bise_linear *l;
    const float *h;                 /* adapters' x A^T, or going backward
                                       their dh, or NULL */
    bool back;
    int n;
    int32_t T, blocks;
    const float *x;                 /* being prepared: [T, width] */
    int32_t width;
} panel_run;

bool bise_panels_used(const bise_exec *e, int32_t T)
{
    return e->panel && T > THIN_TOKENS;
}

/* Rows of x, rounded or as a tile. */
static void input_task(void *ctx, size_t block, int worker)
{
    const panel_run *r = ctx;
    const int32_t t0 = (int32_t)block * INPUT_ROWS;
    const int32_t t1 = r->T - t0 < INPUT_ROWS ? r->T : t0 + INPUT_ROWS;
    const size_t n = (size_t)r->width, ld = bise_stride16(r->width);
    (void)worker;
    if (!r->e->x16) {
        bise_panel_tile(r->e->panel, r->e->x32, r->x, n, r->width, t0, t1);
        return;
    }
    for (int32_t t = t0; t < t1; t++) {
        const float *x = r->x + (size_t)t * n;
        uint16_t *to = r->e->x16 + (size_t)t * ld;
        r->e->panel->round_bf16(to, x, n);
        if (n % 2)
            to[n] = 0;
    }
}

/* Set the input of a job: x [T, width], in the form the panels take; prepare
 * ends the use of that form by earlier jobs. */
static void set_input(panel_run *r, bise_panel_job *j, const float *x,
                      int32_t width, bool prepare)
{
    if (prepare) {
        r->x = x;
        r->width = width;
        bise_pool_run(r->e->pool,
                      (size_t)((r->T + INPUT_ROWS - 1) / INPUT_ROWS),
                      input_task, r);
    }
    j->x_bf16 = r->e->x16;
    j->x = r->e->x16 ? NULL : r->e->x32;
    j->ldx = bise_stride16(width);
}

/* The part of a job for tokens from t0 on. */
static bise_panel_job at_block(const bise_panel_job *whole, int32_t t0)
{
    bise_panel_job j = *whole;
    j.T = whole->T - t0 < TOKEN_BLOCK ? whole->T - t0 : TOKEN_BLOCK;
    j.y += (size_t)t0 * j.ldy;
    if (j.x)
        j.x += (size_t)t0 * (size_t)(j.transposed ? j.w->N : j.w->K);
    else
        j.x_bf16 += (size_t)t0 * j.ldx;
    return j;
}

/* The columns of a task: those of linear li from c0 on, n of them; at is the
 * ranks of the adapters before it. */
typedef struct columns {
    int32_t li, at, c0, n;
} columns;

static columns columns_of(const panel_run *r, size_t task_index)
{
    const bise_panel_task task = bise_panel_task_at(&r->split, task_index);
    columns c = { .n = task.n };
    int32_t g = (int32_t)task.group;
    while (g >= r->groups[c.li]) {
        c.at += r->l[c.li].rank;
        g -= r->groups[c.li++];
    }
    c.c0 = g * r->split.width + task.first;
    return c;
}

/* Tell a job what its thread will probably do next. */
static void set_next(const panel_run *r, bise_panel_job *j, size_t index)
{
    const size_t next = index + (size_t)bise_pool_threads(r->e->pool);
    if (next / (size_t)r->blocks >= bise_panel_tasks(&r->split))
        return;
    const columns c = columns_of(r, next / (size_t)r->blocks);
    if (c.c0 >= bise_panel_columns(&r->jobs[c.li]))
        return;
    j->next = &r->w[c.li];
    j->next_column = c.c0;
}

/* Base product of one group, then s h B^T of each branch on it, or dh A. */
static void panel_task(void *ctx, size_t index, int worker)
{
    const panel_run *r = ctx;
    const int32_t t0 = (int32_t)(index % (size_t)r->blocks) * TOKEN_BLOCK;
    const columns c = columns_of(r, index / (size_t)r->blocks);
    const int32_t li = c.li, c0 = c.c0;
    int32_t at = c.at;
    float *scratch = r->e->scratch + (size_t)worker * r->e->scratch_floats;
    bise_panel_job j = at_block(&r->jobs[li], t0);
    if (c0 >= bise_panel_columns(&j))
        return;
    set_next(r, &j, index);
    const int32_t branches = r->h ? r->l[li].n_branches : 0;
    for (int32_t b = 0; b < branches; b++) {
        const bise_lora_module *m = r->l[li].branches[b].m;
        j.e = r->h + (size_t)r->T * (size_t)at + (size_t)t0 * (size_t)m->r;
        j.lde = (size_t)m->r;
        j.f = r->back ? m->a : m->b;
        j.f_scale = r->back ? 1 : m->scale;
        j.r = m->r;
        /* The first one while the sums are at hand. */
        if (b == 0)
            bise_panel_run(r->e->panel, &j, c0, c.n, scratch);
        else
            bise_panel_low_rank(r->e->panel, &j, c0, c.n, scratch);
        at += m->r;
    }
    if (!branches)
        bise_panel_run(r->e->panel, &j, c0, c.n, scratch);
}

/* The widest group of all jobs. Where a group holds whole blocks of a row, its
 * parts would decode all of them again: those stay whole. */
static void plan_split(panel_run *r)
{
    int32_t width = BISE_PANEL_GROUP;
    for (int i = 0; i < r->n; i++) {
        const int32_t own = bise_panel_width(r->jobs[i].w,
                                             r->jobs[i].transposed);
        width = own > width ? own : width;
    }
    r->split = (bise_panel_split){
        .width = width, .threads = bise_pool_threads(r->e->pool) };
    if (!r->e->x16) {
        r->split.part = width > BISE_PANEL_GROUP ? width : PART;
        r->split.width = BISE_PANEL32_GROUP;
    }
}

/* Hand out all groups of all jobs. */
static void run_all(panel_run *r)
{
    plan_split(r);
    const int32_t width = r->split.width;
    for (int i = 0; i < r->n; i++) {
        r->groups[i] = (bise_panel_columns(&r->jobs[i]) + width - 1) / width;
        r->split.groups += (size_t)r->groups[i];
    }
    r->blocks = (r->T + TOKEN_BLOCK - 1) / TOKEN_BLOCK;
    bise_pool_run(r->e->pool,
                  bise_panel_tasks(&r->split) * (size_t)r->blocks, panel_task,
                  r);
}

void bise_panels_forward(const bise_exec *e, const bise_linear *l, int n,
                         float *const *y, const float *x, int32_t T,
                         const float *h, bool add)
{
    panel_run r = { .e = e, .l = l, .h = h, .n = n, .T = T };
    for (int i = 0; i < n; i++) {
        r.w[i] = bise_linear_matrix(&l[i]);
        r.jobs[i] = (bise_panel_job){ .w = &r.w[i], .y = y[i], .T = T,
                                      .ldy = (size_t)l[i].out, .add = add };
        set_input(&r, &r.jobs[i], x, l[i].in, i == 0);
    }
    run_all(&r);
}

void bise_panels_backward(const bise_exec *e, const bise_linear *l, int n,
                          float *dx, float *const *dy, const float *dh,
                          int32_t T, bool add)
{
    for (int i = 0; i < n; i++) {
        panel_run r = { .e = e, .l = &l[i], .h = dh, .back = true, .n = 1,
                        .T = T };
        r.w[0] = bise_linear_matrix(&l[i]);
        r.jobs[0] = (bise_panel_job){ .w = &r.w[0], .transposed = true,
                                      .y = dx, .ldy = (size_t)l[i].in,
                                      .T = T, .add = add || i > 0 };
        set_input(&r, &r.jobs[0], dy[i], l[i].out, true);
        run_all(&r);
        dh = dh ? dh + (size_t)T * (size_t)l[i].rank : NULL;
    }
}
