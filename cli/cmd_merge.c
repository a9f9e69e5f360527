/* cmd_merge.c - bise merge: base + adapters in float32, rounded once, in the
 * layout of the base or as --to says; reports how much of each weight moved,
 * because small updates can vanish in 16 bits.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "cli/job.h"
#include "cli/table.h"
#include "convert/convert.h"
#include "core/str.h"

static const bise_option options[] = {
    BISE_JOB_OPTIONS,
    { "dtype", BISE_OPT_CHOICE, "bf16|f16|f32|q8_0|keep",
      "type of the weight matrices", "keep", 0 },
    { "to", BISE_OPT_CHOICE, "hf|native|gguf",
      "layout of the output instead of the base's", NULL, 0 },
    { "split-max-size", BISE_OPT_SIZE, "SIZE",
      "cut the weights into files of at most SIZE", NULL, 0 },
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* --to, else the name's ending, else the layout of the base. */
static bise_layout layout(const bise_context *ctx, const char *path)
{
    const char *to = bise_opt_str(ctx->args, "to", NULL);
    if (to)
        return strcmp(to, "hf") == 0       ? BISE_TO_HF
               : strcmp(to, "native") == 0 ? BISE_TO_NATIVE
                                           : BISE_TO_GGUF;
    return bise_job_is_gguf(path) ? BISE_TO_GGUF : BISE_TO_SAME;
}

/* Share of elements whose stored value changed, over all touched tensors; with
 * --verbose a row for each. Warns when rounding swallowed most of it. */
static void report(bise_context *ctx, const bise_plan *p,
                   const bise_run_result *r)
{
    static const char *const heads[] = { ">changed %", ">delta/weight",
                                         "tensor" };
    bise_table table;
    uint64_t changed = 0, touched = 0;
    int n = 0;
    bise_table_init(&table, 3, heads);
    for (size_t i = 0; i < r->n_stats; i++) {
        const bise_run_stats *s = &r->stats[i];
        if (!p->tensors[i].base)
            continue;
        changed += s->changed;
        touched += s->weights;
        n++;
        bise_table_add(&table, "%.2f",
                       100.0 * (double)s->changed / (double)s->weights);
        bise_table_add(&table, "%.3g", s->base_square > 0
                           ? sqrt(s->delta_square / s->base_square) : 0);
        bise_table_add(&table, "%s", p->tensors[i].name);
    }
    const double share = touched ? (double)changed / (double)touched : 0;
    if (ctx->verbose && n) {
        bise_str text = { 0 };
        bise_table_put(&text, &table, 80);
        bise_print(ctx, "%s", bise_str_get(&text));
        bise_str_fini(&text);
    }
    bise_table_fini(&table);
    bise_print(ctx, "%d tensors merged, %.2f %% of their elements changed\n",
               n, 100 * share);
    bise_result_set(ctx, "merged_tensors", bise_json_new_int(n));
    bise_result_set(ctx, "changed", bise_json_new_real(share));
    if (n && share < 0.1)
        bise_progress_say(ctx->progress, "warning: the output type rounds most "
                          "of the adapter away; --dtype f32 keeps it");
}

/* Merging is converting with adapters; it is a command of its own because
 * it must have adapters and reports what they did. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    bise_job j = { 0 };
    bise_run_result r = { 0 };
    const char *path;
    int n = 0;
    const char *const *adapters = bise_opt_list(ctx->args, "adapter", &n);
    const char *dtype = bise_opt_str(ctx->args, "dtype", "keep");
    bise_status s = bise_job_output(&path, ctx, err);
    if (s == BISE_OK && n == 0)
        s = bise_fail(err, BISE_EINVAL, "--adapter A is missing");
    if (s == BISE_OK)
        s = bise_job_open(&j, ctx, err);
    if (s == BISE_OK) {
        const bise_convert_options o = {
            .to = layout(ctx, path), .progress = ctx->progress,
            .dtype = strcmp(dtype, "keep") == 0 ? BISE_DTYPE_NONE
                                                : bise_dtype_by_name(dtype),
            .loras = j.list, .n_loras = j.n_loras,
            .split_bytes = bise_opt_size(ctx->args, "split-max-size", 0),
        };
        s = bise_convert_plan(&j.plan, &j.model, &o, err);
    }
    if (s == BISE_OK)
        s = bise_job_record(&j, ctx, err);
    if (s == BISE_OK)
        s = bise_job_run(&j, ctx, "merge", true, &r, err);
    if (s == BISE_OK) {
        bise_json *list = bise_json_new_array();
        for (int i = 0; i < n; i++)
            bise_json_append(list, bise_json_new_string(adapters[i]));
        bise_result_set(ctx, "adapters", list);
        if (r.n_stats)
            report(ctx, &j.plan, &r);
    }
    bise_run_result_fini(&r);
    bise_job_close(&j);
    return s;
}

const bise_command bise_cmd_merge = {
    .name = "merge",
    .args = "MODEL --adapter A... -o OUT",
    .help = "add adapters to a model's weights",
    .details = "W + s B A is computed in float32 from the stored weight and "
               "rounded once to the output's type. Several adapters add up in "
               "the order given; A:SCALE weights one.",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
