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
#include "deploy/release_int.h"
#include "formats/crypto.h"

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
    const char *set = bise_json_string(bise_json_get(
        bise_json_get(x->run, "data"), "digest"), NULL);
    if (set) {
        bise_json *o = bise_json_new_object(), *d = bise_json_new_object();
        set_text(o, "name", "training data, as prepared");
        set_text(d, "sha256", set);
        (void)bise_json_set(o, "digest", d);
        (void)bise_json_append(list, o);
    }
    return list;
}

/* The commands that made the inputs, as these tell it, and this one, with base
 * names for paths. */
static bise_json *commands(release *x)
{
    bise_json *list = bise_json_new_array();
    bise_str c = { 0 };
    bool trained = false;
    for (size_t i = 0; i < bise_json_size(x->history); i++) {
        const char *line = bise_json_string(bise_json_at(x->history, i), NULL);
        trained = trained || bise_starts_with(line, "bise finetune ");
        (void)bise_json_append(list, bise_json_new_string(line));
    }
    if (x->settings && !trained)
        (void)bise_json_append(list, bise_json_new_string(
            "bise finetune --config run.yaml"));
    bise_str_puts(&c, "bise release");
    for (size_t i = 0; i < x->n; i++)
        if (x->v[i].kind != RELEASE_SIDE)
            bise_str_printf(&c, " %s", x->v[i].given);
    bise_str_printf(&c, " --repo %s", x->o->repo);
    if (x->o->base)
        bise_str_printf(&c, " --base %s", x->o->base);
    if (x->o->relation)
        bise_str_printf(&c, " --relation %s", x->o->relation);
    for (int i = 0; i < x->o->n_datasets; i++)
        bise_str_printf(&c, " --dataset %s", x->o->datasets[i]);
    x->nomem = x->nomem || !bise_str_ok(&c);
    (void)bise_json_append(list, bise_json_new_string(bise_str_get(&c)));
    bise_str_fini(&c);
    return list;
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
    if (x->settings) {
        (void)bise_json_set(ext, "training", bise_json_copy(x->settings));
        if (bise_json_get(x->settings, "seed"))
            (void)bise_json_set(ext, "seed", bise_json_copy(
                bise_json_get(x->settings, "seed")));
    }
    (void)bise_json_set(d, "externalParameters", ext);
    if (x->run)
        (void)bise_json_set(in, "run", bise_json_copy(x->run));
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
