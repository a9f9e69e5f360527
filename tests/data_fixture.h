/* data_fixture.h - what the tests of datasets and packs share: a temporary
 * folder with row files, the example tokenizer, and options with defaults.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TESTS_DATA_FIXTURE_H
#define BISE_TESTS_DATA_FIXTURE_H

#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "tests/check_main.h"
#include "text/dataset.h"

static char fixture_dir[64];
BISE_UNUSED static bise_tokenizer *fixture_tok;
BISE_UNUSED static const bise_chat *fixture_chat;

/* A folder alone, for tests that need no tokenizer. */
BISE_UNUSED
static void fixture_folder(void)
{
    strcpy(fixture_dir, "/tmp/bise-data-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(fixture_dir));
}

BISE_UNUSED
static void fixture_no_folder(void)
{
    bise_remove_tree(fixture_dir);
}

/* The tokenizer and its chat format, once for all tests of a case: they only
 * read it, and loading takes longer than most tests. */
BISE_UNUSED
static void fixture_tokenizer(void)
{
    bise_error err;
    ck_ok(bise_tokenizer_load(&fixture_tok,
                              BISE_SRCDIR "/examples/tiny-mistral3/tekken.json",
                              &err));
    ck_ok(bise_chat_for(&fixture_chat, fixture_tok, NULL, &err));
}

BISE_UNUSED
static void fixture_no_tokenizer(void)
{
    bise_tokenizer_free(fixture_tok);
}

/* Write a file into the folder; gives its path (bise_free). */
BISE_UNUSED
static char *fixture_file(const char *name, const char *text)
{
    char *path = bise_path_join(fixture_dir, name);
    FILE *f = fopen(path, "wb");            /* without the fsync of core */
    ck_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
    return path;
}

/* Open one file with the fixture's tokenizer; max_len 0 = no limit. */
BISE_UNUSED
static bise_status fixture_open(bise_dataset **d, const char *path,
                                int32_t max_len, bise_too_long too_long,
                                bise_error *err)
{
    const bise_dataset_options o = {
        .files = &path, .n_files = 1, .tokenizer = fixture_tok,
        .chat = fixture_chat, .max_len = max_len, .too_long = too_long,
        .cache_dir = fixture_dir,
    };
    bise_error_init(err);
    return bise_dataset_open(d, &o, err);
}

#endif
