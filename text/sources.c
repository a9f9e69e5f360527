/* sources.c - names of data files to paths, weights and sizes. A name that
 * exists is taken literally, so a colon in a file name stays possible.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/sources.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"

static const char *const endings[] = {
    ".jsonl", ".jsonl.zst", ".jsonl.gz", ".json", ".json.zst", ".json.gz",
};

#define ENDINGS (sizeof endings / sizeof *endings)

/* Takes path. */
static bise_status add_take(bise_sources *s, char *path, double weight,
                            bise_error *err)
{
    bise_source *v =
        path ? bise_realloc_array(s->v, (size_t)s->n + 1, sizeof *v) : NULL;
    if (!v) {
        bise_free(path);
        return bise_fail_nomem(err);
    }
    const uint64_t bytes = bise_file_size(path);
    s->v = v;
    s->v[s->n++] = (bise_source) { path, weight, bytes };
    s->bytes += bytes;
    return BISE_OK;
}

/* dir/split.jsonl and its variants; *found tells. */
static bise_status add_split(bise_sources *s, const char *dir,
                             const char *split, double weight, bool *found,
                             bise_error *err)
{
    for (size_t i = 0; i < ENDINGS; i++) {
        bise_str name = { 0 };
        bise_str_printf(&name, "%s%s", split, endings[i]);
        /* a name cut short by lack of memory would be the directory itself */
        char *path = bise_str_ok(&name) ?
                     bise_path_join(dir, bise_str_get(&name)) : NULL;
        bise_str_fini(&name);
        if (!path)
            return bise_fail_nomem(err);
        if (bise_file_exists(path)) {
            *found = true;
            return add_take(s, path, weight, err);
        }
        bise_free(path);
    }
    return BISE_OK;
}

/* Names that begin like evaluation data are left out; so is .json, which in a
 * folder of data is as often a description as it is data. */
static bool is_training_file(const char *name)
{
    static const char *const others[] = { "valid", "test", "eval", "dev" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (bise_starts_with(name, others[i]))
            return false;
    for (size_t i = 0; i < 3; i++)      /* JSONL endings only */
        if (bise_ends_with(name, endings[i]))
            return true;
    return false;
}

/* Every training file of a directory, by name. */
static bise_status add_all(bise_sources *s, const char *dir, double weight,
                           bool *found, bise_error *err)
{
    char **names = NULL;
    size_t n = 0;
    bise_status st = bise_dir_list(&names, &n, dir, err);
    for (size_t i = 0; st == BISE_OK && i < n; i++) {
        if (!is_training_file(names[i]))
            continue;
        *found = true;
        st = add_take(s, bise_path_join(dir, names[i]), weight, err);
    }
    bise_free(names);
    return st;
}

/* The asked split under its own name; "valid" also under the names other
 * tools give it, in order of preference; and for training, when the folder
 * has no train file, everything that looks like training data. */
static bise_status add_dir(bise_sources *s, const char *dir, const char *split,
                           double weight, bise_error *err)
{
    static const char *const valid[] = { "valid", "validation", "eval",
                                         "dev", "test" };
    const bool is_valid = !strcmp(split, "valid");
    bool found = false;
    bise_status st = BISE_OK;
    /* other tools' names of the same split */
    for (size_t i = 0; is_valid && !found && st == BISE_OK && i < 5; i++)
        st = add_split(s, dir, valid[i], weight, &found, err);
    if (!is_valid)
        st = add_split(s, dir, split, weight, &found, err);
    if (st == BISE_OK && !found && !strcmp(split, "train"))
        st = add_all(s, dir, weight, &found, err);
    if (st == BISE_OK && !found) {
        st = bise_fail(err, BISE_EINVAL, "no %s.jsonl in the directory '%s'",
                       split, dir);
        return bise_error_in(err, dir, NULL);
    }
    return st;
}

/* Split "path:0.7"; path is a copy (bise_free), weight 0 when there is none. */
static bise_status split_weight(char **path, double *weight, const char *name,
                                bise_error *err)
{
    *weight = 0;
    *path = bise_strdup(name);
    if (!*path)
        return bise_fail_nomem(err);
    char *colon = strrchr(*path, ':'), *end;
    if (bise_file_exists(name) || bise_is_dir(name) || !colon || !colon[1])
        return BISE_OK;
    const double w = strtod(colon + 1, &end);
    if (*end)
        return BISE_OK;
    if (!(w > 0) || !isfinite(w)) {
        const bise_status s =
            bise_fail(err, BISE_EINVAL, "weight '%s' of '%s' is not above 0",
                      colon + 1, name);
        bise_free(*path);
        *path = NULL;
        return s;
    }
    *colon = 0;
    *weight = w;
    return BISE_OK;
}

/* One name of the command line: a directory gives a split, else a file. */
static bise_status add_name(bise_sources *s, const char *name,
                            const char *split, bise_error *err)
{
    char *path = NULL;
    double weight;
    bise_status st = split_weight(&path, &weight, name, err);
    if (st != BISE_OK)
        return st;
    if (bise_is_dir(path)) {
        st = add_dir(s, path, split, weight, err);
        bise_free(path);
        return st;
    }
    return add_take(s, path, weight, err);
}

/* When any file has a weight, the others get 1. */
bise_status bise_sources_find(bise_sources *out, const char *const *names,
                              int32_t n, const char *split, bise_error *err)
{
    bise_sources s = { 0 };
    bise_status st = n > 0 ? BISE_OK :
                     bise_fail(err, BISE_EINVAL, "no data file was given");
    bool weighted = false;
    for (int32_t i = 0; st == BISE_OK && i < n; i++)
        st = add_name(&s, names[i], split ? split : "train", err);
    if (st != BISE_OK) {
        bise_sources_fini(&s);
        return st;
    }
    for (int32_t i = 0; i < s.n; i++)
        weighted |= s.v[i].weight > 0;
    for (int32_t i = 0; i < s.n; i++)
        if (weighted && !(s.v[i].weight > 0))
            s.v[i].weight = 1;
    *out = s;
    return BISE_OK;
}

/* Zeroed afterwards. */
void bise_sources_fini(bise_sources *s)
{
    for (int32_t i = 0; i < s->n; i++)
        bise_free(s->v[i].path);
    bise_free(s->v);
    *s = (bise_sources) { 0 };
}
