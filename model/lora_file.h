/* lora_file.h - an adapter's file, opened: which of the four formats it has
 * (lora.md 2 and 3, gguf.md 9), its settings, and its tensors recognized as
 * parts of modules, sorted by module. What they mean together is the business
 * of lora_load.c. Not for others.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_MODEL_LORA_FILE_H
#define BISE_MODEL_LORA_FILE_H

#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/source.h"
#include "model/lora.h"

typedef enum {
    BISE_LORA_PEFT, BISE_LORA_GGUF, BISE_LORA_NATIVE, BISE_LORA_MLX
} bise_lora_format;

/* A, B, DoRA's magnitude, a whole tensor of modules_to_save. */
typedef enum {
    BISE_PART_A, BISE_PART_B, BISE_PART_M, BISE_PART_SAVED, BISE_PART_NONE
} bise_part_kind;

/* One tensor of the file, recognized. */
typedef struct bise_lora_part {
    bise_role role;
    bise_part_kind kind;
    const bise_tensor *t;
    int32_t slice;     /* of a stack of experts, else -1 */
} bise_lora_part;

/* An opened adapter file. */
typedef struct bise_lora_file {
    bise_lora_format format;
    const char *name;  /* of the format */
    bool transposed;   /* A is [in, r], B is [r, out] */
    bool interleaved;  /* rows of B of q and k pair 2i and 2i+1 */
    bise_st st;
    bise_gguf gguf;
    bool is_gguf;
    bise_json *config; /* adapter_config.json or params.json, may be NULL */
    bise_json *peft;   /* PEFT's settings: config, or the copy that bise puts
                          into the other formats; may be NULL */
    const bise_tensor *tensors;
    size_t n_tensors;
    bise_lora_part *parts;
    size_t n_parts;
    char *file;        /* of the tensors, for errors */
    bise_source *packed; /* the archive they are in, or NULL, */
    bise_image image;    /* and the unpacked file */
    const bise_config *base;
} bise_lora_file;

/* Open the adapter at path (a directory, a file, an archive) into a zeroed s,
 * of which only base may be set. Close it also after a failure. */
BISE_NODISCARD bise_status bise_lora_file_open(bise_lora_file *s,
                                               const char *path,
                                               bise_error *err);
/* Path of a file in the folder of the tensors, or of the archive they are in.
 * To free; NULL when out of memory. */
char *bise_lora_file_beside(const bise_lora_file *s, const char *name);
/* Release everything; tensors and parts are gone after it. */
void bise_lora_file_close(bise_lora_file *s);
/* Tensors to parts, sorted by layer, kind and expert, A before B before M. One
 * that is no part of a Mistral model's adapter is an error. Notes in l whether
 * names were of a wrapper's class, and the type of the values. */
BISE_NODISCARD bise_status bise_lora_file_parts(bise_lora_file *s,
                                                bise_lora *l,
                                                bise_error *err);
/* Complete an error with the file and the tensor in it. */
bise_status bise_lora_file_in(const bise_lora_file *s, const bise_tensor *t,
                              bise_error *err);

#endif
