/* job.h - what convert, merge and quantize share on the command line: opening
 * the model and its adapters, running or printing a plan, and the result keys
 * of cli.md.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_JOB_H
#define BISE_CLI_JOB_H

#include "cli/command.h"
#include "model/checkpoint.h"
#include "model/lora.h"
#include "pipeline/plan.h"
#include "pipeline/run.h"

/* The order of a command: bise_job_open, a plan maker of convert/ (and
 * quantize/) on job.model and job.list into job.plan, bise_job_record,
 * bise_job_run, the
 * command's own report, bise_job_close. After a failure only the last.
 */

/* A model with its adapters, opened from MODEL and --adapter. */
typedef struct bise_job {
    bise_checkpoint model;
    bise_lora *loras;       /* n_loras values */
    bise_lora **list;       /* the same, as the plan makers want them */
    int n_loras;
    bool opened;
    bise_plan plan;
    bise_plan vision;       /* of a second file (convert --mmproj), */
    const char *vision_path; /* or NULL */
} bise_job;

/* Rows of an option table that all of them take. */
#define BISE_JOB_OPTIONS \
    { "o", BISE_OPT_STRING, "OUT", "file or directory to make", NULL, 'o' }, \
    { "adapter", BISE_OPT_LIST, "A[:SCALE]", \
      "add a LoRA adapter", NULL, 0 }, \
    { "allow-nonfinite", BISE_OPT_FLAG, NULL, \
      "keep NaN and infinity in float types", NULL, 0 }, \
    { "require-licence", BISE_OPT_STRING, "ID", \
      "fail unless the model and its adapters have this licence", NULL, 0 }, \
    { "plan", BISE_OPT_FLAG, NULL, \
      "print sizes, memory and time, then stop", NULL, 0 }

/* Open the first argument and the adapters. Zero-initialise the job. */
BISE_NODISCARD bise_status bise_job_open(bise_job *j, bise_context *ctx,
                                         bise_error *err);
void bise_job_close(bise_job *j);
/* -o, which must be given unless only a plan is wanted. */
BISE_NODISCARD bise_status bise_job_output(const char **out,
                                           const bise_context *ctx,
                                           bise_error *err);
/* Is this the name of a GGUF, packed or not (.gguf, .gguf.tar.zst)? NULL is
 * not. */
bool bise_job_is_gguf(const char *path);
/* Write the command into the history of the plans' outputs. Call between the
 * plan maker and changes that the user asked for (keys removed). */
BISE_NODISCARD bise_status bise_job_record(bise_job *j,
                                           const bise_context *ctx,
                                           bise_error *err);
/* Run the job's plan into -o and that of the vision file into its path, or
 * print them under --plan (--verbose: with one row for each tensor). Sets
 * outputs, tensors, bytes_in, bytes_out; when a tensor is rounded to F16 also
 * flushed, overflowed and f16 (each tensor that lost some). measure asks for
 * rmse and for what adapters changed; *result, of the first plan, is the
 * caller's to release, empty when only planned. */
BISE_NODISCARD bise_status bise_job_run(bise_job *j, bise_context *ctx,
                                        const char *stage, bool measure,
                                        bise_run_result *result,
                                        bise_error *err);
/* Print the plan: a table of tensors, the totals, memory, disk and time. */
void bise_job_print_plan(bise_context *ctx, const bise_plan *p, bool tensors);

#endif
