/* panel8.c - the cache blocking around the 8-bit micro-kernels of panel8.h:
 * pack a tile of W, pass all rows of x over it. Portable; speed comes from the
 * slots.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/panel8.h"

#define COLS BISE_PANEL8_COLS
#define ROWS BISE_PANEL8_ROWS
#define GROUP BISE_PANEL8_GROUP
#define DEPTH BISE_PANEL8_DEPTH
#define BLOCK 96 /* rows of x that pass over all panels of a group */

/* Scratch of a worker: the packed panels of a group. */
typedef struct scratch {
    int8_t packed[DEPTH * GROUP];
    int32_t start[GROUP];
    float scales[GROUP];
    const int8_t *rows[DEPTH];
} scratch;

/* Outputs [c0, c0 + c) and the reduction steps [d0, d0 + d) being packed. */
typedef struct region {
    int32_t c0, c, d0, d;
} region;

void bise_panel8_ops_init(bise_panel8_ops *o, bise_cpu level)
{
    bise_panel8_ops_ref(o);
#if BISE_X86
    if (level >= BISE_CPU_AVX2)
        bise_panel8_ops_avx2(o);
    if (level >= BISE_CPU_AVX512)
        bise_panel8_ops_avx512(o);
#else
    (void)level;
#endif
}

float bise_panel8_encode(const bise_panel8_ops *o, int8_t *out, const float *w,
                         size_t n)
{
    uint8_t *u = (uint8_t *)out;
    const float scale = o->quantize(u, w, NULL, n);
    for (size_t i = 0; i < n; i++)      /* 128 + v to v */
        u[i] ^= 0x80;
    return scale;
}

size_t bise_panel8_scratch(void)
{
    return sizeof(scratch);
}

/* Output columns of a job. */
static int32_t columns_of(const bise_panel8_job *j)
{
    return j->transposed ? j->w->K : j->w->N;
}

/* Where row n in half order stands in data (mistral3.md 2.6). */
static int32_t stored_row(const bise_matrix8 *w, int32_t n)
{
    const int32_t D = w->pair_rows;
    if (!D)
        return n;
    const int32_t at = n % D, half = D / 2;
    return n - at + 2 * (at % half) + at / half;
}

static const int8_t *row_at(const bise_matrix8 *w, int32_t n, int32_t k)
{
    return w->data + (size_t)stored_row(w, n) * (size_t)w->K + (size_t)k;
}

/* Bytes of one panel of d steps. */
static size_t panel_bytes(int32_t d)
{
    return ((size_t)d + 3) / 4 * 4 * COLS;
}

/* Forward: a panel is 32 rows of W, whose scales go to the columns of y. */
static void pack_forward(const bise_panel8_ops *o, scratch *s,
                         const bise_matrix8 *w, const region *g)
{
    for (int32_t p = 0; p < g->c; p += COLS) {
        const int8_t *rows[COLS];
        for (int32_t i = 0; i < COLS; i++) {
            const bool in = p + i < g->c;
            rows[i] = in ? row_at(w, g->c0 + p + i, g->d0) : NULL;
            s->scales[p + i] =
                in ? w->scales[stored_row(w, g->c0 + p + i)] : 0;
        }
        o->pack_rows(s->packed + (size_t)(p / COLS) * panel_bytes(g->d), rows,
                     (size_t)g->d);
    }
}

/* Gradient: the reduction runs over rows of W. */
static void pack_gradient(const bise_panel8_ops *o, scratch *s,
                          const bise_matrix8 *w, const region *g)
{
    for (int32_t i = 0; i < g->d; i++)
        s->rows[i] = row_at(w, g->d0 + i, g->c0);
    o->pack_columns(s->packed, s->rows, (size_t)g->d, (size_t)g->c);
}

/* All rows of x over the packed panels. */
static void multiply(const bise_panel8_ops *o, const bise_panel8_job *j,
                     const scratch *s, const region *g)
{
    bise_tile8 tile = { .lda = j->ldx, .quads = ((size_t)g->d + 3) / 4,
                        .add = j->add || g->d0 > 0 };
    for (int32_t t0 = 0; t0 < j->T; t0 += BLOCK)
        for (int32_t p = 0; p < g->c; p += COLS) {
            tile.nc = g->c - p < COLS ? g->c - p : COLS;
            tile.b = s->packed + (size_t)(p / COLS) * panel_bytes(g->d);
            tile.start = s->start + p;
            tile.b_scales = j->transposed ? NULL : s->scales + p;
            for (int32_t t = t0; t < j->T && t < t0 + BLOCK; t += ROWS) {
                tile.m = j->T - t < ROWS ? j->T - t : ROWS;
                tile.a = j->x + (size_t)t * j->ldx + (size_t)g->d0;
                tile.a_scales = j->x_scales + t;
                o->mul(j->y + (size_t)t * j->ldy + g->c0 + p, j->ldy, &tile);
            }
        }
}

/* Columns [c0, c0 + n) of a job, at most GROUP. */
static void run_group(const bise_panel8_ops *o, const bise_panel8_job *j,
                      int32_t c0, int32_t n, scratch *s)
{
    const bise_matrix8 *w = j->w;
    const int32_t depth = j->transposed ? w->N : w->K;
    for (int32_t d = 0; d < depth; d += DEPTH) {
        const region at = { c0, n, d, depth - d < DEPTH ? depth - d : DEPTH };
        if (j->transposed)
            pack_gradient(o, s, w, &at);
        else
            pack_forward(o, s, w, &at);
        for (int32_t p = 0; p < at.c; p += COLS)
            o->sum_columns(s->start + p, s->packed + (size_t)(p / COLS) *
                                             panel_bytes(at.d),
                           ((size_t)at.d + 3) / 4);
        multiply(o, j, s, &at);
    }
}

void bise_panel8_run(const bise_panel8_ops *o, const bise_panel8_job *j,
                     int32_t c0, int32_t n, void *memory)
{
    const int32_t columns = columns_of(j);
    const int32_t end = columns - c0 < n ? columns : c0 + n;
    for (int32_t c = c0; c < end; c += GROUP)
        run_group(o, j, c, end - c < GROUP ? end - c : GROUP, memory);
}
