/* fuzz_safetensors.c - any bytes as a safetensors file: every tensor that the
 * reader hands out must lie inside the image, and writing the header again
 * from what was read must give a file that reads the same.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Header from the tensors read, then the old data: must parse equal. */
static void write_again(const bise_st *st, const uint8_t *data, size_t size)
{
    bise_error err;
    bise_str out = { 0 };
    uint64_t bytes = 0;
    bise_st again;
    bise_error_init(&err);
    bise_tensor *copy = bise_alloc_array(st->n_tensors + 1, sizeof *copy);
    if (st->n_tensors)
        memcpy(copy, st->tensors, st->n_tensors * sizeof *copy);
    if (bise_st_header(&out, st->meta, copy, st->n_tensors, &bytes, &err) !=
        BISE_OK)
        abort();
    bise_str_add(&out, data + (size - bytes), bytes);
    if (bise_st_parse(&again, out.data, out.len, &err) != BISE_OK ||
        again.n_tensors != st->n_tensors)
        abort();
    for (size_t i = 0; i < st->n_tensors; i++) {
        const bise_tensor *t = bise_st_find(&again, st->tensors[i].name);
        if (!t || t->bytes != st->tensors[i].bytes ||
            (t->bytes && memcmp(t->data, st->tensors[i].data, t->bytes) != 0))
            abort();
    }
    bise_st_close(&again);
    bise_free(copy);
    bise_str_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bise_error err;
    bise_st st;
    bise_error_init(&err);
    if (bise_st_parse(&st, data, size, &err) != BISE_OK) {
        if (!err.text[0])
            abort();
        return 0;
    }
    for (size_t i = 0; i < st.n_tensors; i++) {
        const bise_tensor *t = &st.tensors[i];
        if (t->offset > size || t->bytes > size - t->offset)
            abort();
    }
    write_again(&st, data, size);
    bise_st_close(&st);
    return 0;
}
