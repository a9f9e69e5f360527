/* cmd_sign.c - bise sign: a signature over every file of a folder, which bise
 * verify --key and the model_signing tool check.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/command.h"
#include "deploy/sign.h"

static const bise_option options[] = {
    { .name = "key", .type = BISE_OPT_STRING, .value = "PRIV",
      .help = "private key, PEM: EC P-256, P-384, P-521 or Ed25519" },
    { .name = NULL }
};

/* The signature stands in the folder under its usual name. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    const char *dir = bise_arg(ctx->args, 0);
    const char *key = bise_opt_str(ctx->args, "key", NULL);
    size_t n = 0;
    if (!key)
        return bise_fail(err, BISE_EINVAL, "a key is needed: --key PRIV");
    const bise_status s = bise_sign(dir, key, ctx->pool, &n, err);
    if (s != BISE_OK)
        return s;
    bise_result_set(ctx, "files", bise_json_new_int((int64_t)n));
    bise_result_set(ctx, "signature", bise_json_new_string(BISE_SIGNATURE));
    bise_print(ctx, "%s/" BISE_SIGNATURE ": %zu files signed\n", dir, n);
    return BISE_OK;
}

const bise_command bise_cmd_sign = {
    .name = "sign", .args = "DIR --key PRIV",
    .help = "sign every file of a folder (OpenSSF model signing)",
    .options = options, .min_args = 1, .max_args = 1, .run = run
};
