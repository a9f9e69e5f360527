/* fuzz_tokenizer.h - what the fuzz targets of the tokenizer readers share: any
 * bytes as a tokenizer file. What is read must encode, decode and export
 * without a fault, with ids in range; what is refused must say why.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TESTS_FUZZ_TOKENIZER_H
#define BISE_TESTS_FUZZ_TOKENIZER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/gguf.h"
#include "text/chat.h"
#include "text/tokenizer.h"

/* Encode a text; all ids must be ids, and decoding must take them. */
static inline void fuzz_encode(const bise_tokenizer *t, const char *text,
                               size_t n, unsigned flags)
{
    bise_error err;
    bise_ids ids = { 0 };
    bise_str out = { 0 };
    bise_error_init(&err);
    if (bise_tokenizer_encode(t, text, n, flags, &ids, &err) == BISE_OK) {
        for (size_t i = 0; i < ids.n; i++)
            if (ids.v[i] < 0 || ids.v[i] >= bise_tokenizer_vocab(t))
                abort();
        if (bise_tokenizer_decode(t, ids.v, ids.n, true, &out, &err) !=
            BISE_OK)
            abort();
    } else if (!err.text[0]) {
        abort();
    }
    bise_str_fini(&out);
    bise_ids_fini(&ids);
}

/* Write a tokenizer for another tool: done and read back, or a reason. A
 * SentencePiece vocabulary without bytes is one for Hugging Face's reader, not
 * for ours. */
static inline void fuzz_write(const bise_tokenizer *t, const char *name,
                              bise_status (*write)(const bise_tokenizer *t,
                                                   bise_str *out,
                                                   bise_error *err))
{
    bise_error err;
    bise_str text = { 0 };
    bise_tokenizer *back = NULL;
    bise_error_init(&err);
    bise_status s = write(t, &text, &err);
    if (s != BISE_OK && !err.text[0])
        abort();
    if (s == BISE_OK)
        s = bise_tokenizer_parse(&back, name, bise_str_get(&text), text.len,
                                 &err);
    if (s != BISE_OK && s != BISE_EUNSUPPORTED) {
        fprintf(stderr, "%s: %s\n", name, err.text);
        abort();
    }
    bise_tokenizer_free(back);
    bise_str_fini(&text);
}

/* Use a tokenizer in every way, on fixed texts and on the input itself. */
static inline void fuzz_use(const bise_tokenizer *t, const uint8_t *data,
                            size_t size)
{
    static const char text[] = "Hello  [INST] wor\xc3\xa9ld\n\n 42 \xff "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    bise_error err;
    bise_gguf_meta meta = { 0 };
    const bise_chat *chat;
    const size_t n = size < 512 ? size : 512;
    fuzz_encode(t, text, sizeof text - 1, BISE_TOK_BOS | BISE_TOK_EOS);
    fuzz_encode(t, text, sizeof text - 1, BISE_TOK_PARSE_SPECIAL);
    fuzz_encode(t, (const char *)data, n, 0);
    bise_error_init(&err);
    if (bise_chat_for(&chat, t, NULL, &err) != BISE_OK && !err.text[0])
        abort();
    bise_error_init(&err);
    if (bise_tokenizer_to_gguf(t, bise_tokenizer_vocab(t), &meta, &err) !=
        BISE_OK && !err.text[0])
        abort();
    bise_gguf_meta_fini(&meta);
    fuzz_write(t, "tokenizer.json", bise_tokenizer_to_hf);
    fuzz_write(t, "tekken.json", bise_tokenizer_to_tekken);
    fuzz_write(t, "tokenizer.model", bise_tokenizer_to_spm);
    if (strlen(bise_tokenizer_digest(t)) != 64)
        abort();
}

/* The body of the targets. */
static inline int fuzz_parse(const char *name, const uint8_t *data,
                             size_t size)
{
    bise_error err;
    bise_tokenizer *t = NULL;
    bise_error_init(&err);
    if (bise_tokenizer_parse(&t, name, data, size, &err) != BISE_OK) {
        if (!err.text[0] || t)
            abort();
        return 0;
    }
    fuzz_use(t, data, size);
    bise_tokenizer_free(t);
    return 0;
}

#endif
