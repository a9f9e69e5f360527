/* record.h - the command line as the history of an output has it: the options
 * that decide its content, names in place of paths, so that it says nothing of
 * this machine and does not depend on where things lie (model/lineage.h).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_RECORD_H
#define BISE_CLI_RECORD_H

#include "cli/command.h"
#include "core/str.h"

/* "bise merge tiny-mistral3 --adapter sql:0.5  # bise 0.1.0" of the command that
 * runs; model (NULL: as given) stands for the first argument. Free with
 * bise_free; NULL when out of memory. */
char *bise_record_command(const bise_context *ctx, const char *model);
/* A value as it stands in such a line: the last part of a path, quoted for a
 * shell where needed. */
void bise_record_value(bise_str *out, const char *value);
/* Warn about a licence ("" unknown) that is not Apache-2.0, or fail when
 * --require-licence asks for another one. what is a name for messages. */
BISE_NODISCARD bise_status bise_record_licence(const bise_context *ctx,
                                               const char *what,
                                               const char *licence,
                                               bool warn, bise_error *err);

#endif
