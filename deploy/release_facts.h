/* release_facts.h - reading what inputs of a release say of themselves, and
 * taking out of them what is private. Between release_collect.c and
 * release_facts.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_RELEASE_FACTS_H
#define BISE_DEPLOY_RELEASE_FACTS_H

#include "core/tensor.h"
#include "deploy/release_int.h"

/* One input's licence ("" unknown); inputs that differ are a problem. */
BISE_NODISCARD bise_status bise_release_licence(release *x, const char *who,
                                                const char *licence);
/* README.md, LICENSE and NOTICE of a directory. A model's own facts name its
 * base (bise_release_lineage), a card alone for everything else. */
BISE_NODISCARD bise_status bise_release_read_card(release *x, const char *dir,
                                                  bool adapter, bool model);
/* Base, data, adapters and commands of facts (model/lineage.h). */
BISE_NODISCARD bise_status bise_release_lineage(release *x,
                                                const bise_json *lineage);
/* Type, weights and facts of f->disk; sets f->kind. */
BISE_NODISCARD bise_status bise_release_gguf(release *x, release_item *f);
/* Is the type part of the file name, as the Hub looks for it? */
bool bise_release_names_type(const char *name, const char *type);
/* Is it one of the parts that llama-gguf-split names? */
bool bise_release_is_split(const char *name);
/* __metadata__ of safetensors: what it was made from. */
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
