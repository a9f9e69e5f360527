/* check_frames.c - the parts archives are made of, each against wrong input:
 * seek tables field by field, frames of other writers, byte planes on every
 * small shape, tar headers field by field, the manifest's text.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <string.h>
#include <zstd.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/str.h"
#include "formats/archive.h"
#include "formats/gguf.h"
#include "formats/planes.h"
#include "formats/safetensors.h"
#include "formats/shape.h"
#include "formats/tarhead.h"
#include "formats/xxh64.h"
#include "formats/zframe.h"
#include "tests/check_main.h"

/* ------------------------------------------------------------- seek tables */
/* Three frames "aaaa", "bb", "" and their table. */
static void make_frames(bise_str *out, bise_frame frames[3])
{
    static const char *const text[3] = { "aaaa", "bb", "" };
    uint8_t buf[200];
    bise_str_clear(out);
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(text[i]);
        const size_t k = bise_zframe_store(buf, text[i], n);
        frames[i] = (bise_frame){ .packed = (uint32_t)k,
                                  .bytes = (uint32_t)n,
                                  .check = (uint32_t)bise_xxh64(text[i], n) };
        bise_str_add(out, buf, k);
    }
    bise_zframe_put_table(out, frames, 3);
}

START_TEST(table_gives_places_of_frames)
{
    bise_error err;
    bise_str file = { 0 };
    bise_frame want[3], *got = NULL;
    size_t n = 0;
    char out[8] = { 0 };
    make_frames(&file, want);
    ck_ok(bise_zframe_get_table(&got, &n, (uint8_t *)file.data, file.len,
                                &err));
    ck_assert_uint_eq(n, 3);
    ck_assert_uint_eq(got[0].at, 0);
    ck_assert_uint_eq(got[1].at, want[0].packed);
    ck_assert_uint_eq(got[1].pos, 4);
    ck_assert_uint_eq(got[2].pos, 6);
    ck_assert_uint_eq(got[2].bytes, 0);
    bise_zcoder *z = bise_zcoder_new();
    ck_assert(bise_zframe_unpack(z, out, 2, file.data + got[1].at,
                                 got[1].packed));
    ck_assert_str_eq(out, "bb");
    bise_zcoder_free(z);
    bise_free(got);
    bise_str_fini(&file);
}
END_TEST

/* Changes of the table: bytes from the end, width, value, message. The table:
 * 8 bytes of skippable header, 3 x 12, count at -9, flags at -5, magic -4. */
static const struct {
    size_t back;
    unsigned width;
    uint32_t value;
    bise_status status;
    const char *text;
} tables[] = {
    { 4, 4, 0x8f92eab0u, BISE_EFORMAT, "no seek table" },
    { 5, 1, 0x84, BISE_EUNSUPPORTED, "descriptor 0x84" },
    { 5, 1, 0x00, BISE_EFORMAT, "does not fit" },
    { 9, 4, 2, BISE_EFORMAT, "does not fit" },
    { 9, 4, 4, BISE_EFORMAT, "does not fit" },
    { 9, 4, UINT32_MAX, BISE_EFORMAT, "does not fit" },
    { 49, 4, 46, BISE_EFORMAT, "does not fit" },
    { 53, 4, 0x184d2a5du, BISE_EFORMAT, "does not fit" },
    { 45, 4, UINT32_MAX, BISE_EFORMAT, "past the end" },
    { 45, 4, 1, BISE_EFORMAT, "between the last frame" },
    { 45, 4, 0, BISE_EFORMAT, "between the last frame" },
    { 41, 4, UINT32_MAX, BISE_EUNSUPPORTED, "at most" },
    { 21, 4, 500, BISE_EFORMAT, "past the end" },
};

START_TEST(table_refuses_wrong_field)
{
    bise_error err;
    bise_str file = { 0 };
    bise_frame want[3], *got = NULL;
    size_t n = 0;
    make_frames(&file, want);
    for (unsigned i = 0; i < tables[_i].width; i++)
        file.data[file.len - tables[_i].back + i] =
            (char)(tables[_i].value >> 8 * i);
    ck_fails(bise_zframe_get_table(&got, &n, (uint8_t *)file.data, file.len,
                                   &err), tables[_i].status);
    ck_assert_msg(strstr(err.text, tables[_i].text) != NULL, "%s", err.text);
    ck_assert_ptr_null(got);
    bise_str_fini(&file);
}
END_TEST

START_TEST(table_refuses_every_truncation)
{
    bise_error err;
    bise_str file = { 0 };
    bise_frame want[3], *got = NULL;
    size_t n = 0;
    make_frames(&file, want);
    for (size_t i = 0; i < file.len; i++) {
        uint8_t *copy = malloc(i ? i : 1);
        memcpy(copy, file.data, i);
        ck_fails(bise_zframe_get_table(&got, &n, copy, i, &err), BISE_EFORMAT);
        free(copy);
    }
    /* and bytes put in front, which the table does not cover */
    bise_str longer = { 0 };
    bise_str_puts(&longer, "x");
    bise_str_add(&longer, file.data, file.len);
    ck_fails(bise_zframe_get_table(&got, &n, (uint8_t *)longer.data,
                                   longer.len, &err), BISE_EFORMAT);
    bise_str_fini(&longer);
    bise_str_fini(&file);
}
END_TEST

START_TEST(tables_without_checksums_are_read)
{
    /* descriptor 0: entries of 8 bytes, as other writers may make them */
    bise_error err;
    bise_str file = { 0 };
    bise_frame *got = NULL;
    size_t n = 0;
    uint8_t buf[64], word[4];
    const size_t k = bise_zframe_store(buf, "data", 4);
    const uint32_t words[] = { 0x184d2a5eu, 17, (uint32_t)k, 4, 1 };
    bise_str_add(&file, buf, k);
    for (size_t i = 0; i < 5; i++) {
        bise_store_le32(word, words[i]);
        bise_str_add(&file, word, 4);
    }
    bise_str_putc(&file, 0);
    bise_store_le32(word, 0x8f92eab1u);
    bise_str_add(&file, word, 4);
    ck_ok(bise_zframe_get_table(&got, &n, (uint8_t *)file.data, file.len,
                                &err));
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_eq(got[0].bytes, 4);
    bise_free(got);
    bise_str_fini(&file);
}
END_TEST

/* ------------------------------------------------------------- frames */
START_TEST(zstd_reads_our_frames_and_we_read_its)
{
    enum { N = 300000 };
    bise_zcoder *z = bise_zcoder_new();
    uint8_t *in = malloc(N), *out = malloc(bise_zframe_bound(N));
    uint8_t *back = malloc(N);
    for (size_t i = 0; i < N; i++)
        in[i] = (uint8_t)(bise_rng_u64(5, 6, i / 3) % (1 + i % 200));
    size_t n = bise_zframe_store(out, in, N);
    ck_assert_uint_eq(ZSTD_decompress(back, N, out, n), N);
    ck_assert_int_eq(memcmp(in, back, N), 0);
    n = bise_zframe_pack(z, out, in, N, 3);
    ck_assert_uint_eq(ZSTD_getFrameContentSize(out, n), N);
    ck_assert_uint_eq(ZSTD_decompress(back, N, out, n), N);
    ck_assert_int_eq(memcmp(in, back, N), 0);
    n = ZSTD_compress(out, bise_zframe_bound(N), in, N, 1);
    memset(back, 0, N);
    ck_assert(bise_zframe_unpack(z, back, N, out, n));
    ck_assert_int_eq(memcmp(in, back, N), 0);
    ck_assert(!bise_zframe_unpack(z, back, N - 1, out, n));
    free(in);
    free(out);
    free(back);
    bise_zcoder_free(z);
}
END_TEST

START_TEST(two_frames_are_not_one)
{
    bise_zcoder *z = bise_zcoder_new();
    uint8_t buf[200], out[16];
    size_t n = bise_zframe_store(buf, "aaaa", 4);
    n += bise_zframe_store(buf + n, "bbbb", 4);
    ck_assert(!bise_zframe_unpack(z, out, 8, buf, n));
    ck_assert(!bise_zframe_unpack(z, out, 4, buf, n));
    ck_assert(!bise_zframe_unpack(z, out, 0, buf, 0));
    bise_zcoder_free(z);
}
END_TEST

START_TEST(every_damaged_byte_of_a_frame_is_found)
{
    bise_zcoder *z = bise_zcoder_new();
    uint8_t in[500], out[700], back[500];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)bise_rng_u64(7, 8, i);
    const size_t n = bise_zframe_store(out, in, sizeof in);
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            out[i] ^= (uint8_t)(1 << bit);
            const bool ok = bise_zframe_unpack(z, back, sizeof in, out, n);
            /* a reserved or unused bit may be ignored, never wrong data */
            ck_assert(!ok || memcmp(in, back, sizeof in) == 0);
            if (i >= 12)
                ck_assert_msg(!ok, "byte %zu bit %d", i, bit);
            out[i] ^= (uint8_t)(1 << bit);
        }
    bise_zcoder_free(z);
}
END_TEST

START_TEST(levels_pack_smaller_and_equal_each_time)
{
    enum { N = 200000 };
    bise_zcoder *z = bise_zcoder_new();
    uint8_t *in = malloc(N), *a = malloc(bise_zframe_bound(N));
    uint8_t *b = malloc(bise_zframe_bound(N));
    for (size_t i = 0; i < N; i++)
        in[i] = (uint8_t)("the quick brown fox jumps"[i % 25] + i / 5000 % 3);
    const size_t low = bise_zframe_pack(z, a, in, N, 1);
    const size_t high = bise_zframe_pack(z, b, in, N, 19);
    ck_assert_uint_le(high, low);
    ck_assert_uint_lt(low, N / 10);
    const size_t again = bise_zframe_pack(z, b, in, N, 1);
    ck_assert_uint_eq(low, again);
    ck_assert_int_eq(memcmp(a, b, low), 0);
    free(in);
    free(a);
    free(b);
    bise_zcoder_free(z);
}
END_TEST

/* ------------------------------------------------------------- byte planes */
START_TEST(planes_of_every_small_range_come_back)
{
    uint8_t in[40], mid[40], out[40];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)bise_rng_u64(9, 10, i);
    for (size_t n = 1; n <= sizeof in; n++)
        for (size_t a = 0; a < n; a++)
            for (size_t b = a + 1; b <= n; b++) {
                bise_planes_range r = { a, b, _i ? BISE_PLANES_BF16 :
                                        BISE_PLANES_F16 };
                const bise_planes p = { .size = n, .ranges = &r, .n = 1 };
                const size_t head = bise_planes_split(mid, in, n, 0, &p);
                ck_assert_uint_eq(head, n - (b - a) / 2);
                bise_planes_join(out, mid, n, 0, &p);
                ck_assert_int_eq(memcmp(in, out, n), 0);
            }
}
END_TEST

START_TEST(bf16_planes_hold_the_exponent_alone)
{
    /* 1.0 is 0x3f80: exponent 127; rotated left by one: 0x7f00 */
    static const uint8_t in[8] = { 0x80, 0x3f, 0x80, 0xbf, 0x00, 0x40, 0xff,
                                   0x3f };
    static const uint8_t want[8] = { 0x7f, 0x7f, 0x80, 0x7f, 0x00, 0x01, 0x00,
                                     0xfe };
    uint8_t out[8];
    bise_planes_range r = { 0, 8, BISE_PLANES_BF16 };
    const bise_planes p = { .size = 8, .ranges = &r, .n = 1 };
    ck_assert_uint_eq(bise_planes_split(out, in, 8, 0, &p), 4);
    ck_assert_int_eq(memcmp(out, want, 8), 0);
}
END_TEST

/* A safetensors image of tensors with n weights each. */
static void image(bise_str *out, const bise_dtype *types, size_t count,
                  uint64_t n)
{
    static const char *const names[] = { "a", "b", "c", "d" };
    bise_error err;
    bise_tensor t[4] = { 0 };
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        t[i] = (bise_tensor){ .name = names[i], .dtype = types[i], .n_dims = 1,
                              .dims = { n } };
    bise_str_clear(out);
    ck_ok(bise_st_header(out, NULL, t, count, &bytes, &err));
    for (uint64_t i = 0; i < bytes; i++)
        bise_str_putc(out, (char)i);
}

START_TEST(neighbours_of_one_kind_share_a_range)
{
    static const bise_dtype types[] = { BISE_DTYPE_BF16, BISE_DTYPE_BF16,
                                        BISE_DTYPE_F32, BISE_DTYPE_F16 };
    bise_error err;
    bise_str img = { 0 };
    bise_planes p;
    image(&img, types, 4, 3000);
    ck_ok(bise_planes_find(&p, img.data, img.len, &err));
    ck_assert_uint_eq(p.n, 2);
    ck_assert_uint_eq(p.size, img.len);
    ck_assert_int_eq(p.ranges[0].kind, BISE_PLANES_BF16);
    ck_assert_uint_eq(p.ranges[0].end - p.ranges[0].start, 12000);
    ck_assert_int_eq(p.ranges[1].kind, BISE_PLANES_F16);
    ck_assert_uint_eq(p.ranges[1].end, img.len);
    bise_planes_fini(&p);
    image(&img, types, 1, 1000);                /* too little to pay */
    ck_ok(bise_planes_find(&p, img.data, img.len, &err));
    ck_assert_uint_eq(p.n, 0);
    bise_str_clear(&img);
    for (int i = 0; i < 9000; i++)
        bise_str_putc(&img, 'x');               /* no safetensors at all */
    ck_ok(bise_planes_find(&p, img.data, img.len, &err));
    ck_assert_uint_eq(p.n, 0);
    bise_str_fini(&img);
}
END_TEST

START_TEST(planes_are_found_in_gguf)
{
    bise_error err;
    bise_str img = { 0 };
    bise_planes p;
    bise_gguf_meta m = { 0 };
    uint64_t bytes;
    bise_tensor t[2] = { { .name = "f", .dtype = BISE_DTYPE_F16, .n_dims = 1,
                           .dims = { 4096 } },
                         { .name = "q", .dtype = BISE_DTYPE_Q8_0, .n_dims = 1,
                           .dims = { 4096 } } };
    ck_ok(bise_gguf_header(&img, &m, t, 2, &bytes, &err));
    const size_t head = img.len;
    while (img.len < head + bytes)
        bise_str_putc(&img, 1);
    ck_ok(bise_planes_find(&p, img.data, img.len, &err));
    ck_assert_uint_eq(p.n, 1);
    ck_assert_uint_eq(p.ranges[0].start, head);
    ck_assert_uint_eq(p.ranges[0].end, head + 8192);
    bise_planes_fini(&p);
    bise_str_fini(&img);
}
END_TEST

/* ------------------------------------------------------------- tar, manifest */
START_TEST(tar_header_fields_are_where_ustar_says)
{
    bise_str s = { 0 };
    bise_tarhead_put(&s, &(bise_tarhead){ .name = "a/b.txt", .bytes = 4097,
                                          .mode = 0755, .mtime = 8 });
    ck_assert_uint_eq(s.len, 512);
    ck_assert_str_eq(s.data, "a/b.txt");
    ck_assert_str_eq(s.data + 100, "0000755");
    ck_assert_str_eq(s.data + 108, "0000000");
    ck_assert_str_eq(s.data + 124, "00000010001");
    ck_assert_str_eq(s.data + 136, "00000000010");
    ck_assert_int_eq(s.data[156], '0');
    ck_assert_str_eq(s.data + 257, "ustar");
    unsigned sum = 8 * ' ';
    for (int i = 0; i < 512; i++)
        sum += i >= 148 && i < 156 ? 0 : (unsigned char)s.data[i];
    ck_assert_uint_eq(strtoul(s.data + 148, NULL, 8), sum);
    bise_str_clear(&s);
    bise_tarhead_put(&s, &(bise_tarhead){ .name = "dir/", .mode = 0755 });
    ck_assert_int_eq(s.data[156], '5');
    bise_str_fini(&s);
}
END_TEST

START_TEST(pax_record_counts_its_own_length)
{
    /* names around the lengths where the count gains a digit */
    char name[300];
    for (size_t n = 86; n < 100; n++) {
        bise_str s = { 0 };
        memset(name, 'n', n);
        memcpy(name, "\xc3\xa4", 2);
        name[n] = 0;
        bise_tarhead_put(&s, &(bise_tarhead){ .name = name, .mode = 0644 });
        ck_assert_uint_eq(s.len, 1536);
        ck_assert_int_eq(s.data[156], 'x');
        const size_t said = strtoul(s.data + 512, NULL, 10);
        ck_assert_uint_eq(said, strlen(s.data + 512));
        ck_assert_int_eq(s.data[512 + said - 1], '\n');
        ck_assert_uint_eq(said, strtoul(s.data + 124, NULL, 8));
        ck_assert_ptr_nonnull(strstr(s.data + 512, name));
        bise_str_fini(&s);
    }
}
END_TEST

START_TEST(padding_fills_the_block)
{
    ck_assert_uint_eq(bise_tar_padding(0), 0);
    ck_assert_uint_eq(bise_tar_padding(1), 511);
    ck_assert_uint_eq(bise_tar_padding(511), 1);
    ck_assert_uint_eq(bise_tar_padding(512), 0);
    ck_assert_uint_eq(bise_tar_padding(UINT64_C(1) << 40), 0);
}
END_TEST

START_TEST(manifest_has_one_length_for_all_hashes)
{
    bise_error err;
    bise_str a = { 0 }, b = { 0 };
    bise_json *v = NULL;
    bise_member m[2] = {
        { .path = "a \"quoted\" name", .format = "json", .bytes = 7,
          .mode = 0644, .offset = 512 },
        { .path = "dir/", .mode = 0755, .offset = 1536 } };
    bise_manifest_put(&a, m, 2, 5);
    memset(m[0].sha256, 0xab, 32);
    bise_manifest_put(&b, m, 2, 5);
    ck_assert_uint_eq(a.len, b.len);
    ck_ok(bise_json_parse(&v, b.data, b.len, &err));
    const bise_json *f = bise_json_at(bise_json_get(v, "files"), 0);
    ck_assert_str_eq(bise_json_string(bise_json_get(f, "path"), NULL),
                     m[0].path);
    ck_assert_uint_eq(strlen(bise_json_string(bise_json_get(f, "sha256"),
                                              NULL)), 64);
    ck_assert_ptr_null(bise_json_get(bise_json_at(bise_json_get(v, "files"),
                                                  1), "sha256"));
    bise_json_free(v);
    bise_str_fini(&a);
    bise_str_fini(&b);
}
END_TEST

/* ------------------------------------------------------------- shapes */
static const struct {
    bise_dtype dtype;
    int n;
    uint64_t dims[4], bytes;
    const char *text; /* of the shape, or of the failure when bytes is MAX */
} shapes[] = {
    { BISE_DTYPE_F32, 0, { 0 }, 4, "scalar" },
    { BISE_DTYPE_F32, 1, { 0 }, 0, "0" },
    { BISE_DTYPE_BF16, 2, { 3, 5 }, 30, "3x5" },
    { BISE_DTYPE_Q8_0, 2, { 3, 64 }, 204, "3x64" },
    { BISE_DTYPE_Q4_K, 3, { 2, 2, 256 }, 576, "2x2x256" },
    { BISE_DTYPE_Q4_K, 2, { 256, 2 }, UINT64_MAX, "multiple of 256" },
    { BISE_DTYPE_Q8_0, 0, { 0 }, UINT64_MAX, "multiple of 32" },
    { BISE_DTYPE_I8, 1, { UINT64_MAX }, UINT64_MAX, "too many" },
    { BISE_DTYPE_I8, 2, { UINT64_C(1) << 32, UINT64_C(1) << 32 }, UINT64_MAX,
      "too many" },
    { BISE_DTYPE_I8, 3, { 0, UINT64_C(1) << 40, UINT64_C(1) << 40 },
      UINT64_MAX, "too many" },
};

START_TEST(shape_gives_bytes)
{
    bise_error err;
    bise_tensor t = { .name = "t", .dtype = shapes[_i].dtype,
                      .n_dims = shapes[_i].n };
    memcpy(t.dims, shapes[_i].dims, sizeof shapes[_i].dims);
    if (shapes[_i].bytes == UINT64_MAX) {
        ck_fails(bise_shape_size(&t, 77, &err), BISE_EFORMAT);
        ck_assert_ptr_nonnull(strstr(err.text, shapes[_i].text));
        ck_assert_str_eq(err.tensor, "t");
        ck_assert_int_eq((int)err.offset, 77);
        return;
    }
    bise_str s = { 0 };
    ck_ok(bise_shape_size(&t, -1, &err));
    ck_assert_uint_eq(t.bytes, shapes[_i].bytes);
    bise_shape_print(&s, &t);
    ck_assert_str_eq(bise_str_get(&s), shapes[_i].text);
    bise_str_fini(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("frames");
    TCase *t = tcase_create("frames");
    tcase_add_test(t, table_gives_places_of_frames);
    tcase_add_loop_test(t, table_refuses_wrong_field, 0,
                        sizeof tables / sizeof *tables);
    tcase_add_test(t, table_refuses_every_truncation);
    tcase_add_test(t, tables_without_checksums_are_read);
    tcase_add_test(t, zstd_reads_our_frames_and_we_read_its);
    tcase_add_test(t, two_frames_are_not_one);
    tcase_add_test(t, every_damaged_byte_of_a_frame_is_found);
    tcase_add_test(t, levels_pack_smaller_and_equal_each_time);
    tcase_add_loop_test(t, planes_of_every_small_range_come_back, 0, 2);
    tcase_add_test(t, bf16_planes_hold_the_exponent_alone);
    tcase_add_test(t, neighbours_of_one_kind_share_a_range);
    tcase_add_test(t, planes_are_found_in_gguf);
    tcase_add_test(t, tar_header_fields_are_where_ustar_says);
    tcase_add_test(t, pax_record_counts_its_own_length);
    tcase_add_test(t, padding_fills_the_block);
    tcase_add_test(t, manifest_has_one_length_for_all_hashes);
    tcase_add_loop_test(t, shape_gives_bytes, 0,
                        sizeof shapes / sizeof *shapes);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
