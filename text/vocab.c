/* vocab.c - building the parts that all tokenizer kinds share: the pieces and
 * the map from bytes to ids, special names, merges derived from ranks, and the
 * digest. Callers are the readers of each format.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "text/vocab.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/rng.h"
#include "formats/crypto.h"

/* Short keys are the common case: four to seven bytes are two loads, one to
 * three bytes three. The top bits are the best mixed ones. */
uint32_t bise_hash_bytes(const char *s, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u, v;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&v, s, 8);
        h = (h ^ v) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    if (n >= 4) {               /* 4 to 7 bytes as two overlapping loads */
        uint32_t a, b;
        memcpy(&a, s, 4);
        memcpy(&b, s + n - 4, 4);
        h ^= (uint64_t)a << 32 | b;
    } else if (n) {
        h ^= (uint64_t)(uint8_t)s[0] << 16 |
             (uint64_t)(uint8_t)s[n >> 1] << 8 | (uint8_t)s[n - 1];
    }
    h *= 0xff51afd7ed558ccdu;
    return (uint32_t)((h ^ h >> 29) >> 8);
}

/* The count comes from a file: it is bounded before the pieces are
 * allocated. Byte ids start as -1, which memset writes as all ones. */
bise_status bise_vocab_new(bise_tokenizer **out, bise_tokenizer_kind kind,
                           int64_t n, const char *name, bise_error *err)
{
    if (n <= 0 || n > BISE_VOCAB_MAX)
        return bise_fail(err, BISE_EFORMAT,
                         "vocabulary of %" PRId64 " ids, 1 to %d allowed", n,
                         BISE_VOCAB_MAX);
    bise_tokenizer *t = bise_alloc(sizeof *t);
    if (!t)
        return bise_fail_nomem(err);
    t->kind = kind;
    t->n = (int32_t)n;
    t->bos = t->eos = t->unk = t->pad = -1;
    snprintf(t->source, sizeof t->source, "%s", bise_path_base(name));
    memset(t->byte_id, 0xff, sizeof t->byte_id);
    t->pieces = bise_alloc_array((size_t)n, sizeof *t->pieces);
    if (!t->pieces) {
        bise_tokenizer_free(t);
        return bise_fail_nomem(err);
    }
    *out = t;
    return BISE_OK;
}

/* Accepts NULL and a tokenizer whose reader failed at any point. */
void bise_tokenizer_free(bise_tokenizer *t)
{
    if (!t)
        return;
    bise_spm_release(t);
    bise_split_free(t->split);
    bise_merges_fini(&t->merges);
    bise_strmap_fini(&t->specials);
    bise_free(t->slots);
    bise_free(t->byte_pairs);
    bise_free(t->pieces);
    bise_arena_fini(&t->arena);
    bise_json_free(t->rules);
    bise_free(t);
}

/* A pattern in a file is the file's fault, not that of a call. */
bise_status bise_vocab_pattern_status(bise_status s, const char *field,
                                      bise_error *err)
{
    const bise_error first = *err;
    if (s != BISE_EINVAL)
        return s;
    bise_error_init(err);
    return bise_fail(err, BISE_EFORMAT, "field '%s': %s", field, first.text);
}

/* Special and user-defined pieces are cut out of texts as they stand. One
 * that holds a part of a character would leave the other part behind. */
static bool is_searched(bise_piece_type type)
{
    return type == BISE_PIECE_CONTROL || type == BISE_PIECE_UNKNOWN ||
           type == BISE_PIECE_USER;
}

/* Setting an id again replaces it (added tokens over the vocabulary). The
 * bound keeps merged texts within the buffers below. */
bise_status bise_vocab_set(bise_tokenizer *t, int32_t id, const char *text,
                           size_t len, bise_piece_type type, float score,
                           bise_error *err)
{
    if (len > UINT16_MAX)
        return bise_fail(err, BISE_EFORMAT,
                         "token %d has %zu bytes, %d allowed", id, len,
                         UINT16_MAX);
    if (is_searched(type) && bise_utf8_valid(text, len) != len)
        return bise_fail(err, BISE_EFORMAT, "token %d ('%.*s') is searched "
                         "in texts, but is no valid UTF-8", id,
                         (int)(len < 40 ? len : 40), text);
    bise_piece *p = &t->pieces[id];
    p->text = p->shown = bise_arena_strndup(&t->arena, text, len);
    if (!p->text)
        return bise_fail_nomem(err);
    p->len = p->shown_len = (uint32_t)len;
    p->hash = bise_hash_bytes(text, len);
    p->score = score;
    p->type = (uint8_t)type;
    return BISE_OK;
}

/* True for pieces that merging or a whole chunk may give. Control tokens are
 * not: text can never give them. */
static bool is_found_in_text(const bise_piece *p)
{
    return p->type == BISE_PIECE_NORMAL || p->type == BISE_PIECE_USER;
}

/* Compares hash, length, then bytes; a row of a long text leads to its
 * piece. */
int32_t bise_vocab_find(const bise_tokenizer *t, const char *text, size_t n,
                        uint32_t hash)
{
    for (uint32_t i = hash & t->slot_mask;; i = (i + 1) & t->slot_mask) {
        const bise_vocab_slot *s = &t->slots[i];
        if (!s->id)
            return -1;
        if (s->hash != hash)
            continue;
        if (s->len == n && n <= BISE_SLOT_TEXT) {
            if (bise_same_bytes(s->text, text, n))
                return (int32_t)s->id - 1;
        } else if (s->len == UINT8_MAX) {
            const bise_piece *p = &t->pieces[s->id - 1];
            if (p->len == n && memcmp(p->text, text, n) == 0)
                return (int32_t)s->id - 1;
        }
    }
}

/* Put piece id into the first free row of its hash. The caller has checked
 * that it is not there yet, and the table is at most half full. */
static void insert_piece(bise_tokenizer *t, int32_t id)
{
    const bise_piece *p = &t->pieces[id];
    uint32_t i = p->hash & t->slot_mask;
    while (t->slots[i].id)
        i = (i + 1) & t->slot_mask;
    bise_vocab_slot *s = &t->slots[i];
    s->hash = p->hash;
    s->id = (uint32_t)id + 1;
    s->len = p->len <= BISE_SLOT_TEXT ? (uint8_t)p->len : UINT8_MAX;
    if (p->len <= BISE_SLOT_TEXT)
        memcpy(s->text, p->text, p->len);
}

/* Tried from the longest down, as SentencePiece and tokenizers do. */
int32_t bise_vocab_user(const bise_tokenizer *t, const char *s, size_t n,
                        size_t *len)
{
    if (!t->first_user[(uint8_t)s[0]])
        return -1;
    for (size_t k = t->user_max < n ? t->user_max : n; k; k--) {
        const int32_t id = bise_vocab_find(t, s, k, bise_hash_bytes(s, k));
        if (id >= 0 && t->pieces[id].type == BISE_PIECE_USER) {
            *len = k;
            return id;
        }
    }
    return -1;
}

/* Enter piece id into the map of its kind. Bytes and unused pieces are in
 * neither map: text does not give them directly. */
static bise_status index_piece(bise_tokenizer *t, int32_t id, bool unique,
                               bise_error *err)
{
    const bise_piece *p = &t->pieces[id];
    int32_t other = -1;
    if (is_found_in_text(p)) {
        other = bise_vocab_find(t, p->text, p->len, p->hash);
        if (other < 0)
            insert_piece(t, id);
    } else if (p->type == BISE_PIECE_CONTROL ||
               p->type == BISE_PIECE_UNKNOWN) {
        const int rc = bise_strmap_add(&t->specials, p->text, p->len,
                                       (uint32_t)id);
        if (rc < 0)
            return bise_fail_nomem(err);
        if (rc > 0)
            other = (int32_t)bise_strmap_find(&t->specials, p->text, p->len);
        if (p->len > t->special_max)
            t->special_max = p->len;
        t->first_special[(uint8_t)p->text[0]] = true;
    }
    if (other >= 0 && unique)
        return bise_fail(err, BISE_EFORMAT, "token '%.60s' has two ids: %d and "
                         "%d", p->text, other, id);
    if (p->type == BISE_PIECE_USER && p->len) {
        t->first_user[(uint8_t)p->text[0]] = true;
        if (p->len > t->user_max)
            t->user_max = p->len;
    }
    return BISE_OK;
}

/* Ids that no entry set become unused tokens with a name of their own, so
 * that every id can be shown. */
bise_status bise_vocab_index(bise_tokenizer *t, bool unique, bise_error *err)
{
    uint32_t size = 64;
    while (size < (uint32_t)t->n * 2)
        size *= 2;
    t->slots = bise_alloc_array(size, sizeof *t->slots);
    if (!t->slots)
        return bise_fail_nomem(err);
    t->slot_mask = size - 1;
    for (int32_t id = 0; id < t->n; id++) {
        if (!t->pieces[id].type) {
            char name[32];
            const int len = snprintf(name, sizeof name, "[PAD%d]", id);
            const bise_status s = bise_vocab_set(t, id, name, (size_t)len,
                                                 BISE_PIECE_UNUSED, 0, err);
            if (s != BISE_OK)
                return s;
        }
        const bise_status s = index_piece(t, id, unique, err);
        if (s != BISE_OK)
            return s;
    }
    return BISE_OK;
}

/* Merging starts from single bytes and every merge gives a token, so only
 * splits into two tokens can ever occur. */
bise_status bise_vocab_derive(bise_tokenizer *t, const uint32_t *rank,
                              bise_error *err)
{
    if (bise_merges_init(&t->merges, (size_t)t->n * 2) != 0)
        return bise_fail_nomem(err);
    for (int32_t id = 0; id < t->n; id++) {
        const bise_piece *p = &t->pieces[id];
        if (rank[id] == UINT32_MAX || p->type != BISE_PIECE_NORMAL)
            continue;
        for (uint32_t cut = 1; cut < p->len; cut++) {
            const char *tail = p->text + cut;
            const uint32_t rest = p->len - cut;
            const int32_t l = bise_vocab_find(t, p->text, cut,
                                              bise_hash_bytes(p->text, cut));
            if (l < 0)
                continue;
            const int32_t r = bise_vocab_find(t, tail, rest,
                                              bise_hash_bytes(tail, rest));
            if (r >= 0 && bise_merges_add(&t->merges, l, r, rank[id], id) != 0)
                return bise_fail_nomem(err);
        }
    }
    return BISE_OK;
}

/* The place in the list is the rank. The result of a merge must be a token;
 * its id is looked up once here. */
bise_status bise_vocab_merges(bise_tokenizer *t, int32_t (*list)[2], size_t n,
                              bise_error *err)
{
    char joined[2 * UINT16_MAX + 2];
    if (bise_merges_init(&t->merges, n) != 0)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < n; i++) {
        const bise_piece *l = &t->pieces[list[i][0]];
        const bise_piece *r = &t->pieces[list[i][1]];
        memcpy(joined, l->text, l->len);
        memcpy(joined + l->len, r->text, r->len);
        const size_t len = (size_t)l->len + r->len;
        const int32_t id = bise_vocab_find(t, joined, len,
                                           bise_hash_bytes(joined, len));
        if (id < 0)
            return bise_fail(err, BISE_EFORMAT, "merge %zu gives a token that "
                             "is not in the vocabulary", i);
        if (bise_merges_add(&t->merges, list[i][0], list[i][1], (uint32_t)i,
                            id) != 0)
            return bise_fail_nomem(err);
    }
    t->merge_list = list;
    t->n_merges = n;
    return BISE_OK;
}

/* A split of a token: ids of its parts, and the length of the left one. */
typedef struct cut {
    int32_t left, right;
    uint32_t len;
} cut;

/* By left id, then by right id. */
static int by_ids(const void *a, const void *b)
{
    const cut *x = a, *y = b;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

/* The longest left part first. */
static int by_length(const void *a, const void *b)
{
    const cut *x = a, *y = b;
    return x->len > y->len ? -1 : x->len < y->len;
}

/* May a merge have this part? User-defined pieces are never merged. */
static int32_t part_id(const bise_tokenizer *t, const char *s, uint32_t n)
{
    const int32_t id = bise_vocab_find(t, s, n, bise_hash_bytes(s, n));
    return id >= 0 && t->pieces[id].type == BISE_PIECE_NORMAL ? id : -1;
}

/* Every split of token id into two tokens; cuts has room for them. */
static void each_cut(const bise_tokenizer *t, int32_t id, cut *cuts,
                     bise_merge_fn *fn, void *ctx)
{
    const bise_piece *p = &t->pieces[id];
    size_t n = 0;
    if (p->type != BISE_PIECE_NORMAL)
        return;
    for (uint32_t at = 1; at < p->len; at++) {
        cuts[n] = (cut){ part_id(t, p->text, at), -1, at };
        if (cuts[n].left >= 0)
            cuts[n].right = part_id(t, p->text + at, p->len - at);
        n += cuts[n].right >= 0;
    }
    if (n > 1)
        qsort(cuts, n, sizeof *cuts, t->kind == BISE_TOKENIZER_SPM ? by_length
                                                                   : by_ids);
    for (size_t i = 0; i < n; i++)
        fn(ctx, cuts[i].left, cuts[i].right);
}

/* An id and its score, for sorting. */
typedef struct scored {
    float score;
    int32_t id;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Ranks are the order of the ids; scores are sorted. */
bise_status bise_vocab_each_split(const bise_tokenizer *t, bise_merge_fn *fn,
                                  void *ctx, bise_error *err)
{
    const bool sorted = t->kind == BISE_TOKENIZER_SPM;
    cut *cuts = bise_alloc_array(UINT16_MAX, sizeof *cuts);
    scored *order = sorted ? bise_alloc_array((size_t)t->n, sizeof *order)
                           : NULL;
    const bool ok = cuts && (order || !sorted);
    for (int32_t id = 0; order && id < t->n; id++)
        order[id] = (scored){ t->pieces[id].score, id };
    if (order)
        qsort(order, (size_t)t->n, sizeof *order, by_score);
    for (int32_t i = 0; ok && i < t->n; i++)
        each_cut(t, order ? order[i].id : i, cuts, fn, ctx);
    bise_free(cuts);
    bise_free(order);
    return ok ? BISE_OK : bise_fail_nomem(err);
}

bise_status bise_vocab_each_merge(const bise_tokenizer *t, bise_merge_fn *fn,
                                  void *ctx, bise_error *err)
{
    if (!t->merge_list)
        return bise_vocab_each_split(t, fn, ctx, err);
    for (size_t i = 0; i < t->n_merges; i++)
        fn(ctx, t->merge_list[i][0], t->merge_list[i][1]);
    return BISE_OK;
}

/* llama.cpp and SentencePiece merge the pair with the highest score; minus the
 * number of the first merge that makes a piece gives the same order. */
void bise_vocab_scores(const bise_tokenizer *t, float *scores)
{
    for (int32_t id = 0; id < t->n; id++)
        scores[id] = t->pieces[id].score;
    for (size_t i = t->n_merges; t->merge_list && i-- > 0;) {
        const bise_merge_slot *s = bise_merges_find(&t->merges,
                                                    t->merge_list[i][0],
                                                    t->merge_list[i][1]);
        if (s)
            scores[s->id] = -(float)i;
    }
}

/* The value of "<0xHH>", -1 for any other text. SentencePiece writes them
 * with capital digits; others are read too. */
static int byte_of_name(const char *s, uint32_t len)
{
    unsigned v;
    char close;
    if (len != 6 || sscanf(s, "<0x%2X%c", &v, &close) != 2 || close != '>')
        return -1;
    return (int)v;
}

/* What decoding appends for a piece of a SentencePiece kind. U+2581 is shown
 * as a space, a byte piece as its byte, which may be a part of a character. */
static bise_status show_piece(bise_tokenizer *t, int32_t id, bise_str *buf,
                              bise_error *err)
{
    bise_piece *p = &t->pieces[id];
    bise_str_clear(buf);
    if (p->type == BISE_PIECE_BYTE) {
        const int v = byte_of_name(p->text, p->len);
        if (v < 0)
            return bise_fail(err, BISE_EFORMAT, "byte token %d is '%.20s', "
                             "must be '<0x00>' to '<0xFF>'", id, p->text);
        bise_str_putc(buf, (char)v);
        t->byte_id[v] = id;
    } else {
        for (uint32_t i = 0; i < p->len; i++) {
            const bool blank = memcmp(p->text + i, "\xe2\x96\x81",
                                      p->len - i < 3 ? p->len - i : 3) == 0 &&
                               p->len - i >= 3;
            bise_str_putc(buf, blank ? ' ' : p->text[i]);
            i += blank ? 2 : 0;
        }
    }
    p->shown = bise_arena_strndup(&t->arena, bise_str_get(buf), buf->len);
    p->shown_len = (uint32_t)buf->len;
    return p->shown ? BISE_OK : bise_fail_nomem(err);
}

/* Merges of two bytes as a plain table: most merging starts with them. 512
 * KB, of which a text touches the few rows of its letters. */
static bise_status fill_byte_pairs(bise_tokenizer *t, bise_error *err)
{
    t->byte_pairs = bise_alloc_array(65536, sizeof *t->byte_pairs);
    if (!t->byte_pairs)
        return bise_fail_nomem(err);
    for (int i = 0; i < 65536; i++) {
        const int32_t l = t->byte_id[i >> 8], r = t->byte_id[i & 255];
        const bise_merge_slot *s = l >= 0 && r >= 0
            ? bise_merges_find(&t->merges, l, r) : NULL;
        t->byte_pairs[i] = s ? (bise_merge_to){ s->rank, s->id }
                             : (bise_merge_to){ UINT32_MAX, -1 };
    }
    return BISE_OK;
}

/* Hash everything that decides about ids, for cache keys. Kept stable: token
 * caches on disk are found by it. */
static bise_status make_digest(bise_tokenizer *t, bise_error *err)
{
    bise_sha256 *h = bise_sha256_new();
    if (!h)
        return bise_fail_nomem(err);
    const int32_t head[] = { (int32_t)t->kind, t->version, t->n, t->bos,
                             t->eos, t->unk, t->pad, (int32_t)t->prefix,
                             t->ignore_merges | t->byte_fallback << 1 |
                             t->fuse_unknown << 2 | t->trim_blanks << 3 };
    bise_sha256_add(h, head, sizeof head);
    if (t->pattern)
        bise_sha256_add(h, t->pattern, strlen(t->pattern));
    for (int32_t id = 0; id < t->n; id++) {
        const bise_piece *p = &t->pieces[id];
        uint8_t row[9];
        bise_store_le32(row, p->len);
        bise_store_le32(row + 4, bise_f32_bits(p->score));
        row[8] = p->type;
        bise_sha256_add(h, row, sizeof row);
        bise_sha256_add(h, p->text, p->len);
    }
    if (t->rules) {             /* decide about tokens of conversations */
        bise_str text = { 0 };
        bise_json_dump(&text, t->rules, 0, true);
        bise_sha256_add(h, bise_str_get(&text), text.len);
        bise_str_fini(&text);
    }
    if (t->merge_list)
        bise_sha256_add(h, t->merge_list, t->n_merges * sizeof *t->merge_list);
    uint8_t sum[32];
    bise_sha256_finish(h, sum);
    bise_hex32(t->digest, sum);
    return BISE_OK;
}

/* Names first, because the chat formats and the readers rely on the four
 * ids; then what decoding shows; then the tables that depend on the complete
 * list of pieces. */
bise_status bise_vocab_finish(bise_tokenizer *t, bise_error *err)
{
    bise_str buf = { 0 };
    bise_status s = BISE_OK;
    if (t->bos < 0)
        t->bos = bise_tokenizer_special(t, "<s>");
    if (t->eos < 0)
        t->eos = bise_tokenizer_special(t, "</s>");
    if (t->unk < 0)
        t->unk = bise_tokenizer_special(t, "<unk>");
    if (t->pad < 0)
        t->pad = bise_tokenizer_special(t, "<pad>");
    for (int32_t id = 0; id < t->n && s == BISE_OK; id++) {
        bise_piece *p = &t->pieces[id];
        if (p->type == BISE_PIECE_CONTROL || p->type == BISE_PIECE_UNKNOWN ||
            p->type == BISE_PIECE_UNUSED) {
            p->shown = "";
            p->shown_len = 0;
        } else if (t->kind == BISE_TOKENIZER_SPM) {
            s = show_piece(t, id, &buf, err);
        } else if (p->len == 1 && p->type == BISE_PIECE_NORMAL) {
            t->byte_id[(uint8_t)p->text[0]] = id;
        }
    }
    bise_str_fini(&buf);
    if (s == BISE_OK && t->kind == BISE_TOKENIZER_SPM)
        s = bise_spm_prepare(t, err);
    else if (s == BISE_OK)
        s = fill_byte_pairs(t, err);
    return s == BISE_OK ? make_digest(t, err) : s;
}

/* GPT-2: visible Latin-1 characters stand for themselves, the other 68 bytes
 * for U+0100 onwards in their order. The table every byte-level tokenizer
 * since GPT-2 shares. */
static unsigned byte_to_char(unsigned b)
{
    if ((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad))
        return b;
    if (b <= 0x20)
        return 0x100 + b;
    return b == 0xad ? 0x143 : 0x121 + (b - 0x7f);
}

/* The spelling is valid UTF-8 without blanks, whatever the bytes are. */
void bise_bytelevel_spell(bise_str *out, const char *raw, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char u[4];
        const unsigned cp = byte_to_char((uint8_t)raw[i]);
        bise_str_add(out, u, (size_t)bise_utf8_put(u, cp));
    }
}

/* Undo the spelling: false, with a part already appended, when a character
 * is not of the alphabet. */
bool bise_bytelevel_read(bise_str *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned cp, b;
        const int len = bise_utf8_next(text + i, n - i, &cp);
        if (!len || cp > 0x143)
            return false;
        if (cp < 0x100)
            b = cp;
        else if (cp <= 0x120)
            b = cp - 0x100;
        else
            b = cp == 0x143 ? 0xad : cp - 0x121 + 0x7f;
        if (byte_to_char(b) != cp)
            return false;
        bise_str_putc(out, (char)b);
        i += (size_t)len;
    }
    return true;
}
