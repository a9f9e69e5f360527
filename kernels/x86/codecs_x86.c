/* codecs_x86.c - choose the SIMD codecs of x86-64 for a CPU level, weakest set
 * first so that a stronger one replaces it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/codec.h"

void bise_codecs_init_x86(bise_codec *table, bise_cpu level)
{
    (void)table;
    (void)level;
}
