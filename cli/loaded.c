/* loaded.c - open a model with adapters and tokenizer for running.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/loaded.h"

#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/mem.h"

/* The adapters of --adapter, each checked against the base. */
static bise_status open_adapters(bise_loaded *m, bise_context *ctx,
                                 bise_error *err)
{
    int n = 0;
    const char *const *paths = bise_opt_list(ctx->args, "adapter", &n);
    if (n == 0)
        return BISE_OK;
    m->loras = bise_alloc_array((size_t)n, sizeof *m->loras);
    m->list = bise_alloc_array((size_t)n, sizeof *m->list);
    if (!m->loras || !m->list)
        return bise_fail_nomem(err);
    for (int i = 0; i < n; i++) {
        const bise_status s = bise_lora_load(&m->loras[i], paths[i], &m->c,
                                             err);
        if (s != BISE_OK)
            return s;
        /* Counted one by one, so that closing frees what was opened. */
        m->list[m->n++] = &m->loras[i];
    }
    return BISE_OK;
}

/* Does the file at path start like a tokenizer: JSON, protobuf? A safetensors
 * file starts with a length, a GGUF or an archive with its own magic. */
static bool is_tokenizer_file(const char *path)
{
    FILE *f = bise_is_dir(path) ? NULL : fopen(path, "rb");
    const int first = f ? fgetc(f) : EOF;
    if (f)
        fclose(f);
    return first == '{' || first == '\n' || first == ' ';
}

/* A broken tokenizer file is told as one: its error names the field. */
bise_status bise_loaded_tokenizer(bise_tokenizer **out, bise_store **store,
                                  bise_context *ctx, const char *path,
                                  bise_error *err)
{
    *store = NULL;
    if (is_tokenizer_file(path))
        return bise_tokenizer_load(out, path, err);
    const bise_status s = bise_store_open(store, path, err);
    return s == BISE_OK ? bise_tokenizer_open(out, *store, ctx->progress, err)
                        : s;
}

/* Tokenizer before adapters: its faults are the cheaper ones to find. */
bise_status bise_loaded_open(bise_loaded *m, bise_context *ctx,
                             const char *path, bool adapters, bool tokenizer,
                             bise_error *err)
{
    memset(m, 0, sizeof *m);
    bise_status s = bise_checkpoint_open(&m->c, path, ctx->progress, err);
    if (s == BISE_OK && tokenizer)
        s = bise_tokenizer_open(&m->tok, m->c.store, ctx->progress, err);
    if (s == BISE_OK && tokenizer)
        s = bise_tokenizer_fits(m->tok, m->c.config.V, err);
    if (s == BISE_OK && adapters)
        s = open_adapters(m, ctx, err);
    return s;
}

/* Zeroed objects close as well as opened ones. */
void bise_loaded_close(bise_loaded *m)
{
    for (int32_t i = 0; i < m->n; i++)
        bise_lora_fini(&m->loras[i]);
    bise_free(m->loras);
    bise_free(m->list);
    bise_tokenizer_free(m->tok);
    bise_checkpoint_close(&m->c);
    memset(m, 0, sizeof *m);
}

/* No gradients, no dropout: forward only. */
static bise_graph_options graph_options(const bise_loaded *m,
                                        bise_context *ctx, int32_t max_tokens,
                                        int32_t max_seq)
{
    const char *compute = bise_opt_str(ctx->args, "compute", "f32");
    return (bise_graph_options){
        .max_tokens = max_tokens, .max_seq = max_seq, .loras = m->list,
        .n_loras = m->n, .pool = ctx->pool,
        .round_inputs = strcmp(bise_opt_str(ctx->args, "activations", "f32"),
                               "q8") == 0,
        .compute = strcmp(compute, "bf16") == 0 ? BISE_COMPUTE_BF16 :
                                                  BISE_COMPUTE_F32,
    };
}

bise_status bise_loaded_graph(bise_graph **g, const bise_loaded *m,
                              bise_context *ctx, int32_t max_tokens,
                              int32_t max_seq, bise_error *err)
{
    const bise_graph_options o = graph_options(m, ctx, max_tokens, max_seq);
    return bise_graph_new(g, &m->c, &o, err);
}

bise_status bise_loaded_plan(uint64_t *bytes, const bise_loaded *m,
                             bise_context *ctx, int32_t max_tokens,
                             int32_t max_seq, bise_error *err)
{
    const bise_graph_options o = graph_options(m, ctx, max_tokens, max_seq);
    return bise_graph_plan(bytes, &m->c, &o, err);
}

uint64_t bise_loaded_weight_bytes(const bise_loaded *m)
{
    uint64_t bytes = 0;
    /* Opaque tensors (vision) are never read by the graph. */
    for (size_t i = 0; i < m->c.n; i++)
        if (m->c.weights[i].role.kind != BISE_ROLE_OPAQUE)
            bytes += m->c.weights[i].tensor->bytes;
    return bytes;
}
