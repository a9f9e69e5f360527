/* tokenizer_files.h - the tokenizer of an output directory whose input has none
 * in that layout's form: out of a GGUF's vocabulary, or from the other files.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CONVERT_TOKENIZER_FILES_H
#define BISE_CONVERT_TOKENIZER_FILES_H

#include "convert/convert.h"

/* Add to a plan what is missing: for Hugging Face tokenizer.json and
 * tokenizer_config.json; for native files tekken.json or tokenizer.model.vN. A
 * file that cannot be made is a warning that says why and is left out, as is a
 * model without any tokenizer. */
BISE_NODISCARD bise_status
bise_tokenizer_files_add(bise_plan *p, bise_checkpoint *c, bise_layout to,
                         const bise_progress *progress, bise_error *err);

#endif
