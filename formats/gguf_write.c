/* gguf_write.c - serialise a GGUF v3 header, and whole small files whose data
 * is in memory (adapters, importance matrices). Big files are streamed by
 * pipeline/ behind a header made here.
 * Always version 3 and little endian; alignment 32 unless general.alignment
 * says otherwise.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "core/bytes.h"
#include "formats/gguf.h"
#include "formats/shape.h"

/* Append a little-endian u32. */
static void put_u32(bise_str *out, uint32_t v)
{
    uint8_t b[4];
    bise_store_le32(b, v);
    bise_str_add(out, b, sizeof b);
}

/* Append a little-endian u64. */
static void put_u64(bise_str *out, uint64_t v)
{
    uint8_t b[8];
    bise_store_le64(b, v);
    bise_str_add(out, b, sizeof b);
}

/* A string as GGUF has it: u64 length and bytes, no NUL. */
static void put_string(bise_str *out, const char *s)
{
    const size_t n = strlen(s);
    put_u64(out, n);
    bise_str_add(out, s, n);
}

/* A value's bytes are kept in file form, so that only the type and, for
 * strings and arrays, the count come before them. */
static void put_kv(bise_str *out, const bise_gguf_kv *kv)
{
    put_string(out, kv->key);
    put_u32(out, (uint32_t)kv->type);
    if (kv->type == BISE_GGUF_ARRAY) {
        put_u32(out, (uint32_t)kv->elem);
        put_u64(out, kv->count);
    } else if (kv->type == BISE_GGUF_STR)
        put_u64(out, kv->count);
    if (kv->bytes)
        bise_str_add(out, kv->data, (size_t)kv->bytes);
}

/* Refuse what the format cannot hold. */
static bise_status check_tensor(const bise_tensor *t, bise_error *err)
{
    bise_status s = BISE_OK;
    const size_t n = strlen(t->name);
    if (n == 0 || n > BISE_GGUF_NAME_MAX)
        s = bise_fail(err, BISE_EINVAL, "tensor name of %zu bytes, GGUF "
                      "allows 1 to %d", n, BISE_GGUF_NAME_MAX);
    else if (bise_dtype_get(t->dtype)->gguf_id < 0)
        s = bise_fail(err, BISE_EUNSUPPORTED, "GGUF has no type %s",
                      bise_dtype_get(t->dtype)->name);
    return s == BISE_OK ? s : bise_error_in(err, NULL, t->name);
}

/* Tensor info: sizes fastest first; leading size-1 dimensions of our row-major
 * order are the trailing ones of ggml and are trimmed. */
static bise_status put_tensor(bise_str *out, bise_tensor *t, uint64_t at,
                              bise_error *err)
{
    bise_status s = check_tensor(t, err);
    if (s == BISE_OK)
        s = bise_shape_size(t, -1, err);
    if (s != BISE_OK)
        return s;
    int first = 0;
    while (first + 1 < t->n_dims && t->dims[first] == 1)
        first++;
    const int n = t->n_dims - first;
    if (n > 4) {
        s = bise_fail(err, BISE_EUNSUPPORTED, "%d dimensions, GGUF allows 4",
                      n);
        return s = bise_error_in(err, NULL, t->name);
    }
    put_string(out, t->name);
    put_u32(out, (uint32_t)(n ? n : 1));
    for (int i = t->n_dims - 1; i >= first; i--)
        put_u64(out, t->dims[i]);
    if (!n)
        put_u64(out, 1);                        /* a scalar */
    put_u32(out, (uint32_t)bise_dtype_get(t->dtype)->gguf_id);
    put_u64(out, at);
    t->offset = at;
    return BISE_OK;
}

/* Offsets are prescribed by the format: each tensor starts where the one
 * before ends, padded. Fails before anything is written when a name, type or
 * rank cannot be expressed. */
bise_status bise_gguf_header(bise_str *out, const bise_gguf_meta *m,
                             bise_tensor *tensors, size_t n,
                             uint64_t *data_bytes, bise_error *err)
{
    const int64_t align = bise_gguf_int(m, "general.alignment",
                                        BISE_GGUF_ALIGNMENT);
    if (align <= 0 || align > 1 << 20 || (align & (align - 1)))
        return bise_fail(err, BISE_EINVAL, "general.alignment is %" PRId64
                         ", a power of two is needed", align);
    if (m->failed)
        return bise_fail_nomem(err);
    const size_t start = out->len;
    uint64_t at = 0;
    bise_str_add(out, "GGUF", 4);
    put_u32(out, 3);
    put_u64(out, n);
    put_u64(out, m->n);
    for (size_t i = 0; i < m->n; i++)
        put_kv(out, &m->kv[i]);
    for (size_t i = 0; i < n; i++) {
        const bise_status s = put_tensor(out, &tensors[i], at, err);
        if (s != BISE_OK)
            return s;
        const uint64_t mask = (uint64_t)align - 1;
        at += (tensors[i].bytes + mask) & ~mask;
    }
    while ((out->len - start) % (uint64_t)align && bise_str_ok(out))
        bise_str_putc(out, 0);
    *data_bytes = at;
    return bise_str_ok(out) ? BISE_OK : bise_fail_nomem(err);
}

/* Header, then each tensor with its padding, the last one too, through a
 * partial file. The caller's tensors are not changed. */
bise_status bise_gguf_save(const char *path, const bise_gguf_meta *m,
                           const bise_tensor *tensors, size_t n,
                           bise_error *err)
{
    bise_str head = { 0 };
    uint64_t bytes = 0;
    bise_out *o = NULL;
    bise_tensor *copy = bise_alloc_array(n + 1, sizeof *copy);
    if (!copy)
        return bise_fail_nomem(err);
    if (n)
        memcpy(copy, tensors, n * sizeof *copy);
    bise_status s = bise_gguf_header(&head, m, copy, n, &bytes, err);
    const uint64_t align = (uint64_t)bise_gguf_int(m, "general.alignment",
                                                   BISE_GGUF_ALIGNMENT);
    if (s == BISE_OK)
        s = bise_out_open(&o, path, head.len + bytes, true, err);
    if (s == BISE_OK)
        s = bise_out_write(o, head.data, head.len, err);
    for (size_t i = 0; s == BISE_OK && i < n; i++) {
        s = bise_out_write(o, tensors[i].data, (size_t)copy[i].bytes, err);
        if (s == BISE_OK)
            s = bise_out_pad(o, align, err);
    }
    if (s == BISE_OK)
        s = bise_out_commit(o, err);
    else
        bise_out_drop(o);
    bise_str_fini(&head);
    bise_free(copy);
    return s;
}
