/* data_print.h - how `bise data` draws: a histogram of lengths in 80 columns,
 * and samples as text with their trained part marked.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_DATA_PRINT_H
#define BISE_CLI_DATA_PRINT_H

#include <stdbool.h>

#include "core/str.h"
#include "text/audit.h"
#include "text/tokenizer.h"

/* Append bars of the samples by length, at most 80 columns wide and 14 lines
 * high: what lies beyond the 99th percentile shares the last line. */
void bise_data_histogram(bise_str *out, const bise_audit *a);
/* Append a sample as text, special tokens by name. Trained runs are bold green
 * with color, else between [[ and ]]. Control characters are spelled out. */
void bise_data_render(bise_str *out, const bise_row *row,
                      const bise_tokenizer *t, bool color);
/* Append text with control characters spelled out: a terminal must not obey
 * what stands in a data file. */
void bise_data_safe(bise_str *out, const char *text, size_t n);
/* Number with commas between groups of three: "12,345". Returns out. */
char *bise_data_number(char out[32], uint64_t n);

#endif
