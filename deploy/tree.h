/* tree.h - the files to be packed: those of folders, in byte order of their
 * paths. Used by pack.c and oci.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_DEPLOY_TREE_H
#define BISE_DEPLOY_TREE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "deploy/pack.h"
#include "formats/archive.h"

/* One file found: its member and where it is on disk. */
typedef struct bise_tree_file {
    bise_member member;
    const char *disk;
} bise_tree_file;

/* Zero-initialise; release with _fini, also after a failure. */
typedef struct bise_tree {
    bise_tree_file *list;
    size_t n, cap;
    bise_arena arena;        /* names */
    struct stat out;         /* the archive itself, when it exists */
    bool has_out;
} bise_tree;

/* Walk all inputs; see bise_pack for how they are named. out is left out. */
BISE_NODISCARD bise_status bise_tree_collect(bise_tree *t,
                                             const char *const *paths,
                                             size_t n, const char *out,
                                             bise_error *err);
/* Fill the result of packing from the members. */
BISE_NODISCARD bise_status bise_tree_result(bise_pack_result *r,
                                            const bise_tree *t,
                                            uint64_t packed, bise_error *err);
void bise_tree_fini(bise_tree *t);

#endif
