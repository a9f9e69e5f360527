/* record.c - see record.h. Called by the commands that write weights.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/record.h"

#include <string.h>
#include <strings.h>

#include "cli/args.h"
#include "core/file.h"
#include "core/mem.h"

/* A path, not a Hub id or a pattern that has a slash in it. */
static bool is_path(const char *s)
{
    return *s == '/' || *s == '.' || *s == '~' ||
           (strchr(s, '/') && bise_file_exists(s));
}

void bise_record_value(bise_str *out, const char *value)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,=+@%";
    char *copy = bise_strdup(value);
    size_t n = copy ? strlen(copy) : 0;
    const bool path = copy && (is_path(copy) || strchr(copy, ':')) &&
                      !strstr(copy, "://");
    while (path && n > 1 && copy[n - 1] == '/')
        copy[--n] = 0;
    const char *text = copy ? copy : "";
    if (path && (is_path(copy) || *copy == '/'))
        text = bise_path_base(copy);
    else if (path && strrchr(copy, '/')) {      /* DIR/ADAPTER:SCALE */
        char *colon = strrchr(copy, ':');
        *colon = 0;
        const bool file = is_path(copy);
        *colon = ':';
        text = file ? bise_path_base(copy) : copy;
    }
    const bool quote = !*text || strspn(text, plain) != strlen(text);
    bise_str_puts(out, quote ? "'" : "");
    for (const char *p = text; *p; p++) {
        if (*p == '\'')
            bise_str_puts(out, "'\\''");
        else
            bise_str_putc(out, *p == '\n' ? ' ' : *p);
    }
    bise_str_puts(out, quote ? "'" : "");
    out->failed = out->failed || !copy;
    bise_free(copy);
}

/* Where the result goes and what is only shown decide nothing in it. */
static bool is_outer(const char *name)
{
    static const char *const names[] = { "o", "output", "plan", "dry-run",
        "mmproj", "require-licence", "resume" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

char *bise_record_command(const bise_context *ctx, const char *model)
{
    const bise_args *a = ctx->args;
    bise_str s = { 0 };
    bise_str_printf(&s, "bise %s", a->command->name);
    for (int i = 0; i < a->n_positional; i++) {
        bise_str_putc(&s, ' ');
        bise_record_value(&s, i == 0 && model ? model : a->positional[i]);
    }
    for (int i = 0; i < a->n_options; i++) {
        const bise_opt_value *v = &a->options[i];
        if (is_outer(v->option->name))
            continue;
        const bool list = v->option->type == BISE_OPT_LIST;
        for (int k = list ? 0 : v->n - 1; k < v->n && k >= 0; k++) {
            bise_str_printf(&s, " --%s", v->option->name);
            if (v->option->type == BISE_OPT_FLAG)
                continue;
            bise_str_putc(&s, ' ');
            bise_record_value(&s, v->values[k]);
        }
    }
    bise_str_puts(&s, "  # bise " PACKAGE_VERSION);
    if (bise_str_ok(&s))
        return bise_str_take(&s);
    bise_str_fini(&s);
    return NULL;
}

/* Compared without case: SPDX ids are lower case in cards, not always
 * elsewhere. */
bise_status bise_record_licence(const bise_context *ctx, const char *what,
                                const char *licence, bool warn,
                                bise_error *err)
{
    const char *want = bise_opt_str(ctx->args, "require-licence", NULL);
    if (want && strcasecmp(want, licence) != 0) {
        bise_status s = bise_fail(err, BISE_EUNSUPPORTED, "the licence is "
                                  "'%s', '%s' is required",
                                  licence[0] ? licence : "unknown", want);
        return s = bise_error_in(err, what, NULL);
    }
    if (!warn || strcasecmp(licence, "apache-2.0") == 0)
        return BISE_OK;
    if (licence[0])
        bise_progress_say(ctx->progress, "warning: the licence of %s is '%s', "
                          "not Apache-2.0", what, licence);
    else
        bise_progress_say(ctx->progress, "warning: the licence of %s is "
                          "unknown", what);
    return BISE_OK;
}
