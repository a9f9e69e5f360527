/* tokenizer_out.c - tokenizers as the files that other tools read: Hugging
 * Face's tokenizer.json, Mistral's tekken.json, a SentencePiece model. For
 * models that come without them, above all out of a GGUF, whose vocabulary
 * holds everything the ids depend on (mistral3.md 4 and 6.4).
 * The text is written piece by piece: a tree of 130,000 tokens and their
 * merges would take ten times its size.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "formats/crypto.h"
#include "text/chat.h"
#include "text/spm_model.pb-c.h"
#include "text/vocab.h"

/* ---- what all three need ---- */

/* Ids up to the last that is not an unused one: rows that only pad an
 * embedding are no tokens. */
static int32_t used_ids(const bise_tokenizer *t)
{
    int32_t n = t->n;
    while (n > 0 && t->pieces[n - 1].type == BISE_PIECE_UNUSED)
        n--;
    return n;
}

/* Recognized in texts as a whole, and skipped in what is shown. */
static bool is_special(const bise_piece *p)
{
    return p->type == BISE_PIECE_CONTROL || p->type == BISE_PIECE_UNKNOWN;
}

/* A JSON string. Everything from U+0020 up stands for itself. */
static void put_quoted(bise_str *out, const char *s, size_t n)
{
    bise_str_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            bise_str_printf(out, "\\%c", c);
        else if (c < 0x20)
            bise_str_printf(out, "\\u%04x", c);
        else
            bise_str_putc(out, (char)c);
    }
    bise_str_putc(out, '"');
}

/* A piece as tokenizer.json spells it: bytes in the GPT-2 alphabet. */
static void put_spelling(bise_str *out, const bise_tokenizer *t,
                         const bise_piece *p)
{
    if (t->kind != BISE_TOKENIZER_SPM && p->type == BISE_PIECE_NORMAL)
        bise_bytelevel_spell(out, p->text, p->len);
    else
        bise_str_add(out, p->text, p->len);
}

/* Append `, ` in front of every element but the first. */
static void put_comma(bise_str *out, uint64_t *n)
{
    bise_str_puts(out, (*n)++ ? ",\n" : "\n");
}

/* ---- tokenizer.json ---- */

static void put_added(bise_str *out, const bise_tokenizer *t, int32_t n)
{
    uint64_t count = 0;
    bise_str_puts(out, "  \"added_tokens\": [");
    for (int32_t id = 0; id < n; id++) {
        const bise_piece *p = &t->pieces[id];
        if (!is_special(p) && p->type != BISE_PIECE_USER)
            continue;
        put_comma(out, &count);
        bise_str_printf(out, "    {\"id\": %d, \"content\": ", (int)id);
        put_quoted(out, p->text, p->len);
        bise_str_printf(out, ", \"single_word\": false, \"lstrip\": false, "
                        "\"rstrip\": false, \"normalized\": false, "
                        "\"special\": %s}", is_special(p) ? "true" : "false");
    }
    bise_str_puts(out, "\n  ],\n");
}

/* Blanks: how texts begin, and how U+2581 becomes a space again. The legacy
 * pair of normalizers is SentencePiece's own behaviour; Metaspace "first" is
 * what newer files of Mistral have. */
static bise_status put_blanks(bise_str *out, const bise_tokenizer *t,
                              bise_error *err)
{
    static const char replace[] = "{\"type\": \"Replace\", \"pattern\": "
        "{\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}";
    if (t->trim_blanks)
        return bise_fail(err, BISE_EUNSUPPORTED, "it removes extra blanks, "
                         "which tokenizer.json cannot say");
    if (t->prefix == BISE_PREFIX_UNLESS_BLANK) {
        bise_str_puts(out, "  \"normalizer\": null,\n"
                      "  \"pre_tokenizer\": {\"type\": \"Metaspace\", "
                      "\"replacement\": \"\xe2\x96\x81\", "
                      "\"prepend_scheme\": \"first\", \"split\": false},\n");
    } else {
        bise_str_printf(out, "  \"normalizer\": {\"type\": \"Sequence\", "
                        "\"normalizers\": [%s%s]},\n"
                        "  \"pre_tokenizer\": null,\n",
                        t->prefix == BISE_PREFIX_ALWAYS
                            ? "{\"type\": \"Prepend\", \"prepend\": "
                              "\"\xe2\x96\x81\"}, " : "", replace);
    }
    bise_str_printf(out, "  \"decoder\": {\"type\": \"Sequence\", "
                    "\"decoders\": [{\"type\": \"Replace\", \"pattern\": "
                    "{\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, "
                    "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}%s]},\n",
                    t->prefix == BISE_PREFIX_NONE ? "" :
                    ", {\"type\": \"Strip\", \"content\": \" \", "
                    "\"start\": 1, \"stop\": 0}");
    return BISE_OK;
}

/* Split by the pattern, then bytes to characters. */
static void put_split(bise_str *out, const bise_tokenizer *t)
{
    bise_str_puts(out, "  \"normalizer\": null,\n  \"pre_tokenizer\": "
                  "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": "
                  "\"Split\", \"pattern\": {\"Regex\": ");
    put_quoted(out, t->pattern, strlen(t->pattern));
    bise_str_puts(out, "}, \"behavior\": \"Isolated\", \"invert\": false}, "
                  "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                  "\"trim_offsets\": true, \"use_regex\": false}]},\n"
                  "  \"decoder\": {\"type\": \"ByteLevel\", "
                  "\"add_prefix_space\": true, \"trim_offsets\": true, "
                  "\"use_regex\": true},\n");
}

/* <s> in front of every text, as all Mistral models have it. */
static void put_bos(bise_str *out, const bise_tokenizer *t)
{
    if (t->bos < 0) {
        bise_str_puts(out, "  \"post_processor\": null,\n");
        return;
    }
    bise_str name = { 0 };
    put_quoted(&name, t->pieces[t->bos].text, t->pieces[t->bos].len);
    const char *bos = bise_str_get(&name);
    bise_str_puts(out, "  \"post_processor\": {\"type\": "
                  "\"TemplateProcessing\", ");
    for (int pair = 0; pair < 2; pair++) {
        bise_str_printf(out, "\"%s\": [", pair ? "pair" : "single");
        for (int k = 0; k <= pair; k++)
            bise_str_printf(out, "%s{\"SpecialToken\": {\"id\": %s, "
                            "\"type_id\": %d}}, {\"Sequence\": {\"id\": "
                            "\"%c\", \"type_id\": %d}}", k ? ", " : "", bos, k,
                            'A' + k, k);
        bise_str_puts(out, "], ");
    }
    bise_str_printf(out, "\"special_tokens\": {%s: {\"id\": %s, \"ids\": [%d], "
                    "\"tokens\": [%s]}}},\n", bos, bos, (int)t->bos, bos);
    out->failed |= !bise_str_ok(&name);
    bise_str_fini(&name);
}

/* Looked up by its text when one is encoded. */
static bool is_found(const bise_piece *p)
{
    return p->type == BISE_PIECE_NORMAL || p->type == BISE_PIECE_USER;
}

/* The first token that a file of names spells like token id: id itself, most
 * often. raw is scratch, not needed for SentencePiece kinds. */
static int32_t first_spelt(const bise_tokenizer *t, int32_t id, bise_str *raw)
{
    const bise_piece *p = &t->pieces[id];
    int32_t other = -1;
    if (is_found(p) || t->kind == BISE_TOKENIZER_SPM) {
        other = bise_vocab_find(t, p->text, p->len, p->hash);
    } else {
        bise_str_clear(raw);
        if (bise_bytelevel_read(raw, p->text, p->len))
            other = bise_vocab_find(t, bise_str_get(raw), raw->len,
                                    bise_hash_bytes(bise_str_get(raw),
                                                    raw->len));
    }
    if (other < 0)
        other = (int32_t)bise_strmap_find(&t->specials, p->text, p->len);
    return other >= 0 || p->type != BISE_PIECE_BYTE ? other
           : t->byte_id[(uint8_t)p->shown[0]];
}

static bise_status spelt_twice(const bise_tokenizer *t, int32_t id,
                               int32_t other, bise_error *err)
{
    return bise_fail(err, BISE_EUNSUPPORTED, "token '%s' (id %d) is spelt like "
                     "token %d", t->pieces[id].text, (int)id, (int)other);
}

/* Token to id, every spelling once: of two tokens found in texts the first one
 * counts, as in the encoder here; any other two cannot be told apart. */
static bise_status put_vocab(bise_str *out, const bise_tokenizer *t, int32_t n,
                             bise_error *err)
{
    bise_str buf = { 0 };
    uint64_t count = 0;
    bise_status s = BISE_OK;
    bise_str_puts(out, "    \"vocab\": {");
    for (int32_t id = 0; id < n && s == BISE_OK; id++) {
        const bise_piece *p = &t->pieces[id];
        if (p->type == BISE_PIECE_UNUSED)
            continue;
        const int32_t other = first_spelt(t, id, &buf);
        if (other != id && !(is_found(p) && is_found(&t->pieces[other])))
            s = spelt_twice(t, id, other, err);
        if (other != id)
            continue;
        bise_str_clear(&buf);
        put_spelling(&buf, t, p);
        put_comma(out, &count);
        bise_str_puts(out, "      ");
        put_quoted(out, bise_str_get(&buf), buf.len);
        bise_str_printf(out, ": %d", (int)id);
    }
    bise_str_puts(out, "\n    },\n");
    out->failed |= !bise_str_ok(&buf);
    bise_str_fini(&buf);
    return s;
}

/* Where the merges go. */
typedef struct merge_text {
    bise_str *out, buf;
    const bise_tokenizer *t;
    uint64_t n;
} merge_text;

/* "left right": neither holds a space. */
static void put_merge(void *ctx, int32_t left, int32_t right)
{
    merge_text *m = ctx;
    bise_str_clear(&m->buf);
    put_spelling(&m->buf, m->t, &m->t->pieces[left]);
    bise_str_putc(&m->buf, ' ');
    put_spelling(&m->buf, m->t, &m->t->pieces[right]);
    put_comma(m->out, &m->n);
    bise_str_puts(m->out, "      ");
    put_quoted(m->out, bise_str_get(&m->buf), m->buf.len);
}

static bise_status put_model(bise_str *out, const bise_tokenizer *t, int32_t n,
                             bise_error *err)
{
    merge_text m = { .out = out, .t = t };
    const bool fallback = t->byte_fallback;
    bise_str_puts(out, "  \"model\": {\n    \"type\": \"BPE\", \"dropout\": "
                  "null, \"unk_token\": ");
    if (t->kind == BISE_TOKENIZER_SPM && t->unk >= 0)
        put_quoted(out, t->pieces[t->unk].text, t->pieces[t->unk].len);
    else
        bise_str_puts(out, "null");
    bise_str_printf(out, ", \"continuing_subword_prefix\": null,\n"
                    "    \"end_of_word_suffix\": null, \"fuse_unk\": %s, "
                    "\"byte_fallback\": %s, \"ignore_merges\": %s,\n",
                    t->fuse_unknown ? "true" : "false",
                    fallback ? "true" : "false",
                    t->ignore_merges ? "true" : "false");
    bise_status s = put_vocab(out, t, n, err);
    bise_str_puts(out, "    \"merges\": [");
    if (s == BISE_OK)
        s = bise_vocab_each_merge(t, put_merge, &m, err);
    bise_str_puts(out, "\n    ]\n  }\n}\n");
    out->failed |= !bise_str_ok(&m.buf);
    bise_str_fini(&m.buf);
    return s;
}

/* The fields in the order of the tokenizers library. */
bise_status bise_tokenizer_to_hf(const bise_tokenizer *t, bise_str *out,
                                 bise_error *err)
{
    const int32_t n = used_ids(t);
    if (!n)
        return bise_fail(err, BISE_EUNSUPPORTED, "it has no token in use");
    bise_str_puts(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n"
                  "  \"padding\": null,\n");
    bise_status s = BISE_OK;
    put_added(out, t, n);
    if (t->kind == BISE_TOKENIZER_SPM)
        s = put_blanks(out, t, err);
    else
        put_split(out, t);
    put_bos(out, t);
    if (s == BISE_OK)
        s = put_model(out, t, n, err);
    return s == BISE_OK && !bise_str_ok(out) ? bise_fail_nomem(err) : s;
}

/* ---- tekken.json ---- */

/* A list of merges beside the one that tekken.json implies: every split of a
 * token into two, in the order of their results. */
typedef struct order {
    const bise_merges *merges;
    int32_t id;             /* result of the last merge */
    int64_t last, before;   /* greatest place in the list: up to id, below it */
    int32_t left, right;    /* the first fault, -1 when there is none */
    bool absent;
} order;

/* Splits of one token may stand in any order: all give the same. */
static void follow(void *ctx, int32_t left, int32_t right)
{
    order *o = ctx;
    const bise_merge_slot *m = bise_merges_find(o->merges, left, right);
    if (o->left >= 0)
        return;
    if (m && m->id != o->id)
        o->before = o->last;
    if (!m || m->rank <= o->before) {
        o->left = left;
        o->right = right;
        o->absent = !m;
        return;
    }
    o->id = m->id;
    o->last = m->rank > o->last ? m->rank : o->last;
}

/* Do its bytes merge to the token? That is how a text without ignore_merges
 * gets it; tekken.json gives it to every text that is one. ids has room for
 * its bytes. */
static bise_status merges_to_one(bool *one, const bise_tokenizer *t,
                                 int32_t id, int32_t *ids, bise_error *err)
{
    const bise_piece *p = &t->pieces[id];
    size_t n = p->len;
    for (uint32_t i = 0; i < p->len; i++)
        ids[i] = t->byte_id[(uint8_t)p->text[i]];
    const bise_status s = bise_merge(&t->merges, ids, &n, err);
    *one = n == 1 && ids[0] == id;
    return s;
}

static bise_status check_reached(const bise_tokenizer *t, int32_t first,
                                 int32_t n, bise_error *err)
{
    bool one = true;
    bise_status s = BISE_OK;
    int32_t *ids = bise_alloc_array(UINT16_MAX, sizeof *ids);
    if (!ids)
        return bise_fail_nomem(err);
    for (int32_t id = first; id < n && one && s == BISE_OK; id++) {
        s = merges_to_one(&one, t, id, ids, err);
        if (s == BISE_OK && !one)
            s = bise_fail(err, BISE_EUNSUPPORTED, "token %d is not what its "
                          "bytes merge to, and ignore_merges is false",
                          (int)id);
    }
    bise_free(ids);
    return s;
}

/* In tekken.json the ranks are all there is of merges: a list must say the
 * same. first is the first token behind the special ones. */
static bise_status check_merges(const bise_tokenizer *t, int32_t first,
                                int32_t n, bise_error *err)
{
    order o = { .merges = &t->merges, .id = -1, .last = -1, .before = -1,
                .left = -1 };
    if (!t->merge_list)
        return BISE_OK;
    const bise_status s = bise_vocab_each_split(t, follow, &o, err);
    if (s != BISE_OK)
        return s;
    if (o.left >= 0 && o.absent)
        return bise_fail(err, BISE_EUNSUPPORTED, "tekken.json would also merge "
                         "the tokens %d and %d", (int)o.left, (int)o.right);
    if (o.left >= 0)
        return bise_fail(err, BISE_EUNSUPPORTED, "its merges do not come in "
                         "the order of the tokens (%d and %d)", (int)o.left,
                         (int)o.right);
    return t->ignore_merges ? BISE_OK : check_reached(t, first, n, err);
}

/* tekken.json says: special tokens first, then the bytes in order, then tokens
 * in the order of their ranks, by which texts are merged. */
static bise_status check_tekken(const bise_tokenizer *t, int32_t n,
                                int32_t *specials, bise_error *err)
{
    int32_t k = 0;
    while (k < n && is_special(&t->pieces[k]))
        k++;
    *specials = k;
    if (n - k < 256 || !k)
        return bise_fail(err, BISE_EUNSUPPORTED, "it has %d special tokens "
                         "first and %d others", (int)k, (int)(n - k));
    for (int32_t id = k; id < n; id++) {
        const bise_piece *p = &t->pieces[id];
        if (p->type != BISE_PIECE_NORMAL)
            return bise_fail(err, BISE_EUNSUPPORTED, "token %d ('%s') is "
                             "special, but stands behind the vocabulary's "
                             "start", (int)id, p->text);
        if (id - k < 256 && (p->len != 1 || (uint8_t)p->text[0] != id - k))
            return bise_fail(err, BISE_EUNSUPPORTED, "token %d is not the byte "
                             "%d", (int)id, (int)(id - k));
    }
    return check_merges(t, k, n, err);
}

/* A token: rank, bytes, and a text where they are one. */
static void put_rank(bise_str *out, const bise_piece *p, int32_t rank)
{
    bise_str_printf(out, "    {\"rank\": %d, \"token_bytes\": \"", (int)rank);
    bise_base64_put(out, p->text, p->len);
    bise_str_puts(out, "\", \"token_str\": ");
    if (bise_utf8_valid(p->text, p->len) == p->len)
        put_quoted(out, p->text, p->len);
    else
        bise_str_puts(out, "null");
    bise_str_putc(out, '}');
}

bise_status bise_tokenizer_to_tekken(const bise_tokenizer *t, bise_str *out,
                                     bise_error *err)
{
    const int32_t n = used_ids(t);
    const int version = bise_chat_version(t);
    int32_t k = 0;
    uint64_t count = 0;
    if (t->kind == BISE_TOKENIZER_SPM || !t->pattern)
        return bise_fail(err, BISE_EUNSUPPORTED, "it is not a byte-level "
                         "vocabulary");
    if (version >= 15 && !t->rules)
        return bise_fail(err, BISE_EUNSUPPORTED, "the model settings of "
                         "version %d are not in it", version);
    const bise_status s = check_tekken(t, n, &k, err);
    if (s != BISE_OK)
        return s;
    bise_str_puts(out, "{\n  \"config\": {\"pattern\": ");
    put_quoted(out, t->pattern, strlen(t->pattern));
    bise_str_printf(out, ", \"num_vocab_tokens\": %d, \"default_vocab_size\": "
                    "%d, \"default_num_special_tokens\": %d, \"version\": "
                    "\"v%d\"},\n  \"vocab\": [", (int)(n - k), (int)n, (int)k,
                    version < 3 ? 3 : version);
    for (int32_t id = k; id < n; id++) {
        put_comma(out, &count);
        put_rank(out, &t->pieces[id], id - k);
    }
    bise_str_puts(out, "\n  ],\n  \"special_tokens\": [");
    count = 0;
    for (int32_t id = 0; id < k; id++) {
        put_comma(out, &count);
        bise_str_printf(out, "    {\"rank\": %d, \"token_str\": ", (int)id);
        put_quoted(out, t->pieces[id].text, t->pieces[id].len);
        bise_str_puts(out, ", \"is_control\": true}");
    }
    bise_str_puts(out, "\n  ]");
    if (t->rules) {
        bise_str_puts(out, ",\n  \"model_settings_builder\": ");
        bise_json_dump(out, t->rules, 0, false);
    }
    bise_str_puts(out, "\n}\n");
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}

/* ---- SentencePiece ---- */

/* Types as SentencePiece wants them: one unknown piece. Files of other formats
 * know it by its id only. */
static int32_t spm_type(const bise_tokenizer *t, int32_t id)
{
    const uint8_t type = t->pieces[id].type;
    if (id == t->unk)
        return BISE_PIECE_UNKNOWN;
    return type == BISE_PIECE_UNKNOWN ? BISE_PIECE_CONTROL : type;
}

/* Pack the message whose parts stand on the stack of the caller. */
static bise_status pack_model(bise_str *out, const Bise__Spm__Model *m,
                              bise_error *err)
{
    const size_t size = bise__spm__model__get_packed_size(m);
    uint8_t *bytes = bise_alloc(size + 1);
    if (!bytes)
        return bise_fail_nomem(err);
    (void)bise__spm__model__pack(m, bytes);
    bise_str_add(out, (const char *)bytes, size);
    bise_free(bytes);
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}

/* Each piece with its score and type, in the order of the ids. */
static bise_status fill_pieces(Bise__Spm__Piece *p, Bise__Spm__Piece **list,
                               const bise_tokenizer *t, const float *scores,
                               int32_t n, bise_error *err)
{
    for (int32_t id = 0; id < n; id++) {
        const bise_piece *from = &t->pieces[id];
        if (!from->len || memchr(from->text, 0, from->len))
            return bise_fail(err, BISE_EUNSUPPORTED, "token %d has no text, or "
                             "a zero byte in it", (int)id);
        const int32_t other = first_spelt(t, id, NULL);
        if (other != id && from->type != BISE_PIECE_UNUSED)
            return spelt_twice(t, id, other, err);
        bise__spm__piece__init(&p[id]);
        p[id].has_piece = p[id].has_score = p[id].has_type = 1;
        /* Packing only reads; protobuf-c has no const in its messages. */
        memcpy(&p[id].piece.data, &from->text, sizeof from->text);
        p[id].piece.len = from->len;
        p[id].score = scores[id];
        p[id].type = spm_type(t, id);
        list[id] = &p[id];
    }
    return BISE_OK;
}

bise_status bise_tokenizer_to_spm(const bise_tokenizer *t, bise_str *out,
                                  bise_error *err)
{
    const int32_t n = used_ids(t);
    Bise__Spm__Model m = BISE__SPM__MODEL__INIT;
    Bise__Spm__TrainerSpec tr = BISE__SPM__TRAINER_SPEC__INIT;
    Bise__Spm__NormalizerSpec no = BISE__SPM__NORMALIZER_SPEC__INIT;
    if (t->kind != BISE_TOKENIZER_SPM || t->unk < 0 || t->unk >= n)
        return bise_fail(err, BISE_EUNSUPPORTED, "it is not a SentencePiece "
                         "vocabulary with an unknown token");
    float *scores = bise_alloc_array((size_t)t->n, sizeof *scores);
    Bise__Spm__Piece *p = bise_alloc_array((size_t)n, sizeof *p);
    Bise__Spm__Piece **list = bise_alloc_array((size_t)n, sizeof *list);
    bise_status s = scores && p && list ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK) {
        bise_vocab_scores(t, scores);
        s = fill_pieces(p, list, t, scores, n, err);
        m.pieces = list;
        m.n_pieces = (size_t)n;
        m.trainer = &tr;
        m.normalizer = &no;
        tr.has_model_type = tr.has_vocab_size = tr.has_byte_fallback = 1;
        tr.has_unk_id = tr.has_bos_id = tr.has_eos_id = tr.has_pad_id = 1;
        tr.model_type = 2;                      /* BPE */
        tr.vocab_size = n;
        tr.byte_fallback = t->byte_fallback;
        tr.unk_id = t->unk;
        tr.bos_id = t->bos;
        tr.eos_id = t->eos;
        tr.pad_id = t->pad;
        no.has_add_dummy_prefix = no.has_remove_extra_whitespaces = 1;
        no.has_escape_whitespaces = 1;
        no.add_dummy_prefix = t->prefix != BISE_PREFIX_NONE;
        no.remove_extra_whitespaces = t->trim_blanks;
        no.escape_whitespaces = 1;
    }
    if (s == BISE_OK)
        s = pack_model(out, &m, err);
    bise_free(scores);
    bise_free(p);
    bise_free(list);
    return s;
}
