/* check_packed.c - operands that the caller packs (panel_packed.c) on every CPU
 * level: the layout value by value, products of all tails against double with
 * poison around every operand, rounding to bf16, and the low-rank addition
 * that bise_panel_run makes in bf16.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "core/mem.h"
#include "core/rng.h"
#include "kernels/panel.h"
#include "tests/check_main.h"

#define COLS BISE_PANEL_COLS
#define GUARD 7.25f
#define GUARD16 0x4bad
#define POISON 0x7fc1 /* a NaN: one read of it shows in a sum */
#define EDGE 40       /* guarded values on both sides */

static float draw(uint64_t stream, size_t i)
{
    return bise_rng_f32(3, stream, i) * 2 - 1;
}

static double value(uint16_t h)
{
    return (double)bise_bf16_to_f32(h);
}

static size_t even(int32_t r)
{
    return ((size_t)r + 1) / 2 * 2;
}

/* Every level of this machine in turn; false after the last. */
static bool next_level(bise_panel_ops *o, int *level)
{
    if (*level > (int)bise_cpu_level())
        return false;
    bise_panel_ops_init(o, (bise_cpu)(*level)++);
    return true;
}

static uint16_t *filled16(size_t n, uint16_t with)
{
    uint16_t *x = bise_alloc_array(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = with;
    return x;
}

/* ------------------------------------------------------------- packing --- */

/* Where column c at reduction step k of r stands in a packed operand. */
static size_t place(size_t c, size_t k, int32_t r)
{
    return c / COLS * COLS * even(r) + k / 2 * 2 * COLS + c % COLS * 2 + k % 2;
}

/* rows [lines, ld] of any bits at an odd address, NaN beyond width. */
static uint16_t *any_bits(uint16_t *memory, int32_t lines, size_t ld,
                          int32_t width)
{
    uint16_t *rows = memory + 1;
    for (int32_t i = 0; i < lines; i++)
        for (int32_t k = 0; k < width; k++)
            rows[(size_t)i * ld + (size_t)k] = (uint16_t)bise_rng_below(
                4, (uint64_t)i, (uint64_t)k, 0x10000);
    return rows;
}

/* Pack n columns of r steps both ways on all levels; every value, every zero
 * of the padding and the guards must be what the layout says. */
static void check_layout(int32_t n, int32_t r)
{
    const size_t size = bise_panel_packed(n, r), all = size + 2 * EDGE;
    ck_assert_uint_eq(size, (size_t)((n + 31) / 32 * 32) * even(r));
    for (int pairs = 0; pairs < 2; pairs++) {
        const int32_t lines = pairs ? r : n, width = pairs ? n : r;
        const size_t ld = (size_t)width + 3;
        uint16_t *memory = filled16((size_t)lines * ld + 2, POISON);
        const uint16_t *rows = any_bits(memory, lines, ld, width);
        uint16_t *want = filled16(all, GUARD16);
        memset(want + EDGE, 0, size * sizeof *want);
        for (size_t c = 0; c < (size_t)n; c++)
            for (size_t k = 0; k < (size_t)r; k++)
                want[EDGE + place(c, k, r)] =
                    pairs ? rows[k * ld + c] : rows[c * ld + k];
        bise_panel_ops o;
        for (int level = 0; next_level(&o, &level);) {
            uint16_t *got = filled16(all, GUARD16);
            if (pairs)
                bise_panel_pack_pairs(&o, got + EDGE, rows, ld, r, n);
            else
                bise_panel_pack_rows(&o, got + EDGE, rows, ld, n, r);
            for (size_t i = 0; i < all; i++)
                if (got[i] != want[i])
                    ck_abort_msg("level %d pairs %d n %d r %d at %zu: %x, "
                                 "not %x", level - 1, pairs, n, r, i, got[i],
                                 want[i]);
            bise_free(got);
        }
        bise_free(want);
        bise_free(memory);
    }
}

START_TEST(packed_layout_of_all_sizes)
{
    for (int32_t n = 1; n <= 67; n++)
        for (int32_t r = 1; r <= 67; r++)
            check_layout(n, r);
}
END_TEST

/* More than 64 rows go to the packer in several calls. */
START_TEST(packed_layout_of_deep_operands)
{
    for (int32_t r = 126; r <= 131; r++)
        check_layout(97, r);
    check_layout(33, 513);
    check_layout(130, 192);
}
END_TEST

/* ------------------------------------------------------------ products --- */

/* Operands of y [m, n] (+)= a [m, r] b: all at odd addresses. */
typedef struct product {
    int32_t m, n, r;
    size_t lda, ldb, ldy;
    bool pairs;
    uint16_t *a_memory, *b_memory, *packed;
    const uint16_t *a, *b;
} product;

/* What the contract lets be read is finite, everything else is NaN. */
static void make_product(product *p, int32_t m, int32_t n, int32_t r,
                         bool pairs)
{
    const int32_t lines = pairs ? r : n, width = pairs ? n : r;
    *p = (product){ .m = m, .n = n, .r = r, .pairs = pairs,
                    .lda = even(r) + 3, .ldb = (size_t)width + 5,
                    .ldy = (size_t)n + 3 };
    p->a_memory = filled16((size_t)m * p->lda + 1, POISON);
    p->b_memory = filled16((size_t)lines * p->ldb + 1, POISON);
    p->packed = filled16(bise_panel_packed(n, r) + 1, POISON);
    for (size_t i = 0; i < (size_t)m; i++)
        for (size_t k = 0; k < even(r); k++)
            p->a_memory[1 + i * p->lda + k] =
                k < (size_t)r ? bise_f32_to_bf16(draw(1, i * 70 + k)) : 0x4640;
    for (size_t i = 0; i < (size_t)lines; i++)
        for (size_t k = 0; k < (size_t)width; k++)
            p->b_memory[1 + i * p->ldb + k] =
                bise_f32_to_bf16(draw(2, i * 70 + k));
    p->a = p->a_memory + 1;
    p->b = p->b_memory + 1;
}

static void free_product(product *p)
{
    bise_free(p->a_memory);
    bise_free(p->b_memory);
    bise_free(p->packed);
}

static double exact(const product *p, int32_t i, int32_t c)
{
    double sum = 0;
    for (size_t k = 0; k < (size_t)p->r; k++)
        sum += value(p->a[(size_t)i * p->lda + k]) *
               value(p->pairs ? p->b[k * p->ldb + (size_t)c] :
                                p->b[(size_t)c * p->ldb + k]);
    return sum;
}

/* The sums, what add starts from, and what stands around y. */
static void check_sums(const product *p, const float *memory,
                       const double *want, bool add, int level)
{
    const size_t used = (size_t)p->m * p->ldy;
    for (size_t i = 0; i < used + 2 * EDGE + 1; i++) {
        const size_t at = i - EDGE - 1, c = at % p->ldy;
        if (i <= EDGE || at >= used || c >= (size_t)p->n) {
            if (memory[i] != GUARD)
                ck_abort_msg("level %d: %zu beside y is written", level, i);
            continue;
        }
        const double sum = want[at / p->ldy * (size_t)p->n + c] +
                           (add ? (double)GUARD : 0);
        if (!(fabs((double)memory[i] - sum) <= 1e-5))
            ck_abort_msg("level %d m %d n %d r %d pairs %d add %d (%zu, %zu): "
                         "%.9g, not %.9g", level, p->m, p->n, p->r, p->pairs,
                         add, at / p->ldy, c, (double)memory[i], sum);
    }
}

/* One shape, packed both ways, set and added to, on all levels. */
static void check_product(int32_t m, int32_t n, int32_t r)
{
    for (int way = 0; way < 2; way++) {
        product p;
        bise_panel_ops o;
        make_product(&p, m, n, r, way);
        const size_t all = (size_t)m * p.ldy + 2 * EDGE + 1;
        float *y = bise_alloc_array(all, sizeof *y);
        double *want = bise_alloc_array((size_t)(m * n), sizeof *want);
        for (int32_t i = 0; i < m; i++)
            for (int32_t c = 0; c < n; c++)
                want[i * n + c] = exact(&p, i, c);
        for (int level = 0; next_level(&o, &level);) {
            uint16_t *b = p.packed + 1;
            if (way)
                bise_panel_pack_pairs(&o, b, p.b, p.ldb, r, n);
            else
                bise_panel_pack_rows(&o, b, p.b, p.ldb, n, r);
            for (int add = 0; add < 2; add++) {
                for (size_t i = 0; i < all; i++)
                    y[i] = GUARD;
                bise_panel_mul(&o, y + EDGE + 1, p.ldy, p.a, p.lda, b, m, n, r,
                               add);
                check_sums(&p, y, want, add, level - 1);
            }
        }
        bise_free(y);
        bise_free(want);
        free_product(&p);
    }
}

/* All values of each size, and all pairs of sizes by their remainders. */
START_TEST(products_of_all_tails)
{
    for (int32_t i = 1; i <= 67; i++) {
        for (int32_t k = 1; k <= 67; k += 3)
            check_product(i % 13 + 1, i, k + i % 3 > 67 ? 67 : k + i % 3);
        check_product(i, 33, 68 - i);
        check_product(i, 68 - i, i * 7 % 67 + 1);
    }
}
END_TEST

/* A worker that takes some panels of b gets the bits of one that takes all. */
START_TEST(a_split_of_the_columns_changes_no_bit)
{
    enum { M = 29, N = 131, R = 67 };
    static float all[M * N], part[M * N];
    product p;
    bise_panel_ops o;
    make_product(&p, M, N, R, true);
    for (int level = 0; next_level(&o, &level);) {
        uint16_t *b = p.packed + 1;
        bise_panel_pack_pairs(&o, b, p.b, p.ldb, R, N);
        bise_panel_mul(&o, all, N, p.a, p.lda, b, M, N, R, false);
        for (int32_t c = 0, n = 32; c < N; c += n, n = 64)
            bise_panel_mul(&o, part + c, N, p.a, p.lda,
                           b + (size_t)c * even(R), M,
                           N - c < n ? N - c : n, R, false);
        ck_assert_mem_eq(all, part, sizeof all);
    }
    free_product(&p);
}
END_TEST

/* ------------------------------------------------------------ rounding --- */

/* Equal, or a denormal that became the zero of its sign. */
static void same_rounding(float x, uint16_t got, int level)
{
    const uint32_t u = bise_f32_bits(x);
    const uint16_t want = bise_f32_to_bf16(x);
    if (got == (u >> 16 & 0x8000) && (u & 0x7f800000) == 0)
        return;
    if (got != want)
        ck_abort_msg("level %d: %08x gives %04x, not %04x", level, u, got,
                     want);
}

/* Every upper half with lower halves around the tie: all exponents, signs,
 * infinities, quiet and signalling NaN, overflow to infinity. */
START_TEST(rounding_of_every_upper_half)
{
    static const uint32_t low[] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xffff };
    static float x[0x10000];
    static uint16_t y[0x10000];
    bise_panel_ops o;
    for (int level = 0; next_level(&o, &level);) {
        for (uint32_t u = 0; u < 0x10000; u++) {
            const uint32_t bits = u << 16 | low[_i];
            memcpy(&x[u], &bits, sizeof bits);
        }
        o.round_bf16(y, x, 0x10000);
        for (uint32_t u = 0; u < 0x10000; u++)
            same_rounding(x[u], y[u], level - 1);
    }
}
END_TEST

/* Vectors and tails alike, at odd addresses and within their bounds. */
START_TEST(rounding_of_all_lengths)
{
    static const uint32_t special[] = {
        0, 0x80000000, 0x7f800000, 0xff800000, 0x7f800001, 0xff8fffff,
        0x7fffffff, 0x7f7fffff, 0xff7f8000, 0x7f7f7fff, 0x3f808000, 0x3f818000,
        0xbf808001, 0x00800000, 0x80ffffff, 0x00000001, 0x807fffff,
    };
    enum { N = sizeof special / sizeof *special };
    bise_panel_ops o;
    for (int level = 0; next_level(&o, &level);)
        for (size_t n = 0; n <= 67; n++)
            for (size_t shift = 0; shift < N; shift++) {
                float x[70];
                uint16_t y[72];
                for (size_t i = 0; i < 70; i++)
                    memcpy(&x[i], &special[(i + shift) % N], sizeof *x);
                for (size_t i = 0; i < 72; i++)
                    y[i] = GUARD16;
                o.round_bf16(y + 1, x + 1, n);
                for (size_t i = 0; i < n; i++)
                    same_rounding(x[1 + i], y[1 + i], level - 1);
                for (size_t i = 0; i < 72; i += i ? 1 : n + 1)
                    if (y[i] != GUARD16)
                        ck_abort_msg("level %d: %zu of %zu is written",
                                     level - 1, i, n);
            }
}
END_TEST

/* -------------------------------------------------- low-rank additions --- */

/* A product with both forms of e, which differ so that the result tells which
 * of them was read. */
typedef struct low_case {
    bise_matrix w;
    bise_panel_job j;
    uint16_t *weights, *x16, *e16;
    float *x, *e, *f, *y;
    int32_t out, red;
} low_case;

/* Random operands; rows of e16 end in a zero when r is odd, then NaN. */
static void make_low(low_case *c, int32_t T, int32_t N, int32_t K, int32_t r,
                     bool transposed)
{
    memset(c, 0, sizeof *c);
    c->out = transposed ? K : N;
    c->red = transposed ? N : K;
    const size_t ldx = even(c->red) + 1, lde16 = even(r) + 1;
    const size_t ldy = (size_t)c->out + 3, lde = (size_t)r + 2;
    c->weights = filled16((size_t)N * (size_t)K, 0);
    c->x16 = filled16((size_t)T * ldx, 0);
    c->e16 = filled16((size_t)T * lde16, POISON);
    c->x = bise_alloc_array((size_t)T * ldx, sizeof *c->x);
    c->e = bise_alloc_array((size_t)T * lde, sizeof *c->e);
    c->f = bise_alloc_array((size_t)r * (size_t)c->out, sizeof *c->f);
    c->y = bise_alloc_array((size_t)T * ldy, sizeof *c->y);
    for (size_t i = 0; i < (size_t)N * (size_t)K; i++)
        c->weights[i] = bise_f32_to_bf16(draw(10, i));
    for (size_t i = 0; i < (size_t)T * ldx; i++) {
        c->x16[i] = bise_f32_to_bf16(draw(11, i));
        c->x[i] = bise_bf16_to_f32(c->x16[i]);
    }
    for (size_t i = 0; i < (size_t)T * lde; i++)
        c->e[i] = draw(12, i);
    for (size_t t = 0; t < (size_t)T; t++)
        for (size_t k = 0; k < even(r); k++)
            c->e16[t * lde16 + k] = k < (size_t)r ?
                bise_f32_to_bf16(draw(13, t * 100 + k)) : 0;
    for (size_t i = 0; i < (size_t)r * (size_t)c->out; i++)
        c->f[i] = draw(14, i);
    c->w = (bise_matrix){ .dtype = BISE_DTYPE_BF16, .data = c->weights, .N = N,
                          .K = K, .row_bytes = (size_t)K * 2 };
    c->j = (bise_panel_job){
        .w = &c->w, .transposed = transposed, .ldx = ldx, .y = c->y,
        .ldy = ldy, .T = T, .e = c->e, .lde = lde, .f = c->f, .r = r,
        .f_scale = 0.75f, .e16 = c->e16, .lde16 = lde16,
    };
}

static void free_low(low_case *c)
{
    bise_free(c->weights);
    bise_free(c->x16);
    bise_free(c->e16);
    bise_free(c->x);
    bise_free(c->e);
    bise_free(c->f);
    bise_free(c->y);
}

/* y (t, i) without what was there. low: the addition is the rounded one. */
static double low_sum(const low_case *c, size_t t, size_t i, bool low)
{
    const bise_panel_job *j = &c->j;
    const size_t K = (size_t)c->w.K, r = (size_t)j->r;
    double sum = 0;
    for (size_t k = 0; k < (size_t)c->red; k++)
        sum += value(c->x16[t * j->ldx + k]) *
               value(c->weights[j->transposed ? k * K + i : i * K + k]);
    for (size_t k = 0; k < r; k++) {
        const float f = j->f_scale * (j->transposed ?
                            c->f[k * (size_t)c->out + i] : c->f[i * r + k]);
        sum += low ? value(c->e16[t * j->lde16 + k]) *
                         value(bise_f32_to_bf16(f)) :
                     (double)c->e[t * j->lde + k] * (double)f;
    }
    return sum;
}

/* All groups, against double, with guards after each row. */
static void compare_low(const bise_panel_ops *o, low_case *c, bool bf16,
                        bool add, int level)
{
    const int32_t T = c->j.T, n = c->red;
    float *tiles = bise_alloc_array(bise_panel_tiled(T, n), sizeof *tiles);
    bise_panel_tile(o, tiles, c->x, c->j.ldx, n, 0, T);
    c->j.x = bf16 ? NULL : tiles;
    c->j.x_bf16 = bf16 ? c->x16 : NULL;
    c->j.add = add;
    for (size_t i = 0; i < (size_t)c->j.T * c->j.ldy; i++)
        c->y[i] = GUARD;
    void *scratch = bise_alloc_aligned(bise_panel_scratch(o));
    memset(scratch, 0xff, bise_panel_scratch(o));
    bise_panel_run(o, &c->j, 0, INT32_MAX, scratch);
    bise_free_aligned(scratch);
    bise_free(tiles);
    const bool low = bf16 && c->j.r <= BISE_PANEL_LOW;
    for (size_t t = 0; t < (size_t)c->j.T; t++)
        for (size_t i = 0; i < c->j.ldy; i++) {
            const double y = (double)c->y[t * c->j.ldy + i];
            const double want = i >= (size_t)c->out ? (double)GUARD :
                low_sum(c, t, i, low) + (add ? (double)GUARD : 0);
            if (!(fabs(y - want) <= 1e-6 * c->red + 2e-5))
                ck_abort_msg("level %d T %d out %d red %d r %d back %d bf16 "
                             "%d add %d (%zu, %zu): %.9g, not %.9g", level,
                             c->j.T, c->out, c->red, c->j.r, c->j.transposed,
                             bf16, add, t, i, y, want);
        }
}

static void check_low(int32_t T, int32_t N, int32_t K, int32_t r)
{
    for (int back = 0; back < 2; back++) {
        low_case c;
        bise_panel_ops o;
        make_low(&c, T, N, K, r, back);
        for (int level = 0; next_level(&o, &level);)
            for (int way = 0; way < 4; way++)
                compare_low(&o, &c, way & 1, way & 2, level - 1);
        free_low(&c);
    }
}

START_TEST(low_rank_of_every_rank)
{
    for (int32_t r = 1; r <= BISE_PANEL_LOW + 5; r++)
        check_low(1 + r % 14, 35, 70 - r, r);
    check_low(7, 40, 33, 99);
}
END_TEST

/* The addition is made once, with the last depth of the last group too. */
START_TEST(low_rank_over_groups_and_depths)
{
    check_low(5, 131, 513, 7);
    check_low(13, 515, 160, 64);
    check_low(3, 1025, 129, 65);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("packed");
    TCase *t = tcase_create("packed");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, packed_layout_of_all_sizes);
    tcase_add_test(t, packed_layout_of_deep_operands);
    tcase_add_test(t, products_of_all_tails);
    tcase_add_test(t, a_split_of_the_columns_changes_no_bit);
    tcase_add_loop_test(t, rounding_of_every_upper_half, 0, 6);
    tcase_add_test(t, rounding_of_all_lengths);
    tcase_add_test(t, low_rank_of_every_rank);
    tcase_add_test(t, low_rank_over_groups_and_depths);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
