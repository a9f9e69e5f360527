/* verify.c - see verify.h. Every check turns its error into a problem and goes
 * on; only lack of memory and the user's Ctrl-C end the whole.
 * The order is from the outside in: hashes of files, structure of each file,
 * numbers, then meaning (configuration, tokenizer, terms of use). Later checks
 * run only on what earlier ones found sound, so that one fault does not show up
 * as many.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "deploy/archive_walk.h"
#include "formats/crypto.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "formats/store.h"
#include "model/checkpoint.h"
#include "model/lineage.h"
#include "model/lora.h"
#include "text/tokenizer.h"

#define SLAB (UINT64_C(4) << 20)

typedef struct verify {
    const bise_verify_options *o;
    bise_verify_result *r;
    const char *path;
    bise_error *err;
    bool scanned;            /* weights were seen while the archive passed */
    bool weights;            /* the archive has some: it is a model */
} verify;

/* The same words about the same place: found on two ways. */
static bool is_known(const verify *v, const char *path, const bise_error *e)
{
    for (size_t i = 0; i < bise_json_size(v->r->problems); i++) {
        const bise_json *p = bise_json_at(v->r->problems, i);
        const char *tensor = bise_json_string(bise_json_get(p, "tensor"),
                                              NULL);
        if (strcmp(bise_json_string(bise_json_get(p, "path"), NULL), path) ==
                0 &&
            strcmp(bise_json_string(bise_json_get(p, "message"), NULL),
                   e->text) == 0 &&
            strcmp(tensor ? tensor : "", e->tensor) == 0)
            return true;
    }
    return false;
}

/* Add a problem; the status tells whether to go on. */
static bise_status problem(verify *v, const bise_error *e, const char *path)
{
    if (e->status == BISE_ENOMEM || e->status == BISE_ECANCEL) {
        *v->err = *e;
        return e->status;
    }
    path = e->path[0] ? e->path : path;
    if (is_known(v, path, e))
        return BISE_OK;
    bise_json *p = bise_json_new_object();
    int bad = bise_json_set(p, "path", bise_json_new_string(path));
    bad |= bise_json_set(p, "message", bise_json_new_string(e->text));
    if (e->tensor[0])
        bad |= bise_json_set(p, "tensor", bise_json_new_string(e->tensor));
    if (e->offset >= 0)
        bad |= bise_json_set(p, "offset", bise_json_new_int(e->offset));
    bad |= bise_json_append(v->r->problems, p);
    return bad ? bise_fail_nomem(v->err) : BISE_OK;
}

/* A problem in words. */
static bise_status say(verify *v, const char *path, const char *text)
{
    bise_error e;
    bise_error_init(&e);
    const bise_status s = bise_fail(&e, BISE_EFORMAT, "%s", text);
    return s == BISE_OK ? s : problem(v, &e, path);
}

/* The first weight of a tensor that is not finite. */
static bise_status tell_bad(verify *v, const bise_store *store,
                            const bise_tensor *t, uint64_t weight)
{
    const char *file = bise_store_tensor_file(store, t);
    bise_error e;
    bise_error_init(&e);
    bise_status s = bise_fail(&e, BISE_EFORMAT, "weight %" PRIu64 " of %s is "
                              "not finite", weight,
                              bise_dtype_get(t->dtype)->name);
    s = bise_error_in(&e, file, t->name);
    return s == BISE_OK ? s : problem(v, &e, file);
}

/* A file whose sha256 is as the manifest says goes into the list. */
static bise_status list_file(verify *v, const char *path, uint64_t bytes,
                             const uint8_t digest[32])
{
    char hex[65];
    bise_json *f = bise_json_new_object();
    int bad = bise_json_set(f, "path", bise_json_new_string(path));
    bad |= bise_json_set(f, "bytes", bise_json_new_int((int64_t)bytes));
    bad |= bise_json_set(f, "sha256", bise_json_new_string(
                             bise_hex32(hex, digest)));
    bad |= bise_json_append(v->r->files, f);
    v->r->bytes += bytes;
    return bad ? bise_fail_nomem(v->err) : BISE_OK;
}

/* ------------------------------------------------------------- archives */
/* Weights are scanned while their file passes, so that an archive is unpacked
 * once. The pieces come in order and cut blocks where they end. */
typedef struct spot {
    const bise_tensor *t;
    const char *file;        /* of the archive */
    uint64_t bad;            /* the first weight, UINT64_MAX: none */
} spot;

typedef struct passing {
    verify *v;
    bise_store *store;       /* NULL: nothing to scan */
    spot *spots;             /* by file, then offset */
    size_t n, next;          /* the spot that the next bytes belong to */
    uint64_t at;             /* in the file */
    uint8_t *piece;          /* aligned copy of a run of blocks */
    uint8_t block[512];      /* one that two pieces share */
    size_t have;
} passing;

static int by_place(const void *pa, const void *pb)
{
    const spot *a = pa, *b = pb;
    const int order = strcmp(a->file, b->file);
    return order ? order : (a->t->offset > b->t->offset) -
                           (a->t->offset < b->t->offset);
}

/* n whole blocks of the spot from byte `first` of its tensor. */
static void scan_blocks(passing *w, spot *s, uint64_t first, const void *data,
                        size_t n)
{
    const bise_dtype_info *d = bise_dtype_get(s->t->dtype);
    if (s->bad != UINT64_MAX || !n)
        return;
    const uint64_t at = w->v->o->find_bad(s->t->dtype, data,
                                          (uint64_t)n / d->block_bytes *
                                          d->block_len);
    if (at != UINT64_MAX)
        s->bad = first / d->block_bytes * d->block_len + at;
}

/* n bytes of the spot, of which `first` have passed before: a block left open,
 * whole blocks, the beginning of another. */
static void scan_bytes(passing *w, spot *s, uint64_t first,
                       const uint8_t *data, size_t n)
{
    const size_t block = bise_dtype_get(s->t->dtype)->block_bytes;
    if (block > sizeof w->block)
        return;
    if (w->have) {
        const size_t need = block - w->have, k = n < need ? n : need;
        memcpy(w->block + w->have, data, k);
        w->have += k;
        if (w->have == block) {
            scan_blocks(w, s, first + k - block, w->block, block);
            w->have = 0;
        }
        data += k;
        n -= k;
        first += k;
    }
    while (n >= block) {
        size_t k = n < SLAB ? n : SLAB;
        k -= k % block;
        memcpy(w->piece, data, k);
        scan_blocks(w, s, first, w->piece, k);
        data += k;
        n -= k;
        first += k;
    }
    if (n)
        memcpy(w->block, data, n);
    w->have += n;
}

/* Bytes of a file: the parts that are weights to their spots. */
static bise_status pass_data(void *ctx, const bise_member *m, const void *data,
                             size_t n, bool first, bool last, bise_error *err)
{
    passing *w = ctx;
    (void)last;
    (void)err;
    if (first) {
        w->at = w->have = 0;
        for (w->next = 0; w->next < w->n; w->next++)
            if (strcmp(w->spots[w->next].file, m->path) == 0)
                break;
    }
    const uint64_t end = w->at + n;
    while (w->next < w->n && strcmp(w->spots[w->next].file, m->path) == 0) {
        spot *s = &w->spots[w->next];
        const uint64_t begin = s->t->offset, stop = begin + s->t->bytes;
        const uint64_t from = begin > w->at ? begin : w->at;
        const uint64_t to = stop < end ? stop : end;
        if (from < to)
            scan_bytes(w, s, from - begin,
                       (const uint8_t *)data + (from - w->at),
                       (size_t)(to - from));
        if (stop > end)
            break;
        w->have = 0;
        w->next++;
    }
    w->at = end;
    return BISE_OK;
}

/* What was found in a file that is whole; in a damaged one it says nothing. */
static bise_status tell_spots(const passing *w, const char *path)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < w->n && s == BISE_OK; i++) {
        const spot *p = &w->spots[i];
        if (p->bad != UINT64_MAX && strcmp(p->file, path) == 0)
            s = tell_bad(w->v, w->store, p->t, p->bad);
    }
    return s;
}

/* The member of a weight file: stores call it ARCHIVE/NAME, and look into the
 * folder of the first weights. "" when there is none. */
static const char *member_of(const verify *v, const bise_archive *a,
                             const char *file)
{
    const bise_member *first = bise_archive_weights(a), *m = NULL;
    bise_str path = { 0 };
    if (first) {
        bise_str_add(&path, first->path,
                     (size_t)(bise_path_base(first->path) - first->path));
        bise_str_puts(&path, file + strlen(v->path) + 1);
        m = bise_archive_find(a, bise_str_get(&path));
    }
    bise_str_fini(&path);
    return m ? m->path : "";
}

/* The tensors of the model in the archive. What cannot be opened is told
 * later, by check_store. */
static bise_status find_spots(passing *w, const bise_archive *a)
{
    bise_error ignored;
    bise_error_init(&ignored);
    if (!w->v->o->find_bad || !w->v->weights ||
        bise_store_open(&w->store, w->v->path, &ignored) != BISE_OK)
        return BISE_OK;
    const size_t n = bise_store_count(w->store);
    w->spots = bise_alloc_array(n + 1, sizeof *w->spots);
    w->piece = bise_alloc_aligned(SLAB);
    if (!w->spots || !w->piece)
        return bise_fail_nomem(w->v->err);
    for (size_t i = 0; i < n; i++) {
        const bise_tensor *t = bise_store_at(w->store, i);
        if (t->bytes)
            w->spots[w->n++] = (spot){ t, member_of(w->v, a,
                bise_store_tensor_file(w->store, t)), UINT64_MAX };
    }
    qsort(w->spots, w->n, sizeof *w->spots, by_place);
    w->v->scanned = true;
    return BISE_OK;
}

/* A whole file is listed; a damaged one becomes a problem under its name in
 * the archive, and the walk goes on with the next. */
static bise_status sink_end(void *ctx, const bise_member *m,
                            const bise_error *what, bise_error *err)
{
    const passing *w = ctx;
    verify *v = w->v;
    (void)err;
    if (!what && bise_ends_with(m->path, "/"))
        return BISE_OK;
    if (!what) {
        const bise_status s = tell_spots(w, m->path);
        return s == BISE_OK ? list_file(v, m->path, m->bytes, m->sha256) : s;
    }
    bise_error e = *what;
    e.path[0] = 0;
    return problem(v, &e, m->path);
}

/* Seek table and manifest first, as everything else is found through them;
 * then the tar headers, which are what tar would unpack by; then every byte
 * through its hash. */
static bise_status check_archive(verify *v)
{
    bise_archive a;
    bise_error e;
    bise_error_init(&e);
    if (bise_archive_open(&a, v->path, &e) != BISE_OK)
        return problem(v, &e, v->path);
    v->weights = bise_archive_weights(&a);
    bise_unpacker *u = bise_unpacker_new();
    bise_status s = u ? BISE_OK : bise_fail_nomem(v->err);
    for (size_t i = 0; i < a.n && s == BISE_OK; i++) {
        bise_error_init(&e);
        if (bise_archive_check_header(&a, i, u, &e) != BISE_OK)
            s = problem(v, &e, a.members[i].path);
    }
    bise_unpacker_free(u);
    passing w = { .v = v };
    if (s == BISE_OK)
        s = find_spots(&w, &a);
    const bise_walk_sink walk = { w.n ? pass_data : NULL, sink_end, &w };
    if (s == BISE_OK)
        s = bise_archive_walk(&a, &walk, "verify", v->o->pool, v->o->progress,
                              v->err);
    bise_store_close(w.store);
    bise_free(w.spots);
    bise_free_aligned(w.piece);
    bise_archive_close(&a);
    return s;
}

/* ------------------------------------------------------------- folders */
/* Hash of one file of a manifest, computed by a worker. */
typedef struct hashed {
    char *path;
    uint8_t want[32], got[32];
    uint64_t bytes;
    bise_error err;
} hashed;

/* Hash one file of the list. The error stays with the entry and is told
 * later, in order, by one thread. */
static void hash_task(void *ctx, size_t index, int worker)
{
    hashed *h = (hashed *)ctx + index;
    (void)worker;
    bise_error_init(&h->err);
    if (bise_sha256_file(h->got, h->path, &h->err) != BISE_OK)
        return;                                 /* the error says it */
}

/* 64 lower-case digits into 32 bytes; anything else is no digest. */
static bool parse_hex(uint8_t out[32], const char *hex)
{
    static const char digits[] = "0123456789abcdef";
    if (!hex || strlen(hex) != 64)
        return false;
    for (int i = 0; i < 64; i++) {
        const char *p = strchr(digits, hex[i]);
        if (!p)
            return false;
        const int n = (int)(p - digits);
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | n : n << 4);
    }
    return true;
}

/* Compare what the workers found with the manifest. */
static bise_status compare_hashes(verify *v, const hashed *list, size_t n)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        const hashed *h = &list[i];
        if (h->err.status != BISE_OK)
            s = problem(v, &h->err, h->path);
        else if (bise_file_size(h->path) != h->bytes)
            s = say(v, h->path, "size differs from the manifest");
        else if (memcmp(h->got, h->want, 32) != 0)
            s = say(v, h->path, "sha256 differs from the manifest");
        else
            s = list_file(v, h->path, h->bytes, h->got);
    }
    return s;
}

/* The files of a manifest beside it, as tar unpacked them. */
static bise_status check_listed(verify *v, const bise_json *files)
{
    const size_t n = bise_json_size(files);
    bise_status s = BISE_OK;
    size_t used = 0;
    hashed *list = bise_alloc_array(n + 1, sizeof *list);
    if (!list)
        return bise_fail_nomem(v->err);
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        const bise_json *f = bise_json_at(files, i);
        const char *name = bise_json_string(bise_json_get(f, "path"), NULL);
        int64_t bytes = -1;
        hashed *h = &list[used];
        if (!name || !bise_archive_safe_path(name) ||
            !bise_json_integer(bise_json_get(f, "bytes"), &bytes)) {
            s = say(v, BISE_MANIFEST, "entry without path or bytes");
            continue;
        }
        if (bise_ends_with(name, "/") ||
            bise_json_bool(bise_json_get(f, "planes"), false) ||
            strcmp(name, BISE_MANIFEST) == 0)
            continue;
        if (!parse_hex(h->want, bise_json_string(bise_json_get(f, "sha256"),
                                                 NULL))) {
            s = say(v, name, "entry without sha256");
            continue;
        }
        h->bytes = (uint64_t)bytes;
        h->path = bise_path_join(v->path, name);
        if (!h->path)
            s = bise_fail_nomem(v->err);
        else
            used++;
    }
    if (s == BISE_OK) {
        bise_pool_run(v->o->pool, used, hash_task, list);
        s = compare_hashes(v, list, used);
    }
    for (size_t i = 0; i < used; i++)
        bise_free(list[i].path);
    bise_free(list);
    return s;
}

/* A manifest.json that is not ours (no "bise_archive" in it) is just a file
 * of the user and says nothing about the others. */
static bise_status check_manifest(verify *v)
{
    char *path = bise_path_join(v->path, BISE_MANIFEST);
    bise_json *m = NULL;
    bise_error e;
    bise_error_init(&e);
    bise_status s = path ? BISE_OK : bise_fail_nomem(v->err);
    if (s == BISE_OK && bise_file_exists(path)) {
        if (bise_json_load(&m, path, &e) != BISE_OK)
            s = problem(v, &e, path);
        else if (bise_json_get(m, "bise_archive"))
            s = check_listed(v, bise_json_get(m, "files"));
    }
    bise_json_free(m);
    bise_free(path);
    return s;
}

/* ------------------------------------------------------------- weights */
/* One tensor cut into slabs for the pool. */
typedef struct scan {
    bise_store *store;
    const bise_tensor *t;
    bise_find_bad_fn *find_bad;
    uint64_t slab;           /* bytes, whole blocks */
    uint64_t *bad;           /* for each slab: weight, or UINT64_MAX */
    bise_error *errs;        /* for each slab */
    uint8_t **scratch;       /* for each worker */
} scan;

/* Scan one slab of the tensor. Slabs are whole blocks, so that each can be
 * scanned by itself; pages are given back at once, which keeps the resident
 * set small on models larger than memory. */
static void scan_task(void *ctx, size_t index, int worker)
{
    const scan *c = ctx;
    const bise_dtype_info *d = bise_dtype_get(c->t->dtype);
    const uint64_t first = index * c->slab;
    const uint64_t left = c->t->bytes - first;
    const uint64_t n = left < c->slab ? left : c->slab;
    const void *data = NULL;
    bise_error_init(&c->errs[index]);
    c->bad[index] = UINT64_MAX;
    if (bise_store_read(c->store, c->t, first, n, c->scratch[worker], &data,
                        &c->errs[index]) != BISE_OK)
        return;
    const uint64_t weights = n / d->block_bytes * d->block_len;
    const uint64_t at = c->find_bad(c->t->dtype, data, weights);
    if (at != UINT64_MAX)
        c->bad[index] = first / d->block_bytes * d->block_len + at;
    bise_store_release(c->store, c->t, first, n);
}

/* The first slab with a fault makes the tensor's problem. */
static bise_status scan_tensor(verify *v, scan *c)
{
    const bise_dtype_info *d = bise_dtype_get(c->t->dtype);
    const char *file = bise_store_tensor_file(c->store, c->t);
    c->slab = SLAB / d->block_bytes * d->block_bytes;
    const size_t n = (size_t)((c->t->bytes + c->slab - 1) / c->slab);
    c->bad = bise_alloc_array(n + 1, sizeof *c->bad);
    c->errs = bise_alloc_array(n + 1, sizeof *c->errs);
    bise_status s = c->bad && c->errs ? BISE_OK : bise_fail_nomem(v->err);
    if (s == BISE_OK)
        bise_pool_run(v->o->pool, n, scan_task, c);
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        bise_error e = c->errs[i];
        if (e.status == BISE_OK && c->bad[i] == UINT64_MAX)
            continue;
        s = e.status == BISE_OK ? tell_bad(v, c->store, c->t, c->bad[i])
                                : problem(v, &e, file);
        break;
    }
    bise_free(c->bad);
    bise_free(c->errs);
    return s;
}

/* All tensors one after another, each cut into slabs for all cores; one
 * scratch for each worker serves packed archives. */
static bise_status scan_weights(verify *v, bise_store *store)
{
    const int workers = bise_pool_threads(v->o->pool);
    scan c = { .store = store, .find_bad = v->o->find_bad };
    bise_status s = BISE_OK;
    c.scratch = bise_alloc_array((size_t)workers, sizeof *c.scratch);
    if (!c.scratch)
        return bise_fail_nomem(v->err);
    for (int i = 0; i < workers && s == BISE_OK; i++)
        if (!(c.scratch[i] = bise_alloc_aligned(SLAB)))
            s = bise_fail_nomem(v->err);
    const size_t n = bise_store_count(store);
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        c.t = bise_store_at(store, i);
        if (v->o->find_bad && c.t->bytes)
            s = scan_tensor(v, &c);
        if (s == BISE_OK)
            s = bise_progress_step(v->o->progress, "weights", i + 1, n,
                                   "tensors", NULL, v->err);
    }
    for (int i = 0; i < workers; i++)
        bise_free_aligned(c.scratch[i]);
    bise_free(c.scratch);
    return s;
}

/* ------------------------------------------------------------- models */
typedef enum { KIND_MODEL, KIND_ADAPTER, KIND_TENSORS } kind;

/* What a store holds: an adapter, a model, or just tensors. */
static kind kind_of(bise_store *s)
{
    const bise_gguf_meta *m = bise_store_gguf(s);
    size_t n = 0;
    const char *type = bise_gguf_str(m, "general.type", &n);
    if (type && n == 7 && memcmp(type, "adapter", 7) == 0)
        return KIND_ADAPTER;
    if (type && (n != 5 || memcmp(type, "model", 5) != 0))
        return KIND_TENSORS;
    if (m)
        return bise_gguf_get(m, "general.architecture") ? KIND_MODEL :
            KIND_TENSORS;
    if (bise_store_has_file(s, "adapter_config.json"))
        return KIND_ADAPTER;
    return bise_store_has_file(s, "config.json") ||
           bise_store_has_file(s, "params.json") ? KIND_MODEL : KIND_TENSORS;
}

/* Ids of the tokenizer must be rows of the embedding. */
static bise_status check_tokenizer(verify *v, const bise_checkpoint *c)
{
    bise_tokenizer *t = NULL;
    bise_error e;
    char text[200];
    bise_error_init(&e);
    if (bise_tokenizer_open(&t, c->store, NULL, &e) != BISE_OK)
        return problem(v, &e, v->path);
    const int32_t n = bise_tokenizer_vocab(t);
    bise_status s = BISE_OK;
    if (n > c->config.V) {
        snprintf(text, sizeof text, "tokenizer (%s) has %" PRId32
                 " ids, the embedding %" PRId32 " rows",
                 bise_tokenizer_source(t), n, c->config.V);
        s = say(v, v->path, text);
    }
    bise_tokenizer_free(t);
    return s;
}

/* A missing licence is a warning, and a problem when one is required. */
static bise_status check_licence(verify *v, const char *licence)
{
    const char *want = v->o->require_licence;
    char text[200];
    if (!licence[0])
        snprintf(text, sizeof text, "no licence: neither a license line in the "
                 "card nor general.license");
    else if (want && strcasecmp(want, licence) != 0)
        snprintf(text, sizeof text, "licence is '%s', '%s' is required",
                 licence, want);
    else
        return BISE_OK;
    if (want)
        return say(v, v->path, text);
    return bise_json_append(v->r->warnings, bise_json_new_string(text)) == 0 ?
        BISE_OK : bise_fail_nomem(v->err);
}

/* A fault of one tensor, and on with the next. */
static bise_status take_fault(void *ctx, const bise_error *what)
{
    verify *v = ctx;
    return problem(v, what, v->path);
}

/* Configuration against tensors, tokenizer against the embedding. */
static bise_status check_model(verify *v)
{
    const bise_fault_sink sink = { take_fault, v };
    bise_checkpoint c;
    bise_error e;
    bise_error_init(&e);
    if (bise_checkpoint_inspect(&c, v->path, NULL, &sink, &e) != BISE_OK)
        return problem(v, &e, v->path);
    const bise_status s = check_tokenizer(v, &c);
    bise_checkpoint_close(&c);
    return s;
}

/* The terms are looked for whatever else is wrong. */
static bise_status check_terms(verify *v, bise_store *store)
{
    bise_json *l = bise_lineage_read(store);
    const bise_status s = l ? check_licence(v, bise_lineage_licence(l))
                            : bise_fail_nomem(v->err);
    bise_json_free(l);
    return s;
}

/* Loading checks it all: pairs of A and B, ranks, shapes, names, settings. */
static bise_status check_adapter(verify *v)
{
    bise_lora l = { 0 };
    bise_error e;
    bise_error_init(&e);
    if (bise_lora_load_for(&l, v->path, NULL, &e) != BISE_OK)
        return problem(v, &e, v->path);
    bise_lora_fini(&l);
    return BISE_OK;
}

/* Does a folder hold weights, or just any files? */
static bool has_weights(const char *path, bise_error *err)
{
    char **names = NULL;
    size_t n = 0;
    bool found = false;
    if (!bise_is_dir(path))
        return true;
    if (bise_dir_list(&names, &n, path, err) != BISE_OK)
        return false;
    for (size_t i = 0; i < n; i++)
        found = found || bise_ends_with(names[i], ".safetensors") ||
                bise_ends_with(names[i], ".gguf");
    bise_free(names);
    return found;
}

/* Weight files of a folder that the store does not use: structure only. */
static bise_status check_others(verify *v)
{
    char **names = NULL;
    size_t n = 0;
    bise_status s = bise_dir_list(&names, &n, v->path, v->err);
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        const bool st = bise_ends_with(names[i], ".safetensors");
        if (!st && !bise_ends_with(names[i], ".gguf"))
            continue;
        char *path = bise_path_join(v->path, names[i]);
        bise_st a = { 0 };
        bise_gguf g = { 0 };
        bise_error e;
        bise_error_init(&e);
        if (!path)
            s = bise_fail_nomem(v->err);
        else if ((st ? bise_st_open(&a, path, &e) :
                  bise_gguf_open(&g, path, &e)) != BISE_OK)
            s = problem(v, &e, path);
        bise_st_close(&a);
        bise_gguf_close(&g);
        bise_free(path);
    }
    bise_free(names);
    return s;
}

/* Weights, then what the kind of store asks for: a model is opened with its
 * configuration, an adapter as an adapter, others are only tensors. */
static bise_status check_store(verify *v)
{
    bise_store *store = NULL;
    bise_error e;
    bise_error_init(&e);
    if (bise_store_open(&store, v->path, &e) != BISE_OK)
        return problem(v, &e, v->path);
    if (!v->r->format)
        v->r->format = bise_store_format(store);
    const kind k = kind_of(store);
    bise_status s = v->scanned ? BISE_OK : scan_weights(v, store);
    v->r->tensors = bise_store_count(store);
    if (s == BISE_OK && k != KIND_TENSORS)
        s = check_terms(v, store);
    bise_store_close(store);
    if (s == BISE_OK && k == KIND_MODEL)
        s = check_model(v);
    if (s == BISE_OK && k == KIND_ADAPTER)
        s = check_adapter(v);
    return s;
}

/* Of a damaged archive only the terms are looked for: opening what is damaged
 * would repeat its problems in other words. */
static bise_status check_damaged(verify *v)
{
    bise_store *store = NULL;
    bise_error ignored;
    bise_error_init(&ignored);
    if (!v->weights ||
        bise_store_open(&store, v->path, &ignored) != BISE_OK)
        return BISE_OK;
    const bise_status s = kind_of(store) == KIND_TENSORS ? BISE_OK
                                                         : check_terms(v,
                                                                       store);
    bise_store_close(store);
    return s;
}

/* By kind of path: an archive by its manifest, a folder by the manifest in
 * it if there is one; then as a store. */
bise_status bise_verify(const char *path, const bise_verify_options *o,
                        bise_verify_result *result, bise_error *err)
{
    verify v = { .o = o, .r = result, .path = path, .err = err };
    memset(result, 0, sizeof *result);
    if (!bise_file_exists(path)) {
        bise_status s = bise_fail(err, BISE_EIO, "no such file or folder");
        return s = bise_error_in(err, path, NULL);
    }
    result->files = bise_json_new_array();
    result->problems = bise_json_new_array();
    result->warnings = bise_json_new_array();
    bise_status s;
    bool model = true;
    if (bise_archive_probe(path)) {
        result->format = "archive";
        s = check_archive(&v);
        const bool damaged = bise_json_size(result->problems) > 0;
        model = s == BISE_OK && !damaged && v.weights;
        if (s == BISE_OK && damaged)
            s = check_damaged(&v);
    } else if (bise_is_dir(path)) {
        s = check_manifest(&v);
        if (s == BISE_OK)
            s = check_others(&v);
        model = s == BISE_OK && has_weights(path, err);
        if (!model)
            result->format = "folder";
    } else
        s = BISE_OK;
    if (s == BISE_OK && model)
        s = check_store(&v);
    if (s != BISE_OK)
        bise_verify_fini(result);
    return s;
}

/* Also for a result that was only half filled. */
void bise_verify_fini(bise_verify_result *result)
{
    bise_json_free(result->files);
    bise_json_free(result->problems);
    bise_json_free(result->warnings);
    memset(result, 0, sizeof *result);
}
