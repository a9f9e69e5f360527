/* cmd_release.c - bise release: a folder that can be uploaded to the Hub: files,
 * card, licence, provenance, serving notes. The work is in deploy/release.c.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/record.h"
#include "core/mem.h"
#include "core/str.h"
#include "deploy/release.h"

static const bise_option options[] = {
    { .name = "o", .type = BISE_OPT_STRING, .value = "DIR",
      .help = "folder to make" },
    { .name = "repo", .type = BISE_OPT_STRING, .value = "ORG/NAME",
      .help = "where it will be on the Hub" },
    { .name = "base", .type = BISE_OPT_STRING, .value = "ORG/NAME",
      .help = "the model it was made from; default: as the inputs say" },
    { .name = "relation", .type = BISE_OPT_STRING, .value = "R",
      .help = "to the base: finetune, adapter, quantized or merge; default: "
              "as the inputs show" },
    { .name = "dataset", .type = BISE_OPT_LIST, .value = "ORG/NAME",
      .help = "training data on the Hub" },
    { .name = "require-licence", .type = BISE_OPT_STRING, .value = "ID",
      .help = "fail unless every input has this licence" },
    { .name = NULL }
};

/* Files on stdout, what should be mended on stderr. */
static void show(bise_context *ctx, const char *out,
                 const bise_release_result *r)
{
    char size[32];
    for (size_t i = 0; i < bise_json_size(r->files); i++) {
        const bise_json *f = bise_json_at(r->files, i);
        bise_print(ctx, "%10s  %s/%s\n", bise_format_bytes(size,
            (unsigned long long)bise_json_number(bise_json_get(f, "bytes"),
                                                 0)),
            out, bise_json_string(bise_json_get(f, "path"), NULL));
    }
    for (size_t i = 0; i < bise_json_size(r->problems); i++) {
        const bise_json *p = bise_json_at(r->problems, i);
        bise_progress_say(ctx->progress, "warning: %s: %s",
                          bise_json_string(bise_json_get(p, "path"), NULL),
                          bise_json_string(bise_json_get(p, "message"), NULL));
    }
}

static bise_status run(bise_context *ctx, bise_error *err)
{
    const char *paths[256], *out = bise_opt_str(ctx->args, "o", NULL);
    const int n = bise_arg_count(ctx->args);
    bise_release_options o = {
        .repo = bise_opt_str(ctx->args, "repo", NULL),
        .base = bise_opt_str(ctx->args, "base", NULL),
        .relation = bise_opt_str(ctx->args, "relation", NULL),
        .require_licence = bise_opt_str(ctx->args, "require-licence", NULL),
        .force = ctx->force, .pool = ctx->pool, .progress = ctx->progress,
    };
    o.datasets = bise_opt_list(ctx->args, "dataset", &o.n_datasets);
    if (!out || !o.repo)
        return bise_fail(err, BISE_EINVAL, "%s is missing",
                         out ? "--repo ORG/NAME" : "-o DIR");
    if (n > 256)
        return bise_fail(err, BISE_EINVAL, "more than 256 paths");
    for (int i = 0; i < n; i++)
        paths[i] = bise_arg(ctx->args, i);
    bise_release_result r = { 0 };
    char *command = bise_record_command(ctx, NULL);
    o.command = command;
    const bise_status s = command
        ? bise_release(paths, (size_t)n, out, &o, &r, err)
        : bise_fail_nomem(err);
    bise_free(command);
    if (s == BISE_OK) {
        show(ctx, out, &r);
        bise_result_set(ctx, "files", bise_json_ref(r.files));
        bise_result_set(ctx, "problems", bise_json_ref(r.problems));
        bise_result_set(ctx, "licence", r.licence[0] ?
                        bise_json_new_string(r.licence) :
                        bise_json_new_null());
        bise_result_set(ctx, "base_model_relation", r.relation[0] ?
                        bise_json_new_string(r.relation) :
                        bise_json_new_null());
    }
    bise_release_fini(&r);
    return s;
}

const bise_command bise_cmd_release = {
    .name = "release", .args = "PATH... -o DIR --repo ORG/NAME",
    .help = "a Hub repository: files, card, licence, provenance",
    .details = "PATH is a model directory, an adapter directory of finetune, a "
        ".gguf file (model, adapter, mmproj, imatrix), a .dat imatrix, or a "
        "result of eval --json, whose figures go into the card beside the "
        "file that they are of; unpack archives first. The folder gets these "
        "files under the names that the Hub knows, README.md (the card), "
        "LICENSE, NOTICE, provenance.json and .gitattributes, with a .gguf "
        "also a Modelfile. What a repository does not need is left out and "
        "told. Then: bise sign DIR --key KEY, hf upload ORG/NAME DIR.",
    .options = options, .min_args = 1, .max_args = -1, .run = run
};
