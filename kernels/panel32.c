/* panel32.c - the cache blocking of the float32 products of panel.h. Panels of
 * W, 256 columns by 512 steps, lie in the second cache; a tile of 12 rows of x
 * passes over all of them while it is in the first one (x comes once for each
 * group, y once for each depth). The micro-kernel asks for the next tile and
 * for the next region of W. Portable; speed comes from the slots.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/panel_int.h"

#include <string.h>

#define COLS BISE_PANEL_COLS
#define ROWS BISE_PANEL_ROWS
#define GROUP BISE_PANEL32_GROUP
#define DEPTH BISE_PANEL32_DEPTH
#define LINE 64   /* bytes of a cache line */
#define AHEAD 8   /* rows asked for before they are packed */

/* Scratch of a worker. */
typedef struct scratch {
    float packed[DEPTH * GROUP];
    float low[BISE_PANEL_LOW * GROUP];  /* factors of an addition */
    float tile[DEPTH * COLS];           /* decoded rows of a panel */
    float line[2 * DEPTH];              /* decoded weights of one row */
    const void *rows[COLS];
} scratch;

/* What is being packed: rows [n0, n0 + n), columns [k0, k0 + k). */
typedef struct region {
    int32_t n0, n, k0, k;
} region;

/* Lines of a region of W to be asked for while the products of another run,
 * in its last calls: what comes too early is driven out by x and y. Rows lie
 * pages apart, which no hardware prefetcher follows; a call asks for one line
 * of each of many rows. */
typedef struct asker {
    const uint8_t *first;
    size_t stride;
    size_t lines, rows; /* lines of a row, rows of a call */
    size_t at, calls;   /* the next call that asks, of how many */
} asker;

size_t bise_panel32_scratch(void)
{
    return sizeof(scratch);
}

size_t bise_panel_tiled(int32_t T, int32_t n)
{
    return (size_t)(T + ROWS - 1) / ROWS * ROWS * (size_t)n;
}

void bise_panel_tile(const bise_panel_ops *o, float *tiles, const float *x,
                     size_t ldx, int32_t n, int32_t t0, int32_t t1)
{
    for (int32_t t = t0; t < t1; t += ROWS)
        o->pack_tile(tiles + (size_t)t * (size_t)n, x + (size_t)t * ldx, ldx,
                     t1 - t < ROWS ? t1 - t : ROWS, (size_t)n);
}

/* The region of W at depth d for output columns [c0, c0 + n). */
static region region_at(const bise_panel_job *j, int32_t d, int32_t c0,
                        int32_t n)
{
    const int32_t all = j->transposed ? j->w->N : j->w->K;
    const int32_t dn = all - d < DEPTH ? all - d : DEPTH;
    return j->transposed ? (region){ d, dn, c0, n } : (region){ c0, n, d, dn };
}

/* All lines of a region, to be asked for by calls of r steps. Rows are taken
 * in the file's order, which for whole heads are the same rows. */
static asker asker_of(const bise_matrix *w, const region *g, size_t r)
{
    const size_t steps = r / 4 > ROWS ? BISE_TILE32_LINES(r) : 0;
    if (!w || !steps || g->n <= 0 || g->k <= 0)
        return (asker){ 0 };
    const size_t parts = ((size_t)g->n + steps - 1) / steps;
    const size_t lines = bise_panel_row_bytes(w, g->k) / LINE + 1;
    return (asker){ .first = bise_panel_row(w, g->n0, g->k0),
                    .stride = w->nf4 ? (size_t)w->K / 2 : w->row_bytes,
                    .lines = lines, .rows = ((size_t)g->n + parts - 1) / parts,
                    .calls = lines * parts };
}

/* What a call asks for when left calls follow it. */
static void ask_by(asker *a, bise_tile32 *t, size_t left)
{
    t->far = t->a;
    t->far_step = 0;
    if (left >= a->calls - a->at)
        return;
    t->far = a->first + a->at / a->lines * a->rows * a->stride +
             a->at % a->lines * LINE;
    t->far_step = a->stride;
    a->at++;
}

/* A whole row of a region at once. */
static void ask_row(const bise_matrix *w, const region *g, int32_t n)
{
    if (n >= g->n)
        return;
    const uint8_t *row = bise_panel_row(w, g->n0 + n, g->k0);
    const size_t bytes = bise_panel_row_bytes(w, g->k);
    for (size_t i = 0; i <= bytes; i += LINE)
        __builtin_prefetch(row + i);
}

/* A panel of up to 32 rows from n on: rows of a plain type as they are stored,
 * others decoded first. */
static void pack_rows(const bise_panel_ops *o, scratch *s, float *to,
                      const bise_matrix *w, const region *g, int32_t n)
{
    const bool plain = !w->scales && !w->nf4;
    const bool bf16 = plain && w->dtype == BISE_DTYPE_BF16;
    const bool direct = bf16 || (plain && w->dtype == BISE_DTYPE_F32);
    for (int32_t i = 0; i < COLS; i++) {
        s->rows[i] = NULL;
        if (n + i >= g->n)
            continue;
        if (direct) {
            s->rows[i] = bise_panel_stored(w, g->n0 + n + i, g->k0);
            continue;
        }
        float *row = s->tile + (size_t)i * DEPTH;
        bise_panel_decode_row(row, w, g->n0 + n + i, g->k0, g->k, s->line);
        s->rows[i] = row;
    }
    if (bf16)
        o->widen_rows(to, (const uint16_t *const *)s->rows, (size_t)g->k);
    else
        o->pack_rows_f32(to, (const float *const *)s->rows, (size_t)g->k);
}

/* Row n of a region going backward, where a row of a panel is a part of a row
 * of W: dealt out to all panels. */
static void deal_row(const bise_panel_ops *o, scratch *s, const bise_matrix *w,
                     const region *g, int32_t n)
{
    const size_t r = (size_t)g->n;
    float *to = s->packed + (size_t)n * COLS, *row = s->tile;
    if (w->dtype == BISE_DTYPE_BF16 && !w->scales && !w->nf4) {
        const void *stored = bise_panel_stored(w, g->n0 + n, g->k0);
        o->widen_row(to, COLS * r, stored, (size_t)g->k);
        return;
    }
    bise_panel_decode_row(row, w, g->n0 + n, g->k0, g->k, s->line);
    for (int32_t c = g->k; c % COLS; c++)
        row[c] = 0;
    for (int32_t c = 0; c < g->k; c += COLS / 2)
        memcpy(to + (size_t)(c / COLS * COLS) * r + c % COLS, row + c,
               COLS / 2 * sizeof *row);          /* short enough to inline */
}

/* The panels of a region, each as deep as the region, one after the other. A
 * cold one was not asked for. */
static void pack(const bise_panel_ops *o, const bise_panel_job *j, scratch *s,
                 const region *g, bool cold)
{
    if (j->transposed) {
        for (int32_t n = 0; n < g->n; n++) {
            if (cold)
                ask_row(j->w, g, n + AHEAD);
            deal_row(o, s, j->w, g, n);
        }
        return;
    }
    for (int32_t n = 0; n < g->n; n += COLS) {
        for (int32_t i = 0; cold && i < COLS; i++)
            ask_row(j->w, g, n + COLS + i);
        pack_rows(o, s, s->packed + (size_t)n * (size_t)g->k, j->w, g, n);
    }
}

/* Factors of columns [c0, c0 + n) as panels [r][32]. */
static void pack_low(const bise_panel_job *j, scratch *s, int32_t c0,
                     int32_t n)
{
    const size_t columns = (size_t)bise_panel_columns(j), r = (size_t)j->r;
    for (size_t i = 0; i < r; i++)
        for (size_t c = 0; c < (size_t)(n + COLS - 1) / COLS * COLS; c++) {
            float v = 0;
            if (c < (size_t)n)
                v = j->transposed ? j->f[i * columns + (size_t)c0 + c] :
                                    j->f[((size_t)c0 + c) * r + i];
            s->low[(c / COLS * r + i) * COLS + c % COLS] = j->f_scale * v;
        }
}

/* A tile of rows from t on over all panels of a region, and over the factors
 * of the addition when low is set. Each panel's call asks for its share of the
 * next tile. */
static void multiply_tile(const bise_panel_ops *o, const bise_panel_job *j,
                          const scratch *s, const region *g, int32_t t,
                          bool low, asker *a)
{
    const int32_t out0 = j->transposed ? g->k0 : g->n0;
    const int32_t outs = j->transposed ? g->k : g->n;
    const size_t red0 = (size_t)(j->transposed ? g->n0 : g->k0);
    const size_t r = (size_t)(j->transposed ? g->n : g->k);
    const size_t all = (size_t)(j->transposed ? j->w->N : j->w->K);
    const float *x = j->x + (size_t)t * all + red0 * ROWS;
    const size_t panels = ((size_t)outs + COLS - 1) / COLS;
    const size_t tiles = (size_t)(j->T - t + ROWS - 1) / ROWS;
    const size_t share = tiles > 1 ? r * ROWS / panels : 0;
    for (size_t i = 0; i < panels; i++) {
        const int32_t p = (int32_t)i * COLS;
        float *y = j->y + (size_t)t * j->ldy + out0 + p;
        bise_tile32 call = {
            .a = x, .b = s->packed + (size_t)p * r, .r = r,
            .m = tiles > 1 ? ROWS : j->T - t,
            .nc = outs - p < COLS ? outs - p : COLS,
            .add = j->add || red0 > 0, .soon_bytes = share * sizeof *x,
            .soon = share ? x + all * ROWS + i * share : x };
        ask_by(a, &call, tiles * panels - i - 1);
        o->mul_tile(y, j->ldy, &call);
        if (low)
            o->mul_f32(y, j->ldy, j->e + (size_t)t * j->lde, j->lde,
                       s->low + (size_t)p * (size_t)j->r, COLS, (size_t)j->r,
                       call.m, call.nc, true);
    }
}

/* What follows the region at depth d: the next depth of the same columns, or
 * the first one of the columns that the caller names. */
static asker next_region(const bise_panel_job *j, int32_t d, int32_t c0,
                         int32_t n, size_t r)
{
    const int32_t all = j->transposed ? j->w->N : j->w->K;
    bise_panel_job next = *j;
    if (d + DEPTH < all) {
        const region g = region_at(j, d + DEPTH, c0, n);
        return asker_of(j->w, &g, r);
    }
    if (!j->next)
        return (asker){ 0 };
    next.w = j->next;
    const int32_t left = bise_panel_columns(&next) - j->next_column;
    const region g = region_at(&next, 0, j->next_column,
                               left < GROUP ? left : GROUP);
    return asker_of(next.w, &g, r);
}

/* Columns [c0, c0 + n) of a job, at most GROUP. */
static void run_group(const bise_panel_ops *o, const bise_panel_job *j,
                      int32_t c0, int32_t n, scratch *s)
{
    const int32_t all = j->transposed ? j->w->N : j->w->K;
    const bool low = j->e && j->r <= BISE_PANEL_LOW;
    if (low)
        pack_low(j, s, c0, n);
    for (int32_t d = 0; d < all; d += DEPTH) {
        const region g = region_at(j, d, c0, n);
        asker a = next_region(j, d, c0, n,
                              (size_t)(j->transposed ? g.n : g.k));
        pack(o, j, s, &g, d == 0);
        for (int32_t t = 0; t < j->T; t += ROWS)
            multiply_tile(o, j, s, &g, t, low && d + DEPTH >= all, &a);
    }
    if (j->e && !low)
        bise_panel_low_rank(o, j, c0, n, s);
}

void bise_panel32_run(const bise_panel_ops *o, const bise_panel_job *j,
                      int32_t c0, int32_t n, void *memory)
{
    const int32_t columns = bise_panel_columns(j);
    const int32_t end = columns - c0 < n ? columns : c0 + n;
    for (int32_t c = c0; c < end; c += GROUP)
        run_group(o, j, c, end - c < GROUP ? end - c : GROUP, memory);
}
