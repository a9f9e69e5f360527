/* gguf_vocab.c - tokenizers as GGUF key-values tokenizer.ggml.* (mistral3.md
 * 6.4): read a vocabulary of model "gpt2" (byte-level, merges) or "llama"
 * (SentencePiece, scores), and write ours. Byte-level tokens are spelt in the
 * GPT-2 byte alphabet.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/vocab.h"

#define KEY(name) "tokenizer.ggml." name

/* Does a key hold exactly this text? Values are not NUL-terminated. */
static bool is_str(const bise_gguf_meta *m, const char *key, const char *want)
{
    size_t n;
    const char *s = bise_gguf_str(m, key, &n);
    return s && n == strlen(want) && memcmp(s, want, n) == 0;
}

/* An array that must have one number for each token, NULL when absent. The
 * count is checked here once, so that the walk over the tokens needs no
 * further bound. */
static bise_status token_array(const bise_gguf_meta *m, const char *key,
                               uint64_t n, const bise_gguf_kv **out,
                               bise_error *err)
{
    const bise_gguf_kv *kv = *out = bise_gguf_get(m, key);
    if (!kv)
        return BISE_OK;
    if (kv->type != BISE_GGUF_ARRAY || kv->elem == BISE_GGUF_STR ||
        kv->elem == BISE_GGUF_ARRAY || kv->count != n)
        return bise_fail(err, BISE_EFORMAT, "key '%s' must be %" PRIu64
                         " numbers, one for each token", key, n);
    return BISE_OK;
}

/* All tokens with their types and scores. A type outside of 1 to 6 counts as
 * normal, which is what llama.cpp makes of a file without types. */
static bise_status read_tokens(bise_tokenizer *t, const bise_gguf_meta *m,
                               const bise_gguf_kv *tokens, bise_error *err)
{
    const bise_gguf_kv *types, *scores;
    const char *text;
    uint64_t at = 0;
    size_t len;
    bise_str raw = { 0 };
    bise_status s = token_array(m, KEY("token_type"), tokens->count, &types,
                                err);
    if (s == BISE_OK)
        s = token_array(m, KEY("scores"), tokens->count, &scores, err);
    for (int32_t id = 0; s == BISE_OK && id < t->n &&
         (text = bise_gguf_array_next(tokens, &at, &len)); id++) {
        const double ty = types
            ? bise_gguf_array_number(types, (uint64_t)id) : 1;
        const double score = scores && t->kind == BISE_TOKENIZER_SPM
            ? bise_gguf_array_number(scores, (uint64_t)id) : 0;
        const bise_piece_type type = ty >= 1 && ty <= 6
            ? (bise_piece_type)ty : BISE_PIECE_NORMAL;
        bise_str_clear(&raw);
        /* Special tokens are written as they are, others in the alphabet. */
        if (t->kind == BISE_TOKENIZER_BPE && type == BISE_PIECE_NORMAL &&
            bise_bytelevel_read(&raw, text, len))
            s = bise_vocab_set(t, id, bise_str_get(&raw), raw.len, type,
                               (float)score, err);
        else
            s = bise_vocab_set(t, id, text, len, type, (float)score, err);
    }
    if (s == BISE_OK && !bise_str_ok(&raw))
        s = bise_fail_nomem(err);
    bise_str_fini(&raw);
    return s;
}

/* Id of one side of a merge in the byte alphabet, -1 when it has none. Both
 * sides are spelt in the byte alphabet, where a blank never occurs: the
 * blank between them is the only one. */
static int32_t side_id(const bise_tokenizer *t, const char *s, size_t n,
                       bise_str *raw)
{
    bise_str_clear(raw);
    if (!bise_bytelevel_read(raw, s, n))
        return -1;
    s = bise_str_get(raw);
    return bise_vocab_find(t, s, raw->len, bise_hash_bytes(s, raw->len));
}

/* The list of merges, best first. Every side must be a token: a merge of
 * something else could never apply, and hides a broken file. */
static bise_status read_merges(bise_tokenizer *t, const bise_gguf_meta *m,
                               bise_error *err)
{
    const bise_gguf_kv *kv = bise_gguf_get(m, KEY("merges"));
    if (!kv || kv->type != BISE_GGUF_ARRAY || kv->elem != BISE_GGUF_STR)
        return bise_fail(err, BISE_EFORMAT, "key '%s' is missing or not a "
                         "list of strings", KEY("merges"));
    int32_t (*list)[2] = bise_arena_alloc(&t->arena, (kv->count + 1) *
                                          sizeof *list);
    if (!list)
        return bise_fail_nomem(err);
    bise_str raw = { 0 };
    bise_status s = BISE_OK;
    uint64_t at = 0;
    size_t n = 0, len;
    const char *text;
    while (s == BISE_OK && n < kv->count &&
           (text = bise_gguf_array_next(kv, &at, &len))) {
        const char *blank = memchr(text, ' ', len);
        const size_t ll = blank ? (size_t)(blank - text) : len;
        list[n][0] = side_id(t, text, ll, &raw);
        list[n][1] = blank ? side_id(t, blank + 1, len - ll - 1, &raw) : -1;
        if (list[n][0] < 0 || list[n][1] < 0)
            s = bise_fail(err, BISE_EFORMAT, "merge %zu of key '%s' is not "
                          "two tokens of the vocabulary", n, KEY("merges"));
        n++;
    }
    bise_str_fini(&raw);
    return s == BISE_OK ? bise_vocab_merges(t, list, n, err) : s;
}

/* An id given by key; -1 when it is absent or not an id. Some writers store
 * -1 as 4294967295. */
static int32_t special_id(const bise_gguf_meta *m, const char *key, int32_t n)
{
    const int64_t id = bise_gguf_int(m, key, -1);
    return id >= 0 && id < n ? (int32_t)id : -1;
}

/* The parts that differ between the two kinds. SentencePiece files of
 * llama.cpp always fall back to bytes and put a blank in front unless a key
 * says otherwise. */
static bise_status read_kind(bise_tokenizer *t, const bise_gguf_meta *m,
                             bise_error *err)
{
    if (t->kind == BISE_TOKENIZER_SPM) {
        t->byte_fallback = t->fuse_unknown = true;
        t->prefix = bise_gguf_flag(m, KEY("add_space_prefix"), true)
            ? BISE_PREFIX_ALWAYS : BISE_PREFIX_NONE;
        t->trim_blanks = bise_gguf_flag(m, KEY("remove_extra_whitespaces"),
                                        false);
        return BISE_OK;
    }
    if (!is_str(m, KEY("pre"), "tekken"))
        return bise_fail(err, BISE_EUNSUPPORTED, "key '%s' is not 'tekken', "
                         "the only byte-level split known", KEY("pre"));
    t->ignore_merges = true;
    t->pattern = bise_arena_strdup(&t->arena, bise_tekken_pattern);
    if (!t->pattern)
        return bise_fail_nomem(err);
    const bise_status s = bise_split_new(&t->split, t->pattern,
                                         strlen(t->pattern), true, false, err);
    return s == BISE_OK ? read_merges(t, m, err) : s;
}

/* Vocabulary of a GGUF. The version is not stored; bise_chat_for guesses it
 * from the control tokens. Ids of special tokens come from their keys, and
 * from their names where a key is absent. */
bise_status bise_gguf_vocab(bise_tokenizer **out, const char *name,
                            const bise_gguf_meta *m, bise_error *err)
{
    const bise_gguf_kv *tokens = bise_gguf_get(m, KEY("tokens"));
    const bool spm = is_str(m, KEY("model"), "llama");
    bise_tokenizer *t = NULL;
    if (!tokens || tokens->type != BISE_GGUF_ARRAY ||
        tokens->elem != BISE_GGUF_STR || tokens->count > BISE_VOCAB_MAX)
        return bise_fail(err, BISE_EFORMAT, "key '%s' is missing or not a "
                         "list of strings", KEY("tokens"));
    if (!spm && !is_str(m, KEY("model"), "gpt2"))
        return bise_fail(err, BISE_EUNSUPPORTED,
                         "key '%s' is neither 'llama' nor 'gpt2'",
                         KEY("model"));
    bise_status s = bise_vocab_new(&t, spm ? BISE_TOKENIZER_SPM
                                           : BISE_TOKENIZER_BPE,
                                   (int64_t)tokens->count, name, err);
    if (s != BISE_OK)
        return s;
    s = read_tokens(t, m, tokens, err);
    if (s == BISE_OK)
        s = bise_vocab_index(t, false, err);
    t->bos = special_id(m, KEY("bos_token_id"), t->n);
    t->eos = special_id(m, KEY("eos_token_id"), t->n);
    t->unk = special_id(m, KEY("unknown_token_id"), t->n);
    t->pad = special_id(m, KEY("padding_token_id"), t->n);
    if (s == BISE_OK)
        s = read_kind(t, m, err);
    if (s == BISE_OK)
        s = bise_vocab_finish(t, err);
    if (s != BISE_OK) {
        bise_tokenizer_free(t);
        return s;
    }
    *out = t;
    return BISE_OK;
}

/* The list of merges under construction. */
typedef struct merge_list {
    bise_str list, buf;
    const bise_tokenizer *t;
    uint64_t n;
} merge_list;

/* Merge (left, right) as "left right" in the byte alphabet. The text is what
 * llama.cpp and tokenizer.json read. */
static void put_merge(void *ctx, int32_t left, int32_t right)
{
    merge_list *m = ctx;
    const bise_piece *l = &m->t->pieces[left], *r = &m->t->pieces[right];
    bise_str_clear(&m->buf);
    bise_bytelevel_spell(&m->buf, l->text, l->len);
    bise_str_putc(&m->buf, ' ');
    bise_bytelevel_spell(&m->buf, r->text, r->len);
    bise_gguf_strings_add(&m->list, bise_str_get(&m->buf), m->buf.len);
    m->n++;
}

/* tokenizer.ggml.merges, from the file's own list where there was one. */
static bise_status put_merges(const bise_tokenizer *t, bise_gguf_meta *m,
                              bise_error *err)
{
    merge_list l = { .t = t };
    bise_gguf_strings_begin(&l.list);
    bise_status s = bise_vocab_each_merge(t, put_merge, &l, err);
    if (s == BISE_OK && !(bise_str_ok(&l.list) && bise_str_ok(&l.buf)))
        s = bise_fail_nomem(err);
    if (s == BISE_OK)
        bise_gguf_set_strings(m, KEY("merges"), &l.list, l.n);
    bise_str_fini(&l.list);
    bise_str_fini(&l.buf);
    return s;
}

/* The lists with one entry for each token. Rows of the embedding that no
 * token uses become [PADn] tokens of type unused, as llama.cpp's converter
 * writes them. */
static bise_status put_tokens(const bise_tokenizer *t, int32_t vocab,
                              bise_gguf_meta *m, bise_error *err)
{
    bise_str list = { 0 }, buf = { 0 };
    int32_t *types = bise_alloc_array((size_t)vocab, sizeof *types);
    float *scores = bise_alloc_array((size_t)vocab, sizeof *scores);
    bool ok = types && scores;
    bise_gguf_strings_begin(&list);
    for (int32_t id = 0; id < vocab && ok; id++) {
        const bise_piece *p = &t->pieces[id];
        bise_str_clear(&buf);
        types[id] = id < t->n ? p->type : BISE_PIECE_UNUSED;
        if (id >= t->n)
            bise_str_printf(&buf, "[PAD%d]", id);
        else if (t->kind != BISE_TOKENIZER_SPM &&
                 p->type == BISE_PIECE_NORMAL)
            bise_bytelevel_spell(&buf, p->text, p->len);
        else
            bise_str_add(&buf, p->text, p->len);
        bise_gguf_strings_add(&list, bise_str_get(&buf), buf.len);
    }
    ok = ok && bise_str_ok(&list) && bise_str_ok(&buf);
    if (ok) {
        bise_gguf_set_strings(m, KEY("tokens"), &list, (uint64_t)vocab);
        if (t->kind == BISE_TOKENIZER_SPM) {
            bise_vocab_scores(t, scores);
            bise_gguf_set_array(m, KEY("scores"), BISE_GGUF_F32, scores,
                                (uint64_t)vocab);
        }
        bise_gguf_set_array(m, KEY("token_type"), BISE_GGUF_I32, types,
                            (uint64_t)vocab);
    }
    bise_free(types);
    bise_free(scores);
    bise_str_fini(&list);
    bise_str_fini(&buf);
    return ok ? BISE_OK : bise_fail_nomem(err);
}

/* The keys stand in the order in which llama.cpp's converter writes them. An
 * embedding smaller than the vocabulary is refused: some text would have no
 * row. */
bise_status bise_tokenizer_to_gguf(const bise_tokenizer *t, int32_t vocab,
                                   bise_gguf_meta *m, bise_error *err)
{
    const bool spm = t->kind == BISE_TOKENIZER_SPM;
    if (vocab < t->n)
        return bise_fail(err, BISE_EFORMAT, "tokenizer '%s' has %d ids, the "
                         "embedding only %d rows", t->source, t->n, vocab);
    if (!spm && strcmp(t->pattern, bise_tekken_pattern) != 0)
        return bise_fail(err, BISE_EUNSUPPORTED, "split pattern of '%s' has "
                         "no name in GGUF", t->source);
    bise_gguf_set_str(m, KEY("model"), spm ? "llama" : "gpt2");
    bise_gguf_set_str(m, KEY("pre"), spm ? "default" : "tekken");
    bise_status s = put_tokens(t, vocab, m, err);
    if (s == BISE_OK && !spm)
        s = put_merges(t, m, err);
    const struct { const char *key; int32_t id; } ids[] = {
        { KEY("bos_token_id"), t->bos }, { KEY("eos_token_id"), t->eos },
        { KEY("unknown_token_id"), t->unk },
        { KEY("padding_token_id"), t->pad },
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i].id >= 0)
            bise_gguf_set_u32(m, ids[i].key, (uint32_t)ids[i].id);
    bise_gguf_set_bool(m, KEY("add_bos_token"), true);
    bise_gguf_set_bool(m, KEY("add_eos_token"), false);
    if (spm)
        bise_gguf_set_bool(m, KEY("add_space_prefix"),
                           t->prefix != BISE_PREFIX_NONE);
    return s == BISE_OK && m->failed ? bise_fail_nomem(err) : s;
}
