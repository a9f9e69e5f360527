/* lineage.h - where weights come from: terms, base models, training data and
 * the commands that made them, carried from every input into every output: as
 * strings of safetensors' __metadata__, as keys of a GGUF (gguf.md 7), as the
 * card of a release. An object of facts:
 *
 *   fact            JSON               __metadata__      GGUF
 *   license         "apache-2.0"       the same          general.license
 *   license_name    for "other"        the same          general.license.name
 *   license_link    for "other"        the same          general.license.link
 *   license_warning "unknown", ...     the same          bise.license.warning
 *   base_model      ["org/name", ...]  joined by ", "    general.base_model.*
 *   datasets        ["org/name", ...]  joined by ", "    general.dataset.*
 *   adapters        how many merged    the number        bise.adapters
 *   history         [command, ...]     lines             bise.history
 *   tags, language  [text, ...]        -                 general.tags, ...
 *   metadata        {key: text}        as it is          -
 *
 * and bise_version or bise.version in what is written. Names are Hub ids or
 * names of files and folders, never paths. Facts that cannot be read are
 * absent, they are never a reason to refuse weights.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_LINEAGE_H
#define BISE_MODEL_LINEAGE_H

#include "core/error.h"
#include "core/json.h"
#include "formats/gguf.h"
#include "formats/store.h"

/* The facts of a model's store: keys of a GGUF before its card; else the card
 * before __metadata__, and a LICENSE file when neither names the licence. To
 * free; NULL when out of memory. */
bise_json *bise_lineage_read(bise_store *s);
/* The same from parts: GGUF keys, __metadata__ (NULL: no facts). */
bise_json *bise_lineage_of_gguf(const bise_gguf_meta *m);
bise_json *bise_lineage_of_st(const bise_json *meta);
/* Facts of a model card's front matter over those in l, but for what the card of
 * a base cannot know of merged weights. Returns 0, or -1 when out of memory. */
int bise_lineage_card(bise_json *l, const char *text, size_t n);
/* The licence id, "" when unknown. Borrowed. */
const char *bise_lineage_licence(const bise_json *l);
/* Facts of weights made from a model named base_name and n adapters (facts
 * each, NULL: unknown): without adapters those of the model, with them the
 * model is the base, data and history add up, and the strictest licence wins.
 * To free; NULL when out of memory. */
bise_json *bise_lineage_made(const bise_json *model, const char *base_name,
                             const bise_json *const *adapters, int n);
/* What may be published of a model's name: a Hub id as it is, of a path the
 * last part. out has size bytes. */
void bise_lineage_name(char *out, size_t size, const char *text);
/* Names of files that hold terms or attribution: LICENSE, LICENCE.md, COPYING,
 * NOTICE.txt, ... (Apache-2.0, 4 a and d). */
bool bise_lineage_is_licence(const char *name);
bool bise_lineage_is_notice(const char *name);
/* Append a text, or each text of a list, to a list of facts ("datasets",
 * "history") unless it is there. Returns 0 or -1. */
int bise_lineage_add(bise_json *l, const char *key, const char *text);
int bise_lineage_add_all(bise_json *l, const char *key, const bise_json *v);
/* Into the keys of a GGUF, replacing those that are there; failures show in
 * m->failed. */
void bise_lineage_to_gguf(bise_gguf_meta *m, const bise_json *l);
/* As an object of strings for __metadata__. To free; NULL when out of
 * memory. */
bise_json *bise_lineage_to_st(const bise_json *l);

#endif
