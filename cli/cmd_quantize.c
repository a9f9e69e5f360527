/* cmd_quantize.c - bise quantize: any readable model, with adapters, to a
 * quantized GGUF in a single pass. The plan is convert's, retyped by quantize/;
 * no intermediate file exists.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "cli/job.h"
#include "convert/convert.h"
#include "core/str.h"
#include "quantize/budget.h"
#include "quantize/quantize.h"

static const bise_option options[] = {
    BISE_JOB_OPTIONS,
    { "type", BISE_OPT_STRING, "TYPE",
      "Q4_K_M, Q8_0, BF16, ... (--type help lists them)", NULL, 0 },
    { "imatrix", BISE_OPT_STRING, "FILE",
      "importance of the columns, from calibrate", NULL, 0 },
    { "tensor-type", BISE_OPT_LIST, "REGEX=T",
      "type of tensors whose name matches", NULL, 0 },
    { "output-tensor-type", BISE_OPT_STRING, "T",
      "type of output.weight", NULL, 0 },
    { "token-embedding-type", BISE_OPT_STRING, "T",
      "type of token_embd.weight", NULL, 0 },
    { "pure", BISE_OPT_FLAG, NULL, "the same type for every matrix", NULL, 0 },
    { "target-size", BISE_OPT_SIZE, "SIZE",
      "choose types so that the output has at most SIZE bytes", NULL, 0 },
    { "target-bpw", BISE_OPT_FLOAT, "BITS",
      "choose types for at most BITS per weight", NULL, 0 },
    { "allow-requantize", BISE_OPT_FLAG, NULL,
      "accept input that is quantized already", NULL, 0 },
    { "split-max-size", BISE_OPT_SIZE, "SIZE",
      "cut the output into files of at most SIZE", NULL, 0 },
    { "dry-run", BISE_OPT_FLAG, NULL,
      "print type and size of every tensor, then stop", NULL, 0 },
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* The hint lists every type, so that nobody has to search a manual. */
static bise_status find_mixture(const bise_mixture **out,
                                const bise_context *ctx, bise_error *err)
{
    const bool target = bise_opt_given(ctx->args, "target-size") ||
                        bise_opt_given(ctx->args, "target-bpw");
    const char *name = bise_opt_str(ctx->args, "type",
                                    target ? "Q4_K_M" : NULL);
    if (!name)
        return bise_fail(err, BISE_EINVAL, "--type T is missing");
    *out = bise_mixture_find(name);
    if (*out)
        return BISE_OK;
    bise_str all = { 0 };
    for (size_t i = 0; bise_mixture_at(i); i++)
        bise_str_printf(&all, " %s", bise_mixture_at(i)->name);
    bise_status s = bise_fail(err, BISE_EINVAL, "'%s' is not a type", name);
    s = bise_error_hint(err, "one of%s", bise_str_get(&all));
    bise_str_fini(&all);
    return s;
}

/* A tensor type given by name, NONE when the option is absent. */
static bise_status type_option(bise_dtype *out, const bise_context *ctx,
                               const char *name, bise_error *err)
{
    const char *text = bise_opt_str(ctx->args, name, NULL);
    *out = text ? bise_dtype_by_name(text) : BISE_DTYPE_NONE;
    if (!text || (*out != BISE_DTYPE_NONE && bise_dtype_get(*out)->gguf_id >= 0))
        return BISE_OK;
    return bise_fail(err, BISE_EINVAL, "--%s: '%s' is not a tensor type of "
                     "GGUF", name, text);
}

/* A target chooses among quantized types, so nothing else may choose for all
 * tensors. */
static bise_status check_target(const bise_quantize_options *o,
                                const bise_context *ctx, bise_error *err)
{
    const bool size = bise_opt_given(ctx->args, "target-size");
    const bool bits = bise_opt_given(ctx->args, "target-bpw");
    if (!size && !bits)
        return BISE_OK;
    if (size && bits)
        return bise_fail(err, BISE_EINVAL, "--target-size and --target-bpw "
                         "cannot be given together");
    if (o->pure)
        return bise_fail(err, BISE_EINVAL, "--pure leaves nothing for a "
                         "target to choose");
    if (!bise_dtype_is_quant(o->mixture->base))
        return bise_fail(err, BISE_EINVAL, "--type %s is not quantized: a "
                         "target cannot be reached", o->mixture->name);
    if (bits && !(bise_opt_num(ctx->args, "target-bpw", 0) > 0))
        return bise_fail(err, BISE_EINVAL, "--target-bpw must be above 0");
    if (size && bise_opt_size(ctx->args, "target-size", 0) == 0)
        return bise_fail(err, BISE_EINVAL, "--target-size must be above 0");
    return BISE_OK;
}

/* Types by the target, when there is one. The type that is reported is then
 * that of the label. */
static bise_status fit_target(bise_job *j, const bise_context *ctx,
                              bise_quantize_options *q, bise_error *err)
{
    const bise_budget b = {
        .bytes = bise_opt_size(ctx->args, "target-size", 0),
        .bits = bise_opt_num(ctx->args, "target-bpw", 0),
        .keep_label = bise_opt_given(ctx->args, "type"),
        .headers_only = bise_opt_given(ctx->args, "plan"),
        .pool = ctx->pool, .progress = ctx->progress,
    };
    if (!b.bytes && !(b.bits > 0))
        return BISE_OK;
    const bise_status s = bise_budget_fit(&j->plan, q, &b, err);
    const int64_t label = bise_gguf_int(&j->plan.meta, "general.file_type", -1);
    for (size_t i = 0; bise_mixture_at(i); i++)
        if (bise_mixture_at(i)->file_type == label)
            q->mixture = bise_mixture_at(i);
    return s;
}

/* Everything the options say about types. rules is the caller's to free. */
static bise_status read_options(bise_quantize_options *o,
                                bise_type_rule **rules, bise_imatrix *im,
                                bise_arena *a, const bise_context *ctx,
                                bise_error *err)
{
    int n = 0;
    const char *const *list = bise_opt_list(ctx->args, "tensor-type", &n);
    bise_status s = find_mixture(&o->mixture, ctx, err);
    if (s == BISE_OK)
        s = type_option(&o->output_type, ctx, "output-tensor-type", err);
    if (s == BISE_OK)
        s = type_option(&o->embedding_type, ctx, "token-embedding-type", err);
    *rules = bise_alloc_array((size_t)n + 1, sizeof **rules);
    if (s == BISE_OK && !*rules)
        s = bise_fail_nomem(err);
    for (int i = 0; i < n && s == BISE_OK; i++)
        s = bise_type_rule_parse(&(*rules)[i], list[i], a, err);
    o->rules = *rules;
    o->n_rules = (size_t)n;
    o->pure = bise_opt_given(ctx->args, "pure");
    o->allow_requantize = bise_opt_given(ctx->args, "allow-requantize");
    o->imatrix_path = bise_opt_str(ctx->args, "imatrix", NULL);
    o->progress = ctx->progress;
    if (s == BISE_OK)
        s = check_target(o, ctx, err);
    if (s == BISE_OK && o->imatrix_path) {
        s = bise_imatrix_load(im, o->imatrix_path, err);
        o->imatrix = im;
    }
    return s;
}

/* type, bits_per_weight and a row for each tensor; rmse when it was measured. */
static void set_result(bise_context *ctx, const bise_plan *p,
                       const bise_mixture *m, const bise_run_result *r)
{
    bise_json *list = bise_json_new_array();
    for (size_t i = 0; i < p->n; i++) {
        bise_json *t = bise_json_new_object();
        bise_json_set(t, "name", bise_json_new_string(p->tensors[i].name));
        bise_json_set(t, "type", bise_json_new_string(
            bise_dtype_get(p->tensors[i].dtype)->name));
        if (i < r->n_stats)
            bise_json_set(t, "rmse",
                          bise_json_new_real(bise_run_rmse(&r->stats[i])));
        bise_json_append(list, t);
    }
    bise_result_set(ctx, "type", bise_json_new_string(m->name));
    bise_result_set(ctx, "bits_per_weight",
                    bise_json_new_real(bise_plan_bits(p)));
    bise_result_set(ctx, "tensors", list);
}

/* Plan, then print or run it. */
static bise_status work(bise_job *j, bise_context *ctx,
                        bise_quantize_options *q, bise_error *err)
{
    const bise_convert_options o = {
        .to = BISE_TO_GGUF, .dtype = BISE_DTYPE_NONE, .loras = j->list,
        .n_loras = j->n_loras, .progress = ctx->progress,
        .split_bytes = bise_opt_size(ctx->args, "split-max-size", 0),
    };
    bise_run_result r = { 0 };
    int fallbacks = 0;
    bise_status s = bise_convert_plan(&j->plan, &j->model, &o, err);
    if (s == BISE_OK)
        s = bise_quantize_plan(&j->plan, &j->model.config, q, &fallbacks, err);
    if (s == BISE_OK)
        s = fit_target(j, ctx, q, err);
    if (s == BISE_OK)
        s = bise_job_record(j, ctx, err);
    if (s != BISE_OK)
        return s;
    if (fallbacks)
        bise_progress_say(ctx->progress, "%d tensors have rows that their type "
                          "does not divide: another type was used", fallbacks);
    if (bise_opt_given(ctx->args, "dry-run")) {
        s = bise_plan_layout(&j->plan, err);
        if (s != BISE_OK)
            return s;
        bise_job_print_plan(ctx, &j->plan, true);
        bise_result_set(ctx, "bytes_in", bise_json_new_int(
            (int64_t)bise_plan_bytes_in(&j->plan)));
        bise_result_set(ctx, "bytes_out", bise_json_new_int(
            (int64_t)bise_plan_bytes_out(&j->plan)));
    } else {
        s = bise_job_run(j, ctx, "quantize", ctx->json, &r, err);
    }
    if (s == BISE_OK) {
        set_result(ctx, &j->plan, q->mixture, &r);
        bise_print(ctx, "%s, %.3f bits per weight\n", q->mixture->name,
                   bise_plan_bits(&j->plan));
    }
    bise_run_result_fini(&r);
    return s;
}

/* Options are read before the model is opened: a typing error should not
 * cost the time of checking a large checkpoint. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    bise_job j = { 0 };
    bise_quantize_options q = { 0 };
    bise_type_rule *rules = NULL;
    bise_imatrix im = { 0 };
    bise_arena arena = { 0 };
    const char *path;
    bise_status s = BISE_OK;
    if (!bise_opt_given(ctx->args, "dry-run"))
        s = bise_job_output(&path, ctx, err);
    if (s == BISE_OK)
        s = read_options(&q, &rules, &im, &arena, ctx, err);
    if (s == BISE_OK)
        s = bise_job_open(&j, ctx, err);
    if (s == BISE_OK)
        s = work(&j, ctx, &q, err);
    bise_job_close(&j);
    bise_imatrix_fini(&im);
    bise_arena_fini(&arena);
    bise_free(rules);
    return s;
}

const bise_command bise_cmd_quantize = {
    .name = "quantize",
    .args = "MODEL -o OUT.gguf --type T | --target-size S | --target-bpw B",
    .help = "any model to a quantized GGUF in one pass",
    .details = "The bytes are those of llama-quantize: the same encoders, the "
               "same type for each tensor, the same order. Adapters are added "
               "in float32 on the way. -o NAME.tar.zst packs the GGUF as it "
               "is made, with the model's card and licence. With "
               "--target-size or --target-bpw the error of every type is "
               "measured on each tensor (weighted by the imatrix), and the "
               "types of least error that fit are chosen; tensors named by "
               "--tensor-type and the like keep theirs. --type then only "
               "says what general.file_type says. --plan reads no weights: "
               "it shows the size and an estimate of the types.",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
