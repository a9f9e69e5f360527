/* main.c - entry of the bise program: global options, then the subcommand from
 * commands.def. Prints errors once and turns the status into the exit code. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>

#include "core/cpu.h"

int main(void)
{
    printf("bise %s (%s)\n", PACKAGE_VERSION,
           bise_cpu_name(bise_cpu_level()));
    return fclose(stdout) == 0 ? 0 : 1;
}
