/* config.h - a model's configuration, resolved from config.json, params.json
 * or GGUF metadata by the rules of mistral3.md 2.1b. Nothing is hard-coded per
 * release: families differ in defaults and tensor names only.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_CONFIG_H
#define BISE_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "formats/gguf.h"
#include "formats/store.h"

typedef enum {
    BISE_FAMILY_MISTRAL, BISE_FAMILY_MINISTRAL3, BISE_FAMILY_MIXTRAL,
    BISE_FAMILY_MISTRAL4, /* MLA + shared experts; Large 3 in native form */
    BISE_FAMILY_LLAMA     /* plain llama GGUF (BabyLlama, stories) */
} bise_family;

/* Rotary embedding. Absent magnitudes are NaN, because a key that is 0 and one
 * that is not there give different factors (mistral3.md 3.3). */
typedef struct bise_rope {
    double theta;
    bool yarn;
    double factor, beta_fast, beta_slow;
    double mscale, mscale_all_dim;   /* NaN when the key is absent */
    double attention_factor;         /* NaN when absent */
    double original_max;             /* L0 of YaRN and of query scaling */
    double qscale_beta;              /* llama_4_scaling_beta, 0 = none */
    bool truncate;                   /* floor/ceil of the ramp, default true */
} bise_rope;

/* A resolved configuration. Sizes that a family does not have are 0. */
typedef struct bise_config {
    bise_family family;
    bool wrapper;                    /* Mistral3ForConditionalGeneration */
    char architecture[64];           /* architectures[0] or GGUF arch */
    int32_t C, F, L, H, K, D, V;     /* dims.h */
    int32_t E, top_k;                /* experts, used per token; 0 = dense */
    int32_t F_expert, shared_experts, dense_layers;
    int32_t q_lora, kv_lora, qk_nope, qk_rope, v_dim; /* MLA, else 0 */
    double routed_scale, router_aux_coef;
    bool router_aux;                 /* output_router_logits: training adds
                                        the auxiliary loss */
    double eps;
    double eps_latent;               /* of the norms of q_a and kv_a: eps but
                                        in HF files, whose class has 1e-6 */
    bise_rope rope;
    int32_t window;                  /* tokens a query sees, 0 = all */
    /* Windows that differ between layers (Ministral 8B 2410): layer l has
     * windows[l % n_windows]; window is then the smallest. 0: window for all. */
    int32_t windows[16], n_windows;
    bool tied;
    int64_t max_position;
    int32_t bos, eos, pad;           /* -1 when not given */
    char quant_method[32];           /* "fp8", ... or "" */
    bool neox;                       /* q/k rows of the file are in half (HF)
                                        layout; false: interleaved */
    bise_json *json;                 /* config.json or params.json, or NULL */
} bise_config;

/* Tokens that a query of layer l sees, 0 = all. */
static inline int32_t bise_config_window(const bise_config *c, int32_t l)
{
    return c->n_windows ? c->windows[l % c->n_windows] : c->window;
}
/* Set the windows of all layers (c->L is known) from a list of n that repeats
 * over them, kept as the shortest that does. BISE_EUNSUPPORTED when that has
 * more than 16 entries. */
BISE_NODISCARD bise_status bise_config_windows(bise_config *c,
                                               const int32_t *list, int32_t n,
                                               bise_error *err);

/* Resolve the configuration of an opened store. */
BISE_NODISCARD bise_status bise_config_resolve(bise_config *c, bise_store *s,
                                               bise_error *err);
/* From the parsed JSON of a config.json / params.json, or GGUF key-values. */
BISE_NODISCARD bise_status bise_config_from_hf(bise_config *c,
                                               const bise_json *config,
                                               bise_error *err);
/* From params.json (mistral3.md 2.6); V may be 0: see the embedding. */
BISE_NODISCARD bise_status bise_config_from_native(bise_config *c,
                                                   const bise_json *params,
                                                   bise_error *err);
/* From key-values (6.2); tied is settled by the tensors, in _resolve. */
BISE_NODISCARD bise_status bise_config_from_gguf(bise_config *c,
                                                 const bise_gguf_meta *m,
                                                 bise_error *err);
/* Release what a configuration holds; a zeroed one is fine. */
void bise_config_fini(bise_config *c);
/* Parameters of the text model that the configuration implies. */
uint64_t bise_config_parameters(const bise_config *c);
/* "mistral", "ministral3", "mixtral", "mistral4", "llama". */
const char *bise_family_name(bise_family f);
/* Inverse frequencies [D/2] and the factor on cos and sin (mistral3.md 3.3);
 * n = rotated dims. */
void bise_rope_freqs(const bise_rope *r, int32_t n, double *freq,
                     double *factor);
/* The scale of q.k in latent attention with heads of D values: D^-1/2, times
 * g(F, mscale_all_dim)^2 where magnitude scaling is on (mistral3.md 3.5). */
double bise_rope_mla_alpha(const bise_rope *r, int32_t D);
/* Query scale s(p) = 1 + beta ln(1 + floor(p / L0)) (mistral3.md 3.4). */
double bise_rope_qscale(const bise_rope *r, int64_t position);

#endif
