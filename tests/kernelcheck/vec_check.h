/* vec_check.h - the checks of vec_check.c, which is compiled once for each
 * instruction set; called by vec_slots.c when the machine has it.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TESTS_KERNELCHECK_VEC_CHECK_H
#define BISE_TESTS_KERNELCHECK_VEC_CHECK_H

enum { VEC_CHECKS = 10, VEC_CHECK_TEXT = 160 };

/* Runs one check; NULL when all is right, else text with the first fault. */
typedef const char *vec_check_fn(char *text);

/* Check number i of a set. */
vec_check_fn *vec_check_avx2(int i);
vec_check_fn *vec_check_avx512(int i);

#endif
