/* plan.c - the arithmetic of a plan. Memory is a sum of parts that are all
 * known from headers:
 *
 *   program + adapter, gradients, moments + quantized layers + activations
 *           + pages of mapped weights
 *
 * Mapped layers stay resident when that fits, with activations recomputed
 * before weights are read again; else they are streamed, a layer at a time.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "finetune/plan.h"

#include <math.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "core/str.h"
#include "finetune/finetune.h"
#include "kernels/gemm.h"
#include "kernels/panel.h"
#include "kernels/panel8.h"

/* The kernel maps the pages around one that is touched: since Linux 6.18 a
 * whole folio, which is this many bytes at most. */
#define FAULT_AROUND (2u << 20)
#define DISK_SPEED 1.5e9   /* bytes a second of streamed weights, a guess */

/* Where the bytes of the mapped weights are. */
typedef struct weights {
    uint64_t embed, head, layers, largest; /* largest: bytes of a layer */
    bool fixed;                            /* an archive: unpacked, stays */
} weights;

/* Bytes of a layer that are not quantized in memory. */
static uint64_t layer_bytes(const bise_checkpoint *c, int32_t layer,
                            bool quantized)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->n; i++)
        if (c->weights[i].role.layer == layer &&
            c->weights[i].role.kind != BISE_ROLE_OPAQUE &&
            !(quantized && bise_basequant_takes(c->weights[i].role)))
            n += c->weights[i].tensor->bytes;
    return n;
}

/* Bytes of a tensor outside the layers, 0 when there is none. */
static uint64_t bytes_of(const bise_checkpoint *c, bise_role_kind kind)
{
    const bise_weight *w = bise_checkpoint_get(c, kind, -1);
    return w ? w->tensor->bytes : 0;
}

/* Only the rows of a pass are looked up; a tied head reads all of them. */
static weights weights_of(const bise_finetune *f)
{
    const bise_checkpoint *c = &f->base;
    const bool quantized = bise_finetune_base_type(f) != BISE_DTYPE_NONE;
    weights w = { .head = bytes_of(c, BISE_ROLE_HEAD),
                  .embed = bytes_of(c, BISE_ROLE_EMBED),
                  .fixed = bise_store_kind_of(c->store) ==
                           BISE_STORE_ARCHIVE };
    for (int32_t l = 0; l < c->config.L; l++) {
        const uint64_t n = layer_bytes(c, l, quantized);
        w.layers += n;
        w.largest = n > w.largest ? n : w.largest;
    }
    if (!w.head) {
        w.head = w.embed;
        w.embed = 0;
    }
    return w;
}

/* Pages of the embedding that are resident at a time. */
static uint64_t embed_pages(const bise_finetune *f, const weights *w)
{
    const int32_t T = f->plan.pass_tokens;
    const uint64_t rows = T < BISE_EMBED_ROWS ? (uint64_t)T : BISE_EMBED_ROWS;
    const uint64_t most = rows * FAULT_AROUND;
    return w->fixed || most > w->embed ? w->embed : most;
}

/* Bytes of activations under a limit; kept: with the recomputation that the
 * settings ask for. */
static bise_status arena(uint64_t *bytes, const bise_finetune *f,
                         uint64_t limit, bise_error *err)
{
    bise_graph_options o = f->graph_options;
    o.memory_bytes = limit ? limit : 1;
    return bise_graph_plan(bytes, &f->base, &o, err);
}

/* Refuse a plan that is larger than the memory. */
static bise_status check_limit(const bise_finetune_plan *p, bise_error *err)
{
    char a[32], b[32];
    if (p->peak_bytes <= p->memory_limit)
        return BISE_OK;
    return bise_fail(err, BISE_ENOMEM, "the run needs %s of memory, %s may be "
                     "used", bise_format_bytes(a, p->peak_bytes),
                     bise_format_bytes(b, p->memory_limit))
               ? bise_error_hint(err, "of it activations take %s for %d tokens"
                                 " in a pass: try --checkpointing on, a "
                                 "smaller --micro-batch or --max-len, "
                                 "--optimizer adamw8%s",
                                 bise_format_bytes(a, p->activation_bytes),
                                 (int)p->pass_tokens,
                                 p->base_bytes || p->streamed
                                     ? "" : ", --quantize-base nf4")
               : BISE_OK;
}

bise_status bise_finetune_plan_memory(bise_finetune *f, bise_error *err)
{
    bise_finetune_plan *p = &f->plan;
    const weights w = weights_of(f);
    const uint64_t own = p->program_bytes + p->adapter_bytes +
                         p->optimizer_bytes + p->base_bytes +
                         embed_pages(f, &w);
    const uint64_t whole = w.head + w.layers;
    const uint64_t window = w.head > w.largest ? w.head : w.largest;
    uint64_t least;
    p->weights_bytes = w.embed + whole + bytes_of(&f->base, BISE_ROLE_NORM);
    /* Recomputing a layer is cheaper than reading it again. */
    if (arena(&least, f, 1, err))
        return err->status;
    p->streamed = !w.fixed && own + whole + least > p->memory_limit;
    const uint64_t pages = p->streamed ? window : whole;
    const uint64_t taken = own + pages;
    f->graph_options.stream_weights = p->streamed;
    f->graph_options.memory_bytes =
        p->memory_limit > taken ? p->memory_limit - taken : 1;
    if (arena(&p->activation_bytes, f, f->graph_options.memory_bytes, err))
        return err->status;
    p->resident_bytes = pages + embed_pages(f, &w);
    p->peak_bytes = taken + p->activation_bytes;
    return check_limit(p, err);
}

/* Weights that a token is multiplied with in the layers: of experts those that
 * are picked. */
static double used_weights(const bise_checkpoint *c)
{
    const double share = c->config.E > 0
        ? (double)c->config.top_k / (double)c->config.E : 1;
    double n = 0;
    for (size_t i = 0; i < c->n; i++) {
        const bise_weight *w = &c->weights[i];
        const bool expert = w->role.kind == BISE_ROLE_EXP_GATE ||
                            w->role.kind == BISE_ROLE_EXP_UP ||
                            w->role.kind == BISE_ROLE_EXP_DOWN ||
                            w->role.kind == BISE_ROLE_EXP_GATE_UP;
        if (w->role.layer >= 0 && w->tensor->n_dims > 1)
            n += (expert ? share : 1) * (double)bise_tensor_count(w->tensor);
    }
    return n;
}

/* The part of the layers that is computed again in the backward pass, from
 * what the activations take between keeping nothing and everything. */
static bise_status recomputed(double *part, const bise_finetune *f,
                              bise_error *err)
{
    bise_graph_options o = f->graph_options;
    uint64_t least, most;
    o.memory_bytes = 0;
    o.checkpointing = BISE_CKPT_ON;
    if (bise_graph_plan(&least, &f->base, &o, err))
        return err->status;
    o.checkpointing = BISE_CKPT_OFF;
    if (bise_graph_plan(&most, &f->base, &o, err))
        return err->status;
    const double span = (double)most - (double)least;
    *part = span > 0 ? ((double)most - (double)f->plan.activation_bytes) / span
                     : 0;
    *part = *part < 0 ? 0 : *part > 1 ? 1 : *part;
    return BISE_OK;
}

/* The share of the speed of products that a whole step reaches: what is beside
 * them does not get faster with them. Measured with the 1 B shape. */
static double step_share(bise_compute compute)
{
    return compute == BISE_COMPUTE_F32 ? 0.95 :
           compute == BISE_COMPUTE_INT8 ? 0.75 : 0.88;
}

/* Work (lora.md 1 and 11): of each weight of the layers 2 operations a token
 * forward, 2 for the input gradient, 2 where it is run again; of the head 4
 * where a token is trained; of attention, which reaches half the speed, twice
 * 2 len H D forward, 2.5 times that backward. Streamed weights are read twice
 * a pass, beside the work. */
bise_status bise_finetune_plan_time(bise_finetune *f, bise_error *err)
{
    const bise_config *g = &f->base.config;
    const bise_dataset_stats *st = bise_dataset_stats_of(f->train);
    bise_finetune_plan *p = &f->plan;
    double again = 0;
    if (recomputed(&again, f, err))
        return err->status;
    const double share = st->tokens ? (double)st->supervised /
                                      (double)st->tokens : 1;
    const double len = st->samples ? (double)st->tokens /
                                     (double)st->samples : 0;
    const double attn = 2 * (3.5 + again) * 2 * len * g->H * g->D * g->L;
    p->token_flops = (4 + 2 * again) * used_weights(&f->base) +
                     4 * share * (double)g->V * g->C;
    const double work = p->tokens * (p->token_flops + attn) /
                        (p->product_speed *
                         step_share(f->graph_options.compute));
    const double passes = p->tokens / (double)p->pass_tokens;
    const double reading = p->streamed ? 2 * passes *
                                         (double)p->weights_bytes / DISK_SPEED
                                       : 0;
    p->seconds = work > reading ? work : reading;
    return BISE_OK;
}

enum { TRIAL = 512, TRIALS = 8 };
#define TRIAL_SECONDS 0.1 /* no new trial after this long */

/* One product of the size of a layer's, for the speed of this machine. */
typedef struct trial {
    bise_panel_ops ops;
    bise_panel8_ops ops8;
    float *x, *w, *y;       /* [TRIAL, TRIAL]; y one for each worker */
    uint16_t *x16, *w16;    /* bf16 */
    float *scales;          /* of 8-bit rows, [TRIAL] */
    uint8_t *scratch;
    size_t scratch_bytes;
    bise_compute compute;
} trial;

/* The product in 8-bit integers. */
static void trial_int8(const trial *t, float *y, void *scratch)
{
    const bise_matrix8 m = { .data = (const int8_t *)t->w,
                             .scales = t->scales, .N = TRIAL, .K = TRIAL };
    const bise_panel8_job j = { .w = &m, .x = (const uint8_t *)t->x,
                                .x_scales = t->scales, .ldx = TRIAL + 64,
                                .y = y, .ldy = TRIAL, .T = TRIAL };
    bise_panel8_run(&t->ops8, &j, 0, TRIAL, scratch);
}

/* Each index is one product into its own part of y; the inputs are shared and
 * read only. */
static void trial_task(void *ctx, size_t index, int worker)
{
    const trial *t = ctx;
    float *y = t->y + index * TRIAL * TRIAL;
    uint8_t *scratch = t->scratch + (size_t)worker * t->scratch_bytes;
    if (t->compute == BISE_COMPUTE_INT8) {
        trial_int8(t, y, scratch);
        return;
    }
    if (t->compute == BISE_COMPUTE_F32) {
        bise_gemm_nt(TRIAL, TRIAL, TRIAL, 1, t->x, TRIAL, t->w, TRIAL, 0, y,
                     TRIAL);
        return;
    }
    const bise_matrix m = { .dtype = BISE_DTYPE_BF16, .data = t->w16,
                            .row_bytes = TRIAL * 2, .N = TRIAL, .K = TRIAL };
    const bise_panel_job j = { .w = &m, .x_bf16 = t->x16, .ldx = TRIAL + 32,
                               .y = y, .ldy = TRIAL, .T = TRIAL };
    bise_panel_run(&t->ops, &j, 0, TRIAL, scratch);
}

/* Short on purpose: the plan should print within a fraction of a second. The
 * best trial counts, the others met other work on the machine. */
double bise_finetune_speed(bise_pool *pool, bise_compute compute)
{
    const size_t n = (size_t)TRIAL * (TRIAL + 64);
    const size_t threads = (size_t)bise_pool_threads(pool);
    trial t = { .compute = compute };
    bise_panel_ops_init(&t.ops, bise_cpu_level());
    bise_panel8_ops_init(&t.ops8, bise_cpu_level());
    const size_t need = bise_panel_scratch(&t.ops) > bise_panel8_scratch()
                            ? bise_panel_scratch(&t.ops)
                            : bise_panel8_scratch();
    t.scratch_bytes = (need + 63) / 64 * 64;
    t.x = bise_alloc_aligned(n * sizeof *t.x);
    t.w = bise_alloc_aligned(n * sizeof *t.w);
    t.y = bise_alloc_aligned(n * threads * sizeof *t.y);
    t.scales = bise_alloc_aligned(TRIAL * sizeof *t.scales);
    t.scratch = bise_alloc_aligned(t.scratch_bytes * threads);
    t.x16 = (uint16_t *)(void *)t.x;
    t.w16 = (uint16_t *)(void *)t.w;
    double best = 1e9, spent = 0;
    const bool room = t.x && t.w && t.y && t.scales && t.scratch;
    for (int i = 0; room && i < TRIALS && spent < TRIAL_SECONDS; i++) {
        const uint64_t start = bise_clock_ns();
        bise_pool_run(pool, threads, trial_task, &t);
        const double s = (double)(bise_clock_ns() - start) * 1e-9;
        const double rate = 2.0 * TRIAL * TRIAL * TRIAL * (double)threads / s;
        best = rate > best ? rate : best;
        spent += s;
    }
    bise_free_aligned(t.x);
    bise_free_aligned(t.w);
    bise_free_aligned(t.y);
    bise_free_aligned(t.scales);
    bise_free_aligned(t.scratch);
    return best;
}
