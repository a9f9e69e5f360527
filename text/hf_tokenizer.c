/* hf_tokenizer.c - reader of tokenizer.json (Hugging Face tokenizers), the two
 * forms that Mistral models use (mistral3.md 4.5): byte-level BPE with a split
 * pattern, and SentencePiece-style BPE with byte_fallback. Anything else in
 * the file that would change ids is refused by name.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "text/vocab.h"

/* Steps of tokenizer.json name their kind in `type`. */
static bool is_type(const bise_json *v, const char *type)
{
    const char *s = bise_json_string(bise_json_get(v, "type"), NULL);
    return s && strcmp(s, type) == 0;
}

/* The same for messages, with a text for a step that has none. */
static const char *type_of(const bise_json *v)
{
    const char *s = bise_json_string(bise_json_get(v, "type"), NULL);
    return s ? s : "(none)";
}

/* The largest id + 1 of vocab and added_tokens; checks their form. Ids may
 * have holes; the vocabulary is as large as its largest id says, bounded so
 * that a wrong id cannot ask for all memory. */
static bise_status count_ids(const bise_json *vocab, const bise_json *added,
                             int64_t *n, bise_error *err)
{
    *n = 0;
    for (void *it = bise_json_iter(vocab, NULL); it;
         it = bise_json_iter(vocab, it)) {
        int64_t id;
        if (!bise_json_integer(bise_json_iter_value(it), &id) || id < 0 ||
            id >= BISE_VOCAB_MAX)
            return bise_fail(err, BISE_EFORMAT, "field 'model.vocab.%.40s' is "
                             "not an id of 0 to %d", bise_json_iter_key(it),
                             BISE_VOCAB_MAX - 1);
        *n = id >= *n ? id + 1 : *n;
    }
    for (size_t i = 0; i < bise_json_size(added); i++) {
        const bise_json *a = bise_json_at(added, i);
        int64_t id;
        if (!bise_json_integer(bise_json_get(a, "id"), &id) || id < 0 ||
            id >= BISE_VOCAB_MAX)
            return bise_fail(err, BISE_EFORMAT, "field 'added_tokens[%zu].id' "
                             "is missing or not in 0 to %d", i,
                             BISE_VOCAB_MAX - 1);
        if (!bise_json_string(bise_json_get(a, "content"), NULL))
            return bise_fail(err, BISE_EFORMAT, "field "
                             "'added_tokens[%zu].content' is missing", i);
        *n = id >= *n ? id + 1 : *n;
    }
    return BISE_OK;
}

/* Types of the SentencePiece form: bytes are told by their names. Any other
 * text of a vocabulary is a normal piece; control tokens are told by
 * added_tokens. */
static bise_piece_type spm_type(const char *text, size_t len)
{
    if (len == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>' &&
        strspn(text + 3, "0123456789ABCDEF") == 2)
        return BISE_PIECE_BYTE;
    return BISE_PIECE_NORMAL;
}

/* One entry of model.vocab. Byte-level files spell bytes as visible
 * characters; a token that is not spelt so (an added one) is kept as it is.
 * Two texts with one id are refused: decoding could not choose. */
static bise_status set_entry(bise_tokenizer *t, int32_t id, const char *text,
                             bise_str *raw, bise_error *err)
{
    size_t len = strlen(text);
    bise_piece_type type = BISE_PIECE_NORMAL;
    if (t->pieces[id].type)
        return bise_fail(err, BISE_EFORMAT, "field 'model.vocab.%.40s' is %d, "
                         "the id of another token", text, id);
    if (t->kind == BISE_TOKENIZER_SPM) {
        type = spm_type(text, len);
    } else {
        bise_str_clear(raw);
        if (bise_bytelevel_read(raw, text, len)) {
            text = bise_str_get(raw);
            len = raw->len;
        }
        if (!bise_str_ok(raw))
            return bise_fail_nomem(err);
    }
    return bise_vocab_set(t, id, text, len, type, 0, err);
}

/* Fill the pieces: vocab first, then added tokens over it. An added token
 * may stand in the vocabulary too, then its kind is that of the list. */
static bise_status read_pieces(bise_tokenizer *t, const bise_json *vocab,
                               const bise_json *added, bise_error *err)
{
    bise_str raw = { 0 };
    bise_status s = BISE_OK;
    for (void *it = bise_json_iter(vocab, NULL); it && s == BISE_OK;
         it = bise_json_iter(vocab, it)) {
        int64_t id = 0;
        if (bise_json_integer(bise_json_iter_value(it), &id))
            s = set_entry(t, (int32_t)id, bise_json_iter_key(it), &raw, err);
    }
    for (size_t i = 0; i < bise_json_size(added) && s == BISE_OK; i++) {
        const bise_json *a = bise_json_at(added, i);
        int64_t id = 0;
        size_t len = 0;
        const char *text = bise_json_string(bise_json_get(a, "content"), &len);
        const bool special = bise_json_bool(bise_json_get(a, "special"), false);
        if (bise_json_integer(bise_json_get(a, "id"), &id) && text)
            s = bise_vocab_set(t, (int32_t)id, text, len,
                               special ? BISE_PIECE_CONTROL : BISE_PIECE_USER,
                               0, err);
    }
    bise_str_fini(&raw);
    return s;
}

/* Id of one side of a merge as the file spells it, -1 when it has none.
 * Merges spell their sides as the vocabulary does. */
static int32_t side_id(const bise_tokenizer *t, const char *text, size_t len,
                       bise_str *raw)
{
    if (t->kind != BISE_TOKENIZER_SPM) {
        bise_str_clear(raw);
        if (!bise_bytelevel_read(raw, text, len))
            return -1;
        text = bise_str_get(raw);
        len = raw->len;
    }
    return bise_vocab_find(t, text, len, bise_hash_bytes(text, len));
}

/* One merge: "left right" or ["left", "right"]. Older files have one text
 * with a blank between, newer ones a pair, because a side may then hold a
 * blank. */
static bise_status read_merge(const bise_tokenizer *t, const bise_json *item,
                              size_t i, int32_t pair[2], bise_str *raw,
                              bise_error *err)
{
    size_t ll = 0, rl = 0;
    const char *l = bise_json_string(item, &ll), *r = NULL;
    if (l) {
        const char *blank = memchr(l, ' ', ll);
        if (blank) {
            r = blank + 1;
            rl = ll - (size_t)(r - l);
            ll = (size_t)(blank - l);
        }
    } else {
        l = bise_json_string(bise_json_at(item, 0), &ll);
        r = bise_json_string(bise_json_at(item, 1), &rl);
    }
    if (!l || !r)
        return bise_fail(err, BISE_EFORMAT,
                         "field 'model.merges[%zu]' is not a pair", i);
    pair[0] = side_id(t, l, ll, raw);
    pair[1] = side_id(t, r, rl, raw);
    if (pair[0] < 0 || pair[1] < 0)
        return bise_fail(err, BISE_EFORMAT, "field 'model.merges[%zu]' names "
                         "a token that is not in the vocabulary: '%.30s'", i,
                         pair[0] < 0 ? l : r);
    return BISE_OK;
}

/* The list of merges, best first, into the arena of the tokenizer. */
static bise_status read_merges(bise_tokenizer *t, const bise_json *merges,
                               bise_error *err)
{
    const size_t n = bise_json_size(merges);
    if (bise_json_typeof(merges) != BISE_JSON_ARRAY)
        return bise_fail(err, BISE_EFORMAT,
                         "field 'model.merges' is missing or not a list");
    int32_t (*list)[2] = bise_arena_alloc(&t->arena, (n + 1) * sizeof *list);
    bise_str raw = { 0 };
    bise_status s = list ? BISE_OK : bise_fail_nomem(err);
    for (size_t i = 0; i < n && s == BISE_OK; i++)
        s = read_merge(t, bise_json_at(merges, i), i, list[i], &raw, err);
    bise_str_fini(&raw);
    if (s != BISE_OK)
        return s;
    return bise_vocab_merges(t, list, n, err);
}

/* The pattern of the one Split among the pre-tokenizers, and that the rest
 * is a plain ByteLevel. Mistral's files have exactly this: a Split and a
 * ByteLevel that neither splits again nor adds a blank. */
static bise_status read_split(bise_tokenizer *t, const bise_json *root,
                              bise_error *err)
{
    const bise_json *pre = bise_json_get(root, "pre_tokenizer");
    const bise_json *norm = bise_json_get(root, "normalizer");
    const bise_json *list = is_type(pre, "Sequence")
        ? bise_json_get(pre, "pretokenizers") : NULL;
    const char *pattern = NULL;
    size_t len = 0;
    if (!bise_json_is_null(norm) &&
        (!is_type(norm, "Sequence") ||
         bise_json_size(bise_json_get(norm, "normalizers"))))
        return bise_fail(err, BISE_EUNSUPPORTED, "field 'normalizer' is "
                         "'%.40s', must be null with a byte-level vocabulary",
                         type_of(norm));
    for (size_t i = 0; i < bise_json_size(list); i++) {
        const bise_json *p = bise_json_at(list, i);
        if (is_type(p, "Split") && !pattern) {
            const char *how = bise_json_string(bise_json_get(p, "behavior"),
                                               NULL);
            pattern = bise_json_string(
                bise_json_get(bise_json_get(p, "pattern"), "Regex"), &len);
            if (!pattern || !how || strcmp(how, "Isolated") != 0 ||
                bise_json_bool(bise_json_get(p, "invert"), false))
                return bise_fail(err, BISE_EUNSUPPORTED, "field "
                                 "'pre_tokenizer': only an isolated split by "
                                 "a regular expression is known");
        } else if (!is_type(p, "ByteLevel") ||
                   bise_json_bool(bise_json_get(p, "add_prefix_space"),
                                  false) ||
                   bise_json_bool(bise_json_get(p, "use_regex"), true)) {
            return bise_fail(err, BISE_EUNSUPPORTED, "field 'pre_tokenizer' "
                             "has an unknown step '%.40s'", type_of(p));
        }
    }
    if (!pattern)
        return bise_fail(err, BISE_EUNSUPPORTED, "field 'pre_tokenizer' is "
                         "'%.40s', must be a Sequence of Split and ByteLevel",
                         type_of(pre));
    t->pattern = bise_arena_strndup(&t->arena, pattern, len);
    if (!t->pattern)
        return bise_fail_nomem(err);
    return bise_vocab_pattern_status(
        bise_split_new(&t->split, pattern, len, true, false, err),
        "pre_tokenizer.pattern.Regex", err);
}

/* A step of a SentencePiece-style normalizer: Prepend or Replace. Together
 * they do what SentencePiece does: a blank in front of the text, and U+2581
 * for every space. */
static bise_status read_normal(bise_tokenizer *t, const bise_json *step,
                               bool *replaces, bise_error *err)
{
    const char *blank = "\xe2\x96\x81";
    const char *text = bise_json_string(bise_json_get(step, "prepend"), NULL);
    if (is_type(step, "Prepend") && text && strcmp(text, blank) == 0) {
        t->prefix = BISE_PREFIX_ALWAYS;
        return BISE_OK;
    }
    text = bise_json_string(bise_json_get(bise_json_get(step, "pattern"),
                                          "String"), NULL);
    const char *to = bise_json_string(bise_json_get(step, "content"), NULL);
    if (is_type(step, "Replace") && text && to && strcmp(text, " ") == 0 &&
        strcmp(to, blank) == 0) {
        *replaces = true;
        return BISE_OK;
    }
    return bise_fail(err, BISE_EUNSUPPORTED,
                     "field 'normalizer' has an unknown step '%.40s'",
                     type_of(step));
}

/* How blanks are treated: a normalizer, or a Metaspace pre-tokenizer.
 * Metaspace replaces and prepends in one step; files of the legacy form use
 * two normalizers and no pre-tokenizer. */
static bise_status read_blanks(bise_tokenizer *t, const bise_json *root,
                               bise_error *err)
{
    const bise_json *norm = bise_json_get(root, "normalizer");
    const bise_json *pre = bise_json_get(root, "pre_tokenizer");
    const bise_json *list = bise_json_get(norm, "normalizers");
    bool replaces = false;
    bise_status s = BISE_OK;
    if (is_type(norm, "Sequence")) {
        for (size_t i = 0; i < bise_json_size(list) && s == BISE_OK; i++)
            s = read_normal(t, bise_json_at(list, i), &replaces, err);
    } else if (!bise_json_is_null(norm)) {
        s = read_normal(t, norm, &replaces, err);
    }
    if (s != BISE_OK)
        return s;
    if (is_type(pre, "Metaspace") && !replaces) {
        const char *scheme = bise_json_string(
            bise_json_get(pre, "prepend_scheme"), NULL);
        if (bise_json_bool(bise_json_get(pre, "split"), true))
            return bise_fail(err, BISE_EUNSUPPORTED, "field "
                             "'pre_tokenizer.split' is true, only false is "
                             "known");
        t->prefix = scheme && strcmp(scheme, "never") == 0
            ? BISE_PREFIX_NONE : BISE_PREFIX_UNLESS_BLANK;
    } else if (!bise_json_is_null(pre) || !replaces) {
        return bise_fail(err, BISE_EUNSUPPORTED, "field 'pre_tokenizer' is "
                         "'%.40s', must be Metaspace or null with a "
                         "normalizer", type_of(pre));
    }
    return BISE_OK;
}

/* What would change ids and is not known here. Silently ignoring one of
 * these would give other ids than transformers does. */
static bise_status check_model(const bise_json *model, bise_error *err)
{
    static const char *const unknown[] = {
        "dropout", "continuing_subword_prefix", "end_of_word_suffix"
    };
    if (!is_type(model, "BPE"))
        return bise_fail(err, BISE_EUNSUPPORTED,
                         "field 'model.type' is '%.40s', must be BPE",
                         type_of(model));
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        const bise_json *v = bise_json_get(model, unknown[i]);
        const char *s = bise_json_string(v, NULL);
        if (!bise_json_is_null(v) && !(s && !*s) &&
            bise_json_number(v, 1) != 0)
            return bise_fail(err, BISE_EUNSUPPORTED, "field 'model.%s' is not "
                             "supported", unknown[i]);
    }
    if (bise_json_typeof(bise_json_get(model, "vocab")) != BISE_JSON_OBJECT)
        return bise_fail(err, BISE_EFORMAT,
                         "field 'model.vocab' is missing or not an object");
    return BISE_OK;
}

/* The unknown token is not special in every file, but never text. Without
 * this the text `<unk>` would be merged from its characters and give the
 * unknown id. */
static void mark_unknown(bise_tokenizer *t, const bise_json *model)
{
    size_t len;
    const char *unk = bise_json_string(bise_json_get(model, "unk_token"), &len);
    for (int32_t id = 0; unk && id < t->n; id++) {
        bise_piece *p = &t->pieces[id];
        if (p->type && p->len == len && memcmp(p->text, unk, len) == 0) {
            p->type = BISE_PIECE_UNKNOWN;
            t->unk = id;
        }
    }
}

/* Both forms are model type BPE; byte_fallback tells the SentencePiece one.
 * Blanks and split are read before the merges, because the kind of the
 * vocabulary decides how texts are spelt. */
bise_status bise_hf_parse(bise_tokenizer **out, const char *name,
                          const bise_json *root, bise_error *err)
{
    const bise_json *model = bise_json_get(root, "model");
    const bise_json *vocab = bise_json_get(model, "vocab");
    const bise_json *added = bise_json_get(root, "added_tokens");
    const bool spm = bise_json_bool(bise_json_get(model, "byte_fallback"),
                                    false);
    bise_tokenizer *t = NULL;
    int64_t n;
    bise_status s = check_model(model, err);
    if (s == BISE_OK)
        s = count_ids(vocab, added, &n, err);
    if (s == BISE_OK)
        s = bise_vocab_new(&t, spm ? BISE_TOKENIZER_SPM : BISE_TOKENIZER_BPE,
                           n, name, err);
    if (s != BISE_OK)
        return s;
    t->byte_fallback = spm;
    t->fuse_unknown = bise_json_bool(bise_json_get(model, "fuse_unk"), false);
    t->ignore_merges = bise_json_bool(bise_json_get(model, "ignore_merges"),
                                      false);
    s = read_pieces(t, vocab, added, err);
    mark_unknown(t, model);
    if (s == BISE_OK)
        s = spm ? read_blanks(t, root, err)
                : read_split(t, root, err);
    if (s == BISE_OK)
        s = bise_vocab_index(t, false, err);
    if (s == BISE_OK)
        s = read_merges(t, bise_json_get(model, "merges"), err);
    if (s == BISE_OK)
        s = bise_vocab_finish(t, err);
    if (s != BISE_OK) {
        bise_tokenizer_free(t);
        return s;
    }
    *out = t;
    return BISE_OK;
}
