/* cmd_pack.c - bise pack: files and folders into one archive that tar and zstd
 * unpack and bise reads without unpacking.
 * The work is in deploy/pack.c; here are only options and the report.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>

#include "cli/command.h"
#include "cli/record.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/str.h"
#include "deploy/oci.h"
#include "formats/store.h"
#include "model/lineage.h"

static const bise_option options[] = {
    { .name = "o", .type = BISE_OPT_STRING,
      .value = "OUT.tar.zst", .help = "archive to write" },
    { .name = "level", .type = BISE_OPT_INT, .value = "N",
      .help = "zstd level, 1 to 19", .fallback = "3" },
    { .name = "plain", .type = BISE_OPT_FLAG,
      .help = "keep 16-bit weights in their order, not as byte planes" },
    { .name = "oci", .type = BISE_OPT_FLAG,
      .help = "make a folder: an OCI image layout for registries" },
    { .name = "require-licence", .type = BISE_OPT_STRING, .value = "ID",
      .help = "fail unless every model packed has this licence" },
    { .name = NULL }
};

/* One line for people. */
static void show(const bise_context *ctx, const char *out,
                 const bise_pack_result *r)
{
    char a[32], b[32];
    bise_print(ctx, "%s: %zu files, %s, packed to %s (%.1f %%)\n", out, r->n,
               bise_format_bytes(a, r->bytes), bise_format_bytes(b, r->packed),
               r->bytes ? 100.0 * (double)r->packed / (double)r->bytes : 100);
    if (r->planes)
        bise_progress_say(ctx->progress, "16-bit weights of %zu file%s are "
                          "stored as byte planes: unpack with bise (or pack "
                          "with --plain for tar)", r->planes,
                          r->planes > 1 ? "s" : "");
}

/* Models among the paths: their licence is told, or required. What is no model
 * has none; with --require-licence it must be a model, since weights that
 * cannot be read as one have terms as well. */
static bise_status check_licences(bise_context *ctx, const char **paths,
                                  size_t n, bise_error *err)
{
    bise_status s = BISE_OK;
    for (size_t i = 0; i < n && s == BISE_OK; i++) {
        bise_error no_model;
        bise_store *store = NULL;
        bise_error_init(&no_model);
        if (bise_store_open(&store, paths[i], &no_model) != BISE_OK) {
            if (bise_opt_given(ctx->args, "require-licence"))
                s = bise_record_licence(ctx, bise_path_base(paths[i]), "",
                                        false, err);
            continue;
        }
        bise_json *l = bise_lineage_read(store);
        if (!l)
            s = bise_fail_nomem(err);
        else
        if (bise_store_count(store))
            s = bise_record_licence(ctx, bise_path_base(paths[i]),
                                    bise_lineage_licence(l), true, err);
        bise_json_free(l);
        bise_store_close(store);
    }
    return s;
}

/* Check the options, pack, and fill the result: the output first, so that a
 * script finds it, then sizes and every file with its sha256. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const struct bise_args *a = ctx->args;
    const char *out = bise_opt_str(a, "o", NULL);
    const int64_t level = bise_opt_int(a, "level", 3);
    const size_t n = (size_t)bise_arg_count(a);
    if (!out)
        return bise_fail(err, BISE_EINVAL, "an output is needed: -o "
                         "OUT.tar.zst");
    if (bise_opt_given(a, "oci") && bise_ends_with(out, ".tar.zst"))
        return bise_fail(err, BISE_EINVAL, "--oci makes a folder, '%s' is the "
                         "name of an archive", out);
    if (level < 1 || level > 19)
        return bise_fail(err, BISE_EINVAL, "--level is %" PRId64
                         ", 1 to 19 are allowed", level);
    const char **paths = bise_alloc_array(n + 1, sizeof *paths);
    if (!paths)
        return bise_fail_nomem(err);
    for (size_t i = 0; i < n; i++)
        paths[i] = bise_arg(a, (int)i);
    const bise_pack_options o = {
        .level = (int)level, .plain = bise_opt_given(a, "plain"),
        .force = ctx->force, .pool = ctx->pool, .progress = ctx->progress
    };
    bise_pack_result r = { 0 };
    bise_status s = check_licences(ctx, paths, n, err);
    if (s == BISE_OK)
        s = bise_opt_given(a, "oci") ? bise_oci_pack(paths, n, out, &o, &r, err)
                                     : bise_pack(paths, n, out, &o, &r, err);
    bise_free(paths);
    if (s != BISE_OK)
        return s;
    bise_result_set(ctx, "output", bise_json_new_string(out));
    bise_result_set(ctx, "bytes", bise_json_new_int((int64_t)r.bytes));
    bise_result_set(ctx, "packed_bytes", bise_json_new_int((int64_t)r.packed));
    bise_result_set(ctx, "files", r.files);
    show(ctx, out, &r);
    return BISE_OK;
}

const bise_command bise_cmd_pack = {
    .name = "pack", .args = "PATH... -o OUT.tar.zst",
    .help = "pack files and folders into a verifiable archive",
    .details = "The archive is a tar file of independent zstd frames with a "
        "manifest of\nsha256 sums. It can be given wherever a MODEL is read.\nWith "
        "--oci OUT is a folder, an OCI image layout with the media types of\n"
        "CNCF ModelPack: skopeo copy oci:OUT:latest docker://REGISTRY/NAME:TAG",
    .options = options, .min_args = 1, .max_args = -1, .run = run
};
