/* settings.h - the settings of a training run, from a YAML file and from flags
 * (which win), checked against the one table settings.def and written back as
 * the run.yaml that starts the same run again.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_FINETUNE_SETTINGS_H
#define BISE_FINETUNE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "core/str.h"

/* C types of the kinds; text and JSON are borrowed from values. LIST is an
 * array of strings, MAP an object of numbers, both NULL when not given. */
#define BISE_SETTING_INT(field) int64_t field;
#define BISE_SETTING_REAL(field) double field;
#define BISE_SETTING_FLAG(field) bool field;
#define BISE_SETTING_CHOICE(field) const char *field;
#define BISE_SETTING_TEXT(field) const char *field;
#define BISE_SETTING_LIST(field) const bise_json *field;
#define BISE_SETTING_MAP(field) const bise_json *field;
#define BISE_SETTING_SIZE(field) uint64_t field;

/* Zero-initialise; fill with _load and _set; then _resolve; then read the
 * fields. Release with _fini. */
typedef struct bise_settings {
#define BISE_SETTING(kind, field, name, def, low, high, value, hold, help) \
    BISE_SETTING_##kind(field)
#include "finetune/settings.def"
#undef BISE_SETTING
    bise_json *values; /* key -> value as given; after _resolve complete */
} bise_settings;

typedef enum {
    BISE_SET_INT, BISE_SET_REAL, BISE_SET_FLAG, BISE_SET_CHOICE,
    BISE_SET_TEXT, BISE_SET_LIST, BISE_SET_MAP, BISE_SET_SIZE
} bise_setting_kind;

/* One row of the table. */
typedef struct bise_setting_row {
    bise_setting_kind kind;
    const char *name, *fallback;
    double low, high;
    const char *value;     /* name of the value, or the choices */
    bool fixed;            /* a resumed run must have the same value */
    const char *help;
    size_t offset;         /* of the field in bise_settings */
} bise_setting_row;

/* The table; *n gets the number of rows. */
const bise_setting_row *bise_settings_table(size_t *n);

/* Read a YAML file (or text) over what is there. An unknown key, a wrong type
 * or a value outside its range is an error that says what is allowed. */
BISE_NODISCARD bise_status bise_settings_load(bise_settings *s,
                                              const char *path,
                                              bise_error *err);
BISE_NODISCARD bise_status bise_settings_parse(bise_settings *s,
                                               const char *text, size_t len,
                                               bise_error *err);
/* Set one value: text as on the command line ("2e-4", "on", "16G"), or a JSON
 * value (taken). */
BISE_NODISCARD bise_status bise_settings_set(bise_settings *s,
                                             const char *name,
                                             const char *text,
                                             bise_error *err);
BISE_NODISCARD bise_status bise_settings_put(bise_settings *s,
                                             const char *name, bise_json *v,
                                             bise_error *err);
/* Fill defaults and the fields. */
BISE_NODISCARD bise_status bise_settings_resolve(bise_settings *s,
                                                 bise_error *err);
/* Append the settings as YAML in the order of the table, each with its help
 * as a comment. */
BISE_NODISCARD bise_status bise_settings_dump(bise_str *out,
                                              const bise_settings *s,
                                              bise_error *err);
/* Compare FIXED settings with those of a saved run: BISE_EINVAL naming the
 * first that differs with both values. */
BISE_NODISCARD bise_status bise_settings_same(const bise_settings *s,
                                              const bise_json *saved,
                                              bise_error *err);
void bise_settings_fini(bise_settings *s);

/* An amount of training data: "8", "8rows", "4096", "4096tokens". */
typedef struct bise_amount {
    int64_t n;
    bool rows;
} bise_amount;

#define BISE_AMOUNT_ROWS_MAX 512 /* a bare number up to here means rows */

/* Why one option has two units: users of other trainers think in rows, while
 * the cost of a step is in its tokens. The suffix decides; without one, the
 * size does, and the resolved run.yaml keeps the text as it was given. */
/* Parse an amount; name is the setting, for the message. */
BISE_NODISCARD bise_status bise_settings_amount(bise_amount *out,
                                                const char *name,
                                                const char *text,
                                                bise_error *err);

#endif
