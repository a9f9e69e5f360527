/* sign.c - see sign.h. Signed is the DSSE pre-authentication encoding of the
 * statement (PAE: "DSSEv1", then length and content of type and payload), so
 * that the signature covers what the payload is as well as its bytes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/sign.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "formats/crypto.h"

#define PAYLOAD_TYPE "application/vnd.in-toto+json"
#define PREDICATE "https://model_signing/signature/v1.0"
#define MAX_DEPTH 64

/* One file to hash: its name in the statement and where it is. */
typedef struct signed_file {
    const char *name, *disk;
    uint8_t sha[32];
    bise_error err;
} signed_file;

typedef struct file_list {
    signed_file *v;
    size_t n, cap;
    bise_arena arena;
} file_list;

/* Not signed, at the top of the folder only: the signature itself and git's
 * files (the default of model_signing). */
static bool is_left_out(const char *name)
{
    static const char *const out[] = { BISE_SIGNATURE, ".git", ".gitignore",
                                       ".gitattributes", ".github" };
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        if (strcmp(name, out[i]) == 0)
            return true;
    return false;
}

/* Gather the files below disk; name is its path in the statement, "" at the
 * top. */
static bise_status gather(file_list *l, const char *disk, const char *name,
                          int depth, bise_error *err)
{
    char **entries = NULL;
    size_t n = 0;
    bise_status s = depth > MAX_DEPTH ?
        bise_fail(err, BISE_EUNSUPPORTED, "folders nested too deeply") :
        bise_dir_list(&entries, &n, disk, err);
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        if (!*name && is_left_out(entries[i]))
            continue;
        char *d = bise_path_join(disk, entries[i]);
        char *p = *name ? bise_path_join(name, entries[i]) :
            bise_strdup(entries[i]);
        void *grown = l->v;
        if (!d || !p)
            s = bise_fail_nomem(err);
        else if (bise_is_dir(d))
            s = gather(l, d, p, depth + 1, err);
        else if (bise_grow(&grown, &l->cap, l->n + 1, sizeof *l->v) != 0)
            s = bise_fail_nomem(err);
        else {
            l->v = grown;
            signed_file *f = &l->v[l->n++];
            memset(f, 0, sizeof *f);
            f->name = bise_arena_strdup(&l->arena, p);
            f->disk = bise_arena_strdup(&l->arena, d);
            if (!f->name || !f->disk)
                s = bise_fail_nomem(err);
        }
        bise_free(d);
        bise_free(p);
    }
    bise_free(entries);
    return s;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const signed_file *)a)->name,
                  ((const signed_file *)b)->name);
}

/* Hash one file; its error is looked at afterwards, in order. */
static void hash_task(void *ctx, size_t index, int worker)
{
    signed_file *f = (signed_file *)ctx + index;
    (void)worker;
    bise_error_init(&f->err);
    if (bise_sha256_file(f->sha, f->disk, &f->err) != BISE_OK)
        memset(f->sha, 0, sizeof f->sha);
}

/* All files of a folder, sorted by name in code point order, hashed. */
static bise_status list_files(file_list *l, const char *dir, bise_pool *pool,
                              bise_error *err)
{
    bise_status s = gather(l, dir, "", 0, err);
    if (s == BISE_OK && l->n) {
        qsort(l->v, l->n, sizeof *l->v, by_name);
        bise_pool_run(pool, l->n, hash_task, l->v);
    }
    for (size_t i = 0; i < l->n && s == BISE_OK; i++)
        if (l->v[i].err.status != BISE_OK) {
            *err = l->v[i].err;
            s = err->status;
        }
    return s;
}

static void free_list(file_list *l)
{
    bise_free(l->v);
    bise_arena_fini(&l->arena);
}

/* The statement. The subject's digest is the sha256 of all files' digests in
 * their order, a single number that stands for the whole folder. */
static void put_statement(bise_str *out, const file_list *l, const char *dir)
{
    char hex[65];
    uint8_t root[32];
    bise_str all = { 0 };
    char *real = realpath(dir, NULL);
    const char *base = bise_path_base(real ? real : dir);
    for (size_t i = 0; i < l->n; i++)
        bise_str_add(&all, l->v[i].sha, 32);
    bise_sha256_of(root, bise_str_get(&all), all.len);
    bise_str_puts(out, "{\"_type\":\"https://in-toto.io/Statement/v1\","
                  "\"subject\":[{\"name\":");
    bise_str_put_json(out, base, strlen(base));
    bise_str_printf(out, ",\"digest\":{\"sha256\":\"%s\"}}],"
                    "\"predicateType\":\"" PREDICATE "\",\"predicate\":{"
                    "\"serialization\":{\"method\":\"files\","
                    "\"hash_type\":\"sha256\",\"allow_symlinks\":false,"
                    "\"ignore_paths\":[\"" BISE_SIGNATURE "\",\".git\","
                    "\".gitattributes\",\".github\",\".gitignore\"]},"
                    "\"resources\":[", bise_hex32(hex, root));
    for (size_t i = 0; i < l->n; i++) {
        bise_str_puts(out, i ? ",{\"name\":" : "{\"name\":");
        bise_str_put_json(out, l->v[i].name, strlen(l->v[i].name));
        bise_str_printf(out, ",\"algorithm\":\"sha256\",\"digest\":\"%s\"}",
                        bise_hex32(hex, l->v[i].sha));
    }
    bise_str_puts(out, "]}}");
    out->failed = out->failed || !bise_str_ok(&all);
    bise_str_fini(&all);
    free(real);
}

/* PAE(type, payload) of DSSE. */
static void put_pae(bise_str *out, const char *payload, size_t n)
{
    bise_str_printf(out, "DSSEv1 %zu %s %zu ", strlen(PAYLOAD_TYPE),
                    PAYLOAD_TYPE, n);
    bise_str_add(out, payload, n);
}

/* The bundle around payload and signature. */
static void put_bundle(bise_str *out, const bise_str *payload,
                       const bise_str *sig, const char *hint)
{
    bise_str_printf(out, "{\"mediaType\":\"application/vnd.dev.sigstore.bundle"
                    ".v0.3+json\",\"verificationMaterial\":{\"publicKey\":{"
                    "\"hint\":\"%s\"},\"tlogEntries\":[]},\"dsseEnvelope\":{"
                    "\"payload\":\"", hint);
    bise_base64_put(out, payload->data, payload->len);
    bise_str_puts(out, "\",\"payloadType\":\"" PAYLOAD_TYPE "\","
                  "\"signatures\":[{\"sig\":\"");
    bise_base64_put(out, sig->data, sig->len);
    bise_str_puts(out, "\",\"keyid\":\"\"}]}}\n");
}

/* The key first: a wrong one is told before everything is hashed. */
bise_status bise_sign(const char *dir, const char *key_path, bise_pool *pool,
                      size_t *files, bise_error *err)
{
    bise_key *key = NULL;
    file_list l = { 0 };
    bise_str payload = { 0 }, pae = { 0 }, sig = { 0 }, bundle = { 0 };
    char hint[65];
    bise_status s = bise_key_load(&key, key_path, true, err);
    if (s == BISE_OK)
        s = bise_key_hint(hint, key, err);
    if (s == BISE_OK)
        s = list_files(&l, dir, pool, err);
    if (s == BISE_OK && !l.n)
        s = bise_fail(err, BISE_EINVAL, "nothing to sign");
    if (s == BISE_OK) {
        put_statement(&payload, &l, dir);
        put_pae(&pae, bise_str_get(&payload), payload.len);
        s = bise_str_ok(&payload) && bise_str_ok(&pae) ?
            bise_key_sign(&sig, key, pae.data, pae.len, err) :
            bise_fail_nomem(err);
    }
    if (s == BISE_OK) {
        put_bundle(&bundle, &payload, &sig, hint);
        char *path = bise_path_join(dir, BISE_SIGNATURE);
        s = path && bise_str_ok(&bundle) ?
            bise_file_write(path, bundle.data, bundle.len, err) :
            bise_fail_nomem(err);
        bise_free(path);
    }
    *files = l.n;
    free_list(&l);
    bise_key_free(key);
    bise_str_fini(&payload);
    bise_str_fini(&pae);
    bise_str_fini(&sig);
    bise_str_fini(&bundle);
    return s == BISE_OK ? s : bise_error_in(err, dir, NULL);
}

/* Add {path, message}. */
static bise_status problem(bise_json *problems, const char *path,
                           const char *message, bise_error *err)
{
    bise_json *p = bise_json_new_object();
    int bad = bise_json_set(p, "path", bise_json_new_string(path));
    bad |= bise_json_set(p, "message", bise_json_new_string(message));
    bad |= bise_json_append(problems, p);
    return bad ? bise_fail_nomem(err) : BISE_OK;
}

/* Read the bundle and check the signature; the statement it covers comes out,
 * or NULL and what is wrong. */
static const char *open_bundle(bise_json **statement, const bise_json *bundle,
                               const bise_key *key, bise_error *err)
{
    const bise_json *env = bise_json_get(bundle, "dsseEnvelope");
    const bise_json *first = bise_json_at(bise_json_get(env, "signatures"), 0);
    size_t n = 0, k = 0;
    const char *text = bise_json_string(bise_json_get(env, "payload"), &n);
    const char *sig64 = bise_json_string(bise_json_get(first, "sig"), &k);
    const char *type = bise_json_string(bise_json_get(env, "payloadType"),
                                        NULL);
    const char *wrong = "the signature is not a bundle with a key's signature";
    bise_str payload = { 0 }, sig = { 0 }, pae = { 0 };
    if (text && sig64 && type && strcmp(type, PAYLOAD_TYPE) == 0 &&
        bise_base64_get(&payload, text, n) && bise_base64_get(&sig, sig64, k)) {
        put_pae(&pae, bise_str_get(&payload), payload.len);
        if (!bise_str_ok(&pae) ||
            !bise_key_check(key, pae.data, pae.len, sig.data, sig.len))
            wrong = "the signature is not of this key, or was changed";
        else if (bise_json_parse(statement, payload.data, payload.len, err) !=
                 BISE_OK)
            wrong = "the signed statement is not JSON";
        else
            wrong = NULL;
    }
    bise_str_fini(&payload);
    bise_str_fini(&sig);
    bise_str_fini(&pae);
    return wrong;
}

/* Files against the statement: each listed one is there and equal, and there
 * is none that is not listed. Both lists are walked by name. */
static bise_status compare(const bise_json *statement, const file_list *l,
                           const char *dir, bise_json *problems,
                           bise_error *err)
{
    const bise_json *predicate = bise_json_get(statement, "predicate");
    const bise_json *list = bise_json_get(predicate, "resources");
    const char *type = bise_json_string(bise_json_get(statement,
                                                      "predicateType"), NULL);
    bool *seen = bise_alloc_array(l->n + 1, sizeof *seen);
    bise_status s = seen ? BISE_OK : bise_fail_nomem(err);
    if (s == BISE_OK && (!type || strcmp(type, PREDICATE) != 0))
        s = problem(problems, dir, "the statement is no model signature", err);
    for (size_t i = 0; i < bise_json_size(list) && s == BISE_OK; i++) {
        const bise_json *r = bise_json_at(list, i);
        const char *name = bise_json_string(bise_json_get(r, "name"), NULL);
        const char *digest = bise_json_string(bise_json_get(r, "digest"),
                                              NULL);
        const signed_file want = { .name = name ? name : "" };
        const signed_file *f = l->n ? bsearch(&want, l->v, l->n, sizeof *l->v,
                                              by_name) : NULL;
        char hex[65];
        if (f)
            seen[f - l->v] = true;
        if (!f)
            s = problem(problems, want.name, "signed, but not there", err);
        else if (!digest || strcmp(bise_hex32(hex, f->sha), digest) != 0)
            s = problem(problems, f->name, "sha256 differs from the signed one",
                        err);
    }
    for (size_t i = 0; i < l->n && s == BISE_OK; i++)
        if (!seen[i])
            s = problem(problems, l->v[i].name, "there, but not signed", err);
    bise_free(seen);
    return s;
}

/* Signature first: files are only hashed when the statement can be trusted. */
bise_status bise_sign_check(const char *dir, const char *key_path,
                            bise_pool *pool, bise_json *problems,
                            bise_error *err)
{
    bise_key *key = NULL;
    bise_json *bundle = NULL, *statement = NULL;
    file_list l = { 0 };
    bise_error e;
    bise_status s = bise_key_load(&key, key_path, false, err);
    char *path = bise_path_join(dir, BISE_SIGNATURE);
    if (s == BISE_OK && !path)
        s = bise_fail_nomem(err);
    bise_error_init(&e);
    const char *wrong = NULL;
    if (s == BISE_OK)
        wrong = bise_json_load(&bundle, path, &e) == BISE_OK ?
            open_bundle(&statement, bundle, key, &e) :
            "no readable signature here";
    if (s == BISE_OK && wrong)
        s = problem(problems, path, wrong, err);
    if (s == BISE_OK && !wrong)
        s = list_files(&l, dir, pool, err);
    if (s == BISE_OK && !wrong)
        s = compare(statement, &l, dir, problems, err);
    bise_json_free(bundle);
    bise_json_free(statement);
    free_list(&l);
    bise_key_free(key);
    bise_free(path);
    return s;
}
