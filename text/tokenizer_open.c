/* tokenizer_open.c - which tokenizer a model has: tekken.json wins over a
 * SentencePiece model file, that over tokenizer.json (both are what Mistral
 * itself publishes; tokenizer.json is a conversion and often a wrong one,
 * mistral3.md 7.10). When several are there they are compared, and what
 * differs is told. A GGUF uses its own vocabulary.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "core/file.h"
#include "text/vocab.h"

/* Is name a SentencePiece model file: tokenizer.model, x.model.v3, ...?
 * Mistral publishes them as tokenizer.model, tokenizer.model.v3,
 * mistral_instruct_tokenizer_240323.model.v3. */
static bool is_spm_name(const char *name)
{
    const char *p = strstr(name, ".model");
    return p && strstr(name, "tokenizer") && !strchr(name, '/') &&
           (!p[6] || (p[6] == '.' && p[7] == 'v'));
}

/* The first SentencePiece model among the side files, or NULL. */
static const char *find_spm(const bise_store *store)
{
    for (size_t i = 0; i < bise_store_file_count(store); i++)
        if (is_spm_name(bise_store_file_at(store, i)))
            return bise_store_file_at(store, i);
    return NULL;
}

/* A tokenizer from a side file, which may lie in an archive. */
static bise_status open_side(bise_tokenizer **out, bise_store *store,
                             const char *name, bise_error *err)
{
    bise_str text = { 0 };
    bise_status s = bise_store_file(store, name, &text, err);
    if (s == BISE_OK)
        s = bise_tokenizer_parse(out, name, bise_str_get(&text), text.len,
                                 err);
    bise_str_fini(&text);
    return s;
}

/* Equal text and equally special: a control token that became text in a
 * conversion is the fault to find. */
static bool same_piece(const bise_piece *a, const bise_piece *b)
{
    if (a->len != b->len || memcmp(a->text, b->text, a->len) != 0)
        return false;
    return (a->type == BISE_PIECE_CONTROL) == (b->type == BISE_PIECE_CONTROL);
}

/* Tell how two tokenizers of one model differ: size, first id, pattern. One
 * line for each kind of difference, with the first id, is enough to look it
 * up. */
static void compare(const bise_tokenizer *t, const bise_tokenizer *other,
                    const bise_progress *progress)
{
    const int32_t n = t->n < other->n ? t->n : other->n;
    int32_t differ = 0, first = -1;
    for (int32_t id = 0; id < n; id++) {
        if (same_piece(&t->pieces[id], &other->pieces[id]))
            continue;
        first = first < 0 ? id : first;
        differ++;
    }
    if (t->n != other->n)
        bise_progress_say(progress, "warning: %s has %d ids, %s has %d; %s is "
                          "used", t->source, t->n, other->source, other->n,
                          t->source);
    if (differ)
        bise_progress_say(progress, "warning: %s and %s disagree about %d ids, "
                          "the first is %d ('%.40s', '%.40s'); %s is used",
                          t->source, other->source, differ, first,
                          t->pieces[first].text, other->pieces[first].text,
                          t->source);
    if (t->pattern && other->pattern && strcmp(t->pattern, other->pattern))
        bise_progress_say(progress, "warning: %s splits words in another way "
                          "than %s; %s is used", other->source, t->source,
                          t->source);
}

/* The winner must be readable, the others are only compared: a broken
 * tokenizer.json beside a good tekken.json is told and not fatal. */
bise_status bise_tokenizer_open(bise_tokenizer **out, bise_store *store,
                                const bise_progress *progress, bise_error *err)
{
    const char *names[3] = { NULL };
    size_t n = 0;
    if (bise_store_gguf(store))
        return bise_gguf_vocab(out, bise_store_path(store),
                               bise_store_gguf(store), err);
    if (bise_store_has_file(store, "tekken.json"))
        names[n++] = "tekken.json";
    const char *spm = find_spm(store);
    if (spm)
        names[n++] = spm;
    if (bise_store_has_file(store, "tokenizer.json"))
        names[n++] = "tokenizer.json";
    if (!n)
        return bise_fail(err, BISE_EFORMAT, "'%s' has no tokenizer: "
                         "tekken.json, tokenizer.json or tokenizer.model",
                         bise_store_path(store));
    bise_tokenizer *t = NULL;
    const bise_status s = open_side(&t, store, names[0], err);
    if (s != BISE_OK)
        return s;
    for (size_t i = 1; i < n && progress; i++) {
        bise_tokenizer *other = NULL;
        bise_error ignored;
        bise_error_init(&ignored);
        if (open_side(&other, store, names[i], &ignored) == BISE_OK)
            compare(t, other, progress);
        else
            bise_progress_say(progress, "warning: %s is not readable (%s); %s "
                              "is used", names[i], ignored.text, names[0]);
        bise_tokenizer_free(other);
    }
    *out = t;
    return BISE_OK;
}

/* The mapping is gone when it returns: readers copy what they keep. */
bise_status bise_tokenizer_load(bise_tokenizer **out, const char *path,
                                bise_error *err)
{
    bise_map map;
    bise_status s = bise_map_open(&map, path, err);
    if (s != BISE_OK)
        return s;
    if (map.size >= 4 && memcmp(map.data, "GGUF", 4) == 0) {
        bise_gguf g = { 0 };
        s = bise_gguf_parse(&g, map.data, map.size, err);
        if (s == BISE_OK)
            s = bise_gguf_vocab(out, path, &g.meta, err);
        bise_gguf_close(&g);
        if (s != BISE_OK)
            s = bise_error_in(err, path, NULL);
    } else {
        s = bise_tokenizer_parse(out, path, map.size ? (const char *)map.data
                                                     : "", map.size, err);
    }
    bise_map_close(&map);
    return s;
}
