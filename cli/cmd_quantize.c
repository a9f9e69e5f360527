/* cmd_quantize.c - bise quantize: any readable model, with adapters, to a
 * quantized GGUF in a single pass. The plan is convert's, retyped by quantize/;
 * no intermediate file exists.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "cli/chunks.h"
#include "cli/job.h"
#include "convert/convert.h"
#include "core/mem.h"
#include "core/str.h"
#include "quantize/budget.h"
#include "quantize/feedback.h"
#include "quantize/quantize.h"

static const bise_option options[] = {
    BISE_JOB_OPTIONS,
    { "type", BISE_OPT_STRING, "TYPE",
      "Q4_K_M, Q8_0, BF16, ... (--type help lists them)", NULL, 0 },
    { "imatrix", BISE_OPT_STRING, "FILE",
      "importance of the columns, from calibrate", NULL, 0 },
    { "method", BISE_OPT_CHOICE, "rtn|gptq",
      "round each weight by itself, or with error feedback by --data", "rtn",
      0 },
    BISE_CHUNK_OPTIONS,
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

/* ---- error feedback ---- */

/* What --method gptq holds while the plan is run. */
typedef struct gptq {
    bool on;
    bise_chunks data;
    bise_tokenizer *tok;
    bise_batch *batches;     /* [data.n], copies in arena */
    bise_arena arena;
    bise_feedback done;
} gptq;

static bise_status gptq_options(gptq *g, const bise_context *ctx,
                                bise_error *err)
{
    const bool data = bise_opt_given(ctx->args, "data");
    g->on = strcmp(bise_opt_str(ctx->args, "method", "rtn"), "gptq") == 0;
    if (!g->on && data)
        return bise_fail(err, BISE_EINVAL, "--data is for --method gptq; an "
                         "imatrix is made by bise calibrate");
    if (!g->on || data)
        return g->on ? bise_chunks_options(&g->data, ctx, err) : BISE_OK;
    bise_status s = bise_fail(err, BISE_EINVAL, "--method gptq needs --data "
                              "FILE");
    s = bise_error_hint(err, "text like what the model will see; 128 chunks "
                        "are plenty");
    return s;
}

static void gptq_close(gptq *g)
{
    bise_feedback_close(&g->done);
    bise_chunks_close(&g->data);
    bise_tokenizer_free(g->tok);
    bise_free(g->batches);
    bise_arena_fini(&g->arena);
}

/* All chunks at once: every layer goes over them. */
static bise_status gptq_batches(gptq *g, bise_error *err)
{
    bise_status s = BISE_OK;
    g->batches = bise_alloc_array((size_t)g->data.n + 1, sizeof *g->batches);
    if (!g->batches)
        return bise_fail_nomem(err);
    for (uint64_t i = 0; i < g->data.n && s == BISE_OK; i++) {
        bise_batch *b = &g->batches[i];
        s = bise_chunks_next(&g->data, b, err);
        if (s != BISE_OK)
            break;
        const size_t n = (size_t)b->T, m = (size_t)b->n_seg + 1;
        int32_t *ids = bise_arena_alloc(&g->arena, (n + m) * sizeof *ids);
        if (!ids)
            return bise_fail_nomem(err);
        memcpy(ids, b->ids, n * sizeof *ids);
        memcpy(ids + n, b->seg, m * sizeof *ids);
        b->ids = ids;
        b->seg = ids + n;
    }
    return s;
}

/* Under --plan only the memory is told. */
static bise_status gptq_plan(bise_job *j, bise_context *ctx,
                             const bise_feedback_options *o, bise_error *err)
{
    uint64_t memory = 0;
    char text[32];
    const bise_status s = bise_feedback_memory(&memory, &j->plan, &j->model, o,
                                               err);
    bise_print(ctx, "gptq memory   %s beside the weights\n",
               bise_format_bytes(text, memory));
    bise_result_set(ctx, "gptq_memory_bytes",
                    bise_json_new_int((int64_t)memory));
    return s;
}

/* Encode with feedback what has it; the runner does the rest. */
static bise_status gptq_run(gptq *g, bise_job *j, bise_context *ctx,
                            bise_error *err)
{
    bise_feedback_options o = {
        .max_tokens = g->data.T, .loras = j->list, .n_loras = j->n_loras,
        .path = bise_opt_str(ctx->args, "o", "."), .pool = ctx->pool,
        .progress = ctx->progress,
    };
    if (!g->on || bise_opt_given(ctx->args, "dry-run"))
        return BISE_OK;
    if (bise_opt_given(ctx->args, "plan"))
        return gptq_plan(j, ctx, &o, err);
    bise_status s = bise_out_check(o.path, ctx->force, err);
    if (s == BISE_OK)
        s = bise_tokenizer_open(&g->tok, j->model.store, ctx->progress, err);
    if (s == BISE_OK)
        s = bise_tokenizer_fits(g->tok, j->model.config.V, err);
    if (s == BISE_OK)
        s = bise_chunks_open(&g->data, ctx, g->tok, err);
    if (s == BISE_OK)
        s = gptq_batches(g, err);
    o.batches = g->batches;
    o.n_batches = (size_t)g->data.n;
    if (s == BISE_OK)
        s = bise_feedback_run(&g->done, &j->plan, &j->model, &o, err);
    if (s == BISE_OK)
        bise_progress_say(ctx->progress, "gptq: %zu tensors by %" PRIu64
                          " chunks of %d tokens%s", g->done.tensors,
                          g->data.n, (int)g->data.T, g->done.plain ?
                          "; others have a type without error feedback" : "");
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
    bise_result_set(ctx, "method", bise_json_new_string(
        bise_opt_str(ctx->args, "method", "rtn")));
    bise_result_set(ctx, "bits_per_weight",
                    bise_json_new_real(bise_plan_bits(p)));
    bise_result_set(ctx, "tensors", list);
}

/* Plan, then print or run it. */
static bise_status work(bise_job *j, bise_context *ctx,
                        bise_quantize_options *q, gptq *g, bise_error *err)
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
    if (s == BISE_OK)
        s = gptq_run(g, j, ctx, err);
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
    gptq g = { 0 };
    const char *path;
    bise_status s = gptq_options(&g, ctx, err);
    if (s == BISE_OK && !bise_opt_given(ctx->args, "dry-run"))
        s = bise_job_output(&path, ctx, err);
    if (s == BISE_OK)
        s = read_options(&q, &rules, &im, &arena, ctx, err);
    if (s == BISE_OK)
        s = bise_job_open(&j, ctx, err);
    if (s == BISE_OK)
        s = work(&j, ctx, &q, &g, err);
    gptq_close(&g);
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
               "is made, with the model's card and licence. --method gptq "
               "takes the files of --data through the model layer by layer "
               "and rounds with error feedback: better at four bits and "
               "below, the same types and sizes. With "
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
