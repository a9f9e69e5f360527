/* main.c - entry of the bise program: parse, run the subcommand, print the
 * result or the error once, and turn the status into the exit code: 0 done,
 * 1 failed, 2 wrong usage, 130 interrupted.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/help.h"
#include "cli/term.h"
#include "core/clock.h"
#include "core/cpu.h"
#include "core/mem.h"
#include "core/pool.h"

/* Set by SIGINT and SIGTERM; polled by long work. */
static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
    if (cancelled)                /* the second one ends at once */
        _Exit(128 + sig);
    cancelled = 1;
}

static void catch_signals(void)
{
    struct sigaction sa = { .sa_handler = on_signal };
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);     /* a file size limit is a write error */
}

/* Threads to use: option, BISE_THREADS, or the cores of this process. */
static int thread_count(const bise_args *a)
{
    if (a->threads)
        return a->threads;
    const char *env = getenv("BISE_THREADS");
    const int n = env ? atoi(env) : 0;
    return n >= 1 && n <= 1024 ? n : bise_cpu_cores();
}

/* Print a JSON value as the one line of stdout and release it. */
static void print_json(bise_json *v)
{
    bise_str s = { 0 };
    bise_json_dump(&s, v, 0, false);
    puts(bise_str_get(&s));
    bise_str_fini(&s);
    bise_json_free(v);
}

static int print_text(void (*make)(bise_str *))
{
    bise_str s = { 0 };
    make(&s);
    fputs(bise_str_get(&s), stdout);
    bise_str_fini(&s);
    return 0;
}

static int print_command_help(const bise_command *c)
{
    bise_str s = { 0 };
    bise_help_command(&s, c);
    fputs(bise_str_get(&s), stdout);
    bise_str_fini(&s);
    return 0;
}

static int exit_code(bise_status s)
{
    return s == BISE_OK ? 0 : s == BISE_ECANCEL ? 130 :
           s == BISE_EINVAL ? 2 : 1;
}

/* Report a failure in the form asked for. */
static int fail(const bise_args *a, bise_term *t, const bise_error *err)
{
    bise_term_end(t);
    if (a->json)
        print_json(bise_error_json(err));
    else
        bise_term_error(t, err);
    return exit_code(err->status);
}

/* Run the command with its pool and progress; print its result. */
static int run_command(const bise_args *a, bise_term *t, bise_error *err)
{
    const uint64_t start = bise_clock_ns();
    const bise_progress progress = { bise_term_report, bise_term_message, t,
                                     &cancelled };
    bise_context ctx = {
        .args = a, .threads = thread_count(a), .json = a->json,
        .quiet = a->quiet, .verbose = a->verbose, .force = a->force,
        .progress = &progress, .result = bise_json_new_object(),
    };
    bise_status s = bise_pool_new(&ctx.pool, ctx.threads, err);
    if (s == BISE_OK)
        s = a->command->run(&ctx, err);
    bise_pool_free(ctx.pool);
    if (s != BISE_OK && a->json && bise_json_size(ctx.result)) {
        /* what was found before the failure stands beside the error */
        bise_json *e = bise_error_json(err);
        bise_result_set(&ctx, "error", bise_json_ref(bise_json_get(e, "error")));
        bise_json_free(e);
        bise_term_end(t);
        print_json(ctx.result);
        return exit_code(err->status);
    }
    if (s != BISE_OK) {
        bise_json_free(ctx.result);
        return fail(a, t, err);
    }
    bise_term_end(t);
    if (a->json) {
        const double seconds = (double)(bise_clock_ns() - start) * 1e-9;
        bise_result_set(&ctx, "seconds", bise_json_new_real(seconds));
        bise_result_set(&ctx, "peak_rss_bytes",
                        bise_json_new_int((int64_t)bise_peak_rss_bytes()));
        print_json(ctx.result);
    } else {
        bise_json_free(ctx.result);
    }
    return ctx.problems ? 1 : 0;
}

/* Everything but the check of stdout. */
static int run(bise_args *a, bise_term *t, int argc, char **argv)
{
    bise_error err;
    bise_error_init(&err);
    const bise_status s = bise_args_parse(a, argc, argv, &err);
    bise_term_init(t, a->quiet, a->verbose);
    if (s != BISE_OK)
        return fail(a, t, &err);
    if (a->version)
        return print_text(bise_help_version);
    if (a->command && a->help)
        return print_command_help(a->command);
    if (a->help)
        return print_text(bise_help_overview);
    if (!a->command) {
        bise_str page = { 0 };
        bise_help_overview(&page);
        fputs(bise_str_get(&page), stderr);
        bise_str_fini(&page);
        return 2;
    }
    return run_command(a, t, &err);
}

int main(int argc, char **argv)
{
    bise_args a;
    bise_term t;
    catch_signals();
    int code = run(&a, &t, argc, argv);
    bise_args_fini(&a);
    if (ferror(stdout) | fclose(stdout)) {
        fprintf(stderr, "bise: error: cannot write to stdout: %s\n",
                strerror(errno));
        code = code ? code : 1;
    }
    return code;
}
