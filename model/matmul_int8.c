/* matmul_int8.c - linear layers in 8-bit integers: quantizing of rows as tasks,
 * and the product of one group of columns.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/matmul_int8.h"

#include "model/linear_int.h"

#define QUANT_ROWS 8 /* rows quantized by a task */

/* Never a multiple of the cache's set span. */
size_t bise_stride8(int32_t width)
{
    return (size_t)(width + 63) / 64 * 64 + 64;
}

/* Rows being quantized. */
typedef struct quant {
    const bise_exec *e;
    const bise_rows8 *r;
    bise_rows16 x;
    const float *fold;
    int32_t T, width;
} quant;

static void quantize_task(void *ctx, size_t block, int worker)
{
    const quant *q = ctx;
    const int32_t t0 = (int32_t)block * QUANT_ROWS;
    (void)worker;
    for (int32_t t = t0; t < q->T && t < t0 + QUANT_ROWS; t++)
        q->r->scales[t] = q->e->panel8->quantize_bf16(
            q->r->x + (size_t)t * bise_stride8(q->width),
            q->x.data + (size_t)t * q->x.ld, q->fold, (size_t)q->width);
}

static void quantize(quant *q)
{
    bise_pool_run(q->e->pool, (size_t)((q->T + QUANT_ROWS - 1) / QUANT_ROWS),
                  quantize_task, q);
}

void bise_int8_input(const bise_exec *e, const bise_rows8 *r,
                     const bise_linear *l, bise_rows16 x, int32_t T)
{
    quant q = { .e = e, .r = r, .x = x, .T = T, .width = l->in };
    quantize(&q);
}

void bise_int8_gradient(const bise_exec *e, const bise_rows8 *r,
                        const bise_linear *l, bise_rows16 dy, int32_t T)
{
    quant q = { .e = e, .r = r, .x = dy, .T = T, .width = l->out,
                .fold = l->row_scales };
    if (l->pair_rows) {
        for (int32_t n = 0; n < l->out; n++)
            r->fold[n] = l->row_scales[bise_linear_file_row(l, n)];
        q.fold = r->fold;
    }
    quantize(&q);
}

void bise_int8_run(const bise_exec *e, const bise_rows8 *r,
                   const bise_linear *l, const bise_panel_job *j, int32_t t0,
                   int32_t c0, int32_t n, void *scratch)
{
    const bise_matrix8 w = { .data = (const int8_t *)l->data,
                             .scales = l->row_scales, .N = l->out, .K = l->in,
                             .pair_rows = l->pair_rows };
    const size_t ld = bise_stride8(j->transposed ? l->out : l->in);
    const bise_panel8_job job = {
        .w = &w, .transposed = j->transposed, .x = r->x + (size_t)t0 * ld,
        .x_scales = r->scales + t0, .ldx = ld, .y = j->y, .ldy = j->ldy,
        .T = j->T, .add = j->add };
    bise_panel8_run(e->panel8, &job, c0, n, scratch);
    if (j->e)
        bise_panel_low_rank(e->panel, j, c0, n, scratch);
}
