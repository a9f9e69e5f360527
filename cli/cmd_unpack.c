/* cmd_unpack.c - bise unpack: an archive of bise pack back into a folder, each
 * file checked against the manifest before the folder gets its name.
 * The work is in deploy/unpack.c; here are only options and the report.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/command.h"
#include "core/str.h"
#include "deploy/pack.h"

static const bise_option options[] = {
    { .name = "o", .type = BISE_OPT_STRING, .value = "DIR",
      .help = "folder to make" },
    { .name = "max-size", .type = BISE_OPT_SIZE, .value = "SIZE",
      .help = "refuse to write more than this",
      .fallback = "1 GiB, or 1000 times the archive" },
    { .name = NULL }
};

/* Unpack and report. All checks happen in deploy/: when this returns without
 * error each file is there and has the hash of the manifest. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const struct bise_args *a = ctx->args;
    const char *out = bise_opt_str(a, "o", NULL);
    char b[32];
    if (!out)
        return bise_fail(err, BISE_EINVAL, "an output is needed: -o DIR");
    const bise_unpack_options o = {
        .force = ctx->force, .max_bytes = bise_opt_size(a, "max-size", 0),
        .pool = ctx->pool, .progress = ctx->progress
    };
    bise_pack_result r = { 0 };
    const bise_status s = bise_unpack(bise_arg(a, 0), out, &o, &r, err);
    if (s != BISE_OK)
        return s;
    bise_result_set(ctx, "output", bise_json_new_string(out));
    bise_result_set(ctx, "bytes", bise_json_new_int((int64_t)r.bytes));
    bise_result_set(ctx, "files", r.files);
    bise_print(ctx, "%s: %zu files, %s, every sha256 as in the manifest\n",
               out, r.n, bise_format_bytes(b, r.bytes));
    return BISE_OK;
}

const bise_command bise_cmd_unpack = {
    .name = "unpack", .args = "ARCHIVE -o DIR",
    .help = "unpack an archive and check every file in it",
    .options = options, .min_args = 1, .max_args = 1, .run = run
};
