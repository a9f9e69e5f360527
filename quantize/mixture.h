/* mixture.h - which type each tensor of a quantized GGUF gets: the rules of
 * llama-quantize (gguf.md 6) as data, evaluated over GGUF tensor names in the
 * order of the output file. Knows names and shapes, nothing of files.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_QUANTIZE_MIXTURE_H
#define BISE_QUANTIZE_MIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/dtype.h"

/* One row of the table of mixtures.def: the argument of --type. */
typedef struct bise_mixture {
    const char *name;
    int file_type;       /* general.file_type */
    bise_dtype base;     /* default type of its tensors */
} bise_mixture;

/* By name, any case; "Q4_K" is Q4_K_M and so on. NULL when unknown. */
const bise_mixture *bise_mixture_find(const char *name);
/* Walk the table; NULL at its end. */
const bise_mixture *bise_mixture_at(size_t i);

/* Facts of the model that the rules look at. */
typedef struct bise_mixture_model {
    int32_t layers, heads, kv_heads, experts;
    bool llama;          /* architecture "llama" */
    bool has_output;     /* the file has output.weight */
    bool has_imatrix;
    int32_t n_v;         /* tensors like attn_v in the file */
} bise_mixture_model;

/* The counters are what makes the type of a tensor depend on the ones before
 * it: attn_v of the k-th block is the k-th value tensor of the file, whatever
 * its block number is, while the number of ffn_down tensors is taken to be the
 * number of blocks. Both are quirks of llama-quantize that its files show.
 */

/* Running counters; zero-initialise, then ask tensor by tensor in file order. */
typedef struct bise_mixture_state {
    int32_t i_v, i_down;
} bise_mixture_state;

/* Type by the rules, before any shape fallback. n_dims counts the expert axis;
 * cols is the row length. */
bise_dtype bise_mixture_type(const bise_mixture *m,
                             const bise_mixture_model *model,
                             bise_mixture_state *state, const char *name,
                             int n_dims, uint64_t cols);
/* False for tensors that llama-quantize leaves alone (gguf.md 6.2). */
bool bise_mixture_quantizes(const char *name, int n_dims);
/* True for attn_v, attn_qkv and attn_kv_b weights, which n_v counts. */
bool bise_mixture_is_v(const char *name);
/* What a row of cols weights can hold instead of type t (gguf.md 6.5); t when
 * it fits, BISE_DTYPE_NONE when nothing does. */
bise_dtype bise_mixture_fallback(bise_dtype t, uint64_t cols);

#endif
