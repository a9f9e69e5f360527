/* check_panel.c - the panel products of every CPU level against double
 * precision loops: both directions, all tails, bf16 and f32, quantized and FP8
 * weights, permuted rows, the low-rank addition, guard bytes.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "core/rng.h"
#include "kernels/codec.h"
#include "kernels/dynmap.h"
#include "kernels/panel.h"
#include "tests/check_main.h"

#define GUARD 7.25f

/* A random case: weights in a type, their exact values, inputs. */
typedef struct panel_case {
    bise_matrix w;
    void *stored;
    float *values;          /* [N, K] as the type stores them */
    bise_nf4 nf4;           /* and what its absmax are */
    float *absmax;
    uint8_t *codes8;
    float *x;
    uint16_t *x16;
    float *y, *e, *f;
    size_t ldx, ldy;
    int32_t T, out, red;
} panel_case;

static float draw(uint64_t stream, size_t i)
{
    return bise_rng_f32(1, stream, i) * 2 - 1;
}

/* W as NF4 with double quantization; its first weight stands at 6, so that
 * rows run across blocks. */
static void make_nf4(panel_case *c, const float *random, size_t n)
{
    static bise_dynmap map;
    static float nested[64];
    const size_t first = 6, all = n + first;
    float *line = bise_alloc_array(all, sizeof *line);
    memcpy(line + first, random, n * sizeof *line);
    c->stored = bise_alloc(all / 2 + 1);
    c->absmax = bise_alloc_array(all / 64 + 1, sizeof *c->absmax);
    c->codes8 = bise_alloc(all / 64 + 1);
    const uint64_t blocks = bise_nf4_encode(c->stored, c->absmax, line, all);
    bise_dynmap_init(&map, true);
    c->nf4 = (bise_nf4){
        .n = all, .block = 64, .nested_block = 256, .codes = c->stored,
        .map = bise_nf4_map, .absmax = nested, .absmax8 = c->codes8,
        .nested_map = map.value,
        .offset = bise_nf4_nest(c->codes8, nested, c->absmax, blocks, &map),
    };
    bise_nf4_decode(&c->nf4, first, n, c->values);
    c->w.nf4 = &c->nf4;
    c->w.nf4_first = first;
    bise_free(line);
}

/* Make W [N, K] in type t and x for one direction. */
static void make_case(panel_case *c, bise_dtype t, int32_t T, int32_t N,
                      int32_t K, bool transposed, bool bf16)
{
    memset(c, 0, sizeof *c);
    const size_t n = (size_t)N * (size_t)K;
    float *random = bise_alloc_array(n, sizeof *random);
    for (size_t i = 0; i < n; i++)
        random[i] = draw(1, i);
    c->values = bise_alloc_array(n, sizeof *c->values);
    if (t != BISE_DTYPE_NF4) {
        c->stored = bise_alloc(bise_dtype_bytes(t, n));
        bise_codec_get(t)->encode(c->stored, random, (size_t)N, (size_t)K,
                                  NULL);
        bise_codec_get(t)->decode(c->values, c->stored, n);
    }
    c->w = (bise_matrix){ .dtype = t, .data = c->stored, .N = N, .K = K,
                          .row_bytes = bise_dtype_bytes(t, (uint64_t)K) };
    if (t == BISE_DTYPE_NF4)
        make_nf4(c, random, n);
    bise_free(random);
    c->T = T;
    c->out = transposed ? K : N;
    c->red = transposed ? N : K;
    c->ldx = (size_t)c->red + 3 + (size_t)(c->red & 1);
    c->ldy = (size_t)c->out + 5;
    c->x = bise_alloc_array((size_t)T * c->ldx, sizeof *c->x);
    c->x16 = bise_alloc_array((size_t)T * c->ldx + 1, sizeof *c->x16);
    c->y = bise_alloc_array((size_t)T * c->ldy, sizeof *c->y);
    for (size_t i = 0; i < (size_t)T * c->ldx; i++) {
        c->x16[i] = bise_f32_to_bf16(draw(2, i));
        c->x[i] = bf16 ? bise_bf16_to_f32(c->x16[i]) : draw(2, i);
    }
    for (size_t i = 0; i < (size_t)T * c->ldy; i++)
        c->y[i] = GUARD;
}

static void free_case(panel_case *c)
{
    bise_free(c->stored);
    bise_free(c->absmax);
    bise_free(c->codes8);
    bise_free(c->values);
    bise_free(c->x);
    bise_free(c->x16);
    bise_free(c->y);
    bise_free(c->e);
    bise_free(c->f);
}

/* Weight (n, k) as the product should see it; bf16 panels round it. */
static double weight(const panel_case *c, int32_t n, int32_t k, bool bf16)
{
    const int32_t D = c->w.pair_rows;
    const int32_t row = !D ? n : n / D * D + 2 * (n % (D / 2)) +
                                 n % D / (D / 2);
    float v = c->values[(size_t)row * (size_t)c->w.K + (size_t)k];
    if (c->w.scales && c->w.block == BISE_SCALE_ROWS)
        v *= c->w.scales[row];
    else if (c->w.scales)
        v *= c->w.scales[c->w.block ? row / c->w.block *
                         ((c->w.K + c->w.block - 1) / c->w.block) +
                         k / c->w.block : 0];
    return bf16 ? (double)bise_bf16_to_f32(bise_f32_to_bf16(v)) : (double)v;
}

/* Run in pieces, the last first, then as a whole: the same bits. */
static void run_pieces(const bise_panel_ops *o, const bise_panel_job *j,
                       void *scratch)
{
    const int32_t columns = bise_panel_columns(j);
    const size_t n = (size_t)j->T * j->ldy;
    float *cut = bise_alloc_array(n, sizeof *cut);
    for (int32_t c = (columns - 1) / 32 * 32; c >= 0; c -= 32)
        bise_panel_run(o, j, c, 32, scratch);
    memcpy(cut, j->y, n * sizeof *cut);
    bise_panel_run(o, j, 0, columns, scratch);
    for (int32_t t = 0; t < j->T; t++)
        ck_assert_mem_eq(cut + (size_t)t * j->ldy, j->y + (size_t)t * j->ldy,
                         (size_t)columns * sizeof *cut);
    bise_free(cut);
}

/* Run all groups and compare with sums in double. */
static void compare(const bise_panel_ops *o, panel_case *c, bool transposed,
                    bool bf16, int32_t r)
{
    float *tiles = bise_alloc_array(bise_panel_tiled(c->T, c->red),
                                    sizeof *tiles);
    bise_panel_tile(o, tiles, c->x, c->ldx, c->red, 0, c->T);
    const bise_panel_job j = {
        .w = &c->w, .transposed = transposed, .x = bf16 ? NULL : tiles,
        .x_bf16 = bf16 ? c->x16 : NULL, .ldx = c->ldx, .y = c->y,
        .ldy = c->ldy, .T = c->T, .e = r ? c->e : NULL, .f = c->f,
        .lde = (size_t)r, .r = r, .f_scale = 2,
    };
    void *scratch = bise_alloc_aligned(bise_panel_scratch(o));
    ck_assert_int_eq(bise_panel_columns(&j), c->out);
    run_pieces(o, &j, scratch);
    bise_free_aligned(scratch);
    bise_free(tiles);
    const double tol = 1e-6 * (double)c->red + 1e-5;
    for (int32_t t = 0; t < c->T; t++) {
        const float *y = c->y + (size_t)t * c->ldy;
        for (int32_t i = 0; i < c->out; i++) {
            double sum = 0;
            for (int32_t k = 0; k < c->red; k++)
                sum += (double)c->x[(size_t)t * c->ldx + (size_t)k] *
                       weight(c, transposed ? k : i, transposed ? i : k, bf16);
            for (int32_t k = 0; k < r; k++)
                sum += 2 * (double)c->e[t * r + k] *
                       (double)(transposed ? c->f[k * c->out + i] :
                                             c->f[i * r + k]);
            ck_assert_msg(fabs(sum - (double)y[i]) <= tol,
                          "T %d out %d red %d (%d, %d): %g, not %g", c->T,
                          c->out, c->red, t, i, (double)y[i], sum);
        }
        for (size_t i = (size_t)c->out; i < c->ldy; i++)
            ck_assert_float_eq(y[i], GUARD);
    }
}

/* One shape on every level this machine has. */
static void check_shape(bise_dtype t, int32_t T, int32_t N, int32_t K)
{
    for (int level = 0; level <= (int)bise_cpu_level(); level++) {
        bise_panel_ops o;
        bise_panel_ops_init(&o, (bise_cpu)level);
        for (int way = 0; way < 4; way++) {
            panel_case c;
            make_case(&c, t, T, N, K, way & 1, way & 2);
            compare(&o, &c, way & 1, way & 2, 0);
            free_case(&c);
        }
    }
}

START_TEST(all_row_tails)
{
    for (int32_t T = 1; T <= 26; T++)
        check_shape(BISE_DTYPE_BF16, T, 33, 34);
}
END_TEST

START_TEST(all_column_and_depth_tails)
{
    for (int32_t n = 1; n <= 67; n++)
        check_shape(_i ? BISE_DTYPE_BF16 : BISE_DTYPE_F32, 3, n, 68 - n);
}
END_TEST

START_TEST(many_groups_and_depths)
{
    check_shape(BISE_DTYPE_BF16, 13, 530, 1030);
    check_shape(BISE_DTYPE_F32, 13, 1030, 270);
}
END_TEST

START_TEST(quantized_weights)
{
    check_shape(BISE_DTYPE_Q4_K, 5, 70, 512);
    check_shape(BISE_DTYPE_Q8_0, 5, 300, 96);
    check_shape(BISE_DTYPE_Q6_K, 2, 515, 256);
    check_shape(BISE_DTYPE_F16, 2, 40, 33);
}
END_TEST

START_TEST(nf4_weights_at_any_place_in_their_blocks)
{
    check_shape(BISE_DTYPE_NF4, 5, 70, 512);
    check_shape(BISE_DTYPE_NF4, 3, 300, 96);
    check_shape(BISE_DTYPE_NF4, 2, 33, 600);
    check_shape(BISE_DTYPE_NF4, 2, 40, 33);
}
END_TEST

START_TEST(rows_are_mapped_and_fp8_scaled)
{
    float scales[64];
    for (int i = 0; i < 64; i++)
        scales[i] = 0.5f + (float)(i % 8);
    bise_panel_ops o;
    bise_panel_ops_init(&o, bise_cpu_level());
    for (int way = 0; way < 8; way++) {
        panel_case c;
        make_case(&c, BISE_DTYPE_F32, 7, 64, 64, way & 1, way & 2);
        c.w.pair_rows = 16;
        c.w.scales = scales;
        c.w.block = way < 4 ? 32 : BISE_SCALE_ROWS;
        compare(&o, &c, way & 1, way & 2, 0);
        free_case(&c);
    }
}
END_TEST

START_TEST(low_rank_part_is_added)
{
    const int32_t r = 5, T = 14, N = 70, K = 300;
    bise_panel_ops o;
    bise_panel_ops_init(&o, bise_cpu_level());
    for (int way = 0; way < 4; way++) {
        panel_case c;
        make_case(&c, BISE_DTYPE_BF16, T, N, K, way & 1, way & 2);
        c.e = bise_alloc_array((size_t)(T * r), sizeof *c.e);
        c.f = bise_alloc_array((size_t)(r * c.out), sizeof *c.f);
        for (int i = 0; i < T * r; i++)
            c.e[i] = draw(5, (size_t)i);
        for (int i = 0; i < r * c.out; i++)
            c.f[i] = draw(6, (size_t)i);
        compare(&o, &c, way & 1, way & 2, r);
        free_case(&c);
    }
}
END_TEST

START_TEST(outer_product_sums_over_tokens)
{
    enum { T = 37, R = 17, N = 75 };
    static float ut[R * T], v[T * N], out[R * N];
    for (int i = 0; i < R * T; i++)
        ut[i] = draw(7, (size_t)i);
    for (int i = 0; i < T * N; i++)
        v[i] = draw(8, (size_t)i);
    for (int level = 0; level <= (int)bise_cpu_level(); level++) {
        bise_panel_ops o;
        bise_panel_ops_init(&o, (bise_cpu)level);
        memset(out, 0, sizeof out);
        bise_panel_outer(&o, out, N, ut, R, v, N, T, 0, 32);
        bise_panel_outer(&o, out, N, ut, R, v, N, T, 32, N);
        for (int i = 0; i < R; i++)
            for (int n = 0; n < N; n++) {
                double sum = 0;
                for (int t = 0; t < T; t++)
                    sum += (double)ut[i * T + t] * (double)v[t * N + n];
                ck_assert_double_eq_tol(out[i * N + n], sum, 1e-5);
            }
    }
}
END_TEST

/* Tasks cover every column of every group once, whatever the split; the last
 * groups come in parts when there are threads to wait for. */
START_TEST(tasks_cover_each_column_once)
{
    static const bise_panel_split splits[] = {
        { 1, 128, 1, 0 }, { 1, 128, 2, 0 }, { 44, 128, 2, 0 },
        { 5, 256, 3, 0 }, { 7, 128, 64, 0 }, { 0, 128, 2, 0 },
        { 5, 256, 3, 64 } };
    for (size_t k = 0; k < sizeof splits / sizeof *splits; k++) {
        const bise_panel_split *s = &splits[k];
        const size_t tasks = bise_panel_tasks(s);
        const int32_t least = s->part ? s->part :
                              s->width > 128 ? s->width : 32;
        unsigned char seen[44 * 256] = { 0 };
        size_t columns = 0;
        for (size_t i = 0; i < tasks; i++) {
            const bise_panel_task t = bise_panel_task_at(s, i);
            ck_assert_uint_lt(t.group, s->groups);
            ck_assert_int_eq(t.first % least, 0);
            ck_assert_int_le(t.first + t.n, s->width);
            for (int32_t c = t.first; c < t.first + t.n; c++) {
                const size_t at = t.group * (size_t)s->width + (size_t)c;
                ck_assert_int_eq(seen[at]++, 0);
                columns++;
            }
        }
        ck_assert_uint_eq(columns, s->groups * (size_t)s->width);
        if (tasks && s->threads > 1)
            ck_assert_int_eq(bise_panel_task_at(s, tasks - 1).n, least);
        if (s->threads == 1)
            ck_assert_uint_eq(tasks, s->groups);
    }
}
END_TEST

/* Gradients of a type with blocks of 256 are made of whole blocks. */
START_TEST(the_width_holds_whole_blocks)
{
    static const struct { bise_dtype t; int32_t back; } want[] = {
        { BISE_DTYPE_BF16, 128 }, { BISE_DTYPE_F32, 128 },
        { BISE_DTYPE_Q8_0, 128 }, { BISE_DTYPE_Q4_K, 256 },
        { BISE_DTYPE_IQ4_XS, 256 } };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const bise_matrix w = { .dtype = want[i].t, .N = 512, .K = 512 };
        ck_assert_int_eq(bise_panel_width(&w, false), 128);
        ck_assert_int_eq(bise_panel_width(&w, true), want[i].back);
        ck_assert_int_eq(want[i].back %
                             (int32_t)bise_dtype_get(want[i].t)->block_len, 0);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("panel");
    TCase *t = tcase_create("panel");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, all_row_tails);
    tcase_add_loop_test(t, all_column_and_depth_tails, 0, 2);
    tcase_add_test(t, many_groups_and_depths);
    tcase_add_test(t, quantized_weights);
    tcase_add_test(t, nf4_weights_at_any_place_in_their_blocks);
    tcase_add_test(t, rows_are_mapped_and_fp8_scaled);
    tcase_add_test(t, low_rank_part_is_added);
    tcase_add_test(t, outer_product_sums_over_tokens);
    tcase_add_test(t, tasks_cover_each_column_once);
    tcase_add_test(t, the_width_holds_whole_blocks);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
