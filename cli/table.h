/* table.h - aligned text tables for reports: give the column heads, add cells
 * row by row, append to a string. Numbers are right-aligned when the head
 * starts with '>'. The last left-aligned column is cut to fit the width.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_TABLE_H
#define BISE_CLI_TABLE_H

#include <stddef.h>

#include "core/attr.h"
#include "core/str.h"

#define BISE_TABLE_COLS 12

typedef struct bise_table {
    const char *heads[BISE_TABLE_COLS]; /* ">size": right-aligned "size" */
    int cols;
    char **cells;
    size_t n, cap;
} bise_table;

/* Start with cols heads (borrowed). */
void bise_table_init(bise_table *t, int cols, const char *const *heads);
/* Add the next cell, row by row. */
void bise_table_add(bise_table *t, const char *fmt, ...) BISE_PRINTF(2, 3);
/* Append the table to out, at most width columns wide (0: unlimited). */
void bise_table_put(bise_str *out, const bise_table *t, int width);
void bise_table_fini(bise_table *t);

#endif
