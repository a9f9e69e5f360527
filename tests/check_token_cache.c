/* check_token_cache.c - tests of text/token_cache and text/spool: what was
 * written is read back, every cut and every wrong field is refused even when
 * the checksum was made to fit, and nothing half-written gets a name.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/bytes.h"
#include "core/rng.h"
#include "formats/crypto.h"
#include "tests/data_fixture.h"
#include "text/spool.h"
#include "text/token_cache.h"

#define HEADER 256
#define VOCAB 1000

static const char key[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/* Ids and mask of sample i: a pure function of i. */
static bise_row sample(uint64_t i, int32_t ids[64], uint8_t mask[64])
{
    const int32_t n = 2 + (int32_t)bise_rng_below(7, 0, i, 62);
    for (int32_t k = 0; k < n; k++) {
        ids[k] = (int32_t)bise_rng_below(7, 1 + i, (uint64_t)k, VOCAB);
        mask[k] = bise_rng_u64(7, 1 + i, (uint64_t)k) & 1;
    }
    return (bise_row) { ids, mask, n };
}

/* Write n samples spread over sources; gives the path (bise_free). */
static char *write_cache(const char *name, uint64_t n, int32_t sources)
{
    bise_error err;
    char *path = bise_path_join(fixture_dir, name);
    bise_token_writer *w = NULL;
    const bise_dataset_stats st = {
        .rows = n + 3, .no_target = 1, .truncated = 2, .dropped = 4,
        .samples = n, .tokens = 12345678901, .supervised = 42, .longest = 77,
        .format = "messages, text",
    };
    ck_ok(bise_token_writer_new(&w, path, key, sources, &err));
    for (uint64_t i = 0; i < n; i++) {
        int32_t ids[64];
        uint8_t mask[64];
        const bise_row row = sample(i, ids, mask);
        ck_ok(bise_token_writer_add(w, (int32_t)(i * (uint64_t)sources / n),
                                    &row, &err));
    }
    ck_assert(!bise_file_exists(path));     /* no name before it is whole */
    ck_ok(bise_token_writer_finish(w, &st, &err));
    return path;
}

/* Write an image under a name and try to open it. */
static bise_status open_image(bise_token_cache *c, const char *data, size_t n,
                              bise_error *err)
{
    char *path = bise_path_join(fixture_dir, "image.bin");
    bise_error_init(err);
    remove(path);        /* a new file: some file systems flush a reused one */
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(data, 1, n, f) == n && fclose(f) == 0);
    const bise_status s = bise_token_cache_open(c, path, key, VOCAB, err);
    bise_free(path);
    return s;
}

/* Make the checksum of an image fit its body. */
static void seal(char *data, size_t n)
{
    bise_sha256_of((uint8_t *)data + 72, data + HEADER, n - HEADER);
}

static const struct { uint64_t n; int32_t sources; } sizes[] = {
    { 0, 1 }, { 1, 1 }, { 2, 2 }, { 3, 5 }, { 5000, 3 },
};

START_TEST(rows_read_back_as_written)
{
    bise_error err;
    bise_token_cache c;
    const uint64_t n = sizes[_i].n;
    char *path = write_cache("c.bin", n, sizes[_i].sources);
    ck_ok(bise_token_cache_open(&c, path, key, VOCAB, &err));
    ck_assert_uint_eq(c.n, n);
    ck_assert_int_eq(c.n_sources, sizes[_i].sources);
    for (uint64_t i = 0; i < n; i++) {
        int32_t ids[64];
        uint8_t mask[64];
        const bise_row want = sample(i, ids, mask);
        bise_row got;
        bise_token_cache_row(&c, i, &got);
        ck_assert_int_eq(got.n, want.n);
        ck_assert_int_eq(bise_token_cache_len(&c, i), want.n);
        ck_assert_int_eq(memcmp(got.ids, ids, (size_t)want.n * 4), 0);
        ck_assert_int_eq(memcmp(got.mask, mask, (size_t)want.n), 0);
        ck_assert_uint_eq((uintptr_t)got.ids % sizeof *got.ids, 0);
    }
    uint64_t sum = 0;
    for (int32_t i = 0; i < c.n_sources; i++)
        sum += bise_token_cache_source(&c, i);
    ck_assert_uint_eq(sum, n);
    bise_token_cache_close(&c);
    bise_token_cache_close(&c);             /* twice is fine */
    bise_free(path);
}
END_TEST

START_TEST(statistics_read_back)
{
    bise_error err;
    bise_token_cache c;
    char *path = write_cache("c.bin", 4, 1);
    ck_ok(bise_token_cache_open(&c, path, key, VOCAB, &err));
    ck_assert_uint_eq(c.stats.rows, 7);
    ck_assert_uint_eq(c.stats.bad, 0);
    ck_assert_uint_eq(c.stats.no_target, 1);
    ck_assert_uint_eq(c.stats.truncated, 2);
    ck_assert_uint_eq(c.stats.dropped, 4);
    ck_assert_uint_eq(c.stats.samples, 4);
    ck_assert_uint_eq(c.stats.tokens, 12345678901);
    ck_assert_uint_eq(c.stats.supervised, 42);
    ck_assert_int_eq(c.stats.longest, 77);
    ck_assert_str_eq(c.stats.format, "messages, text");
    bise_token_cache_close(&c);
    bise_free(path);
}
END_TEST

START_TEST(same_samples_make_the_same_bytes)
{
    bise_error err;
    bise_str a = { 0 }, b = { 0 };
    char *p = write_cache("a.bin", 300, 2), *q = write_cache("b.bin", 300, 2);
    ck_ok(bise_file_read(&a, p, &err));
    ck_ok(bise_file_read(&b, q, &err));
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_int_eq(memcmp(a.data, b.data, a.len), 0);
    bise_str_fini(&a);
    bise_str_fini(&b);
    bise_free(p);
    bise_free(q);
}
END_TEST

START_TEST(every_cut_is_refused)
{
    bise_error err;
    bise_token_cache c;
    bise_str image = { 0 };
    char *path = write_cache("c.bin", 5, 2);
    ck_ok(bise_file_read(&image, path, &err));
    for (size_t n = 0; n < image.len; n++) {
        ck_fails(open_image(&c, image.data, n, &err), BISE_EFORMAT);
        ck_assert(bise_ends_with(err.path, "image.bin"));
    }
    bise_str_putc(&image, 0);               /* and one byte too many */
    ck_fails(open_image(&c, image.data, image.len, &err), BISE_EFORMAT);
    bise_str_fini(&image);
    bise_free(path);
}
END_TEST

START_TEST(every_changed_bit_is_noticed)
{
    bise_error err;
    bise_token_cache c;
    bise_str image = { 0 };
    char *path = write_cache("c.bin", 3, 1);
    ck_ok(bise_file_read(&image, path, &err));
    for (size_t i = 0; i < image.len; i++) {
        /* statistics are figures for reports: not covered by the checksum */
        if (i >= 124 && i < HEADER)
            continue;
        image.data[i] ^= 0x10;
        ck_fails(open_image(&c, image.data, image.len, &err), BISE_EFORMAT);
        image.data[i] ^= 0x10;
    }
    ck_ok(open_image(&c, image.data, image.len, &err));
    bise_token_cache_close(&c);
    bise_str_fini(&image);
    bise_free(path);
}
END_TEST

/* Fields of the header and the index set to values that do not fit the file,
 * the checksum made to fit: at = offset of the field, from the end when
 * negative; wide = 8 or 4 bytes. */
static const struct {
    int at, wide;
    uint64_t value;
    const char *words;
} fields[] = {
    { 0, 8, 0, "not a token cache" },
    { 8, 8, 0, "token cache of other data" },
    { 104, 8, 0, "do not fit" },                    /* samples */
    { 104, 8, 4, "do not fit" },
    { 104, 8, UINT64_MAX, "do not fit" },
    { 104, 8, UINT64_MAX / 16 + 2, "do not fit" },
    { 112, 8, 0, "do not fit" },                    /* the index */
    { 112, 8, HEADER - 4, "do not fit" },
    { 112, 8, HEADER + 2, "do not fit" },
    { 112, 8, UINT64_MAX - 3, "do not fit" },
    { 120, 4, 0, "do not fit" },                    /* sources */
    { 120, 4, 2, "do not fit" },
    { 120, 4, UINT32_MAX, "do not fit" },
    { -56, 8, 0, "lies outside" },                  /* sample 0: offset */
    { -56, 8, HEADER + 1, "lies outside" },
    { -56, 8, UINT64_MAX, "lies outside" },
    { -48, 4, 0, "lies outside" },                  /* its length */
    { -48, 4, 1, "lies outside" },
    { -48, 4, UINT32_MAX, "lies outside" },
    { -48, 4, 200, "lies outside" },
    { -8, 8, 2, "counts of the token cache differ" },
    { -8, 8, UINT64_MAX, "counts of the token cache differ" },
    { HEADER, 4, VOCAB, "the vocabulary has 1000" }, /* an id */
    { HEADER, 4, UINT32_MAX, "the vocabulary has 1000" },
};

START_TEST(wrong_fields_are_refused)
{
    bise_error err;
    bise_token_cache c;
    bise_str image = { 0 };
    char *path = write_cache("c.bin", 3, 1), kept[8];
    ck_ok(bise_file_read(&image, path, &err));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const size_t at = fields[i].at < 0 ?
                          image.len - (size_t)-fields[i].at :
                          (size_t)fields[i].at;
        memcpy(kept, image.data + at, 8);
        if (fields[i].wide == 8)
            bise_store_le64(image.data + at, fields[i].value);
        else
            bise_store_le32(image.data + at, (uint32_t)fields[i].value);
        seal(image.data, image.len);
        ck_fails(open_image(&c, image.data, image.len, &err), BISE_EFORMAT);
        ck_assert_msg(strstr(err.text, fields[i].words) != NULL,
                      "field %zu: '%s' is not in '%s'", i, fields[i].words,
                      err.text);
        memcpy(image.data + at, kept, 8);
    }
    /* the values put back, the file is good again */
    seal(image.data, image.len);
    ck_ok(open_image(&c, image.data, image.len, &err));
    bise_token_cache_close(&c);
    bise_str_fini(&image);
    bise_free(path);
}
END_TEST

START_TEST(a_dropped_writer_leaves_nothing)
{
    bise_error err;
    bise_token_writer *w = NULL;
    char *path = bise_path_join(fixture_dir, "d.bin");
    int32_t ids[64];
    uint8_t mask[64];
    const bise_row row = sample(1, ids, mask);
    char **names = NULL;
    size_t n = 1;
    ck_ok(bise_token_writer_new(&w, path, key, 1, &err));
    ck_ok(bise_token_writer_add(w, 0, &row, &err));
    bise_token_writer_drop(w);
    bise_token_writer_drop(NULL);
    ck_ok(bise_dir_list(&names, &n, fixture_dir, &err));
    ck_assert_uint_eq(n, 0);
    bise_free(names);
    bise_free(path);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_named)
{
    bise_error err;
    bise_token_writer *w = NULL;
    bise_token_cache c;
    bise_spool *s = NULL;
    ck_fails(bise_token_writer_new(&w, "/nonexistent/c.bin", key, 1, &err),
             BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.path, "/nonexistent/"));
    ck_assert_ptr_null(w);
    ck_fails(bise_token_cache_open(&c, "/nonexistent/c.bin", key, 1, &err),
             BISE_EIO);
    ck_fails(bise_spool_new(&s, "/nonexistent", &err), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.path, "/nonexistent/"));
    ck_assert_ptr_null(s);
}
END_TEST

/* --- spool ---------------------------------------------------------------- */

/* Pieces of these sizes cross the buffer of 64 KiB in every way. */
static const size_t pieces[] = { 1, 7, 4096, 65535, 65536, 65537, 200000 };

START_TEST(spool_keeps_bytes_in_order)
{
    bise_error err;
    bise_spool *s = NULL;
    const size_t piece = pieces[_i], total = piece * (piece < 5000 ? 100 : 4);
    char *data = bise_alloc(total), *back = bise_alloc(total + 1);
    size_t got = 0;
    for (size_t i = 0; i < total; i++)
        data[i] = (char)bise_rng_u64(3, 0, i);
    ck_ok(bise_spool_new(&s, fixture_dir, &err));
    for (size_t at = 0; at < total; at += piece)
        ck_ok(bise_spool_add(s, data + at, piece, &err));
    ck_assert_uint_eq(bise_spool_size(s), total);
    for (int round = 0; round < 2; round++) {
        ck_ok(bise_spool_rewind(s, &err));
        ck_ok(bise_spool_read(s, back, total + 1, &got, &err));
        ck_assert_uint_eq(got, total);
        ck_assert_int_eq(memcmp(data, back, total), 0);
        ck_ok(bise_spool_read(s, back, 1, &got, &err));
        ck_assert_uint_eq(got, 0);
    }
    /* reading does not end writing */
    ck_ok(bise_spool_add(s, "end", 3, &err));
    ck_ok(bise_spool_rewind(s, &err));
    ck_ok(bise_spool_read(s, back, total, &got, &err));
    ck_ok(bise_spool_read(s, back, 10, &got, &err));
    ck_assert_uint_eq(got, 3);
    ck_assert_int_eq(memcmp(back, "end", 3), 0);
    bise_spool_close(s);
    bise_free(data);
    bise_free(back);
}
END_TEST

START_TEST(spool_has_no_name)
{
    bise_error err;
    bise_spool *s = NULL;
    char **names = NULL;
    size_t n = 1;
    ck_ok(bise_spool_new(&s, fixture_dir, &err));
    ck_ok(bise_spool_add(s, "x", 1, &err));
    ck_ok(bise_spool_rewind(s, &err));
    ck_ok(bise_dir_list(&names, &n, fixture_dir, &err));
    ck_assert_uint_eq(n, 0);
    bise_free(names);
    bise_spool_close(s);
    bise_spool_close(NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("token_cache");
    TCase *c = tcase_create("token_cache");
    tcase_set_timeout(c, 30);
    tcase_add_checked_fixture(c, fixture_folder, fixture_no_folder);
    tcase_add_loop_test(c, rows_read_back_as_written, 0,
                        sizeof sizes / sizeof *sizes);
    tcase_add_test(c, statistics_read_back);
    tcase_add_test(c, same_samples_make_the_same_bytes);
    tcase_add_test(c, every_cut_is_refused);
    tcase_add_test(c, every_changed_bit_is_noticed);
    tcase_add_test(c, wrong_fields_are_refused);
    tcase_add_test(c, a_dropped_writer_leaves_nothing);
    tcase_add_test(c, a_folder_that_is_not_there_is_named);
    tcase_add_loop_test(c, spool_keeps_bytes_in_order, 0,
                        sizeof pieces / sizeof *pieces);
    tcase_add_test(c, spool_has_no_name);
    suite_add_tcase(s, c);
    return s;
}

BISE_CHECK_MAIN
