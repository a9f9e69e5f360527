/* oci.c - see oci.h. A layer is written under a name of its own while it is
 * hashed, and renamed to its digest. tar+zstd layers hold one file in frames of
 * 4 MiB that the pool packs; whether that pays is tried on a few pieces first,
 * because of quantized weights nothing would be gained.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/oci.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/dtype.h"
#include "core/file.h"
#include "deploy/tree.h"
#include "formats/crypto.h"
#include "formats/tarhead.h"
#include "formats/zframe.h"
#include "model/checkpoint.h"

#define UNIT ((size_t)4 << 20)
#define UNITS 6                 /* packed at a time */
#define MODEL "application/vnd.cncf.model."
#define OCI "application/vnd.oci.image."
#define TYPE_MAX 80

/* A blob as a descriptor tells it. */
typedef struct blob {
    char type[TYPE_MAX];
    uint8_t digest[32], diff[32]; /* of the blob; of what is packed in it */
    uint64_t bytes;
} blob;

typedef struct oci {
    const bise_pack_options *o;
    const char *dir;            /* blobs/sha256 of the partial layout */
    bise_json *layers, *diffs;  /* descriptors; digests of what is in them */
    uint64_t done, total, packed;
    bool failed;                /* a document lacks something: no memory */
} oci;

/* ------------------------------------------------------------- blobs */
/* A blob being written: to a file, and to its digest. */
typedef struct sink {
    bise_out *out;
    bise_sha256 *hash;
    uint64_t bytes;
    char *path;
} sink;

/* Named .blob until its digest is known; only one is written at a time. */
static bise_status sink_open(sink *k, const oci *c, bise_error *err)
{
    memset(k, 0, sizeof *k);
    k->path = bise_path_join(c->dir, ".blob");
    k->hash = bise_sha256_new();
    const bise_status s = k->path && k->hash
        ? bise_out_open(&k->out, k->path, 0, true, err)
        : bise_fail_nomem(err);
    if (s != BISE_OK) {
        bise_free(k->path);
        bise_sha256_free(k->hash);
    }
    return s;
}

static bise_status sink_put(sink *k, const void *data, size_t n,
                            bise_error *err)
{
    bise_sha256_add(k->hash, data, n);
    k->bytes += n;
    return bise_out_write(k->out, data, n, err);
}

/* Give the blob its name. s is what happened so far; releases the sink. */
static bise_status sink_close(sink *k, oci *c, blob *b, bise_status s,
                              bise_error *err)
{
    char hex[65];
    if (s == BISE_OK) {
        bise_sha256_finish(k->hash, b->digest);
        s = bise_out_commit(k->out, err);
    } else {
        bise_sha256_free(k->hash);
        bise_out_drop(k->out);
    }
    b->bytes = k->bytes;
    char *to = bise_path_join(c->dir, bise_hex32(hex, b->digest));
    if (s == BISE_OK && !to)
        s = bise_fail_nomem(err);
    if (s == BISE_OK && rename(k->path, to) != 0)
        s = bise_fail_errno(err, to, "cannot rename");
    if (s == BISE_OK)
        c->packed += b->bytes;
    bise_free(to);
    bise_free(k->path);
    return s;
}

/* A blob of text. */
static bise_status put_text(oci *c, blob *b, const bise_json *v,
                            bise_error *err)
{
    bise_str text = { 0 };
    sink k;
    bise_json_dump(&text, v, 0, false);
    bise_status s = bise_str_ok(&text) && !c->failed ? sink_open(&k, c, err)
                                       : bise_fail_nomem(err);
    if (s == BISE_OK) {
        s = sink_put(&k, bise_str_get(&text), text.len, err);
        s = sink_close(&k, c, b, s, err);
    }
    bise_str_fini(&text);
    return s;
}

/* ------------------------------------------------------------- layers */
/* Units of a file on their way into a tar+zstd layer. */
typedef struct packing {
    const uint8_t *data;     /* of the next units */
    size_t n[UNITS], packed[UNITS];
    uint8_t *room[UNITS];
    bise_zcoder *coders[UNITS];
    bise_sha256 *diff;       /* of the tar */
    int units, level;
} packing;

/* Task 0 hashes the units in order, the others pack one each. A unit has a
 * coder of its own, whichever worker takes it. */
static void pack_task(void *ctx, size_t index, int worker)
{
    packing *p = ctx;
    (void)worker;
    if (index == 0) {
        for (int i = 0; i < p->units; i++)
            bise_sha256_add(p->diff, p->data + (size_t)i * UNIT, p->n[i]);
        return;
    }
    const size_t i = index - 1;
    p->packed[i] = bise_zframe_pack(p->coders[i], p->room[i],
                                    p->data + i * UNIT, p->n[i], p->level);
}

/* Pack the next bytes of a file, at most UNITS units, and write them. */
static bise_status put_units(packing *p, sink *k, const uint8_t *data,
                             size_t bytes, bise_pool *pool, bise_error *err)
{
    bise_status s = BISE_OK;
    p->data = data;
    for (p->units = 0; bytes; p->units++) {
        p->n[p->units] = bytes < UNIT ? bytes : UNIT;
        bytes -= p->n[p->units];
    }
    bise_pool_run(pool, (size_t)p->units + 1, pack_task, p);
    for (int i = 0; i < p->units && s == BISE_OK; i++)
        s = p->packed[i] ? sink_put(k, p->room[i], p->packed[i], err)
                         : bise_fail_nomem(err);
    return s;
}

/* A frame of tar's own bytes: the header, or the padding and the end. */
static bise_status put_tar(packing *p, sink *k, const bise_str *text,
                           bise_error *err)
{
    if (!bise_str_ok(text))
        return bise_fail_nomem(err);
    bise_sha256_add(p->diff, text->data, text->len);
    const size_t n = bise_zframe_pack(p->coders[0], p->room[0], text->data,
                                      text->len, p->level);
    return n ? sink_put(k, p->room[0], n, err) : bise_fail_nomem(err);
}

static bise_status alloc_packing(packing *p, bise_error *err)
{
    p->diff = bise_sha256_new();
    bool ok = p->diff != NULL;
    for (int i = 0; i < UNITS; i++) {
        p->room[i] = bise_alloc(bise_zframe_bound(UNIT));
        p->coders[i] = bise_zcoder_new();
        ok = ok && p->room[i] && p->coders[i];
    }
    return ok ? BISE_OK : bise_fail_nomem(err);
}

static void free_packing(packing *p)
{
    bise_sha256_free(p->diff);
    for (int i = 0; i < UNITS; i++) {
        bise_free(p->room[i]);
        bise_zcoder_free(p->coders[i]);
    }
}

/* Does zstd save 2 %? Judged by pieces from all over a large file. */
static bool worth_packing(packing *p, const bise_map *m)
{
    const size_t piece = 256u << 10;
    size_t in = 0, out = 0;
    if (m->size < BISE_OCI_SMALL)
        return false;
    for (uint64_t i = 0; i < 8; i++) {
        const uint64_t at = (m->size - piece) / 8 * i;
        const size_t r = bise_zframe_pack(p->coders[0], p->room[0],
                                          m->data + at, piece, p->level);
        in += piece;
        out += r ? r : piece;
        bise_map_release(m->data + at, piece);
    }
    return out * 50 <= in * 49;
}

/* The file in pieces, with progress: packed as the only member of a tar, or
 * (p NULL) as it is. */
static bise_status put_content(oci *c, sink *k, packing *p, const bise_map *m,
                               bise_error *err)
{
    bise_status s = BISE_OK;
    for (uint64_t at = 0; at < m->size && s == BISE_OK; at += UNITS * UNIT) {
        const uint64_t left = m->size - at;
        const size_t n = left < UNITS * UNIT ? (size_t)left : UNITS * UNIT;
        bise_map_ahead(m->data + at, n);
        s = p ? put_units(p, k, m->data + at, n, c->o->pool, err)
              : sink_put(k, m->data + at, n, err);
        bise_map_release(m->data + at, n);
        c->done += n;
        if (s == BISE_OK)
            s = bise_progress_step(c->o->progress, "pack", c->done, c->total,
                                   "bytes", NULL, err);
    }
    return s;
}

/* header | file | padding and two blocks of zeros */
static bise_status put_packed(oci *c, sink *k, packing *p,
                              const bise_tree_file *f, const bise_map *m,
                              bise_error *err)
{
    bise_str head = { 0 }, end = { 0 };
    bise_tarhead_put(&head, &(bise_tarhead){ .name = f->member.path,
                                             .bytes = m->size,
                                             .mode = f->member.mode });
    for (uint64_t i = bise_tar_padding(m->size) + 1024; i; i--)
        bise_str_putc(&end, 0);
    bise_status s = put_tar(p, k, &head, err);
    if (s == BISE_OK)
        s = put_content(c, k, p, m, err);
    if (s == BISE_OK)
        s = put_tar(p, k, &end, err);
    bise_str_fini(&head);
    bise_str_fini(&end);
    return s;
}

/* What a file is to ModelPack, by its name. */
static const char *kind_of(const char *path)
{
    static const struct { const char *end, *kind; } table[] = {
        { ".safetensors", "weight" }, { ".gguf", "weight" },
        { ".dat", "weight" }, { "log.jsonl", "doc" }, { ".jsonl", "dataset" },
        { ".parquet", "dataset" }, { ".csv", "dataset" }, { ".py", "code" },
        { ".sh", "code" }, { ".md", "doc" }, { ".html", "doc" },
        { ".svg", "doc" }, { ".sig", "doc" }, { "LICENSE", "doc" },
        { "NOTICE", "doc" }, { "provenance.json", "doc" }
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (bise_ends_with(path, table[i].end))
            return table[i].kind;
    return "weight.config";
}

static bise_status put_layer(oci *c, blob *b, bise_tree_file *f,
                             bise_error *err)
{
    packing p = { .level = c->o->level ? c->o->level : 3 };
    bise_map m = { 0 };
    sink k;
    bise_status s = bise_map_open(&m, f->disk, err);
    if (s != BISE_OK)
        return s;
    s = alloc_packing(&p, err);
    const bool packed = s == BISE_OK && worth_packing(&p, &m);
    snprintf(b->type, sizeof b->type, MODEL "%s.v1.%s",
             kind_of(f->member.path), packed ? "tar+zstd" : "raw");
    if (s == BISE_OK)
        s = sink_open(&k, c, err);
    if (s == BISE_OK) {
        s = packed ? put_packed(c, &k, &p, f, &m, err)
                   : put_content(c, &k, NULL, &m, err);
        s = sink_close(&k, c, b, s, err);
    }
    memcpy(b->diff, b->digest, 32);
    if (s == BISE_OK && packed) {
        bise_sha256_finish(p.diff, b->diff);
        p.diff = NULL;
        s = bise_sha256_file(f->member.sha256, f->disk, err);
    } else
        memcpy(f->member.sha256, b->digest, 32);
    free_packing(&p);
    bise_map_close(&m);
    return s;
}

/* ------------------------------------------------------------- documents */
/* Set a member (taken); failures are remembered and told by put_text. */
static void set(oci *c, bise_json *o, const char *key, bise_json *v)
{
    c->failed |= bise_json_set(o, key, v) != 0;
}

static void append(oci *c, bise_json *list, bise_json *v)
{
    c->failed |= bise_json_append(list, v) != 0;
}

static void put_string(oci *c, bise_json *o, const char *key,
                       const char *text)
{
    set(c, o, key, bise_json_new_string(text));
}

/* "sha256:HEX" */
static bise_json *digest_text(const uint8_t digest[32])
{
    char text[80] = "sha256:";
    bise_hex32(text + 7, digest);
    return bise_json_new_string(text);
}

static bise_json *descriptor(oci *c, const blob *b)
{
    bise_json *d = bise_json_new_object();
    put_string(c, d, "mediaType", b->type);
    set(c, d, "digest", digest_text(b->digest));
    set(c, d, "size", bise_json_new_int((int64_t)b->bytes));
    return d;
}

/* A raw layer also has the title by which ORAS names the file. */
static void add_layer(oci *c, const blob *b, const bise_tree_file *f)
{
    bise_json *d = descriptor(c, b), *a = bise_json_new_object();
    put_string(c, a, "org.cncf.model.filepath", f->member.path);
    if (bise_ends_with(b->type, ".raw"))
        put_string(c, a, "org.opencontainers.image.title", f->member.path);
    set(c, d, "annotations", a);
    append(c, c->layers, d);
    append(c, c->diffs, digest_text(b->diff));
}

/* "6.9M": one digit after the point, as the specification has it. */
static void count_text(char out[16], double n)
{
    static const char unit[] = " KMBT";
    int i = 0;
    for (; n >= 1000 && i < 4; i++)
        n /= 1000;
    snprintf(out, 16, "%.1f%.*s", n, i > 0, unit + i);
}

/* Facts of the first input that is a model; an adapter or other files have
 * only their names. */
static void describe(oci *c, bise_json *about, bise_json *config,
                     const char *const *paths, size_t n)
{
    bise_checkpoint m;
    bise_error ignored;
    char count[16];
    size_t i = 0;
    for (; i < n; i++) {
        bise_error_init(&ignored);
        if (bise_checkpoint_open(&m, paths[i], NULL, &ignored) == BISE_OK)
            break;
    }
    if (i == n)
        return;
    put_string(c, about, "name", m.base_name);
    put_string(c, about, "family", bise_family_name(m.config.family));
    if (m.licence[0]) {
        bise_json *list = bise_json_new_array();
        append(c, list, bise_json_new_string(
            strcmp(m.licence, "apache-2.0") == 0 ? "Apache-2.0" : m.licence));
        set(c, about, "licenses", list);
    }
    put_string(c, config, "architecture", "transformer");
    put_string(c, config, "format", bise_store_gguf(m.store) ? "gguf"
                                                          : "safetensors");
    count_text(count, (double)bise_config_parameters(&m.config));
    put_string(c, config, "paramSize", count);
    bise_checkpoint_close(&m);
}

/* The configuration blob; about is also wanted for annotations. */
static bise_json *make_config(oci *c, const char *const *paths, size_t n)
{
    char date[32];
    bise_json *root = bise_json_new_object(), *about = bise_json_new_object();
    bise_json *config = bise_json_new_object(), *fs = bise_json_new_object();
    if (getenv("SOURCE_DATE_EPOCH"))
        put_string(c, about, "createdAt", bise_clock_iso(date));
    describe(c, about, config, paths, n);
    put_string(c, fs, "type", "layers");
    set(c, fs, "diff_ids", c->diffs);
    c->diffs = NULL;
    set(c, root, "descriptor", about);
    set(c, root, "config", config);
    set(c, root, "modelfs", fs);
    return root;
}

static bise_json *make_manifest(oci *c, const blob *config)
{
    bise_json *m = bise_json_new_object();
    set(c, m, "schemaVersion", bise_json_new_int(2));
    put_string(c, m, "mediaType", OCI "manifest.v1+json");
    put_string(c, m, "artifactType", MODEL "manifest.v1+json");
    set(c, m, "config", descriptor(c, config));
    set(c, m, "layers", c->layers);
    c->layers = NULL;
    return m;
}

/* A small file of the layout beside blobs/. */
static bise_status put_file(const char *root, const char *name,
                            const bise_json *v, bise_error *err)
{
    bise_str text = { 0 };
    char *path = bise_path_join(root, name);
    bise_json_dump(&text, v, 0, false);
    const bise_status s = path && bise_str_ok(&text)
        ? bise_file_write(path, bise_str_get(&text), text.len, err)
        : bise_fail_nomem(err);
    bise_str_fini(&text);
    bise_free(path);
    return s;
}

/* index.json with the one manifest, under the tag "latest". */
static bise_status put_index(oci *c, const char *root, const blob *manifest,
                             bise_error *err)
{
    bise_json *index = bise_json_new_object(), *list = bise_json_new_array();
    bise_json *d = descriptor(c, manifest), *a = bise_json_new_object();
    bise_json *layout = bise_json_new_object();
    put_string(c, a, "org.opencontainers.image.ref.name", "latest");
    put_string(c, d, "artifactType", MODEL "manifest.v1+json");
    set(c, d, "annotations", a);
    append(c, list, d);
    set(c, index, "schemaVersion", bise_json_new_int(2));
    put_string(c, index, "mediaType", OCI "index.v1+json");
    set(c, index, "manifests", list);
    put_string(c, layout, "imageLayoutVersion", "1.0.0");
    bise_status s = c->failed ? bise_fail_nomem(err)
                              : put_file(root, "oci-layout", layout, err);
    if (s == BISE_OK)
        s = put_file(root, "index.json", index, err);
    bise_json_free(index);
    bise_json_free(layout);
    return s;
}

/* Configuration, manifest, index: each names the one before by its digest. */
static bise_status put_documents(oci *c, const char *root,
                                 const char *const *paths, size_t n,
                                 bise_error *err)
{
    blob config = { .type = MODEL "config.v1+json" };
    blob manifest = { .type = OCI "manifest.v1+json" };
    bise_json *v = make_config(c, paths, n);
    bise_status s = put_text(c, &config, v, err);
    bise_json_free(v);
    if (s != BISE_OK)
        return s;
    v = make_manifest(c, &config);
    s = put_text(c, &manifest, v, err);
    bise_json_free(v);
    return s == BISE_OK ? put_index(c, root, &manifest, err) : s;
}

/* ------------------------------------------------------------- the whole */
/* All layers, then the documents, into the partial folder. */
static bise_status fill(oci *c, bise_tree *t, const char *root,
                        const char *const *paths, size_t n, bise_error *err)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < t->n; i++)
        c->total += t->list[i].member.bytes;
    for (size_t i = 0; i < t->n && s == BISE_OK; i++) {
        bise_tree_file *f = &t->list[i];
        blob b = { .bytes = 0 };
        if (bise_ends_with(f->member.path, "/"))
            continue;                           /* an empty folder */
        s = put_layer(c, &b, f, err);
        if (s == BISE_OK)
            add_layer(c, &b, f);
    }
    return s == BISE_OK ? put_documents(c, root, paths, n, err) : s;
}

/* Collect, open the folder, fill it, give it its name. */
bise_status bise_oci_pack(const char *const *paths, size_t n, const char *out,
                          const bise_pack_options *o, bise_pack_result *result,
                          bise_error *err)
{
    bise_tree t = { 0 };
    bise_outdir d = { 0 };
    oci c = { .o = o, .layers = bise_json_new_array(),
              .diffs = bise_json_new_array() };
    memset(result, 0, sizeof *result);
    bise_status s = bise_tree_collect(&t, paths, n, out, err);
    if (s == BISE_OK && !t.n)
        s = bise_fail(err, BISE_EINVAL, "nothing to pack");
    if (s == BISE_OK)
        s = bise_outdir_open(&d, out, o->force, err);
    if (s == BISE_OK) {
        char *dir = bise_path_join(d.part_path, "blobs/sha256");
        c.dir = dir;
        s = dir ? bise_mkdir(dir, err) : bise_fail_nomem(err);
        if (s == BISE_OK)
            s = fill(&c, &t, d.part_path, paths, n, err);
        if (s == BISE_OK)
            s = bise_tree_result(result, &t, c.packed, err);
        if (s == BISE_OK)
            s = bise_outdir_commit(&d, err);
        else
            bise_outdir_drop(&d);
        if (s != BISE_OK) {
            bise_json_free(result->files);
            result->files = NULL;
        }
        bise_free(dir);
    }
    bise_json_free(c.layers);
    bise_json_free(c.diffs);
    bise_tree_fini(&t);
    return s;
}
