/* data_print.c - called by cmd_data.c: histogram and samples of `bise data`;
 * see data_print.h.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/data_print.h"

#include <stdio.h>
#include <string.h>

#define BARS 13       /* lines of the histogram, without the last */
#define BAR_WIDTH 46  /* characters of the longest bar */

/* A comma before every group of three that is not the first. */
char *bise_data_number(char out[32], uint64_t n)
{
    char digits[24];
    const int len = snprintf(digits, sizeof digits, "%llu",
                             (unsigned long long)n);
    char *p = out;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            *p++ = ',';
        *p++ = digits[i];
    }
    *p = 0;
    return out;
}

/* Smallest of 1 2 5 10 20 50 ... whose BARS multiples reach top. */
static int32_t bar_step(int32_t top)
{
    static const int32_t mantissa[] = { 1, 2, 5 };
    for (int32_t ten = 1; ten < 100000000; ten *= 10)
        for (int i = 0; i < 3; i++)
            if ((int64_t)ten * mantissa[i] * BARS > top)
                return ten * mantissa[i];
    return 1000000000;
}

/* 15 columns of label, the bar, 13 of number: 77 in all. */
static void put_bar(bise_str *out, const char *label, uint64_t n, uint64_t most)
{
    char number[32];
    int width = (int)((double)n / (double)most * BAR_WIDTH + 0.5);
    if (n && !width)
        width = 1;              /* a rare length is still there */
    bise_str_printf(out, "%15s  ", label);
    for (int i = 0; i < BAR_WIDTH; i++)
        bise_str_putc(out, i < width ? '#' : ' ');
    bise_str_printf(out, " %12s\n", bise_data_number(number, n));
}

/* Bars of equal width up to the 99th percentile, the rest in one: a few very
 * long rows must not press all others into a single bar. */
void bise_data_histogram(bise_str *out, const bise_audit *a)
{
    const int32_t top = bise_audit_quantile(a, 0.99);
    const int32_t step = bar_step(top);
    uint64_t count[BARS + 1] = { 0 }, most = 1;
    int first = BARS, last = 0;
    for (int32_t i = 0; i <= BISE_AUDIT_LENGTHS; i++) {
        if (!a->lengths[i])
            continue;
        /* the counter of all longer samples belongs to the last line */
        int bar = i < BISE_AUDIT_LENGTHS && i / step < BARS ? i / step : BARS;
        if (i > top && bar > top / step)
            bar = BARS;
        count[bar] += a->lengths[i];
    }
    for (int i = 0; i <= BARS; i++) {
        if (count[i])
            last = i;
        if (count[i] && first == BARS)
            first = i;
        if (count[i] > most)
            most = count[i];
    }
    for (int i = first; i <= top / step && i <= last && i < BARS; i++) {
        char label[40];
        snprintf(label, sizeof label, "%d..%d", (int)(i * step),
                 (int)((i + 1) * step - 1));
        put_bar(out, label, count[i], most);
    }
    if (count[BARS]) {
        char label[40];
        snprintf(label, sizeof label, "up to %d", (int)a->stats.longest);
        put_bar(out, label, count[BARS], most);
    }
}

/* Line ends and tabs stay. */
void bise_data_safe(bise_str *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        const unsigned char next = i + 1 < n ? (unsigned char)text[i + 1] : 0;
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            bise_str_printf(out, "\\x%02x", c);
        else if (c == 0xc2 && next >= 0x80 && next < 0xa0)
            bise_str_printf(out, "\\x%02x", (unsigned char)text[++i]);
        else
            bise_str_putc(out, (char)c);
    }
}

/* A run of trained tokens is marked as a whole, so that text stays readable. */
void bise_data_render(bise_str *out, const bise_row *row,
                      const bise_tokenizer *t, bool color)
{
    const char *on = color ? "\033[1;32m" : "[[";
    const char *off = color ? "\033[0m" : "]]";
    bool trained = false;
    for (int32_t i = 0; i < row->n; i++) {
        const bool now = i > 0 && row->mask[i];
        if (now != trained)
            bise_str_puts(out, now ? on : off);
        trained = now;
        const char *name = bise_tokenizer_special_name(t, row->ids[i]);
        size_t n = name ? strlen(name) : 0;
        if (!name)
            name = bise_tokenizer_piece(t, row->ids[i], &n);
        bise_data_safe(out, name, n);
    }
    if (trained)
        bise_str_puts(out, off);
    bise_str_putc(out, '\n');
}
