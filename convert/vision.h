/* vision.h - names of the vision tower and the projector in the three layouts
 * (mistral3.md 2.3, 2.6 and 6.5), one row a tensor, and what the configuration
 * says of the tower. The only place that knows those names: directories carry
 * the tensors along under them, and --mmproj writes them as a file of its own.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CONVERT_VISION_H
#define BISE_CONVERT_VISION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/json.h"
#include "model/checkpoint.h"

/* A tensor of the tower. {i} in a name is the layer. */
typedef struct bise_vision_row {
    const char *names[3];  /* by bise_names; HF as on the Hub */
    bool rotated;          /* rows of q and k: half order in Hugging Face files,
                              interleaved in native and GGUF ones */
    bool wide;             /* GGUF: F32 unless F16 is asked for */
} bise_vision_row;

/* The row of a tensor name, its layer into *layer (-1 outside layers); a
 * leading "model." of transformers 5 is skipped. NULL when it is none. */
const bise_vision_row *bise_vision_find(const char *name, bise_names layout,
                                        int *layer);
/* The name of a row's tensor in a layout. */
void bise_vision_name(char out[128], const bise_vision_row *row,
                      bise_names layout, int layer);

/* The block of the configuration that describes the tower: "vision_config" or,
 * in native files, "vision_encoder"; NULL when there is none. Borrowed. */
const bise_json *bise_vision_config(const bise_checkpoint *c);
/* A whole number of that block; other when it is absent. */
int64_t bise_vision_number(const bise_json *block, const char *key,
                           int64_t other);
/* Name of the tower's activation. transformers' default is "gelu"; native
 * files have no key, their tower computes SiLU. Borrowed. */
const char *bise_vision_act(const bise_checkpoint *c);
/* True when the checkpoint holds tensors of the tower, not just its block. */
bool bise_vision_stored(const bise_checkpoint *c);

#endif
