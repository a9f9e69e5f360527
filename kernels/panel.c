/* panel.c - the cache blocking around the micro-kernels of panel.h: fetch a
 * tile of W in any type, pack it, pass all rows of x over it. Portable; speed
 * comes from the slots.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/panel.h"

#include <string.h>

#include "core/bytes.h"
#include "kernels/codec.h"

#define COLS BISE_PANEL_COLS
#define GROUP BISE_PANEL_GROUP
#define DEPTH BISE_PANEL_DEPTH
#define ROW_BLOCK (BISE_PANEL_ROWS * 22) /* 264 rows of x, half a megabyte */
#define AHEAD 4         /* rows of blocks asked for before they are decoded */

/* Scratch of a worker: packed panels of a group, and a decoded tile of at most
 * DEPTH x GROUP weights, or half as deep and twice as wide (in float32 half as
 * deep in either form), wide enough for whole blocks on both sides. */
typedef struct scratch {
    float line[2 * DEPTH];                 /* decoded weights of one row */
    union {
        float f32[DEPTH / 2 * GROUP];
        uint16_t bf16[DEPTH * GROUP];
    } packed;
    union {
        float f32[DEPTH / 2 * GROUP];
        uint16_t bf16[DEPTH * GROUP];
    } tile;
    uint16_t low[BISE_PANEL_LOW * 2 * GROUP]; /* packed factors of a group */
    const void *rows[DEPTH + 1];
} scratch;

/* What is being packed: rows [n0, n0 + n), columns [k0, k0 + k). */
typedef struct region {
    int32_t n0, n, k0, k;
} region;

void bise_panel_ops_init(bise_panel_ops *o, bise_cpu level)
{
    bise_panel_ops_ref(o);
#if BISE_X86
    if (level >= BISE_CPU_AVX2)
        bise_panel_ops_avx2(o);
    if (level >= BISE_CPU_AVX512)
        bise_panel_ops_avx512(o);
    if (level >= BISE_CPU_AVX512BF16)
        bise_panel_ops_avx512bf16(o);
#else
    (void)level;
#endif
}

size_t bise_panel_scratch(const bise_panel_ops *o)
{
    (void)o;
    return sizeof(scratch);
}

int32_t bise_panel_columns(const bise_panel_job *j)
{
    return j->transposed ? j->w->K : j->w->N;
}

int32_t bise_panel_width(const bise_matrix *w, bool transposed)
{
    const bool long_blocks =
        w->nf4 || bise_dtype_get(w->dtype)->block_len > GROUP;
    return transposed && long_blocks ? 2 * GROUP : GROUP;
}

/* Groups that are cut: two for each thread. */
static size_t cut_groups(const bise_panel_split *s)
{
    const size_t cut = s->threads > 1 ? 2 * (size_t)s->threads : 0;
    return cut < s->groups ? cut : s->groups;
}

/* Columns of a part of a group that is cut. */
static int32_t part_width(const bise_panel_split *s)
{
    return s->width > GROUP ? s->width : COLS;
}

size_t bise_panel_tasks(const bise_panel_split *s)
{
    return s->groups + cut_groups(s) *
                       (size_t)(s->width / part_width(s) - 1);
}

bise_panel_task bise_panel_task_at(const bise_panel_split *s, size_t index)
{
    const size_t whole = s->groups - cut_groups(s);
    if (index < whole)
        return (bise_panel_task){ .group = index, .n = s->width };
    const int32_t n = part_width(s);
    const size_t parts = (size_t)(s->width / n), i = index - whole;
    return (bise_panel_task){ .group = whole + i / parts,
                              .first = (int32_t)(i % parts) * n, .n = n };
}

/* Scale of an FP8 weight's tile position. */
static float fp8_scale(const bise_matrix *w, int32_t n, int32_t k)
{
    if (!w->scales)
        return 1;
    if (w->block <= 0)
        return w->scales[w->block == BISE_SCALE_ROWS ? n : 0];
    const int32_t per_row = (w->K + w->block - 1) / w->block;
    return w->scales[n / w->block * per_row + k / w->block];
}

/* Where row n in half order stands in the file. */
static int32_t stored_row(const bise_matrix *w, int32_t n)
{
    const int32_t D = w->pair_rows;
    if (!D)
        return n;
    const int32_t at = n % D, half = D / 2;
    return n - at + 2 * (at % half) + at / half;
}

/* Place of W [n, k0] in the tensor of an NF4 matrix. */
static uint64_t nf4_at(const bise_matrix *w, int32_t n, int32_t k0)
{
    return w->nf4_first + (uint64_t)stored_row(w, n) * (uint64_t)w->K +
           (uint64_t)k0;
}

/* The bytes of row n from weight k0 on, which begins a block (not NF4). */
static const uint8_t *stored_at(const bise_matrix *w, int32_t n, int32_t k0)
{
    return (const uint8_t *)w->data + (size_t)stored_row(w, n) * w->row_bytes +
           bise_dtype_bytes(w->dtype, (uint64_t)k0);
}

/* Decode columns [k0, k0 + k) of one stored row into out as float32; reads the
 * whole blocks around them. */
static void decode_row(float *out, const bise_matrix *w, int32_t n, int32_t k0,
                       int32_t k, float *line)
{
    if (w->nf4) {
        bise_nf4_decode(w->nf4, nf4_at(w, n, k0), (size_t)k, out);
        return;
    }
    const int32_t row = stored_row(w, n);
    if (w->row_scales) {
        const int8_t *v = (const int8_t *)stored_at(w, n, k0);
        for (int32_t i = 0; i < k; i++)
            out[i] = v[i] * w->row_scales[row];
        return;
    }
    const int32_t bl = (int32_t)bise_dtype_get(w->dtype)->block_len;
    const int32_t b0 = k0 / bl, b1 = (k0 + k + bl - 1) / bl;
    const bise_codec *c = bise_codec_get(w->dtype);
    const bool aligned = b0 * bl == k0 && b1 * bl == k0 + k;
    float *to = aligned ? out : line;
    c->decode(to, stored_at(w, n, b0 * bl), (size_t)(b1 - b0) * (size_t)bl);
    if (!aligned)
        memcpy(out, line + (k0 - b0 * bl), (size_t)k * sizeof *out);
    if (w->scales)
        for (int32_t i = 0; i < k; i++)
            out[i] *= fp8_scale(w, row, k0 + i);
}

/* Codes of NF4 to bf16, block by block. False when the range starts or ends
 * inside a byte: such shapes go through float32. */
static bool nf4_bf16(const bise_panel_ops *o, uint16_t *out, const bise_nf4 *q,
                     uint64_t first, size_t n)
{
    const uint64_t end = first + n;
    if (!o->lookup_bf16 || (first | end) & 1)
        return false;
    while (first < end) {
        const uint64_t b = first / q->block;
        uint64_t stop = (b + 1) * q->block;
        stop = stop < end ? stop : end;
        o->lookup_bf16(out, q->codes + first / 2, (size_t)(stop - first) / 2,
                       q->map, bise_nf4_scale(q, b));
        out += stop - first;
        first = stop;
    }
    return true;
}

/* Columns [k0, k0 + k) of row n straight to bf16, where there is a slot for
 * it. Tiles start at whole blocks; only the last one may end inside. */
static bool direct_bf16(const bise_panel_ops *o, uint16_t *out,
                        const bise_matrix *w, int32_t n, int32_t k0, int32_t k)
{
    if (w->nf4)
        return nf4_bf16(o, out, w->nf4, nf4_at(w, n, k0), (size_t)k);
    const int32_t bl = (int32_t)bise_dtype_get(w->dtype)->block_len;
    if (!o->decode_bf16[w->dtype] || w->scales || k0 % bl || k % bl)
        return false;
    o->decode_bf16[w->dtype](out, stored_at(w, n, k0), (size_t)k);
    return true;
}

/* Ask for the bytes of columns [k0, k0 + k) of row n: rows lie pages apart,
 * which no hardware prefetcher follows. */
static void ask_row(const bise_matrix *w, int32_t n, int32_t k0, int32_t k)
{
    const uint8_t *at = w->nf4 ? w->nf4->codes + nf4_at(w, n, k0) / 2
                               : stored_at(w, n, k0);
    const size_t bytes = w->nf4 ? (size_t)k / 2
                                : bise_dtype_bytes(w->dtype, (uint64_t)k);
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(at + i);
    __builtin_prefetch(at + bytes);
}

/* Row pointers to region g in the element type of the panels. Weights already
 * in it are used in place; others are decoded into the tile. */
static void fetch(const bise_panel_ops *o, scratch *s, const bise_matrix *w,
                  const region *g, bool bf16)
{
    const bise_dtype same = bf16 ? BISE_DTYPE_BF16 : BISE_DTYPE_F32;
    for (int32_t i = 0; i < g->n; i++) {
        const int32_t n = g->n0 + i;
        if (w->dtype == same && !w->scales) {
            s->rows[i] = stored_at(w, n, g->k0);
            continue;
        }
        if (i + AHEAD < g->n)
            ask_row(w, n + AHEAD, g->k0, g->k);
        /* A tile row is padded to whole panels so that packing may read on. */
        const size_t ld = ((size_t)g->k + COLS - 1) / COLS * COLS;
        if (bf16) {
            uint16_t *to = s->tile.bf16 + (size_t)i * ld;
            float *f = (float *)(void *)s->packed.f32; /* free until packed */
            if (!direct_bf16(o, to, w, n, g->k0, g->k)) {
                decode_row(f, w, n, g->k0, g->k, s->line);
                o->round_bf16(to, f, (size_t)g->k);
            }
            memset(to + g->k, 0, (ld - (size_t)g->k) * sizeof *to);
            s->rows[i] = to;
        } else {
            float *to = s->tile.f32 + (size_t)i * ld;
            decode_row(to, w, n, g->k0, g->k, s->line);
            memset(to + g->k, 0, (ld - (size_t)g->k) * sizeof *to);
            s->rows[i] = to;
        }
    }
}

/* Forward: each panel is 32 rows of W over the region's columns. */
static void pack_forward(const bise_panel_ops *o, scratch *s, const region *g,
                         bool bf16)
{
    const size_t r = ((size_t)g->k + 1) / 2 * 2;
    for (int32_t p = 0; p < g->n; p += COLS) {
        const void *rows[COLS];
        for (int i = 0; i < COLS; i++)
            rows[i] = p + i < g->n ? s->rows[p + i] : NULL;
        if (bf16)
            o->pack_rows_bf16(s->packed.bf16 + (size_t)p * r,
                              (const uint16_t *const *)rows, (size_t)g->k);
        else
            o->pack_rows_f32(s->packed.f32 + (size_t)p * r,
                             (const float *const *)rows, (size_t)g->k);
    }
}

/* Gradient panels that reach beyond the matrix: 32 columns from c of every
 * row, missing ones as zeros. */
static void pack_columns(scratch *s, const region *g, int32_t c)
{
    const size_t r = ((size_t)g->n + 1) / 2 * 2;
    const size_t nc = g->k - c < COLS ? (size_t)(g->k - c) : COLS;
    for (size_t n = 0; n < r; n++) {
        const bool in = n < (size_t)g->n;
        const uint16_t *row = in ? (const uint16_t *)s->rows[n] + c : NULL;
        uint16_t *to = s->packed.bf16 + (size_t)c * r + n / 2 * 64 + n % 2;
        for (size_t i = 0; i < COLS; i++)
            to[i * 2] = in && i < nc ? row[i] : 0;
    }
}

/* Gradient: the reduction runs over rows of W; a panel is 32 columns. */
static void pack_gradient(const bise_panel_ops *o, scratch *s, const region *g)
{
    const size_t r = ((size_t)g->n + 1) / 2 * 2;
    const int32_t whole = g->k / COLS * COLS;
    if (whole)
        o->pack_pairs_bf16(s->packed.bf16, COLS * r,
                           (const uint16_t *const *)s->rows, (size_t)g->n,
                           (size_t)whole);
    for (int32_t c = whole; c < g->k; c += COLS)
        pack_columns(s, g, c);
}

/* The same in float32, where a row of a panel is a part of a row of W: each
 * row is decoded and dealt out while it is in the first cache. */
static void pack_gradient_f32(scratch *s, const bise_matrix *w,
                              const region *g)
{
    const size_t r = ((size_t)g->n + 1) / 2 * 2;
    for (int32_t n = 0; n < g->n; n++) {
        float *to = s->packed.f32 + (size_t)n * COLS, *row = s->tile.f32;
        if (n + AHEAD < g->n)
            ask_row(w, g->n0 + n + AHEAD, g->k0, g->k);
        decode_row(row, w, g->n0 + n, g->k0, g->k, s->line);
        for (int32_t c = g->k; c % COLS; c++)
            row[c] = 0;
        for (int32_t c = 0; c < g->k; c += COLS / 2)
            memcpy(to + (size_t)(c / COLS * COLS) * r + c % COLS, row + c,
                   COLS / 2 * sizeof *row);      /* short enough to inline */
    }
}

/* Rows [t0, t1) of x over the packed panels of one region; then low (0 or the
 * rank, made even) steps of the packed addition. */
static void multiply_rows(const bise_panel_ops *o, const bise_panel_job *j,
                          const scratch *s, const region *g, bool add,
                          size_t low, int32_t t0, int32_t t1)
{
    const int32_t out0 = j->transposed ? g->k0 : g->n0;
    const int32_t outs = j->transposed ? g->k : g->n;
    const int32_t red0 = j->transposed ? g->n0 : g->k0;
    const int32_t red = j->transposed ? g->n : g->k;
    const size_t r = ((size_t)red + 1) / 2 * 2;
    for (int32_t p = 0; p < outs; p += COLS) {
        const int nc = outs - p < COLS ? outs - p : COLS;
        for (int32_t t = t0; t < t1; t += BISE_PANEL_ROWS) {
            const int m = t1 - t < BISE_PANEL_ROWS ? t1 - t : BISE_PANEL_ROWS;
            float *y = j->y + (size_t)t * j->ldy + out0 + p;
            const size_t at = (size_t)t * j->ldx + (size_t)red0;
            if (j->x_bf16)
                o->mul_bf16(y, j->ldy, j->x_bf16 + at, j->ldx,
                            s->packed.bf16 + (size_t)p * r, r / 2, m, nc, add);
            else
                o->mul_f32(y, j->ldy, j->x + at, j->ldx,
                           s->packed.f32 + (size_t)p * r, COLS, (size_t)red, m,
                           nc, add);
            if (low)
                o->mul_bf16(y, j->ldy, j->e16 + (size_t)t * j->lde16, j->lde16,
                            s->low + (size_t)p * low, low / 2, m, nc, true);
        }
    }
}

/* All rows of x, in blocks that stay in the second cache while the panels pass
 * over them. */
static void multiply(const bise_panel_ops *o, const bise_panel_job *j,
                     const scratch *s, const region *g, bool add, size_t low)
{
    for (int32_t t = 0; t < j->T; t += ROW_BLOCK)
        multiply_rows(o, j, s, g, add, low, t,
                      j->T - t < ROW_BLOCK ? j->T : t + ROW_BLOCK);
}

/* The float32 addition e f of a job on columns [c0, c0 + n). */
static void add_low_rank(const bise_panel_ops *o, const bise_panel_job *j,
                         scratch *s, int32_t c0, int32_t n)
{
    const int32_t columns = bise_panel_columns(j);
    for (int32_t p = c0; p < c0 + n; p += COLS) {
        const int nc = c0 + n - p < COLS ? c0 + n - p : COLS;
        float *b = s->packed.f32;
        for (int32_t i = 0; i < j->r; i++)
            for (int c = 0; c < COLS; c++) {
                const size_t at = j->transposed ?
                    (size_t)i * (size_t)columns + (size_t)(p + c) :
                    (size_t)(p + c) * (size_t)j->r + (size_t)i;
                b[i * COLS + c] = c < nc ? j->f_scale * j->f[at] : 0;
            }
        for (int32_t t = 0; t < j->T; t += BISE_PANEL_ROWS) {
            const int m = j->T - t < BISE_PANEL_ROWS ? j->T - t :
                                                       BISE_PANEL_ROWS;
            o->mul_f32(j->y + (size_t)t * j->ldy + p, j->ldy,
                       j->e + (size_t)t * j->lde, j->lde, b, COLS,
                       (size_t)j->r, m, nc, true);
        }
    }
}

/* Factors of columns [c0, c0 + n) as bf16 panels; returns the even rank. */
static size_t pack_low(const bise_panel_job *j, scratch *s, int32_t c0,
                       int32_t n)
{
    const size_t columns = (size_t)bise_panel_columns(j);
    const size_t even = ((size_t)j->r + 1) / 2 * 2;
    for (size_t i = 0; i < even; i++)
        for (size_t c = 0; c < (size_t)(n + COLS - 1) / COLS * COLS; c++) {
            float v = 0;
            if (i < (size_t)j->r && c < (size_t)n)
                v = j->transposed ? j->f[i * columns + (size_t)c0 + c] :
                                    j->f[((size_t)c0 + c) * (size_t)j->r + i];
            s->low[c / COLS * COLS * even + i / 2 * 2 * COLS + c % COLS * 2 +
                   i % 2] = bise_f32_to_bf16(j->f_scale * v);
        }
    return even;
}

/* The region of W at depth d for output columns [c0, c0 + n), of at most depth
 * reduction steps. */
static region region_at(const bise_panel_job *j, int32_t d, int32_t depth,
                        int32_t c0, int32_t n)
{
    const int32_t all = j->transposed ? j->w->N : j->w->K;
    const int32_t dn = all - d < depth ? all - d : depth;
    return j->transposed ? (region){ d, dn, c0, n } : (region){ c0, n, d, dn };
}

/* The panels of a region. */
static void pack(const bise_panel_ops *o, const bise_panel_job *j, scratch *s,
                 const region *g)
{
    const bool bf16 = j->x_bf16 != NULL;
    if (j->transposed && !bf16) {
        pack_gradient_f32(s, j->w, g);
        return;
    }
    fetch(o, s, j->w, g, bf16);
    if (j->transposed)
        pack_gradient(o, s, g);
    else
        pack_forward(o, s, g, bf16);
}

/* Columns [c0, c0 + n) of a job, at most its width. */
static void run_group(const bise_panel_ops *o, const bise_panel_job *j,
                      int32_t c0, int32_t n, scratch *s)
{
    const bise_matrix *w = j->w;
    const bool bf16 = j->x_bf16 != NULL;
    const int32_t all = j->transposed ? w->N : w->K;
    const int32_t depth = DEPTH / (bf16 ? 1 : 2) * GROUP /
                          bise_panel_width(w, j->transposed);
    const bool low = bf16 && j->e16 && j->r <= BISE_PANEL_LOW;
    const size_t rank = low ? pack_low(j, s, c0, n) : 0;
    for (int32_t d = 0; d < all; d += depth) {
        const region at = region_at(j, d, depth, c0, n);
        const bool last = d + depth >= all;
        pack(o, j, s, &at);
        multiply(o, j, s, &at, j->add || d > 0, last ? rank : 0);
    }
    if (j->e && !low)
        add_low_rank(o, j, s, c0, n);
}

void bise_panel_run(const bise_panel_ops *o, const bise_panel_job *j,
                    int32_t c0, int32_t n, void *memory)
{
    const int32_t columns = bise_panel_columns(j);
    const int32_t width = bise_panel_width(j->w, j->transposed);
    const int32_t end = columns - c0 < n ? columns : c0 + n;
    for (int32_t c = c0; c < end; c += width)
        run_group(o, j, c, end - c < width ? end - c : width, memory);
}

void bise_panel_low_rank(const bise_panel_ops *o, const bise_panel_job *j,
                         int32_t c0, int32_t n, void *memory)
{
    const int32_t columns = bise_panel_columns(j);
    add_low_rank(o, j, memory, c0, columns - c0 < n ? columns - c0 : n);
}

void bise_panel_outer(const bise_panel_ops *o, float *out, size_t ldo,
                      const float *ut, int32_t r, const float *v, size_t ldv,
                      int32_t T, int32_t c0, int32_t c1)
{
    /* Rows of u^T in equal blocks of at most BISE_PANEL_ROWS. */
    const int32_t blocks = (r + BISE_PANEL_ROWS - 1) / BISE_PANEL_ROWS;
    for (int32_t c = c0; c < c1; c += COLS) {
        const int nc = c1 - c < COLS ? c1 - c : COLS;
        for (int32_t b = 0; b < blocks; b++) {
            const int32_t i = r * b / blocks, end = r * (b + 1) / blocks;
            o->mul_f32(out + (size_t)i * ldo + c, ldo,
                       ut + (size_t)i * (size_t)T, (size_t)T, v + c, ldv,
                       (size_t)T, end - i, nc, true);
        }
    }
}
