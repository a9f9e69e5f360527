/* release.h - a folder that can be uploaded to the Hugging Face Hub as it is:
 * models, adapters, GGUF files, importance matrices under their usual names, a
 * model card, the licence and what section 4 of it asks for, an Ollama
 * Modelfile, and provenance (quantization.md 13 to 15). Called by bise release.
 * Nothing of the machine it was made on is in it but the processor's model.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_RELEASE_H
#define BISE_DEPLOY_RELEASE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/json.h"
#include "core/pool.h"
#include "core/progress.h"
#include "core/str.h"

typedef struct bise_release_options {
    const char *repo;             /* "org/name" on the Hub; required */
    const char *base;             /* the same of the base model, or NULL: as
                                     the inputs say */
    const char *relation;         /* to the base: finetune, adapter, quantized,
                                     merge; NULL: as the inputs show */
    const char *require_licence;  /* an id, or NULL: any, only told */
    const char *command;          /* that asked for it, without paths
                                     (cli/record.h), or NULL */
    const char *const *datasets;  /* Hub ids of training data */
    int n_datasets;
    bool force;
    bise_pool *pool;
    const bise_progress *progress;
} bise_release_options;

typedef struct bise_release_result {
    bise_json *files;     /* [{path, bytes, sha256}], the caller's */
    bise_json *problems;  /* [{path, message}]: what a publisher should mend */
    char licence[64];     /* "" when unknown */
    char relation[16];    /* base_model_relation of the card, "" for none */
} bise_release_result;

/* Make folder out from paths: model directories (Hugging Face or native),
 * adapter directories, .gguf and .dat files, folders of them, and results of
 * bise --json eval (matched by their "model"). Fails, leaving nothing, when
 * an input is not what it seems, would make private paths public, or has
 * another licence than required. Release the result with _fini also then. */
BISE_NODISCARD bise_status bise_release(const char *const *paths, size_t n,
                                        const char *out,
                                        const bise_release_options *o,
                                        bise_release_result *result,
                                        bise_error *err);
void bise_release_fini(bise_release_result *result);

/* What a card of a GGUF says when it is packed as it is made, before it has a
 * place on the Hub. */
typedef struct bise_packed_card {
    const bise_json *lineage;    /* facts of model/lineage.h of the output */
    const char *name;            /* of the model */
    const char *file, *type;     /* "m.gguf", "Q4_K_M" */
    double bits;                 /* per weight */
    bool quantized, base_card;   /* base_card: BASE_README.md is beside it */
} bise_packed_card;

/* README.md of such an archive: front matter, what it is, how to run it, that
 * it was changed and by which commands (Apache-2.0, section 4 b). */
void bise_release_packed_card(bise_str *out, const bise_packed_card *c);

/* The text of the Apache License 2.0, as its makers publish it. */
const char *bise_apache_licence(void);

#endif
