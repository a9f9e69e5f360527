/* plan.c - building a plan and laying it out: which tensor goes to which file
 * at which byte, and the headers that say so. Sizes follow from types and
 * shapes, so the output's size is known before a weight is read. GGUF splits
 * cut as gguf-split does (gguf.md 2), safetensors shards as the Hub's.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pipeline/plan.h"

#include <inttypes.h>
#include <string.h>

#include "formats/safetensors.h"
#include "model/lineage.h"

/* An empty plan owns nothing, so a caller may release it at once. */
void bise_plan_init(bise_plan *p, bise_plan_kind kind)
{
    memset(p, 0, sizeof *p);
    p->kind = kind;
    p->weights_name = "model";
}

/* The layout is derived: it is thrown away and made again whenever types or
 * names change. */
static void free_files(bise_plan *p)
{
    for (size_t i = 0; i < p->n_files; i++) {
        bise_str_fini(&p->files[i].header);
        bise_free(p->files[i].offsets);
    }
    bise_free(p->files);
    p->files = NULL;
    p->n_files = 0;
}

/* Streams, names and texts go with the arena; stores and adapters were
 * borrowed and stay with their owners. */
void bise_plan_fini(bise_plan *p)
{
    free_files(p);
    bise_free(p->tensors);
    bise_free(p->sides);
    bise_gguf_meta_fini(&p->meta);
    bise_json_free(p->st_meta);
    bise_json_free(p->lineage);
    bise_arena_fini(&p->arena);
    memset(p, 0, sizeof *p);
}

/* The product of the shape is checked here, once, so that neither the
 * header nor the runner can disagree with the stream about the number of
 * bytes. The stream without its adapters is kept for merge reports. */
bise_status bise_plan_add(bise_plan *p, const bise_plan_tensor *t,
                          bise_error *err)
{
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++)
        n *= t->dims[i];
    if (!t->stream)
        return bise_fail_nomem(err);
    if (n != bise_stream_rows(t->stream) * bise_stream_cols(t->stream)) {
        bise_status s = bise_fail(err, BISE_EFORMAT,
                                  "%" PRIu64 " weights stored, the shape needs "
                                  "%" PRIu64,
                                  bise_stream_rows(t->stream) *
                                  bise_stream_cols(t->stream), n);
        s = bise_error_in(err, NULL, t->name);
        return s;
    }
    void *v = p->tensors;
    if (bise_grow(&v, &p->cap, p->n + 1, sizeof *p->tensors) != 0)
        return bise_fail_nomem(err);
    p->tensors = v;
    bise_plan_tensor *copy = &p->tensors[p->n];
    *copy = *t;
    copy->name = bise_arena_strdup(&p->arena, t->name);
    if (!copy->name)
        return bise_fail_nomem(err);
    copy->base = bise_stream_base(&p->arena, t->stream);
    p->n++;
    return BISE_OK;
}

/* A new entry with a copied name, to be filled in by the caller. NULL when
 * memory is out; the list is unchanged then. */
static bise_plan_side *add_side(bise_plan *p, const char *name)
{
    void *v = p->sides;
    if (bise_grow(&v, &p->cap_sides, p->n_sides + 1, sizeof *p->sides) != 0)
        return NULL;
    p->sides = v;
    bise_plan_side *f = &p->sides[p->n_sides];
    *f = (bise_plan_side){ .name = bise_arena_strdup(&p->arena, name) };
    if (!f->name)
        return NULL;
    p->n_sides++;
    return f;
}

/* The bytes may hold NUL: the length is kept beside them. */
bise_status bise_plan_add_text(bise_plan *p, const char *name,
                               const char *data, size_t len, bise_error *err)
{
    bise_plan_side *f = add_side(p, name);
    if (!f)
        return bise_fail_nomem(err);
    f->data = bise_arena_strndup(&p->arena, data, len);
    f->len = len;
    return f->data ? BISE_OK : bise_fail_nomem(err);
}

/* Only the name is remembered; the content is read when the plan runs, so
 * that a plan of a large folder stays small. */
bise_status bise_plan_add_copy(bise_plan *p, bise_store *s, const char *name,
                               bise_error *err)
{
    bise_plan_side *f = add_side(p, name);
    if (!f)
        return bise_fail_nomem(err);
    f->store = s;
    return BISE_OK;
}

/* Facts into the metadata of the kind. */
static bise_status write_origin(bise_plan *p, bise_error *err)
{
    if (p->kind == BISE_PLAN_GGUF) {
        bise_lineage_to_gguf(&p->meta, p->lineage);
        return p->meta.failed ? bise_fail_nomem(err) : BISE_OK;
    }
    bise_json_free(p->st_meta);
    p->st_meta = bise_lineage_to_st(p->lineage);
    return p->st_meta ? BISE_OK : bise_fail_nomem(err);
}

bise_status bise_plan_origin(bise_plan *p, bise_json *lineage, bise_error *err)
{
    bise_json_free(p->lineage);
    p->lineage = lineage;
    return lineage ? write_origin(p, err) : bise_fail_nomem(err);
}

/* Plans made without an origin get one here. */
bise_status bise_plan_record(bise_plan *p, const char *command,
                             bise_error *err)
{
    if (!p->lineage)
        p->lineage = bise_json_new_object();
    if (!p->lineage || bise_lineage_add(p->lineage, "history", command) != 0)
        return bise_fail_nomem(err);
    return write_origin(p, err);
}

/* Linear: plans have some hundred tensors and few look-ups. */
const bise_plan_tensor *bise_plan_find(const bise_plan *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->tensors[i].name, name) == 0)
            return &p->tensors[i];
    return NULL;
}

/* Equal types mean equal bytes, because a stage that changes values makes
 * the stream's type NONE. */
bool bise_plan_is_raw(const bise_plan_tensor *t)
{
    return bise_stream_dtype(t->stream) == t->dtype;
}

/* Whole rows, each a whole number of blocks (checked by the layout). */
uint64_t bise_plan_tensor_bytes(const bise_plan_tensor *t)
{
    return bise_stream_rows(t->stream) *
           bise_dtype_bytes(t->dtype, bise_stream_cols(t->stream));
}

/* What will be read from disk; adapters in memory do not count. */
uint64_t bise_plan_bytes_in(const bise_plan *p)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < p->n; i++)
        sum += bise_stream_bytes(p->tensors[i].stream);
    return sum;
}

/* Headers and padding included: what the disk must have free. */
uint64_t bise_plan_bytes_out(const bise_plan *p)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < p->n_files; i++)
        sum += p->files[i].bytes;
    return sum;
}

/* Elements of all tensors, vectors included, as bits per weight counts
 * them. */
uint64_t bise_plan_weights(const bise_plan *p)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < p->n; i++)
        sum += bise_stream_rows(p->tensors[i].stream) *
               bise_stream_cols(p->tensors[i].stream);
    return sum;
}

/* Tensor data only, without header and padding, as llama-quantize prints
 * it. */
double bise_plan_bits(const bise_plan *p)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < p->n; i++)
        bytes += bise_plan_tensor_bytes(&p->tensors[i]);
    const uint64_t n = bise_plan_weights(p);
    return n ? 8.0 * (double)bytes / (double)n : 0;
}

/* ---- layout ---- */

/* Each tensor of a GGUF takes a multiple of the alignment; gguf-split
 * counts the padded sizes, so the same cuts come out. */
static uint64_t padded(uint64_t n)
{
    return (n + BISE_GGUF_ALIGNMENT - 1) / BISE_GGUF_ALIGNMENT *
           BISE_GGUF_ALIGNMENT;
}

/* Cut the tensors into files of at most split_bytes of data each, greedily;
 * a tensor above the limit stands alone. */
static bise_status cut(bise_plan *p, bise_error *err)
{
    size_t cap = 0;
    uint64_t used = 0;
    for (size_t i = 0; i < p->n || p->n_files == 0; i++) {
        const uint64_t size =
            i < p->n ? padded(bise_plan_tensor_bytes(&p->tensors[i])) : 0;
        const bool full = p->split_bytes && used &&
                          used + size > p->split_bytes;
        if (p->n_files == 0 || full) {
            void *v = p->files;
            if (bise_grow(&v, &cap, p->n_files + 1, sizeof *p->files) != 0)
                return bise_fail_nomem(err);
            p->files = v;
            p->files[p->n_files++] = (bise_plan_file){ .first = i };
            used = 0;
        }
        if (i < p->n)
            p->files[p->n_files - 1].n++;
        used += size;
    }
    return BISE_OK;
}

/* Fill in what the header writers want; they set bytes and offset. */
static bise_tensor *tensor_list(const bise_plan *p, const bise_plan_file *f)
{
    bise_tensor *list = bise_alloc_array(f->n + 1, sizeof *list);
    for (size_t i = 0; list && i < f->n; i++) {
        const bise_plan_tensor *t = &p->tensors[f->first + i];
        list[i].name = t->name;
        list[i].dtype = t->dtype;
        list[i].n_dims = t->n_dims;
        memcpy(list[i].dims, t->dims, sizeof t->dims);
    }
    return list;
}

/* Key-values of split number no: all of them in the first, then split.*. */
static void split_meta(bise_gguf_meta *out, const bise_plan *p, size_t no)
{
    for (size_t i = 0; no == 0 && i < p->meta.n; i++)
        bise_gguf_copy(out, &p->meta.kv[i]);
    if (p->n_files < 2)
        return;
    bise_gguf_set_u16(out, "split.no", (uint16_t)no);
    bise_gguf_set_u16(out, "split.count", (uint16_t)p->n_files);
    bise_gguf_set_i32(out, "split.tensors.count", (int32_t)p->n);
}

/* The format's own writer decides where each tensor's data lies; adding the
 * header's length turns its offsets into file positions for pwrite. */
static bise_status make_header(bise_plan *p, size_t no, bise_error *err)
{
    bise_plan_file *f = &p->files[no];
    bise_tensor *list = tensor_list(p, f);
    f->offsets = bise_alloc_array(f->n + 1, sizeof *f->offsets);
    if (!list || !f->offsets) {
        bise_free(list);
        return bise_fail_nomem(err);
    }
    uint64_t data = 0;
    bise_status s;
    if (p->kind == BISE_PLAN_GGUF) {
        bise_gguf_meta m = { 0 };
        split_meta(&m, p, no);
        s = m.failed ? bise_fail_nomem(err)
                     : bise_gguf_header(&f->header, &m, list, f->n, &data, err);
        bise_gguf_meta_fini(&m);
    } else {
        s = bise_st_header(&f->header, p->st_meta, list, f->n, &data, err);
    }
    for (size_t i = 0; s == BISE_OK && i < f->n; i++)
        f->offsets[i] = f->header.len + list[i].offset;
    f->bytes = f->header.len + data;
    bise_free(list);
    return s;
}

/* Names of the weight files: nothing for a lone GGUF, whose name is the
 * output's; model.safetensors or numbered shards otherwise. */
static bise_status name_files(bise_plan *p, bise_error *err)
{
    for (size_t i = 0; i < p->n_files; i++) {
        bise_str name = { 0 };
        if (p->n_files > 1)
            bise_str_printf(&name, "-%05zu-of-%05zu", i + 1, p->n_files);
        if (p->kind == BISE_PLAN_SAFETENSORS) {
            bise_str full = { 0 };
            bise_str_printf(&full, "%s%s.safetensors", p->weights_name,
                            bise_str_get(&name));
            bise_str_fini(&name);
            name = full;
        }
        p->files[i].name = bise_arena_strdup(&p->arena, bise_str_get(&name));
        bise_str_fini(&name);
        if (!p->files[i].name)
            return bise_fail_nomem(err);
    }
    return BISE_OK;
}

/* Row lengths are checked before anything else, since header writers trust
 * them. split.count of GGUF is 16 bits wide, hence the limit on files. */
bise_status bise_plan_layout(bise_plan *p, bise_error *err)
{
    free_files(p);
    for (size_t i = 0; i < p->n; i++) {
        const bise_plan_tensor *t = &p->tensors[i];
        const uint32_t block = bise_dtype_get(t->dtype)->block_len;
        if (bise_stream_cols(t->stream) % block == 0)
            continue;
        bise_status s = bise_fail(err, BISE_EUNSUPPORTED,
                                  "rows of %" PRIu64 " weights, type %s needs "
                                  "a multiple of %" PRIu32,
                                  bise_stream_cols(t->stream),
                                  bise_dtype_get(t->dtype)->name, block);
        s = bise_error_in(err, NULL, t->name);
        return s;
    }
    bise_status s = p->meta.failed ? bise_fail_nomem(err) : cut(p, err);
    if (s == BISE_OK && p->n_files > 65535)
        s = bise_fail(err, BISE_EINVAL, "%zu files of at most %" PRIu64
                      " bytes, the format allows 65535", p->n_files,
                      p->split_bytes);
    if (s == BISE_OK)
        s = name_files(p, err);
    for (size_t i = 0; s == BISE_OK && i < p->n_files; i++)
        s = make_header(p, i, err);
    return s;
}
