/* panel.c - the cache blocking around the bfloat16 micro-kernels of panel.h:
 * fetch a tile of W in any type, pack it, pass all rows of x over it. Portable;
 * speed comes from the slots. Float32 has its own in panel32.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/panel_int.h"

#include <string.h>

#include "core/bytes.h"
#include "kernels/codec.h"

#define COLS BISE_PANEL_COLS
#define GROUP BISE_PANEL_GROUP
#define DEPTH BISE_PANEL_DEPTH
#define ROW_BLOCK (BISE_PANEL_ROWS * 8) /* 96 rows, 384 KB */
#define STRIP_ROWS 32    /* a part of W that is decoded to bf16 in the first */
#define STRIP_COLS 512   /* cache, and packed from there */
#define AHEAD 4         /* rows of blocks asked for before they are decoded */

/* Scratch of a worker: packed panels of a group, and a strip of what is decoded
 * for them; or the factors of a float32 addition. */
typedef struct scratch {
    float line[2 * STRIP_COLS];            /* decoded weights of one row */
    union {
        float factors[DEPTH * GROUP / 2];
        struct {
            uint16_t packed[DEPTH * GROUP], strip[STRIP_ROWS * STRIP_COLS];
            float row[STRIP_COLS];         /* one of the strip to round */
        } bf16;
    };
    uint16_t low[BISE_PANEL_LOW * 2 * GROUP]; /* packed factors of a group */
    const void *rows[DEPTH];
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
    return sizeof(scratch) > bise_panel32_scratch() ? sizeof(scratch) :
                                                      bise_panel32_scratch();
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
    return s->part ? s->part : s->width > GROUP ? s->width : COLS;
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

const uint8_t *bise_panel_stored(const bise_matrix *w, int32_t n, int32_t k0)
{
    return (const uint8_t *)w->data + (size_t)stored_row(w, n) * w->row_bytes +
           bise_dtype_bytes(w->dtype, (uint64_t)k0);
}

void bise_panel_decode_row(float *out, const bise_matrix *w, int32_t n,
                           int32_t k0, int32_t k, float *line)
{
    if (w->nf4) {
        bise_nf4_decode(w->nf4, nf4_at(w, n, k0), (size_t)k, out);
        return;
    }
    const int32_t row = stored_row(w, n);
    if (w->row_scales) {
        const void *stored = bise_panel_stored(w, n, k0);
        const int8_t *v = stored;
        for (int32_t i = 0; i < k; i++)
            out[i] = v[i] * w->row_scales[row];
        return;
    }
    const int32_t bl = (int32_t)bise_dtype_get(w->dtype)->block_len;
    const int32_t b0 = k0 / bl, b1 = (k0 + k + bl - 1) / bl;
    const bise_codec *c = bise_codec_get(w->dtype);
    const bool aligned = b0 * bl == k0 && b1 * bl == k0 + k;
    float *to = aligned ? out : line;
    c->decode(to, bise_panel_stored(w, n, b0 * bl),
              (size_t)(b1 - b0) * (size_t)bl);
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
    o->decode_bf16[w->dtype](out, bise_panel_stored(w, n, k0), (size_t)k);
    return true;
}

const uint8_t *bise_panel_row(const bise_matrix *w, int32_t n, int32_t k0)
{
    return w->nf4 ? w->nf4->codes + nf4_at(w, n, k0) / 2
                  : bise_panel_stored(w, n, k0);
}

size_t bise_panel_row_bytes(const bise_matrix *w, int32_t k)
{
    return w->nf4 ? (size_t)k / 2 : bise_dtype_bytes(w->dtype, (uint64_t)k);
}

/* Ask for the bytes of columns [k0, k0 + k) of row n: rows lie pages apart,
 * which no hardware prefetcher follows. */
static void ask_row(const bise_matrix *w, int32_t n, int32_t k0, int32_t k)
{
    const uint8_t *at = bise_panel_row(w, n, k0);
    const size_t bytes = bise_panel_row_bytes(w, k);
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(at + i);
    __builtin_prefetch(at + bytes);
}

/* True when panels take the weights as they are stored. */
static bool in_place(const bise_matrix *w)
{
    return w->dtype == BISE_DTYPE_BF16 && !w->scales;
}

/* Row pointers to region g of weights in place. */
static void point(scratch *s, const bise_matrix *w, const region *g)
{
    for (int32_t i = 0; i < g->n; i++)
        s->rows[i] = bise_panel_stored(w, g->n0 + i, g->k0);
}

/* Row pointers to strip g in bf16, decoded; rows below it that are still to
 * come end at last. A strip's rows are padded to whole panels so that packing
 * may read on. */
static void fetch_strip(const bise_panel_ops *o, scratch *s,
                        const bise_matrix *w, const region *g, int32_t last)
{
    const size_t ld = ((size_t)g->k + COLS - 1) / COLS * COLS;
    for (int32_t i = 0; i < g->n; i++) {
        const int32_t n = g->n0 + i;
        uint16_t *to = s->bf16.strip + (size_t)i * ld;
        if (n + AHEAD < last)
            ask_row(w, n + AHEAD, g->k0, g->k);
        if (!direct_bf16(o, to, w, n, g->k0, g->k)) {
            bise_panel_decode_row(s->bf16.row, w, n, g->k0, g->k, s->line);
            o->round_bf16(to, s->bf16.row, (size_t)g->k);
        }
        memset(to + g->k, 0, (ld - (size_t)g->k) * sizeof *to);
        s->rows[i] = to;
    }
}

/* Forward: each panel is 32 rows of W over the region's columns. Weights in
 * place are packed by whole panels, others by strips. */
static void pack_forward(const bise_panel_ops *o, scratch *s,
                         const bise_matrix *w, const region *g)
{
    const bool stored = in_place(w);
    const int32_t wide = stored ? g->k : STRIP_COLS;
    const size_t r = ((size_t)g->k + 1) / 2 * 2;
    for (int32_t p = 0; p < g->n; p += COLS)
        for (int32_t k = 0; k < g->k; k += wide) {
            const region strip = {
                g->n0 + p, g->n - p < COLS ? g->n - p : COLS,
                g->k0 + k, g->k - k < wide ? g->k - k : wide };
            if (stored)
                point(s, w, &strip);
            else
                fetch_strip(o, s, w, &strip, strip.n0 + strip.n);
            for (int32_t i = strip.n; i < COLS; i++)
                s->rows[i] = NULL;
            o->pack_rows_bf16(s->bf16.packed + (size_t)p * r +
                              (size_t)k * COLS,
                              (const uint16_t *const *)s->rows,
                              (size_t)strip.k);
        }
}

/* Gradient panels that reach beyond the matrix: the columns from c of every
 * row, missing ones as zeros. */
static void pack_columns(uint16_t *b, const uint16_t *const *rows, int32_t n,
                         int32_t c, int32_t end)
{
    const int32_t nc = end - c < COLS ? end - c : COLS;
    for (int32_t i = 0; i < n + n % 2; i++) {
        uint16_t *to = b + (size_t)(i / 2) * 2 * COLS + i % 2;
        for (int32_t k = 0; k < COLS; k++)
            to[k * 2] = i < n && k < nc ? rows[i][c + k] : 0;
    }
}

/* Gradient: the reduction runs over rows of W; a panel is 32 columns. Rows in
 * place are packed together, others by strips. */
static void pack_gradient(const bise_panel_ops *o, scratch *s,
                          const bise_matrix *w, const region *g)
{
    const bool stored = in_place(w);
    const int32_t high = stored ? g->n : STRIP_ROWS;
    const size_t stride = ((size_t)g->n + 1) / 2 * 2 * COLS;
    const int32_t whole = g->k / COLS * COLS;
    const uint16_t *const *rows = (const uint16_t *const *)s->rows;
    for (int32_t n = 0; n < g->n; n += high) {
        const region strip = { g->n0 + n, g->n - n < high ? g->n - n : high,
                               g->k0, g->k };
        uint16_t *to = s->bf16.packed + (size_t)n * COLS;
        if (stored)
            point(s, w, &strip);
        else
            fetch_strip(o, s, w, &strip, g->n0 + g->n);
        if (whole)
            o->pack_pairs_bf16(to, stride, rows, (size_t)strip.n,
                               (size_t)whole);
        for (int32_t c = whole; c < g->k; c += COLS)
            pack_columns(to + (size_t)(c / COLS) * stride, rows, strip.n, c,
                         g->k);
    }
}

/* Rows [t0, t1) of x over the packed panels of one region; with the packed
 * addition of low (0 or the rank, made even) steps. */
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
            const bise_panel_tail tail = {
                .a = low ? j->e16 + (size_t)t * j->lde16 : NULL,
                .b = s->low + (size_t)p * low, .lda = j->lde16, .p = low / 2 };
            o->mul_bf16(y, j->ldy, j->x_bf16 + at, j->ldx,
                        s->bf16.packed + (size_t)p * r, r / 2, m, nc, add,
                        low ? &tail : NULL);
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
        float *b = s->factors;
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
    if (j->transposed)
        pack_gradient(o, s, j->w, g);
    else
        pack_forward(o, s, j->w, g);
}

/* Columns [c0, c0 + n) of a job, at most its width. */
static void run_group(const bise_panel_ops *o, const bise_panel_job *j,
                      int32_t c0, int32_t n, scratch *s)
{
    const bise_matrix *w = j->w;
    const int32_t all = j->transposed ? w->N : w->K;
    const int32_t depth = DEPTH * GROUP / bise_panel_width(w, j->transposed);
    const bool low = j->e16 && j->r <= BISE_PANEL_LOW;
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
    if (!j->x_bf16) {
        bise_panel32_run(o, j, c0, n, memory);
        return;
    }
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
