/* check_search.c - properties of the scale searches and packings behind the
 * encoders: what they may never do, checked on random and hand-made blocks
 * (the bytes themselves are compared by check_codecs and oracle_codecs.py).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "kernels/block.h"
#include "kernels/codec.h"
#include "kernels/ref/fp4.h"
#include "kernels/ref/rounding.h"
#include "kernels/ref/search.h"
#include "tests/check_main.h"
#include "tests/kernelcheck/inputs.h"

enum { TRIALS = 200 };

START_TEST(nearest_int_rounds_half_to_even)
{
    static const struct { float v; int want; } cases[] = {
        { 0, 0 }, { -0.0f, 0 }, { 0.5f, 0 }, { 1.5f, 2 }, { 2.5f, 2 },
        { -0.5f, 0 }, { -1.5f, -2 }, { -2.5f, -2 }, { 0.49999997f, 0 },
        { 4194303, 4194303 }, { -4194303, -4194303 }
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ck_assert_int_eq(bise_nearest_int(cases[i].v), cases[i].want);
    for (int i = -5000; i < 5000; i++)
        ck_assert_int_eq(bise_nearest_int((float)i / 7),
                         (int)lrintf((float)i / 7));
}
END_TEST

START_TEST(truncation_outside_of_an_int_is_zero_in_a_byte)
{
    ck_assert_int_eq(bise_trunc_i8(INFINITY), 0);
    ck_assert_int_eq(bise_trunc_i8(-INFINITY), 0);
    ck_assert_int_eq(bise_trunc_i8(NAN), 0);
    ck_assert_int_eq(bise_trunc_i8(-127.9f), -127);
    ck_assert_int_eq(bise_trunc_i32(3e9f), INT32_MIN);
    ck_assert(bise_inverse(0) == 0 && bise_inverse(-4) == -0.25f);
}
END_TEST

/* Weighted squared error of x against scale (L - offset) + min. */
static double error_of(const float *x, const float *w, const uint8_t *L, int n,
                       double scale, double min, int offset)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const double d = scale * (L[i] - offset) + min - x[i];
        sum += (w ? w[i] : (double)x[i] * x[i]) * d * d;
    }
    return sum;
}

/* What float32 rounding of the scale and the sums may add to an error. */
static double rounding(const float *x, const float *w, int n)
{
    double power = 0;
    for (int i = 0; i < n; i++)
        power += (w ? w[i] : (double)x[i] * x[i]) * x[i] * x[i];
    return 1e-12 * power;
}

START_TEST(symmetric_search_beats_the_plain_scale)
{
    float x[32];
    uint8_t L[32], plain[32];
    for (int t = 0; t < TRIALS; t++) {
        input_fill(x, 32, t % INPUT_KINDS, (uint64_t)t);
        const float max = bise_signed_max(x, 32);
        const float d = bise_search_qx(32, 8, x, NULL, L);
        if (fabsf(max) < BISE_QUANT_EPS) {
            ck_assert(d == 0 && L[0] == 0 && L[31] == 0);
            continue;
        }
        const float id = -8 / max;
        for (int i = 0; i < 32; i++) {
            const int l = bise_nearest_int(x[i] * id);
            plain[i] = (uint8_t)(bise_clamp_int(l, -8, 7) + 8);
        }
        const double got = error_of(x, NULL, L, 32, d, 0, 8);
        const double was = error_of(x, NULL, plain, 32, 1 / (double)id, 0, 8);
        ck_assert_msg(got <= was * 1.0001 + rounding(x, NULL, 32), "%s: %g > %g",
                      input_name(t % INPUT_KINDS), got, was);
        for (int i = 0; i < 32; i++)
            ck_assert_int_lt(L[i], 16);
    }
}
END_TEST

START_TEST(asymmetric_search_beats_the_plain_range)
{
    static const bise_qkx p = { 32, 15, -1.0f, 0.1f, 20, false };
    float x[32], w[32], min;
    uint8_t L[32], plain[32];
    for (int t = 0; t < TRIALS; t++) {
        input_fill(x, 32, t % INPUT_KINDS, 77 + (uint64_t)t);
        float lo = 0, hi = x[0];
        for (int i = 0; i < 32; i++) {
            w[i] = 1 + (float)(i % 5);
            lo = x[i] < lo ? x[i] : lo;
            hi = x[i] > hi ? x[i] : hi;
        }
        const float d = bise_search_qkx(&p, x, w, &min, L);
        ck_assert(min >= 0 && d >= 0);
        if (!(hi > lo) || !isfinite(15 / (hi - lo)))
            continue;
        const float id = 15 / (hi - lo);
        for (int i = 0; i < 32; i++)
            plain[i] = (uint8_t)bise_clamp_int(
                bise_nearest_int(id * (x[i] - lo)), 0, 15);
        const double got = error_of(x, w, L, 32, d, -min, 0);
        const double was = error_of(x, w, plain, 32, 1 / (double)id, lo, 0);
        ck_assert_msg(got <= was * 1.001 + rounding(x, w, 32),
                      "%s: %g > %g", input_name(t % INPUT_KINDS), got, was);
    }
}
END_TEST

START_TEST(equal_weights_give_scale_zero_and_their_minimum)
{
    static const bise_qkx p = { 16, 3, -0.5f, 0.1f, 15, true };
    float x[16], w[16], min;
    uint8_t L[16];
    for (int i = 0; i < 16; i++)
        x[i] = -2.5f, w[i] = 1;
    ck_assert(bise_search_qkx(&p, x, w, &min, L) == 0);
    ck_assert(min == 2.5f && L[0] == 0 && L[15] == 0);
    /* above zero the minimum is 0 and the values need a scale */
    for (int i = 0; i < 16; i++)
        x[i] = 2.5f;
    const float d = bise_search_qkx(&p, x, w, &min, L);
    ck_assert(min == 0 && fabsf(d * (float)L[7] - 2.5f) < 1e-6f);
}
END_TEST

START_TEST(descent_does_not_lose_to_its_start)
{
    float x[16];
    uint8_t L[16];
    for (int t = 0; t < TRIALS; t++) {
        input_fill(x, 16, t % INPUT_KINDS, 900 + (uint64_t)t);
        const float max = bise_signed_max(x, 16);
        const float d = bise_search_q3(16, 4, x, L);
        if (fabsf(max) < BISE_QUANT_EPS) {
            ck_assert(d == 0);
            continue;
        }
        uint8_t start[16];
        double slx = 0, sl2 = 0;
        for (int i = 0; i < 16; i++) {
            const int l = bise_clamp_int(bise_nearest_int(-4 / max * x[i]), -4,
                                         3);
            start[i] = (uint8_t)(l + 4);
            slx += (double)x[i] * x[i] * x[i] * l;
            sl2 += (double)x[i] * x[i] * l * l;
        }
        const double got = error_of(x, NULL, L, 16, d, 0, 4);
        const double was = error_of(x, NULL, start, 16, slx / sl2, 0, 4);
        ck_assert_msg(got <= was * 1.001 + rounding(x, NULL, 16), "%s: %g > %g",
                      input_name(t % INPUT_KINDS), got, was);
    }
}
END_TEST

START_TEST(scales_of_scales_stay_in_range)
{
    float x[16], w[16];
    uint8_t L[16];
    for (int t = 0; t < TRIALS; t++) {
        input_fill(x, 16, 11, (uint64_t)t);     /* positive */
        for (int i = 0; i < 16; i++)
            w[i] = 1;
        const float d = bise_search_qp(16, 15, x, w, L);
        double err = 0, power = 0;
        for (int i = 0; i < 16; i++) {
            ck_assert_int_le(L[i], 15);
            err += pow(d * (double)L[i] - (double)x[i], 2);
            power += (double)x[i] * x[i];
        }
        ck_assert_msg(err < 0.01 * power, "%g of %g", err, power);
        const float plain = bise_linear_codes(L, x, 16, 63);
        ck_assert(plain > 0);
        for (int i = 0; i < 16; i++)
            ck_assert_msg(fabsf(plain * (float)L[i] - x[i]) <= plain * 0.501f,
                          "scale %d", i);
    }
    memset(x, 0, sizeof x);
    ck_assert(bise_search_qp(16, 15, x, w, L) == 0 && L[3] == 0);
    ck_assert(bise_linear_codes(L, x, 16, 15) == 0 && L[3] == 0);
}
END_TEST

START_TEST(iq4_index_is_the_nearest_value)
{
    static const int8_t C[16] = BISE_IQ4_VALUES;
    for (int i = -1400; i <= 1400; i++) {
        const float v = (float)i / 10;
        const int got = bise_iq4_nearest(v);
        for (int c = 0; c < 16; c++)
            if (fabsf(v - C[c]) < fabsf(v - C[got]))
                ck_abort_msg("%g: %d is nearer than %d", v, C[c], C[got]);
    }
    ck_assert_int_eq(bise_iq4_nearest(-4.5f), 8);   /* a tie takes the upper */
    ck_assert_int_eq(bise_iq4_nearest(1e30f), 15);
    ck_assert_int_eq(bise_iq4_nearest(-1e30f), 0);
}
END_TEST

START_TEST(e2m1_codes_take_the_first_of_equals)
{
    static const struct { float x; int code; } cases[] = {
        { 0, 0 }, { -0.0f, 0 }, { 0.5f, 0 }, { -0.5f, 0 }, { 0.51f, 1 },
        { -0.51f, 9 }, { 1.5f, 1 }, { 5, 4 }, { 5.1f, 5 }, { 7, 5 },
        { 10, 6 }, { 10.1f, 7 }, { 100, 7 }, { -100, 15 }
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t L;
        bise_e2m1_codes(&L, &cases[i].x, 1, 1);
        ck_assert_msg(L == cases[i].code, "%g: %d", cases[i].x, L);
    }
}
END_TEST

START_TEST(fp4_scales_follow_their_formats)
{
    for (int u = 0; u < 0x7f; u++)      /* every code below 256 survives */
        if (bise_ue4m3_to_f32((uint8_t)u) < 256)
            ck_assert_int_eq(bise_f32_to_ue4m3(bise_ue4m3_to_f32((uint8_t)u)),
                             u);
    ck_assert_int_eq(bise_f32_to_ue4m3(0), 0);
    ck_assert_int_eq(bise_f32_to_ue4m3(-1), 0);
    ck_assert_int_eq(bise_f32_to_ue4m3(1e9f), 0x7e);
    ck_assert(bise_ue4m3_to_f32(0x7f) == 0);
    ck_assert(bise_ue4m3_to_f32(0x38) == 1.0f);
    ck_assert_int_eq(bise_mxfp4_exponent(0), 0);
    for (int e = -100; e < 100; e++) {
        ck_assert_int_eq(bise_mxfp4_exponent(ldexpf(1, e)), e + 125);
        ck_assert_int_eq(bise_mxfp4_exponent(ldexpf(1.9f, e)), e + 125);
    }
}
END_TEST

START_TEST(packed_scales_come_back)
{
    uint8_t a[16], b[16], c[16], d[16], packed[12];
    for (int t = 0; t < 64; t++) {
        for (int i = 0; i < 16; i++) {
            a[i] = (uint8_t)((t * 7 + i * 13) % 64);
            b[i] = (uint8_t)((t * 5 + i * 29) % 64);
        }
        bise_pack_scales_k4(packed, a, b);
        bise_unpack_scales_k4(c, d, packed);
        ck_assert_mem_eq(a, c, 8);
        ck_assert_mem_eq(b, d, 8);
        bise_pack_scales_q3(packed, a);
        bise_unpack_scales_q3(c, packed);
        ck_assert_mem_eq(a, c, 16);
    }
}
END_TEST

/* Largest rms error of a normal row by type, as a share of its rms. */
static const struct { const char *type; double bound; } quality[] = {
    { "Q8_0", 0.006 }, { "Q6_K", 0.022 }, { "Q5_K", 0.04 }, { "Q5_1", 0.042 },
    { "Q5_0", 0.05 }, { "Q4_K", 0.08 }, { "Q4_1", 0.085 }, { "IQ4_NL", 0.085 },
    { "IQ4_XS", 0.085 }, { "Q4_0", 0.095 }, { "MXFP4", 0.13 },
    { "NVFP4", 0.11 }, { "Q3_K", 0.17 }, { "Q2_K", 0.32 }, { "BF16", 0.003 },
    { "F16", 0.0004 },
};

START_TEST(errors_stay_in_the_class_of_the_type)
{
    static float x[4096], y[4096];
    static uint8_t bytes[4096 * 4];
    input_fill(x, 4096, 0, 4711);
    const bise_codec *c = bise_codec_get(bise_dtype_by_name(quality[_i].type));
    c->encode(bytes, x, 4, 1024, NULL);
    c->decode(y, bytes, 4096);
    double err = 0, power = 0;
    for (int i = 0; i < 4096; i++) {
        err += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
        power += (double)x[i] * x[i];
    }
    const double rms = sqrt(err / power);
    ck_assert_msg(rms < quality[_i].bound && rms > quality[_i].bound / 4,
                  "%s: %g, expected below %g", quality[_i].type, rms,
                  quality[_i].bound);
}
END_TEST

START_TEST(importance_moves_error_to_unimportant_columns)
{
    static const char *const types[] = { "Q2_K", "Q3_K", "Q4_K", "Q4_0",
                                         "IQ4_NL", "Q5_1" };
    static float x[2048], q[512], y[2048];
    static uint8_t bytes[4096];
    double err[2];
    input_fill(x, 2048, 0, 12);
    for (int i = 0; i < 512; i++)
        q[i] = i % 2 ? 100 : 0.01f;
    const bise_codec *c = bise_codec_get(bise_dtype_by_name(types[_i]));
    for (int weighted = 0; weighted < 2; weighted++) {
        c->encode(bytes, x, 4, 512, weighted ? q : NULL);
        c->decode(y, bytes, 2048);
        err[weighted] = 0;
        for (int i = 1; i < 2048; i += 2)
            err[weighted] += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
    }
    ck_assert_msg(err[1] < err[0], "%s: %g with, %g without", types[_i],
                  err[1], err[0]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("search");
    TCase *t = tcase_create("search");
    tcase_add_test(t, nearest_int_rounds_half_to_even);
    tcase_add_test(t, truncation_outside_of_an_int_is_zero_in_a_byte);
    tcase_add_test(t, symmetric_search_beats_the_plain_scale);
    tcase_add_test(t, asymmetric_search_beats_the_plain_range);
    tcase_add_test(t, equal_weights_give_scale_zero_and_their_minimum);
    tcase_add_test(t, descent_does_not_lose_to_its_start);
    tcase_add_test(t, scales_of_scales_stay_in_range);
    tcase_add_test(t, iq4_index_is_the_nearest_value);
    tcase_add_test(t, e2m1_codes_take_the_first_of_equals);
    tcase_add_test(t, fp4_scales_follow_their_formats);
    tcase_add_test(t, packed_scales_come_back);
    tcase_add_loop_test(t, errors_stay_in_the_class_of_the_type, 0,
                        (int)(sizeof quality / sizeof quality[0]));
    tcase_add_loop_test(t, importance_moves_error_to_unimportant_columns, 0, 6);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
