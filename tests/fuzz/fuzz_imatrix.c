/* fuzz_imatrix.c - any bytes as an importance matrix, in either form: what is
 * accepted has finite, non-negative sums and can be written and read again
 * with the same entries.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quantize/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every accepted entry can be used by an encoder. */
static void check(const bise_imatrix *m)
{
    bise_arena a = { 0 };
    for (size_t i = 0; i < m->n; i++) {
        const bise_imatrix_entry *e = &m->entries[i];
        if (e->cols == 0 || e->n_mat == 0 || !e->name[0])
            abort();
        for (uint64_t k = 0; k < e->cols * e->n_mat; k++)
            if (!isfinite(e->sums[k]) || e->sums[k] < 0)
                abort();
        if (!bise_imatrix_find(m, e->name))
            abort();
        if (!bise_imatrix_weights(e, &a))
            abort();
    }
    bise_arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    bise_error err;
    bise_imatrix m = { 0 };
    snprintf(path, sizeof path, "/tmp/bise-fuzz-imatrix-%d", (int)getpid());
    FILE *f = fopen(path, "wb");
    if (!f)
        return 0;
    const size_t written = fwrite(data, 1, size, f);
    bise_error_init(&err);
    if (fclose(f) == 0 && written == size &&
        bise_imatrix_load(&m, path, &err) == BISE_OK)
        check(&m);
    else if (!err.text[0])
        abort();                /* a refusal without a reason */
    bise_imatrix_fini(&m);
    unlink(path);
    return 0;
}
