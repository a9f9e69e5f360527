/* bench_train.c - tokens per second of forward + backward with LoRA on all
 * linear layers, every token supervised, on any checkpoint.
 *   bench_train MODEL [tokens [bf16|f32 [threads [rank [samples [base]]]]]]
 * base is the type of a quantized copy of the layers (nf4, q4_k, ...).
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/cpu.h"
#include "core/mem.h"
#include "core/rng.h"
#include "model/basequant.h"
#include "model/graph.h"

#define RUNS 4

/* Report an error and stop. */
static int failed(const bise_error *err)
{
    fprintf(stderr, "bench_train: %s [%s] %s\n", err->text, err->path,
            err->hint);
    return 1;
}

/* Where the time of all runs went: a CSV line for each part of a step. */
static void print_parts(const double *seconds, const char *name, int32_t T)
{
    static const char *const parts[BISE_STEP_PARTS] = {
        "frozen products", "adapters", "attention", "row operations", "loss",
    };
    double sum = 0;
    for (int i = 0; i < BISE_STEP_PARTS; i++)
        sum += seconds[i];
    for (int i = 0; i < BISE_STEP_PARTS; i++)
        printf("part,%s-T%d,%s,%.3f s a step,%.1f %%\n", name, T, parts[i],
               seconds[i] / RUNS, 100 * seconds[i] / sum);
}

/* Time RUNS steps of T tokens in equal samples; prints a CSV line each. */
static int bench(const bise_checkpoint *c, bise_graph_options *o, int32_t T,
                 int32_t samples, const char *name)
{
    bise_error err;
    bise_error_init(&err);
    bise_graph *g = NULL;
    if (bise_graph_new(&g, c, o, &err) != BISE_OK)
        return failed(&err);
    int32_t *ids = bise_alloc_array((size_t)T, sizeof *ids);
    int32_t *targets = bise_alloc_array((size_t)T, sizeof *targets);
    int32_t *seg = bise_alloc_array((size_t)samples + 1, sizeof *seg);
    for (int32_t t = 0; t < T; t++) {
        ids[t] = (int32_t)bise_rng_below(1, 1, (uint64_t)t,
                                         (uint64_t)c->config.V);
        targets[t] = (int32_t)bise_rng_below(1, 2, (uint64_t)t,
                                             (uint64_t)c->config.V);
    }
    for (int32_t s = 0; s <= samples; s++)
        seg[s] = (int32_t)((int64_t)T * s / samples);
    const bise_batch b = { .ids = ids, .seg = seg, .T = T, .n_seg = samples,
                           .targets = targets };
    int bad = 0;
    for (int run = 0; run < RUNS && !bad; run++) {
        double sum = 0;
        const uint64_t start = bise_clock_ns();
        bad = bise_graph_train(g, &b, &sum, &err) != BISE_OK;
        const double s = (double)(bise_clock_ns() - start) * 1e-9;
        uint64_t anon;
        const uint64_t rss = bise_rss_bytes(&anon);
        printf("train,%s-T%d,%s,%d,%.3f,%.1f,%.6f,%llu,%llu\n", name, T,
               bise_cpu_name(bise_cpu_level()), bise_pool_threads(o->pool), s,
               T / s, sum / T, (unsigned long long)rss / 1000000,
               (unsigned long long)anon / 1000000);
        fflush(stdout);
    }
    print_parts(bise_graph_seconds(g), name, T);
    bise_graph_free(g);
    bise_free(ids);
    bise_free(targets);
    bise_free(seg);
    return bad ? failed(&err) : 0;
}

/* A type's name; ends the program when there is none of it. */
static bise_dtype base_type(const char *name)
{
    const bise_dtype t = bise_dtype_by_name(name);
    if (t == BISE_DTYPE_NONE) {
        fprintf(stderr, "bench_train: no type '%s'\n", name);
        exit(2);
    }
    return t;
}

/* Arguments by position; see the top of the file. */
int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    const int32_t T = argc > 2 ? atoi(argv[2]) : 512;
    const char *name = argc > 3 ? argv[3] : "bf16";
    const int threads = argc > 4 ? atoi(argv[4]) : bise_cpu_cores();
    bise_error err;
    bise_error_init(&err);
    bise_checkpoint c = { 0 };
    bise_lora l = { 0 };
    bise_pool *pool = NULL;
    const bise_lora_options lo = { .r = argc > 5 ? atoi(argv[5]) : 16,
                                   .alpha = 32, .target = "all-linear" };
    if (bise_checkpoint_open(&c, argv[1], NULL, &err) != BISE_OK ||
        bise_lora_new(&l, &c.config, &lo, true, &err) != BISE_OK ||
        bise_pool_new(&pool, threads, &err) != BISE_OK)
        return failed(&err);
    bise_basequant *base = NULL;
    if (argc > 7 &&
        bise_basequant_new(&base, &c, base_type(argv[7]), pool, NULL,
                           &err) != BISE_OK)
        return failed(&err);
    bise_lora *loras[] = { &l };
    bise_graph_options o = {
        .max_tokens = T, .train = true, .checkpointing = BISE_CKPT_OFF,
        .compute = strcmp(name, "f32") == 0 ? BISE_COMPUTE_F32 :
                                              BISE_COMPUTE_BF16,
        .loras = loras, .n_loras = 1, .pool = pool,
    };
    printf("# area,case,isa,threads,seconds,tokens_s,loss,rss_MB,anon_MB\n");
    const int code = bench(&c, &o, T, argc > 6 ? atoi(argv[6]) : 1, name);
    bise_pool_free(pool);
    bise_lora_fini(&l);
    bise_basequant_free(base);
    bise_checkpoint_close(&c);
    return code;
}
