/* check_shipping.c - what is made to be sent away: OCI layouts (deploy/oci.h)
 * whose every digest, size and layer is followed, and plans that run into an
 * archive (pipeline/run_pack.c), compared with the archive that bise_pack makes
 * of the same plan's directory. Both with memory that runs out.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "convert/convert.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"
#include "deploy/oci.h"
#include "formats/archive.h"
#include "formats/crypto.h"
#include "pipeline/run.h"
#include "tests/check_main.h"

#define MODEL BISE_SRCDIR "/examples/tiny-mistral3"

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/bise-shipping-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    unsetenv("SOURCE_DATE_EPOCH");
}

static void teardown(void)
{
    bise_remove_tree(dir);
}

/* dir/name in one of eight buffers. */
static const char *at(const char *name)
{
    static char path[8][512];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* dir/name with n bytes; noise: that do not compress. */
static void put(const char *name, size_t n, bool noise)
{
    bise_error err;
    uint8_t *data = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)(noise ? bise_rng_u64(7, n, i) : i / 1000);
    ck_ok(bise_file_write(at(name), data, n, &err));
    free(data);
}

/* Are two files equal? */
static void same_file(const char *a, const char *b)
{
    bise_error err;
    bise_str x = { 0 }, y = { 0 };
    ck_ok(bise_file_read(&x, a, &err));
    ck_ok(bise_file_read(&y, b, &err));
    ck_assert_uint_eq(x.len, y.len);
    ck_assert_msg(memcmp(bise_str_get(&x), bise_str_get(&y), x.len) == 0,
                  "%s and %s differ", a, b);
    bise_str_fini(&x);
    bise_str_fini(&y);
}

/* ------------------------------------------------------------- OCI */
/* Files of every kind and size: empty, small, just large enough to be tried,
 * several batches of units; of zeros and of noise. */
static const struct { const char *name; size_t n; bool noise; const char *how; }
files[] = {
    { "in/LICENSE", 11000, false, "doc.v1.raw" },
    { "in/config.json", 700, false, "weight.config.v1.raw" },
    { "in/data.jsonl", BISE_OCI_SMALL - 1, false, "dataset.v1.raw" },
    { "in/empty.txt", 0, false, "weight.config.v1.raw" },
    { "in/large.gguf", (26u << 20) + 77, false, "weight.v1.tar+zstd" },
    { "in/noise.safetensors", (5u << 20) + 1, true, "weight.v1.raw" },
    { "in/run.py", 99, false, "code.v1.raw" },
    { "in/sub/model.gguf", BISE_OCI_SMALL, false, "weight.v1.tar+zstd" },
};
#define FILES (sizeof files / sizeof *files)

static void make_input(void)
{
    bise_error err;
    ck_ok(bise_mkdir(at("in/sub"), &err));
    for (size_t i = 0; i < FILES; i++)
        put(files[i].name, files[i].n, files[i].noise);
}

static void make_layout(const char *out, int threads)
{
    bise_error err;
    bise_pool *pool = NULL;
    bise_pack_result r = { 0 };
    const char *in = at("in");
    ck_ok(bise_pool_new(&pool, threads, &err));
    const bise_pack_options o = { .pool = pool };
    ck_ok(bise_oci_pack(&in, 1, at(out), &o, &r, &err));
    ck_assert_uint_eq(r.n, FILES);
    ck_assert_uint_eq(bise_json_size(r.files), FILES);
    ck_assert_uint_eq(r.planes, 0);
    bise_json_free(r.files);
    bise_pool_free(pool);
}

static const char *text_of(const bise_json *o, const char *key)
{
    const char *s = bise_json_string(bise_json_get(o, key), NULL);
    ck_assert_msg(s != NULL, "no %s", key);
    return s;
}

/* Path of a descriptor's blob, whose digest and size are checked. */
static const char *blob_of(const bise_json *d)
{
    bise_error err;
    uint8_t got[32];
    char hex[65], name[128];
    int64_t size = -1;
    const char *digest = text_of(d, "digest");
    ck_assert_int_eq(strncmp(digest, "sha256:", 7), 0);
    snprintf(name, sizeof name, "oci/blobs/sha256/%s", digest + 7);
    const char *path = at(name);
    ck_ok(bise_sha256_file(got, path, &err));
    ck_assert_str_eq(bise_hex32(hex, got), digest + 7);
    ck_assert(bise_json_integer(bise_json_get(d, "size"), &size));
    ck_assert_int_eq((int64_t)bise_file_size(path), size);
    return path;
}

static bise_json *load(const char *path)
{
    bise_error err;
    bise_json *v = NULL;
    ck_ok(bise_json_load(&v, path, &err));
    return v;
}

/* The one member of a tar+zstd layer, read by libarchive, against a file. */
static void check_member(const char *layer, const char *name, const char *file)
{
    bise_error err;
    bise_str want = { 0 };
    struct archive *a = archive_read_new();
    struct archive_entry *e = NULL;
    archive_read_support_filter_zstd(a);
    archive_read_support_format_tar(a);
    ck_assert_int_eq(archive_read_open_filename(a, layer, 65536), ARCHIVE_OK);
    ck_assert_int_eq(archive_read_next_header(a, &e), ARCHIVE_OK);
    ck_assert_str_eq(archive_entry_pathname(e), name);
    ck_assert_int_eq(archive_entry_mtime(e), 0);
    ck_assert_int_eq(archive_entry_uid(e), 0);
    ck_ok(bise_file_read(&want, file, &err));
    char *got = malloc(want.len + 1);
    ck_assert_int_eq(archive_read_data(a, got, want.len + 1),
                     (la_ssize_t)want.len);
    ck_assert_int_eq(memcmp(got, want.data, want.len), 0);
    ck_assert_int_eq(archive_read_next_header(a, &e), ARCHIVE_EOF);
    archive_read_free(a);
    free(got);
    bise_str_fini(&want);
}

/* Digest of all bytes that a zstd file unpacks to. */
static void diff_of(char hex[65], const char *layer)
{
    uint8_t digest[32];
    const void *data;
    size_t n;
    la_int64_t offset;
    bise_sha256 *h = bise_sha256_new();
    struct archive *a = archive_read_new();
    struct archive_entry *e = NULL;
    archive_read_support_filter_zstd(a);
    archive_read_support_format_raw(a);
    ck_assert_int_eq(archive_read_open_filename(a, layer, 65536), ARCHIVE_OK);
    ck_assert_int_eq(archive_read_next_header(a, &e), ARCHIVE_OK);
    while (archive_read_data_block(a, &data, &n, &offset) == ARCHIVE_OK)
        bise_sha256_add(h, data, n);
    archive_read_free(a);
    bise_sha256_finish(h, digest);
    bise_hex32(hex, digest);
}

START_TEST(every_layer_gives_its_file_back)
{
    char type[128], hex[65], name[128];
    make_input();
    make_layout("oci", 2);
    bise_json *index = load(at("oci/index.json"));
    const bise_json *d = bise_json_at(bise_json_get(index, "manifests"), 0);
    ck_assert_str_eq(text_of(d, "mediaType"),
                     "application/vnd.oci.image.manifest.v1+json");
    bise_json *m = load(blob_of(d));
    ck_assert_str_eq(text_of(m, "artifactType"),
                     "application/vnd.cncf.model.manifest.v1+json");
    const bise_json *config = bise_json_get(m, "config");
    ck_assert_str_eq(text_of(config, "mediaType"),
                     "application/vnd.cncf.model.config.v1+json");
    bise_json *c = load(blob_of(config));
    const bise_json *diffs = bise_json_get(bise_json_get(c, "modelfs"),
                                           "diff_ids");
    const bise_json *layers = bise_json_get(m, "layers");
    ck_assert_uint_eq(bise_json_size(layers), FILES);
    ck_assert_uint_eq(bise_json_size(diffs), FILES);
    for (size_t i = 0; i < FILES; i++) {
        const bise_json *l = bise_json_at(layers, i);
        const bise_json *a = bise_json_get(l, "annotations");
        const char *diff = bise_json_string(bise_json_at(diffs, i), NULL);
        const char *path = text_of(a, "org.cncf.model.filepath");
        snprintf(type, sizeof type, "application/vnd.cncf.model.%s",
                 files[i].how);
        ck_assert_str_eq(text_of(l, "mediaType"), type);
        ck_assert_str_eq(path, files[i].name + 3);
        snprintf(name, sizeof name, "%s", blob_of(l));
        if (bise_ends_with(type, ".raw")) {
            ck_assert_str_eq(text_of(a, "org.opencontainers.image.title"),
                             path);
            ck_assert_str_eq(text_of(l, "digest"), diff);
            same_file(name, at(files[i].name));
        } else {
            ck_assert_ptr_null(bise_json_get(
                a, "org.opencontainers.image.title"));
            check_member(name, path, at(files[i].name));
            diff_of(hex, name);
            ck_assert_str_eq(diff + 7, hex);
        }
    }
    bise_json_free(c);
    bise_json_free(m);
    bise_json_free(index);
}
END_TEST

START_TEST(layouts_do_not_depend_on_threads)
{
    make_input();
    make_layout("oci", 1);
    make_layout("oci3", 3);
    same_file(at("oci/index.json"), at("oci3/index.json"));
}
END_TEST

START_TEST(refused_layouts_leave_nothing)
{
    bise_error err;
    bise_pack_result r = { 0 };
    const bise_pack_options o = { 0 };
    char path[3][128];
    const char *none = path[0], *empty = path[1], *in = path[2];
    snprintf(path[0], sizeof path[0], "%s/nothing", dir);
    snprintf(path[1], sizeof path[1], "%s/empty", dir);
    snprintf(path[2], sizeof path[2], "%s/in", dir);
    ck_fails(bise_oci_pack(&none, 1, at("x"), &o, &r, &err), BISE_EIO);
    ck_ok(bise_mkdir(empty, &err));
    ck_fails(bise_oci_pack(&empty, 1, at("x"), &o, &r, &err), BISE_EINVAL);
    put("in", 10, false);
    ck_ok(bise_mkdir(at("x"), &err));
    put("x/mine", 10, false);
    ck_fails(bise_oci_pack(&in, 1, at("x"), &o, &r, &err), BISE_EIO);
    ck_assert(bise_file_exists(at("x/mine")));
    ck_assert(!bise_file_exists(at("x.part")));
}
END_TEST

/* The n-th allocation fails, for n = 1, 2, ... until all goes well. */
START_TEST(layouts_survive_failing_allocations)
{
    bise_error err;
    bise_pack_result r = { 0 };
    const bise_pack_options o = { 0 };
    char path[128];
    int done = 0;
    const char *in = path;
    snprintf(path, sizeof path, "%s/in", dir);
    ck_ok(bise_mkdir(in, &err));
    put("in/a.json", 30, false);
    put("in/b.gguf", 2u << 20, false);
    for (uint64_t n = 1; n < 400; n++) {
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        const bise_status s = bise_oci_pack(&in, 1, at("x"), &o, &r, &err);
        bise_alloc_fail_after(0);
        if (s == BISE_OK) {
            ck_assert(bise_file_exists(at("x/index.json")));
            bise_json_free(r.files);
            bise_remove_tree(at("x"));
            done++;
        } else
            ck_assert_msg(s == BISE_ENOMEM, "%d: %s [%s]", (int)n, err.text,
                          err.path);
        ck_assert(!bise_file_exists(at("x")));
        ck_assert(!bise_file_exists(at("x.part")));
    }
    ck_assert_int_gt(done, 0);
}
END_TEST

/* ------------------------------------------------------------- plans */
/* Run a conversion of the embedded model into path; archive as in run.h. */
static bise_status convert(const char *path, const char *archive,
                           bise_layout to, uint64_t split, int threads,
                           bise_error *e)
{
    bise_error err;
    bise_checkpoint c;
    bise_plan p;
    bise_pool *pool = NULL;
    bise_run_result r = { 0 };
    const bise_convert_options o = { .to = to, .dtype = BISE_DTYPE_NONE,
                                     .split_bytes = split };
    ck_ok(bise_checkpoint_open(&c, MODEL, NULL, &err));
    ck_ok(bise_convert_plan(&p, &c, &o, &err));
    ck_ok(bise_pool_new(&pool, threads, &err));
    const bise_run_options run = { .path = path, .archive = archive,
                                   .stage = "convert", .force = true,
                                   .measure = true, .pool = pool };
    const bise_status s = bise_run(&p, &run, &r, e);
    if (s == BISE_OK && archive) {
        ck_assert_uint_eq(r.n_outputs, 1);
        ck_assert_str_eq(r.outputs[0].path, path);
        ck_assert_uint_eq(r.outputs[0].bytes, bise_file_size(path));
        ck_assert_uint_eq(r.n_stats, p.n);
    }
    bise_run_result_fini(&r);
    bise_plan_fini(&p);
    bise_checkpoint_close(&c);
    bise_pool_free(pool);
    return s;
}

static const struct { bise_layout to; uint64_t split; } ways[] = {
    { BISE_TO_HF, 0 }, { BISE_TO_HF, 3u << 20 }, { BISE_TO_NATIVE, 0 },
    { BISE_TO_GGUF, 0 }, { BISE_TO_GGUF, 5u << 20 },
};

/* Directly, on one thread and on three, and by way of a directory. */
START_TEST(a_plan_into_an_archive_is_its_output_packed)
{
    bise_error err;
    bise_pack_result r = { 0 };
    const bise_pack_options o = { 0 };
    const bool gguf = ways[_i].to == BISE_TO_GGUF;
    const char *out = at("out");
    if (gguf)
        ck_ok(bise_mkdir(out, &err));
    ck_ok(convert(gguf ? at("out/m.gguf") : out, NULL, ways[_i].to,
                  ways[_i].split, 2, &err));
    ck_ok(bise_pack(&out, 1, at("packed"), &o, &r, &err));
    bise_json_free(r.files);
    for (int threads = 1; threads <= 3; threads += 2) {
        ck_ok(convert(at("direct"), "m.gguf", ways[_i].to, ways[_i].split,
                      threads, &err));
        same_file(at("packed"), at("direct"));
    }
}
END_TEST

START_TEST(an_existing_archive_stays_when_the_run_fails)
{
    bise_error err;
    put("direct", 100, false);
    for (uint64_t n = 1; n < 60; n++) {
        bise_checkpoint c;
        bise_plan p;
        bise_run_result r = { 0 };
        const bise_convert_options o = { .to = BISE_TO_GGUF,
                                         .dtype = BISE_DTYPE_NONE };
        const bise_run_options run = { .path = at("direct"), .force = true,
                                       .archive = "m.gguf",
                                       .stage = "convert" };
        ck_ok(bise_checkpoint_open(&c, MODEL, NULL, &err));
        ck_ok(bise_convert_plan(&p, &c, &o, &err));
        ck_ok(bise_plan_layout(&p, &err));
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        const bise_status s = bise_run(&p, &run, &r, &err);
        bise_alloc_fail_after(0);
        ck_assert_msg(s == BISE_OK || s == BISE_ENOMEM, "%s", err.text);
        if (s != BISE_OK)
            ck_assert_uint_eq(bise_file_size(at("direct")), 100);
        ck_assert(!bise_file_exists(at("direct.part")));
        bise_run_result_fini(&r);
        bise_plan_fini(&p);
        bise_checkpoint_close(&c);
        if (s == BISE_OK)
            break;
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("shipping");
    TCase *t = tcase_create("shipping");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_layer_gives_its_file_back);
    tcase_add_test(t, layouts_do_not_depend_on_threads);
    tcase_add_test(t, refused_layouts_leave_nothing);
    tcase_add_test(t, layouts_survive_failing_allocations);
    tcase_add_loop_test(t, a_plan_into_an_archive_is_its_output_packed, 0, 5);
    tcase_add_test(t, an_existing_archive_stays_when_the_run_fails);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
