/* spm_writer.h - SentencePiece model files for tests, written byte by byte:
 * the few protobuf fields that the reader knows (text/spm_model.proto), right
 * or wrong as the test wants them. Included by check_spm and the fuzz seeds.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_TESTS_SPM_WRITER_H
#define BISE_TESTS_SPM_WRITER_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/bytes.h"
#include "core/str.h"

/* Base 128, low groups first. */
static inline void spm_varint(bise_str *out, uint64_t v)
{
    while (v >= 0x80) {
        bise_str_putc(out, (char)(v | 0x80));
        v >>= 7;
    }
    bise_str_putc(out, (char)v);
}

/* A whole number: field << 3 | 0, then the value (negative as 64 bits). */
static inline void spm_int(bise_str *out, int field, int64_t v)
{
    spm_varint(out, (uint64_t)field << 3);
    spm_varint(out, (uint64_t)v);
}

/* A float: field << 3 | 5, then four bytes. */
static inline void spm_float(bise_str *out, int field, float v)
{
    uint8_t raw[4];
    spm_varint(out, (uint64_t)field << 3 | 5);
    bise_store_le32(raw, bise_f32_bits(v));
    bise_str_add(out, raw, sizeof raw);
}

/* Bytes or a message: field << 3 | 2, the length, the bytes. */
static inline void spm_bytes(bise_str *out, int field, const void *s, size_t n)
{
    spm_varint(out, (uint64_t)field << 3 | 2);
    spm_varint(out, n);
    bise_str_add(out, s, n);
}

/* One piece of the model. Type 0 leaves the field out (it means normal). */
static inline void spm_piece(bise_str *out, const char *text, float score,
                             int type)
{
    bise_str piece = { 0 };
    spm_bytes(&piece, 1, text, strlen(text));
    spm_float(&piece, 2, score);
    if (type)
        spm_int(&piece, 3, type);
    spm_bytes(out, 1, piece.data, piece.len);
    bise_str_fini(&piece);
}

/* The options of a model; zero means what Mistral's files have. */
typedef struct spm_options {
    int model_type;         /* 0: 2, BPE */
    bool no_bytes, no_prefix, trims, suffix, no_escape, charmap;
    bool no_trainer;
} spm_options;

/* Append trainer_spec and normalizer_spec. */
static inline void spm_specs(bise_str *out, const spm_options *o)
{
    bise_str s = { 0 };
    spm_int(&s, 3, o->model_type ? o->model_type : 2);
    if (o->suffix)
        spm_int(&s, 24, 1);
    spm_int(&s, 35, !o->no_bytes);
    spm_int(&s, 40, 0);
    spm_int(&s, 41, 1);
    spm_int(&s, 42, 2);
    spm_int(&s, 43, -1);
    if (!o->no_trainer)
        spm_bytes(out, 2, s.data, s.len);
    bise_str_clear(&s);
    if (o->charmap)
        spm_bytes(&s, 2, "map", 3);
    spm_int(&s, 3, !o->no_prefix);
    spm_int(&s, 4, o->trims);
    spm_int(&s, 5, !o->no_escape);
    spm_bytes(out, 3, s.data, s.len);
    bise_str_fini(&s);
}

/* <unk> <s> </s> and, unless there are none, the 256 bytes: ids 3 to 258. */
static inline void spm_begin(bise_str *out, bool bytes)
{
    spm_piece(out, "<unk>", 0, 2);
    spm_piece(out, "<s>", 0, 3);
    spm_piece(out, "</s>", 0, 3);
    for (int b = 0; bytes && b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        spm_piece(out, name, 0, 6);
    }
}

#endif
