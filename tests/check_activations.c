/* check_activations.c - the rounding of inputs that llama.cpp's CPU backend
 * does: by hand for small blocks, and a product with it against the same
 * product of values rounded beforehand.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "model/activations.h"
#include "model/linear.h"

/* n values, the first ones given, the rest 0. */
static void fill(float *x, int n, const float *first, int k)
{
    memset(x, 0, (size_t)n * sizeof *x);
    memcpy(x, first, (size_t)k * sizeof *x);
}

START_TEST(thirty_two_values_share_a_half_float_scale)
{
    const float first[] = { -127, 1.5f, 2.5f, 0.4f, -0.6f, 127 };
    const float want[] = { -127, 2, 2, 0, -1, 127 };
    const bise_dtype kinds[] = { BISE_DTYPE_Q8_0, BISE_DTYPE_Q4_1,
                                 BISE_DTYPE_IQ4_NL, BISE_DTYPE_NVFP4 };
    float x[64], y[64];
    fill(x, 64, first, 6);
    x[32] = 1000;               /* 1000 / 127 is no half float */
    bise_round_activations(kinds[_i], y, x, 64);
    ck_assert_mem_eq(y, want, sizeof want);
    ck_assert_float_eq(y[31], 0);
    ck_assert_float_eq(y[32], 127 * 7.875f);
}
END_TEST

START_TEST(two_hundred_and_fifty_six_values_share_a_float_scale)
{
    /* the largest is negative or positive: it becomes -127 either way, and
     * its opposite stops at 127 */
    const float first[] = { -254, 3, 5, 254, 1 };
    const float want[] = { -254, 4, 4, 254, 0 };
    const bise_dtype kinds[] = { BISE_DTYPE_Q4_K, BISE_DTYPE_Q6_K,
                                 BISE_DTYPE_IQ4_XS, BISE_DTYPE_TQ2_0 };
    float x[512], y[512];
    fill(x, 512, first, 5);
    bise_round_activations(kinds[_i], y, x, 512);
    ck_assert_mem_eq(y, want, sizeof want);
    for (int i = 256; i < 512; i++)
        ck_assert_float_eq(y[i], 0);
}
END_TEST

START_TEST(float_weights_keep_their_own_precision)
{
    const float x[4] = { 1.00048828125f, 1.001f, -3.14159f, 0 };
    float y[4];
    bise_round_activations(BISE_DTYPE_F32, y, x, 4);
    ck_assert_mem_eq(x, y, sizeof x);
    bise_round_activations(BISE_DTYPE_F16, y, x, 4);
    ck_assert_float_eq(y[0], 1);        /* half way: to even */
    ck_assert_float_eq(y[1], 1.0009765625f);
    bise_round_activations(BISE_DTYPE_BF16, y, x, 4);
    ck_assert_float_eq(y[1], 1);
    ck_assert_float_eq(y[2], -3.140625f);
}
END_TEST

/* y of a group with rounded inputs against each linear alone. */
START_TEST(each_linear_of_a_group_rounds_by_its_type)
{
    enum { IN = 256, OUT = 5, T = 3 };
    float w[OUT * IN], x[T * IN], room[T * IN], rounded[T * IN];
    float both[2][T * OUT], alone[T * OUT];
    uint8_t q8[OUT * IN / 32 * 34], q4[OUT * IN / 256 * 144];
    for (int i = 0; i < OUT * IN; i++)
        w[i] = bise_rng_f32(1, 2, (uint64_t)i) - 0.5f;
    for (int i = 0; i < T * IN; i++)
        x[i] = bise_rng_f32(1, 3, (uint64_t)i) - 0.5f;
    bise_codec_get(BISE_DTYPE_Q8_0)->encode(q8, w, OUT, IN, NULL);
    bise_codec_get(BISE_DTYPE_Q4_K)->encode(q4, w, OUT, IN, NULL);
    bise_linear l[2] = {
        { .in = IN, .out = OUT, .dtype = BISE_DTYPE_Q8_0, .data = q8,
          .row_bytes = IN / 32 * 34,
          .decode = bise_codec_get(BISE_DTYPE_Q8_0)->decode },
        { .in = IN, .out = OUT, .dtype = BISE_DTYPE_Q4_K, .data = q4,
          .row_bytes = 144,
          .decode = bise_codec_get(BISE_DTYPE_Q4_K)->decode },
    };
    float scratch[1 << 16];
    bise_exec e = { .k = bise_kernels_get(), .scratch = scratch,
                    .scratch_floats = 1 << 16 };
    for (int i = 0; i < 2; i++)
        ck_assert_uint_le(bise_linear_scratch(&l[i]), 1 << 16);
    e.rounded = room;
    bise_linears_forward(&e, l, 2, (float *[]){ both[0], both[1] }, x, T,
                         NULL, false);
    e.rounded = NULL;
    for (int i = 0; i < 2; i++) {
        bise_round_activations(l[i].dtype, rounded, x, T * IN);
        ck_assert_mem_ne(rounded, x, sizeof x);
        bise_linears_forward(&e, &l[i], 1, (float *[]){ alone }, rounded, T,
                             NULL, false);
        ck_assert_mem_eq(both[i], alone, sizeof alone);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("activations");
    TCase *t = tcase_create("rounding");
    tcase_add_loop_test(t, thirty_two_values_share_a_half_float_scale, 0, 4);
    tcase_add_loop_test(t,
                        two_hundred_and_fifty_six_values_share_a_float_scale,
                        0, 4);
    tcase_add_test(t, float_weights_keep_their_own_precision);
    tcase_add_test(t, each_linear_of_a_group_rounds_by_its_type);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
