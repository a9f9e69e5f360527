/* help.h - help pages made from the command and option tables, wrapped to the
 * width of a terminal. Written to stdout by main.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_HELP_H
#define BISE_CLI_HELP_H

#include "cli/command.h"
#include "core/str.h"

/* Append the page of all commands, the page of one, the version text. */
void bise_help_overview(bise_str *out);
void bise_help_command(bise_str *out, const bise_command *c);
void bise_help_version(bise_str *out);

#endif
