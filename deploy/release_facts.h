/* release_facts.h - reading what inputs of a release say of themselves, and
 * taking out of them what is private. Between release_collect.c and
 * release_facts.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_RELEASE_FACTS_H
#define BISE_DEPLOY_RELEASE_FACTS_H

#include "core/tensor.h"
#include "deploy/release_int.h"

/* The licence that an input's facts (model/lineage.h) name; none, and one that
 * differs from another input's, is a problem. */
BISE_NODISCARD bise_status bise_release_licence(release *x, const char *who,
                                                const bise_json *lineage);
/* LICENSE and NOTICE of a directory with these facts; after its licence. */
BISE_NODISCARD bise_status bise_release_terms(release *x, const char *dir,
                                              const bise_json *lineage);
/* Add what README.md of a directory says. l NULL: out of memory. */
BISE_NODISCARD bise_status bise_release_card_of(release *x, bise_json *l,
                                                const char *dir);
/* Base, data, adapters, commands, tags and languages of facts. */
BISE_NODISCARD bise_status bise_release_lineage(release *x,
                                                const bise_json *lineage);
/* Type, weights and facts of f->disk; sets f->kind. */
BISE_NODISCARD bise_status bise_release_gguf(release *x, release_item *f);
/* Is the type part of the file name, as the Hub looks for it? */
bool bise_release_names_type(const char *name, const char *type);
/* Is it one of the parts that llama-gguf-split names? */
bool bise_release_is_split(const char *name);
/* __metadata__ of safetensors: nothing private. */
BISE_NODISCARD bise_status bise_release_st_meta(release *x,
                                                const release_item *f,
                                                const bise_json *meta);
/* Count weights and find the type of most bytes. */
void bise_release_count(release_item *f, const bise_tensor *t, size_t n);
/* run.yaml with base names for paths; log.jsonl; a configuration without
 * paths. Each fills f->text where it must differ. */
BISE_NODISCARD bise_status bise_release_settings(release *x, release_item *f);
BISE_NODISCARD bise_status bise_release_log(release *x, release_item *f);
BISE_NODISCARD bise_status bise_release_config(release *x, release_item *f,
                                               const char *name);

#endif
