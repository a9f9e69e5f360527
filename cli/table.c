/* table.c - lay out cells in columns two blanks apart, cut to the width of a
 * terminal; see table.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

void bise_table_init(bise_table *t, int cols, const char *const *heads)
{
    memset(t, 0, sizeof *t);
    t->cols = cols < BISE_TABLE_COLS ? cols : BISE_TABLE_COLS;
    for (int i = 0; i < t->cols; i++)
        t->heads[i] = heads[i];
}

/* A cell is at most 511 bytes. */
void bise_table_add(bise_table *t, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    void *p = t->cells;
    if (bise_grow(&p, &t->cap, t->n + 1, sizeof *t->cells) != 0)
        return;
    t->cells = p;
    t->cells[t->n++] = bise_strdup(text);
}

/* Characters (not bytes) of UTF-8 text. */
static int text_width(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static const char *head_text(const bise_table *t, int col)
{
    return t->heads[col] + (t->heads[col][0] == '>');
}

/* One cell, padded to w; cut with an ellipsis of dots when longer. */
static void put_cell(bise_str *out, const char *text, int w, bool right,
                     bool last)
{
    const int n = text_width(text);
    if (n > w && w > 3) {
        bise_str_add(out, text, (size_t)w - 2);
        bise_str_puts(out, "..");
        return;
    }
    if (right)
        bise_str_printf(out, "%*s", w - n, "");
    bise_str_puts(out, text);
    if (!right && !last)
        bise_str_printf(out, "%*s", w - n, "");
}

/* Column widths; the widest left-aligned column gives way to fit. */
static void measure(const bise_table *t, int width, int *w)
{
    int total = 0, widest = -1;
    for (int c = 0; c < t->cols; c++) {
        w[c] = text_width(head_text(t, c));
        for (size_t i = (size_t)c; i < t->n; i += (size_t)t->cols) {
            const int n = t->cells[i] ? text_width(t->cells[i]) : 0;
            w[c] = n > w[c] ? n : w[c];
        }
        total += w[c] + (c ? 2 : 0);
        if (t->heads[c][0] != '>' && (widest < 0 || w[c] > w[widest]))
            widest = c;
    }
    if (width && total > width && widest >= 0 && w[widest] > 12) {
        const int cut = w[widest] - (total - width);
        w[widest] = cut > 12 ? cut : 12;
    }
}

/* Row 0 is the heads; the last left-aligned column gets no trailing blanks. */
void bise_table_put(bise_str *out, const bise_table *t, int width)
{
    int w[BISE_TABLE_COLS];
    measure(t, width, w);
    const size_t cols = (size_t)t->cols;
    for (size_t row = 0; row <= t->n / cols; row++) {
        for (int c = 0; c < t->cols; c++) {
            const size_t i = (row - 1) * cols + (size_t)c;
            const char *cell = row == 0 ? head_text(t, c) :
                               i < t->n && t->cells[i] ? t->cells[i] : "";
            if (c)
                bise_str_puts(out, "  ");
            put_cell(out, cell, w[c], t->heads[c][0] == '>',
                     c == t->cols - 1);
        }
        bise_str_putc(out, '\n');
    }
}

/* Cells are copies; heads were borrowed. */
void bise_table_fini(bise_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        bise_free(t->cells[i]);
    bise_free(t->cells);
    memset(t, 0, sizeof *t);
}
