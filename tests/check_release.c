/* check_release.c - deploy/release: what counts as a Hub id and as private, and
 * that a release fails whole at every allocation.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "deploy/release_facts.h"
#include "tests/check_main.h"
#include "tests/tiny_model.h"

START_TEST(knows_hub_ids)
{
    static const char *const good[] = { "a/b", "org/Name-1.5_x", "a-b/c.d" };
    static const char *const bad[] = { "", "a", "/a", "a/", "a/b/c", "./a",
        "../b", "a/.b", "a b/c", "a/b:c", "~/m", "C:\\a/b" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(bise_release_is_id(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!bise_release_is_id(bad[i]), "%s", bad[i]);
    ck_assert(!bise_release_is_id(NULL));
}
END_TEST

/* A URL that has /home/ in it is public. */
START_TEST(finds_private_paths)
{
    static const char *const bad[] = { "/home/me/x", "x: /root/a",
        "{\"a\":\"/tmp/b\"}", "see (/Users/i)", "a=/work/x",
        "https://a/home/b and /home/c" };
    static const char *const good[] = { "", "home", "https://a.b/home/c",
        "a/tmp/b", "home/me", "/usr/share" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(bise_release_private(bad[i], strlen(bad[i])) != NULL,
                      "%s", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(bise_release_private(good[i], strlen(good[i])) == NULL,
                      "%s", good[i]);
}
END_TEST

START_TEST(finds_the_type_in_a_name)
{
    ck_assert(bise_release_names_type("m-Q4_K_M.gguf", "Q4_K_M"));
    ck_assert(bise_release_names_type("m.q8_0.gguf", "Q8_0"));
    ck_assert(bise_release_names_type("m-F16-00001-of-00002.gguf", "F16"));
    ck_assert(!bise_release_names_type("m-Q4_K_M.gguf", "Q4_K"));
    ck_assert(!bise_release_names_type("Q4_0.gguf", "Q4_0"));
    ck_assert(!bise_release_names_type("m.gguf", "Q4_0"));
}
END_TEST

START_TEST(has_the_whole_licence)
{
    const char *t = bise_apache_licence();
    ck_assert_uint_eq(strlen(t), 11358);
    ck_assert_ptr_nonnull(strstr(t, "4. Redistribution."));
    ck_assert_ptr_nonnull(strstr(t, "\"AS IS\" BASIS"));
}
END_TEST

/* Options are checked before any file is read. */
START_TEST(refuses_wrong_options)
{
    bise_error err;
    bise_release_result r;
    const char *const paths[] = { "/nonexistent" };
    bise_release_options o = { .repo = "name" };
    ck_fails(bise_release(paths, 1, "/nonexistent/out", &o, &r, &err),
             BISE_EINVAL);
    bise_release_fini(&r);
    o = (bise_release_options){ .repo = "a/b", .base = "/tmp/x" };
    ck_fails(bise_release(paths, 1, "/nonexistent/out", &o, &r, &err),
             BISE_EINVAL);
    bise_release_fini(&r);
    o = (bise_release_options){ .repo = "a/b", .relation = "copy" };
    ck_fails(bise_release(paths, 1, "/nonexistent/out", &o, &r, &err),
             BISE_EINVAL);
    bise_release_fini(&r);
}
END_TEST

/* Each allocation fails once; nothing is left, or the folder is whole. */
START_TEST(survives_lack_of_memory)
{
    char dir[] = "/tmp/bise-release-XXXXXX", path[64], out[64];
    bise_error err;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.gguf", dir);
    snprintf(out, sizeof out, "%s/out", dir);
    bise_gguf_meta m = { 0 };
    float w[32] = { 1 };
    bise_tensor t = { .name = "t", .dtype = BISE_DTYPE_F32, .n_dims = 1,
                      .dims = { 32 }, .data = w, .bytes = sizeof w };
    bise_gguf_set_str(&m, "general.architecture", "llama");
    bise_gguf_set_str(&m, "general.license", "apache-2.0");
    bise_gguf_set_u32(&m, "general.file_type", 0);
    ck_ok(bise_gguf_save(path, &m, &t, 1, &err));
    bise_gguf_meta_fini(&m);
    const char *const paths[] = { path };
    const bise_release_options o = { .repo = "a/m", .base = "b/m" };
    bise_status s = BISE_ENOMEM;
    int n = 1;
    for (; s != BISE_OK && n < 400; n++) {
        bise_release_result r;
        bise_error_init(&err);
        bise_alloc_fail_after((uint64_t)n);
        s = bise_release(paths, 1, out, &o, &r, &err);
        bise_alloc_fail_after(0);
        bise_release_fini(&r);
        ck_assert_msg(s == BISE_OK || !bise_file_exists(out), "%d", n);
    }
    ck_assert_int_eq(s, BISE_OK);
    ck_assert_int_gt(n, 2);
    bise_remove_tree(dir);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("release");
    TCase *t = tcase_create("release");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, knows_hub_ids);
    tcase_add_test(t, finds_private_paths);
    tcase_add_test(t, finds_the_type_in_a_name);
    tcase_add_test(t, has_the_whole_licence);
    tcase_add_test(t, refuses_wrong_options);
    tcase_add_test(t, survives_lack_of_memory);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
