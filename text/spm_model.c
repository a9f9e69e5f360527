/* spm_model.c - reader of SentencePiece model files (protobuf). */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/vocab.h"

bise_status bise_spm_parse(bise_tokenizer **out, const char *name,
                           const void *data, size_t n, bise_error *err)
{
    (void)out, (void)name, (void)data;
    return bise_fail(err, BISE_EUNSUPPORTED, "file of %zu bytes is neither "
                     "tekken.json nor tokenizer.json", n);
}
