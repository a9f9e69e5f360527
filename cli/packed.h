/* packed.h - archives as the output of other commands: -o NAME.tar.zst.
 * A training run needs a folder for its log and its checkpoints. For an archive
 * it is NAME.run, which stays when the run is stopped (--resume goes on from
 * it) and is removed when the archive is there.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_PACKED_H
#define BISE_CLI_PACKED_H

#include <stdbool.h>

#include "cli/command.h"

/* Is this the name of an archive (.tar.zst)? NULL is not. */
bool bise_packed_is(const char *path);
/* Folder of a run with this output; bise_free. NULL when out of memory or when
 * out is NULL. */
char *bise_packed_folder(const char *out);
/* Refuse an archive that exists, without --force. */
BISE_NODISCARD bise_status bise_packed_check(const char *archive,
                                             const bise_context *ctx,
                                             bise_error *err);
/* Pack what a run left in dir, without its checkpoints, and remove dir. */
BISE_NODISCARD bise_status bise_packed_run(const char *archive,
                                           const char *dir,
                                           const bise_context *ctx,
                                           bise_error *err);

#endif
