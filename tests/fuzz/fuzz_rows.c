/* fuzz_rows.c - any bytes as a data file: rows lie inside the buffer and in
 * order, every row is good or has a reason, the samples of a good one have
 * ids of the vocabulary, and nothing depends on how the bytes were cut. Odd
 * sizes are read in an older chat format, which writes ids of calls.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "text/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct seen {
    uint64_t line, offset;
    size_t size;
    int32_t vocab;
} seen;

static bise_status check_row(void *ctx, const bise_scan_row *row,
                             bise_error *err)
{
    seen *s = ctx;
    (void)err;
    if (row->raw->line < s->line || row->raw->offset < s->offset ||
        row->raw->offset + row->raw->n > s->size)
        abort();
    s->line = row->raw->line;
    s->offset = row->raw->offset;
    if (row->reason ? row->n != 0 || !row->reason[0] : row->n == 0)
        abort();
    for (size_t i = 0; i < row->n; i++) {
        const bise_row r = bise_scan_sample(row, i);
        for (int32_t k = 0; k < r.n; k++)
            if (r.ids[k] < 0 || r.ids[k] >= s->vocab || r.mask[k] > 1)
                abort();
        if (bise_row_supervised(&r) >= r.n && r.n)
            abort();
    }
    return BISE_OK;
}

/* The example tokenizer, loaded once for the whole run. */
static const bise_tokenizer *tokenizer(bise_error *err)
{
    static bise_tokenizer *t;
    if (!t && bise_tokenizer_load(
                  &t, BISE_SRCDIR "/examples/tiny-mistral3/tekken.json",
                  err) != BISE_OK)
        abort();
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bise_error err;
    bise_inflate *in = NULL;
    bise_dataset_options o = { .max_len = 0 };
    bise_error_init(&err);
    o.tokenizer = tokenizer(&err);
    seen s = { .size = size, .vocab = bise_tokenizer_vocab(o.tokenizer) };
    if (bise_chat_for(&o.chat, o.tokenizer, size % 2 ? "v3-tekken" : NULL,
                      &err) != BISE_OK ||
        bise_inflate_memory(&in, data, size, &err) != BISE_OK ||
        bise_scan_stream_take(in, "fuzz", &o, check_row, &s, &err) != BISE_OK)
        abort();
    return 0;
}
