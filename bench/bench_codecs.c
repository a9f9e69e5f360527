/* bench_codecs.c - speed of every block codec of every CPU level on one core:
 * encode without and with importance, decode, over 128 x 4096 normal weights
 * with a fixed seed; "copy" is memcpy of the same floats. Prints
 * area,case,isa,threads,min_ns,median_ns,GB_s with the times of one pass and
 * the gigabytes of float32 a second at the minimum.
 *
 * usage: bench_codecs [TYPE...]
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/clock.h"
#include "core/cpu.h"
#include "core/rng.h"
#include "kernels/codec.h"

enum { ROWS = 128, COLS = 4096, N = ROWS * COLS, RUNS = 7 };

/* The buffers of a run. */
typedef struct job {
    const bise_codec *codec;
    float *x, *q, *back;
    uint8_t *bytes;
} job;

static void run_encode(const job *j)
{
    j->codec->encode(j->bytes, j->x, ROWS, COLS, NULL);
}

static void run_encode_weighted(const job *j)
{
    j->codec->encode(j->bytes, j->x, ROWS, COLS, j->q);
}

static void run_decode(const job *j)
{
    j->codec->decode(j->back, j->bytes, N);
}

static void run_copy(const job *j)
{
    memcpy(j->back, j->x, N * sizeof *j->x);
}

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Time one function: a warm-up, then RUNS passes. */
static void measure(const char *what, const char *type, const char *isa,
                    void (*run)(const job *), const job *j)
{
    uint64_t ns[RUNS];
    run(j);
    for (int i = 0; i < RUNS; i++) {
        const uint64_t start = bise_clock_ns();
        run(j);
        ns[i] = bise_clock_ns() - start;
    }
    qsort(ns, RUNS, sizeof ns[0], ascending);
    printf("codecs,%s%s%s,%s,1,%llu,%llu,%.2f\n", what, type[0] ? "_" : "",
           type, isa, (unsigned long long)ns[0],
           (unsigned long long)ns[RUNS / 2], 4.0 * N / (double)ns[0]);
    fflush(stdout);
}

static int wanted(const char *type, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcasecmp(type, argv[i]) == 0)
            return 1;
    return argc < 2;
}

int main(int argc, char **argv)
{
    bise_codec table[BISE_DTYPE_COUNT];
    job j = { .x = malloc(N * sizeof(float)), .q = malloc(COLS * 4),
              .back = malloc(N * sizeof(float)), .bytes = malloc(N * 4) };
    for (size_t i = 0; i < N; i++) {
        const float u = bise_rng_f32(1, 0, i), v = bise_rng_f32(1, 1, i);
        j.x[i] = 0.02f * sqrtf(-2 * logf(1 - u)) * cosf(6.2831853f * v);
    }
    for (size_t i = 0; i < COLS; i++)
        j.q[i] = 4 * bise_rng_f32(1, 2, i) + 0.01f;
    printf("# %s, compiler %s\n", bise_cpu_model(), __VERSION__);
    printf("area,case,isa,threads,min_ns,median_ns,GB_s\n");
    measure("copy", "", "any", run_copy, &j);
    for (int t = 0; t < BISE_DTYPE_COUNT; t++) {
        const char *type = bise_dtype_get((bise_dtype)t)->name;
        if (!wanted(type, argc, argv))
            continue;
        for (int l = 0; l <= (int)bise_cpu_level(); l++) {
            const char *isa = bise_cpu_name((bise_cpu)l);
            bise_codecs_init(table, (bise_cpu)l);
            j.codec = &table[t];
            if (j.codec->encode) {
                measure("encode", type, isa, run_encode, &j);
                measure("encode_imatrix", type, isa, run_encode_weighted, &j);
            }
            if (j.codec->decode)
                measure("decode", type, isa, run_decode, &j);
        }
    }
    return 0;
}
