/* args.c - parse the command line against the option tables. Long options take
 * "--name VALUE" and "--name=VALUE"; "--" ends options. Values after a list
 * option ("--data a b c") belong to it as far as the command does not need
 * them as positional arguments. Called by main.c and by the tests.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/str.h"

#define BISE_COMMAND(name) extern const bise_command bise_cmd_##name;
#include "cli/commands.def"
#undef BISE_COMMAND

static const bise_command *const commands[] = {
#define BISE_COMMAND(name) &bise_cmd_##name,
#include "cli/commands.def"
#undef BISE_COMMAND
    NULL
};

const bise_option bise_global_options[] = {
    { "threads", BISE_OPT_INT, "N", "threads to use (results do not depend on "
      "it)", "all cores", 0 },
    { "json", BISE_OPT_FLAG, NULL, "print one JSON object on stdout", NULL, 0 },
    { "quiet", BISE_OPT_FLAG, NULL, "no progress, no notes", NULL, 'q' },
    { "verbose", BISE_OPT_FLAG, NULL, "more notes on stderr", NULL, 'v' },
    { "force", BISE_OPT_FLAG, NULL, "replace an existing output", NULL, 'f' },
    { "help", BISE_OPT_FLAG, NULL, "show help and stop", NULL, 'h' },
    { NULL, BISE_OPT_FLAG, NULL, NULL, NULL, 0 },
};

/* A positional argument and the list option it directly followed, if any. */
typedef struct loose_arg {
    const char *text;
    bise_opt_value *list;
} loose_arg;

typedef struct parser {
    bise_args *a;
    loose_arg *loose;
    int n_loose;
    bise_error *err;
} parser;

const bise_command *const *bise_commands(void)
{
    return commands;
}

/* A dozen names: a linear search. */
const bise_command *bise_command_find(const char *name)
{
    for (int i = 0; commands[i]; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

/* Keep the best of two candidates for "did you mean". */
static void nearer(const char **best, int *distance, const char *word,
                   const char *candidate)
{
    const int d = bise_edit_distance(word, candidate);
    const int limit = (int)strlen(word) / 2 + 1;
    if (d < *distance && d <= limit) {
        *distance = d;
        *best = candidate;
    }
}

static bise_status unknown_command(const char *name, bise_error *err)
{
    const char *best = NULL;
    int distance = 1000;
    for (int i = 0; commands[i]; i++)
        nearer(&best, &distance, name, commands[i]->name);
    bise_status s = bise_fail(err, BISE_EINVAL, "unknown command '%s'", name);
    if (best)
        s = bise_error_hint(err, "did you mean '%s'?", best);
    else
        s = bise_error_hint(err, "'bise help' lists the commands");
    return s;
}

/* Name the nearest of the command's and the global options. */
static bise_status unknown_option(const parser *p, const char *name)
{
    const char *best = NULL;
    int distance = 1000;
    const bise_command *c = p->a->command;
    for (int i = 0; c && c->options && c->options[i].name; i++)
        nearer(&best, &distance, name, c->options[i].name);
    for (int i = 0; bise_global_options[i].name; i++)
        nearer(&best, &distance, name, bise_global_options[i].name);
    bise_status s = bise_fail(p->err, BISE_EINVAL, "unknown option '%s%s'",
                              strlen(name) == 1 ? "-" : "--", name);
    if (best)
        s = bise_error_hint(p->err, "did you mean '%s%s'?",
                            strlen(best) == 1 ? "-" : "--", best);
    return s;
}

/* Does name select this option (long name, or its letter)? */
static bool selects(const bise_option *o, const char *name, size_t n)
{
    if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
        return true;
    return n == 1 && o->letter && o->letter == name[0];
}

static const bise_option *find_option(const bise_option *table,
                                      const char *name, size_t n)
{
    for (int i = 0; table && table[i].name; i++)
        if (selects(&table[i], name, n))
            return &table[i];
    return NULL;
}

/* Is value one of "a|b|c"? */
static bool in_choices(const char *choices, const char *value)
{
    const size_t n = strlen(value);
    for (const char *p = choices; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (strncmp(p, value, n) == 0 && (p[n] == '|' || p[n] == 0))
            return true;
    }
    return false;
}

/* Check a value against its option's type. */
static bise_status check_value(const bise_option *o, const char *value,
                               bise_error *err)
{
    char *end = NULL;
    unsigned long long size;
    bool good = true;
    const char *want = "";
    errno = 0;
    switch (o->type) {
    case BISE_OPT_INT:
        (void)strtoll(value, &end, 10);
        good = *value && !*end && errno == 0;
        want = "a whole number";
        break;
    case BISE_OPT_FLOAT:
        (void)strtod(value, &end);
        good = *value && !*end;
        want = "a number";
        break;
    case BISE_OPT_SIZE:
        good = bise_parse_size(value, &size) == 0;
        want = "a size such as 500M or 4.2G";
        break;
    case BISE_OPT_CHOICE:
        good = in_choices(o->value, value);
        want = o->value;
        break;
    case BISE_OPT_FLAG:
    case BISE_OPT_STRING:
    case BISE_OPT_LIST: break;
    }
    if (good)
        return BISE_OK;
    return bise_fail(err, BISE_EINVAL, "--%s is '%s', expected %s", o->name,
                     value, want);
}

/* Append a value to an option of the command. */
static bise_status store_value(parser *p, bise_opt_value *v, const char *text)
{
    bise_status s = check_value(v->option, text, p->err);
    if (s != BISE_OK)
        return s;
    if (v->n == v->cap) {
        const int cap = v->cap ? v->cap * 2 : 4;
        const char **grown = bise_arena_alloc(
            &p->a->arena, (size_t)cap * sizeof *grown);
        if (!grown)
            return bise_fail_nomem(p->err);
        if (v->n)
            memcpy(grown, v->values, (size_t)v->n * sizeof *grown);
        v->values = grown;
        v->cap = cap;
    }
    v->values[v->n++] = text;
    return BISE_OK;
}

/* Global options differ in their first letter. */
static bise_status set_global(parser *p, const bise_option *o,
                              const char *value)
{
    bise_args *a = p->a;
    switch (o->name[0]) {
    case 't': {
        bise_status s = check_value(o, value, p->err);
        if (s != BISE_OK)
            return s;
        const long long n = strtoll(value, NULL, 10);
        if (n < 1 || n > 1024)
            return bise_fail(p->err, BISE_EINVAL,
                             "--threads is %lld, expected 1 to 1024", n);
        a->threads = (int)n;
        break;
    }
    case 'j': a->json = true; break;
    case 'q': a->quiet = true; break;
    case 'f': a->force = true; break;
    case 'h': a->help = true; break;
    case 'v': a->verbose = true; break;
    default: break;
    }
    return BISE_OK;
}

/* One option at argv[*i]: sets it and moves *i past its value. */
static bise_status parse_option(parser *p, int argc, char **argv, int *i,
                                bise_opt_value **list)
{
    const char *arg = argv[*i];
    const char *name = arg + (arg[1] == '-' ? 2 : 1);
    const char *eq = arg[1] == '-' ? strchr(name, '=') : NULL;
    const size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const bise_command *c = p->a->command;
    const bise_option *o = c ? find_option(c->options, name, n) : NULL;
    const bool global = !o;
    if (!o)
        o = find_option(bise_global_options, name, n);
    if (!o) {
        char word[64];
        const size_t k = n < sizeof word - 1 ? n : sizeof word - 1;
        memcpy(word, name, k);
        word[k] = 0;
        return unknown_option(p, word);
    }
    const char *value = eq ? eq + 1 : NULL;
    if (o->type == BISE_OPT_FLAG && eq)
        return bise_fail(p->err, BISE_EINVAL, "--%s takes no value", o->name);
    if (o->type != BISE_OPT_FLAG && !value) {
        if (*i + 1 >= argc)
            return bise_fail(p->err, BISE_EINVAL, "--%s needs a value (%s)",
                             o->name, o->value ? o->value : "VALUE");
        value = argv[++*i];
    }
    if (global)
        return set_global(p, o, value);
    bise_opt_value *v = &p->a->options[o - c->options];
    if (o->type == BISE_OPT_LIST)
        *list = v;
    return store_value(p, v, value ? value : "");
}

/* Prepare the value slots of a command. */
static bise_status take_command(parser *p, const char *name)
{
    bise_args *a = p->a;
    a->command = bise_command_find(name);
    if (!a->command)
        return unknown_command(name, p->err);
    const bise_option *o = a->command->options;
    while (o && o[a->n_options].name)
        a->n_options++;
    a->options = bise_arena_alloc(
        &a->arena, ((size_t)a->n_options + 1) * sizeof *a->options);
    if (!a->options)
        return bise_fail_nomem(p->err);
    for (int i = 0; i < a->n_options; i++)
        a->options[i].option = &o[i];
    return BISE_OK;
}

/* Give surplus positionals that followed a list option to that list, then
 * check the number of the rest. */
static bise_status settle_positionals(parser *p)
{
    const bise_command *c = p->a->command;
    bise_args *a = p->a;
    int surplus = c->max_args < 0 ? 0 : p->n_loose - c->max_args;
    a->positional = bise_arena_alloc(
        &a->arena, ((size_t)p->n_loose + 1) * sizeof *a->positional);
    if (!a->positional)
        return bise_fail_nomem(p->err);
    for (int i = 0; i < p->n_loose; i++) {
        if (surplus > 0 && p->loose[i].list) {
            surplus--;
            bise_status s = store_value(p, p->loose[i].list, p->loose[i].text);
            if (s != BISE_OK)
                return s;
        } else {
            a->positional[a->n_positional++] = p->loose[i].text;
        }
    }
    if (a->help)
        return BISE_OK;
    bise_status s = BISE_OK;
    if (surplus > 0)
        s = bise_fail(p->err, BISE_EINVAL, "unexpected argument '%s'",
                      a->positional[c->max_args]);
    else if (a->n_positional < c->min_args)
        s = bise_fail(p->err, BISE_EINVAL, "'%s' needs %s", c->name, c->args);
    if (s != BISE_OK)
        s = bise_error_hint(p->err, "usage: bise %s %s", c->name, c->args);
    return s;
}

/* Note --json and --quiet wherever they stand, so that even a usage error is
 * reported in the form asked for. */
static void scan_output_flags(bise_args *a, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        a->json |= strcmp(argv[i], "--json") == 0;
        a->quiet |= strcmp(argv[i], "--quiet") == 0;
    }
}

bise_status bise_args_parse(bise_args *a, int argc, char **argv,
                            bise_error *err)
{
    memset(a, 0, sizeof *a);
    scan_output_flags(a, argc, argv);
    parser p = { .a = a, .err = err };
    p.loose = bise_arena_alloc(&a->arena,
                               ((size_t)argc + 1) * sizeof *p.loose);
    if (!p.loose)
        return bise_fail_nomem(err);
    bise_opt_value *list = NULL;    /* set while right behind a list option */
    bool only_args = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        bise_status s = BISE_OK;
        if (!only_args && strcmp(arg, "--") == 0) {
            only_args = true;
            list = NULL;
        } else if (!a->command && strcmp(arg, "--version") == 0) {
            a->version = true;
        } else if (!only_args && arg[0] == '-' && arg[1]) {
            list = NULL;
            s = parse_option(&p, argc, argv, &i, &list);
        } else if (!a->command && strcmp(arg, "help") == 0) {
            a->help = true;
        } else if (!a->command) {
            s = take_command(&p, arg);
        } else {
            p.loose[p.n_loose++] = (loose_arg){ arg, list };
        }
        if (s != BISE_OK)
            return s;
    }
    return a->command ? settle_positionals(&p) : BISE_OK;
}

/* Everything parsed lives in the arena. */
void bise_args_fini(bise_args *a)
{
    bise_arena_fini(&a->arena);
    memset(a, 0, sizeof *a);
}

/* NULL beyond the last. */
const char *bise_arg(const struct bise_args *a, int i)
{
    return i < a->n_positional ? a->positional[i] : NULL;
}

/* Without the values that went to list options. */
int bise_arg_count(const struct bise_args *a)
{
    return a->n_positional;
}

/* The slot of an option; the name must be in the command's table. */
static const bise_opt_value *slot(const struct bise_args *a, const char *name)
{
    for (int i = 0; i < a->n_options; i++)
        if (strcmp(a->options[i].option->name, name) == 0)
            return &a->options[i];
    return NULL;
}

/* True also for a flag. */
bool bise_opt_given(const struct bise_args *a, const char *name)
{
    const bise_opt_value *v = slot(a, name);
    return v && v->n > 0;
}

/* The last value given counts. */
const char *bise_opt_str(const struct bise_args *a, const char *name,
                         const char *other)
{
    const bise_opt_value *v = slot(a, name);
    return v && v->n ? v->values[v->n - 1] : other;
}

/* Checked to be a number when it was parsed. */
int64_t bise_opt_int(const struct bise_args *a, const char *name, int64_t other)
{
    const char *s = bise_opt_str(a, name, NULL);
    return s ? strtoll(s, NULL, 10) : other;
}

/* Checked to be a number when it was parsed. */
double bise_opt_num(const struct bise_args *a, const char *name, double other)
{
    const char *s = bise_opt_str(a, name, NULL);
    return s ? strtod(s, NULL) : other;
}

/* Checked to be a size when it was parsed. */
uint64_t bise_opt_size(const struct bise_args *a, const char *name,
                       uint64_t other)
{
    unsigned long long v;
    const char *s = bise_opt_str(a, name, NULL);
    return s && bise_parse_size(s, &v) == 0 ? (uint64_t)v : other;
}

/* In the order given on the command line. */
const char *const *bise_opt_list(const struct bise_args *a, const char *name,
                                 int *n)
{
    const bise_opt_value *v = slot(a, name);
    *n = v ? v->n : 0;
    return v ? v->values : NULL;
}
