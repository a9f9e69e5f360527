/* docgen.c - prints what is made from the option tables: the man page (from
 * the prose of docs/bise.1.in) and shell completions. Run by the build only.
 *   docgen man docs/bise.1.in | docgen bash | docgen zsh | docgen fish
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "core/file.h"

/* Text with roff's special characters escaped. */
static void put_roff(const char *s)
{
    for (; *s; s++) {
        if (*s == '\\')
            fputs("\\e", stdout);
        else if (*s == '-')
            fputs("\\-", stdout);
        else
            putchar(*s);
    }
}

/* One option as a tagged paragraph. */
static void man_option(const bise_option *o)
{
    fputs(".TP\n.B ", stdout);
    if (strlen(o->name) == 1) {
        put_roff("-");
    } else {
        if (o->letter)
            printf("\\-%c\\fR, \\fB", o->letter);
        put_roff("--");
    }
    put_roff(o->name);
    if (o->type != BISE_OPT_FLAG) {
        fputs(" \\fI", stdout);
        put_roff(o->value ? o->value : "VALUE");
        fputs("\\fR", stdout);
    }
    putchar('\n');
    put_roff(o->help);
    if (o->type == BISE_OPT_LIST)
        fputs(" (may be repeated)", stdout);
    if (o->fallback) {
        fputs(" [", stdout);
        put_roff(o->fallback);
        putchar(']');
    }
    fputs(".\n", stdout);
}

static void man_options(const bise_option *o)
{
    for (; o && o->name; o++)
        man_option(o);
}

/* A subsection for each command: help, details, options. */
static void man_commands(void)
{
    const bise_command *const *c = bise_commands();
    for (int i = 0; c[i]; i++) {
        fputs(".SS bise ", stdout);
        put_roff(c[i]->name);
        putchar(' ');
        put_roff(c[i]->args);
        fputs("\n", stdout);
        put_roff(c[i]->help);
        fputs(".\n", stdout);
        if (c[i]->details) {
            fputs(".PP\n", stdout);
            put_roff(c[i]->details);
            putchar('\n');
        }
        man_options(c[i]->options);
    }
}

/* Copy the prose; lines @COMMANDS@ and @GLOBAL@ stand for the tables. */
static int man_page(const char *source)
{
    bise_error err;
    bise_error_init(&err);
    bise_str text = { 0 };
    if (bise_file_read(&text, source, &err) != BISE_OK) {
        fprintf(stderr, "docgen: %s: %s\n", source, err.text);
        return 1;
    }
    for (const char *p = bise_str_get(&text); *p;) {
        const size_t n = strcspn(p, "\n");
        if (n == 10 && memcmp(p, "@COMMANDS@", n) == 0)
            man_commands();
        else if (n == 8 && memcmp(p, "@GLOBAL@", n) == 0)
            man_options(bise_global_options);
        else
            printf("%.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
    bise_str_fini(&text);
    return 0;
}

/* Options of a command as words, for bash. */
static void bash_words(const bise_option *o)
{
    for (; o && o->name; o++) {
        printf(" %s%s", strlen(o->name) == 1 ? "-" : "--", o->name);
        if (o->letter && strlen(o->name) > 1)
            printf(" -%c", o->letter);
    }
}

/* Options of the command that stands on the line, then file names. */
static int bash(void)
{
    const bise_command *const *c = bise_commands();
    puts("# bash completion for bise");
    puts("_bise() {");
    puts("    local cur=${COMP_WORDS[COMP_CWORD]} words= i cmd=");
    puts("    for ((i = 1; i < COMP_CWORD; i++)); do");
    puts("        case ${COMP_WORDS[i]} in -*) ;; *) cmd=${COMP_WORDS[i]};"
         " break ;; esac");
    puts("    done");
    puts("    case $cmd in");
    for (int i = 0; c[i]; i++) {
        printf("    %s) words=\"", c[i]->name);
        bash_words(c[i]->options);
        puts("\" ;;");
    }
    fputs("    '') words=\"", stdout);
    for (int i = 0; c[i]; i++)
        printf(" %s", c[i]->name);
    puts("\" ;;");
    puts("    esac");
    fputs("    words+=\"", stdout);
    bash_words(bise_global_options);
    puts("\"");
    puts("    if [[ $cur == -* || -z $cmd ]]; then");
    puts("        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))");
    puts("    else");
    puts("        COMPREPLY=($(compgen -f -- \"$cur\"))");
    puts("    fi");
    puts("}");
    puts("complete -o filenames -F _bise bise");
    return 0;
}

/* Help text inside single quotes of zsh and fish. */
static void put_quoted(const char *s, const char *drop)
{
    for (; *s; s++)
        if (*s == '\'')
            fputs("'\\''", stdout);
        else if (!strchr(drop, *s))
            putchar(*s);
}

/* One option of _arguments, by its name or its letter. */
static void zsh_option(const bise_option *o, const char *dash,
                       const char *name)
{
    printf(" '%s%s[", dash, name);
    put_quoted(o->help, "[]:");
    putchar(']');
    if (o->type != BISE_OPT_FLAG)
        fputs(":value:_files", stdout);
    putchar('\'');
}

static void zsh_options(const bise_option *o)
{
    for (; o && o->name; o++) {
        const char letter[2] = { o->letter, 0 };
        zsh_option(o, strlen(o->name) == 1 ? "-" : "--", o->name);
        if (o->letter && strlen(o->name) > 1)
            zsh_option(o, "-", letter);
    }
}

/* One _arguments call for each command. */
static int zsh(void)
{
    const bise_command *const *c = bise_commands();
    puts("#compdef bise");
    puts("_bise() {");
    puts("    local -a commands=(");
    for (int i = 0; c[i]; i++) {
        printf("        '%s:", c[i]->name);
        put_quoted(c[i]->help, ":");
        puts("'");
    }
    puts("    )");
    puts("    if (( CURRENT == 2 )); then _describe command commands; return;"
         " fi");
    puts("    case $words[2] in");
    for (int i = 0; c[i]; i++) {
        printf("    %s) _arguments", c[i]->name);
        zsh_options(c[i]->options);
        zsh_options(bise_global_options);
        puts(" '*:file:_files' ;;");
    }
    puts("    esac");
    puts("}");
    puts("_bise \"$@\"");
    return 0;
}

/* One line an option; condition is the fish test for the command. */
static void fish_options(const bise_option *o, const char *condition)
{
    for (; o && o->name; o++) {
        printf("complete -c bise %s", condition);
        printf(" -%c %s", strlen(o->name) == 1 ? 's' : 'l', o->name);
        if (o->letter && strlen(o->name) > 1)
            printf(" -s %c", o->letter);
        fputs(o->type == BISE_OPT_FLAG ? " -d '" : " -r -d '", stdout);
        put_quoted(o->help, "");
        puts("'");
    }
}

/* One complete line for each option, guarded by its command. */
static int fish(void)
{
    const bise_command *const *c = bise_commands();
    puts("# fish completion for bise");
    for (int i = 0; c[i]; i++) {
        printf("complete -c bise -n __fish_use_subcommand -a %s -d '",
               c[i]->name);
        put_quoted(c[i]->help, "");
        puts("'");
    }
    fish_options(bise_global_options, "");
    for (int i = 0; c[i]; i++) {
        char test[96];
        snprintf(test, sizeof test, "-n '__fish_seen_subcommand_from %s'",
                 c[i]->name);
        fish_options(c[i]->options, test);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int code = 2;
    if (strcmp(what, "man") == 0 && argc > 2)
        code = man_page(argv[2]);
    else if (strcmp(what, "bash") == 0)
        code = bash();
    else if (strcmp(what, "zsh") == 0)
        code = zsh();
    else if (strcmp(what, "fish") == 0)
        code = fish();
    return fclose(stdout) == 0 ? code : 1;
}
