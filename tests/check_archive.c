/* check_archive.c - frames, byte planes, tar headers and whole archives: what
 * is packed comes back, equal input gives equal bytes, tar's own reader
 * (libarchive) sees the same files, and hostile archives leave nothing.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
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
#include "formats/safetensors.h"
#include "formats/store.h"
#include "formats/tarhead.h"
#include "formats/xxh64.h"
#include "tests/check_main.h"

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/bise-archive-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
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

/* Write a file of n bytes below dir, with its folders. */
static void put(const char *name, const void *data, size_t n)
{
    bise_error err;
    char *path = bise_strdup(at(name));
    char *slash = strrchr(path, '/');
    *slash = 0;
    ck_ok(bise_mkdir(path, &err));
    *slash = '/';
    ck_ok(bise_file_write(path, data, n, &err));
    bise_free(path);
}

/* A safetensors file: n BF16 weights that look trained, and an odd F32. */
static void put_model(const char *name, size_t n)
{
    bise_error err;
    uint16_t *w = bise_alloc_array(n, 2);
    const float odd[3] = { 1, 2, 3 };
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (uint64_t j = 0; j < 4; j++)
            sum += bise_rng_f32(1, j, i) - 0.5f;
        w[i] = bise_f32_to_bf16(sum * 0.02f);
    }
    const bise_tensor t[2] = {
        { .name = "w", .dtype = BISE_DTYPE_BF16, .n_dims = 1, .dims = { n },
          .data = w },
        { .name = "odd", .dtype = BISE_DTYPE_F32, .n_dims = 1, .dims = { 3 },
          .data = odd } };
    ck_ok(bise_st_save(at(name), NULL, t, 2, &err));
    bise_free(w);
}

static void same_file(const char *a, const char *b)
{
    bise_error err;
    bise_str x = { 0 }, y = { 0 };
    ck_ok(bise_file_read(&x, a, &err));
    ck_ok(bise_file_read(&y, b, &err));
    ck_assert_uint_eq(x.len, y.len);
    ck_assert_int_eq(x.len ? memcmp(x.data, y.data, x.len) : 0, 0);
    bise_str_fini(&x);
    bise_str_fini(&y);
}

/* Pack dir/in to dir/out with threads workers. */
static void pack(const char *in, const char *out, bool plain, int threads)
{
    bise_error err;
    bise_pool *pool = NULL;
    bise_pack_result r = { 0 };
    const char *path = at(in);
    ck_ok(bise_pool_new(&pool, threads, &err));
    const bise_pack_options o = { .plain = plain, .force = true,
                                  .pool = pool };
    ck_ok(bise_pack(&path, 1, at(out), &o, &r, &err));
    bise_json_free(r.files);
    bise_pool_free(pool);
}

static bise_status unpack(const char *in, const char *out, bise_error *err)
{
    bise_pack_result r = { 0 };
    const bise_unpack_options o = { .force = false };
    const bise_status s = bise_unpack(at(in), at(out), &o, &r, err);
    bise_json_free(r.files);
    return s;
}

/* ------------------------------------------------------------- building blocks */
START_TEST(xxh64_matches_its_specification)
{
    /* values of the reference implementation, seed 0 */
    ck_assert(bise_xxh64("", 0) == 0xef46db3751d8e999u);
    ck_assert(bise_xxh64("a", 1) == 0xd24ec4f1a98c6e5bu);
    ck_assert(bise_xxh64("abc", 3) == 0x44bc2cf5ad770999u);
    const char *s = "Nobody inspects the spammish repetition";
    ck_assert(bise_xxh64(s, strlen(s)) == 0xfbcea83c8a378bf1u);
}
END_TEST

START_TEST(frames_of_any_size_come_back)
{
    static const size_t sizes[] = { 0, 1, 100, 131071, 131072, 131073, 262144,
                                    700000 };
    const size_t n = sizes[_i];
    bise_zcoder *z = bise_zcoder_new();
    uint8_t *in = malloc(n + 1), *back = malloc(n + 1);
    uint8_t *out = malloc(bise_zframe_bound(n));
    for (int random = 0; random < 2; random++) {
        for (size_t i = 0; i < n; i++)
            in[i] = (uint8_t)(random ? bise_rng_u64(1, 2, i) : i / 64);
        const size_t stored = bise_zframe_store(out, in, n);
        ck_assert_uint_le(stored, bise_zframe_bound(n));
        ck_assert(bise_zframe_unpack(z, back, n, out, stored));
        ck_assert_int_eq(memcmp(in, back, n), 0);
        const size_t packed = bise_zframe_pack(z, out, in, n, 3);
        ck_assert_uint_gt(packed, 0);
        ck_assert_uint_le(packed, stored);
        ck_assert(bise_zframe_unpack(z, back, n, out, packed));
        ck_assert_int_eq(memcmp(in, back, n), 0);
        if (random && n > 1000)
            ck_assert_uint_eq(packed, stored);  /* not worth compressing */
        out[packed / 2] ^= 0x55;                /* checksum or block header */
        ck_assert(!bise_zframe_unpack(z, back, n, out, packed) ||
                  memcmp(in, back, n) == 0);
        ck_assert(!bise_zframe_unpack(z, back, n, out, packed - 1));
    }
    free(in);
    free(back);
    free(out);
    bise_zcoder_free(z);
}
END_TEST

START_TEST(planes_join_what_they_split)
{
    /* odd starts, odd ends, two kinds, chunks that cut weights in two */
    static bise_planes_range ranges[] = {
        { 3, 1001, BISE_PLANES_BF16 }, { 1001, 1002, BISE_PLANES_F16 },
        { 1500, 4194311, BISE_PLANES_F16 },
        { 4194311, 4194400, BISE_PLANES_BF16 } };
    const bise_planes p = { .size = BISE_PLANES_CHUNK + 5000,
                            .ranges = ranges, .n = 4 };
    uint8_t *in = malloc(p.size), *mid = malloc(BISE_PLANES_CHUNK);
    uint8_t *out = malloc(BISE_PLANES_CHUNK);
    for (size_t i = 0; i < p.size; i++)
        in[i] = (uint8_t)bise_rng_u64(3, 4, i);
    for (uint64_t at_ = 0; at_ < p.size; at_ += BISE_PLANES_CHUNK) {
        const uint64_t left = p.size - at_;
        const size_t n = left < BISE_PLANES_CHUNK ? (size_t)left :
            BISE_PLANES_CHUNK;
        const size_t head = bise_planes_split(mid, in + at_, n, at_, &p);
        ck_assert_uint_lt(head, n);
        bise_planes_join(out, mid, n, at_, &p);
        ck_assert_int_eq(memcmp(out, in + at_, n), 0);
    }
    free(in);
    free(mid);
    free(out);
}
END_TEST

/* From a plan's tensors as from the file: ranges that touch are one. */
START_TEST(planes_of_tensors_to_come)
{
    bise_error err;
    bise_planes p;
    bise_tensor t[4] = { { .dtype = BISE_DTYPE_BF16, .offset = 100,
                           .bytes = 4096 },
                         { .dtype = BISE_DTYPE_BF16, .offset = 4196,
                           .bytes = 64 },
                         { .dtype = BISE_DTYPE_F32, .offset = 4260,
                           .bytes = 400 },
                         { .dtype = BISE_DTYPE_F16, .offset = 4660,
                           .bytes = 2 } };
    ck_ok(bise_planes_of(&p, t, 4, 5000, &err));
    ck_assert_uint_eq(p.n, 2);
    ck_assert_uint_eq(p.size, 5000);
    ck_assert_uint_eq(p.ranges[0].start, 100);
    ck_assert_uint_eq(p.ranges[0].end, 4260);
    ck_assert_int_eq(p.ranges[0].kind, BISE_PLANES_BF16);
    ck_assert_uint_eq(p.ranges[1].end, 4662);
    ck_assert_int_eq(p.ranges[1].kind, BISE_PLANES_F16);
    bise_planes_fini(&p);
    t[0].bytes = t[1].bytes = 8;                /* too few to pay */
    ck_ok(bise_planes_of(&p, t, 4, 5000, &err));
    ck_assert_uint_eq(p.n, 0);
}
END_TEST

START_TEST(planes_header_is_checked)
{
    bise_error err;
    bise_str head = { 0 };
    bise_planes p;
    bise_planes_range range = { 8, 100, BISE_PLANES_BF16 };
    const bise_planes good = { .size = 120, .ranges = &range, .n = 1 };
    bise_planes_put_head(&head, &good);
    ck_assert_uint_eq(head.len, bise_planes_head_bytes(&good));
    ck_ok(bise_planes_get_head(&p, head.data, head.len, &err));
    ck_assert_uint_eq(p.ranges[0].end, 100);
    bise_planes_fini(&p);
    for (size_t n = 0; n < head.len; n++)
        ck_fails(bise_planes_get_head(&p, head.data, n, &err), BISE_EFORMAT);
    /* byte, value: magic, ranges, end past the file, end before start, kind */
    static const uint8_t bad[][2] = { { 0, 'X' }, { 12, 2 }, { 32, 121 },
                                      { 32, 8 }, { 40, 3 }, { 40, 0 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *copy = malloc(head.len);
        memcpy(copy, head.data, head.len);
        copy[bad[i][0]] = (char)bad[i][1];
        ck_fails(bise_planes_get_head(&p, copy, head.len, &err), BISE_EFORMAT);
        free(copy);
    }
    bise_str_fini(&head);
}
END_TEST

/* Names that need prefix, pax, or neither. */
static const char *const names[] = {
    "a", "dir/", "model-00001-of-00002.safetensors",
    "a/rather/long/folder/name/that/goes/on/and/on/for/a/while/so/that/it/does/"
    "not/fit/into/one/hundred/bytes.txt",
    "\xc3\xa4\xc3\xb6/\xe6\xa8\xa1\xe5\x9e\x8b.json",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
};

START_TEST(tar_headers_are_read_by_libarchive)
{
    bise_str tar = { 0 };
    bise_tarhead_put(&tar, &(bise_tarhead){ .name = names[_i], .mode = 0644,
                                            .mtime = 86400 });
    ck_assert_uint_eq(tar.len % 512, 0);
    for (int i = 0; i < 1024; i++)
        bise_str_putc(&tar, 0);
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    archive_read_support_format_tar(a);
    archive_read_set_options(a, "hdrcharset=BINARY");
    ck_assert_int_eq(archive_read_open_memory(a, tar.data, tar.len),
                     ARCHIVE_OK);
    ck_assert_int_ge(archive_read_next_header(a, &e), ARCHIVE_WARN);
    const char *got = archive_entry_pathname(e);
    ck_assert_str_eq(got ? got : archive_entry_pathname_utf8(e), names[_i]);
    ck_assert_int_eq(archive_entry_mtime(e), 86400);
    ck_assert_int_eq(archive_entry_uid(e), 0);
    ck_assert_int_eq(archive_entry_perm(e), 0644);
    ck_assert_int_eq(archive_read_next_header(a, &e), ARCHIVE_EOF);
    archive_read_free(a);
    bise_str_fini(&tar);
}
END_TEST

START_TEST(sizes_above_8_gib_go_into_pax)
{
    bise_str tar = { 0 };
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    bise_tarhead_put(&tar, &(bise_tarhead){ .name = "big", .mode = 0644,
                                            .bytes = UINT64_C(9) << 30 });
    archive_read_support_format_tar(a);
    ck_assert_int_eq(archive_read_open_memory(a, tar.data, tar.len),
                     ARCHIVE_OK);
    ck_assert_int_ge(archive_read_next_header(a, &e), ARCHIVE_WARN);
    ck_assert(archive_entry_size(e) == INT64_C(9) << 30);
    archive_read_free(a);
    bise_str_fini(&tar);
}
END_TEST

START_TEST(unsafe_paths_are_known)
{
    static const char *const bad[] = { "", "/", "/etc/passwd", "..", "../a",
        "a/../b", "a/..", "./a", "a/./b", "a//b", "a\\b", "a\nb", "\x7f" };
    static const char *const good[] = { "a", "a/b", "dir/", "..a", "a..b/c",
        ".hidden", "\xc3\xa4" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!bise_archive_safe_path(bad[i]), "'%s'", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(bise_archive_safe_path(good[i]), "'%s'", good[i]);
}
END_TEST

/* ------------------------------------------------------------- whole archives */
/* A tree with all kinds of files. */
static void make_tree(void)
{
    char text[3000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)("packed "[i % 7]);
    put("in/config.json", "{\"a\": 1}", 8);
    put("in/empty", "", 0);
    put("in/sub/deep/x.txt", text, sizeof text);
    put("in/\xc3\xa4 b", "name", 4);
    put("in/manifest.json", "{\"my\": \"own\"}", 13);
    ck_assert_int_eq(mkdir(at("in/void"), 0777), 0);
    ck_assert_int_eq(chmod(at("in/empty"), 0755), 0);
    put_model("in/model.safetensors", 3 << 20);
    put_model("in/small.safetensors", 5000);
}

START_TEST(unpack_gives_what_was_packed)
{
    static const char *const files[] = { "config.json", "empty", "manifest.json",
        "sub/deep/x.txt", "\xc3\xa4 b", "model.safetensors",
        "small.safetensors" };
    bise_error err;
    struct stat st;
    make_tree();
    pack("in", "a.tar.zst", _i == 1, 2);
    ck_ok(unpack("a.tar.zst", "out", &err));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char a[300], b[300];
        snprintf(a, sizeof a, "%s/in/%s", dir, files[i]);
        snprintf(b, sizeof b, "%s/out/%s", dir, files[i]);
        same_file(a, b);
    }
    ck_assert(bise_is_dir(at("out/void")));
    ck_assert_int_eq(stat(at("out/empty"), &st), 0);
    ck_assert_int_eq(st.st_mode & 0100, 0100);
    bise_error_init(&err);
    ck_assert_int_ne(unpack("a.tar.zst", "out", &err), BISE_OK);
    ck_assert_ptr_nonnull(strstr(err.text, "exists already"));
}
END_TEST

START_TEST(equal_input_gives_equal_bytes)
{
    make_tree();
    pack("in", "1.tar.zst", false, 1);
    pack("in", "3.tar.zst", false, 3);
    same_file(at("1.tar.zst"), at("3.tar.zst"));
    ck_assert_uint_lt(bise_file_size(at("1.tar.zst")),
                      bise_file_size(at("in/model.safetensors")) * 7 / 10);
}
END_TEST

/* All members of a packed tar file as libarchive sees them. */
START_TEST(libarchive_sees_the_same_files)
{
    bise_error err;
    bise_archive b;
    make_tree();
    pack("in", "a.tar.zst", true, 2);
    ck_ok(bise_archive_open(&b, at("a.tar.zst"), &err));
    struct archive *a = archive_read_new();
    struct archive_entry *e;
    archive_read_support_format_tar(a);
    archive_read_support_filter_zstd(a);
    archive_read_set_options(a, "hdrcharset=BINARY");
    ck_assert_int_eq(archive_read_open_filename(a, at("a.tar.zst"), 65536),
                     ARCHIVE_OK);
    ck_assert_int_ge(archive_read_next_header(a, &e), ARCHIVE_WARN);
    ck_assert_str_eq(archive_entry_pathname(e), "manifest.json");
    for (size_t i = 0; i < b.n; i++) {
        uint8_t digest[32], buf[65536];
        ck_assert_int_ge(archive_read_next_header(a, &e), ARCHIVE_WARN);
        const char *path = archive_entry_pathname(e);
        ck_assert_str_eq(path ? path : archive_entry_pathname_utf8(e),
                         b.members[i].path);
        ck_assert_uint_eq((uint64_t)archive_entry_size(e), b.members[i].bytes);
        bise_sha256 *h = bise_sha256_new();
        ssize_t n;
        while ((n = archive_read_data(a, buf, sizeof buf)) > 0)
            bise_sha256_add(h, buf, (size_t)n);
        bise_sha256_finish(h, digest);
        if (!bise_ends_with(b.members[i].path, "/"))
            ck_assert_int_eq(memcmp(digest, b.members[i].sha256, 32), 0);
    }
    ck_assert_int_eq(archive_read_next_header(a, &e), ARCHIVE_EOF);
    archive_read_free(a);
    bise_archive_close(&b);
}
END_TEST

START_TEST(packed_model_is_a_store)
{
    bise_error err;
    bise_store *s = NULL, *t = NULL;
    const void *x = NULL, *y = NULL;
    make_tree();
    ck_assert_int_eq(unlink(at("in/small.safetensors")), 0);
    pack("in", "a.tar.zst", _i == 1, 2);
    ck_ok(bise_store_open(&s, at("a.tar.zst"), &err));
    ck_ok(bise_store_open(&t, at("in"), &err));
    ck_assert_int_eq(bise_store_kind_of(s), BISE_STORE_ARCHIVE);
    ck_assert_int_eq(bise_store_inner_kind(s), BISE_STORE_SAFETENSORS);
    ck_assert_str_eq(bise_store_format(s), "archive");
    ck_assert_uint_eq(bise_store_count(s), 2);
    ck_assert(bise_store_has_file(s, "config.json"));
    const bise_tensor *w = bise_store_find(s, "w");
    const bise_tensor *v = bise_store_find(t, "w");
    uint8_t *scratch = malloc(w->bytes);
    /* slices across unit borders, then the whole */
    for (uint64_t first = 0; first + 70001 < w->bytes; first += 999983) {
        ck_ok(bise_store_read(s, w, first, 70001, scratch, &x, &err));
        ck_ok(bise_store_read(t, v, first, 70001, NULL, &y, &err));
        ck_assert_int_eq(memcmp(x, y, 70001), 0);
    }
    bise_store_release(s, w, 0, w->bytes);
    ck_ok(bise_store_data(s, w, &x, &err));
    ck_ok(bise_store_data(t, v, &y, &err));
    ck_assert_int_eq(memcmp(x, y, w->bytes), 0);
    free(scratch);
    bise_json *j = NULL;
    ck_ok(bise_store_json(s, "config.json", &j, &err));
    ck_assert_uint_eq(bise_json_size(j), 1);
    bise_json_free(j);
    bise_store_close(s);
    bise_store_close(t);
}
END_TEST

/* Threads reading slices of one packed member at the same time. */
typedef struct readers {
    bise_store *s;
    const bise_tensor *t;
    const uint8_t *want;
    int wrong[64];
} readers;

static void read_task(void *ctx, size_t index, int worker)
{
    readers *r = ctx;
    uint8_t buf[5000];
    const void *p = NULL;
    bise_error err;
    const uint64_t first = bise_rng_below(7, 0, index,
                                          r->t->bytes - sizeof buf);
    (void)worker;
    bise_error_init(&err);
    r->wrong[index] = bise_store_read(r->s, r->t, first, sizeof buf, buf, &p,
                                      &err) != BISE_OK ||
                      memcmp(p, r->want + first, sizeof buf) != 0;
}

START_TEST(threads_may_read_together)
{
    bise_error err;
    readers r = { 0 };
    const void *want = NULL;
    bise_pool *pool = NULL;
    put("in/config.json", "{}", 2);
    put_model("in/model.safetensors", 20 << 20);
    pack("in", "a.tar.zst", false, 2);
    bise_store *plain = NULL;
    ck_ok(bise_store_open(&plain, at("in"), &err));
    ck_ok(bise_store_data(plain, bise_store_find(plain, "w"), &want, &err));
    ck_ok(bise_store_open(&r.s, at("a.tar.zst"), &err));
    r.t = bise_store_find(r.s, "w");
    r.want = want;
    ck_ok(bise_pool_new(&pool, 5, &err));
    bise_pool_run(pool, 64, read_task, &r);
    bise_pool_free(pool);
    for (int i = 0; i < 64; i++)
        ck_assert_int_eq(r.wrong[i], 0);
    bise_store_close(r.s);
    bise_store_close(plain);
}
END_TEST

/* Bytes of a file that are in the page cache. */
static uint64_t cached_bytes(const char *path)
{
    bise_error err;
    bise_map m;
    uint64_t n = 0;
    ck_ok(bise_map_open(&m, path, &err));
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t count = (size_t)(m.size + page - 1) / page;
    unsigned char *pages = bise_alloc(count);
    union { const uint8_t *in; void *out; } u = { m.data };
    ck_assert_int_eq(mincore(u.out, (size_t)m.size, pages), 0);
    for (size_t i = 0; i < count; i++)
        n += pages[i] & 1 ? page : 0;
    bise_free(pages);
    bise_map_close(&m);
    return n;
}

/* Pages of a mapping stay from now on once they were read, for counting them:
 * the kernel may take them back at any time. Without the right to lock so many
 * it is left to chance. */
static void keep_what_is_read(const bise_map *m)
{
#ifdef MLOCK_ONFAULT
    union { const uint8_t *in; void *out; } u = { m->data };
    if (mlock2(u.out, (size_t)m->size, MLOCK_ONFAULT) != 0)
        puts("pages cannot be locked here");
#else
    (void)m;
#endif
}

/* Reading one member of a cold archive reads less than 1 % more than it; with
 * BISE_LARGE the archive has 1.6 GiB. */
START_TEST(a_member_is_read_without_its_neighbours)
{
    enum { SIZE = 16 << 20 };
    const int n = getenv("BISE_LARGE") ? 100 : 3;
    bise_error err;
    char name[40];
    uint8_t *v = bise_alloc(SIZE);
    for (int f = 0; f < n; f++) {
        for (size_t i = 0; i < SIZE; i += 8)
            bise_store_le64(v + i, bise_mix64(i + (f != n / 2)));
        snprintf(name, sizeof name, "in/%03d.bin", f);
        put(name, v, SIZE);
    }
    pack("in", "a.tar.zst", true, 1);
    snprintf(name, sizeof name, "in/%03d.bin", n / 2);
    const int fd = open(at("a.tar.zst"), O_RDONLY);
    ck_assert_int_eq(fsync(fd), 0);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    if (cached_bytes(at("a.tar.zst")) > 0) {
        puts("skipped: this file system keeps what it holds in memory");
        bise_free(v);
        return;
    }
    bise_archive a;
    ck_ok(bise_archive_open(&a, at("a.tar.zst"), &err));
    keep_what_is_read(&a.map);
    const bise_member *m = bise_archive_find(&a, name + 3);
    bise_unpacker *u = bise_unpacker_new();
    ck_assert_ptr_nonnull(m);
    for (uint64_t k = 0; k * BISE_ARCHIVE_UNIT < SIZE; k++)
        ck_ok(bise_archive_unit(&a, m, k, v + k * BISE_ARCHIVE_UNIT, u, &err));
    for (size_t i = 0; i < SIZE; i += 8)
        ck_assert(bise_load_le64(v + i) == bise_mix64(i));
    const uint64_t touched = cached_bytes(at("a.tar.zst"));
    if (n > 3)
        printf("%" PRIu64 " bytes touched of %" PRIu64 " for a member of %d\n",
               touched, a.map.size, SIZE);
    ck_assert_uint_ge(touched, SIZE);
    ck_assert_uint_lt(touched, SIZE + SIZE / 100);
    bise_unpacker_free(u);
    bise_archive_close(&a);
    bise_free(v);
}
END_TEST

START_TEST(several_paths_stand_under_their_names)
{
    bise_error err;
    bise_pack_result r = { 0 };
    make_tree();
    put("one.txt", "1", 1);
    const char *paths[2] = { at("in"), at("one.txt") };
    const bise_pack_options o = { .plain = true };
    ck_ok(bise_pack(paths, 2, at("a.tar.zst"), &o, &r, &err));
    bise_json_free(r.files);
    ck_ok(unpack("a.tar.zst", "out", &err));
    same_file(at("in/config.json"), at("out/in/config.json"));
    same_file(at("one.txt"), at("out/one.txt"));
    const char *twice[2] = { at("one.txt"), at("in/../one.txt") };
    ck_fails(bise_pack(twice, 2, at("b.tar.zst"), &o, &r, &err), BISE_EINVAL);
    ck_assert(!bise_file_exists(at("b.tar.zst")));
}
END_TEST

/* Sizes about the one from which files bypass the page cache, whole blocks
 * and not; a short file before them moves none out of place. */
START_TEST(large_files_come_back_past_the_cache)
{
    static const size_t sizes[] = { 5, (16 << 20) - 1, 16 << 20,
                                    (16 << 20) + 1, (20 << 20) + 4097 };
    const size_t most = sizes[4];
    bise_error err;
    char name[2][40], path[300];
    uint8_t *v = bise_alloc(most + 8);
    for (size_t i = 0; i < most; i += 8)
        bise_store_le64(v + i, bise_mix64(i));
    for (int i = 0; i < 5; i++) {
        snprintf(name[0], sizeof name[0], "in/%d.bin", i);
        put(name[0], v + i, sizes[i]);
    }
    bise_free(v);
    pack("in", "a.tar.zst", true, 2);
    ck_ok(unpack("a.tar.zst", "out", &err));
    for (int i = 0; i < 5; i++) {
        snprintf(name[0], sizeof name[0], "in/%d.bin", i);
        snprintf(name[1], sizeof name[1], "out/%d.bin", i);
        /* reading would fill the cache: look first. Only the last block of
         * a large file may be there */
        snprintf(path, sizeof path, "%s", at(name[1]));
        const int fd = open(path, O_RDONLY);
#ifdef O_DIRECT
        if (sizes[i] >= 16 << 20 && fcntl(fd, F_SETFL, O_DIRECT) == 0)
            ck_assert_uint_lt(cached_bytes(path), 1 << 20);
#endif
        close(fd);
        snprintf(path, sizeof path, "%s", at(name[0]));
        same_file(path, at(name[1]));
    }
}
END_TEST

START_TEST(links_to_folders_and_pipes_are_refused)
{
    bise_error err;
    bise_pack_result r = { 0 };
    const bise_pack_options o = { .plain = true };
    put("in/a", "1", 1);
    put("other/b", "2", 1);
    ck_assert_int_eq(symlink(at("other/b"), at("in/linked")), 0);
    pack("in", "a.tar.zst", true, 1);           /* a link to a file is read */
    ck_ok(unpack("a.tar.zst", "out", &err));
    same_file(at("out/linked"), at("other/b"));
    ck_assert_int_eq(symlink(at("other"), at("in/folder")), 0);
    char in[128];
    snprintf(in, sizeof in, "%s/in", dir);
    const char *path = in;
    ck_fails(bise_pack(&path, 1, at("b.tar.zst"), &o, &r, &err),
             BISE_EUNSUPPORTED);
    ck_assert_int_eq(unlink(at("in/folder")), 0);
    ck_assert_int_eq(mkfifo(at("in/pipe"), 0666), 0);
    ck_fails(bise_pack(&path, 1, at("b.tar.zst"), &o, &r, &err),
             BISE_EUNSUPPORTED);
    ck_assert(!bise_file_exists(at("b.tar.zst")));
}
END_TEST

/* ------------------------------------------------------------- hostile input */
START_TEST(every_truncation_is_refused)
{
    bise_error err;
    bise_str file = { 0 };
    bise_archive a;
    put("in/a.txt", "some text", 9);
    put_model("in/s.safetensors", 3000);
    pack("in", "a.tar.zst", false, 1);
    ck_ok(bise_file_read(&file, at("a.tar.zst"), &err));
    for (size_t n = 0; n < file.len; n += n < 200 || file.len - n < 200 ? 1 :
         37) {
        ck_ok(bise_file_write(at("cut"), file.data, n, &err));
        ck_fails(bise_archive_open(&a, at("cut"), &err), BISE_EFORMAT);
    }
    bise_str_fini(&file);
}
END_TEST

START_TEST(every_damaged_byte_is_found)
{
    bise_error err;
    bise_str file = { 0 };
    put("in/a.txt", "some text", 9);
    put_model("in/s.safetensors", 3000);
    pack("in", "a.tar.zst", false, 1);
    ck_ok(bise_file_read(&file, at("a.tar.zst"), &err));
    for (size_t i = 0; i < file.len; i += 61) {
        bise_error_init(&err);
        const char old = file.data[i];
        file.data[i] = (char)(old ^ (1 << i % 8));
        ck_ok(bise_file_write(at("bad"), file.data, file.len, &err));
        const bise_status s = unpack("bad", "out", &err);
        if (s == BISE_OK) {
            /* only a checksum in the seek table may differ unseen */
            same_file(at("in/a.txt"), at("out/a.txt"));
            same_file(at("in/s.safetensors"), at("out/s.safetensors"));
            bise_remove_tree(at("out"));
        }
        ck_assert(!bise_file_exists(at("out")));
        ck_assert(!bise_file_exists(at("out.part")));
        file.data[i] = old;
    }
    bise_str_fini(&file);
}
END_TEST

/* An archive with a manifest of our own text and one member "data". */
static void forge(const char *manifest, const char *tar_name)
{
    bise_error err;
    bise_str tar = { 0 }, out = { 0 };
    bise_tarhead_put(&tar, &(bise_tarhead){ .name = "manifest.json",
                                            .bytes = strlen(manifest),
                                            .mode = 0644 });
    bise_str_puts(&tar, manifest);
    while (tar.len % 512)
        bise_str_putc(&tar, 0);
    bise_tarhead_put(&tar, &(bise_tarhead){ .name = tar_name, .bytes = 4,
                                            .mode = 0644 });
    bise_str_puts(&tar, "data");
    while (tar.len % 512)
        bise_str_putc(&tar, 0);
    uint8_t *frame = malloc(bise_zframe_bound(tar.len));
    const size_t n = bise_zframe_store(frame, tar.data, tar.len);
    bise_str_add(&out, frame, n);
    const bise_frame f = { .packed = (uint32_t)n, .bytes = (uint32_t)tar.len };
    bise_zframe_put_table(&out, &f, 1);
    ck_ok(bise_file_write(at("forged"), out.data, out.len, &err));
    free(frame);
    bise_str_fini(&tar);
    bise_str_fini(&out);
}

#define DATA_SHA \
    "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
#define ENTRY(path, bytes, offset) \
    "{\"path\": \"" path "\", \"bytes\": " bytes ", \"sha256\": \"" DATA_SHA \
    "\", \"mode\": \"0644\", \"offset\": " offset "}"
#define MANIFEST(entries) "{\"bise_archive\": 1, \"files\": [" entries "]}"

/* Manifest, name in tar, part of the message; NULL: must unpack. */
static const struct { const char *manifest, *name, *text; } forged[] = {
    { MANIFEST(ENTRY("ok", "4", "512")), "ok", NULL },
    { MANIFEST(ENTRY("../evil", "4", "512")), "../evil", "could leave" },
    { MANIFEST(ENTRY("/tmp/evil", "4", "512")), "/tmp/evil", "could leave" },
    { MANIFEST(ENTRY("a/../../evil", "4", "512")), "ok", "could leave" },
    { MANIFEST(ENTRY("", "4", "512")), "ok", "could leave" },
    { MANIFEST(ENTRY("ok", "4", "512")), "../evil", "differs" },
    { MANIFEST(ENTRY("ok", "5", "512")), "ok", "differs" },
    { MANIFEST(ENTRY("ok", "4", "0")), "ok", "not where" },
    { MANIFEST(ENTRY("ok", "4", "5120")), "ok", "of a tar stream" },
    { MANIFEST(ENTRY("ok", "9223372036854775807", "512")), "ok",
      "of a tar stream" },
    { MANIFEST(ENTRY("ok", "-1", "512")), "ok", "lacks" },
    { MANIFEST(ENTRY("ok", "4", "512") "," ENTRY("ok", "4", "512")), "ok",
      "of a tar stream" },
    { MANIFEST("{\"path\": \"ok\", \"bytes\": 4, \"offset\": 512, \"sha256\": "
               "\"00\"}"), "ok", "lacks" },
    { "{\"bise_archive\": 2, \"files\": []}", "ok", "version" },
    { "{\"files\": 3}", "ok", "version" },
    { "{", "ok", "invalid JSON" },
    { MANIFEST("{\"path\": \"ok\", \"bytes\": 4, \"planes\": true, \"stored\": "
               "4, \"offset\": 512, \"sha256\": \"" DATA_SHA "\"}"), "ok",
      "byte plane" },
};

START_TEST(forged_archives_leave_nothing)
{
    bise_error err;
    bise_error_init(&err);
    forge(forged[_i].manifest, forged[_i].name);
    const bise_status s = unpack("forged", "deep/out", &err);
    if (!forged[_i].text) {
        ck_assert_msg(s == BISE_OK, "%s", err.text);
        ck_assert_uint_eq(bise_file_size(at("deep/out/ok")), 4);
        return;
    }
    ck_assert_int_ne(s, BISE_OK);
    ck_assert_msg(strstr(err.text, forged[_i].text) != NULL, "%s", err.text);
    ck_assert(!bise_file_exists(at("evil")));
    ck_assert(!bise_file_exists(at("deep/evil")));
    ck_assert(!bise_file_exists(at("deep/out")));
    ck_assert(!bise_file_exists(at("deep/out.part")));
    ck_assert(!bise_file_exists("/tmp/evil"));
}
END_TEST

START_TEST(wrong_hash_is_refused)
{
    bise_error err;
    bise_str text = { 0 };
    bise_str_puts(&text, MANIFEST(ENTRY("ok", "4", "512")));
    *strstr(text.data, DATA_SHA) = '4';
    forge(bise_str_get(&text), "ok");
    ck_assert_int_eq(mkdir(at("deep"), 0777), 0);
    ck_fails(unpack("forged", "deep/out", &err), BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "sha256 differs"));
    ck_assert_str_eq(err.path, "ok");
    ck_assert(!bise_file_exists(at("deep/out.part")));
    bise_str_fini(&text);
}
END_TEST

START_TEST(bombs_are_refused)
{
    bise_error err;
    bise_pack_result r = { 0 };
    char *zeros = calloc(1, 8 << 20);
    put("in/zeros", zeros, 8 << 20);
    free(zeros);
    pack("in", "a.tar.zst", true, 2);
    ck_assert_uint_lt(bise_file_size(at("a.tar.zst")), 10000);
    bise_unpack_options o = { .max_bytes = 1 << 20 };
    ck_fails(bise_unpack(at("a.tar.zst"), at("out"), &o, &r, &err),
             BISE_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.hint, "--max-size"));
    ck_assert(!bise_file_exists(at("out")));
    ck_ok(unpack("a.tar.zst", "out", &err));    /* below 1 GiB: allowed */
}
END_TEST

START_TEST(verify_lists_every_problem)
{
    bise_error err;
    bise_verify_result r;
    bise_str file = { 0 };
    const bise_verify_options o = { 0 };
    make_tree();
    pack("in", "a.tar.zst", true, 2);
    ck_ok(bise_file_read(&file, at("a.tar.zst"), &err));
    /* damage two files: the large model, and the text (a small frame) */
    bise_archive a;
    ck_ok(bise_archive_open(&a, at("a.tar.zst"), &err));
    file.data[a.frames[a.n_frames / 2].at + 50] ^= 1;
    bise_archive_close(&a);
    ck_ok(bise_file_write(at("bad"), file.data, file.len, &err));
    ck_ok(bise_verify(at("bad"), &o, &r, &err));
    ck_assert_uint_eq(bise_json_size(r.problems), 1);
    ck_assert_str_eq(bise_json_string(bise_json_get(bise_json_at(r.problems, 0),
                                                    "path"), NULL),
                     "model.safetensors");
    bise_verify_fini(&r);
    ck_ok(bise_file_write(at("bad"), file.data, file.len / 2, &err));
    ck_ok(bise_verify(at("bad"), &o, &r, &err));
    ck_assert_uint_eq(bise_json_size(r.problems), 1);
    bise_verify_fini(&r);
    ck_fails(bise_verify(at("nothing"), &o, &r, &err), BISE_EIO);
    bise_str_fini(&file);
}
END_TEST

/* Index of the first weight equal to 3 in F32 data. */
static uint64_t find_three(bise_dtype t, const void *data, uint64_t n)
{
    for (uint64_t i = 0; t == BISE_DTYPE_F32 && i < n; i++) {
        float v;
        memcpy(&v, (const char *)data + 4 * i, 4);
        if (v == 3)
            return i;
    }
    return UINT64_MAX;
}

START_TEST(verify_names_the_bad_weight)
{
    bise_error err;
    bise_verify_result r;
    const bise_verify_options o = { .find_bad = find_three };
    put_model("s.safetensors", 5000);
    ck_ok(bise_verify(at("s.safetensors"), &o, &r, &err));
    ck_assert_uint_eq(bise_json_size(r.problems), 1);
    const bise_json *p = bise_json_at(r.problems, 0);
    ck_assert_str_eq(bise_json_string(bise_json_get(p, "tensor"), NULL), "odd");
    ck_assert_ptr_nonnull(strstr(bise_json_string(bise_json_get(p, "message"),
                                                  NULL), "weight 2 of F32"));
    bise_verify_fini(&r);
}
END_TEST

START_TEST(verify_checks_a_folder_against_its_manifest)
{
    bise_error err;
    bise_verify_result r;
    const bise_verify_options o = { 0 };
    put("in/a.txt", "some text", 9);
    put("in/b.txt", "more text", 9);
    pack("in", "a.tar.zst", true, 1);
    /* what tar makes of it: the files and the manifest beside them */
    bise_archive a;
    bise_str text = { 0 };
    ck_ok(bise_archive_open(&a, at("a.tar.zst"), &err));
    bise_manifest_put(&text, a.members, a.n, 0);
    bise_archive_close(&a);
    put("in/manifest.json", text.data, text.len);
    ck_ok(bise_verify(at("in"), &o, &r, &err));
    ck_assert_uint_eq(bise_json_size(r.problems), 0);
    ck_assert_uint_eq(bise_json_size(r.files), 2);
    bise_verify_fini(&r);
    put("in/a.txt", "some texT", 9);
    ck_assert_int_eq(unlink(at("in/b.txt")), 0);
    ck_ok(bise_verify(at("in"), &o, &r, &err));
    ck_assert_uint_eq(bise_json_size(r.problems), 2);
    bise_verify_fini(&r);
    bise_str_fini(&text);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("archive");
    TCase *t = tcase_create("archive");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, xxh64_matches_its_specification);
    tcase_add_loop_test(t, frames_of_any_size_come_back, 0, 8);
    tcase_add_test(t, planes_join_what_they_split);
    tcase_add_test(t, planes_header_is_checked);
    tcase_add_test(t, planes_of_tensors_to_come);
    tcase_add_loop_test(t, tar_headers_are_read_by_libarchive, 0,
                        sizeof names / sizeof *names);
    tcase_add_test(t, sizes_above_8_gib_go_into_pax);
    tcase_add_test(t, unsafe_paths_are_known);
    tcase_add_loop_test(t, unpack_gives_what_was_packed, 0, 2);
    tcase_add_test(t, equal_input_gives_equal_bytes);
    tcase_add_test(t, libarchive_sees_the_same_files);
    tcase_add_loop_test(t, packed_model_is_a_store, 0, 2);
    tcase_add_test(t, threads_may_read_together);
    tcase_add_test(t, several_paths_stand_under_their_names);
    tcase_add_test(t, a_member_is_read_without_its_neighbours);
    tcase_add_test(t, large_files_come_back_past_the_cache);
    tcase_add_test(t, links_to_folders_and_pipes_are_refused);
    tcase_add_test(t, every_truncation_is_refused);
    tcase_add_test(t, every_damaged_byte_is_found);
    tcase_add_loop_test(t, forged_archives_leave_nothing, 0,
                        sizeof forged / sizeof *forged);
    tcase_add_test(t, wrong_hash_is_refused);
    tcase_add_test(t, bombs_are_refused);
    tcase_add_test(t, verify_lists_every_problem);
    tcase_add_test(t, verify_names_the_bad_weight);
    tcase_add_test(t, verify_checks_a_folder_against_its_manifest);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
