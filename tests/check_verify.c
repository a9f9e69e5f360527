/* check_verify.c - deploy/verify on one fault at a time: a small model made
 * here, changed in one place, must give exactly the problem that names it; and
 * sources, by which stores read directories and archives alike.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "deploy/archive_walk.h"
#include "deploy/pack.h"
#include "deploy/verify.h"
#include "formats/archive.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/source.h"
#include "formats/store.h"
#include "pipeline/check.h"
#include "tests/check_main.h"

static char dir[64];

static void setup(void)
{
    strcpy(dir, "/tmp/bise-verify-XXXXXX");
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

static void put_text(const char *name, const char *text)
{
    bise_error err;
    ck_ok(bise_file_write(at(name), text, strlen(text), &err));
}

/* Verify path; the number of problems, the first one's text into message. */
static size_t verify(const char *path, char message[600])
{
    bise_error err;
    bise_verify_result r;
    const bise_verify_options o = { .find_bad = bise_find_bad_block };
    ck_ok(bise_verify(path, &o, &r, &err));
    const size_t n = bise_json_size(r.problems);
    message[0] = 0;
    if (n) {
        const bise_json *p = bise_json_at(r.problems, 0);
        const char *t = bise_json_string(bise_json_get(p, "tensor"), NULL);
        snprintf(message, 600, "%s|%s", t ? t : "",
                 bise_json_string(bise_json_get(p, "message"), NULL));
        ck_assert_ptr_nonnull(bise_json_get(p, "path"));
    }
    bise_verify_fini(&r);
    return n;
}

#define ck_problem(path, text) \
    do { \
        char ck_m_[600]; \
        const size_t ck_n_ = verify(path, ck_m_); \
        ck_assert_msg(ck_n_ == 1 && strstr(ck_m_, text), "%zu: %s", ck_n_, \
                      ck_m_); \
    } while (0)

#define ck_sound(path) \
    do { \
        char ck_m_[600]; \
        const size_t ck_n_ = verify(path, ck_m_); \
        ck_assert_msg(ck_n_ == 0, "%s", ck_m_); \
    } while (0)

/* ------------------------------------------------------------- weights */
/* One tensor of each float type with value at index i of those that bad names.
 */
static void put_floats(const char *bad, size_t i, float value)
{
    bise_error err;
    float f[40];
    uint16_t h[40], b[40];
    for (size_t k = 0; k < 40; k++) {
        const float base = 0.25f * (float)k;
        f[k] = strchr(bad, 'f') && k == i ? value : base;
        h[k] = bise_f32_to_f16(strchr(bad, 'h') && k == i ? value : base);
        b[k] = bise_f32_to_bf16(strchr(bad, 'b') && k == i ? value : base);
    }
    const bise_tensor t[3] = {
        { .name = "f", .dtype = BISE_DTYPE_F32, .n_dims = 1, .dims = { 40 },
          .data = f },
        { .name = "h", .dtype = BISE_DTYPE_F16, .n_dims = 1, .dims = { 40 },
          .data = h },
        { .name = "b", .dtype = BISE_DTYPE_BF16, .n_dims = 1, .dims = { 40 },
          .data = b } };
    ck_ok(bise_st_save(at("t.safetensors"), NULL, t, 3, &err));
}

static const struct { const char *tensor; size_t i; float value; } floats[] = {
    { "f", 0, NAN }, { "f", 39, INFINITY }, { "h", 7, NAN },
    { "h", 39, -INFINITY }, { "b", 0, INFINITY }, { "b", 20, NAN },
};

START_TEST(weights_that_are_not_finite_are_named)
{
    char want[100];
    put_floats("none", 0, 0);
    ck_sound(at("t.safetensors"));
    put_floats(floats[_i].tensor, floats[_i].i, floats[_i].value);
    snprintf(want, sizeof want, "%s|weight %zu of", floats[_i].tensor,
             floats[_i].i);
    ck_problem(at("t.safetensors"), want);
}
END_TEST

/* A GGUF with one tensor of 256 weights of type t, all bytes zero but those
 * at place: a float16 scale that is infinite. */
static void put_blocks(bise_dtype t, size_t place)
{
    bise_error err;
    uint8_t data[600] = { 0 };
    bise_gguf_meta m = { 0 };
    const bise_tensor x = { .name = "q", .dtype = t, .n_dims = 1,
                            .dims = { 256 }, .data = data };
    if (place != SIZE_MAX)
        bise_store_le16(data + place, 0x7c00);
    bise_gguf_set_str(&m, "general.type", "tensors");
    ck_ok(bise_gguf_save(at("q.gguf"), &m, &x, 1, &err));
    bise_gguf_meta_fini(&m);
}

static const struct { bise_dtype t; size_t place, weight; } blocks[] = {
    { BISE_DTYPE_Q4_0, 18, 32 }, { BISE_DTYPE_Q8_0, 34 * 3, 96 },
    { BISE_DTYPE_Q4_K, 0, 0 }, { BISE_DTYPE_Q5_K, 2, 0 },
    { BISE_DTYPE_Q6_K, 208, 0 },
};

START_TEST(scales_of_blocks_must_be_finite)
{
    char want[100];
    put_blocks(blocks[_i].t, SIZE_MAX);
    ck_sound(at("q.gguf"));
    put_blocks(blocks[_i].t, blocks[_i].place);
    snprintf(want, sizeof want, "q|weight %zu of", blocks[_i].weight);
    ck_problem(at("q.gguf"), want);
}
END_TEST

/* ------------------------------------------------------------- folders */
/* The same words about two tensors of one file are two problems. */
START_TEST(each_bad_tensor_is_a_problem)
{
    bise_error err;
    const uint16_t v[2] = { 0x7fc0, 0 }; /* NaN, 0 */
    const bise_tensor t[2] = {
        { .name = "a", .dtype = BISE_DTYPE_BF16, .n_dims = 1, .dims = { 2 },
          .data = v },
        { .name = "b", .dtype = BISE_DTYPE_BF16, .n_dims = 1, .dims = { 2 },
          .data = v } };
    char first[600];
    ck_ok(bise_st_save(at("t.safetensors"), NULL, t, 2, &err));
    ck_assert_uint_eq(verify(at("t.safetensors"), first), 2);
    ck_assert_ptr_nonnull(strstr(first, "a|weight 0 of BF16"));
}
END_TEST

START_TEST(every_weight_file_of_a_folder_is_read)
{
    put_floats("none", 0, 0);
    put_text("other.gguf", "GGUF but not really");
    ck_problem(dir, "version");
    put_text("other.gguf", "");
    ck_problem(dir, "magic");
    ck_assert_int_eq(unlink(at("other.gguf")), 0);
    ck_sound(dir);
    put_text("z.safetensors", "\x08\0\0\0");
    ck_problem(dir, "no header");
}
END_TEST

START_TEST(shards_that_are_missing_are_named)
{
    put_text("config.json", "{}");
    put_text("model.safetensors.index.json",
             "{\"weight_map\": {\"w\": \"model-1.safetensors\"}}");
    put_floats("none", 0, 0);
    ck_problem(dir, "missing weight file 'model-1.safetensors'");
}
END_TEST

START_TEST(a_folder_of_other_files_is_sound)
{
    put_text("a.txt", "text");
    ck_sound(dir);
    put_text("manifest.json", "{\"name\": \"a web app\"}");
    ck_sound(dir);                              /* not ours: just a file */
    put_text("manifest.json", "{\"name\": ");
    ck_problem(dir, "invalid JSON");
}
END_TEST

/* Manifests that are ours, and what is wrong with them or the file a.txt. */
#define SHA_OF_TEXT \
    "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
static const struct { const char *files, *text; } manifests[] = {
    { "[{\"path\": \"a.txt\", \"bytes\": 4, \"sha256\": \"" SHA_OF_TEXT
      "\"}]", NULL },
    { "[{\"path\": \"a.txt\", \"bytes\": 5, \"sha256\": \"" SHA_OF_TEXT
      "\"}]", "size differs" },
    { "[{\"path\": \"a.txt\", \"bytes\": 4, \"sha256\": \"0000" "\"}]",
      "without sha256" },
    { "[{\"path\": \"a.txt\", \"bytes\": 4}]", "without sha256" },
    { "[{\"path\": \"../a.txt\", \"bytes\": 4, \"sha256\": \"" SHA_OF_TEXT
      "\"}]", "without path" },
    { "[{\"bytes\": 4}]", "without path" },
    { "[{\"path\": \"b.txt\", \"bytes\": 4, \"sha256\": \"" SHA_OF_TEXT
      "\"}]", "cannot open" },
    { "[{\"path\": \"dir/\", \"bytes\": 0}]", NULL },
    { "[]", NULL },
};

START_TEST(folders_are_checked_against_a_manifest)
{
    char text[400];
    put_text("a.txt", "text");
    snprintf(text, sizeof text, "{\"bise_archive\": 1, \"files\": %s}",
             manifests[_i].files);
    put_text("manifest.json", text);
    if (manifests[_i].text)
        ck_problem(dir, manifests[_i].text);
    else
        ck_sound(dir);
}
END_TEST

START_TEST(adapters_are_loaded_to_be_checked)
{
    bise_error err;
    const float a[8] = { 1 };
    const bise_tensor t[2] = {
        { .name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A."
          "weight", .dtype = BISE_DTYPE_F32, .n_dims = 2, .dims = { 2, 4 },
          .data = a },
        { .name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B."
          "weight", .dtype = BISE_DTYPE_F32, .n_dims = 2, .dims = { 4, 2 },
          .data = a } };
    put_text("adapter_config.json", "{\"peft_type\": \"LORA\", \"r\": 2, "
             "\"lora_alpha\": 4, \"target_modules\": [\"q_proj\"]}");
    ck_ok(bise_st_save(at("adapter_model.safetensors"), NULL, t, 2, &err));
    ck_sound(dir);
    ck_ok(bise_st_save(at("adapter_model.safetensors"), NULL, t, 1, &err));
    char message[600];                          /* A without B */
    ck_assert_uint_ge(verify(dir, message), 1);
    put_text("adapter_config.json", "{\"r\": ");
    ck_assert_uint_ge(verify(dir, message), 1);
}
END_TEST

/* ------------------------------------------------------------- the walk */
typedef struct seen {
    uint64_t bytes;
    int firsts, lasts, broken, ended;
    bise_status stop_with;
} seen;

static bise_status seen_data(void *ctx, const bise_member *m, const void *data,
                             size_t n, bool first, bool last, bise_error *err)
{
    seen *s = ctx;
    (void)m;
    (void)data;
    s->bytes += n;
    s->firsts += first;
    s->lasts += last;
    return s->stop_with ? bise_fail(err, s->stop_with, "stopped") : BISE_OK;
}

static bise_status seen_end(void *ctx, const bise_member *m,
                               const bise_error *what, bise_error *err)
{
    seen *s = ctx;
    (void)m;
    (void)err;
    s->broken += what != NULL;
    s->ended++;
    return BISE_OK;
}

/* Pack a tree of 300 small files and one of 9 MB. */
static void pack_many(void)
{
    bise_error err;
    char name[40], path[128];
    bise_pack_result r = { 0 };
    const bise_pack_options o = { .plain = true };
    ck_ok(bise_mkdir(at("in"), &err));
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "in/%d.txt", i);
        put_text(name, name);
    }
    char *big = malloc(9000000);
    for (size_t i = 0; i < 9000000; i++)
        big[i] = (char)(i * i >> 7);
    ck_ok(bise_file_write(at("in/big"), big, 9000000, &err));
    free(big);
    snprintf(path, sizeof path, "%s/in", dir);
    const char *p = path;
    ck_ok(bise_pack(&p, 1, at("a.tar.zst"), &o, &r, &err));
    ck_assert_uint_eq(r.n, 301);
    ck_assert_uint_eq(bise_json_size(r.files), 301);
    bise_json_free(r.files);
}

START_TEST(walk_delivers_every_file_whole_and_in_order)
{
    bise_error err;
    bise_archive a;
    seen s = { 0 };
    const bise_walk_sink sink = { seen_data, seen_end, &s };
    bise_pool *pool = NULL;
    pack_many();
    ck_ok(bise_pool_new(&pool, 3, &err));
    ck_ok(bise_archive_open(&a, at("a.tar.zst"), &err));
    uint64_t total = 0;
    for (size_t i = 0; i < a.n; i++)
        total += a.members[i].bytes;
    ck_ok(bise_archive_walk(&a, &sink, "test", pool, NULL, &err));
    ck_assert_uint_eq(s.bytes, total);
    ck_assert_int_eq(s.firsts, 301);
    ck_assert_int_eq(s.lasts, 301);
    ck_assert_int_eq(s.broken, 0);
    ck_assert_int_eq(s.ended, 301);
    /* a digest that is wrong is reported once, the walk goes on */
    a.members[5].sha256[0] ^= 1;
    s = (seen){ 0 };
    ck_ok(bise_archive_walk(&a, &sink, "test", pool, NULL, &err));
    ck_assert_int_eq(s.broken, 1);
    ck_assert_int_eq(s.lasts, 301);
    s = (seen){ .stop_with = BISE_EIO };
    ck_fails(bise_archive_walk(&a, &sink, "test", pool, NULL, &err), BISE_EIO);
    ck_assert_int_eq(s.firsts, 1);
    bise_archive_close(&a);
    bise_pool_free(pool);
}
END_TEST

START_TEST(walk_stops_when_the_user_does)
{
    bise_error err;
    bise_archive a;
    seen s = { 0 };
    const bise_walk_sink sink = { seen_data, seen_end, &s };
    const volatile sig_atomic_t cancel = 1;
    const bise_progress p = { .cancel = &cancel };
    pack_many();
    ck_ok(bise_archive_open(&a, at("a.tar.zst"), &err));
    ck_fails(bise_archive_walk(&a, &sink, "test", NULL, &p, &err),
             BISE_ECANCEL);
    bise_archive_close(&a);
    bise_pack_result r = { 0 };
    const bise_unpack_options o = { .progress = &p };
    ck_fails(bise_unpack(at("a.tar.zst"), at("out"), &o, &r, &err),
             BISE_ECANCEL);
    ck_assert(!bise_file_exists(at("out")));
    ck_assert(!bise_file_exists(at("out.part")));
}
END_TEST

/* ------------------------------------------------------------- sources */
START_TEST(sources_read_folders_and_archives_alike)
{
    bise_error err;
    bise_source *s[2] = { NULL, NULL };
    pack_many();
    ck_ok(bise_source_open_path(&s[0], at("in"), &err));
    ck_ok(bise_archive_source(&s[1], at("a.tar.zst"), &err));
    ck_assert_uint_eq(s[0]->n_names, s[1]->n_names);
    for (size_t i = 0; i < s[0]->n_names; i++)
        ck_assert_str_eq(s[0]->names[i], s[1]->names[i]);
    bise_image img[2];
    for (int i = 0; i < 2; i++) {
        bise_str text = { 0 };
        ck_assert(bise_source_has(s[i], "7.txt"));
        ck_assert(!bise_source_has(s[i], "7.tx"));
        ck_ok(bise_source_read(s[i], "7.txt", &text, &err));
        ck_assert_str_eq(bise_str_get(&text), "in/7.txt");
        bise_str_fini(&text);
        ck_assert_int_ne(bise_source_image(s[i], "nothing", &img[i], &err),
                         BISE_OK);
        ck_ok(bise_source_image(s[i], "big", &img[i], &err));
        ck_assert_uint_eq(img[i].size, 9000000);
        ck_assert(img[i].lazy == (i == 1));
        ck_ok(bise_source_need(s[i], &img[i], 4000000, 600000, &err));
    }
    ck_assert_int_eq(memcmp(img[0].data + 4000000, img[1].data + 4000000,
                            600000), 0);
    char *a = malloc(5000000), *b = malloc(5000000);
    ck_ok(bise_source_copy(s[0], &img[0], 3999999, 5000000, a, &err));
    ck_ok(bise_source_copy(s[1], &img[1], 3999999, 5000000, b, &err));
    ck_assert_int_eq(memcmp(a, b, 5000000), 0);
    free(a);
    free(b);
    for (int i = 0; i < 2; i++) {
        bise_source_release(s[i], &img[i], 0, img[i].size);
        bise_source_drop(s[i], &img[i]);
        ck_assert_ptr_null(img[i].data);
        bise_source_drop(s[i], &img[i]);        /* a zero image is fine */
        bise_source_close(s[i]);
    }
    bise_source_close(NULL);
}
END_TEST

START_TEST(single_file_sources_know_their_folder)
{
    bise_error err;
    bise_source *s = NULL;
    put_text("a.txt", "a");
    put_text("b.txt", "b");
    ck_ok(bise_source_open_path(&s, at("a.txt"), &err));
    ck_assert(s->single);
    ck_assert_uint_eq(s->n_names, 1);
    ck_assert_str_eq(s->names[0], "a.txt");
    ck_assert(bise_source_has(s, "b.txt"));
    ck_assert_str_eq(bise_source_path(s, "b.txt"), at("b.txt"));
    bise_source_close(s);
    ck_fails(bise_source_open_path(&s, at("none"), &err), BISE_EIO);
}
END_TEST

START_TEST(a_packed_store_names_archive_and_member)
{
    bise_error err;
    bise_store *s = NULL;
    bise_pack_result r = { 0 };
    const bise_pack_options o = { 0 };
    char path[128];
    ck_ok(bise_mkdir(at("in/model"), &err));
    put_floats("none", 0, 0);
    ck_assert_int_eq(rename(at("t.safetensors"),
                            at("in/model/model.safetensors")), 0);
    put_text("in/model/config.json", "{}");
    put_text("in/readme", "x");
    snprintf(path, sizeof path, "%s/in", dir);
    const char *p = path;
    ck_ok(bise_pack(&p, 1, at("a.tar.zst"), &o, &r, &err));
    bise_json_free(r.files);
    ck_ok(bise_store_open(&s, at("a.tar.zst"), &err));
    ck_assert_uint_eq(bise_store_count(s), 3);
    ck_assert(bise_store_has_file(s, "config.json"));
    ck_assert(!bise_store_has_file(s, "readme")); /* not beside the weights */
    ck_assert_ptr_nonnull(strstr(bise_store_tensor_file(
        s, bise_store_at(s, 0)), "a.tar.zst/model.safetensors"));
    bise_store_close(s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("verify");
    TCase *t = tcase_create("verify");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, weights_that_are_not_finite_are_named, 0,
                        sizeof floats / sizeof *floats);
    tcase_add_loop_test(t, scales_of_blocks_must_be_finite, 0,
                        sizeof blocks / sizeof *blocks);
    tcase_add_test(t, each_bad_tensor_is_a_problem);
    tcase_add_test(t, every_weight_file_of_a_folder_is_read);
    tcase_add_test(t, shards_that_are_missing_are_named);
    tcase_add_test(t, a_folder_of_other_files_is_sound);
    tcase_add_loop_test(t, folders_are_checked_against_a_manifest, 0,
                        sizeof manifests / sizeof *manifests);
    tcase_add_test(t, adapters_are_loaded_to_be_checked);
    tcase_add_test(t, walk_delivers_every_file_whole_and_in_order);
    tcase_add_test(t, walk_stops_when_the_user_does);
    tcase_add_test(t, sources_read_folders_and_archives_alike);
    tcase_add_test(t, single_file_sources_know_their_folder);
    tcase_add_test(t, a_packed_store_names_archive_and_member);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
