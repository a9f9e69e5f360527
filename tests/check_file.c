/* check_file.c - tests of core/file: whole reads, atomic writes, directories,
 * mappings, output files and directories with every way to fail.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "tests/check_main.h"

static char dir[64];

/* A fresh folder for each test. */
static void enter(void)
{
    snprintf(dir, sizeof dir, "/tmp/bise-file-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void leave(void)
{
    bise_remove_tree(dir);
    ck_assert(!bise_file_exists(dir));
}

/* dir/name in a static buffer, two calls apart. */
static const char *at(const char *name)
{
    static char path[2][256];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* Content of a file as a string, or NULL. */
static char *content(const char *name)
{
    bise_error err;
    bise_error_init(&err);
    bise_str s = { 0 };
    if (bise_file_read(&s, at(name), &err) != BISE_OK) {
        bise_str_fini(&s);
        return NULL;
    }
    return bise_str_take(&s);
}

START_TEST(write_then_read)
{
    bise_error err;
    ck_ok(bise_file_write(at("a.txt"), "hello", 5, &err));
    char *s = content("a.txt");
    ck_assert_str_eq(s, "hello");
    bise_free(s);
    ck_assert(!bise_file_exists(at("a.txt.part")));
    ck_assert_uint_eq(bise_file_size(at("a.txt")), 5);
    ck_ok(bise_file_write(at("a.txt"), "", 0, &err));
    ck_assert_uint_eq(bise_file_size(at("a.txt")), 0);
}
END_TEST

START_TEST(reading_appends)
{
    bise_error err;
    bise_str s = { 0 };
    ck_ok(bise_file_write(at("a"), "1234", 4, &err));
    bise_str_puts(&s, "x");
    ck_ok(bise_file_read(&s, at("a"), &err));
    ck_ok(bise_file_read(&s, at("a"), &err));
    ck_assert_str_eq(bise_str_get(&s), "x12341234");
    bise_str_fini(&s);
}
END_TEST

START_TEST(missing_files_are_named)
{
    bise_error err;
    bise_str s = { 0 };
    bise_map m;
    ck_fails(bise_file_read(&s, at("no"), &err), BISE_EIO);
    ck_assert_str_eq(err.path, at("no"));
    ck_assert_int_eq(err.sys_errno, ENOENT);
    ck_fails(bise_map_open(&m, at("no"), &err), BISE_EIO);
    ck_assert_str_eq(err.path, at("no"));
    ck_assert_uint_eq(bise_file_size(at("no")), 0);
    ck_assert(!bise_is_dir(at("no")));
    bise_str_fini(&s);
}
END_TEST

START_TEST(a_directory_is_not_a_file)
{
    bise_error err;
    bise_map m;
    ck_assert(bise_is_dir(dir));
    ck_fails(bise_map_open(&m, dir, &err), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "not a regular file"));
    bise_map_close(&m);
}
END_TEST

START_TEST(mapping_shows_the_bytes)
{
    bise_error err;
    bise_map m;
    static char big[300000];
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 7);
    ck_ok(bise_file_write(at("big"), big, sizeof big, &err));
    ck_ok(bise_map_open(&m, at("big"), &err));
    ck_assert_uint_eq(m.size, sizeof big);
    bise_map_ahead(m.data, m.size);
    ck_assert_mem_eq(m.data, big, sizeof big);
    bise_map_release(m.data, m.size);
    ck_assert_mem_eq(m.data, big, sizeof big);
    bise_map_close(&m);
    bise_map_close(&m);
    ck_ok(bise_file_write(at("none"), "", 0, &err));
    ck_ok(bise_map_open(&m, at("none"), &err));
    ck_assert_ptr_null(m.data);
    bise_map_close(&m);
}
END_TEST

START_TEST(parents_are_made)
{
    bise_error err;
    ck_ok(bise_mkdir(at("x/y/z"), &err));
    ck_assert(bise_is_dir(at("x/y/z")));
    ck_ok(bise_mkdir(at("x/y/z"), &err));
    ck_ok(bise_file_write(at("x/f"), "1", 1, &err));
    ck_fails(bise_mkdir(at("x/f"), &err), BISE_EIO);
    ck_fails(bise_mkdir(at("x/f/g"), &err), BISE_EIO);
}
END_TEST

START_TEST(trees_are_removed_but_links_not_followed)
{
    bise_error err;
    ck_ok(bise_mkdir(at("keep"), &err));
    ck_ok(bise_file_write(at("keep/f"), "1", 1, &err));
    ck_ok(bise_mkdir(at("gone/deep"), &err));
    ck_ok(bise_file_write(at("gone/deep/g"), "1", 1, &err));
    ck_assert_int_eq(symlink(at("keep"), at("gone/link")), 0);
    bise_remove_tree(at("gone"));
    ck_assert(!bise_file_exists(at("gone")));
    ck_assert(bise_file_exists(at("keep/f")));
    bise_remove_tree(at("gone"));
}
END_TEST

START_TEST(listing_is_sorted)
{
    bise_error err;
    char **names = NULL;
    size_t n = 0;
    ck_ok(bise_dir_list(&names, &n, dir, &err));
    ck_assert_uint_eq(n, 0);
    bise_free(names);
    ck_ok(bise_file_write(at("b"), "", 0, &err));
    ck_ok(bise_file_write(at("a"), "", 0, &err));
    ck_ok(bise_file_write(at("B"), "", 0, &err));
    ck_ok(bise_mkdir(at("c"), &err));
    ck_ok(bise_dir_list(&names, &n, dir, &err));
    static const char *const want[] = { "B", "a", "b", "c" };
    ck_assert_uint_eq(n, 4);
    for (size_t i = 0; i < n; i++)
        ck_assert_str_eq(names[i], want[i]);
    bise_free(names);
    ck_fails(bise_dir_list(&names, &n, at("no"), &err), BISE_EIO);
}
END_TEST

/* A link is known by its own name, "." by that of the folder. */
START_TEST(names_are_those_given)
{
    bise_error err;
    char *name;
    ck_ok(bise_mkdir(at("model"), &err));
    ck_assert_int_eq(symlink(at("model"), at("link")), 0);
    const struct { const char *path, *want; } t[] = {
        { at("model"), "model" }, { at("link"), "link" },
        { "a/b.gguf", "b.gguf" }, { "b//", "b" }, { "/", "" } };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        name = bise_path_name(t[i].path);
        ck_assert_str_eq(name, t[i].want);
        bise_free(name);
    }
    char inside[600];
    snprintf(inside, sizeof inside, "%s/.", at("model"));
    name = bise_path_name(inside);
    ck_assert_str_eq(name, "model");
    bise_free(name);
}
END_TEST

START_TEST(disk_space_is_known)
{
    const uint64_t here = bise_disk_free(dir);
    ck_assert_uint_gt(here, 0);
    ck_assert_uint_lt(here, UINT64_MAX);
    ck_assert_uint_lt(bise_disk_free(at("not-yet-there")), UINT64_MAX);
}
END_TEST

START_TEST(output_is_built_beside_its_name)
{
    bise_error err;
    bise_out *o = NULL;
    ck_ok(bise_out_open(&o, at("o"), 0, false, &err));
    ck_assert(bise_file_exists(at("o.part")));
    ck_ok(bise_out_write(o, "0123456789", 10, &err));
    ck_assert_uint_eq(bise_out_tell(o), 10);
    ck_ok(bise_out_patch(o, 2, "AB", 2, &err));
    ck_ok(bise_out_pad(o, 8, &err));
    ck_ok(bise_out_pad(o, 8, &err));
    ck_assert_uint_eq(bise_out_tell(o), 16);
    ck_assert(!bise_file_exists(at("o")));
    ck_ok(bise_out_commit(o, &err));
    ck_assert(!bise_file_exists(at("o.part")));
    char *s = content("o");
    ck_assert_mem_eq(s, "01AB456789\0\0\0\0\0\0", 16);
    bise_free(s);
}
END_TEST

START_TEST(preallocated_space_is_given_back)
{
    bise_error err;
    bise_out *o = NULL;
    ck_ok(bise_out_open(&o, at("o"), 1 << 20, false, &err));
    ck_ok(bise_out_write(o, "tiny", 4, &err));
    ck_ok(bise_out_commit(o, &err));
    ck_assert_uint_eq(bise_file_size(at("o")), 4);
}
END_TEST

START_TEST(dropped_output_leaves_nothing)
{
    bise_error err;
    bise_out *o = NULL;
    ck_ok(bise_out_open(&o, at("o"), 100, false, &err));
    ck_ok(bise_out_write(o, "x", 1, &err));
    bise_out_drop(o);
    bise_out_drop(NULL);
    ck_assert(!bise_file_exists(at("o")));
    ck_assert(!bise_file_exists(at("o.part")));
}
END_TEST

START_TEST(existing_output_needs_force)
{
    bise_error err;
    bise_out *o = NULL;
    ck_ok(bise_file_write(at("o"), "old", 3, &err));
    ck_fails(bise_out_open(&o, at("o"), 0, false, &err), BISE_EIO);
    ck_assert_int_eq(err.sys_errno, EEXIST);
    ck_assert_ptr_nonnull(strstr(err.hint, "--force"));
    ck_ok(bise_out_open(&o, at("o"), 0, true, &err));
    ck_ok(bise_out_write(o, "new!", 4, &err));
    char *s = content("o");
    ck_assert_str_eq(s, "old");
    bise_free(s);
    ck_ok(bise_out_commit(o, &err));
    s = content("o");
    ck_assert_str_eq(s, "new!");
    bise_free(s);
}
END_TEST

START_TEST(a_folder_that_is_missing_is_an_error)
{
    bise_error err;
    bise_out *o = NULL;
    ck_fails(bise_out_open(&o, at("no/o"), 0, false, &err), BISE_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot create"));
    ck_assert_ptr_null(o);
}
END_TEST

START_TEST(a_full_disk_is_said_before_the_work)
{
    bise_error err;
    bise_out *o = NULL;
    ck_fails(bise_out_open(&o, at("o"), UINT64_MAX / 4, false, &err),
             BISE_EIO);
    ck_assert_int_eq(err.sys_errno, ENOSPC);
    ck_assert_ptr_nonnull(strstr(err.text, "bytes needed"));
    ck_assert_ptr_nonnull(strstr(err.text, "free"));
    ck_assert(!bise_file_exists(at("o.part")));
}
END_TEST

START_TEST(a_write_past_the_limit_fails_cleanly)
{
    bise_error err;
    bise_out *o = NULL;
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small = { 4096, 4096 };
    ck_ok(bise_out_open(&o, at("o"), 0, false, &err));
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    static char block[8192];
    ck_fails(bise_out_write(o, block, sizeof block, &err), BISE_EIO);
    ck_assert_int_eq(err.sys_errno, EFBIG);
    bise_out_drop(o);
    ck_assert(!bise_file_exists(at("o.part")));
}
END_TEST

/* Piece sizes of a stream: halves of 4 MiB are met, missed and crossed. */
static const size_t pieces[] = { 1, 4095, 4096, 1 << 20, 4 << 20,
                                 (4 << 20) + 1, (9 << 20) + 77 };
enum { STREAM = (21 << 20) + 1234 };

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

/* What is streamed comes back, also when the start is written again. */
START_TEST(a_stream_holds_what_was_added)
{
    bise_error err;
    bise_out *o;
    bise_str s = { 0 };
    uint8_t *v = malloc(STREAM);
    for (size_t i = 0; i < STREAM; i++)
        v[i] = byte_at(i);
    ck_ok(bise_out_open(&o, at("a"), 0, false, &err));
    bise_out_stream(o);
    const size_t step = pieces[_i] > 1 ? pieces[_i] : 100003;
    if (pieces[_i] == 1)
        ck_ok(bise_out_write(o, v, 1, &err));
    for (size_t i = pieces[_i] == 1; i < STREAM; i += step)
        ck_ok(bise_out_write(o, v + i, STREAM - i < step ? STREAM - i : step,
                             &err));
    ck_assert_uint_eq(bise_out_tell(o), STREAM);
    if (_i % 2) {
        ck_ok(bise_out_patch(o, 2, "patch", 5, &err));
        memcpy(v + 2, "patch", 5);
    }
    ck_ok(bise_out_write(o, "end", 3, &err));
    ck_ok(bise_out_commit(o, &err));
    ck_ok(bise_file_read(&s, at("a"), &err));
    ck_assert_uint_eq(s.len, STREAM + 3);
    ck_assert_mem_eq(s.data, v, STREAM);
    ck_assert_mem_eq(s.data + STREAM, "end", 3);
    bise_str_fini(&s);
    free(v);
}
END_TEST

/* A half that the disk does not take is an error of a later call, at the
 * latest of the last; nothing is left. */
START_TEST(a_stream_that_does_not_fit_fails)
{
    bise_error err;
    bise_out *o;
    const struct rlimit few = { 6 << 20, RLIM_INFINITY };
    uint8_t *v = calloc(1, 1 << 20);
    signal(SIGXFSZ, SIG_IGN);
    ck_ok(bise_out_open(&o, at("a"), 0, false, &err));
    bise_out_stream(o);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &few), 0);
    bise_status s = BISE_OK;
    for (int i = 0; i < 20 && s == BISE_OK; i++)
        s = bise_out_write(o, v, 1 << 20, &err);
    ck_assert_int_eq(s, BISE_EIO);
    ck_assert_str_eq(err.path, at("a"));
    bise_out_drop(o);
    ck_assert(!bise_file_exists(at("a.part")));
    ck_ok(bise_out_open(&o, at("a"), 0, false, &err));
    bise_out_stream(o);
    for (int i = 0; i < 7; i++)
        ck_ok(bise_out_write(o, v, 1 << 20, &err));
    ck_fails(bise_out_commit(o, &err), BISE_EIO);
    ck_assert(!bise_file_exists(at("a")));
    ck_assert(!bise_file_exists(at("a.part")));
    free(v);
}
END_TEST

START_TEST(output_directory_appears_whole)
{
    bise_error err;
    bise_outdir d;
    ck_ok(bise_outdir_open(&d, at("out/"), false, &err));
    ck_assert(!bise_file_exists(at("out")));
    char *f = bise_path_join(d.part_path, "f");
    ck_ok(bise_file_write(f, "1", 1, &err));
    bise_free(f);
    ck_ok(bise_outdir_commit(&d, &err));
    ck_assert(bise_file_exists(at("out/f")));
    ck_assert(!bise_file_exists(at("out.part")));
    ck_fails(bise_outdir_open(&d, at("out"), false, &err), BISE_EIO);
}
END_TEST

START_TEST(output_directory_is_replaced_under_force)
{
    bise_error err;
    bise_outdir d;
    ck_ok(bise_mkdir(at("out"), &err));
    ck_ok(bise_file_write(at("out/old"), "1", 1, &err));
    ck_ok(bise_outdir_open(&d, at("out"), true, &err));
    ck_ok(bise_outdir_commit(&d, &err));
    ck_assert(bise_is_dir(at("out")));
    ck_assert(!bise_file_exists(at("out/old")));
    ck_assert(!bise_file_exists(at("out.part")));
}
END_TEST

START_TEST(dropped_directory_leaves_nothing)
{
    bise_error err;
    bise_outdir d;
    ck_ok(bise_mkdir(at("out.part"), &err));
    ck_ok(bise_file_write(at("out.part/stale"), "1", 1, &err));
    ck_ok(bise_outdir_open(&d, at("out"), false, &err));
    ck_assert(!bise_file_exists(at("out.part/stale")));
    bise_outdir_drop(&d);
    bise_outdir_drop(&d);
    ck_assert(!bise_file_exists(at("out.part")));
    ck_assert(!bise_file_exists(at("out")));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("file");
    TCase *t = tcase_create("file");
    tcase_add_checked_fixture(t, enter, leave);
    tcase_add_test(t, write_then_read);
    tcase_add_test(t, reading_appends);
    tcase_add_test(t, missing_files_are_named);
    tcase_add_test(t, a_directory_is_not_a_file);
    tcase_add_test(t, mapping_shows_the_bytes);
    tcase_add_test(t, parents_are_made);
    tcase_add_test(t, trees_are_removed_but_links_not_followed);
    tcase_add_test(t, listing_is_sorted);
    tcase_add_test(t, names_are_those_given);
    tcase_add_test(t, disk_space_is_known);
    tcase_add_test(t, output_is_built_beside_its_name);
    tcase_add_test(t, preallocated_space_is_given_back);
    tcase_add_test(t, dropped_output_leaves_nothing);
    tcase_add_test(t, existing_output_needs_force);
    tcase_add_test(t, a_folder_that_is_missing_is_an_error);
    tcase_add_test(t, a_full_disk_is_said_before_the_work);
    tcase_add_test(t, a_write_past_the_limit_fails_cleanly);
    tcase_add_loop_test(t, a_stream_holds_what_was_added, 0,
                        (int)(sizeof pieces / sizeof *pieces));
    tcase_add_test(t, a_stream_that_does_not_fit_fails);
    tcase_add_test(t, output_directory_appears_whole);
    tcase_add_test(t, output_directory_is_replaced_under_force);
    tcase_add_test(t, dropped_directory_leaves_nothing);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
