/* graph_int.h - the inside of a graph, shared by graph.c (planning, entry
 * points), layers.c (forward), backprop.c, balance.c, mla.c, moe.c, loss.c,
 * loss_rows.c and cache.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_GRAPH_INT_H
#define BISE_MODEL_GRAPH_INT_H

#include "model/attention.h"
#include "model/attention_bf16.h"
#include "model/graph.h"
#include "model/linear.h"
#include "model/matmul_int8.h"
#include "model/rows16.h"

/* The groups of linears of a layer in the order of the data flow. */
typedef enum { STAGE_QKV, STAGE_O, STAGE_UP, STAGE_DOWN, STAGE_COUNT } stage;

typedef struct graph_layer {
    float *attn_norm, *ffn_norm;      /* [C] */
    bise_linear qkv[3], o;            /* latent attention: q_a, kv_a, q_b */
    bise_linear kv_b[2];              /* views of k_b, v_b or twice of kv_b */
    float *q_norm, *kv_norm;          /* [q_lora], [kv_lora] */
    bise_linear up[2], down;          /* gate, up; dense or shared expert */
    bise_linear router;               /* MoE only from here */
    bise_linear *exp_up, *exp_down;   /* [2 E], [E] */
    bool moe, shared, kv_joined;
    int32_t rank[STAGE_COUNT];        /* adapter columns of each group */
} graph_layer;

/* Activations of one layer that the backward pass reads. Of layers without an
 * own set only x is kept; the rest is computed again into a shared set. */
typedef struct graph_acts {
    float *q, *k, *v, *o, *lse;       /* [T, H D], [T, K D] ..., [T, H] */
    float *xm;                        /* [T, C] after attention */
    float *gate, *up;                 /* [T, F] */
    float *h[STAGE_COUNT];            /* [T, rank]: x A^T of adapters */
} graph_acts;

/* Buffers of latent attention (mla.c), shared by all layers. A short row is
 * [c | k_r] of kv_lora + rope values. */
typedef struct graph_mla {
    float *qa;                        /* [T, q_lora] */
    float *q;                         /* [T, H D] */
    float *kv;                        /* [T, kv_lora + rope] */
    float *q_short;                   /* [T, H (kv_lora + rope)] */
    float *o_short;                   /* [T, H kv_lora] */
    float *o;                         /* [T, H v_dim] */
    float *head;                      /* rows of one head, for the tap */
} graph_mla;

/* The same stored as bf16 (layers_bf16.c). x and xm, the inputs of the norms,
 * and h are kept by every layer. */
typedef struct graph_acts16 {
    bise_rows16 x, xm;                /* [T, C] */
    bise_rows16 q, k, v, o;           /* [T, H D], [T, K D] ... */
    bise_rows16 gate, up;             /* [T, F] */
    float *lse;                       /* [T, H] */
    float *h[STAGE_COUNT];            /* [T, rank] */
} graph_acts16;

/* The auxiliary loss of experts; count NULL without one. p holds the sums of
 * probabilities, then the gradients by p. */
typedef struct graph_balance {
    double *count, *p, *row;          /* [E] */
    int64_t rows;
} graph_balance;

struct bise_graph {
    const bise_checkpoint *c;
    const bise_config *f;
    bise_graph_options o;
    bise_exec e;
    bise_panel_ops panel;             /* what e.panel points at */
    graph_layer *layers;
    bise_linear embed, head;          /* head: a copy of embed when tied */
    float *norm;                      /* [C] */
    int32_t lowest;                   /* first layer with gradients, L none */
    stage lowest_stage;
    int32_t n_full;                   /* last layers with an own acts set */
    int32_t n_attn;                   /* layers before them that keep their
                                         attention, bf16 only */
    /* One block of memory, cut up by plan(). */
    void *memory;
    uint64_t bytes;
    float **x;                        /* [L + 1] residual stream, [T, C] */
    graph_acts *acts;                 /* [L] */
    float *normed, *hidden, *xf, *logits, *rows_x, *rows_dx;
    float *dx, *dn, *d_o, *dq, *dk, *dv, *dh, *dhidden, *dxf, *r;
    float *head_h;
    float *moe_logits, *moe_x, *moe_gate, *moe_up, *moe_hidden, *moe_y;
    float *moe_w, *moe_dw, *moe_dy, *moe_dh, *moe_dx;
    int32_t *moe_expert, *moe_rows;
    graph_mla mla;
    graph_balance balance;
    float *cos, *sin, *nsin, *qscale; /* [max_seq, D/2] ..., [max_seq] */
    int32_t *pos, *rows;              /* [T] */
    bise_attn_tile *tiles;            /* [T] */
    float *row_max;                   /* [chunk rows]; loss */
    double *row_nll;
    int32_t chunk;                    /* rows of logits at a time */
    float *dora_aat;                  /* [r, r] */
    int32_t dora_out;                 /* widest DoRA output, 0 none */
    int32_t seg1[2];                  /* the sample of a decode call */
    /* Activations stored as bf16, instead of x, acts and what serves them.
     * Float32 rows between a product and its rounding are shared; backward
     * fq, fk, fv take d_o and dq, dk, dv, fgate takes dhidden, and d_o16 and
     * dq16 are one. */
    bool rows16;
    graph_acts16 *acts16;             /* [L] */
    bise_adapters16 ad16;
    bise_rows8 rows8;                 /* int8 computation */
    bise_panel8_ops panel8;           /* what e.panel8 points at */
    float *stream;                    /* [T, C]: the residual stream */
    float *fq, *fk, *fv, *fgate, *fup, *delta;
    bise_rows16 normed16, hidden16, dx16, dq16, dk16, dv16, dgate16, dup16;
    uint16_t *kt;
    double seconds[BISE_STEP_PARTS];
    uint64_t lap_ns;
    /* The last forward. T: rows that are worked on now. */
    int32_t T, n_tiles, n_seg;
    const int32_t *seg;
    int32_t n_loss;                   /* after the last attention only rows[0,
                                         n_loss) are computed; 0 all */
};

/* Place every buffer from base on; returns their bytes. NULL only counts. */
uint64_t graph_plan(bise_graph *g, void *base);

/* Where one layer's attention takes keys from: NULL = the batch itself. Latent
 * attention keeps its short rows in k. */
typedef struct graph_kv {
    float *k, *v;                     /* [max_seq, K D] of this layer */
    int32_t past;
} graph_kv;

/* Run fn for blocks of rows: fn(ctx, block, worker) handles rows
 * [16 block, min(T, 16 block + 16)). */
#define ROW_BLOCK 16
void graph_rows(const bise_exec *e, int32_t T, bise_task_fn *fn, void *ctx);
/* y = rmsnorm(x) per row; r [T] may be NULL. y may be x. */
void graph_norm(bise_graph *g, float *y, const float *x, const float *w,
                float *r, int32_t T, int32_t n, double eps);
/* dx += backward of the same. */
void graph_norm_bwd(bise_graph *g, float *dx, const float *dy, const float *x,
                    const float *w, const float *r, int32_t T, int32_t n);
void graph_swiglu(bise_graph *g, float *h, const float *gate, const float *up,
                  int32_t T, int32_t n);
/* gate and up become dgate and dup. */
void graph_swiglu_bwd(bise_graph *g, float *gate, float *up, const float *dh,
                      int32_t T, int32_t n);
/* Rotate rows of heads in place by the graph's positions: back applies the
 * inverse; query rows are also multiplied by the query scale. */
void graph_rope(bise_graph *g, float *x, int32_t heads, int32_t T, bool query,
                bool back);
/* Pages of mapped weights (graph_pages.c): layer l starts (the next one, l +
 * step, is read ahead), is done; the head is; the embedding's rows are. */
void graph_pages_begin(const bise_graph *g, int32_t l, int32_t step);
void graph_pages_end(const bise_graph *g, int32_t l);
void graph_pages_end_head(const bise_graph *g);
void graph_pages_end_embed(const bise_graph *g);
/* Check the batch, set its positions and tiles, for all of its rows. */
BISE_NODISCARD bise_status graph_set_batch(bise_graph *g, const bise_batch *b,
                                           bise_error *err);
/* Embedding rows of ids into x [T, C]. */
BISE_NODISCARD bise_status graph_embed(bise_graph *g, const int32_t *ids,
                                       int32_t T, float *x, bise_error *err);
/* Embedding rows of ids, then all layers, then the final norm into xf. kv:
 * [L] or NULL. */
BISE_NODISCARD bise_status graph_run(bise_graph *g, const int32_t *ids,
                                     int32_t T, const graph_kv *kv,
                                     bise_error *err);
/* One layer: x[l] -> out (may be x[l] when nothing is kept). out NULL leaves
 * out the last product: for the backward pass, which wants the rest again. */
BISE_NODISCARD bise_status graph_layer_forward(bise_graph *g, int32_t l,
                                               float *out, const graph_kv *kv,
                                               bise_error *err);
/* The attention description of a layer's activations. */
bise_attn graph_attn(const bise_graph *g, const graph_acts *a,
                     const graph_kv *kv);
/* Gradients of all layers from dxf. */
BISE_NODISCARD bise_status graph_backward(bise_graph *g, bise_error *err);
/* Bind the matrix of a role with its adapters; the vector [n] of one, owned. */
BISE_NODISCARD bise_status graph_bind(bise_graph *g, bise_linear *l,
                                      bise_role_kind kind, int32_t layer,
                                      bise_error *err);
BISE_NODISCARD bise_status graph_bind_norm(bise_graph *g, float **out,
                                           bise_role_kind kind, int32_t layer,
                                           int32_t n, bise_error *err);
/* Rotated dimensions of a head: all of them but in latent attention. */
static inline int32_t graph_rotated(const bise_config *f)
{
    return f->kv_lora ? f->qk_rope : f->D;
}
/* Bind the latent attention of layer l. */
BISE_NODISCARD bise_status graph_bind_mla(bise_graph *g, int32_t l,
                                          bise_error *err);
/* Floats of its buffers, 0 for other models; places them at p if given. */
uint64_t graph_plan_mla(bise_graph *g, float *p);
/* g->mla.o [T, H v_dim] of layer l from the normed rows. */
BISE_NODISCARD bise_status graph_mla_forward(bise_graph *g, int32_t l,
                                             const graph_kv *kv,
                                             bise_error *err);
/* The same over activations stored as bf16: */
/* One layer: stream += layer(stream). */
void graph_layer_forward16(bise_graph *g, int32_t l);
/* The activations of layer l that were not kept, from those that were. */
void graph_layer_again16(bise_graph *g, int32_t l);
void graph_backward16(bise_graph *g);
/* out = rmsnorm(kept) with kept = x rounded when x is given; r [T] or NULL. */
void graph_norm16(bise_graph *g, const float *x, bise_rows16 kept,
                  const float *w, float *r, bise_rows16 out);
/* Rotate g->fq and g->fk by sin (g->nsin: back), scale the queries for scores,
 * so that these are plain products, and round both and g->fv. */
void graph_heads16(bise_graph *g, const float *sin, bise_rows16 q,
                   bise_rows16 k, bise_rows16 v);
/* out = x [T, n] rounded. */
void graph_round16(bise_graph *g, bise_rows16 out, const float *x, int32_t n);
uint16_t *graph_row16(bise_rows16 r, int32_t t);
bise_attn16 graph_attn16(const bise_graph *g, int32_t l);
/* Rows that carry no loss are left out of what follows the last attention
 * (loss_rows.c). True in the layer where this begins. Narrow moves the rows of
 * x (bytes each) that carry one to its front, widen puts them back with zeros
 * between; both set g->T, and do nothing when all rows are computed. */
static inline bool graph_narrows(const bise_graph *g, int32_t l)
{
    return g->n_loss > 0 && l == g->f->L - 1;
}
void graph_narrow(bise_graph *g, void *x, size_t bytes);
void graph_widen(bise_graph *g, void *x, size_t bytes);
/* Add the time since the last lap to a part of the step. */
void graph_lap(bise_graph *g, bise_step_part part);
/* The auxiliary loss: clear, count the rows routed last, value and gradients
 * by p for b's targets; then a row of router logits to its gradient. Nothing
 * (0, zeros) when there is none. */
void graph_balance_start(bise_graph *g);
void graph_balance_count(bise_graph *g);
double graph_balance_finish(bise_graph *g, const bise_batch *b);
void graph_balance_bwd(bise_graph *g, float *z);
/* Bind the router and experts of layer l. */
BISE_NODISCARD bise_status graph_bind_moe(bise_graph *g, int32_t l,
                                          bise_error *err);
/* Feed-forward part of an expert layer: x += FFN(normed). */
BISE_NODISCARD bise_status graph_moe_forward(bise_graph *g, int32_t l,
                                             float *x, bise_error *err);
/* dn from dx through the experts, with their adapters' gradients. */
BISE_NODISCARD bise_status graph_moe_backward(bise_graph *g, int32_t l,
                                              bise_error *err);
/* Call the tap for the linears of a group. */
BISE_NODISCARD bise_status graph_tap(bise_graph *g, const bise_linear *l,
                                     int n, const float *x, int32_t T,
                                     bise_error *err);

#endif
