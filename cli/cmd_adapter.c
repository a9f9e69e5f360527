/* cmd_adapter.c - bise adapter: `convert` writes a LoRA adapter in the format
 * of another tool, `check` says what an adapter is, whether it fits a base, and
 * which tools load it as it is.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/record.h"
#include "cli/table.h"
#include "convert/adapter.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "model/lineage.h"

static const bise_option options[] = {
    { "o", BISE_OPT_STRING, "OUT", "file or directory to make", NULL, 'o' },
    { "to", BISE_OPT_CHOICE, "peft|gguf|native|mlx", "format to write", NULL,
      0 },
    { "base", BISE_OPT_STRING, "MODEL",
      "the model it was trained on (needed for gguf and native)", NULL, 0 },
    { "base-name", BISE_OPT_STRING, "ORG/NAME",
      "name of the base for the settings", NULL, 0 },
    { "prefix", BISE_OPT_CHOICE, "text|wrapper",
      "PEFT module names of the text class or the multimodal one", NULL, 0 },
    { "uniform", BISE_OPT_FLAG, NULL,
      "one rank and alpha for all modules, the rest folded into B", NULL, 0 },
    { "require-licence", BISE_OPT_STRING, "ID",
      "fail unless the adapter has this licence", NULL, 0 },
    { "for", BISE_OPT_STRING, "TARGET",
      "check for one tool: vllm, llama.cpp, ollama, transformers, mlx, "
      "fireworks, together", NULL, 0 },
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* An adapter with its base, when one is named. */
typedef struct loaded {
    bise_checkpoint base;
    bool has_base;
    bise_lora lora;
} loaded;

/* The base comes first: it decides whether the adapter fits. What was opened is
 * released by unload(), also after a failure. */
static bise_status load(loaded *x, const bise_context *ctx, bise_error *err)
{
    const char *base = bise_opt_str(ctx->args, "base", NULL);
    const char *in = bise_arg(ctx->args, 1);
    if (base) {
        const bise_status s = bise_checkpoint_open(&x->base, base,
                                                   ctx->progress, err);
        if (s != BISE_OK)
            return s;
        x->has_base = true;
    }
    return bise_lora_load_for(&x->lora, in,
                              x->has_base ? &x->base.config : NULL, err);
}

/* Fine in any state that load() can leave. */
static void unload(loaded *x)
{
    bise_lora_fini(&x->lora);
    if (x->has_base)
        bise_checkpoint_close(&x->base);
}

/* Short names of the modules, each once, "q_proj v_proj". */
static void list_targets(bise_str *out, const bise_lora *l)
{
    bool seen[BISE_ROLE_COUNT] = { false };
    for (size_t i = 0; i < l->n; i++) {
        const bise_role_kind k = l->modules[i].role.kind;
        if (!seen[k])
            bise_str_printf(out, "%s%s", out->len ? " " : "",
                            bise_role_module(k));
        seen[k] = true;
    }
}

/* What the adapter is: text, and the JSON keys of cli.md. */
static void describe(bise_context *ctx, const bise_lora *l)
{
    bise_str targets = { 0 };
    uint64_t values = 0;
    int32_t low = 0, high = 0;
    for (size_t i = 0; i < l->n; i++) {
        const int32_t r = l->modules[i].r;
        low = i == 0 || r < low ? r : low;
        high = r > high ? r : high;
        values += (uint64_t)r * (uint64_t)(l->modules[i].in +
                                           l->modules[i].out);
    }
    const bise_lora_module *m = l->n ? &l->modules[0] : NULL;
    list_targets(&targets, l);
    bise_print(ctx, "%s adapter of %zu modules, rank %d", l->format, l->n, low);
    if (high != low)
        bise_print(ctx, " to %d", high);
    bise_print(ctx, ", alpha %g, %.2f million values in %s%s%s\n",
               m ? m->alpha : 0, (double)values / 1e6,
               bise_dtype_get(l->dtype)->name,
               l->rslora ? ", rsLoRA" : "", l->dora ? ", DoRA" : "");
    bise_print(ctx, "modules: %s\n", bise_str_get(&targets));
    if (l->base_name[0])
        bise_print(ctx, "made for: %s\n", l->base_name);
    if (l->n_saved)
        bise_print(ctx, "whole tensors: %zu\n", l->n_saved);
    bise_result_set(ctx, "format", bise_json_new_string(l->format));
    bise_result_set(ctx, "modules", bise_json_new_int((int64_t)l->n));
    bise_result_set(ctx, "rank", bise_json_new_int(high));
    bise_result_set(ctx, "alpha", bise_json_new_real(m ? m->alpha : 0));
    bise_result_set(ctx, "dtype", bise_json_new_string(
        bise_dtype_get(l->dtype)->name));
    bise_result_set(ctx, "rslora", bise_json_new_bool(l->rslora));
    bise_result_set(ctx, "dora", bise_json_new_bool(l->dora));
    bise_result_set(ctx, "made_for", bise_json_new_string(l->base_name));
    bise_result_set(ctx, "targets",
                    bise_json_new_string(bise_str_get(&targets)));
    bise_str_fini(&targets);
}

/* One element of "problems"; the order of keys is that of the contract. */
static bise_json *finding_json(const bise_adapter_finding *f)
{
    bise_json *o = bise_json_new_object();
    (void)bise_json_set(o, "target", bise_json_new_string(f->target));
    (void)bise_json_set(o, "blocks", bise_json_new_bool(f->blocks));
    (void)bise_json_set(o, "text", bise_json_new_string(f->text));
    (void)bise_json_set(o, "source", bise_json_new_string(f->source));
    return o;
}

/* A row for every target: loads as it is or not, then the reasons. */
static void show_report(bise_context *ctx, const bise_adapter_report *r,
                        const char *only)
{
    char names[128];
    snprintf(names, sizeof names, "%s", only ? only : bise_adapter_targets());
    bise_json *problems = bise_json_new_array();
    for (const char *p = names; *p;) {
        const size_t n = strcspn(p, "|");
        bool blocked = false;
        for (size_t i = 0; i < r->n; i++)
            blocked |= r->list[i].blocks && strlen(r->list[i].target) == n &&
                       strncmp(r->list[i].target, p, n) == 0;
        bise_print(ctx, "%-12.*s %s\n", (int)n, p, blocked ? "no" : "yes");
        for (size_t i = 0; i < r->n; i++)
            if (strlen(r->list[i].target) == n &&
                strncmp(r->list[i].target, p, n) == 0)
                bise_print(ctx, "    %s %s [%s]\n",
                           r->list[i].blocks ? "!" : "-", r->list[i].text,
                           r->list[i].source);
        p += n + (p[n] == '|');
    }
    for (size_t i = 0; i < r->n; i++)
        (void)bise_json_append(problems, finding_json(&r->list[i]));
    bise_result_set(ctx, "problems", problems);
}

/* Describe, hold against the base, then against the rules. An adapter whose
 * rows need a base to be read is described once it has one. */
static bise_status check(bise_context *ctx, bise_error *err)
{
    const char *only = bise_opt_str(ctx->args, "for", NULL);
    bise_adapter_report r = { 0 };
    loaded x = { 0 };
    /* First by itself, so that a misfit is preceded by what it is. */
    bise_lora alone;
    bise_error quiet;
    bise_error_init(&quiet);
    if (bise_lora_load_for(&alone, bise_arg(ctx->args, 1), NULL, &quiet) ==
        BISE_OK) {
        describe(ctx, &alone);
        bise_lora_fini(&alone);
    }
    bise_status s = load(&x, ctx, err);
    if (s == BISE_OK && quiet.status != BISE_OK)
        describe(ctx, &x.lora);
    if (s == BISE_OK && x.has_base)
        bise_print(ctx, "fits the base %s\n", x.base.base_name);
    if (s == BISE_OK)
        s = bise_adapter_check(&r, &x.lora, x.has_base ? &x.base : NULL, only,
                               err);
    if (s == BISE_OK)
        show_report(ctx, &r, only);
    /* Asked about one tool, the exit status is the answer. */
    for (size_t i = 0; s == BISE_OK && only && i < r.n; i++)
        if (r.list[i].blocks)
            s = bise_fail(err, BISE_EUNSUPPORTED, "%s does not load this "
                          "adapter: %s", only, r.list[i].text);
    bise_adapter_report_fini(&r);
    unload(&x);
    return s;
}

/* --to has no default: the formats are not interchangeable. */
static bise_status find_format(bise_adapter_format *to, const bise_context *ctx,
                               bise_error *err)
{
    static const char *const names[] = { "peft", "gguf", "native", "mlx" };
    const char *name = bise_opt_str(ctx->args, "to", NULL);
    for (int i = 0; name && i < 4; i++)
        if (strcmp(name, names[i]) == 0) {
            *to = (bise_adapter_format)i;
            return BISE_OK;
        }
    err->status = bise_fail(err, BISE_EINVAL, "--to FORMAT is missing");
    return bise_error_hint(err, "peft, gguf, native or mlx");
}

/* adapter convert: load, maybe make uniform, write in the other format. */
static bise_status convert(bise_context *ctx, bise_error *err)
{
    const char *out = bise_opt_str(ctx->args, "o", NULL);
    const char *prefix = bise_opt_str(ctx->args, "prefix", NULL);
    bise_adapter_options o = {
        .wrapper = prefix ? strcmp(prefix, "wrapper") == 0 : -1,
        .base_name = bise_opt_str(ctx->args, "base-name", NULL),
        .force = ctx->force };
    loaded x = { 0 };
    bise_status s = find_format(&o.to, ctx, err);
    if (s == BISE_OK && !out)
        s = bise_fail(err, BISE_EINVAL, "-o OUT is missing");
    if (s == BISE_OK)
        s = load(&x, ctx, err);
    if (s == BISE_OK && bise_opt_given(ctx->args, "uniform")) {
        bise_lora one;
        s = bise_adapter_uniform(&one, &x.lora, err);
        if (s == BISE_OK) {
            bise_lora_fini(&x.lora);
            x.lora = one;
        }
    }
    const char *licence = s == BISE_OK
        ? bise_lineage_licence(x.lora.lineage) : "";
    if (s == BISE_OK)
        s = bise_record_licence(ctx, bise_path_base(bise_arg(ctx->args, 1)),
                                *licence || !x.has_base ? licence
                                                        : x.base.licence,
                                *licence || !x.has_base, err);
    if (s == BISE_OK) {
        char *line = bise_record_command(ctx, NULL);
        o.base = x.has_base ? &x.base : NULL;
        o.command = line;
        s = line ? bise_adapter_write(&x.lora, out, &o, err)
                 : bise_fail_nomem(err);
        bise_free(line);
    }
    if (s == BISE_OK) {
        describe(ctx, &x.lora);
        bise_print(ctx, "written to %s\n", out);
        bise_result_set(ctx, "output", bise_json_new_string(out));
    }
    unload(&x);
    return s;
}

/* The verb is the first positional argument. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const char *verb = bise_arg(ctx->args, 0);
    if (strcmp(verb, "convert") == 0)
        return convert(ctx, err);
    if (strcmp(verb, "check") == 0)
        return check(ctx, err);
    err->status = bise_fail(err, BISE_EINVAL, "adapter cannot '%s'", verb);
    return bise_error_hint(err, "adapter convert IN -o OUT --to FORMAT, or "
                           "adapter check IN");
}

const bise_command bise_cmd_adapter = {
    .name = "adapter", .args = "convert|check IN [-o OUT]",
    .help = "LoRA adapters between formats; which tools load them",
    .details = "IN is a PEFT directory, a GGUF adapter, a mistral-finetune or "
        "an mlx-lm one,\nrecognized by content; IN:SCALE multiplies its "
        "effect.",
    .options = options, .min_args = 2, .max_args = 2, .run = run
};
