/* release_collect.c - from the user's paths to the list of files of a release.
 * A directory's known files are taken under their names, everything else is
 * left out and told: what is published by accident cannot be taken back. Files
 * that may name paths of this machine are read and written anew.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/file.h"
#include "deploy/release_facts.h"
#include "formats/safetensors.h"
#include "formats/yaml.h"
#include "model/checkpoint.h"
#include "model/lineage.h"

/* Problems are told, not fatal: the folder is right as far as it can be. */
bise_status bise_release_problem(release *x, const char *path, const char *fmt,
                                 ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    bise_json *p = bise_json_new_object();
    int bad = bise_json_set(p, "path", bise_json_new_string(path));
    bad |= bise_json_set(p, "message", bise_json_new_string(text));
    bad |= bise_json_append(x->r->problems, p);
    return bad ? bise_fail_nomem(x->err) : BISE_OK;
}

const char *bise_release_keep(release *x, const char *s)
{
    const char *copy = s ? bise_arena_strdup(&x->arena, s) : NULL;
    x->nomem = x->nomem || (s && !copy);
    return copy;
}

/* A new file; names must differ. */
static release_item *add(release *x, release_kind kind, const char *name,
                         const char *disk)
{
    void *v = x->v;
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->v[i].name, name) == 0) {
            if (bise_fail(x->err, BISE_EUNSUPPORTED, "two inputs would both "
                          "be '%s' in the release", name) == BISE_OK ||
                bise_error_hint(x->err, "rename one of them") == BISE_OK)
                return NULL;
            return NULL;
        }
    if (bise_grow(&v, &x->cap, x->n + 1, sizeof *x->v) != 0) {
        if (bise_fail_nomem(x->err) == BISE_OK)
            return NULL;
        return NULL;
    }
    x->v = v;
    release_item *f = &x->v[x->n];
    memset(f, 0, sizeof *f);
    f->kind = kind;
    f->name = bise_arena_strdup(&x->arena, name);
    f->disk = disk ? bise_arena_strdup(&x->arena, disk) : NULL;
    f->given = bise_arena_strdup(&x->arena, bise_path_base(disk ? disk : name));
    f->ppl = f->kld = NAN;
    f->bytes = disk ? bise_file_size(disk) : 0;
    if (!f->name || !f->given || (disk && !f->disk)) {
        if (bise_fail_nomem(x->err) == BISE_OK)
            return NULL;
        return NULL;
    }
    x->n++;
    x->kinds[kind]++;
    return f;
}

/* The text is the item's from here, also on failure. */
bise_status bise_release_text(release *x, const char *name, bise_str *text)
{
    release_item *f = bise_str_ok(text) ? add(x, RELEASE_SIDE, name, NULL)
                                        : NULL;
    if (f) {
        f->text = *text;
        f->bytes = text->len;
        memset(text, 0, sizeof *text);
        return BISE_OK;
    }
    const bool ok = bise_str_ok(text);
    bise_str_fini(text);
    return ok ? x->err->status : bise_fail_nomem(x->err);
}

bool bise_release_is_id(const char *s)
{
    const char *slash = s ? strchr(s, '/') : NULL;
    if (!slash || slash == s || !slash[1] || strchr(slash + 1, '/') ||
        strlen(s) > 190)
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                  "0123456789-_./") == strlen(s) && s[0] != '.' &&
           slash[1] != '.';
}

/* ---- weights ---- */

/* Which type holds most bytes, and how many weights there are. */
void bise_release_count(release_item *f, const bise_tensor *t, size_t n)
{
    uint64_t of[BISE_DTYPE_COUNT] = { 0 };
    int best = -1;
    for (size_t i = 0; i < n; i++) {
        f->weights += bise_tensor_count(&t[i]);
        f->weight_bytes += t[i].bytes;
        of[t[i].dtype] += t[i].bytes;
        if (best < 0 || of[t[i].dtype] > of[best])
            best = (int)t[i].dtype;
    }
    if (best >= 0 && !f->type)
        f->type = bise_dtype_get((bise_dtype)best)->name;
}

/* Opening checks the structure; its metadata tells of a merge. */
static bise_status read_safetensors(release *x, release_item *f)
{
    bise_st st = { 0 };
    bise_status s = bise_st_open(&st, f->disk, x->err);
    if (s == BISE_OK) {
        bise_release_count(f, st.tensors, st.n_tensors);
        s = bise_release_st_meta(x, f, st.meta);
    }
    bise_st_close(&st);
    return s;
}

/* ---- directories ---- */

/* Files that are made anew here, or hold nothing for others. */
static bool is_ours(const char *name)
{
    static const char *const names[] = { "README.md", "provenance.json",
        "model.sig", "report.html", "checkpoints", "SHA256SUMS", "Modelfile",
        "expected.json" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return name[0] == '.' || bise_ends_with(name, ".part") ||
           bise_lineage_is_licence(name) || bise_lineage_is_notice(name);
}

/* Configuration, tokenizer, template, or what a training run leaves. */
static bool is_known(const char *name)
{
    static const char *const names[] = { "config.json", "params.json",
        "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "added_tokens.json", "tekken.json",
        "chat_template.jinja", "chat_template.json", "tokenizer.model",
        "vocab.json", "merges.txt", "preprocessor_config.json",
        "processor_config.json", "adapter_config.json", "run.yaml",
        "log.jsonl", "loss.svg", "SYSTEM_PROMPT.txt", "BASE_README.md",
        "model.safetensors.index.json",
        "consolidated.safetensors.index.json" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return strncmp(name, "tokenizer.model.", 16) == 0;
}

/* Code that a reader would have to run. */
static bool is_pickle(const char *name)
{
    static const char *const ends[] = { ".bin", ".pt", ".pth", ".pkl",
                                        ".pickle", ".py" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (bise_ends_with(name, ends[i]))
            return true;
    return false;
}

/* Settings that may name paths of this machine are read and written anew. */
static bise_status side(release *x, const char *name, const char *rel,
                        const char *disk)
{
    static const char *const rewritten[] = { "config.json", "params.json",
        "tokenizer_config.json", "adapter_config.json",
        "generation_config.json" };
    release_item *f = add(x, RELEASE_SIDE, rel, disk);
    if (!f)
        return x->err->status;
    if (strcmp(name, "run.yaml") == 0)
        return bise_release_settings(x, f);
    if (strcmp(name, "log.jsonl") == 0)
        return bise_release_log(x, f);
    if (strcmp(name, "chat_template.jinja") == 0)
        x->chat = true;
    for (size_t i = 0; i < sizeof rewritten / sizeof *rewritten; i++)
        if (strcmp(name, rewritten[i]) == 0)
            return bise_release_config(x, f, name);
    return BISE_OK;
}

/* One file of a directory. */
static bise_status member(release *x, release_kind kind, const char *name,
                          const char *rel, const char *disk)
{
    if (is_ours(name) || bise_is_dir(disk))
        return BISE_OK;
    if (bise_ends_with(name, ".gguf"))
        return bise_release_take(x, disk);
    if (bise_ends_with(name, ".safetensors")) {
        const bool native = strncmp(name, "consolidated", 12) == 0;
        release_item *f = add(x, kind == RELEASE_ADAPTER ? kind :
                              native ? RELEASE_NATIVE : RELEASE_HF, rel, disk);
        return f ? read_safetensors(x, f) : x->err->status;
    }
    if (is_known(name))
        return side(x, name, rel, disk);
    return bise_release_problem(x, name, is_pickle(name) ?
        "left out: opening it can run code" :
        "left out: not a file that a model repository needs");
}

/* What an adapter says of itself: __metadata__, then its card. */
static bise_status adapter_facts(release *x, const char *path, bise_json **l)
{
    char *file = bise_path_join(path, "adapter_model.safetensors");
    bise_st st = { 0 };
    bise_error none;
    bise_error_init(&none);
    if (file && bise_st_open(&st, file, &none) == BISE_OK)
        *l = bise_lineage_of_st(st.meta);
    else                                        /* of another format */
        *l = file ? bise_json_new_object() : NULL;
    bise_st_close(&st);
    bise_free(file);
    if (none.status == BISE_ENOMEM)
        return bise_fail_nomem(x->err);
    return bise_release_card_of(x, *l, path);
}

/* What a model says of itself: licence, family, name. An archive or a broken
 * model ends here. */
static bise_status model_facts(release *x, const char *path, bise_json **l)
{
    bise_checkpoint c;
    const bise_status s = bise_checkpoint_open(&c, path, NULL, x->err);
    if (s != BISE_OK)
        return s;
    *l = bise_json_ref(c.lineage);
    if (!x->base_name)
        x->base_name = bise_release_keep(x, c.base_name);
    bise_checkpoint_close(&c);
    return BISE_OK;
}

/* Facts and terms of a directory. One without weights of its own has a card,
 * perhaps, but no licence: its GGUF files have theirs. */
static bise_status directory_facts(release *x, const char *path, bool adapter,
                                   bool weights)
{
    bise_json *l = NULL;
    bise_status s = BISE_OK;
    if (adapter)
        s = adapter_facts(x, path, &l);
    else if (weights)
        s = model_facts(x, path, &l);
    else
        s = bise_release_card_of(x, l = bise_json_new_object(), path);
    if (s == BISE_OK)
        s = bise_release_lineage(x, l);
    if (s == BISE_OK && (adapter || weights))
        s = bise_release_licence(x, bise_path_base(path), l);
    if (s == BISE_OK)
        s = bise_release_terms(x, path, l);
    bise_json_free(l);
    return s;
}

/* The first directory's files stand at the top, others in folders of their
 * names. A folder of GGUF files has no place of its own. */
static bise_status directory(release *x, const char *path)
{
    char **names = NULL, *config = bise_path_join(path, "adapter_config.json");
    char *base = bise_strdup(path);
    size_t n = 0, weights = 0;
    bise_status s = config && base ? bise_dir_list(&names, &n, path, x->err) :
        bise_fail_nomem(x->err);
    while (base && strlen(base) > 1 && base[strlen(base) - 1] == '/')
        base[strlen(base) - 1] = 0;
    const bool adapter = config && bise_file_exists(config);
    for (size_t i = 0; i < n; i++)
        weights += bise_ends_with(names[i], ".safetensors");
    if (s == BISE_OK)
        s = directory_facts(x, path, adapter, weights > 0);
    const char *folder = x->used_top && weights ? bise_path_base(base) : NULL;
    const size_t first = x->n;
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        char *disk = bise_path_join(path, names[i]);
        char *rel = folder ? bise_path_join(folder, names[i]) :
            bise_strdup(names[i]);
        s = disk && rel ? member(x, adapter ? RELEASE_ADAPTER : RELEASE_HF,
                                 names[i], rel, disk) :
            bise_fail_nomem(x->err);
        bise_free(disk);
        bise_free(rel);
    }
    for (size_t i = first; i < x->n && s == BISE_OK; i++)
        if (x->v[i].kind == RELEASE_HF || x->v[i].kind == RELEASE_NATIVE)
            x->v[i].given = bise_release_keep(x, bise_path_base(base));
    x->used_top = x->used_top || weights;
    if (s == BISE_OK && x->n == first)
        s = bise_fail(x->err, BISE_EUNSUPPORTED, "no model, adapter or GGUF "
                      "file in this folder");
    bise_free(names);
    bise_free(config);
    bise_free(base);
    return s;
}

/* ---- single files ---- */

/* A GGUF under a name from which the Hub and llama.cpp can tell its type:
 * NAME-TYPE.gguf, kept when the type is in it already. The parts of a split
 * file find each other by their names, which are kept. */
static bise_status gguf_file(release *x, const char *path)
{
    release_item probe = { .disk = path };
    char name[300];
    bise_status s = bise_release_gguf(x, &probe);
    const char *given = bise_path_base(path);
    snprintf(name, sizeof name, "%s", given);
    if (probe.kind == RELEASE_GGUF && probe.type &&
        !bise_release_is_split(given) &&
        !bise_release_names_type(given, probe.type)) {
        const char *repo = strchr(x->o->repo, '/') + 1;
        size_t n = strlen(repo);
        if (n > 5 && strcasecmp(repo + n - 5, "-GGUF") == 0)
            n -= 5;
        snprintf(name, sizeof name, "%.*s-%s.gguf", (int)n, repo, probe.type);
    } else if (probe.kind == RELEASE_MMPROJ &&
               strncmp(given, "mmproj-", 7) != 0)
        snprintf(name, sizeof name, "mmproj-%s", given);
    release_item *f = s == BISE_OK ? add(x, probe.kind, name, path) : NULL;
    if (!f)
        return x->err->status;
    f->type = probe.type;
    f->weights = probe.weights;
    f->weight_bytes = probe.weight_bytes;
    return BISE_OK;
}

/* A result of eval is kept until all files are known. All of it goes into the
 * provenance. */
static bise_status json_file(release *x, const char *path)
{
    bise_json *v = NULL;
    bise_str text = { 0 };
    bise_status s = bise_json_load(&v, path, x->err);
    if (s == BISE_OK && (!bise_json_get(v, "tokens") ||
                         !bise_json_get(v, "loss"))) {
        s = bise_fail(x->err, BISE_EUNSUPPORTED, "not a result of bise --json "
                      "eval");
        s = bise_error_in(x->err, path, NULL);
    }
    if (s == BISE_OK)
        bise_json_dump(&text, v, 0, false);
    const char *mark = bise_release_private(bise_str_get(&text), text.len);
    if (s == BISE_OK && !bise_str_ok(&text))
        s = bise_fail_nomem(x->err);
    else if (s == BISE_OK && mark)
        s = bise_fail(x->err, BISE_EUNSUPPORTED, "it would publish a path of "
                      "this machine ('%s...')", mark);
    bise_str_fini(&text);
    if (s != BISE_OK)
        bise_json_free(v);
    else if (bise_json_append(x->evals, v) != 0)
        s = bise_fail_nomem(x->err);
    return s;
}

/* The older format of llama.cpp; its last field is the calibration file as it
 * was given. */
static bise_status dat_file(release *x, const char *path)
{
    bise_map m = { 0 };
    bise_status s = bise_map_open(&m, path, x->err);
    if (s != BISE_OK)
        return s;
    const char *mark = bise_release_private((const char *)m.data, m.size);
    bise_map_close(&m);
    if (mark) {
        s = bise_fail(x->err, BISE_EUNSUPPORTED, "it holds a path of a machine "
                      "('%s...')", mark);
        return s = bise_error_hint(x->err, "make it again as GGUF: bise "
                                   "calibrate writes names only");
    }
    return add(x, RELEASE_IMATRIX, bise_path_base(path), path) ?
        BISE_OK : x->err->status;
}

/* Recognized by what it is. */
bise_status bise_release_take(release *x, const char *path)
{
    bise_status s = BISE_OK;
    if (bise_is_dir(path))
        s = directory(x, path);
    else if (!bise_file_exists(path))
        s = bise_fail(x->err, BISE_EIO, "no such file");
    else if (bise_ends_with(path, ".gguf"))
        s = gguf_file(x, path);
    else if (bise_ends_with(path, ".dat"))
        s = dat_file(x, path);
    else if (bise_ends_with(path, ".json"))
        s = json_file(x, path);
    else {
        s = bise_fail(x->err, BISE_EUNSUPPORTED, "not a directory, .gguf, "
                      ".dat or eval result");
        s = bise_error_hint(x->err, "an archive is unpacked first: bise unpack "
                            "A -o DIR");
    }
    if (s == BISE_OK && x->nomem)
        s = bise_fail_nomem(x->err);
    return s == BISE_OK ? s : bise_error_in(x->err, path, NULL);
}
