/* graph.h - forward and backward of a model over packed sequences. All memory
 * is planned and taken in bise_graph_new; nothing is allocated in a step. The
 * activations of a call live in the graph until the next call.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_GRAPH_H
#define BISE_MODEL_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"
#include "kernels/kernels.h"
#include "model/checkpoint.h"
#include "model/lora.h"

typedef struct bise_graph bise_graph;

#define BISE_EMBED_ROWS 16  /* rows of a mapped embedding that training looks
                               up before it releases their pages */

/* Precision of products with frozen weights. INT8: as BF16, and training of
 * dense layers multiplies weights that are I8 (basequant.h) as integers. */
typedef enum { BISE_COMPUTE_F32, BISE_COMPUTE_BF16, BISE_COMPUTE_INT8 }
    bise_compute;
typedef enum { BISE_CKPT_AUTO, BISE_CKPT_ON, BISE_CKPT_OFF } bise_ckpt_mode;

/* Where the time of a training step goes. */
typedef enum {
    BISE_STEP_PRODUCTS,  /* frozen weights, forward and input gradient */
    BISE_STEP_ADAPTERS,  /* thin products and gradients of LoRA; in float32
                            these count as products */
    BISE_STEP_ATTENTION, /* scores, softmax, values */
    BISE_STEP_ROWS,      /* norms, rotation, SwiGLU, rounding */
    BISE_STEP_LOSS,      /* head and cross entropy with its gradient */
    BISE_STEP_PARTS
} bise_step_part;

/* T tokens of n_seg samples laid one after another: sample s owns tokens
 * [seg[s], seg[s+1]); attention stays inside a sample and positions restart at
 * 0 there (plus first_pos when given). */
typedef struct bise_batch {
    const int32_t *ids;      /* [T] */
    const int32_t *seg;      /* [n_seg + 1], seg[0] = 0, seg[n_seg] = T */
    int32_t T, n_seg;
    /* Training and scoring: the token to predict at each position, -1 where
     * nothing is; and its weight (NULL = 1 everywhere). */
    const int32_t *targets;  /* [T] */
    const float *weights;    /* [T] or NULL */
} bise_batch;

/* Called with the input rows of a linear layer: x is [T, in] float32. For
 * expert layers rows are those routed to role.expert; latent attention asks
 * for each head of k_b and v_b, with the head in role.expert. */
typedef bise_status bise_tap_fn(void *ctx, bise_role role, const float *x,
                                int32_t T, int32_t in, bise_error *err);

typedef struct bise_graph_options {
    int32_t max_tokens;          /* most tokens in one call */
    int32_t max_seq;             /* longest sample, 0 = max_tokens */
    bool train;                  /* backward needed */
    bise_compute compute;
    bool round_inputs;           /* activations.h; forward only */
    bise_ckpt_mode checkpointing;
    uint64_t memory_bytes;       /* limit for the arena, 0 = none */
    bool stream_weights;         /* weights larger than memory: of those in
                                    files only a layer stays resident */
    bise_lora *const *loras;     /* borrowed; [n_loras] */
    int32_t n_loras;             /* gradients go to those that have them */
    uint64_t dropout_seed;
    double router_aux;           /* coefficient of the experts' auxiliary
                                    loss in training (balance.c), 0 none */
    bise_tap_fn *tap;
    void *tap_ctx;
    bise_pool *pool;
    const bise_kernels *kernels; /* NULL = bise_kernels_get() */
} bise_graph_options;

BISE_NODISCARD bise_status bise_graph_new(bise_graph **out,
                                          const bise_checkpoint *c,
                                          const bise_graph_options *o,
                                          bise_error *err);
void bise_graph_free(bise_graph *g);
/* Bytes bise_graph_new would take for these options (weights not counted). */
BISE_NODISCARD bise_status bise_graph_plan(uint64_t *bytes,
                                           const bise_checkpoint *c,
                                           const bise_graph_options *o,
                                           bise_error *err);

/* Run the layers; the final normed hidden states [T, C] stay in the graph. */
BISE_NODISCARD bise_status bise_graph_forward(bise_graph *g,
                                              const bise_batch *b,
                                              bise_error *err);
/* For work that takes all data through one layer before the next (layerwise.c;
 * graphs without training): embedding rows of b into x [T, C]; x through layer
 * l into out [T, C], which may be x, or NULL when only the tap is wanted. */
BISE_NODISCARD bise_status bise_graph_embed(bise_graph *g, const bise_batch *b,
                                            float *x, bise_error *err);
BISE_NODISCARD bise_status bise_graph_layer(bise_graph *g, int32_t l,
                                            const bise_batch *b,
                                            const float *x, float *out,
                                            bise_error *err);
/* From now on compute the linear layer of a role (an expert's: with its number)
 * with other weights of its shape: rows of dtype in a row order, borrowed. Its
 * adapters are dropped: the weights contain them. BISE_EINVAL when the graph
 * has no such layer. */
BISE_NODISCARD bise_status bise_graph_replace(bise_graph *g, bise_role role,
                                              bise_dtype dtype,
                                              const uint8_t *data,
                                              bise_rows order,
                                              bise_error *err);
/* Logits of n positions of the last forward into out [n, V]; after a loss only
 * positions with a target have them. */
BISE_NODISCARD bise_status bise_graph_logits(bise_graph *g,
                                             const int32_t *rows, int32_t n,
                                             float *out, bise_error *err);
/* Forward and loss: *sum += sum_t weight_t nll_t over targets >= 0, in double;
 * nll [T] (may be NULL) gets each position's value, 0 where none. Logits are
 * made in chunks at target positions only, and what the last layer does after
 * its attention, unless there is a tap. */
BISE_NODISCARD bise_status bise_graph_loss(bise_graph *g, const bise_batch *b,
                                           double *sum, float *nll,
                                           bise_error *err);
/* Forward, loss and backward: adds d(sum)/d(param) to the gradients of the
 * loras (the sum, not the mean: the trainer divides once per step). With
 * router_aux *sum and gradients also get the auxiliary loss, once for each
 * target, so that the mean of a batch has it once, as transformers. */
BISE_NODISCARD bise_status bise_graph_train(bise_graph *g, const bise_batch *b,
                                            double *sum, bise_error *err);
/* Dropout masks are a function of (seed, step, micro): set before a step. */
void bise_graph_set_step(bise_graph *g, uint64_t step, uint64_t micro);

/* Seconds spent in each part since the graph was made, [BISE_STEP_PARTS];
 * borrowed. */
const double *bise_graph_seconds(const bise_graph *g);

/* Generation: a KV cache for one sequence of at most max_seq tokens. */
typedef struct bise_cache bise_cache;
BISE_NODISCARD bise_status bise_cache_new(bise_cache **out,
                                          const bise_graph *g, int32_t max_seq,
                                          bise_error *err);
void bise_cache_free(bise_cache *c);
int32_t bise_cache_len(const bise_cache *c);
/* Forget all tokens after the first len. */
void bise_cache_cut(bise_cache *c, int32_t len);
/* Feed n tokens (any n; long prompts are split) and get the logits [V] that
 * follow the last one. */
BISE_NODISCARD bise_status bise_graph_decode(bise_graph *g, bise_cache *c,
                                             const int32_t *ids, int32_t n,
                                             float *logits, bise_error *err);

#endif
