/* lora_file.c - see lora_file.h. The formats differ in names, orientation, row
 * order and in how the scale is said; a row of `formats` below holds the names
 * and the orders.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "model/lora_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "formats/archive.h"
#include "model/family.h"
#include "model/peft.h"

/* A tensor name ends in one of these. */
typedef struct suffix {
    const char *text;
    bise_part_kind kind;
} suffix;

static const suffix peft_suffixes[] = {
    { ".lora_A.weight", BISE_PART_A }, { ".lora_B.weight", BISE_PART_B },
    { ".lora_A.default.weight", BISE_PART_A },
    { ".lora_B.default.weight", BISE_PART_B },
    { ".lora_magnitude_vector", BISE_PART_M },
    { ".lora_magnitude_vector.weight", BISE_PART_M },
    { ".lora_magnitude_vector.default.weight", BISE_PART_M },
    { ".modules_to_save.weight", BISE_PART_SAVED },
    { ".modules_to_save.default.weight", BISE_PART_SAVED },
    { ".weight", BISE_PART_SAVED }, { NULL, BISE_PART_NONE } };
static const suffix gguf_suffixes[] = {
    { ".weight.lora_a", BISE_PART_A }, { ".weight.lora_b", BISE_PART_B },
    { NULL, BISE_PART_NONE } };
static const suffix native_suffixes[] = {
    { ".lora_A.weight", BISE_PART_A }, { ".lora_B.weight", BISE_PART_B },
    { NULL, BISE_PART_NONE } };
static const suffix mlx_suffixes[] = {
    { ".lora_a", BISE_PART_A }, { ".lora_b", BISE_PART_B },
    { ".m", BISE_PART_M },
    { NULL, BISE_PART_NONE } };

static const struct {
    const char *name;
    const suffix *suffixes;
    bool transposed;   /* A is [in, r], B is [r, out] */
    bool interleaved;  /* rows of B of q and k pair 2i and 2i+1 */
} formats[] = {
    [BISE_LORA_PEFT] = { "peft", peft_suffixes, false, false },
    [BISE_LORA_GGUF] = { "gguf", gguf_suffixes, false, true },
    [BISE_LORA_NATIVE] = { "native", native_suffixes, false, true },
    [BISE_LORA_MLX] = { "mlx", mlx_suffixes, true, false },
};

/* After this the values live in the adapter only. */
void bise_lora_file_close(bise_lora_file *s)
{
    if (s->is_gguf)
        bise_gguf_close(&s->gguf);
    else
        bise_st_close(&s->st);
    if (s->packed && s->image.data)
        bise_source_drop(s->packed, &s->image);
    bise_source_close(s->packed);
    bise_json_free(s->config);
    bise_json_free(s->peft);
    bise_free(s->parts);
    bise_free(s->file);
}

/* Layout of a safetensors file by its tensor names. */
static bise_lora_format guess(const bise_st *st)
{
    for (size_t i = 0; i < st->n_tensors; i++) {
        const char *n = st->tensors[i].name;
        if (bise_ends_with(n, ".lora_a"))
            return BISE_LORA_MLX;
        if (bise_starts_with(n, "layers.") &&
            (strstr(n, ".attention.w") || strstr(n, ".feed_forward.w")))
            return BISE_LORA_NATIVE;
    }
    return BISE_LORA_PEFT;
}

/* By content: adapters are often named .bin. */
static bool is_gguf_file(const char *path)
{
    char magic[4] = { 0 };
    FILE *f = fopen(path, "rb");
    const bool ok = f && fread(magic, 1, 4, f) == 4 &&
                    memcmp(magic, "GGUF", 4) == 0;
    if (f)
        fclose(f);
    return ok;
}

/* Names of the file of tensors in a directory. */
static const char *const names[] = { "adapter_model.safetensors",
                                     "adapters.safetensors",
                                     "lora.safetensors" };

/* The file of tensors inside a directory, or the path itself. */
static char *find_file(const char *path)
{
    if (!bise_is_dir(path))
        return bise_strdup(path);
    for (size_t i = 0; i < 3; i++) {
        char *f = bise_path_join(path, names[i]);
        if (f && bise_file_exists(f))
            return f;
        bise_free(f);
    }
    return bise_strdup(path);
}

char *bise_lora_file_beside(const bise_lora_file *s, const char *name)
{
    const size_t dir = strlen(s->file) - strlen(bise_path_base(s->file));
    char *head = bise_strndup(s->file, dir);
    char *path = head ? bise_path_join(dir ? head : ".", name) : NULL;
    bise_free(head);
    return path;
}

/* The settings beside the tensors: required for PEFT and mlx, whose scale
 * would be a guess without them. */
static bise_status load_settings(bise_lora_file *s, bise_error *err)
{
    const char *name = s->format == BISE_LORA_NATIVE ? "params.json"
                                           : "adapter_config.json";
    if (s->packed && bise_source_has(s->packed, name)) {
        bise_str text = { 0 };
        bise_status r = bise_source_read(s->packed, name, &text, err);
        if (r == BISE_OK)
            r = bise_json_parse(&s->config, bise_str_get(&text), text.len,
                                err);
        bise_str_fini(&text);
        return r;
    }
    char *path = bise_lora_file_beside(s, name);
    bise_status st = path ? BISE_OK : bise_fail_nomem(err);
    /* What lies beside an archive is not of the adapter in it. */
    if (st == BISE_OK && !s->packed && bise_file_exists(path)) {
        st = bise_json_load(&s->config, path, err);
    } else if (st == BISE_OK && s->format != BISE_LORA_NATIVE) {
        err->status = bise_fail(err, BISE_EFORMAT, "the adapter has no %s, its "
                                "scale is unknown", name);
        st = bise_error_in(err, path, NULL);
    }
    bise_free(path);
    return st;
}

/* The file of tensors in an archive: by name, else the first of its kind. */
static const char *find_packed(const bise_source *p)
{
    for (size_t i = 0; i < 3; i++)
        if (bise_source_has(p, names[i]))
            return names[i];
    for (size_t i = 0; i < p->n_names; i++)
        if (bise_ends_with(p->names[i], ".gguf") ||
            bise_ends_with(p->names[i], ".safetensors"))
            return p->names[i];
    return NULL;
}

/* Of an archive the file is unpacked into memory: adapters are small. */
static bise_status open_packed(bise_lora_file *s, bise_error *err)
{
    bise_status st = bise_archive_source(&s->packed, s->file, err);
    const char *name = st == BISE_OK ? find_packed(s->packed) : NULL;
    if (st == BISE_OK && !name)
        st = bise_fail(err, BISE_EFORMAT, "there is no adapter in '%s'",
                       s->file);
    if (st == BISE_OK)
        st = bise_source_image(s->packed, name, &s->image, err);
    if (st == BISE_OK && s->image.size)
        st = bise_source_need(s->packed, &s->image, 0, s->image.size, err);
    if (st != BISE_OK)
        return st;
    const bise_image *m = &s->image;
    s->is_gguf = m->size >= 4 && memcmp(m->data, "GGUF", 4) == 0;
    st = s->is_gguf ? bise_gguf_parse(&s->gguf, m->data, m->size, err)
                    : bise_st_parse(&s->st, m->data, m->size, err);
    return st == BISE_OK ? st : bise_error_in(err, s->file, NULL);
}

/* A file on disk, which is mapped. */
static bise_status open_mapped(bise_lora_file *s, bise_error *err)
{
    s->is_gguf = is_gguf_file(s->file);
    return s->is_gguf ? bise_gguf_open(&s->gguf, s->file, err)
                      : bise_st_open(&s->st, s->file, err);
}

/* Find the tensor file, tell its format by content, read its settings. */
bise_status bise_lora_file_open(bise_lora_file *s, const char *path,
                                bise_error *err)
{
    s->file = find_file(path);
    if (!s->file)
        return bise_fail_nomem(err);
    if (bise_is_dir(s->file)) {
        err->status = bise_fail(err, BISE_EFORMAT, "there is no adapter in "
                                "'%s'", path);
        return bise_error_hint(err, "expected adapter_model.safetensors, "
                               "adapters.safetensors or lora.safetensors");
    }
    const bise_status st = bise_archive_probe(s->file) ? open_packed(s, err)
                                                       : open_mapped(s, err);
    if (st != BISE_OK)
        return st;
    s->tensors = s->is_gguf ? s->gguf.tensors : s->st.tensors;
    s->n_tensors = s->is_gguf ? s->gguf.n_tensors : s->st.n_tensors;
    s->format = s->is_gguf ? BISE_LORA_GGUF : guess(&s->st);
    s->name = formats[s->format].name;
    s->transposed = formats[s->format].transposed;
    s->interleaved = formats[s->format].interleaved;
    return s->is_gguf ? BISE_OK : load_settings(s, err);
}

/* PEFT and mlx have paths of modules; native and GGUF names lack only the
 * ".weight" that roles.def has. */
static bise_role role_of_path(const bise_lora_file *s, const char *path,
                              bool *wrapper)
{
    char name[256];
    if (s->format == BISE_LORA_PEFT || s->format == BISE_LORA_MLX)
        return bise_peft_role(path, wrapper);
    snprintf(name, sizeof name, "%.240s.weight", path);
    return bise_role_of(name, s->format == BISE_LORA_GGUF ? BISE_NAMES_GGUF
                                                : BISE_NAMES_NATIVE);
}

/* Recognize one tensor; PART_NONE when the name is none of an adapter. */
static bise_lora_part read_name(const bise_lora_file *s, const bise_tensor *t,
                                bool *wrapper)
{
    bise_lora_part p = { { BISE_ROLE_COUNT, -1, -1 }, BISE_PART_NONE, t, -1 };
    char path[256];
    for (const suffix *x = formats[s->format].suffixes; x->text; x++) {
        if (!bise_ends_with(t->name, x->text))
            continue;
        const size_t n = strlen(t->name) - strlen(x->text);
        if (n >= sizeof path)
            return p;
        snprintf(path, sizeof path, "%.*s", (int)n, t->name);
        p.kind = x->kind;
        p.role = role_of_path(s, path, wrapper);
        return p;
    }
    return p;
}

/* Layer, kind, expert, then A before B before the magnitude. The head's layer
 * -1 is the largest unsigned number, so it ends up last. */
static int by_role(const void *a, const void *b)
{
    const bise_lora_part *x = a, *y = b;
    if (x->role.layer != y->role.layer)  /* -1 (head) goes last */
        return (unsigned)x->role.layer < (unsigned)y->role.layer ? -1 : 1;
    if (x->role.kind != y->role.kind)
        return x->role.kind < y->role.kind ? -1 : 1;
    if (x->role.expert != y->role.expert)
        return x->role.expert < y->role.expert ? -1 : 1;
    return (int)x->kind - (int)y->kind;
}

/* Errors name the file and the tensor in it. */
bise_status bise_lora_file_in(const bise_lora_file *s, const bise_tensor *t,
                           bise_error *err)
{
    return bise_error_in(err, s->file, t->name);
}

/* GGUF stacks the experts of a layer, in a first dimension. */
static uint64_t stack_of(const bise_lora_file *s, const bise_tensor *t)
{
    return s->format == BISE_LORA_GGUF && t->n_dims == 3 && t->dims[0] <= 4096
               ? t->dims[0] : 0;
}

/* A part, or one for each expert of a stack. */
static void add_part(bise_lora_file *s, bise_lora_part p)
{
    const uint64_t n = stack_of(s, p.t);
    if (!n)
        s->parts[s->n_parts++] = p;
    for (uint64_t e = 0; e < n; e++) {
        p.role.expert = p.slice = (int32_t)e;
        s->parts[s->n_parts++] = p;
    }
}

/* Tensors to parts; one that is no module of a Mistral model is named. */
bise_status bise_lora_file_parts(bise_lora_file *s, bise_lora *l,
                                 bise_error *err)
{
    size_t room = 1;
    for (size_t i = 0; i < s->n_tensors; i++)
        room += 1 + stack_of(s, &s->tensors[i]);
    s->parts = bise_alloc_array(room, sizeof *s->parts);
    if (!s->parts)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < s->n_tensors; i++) {
        const bise_tensor *t = &s->tensors[i];
        const bise_lora_part p = read_name(s, t, &l->wrapper);
        if (s->format == BISE_LORA_GGUF &&
            bise_ends_with(t->name, "_norm.weight"))
            continue;   /* llama.cpp ignores them as well */
        const bool linear = p.role.kind != BISE_ROLE_COUNT &&
                            bise_role_module(p.role.kind);
        if (p.kind == BISE_PART_NONE ||
            (!linear && p.kind != BISE_PART_SAVED) ||
            p.role.kind == BISE_ROLE_COUNT) {
            err->status = bise_fail(err, BISE_EUNSUPPORTED, "tensor '%s' is no "
                                    "LoRA part of a linear layer of a Mistral "
                                    "text model", t->name);
            return bise_lora_file_in(s, t, err);
        }
        add_part(s, p);
    }
    if (!s->n_parts) {
        err->status = bise_fail(err, BISE_EFORMAT, "the adapter matches no "
                                "module of the base");
        return bise_error_in(err, s->file, NULL);
    }
    l->dtype = s->parts[0].t->dtype;
    qsort(s->parts, s->n_parts, sizeof *s->parts, by_role);
    return BISE_OK;
}
