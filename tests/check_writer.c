/* check_writer.c - the archive writer piece by piece: members of every awkward
 * size, data in any slices, too much and too little of it, levels, dates, and
 * memory that runs out at each allocation in turn.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"
#include "deploy/pack.h"
#include "deploy/verify.h"
#include "formats/archive.h"
#include "formats/crypto.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/store.h"
#include "formats/yaml.h"
#include "tests/check_main.h"

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/bise-writer-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    unsetenv("SOURCE_DATE_EPOCH");
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

/* dir/name in one of four buffers. */
static const char *at(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* Byte i of member m: compressible in parts, random in others. */
static uint8_t byte_of(size_t m, uint64_t i)
{
    return (uint8_t)(i / 65536 % 2 ? bise_rng_u64(m, 0, i) : i / 100 + m);
}

/* Write members of the given sizes in slices, open the archive, compare every
 * unit, and release. */
static void round_trip(const uint64_t *sizes, size_t n, size_t slice,
                       int threads)
{
    bise_error err;
    bise_archive_writer *w = NULL;
    bise_pool *pool = NULL;
    bise_member *m = bise_alloc_array(n, sizeof *m);
    char (*names)[32] = bise_alloc_array(n, sizeof *names);
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%06zu", i);
        m[i] = (bise_member){ .path = names[i], .bytes = sizes[i],
                              .mode = 0644 };
    }
    ck_ok(bise_pool_new(&pool, threads, &err));
    const bise_archive_options o = { .pool = pool };
    ck_ok(bise_archive_create(&w, at("a.tar.zst"), m, n, &o, &err));
    uint8_t *buf = malloc(slice);
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        for (uint64_t k = 0; k < sizes[i]; k++) {
            buf[used++] = byte_of(i, k);
            if (used == slice) {
                ck_ok(bise_archive_write(w, buf, used, &err));
                used = 0;
            }
        }
    ck_ok(bise_archive_write(w, buf, used, &err));
    ck_assert_uint_gt(bise_archive_packed(w), 0);
    ck_ok(bise_archive_finish(w, &err));
    bise_archive a;
    ck_ok(bise_archive_open(&a, at("a.tar.zst"), &err));
    ck_assert_uint_eq(a.n, n);
    bise_unpacker *u = bise_unpacker_new();
    uint8_t *unit = malloc(BISE_ARCHIVE_UNIT);
    for (size_t i = 0; i < n; i++) {
        ck_ok(bise_archive_check_header(&a, i, u, &err));
        for (uint64_t k = 0; k * BISE_ARCHIVE_UNIT < sizes[i]; k++) {
            const uint64_t first = k * BISE_ARCHIVE_UNIT;
            const uint64_t left = sizes[i] - first;
            ck_ok(bise_archive_unit(&a, &a.members[i], k, unit, u, &err));
            for (uint64_t j = 0; j < left && j < BISE_ARCHIVE_UNIT; j += 97)
                ck_assert_uint_eq(unit[j], byte_of(i, first + j));
        }
    }
    bise_unpacker_free(u);
    bise_archive_close(&a);
    bise_pool_free(pool);
    bise_free(m);
    bise_free(names);
    free(unit);
    free(buf);
}

START_TEST(sizes_around_every_border_come_back)
{
    static const uint64_t unit = BISE_ARCHIVE_UNIT;
    const uint64_t sizes[] = { 0, 1, 511, 512, 513, unit - 1, unit, 0,
                               unit + 1, 2 * unit, 3 };
    round_trip(sizes, sizeof sizes / sizeof *sizes, 65536, 2);
}
END_TEST

START_TEST(slices_may_span_members)
{
    static const uint64_t sizes[] = { 10, 0, 70000, 0, 0, 5, 300000 };
    static const size_t slices[] = { 1, 7, 4096, 500000 };
    round_trip(sizes, 7, slices[_i], 1);
}
END_TEST

/* Large slices are packed from the caller's memory, small ones are copied:
 * the archive is the same. */
START_TEST(slices_do_not_show_in_the_archive)
{
    static const uint64_t unit = BISE_ARCHIVE_UNIT;
    static const uint64_t sizes[] = { 3, 2 * unit + 17, unit, 0, 5 };
    static const size_t slices[] = { 100003, BISE_ARCHIVE_UNIT + 512,
                                     3 * BISE_ARCHIVE_UNIT };
    bise_error err;
    bise_str first = { 0 }, other = { 0 };
    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++) {
        bise_str *text = i ? &other : &first;
        remove(at("a.tar.zst"));
        round_trip(sizes, sizeof sizes / sizeof *sizes, slices[i],
                   1 + (int)i % 3);
        ck_ok(bise_file_read(text, at("a.tar.zst"), &err));
        ck_assert_uint_eq(text->len, first.len);
        ck_assert_int_eq(memcmp(text->data, first.data, first.len), 0);
        bise_str_fini(&other);
    }
    bise_str_fini(&first);
}
END_TEST

/* A member out of the middle: only its own frames are read, which are less
 * than 1 % more than its bytes even when nothing could be packed. */
START_TEST(a_member_is_read_without_the_others)
{
    static const uint64_t unit = BISE_ARCHIVE_UNIT;
    const uint64_t sizes[3] = { 2 * unit + 9, 3 * unit + 77, unit + 1 };
    bise_error err;
    bise_archive_writer *w = NULL;
    bise_archive a;
    bise_member m[3] = { { .path = "a" }, { .path = "b" }, { .path = "c" } };
    const bise_archive_options o = { 0 };
    const uint64_t total = sizes[0] + sizes[1] + sizes[2];
    uint64_t *data = malloc(total + 8);
    for (uint64_t i = 0; i < total / 8 + 1; i++)
        data[i] = bise_rng_u64(5, 0, i);
    for (int i = 0; i < 3; i++)
        m[i].bytes = sizes[i];
    ck_ok(bise_archive_create(&w, at("x"), m, 3, &o, &err));
    ck_ok(bise_archive_write(w, data, total, &err));
    ck_ok(bise_archive_finish(w, &err));
    ck_ok(bise_archive_open(&a, at("x"), &err));
    bise_unpacker *u = bise_unpacker_new();
    uint8_t *out = malloc(unit);
    for (uint64_t k = 0; k * unit < sizes[1]; k++) {
        const uint64_t left = sizes[1] - k * unit;
        ck_ok(bise_archive_unit(&a, &a.members[1], k, out, u, &err));
        ck_assert_int_eq(memcmp(out, (char *)data + sizes[0] + k * unit,
                                left < unit ? left : unit), 0);
    }
    ck_assert_uint_ge(bise_unpacker_bytes(u), sizes[1]);
    ck_assert_uint_lt(bise_unpacker_bytes(u), sizes[1] + sizes[1] / 100);
    bise_unpacker_free(u);
    bise_archive_close(&a);
    free(data);
    free(out);
}
END_TEST

START_TEST(more_members_than_a_batch_has_slots)
{
    uint64_t sizes[1000];
    for (size_t i = 0; i < 1000; i++)
        sizes[i] = bise_rng_below(3, 0, i, 3) * 100;
    round_trip(sizes, 1000, 1000, 2);
}
END_TEST

START_TEST(data_must_be_exactly_what_was_announced)
{
    bise_error err;
    bise_archive_writer *w = NULL;
    bise_member m[2] = { { .path = "a", .bytes = 4, .mode = 0644 },
                         { .path = "b", .bytes = 3, .mode = 0644 } };
    const bise_archive_options o = { 0 };
    ck_ok(bise_archive_create(&w, at("x"), m, 2, &o, &err));
    ck_ok(bise_archive_write(w, "aaaabb", 6, &err));
    ck_fails(bise_archive_finish(w, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "'b' is missing"));
    ck_assert(!bise_file_exists(at("x")));
    ck_assert(!bise_file_exists(at("x.part")));
    ck_ok(bise_archive_create(&w, at("x"), m, 2, &o, &err));
    ck_fails(bise_archive_write(w, "aaaabbbc", 8, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "1 bytes after the last"));
    bise_archive_abandon(w);
    ck_assert(!bise_file_exists(at("x.part")));
    bise_archive_abandon(NULL);
    ck_ok(bise_archive_create(&w, at("x"), m, 2, &o, &err));
    ck_ok(bise_archive_write(w, "aaaabbb", 7, &err));
    ck_ok(bise_archive_finish(w, &err));
    uint8_t digest[32];
    bise_sha256_of(digest, "bbb", 3);
    ck_assert_int_eq(memcmp(m[1].sha256, digest, 32), 0);
    ck_assert_int_ne(bise_archive_create(&w, at("x"), m, 2, &o, &err),
                     BISE_OK);                  /* exists, no force */
}
END_TEST

/* Count the reports; the first one asks to stop when told so. */
typedef struct watcher {
    volatile sig_atomic_t stop;
    bool stops;
    int reports;
    uint64_t done, total;
} watcher;

static void watch(void *ctx, const char *stage, uint64_t done, uint64_t total,
                  const char *unit, const char *remark)
{
    watcher *w = ctx;
    (void)remark;
    ck_assert_str_eq(stage, "pack");
    ck_assert_str_eq(unit, "bytes");
    ck_assert_uint_ge(done, w->done);
    ck_assert_uint_le(done, total);
    w->done = done;
    w->total = total;
    w->stop = ++w->reports == 1 && w->stops;
}

/* Pack the file dir/data as one member, as a mapping or in slices. */
static bise_status pack_data(const char *out, uint64_t slice, int threads,
                             const bise_progress *p, bise_error *out_err)
{
    bise_error err;
    bise_archive_writer *w = NULL;
    bise_pool *pool = NULL;
    bise_map map;
    ck_ok(bise_map_open(&map, at("data"), &err));
    bise_member m = { .path = "data", .bytes = map.size, .mode = 0644 };
    ck_ok(bise_pool_new(&pool, threads, &err));
    const bise_archive_options o = { .pool = pool, .progress = p };
    ck_ok(bise_archive_create(&w, at(out), &m, 1, &o, &err));
    bise_status s = slice ? BISE_OK : bise_archive_write_map(w, &map, &err);
    for (uint64_t k = 0; slice && k < map.size && s == BISE_OK; k += slice)
        s = bise_archive_write(w, map.data + k, map.size - k < slice ?
                               map.size - k : slice, &err);
    if (s == BISE_OK)
        s = bise_archive_finish(w, &err);
    else
        bise_archive_abandon(w);
    bise_map_close(&map);
    bise_pool_free(pool);
    *out_err = err;
    return s;
}

static void make_data(size_t n)
{
    bise_error err;
    uint8_t *data = malloc(n);
    for (size_t i = 0; i < n; i++)
        data[i] = byte_of(1, i);
    ck_ok(bise_file_write(at("data"), data, n, &err));
    free(data);
}

/* A mapping, slices that are copied, and slices packed in place. */
START_TEST(bytes_do_not_depend_on_slices_or_threads)
{
    static const struct { uint64_t slice; int threads; } cases[] = {
        { 0, 1 }, { 0, 2 }, { 0, 5 }, { 1000003, 3 }, { 9 << 20, 2 } };
    bise_error err;
    bise_str first = { 0 }, next = { 0 };
    make_data(41 * (1u << 20) + 77);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        watcher seen = { 0 };
        const bise_progress p = { .report = watch, .ctx = &seen };
        ck_ok(pack_data("a", cases[i].slice, cases[i].threads, &p, &err));
        bise_str_clear(&next);
        ck_ok(bise_file_read(i ? &next : &first, at("a"), &err));
        ck_assert(i == 0 || (first.len == next.len &&
                             !memcmp(first.data, next.data, next.len)));
        ck_assert_uint_eq(seen.total, 41 * (1u << 20) + 77);
        ck_assert_int_eq(unlink(at("a")), 0);
    }
    bise_str_fini(&first);
    bise_str_fini(&next);
}
END_TEST

START_TEST(an_interrupted_writer_leaves_nothing)
{
    bise_error err;
    watcher seen = { .stops = true };
    const bise_progress p = { .report = watch, .ctx = &seen,
                              .cancel = &seen.stop };
    make_data(64u << 20);
    ck_fails(pack_data("a", 0, 1 + _i, &p, &err), BISE_ECANCEL);
    ck_assert(!bise_file_exists(at("a")));
    ck_assert(!bise_file_exists(at("a.part")));
}
END_TEST

START_TEST(an_archive_may_be_empty)
{
    bise_error err;
    bise_archive_writer *w = NULL;
    bise_archive a;
    const bise_archive_options o = { 0 };
    ck_ok(bise_archive_create(&w, at("x"), NULL, 0, &o, &err));
    ck_ok(bise_archive_finish(w, &err));
    ck_assert(bise_archive_probe(at("x")));
    ck_ok(bise_archive_open(&a, at("x"), &err));
    ck_assert_uint_eq(a.n, 0);
    ck_assert_ptr_null(bise_archive_find(&a, "nothing"));
    bise_archive_close(&a);
    ck_assert(!bise_archive_probe(dir));
    ck_assert(!bise_archive_probe(at("nothing")));
}
END_TEST

/* Make dir/in with some files; the total of their bytes. */
static uint64_t make_tree(void)
{
    bise_error err;
    char text[20000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "some words that repeat, "[i % 24];
    ck_ok(bise_mkdir(at("in/sub"), &err));
    ck_ok(bise_file_write(at("in/words"), text, sizeof text, &err));
    ck_ok(bise_file_write(at("in/sub/few"), text, 100, &err));
    return sizeof text + 100;
}

static uint64_t pack_tree(const char *out, int level, bool plain)
{
    bise_error err;
    bise_pack_result r = { 0 };
    char in[128];
    snprintf(in, sizeof in, "%s/in", dir);
    const char *path = in;
    const bise_pack_options o = { .level = level, .plain = plain,
                                  .force = true };
    ck_ok(bise_pack(&path, 1, at(out), &o, &r, &err));
    bise_json_free(r.files);
    ck_assert_uint_eq(r.packed, bise_file_size(at(out)));
    return r.packed;
}

START_TEST(levels_and_results)
{
    const uint64_t bytes = make_tree();
    const uint64_t fast = pack_tree("1", 1, false);
    const uint64_t best = pack_tree("19", 19, false);
    ck_assert_uint_le(best, fast);
    ck_assert_uint_lt(fast, bytes / 4);
    ck_assert_uint_eq(pack_tree("0", 0, false), pack_tree("3", 3, true));
}
END_TEST

START_TEST(dates_follow_source_date_epoch)
{
    bise_error err;
    bise_archive a;
    bise_str x = { 0 }, y = { 0 };
    make_tree();
    pack_tree("a", 3, true);
    setenv("SOURCE_DATE_EPOCH", "1000000000", 1);
    pack_tree("b", 3, true);
    ck_ok(bise_file_read(&x, at("a"), &err));
    ck_ok(bise_file_read(&y, at("b"), &err));
    ck_assert(x.len != y.len || memcmp(x.data, y.data, x.len) != 0);
    ck_ok(bise_archive_open(&a, at("a"), &err));
    ck_assert_int_eq(a.mtime, 0);
    bise_archive_close(&a);
    ck_ok(bise_archive_open(&a, at("b"), &err));
    ck_assert_int_eq(a.mtime, 1000000000);
    bise_archive_close(&a);
    bise_str_fini(&x);
    bise_str_fini(&y);
}
END_TEST

START_TEST(the_archive_itself_is_left_out)
{
    bise_error err;
    bise_archive a;
    bise_pack_result r = { 0 };
    char in[128];
    make_tree();
    snprintf(in, sizeof in, "%s/in", dir);
    const char *path = in;
    const bise_pack_options o = { .force = true };
    for (int i = 0; i < 2; i++) {               /* new, then replacing itself */
        ck_ok(bise_pack(&path, 1, at("in/x.tar.zst"), &o, &r, &err));
        bise_json_free(r.files);
        ck_ok(bise_archive_open(&a, at("in/x.tar.zst"), &err));
        ck_assert_uint_eq(a.n, 2);
        ck_assert_ptr_nonnull(bise_archive_find(&a, "sub/few"));
        bise_archive_close(&a);
    }
}
END_TEST

START_TEST(nothing_to_pack_is_said)
{
    bise_error err;
    bise_pack_result r = { 0 };
    const bise_pack_options o = { 0 };
    char in[128];
    ck_ok(bise_mkdir(at("in"), &err));
    snprintf(in, sizeof in, "%s/in", dir);
    const char *path = in;
    ck_fails(bise_pack(&path, 1, at("x"), &o, &r, &err), BISE_EINVAL);
    path = "/nonexistent/folder";
    ck_fails(bise_pack(&path, 1, at("x"), &o, &r, &err), BISE_EIO);
    ck_assert_str_eq(err.path, path);
    ck_assert(!bise_file_exists(at("x")));
}
END_TEST

/* ------------------------------------------------------------- memory */
/* Let the n-th allocation fail for n = 1, 2, ... until the call succeeds; it
 * must fail with BISE_ENOMEM and leave nothing before. */
#define each_allocation(call, clean, most) \
    do { \
        int done_ = 0; \
        for (uint64_t n_ = 1; n_ < (most) && !done_; n_++) { \
            bise_error_init(&err); \
            bise_alloc_fail_after(n_); \
            const bise_status s_ = (call); \
            bise_alloc_fail_after(0); \
            if (s_ == BISE_OK) { \
                clean; \
                done_ = n_ > 60; \
            } else \
                ck_assert_msg(s_ == BISE_ENOMEM, "%" PRIu64 ": %s", n_, \
                              err.text); \
        } \
    } while (0)

static void put_safetensors(void)
{
    bise_error err;
    const float v[4] = { 1, 2, 3, 4 };
    const bise_tensor t[2] = {
        { .name = "a", .dtype = BISE_DTYPE_F32, .n_dims = 1, .dims = { 4 },
          .data = v },
        { .name = "b", .dtype = BISE_DTYPE_BF16, .n_dims = 1, .dims = { 8 },
          .data = v } };
    ck_ok(bise_st_save(at("m.safetensors"), NULL, t, 2, &err));
}

START_TEST(stores_survive_failing_allocations)
{
    bise_error err;
    bise_store *s = NULL;
    put_safetensors();
    each_allocation(bise_store_open(&s, at("m.safetensors"), &err),
                    bise_store_close(s), 200);
}
END_TEST

START_TEST(gguf_survives_failing_allocations)
{
    bise_error err;
    bise_gguf g;
    bise_gguf_meta m = { 0 };
    const float v[4] = { 1, 2, 3, 4 };
    const bise_tensor t = { .name = "a", .dtype = BISE_DTYPE_F32, .n_dims = 1,
                            .dims = { 4 }, .data = v };
    bise_gguf_set_u32(&m, "a", 1);
    bise_gguf_set_str(&m, "b", "text");
    ck_ok(bise_gguf_save(at("g"), &m, &t, 1, &err));
    each_allocation(bise_gguf_open(&g, at("g"), &err), bise_gguf_close(&g),
                    200);
    each_allocation(bise_gguf_save(at("g2"), &m, &t, 1, &err), (void)0, 200);
    bise_gguf_meta_fini(&m);
    for (uint64_t n = 1; n < 12; n++) {         /* lists remember failures */
        bise_str head = { 0 };
        uint64_t bytes = 0;
        bise_alloc_fail_after(n);
        bise_gguf_set_u32(&m, "a", 1);
        bise_gguf_set_str(&m, "b", "text");
        bise_alloc_fail_after(0);
        bise_error_init(&err);
        const bise_status s = bise_gguf_header(&head, &m, NULL, 0, &bytes,
                                               &err);
        ck_assert_int_eq(s, m.failed ? BISE_ENOMEM : BISE_OK);
        bise_str_fini(&head);
        bise_gguf_meta_fini(&m);
    }
}
END_TEST

START_TEST(archives_survive_failing_allocations)
{
    bise_error err;
    bise_archive a;
    bise_pack_result r = { 0 };
    char in[128];
    make_tree();
    snprintf(in, sizeof in, "%s/in", dir);
    const char *path = in;
    const bise_pack_options o = { .force = true };
    each_allocation(bise_pack(&path, 1, at("x"), &o, &r, &err),
                    (bise_json_free(r.files), r.files = NULL), 400);
    ck_assert(!bise_file_exists(at("x.part")));
    each_allocation(bise_archive_open(&a, at("x"), &err),
                    bise_archive_close(&a), 200);
    const bise_unpack_options u = { 0 };
    each_allocation(bise_unpack(at("x"), at("out"), &u, &r, &err),
                    (bise_remove_tree(at("out")), bise_json_free(r.files),
                     r.files = NULL), 200);
    ck_assert(!bise_file_exists(at("out.part")));
    bise_store *s = NULL;
    put_safetensors();
    ck_assert_int_eq(rename(at("m.safetensors"), at("in/m.safetensors")), 0);
    ck_ok(bise_pack(&path, 1, at("y"), &o, &r, &err));
    bise_json_free(r.files);
    each_allocation(bise_store_open(&s, at("y"), &err), bise_store_close(s),
                    300);
}
END_TEST

START_TEST(verify_survives_failing_allocations)
{
    bise_error err;
    bise_verify_result r = { 0 };
    const bise_verify_options o = { 0 };
    put_safetensors();
    each_allocation(bise_verify(at("m.safetensors"), &o, &r, &err),
                    bise_verify_fini(&r), 200);
}
END_TEST

START_TEST(yaml_survives_failing_allocations)
{
    static const char text[] = "a: [1, two, {b: 3}]\nc: text\n";
    bise_error err;
    bise_json *v = NULL;
    each_allocation(bise_yaml_parse(&v, text, strlen(text), &err),
                    bise_json_free(v), 100);
}
END_TEST

/* ------------------------------------------------------------- gguf lists */
/* A scalar of each type by its bytes, as integer and as number; other = -99
 * where it does not convert. */
static const struct {
    bise_gguf_type type;
    uint8_t bytes[8];
    unsigned n;
    int64_t integer;
    double number;
} scalars[] = {
    { BISE_GGUF_U8, { 200 }, 1, 200, 200 },
    { BISE_GGUF_I8, { 200 }, 1, -56, -56 },
    { BISE_GGUF_U16, { 0xff, 0xff }, 2, 65535, 65535 },
    { BISE_GGUF_I16, { 0xff, 0xff }, 2, -1, -1 },
    { BISE_GGUF_U32, { 0, 0, 0, 0x80 }, 4, 2147483648, 2147483648.0 },
    { BISE_GGUF_I32, { 0, 0, 0, 0x80 }, 4, -2147483648LL, -2147483648.0 },
    { BISE_GGUF_F32, { 0, 0, 0x20, 0x41 }, 4, 10, 10 },
    { BISE_GGUF_F32, { 0, 0, 0x80, 0x7f }, 4, -99, HUGE_VAL },
    { BISE_GGUF_BOOL, { 2 }, 1, 2, 2 },
    { BISE_GGUF_U64, { 0, 0, 0, 0, 1 }, 8, 4294967296, 4294967296.0 },
    { BISE_GGUF_I64, { 255, 255, 255, 255, 255, 255, 255, 255 }, 8, -1, -1 },
    { BISE_GGUF_F64, { 0, 0, 0, 0, 0, 0, 0xf8, 0xbf }, 8, -1, -1.5 },
    { BISE_GGUF_STR, { '7' }, 1, -99, -99 },
};

START_TEST(scalars_convert_by_type)
{
    bise_gguf_meta m = { 0 };
    const bise_gguf_kv kv = { .key = (char[]){ "k" }, .type = scalars[_i].type,
                              .count = 1, .data = scalars[_i].bytes,
                              .bytes = scalars[_i].n };
    bise_gguf_copy(&m, &kv);
    ck_assert(!m.failed);
    ck_assert(bise_gguf_int(&m, "k", -99) == scalars[_i].integer);
    ck_assert(bise_gguf_float(&m, "k", -99) == scalars[_i].number);
    ck_assert(bise_gguf_int(&m, "other", 5) == 5);
    ck_assert(bise_gguf_float(NULL, "k", 0.5) == 0.5);
    ck_assert_ptr_null(bise_gguf_get(NULL, "k"));
    bise_gguf_meta_fini(&m);
}
END_TEST

START_TEST(arrays_of_every_type_are_numbers)
{
    static const uint8_t data[16] = { 1, 0, 0, 0, 0, 0, 0, 0, 2 };
    for (int t = 0; t <= BISE_GGUF_F64; t++) {
        bise_gguf_meta m = { 0 };
        if (t == BISE_GGUF_STR || t == BISE_GGUF_ARRAY || t == BISE_GGUF_F32 ||
            t == BISE_GGUF_F64)
            continue;
        bise_gguf_set_array(&m, "k", (bise_gguf_type)t, data, 2);
        const bise_gguf_kv *kv = bise_gguf_get(&m, "k");
        ck_assert_uint_eq(kv->count, 2);
        ck_assert(bise_gguf_array_number(kv, 0) == 1);
        ck_assert(bise_gguf_array_number(kv, 1) == (kv->bytes == 16 ? 2 : 0));
        ck_assert(bise_gguf_array_number(kv, 2) == 0);
        uint64_t pos = 0;
        size_t len = 0;
        ck_assert_ptr_null(bise_gguf_array_next(kv, &pos, &len));
        bise_gguf_meta_fini(&m);
    }
}
END_TEST

START_TEST(a_long_list_keeps_its_order)
{
    bise_gguf_meta m = { 0 };
    char key[20];
    for (unsigned i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "key.%u", i);
        bise_gguf_set_u32(&m, key, i);
    }
    bise_gguf_set_u32(&m, "key.250", 7);
    bise_gguf_remove(&m, "key.0");
    bise_gguf_to_end(&m, "key.1");
    ck_assert_uint_eq(m.n, 499);
    ck_assert_str_eq(m.kv[0].key, "key.2");
    ck_assert_str_eq(m.kv[498].key, "key.1");
    ck_assert_int_eq(bise_gguf_int(&m, "key.250", 0), 7);
    ck_assert_str_eq(m.kv[248].key, "key.250");
    for (size_t i = 1; i < 498; i++)
        if (i != 248)
            ck_assert_int_eq(bise_gguf_int(&m, m.kv[i].key, -1), (int)i + 2);
    bise_gguf_meta_fini(&m);
    bise_gguf_meta_fini(&m);                    /* twice is fine */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("writer");
    TCase *t = tcase_create("writer");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, sizes_around_every_border_come_back);
    tcase_add_loop_test(t, slices_may_span_members, 0, 4);
    tcase_add_test(t, slices_do_not_show_in_the_archive);
    tcase_add_test(t, a_member_is_read_without_the_others);
    tcase_add_test(t, more_members_than_a_batch_has_slots);
    tcase_add_test(t, data_must_be_exactly_what_was_announced);
    tcase_add_test(t, bytes_do_not_depend_on_slices_or_threads);
    tcase_add_loop_test(t, an_interrupted_writer_leaves_nothing, 0, 3);
    tcase_add_test(t, an_archive_may_be_empty);
    tcase_add_test(t, levels_and_results);
    tcase_add_test(t, dates_follow_source_date_epoch);
    tcase_add_test(t, the_archive_itself_is_left_out);
    tcase_add_test(t, nothing_to_pack_is_said);
    tcase_add_test(t, stores_survive_failing_allocations);
    tcase_add_test(t, gguf_survives_failing_allocations);
    tcase_add_test(t, archives_survive_failing_allocations);
    tcase_add_test(t, verify_survives_failing_allocations);
    tcase_add_test(t, yaml_survives_failing_allocations);
    tcase_add_loop_test(t, scalars_convert_by_type, 0,
                        sizeof scalars / sizeof *scalars);
    tcase_add_test(t, arrays_of_every_type_are_numbers);
    tcase_add_test(t, a_long_list_keeps_its_order);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
