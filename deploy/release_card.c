/* release_card.c - README.md of a release: the front matter that the Hub
 * indexes (quantization.md 13), then in plain words what it is, each file with
 * its figures, training, how to run it, terms, what was changed. Only what the
 * inputs say or measured is stated.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/clock.h"
#include "core/dtype.h"
#include "core/file.h"
#include "deploy/release_facts.h"
#include "formats/yaml.h"
#include "model/lineage.h"
#include "model/lora.h"

/* ---- front matter ---- */

static void set_text(bise_json *o, const char *key, const char *text)
{
    if (text && *text)
        (void)bise_json_set(o, key, bise_json_new_string(text));
}

/* transformers, peft, gguf or vllm: who opens the main file. */
static const char *library(const release *x)
{
    if (x->kinds[RELEASE_HF])
        return "transformers";
    if (x->kinds[RELEASE_NATIVE])
        return "vllm";
    if (x->kinds[RELEASE_GGUF])
        return "gguf";
    return x->kinds[RELEASE_ADAPTER] ? "peft" : "gguf";
}

static void put_tags(bise_json *o, const release *x)
{
    const struct { const char *tag; bool fits; } rows[] = {
        { "gguf", x->kinds[RELEASE_GGUF] || x->kinds[RELEASE_GGUF_ADAPTER] },
        { "imatrix", x->kinds[RELEASE_IMATRIX] },
        { "lora", x->kinds[RELEASE_ADAPTER] || x->kinds[RELEASE_GGUF_ADAPTER] },
        { "mistral-common", x->kinds[RELEASE_NATIVE] },
        { "conversational", x->chat }, { "mistral", true }, { "bise", true }
    };
    (void)bise_lineage_add_all(o, "tags", bise_json_get(x->facts, "tags"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].fits)
            (void)bise_lineage_add(o, "tags", rows[i].tag);
}

/* One without an id is "other", with its name and link beside it. */
static void put_licence_keys(bise_json *o, const char *id, const char *name,
                             const char *link)
{
    const bool other = name && (strcmp(id, name) == 0 ||
                                strcmp(id, "other") == 0);
    set_text(o, "license", other ? "other" : id);
    if (other) {
        set_text(o, "license_name", name);
        set_text(o, "license_link", link);
    }
}

static void front_matter(bise_str *out, const release *x)
{
    bise_json *o = bise_json_new_object();
    char org[200];
    put_licence_keys(o, x->licence, x->licence_name, x->licence_link);
    set_text(o, "base_model", x->base);
    if (x->base)
        set_text(o, "base_model_relation", x->r->relation);
    set_text(o, "pipeline_tag", x->vision ? "image-text-to-text"
                                          : "text-generation");
    set_text(o, "library_name", library(x));
    (void)bise_lineage_add_all(o, "language",
                               bise_json_get(x->facts, "language"));
    for (int i = 0; i < x->o->n_datasets; i++)
        (void)bise_lineage_add(o, "datasets", x->o->datasets[i]);
    (void)bise_lineage_add_all(o, "datasets",
                               bise_json_get(x->facts, "datasets"));
    put_tags(o, x);
    if (x->quantized) {
        snprintf(org, sizeof org, "%.*s", (int)strcspn(x->o->repo, "/"),
                 x->o->repo);
        set_text(o, "quantized_by", org);
    }
    bise_str_puts(out, "---\n");
    bise_yaml_dump(out, o);
    bise_str_puts(out, "---\n\n");
    bise_json_free(o);
}

/* ---- what it is ---- */

static const char *name_of(const release *x)
{
    return strchr(x->o->repo, '/') + 1;
}

/* The base as a link, or by the name that the inputs have for it. */
static void put_base(bise_str *out, const release *x)
{
    if (x->base)
        bise_str_printf(out, "[%s](https://huggingface.co/%s)", x->base,
                        x->base);
    else
        bise_str_puts(out, x->base_name ? x->base_name
                                        : "a base model that is not named");
}

static void put_summary(bise_str *out, const release *x)
{
    const char *r = x->r->relation;
    bise_str_printf(out, "# %s\n\n", name_of(x));
    if (strcmp(r, "quantized") == 0)
        bise_str_printf(out, "Quantized %s of ", x->kinds[RELEASE_GGUF] ?
                        "files (GGUF)" : "weights");
    else if (strcmp(r, "adapter") == 0)
        bise_str_puts(out, "A LoRA adapter for ");
    else if (strcmp(r, "merge") == 0 && !x->adapters)
        bise_str_puts(out, "A merge of weights made from ");
    else if (strcmp(r, "merge") == 0)
        bise_str_printf(out, "%" PRId64 " LoRA adapters merged into the "
                        "weights of ", x->adapters);
    else if (strcmp(r, "finetune") == 0)
        bise_str_puts(out, x->adapters ? "A LoRA adapter merged into the "
                      "weights of " : "A fine-tuned model made from ");
    else
        bise_str_puts(out, "Another file format of ");
    put_base(out, x);
    bise_str_printf(out, ", made with bise %s on a CPU.", PACKAGE_VERSION);
    if (strcmp(r, "finetune") == 0 && x->quantized)
        bise_str_puts(out, " The GGUF files are quantized from the same "
                      "weights.");
    bise_str_puts(out, "\n\n");
}

/* ---- files ---- */

/* A figure or nothing. */
static void put_number(bise_str *out, int digits, double v)
{
    if (isnan(v))
        bise_str_puts(out, " |");
    else
        bise_str_printf(out, " %.*f |", digits, v);
}

static void put_files(bise_str *out, const release *x)
{
    bise_str_puts(out, "## Files\n\n| file | type | bits per weight | size | "
                  "perplexity | KL divergence |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < x->n; i++) {
        const release_item *f = &x->v[i];
        char size[32];
        if (f->kind == RELEASE_SIDE)
            continue;
        bise_str_printf(out, "| `%s` | %s |", f->name, f->kind ==
                        RELEASE_IMATRIX ? "importance matrix" :
                        f->type ? f->type : "");
        put_number(out, 2, f->weights && f->kind != RELEASE_IMATRIX ?
                   8.0 * (double)f->weight_bytes / (double)f->weights : NAN);
        bise_str_printf(out, " %s |", bise_format_bytes(size, f->bytes));
        put_number(out, 4, f->ppl);
        put_number(out, 6, f->kld);
        bise_str_putc(out, '\n');
    }
    bise_str_putc(out, '\n');
}

/* Each evaluation with its data: a perplexity without its text says nothing. */
static void put_evals(bise_str *out, const release *x)
{
    const size_t n = bise_json_size(x->evals);
    if (n)
        bise_str_puts(out, "## Evaluation\n\n| of | data | tokens | loss | "
                      "perplexity | base perplexity | KL divergence | same "
                      "top token, % |\n|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < n; i++) {
        const bise_json *v = bise_json_at(x->evals, i);
        const char *of = bise_json_string(bise_json_get(v, "model"), NULL);
        const char *data = bise_json_string(bise_json_get(v, "data"), NULL);
        bise_str_printf(out, "| %s | %s | %.0f |", of ? of : "",
                        data ? data : "", bise_json_number(
                            bise_json_get(v, "tokens"), 0));
        put_number(out, 4, bise_json_number(bise_json_get(v, "loss"),
                                                 NAN));
        put_number(out, 4, bise_json_number(bise_json_get(v, "ppl"),
                                                 NAN));
        put_number(out, 4, bise_json_number(bise_json_get(v, "base_ppl"),
                                                 NAN));
        put_number(out, 6, bise_json_number(bise_json_get(
            bise_json_get(v, "kld"), "mean"), NAN));
        put_number(out, 2, 100 * bise_json_number(
            bise_json_get(v, "same_top"), NAN));
        bise_str_putc(out, '\n');
    }
    if (n)
        bise_str_putc(out, '\n');
}

/* ---- training ---- */

/* Names of data files, and what was in them. */
static void put_data(bise_str *out, const char *what, const bise_json *d)
{
    const bise_json *files = bise_json_get(d, "files");
    if (!d)
        return;
    bise_str_printf(out, "- %s:", what);
    for (size_t i = 0; i < bise_json_size(files); i++) {
        const char *name = bise_json_string(bise_json_at(files, i), NULL);
        if (name)
            bise_str_printf(out, " `%s`", bise_path_base(name));
    }
    const char *digest = bise_json_string(bise_json_get(d, "digest"), NULL);
    bise_str_printf(out, ", %.0f samples, %.0f tokens, %.0f of them trained",
                    bise_json_number(bise_json_get(d, "samples"), 0),
                    bise_json_number(bise_json_get(d, "tokens"), 0),
                    bise_json_number(bise_json_get(d, "trained_tokens"), 0));
    if (digest)
        bise_str_printf(out, "; digest of the prepared set `%.16s`", digest);
    bise_str_putc(out, '\n');
}

/* One setting of run.yaml as "key value". */
static void put_setting(bise_str *out, const release_run *r, const char *key)
{
    bise_str v = { 0 };
    const bise_json *j = bise_json_get(r->settings, key);
    if (!j)
        return;
    if (bise_json_string(j, NULL))
        bise_str_puts(&v, bise_json_string(j, NULL));
    else
        bise_json_dump(&v, j, 0, false);
    bise_str_printf(out, "%s %s, ", key, bise_str_get(&v));
    out->failed = out->failed || v.failed;
    bise_str_fini(&v);
}

/* Settings, figures and data of one run. */
static void put_run(bise_str *out, const release_run *r)
{
    static const char *const keys[] = { "lora-r", "lora-alpha", "target",
        "rslora", "lr", "schedule", "warmup", "batch", "optimizer",
        "weight-decay", "compute", "seed" };
    const char *slash = r->folder[0] ? "/" : "";
    bise_str_puts(out, "## Training");
    if (r->folder[0])
        bise_str_printf(out, " of `%s`", r->folder);
    bise_str_puts(out, "\n\n");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        put_setting(out, r, keys[i]);
    bise_str_printf(out, "%.0f steps, %.0f tokens.\n\n", r->steps, r->tokens);
    bise_str_puts(out, "| | first | last |\n|---|---|---|\n");
    if (!isnan(r->loss_last))
        bise_str_printf(out, "| training loss | %.4f | %.4f |\n",
                        r->loss_first, r->loss_last);
    if (!isnan(r->eval_last))
        bise_str_printf(out, "| evaluation loss | %.4f | %.4f |\n",
                        r->eval_first, r->eval_last);
    bise_str_putc(out, '\n');
    put_data(out, "training data", bise_json_get(r->facts, "data"));
    put_data(out, "evaluation data", bise_json_get(r->facts,
                                                   "evaluation_data"));
    bise_str_printf(out, "\nAll settings are in `%s%srun.yaml`, every report "
                    "in `%s%slog.jsonl`; `bise report` draws the curves.\n\n",
                    r->folder, slash, r->folder, slash);
}

static void put_training(bise_str *out, const release *x)
{
    for (size_t i = 0; i < x->n_runs; i++)
        if (x->runs[i].facts || x->runs[i].settings)
            put_run(out, &x->runs[i]);
}

/* ---- how to run ---- */

const release_item *bise_release_example(const release *x, release_kind kind)
{
    const release_item *first = NULL;
    for (size_t i = 0; i < x->n; i++) {
        if (x->v[i].kind != kind)
            continue;
        if (x->v[i].type && strcmp(x->v[i].type, "Q4_K_M") == 0)
            return &x->v[i];
        first = first ? first : &x->v[i];
    }
    return first;
}

/* Ollama takes no file in parts (ollama/ollama#5245). */
static const release_item *for_ollama(const release *x)
{
    const release_item *f = bise_release_example(x, RELEASE_GGUF);
    for (size_t i = 0; f && bise_release_is_split(f->name) && i < x->n; i++)
        if (x->v[i].kind == RELEASE_GGUF &&
            !bise_release_is_split(x->v[i].name))
            f = &x->v[i];
    return f && !bise_release_is_split(f->name) ? f : NULL;
}

/* Grammar: Ollama's docs/modelfile and parser/parser.go. One FROM a file, the
 * vision part after the model; the template is in the GGUF file. A value in
 * quotes ends at the next one. */
void bise_release_modelfile(bise_str *out, const release *x)
{
    const release_item *f = for_ollama(x);
    const release_item *mm = bise_release_example(x, RELEASE_MMPROJ);
    if (!f)
        return;
    bise_str_printf(out, "# ollama create %s -f Modelfile\nFROM ./%s\n",
                    name_of(x), f->name);
    if (mm)
        bise_str_printf(out, "FROM ./%s\n", mm->name);
    if (isfinite(x->temperature))
        bise_str_printf(out, "PARAMETER temperature %g\n", x->temperature);
    if (isfinite(x->top_p))
        bise_str_printf(out, "PARAMETER top_p %g\n", x->top_p);
    if (x->top_k > 0)
        bise_str_printf(out, "PARAMETER top_k %" PRId64 "\n", x->top_k);
    if (x->licence[0] && !strchr(x->licence, '"'))
        bise_str_printf(out, "LICENSE \"%s\"\n", x->licence);
}

/* One block for every GGUF model: the label after the colon chooses it. */
static void put_run_gguf(bise_str *out, const release *x)
{
    const release_item *mm = bise_release_example(x, RELEASE_MMPROJ);
    if (!x->kinds[RELEASE_GGUF])
        return;
    bise_str_puts(out, "### llama.cpp\n\n```sh\n");
    for (size_t i = 0; i < x->n; i++) {
        const release_item *f = &x->v[i];
        if (f->kind != RELEASE_GGUF ||
            (bise_release_is_split(f->name) &&
             !strstr(f->name, "-00001-of-")))
            continue;
        bise_str_printf(out, "llama-server -hf %s:%s      # or: -m %s",
                        x->o->repo, f->type ? f->type : "", f->name);
        if (mm)
            bise_str_printf(out, " --mmproj %s", mm->name);
        bise_str_putc(out, '\n');
    }
    bise_str_puts(out, "```\n\n### Ollama\n\n");
    const release_item *f = for_ollama(x);
    if (f)
        bise_str_printf(out, "```sh\nollama run hf.co/%s:%s\n"
                        "# or from a download of this repository:\n"
                        "ollama create %s -f Modelfile && ollama run %s\n"
                        "```\n\n", x->o->repo, f->type ? f->type : "latest",
                        name_of(x), name_of(x));
    else
        bise_str_printf(out, "Ollama takes no file in parts: join them first, "
                        "with `bise convert %s -o %s.gguf`.\n\n",
                        bise_release_example(x, RELEASE_GGUF)->name,
                        name_of(x));
}

static void put_run_weights(bise_str *out, const release *x)
{
    if (x->kinds[RELEASE_HF] || x->kinds[RELEASE_NATIVE])
        bise_str_printf(out, "### vLLM\n\n```sh\nvllm serve %s%s\n```\n\n",
                        x->o->repo, x->kinds[RELEASE_HF] ? "" :
                        " --tokenizer-mode mistral --config-format mistral "
                        "--load-format mistral");
    if (x->kinds[RELEASE_HF])
        bise_str_printf(out, "### transformers\n\n```python\nfrom transformers "
                        "import AutoModelForCausalLM, AutoTokenizer\n"
                        "tokenizer = AutoTokenizer.from_pretrained(\"%s\")\n"
                        "model = AutoModelForCausalLM.from_pretrained(\"%s\")\n"
                        "```\n\n", x->o->repo, x->o->repo);
}

static void put_run_adapter(bise_str *out, const release *x)
{
    const char *base = x->base ? x->base : "BASE";
    const release_item *g = bise_release_example(x, RELEASE_GGUF_ADAPTER);
    const release_item *p = bise_release_example(x, RELEASE_ADAPTER);
    const char *slash = p ? strrchr(p->name, '/') : NULL;
    const int n = slash ? (int)(slash - p->name) : 0;
    if (p && n == 0)
        bise_str_printf(out, "### vLLM\n\n```sh\nvllm serve %s --enable-lora "
                        "--max-lora-rank %d --lora-modules %s=%s\n```\n\n",
                        base, bise_lora_vllm_rank(x->lora_r), name_of(x),
                        x->o->repo);
    if (p) {
        bise_str_printf(out, "### transformers + PEFT\n\n```python\nfrom peft "
                        "import PeftModel\nfrom transformers import "
                        "AutoModelForCausalLM, AutoTokenizer\n"
                        "tokenizer = AutoTokenizer.from_pretrained(\"%s\")\n"
                        "base = AutoModelForCausalLM.from_pretrained(\"%s\")\n"
                        "model = PeftModel.from_pretrained(base, \"%s\"",
                        base, base, x->o->repo);
        if (n)
            bise_str_printf(out, ", subfolder=\"%.*s\"", n, p->name);
        bise_str_puts(out, ")\n```\n\n");
    }
    if (g)
        bise_str_printf(out, "### llama.cpp, adapter\n\n```sh\nllama-server -m "
                        "BASE.gguf --lora %s\n```\n\n", g->name);
}

/* ---- terms ---- */

static void put_terms(bise_str *out, const release *x)
{
    bise_str_puts(out, "## Licence and attribution\n\n");
    if (!x->licence[0])
        bise_str_puts(out, "The licence of the base model is **not known** to "
                      "the tool that made this card: state it before you "
                      "publish or use these files.\n");
    else if (strcasecmp(x->licence, "apache-2.0") == 0)
        bise_str_printf(out, "Apache License 2.0; the full text is in "
                        "`LICENSE`.%s\n", x->notice.len ? " Notices of the "
                        "original are in `NOTICE`." : "");
    else
        bise_str_printf(out, "%s: not Apache-2.0, its own terms apply to these "
                        "files.\n", x->licence);
    bise_str_puts(out, "\n- base model: ");
    put_base(out, x);
    bise_str_puts(out, ", by its authors; names are used to say where these "
                  "files come from, not to suggest an endorsement\n");
    for (int i = 0; i < x->o->n_datasets; i++)
        bise_str_printf(out, "- data: [%s](https://huggingface.co/datasets/%s),"
                        " under its own terms\n", x->o->datasets[i],
                        x->o->datasets[i]);
    if (x->n_runs && !x->o->n_datasets)
        bise_str_puts(out, "- data: the files named under Training, under "
                      "their own terms\n");
}

/* Section 4 (b) of the Apache License: prominent notices of changed files. */
static void put_changes(bise_str *out, const release *x)
{
    char date[32];
    bise_str_printf(out, "\n## Modifications\n\nThese files are derived from "
                    "the base model and **were changed** (Apache License 2.0, "
                    "section 4 b) by %.*s, %.10s, with bise %s:\n\n",
                    (int)strcspn(x->o->repo, "/"), x->o->repo,
                    bise_clock_iso(date), PACKAGE_VERSION);
    if (x->adapters || x->kinds[RELEASE_ADAPTER] ||
        x->kinds[RELEASE_GGUF_ADAPTER])
        bise_str_puts(out, "- LoRA weights were trained; the data and settings "
                      "are those stated above where they are known\n");
    if (x->adapters)
        bise_str_printf(out, "- %" PRId64 " adapter%s added to the weights in "
                        "float32, rounded once\n", x->adapters,
                        x->adapters == 1 ? " was" : "s were");
    for (size_t i = 0; i < x->n; i++) {
        const release_item *f = &x->v[i];
        if (f->kind == RELEASE_GGUF)
            bise_str_printf(out, "- `%s`: weights %s as GGUF%s%s\n", f->name,
                            f->type && bise_dtype_by_name(f->type) !=
                            BISE_DTYPE_NONE && bise_dtype_is_float(
                                bise_dtype_by_name(f->type)) ?
                            "converted" : "quantized",
                            f->type ? ", type " : "", f->type ? f->type : "");
        else if (f->kind == RELEASE_SIDE && f->text.len && f->disk)
            bise_str_printf(out, "- `%s`: names of paths replaced\n", f->name);
    }
    if (x->kinds[RELEASE_HF] || x->kinds[RELEASE_NATIVE])
        bise_str_puts(out, "- weights written anew as safetensors; "
                      "configuration and tokenizer belong to the base model\n");
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(bise_path_base(x->v[i].name), "BASE_README.md") == 0)
            bise_str_printf(out, "- `%s` is the card of the model that the "
                            "weights were made from\n", x->v[i].name);
    const bise_json *history = bise_json_get(x->facts, "history");
    for (size_t i = 0; i < bise_json_size(history); i++)
        bise_str_printf(out, "%s%s\n", i ? "" : "\nMade by, in this order:\n\n"
                        "```sh\n", bise_json_string(
                            bise_json_at(history, i), NULL));
    if (bise_json_size(history))
        bise_str_puts(out, "```\n");
    bise_str_puts(out, "\n`provenance.json` lists every input and output with "
                  "its sha256, versions and settings (in-toto statement).\n");
}

void bise_release_card(bise_str *out, const release *x)
{
    front_matter(out, x);
    put_summary(out, x);
    put_files(out, x);
    put_training(out, x);
    put_evals(out, x);
    bise_str_puts(out, "## How to run\n\n");
    put_run_gguf(out, x);
    put_run_weights(out, x);
    put_run_adapter(out, x);
    put_terms(out, x);
    put_changes(out, x);
}

/* ---- of an archive ---- */

/* YAML between its marks. A relation needs a base; one the Hub does not know
 * is told in the text only. */
static void packed_front(bise_str *out, const bise_packed_card *c,
                         const char *base)
{
    bise_json *o = bise_json_new_object();
    const bise_json *sets = bise_json_get(c->lineage, "datasets");
    const double n = bise_json_number(bise_json_get(c->lineage, "adapters"),
                                      0);
    put_licence_keys(o, bise_lineage_licence(c->lineage), bise_json_string(
        bise_json_get(c->lineage, "license_name"), NULL), bise_json_string(
        bise_json_get(c->lineage, "license_link"), NULL));
    if (bise_release_is_id(base)) {
        set_text(o, "base_model", base);
        if (n > 0 || c->quantized)
            set_text(o, "base_model_relation", n > 1 ? "merge" :
                     n > 0 ? "finetune" : "quantized");
    }
    set_text(o, "library_name", "gguf");
    (void)bise_lineage_add_all(o, "tags", bise_json_get(c->lineage, "tags"));
    (void)bise_lineage_add(o, "tags", "gguf");
    for (size_t i = 0; i < bise_json_size(sets); i++) {
        const char *id = bise_json_string(bise_json_at(sets, i), NULL);
        if (bise_release_is_id(id))
            (void)bise_lineage_add(o, "datasets", id);
    }
    bise_str_puts(out, "---\n");
    bise_yaml_dump(out, o);
    bise_str_puts(out, "---\n\n");
    bise_json_free(o);
}

void bise_release_packed_card(bise_str *out, const bise_packed_card *c)
{
    const bise_json *history = bise_json_get(c->lineage, "history");
    const char *base = bise_json_string(bise_json_at(bise_json_get(
        c->lineage, "base_model"), 0), NULL);
    const char *licence = bise_json_string(bise_json_get(c->lineage,
                                                         "license"), NULL);
    packed_front(out, c, base);
    bise_str_printf(out, "# %s\n\n`%s`: weights of %s as GGUF, type %s, %.2f "
                    "bits per weight.\n\n", c->name, c->file, c->name, c->type,
                    c->bits);
    bise_str_printf(out, "## How to run\n\n```sh\nllama-server -m %s\n"
                    "bise generate %s -p TEXT\n```\n\n", c->file, c->file);
    bise_str_printf(out, "## Modifications\n\nThese weights are derived from "
                    "%s and **were changed** (Apache License 2.0, section 4 b)"
                    ", by:\n\n```sh\n", base ? base : c->name);
    for (size_t i = 0; i < bise_json_size(history); i++)
        bise_str_printf(out, "%s\n", bise_json_string(
            bise_json_at(history, i), NULL));
    bise_str_printf(out, "```\n\n## Licence\n\n%s%s.%s\n",
                    licence ? "The model is under " :
                    "The licence of the model is not known",
                    licence ? licence : "",
                    c->base_card ? " The card of the model that these weights "
                    "were made from is `BASE_README.md`." : "");
}
