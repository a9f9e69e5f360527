/* release_facts.c - what the inputs of a release say: cards, licences, training
 * logs, settings, GGUF keys. Values that are paths are replaced by base names
 * or taken out (nothing of this machine is published).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "deploy/release_facts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/file.h"
#include "formats/gguf.h"
#include "formats/yaml.h"
#include "model/lineage.h"

/* ---- what is private ---- */

/* Home and scratch directories of the usual systems. */
const char *bise_release_private(const char *text, size_t n)
{
    static const char *const marks[] = { "/home/", "/root/", "/Users/",
        "/tmp/", "/mnt/", "/work/", "/var/", "/scratch/", "/data/home/",
        "C:\\Users\\", "C:\\\\Users" };
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        const size_t m = strlen(marks[i]);
        const char *at = text, *hit;
        while (n >= m && (hit = memmem(at, n - (size_t)(at - text), marks[i],
                                       m)) != NULL) {
            /* Inside a URL or a longer word it is no absolute path. */
            const char before = hit > text ? hit[-1] : ' ';
            if (strchr(" \"'`=:([\n\t>", before) &&
                !(before == ':' && hit[1] == '/'))
                return marks[i];
            at = hit + 1;
        }
    }
    return NULL;
}

/* Text for a card out of a file name. */
static const char *base_of(const char *s)
{
    const char *b = bise_path_base(s);
    return *b ? b : s;
}

/* ---- licence ---- */

static const char *fact(const bise_json *l, const char *key)
{
    return bise_json_string(bise_json_get(l, key), NULL);
}

/* The id of an input's licence, or the name of one without an id. */
static const char *licence_of(const bise_json *l, const char **name)
{
    const char *id = bise_lineage_licence(l);
    *name = fact(l, "license_name");
    if (*name && strcmp(id, "other") != 0 && strcmp(id, *name) != 0)
        *name = NULL;
    return *name ? *name : id;
}

/* The strictest answer wins: anything but Apache-2.0 over it. Its text is
 * still to be found then. */
static bise_status take_licence(release *x, const char *who,
                                const bise_json *l)
{
    const char *name, *licence = licence_of(l, &name);
    const bool differs = x->licence_seen &&
                         strcasecmp(x->licence, licence) != 0;
    if (!differs || strcasecmp(x->licence, "apache-2.0") == 0) {
        if (differs)
            bise_str_clear(&x->licence_text);
        x->licence_seen = true;
        snprintf(x->licence, sizeof x->licence, "%s", licence);
        x->licence_name = bise_release_keep(x, name);
        x->licence_link = bise_release_keep(x, fact(l, "license_link"));
    }
    if (differs)
        return bise_release_problem(x, who, "licence is '%s', another input "
                                    "has another one", licence);
    if (strcasecmp(licence, "apache-2.0") != 0)
        return bise_release_problem(x, who, "licence is '%s', not Apache-2.0: "
                                    "its own duties apply", licence);
    return BISE_OK;
}

bise_status bise_release_licence(release *x, const char *who,
                                 const bise_json *l)
{
    const char *name, *licence = licence_of(l, &name);
    const char *want = x->o->require_licence;
    if (want && strcasecmp(want, licence) != 0) {
        bise_status s = bise_fail(x->err, BISE_EUNSUPPORTED, "the licence of "
                                  "'%s' is %s%s, '%s' is required", who,
                                  licence[0] ? "" : "unknown", licence, want);
        return s = bise_error_hint(x->err, "a model's licence is the license "
                                   "line of its card, a GGUF file's is "
                                   "general.license");
    }
    if (!licence[0])
        return bise_release_problem(x, who, "no licence is known: neither a "
                                    "license line in a card nor "
                                    "general.license");
    return take_licence(x, who, l);
}

/* A base the inputs name; the first Hub id wins, else a name is kept. */
static void note_base(release *x, const char *id)
{
    static const char site[] = "https://huggingface.co/";
    if (!id)
        return;
    if (strncmp(id, site, sizeof site - 1) == 0)
        id += sizeof site - 1;
    if (bise_release_is_id(id) && !bise_file_exists(id)) {
        if (!x->base)
            x->base = bise_release_keep(x, id);
    } else if (*id && !x->base_name)
        x->base_name = bise_release_keep(x, base_of(id));
}

/* Commands and data add up; words for the Hub's index are those of the first
 * input that has some. */
bise_status bise_release_lineage(release *x, const bise_json *lineage)
{
    static const char *const words[] = { "tags", "language" };
    const bise_json *data = bise_json_get(lineage, "datasets");
    note_base(x, bise_json_string(bise_json_at(
        bise_json_get(lineage, "base_model"), 0), NULL));
    int bad = bise_lineage_add_all(x->facts, "history",
                                   bise_json_get(lineage, "history"));
    for (size_t i = 0; i < bise_json_size(data); i++) {
        const char *id = bise_json_string(bise_json_at(data, i), NULL);
        if (bise_release_is_id(id))
            bad |= bise_lineage_add(x->facts, "datasets", id);
    }
    for (size_t i = 0; i < 2; i++)
        if (!bise_json_get(x->facts, words[i]))
            bad |= bise_lineage_add_all(x->facts, words[i],
                                        bise_json_get(lineage, words[i]));
    const double n = bise_json_number(bise_json_get(lineage, "adapters"), 0);
    if (n > (double)x->adapters)
        x->adapters = (int64_t)n;
    return bad ? bise_fail_nomem(x->err) : BISE_OK;
}

/* Append DIR/name, when it is there. */
static bise_status append(release *x, bise_str *out, const char *dir,
                          const char *name)
{
    char *path = bise_path_join(dir, name);
    bise_status s = path ? BISE_OK : bise_fail_nomem(x->err);
    if (s == BISE_OK && bise_file_exists(path)) {
        if (out->len)
            bise_str_putc(out, '\n');
        s = bise_file_read(out, path, x->err);
    }
    bise_free(path);
    return s;
}

/* The text of the licence that the release is under, and all notices:
 * attribution is carried over whole (Apache-2.0, 4 c and d). */
bise_status bise_release_terms(release *x, const char *dir, const bise_json *l)
{
    char **names = NULL;
    size_t n = 0;
    const char *name, *licence = licence_of(l, &name);
    const bool ours = !*licence || strcasecmp(licence, x->licence) == 0;
    bise_status s = bise_dir_list(&names, &n, dir, x->err);
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        if (bise_lineage_is_licence(names[i]) && ours && !x->licence_text.len)
            s = append(x, &x->licence_text, dir, names[i]);
        else if (bise_lineage_is_notice(names[i]))
            s = append(x, &x->notice, dir, names[i]);
    }
    bise_free(names);
    return s;
}

/* The card beside a file or in a folder, over what its own metadata says. */
bise_status bise_release_card_of(release *x, bise_json *l, const char *dir)
{
    bise_str text = { 0 };
    bise_status s = l ? append(x, &text, dir, "README.md")
                      : bise_fail_nomem(x->err);
    if (s == BISE_OK && text.len &&
        bise_lineage_card(l, bise_str_get(&text), text.len) != 0)
        s = bise_fail_nomem(x->err);
    bise_str_fini(&text);
    return s;
}

/* ---- GGUF ---- */

/* general.file_type to the label of file names (llama.h, llama_ftype). */
static const char *file_type_name(int64_t t)
{
    static const char *const names[] = { "F32", "F16", "Q4_0", "Q4_1", NULL,
        NULL, NULL, "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M",
        "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS",
        "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
        "IQ3_M", "IQ2_S", "IQ2_M", "IQ4_XS", "IQ1_M", "BF16", NULL, NULL, NULL,
        "TQ1_0", "TQ2_0", "MXFP4_MOE" };
    return t >= 0 && t < (int64_t)(sizeof names / sizeof *names) ? names[t]
                                                                 : NULL;
}

/* The label at the end of the name, before split numbers. */
bool bise_release_names_type(const char *name, const char *type)
{
    const size_t n = strlen(type);
    for (const char *p = name; *p; p++)
        if (strncasecmp(p, type, n) == 0 && p > name &&
            (p[-1] == '-' || p[-1] == '.' || p[-1] == '_') &&
            (p[n] == '.' || p[n] == '-'))
            return true;
    return false;
}

/* PREFIX-00001-of-00002.gguf */
bool bise_release_is_split(const char *name)
{
    const size_t n = strlen(name);
    unsigned no, count;
    int used = 0;
    return n > 20 && sscanf(name + n - 20, "-%5u-of-%5u.gguf%n", &no, &count,
                            &used) == 2 && used == 20;
}

/* Strings of provenance must not be paths of this machine. */
static bise_status check_keys(release *x, const bise_gguf_meta *m)
{
    for (size_t i = 0; i < m->n; i++) {
        const bise_gguf_kv *kv = &m->kv[i];
        if (strncmp(kv->key, "tokenizer.", 10) == 0 || !kv->bytes ||
            (kv->type != BISE_GGUF_STR &&
             !(kv->type == BISE_GGUF_ARRAY && kv->elem == BISE_GGUF_STR)))
            continue;
        if ((kv->type == BISE_GGUF_STR && kv->data[0] == '/') ||
            bise_release_private((const char *)kv->data, kv->bytes)) {
            bise_status s = bise_fail(x->err, BISE_EUNSUPPORTED, "key '%s' "
                                      "holds a path of a machine", kv->key);
            return s = bise_error_hint(x->err, "make the file again with bise, "
                                       "which writes names only");
        }
    }
    return BISE_OK;
}

/* Kind by general.type. */
static release_kind kind_of(const bise_gguf_meta *m)
{
    size_t n = 0;
    const char *t = bise_gguf_str(m, "general.type", &n);
    static const struct { const char *name; release_kind kind; } rows[] = {
        { "imatrix", RELEASE_IMATRIX }, { "mmproj", RELEASE_MMPROJ },
        { "adapter", RELEASE_GGUF_ADAPTER } };
    for (size_t i = 0; t && i < 3; i++)
        if (strlen(rows[i].name) == n && memcmp(t, rows[i].name, n) == 0)
            return rows[i].kind;
    return RELEASE_GGUF;
}

/* The string of a key, NULL when there is none. */
static const char *key_text(release *x, const bise_gguf_meta *m,
                            const char *key)
{
    const char *s = bise_gguf_strdup(m, key, &x->arena);
    x->nomem = x->nomem || (!s && bise_gguf_str(m, key, NULL));
    return s;
}

/* Licence, base and serving facts of a model file. */
static bise_status model_keys(release *x, const release_item *f,
                              const bise_gguf_meta *m)
{
    bise_json *l = bise_lineage_of_gguf(m);
    bise_status s = l ? bise_release_lineage(x, l) : bise_fail_nomem(x->err);
    if (s == BISE_OK)
        s = bise_release_licence(x, base_of(f->disk), l);
    bise_json_free(l);
    if (f->kind == RELEASE_GGUF) {
        note_base(x, key_text(x, m, "general.name"));
        x->chat = x->chat || bise_gguf_get(m, "tokenizer.chat_template");
        x->temperature = bise_gguf_float(m, "general.sampling.temp",
                                         x->temperature);
        x->top_p = bise_gguf_float(m, "general.sampling.top_p", x->top_p);
        x->top_k = bise_gguf_int(m, "general.sampling.top_k", x->top_k);
    }
    return s;
}

bise_status bise_release_gguf(release *x, release_item *f)
{
    bise_gguf g = { 0 };
    bise_status s = bise_gguf_open(&g, f->disk, x->err);
    if (s == BISE_OK)
        s = check_keys(x, &g.meta);
    f->kind = kind_of(&g.meta);
    /* Later splits have tensors, but no facts. */
    const bool later = bise_gguf_int(&g.meta, "split.no", 0) > 0;
    if (s == BISE_OK && f->kind == RELEASE_GGUF) {
        f->type = file_type_name(bise_gguf_int(&g.meta, "general.file_type",
                                               -1));
    }
    x->vision = x->vision || f->kind == RELEASE_MMPROJ;
    if (s == BISE_OK)
        bise_release_count(f, g.tensors, g.n_tensors);
    if (s == BISE_OK && f->kind == RELEASE_IMATRIX)
        f->type = NULL;
    else if (f->kind == RELEASE_GGUF && f->type && f->type[0] != 'F' &&
             f->type[0] != 'B')     /* not F32, F16, BF16 */
        x->quantized = true;
    if (s == BISE_OK && !later && f->kind != RELEASE_IMATRIX)
        s = model_keys(x, f, &g.meta);
    bise_gguf_close(&g);
    return s;
}

/* Any program may have written into __metadata__. */
bise_status bise_release_st_meta(release *x, const release_item *f,
                                 const bise_json *meta)
{
    bise_str text = { 0 };
    if (meta)
        bise_json_dump(&text, meta, 0, true);
    const char *mark = meta ? bise_release_private(bise_str_get(&text),
                                                   text.len) : NULL;
    const bool ok = bise_str_ok(&text);
    bise_str_fini(&text);
    if (!ok)
        return bise_fail_nomem(x->err);
    if (mark) {
        bise_status s = bise_fail(x->err, BISE_EUNSUPPORTED, "__metadata__ "
                                  "holds a path of a machine ('%s...')", mark);
        return s = bise_error_in(x->err, f->disk, NULL);
    }
    return BISE_OK;
}

/* ---- a training run ---- */

/* Paths become base names, in any depth. */
static bise_json *without_paths(const bise_json *v)
{
    const char *s = bise_json_string(v, NULL);
    if (s)
        return bise_json_new_string(strchr(s, '/') ? base_of(s) : s);
    if (bise_json_typeof(v) == BISE_JSON_ARRAY) {
        bise_json *a = bise_json_new_array();
        for (size_t i = 0; i < bise_json_size(v); i++)
            (void)bise_json_append(a, without_paths(bise_json_at(v, i)));
        return a;
    }
    if (bise_json_typeof(v) == BISE_JSON_OBJECT) {
        bise_json *o = bise_json_new_object();
        for (void *it = bise_json_iter(v, NULL); it; it = bise_json_iter(v, it))
            (void)bise_json_set(o, bise_json_iter_key(it),
                                without_paths(bise_json_iter_value(it)));
        return o;
    }
    return bise_json_copy(v);
}

/* The run that a file tells of: the one of its folder. */
static release_run *run_of(release *x, const release_item *f)
{
    char folder[256];
    void *v = x->runs;
    const char *slash = strrchr(f->name, '/');
    snprintf(folder, sizeof folder, "%.*s",
             slash ? (int)(slash - f->name) : 0, f->name);
    for (size_t i = 0; i < x->n_runs; i++)
        if (strcmp(x->runs[i].folder, folder) == 0)
            return &x->runs[i];
    const char *kept = bise_release_keep(x, folder);
    if (!kept || bise_grow(&v, &x->cap_runs, x->n_runs + 1, sizeof *x->runs))
        return NULL;
    x->runs = v;
    x->runs[x->n_runs] = (release_run){ .folder = kept, .loss_first = NAN,
        .loss_last = NAN, .eval_first = NAN, .eval_last = NAN };
    return &x->runs[x->n_runs++];
}

bise_status bise_release_settings(release *x, release_item *f)
{
    bise_str text = { 0 };
    bise_json *v = NULL;
    bise_status s = bise_file_read(&text, f->disk, x->err);
    if (s == BISE_OK)
        s = bise_yaml_parse(&v, bise_str_get(&text), text.len, x->err);
    bise_str_fini(&text);
    if (s != BISE_OK)
        return bise_error_in(x->err, f->disk, NULL);
    release_run *r = run_of(x, f);
    if (r)
        r->settings = without_paths(v);
    bise_json_free(v);
    if (!r)
        return bise_fail_nomem(x->err);
    bise_str_puts(&f->text, "# settings of the training run, paths cut to "
                  "names; bise finetune --config THIS\n");
    bise_yaml_dump(&f->text, r->settings);
    f->bytes = f->text.len;
    return bise_str_ok(&f->text) ? BISE_OK : bise_fail_nomem(x->err);
}

/* First and last figures. */
static void log_line(release_run *r, const bise_json *v)
{
    const double loss = bise_json_number(bise_json_get(v, "loss"), NAN);
    const double eval = bise_json_number(bise_json_get(v, "eval_loss"), NAN);
    if (!r->facts && bise_json_get(v, "run"))
        r->facts = bise_json_copy(bise_json_get(v, "run"));
    if (!isnan(loss)) {
        r->loss_first = isnan(r->loss_first) ? loss : r->loss_first;
        r->loss_last = loss;
    }
    if (!isnan(eval)) {
        r->eval_first = isnan(r->eval_first) ? eval : r->eval_first;
        r->eval_last = eval;
    }
    r->steps = bise_json_number(bise_json_get(v, "step"), r->steps);
    r->tokens = bise_json_number(bise_json_get(v, "tokens"), r->tokens);
}

/* A last line without its end is what a killed run leaves: not an error. */
bise_status bise_release_log(release *x, release_item *f)
{
    bise_str text = { 0 };
    release_run *r = run_of(x, f);
    bise_status s = r ? bise_file_read(&text, f->disk, x->err)
                      : bise_fail_nomem(x->err);
    const char *p = bise_str_get(&text), *end = p + text.len, *nl;
    for (; s == BISE_OK && (nl = memchr(p, '\n', (size_t)(end - p))) != NULL;
         p = nl + 1) {
        bise_json *v = NULL;
        s = bise_json_parse(&v, p, (size_t)(nl - p), x->err);
        if (s == BISE_OK)
            log_line(r, v);
        bise_json_free(v);
    }
    bise_str_fini(&text);
    return s == BISE_OK ? s : bise_error_in(x->err, f->disk, NULL);
}

/* The base of an adapter becomes the Hub id later, in release.c. */
bise_status bise_release_config(release *x, release_item *f, const char *name)
{
    static const char *const names[] = { "_name_or_path", "name_or_path",
                                         "tokenizer_file" };
    bise_json *v = NULL;
    bool changed = false;
    bise_status s = bise_json_load(&v, f->disk, x->err);
    if (s != BISE_OK)
        return s;
    for (size_t i = 0; i < 3; i++) {
        const char *p = bise_json_string(bise_json_get(v, names[i]), NULL);
        if (p && *p && !bise_release_is_id(p)) {
            bise_json_remove(v, names[i]);
            changed = true;
        }
    }
    if (strcmp(name, "adapter_config.json") == 0) {
        const char *b = bise_json_string(
            bise_json_get(v, "base_model_name_or_path"), NULL);
        note_base(x, b);
        if (!strchr(f->name, '/'))
            x->lora_r = (int64_t)bise_json_number(bise_json_get(v, "r"), 0);
        if (bise_json_bool(bise_json_get(v, "use_dora"), false))
            s = bise_release_problem(x, name, "vLLM refuses adapters with "
                                     "DoRA: merge it for vLLM");
        if (s == BISE_OK && bise_json_size(bise_json_get(v,
                                                         "modules_to_save")))
            s = bise_release_problem(x, name, "vLLM refuses adapters with "
                                     "modules_to_save: merge it for vLLM");
        const char *bias = bise_json_string(bise_json_get(v, "bias"), NULL);
        if (s == BISE_OK && bias && strcmp(bias, "none") != 0)
            s = bise_release_problem(x, name, "vLLM refuses adapters with "
                                     "biases");
    }
    if (strcmp(name, "tokenizer_config.json") == 0)
        x->chat = x->chat || bise_json_get(v, "chat_template");
    if (strcmp(name, "config.json") == 0)
        x->vision = x->vision || bise_json_get(v, "vision_config");
    if (strcmp(name, "generation_config.json") == 0) {
        x->temperature = bise_json_number(bise_json_get(v, "temperature"),
                                          x->temperature);
        x->top_p = bise_json_number(bise_json_get(v, "top_p"), x->top_p);
    }
    if (changed && s == BISE_OK) {
        bise_json_dump(&f->text, v, 2, false);
        bise_str_putc(&f->text, '\n');
        f->bytes = f->text.len;
        if (!bise_str_ok(&f->text))
            s = bise_fail_nomem(x->err);
    }
    bise_json_free(v);
    return s;
}
