/* ops_x86.c - chooses the SIMD versions of the graph's operations by CPU
 * level, weakest set first. */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/kernels.h"

void bise_kernels_init_x86(bise_kernels *k, bise_cpu level)
{
    k->level = level;
}
