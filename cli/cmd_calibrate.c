/* cmd_calibrate.c - bise calibrate: run a model over text or chat data and
 * write the importance matrix that quantize takes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "cli/chunks.h"
#include "cli/loaded.h"
#include "core/file.h"
#include "core/mem.h"
#include "quantize/calibrate.h"
#include "quantize/imatrix.h"

static const bise_option options[] = {
    BISE_CHUNK_OPTIONS,
    { "o", BISE_OPT_STRING, "OUT", "imatrix.gguf, or .dat for the old form",
      NULL, 'o' },
    { "adapter", BISE_OPT_LIST, "A[:SCALE]", "LoRA adapter on MODEL", NULL,
      0 },
    { "save-every", BISE_OPT_INT, "N", "write OUT after every N chunks", NULL,
      0 },
    { "resume", BISE_OPT_FLAG, NULL,
      "go on after the chunks that OUT holds already", NULL, 0 },
    { "plan", BISE_OPT_FLAG, NULL, "print chunks and memory, then stop", NULL,
      0 },
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* What a run holds. */
typedef struct calibration {
    bise_context *ctx;
    bise_loaded model;
    bise_graph *graph;
    bise_collector *sums;
    bise_imatrix before;     /* chunks of an earlier run, under --resume */
    bise_chunks data;
    const char *out;
    uint64_t first;          /* chunks done before */
    uint64_t tokens;
} calibration;

/* Write what has been collected so far, with the chunks of before. */
static bise_status save(calibration *k, uint64_t chunks, size_t *entries,
                        bise_error *err)
{
    bise_imatrix m = { 0 };
    int n = 0;
    const char *const *files = bise_opt_list(k->ctx->args, "data", &n);
    bise_status s = BISE_OK;
    for (size_t i = 0; i < k->before.n && s == BISE_OK; i++) {
        const bise_imatrix_entry *b = &k->before.entries[i];
        bise_imatrix_entry *e = bise_imatrix_add(&m, b->name, b->cols,
                                                 b->n_mat);
        if (!e) {
            s = bise_fail_nomem(err);
            break;
        }
        memcpy(e->sums, b->sums, (size_t)(b->cols * b->n_mat) * sizeof(float));
        memcpy(e->counts, b->counts, (size_t)b->n_mat * sizeof(float));
    }
    for (int i = 0; i < n && s == BISE_OK; i++) {
        const char *base = bise_path_base(files[i]);
        if (bise_imatrix_add_dataset(&m, base, strlen(base)) != 0)
            s = bise_fail_nomem(err);
    }
    m.chunks = (uint32_t)chunks;
    m.chunk_size = (uint32_t)k->data.T;
    if (s == BISE_OK)
        s = bise_collector_take(k->sums, &m, err);
    if (s == BISE_OK)
        s = bise_imatrix_save(&m, k->out, true, err);
    *entries = m.n;
    bise_imatrix_fini(&m);
    return s;
}

/* Read OUT of an interrupted run of the same data and chunk size. */
static bise_status resume(calibration *k, bise_error *err)
{
    if (!bise_opt_given(k->ctx->args, "resume") || !bise_file_exists(k->out))
        return BISE_OK;
    bise_status s = bise_imatrix_load(&k->before, k->out, err);
    if (s != BISE_OK)
        return s;
    if (k->before.chunk_size != (uint32_t)k->data.T) {
        s = bise_fail(err, BISE_EINVAL, "it was made with chunks of %u tokens",
                      k->before.chunk_size);
        return bise_error_in(err, k->out, NULL);
    }
    k->first = k->before.chunks;
    return s;
}

/* All chunks, saving on the way; packs before the first are skipped. */
static bise_status collect(calibration *k, size_t *entries, bise_error *err)
{
    const int64_t every = bise_opt_int(k->ctx->args, "save-every", 0);
    bise_status s = bise_chunks_skip(&k->data, k->first, err);
    for (uint64_t i = k->first; i < k->data.n && s == BISE_OK; i++) {
        bise_batch b = { 0 };
        bise_collector_at(k->sums, k->tokens);
        s = bise_chunks_next(&k->data, &b, err);
        if (s == BISE_OK)
            s = bise_graph_forward(k->graph, &b, err);
        k->tokens += (uint64_t)b.T;
        if (s == BISE_OK && every > 0 && (i + 1) % (uint64_t)every == 0)
            s = save(k, i + 1, entries, err);
        if (s == BISE_OK)
            s = bise_progress_step(k->ctx->progress, "calibrate", i + 1,
                                   k->data.n, "chunks", NULL, err);
    }
    return s == BISE_OK ? save(k, k->data.n, entries, err) : s;
}

/* Everything but the graph, so that --plan can stop before memory is taken. */
static bise_status open_all(calibration *k, bise_graph_options *o,
                            bise_error *err)
{
    bise_status s = bise_loaded_open(&k->model, k->ctx,
                                     bise_arg(k->ctx->args, 0), true, true,
                                     err);
    if (s == BISE_OK)
        s = bise_chunks_open(&k->data, k->ctx, k->model.tok, err);
    if (s == BISE_OK)
        s = resume(k, err);
    if (s == BISE_OK)
        s = bise_collector_new(&k->sums, &k->model.c.config, k->ctx->pool,
                               err);
    *o = (bise_graph_options){
        .max_tokens = k->data.T, .max_seq = k->data.T, .loras = k->model.list,
        .n_loras = k->model.n, .pool = k->ctx->pool,
        .tap = bise_collector_tap, .tap_ctx = k->sums,
    };
    return s;
}

/* --resume and --force both accept an existing output: the one reads it
 * first, the other replaces it. */
static bise_status check_options(calibration *k, bise_error *err)
{
    const struct bise_args *a = k->ctx->args;
    const bise_status chunks = bise_chunks_options(&k->data, k->ctx, err);
    k->out = bise_opt_str(a, "o", NULL);
    if (chunks != BISE_OK)
        return chunks;
    if (bise_opt_given(a, "plan"))
        return BISE_OK;
    if (!k->out)
        return bise_fail(err, BISE_EINVAL, "-o OUT is missing");
    if (bise_file_exists(k->out) && !k->ctx->force &&
        !bise_opt_given(a, "resume")) {
        bise_status s = bise_fail(err, BISE_EIO, "output exists already");
        s = bise_error_hint(err, "use --force, or --resume to go on");
        s = bise_error_in(err, k->out, NULL);
        return s;
    }
    return BISE_OK;
}

/* One exit, since every part may be absent when an earlier one failed. */
static bise_status run(bise_context *ctx, bise_error *err)
{
    calibration k = { .ctx = ctx };
    bise_graph_options o;
    size_t entries = 0;
    uint64_t memory = 0;
    const bool plan = bise_opt_given(ctx->args, "plan");
    bise_status s = check_options(&k, err);
    if (s == BISE_OK)
        s = open_all(&k, &o, err);
    if (s == BISE_OK && plan)
        s = bise_graph_plan(&memory, &k.model.c, &o, err);
    if (s == BISE_OK && !plan)
        s = bise_graph_new(&k.graph, &k.model.c, &o, err);
    if (s == BISE_OK && !plan)
        s = collect(&k, &entries, err);
    if (s == BISE_OK) {
        char text[32];
        bise_result_set(ctx, "tokens", bise_json_new_int((int64_t)k.tokens));
        bise_result_set(ctx, "chunks", bise_json_new_int((int64_t)k.data.n));
        bise_result_set(ctx, "tensors", bise_json_new_int((int64_t)entries));
        if (plan) {
            bise_result_set(ctx, "memory_bytes",
                            bise_json_new_int((int64_t)memory));
            bise_print(ctx, "%" PRIu64 " chunks of %d tokens, %s of memory "
                       "beside the weights\n", k.data.n, (int)k.data.T,
                       bise_format_bytes(text, memory));
        } else {
            bise_print(ctx, "%s  %zu tensors, %" PRIu64 " chunks of %d "
                       "tokens\n", k.out, entries, k.data.n, (int)k.data.T);
        }
    }
    bise_graph_free(k.graph);
    bise_collector_free(k.sums);
    bise_chunks_close(&k.data);
    bise_imatrix_fini(&k.before);
    bise_loaded_close(&k.model);
    return s;
}

const bise_command bise_cmd_calibrate = {
    .name = "calibrate",
    .args = "MODEL --data FILE... -o imatrix.gguf",
    .help = "activation statistics for better quantization",
    .details = "Runs the model over chunks of --ctx tokens and sums the "
               "squares of every linear layer's inputs, as llama-imatrix does. "
               "Text files are joined; JSONL rows become conversations. Give "
               "the result to quantize --imatrix.",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
