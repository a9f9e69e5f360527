/* lora.h - a set of LoRA modules in memory, in the model's own (HF half) row
 * order: what the graph computes with, the trainer updates and merge adds.
 * y += scale (drop(x) A^T) B^T with A [R, in], B [out, R] (Hu et al. 2021).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_LORA_H
#define BISE_MODEL_LORA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "model/checkpoint.h"

/* One adapted linear layer. Rows of B are in half order for q and k, whatever
 * the file had; a graph over an interleaved base maps them (bise_rows_source).
 */
typedef struct bise_lora_module {
    bise_role role;
    int32_t r, in, out;
    double alpha;         /* lora_alpha of this module */
    float scale;          /* alpha / r, rsLoRA alpha / sqrt(r), times user's */
    float *a, *b;         /* values [r, in], [out, r] */
    float *da, *db;       /* gradients, NULL when not trained */
    float *magnitude, *dmagnitude; /* DoRA [out], else NULL */
} bise_lora_module;

/* A whole tensor that replaces the base's (PEFT's modules_to_save). */
typedef struct bise_lora_saved {
    bise_role role;
    float *w;             /* row major, owned */
    uint64_t n;
} bise_lora_saved;

typedef struct bise_lora {
    bise_lora_module *modules; /* by layer, then kind, then expert */
    size_t n;
    float dropout;        /* applied in training only */
    bool rslora, dora;
    /* All values (and gradients) of all modules in one buffer each, in module
     * order: a, b, magnitude. Modules point into them. */
    float *values, *grads;
    size_t n_values;
    bise_lora_saved *saved;
    size_t n_saved;
    bool wrapper;         /* the file named modules of a multimodal class */
    char base_name[192];  /* base_model_name_or_path of the file, of a path the
                             last part (lineage.h), or "" */
    bise_json *lineage;   /* facts of lineage.h, owned, or NULL */
    bise_dtype dtype;     /* of the file's first matrix; F32 for new ones */
    const char *format;   /* "peft", "gguf", "native", "mlx", "new" */
} bise_lora;

/* Options of a new adapter to train. Patterns map names or expressions to a
 * rank or an alpha, first match wins: {"v_proj": 8, "layers.0.*": 4}. */
typedef struct bise_lora_options {
    int32_t r;
    double alpha, dropout;
    bool rslora, dora;
    const char *target;       /* "all-linear" or "q_proj,v_proj,..." */
    const bise_json *rank_pattern, *alpha_pattern; /* PEFT semantics or NULL */
    uint64_t seed;
    int32_t layers_from;      /* first layer with adapters, 0 = all */
} bise_lora_options;

/* Allocate modules for every targeted linear layer of the model: A uniform in
 * +-1/sqrt(in) (Kaiming, a = sqrt 5), B zero; a target that matches nothing is
 * an error. Gradients are allocated when train. */
BISE_NODISCARD bise_status bise_lora_new(bise_lora *l, const bise_config *c,
                                         const bise_lora_options *o,
                                         bool train, bise_error *err);
/* Load an adapter: PEFT directory, GGUF, native or mlx, recognized by content;
 * path may end in ":SCALE", which goes into alpha and scale. Every module must
 * fit the base: names, shapes. No gradients (see bise_lora_train). */
BISE_NODISCARD bise_status bise_lora_load(bise_lora *l, const char *path,
                                          const bise_checkpoint *base,
                                          bise_error *err);
/* The same against a bare configuration, or none (NULL): then shapes are taken
 * as they are, and formats whose q/k rows are interleaved are refused. */
BISE_NODISCARD bise_status bise_lora_load_for(bise_lora *l, const char *path,
                                              const bise_config *base,
                                              bise_error *err);
/* Give a loaded adapter gradient buffers, to train it further. */
BISE_NODISCARD bise_status bise_lora_train(bise_lora *l, bise_error *err);
/* Write adapter_model.safetensors and adapter_config.json (PEFT) into an
 * existing directory; base_name goes into base_model_name_or_path (NULL: null).
 * Module names are those of the base's class (text or wrapper); without a base
 * those of the file the adapter came from. Per-module ranks and alphas become
 * rank_pattern and alpha_pattern. The same adapter gives the same bytes. */
BISE_NODISCARD bise_status bise_lora_save_peft(const bise_lora *l,
                                               const bise_checkpoint *base,
                                               const char *base_name,
                                               const char *dir,
                                               bise_error *err);
/* The same against a bare configuration or none, in the naming asked for. */
BISE_NODISCARD bise_status bise_lora_save_for(const bise_lora *l,
                                              const bise_config *base,
                                              bool wrapper,
                                              const char *base_name,
                                              const char *dir,
                                              bise_error *err);
/* The adapter_config.json of an adapter (to free), NULL when out of memory.
 * Other formats carry a copy, so that nothing is lost on the way back. */
bise_json *bise_lora_peft_config(const bise_lora *l, const bise_config *base,
                                 bool wrapper, const char *base_name);
/* Building blocks of the readers and of converters. _alloc sizes the buffers
 * for n modules whose role, r, in, out, alpha are set in modules (copied), and
 * computes their scales; dora adds magnitudes. */
BISE_NODISCARD bise_status bise_lora_alloc(bise_lora *l,
                                           const bise_lora_module *modules,
                                           size_t n, bise_error *err);
/* alpha / r, or alpha / sqrt(r). */
float bise_lora_scale(double alpha, int32_t r, bool rslora);
/* Module of a role, NULL when the adapter has none. Borrowed. */
const bise_lora_module *bise_lora_find(const bise_lora *l, bise_role role);
/* The least --max-lora-rank of vLLM for an adapter of this rank; the rank
 * itself when it is above all (vllm/config/lora.py, MaxLoRARanks). */
int bise_lora_vllm_rank(int64_t rank);
/* Release all values; a zeroed one is fine. */
void bise_lora_fini(bise_lora *l);

#endif
