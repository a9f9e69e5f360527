/* store_gguf.c - a GGUF file, or all splits of one (gguf.md section 2), or a
 * folder that holds exactly one model as GGUF. The first split carries the
 * key-values; its name PREFIX-00001-of-0000N.gguf gives the names of all.
 * A split set is opened as one model; each file of it has been checked by its
 * own reader before the set is checked here.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/layout.h"

#define SPLIT_TAIL 20 /* length of "-00001-of-00003.gguf" */

/* The name does not matter: Ollama's blobs have none. */
static bool has_magic(bise_source *src, const char *name)
{
    char head[4];
    return bise_source_head(src, name, head, sizeof head) == sizeof head &&
           memcmp(head, "GGUF", 4) == 0;
}

/* Numbers of a split's name; false when it is not one. */
static bool split_numbers(const char *name, unsigned *no, unsigned *count)
{
    int used = 0;
    const size_t n = strlen(name);
    return n > SPLIT_TAIL &&
           sscanf(name + n - SPLIT_TAIL, "-%5u-of-%5u.gguf%n", no, count,
                  &used) == 2 && used == SPLIT_TAIL;
}

/* The only model of a folder: one .gguf, or the first split of one set; the
 * projector of a vision model beside it (mmproj) does not count. */
static const char *only_gguf(bise_source *src)
{
    const char *found = NULL;
    for (size_t i = 0; i < src->n_names; i++) {
        unsigned no = 1, count;
        const char *name = src->names[i];
        if (!bise_ends_with(name, ".gguf") || strstr(name, "mmproj"))
            continue;
        if (split_numbers(name, &no, &count) && no != 1)
            continue;
        if (found)
            return NULL;
        found = name;
    }
    return found;
}

/* A folder with safetensors is a Hugging Face model, even when someone put a
 * GGUF beside it. */
static bool probe_gguf(bise_source *src)
{
    if (src->single)
        return has_magic(src, src->names[0]) ||
               bise_ends_with(src->names[0], ".gguf");
    for (size_t i = 0; i < src->n_names; i++)
        if (bise_ends_with(src->names[i], ".safetensors"))
            return false;
    return only_gguf(src) != NULL;
}

/* What the header says against what the set of files needs. */
static bise_status bad_split(const bise_shard *sh, const char *key, int64_t got,
                             int64_t want, bise_error *err)
{
    bise_status st = bise_fail(err, BISE_EFORMAT, "%s is %" PRId64
                               ", %" PRId64 " is needed", key, got, want);
    return st = bise_error_in(err, sh->path, NULL);
}

/* Each shard's own number and count, and the tensors of all together. */
static bise_status check_splits(const bise_store *s, int64_t count,
                                bise_error *err)
{
    int64_t total = 0;
    for (size_t i = 0; i < s->n_shards; i++) {
        const bise_gguf_meta *m = &s->shards[i].gguf.meta;
        const int64_t no = bise_gguf_int(m, "split.no", -1);
        const int64_t n = bise_gguf_int(m, "split.count", -1);
        if (no != (int64_t)i)
            return bad_split(&s->shards[i], "split.no", no, (int64_t)i, err);
        if (n != count)
            return bad_split(&s->shards[i], "split.count", n, count, err);
        total += (int64_t)s->shards[i].gguf.n_tensors;
    }
    const int64_t want = bise_gguf_int(&s->shards[0].gguf.meta,
                                       "split.tensors.count", total);
    if (total != want)
        return bad_split(&s->shards[0], "split.tensors.count", want, total,
                         err);
    return BISE_OK;
}

/* Open splits 2..count next to the first. */
static bise_status open_splits(bise_store *s, const char *first, int64_t count,
                               bise_error *err)
{
    unsigned no, n;
    const size_t prefix = strlen(first) - SPLIT_TAIL;
    if (!split_numbers(first, &no, &n) || no != 1 || (int64_t)n != count) {
        bise_status st = bise_fail(err, BISE_EFORMAT,
                                   "split.count is %" PRId64 ", but the name "
                                   "is not PREFIX-00001-of-%05" PRId64 ".gguf",
                                   count, count);
        return st = bise_error_hint(err, "give the first file of the set "
                                    "under its original name");
    }
    for (unsigned i = 2; i <= n; i++) {
        bise_str name = { 0 };
        bise_str_add(&name, first, prefix);
        bise_str_printf(&name, "-%05u-of-%05u.gguf", i, n);
        const bise_status st = bise_str_ok(&name) ?
            bise_store_add_shard(s, bise_str_get(&name), err) :
            bise_fail_nomem(err);
        bise_str_fini(&name);
        if (st != BISE_OK)
            return st;
    }
    return check_splits(s, count, err);
}

/* split.count 0 or 1 means unsplit, as after gguf-split --merge. */
static bise_status open_gguf(bise_store *s, bise_error *err)
{
    const char *first = s->src->single ? s->src->names[0] : only_gguf(s->src);
    bise_status st = bise_store_add_shard(s, first, err);
    if (st != BISE_OK)
        return st;
    const bise_gguf_meta *m = &s->shards[0].gguf.meta;
    const int64_t count = bise_gguf_int(m, "split.count", 0);
    if (count <= 1)
        return BISE_OK;
    const int64_t no = bise_gguf_int(m, "split.no", 0);
    if (no != 0) {
        st = bise_fail(err, BISE_EFORMAT, "this is split %" PRId64 " of %"
                       PRId64, no + 1, count);
        return st = bise_error_hint(err, "give the first file of the set");
    }
    return open_splits(s, first, count, err);
}

const bise_format bise_format_gguf = {
    .name = "gguf", .kind = BISE_STORE_GGUF,
    .probe = probe_gguf, .open = open_gguf
};
