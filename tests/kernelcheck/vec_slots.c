/* vec_slots.c - runs the checks of vec_check.c for the instruction sets of
 * this machine.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/cpu.h"
#include "tests/check_main.h"
#include "tests/kernelcheck/vec_check.h"

START_TEST(avx2_lanes_equal_scalar_code)
{
    char text[VEC_CHECK_TEXT];
    if (bise_cpu_level() < BISE_CPU_AVX2)
        return;
    const char *fault = vec_check_avx2(_i)(text);
    ck_assert_msg(!fault, "avx2: %s", fault);
}
END_TEST

START_TEST(avx512_lanes_equal_scalar_code)
{
    char text[VEC_CHECK_TEXT];
    if (bise_cpu_level() < BISE_CPU_AVX512)
        return;
    const char *fault = vec_check_avx512(_i)(text);
    ck_assert_msg(!fault, "avx512: %s", fault);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("vectors");
    TCase *t = tcase_create("vectors");
    tcase_add_loop_test(t, avx2_lanes_equal_scalar_code, 0, VEC_CHECKS);
    tcase_add_loop_test(t, avx512_lanes_equal_scalar_code, 0, VEC_CHECKS);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
