/* release_int.h - what the parts of bise release share: collect (inputs to a
 * list of files and facts), card and proof (texts from them), release.c (the
 * order, copying). Private to deploy/.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_RELEASE_INT_H
#define BISE_DEPLOY_RELEASE_INT_H

#include <stdint.h>

#include "core/mem.h"
#include "core/str.h"
#include "deploy/release.h"

/* What a file of the release is for. */
typedef enum {
    RELEASE_SIDE,      /* config, tokenizer, log, licence, ... */
    RELEASE_HF,        /* weights */
    RELEASE_NATIVE,
    RELEASE_GGUF,
    RELEASE_ADAPTER,
    RELEASE_GGUF_ADAPTER,
    RELEASE_MMPROJ,
    RELEASE_IMATRIX
} release_kind;

typedef struct release_item {
    release_kind kind;
    const char *name;      /* in the release */
    const char *disk;      /* where it comes from, NULL: text */
    const char *given;     /* base name of the input, for evaluations */
    bise_str text;         /* content when it is made or changed here */
    uint64_t bytes, weights, weight_bytes;
    const char *type;      /* "Q4_K_M", "BF16", or NULL */
    uint8_t sha[32];       /* of the output */
    uint8_t source_sha[32]; /* of the input, when text replaces it */
    double ppl, kld;                   /* NaN: not measured */
    bise_error err;
} release_item;

/* A training run: what its log.jsonl and run.yaml say. */
typedef struct release_run {
    const char *folder;    /* in the release, "" at its top */
    bise_json *facts;      /* the log's first line, or NULL */
    bise_json *settings;   /* run.yaml without paths, or NULL */
    double loss_first, loss_last, eval_first, eval_last, steps, tokens;
} release_run;

typedef struct release {
    const bise_release_options *o;
    bise_release_result *r;
    bise_error *err;
    bise_arena arena;
    release_item *v;
    size_t n, cap;
    size_t kinds[RELEASE_IMATRIX + 1];
    bool used_top;         /* a directory has taken the top of the release */
    /* Facts for the card. */
    const char *base;      /* Hub id, or NULL */
    const char *base_name; /* what the inputs call it, or NULL */
    char licence[64];
    const char *licence_name, *licence_link; /* of a licence without an id */
    bool licence_seen;
    bise_json *facts;      /* lists of model/lineage.h: history (commands that
                              made the inputs), datasets, tags, language */
    bise_json *evals;      /* [{model, ppl, ...}] */
    release_run *runs;     /* one for each training run among the inputs */
    size_t n_runs, cap_runs;
    bise_str notice, licence_text;
    int64_t adapters;      /* merged into the weights; 0: none known */
    int64_t lora_r;
    bool quantized, chat, vision;
    bool nomem;            /* a fact was lost: the release must fail */
    uint64_t total;        /* bytes to copy, */
    _Atomic uint64_t done; /* and how many are */
    double temperature, top_p;
    int64_t top_k;
} release;

/* Take one path of the user. */
BISE_NODISCARD bise_status bise_release_take(release *x, const char *path);
/* Add a file made here; text is taken. */
BISE_NODISCARD bise_status bise_release_text(release *x, const char *name,
                                             bise_str *text);
/* A copy that lives as long as x; NULL sets x->nomem unless s is NULL. */
const char *bise_release_keep(release *x, const char *s);
/* Tell of something that the publisher should mend. */
BISE_NODISCARD bise_status bise_release_problem(release *x, const char *path,
                                                const char *fmt, ...)
    BISE_PRINTF(3, 4);
/* Is it "org/name"? */
bool bise_release_is_id(const char *s);
/* Does a text tell of a path of this machine or user? Returns what, or NULL. */
const char *bise_release_private(const char *text, size_t n);

/* README.md, and the Modelfile (empty when there is no GGUF). */
void bise_release_card(bise_str *out, const release *x);
void bise_release_modelfile(bise_str *out, const release *x);
/* The file to name in examples: Q4_K_M if there is one, else the first. */
const release_item *bise_release_example(const release *x, release_kind kind);
/* provenance.json: an in-toto statement of all other files. */
void bise_release_proof(bise_str *out, release *x);

#endif
