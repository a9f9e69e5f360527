/* print.c - how commands hand over results: text for stdout, or members of the
 * one JSON object.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdarg.h>
#include <stdio.h>

#include "cli/command.h"

void bise_print(const bise_context *ctx, const char *fmt, ...)
{
    if (ctx->json)
        return;
    va_list args;
    va_start(args, fmt);
    vfprintf(stdout, fmt, args);
    va_end(args);
}

void bise_result_set(bise_context *ctx, const char *key, bise_json *value)
{
    (void)bise_json_set(ctx->result, key, value);
}
