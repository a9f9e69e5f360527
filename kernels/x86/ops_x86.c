/* ops_x86.c - chooses the SIMD versions of the graph's operations by CPU
 * level, weakest set first.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/x86/ops_x86.h"

/* Levels are ordered: each later call replaces what it does better. */
void bise_kernels_init_x86(bise_kernels *k, bise_cpu level)
{
    if (level >= BISE_CPU_AVX2)
        bise_ops_init_avx2(k);
    if (level >= BISE_CPU_AVX512)
        bise_ops_init_avx512(k);
}
