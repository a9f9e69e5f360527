/* spm_model.c - reader of SentencePiece model files (protobuf, mistral3.md
 * 4.4): pieces with scores and types, and the few options that decide about
 * ids. Only what Mistral's files use is accepted: BPE, no character map.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "text/spm_model.pb-c.h"
#include "text/vocab.h"

/* protobuf-c allocates through us, so that tests can make it fail. Zeroing
 * is not needed here but does no harm. */
static void *pb_alloc(void *unused, size_t n)
{
    (void)unused;
    return bise_alloc(n);
}

/* The other half of the allocator. */
static void pb_free(void *unused, void *p)
{
    (void)unused;
    bise_free(p);
}

/* A character map (NFKC and the like) or a suffix mark would change ids in
 * ways this reader does not know, so they are named and refused. */
static bise_status check_options(const Bise__Spm__Model *m, bise_error *err)
{
    const Bise__Spm__TrainerSpec *tr = m->trainer;
    const Bise__Spm__NormalizerSpec *no = m->normalizer;
    if (!m->n_pieces)
        return bise_fail(err, BISE_EFORMAT, "not a tokenizer file: neither "
                         "JSON nor a SentencePiece model with 'pieces'");
    if (!tr || tr->model_type != 2)
        return bise_fail(err, BISE_EUNSUPPORTED, "field "
                         "'trainer_spec.model_type' is %d, must be 2 (BPE)",
                         tr ? tr->model_type : 1);
    if (tr->treat_whitespace_as_suffix)
        return bise_fail(err, BISE_EUNSUPPORTED, "field 'trainer_spec."
                         "treat_whitespace_as_suffix' is not supported");
    if (no && no->precompiled_charsmap.len)
        return bise_fail(err, BISE_EUNSUPPORTED, "field 'normalizer_spec."
                         "precompiled_charsmap' is not empty");
    if (no && !no->escape_whitespaces)
        return bise_fail(err, BISE_EUNSUPPORTED, "field 'normalizer_spec."
                         "escape_whitespaces' is false");
    return BISE_OK;
}

/* Pieces in the order of their ids. Their texts must have no NUL: names are
 * handled as C strings further on. */
static bise_status read_pieces(bise_tokenizer *t, const Bise__Spm__Model *m,
                               bise_error *err)
{
    for (size_t i = 0; i < m->n_pieces; i++) {
        const Bise__Spm__Piece *p = m->pieces[i];
        if (!p->piece.len || memchr(p->piece.data, 0, p->piece.len))
            return bise_fail(err, BISE_EFORMAT, "field 'pieces[%zu].piece' is "
                             "missing or not a text", i);
        if (p->type < BISE_PIECE_NORMAL || p->type > BISE_PIECE_BYTE)
            return bise_fail(err, BISE_EFORMAT, "field 'pieces[%zu].type' is "
                             "%d, 1 to 6 allowed", i, p->type);
        const bise_status s = bise_vocab_set(
            t, (int32_t)i, (const char *)p->piece.data, p->piece.len,
            (bise_piece_type)p->type, p->score, err);
        if (s != BISE_OK)
            return s;
    }
    return BISE_OK;
}

/* An id of the trainer's options, -1 when it is none of the file's. */
static int32_t id_in(const bise_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n ? id : -1;
}

/* Which of Mistral's versions it is: each added control tokens. File names
 * tell it as well, but files are renamed. */
static int tell_version(const bise_tokenizer *t)
{
    if (bise_tokenizer_special(t, "[SYSTEM_PROMPT]") >= 0)
        return 7;
    if (bise_tokenizer_special(t, "[PREFIX]") >= 0)
        return 3;
    return bise_tokenizer_special(t, "[INST]") >= 0 ? 2 : 1;
}

/* From the message to the tokenizer: options, pieces, maps. Defaults are
 * those of SentencePiece where a message is absent. */
static bise_status build(bise_tokenizer *t, const Bise__Spm__Model *m,
                         bise_error *err)
{
    const Bise__Spm__NormalizerSpec *no = m->normalizer;
    t->byte_fallback = m->trainer->byte_fallback;
    t->fuse_unknown = true;
    t->prefix = !no || no->add_dummy_prefix ? BISE_PREFIX_ALWAYS
                                            : BISE_PREFIX_NONE;
    t->trim_blanks = !no || no->remove_extra_whitespaces;
    bise_status s = read_pieces(t, m, err);
    t->bos = id_in(t, m->trainer->bos_id);
    t->eos = id_in(t, m->trainer->eos_id);
    t->unk = id_in(t, m->trainer->unk_id);
    t->pad = id_in(t, m->trainer->pad_id);
    if (s == BISE_OK)
        s = bise_vocab_index(t, true, err);
    if (s == BISE_OK)
        t->version = tell_version(t);
    return s == BISE_OK ? bise_vocab_finish(t, err) : s;
}

/* The unpacked message holds copies of all pieces; it is gone before the
 * caller gets the tokenizer. */
bise_status bise_spm_parse(bise_tokenizer **out, const char *name,
                           const void *data, size_t n, bise_error *err)
{
    ProtobufCAllocator alloc = { pb_alloc, pb_free, NULL };
    Bise__Spm__Model *m = bise__spm__model__unpack(&alloc, n, data);
    bise_tokenizer *t = NULL;
    if (!m)
        return bise_fail(err, BISE_EFORMAT, "not a tokenizer file: neither "
                         "JSON nor a SentencePiece model");
    bise_status s = check_options(m, err);
    if (s == BISE_OK)
        s = bise_vocab_new(&t, BISE_TOKENIZER_SPM, (int64_t)m->n_pieces, name,
                           err);
    if (s == BISE_OK)
        s = build(t, m, err);
    bise__spm__model__free_unpacked(m, &alloc);
    if (s != BISE_OK) {
        bise_tokenizer_free(t);
        return s;
    }
    *out = t;
    return BISE_OK;
}
