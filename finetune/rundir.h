/* rundir.h - the output directory of a run: what lies in it, when it may be
 * used, and the model card.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_RUNDIR_H
#define BISE_FINETUNE_RUNDIR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "finetune/finetune.h"

/* Paths inside an output directory. */
typedef struct bise_rundir {
    char *dir, *settings, *log, *checkpoints, *card;
    int lock;      /* the open checkpoints folder, held against other runs */
} bise_rundir;

/* Prepare dir: made when absent; one that has files is refused unless resume
 * (kept) or force (the files of an earlier run are removed, others stay). Held
 * by a lock until _close, which a killed run loses by itself: two runs never
 * write into one directory. */
BISE_NODISCARD bise_status bise_rundir_open(bise_rundir *r, const char *dir,
                                            bool resume, bool force,
                                            bise_error *err);
void bise_rundir_close(bise_rundir *r);
/* Path of a checkpoint (bise_free), NULL when out of memory. */
char *bise_rundir_step(const bise_rundir *r, uint64_t step);
/* Append README.md: a Hub model card with front matter. */
void bise_rundir_card(bise_str *out, const bise_finetune *f,
                      const bise_train_state *state);

#endif
