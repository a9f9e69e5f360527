/* trainstate.h - checkpoints of a training run: everything a resumed run needs
 * to go on bit for bit. DIR/checkpoints/STEP/ holds
 *   adapter_model.safetensors, adapter_config.json   loads in PEFT as it is
 *   optimizer.safetensors   values and moments, flat, in module order
 *   trainer_state.json      step, cursor, counters, settings, fingerprints
 * written as STEP.part/, synced and renamed: a STEP that is there is whole.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_TRAINSTATE_H
#define BISE_FINETUNE_TRAINSTATE_H

#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "finetune/settings.h"
#include "finetune/trainer.h"
#include "model/checkpoint.h"

/* What a checkpoint belongs to. */
typedef struct bise_fingerprint {
    char base[65];              /* bise_base_digest */
    char data[65];              /* bise_dataset_digest */
    const bise_settings *settings;
} bise_fingerprint;

/* sha256 over configuration, names, types, shapes of all tensors and samples
 * of their bytes: 64 hex digits. Reads a few pages of each tensor. */
BISE_NODISCARD bise_status bise_base_digest(char out[65],
                                            const bise_checkpoint *c,
                                            bise_error *err);

/* Write the trainer's state to dir (DIR/checkpoints/STEP, which must not be
 * there). */
BISE_NODISCARD bise_status bise_trainstate_save(const bise_trainer *t,
                                                const bise_checkpoint *base,
                                                const bise_fingerprint *f,
                                                const char *dir,
                                                bise_error *err);
/* Read it back into a trainer made with the same settings. Refuses another
 * base, other data or other settings, naming what differs. */
BISE_NODISCARD bise_status bise_trainstate_load(bise_trainer *t,
                                                const bise_fingerprint *f,
                                                const char *dir,
                                                bise_error *err);
/* Newest whole checkpoint below dir (DIR/checkpoints): *step and *path
 * (bise_free); *path stays NULL when there is none. */
BISE_NODISCARD bise_status bise_trainstate_latest(char **path, uint64_t *step,
                                                  const char *dir,
                                                  bise_error *err);
/* Remove all but the newest keep checkpoints, and unfinished ones. */
BISE_NODISCARD bise_status bise_trainstate_prune(const char *dir, size_t keep,
                                                 bise_error *err);

#endif
