/* adapter.h - adapters written for other tools, and what each tool accepts.
 * Reading any format is model/lora.h; here stand the writers of PEFT, GGUF
 * (gguf.md 9), mistral-finetune's native form and mlx-lm's (lora.md 3).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CONVERT_ADAPTER_H
#define BISE_CONVERT_ADAPTER_H

#include "core/error.h"
#include "model/checkpoint.h"
#include "model/lora.h"

typedef enum {
    BISE_ADAPTER_PEFT, BISE_ADAPTER_GGUF, BISE_ADAPTER_NATIVE, BISE_ADAPTER_MLX
} bise_adapter_format;

typedef struct bise_adapter_options {
    bise_adapter_format to;
    const bise_checkpoint *base; /* needed for GGUF and native, or NULL */
    int wrapper;                 /* PEFT names: 1 wrapper, 0 text, -1 as base */
    const char *base_name;       /* for the settings, NULL: as loaded */
    const char *command;         /* for the history of the output, or NULL */
    bool force;                  /* replace an existing output */
} bise_adapter_options;

/* Write l to out: a file for GGUF, else a directory. Scales that the format
 * cannot say module by module are multiplied into B; DoRA and whole tensors are
 * refused where the format has no place for them. Every format but PEFT carries
 * PEFT's settings along, so that the way back restores them. */
BISE_NODISCARD bise_status bise_adapter_write(const bise_lora *l,
                                              const char *out,
                                              const bise_adapter_options *o,
                                              bise_error *err);

/* A copy of an adapter with one rank and one alpha (adapter_fold.c), for tools
 * that read no patterns and no rsLoRA. Release with bise_lora_fini. */
BISE_NODISCARD bise_status bise_adapter_uniform(bise_lora *out,
                                                const bise_lora *in,
                                                bise_error *err);

/* One finding of a check. */
typedef struct bise_adapter_finding {
    const char *target;          /* "vllm", ...; static */
    bool blocks;                 /* refused or wrong there; else a remark */
    char text[200];
    const char *source;          /* where the rule stands; static */
} bise_adapter_finding;

typedef struct bise_adapter_report {
    bise_adapter_finding *list;
    size_t n, cap;
} bise_adapter_report;

/* Hold an adapter (format as l->format) against the rules of a target, NULL for
 * all of them; base NULL when not known. Unknown targets are an error naming
 * the known ones. Zero-initialise the report; release with _fini. */
BISE_NODISCARD bise_status bise_adapter_check(bise_adapter_report *r,
                                              const bise_lora *l,
                                              const bise_checkpoint *base,
                                              const char *target,
                                              bise_error *err);
/* Release the findings. */
void bise_adapter_report_fini(bise_adapter_report *r);
/* Names of the targets, "vllm|llama.cpp|...". */
const char *bise_adapter_targets(void);

#endif
