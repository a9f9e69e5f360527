/* fuzz_settings.c - any bytes as a run.yaml: what is accepted must resolve to
 * values inside their ranges, and the settings that are written must read back
 * equal.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "finetune/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Numbers of resolved settings lie inside the ranges of the table. */
static void check_ranges(const bise_settings *s)
{
    size_t n;
    const bise_setting_row *row = bise_settings_table(&n);
    for (size_t i = 0; i < n; i++) {
        const char *field = (const char *)s + row[i].offset;
        double v;
        if (row[i].kind == BISE_SET_INT)
            v = (double)*(const int64_t *)(const void *)field;
        else if (row[i].kind == BISE_SET_REAL)
            v = *(const double *)(const void *)field;
        else
            continue;
        if (!(v >= row[i].low && v <= row[i].high))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bise_error err;
    bise_settings s = { 0 }, again = { 0 };
    bise_str text = { 0 };
    bise_error_init(&err);
    if (bise_settings_parse(&s, (const char *)data, size, &err) != BISE_OK) {
        if (!err.text[0] || err.status == BISE_OK)
            abort();
        bise_settings_fini(&s);
        return 0;
    }
    if (bise_settings_resolve(&s, &err) != BISE_OK)
        abort();
    check_ranges(&s);
    if (bise_settings_dump(&text, &s, &err) != BISE_OK)
        abort();
    if (bise_settings_parse(&again, text.data, text.len, &err) != BISE_OK ||
        bise_settings_resolve(&again, &err) != BISE_OK ||
        bise_settings_same(&s, again.values, &err) != BISE_OK)
        abort();
    bise_str_fini(&text);
    bise_settings_fini(&s);
    bise_settings_fini(&again);
    return 0;
}
