/* bench_panel.c - speed of the panel products beside the machine's limits: one
 * thread, forward and input gradient, by type of the frozen weights.
 *   bench_panel [T [N [K]]]      CSV: area,case,isa,threads,min_ns,GFLOP_s
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/bytes.h"
#include "core/clock.h"
#include "core/mem.h"
#include "core/rng.h"
#include "kernels/codec.h"
#include "kernels/dynmap.h"
#include "kernels/panel.h"
#include "kernels/panel8.h"

#define RUNS 7

/* Least time of RUNS products over all groups. */
static uint64_t fastest(const bise_panel_ops *o, const bise_panel_job *j,
                        void *scratch)
{
    uint64_t best = UINT64_MAX;
    for (int run = 0; run < RUNS; run++) {
        const uint64_t start = bise_clock_ns();
        bise_panel_run(o, j, 0, INT32_MAX, scratch);
        const uint64_t ns = bise_clock_ns() - start;
        best = ns < best ? ns : best;
    }
    return best;
}

/* w as NF4 with double quantization. */
static void make_nf4(bise_nf4 *q, uint8_t *codes, float *absmax,
                     uint8_t *codes8, const float *w, size_t n)
{
    static bise_dynmap map;
    static float nested[1 << 16];
    const uint64_t blocks = bise_nf4_encode(codes, absmax, w, n);
    bise_dynmap_init(&map, true);
    *q = (bise_nf4){
        .n = n, .block = BISE_NF4_BLOCK, .nested_block = BISE_NF4_NESTED,
        .codes = codes, .map = bise_nf4_map, .absmax = nested,
        .absmax8 = codes8, .nested_map = map.value,
        .offset = bise_nf4_nest(codes8, nested, absmax, blocks, &map) };
}

/* One type of weights, both directions, both precisions. */
static void bench(bise_dtype t, int32_t T, int32_t N, int32_t K)
{
    const size_t n = (size_t)N * (size_t)K;
    const int32_t wide = (N > K ? N : K);
    const size_t ldx = (size_t)wide + 32;
    float *w = bise_alloc_array(n, sizeof *w);
    float *x = bise_alloc_array((size_t)T * ldx, sizeof *x);
    uint16_t *x16 = bise_alloc_array((size_t)T * ldx, sizeof *x16);
    float *y = bise_alloc_aligned((size_t)T * ldx * sizeof *y);
    float *tiles = bise_alloc_aligned(bise_panel_tiled(T, wide) *
                                      sizeof *tiles);
    void *stored = bise_alloc_aligned(bise_dtype_bytes(t, n));
    float *absmax = bise_alloc_array(n / BISE_NF4_BLOCK + 1, sizeof *absmax);
    uint8_t *codes8 = bise_alloc(n / BISE_NF4_BLOCK + 1);
    for (size_t i = 0; i < n; i++)
        w[i] = (bise_rng_f32(1, 1, i) - 0.5f) * 0.1f;
    for (size_t i = 0; i < (size_t)T * ldx; i++) {
        x[i] = bise_rng_f32(1, 2, i) - 0.5f;
        x16[i] = bise_f32_to_bf16(x[i]);
    }
    bise_nf4 q;
    if (t == BISE_DTYPE_NF4)
        make_nf4(&q, stored, absmax, codes8, w, n);
    else
        bise_codec_get(t)->encode(stored, w, (size_t)N, (size_t)K, NULL);
    const bise_matrix m = { .nf4 = t == BISE_DTYPE_NF4 ? &q : NULL,
                            .dtype = t, .data = stored, .N = N, .K = K,
                            .row_bytes = bise_dtype_bytes(t, (uint64_t)K) };
    bise_panel_ops o;
    bise_panel_ops_init(&o, bise_cpu_level());
    void *scratch = bise_alloc_aligned(bise_panel_scratch(&o));
    for (int way = 0; way < 4; way++) {
        const bool bf16 = way >= 2;
        bise_panel_tile(&o, tiles, x, ldx, way & 1 ? N : K, 0, T);
        const bise_panel_job j = { .w = &m, .transposed = way & 1,
            .x = bf16 ? NULL : tiles, .x_bf16 = bf16 ? x16 : NULL, .ldx = ldx,
            .y = y, .ldy = ldx, .T = T };
        const uint64_t ns = fastest(&o, &j, scratch);
        printf("panel,%s-%s-%s-T%d,%s,1,%llu,%.1f\n",
               bise_dtype_get(t)->name, bf16 ? "bf16" : "f32",
               way & 1 ? "gradient" : "forward", T,
               bise_cpu_name(bise_cpu_level()), (unsigned long long)ns,
               2.0 * (double)n * T / (double)ns);
        fflush(stdout);
    }
    bise_free_aligned(scratch);
    bise_free_aligned(stored);
    bise_free(absmax);
    bise_free(codes8);
    bise_free(w);
    bise_free(x);
    bise_free(x16);
    bise_free_aligned(tiles);
    bise_free_aligned(y);
}

/* 8-bit products, both directions, with quantizing x in the time. */
static void bench8(int32_t T, int32_t N, int32_t K)
{
    const size_t n = (size_t)N * (size_t)K;
    const size_t ldx = (size_t)(N > K ? N : K) + 64;
    int8_t *w = bise_alloc_aligned(n);
    float *scales = bise_alloc_array((size_t)N, sizeof *scales);
    float *x_scales = bise_alloc_array((size_t)T, sizeof *x_scales);
    uint16_t *x = bise_alloc_array((size_t)T * ldx, sizeof *x);
    uint8_t *x8 = bise_alloc_aligned((size_t)T * ldx);
    float *y = bise_alloc_array((size_t)T * ldx, sizeof *y);
    void *scratch = bise_alloc_aligned(bise_panel8_scratch());
    bise_panel8_ops o;
    bise_panel8_ops_init(&o, bise_cpu_level());
    for (size_t i = 0; i < n; i++)
        w[i] = (int8_t)((int)bise_rng_below(1, 1, i, 255) - 127);
    for (size_t i = 0; i < (size_t)T * ldx; i++)
        x[i] = bise_f32_to_bf16(bise_rng_f32(1, 2, i) - 0.5f);
    for (int32_t i = 0; i < N; i++)
        scales[i] = 1;
    const bise_matrix8 m = { w, scales, N, K, 0 };
    for (int way = 0; way < 2; way++) {
        const bise_panel8_job j = { .w = &m, .transposed = way, .x = x8,
            .x_scales = x_scales, .ldx = ldx, .y = y, .ldy = ldx, .T = T };
        uint64_t best = UINT64_MAX;
        for (int run = 0; run < RUNS; run++) {
            const uint64_t start = bise_clock_ns();
            for (int32_t t = 0; t < T; t++)
                x_scales[t] = o.quantize_bf16(
                    x8 + (size_t)t * ldx, x + (size_t)t * ldx,
                    way ? scales : NULL, (size_t)(way ? N : K));
            bise_panel8_run(&o, &j, 0, INT32_MAX, scratch);
            const uint64_t ns = bise_clock_ns() - start;
            best = ns < best ? ns : best;
        }
        printf("panel,I8-int8-%s-T%d,%s,1,%llu,%.1f\n",
               way ? "gradient" : "forward", T,
               bise_cpu_name(bise_cpu_level()), (unsigned long long)best,
               2.0 * (double)n * T / (double)best);
        fflush(stdout);
    }
    bise_free_aligned(scratch);
    bise_free_aligned(x8);
    bise_free_aligned(w);
    bise_free(scales);
    bise_free(x_scales);
    bise_free(x);
    bise_free(y);
}

int main(int argc, char **argv)
{
    const int32_t T = argc > 1 ? atoi(argv[1]) : 512;
    const int32_t N = argc > 2 ? atoi(argv[2]) : 5632;
    const int32_t K = argc > 3 ? atoi(argv[3]) : 2048;
    printf("# %s, N %d, K %d\n# area,case,isa,threads,min_ns,GFLOP_s\n",
           bise_cpu_model(), N, K);
    bench8(T, N, K);
    bench(BISE_DTYPE_BF16, T, N, K);
    bench(BISE_DTYPE_Q8_0, T, N, K);
    bench(BISE_DTYPE_Q4_K, T, N, K);
    bench(BISE_DTYPE_Q6_K, T, N, K);
    bench(BISE_DTYPE_NF4, T, N, K);
    return 0;
}
