/* check_grid.c - tests of kernels/grid.h: for every type the values of a grid
 * are those that the decoder gives for any codes, packing the codes that a block
 * has changes nothing, scales survive packing, and the code chosen for a weight
 * is the nearest there is.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/rng.h"
#include "kernels/codec.h"
#include "kernels/grid.h"
#include "tests/check_main.h"

#define BLOCKS 32
#define BYTES 256 /* more than any block has */

/* Blocks of one type over weights of a kind: normal-like, tiny, one outlier,
 * all of one sign, zeros. */
typedef struct sample {
    const bise_grid *g;
    size_t len, bytes;
    float x[BLOCKS * BISE_GRID_BLOCK];
    float qw[BLOCKS * BISE_GRID_BLOCK];
    uint8_t y[BLOCKS * BYTES];
} sample;

static sample s;

static float weight(size_t block, size_t i)
{
    float v = 0;
    for (uint64_t k = 0; k < 4; k++)
        v += bise_rng_f32(3, block, 4 * i + k) - 0.5f;
    switch (block % 5) {
    case 1:
        return v * 1e-4f;
    case 2:
        return i % 97 == 5 ? v * 40 : v;
    case 3:
        return fabsf(v) + 0.1f;
    case 4:
        return block < 5 ? 0 : v;
    default:
        return v;
    }
}

/* Blocks of the type number n of the table, as the encoder makes them. */
static void make(int n, bool importance)
{
    s.g = bise_grid_at(n);
    ck_assert_ptr_nonnull(s.g);
    const bise_dtype_info *info = bise_dtype_get(s.g->dtype);
    s.len = info->block_len;
    s.bytes = info->block_bytes;
    ck_assert_uint_le(s.len, BISE_GRID_BLOCK);
    ck_assert_uint_le(s.bytes, BYTES);
    ck_assert_uint_le(s.len / (size_t)s.g->run, BISE_GRID_RUNS);
    for (size_t b = 0; b < BLOCKS; b++)
        for (size_t i = 0; i < s.len; i++) {
            s.x[b * s.len + i] = weight(b, i);
            s.qw[b * s.len + i] = 0.1f + bise_rng_f32(9, b, i);
        }
    bise_codec_get(s.g->dtype)->encode(s.y, s.x, BLOCKS, s.len,
                                       importance ? s.qw : NULL);
}

static void decode(float *out, const uint8_t *block)
{
    bise_codec_get(s.g->dtype)->decode(out, block, s.len);
}

static int types(void)
{
    int n = 0;
    while (bise_grid_at(n))
        n++;
    return n;
}

/* The types that quantization.md 4 names, and no others. */
START_TEST(the_table_has_the_types)
{
    static const bise_dtype with[] = {
        BISE_DTYPE_Q4_0, BISE_DTYPE_Q4_1, BISE_DTYPE_Q5_0, BISE_DTYPE_Q5_1,
        BISE_DTYPE_Q8_0, BISE_DTYPE_Q2_K, BISE_DTYPE_Q3_K, BISE_DTYPE_Q4_K,
        BISE_DTYPE_Q5_K, BISE_DTYPE_Q6_K, BISE_DTYPE_IQ4_NL, BISE_DTYPE_IQ4_XS,
    };
    static const bise_dtype without[] = {
        BISE_DTYPE_F32, BISE_DTYPE_F16, BISE_DTYPE_BF16, BISE_DTYPE_MXFP4,
        BISE_DTYPE_NVFP4, BISE_DTYPE_TQ1_0, BISE_DTYPE_TQ2_0,
    };
    for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
        const bise_grid *g = bise_grid_get(with[i]);
        ck_assert_msg(g != NULL, "%s", bise_dtype_get(with[i])->name);
        ck_assert_int_eq(g->dtype, with[i]);
    }
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        ck_assert_ptr_null(bise_grid_get(without[i]));
    ck_assert_int_eq(types(), (int)(sizeof with / sizeof *with));
    ck_assert_ptr_null(bise_grid_at(-1));
}
END_TEST

/* Any codes: what the decoder reads is what the grid says, bit for bit. */
START_TEST(packed_codes_decode_to_their_values)
{
    float d[BISE_GRID_RUNS], m[BISE_GRID_RUNS], out[BISE_GRID_BLOCK];
    uint8_t L[BISE_GRID_BLOCK];
    for (int imatrix = 0; imatrix < 2; imatrix++) {
        make(_i, imatrix);
        for (size_t b = 0; b < BLOCKS; b++) {
            uint8_t *block = s.y + b * s.bytes;
            s.g->scales(d, m, block);
            for (size_t i = 0; i < s.len; i++)
                L[i] = (uint8_t)bise_rng_below(5, b, i,
                                               (uint64_t)s.g->codes);
            s.g->pack(block, L);
            decode(out, block);
            for (size_t i = 0; i < s.len; i++) {
                const size_t run = i / (size_t)s.g->run;
                const float want = bise_grid_value(s.g, L[i], d[run], m[run]);
                ck_assert_msg(out[i] == want, "%s block %zu weight %zu: %g, "
                              "not %g", bise_dtype_get(s.g->dtype)->name, b, i,
                              (double)out[i], (double)want);
            }
        }
    }
}
END_TEST

/* Every code is reached, the scales are left alone. */
START_TEST(all_codes_fit_and_scales_stay)
{
    float d[BISE_GRID_RUNS], m[BISE_GRID_RUNS], out[BISE_GRID_BLOCK];
    float d2[BISE_GRID_RUNS], m2[BISE_GRID_RUNS];
    uint8_t L[BISE_GRID_BLOCK];
    const size_t block = 0;
    make(_i, true);
    const size_t runs = s.len / (size_t)s.g->run;
    s.g->scales(d, m, s.y + block);
    for (int code = 0; code < s.g->codes; code++) {
        memset(L, code, sizeof L);
        s.g->pack(s.y + block, L);
        s.g->scales(d2, m2, s.y + block);
        ck_assert_mem_eq(d, d2, runs * sizeof *d);
        ck_assert_mem_eq(m, m2, runs * sizeof *m);
        decode(out, s.y + block);
        for (size_t i = 0; i < s.len; i++)
            ck_assert(out[i] == bise_grid_value(s.g, (uint8_t)code,
                                                d[i / (size_t)s.g->run],
                                                m[i / (size_t)s.g->run]));
    }
}
END_TEST

/* The encoder's own codes, found again from the decoded weights, give the
 * block that was there. */
START_TEST(decoded_weights_keep_their_codes)
{
    float d[BISE_GRID_RUNS], m[BISE_GRID_RUNS];
    float was[BISE_GRID_BLOCK], is[BISE_GRID_BLOCK];
    uint8_t L[BISE_GRID_BLOCK];
    make(_i, true);
    for (size_t b = 0; b < BLOCKS; b++) {
        uint8_t *block = s.y + b * s.bytes;
        decode(was, block);
        s.g->scales(d, m, block);
        for (size_t i = 0; i < s.len; i++)
            L[i] = bise_grid_code(s.g, was[i], d[i / (size_t)s.g->run],
                                  m[i / (size_t)s.g->run]);
        s.g->pack(block, L);
        decode(is, block);
        for (size_t i = 0; i < s.len; i++)
            ck_assert_msg(is[i] == was[i], "%s block %zu weight %zu: %g, not "
                          "%g", bise_dtype_get(s.g->dtype)->name, b, i,
                          (double)is[i], (double)was[i]);
    }
}
END_TEST

/* No other code is nearer, also far outside of the range. */
START_TEST(the_code_is_the_nearest)
{
    float d[BISE_GRID_RUNS], m[BISE_GRID_RUNS];
    make(_i, true);
    for (size_t b = 0; b < BLOCKS; b++) {
        s.g->scales(d, m, s.y + b * s.bytes);
        for (size_t i = 0; i < s.len; i++) {
            const size_t run = i / (size_t)s.g->run;
            const float w = s.x[b * s.len + i] * (i % 7 == 3 ? 5 : 1);
            const uint8_t got = bise_grid_code(s.g, w, d[run], m[run]);
            ck_assert_int_lt(got, s.g->codes);
            const double off = fabs(
                (double)w - bise_grid_value(s.g, got, d[run], m[run]));
            for (int c = 0; c < s.g->codes; c++) {
                const double other = fabs(
                    (double)w - bise_grid_value(s.g, (uint8_t)c, d[run],
                                                m[run]));
                ck_assert_msg(off <= other * (1 + 1e-5) + 1e-9,
                              "%s: code %d is off by %g, %d by %g",
                              bise_dtype_get(s.g->dtype)->name, got, off, c,
                              other);
            }
        }
    }
}
END_TEST

/* Scales of nothing, and so small that the quotient overflows. */
START_TEST(odd_scales_give_codes_in_range)
{
    make(_i, false);
    const float tiny = 1e-42f;
    static const float w[] = { 0, 1, -1, 3e38f, -3e38f, 1e-40f };
    for (size_t i = 0; i < sizeof w / sizeof *w; i++) {
        const uint8_t none = bise_grid_code(s.g, w[i], 0, 0);
        ck_assert_int_lt(none, s.g->codes);
        ck_assert(bise_grid_value(s.g, none, 0, 0) == 0);
        ck_assert_int_lt(bise_grid_code(s.g, w[i], tiny, 0), s.g->codes);
        ck_assert_int_lt(bise_grid_code(s.g, w[i], -tiny, 0), s.g->codes);
    }
    /* the ends of the range, whatever the sign of the scale */
    const uint8_t top = bise_grid_code(s.g, 1e9f, 1, 0);
    const uint8_t low = bise_grid_code(s.g, -1e9f, 1, 0);
    ck_assert_int_eq(top, s.g->codes - 1);
    ck_assert_int_eq(low, 0);
    ck_assert_int_eq(bise_grid_code(s.g, 1e9f, -1, 0), 0);
    ck_assert_int_eq(bise_grid_code(s.g, -1e9f, -1, 0), s.g->codes - 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("grid");
    TCase *t = tcase_create("types");
    const int n = types();
    tcase_set_timeout(t, 120);
    tcase_add_test(t, the_table_has_the_types);
    tcase_add_loop_test(t, packed_codes_decode_to_their_values, 0, n);
    tcase_add_loop_test(t, all_codes_fit_and_scales_stay, 0, n);
    tcase_add_loop_test(t, decoded_weights_keep_their_codes, 0, n);
    tcase_add_loop_test(t, the_code_is_the_nearest, 0, n);
    tcase_add_loop_test(t, odd_scales_give_codes_in_range, 0, n);
    suite_add_tcase(all, t);
    return all;
}

BISE_CHECK_MAIN
