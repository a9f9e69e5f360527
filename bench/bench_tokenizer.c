/* bench_tokenizer.c - bytes per second of encoding a text file, cut at line
 * ends into documents of about 64 KB, on 1 or N threads.
 *   bench_tokenizer TOKENIZER TEXT [THREADS [RUNS [IDS]]]
 * CSV: area,case,threads,bytes,ids,min_ns,median_ns,MB_s. IDS is a file for
 * the ids of the last run (int32), which bench_tokenizer.py compares.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/mem.h"
#include "core/pool.h"
#include "text/tokenizer.h"

#define DOCUMENT 65536
#define RUNS_MAX 99

typedef struct documents {
    const bise_tokenizer *t;
    const char *text;
    size_t *from;       /* [n + 1] */
    size_t n;
    bise_ids *ids;      /* [n] */
    bool failed;
} documents;

/* Cut behind the first line end after each 64 KB. */
static int cut(documents *d, size_t len)
{
    d->from = bise_alloc_array(len / DOCUMENT + 2, sizeof *d->from);
    if (!d->from)
        return -1;
    for (size_t at = 0; at < len;) {
        d->from[d->n++] = at;
        if (len - at <= DOCUMENT)
            break;
        const char *end = memchr(d->text + at + DOCUMENT, '\n',
                                 len - at - DOCUMENT);
        at = end ? (size_t)(end - d->text) + 1 : len;
    }
    d->from[d->n] = len;
    d->ids = bise_alloc_array(d->n, sizeof *d->ids);
    return d->ids ? 0 : -1;
}

/* A task: one document. Documents are independent, so threads share only the
 * tokenizer, which is read-only. */
static void encode(void *ctx, size_t i, int worker)
{
    documents *d = ctx;
    bise_error err;
    bise_error_init(&err);
    (void)worker;
    d->ids[i].n = 0;
    if (bise_tokenizer_encode(d->t, d->text + d->from[i],
                              d->from[i + 1] - d->from[i], 0, &d->ids[i],
                              &err) != BISE_OK)
        d->failed = true;
}

/* Ascending times, for the least and the median. */
static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* All ids in a row as int32, for the comparison with the judges. */
static int write_ids(const documents *d, const char *path)
{
    FILE *f = fopen(path, "wb");
    int rc = f ? 0 : -1;
    for (size_t i = 0; i < d->n && !rc; i++)
        if (fwrite(d->ids[i].v, sizeof(int32_t), d->ids[i].n, f) !=
            d->ids[i].n)
            rc = -1;
    return f && fclose(f) ? -1 : rc;
}

/* Time runs of encoding all documents; the first is not counted. The first
 * pass also grows the lists of ids, so that later ones measure encoding
 * alone. */
static void measure(documents *d, int threads, int runs, size_t bytes)
{
    uint64_t ns[RUNS_MAX];
    bise_pool *pool = NULL;
    bise_error err;
    bise_error_init(&err);
    if (bise_pool_new(&pool, threads, &err) != BISE_OK)
        exit(1);
    bise_pool_run(pool, d->n, encode, d);
    for (int r = 0; r < runs; r++) {
        const uint64_t start = bise_clock_ns();
        bise_pool_run(pool, d->n, encode, d);
        ns[r] = bise_clock_ns() - start;
    }
    size_t ids = 0;
    for (size_t i = 0; i < d->n; i++)
        ids += d->ids[i].n;
    qsort(ns, (size_t)runs, sizeof *ns, by_value);
    printf("tokenizer,encode,%d,%zu,%zu,%llu,%llu,%.1f\n", threads, bytes, ids,
           (unsigned long long)ns[0], (unsigned long long)ns[runs / 2],
           (double)bytes * 1e3 / (double)ns[0]);
    bise_pool_free(pool);
}

/* Usage errors exit 2, unreadable files 1. */
int main(int argc, char **argv)
{
    bise_tokenizer *t = NULL;
    bise_str text = { 0 };
    bise_error err;
    bise_error_init(&err);
    if (argc < 3) {
        fputs("usage: bench_tokenizer TOKENIZER TEXT [THREADS [RUNS [IDS]]]\n",
              stderr);
        return 2;
    }
    const int threads = argc > 3 ? atoi(argv[3]) : 1;
    const int runs = argc > 4 ? atoi(argv[4]) : 7;
    if (bise_tokenizer_load(&t, argv[1], &err) != BISE_OK ||
        bise_file_read(&text, argv[2], &err) != BISE_OK) {
        fprintf(stderr, "bench_tokenizer: %s [%s]\n", err.text, err.path);
        return 1;
    }
    documents d = { .t = t, .text = bise_str_get(&text) };
    if (threads < 1 || runs < 1 || runs > RUNS_MAX || cut(&d, text.len) != 0)
        return 1;
    measure(&d, threads, runs, text.len);
    const int rc = d.failed || (argc > 5 && write_ids(&d, argv[5]) != 0);
    for (size_t i = 0; i < d.n; i++)
        bise_ids_fini(&d.ids[i]);
    bise_free(d.ids);
    bise_free(d.from);
    bise_str_fini(&text);
    bise_tokenizer_free(t);
    return rc;
}
