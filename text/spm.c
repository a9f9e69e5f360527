/* spm.c - the SentencePiece encoder: text with blanks as U+2581 is cut into
 * characters, and the adjacent pair whose union is the best-scored piece is
 * merged until none is left (mistral3.md 4.4). What stays outside of the
 * vocabulary becomes byte pieces, or the unknown id. User-defined pieces are
 * cut out of the text first. Called by tokenizer.c with valid UTF-8.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/encode.h"
#include "text/vocab.h"

#define BLANK "\xe2\x96\x81" /* U+2581, stands for a space */
#define PAGES (0x110000 >> 8)

/* Symbol numbers: below n the ids; from n on characters that occur inside of
 * pieces but are none themselves, so that merging can start from them. */
struct bise_spm {
    int32_t *page[PAGES]; /* symbol + 1 of a character, 0 when it has none */
    struct { const char *text; int len; } *extra; /* symbols from n on */
    size_t n_extra, cap_extra;
    bool cut_blank;       /* no piece has a blank behind another character */
    bool alone[128];      /* ASCII characters that are in no longer piece */
};

/* Release the tables; also for a tokenizer that failed while they were being
 * made. */
void bise_spm_release(bise_tokenizer *t)
{
    if (!t->spm)
        return;
    for (int i = 0; i < PAGES; i++)
        bise_free(t->spm->page[i]);
    bise_free(t->spm->extra);
    bise_free(t->spm);
    t->spm = NULL;
}

/* Symbol of a character, -1 when it has none. Two levels: 4,352 pages of
 * 256, of which a vocabulary uses a few. */
static inline int32_t symbol_of(const struct bise_spm *m, unsigned cp)
{
    const int32_t *page = m->page[cp >> 8];
    return page ? page[cp & 255] - 1 : -1;
}

/* Enter a character; -1 when out of memory. Numbers are stored plus one,
 * because new pages are zeroed. */
static int set_symbol(struct bise_spm *m, unsigned cp, int32_t symbol)
{
    int32_t **page = &m->page[cp >> 8];
    if (!*page)
        *page = bise_alloc_array(256, sizeof **page);
    if (!*page)
        return -1;
    (*page)[cp & 255] = symbol + 1;
    return 0;
}

/* Give every character of a piece a symbol, and note what may follow what.
 * cut_blank and alone are found here as well: they say where no piece can
 * reach across, which is where texts may be cut. */
static bise_status add_characters(bise_tokenizer *t, const bise_piece *p,
                                  bise_error *err)
{
    struct bise_spm *m = t->spm;
    bool behind = false;        /* behind a character that is not a blank */
    for (uint32_t i = 0; i < p->len;) {
        unsigned cp;
        const int len = bise_utf8_next(p->text + i, p->len - i, &cp);
        if (!len)
            return bise_fail(err, BISE_EFORMAT,
                             "token '%.60s' is not valid UTF-8", p->text);
        if (cp == 0x2581 && behind)
            m->cut_blank = false;
        behind |= cp != 0x2581;
        if (cp < 128 && (uint32_t)len < p->len)
            m->alone[cp] = false;
        if (symbol_of(m, cp) < 0) {
            int32_t id = bise_vocab_find(t, p->text + i, (size_t)len,
                                         bise_hash_bytes(p->text + i,
                                                         (size_t)len));
            if (id < 0) {
                void *v = m->extra;
                if (bise_grow(&v, &m->cap_extra, m->n_extra + 1,
                              sizeof *m->extra) != 0)
                    return bise_fail_nomem(err);
                m->extra = v;
                m->extra[m->n_extra].text = p->text + i;
                m->extra[m->n_extra].len = len;
                id = t->n + (int32_t)m->n_extra++;
            }
            if (set_symbol(m, cp, id) != 0)
                return bise_fail_nomem(err);
        }
        i += (uint32_t)len;
    }
    return BISE_OK;
}

/* Symbol of a part of a piece: a piece itself or a single character. Both
 * must be tried: SentencePiece merges from characters even when they are no
 * pieces of their own. */
static int32_t part_symbol(const bise_tokenizer *t, const char *s, size_t n)
{
    unsigned cp;
    const int32_t id = bise_vocab_find(t, s, n, bise_hash_bytes(s, n));
    if (id >= 0)
        return id;
    return (size_t)bise_utf8_next(s, n, &cp) == n ? symbol_of(t->spm, cp) : -1;
}

typedef struct scored {
    float score;
    int32_t id;
} scored;

/* Best first; equal scores by id only to make the order the same on every
 * machine, their rank is the same. */
static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Enter all ways to put piece id together, at a rank. Cuts fall on
 * characters, not inside of them: a lead byte starts each part. */
static int add_splits(bise_tokenizer *t, int32_t id, uint32_t rank)
{
    const bise_piece *p = &t->pieces[id];
    for (uint32_t cut = 1; cut < p->len; cut++) {
        if (((uint8_t)p->text[cut] & 0xc0) == 0x80)
            continue;
        const int32_t l = part_symbol(t, p->text, cut);
        if (l < 0)
            continue;
        const int32_t r = part_symbol(t, p->text + cut, p->len - cut);
        if (r >= 0 && bise_merges_add(&t->merges, l, r, rank, id) != 0)
            return -1;
    }
    return 0;
}

/* The merge table of scored pieces: the highest score is rank 0, equal
 * scores share a rank so that the leftmost pair wins between them. Scores
 * that are no numbers have no order; qsort must not see them. */
static bise_status derive_from_scores(bise_tokenizer *t, bise_error *err)
{
    scored *list = bise_alloc_array((size_t)t->n, sizeof *list);
    size_t n = 0;
    uint32_t rank = 0;
    bise_status s = BISE_OK;
    if (!list || bise_merges_init(&t->merges, (size_t)t->n * 2) != 0) {
        bise_free(list);
        return bise_fail_nomem(err);
    }
    for (int32_t id = 0; id < t->n && s == BISE_OK; id++) {
        const bise_piece *p = &t->pieces[id];
        if (p->type != BISE_PIECE_NORMAL && p->type != BISE_PIECE_USER)
            continue;
        if (!isfinite(p->score))
            s = bise_fail(err, BISE_EFORMAT,
                          "score of token %d is not a number", id);
        list[n++] = (scored){ p->score, id };
    }
    if (s == BISE_OK && n)
        qsort(list, n, sizeof *list, by_score);
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        rank += i && list[i].score != list[i - 1].score;
        if (add_splits(t, list[i].id, rank) != 0)
            s = bise_fail_nomem(err);
    }
    bise_free(list);
    return s;
}

/* Order: characters first, because the splits of pieces need their symbols;
 * then the bytes, without which nothing can fall back; then the merges,
 * unless the file listed them. */
bise_status bise_spm_prepare(bise_tokenizer *t, bise_error *err)
{
    struct bise_spm *m = t->spm = bise_alloc(sizeof *m);
    bise_status s = m ? BISE_OK : bise_fail_nomem(err);
    if (s != BISE_OK)
        return s;
    m->cut_blank = true;
    memset(m->alone, true, sizeof m->alone);
    for (int32_t id = 0; id < t->n && s == BISE_OK; id++) {
        const bise_piece *p = &t->pieces[id];
        if (p->type == BISE_PIECE_NORMAL || p->type == BISE_PIECE_USER)
            s = add_characters(t, p, err);
    }
    /* Bytes must all be there to stand in for characters. */
    for (int b = 0; b < 256; b++)
        t->byte_fallback &= t->byte_id[b] >= 0;
    if (s == BISE_OK && !t->merge_list)
        s = derive_from_scores(t, err);
    return s;
}

/* State of encoding one text. */
typedef struct job {
    const bise_tokenizer *t;
    bise_chunk_cache cache;
    bise_ids *out;
} job;

/* Append what an unknown character becomes. Without bytes it is marked by
 * -1, which merges with nothing. */
static size_t put_unknown(const bise_tokenizer *t, const char *s, int len,
                          int32_t *ids)
{
    if (!t->byte_fallback) {
        ids[0] = -1;
        return 1;
    }
    for (int k = 0; k < len; k++)
        ids[k] = t->byte_id[(uint8_t)s[k]];
    return (size_t)len;
}

/* Replace symbols that are no ids. A symbol never has more ids than bytes,
 * so room for the bytes of the chunk is enough. Symbols beyond the ids are
 * spelt as bytes; marked ones become the unknown id, one for a whole run of
 * them. The ids before the first such symbol stay untouched, so ordinary
 * text pays nothing. */
static bise_status settle(const bise_tokenizer *t, int32_t *ids, size_t *n,
                          bool after_unk, bise_error *err)
{
    size_t first = 0, k = 0;
    while (first < *n && ids[first] >= 0 && ids[first] < t->n)
        first++;
    if (first == *n)
        return BISE_OK;
    int32_t *copy = bise_alloc_array(*n, sizeof *copy);
    if (!copy)
        return bise_fail_nomem(err);
    memcpy(copy, ids, *n * sizeof *copy);
    for (size_t i = 0; i < *n; i++) {
        if (copy[i] >= 0 && copy[i] < t->n) {
            ids[k++] = copy[i];
            continue;
        }
        if (t->byte_fallback) {
            const size_t e = (size_t)(copy[i] - t->n);
            k += put_unknown(t, t->spm->extra[e].text, t->spm->extra[e].len,
                             ids + k);
            continue;
        }
        const bool again = k ? ids[k - 1] == t->unk : after_unk;
        if (t->unk >= 0 && !(again && t->fuse_unknown))
            ids[k++] = t->unk;
    }
    *n = k;
    bise_free(copy);
    return BISE_OK;
}

/* Characters to symbols, merge, settle: one chunk. A chunk of n bytes gives
 * at most n ids, which is the room asked for. */
static bise_status merge_chunk(const job *j, const char *s, size_t n,
                               bise_error *err)
{
    const bise_tokenizer *t = j->t;
    int32_t *ids = bise_ids_room(j->out, n);
    if (!ids)
        return bise_fail_nomem(err);
    size_t count = 0;
    for (size_t i = 0; i < n;) {
        unsigned cp = (uint8_t)s[i];
        const int len = cp < 0x80 ? 1 : bise_utf8_next(s + i, n - i, &cp);
        const int32_t symbol = symbol_of(t->spm, cp);
        if (symbol >= 0)
            ids[count++] = symbol;
        else
            count += put_unknown(t, s + i, len, ids + count);
        i += (size_t)len;
    }
    bise_status status = bise_merge(&t->merges, ids, &count, err);
    const bool after_unk = j->out->n && j->out->v[j->out->n - 1] == t->unk;
    if (status == BISE_OK)
        status = settle(t, ids, &count, after_unk, err);
    if (status == BISE_OK)
        j->out->n += count;
    return status;
}

/* A chunk encoded before is copied; any other is merged and remembered. */
static bise_status encode_chunk(job *j, const char *s, size_t n,
                                bise_error *err)
{
    const uint32_t hash = bise_hash_bytes(s, n);
    const int rc = bise_chunks_copy(&j->cache, s, n, hash, j->out);
    if (rc)
        return rc > 0 ? BISE_OK : bise_fail_nomem(err);
    const size_t at = j->out->n;
    const bise_status status = merge_chunk(j, s, n, err);
    if (status == BISE_OK)
        bise_chunks_keep(&j->cache, s, n, hash, at, j->out);
    return status;
}

/* Cut where no piece can reach across: before a blank behind another
 * character, and around characters that are in no longer piece. The merges
 * of two such parts never touch, so they can be done one after the other.
 * Runs of U+2581 belong to the word behind them. Indented code and long
 * lines become many short parts, which the cache then knows. */
static size_t part_end(const struct bise_spm *m, const char *s, size_t n,
                       size_t p)
{
    bool behind = false;
    if ((uint8_t)s[p] < 128 && m->alone[(uint8_t)s[p]])
        return p + 1;
    while (p < n) {
        const uint8_t c = (uint8_t)s[p];
        if (c < 128) {
            if (m->alone[c])
                break;
            behind = true;
            p++;
        } else if (c == 0xe2 && memcmp(s + p, BLANK, 3) == 0) {
            if (behind && m->cut_blank)
                break;
            p += 3;
        } else {
            behind = true;
            p += c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        }
    }
    return p;
}

/* A stretch of text without user-defined pieces, part by part. */
static bise_status encode_part(job *j, const char *s, size_t n,
                               bise_error *err)
{
    bise_status status = BISE_OK;
    for (size_t p = 0; p < n && status == BISE_OK;) {
        const size_t end = part_end(j->t->spm, s, n, p);
        status = encode_chunk(j, s + p, end - p, err);
        p = end;
    }
    return status;
}

/* Text as the pieces spell it: every space is U+2581. Both the space and
 * U+2581 itself become U+2581: they cannot be told apart afterwards, in
 * SentencePiece neither. That is the one documented case where decoding does
 * not give the text back. */
static void spell(bise_str *out, const bise_tokenizer *t, const char *s,
                  size_t n, bool prefix)
{
    while (t->trim_blanks && n && s[0] == ' ')
        s++, n--;
    while (t->trim_blanks && n && s[n - 1] == ' ')
        n--;
    if (prefix && n && (t->prefix == BISE_PREFIX_ALWAYS ||
        (t->prefix == BISE_PREFIX_UNLESS_BLANK && s[0] != ' ' &&
         (n < 3 || memcmp(s, BLANK, 3) != 0))))
        bise_str_puts(out, BLANK);
    for (size_t i = 0; i < n;) {
        if (s[i] == ' ') {
            bise_str_add(out, BLANK, 3);
            for (i++; t->trim_blanks && i < n && s[i] == ' ';)
                i++;
            continue;
        }
        const char *blank = memchr(s + i, ' ', n - i);
        const size_t end = blank ? (size_t)(blank - s) : n;
        bise_str_add(out, s + i, end - i);
        i = end;
    }
}

/* Chunks are remembered only when bytes stand in for unknown characters: a
 * fused unknown id depends on what came before, and a copy would not. */
bise_status bise_spm_encode(const bise_tokenizer *t, const char *text,
                            size_t n, bool prefix, bise_ids *out,
                            bise_error *err)
{
    bise_str buf = { 0 };
    bise_status s = BISE_OK;
    job j = { .t = t, .out = out };
    spell(&buf, t, text, n, prefix);
    if (!bise_str_ok(&buf))
        return bise_fail_nomem(err);
    if (t->byte_fallback)               /* fused unknowns depend on context */
        bise_chunks_init(&j.cache, buf.len);
    size_t done = 0, len = 1;
    for (size_t i = 0; t->user_max && i < buf.len && s == BISE_OK; i += len) {
        const int32_t id = bise_vocab_user(t, buf.data + i, buf.len - i, &len);
        if (id < 0) {
            len = 1;
            continue;
        }
        s = encode_part(&j, buf.data + done, i - done, err);
        if (s == BISE_OK && bise_ids_push(out, id) != 0)
            s = bise_fail_nomem(err);
        done = i + len;
    }
    if (s == BISE_OK)
        s = encode_part(&j, bise_str_get(&buf) + done, buf.len - done, err);
    bise_chunks_fini(&j.cache);
    bise_str_fini(&buf);
    return s;
}
