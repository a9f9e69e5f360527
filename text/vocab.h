/* vocab.h - what a tokenizer is made of, private to text/: the pieces with
 * their types, the maps from bytes to ids, the merge table and the splitter.
 * Readers (tekken.c, hf_tokenizer.c, spm_model.c, gguf_vocab.c) fill it
 * through bise_vocab_new, _set and _finish; after that it is read-only.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_VOCAB_H
#define BISE_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/error.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/strmap.h"
#include "formats/gguf.h"
#include "text/merge.h"
#include "text/split.h"
#include "text/tokenizer.h"

/* More ids than any vocabulary we accept: bounds tables built from files. */
#define BISE_VOCAB_MAX (1 << 22)

/* Types as numbered in SentencePiece models and GGUF. */
typedef enum {
    BISE_PIECE_NORMAL = 1, BISE_PIECE_UNKNOWN, BISE_PIECE_CONTROL,
    BISE_PIECE_USER, BISE_PIECE_UNUSED, BISE_PIECE_BYTE
} bise_piece_type;

typedef struct bise_piece {
    const char *text;        /* as matched: raw bytes, or text with U+2581 */
    const char *shown;       /* bytes that decoding appends */
    uint32_t len, shown_len;
    uint32_t hash;           /* of text, bise_hash_bytes */
    float score;
    uint8_t type;            /* 0 while not set */
} bise_piece;

/* A row of the map from text to id. Short texts stand in the row, so that a
 * lookup touches one cache line. */
#define BISE_SLOT_TEXT 23
typedef struct bise_vocab_slot {
    uint32_t hash, id;       /* id + 1, 0 = free */
    uint8_t len;             /* 255: longer than the row, see the piece */
    char text[BISE_SLOT_TEXT];
} bise_vocab_slot;

/* How a SentencePiece-style text begins. */
typedef enum {
    BISE_PREFIX_NONE,
    BISE_PREFIX_ALWAYS,      /* a blank before every text */
    BISE_PREFIX_UNLESS_BLANK /* Metaspace "first": not before a blank */
} bise_prefix;

struct bise_tokenizer {
    bise_tokenizer_kind kind;
    int version;
    int32_t n, bos, eos, unk, pad;
    bool ignore_merges;      /* a chunk that is a token is that token */
    bool byte_fallback;      /* unknown characters become byte pieces */
    bool fuse_unknown;       /* a run of unknown characters is one unk */
    bool trim_blanks;        /* SPM: collapse runs of blanks */
    bise_prefix prefix;
    bise_piece *pieces;      /* [n] */
    bise_vocab_slot *slots;  /* pieces found in text, by hash */
    uint32_t slot_mask;
    bise_strmap specials;    /* names of control and unknown pieces */
    int32_t byte_id[256];
    bise_merges merges;
    bise_merge_to *byte_pairs; /* [65536] merges of two bytes, or NULL */
    int32_t (*merge_list)[2]; /* as in the file, NULL for tekken */
    size_t n_merges;
    bise_split *split;       /* byte-level kinds */
    struct bise_spm *spm;    /* SentencePiece kinds */
    uint32_t special_max;    /* longest name of a special token */
    uint32_t user_max;       /* longest user-defined piece, 0 when none */
    bool first_special[256], first_user[256]; /* their first bytes */
    char *pattern;
    bise_json *rules;        /* model settings of v15, or NULL */
    char source[64], digest[65];
    bise_arena arena;
};

/* Name the field whose regular expression bise_split_new refused; other
 * failures stay as they are. */
bise_status bise_vocab_pattern_status(bise_status s, const char *field,
                                      bise_error *err);

/* 32-bit hash of a short byte string. */
uint32_t bise_hash_bytes(const char *s, size_t n);

/* memcmp(a, b, n) == 0 for short strings, inline: loads that overlap. */
static inline bool bise_same_bytes(const char *a, const char *b, size_t n)
{
    uint64_t x, y;
    uint32_t p, q;
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8) {
            memcpy(&x, a + i, 8);
            memcpy(&y, b + i, 8);
            if (x != y)
                return false;
        }
        memcpy(&x, a + n - 8, 8);
        memcpy(&y, b + n - 8, 8);
        return x == y;
    }
    if (n >= 4) {
        memcpy(&p, a, 4);
        memcpy(&q, b, 4);
        if (p != q)
            return false;
        memcpy(&p, a + n - 4, 4);
        memcpy(&q, b + n - 4, 4);
        return p == q;
    }
    return n == 0 || (a[0] == b[0] && a[n >> 1] == b[n >> 1] &&
                      a[n - 1] == b[n - 1]);
}

/* A tokenizer with room for n pieces; name is what it is read from. */
BISE_NODISCARD bise_status bise_vocab_new(bise_tokenizer **out,
                                          bise_tokenizer_kind kind, int64_t n,
                                          const char *name, bise_error *err);
/* Set piece id (below n); the text is copied. */
BISE_NODISCARD bise_status bise_vocab_set(bise_tokenizer *t, int32_t id,
                                          const char *text, size_t len,
                                          bise_piece_type type, float score,
                                          bise_error *err);
/* Build the byte map and the map of special names; unset pieces become
 * unused. Pieces that occur twice are an error when unique is set, else the
 * first one counts. */
BISE_NODISCARD bise_status bise_vocab_index(bise_tokenizer *t, bool unique,
                                            bise_error *err);
/* Id of a piece found in text, -1 when there is none. */
int32_t bise_vocab_find(const bise_tokenizer *t, const char *text, size_t n,
                        uint32_t hash);
/* Longest user-defined piece that s (n > 0 bytes) starts with and its length;
 * -1 when there is none. */
int32_t bise_vocab_user(const bise_tokenizer *t, const char *s, size_t n,
                        size_t *len);
/* All merges that a list of ranked tokens implies, into t->merges: every
 * split of a token into two. rank[id] orders them, equal ranks from the left;
 * UINT32_MAX is not merged into. */
BISE_NODISCARD bise_status bise_vocab_derive(bise_tokenizer *t,
                                             const uint32_t *rank,
                                             bise_error *err);
/* Take a list of merges (pairs of ids, best first; the arena's memory). */
BISE_NODISCARD bise_status bise_vocab_merges(bise_tokenizer *t,
                                             int32_t (*list)[2], size_t n,
                                             bise_error *err);
/* Call fn for every split of a token into two, as the merges that vocabulary
 * implies, best first. With ranks these come in the order of the ids, of one
 * token by (left, right); with scores by falling score and, of one token, by
 * the length of the left part (as transformers derives both). */
typedef void bise_merge_fn(void *ctx, int32_t left, int32_t right);
BISE_NODISCARD bise_status bise_vocab_each_split(const bise_tokenizer *t,
                                                 bise_merge_fn *fn, void *ctx,
                                                 bise_error *err);
/* The same for every merge: those of the file where it lists them. */
BISE_NODISCARD bise_status bise_vocab_each_merge(const bise_tokenizer *t,
                                                 bise_merge_fn *fn, void *ctx,
                                                 bise_error *err);
/* Scores [n] of a SentencePiece kind: those of the file, or from its merges. */
void bise_vocab_scores(const bise_tokenizer *t, float *scores);
/* Last step of a reader: special ids, what decoding shows, the digest. */
BISE_NODISCARD bise_status bise_vocab_finish(bise_tokenizer *t,
                                             bise_error *err);

/* The GPT-2 byte alphabet: a visible character for each byte. Append the
 * spelling of raw bytes; undo it (false when a character is not of it). */
void bise_bytelevel_spell(bise_str *out, const char *raw, size_t n);
bool bise_bytelevel_read(bise_str *out, const char *text, size_t n);

/* Readers. name is for messages. */
BISE_NODISCARD bise_status bise_tekken_parse(bise_tokenizer **out,
                                             const char *name,
                                             const bise_json *root,
                                             bise_error *err);
BISE_NODISCARD bise_status bise_hf_parse(bise_tokenizer **out,
                                         const char *name,
                                         const bise_json *root,
                                         bise_error *err);
BISE_NODISCARD bise_status bise_spm_parse(bise_tokenizer **out,
                                          const char *name, const void *data,
                                          size_t n, bise_error *err);
BISE_NODISCARD bise_status bise_gguf_vocab(bise_tokenizer **out,
                                           const char *name,
                                           const bise_gguf_meta *m,
                                           bise_error *err);

/* The Tekken split pattern (mistral3.md 4.2). */
extern const char bise_tekken_pattern[];

/* spm.c: tables of the SentencePiece encoder; encode a text. */
BISE_NODISCARD bise_status bise_spm_prepare(bise_tokenizer *t,
                                            bise_error *err);
void bise_spm_release(bise_tokenizer *t);
BISE_NODISCARD bise_status bise_spm_encode(const bise_tokenizer *t,
                                           const char *text, size_t n,
                                           bool prefix, bise_ids *out,
                                           bise_error *err);

#endif
