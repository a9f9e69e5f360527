/* logits_tool.c - logits of a model for judges:
 *   logits_tool MODEL forward|decode [ADAPTER] < IDS > LOGITS
 * IDS are int32, LOGITS [T, V] float32. decode feeds the cache: seven tokens,
 * then one by one, and prints the same rows by another way.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "model/graph.h"

#define MOST 4096

static int32_t ids[MOST], rows[MOST];

/* All rows of one forward pass. */
static bise_status forward(bise_graph *g, int32_t T, float *z, bise_error *err)
{
    const int32_t seg[2] = { 0, T };
    const bise_batch b = { .ids = ids, .seg = seg, .T = T, .n_seg = 1 };
    for (int32_t t = 0; t < T; t++)
        rows[t] = t;
    const bise_status s = bise_graph_forward(g, &b, err);
    return s == BISE_OK ? bise_graph_logits(g, rows, T, z, err) : s;
}

/* Rows of a part are those of a forward up to its end: only the last is
 * printed by the cache, so parts of one token give every row but the first
 * six, which stay zero. */
static bise_status decode(bise_graph *g, int32_t T, float *z, size_t V,
                          bise_error *err)
{
    bise_cache *c = NULL;
    bise_status s = bise_cache_new(&c, g, T, err);
    int32_t done = T < 7 ? T : 7;
    if (s == BISE_OK)
        s = bise_graph_decode(g, c, ids, done, z + (size_t)(done - 1) * V,
                              err);
    for (; s == BISE_OK && done < T; done++)
        s = bise_graph_decode(g, c, ids + done, 1, z + (size_t)done * V, err);
    bise_cache_free(c);
    return s;
}

int main(int argc, char **argv)
{
    bise_error err;
    bise_checkpoint c = { 0 };
    bise_graph *g = NULL;
    bise_error_init(&err);
    if (argc < 3 || argc > 4)
        return 2;
    bise_lora lora = { 0 }, *loras[1] = { &lora };
    const int32_t T = (int32_t)fread(ids, sizeof *ids, MOST, stdin);
    bise_status s = bise_checkpoint_open(&c, argv[1], NULL, &err);
    if (s == BISE_OK && argc == 4)
        s = bise_lora_load(&lora, argv[3], &c, &err);
    const bise_graph_options o = { .max_tokens = T, .loras = loras,
                                   .n_loras = argc - 3 };
    if (s == BISE_OK)
        s = bise_graph_new(&g, &c, &o, &err);
    const size_t V = (size_t)c.config.V;
    float *z = s == BISE_OK ? bise_alloc_array((size_t)T * V, sizeof *z) : NULL;
    if (z)
        s = strcmp(argv[2], "decode") ? forward(g, T, z, &err)
                                      : decode(g, T, z, V, &err);
    if (s == BISE_OK && z)
        fwrite(z, sizeof *z, (size_t)T * V, stdout);
    if (s != BISE_OK)
        fprintf(stderr, "logits_tool: %s\n", err.text);
    bise_free(z);
    bise_graph_free(g);
    bise_lora_fini(&lora);
    bise_checkpoint_close(&c);
    return s == BISE_OK ? 0 : 1;
}
