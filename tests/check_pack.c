/* check_pack.c - tests of text/order and text/pack: permutations, every sample
 * once an epoch, bins within their capacity, resume from any cursor, weights,
 * and the shift of inputs and targets.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "core/rng.h"
#include "tests/data_fixture.h"
#include "text/order.h"
#include "text/pack.h"

/* n token rows: row i has 2 + (i * 37) % 60 ids, the second of which is its
 * number + base. */
static char *rows_of(const char *name, int n, int base)
{
    bise_str s = { 0 };
    for (int i = 0; i < n; i++) {
        bise_str_printf(&s, "{\"input_ids\":[1,%d", base + i);
        for (int k = 0; k < i * 37 % 60; k++)
            bise_str_printf(&s, ",%d", 40 + k);
        bise_str_puts(&s, "]}\n");
    }
    char *path = fixture_file(name, s.data);
    bise_str_fini(&s);
    return path;
}

static bise_dataset *open_rows(int n)
{
    bise_error err;
    bise_dataset *d = NULL;
    char *path = rows_of("rows.jsonl", n, 100);
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    bise_free(path);
    return d;
}

/* Row numbers of one pack, after checking its layout against the dataset. */
static int rows_in(const bise_dataset *d, const bise_pack *p, int *numbers)
{
    int supervised = 0;
    ck_assert_int_eq(p->seg[0], 0);
    ck_assert_int_eq(p->seg[p->n_seg], p->T);
    ck_assert_int_eq(p->rows, p->n_seg);
    for (int s = 0; s < p->n_seg; s++) {
        const int from = p->seg[s], n = p->seg[s + 1] - from;
        const int number = p->targets[from] - 100;  /* second id of the row */
        bise_row row;
        bise_dataset_row(d, (uint64_t)number, &row);
        ck_assert_int_eq(n, row.n - 1);
        for (int i = 0; i < n; i++) {
            ck_assert_int_eq(p->ids[from + i], row.ids[i]);
            ck_assert_int_eq(p->targets[from + i], row.ids[i + 1]);
        }
        supervised += n;
        numbers[s] = number;
    }
    ck_assert_int_eq(supervised, p->supervised);
    return p->n_seg;
}

START_TEST(permutation_hits_every_number_once)
{
    static const uint64_t sizes[] = { 1, 2, 3, 5, 16, 17, 1000, 4097 };
    const uint64_t n = sizes[_i];
    uint8_t *seen = bise_alloc(n);
    uint64_t fixed = 0;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t p = bise_permute(i, n, 7, 3);
        ck_assert_uint_lt(p, n);
        ck_assert_int_eq(seen[p]++, 0);
        fixed += p == i;
    }
    if (n > 100)
        ck_assert_uint_lt(fixed, 12);
    bise_free(seen);
}
END_TEST

START_TEST(permutations_of_other_seeds_and_epochs_differ)
{
    int same_seed = 0, same_stream = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        same_seed += bise_permute(i, 1000, 1, 0) == bise_permute(i, 1000, 2, 0);
        same_stream +=
            bise_permute(i, 1000, 1, 0) == bise_permute(i, 1000, 1, 1);
    }
    ck_assert_int_lt(same_seed, 12);
    ck_assert_int_lt(same_stream, 12);
}
END_TEST

/* Each rank of the order is drawn about equally often over many epochs. */
START_TEST(shuffle_is_even)
{
    int count[16][16] = { { 0 } };
    for (uint64_t epoch = 0; epoch < 3200; epoch++)
        for (uint64_t i = 0; i < 16; i++)
            count[i][bise_permute(i, 16, 5, epoch)]++;
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)        /* 200 expected, sigma 14 */
            ck_assert_msg(count[i][k] > 125 && count[i][k] < 275,
                          "%d -> %d: %d", i, k, count[i][k]);
}
END_TEST

START_TEST(packs_hold_every_sample_once_an_epoch)
{
    bise_error err;
    bise_dataset *d = open_rows(2500);      /* three windows */
    bise_packer *p = NULL;
    const bise_pack_options o = { .max_tokens = 128, .packing = true,
                                  .shuffle = true, .seed = 11 };
    ck_ok(bise_packer_new(&p, d, &o, &err));
    bise_cursor at = { 0, 0 };
    for (uint64_t epoch = 0; epoch < 2; epoch++) {
        uint8_t seen[2500] = { 0 };
        uint64_t packs = 0, tokens = 0, n = 0;
        double empty = 1;
        ck_ok(bise_packer_count(p, epoch, &packs, &empty, &err));
        for (; at.epoch == epoch; n++) {
            bise_pack pack;
            int numbers[128];
            ck_ok(bise_packer_next(p, &at, &pack, &err));
            ck_assert_int_le(pack.T, 128);
            tokens += (uint64_t)pack.T;
            const int rows = rows_in(d, &pack, numbers);
            for (int i = 0; i < rows; i++)
                ck_assert_int_eq(seen[numbers[i]]++, 0);
        }
        ck_assert_uint_eq(n, packs);
        for (int i = 0; i < 2500; i++)
            ck_assert_int_eq(seen[i], 1);
        ck_assert_uint_eq(tokens, bise_dataset_stats_of(d)->supervised);
        const double want = 1 - (double)tokens / ((double)packs * 128);
        ck_assert(empty > want - 1e-9 && empty < want + 1e-9);
        ck_assert(empty < 0.02);            /* best fit leaves little */
    }
    bise_packer_free(p);
    bise_dataset_close(d);
}
END_TEST

/* A new packer that starts at any cursor gives the rest of the sequence. */
START_TEST(any_cursor_resumes)
{
    bise_error err;
    bise_dataset *d = open_rows(1300);
    const bise_pack_options o = { .max_tokens = 200, .packing = _i == 0,
                                  .rows_per_pack = 7, .shuffle = true,
                                  .seed = 3 };
    bise_packer *p = NULL;
    bise_cursor at = { 0, 0 };
    bise_pack a, b;
    ck_ok(bise_packer_new(&p, d, &o, &err));
    for (int i = 0; i < 500; i++) {
        const bise_cursor here = at;
        ck_ok(bise_packer_next(p, &at, &a, &err));
        if (i % 61)
            continue;
        bise_packer *q = NULL;
        bise_cursor there = here;
        ck_ok(bise_packer_new(&q, d, &o, &err));
        ck_ok(bise_packer_next(q, &there, &b, &err));
        ck_assert_int_eq(a.T, b.T);
        ck_assert_int_eq(memcmp(a.ids, b.ids, (size_t)a.T * 4), 0);
        ck_assert_int_eq(memcmp(a.targets, b.targets, (size_t)a.T * 4), 0);
        ck_assert_int_eq(memcmp(a.seg, b.seg, (size_t)a.n_seg * 4), 0);
        ck_assert_int_eq(memcmp(&at, &there, sizeof at), 0);
        bise_packer_free(q);
    }
    ck_assert_uint_gt(at.epoch, 0);
    bise_packer_free(p);
    bise_dataset_close(d);
}
END_TEST

START_TEST(rows_without_shuffle_come_in_file_order)
{
    bise_error err;
    bise_dataset *d = open_rows(20);
    const bise_pack_options o = { .rows_per_pack = 8 };
    bise_packer *p = NULL;
    bise_cursor at = { 0, 0 };
    uint64_t packs = 0;
    int next = 0;
    ck_ok(bise_packer_new(&p, d, &o, &err));
    ck_ok(bise_packer_count(p, 0, &packs, NULL, &err));
    ck_assert_uint_eq(packs, 3);
    static const int sizes[] = { 8, 8, 4 };
    for (int i = 0; i < 3; i++) {
        bise_pack pack;
        int numbers[20];
        ck_ok(bise_packer_next(p, &at, &pack, &err));
        ck_assert_int_eq(rows_in(d, &pack, numbers), sizes[i]);
        for (int k = 0; k < sizes[i]; k++)
            ck_assert_int_eq(numbers[k], next++);
    }
    ck_assert_uint_eq(at.epoch, 1);
    ck_assert_uint_eq(at.pack, 0);
    bise_packer_free(p);
    bise_dataset_close(d);
}
END_TEST

START_TEST(masked_targets_are_minus_one)
{
    bise_error err;
    bise_dataset *d = NULL;
    bise_packer *p = NULL;
    bise_pack pack;
    bise_cursor at = { 0, 0 };
    char *path = fixture_file("m.jsonl", "{\"input_ids\":[1,5,6,7],"
                                         "\"labels\":[-100,-100,6,-100]}");
    const bise_pack_options o = { .max_tokens = 3, .packing = true };
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    ck_ok(bise_packer_new(&p, d, &o, &err));
    ck_ok(bise_packer_next(p, &at, &pack, &err));
    ck_assert_int_eq(pack.T, 3);
    ck_assert_int_eq(pack.targets[0], -1);
    ck_assert_int_eq(pack.targets[1], 6);
    ck_assert_int_eq(pack.targets[2], -1);
    ck_assert_int_eq(pack.supervised, 1);
    bise_packer_free(p);
    const bise_pack_options small = { .max_tokens = 2, .packing = true };
    ck_fails(bise_packer_new(&p, d, &small, &err), BISE_EINVAL);
    bise_dataset_close(d);
    bise_free(path);
}
END_TEST

START_TEST(weights_share_the_epoch)
{
    bise_error err;
    bise_dataset *d = NULL;
    bise_order *order = NULL;
    char *a = rows_of("a.jsonl", 300, 100), *b = rows_of("b.jsonl", 100, 100);
    bise_str wa = { 0 }, wb = { 0 };
    bise_str_printf(&wa, "%s:0.3", a);
    bise_str_printf(&wb, "%s:0.7", b);
    const char *files[] = { wa.data, wb.data };
    const bise_dataset_options o = {
        .files = files, .n_files = 2, .tokenizer = fixture_tok,
        .chat = fixture_chat,
    };
    ck_ok(bise_dataset_open(&d, &o, &err));
    ck_ok(bise_order_new(&order, d, _i, 9, &err));
    ck_assert_uint_eq(bise_order_count(order), 400);
    int seen[400] = { 0 };
    for (uint64_t epoch = 0; epoch < 5; epoch++) {
        int from_a = 0;
        for (uint64_t i = 0; i < 400; i++) {
            const uint64_t s = bise_order_at(order, epoch, i);
            ck_assert_uint_lt(s, 400);
            from_a += s < 300;
            seen[s]++;
        }
        ck_assert_int_eq(from_a, 120);      /* 30 % of 400 */
    }
    /* 600 draws of 300 rows, 1400 of 100: all equally often */
    for (int i = 0; i < 400; i++)
        ck_assert_int_eq(seen[i], i < 300 ? 2 : 14);
    bise_order_free(order);
    bise_dataset_close(d);
    bise_str_fini(&wa);
    bise_str_fini(&wb);
    bise_free(a);
    bise_free(b);
}
END_TEST

/* Best fit decreasing on lengths whose packing is known: inputs 7 5 4 3 1 fill
 * two packs of 10 without a rest. */
START_TEST(best_fit_fills_known_bins)
{
    static const int inputs[] = { 4, 1, 7, 3, 5 };
    bise_error err;
    bise_dataset *d = NULL;
    bise_packer *p = NULL;
    bise_str s = { 0 };
    for (int i = 0; i < 5; i++) {
        bise_str_puts(&s, "{\"input_ids\":[1");
        for (int k = 0; k < inputs[i]; k++)
            bise_str_printf(&s, ",%d", 100 + i);
        bise_str_puts(&s, "]}\n");
    }
    char *path = fixture_file("known.jsonl", s.data);
    ck_ok(fixture_open(&d, path, 0, BISE_TOO_LONG_CUT, &err));
    const bise_pack_options o = { .max_tokens = 10, .packing = true };
    uint64_t packs = 0;
    double empty = 1;
    bise_cursor at = { 0, 0 };
    ck_ok(bise_packer_new(&p, d, &o, &err));
    ck_ok(bise_packer_count(p, 0, &packs, &empty, &err));
    ck_assert_uint_eq(packs, 2);
    ck_assert(empty == 0);
    /* inside a pack the rows stand in the order of the file */
    static const int want[2][3] = { { 102, 103, 0 }, { 100, 101, 104 } };
    for (int i = 0; i < 2; i++) {
        bise_pack pack;
        ck_ok(bise_packer_next(p, &at, &pack, &err));
        ck_assert_int_eq(pack.T, 10);
        ck_assert_int_eq(pack.rows, want[i][2] ? 3 : 2);
        for (int k = 0; k < pack.n_seg; k++)
            ck_assert_int_eq(pack.targets[pack.seg[k]], want[i][k]);
    }
    bise_packer_free(p);
    bise_packer_free(NULL);
    bise_dataset_close(d);
    bise_str_fini(&s);
    bise_free(path);
}
END_TEST

/* The rows of an epoch as a string of packs "3 1|2 0|". */
static char *epoch_of(bise_packer *p, const bise_dataset *d, uint64_t epoch)
{
    bise_error err;
    bise_str s = { 0 };
    bise_cursor at = { epoch, 0 };
    while (at.epoch == epoch) {
        bise_pack pack;
        int numbers[128];
        ck_ok(bise_packer_next(p, &at, &pack, &err));
        const int n = rows_in(d, &pack, numbers);
        for (int i = 0; i < n; i++)
            bise_str_printf(&s, "%s%d", i ? " " : "", numbers[i]);
        bise_str_putc(&s, '|');
    }
    return bise_str_take(&s);
}

/* Equal seeds give equal epochs in any order of asking; other seeds and other
 * epochs give others; without shuffling every epoch is the same. */
START_TEST(order_depends_on_seed_and_epoch_only)
{
    bise_error err;
    bise_dataset *d = open_rows(90);
    bise_pack_options o = { .max_tokens = 100, .packing = _i == 1,
                            .rows_per_pack = 4, .shuffle = true, .seed = 1 };
    bise_packer *a = NULL, *b = NULL, *c = NULL, *e = NULL;
    ck_ok(bise_packer_new(&a, d, &o, &err));
    ck_ok(bise_packer_new(&b, d, &o, &err));
    o.seed = 2;
    ck_ok(bise_packer_new(&c, d, &o, &err));
    o.shuffle = false;
    ck_ok(bise_packer_new(&e, d, &o, &err));
    char *a0 = epoch_of(a, d, 0), *a1 = epoch_of(a, d, 1);
    char *b1 = epoch_of(b, d, 1), *b0 = epoch_of(b, d, 0);
    char *c0 = epoch_of(c, d, 0);
    char *e0 = epoch_of(e, d, 0), *e5 = epoch_of(e, d, 5);
    ck_assert_str_eq(a0, b0);
    ck_assert_str_eq(a1, b1);
    ck_assert_str_ne(a0, a1);
    ck_assert_str_ne(a0, c0);
    ck_assert_str_eq(e0, e5);
    char *const all[] = { a0, a1, b0, b1, c0, e0, e5 };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        bise_free(all[i]);
    bise_packer *const packers[] = { a, b, c, e };
    for (size_t i = 0; i < sizeof packers / sizeof *packers; i++)
        bise_packer_free(packers[i]);
    bise_dataset_close(d);
}
END_TEST

/* A cursor saved under other settings may lie past the end of its epoch. */
START_TEST(cursor_past_the_end_goes_on)
{
    bise_error err;
    bise_dataset *d = open_rows(10);
    const bise_pack_options o = { .rows_per_pack = 3 };
    bise_packer *p = NULL;
    bise_pack pack;
    bise_cursor at = { 4, 1000 };
    int numbers[16];
    ck_ok(bise_packer_new(&p, d, &o, &err));
    ck_ok(bise_packer_next(p, &at, &pack, &err));
    ck_assert_int_eq(rows_in(d, &pack, numbers), 3);
    ck_assert_int_eq(numbers[0], 0);
    ck_assert_uint_eq(at.epoch, 5);
    ck_assert_uint_eq(at.pack, 1);
    bise_packer_free(p);
    bise_dataset_close(d);
}
END_TEST

static const struct {
    bise_pack_options o;
    const char *words;
} refused[] = {
    { { .packing = true, .max_tokens = 0 }, "room for a token" },
    { { .packing = true, .max_tokens = -5 }, "room for a token" },
    { { .packing = true, .max_tokens = 20 }, "does not fit packs of 20" },
    { { .rows_per_pack = -1 }, "rows per pack is negative" },
};

START_TEST(impossible_options_are_refused)
{
    bise_error err;
    bise_dataset *d = open_rows(30);
    bise_packer *p = NULL;
    ck_fails(bise_packer_new(&p, d, &refused[_i].o, &err), BISE_EINVAL);
    ck_assert_msg(strstr(err.text, refused[_i].words) != NULL, "%s", err.text);
    ck_assert_ptr_null(p);
    bise_dataset_close(d);
}
END_TEST

/* Every allocation of a packer and its first pack fails once. */
START_TEST(failing_memory_is_an_error)
{
    bise_error err;
    bise_dataset *d = open_rows(200);
    const bise_pack_options o = { .max_tokens = 500, .packing = true,
                                  .shuffle = true };
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        bise_packer *p = NULL;
        bise_cursor at = { 0, 0 };
        bise_pack pack;
        bise_error_init(&err);
        bise_alloc_fail_after(n);
        bise_status s = bise_packer_new(&p, d, &o, &err);
        if (s == BISE_OK)
            s = bise_packer_next(p, &at, &pack, &err);
        bise_alloc_fail_after(0);
        done = s == BISE_OK;
        if (!done)
            ck_assert_int_eq(s, BISE_ENOMEM);
        if (p && !done)                 /* a failed pack moves nothing */
            ck_assert_uint_eq(at.pack, 0);
        bise_packer_free(p);
        ck_assert_uint_lt(n, 100);
    }
    bise_dataset_close(d);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("pack");
    TCase *c = tcase_create("pack");
    tcase_set_timeout(c, 30);
    tcase_add_unchecked_fixture(c, fixture_tokenizer, fixture_no_tokenizer);
    tcase_add_checked_fixture(c, fixture_folder, fixture_no_folder);
    tcase_add_loop_test(c, permutation_hits_every_number_once, 0, 8);
    tcase_add_test(c, permutations_of_other_seeds_and_epochs_differ);
    tcase_add_test(c, shuffle_is_even);
    tcase_add_test(c, packs_hold_every_sample_once_an_epoch);
    tcase_add_loop_test(c, any_cursor_resumes, 0, 2);
    tcase_add_test(c, rows_without_shuffle_come_in_file_order);
    tcase_add_test(c, masked_targets_are_minus_one);
    tcase_add_test(c, best_fit_fills_known_bins);
    tcase_add_loop_test(c, order_depends_on_seed_and_epoch_only, 0, 2);
    tcase_add_test(c, cursor_past_the_end_goes_on);
    tcase_add_loop_test(c, impossible_options_are_refused, 0,
                        sizeof refused / sizeof *refused);
    tcase_add_test(c, failing_memory_is_an_error);
    tcase_add_loop_test(c, weights_share_the_epoch, 0, 2);
    suite_add_tcase(s, c);
    return s;
}

BISE_CHECK_MAIN
