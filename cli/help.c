/* help.c - `bise --help`, `bise COMMAND --help` and `bise --version`, all from
 * the tables, so that help never lists what does not exist.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "cli/help.h"

#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "core/cpu.h"

#define WIDTH 80
#define INDENT 27 /* column where the descriptions start */

/* Append text wrapped to WIDTH, continuation lines indented. */
static void wrap(bise_str *out, const char *text, int column, int indent)
{
    bool first = true;
    while (*text) {
        const size_t word = strcspn(text, " \n");
        if (!first && column + 1 + (int)word > WIDTH) {
            bise_str_printf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            bise_str_putc(out, ' ');
            column++;
        }
        bise_str_add(out, text, word);
        column += (int)word;
        text += word;
        while (*text == ' ')
            text++;
        if (*text == '\n') {
            bise_str_printf(out, "\n%*s", indent, "");
            column = indent;
            first = true;
            text++;
            continue;
        }
        first = false;
    }
    bise_str_putc(out, '\n');
}

/* "  --name VALUE   description" with the default at the end. */
static void put_option(bise_str *out, const bise_option *o)
{
    bise_str left = { 0 }, right = { 0 };
    if (strlen(o->name) == 1)
        bise_str_printf(&left, "  -%s", o->name);
    else if (o->letter)
        bise_str_printf(&left, "  -%c, --%s", o->letter, o->name);
    else
        bise_str_printf(&left, "  --%s", o->name);
    if (o->type != BISE_OPT_FLAG)
        bise_str_printf(&left, " %s", o->value ? o->value : "VALUE");
    bise_str_puts(&right, o->help);
    if (o->type == BISE_OPT_LIST)
        bise_str_puts(&right, " (may be repeated)");
    if (o->fallback)
        bise_str_printf(&right, " [%s]", o->fallback);
    bise_str_puts(out, bise_str_get(&left));
    if ((int)left.len + 2 > INDENT)
        bise_str_printf(out, "\n%*s", INDENT, "");
    else
        bise_str_printf(out, "%*s", INDENT - (int)left.len, "");
    wrap(out, bise_str_get(&right), INDENT, INDENT);
    bise_str_fini(&left);
    bise_str_fini(&right);
}

static void put_options(bise_str *out, const char *title,
                        const bise_option *table)
{
    if (!table || !table[0].name)
        return;
    bise_str_printf(out, "\n%s\n", title);
    for (int i = 0; table[i].name; i++)
        put_option(out, &table[i]);
}

/* Commands in the order of commands.def. */
void bise_help_overview(bise_str *out)
{
    bise_str_puts(out,
        "usage: bise [--threads N] [--json] [--quiet] COMMAND [OPTIONS] ARGS\n"
        "\n"
        "Mistral checkpoints on CPUs: LoRA fine-tuning, conversion, "
        "quantization with\nthe bytes of ggml, compact archives.\n\n"
        "commands:\n");
    const bise_command *const *c = bise_commands();
    for (int i = 0; c[i]; i++) {
        bise_str_printf(out, "  %-11s ", c[i]->name);
        wrap(out, c[i]->help, 14, 14);
    }
    put_options(out, "global options:", bise_global_options);
    bise_str_puts(out, "  --version                show the version and "
                       "stop\n"
                       "\n'bise COMMAND --help' explains a command.\n");
}

/* Usage, one line, paragraph, the two option tables. */
void bise_help_command(bise_str *out, const bise_command *c)
{
    bise_str_printf(out, "usage: bise %s ", c->name);
    wrap(out, c->args, 12 + (int)strlen(c->name), 13);
    bise_str_putc(out, '\n');
    wrap(out, c->help, 0, 0);
    if (c->details) {
        bise_str_putc(out, '\n');
        wrap(out, c->details, 0, 0);
    }
    put_options(out, "options:", c->options);
    put_options(out, "global options:", bise_global_options);
}

/* Everything a bug report needs. */
void bise_help_version(bise_str *out)
{
    bise_str_printf(out, "bise %s (%s)\n", PACKAGE_VERSION, BISE_COMMIT);
    bise_str_printf(out, "compiler %s\n",
#if defined(__clang__)
                    "clang " __clang_version__);
#else
                    "gcc " __VERSION__);
#endif
    bise_str_printf(out, "cpu level %s, %d cores (%s)\n",
                    bise_cpu_name(bise_cpu_level()), bise_cpu_cores(),
                    bise_cpu_model());
    wrap(out, BISE_LIBRARIES, 0, 0);
}
