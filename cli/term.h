/* term.h - what the user sees while work goes on: the progress line, messages
 * and errors on stderr, and the buffer for stdout.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_TERM_H
#define BISE_CLI_TERM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "core/progress.h"

typedef struct bise_term {
    bool quiet, verbose, tty, color;
    char stage[64];
    uint64_t start_ns;   /* of the stage */
    uint64_t drawn_ns;   /* last time a line was shown */
    uint64_t first_done; /* progress when the stage began */
    bool line_open;      /* a redrawn line stands on the terminal */
} bise_term;

void bise_term_init(bise_term *t, bool quiet, bool verbose);
/* Callbacks for bise_progress; ctx is the bise_term. */
void bise_term_report(void *ctx, const char *stage, uint64_t done,
                      uint64_t total, const char *unit, const char *remark);
void bise_term_message(void *ctx, const char *text);
/* Take an open progress line away: something else is printed in its place. */
void bise_term_clear(bise_term *t);
/* Finish an open progress line. */
void bise_term_end(bise_term *t);
/* Print an error with place and hint on stderr. */
void bise_term_error(bise_term *t, const bise_error *err);
/* The same as the JSON object of --json. Caller frees. */
bise_json *bise_error_json(const bise_error *err);

#endif
