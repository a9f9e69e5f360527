/* codec_tool.c - encode or decode raw rows with one codec, for comparison with
 * other implementations (tests/oracle_codecs.py) and by hand:
 *   codec_tool encode TYPE ROWS COLS IN.f32 OUT [IMATRIX.f32]
 *   codec_tool decode TYPE ROWS COLS IN OUT.f32
 *   codec_tool bench TYPE ROWS COLS IN.f32 RUNS [IMATRIX.f32]
 * bench prints the least CPU nanoseconds a weight of RUNS encodings.
 * BISE_CPU chooses the instruction set.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/codec.h"

/* CPU time of the process: other work on the machine counts less. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Read exactly size bytes of a file; ends the program when it has fewer. */
static void *slurp(const char *path, size_t size)
{
    FILE *f = fopen(path, "rb");
    void *data = malloc(size);
    if (!f || !data || fread(data, 1, size, f) != size) {
        fprintf(stderr, "codec_tool: no %zu bytes in '%s'\n", size, path);
        exit(1);
    }
    fclose(f);
    return data;
}

static void spill(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) {
        fprintf(stderr, "codec_tool: cannot write '%s'\n", path);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const bise_dtype t = argc < 7 ? BISE_DTYPE_NONE :
                                    bise_dtype_by_name(argv[2]);
    if (t == BISE_DTYPE_NONE) {
        fprintf(stderr, "usage: codec_tool encode|decode|bench TYPE ROWS COLS "
                        "IN OUT|RUNS [IMATRIX]\n");
        return 2;
    }
    const bise_codec *c = bise_codec_get(t);
    const size_t rows = strtoul(argv[3], NULL, 10);
    const size_t cols = strtoul(argv[4], NULL, 10), n = rows * cols;
    const size_t bytes = (size_t)bise_dtype_bytes(t, n);
    const bool decode = strcmp(argv[1], "decode") == 0;
    if (decode ? !c->decode : !c->encode) {
        fprintf(stderr, "codec_tool: bise does not %s %s\n",
                decode ? "read" : "write", argv[2]);
        return 1;
    }
    if (decode) {
        float *y = malloc(n * sizeof *y);
        void *blocks = slurp(argv[5], bytes);
        c->decode(y, blocks, n);
        spill(argv[6], y, n * sizeof *y);
        free(blocks);
        free(y);
        return 0;
    }
    float *x = slurp(argv[5], n * sizeof *x);
    float *q = argc > 7 ? slurp(argv[7], cols * sizeof *q) : NULL;
    void *out = malloc(bytes);
    uint64_t best = UINT64_MAX;
    const bool bench = strcmp(argv[1], "bench") == 0;
    for (long i = bench ? strtol(argv[6], NULL, 10) : 1; i > 0; i--) {
        const uint64_t start = cpu_ns();
        c->encode(out, x, rows, cols, q);
        const uint64_t ns = cpu_ns() - start;
        best = ns < best ? ns : best;
    }
    if (bench)
        printf("%.5f\n", (double)best / (double)n);
    else
        spill(argv[6], out, bytes);
    free(out);
    free(q);
    free(x);
    return 0;
}
