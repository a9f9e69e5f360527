/* progress.h - how long work reports to its caller and learns that it should
 * stop. The library calls, cli/ draws. A NULL bise_progress is silent.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CORE_PROGRESS_H
#define BISE_CORE_PROGRESS_H

#include <signal.h>
#include <stdint.h>

#include "core/error.h"

typedef struct bise_progress {
    /* What is being done ("quantize"), how far (done of total, total 0 when
     * unknown), the unit of both ("bytes", "tokens", "steps"), and a short
     * remark for the line ("loss 2.31") or NULL. From one thread at a time. */
    void (*report)(void *ctx, const char *stage, uint64_t done, uint64_t total,
                   const char *unit, const char *remark);
    /* A line for the user that is not progress: warnings, facts. */
    void (*message)(void *ctx, const char *text);
    void *ctx;
    const volatile sig_atomic_t *cancel; /* non-zero: stop; may be NULL */
} bise_progress;

/* Report and poll: BISE_ECANCEL (recorded in err) when the user stopped. */
BISE_NODISCARD bise_status bise_progress_step(const bise_progress *p,
                                              const char *stage, uint64_t done,
                                              uint64_t total, const char *unit,
                                              const char *remark,
                                              bise_error *err);
/* Send a formatted message line. */
void bise_progress_say(const bise_progress *p, const char *fmt, ...)
    BISE_PRINTF(2, 3);

#endif
