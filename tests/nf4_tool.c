/* nf4_tool.c - quantize a file of float32 weights to NF4 with and without the
 * second quantization, for comparison with bitsandbytes (oracle_nf4.py):
 *   nf4_tool IN.f32 N OUT
 * OUT: codes [(n+1)/2] | absmax f32 | absmax codes | nested f32 | offset f32 |
 * decoded from plain absmax [n] f32 | decoded from nested absmax [n] f32.
 * BISE_CPU chooses the instruction set.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/mem.h"
#include "kernels/dynmap.h"
#include "kernels/nf4.h"

/* Write an array or end the program. */
static void put(FILE *f, const void *p, size_t size)
{
    if (fwrite(p, 1, size, f) != size) {
        fprintf(stderr, "nf4_tool: cannot write\n");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    FILE *in = argc == 4 ? fopen(argv[1], "rb") : NULL;
    FILE *f = in ? fopen(argv[3], "wb") : NULL;
    const size_t n = f ? strtoul(argv[2], NULL, 10) : 0;
    const size_t blocks = (size_t)bise_nf4_blocks(n, BISE_NF4_BLOCK);
    const size_t nests = (blocks + BISE_NF4_NESTED - 1) / BISE_NF4_NESTED;
    float *x = bise_alloc_array(n + 1, sizeof *x);
    float *absmax = bise_alloc_array(blocks + 1, sizeof *absmax);
    float *nested = bise_alloc_array(nests + 1, sizeof *nested);
    uint8_t *codes = bise_alloc(n / 2 + 1), *codes8 = bise_alloc(blocks + 1);
    bise_dynmap map;
    if (!n || !x || fread(x, sizeof *x, n, in) != n) {
        fprintf(stderr, "usage: nf4_tool IN.f32 N OUT\n");
        return 2;
    }
    if (bise_nf4_encode(codes, absmax, x, n) != blocks)
        return 1;
    put(f, codes, (n + 1) / 2);
    put(f, absmax, blocks * sizeof *absmax);
    bise_nf4 q = { .n = n, .block = BISE_NF4_BLOCK, .codes = codes,
                   .nested_block = BISE_NF4_NESTED, .map = bise_nf4_map,
                   .absmax = absmax, .nested_map = map.value };
    bise_nf4_decode(&q, 0, n, x);
    float *plain = bise_alloc_array(n, sizeof *plain);
    for (size_t i = 0; i < n; i++)
        plain[i] = x[i];
    bise_dynmap_init(&map, true);
    q.offset = bise_nf4_nest(codes8, nested, absmax, blocks, &map);
    q.absmax = nested;
    q.absmax8 = codes8;
    put(f, codes8, blocks);
    put(f, nested, nests * sizeof *nested);
    put(f, &q.offset, sizeof q.offset);
    put(f, plain, n * sizeof *plain);
    bise_nf4_decode(&q, 0, n, x);
    put(f, x, n * sizeof *x);
    bise_free(plain);
    bise_free(x);
    bise_free(absmax);
    bise_free(nested);
    bise_free(codes);
    bise_free(codes8);
    fclose(in);
    return fclose(f) != 0;
}
