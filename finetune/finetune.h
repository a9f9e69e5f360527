/* finetune.h - a whole fine-tuning run: settings -> model, data and plan ->
 * training -> output directory. The directory holds run.yaml, log.jsonl and
 * checkpoints/ from the start; adapter_model.safetensors, adapter_config.json,
 * README.md, report.html and loss.svg when the run is done.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_FINETUNE_H
#define BISE_FINETUNE_FINETUNE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "core/pool.h"
#include "core/progress.h"
#include "finetune/plan.h"
#include "finetune/settings.h"
#include "finetune/trainer.h"
#include "model/basequant.h"
#include "model/checkpoint.h"
#include "text/dataset.h"

typedef struct bise_finetune_options {
    bool resume;              /* go on from the newest checkpoint, if any */
    bool force;               /* replace an earlier run in the directory */
    bise_pool *pool;          /* borrowed */
    const char *command;      /* for the history of the adapter, or NULL;
                                 borrowed */
    uint64_t program_bytes;   /* code, tokenizer, data; 0: as resident now */
    const bise_progress *progress;
} bise_finetune_options;

/* An opened run. Zero-initialise; _open, then _train; release with _close. */
typedef struct bise_finetune {
    const bise_settings *s;
    bise_finetune_options o;
    bise_checkpoint base;
    bise_tokenizer *tokenizer;
    bise_dataset *train, *eval; /* eval is NULL without --eval-data */
    bise_lora lora;
    bise_basequant *basequant;  /* NULL without --quantize-base */
    bise_graph_options graph_options;
    bise_lora *loras[1];
    bise_finetune_plan plan;
} bise_finetune;

/* Open model and data, make the adapter, and plan. Refuses a run that does not
 * fit into memory. s is borrowed and must be resolved. */
BISE_NODISCARD bise_status bise_finetune_open(bise_finetune *f,
                                              const bise_settings *s,
                                              const bise_finetune_options *o,
                                              bise_error *err);
/* Train to the end and write the output directory. *state gets the counters.
 * When stopped by the user the state is saved first: BISE_ECANCEL. */
BISE_NODISCARD bise_status bise_finetune_train(bise_finetune *f,
                                               bise_train_state *state,
                                               bise_error *err);
void bise_finetune_close(bise_finetune *f);
/* Type of --quantize-base, BISE_DTYPE_NONE when the base stays as stored. */
bise_dtype bise_finetune_base_type(const bise_finetune *f);
/* Facts of the run for the log and the report: model, data, machine. */
bise_json *bise_finetune_facts(const bise_finetune *f);

#endif
