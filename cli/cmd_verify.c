/* cmd_verify.c - bise verify: check an archive, folder, model or adapter, list
 * every problem and fail when there is one.
 * The scan of weights comes from pipeline/, which deploy/ may not include, and
 * is handed down as a function.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>

#include "cli/command.h"
#include "core/str.h"
#include "deploy/sign.h"
#include "deploy/verify.h"
#include "pipeline/check.h"

static const bise_option options[] = {
    { .name = "key", .type = BISE_OPT_STRING, .value = "PUB",
      .help = "check the folder's model.sig with this public key (PEM)" },
    { .name = "require-licence", .type = BISE_OPT_STRING, .value = "ID",
      .help = "fail when the licence is another, or none" },
    { .name = NULL }
};

/* Problems one a line: where, tensor, what. */
static void show_problems(const bise_context *ctx, const bise_json *problems)
{
    for (size_t i = 0; i < bise_json_size(problems); i++) {
        const bise_json *p = bise_json_at(problems, i);
        const char *tensor = bise_json_string(bise_json_get(p, "tensor"), NULL);
        int64_t at;
        bise_print(ctx, "%s: %s%s%s",
                   bise_json_string(bise_json_get(p, "path"), NULL),
                   tensor ? tensor : "", tensor ? ": " : "",
                   bise_json_string(bise_json_get(p, "message"), NULL));
        if (bise_json_integer(bise_json_get(p, "offset"), &at))
            bise_print(ctx, " (byte %" PRId64 ")", at);
        bise_print(ctx, "\n");
    }
}

/* The list of problems is the result: it is printed, stands in the JSON
 * object also when the exit status is 1, and is the reason of that status. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const char *path = bise_arg(ctx->args, 0);
    const bise_verify_options o = { .find_bad = bise_find_bad_block,
                                    .require_licence = bise_opt_str(
                                        ctx->args, "require-licence", NULL),
                                    .pool = ctx->pool,
                                    .progress = ctx->progress };
    bise_verify_result r;
    bise_status s = bise_verify(path, &o, &r, err);
    if (s != BISE_OK)
        return s;
    const char *key = bise_opt_str(ctx->args, "key", NULL);
    if (key) {
        s = bise_sign_check(path, key, ctx->pool, r.problems, err);
        if (s != BISE_OK) {
            bise_verify_fini(&r);
            return s;
        }
    }
    const size_t n = bise_json_size(r.problems);
    const size_t files = bise_json_size(r.files);
    for (size_t i = 0; i < bise_json_size(r.warnings); i++)
        bise_progress_say(ctx->progress, "warning: %s", bise_json_string(
                              bise_json_at(r.warnings, i), NULL));
    show_problems(ctx, r.problems);
    if (!n) {
        bise_print(ctx, "%s: %s, ", path, r.format ? r.format : "files");
        if (files)
            bise_print(ctx, "%zu files as in the manifest, ", files);
        if (key)
            bise_print(ctx, "signature and files as signed, ");
        bise_print(ctx, "%" PRIu64 " tensors, no problem found\n", r.tensors);
    } else
        s = bise_fail(err, BISE_EFORMAT, "%zu problem%s found", n,
                      n > 1 ? "s" : "");
    bise_result_set(ctx, "format", bise_json_new_string(
                        r.format ? r.format : "files"));
    bise_result_set(ctx, "ok", bise_json_new_bool(n == 0));
    bise_result_set(ctx, "files", bise_json_ref(r.files));
    bise_result_set(ctx, "problems", bise_json_ref(r.problems));
    bise_result_set(ctx, "warnings", bise_json_ref(r.warnings));
    bise_verify_fini(&r);
    return s == BISE_OK ? s : bise_error_in(err, path, NULL);
}

const bise_command bise_cmd_verify = {
    .name = "verify", .args = "PATH",
    .help = "check hashes, structure and weights; list every problem",
    .details = "PATH is an archive, a model in any layout, an adapter, or a "
        "folder with\nthe manifest of an archive. Checked are hashes, "
        "structure, shapes against the\nconfiguration, weights that are not "
        "finite, the tokenizer against the embedding,\nthe licence, and with "
        "--key the signature of DIR/model.sig. All problems are\nlisted; exit "
        "status 1 when something is wrong.",
    .options = options, .min_args = 1, .max_args = 1, .run = run
};
