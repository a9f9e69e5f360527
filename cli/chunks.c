/* chunks.c - see chunks.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/chunks.h"

#include "core/file.h"
#include "core/str.h"
#include "text/chat.h"

/* By the name's ending; a folder holds JSONL rows. */
static bool is_rows(const char *path)
{
    return bise_ends_with(path, ".jsonl") || bise_ends_with(path, ".json") ||
           bise_ends_with(path, ".jsonl.gz") ||
           bise_ends_with(path, ".jsonl.zst") || bise_is_dir(path);
}

/* Ids of all texts one after another; chunks are cut from them. */
static bise_status read_texts(bise_chunks *k, const char *const *files, int n,
                              bise_error *err)
{
    bise_status s = BISE_OK;
    for (int i = 0; i < n && s == BISE_OK; i++) {
        bise_str text = { 0 };
        s = bise_file_read(&text, files[i], err);
        if (s == BISE_OK)
            s = bise_tokenizer_encode(k->tok, bise_str_get(&text), text.len,
                                      bise_tokenizer_bos(k->tok) >= 0
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
    k->n = k->ids.n / (size_t)k->T;
    return s;
}

/* Rows rendered as conversations and packed into chunks. */
static bise_status read_rows(bise_chunks *k, bise_context *ctx,
                             const char *const *files, int n, bise_error *err)
{
    const bise_chat *chat = NULL;
    double empty = 0;
    bise_status s = bise_chat_for(&chat, k->tok, NULL, err);
    const bise_dataset_options o = {
        .files = files, .n_files = n, .tokenizer = k->tok, .chat = chat,
        .train_on = BISE_TRAIN_ALL, .max_len = k->T + 1,
        .too_long = BISE_TOO_LONG_CUT, .pool = ctx->pool,
        .progress = ctx->progress,
    };
    if (s == BISE_OK)
        s = bise_dataset_open(&k->data, &o, err);
    const bise_pack_options p = { .max_tokens = k->T, .packing = true };
    if (s == BISE_OK)
        s = bise_packer_new(&k->packer, k->data, &p, err);
    if (s == BISE_OK)
        s = bise_packer_count(k->packer, 0, &k->n, &empty, err);
    return s;
}

/* Nothing is read yet. */
bise_status bise_chunks_options(bise_chunks *k, const bise_context *ctx,
                                bise_error *err)
{
    int n = 0;
    (void)bise_opt_list(ctx->args, "data", &n);
    k->T = (int32_t)bise_opt_int(ctx->args, "ctx", 512);
    if (n == 0)
        return bise_fail(err, BISE_EINVAL, "--data is missing");
    if (k->T < 16 || k->T > 1 << 20)
        return bise_fail(err, BISE_EINVAL, "--ctx of %d, at least 16", k->T);
    return BISE_OK;
}

/* The first file tells which kind all are. */
bise_status bise_chunks_open(bise_chunks *k, bise_context *ctx,
                             const bise_tokenizer *tok, bise_error *err)
{
    int n = 0;
    const char *const *files = bise_opt_list(ctx->args, "data", &n);
    const int64_t most = bise_opt_int(ctx->args, "chunks", 0);
    k->tok = tok;
    const bise_status s = is_rows(files[0]) ? read_rows(k, ctx, files, n, err)
                                            : read_texts(k, files, n, err);
    if (most > 0 && k->n > (uint64_t)most)
        k->n = (uint64_t)most;
    return s;
}

/* A zeroed one is fine. */
void bise_chunks_close(bise_chunks *k)
{
    bise_packer_free(k->packer);
    bise_dataset_close(k->data);
    bise_ids_fini(&k->ids);
}

/* Every text chunk starts with BOS. */
bise_status bise_chunks_next(bise_chunks *k, bise_batch *b, bise_error *err)
{
    const uint64_t i = k->next++;
    if (k->packer) {
        bise_pack p;
        const bise_status s = bise_packer_next(k->packer, &k->at, &p, err);
        if (s == BISE_OK)
            *b = (bise_batch){ .ids = p.ids, .seg = p.seg, .T = p.T,
                               .n_seg = p.n_seg };
        return s;
    }
    int32_t *ids = k->ids.v + i * (uint64_t)k->T;
    const int32_t bos = bise_tokenizer_bos(k->tok);
    if (bos >= 0)
        ids[0] = bos;
    k->seg[1] = k->T;
    *b = (bise_batch){ .ids = ids, .seg = k->seg, .T = k->T, .n_seg = 1 };
    return BISE_OK;
}

/* Packs are made in order; texts are there already. */
bise_status bise_chunks_skip(bise_chunks *k, uint64_t i, bise_error *err)
{
    bise_status s = BISE_OK;
    while (k->packer && k->next < i && s == BISE_OK) {
        bise_batch b;
        s = bise_chunks_next(k, &b, err);
    }
    k->next = i;
    return s;
}
