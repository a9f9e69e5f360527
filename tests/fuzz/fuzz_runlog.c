/* fuzz_runlog.c - any bytes as a log.jsonl: what reads must make a report whose
 * texts are escaped (no script can come in through a log), and must be written
 * and read back with the same number of lines.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "finetune/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The page and the chart of a log that could be read. */
static void report(const bise_runlog_data *d)
{
    bise_error err;
    bise_str html = { 0 }, svg = { 0 };
    bise_error_init(&err);
    if (bise_report_html(&html, d, d->run, &err) != BISE_OK && d->n)
        abort();
    if (strstr(bise_str_get(&html), "<script"))
        abort();
    bise_error_init(&err);
    if (bise_report_svg(&svg, d, &err) != BISE_OK)
        abort();
    bise_str_fini(&html);
    bise_str_fini(&svg);
}

/* All lines again through the writer. */
static void write_again(const bise_runlog_data *d, const char *path)
{
    bise_error err;
    bise_runlog *l;
    bise_runlog_data again = { 0 };
    bise_error_init(&err);
    if (bise_runlog_open(&l, path, -1, &err) != BISE_OK)
        abort();
    for (size_t i = 0; i < d->n; i++)
        if (bise_runlog_add(l, &d->lines[i], NULL, &err) != BISE_OK)
            abort();
    if (bise_runlog_close(l, &err) != BISE_OK ||
        bise_runlog_read(&again, path, &err) != BISE_OK || again.n != d->n)
        abort();
    bise_runlog_data_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    bise_error err;
    bise_runlog_data d = { 0 };
    snprintf(path, sizeof path, "/tmp/bise-fuzz-log-%ld", (long)getpid());
    bise_error_init(&err);
    if (bise_file_write(path, data, size, &err) != BISE_OK)
        abort();
    if (bise_runlog_read(&d, path, &err) == BISE_OK) {
        report(&d);
        write_again(&d, path);
        bise_runlog_data_fini(&d);
    } else if (!err.text[0] || d.lines) {
        abort();
    }
    unlink(path);
    return 0;
}
