/* ops_x86.h - one entry for each instruction set of the graph's operations.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_KERNELS_X86_OPS_X86_H
#define BISE_KERNELS_X86_OPS_X86_H

#include "kernels/kernels.h"

/* Replace the slots that the set does better than what is there. */
void bise_ops_init_avx2(bise_kernels *k);
void bise_ops_init_avx512(bise_kernels *k);

#endif
