/* tokenizer.h - text to token ids and back, for tekken.json (rank BPE),
 * byte-level BPE and SentencePiece-style tokenizer.json, SentencePiece model
 * files, and vocabularies inside GGUF, behind one object. Special tokens are
 * never produced from text unless BISE_TOK_PARSE_SPECIAL is given.
 * The object is read-only after loading and may be shared by threads.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TEXT_TOKENIZER_H
#define BISE_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/progress.h"
#include "core/str.h"
#include "formats/gguf.h"
#include "formats/store.h"

typedef struct bise_tokenizer bise_tokenizer;

/* A growable list of ids. Zero-initialise, release with bise_ids_fini. */
typedef struct bise_ids {
    int32_t *v;
    size_t n, cap;
} bise_ids;

BISE_NODISCARD int bise_ids_push(bise_ids *ids, int32_t id);
void bise_ids_fini(bise_ids *ids);

enum {
    BISE_TOK_BOS = 1,           /* put BOS first */
    BISE_TOK_EOS = 2,           /* put EOS last */
    BISE_TOK_PARSE_SPECIAL = 4, /* recognize special tokens in the text */
    BISE_TOK_PLAIN_SPM = 8      /* no dummy prefix (continuation of a text) */
};

typedef enum { BISE_TOKENIZER_TEKKEN, BISE_TOKENIZER_BPE,
               BISE_TOKENIZER_SPM } bise_tokenizer_kind;

/* Open the tokenizer of a model store: tekken.json wins over a SentencePiece
 * model file (tokenizer.model*), that over tokenizer.json; GGUF uses its own
 * vocabulary. Disagreement between files is reported through
 * progress->message; with a NULL progress the others are not read. */
BISE_NODISCARD bise_status bise_tokenizer_open(bise_tokenizer **out,
                                               bise_store *store,
                                               const bise_progress *progress,
                                               bise_error *err);
/* Open a tokenizer file by content: tekken.json, tokenizer.json, a
 * SentencePiece model, or a GGUF. */
BISE_NODISCARD bise_status bise_tokenizer_load(bise_tokenizer **out,
                                               const char *path,
                                               bise_error *err);
/* From an image in memory; name selects nothing, it is for messages. */
BISE_NODISCARD bise_status bise_tokenizer_parse(bise_tokenizer **out,
                                                const char *name,
                                                const void *data, size_t n,
                                                bise_error *err);
void bise_tokenizer_free(bise_tokenizer *t);

/* Append the ids of text (n bytes; invalid UTF-8 is replaced by U+FFFD). */
BISE_NODISCARD bise_status bise_tokenizer_encode(const bise_tokenizer *t,
                                                 const char *text, size_t n,
                                                 unsigned flags, bise_ids *out,
                                                 bise_error *err);
/* Append the bytes of ids; special tokens are skipped unless show_special.
 * What was encoded comes back, but for what was replaced and, of SentencePiece
 * kinds, U+2581, which is a space then (and blanks where the file trims). */
BISE_NODISCARD bise_status bise_tokenizer_decode(const bise_tokenizer *t,
                                                 const int32_t *ids, size_t n,
                                                 bool show_special,
                                                 bise_str *out,
                                                 bise_error *err);
/* Bytes of one token as decode would append them in the middle of a text;
 * "" for special tokens. Borrowed. */
const char *bise_tokenizer_piece(const bise_tokenizer *t, int32_t id,
                                 size_t *n);
/* Id of a special token by its string, -1 when absent; and its string (NULL
 * when id is not special). */
int32_t bise_tokenizer_special(const bise_tokenizer *t, const char *name);
const char *bise_tokenizer_special_name(const bise_tokenizer *t, int32_t id);

/* Length of the part of text before its first invalid UTF-8; append text with
 * every mistake replaced by U+FFFD as Python's errors="replace" does. */
size_t bise_utf8_valid(const char *text, size_t n);
void bise_utf8_repair(bise_str *out, const char *text, size_t n);

bise_tokenizer_kind bise_tokenizer_kind_of(const bise_tokenizer *t);
/* 1, 2, 3, 7, 11, 13, 15; 0 when the file does not tell. */
int bise_tokenizer_version(const bise_tokenizer *t);
int32_t bise_tokenizer_vocab(const bise_tokenizer *t); /* number of ids */
/* BISE_EFORMAT when there are more ids than rows of the embedding. */
BISE_NODISCARD bise_status bise_tokenizer_fits(const bise_tokenizer *t,
                                               int32_t rows,
                                               bise_error *err);
int32_t bise_tokenizer_bos(const bise_tokenizer *t);   /* -1 when none */
int32_t bise_tokenizer_eos(const bise_tokenizer *t);
int32_t bise_tokenizer_unk(const bise_tokenizer *t);
int32_t bise_tokenizer_pad(const bise_tokenizer *t);
/* v15: "model_settings_builder" of tekken.json, NULL when there is none.
 * Borrowed. */
const bise_json *bise_tokenizer_rules(const bise_tokenizer *t);
/* "tekken.json", "tokenizer.json", ... what it was read from. */
const char *bise_tokenizer_source(const bise_tokenizer *t);
/* sha256 of what defines the ids, for cache keys: 64 hex digits. */
const char *bise_tokenizer_digest(const bise_tokenizer *t);
/* Write the tokenizer.ggml.* keys of gguf.md / mistral3.md 6.4, padded with
 * unused control tokens up to vocab ids. */
BISE_NODISCARD bise_status bise_tokenizer_to_gguf(const bise_tokenizer *t,
                                                  int32_t vocab,
                                                  bise_gguf_meta *m,
                                                  bise_error *err);
/* Append the tokenizer as another tool's file. BISE_EUNSUPPORTED with the
 * reason when it cannot be one: the pieces of err->text read on after
 * "NAME cannot be written: ". What out holds then is of no use.
 *   _hf      tokenizer.json of Hugging Face's tokenizers; every kind
 *   _tekken  tekken.json; byte-level kinds with Mistral's order of ids
 *   _spm     a SentencePiece model of type BPE; SentencePiece kinds */
BISE_NODISCARD bise_status bise_tokenizer_to_hf(const bise_tokenizer *t,
                                                bise_str *out,
                                                bise_error *err);
BISE_NODISCARD bise_status bise_tokenizer_to_tekken(const bise_tokenizer *t,
                                                    bise_str *out,
                                                    bise_error *err);
BISE_NODISCARD bise_status bise_tokenizer_to_spm(const bise_tokenizer *t,
                                                 bise_str *out,
                                                 bise_error *err);

#endif
