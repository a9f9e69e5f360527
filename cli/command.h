/* command.h - what a subcommand is: one file cli/cmd_<name>.c that defines
 * const bise_command bise_cmd_<name>, and one line in commands.def. The option
 * table drives parsing, --help, completion and the man page check.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BISE_CLI_COMMAND_H
#define BISE_CLI_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "core/pool.h"
#include "core/progress.h"

typedef enum {
    BISE_OPT_FLAG,   /* no value */
    BISE_OPT_STRING, BISE_OPT_INT, BISE_OPT_FLOAT,
    BISE_OPT_SIZE,   /* 5G, 300M */
    BISE_OPT_CHOICE, /* one of choices, "a|b|c" */
    BISE_OPT_LIST    /* may be repeated, or several values for --data F... */
} bise_opt_type;

typedef struct bise_option {
    const char *name;    /* "lora-r", or "o" for the short option -o */
    bise_opt_type type;
    const char *value;   /* name of the value in help, or the choices */
    const char *help;    /* one line, lower case, no full stop */
    const char *fallback; /* default shown in help, or NULL */
    char letter;         /* a short form besides the long one, or 0 */
} bise_option;

struct bise_args;

/* What a command gets. */
typedef struct bise_context {
    const struct bise_args *args;
    int threads;
    bool json, quiet, verbose, force;
    bise_pool *pool;              /* threads workers */
    const bise_progress *progress;
    bise_json *result;            /* fill; printed under --json */
    bool problems;                /* set: the result stands, the exit is 1 */
} bise_context;

typedef struct bise_command {
    const char *name;
    const char *args;             /* "MODEL -o OUT" for the usage line */
    const char *help;             /* one line */
    const char *details;          /* paragraph for --help, or NULL */
    const bise_option *options;   /* ends with a NULL name */
    int min_args, max_args;       /* positional; max -1 = any */
    bise_status (*run)(bise_context *ctx, bise_error *err);
} bise_command;

/* Typed access to parsed options: NULL / other when not given. */
const char *bise_arg(const struct bise_args *a, int i);  /* positional */
int bise_arg_count(const struct bise_args *a);
bool bise_opt_given(const struct bise_args *a, const char *name);
const char *bise_opt_str(const struct bise_args *a, const char *name,
                         const char *other);
int64_t bise_opt_int(const struct bise_args *a, const char *name,
                     int64_t other);
double bise_opt_num(const struct bise_args *a, const char *name, double other);
uint64_t bise_opt_size(const struct bise_args *a, const char *name,
                       uint64_t other);
/* Values of a list option; *n gets their number. Borrowed. */
const char *const *bise_opt_list(const struct bise_args *a, const char *name,
                                 int *n);

/* Text for stdout: nothing under --json. Checked for write errors at the end
 * by main. */
void bise_print(const bise_context *ctx, const char *fmt, ...)
    BISE_PRINTF(2, 3);

/* Helpers for results. Adding takes the value. */
void bise_result_set(bise_context *ctx, const char *key, bise_json *value);

#endif
