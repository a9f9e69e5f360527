/* cmd_calibrate.c - bise calibrate: run a model over text or chat data and
 * write the importance matrix that quantize takes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "cli/loaded.h"
#include "core/file.h"
#include "core/mem.h"
#include "quantize/calibrate.h"
#include "quantize/imatrix.h"
#include "text/chat.h"
#include "text/dataset.h"
#include "text/pack.h"

static const bise_option options[] = {
    { "data", BISE_OPT_LIST, "FILE...", "text files, or JSONL rows", NULL, 0 },
    { "o", BISE_OPT_STRING, "OUT", "imatrix.gguf, or .dat for the old form",
      NULL, 'o' },
    { "ctx", BISE_OPT_INT, "N", "tokens of a chunk", "512", 0 },
    { "chunks", BISE_OPT_INT, "N", "stop after this many chunks", "all", 0 },
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
    bise_ids ids;            /* text data */
    bise_dataset *data;      /* JSONL data */
    bise_packer *packer;
    const char *out;
    int32_t T;               /* tokens of a chunk */
    uint64_t chunks, first;  /* to run; done before */
    uint64_t tokens;
} calibration;

/* By the name's ending; a folder holds JSONL rows. */
static bool is_rows(const char *path)
{
    return bise_ends_with(path, ".jsonl") || bise_ends_with(path, ".json") ||
           bise_ends_with(path, ".jsonl.gz") ||
           bise_ends_with(path, ".jsonl.zst") || bise_is_dir(path);
}

/* Ids of all texts one after another; chunks are cut from them. */
static bise_status read_texts(calibration *k, const char *const *files, int n,
                              bise_error *err)
{
    bise_status s = BISE_OK;
    for (int i = 0; i < n && s == BISE_OK; i++) {
        bise_str text = { 0 };
        s = bise_file_read(&text, files[i], err);
        if (s == BISE_OK)
            s = bise_tokenizer_encode(k->model.tok, bise_str_get(&text),
                                      text.len,
                                      bise_tokenizer_bos(k->model.tok) >= 0
                                          ? BISE_TOK_BOS : 0, &k->ids, err);
        bise_str_fini(&text);
        if (s != BISE_OK)
            s = bise_error_in(err, files[i], NULL);
    }
    if (s == BISE_OK && k->ids.n < (size_t)k->T) {
        s = bise_fail(err, BISE_EINVAL, "the data has %zu tokens, a chunk "
                      "needs %d", k->ids.n, (int)k->T);
        s = bise_error_hint(err, "give more text or a smaller --ctx");
    }
    k->chunks = k->ids.n / (size_t)k->T;
    return s;
}

/* Rows rendered as conversations and packed into chunks. */
static bise_status read_rows(calibration *k, const char *const *files, int n,
                             bise_error *err)
{
    const bise_chat *chat = NULL;
    double empty = 0;
    bise_status s = bise_chat_for(&chat, k->model.tok, NULL, err);
    const bise_dataset_options o = {
        .files = files, .n_files = n, .tokenizer = k->model.tok, .chat = chat,
        .train_on = BISE_TRAIN_ALL, .max_len = k->T + 1,
        .too_long = BISE_TOO_LONG_CUT, .pool = k->ctx->pool,
        .progress = k->ctx->progress,
    };
    if (s == BISE_OK)
        s = bise_dataset_open(&k->data, &o, err);
    const bise_pack_options p = { .max_tokens = k->T, .packing = true };
    if (s == BISE_OK)
        s = bise_packer_new(&k->packer, k->data, &p, err);
    if (s == BISE_OK)
        s = bise_packer_count(k->packer, 0, &k->chunks, &empty, err);
    return s;
}

/* Run chunk i; *T gets its tokens. Every text chunk starts with BOS. */
static bise_status run_chunk(calibration *k, bise_cursor *at, uint64_t i,
                             int32_t *T, bise_error *err)
{
    if (k->packer) {
        bise_pack p;
        bise_status s = bise_packer_next(k->packer, at, &p, err);
        if (s != BISE_OK)
            return s;
        const bise_batch b = { .ids = p.ids, .seg = p.seg, .T = p.T,
                               .n_seg = p.n_seg };
        *T = p.T;
        return bise_graph_forward(k->graph, &b, err);
    }
    int32_t *ids = k->ids.v + i * (uint64_t)k->T;
    const int32_t seg[2] = { 0, k->T }, bos = bise_tokenizer_bos(k->model.tok);
    if (bos >= 0)
        ids[0] = bos;
    const bise_batch b = { .ids = ids, .seg = seg, .T = k->T, .n_seg = 1 };
    *T = k->T;
    return bise_graph_forward(k->graph, &b, err);
}

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
    m.chunk_size = (uint32_t)k->T;
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
    if (k->before.chunk_size != (uint32_t)k->T) {
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
    bise_cursor at = { 0 };
    bise_status s = BISE_OK;
    for (uint64_t i = 0; k->packer && i < k->first && s == BISE_OK; i++) {
        bise_pack p;
        s = bise_packer_next(k->packer, &at, &p, err);
    }
    for (uint64_t i = k->first; i < k->chunks && s == BISE_OK; i++) {
        int32_t T = 0;
        bise_collector_at(k->sums, k->tokens);
        s = run_chunk(k, &at, i, &T, err);
        k->tokens += (uint64_t)T;
        if (s == BISE_OK && every > 0 && (i + 1) % (uint64_t)every == 0)
            s = save(k, i + 1, entries, err);
        if (s == BISE_OK)
            s = bise_progress_step(k->ctx->progress, "calibrate", i + 1,
                                   k->chunks, "chunks", NULL, err);
    }
    return s == BISE_OK ? save(k, k->chunks, entries, err) : s;
}

/* Everything but the graph, so that --plan can stop before memory is taken. */
static bise_status open_all(calibration *k, bise_graph_options *o,
                            bise_error *err)
{
    int n = 0;
    const struct bise_args *a = k->ctx->args;
    const char *const *files = bise_opt_list(a, "data", &n);
    const int64_t most = bise_opt_int(a, "chunks", 0);
    bise_status s = bise_loaded_open(&k->model, k->ctx, bise_arg(a, 0), true,
                                     true, err);
    if (s == BISE_OK)
        s = is_rows(files[0]) ? read_rows(k, files, n, err)
                              : read_texts(k, files, n, err);
    if (most > 0 && k->chunks > (uint64_t)most)
        k->chunks = (uint64_t)most;
    if (s == BISE_OK)
        s = resume(k, err);
    if (s == BISE_OK)
        s = bise_collector_new(&k->sums, &k->model.c.config, k->ctx->pool,
                               err);
    *o = (bise_graph_options){
        .max_tokens = k->T, .max_seq = k->T, .loras = k->model.list,
        .n_loras = k->model.n, .pool = k->ctx->pool,
        .tap = bise_collector_tap, .tap_ctx = k->sums,
    };
    return s;
}

/* --resume and --force both accept an existing output: the one reads it
 * first, the other replaces it. */
static bise_status check_options(calibration *k, bise_error *err)
{
    int n = 0;
    const struct bise_args *a = k->ctx->args;
    (void)bise_opt_list(a, "data", &n);
    k->T = (int32_t)bise_opt_int(a, "ctx", 512);
    k->out = bise_opt_str(a, "o", NULL);
    if (n == 0)
        return bise_fail(err, BISE_EINVAL, "--data is missing");
    if (k->T < 16 || k->T > 1 << 20)
        return bise_fail(err, BISE_EINVAL, "--ctx of %d, at least 16", k->T);
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
        bise_result_set(ctx, "chunks", bise_json_new_int((int64_t)k.chunks));
        bise_result_set(ctx, "tensors", bise_json_new_int((int64_t)entries));
        if (plan) {
            bise_result_set(ctx, "memory_bytes",
                            bise_json_new_int((int64_t)memory));
            bise_print(ctx, "%" PRIu64 " chunks of %d tokens, %s of memory "
                       "beside the weights\n", k.chunks, (int)k.T,
                       bise_format_bytes(text, memory));
        } else {
            bise_print(ctx, "%s  %zu tensors, %" PRIu64 " chunks of %d "
                       "tokens\n", k.out, entries, k.chunks, (int)k.T);
        }
    }
    bise_graph_free(k.graph);
    bise_collector_free(k.sums);
    bise_packer_free(k.packer);
    bise_dataset_close(k.data);
    bise_imatrix_fini(&k.before);
    bise_ids_fini(&k.ids);
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
