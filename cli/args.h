/* args.h - the command line parser: global options anywhere, one subcommand,
 * its options from its table, positional arguments. Everything handed out by
 * the accessors of command.h lives until bise_args_fini.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_ARGS_H
#define BISE_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/command.h"
#include "core/error.h"
#include "core/mem.h"

typedef struct bise_opt_value {
    const bise_option *option;
    const char **values; /* texts as given; the last one counts */
    int n;
    int cap;
} bise_opt_value;

typedef struct bise_args {
    const bise_command *command;
    bise_opt_value *options; /* one for each row of the command's table */
    int n_options;
    const char **positional;
    int n_positional;
    int threads;             /* 0 = not given */
    bool json, quiet, verbose, force, help, version;
    bise_arena arena;
} bise_args;

/* All commands, ending with NULL, and one by name (NULL when unknown). */
const bise_command *const *bise_commands(void);
const bise_command *bise_command_find(const char *name);

/* Parse argv. Fails with BISE_EINVAL and a hint that names the nearest option
 * or command. --json, --quiet are set in *a even when parsing fails. */
BISE_NODISCARD bise_status bise_args_parse(bise_args *a, int argc, char **argv,
                                           bise_error *err);
void bise_args_fini(bise_args *a);

/* The global options' table, for help and completion. */
extern const bise_option bise_global_options[];

#endif
