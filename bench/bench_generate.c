/* bench_generate.c - tokens per second of a prompt and of generation for any
 * MODEL: bench_generate MODEL [threads] [prompt tokens] [bf16]. Prints CSV as
 * style.md 12 asks: minima of several runs, CPU time beside wall time, because
 * wall time means little on a machine that others use. */

/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/mem.h"
#include "model/graph.h"

#define RUNS 7

/* CPU time of all threads of this process. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

typedef struct timing {
    uint64_t wall, cpu, median; /* ns; least wall, least CPU */
} timing;

static int ascending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Feed n tokens RUNS times, each time after the first past tokens. */
static bise_status measure(timing *t, bise_graph *g, bise_cache *c,
                           const int32_t *ids, int32_t past, int32_t n,
                           float *logits, bise_error *err)
{
    uint64_t walls[RUNS];
    *t = (timing){ .wall = UINT64_MAX, .cpu = UINT64_MAX };
    for (int i = 0; i < RUNS; i++) {
        bise_cache_cut(c, past);
        const uint64_t w = bise_clock_ns(), p = cpu_ns();
        const bise_status s = bise_graph_decode(g, c, ids, n, logits, err);
        if (s != BISE_OK)
            return s;
        const uint64_t cpu = cpu_ns() - p;
        walls[i] = bise_clock_ns() - w;
        t->cpu = cpu < t->cpu ? cpu : t->cpu;
    }
    qsort(walls, RUNS, sizeof *walls, ascending);
    t->wall = walls[0];
    t->median = walls[RUNS / 2];
    return BISE_OK;
}

static void print_row(const char *what, int threads, int32_t n, timing t)
{
    printf("generate,%s,%s,%d,%llu,%llu,%.2f,%.2f\n", what,
           bise_cpu_name(bise_cpu_level()), threads,
           (unsigned long long)t.wall, (unsigned long long)t.median,
           n * 1e9 / (double)t.wall, n * 1e9 / (double)t.cpu);
}

int main(int argc, char **argv)
{
    bise_error err;
    bise_checkpoint ck;
    bise_pool *pool = NULL;
    bise_graph *g = NULL;
    bise_cache *cache = NULL;
    timing prompt, token;
    const int threads = argc > 2 ? atoi(argv[2]) : bise_cpu_cores();
    const int32_t n = argc > 3 ? atoi(argv[3]) : 256;
    bise_error_init(&err);
    if (argc < 2 || n < 1 || n > 4096)
        return 2;
    if (bise_checkpoint_open(&ck, argv[1], NULL, &err) != BISE_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const int32_t V = ck.config.V;
    int32_t *ids = bise_alloc_array((size_t)n, sizeof *ids);
    float *logits = bise_alloc_array((size_t)V, sizeof *logits);
    for (int32_t i = 0; ids && i < n; i++)
        ids[i] = 3 + i * 7 % (V - 3);
    bise_status s = bise_pool_new(&pool, threads, &err);
    const bise_graph_options o = {
        .max_tokens = n, .max_seq = n + 1, .pool = pool,
        .compute = argc > 4 && strcmp(argv[4], "bf16") == 0 ?
                       BISE_COMPUTE_BF16 : BISE_COMPUTE_F32,
    };
    if (s == BISE_OK)
        s = bise_graph_new(&g, &ck, &o, &err);
    if (s == BISE_OK)
        s = bise_cache_new(&cache, g, n + 1, &err);
    /* The last prompt run leaves n tokens, after which one is timed. */
    if (s == BISE_OK && ids && logits)
        s = measure(&prompt, g, cache, ids, 0, n, logits, &err);
    if (s == BISE_OK)
        s = measure(&token, g, cache, ids, n, 1, logits, &err);
    if (s == BISE_OK) {
        printf("# %s\narea,case,isa,threads,min_ns,median_ns,tokens_per_s,"
               "tokens_per_cpu_s\n", bise_cpu_model());
        print_row("prompt", threads, n, prompt);
        print_row("token", threads, 1, token);
    } else {
        fprintf(stderr, "%s\n", err.text);
    }
    bise_cache_free(cache);
    bise_graph_free(g);
    bise_pool_free(pool);
    bise_free(ids);
    bise_free(logits);
    bise_checkpoint_close(&ck);
    return s == BISE_OK ? 0 : 1;
}
