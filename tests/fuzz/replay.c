/* replay.c - main() of every fuzz target outside libFuzzer: runs each seed of
 * tests/fuzz/seeds/<target>/ as it is, cut at many places, and with a fixed
 * set of random changes, so that `make check` always does a little fuzzing.
 * Arguments, when given, are files to run instead (to reproduce a finding).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/rng.h"
#include "core/str.h"

#define CUTS 64     /* truncations of a seed */
#define CHANGES 256 /* mutated copies of a seed */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Run on an exact heap copy, so that a sanitizer sees any overrun. */
static void run(const char *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    if (n)
        memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

/* One to four changes of a byte: a bit, a boundary value, or any value. */
static void mutate(char *data, size_t n, uint64_t seed)
{
    static const unsigned char edge[] = { 0, 1, 0x7f, 0x80, 0xff, '"', '{' };
    const uint64_t times = 1 + bise_rng_below(seed, 0, 0, 4);
    for (uint64_t i = 0; i < times; i++) {
        const uint64_t r = bise_rng_u64(seed, 1, i);
        const size_t at = (size_t)bise_rng_below(seed, 2, i, n);
        if (r % 3 == 0)
            data[at] = (char)(data[at] ^ (1 << (r >> 8) % 8));
        else if (r % 3 == 1)
            data[at] = (char)edge[(r >> 8) % sizeof edge];
        else
            data[at] = (char)(r >> 8);
    }
}

static int run_seed(const char *path, int changes)
{
    bise_error err;
    bise_str text = { 0 };
    bise_error_init(&err);
    if (bise_file_read(&text, path, &err) != BISE_OK) {
        fprintf(stderr, "%s: %s\n", path, err.text);
        return 1;
    }
    const size_t n = text.len;
    run(bise_str_get(&text), n);
    for (size_t i = 0; changes && i < CUTS && i < n; i++)
        run(text.data, n < CUTS ? i : (size_t)((double)i * (double)n / CUTS));
    char *copy = malloc(n ? n : 1);
    for (int i = 0; copy && n && i < changes; i++) {
        memcpy(copy, text.data, n);
        mutate(copy, n, (uint64_t)i);
        run(copy, n);
    }
    free(copy);
    bise_str_fini(&text);
    return 0;
}

int main(int argc, char **argv)
{
    bise_error err;
    int failed = 0;
    bise_error_init(&err);
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            failed |= run_seed(argv[i], 0);
        return failed;
    }
    const char *top = getenv("top_srcdir");
    const char *name = strstr(bise_path_base(argv[0]), "fuzz_");
    bise_str dir = { 0 };
    bise_str_printf(&dir, "%s/tests/fuzz/seeds/%s", top ? top : ".",
                    name ? name + 5 : "");
    char **names = NULL;
    size_t n = 0;
    if (bise_dir_list(&names, &n, bise_str_get(&dir), &err) != BISE_OK || !n) {
        fprintf(stderr, "no seeds in %s\n", bise_str_get(&dir));
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        char *path = bise_path_join(bise_str_get(&dir), names[i]);
        failed |= run_seed(path, CHANGES);
        bise_free(path);
    }
    printf("%zu seeds\n", n);
    bise_free(names);
    bise_str_fini(&dir);
    return failed;
}
