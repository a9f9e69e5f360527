/* inputs.h - 16 kinds of weights that encoders meet or fear, for comparing
 * instruction sets: a value is a pure function of kind, seed and index.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TESTS_KERNELCHECK_INPUTS_H
#define BISE_TESTS_KERNELCHECK_INPUTS_H

#include <stddef.h>
#include <stdint.h>

enum { INPUT_KINDS = 16 };

/* Name of a kind, for messages. */
const char *input_name(int kind);
/* n finite values of a kind. */
void input_fill(float *x, size_t n, int kind, uint64_t seed);

#endif
