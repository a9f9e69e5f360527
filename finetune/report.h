/* report.h - report.html and loss.svg of a training run, made from run.yaml and
 * log.jsonl of its directory: one file each, nothing loaded from a network.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_REPORT_H
#define BISE_FINETUNE_REPORT_H

#include "core/error.h"
#include "core/str.h"
#include "finetune/runlog.h"

/* Write DIR/report.html and DIR/loss.svg, replacing old ones. */
BISE_NODISCARD bise_status bise_report_write(const char *dir, bise_error *err);
/* The two documents from a log and the settings as JSON (may be NULL). */
BISE_NODISCARD bise_status bise_report_html(bise_str *out,
                                            const bise_runlog_data *log,
                                            const bise_json *settings,
                                            bise_error *err);
BISE_NODISCARD bise_status bise_report_svg(bise_str *out,
                                           const bise_runlog_data *log,
                                           bise_error *err);

#endif
