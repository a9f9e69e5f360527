/* same_weights.h - two safetensors files hold the same tensors: names, types,
 * shapes, order and bytes; only the metadata may differ.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TESTS_SAME_WEIGHTS_H
#define BISE_TESTS_SAME_WEIGHTS_H

#include <string.h>

#include "formats/safetensors.h"
#include "tests/check_main.h"

static inline void same_tensors(const char *one, const char *two)
{
    bise_st a = { 0 }, b = { 0 };
    bise_error err;
    ck_ok(bise_st_open(&a, one, &err));
    ck_ok(bise_st_open(&b, two, &err));
    ck_assert_uint_eq(a.n_tensors, b.n_tensors);
    for (size_t i = 0; i < a.n_tensors; i++) {
        const bise_tensor *x = &a.tensors[i], *y = &b.tensors[i];
        ck_assert_str_eq(x->name, y->name);
        ck_assert(x->dtype == y->dtype && x->n_dims == y->n_dims);
        ck_assert_mem_eq(x->dims, y->dims,
                         (size_t)x->n_dims * sizeof *x->dims);
        ck_assert_uint_eq(x->bytes, y->bytes);
        if (x->bytes)
            ck_assert_mem_eq(x->data, y->data, x->bytes);
    }
    bise_st_close(&a);
    bise_st_close(&b);
}

#endif
