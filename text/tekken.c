/* tekken.c - reader of tekken.json (mistral3.md 4.2): config {pattern,
 * default_vocab_size, default_num_special_tokens, version}, vocab [{rank,
 * token_bytes}], special_tokens [{rank, token_str, is_control}] (absent up to
 * v7). Id = rank + number of specials; entries beyond the vocabulary size are
 * cut off. The merges follow from the ranks.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/crypto.h"
#include "text/chat_settings.h"
#include "text/vocab.h"

/* Special tokens of files that do not list them. */
static const char *const default_specials[] = {
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]",
    "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
    "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"
};
#define N_DEFAULT (sizeof default_specials / sizeof *default_specials)

typedef struct tekken_config {
    const char *pattern;
    size_t pattern_len;
    int64_t vocab, specials;
    int version;
} tekken_config;

/* Bounded before anything is allocated by it. */
static bise_status get_count(const bise_json *config, const char *key,
                             int64_t *out, bise_error *err)
{
    if (!bise_json_integer(bise_json_get(config, key), out))
        return bise_fail(err, BISE_EFORMAT,
                         "field 'config.%s' is missing or not a whole number",
                         key);
    if (*out < 0 || *out > BISE_VOCAB_MAX)
        return bise_fail(err, BISE_EFORMAT, "field 'config.%s' is %" PRId64
                         ", 0 to %d allowed", key, *out, BISE_VOCAB_MAX);
    return BISE_OK;
}

/* The version is read as a whole word of a known list, since the chat format
 * hangs on it. */
static bise_status read_config(tekken_config *c, const bise_json *root,
                               bise_error *err)
{
    const bise_json *config = bise_json_get(root, "config");
    c->pattern = bise_json_string(bise_json_get(config, "pattern"),
                                  &c->pattern_len);
    if (!c->pattern)
        return bise_fail(err, BISE_EFORMAT,
                         "field 'config.pattern' is missing or not a string");
    bise_status s = get_count(config, "default_vocab_size", &c->vocab, err);
    if (s == BISE_OK)
        s = get_count(config, "default_num_special_tokens", &c->specials, err);
    if (s != BISE_OK)
        return s;
    if (c->specials >= c->vocab)
        return bise_fail(err, BISE_EFORMAT, "field "
                         "'config.default_num_special_tokens' is %" PRId64
                         ", must be below default_vocab_size %" PRId64,
                         c->specials, c->vocab);
    const char *v = bise_json_string(bise_json_get(config, "version"), NULL);
    static const int known[] = { 1, 2, 3, 7, 11, 13, 15 };
    for (size_t i = 0; v && v[0] == 'v' && i < sizeof known / sizeof *known;
         i++)
        if (strtol(v + 1, NULL, 10) == known[i])
            c->version = known[i];
    if (!c->version)
        return bise_fail(err, BISE_EFORMAT, "field 'config.version' is '%s', "
                         "v1 v2 v3 v7 v11 v13 v15 are known",
                         v ? v : "missing");
    return BISE_OK;
}

/* One entry of special_tokens. Ranks are ids here. A name may stand once, a
 * rank too. */
static bise_status read_special(bise_tokenizer *t, const tekken_config *c,
                                const bise_json *list, size_t i,
                                bise_error *err)
{
    const bise_json *item = bise_json_at(list, i);
    int64_t rank;
    size_t len;
    if (!bise_json_integer(bise_json_get(item, "rank"), &rank) || rank < 0 ||
        rank >= c->specials)
        return bise_fail(err, BISE_EFORMAT, "field 'special_tokens[%zu].rank' "
                         "is missing or not in 0 to %" PRId64, i,
                         c->specials - 1);
    const char *name = bise_json_string(bise_json_get(item, "token_str"), &len);
    if (!name || !len || memchr(name, 0, len))
        return bise_fail(err, BISE_EFORMAT, "field "
                         "'special_tokens[%zu].token_str' is missing or not a "
                         "name", i);
    if (t->pieces[rank].type)
        return bise_fail(err, BISE_EFORMAT, "field 'special_tokens[%zu].rank' "
                         "is %" PRId64 " for the second time", i, rank);
    return bise_vocab_set(t, (int32_t)rank, name, len, BISE_PIECE_CONTROL, 0,
                          err);
}

/* Up to v7 files do not list them and mean the default ones; later files
 * must, because ids differ between models. */
static bise_status read_specials(bise_tokenizer *t, const tekken_config *c,
                                 const bise_json *root, bise_error *err)
{
    const bise_json *list = bise_json_get(root, "special_tokens");
    bise_status s = BISE_OK;
    if (bise_json_is_null(list)) {
        if (c->version > 7)
            return bise_fail(err, BISE_EFORMAT, "field 'special_tokens' is "
                             "missing, v%d needs it", c->version);
        for (size_t i = 0; i < N_DEFAULT && (int64_t)i < c->specials &&
             s == BISE_OK; i++)
            s = bise_vocab_set(t, (int32_t)i, default_specials[i],
                               strlen(default_specials[i]), BISE_PIECE_CONTROL,
                               0, err);
    } else if (bise_json_typeof(list) != BISE_JSON_ARRAY) {
        return bise_fail(err, BISE_EFORMAT,
                         "field 'special_tokens' is not a list");
    }
    for (size_t i = 0; i < bise_json_size(list) && s == BISE_OK; i++)
        s = read_special(t, c, list, i, err);
    for (int32_t id = 0; id < c->specials && s == BISE_OK; id++) {
        char name[32];              /* the ids between, as Mistral names them */
        if (t->pieces[id].type)
            continue;
        snprintf(name, sizeof name, "<SPECIAL_%d>", id);
        s = bise_vocab_set(t, id, name, strlen(name), BISE_PIECE_CONTROL, 0,
                           err);
    }
    return s;
}

/* One entry of vocab: its rank must be its place in the list. The first 256
 * must be the bytes in order: every text can be spelt with them, and the
 * merging starts from them. */
static bise_status read_entry(bise_tokenizer *t, const tekken_config *c,
                              const bise_json *item, size_t i, bise_str *raw,
                              bise_error *err)
{
    int64_t rank;
    size_t len;
    if (!bise_json_integer(bise_json_get(item, "rank"), &rank))
        return bise_fail(err, BISE_EFORMAT, "field 'vocab[%zu].rank' is "
                         "missing or not a whole number", i);
    if (rank != (int64_t)i)
        return bise_fail(err, BISE_EFORMAT, "field 'vocab[%zu].rank' is %"
                         PRId64 ", must be %zu", i, rank, i);
    const char *b64 = bise_json_string(bise_json_get(item, "token_bytes"),
                                       &len);
    if (!b64)
        return bise_fail(err, BISE_EFORMAT, "field 'vocab[%zu].token_bytes' is "
                         "missing or not a string", i);
    bise_str_clear(raw);
    /* Strict: a token that decodes to something else would silently change all
     * ids behind it. */
    const bool good = bise_base64_get(raw, b64, len);
    if (!bise_str_ok(raw))
        return bise_fail_nomem(err);
    if (!good || !raw->len)
        return bise_fail(err, BISE_EFORMAT, "field 'vocab[%zu].token_bytes' is "
                         "'%.40s', not base64", i, b64);
    if (i < 256 && (raw->len != 1 || (uint8_t)raw->data[0] != i))
        return bise_fail(err, BISE_EFORMAT, "field 'vocab[%zu].token_bytes' is "
                         "'%.40s', must be the byte %zu", i, b64, i);
    return bise_vocab_set(t, (int32_t)(c->specials + rank), raw->data,
                          raw->len, BISE_PIECE_NORMAL, -(float)rank, err);
}

/* Entries behind the vocabulary size are there for larger models of the
 * family and are not read: with them ids would not fit the embedding
 * (mistral3.md 7.11). */
static bise_status read_vocab(bise_tokenizer *t, const tekken_config *c,
                              const bise_json *root, bise_error *err)
{
    const bise_json *vocab = bise_json_get(root, "vocab");
    const size_t inner = (size_t)(c->vocab - c->specials);
    if (bise_json_typeof(vocab) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT,
                         "field 'vocab' is missing or not a list");
    if (bise_json_size(vocab) < inner || inner < 256)
        return bise_fail(err, BISE_EFORMAT, "field 'vocab' has %zu entries, "
                         "config.default_vocab_size needs %zu (256 at least)",
                         bise_json_size(vocab), inner);
    bise_str raw = { 0 };
    bise_status s = BISE_OK;
    for (size_t i = 0; i < inner && s == BISE_OK; i++)
        s = read_entry(t, c, bise_json_at(vocab, i), i, &raw, err);
    bise_str_fini(&raw);
    return s;
}

/* Ranks of the ids: special tokens are never merged into. The rank of a
 * token is its place in the file, so all ways to put it together are equally
 * good. */
static bise_status derive_merges(bise_tokenizer *t, int64_t specials,
                                 bise_error *err)
{
    uint32_t *rank = bise_alloc_array((size_t)t->n, sizeof *rank);
    if (!rank)
        return bise_fail_nomem(err);
    for (int32_t id = 0; id < t->n; id++)
        rank[id] = id < specials ? UINT32_MAX : (uint32_t)(id - specials);
    const bise_status s = bise_vocab_derive(t, rank, err);
    bise_free(rank);
    return s;
}

/* The rules of a v15 file for model settings; older formats have no use for
 * them. */
static bise_status read_rules(bise_tokenizer *t, const bise_json *root,
                              bise_error *err)
{
    const bise_json *rules = bise_json_get(root, "model_settings_builder");
    const bise_status s = bise_chat_settings_check(rules, err);
    if (s != BISE_OK || bise_json_is_null(rules))
        return s;
    t->rules = bise_json_copy(rules);
    return t->rules ? BISE_OK : bise_fail_nomem(err);
}

/* Order: specials before the vocabulary, which begins behind them; the maps
 * before the merges, which look tokens up by their bytes. */
bise_status bise_tekken_parse(bise_tokenizer **out, const char *name,
                              const bise_json *root, bise_error *err)
{
    tekken_config c = { 0 };
    bise_tokenizer *t = NULL;
    bise_status s = read_config(&c, root, err);
    if (s == BISE_OK)
        s = bise_vocab_new(&t, BISE_TOKENIZER_TEKKEN, c.vocab, name, err);
    if (s != BISE_OK)
        return s;
    t->version = c.version;
    t->ignore_merges = true;
    t->pattern = bise_arena_strndup(&t->arena, c.pattern, c.pattern_len);
    s = t->pattern ? read_specials(t, &c, root, err) : bise_fail_nomem(err);
    if (s == BISE_OK)
        s = read_rules(t, root, err);
    if (s == BISE_OK)
        s = read_vocab(t, &c, root, err);
    if (s == BISE_OK)
        s = bise_vocab_index(t, true, err);
    if (s == BISE_OK)
        s = derive_merges(t, c.specials, err);
    if (s == BISE_OK)
        s = bise_vocab_pattern_status(
            bise_split_new(&t->split, c.pattern, c.pattern_len, false, false,
                           err), "config.pattern", err);
    if (s == BISE_OK)
        s = bise_vocab_finish(t, err);
    if (s != BISE_OK) {
        bise_tokenizer_free(t);
        return s;
    }
    *out = t;
    return BISE_OK;
}
