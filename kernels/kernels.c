/* kernels.c - fills the table of compute kernels: the scalar reference first,
 * then the slots that the machine's instruction sets do better.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "kernels/kernels.h"

#include <pthread.h>

/* Weakest set first, so that a level keeps what it does not replace. */
void bise_kernels_init(bise_kernels *k, bise_cpu level)
{
    bise_kernels_init_ref(k);
    k->level = level;
#if BISE_X86
    bise_kernels_init_x86(k, level);
#endif
}

static bise_kernels table;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

/* Runs once for the process, under pthread_once. */
static void fill_table(void)
{
    bise_kernels_init(&table, bise_cpu_level());
}

/* Safe from any thread at any time. */
const bise_kernels *bise_kernels_get(void)
{
    pthread_once(&table_once, fill_table);
    return &table;
}
