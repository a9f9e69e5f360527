/* nf4_slots.c - the NF4 slots of every CPU level of this machine, and the
 * decoders of block types to bf16, against the scalar references: 16 kinds of
 * input, all small lengths, unaligned pointers, guard bytes. Bits are equal.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/rng.h"
#include "kernels/codec.h"
#include "kernels/dynmap.h"
#include "kernels/nf4.h"
#include "kernels/panel.h"
#include "tests/check_main.h"
#include "tests/kernelcheck/inputs.h"

enum { MAX_BYTES = 68, GUARD = 64, PATTERN = 0xa5, BLOCKS = 40 };

START_TEST(lookups_equal_the_reference)
{
    bise_nf4_ops ref, o;
    uint8_t codes[MAX_BYTES + 1];
    float want[2 * MAX_BYTES], got[2 * MAX_BYTES + 2];
    bise_nf4_ops_init(&ref, BISE_CPU_REF);
    bise_nf4_ops_init(&o, (bise_cpu)_i);
    for (size_t n = 0; n < MAX_BYTES; n++) {
        for (size_t i = 0; i < sizeof codes; i++)
            codes[i] = (uint8_t)bise_rng_u64(n, 1, i);
        const float scale = ldexpf(bise_rng_f32(n, 2, 0), (int)n - 30);
        got[0] = got[2 * n + 1] = 12345;
        ref.lookup(want, codes + 1, n, bise_nf4_map, scale);
        o.lookup(got + 1, codes + 1, n, bise_nf4_map, scale);
        ck_assert(got[0] == 12345 && got[2 * n + 1] == 12345);
        for (size_t i = 0; i < 2 * n; i++)
            ck_assert_msg(bise_f32_bits(want[i]) == bise_f32_bits(got[i + 1]),
                          "%zu bytes, weight %zu", n, i);
    }
}
END_TEST

START_TEST(encoders_equal_the_reference)
{
    static float x[BLOCKS * BISE_NF4_BLOCK + 1];
    bise_nf4_ops ref, o;
    bise_nf4_ops_init(&ref, BISE_CPU_REF);
    bise_nf4_ops_init(&o, (bise_cpu)_i);
    for (int kind = 0; kind < INPUT_KINDS; kind++) {
        input_fill(x, BLOCKS * BISE_NF4_BLOCK + 1, kind, 5);
        for (int b = 0; b < BLOCKS; b++) {
            const float *at = x + b * BISE_NF4_BLOCK + b % 2;
            uint8_t want[32], got[34];
            memset(got, PATTERN, sizeof got);
            const float a = ref.encode(want, at), c = o.encode(got + 1, at);
            ck_assert_uint_eq(bise_f32_bits(a), bise_f32_bits(c));
            ck_assert_msg(memcmp(want, got + 1, 32) == 0, "%s, block %d",
                          input_name(kind), b);
            ck_assert(got[0] == PATTERN && got[33] == PATTERN);
        }
    }
}
END_TEST

START_TEST(weights_on_midpoints_go_down)
{
    bise_nf4_ops ref, o;
    uint8_t want[32], got[32];
    float x[BISE_NF4_BLOCK] = { 0 };
    bise_nf4_ops_init(&ref, BISE_CPU_REF);
    bise_nf4_ops_init(&o, (bise_cpu)_i);
    for (int i = 0; i < 15; i++) {
        const float m = (bise_nf4_map[i] + bise_nf4_map[i + 1]) / 2;
        x[3 * i] = m;
        x[3 * i + 1] = nextafterf(m, 2);
        x[3 * i + 2] = nextafterf(m, -2);
    }
    x[63] = -1;
    ref.encode(want, x);
    o.encode(got, x);
    ck_assert_mem_eq(want, got, 32);
    for (int i = 0; i < 45; i++) {
        const int code = i % 2 ? want[i / 2] & 15 : want[i / 2] >> 4;
        ck_assert_int_eq(code, i / 3 + (i % 3 == 1));
    }
}
END_TEST

START_TEST(values_that_are_not_finite_show_in_absmax)
{
    static const float bad[] = { NAN, -NAN, INFINITY, -INFINITY };
    bise_nf4_ops o;
    uint8_t codes[32];
    float x[BISE_NF4_BLOCK];
    bise_nf4_ops_init(&o, (bise_cpu)_i);
    for (size_t k = 0; k < 4; k++)
        for (int at = 0; at < BISE_NF4_BLOCK; at += 7) {
            input_fill(x, BISE_NF4_BLOCK, 0, 3);
            x[at] = bad[k];
            ck_assert(!isfinite(o.encode(codes, x)));
        }
}
END_TEST

START_TEST(ranges_decode_like_the_whole)
{
    enum { N = 64 * 5 + 37 };
    static float x[N], whole[N], part[N];
    uint8_t codes[N / 2 + 1], codes8[6];
    float absmax[6], nested[1];
    bise_dynmap map;
    bise_dynmap_init(&map, true);
    input_fill(x, N, 0, 8);
    ck_assert_uint_eq(bise_nf4_encode(codes, absmax, x, N), 6);
    bise_nf4 q = { .n = N, .block = 64, .nested_block = 256, .codes = codes,
                   .map = bise_nf4_map, .absmax = absmax };
    for (int twice = 0; twice < 2; twice++) {
        bise_nf4_decode(&q, 0, N, whole);
        for (int first = 0; first < N; first += 3)
            for (int n = 0; first + n <= N; n += 13) {
                part[n] = 7;
                bise_nf4_decode(&q, (uint64_t)first, (size_t)n, part);
                ck_assert(memcmp(part, whole + first,
                                 (size_t)n * sizeof *part) == 0);
                ck_assert(n == N || part[n] == 7);
            }
        for (int i = 0; i < N; i++)
            ck_assert_float_eq_tol(whole[i], x[i], 0.12f);
        if (!twice)
            q.offset = bise_nf4_nest(codes8, nested, absmax, 6, &map);
        q.absmax = nested;
        q.absmax8 = codes8;
        q.nested_map = map.value;
    }
}
END_TEST

/* Bytes of some rows of a type: encoded weights, or anything at all. */
static void make_bytes(uint8_t *out, bise_dtype t, size_t n, int kind)
{
    static float x[4096];
    const size_t size = (size_t)bise_dtype_bytes(t, n);
    input_fill(x, n, kind, 9);
    bise_codec_get(t)->encode(out, x, 1, n, NULL);
    for (size_t i = 0; kind == 0 && i < size; i++)
        out[i] = (uint8_t)bise_rng_u64(4, 4, i);
}

START_TEST(decoders_to_bf16_equal_decoding_and_rounding)
{
    static uint8_t bytes[4096 * 4 + 1];
    static float f[4096];
    static uint16_t want[4096 + 32], got[4096 + 2];
    bise_panel_ops o;
    bise_panel_ops_init(&o, bise_cpu_level());
    const bise_dtype t = (bise_dtype)_i;
    if (!o.decode_bf16[t])
        return;
    const size_t block = bise_dtype_get(t)->block_len;
    for (int kind = 0; kind < INPUT_KINDS; kind++) {
        if (t == BISE_DTYPE_MXFP4 && kind == 10)
            continue;
        make_bytes(bytes + 1, t, 4096 / 4, kind);
        for (size_t n = 0; n <= 1024; n += block) {
            bise_codec_get(t)->decode(f, bytes + 1, n);
            o.round_bf16(want, f, n);
            got[0] = got[n + 1] = PATTERN;
            o.decode_bf16[t](got + 1, bytes + 1, n);
            ck_assert(got[0] == PATTERN && got[n + 1] == PATTERN);
            for (size_t i = 0; i < n; i++)
                ck_assert_msg(want[i] == got[i + 1] ||
                              (isnan(bise_bf16_to_f32(want[i])) &&
                               isnan(bise_bf16_to_f32(got[i + 1]))),
                              "%s, %s: weight %zu is %04x, not %04x (%a)",
                              bise_dtype_get(t)->name, input_name(kind), i,
                              got[i + 1], want[i], (double)f[i]);
        }
    }
}
END_TEST

START_TEST(lookups_to_bf16_equal_decoding_and_rounding)
{
    uint8_t codes[MAX_BYTES + 1];
    float f[2 * MAX_BYTES];
    uint16_t want[2 * MAX_BYTES + 32], got[2 * MAX_BYTES + 2];
    bise_panel_ops o;
    bise_panel_ops_init(&o, bise_cpu_level());
    for (size_t n = 0; n < MAX_BYTES && o.lookup_bf16; n++) {
        for (size_t i = 0; i < sizeof codes; i++)
            codes[i] = (uint8_t)bise_rng_u64(n, 1, i);
        const float scale = 0.01f + bise_rng_f32(n, 2, 0);
        bise_nf4_ops_get()->lookup(f, codes + 1, n, bise_nf4_map, scale);
        o.round_bf16(want, f, 2 * n);
        got[0] = got[2 * n + 1] = PATTERN;
        o.lookup_bf16(got + 1, codes + 1, n, bise_nf4_map, scale);
        ck_assert(got[0] == PATTERN && got[2 * n + 1] == PATTERN);
        ck_assert_mem_eq(want, got + 1, 4 * n);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("nf4 slots");
    TCase *t = tcase_create("slots");
    const int levels = (int)bise_cpu_level() + 1;
    tcase_add_loop_test(t, lookups_equal_the_reference, 0, levels);
    tcase_add_loop_test(t, encoders_equal_the_reference, 0, levels);
    tcase_add_loop_test(t, weights_on_midpoints_go_down, 0, levels);
    tcase_add_loop_test(t, values_that_are_not_finite_show_in_absmax, 0,
                        levels);
    tcase_add_test(t, ranges_decode_like_the_whole);
    tcase_add_loop_test(t, decoders_to_bf16_equal_decoding_and_rounding, 0,
                        BISE_DTYPE_COUNT);
    tcase_add_test(t, lookups_to_bf16_equal_decoding_and_rounding);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
