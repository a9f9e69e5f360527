/* release_proof.c - provenance.json: an in-toto Statement v1 with a SLSA
 * provenance predicate (quantization.md 15). Subjects are the files of the
 * release, dependencies the inputs by name and sha256; what is not known is
 * left out rather than invented. No path, user or host name.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "core/clock.h"
#include "core/cpu.h"
#include "core/file.h"
#include "deploy/release_int.h"
#include "formats/crypto.h"
#include "model/lineage.h"

static void set_text(bise_json *o, const char *key, const char *text)
{
    if (text && *text)
        (void)bise_json_set(o, key, bise_json_new_string(text));
}

/* {"sha256": hex} */
static bise_json *digest(const uint8_t sha[32])
{
    char hex[65];
    bise_json *o = bise_json_new_object();
    set_text(o, "sha256", bise_hex32(hex, sha));
    return o;
}

/* {name, digest} of every file. */
static bise_json *subjects(const release *x)
{
    bise_json *list = bise_json_new_array();
    for (size_t i = 0; i < x->n; i++) {
        bise_json *o = bise_json_new_object();
        set_text(o, "name", x->v[i].name);
        (void)bise_json_set(o, "digest", digest(x->v[i].sha));
        (void)bise_json_append(list, o);
    }
    return list;
}

/* A dependency known by where it is published. */
static void add_uri(release *x, bise_json *list, const char *kind,
                    const char *id, const char *name)
{
    bise_json *o = bise_json_new_object();
    bise_str uri = { 0 };
    bise_str_printf(&uri, "https://huggingface.co/%s%s", kind, id);
    x->nomem = x->nomem || !bise_str_ok(&uri);
    set_text(o, "uri", bise_str_get(&uri));
    set_text(o, "name", name);
    (void)bise_json_append(list, o);
    bise_str_fini(&uri);
}

/* Inputs with their hashes, then the base and data by their addresses. */
static bise_json *dependencies(release *x)
{
    bise_json *list = bise_json_new_array();
    for (size_t i = 0; i < x->n; i++) {
        if (!x->v[i].disk)
            continue;
        bise_json *o = bise_json_new_object();
        set_text(o, "name", bise_path_base(x->v[i].disk));
        (void)bise_json_set(o, "digest", digest(x->v[i].source_sha));
        (void)bise_json_append(list, o);
    }
    if (x->base)
        add_uri(x, list, "", x->base, "base model");
    for (int i = 0; i < x->o->n_datasets; i++)
        add_uri(x, list, "datasets/", x->o->datasets[i],
                "training data");
    for (size_t i = 0; i < x->n_runs; i++) {
        const char *set = bise_json_string(bise_json_get(bise_json_get(
            x->runs[i].facts, "data"), "digest"), NULL);
        if (!set)
            continue;
        bise_json *o = bise_json_new_object(), *d = bise_json_new_object();
        set_text(o, "name", "training data, as prepared");
        set_text(d, "sha256", set);
        (void)bise_json_set(o, "digest", d);
        (void)bise_json_append(list, o);
    }
    return list;
}

/* The name of a run's file in the release, to free. */
static char *file_of(release *x, const release_run *r, const char *name)
{
    char *path = r->folder[0] ? bise_path_join(r->folder, name)
                              : bise_strdup(name);
    x->nomem = x->nomem || !path;
    return path;
}

/* The commands that made the inputs, as these tell it, and this one. */
static bise_json *commands(release *x)
{
    bise_json *o = bise_json_new_object(), *list;
    const bise_json *history = bise_json_get(x->facts, "history");
    bool trained = false;
    for (size_t i = 0; i < bise_json_size(history); i++)
        trained = trained || bise_starts_with(bise_json_string(
            bise_json_at(history, i), NULL), "bise finetune ");
    int bad = bise_lineage_add_all(o, "commands", history);
    for (size_t i = 0; i < x->n_runs && !trained; i++) {
        bise_str c = { 0 };
        char *file = file_of(x, &x->runs[i], "run.yaml");
        bise_str_printf(&c, "bise finetune --config %s", file ? file : "");
        if (x->runs[i].settings)
            bad |= bise_lineage_add(o, "commands", bise_str_get(&c));
        bad |= !bise_str_ok(&c);
        bise_str_fini(&c);
        bise_free(file);
    }
    if (x->o->command)
        bad |= bise_lineage_add(o, "commands", x->o->command);
    x->nomem = x->nomem || bad;
    list = bise_json_ref(bise_json_get(o, "commands"));
    bise_json_free(o);
    return list;
}

/* Settings (run.yaml) or facts (log.jsonl) of each run, by file; NULL when
 * there are none. */
static bise_json *of_runs(release *x, bool settings)
{
    bise_json *all = NULL;
    for (size_t i = 0; i < x->n_runs; i++) {
        const release_run *r = &x->runs[i];
        const bise_json *v = settings ? r->settings : r->facts;
        char *file = v ? file_of(x, r, settings ? "run.yaml" : "log.jsonl")
                       : NULL;
        if (file && !all)
            all = bise_json_new_object();
        if (file)
            x->nomem = bise_json_set(all, file, bise_json_copy(v)) != 0 ||
                       x->nomem;
        bise_free(file);
    }
    return all;
}

/* Type and bits of each weight file. */
static bise_json *weights(const release *x)
{
    bise_json *all = bise_json_new_object();
    for (size_t i = 0; i < x->n; i++) {
        const release_item *f = &x->v[i];
        if (!f->weights)
            continue;
        bise_json *o = bise_json_new_object();
        set_text(o, "type", f->type);
        (void)bise_json_set(o, "weights",
                            bise_json_new_int((int64_t)f->weights));
        (void)bise_json_set(o, "bits_per_weight", bise_json_new_real(
            8.0 * (double)f->weight_bytes / (double)f->weights));
        (void)bise_json_set(all, f->name, o);
    }
    return all;
}

/* What the user chose, and what followed from it. */
static bise_json *definition(release *x)
{
    bise_json *d = bise_json_new_object(), *ext = bise_json_new_object();
    bise_json *in = bise_json_new_object();
    set_text(d, "buildType", "urn:bise:release:v1");
    (void)bise_json_set(ext, "commands", commands(x));
    set_text(ext, "repo", x->o->repo);
    set_text(ext, "base_model", x->base);
    set_text(ext, "base_model_relation", x->r->relation);
    set_text(ext, "licence", x->licence[0] ? x->licence : "unknown");
    bise_json *settings = of_runs(x, true), *runs = of_runs(x, false);
    if (settings)
        (void)bise_json_set(ext, "training", settings);
    const bise_json *seed = x->n_runs == 1
        ? bise_json_get(x->runs[0].settings, "seed") : NULL;
    if (seed)
        (void)bise_json_set(ext, "seed", bise_json_copy(seed));
    (void)bise_json_set(d, "externalParameters", ext);
    if (runs)
        (void)bise_json_set(in, "runs", runs);
    if (bise_json_size(x->evals))
        (void)bise_json_set(in, "evaluations", bise_json_copy(x->evals));
    (void)bise_json_set(in, "files", weights(x));
    set_text(in, "processor", bise_cpu_model());
    set_text(in, "instruction_set", bise_cpu_name(bise_cpu_level()));
    (void)bise_json_set(d, "internalParameters", in);
    (void)bise_json_set(d, "resolvedDependencies", dependencies(x));
    return d;
}

/* Who ran it and when: the program, not a person or machine. */
static bise_json *details(void)
{
    bise_json *d = bise_json_new_object(), *b = bise_json_new_object();
    bise_json *v = bise_json_new_object(), *m = bise_json_new_object();
    char date[32];
    set_text(b, "id", "pkg:generic/bise@" PACKAGE_VERSION);
    set_text(v, "bise", PACKAGE_VERSION " (" BISE_COMMIT ")");
    (void)bise_json_set(b, "version", v);
    (void)bise_json_set(d, "builder", b);
    set_text(m, "finishedOn", bise_clock_iso(date));
    (void)bise_json_set(d, "metadata", m);
    return d;
}

void bise_release_proof(bise_str *out, release *x)
{
    bise_json *o = bise_json_new_object(), *p = bise_json_new_object();
    set_text(o, "_type", "https://in-toto.io/Statement/v1");
    (void)bise_json_set(o, "subject", subjects(x));
    set_text(o, "predicateType", "https://slsa.dev/provenance/v1");
    (void)bise_json_set(p, "buildDefinition", definition(x));
    (void)bise_json_set(p, "runDetails", details());
    (void)bise_json_set(o, "predicate", p);
    bise_json_dump(out, o, 2, false);
    bise_str_putc(out, '\n');
    bise_json_free(o);
}
