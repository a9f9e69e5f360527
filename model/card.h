/* card.h - what a checkpoint says about itself outside of its weights, from the
 * model card's front matter or the keys of a GGUF file. Called by
 * bise_checkpoint_open.
 *
 * Read are the name, the licence and the lineage (lineage.h).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_CARD_H
#define BISE_MODEL_CARD_H

#include "model/checkpoint.h"

/* Fill c->licence, c->base_name, c->lineage; warn through progress when the
 * licence is not Apache-2.0 or not known. A card that cannot be read is no error. */
void bise_card_read(bise_checkpoint *c, const bise_progress *progress);

#endif
