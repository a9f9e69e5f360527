/* convert.h - plans from any layout to any layout: Hugging Face directories,
 * Mistral native directories and GGUF files, with adapters merged on the way.
 * A plan is made from headers only and executed by pipeline/run.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CONVERT_CONVERT_H
#define BISE_CONVERT_CONVERT_H

#include "core/error.h"
#include "core/progress.h"
#include "model/checkpoint.h"
#include "model/lora.h"
#include "pipeline/plan.h"

typedef enum {
    BISE_TO_SAME,    /* the layout of the input */
    BISE_TO_HF, BISE_TO_NATIVE, BISE_TO_GGUF
} bise_layout;

/* Which weights are written where:
 *
 *   input    output   tensors                          order
 *   HF       HF       all, names and prefix kept       the file's
 *   native   native   all, names kept                  the file's
 *   GGUF     GGUF     all, names and keys kept         the file's
 *   other    HF       text model, roles renamed,       by type and name
 *                     q and k rows in half order
 *   other    native   text model, q and k rows paired  by type and name
 *   other    GGUF     text model, q and k rows paired, forward pass
 *                     norms F32, experts stacked
 *
 * Side files go along to directories; config.json or params.json is written
 * anew where the layout changes.
 */
typedef struct bise_convert_options {
    bise_layout to;
    bise_dtype dtype;          /* of weight matrices; NONE keeps the input's */
    bool keep_fp8;             /* FP8 stays FP8 (HF and native outputs) */
    bise_lora *const *loras;   /* merged, in this order */
    int n_loras;
    int32_t vocab;             /* rows of embedding and head, 0 = the input's:
                                  see bise_vocabulary_settle */
    uint64_t split_bytes;      /* largest output file, 0 = one file */
    const bise_progress *progress;
} bise_convert_options;

/* Make the plan of a conversion. The checkpoint and the adapters must outlive
 * it; p is initialised here and released by the caller, also on failure. */
BISE_NODISCARD bise_status bise_convert_plan(bise_plan *p, bise_checkpoint *c,
                                             const bise_convert_options *o,
                                             bise_error *err);
/* The layout of a checkpoint's files. */
bise_layout bise_convert_layout_of(const bise_checkpoint *c);

/* The parts, for the plan makers and tests. */

/* GGUF key-values of a checkpoint: general.*, the architecture's, the
 * tokenizer's and the chat template (gguf.md 7, mistral3.md 6). */
BISE_NODISCARD bise_status bise_convert_gguf_meta(bise_gguf_meta *m,
                                                  bise_checkpoint *c,
                                                  const bise_convert_options *o,
                                                  int file_type,
                                                  bise_error *err);
/* Facts of model/lineage.h of a checkpoint with n adapters merged. To free;
 * NULL when out of memory. */
bise_json *bise_convert_lineage(const bise_checkpoint *c,
                                bise_lora *const *loras, int n);
/* general.architecture of a checkpoint's GGUF. */
const char *bise_convert_gguf_arch(const bise_checkpoint *c);
BISE_NODISCARD bise_status bise_convert_plan_gguf(bise_plan *p,
                                                  bise_checkpoint *c,
                                                  const bise_convert_options *o,
                                                  bise_error *err);
BISE_NODISCARD bise_status bise_convert_plan_dir(bise_plan *p,
                                                 bise_checkpoint *c,
                                                 const bise_convert_options *o,
                                                 bise_error *err);
/* Does the store hold a tokenizer in any form that bise reads? */
bool bise_vocabulary_has_tokenizer(const bise_store *s);
/* Read --vocab-size: a number, or "tokenizer" for its number of ids. Refuses
 * sizes that would cut ids of the tokenizer off, and GGUF inputs, whose token
 * lists have their own length. *rows is 0 when text is NULL. */
BISE_NODISCARD bise_status bise_vocabulary_settle(int32_t *rows,
                                                  const bise_checkpoint *c,
                                                  const char *text,
                                                  const bise_progress *progress,
                                                  bise_error *err);
/* Cut embedding and head of a plan to rows, or pad them with rows of zeros;
 * nothing to do when rows is 0. */
BISE_NODISCARD bise_status bise_vocabulary_resize(bise_plan *p, int32_t rows,
                                                  bise_error *err);
/* Set a key-value of a plan's GGUF by KEY=TYPE:VALUE, TYPE one of int, float,
 * bool and str (llama.cpp's --override-kv): in its place and in its own type
 * when it exists. Refused are other types, arrays, and keys that follow from
 * the tensors (general.architecture, general.alignment, split.*). */
BISE_NODISCARD bise_status bise_convert_override(bise_gguf_meta *m,
                                                 const char *text,
                                                 bise_error *err);
/* Remove a key, which must be there. */
BISE_NODISCARD bise_status bise_convert_remove_key(bise_gguf_meta *m,
                                                   const char *key,
                                                   bise_error *err);
/* The vision tower and projector of a multimodal checkpoint as a GGUF of
 * architecture "clip"; matrices in dtype, NONE keeps theirs. p as for
 * bise_convert_plan. Fails when the model has no vision part.
 */
BISE_NODISCARD bise_status bise_convert_plan_mmproj(bise_plan *p,
                                                    bise_checkpoint *c,
                                                    bise_dtype dtype,
                                                    bise_error *err);
/* config.json / params.json of a configuration, for layouts that had none, or
 * the checkpoint's own one with dtype and quantization brought up to date. */
BISE_NODISCARD bise_status bise_convert_config(bise_str *out,
                                               const bise_checkpoint *c,
                                               bise_layout to,
                                               bise_dtype dtype,
                                               bool keep_fp8,
                                               bise_error *err);

#endif
