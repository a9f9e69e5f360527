/* check_sampler.c - next-token choice: greedy ties, each filter, frequencies
 * that follow the distribution, and the same draws for the same seed.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "model/sampler.h"

static bise_error err;

/* log of 0.4, 0.3, 0.2, 0.08, 0.02 in mixed order */
static const double probs[5] = { 0.08, 0.4, 0.02, 0.3, 0.2 };
static float z[5];

static bise_sampler open_sampler(bise_sampler s)
{
    for (int i = 0; i < 5; i++)
        z[i] = (float)(log(probs[i]) + 3);
    ck_ok(bise_sampler_init(&s, 5, &err));
    return s;
}

/* Shares of n draws. */
static void draw(bise_sampler s, int n, double share[5])
{
    bise_sampler t = open_sampler(s);
    for (int i = 0; i < 5; i++)
        share[i] = 0;
    for (int i = 0; i < n; i++)
        share[bise_sampler_next(&t, z)] += 1.0 / n;
    bise_sampler_fini(&t);
}

START_TEST(greedy_takes_the_lowest_id_on_ties)
{
    bise_sampler s = open_sampler((bise_sampler){ .temp = 0 });
    const float tie[5] = { 1, 2, 2, 0, 2 };
    ck_assert_int_eq(bise_sampler_next(&s, z), 1);
    ck_assert_int_eq(bise_sampler_next(&s, tie), 1);
    bise_sampler_fini(&s);
}
END_TEST

START_TEST(draws_follow_the_distribution)
{
    double share[5];
    draw((bise_sampler){ .temp = 1, .seed = 5 }, 20000, share);
    for (int i = 0; i < 5; i++)
        ck_assert_double_eq_tol(share[i], probs[i], 0.015);
}
END_TEST

START_TEST(temperature_sharpens)
{
    double share[5], sum = 0;
    draw((bise_sampler){ .temp = 0.5, .seed = 5 }, 20000, share);
    for (int i = 0; i < 5; i++)
        sum += probs[i] * probs[i];
    for (int i = 0; i < 5; i++)
        ck_assert_double_eq_tol(share[i], probs[i] * probs[i] / sum, 0.015);
}
END_TEST

START_TEST(filters_keep_what_they_should)
{
    const struct { bise_sampler s; int kept; } cases[] = {
        { { .temp = 1, .top_k = 2 }, 2 },
        { { .temp = 1, .top_p = 0.65 }, 2 },    /* 0.4 + 0.3 reaches it */
        { { .temp = 1, .top_p = 0.71 }, 3 },
        { { .temp = 1, .min_p = 0.6 }, 2 },     /* 0.3 >= 0.6 * 0.4 */
        { { .temp = 1, .min_p = 0.3 }, 3 },
        { { .temp = 1, .top_k = 4, .min_p = 0.3 }, 3 },
        { { .temp = 1, .top_p = 1, .top_k = 9 }, 5 },
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double share[5];
        int kept = 0;
        draw(cases[c].s, 4000, share);
        for (int i = 0; i < 5; i++)
            kept += share[i] > 0;
        ck_assert_msg(kept == cases[c].kept, "case %zu keeps %d", c, kept);
    }
}
END_TEST

START_TEST(seeds_repeat)
{
    bise_sampler a = open_sampler((bise_sampler){ .temp = 1, .seed = 9 });
    bise_sampler b = open_sampler((bise_sampler){ .temp = 1, .seed = 9 });
    bise_sampler c = open_sampler((bise_sampler){ .temp = 1, .seed = 10 });
    int other = 0;
    for (int i = 0; i < 100; i++) {
        const int32_t id = bise_sampler_next(&a, z);
        ck_assert_int_eq(id, bise_sampler_next(&b, z));
        other += id != bise_sampler_next(&c, z);
    }
    ck_assert_int_gt(other, 20);
    bise_sampler_fini(&a);
    bise_sampler_fini(&b);
    bise_sampler_fini(&c);
}
END_TEST

START_TEST(nonsense_is_refused)
{
    bise_sampler s = { .temp = -1 };
    ck_fails(bise_sampler_init(&s, 5, &err), BISE_EINVAL);
    s = (bise_sampler){ .temp = 1, .top_p = 1.5 };
    ck_fails(bise_sampler_init(&s, 5, &err), BISE_EINVAL);
    s = (bise_sampler){ .temp = 1, .top_k = -2 };
    ck_fails(bise_sampler_init(&s, 5, &err), BISE_EINVAL);
    bise_sampler_fini(&s);
}
END_TEST

/* ------------------------------------ the same choice, written the long way --- */

#define VOC 300

typedef struct pick {
    double p;
    int32_t id;
} pick;

static int likelier(const void *pa, const void *pb)
{
    const pick *a = pa, *b = pb;
    if (a->p != b->p)
        return a->p < b->p ? 1 : -1;
    return a->id - b->id;
}

/* Every token sorted, then the filters in their documented order, then one
 * draw; nothing is left out beforehand. */
static int32_t slow_next(const bise_sampler *s, const float *logits,
                         uint64_t step)
{
    static pick all[VOC];
    double max = -INFINITY, sum = 0, run = 0;
    int32_t n = VOC;
    for (int32_t i = 0; i < VOC; i++)
        max = fmax(max, (double)logits[i]);
    for (int32_t i = 0; i < VOC; i++)
        all[i] = (pick){ exp(((double)logits[i] - max) / s->temp), i };
    qsort(all, VOC, sizeof *all, likelier);
    if (s->top_k > 0 && s->top_k < n)
        n = s->top_k;
    for (int32_t i = 0; i < n; i++)
        sum += all[i].p;
    if (s->top_p > 0 && s->top_p < 1) {
        int32_t keep = 0;
        while (keep < n && run < s->top_p * sum)
            run += all[keep++].p;
        n = keep;
    }
    while (n > 1 && all[n - 1].p < s->min_p * all[0].p)
        n--;
    sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += all[i].p;
    double u = bise_rng_f64(s->seed, 0, step) * sum;
    for (int32_t i = 0; i < n; i++)
        if ((u -= all[i].p) < 0)
            return all[i].id;
    return all[n - 1].id;
}

static const bise_sampler settings[] = {
    { .temp = 1, .seed = 1 },
    { .temp = 0.7, .seed = 2, .top_k = 40 },
    { .temp = 1.5, .seed = 3, .top_p = 0.9 },
    { .temp = 1, .seed = 4, .min_p = 0.05 },
    { .temp = 0.8, .seed = 5, .top_k = 50, .top_p = 0.95, .min_p = 0.01 },
    { .temp = 0.01, .seed = 6 },
    { .temp = 20, .seed = 7, .top_p = 0.5 },
    { .temp = 1, .seed = 8, .top_k = 1 },
    { .temp = 1, .seed = 9, .top_p = 1e-9 },
    { .temp = 1, .seed = 10, .min_p = 1 },
};

START_TEST(choices_equal_the_long_way)
{
    bise_sampler s = settings[_i];
    float logits[VOC];
    ck_ok(bise_sampler_init(&s, VOC, &err));
    for (uint64_t step = 0; step < 200; step++) {
        /* Peaked and flat rows in turn, with ties in both. */
        const float spread = step % 2 ? 12 : 2;
        for (uint64_t i = 0; i < VOC; i++)
            logits[i] = spread * roundf(64 * bise_rng_f32(step, 5, i)) / 64;
        const int32_t want = slow_next(&s, logits, step);
        const int32_t got = bise_sampler_next(&s, logits);
        if (got != want)
            ck_abort_msg("step %d: token %d, the long way %d", (int)step, got,
                         want);
    }
    ck_assert_uint_eq(s.step, 200);
    bise_sampler_fini(&s);
}
END_TEST

START_TEST(a_step_can_be_drawn_again)
{
    bise_sampler s = settings[1];
    float logits[VOC];
    int32_t first[20];
    ck_ok(bise_sampler_init(&s, VOC, &err));
    for (uint64_t i = 0; i < VOC; i++)
        logits[i] = 3 * bise_rng_f32(4, 4, i);
    for (int i = 0; i < 20; i++)
        first[i] = bise_sampler_next(&s, logits);
    s.step = 7;                     /* the draw depends on the step alone */
    for (int i = 7; i < 20; i++)
        ck_assert_int_eq(bise_sampler_next(&s, logits), first[i]);
    bise_sampler_fini(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sampler");
    TCase *t = tcase_create("sampler");
    tcase_add_test(t, greedy_takes_the_lowest_id_on_ties);
    tcase_add_test(t, draws_follow_the_distribution);
    tcase_add_test(t, temperature_sharpens);
    tcase_add_test(t, filters_keep_what_they_should);
    tcase_add_loop_test(t, choices_equal_the_long_way, 0,
                        sizeof settings / sizeof *settings);
    tcase_add_test(t, a_step_can_be_drawn_again);
    tcase_add_test(t, seeds_repeat);
    tcase_add_test(t, nonsense_is_refused);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
