/* yaml.h - YAML into JSON values (libyaml, reached only from formats/yaml.c),
 * for run.yaml and model card front matter. Plain scalars become null, bool,
 * int or real by the YAML 1.2 core schema, others strings. Aliases and
 * multiple documents are refused; duplicate keys are an error.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FORMATS_YAML_H
#define BISE_FORMATS_YAML_H

#include <stddef.h>

#include "core/error.h"
#include "core/json.h"
#include "core/str.h"

/* Parse a document; errors carry line and column in the text. */
BISE_NODISCARD bise_status bise_yaml_parse(bise_json **out, const char *text,
                                           size_t len, bise_error *err);
/* Front matter of a Markdown card: the mapping between the leading "---"
 * lines; *out stays NULL (and BISE_OK) when there is none. */
BISE_NODISCARD bise_status bise_yaml_front_matter(bise_json **out,
                                                  const char *text, size_t len,
                                                  bise_error *err);
/* Append v as block-style YAML, strings quoted where they need it. */
void bise_yaml_dump(bise_str *out, const bise_json *v);

#endif
