/* print.c - how commands hand over results: text for stdout, or members of the
 * one JSON object.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/term.h"

/* On a terminal the progress line gives way: text would be appended to it. */
void bise_print(const bise_context *ctx, const char *fmt, ...)
{
    if (ctx->json)
        return;
    const bise_progress *p = ctx->progress;
    bise_term *term = p && p->report == bise_term_report ? p->ctx : NULL;
    if (term && term->line_open && isatty(STDOUT_FILENO))
        bise_term_clear(term);
    va_list args;
    va_start(args, fmt);
    vfprintf(stdout, fmt, args);
    va_end(args);
}

void bise_result_set(bise_context *ctx, const char *key, bise_json *value)
{
    (void)bise_json_set(ctx->result, key, value);
}
