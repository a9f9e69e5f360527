/* progress.c - forwards reports and messages to the caller's callbacks and
 * polls the cancel flag that cli/ sets from signals.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/progress.h"

#include <stdarg.h>
#include <stdio.h>

bise_status bise_progress_step(const bise_progress *p, const char *stage,
                               uint64_t done, uint64_t total, const char *unit,
                               const char *remark, bise_error *err)
{
    if (!p)
        return BISE_OK;
    if (p->cancel && *p->cancel)
        return bise_fail(err, BISE_ECANCEL, "interrupted");
    if (p->report)
        p->report(p->ctx, stage, done, total, unit, remark);
    return BISE_OK;
}

void bise_progress_say(const bise_progress *p, const char *fmt, ...)
{
    if (!p || !p->message)
        return;
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    p->message(p->ctx, text);
}
