/* check_report.c - charts and the report page: well-formed, complete, nothing
 * from a network, hostile texts escaped.
 */
/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/check_main.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "finetune/chart.h"
#include "finetune/report.h"

static bise_error err;

/* How often a text stands in another. */
static int count(const char *text, const char *part)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, part)) != NULL; p++)
        n++;
    return n;
}

/* Opened and closed tags of a document must nest. Void elements of HTML and
 * self-closed ones of SVG are known. */
static void check_nesting(const char *text)
{
    char stack[64][16];
    int depth = 0;
    for (const char *p = text; (p = strchr(p, '<')) != NULL; p++) {
        const bool end = p[1] == '/';
        const char *name = p + 1 + end;
        const size_t n = strcspn(name, " >/\n");
        const char *close = strchr(p, '>');
        ck_assert_ptr_nonnull(close);
        if (name[0] == '!' || (n == 4 && memcmp(name, "meta", 4) == 0) ||
            close[-1] == '/')
            continue;
        ck_assert_uint_lt(n, 16);
        if (end) {
            ck_assert_int_gt(depth, 0);
            depth--;
            ck_assert_msg(strlen(stack[depth]) == n &&
                          memcmp(stack[depth], name, n) == 0,
                          "<%s> is closed by </%.*s>", stack[depth], (int)n,
                          name);
        } else {
            ck_assert_int_lt(depth, 64);
            snprintf(stack[depth++], 16, "%.*s", (int)n, name);
        }
    }
    ck_assert_int_eq(depth, 0);
}

static bise_runlog_data make_log(size_t steps)
{
    static bise_logline lines[3000];
    const bise_runlog_data d = { .lines = lines, .n = steps + 1 };
    for (size_t i = 0; i <= steps; i++) {
        const bool start = i == 0;
        lines[i] = (bise_logline){
            .step = i, .loss = start ? NAN : 2 + 3 * exp(-(double)i / 20),
            .lr = start ? NAN : 1e-3, .grad_norm = start ? NAN : 0.5,
            .tokens_per_second = start ? NAN : 1000, .seconds = (double)i,
            .eval_loss = i % 50 ? NAN : 2.5, .tokens = i * 512,
            .supervised = i * 100, .peak_rss_bytes = 300000000 };
    }
    return d;
}

START_TEST(the_page_is_complete)
{
    bise_str html = { 0 };
    bise_runlog_data log = make_log(_i ? 2500 : 1);
    static const char run[] =
        "{\"started\": \"2026-11-22T22:00:00Z\", \"model\": {\"name\": \"x<y>"
        "\", \"parameters\": 6950144, \"licence\": \"apache-2.0\"}, "
        "\"machine\": {\"processor\": \"some \\\"cpu\\\" & more\"}}";
    bise_json *settings = bise_json_new_object();
    (void)bise_json_set(settings, "lr", bise_json_new_real(1e-3));
    (void)bise_json_set(settings, "target",
                        bise_json_new_string("</td><script>"));
    ck_ok(bise_json_parse(&log.run, run, sizeof run - 1, &err));
    ck_ok(bise_report_html(&html, &log, settings, &err));
    const char *text = bise_str_get(&html);
    check_nesting(text);
    ck_assert_int_eq(count(text, "<svg"), 5);
    ck_assert_int_eq(count(text, "<table>"), 3);
    ck_assert_ptr_null(strstr(text, "Where the time goes"));
    ck_assert_ptr_nonnull(strstr(text, "x&lt;y&gt;"));
    ck_assert_ptr_nonnull(strstr(text, "apache-2.0"));
    ck_assert_ptr_nonnull(strstr(text, "6&nbsp;950&nbsp;144"));
    ck_assert_ptr_nonnull(strstr(text, "&amp; more"));
    /* One file: no script, no address, no reference to another file. */
    ck_assert_ptr_null(strstr(text, "<script"));
    ck_assert_ptr_null(strstr(text, "http"));
    ck_assert_ptr_null(strstr(text, "src="));
    ck_assert_ptr_null(strstr(text, "href="));
    ck_assert_ptr_null(strstr(text, "nan"));
    ck_assert_uint_lt(html.len, 200000);
    bise_str_fini(&html);
    bise_json_free(settings);
    bise_json_free(log.run);
}
END_TEST

/* Parts of the time in a log become a table with bars and the limit. */
START_TEST(the_time_is_cut_into_parts)
{
    char dir[64], at[128];
    bise_str html = { 0 };
    static const char log[] =
        "{\"step\":0,\"tokens\":0,\"run\":{\"model\":{"
        "\"product_flops_per_token\":2e9},\"machine\":{"
        "\"product_gflops\":400}}}\n"
        "{\"step\":1,\"loss\":4.5,\"tokens\":100,"
        "\"time\":{\"matmul\":0.5,\"odd<part\":0.25,\"loss\":\"x\"}}\n"
        "{\"step\":2,\"loss\":4.5,\"tokens\":150,"
        "\"time\":{\"matmul\":0.25,\"loss\":-1,\"optimizer\":1.0}}\n"
        "{\"step\":3,\"loss\":4.5,\"tokens\":950,\"time\":7}\n";
    snprintf(dir, sizeof dir, "/tmp/bise-time-%ld", (long)getpid());
    ck_ok(bise_mkdir(dir, &err));
    snprintf(at, sizeof at, "%s/log.jsonl", dir);
    ck_ok(bise_file_write(at, log, sizeof log - 1, &err));
    bise_runlog_data d = { 0 };
    ck_ok(bise_runlog_read(&d, at, &err));
    ck_assert_uint_eq(d.n_parts, 3);
    ck_assert_str_eq(d.parts[0].name, "matmul");
    ck_assert_double_eq(d.parts[0].seconds, 0.75);
    ck_assert_double_eq(d.parts[2].seconds, 1.0);
    ck_assert_uint_eq(d.part_tokens, 150);
    ck_ok(bise_report_html(&html, &d, NULL, &err));
    const char *text = bise_str_get(&html);
    check_nesting(text);
    ck_assert_ptr_nonnull(strstr(text, "Where the time goes"));
    ck_assert_ptr_nonnull(strstr(text, "<th>matrix products<i"));
    ck_assert_ptr_nonnull(strstr(text, "width:75.0%\"></i></th>"
                                       "<td>37.5&nbsp;%"));
    ck_assert_ptr_nonnull(strstr(text, "odd&lt;part"));
    ck_assert_ptr_nonnull(strstr(text, "at 400 Gflop/s, 100 % of the 400"));
    bise_str_fini(&html);
    bise_runlog_data_fini(&d);
    bise_remove_tree(dir);
}
END_TEST

START_TEST(a_log_of_the_start_only_gives_a_page)
{
    bise_str html = { 0 }, svg = { 0 };
    bise_runlog_data log = make_log(0);
    ck_ok(bise_report_html(&html, &log, NULL, &err));
    check_nesting(bise_str_get(&html));
    ck_ok(bise_report_svg(&svg, &log, &err));
    check_nesting(bise_str_get(&svg));
    ck_assert_ptr_nonnull(strstr(bise_str_get(&svg), "xmlns="));
    log.n = 0;
    ck_fails(bise_report_html(&html, &log, NULL, &err), BISE_EFORMAT);
    bise_str_fini(&html);
    bise_str_fini(&svg);
}
END_TEST

static const struct {
    double span, step;
    int n;
} ticks[] = {
    { 1, 0.2, 5 }, { 6, 2, 5 }, { 0.001, 0.0002, 5 }, { 199, 50, 6 },
    { 4500, 1000, 5 }, { 0, 1, 5 }, { 1e-9, 2e-10, 5 },
};

START_TEST(ticks_are_round)
{
    const double step = bise_chart_step(ticks[_i].span, ticks[_i].n);
    ck_assert_double_eq_tol(step, ticks[_i].step, 1e-9 * ticks[_i].step);
}
END_TEST

/* All points of the lines of an <svg> lie inside its view box. */
static void check_inside(const char *svg)
{
    for (const char *p = svg; (p = strstr(p, " d=\"M")) != NULL; p++) {
        const char *end = strchr(p + 5, '"');
        for (const char *q = p + 4; q < end; q++) {
            double x, y;
            if ((*q == 'M' || *q == 'L') &&
                sscanf(q + 1, "%lf %lf", &x, &y) == 2) {
                ck_assert(x >= 0 && x <= 640);
                ck_assert(y >= 0 && y <= 260);
            }
        }
    }
}

START_TEST(odd_values_stay_inside)
{
    const double x[5] = { 1, 2, 3, 4, 5 };
    const double all[6][5] = {
        { 1, 1, 1, 1, 1 }, { 0, 0, 0, 0, 0 }, { NAN, NAN, NAN, NAN, NAN },
        { 1, INFINITY, -3, NAN, 1e9 }, { 1e-12, 2e-12, 3e-12, 1e-12, 0 },
        { -1e30, 1e30, 0, 1, 2 } };
    bise_str out = { 0 };
    bise_chart c = { .title = "t", .unit = "GB", .n = 1, .from_zero = _i % 2 };
    c.series[0] = (bise_series){ "s", x, all[_i / 2], 5, true, false };
    bise_chart_put(&out, &c, true);
    check_nesting(bise_str_get(&out));
    check_inside(bise_str_get(&out));
    ck_assert_ptr_null(strstr(bise_str_get(&out), "inf"));
    ck_assert_ptr_null(strstr(bise_str_get(&out), "nan"));
    ck_assert_uint_lt(out.len, 8000);
    bise_str_fini(&out);
}
END_TEST

/* From a directory to its two files, twice the same. */
START_TEST(a_directory_gets_its_report)
{
    char dir[64], at[128];
    bise_str first = { 0 }, second = { 0 };
    static const char log[] =
        "{\"step\":0,\"tokens\":0,\"eval_loss\":5.0}\n"
        "{\"step\":1,\"loss\":4.5,\"lr\":0.001,\"tokens\":10}\n";
    snprintf(dir, sizeof dir, "/tmp/bise-report-%ld", (long)getpid());
    ck_ok(bise_mkdir(dir, &err));
    ck_fails(bise_report_write(dir, &err), BISE_EIO);
    snprintf(at, sizeof at, "%s/log.jsonl", dir);
    ck_ok(bise_file_write(at, log, sizeof log - 1, &err));
    ck_ok(bise_report_write(dir, &err));
    snprintf(at, sizeof at, "%s/report.html", dir);
    ck_ok(bise_file_read(&first, at, &err));
    ck_ok(bise_report_write(dir, &err));
    ck_ok(bise_file_read(&second, at, &err));
    ck_assert_str_eq(bise_str_get(&first), bise_str_get(&second));
    snprintf(at, sizeof at, "%s/loss.svg", dir);
    ck_assert(bise_file_exists(at));
    snprintf(at, sizeof at, "%s/run.yaml", dir);
    ck_ok(bise_file_write(at, "nope: 1\n", 8, &err));
    ck_fails(bise_report_write(dir, &err), BISE_EFORMAT);
    bise_str_fini(&first);
    bise_str_fini(&second);
    bise_remove_tree(dir);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("report");
    TCase *t = tcase_create("page");
    tcase_add_loop_test(t, the_page_is_complete, 0, 2);
    tcase_add_test(t, the_time_is_cut_into_parts);
    tcase_add_test(t, a_log_of_the_start_only_gives_a_page);
    tcase_add_test(t, a_directory_gets_its_report);
    suite_add_tcase(s, t);
    t = tcase_create("chart");
    tcase_add_loop_test(t, ticks_are_round, 0, sizeof ticks / sizeof ticks[0]);
    tcase_add_loop_test(t, odd_values_stay_inside, 0, 12);
    suite_add_tcase(s, t);
    return s;
}

BISE_CHECK_MAIN
