/* cmd_report.c - `bise report DIR`: report.html and loss.svg of a training run
 * again, from its run.yaml and log.jsonl; works while the run goes on.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/command.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "finetune/report.h"

/* Add one written file to the result and print it. */
static void add_output(bise_context *ctx, bise_json *list, const char *dir,
                       const char *name)
{
    char *path = bise_path_join(dir, name);
    bise_json *o = bise_json_new_object();
    const uint64_t bytes = path ? bise_file_size(path) : 0;
    (void)bise_json_set(o, "path", bise_json_new_string(path ? path : name));
    (void)bise_json_set(o, "bytes", bise_json_new_int((int64_t)bytes));
    (void)bise_json_append(list, o);
    bise_print(ctx, "%s\n", path ? path : name);
    bise_free(path);
}

/* Write both files and name them. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const char *dir = bise_arg(ctx->args, 0);
    if (bise_report_write(dir, err))
        return err->status;
    bise_json *outputs = bise_json_new_array();
    add_output(ctx, outputs, dir, "report.html");
    add_output(ctx, outputs, dir, "loss.svg");
    bise_result_set(ctx, "outputs", outputs);
    return BISE_OK;
}

static const bise_option options[] = { { .name = NULL } };

const bise_command bise_cmd_report = {
    .name = "report",
    .args = "DIR",
    .help = "make report.html and loss.svg of a training run",
    .details = "DIR is the output directory of `bise finetune`. Both files "
               "stand alone: they open without a network.",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
