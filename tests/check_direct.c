/* check_direct.c - tests of files that are put together by several threads
 * (core/file, core/direct) and read ahead of them (core/ahead), past the page
 * cache where the folder of the tests allows it; the bytes are the same where
 * not.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/ahead.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/pool.h"
#include "tests/check_main.h"

static char dir[64], path[96];

static void enter(void)
{
    snprintf(dir, sizeof dir, "./bise-direct-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a", dir);
}

static void leave(void)
{
    bise_remove_tree(dir);
}

static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i * 2654435761u >> 13);
}

static void set_bytes(uint8_t *to, uint64_t first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = byte_at(first + i);
}

/* ---- putting ---- */

enum { SIZE = (37 << 20) + 4321, HEADER = 5000, PIECE = 777777 };

typedef struct putting {
    bise_out *out;
    uint64_t begin, bad; /* first byte of piece 0; the piece that never comes */
    _Atomic int failed, put;
} putting;

/* One piece; the first of every three is late, as a slow slab would be. */
static void put_piece(void *ctx, size_t index, int worker)
{
    putting *p = ctx;
    bise_error err;
    bise_error_init(&err);
    const uint64_t at = p->begin + (uint64_t)index * PIECE;
    const size_t n = SIZE - at < PIECE ? (size_t)(SIZE - at) : PIECE;
    uint8_t *v = malloc(n);
    (void)worker;
    set_bytes(v, at, n);
    if (index % 3 == 0)
        usleep(2000);
    if (index == p->bad)
        bise_out_cancel(p->out);
    else if (bise_out_put(p->out, at, v, n, &err) == BISE_OK)
        p->put++;
    else
        p->failed++;
    free(v);
}

/* A file of a header and pieces, by a number of threads. */
static void put_all(putting *p, int threads, uint64_t bad)
{
    bise_error err;
    bise_pool *pool;
    uint8_t header[HEADER];
    set_bytes(header, 0, HEADER);
    *p = (putting){ .begin = HEADER, .bad = bad };
    ck_ok(bise_pool_new(&pool, threads, &err));
    ck_ok(bise_out_open(&p->out, path, SIZE, true, &err));
    ck_ok(bise_out_write(p->out, header, HEADER, &err));
    ck_ok(bise_out_resize(p->out, SIZE, &err));
    bise_pool_run(pool, (SIZE - HEADER + PIECE - 1) / PIECE, put_piece, p);
    bise_pool_free(pool);
}

START_TEST(what_threads_put_is_there)
{
    bise_error err;
    putting p;
    bise_str s = { 0 };
    put_all(&p, _i, UINT64_MAX);
    ck_assert_int_eq(p.failed, 0);
    ck_ok(bise_out_commit(p.out, &err));
    ck_ok(bise_file_read(&s, path, &err));
    ck_assert_uint_eq(s.len, SIZE);
    uint8_t *v = malloc(SIZE);
    set_bytes(v, 0, SIZE);
    ck_assert_mem_eq(s.data, v, SIZE);
    free(v);
    bise_str_fini(&s);
}
END_TEST

/* Whoever waits for memory behind the missing piece must come back. */
START_TEST(nobody_waits_for_a_cancelled_file)
{
    putting p;
    put_all(&p, 3, 2);
    ck_assert_int_eq(p.failed, 0);
    bise_out_drop(p.out);
    ck_assert(!bise_file_exists(path));
}
END_TEST

/* All of the puts behind it fail, and so do the waiting ones. */
START_TEST(a_full_disk_fails_the_puts)
{
    putting p = { .bad = UINT64_MAX };
    const struct rlimit few = { 9 << 20, RLIM_INFINITY };
    bise_error err;
    signal(SIGXFSZ, SIG_IGN);
    ck_ok(bise_out_open(&p.out, path, 0, false, &err));
    ck_ok(bise_out_resize(p.out, SIZE, &err));
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &few), 0);
    for (size_t i = 0; i < SIZE / PIECE; i++)
        put_piece(&p, i, 0);
    ck_assert_int_gt(p.failed, 0);
    ck_assert_int_ge(p.put, (9 << 20) / PIECE);
    bise_out_drop(p.out);
    ck_assert(!bise_file_exists(path));
}
END_TEST

/* ---- reading ahead ---- */

enum { FILE_BYTES = (40 << 20) + 999, PART = (1 << 20) + 52 };

/* The file on disk and, as far as the system obliges, not in memory. */
static void cold_file(bise_map *m)
{
    bise_error err;
    uint8_t *v = malloc(FILE_BYTES);
    set_bytes(v, 0, FILE_BYTES);
    ck_ok(bise_file_write(path, v, FILE_BYTES, &err));
    free(v);
    const int fd = open(path, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    ck_ok(bise_map_open(m, path, &err));
}

static void check_bytes(const uint8_t *v, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += i + 64 < n ? 61 : 1)
        if (v[i] != byte_at(first + i))
            ck_abort_msg("byte %llu is wrong",
                         (unsigned long long)(first + i));
}

typedef struct reading {
    bise_ahead_file *ahead;
    uint8_t *scratch[4];
    _Atomic int copied;
} reading;

/* Part index, asked for long before; rows of it first, as when they are
 * permuted, some of them of the neighbour. */
static void read_part(void *ctx, size_t index, int worker)
{
    reading *r = ctx;
    const uint64_t first = (uint64_t)index * PART;
    const uint64_t n = FILE_BYTES - first < PART ? FILE_BYTES - first : PART;
    const uint64_t later = first + 6 * (uint64_t)PART;
    uint8_t *scratch = r->scratch[worker];
    if (later < FILE_BYTES)
        bise_ahead_ask(r->ahead, later, FILE_BYTES - later < PART ?
                       FILE_BYTES - later : PART);
    for (uint64_t at = first; index % 3 && at + 5000 < first + n; at += 50021) {
        const uint8_t *v = bise_ahead_get(r->ahead, at, 5000, scratch);
        check_bytes(v, at, 5000);
        r->copied += v == scratch;
    }
    if (index % 3 != 1)
        check_bytes(bise_ahead_get(r->ahead, first, n, scratch), first, n);
    bise_ahead_done(r->ahead, first > 65536 ? first - 65536 : 0, n + 65536);
}

START_TEST(what_is_read_ahead_is_the_file)
{
    bise_error err;
    bise_map m;
    bise_pool *pool;
    cold_file(&m);
    bise_ahead *a = bise_ahead_new();
    ck_assert_ptr_nonnull(a);
    reading r = { .ahead = bise_ahead_open(a, path, &m) };
    ck_assert_ptr_nonnull(r.ahead);
    for (int i = 0; i < 4; i++)
        r.scratch[i] = malloc(PART);
    ck_ok(bise_pool_new(&pool, _i, &err));
    for (int turn = 0; turn < 2; turn++)
        bise_pool_run(pool, (FILE_BYTES + PART - 1) / PART, read_part, &r);
    bise_pool_free(pool);
    bise_ahead_close(r.ahead);
    bise_ahead_free(a);
    bise_map_close(&m);
    for (int i = 0; i < 4; i++)
        free(r.scratch[i]);
}
END_TEST

/* What was never asked for, what is too short, more than there is room for,
 * the same twice, and asking for what nobody takes. */
START_TEST(anything_may_be_asked_for)
{
    bise_map m;
    cold_file(&m);
    uint8_t *scratch = malloc(4 * PART);
    bise_ahead *reader = bise_ahead_new();
    bise_ahead_file *a = bise_ahead_open(reader, path, &m);
    ck_assert_ptr_eq(bise_ahead_get(a, 7, 99, scratch), m.data + 7);
    bise_ahead_ask(a, 64, 200);
    ck_assert_ptr_eq(bise_ahead_get(a, 64, 200, scratch), m.data + 64);
    for (uint64_t i = 0; i < 30; i++)
        bise_ahead_ask(a, i / 2 * PART, PART);
    for (uint64_t i = 0; i < 30; i++) {
        const uint64_t at = i / 2 * PART;
        check_bytes(bise_ahead_get(a, at, PART, scratch), at, PART);
        bise_ahead_done(a, at, PART);
    }
    bise_ahead_ask(a, 20 * (uint64_t)PART, 4 * PART);
    check_bytes(bise_ahead_get(a, 20 * (uint64_t)PART, 4 * PART, scratch),
                20 * (uint64_t)PART, 4 * PART);
    bise_ahead_ask(a, FILE_BYTES - PART, PART);
    bise_ahead_done(a, 0, FILE_BYTES);
    check_bytes(bise_ahead_get(a, FILE_BYTES - PART, PART, scratch),
                FILE_BYTES - PART, PART);
    bise_ahead_ask(a, 30 * (uint64_t)PART, PART);
    bise_ahead_close(a);
    bise_ahead_close(NULL);
    bise_ahead_free(reader);
    bise_ahead_free(NULL);
    bise_map_close(&m);
    free(scratch);
}
END_TEST

/* A file that has lost its end since it was mapped: the first part is right,
 * and asking for the others does no harm. */
START_TEST(a_file_may_shrink)
{
    bise_map m;
    cold_file(&m);
    ck_assert_int_eq(truncate(path, PART + 17), 0);
    uint8_t *scratch = malloc(PART);
    bise_ahead *reader = bise_ahead_new();
    bise_ahead_file *a = bise_ahead_open(reader, path, &m);
    bise_ahead_ask(a, 0, PART);
    bise_ahead_ask(a, PART, PART);
    check_bytes(bise_ahead_get(a, 0, PART, scratch), 0, PART);
    bise_ahead_get(a, PART, PART, scratch);
    bise_ahead_done(a, 0, FILE_BYTES);
    bise_ahead_close(a);
    bise_ahead_free(reader);
    bise_map_close(&m);
    free(scratch);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("direct");
    TCase *t = tcase_create("direct");
    tcase_add_checked_fixture(t, enter, leave);
    tcase_add_loop_test(t, what_threads_put_is_there, 1, 5);
    tcase_add_test(t, nobody_waits_for_a_cancelled_file);
    tcase_add_test(t, a_full_disk_fails_the_puts);
    tcase_add_loop_test(t, what_is_read_ahead_is_the_file, 1, 5);
    tcase_add_test(t, anything_may_be_asked_for);
    tcase_add_test(t, a_file_may_shrink);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
