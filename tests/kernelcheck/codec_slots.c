/* codec_slots.c - every codec of every CPU level of this machine against the
 * scalar reference: 16 kinds of input, all small row shapes, unaligned
 * pointers and guard bytes. Encoded bytes and decoded bits must be equal (a
 * NaN may be another NaN).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/rng.h"
#include "kernels/codec.h"
#include "tests/check_main.h"
#include "tests/kernelcheck/inputs.h"

enum { MAX_N = 9000, GUARD = 64, PATTERN = 0xa5 };

static float values[MAX_N + 4], importance[MAX_N + 4];
static uint8_t want[MAX_N * 4 + 2 * GUARD], got[MAX_N * 4 + 2 * GUARD];

/* Bytes around size bytes of got at offset from must be as they were set.
 * Check's assertions cost a write each, so loops assert only what failed. */
static void check_guards(size_t from, size_t size, const char *what)
{
    for (size_t i = 0; i < sizeof got; i++)
        if ((i < from || i >= from + size) && got[i] != PATTERN)
            ck_abort_msg("%s wrote byte %td of %zu", what,
                         (ptrdiff_t)(i - from), size);
}

/* One shape and input: encode by reference and by the level, compare. shift:
 * bytes by which the output is unaligned, floats for the input. */
static void check_encode(const bise_codec *ref, const bise_codec *c,
                         bise_dtype t, size_t rows, size_t cols, size_t shift,
                         const float *q, const char *kind)
{
    const size_t size = (size_t)bise_dtype_bytes(t, rows * cols);
    const char *name = bise_dtype_get(t)->name;
    memset(got, PATTERN, sizeof got);
    ref->encode(want, values + shift, rows, cols, q);
    c->encode(got + GUARD + shift, values + shift, rows, cols, q);
    for (size_t i = 0; i < size; i++)
        if (got[GUARD + shift + i] != want[i])
            ck_abort_msg("%s, %s%s, %zu x %zu, shift %zu: byte %zu is %02x, "
                         "not %02x", name, kind, q ? ", importance" : "", rows,
                         cols, shift, i, got[GUARD + shift + i], want[i]);
    check_guards(GUARD + shift, size, name);
}

/* Decode n weights of encoded bytes both ways. */
static void check_decode(const bise_codec *ref, const bise_codec *c,
                         bise_dtype t, const uint8_t *bytes, size_t n)
{
    static float a[MAX_N], b[MAX_N + GUARD];
    for (size_t i = 0; i < MAX_N + GUARD; i++)
        b[i] = 12345;
    ref->decode(a, bytes, n);
    c->decode(b + 3, bytes, n);
    for (size_t i = 0; i < n; i++)
        if (bise_f32_bits(a[i]) != bise_f32_bits(b[i + 3]) &&
            !(isnan(a[i]) && isnan(b[i + 3])))
            ck_abort_msg("%s: weight %zu of %zu is %a, not %a",
                         bise_dtype_get(t)->name, i, n, b[i + 3], a[i]);
    ck_assert(b[2] == 12345 && b[n + 3] == 12345);
}

/* Small numbers of blocks in rows and columns, odd ones among them. */
static const uint8_t shapes[][2] = { { 1, 1 }, { 1, 2 }, { 3, 1 }, { 1, 7 },
                                     { 5, 3 }, { 2, 8 }, { 1, 17 }, { 11, 3 } };
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void check_type(bise_dtype t, const bise_codec *ref,
                       const bise_codec *c)
{
    const size_t block = bise_dtype_get(t)->block_len;
    for (int kind = 0; kind < INPUT_KINDS; kind++) {
        input_fill(values, MAX_N, kind, 31 + (uint64_t)t);
        for (int s = 0; s < SHAPES; s++) {
            const size_t rows = shapes[s][0], cols = shapes[s][1] * block;
            const size_t shift = (size_t)(s + kind) % 4;
            if (rows * cols > MAX_N || (kind + s) % 2)
                continue;
            check_encode(ref, c, t, rows, cols, shift, NULL, input_name(kind));
            check_encode(ref, c, t, rows, cols, shift, importance,
                         input_name(kind));
            check_decode(ref, c, t, got + GUARD + shift, rows * cols);
        }
    }
}

START_TEST(encoders_and_decoders_equal_the_reference)
{
    bise_codec ref[BISE_DTYPE_COUNT], table[BISE_DTYPE_COUNT];
    bise_codecs_init(ref, BISE_CPU_REF);
    for (size_t i = 0; i < MAX_N; i++)
        importance[i] = bise_rng_f32(3, 0, i) * 4 + 0.01f;
    for (int level = 1; level <= (int)bise_cpu_level(); level++) {
        bise_codecs_init(table, (bise_cpu)level);
        const bise_codec *c = &table[_i];
        if (c->encode != ref[_i].encode ||
            (c->decode != ref[_i].decode && ref[_i].encode))
            check_type((bise_dtype)_i, &ref[_i], c);
    }
}
END_TEST

START_TEST(decoders_take_any_bytes)
{
    static uint8_t bytes[MAX_N * 4];
    bise_codec ref[BISE_DTYPE_COUNT], table[BISE_DTYPE_COUNT];
    const size_t block = bise_dtype_get((bise_dtype)_i)->block_len;
    bise_codecs_init(ref, BISE_CPU_REF);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)bise_rng_u64(9, 9, i);
    for (int level = 1; level <= (int)bise_cpu_level(); level++) {
        bise_codecs_init(table, (bise_cpu)level);
        if (table[_i].decode == ref[_i].decode)
            continue;
        for (size_t n = 0; n <= 67 && n * block <= MAX_N; n++)
            check_decode(&ref[_i], &table[_i], (bise_dtype)_i, bytes + 1 + n,
                         n * block);
    }
}
END_TEST

START_TEST(one_block_with_zero_importance_encodes)
{
    bise_codec ref[BISE_DTYPE_COUNT], table[BISE_DTYPE_COUNT];
    bise_codecs_init(ref, BISE_CPU_REF);
    input_fill(values, MAX_N, 0, 5);
    for (size_t i = 0; i < MAX_N; i++)
        importance[i] = i / 16 % 2 ? 0 : 1;
    for (int level = 1; level <= (int)bise_cpu_level(); level++) {
        bise_codecs_init(table, (bise_cpu)level);
        if (table[_i].encode == ref[_i].encode)
            continue;
        const size_t cols = 4 * (size_t)bise_dtype_get((bise_dtype)_i)->block_len;
        check_encode(&ref[_i], &table[_i], (bise_dtype)_i, 3, cols, 1,
                     importance, "normal");
        memset(importance, 0, sizeof importance);
        check_encode(&ref[_i], &table[_i], (bise_dtype)_i, 3, cols, 0,
                     importance, "all zero");
    }
}
END_TEST

/* Weights of any exponent between two, so that sums overflow or vanish: found
 * by the fuzzer to differ once (NaN scales of IQ4, distances of NVFP4). */
static void fill_exponents(int low, int high, uint64_t seed)
{
    for (size_t i = 0; i < MAX_N; i++) {
        const uint64_t r = bise_rng_u64(seed, 7, i);
        const int e = low + (int)(r % (uint64_t)(high - low));
        const float m = 1 + bise_rng_f32(seed, 8, i);
        values[i] = ldexpf(r >> 40 & 1 ? m : -m, e);
    }
}

START_TEST(blocks_that_overflow_have_the_same_bytes)
{
    static const int ranges[][2] = { { 30, 45 }, { -140, -100 }, { -60, 60 },
                                     { 0, 40 }, { -20, 20 } };
    bise_codec ref[BISE_DTYPE_COUNT], table[BISE_DTYPE_COUNT];
    bise_codecs_init(ref, BISE_CPU_REF);
    for (size_t i = 0; i < MAX_N; i++)
        importance[i] = bise_rng_f32(3, 1, i) * 4;
    for (int level = 1; level <= (int)bise_cpu_level(); level++) {
        bise_codecs_init(table, (bise_cpu)level);
        if (table[_i].encode == ref[_i].encode)
            continue;
        const size_t block = bise_dtype_get((bise_dtype)_i)->block_len;
        for (int r = 0; r < 5; r++) {
            fill_exponents(ranges[r][0], ranges[r][1], 60 + (uint64_t)r);
            check_encode(&ref[_i], &table[_i], (bise_dtype)_i, 5, 4 * block, 1,
                         NULL, "any exponent");
            check_encode(&ref[_i], &table[_i], (bise_dtype)_i, 5, 4 * block, 1,
                         importance, "any exponent");
        }
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("codec slots");
    TCase *t = tcase_create("slots");
    tcase_add_loop_test(t, encoders_and_decoders_equal_the_reference, 0,
                        BISE_DTYPE_COUNT);
    tcase_add_loop_test(t, decoders_take_any_bytes, 0, BISE_DTYPE_COUNT);
    tcase_add_loop_test(t, one_block_with_zero_importance_encodes, 0,
                        BISE_DTYPE_COUNT);
    tcase_add_loop_test(t, blocks_that_overflow_have_the_same_bytes, 0,
                        BISE_DTYPE_COUNT);
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
