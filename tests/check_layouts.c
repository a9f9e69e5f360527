/* check_layouts.c - the bit layouts of gguf.md 4 written a second time, weight
 * by weight as the tables there say, against the decoders of every CPU level:
 * random bytes decode to the same floats. Also where single bits must land.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/rng.h"
#include "kernels/codec.h"
#include "tests/check_main.h"

enum { BLOCKS = 40 };

static const int C[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                           1, 13, 25, 38, 53, 69, 89, 113 };
static const int E[16] = { 0, 1, 2, 3, 4, 6, 8, 12,
                           0, -1, -2, -3, -4, -6, -8, -12 };

static float half_at(const uint8_t *b, int at)
{
    return bise_f16_to_f32((uint16_t)(b[at] | b[at + 1] << 8));
}

/* Nibble of weight i when j and j + 16 share byte j, bytes from at on. */
static int nibble32(const uint8_t *b, int at, int i)
{
    return i < 16 ? b[at + i] & 15 : b[at + i - 16] >> 4;
}

/* Bit i of the 32-bit word at byte at. */
static int bit_of(const uint8_t *b, int at, int i)
{
    return b[at + i / 8] >> i % 8 & 1;
}

static float q4_0(const uint8_t *b, int i)
{
    return (float)(nibble32(b, 2, i) - 8) * half_at(b, 0);
}

static float q4_1(const uint8_t *b, int i)
{
    const float product = (float)nibble32(b, 4, i) * half_at(b, 0);
    return product + half_at(b, 2);
}

static float q5_0(const uint8_t *b, int i)
{
    const int q = nibble32(b, 6, i) + 16 * bit_of(b, 2, i);
    return (float)(q - 16) * half_at(b, 0);
}

static float q5_1(const uint8_t *b, int i)
{
    const int q = nibble32(b, 8, i) + 16 * bit_of(b, 4, i);
    const float product = (float)q * half_at(b, 0);
    return product + half_at(b, 2);
}

static float q8_0(const uint8_t *b, int i)
{
    return (float)(int8_t)b[2 + i] * half_at(b, 0);
}

static float iq4_nl(const uint8_t *b, int i)
{
    return half_at(b, 0) * (float)C[nibble32(b, 2, i)];
}

static float mxfp4(const uint8_t *b, int i)
{
    return (float)E[nibble32(b, 1, i)] * ldexpf(1, b[0] - 128);
}

static float nvfp4(const uint8_t *b, int i)
{
    const int s = i / 16, j = i % 16, u = b[s];
    const int e = u >> 3 & 15, m = u & 7;
    const int q = j < 8 ? b[4 + 8 * s + j] & 15 : b[4 + 8 * s + j - 8] >> 4;
    float scale = e ? ldexpf(1 + (float)m / 8, e - 7) : ldexpf((float)m, -9);
    if (u == 0x7f || u == 0xff)
        scale = 0;
    return (float)E[q] * (scale / 2);
}

/* Two bits of weight i: byte 32 n + r % 32, bits 2 (r / 32). */
static int pair_of(const uint8_t *b, int at, int i)
{
    const int n = i / 128, r = i % 128;
    return b[at + 32 * n + r % 32] >> 2 * (r / 32) & 3;
}

static float q2_k(const uint8_t *b, int i)
{
    const int s = b[i / 16];
    const float scale = half_at(b, 80) * (float)(s & 15);
    const float min = half_at(b, 82) * (float)(s >> 4);
    return scale * (float)pair_of(b, 16, i) - min;
}

static float q3_k(const uint8_t *b, int i)
{
    const uint8_t *s = b + 96;
    const int k = i / 16, high = b[i % 32] >> i / 32 & 1;
    const int q = pair_of(b, 32, i) + (high ? 0 : -4);
    const int lo = k < 8 ? s[k] & 15 : s[k - 8] >> 4;
    const int hi = s[8 + k % 4] >> 2 * (k / 4) & 3;
    return half_at(b, 108) * (float)((hi << 4 | lo) - 32) * (float)q;
}

/* 6-bit scale and minimum of sub-block k in the 12 bytes s. */
static void scale_min(const uint8_t *s, int k, int *sc, int *mn)
{
    *sc = k < 4 ? s[k] & 63 : (s[k + 4] & 15) | (s[k - 4] >> 6) << 4;
    *mn = k < 4 ? s[k + 4] & 63 : s[k + 4] >> 4 | (s[k] >> 6) << 4;
}

static float k4(const uint8_t *b, int i, int qs, int high)
{
    const int c = i / 64, r = i % 64, byte = b[qs + 32 * c + r % 32];
    const int q = (r < 32 ? byte & 15 : byte >> 4) + 16 * high;
    int sc, mn;
    scale_min(b + 4, i / 32, &sc, &mn);
    const float scale = half_at(b, 0) * (float)sc;
    const float min = half_at(b, 2) * (float)mn;
    return scale * (float)q - min;
}

static float q4_k(const uint8_t *b, int i)
{
    return k4(b, i, 16, 0);
}

static float q5_k(const uint8_t *b, int i)
{
    return k4(b, i, 48, b[16 + i % 32] >> i / 32 & 1);
}

static float q6_k(const uint8_t *b, int i)
{
    const int n = i / 128, r = i % 128, l = r % 32, g = r / 32;
    const int byte = b[64 * n + l + 32 * (g & 1)];
    const int low = g < 2 ? byte & 15 : byte >> 4;
    const int high = b[128 + 32 * n + l] >> 2 * g & 3;
    const float scale = half_at(b, 208) * (float)(int8_t)b[192 + i / 16];
    return scale * (float)((high << 4 | low) - 32);
}

static float iq4_xs(const uint8_t *b, int i)
{
    const int k = i / 32, sh = b[2] | b[3] << 8;
    const int lo = b[4 + k / 2] >> 4 * (k % 2) & 15, hi = sh >> 2 * k & 3;
    const float scale = half_at(b, 0) * (float)((hi << 4 | lo) - 32);
    return scale * (float)C[nibble32(b, 8 + 16 * k, i % 32)];
}

static float tq2_0(const uint8_t *b, int i)
{
    return (float)(pair_of(b, 0, i) - 1) * half_at(b, 64);
}

static float tq1_0(const uint8_t *b, int i)
{
    static const int pow3[5] = { 1, 3, 9, 27, 81 };
    int byte, n;
    if (i < 160)
        byte = b[i % 32], n = i / 32;
    else if (i < 240)
        byte = b[32 + (i - 160) % 16], n = (i - 160) / 16;
    else
        byte = b[48 + (i - 240) % 4], n = (i - 240) / 4;
    const int digit = byte * pow3[n] % 256 * 3 >> 8;
    return (float)(digit - 1) * half_at(b, 52);
}

static float q1_0(const uint8_t *b, int i)
{
    return bit_of(b, 2, i) ? half_at(b, 0) : -half_at(b, 0);
}

static float q2_0(const uint8_t *b, int i)
{
    return (float)((b[2 + i / 4] >> i % 4 * 2 & 3) - 1) * half_at(b, 0);
}

static const struct layout {
    const char *type;
    float (*weight)(const uint8_t *block, int i);
} layouts[] = {
    { "Q4_0", q4_0 }, { "Q4_1", q4_1 }, { "Q5_0", q5_0 }, { "Q5_1", q5_1 },
    { "Q8_0", q8_0 }, { "IQ4_NL", iq4_nl }, { "MXFP4", mxfp4 },
    { "NVFP4", nvfp4 }, { "Q2_K", q2_k }, { "Q3_K", q3_k }, { "Q4_K", q4_k },
    { "Q5_K", q5_k }, { "Q6_K", q6_k }, { "IQ4_XS", iq4_xs },
    { "TQ1_0", tq1_0 }, { "TQ2_0", tq2_0 }, { "Q1_0", q1_0 },
    { "Q2_0", q2_0 },
};
enum { LAYOUTS = sizeof layouts / sizeof layouts[0] };

static bise_codec codec_at(const char *type, int level)
{
    bise_codec codecs[BISE_DTYPE_COUNT];
    bise_codecs_init(codecs, (bise_cpu)level);
    return codecs[bise_dtype_by_name(type)];
}

/* The same float; NaN equals NaN (the f16 of random bytes may be one). */
static bool same(float a, float b)
{
    return bise_f32_bits(a) == bise_f32_bits(b) || (isnan(a) && isnan(b));
}

START_TEST(random_blocks_decode_by_the_tables)
{
    static uint8_t bytes[BLOCKS * 256];
    static float y[BLOCKS * 256];
    const struct layout *l = &layouts[_i];
    const bise_dtype_info *info =
        bise_dtype_get(bise_dtype_by_name(l->type));
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)bise_rng_u64(77, (uint64_t)_i, i);
    for (int level = 0; level <= (int)bise_cpu_level(); level++) {
        codec_at(l->type, level).decode(y, bytes, BLOCKS * info->block_len);
        for (uint32_t i = 0; i < BLOCKS * info->block_len; i++) {
            const uint8_t *b = bytes + i / info->block_len * info->block_bytes;
            const float want = l->weight(b, (int)(i % info->block_len));
            if (!same(y[i], want))
                ck_abort_msg("%s, level %d, weight %u: %a, not %a", l->type,
                             level, i, y[i], want);
        }
    }
}
END_TEST

START_TEST(what_is_encoded_decodes_by_the_tables)
{
    static float x[1024], y[1024];
    static uint8_t bytes[4096];
    const struct layout *l = &layouts[_i];
    const bise_dtype_info *info =
        bise_dtype_get(bise_dtype_by_name(l->type));
    for (int i = 0; i < 1024; i++)
        x[i] = bise_rng_f32(5, 1, (uint64_t)i) - 0.5f;
    const bise_codec c = codec_at(l->type, (int)bise_cpu_level());
    c.encode(bytes, x, 2, 512, NULL);
    c.decode(y, bytes, 1024);
    double dot = 0, xx = 0, yy = 0;
    for (int i = 0; i < 1024; i++) {
        const uint8_t *b = bytes +
                           (uint32_t)i / info->block_len * info->block_bytes;
        const int at = i % (int)info->block_len;
        if (y[i] != l->weight(b, at))
            ck_abort_msg("%s, weight %d", l->type, i);
        dot += (double)x[i] * y[i];
        xx += (double)x[i] * x[i];
        yy += (double)y[i] * y[i];
    }
    /* every weight at its place: the rows point the same way */
    ck_assert_msg(dot / sqrt(xx * yy) > 0.7, "%s: cosine %g", l->type,
                  dot / sqrt(xx * yy));
}
END_TEST

START_TEST(one_large_weight_lands_at_its_place)
{
    /* each position in turn: an encoder that swaps weights cannot pass */
    static float x[256], y[256];
    static uint8_t bytes[1024];
    const struct layout *l = &layouts[_i];
    if (strcmp(l->type, "Q1_0") == 0)
        return;     /* signs only */
    const bise_codec c = codec_at(l->type, (int)bise_cpu_level());
    for (int at = 0; at < 256; at++) {
        memset(x, 0, sizeof x);
        x[at] = -1;
        c.encode(bytes, x, 1, 256, NULL);
        c.decode(y, bytes, 256);
        for (int i = 0; i < 256; i++)
            if (i == at ? fabsf(y[i] + 1) > 0.35f : fabsf(y[i]) > 0.15f)
                ck_abort_msg("%s: -1 at %d gives %g at %d", l->type, at, y[i],
                             i);
    }
}
END_TEST

START_TEST(encoding_twice_gives_the_same_bytes)
{
    static float x[512];
    static uint8_t a[2048], b[2048];
    const bise_dtype t = bise_dtype_by_name(layouts[_i].type);
    for (int i = 0; i < 512; i++)
        x[i] = bise_rng_f32(6, 2, (uint64_t)i) * 3 - 1;
    const bise_codec *c = bise_codec_get(t);
    c->encode(a, x, 1, 512, NULL);
    /* rows are independent: one call or one for each half */
    c->encode(b, x, 1, 256, NULL);
    c->encode(b + bise_dtype_bytes(t, 256), x + 256, 1, 256, NULL);
    ck_assert_mem_eq(a, b, (size_t)bise_dtype_bytes(t, 512));
    c->encode(b, x, 2, 256, NULL);
    ck_assert_mem_eq(a, b, (size_t)bise_dtype_bytes(t, 512));
}
END_TEST

START_TEST(float_types_convert_every_code)
{
    static uint16_t half[0x10000];
    static uint8_t out[0x20000];
    static float y[0x10000];
    for (int i = 0; i < 0x10000; i++)
        half[i] = (uint16_t)i;
    static const char *const types[] = { "F16", "BF16" };
    for (int level = 0; level <= (int)bise_cpu_level(); level++) {
        const bise_codec c = codec_at(types[_i], level);
        c.decode(y, half, 0x10000);
        for (int i = 0; i < 0x10000; i++) {
            const float want = _i ? bise_bf16_to_f32((uint16_t)i) :
                                    bise_f16_to_f32((uint16_t)i);
            if (!same(y[i], want))
                ck_abort_msg("%s %04x: %a, not %a", types[_i], i, y[i], want);
        }
        c.encode(out, y, 1, 0x10000, NULL);
        for (int i = 0; i < 0x10000; i++)
            if (!isnan(y[i]) && bise_load_le16(out + 2 * i) != i)
                ck_abort_msg("%s %04x came back as %04x", types[_i], i,
                             bise_load_le16(out + 2 * i));
    }
}
END_TEST

START_TEST(float_types_keep_nan_and_infinity)
{
    float x[32];
    uint8_t out[64];
    static const char *const types[] = { "F16", "BF16" };
    for (int i = 0; i < 32; i++)
        x[i] = i % 4 == 0 ? NAN : i % 4 == 1 ? INFINITY : -INFINITY;
    x[4] = bise_bits_f32(0xff800001u);  /* signalling, negative */
    for (int level = 0; level <= (int)bise_cpu_level(); level++) {
        const bise_codec c = codec_at(types[_i], level);
        c.encode(out, x, 1, 32, NULL);
        ck_assert_uint_eq(bise_load_le16(out), _i ? 0x7fc0 : 0x7e00);
        ck_assert_uint_eq(bise_load_le16(out + 2), _i ? 0x7f80 : 0x7c00);
        ck_assert_uint_eq(bise_load_le16(out + 4), _i ? 0xff80 : 0xfc00);
        ck_assert_uint_eq(bise_load_le16(out + 8), _i ? 0xffc0 : 0xfe00);
        if (_i == 0) {
            x[0] = 65520;       /* rounds beyond the largest f16 */
            x[1] = 65519;
            c.encode(out, x, 1, 32, NULL);
            ck_assert_uint_eq(bise_load_le16(out), 0x7c00);
            ck_assert_uint_eq(bise_load_le16(out + 2), 0x7bff);
            x[0] = NAN;
            x[1] = INFINITY;
        }
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("layouts");
    TCase *t = tcase_create("layouts");
    tcase_add_loop_test(t, random_blocks_decode_by_the_tables, 0, LAYOUTS);
    tcase_add_loop_test(t, what_is_encoded_decodes_by_the_tables, 0, LAYOUTS);
    tcase_add_loop_test(t, one_large_weight_lands_at_its_place, 0, LAYOUTS);
    tcase_add_loop_test(t, encoding_twice_gives_the_same_bytes, 0, LAYOUTS);
    tcase_add_loop_test(t, float_types_convert_every_code, 0, 2);
    tcase_add_loop_test(t, float_types_keep_nan_and_infinity, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
