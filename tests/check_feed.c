/* check_feed.c - the path of rows to micro-batches: amounts in rows and tokens,
 * passes that never exceed their limit, every sample once in an epoch, the
 * cursor, and the number of steps.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/mem.h"
#include "finetune/feed.h"

#define MODEL BISE_SRCDIR "/examples/tiny-mistral3"
enum { ROWS = 21 };

static bise_error err;
static char path[64];
static bise_tokenizer *tokenizer;
static bise_dataset *data;
static int32_t lengths_sum, longest;

/* 21 rows of text of different lengths; row i holds i + 1 words. */
static void set_up(void)
{
    bise_str text = { 0 };
    const bise_chat *chat;
    snprintf(path, sizeof path, "/tmp/bise-feed-%ld.jsonl", (long)getpid());
    for (int i = 0; i < ROWS; i++) {
        bise_str_puts(&text, "{\"text\": \"");
        for (int k = 0; k <= i; k++)
            bise_str_printf(&text, "word%d ", (i * 7 + k) % 10);
        bise_str_puts(&text, "\"}\n");
    }
    ck_ok(bise_file_write(path, bise_str_get(&text), text.len, &err));
    bise_str_fini(&text);
    ck_ok(bise_tokenizer_load(&tokenizer, MODEL "/tekken.json", &err));
    ck_ok(bise_chat_for(&chat, tokenizer, NULL, &err));
    const char *files[1] = { path };
    const bise_dataset_options o = { .files = files, .n_files = 1,
                                     .tokenizer = tokenizer, .chat = chat,
                                     .max_len = 4096 };
    ck_ok(bise_dataset_open(&data, &o, &err));
    ck_assert_uint_eq(bise_dataset_count(data), ROWS);
    lengths_sum = longest = 0;
    for (uint64_t i = 0; i < ROWS; i++) {
        const int32_t n = bise_dataset_len(data, i);
        lengths_sum += n - 1;
        longest = n > longest ? n : longest;
    }
}

static void tear_down(void)
{
    bise_dataset_close(data);
    bise_tokenizer_free(tokenizer);
    unlink(path);
}

/* Settings with amounts, resolved. */
static void make(bise_settings *s, const char *batch, const char *micro,
                 const char *packing)
{
    memset(s, 0, sizeof *s);
    ck_ok(bise_settings_set(s, "batch", batch, &err));
    ck_ok(bise_settings_set(s, "micro-batch", micro, &err));
    ck_ok(bise_settings_set(s, "packing", packing, &err));
    ck_ok(bise_settings_resolve(s, &err));
}

/* What the micro-batches of some steps hold. */
typedef struct tally {
    int64_t tokens, samples, passes, targets;
    int32_t most_tokens, most_samples;
    uint64_t sum; /* of ids, for comparing two ways */
} tally;

static void count_batch(tally *t, const bise_batch *b)
{
    ck_assert_int_eq(b->seg[0], 0);
    ck_assert_int_eq(b->seg[b->n_seg], b->T);
    for (int32_t s = 0; s < b->n_seg; s++)
        ck_assert_int_lt(b->seg[s], b->seg[s + 1]);
    for (int32_t i = 0; i < b->T; i++) {
        t->sum += (uint64_t)b->ids[i] * 31 + (uint64_t)(b->targets[i] + 2);
        t->targets += b->targets[i] >= 0;
    }
    t->tokens += b->T;
    t->samples += b->n_seg;
    t->passes++;
    t->most_tokens = b->T > t->most_tokens ? b->T : t->most_tokens;
    t->most_samples = b->n_seg > t->most_samples ? b->n_seg : t->most_samples;
}

/* Run one step from a cursor; returns the cursor behind it. */
static bise_cursor run_step(bise_feed *f, bise_cursor at, tally *t)
{
    bool more = true;
    bise_feed_begin(f, at);
    for (;;) {
        bise_batch b;
        ck_ok(bise_feed_next(f, &b, &more, &err));
        if (!more)
            return f->cursor;
        count_batch(t, &b);
    }
}

static const struct {
    const char *batch, *micro, *packing;
    uint64_t steps;       /* of one epoch, 0 = depends on the lengths */
    int32_t pass_rows;    /* most samples of a pass, 0 = any */
} plans[] = {
    { "4", "auto", "on", 6, 0 },  { "4", "2", "on", 6, 2 },
    { "4", "1", "on", 6, 1 },     { "4", "auto", "off", 6, 1 },
    { "21", "auto", "on", 1, 0 }, { "100", "64tokens", "on", 1, 0 },
    { "1", "auto", "on", 21, 1 },
};

/* Batches by rows: every sample once in an epoch, however it is cut. */
START_TEST(rows_make_an_epoch)
{
    bise_settings s;
    bise_feed_plan p;
    bise_feed f;
    tally t = { 0 };
    bise_cursor at = { 0 };
    make(&s, plans[_i].batch, plans[_i].micro, plans[_i].packing);
    ck_ok(bise_feed_plan_make(&p, &s, data, &err));
    ck_assert_uint_eq(p.steps, plans[_i].steps);
    ck_ok(bise_feed_init(&f, &p, data, &err));
    for (uint64_t k = 0; k < p.steps; k++)
        at = run_step(&f, at, &t);
    ck_assert_uint_eq(at.epoch, 1);
    ck_assert_int_eq(t.samples, ROWS);
    ck_assert_int_eq(t.tokens, lengths_sum);
    ck_assert_int_eq(t.targets, lengths_sum);
    ck_assert_int_le(t.most_tokens, p.pass_tokens);
    if (plans[_i].pass_rows)
        ck_assert_int_le(t.most_samples, plans[_i].pass_rows);
    bise_feed_fini(&f);
    bise_settings_fini(&s);
}
END_TEST

/* However a step is cut into passes, it holds the same rows. */
START_TEST(passes_do_not_change_a_step)
{
    static const char *const micro[] = { "auto", "1", "3", "64tokens" };
    tally t[4] = { 0 };
    for (int i = 0; i < 4; i++) {
        bise_settings s;
        bise_feed_plan p;
        bise_feed f;
        make(&s, "8", micro[i], "on");
        ck_ok(bise_feed_plan_make(&p, &s, data, &err));
        ck_ok(bise_feed_init(&f, &p, data, &err));
        (void)run_step(&f, (bise_cursor){ 0 }, &t[i]);
        ck_assert_uint_eq(t[i].sum, t[0].sum);
        ck_assert_int_eq(t[i].samples, 8);
        bise_feed_fini(&f);
        bise_settings_fini(&s);
    }
    ck_assert_int_eq(t[0].passes, 1);
    ck_assert_int_eq(t[1].passes, 8);
    ck_assert_int_eq(t[2].passes, 3);
}
END_TEST

/* Batches by tokens take full packs and run on into the next epoch. */
START_TEST(tokens_fill_packs)
{
    bise_settings s;
    bise_feed_plan p;
    bise_feed f;
    tally all = { 0 };
    bise_cursor at = { 0 };
    make(&s, "200tokens", "100tokens", "on");
    ck_ok(bise_feed_plan_make(&p, &s, data, &err));
    ck_assert_uint_eq(p.step_packs, 2);
    ck_assert(p.pack.packing);
    ck_ok(bise_feed_init(&f, &p, data, &err));
    for (int k = 0; k < 40; k++) {
        tally t = { 0 };
        at = run_step(&f, at, &t);
        ck_assert_int_eq(t.passes, 2);
        ck_assert_int_le(t.most_tokens, 100);
        all.tokens += t.tokens;
        all.samples += t.samples;
    }
    ck_assert_uint_gt(at.epoch, 1);
    ck_assert_int_gt(all.samples, 2 * ROWS);
    /* Best-fit packing leaves little empty. */
    ck_assert_int_gt(all.tokens, 40 * 200 * 7 / 10);
    bise_feed_fini(&f);
    bise_settings_fini(&s);
}
END_TEST

/* Without packing a step takes rows until it has its tokens. */
START_TEST(tokens_without_packing)
{
    bise_settings s;
    bise_feed_plan p;
    bise_feed f;
    make(&s, "150tokens", "auto", "off");
    ck_ok(bise_feed_plan_make(&p, &s, data, &err));
    ck_assert_uint_eq(p.step_packs, 0);
    ck_ok(bise_feed_init(&f, &p, data, &err));
    bise_cursor at = { 0 };
    for (int k = 0; k < 5; k++) {
        tally t = { 0 };
        at = run_step(&f, at, &t);
        ck_assert_int_ge(t.tokens, 150);
        ck_assert_int_lt(t.tokens, 150 + longest);
        ck_assert_int_eq(t.most_samples, 1);
        ck_assert_int_eq(t.passes, t.samples);
    }
    bise_feed_fini(&f);
    bise_settings_fini(&s);
}
END_TEST

/* A cursor repeats its step and what follows, in a feed of its own. */
START_TEST(a_cursor_repeats_the_rest)
{
    bise_settings s;
    bise_feed_plan p;
    bise_feed f;
    bise_cursor at = { 0 }, half = { 0 };
    tally first = { 0 }, again = { 0 };
    make(&s, _i ? "3" : "200tokens", _i ? "auto" : "100tokens", "on");
    ck_ok(bise_feed_plan_make(&p, &s, data, &err));
    ck_ok(bise_feed_init(&f, &p, data, &err));
    for (int k = 0; k < 12; k++) {
        if (k == 5)
            half = at;
        at = run_step(&f, at, k < 5 ? &(tally){ 0 } : &first);
    }
    bise_feed_fini(&f);
    ck_ok(bise_feed_init(&f, &p, data, &err));
    for (int k = 5; k < 12; k++)
        half = run_step(&f, half, &again);
    ck_assert_uint_eq(half.epoch, at.epoch);
    ck_assert_uint_eq(half.pack, at.pack);
    ck_assert_uint_eq(again.sum, first.sum);
    bise_feed_fini(&f);
    bise_settings_fini(&s);
}
END_TEST

/* Seeds give orders, epochs give orders, and both are repeatable. */
START_TEST(the_seed_gives_the_order)
{
    uint64_t sums[3];
    static const char *const seeds[3] = { "1", "2", "1" };
    for (int i = 0; i < 3; i++) {
        bise_settings s;
        bise_feed_plan p;
        bise_feed f;
        tally t = { 0 };
        make(&s, "4", "auto", "on");
        ck_ok(bise_settings_set(&s, "seed", seeds[i], &err));
        ck_ok(bise_settings_resolve(&s, &err));
        ck_ok(bise_feed_plan_make(&p, &s, data, &err));
        ck_ok(bise_feed_init(&f, &p, data, &err));
        (void)run_step(&f, (bise_cursor){ 0 }, &t);
        sums[i] = t.sum;
        bise_feed_fini(&f);
        bise_settings_fini(&s);
    }
    ck_assert_uint_eq(sums[0], sums[2]);
    ck_assert_uint_ne(sums[0], sums[1]);
}
END_TEST

START_TEST(epochs_and_steps)
{
    bise_settings s;
    bise_feed_plan p;
    make(&s, "4", "auto", "on");
    ck_ok(bise_settings_set(&s, "epochs", "3", &err));
    ck_ok(bise_settings_resolve(&s, &err));
    ck_ok(bise_feed_plan_make(&p, &s, data, &err));
    ck_assert_uint_eq(p.steps, 18);
    ck_ok(bise_settings_set(&s, "epochs", "0.1", &err));
    ck_ok(bise_settings_resolve(&s, &err));
    ck_ok(bise_feed_plan_make(&p, &s, data, &err));
    ck_assert_uint_eq(p.steps, 1);
    ck_ok(bise_settings_set(&s, "steps", "7", &err));
    ck_ok(bise_settings_resolve(&s, &err));
    ck_ok(bise_feed_plan_make(&p, &s, data, &err));
    ck_assert_uint_eq(p.steps, 7);
    bise_settings_fini(&s);
}
END_TEST

/* A pass that cannot hold the longest row is refused with both numbers. */
START_TEST(a_pass_must_hold_the_longest_row)
{
    bise_settings s;
    bise_feed_plan p;
    char limit[32], want[32];
    snprintf(limit, sizeof limit, "%dtokens", (int)longest - 2);
    snprintf(want, sizeof want, "is %d tokens", (int)longest - 2);
    make(&s, "4", limit, "on");
    ck_fails(bise_feed_plan_make(&p, &s, data, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, want));
    snprintf(want, sizeof want, "has %d", (int)longest - 1);
    ck_assert_ptr_nonnull(strstr(err.text, want));
    ck_assert_ptr_nonnull(strstr(err.hint, "--max-len"));
    bise_settings_fini(&s);
    make(&s, "none", "auto", "on");
    ck_fails(bise_feed_plan_make(&p, &s, data, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "'batch'"));
    bise_settings_fini(&s);
    make(&s, "4", "some", "on");
    ck_fails(bise_feed_plan_make(&p, &s, data, &err), BISE_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "'micro-batch'"));
    bise_settings_fini(&s);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("feed");
    TCase *t = tcase_create("feed");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, rows_make_an_epoch, 0,
                        sizeof plans / sizeof plans[0]);
    tcase_add_test(t, passes_do_not_change_a_step);
    tcase_add_test(t, tokens_fill_packs);
    tcase_add_test(t, tokens_without_packing);
    tcase_add_loop_test(t, a_cursor_repeats_the_rest, 0, 2);
    tcase_add_test(t, the_seed_gives_the_order);
    tcase_add_test(t, epochs_and_steps);
    tcase_add_test(t, a_pass_must_hold_the_longest_row);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
