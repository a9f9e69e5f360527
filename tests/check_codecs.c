/* check_codecs.c - the reference block codecs against the hashes of gguf.md
 * 12, and the blocks where formats surprise: zeros, ties, extremes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "kernels/codec.h"
#include "tests/check_main.h"

enum { ROWS = 64, COLS = 512, N = ROWS * COLS };

/* FNV-1a, 64 bits. */
static uint64_t fnv(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* The input of gguf.md 12: cubes of uniform values, every 11th group zero. */
static void test_input(float *v, float *q)
{
    uint32_t s = 12345;
    for (int i = 0; i < N; i++) {
        s = s * 1664525u + 1013904223u;
        const float u = (float)((int)(s >> 16) - 32768) / 32768;
        float cube = u * u;
        cube = cube * u;
        v[i] = i / 16 % 11 == 5 ? 0 : cube * 0.125f;
    }
    for (int i = 0; i < COLS; i++) {
        s = s * 1664525u + 1013904223u;
        q[i] = 1 + (float)(s >> 24) / 64;
    }
}

static const struct hashes {
    const char *type;
    uint64_t plain, weighted, decoded; /* weighted 0: as plain */
} table[] = {
    { "F16", 0xe467314494e47459, 0, 0x1d43b84a730efddf },
    { "BF16", 0x2ceab8c47c3ee3dd, 0, 0x44122b101be3ce6d },
    { "Q4_0", 0x0bb36f3d2f807c41, 0x162f59b82d424b27, 0xddcb9112442e3980 },
    { "Q4_1", 0x354b3502ed4ab3e8, 0xe820f7373be04c33, 0xeae9a29b029f1088 },
    { "Q5_0", 0xac82ab263ad26fb9, 0x60cfa997718e4ba5, 0x31b1d922098a6052 },
    { "Q5_1", 0x63fc14a9dbb49bfa, 0x18b769c32960d2bb, 0x7d8e74b04aa78bf8 },
    { "Q8_0", 0xa8a7de9d417a17f7, 0, 0xc3abc3567938437d },
    { "IQ4_NL", 0x904e2687fb0e9dc9, 0xe69740a7a4b3a840, 0xb0185316e7eeb4f5 },
    { "Q2_K", 0xe300d0fd88d8fee7, 0x3171e68b6a282261, 0x639855c6a6e1b4b3 },
    { "Q3_K", 0x233bde209bb336ae, 0x2582c350a683f90d, 0xb64ddc9ee06cc08f },
    { "Q4_K", 0x0e94bd991f22af2f, 0x923ee62615421454, 0xb13c09d4eb26c63e },
    { "Q5_K", 0xb836627c703bf1c3, 0x0f1ab5012df8ced4, 0x19ad1913c7904e62 },
    { "Q6_K", 0x059dc54062c10b99, 0xf3dc1316560d5a51, 0x4562ec846b3cbc03 },
    { "IQ4_XS", 0xaa6bf6e1fb2abf3f, 0x92837fb46c8e7fab, 0xcce0d183c128fbde },
    { "MXFP4", 0x4cedce339f09e220, 0, 0xb26294bc59ebbc55 },
    { "NVFP4", 0x449c3e7dd8f4a083, 0, 0x19e633803d09517d },
    { "TQ1_0", 0x32203e91d5431a44, 0, 0xb91e215e51be8184 },
    { "TQ2_0", 0x4734c093aa5a9a0b, 0, 0xb91e215e51be8184 },
};

static bise_codec codec_of(const char *type, bise_cpu level)
{
    bise_codec codecs[BISE_DTYPE_COUNT];
    bise_codecs_init(codecs, level);
    return codecs[bise_dtype_by_name(type)];
}

START_TEST(bytes_equal_the_published_hashes)
{
    static float v[N], q[COLS], back[N];
    static uint8_t out[N * 4];
    const struct hashes *h = &table[_i];
    test_input(v, q);
    ck_assert_uint_eq(fnv(v, sizeof v), 0x086daa5723015c10u);
    ck_assert_uint_eq(fnv(q, sizeof q), 0x93075e9e50f042cfu);
    const size_t size = bise_dtype_bytes(bise_dtype_by_name(h->type), N);
    for (int level = 0; level <= (int)bise_cpu_level(); level++) {
        const bise_codec c = codec_of(h->type, (bise_cpu)level);
        c.encode(out, v, ROWS, COLS, q);
        ck_assert_msg(fnv(out, size) == (h->weighted ? h->weighted : h->plain),
                      "%s with imatrix, level %d", h->type, level);
        c.encode(out, v, ROWS, COLS, NULL);
        ck_assert_msg(fnv(out, size) == h->plain, "%s, level %d", h->type,
                      level);
        c.decode(back, out, N);
        ck_assert_msg(fnv(back, sizeof back) == h->decoded,
                      "%s decoded, level %d", h->type, level);
    }
}
END_TEST

START_TEST(zero_blocks_have_their_odd_bytes)
{
    static const float zero[256];
    uint8_t out[256], want[256];
    const bise_codec q4 = codec_of("Q4_0", bise_cpu_level());
    q4.encode(out, zero, 1, 32, NULL);
    memset(want, 0x88, 18);
    want[0] = 0, want[1] = 0x80;    /* the scale is -0 */
    ck_assert_mem_eq(out, want, 18);
    codec_of("Q5_0", bise_cpu_level()).encode(out, zero, 1, 32, NULL);
    memset(want, 0, 22);
    want[1] = 0x80;
    memset(want + 2, 0xff, 4);
    ck_assert_mem_eq(out, want, 22);
    codec_of("IQ4_NL", bise_cpu_level()).encode(out, zero, 1, 32, NULL);
    memset(want, 0x88, 18);
    want[0] = want[1] = 0;
    ck_assert_mem_eq(out, want, 18);
    codec_of("Q6_K", bise_cpu_level()).encode(out, zero, 1, 256, NULL);
    memset(want, 0, 210);
    ck_assert_mem_eq(out, want, 210);
}
END_TEST

START_TEST(every_type_decodes_zero_rows_to_zero)
{
    static float zero[512], back[512];
    uint8_t out[2048];
    for (int t = 0; t < BISE_DTYPE_COUNT; t++) {
        const bise_codec c =
            codec_of(bise_dtype_get((bise_dtype)t)->name, bise_cpu_level());
        if (!c.encode)
            continue;
        c.encode(out, zero, 1, 512, NULL);
        c.decode(back, out, 512);
        for (int i = 0; i < 512; i++)
            ck_assert_msg(back[i] == 0, "%s at %d: %g",
                          bise_dtype_get((bise_dtype)t)->name, i, back[i]);
    }
}
END_TEST

START_TEST(mxfp4_covers_the_whole_exponent_range)
{
    uint8_t block[17] = { 0 };
    float y[32];
    memset(block + 1, 0x11, 16);    /* code 1: half of the scale unit */
    const bise_codec c = codec_of("MXFP4", bise_cpu_level());
    for (int e = 0; e < 255; e++) {
        block[0] = (uint8_t)e;
        c.decode(y, block, 32);
        ck_assert_msg(y[0] == ldexpf(1, e - 128) && y[31] == y[0], "e %d", e);
    }
}
END_TEST

START_TEST(e4m3_decodes_every_code)
{
    uint8_t code[256];
    float y[256];
    for (int i = 0; i < 256; i++)
        code[i] = (uint8_t)i;
    codec_of("F8_E4M3", bise_cpu_level()).decode(y, code, 256);
    for (int i = 0; i < 128; i++) {
        const int e = i >> 3, m = i & 7;
        const float want = e ? ldexpf((float)(8 + m), e - 10) :
                               ldexpf((float)m, -9);
        if (i == 127) {
            ck_assert(isnan(y[127]) && isnan(y[255]));
            continue;
        }
        ck_assert_msg(y[i] == want && y[i + 128] == -want, "code %d", i);
    }
    ck_assert(signbit(y[128]) && y[0x7e] == 448.0f);
}
END_TEST

START_TEST(ternary_rows_survive)
{
    float x[256], back[256];
    uint8_t out[66];
    for (int i = 0; i < 256; i++)
        x[i] = (float)(i * 7 % 3 - 1) * 0.5f;
    static const char *const types[] = { "TQ1_0", "TQ2_0" };
    for (int t = 0; t < 2; t++) {
        const bise_codec c = codec_of(types[t], bise_cpu_level());
        c.encode(out, x, 1, 256, NULL);
        c.decode(back, out, 256);
        ck_assert_mem_eq(back, x, sizeof x);
    }
}
END_TEST

START_TEST(types_without_codec_have_no_slots)
{
    ck_assert_ptr_null(codec_of("IQ2_XS", bise_cpu_level()).decode);
    ck_assert_ptr_null(codec_of("F8_E4M3", bise_cpu_level()).encode);
    ck_assert_ptr_nonnull(bise_codec_get(BISE_DTYPE_Q4_K)->encode);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("codecs");
    TCase *t = tcase_create("codecs");
    tcase_add_loop_test(t, bytes_equal_the_published_hashes, 0,
                        (int)(sizeof table / sizeof table[0]));
    tcase_add_test(t, zero_blocks_have_their_odd_bytes);
    tcase_add_test(t, every_type_decodes_zero_rows_to_zero);
    tcase_add_test(t, mxfp4_covers_the_whole_exponent_range);
    tcase_add_test(t, e4m3_decodes_every_code);
    tcase_add_test(t, ternary_rows_survive);
    tcase_add_test(t, types_without_codec_have_no_slots);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
