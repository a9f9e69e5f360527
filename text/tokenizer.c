/* tokenizer.c - the face of all tokenizers: recognizing a file, encoding with
 * or without special tokens, decoding, and what is known about ids.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/tokenizer.h"

#include <string.h>

#include "text/encode.h"
#include "text/vocab.h"

/* Returns 0, or -1 when out of memory; then the list is as before. */
int bise_ids_push(bise_ids *ids, int32_t id)
{
    int32_t *to = bise_ids_room(ids, 1);
    if (!to)
        return -1;
    *to = id;
    ids->n++;
    return 0;
}

/* Release the list; zeroed it may be used again. */
void bise_ids_fini(bise_ids *ids)
{
    bise_free(ids->v);
    *ids = (bise_ids){ 0 };
}

/* Length of the part of a broken sequence at s that is one mistake: the lead
 * byte and the continuation bytes that could still follow it (the "maximal
 * subpart" of Unicode 3.9, which Python replaces by one U+FFFD too). The
 * table of second bytes is that of the Unicode standard (table 3-7): it
 * rules out overlong forms, surrogates and values beyond U+10FFFF at the
 * second byte already. */
static size_t broken_length(const char *text, size_t n)
{
    const uint8_t *s = (const uint8_t *)text;
    const int want = s[0] >= 0xf0 ? 3 : s[0] >= 0xe0 ? 2 : 1;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < 2)
        return 1;
    const uint8_t low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high)
        return 1;
    size_t k = 2;
    while (k < n && (int)k <= want && (s[k] & 0xc0) == 0x80)
        k++;
    return k;
}

/* ASCII passes byte by byte without a call. */
size_t bise_utf8_valid(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if ((uint8_t)text[i] < 0x80) {
            i++;
            continue;
        }
        const int len = bise_utf8_next(text + i, n - i, NULL);
        if (!len)
            break;
        i += (size_t)len;
    }
    return i;
}

/* Append text with one U+FFFD for every mistake, as Python's
 * errors="replace" does; judges read broken files in that way, and so the
 * ids are equal. */
void bise_utf8_repair(bise_str *out, const char *text, size_t n)
{
    while (n) {
        const size_t good = bise_utf8_valid(text, n);
        bise_str_add(out, text, good);
        text += good;
        n -= good;
        if (!n)
            break;
        const size_t bad = broken_length(text, n);
        bise_str_puts(out, "\xef\xbf\xbd");
        text += bad;
        n -= bad;
    }
}

/* Told by content: JSON with `config` is tekken.json, with `model`
 * tokenizer.json; all else must be a SentencePiece model. The error carries
 * the name. */
bise_status bise_tokenizer_parse(bise_tokenizer **out, const char *name,
                                 const void *data, size_t n, bise_error *err)
{
    const char *text = data;
    size_t i = 0;
    while (i < n && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' ||
                     text[i] == '\t'))
        i++;
    bise_status s;
    if (i < n && text[i] == '{') {
        bise_json *root = NULL;
        s = bise_json_parse(&root, text, n, err);
        if (s == BISE_OK && bise_json_get(root, "config"))
            s = bise_tekken_parse(out, name, root, err);
        else if (s == BISE_OK && bise_json_get(root, "model"))
            s = bise_hf_parse(out, name, root, err);
        else if (s == BISE_OK)
            s = bise_fail(err, BISE_EFORMAT, "neither field 'config' "
                          "(tekken.json) nor 'model' (tokenizer.json)");
        bise_json_free(root);
    } else {
        s = bise_spm_parse(out, name, data, n, err);
    }
    return s == BISE_OK ? s : bise_error_in(err, name, NULL);
}

/* Longest special token at s, -1 when there is none. First bytes are looked
 * up in a table, so ordinary text costs one test for each byte. */
static int32_t special_at(const bise_tokenizer *t, const char *s, size_t n,
                          size_t *len)
{
    if (!t->first_special[(uint8_t)s[0]])
        return -1;
    for (size_t k = t->special_max < n ? t->special_max : n; k; k--) {
        const uint32_t id = bise_strmap_find(&t->specials, s, k);
        if (id != BISE_STRMAP_NONE) {
            *len = k;
            return (int32_t)id;
        }
    }
    return -1;
}

/* Byte-level text: user-defined tokens are cut out first, longest first.
 * Files of Mistral have none; files that others extended have some. */
static bise_status encode_bytelevel(const bise_tokenizer *t, const char *text,
                                    size_t n, bise_ids *out, bise_error *err)
{
    size_t done = 0, len = 1;
    bise_status s = BISE_OK;
    for (size_t i = 0; t->user_max && i < n && s == BISE_OK; i += len) {
        const int32_t id = bise_vocab_user(t, text + i, n - i, &len);
        if (id < 0) {
            len = 1;
            continue;
        }
        s = bise_bpe_encode(t, text + done, i - done, out, err);
        if (s == BISE_OK && bise_ids_push(out, id) != 0)
            s = bise_fail_nomem(err);
        done = i + len;
    }
    if (s != BISE_OK)
        return s;
    return bise_bpe_encode(t, text + done, n - done, out, err);
}

/* Text without special tokens. */
static bise_status encode_plain(const bise_tokenizer *t, const char *text,
                                size_t n, bool prefix, bise_ids *out,
                                bise_error *err)
{
    if (!n)
        return BISE_OK;
    if (t->kind == BISE_TOKENIZER_SPM)
        return bise_spm_encode(t, text, n, prefix, out, err);
    return encode_bytelevel(t, text, n, out, err);
}

/* Text with special tokens written out: each part between them on its own.
 * Parts keep their own blank in front, as the chat formats have it. */
static bise_status encode_special(const bise_tokenizer *t, const char *text,
                                  size_t n, bool prefix, bise_ids *out,
                                  bise_error *err)
{
    size_t done = 0, len = 1;
    bise_status s = BISE_OK;
    for (size_t i = 0; i < n && s == BISE_OK; i += len) {
        const int32_t id = special_at(t, text + i, n - i, &len);
        if (id < 0) {
            len = 1;
            continue;
        }
        s = encode_plain(t, text + done, i - done, prefix, out, err);
        if (s == BISE_OK && bise_ids_push(out, id) != 0)
            s = bise_fail_nomem(err);
        done = i + len;
    }
    if (s != BISE_OK)
        return s;
    return encode_plain(t, text + done, n - done, prefix, out, err);
}

/* Broken UTF-8 is repaired in a copy first, so all encoders below may rely
 * on valid text. On failure out is as it was. */
bise_status bise_tokenizer_encode(const bise_tokenizer *t, const char *text,
                                  size_t n, unsigned flags, bise_ids *out,
                                  bise_error *err)
{
    const size_t start = out->n;
    const bool prefix = !(flags & BISE_TOK_PLAIN_SPM);
    bise_str fixed = { 0 };
    bise_status s = BISE_OK;
    if (bise_utf8_valid(text, n) < n) {
        bise_utf8_repair(&fixed, text, n);
        if (!bise_str_ok(&fixed))
            s = bise_fail_nomem(err);
        text = fixed.data;
        n = fixed.len;
    }
    if (s == BISE_OK && flags & BISE_TOK_BOS && t->bos >= 0 &&
        bise_ids_push(out, t->bos) != 0)
        s = bise_fail_nomem(err);
    if (s == BISE_OK)
        s = (flags & BISE_TOK_PARSE_SPECIAL ? encode_special : encode_plain)(
            t, text, n, prefix, out, err);
    if (s == BISE_OK && flags & BISE_TOK_EOS && t->eos >= 0 &&
        bise_ids_push(out, t->eos) != 0)
        s = bise_fail_nomem(err);
    bise_str_fini(&fixed);
    if (s != BISE_OK)
        out->n = start;
    return s;
}

/* Bytes come out as they are: a character may be spread over several tokens,
 * and only the caller knows whether more will follow. */
bise_status bise_tokenizer_decode(const bise_tokenizer *t, const int32_t *ids,
                                  size_t n, bool show_special, bise_str *out,
                                  bise_error *err)
{
    /* Each text was encoded with its own blank in front: drop it again at the
     * start and behind every special token. */
    bool first = t->prefix != BISE_PREFIX_NONE;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->n)
            return bise_fail(err, BISE_EINVAL,
                             "id %d at position %zu, 0 to %d allowed", ids[i],
                             i, t->n - 1);
        const bise_piece *p = &t->pieces[ids[i]];
        if (p->type == BISE_PIECE_CONTROL || p->type == BISE_PIECE_UNKNOWN) {
            if (show_special)
                bise_str_add(out, p->text, p->len);
            first = t->prefix != BISE_PREFIX_NONE;
            continue;
        }
        const bool drop = first && p->shown_len && p->shown[0] == ' ' &&
                          p->type != BISE_PIECE_BYTE;
        bise_str_add(out, p->shown + drop, p->shown_len - drop);
        first = false;
    }
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}

/* The text of an id that is no id is empty rather than an error: callers
 * stream what a sampler gives them. */
const char *bise_tokenizer_piece(const bise_tokenizer *t, int32_t id,
                                 size_t *n)
{
    *n = 0;
    if (id < 0 || id >= t->n)
        return "";
    *n = t->pieces[id].shown_len;
    return t->pieces[id].shown;
}

/* Ids differ between versions and models, so they are always looked up by
 * name. */
int32_t bise_tokenizer_special(const bise_tokenizer *t, const char *name)
{
    const uint32_t id = bise_strmap_find(&t->specials, name, strlen(name));
    return id == BISE_STRMAP_NONE ? -1 : (int32_t)id;
}

/* The name of a special token, NULL for any other id. */
const char *bise_tokenizer_special_name(const bise_tokenizer *t, int32_t id)
{
    if (id < 0 || id >= t->n)
        return NULL;
    const bise_piece *p = &t->pieces[id];
    return p->type == BISE_PIECE_CONTROL || p->type == BISE_PIECE_UNKNOWN
        ? p->text : NULL;
}

/* Which of the three families of files it came from. */
bise_tokenizer_kind bise_tokenizer_kind_of(const bise_tokenizer *t)
{
    return t->kind;
}

/* Mistral's tokenizer version; 0 when the file does not tell. */
int bise_tokenizer_version(const bise_tokenizer *t)
{
    return t->version;
}

/* How many ids there are, unused ones included. */
int32_t bise_tokenizer_vocab(const bise_tokenizer *t)
{
    return t->n;
}

/* The token that starts every sample, -1 when there is none. */
int32_t bise_tokenizer_bos(const bise_tokenizer *t)
{
    return t->bos;
}

/* The token that ends every answer, -1 when there is none. */
int32_t bise_tokenizer_eos(const bise_tokenizer *t)
{
    return t->eos;
}

/* The unknown token, -1 when there is none; byte-level kinds never give it. */
int32_t bise_tokenizer_unk(const bise_tokenizer *t)
{
    return t->unk;
}

/* The padding token, -1 when there is none (SentencePiece files). */
int32_t bise_tokenizer_pad(const bise_tokenizer *t)
{
    return t->pad;
}

/* An id without a row would be found only when a text happens to need it. */
bise_status bise_tokenizer_fits(const bise_tokenizer *t, int32_t rows,
                                bise_error *err)
{
    if (t->n <= rows)
        return BISE_OK;
    return bise_fail(err, BISE_EFORMAT, "the tokenizer in %s has %d ids, the "
                     "embedding %d rows ('vocab_size')", t->source, (int)t->n,
                     (int)rows)
               ? bise_error_hint(err, "the tokenizer may be of another model; "
                                 "bise convert --vocab-size tokenizer pads "
                                 "the embedding with zeros") : BISE_OK;
}

/* What v15 may set for a conversation, or NULL. */
const bise_json *bise_tokenizer_rules(const bise_tokenizer *t)
{
    return t->rules;
}

/* The base name of the file, for messages. */
const char *bise_tokenizer_source(const bise_tokenizer *t)
{
    return t->source;
}

/* Two tokenizers with one digest give the same ids for all texts. */
const char *bise_tokenizer_digest(const bise_tokenizer *t)
{
    return t->digest;
}
