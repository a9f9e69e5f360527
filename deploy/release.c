/* release.c - the order of bise release: collect, decide what it is and under
 * which terms, write the texts, copy and hash all files, then the provenance
 * of what was written; the folder appears under its name when all is there.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/release_int.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "core/file.h"
#include "deploy/licence_text.h"
#include "formats/crypto.h"

#define PIECE ((uint64_t)8 << 20)

const char *bise_apache_licence(void)
{
    return licence_text;
}

/* ---- writing ---- */

/* Bytes [at, at + n) of a mapped file into out: by the file system, which may
 * share the blocks, else by a plain write. */
static bool copy_piece(int in, int out, const uint8_t *data, uint64_t at,
                       uint64_t n)
{
    uint64_t done = 0;
    while (done < n) {
        off_t from = (off_t)(at + done), to = from;
        ssize_t k = copy_file_range(in, &from, out, &to, n - done, 0);
        if (k <= 0)
            k = pwrite(out, data + at + done, n - done, to);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        done += (uint64_t)k;
    }
    return true;
}

/* Account for what was copied. Worker 0 reports; every worker stops when the
 * user wants it. */
static bise_status copied(release *x, uint64_t n, int worker, bise_error *err)
{
    const bise_progress *p = x->o->progress;
    const uint64_t done = atomic_fetch_add(&x->done, n) + n;
    if (worker == 0)
        return bise_progress_step(p, "copy", done, x->total, "bytes", NULL,
                                  err);
    return p && p->cancel && *p->cancel
        ? bise_fail(err, BISE_ECANCEL, "interrupted") : BISE_OK;
}

/* Copy and hash in one pass; resident memory stays at a piece. */
static bise_status copy_file(release *x, release_item *f, const char *path,
                             int worker)
{
    bise_map m = { 0 };
    bise_sha256 *h = bise_sha256_new();
    bise_status s = h ? bise_map_open(&m, f->disk, &f->err) :
        bise_fail_nomem(&f->err);
    const int in = open(f->disk, O_RDONLY | O_CLOEXEC);
    const int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (s == BISE_OK && in < 0)
        s = bise_fail_errno(&f->err, f->disk, "cannot open");
    if (s == BISE_OK && out < 0)
        s = bise_fail_errno(&f->err, path, "cannot create");
    for (uint64_t at = 0; at < m.size && s == BISE_OK; at += PIECE) {
        const uint64_t n = m.size - at < PIECE ? m.size - at : PIECE;
        bise_sha256_add(h, m.data + at, n);
        if (!copy_piece(in, out, m.data, at, n))
            s = bise_fail_errno(&f->err, path, "cannot write");
        bise_map_release(m.data + at, n);
        if (s == BISE_OK)
            s = copied(x, n, worker, &f->err);
    }
    if (s == BISE_OK && fsync(out) != 0)
        s = bise_fail_errno(&f->err, path, "cannot write");
    if (s == BISE_OK) {
        f->bytes = m.size;
        bise_sha256_finish(h, f->sha);
        memcpy(f->source_sha, f->sha, 32);
    } else
        bise_sha256_free(h);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    bise_map_close(&m);
    return s;
}

typedef struct writing {
    release *x;
    const char *dir;
} writing;

/* One file of the release; its error is looked at afterwards, in order. */
static void write_task(void *ctx, size_t index, int worker)
{
    const writing *w = ctx;
    release_item *f = &w->x->v[index];
    bise_error_init(&f->err);
    bise_status s = BISE_OK;
    char *path = bise_path_join(w->dir, f->name);
    if (!path)
        s = bise_fail_nomem(&f->err);
    else if (f->text.len) {
        bise_sha256_of(f->sha, f->text.data, f->text.len);
        s = bise_file_write(path, f->text.data, f->text.len, &f->err);
        if (s == BISE_OK && f->disk)
            s = bise_sha256_file(f->source_sha, f->disk, &f->err);
    } else
        s = copy_file(w->x, f, path, worker);
    f->err.status = s;
    bise_free(path);
}

/* Folders first, then every file on all cores. */
static bise_status write_all(release *x, const char *dir, size_t first)
{
    writing w = { x, dir };
    bise_status s = BISE_OK;
    for (size_t i = first; i < x->n && s == BISE_OK; i++) {
        const char *slash = strrchr(x->v[i].name, '/');
        char *path = slash ? bise_path_join(dir, x->v[i].name) : NULL;
        if (slash && !path)
            s = bise_fail_nomem(x->err);
        else if (path) {
            path[strlen(path) - strlen(slash)] = 0;
            s = bise_mkdir(path, x->err);
        }
        bise_free(path);
    }
    if (s == BISE_OK && first == 0)
        bise_pool_run(x->o->pool, x->n, write_task, &w);
    for (size_t i = first; i < x->n && s == BISE_OK; i++) {
        if (first)
            write_task(&w, i, 0);
        if (x->v[i].err.status != BISE_OK) {
            *x->err = x->v[i].err;
            s = x->err->status;
        }
    }
    return s;
}

/* ---- deciding ---- */

/* Is this evaluation of that file? By the name that eval was given. */
static bool is_of(const release_item *f, const char *model)
{
    const char *given = bise_path_base(f->given);
    return model && (f->weights > 0) && (strcmp(given, model) == 0 ||
                                         strcmp(f->name, model) == 0);
}

/* Figures of eval to the first file that each is of. */
static bise_status place_evals(release *x)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < bise_json_size(x->evals) && s == BISE_OK; i++) {
        const bise_json *v = bise_json_at(x->evals, i);
        const char *model = bise_json_string(bise_json_get(v, "model"), NULL);
        release_item *f = NULL;
        for (size_t k = 0; k < x->n && !f; k++)
            if (is_of(&x->v[k], model))
                f = &x->v[k];
        if (!f) {
            s = bise_release_problem(x, model ? model : "evaluation", "this "
                                     "evaluation is of none of the files");
            continue;
        }
        f->ppl = bise_json_number(bise_json_get(v, "ppl"), f->ppl);
        f->kld = bise_json_number(bise_json_get(bise_json_get(v, "kld"),
                                                "mean"), f->kld);
    }
    return s;
}

/* The Hub knows four relations. Full weights that are not quantized are a
 * fine-tune; several adapters merged are a merge; a GGUF without loss alone is
 * a conversion, which has none. */
static void decide_relation(release *x)
{
    const char *r = "";
    if (x->o->relation)
        r = x->o->relation;
    else if (x->adapters > 1)
        r = "merge";
    else if (x->kinds[RELEASE_HF] || x->kinds[RELEASE_NATIVE] ||
             (x->adapters && x->kinds[RELEASE_GGUF]))
        r = "finetune";
    else if (x->kinds[RELEASE_GGUF])
        r = x->quantized ? "quantized" : "";
    else if (x->kinds[RELEASE_ADAPTER] || x->kinds[RELEASE_GGUF_ADAPTER])
        r = "adapter";
    snprintf(x->r->relation, sizeof x->r->relation, "%s", r);
}

/* An adapter's base is named as the Hub names it, so that PEFT and vLLM find
 * it from the released folder alone. */
static bise_status name_base(release *x)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < x->n && s == BISE_OK && x->base; i++) {
        release_item *f = &x->v[i];
        bise_json *v = NULL;
        if (strcmp(bise_path_base(f->name), "adapter_config.json") != 0)
            continue;
        s = f->text.len ? bise_json_parse(&v, f->text.data, f->text.len,
                                          x->err) :
            bise_json_load(&v, f->disk, x->err);
        bise_str_clear(&f->text);
        if (s == BISE_OK &&
            bise_json_set(v, "base_model_name_or_path",
                          bise_json_new_string(x->base)) != 0)
            s = bise_fail_nomem(x->err);
        if (s == BISE_OK) {
            bise_json_dump(&f->text, v, 2, true);
            bise_str_putc(&f->text, '\n');
            f->bytes = f->text.len;
            if (!bise_str_ok(&f->text))
                s = bise_fail_nomem(x->err);
        }
        bise_json_free(v);
    }
    return s;
}

/* What a reader of the Hub needs and no input says. */
static bise_status ask(release *x)
{
    bise_status s = BISE_OK;
    if (x->r->relation[0] && !x->base)
        s = bise_release_problem(x, "README.md", "the base model is not known "
                                 "by its name on the Hub: give --base "
                                 "ORG/NAME");
    const char *name = strchr(x->o->repo, '/') + 1;
    if (s == BISE_OK && strcasestr(name, "official"))
        s = bise_release_problem(x, "README.md", "the name '%s' may suggest an "
                                 "endorsement (Apache-2.0, section 6)", name);
    if (s == BISE_OK && !x->chat &&
        (x->kinds[RELEASE_HF] || x->kinds[RELEASE_GGUF]))
        s = bise_release_problem(x, "README.md", "no chat template: servers "
                                 "answer completions only");
    return s;
}

/* ---- texts ---- */

static const char attributes[] =
    "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
    "*.gguf filter=lfs diff=lfs merge=lfs -text\n"
    "*.dat filter=lfs diff=lfs merge=lfs -text\n"
    "tekken.json filter=lfs diff=lfs merge=lfs -text\n"
    "tokenizer.json filter=lfs diff=lfs merge=lfs -text\n";

/* The full text of the licence: ours for Apache-2.0, else the input's. */
static bise_status put_licence(release *x)
{
    bise_str text = { 0 };
    if (strcasecmp(x->licence, "apache-2.0") == 0)
        bise_str_puts(&text, bise_apache_licence());
    else if (x->licence_text.len)
        bise_str_add(&text, x->licence_text.data, x->licence_text.len);
    else
        return bise_release_problem(x, "LICENSE", "the text of the licence is "
                                    "missing: add it before publishing");
    return bise_release_text(x, "LICENSE", &text);
}

static bise_status put_texts(release *x)
{
    bise_str text = { 0 };
    bise_status s = put_licence(x);
    if (s == BISE_OK && x->notice.len) {
        bise_str_add(&text, x->notice.data, x->notice.len);
        s = bise_release_text(x, "NOTICE", &text);
    }
    if (s == BISE_OK) {
        bise_str_puts(&text, attributes);
        s = bise_release_text(x, ".gitattributes", &text);
    }
    if (s == BISE_OK) {
        bise_release_modelfile(&text, x);
        if (text.len || !bise_str_ok(&text))
            s = bise_release_text(x, "Modelfile", &text);
    }
    if (s == BISE_OK) {
        bise_release_card(&text, x);
        s = bise_release_text(x, "README.md", &text);
    }
    return s;
}

/* The last look before anything is written: texts people read or that were
 * settings. A tokenizer's vocabulary may hold any string. */
static bise_status check_private(release *x)
{
    static const char *const names[] = { "log.jsonl", "loss.svg",
        "chat_template.jinja", "config.json", "generation_config.json",
        "tokenizer_config.json", "adapter_config.json", "params.json",
        "BASE_README.md" };
    bise_status s = BISE_OK;
    for (size_t i = 0; i < x->n && s == BISE_OK; i++) {
        release_item *f = &x->v[i];
        bise_str text = { 0 };
        bool look = f->text.len > 0 && strcmp(f->name, "LICENSE") != 0 &&
                    strcmp(f->name, "NOTICE") != 0;
        for (size_t k = 0; k < sizeof names / sizeof *names &&
                           !f->text.len; k++)
            look = look || strcmp(bise_path_base(f->name), names[k]) == 0;
        if (look && !f->text.len)
            s = bise_file_read(&text, f->disk, x->err);
        const bise_str *t = f->text.len ? &f->text : &text;
        const char *mark = look && s == BISE_OK ?
            bise_release_private(bise_str_get(t), t->len) : NULL;
        if (mark) {
            s = bise_fail(x->err, BISE_EUNSUPPORTED, "'%s' would publish a "
                          "path of this machine ('%s...')", f->name, mark);
            s = bise_error_hint(x->err, "take it out of the input");
        }
        bise_str_fini(&text);
    }
    return s;
}

/* ---- the whole ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const release_item *)a)->name,
                  ((const release_item *)b)->name);
}

/* Everything that can be refused is, before the first byte is written. */
static bise_status prepare(release *x, const char *const *paths, size_t n)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < n && s == BISE_OK; i++)
        s = bise_release_take(x, paths[i]);
    if (s == BISE_OK && x->n == 0)
        s = bise_fail(x->err, BISE_EUNSUPPORTED, "evaluations only: no file "
                      "to release");
    if (s == BISE_OK)
        qsort(x->v, x->n, sizeof *x->v, by_name);
    decide_relation(x);
    if (s == BISE_OK)
        s = place_evals(x);
    if (s == BISE_OK)
        s = name_base(x);
    if (s == BISE_OK)
        s = ask(x);
    if (s == BISE_OK)
        s = put_texts(x);
    if (s == BISE_OK)
        qsort(x->v, x->n, sizeof *x->v, by_name);
    return s == BISE_OK ? check_private(x) : s;
}

/* The statement comes last: it has the hashes of all the others. */
static bise_status write_folder(release *x, const char *out)
{
    bise_outdir d = { 0 };
    bise_str proof = { 0 };
    for (size_t i = 0; i < x->n; i++)
        if (!x->v[i].text.len)
            x->total += x->v[i].bytes;
    bise_status s = bise_disk_check(out, x->total, x->err);
    if (s == BISE_OK)
        s = bise_outdir_open(&d, out, x->o->force, x->err);
    if (s != BISE_OK)
        return s;
    s = write_all(x, d.part_path, 0);
    const size_t n = x->n;
    if (s == BISE_OK) {
        bise_release_proof(&proof, x);
        if (x->nomem)
            proof.failed = true;
        s = bise_release_text(x, "provenance.json", &proof);
    }
    if (s == BISE_OK)
        s = write_all(x, d.part_path, n);
    if (s == BISE_OK)
        s = copied(x, 0, 0, x->err);
    if (s == BISE_OK)
        return bise_outdir_commit(&d, x->err);
    bise_outdir_drop(&d);
    return s;
}

/* [{path, bytes, sha256}] in order of names. */
static bise_status list_files(release *x)
{
    int bad = 0;
    qsort(x->v, x->n, sizeof *x->v, by_name);
    for (size_t i = 0; i < x->n; i++) {
        bise_json *f = bise_json_new_object();
        char hex[65];
        bad |= bise_json_set(f, "path", bise_json_new_string(x->v[i].name));
        bad |= bise_json_set(f, "bytes",
                             bise_json_new_int((int64_t)x->v[i].bytes));
        bad |= bise_json_set(f, "sha256", bise_json_new_string(
                                 bise_hex32(hex, x->v[i].sha)));
        bad |= bise_json_append(x->r->files, f);
    }
    return bad ? bise_fail_nomem(x->err) : BISE_OK;
}

static void release_fini(release *x)
{
    for (size_t i = 0; i < x->n; i++)
        bise_str_fini(&x->v[i].text);
    bise_free(x->v);
    for (size_t i = 0; i < x->n_runs; i++) {
        bise_json_free(x->runs[i].facts);
        bise_json_free(x->runs[i].settings);
    }
    bise_free(x->runs);
    bise_json_free(x->evals);
    bise_json_free(x->facts);
    bise_str_fini(&x->notice);
    bise_str_fini(&x->licence_text);
    bise_arena_fini(&x->arena);
}

/* Names that end up in links and commands are checked first. */
static bise_status check_options(const bise_release_options *o,
                                 bise_error *err)
{
    static const char *const known[] = { "finetune", "adapter", "quantized",
                                         "merge" };
    bool ok = !o->relation;
    for (size_t i = 0; i < 4 && !ok; i++)
        ok = strcmp(known[i], o->relation) == 0;
    if (!ok)
        return bise_fail(err, BISE_EINVAL, "'%s' is no relation of the Hub: "
                         "finetune, adapter, quantized or merge",
                         o->relation);
    if (!bise_release_is_id(o->repo))
        return bise_fail(err, BISE_EINVAL, "--repo '%s' is not ORG/NAME",
                         o->repo);
    if (o->base && !bise_release_is_id(o->base))
        return bise_fail(err, BISE_EINVAL, "--base '%s' is not ORG/NAME",
                         o->base);
    for (int i = 0; i < o->n_datasets; i++)
        if (!bise_release_is_id(o->datasets[i]))
            return bise_fail(err, BISE_EINVAL, "--dataset '%s' is not ORG/NAME",
                             o->datasets[i]);
    return BISE_OK;
}

bise_status bise_release(const char *const *paths, size_t n, const char *out,
                         const bise_release_options *o,
                         bise_release_result *result, bise_error *err)
{
    memset(result, 0, sizeof *result);
    bise_status s = check_options(o, err);
    if (s != BISE_OK)
        return s;
    release x = { .o = o, .r = result, .err = err, .base = o->base,
                  .temperature = NAN, .top_p = NAN };
    result->files = bise_json_new_array();
    result->problems = bise_json_new_array();
    x.evals = bise_json_new_array();
    x.facts = bise_json_new_object();
    if (!result->files || !result->problems || !x.evals || !x.facts)
        s = bise_fail_nomem(err);
    if (s == BISE_OK)
        s = prepare(&x, paths, n);
    if (s == BISE_OK)
        s = write_folder(&x, out);
    if (s == BISE_OK)
        s = list_files(&x);
    snprintf(result->licence, sizeof result->licence, "%s", x.licence);
    release_fini(&x);
    return s;
}

/* Safe on a zeroed result. */
void bise_release_fini(bise_release_result *result)
{
    bise_json_free(result->files);
    bise_json_free(result->problems);
    memset(result, 0, sizeof *result);
}
