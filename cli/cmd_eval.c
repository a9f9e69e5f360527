/* cmd_eval.c - `bise eval`: perplexity of a text file, supervised loss of JSONL
 * rows, and with --base the divergence from another model, streamed.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/loaded.h"
#include "core/file.h"
#include "core/mem.h"
#include "model/score.h"
#include "text/chat.h"
#include "text/dataset.h"
#include "text/pack.h"

static const bise_option options[] = {
    { "data", BISE_OPT_LIST, "FILE", "text file, or JSONL rows", NULL, 0 },
    { "base", BISE_OPT_STRING, "MODEL2",
      "compare predictions with this model (KL divergence)", NULL, 0 },
    { "adapter", BISE_OPT_LIST, "A[:SCALE]", "LoRA adapter on MODEL", NULL,
      0 },
    { "ctx", BISE_OPT_INT, "N", "tokens of a window", "512", 0 },
    { "stride", BISE_OPT_INT, "N",
      "new tokens of a window; the rest is context", "ctx", 0 },
    { "windows", BISE_OPT_CHOICE, "plain|halves",
      "which tokens of a window count; halves as llama-perplexity", "plain",
      0 },
    { "chunks", BISE_OPT_INT, "N", "stop after this many windows", "all", 0 },
    { "max-len", BISE_OPT_INT, "N", "longest JSONL row in tokens", "2048",
      0 },
    { "train-on", BISE_OPT_CHOICE, "assistant|all|last",
      "tokens of JSONL rows that are scored", "assistant", 0 },
    { "compute", BISE_OPT_CHOICE, "f32|bf16",
      "precision of matrix products", "f32", 0 },
    { "activations", BISE_OPT_CHOICE, "f32|q8",
      "inputs of matrix products; q8 rounds them as llama.cpp does", "f32",
      0 },
    { "plan", BISE_OPT_FLAG, NULL,
      "show settings and memory, then stop", NULL, 0 },
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* What a run holds; NULL until made. */
typedef struct eval {
    bise_context *ctx;
    bise_loaded model, base;
    bool has_base;
    bise_graph *graph, *base_graph;
    bise_score *score;
} eval;

/* Graphs for max_tokens and the score over them. */
static bise_status make_graphs(eval *e, int32_t max_tokens, bise_error *err)
{
    const int32_t V = e->model.c.config.V;
    bise_status s = bise_loaded_graph(&e->graph, &e->model, e->ctx,
                                      max_tokens, max_tokens, err);
    if (s == BISE_OK && e->has_base && e->base.c.config.V != V)
        s = bise_fail(err, BISE_EINVAL, "the models have %d and %d tokens, "
                      "they cannot be compared", V, e->base.c.config.V);
    if (s == BISE_OK && e->has_base)
        s = bise_loaded_graph(&e->base_graph, &e->base, e->ctx, max_tokens,
                              max_tokens, err);
    if (s == BISE_OK)
        s = bise_score_new(&e->score, e->graph, e->base_graph, V,
                           e->ctx->pool, err);
    return s;
}

/* One text file: encode it without BOS, score its windows. */
static bise_status eval_text(eval *e, const char *path, bise_error *err)
{
    const struct bise_args *a = e->ctx->args;
    const bise_tokenizer *tok = e->model.tok;
    bise_str text = { 0 };
    bise_ids ids = { 0 };
    /* Both models see the ids of the first one's tokenizer. */
    const bise_window_options o = {
        .rule = strcmp(bise_opt_str(a, "windows", "plain"), "halves") == 0 ?
                    BISE_WINDOWS_HALVES : BISE_WINDOWS_PLAIN,
        .ctx = (int32_t)bise_opt_int(a, "ctx", 512),
        .stride = (int32_t)bise_opt_int(a, "stride", 0),
        .bos = bise_tokenizer_bos(tok),
        .chunks = bise_opt_int(a, "chunks", 0),
        .progress = e->ctx->progress,
    };
    bise_status s = bise_file_read(&text, path, err);
    /* llama-perplexity cuts a text that starts with BOS. */
    if (s == BISE_OK)
        s = bise_tokenizer_encode(tok, bise_str_get(&text), text.len,
                                  o.rule == BISE_WINDOWS_HALVES ?
                                      BISE_TOK_BOS : 0, &ids, err);
    bise_str_fini(&text);
    if (s != BISE_OK)
        s = bise_error_in(err, path, NULL);
    if (s == BISE_OK)
        s = make_graphs(e, o.ctx, err);
    if (s == BISE_OK)
        s = bise_score_text(e->score, ids.v, ids.n, &o, err);
    bise_ids_fini(&ids);
    return s == BISE_EFORMAT ? bise_error_in(err, path, NULL) : s;
}

/* Which tokens of a row count. */
static bise_train_on train_on(const struct bise_args *a)
{
    const char *what = bise_opt_str(a, "train-on", "assistant");
    if (strcmp(what, "all") == 0)
        return BISE_TRAIN_ALL;
    return strcmp(what, "last") == 0 ? BISE_TRAIN_LAST : BISE_TRAIN_ASSISTANT;
}

/* Every pack of one epoch, in file order. */
static bise_status score_packs(eval *e, bise_packer *packer, bise_error *err)
{
    const int64_t most = bise_opt_int(e->ctx->args, "chunks", 0);
    uint64_t packs = 0;
    double empty;
    bise_status s = bise_packer_count(packer, 0, &packs, &empty, err);
    /* --chunks counts packs here: a quick look at a large set. */
    if (most > 0 && packs > (uint64_t)most)
        packs = (uint64_t)most;
    bise_cursor at = { 0 };
    for (uint64_t i = 0; s == BISE_OK && i < packs; i++) {
        bise_pack p;
        if ((s = bise_packer_next(packer, &at, &p, err)) != BISE_OK)
            break;
        const bise_batch b = { .ids = p.ids, .targets = p.targets,
                               .seg = p.seg, .T = p.T, .n_seg = p.n_seg };
        s = bise_score_batch(e->score, &b, err);
        if (s == BISE_OK)
            s = bise_progress_step(e->ctx->progress, "eval", i + 1, packs,
                                   "packs", NULL, err);
    }
    return s;
}

/* JSONL rows: the same dataset and packs as training, in file order and
 * without a shuffle, so that a row is scored once. */
static bise_status eval_rows(eval *e, const char *const *files, int n,
                             bise_error *err)
{
    const struct bise_args *a = e->ctx->args;
    const int32_t max_len = (int32_t)bise_opt_int(a, "max-len", 2048);
    const bise_chat *chat = NULL;
    bise_dataset *data = NULL;
    bise_packer *packer = NULL;
    if (max_len < 2)
        return bise_fail(err, BISE_EINVAL, "--max-len of %d", max_len);
    bise_status s = bise_chat_for(&chat, e->model.tok, NULL, err);
    const bise_dataset_options o = {
        .files = files, .n_files = n, .split = "valid",
        .tokenizer = e->model.tok, .chat = chat, .train_on = train_on(a),
        .max_len = max_len, .too_long = BISE_TOO_LONG_CUT,
        .pool = e->ctx->pool, .progress = e->ctx->progress,
    };
    if (s == BISE_OK)
        s = bise_dataset_open(&data, &o, err);
    /* Packed like training: attention does not cross rows. */
    const bise_pack_options p = { .max_tokens = max_len, .packing = true };
    if (s == BISE_OK)
        s = bise_packer_new(&packer, data, &p, err);
    if (s == BISE_OK)
        s = make_graphs(e, max_len, err);
    if (s == BISE_OK)
        s = score_packs(e, packer, err);
    bise_packer_free(packer);
    bise_dataset_close(data);
    return s;
}

/* Rows by name, or by what stands first in the file. */
static bool is_rows(const char *path)
{
    static const char *const ends[] = { ".jsonl", ".json", ".jsonl.gz",
                                        ".json.gz", ".jsonl.zst" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (bise_ends_with(path, ends[i]))
            return true;
    return bise_is_dir(path);
}

/* A number of the result. */
static void set_num(bise_json *o, const char *key, double v)
{
    (void)bise_json_set(o, key, bise_json_new_real(v));
}

/* How the perplexities compare, as in llama-perplexity's report. */
static void show_ratio(bise_context *ctx, const bise_score_result *r)
{
    bise_json *o = ctx->result;
    const double ppl = exp(r->nll), base = exp(r->base_nll);
    const double ln = r->nll - r->base_nll, error = r->ln_ratio_error;
    set_num(o, "base_ppl", base);
    set_num(o, "base_ppl_error", base * r->base_nll_error);
    set_num(o, "ln_ppl_correlation", r->nll_correlation);
    set_num(o, "ln_ppl_ratio", ln);
    set_num(o, "ln_ppl_ratio_error", error);
    set_num(o, "ppl_ratio", exp(ln));
    set_num(o, "ppl_ratio_error", exp(ln) * error);
    set_num(o, "ppl_diff", ppl - base);
    set_num(o, "ppl_diff_error", r->ppl_diff_error);
    bise_print(ctx, "base ppl  %.6f +- %.6f\n"
               "corr      %.4f %% of ln ppl and ln base ppl, by token\n"
               "ln ratio  %.6f +- %.6f of ppl to base ppl\n"
               "ratio     %.6f +- %.6f\ndiff      %.6f +- %.6f\n",
               base, base * r->base_nll_error, 100 * r->nll_correlation,
               ln, error, exp(ln), exp(ln) * error, ppl - base,
               r->ppl_diff_error);
}

/* Divergence and the change of the right token's probability, side by side;
 * probabilities are percent in the text. */
static void show_divergence(bise_context *ctx, const bise_score_result *r)
{
    static const char *const keys[BISE_Q_COUNT] = {
        "min", "p0_1", "p1", "p5", "p10", "p25", "median", "p75", "p90",
        "p95", "p99", "p999", "max" };
    static const char *const labels[BISE_Q_COUNT] = {
        "min", "0.1 %", "1 %", "5 %", "10 %", "25 %", "median", "75 %",
        "90 %", "95 %", "99 %", "99.9 %", "max" };
    bise_json *kld = bise_json_new_object(), *dp = bise_json_new_object();
    set_num(kld, "mean", r->kld_mean);
    set_num(kld, "error", r->kld_error);
    set_num(ctx->result, "dp_error", r->dp_error);
    set_num(ctx->result, "dp_rms_error", r->dp_rms_error);
    bise_print(ctx, "same top  %.4f %% +- %.4f\n%-10s%13s%25s\n"
               "%-10s%13.6g +- %-9.2g%12.4f +- %.4f\n"
               "%-10s%38.4f +- %.4f\n", 100 * r->same_top,
               100 * r->same_top_error, "", "kld", "dp %", "mean",
               r->kld_mean, r->kld_error, 100 * r->dp_mean,
               100 * r->dp_error, "rms", 100 * r->dp_rms,
               100 * r->dp_rms_error);
    for (int i = BISE_Q_COUNT - 1; i >= 0; i--) {
        set_num(kld, keys[i], r->kld_q[i]);
        set_num(dp, keys[i], r->dp_q[i]);
        bise_print(ctx, "%-10s%13.6g%25.4f\n", labels[i], r->kld_q[i],
                   100 * r->dp_q[i]);
    }
    bise_result_set(ctx, "kld", kld);
    set_num(ctx->result, "same_top", r->same_top);
    set_num(ctx->result, "same_top_error", r->same_top_error);
    set_num(ctx->result, "dp_mean", r->dp_mean);
    set_num(ctx->result, "dp_rms", r->dp_rms);
    bise_result_set(ctx, "dp", dp);
}

/* The result for people and for --json; divergence only with a base. */
static void show(bise_context *ctx, const bise_score_result *r, bool base)
{
    bise_result_set(ctx, "tokens", bise_json_new_int((int64_t)r->tokens));
    set_num(ctx->result, "loss", r->nll);
    set_num(ctx->result, "ppl", exp(r->nll));
    bise_print(ctx, "tokens    %llu\nloss      %.6f +- %.6f\nppl       %.6f\n",
               (unsigned long long)r->tokens, r->nll, r->nll_error,
               exp(r->nll));
    if (!base)
        return;
    show_ratio(ctx, r);
    show_divergence(ctx, r);
}

/* One size of the plan, as a line and as a key. */
static void show_bytes(bise_context *ctx, bise_json *plan, const char *key,
                       uint64_t bytes)
{
    char text[32];
    (void)bise_json_set(plan, key, bise_json_new_int((int64_t)bytes));
    bise_print(ctx, "%-12s %s\n", key, bise_format_bytes(text, bytes));
}

/* --plan: what a run would take. Only headers have been read. */
static bise_status show_plan(eval *e, bool rows, bise_error *err)
{
    const struct bise_args *a = e->ctx->args;
    const int32_t tokens = (int32_t)(rows ? bise_opt_int(a, "max-len", 2048) :
                                            bise_opt_int(a, "ctx", 512));
    uint64_t weights = bise_loaded_weight_bytes(&e->model);
    uint64_t buffers = 0, base = 0;
    bise_status s = bise_loaded_plan(&buffers, &e->model, e->ctx, tokens,
                                     tokens, err);
    if (s == BISE_OK && e->has_base) {
        weights += bise_loaded_weight_bytes(&e->base);
        s = bise_loaded_plan(&base, &e->base, e->ctx, tokens, tokens, err);
    }
    if (s != BISE_OK)
        return s;
    bise_json *plan = bise_json_new_object();
    (void)bise_json_set(plan, "tokens_at_once", bise_json_new_int(tokens));
    bise_print(e->ctx, "%-12s %d\n", "tokens", (int)tokens);
    show_bytes(e->ctx, plan, "weights", weights);
    show_bytes(e->ctx, plan, "buffers", buffers + base);
    show_bytes(e->ctx, plan, "peak", weights + buffers + base);
    bise_result_set(e->ctx, "plan", plan);
    return BISE_OK;
}

/* By these names bise release finds the file that the figures are of: base
 * names, since results are published. */
static void name_inputs(bise_context *ctx, const char *model, const char *data)
{
    char *name = bise_path_name(model);
    bise_result_set(ctx, "model", bise_json_new_string(name ? name : ""));
    bise_result_set(ctx, "data", bise_json_new_string(bise_path_base(data)));
    bise_free(name);
}

/* Open what is asked for, score, show; everything is closed on the way out
 * whatever happened. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    eval e = { .ctx = ctx };
    int n = 0;
    const char *const *files = bise_opt_list(ctx->args, "data", &n);
    const char *base = bise_opt_str(ctx->args, "base", NULL);
    if (n == 0)
        return bise_fail(err, BISE_EINVAL, "--data is missing");
    /* The first file tells which kind of evaluation this is. */
    const bool rows = is_rows(files[0]);
    if (!rows && n > 1)
        return bise_fail(err, BISE_EINVAL, "one text file at a time");
    bise_status s = bise_loaded_open(&e.model, ctx, bise_arg(ctx->args, 0),
                                     true, true, err);
    if (s == BISE_OK && base) {
        e.has_base = true;
        s = bise_loaded_open(&e.base, ctx, base, false, false, err);
    }
    const bool only_plan = bise_opt_given(ctx->args, "plan");
    if (s == BISE_OK && only_plan)
        s = show_plan(&e, rows, err);
    else if (s == BISE_OK)
        s = rows ? eval_rows(&e, files, n, err) :
                   eval_text(&e, files[0], err);
    if (s == BISE_OK && !only_plan) {
        bise_score_result r;
        name_inputs(ctx, bise_arg(ctx->args, 0), files[0]);
        bise_score_get(e.score, &r);
        show(ctx, &r, base != NULL);
    }
    bise_score_free(e.score);
    bise_graph_free(e.graph);
    bise_graph_free(e.base_graph);
    bise_loaded_close(&e.base);
    bise_loaded_close(&e.model);
    return s;
}

const bise_command bise_cmd_eval = {
    .name = "eval",
    .args = "MODEL --data FILE",
    .help = "perplexity, supervised loss, or divergence from a base model",
    .details = "A text file is cut into windows of --ctx tokens, each starting"
               " with BOS, and every token counts; --windows halves scores as "
               "llama-perplexity does. JSONL rows are scored on their trained "
               "tokens. llama.cpp rounds the inputs of quantized weights to "
               "8 bits, so its divergences hold that loss too: compare them "
               "with --activations q8. With --base the report has the figures "
               "of llama-perplexity: ratio and difference of the perplexities "
               "with errors that take the models' covariance into account, "
               "and quantiles of kld and of dp, the change of the right "
               "token's probability.",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
