/* run_pack.c - a plan into an archive as its output is made: nothing is written
 * to disk but the archive, which is the same that bise pack makes of the
 * output. The members are put in the order of an archive; weights go through a
 * window of 24 MiB that the pool fills with slabs and the archive's writer
 * hashes and packs.
 *
 *   weight file | header | ======= window =======> ...            | padding |
 *                          slab slab slab gap slab
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pipeline/run_int.h"

#include <stdlib.h>
#include <string.h>

#include "formats/archive.h"

#define PAD 4096
#define MAX_ALIGNMENT (UINT64_C(1) << 20) /* of GGUF */

/* One file of the output: weights, or text. */
typedef struct item {
    bise_member member;
    bool weights;
    size_t file;                /* of the plan, when weights */
    const bise_plan_side *side; /* NULL: the index of the shards */
} item;

typedef struct packing {
    bise_run_job *j;
    item *items;
    size_t n;
    bise_member *members;
    bise_archive_writer *w;
    bise_arena arena;
    uint64_t window_bytes;
} packing;

/* Text of a side file or of the index. */
static bise_status item_text(bise_str *text, const packing *k, const item *t,
                             bise_error *err)
{
    return t->side ? bise_run_side(text, t->side, err)
                   : bise_run_index(text, k->j->plan, err);
}

/* Add a text file; its size is needed before the archive is begun, so that it
 * is made twice. */
static bise_status add_text(packing *k, const char *name,
                            const bise_plan_side *side, bise_error *err)
{
    item *t = &k->items[k->n++];
    bise_str text = { 0 };
    t->side = side;
    t->member = (bise_member){ .path = name, .mode = 0644 };
    const bise_status s = item_text(&text, k, t, err);
    t->member.bytes = text.len;
    bise_str_fini(&text);
    return s;
}

/* Where the 16-bit weights of a file will be; the arrays of the plan's
 * tensors and of the byte planes are in the same order. */
static bise_status find_planes(item *t, const bise_plan *p, bise_error *err)
{
    const bise_plan_file *f = &p->files[t->file];
    bise_tensor *list = bise_alloc_array(f->n + 1, sizeof *list);
    if (!list)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < f->n; i++) {
        const bise_plan_tensor *from = &p->tensors[f->first + i];
        list[i].dtype = from->dtype;
        list[i].offset = f->offsets[i];
        list[i].bytes = bise_plan_tensor_bytes(from);
    }
    const bise_status s = bise_planes_of(&t->member.map, list, f->n, f->bytes,
                                         err);
    t->member.planes = t->member.map.n > 0;
    bise_free(list);
    return s;
}

/* Add a weight file under the name it has in a directory. */
static bise_status add_weights(packing *k, size_t file, bise_error *err)
{
    const bise_run_job *j = k->j;
    const bise_plan_file *f = &j->plan->files[file];
    item *t = &k->items[k->n++];
    char *name = j->plan->kind == BISE_PLAN_GGUF
                     ? bise_run_file_path(j->plan, file, j->o->archive)
                     : bise_strdup(f->name);
    t->weights = true;
    t->file = file;
    t->member = (bise_member){ .bytes = f->bytes, .mode = 0644,
                               .path = name ? bise_arena_strdup(&k->arena, name)
                                            : NULL };
    bise_free(name);
    return t->member.path ? find_planes(t, j->plan, err)
                          : bise_fail_nomem(err);
}

/* Byte order of the paths, as in deploy/pack.c. */
static int by_path(const void *a, const void *b)
{
    return strcmp(((const item *)a)->member.path,
                  ((const item *)b)->member.path);
}

/* All files of the output, sorted. */
static bise_status collect(packing *k, bise_error *err)
{
    const bise_plan *p = k->j->plan;
    const size_t cap = p->n_files + p->n_sides + 1;
    bise_status s = BISE_OK;
    k->items = bise_alloc_array(cap, sizeof *k->items);
    k->members = bise_alloc_array(cap, sizeof *k->members);
    if (!k->items || !k->members)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < p->n_files && s == BISE_OK; i++)
        s = add_weights(k, i, err);
    for (size_t i = 0; i < p->n_sides && s == BISE_OK; i++)
        s = add_text(k, p->sides[i].name, &p->sides[i], err);
    if (s == BISE_OK && p->kind == BISE_PLAN_SAFETENSORS && p->n_files > 1) {
        bise_str name = { 0 };
        bise_str_printf(&name, "%s.safetensors.index.json", p->weights_name);
        const char *kept = bise_arena_strdup(&k->arena, bise_str_get(&name));
        bise_str_fini(&name);
        s = kept ? add_text(k, kept, NULL, err) : bise_fail_nomem(err);
    }
    if (s != BISE_OK)
        return s;
    qsort(k->items, k->n, sizeof *k->items, by_path);
    for (size_t i = 0; i < k->n; i++)
        k->members[i] = k->items[i].member;
    return BISE_OK;
}

/* The window holds a batch, and at least the largest slab with the gap that
 * can stand before it. */
static bise_status alloc_window(packing *k, bise_error *err)
{
    bise_run_job *j = k->j;
    const bise_plan *p = j->plan;
    k->window_bytes = BISE_ARCHIVE_BATCH;
    for (size_t i = 0; i < p->n; i++) {
        const uint64_t n = j->slab_rows[i] *
            bise_dtype_bytes(p->tensors[i].dtype,
                             bise_stream_cols(p->tensors[i].stream)) +
            MAX_ALIGNMENT;
        k->window_bytes = n > k->window_bytes ? n : k->window_bytes;
    }
    j->window = bise_alloc_aligned((size_t)k->window_bytes);
    return j->window ? BISE_OK : bise_fail_nomem(err);
}

/* Slabs [slab, end) as far as they fit into the window, which begins at
 * *at: made by the pool, with zeros in the gaps between tensors. */
static bise_status fill_window(packing *k, uint64_t *slab, uint64_t end,
                               uint64_t *at, bise_error *err)
{
    bise_run_job *j = k->j;
    uint64_t from, bytes, to = *at, n = 0;
    j->window_at = *at;
    j->first_slab = *slab;
    for (; *slab + n < end; n++) {
        bise_run_slab_place(j, *slab + n, &from, &bytes);
        if (from + bytes - *at > k->window_bytes)
            break;
        memset(j->window + (to - *at), 0, (size_t)(from - to));
        to = from + bytes;
    }
    bise_pool_run(j->o->pool, (size_t)n, bise_run_slab, j);
    if (j->err.status != BISE_OK) {
        *err = j->err;
        return err->status;
    }
    const bise_status s = bise_archive_write(k->w, j->window,
                                             (size_t)(to - *at), err);
    *slab += n;
    *at = to;
    return s;
}

/* A weight file: header, slabs, the padding at its end. */
static bise_status put_weights(packing *k, size_t file, bise_error *err)
{
    static const char zero[PAD];
    const bise_run_job *j = k->j;
    const bise_plan_file *f = &j->plan->files[file];
    uint64_t at = f->header.len, slab = j->starts[f->first];
    const uint64_t end = j->starts[f->first + f->n];
    bise_status s = bise_archive_write(k->w, f->header.data, f->header.len,
                                       err);
    while (slab < end && s == BISE_OK)
        s = fill_window(k, &slab, end, &at, err);
    while (at < f->bytes && s == BISE_OK) {
        const size_t n = f->bytes - at < PAD ? (size_t)(f->bytes - at) : PAD;
        s = bise_archive_write(k->w, zero, n, err);
        at += n;
    }
    return s;
}

/* A text file, which must be as long as it was when it was measured. */
static bise_status put_text(packing *k, const item *t, bise_error *err)
{
    bise_str text = { 0 };
    bise_status s = item_text(&text, k, t, err);
    if (s == BISE_OK && text.len != t->member.bytes) {
        s = bise_fail(err, BISE_EIO, "size changed while packing");
        s = bise_error_in(err, t->member.path, NULL);
    }
    if (s == BISE_OK)
        s = bise_archive_write(k->w, bise_str_get(&text), text.len, err);
    bise_str_fini(&text);
    return s;
}

/* All files in order; then the archive gets its name. */
static bise_status pack_items(packing *k, bise_error *err)
{
    const bise_run_options *o = k->j->o;
    const bise_archive_options a = { .force = o->force, .pool = o->pool };
    bise_status s = bise_archive_create(&k->w, o->path, k->members, k->n, &a,
                                        err);
    if (s != BISE_OK)
        return s;
    for (size_t i = 0; i < k->n && s == BISE_OK; i++)
        s = k->items[i].weights ? put_weights(k, k->items[i].file, err)
                                : put_text(k, &k->items[i], err);
    if (s == BISE_OK)
        return bise_archive_finish(k->w, err);
    bise_archive_abandon(k->w);
    return s;
}

bise_status bise_run_packed(bise_run_job *j, bise_run_result *r,
                            bise_error *err)
{
    packing k = { .j = j };
    bise_status s = collect(&k, err);
    if (s == BISE_OK)
        s = alloc_window(&k, err);
    if (s == BISE_OK)
        s = pack_items(&k, err);
    if (s == BISE_OK)
        s = bise_run_add_output(r, j->o->path, bise_file_size(j->o->path),
                                err);
    if (s == BISE_OK)
        s = bise_progress_step(j->o->progress, j->o->stage, j->total, j->total,
                               "bytes", NULL, err);
    bise_free_aligned(j->window);
    j->window = NULL;
    for (size_t i = 0; i < k.n; i++)
        bise_planes_fini(&k.items[i].member.map);
    bise_free(k.items);
    bise_free(k.members);
    bise_arena_fini(&k.arena);
    return s;
}
