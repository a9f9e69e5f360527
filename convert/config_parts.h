/* config_parts.h - the blocks of config.json and params.json that describe the
 * vision tower and the float8 scheme, in the form of the other layout. Used by
 * config_out.c, which writes the rest.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CONVERT_CONFIG_PARTS_H
#define BISE_CONVERT_CONFIG_PARTS_H

#include "core/json.h"
#include "model/checkpoint.h"

/* Wrap the config.json of a text model (taken) into that of
 * Mistral3ForConditionalGeneration, with vision_config made from the native
 * "vision_encoder" block of c. NULL when memory is out. */
bise_json *bise_config_wrap(bise_json *text, const bise_checkpoint *c);

/* Add a "vision_encoder" block, made from the vision_config of c, to
 * params.json. */
void bise_config_unwrap(bise_json *params, const bise_checkpoint *c);

/* Say in config.json (hf) or params.json that float8 codes are kept, how they
 * are scaled, and which modules are not float8 (mistral3.md 2.6 and 2.7). */
void bise_config_float8(bise_json *o, const bise_checkpoint *c, bool hf);

#endif
